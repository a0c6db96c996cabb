/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* canon(description): the security lines of the IKE media section in one form (docs/protocol.md). What a session border
 * controller may touch (c=, port, candidates, mid, ice-options) is not in it. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "sdp/effective.h"
#include "sdp/ike.h"

/* Enough for every line that can be in it: limits of the parser and of each kind. */
#define CANON_LINES_MAX (SDP_ATTRS_MAX + 8)

struct canon {
	struct wr w; /* the lines in the order of finding */
	struct span lines[CANON_LINES_MAX];
	unsigned n;
	bool bad;
};

static size_t line_begin(struct canon *c, const char *name)
{
	size_t at = c->w.len;

	wr_str(&c->w, name);
	wr_u8(&c->w, ':');
	return at;
}

static void line_end(struct canon *c, size_t at)
{
	wr_u8(&c->w, '\n');
	if (c->n == CANON_LINES_MAX || c->w.bad)
		c->bad = true;
	else
		c->lines[c->n++] = span_of(c->w.p + at, c->w.len - at);
}

static void put_lower(struct canon *c, struct span v)
{
	for (size_t i = 0; i < v.len; i++)
		wr_u8(&c->w, ascii_lower(v.p[i]));
}

/* Hash name lower case, one blank, hex upper case with colons. */
static void put_fingerprints(struct canon *c, const struct sdp *d, unsigned index, const char *name)
{
	struct effective e = effective_of(d, index, name);
	const struct sdp_attr *a;

	while ((a = effective_next(&e))) {
		struct span v = a->value, hash = span_word(&v), hex = span_word(&v);
		uint8_t bytes[128];
		char text[3 * sizeof(bytes)];
		size_t at = line_begin(c, name), len;

		put_lower(c, hash);
		wr_u8(&c->w, ' ');
		if (hex_parse(hex, true, bytes, sizeof(bytes), &len) != OK || span_trim(v).len)
			c->bad = true;
		else
			wr_str(&c->w, hex_colon_write(span_of(bytes, len), text, sizeof(text)));
		line_end(c, at);
	}
}

static void put_effective(struct canon *c, const struct sdp *d, unsigned index, const char *name)
{
	struct effective e = effective_of(d, index, name);
	const struct sdp_attr *a;

	while ((a = effective_next(&e))) {
		size_t at = line_begin(c, name);

		wr_span(&c->w, span_trim(a->value));
		line_end(c, at);
	}
}

static int by_bytes(const void *a, const void *b)
{
	return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

static void put_all(struct canon *c, const struct sdp *d, unsigned index, bool is_answer)
{
	const struct sdp_section *s = &d->media[index].s;
	bool twice;
	const struct sdp_attr *setup = effective_setup(d, index, &twice);
	size_t at = line_begin(c, "fmt");

	put_lower(c, d->media[index].formats[0]);
	line_end(c, at);
	at = line_begin(c, "ike-setup");
	put_lower(c, setup ? span_trim(setup->value) : is_answer ? SPAN_LIT("passive") : SPAN_LIT("active"));
	line_end(c, at);
	put_fingerprints(c, d, index, "fingerprint");
	put_fingerprints(c, d, index, "psk-fingerprint");
	put_effective(c, d, index, "ice-ufrag");
	put_effective(c, d, index, "ice-pwd");
	for (unsigned i = 0; i < s->n_attrs; i++) {
		if (!span_istarts(s->attrs[i].name, "tieline-") || span_ieq_str(s->attrs[i].name, "tieline-sig"))
			continue;
		at = c->w.len;
		put_lower(c, s->attrs[i].name);
		wr_u8(&c->w, ':');
		wr_span(&c->w, span_trim(s->attrs[i].value));
		line_end(c, at);
	}
}

enum err sdp_ike_canon(const struct sdp *d, unsigned index, bool is_answer, uint8_t *dst, size_t cap, size_t *ret_len)
{
	struct canon *c;
	struct wr out = wr_of(dst, cap);
	uint8_t *mem;
	enum err e = ERR_NOMEM;

	if (index >= d->n_media)
		return ERR_NOTFOUND;
	c = calloc(1, sizeof(*c));
	mem = malloc(SDP_TEXT_MAX);
	if (c && mem) {
		c->w = wr_of(mem, SDP_TEXT_MAX);
		put_all(c, d, index, is_answer);
		qsort(c->lines, c->n, sizeof(c->lines[0]), by_bytes);
		for (unsigned i = 0; i < c->n; i++)
			wr_span(&out, c->lines[i]);
		e = c->bad ? ERR_MALFORMED : out.bad ? ERR_LIMIT : OK;
	}
	if (e == OK)
		*ret_len = out.len;
	free(mem);
	free(c);
	return e;
}
