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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_over_every_transport),
		cmocka_unit_test(a_stream_that_registered_needs_no_challenge),
		cmocka_unit_test(the_caller_gives_up),
	};

	return HARNESS_RUN(tests);
}
