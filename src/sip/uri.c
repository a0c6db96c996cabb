/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sip/uri.h"

#include <string.h>

#include "base/text.h"

static bool printable(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] <= 0x20 || s.p[i] == 0x7f)
			return false;
	return true;
}

static bool host_ok(struct span h)
{
	for (size_t i = 0; i < h.len; i++)
		if (!ascii_is_alpha(h.p[i]) && !ascii_is_digit(h.p[i]) && h.p[i] != '-' && h.p[i] != '.' &&
		    h.p[i] != '_')
			return false;
	return h.len > 0;
}

/* host[:port], with brackets around IPv6 */
static enum err parse_hostport(struct span text, struct sip_uri *u)
{
	struct span port = SPAN_NONE;
	uint32_t n;

	if (text.len && text.p[0] == '[') {
		size_t end = span_find(text, ']');
		struct addr a;

		u->host = span_sub(text, 1, end - 1);
		u->host_is_ip6 = true;
		if (end == text.len || addr_parse_ip(u->host, &a) != OK || a.family != ADDR_IP6)
			return ERR_MALFORMED;
		text = span_from(text, end + 1);
		if (text.len && text.p[0] != ':')
			return ERR_MALFORMED;
		port = span_from(text, 1);
		if (text.len && !port.len)
			return ERR_MALFORMED;
	} else {
		u->host = span_cut(text, ':', &port);
		if (!host_ok(u->host) || (port.p && !port.len))
			return ERR_MALFORMED;
	}
	if (port.len) {
		if (span_u32(port, 65535, &n) != OK)
			return ERR_MALFORMED;
		u->port = (uint16_t)n;
	}
	return OK;
}

enum err sip_uri_parse(struct span text, struct sip_uri *ret)
{
	struct sip_uri u = { .text = text };
	struct span rest;
	size_t at;

	u.scheme = span_cut(text, ':', &rest);
	if (!rest.len || !u.scheme.len || !ascii_is_alpha(u.scheme.p[0]) || !printable(text))
		return ERR_MALFORMED;
	for (size_t i = 0; i < u.scheme.len; i++)
		if (!ascii_is_alpha(u.scheme.p[i]) && !ascii_is_digit(u.scheme.p[i]) && !strchr("+-.", u.scheme.p[i]))
			return ERR_MALFORMED;
	u.secure = span_ieq_str(u.scheme, "sips");
	u.is_sip = u.secure || span_ieq_str(u.scheme, "sip");
	if (!u.is_sip) {
		*ret = u;
		return OK;
	}
	/* The user may hold ';' and '?' (19.1.1), so it ends at the '@' before anything else is looked for. */
	at = span_find(rest, '@');
	if (at < rest.len) {
		struct span password;

		u.user = span_cut(span_sub(rest, 0, at), ':', &password);
		rest = span_from(rest, at + 1);
		if (!u.user.len || span_find(rest, '@') < rest.len)
			return ERR_MALFORMED;
	}
	at = span_find(rest, '?');
	if (at < rest.len)
		u.headers = span_from(rest, at + 1);
	rest = span_sub(rest, 0, at);
	at = span_find(rest, ';');
	u.params = span_from(rest, at);
	if (parse_hostport(span_sub(rest, 0, at), &u) != OK)
		return ERR_MALFORMED;
	*ret = u;
	return OK;
}

/* Length of a quoted string at the start of s with both quotes; 0: it does not end. */
static size_t quoted(struct span s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '"')
			return i + 1;
	}
	return 0;
}

static struct span trim(struct span s)
{
	/* folded lines leave CRLF and blanks inside a value */
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\r' || s.p[0] == '\n'))
		s = span_from(s, 1);
	while (s.len &&
	       (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t' || s.p[s.len - 1] == '\r' || s.p[s.len - 1] == '\n'))
		s.len--;
	return s;
}

bool sip_param(struct span params, const char *name, struct span *ret_value)
{
	while (params.len) {
		struct span one, key, value;
		size_t end = 1;

		while (end < params.len && params.p[end] != ';')
			end += params.p[end] == '"' && quoted(span_from(params, end)) ? quoted(span_from(params, end))
										      : 1;
		one = span_sub(params, 1, end > params.len ? params.len : end - 1);
		params = span_from(params, end);
		key = trim(span_cut(one, '=', &value));
		if (!span_ieq_str(key, name))
			continue;
		value = trim(value);
		if (value.len >= 2 && value.p[0] == '"')
			value = span_sub(value, 1, value.len - 2);
		*ret_value = value;
		return true;
	}
	return false;
}

bool sip_uri_same(const struct sip_uri *a, const struct sip_uri *b)
{
	if (a->is_sip != b->is_sip)
		return false;
	if (!a->is_sip)
		return span_eq(a->text, b->text);
	return a->secure == b->secure && span_eq(a->user, b->user) && span_ieq(a->host, b->host) && a->port == b->port;
}

enum err sip_uri_addr(const struct sip_uri *u, uint16_t default_port, struct addr *ret)
{
	struct addr a;

	if (!u->is_sip || addr_parse_ip(u->host, &a) != OK)
		return ERR_UNSUPPORTED;
	a.port = u->port ? u->port : default_port;
	*ret = a;
	return OK;
}

/* Where the element at the start of a comma-separated list ends: commas inside quotes and <> do not count. */
static size_t element_end(struct span s)
{
	bool angle = false;

	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '"' && !angle) {
			size_t q = quoted(span_from(s, i));

			if (!q)
				return s.len;
			i += q - 1;
		} else if (s.p[i] == '<') {
			angle = true;
		} else if (s.p[i] == '>') {
			angle = false;
		} else if (s.p[i] == ',' && !angle) {
			return i;
		}
	}
	return s.len;
}

enum err sip_nameaddr_next(struct span *list, struct sip_nameaddr *ret)
{
	struct sip_nameaddr n = { .star = false };
	struct span s = trim(*list), rest;
	size_t end = element_end(s), at;

	if (!s.len)
		return ERR_NOTFOUND;
	rest = span_from(s, end + (end < s.len));
	n.text = s = trim(span_sub(s, 0, end));
	if (!s.len)
		return ERR_MALFORMED;
	at = s.p[0] == '"' ? quoted(s) : 0;
	if (s.p[0] == '"' && !at)
		return ERR_MALFORMED;
	at += span_find(span_from(s, at), '<');
	if (at < s.len) {
		size_t close = at + span_find(span_from(s, at), '>');

		n.display = trim(span_sub(s, 0, at));
		if (close == s.len || sip_uri_parse(span_sub(s, at + 1, close - at - 1), &n.uri) != OK)
			return ERR_MALFORMED;
		n.params = trim(span_from(s, close + 1));
		if (n.params.len && n.params.p[0] != ';')
			return ERR_MALFORMED;
	} else if (span_eq_str(s, "*")) {
		n.star = true;
	} else {
		at = span_find(s, ';'); /* 20: without <> the parameters are the header's */
		n.params = span_from(s, at);
		if (s.p[0] == '"' || sip_uri_parse(trim(span_sub(s, 0, at)), &n.uri) != OK)
			return ERR_MALFORMED;
	}
	*list = rest;
	*ret = n;
	return OK;
}
