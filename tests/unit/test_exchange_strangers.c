/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What strangers, wrong devices and lost connections get from the exchange; peers are written by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "exchange_net.h"
#include "harness.h"

/* docs/exchange.md: what a caller sees when nobody is registered, when the device does not know him, when its connection goes, and the
 * same three when he gives up before the second is over. */
static void absent_is_absent(void **state)
{
	char seen[6][2048];
	uint64_t took[6];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		const char *text = "";
		uint64_t at = 0, began;

		hand_begin();
		if (i % 3 == 0)
			assert_int_equal(net_register(1, &hand_b, "b", net_password("b"), "Contact: *\nExpires: 0\n"),
					 200);
		net_forget_inbox(1);
		now_us = SECONDS(100);
		began = now_us;
		net_request(0, &hand_a, "i1", &hand_invite, "");
		if (i % 3 == 1) {
			net_run(MS(20));
			net_reply(1, &hand_b, net_newest(1), 480, "Retry-After: 20\nX-Me: at home\n");
		} else if (i % 3 == 2) {
			struct path p = net_at_exchange(1, &hand_b);

			net_post_event(-1, &p, STREAM_CLOSED);
		}
		if (i >= 3) {
			struct net_rq cancel = hand_invite;

			now_us = began + MS(300);
			cancel.method = "CANCEL";
			net_request(0, &hand_a, "i1", &cancel, "");
		}
		net_run(MS(900) - (now_us - began));
		assert_int_equal(hand_finals(0, &text, &at), i >= 3); /* the 200 to the CANCEL */
		net_run(SECONDS(2));
		assert_int_equal(hand_finals(0, &text, &at), 1 + (i >= 3));
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
	const char *text = "";
	uint64_t at = 0;

	(void)state;
	hand_begin();
	net_request(0, &hand_a, "i1", &hand_invite, "");
	net_reply(1, &hand_b, net_newest(1), 603, "X-Me: busy\n");
	net_run(MS(15));
	assert_int_equal(hand_finals(0, &text, &at), 1);
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
		{ "INVITE", "sip:nobody@example.net", "<sip:a@example.net>;tag=x", NULL, 407,
		  true }, /* names cannot be tried */
		{ "BYE", "sip:b1@10.0.1.1:40001", "<sip:a@example.net>;tag=x", NULL, 405, true },
		{ "INVITE", "sip:nobody@example.net", "<sip:a@example.net>;tag=x", NULL, 404, false },
		{ "INVITE", "sip:b@example.org", "<sip:a@example.net>;tag=x", NULL, 403, false },
		{ "INVITE", "sip:b1@10.0.1.1:40001", "<sip:a@example.net>;tag=x", NULL, 403, false },
		{ "INVITE", "sips:b@example.net", "<sip:a@example.net>;tag=x", NULL, 416, false },
		{ "INVITE", "tel:123", "<sip:a@example.net>;tag=x", NULL, 416, false },
		{ "INVITE", "sip:b@example.net", "<sip:b@example.net>;tag=x", NULL, 407,
		  false }, /* the stream is a's */
		{ "INVITE", "sip:b@example.net", "<sip:a@example.org>;tag=x", NULL, 407, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", "Max-Forwards: 0\n", 483, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", "Proxy-Require: gold\n", 420, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x", "Max-Forwards: 300\n", 400, false },
		{ "INVITE", "sip:b@example.net", "<sip:a@example.net>;tag=x",
		  "Via: SIP/2.0/TCP 203.0.113.1:5060;branch=z9hG4bK1\nVia: SIP/2.0/TCP 203.0.113.1;branch=z9hG4bK2\n",
		  482, false },
		{ "OPTIONS", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 405,
		  false }, /* asks who is there */
		{ "MESSAGE", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 405, false },
		{ "NEWTHING", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 405, false },
		{ "OPTIONS", "sip:example.net", "<sip:a@example.net>;tag=x", NULL, 200, false },
		{ "CANCEL", "sip:b@example.net", "<sip:a@example.net>;tag=x", NULL, 481, false },
		{ "REGISTER", "sip:example.org", "<sip:a@example.net>;tag=x", NULL, 404, false },
	};
	struct path strange;

	(void)state;
	hand_begin();
	strange = net_udp(2);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct net_rq r = { rows[i].method, rows[i].uri, rows[i].from, "<sip:b@example.net>", "r",
				    rows[i].extra,  i + 1 };
		char branch[16];
		int k = rows[i].by_stranger ? 2 : 0;

		(void)snprintf(branch, sizeof(branch), "f%u", i);
		net_request(k, rows[i].by_stranger ? &strange : &hand_a, branch, &r, "");
		if (net_status(k) != rows[i].status)
			fail_msg("row %u: %s", i, net_newest(k));
		/* the ACK of an answer that is forgotten already */
		if (!strcmp(r.method, "INVITE")) {
			char to[128];

			(void)snprintf(to, sizeof(to), "<sip:b@example.net>;tag=%.*s", (int)net_msg.to_tag.len,
				       (const char *)net_msg.to_tag.p);
			r.method = "ACK";
			r.to = to;
			r.extra = NULL;
			net_forget_inbox(k);
			net_request(k, rows[i].by_stranger ? &strange : &hand_a, branch, &r, "");
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
	struct net_rq r = hand_invite;
	char credentials[1024];

	(void)state;
	hand_begin();
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

/* Answers that do not fit the request are not handed on, and do not keep it waiting. */
static void a_device_that_answers_nonsense(void **state)
{
	static const struct {
		const char *status, *tag, *call_id;
		unsigned cseq;
	} rows[] = { { "486 Busy", "atag", "other", 1 },
		     { "486 Busy", "other", "c1", 1 },
		     { "200 OK", "atag", "c1", 9 } };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		const char *text = "";
		uint64_t at = 0;
		char answer[2048], via[256];

		hand_begin();
		net_request(0, &hand_a, "i1", &hand_invite, "");
		(void)net_newest(1);
		(void)snprintf(via, sizeof(via), "Via: %.*s\n", (int)net_msg.via.text.len,
			       (const char *)net_msg.via.text.p); /* only ours */
		(void)snprintf(
			answer, sizeof(answer),
			"SIP/2.0 %s\n%sFrom: <sip:a@example.net>;tag=%s\nTo: <sip:b@example.net>;tag=t\nCall-ID: %s\n"
			"CSeq: %u INVITE\nContent-Length: 0\n\n",
			rows[i].status, via, rows[i].tag, rows[i].call_id, rows[i].cseq);
		net_say(1, &hand_b, answer);
		net_run(MS(15));
		assert_int_equal(hand_finals(0, &text, &at), 1);
		assert_true(!memcmp(text, "SIP/2.0 500 ", 12) && strstr(text, "Call-ID: c1"));
		net_run(SECONDS(40));
		assert_int_equal(net_stats().n_contexts, 0);
		net_end();
	}
}

/* ---- inside a dialog ---- */

static void tokens(void **state)
{
	struct net_rq bye = hand_invite, back;
	char broken[1024];
	struct path strange, p;

	(void)state;
	hand_connect();
	strange = net_udp(2);
	bye.method = "BYE";
	bye.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	bye.to = "<sip:b@example.net>;tag=calleetag";
	bye.cseq = 2;
	/* without it, from somebody unknown */
	net_request(2, &strange, "t1", &bye, "");
	assert_int_equal(net_status(2), 407);
	/* every byte of it counts */
	(void)snprintf(broken, sizeof(broken), "%s", hand_route);
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
	bye.extra = hand_route;
	bye.call_id = "c2";
	net_request(2, &strange, "t3", &bye, "");
	assert_int_equal(net_status(2), 407);
	assert_int_equal(dev[1].n_inbox, 0);
	/* both directions, also by another flow than before */
	bye.call_id = "c1";
	net_request(0, &hand_a, "t4", &bye, "");
	assert_int_equal(dev[1].n_inbox, 1);
	(void)net_newest(1);
	assert_true(net_msg.method == SIP_BYE && net_msg.n_vias == 2);
	net_reply(1, &hand_b, dev[1].inbox[0], 200, "");
	net_run(MS(15));
	assert_int_equal(net_status(0), 200);
	p = net_tcp(1, 7);
	back = (struct net_rq){ "BYE",
				"sip:a1@10.0.0.1:40001;transport=tcp",
				"<sip:b@example.net>;tag=calleetag",
				"<sip:a@example.net>;tag=atag",
				"c1",
				hand_route,
				5 };
	net_request(1, &p, "t5", &back, "");
	(void)net_newest(0);
	assert_true(net_msg.is_request && net_msg.method == SIP_BYE);
	net_end();
}

/* The other side came back by another connection in the meantime. */
static void a_dialog_survives_a_new_connection(void **state)
{
	struct net_rq bye = hand_invite;
	struct path p, q;

	(void)state;
	hand_connect();
	p = net_at_exchange(1, &hand_b);
	net_post_event(-1, &p, STREAM_CLOSED);
	net_run(MS(15));
	bye.method = "BYE";
	bye.uri = "sip:b1@10.0.1.1:40001;transport=tcp";
	bye.to = "<sip:b@example.net>;tag=calleetag";
	bye.extra = hand_route;
	bye.cseq = 2;
	net_request(0, &hand_a, "n1", &bye, "");
	assert_int_equal(net_status(0), 430); /* RFC 5626, 11.4 */
	q = net_tcp(1, 2);
	assert_int_equal(
		net_register(1, &q, "b", net_password("b"), "Contact: <sip:b1@10.0.1.1:40002;transport=tcp>\n"), 200);
	net_forget_inbox(1);
	bye.cseq = 3;
	net_request(0, &hand_a, "n2", &bye, "");
	assert_int_equal(dev[1].n_inbox, 1);
	net_end();
}

/* The exchange was started anew: its tokens are worth nothing, its users are. */
static void a_dialog_survives_the_exchange(void **state)
{
	struct net_rq bye = hand_invite;
	struct path p, q;

	(void)state;
	hand_connect();
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
	bye.extra = hand_route;
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

/* ---- every cut, and no memory ---- */

static void cuts(void **state)
{
	char text[2048], mem[2048];
	struct wr w = wr_of(mem, sizeof(mem));
	struct path there;

	(void)state;
	hand_connect();
	(void)snprintf(text, sizeof(text),
		       "INVITE sip:b1@10.0.1.1:40001;transport=tcp SIP/2.0\nVia: SIP/2.0/UDP "
		       "10.0.0.1:6000;rport;branch=z9hG4bKcut\n"
		       "From: <sip:a@example.net>;tag=atag\nTo: <sip:b@example.net>;tag=calleetag\nCall-ID: c1\nCSeq: "
		       "7 INVITE\n"
		       "%sContact: <sip:a1@10.0.0.1:6000>\nContent-Length: 4\n\nbody",
		       hand_route);
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
			       "REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bK%u\nFrom: "
			       "<sip:%s@example.net>;tag=f\n"
			       "To: <sip:%s@example.net>\nCall-ID: r\nCSeq: %u REGISTER\nContact: "
			       "<sip:%s1@h>\n%.*sContent-Length: 0\n\n",
			       i, user, user, i + 1, user, (int)w.len, credentials);
		(void)feed(x, k, text);
		if (!next(x, out) || sip_parse(span_str(out), &net_msg, &why, &status) != OK)
			return false;
		if (i || sip_challenge_best(&net_msg, H_WWW_AUTHENTICATE, &c) != OK)
			break;
		wr_str(&w, "Authorization: ");
		assert_int_equal(sip_digest_answer(&c, user, net_password(user), "REGISTER",
						   SPAN_LIT("sip:example.net"), 1, "c", &w),
				 OK);
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
		   "INVITE sip:b@example.net SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bKi\nFrom: "
		   "<sip:a@example.net>;tag=f\n"
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
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(absent_is_absent),
		cmocka_unit_test(a_device_that_said_more_is_heard_at_once),
		cmocka_unit_test(refusals),
		cmocka_unit_test(a_datagram_stands_for_nobody),
		cmocka_unit_test(a_device_that_answers_nonsense),
		cmocka_unit_test(tokens),
		cmocka_unit_test(a_dialog_survives_a_new_connection),
		cmocka_unit_test(a_dialog_survives_the_exchange),
		cmocka_unit_test(cuts),
		cmocka_unit_test(without_memory),
	};

	return HARNESS_RUN(tests);
}
