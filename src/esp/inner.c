/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/inner.h"

#include <string.h>

enum {
	IP4_HEADER = 20,
	IP6_HEADER = 40,
	IP4_RESERVED = 0x8000,
	IP4_DONT = 0x4000,
	IP4_MORE = 0x2000,
	IP4_OFFSET = 0x1fff,
	IP6_MORE = 1,
	IP6_OFFSET = 0xfff8,
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_LSRR = 131,
	OPTION_SSRR = 137, /* RFC 791, 3.1 */
	EXT_HOP_BY_HOP = 0,
	EXT_ROUTING = 43,
	EXT_FRAGMENT = 44,
	EXT_DESTINATION = 60,
	EXT_NONE = 59
};

/* What an IP header says, and what follows it. */
struct ip {
	struct esp_ends ends;
	size_t len;
	uint8_t tos;
	enum esp_fragment fragment; /* the first one: the upper layer's lengths reach past the packet */
	bool dont_fragment, more;
	uint32_t id;
	uint16_t offset, fragment_at, cut_at, cut_next;
	struct rd body;
};

bool esp_proto_has_ports(uint8_t protocol)
{
	switch (protocol) {
	case ESP_PROTO_TCP:
	case ESP_PROTO_UDP:
	case ESP_PROTO_DCCP:
	case ESP_PROTO_SCTP:
	case ESP_PROTO_UDPLITE: return true;
	default: return false;
	}
}

/* A source route would take the packet elsewhere than the selectors were asked about. */
static enum err options_check(struct rd r)
{
	while (rd_left(&r)) {
		uint8_t type = rd_u8(&r), len;

		if (type == OPTION_END)
			return OK;
		if (type == OPTION_NOP)
			continue;
		if (type == OPTION_LSRR || type == OPTION_SSRR)
			return ERR_UNSUPPORTED;
		len = rd_u8(&r);
		if (r.bad || len < 2)
			return ERR_MALFORMED;
		rd_skip(&r, len - 2u);
	}
	return r.bad ? ERR_MALFORMED : OK;
}

/* RFC 791, 3.2; RFC 8200, 4.5: data of whole units of 8, but for the last one's, and not beyond the longest datagram. */
static enum err fragment_check(struct ip *ip, unsigned offset, bool more, size_t len, bool quoted)
{
	ip->offset = (uint16_t)offset;
	ip->more = more;
	if (!offset && !more)
		return OK;
	ip->fragment = offset ? ESP_LATER : ESP_FIRST;
	if (quoted)
		return offset ? ERR_UNSUPPORTED : OK;
	return !len || (more && len % 8) || offset + len > UINT16_MAX ? ERR_MALFORMED : OK;
}

/* `quoted`: inside an ICMP error, which holds only the beginning of it. */
static enum err ip4_parse(struct rd r, bool quoted, struct ip *ret)
{
	size_t have = rd_left(&r), head, total;
	struct rd options;
	uint16_t fragment;
	uint8_t first = rd_u8(&r);
	enum err e;

	memset(ret, 0, sizeof(*ret));
	head = (size_t)(first & 15) * 4;
	ret->tos = rd_u8(&r);
	total = rd_u16(&r);
	ret->id = rd_u16(&r);
	fragment = rd_u16(&r);
	rd_skip(&r, 1);
	ret->ends.family = ADDR_IP4;
	ret->ends.protocol = rd_u8(&r);
	rd_skip(&r, 2);
	rd_bytes(&r, ret->ends.src, 4);
	rd_bytes(&r, ret->ends.dst, 4);
	if (r.bad || first >> 4 != 4 || head < IP4_HEADER || total < head || (total > have && !quoted))
		return ERR_MALFORMED;
	if (fragment & IP4_RESERVED)
		return ERR_UNSUPPORTED;
	options = rd_sub(&r, head - IP4_HEADER);
	if (options.bad)
		return ERR_MALFORMED;
	e = options_check(options);
	if (e != OK)
		return e;
	ret->len = total;
	ret->dont_fragment = fragment & IP4_DONT;
	total -= head;
	ret->body = rd_sub(&r, total < rd_left(&r) ? total : rd_left(&r));
	return fragment_check(ret, (fragment & IP4_OFFSET) * 8u, fragment & IP4_MORE, total, quoted);
}

/* Moves over the extension headers (RFC 8200, 4) to the upper layer. */
static enum err ip6_extensions(struct rd *r, uint8_t next, bool quoted, struct ip *ret)
{
	uint16_t at = IP6_HEADER, named_by = 6;

	ret->cut_at = at;
	ret->cut_next = named_by;
	for (unsigned n = 0; n <= ESP_EXT_MAX; n++) {
		uint8_t type = next, len;
		uint16_t word;

		if (type != EXT_HOP_BY_HOP && type != EXT_ROUTING && type != EXT_FRAGMENT && type != EXT_DESTINATION) {
			ret->ends.protocol = type;
			return type == EXT_NONE ? ERR_UNSUPPORTED : OK;
		}
		if ((type == EXT_HOP_BY_HOP && n) || (type == EXT_FRAGMENT && ret->fragment_at))
			return ERR_MALFORMED; /* RFC 8200, 4.1: only right behind the header; and once */
		next = rd_u8(r);
		len = rd_u8(r);
		word = rd_u16(r);
		if (type == EXT_FRAGMENT) {
			enum err e;

			ret->id = rd_u32(r);
			ret->fragment_at = at;
			e = r->bad ? ERR_MALFORMED
				   : fragment_check(ret, word & IP6_OFFSET, word & IP6_MORE, rd_left(r), quoted);
			if (e != OK)
				return e;
			if (ret->fragment == ESP_LATER) {
				ret->ends.protocol = next;
				return OK;
			}
			len = 0;
		} else {
			rd_skip(r, 4 + (size_t)len * 8);
		}
		if (r->bad)
			return ERR_MALFORMED;
		if (type == EXT_ROUTING && (word & 0xff))
			return ERR_UNSUPPORTED; /* segments left */
		named_by = at;
		at = (uint16_t)(at + 8 + len * 8);
		if (type == EXT_HOP_BY_HOP || type == EXT_ROUTING) {
			ret->cut_at = at;
			ret->cut_next = named_by;
		}
	}
	return ERR_UNSUPPORTED;
}

static enum err ip6_parse(struct rd r, bool quoted, struct ip *ret)
{
	uint32_t first = rd_u32(&r);
	size_t len = rd_u16(&r);
	uint8_t next = rd_u8(&r);

	memset(ret, 0, sizeof(*ret));
	rd_skip(&r, 1);
	ret->ends.family = ADDR_IP6;
	ret->tos = (uint8_t)(first >> 20);
	ret->dont_fragment = true;
	rd_bytes(&r, ret->ends.src, 16);
	rd_bytes(&r, ret->ends.dst, 16);
	if (r.bad || first >> 28 != 6 || (len > rd_left(&r) && !quoted))
		return ERR_MALFORMED;
	ret->len = IP6_HEADER + len;
	ret->body = rd_sub(&r, len < rd_left(&r) ? len : rd_left(&r));
	return ip6_extensions(&ret->body, next, quoted, ret);
}

static enum err ip_parse(struct rd r, bool quoted, struct ip *ret)
{
	struct rd peek = r;
	uint8_t version = rd_u8(&peek) >> 4;

	if (peek.bad || (version != 4 && version != 6))
		return ERR_MALFORMED;
	return version == 4 ? ip4_parse(r, quoted, ret) : ip6_parse(r, quoted, ret);
}

static bool icmp_of_family(const struct esp_ends *ends, bool *ret_wrong)
{
	uint8_t own = ends->family == ADDR_IP4 ? ESP_PROTO_ICMP : ESP_PROTO_ICMP6;
	uint8_t other = ends->family == ADDR_IP4 ? ESP_PROTO_ICMP6 : ESP_PROTO_ICMP;

	*ret_wrong = ends->protocol == other;
	return ends->protocol == own;
}

/* RFC 792 and RFC 4443. Redirect and source quench are no errors that anybody needs. */
static enum esp_icmp icmp_kind(enum addr_family family, uint8_t type)
{
	if (family == ADDR_IP4) {
		if (type == 0 || type == 8)
			return ESP_ICMP_ECHO;
		return type == 3 || type == 11 || type == 12 ? ESP_ICMP_ERROR : ESP_ICMP_OTHER;
	}
	if (type == 128 || type == 129)
		return ESP_ICMP_ECHO;
	return type >= 1 && type <= 4 ? ESP_ICMP_ERROR : ESP_ICMP_OTHER;
}

/* The packet inside an error: at least its ports must be there (RFC 792: 8 bytes behind the header). */
static enum err quoted_parse(struct rd r, enum addr_family family, struct esp_ends *ret)
{
	struct ip ip;
	enum err e = ip_parse(r, true, &ip);

	if (e != OK)
		return e;
	if (ip.ends.family != family)
		return ERR_MALFORMED;
	if (esp_proto_has_ports(ip.ends.protocol)) {
		ip.ends.src_port = rd_u16(&ip.body);
		ip.ends.dst_port = rd_u16(&ip.body);
		rd_skip(&ip.body, 4);
		if (ip.body.bad)
			return ERR_MALFORMED;
	}
	*ret = ip.ends;
	return OK;
}

static enum err icmp_parse(struct rd r, struct esp_inner *p)
{
	p->icmp_type = rd_u8(&r);
	p->icmp_code = rd_u8(&r);
	rd_skip(&r, 2);
	p->icmp_id = rd_u16(&r);
	rd_skip(&r, 2);
	if (r.bad)
		return ERR_MALFORMED;
	p->icmp = icmp_kind(p->ends.family, p->icmp_type);
	if (p->icmp != ESP_ICMP_ECHO)
		p->icmp_id = 0;
	if (p->icmp != ESP_ICMP_ERROR)
		return OK;
	return p->fragment == ESP_WHOLE ? quoted_parse(r, p->ends.family, &p->about) : ERR_UNSUPPORTED;
}

static enum err tcp_parse(struct rd r, struct esp_inner *p)
{
	size_t have = rd_left(&r), head;

	p->ends.src_port = rd_u16(&r);
	p->ends.dst_port = rd_u16(&r);
	rd_skip(&r, 8);
	head = (size_t)(rd_u8(&r) >> 4) * 4;
	p->tcp_flags = rd_u8(&r) & (ESP_TCP_FIN | ESP_TCP_SYN | ESP_TCP_RST | ESP_TCP_ACK);
	rd_skip(&r, 6);
	return r.bad || head < 20 || head > have ? ERR_MALFORMED : OK;
}

static enum err udp_parse(struct rd r, struct esp_inner *p)
{
	size_t have = rd_left(&r), len;

	p->ends.src_port = rd_u16(&r);
	p->ends.dst_port = rd_u16(&r);
	len = rd_u16(&r);
	rd_skip(&r, 2);
	return r.bad || len < 8 || (len > have && p->fragment == ESP_WHOLE) ? ERR_MALFORMED : OK;
}

static enum err upper_parse(const struct ip *ip, struct esp_inner *p)
{
	struct rd r = ip->body;
	bool wrong;

	if (icmp_of_family(&p->ends, &wrong))
		return icmp_parse(r, p);
	if (wrong)
		return ERR_UNSUPPORTED;
	if (p->ends.protocol == ESP_PROTO_TCP)
		return tcp_parse(r, p);
	if (p->ends.protocol == ESP_PROTO_UDP)
		return udp_parse(r, p);
	if (esp_proto_has_ports(p->ends.protocol)) {
		p->ends.src_port = rd_u16(&r);
		p->ends.dst_port = rd_u16(&r);
	}
	return r.bad ? ERR_MALFORMED : OK;
}

enum err esp_inner_parse_any(struct span packet, struct esp_inner *ret)
{
	struct esp_inner p;
	struct ip ip;
	enum err e = ip_parse(rd_of(packet), false, &ip);

	if (e != OK)
		return e;
	memset(&p, 0, sizeof(p));
	p.ends = ip.ends;
	p.len = ip.len;
	p.dscp = ip.tos >> 2;
	p.ecn = ip.tos & 3;
	p.fragment = ip.fragment;
	p.dont_fragment = ip.dont_fragment;
	p.more = ip.more;
	p.id = ip.id;
	p.offset = ip.offset;
	p.fragment_at = ip.fragment_at;
	p.cut_at = ip.cut_at;
	p.cut_next = ip.cut_next;
	p.upper = (uint16_t)(ip.len - rd_left(&ip.body));
	e = p.fragment == ESP_LATER ? OK : upper_parse(&ip, &p);
	if (e == OK)
		*ret = p;
	return e;
}

/* Is it the upper layer's header of a whole packet, and how long must it be at least? */
static bool upper_ok(uint8_t protocol, const uint8_t *upper, size_t len)
{
	if (protocol == ESP_PROTO_TCP)
		return len >= 20 && upper[12] >> 4 >= 5 && (size_t)(upper[12] >> 4) * 4 <= len;
	return protocol == ESP_PROTO_UDP && len >= 8 && be16(upper + 4) >= 8 && be16(upper + 4) <= len;
}

/* What nearly every packet is. False: it is for esp_inner_parse_any() to say what it is, if anything. */
static bool usual_parse(struct span packet, struct esp_inner *ret)
{
	const uint8_t *p = packet.p;
	bool v6 = packet.len >= IP6_HEADER && p[0] >> 4 == 6;
	size_t head = v6 ? IP6_HEADER : IP4_HEADER, len;
	uint8_t tos, protocol;

	if (!v6 && (packet.len < IP4_HEADER || p[0] != 0x45 || (be16(p + 6) & ~IP4_DONT & 0xffff)))
		return false;
	len = v6 ? head + be16(p + 4) : be16(p + 2);
	protocol = p[v6 ? 6 : 9];
	if (len < head || len > packet.len || !upper_ok(protocol, p + head, len - head))
		return false;
	tos = v6 ? (uint8_t)(be16(p) >> 4) : p[1];
	*ret = (struct esp_inner){
		.ends = { .family = v6 ? ADDR_IP6 : ADDR_IP4,
			  .protocol = protocol,
			  .src_port = be16(p + head),
			  .dst_port = be16(p + head + 2) },
		.len = len,
		.dscp = tos >> 2,
		.ecn = tos & 3,
		.dont_fragment = v6 || (p[6] & IP4_DONT >> 8),
		.id = v6 ? 0 : be16(p + 4),
		.upper = (uint16_t)head,
		.cut_at = v6 ? IP6_HEADER : 0,
		.cut_next = v6 ? 6 : 0,
	};
	if (protocol == ESP_PROTO_TCP)
		ret->tcp_flags = p[head + 13] & (ESP_TCP_FIN | ESP_TCP_SYN | ESP_TCP_RST | ESP_TCP_ACK);
	memcpy(ret->ends.src, p + (v6 ? 8 : 12), v6 ? 16 : 4);
	memcpy(ret->ends.dst, p + (v6 ? 24 : 16), v6 ? 16 : 4);
	return true;
}

enum err esp_inner_parse(struct span packet, struct esp_inner *ret)
{
	return usual_parse(packet, ret) ? OK : esp_inner_parse_any(packet, ret);
}

void esp_inner_set_ecn(uint8_t *packet, uint8_t ecn)
{
	uint16_t before, after;
	uint32_t sum;

	if (packet[0] >> 4 == 6) {
		packet[1] = (uint8_t)((packet[1] & ~(3 << 4)) | (ecn & 3) << 4);
		return;
	}
	before = be16(packet);
	packet[1] = (uint8_t)((packet[1] & ~3) | (ecn & 3));
	after = be16(packet);
	/* RFC 1624, 3: HC' = ~(~HC + ~m + m') */
	sum = (uint32_t)(uint16_t)~be16(packet + 10) + (uint16_t)~before + after;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	put_be16(packet + 10, (uint16_t)~sum);
}
