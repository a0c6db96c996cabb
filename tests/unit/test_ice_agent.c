/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two agents in virtual time, over a wire with delay, loss and a port-restricted NAT in front of either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "harness.h"
#include "ice/agent.h"
#include "ice/gather.h"

#define WIRE_MAX 256
#define FILTER_MAX 16

struct side {
	struct ice_agent *agent;
	struct addr host, outside; /* outside.family NONE: no NAT */
	struct addr sent_to[FILTER_MAX]; /* what the NAT lets in */
	unsigned n_sent_to;
	bool cut; /* nothing leaves or arrives */
	struct ice_event last;
	unsigned n_valid, n_selected, n_failed, n_lost, n_back, n_probed;
	unsigned n_out;
};

struct datagram {
	uint64_t due_us;
	struct addr from, to;
	uint8_t bytes[1500];
	size_t len;
};

static struct side sides[2];
static struct datagram wire[WIRE_MAX];
static unsigned n_wire, loss_percent;
static size_t carries = 1500; /* the longest IP packet */
static bool echoes; /* somebody is faster with a copy of each answer, from his own address */
static uint64_t now_us, delay_us;
static struct rng_seeded seed;
static struct rng rng;
static struct stun_msg parsed;

static void drain(struct side *s)
{
	struct ice_event e;
	struct out o;

	while (ice_agent_poll_output(s->agent, &o)) {
		struct datagram *d = &wire[n_wire];

		s->n_out++;
		assert_true(addr_eq(&o.path.local, &s->host));
		if (s->outside.family != ADDR_NONE && s->n_sent_to < FILTER_MAX)
			s->sent_to[s->n_sent_to++] = o.path.remote;
		if (o.bytes.len + (s->host.family == ADDR_IP6 ? 48 : 28) > carries)
			continue;
		if (s->cut || n_wire == WIRE_MAX || rng_below(&rng, 100) < loss_percent)
			continue;
		*d = (struct datagram){ .due_us = now_us + delay_us,
					.to = o.path.remote,
					.from = s->outside.family != ADDR_NONE ? s->outside : s->host,
					.len = o.bytes.len };
		assert_true(o.bytes.len <= sizeof(d->bytes));
		memcpy(d->bytes, o.bytes.p, o.bytes.len);
		n_wire++;
	}
	while (ice_agent_poll_event(s->agent, &e)) {
		s->last = e;
		s->n_valid += e.kind == ICE_VALID;
		s->n_selected += e.kind == ICE_SELECTED;
		s->n_failed += e.kind == ICE_FAILED;
		s->n_lost += e.kind == ICE_CONSENT_LOST;
		s->n_back += e.kind == ICE_CONSENT_BACK;
		s->n_probed += e.kind == ICE_PROBED;
	}
}

static bool lets_in(const struct side *s, const struct datagram *d)
{
	if (s->outside.family == ADDR_NONE)
		return addr_eq(&d->to, &s->host);
	for (unsigned i = 0; addr_eq(&d->to, &s->outside) && i < s->n_sent_to; i++)
		if (addr_eq(&s->sent_to[i], &d->from))
			return true;
	return false;
}

static void deliver(struct datagram d)
{
	for (int k = 0; k < 2; k++) {
		struct side *s = &sides[k];
		struct path path = { .local = s->host, .remote = d.from };

		if (s->cut || !lets_in(s, &d))
			continue;
		assert_int_equal(stun_parse(span_of(d.bytes, d.len), &parsed), OK);
		if (echoes && parsed.cls == STUN_SUCCESS && ice_agent_owns(s->agent, &parsed)) {
			path.remote = addr_ip4(0xcb007142, 6666);
			ice_agent_input(s->agent, now_us, &path, &parsed);
			path.remote = d.from;
		}
		if (ice_agent_owns(s->agent, &parsed))
			ice_agent_input(s->agent, now_us, &path, &parsed);
		drain(s);
	}
}

/* Until `until`, or until both have chosen when stop is set. */
static void run(uint64_t until_us, bool stop)
{
	while (now_us <= until_us && !(stop && sides[0].n_selected && sides[1].n_selected)) {
		uint64_t due = until_us + 1;
		unsigned first = WIRE_MAX;

		for (unsigned i = 0; i < n_wire; i++)
			if (wire[i].due_us < due) {
				due = wire[i].due_us;
				first = i;
			}
		for (int k = 0; k < 2; k++)
			if (ice_agent_deadline_us(sides[k].agent) < due) {
				due = ice_agent_deadline_us(sides[k].agent);
				first = WIRE_MAX;
			}
		if (due > now_us)
			now_us = due;
		if (now_us > until_us)
			return;
		if (first != WIRE_MAX) {
			struct datagram d = wire[first];

			memmove(wire + first, wire + first + 1, (--n_wire - first) * sizeof(wire[0]));
			deliver(d);
		}
		for (int k = 0; k < 2; k++) {
			ice_agent_tick(sides[k].agent, now_us);
			drain(&sides[k]);
		}
	}
}

static void setup_roles(bool a, bool b)
{
	memset(sides, 0, sizeof(sides));
	n_wire = loss_percent = 0;
	echoes = false;
	now_us = SECONDS(1);
	delay_us = MS(20);
	rng = rng_seeded_init(&seed, 7);
	for (uint32_t k = 0; k < 2; k++) {
		struct ice_config cfg = { .rng = &rng, .controlling = k ? b : a };

		sides[k].host = addr_ip4(0x0a000001 + (k << 16), 4500);
		assert_int_equal(ice_agent_new(&cfg, &sides[k].agent), OK);
	}
}

static void behind_nat(struct side *s, uint32_t ip)
{
	s->outside = addr_ip4(ip, 61000);
}

static void teardown(void)
{
	ice_agent_free(sides[0].agent);
	ice_agent_free(sides[1].agent);
}

static void describe(int from, int to, bool with_candidates)
{
	struct ice_candidate c[ICE_LOCAL_MAX];
	unsigned n = 0;

	while (with_candidates && n < ICE_LOCAL_MAX && ice_agent_local(sides[from].agent, n, &c[n]))
		n++;
	assert_int_equal(ice_agent_set_remote(sides[to].agent, ice_agent_ufrag(sides[from].agent),
					      ice_agent_pwd(sides[from].agent), false, c, n),
			 OK);
}

static void connect_both(void)
{
	for (int k = 0; k < 2; k++) {
		assert_int_equal(ice_agent_add_local(sides[k].agent, ICE_HOST, &sides[k].host, &sides[k].host), OK);
		if (sides[k].outside.family != ADDR_NONE)
			assert_int_equal(
				ice_agent_add_local(sides[k].agent, ICE_SRFLX, &sides[k].outside, &sides[k].host), OK);
	}
	describe(0, 1, true);
	describe(1, 0, true);
	ice_agent_start(sides[1].agent, now_us); /* the answerer starts first */
	drain(&sides[1]);
	run(now_us + delay_us, false);
	ice_agent_start(sides[0].agent, now_us);
	drain(&sides[0]);
}

static void both_chose(void)
{
	for (int k = 0; k < 2; k++) {
		struct addr other = sides[!k].outside.family != ADDR_NONE ? sides[!k].outside : sides[!k].host;

		assert_true(sides[k].n_valid == 1 && sides[k].n_selected >= 1 && !sides[k].n_failed);
		assert_true(addr_eq(&sides[k].last.path.remote, &other));
		assert_true(ice_agent_validated(sides[k].agent, &sides[k].last.path));
	}
}

static void direct(void **state)
{
	struct path other = { .local = sides[0].host };

	(void)state;
	setup_roles(true, false);
	connect_both();
	run(now_us + SECONDS(2), true);
	both_chose();
	/* one way to the answer, a round trip for the check and one for the nomination */
	assert_true(now_us <= SECONDS(1) + 5 * delay_us + MS(1));
	other.remote = addr_ip4(0x01020304, 4500);
	assert_false(ice_agent_validated(sides[0].agent, &other));
	teardown();
}

static void answers_from_elsewhere(void **state)
{
	(void)state;
	setup_roles(true, false);
	echoes = true;
	connect_both();
	run(now_us + SECONDS(2), true);
	both_chose();
	assert_true(ice_agent_stats(sides[0].agent)->n_unmatched && ice_agent_stats(sides[1].agent)->n_unmatched);
	teardown();
}

static void through_two_nats(void **state)
{
	(void)state;
	setup_roles(true, false);
	behind_nat(&sides[0], 0xc6336401);
	behind_nat(&sides[1], 0xcb007101);
	connect_both();
	run(now_us + SECONDS(10), true);
	both_chose();
	assert_int_equal(sides[0].last.remote_type, ICE_SRFLX);
	assert_int_equal(sides[0].last.local_type, ICE_SRFLX);
	teardown();
}

static void an_address_that_nobody_named(void **state)
{
	(void)state;
	setup_roles(true, false);
	behind_nat(&sides[1], 0xcb007101);
	assert_int_equal(ice_agent_add_local(sides[0].agent, ICE_HOST, &sides[0].host, &sides[0].host), OK);
	assert_int_equal(ice_agent_add_local(sides[1].agent, ICE_HOST, &sides[1].host, &sides[1].host), OK);
	describe(0, 1, true);
	describe(1, 0, false);
	ice_agent_start(sides[0].agent, now_us);
	ice_agent_start(sides[1].agent, now_us);
	run(now_us + SECONDS(2), true);
	both_chose();
	assert_int_equal(sides[0].last.remote_type, ICE_PRFLX);
	assert_int_equal(sides[1].last.local_type, ICE_PRFLX);
	teardown();
}

static void one_role_twice(void **state)
{
	(void)state;
	for (int both = 0; both < 2; both++) {
		setup_roles(both, both);
		connect_both();
		run(now_us + SECONDS(5), true);
		both_chose();
		assert_true(ice_agent_stats(sides[0].agent)->n_role_conflicts +
			    ice_agent_stats(sides[1].agent)->n_role_conflicts);
		teardown();
	}
}

static void losses(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 50; n++) {
		setup_roles(true, false);
		rng = rng_seeded_init(&seed, n);
		loss_percent = 20;
		behind_nat(&sides[n & 1], 0xcb007101);
		connect_both();
		run(now_us + SECONDS(20), true);
		assert_true(sides[0].n_selected && sides[1].n_selected);
		run(now_us + SECONDS(600), false);
		assert_true(!sides[0].n_failed && !sides[1].n_failed && sides[0].n_lost == sides[0].n_back);
		assert_int_equal(sides[0].n_valid, 1);
		teardown();
	}
}

static void nobody_there(void **state)
{
	(void)state;
	setup_roles(true, false);
	sides[1].cut = true;
	connect_both();
	run(now_us + MS(39400), false);
	assert_int_equal(sides[0].n_failed, 0);
	run(now_us + SECONDS(2), false);
	assert_int_equal(sides[0].n_failed, 1);
	assert_true(sides[0].n_out <= 7);
	run(now_us + SECONDS(100), false);
	assert_int_equal(sides[0].n_failed, 1);
	assert_true(ice_agent_deadline_us(sides[0].agent) == TIME_NEVER);
	teardown();
}

/* The peer is gone between its check and its nomination: a pair works, but nobody ever chooses it. */
static void valid_but_never_chosen(void **state)
{
	(void)state;
	setup_roles(true, false);
	connect_both();
	while (!sides[1].n_valid)
		run(now_us + MS(1), false);
	assert_int_equal(sides[1].n_selected, 0);
	sides[0].cut = true;
	n_wire = 0;
	run(now_us + SECONDS(38), false);
	assert_true(!sides[1].n_failed && ice_agent_deadline_us(sides[1].agent) > now_us);
	run(now_us + SECONDS(22), false);
	assert_int_equal(sides[1].n_failed, 1);
	assert_true(ice_agent_deadline_us(sides[1].agent) == TIME_NEVER);
	teardown();
}

static void no_candidates_at_all(void **state)
{
	(void)state;
	setup_roles(true, false);
	describe(1, 0, false);
	ice_agent_start(sides[0].agent, now_us);
	run(now_us + SECONDS(41), false);
	assert_int_equal(sides[0].n_failed, 1);
	assert_int_equal(sides[0].n_out, 0);
	teardown();
}

static void consent(void **state)
{
	(void)state;
	setup_roles(true, false);
	connect_both();
	run(now_us + SECONDS(100), false);
	both_chose();
	assert_int_equal(sides[0].n_lost, 0);
	sides[1].cut = true;
	run(now_us + SECONDS(37), false);
	assert_true(sides[0].n_lost == 1 && sides[1].n_lost == 1 && !sides[0].n_back);
	sides[1].cut = false;
	run(now_us + SECONDS(7), false);
	assert_true(sides[0].n_back == 1 && sides[1].n_back == 1);
	assert_true(ice_agent_rtt_us(sides[0].agent) == 2 * delay_us);
	teardown();
}

/* A NAT forgets its binding and makes another (docs/protocol.md: within 7 s, without a new description). */
static void rebound_nat_is_followed(void **state)
{
	(void)state;
	for (int k = 0; k < 2; k++)
		for (uint64_t when = 30; when < 40; when++) {
			uint64_t at_us;

			setup_roles(true, false);
			behind_nat(&sides[k], 0xcb007101);
			connect_both();
			run(SECONDS(when), false);
			both_chose();
			sides[k].outside.port = 62000;
			sides[k].n_sent_to = 0;
			at_us = now_us;
			sides[!k].n_selected = 0;
			while (!sides[!k].n_selected && now_us < at_us + SECONDS(20))
				run(now_us + MS(10), false);
			assert_true(sides[!k].n_selected == 1 && now_us <= at_us + SECONDS(7));
			assert_int_equal(sides[!k].last.path.remote.port, 62000);
			run(now_us + SECONDS(100), false);
			assert_true(!sides[0].n_lost && !sides[1].n_lost && sides[!k].n_selected == 1);
			teardown();
		}
}

/* A call of months behind a NAT that rebinds each day: places for what was learned do not run out. */
static void rebound_many_times(void **state)
{
	(void)state;
	setup_roles(true, false);
	behind_nat(&sides[1], 0xcb007101);
	connect_both();
	run(SECONDS(30), false);
	both_chose();
	for (uint16_t n = 0; n < 150; n++) {
		uint64_t at_us = now_us;

		sides[1].outside.port = (uint16_t)(62000 + n);
		sides[1].n_sent_to = 0;
		sides[0].n_selected = 0;
		while (!sides[0].n_selected && now_us < at_us + SECONDS(20))
			run(now_us + MS(10), false);
		if (!sides[0].n_selected)
			fail_msg("rebinding %u is not followed", n);
		assert_int_equal(sides[0].last.path.remote.port, 62000 + n);
		run(now_us + SECONDS(60), false);
	}
	assert_true(!sides[0].n_lost && !sides[1].n_lost);
	teardown();
}

/* Before the other side's description was accepted nothing leaves, whatever arrives. */
static void nothing_leaves_before_start(void **state)
{
	(void)state;
	setup_roles(true, false);
	for (int k = 0; k < 2; k++)
		assert_int_equal(ice_agent_add_local(sides[k].agent, ICE_HOST, &sides[k].host, &sides[k].host), OK);
	describe(0, 1, true);
	ice_agent_start(sides[1].agent, now_us);
	run(now_us + SECONDS(3), false);
	assert_int_equal(sides[0].n_out, 0);
	assert_true(ice_agent_deadline_us(sides[0].agent) == TIME_NEVER);
	describe(1, 0, true);
	ice_agent_start(sides[0].agent, now_us);
	drain(&sides[0]);
	assert_true(sides[0].n_out >= 2); /* the kept checks are answered, ours leaves */
	run(now_us + SECONDS(1), true);
	both_chose();
	teardown();
}

/* A forked offer has several readers; all of them can write a check that our password fits. Only the one whose description was
 * accepted has passed one. */
static void another_reader_of_a_forked_offer(void **state)
{
	uint8_t mem[600], transaction[12] = { 9 };
	char user[64];
	struct wr w = wr_of(mem, sizeof(mem)), u = wr_of(user, sizeof(user));
	struct path eve;

	(void)state;
	setup_roles(true, false);
	for (int k = 0; k < 2; k++)
		assert_int_equal(ice_agent_add_local(sides[k].agent, ICE_HOST, &sides[k].host, &sides[k].host), OK);
	eve = (struct path){ .local = sides[0].host, .remote = addr_ip4(0x01020304, 5) };
	wr_fmt(&u, "%s:eve12345", ice_agent_ufrag(sides[0].agent));
	stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
	stun_put(&w, STUN_USERNAME, wr_done(&u));
	stun_put_u32(&w, STUN_PRIORITY, 5);
	assert_int_equal(stun_finish(&w, span_str(ice_agent_pwd(sides[0].agent)), true), OK);
	assert_int_equal(stun_parse(wr_done(&w), &parsed), OK);
	ice_agent_input(sides[0].agent, now_us, &eve, &parsed);
	describe(1, 0, false);
	ice_agent_start(sides[0].agent, now_us);
	drain(&sides[0]);
	assert_int_equal(sides[0].n_out, 0);
	assert_false(ice_agent_validated(sides[0].agent, &eve));
	assert_int_equal(ice_agent_stats(sides[0].agent)->n_bad_auth, 1);
	teardown();
}

static void strangers_get_no_answer(void **state)
{
	uint8_t mem[600], transaction[12] = { 9 };
	char user[64];
	struct path path;

	(void)state;
	setup_roles(true, false);
	connect_both();
	run(now_us + SECONDS(2), true);
	sides[0].n_out = 0;
	path = (struct path){ .local = sides[0].host, .remote = addr_ip4(0x01020304, 5) };
	for (int what = 0; what < 4; what++) {
		struct wr w = wr_of(mem, sizeof(mem)), u = wr_of(user, sizeof(user));

		wr_fmt(&u, "%s:%s", what == 2 ? "abcdefgh" : ice_agent_ufrag(sides[0].agent),
		       what == 3 ? "other" : ice_agent_ufrag(sides[1].agent));
		stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
		stun_put(&w, STUN_USERNAME, wr_done(&u));
		stun_put_u32(&w, STUN_PRIORITY, 5);
		assert_int_equal(
			stun_finish(&w, span_str(what == 1 ? ice_agent_pwd(sides[0].agent) : "guess-guess-guess-guess"),
				    what != 1),
			OK);
		assert_int_equal(stun_parse(wr_done(&w), &parsed), OK);
		ice_agent_input(sides[0].agent, now_us, &path, &parsed);
		drain(&sides[0]);
		assert_false(ice_agent_validated(sides[0].agent, &path));
	}
	assert_int_equal(sides[0].n_out, 0);
	assert_int_equal(ice_agent_stats(sides[0].agent)->n_bad_auth, 3);
	teardown();
}

static bool build(void *arg)
{
	struct ice_config cfg = { .rng = &rng };
	struct ice_agent *a = NULL;
	struct ice_gather *g = NULL;
	struct addr x = addr_ip4(1, 1);
	bool all;

	(void)arg;
	all = ice_agent_new(&cfg, &a) == OK && ice_gather_new(&rng, &x, &x, &g) == OK;
	ice_agent_free(a);
	ice_gather_free(g);
	return all;
}

static void allocation_failures(void **state)
{
	(void)state;
	rng = rng_seeded_init(&seed, 1);
	harness_alloc_ladder(build, NULL);
}

/* ---- gather ---- */

static void mapped_address_is_kept_known(void **state)
{
	struct addr local = addr_ip4(0x0a000001, 4500), server = addr_ip4(0xc0000201, 3478),
		    seen = addr_ip4(0xcb007101, 61000);
	struct addr mapped, base;
	struct ice_gather *g;
	unsigned n_sent = 0;
	bool answer = true;

	(void)state;
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1);
	assert_int_equal(ice_gather_new(&rng, &local, &server, &g), OK);
	assert_false(ice_gather_mapped(g, &mapped, &base) || ice_gather_settled(g));
	ice_gather_start(g, now_us);
	for (int round = 0; round < 30; round++) {
		struct out o;

		while (ice_gather_poll_output(g, &o)) {
			uint8_t mem[128];
			struct wr w = wr_of(mem, sizeof(mem));

			n_sent++;
			if (!answer)
				continue;
			assert_true(addr_eq(&o.path.remote, &server) && stun_serve(o.bytes, &seen, &w));
			assert_int_equal(stun_parse(wr_done(&w), &parsed), OK);
			assert_false(ice_gather_owns(g, &parsed, &seen)); /* from elsewhere */
			assert_true(ice_gather_owns(g, &parsed, &server));
			ice_gather_input(g, now_us, &parsed);
			assert_false(ice_gather_owns(g, &parsed, &server)); /* answered once */
			assert_true(ice_gather_mapped(g, &mapped, &base) && ice_gather_settled(g));
			assert_true(addr_eq(&mapped, &seen) && addr_eq(&base, &local));
		}
		answer = round < 5;
		now_us = ice_gather_deadline_us(g);
		ice_gather_tick(g, now_us);
	}
	assert_false(ice_gather_mapped(g, &mapped, &base));
	assert_true(n_sent > 12);
	ice_gather_free(g);
}

/* A's check comes to B's NAT before B has sent anything, and is lost; B's own comes through a moment later, while A's is
 * still fresh. A has to answer it with another check at once, and not when its lost one is repeated. */
static void lost_at_the_other_nat(void **state)
{
	uint64_t began;

	(void)state;
	setup_roles(true, false);
	behind_nat(&sides[0], 0xc6336401);
	behind_nat(&sides[1], 0xcb007101);
	for (int k = 0; k < 2; k++) {
		assert_int_equal(ice_agent_add_local(sides[k].agent, ICE_HOST, &sides[k].host, &sides[k].host), OK);
		assert_int_equal(ice_agent_add_local(sides[k].agent, ICE_SRFLX, &sides[k].outside, &sides[k].host), OK);
	}
	describe(0, 1, true);
	describe(1, 0, true);
	began = now_us;
	ice_agent_start(sides[0].agent, now_us);
	drain(&sides[0]);
	run(now_us + delay_us + MS(1), true);
	now_us = began + delay_us + MS(1);
	ice_agent_start(sides[1].agent, now_us);
	drain(&sides[1]);
	run(began + SECONDS(10), true);
	assert_int_equal(sides[0].n_selected, 1);
	assert_true(now_us < began + MS(50) + 7 * delay_us);
	teardown();
}

/* RFC 8445, 14.2 and RFC 8839, 5.5: the slower of both counts, and agents that share a pacer take turns. */
static void pacing(void **state)
{
	static const struct {
		uint32_t own, remote;
		uint64_t gap_ms;
	} rows[] = {
		{ 0, 50, 50 }, { 10, 50, 50 }, { 10, 10, 10 }, { 50, 10, 50 }, { 1, 1, 5 }, { 10, UINT32_MAX, 500 },
	};
	struct addr local = addr_ip4(0x0a000001, 4500);
	struct ice_candidate c[3];
	struct out o;

	(void)state;
	rng = rng_seeded_init(&seed, 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ice_pacer pacer = { 0 };
		struct ice_config cfg = { .rng = &rng, .controlling = true, .pacing_ms = rows[i].own, .pacer = &pacer };
		struct ice_agent *a[2];
		uint64_t t = SECONDS(1), first;

		for (int k = 0; k < 2; k++) {
			assert_int_equal(ice_agent_new(&cfg, &a[k]), OK);
			assert_int_equal(ice_agent_add_local(a[k], ICE_HOST, &local, &local), OK);
			for (uint32_t n = 0; n < 3; n++)
				c[n] = (struct ice_candidate){ .foundation = { (char)('1' + n) },
							       .component = 1,
							       .priority = 100 - n,
							       .type = ICE_HOST,
							       .addr = addr_ip4(0x0a000002 + n, 4500) };
			ice_agent_set_pacing(a[k], rows[i].remote);
			assert_int_equal(ice_agent_set_remote(a[k], "ufrag", "passwordpasswordpassword", false, c, 3),
					 OK);
			ice_agent_start(a[k], t);
			ice_agent_tick(a[k], t);
		}
		/* the other agent's turn comes when the common 5 ms are over */
		assert_true(ice_agent_poll_output(a[0], &o));
		assert_false(ice_agent_poll_output(a[0], &o));
		assert_false(ice_agent_poll_output(a[1], &o));
		assert_true(ice_agent_deadline_us(a[1]) == t + MS(5));
		ice_agent_tick(a[1], t + MS(5));
		assert_true(ice_agent_poll_output(a[1], &o));
		first = t + MS(rows[i].gap_ms > 5 ? rows[i].gap_ms : 10);
		ice_agent_tick(a[0], first - 1);
		assert_false(ice_agent_poll_output(a[0], &o));
		ice_agent_tick(a[0], first);
		assert_true(ice_agent_poll_output(a[0], &o));
		ice_agent_free(a[0]);
		ice_agent_free(a[1]);
	}
}

/* Checks of a size: answered when the path carries them, from the right place only, and no part of ICE itself. */
static void probes(void **state)
{
	(void)state;
	setup_roles(true, false);
	assert_int_equal(ice_agent_probe(sides[0].agent, 1500), ERR_WRONG_STATE);
	connect_both();
	run(now_us + SECONDS(2), true);
	both_chose();
	run(now_us + SECONDS(1), false);
	for (unsigned k = 0; k < 2; k++) {
		unsigned n = 0;

		assert_int_equal(ice_agent_probe(sides[k].agent, 1502), ERR_WRONG_STATE);
		assert_int_equal(ice_agent_probe(sides[k].agent, 1504), ERR_WRONG_STATE);
		assert_int_equal(ice_agent_probe(sides[k].agent, 100), ERR_LIMIT);
		for (unsigned size = 200; size <= 1500; size += 4) {
			size_t before = n_wire;

			carries = size;
			assert_int_equal(ice_agent_probe(sides[k].agent, size), OK);
			drain(&sides[k]);
			assert_int_equal(n_wire, before + 1);
			assert_int_equal(wire[before].len, size - 28);
			run(now_us + 2 * delay_us, false);
			assert_int_equal(sides[k].n_probed, ++n);
			assert_int_equal(sides[k].last.kind, ICE_PROBED);
			assert_int_equal(sides[k].last.size, size);
			/* the same, a little too long */
			carries = size - 1;
			assert_int_equal(ice_agent_probe(sides[k].agent, size), OK);
			drain(&sides[k]);
			run(now_us + 2 * delay_us, false);
			assert_int_equal(sides[k].n_probed, n);
		}
		carries = 1500;
		/* a copy of the answer from elsewhere, before it, and after it */
		echoes = true;
		assert_int_equal(ice_agent_probe(sides[k].agent, 1400), OK);
		drain(&sides[k]);
		run(now_us + 2 * delay_us, false);
		assert_int_equal(sides[k].n_probed, ++n);
		echoes = false;
	}
	assert_int_equal(sides[0].n_selected + sides[1].n_selected, 2);
	assert_int_equal(sides[0].n_lost + sides[1].n_lost, 0);
	teardown();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pacing),
		cmocka_unit_test(lost_at_the_other_nat),
		cmocka_unit_test(direct),
		cmocka_unit_test(answers_from_elsewhere),
		cmocka_unit_test(through_two_nats),
		cmocka_unit_test(an_address_that_nobody_named),
		cmocka_unit_test(one_role_twice),
		cmocka_unit_test(losses),
		cmocka_unit_test(nobody_there),
		cmocka_unit_test(no_candidates_at_all),
		cmocka_unit_test(valid_but_never_chosen),
		cmocka_unit_test(consent),
		cmocka_unit_test(rebound_nat_is_followed),
		cmocka_unit_test(rebound_many_times),
		cmocka_unit_test(nothing_leaves_before_start),
		cmocka_unit_test(strangers_get_no_answer),
		cmocka_unit_test(probes),
		cmocka_unit_test(another_reader_of_a_forked_offer),
		cmocka_unit_test(allocation_failures),
		cmocka_unit_test(mapped_address_is_kept_known),
	};

	return HARNESS_RUN(tests);
}
