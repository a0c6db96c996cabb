/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* New keys, by either side, by both at once, and against everything else that may be under way (RFC 7296, 1.3.2,
 * 1.3.3, 2.8, 2.25). Where the order matters, messages are passed by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "harness.h"
#include "ike_pair.h"

static struct pair p;

static void begin_with(uint64_t seed, uint32_t ike_life_s, uint32_t child_life_s)
{
	pair_init(&p, seed);
	for (int i = 0; i < 2; i++) {
		p.cfg[i].ike_life_s = ike_life_s;
		p.cfg[i].child_life_s = child_life_s;
	}
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, MS(100));
	assert_true(pair_up(&p) && p.n_children[ALICE] == 1);
}

static void begin(uint64_t seed)
{
	begin_with(seed, 0, 0);
}

/* ---- by hand ---- */

static struct post {
	uint8_t bytes[IKE_MSG_MAX];
	size_t len;
} box[2][64];
static unsigned n_box[2];

static bool collect(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct post *m = &box[from][n_box[from]++ % 64];

	(void)q;
	(void)n;
	memcpy(m->bytes, msg, *len);
	m->len = *len;
	return false;
}

/* What both sides have to say goes into their boxes. */
static void turn(void)
{
	pair_run(&p, p.now_us);
}

static void by_hand(void)
{
	n_box[0] = n_box[1] = 0;
	p.filter = collect;
	turn();
}

/* The n-th message since by_hand() arrives. */
static void pass(int from, unsigned n)
{
	assert_true(n < n_box[from]);
	ike_sa_input(p.sa[!from], p.now_us, &p.path[!from], span_of(box[from][n].bytes, box[from][n].len));
	turn();
}

static struct ike_header header_of(int from, unsigned n)
{
	struct ike_header h;

	assert_true(n < n_box[from]);
	assert_int_equal(ike_header_parse(span_of(box[from][n].bytes, box[from][n].len), &h), OK);
	return h;
}

/* The error in a message that its receiver has keys for, 0: none. */
static uint16_t error_in(int from, unsigned n, struct ike_sa *receiver)
{
	struct span msg = span_of(box[from][n].bytes, box[from][n].len), inner;
	struct ike_header h = header_of(from, n);
	static struct ike_chain c, in;
	static uint8_t plain[IKE_MSG_MAX];

	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), h.next, &c), OK);
	assert_int_equal(ike_sk_open(&receiver->keys.in, msg, &c.p[0], plain, &inner), OK);
	assert_int_equal(ike_chain_parse(inner, c.p[0].next, &in), OK);
	return ike_notify_error(&in);
}

/* ---- what must be so in the end ---- */

static const struct ike_child *up_of(int side, uint32_t spi_in)
{
	for (unsigned i = 0; i < p.n_children[side] && i < 32; i++)
		if (p.children[side][i].spi_in == spi_in)
			return &p.children[side][i];
	return NULL;
}

/* After all is said both hold the same IKE SA and the same n Child SAs, none of which waits for its end. */
static void settled(unsigned n)
{
	p.filter = NULL;
	pair_for(&p, SECONDS(40));
	assert_true(pair_up(&p));
	assert_true(p.sa[ALICE]->spi_i == p.sa[BOB]->spi_i && p.sa[ALICE]->spi_r == p.sa[BOB]->spi_r);
	assert_true(p.sa[ALICE]->from_initiator != p.sa[BOB]->from_initiator);
	assert_int_equal(p.sa[ALICE]->n_children, n);
	assert_int_equal(p.sa[BOB]->n_children, n);
	if (n) /* the grant went on without a break */
		assert_true(!p.n_over[ALICE] && !p.n_over[BOB]);
	for (unsigned i = 0; i < n; i++) {
		const struct ike_child_sa *a = &p.sa[ALICE]->children[i];
		int b = ike_child_find(p.sa[BOB], a->spi_out, a->spi_in);
		const struct ike_child *ka = up_of(ALICE, a->spi_in), *kb = up_of(BOB, a->spi_out);

		assert_true(b >= 0 && !a->deleting && !a->replaced && !a->silent);
		assert_true(!p.sa[BOB]->children[b].deleting && !p.sa[BOB]->children[b].replaced);
		assert_true(!memcmp(&a->ts->local, &p.sa[BOB]->children[b].ts->peer, sizeof(a->ts->local)));
		assert_int_equal(a->grant_id, p.sa[BOB]->children[b].grant_id);
		if (p.n_children[ALICE] == 32 || p.n_children[BOB] == 32) /* there was no room to note them all */
			continue;
		assert_true(ka && kb && ka->key_len == kb->key_len);
		assert_memory_equal(ka->key_in, kb->key_out, ka->key_len);
		assert_memory_equal(ka->key_out, kb->key_in, ka->key_len);
	}
	assert_true(!p.sa[ALICE]->queue && !p.sa[ALICE]->task && !p.sa[BOB]->queue && !p.sa[BOB]->task);
	assert_true(!p.sa[ALICE]->rival && !p.sa[BOB]->rival);
	/* and their keys are good both ways */
	for (int i = 0; i < 2; i++) {
		unsigned sent = p.n_sent;

		ike_sa_probe(p.sa[i], p.now_us);
		pair_for(&p, MS(100));
		assert_int_equal(p.n_sent, sent + 2);
	}
	assert_true(pair_up(&p));
}

static void over(uint64_t seconds)
{
	p.filter = NULL;
	pair_for(&p, SECONDS(seconds));
	/* old SAs are forgotten after a minute */
	pair_for(&p, SECONDS(61));
	for (int i = 0; i < 2; i++)
		for (unsigned k = 0; k < IKE_OLD_MAX; k++)
			assert_null(p.sa[i]->old[k]);
	pair_done(&p);
}

/* ---- one side ---- */

/* a -> b CREATE_CHILD_SA N(REKEY_SA), b -> a answer, a -> b INFORMATIONAL D(old), b -> a D(old). */
static void child_by_one(void **state)
{
	(void)state;
	for (int by = 0; by < 2; by++) {
		int other = !by;
		uint32_t was;

		begin((uint64_t)by);
		was = p.children[by][0].spi_in;
		by_hand();
		assert_int_equal(ike_sa_child_rekey(p.sa[by], p.now_us, was), OK);
		assert_int_equal(ike_sa_child_rekey(p.sa[by], p.now_us, was), OK); /* under way */
		turn();
		assert_int_equal(n_box[by], 1);
		pass(by, 0);
		/* the one who is asked receives by both, and sends by the old one */
		assert_int_equal(p.n_children[other], 2);
		assert_true(p.children[other][1].standby && !p.children[other][1].redundant);
		assert_int_equal(p.children[other][1].replaces, p.children[other][0].spi_in);
		assert_int_equal(p.n_events[other][IKE_EV_CHILD_GONE] + p.n_events[by][IKE_EV_CHILD_GONE], 0);
		pass(other, 0);
		assert_int_equal(p.n_children[by], 2);
		assert_true(!p.children[by][1].standby && p.children[by][1].replaces == was);
		assert_true(pair_child_same(&p, 1));
		assert_memory_not_equal(p.children[by][1].key_in, p.children[by][0].key_in, 16);
		assert_memory_equal(&p.children[by][1].ts_peer, &p.children[by][0].ts_peer, sizeof(struct ike_ts_list));
		assert_int_equal(p.children[by][1].grant_id, 101);
		assert_int_equal(p.n_events[by][IKE_EV_CHILD_GONE], 0);
		pass(by, 1);
		assert_int_equal(p.n_events[other][IKE_EV_CHILD_GONE], 1);
		assert_true(p.last[other][IKE_EV_CHILD_GONE].replaced);
		assert_int_equal(p.last[other][IKE_EV_CHILD_GONE].child.spi_out, was);
		pass(other, 1);
		assert_true(p.last[by][IKE_EV_CHILD_GONE].replaced);
		assert_int_equal(p.last[by][IKE_EV_CHILD_GONE].child.spi_in, was);
		assert_int_equal(n_box[by] + n_box[other], 4);
		assert_int_equal(ike_sa_child_rekey(p.sa[by], p.now_us, was), ERR_NOTFOUND);
		settled(1);
		over(1);
	}
}

/* a -> b CREATE_CHILD_SA SA, Ni, KE; b -> a SA, Nr, KE; a -> b over the old one D(); b -> a empty. Then the new
 * one: message IDs from 0, the initiator flag is that of who rekeyed (3.1), the Child SA is its own. */
static void ike_by_one(void **state)
{
	(void)state;
	for (int by = 0; by < 2; by++) {
		int other = !by;
		uint64_t was_i, was_local;
		struct ike_header h;

		begin((uint64_t)by);
		was_i = p.sa[ALICE]->spi_i;
		was_local = ike_sa_local_spi(p.sa[other]);
		by_hand();
		assert_int_equal(ike_sa_rekey(p.sa[by], p.now_us), OK);
		assert_int_equal(ike_sa_rekey(p.sa[by], p.now_us), OK);
		turn();
		pass(by, 0);
		assert_int_equal(p.n_events[other][IKE_EV_REKEYED], 1);
		pass(other, 0);
		assert_int_equal(p.n_events[by][IKE_EV_REKEYED], 1);
		h = header_of(by, 1);
		assert_true(h.spi_i == was_i && h.exchange == IKE_INFORMATIONAL); /* the last request of the old one */
		pass(by, 1);
		pass(other, 1);
		assert_int_equal(n_box[by] + n_box[other], 4);
		assert_true(p.sa[ALICE]->spi_i != was_i && pair_up(&p));
		assert_true(p.sa[by]->from_initiator && !p.sa[other]->from_initiator);
		assert_true(ike_sa_has_spi(p.sa[other], was_local));
		/* a duplicate of the old one's last request is answered as before */
		pass(by, 1);
		assert_int_equal(n_box[other], 3);
		assert_memory_equal(box[other][2].bytes, box[other][1].bytes, box[other][1].len);
		ike_sa_probe(p.sa[other], p.now_us);
		turn();
		h = header_of(other, 3);
		assert_true(h.message_id == 0 && h.spi_i == p.sa[ALICE]->spi_i && !h.from_initiator);
		pass(other, 3);
		pass(by, 2);
		settled(1);
		assert_true(ike_sa_child_rekey(p.sa[other], p.now_us, p.children[other][0].spi_in) == OK);
		settled(1);
		assert_int_equal(p.n_children[by], 2);
		pair_for(&p, SECONDS(60));
		assert_false(ike_sa_has_spi(p.sa[other], was_local));
		/* again, by the other one */
		assert_int_equal(ike_sa_rekey(p.sa[other], p.now_us), OK);
		settled(1);
		assert_true(p.sa[other]->from_initiator);
		ike_sa_delete(p.sa[by], p.now_us);
		pair_for(&p, SECONDS(1));
		assert_true(p.n_events[by][IKE_EV_CLOSED] == 1 && p.n_events[other][IKE_EV_CLOSED] == 1);
		over(1);
	}
}

/* ---- both at once ---- */

/* 2.8.1:  a -> N(REKEY_SA a1) a2, Ni1     b -> N(REKEY_SA b1) b2, Ni2     both arrive
 *         b -> b3, Nr2                    a -> a3, Nr1                    both arrive
 *         who won deletes the old one, who lost his own new one. */
static void both_rekey_the_child(void **state)
{
	unsigned wins[2] = { 0, 0 };

	(void)state;
	for (uint64_t seed = 0; seed < 24; seed++) {
		int winner;

		begin(seed);
		by_hand();
		for (int i = 0; i < 2; i++)
			assert_int_equal(ike_sa_child_rekey(p.sa[i], p.now_us, p.children[i][0].spi_in), OK);
		turn();
		pass(ALICE, 0);
		pass(BOB, 0);
		assert_true(p.n_children[ALICE] == 2 && p.n_children[BOB] == 2);
		/* resp1 and resp2 in both orders */
		pass(seed & 1 ? ALICE : BOB, 1);
		pass(seed & 1 ? BOB : ALICE, 1);
		assert_true(p.n_children[ALICE] == 3 && p.n_children[BOB] == 3);
		winner = p.children[ALICE][2].redundant ? BOB : ALICE;
		wins[winner]++;
		assert_true(p.children[!winner][2].redundant && p.children[!winner][2].standby);
		assert_true(!p.children[winner][2].redundant && !p.children[winner][2].standby);
		assert_int_equal(p.sa[ALICE]->n_children, 3);
		settled(1);
		/* what stays is what the winner began */
		assert_int_equal(p.sa[winner]->children[0].spi_in, p.children[winner][2].spi_in);
		assert_true(p.n_events[ALICE][IKE_EV_CHILD_GONE] == 2 && p.n_events[BOB][IKE_EV_CHILD_GONE] == 2);
		over(1);
	}
	assert_true(wins[0] && wins[1]);
}

/* 2.8.1, the second flow: a's request is lost; b rekeys, and deletes the old one; then a's comes again:
 * CHILD_SA_NOT_FOUND, which a can ignore. */
static void first_request_lost(void **state)
{
	(void)state;
	begin(1);
	by_hand();
	for (int i = 0; i < 2; i++)
		assert_int_equal(ike_sa_child_rekey(p.sa[i], p.now_us, p.children[i][0].spi_in), OK);
	turn();
	pass(BOB, 0); /* req2 */
	pass(ALICE, 1); /* resp2 */
	pass(BOB, 1); /* req3: D(SPIb1) */
	pass(ALICE, 2); /* resp3 */
	assert_int_equal(p.n_children[BOB], 2);
	pass(ALICE, 0); /* req1 at last */
	assert_int_equal(error_in(BOB, 2, p.sa[ALICE]), IKE_N_CHILD_SA_NOT_FOUND);
	pass(BOB, 2);
	assert_int_equal(p.n_children[ALICE], 2);
	settled(1);
	over(1);
}

/* The same, but a's request arrives before b's Delete: b is about to close it, TEMPORARY_FAILURE. */
static void first_request_late(void **state)
{
	(void)state;
	begin(1);
	by_hand();
	for (int i = 0; i < 2; i++)
		assert_int_equal(ike_sa_child_rekey(p.sa[i], p.now_us, p.children[i][0].spi_in), OK);
	turn();
	pass(BOB, 0);
	pass(ALICE, 1);
	pass(ALICE, 0);
	assert_int_equal(error_in(BOB, 2, p.sa[ALICE]), IKE_N_TEMPORARY_FAILURE);
	pass(BOB, 2);
	settled(1);
	assert_int_equal(p.n_children[ALICE], 2);
	over(1);
}

/* Both at once, but resp2 is late: a, who lost, deletes his own before b knows that he has won. b's owner must not
 * take it for the end of the grant. */
static void loser_is_faster(void **state)
{
	unsigned n = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 16; seed++) {
		begin(seed);
		by_hand();
		for (int i = 0; i < 2; i++)
			assert_int_equal(ike_sa_child_rekey(p.sa[i], p.now_us, p.children[i][0].spi_in), OK);
		turn();
		pass(BOB, 0); /* req2 */
		pass(ALICE, 0); /* req1 */
		pass(BOB, 1); /* resp1 */
		if (p.children[ALICE][2].redundant) {
			n++;
			pass(ALICE, 2); /* D(SPIa2) */
			assert_true(p.last[BOB][IKE_EV_CHILD_GONE].replaced);
		}
		settled(1);
		assert_true(!p.n_over[ALICE] && !p.n_over[BOB]);
		over(1);
	}
	assert_true(n);
}

/* And where b takes the grant back in the middle of it, there is an end. */
static void taken_back_while_both_rekey(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 16; seed++) {
		begin(seed);
		by_hand();
		for (int i = 0; i < 2; i++)
			assert_int_equal(ike_sa_child_rekey(p.sa[i], p.now_us, p.children[i][0].spi_in), OK);
		turn();
		pass(BOB, 0);
		if (seed & 1)
			pass(ALICE, 0);
		assert_int_equal(ike_sa_child_delete(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
		turn();
		if (seed & 2)
			pass(ALICE, 1);
		settled(0);
		if (p.n_over[ALICE] != 1 || p.n_over[BOB] != 1)
			fail_msg("seed %d: %u %u", (int)seed, p.n_over[ALICE], p.n_over[BOB]);
		over(1);
	}
}

/* 2.8.2: both requests, then both answers; three IKE SAs; the Child SA goes to the one that stays. */
static void both_rekey_the_ike_sa(void **state)
{
	unsigned wins[2] = { 0, 0 };

	(void)state;
	for (uint64_t seed = 0; seed < 24; seed++) {
		int winner;

		begin(seed);
		by_hand();
		for (int i = 0; i < 2; i++)
			assert_int_equal(ike_sa_rekey(p.sa[i], p.now_us), OK);
		turn();
		pass(ALICE, 0);
		pass(BOB, 0);
		assert_true(p.sa[ALICE]->rival && p.sa[BOB]->rival);
		pass(seed & 1 ? ALICE : BOB, 1);
		pass(seed & 1 ? BOB : ALICE, 1);
		winner = p.sa[ALICE]->from_initiator ? ALICE : BOB;
		wins[winner]++;
		settled(1);
		assert_int_equal(p.sa[winner]->from_initiator, true);
		assert_true(p.n_events[ALICE][IKE_EV_REKEYED] == 1 && p.n_events[BOB][IKE_EV_REKEYED] == 1);
		over(1);
	}
	assert_true(wins[0] && wins[1]);
}

/* 2.8.2, the figure: b's request is still out when a, who never saw it, has finished and deletes the old one. */
static void ike_rekey_unnoticed(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		begin(3);
		by_hand();
		for (int i = 0; i < 2; i++)
			assert_int_equal(ike_sa_rekey(p.sa[i], p.now_us), OK);
		turn();
		pass(ALICE, 0); /* req1 */
		pass(BOB, 1); /* resp1 */
		if (late) { /* req2 at last: a is closing that SA */
			pass(BOB, 0);
			assert_int_equal(error_in(ALICE, 2, p.sa[BOB]), IKE_N_TEMPORARY_FAILURE);
			pass(ALICE, 2);
		} else {
			pass(ALICE, 1); /* req3: D() */
			pass(BOB, 2);
		}
		settled(1);
		assert_true(p.sa[ALICE]->from_initiator);
		over(1);
	}
}

/* ---- against other exchanges ---- */

/* 2.25.1: a rekeys what b deletes, in all orders. Nothing is left, and nothing comes up for good. */
static void child_against_delete(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 3; order++) {
		begin(order);
		by_hand();
		assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
		if (order == 2) {
			turn();
			pass(ALICE, 0); /* b has made the new one, then takes the grant back */
		}
		assert_int_equal(ike_sa_child_delete(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
		turn();
		if (order == 0) {
			pass(ALICE, 0);
			assert_int_equal(error_in(BOB, 1, p.sa[ALICE]), IKE_N_TEMPORARY_FAILURE);
			pass(BOB, 1);
			pass(BOB, 0);
		} else if (order == 1) {
			pass(BOB, 0);
			pass(ALICE, 1);
			pass(ALICE, 0);
			assert_int_equal(error_in(BOB, 1, p.sa[ALICE]), IKE_N_CHILD_SA_NOT_FOUND);
			pass(BOB, 1);
		}
		settled(0);
		over(1);
	}
}

/* The same side rekeys, and takes its grant back while the request is out. */
static void taken_back_while_rekeying(void **state)
{
	(void)state;
	begin(1);
	by_hand();
	assert_int_equal(ike_sa_child_rekey(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
	assert_int_equal(ike_sa_child_delete(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
	turn();
	pass(BOB, 0);
	pass(ALICE, 0);
	assert_int_equal(p.n_children[BOB], 1); /* the owner hears of no new one */
	settled(0);
	assert_int_equal(p.n_events[BOB][IKE_EV_CHILD_GONE], 1);
	over(1);
}

/* 2.25.2: a rekeys the IKE SA, b makes, or rekeys, a Child SA: both are told to wait, and both come about. */
static void ike_against_child(void **state)
{
	struct ike_ts_list peer, own;

	(void)state;
	for (unsigned what = 0; what < 2; what++) {
		begin(what);
		by_hand();
		assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
		if (what) {
			assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
		} else {
			own = peer = p.cfg[ALICE].tsi;
			peer.ts[0] = pair_ts(2, 6, 22, 22);
			assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &own, &peer), OK);
		}
		turn();
		pass(ALICE, 0);
		pass(BOB, 0);
		assert_int_equal(error_in(BOB, 1, p.sa[ALICE]), IKE_N_TEMPORARY_FAILURE);
		assert_int_equal(error_in(ALICE, 1, p.sa[BOB]), IKE_N_TEMPORARY_FAILURE);
		pass(ALICE, 1);
		pass(BOB, 1);
		assert_true(p.n_events[ALICE][IKE_EV_REFUSED] == 0 && n_box[ALICE] == 2); /* nothing at once */
		settled(what ? 1 : 2);
		assert_int_equal(p.n_children[ALICE], 2);
		assert_true(p.n_events[ALICE][IKE_EV_REKEYED] == 1 && p.n_events[BOB][IKE_EV_REKEYED] == 1);
		over(1);
	}
}

/* 2.25.2: a Delete of a Child SA while the IKE SA is being rekeyed is answered as usual; and against the Delete of
 * the IKE SA, rekeying yields. */
static void ike_against_delete(void **state)
{
	(void)state;
	begin(1);
	by_hand();
	assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
	assert_int_equal(ike_sa_child_delete(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	turn();
	pass(ALICE, 0);
	assert_int_equal(p.n_events[BOB][IKE_EV_CHILD_GONE], 1);
	pass(BOB, 0);
	assert_int_equal(error_in(ALICE, 1, p.sa[BOB]), IKE_N_TEMPORARY_FAILURE);
	pass(ALICE, 1);
	pass(BOB, 1);
	settled(0);
	assert_int_equal(p.n_events[BOB][IKE_EV_REKEYED], 1);
	over(1);

	begin(2);
	by_hand();
	assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
	turn();
	ike_sa_delete(p.sa[ALICE], p.now_us);
	turn();
	pass(BOB, 0);
	assert_int_equal(error_in(ALICE, 1, p.sa[BOB]), IKE_N_TEMPORARY_FAILURE);
	pass(ALICE, 0);
	pass(BOB, 1);
	assert_true(p.n_events[ALICE][IKE_EV_CLOSED] == 1 && p.n_events[BOB][IKE_EV_CLOSED] == 1);
	over(1);
}

/* Hanging up while the rekeying is out: the new SA is deleted, too. */
static void hung_up_while_rekeying(void **state)
{
	(void)state;
	for (int by = 0; by < 2; by++) {
		begin((uint64_t)by);
		assert_int_equal(ike_sa_rekey(p.sa[by], p.now_us), OK);
		ike_sa_delete(p.sa[by], p.now_us);
		pair_for(&p, SECONDS(2));
		assert_true(p.n_events[ALICE][IKE_EV_CLOSED] == 1 && p.n_events[BOB][IKE_EV_CLOSED] == 1);
		over(1);
	}
}

/* A request that waits, or was not answered over the old SA, leaves over the new one. */
static void queue_moves(void **state)
{
	struct ike_decision later;

	(void)state;
	pair_init(&p, 5);
	later = p.decision;
	p.decision.verdict = IKE_WAITING;
	p.decision.n_grants = 0;
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, MS(100));
	by_hand();
	assert_int_equal(ike_sa_grant_later(p.sa[BOB], p.now_us, &later), OK);
	assert_int_equal(ike_sa_rekey(p.sa[ALICE], p.now_us), OK);
	turn(); /* bob's INFORMATIONAL is lost */
	pass(ALICE, 0);
	pass(BOB, 1);
	settled(0);
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 2);
	over(1);
}

/* ---- loss ---- */

static unsigned nth, n_seen;

static bool lose_one(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)from;
	(void)n;
	(void)msg;
	(void)len;
	return n_seen++ != nth;
}

static bool twice(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)n;
	pair_throw(q, !from, span_of(msg, *len), 3 * FLIGHT_US);
	pair_throw(q, !from, span_of(msg, *len), SECONDS(5));
	return true;
}

static void lost_and_duplicated(void **state)
{
	(void)state;
	for (unsigned what = 0; what < 4; what++)
		for (unsigned n = 0; n <= 8; n++) {
			begin(n);
			nth = n;
			n_seen = 0;
			p.filter = n < 8 ? lose_one : twice;
			for (int i = 0; i < 2; i++) {
				if (i && what < 2)
					break;
				if (what & 1)
					assert_int_equal(ike_sa_rekey(p.sa[i], p.now_us), OK);
				else
					assert_int_equal(ike_sa_child_rekey(p.sa[i], p.now_us, p.children[i][0].spi_in),
							 OK);
			}
			pair_for(&p, SECONDS(10));
			settled(1);
			over(1);
		}
}

static bool lossy(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)n;
	if (rng_below(&q->rng, 100) < 15)
		pair_throw(q, !from, span_of(msg, *len), MS(rng_below(&q->rng, 900)));
	if (rng_below(&q->rng, 100) < 25)
		return false;
	pair_throw(q, !from, span_of(msg, *len), MS(1 + rng_below(&q->rng, 300)));
	return false;
}

/* Both sides do everything at any time over a bad network; in the end they hold the same. */
static void everything_at_once(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 60; seed++) {
		begin(seed);
		p.filter = lossy;
		for (unsigned step = 0; step < 40 && pair_up(&p); step++) {
			int i = (int)rng_below(&p.rng, 2);
			const struct ike_sa *sa = p.sa[i];

			if (rng_below(&p.rng, 3) == 0)
				(void)!ike_sa_rekey(p.sa[i], p.now_us);
			else if (sa->n_children)
				(void)!ike_sa_child_rekey(p.sa[i], p.now_us,
							  sa->children[rng_below(&p.rng, sa->n_children)].spi_in);
			pair_for(&p, MS(rng_below(&p.rng, 1500)));
		}
		p.filter = NULL;
		if (!pair_up(&p)) { /* seven losses in a row */
			assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail == IKE_FAIL_TIMEOUT ||
						 p.last[BOB][IKE_EV_FAILED].fail == IKE_FAIL_TIMEOUT,
					 true);
			pair_done(&p);
			continue;
		}
		settled(1);
		over(1);
	}
}

/* ---- refusals ---- */

/* bob answers alice's n-th message with this error. */
static void bob_refuses(unsigned n, uint16_t notify)
{
	struct ike_in in = { .now_us = p.now_us, .path = &p.path[BOB] };

	in.msg = span_of(box[ALICE][n].bytes, box[ALICE][n].len);
	in.h = header_of(ALICE, n);
	assert_int_equal(ike_respond_notify(p.sa[BOB], &in, notify, SPAN_NONE), OK);
	turn();
}

static void no_additional_sas(void **state)
{
	(void)state;
	begin(1);
	by_hand();
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	turn();
	bob_refuses(0, IKE_N_NO_ADDITIONAL_SAS);
	pass(BOB, 0);
	assert_true(pair_up(&p) && p.sa[ALICE]->n_children == 1);
	p.filter = NULL;
	pair_for(&p, SECONDS(59));
	assert_int_equal(p.n_children[ALICE], 1);
	pair_for(&p, SECONDS(2)); /* and once more after a minute */
	assert_int_equal(p.n_children[ALICE], 2);
	settled(1);

	by_hand();
	assert_int_equal(ike_sa_rekey(p.sa[ALICE], p.now_us), OK);
	turn();
	bob_refuses(0, IKE_N_NO_ADDITIONAL_SAS);
	pass(BOB, 0);
	assert_true(pair_up(&p) && !p.n_events[ALICE][IKE_EV_REKEYED]);
	p.filter = NULL;
	pair_for(&p, SECONDS(61));
	assert_int_equal(p.n_events[ALICE][IKE_EV_REKEYED], 1);
	settled(1);
	over(1);
}

/* PFS (1.3.3): a KE is answered by one, in any of our groups, and the next rekeying has it, too, whoever begins. */
static void with_a_ke(void **state)
{
	static const uint16_t ids[] = { 31, 19 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		begin(i);
		p.sa[ALICE]->children[0].group = ike_group_find(&p.sa[ALICE]->cfg.ike, ids[i]);
		assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
		settled(1);
		assert_int_equal(p.n_children[BOB], 2);
		assert_int_equal(p.sa[BOB]->children[0].group->id, ids[i]);
		assert_int_equal(p.sa[ALICE]->children[0].group->id, ids[i]);
		assert_int_equal(ike_sa_child_rekey(p.sa[BOB], p.now_us, p.children[BOB][1].spi_in), OK);
		settled(1);
		assert_int_equal(p.n_children[ALICE], 3);
		assert_int_equal(p.sa[ALICE]->children[0].group->id, ids[i]);
		over(1);
	}
	/* a peer that takes nothing without one */
	begin(3);
	by_hand();
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	turn();
	bob_refuses(0, IKE_N_NO_PROPOSAL_CHOSEN);
	pass(BOB, 0);
	assert_int_equal(n_box[ALICE], 2);
	pass(ALICE, 1);
	pass(BOB, 1);
	assert_int_equal(p.n_children[ALICE], 2);
	settled(1);
	assert_int_equal(p.sa[BOB]->children[0].group->id, 31);
	over(1);
	/* a public value that is none: neither is up */
	begin(4);
	by_hand();
	p.sa[ALICE]->children[0].group = ike_group_find(&p.sa[ALICE]->cfg.ike, 19);
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	pair_clear(&p);
	assert_non_null(p.sa[ALICE]->task);
	turn();
	n_box[ALICE] = 0;
	kex_free(p.sa[ALICE]->task->kex);
	assert_int_equal(kex_new(KEX_X25519, &p.rng, &p.sa[ALICE]->task->kex), OK);
	ike_task_again(p.sa[ALICE], p.now_us, false);
	p.sa[ALICE]->window.next_out--;
	ike_tasks_run(p.sa[ALICE], p.now_us);
	turn();
	pass(ALICE, 0);
	assert_int_equal(p.n_children[BOB], 1);
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].notify, IKE_N_INVALID_SYNTAX);
	pair_done(&p);
}

/* Groups in the list for ESP: every CREATE_CHILD_SA has a key exchange in one of them, whoever begins; the Child SA of IKE_AUTH
 * has none. A peer without one gets nothing. */
static void groups_of_the_list(void **state)
{
	static const char *const lists[3][2] = { { "aes128gcm16-ecp256-x25519", "aes128gcm16-ecp256" },
						 { "aes128gcm16-x25519-ecp256", "aes128gcm16-ecp256" },
						 { NULL, "aes128gcm16-ecp256" } };
	const char *expected;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		pair_init(&p, i);
		for (int k = 0; k < 2; k++)
			if (lists[i][k])
				assert_int_equal(ike_list_parse(span_str(lists[i][k]), true, &p.cfg[k].esp, &expected),
						 OK);
		assert_int_equal(pair_new(&p), OK);
		assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
		pair_for(&p, MS(100));
		assert_int_equal(p.n_children[ALICE], 1);
		assert_null(p.sa[ALICE]->children[0].group);
		/* the first list agrees at once; INVALID_KE_PAYLOAD for the second; NO_PROPOSAL_CHOSEN and then the IKE SA's
		 * own group for the third, which bob does not have */
		assert_int_equal(
			ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
		pair_for(&p, MS(200));
		assert_int_equal(p.n_children[ALICE], i < 2 ? 2 : 1);
		if (i == 2) {
			assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].notify, IKE_N_NO_PROPOSAL_CHOSEN);
			over(0);
			continue;
		}
		assert_true(pair_child_same(&p, 1));
		assert_int_equal(p.sa[ALICE]->children[1].group->id, 19);
		assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
		assert_int_equal(ike_sa_child_rekey(p.sa[BOB], p.now_us, p.children[BOB][1].spi_in), OK);
		pair_for(&p, SECONDS(1));
		assert_int_equal(p.n_children[ALICE], 4);
		for (int k = 0; k < 2; k++)
			assert_int_equal(p.sa[ALICE]->children[k].group->id, 19);
		settled(2);
		over(2);
	}
}

/* 2.25: bob has the Child SA no more: a new one from scratch takes its place. */
static void child_not_found(void **state)
{
	(void)state;
	begin(1);
	p.child_decision = p.decision;
	p.child_decision.n_grants = 1;
	ike_child_remove(p.sa[BOB], 0);
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	pair_for(&p, MS(200));
	assert_int_equal(p.n_children[ALICE], 2);
	assert_int_equal(p.children[ALICE][1].replaces, p.children[ALICE][0].spi_in);
	assert_true(p.last[ALICE][IKE_EV_CHILD_GONE].replaced);
	settled(1);
	/* and where that is refused it is gone */
	p.child_decision.verdict = IKE_REFUSED;
	ike_child_remove(p.sa[BOB], 0);
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][1].spi_in), OK);
	pair_for(&p, MS(200));
	assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_GONE], 2);
	assert_false(p.last[ALICE][IKE_EV_CHILD_GONE].replaced);
	settled(0);
	over(1);
}

/* 2.25: nothing but TEMPORARY_FAILURE for minutes: the SA is closed. */
static void never_ready(void **state)
{
	struct ike_in in = { .now_us = 0, .path = &p.path[BOB] };
	unsigned seen = 0;

	(void)state;
	begin(1);
	by_hand();
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	for (unsigned s = 0; s < 200 && ike_sa_up(p.sa[ALICE]); s++) {
		turn();
		for (; seen < n_box[ALICE]; seen++) {
			in.msg = span_of(box[ALICE][seen % 64].bytes, box[ALICE][seen % 64].len);
			assert_int_equal(ike_header_parse(in.msg, &in.h), OK);
			if (in.h.exchange != IKE_CREATE_CHILD_SA)
				continue;
			assert_int_equal(ike_respond_notify(p.sa[BOB], &in, IKE_N_TEMPORARY_FAILURE, SPAN_NONE), OK);
			turn();
			ike_sa_input(
				p.sa[ALICE], p.now_us, &p.path[ALICE],
				span_of(box[BOB][(n_box[BOB] - 1) % 64].bytes, box[BOB][(n_box[BOB] - 1) % 64].len));
		}
		pair_for(&p, SECONDS(1));
	}
	assert_true(seen >= 40 && seen <= 100); /* every 2 to 4 seconds */
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_PROTOCOL);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].notify, IKE_N_TEMPORARY_FAILURE);
	pair_done(&p);
}

/* ---- hostile ---- */

/* A rekeying never widens: bob answers with what the old one had, or with nothing. */
static void wider_selectors(void **state)
{
	(void)state;
	begin(1);
	p.sa[ALICE]->children[0].ts->peer.ts[0] = pair_ts(2, 0, 0, 65535);
	p.sa[ALICE]->children[0].ts->local.ts[0].ip_lo[15] = 0;
	p.sa[ALICE]->children[0].ts->local.ts[0].ip_hi[15] = 99;
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
	pair_for(&p, MS(200));
	assert_int_equal(p.n_children[BOB], 2);
	assert_memory_equal(&p.children[BOB][1].ts_local, &p.children[BOB][0].ts_local, sizeof(struct ike_ts_list));
	assert_memory_equal(&p.children[BOB][1].ts_peer, &p.children[BOB][0].ts_peer, sizeof(struct ike_ts_list));
	settled(1);
	by_hand();
	p.sa[ALICE]->children[0].ts->peer.ts[0] = pair_ts(2, 6, 23, 23);
	assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][1].spi_in), OK);
	turn();
	pass(ALICE, 0);
	assert_int_equal(error_in(BOB, 0, p.sa[ALICE]), IKE_N_TS_UNACCEPTABLE);
	pass(BOB, 0);
	assert_int_equal(p.n_children[BOB], 2);
	assert_true(pair_up(&p) && p.sa[BOB]->n_children == 1 && !p.sa[BOB]->children[0].replaced);
	pair_done(&p);
}

/* A peer that does nothing but rekey gets its burst, and then one a second. */
static void in_a_loop(void **state)
{
	unsigned n;

	(void)state;
	begin(1);
	for (unsigned i = 0; i < 200; i++) {
		(void)!ike_sa_rekey(p.sa[ALICE], p.now_us);
		pair_for(&p, MS(100));
	}
	n = p.n_events[BOB][IKE_EV_REKEYED];
	assert_true(n >= IKE_REKEY_BURST && n <= IKE_REKEY_BURST + 21);
	settled(1);
	over(1);
	begin(2);
	for (unsigned i = 0; i < 200; i++) {
		const struct ike_sa *sa = p.sa[ALICE];

		(void)!ike_sa_child_rekey(p.sa[ALICE], p.now_us, sa->children[sa->n_children - 1].spi_in);
		pair_for(&p, MS(100));
	}
	n = p.n_events[BOB][IKE_EV_CHILD_UP] - 1;
	assert_true(n >= IKE_REKEY_BURST && n <= IKE_REKEY_BURST + 21);
	settled(1);
	over(1);
}

/* A peer that makes new keys again and again and deletes nothing, until it deletes the last of all that there may be. */
static void as_many_as_may_be(void **state)
{
	struct ike_child_sa *k = NULL;

	(void)state;
	begin(1);
	for (int i = 0; i < 2; i++)
		while (p.sa[i]->n_children < IKE_CHILDREN_ALL) {
			k = &p.sa[i]->children[p.sa[i]->n_children];
			*k = p.sa[i]->children[0];
			k->ts = calloc(1, sizeof(*k->ts));
			assert_non_null(k->ts);
			k->spi_in += p.sa[i]->n_children;
			k->spi_out += p.sa[i]->n_children;
			k->grant_id += p.sa[i]->n_children++;
		}
	k = &p.sa[ALICE]->children[IKE_CHILDREN_ALL - 1];
	assert_int_equal(ike_sa_child_delete(p.sa[ALICE], p.now_us, k->spi_in), OK);
	pair_for(&p, SECONDS(2));
	assert_int_equal(p.sa[ALICE]->n_children, IKE_CHILDREN_ALL - 1);
	assert_int_equal(p.sa[BOB]->n_children, IKE_CHILDREN_ALL - 1);
	assert_true(pair_up(&p));
	pair_done(&p);
}

/* ---- lifetimes ---- */

static void soft(void **state)
{
	uint64_t first = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 4; seed++) {
		begin_with(seed, 400, 100);
		first = ike_sa_deadline_us(p.sa[ALICE]) - p.now_us;
		assert_true(first > SECONDS(89) && first <= SECONDS(100)); /* the one who made it */
		first = ike_sa_deadline_us(p.sa[BOB]) - p.now_us;
		assert_true(first > SECONDS(101) && first <= SECONDS(113)); /* the other one, later */
		pair_for(&p, SECONDS(4000));
		settled(1);
		assert_true(p.n_events[BOB][IKE_EV_REKEYED] >= 10 && p.n_events[BOB][IKE_EV_REKEYED] <= 12);
		assert_true(p.n_events[ALICE][IKE_EV_CHILD_UP] >= 40 && p.n_events[ALICE][IKE_EV_CHILD_UP] <= 48);
		assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_GONE] + 1, p.n_events[ALICE][IKE_EV_CHILD_UP]);
		pair_done(&p);
	}
}

static bool no_create(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct ike_in in = { .now_us = q->now_us, .path = &q->path[!from], .msg = span_of(msg, *len) };

	(void)n;
	assert_int_equal(ike_header_parse(in.msg, &in.h), OK);
	if (in.h.exchange != IKE_CREATE_CHILD_SA || in.h.is_response)
		return true;
	assert_int_equal(ike_respond_notify(q->sa[!from], &in, IKE_N_NO_ADDITIONAL_SAS, SPAN_NONE), OK);
	return false;
}

/* A peer that refuses every rekeying: the Child SA ends at 5/4 and a minute, and so does the IKE SA. */
static void hard(void **state)
{
	(void)state;
	begin_with(1, 0, 100);
	p.filter = no_create;
	pair_for(&p, SECONDS(183));
	assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_GONE], 0);
	pair_for(&p, SECONDS(3));
	assert_true(p.n_events[ALICE][IKE_EV_CHILD_GONE] == 1 && p.n_events[BOB][IKE_EV_CHILD_GONE] == 1);
	assert_true(pair_up(&p) && !p.last[ALICE][IKE_EV_CHILD_GONE].replaced);
	pair_done(&p);
	begin_with(2, 100, 0);
	p.filter = no_create;
	pair_for(&p, SECONDS(183));
	assert_true(pair_up(&p));
	pair_for(&p, SECONDS(3));
	assert_true(p.n_events[ALICE][IKE_EV_FAILED] == 1 || p.n_events[ALICE][IKE_EV_CLOSED] == 1);
	assert_true(p.last[ALICE][IKE_EV_FAILED].fail == IKE_FAIL_EXPIRED ||
		    p.last[BOB][IKE_EV_FAILED].fail == IKE_FAIL_EXPIRED);
	assert_true(!ike_sa_up(p.sa[ALICE]) && !ike_sa_up(p.sa[BOB]));
	pair_done(&p);
}

/* ---- memory ---- */

static bool life(void *arg)
{
	bool whole = false;

	(void)arg;
	pair_init(&p, 4);
	if (pair_new(&p) == OK && ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) == OK) {
		pair_for(&p, 4 * FLIGHT_US);
		whole = pair_up(&p) && p.n_sent == 4;
		pair_for(&p, SECONDS(3));
		if (pair_up(&p) && p.n_children[ALICE] == 1 && p.n_children[BOB] == 1) {
			unsigned sent = p.n_sent;

			whole = ike_sa_child_rekey(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in) == OK && whole;
			pair_for(&p, 4 * FLIGHT_US);
			whole = whole && p.n_sent == sent + 4 && p.n_events[BOB][IKE_EV_CHILD_GONE] == 1;
			pair_for(&p, SECONDS(3));
			whole = ike_sa_rekey(p.sa[ALICE], p.now_us) == OK && whole;
			pair_for(&p, 4 * FLIGHT_US);
			whole = whole && p.n_sent == sent + 8 && p.sa[ALICE]->old[0]->state == IKE_DEAD;
			pair_for(&p, SECONDS(3));
			if (!pair_up(&p) || p.sa[ALICE]->spi_i != p.sa[BOB]->spi_i ||
			    p.sa[ALICE]->n_children != p.sa[BOB]->n_children || p.sa[ALICE]->n_children != 1)
				abort();
		}
	}
	pair_done(&p);
	return whole;
}

static void no_memory(void **state)
{
	(void)state;
	pair_identities();
	harness_alloc_ladder(life, NULL);
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(child_by_one),
		cmocka_unit_test(ike_by_one),
		cmocka_unit_test(both_rekey_the_child),
		cmocka_unit_test(first_request_lost),
		cmocka_unit_test(first_request_late),
		cmocka_unit_test(loser_is_faster),
		cmocka_unit_test(taken_back_while_both_rekey),
		cmocka_unit_test(both_rekey_the_ike_sa),
		cmocka_unit_test(ike_rekey_unnoticed),
		cmocka_unit_test(child_against_delete),
		cmocka_unit_test(taken_back_while_rekeying),
		cmocka_unit_test(ike_against_child),
		cmocka_unit_test(ike_against_delete),
		cmocka_unit_test(hung_up_while_rekeying),
		cmocka_unit_test(queue_moves),
		cmocka_unit_test(lost_and_duplicated),
		cmocka_unit_test(everything_at_once),
		cmocka_unit_test(no_additional_sas),
		cmocka_unit_test(with_a_ke),
		cmocka_unit_test(groups_of_the_list),
		cmocka_unit_test(child_not_found),
		cmocka_unit_test(never_ready),
		cmocka_unit_test(wider_selectors),
		cmocka_unit_test(in_a_loop),
		cmocka_unit_test(as_many_as_may_be),
		cmocka_unit_test(soft),
		cmocka_unit_test(hard),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
