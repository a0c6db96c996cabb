/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/token.c - the user part of our Record-Route (RFC 5626, 5: a flow token). It names both sides of one call: whose
 * device, and by which flow; so requests in the dialog find their way without a table of dialogs. It is sealed with a key
 * of this process and the Call-ID: nobody can make one, use it for another call, or read from it where the other side is. */
#include <string.h>

#include "base/text.h"
#include "crypto/aead.h"
#include "exchange/impl.h"

#define PLAIN_MAX 96
#define SEALED_MAX (AEAD_NONCE + PLAIN_MAX + AEAD_TAG)
_Static_assert(2 * SEALED_MAX < TOKEN_TEXT, "a token fits");

static void put_addr(struct wr *w, const struct addr *a)
{
	wr_u8(w, (uint8_t)a->family);
	wr_span(w, addr_ip(a));
	wr_u16(w, a->port);
}

static struct addr get_addr(struct rd *r)
{
	uint8_t family = rd_u8(r);
	struct span ip = rd_span(r, family == ADDR_IP6 ? 16 : 4);
	uint16_t port = rd_u16(r);

	return addr_of(ip, port);
}

/* A stream is its number: its addresses are known where it is. */
static void put_side(struct wr *w, const struct side *s)
{
	wr_u16(w, (uint16_t)s->user);
	wr_u8(w, (uint8_t)s->path.transport);
	if (s->path.transport != TRANSPORT_UDP) {
		wr_u64(w, s->path.stream);
		return;
	}
	put_addr(w, &s->path.local);
	put_addr(w, &s->path.remote);
}

static struct side get_side(struct rd *r)
{
	struct side s = { .user = rd_u16(r) };

	s.path.transport = (enum transport)rd_u8(r);
	if (s.path.transport != TRANSPORT_UDP) {
		s.path.stream = rd_u64(r);
		return s;
	}
	s.path.local = get_addr(r);
	s.path.remote = get_addr(r);
	return s;
}

enum err token_write(struct exchange *x, const struct token *t, struct span call_id, char ret[TOKEN_TEXT])
{
	uint8_t bytes[SEALED_MAX];
	struct wr w = wr_of(bytes + AEAD_NONCE, PLAIN_MAX);
	enum err e;

	rng_fill(x->env.rng, bytes, AEAD_NONCE);
	wr_u32(&w, t->caller_tag);
	put_side(&w, &t->caller);
	put_side(&w, &t->callee);
	if (w.bad)
		return ERR_LIMIT;
	e = aead_seal(x->seal, bytes, call_id, wr_done(&w), bytes + AEAD_NONCE);
	if (e == OK)
		hex_write(span_of(bytes, AEAD_NONCE + w.len + AEAD_TAG), ret, TOKEN_TEXT);
	return e;
}

enum err token_parse(struct exchange *x, struct span text, struct span call_id, struct token *ret)
{
	uint8_t bytes[SEALED_MAX];
	struct token t;
	struct rd r;
	size_t len;
	enum err e;

	if (hex_parse(text, false, bytes, sizeof(bytes), &len) != OK || len < AEAD_NONCE + AEAD_TAG)
		return ERR_MALFORMED;
	e = aead_open(x->seal, bytes, call_id, span_of(bytes + AEAD_NONCE, len - AEAD_NONCE), bytes + AEAD_NONCE);
	if (e != OK)
		return e;
	r = rd_of(span_of(bytes + AEAD_NONCE, len - AEAD_NONCE - AEAD_TAG));
	t.caller_tag = rd_u32(&r);
	t.caller = get_side(&r);
	t.callee = get_side(&r);
	if (!rd_done(&r) || t.caller.user >= x->cfg->n_users || t.callee.user >= x->cfg->n_users)
		return ERR_MALFORMED;
	*ret = t;
	return OK;
}

uint32_t token_tag(const struct exchange *x, struct span tag)
{
	uint8_t mac[HASH_MAX];

	return hmac_of(HASH_SHA256, SPAN_OF(x->tag_secret), tag, mac) == OK ? be32(mac) : 0;
}
