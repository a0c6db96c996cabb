/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/buf.h - spans, and the bounded reader and writer through which every byte
 * from outside passes. No other file does pointer arithmetic on received data.
 *
 * Reader: a failed read yields zero (or an empty span) and sets `bad`, for good.
 * A value may be used for a decision only after `bad` was checked; a loop tests
 * rd_left(), never a value it has just read. Finish with rd_done(), or say in a
 * comment that trailing bytes are allowed and where the RFC allows them.
 *
 * Writer: writes into memory that the caller owns; the first write that does not
 * fit sets `bad` and later ones do nothing. Check `bad` once, at the end.
 *
 * All integers on the wire are big-endian. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

/* Borrowed bytes, or text that is not NUL-terminated. p may be NULL when len is 0. */
struct span {
	const uint8_t *p;
	size_t len;
};

#define SPAN_NONE ((struct span){ NULL, 0 })
#define SPAN_OF(array) ((struct span){ (const uint8_t *)(array), sizeof(array) })
/* A string literal, without its NUL. */
#define SPAN_LIT(lit) ((struct span){ (const uint8_t *)("" lit), sizeof(lit) - 1 })

struct span span_of(const void *p, size_t len);
struct span span_str(const char *s); /* NULL gives an empty span */
bool span_eq(struct span a, struct span b); /* not constant time: never for secrets */
bool span_eq_str(struct span a, const char *s);
bool span_ieq(struct span a, struct span b); /* ASCII case ignored */
bool span_ieq_str(struct span a, const char *s);
int span_cmp(struct span a, struct span b); /* bytewise, shorter first on a common prefix */
bool span_starts(struct span a, const char *prefix);
bool span_istarts(struct span a, const char *prefix);
struct span span_sub(struct span a, size_t at, size_t len); /* clipped to a */
struct span span_from(struct span a, size_t at); /* the rest from `at`, clipped */
/* Index of the first c, or a.len. */
size_t span_find(struct span a, uint8_t c);
size_t span_find_span(struct span a, struct span needle);
struct span span_trim(struct span a); /* outer blanks and tabs away */
/* Cuts at the first c: the part before is returned, *rest is what follows c (empty
 * with p NULL if there was no c). */
struct span span_cut(struct span a, uint8_t c, struct span *rest);
/* Next word of text separated by blanks; moves *text on. Empty at the end. */
struct span span_word(struct span *text);
/* Decimal digits only, at least one, no sign, no blank, at most `max`. */
MUST_CHECK enum err span_u64(struct span a, uint64_t max, uint64_t *ret);
MUST_CHECK enum err span_u32(struct span a, uint32_t max, uint32_t *ret);
/* Copies as a C string. ERR_LIMIT if it does not fit with its NUL, ERR_MALFORMED if it contains a NUL. */
MUST_CHECK enum err span_copy_str(struct span a, char *dst, size_t cap);
/* malloc'd C string, caller frees; NULL when out of memory. Stops for nothing: a NUL inside is copied. */
char *span_dup(struct span a);

/* Big-endian numbers at any address. Defined here, as what follows: every byte of a packet's headers goes through them. */
static inline uint16_t be16(const void *p)
{
	const uint8_t *b = p;

	return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t be32(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static inline uint64_t be64(const void *p)
{
	const uint8_t *b = p;

	return (uint64_t)be32(b) << 32 | be32(b + 4);
}

static inline void put_be16(void *p, uint16_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static inline void put_be32(void *p, uint32_t v)
{
	uint8_t *b = p;

	put_be16(b, (uint16_t)(v >> 16));
	put_be16(b + 2, (uint16_t)v);
}

static inline void put_be64(void *p, uint64_t v)
{
	uint8_t *b = p;

	put_be32(b, (uint32_t)(v >> 32));
	put_be32(b + 4, (uint32_t)v);
}

struct rd {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct rd rd_of(struct span s)
{
	static const uint8_t nothing;
	const uint8_t *p = s.p ? s.p : &nothing;

	return (struct rd){ p, p + s.len, false };
}

static inline size_t rd_left(const struct rd *r)
{
	return (size_t)(r->end - r->p);
}

/* The only place where the reader moves; NULL when len bytes are not there. */
static inline const uint8_t *rd_take(struct rd *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->bad || rd_left(r) < len) {
		r->bad = true;
		r->p = r->end;
		return NULL;
	}
	r->p += len;
	return p;
}

static inline uint8_t rd_u8(struct rd *r)
{
	const uint8_t *p = rd_take(r, 1);

	return p ? *p : 0;
}

static inline uint16_t rd_u16(struct rd *r)
{
	const uint8_t *p = rd_take(r, 2);

	return p ? be16(p) : 0;
}

static inline uint32_t rd_u32(struct rd *r)
{
	const uint8_t *p = rd_take(r, 4);

	return p ? be32(p) : 0;
}

/* Borrowed from the buffer. */
static inline struct span rd_span(struct rd *r, size_t len)
{
	const uint8_t *p = rd_take(r, len);

	return p ? (struct span){ p, len } : SPAN_NONE;
}

/* Everything left. */
static inline struct span rd_rest(struct rd *r)
{
	return rd_span(r, rd_left(r));
}

static inline void rd_skip(struct rd *r, size_t len)
{
	(void)rd_take(r, len);
}

/* A reader confined to the next len bytes; the parent moves past them. On overrun both are bad. */
static inline struct rd rd_sub(struct rd *r, size_t len)
{
	const uint8_t *p = rd_take(r, len);

	if (!p)
		return (struct rd){ r->end, r->end, true };
	return (struct rd){ p, p + len, false };
}

uint32_t rd_u24(struct rd *r);
uint64_t rd_u64(struct rd *r);
void rd_bytes(struct rd *r, void *dst, size_t len); /* dst is zeroed on overrun */
bool rd_done(const struct rd *r); /* nothing overrun, nothing left */

struct wr {
	uint8_t *p;
	size_t len, cap;
	bool bad;
};

struct wr wr_of(void *p, size_t cap);
struct span wr_done(const struct wr *w); /* what was written */
void wr_u8(struct wr *w, uint8_t v);
void wr_u16(struct wr *w, uint16_t v);
void wr_u24(struct wr *w, uint32_t v);
void wr_u32(struct wr *w, uint32_t v);
void wr_u64(struct wr *w, uint64_t v);
void wr_bytes(struct wr *w, const void *p, size_t len);
void wr_span(struct wr *w, struct span s);
void wr_zero(struct wr *w, size_t len);
void wr_str(struct wr *w, const char *s); /* without its NUL */
void wr_fmt(struct wr *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Reserves len bytes to be filled by the caller, NULL when they do not fit. */
uint8_t *wr_room(struct wr *w, size_t len);
/* A length field written later: open reserves it and returns its offset; close fills
 * in the number of bytes written after the field plus `extra` (the RFCs differ on
 * whether a length counts its own header). Sets bad if it does not fit. */
size_t wr_open16(struct wr *w);
void wr_close16(struct wr *w, size_t at, size_t extra);
size_t wr_open32(struct wr *w);
void wr_close32(struct wr *w, size_t at, size_t extra);
void wr_patch_u8(struct wr *w, size_t at, uint8_t v);
void wr_patch_u16(struct wr *w, size_t at, uint16_t v);
void wr_patch_u32(struct wr *w, size_t at, uint32_t v);
/* lp(x): 4-byte length, then x (the project's own formats). */
void wr_lp(struct wr *w, struct span s);
