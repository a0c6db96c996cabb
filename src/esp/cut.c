/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/cut.h"

#include <string.h>

#include "base/buf.h"

enum {
	IP4_HEADER = 20,
	IP6_HEADER = 40,
	FRAGMENT = 44,
	FRAGMENT_HEADER = 8,
	IP4_MORE = 0x2000,
	IP4_OPTION_COPIED = 0x80, /* RFC 791, 3.1 */
	TCP_OPTIONS = 20,
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2, /* RFC 9293, 3.1 */
	IP4_TOLD_MAX = 576 /* RFC 1812, 4.3.2.3 */
};

static uint32_t sum_add(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)p[i] << 8 | (i + 1 < n ? p[i + 1] : 0);
	return sum;
}

static uint16_t sum_done(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void ip4_checksum(uint8_t *packet, size_t head)
{
	put_be16(packet + 10, 0);
	put_be16(packet + 10, sum_done(sum_add(0, packet, head)));
}

/* ---- cut ---- */

enum err esp_cut_begin(struct esp_cut *c, const uint8_t *packet, const struct esp_inner *p, size_t max, uint32_t id)
{
	size_t over;

	*c = (struct esp_cut){ .packet = packet, .p = p, .id = p->fragment_at ? p->id : id };
	if (p->ends.family == ADDR_IP4) {
		c->head = c->data = over = (size_t)(packet[0] & 15) * 4;
	} else {
		c->head = p->fragment_at ? p->fragment_at : p->cut_at;
		c->data = p->fragment_at ? c->head + FRAGMENT_HEADER : c->head;
		over = c->head + FRAGMENT_HEADER;
	}
	c->len = p->len - c->data;
	if (max < over + 8)
		return ERR_LIMIT;
	c->each = (max - over) & ~(size_t)7;
	return c->each * ESP_PIECES_MAX < c->len ? ERR_LIMIT : OK;
}

/* RFC 791, 3.2: only some options go into later fragments; the others become no-ops. */
static void options_later(uint8_t *o, size_t n)
{
	while (n && *o != OPTION_END) {
		size_t len = *o == OPTION_NOP ? 1 : o[1];

		if (len == 0 || len > n)
			return; /* cannot be: the packet was parsed */
		if (!(*o & IP4_OPTION_COPIED))
			memset(o, OPTION_NOP, len);
		o += len;
		n -= len;
	}
}

static size_t ip4_head(const struct esp_cut *c, uint8_t *out, size_t n, bool more)
{
	unsigned offset = (unsigned)(c->p->offset + c->at) / 8;

	memcpy(out, c->packet, c->head);
	if (c->at)
		options_later(out + IP4_HEADER, c->head - IP4_HEADER);
	put_be16(out + 2, (uint16_t)(c->head + n));
	put_be16(out + 6, (uint16_t)(offset | (more ? IP4_MORE : 0)));
	ip4_checksum(out, c->head);
	return c->head;
}

static size_t ip6_head(const struct esp_cut *c, uint8_t *out, size_t n, bool more)
{
	const struct esp_inner *p = c->p;
	uint8_t *f = out + c->head;

	memcpy(out, c->packet, c->head);
	put_be16(out + 4, (uint16_t)(c->head + FRAGMENT_HEADER + n - IP6_HEADER));
	if (p->fragment_at) {
		f[0] = c->packet[p->fragment_at];
	} else {
		f[0] = c->packet[p->cut_next];
		out[p->cut_next] = FRAGMENT;
	}
	f[1] = 0;
	put_be16(f + 2, (uint16_t)((p->offset + c->at) | more));
	put_be32(f + 4, c->id);
	return c->head + FRAGMENT_HEADER;
}

bool esp_cut_next(struct esp_cut *c, uint8_t *out, size_t *ret_len)
{
	size_t n = c->len - c->at, head;
	bool more;

	if (!n)
		return false;
	n = n < c->each ? n : c->each;
	more = c->p->more || c->at + n < c->len;
	head = c->p->ends.family == ADDR_IP4 ? ip4_head(c, out, n, more) : ip6_head(c, out, n, more);
	memcpy(out + head, c->packet + c->data + c->at, n);
	c->at += n;
	*ret_len = head + n;
	return true;
}

/* ---- said to the sender ---- */

static bool may_be_told(const struct esp_inner *p)
{
	const uint8_t *src = p->ends.src, *dst = p->ends.dst;
	bool v6 = p->ends.family == ADDR_IP6;
	struct addr from = addr_of(span_of(src, v6 ? 16 : 4), 0), to = addr_of(span_of(dst, v6 ? 16 : 4), 0);

	return p->icmp != ESP_ICMP_ERROR && p->fragment != ESP_LATER && !addr_is_any(&from) &&
	       !addr_is_multicast(&from) && !addr_is_multicast(&to);
}

static void ip6_too_big(const uint8_t *packet, const struct esp_inner *p, unsigned mtu, const uint8_t from[16],
			struct wr *w)
{
	size_t quoted = ESP_TOLD_MAX - IP6_HEADER - 8, len;
	uint8_t *icmp = w->p + IP6_HEADER;
	uint32_t sum;

	quoted = p->len < quoted ? p->len : quoted;
	len = 8 + quoted;
	wr_u32(w, 0x60000000);
	wr_u16(w, (uint16_t)len);
	wr_u8(w, ESP_PROTO_ICMP6);
	wr_u8(w, 64);
	wr_bytes(w, from, 16);
	wr_bytes(w, p->ends.src, 16);
	wr_u32(w, 2u << 24); /* RFC 4443, 3.2 */
	wr_u32(w, mtu);
	wr_bytes(w, packet, quoted);
	sum = sum_add((uint32_t)len + ESP_PROTO_ICMP6, w->p + 8, 32);
	put_be16(icmp + 2, sum_done(sum_add(sum, icmp, len)));
}

static void ip4_too_big(const uint8_t *packet, const struct esp_inner *p, unsigned mtu, struct wr *w)
{
	size_t quoted = IP4_TOLD_MAX - IP4_HEADER - 8;
	uint8_t *icmp = w->p + IP4_HEADER;

	quoted = p->len < quoted ? p->len : quoted;
	wr_u16(w, 0x4500 | 6 << 5); /* RFC 1812, 4.3.2.5: precedence 6 */
	wr_u16(w, (uint16_t)(IP4_HEADER + 8 + quoted));
	wr_u32(w, 0);
	wr_u8(w, 64);
	wr_u8(w, ESP_PROTO_ICMP);
	wr_u16(w, 0);
	wr_bytes(w, p->ends.dst, 4);
	wr_bytes(w, p->ends.src, 4);
	ip4_checksum(w->p, IP4_HEADER);
	wr_u32(w, 3u << 24 | 4u << 16); /* RFC 792; RFC 1191, 4 */
	wr_u32(w, mtu);
	wr_bytes(w, packet, quoted);
	put_be16(icmp + 2, sum_done(sum_add(0, icmp, 8 + quoted)));
}

bool esp_too_big_write(const uint8_t *packet, const struct esp_inner *p, unsigned mtu, const uint8_t from[16],
		       uint8_t out[ESP_TOLD_MAX], size_t *ret_len)
{
	struct wr w = wr_of(out, ESP_TOLD_MAX);

	if (!may_be_told(p))
		return false;
	if (p->ends.family == ADDR_IP6)
		ip6_too_big(packet, p, mtu, from, &w);
	else
		ip4_too_big(packet, p, mtu, &w);
	*ret_len = w.len;
	return !w.bad;
}

/* ---- avoided ---- */

/* RFC 1624, 3. A value at an odd place is in two words of the sum, with its bytes changed over. */
static void mss_set(uint8_t *tcp, size_t at, uint16_t mss)
{
	size_t first = at & ~(size_t)1, n = at & 1 ? 4 : 2;
	uint32_t sum = (uint16_t)~be16(tcp + 16);

	for (size_t i = 0; i < n; i += 2)
		sum += (uint16_t)~be16(tcp + first + i);
	put_be16(tcp + at, mss);
	for (size_t i = 0; i < n; i += 2)
		sum += be16(tcp + first + i);
	put_be16(tcp + 16, sum_done(sum));
}

void esp_mss_clamp(uint8_t *packet, const struct esp_inner *p, size_t max)
{
	size_t headers = p->ends.family == ADDR_IP4 ? IP4_HEADER + 20 : IP6_HEADER + 20, end;
	uint8_t *tcp = packet + p->upper;

	if (max <= headers)
		return;
	end = (size_t)(tcp[12] >> 4) * 4; /* parsed: it is in the packet */
	for (size_t at = TCP_OPTIONS; at < end;) {
		size_t len = 1;

		if (tcp[at] == OPTION_END)
			return;
		if (tcp[at] != OPTION_NOP) {
			if (at + 2 > end || tcp[at + 1] < 2 || at + tcp[at + 1] > end)
				return;
			len = tcp[at + 1];
		}
		if (tcp[at] == OPTION_MSS && len == 4) {
			if (be16(tcp + at + 2) > max - headers)
				mss_set(tcp, at + 2, (uint16_t)(max - headers));
			return;
		}
		at += len;
	}
}
