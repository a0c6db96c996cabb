/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Cookies (RFC 7296, 2.6): <version> | HMAC(secret of that version, Ni | address | SPIi). */
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "ike/payload.h"
#include "ike/peek.h"

#define COOKIE_LEN 33
#define ROLL_US SECONDS(60) /* ours; a cookie lives one to two of these */

struct ike_cookies {
	struct rng rng;
	uint64_t rolled_us;
	uint8_t version;
	bool has_old;
	uint8_t secret[32], old[32];
};

enum err ike_cookies_new(const struct rng *rng, struct ike_cookies **ret)
{
	struct ike_cookies *c = calloc(1, sizeof(*c));

	if (!c)
		return ERR_NOMEM;
	c->rng = *rng;
	rng_fill(&c->rng, c->secret, sizeof(c->secret));
	*ret = c;
	return OK;
}

void ike_cookies_free(struct ike_cookies *c)
{
	if (!c)
		return;
	secret_wipe(c, sizeof(*c));
	free(c);
}

static void roll(struct ike_cookies *c, uint64_t now_us)
{
	if (now_us - c->rolled_us < ROLL_US)
		return;
	/* after a long silence the last secret is too old as well */
	c->has_old = now_us - c->rolled_us < 2 * ROLL_US;
	memcpy(c->old, c->secret, sizeof(c->old));
	rng_fill(&c->rng, c->secret, sizeof(c->secret));
	c->version++;
	c->rolled_us = now_us;
}

/* Header and nonce of an IKE_SA_INIT request. */
static enum err request_of(struct span msg, struct ike_header *ret, struct ike_chain *c, struct span *ret_nonce)
{
	const struct ike_payload *p;
	enum err e = ike_header_parse(msg, ret);

	if (e == OK && (ret->exchange != IKE_SA_INIT || ret->is_response || !ret->from_initiator))
		e = ERR_WRONG_STATE;
	if (e == OK)
		e = ike_chain_parse(span_from(msg, IKE_HDR), ret->next, c);
	if (e != OK)
		return e;
	p = ike_chain_find(c, IKE_P_NONCE);
	return p ? ike_nonce_parse(p->body, ret_nonce) : ERR_MALFORMED;
}

static enum err cookie_of(const uint8_t secret[32], uint8_t version, struct span nonce, const struct addr *from,
			  uint64_t spi_i, uint8_t ret[COOKIE_LEN])
{
	uint8_t tail[10];
	struct span parts[] = { nonce, addr_ip(from), SPAN_OF(tail) };

	put_be16(tail, from->port);
	put_be64(tail + 2, spi_i);
	ret[0] = version;
	return hmac_parts(HASH_SHA256, span_of(secret, 32), parts, 3, ret + 1);
}

bool ike_cookies_valid(struct ike_cookies *c, uint64_t now_us, struct span msg, const struct addr *from)
{
	struct ike_header h;
	struct ike_chain chain;
	struct ike_notify n;
	struct span nonce;
	uint8_t good[COOKIE_LEN];
	const uint8_t *secret;

	roll(c, now_us);
	if (request_of(msg, &h, &chain, &nonce) != OK || !ike_notify_find(&chain, IKE_N_COOKIE, &n) ||
	    n.data.len != COOKIE_LEN)
		return false;
	if (n.data.p[0] == c->version)
		secret = c->secret;
	else if (c->has_old && n.data.p[0] == (uint8_t)(c->version - 1))
		secret = c->old;
	else
		return false;
	return cookie_of(secret, n.data.p[0], nonce, from, h.spi_i, good) == OK &&
	       secret_eq(good, n.data.p, COOKIE_LEN);
}

enum err ike_cookies_challenge(struct ike_cookies *c, uint64_t now_us, struct span msg, const struct addr *from,
			       struct wr *w)
{
	struct ike_header h;
	struct ike_chain chain;
	struct ike_build b;
	struct span nonce, out;
	uint8_t cookie[COOKIE_LEN], mem[128];
	enum err e;

	roll(c, now_us);
	e = request_of(msg, &h, &chain, &nonce);
	if (e == OK)
		e = cookie_of(c->secret, c->version, nonce, from, h.spi_i, cookie);
	if (e != OK)
		return e;
	/* 2.6: HDR(A,0), N(COOKIE): the responder has chosen no SPI */
	h.spi_r = 0;
	h.is_response = true;
	h.from_initiator = false;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_notify(&b, IKE_N_COOKIE, SPAN_OF(cookie));
	e = ike_build_done(&b, &out);
	if (e != OK)
		return e;
	wr_span(w, out);
	return w->bad ? ERR_LIMIT : OK;
}
