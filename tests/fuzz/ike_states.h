/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/fuzz/ike_states.h - two SAs brought into a state, whose next messages are changed on their way. An input is one byte for
 * the state, one of flags, and then records of four bytes, each for one datagram: what is done, where (two bytes), with what. */
#pragma once
#include "../unit/ike_pair.h"
#include "replay.h"

const unsigned fuzz_replay_cuts = 16;

enum change { KEEP, XOR, SET, CUT, DOUBLE, DROP, TWICE, TYPE, N_CHANGES };
struct record {
	uint8_t what, value;
	uint16_t where;
};

/* One change of the n bytes in m, of which there is room for cap; what a change does not know is an XOR. */
static inline size_t states_change(struct record c, uint8_t *m, size_t n, size_t cap)
{
	size_t at = n ? c.where % n : 0, len = 1 + (size_t)c.value % 64;

	if (!n)
		return n;
	if (len > n - at)
		len = n - at;
	switch (c.what % N_CHANGES) {
	case KEEP: break;
	case SET: m[at] = c.value; break;
	case CUT: /* a piece is missing */ memmove(m + at, m + at + len, n - at - len); return n - len;
	case DOUBLE: /* a piece is there twice */
		if (n + len > cap)
			break;
		memmove(m + at + len, m + at, n - at);
		return n + len;
	default: m[at] ^= (uint8_t)(c.value ? c.value : 1); break;
	}
	return n;
}

/* What the owners do at first: the state is what is under way when the changes begin. */
enum state {
	S_INIT, /* nothing sent yet */
	S_AUTH, /* IKE_SA_INIT is over */
	S_ASKED, /* the responder's owner has not decided */
	S_UP,
	S_CHILD, /* CREATE_CHILD_SA for one more */
	S_CHILD_DELETE,
	S_REKEY_CHILD,
	S_REKEY_IKE,
	S_REKEY_BOTH, /* by both sides at once */
	S_REKEY_IKE_BOTH,
	S_LATER, /* a grant that comes later */
	S_LIVENESS,
	S_DELETE,
	S_DELETE_REKEY, /* one deletes, the other rekeys */
	N_STATES
};

static inline void states_begin(struct pair *p, uint8_t state, uint8_t flags)
{
	static const uint64_t stops_us[] = { 0, 2 * FLIGHT_US, 3 * FLIGHT_US };

	pair_init(p, 1);
	for (int i = 0; i < 2; i++) {
		p->cfg[i].dpd_s = flags & 1 ? 30 : 0;
		if (flags & 2) {
			p->cfg[i].ike_life_s = 60;
			p->cfg[i].child_life_s = 20;
		}
	}
	p->undecided = state == S_ASKED;
	if (state == S_LATER)
		p->decision.verdict = IKE_WAITING;
	if (pair_new(p) != OK || ike_sa_start(p->sa[ALICE], p->now_us, &p->path[ALICE]) != OK)
		abort();
	pair_for(p, state < S_UP ? stops_us[state] : SECONDS(1));
}

/* What begins the exchange that the state is named after. */
static inline void states_go(struct pair *p, uint8_t state)
{
	struct ike_sa **sa = p->sa;
	uint32_t spi[2] = { p->children[ALICE][0].spi_in, p->children[BOB][0].spi_in };

	switch (state) {
	case S_ASKED: ike_sa_decide(sa[BOB], p->now_us, &p->decision); break;
	case S_CHILD:
		(void)!ike_sa_child_create(sa[ALICE], p->now_us, 7, 102, &p->cfg[ALICE].tsi, &p->cfg[ALICE].tsr);
		break;
	case S_CHILD_DELETE: (void)!ike_sa_child_delete(sa[BOB], p->now_us, spi[BOB]); break;
	case S_REKEY_CHILD: (void)!ike_sa_child_rekey(sa[ALICE], p->now_us, spi[ALICE]); break;
	case S_REKEY_IKE: (void)!ike_sa_rekey(sa[BOB], p->now_us); break;
	case S_REKEY_BOTH:
		for (int i = 0; i < 2; i++)
			(void)!ike_sa_child_rekey(sa[i], p->now_us, spi[i]);
		break;
	case S_REKEY_IKE_BOTH:
		for (int i = 0; i < 2; i++)
			(void)!ike_sa_rekey(sa[i], p->now_us);
		break;
	case S_LATER:
		p->decision.verdict = IKE_GRANTED;
		(void)!ike_sa_grant_later(sa[BOB], p->now_us, &p->decision);
		break;
	case S_LIVENESS: ike_sa_probe(sa[ALICE], p->now_us); break;
	case S_DELETE: ike_sa_delete(sa[BOB], p->now_us); break;
	case S_DELETE_REKEY:
		ike_sa_delete(sa[ALICE], p->now_us);
		(void)!ike_sa_rekey(sa[BOB], p->now_us);
		break;
	default: break;
	}
}

/* Whatever happened: limits hold, nothing is up at a dead one, every SPI is one of ours. */
static inline void states_check(const struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		const struct ike_sa *sa = p->sa[i];

		if (sa->n_children > IKE_CHILDREN_ALL ||
		    (sa->state == IKE_DEAD && (sa->n_children || sa->keys.out.cipher)))
			abort();
		if (sa->state >= IKE_UP && sa->state < IKE_DEAD && sa->setup)
			abort();
		for (unsigned j = 0; j < sa->n_children; j++)
			if (sa->children[j].spi_in < IKE_ESP_SPI_OURS)
				abort();
		if (p->n_events[i][IKE_EV_AUTHENTICATED] > 1)
			abort();
	}
}

/* A Child SA that both have has the same keys on both sides, whoever wrote between them without any. */
static inline void states_same_keys(const struct pair *p)
{
	for (unsigned a = 0; a < p->n_children[ALICE]; a++)
		for (unsigned b = 0; b < p->n_children[BOB]; b++) {
			const struct ike_child *x = &p->children[ALICE][a], *y = &p->children[BOB][b];

			if (x->spi_in == y->spi_out && x->spi_out == y->spi_in && x->alg == y->alg &&
			    (memcmp(x->key_in, y->key_out, x->key_len) != 0 ||
			     memcmp(x->key_out, y->key_in, x->key_len) != 0))
				abort();
		}
}
