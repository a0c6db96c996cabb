/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two SAs back to back: what a call does when both sides want it to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "harness.h"
#include "ike_pair.h"

static struct pair p;

static void begin(uint64_t seed)
{
	pair_init(&p, seed);
	assert_int_equal(pair_new(&p), OK);
}

static void dial(void)
{
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
}

/* alice -> bob IKE_SA_INIT, IKE_AUTH; both up after two round trips, one Child SA, two grants. */
static void call(void **state)
{
	(void)state;
	begin(1);
	assert_string_equal(ike_sa_state_name(p.sa[ALICE]), "IDLE");
	assert_int_equal(ike_sa_spi_r(p.sa[ALICE]), 0);
	assert_true(ike_sa_local_spi(p.sa[BOB]) && ike_sa_deadline_us(p.sa[BOB]) == TIME_NEVER);
	dial();
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), ERR_WRONG_STATE);
	pair_for(&p, 4 * FLIGHT_US);
	assert_true(pair_up(&p));
	assert_int_equal(p.n_sent, 4);
	assert_true(ike_sa_spi_i(p.sa[ALICE]) == ike_sa_spi_i(p.sa[BOB]) &&
		    ike_sa_spi_r(p.sa[ALICE]) == ike_sa_spi_r(p.sa[BOB]));
	assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 1);
	assert_int_equal(p.last[BOB][IKE_EV_ASKED].request, 7);
	assert_true(p.last[BOB][IKE_EV_ASKED].wants_child && !p.last[BOB][IKE_EV_ASKED].no_request);
	assert_memory_equal(p.last[BOB][IKE_EV_ASKED].peer_key, p.cfg[BOB].peer_key, SPKI_HASH);
	assert_memory_equal(&p.last[BOB][IKE_EV_ASKED].ts_peer, &p.cfg[ALICE].tsi, sizeof(struct ike_ts_list));
	assert_int_equal(p.n_events[BOB][IKE_EV_AUTHENTICATED], 1);
	assert_int_equal(p.n_events[ALICE][IKE_EV_AUTHENTICATED], 1);
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 2);
	assert_int_equal(p.last[ALICE][IKE_EV_GRANT].grant.id, 102);
	assert_string_equal(p.last[ALICE][IKE_EV_GRANT].grant.name, "ssh");
	assert_true(pair_child_same(&p, 0));
	assert_int_equal(p.children[ALICE][0].grant_id, 101);
	/* narrowed to the desktop's port (2.9) */
	assert_int_equal(p.children[ALICE][0].ts_peer.ts[0].port_lo, 5900);
	assert_int_equal(p.children[ALICE][0].ts_peer.ts[0].protocol, 6);
	assert_int_equal(ike_sa_deadline_us(p.sa[ALICE]), TIME_NEVER);
	assert_int_equal(ike_sa_deadline_us(p.sa[BOB]), TIME_NEVER);
	pair_done(&p);
}

static bool drop_nth(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)from;
	(void)msg;
	(void)len;
	return n != *(unsigned *)q->arg;
}

static bool drop_many(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)from;
	(void)msg;
	(void)len;
	(void)n;
	return rng_below(&q->rng, 100) >= *(unsigned *)q->arg;
}

static void lost(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 6; n++) {
		begin(n);
		p.filter = drop_nth;
		p.arg = &n;
		dial();
		pair_for(&p, SECONDS(3));
		assert_true(pair_up(&p) && pair_child_same(&p, 0));
		assert_int_equal(p.n_children[ALICE] + p.n_children[BOB], 2);
		assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 1);
		pair_done(&p);
	}
	/* half of everything: up, or a time-out that says so, and never two of a thing */
	for (unsigned seed = 0; seed < 40; seed++) {
		unsigned percent = 50;

		begin(seed);
		p.filter = drop_many;
		p.arg = &percent;
		dial();
		pair_for(&p, SECONDS(120));
		assert_true(p.n_children[ALICE] <= 1 && p.n_children[BOB] <= 1);
		assert_true(pair_child_same(&p, 0) || p.last[ALICE][IKE_EV_FAILED].fail == IKE_FAIL_TIMEOUT);
		pair_done(&p);
	}
}

/* Loses all but the message that arg counts from, and what follows it. */
static bool drop_first(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)from;
	(void)msg;
	(void)len;
	return n >= *(const unsigned *)q->arg;
}

/* IKE_AUTH, however often it leaves. */
static bool drop_auth(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)from;
	(void)n;
	(void)len;
	return msg[18] != IKE_AUTH;
}

/* docs/protocol.md: at an address that no check has proved three messages may go unanswered, and no more. */
static void nobody_at_that_address(void **state)
{
	unsigned n = 99;

	(void)state;
	pair_init(&p, 50);
	p.cfg[ALICE].first_sends = 3;
	assert_int_equal(pair_new(&p), OK);
	p.filter = drop_first;
	p.arg = &n;
	dial();
	pair_for(&p, SECONDS(60));
	assert_int_equal(p.n_sent, 3);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	pair_done(&p);
	/* the third arrives */
	n = 2;
	pair_init(&p, 51);
	p.cfg[ALICE].first_sends = 3;
	assert_int_equal(pair_new(&p), OK);
	p.filter = drop_first;
	p.arg = &n;
	dial();
	pair_for(&p, SECONDS(3));
	assert_true(pair_up(&p));
	pair_done(&p);
	/* and who has answered is asked as patiently as anybody */
	pair_init(&p, 52);
	p.cfg[ALICE].first_sends = 3;
	assert_int_equal(pair_new(&p), OK);
	p.filter = drop_auth;
	dial();
	pair_for(&p, SECONDS(60));
	assert_int_equal(p.n_sent, 2 + IKE_SENDS_MAX);
	pair_done(&p);
}

/* Keeps a copy of all that was sent, and sends all twice. */
struct recorder {
	struct {
		int to;
		uint8_t msg[1500];
		size_t len;
	} m[32];
	unsigned n;
};

static bool twice(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct recorder *r = q->arg;

	(void)n;
	if (r->n < 32 && *len <= sizeof(r->m[0].msg)) {
		r->m[r->n].to = !from;
		memcpy(r->m[r->n].msg, msg, *len);
		r->m[r->n++].len = *len;
	}
	pair_throw(q, !from, span_of(msg, *len), 2 * FLIGHT_US + MS(5));
	return true;
}

static void duplicated_and_late(void **state)
{
	static struct recorder r;

	(void)state;
	begin(3);
	r.n = 0;
	p.filter = twice;
	p.arg = &r;
	dial();
	pair_for(&p, SECONDS(2));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	assert_int_equal(p.n_children[ALICE] + p.n_children[BOB], 2);
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 2);
	assert_true(ike_sa_stats(p.sa[BOB])->n_duplicate > 0 && ike_sa_stats(p.sa[ALICE])->n_duplicate > 0);
	/* all of it once more, backwards, much later */
	p.filter = NULL;
	for (unsigned i = r.n; i-- > 0;)
		pair_throw(&p, r.m[i].to, span_of(r.m[i].msg, r.m[i].len), FLIGHT_US);
	pair_for(&p, SECONDS(60));
	assert_true(pair_up(&p));
	assert_int_equal(p.n_children[ALICE] + p.n_children[BOB], 2);
	assert_int_equal(p.n_events[ALICE][IKE_EV_AUTHENTICATED], 1);
	pair_done(&p);
}

static void cookie(void **state)
{
	(void)state;
	begin(4);
	assert_int_equal(ike_cookies_new(&p.rng, &p.cookies), OK);
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	pair_done(&p);
}

/* alice's first request offers P-256 only, or so bob sees it: he asks for P-256. */
static bool hide_x25519(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	size_t at = span_find_span(span_of(msg, *len), span_of("\x04\x00\x00\x1f", 4));

	(void)q;
	if (from == ALICE && n == 0 && at < *len)
		msg[at + 3] = 0x63;
	return true;
}

/* INVALID_KE_PAYLOAD from bob and at alice, alone and behind a cookie. */
static void other_group(void **state)
{
	(void)state;
	for (int with_cookie = 0; with_cookie < 2; with_cookie++) {
		begin(5);
		if (with_cookie)
			assert_int_equal(ike_cookies_new(&p.rng, &p.cookies), OK);
		else
			p.filter = hide_x25519;
		dial();
		if (with_cookie) {
			/* after the cookie, the answer of somebody who wants P-256 */
			struct ike_header h = { .spi_i = ike_sa_spi_i(p.sa[ALICE]),
						.exchange = IKE_SA_INIT,
						.is_response = true };
			struct ike_build b;
			uint8_t mem[64];
			struct span msg;

			pair_for(&p, 2 * FLIGHT_US);
			pair_clear(&p); /* bob shall not see the request before */
			ike_build_start(&b, mem, sizeof(mem), &h);
			ike_build_notify(&b, IKE_N_INVALID_KE_PAYLOAD, span_of("\0\x13", 2));
			assert_int_equal(ike_build_done(&b, &msg), OK);
			pair_throw(&p, ALICE, msg, 0);
			pair_throw(&p, ALICE, msg, MS(1)); /* twice is not obeyed */
		}
		pair_for(&p, SECONDS(2));
		assert_true(pair_up(&p) && pair_child_same(&p, 0));
		assert_int_equal(p.sa[ALICE]->suite.group->id, 19);
		pair_done(&p);
	}
}

static void refused(void **state)
{
	(void)state;
	begin(6);
	p.decision.verdict = IKE_REFUSED;
	p.decision.refuse_reason = 1;
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	assert_int_equal(p.n_children[ALICE] + p.n_children[BOB], 0);
	assert_int_equal(p.n_events[ALICE][IKE_EV_REFUSED], 1);
	assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].refuse_reason, 1);
	assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].notify, 0);
	assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].request, 7);
	pair_done(&p);

	begin(7);
	p.decision.verdict = IKE_REJECTED;
	dial();
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_AUTH);
	assert_int_equal(p.n_events[BOB][IKE_EV_CLOSED], 1);
	pair_done(&p);

	/* granted, but nothing is left of the selectors */
	begin(8);
	p.decision.ts_local.ts[0] = pair_ts(9, 0, 0, 65535);
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	assert_int_equal(p.n_children[ALICE] + p.n_children[BOB], 0);
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 2);
	assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].notify, IKE_N_TS_UNACCEPTABLE);
	pair_done(&p);
}

/* Somebody is asked; 20 s later the yes comes as an INFORMATIONAL, and alice makes the Child SA. */
static void waiting(void **state)
{
	struct ike_decision later;

	(void)state;
	begin(9);
	later = p.decision;
	later.n_grants = 1;
	p.decision.verdict = IKE_WAITING;
	p.decision.wait_s = 30;
	assert_int_equal(ike_sa_grant_later(p.sa[BOB], p.now_us, &later), ERR_WRONG_STATE);
	dial();
	pair_for(&p, SECONDS(20));
	assert_true(pair_up(&p));
	assert_int_equal(p.last[ALICE][IKE_EV_WAIT].wait_s, 30);
	assert_int_equal(p.n_events[ALICE][IKE_EV_REFUSED] + p.n_children[ALICE] + p.n_children[BOB], 0);
	assert_int_equal(ike_sa_grant_later(p.sa[BOB], p.now_us, &later), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 1);
	assert_int_equal(p.last[ALICE][IKE_EV_GRANT].grant.id, 101);
	p.child_decision.ts_local.ts[0] = pair_ts(2, 6, 5900, 5900);
	assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 101, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.last[BOB][IKE_EV_CHILD_ASKED].grant_id, 101);
	assert_true(pair_child_same(&p, 0));
	assert_int_equal(p.children[BOB][0].grant_id, 101);
	/* a no comes the same way */
	later.verdict = IKE_REFUSED;
	later.refuse_reason = 2;
	assert_int_equal(ike_sa_grant_later(p.sa[BOB], p.now_us, &later), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].refuse_reason, 2);
	/* nobody else's request is answered, nothing unasked is taken */
	later.verdict = IKE_GRANTED;
	later.grants[0].request = 8;
	assert_int_equal(ike_sa_grant_later(p.sa[BOB], p.now_us, &later), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 1);
	pair_done(&p);
}

static void named_services(void **state)
{
	(void)state;
	begin(10);
	pair_done(&p);
	pair_init(&p, 10);
	memcpy(p.cfg[ALICE].names[0], "ssh", 4);
	p.cfg[ALICE].n_names = 1;
	assert_int_equal(pair_new(&p), OK);
	dial();
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.last[BOB][IKE_EV_ASKED].n_names, 1);
	assert_string_equal(p.last[BOB][IKE_EV_ASKED].names[0], "ssh");
	/* bob's owner granted the desktop as well: that was not asked for */
	assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT], 1);
	assert_int_equal(p.last[ALICE][IKE_EV_GRANT].grant.id, 102);
	pair_done(&p);
}

static void more_children(void **state)
{
	(void)state;
	begin(11);
	p.cfg[ALICE].dpd_s = 0;
	dial();
	pair_for(&p, SECONDS(1));
	/* all at once: the window sends one after the other */
	for (uint32_t i = 1; i < IKE_CHILDREN_MAX; i++)
		assert_int_equal(
			ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 100 + i, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr),
			OK);
	assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 200, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr),
			 ERR_LIMIT);
	pair_for(&p, SECONDS(5));
	assert_int_equal(p.n_children[ALICE], IKE_CHILDREN_MAX);
	for (unsigned i = 0; i < IKE_CHILDREN_MAX; i++)
		assert_true(pair_child_same(&p, i));
	assert_int_equal(p.children[BOB][5].grant_id, 105);
	/* no room for bob either */
	assert_int_equal(ike_sa_child_create(p.sa[BOB], p.now_us, 0, 0, &p.cfg[ALICE].tsr, &p.cfg[ALICE].tsi),
			 ERR_LIMIT);
	pair_done(&p);

	/* refused, and the SA goes on; then one that bob makes */
	begin(12);
	dial();
	pair_for(&p, SECONDS(1));
	p.child_decision.verdict = IKE_REFUSED;
	assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[ALICE][IKE_EV_REFUSED], 1);
	assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].grant_id, 102);
	p.child_decision.verdict = IKE_GRANTED;
	p.child_decision.ts_local = p.cfg[ALICE].tsi;
	p.child_decision.ts_peer = p.cfg[ALICE].tsr;
	assert_int_equal(ike_sa_child_create(p.sa[BOB], p.now_us, 0, 0, &p.cfg[ALICE].tsr, &p.cfg[ALICE].tsi), OK);
	pair_for(&p, SECONDS(1));
	assert_true(pair_child_same(&p, 1) && p.children[BOB][1].we_initiated);
	/* both at once */
	assert_int_equal(ike_sa_child_create(p.sa[BOB], p.now_us, 0, 0, &p.cfg[ALICE].tsr, &p.cfg[ALICE].tsi), OK);
	p.child_decision.ts_local = p.cfg[ALICE].tsr;
	p.child_decision.ts_peer = p.cfg[ALICE].tsi;
	assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 103, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_ASKED], 2);
	assert_int_equal(p.n_events[BOB][IKE_EV_CHILD_ASKED], 2);
	pair_done(&p);
}

static void child_deleted(void **state)
{
	(void)state;
	for (int who = 0; who < 3; who++) { /* alice, bob, both at once */
		begin(13);
		dial();
		pair_for(&p, SECONDS(1));
		assert_int_equal(ike_sa_child_delete(p.sa[ALICE], p.now_us, 0xc0000000), ERR_NOTFOUND);
		if (who != BOB) {
			assert_int_equal(ike_sa_child_delete(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
			assert_int_equal(ike_sa_child_delete(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
		}
		if (who != ALICE)
			assert_int_equal(ike_sa_child_delete(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
		pair_for(&p, SECONDS(1));
		for (int i = 0; i < 2; i++) {
			assert_int_equal(p.n_events[i][IKE_EV_CHILD_GONE], 1);
			assert_int_equal(p.last[i][IKE_EV_CHILD_GONE].child.spi_in, p.children[i][0].spi_in);
		}
		assert_true(pair_up(&p));
		/* there is room for a new one */
		assert_int_equal(
			ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
		pair_for(&p, SECONDS(1));
		assert_true(pair_child_same(&p, 1));
		pair_done(&p);
	}
}

static void deleted(void **state)
{
	(void)state;
	for (int who = 0; who < 3; who++) {
		begin(14);
		dial();
		pair_for(&p, SECONDS(1));
		assert_int_equal(
			ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
		if (who != BOB)
			ike_sa_delete(p.sa[ALICE], p.now_us);
		if (who != ALICE)
			ike_sa_delete(p.sa[BOB], p.now_us);
		assert_int_equal(
			ike_sa_child_create(p.sa[who == BOB], p.now_us, 7, 1, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr),
			ERR_WRONG_STATE);
		pair_for(&p, SECONDS(5));
		for (int i = 0; i < 2; i++) {
			assert_int_equal(p.n_events[i][IKE_EV_CLOSED], 1);
			assert_int_equal(p.n_events[i][IKE_EV_FAILED], 0);
			assert_string_equal(ike_sa_state_name(p.sa[i]), "DEAD");
			assert_int_equal(ike_sa_deadline_us(p.sa[i]), TIME_NEVER);
		}
		pair_done(&p);
	}
	/* at every moment of the set-up, with the other side there or gone */
	for (unsigned ms = 0; ms < 60; ms += 5)
		for (int who = 0; who < 2; who++) {
			begin(15);
			dial();
			pair_for(&p, MS(ms));
			ike_sa_delete(p.sa[who], p.now_us);
			pair_for(&p, SECONDS(100));
			assert_int_equal(p.n_events[who][IKE_EV_CLOSED], 1);
			assert_int_equal(p.n_events[who][IKE_EV_FAILED], 0);
			assert_int_equal(p.n_events[!who][IKE_EV_CLOSED] + p.n_events[!who][IKE_EV_FAILED] > 0 ||
						 !strcmp(ike_sa_state_name(p.sa[!who]), "LISTENING"),
					 1);
			pair_done(&p);
		}
}

static bool deaf(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)n;
	(void)msg;
	(void)len;
	return from != BOB;
}

static void liveness(void **state)
{
	(void)state;
	pair_init(&p, 16);
	p.cfg[ALICE].dpd_s = 30;
	assert_int_equal(pair_new(&p), OK);
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	pair_for(&p, SECONDS(300));
	assert_true(pair_up(&p));
	assert_int_equal(ike_sa_stats(p.sa[ALICE])->n_retransmitted, 0);
	assert_true(p.n_sent >= 4 + 2 * 9 && p.n_sent <= 4 + 2 * 10);
	/* bob is gone: found out after 30 s of silence and 31.5 s of trying */
	p.filter = deaf;
	pair_for(&p, SECONDS(62));
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	pair_done(&p);

	/* asked at once */
	begin(17);
	dial();
	pair_for(&p, SECONDS(1));
	ike_sa_probe(p.sa[ALICE], p.now_us);
	ike_sa_probe(p.sa[ALICE], p.now_us);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_sent, 6);
	/* deleting towards a dead peer ends as closed */
	p.filter = deaf;
	ike_sa_delete(p.sa[ALICE], p.now_us);
	pair_for(&p, SECONDS(32));
	assert_int_equal(p.n_events[ALICE][IKE_EV_CLOSED], 1);
	pair_done(&p);
}

static void path_changes(void **state)
{
	struct path other;
	struct out o;

	(void)state;
	begin(18);
	dial();
	pair_for(&p, SECONDS(1));
	other = p.path[ALICE];
	other.remote.port = 4501;
	ike_sa_set_path(p.sa[ALICE], &other);
	ike_sa_probe(p.sa[ALICE], p.now_us);
	assert_true(ike_sa_poll_output(p.sa[ALICE], &o));
	assert_int_equal(o.path.remote.port, 4501);
	ike_sa_tick(p.sa[ALICE], p.now_us + MS(500));
	assert_true(ike_sa_poll_output(p.sa[ALICE], &o));
	assert_int_equal(o.path.remote.port, 4501);
	/* bob answers where it came from (2.11), his own exchanges stay */
	other = p.path[BOB];
	other.remote.port = 4777;
	ike_sa_input(p.sa[BOB], p.now_us, &other, o.bytes);
	assert_true(ike_sa_poll_output(p.sa[BOB], &o));
	assert_int_equal(o.path.remote.port, 4777);
	ike_sa_probe(p.sa[BOB], p.now_us);
	assert_true(ike_sa_poll_output(p.sa[BOB], &o));
	assert_int_equal(o.path.remote.port, 4500);
	pair_done(&p);
}

/* A peer without our vendor ID, in a call that is not bound. */
static void stock_peer(void **state)
{
	(void)state;
	for (int stock = 0; stock < 2; stock++)
		for (int ask = 0; ask < 2; ask++) {
			pair_init(&p, 19);
			for (int i = 0; i < 2; i++) {
				p.cfg[i].bare = true;
				p.cfg[i].has_binding = false;
				p.stock[i] = true;
			}
			/* it calls itself as it likes; whether its key is pinned is the user's choice */
			memcpy(p.cfg[stock].local_aor, "gateway", 8);
			p.decision.n_grants = 0;
			p.cfg[!stock].has_peer_key = ask;
			if (ask)
				p.decision.verdict = IKE_WAITING;
			assert_int_equal(pair_new(&p), OK);
			dial();
			pair_for(&p, SECONDS(1));
			assert_true(pair_up(&p));
			assert_true(p.last[BOB][IKE_EV_ASKED].no_request);
			assert_int_equal(p.n_events[ALICE][IKE_EV_GRANT] + p.n_events[ALICE][IKE_EV_WAIT], 0);
			if (!ask) {
				assert_true(pair_child_same(&p, 0));
			} else {
				assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].notify, IKE_N_TS_UNACCEPTABLE);
				p.child_decision.ts_local = p.cfg[ALICE].tsi;
				p.child_decision.ts_peer = p.cfg[ALICE].tsr;
				assert_int_equal(ike_sa_child_create(p.sa[BOB], p.now_us, 0, 0, &p.cfg[ALICE].tsr,
								     &p.cfg[ALICE].tsi),
						 OK);
				pair_for(&p, SECONDS(1));
				assert_true(p.last[ALICE][IKE_EV_CHILD_ASKED].no_request);
				assert_true(pair_child_same(&p, 0));
			}
			pair_done(&p);
		}
}

/* SPIs that the owner calls taken are not chosen. */
static void spi_taken(void **state)
{
	(void)state;
	begin(20);
	dial();
	pair_for(&p, SECONDS(1));
	p.taken = p.children[ALICE][0].spi_in;
	pair_done(&p);
	for (uint32_t again = p.taken, n = 0; n < 2; n++) {
		begin(20);
		p.taken = n ? again : 0;
		dial();
		pair_for(&p, SECONDS(1));
		assert_int_equal(p.children[ALICE][0].spi_in == again, n == 0);
		pair_done(&p);
	}
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

/* ESP without UDP (2.23): both hashes are true, and a NAT, or a peer that wants UDP whatever there is, ends it. */
static void without_udp(void **state)
{
	static const struct {
		bool alice, bob, nat, up;
	} rows[] = { { true, true, false, true },
		     { true, true, true, false },
		     { true, false, false, false },
		     { false, true, false, false },
		     { false, false, true, true } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pair_init(&p, i);
		p.cfg[ALICE].plain_esp = rows[i].alice;
		p.cfg[BOB].plain_esp = rows[i].bob;
		if (rows[i].nat) /* bob sees another address than alice's own */
			p.path[BOB].remote = addr_ip4(0xcb007107, 4500);
		assert_int_equal(pair_new(&p), OK);
		assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
		pair_for(&p, SECONDS(100));
		if (pair_up(&p) != rows[i].up)
			fail_msg("row %zu", i);
		if (!rows[i].up && rows[i].bob && !rows[i].nat && rows[i].alice != rows[i].bob)
			assert_int_equal(p.sa[BOB]->suspect, IKE_FAIL_NAT);
		if (!rows[i].up && rows[i].alice && !rows[i].bob)
			assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_NAT);
		pair_done(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call),
		cmocka_unit_test(lost),
		cmocka_unit_test(nobody_at_that_address),
		cmocka_unit_test(duplicated_and_late),
		cmocka_unit_test(cookie),
		cmocka_unit_test(other_group),
		cmocka_unit_test(refused),
		cmocka_unit_test(waiting),
		cmocka_unit_test(named_services),
		cmocka_unit_test(more_children),
		cmocka_unit_test(child_deleted),
		cmocka_unit_test(deleted),
		cmocka_unit_test(liveness),
		cmocka_unit_test(path_changes),
		cmocka_unit_test(stock_peer),
		cmocka_unit_test(spi_taken),
		cmocka_unit_test(without_udp),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
