/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Registrations, by user agents and by hand; streams; what strangers get. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "exchange_net.h"
#include "harness.h"

#define CONTACT "Contact: <sip:x1@10.0.0.1:6000>\n"

static bool has(int k, const char *text)
{
	return strstr(net_newest(k), text) != NULL;
}

/* ---- user agents ---- */

static void agents_register_refresh_and_leave(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		net_begin();
		net_ua(0, "a", i ? TRANSPORT_UDP : TRANSPORT_TCP);
		assert_true(sip_ua_registered(dev[0].ua, dev[0].account));
		assert_int_equal(sip_ua_server_date_s(dev[0].ua, dev[0].account), NET_WALL + 1);
		assert_int_equal(net_stats().n_bindings, 1);
		net_run(SECONDS(4 * 3600)); /* with nonces that are too old by then */
		assert_int_equal(dev[0].n[SIP_REGISTER_FAILED], 0);
		assert_true(dev[0].n[SIP_REGISTERED] >= 4);
		assert_int_equal(net_stats().n_bindings, 1);
		sip_ua_account_remove(dev[0].ua, now_us, dev[0].account);
		net_run(SECONDS(40));
		assert_int_equal(net_stats().n_bindings, 0);
		net_end();
	}
}

static void a_lost_stream_takes_its_binding(void **state)
{
	struct path p;

	(void)state;
	net_begin();
	net_ua(0, "a", TRANSPORT_TCP);
	assert_int_equal(net_stats().n_bindings, 1);
	p = net_tcp(0, 1);
	p = net_at_exchange(0, &p);
	net_post_event(-1, &p, STREAM_CLOSED);
	p = net_tcp(0, 1);
	net_post_event(0, &p, STREAM_CLOSED);
	net_run(MS(15));
	assert_int_equal(net_stats().n_bindings, 0);
	net_run(SECONDS(20)); /* it comes back by another one */
	assert_int_equal(net_stats().n_bindings, 1);
	net_end();
}

/* The network changed and nobody told the exchange: the old stream is still there, but the device is known by its series. */
static void a_device_that_moved_is_one_device(void **state)
{
	struct path p, q;

	(void)state;
	net_begin();
	p = net_tcp(0, 1);
	q = net_tcp(0, 2);
	assert_int_equal(net_register(0, &p, "a", net_password("a"), "Contact: <sip:x1@10.0.0.1:40001>\n"), 200);
	assert_int_equal(net_register(0, &q, "a", net_password("a"), "Contact: <sip:x1@10.0.0.1:40002>\n"), 200);
	assert_int_equal(net_stats().n_bindings, 1);
	assert_true(has(0, "40002") && !has(0, "40001"));
	/* another one with the same name in another series is not touched */
	assert_int_equal(net_register(1, &p, "a", net_password("a"), "Contact: <sip:x1@10.0.1.1:40001>\n"), 200);
	assert_int_equal(net_stats().n_bindings, 2);
	net_end();
}

/* ---- who it is ---- */

static void both_hashes(void **state)
{
	struct path p;
	char text[2048];

	(void)state;
	net_begin();
	p = net_udp(0);
	for (unsigned i = 0; i < 2; i++) {
		static const char form[] =
			"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKh%u\n"
			"From: <sip:a@example.net>;tag=f\nTo: <sip:a@example.net>\nCall-ID: h\nCSeq: %u "
			"REGISTER\n%s%s\n";

		(void)snprintf(text, sizeof(text), form, 10 * i, 2 * i + 1, CONTACT, "");
		net_say(0, &p, text);
		assert_int_equal(net_status(0), 401);
		/* RFC 8760, 2.4: the better one first */
		assert_true(strstr(net_newest(0), "algorithm=SHA-256") < strstr(net_newest(0), "algorithm=MD5"));
		(void)snprintf(text, sizeof(text), form, 10 * i + 1, 2 * i + 2, CONTACT,
			       net_credentials(0, "a", net_password("a"), "REGISTER", "sip:example.net",
					       i ? HASH_MD5 : HASH_SHA256));
		net_say(0, &p, text);
		assert_int_equal(net_status(0), 200);
		assert_true(has(0, "Date: Mon, 23 Nov 2026 21:00:0"));
		assert_true(has(0, "Contact: <sip:x1@10.0.0.1:6000>;expires=3600"));
	}
	net_end();
}

static void wrong_credentials(void **state)
{
	struct path p;
	char text[2048], wrong[2048];

	(void)state;
	net_begin();
	p = net_udp(0);
	net_cseq = 100;
	assert_int_equal(net_register(0, &p, "a", "another", CONTACT), 401);
	(void)snprintf(wrong, sizeof(wrong), "%s", net_newest(0));
	/* somebody who is not here gets the same: names cannot be tried */
	assert_int_equal(net_register(0, &p, "nobody", "another", CONTACT), 401);
	assert_int_equal(strlen(wrong) + 2 * strlen("nobody") - 2, strlen(net_newest(0)));
	/* with the password of b as b, for a's address */
	net_say(0, &p,
		"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKo1\nFrom: "
		"<sip:a@example.net>;tag=f\n"
		"To: <sip:a@example.net>\nCall-ID: o\nCSeq: 1 REGISTER\n" CONTACT "\n");
	(void)snprintf(
		text, sizeof(text),
		"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKo2\n"
		"From: <sip:a@example.net>;tag=f\nTo: <sip:a@example.net>\nCall-ID: o\nCSeq: 2 REGISTER\n" CONTACT
		"%s\n",
		net_credentials(0, "b", net_password("b"), "REGISTER", "sip:example.net", HASH_SHA256));
	net_say(0, &p, text);
	assert_int_equal(net_status(0), 403);
	/* credentials for another request */
	net_say(0, &p,
		"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKo3\nFrom: "
		"<sip:a@example.net>;tag=f\n"
		"To: <sip:a@example.net>\nCall-ID: o\nCSeq: 3 REGISTER\n" CONTACT "\n");
	(void)snprintf(
		text, sizeof(text),
		"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKo4\n"
		"From: <sip:a@example.net>;tag=f\nTo: <sip:a@example.net>\nCall-ID: o\nCSeq: 4 REGISTER\n" CONTACT
		"%s\n",
		net_credentials(0, "a", net_password("a"), "REGISTER", "sip:203.0.113.1", HASH_SHA256));
	net_say(0, &p, text);
	assert_int_equal(net_status(0), 401);
	assert_int_equal(net_stats().n_bindings, 0);
	net_end();
}

static void an_old_nonce_is_stale(void **state)
{
	struct path p;
	char text[2048];

	(void)state;
	net_begin();
	p = net_udp(0);
	for (unsigned i = 0; i < 2; i++) {
		net_say(0, &p,
			"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKs1\n"
			"From: <sip:a@example.net>;tag=f\nTo: <sip:a@example.net>\nCall-ID: s\nCSeq: 1 REGISTER\n\n");
		(void)snprintf(
			text, sizeof(text),
			"REGISTER sip:example.net SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.1:6000;branch=z9hG4bKs%u\n"
			"From: <sip:a@example.net>;tag=f\nTo: <sip:a@example.net>\nCall-ID: s\nCSeq: 2 REGISTER\n%s\n",
			i + 2,
			net_credentials(0, "a", i ? "wrong" : net_password("a"), "REGISTER", "sip:example.net",
					HASH_SHA256));
		net_run(SECONDS(400));
		net_say(0, &p, text);
		assert_int_equal(net_status(0), 401);
		assert_int_equal(has(0, "stale=true"), !i); /* RFC 7616, 3.3: only with a good answer */
	}
	net_end();
}

/* ---- bindings ---- */

static void bindings(void **state)
{
	static const struct {
		const char *extra;
		unsigned status, n; /* bindings then */
		const char *says;
	} rows[] = {
		{ "", 200, 0, "" }, /* a query */
		{ "Contact: <sip:x1@10.0.0.1>;expires=100\n", 200, 1, "<sip:x1@10.0.0.1>;expires=100" },
		{ "Contact: <sip:x1@10.0.0.1>\nExpires: 120\n", 200, 1, "expires=120" },
		{ "Contact: <sip:X1@10.0.0.1>;expires=9999999\n", 200, 2, "expires=3600" }, /* users have case */
		{ "Contact: <sip:x1@10.0.0.1>;expires=junk\nExpires: 90\n", 200, 2, "expires=90" },
		{ "Contact: <sip:x2@10.0.0.1>, <sip:x3@10.0.0.1>;expires=70\n", 200, 4,
		  "<sip:x3@10.0.0.1>;expires=70" },
		{ "Contact: <sip:x3@10.0.0.1>;expires=0\n", 200, 3, "x2" },
		{ "Contact: <sip:gone@10.0.0.1>;expires=0\n", 200, 3, "" },
		{ "Contact: <sip:x1@10.0.0.1>;expires=5\n", 423, 3, "Min-Expires: 60" },
		/* nothing of a request that fails half-way stays */
		{ "Contact: <sip:x5@10.0.0.1>, <sip:x6@10.0.0.1>;expires=1\n", 423, 3, "" },
		{ "Contact: <sip:x5@10.0.0.1>, <sips:x6@10.0.0.1>\n", 400, 3, "" },
		{ "Contact: <sip:x5@10.0.0.1>, *\n", 400, 3, "" },
		{ "Contact: <sip:x5@10.0.0.1>, <<\n", 400, 3, "" },
		{ "Contact: <sip:x5@10.0.0.1>, <sip:x5@10.0.0.1>\n", 400, 3, "" },
		{ "Contact: <sip:x5@10.0.0.1?Route=y>\n", 400, 3, "" },
		{ "Contact: <tel:1>\n", 400, 3, "" },
		{ "Contact: <http://x>\n", 400, 3, "" },
		{ "Contact: "
		  "<sip:a1@h>,<sip:a2@h>,<sip:a3@h>,<sip:a4@h>,<sip:a5@h>,<sip:a6@h>,<sip:a7@h>,<sip:a8@h>,<sip:a9@h>"
		  "\n",
		  400, 3, "" },
		{ "Contact: *\n", 400, 3, "" },
		{ "Contact: *\nExpires: 60\n", 400, 3, "" },
		{ "Require: path\nContact: <sip:x5@10.0.0.1>\n", 420, 3, "Unsupported: path" },
		{ "Contact: *\nExpires: 0\n", 200, 0, "" },
		{ "Contact: <sip:a1@h>,<sip:a2@h>,<sip:a3@h>,<sip:a4@h>,<sip:a5@h>,<sip:a6@h>,<sip:a7@h>,<sip:a8@h>\n",
		  200, 8, "" },
		{ "Contact: <sip:a9@h>\n", 200, 8, "a9" }, /* room is made */
	};
	struct path p;

	(void)state;
	net_begin();
	p = net_udp(0);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned status = net_register(0, &p, "a", net_password("a"), rows[i].extra);

		if (status != rows[i].status || net_stats().n_bindings != rows[i].n || !has(0, rows[i].says))
			fail_msg("row %u: %u, %u bindings: %s", i, status, net_stats().n_bindings, net_newest(0));
		net_forget_inbox(0);
	}
	net_run(SECONDS(3601));
	assert_int_equal(net_stats().n_bindings, 0);
	net_end();
}

static void they_expire_one_by_one(void **state)
{
	struct path p;

	(void)state;
	net_begin();
	p = net_udp(0);
	(void)net_register(0, &p, "a", net_password("a"),
			   "Contact: <sip:a1@h>;expires=60, <sip:a2@h>;expires=200, <sip:a3@h>;expires=100\n");
	assert_int_equal(net_stats().n_bindings, 3);
	net_run(SECONDS(61));
	assert_int_equal(net_stats().n_bindings, 2);
	net_run(SECONDS(40));
	assert_int_equal(net_stats().n_bindings, 1);
	net_run(SECONDS(100));
	assert_int_equal(net_stats().n_bindings, 0);
	assert_true(exchange_deadline_us(net_x) == TIME_NEVER);
	net_end();
}

/* 10.3: an older request of the series changes nothing, though its credentials are good. */
static void out_of_order(void **state)
{
	struct path p;

	(void)state;
	net_begin();
	p = net_udp(0);
	net_cseq = 100;
	assert_int_equal(net_register(0, &p, "a", net_password("a"), CONTACT), 200);
	net_cseq = 50;
	assert_int_equal(net_register(0, &p, "a", net_password("a"), CONTACT "Expires: 0\n"), 400);
	assert_int_equal(net_register(0, &p, "a", net_password("a"), "Contact: *\nExpires: 0\n"), 400);
	assert_int_equal(net_stats().n_bindings, 1);
	net_end();
}

/* ---- streams ---- */

static void a_stream_of_a_stranger_is_closed(void **state)
{
	struct path p, q;

	(void)state;
	net_begin();
	p = net_tcp(0, 1);
	q = net_tcp(1, 1);
	net_say(0, &p, "\n\n"); /* pings do not prolong it */
	assert_string_equal(dev[0].inbox[0], "\r\n");
	net_forget_inbox(0);
	assert_int_equal(net_register(1, &q, "b", net_password("b"), "Contact: <sip:b@h>\n"), 200);
	for (unsigned i = 0; i < 7; i++) {
		net_say(0, &p, "\n\n");
		net_run(SECONDS(5));
	}
	assert_true(dev[0].n_closed == 1 && dev[1].n_closed == 0);
	assert_int_equal(net_stats().n_streams, 1);
	net_end();
}

static void strangers_make_room(void **state)
{
	struct path p = { .transport = TRANSPORT_TCP,
			  .local = addr_ip4(0xcb007101, 5060),
			  .remote = addr_ip4(0x0a000001, 99) };

	(void)state;
	net_begin();
	p.stream = 1001;
	{
		struct path q = net_tcp(0, 1);

		assert_int_equal(net_register(0, &q, "a", net_password("a"), CONTACT), 200);
	}
	for (unsigned i = 0; i < EXCHANGE_STREAMS_MAX + 10; i++) {
		p.stream = 1000u * 1000u + i * 1000u + 500u;
		exchange_stream(net_x, now_us, &p, STREAM_OPEN);
		assert_true(net_stats().n_streams <= EXCHANGE_STREAMS_MAX);
	}
	net_run(MS(50));
	assert_int_equal(net_stats().n_bindings, 1); /* whom we know stays */
	assert_int_equal(net_stats().n_streams, EXCHANGE_STREAMS_MAX);
	net_end();
}

/* A user with good credentials, too, gets no more than others leave. */
static void one_user_takes_all_streams(void **state)
{
	struct path p;

	(void)state;
	net_begin();
	for (unsigned i = 0; i < EXCHANGE_STREAMS_MAX; i++) {
		int k = i < 900 ? 4 : 3;

		p = net_tcp(k, 1 + i % 900);
		assert_int_equal(net_register(k, &p, "a", net_password("a"), CONTACT), 200);
		net_forget_inbox(k);
	}
	assert_int_equal(net_stats().n_streams, EXCHANGE_STREAMS_MAX);
	p = net_tcp(1, 1);
	assert_int_equal(net_register(1, &p, "b", net_password("b"), "Contact: <sip:b@h>\n"), 200);
	assert_int_equal(net_stats().n_streams, EXCHANGE_STREAMS_MAX);
	net_end();
}

static const char stream_text[] =
	"\r\n\r\nREGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKt1\r\nFrom: "
	"<sip:a@example.net>;tag=f\r\n"
	"To: <sip:a@example.net>\r\nCall-ID: t\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
	"OPTIONS sip:example.net SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKt2\r\nFrom: <sip:a@example.net>;tag=f\r\n"
	"To: <sip:example.net>\r\nCall-ID: t\r\nCSeq: 2 OPTIONS\r\nContent-Length: 4\r\n\r\nbody";

/* The same bytes in pieces of every size give the same answers; cut at every length they give a clean state. */
static void pieces_and_cuts(void **state)
{
	const size_t len = sizeof(stream_text) - 1;

	(void)state;
	net_begin();
	for (size_t size = 1; size <= len; size++) {
		struct path p = net_tcp(0, 1 + size % 900), there = net_at_exchange(0, &p);

		for (size_t at = 0; at < len; at += size)
			exchange_input(net_x, now_us, &there,
				       span_of(stream_text + at, len - at < size ? len - at : size));
		net_run(MS(15));
		if (dev[0].n_inbox != 4) /* pong, 401, pong, 200 */
			fail_msg("%zu: %u answers", size, dev[0].n_inbox);
		assert_true(strstr(dev[0].inbox[dev[0].n_inbox - 1], "SIP/2.0 200 OK\r\n") ==
			    dev[0].inbox[dev[0].n_inbox - 1]);
		net_forget_inbox(0);
		exchange_stream(net_x, now_us, &there, STREAM_CLOSED);
	}
	for (size_t cut = 0; cut < len; cut++) {
		struct path p = net_tcp(0, 1 + cut % 900), there = net_at_exchange(0, &p);

		exchange_input(net_x, now_us, &there, span_of(stream_text, cut));
		exchange_stream(net_x, now_us, &there, STREAM_CLOSED);
		net_run(MS(15));
		net_forget_inbox(0);
		p = net_udp(0);
		there = net_at_exchange(0, &p);
		exchange_input(net_x, now_us, &there, span_of(stream_text + 4, cut));
		net_run(MS(15));
		net_forget_inbox(0);
	}
	assert_int_equal(net_stats().n_streams, 0);
	assert_true(exchange_deadline_us(net_x) == TIME_NEVER);
	net_end();
}

static void what_is_not_sip_closes_the_stream(void **state)
{
	static const char *const rows[] = { "GET / HTTP/1.1\n\n", "\n\nx y\n",
					    "OPTIONS sip:example.net SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bKq\n\n" };

	(void)state;
	net_begin();
	for (unsigned i = 0; i < 3; i++) {
		struct path p = net_tcp(0, i + 1);

		net_say(0, &p, rows[i]);
		assert_int_equal(dev[0].n_closed, i + 1);
	}
	{
		static char big[SIP_MSG_MAX + 100];
		struct path p = net_tcp(0, 9), there = net_at_exchange(0, &p);

		memset(big, 'a', sizeof(big));
		memcpy(big, "OPTIONS sip:h SIP/2.0\r\nX: ", 26);
		exchange_input(net_x, now_us, &there, span_of(big, sizeof(big)));
		net_run(MS(15));
		assert_int_equal(dev[0].n_closed, 4);
	}
	assert_int_equal(net_stats().n_streams, 0);
	net_end();
}

/* ---- memory ---- */

static bool once(void *arg)
{
	struct exchange_env env = { .rng = &net_rng, .wall_s = net_wall };
	struct path p = net_tcp(0, 1), there = net_at_exchange(0, &p);
	struct exchange *x;
	struct out o;
	unsigned n = 0;

	(void)arg;
	if (exchange_new(&env, net_cfg, &x) != OK)
		return false;
	for (size_t at = 0; at + 50 < sizeof(stream_text); at += 50)
		exchange_input(x, now_us, &there, span_of(stream_text + at, 50));
	exchange_input(x, now_us, &there,
		       span_of(stream_text + (sizeof(stream_text) - 1) / 50 * 50, (sizeof(stream_text) - 1) % 50));
	while (exchange_poll_output(x, &o))
		n += o.kind == OUT_SEND;
	exchange_free(x);
	return n >= 4;
}

static void without_memory(void **state)
{
	(void)state;
	net_begin();
	harness_alloc_ladder(once, NULL);
	net_end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(agents_register_refresh_and_leave),
		cmocka_unit_test(a_lost_stream_takes_its_binding),
		cmocka_unit_test(a_device_that_moved_is_one_device),
		cmocka_unit_test(both_hashes),
		cmocka_unit_test(wrong_credentials),
		cmocka_unit_test(an_old_nonce_is_stale),
		cmocka_unit_test(bindings),
		cmocka_unit_test(they_expire_one_by_one),
		cmocka_unit_test(out_of_order),
		cmocka_unit_test(a_stream_of_a_stranger_is_closed),
		cmocka_unit_test(strangers_make_room),
		cmocka_unit_test(one_user_takes_all_streams),
		cmocka_unit_test(pieces_and_cuts),
		cmocka_unit_test(what_is_not_sip_closes_the_stream),
		cmocka_unit_test(without_memory),
	};

	return HARNESS_RUN(tests);
}
