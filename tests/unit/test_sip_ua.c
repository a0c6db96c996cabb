/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two agents and a small server between them in virtual time: it answers REGISTER and forwards everything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "harness.h"
#include "sip/digest.h"
#include "sip/ua_impl.h"

#define WIRE_MAX 512
#define DELAY_US MS(10)

struct side {
	struct sip_ua *ua;
	unsigned account;
	struct addr local;
	struct path flow; /* by which its REGISTER came */
	char contact[256];
	unsigned n[SIP_CALL_ENDED + 1]; /* events by kind */
	struct sip_event last[SIP_CALL_ENDED + 1];
	char body[64], reason[128];
};

struct piece {
	uint64_t due_us;
	int to;
	struct path path;
	bool is_event;
	enum stream_event ev;
	uint8_t *p;
	size_t len;
};

static struct side sides[2];
static struct piece wire[WIRE_MAX];
static unsigned n_wire, loss_percent, n_challenges, n_forks, n_out_of_order;
static uint64_t now_us;
static struct rng_seeded seed;
static struct rng rng;
static bool challenge, wrong_password, refuse_streams, cut, md5_only, lose_acks, spoil_answers;
static struct addr server_addr;
static struct sip_msg msg;
static struct sip_nonces nonces;

/* to: 0, 1 the agents, 2 + k: the server, from agent k */
static void post(int to, const struct path *path, struct span bytes)
{
	struct piece *p;

	if (cut || (path->transport == TRANSPORT_UDP && rng_below(&rng, 100) < loss_percent))
		return;
	assert_true(n_wire < WIRE_MAX);
	p = &wire[n_wire++];
	*p = (struct piece){
		.due_us = now_us + DELAY_US, .to = to, .path = *path, .p = malloc(bytes.len + 1), .len = bytes.len
	};
	assert_non_null(p->p);
	memcpy(p->p, bytes.p, bytes.len);
}

static void post_event(int to, const struct path *path, enum stream_event ev)
{
	assert_true(n_wire < WIRE_MAX);
	wire[n_wire++] =
		(struct piece){ .due_us = now_us + DELAY_US, .to = to, .path = *path, .is_event = true, .ev = ev };
}

static void drain(int k)
{
	struct side *s = &sides[k];
	struct sip_event e;
	struct out o;

	while (sip_ua_poll_output(s->ua, &o)) {
		struct path path = o.path;

		if (o.kind == OUT_OPEN) {
			path.local = s->local;
			post_event(k, &path, refuse_streams ? STREAM_FAILED : STREAM_OPEN);
		} else if (o.kind == OUT_SEND) {
			path.remote = o.path.transport == TRANSPORT_UDP ? o.path.local : s->local;
			path.local = server_addr;
			post(2 + k, &path, o.bytes);
		}
	}
	while (sip_ua_poll_event(s->ua, &e)) {
		s->n[e.kind]++;
		s->last[e.kind] = e;
		(void)snprintf(s->reason, sizeof(s->reason), "%s", e.reason);
		if (e.body.len) /* a registration is refreshed at any time */
			(void)snprintf(s->body, sizeof(s->body), "%.*s", (int)e.body.len, (const char *)e.body.p);
	}
}

/* ---- the server ---- */

static void to_side(int k, const struct path *seen, const struct wr *w)
{
	struct path path = *seen;

	assert_false(w->bad);
	path.local = sides[k].local;
	path.remote = server_addr;
	post(k, &path, wr_done(w));
}

static bool authentic(int k, const struct path *path)
{
	struct span value = sip_value(&msg, msg.method == SIP_REGISTER ? H_AUTHORIZATION : H_PROXY_AUTHORIZATION);
	struct sip_credentials c;
	char nonce[SIP_NONCE_TEXT], ha1[HASH_MAX * 2 + 1];
	static uint8_t mem[4096];
	struct wr w = wr_of(mem, sizeof(mem));
	bool reg = msg.method == SIP_REGISTER;

	if (!challenge)
		return true;
	if (sip_credentials_parse(value, &c) == OK && sip_nonce_check(&nonces, now_us, c.nonce, 60) == OK &&
	    sip_digest_ha1(c.hash, k ? "b" : "a", "r", wrong_password ? "other" : "secret", ha1) == OK &&
	    sip_digest_verify(&c, ha1, msg.method_text) == OK && span_eq(c.uri, msg.uri_text)) {
		assert_int_equal(c.hash, md5_only ? HASH_MD5 : HASH_SHA256);
		return true;
	}
	n_challenges++;
	assert_int_equal(sip_nonce_make(&nonces, now_us, nonce), OK);
	sip_write_response(&w, &msg, &path->remote, reg ? 401 : 407, NULL, "srv");
	sip_write_headerf(&w, reg ? H_WWW_AUTHENTICATE : H_PROXY_AUTHENTICATE,
			  "Digest realm=\"r\", nonce=\"%s\", qop=\"auth\"", nonce);
	if (!md5_only)
		sip_write_headerf(&w, reg ? H_WWW_AUTHENTICATE : H_PROXY_AUTHENTICATE,
				  "Digest realm=\"r\", nonce=\"%s\", qop=\"auth\", algorithm=SHA-256", nonce);
	sip_write_end(&w, NULL, SPAN_NONE);
	to_side(k, path, &w);
	return false;
}

static void forward(int k, const struct path *path, unsigned fork)
{
	static uint8_t mem[SIP_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	char via[128], rr[96], ip[ADDR_TEXT];
	struct sip_edit e = { .received = path->remote, .max_forwards = 69 };

	(void)snprintf(via, sizeof(via), "SIP/2.0/TCP %s;branch=z9hG4bKfwd%u%u-%.*s", addr_write(&server_addr, ip), k,
		       fork, (int)msg.via.branch.len, (const char *)msg.via.branch.p);
	(void)snprintf(rr, sizeof(rr), "<sip:%s;lr>", addr_write(&server_addr, ip));
	e.push_via = span_str(via);
	e.pop_route = sip_value(&msg, H_ROUTE).len > 0;
	if (!msg.to_tag.len) {
		e.request_uri = span_str(sides[!k].contact);
		if (msg.method == SIP_INVITE)
			e.push_record_route = span_str(rr);
	}
	sip_write_edited(&w, &msg, &e);
	to_side(!k, &sides[!k].flow, &w);
}

static void server(int k, const struct path *path, struct span bytes)
{
	static uint8_t mem[SIP_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	const char *why;
	unsigned status;
	size_t len;
	bool ping;

	if (path->transport != TRANSPORT_UDP && sip_frame(bytes, &len, &ping) == SIP_FRAME_KEEPALIVE) {
		wr_str(&w, "\r\n");
		to_side(k, path, &w);
		return;
	}
	if (spoil_answers && span_starts(bytes, "SIP/2.0 200")) {
		static uint8_t spoiled[SIP_MSG_MAX];

		memcpy(spoiled, bytes.p, bytes.len);
		bytes = span_of(spoiled, bytes.len);
		for (size_t i = 0; i + 16 < bytes.len; i++)
			if (!memcmp(spoiled + i, "\nRecord-Route: <", 16))
				spoiled[i + 15] = '"';
	}
	if (sip_parse(bytes, &msg, &why, &status) != OK)
		fail_msg("%s in: %.*s", why, (int)bytes.len, (const char *)bytes.p);
	if (!msg.is_request) {
		struct sip_edit e = { .pop_via = true, .max_forwards = -1 };

		sip_write_edited(&w, &msg, &e);
		to_side(!k, &sides[!k].flow, &w);
		return;
	}
	if (msg.method != SIP_ACK && msg.method != SIP_CANCEL && msg.method != SIP_BYE && !authentic(k, path))
		return;
	if (msg.method == SIP_REGISTER && n_out_of_order) {
		n_out_of_order--;
		sip_write_response(&w, &msg, &path->remote, 500, NULL, "reg");
		sip_write_end(&w, NULL, SPAN_NONE);
		to_side(k, path, &w);
		return;
	}
	if (msg.method == SIP_REGISTER) {
		(void)snprintf(sides[k].contact, sizeof(sides[k].contact), "%s", "");
		{
			struct sip_walk walk = { .at = 0 };
			struct sip_nameaddr n;

			assert_int_equal(sip_walk_next(&msg, H_CONTACT, &walk, &n), OK);
			(void)snprintf(sides[k].contact, sizeof(sides[k].contact), "%.*s", (int)n.uri.text.len,
				       (const char *)n.uri.text.p);
		}
		sides[k].flow = *path;
		sip_write_response(&w, &msg, &path->remote, 200, NULL, "reg");
		sip_write_headerf(&w, H_CONTACT, "<%s>;expires=120", sides[k].contact);
		sip_write_headerf(&w, H_DATE, "Mon, 23 Nov 2026 21:00:00 GMT");
		sip_write_end(&w, NULL, SPAN_NONE);
		to_side(k, path, &w);
		return;
	}
	if (msg.method == SIP_ACK && lose_acks)
		return;
	forward(k, path, 0);
	for (unsigned i = 1; i <= n_forks && msg.method == SIP_INVITE && !msg.to_tag.len; i++)
		forward(k, path, i);
}

/* ---- time ---- */

static void run(uint64_t for_us)
{
	uint64_t until = now_us + for_us;

	for (int k = 0; k < 2; k++)
		drain(k);
	while (now_us <= until) {
		uint64_t due = until + 1;
		unsigned first = WIRE_MAX;

		for (unsigned i = 0; i < n_wire; i++)
			if (wire[i].due_us < due) {
				due = wire[i].due_us;
				first = i;
			}
		for (int k = 0; k < 2; k++)
			if (sip_ua_deadline_us(sides[k].ua) < due) {
				due = sip_ua_deadline_us(sides[k].ua);
				first = WIRE_MAX;
			}
		if (due > until) {
			now_us = until;
			return;
		}
		if (due > now_us)
			now_us = due;
		if (first != WIRE_MAX) {
			struct piece p = wire[first];

			memmove(wire + first, wire + first + 1, (--n_wire - first) * sizeof(wire[0]));
			if (p.is_event)
				sip_ua_stream(sides[p.to].ua, now_us, &p.path, p.ev);
			else if (p.to < 2)
				sip_ua_input(sides[p.to].ua, now_us, &p.path, span_of(p.p, p.len));
			else
				server(p.to - 2, &p.path, span_of(p.p, p.len));
			free(p.p);
		}
		for (int k = 0; k < 2; k++) {
			sip_ua_tick(sides[k].ua, now_us);
			drain(k);
		}
	}
}

static void begin(enum transport t)
{
	memset(sides, 0, sizeof(sides));
	n_wire = loss_percent = n_challenges = n_forks = n_out_of_order = 0;
	challenge = wrong_password = refuse_streams = cut = md5_only = lose_acks = spoil_answers = false;
	now_us = SECONDS(1);
	rng = rng_seeded_init(&seed, 3);
	sip_nonces_init(&nonces, &rng);
	server_addr = addr_ip4(0xcb007101, 5060);
	for (int k = 0; k < 2; k++) {
		struct sip_ua_config cfg = { .rng = &rng, .max_calls = 2 };

		sides[k].local = addr_ip4(0x0a000001u + ((uint32_t)k << 8), 6000);
		assert_int_equal(sip_ua_new(&cfg, &sides[k].ua), OK);
	}
	(void)t;
}

static void add_accounts(enum transport t, bool insecure)
{
	for (int k = 0; k < 2; k++) {
		struct sip_account_config cfg = { .aor = k ? "sip:b@example.net" : "sip:a@example.net",
						  .user = k ? "b" : "a",
						  .password = "secret",
						  .server = server_addr,
						  .transport = t,
						  .insecure_digest = insecure };

		assert_int_equal(sip_ua_account_add(sides[k].ua, now_us, &cfg, &sides[k].local, &sides[k].account), OK);
	}
	run(SECONDS(3));
}

static void end(void)
{
	for (int k = 0; k < 2; k++)
		sip_ua_free(sides[k].ua);
	for (unsigned i = 0; i < n_wire; i++)
		free(wire[i].p);
}

static unsigned dial(void)
{
	unsigned call = 0;

	assert_int_equal(
		sip_ua_invite(sides[0].ua, now_us, sides[0].account, "sip:b@example.net", SPAN_LIT("offer"), &call),
		OK);
	run(SECONDS(2));
	return call;
}

/* ---- cases ---- */

static void registers_with_a_challenge(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		enum transport t = i & 1 ? TRANSPORT_UDP : TRANSPORT_TCP;

		begin(t);
		challenge = true;
		md5_only = i & 2;
		add_accounts(t, true);
		assert_true(sip_ua_registered(sides[0].ua, sides[0].account) && sides[0].n[SIP_REGISTERED] == 1);
		assert_int_equal(n_challenges, 2);
		assert_int_equal(sip_ua_server_date_s(sides[0].ua, sides[0].account), 1795467600);
		run(SECONDS(400)); /* refreshed before the 120 s are over, with the nonce of before or a fresh one */
		/* over UDP the refresh is what keeps a NAT open */
		assert_true(t == TRANSPORT_UDP ? sides[0].n[SIP_REGISTERED] >= 15 : sides[0].n[SIP_REGISTERED] <= 8);
		if (sides[0].n[SIP_REGISTERED] < 5 || sides[0].n[SIP_REGISTER_FAILED])
			fail_msg("%d: registered %u times, failed %u: %s", i, sides[0].n[SIP_REGISTERED],
				 sides[0].n[SIP_REGISTER_FAILED], sides[0].reason);
		sip_ua_account_remove(sides[0].ua, now_us, sides[0].account);
		run(SECONDS(40));
		assert_false(sip_ua_registered(sides[0].ua, sides[0].account));
		end();
	}
}

static void failures_of_registration(void **state)
{
	(void)state;
	begin(TRANSPORT_TCP);
	challenge = wrong_password = true;
	add_accounts(TRANSPORT_TCP, true);
	assert_true(sides[0].n[SIP_REGISTER_FAILED] == 1 && sides[0].last[SIP_REGISTER_FAILED].fatal);
	assert_int_equal(sides[0].last[SIP_REGISTER_FAILED].status, 401);
	end();
	begin(TRANSPORT_TCP); /* No digest without verified TLS */
	challenge = true;
	add_accounts(TRANSPORT_TCP, false);
	assert_int_equal(sides[0].n[SIP_REGISTER_FAILED], 1);
	assert_non_null(strstr(sides[0].reason, "TLS"));
	end();
	begin(TRANSPORT_TCP);
	refuse_streams = true;
	add_accounts(TRANSPORT_TCP, true);
	assert_true(sides[0].n[SIP_REGISTER_FAILED] >= 1 && !sides[0].last[SIP_REGISTER_FAILED].fatal);
	refuse_streams = false;
	run(SECONDS(60));
	assert_true(sip_ua_registered(sides[0].ua, sides[0].account));
	end();
}

/* The back-off may be over before the old transaction is (timer K of a datagram's, 5 s). */
static void a_refused_registration_is_tried_again(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		begin(TRANSPORT_UDP);
		rng = rng_seeded_init(&seed, 100 + (unsigned)i);
		n_out_of_order = 2; /* each agent's first */
		add_accounts(i & 1 ? TRANSPORT_UDP : TRANSPORT_TCP, true);
		run(SECONDS(12));
		for (int k = 0; k < 2; k++)
			assert_true(sides[k].n[SIP_REGISTER_FAILED] == 1 &&
				    sip_ua_registered(sides[k].ua, sides[k].account));
		end();
	}
}

static void a_call(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		enum transport t = i & 1 ? TRANSPORT_UDP : TRANSPORT_TCP;
		unsigned call, theirs;
		int who = i >> 1;

		begin(t);
		challenge = true;
		add_accounts(t, true);
		if (t == TRANSPORT_UDP)
			loss_percent = 20;
		call = dial();
		run(SECONDS(20));
		assert_int_equal(sides[1].n[SIP_CALL_INCOMING], 1);
		assert_string_equal(sides[1].body, "offer");
		theirs = sides[1].last[SIP_CALL_INCOMING].call;
		assert_int_equal(sip_ua_ring(sides[1].ua, now_us, theirs, 180), OK);
		run(SECONDS(1));
		assert_int_equal(sip_ua_answer(sides[1].ua, now_us, theirs, SPAN_LIT("answer")), OK);
		run(SECONDS(30));
		assert_int_equal(sides[0].n[SIP_CALL_ANSWERED], 1);
		assert_string_equal(sides[0].body, "answer");
		assert_int_equal(sides[1].n[SIP_CALL_CONFIRMED], 1);
		sip_ua_choose_leg(sides[0].ua, now_us, call, sides[0].last[SIP_CALL_ANSWERED].leg);
		sip_ua_hangup(sides[who].ua, now_us, who ? theirs : call);
		run(SECONDS(60));
		assert_true(sides[!who].n[SIP_CALL_ENDED] == 1 && !sides[who].n[SIP_CALL_ENDED]);
		end();
	}
}

/* 13.3.1.4: without an ACK the call ends, unless the owner knows that its answer has arrived. */
static void no_acknowledgement(void **state)
{
	(void)state;
	for (int known = 0; known < 2; known++) {
		unsigned call, theirs;

		begin(TRANSPORT_TCP);
		add_accounts(TRANSPORT_TCP, true);
		lose_acks = true;
		call = dial();
		theirs = sides[1].last[SIP_CALL_INCOMING].call;
		assert_int_equal(sip_ua_answer(sides[1].ua, now_us, theirs, SPAN_LIT("answer")), OK);
		run(SECONDS(5));
		sip_ua_choose_leg(sides[0].ua, now_us, call, sides[0].last[SIP_CALL_ANSWERED].leg);
		if (known)
			sip_ua_confirm(sides[1].ua, now_us, theirs);
		drain(1);
		assert_int_equal(sides[1].n[SIP_CALL_CONFIRMED], known);
		run(SECONDS(60));
		assert_int_equal(sides[1].n[SIP_CALL_ENDED], !known);
		assert_int_equal(sides[0].n[SIP_CALL_ENDED], !known);
		if (known) {
			sip_ua_confirm(sides[1].ua, now_us, theirs); /* once more is nothing */
			sip_ua_hangup(sides[1].ua, now_us, theirs);
			run(SECONDS(5));
			assert_true(sides[0].n[SIP_CALL_ENDED] == 1 && sides[1].n[SIP_CALL_CONFIRMED] == 1);
		}
		end();
	}
}

/* A 2xx whose route set cannot be read makes no dialog (12.1.2). The call ends all the same, whether its user waits or has hung up. */
static void unusable_answer(void **state)
{
	(void)state;
	for (int hung_up = 0; hung_up < 2; hung_up++) {
		unsigned call;

		begin(TRANSPORT_TCP);
		add_accounts(TRANSPORT_TCP, true);
		spoil_answers = true;
		call = dial();
		assert_int_equal(
			sip_ua_answer(sides[1].ua, now_us, sides[1].last[SIP_CALL_INCOMING].call, SPAN_LIT("answer")),
			OK);
		if (hung_up)
			sip_ua_hangup(sides[0].ua, now_us, call);
		run(SECONDS(80));
		assert_int_equal(sides[0].n[SIP_CALL_ANSWERED], 0);
		assert_int_equal(sides[0].n[SIP_CALL_FAILED], !hung_up);
		assert_null(sides[0].ua->calls);
		end();
	}
}

static void refusals(void **state)
{
	static const unsigned rows[] = { 480, 486, 488, 603, 403 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin(TRANSPORT_TCP);
		add_accounts(TRANSPORT_TCP, true);
		(void)dial();
		sip_ua_reject(sides[1].ua, now_us, sides[1].last[SIP_CALL_INCOMING].call, rows[i]);
		run(SECONDS(2));
		assert_true(sides[0].n[SIP_CALL_FAILED] == 1 && sides[0].last[SIP_CALL_FAILED].status == rows[i]);
		assert_int_equal(sides[1].n[SIP_CALL_ENDED], 0);
		end();
	}
}

static void cancelled_before_the_answer(void **state)
{
	unsigned call;

	(void)state;
	begin(TRANSPORT_TCP);
	add_accounts(TRANSPORT_TCP, true);
	call = dial();
	sip_ua_hangup(sides[0].ua, now_us, call);
	run(SECONDS(2));
	assert_int_equal(sides[1].n[SIP_CALL_ENDED], 1);
	assert_int_equal(sides[0].n[SIP_CALL_FAILED] + sides[0].n[SIP_CALL_ENDED], 0);
	/* and crossing it: answered before the CANCEL arrives, then ended by BYE */
	call = dial();
	sip_ua_hangup(sides[0].ua, now_us, call);
	assert_int_equal(sip_ua_answer(sides[1].ua, now_us, sides[1].last[SIP_CALL_INCOMING].call, SPAN_LIT("answer")),
			 OK);
	run(SECONDS(5));
	assert_int_equal(sides[1].n[SIP_CALL_ENDED], 2);
	assert_int_equal(sides[0].n[SIP_CALL_ANSWERED], 0);
	end();
}

static void forked_answers_are_legs(void **state)
{
	unsigned call;

	(void)state;
	begin(TRANSPORT_TCP);
	add_accounts(TRANSPORT_TCP, true);
	n_forks = 1;
	call = dial();
	assert_int_equal(sides[1].n[SIP_CALL_INCOMING], 2);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(sip_ua_answer(sides[1].ua, now_us, sides[1].last[SIP_CALL_INCOMING].call - k,
					       SPAN_LIT("answer")),
				 OK);
	run(SECONDS(3));
	assert_int_equal(sides[0].n[SIP_CALL_ANSWERED], 2);
	assert_int_equal(sides[1].n[SIP_CALL_CONFIRMED], 2);
	sip_ua_choose_leg(sides[0].ua, now_us, call, 1);
	run(SECONDS(3));
	assert_int_equal(sides[1].n[SIP_CALL_ENDED], 1); /* the other one got a BYE */
	sip_ua_hangup(sides[0].ua, now_us, call);
	assert_false(sip_ua_quiet(sides[0].ua));
	run(MS(200)); /* long before the INVITE stops to wait for more forks */
	assert_int_equal(sides[1].n[SIP_CALL_ENDED], 2);
	assert_true(sip_ua_quiet(sides[0].ua) && sip_ua_deadline_us(sides[0].ua) < now_us + SECONDS(40));
	end();
}

static void nobody_answers(void **state)
{
	unsigned call;

	(void)state;
	begin(TRANSPORT_UDP);
	add_accounts(TRANSPORT_UDP, true);
	cut = true;
	call = dial();
	run(SECONDS(40));
	assert_true(sides[0].n[SIP_CALL_FAILED] == 1 && sides[0].last[SIP_CALL_FAILED].status == 408);
	assert_int_equal(sides[0].last[SIP_CALL_FAILED].call, call);
	end();
	/* the callee's 200 is never confirmed */
	begin(TRANSPORT_TCP);
	add_accounts(TRANSPORT_TCP, true);
	(void)dial();
	cut = true;
	assert_int_equal(sip_ua_answer(sides[1].ua, now_us, sides[1].last[SIP_CALL_INCOMING].call, SPAN_LIT("answer")),
			 OK);
	run(SECONDS(70));
	assert_int_equal(sides[1].n[SIP_CALL_ENDED], 1);
	end();
}

/* 18.1.1: over 1300 bytes by stream; where that fails, by datagram. */
static void long_requests_leave_udp(void **state)
{
	static char offer[1500];
	unsigned call;

	(void)state;
	memset(offer, 'x', sizeof(offer));
	for (int i = 0; i < 2; i++) {
		begin(TRANSPORT_UDP);
		add_accounts(TRANSPORT_UDP, true);
		refuse_streams = i;
		assert_int_equal(sip_ua_invite(sides[0].ua, now_us, sides[0].account, "sip:b@example.net",
					       SPAN_OF(offer), &call),
				 OK);
		run(SECONDS(3));
		assert_int_equal(sides[1].n[SIP_CALL_INCOMING], 1);
		end();
	}
}

static void a_lost_stream_is_opened_again(void **state)
{
	struct path path;

	(void)state;
	begin(TRANSPORT_TCP);
	add_accounts(TRANSPORT_TCP, true);
	path = sides[0].flow;
	path.remote = server_addr;
	path.local = sides[0].local;
	sip_ua_stream(sides[0].ua, now_us, &path, STREAM_CLOSED);
	run(SECONDS(20));
	assert_true(sides[0].n[SIP_REGISTER_FAILED] == 1 && sides[0].n[SIP_REGISTERED] == 2);
	assert_true(sip_ua_registered(sides[0].ua, sides[0].account));
	end();
}

static void strangers(void **state)
{
	static const struct {
		const char *first, *rest;
		const char *answer;
	} rows[] = {
		{ "INVITE sip:nobody@h SIP/2.0", "CSeq: 1 INVITE\r\nContact: <sip:x@y>\r\n", "SIP/2.0 404" },
		{ "OPTIONS sip:nobody@h SIP/2.0", "CSeq: 1 OPTIONS\r\n", "SIP/2.0 404" },
		{ "BYE sip:nobody@h SIP/2.0", "CSeq: 1 BYE\r\n", "SIP/2.0 481" },
		{ "FROB sip:nobody@h SIP/2.0", "CSeq: 1 FROB\r\n", "SIP/2.0 501" },
		{ "INFO sip:nobody@h SIP/2.0", "CSeq: 1 INFO\r\n", "SIP/2.0 405" },
		{ "OPTIONS sip:nobody@h SIP/2.0", "CSeq: 1 OPTIONS\r\nRequire: magic\r\n", "SIP/2.0 420" },
		{ "OPTIONS sip:nobody@h SIP/2.0", "CSeq: 1 INFO\r\n", "SIP/2.0 400" },
		{ "OPTIONS sip:nobody@h SIP/3.0", "CSeq: 1 OPTIONS\r\n", "SIP/2.0 505" },
		{ "CANCEL sip:nobody@h SIP/2.0", "CSeq: 1 CANCEL\r\n", "SIP/2.0 481" },
		{ "ACK sip:nobody@h SIP/2.0", "CSeq: 1 ACK\r\n", NULL },
		{ "SIP/2.0 200 OK", "CSeq: 1 INVITE\r\n", NULL },
		{ "nonsense", "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct path path;
		struct out o;
		char text[600];
		bool any;
		int n;

		begin(TRANSPORT_UDP);
		add_accounts(TRANSPORT_UDP, true);
		path = (struct path){ .local = sides[1].local, .remote = addr_ip4(0x01020304, 5060) };
		n = snprintf(text, sizeof(text),
			     "%s\r\nVia: SIP/2.0/UDP 1.2.3.4;rport;branch=z9hG4bKzz\r\nFrom: <sip:x@y>;tag=1\r\n"
			     "To: <sip:b@example.net>\r\nCall-ID: q\r\n%sContent-Length: 0\r\n\r\n",
			     rows[i].first, rows[i].rest);
		sip_ua_input(sides[1].ua, now_us, &path, span_of(text, (size_t)n));
		any = sip_ua_poll_output(sides[1].ua, &o);
		if (any != (rows[i].answer != NULL) || (any && !span_starts(o.bytes, rows[i].answer)))
			fail_msg("row %zu: %.*s", i, any ? (int)o.bytes.len : 0, any ? (const char *)o.bytes.p : "");
		drain(1);
		assert_int_equal(sides[1].n[SIP_CALL_INCOMING], 0);
		end();
	}
}

/* What is wrong with a call is told to those whom vpn knows, not to everybody who can reach the device (docs/protocol.md). */
static void strangers_learn_nothing(void **state)
{
	static const char *const rows[] = { "", "Contact: <sip:x@y>\r\nRequire: magic\r\n", "Contact: nonsense\r\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct path path;
		struct out o;
		char text[600];
		int n;

		begin(TRANSPORT_UDP);
		add_accounts(TRANSPORT_UDP, true);
		path = (struct path){ .local = sides[1].local, .remote = addr_ip4(0x01020304, 5060) };
		n = snprintf(text, sizeof(text),
			     "INVITE sip:%s@h SIP/2.0\r\nVia: SIP/2.0/UDP 1.2.3.4;rport;branch=z9hG4bKzz\r\n"
			     "From: <sip:x@y>;tag=1\r\nTo: <sip:b@example.net>\r\nCall-ID: q\r\nCSeq: 1 INVITE\r\n%s"
			     "Content-Length: 0\r\n\r\n",
			     sides[1].ua->accounts->contact_user, rows[i]);
		sip_ua_input(sides[1].ua, now_us, &path, span_of(text, (size_t)n));
		assert_true(sip_ua_poll_output(sides[1].ua, &o));
		if (!span_starts(o.bytes, "SIP/2.0 480"))
			fail_msg("row %zu: %.*s", i, (int)o.bytes.len, (const char *)o.bytes.p);
		drain(1);
		assert_int_equal(sides[1].n[SIP_CALL_INCOMING], 0);
		end();
	}
}

static bool build_one(void *arg)
{
	struct sip_ua_config cfg = { .rng = &rng, .max_calls = 2 };
	struct sip_account_config acc = {
		.aor = "sip:b@example.net", .user = "b", .password = "secret", .server = server_addr
	};
	struct sip_ua *ua = NULL;
	unsigned account, call;
	bool all;

	(void)arg;
	rng = rng_seeded_init(&seed, 3);
	all = sip_ua_new(&cfg, &ua) == OK && sip_ua_account_add(ua, SECONDS(1), &acc, &server_addr, &account) == OK &&
	      sip_ua_invite(ua, SECONDS(1), account, "sip:a@example.net", SPAN_LIT("offer"), &call) == OK;
	sip_ua_free(ua);
	return all;
}

/* A request that cannot be written for lack of memory is a failure that is told, so only what must not happen is looked at. */
static void allocation_failures(void **state)
{
	(void)state;
	server_addr = addr_ip4(1, 5060);
	for (int i = 0; i < 3; i++)
		(void)build_one(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_with_a_challenge),
		cmocka_unit_test(failures_of_registration),
		cmocka_unit_test(a_refused_registration_is_tried_again),
		cmocka_unit_test(a_call),
		cmocka_unit_test(no_acknowledgement),
		cmocka_unit_test(unusable_answer),
		cmocka_unit_test(refusals),
		cmocka_unit_test(cancelled_before_the_answer),
		cmocka_unit_test(forked_answers_are_legs),
		cmocka_unit_test(nobody_answers),
		cmocka_unit_test(long_requests_leave_udp),
		cmocka_unit_test(a_lost_stream_is_opened_again),
		cmocka_unit_test(strangers),
		cmocka_unit_test(strangers_learn_nothing),
		cmocka_unit_test(allocation_failures),
	};

	return HARNESS_RUN(tests);
}
