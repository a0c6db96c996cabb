/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A call without ICE moves (RFC 4555; docs/protocol.md): a real SA of a stock peer at one side, a call of vpn at ours. */
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

#define OURS addr_ip4(0xc0000202, 4500)
#define OURS_NEW addr_ip4(0xc0000203, 4500)
#define BOX addr_ip4(0xc0000211, 4500)
#define BOX_NEW addr_ip4(0xc0000212, 4501)
#define NOBODY addr_ip4(0xc6336401, 4500)

static struct vpn *v;
static struct call *c;
static struct ike_sa *box;
static struct ike_config box_cfg;
static struct rng_seeded seed;
static struct rng rng;
static uint64_t now_us;
static struct addr rewrite; /* the source that the network writes into what the box sends; family NONE: its own */
static unsigned n_changed, n_lost, n_box_moved;
static struct vpn_event changed;
static struct ike_decision yes;

static int64_t wall(void *arg)
{
	(void)arg;
	return 1800000000;
}

static struct ike_config stock(int own, int other, bool initiator)
{
	struct ike_config k = {
		.rng = &rng, .initiator = initiator, .identity = pair_ids[own], .bare = true, .n_fingerprints = 1
	};

	k.fingerprints[0].hash = HASH_SHA256;
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(pair_ids[other]), k.fingerprints[0].value), OK);
	(void)snprintf(k.local_aor, sizeof(k.local_aor), "%s@example.com", own == ALICE ? "alice" : "bob");
	(void)snprintf(k.peer_aor, sizeof(k.peer_aor), "%s@example.com", own == ALICE ? "bob" : "alice");
	return k;
}

static struct ike_ts everything(const uint8_t ip[16])
{
	struct ike_ts t = { .family = ADDR_IP6, .port_hi = 65535 };

	memcpy(t.ip_lo, ip, 16);
	memcpy(t.ip_hi, ip, 16);
	return t;
}

static bool box_is_at(const struct addr *a)
{
	struct addr old = BOX, new = BOX_NEW;

	return addr_eq(a, &old) || addr_eq(a, &new);
}

static void box_events(void)
{
	struct ike_event e;

	while (ike_sa_poll_event(box, &e)) {
		if (e.kind == IKE_EV_ASKED)
			ike_sa_decide(box, now_us, &yes);
		n_box_moved += e.kind == IKE_EV_MOVED;
		ike_event_done(&e);
	}
}

static void our_events(void)
{
	struct vpn_event e;
	struct vpn_want w;

	while (vpn_poll_event(v, &e))
		if (e.kind == VPN_EV_PATH_CHANGED) {
			n_changed++;
			changed = e;
		}
	while (vpn_poll_want(v, &w))
		;
}

/* All datagrams in both directions, at once. */
static void exchange(void)
{
	bool more = true;

	while (more) {
		enum vpn_channel channel;
		struct out o;
		uint8_t msg[IKE_MSG_MAX];

		more = false;
		while (ike_sa_poll_output(box, &o)) {
			/* marked by the network, or by a sender who wants his key exchange to come first */
			struct path seen = { .local = o.path.remote, .remote = o.path.local, .tos = 0xc3 };

			if (rewrite.family != ADDR_NONE)
				seen.remote = rewrite;
			memcpy(msg, o.bytes.p, o.bytes.len);
			pair_stock(box, msg, o.bytes.len);
			vpn_input_ike(v, now_us, &seen, span_of(msg, o.bytes.len));
			more = true;
		}
		while (vpn_poll_output(v, &channel, &o)) {
			struct path seen = { .local = o.path.remote, .remote = o.path.local };

			assert_int_equal(o.path.tos, 0);
			if (channel != VPN_IKE)
				continue;
			memcpy(msg, o.bytes.p, o.bytes.len);
			for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
				if (c->half_open[i] && ike_sa_spi_i(c->half_open[i]) == ike_sa_spi_i(box))
					pair_stock(c->half_open[i], msg, o.bytes.len);
			if (c->sa && c->ike_initiator)
				pair_stock(c->sa, msg, o.bytes.len);
			if (box_is_at(&o.path.remote))
				ike_sa_input(box, now_us, &seen, span_of(msg, o.bytes.len));
			else
				n_lost++;
			more = true;
		}
		box_events();
		our_events();
	}
}

static void pass(uint64_t us)
{
	uint64_t end = now_us + us;

	exchange();
	while (now_us < end) {
		now_us += MS(100);
		vpn_tick(v, now_us);
		ike_sa_tick(box, now_us);
		exchange();
	}
}

/* we_begin: the key exchange */
static void begin(bool we_begin)
{
	struct vpn_env env = { .rng = &rng, .wall_s = wall };
	struct addr locals[] = { OURS };
	struct config *cfg;
	struct trust *trust;
	struct conf_error e;
	char text[1024], key[KEY_TEXT];
	uint8_t hash[32];

	pair_identities();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1000);
	n_changed = n_lost = n_box_moved = 0;
	rewrite.family = ADDR_NONE;
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(pair_ids[ALICE]), hash), OK);
	(void)snprintf(
		text, sizeof(text),
		"[account]\naor = bob@example.com\nserver = 192.0.2.1;transport=udp\npassword = p\n"
		"[service desktop]\nlisten = tcp/5900\n"
		"[peer alice@example.com]\nbare = yes\nice = no\ncert = %s\naddress = fd00::9\nallow = desktop\n",
		key_text(hash, key));
	assert_int_equal(config_parse("f", span_str(text), &cfg, &e), OK);
	assert_int_equal(trust_new(&trust), OK);
	assert_int_equal(trust_load(trust, "pins", SPAN_NONE, cfg, &e), OK);
	assert_int_equal(vpn_new(&env, cfg, trust, pair_ids[BOB], &v), OK);
	vpn_set_locals(v, now_us, locals, 1);
	c = vpn_call_new(v, now_us, 0, we_begin);
	c->bare = c->no_ice = true;
	c->ike_initiator = we_begin;
	(void)snprintf(c->peer, sizeof(c->peer), "sip:alice@example.com");
	c->peer_address[0] = 0xfd;
	c->peer_address[15] = 9;
	c->fixed = (struct path){ .transport = TRANSPORT_UDP, .local = OURS, .remote = BOX };
	c->ike_cfg = malloc(sizeof(*c->ike_cfg));
	*c->ike_cfg = stock(BOB, ALICE, we_begin);
	c->ike_cfg->place = move_place;
	c->ike_cfg->place_arg = c;
	box_cfg = stock(ALICE, BOB, !we_begin);
	if (we_begin) {
		c->ike_cfg->tsi.n = c->ike_cfg->tsr.n = 1;
		c->ike_cfg->tsi.ts[0] = everything(v->self);
		c->ike_cfg->tsr.ts[0] = everything(c->peer_address);
	} else {
		box_cfg.tsi.n = box_cfg.tsr.n = 1;
		box_cfg.tsi.ts[0] = everything(c->peer_address);
		box_cfg.tsr.ts[0] = everything(v->self);
	}
	yes = (struct ike_decision){ .verdict = IKE_GRANTED, .ts_local.n = 1, .ts_peer.n = 1 };
	yes.ts_local.ts[0] = everything(c->peer_address);
	yes.ts_peer.ts[0] = everything(v->self);
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
}

static void up(bool we_begin)
{
	struct path hers = { .transport = TRANSPORT_UDP, .local = BOX, .remote = OURS };

	begin(we_begin);
	tunnel_begin(v, c, now_us);
	if (!we_begin)
		assert_int_equal(ike_sa_start(box, now_us, &hers), OK);
	exchange();
	assert_int_equal(c->state, CALL_UP);
	assert_true(ike_sa_up(box) && ike_sa_up(c->sa) && ike_sa_mobike(c->sa));
}

static void end(void)
{
	ike_sa_free(box);
	box = NULL;
	vpn_free(v);
}

static void box_moves(struct addr to)
{
	struct path path = { .transport = TRANSPORT_UDP, .local = to, .remote = OURS };

	assert_false(ike_sa_move(box, now_us, &path, false));
}

static void assert_remote(struct addr a)
{
	assert_int_equal(c->path.tos, 0); /* or ESP would have it */
	assert_true(addr_eq(&c->path.remote, &a));
}

/* Its IKE comes from elsewhere: the call follows once the new address has answered. */
static void peer_moves(void **state)
{
	struct addr new = BOX_NEW;

	(void)state;
	up(false);
	box_moves(new);
	exchange();
	assert_int_equal(n_box_moved, 1);
	assert_int_equal(n_changed, 1);
	assert_true(addr_eq(&changed.remote, &new));
	assert_remote(new);
	/* our own exchanges and the end go there */
	ike_sa_probe(c->sa, now_us);
	exchange();
	assert_false(c->sa->window.waiting);
	assert_int_equal(vpn_hangup(v, now_us, c->id), OK);
	exchange();
	assert_false(ike_sa_up(box));
	assert_int_equal(n_lost, 0);
	end();
}

/* A box on the way writes a third address into what the peer sends: nothing moves. */
static void forged_source(void **state)
{
	(void)state;
	up(false);
	rewrite = NOBODY;
	ike_sa_probe(box, now_us);
	pass(SECONDS(1));
	rewrite.family = ADDR_NONE;
	pass(SECONDS(2));
	assert_false(box->window.waiting);
	assert_int_equal(n_changed, 0);
	rewrite = NOBODY;
	box_moves(BOX_NEW);
	pass(SECONDS(1));
	assert_true(c->sa->move.has_maybe);
	assert_int_equal(n_changed, 0);
	assert_remote(BOX);
	rewrite.family = ADDR_NONE;
	pass(SECONDS(60));
	assert_int_equal(n_changed, 0);
	assert_remote(BOX);
	assert_true(call_live(c) && ike_sa_up(box));
	/* the real one can still move */
	box_moves(BOX);
	box_moves(BOX_NEW);
	pass(SECONDS(1));
	assert_remote(BOX_NEW);
	end();
}

/* Port 500 has no marker before IKE (RFC 3948): it is no place for us. */
static void port_500(void **state)
{
	struct addr bad = addr_ip4(0xc0000212, 500);

	(void)state;
	up(false);
	rewrite = bad;
	box_moves(BOX_NEW);
	pass(MS(200));
	rewrite.family = ADDR_NONE;
	pass(SECONDS(2));
	assert_int_equal(n_changed, 0);
	assert_remote(BOX);
	assert_true(call_live(c) && ike_sa_up(box));
	assert_true(path_eq(&box->path, &box->move.esp)); /* it was told */
	end();
}

/* Before IKE_AUTH everything stays bound to the address of the description, and so does IKE_SA_INIT after it; without MOBIKE all. */
static void bound_to_description(void **state)
{
	struct path elsewhere = { .transport = TRANSPORT_UDP, .local = BOX_NEW, .remote = OURS };
	struct path home = { .transport = TRANSPORT_UDP, .local = BOX, .remote = OURS };
	uint64_t n;

	(void)state;
	begin(false);
	tunnel_begin(v, c, now_us);
	assert_int_equal(ike_sa_start(box, now_us, &elsewhere), OK);
	exchange();
	assert_int_equal(v->n_ike_unvalidated, 1);
	ike_sa_set_path(box, &home);
	pass(MS(500)); /* IKE_SA_INIT again, from home */
	assert_int_equal(c->state, CALL_UP);
	/* a new IKE_SA_INIT from elsewhere */
	n = v->n_ike_unknown;
	ike_sa_free(box);
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_start(box, now_us, &elsewhere), OK);
	exchange();
	assert_int_equal(v->n_ike_unknown, n + 1);
	end();
	up(false);
	c->sa->move.on = false;
	n = v->n_ike_unvalidated;
	box_moves(BOX_NEW);
	exchange();
	assert_int_equal(v->n_ike_unvalidated, n + 1);
	assert_remote(BOX);
	end();
}

/* Our address goes away: the update leaves from another one, and ESP follows when it is answered. */
static void we_move(void **state)
{
	struct addr both[] = { OURS, OURS_NEW }, old = OURS, new = OURS_NEW;

	(void)state;
	up(true);
	vpn_set_locals(v, now_us, both, 2); /* one more is no reason to move */
	exchange();
	assert_int_equal(n_box_moved, 0);
	vpn_set_locals(v, now_us, &new, 1);
	assert_true(addr_eq(&c->path.local, &old)); /* until the answer */
	exchange();
	assert_true(addr_eq(&c->path.local, &new));
	assert_int_equal(n_box_moved, 1);
	assert_int_equal(n_changed, 1);
	assert_true(addr_eq(&changed.local, &new));
	/* none is left; later there is one again */
	vpn_set_locals(v, now_us, &old, 0);
	exchange();
	assert_int_equal(n_box_moved, 1);
	vpn_set_locals(v, now_us, &old, 1);
	exchange();
	assert_int_equal(n_box_moved, 2);
	assert_true(addr_eq(&c->path.local, &old));
	end();
}

/* As responder we stay, whatever addresses we have. */
static void responder_stays(void **state)
{
	struct addr new = OURS_NEW, old = OURS;

	(void)state;
	up(false);
	vpn_set_locals(v, now_us, &new, 1);
	pass(SECONDS(1));
	assert_true(addr_eq(&c->path.local, &old));
	assert_int_equal(n_changed, 0);
	end();
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peer_moves), cmocka_unit_test(forged_source),
		cmocka_unit_test(port_500),   cmocka_unit_test(bound_to_description),
		cmocka_unit_test(we_move),    cmocka_unit_test(responder_stays),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
