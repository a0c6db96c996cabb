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
		{ 486, 480, 486 }, { 480, 486, 486 }, { 480, 480, 480 }, { 603, 486, 603 }, { 603, 0, 603 }, { 500, 486, 486 },
		{ 503, 500, 500 }, { 503, 503, 500 }, { 415, 486, 415 }, { 302, 486, 302 }, { 488, 603, 603 },
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

/* ---- by hand ---- */

static struct path ta, tb; /* streams of a (dev 0) and b (dev 1) */
static const struct net_rq invite = { "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=atag", "<sip:b@example.net>", "c1", NULL, 1 };

static void two_by_hand(void)
{
	net_begin();
	ta = net_tcp(0, 1);
	tb = net_tcp(1, 1);
	assert_int_equal(net_register(0, &ta, "a", net_password("a"), "Contact: <sip:a1@10.0.0.1:40001;transport=tcp>\n"), 200);
	assert_int_equal(net_register(1, &tb, "b", net_password("b"), "Contact: <sip:b1@10.0.1.1:40001;transport=tcp>\n"), 200);
	net_forget_inbox(0);
	net_forget_inbox(1);
}

/* The final answers that device k has, and when the last one came. */
static unsigned finals(int k, const char **text, uint64_t *at)
{
	unsigned n = 0;

	for (unsigned i = 0; i < dev[k].n_inbox; i++)
		if (!strncmp(dev[k].inbox[i], "SIP/2.0 ", 8) && dev[k].inbox[i][8] != '1') {
			n++;
			*text = dev[k].inbox[i];
			*at = dev[k].inbox_at[i];
		}
	return n;
}

/* DESIGN 4.2: what a caller sees when nobody is registered, when the device does not know him, when its connection goes, and the
 * same three when he gives up before the second is over. */
static void absent_is_absent(void **state)
{
	char seen[6][2048];
	uint64_t took[6];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		const char *text = "";
		uint64_t at = 0, began;

		two_by_hand();
		if (i % 3 == 0)
			assert_int_equal(net_register(1, &tb, "b", net_password("b"), "Contact: *\nExpires: 0\n"), 200);
		net_forget_inbox(1);
		now_us = SECONDS(100);
		began = now_us;
		net_request(0, &ta, "i1", &invite, "");
		if (i % 3 == 1) {
			net_run(MS(20));
			net_reply(1, &tb, net_newest(1), 480, "Retry-After: 20\nX-Me: at home\n");
		} else if (i % 3 == 2) {
			struct path p = net_at_exchange(1, &tb);

			net_post_event(-1, &p, STREAM_CLOSED);
		}
		if (i >= 3) {
			struct net_rq cancel = invite;

			now_us = began + MS(300);
			cancel.method = "CANCEL";
			net_request(0, &ta, "i1", &cancel, "");
		}
		net_run(MS(900) - (now_us - began));
		assert_int_equal(finals(0, &text, &at), i >= 3); /* the 200 to the CANCEL */
		net_run(SECONDS(2));
		assert_int_equal(finals(0, &text, &at), 1 + (i >= 3));
		(void)snprintf(seen[i], sizeof(seen[i]), "%s", text);
		took[i] = at - began;
		if (memcmp(text, i >= 3 ? "SIP/2.0 487 " : "SIP/2.0 480 ", 12))
			fail_msg("%u: %s", i, text);
		assert_null(strstr(text, "calleetag"));
		net_end();
	}
	for (unsigned i = 1; i < 6; i++) {
		assert_true(took[i] == took[0] && took[i] == SECONDS(1) + 2 * NET_DELAY_US);
		assert_int_equal(strlen(seen[i] + 30), strlen(seen[i >= 3 ? 3 : 0] + 30));
	}
}

static void a_device_that_said_more_is_heard_at_once(void **state)
{
	const char *text;
	uint64_t at;

	(void)state;
	two_by_hand();
	net_request(0, &ta, "i1", &invite, "");
	net_reply(1, &tb, net_newest(1), 603, "X-Me: busy\n");
	net_run(MS(15));
	assert_int_equal(finals(0, &text, &at), 1);
	assert_true(strstr(text, "SIP/2.0 603") == text && strstr(text, "X-Me: busy"));
	net_end();
}

/* What strangers and mistaken users get; nothing of it reaches b, and nothing is kept. */
static void refusals(void **state)
{
	static const struct {
		const char *method, *uri, *from, *extra;
		unsigned status;
		bool by_stranger;
	} rows[] = {
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 407, true },
		{ "INVITE", "sip:nobody@example.net", "<sip:a@example.net>;tag=x", NULL, 407, true }, /* names cannot be tried */
		{ "BYE", "sip:b1@10.0.1.1:40001", "<sip:a@example.net>;tag=x", NULL, 405, true },
		{ "INVITE", "sip:nobody@example.net", "<sip:a@example.net>;tag=x", NULL, 404, false },
		{ "INVITE", "sip:b@example.org", "<sip:a@example.net>;tag=x", NULL, 403, false },
		{ "INVITE", "sip:b1@10.0.1.1:40001", "<sip:a@example.net>;tag=x", NULL, 403, false },
		{ "INVITE", "sips:b@example.net", "<sip:a@example.net>;tag=x", NULL, 416, false },
		{ "INVITE", "tel:123", "<sip:a@example.net>;tag=x", NULL, 416, false },
		{ "INVITE", "sip:b@example.net", "<sip:b@example.net>;tag=x", NULL, 407, false }, /* the stream is a's */
		{ "INVITE", "sip:b@example.net", "<sip:a@example.org>;tag=x", NULL, 407, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", "Max-Forwards: 0\n", 483, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", "Proxy-Require: gold\n", 420, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", "Max-Forwards: 300\n", 400, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x",
		  "Via: SIP/2.0/TCP 203.0.113.1:5060;branch=z9hG4bK1\nVia: SIP/2.0/TCP 203.0.113.1;branch=z9hG4bK2\n", 482, false },
		{ "OPTIONS", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 405, false }, /* asks who is there */
		{ "MESSAGE", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 405, false },
		{ "NEWTHING", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 405, false },
		{ "OPTIONS", "sip:example.net", "<sip:a@example.net>;tag=x", NULL, 200, false },
		{ "CANCEL", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 481, false },
		{ "REGISTER", "sip:example.org", "<sip:a@example.net>;tag=x", NULL, 404, false },
	};
	struct path strange;

	(void)state;
	two_by_hand();
	strange = net_udp(2);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct net_rq r = { rows[i].method, rows[i].uri, rows[i].from, "<sip:b@example.net>", "r", rows[i].extra, i + 1 };
		char branch[16];
		int k = rows[i].by_stranger ? 2 : 0;

		(void)snprintf(branch, sizeof(branch), "f%u", i);
		net_request(k, rows[i].by_stranger ? &strange : &ta, branch, &r, "");
		if (net_status(k) != rows[i].status)
			fail_msg("row %u: %s", i, net_newest(k));
		/* the ACK of an answer that is forgotten already */
		if (!strcmp(r.method, "INVITE")) {
			char to[128];

			(void)snprintf(to, sizeof(to), "<sip:b@example.net>;tag=%.*s", (int)net_msg.to_tag.len, (const char *)net_msg.to_tag.p);
			r.method = "ACK";
			r.to = to;
			r.extra = NULL;
			net_forget_inbox(k);
			net_request(k, rows[i].by_stranger ? &strange : &ta, branch, &r, "");
			assert_int_equal(dev[k].n_inbox, 0);
		}
	}
	assert_int_equal(dev[1].n_inbox, 0);
	assert_int_equal(net_stats().n_contexts, 0);
	net_end();
}

static void a_datagram_stands_for_nobody(void **state)
{
	struct path p, other;
	struct net_rq r = invite;
	char credentials[1024];

	(void)state;
	two_by_hand();
	p = net_udp(2);
	other = net_udp(3);
	assert_int_equal(net_register(2, &p, "c", net_password("c"), "Contact: <sip:c1@10.0.2.1:6000>\n"), 200);
	r.from = "<sip:c@example.net>;tag=ctag";
	net_request(2, &p, "d1", &r, "");
	assert_int_equal(net_status(2), 407);
	(void)snprintf(credentials, sizeof(credentials), "%s",
		       net_credentials(2, "c", net_password("c"), "INVITE", "sip:b@example.net", HASH_SHA256));
	r.cseq = 2;
	net_request(2, &p, "d2", &r, credentials);
	assert_int_equal(net_status(2), 100);
	/* our user's credentials are none of the callee's business */
	assert_int_equal(dev[1].n_inbox, 1);
	assert_null(strstr(dev[1].inbox[0], "Authorization"));
	assert_non_null(strstr(dev[1].inbox[0], "Max-Forwards: 70"));
	/* c may not call as a, with c's own password */
	r.from = "<sip:a@example.net>;tag=ctag";
	net_request(3, &other, "d3", &r, credentials);
	assert_int_equal(net_status(3), 403);
	net_end();
}

/* ---- inside a dialog ---- */

static char route[1024]; /* what a learned from Record-Route */

/* a calls b by hand; both know the other's tag then. */
static void connect(void)
{
	struct net_rq ack = invite;
	struct span rr;

	two_by_hand();
	net_request(0, &ta, "i1", &invite, "");
	net_reply(1, &tb, net_newest(1), 200, "Contact: <sip:b1@10.0.1.1:40001;transport=tcp>\n");
	net_run(MS(15));
	assert_int_equal(net_status(0), 200);
	rr = sip_value(&net_msg, H_RECORD_ROUTE);
	(void)snprintf(route, sizeof(route), "Route: %.*s\n", (int)rr.len, (const char *)rr.p);
	ack.method = "ACK";
	ack.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	ack.to = "<sip:b@example.net>;tag=calleetag";
	ack.extra = route;
	net_request(0, &ta, "k1", &ack, "");
	net_run(MS(15));
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_ACK && !sip_header(&net_msg, H_ROUTE));
	net_forget_inbox(0);
	net_forget_inbox(1);
}

static void tokens(void **state)
{
	struct net_rq bye = invite, back;
	char broken[1024];
	struct path strange, p;

	(void)state;
	connect();
	strange = net_udp(2);
	bye.method = "BYE";
	bye.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	bye.to = "<sip:b@example.net>;tag=calleetag";
	bye.cseq = 2;
	/* without it, from somebody unknown */
	net_request(2, &strange, "t1", &bye, "");
	assert_int_equal(net_status(2), 407);
	/* every byte of it counts */
	(void)snprintf(broken, sizeof(broken), "%s", route);
	bye.extra = broken;
	for (char *at = strchr(broken, ':') + 7; *at != '@'; at += 5) {
		char old = *at, branch[16];

		*at = old == '0' ? '1' : '0';
		(void)snprintf(branch, sizeof(branch), "t2%d", (int)(at - broken));
		net_request(2, &strange, branch, &bye, "");
		assert_int_equal(net_status(2), 407);
		net_forget_inbox(2);
		*at = old;
		if (at[1] == '@' || at[2] == '@' || at[3] == '@' || at[4] == '@')
			break;
	}
	/* that of another call */
	bye.extra = route;
	bye.call_id = "c2";
	net_request(2, &strange, "t3", &bye, "");
	assert_int_equal(net_status(2), 407);
	assert_int_equal(dev[1].n_inbox, 0);
	/* both directions, also by another flow than before */
	bye.call_id = "c1";
	net_request(0, &ta, "t4", &bye, "");
	assert_int_equal(dev[1].n_inbox, 1);
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_BYE && net_msg.n_vias == 2);
	net_reply(1, &tb, dev[1].inbox[0], 200, "");
	net_run(MS(15));
	assert_int_equal(net_status(0), 200);
	p = net_tcp(1, 7);
	back = (struct net_rq){ "BYE", "sip:a1@10.0.0.1:40001;transport=tcp", "<sip:b@example.net>;tag=calleetag",
				"<sip:a@example.net>;tag=atag", "c1", route, 5 };
	net_request(1, &p, "t5", &back, "");
	(void)net_newest(0);
	assert_true(net_msg.is_request && net_msg.method == SIP_BYE);
	net_end();
}

/* The other side came back by another connection in the meantime. */
static void a_dialog_survives_a_new_connection(void **state)
{
	struct net_rq bye = invite;
	struct path p, q;

	(void)state;
	connect();
	p = net_at_exchange(1, &tb);
	net_post_event(-1, &p, STREAM_CLOSED);
	net_run(MS(15));
	bye.method = "BYE";
	bye.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	bye.to = "<sip:b@example.net>;tag=calleetag";
	bye.extra = route;
	bye.cseq = 2;
	net_request(0, &ta, "n1", &bye, "");
	assert_int_equal(net_status(0), 430); /* RFC 5626, 11.4 */
	q = net_tcp(1, 2);
	assert_int_equal(net_register(1, &q, "b", net_password("b"), "Contact: <sip:b1@10.0.1.1:40002;transport=tcp>\n"), 200);
	net_forget_inbox(1);
	bye.cseq = 3;
	net_request(0, &ta, "n2", &bye, "");
	assert_int_equal(dev[1].n_inbox, 1);
	net_end();
}

/* The exchange was started anew: its tokens are worth nothing, its users are. */
static void a_dialog_survives_the_exchange(void **state)
{
	struct net_rq bye = invite;
	struct path p, q;

	(void)state;
	connect();
	exchange_free(net_x);
	net_exchange_start();
	p = net_tcp(0, 3);
	q = net_tcp(1, 3);
	assert_int_equal(net_register(0, &p, "a", net_password("a"), "Contact: <sip:a1@10.0.0.1:40003>\n"), 200);
	assert_int_equal(net_register(1, &q, "b", net_password("b"), "Contact: <sip:b1@10.0.1.1:40003>\n"), 200);
	net_forget_inbox(1);
	bye.method = "BYE";
	bye.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	bye.to = "<sip:b@example.net>;tag=calleetag";
	bye.extra = route;
	bye.cseq = 2;
	net_request(0, &p, "n1", &bye, "");
	assert_int_equal(dev[1].n_inbox, 1);
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_BYE && !sip_header(&net_msg, H_ROUTE));
	bye.uri = "sip:stranger@10.0.9.9";
	net_request(0, &p, "n2", &bye, "");
	assert_int_equal(net_status(0), 481);
	net_end();
}

/* ---- ends ---- */

static void timer_c(void **state)
{
	const char *text = "";
	uint64_t at = 0, began;

	(void)state;
	two_by_hand();
	began = now_us;
	net_request(0, &ta, "i1", &invite, "");
	net_reply(1, &tb, net_newest(1), 180, "");
	net_run(SECONDS(180));
	net_reply(1, &tb, dev[1].inbox[0], 183, ""); /* 16.7 (2): it starts anew */
	net_run(SECONDS(180));
	assert_int_equal(finals(0, &text, &at), 0);
	net_run(SECONDS(10));
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_CANCEL && dev[1].n_inbox == 2);
	net_run(SECONDS(40)); /* it answers neither */
	assert_int_equal(finals(0, &text, &at), 1);
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
	two_by_hand();
	net_request(0, &ta, "i1", &invite, "");
	net_run(SECONDS(33));
	assert_int_equal(finals(0, &text, &at), 1);
	assert_true(!memcmp(text, "SIP/2.0 408 ", 12));
	net_end();
}

static void the_callers_connection_goes(void **state)
{
	struct path p;

	(void)state;
	two_by_hand();
	net_request(0, &ta, "i1", &invite, "");
	net_reply(1, &tb, net_newest(1), 180, "");
	p = net_at_exchange(0, &ta);
	net_post_event(-1, &p, STREAM_CLOSED);
	net_run(MS(50));
	(void)net_newest(1);
	assert_int_equal(net_msg.method, SIP_CANCEL);
	net_reply(1, &tb, dev[1].inbox[0], 487, "");
	net_run(SECONDS(40));
	assert_int_equal(net_stats().n_contexts, 0);
	net_end();
}

/* Answers that do not fit the request are not handed on, and do not keep it waiting. */
static void a_device_that_answers_nonsense(void **state)
{
	static const struct {
		const char *status, *tag, *call_id;
		unsigned cseq;
	} rows[] = { { "486 Busy", "atag", "other", 1 }, { "486 Busy", "other", "c1", 1 }, { "200 OK", "atag", "c1", 9 } };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const char *text = "";
		uint64_t at = 0;
		char answer[2048], via[256];

		two_by_hand();
		net_request(0, &ta, "i1", &invite, "");
		(void)net_newest(1);
		(void)snprintf(via, sizeof(via), "Via: %.*s\n", (int)net_msg.via.text.len, (const char *)net_msg.via.text.p); /* only ours */
		(void)snprintf(answer, sizeof(answer),
			       "SIP/2.0 %s\n%sFrom: <sip:a@example.net>;tag=%s\nTo: <sip:b@example.net>;tag=t\nCall-ID: %s\n"
			       "CSeq: %u INVITE\nContent-Length: 0\n\n",
			       rows[i].status, via, rows[i].tag, rows[i].call_id, rows[i].cseq);
		net_say(1, &tb, answer);
		net_run(MS(15));
		assert_int_equal(finals(0, &text, &at), 1);
		assert_true(!memcmp(text, "SIP/2.0 500 ", 12) && strstr(text, "Call-ID: c1"));
		net_run(SECONDS(40));
		assert_int_equal(net_stats().n_contexts, 0);
		net_end();
	}
}

static void one_caller_has_so_many_calls(void **state)
{
	struct net_rq r = invite;
	char id[16];

	(void)state;
	two_by_hand();
	for (unsigned i = 0; i <= EXCHANGE_PENDING_MAX; i++) {
		(void)snprintf(id, sizeof(id), "many%u", i);
		r.call_id = id;
		net_request(0, &ta, id, &r, "");
		assert_int_equal(net_status(0), i < EXCHANGE_PENDING_MAX ? 100 : 503);
	}
	net_run(SECONDS(120));
	assert_int_equal(net_stats().n_contexts, 0);
	r.call_id = "again";
	net_request(0, &ta, "again", &r, "");
	assert_int_equal(net_status(0), 100);
	net_end();
}

/* A repeated datagram is the same call. */
static void repeats(void **state)
{
	struct path p;
	struct net_rq r = invite;
	char credentials[1024];

	(void)state;
	two_by_hand();
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

/* ---- every cut, and no memory ---- */

static void cuts(void **state)
{
	char text[2048], mem[2048];
	struct wr w = wr_of(mem, sizeof(mem));
	struct path there;

	(void)state;
	connect();
	(void)snprintf(text, sizeof(text),
		       "INVITE sip:b1@10.0.1.1:40001;transport=tcp SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;rport;branch=z9hG4bKcut\n"
		       "From: <sip:a@example.net>;tag=atag\nTo: <sip:b@example.net>;tag=calleetag\nCall-ID: c1\nCSeq: 7 INVITE\n"
		       "%sContact: <sip:a1@10.0.0.1:6000>\nContent-Length: 4\n\nbody",
		       route);
	for (const char *p = text; *p; p++) {
		if (*p == '\n')
			wr_u8(&w, '\r');
		wr_u8(&w, (uint8_t)*p);
	}
	there = net_udp(0);
	there = net_at_exchange(0, &there);
	for (size_t cut = 0; cut < w.len; cut++) {
		exchange_input(net_x, now_us, &there, span_of(mem, cut));
		net_run(MS(15));
		net_forget_inbox(0);
	}
	assert_int_equal(dev[1].n_inbox, 0);
	exchange_input(net_x, now_us, &there, wr_done(&w));
	net_run(MS(15));
	assert_int_equal(dev[1].n_inbox, 1);
	net_end();
}

static bool feed(struct exchange *x, int k, const char *text)
{
	struct path p = net_tcp(k, 1), there = net_at_exchange(k, &p);
	char mem[4096];
	struct wr w = wr_of(mem, sizeof(mem));

	for (; *text; text++) {
		if (*text == '\n')
			wr_u8(&w, '\r');
		wr_u8(&w, (uint8_t)*text);
	}
	exchange_input(x, now_us, &there, wr_done(&w));
	return !w.bad;
}

/* What the exchange sends next, with NUL; false: nothing. */
static bool next(struct exchange *x, char dst[4096])
{
	struct out o;

	if (!exchange_poll_output(x, &o) || o.kind != OUT_SEND || o.bytes.len >= 4096)
		return false;
	memcpy(dst, o.bytes.p, o.bytes.len);
	dst[o.bytes.len] = 0;
	return true;
}

static bool registered(struct exchange *x, int k, const char *user)
{
	char out[4096], text[4096], credentials[1024];
	struct wr w = wr_of(credentials, sizeof(credentials));
	struct sip_challenge c;
	const char *why;
	unsigned status;

	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(text, sizeof(text),
			       "REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bK%u\nFrom: <sip:%s@example.net>;tag=f\n"
			       "To: <sip:%s@example.net>\nCall-ID: r\nCSeq: %u REGISTER\nContact: <sip:%s1@h>\n%.*sContent-Length: 0\n\n",
			       i, user, user, i + 1, user, (int)w.len, credentials);
		(void)feed(x, k, text);
		if (!next(x, out) || sip_parse(span_str(out), &net_msg, &why, &status) != OK)
			return false;
		if (i || sip_challenge_best(&net_msg, H_WWW_AUTHENTICATE, &c) != OK)
			break;
		wr_str(&w, "Authorization: ");
		assert_int_equal(sip_digest_answer(&c, user, net_password(user), "REGISTER", SPAN_LIT("sip:example.net"), 1, "c", &w), OK);
		wr_str(&w, "\n");
	}
	return net_msg.status == 200;
}

static bool call_once(struct exchange *x)
{
	char out[4096], via[512];
	const char *why;
	unsigned status;

	if (!registered(x, 0, "a") || !registered(x, 1, "b"))
		return false;
	(void)feed(x, 0,
		   "INVITE sip:b@example.net SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bKi\nFrom: <sip:a@example.net>;tag=f\n"
		   "To: <sip:b@example.net>\nCall-ID: c\nCSeq: 1 INVITE\nContent-Length: 0\n\n");
	if (!next(x, out) || strncmp(out, "SIP/2.0 100", 11) || !next(x, out) || strncmp(out, "INVITE ", 7) ||
	    sip_parse(span_str(out), &net_msg, &why, &status) != OK)
		return false;
	(void)snprintf(via, sizeof(via), "%.*s", (int)net_msg.via.text.len, (const char *)net_msg.via.text.p);
	(void)snprintf(out, sizeof(out),
		       "SIP/2.0 200 OK\nVia: %s\nVia: SIP/2.0/TCP h;branch=z9hG4bKi\nFrom: <sip:a@example.net>;tag=f\n"
		       "To: <sip:b@example.net>;tag=t\nCall-ID: c\nCSeq: 1 INVITE\nContent-Length: 0\n\n",
		       via);
	(void)feed(x, 1, out);
	return next(x, out) && !strncmp(out, "SIP/2.0 200", 11);
}

static bool once(void *arg)
{
	struct exchange_env env = { .rng = &net_rng, .wall_s = net_wall };
	struct exchange *x;
	bool whole;

	(void)arg;
	if (exchange_new(&env, net_cfg, &x) != OK)
		return false;
	whole = call_once(x);
	for (uint64_t at = now_us; at < now_us + SECONDS(400); at += SECONDS(1))
		exchange_tick(x, at);
	{
		struct exchange_stats s;

		exchange_stats(x, &s);
		assert_int_equal(s.n_contexts, 0); /* what memory was missing for does not wait for ever */
	}
	exchange_free(x);
	return whole;
}

static void without_memory(void **state)
{
	(void)state;
	net_begin();
	assert_true(once(NULL));
	harness_alloc_ladder(once, NULL);
	net_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_over_every_transport),
		cmocka_unit_test(a_stream_that_registered_needs_no_challenge),
		cmocka_unit_test(the_caller_gives_up),
		cmocka_unit_test(one_of_three_answers),
		cmocka_unit_test(two_answer_at_once),
		cmocka_unit_test(the_best_answer),
		cmocka_unit_test(the_calling_device_is_not_called),
		cmocka_unit_test(absent_is_absent),
		cmocka_unit_test(a_device_that_said_more_is_heard_at_once),
		cmocka_unit_test(refusals),
		cmocka_unit_test(a_datagram_stands_for_nobody),
		cmocka_unit_test(tokens),
		cmocka_unit_test(a_dialog_survives_a_new_connection),
		cmocka_unit_test(a_dialog_survives_the_exchange),
		cmocka_unit_test(timer_c),
		cmocka_unit_test(a_device_that_is_silent),
		cmocka_unit_test(the_callers_connection_goes),
		cmocka_unit_test(a_device_that_answers_nonsense),
		cmocka_unit_test(one_caller_has_so_many_calls),
		cmocka_unit_test(repeats),
		cmocka_unit_test(calls_come_through_loss),
		cmocka_unit_test(cuts),
		cmocka_unit_test(without_memory),
	};

	return HARNESS_RUN(tests);
}
