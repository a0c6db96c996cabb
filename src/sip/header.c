/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/header.c - names of headers and methods, and walks over headers that are lists. */
#include <string.h>

#include "base/text.h"
#include "sip/msg.h"
#include "sip/parse.h"

static const struct {
	const char *name;
	char compact;
} names[H_COUNT] = {
	[H_OTHER] = { "", 0 },
	[H_VIA] = { "Via", 'v' },
	[H_FROM] = { "From", 'f' },
	[H_TO] = { "To", 't' },
	[H_CALL_ID] = { "Call-ID", 'i' },
	[H_CSEQ] = { "CSeq", 0 },
	[H_CONTACT] = { "Contact", 'm' },
	[H_ROUTE] = { "Route", 0 },
	[H_RECORD_ROUTE] = { "Record-Route", 0 },
	[H_MAX_FORWARDS] = { "Max-Forwards", 0 },
	[H_EXPIRES] = { "Expires", 0 },
	[H_MIN_EXPIRES] = { "Min-Expires", 0 },
	[H_CONTENT_LENGTH] = { "Content-Length", 'l' },
	[H_CONTENT_TYPE] = { "Content-Type", 'c' },
	[H_CONTENT_ENCODING] = { "Content-Encoding", 'e' },
	[H_REQUIRE] = { "Require", 0 },
	[H_PROXY_REQUIRE] = { "Proxy-Require", 0 },
	[H_SUPPORTED] = { "Supported", 'k' },
	[H_UNSUPPORTED] = { "Unsupported", 0 },
	[H_ALLOW] = { "Allow", 0 },
	[H_ACCEPT] = { "Accept", 0 },
	[H_WWW_AUTHENTICATE] = { "WWW-Authenticate", 0 },
	[H_PROXY_AUTHENTICATE] = { "Proxy-Authenticate", 0 },
	[H_AUTHORIZATION] = { "Authorization", 0 },
	[H_PROXY_AUTHORIZATION] = { "Proxy-Authorization", 0 },
	[H_DATE] = { "Date", 0 },
	[H_RETRY_AFTER] = { "Retry-After", 0 },
	[H_RSEQ] = { "RSeq", 0 },
	[H_RACK] = { "RAck", 0 },
	[H_REPLACES] = { "Replaces", 0 },
	[H_SESSION_EXPIRES] = { "Session-Expires", 'x' },
	[H_MIN_SE] = { "Min-SE", 0 },
	[H_WARNING] = { "Warning", 0 },
	[H_REASON] = { "Reason", 0 },
	[H_USER_AGENT] = { "User-Agent", 0 },
};

static const char *const methods[SIP_METHOD_COUNT] = {
	[SIP_UNKNOWN] = "",
	[SIP_INVITE] = "INVITE",
	[SIP_ACK] = "ACK",
	[SIP_BYE] = "BYE",
	[SIP_CANCEL] = "CANCEL",
	[SIP_REGISTER] = "REGISTER",
	[SIP_OPTIONS] = "OPTIONS",
	[SIP_UPDATE] = "UPDATE",
	[SIP_PRACK] = "PRACK",
	[SIP_INFO] = "INFO",
	[SIP_MESSAGE] = "MESSAGE",
	[SIP_NOTIFY] = "NOTIFY",
	[SIP_SUBSCRIBE] = "SUBSCRIBE",
	[SIP_REFER] = "REFER",
};

const char *sip_method_name(enum sip_method m)
{
	return (unsigned)m < SIP_METHOD_COUNT ? methods[m] : "";
}

const char *sip_h_name(enum sip_h h)
{
	return (unsigned)h < H_COUNT ? names[h].name : "";
}

enum sip_method sip_method_of(struct span text)
{
	for (enum sip_method m = SIP_INVITE; m < SIP_METHOD_COUNT; m++)
		if (span_eq_str(text, methods[m])) /* case matters (7.1) */
			return m;
	return SIP_UNKNOWN;
}

enum sip_h sip_h_of(struct span name)
{
	for (enum sip_h h = H_VIA; h < H_COUNT; h++)
		if (span_ieq_str(name, names[h].name) ||
		    (name.len == 1 && names[h].compact && ascii_lower(name.p[0]) == (uint8_t)names[h].compact))
			return h;
	return H_OTHER;
}

const struct sip_header *sip_header_next(const struct sip_msg *m, enum sip_h h, unsigned *at)
{
	while (*at < m->n_headers) {
		const struct sip_header *x = &m->headers[(*at)++];

		if (x->h == h)
			return x;
	}
	return NULL;
}

const struct sip_header *sip_header(const struct sip_msg *m, enum sip_h h)
{
	unsigned at = 0;

	return sip_header_next(m, h, &at);
}

struct span sip_value(const struct sip_msg *m, enum sip_h h)
{
	const struct sip_header *x = sip_header(m, h);

	return x ? x->value : SPAN_NONE;
}

bool sip_has_token(const struct sip_msg *m, enum sip_h h, const char *token)
{
	const struct sip_header *x;
	unsigned at = 0;

	while ((x = sip_header_next(m, h, &at)) != NULL) {
		struct span list = x->value, rest;

		for (; list.p; list = rest)
			if (span_ieq_str(sip_trim(span_cut(list, ',', &rest)), token))
				return true;
	}
	return false;
}

/* The next header of this kind whose list is not empty, into w->rest. */
static bool walk_on(const struct sip_msg *m, enum sip_h h, struct sip_walk *w)
{
	w->rest = sip_trim(w->rest);
	while (!w->rest.len) {
		const struct sip_header *x = sip_header_next(m, h, &w->at);

		if (!x)
			return false;
		w->rest = sip_trim(x->value);
	}
	return true;
}

enum err sip_walk_next(const struct sip_msg *m, enum sip_h h, struct sip_walk *w, struct sip_nameaddr *ret)
{
	return walk_on(m, h, w) ? sip_nameaddr_next(&w->rest, ret) : ERR_NOTFOUND;
}

enum err sip_via_next(const struct sip_msg *m, struct sip_walk *w, struct sip_via *ret)
{
	return walk_on(m, H_VIA, w) ? sip_via_parse(&w->rest, ret) : ERR_NOTFOUND;
}

bool sip_seconds(const struct sip_msg *m, enum sip_h h, uint32_t *ret)
{
	struct span v = sip_value(m, h);

	v = sip_trim(span_sub(v, 0, span_find(v, ';')));
	v = sip_trim(span_sub(v, 0, span_find(v, '(')));
	return span_u32(v, UINT32_MAX, ret) == OK;
}
