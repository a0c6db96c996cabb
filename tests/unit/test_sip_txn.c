/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Transactions by themselves: what their owner gives up ends (RFC 3261, 17). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "sip/txn.h"

static struct rng_seeded seed;
static struct rng rng;
static struct sip_msg m;
static const struct path path = { .transport = TRANSPORT_TCP, .stream = 7 };

static void input(struct sip_txns *t, const char *start, const char *branch)
{
	static char text[1024];
	const char *why;
	unsigned status;
	int len = snprintf(
		text, sizeof(text),
		"%s\r\nVia: SIP/2.0/TCP h;branch=%s\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\n"
		"CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
		start, branch);

	assert_int_equal(sip_parse(span_of(text, (size_t)len), &m, &why, &status), OK);
	sip_txns_input(t, 0, &path, &m);
}

static void given_up_in_proceeding(void **state)
{
	struct sip_txn_event e;
	struct sip_txns *t;
	struct sip_txn *x;
	int owner = 0;

	(void)state;
	rng = rng_seeded_init(&seed, 1);
	assert_int_equal(sip_txns_new(&rng, &t), OK);
	/* a client that has had a provisional answer: no timer of 17.1.1 runs */
	assert_int_equal(sip_txn_request(t, 0, &path, SIP_INVITE, "z9hG4bKq", SPAN_LIT("INVITE"), &owner, &x), OK);
	input(t, "SIP/2.0 180 Ringing", "z9hG4bKq");
	assert_true(sip_txns_poll_event(t, &e) && e.kind == SIP_TXN_RESPONSE && e.owner == &owner);
	sip_txn_forget(x);
	assert_false(sip_txns_poll_event(t, &e));
	assert_int_equal(sip_txns_len(t), 0);
	/* a server without a final answer: its repeat is a new request */
	for (unsigned i = 0; i < 2; i++) {
		input(t, "INVITE sip:b@h SIP/2.0", "z9hG4bKs");
		assert_true(sip_txns_poll_event(t, &e) && e.kind == SIP_TXN_REQUEST && e.txn);
		sip_txn_forget(e.txn);
		assert_false(sip_txns_poll_event(t, &e));
		assert_int_equal(sip_txns_len(t), 0);
	}
	sip_txns_free(t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(given_up_in_proceeding) };

	return HARNESS_RUN(tests);
}
