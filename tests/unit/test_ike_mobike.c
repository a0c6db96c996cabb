/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* MOBIKE (RFC 4555) between two IKE SAs whose datagrams have addresses. alice is the initiator; A, B, C are hers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "harness.h"
#include "ike_pair.h"

static struct pair p;

enum { A = 1, B, C, VICTIM, BOBS = 9 };

static struct addr at(unsigned last)
{
	return addr_ip4(0xc0000200u + last, 4500);
}

static struct path from(unsigned last)
{
	return (struct path){ .transport = TRANSPORT_UDP, .local = at(last), .remote = at(BOBS) };
}

static struct path to(unsigned last)
{
	return (struct path){ .transport = TRANSPORT_UDP, .local = at(BOBS), .remote = at(last) };
}

/* What the network does. */
static struct {
	unsigned gone; /* one of alice's addresses that is cut off both ways */
	unsigned rewrite; /* the source that somebody writes into alice's requests; 0: none */
	int lose_to; /* the next n datagrams to alice (> 0), to bob (< 0) */
	unsigned n_to[VICTIM + 1]; /* datagrams for each address */
	uint8_t last[IKE_MSG_MAX]; /* of alice */
	size_t last_len;
	enum ike_place place;
} net;

static bool wire(struct pair *q, int side, struct path *seen, struct span msg)
{
	const struct addr *alices = side == ALICE ? &seen->remote : &seen->local;
	unsigned last = alices->ip[3];
	struct ike_header h;

	(void)q;
	if (side == ALICE) {
		memcpy(net.last, msg.p, msg.len);
		net.last_len = msg.len;
	} else if (last <= VICTIM) {
		net.n_to[last]++;
	}
	if (last == net.gone || last == VICTIM)
		return false;
	if (side == ALICE && net.lose_to < 0) {
		net.lose_to++;
		return false;
	}
	if (side == BOB && net.lose_to > 0) {
		net.lose_to--;
		return false;
	}
	if (side == ALICE && net.rewrite && ike_header_parse(msg, &h) == OK && !h.is_response)
		seen->remote = at(net.rewrite);
	return true;
}

static enum ike_place place(void *arg, const struct path *path)
{
	(void)arg;
	(void)path;
	return net.place;
}

static void begin(uint64_t seed, enum ike_place where)
{
	memset(&net, 0, sizeof(net));
	net.place = where;
	pair_init(&p, seed);
	p.wire = wire;
	p.path[ALICE] = from(A);
	p.path[BOB] = to(A);
	p.cfg[BOB].place = place;
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, MS(100));
	assert_true(pair_up(&p));
	assert_true(ike_sa_mobike(p.sa[ALICE]) && ike_sa_mobike(p.sa[BOB]));
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED] + p.n_events[BOB][IKE_EV_MOVED], 0);
}

static void move(unsigned last)
{
	struct path path = from(last);

	assert_false(ike_sa_move(p.sa[ALICE], p.now_us, &path, false));
}

/* Both have moved to that address, n times in all. */
static void assert_at(unsigned last, unsigned n_alice, unsigned n_bob)
{
	struct path hers = from(last), his = to(last);

	assert_true(pair_up(&p));
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], n_alice);
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], n_bob);
	assert_true(path_eq(&p.sa[ALICE]->path, &hers) && path_eq(&p.sa[ALICE]->move.esp, &hers));
	assert_true(path_eq(&p.sa[BOB]->path, &his) && path_eq(&p.sa[BOB]->move.esp, &his));
	assert_false(p.sa[BOB]->move.has_maybe || p.sa[ALICE]->move.update_due);
	if (n_alice)
		assert_true(path_eq(&p.last[ALICE][IKE_EV_MOVED].path, &hers));
	if (n_bob)
		assert_true(path_eq(&p.last[BOB][IKE_EV_MOVED].path, &his));
}

static void assert_alive(void)
{
	ike_sa_probe(p.sa[ALICE], p.now_us);
	ike_sa_probe(p.sa[BOB], p.now_us);
	pair_for(&p, SECONDS(2));
	assert_true(pair_up(&p));
	assert_false(p.sa[ALICE]->window.waiting || p.sa[BOB]->window.waiting);
}

/* ---- 3.2, 3.3 ---- */

static void negotiation_3_2(void **state)
{
	struct path path = from(B);

	(void)state;
	memset(&net, 0, sizeof(net));
	pair_init(&p, 1);
	p.wire = wire;
	p.undecided = true;
	p.path[ALICE] = from(A);
	p.path[BOB] = to(A);
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, MS(100));
	p.sa[BOB]->move.on = false; /* as if it knew nothing of MOBIKE */
	ike_sa_decide(p.sa[BOB], p.now_us, &p.decision);
	pair_for(&p, MS(100));
	/* without it no update is sent, and the owner is told to move by himself */
	assert_true(pair_up(&p));
	assert_false(ike_sa_mobike(p.sa[ALICE]));
	assert_true(ike_sa_move(p.sa[ALICE], p.now_us, &path, false));
	pair_for(&p, SECONDS(5));
	assert_false(p.sa[ALICE]->window.waiting);
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	path = to(B);
	assert_true(ike_sa_move(p.sa[BOB], p.now_us, &path, false));
	pair_done(&p);
}

/* 3.9: with ESP that is not in UDP neither side announces it. */
static void plain_esp_3_9(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		memset(&net, 0, sizeof(net));
		pair_init(&p, 1);
		p.wire = wire;
		p.path[ALICE] = from(A);
		p.path[BOB] = to(A);
		p.cfg[BOB].plain_esp = true;
		p.cfg[ALICE].plain_esp = true;
		assert_int_equal(pair_new(&p), OK);
		assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
		pair_for(&p, 2 * FLIGHT_US + MS(1)); /* IKE_AUTH is on its way */
		p.sa[i]->cfg.plain_esp = false; /* one would like it */
		pair_for(&p, MS(100));
		assert_true(pair_up(&p));
		assert_false(ike_sa_mobike(p.sa[ALICE]) || ike_sa_mobike(p.sa[BOB]));
		pair_done(&p);
	}
}

/* The first path is that of IKE_AUTH, as each side knows it. */
static void first_path_3_3(void **state)
{
	struct path path = to(C), his = to(A);

	(void)state;
	begin(2, IKE_PLACE_PROVED);
	assert_true(path_eq(&p.last[BOB][IKE_EV_AUTHENTICATED].path, &his));
	/* a responder stays where it is, whatever its owner has seen */
	assert_false(ike_sa_move(p.sa[BOB], p.now_us, &path, false));
	assert_true(path_eq(&p.sa[BOB]->path, &his));
	assert_at(A, 0, 0);
	pair_done(&p);
}

/* IKE_AUTH was repeated from elsewhere: nobody knows which one counted, and an update settles it. */
static void auth_strays_3_3(void **state)
{
	struct path path = from(B);

	(void)state;
	memset(&net, 0, sizeof(net));
	net.place = IKE_PLACE_PROVED;
	pair_init(&p, 3);
	p.wire = wire;
	p.path[ALICE] = from(A);
	p.path[BOB] = to(A);
	p.cfg[BOB].place = place;
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, 2 * FLIGHT_US);
	assert_string_equal(ike_sa_state_name(p.sa[ALICE]), "AUTH_SENT");
	assert_true(ike_sa_move(p.sa[ALICE], p.now_us, &path, false));
	net.lose_to = 1; /* the answer by A */
	pair_for(&p, SECONDS(3));
	assert_at(B, 1, 1);
	pair_done(&p);
}

/* ---- 3.5 ---- */

static void update_3_5(void **state)
{
	(void)state;
	begin(4, IKE_PLACE_PROVED);
	move(B);
	/* the old path carries ESP until the answer */
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 0);
	assert_int_equal(p.sa[ALICE]->move.esp.local.ip[3], A);
	pair_for(&p, MS(15));
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 1);
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 0);
	pair_for(&p, MS(100));
	assert_at(B, 1, 1);
	/* back, and no update where nothing changes */
	move(B);
	assert_false(p.sa[ALICE]->window.waiting);
	move(A);
	pair_for(&p, MS(100));
	assert_at(A, 2, 2);
	assert_alive();
	pair_done(&p);
}

/* 3.8: the same path, but seen from elsewhere. */
static void rebound_3_8(void **state)
{
	struct path path = from(A), his = to(C);

	(void)state;
	begin(5, IKE_PLACE_PROVED);
	net.rewrite = C; /* what a NAT does */
	assert_false(ike_sa_move(p.sa[ALICE], p.now_us, &path, true));
	pair_for(&p, MS(100));
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 1);
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 1);
	assert_true(path_eq(&p.last[BOB][IKE_EV_MOVED].path, &his));
	assert_true(path_eq(&p.last[ALICE][IKE_EV_MOVED].path, &path));
	pair_done(&p);
}

/* 3.8: the answer to a sign of life says where we are seen. */
static void nat_seen_by_probe_3_8(void **state)
{
	(void)state;
	begin(6, IKE_PLACE_PROVED);
	assert_alive();
	assert_alive();
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	net.rewrite = C;
	ike_sa_probe(p.sa[ALICE], p.now_us);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 1);
	assert_int_equal(p.last[BOB][IKE_EV_MOVED].path.remote.ip[3], C);
	/* new SPIs give other hashes: no reason to move */
	assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
	pair_for(&p, SECONDS(2));
	assert_alive();
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 1);
	pair_done(&p);
}

/* 3.8: what does not say UPDATE_SA_ADDRESSES moves nothing, wherever it comes from. */
static void ordinary_moves_nothing_3_8(void **state)
{
	struct path path = from(B);

	(void)state;
	begin(7, IKE_PLACE_PROVED);
	net.rewrite = B;
	ike_sa_probe(p.sa[ALICE], p.now_us);
	pair_for(&p, SECONDS(1));
	assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(ike_sa_rekey(p.sa[ALICE], p.now_us), OK);
	pair_for(&p, SECONDS(2));
	net.rewrite = 0;
	assert_at(A, 0, 0);
	/* nor does the responder's update */
	p.sa[BOB]->cfg.initiator = true;
	path = to(C);
	assert_false(ike_sa_move(p.sa[BOB], p.now_us, &path, false));
	p.sa[BOB]->cfg.initiator = false;
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 0);
	assert_int_equal(p.sa[ALICE]->path.local.ip[3], A);
	pair_done(&p);
}

static void lost_update_3_5(void **state)
{
	(void)state;
	begin(8, IKE_PLACE_PROVED);
	net.lose_to = -2;
	move(B);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	pair_for(&p, SECONDS(1));
	assert_at(B, 1, 1);
	pair_done(&p);
}

static void lost_answer_3_5(void **state)
{
	(void)state;
	begin(9, IKE_PLACE_PROVED);
	net.lose_to = 2;
	move(B);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 1);
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 0);
	pair_for(&p, SECONDS(1));
	assert_at(B, 1, 1);
	pair_done(&p);
}

/* 3.11: whoever moves may be without a network for more than two minutes. */
static void patience_3_11(void **state)
{
	(void)state;
	begin(10, IKE_PLACE_PROVED);
	net.gone = B;
	move(B);
	pair_for(&p, SECONDS(110));
	assert_true(pair_up(&p));
	net.gone = 0;
	pair_for(&p, SECONDS(9));
	assert_at(B, 1, 1);
	net.gone = C;
	move(C);
	pair_for(&p, SECONDS(140));
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	pair_done(&p);
}

/* 3.5: the answer comes by the path that is not the one any more. */
static void answered_on_old_path_3_5(void **state)
{
	(void)state;
	begin(11, IKE_PLACE_PROVED);
	move(B);
	pair_for(&p, MS(15)); /* bob's answer is on its way to B */
	move(C);
	pair_for(&p, MS(8));
	/* it says nothing: another update is out */
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 0);
	assert_true(p.sa[ALICE]->window.waiting);
	pair_for(&p, MS(200));
	assert_at(C, 1, 2);
	pair_done(&p);
}

/* 3.5: two moves in a row, the first of which reaches nobody: what is out goes on by the new one. */
static void two_moves_3_5(void **state)
{
	(void)state;
	begin(12, IKE_PLACE_PROVED);
	net.gone = B;
	move(B);
	pair_for(&p, SECONDS(12)); /* the next repetition would be 3.5 s away */
	move(C);
	pair_for(&p, MS(200));
	net.gone = 0;
	assert_int_equal(p.last[ALICE][IKE_EV_MOVED].path.local.ip[3], C);
	assert_true(p.n_events[ALICE][IKE_EV_MOVED] == 1);
	assert_at(C, 1, p.n_events[BOB][IKE_EV_MOVED]);
	/* there and back before anything was answered */
	move(A);
	move(C);
	pair_for(&p, MS(200));
	assert_int_equal(p.sa[ALICE]->move.esp.local.ip[3], C);
	assert_int_equal(p.sa[BOB]->move.esp.remote.ip[3], C);
	pair_done(&p);
}

/* 3.5: a request that is out when the path changes goes to the new one at once, and the update follows its answer. */
static void outstanding_3_5(void **state)
{
	uint64_t began;

	(void)state;
	begin(13, IKE_PLACE_PROVED);
	net.gone = A;
	ike_sa_probe(p.sa[ALICE], p.now_us);
	pair_for(&p, SECONDS(12));
	began = p.now_us;
	move(B);
	while (p.n_events[ALICE][IKE_EV_MOVED] == 0 && p.now_us < began + SECONDS(1))
		pair_for(&p, MS(1));
	assert_true(p.now_us <= began + 4 * FLIGHT_US + MS(2));
	net.gone = 0;
	assert_at(B, 1, 1);
	/* and bob's request, to where alice is no more */
	net.gone = B;
	ike_sa_probe(p.sa[BOB], p.now_us);
	pair_for(&p, SECONDS(12));
	move(C);
	pair_for(&p, MS(100));
	assert_false(p.sa[BOB]->window.waiting);
	net.gone = 0;
	assert_at(C, 2, 2);
	pair_done(&p);
}

static void unacceptable_3_5(void **state)
{
	struct path old = from(A);

	(void)state;
	begin(14, IKE_PLACE_NO);
	move(B);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[ALICE][IKE_EV_STAYED], 1);
	assert_true(path_eq(&p.last[ALICE][IKE_EV_STAYED].path, &old));
	assert_at(A, 0, 0);
	assert_alive();
	net.place = IKE_PLACE_PROVED;
	move(B);
	pair_for(&p, SECONDS(1));
	assert_at(B, 1, 1);
	pair_done(&p);
}

/* 3.5: an old update that comes again is answered again, and is no reason to go back. */
static void old_update_again_3_5(void **state)
{
	uint8_t old[IKE_MSG_MAX];
	struct path path = to(B), third = to(VICTIM);
	size_t len;

	(void)state;
	begin(15, IKE_PLACE_PROVED);
	move(B);
	pair_for(&p, MS(100));
	len = net.last_len;
	memcpy(old, net.last, len);
	ike_sa_input(p.sa[BOB], p.now_us, &third, span_of(old, len));
	pair_for(&p, MS(100));
	assert_int_equal(net.n_to[VICTIM], 1); /* the answer, once more, to whoever sent it */
	assert_at(B, 1, 1);
	move(C);
	pair_for(&p, MS(100));
	ike_sa_input(p.sa[BOB], p.now_us, &path, span_of(old, len));
	pair_for(&p, MS(100));
	assert_at(C, 2, 2);
	pair_done(&p);
}

/* ---- 2.8 of RFC 7296 at the same time ---- */

/* One begins new keys, the other moves. */
static void rekey_and_update(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 24; i++) {
		begin(100 + i, i & 1 ? IKE_PLACE_PROVED : IKE_PLACE_UNPROVED);
		if (i & 2)
			assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
		else
			assert_int_equal(ike_sa_child_rekey(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
		pair_for(&p, MS(i / 8 * 5));
		if (i & 4) /* the rekeying's request is lost, or its answer */
			net.lose_to = 1;
		move(B);
		pair_for(&p, SECONDS(10));
		assert_at(B, 1, 1);
		if (i & 2) {
			assert_int_equal(p.n_events[ALICE][IKE_EV_REKEYED], 1);
			assert_int_equal(p.sa[ALICE]->spi_r, p.sa[BOB]->spi_r);
		}
		assert_int_equal(p.sa[ALICE]->n_children, p.sa[BOB]->n_children);
		assert_alive();
		pair_done(&p);
	}
}

/* Alice's own rekeying is out when she moves; both rekey, and she moves. */
static void rekey_then_move(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		begin(200 + i, i & 1 ? IKE_PLACE_PROVED : IKE_PLACE_UNPROVED);
		assert_int_equal(ike_sa_rekey(p.sa[ALICE], p.now_us), OK);
		if (i & 2)
			assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
		if (i & 4)
			pair_for(&p, MS(12));
		if (i & 8)
			net.gone = A;
		move(C);
		pair_for(&p, SECONDS(20));
		net.gone = 0;
		assert_at(C, 1, 1);
		assert_int_equal(p.sa[ALICE]->spi_i, p.sa[BOB]->spi_i);
		assert_alive();
		pair_done(&p);
	}
}

/* An update of an SA that was replaced is answered and moves nothing. */
static void update_of_old_sa(void **state)
{
	uint8_t old[IKE_MSG_MAX];
	struct path path = to(B);
	size_t len;

	(void)state;
	begin(16, IKE_PLACE_PROVED);
	net.lose_to = -1;
	move(B);
	pair_outputs(&p);
	len = net.last_len;
	memcpy(old, net.last, len);
	move(A);
	net.lose_to = -1; /* its repetition */
	pair_outputs(&p);
	assert_int_equal(ike_sa_rekey(p.sa[BOB], p.now_us), OK);
	pair_for(&p, MS(25)); /* replaced at both ends */
	assert_int_equal(p.n_events[BOB][IKE_EV_REKEYED], 1);
	ike_sa_input(p.sa[BOB], p.now_us, &path, span_of(old, len));
	pair_for(&p, SECONDS(5));
	assert_int_equal(p.sa[BOB]->move.esp.remote.ip[3], A);
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	assert_alive();
	pair_done(&p);
}

/* ---- 3.7 ---- */

static void routability_3_7(void **state)
{
	(void)state;
	begin(17, IKE_PLACE_UNPROVED);
	move(B);
	pair_for(&p, MS(25));
	assert_int_equal(p.n_events[ALICE][IKE_EV_MOVED], 1);
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0); /* asked, not answered yet */
	assert_int_equal(p.sa[BOB]->move.esp.remote.ip[3], A);
	pair_for(&p, MS(100));
	assert_at(B, 1, 1);
	pair_done(&p);
}

static void routability_lost_3_7(void **state)
{
	(void)state;
	for (unsigned n = 1; n < 8; n++) {
		begin(20 + n, IKE_PLACE_UNPROVED);
		move(B);
		pair_for(&p, MS(15));
		net.gone = A;
		net.lose_to = (int)n; /* bob's answer and n - 1 checks */
		pair_for(&p, SECONDS(60));
		net.gone = 0;
		assert_at(B, 1, 1);
		pair_done(&p);
	}
}

/* 3.7: somebody on the way writes a third address into the update. Nothing moves there, the SA lives, and the third address
 * gets a bounded number of datagrams. */
static void forged_source_3_7(void **state)
{
	(void)state;
	begin(30, IKE_PLACE_UNPROVED);
	net.rewrite = VICTIM;
	move(B);
	pair_outputs(&p);
	net.rewrite = 0;
	pair_for(&p, SECONDS(200));
	assert_true(pair_up(&p));
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	assert_int_equal(p.sa[BOB]->move.esp.remote.ip[3], A);
	assert_false(p.sa[BOB]->move.has_maybe);
	assert_true(net.n_to[VICTIM] <= 2 + IKE_ROUTE_CHECKS * (IKE_ROUTE_ALONE + 2));
	/* and the next update works */
	move(C);
	pair_for(&p, SECONDS(2));
	assert_at(C, p.n_events[ALICE][IKE_EV_MOVED], 1);
	pair_done(&p);
}

/* The same in every message of alice's, all the time: an attacker who stays. */
static void forged_always_3_7(void **state)
{
	(void)state;
	begin(31, IKE_PLACE_UNPROVED);
	net.rewrite = C;
	net.gone = C; /* nobody is there */
	for (int i = 0; i < 5; i++) {
		move(i & 1 ? A : B);
		pair_for(&p, SECONDS(5));
	}
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	assert_int_equal(p.sa[BOB]->move.esp.remote.ip[3], A);
	pair_done(&p);
}

static void routability_of_second_3_7(void **state)
{
	(void)state;
	begin(32, IKE_PLACE_UNPROVED);
	net.gone = B;
	net.rewrite = B; /* bob believes in B, where nobody is */
	move(C);
	pair_outputs(&p);
	net.gone = net.rewrite = 0;
	pair_for(&p, MS(15));
	assert_true(p.sa[BOB]->move.has_maybe);
	net.gone = B;
	move(A);
	pair_for(&p, SECONDS(1));
	move(C);
	pair_for(&p, SECONDS(10));
	net.gone = 0;
	assert_at(C, p.n_events[ALICE][IKE_EV_MOVED], 1);
	pair_done(&p);
}

/* A message of `side` with one notify, correctly protected, as the next request or as an answer to what is out. */
static void say(int side, bool is_response, uint16_t type, struct span data, const struct path *seen)
{
	struct ike_sa *s = p.sa[side], *o = p.sa[!side];
	struct ike_header h = ike_header_of(s, IKE_INFORMATIONAL, is_response,
					    is_response ? o->window.next_out - 1 : o->window.next_in);
	uint8_t mem[512];
	struct ike_build b;
	struct span msg;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	if (type)
		ike_build_notify(&b, type, data);
	assert_int_equal(ike_build_seal(&b, &s->keys.out, &msg), OK);
	ike_sa_input(o, p.now_us, seen, msg);
}

/* 3.7: an answer that does not repeat COOKIE2 closes the IKE SA. */
static void cookie2_wrong_3_7(void **state)
{
	static const uint8_t wrong[IKE_NONCE_OURS] = { 1 };
	struct path hers = from(B), his = to(B);

	(void)state;
	for (int i = 0; i < 4; i++) {
		int asker = i & 1 ? ALICE : BOB;

		begin(40 + (unsigned)i, IKE_PLACE_UNPROVED);
		move(B);
		pair_for(&p, asker == BOB ? MS(25) : MS(15)); /* the right answer is on its way, and gets lost */
		pair_clear(&p);
		assert_true(p.sa[asker]->window.waiting);
		if (i & 2)
			say(!asker, true, IKE_N_COOKIE2, SPAN_OF(wrong), asker == ALICE ? &hers : &his);
		else
			say(!asker, true, 0, SPAN_NONE, asker == ALICE ? &hers : &his);
		pair_events(&p);
		assert_int_equal(p.n_events[asker][IKE_EV_FAILED], 1);
		assert_int_equal(p.n_events[asker][IKE_EV_MOVED], 0);
		assert_non_null(p.last[asker][IKE_EV_FAILED].detail);
		pair_for(&p, SECONDS(1));
		assert_int_equal(p.n_events[!asker][IKE_EV_CLOSED], 1); /* it was told */
		pair_done(&p);
	}
}

static unsigned n_cookies;
static uint8_t echoed[64];

/* bob's answers, read by the one who has the keys */
static bool read_cookie(struct pair *q, int side, unsigned n, uint8_t *msg, size_t *len)
{
	uint8_t copy[IKE_MSG_MAX], plain[IKE_MSG_MAX];
	struct ike_chain c;
	struct ike_notify cookie;
	struct span inner, m;
	const struct ike_payload *sk;

	(void)n;
	if (side != BOB)
		return true;
	memcpy(copy, msg, *len);
	m = span_of(copy, *len);
	assert_int_equal(ike_chain_parse(span_from(m, IKE_HDR), copy[16], &c), OK);
	sk = ike_chain_find(&c, IKE_P_SK);
	assert_int_equal(ike_sk_open(&q->sa[ALICE]->keys.in, m, sk, plain, &inner), OK);
	assert_int_equal(ike_chain_parse(inner, sk->next, &c), OK);
	if (ike_notify_find(&c, IKE_N_COOKIE2, &cookie)) {
		n_cookies++;
		memcpy(echoed, cookie.data.p, cookie.data.len);
	}
	return true;
}

/* 3.7, 4.2.5: COOKIE2 is repeated as it is, in whatever INFORMATIONAL it comes; one of a wrong length is none. */
static void cookie2_repeated_3_7(void **state)
{
	static const size_t lens[] = { 7, 8, 33, 64, 65 };
	uint8_t cookie[65];
	struct path his = to(A);

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		begin(50, IKE_PLACE_UNPROVED);
		memset(cookie, (int)(0x41 + i), sizeof(cookie));
		n_cookies = 0;
		p.filter = read_cookie;
		say(ALICE, false, IKE_N_COOKIE2, span_of(cookie, lens[i]), &his);
		pair_outputs(&p);
		assert_int_equal(n_cookies, lens[i] >= 8 && lens[i] <= 64);
		if (n_cookies)
			assert_memory_equal(echoed, cookie, lens[i]);
		p.filter = NULL;
		pair_done(&p);
	}
}

/* 3.4, 3.6, 3.9: what says nothing to us is answered, and that is all. */
static void ignored_3_6(void **state)
{
	static const uint16_t types[] = { IKE_N_ADDITIONAL_IP4_ADDRESS,  IKE_N_ADDITIONAL_IP6_ADDRESS,
					  IKE_N_NO_ADDITIONAL_ADDRESSES, IKE_N_NO_NATS_ALLOWED,
					  IKE_N_UNEXPECTED_NAT_DETECTED, IKE_N_UNACCEPTABLE_ADDRESSES };
	static const uint8_t data[16] = { 192, 0, 2, 77 };
	struct path his = to(B);

	(void)state;
	begin(51, IKE_PLACE_PROVED);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		uint64_t n = p.sa[BOB]->stats.n_out;

		p.sa[ALICE]->window.next_out = p.sa[BOB]->window.next_in;
		say(ALICE, false, types[i], span_of(data, i == 0 ? 4 : i == 1 ? 16 : 0), &his);
		assert_int_equal(p.sa[BOB]->stats.n_out, n + 1);
		p.sa[ALICE]->window.next_out++;
	}
	pair_clear(&p);
	pair_events(&p);
	assert_at(A, 0, 0);
	pair_done(&p);
}

/* An update that is not authentic, or was not agreed on, changes nothing. */
static void unauthentic_5_1(void **state)
{
	struct path his = to(B);
	uint8_t bad[IKE_MSG_MAX];
	size_t len;

	(void)state;
	begin(52, IKE_PLACE_PROVED);
	net.lose_to = -1;
	move(B);
	pair_outputs(&p);
	len = net.last_len;
	for (size_t i = 0; i < len; i++) {
		memcpy(bad, net.last, len);
		bad[i] ^= 0x10;
		ike_sa_input(p.sa[BOB], p.now_us, &his, span_of(bad, len));
		pair_events(&p);
	}
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	pair_for(&p, SECONDS(2));
	assert_at(B, 1, 1);
	pair_done(&p);
	begin(53, IKE_PLACE_PROVED);
	p.sa[BOB]->move.on = false; /* as if IKE_AUTH had not said it */
	move(B);
	net.lose_to = 1;
	pair_for(&p, MS(100));
	assert_int_equal(p.n_events[BOB][IKE_EV_MOVED], 0);
	pair_done(&p);
}

/* Memory that runs out is a lost datagram. */
static bool life(void *arg)
{
	bool whole = false;

	memset(&net, 0, sizeof(net));
	net.place = *(const enum ike_place *)arg;
	pair_init(&p, 60);
	p.wire = wire;
	p.path[ALICE] = from(A);
	p.path[BOB] = to(A);
	p.cfg[BOB].place = place;
	if (pair_new(&p) == OK && ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) == OK) {
		pair_for(&p, 4 * FLIGHT_US);
		whole = pair_up(&p) && p.n_sent == 4;
		pair_for(&p, SECONDS(3));
		if (pair_up(&p)) {
			unsigned sent = p.n_sent;
			bool later = net.place == IKE_PLACE_UNPROVED;

			move(B);
			pair_for(&p, 4 * FLIGHT_US);
			whole = whole && p.n_sent == sent + (later ? 4 : 2) && p.n_events[BOB][IKE_EV_MOVED] == 1 &&
				p.n_events[ALICE][IKE_EV_MOVED] == 1 && !p.sa[BOB]->window.waiting;
			pair_for(&p, SECONDS(3));
			assert_at(B, 1, 1);
		}
	}
	pair_done(&p);
	return whole;
}

static void no_memory(void **state)
{
	enum ike_place where[] = { IKE_PLACE_PROVED, IKE_PLACE_UNPROVED };

	(void)state;
	pair_identities();
	harness_alloc_ladder(life, &where[0]);
	harness_alloc_ladder(life, &where[1]);
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(negotiation_3_2),
		cmocka_unit_test(plain_esp_3_9),
		cmocka_unit_test(first_path_3_3),
		cmocka_unit_test(auth_strays_3_3),
		cmocka_unit_test(update_3_5),
		cmocka_unit_test(lost_update_3_5),
		cmocka_unit_test(lost_answer_3_5),
		cmocka_unit_test(answered_on_old_path_3_5),
		cmocka_unit_test(two_moves_3_5),
		cmocka_unit_test(outstanding_3_5),
		cmocka_unit_test(unacceptable_3_5),
		cmocka_unit_test(old_update_again_3_5),
		cmocka_unit_test(rekey_and_update),
		cmocka_unit_test(rekey_then_move),
		cmocka_unit_test(update_of_old_sa),
		cmocka_unit_test(ignored_3_6),
		cmocka_unit_test(routability_3_7),
		cmocka_unit_test(routability_lost_3_7),
		cmocka_unit_test(forged_source_3_7),
		cmocka_unit_test(forged_always_3_7),
		cmocka_unit_test(routability_of_second_3_7),
		cmocka_unit_test(cookie2_wrong_3_7),
		cmocka_unit_test(cookie2_repeated_3_7),
		cmocka_unit_test(rebound_3_8),
		cmocka_unit_test(nat_seen_by_probe_3_8),
		cmocka_unit_test(ordinary_moves_nothing_3_8),
		cmocka_unit_test(patience_3_11),
		cmocka_unit_test(unauthentic_5_1),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
