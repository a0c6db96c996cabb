/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A peer that has the keys and breaks the rules: what is inside its messages is changed and sealed again, in every state.
 * covers: src/ike/sa_run.c src/ike/sa_auth.c src/ike/child.c src/ike/child_ask.c src/ike/rekey.c src/ike/rekey_ike.c src/ike/info.c
   src/ike/grant.c src/ike/lifetime.c src/ike/window.c src/ike/payload.c src/ike/payload_sa.c src/ike/payload_ts.c src/ike/proposal.c */
#include "ike_states.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rd records;

/* Which of a side's SAs, also of those that a rekeying left, is that message of? */
static struct ike_sa *sa_of(struct ike_sa *sa, const struct ike_header *h)
{
	if (sa->spi_i == h->spi_i && (sa->spi_r == h->spi_r || !h->spi_r))
		return sa;
	return ike_old_find(sa, h);
}

/* The content is changed, and sealed as its sender would have. False: there is nothing to seal. */
static bool change_inside(struct pair *p, int from, struct record c, uint8_t *msg, size_t *len)
{
	struct ike_payload *sk;
	struct ike_chain chain;
	struct ike_header h;
	struct ike_build b;
	struct ike_sa *to, *by;
	struct span inside, sealed;
	uint8_t plain[IKE_MSG_MAX], mem[IKE_MSG_MAX], first;
	struct ike_fragment f;
	size_t n;

	if (ike_header_parse(span_of(msg, *len), &h) != OK ||
	    ike_chain_parse(span_from(span_of(msg, *len), IKE_HDR), h.next, &chain) != OK || !chain.n)
		return false;
	sk = &chain.p[chain.n - 1];
	to = sa_of(p->sa[!from], &h);
	by = sa_of(p->sa[from], &h);
	if ((sk->type != IKE_P_SK && sk->type != IKE_P_SKF) || !to || !by || !to->keys.in.cipher ||
	    !by->keys.out.cipher || ike_sk_open(&to->keys.in, span_of(msg, *len), sk, plain, &inside) != OK)
		return false;
	first = c.what % N_CHANGES == TYPE ? c.value : sk->next;
	memmove(plain, inside.p, inside.len);
	n = c.what % N_CHANGES == TYPE ? inside.len : states_change(c, plain, inside.len, sizeof(plain) / 2);
	ike_build_start(&b, mem, sizeof(mem), &h);
	if (sk->type == IKE_P_SK)
		ike_build_sk(&b);
	else if (ike_fragment_parse(sk->body, &f) == OK)
		ike_build_skf(&b, f.number, f.total);
	else
		return false;
	mem[IKE_HDR] = first;
	wr_bytes(&b.w, plain, n);
	if (ike_build_seal(&b, &by->keys.out, &sealed) != OK)
		return false;
	memcpy(msg, sealed.p, sealed.len);
	*len = sealed.len;
	return true;
}

static bool on_the_way(struct pair *p, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct record c = { .what = rd_u8(&records), .value = rd_u8(&records), .where = rd_u16(&records) };

	(void)n;
	if (records.bad || c.what % N_CHANGES == KEEP)
		return true;
	if (c.what % N_CHANGES == DROP)
		return false;
	if (c.what % N_CHANGES == TWICE) {
		pair_throw(p, !from, span_of(msg, *len), FLIGHT_US / 2 + c.where);
		return true;
	}
	(void)change_inside(p, from, c, msg, len);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pair p;
	uint8_t state, flags;

	records = rd_of(span_of(data, size < 256 ? size : 256));
	state = rd_u8(&records) % N_STATES;
	flags = rd_u8(&records);
	states_begin(&p, state, flags);
	p.filter = on_the_way;
	states_go(&p, state);
	for (int i = 0; i < 6; i++) {
		pair_for(&p, SECONDS(1));
		states_check(&p);
	}
	pair_for(&p, SECONDS(60));
	states_check(&p);
	pair_done(&p);
	return 0;
}
