/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/addr.h - an IP address with a port. Plain data, compared by value; never a host name. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"

enum addr_family { ADDR_NONE = 0, ADDR_IP4 = 4, ADDR_IP6 = 6 };

struct addr {
	enum addr_family family;
	uint16_t port; /* host order; 0: none */
	uint8_t ip[16]; /* network order; IPv4 in the first four, the rest zero */
};

#define ADDR_TEXT 56 /* "[v6]:port" with NUL */

size_t addr_ip_len(const struct addr *a); /* 4, 16, or 0 */
struct span addr_ip(const struct addr *a); /* borrowed from a */
struct addr addr_ip4(uint32_t ip, uint16_t port); /* host order: 0x7f000001 is loopback */
/* From 4 or 16 bytes; an IPv4-mapped IPv6 address becomes IPv4. Other lengths: family NONE. */
struct addr addr_of(struct span ip, uint16_t port);
bool addr_eq(const struct addr *a, const struct addr *b); /* family, ip, port */
bool addr_ip_eq(const struct addr *a, const struct addr *b); /* family, ip */
int addr_cmp(const struct addr *a, const struct addr *b); /* a total order */
bool addr_is_any(const struct addr *a); /* 0.0.0.0 or :: */
bool addr_is_loopback(const struct addr *a);
bool addr_is_link_local(const struct addr *a);
bool addr_is_multicast(const struct addr *a);
bool addr_is_private(const struct addr *a); /* RFC 1918, RFC 6598, fc00::/7 */

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]"; brackets optional without a port. */
MUST_CHECK enum err addr_parse_ip(struct span text, struct addr *ret);
/* "192.0.2.1:4500", "[2001:db8::1]:4500"; without a port, default_port. */
MUST_CHECK enum err addr_parse(struct span text, uint16_t default_port, struct addr *ret);
/* Into dst of at least ADDR_TEXT; returns dst. */
char *addr_write(const struct addr *a, char *dst); /* with the port */
char *addr_write_ip(const struct addr *a, char *dst); /* without, no brackets */

/* A prefix in CIDR notation. */
struct addr_prefix {
	struct addr base; /* host bits zero, port 0 */
	uint8_t len; /* bits */
};
MUST_CHECK enum err addr_prefix_parse(struct span text, struct addr_prefix *ret);
bool addr_prefix_sound(const struct addr_prefix *p); /* a length of its family, and no bits behind it */
/* False: the addresses from lo to hi are no prefix. */
bool addr_prefix_of_range(const struct addr *lo, const struct addr *hi, struct addr_prefix *ret);
bool addr_prefix_has(const struct addr_prefix *p, const struct addr *a);
bool addr_prefix_inside(const struct addr_prefix *p, const struct addr_prefix *whole); /* all of p; also when equal */
bool addr_prefix_meets(const struct addr_prefix *a, const struct addr_prefix *b); /* some address is in both */
bool addr_prefix_eq(const struct addr_prefix *a, const struct addr_prefix *b);
char *addr_prefix_write(const struct addr_prefix *p, char *dst); /* into ADDR_TEXT; returns dst */
