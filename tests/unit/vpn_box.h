/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/vpn_box.h - a call of vpn at our side, a real SA at the other one (the box), whose owner decides as the test says. Include
 * after <cmocka.h>. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "ike/payload.h"
#include "ike_pair.h"
#include "vpn/impl.h"

#define ASKS (IKE_CP_BIT(IKE_CP_IP4_ADDRESS) | IKE_CP_BIT(IKE_CP_IP6_ADDRESS) | IKE_CP_BIT(IKE_CP_IP4_DNS))
#define LAN                                                                                                            \
	"[network lan]\nprefix = 192.0.2.0/24, 2001:db8:1::/64\npool = 198.51.100.0/30, 2001:db8:2::/64\n"             \
	"dns = 192.0.2.1\n"
#define ACCEPT "accept-prefix = 192.0.2.0/24, 198.51.100.0/24, 2001:db8:1::/64, 2001:db8:2::/64\n"
#define STOCK "bare = yes\nice = no\naddress = fd00::9\n"

static struct vpn *v;
static struct call *c;
static struct ike_sa *box;
static struct ike_config box_cfg;
static struct rng_seeded seed;
static struct rng rng;
static uint64_t now_us;
static struct path path; /* as the box sees it */
static struct ike_decision decision; /* the box's owner's, where it responds */
static struct ike_event box_up, box_refused;
static unsigned n_box_up, n_box_refused, n_box_gone;
/* what our host was asked for, and our user told */
static struct vpn_want up, down;
static unsigned n_up, n_down, n_granted;
static struct vpn_event granted, refused, ended;
static bool not_ready;
/* and our kernel */
static enum err (*kernel)(const struct esp_kernel_request *rq, struct esp_kernel_count *ret); /* NULL: there is none */

static int64_t wall(void *arg)
{
	(void)arg;
	return 1800000000;
}

static struct ike_ts range(const char *lo, const char *hi)
{
	struct addr a, b;
	struct ike_ts t = { .port_hi = 65535 };

	assert_int_equal(addr_parse_ip(span_str(lo), &a), OK);
	assert_int_equal(addr_parse_ip(span_str(hi), &b), OK);
	t.family = a.family;
	memcpy(t.ip_lo, a.ip, 16);
	memcpy(t.ip_hi, b.ip, 16);
	return t;
}

static struct ike_ts everything(enum addr_family family)
{
	return family == ADDR_IP4 ? range("0.0.0.0", "255.255.255.255")
				  : range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

static struct ike_ts host(const uint8_t ip[16])
{
	struct ike_ts t = { .family = ADDR_IP6, .port_hi = 65535 };

	memcpy(t.ip_lo, ip, 16);
	memcpy(t.ip_hi, ip, 16);
	return t;
}

static struct addr address(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_ip(span_str(text), &a), OK);
	return a;
}

/* daemon: further lines of [daemon]; peer: of alice's section; more: further sections. */
static void configure(const char *daemon, const char *peer, const char *more, struct config **cfg, struct trust **trust)
{
	char text[2048], key[KEY_TEXT], cert[KEY_TEXT];
	struct conf_error e = { .text = "" };
	uint8_t hash[32], spki[SPKI_HASH];

	assert_int_equal(hash_of(HASH_SHA256, identity_cert(pair_ids[ALICE]), hash), OK);
	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), spki), OK);
	(void)snprintf(text, sizeof(text),
		       "[account]\naor = bob@example.com\nserver = 192.0.2.1;transport=udp\npassword = p\n[daemon]\n%s"
		       "[service desktop]\nlisten = tcp/5900\n%s[peer alice@example.com]\n%s%s\n%s",
		       daemon, more, strstr(peer, "bare") ? "cert = " : "key = ",
		       strstr(peer, "bare") ? key_text(hash, cert) : key_text(spki, key), peer);
	if (config_parse("f", span_str(text), cfg, &e) != OK)
		fail_msg("%s", e.text);
	assert_int_equal(trust_new(trust), OK);
	assert_int_equal(trust_load(*trust, "pins", SPAN_NONE, *cfg, &e), OK);
}

static struct ike_config side(const struct identity *own, const struct identity *other, bool initiator, bool bare,
			      const char *local, const char *remote)
{
	struct ike_config k = {
		.rng = &rng, .initiator = initiator, .identity = own, .bare = bare, .n_fingerprints = 1
	};

	k.fingerprints[0].hash = HASH_SHA256;
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(other), k.fingerprints[0].value), OK);
	(void)snprintf(k.local_aor, sizeof(k.local_aor), "%s@example.com", local);
	(void)snprintf(k.peer_aor, sizeof(k.peer_aor), "%s@example.com", remote);
	if (bare)
		return k;
	k.has_binding = k.has_peer_key = true;
	assert_int_equal(spki_hash(identity_spki(other), k.peer_key), OK);
	k.request = 7;
	return k;
}

static void box_event(struct ike_event *e)
{
	if (e->kind == IKE_EV_CHILD_UP) {
		box_up = *e;
		n_box_up++;
	}
	if (e->kind == IKE_EV_REFUSED) {
		box_refused = *e;
		n_box_refused++;
	}
	n_box_gone += e->kind == IKE_EV_CHILD_GONE;
	if (e->kind == IKE_EV_ASKED || e->kind == IKE_EV_CHILD_ASKED)
		ike_sa_decide(box, now_us, &decision);
	ike_event_done(e);
}

static void our_want(const struct vpn_want *w)
{
	if (w->kind == VPN_WANT_NETWORK_UP) {
		up = *w;
		n_up++;
		if (w->ours)
			vpn_network_ready(v, now_us, w->call, w->grant_id, !not_ready);
	}
	if (w->kind == VPN_WANT_NETWORK_DOWN) {
		down = *w;
		n_down++;
	}
}

static void our_event(const struct vpn_event *e)
{
	if (e->kind == VPN_EV_GRANTED) {
		granted = *e;
		n_granted++;
	}
	if (e->kind == VPN_EV_REFUSED)
		refused = *e;
	if (e->kind == VPN_EV_ENDED)
		ended = *e;
}

/* All datagrams in both directions, events and wants. */
static void exchange(void)
{
	bool more = true;

	while (more) {
		enum vpn_channel channel;
		struct vpn_event ve;
		struct vpn_want w;
		struct esp_kernel_request rq;
		struct ike_event e;
		struct out o;
		uint8_t msg[IKE_MSG_MAX];

		more = false;
		while (box && ike_sa_poll_output(box, &o)) {
			struct path at = { .local = path.remote, .remote = path.local };

			memcpy(msg, o.bytes.p, o.bytes.len);
			if (box_cfg.bare)
				pair_stock(box, msg, o.bytes.len);
			vpn_input_ike(v, now_us, &at, span_of(msg, o.bytes.len));
			more = true;
		}
		while (vpn_poll_want(v, &w)) {
			our_want(&w);
			more = true;
		}
		while (kernel && vpn_poll_kernel(v, &rq)) {
			struct esp_kernel_count count = { .packets = 0 };
			enum err r = kernel(&rq, &count);

			vpn_kernel_done(v, now_us, &rq, r, &count);
			more = true;
		}
		while (vpn_poll_output(v, &channel, &o)) {
			if (channel != VPN_IKE || !box)
				continue;
			memcpy(msg, o.bytes.p, o.bytes.len);
			for (unsigned i = 0; box_cfg.bare && i < CALL_HALF_OPEN_MAX; i++)
				if (c->half_open[i] && ike_sa_spi_i(c->half_open[i]) == ike_sa_spi_i(box))
					pair_stock(c->half_open[i], msg, o.bytes.len);
			if (box_cfg.bare && c->sa && c->ike_initiator)
				pair_stock(c->sa, msg, o.bytes.len);
			ike_sa_input(box, now_us, &path, span_of(msg, o.bytes.len));
			more = true;
		}
		while (box && ike_sa_poll_event(box, &e)) {
			box_event(&e);
			more = true;
		}
		while (vpn_poll_event(v, &ve)) {
			our_event(&ve);
			more = true;
		}
	}
}

static bool spi_taken(void *arg, uint32_t spi)
{
	(void)arg;
	return !esp_set_spi_fits(v->esp, c->id, c->in_kernel, spi);
}

static void open_call(bool outgoing, bool bare)
{
	c = vpn_call_new(v, now_us, 0, outgoing);
	assert_non_null(c);
	c->bare = bare;
	c->no_ice = true;
	(void)snprintf(c->peer, sizeof(c->peer), "sip:alice@example.com");
	c->peer_address[0] = 0xfd;
	c->peer_address[15] = 9;
	c->fixed = c->path = (struct path){ .local = path.remote, .remote = path.local };
	c->state = CALL_CONNECTING;
	c->request = 7;
	c->ike_initiator = outgoing;
	c->level = LEVEL_PINNED;
	c->ike_cfg = malloc(sizeof(*c->ike_cfg));
	assert_non_null(c->ike_cfg);
	*c->ike_cfg = side(pair_ids[BOB], pair_ids[ALICE], outgoing, bare, "bob", "alice");
	c->ike_cfg->spi_taken = spi_taken;
	memset(&box_up, 0, sizeof(box_up));
	memset(&box_refused, 0, sizeof(box_refused));
	memset(&granted, 0, sizeof(granted));
	memset(&refused, 0, sizeof(refused));
	memset(&ended, 0, sizeof(ended));
	n_box_up = n_box_refused = n_box_gone = n_up = n_down = n_granted = 0;
	box_cfg = side(pair_ids[ALICE], pair_ids[BOB], !outgoing, bare, "alice", "bob");
	if (outgoing) {
		grant_propose_all(v, c, &c->ike_cfg->tsi, &c->ike_cfg->tsr);
		network_propose(v, c, &c->ike_cfg->tsi, &c->ike_cfg->tsr);
		c->ike_cfg->cp_asks = network_asks(v, c);
	} else {
		box_cfg.cp_asks = ASKS;
		box_cfg.tsi.n = box_cfg.tsr.n = 3;
		box_cfg.tsi.ts[0] = host(c->peer_address);
		box_cfg.tsr.ts[0] = host(v->self);
		box_cfg.tsi.ts[1] = box_cfg.tsr.ts[1] = everything(ADDR_IP4);
		box_cfg.tsi.ts[2] = box_cfg.tsr.ts[2] = everything(ADDR_IP6);
	}
}

static void begin(const char *daemon, const char *peer, const char *more)
{
	struct vpn_env env = { .rng = &rng, .wall_s = wall };
	struct config *cfg;
	struct trust *trust;

	pair_identities();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1000);
	not_ready = false;
	configure(daemon, peer, more, &cfg, &trust);
	assert_int_equal(vpn_new(&env, cfg, trust, pair_ids[BOB], &v), OK);
	if (kernel)
		assert_int_equal(vpn_kernel_begin(v), OK);
	path = (struct path){ .local = addr_ip4(0xcb007101, 4500), .remote = addr_ip4(0xcb007102, 4500) };
}

static void box_done(void)
{
	ike_sa_free(box);
	box = NULL;
}

static void end(void)
{
	box_done();
	vpn_free(v);
}

/* The box calls. */
static void is_called(void)
{
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_start(box, now_us, &path), OK);
	exchange();
}

/* We call the box. */
static void calls(void)
{
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_new(c->ike_cfg, &c->sa), OK);
	assert_int_equal(ike_sa_start(c->sa, now_us, &c->path), OK);
	exchange();
}

/* The box's owner grants a network and assigns an address. */
static void offer(const char *lo, const char *hi, const char *ip4)
{
	decision = (struct ike_decision){ .verdict = IKE_GRANTED,
					  .request = 7,
					  .n_grants = 1,
					  .grants = { { .request = 7, .id = 5, .name = "lan" } } };
	decision.ts_local.n = decision.ts_peer.n = 1;
	decision.ts_local.ts[0] = range(lo, hi);
	decision.ts_peer.ts[0] = range(ip4, ip4);
	decision.cp =
		(struct ike_cp){ .there = true, .ip4 = address(ip4), .dns = { address("192.0.2.1") }, .n_dns = 1 };
}
