/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* ---- spans ---- */

struct span span_of(const void *p, size_t len)
{
	return (struct span){ p, len };
}

struct span span_str(const char *s)
{
	return s ? (struct span){ (const uint8_t *)s, strlen(s) } : SPAN_NONE;
}

bool span_eq(struct span a, struct span b)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) a span that has bytes has a place */
	return a.len == b.len && (!a.len || !memcmp(a.p, b.p, a.len));
}

bool span_eq_str(struct span a, const char *s)
{
	return span_eq(a, span_str(s));
}

bool span_ieq(struct span a, struct span b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) as above */
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

bool span_ieq_str(struct span a, const char *s)
{
	return span_ieq(a, span_str(s));
}

int span_cmp(struct span a, struct span b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n ? memcmp(a.p, b.p, n) : 0;

	return c ? c : (a.len > b.len) - (a.len < b.len);
}

bool span_starts(struct span a, const char *prefix)
{
	struct span p = span_str(prefix);

	return a.len >= p.len && span_eq(span_sub(a, 0, p.len), p);
}

bool span_istarts(struct span a, const char *prefix)
{
	struct span p = span_str(prefix);

	return a.len >= p.len && span_ieq(span_sub(a, 0, p.len), p);
}

struct span span_sub(struct span a, size_t at, size_t len)
{
	if (at > a.len)
		at = a.len;
	if (len > a.len - at)
		len = a.len - at;
	return (struct span){ a.p ? a.p + at : NULL, len };
}

struct span span_from(struct span a, size_t at)
{
	return span_sub(a, at, a.len);
}

size_t span_find(struct span a, uint8_t c)
{
	const uint8_t *hit = a.len ? memchr(a.p, c, a.len) : NULL;

	return hit ? (size_t)(hit - a.p) : a.len;
}

size_t span_find_span(struct span a, struct span needle)
{
	const uint8_t *hit = a.len ? memmem(a.p, a.len, needle.p, needle.len) : NULL;

	return hit ? (size_t)(hit - a.p) : a.len;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

struct span span_trim(struct span a)
{
	size_t from = 0, to = a.len;

	while (from < to && is_blank(a.p[from]))
		from++;
	while (to > from && is_blank(a.p[to - 1]))
		to--;
	return span_sub(a, from, to - from);
}

struct span span_cut(struct span a, uint8_t c, struct span *rest)
{
	size_t at = span_find(a, c);

	*rest = at < a.len ? span_from(a, at + 1) : SPAN_NONE;
	return span_sub(a, 0, at);
}

struct span span_word(struct span *text)
{
	struct span t = *text;
	size_t from = 0, to;

	while (from < t.len && is_blank(t.p[from]))
		from++;
	for (to = from; to < t.len && !is_blank(t.p[to]); to++)
		;
	*text = span_from(t, to);
	return span_sub(t, from, to - from);
}

enum err span_u64(struct span a, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!a.len)
		return ERR_MALFORMED;
	for (size_t i = 0; i < a.len; i++) {
		unsigned digit = (unsigned)a.p[i] - '0';

		if (digit > 9)
			return ERR_MALFORMED;
		if (v > (max - digit) / 10 || digit > max)
			return ERR_MALFORMED;
		v = v * 10 + digit;
	}
	*ret = v;
	return OK;
}

enum err span_u32(struct span a, uint32_t max, uint32_t *ret)
{
	uint64_t v;
	enum err e = span_u64(a, max, &v);

	if (e == OK)
		*ret = (uint32_t)v;
	return e;
}

enum err span_copy_str(struct span a, char *dst, size_t cap)
{
	if (a.len >= cap)
		return ERR_LIMIT;
	if (span_find(a, 0) < a.len)
		return ERR_MALFORMED;
	if (a.len)
		memcpy(dst, a.p, a.len);
	dst[a.len] = 0;
	return OK;
}

char *span_dup(struct span a)
{
	char *s = malloc(a.len + 1);

	if (!s)
		return NULL;
	if (a.len)
		memcpy(s, a.p, a.len);
	s[a.len] = 0;
	return s;
}

/* ---- reader ---- */

uint32_t rd_u24(struct rd *r)
{
	const uint8_t *p = rd_take(r, 3);

	return p ? (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2] : 0;
}

uint64_t rd_u64(struct rd *r)
{
	const uint8_t *p = rd_take(r, 8);

	return p ? be64(p) : 0;
}

void rd_bytes(struct rd *r, void *dst, size_t len)
{
	const uint8_t *p = rd_take(r, len);

	if (p && len)
		memcpy(dst, p, len);
	else if (len)
		memset(dst, 0, len);
}

bool rd_done(const struct rd *r)
{
	return !r->bad && r->p == r->end;
}

/* ---- writer ---- */

struct wr wr_of(void *p, size_t cap)
{
	return (struct wr){ p, 0, cap, false };
}

struct span wr_done(const struct wr *w)
{
	return (struct span){ w->p, w->len };
}

uint8_t *wr_room(struct wr *w, size_t len)
{
	uint8_t *p;

	if (w->bad || w->cap - w->len < len) {
		w->bad = true;
		return NULL;
	}
	p = w->p + w->len;
	w->len += len;
	return p;
}

void wr_u8(struct wr *w, uint8_t v)
{
	uint8_t *p = wr_room(w, 1);

	if (p)
		*p = v;
}

void wr_u16(struct wr *w, uint16_t v)
{
	uint8_t *p = wr_room(w, 2);

	if (p)
		put_be16(p, v);
}

void wr_u24(struct wr *w, uint32_t v)
{
	uint8_t *p = wr_room(w, 3);

	if (!p)
		return;
	p[0] = (uint8_t)(v >> 16);
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)v;
}

void wr_u32(struct wr *w, uint32_t v)
{
	uint8_t *p = wr_room(w, 4);

	if (p)
		put_be32(p, v);
}

void wr_u64(struct wr *w, uint64_t v)
{
	uint8_t *p = wr_room(w, 8);

	if (p)
		put_be64(p, v);
}

void wr_bytes(struct wr *w, const void *src, size_t len)
{
	uint8_t *p = wr_room(w, len);

	if (p && len)
		memcpy(p, src, len);
}

void wr_span(struct wr *w, struct span s)
{
	wr_bytes(w, s.p, s.len);
}

void wr_zero(struct wr *w, size_t len)
{
	uint8_t *p = wr_room(w, len);

	if (p && len)
		memset(p, 0, len);
}

void wr_str(struct wr *w, const char *s)
{
	wr_span(w, span_str(s));
}

void wr_fmt(struct wr *w, const char *fmt, ...)
{
	va_list args, again;
	int n;

	if (w->bad)
		return;
	va_start(args, fmt);
	va_copy(again, args);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	/* vsnprintf also writes a NUL, for which the last free byte may be missing: then a copy is used. */
	if (n < 0 || (size_t)n > w->cap - w->len) {
		w->bad = true;
	} else if ((size_t)n < w->cap - w->len) {
		(void)vsnprintf((char *)w->p + w->len, w->cap - w->len, fmt, again);
		w->len += (size_t)n;
	} else {
		char *text = malloc((size_t)n + 1);

		if (text) {
			(void)vsnprintf(text, (size_t)n + 1, fmt, again);
			wr_bytes(w, text, (size_t)n);
		} else {
			w->bad = true;
		}
		free(text);
	}
	va_end(again);
}

size_t wr_open16(struct wr *w)
{
	size_t at = w->len;

	wr_u16(w, 0);
	return at;
}

void wr_close16(struct wr *w, size_t at, size_t extra)
{
	size_t n = w->len - at - 2 + extra;

	if (w->bad || n > UINT16_MAX)
		w->bad = true;
	else
		put_be16(w->p + at, (uint16_t)n);
}

size_t wr_open32(struct wr *w)
{
	size_t at = w->len;

	wr_u32(w, 0);
	return at;
}

void wr_close32(struct wr *w, size_t at, size_t extra)
{
	size_t n = w->len - at - 4 + extra;

	if (w->bad || n > UINT32_MAX)
		w->bad = true;
	else
		put_be32(w->p + at, (uint32_t)n);
}

/* Patching outside of what was written is our own mistake, but must not reach memory. */
static uint8_t *wr_at(struct wr *w, size_t at, size_t len)
{
	if (w->bad || at > w->len || w->len - at < len) {
		w->bad = true;
		return NULL;
	}
	return w->p + at;
}

void wr_patch_u8(struct wr *w, size_t at, uint8_t v)
{
	uint8_t *p = wr_at(w, at, 1);

	if (p)
		*p = v;
}

void wr_patch_u16(struct wr *w, size_t at, uint16_t v)
{
	uint8_t *p = wr_at(w, at, 2);

	if (p)
		put_be16(p, v);
}

void wr_patch_u32(struct wr *w, size_t at, uint32_t v)
{
	uint8_t *p = wr_at(w, at, 4);

	if (p)
		put_be32(p, v);
}

void wr_lp(struct wr *w, struct span s)
{
	if (s.len > UINT32_MAX) {
		w->bad = true;
		return;
	}
	wr_u32(w, (uint32_t)s.len);
	wr_span(w, s);
}

/* ---- byte order ---- */
