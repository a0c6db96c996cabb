/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What a stock peer that was let in can do with its Child SAs: a real SA at its side, a call of vpn at ours. */
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

static struct vpn *v;
static struct call *c;
static struct ike_sa *box;
static struct ike_config box_cfg;
static struct ike_child children[8];
static unsigned n_children, n_refused;
static struct rng_seeded seed;
static struct rng rng;
static uint64_t now_us;
static int64_t wall_s;
static struct path path; /* as the box sees it */
static const struct ike_decision *on_asked, *on_child; /* the box's owner's */

static int64_t wall(void *arg)
{
	(void)arg;
	return wall_s;
}

static void config_text(char text[1024], const char *rest)
{
	uint8_t hash[32];
	char key[KEY_TEXT];

	assert_int_equal(hash_of(HASH_SHA256, identity_cert(pair_ids[ALICE]), hash), OK);
	(void)snprintf(text, 1024,
		       "[account]\naor = bob@example.com\nserver = 192.0.2.1;transport=udp\npassword = p\n"
		       "[service desktop]\nlisten = tcp/5900\n[service files]\nlisten = tcp/445\n"
		       "[peer alice@example.com]\nbare = yes\nice = no\ncert = %s\naddress = fd00::9\n%s",
		       key_text(hash, key), rest);
}

static void configure(const char *rest, struct config **cfg, struct trust **trust)
{
	char text[1024];
	struct conf_error e;

	config_text(text, rest);
	assert_int_equal(config_parse("f", span_str(text), cfg, &e), OK);
	assert_int_equal(trust_new(trust), OK);
	assert_int_equal(trust_load(*trust, "pins", SPAN_NONE, *cfg, &e), OK);
}

static struct ike_ts everything(const uint8_t ip[16])
{
	struct ike_ts t = { .family = ADDR_IP6, .port_hi = 65535 };

	memcpy(t.ip_lo, ip, 16);
	memcpy(t.ip_hi, ip, 16);
	return t;
}

static struct ike_config stock(const struct identity *own, const struct identity *other, bool initiator)
{
	struct ike_config k = {
		.rng = &rng, .initiator = initiator, .identity = own, .bare = true, .n_fingerprints = 1
	};

	k.fingerprints[0].hash = HASH_SHA256;
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(other), k.fingerprints[0].value), OK);
	(void)snprintf(k.local_aor, sizeof(k.local_aor), "%s@example.com", initiator ? "alice" : "bob");
	(void)snprintf(k.peer_aor, sizeof(k.peer_aor), "%s@example.com", initiator ? "bob" : "alice");
	return k;
}

/* All datagrams in both directions, and the box's events. */
static void exchange(void)
{
	bool more = true;

	while (more) {
		enum vpn_channel channel;
		struct ike_event e;
		struct out o;
		uint8_t msg[IKE_MSG_MAX];

		more = false;
		while (box && ike_sa_poll_output(box, &o)) {
			struct path at = { .local = path.remote, .remote = path.local };

			memcpy(msg, o.bytes.p, o.bytes.len);
			pair_stock(box, msg, o.bytes.len);
			vpn_input_ike(v, now_us, &at, span_of(msg, o.bytes.len));
			more = true;
		}
		while (vpn_poll_output(v, &channel, &o)) {
			if (channel != VPN_IKE || !box)
				continue;
			memcpy(msg, o.bytes.p, o.bytes.len);
			for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
				if (c->half_open[i] && ike_sa_spi_i(c->half_open[i]) == ike_sa_spi_i(box))
					pair_stock(c->half_open[i], msg, o.bytes.len);
			if (c->sa && c->ike_initiator)
				pair_stock(c->sa, msg, o.bytes.len);
			ike_sa_input(box, now_us, &path, span_of(msg, o.bytes.len));
			more = true;
		}
		while (box && ike_sa_poll_event(box, &e)) {
			if (e.kind == IKE_EV_CHILD_UP)
				children[n_children++ % 8] = e.child;
			n_refused += e.kind == IKE_EV_REFUSED;
			if (e.kind == IKE_EV_ASKED && on_asked)
				ike_sa_decide(box, now_us, on_asked);
			if (e.kind == IKE_EV_CHILD_ASKED && on_child)
				ike_sa_decide(box, now_us, on_child);
			ike_event_done(&e);
		}
	}
}

/* A call of the box's, that waits for its IKE. */
static void ring(void)
{
	c = vpn_call_new(v, now_us, 0, false);
	c->bare = c->no_ice = true;
	(void)snprintf(c->peer, sizeof(c->peer), "sip:alice@example.com");
	c->peer_address[0] = 0xfd;
	c->peer_address[15] = 9;
	c->fixed = c->path = (struct path){ .local = path.remote, .remote = path.local };
	c->state = CALL_CONNECTING;
	c->ike_cfg = malloc(sizeof(*c->ike_cfg));
	*c->ike_cfg = stock(pair_ids[BOB], pair_ids[ALICE], false);
}

static void begin(const char *rest)
{
	struct vpn_env env = { .rng = &rng, .wall_s = wall };
	struct config *cfg;
	struct trust *trust;

	pair_identities();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1000);
	wall_s = 1800000000;
	n_children = n_refused = 0;
	configure(rest, &cfg, &trust);
	assert_int_equal(vpn_new(&env, cfg, trust, pair_ids[BOB], &v), OK);
	path = (struct path){ .local = addr_ip4(0xc0000201, 4500), .remote = addr_ip4(0xc0000202, 4500) };
	ring();
	box_cfg = stock(pair_ids[ALICE], pair_ids[BOB], true);
	box_cfg.tsi.n = box_cfg.tsr.n = 1;
	box_cfg.tsi.ts[0] = everything(c->peer_address);
	box_cfg.tsr.ts[0] = everything(v->self);
}

static void dial(void)
{
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_start(box, now_us, &path), OK);
	exchange();
	assert_int_equal(c->state, CALL_UP);
	assert_int_equal(n_children, 1);
}

static void end(void)
{
	ike_sa_free(box);
	box = NULL;
	vpn_free(v);
}

static void another_child(void)
{
	assert_int_equal(ike_sa_child_create(box, now_us, 0, 0, &box_cfg.tsi, &box_cfg.tsr), OK);
	exchange();
}

static bool installed(unsigned n)
{
	return esp_spi_taken(esp_set_plane(v->esp, 0), children[n].spi_out);
}

/* `for` is over for all that the peer made, however it came and went meanwhile. */
static void time_is_over(void **state)
{
	unsigned last;

	(void)state;
	begin("allow = desktop\nfor = 60s\n");
	dial();
	another_child();
	last = n_children - 1;
	assert_int_equal(ike_sa_child_delete(box, now_us, children[last].spi_in), OK);
	exchange();
	now_us += SECONDS(61);
	vpn_tick(v, now_us);
	for (unsigned i = 0; i < n_children; i++)
		assert_false(installed(i));
	end();
}

/* The peer is started again and calls, from the same address: its first message is for that call, not for the one that it has lost. */
static void peer_started_again(void **state)
{
	unsigned older;

	(void)state;
	begin("allow = desktop\n");
	dial();
	older = c->id;
	ike_sa_free(box);
	box = NULL;
	n_children = 0;
	now_us += SECONDS(1);
	ring();
	dial();
	assert_true(!vpn_call_find(v, older) || !call_live(vpn_call_find(v, older)));
	end();
}

/* One of two services is taken away: what carried it is gone, and the other one can be had again. */
static void one_of_two_is_revoked(void **state)
{
	struct config *cfg;
	struct trust *trust;
	unsigned before;

	(void)state;
	begin("allow = desktop, files\n");
	dial();
	another_child();
	configure("allow = desktop\n", &cfg, &trust);
	assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
	for (unsigned i = 0; i < n_children; i++)
		assert_false(installed(i));
	exchange();
	before = n_children;
	another_child();
	assert_int_equal(n_children, before + 1);
	assert_true(installed(before));
	assert_int_equal(children[before].ts_peer.ts[0].port_lo, 5900);
	for (unsigned i = 0; i < children[before].ts_peer.n; i++)
		assert_true(children[before].ts_peer.ts[i].protocol == 58 ||
			    children[before].ts_peer.ts[i].port_hi == 5900);
	end();
}

/* The owner replaces what the peer proves itself by, because somebody else has it now: a call that was proved by it ends, and one
 * that is about to be is not proved by it any more. */
static void proof_replaced(void **state)
{
	static const struct {
		const char *at, *now;
	} rows[] = {
		{ "cert = sha-256:", "key = sha-256:" },
		{ "cert = ", "ca = /etc/ca.pem\ncert = " },
		{ "address = fd00::9", "address = fd00::8" },
		{ "bare = yes",
		  "ppk = a 0x9c1e72d04ab85f36e1087d2bc4935af624d8f0b1937ace566e08c1a2d47b93fe\nbare = yes" },
	};

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024], changed[2048];
		struct trust *trust;
		struct config *cfg;
		struct conf_error e;
		const char *at;

		begin("allow = desktop\n");
		if (i % 2)
			dial();
		config_text(text, "allow = desktop\n");
		at = strstr(text, rows[i / 2].at);
		assert_non_null(at);
		(void)snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, rows[i / 2].now,
			       at + strlen(rows[i / 2].at));
		if (config_parse("f", span_str(changed), &cfg, &e) != OK)
			fail_msg("%s", e.text);
		assert_int_equal(trust_new(&trust), OK);
		assert_int_equal(trust_load(trust, "pins", SPAN_NONE, cfg, &e), OK);
		assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
		assert_true(!vpn_call_find(v, 1));
		assert_false(i % 2 && installed(0));
		end();
	}
}

/* First messages that come to nothing must not use up the half-open SAs of a call for good. */
static void first_messages_that_come_to_nothing(void **state)
{
	struct path at;

	(void)state;
	begin("allow = desktop\n");
	at = c->fixed;
	for (uint64_t i = 1; i <= 8; i++) {
		struct ike_header h = { .spi_i = i, .exchange = IKE_SA_INIT, .from_initiator = true };
		static const uint8_t nonce[32] = { 1 };
		uint8_t cookie[IKE_COOKIE_MAX];
		size_t cookie_len = 0;

		for (int with = 0; with < 2; with++) {
			enum vpn_channel channel;
			struct ike_build b;
			uint8_t mem[512];
			struct span msg;
			struct out o;

			ike_build_start(&b, mem, sizeof(mem), &h);
			if (with)
				ike_build_notify(&b, IKE_N_COOKIE, span_of(cookie, cookie_len));
			ike_build_bytes(&b, IKE_P_NONCE, SPAN_OF(nonce));
			assert_int_equal(ike_build_done(&b, &msg), OK);
			vpn_input_ike(v, now_us, &at, msg);
			while (vpn_poll_output(v, &channel, &o)) {
				struct ike_header rh;
				struct ike_chain chain;
				struct ike_notify n;

				assert_int_equal(ike_header_parse(o.bytes, &rh), OK);
				assert_int_equal(ike_chain_parse(span_from(o.bytes, IKE_HDR), rh.next, &chain), OK);
				if (!ike_notify_find(&chain, IKE_N_COOKIE, &n))
					continue;
				memcpy(cookie, n.data.p, n.data.len);
				cookie_len = n.data.len;
			}
		}
		assert_true(cookie_len);
	}
	dial();
	end();
}

/* Whoever writes a stock peer's name into a From gets an answer; he must not get all the places for calls. */
static void many_unfinished_calls(void **state)
{
	struct addr server = addr_ip4(0xc0000209, 5060), local = addr_ip4(0xc0000202, 5062);
	struct path at = { .local = local, .remote = server };
	char user[64] = "", text[2048], body[1024], print[100];
	enum vpn_channel channel;
	uint8_t hash[32];
	unsigned n_ok = 0;
	struct out o;

	(void)state;
	begin("allow = desktop\n");
	call_end(v, c, now_us, REASON_OK, NULL);
	vpn_tick(v, now_us);
	vpn_set_locals(v, now_us, &path.remote, 1);
	vpn_set_server(v, now_us, 0, &server, &server, &local);
	while (vpn_poll_output(v, &channel, &o))
		if (channel == VPN_SIP) {
			size_t at_user = span_find_span(o.bytes, SPAN_LIT("Contact: <sip:")) + 14;
			struct span rest, found = span_cut(span_from(o.bytes, at_user), '@', &rest);

			assert_int_equal(span_copy_str(found, user, sizeof(user)), OK);
		}
	assert_true(user[0]);
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(pair_ids[ALICE]), hash), OK);
	for (unsigned i = 0; i < 32; i++)
		(void)snprintf(print + 3 * i, 4, "%02X%s", hash[i], i < 31 ? ":" : "");
	for (unsigned i = 0; i < 40; i++) {
		int n_body = snprintf(
			body, sizeof(body),
			"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"
			"m=application 4500 udp ike-esp-udpencap\r\nc=IN IP4 192.0.2.1\r\na=ike-setup:active\r\n"
			"a=fingerprint:sha-256 %s\r\n",
			print);
		int n = snprintf(
			text, sizeof(text),
			"INVITE sip:%s@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;rport;branch=z9hG4bK%u\r\n"
			"From: <sip:alice@example.com>;tag=%u\r\nTo: <sip:bob@example.com>\r\nCall-ID: q%u\r\nCSeq: 1 "
			"INVITE\r\n"
			"Contact: <sip:x@192.0.2.9>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n"
			"Content-Length: %d\r\n\r\n%s",
			user, i, i, i, n_body, body);

		vpn_input_sip(v, now_us, &at, span_of(text, (size_t)n));
		while (vpn_poll_output(v, &channel, &o))
			n_ok += channel == VPN_SIP && span_starts(o.bytes, "SIP/2.0 200");
	}
	assert_true(n_ok > 0);
	assert_int_equal(vpn_calls_active(v), 1);
	end();
}

/* `ask = yes` of a stock peer: no Child SA in IKE_AUTH, none on its asking; after the yes we begin one. */
static void asked_for(const char *rest)
{
	begin(rest);
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_start(box, now_us, &path), OK);
	exchange();
	assert_int_equal(c->state, CALL_WAITING);
	assert_non_null(c->ask);
	assert_int_equal(n_children, 0);
	assert_int_equal(n_refused, 1); /* TS_UNACCEPTABLE */
	assert_true(ike_sa_up(box));
	another_child();
	assert_int_equal(n_children, 0);
	assert_int_equal(n_refused, 2);
}

static void stock_is_asked_about(void **state)
{
	static const struct ike_decision refuse = { .verdict = IKE_REFUSED };
	struct ike_decision d = { .verdict = IKE_GRANTED };
	struct vpn_answer yes = { .yes = true, .seconds = 60 }, no = { .yes = false };
	struct config *cfg;
	struct trust *trust;
	const char *why;

	(void)state;
	asked_for("allow = desktop, files\nask = yes\n");
	d.ts_local.n = d.ts_peer.n = 1;
	d.ts_local.ts[0] = everything(c->peer_address);
	d.ts_peer.ts[0] = everything(v->self);
	on_child = &d;
	yes.call = c->id;
	assert_int_equal(vpn_answer(v, now_us, &yes, &why), OK);
	exchange();
	assert_int_equal(n_children, 1);
	assert_true(installed(0));
	assert_int_equal(c->state, CALL_UP);
	assert_true(c->told_up && c->grants[0].spi_in && c->grants[1].spi_in);
	for (unsigned k = 0; k < children[0].ts_local.n; k++)
		assert_true(children[0].ts_peer.ts[k].protocol == 58 || children[0].ts_peer.ts[k].port_lo == 5900 ||
			    children[0].ts_peer.ts[k].port_lo == 445);
	another_child(); /* one at a time */
	assert_int_equal(n_children, 1);
	now_us += SECONDS(61);
	vpn_tick(v, now_us);
	assert_false(installed(0));
	end();

	/* the peer does not take ours, and begins one itself */
	asked_for("allow = desktop\nask = yes\n");
	on_child = &refuse;
	yes.call = c->id;
	assert_int_equal(vpn_answer(v, now_us, &yes, &why), OK);
	exchange();
	assert_int_equal(n_children, 0);
	assert_int_equal(vpn_calls_active(v), 1);
	another_child();
	assert_int_equal(n_children, 1);
	assert_true(installed(0));
	end();

	asked_for("allow = desktop\nask = yes\n");
	no.call = c->id;
	assert_int_equal(vpn_answer(v, now_us, &no, &why), OK);
	exchange();
	assert_int_equal(vpn_calls_active(v), 0);
	end();

	asked_for("allow = desktop\nask = yes\nask-within = 10s\n");
	now_us += SECONDS(10);
	vpn_tick(v, now_us);
	exchange();
	assert_int_equal(vpn_calls_active(v), 0);
	end();

	asked_for("allow = desktop\nask = yes\n");
	on_child = &d;
	configure("allow = desktop\n", &cfg, &trust);
	assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
	exchange();
	assert_int_equal(n_children, 1);
	on_child = NULL;
	end();
}

/* A stock peer whose description is passive has us begin the key exchange: then it is asked for what it is granted, and it
 * gets no more, whatever it answers. */
static void we_begin(void **state)
{
	static const char *const allows[] = { "allow = desktop\n", "allow = desktop, files\nping = no\n", "ping = no\n",
					      "allow = desktop\nask = yes\n" };
	static const unsigned n_services[] = { 1, 2, 0, 0 };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct ike_decision d = { .verdict = IKE_GRANTED };

		begin(allows[i]);
		c->ike_initiator = true;
		*c->ike_cfg = stock(pair_ids[BOB], pair_ids[ALICE], false);
		c->ike_cfg->initiator = true;
		assert_int_equal(grant_propose(v, c, &c->ike_cfg->tsi, &c->ike_cfg->tsr), n_services[i] != 0);
		if (!n_services[i]) {
			end();
			continue;
		}
		box_cfg.initiator = false;
		assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
		d.ts_local.n = d.ts_peer.n = 1;
		d.ts_local.ts[0] = everything(c->peer_address);
		d.ts_peer.ts[0] = everything(v->self);
		on_asked = &d;
		tunnel_begin(v, c, now_us);
		exchange();
		on_asked = NULL;
		assert_int_equal(c->state, CALL_UP);
		assert_int_equal(n_children, 1);
		assert_true(installed(0));
		assert_int_equal(c->n_grants, n_services[i]);
		for (unsigned k = 0; k < children[0].ts_peer.n; k++) {
			const struct ike_ts *t = &children[0].ts_peer.ts[k];

			assert_true((t->protocol == 58 && i == 0) ||
				    (t->protocol == 6 && t->port_lo == t->port_hi &&
				     (t->port_lo == 5900 || (t->port_lo == 445 && i == 1))));
		}
		/* and revoking finds it */
		{
			struct config *cfg;
			struct trust *trust;

			configure("", &cfg, &trust);
			assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
			assert_false(installed(0));
		}
		end();
	}
}

/* --trust-first is for the first answer: who takes the pin back later ends the call. */
static void first_key_taken_back(void **state)
{
	(void)state;
	begin("allow = desktop\n");
	c->bare = c->no_ice = false;
	c->outgoing = c->trust_first = c->authenticated = c->has_key = true;
	c->key[0] = 1;
	c->state = CALL_UP;
	(void)snprintf(c->peer, sizeof(c->peer), "sip:carol@example.com");
	assert_int_equal(trust_add(v->trust, c->peer, c->key, LEVEL_TOFU, 1, false), OK);
	assert_int_equal(vpn_trust_changed(v, now_us), OK);
	assert_int_equal(vpn_calls_active(v), 1);
	assert_int_equal(trust_remove(v->trust, c->peer, NULL), OK);
	assert_int_equal(vpn_trust_changed(v, now_us), OK);
	assert_int_equal(vpn_calls_active(v), 0);
	end();
}

/* A pinned peer that calls without end takes only its own share of what is remembered of calls. */
static void one_peer_calls_without_end(void **state)
{
	uint8_t bind[16] = { 0 }, key[SPKI_HASH] = { 1 }, other[SPKI_HASH] = { 2 };
	enum err e = OK;
	struct replay *r;

	(void)state;
	rng = rng_seeded_init(&seed, 2);
	assert_int_equal(replay_new(&rng, &r), OK);
	for (uint32_t i = 0; i < 10000; i++) {
		put_be32(bind, i);
		e = replay_add(r, bind, key, 1000);
	}
	assert_int_equal(e, ERR_LIMIT);
	bind[15] = 1;
	assert_int_equal(replay_add(r, bind, other, 1000), OK);
	assert_true(replay_seen(r, bind));
	bind[15] = 2;
	assert_int_equal(replay_add(r, bind, key, 1000 + REPLAY_KEEP_S + 1), OK);
	replay_free(r);
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_is_over),
		cmocka_unit_test(peer_started_again),
		cmocka_unit_test(one_of_two_is_revoked),
		cmocka_unit_test(proof_replaced),
		cmocka_unit_test(first_messages_that_come_to_nothing),
		cmocka_unit_test(many_unfinished_calls),
		cmocka_unit_test(stock_is_asked_about),
		cmocka_unit_test(we_begin),
		cmocka_unit_test(first_key_taken_back),
		cmocka_unit_test(one_peer_calls_without_end),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
