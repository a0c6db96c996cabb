/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

size_t addr_ip_len(const struct addr *a)
{
	return a->family == ADDR_IP4 ? 4 : a->family == ADDR_IP6 ? 16 : 0;
}

struct span addr_ip(const struct addr *a)
{
	return span_of(a->ip, addr_ip_len(a));
}

struct addr addr_ip4(uint32_t ip, uint16_t port)
{
	struct addr a = { .family = ADDR_IP4, .port = port };

	put_be32(a.ip, ip);
	return a;
}

struct addr addr_of(struct span ip, uint16_t port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct addr a = { .family = ADDR_NONE };

	if (ip.len == 16 && !memcmp(ip.p, mapped, sizeof(mapped)))
		ip = span_from(ip, 12);
	if (ip.len != 4 && ip.len != 16)
		return a;
	a.family = ip.len == 4 ? ADDR_IP4 : ADDR_IP6;
	a.port = port;
	memcpy(a.ip, ip.p, ip.len);
	return a;
}

bool addr_ip_eq(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && !memcmp(a->ip, b->ip, addr_ip_len(a));
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && addr_ip_eq(a, b);
}

int addr_cmp(const struct addr *a, const struct addr *b)
{
	int c = (a->family > b->family) - (a->family < b->family);

	if (!c)
		c = memcmp(a->ip, b->ip, addr_ip_len(a));
	return c ? c : (a->port > b->port) - (a->port < b->port);
}

bool addr_is_any(const struct addr *a)
{
	static const uint8_t zero[16];

	return a->family != ADDR_NONE && !memcmp(a->ip, zero, addr_ip_len(a));
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	return (a->family == ADDR_IP4 && a->ip[0] == 127) || (a->family == ADDR_IP6 && !memcmp(a->ip, one, 16));
}

bool addr_is_link_local(const struct addr *a)
{
	if (a->family == ADDR_IP4)
		return a->ip[0] == 169 && a->ip[1] == 254;
	return a->family == ADDR_IP6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

bool addr_is_multicast(const struct addr *a)
{
	return (a->family == ADDR_IP4 && (a->ip[0] & 0xf0) == 0xe0) || (a->family == ADDR_IP6 && a->ip[0] == 0xff);
}

bool addr_is_private(const struct addr *a)
{
	const uint8_t *ip = a->ip;

	if (a->family == ADDR_IP6)
		return (ip[0] & 0xfe) == 0xfc; /* RFC 4193 */
	return a->family == ADDR_IP4 &&
	       (ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) || (ip[0] == 192 && ip[1] == 168) ||
		(ip[0] == 100 && (ip[1] & 0xc0) == 64)); /* RFC 6598 */
}

enum err addr_parse_ip(struct span text, struct addr *ret)
{
	char s[INET6_ADDRSTRLEN];
	uint8_t ip[16];
	bool brackets = text.len > 2 && text.p[0] == '[' && text.p[text.len - 1] == ']';

	if (brackets)
		text = span_sub(text, 1, text.len - 2);
	if (span_copy_str(text, s, sizeof(s)) != OK)
		return ERR_MALFORMED;
	if (!brackets && inet_pton(AF_INET, s, ip) == 1)
		*ret = addr_of(span_of(ip, 4), 0);
	else if (inet_pton(AF_INET6, s, ip) == 1)
		*ret = addr_of(span_of(ip, 16), 0);
	else
		return ERR_MALFORMED;
	return OK;
}

enum err addr_parse(struct span text, uint16_t default_port, struct addr *ret)
{
	struct span port = SPAN_NONE, ip = text;
	uint32_t n = default_port;
	struct addr a;
	bool has_port = false;

	if (text.len && text.p[0] == '[') {
		size_t close = span_find(text, ']');

		if (close == text.len)
			return ERR_MALFORMED;
		ip = span_sub(text, 0, close + 1);
		port = span_from(text, close + 1);
		if (port.len) {
			if (port.p[0] != ':')
				return ERR_MALFORMED;
			port = span_from(port, 1);
			has_port = true;
		}
	} else {
		struct span rest, head = span_cut(text, ':', &rest);

		/* More than one colon: an IPv6 address without brackets, hence without a port. */
		if (rest.p && span_find(rest, ':') == rest.len) {
			ip = head;
			port = rest;
			has_port = true;
		}
	}
	if (has_port && span_u32(port, 65535, &n) != OK)
		return ERR_MALFORMED;
	if (addr_parse_ip(ip, &a) != OK)
		return ERR_MALFORMED;
	a.port = (uint16_t)n;
	*ret = a;
	return OK;
}

char *addr_write_ip(const struct addr *a, char *dst)
{
	if (a->family == ADDR_NONE || !inet_ntop(a->family == ADDR_IP4 ? AF_INET : AF_INET6, a->ip, dst, ADDR_TEXT))
		memcpy(dst, "none", 5);
	return dst;
}

char *addr_write(const struct addr *a, char *dst)
{
	char ip[ADDR_TEXT];

	addr_write_ip(a, ip);
	(void)snprintf(dst, ADDR_TEXT, a->family == ADDR_IP6 ? "[%.45s]:%u" : "%.45s:%u", ip, a->port);
	return dst;
}

enum err addr_prefix_parse(struct span text, struct addr_prefix *ret)
{
	struct span rest, ip = span_cut(text, '/', &rest);
	struct addr_prefix p;
	uint32_t len;

	if (addr_parse_ip(ip, &p.base) != OK || span_u32(rest, (uint32_t)addr_ip_len(&p.base) * 8, &len) != OK)
		return ERR_MALFORMED;
	p.len = (uint8_t)len;
	if (!addr_prefix_sound(&p))
		return ERR_MALFORMED;
	*ret = p;
	return OK;
}

static bool has_bit(const struct addr *a, size_t bit)
{
	return a->ip[bit / 8] & (0x80 >> bit % 8);
}

bool addr_prefix_sound(const struct addr_prefix *p)
{
	size_t n = addr_ip_len(&p->base) * 8;

	for (size_t bit = p->len; bit < n; bit++)
		if (has_bit(&p->base, bit))
			return false;
	return p->len <= n;
}

bool addr_prefix_of_range(const struct addr *lo, const struct addr *hi, struct addr_prefix *ret)
{
	size_t n = addr_ip_len(lo) * 8, len = 0;

	while (len < n && has_bit(lo, len) == has_bit(hi, len))
		len++;
	for (size_t bit = len; bit < n; bit++)
		if (has_bit(lo, bit) || !has_bit(hi, bit))
			return false;
	*ret = (struct addr_prefix){ .base = *lo, .len = (uint8_t)len };
	return n && lo->family == hi->family;
}

bool addr_prefix_has(const struct addr_prefix *p, const struct addr *a)
{
	size_t whole = p->len / 8;
	uint8_t mask = (uint8_t)(0xff00 >> p->len % 8);

	if (a->family != p->base.family || memcmp(a->ip, p->base.ip, whole))
		return false;
	return p->len % 8 == 0 || (a->ip[whole] & mask) == p->base.ip[whole];
}

bool addr_prefix_inside(const struct addr_prefix *p, const struct addr_prefix *whole)
{
	return p->len >= whole->len && addr_prefix_has(whole, &p->base);
}

bool addr_prefix_meets(const struct addr_prefix *a, const struct addr_prefix *b)
{
	return addr_prefix_inside(a, b) || addr_prefix_inside(b, a);
}

bool addr_prefix_eq(const struct addr_prefix *a, const struct addr_prefix *b)
{
	return a->len == b->len && addr_ip_eq(&a->base, &b->base);
}

char *addr_prefix_write(const struct addr_prefix *p, char *dst)
{
	char ip[ADDR_TEXT];

	addr_write_ip(&p->base, ip);
	(void)snprintf(dst, ADDR_TEXT, "%.45s/%u", ip, p->len);
	return dst;
}
