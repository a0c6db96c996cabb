/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Networks: who is given which address, and what a caller takes of a peer that may be hostile. A real SA at the other side
 * (the box), a call of vpn at ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
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

/* ---- who grants ---- */

static void same_address(void **state)
{
	struct addr first;
	unsigned n_ts4 = 0;

	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	open_call(false, true);
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_true(box_up.cp.there);
	first = box_up.cp.ip4;
	assert_true(addr_ip_eq(&first, &(struct addr){ .family = ADDR_IP4, .ip = { 198, 51, 100, 1 } }) ||
		    addr_ip_eq(&first, &(struct addr){ .family = ADDR_IP4, .ip = { 198, 51, 100, 2 } }));
	assert_int_equal(box_up.cp.ip6.family, ADDR_IP6);
	assert_int_equal(box_up.cp.n_dns, 1);
	/* selectors: the assigned addresses to the network's prefixes, and echo */
	for (unsigned i = 0; i < box_up.child.ts_local.n; i++) {
		const struct ike_ts *t = &box_up.child.ts_local.ts[i];

		assert_true(
			(t->family == ADDR_IP4 && !memcmp(t->ip_lo, first.ip, 4) && !memcmp(t->ip_hi, first.ip, 4)) ||
			!memcmp(t->ip_lo, box_up.cp.ip6.ip, 16) || t->protocol == 58);
		n_ts4 += t->family == ADDR_IP4;
	}
	assert_int_equal(n_ts4, 1);
	assert_int_equal(n_up, 1);
	assert_false(up.ours);
	assert_true(addr_ip_eq(&up.network.ip4, &first));
	/* calling anew, while the old call is still there: the same */
	box_done();
	now_us += SECONDS(1);
	path.local.port++;
	open_call(false, true);
	is_called();
	assert_true(addr_ip_eq(&box_up.cp.ip4, &first));
	assert_int_equal(n_down, 1); /* the old one's */
	assert_int_equal(n_up, 1);
	/* revocation */
	{
		struct config *cfg;
		struct trust *trust;

		configure("host = yes\n", STOCK "allow = desktop\n", LAN, &cfg, &trust);
		assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
		exchange();
		assert_int_equal(n_down, 2);
		assert_int_equal(n_box_gone, 1);
	}
	end();
}

/* The two addresses of a /30 that may be given: a third caller is refused, and told why. */
static void exhausted(void **state)
{
	struct call *others[2];

	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	for (unsigned i = 0; i < 2; i++) {
		struct vpn_network *n = NULL;

		others[i] = vpn_call_new(v, now_us, 0, false);
		others[i]->cp_asks = ASKS;
		(void)snprintf(others[i]->peer, sizeof(others[i]->peer), "sip:other%u@example.com", i);
		assert_int_equal(network_lease(v, others[i], &v->cfg->networks[0], &n), OK);
		others[i]->state = CALL_UP;
		others[i]->grants[others[i]->n_grants++] = (struct grant){ .net = n, .expires_us = TIME_NEVER };
	}
	assert_false(addr_ip_eq(&others[0]->grants[0].net->ip4, &others[1]->grants[0].net->ip4));
	open_call(false, true);
	is_called();
	assert_int_equal(n_box_up, 0);
	assert_int_equal(n_box_refused, 1);
	assert_int_equal(box_refused.notify, IKE_N_INTERNAL_ADDRESS_FAILURE);
	assert_true(ike_sa_up(box)); /* RFC 7296, 2.19 */
	end();
}

static void not_asked(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	open_call(false, true);
	box_cfg.cp_asks = 0;
	is_called();
	assert_int_equal(n_box_up, 0);
	assert_int_equal(box_refused.notify, IKE_N_FAILED_CP_REQUIRED);
	end();
}

/* Only IPv4 is asked for: then there is no IPv6 either. */
static void one_family(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	open_call(false, true);
	box_cfg.cp_asks = IKE_CP_BIT(IKE_CP_IP4_ADDRESS);
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_int_equal(box_up.cp.ip6.family, ADDR_NONE);
	assert_int_equal(box_up.cp.n_dns, 0);
	for (unsigned i = 0; i < box_up.child.ts_peer.n; i++)
		assert_true(box_up.child.ts_peer.ts[i].family == ADDR_IP4 || box_up.child.ts_peer.ts[i].protocol == 58);
	end();
}

/* No pool: the peer comes from its own address. */
static void no_pool(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK "allow = lan\nping = no\n", "[network lan]\nprefix = 2001:db8:1::/64\n");
	open_call(false, true);
	box_cfg.cp_asks = 0;
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_int_equal(box_up.child.ts_local.n, 1);
	assert_memory_equal(box_up.child.ts_local.ts[0].ip_lo, c->peer_address, 16);
	assert_int_equal(box_up.child.ts_peer.n, 1);
	end();
}

/* A tieline peer that asks for it by name. */
static void by_name(void **state)
{
	(void)state;
	begin("host = yes\n", "allow = lan, desktop\n", LAN);
	open_call(false, false);
	c->has_key = true;
	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), c->key), OK);
	box_cfg.n_names = 1;
	(void)snprintf(box_cfg.names[0], sizeof(box_cfg.names[0]), "lan");
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_true(box_up.cp.there);
	assert_int_equal(c->n_grants, 1);
	assert_int_equal(c->grants[0].g.protocol, 0);
	end();
}

/* ---- who joins ---- */

#define ACCEPT "accept-prefix = 192.0.2.0/24, 198.51.100.0/24, 2001:db8:1::/64, 2001:db8:2::/64\n"

/* The box grants a network, as it likes. */
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

static void joins(void **state)
{
	(void)state;
	begin("host = yes\n", ACCEPT, "");
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_up, 1);
	assert_true(up.ours);
	assert_int_equal(up.network.n_prefixes, 1);
	assert_int_equal(up.network.prefixes[0].len, 24);
	assert_int_equal(n_granted, 1);
	assert_true(granted.has_network && !granted.protocol);
	assert_int_equal(c->state, CALL_UP);
	assert_true(esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	/* accepted no more */
	{
		struct config *cfg;
		struct trust *trust;

		configure("host = yes\n", "accept-prefix = 203.0.113.0/24\n", "", &cfg, &trust);
		assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
		exchange();
		assert_int_equal(n_down, 1);
		assert_int_equal(ended.code, REASON_REVOKED);
		assert_non_null(strstr(ended.reason, "accept-prefix"));
	}
	end();
}

static void refuses(const char *daemon, const char *peer, const char *words)
{
	begin(daemon, peer, "");
	open_call(true, false);
	calls();
	assert_int_equal(n_up, 0);
	assert_int_equal(n_granted, 0);
	assert_false(n_box_up && esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	assert_int_equal(ended.code, REASON_NOT_ALLOWED);
	if (!strstr(ended.reason, words))
		fail_msg("\"%s\" lacks \"%s\"", ended.reason, words);
	assert_string_equal(refused.reason, ended.reason);
	end();
}

static void hostile(void **state)
{
	(void)state;
	offer("192.0.2.0", "192.0.3.255", "198.51.100.7");
	refuses("host = yes\n", ACCEPT, "outside of accept-prefix");
	offer("192.0.2.0", "192.0.2.255", "203.0.113.7");
	refuses("host = yes\n", ACCEPT, "address outside of accept-prefix");
	offer("0.0.0.0", "255.255.255.255", "198.51.100.7");
	refuses("host = yes\n", ACCEPT, "too wide");
	refuses("host = no\n", "", "too wide");
	offer("127.0.0.0", "127.255.255.255", "198.51.100.7");
	refuses("host = no\n", "", "none that anybody may have");
	offer("192.0.2.1", "192.0.2.255", "198.51.100.7");
	refuses("host = yes\n", ACCEPT, "no prefix");
	/* an address that is not assigned, or no selector for the one that is */
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.cp.ip4 = address("198.51.100.8");
	begin("host = yes\n", ACCEPT, "");
	open_call(true, false);
	calls();
	assert_false(esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	assert_int_equal(n_up, 0);
	end();
	/* where the peer itself is */
	offer("203.0.113.0", "203.0.113.255", "198.51.100.7");
	refuses("host = yes\n", "accept-prefix = 203.0.113.0/24, 198.51.100.0/24\n", "the tunnel itself needs");
}

/* With host = yes and no accept-prefix nothing is asked for; a network is none of our business. */
static void unwanted(void **state)
{
	(void)state;
	begin("host = yes\n", "", "");
	open_call(true, false);
	assert_int_equal(c->ike_cfg->cp_asks, 0);
	assert_int_equal(c->ike_cfg->tsi.n, 1);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_up + n_granted, 0);
	end();
}

/* A service must keep our own address, whatever was proposed. */
static void service_stays(void **state)
{
	(void)state;
	begin("host = no\n", "", "");
	open_call(true, false);
	assert_int_equal(c->ike_cfg->tsi.n, 3);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.grants[0].protocol = 6;
	decision.grants[0].port = 5900;
	calls();
	assert_int_equal(n_box_up, 1);
	assert_false(esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	assert_int_equal(n_up, 0);
	end();
}

static void host_cannot(void **state)
{
	(void)state;
	begin("host = yes\n", ACCEPT, "");
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	not_ready = true;
	calls();
	assert_int_equal(n_up, 1);
	assert_int_equal(ended.code, REASON_NOT_ALLOWED);
	assert_non_null(strstr(ended.reason, "could not be set"));
	end();
}

/* A stock gateway: what accept-prefix lists is proposed, and taken; our call ends when it takes it back. */
static void stock_gateway(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK ACCEPT, "");
	open_call(true, true);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.n_grants = 0;
	calls();
	assert_int_equal(n_up, 1);
	assert_int_equal(c->state, CALL_UP);
	assert_true(granted.has_network);
	assert_int_equal(ike_sa_child_delete(box, now_us, box_up.child.spi_in), OK);
	exchange();
	assert_int_equal(n_down, 1);
	assert_int_equal(ended.code, REASON_REVOKED);
	end();
}

/* Two calls, one network: the second is refused. */
static void overlap(void **state)
{
	struct call *first;
	struct vpn_network n = { .n_prefixes = 1 };

	(void)state;
	begin("host = no\n", "", "");
	first = vpn_call_new(v, now_us, 0, true);
	first->state = CALL_UP;
	first->peer_address[0] = 0xfd;
	assert_int_equal(addr_prefix_parse(SPAN_LIT("192.0.2.128/25"), &n.prefixes[0]), OK);
	first->grants[0].expires_us = TIME_NEVER;
	first->grants[0].net = malloc(sizeof(n));
	*first->grants[0].net = n;
	first->n_grants = 1;
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_up, 0);
	assert_non_null(strstr(ended.reason, "overlaps"));
	end();
}

/* A network that was joined before holds the inner address of whom we call now: it would get what is for him. */
static void hides_a_peer(void **state)
{
	struct call *first;
	struct vpn_network n = { .n_prefixes = 1 };
	unsigned id;

	(void)state;
	begin("host = no\n", "", "");
	first = vpn_call_new(v, now_us, 0, true);
	first->state = CALL_UP;
	first->peer_address[0] = 0xfd;
	first->peer_address[1] = 1;
	assert_int_equal(addr_prefix_parse(SPAN_LIT("fd00::/32"), &n.prefixes[0]), OK);
	first->grants[0] = (struct grant){ .expires_us = TIME_NEVER, .net = malloc(sizeof(n)), .net_up = true };
	*first->grants[0].net = n;
	first->n_grants = 1;
	first->peer_up = true;
	id = first->id;
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_down, 1);
	assert_int_equal(down.call, id);
	assert_null(vpn_call_find(v, id)); /* that was all that it had */
	assert_int_equal(n_up, 1);
	assert_int_equal(c->state, CALL_UP);
	end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_address),  cmocka_unit_test(exhausted),    cmocka_unit_test(not_asked),
		cmocka_unit_test(one_family),    cmocka_unit_test(no_pool),      cmocka_unit_test(by_name),
		cmocka_unit_test(joins),         cmocka_unit_test(hostile),      cmocka_unit_test(unwanted),
		cmocka_unit_test(service_stays), cmocka_unit_test(host_cannot),  cmocka_unit_test(stock_gateway),
		cmocka_unit_test(overlap),       cmocka_unit_test(hides_a_peer),
	};
	int r = HARNESS_RUN(tests);

	pair_identities_done();
	return r;
}
