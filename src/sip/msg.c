/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/msg.c - a message from its bytes. */
#include "sip/msg.h"

#include <string.h>

#include "base/text.h"
#include "sip/parse.h"

struct span sip_trim(struct span s)
{
	while (s.len && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\r' || s.p[0] == '\n'))
		s = span_from(s, 1);
	while (s.len &&
	       (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t' || s.p[s.len - 1] == '\r' || s.p[s.len - 1] == '\n'))
		s.len--;
	return s;
}

bool sip_token_ok(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!ascii_is_alpha(s.p[i]) && !ascii_is_digit(s.p[i]) && (!s.p[i] || !strchr("-.!%*_+`'~", s.p[i])))
			return false;
	return s.len > 0;
}

bool sip_line(struct span text, size_t *at, struct span *ret)
{
	struct span left = span_from(text, *at);
	size_t end = span_find(left, '\n');

	if (end == left.len)
		return false;
	*ret = span_sub(left, 0, end && left.p[end - 1] == '\r' ? end - 1 : end);
	*at += end + 1;
	return true;
}

bool sip_folded(struct span text, size_t at)
{
	return at < text.len && (text.p[at] == ' ' || text.p[at] == '\t');
}

/* Control characters, NUL among them, may stand in a quoted string behind a backslash (25.1); else a NUL or a bare CR is
 * nobody's. */
static bool has_control(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.p[i] == 0 && (!i || s.p[i - 1] != '\\')) ||
		    (s.p[i] == '\r' && (i + 1 == s.len || s.p[i + 1] != '\n')))
			return true;
	return false;
}

/* ---- Via ---- */

static size_t param_start(struct span s)
{
	return span_find(s, ';');
}

enum err sip_via_parse(struct span *list, struct sip_via *ret)
{
	struct sip_via v = { .transport = TRANSPORT_UDP };
	struct span s = sip_trim(*list), proto[3], sent_by, value, rest;
	size_t end = 0;
	bool in_quotes = false;
	uint32_t n;

	for (; end < s.len && (in_quotes || s.p[end] != ','); end++)
		in_quotes ^= s.p[end] == '"';
	*list = span_from(s, end + (end < s.len));
	v.text = s = sip_trim(span_sub(s, 0, end));
	for (int i = 0; i < 2; i++) { /* "SIP / 2.0 / UDP": blanks around the slashes are allowed (25.1) */
		proto[i] = sip_trim(span_cut(s, '/', &rest));
		s = rest;
	}
	s = sip_trim(s);
	for (end = 0; end < s.len && !strchr(" \t\r\n", s.p[end]); end++)
		;
	proto[2] = span_sub(s, 0, end);
	s = sip_trim(span_from(s, end));
	if (!span_ieq_str(proto[0], "SIP") || !span_eq_str(proto[1], "2.0") || !sip_token_ok(proto[2]) || !s.len)
		return ERR_MALFORMED;
	v.transport_known = true;
	if (span_ieq_str(proto[2], "TCP"))
		v.transport = TRANSPORT_TCP;
	else if (span_ieq_str(proto[2], "TLS"))
		v.transport = TRANSPORT_TLS;
	else if (!span_ieq_str(proto[2], "UDP"))
		v.transport_known = false;
	end = param_start(s);
	v.params = span_from(s, end);
	sent_by = sip_trim(span_sub(s, 0, end));
	if (sent_by.len && sent_by.p[0] == '[') {
		end = span_find(sent_by, ']');
		if (end == sent_by.len)
			return ERR_MALFORMED;
		v.host = span_sub(sent_by, 1, end - 1);
		rest = sip_trim(span_from(sent_by, end + 1));
	} else {
		end = span_find(sent_by, ':');
		v.host = sip_trim(span_sub(sent_by, 0, end));
		rest = span_from(sent_by, end);
	}
	if (rest.len) {
		if (rest.p[0] != ':' || span_u32(sip_trim(span_from(rest, 1)), 65535, &n) != OK)
			return ERR_MALFORMED;
		v.port = (uint16_t)n;
	}
	if (!v.host.len)
		return ERR_MALFORMED;
	if (sip_param(v.params, "branch", &value))
		v.branch = value;
	if (sip_param(v.params, "received", &value))
		v.received = value;
	if (sip_param(v.params, "rport", &value)) {
		v.has_rport = true;
		if (value.len && span_u32(value, 65535, &n) == OK)
			v.rport = (uint16_t)n;
	}
	*ret = v;
	return OK;
}

/* ---- start line ---- */

static enum err parse_status(struct span line, struct sip_msg *m)
{
	struct span version = span_cut(line, ' ', &line), status = span_cut(line, ' ', &m->reason);
	uint32_t n;

	(void)version;
	if (status.len != 3 || span_u32(status, 699, &n) != OK || n < 100)
		return ERR_MALFORMED;
	m->status = n;
	return OK;
}

/* *ret_status 0: nothing to answer, else what a request with such a line deserves. */
static enum err parse_start(struct span line, struct sip_msg *m, unsigned *ret_status, const char **ret_why)
{
	struct span rest, version;

	*ret_status = 0;
	*ret_why = "start line";
	if (span_istarts(line, "SIP/2.0 "))
		return parse_status(line, m);
	m->is_request = true;
	m->method_text = span_cut(line, ' ', &rest);
	m->method = sip_method_of(m->method_text);
	if (!sip_token_ok(m->method_text) || !rest.len)
		return ERR_MALFORMED;
	/* The version is what follows the last blank: a URI with blanks in it is the sender's mistake, to be told (RFC 4475, 3.1.2.6). */
	version = rest;
	for (size_t i = 0; i < rest.len; i++)
		if (rest.p[i] == ' ')
			version = span_from(rest, i + 1);
	if (!span_istarts(version, "SIP/") || version.p == rest.p)
		return ERR_MALFORMED;
	m->uri_text = span_sub(rest, 0, rest.len - version.len - 1);
	m->uri_ok = sip_uri_parse(m->uri_text, &m->uri) == OK;
	*ret_status = 400;
	if (!span_ieq_str(version, "SIP/2.0")) {
		*ret_status = 505;
		*ret_why = "version";
		return ERR_UNSUPPORTED;
	}
	if (!m->uri_ok) {
		*ret_why = "request URI";
		return ERR_MALFORMED;
	}
	return OK;
}

/* ---- headers ---- */

static enum err add_header(struct span line, struct sip_msg *m, const char **ret_why)
{
	struct sip_header *h = &m->headers[m->n_headers];
	size_t colon = span_find(line, ':');

	*ret_why = "header";
	h->name = sip_trim(span_sub(line, 0, colon));
	if (colon == line.len || !sip_token_ok(h->name) || has_control(line))
		return ERR_MALFORMED;
	h->value = sip_trim(span_from(line, colon + 1));
	h->h = sip_h_of(h->name);
	m->n_headers++;
	return OK;
}

/* Up to the empty line; *at then stands on the body. */
static enum err parse_headers(struct span d, size_t *at, struct sip_msg *m, const char **ret_why)
{
	for (;;) {
		size_t start = *at;
		struct span line, more;

		*ret_why = "no end of headers";
		if (!sip_line(d, at, &line))
			return ERR_MALFORMED;
		if (!line.len)
			return OK;
		while (sip_folded(d, *at) && sip_line(d, at, &more))
			line = span_sub(d, start, (size_t)(more.p - d.p) + more.len - start);
		if (m->n_headers == SIP_HEADERS_MAX) {
			*ret_why = "too many headers";
			return ERR_LIMIT;
		}
		if (add_header(line, m, ret_why) != OK)
			return ERR_MALFORMED;
	}
}

static enum err only(const struct sip_msg *m, enum sip_h h, const char *what, struct span *ret, const char **ret_why)
{
	unsigned at = 0;
	const struct sip_header *x = sip_header_next(m, h, &at);

	*ret_why = what;
	if (!x || sip_header_next(m, h, &at))
		return ERR_MALFORMED;
	*ret = x->value;
	return OK;
}

static enum err parse_address(const struct sip_msg *m, enum sip_h h, const char *what, struct sip_nameaddr *ret,
			      struct span *ret_tag, const char **ret_why)
{
	struct span list, whole;

	if (only(m, h, what, &list, ret_why) != OK)
		return ERR_MALFORMED;
	whole = list;
	/* one address, and no list of it and nothing: what a tag would be added to must be the address */
	if (sip_nameaddr_next(&list, ret) != OK || ret->text.len != whole.len || ret->star)
		return ERR_MALFORMED;
	if (!sip_param(ret->params, "tag", ret_tag))
		*ret_tag = SPAN_NONE;
	/* 25.1: a token. Anything else, a folded line in it say, would be another tag once it is written again. */
	return ret_tag->len && !sip_token_ok(*ret_tag) ? ERR_MALFORMED : OK;
}

static enum err parse_cseq(struct sip_msg *m, const char **ret_why)
{
	struct span v, number;
	size_t end = 0;

	if (only(m, H_CSEQ, "CSeq", &v, ret_why) != OK)
		return ERR_MALFORMED;
	while (end < v.len && !strchr(" \t\r\n", v.p[end]))
		end++;
	number = span_sub(v, 0, end);
	m->cseq_method_text = sip_trim(span_from(v, end));
	m->cseq_method = sip_method_of(m->cseq_method_text);
	if (span_u32(number, INT32_MAX, &m->cseq) != OK || !sip_token_ok(m->cseq_method_text)) /* 8.1.1.5: below 2^31 */
		return ERR_MALFORMED;
	return OK;
}

/* What an answer is made of: without these nothing can be said to the sender. */
static enum err parse_core(struct sip_msg *m, const char **ret_why)
{
	struct sip_walk w = { .at = 0 };
	struct sip_via v;
	enum err e;

	*ret_why = "Via";
	while ((e = sip_via_next(m, &w, &v)) == OK) {
		if (!m->n_vias)
			m->via = v;
		if (++m->n_vias > SIP_VIAS_MAX)
			return ERR_LIMIT;
	}
	if (e != ERR_NOTFOUND || !m->n_vias)
		return ERR_MALFORMED;
	if (parse_address(m, H_FROM, "From", &m->from, &m->from_tag, ret_why) != OK ||
	    parse_address(m, H_TO, "To", &m->to, &m->to_tag, ret_why) != OK ||
	    only(m, H_CALL_ID, "Call-ID", &m->call_id, ret_why) != OK || !m->call_id.len ||
	    parse_cseq(m, ret_why) != OK)
		return ERR_MALFORMED;
	return OK;
}

static enum err parse_rest(struct sip_msg *m, struct span body, unsigned *ret_status, const char **ret_why)
{
	struct span v;
	uint32_t n;
	unsigned at = 0;

	*ret_status = 400;
	*ret_why = "CSeq method";
	if (m->is_request && !span_eq(m->cseq_method_text, m->method_text))
		return ERR_MALFORMED;
	*ret_why = "Max-Forwards";
	m->max_forwards = -1;
	v = sip_value(m, H_MAX_FORWARDS);
	if (sip_header(m, H_MAX_FORWARDS)) {
		if (span_u32(v, 255, &n) != OK)
			return ERR_MALFORMED;
		m->max_forwards = (int)n;
	}
	*ret_why = "Content-Length";
	if (sip_header_next(m, H_CONTENT_LENGTH, &at)) {
		if (span_u32(sip_value(m, H_CONTENT_LENGTH), UINT32_MAX, &n) != OK || n > body.len ||
		    sip_header_next(m, H_CONTENT_LENGTH, &at))
			return ERR_MALFORMED;
		body = span_sub(body, 0, n);
	}
	m->body = body;
	return OK;
}

enum err sip_parse(struct span d, struct sip_msg *ret, const char **ret_why, unsigned *ret_status)
{
	struct sip_msg *m = ret;
	unsigned line_status, status = 0;
	const char *line_why;
	struct span line;
	size_t at = 0;
	enum err start, e;

	memset(m, 0, sizeof(*m));
	*ret_status = 0;
	*ret_why = "too long";
	m->raw = d;
	m->max_forwards = -1;
	if (d.len > SIP_MSG_MAX)
		return ERR_LIMIT;
	*ret_why = "no start line";
	while (at + 1 < d.len && d.p[at] == '\r' && d.p[at + 1] == '\n') /* 7.5: leading empty lines */
		at += 2;
	if (!sip_line(d, &at, &line))
		return ERR_MALFORMED;
	start = parse_start(line, m, &line_status, &line_why);
	if (start != OK && !line_status) {
		*ret_why = line_why;
		return start;
	}
	e = parse_headers(d, &at, m, ret_why);
	if (e == OK || m->n_headers) {
		const char *core_why;
		enum err core = parse_core(m, &core_why);

		if (core == OK && m->is_request)
			status = e == ERR_LIMIT ? 513 : 400;
		if (e == OK && core != OK) {
			*ret_why = core_why;
			e = core;
		}
	}
	if (start != OK && (e == OK || status)) {
		*ret_why = line_why;
		*ret_status = status ? line_status : 0;
		return start;
	}
	if (e != OK) {
		*ret_status = status;
		return e;
	}
	if (!m->is_request)
		m->method = m->cseq_method;
	e = parse_rest(m, span_from(d, at), &status, ret_why);
	*ret_status = e == OK || !m->is_request ? 0 : status;
	return e;
}
