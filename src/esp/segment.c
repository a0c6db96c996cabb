/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/segment.h"

#include <string.h>

#include "esp/inner.h"
#include "esp/offload_impl.h"
#include "esp/sum.h"

enum kind { KIND_WHOLE, KIND_SUM, KIND_TCP, KIND_UDP };

enum { EXT_HOP_BY_HOP = 0, EXT_ROUTING = 43, EXT_DESTINATION = 60 };

/* ---- parse ---- */

static enum err whole_parse(const struct vnet *v, struct esp_super *s)
{
	s->kind = KIND_WHOLE;
	if (!(v->flags & VNET_NEEDS_CSUM))
		return OK;
	if ((size_t)v->csum_start + v->csum_offset + 2 > s->packet.len)
		return ERR_MALFORMED;
	s->kind = KIND_SUM;
	s->csum_start = v->csum_start;
	s->csum_offset = v->csum_offset;
	return OK;
}

static enum err ip4_parse(struct esp_super *s, uint8_t *ret_protocol)
{
	struct rd r = rd_of(s->packet);
	size_t head = (size_t)(rd_u8(&r) & 15) * 4, total;
	uint16_t fragment;

	rd_skip(&r, 1);
	total = rd_u16(&r);
	s->id = rd_u16(&r);
	fragment = rd_u16(&r);
	rd_skip(&r, 1);
	*ret_protocol = rd_u8(&r);
	rd_skip(&r, 10);
	if (r.bad || head < IP4_HEADER || head > s->packet.len || total != s->packet.len ||
	    fragment & ~(unsigned)IP4_DONT_FRAGMENT)
		return ERR_MALFORMED;
	s->l3 = (uint16_t)head;
	return OK;
}

/* The upper layer may stand behind extension headers (RFC 8200, 4); each segment gets them. */
static enum err ip6_parse(struct esp_super *s, uint8_t *ret_protocol)
{
	struct rd r = rd_of(s->packet);
	size_t len;
	uint8_t next;

	rd_skip(&r, 4);
	len = rd_u16(&r);
	next = rd_u8(&r);
	rd_skip(&r, 33);
	if (r.bad || len != s->packet.len - IP6_HEADER)
		return ERR_MALFORMED;
	for (unsigned n = 0; next == EXT_HOP_BY_HOP || next == EXT_ROUTING || next == EXT_DESTINATION; n++) {
		uint8_t type = next;
		size_t more;
		uint16_t word;

		next = rd_u8(&r);
		more = rd_u8(&r);
		word = rd_u16(&r);
		rd_skip(&r, 4 + more * 8);
		if (r.bad)
			return ERR_MALFORMED;
		/* with segments left the pseudo-header has another destination (8.1) */
		if (n == ESP_EXT_MAX || (type == EXT_ROUTING && (word & 0xff)))
			return ERR_UNSUPPORTED;
	}
	*ret_protocol = next;
	s->l3 = (uint16_t)(s->packet.len - rd_left(&r));
	return OK;
}

static enum err tcp_parse(struct esp_super *s)
{
	struct rd r = rd_of(span_from(s->packet, s->l3));
	size_t have = rd_left(&r), head;

	rd_skip(&r, 4);
	s->seq = rd_u32(&r);
	rd_skip(&r, 4);
	head = (size_t)(rd_u8(&r) >> 4) * 4;
	s->tcp_flags = rd_u8(&r);
	rd_skip(&r, 6);
	if (r.bad || head < TCP_HEADER || head > have)
		return ERR_MALFORMED;
	s->kind = KIND_TCP;
	s->head = (uint16_t)(s->l3 + head);
	s->csum_offset = TCP_AT_CSUM;
	return OK;
}

static enum err udp_parse(struct esp_super *s)
{
	struct rd r = rd_of(span_from(s->packet, s->l3));
	size_t have = rd_left(&r), len;

	rd_skip(&r, 4);
	len = rd_u16(&r);
	rd_skip(&r, 2);
	if (r.bad || len != have)
		return ERR_MALFORMED;
	s->kind = KIND_UDP;
	s->head = (uint16_t)(s->l3 + UDP_HEADER);
	s->csum_offset = UDP_AT_CSUM;
	return OK;
}

/* What does not change from segment to segment is added up once. */
static void sums_prepare(struct esp_super *s)
{
	const uint8_t *p = s->packet.p, *l4 = p + s->l3;

	if (s->v6) {
		s->l4_sum = esp_sum(p + IP6_AT_SRC, 32);
	} else {
		s->ip_sum = esp_sum(p, s->l3) + (0xffff - at16(p + IP4_AT_LEN)) + (0xffff - at16(p + IP4_AT_ID)) +
			    (0xffff - at16(p + IP4_AT_CSUM));
		s->l4_sum = esp_sum(p + IP4_AT_SRC, 8);
	}
	if (s->kind == KIND_UDP) {
		s->l4_sum += (uint32_t)ESP_PROTO_UDP + at16(l4) + at16(l4 + 2);
		return;
	}
	/* all but sequence number, flags and checksum */
	s->l4_sum += ESP_PROTO_TCP + esp_sum(l4, TCP_AT_SEQ) + esp_sum(l4 + TCP_AT_ACK, 4) +
		     esp_sum(l4 + TCP_AT_WINDOW, 2) +
		     esp_sum(l4 + TCP_AT_URGENT, (size_t)(s->head - s->l3) - TCP_AT_URGENT);
}

static enum err super_parse(const struct vnet *v, struct esp_super *s)
{
	uint8_t type = (uint8_t)(v->gso_type & ~VNET_GSO_ECN), protocol;
	size_t payload, n;
	enum err e;

	s->v6 = s->packet.p[0] >> 4 == 6;
	if (!s->v6 && s->packet.p[0] >> 4 != 4)
		return ERR_MALFORMED;
	e = s->v6 ? ip6_parse(s, &protocol) : ip4_parse(s, &protocol);
	if (e != OK)
		return e;
	if (type == VNET_GSO_UDP_L4 ? protocol != ESP_PROTO_UDP
				    : protocol != ESP_PROTO_TCP || s->v6 != (type == VNET_GSO_TCPV6))
		return ERR_MALFORMED;
	e = type == VNET_GSO_UDP_L4 ? udp_parse(s) : tcp_parse(s);
	if (e != OK)
		return e;
	if (!v->gso_size ||
	    (v->flags & VNET_NEEDS_CSUM && (v->csum_start != s->l3 || v->csum_offset != s->csum_offset)))
		return ERR_MALFORMED;
	payload = s->packet.len - s->head;
	n = payload ? (payload + v->gso_size - 1) / v->gso_size : 1;
	if (n > ESP_SEGMENTS_MAX)
		return ERR_LIMIT;
	s->n = (unsigned)n;
	s->part = v->gso_size;
	s->len_last = s->head + payload - (n - 1) * v->gso_size;
	s->len = n > 1 ? (size_t)s->head + v->gso_size : s->len_last;
	sums_prepare(s);
	return OK;
}

enum err esp_super_parse(struct span packet, const struct vnet *v, struct esp_super *ret)
{
	struct esp_super s = { .packet = packet, .n = 1, .len = packet.len, .len_last = packet.len };
	enum err e;

	if (!packet.len || packet.len > ESP_SUPER_MAX)
		return ERR_MALFORMED;
	switch (v->gso_type) {
	case VNET_GSO_NONE: e = whole_parse(v, &s); break;
	case VNET_GSO_TCPV4:
	case VNET_GSO_TCPV6:
	case VNET_GSO_TCPV4 | VNET_GSO_ECN:
	case VNET_GSO_TCPV6 | VNET_GSO_ECN:
	case VNET_GSO_UDP_L4: e = super_parse(v, &s); break;
	default: e = ERR_UNSUPPORTED; break;
	}
	if (e == OK)
		*ret = s;
	return e;
}

/* ---- cut ---- */

/* The one packet; its checksum field holds what the sender has of the sum. */
static void whole_write(const struct esp_super *s, uint8_t *dst)
{
	size_t start = s->csum_start;
	uint16_t csum;

	if (s->kind == KIND_WHOLE) {
		memcpy(dst, s->packet.p, s->packet.len);
		return;
	}
	memcpy(dst, s->packet.p, start);
	csum = (uint16_t)~esp_sum_copy(dst + start, s->packet.p + start, s->packet.len - start);
	/* only UDP's is there: 0 would mean none (RFC 768) */
	if (!csum && s->csum_offset == UDP_AT_CSUM)
		csum = 0xffff;
	set16(dst + start + s->csum_offset, csum);
}

static void ip_patch(const struct esp_super *s, unsigned i, uint8_t *dst, size_t len)
{
	uint16_t id = (uint16_t)(s->id + i);

	if (s->v6) {
		set16(dst + IP6_AT_LEN, (uint16_t)(len - IP6_HEADER));
		return;
	}
	set16(dst + IP4_AT_LEN, (uint16_t)len);
	set16(dst + IP4_AT_ID, id);
	set16(dst + IP4_AT_CSUM, (uint16_t)~esp_sum_fold(s->ip_sum + (uint32_t)len + id));
}

static void tcp_patch(const struct esp_super *s, unsigned i, uint8_t *l4, uint32_t sum)
{
	uint32_t seq = s->seq + i * (uint32_t)s->part;
	uint8_t flags = s->tcp_flags;

	if (i)
		flags &= (uint8_t)~TCP_CWR;
	if (i + 1 < s->n)
		flags &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	set32(l4 + TCP_AT_SEQ, seq);
	l4[TCP_AT_FLAGS] = flags;
	sum += (seq >> 16) + (seq & 0xffff) + at16(l4 + TCP_AT_OFFSET);
	set16(l4 + TCP_AT_CSUM, (uint16_t)~esp_sum_fold(sum));
}

static void udp_patch(uint8_t *l4, size_t len, uint32_t sum)
{
	uint16_t csum = (uint16_t)~esp_sum_fold(sum + (uint32_t)len);

	set16(l4 + UDP_AT_LEN, (uint16_t)len);
	set16(l4 + UDP_AT_CSUM, csum ? csum : 0xffff);
}

size_t esp_super_segment(const struct esp_super *s, unsigned i, uint8_t *dst, size_t cap)
{
	size_t len = i + 1 < s->n ? s->len : s->len_last, l4_len = len - s->l3;
	const uint8_t *payload;
	uint32_t sum;

	if (i >= s->n || len > cap)
		return 0;
	if (s->kind == KIND_WHOLE || s->kind == KIND_SUM) {
		whole_write(s, dst);
		return len;
	}
	payload = s->packet.p + s->head + (size_t)i * s->part;
	memcpy(dst, s->packet.p, s->head);
	sum = s->l4_sum + (uint32_t)l4_len + esp_sum_copy(dst + s->head, payload, len - s->head);
	ip_patch(s, i, dst, len);
	if (s->kind == KIND_TCP)
		tcp_patch(s, i, dst + s->l3, sum);
	else
		udp_patch(dst + s->l3, l4_len, sum);
	return len;
}
