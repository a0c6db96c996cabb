/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/fragment.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

#define LENGTH_AT 24 /* of a message, in its header */

struct span ike_datagram(struct span *rest)
{
	struct span d = *rest;

	if (d.len >= IKE_HDR) {
		uint32_t len = be32(d.p + LENGTH_AT);

		if (len >= IKE_HDR && len < d.len)
			d.len = len;
	}
	*rest = span_from(*rest, d.len);
	return d;
}

/* ---- ours ---- */

/* One fragment, at the end of what w has. head: the message's header. */
static enum err seal_one(struct wr *w, struct span head, struct ike_sk *k, const struct ike_fragment *f, uint8_t first,
			 struct span content)
{
	struct ike_header h;
	struct ike_build b;
	struct span out;
	enum err e;
	uint8_t fixed[IKE_HDR];

	memcpy(fixed, head.p, IKE_HDR);
	put_be32(fixed + LENGTH_AT, IKE_HDR);
	e = ike_header_parse(SPAN_OF(fixed), &h);
	if (e != OK)
		return e;
	ike_build_start(&b, w->p + w->len, w->cap - w->len, &h);
	ike_build_skf(&b, f->number, f->total);
	wr_patch_u8(&b.w, b.sk_at, first); /* 2.5: in the first fragment only */
	wr_span(&b.w, content);
	e = ike_build_seal(&b, k, &out);
	if (e == OK)
		w->len += out.len;
	return e;
}

enum err ike_fragment_seal(struct ike_build *b, struct ike_sk *k, struct span *ret)
{
	const size_t chunk = IKE_FRAGMENT_MAX - IKE_FRAGMENT_OVER;
	uint8_t copy[IKE_MSG_MAX], head[IKE_HDR], first;
	struct ike_fragment f = { .number = 0 };
	struct span left;
	struct wr w;
	enum err e = OK;

	ike_build_close(b);
	left = span_from(wr_done(&b->w), b->in_at);
	if (b->w.bad || left.len <= chunk)
		return ike_build_seal(b, k, ret);
	if (left.len > sizeof(copy))
		return ERR_LIMIT;
	memcpy(copy, left.p, left.len);
	memcpy(head, b->w.p, IKE_HDR);
	first = b->w.p[b->sk_at];
	left = span_of(copy, left.len);
	f.total = (uint16_t)((left.len + chunk - 1) / chunk);
	w = wr_of(b->w.p, b->w.cap);
	while (left.len && e == OK) {
		f.number++;
		e = seal_one(&w, SPAN_OF(head), k, &f, f.number == 1 ? first : IKE_P_NONE, span_sub(left, 0, chunk));
		left = span_from(left, chunk);
	}
	secret_wipe(copy, sizeof(copy));
	if (e == OK)
		*ret = wr_done(&w);
	return e;
}

/* ---- theirs ---- */

enum err ike_fragment_parse(struct span body, struct ike_fragment *ret)
{
	struct rd r = rd_of(body);
	struct ike_fragment f = { .number = rd_u16(&r) };

	f.total = rd_u16(&r);
	if (r.bad || !f.number || f.number > f.total) /* 2.6; a total of 0 is below any number */
		return ERR_MALFORMED;
	*ret = f;
	return OK;
}

static void empty(struct ike_parts *p)
{
	for (unsigned i = 0; i < IKE_FRAGMENTS_MAX; i++) {
		secret_wipe(p->part[i].p, p->part[i].len);
		free(p->part[i].p);
	}
	free(p->head);
	*p = (struct ike_parts){ .total = 0 };
}

void ike_parts_free(struct ike_parts *p)
{
	if (!p)
		return;
	empty(p);
	free(p);
}

static bool same_message(const struct ike_parts *p, const struct ike_header *h)
{
	return p->message_id == h->message_id && p->exchange == h->exchange && p->spi_i == h->spi_i &&
	       p->spi_r == h->spi_r;
}

bool ike_parts_wants(const struct ike_parts *p, const struct ike_header *h, const struct ike_fragment *f)
{
	if (f->total > IKE_FRAGMENTS_MAX)
		return false;
	if (!p || !same_message(p, h))
		return true;
	/* 2.6: fewer fragments than before is wrong, the same one again is a replay, more is a new try */
	return f->total > p->total || (f->total == p->total && !p->part[f->number - 1].p);
}

static uint8_t *copy_of(struct span s)
{
	uint8_t *p = malloc(s.len ? s.len : 1);

	if (p && s.len)
		memcpy(p, s.p, s.len);
	return p;
}

enum err ike_parts_add(struct ike_parts **p, uint64_t now_us, struct span msg, const struct ike_header *h,
		       const struct ike_fragment *f, uint8_t first, struct span content)
{
	uint8_t *copy = copy_of(content), *head = f->number == 1 ? copy_of(msg) : NULL;
	struct ike_parts *t = *p ? *p : calloc(1, sizeof(*t));

	if (!copy || !t || (f->number == 1 && !head)) {
		free(copy);
		free(head);
		if (!*p)
			free(t);
		return ERR_NOMEM;
	}
	*p = t;
	if (!t->total || !same_message(t, h) || f->total != t->total) {
		empty(t);
		t->spi_i = h->spi_i;
		t->spi_r = h->spi_r;
		t->message_id = h->message_id;
		t->exchange = h->exchange;
		t->total = f->total;
		t->until_us = now_us + IKE_FRAGMENT_KEEP_US;
	}
	t->part[f->number - 1].p = copy;
	t->part[f->number - 1].len = content.len;
	t->len += content.len;
	t->n++;
	if (head) {
		t->head = head;
		t->head_len = msg.len;
		t->first = first;
	}
	if (t->len <= IKE_MSG_MAX)
		return OK;
	ike_parts_free(t);
	*p = NULL;
	return ERR_LIMIT;
}

bool ike_parts_complete(const struct ike_parts *p)
{
	return p && p->total && p->n == p->total;
}

enum err ike_parts_join(const struct ike_parts *p, uint8_t *mem, size_t cap, struct span *ret)
{
	struct wr w = wr_of(mem, cap);

	for (unsigned i = 0; i < p->total; i++)
		wr_bytes(&w, p->part[i].p, p->part[i].len);
	if (w.bad)
		return ERR_LIMIT;
	*ret = wr_done(&w);
	return OK;
}
