/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/write.c - messages to bytes. No value gets a line end in: one that has one spoils the writer. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sip/parse.h"

static void put_clean(struct wr *w, struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == 0)
			w->bad = true;
	wr_span(w, s);
}

/* A value that came in with folds goes out on one line (7.3.1: a fold means a blank). */
static void put_unfolded(struct wr *w, struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == 0 && (!i || s.p[i - 1] != '\\'))
			w->bad = true;
		wr_u8(w, s.p[i] == '\r' || s.p[i] == '\n' ? ' ' : s.p[i]);
	}
}

const char *sip_reason_phrase(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} rows[] = {
		{ 100, "Trying" },
		{ 180, "Ringing" },
		{ 183, "Session Progress" },
		{ 200, "OK" },
		{ 202, "Accepted" },
		{ 301, "Moved Permanently" },
		{ 302, "Moved Temporarily" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 407, "Proxy Authentication Required" },
		{ 408, "Request Timeout" },
		{ 413, "Request Entity Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 416, "Unsupported URI Scheme" },
		{ 420, "Bad Extension" },
		{ 421, "Extension Required" },
		{ 422, "Session Interval Too Small" },
		{ 423, "Interval Too Brief" },
		{ 430, "Flow Failed" },
		{ 480, "Temporarily Unavailable" },
		{ 481, "Call/Transaction Does Not Exist" },
		{ 482, "Loop Detected" },
		{ 483, "Too Many Hops" },
		{ 486, "Busy Here" },
		{ 487, "Request Terminated" },
		{ 488, "Not Acceptable Here" },
		{ 491, "Request Pending" },
		{ 500, "Server Internal Error" },
		{ 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
		{ 504, "Server Time-out" },
		{ 505, "Version Not Supported" },
		{ 513, "Message Too Large" },
		{ 600, "Busy Everywhere" },
		{ 603, "Decline" },
		{ 604, "Does Not Exist Anywhere" },
		{ 606, "Not Acceptable" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == status)
			return rows[i].text;
	return status < 200 ? "Progress" : status < 300 ? "OK" : status < 400 ? "Redirection" : "Failure";
}

void sip_write_request(struct wr *w, const char *method, struct span uri)
{
	wr_str(w, method);
	wr_u8(w, ' ');
	put_clean(w, uri);
	wr_str(w, " SIP/2.0\r\n");
}

void sip_write_status(struct wr *w, unsigned status, const char *reason)
{
	wr_fmt(w, "SIP/2.0 %03u ", status);
	put_clean(w, span_str(reason ? reason : sip_reason_phrase(status)));
	wr_str(w, "\r\n");
}

void sip_write_header(struct wr *w, enum sip_h h, struct span value)
{
	wr_str(w, sip_h_name(h));
	wr_str(w, ": ");
	put_unfolded(w, value);
	wr_str(w, "\r\n");
}

void sip_write_headerf(struct wr *w, enum sip_h h, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text)) {
		w->bad = true;
		return;
	}
	wr_str(w, sip_h_name(h));
	wr_str(w, ": ");
	put_clean(w, span_of(text, (size_t)n));
	wr_str(w, "\r\n");
}

void sip_write_end(struct wr *w, const char *content_type, struct span body)
{
	if (body.len)
		sip_write_header(w, H_CONTENT_TYPE, span_str(content_type));
	sip_write_headerf(w, H_CONTENT_LENGTH, "%zu", body.len);
	wr_str(w, "\r\n");
	wr_span(w, body);
}

static void put_hostport(struct wr *w, const struct addr *a)
{
	char text[ADDR_TEXT];

	wr_str(w, addr_write(a, text));
}

void sip_write_via(struct wr *w, enum transport t, const struct addr *sent_by, const char *branch)
{
	wr_fmt(w, "Via: SIP/2.0/%s ", transport_name(t));
	put_hostport(w, sent_by);
	wr_fmt(w, ";rport;branch=%s\r\n", branch);
}

/* 18.2.1 and RFC 3581, 4: the sender's real address is written beside the one it believes in. */
static void put_via_received(struct wr *w, const struct sip_via *v, const struct addr *from)
{
	struct span text = v->text;
	char ip[ADDR_TEXT];

	while (text.len) { /* without old received and rport */
		size_t end = 1 + span_find(span_from(text, 1), ';');
		struct span one = span_sub(text, 0, end), name = sip_trim(span_from(one, one.p[0] == ';'));

		name = sip_trim(span_sub(name, 0, span_find(name, '=')));
		if (one.p[0] != ';' || (!span_ieq_str(name, "received") && !span_ieq_str(name, "rport")))
			put_unfolded(w, one);
		text = span_from(text, end);
	}
	wr_fmt(w, ";received=%s", addr_write_ip(from, ip));
	if (v->has_rport)
		wr_fmt(w, ";rport=%u", from->port);
}

/* All Vias; the topmost with what `from` adds. */
static void put_vias(struct wr *w, const struct sip_msg *m, const struct addr *from)
{
	struct sip_walk walk = { .at = 0 };
	struct sip_via v;
	bool top = true;

	while (sip_via_next(m, &walk, &v) == OK) {
		wr_str(w, "Via: ");
		if (top && from && from->family != ADDR_NONE)
			put_via_received(w, &v, from);
		else
			put_unfolded(w, v.text);
		wr_str(w, "\r\n");
		top = false;
	}
}

void sip_write_response(struct wr *w, const struct sip_msg *rq, const struct addr *from, unsigned status,
			const char *reason, const char *to_tag)
{
	sip_write_status(w, status, reason);
	put_vias(w, rq, from);
	sip_write_header(w, H_FROM, sip_value(rq, H_FROM));
	wr_str(w, "To: ");
	put_unfolded(w, sip_value(rq, H_TO));
	if (!rq->to_tag.len && to_tag) {
		wr_str(w, ";tag=");
		put_clean(w, span_str(to_tag));
	}
	wr_str(w, "\r\n");
	sip_write_header(w, H_CALL_ID, rq->call_id);
	sip_write_header(w, H_CSEQ, sip_value(rq, H_CSEQ));
	if (rq->method != SIP_REGISTER && status > 100 && status < 300) { /* 12.1.1 */
		const struct sip_header *h;
		unsigned at = 0;

		while ((h = sip_header_next(rq, H_RECORD_ROUTE, &at)) != NULL)
			sip_write_header(w, H_RECORD_ROUTE, h->value);
	}
}

/* ---- forwarding ---- */

static void put_start(struct wr *w, const struct sip_msg *m, const struct sip_edit *e)
{
	size_t at = 0;
	struct span line;

	if (!m->is_request) {
		while (at + 1 < m->raw.len && m->raw.p[at] == '\r')
			at += 2;
		if (sip_line(m->raw, &at, &line))
			put_clean(w, line);
		wr_str(w, "\r\n");
		return;
	}
	put_clean(w, m->method_text);
	wr_u8(w, ' ');
	put_clean(w, e->request_uri.len ? e->request_uri : m->uri_text);
	wr_str(w, " SIP/2.0\r\n");
}

/* A list header without its first elements, at most n; returns how many it had of them. */
static unsigned put_popped(struct wr *w, enum sip_h h, struct span value, unsigned n)
{
	struct sip_nameaddr a;
	struct sip_via v;
	unsigned popped = 0;

	while (popped < n && value.len) {
		if ((h == H_VIA ? sip_via_parse(&value, &v) : sip_nameaddr_next(&value, &a)) != OK)
			return n; /* what cannot be read does not go on */
		popped++;
		value = sip_trim(value);
	}
	if (value.len)
		sip_write_header(w, h, value);
	return popped;
}

static void put_top_via(struct wr *w, struct span value, const struct addr *from)
{
	struct sip_via v;

	if (sip_via_parse(&value, &v) != OK) {
		w->bad = true;
		return;
	}
	wr_str(w, "Via: ");
	put_via_received(w, &v, from);
	wr_str(w, "\r\n");
	value = sip_trim(value);
	if (value.len)
		sip_write_header(w, H_VIA, value);
}

void sip_write_edited(struct wr *w, const struct sip_msg *m, const struct sip_edit *e)
{
	bool via_done = false, has_max_forwards = false;
	unsigned n_routes = 0; /* gone so far */

	put_start(w, m, e);
	if (e->push_via.len)
		sip_write_header(w, H_VIA, e->push_via);
	if (e->push_record_route.len)
		sip_write_header(w, H_RECORD_ROUTE, e->push_record_route);
	for (unsigned i = 0; i < m->n_headers; i++) {
		const struct sip_header *h = &m->headers[i];

		has_max_forwards |= h->h == H_MAX_FORWARDS;
		if (h->h == H_CONTENT_LENGTH || (h->h == H_PROXY_AUTHORIZATION && e->drop_proxy_authorization))
			continue;
		if (h->h == H_MAX_FORWARDS && e->max_forwards >= 0) {
			sip_write_headerf(w, H_MAX_FORWARDS, "%d", e->max_forwards);
		} else if (h->h == H_VIA && h->value.len && !via_done &&
			   (e->pop_via || e->received.family != ADDR_NONE)) {
			via_done = true;
			if (e->pop_via)
				(void)put_popped(w, H_VIA, h->value, 1);
			else
				put_top_via(w, h->value, &e->received);
		} else if (h->h == H_ROUTE && h->value.len && n_routes < e->pop_route) {
			n_routes += put_popped(w, H_ROUTE, h->value, e->pop_route - n_routes);
		} else {
			put_clean(w, h->name);
			wr_str(w, ": ");
			put_unfolded(w, h->value);
			wr_str(w, "\r\n");
		}
	}
	if (m->is_request && !has_max_forwards)
		sip_write_headerf(w, H_MAX_FORWARDS, "%d", e->max_forwards >= 0 ? e->max_forwards : 70);
	sip_write_headerf(w, H_CONTENT_LENGTH, "%zu", m->body.len);
	wr_str(w, "\r\n");
	wr_span(w, m->body);
}
