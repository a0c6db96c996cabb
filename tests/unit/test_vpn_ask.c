/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* `ask = yes`: a real SA of the caller's, a call of vpn at the callee's, and an owner who answers, or does not, or too late,
 * while pins and configuration change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "ike_pair.h"
#include "vpn/impl.h"

#define ASKS "allow = desktop, files\nask = yes\n"
#define REQUEST 77

static struct vpn *v;
static struct call *c;
static struct ike_sa *box; /* the caller's */
static struct ike_config box_cfg;
static struct rng_seeded seed;
static struct rng rng;
static uint64_t now_us;
static struct path path; /* as the caller sees it */
static unsigned n_events[IKE_EV_FAILED + 1], n_told[VPN_EV_ENDED + 1];
static struct ike_event last[IKE_EV_FAILED + 1];
static struct ike_grant grants[IKE_GRANTS_MAX];
static unsigned n_grants;
static struct vpn_event told[VPN_EV_ENDED + 1];
static const char *why;

static int64_t wall(void *arg)
{
	(void)arg;
	return 1800000000 + (int64_t)(now_us / 1000000);
}

static void configure(const char *rest, struct config **cfg, struct trust **trust)
{
	char text[1024], key[KEY_TEXT];
	uint8_t hash[SPKI_HASH];
	struct conf_error e;

	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), hash), OK);
	(void)snprintf(text, sizeof(text),
		       "[account]\naor = bob@example.com\nserver = 192.0.2.1;transport=udp\npassword = p\n"
		       "[service desktop]\nlisten = tcp/5900\n[service files]\nlisten = tcp/445\n"
		       "[service admin]\nlisten = tcp/22\n[peer alice@example.com]\nkey = %s\n%s",
		       key_text(hash, key), rest);
	if (config_parse("f", span_str(text), cfg, &e) != OK)
		fail_msg("%s", e.text);
	assert_int_equal(trust_new(trust), OK);
	assert_int_equal(trust_load(*trust, "pins", SPAN_NONE, *cfg, &e), OK);
}

static void reload(const char *rest)
{
	struct config *cfg;
	struct trust *trust;

	configure(rest, &cfg, &trust);
	assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
}

static void drain(void)
{
	struct vpn_event e;
	struct vpn_want w;

	while (vpn_poll_want(v, &w))
		;
	while (vpn_poll_event(v, &e)) {
		n_told[e.kind]++;
		told[e.kind] = e;
	}
}

/* All datagrams in both directions, and both sides' events. */
static void exchange(void)
{
	bool more = true;

	while (more) {
		enum vpn_channel channel;
		uint8_t msg[IKE_MSG_MAX];
		struct ike_event e;
		struct out o;

		more = false;
		while (box && ike_sa_poll_output(box, &o)) {
			struct path at = { .local = path.remote, .remote = path.local };

			memcpy(msg, o.bytes.p, o.bytes.len);
			vpn_input_ike(v, now_us, &at, span_of(msg, o.bytes.len));
			more = true;
		}
		while (vpn_poll_output(v, &channel, &o)) {
			if (channel != VPN_IKE || !box)
				continue;
			memcpy(msg, o.bytes.p, o.bytes.len);
			ike_sa_input(box, now_us, &path, span_of(msg, o.bytes.len));
			more = true;
		}
		while (box && ike_sa_poll_event(box, &e)) {
			n_events[e.kind]++;
			last[e.kind] = e;
			if (e.kind == IKE_EV_GRANT)
				grants[n_grants++ % IKE_GRANTS_MAX] = e.grant;
			ike_event_done(&e);
		}
		drain();
	}
}

static void later(unsigned s)
{
	for (unsigned i = 0; i < s; i++) {
		now_us += SECONDS(1);
		vpn_tick(v, now_us);
		if (box)
			ike_sa_tick(box, now_us);
		exchange();
	}
}

static struct ike_config side(int i)
{
	struct ike_config k = {
		.rng = &rng, .initiator = i == ALICE, .identity = pair_ids[i], .has_binding = true, .request = REQUEST
	};

	pair_expect(&k, pair_ids[!i]);
	(void)snprintf(k.local_aor, sizeof(k.local_aor), "%s@example.com", i == ALICE ? "alice" : "bob");
	(void)snprintf(k.peer_aor, sizeof(k.peer_aor), "%s@example.com", i == ALICE ? "bob" : "alice");
	memset(k.tag, 0x11, sizeof(k.tag));
	memset(k.bind_hash, 0x22, sizeof(k.bind_hash));
	return k;
}

/* A call as it is when both descriptions were good. */
static struct call *call_of(const char *peer, uint8_t tag)
{
	struct call *n = vpn_call_new(v, now_us, 0, false);

	n->no_ice = true;
	(void)snprintf(n->peer, sizeof(n->peer), "%s", peer);
	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), n->key), OK);
	n->has_key = true;
	n->level = LEVEL_PINNED;
	assert_int_equal(spki_address(identity_spki(pair_ids[ALICE]), n->peer_address), OK);
	n->fixed = n->path = (struct path){ .local = path.remote, .remote = path.local };
	n->state = CALL_CONNECTING;
	n->ike_cfg = malloc(sizeof(*n->ike_cfg));
	*n->ike_cfg = side(BOB);
	memset(n->ike_cfg->tag, tag, sizeof(n->ike_cfg->tag));
	return n;
}

static void dial(uint8_t tag)
{
	c = call_of("sip:alice@example.com", tag);
	ike_sa_free(box);
	memset(box_cfg.tag, tag, sizeof(box_cfg.tag));
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_start(box, now_us, &path), OK);
	exchange();
}

static void begin(const char *rest, const char *name)
{
	struct vpn_env env = { .rng = &rng, .wall_s = wall };
	struct config *cfg;
	struct trust *trust;
	struct ike_ts all = { .family = ADDR_IP6, .port_hi = 65535 };

	pair_identities();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1000);
	memset(n_events, 0, sizeof(n_events));
	memset(n_told, 0, sizeof(n_told));
	n_grants = 0;
	configure(rest, &cfg, &trust);
	assert_int_equal(vpn_new(&env, cfg, trust, pair_ids[BOB], &v), OK);
	path = (struct path){ .local = addr_ip4(0xc0000201, 4500), .remote = addr_ip4(0xc0000202, 4500) };
	box_cfg = side(ALICE);
	if (name)
		(void)snprintf(box_cfg.names[box_cfg.n_names++], sizeof(box_cfg.names[0]), "%s", name);
	box_cfg.tsi.n = box_cfg.tsr.n = 1;
	box_cfg.tsi.ts[0] = box_cfg.tsr.ts[0] = all;
	memset(box_cfg.tsi.ts[0].ip_hi, 0xff, 16);
	memset(box_cfg.tsr.ts[0].ip_hi, 0xff, 16);
	dial(1);
}

static void end(void)
{
	ike_sa_free(box);
	box = NULL;
	vpn_free(v);
}

static enum err answer(unsigned call, bool yes, uint32_t seconds)
{
	struct vpn_answer a = { .call = call, .yes = yes, .seconds = seconds };
	enum err e = vpn_answer(v, now_us, &a, &why);

	exchange();
	return e;
}

static void expect_waiting(void)
{
	assert_non_null(c->ask);
	assert_int_equal(c->state, CALL_WAITING);
	assert_int_equal(n_told[VPN_EV_ASKED], 1);
	assert_int_equal(n_events[IKE_EV_WAIT], 1);
	assert_int_equal(n_events[IKE_EV_AUTHENTICATED], 1);
	assert_int_equal(n_events[IKE_EV_GRANT] + n_events[IKE_EV_CHILD_UP] + n_events[IKE_EV_REFUSED], 0);
}

static void expect_refused(uint8_t reason)
{
	assert_null(c->ask);
	assert_int_equal(n_events[IKE_EV_REFUSED], 1);
	assert_int_equal(last[IKE_EV_REFUSED].refuse_reason, reason);
	assert_int_equal(n_events[IKE_EV_GRANT] + n_events[IKE_EV_CHILD_UP], 0);
}

/* The caller asks for the Child SAs of its grants. */
static void take_all(void)
{
	for (unsigned i = 0; i < n_grants; i++)
		assert_int_equal(ike_sa_child_create(box, now_us, REQUEST, grants[i].id, &box_cfg.tsi, &box_cfg.tsr),
				 OK);
	exchange();
}

static void yes(void **state)
{
	struct vpn_ask_status s;
	uint8_t key[SPKI_HASH];

	(void)state;
	begin(ASKS "ask-within = 45s\n", NULL);
	expect_waiting();
	assert_int_equal(last[IKE_EV_WAIT].wait_s, 45);
	assert_true(told[VPN_EV_ASKED].request == REQUEST && told[VPN_EV_ASKED].seconds == 45);
	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), key), OK);
	assert_memory_equal(told[VPN_EV_ASKED].key, key, SPKI_HASH);
	assert_int_equal(told[VPN_EV_ASKED].level, LEVEL_PINNED);
	assert_true(n_told[VPN_EV_AUTHENTICATED] == 1); /* never before the key is proved */
	later(10);
	assert_true(vpn_ask_status(v, now_us, c->id, &s));
	assert_true(s.n == 2 && s.left_s == 35 && s.request == REQUEST);
	assert_string_equal(s.names[0], "desktop");
	assert_string_equal(s.names[1], "files");
	assert_int_equal(answer(c->id, true, 0), OK);
	assert_int_equal(n_grants, 2);
	assert_true(grants[0].request == REQUEST && grants[0].seconds == 0);
	assert_int_equal(n_told[VPN_EV_GRANTED], 2);
	assert_int_equal(n_told[VPN_EV_UP], 0);
	assert_false(vpn_ask_status(v, now_us, c->id, &s));
	take_all();
	assert_int_equal(n_events[IKE_EV_CHILD_UP], 2);
	assert_int_equal(n_told[VPN_EV_UP], 1);
	/* the question's time has no meaning any more */
	later(120);
	assert_int_equal(vpn_calls_active(v), 1);
	/* and who answers twice is told so */
	assert_int_equal(answer(c->id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "already"));
	assert_int_equal(answer(c->id, false, 0), ERR_NOTFOUND);
	assert_int_equal(n_grants, 2);
	end();
}

/* Nothing is opened before the answer, whatever the caller tries. */
static void impatient(void **state)
{
	(void)state;
	begin(ASKS, "desktop");
	expect_waiting();
	for (uint32_t id = 0; id < 3; id++) {
		assert_int_equal(
			ike_sa_child_create(box, now_us, REQUEST, c->next_grant + id, &box_cfg.tsi, &box_cfg.tsr), OK);
		exchange();
	}
	assert_int_equal(n_events[IKE_EV_CHILD_UP], 0);
	assert_non_null(c->ask);
	assert_int_equal(answer(c->id, true, 0), OK);
	take_all();
	assert_int_equal(n_events[IKE_EV_CHILD_UP], 1);
	assert_int_equal(last[IKE_EV_CHILD_UP].child.ts_peer.ts[0].port_lo, 5900);
	end();
}

/* What is not allowed is not asked about: the owner sees what his yes would open. */
static void forbidden_is_not_asked(void **state)
{
	(void)state;
	begin(ASKS, "admin");
	expect_refused(0);
	assert_int_equal(n_told[VPN_EV_ASKED], 0);
	end();
	begin(ASKS, "desktop");
	expect_waiting();
	assert_int_equal(c->ask->n, 1);
	end();
}

static void declined(void **state)
{
	(void)state;
	begin(ASKS, NULL);
	assert_int_equal(answer(c->id, false, 0), OK);
	expect_refused(1);
	assert_int_equal(told[VPN_EV_REFUSED].code, REASON_DECLINED);
	assert_int_equal(answer(c->id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "declined already"));
	/* a caller who does not hang up then is hung up */
	later(CALL_REFUSED_US / 1000000 + 1);
	assert_int_equal(vpn_calls_active(v), 0);
	assert_int_equal(told[VPN_EV_ENDED].code, REASON_DECLINED);
	end();
}

static void silence(void **state)
{
	(void)state;
	begin(ASKS, NULL);
	later(59);
	expect_waiting();
	later(1);
	expect_refused(2);
	assert_int_equal(told[VPN_EV_REFUSED].code, REASON_NOT_AVAILABLE);
	assert_int_equal(answer(c->id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "too late"));
	end();
	/* the answer comes in the very moment in which the time is over, before anything else has looked at it */
	begin(ASKS, NULL);
	now_us += SECONDS(60);
	assert_int_equal(answer(c->id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "too late"));
	expect_refused(2);
	end();
}

static void hung_up_meanwhile(void **state)
{
	unsigned id;

	(void)state;
	begin(ASKS, NULL);
	id = c->id;
	ike_sa_delete(box, now_us);
	exchange();
	later(1);
	assert_int_equal(vpn_calls_active(v), 0);
	assert_int_equal(answer(id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "hung up"));
	assert_int_equal(answer(id + 7, true, 0), ERR_NOTFOUND);
	assert_string_equal(why, "no such call");
	end();
}

/* An answer may name the request that it is for. */
static void other_request(void **state)
{
	struct vpn_answer a = { .yes = true, .has_request = true, .request = REQUEST + 1 };

	(void)state;
	begin(ASKS, NULL);
	a.call = c->id;
	assert_int_equal(vpn_answer(v, now_us, &a, &why), ERR_NOTFOUND);
	expect_waiting();
	a.request = REQUEST;
	assert_int_equal(vpn_answer(v, now_us, &a, &why), OK);
	end();
	begin("allow = desktop\n", NULL); /* nobody is asked */
	assert_int_equal(n_events[IKE_EV_CHILD_UP], 1);
	assert_int_equal(answer(c->id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "nobody is asked"));
	end();
}

/* `for` and the answer's own limit: the shorter one. */
static void limited(void **state)
{
	static const struct {
		const char *rest;
		uint32_t seconds, granted;
	} rows[] = { { ASKS, 0, 0 },
		     { ASKS, 90, 90 },
		     { ASKS "for = 60s\n", 0, 60 },
		     { ASKS "for = 60s\n", 90, 60 },
		     { ASKS "for = 60s\n", 20, 20 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin(rows[i].rest, "desktop");
		later(30);
		assert_int_equal(answer(c->id, true, rows[i].seconds), OK);
		assert_int_equal(grants[0].seconds, rows[i].granted);
		take_all();
		if (rows[i].granted) { /* from the answer on */
			later(rows[i].granted - 1);
			assert_int_equal(n_events[IKE_EV_CHILD_GONE], 0);
			later(2);
			assert_int_equal(n_events[IKE_EV_CHILD_GONE] + n_events[IKE_EV_CLOSED], 2);
		}
		end();
	}
}

static void pin_removed(void **state)
{
	struct config *cfg;
	struct trust *trust;

	(void)state;
	begin(ASKS, NULL);
	configure(ASKS, &cfg, &trust);
	cfg->peers[0].n_keys = 0; /* the section stays, its key is gone */
	trust_free(trust);
	assert_int_equal(trust_new(&trust), OK);
	assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
	exchange();
	expect_refused(0);
	assert_int_equal(answer(c->id, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "do not allow"));
	later(CALL_REFUSED_US / 1000000 + 1);
	assert_int_equal(vpn_calls_active(v), 0);
	end();
}

static void reloads(void **state)
{
	(void)state;
	/* it asks no more: what waits is granted */
	begin(ASKS, NULL);
	reload("allow = desktop, files\n");
	exchange();
	assert_int_equal(n_grants, 2);
	assert_null(c->ask);
	/* and begins to ask: what is granted stays so, and its Child SAs may still come */
	reload(ASKS);
	exchange();
	assert_int_equal(n_events[IKE_EV_CLOSED] + n_events[IKE_EV_REFUSED], 0);
	take_all();
	assert_int_equal(n_events[IKE_EV_CHILD_UP], 2);
	/* but what is forbidden goes */
	reload("allow = files\nask = yes\n");
	exchange();
	assert_int_equal(n_events[IKE_EV_CHILD_GONE], 1);
	end();

	/* a part is forbidden meanwhile: the owner is shown the rest */
	begin(ASKS, NULL);
	reload("allow = files\nask = yes\n");
	exchange();
	assert_int_equal(n_told[VPN_EV_ASKED], 2);
	assert_int_equal(c->ask->n, 1);
	assert_string_equal(c->ask->names[0], "files");
	assert_int_equal(answer(c->id, true, 0), OK);
	assert_int_equal(n_grants, 1);
	assert_string_equal(grants[0].name, "files");
	end();

	begin(ASKS, NULL);
	reload("allow = admin\nask = yes\n");
	exchange();
	expect_refused(0);
	end();
}

/* The level that the section requires stands before any question. */
static void level_first(void **state)
{
	(void)state;
	begin(ASKS, NULL);
	trust_free(v->trust);
	assert_int_equal(trust_new(&v->trust), OK);
	v->cfg->peers[0].n_keys = 0;
	assert_int_equal(trust_add(v->trust, "sip:alice@example.com", c->key, LEVEL_TOFU, 1, false), OK);
	assert_int_equal(vpn_trust_changed(v, now_us), OK);
	exchange();
	expect_refused(0);
	end();
}

/* The same key calls again: the older question is gone, the newer one is the only one. */
static void calls_again(void **state)
{
	struct call *first;

	(void)state;
	begin(ASKS, NULL);
	first = c;
	assert_int_equal(first->id, 1);
	dial(2);
	assert_int_equal(n_told[VPN_EV_ASKED], 2);
	assert_int_equal(vpn_calls_active(v), 1);
	assert_int_equal(answer(1, true, 0), ERR_NOTFOUND);
	assert_non_null(strstr(why, "hung up"));
	assert_int_equal(answer(2, true, 0), OK);
	assert_int_equal(n_grants, 2);
	end();
}

/* A known peer that calls without end gets five questions in ten minutes, unless they are answered with yes. */
static void flood(void **state)
{
	(void)state;
	begin(ASKS, NULL);
	for (uint8_t i = 2; i <= 5; i++)
		dial(i);
	assert_int_equal(n_told[VPN_EV_ASKED], ASK_UNANSWERED_MAX);
	dial(6);
	assert_int_equal(n_told[VPN_EV_ASKED], ASK_UNANSWERED_MAX);
	assert_int_equal(last[IKE_EV_REFUSED].refuse_reason, 2);
	assert_int_equal(n_events[IKE_EV_REFUSED], 1);
	now_us += ASK_REMEMBER_US + SECONDS(1);
	dial(7);
	assert_int_equal(n_told[VPN_EV_ASKED], ASK_UNANSWERED_MAX + 1);
	assert_int_equal(answer(c->id, true, 0), OK);
	for (uint8_t i = 8; i < 8 + 3 * ASK_UNANSWERED_MAX; i++) {
		dial(i);
		assert_int_equal(answer(c->id, true, 0), OK);
	}
	end();
}

/* Many peers at a time: no more questions than an owner can look at. */
static void many_peers(void **state)
{
	unsigned n = 0;

	(void)state;
	begin(ASKS, NULL);
	for (uint8_t i = 1; i < 20; i++) {
		struct call *o = call_of("sip:alice@example.com", (uint8_t)(100 + i));

		memset(o->key, i, SPKI_HASH);
		assert_true(ask_note(o, "desktop"));
		assert_true(ask_note(o, "desktop")); /* twice is once */
		assert_int_equal(o->ask->n, 1);
		n += ask_begin(v, o, now_us, 5);
	}
	assert_int_equal(n, ASK_OPEN_MAX - 1);
	/* one question of a key at a time, also where it calls another account of ours */
	ask_close(v, c, ASK_GRANTED);
	{
		struct call *o = call_of("sip:alice@example.com", 200);

		o->account = 1;
		memset(o->key, 1, SPKI_HASH);
		assert_true(ask_note(o, "desktop"));
		assert_false(ask_begin(v, o, now_us, 6));
		assert_null(o->ask);
		o->account = 0;
	}
	/* what is remembered of them is bounded, and places come back */
	for (unsigned round = 0; round < 3; round++) {
		unsigned k = 0;

		for (unsigned i = 0; i < 2 * ASK_PAST_MAX; i++) {
			memset(c->key, 0, SPKI_HASH);
			put_be32(c->key, 0x10000 + i);
			assert_true(ask_note(c, "desktop"));
			k += ask_begin(v, c, now_us, 5);
			c->id += 1000; /* every question has a number of its own */
		}
		assert_true(k <= ASK_PAST_MAX);
		now_us += ASK_REMEMBER_US;
	}
	end();
}

static bool once(void *arg)
{
	bool ok;

	(void)arg;
	ok = ask_note(c, "desktop") && ask_begin(v, c, now_us, 5);
	ask_close(v, c, ASK_GRANTED);
	return ok;
}

static void allocation_failures(void **state)
{
	(void)state;
	begin("allow = desktop\nask = no\n", "admin");
	harness_alloc_ladder(once, NULL);
	end();
}

static void last_one(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(yes),
		cmocka_unit_test(impatient),
		cmocka_unit_test(forbidden_is_not_asked),
		cmocka_unit_test(declined),
		cmocka_unit_test(silence),
		cmocka_unit_test(hung_up_meanwhile),
		cmocka_unit_test(other_request),
		cmocka_unit_test(limited),
		cmocka_unit_test(pin_removed),
		cmocka_unit_test(reloads),
		cmocka_unit_test(level_first),
		cmocka_unit_test(calls_again),
		cmocka_unit_test(flood),
		cmocka_unit_test(many_peers),
		cmocka_unit_test(allocation_failures),
		cmocka_unit_test(last_one),
	};

	return HARNESS_RUN(tests);
}
