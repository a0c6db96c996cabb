/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Calls through the exchange: user agents on all sides, and hand-written peers for what they would not do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "exchange_net.h"
#include "harness.h"

#define OFFER SPAN_LIT("offer")

/*   a (dev 0)          exchange          b (dev 1)
 *   INVITE ───────────────►
 *   ◄─── 407 (over UDP; a stream has authenticated)
 *   INVITE ───────────────► INVITE ──────►
 *   ◄───────────────── 180, 200 ◄────────
 *   ACK ──────────────────► ─────────────►
 *   BYE by either side                      */
static void call_and_bye(enum transport ta, enum transport tb, bool caller_hangs_up)
{
	unsigned call, there;

	net_begin();
	net_ua(0, "a", ta);
	net_ua(1, "b", tb);
	assert_true(sip_ua_registered(dev[0].ua, dev[0].account) && sip_ua_registered(dev[1].ua, dev[1].account));
	call = net_dial(0, "sip:b@example.net", OFFER);
	if (dev[1].n[SIP_CALL_INCOMING] != 1)
		fail_msg("no call: %s", dev[0].reason);
	assert_string_equal(dev[1].from, "sip:a@example.net");
	assert_string_equal(dev[1].body, "offer");
	there = dev[1].last[SIP_CALL_INCOMING].call;
	assert_int_equal(sip_ua_ring(dev[1].ua, now_us, there, 180), OK);
	net_run(MS(100));
	assert_int_equal(dev[0].n[SIP_CALL_RINGING], 1);
	assert_int_equal(sip_ua_answer(dev[1].ua, now_us, there, SPAN_LIT("answer")), OK);
	net_run(MS(500));
	assert_int_equal(dev[0].n[SIP_CALL_ANSWERED], 1);
	assert_string_equal(dev[0].body, "answer");
	assert_int_equal(dev[1].n[SIP_CALL_CONFIRMED], 1);
	net_run(SECONDS(40));
	assert_int_equal(net_stats().n_contexts, 0);
	if (caller_hangs_up)
		sip_ua_hangup(dev[0].ua, now_us, call);
	else
		sip_ua_hangup(dev[1].ua, now_us, there);
	net_run(MS(500));
	assert_int_equal(dev[caller_hangs_up].n[SIP_CALL_ENDED], 1);
	net_run(SECONDS(40));
	assert_int_equal(net_stats().n_contexts, 0);
	net_end();
}

static void calls_over_every_transport(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++)
		call_and_bye(i & 1 ? TRANSPORT_UDP : TRANSPORT_TCP, i & 2 ? TRANSPORT_UDP : TRANSPORT_TCP, i & 4);
}

static void a_stream_that_registered_needs_no_challenge(void **state)
{
	(void)state;
	net_begin();
	net_ua(0, "a", TRANSPORT_TCP);
	net_ua(1, "b", TRANSPORT_TCP);
	{
		uint64_t before = net_stats().n_challenged;

		(void)net_dial(0, "sip:b@example.net", OFFER);
		assert_int_equal(net_stats().n_challenged, before);
	}
	assert_int_equal(dev[1].n[SIP_CALL_INCOMING], 1);
	net_end();
}

static void the_caller_gives_up(void **state)
{
	unsigned call;

	(void)state;
	for (unsigned ring = 0; ring < 2; ring++) {
		net_begin();
		net_ua(0, "a", TRANSPORT_TCP);
		net_ua(1, "b", TRANSPORT_UDP);
		call = net_dial(0, "sip:b@example.net", OFFER);
		if (ring) {
			assert_int_equal(sip_ua_ring(dev[1].ua, now_us, dev[1].last[SIP_CALL_INCOMING].call, 180), OK);
			net_run(MS(100));
		}
		sip_ua_hangup(dev[0].ua, now_us, call);
		net_run(SECONDS(2));
		assert_int_equal(dev[1].n[SIP_CALL_ENDED], 1);
		net_run(SECONDS(40));
		assert_int_equal(net_stats().n_contexts, 0);
		net_end();
	}
}

/* ---- forking ---- */

static void house_of(unsigned n)
{
	net_begin();
	net_ua(0, "a", TRANSPORT_TCP);
	for (unsigned k = 1; k <= n; k++)
		net_ua((int)k, "b", k & 1 ? TRANSPORT_TCP : TRANSPORT_UDP);
	(void)net_dial(0, "sip:b@example.net", OFFER);
	for (unsigned k = 1; k <= n; k++)
		assert_int_equal(dev[k].n[SIP_CALL_INCOMING], 1);
}

static unsigned rings_at(int k)
{
	return dev[k].last[SIP_CALL_INCOMING].call;
}

static void one_of_three_answers(void **state)
{
	(void)state;
	house_of(3);
	for (int k = 1; k <= 3; k++)
		assert_int_equal(sip_ua_ring(dev[k].ua, now_us, rings_at(k), 180), OK);
	net_run(MS(100));
	assert_int_equal(sip_ua_answer(dev[2].ua, now_us, rings_at(2), SPAN_LIT("from 2")), OK);
	net_run(MS(500));
	assert_true(dev[0].n[SIP_CALL_ANSWERED] == 1 && dev[2].n[SIP_CALL_CONFIRMED] == 1);
	assert_string_equal(dev[0].body, "from 2");
	assert_true(dev[1].n[SIP_CALL_ENDED] == 1 && dev[3].n[SIP_CALL_ENDED] == 1);
	net_run(SECONDS(70));
	assert_true(net_stats().n_contexts == 0 && dev[2].n[SIP_CALL_ENDED] == 0);
	net_end();
}

static void two_answer_at_once(void **state)
{
	(void)state;
	house_of(2);
	assert_int_equal(sip_ua_answer(dev[1].ua, now_us, rings_at(1), SPAN_LIT("1")), OK);
	assert_int_equal(sip_ua_answer(dev[2].ua, now_us, rings_at(2), SPAN_LIT("2")), OK);
	net_run(MS(500));
	/* 16.7 (5): all 2xx go on; which one to keep is the caller's to say */
	assert_int_equal(dev[0].n[SIP_CALL_ANSWERED], 2);
	assert_true(dev[1].n[SIP_CALL_CONFIRMED] == 1 && dev[2].n[SIP_CALL_CONFIRMED] == 1);
	sip_ua_choose_leg(dev[0].ua, now_us, dev[0].last[SIP_CALL_ANSWERED].call, dev[0].last[SIP_CALL_ANSWERED].leg);
	net_run(MS(500));
	assert_int_equal(dev[1].n[SIP_CALL_ENDED] + dev[2].n[SIP_CALL_ENDED], 1);
	net_end();
}

/* 16.7 (6). 0: this device does not answer before it is cancelled. */
static void the_best_answer(void **state)
{
	static const struct {
		unsigned a, b, best;
	} rows[] = {
		{ 486, 480, 486 }, { 480, 486, 486 }, { 480, 480, 480 }, { 603, 486, 603 },
		{ 603, 0, 603 },   { 500, 486, 486 }, { 503, 500, 500 }, { 503, 503, 500 },
		{ 415, 486, 415 }, { 302, 486, 302 }, { 488, 603, 603 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		house_of(2);
		sip_ua_reject(dev[1].ua, now_us, rings_at(1), rows[i].a);
		net_run(MS(50));
		if (rows[i].b)
			sip_ua_reject(dev[2].ua, now_us, rings_at(2), rows[i].b);
		net_run(SECONDS(2));
		if (dev[0].n[SIP_CALL_FAILED] != 1 || dev[0].last[SIP_CALL_FAILED].status != rows[i].best)
			fail_msg("row %u: %u %s", i, dev[0].last[SIP_CALL_FAILED].status, dev[0].reason);
		net_run(SECONDS(70));
		assert_int_equal(net_stats().n_contexts, 0);
		net_end();
	}
}

static void the_calling_device_is_not_called(void **state)
{
	(void)state;
	net_begin();
	net_ua(0, "a", TRANSPORT_TCP);
	net_ua(1, "a", TRANSPORT_TCP);
	(void)net_dial(0, "sip:a@example.net", OFFER);
	assert_true(dev[0].n[SIP_CALL_INCOMING] == 0 && dev[1].n[SIP_CALL_INCOMING] == 1);
	net_end();
}

/* ---- ends ---- */

static void timer_c(void **state)
{
	const char *text = "";
	uint64_t at = 0, began;

	(void)state;
	hand_begin();
	began = now_us;
	net_request(0, &hand_a, "i1", &hand_invite, "");
	net_reply(1, &hand_b, net_newest(1), 180, "");
	net_run(SECONDS(180));
	net_reply(1, &hand_b, dev[1].inbox[0], 183, ""); /* 16.7 (2): it starts anew */
	net_run(SECONDS(180));
	assert_int_equal(hand_finals(0, &text, &at), 0);
	net_run(SECONDS(10));
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_CANCEL && dev[1].n_inbox == 2);
	net_run(SECONDS(40)); /* it answers neither */
	assert_int_equal(hand_finals(0, &text, &at), 1);
	assert_true(!memcmp(text, "SIP/2.0 408 ", 12) && at > began + SECONDS(390));
	net_run(SECONDS(70));
	assert_true(net_stats().n_contexts == 0 && exchange_deadline_us(net_x) > now_us + SECONDS(1000));
	net_end();
}

static void a_device_that_is_silent(void **state)
{
	const char *text = "";
	uint64_t at = 0;

	(void)state;
	hand_begin();
	net_request(0, &hand_a, "i1", &hand_invite, "");
	net_run(SECONDS(33));
	assert_int_equal(hand_finals(0, &text, &at), 1);
	assert_true(!memcmp(text, "SIP/2.0 408 ", 12));
	net_end();
}

static void the_callers_connection_goes(void **state)
{
	struct path p;

	(void)state;
	hand_begin();
	net_request(0, &hand_a, "i1", &hand_invite, "");
	net_reply(1, &hand_b, net_newest(1), 180, "");
	p = net_at_exchange(0, &hand_a);
	net_post_event(-1, &p, STREAM_CLOSED);
	net_run(MS(50));
	(void)net_newest(1);
	assert_int_equal(net_msg.method, SIP_CANCEL);
	net_reply(1, &hand_b, dev[1].inbox[0], 487, "");
	net_run(SECONDS(40));
	assert_int_equal(net_stats().n_contexts, 0);
	net_end();
}

static void one_caller_has_so_many_calls(void **state)
{
	struct net_rq r = hand_invite;
	char id[16];

	(void)state;
	hand_begin();
	for (unsigned i = 0; i <= EXCHANGE_PENDING_MAX; i++) {
		(void)snprintf(id, sizeof(id), "many%u", i);
		r.call_id = id;
		net_request(0, &hand_a, id, &r, "");
		assert_int_equal(net_status(0), i < EXCHANGE_PENDING_MAX ? 100 : 503);
	}
	net_run(SECONDS(120));
	assert_int_equal(net_stats().n_contexts, 0);
	r.call_id = "again";
	net_request(0, &hand_a, "again", &r, "");
	assert_int_equal(net_status(0), 100);
	net_end();
}

/* A repeated datagram is the same call. */
static void repeats(void **state)
{
	struct path p;
	struct net_rq r = hand_invite;
	char credentials[1024];

	(void)state;
	hand_begin();
	p = net_udp(0);
	net_request(0, &p, "u1", &r, "");
	(void)snprintf(credentials, sizeof(credentials), "%s",
		       net_credentials(0, "a", net_password("a"), "INVITE", "sip:b@example.net", HASH_MD5));
	for (unsigned i = 0; i < 3; i++)
		net_request(0, &p, "u2", &r, credentials);
	assert_int_equal(dev[1].n_inbox, 1);
	assert_int_equal(net_stats().n_contexts, 1);
	net_end();
}

static void calls_come_through_loss(void **state)
{
	(void)state;
	net_begin();
	net_ua(0, "a", TRANSPORT_UDP);
	net_ua(1, "b", TRANSPORT_UDP);
	net_loss = 20;
	for (unsigned i = 0; i < 10; i++) {
		unsigned call = net_dial(0, "sip:b@example.net", OFFER);

		net_run(SECONDS(10));
		assert_int_equal(dev[1].n[SIP_CALL_INCOMING], i + 1);
		assert_int_equal(sip_ua_answer(dev[1].ua, now_us, rings_at(1), SPAN_LIT("answer")), OK);
		net_run(SECONDS(20));
		assert_int_equal(dev[0].n[SIP_CALL_ANSWERED], i + 1);
		sip_ua_hangup(dev[0].ua, now_us, call);
		net_run(SECONDS(40));
		assert_int_equal(dev[1].n[SIP_CALL_ENDED], i + 1);
	}
	net_end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_over_every_transport),
		cmocka_unit_test(a_stream_that_registered_needs_no_challenge),
		cmocka_unit_test(the_caller_gives_up),
		cmocka_unit_test(one_of_three_answers),
		cmocka_unit_test(two_answer_at_once),
		cmocka_unit_test(the_best_answer),
		cmocka_unit_test(the_calling_device_is_not_called),
		cmocka_unit_test(timer_c),
		cmocka_unit_test(a_device_that_is_silent),
		cmocka_unit_test(the_callers_connection_goes),
		cmocka_unit_test(one_caller_has_so_many_calls),
		cmocka_unit_test(repeats),
		cmocka_unit_test(calls_come_through_loss),
	};

	return HARNESS_RUN(tests);
}
