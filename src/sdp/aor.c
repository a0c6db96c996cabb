/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <string.h>

#include "base/text.h"
#include "sdp/ike.h"

/* The user part: what RFC 3261's grammar allows without an escape. Escapes are refused, because "%61" and "a" would
 * be two names of one user; so is ":", which would be a password. */
static bool user_ok(struct span user)
{
	for (size_t i = 0; i < user.len; i++)
		if (!ascii_is_alpha(user.p[i]) && !ascii_is_digit(user.p[i]) &&
		    !(user.p[i] && strchr("-_.!~*'()&=+$,/", user.p[i])))
			return false;
	return user.len > 0;
}

static bool host_ok(struct span host)
{
	struct addr a;

	if (host.len > 2 && host.p[0] == '[')
		return addr_parse_ip(host, &a) == OK && host.p[host.len - 1] == ']';
	for (size_t i = 0; i < host.len; i++)
		if (!ascii_is_alpha(host.p[i]) && !ascii_is_digit(host.p[i]) && host.p[i] != '-' && host.p[i] != '.')
			return false;
	return host.len > 0;
}

enum err sdp_aor_normal(struct span text, char *dst, size_t cap)
{
	struct span host, user, port;
	struct wr w = wr_of(dst, cap ? cap - 1 : 0);
	uint32_t n;
	size_t end;

	if (span_istarts(text, "sips:"))
		text = span_from(text, 5);
	else if (span_istarts(text, "sip:"))
		text = span_from(text, 4);
	user = span_cut(text, '@', &host);
	host = span_sub(host, 0, span_find(host, '?'));
	host = span_sub(host, 0, span_find(host, ';'));
	/* A port stands behind the name, or behind the bracket of an IPv6 address. */
	end = host.len && host.p[0] == '[' ? span_find(host, ']') + 1 : span_find(host, ':');
	port = span_from(host, end);
	host = span_sub(host, 0, end);
	if (!user_ok(user) || !host_ok(host))
		return ERR_MALFORMED;
	if (port.len && (port.p[0] != ':' || span_u32(span_from(port, 1), 65535, &n) != OK))
		return ERR_MALFORMED;
	wr_str(&w, "sip:");
	wr_span(&w, user);
	wr_u8(&w, '@');
	for (size_t i = 0; i < host.len; i++)
		wr_u8(&w, ascii_lower(host.p[i]));
	if (w.bad)
		return ERR_LIMIT;
	dst[w.len] = 0;
	return OK;
}
