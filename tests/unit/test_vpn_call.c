/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two daemons and an exchange in one room: no loss, no NAT, every message takes 10 ms. What the simulator does at large is
 * here one call, message by message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "exchange/exchange.h"
#include "harness.h"
#include "ice/stun.h"
#include "ike/peek.h"
#include "net/demux.h"
#include "vpn/impl.h"

#define FLYING_MAX 128
#define FLOW_MAX 128
#define FLIGHT_US MS(10)
#define START_S 1900000000

enum { ALICE, BOB, EXCHANGE };
struct flying {
	uint64_t due_us;
	int to, from;
	struct path path;
	bool is_event;
	enum stream_event ev;
	uint8_t *p;
	size_t len;
};
struct side {
	struct vpn *vpn;
	struct identity *identity;
	struct addr ip;
	unsigned n[VPN_EV_ENDED + 1], n_up, n_down, n_forwards, n_closed;
	struct vpn_event last[VPN_EV_ENDED + 1];
};

static const char *const names[] = { "alice", "bob", "exchange" };
static struct side sides[2];
static struct exchange *exchange;
static struct exchange_config *exchange_cfg;
static struct flying air[FLYING_MAX];
static unsigned n_air, n_flow;
static char flow[FLOW_MAX][48]; /* who said what, in the order of sending */
static uint64_t now_us;
static struct rng_seeded seed;
static struct rng rng;
static struct addr server, stun;
static bool swallow; /* IKE and BYE are lost */

static int64_t wall_s(void *arg)
{
	(void)arg;
	return START_S + (int64_t)(now_us / 1000000);
}

/* ---- the wire ---- */

static void note(int from, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void note(int from, const char *fmt, ...)
{
	va_list args;
	int n;

	assert_true(n_flow < FLOW_MAX);
	n = snprintf(flow[n_flow], sizeof(flow[0]), "%s: ", names[from]);
	va_start(args, fmt);
	(void)vsnprintf(flow[n_flow++] + n, sizeof(flow[0]) - (size_t)n, fmt, args);
	va_end(args);
}

/* Checks that measure the path, and their answers, come beside everything else. */
static bool measures(const struct stun_msg *m)
{
	static uint8_t seen[64][12];
	static unsigned n;

	if (stun_find(m, STUN_TIELINE_PADDING)) {
		memcpy(seen[n++ % 64], m->transaction, 12);
		return true;
	}
	for (unsigned i = 0; i < 64; i++)
		if (!memcmp(seen[i], m->transaction, 12))
			return true;
	return false;
}

static void note_bytes(int from, bool is_sip, struct span d)
{
	static const char *const kinds[] = { "request", "indication", "answer", "refusal" };
	static struct stun_msg m;
	struct ike_peek p;

	if (is_sip) {
		struct span rest, word = span_cut(d, ' ', &rest);

		if (span_starts(d, "SIP/2.0"))
			word = span_sub(rest, 0, 3);
		note(from, "%.*s", (int)word.len, (const char *)word.p);
	} else if (demux_classify(d) == DEMUX_STUN && stun_parse(d, &m) == OK) {
		if (measures(&m))
			return;
		note(from, "STUN %s%s", kinds[m.cls], stun_find(&m, STUN_USE_CANDIDATE) ? " (nomination)" : "");
	} else if (demux_classify(d) == DEMUX_IKE && ike_peek(span_from(d, 4), &p) == OK) {
		note(from, "%s %s",
		     p.exchange == 34   ? "IKE_SA_INIT"
		     : p.exchange == 35 ? "IKE_AUTH"
		     : p.exchange == 36 ? "CREATE_CHILD_SA"
					: "INFORMATIONAL",
		     p.is_response ? "answer" : "request");
	} else {
		note(from, "%s", demux_kind_name(demux_classify(d)));
	}
}

static void post(int from, int to, const struct path *path, struct span d)
{
	struct flying *f = &air[n_air++];

	assert_true(n_air <= FLYING_MAX);
	*f = (struct flying){ .due_us = now_us + FLIGHT_US,
			      .from = from,
			      .to = to,
			      .path = *path,
			      .p = malloc(d.len + 1),
			      .len = d.len };
	assert_non_null(f->p);
	memcpy(f->p, d.p, d.len);
}

static void post_event(int from, int to, const struct path *path, enum stream_event ev)
{
	assert_true(n_air < FLYING_MAX);
	air[n_air++] = (struct flying){
		.due_us = now_us + FLIGHT_US, .from = from, .to = to, .path = *path, .is_event = true, .ev = ev
	};
}

static struct path turned(const struct path *p)
{
	struct path r = *p;

	r.local = p->remote;
	r.remote = p->local;
	return r;
}

static int at(const struct addr *a)
{
	return addr_ip_eq(a, &server) ? EXCHANGE : addr_ip_eq(a, &sides[BOB].ip) ? BOB : ALICE;
}

/* ---- what a host does with outputs and wants ---- */

static void send_out(int k, enum vpn_channel channel, const struct out *o)
{
	struct path path = o->path, seen;
	uint8_t marked[4096] = { 0 };
	struct span d = o->bytes;

	if (path.local.family == ADDR_NONE || !path.local.port)
		path.local = sides[k].ip;
	path.stream = o->path.stream ? o->path.stream * 2 + (unsigned)k : 0; /* numbers are each daemon's own */
	seen = turned(&path);
	if (o->kind == OUT_OPEN) {
		struct path mine = o->path;

		mine.local = path.local;
		post_event(k, EXCHANGE, &seen, STREAM_OPEN);
		post_event(EXCHANGE, k, &mine, STREAM_OPEN);
	} else if (o->kind == OUT_CLOSE) {
		post_event(k, EXCHANGE, &seen, STREAM_CLOSED);
	} else {
		if (channel == VPN_IKE) {
			memcpy(marked + 4, d.p, d.len);
			d = span_of(marked, d.len + 4);
		}
		if (swallow && (channel == VPN_IKE || span_starts(d, "BYE ")))
			return;
		if (!addr_eq(&path.remote, &stun)) /* keepalive: no part of a call */
			note_bytes(k, channel == VPN_SIP, d);
		post(k, at(&path.remote), &seen, d);
	}
}

static void carry_out(int k, const struct vpn_want *w)
{
	struct addr local = addr_ip4(0x7f000001, 40000);
	struct side *s = &sides[k];

	s->n_up += w->kind == VPN_WANT_PEER_UP;
	s->n_down += w->kind == VPN_WANT_PEER_DOWN;
	s->n_closed += w->kind == VPN_WANT_FORWARD_CLOSE;
	if (w->kind == VPN_WANT_PEER_UP || w->kind == VPN_WANT_PEER_DOWN)
		assert_memory_equal(w->peer, sides[!k].vpn->self, 16);
	if (w->kind == VPN_WANT_FORWARD) {
		s->n_forwards++;
		vpn_forward_ready(s->vpn, now_us, w->call, w->grant_id, &local);
	}
}

static void drain(int k)
{
	struct side *s = &sides[k];
	enum vpn_channel channel;
	struct vpn_event e;
	struct vpn_want w;
	struct out o;

	for (bool more = true; more;) {
		more = false;
		while (vpn_poll_want(s->vpn, &w)) {
			carry_out(k, &w);
			more = true;
		}
		while (vpn_poll_output(s->vpn, &channel, &o)) {
			send_out(k, channel, &o);
			more = true;
		}
		while (vpn_poll_event(s->vpn, &e)) {
			s->n[e.kind]++;
			s->last[e.kind] = e;
			more = true;
		}
	}
}

static void drain_exchange(void)
{
	struct out o;

	while (exchange_poll_output(exchange, &o))
		if (o.kind == OUT_SEND) {
			struct path path = turned(&o.path);
			int to = at(&o.path.remote);

			note_bytes(EXCHANGE, true, o.bytes);
			path.stream /= 2;
			post(EXCHANGE, to, &path, o.bytes);
		}
}

/* ---- what arrives ---- */

static void to_exchange(const struct flying *f)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	if (f->is_event) {
		exchange_stream(exchange, now_us, &f->path, f->ev);
	} else if (f->path.local.port == stun.port) {
		struct path back = turned(&f->path);

		assert_true(stun_serve(span_of(f->p, f->len), &f->path.remote, &w));
		post(EXCHANGE, f->from, &back, wr_done(&w));
	} else {
		exchange_input(exchange, now_us, &f->path, span_of(f->p, f->len));
	}
	drain_exchange();
}

static void esp_in(int k, const struct flying *f)
{
	struct esp_packet in = { .p = f->p, .len = f->len, .path = &f->path, .tos = f->path.tos }, out[ESP_BATCH];

	assert_int_equal(vpn_input_esp(sides[k].vpn, now_us, &in, 1, out), 1);
	assert_int_equal(out[0].p[6], 58);
}

static void to_side(int k, const struct flying *f)
{
	struct vpn *v = sides[k].vpn;
	struct span d = span_of(f->p, f->len);

	if (f->is_event)
		vpn_input_stream(v, now_us, &f->path, f->ev);
	else if (f->path.transport != TRANSPORT_UDP)
		vpn_input_sip(v, now_us, &f->path, d);
	else if (demux_classify(d) == DEMUX_STUN)
		vpn_input_stun(v, now_us, &f->path, d);
	else if (demux_classify(d) == DEMUX_IKE)
		vpn_input_ike(v, now_us, &f->path, span_from(d, 4));
	else
		esp_in(k, f);
	drain(k);
}

static void run(uint64_t for_us)
{
	uint64_t until_us = now_us + for_us;

	for (;;) {
		uint64_t due = exchange_deadline_us(exchange);
		unsigned first = FLYING_MAX;

		for (int k = 0; k < 2; k++)
			due = vpn_deadline_us(sides[k].vpn) < due ? vpn_deadline_us(sides[k].vpn) : due;
		for (unsigned i = 0; i < n_air; i++)
			if (air[i].due_us < due || (air[i].due_us == due && first == FLYING_MAX)) {
				due = air[i].due_us;
				first = i;
			}
		if (due > until_us)
			break;
		now_us = due > now_us ? due : now_us;
		if (first < FLYING_MAX) {
			struct flying f = air[first];

			memmove(air + first, air + first + 1, (--n_air - first) * sizeof(air[0]));
			if (f.to == EXCHANGE)
				to_exchange(&f);
			else
				to_side(f.to, &f);
			free(f.p);
			continue;
		}
		exchange_tick(exchange, now_us);
		drain_exchange();
		for (int k = 0; k < 2; k++) {
			vpn_tick(sides[k].vpn, now_us);
			drain(k);
		}
	}
	now_us = until_us;
}

/* ---- life ---- */

static enum err make(int k, const char *text)
{
	struct vpn_env env = { .rng = &rng, .wall_s = wall_s };
	struct conf_error why = { .text = "" };
	struct config *cfg = NULL;
	struct trust *trust = NULL;
	enum err e = config_parse("tielined.conf", span_str(text), &cfg, &why);

	if (e == OK)
		e = trust_new(&trust);
	if (e == OK)
		e = trust_load(trust, "pins", SPAN_NONE, cfg, &why);
	if (e == OK)
		e = vpn_new(&env, cfg, trust, sides[k].identity, &sides[k].vpn);
	if (e == OK)
		return OK;
	config_free(cfg);
	trust_free(trust);
	return e;
}

static void config_text(int k, const char *allow, char *dst, size_t cap)
{
	uint8_t hash[SPKI_HASH];
	char key[KEY_TEXT];

	assert_int_equal(spki_hash(identity_spki(sides[!k].identity), hash), OK);
	(void)snprintf(dst, cap,
		       "[account]\naor = sip:%s@example.net\nserver = 198.51.100.1\npassword = "
		       "%s-secret-of-22-letters\ninsecure-digest = yes\n"
		       "[service desktop]\nlisten = tcp/5900\n[service files]\nlisten = tcp/445\n"
		       "[peer sip:%s@example.net]\nkey = %s\n%s",
		       names[k], names[k], names[!k], key_text(hash, key), allow);
}

static const char *alice_more = "";

static void begin(const char *bob_allows)
{
	struct exchange_env env = { .rng = &rng, .wall_s = wall_s };
	struct conf_error why = { .text = "" };
	char text[2048];

	n_air = n_flow = 0;
	now_us = SECONDS(1);
	rng = rng_seeded_init(&seed, 5);
	memset(sides, 0, sizeof(sides));
	server = addr_ip4(0xc6336401, 5060);
	stun = addr_ip4(0xc6336401, 3478);
	if (exchange_config_parse(
		    "exchange.conf",
		    SPAN_LIT("[exchange]\ndomain = example.net\nlisten = 198.51.100.1:5060\n[user alice]\npassword = "
			     "alice-secret-of-22-letters\n[user bob]\npassword = bob-secret-of-22-letters\n"),
		    &exchange_cfg, &why) != OK)
		fail_msg("%s", why.text);
	assert_int_equal(exchange_new(&env, exchange_cfg, &exchange), OK);
	for (int k = 0; k < 2; k++) {
		const char *mail = k ? "bob@example.net" : "alice@example.net";

		assert_int_equal(identity_generate(&mail, 1, START_S - 86400, &sides[k].identity), OK);
		sides[k].ip = addr_ip4(0xcb007101 + (uint32_t)k, 4500);
	}
	for (int k = 0; k < 2; k++) {
		config_text(k, k ? bob_allows : alice_more, text, sizeof(text));
		assert_int_equal(make(k, text), OK);
		vpn_set_locals(sides[k].vpn, now_us, &sides[k].ip, 1);
		vpn_set_server(sides[k].vpn, now_us, 0, &server, &stun, &sides[k].ip);
		drain(k);
	}
	run(SECONDS(2));
	assert_true(sides[ALICE].n[VPN_EV_REGISTERED] == 1 && sides[BOB].n[VPN_EV_REGISTERED] == 1);
	n_flow = 0;
}

static void end(void)
{
	for (int k = 0; k < 2; k++) {
		vpn_hangup_all(sides[k].vpn, now_us);
		drain(k);
	}
	run(SECONDS(10));
	for (int k = 0; k < 2; k++) {
		assert_true(vpn_idle(sides[k].vpn));
		vpn_free(sides[k].vpn);
		identity_free(sides[k].identity);
	}
	exchange_free(exchange);
	exchange_config_free(exchange_cfg);
	for (unsigned i = 0; i < n_air; i++)
		free(air[i].p);
}

static unsigned dial(const char *service)
{
	struct vpn_call_request r = { .to = "bob@example.net", .service = service };
	unsigned call = 0;

	assert_int_equal(vpn_call(sides[ALICE].vpn, now_us, &r, &call), OK);
	drain(ALICE);
	return call;
}

static void flow_is(const char *const *expected, size_t n)
{
	for (size_t i = 0; i < n || i < n_flow; i++)
		if (i >= n || i >= n_flow || strcmp(flow[i], expected[i]) != 0)
			fail_msg("message %zu is \"%s\", expected \"%s\"", i, i < n_flow ? flow[i] : "none",
				 i < n ? expected[i] : "none");
}
#define FLOW_IS(...)                                                                                                   \
	flow_is((const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

/* ---- cases ---- */

static void a_call(void **state)
{
	uint8_t echo[64] = { 0x60, 0, 0, 0, 0, 24, 58, 64 };
	struct esp_packet in = { .p = echo, .len = sizeof(echo) }, out[ESP_BATCH_OUT];
	struct vpn_call_status s;
	unsigned call, i = 0;
	uint64_t began;

	(void)state;
	begin("allow = desktop\n");
	began = now_us;
	call = dial("desktop");
	run(MS(400));
	/* Five round trips to the first packet: INVITE and answer; check; IKE_SA_INIT; IKE_AUTH; the packet. bob begins
	 * his checks with the answer; the first of his finds alice before she has it, and is answered when she has. */
	FLOW_IS("alice: INVITE", "exchange: 100", "exchange: INVITE", /* signed offer, by TCP */
		"bob: STUN request", "bob: 100", "bob: 200", "exchange: 200", /* the answer covers the offer */
		"alice: STUN answer", "alice: STUN request", "alice: ACK", /* triggered: one round trip less */
		"bob: STUN answer", "exchange: ACK", "alice: IKE_SA_INIT request",
		"alice: STUN request (nomination)", /* on the first valid pair; tag and bind hash */
		"bob: IKE_SA_INIT answer", "bob: STUN answer", "alice: IKE_AUTH request",
		"bob: IKE_AUTH answer"); /* REQUEST; GRANT and the first Child SA */
	assert_true(vpn_call_status(sides[ALICE].vpn, &i, &s) && s.id == call && !strcmp(s.state, "up") &&
		    s.n_services == 1);
	assert_true(sides[ALICE].last[VPN_EV_UP].t_ms <= 130 && now_us > began);
	assert_int_equal(sides[ALICE].last[VPN_EV_UP].level, LEVEL_PINNED);
	assert_string_equal(sides[ALICE].last[VPN_EV_GRANTED].name, "desktop");
	assert_true(sides[ALICE].n[VPN_EV_UP] == 1 && sides[BOB].n[VPN_EV_UP] == 1 &&
		    sides[BOB].n[VPN_EV_INCOMING] == 1);
	assert_true(sides[ALICE].n_up == 1 && sides[BOB].n_up == 1 && sides[ALICE].n_forwards == 1 &&
		    !sides[BOB].n_forwards);

	n_flow = 0;
	memcpy(echo + 8, sides[ALICE].vpn->self, 16);
	memcpy(echo + 24, sides[BOB].vpn->self, 16);
	echo[40] = 128;
	assert_int_equal(vpn_input_inner(sides[ALICE].vpn, now_us, &in, 1, out), 1);
	note_bytes(ALICE, false, span_of(out[0].p, out[0].len));
	{
		struct path seen = turned(out[0].path);

		post(ALICE, BOB, &seen, span_of(out[0].p, out[0].len));
	}
	run(MS(50));
	FLOW_IS("alice: esp");

	n_flow = 0;
	assert_int_equal(vpn_hangup(sides[ALICE].vpn, now_us, call), OK);
	drain(ALICE);
	run(MS(400));
	/* Local first, then the path, then signalling (6.6). bob hears the Delete before the BYE and says BYE himself: each is told by
	 * the other that there is no such call any more. */
	FLOW_IS("alice: INFORMATIONAL request", "alice: BYE", "bob: INFORMATIONAL answer", "bob: BYE", "exchange: BYE",
		"exchange: BYE", "bob: 481", "alice: 481", "exchange: 481", "exchange: 481");
	assert_true(sides[ALICE].n[VPN_EV_ENDED] == 1 && sides[BOB].n[VPN_EV_ENDED] == 1);
	assert_true(!sides[ALICE].last[VPN_EV_ENDED].code && !sides[BOB].last[VPN_EV_ENDED].code);
	assert_true(sides[ALICE].n_down == 1 && sides[BOB].n_down == 1);
	i = 0;
	assert_false(vpn_call_status(sides[ALICE].vpn, &i, &s) || vpn_call_status(sides[BOB].vpn, &i, &s));
	end();
}

/* The owner changes what his [peer] section says. */
static void reload(int k, const char *lines)
{
	struct config *cfg = NULL;
	struct trust *trust = NULL;
	struct conf_error why = { .text = "" };
	char text[2048];

	config_text(k, lines, text, sizeof(text));
	assert_int_equal(config_parse("tielined.conf", span_str(text), &cfg, &why), OK);
	assert_int_equal(trust_new(&trust), OK);
	assert_int_equal(trust_load(trust, "pins", SPAN_NONE, cfg, &why), OK);
	assert_int_equal(vpn_reload(sides[k].vpn, now_us, cfg, trust), OK);
	drain(k);
}

/* The second service has a Child SA of its own. */
static void two_services(void **state)
{
	(void)state;
	begin("allow = desktop, files\n");
	(void)dial(NULL);
	run(MS(400));
	assert_true(n_flow == 20);
	assert_string_equal(flow[18], "alice: CREATE_CHILD_SA request");
	assert_string_equal(flow[19], "bob: CREATE_CHILD_SA answer");
	assert_true(sides[ALICE].n[VPN_EV_GRANTED] == 2 && sides[ALICE].n[VPN_EV_UP] == 1 &&
		    sides[ALICE].n_forwards == 2);
	/* the owner takes one of them away: its Child SA goes, the call stays */
	n_flow = 0;
	reload(BOB, "allow = files\n");
	run(MS(200));
	FLOW_IS("bob: INFORMATIONAL request", "alice: INFORMATIONAL answer");
	assert_true(sides[ALICE].n_closed == 1 && !sides[ALICE].n[VPN_EV_ENDED] && !sides[BOB].n[VPN_EV_ENDED]);
	/* both go at once: each hears of one end, with code 0 */
	for (int k = 0; k < 2; k++)
		vpn_hangup_all(sides[k].vpn, now_us);
	drain(ALICE);
	drain(BOB);
	run(SECONDS(6));
	assert_true(sides[ALICE].n[VPN_EV_ENDED] == 1 && sides[BOB].n[VPN_EV_ENDED] == 1 && vpn_idle(sides[ALICE].vpn));
	end();
}

static void serve(int k, const char *allow)
{
	char text[2048];

	config_text(k, allow, text, sizeof(text));
	assert_int_equal(make(k, text), OK);
	vpn_set_locals(sides[k].vpn, now_us, &sides[k].ip, 1);
	vpn_set_server(sides[k].vpn, now_us, 0, &server, &stun, &sides[k].ip);
	drain(k);
}

/* A PPK is mandatory: one side alone, or another one, is no call; the names that the owners gave it do not matter. */
static void ppk(void **state)
{
#define KEY_16 "c7a1355b9d20e4f86613b08a7fd9124e"
	static const char *const alice[] = { "", "ppk = x 0x" KEY_16 "24d8f0b1937ace566e08c1a2d47b93fe\n",
					     "ppk = y 0x24d8f0b1937ace566e08c1a2d47b93fe" KEY_16 "\n" };

	(void)state;
	begin("allow = desktop\nppk = z 0x" KEY_16 "24d8f0b1937ace566e08c1a2d47b93fe\n");
	for (unsigned i = 0; i < 3; i++) {
		reload(ALICE, alice[i]);
		sides[ALICE].n[VPN_EV_UP] = sides[ALICE].n[VPN_EV_ENDED] = 0;
		(void)dial(NULL);
		run(SECONDS(1));
		assert_int_equal(sides[ALICE].n[VPN_EV_UP], i == 1);
		assert_int_equal(sides[ALICE].n[VPN_EV_ENDED], i != 1);
		if (i == 1)
			continue;
		assert_int_equal(sides[ALICE].last[VPN_EV_ENDED].code, REASON_IKE);
		assert_non_null(strstr(sides[ALICE].last[VPN_EV_ENDED].reason, "does not accept our proof"));
	}
	end();
}

/* INITIAL_CONTACT (RFC 7296, 2.4): a call from bob leaves alice's to bob alone, until alice was started again and knows nothing
 * of it any more. */
static void restarted(void **state)
{
	struct vpn_call_request r = { .to = "alice@example.net" };
	unsigned call = 0;

	(void)state;
	begin("allow = desktop\n");
	(void)dial(NULL);
	run(MS(400));
	assert_int_equal(vpn_call(sides[BOB].vpn, now_us, &r, &call), OK);
	drain(BOB);
	run(MS(400));
	/* alice grants nothing, so that call ends by itself; the other one goes on */
	assert_int_equal(sides[BOB].n[VPN_EV_ENDED], 1);
	assert_int_equal(sides[BOB].last[VPN_EV_ENDED].call, call);
	assert_int_equal(sides[BOB].last[VPN_EV_ENDED].code, REASON_NOT_ALLOWED);
	assert_int_equal(sides[ALICE].n[VPN_EV_ENDED], 1);
	/* killed: no word to anybody */
	vpn_free(sides[ALICE].vpn);
	for (unsigned i = 0; i < n_air; i++)
		free(air[i].p);
	n_air = 0;
	serve(ALICE, "allow = desktop\n");
	run(SECONDS(3));
	sides[BOB].n[VPN_EV_ENDED] = sides[BOB].n[VPN_EV_UP] = 0;
	assert_int_equal(vpn_call(sides[BOB].vpn, now_us, &r, &call), OK);
	drain(BOB);
	run(MS(400));
	assert_int_equal(sides[BOB].n[VPN_EV_UP], 1);
	assert_int_equal(sides[BOB].n[VPN_EV_ENDED], 1);
	assert_int_not_equal(sides[BOB].last[VPN_EV_ENDED].call, call);
	assert_int_equal(sides[BOB].last[VPN_EV_ENDED].code, REASON_VANISHED);
	assert_non_null(strstr(sides[BOB].last[VPN_EV_ENDED].reason, "started again"));
	end();
}

/* Authenticated, but nothing is granted: the caller is told so, and hangs up. */
static void no_grant(void **state)
{
	(void)state;
	begin("allow = files\n");
	(void)dial("desktop");
	run(SECONDS(2));
	assert_int_equal(sides[ALICE].last[VPN_EV_ENDED].code, REASON_NOT_ALLOWED);
	assert_true(sides[BOB].n[VPN_EV_ENDED] == 1 && !sides[ALICE].n_forwards &&
		    sides[ALICE].n_up == sides[ALICE].n_down);
	end();
}

/* A path, but no keys: neither end calls that a missing path. */
static void no_keys(void **state)
{
	(void)state;
	begin("allow = desktop\n");
	(void)dial("desktop");
	swallow = true;
	for (int i = 0; i < 120; i++) { /* the BYE that is lost is given up after 32 s */
		n_flow = 0;
		run(SECONDS(1));
	}
	swallow = false;
	assert_true(sides[ALICE].n[VPN_EV_PATH] == 1 && sides[BOB].n[VPN_EV_PATH] == 1);
	assert_int_equal(sides[ALICE].last[VPN_EV_ENDED].code, REASON_IKE);
	assert_int_equal(sides[BOB].last[VPN_EV_ENDED].code, REASON_IKE);
	assert_true(sides[BOB].last[VPN_EV_ENDED].t_ms >= 75000 && sides[BOB].last[VPN_EV_ENDED].t_ms <= 75500);
	end();
}

/* Bob's configuration names somebody else's key: alice is a stranger, and all that she gets is one 480 after a second. */
static void a_stranger(void **state)
{
	struct vpn_call_request r = { .to = "bob@example.net" };
	uint64_t began;
	unsigned call;

	(void)state;
	begin("");
	assert_int_equal(trust_remove(vpn_trust(sides[BOB].vpn), "sip:alice@example.net", NULL), ERR_DENIED);
	((struct config *)(uintptr_t)vpn_config(sides[BOB].vpn))->n_peers = 0;
	trust_free(sides[BOB].vpn->trust);
	assert_int_equal(trust_new(&sides[BOB].vpn->trust), OK);
	began = now_us;
	assert_int_equal(vpn_call(sides[ALICE].vpn, now_us, &r, &call), OK);
	drain(ALICE);
	run(SECONDS(3));
	FLOW_IS("alice: INVITE", "exchange: 100", "exchange: INVITE", "bob: 100", "bob: 480", "exchange: ACK",
		"exchange: 480", "alice: ACK");
	assert_int_equal(sides[ALICE].last[VPN_EV_ENDED].code, REASON_NOT_AVAILABLE);
	assert_true(sides[ALICE].last[VPN_EV_ENDED].t_ms >= 1000 && sides[ALICE].last[VPN_EV_ENDED].t_ms <= 1100 &&
		    now_us > began);
	assert_true(!sides[BOB].n[VPN_EV_INCOMING] && !sides[BOB].n[VPN_EV_ENDED]);
	end();
}

static bool make_once(void *arg)
{
	char *text = arg;
	bool whole = make(ALICE, text) == OK;

	if (whole)
		vpn_free(sides[ALICE].vpn);
	return whole;
}

static void allocation_failures(void **state)
{
	char text[2048];

	(void)state;
	rng = rng_seeded_init(&seed, 5);
	for (int k = 0; k < 2; k++) {
		const char *mail = k ? "bob@example.net" : "alice@example.net";

		assert_int_equal(identity_generate(&mail, 1, START_S - 86400, &sides[k].identity), OK);
	}
	config_text(ALICE, "", text, sizeof(text));
	harness_alloc_ladder(make_once, text);
	for (int k = 0; k < 2; k++)
		identity_free(sides[k].identity);
}

/* Only who made the call, only when he asked for it, only where the configuration says so. */
static void keys_for_who_called(void **state)
{
	struct vpn_call_request r = { .to = "bob@example.net", .service = "desktop", .export_keys = true, .owner = 9 };
	unsigned call;

	(void)state;
	begin("allow = desktop\n");
	assert_int_equal(vpn_call(sides[ALICE].vpn, now_us, &r, &call), ERR_DENIED);
	end();
	alice_more = "[daemon]\nexport-keys = yes\n";
	begin("allow = desktop\n[daemon]\nexport-keys = yes\n");
	alice_more = "";
	(void)dial("desktop");
	run(SECONDS(5));
	assert_true(sides[ALICE].n[VPN_EV_UP] == 1 && !sides[ALICE].n[VPN_EV_KEYS] && !sides[BOB].n[VPN_EV_KEYS]);
	assert_int_equal(vpn_call(sides[ALICE].vpn, now_us, &r, &call), OK);
	drain(ALICE);
	run(SECONDS(5));
	assert_int_equal(sides[ALICE].n[VPN_EV_UP], 2);
	assert_int_equal(sides[ALICE].n[VPN_EV_KEYS], 3); /* IKE SA, and the Child SA in both directions */
	assert_int_equal(sides[BOB].n[VPN_EV_KEYS], 0);
	assert_int_equal(sides[ALICE].last[VPN_EV_KEYS].owner, 9);
	assert_string_equal(sides[ALICE].last[VPN_EV_KEYS].keys_table, "esp_sa");
	assert_memory_equal(sides[ALICE].last[VPN_EV_KEYS].keys_line, "\"IPv4\",\"*\",\"*\",\"0x", 18);
	end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_for_who_called),
		cmocka_unit_test(a_call),
		cmocka_unit_test(two_services),
		cmocka_unit_test(no_grant),
		cmocka_unit_test(restarted),
		cmocka_unit_test(ppk),
		cmocka_unit_test(no_keys),
		cmocka_unit_test(a_stranger),
		cmocka_unit_test(allocation_failures),
	};

	return HARNESS_RUN(tests);
}
