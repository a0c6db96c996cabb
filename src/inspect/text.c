/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/inspect_impl.h"
#include "sdp/sdp.h"
#include "sip/msg.h"

/* ---- sip ---- */

/* A folded value on one line: a line end with the blanks around it is one blank (RFC 3261, 7.3.1). */
static json_t *unfolded(struct span v)
{
	uint8_t *text = malloc(v.len + 1);
	size_t at = 0;
	json_t *ret;

	for (size_t i = 0; text && i < v.len; i++) {
		bool blank = v.p[i] == ' ' || v.p[i] == '\t';

		if (v.p[i] == '\r' || v.p[i] == '\n') {
			while (at && (text[at - 1] == ' ' || text[at - 1] == '\t'))
				at--;
			while (i + 1 < v.len && strchr("\r\n \t", v.p[i + 1]) && v.p[i + 1])
				i++;
			text[at++] = ' ';
		} else {
			text[at++] = blank ? ' ' : v.p[i];
		}
	}
	ret = text ? inspect_text(span_of(text, at)) : NULL;
	free(text);
	return ret;
}

/* Where the trouble is, as near as a sentence of the parser tells: the first line of the header that it names. */
static size_t sip_offset(struct span d, const char *why)
{
	struct span rest = d;

	if (!strcmp(why, "no end of headers") || !strcmp(why, "too long"))
		return d.len;
	for (bool first = true; rest.len; first = false) {
		struct span line = span_cut(rest, '\n', &rest), name;

		line = span_trim(line);
		if (!first && (!line.len || (line.len == 1 && line.p[0] == '\r')))
			break;
		name = span_trim(span_sub(line, 0, span_find(line, ':')));
		if (!first && span_ieq_str(name, why))
			return inspect_at(d, line.p);
	}
	return 0;
}

static json_t *sip_json(const struct sip_msg *m)
{
	json_t *headers = json_array();

	for (unsigned i = 0; i < m->n_headers; i++)
		headers = inspect_append(headers, json_pack("{s:o, s:o}", "name", inspect_text(m->headers[i].name),
							    "value", unfolded(m->headers[i].value)));
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:I}", "type", m->is_request ? "request" : "response", "method",
			 inspect_text(m->is_request ? m->method_text : m->cseq_method_text), "uri",
			 m->is_request ? inspect_text(m->uri_text) : json_null(), "status",
			 m->is_request ? json_null() : json_integer(m->status), "headers", headers, "body_len",
			 (json_int_t)m->body.len);
}

json_t *inspect_sip(struct span d, const struct inspect_options *o)
{
	struct sip_msg *m = calloc(1, sizeof(*m));
	const char *why = "";
	unsigned status = 0;
	json_t *ret = NULL;

	(void)o;
	if (m && sip_parse(d, m, &why, &status) == OK) {
		ret = inspect_yes("sip", sip_json(m));
	} else if (m) {
		ret = inspect_no("sip", why, sip_offset(d, why));
		if (status)
			ret = inspect_set(ret, "status", json_integer(status));
	}
	free(m);
	return ret;
}

/* ---- sdp ---- */

static json_t *attributes(const struct sdp_section *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->n_attrs; i++)
		list = inspect_append(list,
				      json_pack("{s:o, s:o}", "name", inspect_text(s->attrs[i].name), "value",
						s->attrs[i].has_value ? inspect_text(s->attrs[i].value) : json_null()));
	return list;
}

static json_t *media(const struct sdp_media *m)
{
	json_t *formats = json_array();

	for (unsigned i = 0; i < m->n_formats; i++)
		formats = inspect_append(formats, inspect_text(m->formats[i]));
	return json_pack("{s:o, s:I, s:o, s:o, s:o, s:o}", "type", inspect_text(m->type), "port", (json_int_t)m->port,
			 "proto", inspect_text(m->proto), "formats", formats, "connection",
			 inspect_text(m->s.connection), "attributes", attributes(&m->s));
}

json_t *inspect_sdp(struct span d, const struct inspect_options *o)
{
	struct sdp *s = calloc(1, sizeof(*s));
	const char *why = "";
	size_t offset = 0;
	json_t *ret = NULL, *list;

	(void)o;
	if (s && sdp_parse(d, s, &why, &offset) == OK) {
		list = json_array();
		for (unsigned i = 0; i < s->n_media; i++)
			list = inspect_append(list, media(&s->media[i]));
		ret = inspect_yes("sdp", json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "origin", inspect_text(s->origin),
						   "name", inspect_text(s->name), "timing", inspect_text(s->timing),
						   "connection", inspect_text(s->session.connection), "attributes",
						   attributes(&s->session), "media", list));
	} else if (s) {
		ret = inspect_no("sdp", why, offset);
	}
	free(s);
	return ret;
}
