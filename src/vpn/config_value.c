/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "vpn/config_impl.h"

#include <string.h>

#include "base/text.h"
#include "sdp/ike.h"

enum err config_set_text(struct span v, char *dst, size_t cap, const char *what, const char **expected)
{
	*expected = what;
	if (!v.len)
		return ERR_MALFORMED;
	return span_copy_str(v, dst, cap);
}

enum err config_set_aor(struct span v, char *dst, const char **expected)
{
	*expected = "an address such as sip:me@example.net";
	return sdp_aor_normal(v, dst, CFG_AOR_MAX);
}

/* Names of services: what fits into a GRANT and needs no quoting on a command line. */
static bool name_ok(struct span v)
{
	if (!v.len || v.len > CFG_NAME_MAX)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		uint8_t c = v.p[i];

		if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_' && c != '.')
			return false;
	}
	return true;
}

enum err config_set_name(struct span v, char *dst, const char **expected)
{
	*expected = "a name of letters, digits, '-', '_' and '.', at most 63";
	if (!name_ok(v))
		return ERR_MALFORMED;
	return span_copy_str(v, dst, CFG_NAME_MAX + 1);
}

enum err config_set_bool(struct span v, bool *ret, const char **expected)
{
	*expected = "yes or no";
	return conf_bool(v, ret);
}

enum err config_set_duration(struct span v, uint32_t lo, uint32_t hi, uint32_t *ret, const char **expected)
{
	uint32_t s;
	enum err e = conf_duration_s(v, &s);

	*expected = "a time such as 30s, 5m or 2h within its limits (docs/configuration.md)";
	if (e != OK)
		return e;
	if (s < lo || s > hi)
		return ERR_LIMIT;
	*ret = s;
	return OK;
}

enum err config_set_port(struct span v, uint32_t lo, uint16_t *ret, const char **expected)
{
	uint32_t n;

	*expected = lo ? "a port from 1 to 65535" : "a port from 0 to 65535";
	if (span_u32(v, 65535, &n) != OK || n < lo)
		return ERR_MALFORMED;
	*ret = (uint16_t)n;
	return OK;
}

/* "host", "host:port", "[v6]:port", each with ";transport=tcp" or ";transport=udp". */
enum err config_set_host(struct span v, uint16_t default_port, struct cfg_host *ret, const char **expected)
{
	struct cfg_host h = { .port = default_port, .transport = TRANSPORT_TCP };
	struct span rest, host = span_cut(v, ';', &rest), port = SPAN_NONE;
	enum err e;

	*expected = "a host name or address, with an optional :port and ;transport=tcp or ;transport=udp";
	if (rest.p) {
		if (span_ieq_str(rest, "transport=udp"))
			h.transport = TRANSPORT_UDP;
		else if (!span_ieq_str(rest, "transport=tcp"))
			return ERR_MALFORMED;
	}
	if (host.len && host.p[0] == '[') {
		struct span after;
		struct addr a;

		host = span_cut(span_from(host, 1), ']', &after);
		if (!after.p || addr_parse_ip(host, &a) != OK || a.family != ADDR_IP6)
			return ERR_MALFORMED;
		if (after.len && after.p[0] != ':')
			return ERR_MALFORMED;
		if (after.len)
			port = span_from(after, 1);
		if (after.len && !port.len)
			return ERR_MALFORMED;
	} else {
		struct span p;

		host = span_cut(host, ':', &p);
		if (p.p) {
			if (!p.len)
				return ERR_MALFORMED;
			port = p;
		}
	}
	if (port.len) {
		const char *unused;

		if (config_set_port(port, 1, &h.port, &unused) != OK)
			return ERR_MALFORMED;
	}
	if (!host.len)
		return ERR_MALFORMED;
	for (size_t i = 0; i < host.len; i++)
		if (!ascii_is_alpha(host.p[i]) && !ascii_is_digit(host.p[i]) && !strchr(".-_:", host.p[i]))
			return ERR_MALFORMED;
	e = span_copy_str(host, h.host, sizeof(h.host));
	if (e == OK)
		*ret = h;
	return e;
}
