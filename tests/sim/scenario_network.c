/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_network.c - a caller joins a network: what he reaches, what he does not, and who is left out. */
#include <stdio.h>
#include <string.h>

#include "scenario.h"
#include "vpn/impl.h"

#define PREFIX "2001:db8:3::/64"
#define NETWORK(pool4)                                                                                                 \
	"[network lan]\nprefix = 10.3.0.0/24, " PREFIX "\npool = " pool4 ", 2001:db8:77::/64\ndns = 10.3.0.1\n"
#define ACCEPT "accept-prefix = 10.3.0.0/24, 10.77.0.0/24, 2001:db8:3::/64, 2001:db8:77::/64\n"

static const uint8_t tv[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10 };
static const uint8_t elsewhere[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10 };

/* alice, with lines of her section for bob, and bob, who grants `lan` beside desktop. accept NULL: host = no. */
static bool start(struct world *w, const struct scenario_run *r, struct couple *p, const char *accept,
		  const char *network)
{
	struct host_setup a = { .user = "alice", .identity = ID_ALICE, .nat = r->nat[0] };
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = r->nat[1], .daemon = "host = yes\n" };
	char alice[4096], bob[4096];

	(void)snprintf(alice, sizeof(alice), "%s%s", peer_section(w, "bob", ID_BOB, NULL), accept ? accept : "");
	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP "%s%s%s", network,
		       peer_section(w, "alice", ID_ALICE, "lan, desktop"), peer_section(w, "carol", ID_CAROL, "lan"));
	a.daemon = accept ? "host = yes\n" : NULL;
	a.extra = alice;
	b.extra = bob;
	p->a = host_new(w, &a);
	p->b = host_new(w, &b);
	p->call = 0;
	return start_all(w);
}

static const struct vpn_network *joined(const struct host *h)
{
	for (unsigned i = 0; i < h->n_networks; i++)
		if (h->networks[i].ours)
			return &h->networks[i].n;
	return NULL;
}

/* A connection and an echo to a host of the network, over a lossy network. */
static bool reaches(struct world *w, struct couple *p)
{
	const struct vpn_network *n = joined(p->a);
	struct inner before = p->a->inner;

	if (!n || n->ip6.family != ADDR_IP6) {
		world_fail(w, "no network was joined");
		return false;
	}
	for (int i = 0; i < 25; i++) {
		if (p->a->inner.n_synacks == before.n_synacks)
			inner_syn_from(p->a, n->ip6.ip, tv, 8080);
		if (p->a->inner.n_echo_replies == before.n_echo_replies)
			inner_ping_from(p->a, n->ip6.ip, tv);
		world_for(w, MS(800));
		if (p->a->inner.n_synacks > before.n_synacks && p->a->inner.n_echo_replies > before.n_echo_replies)
			return !w->failed;
	}
	world_fail(w, "the network cannot be reached");
	return false;
}

/* All that the network's grant does not cover; the stacks' oracle says whether anything arrives that must not. */
static void probes(struct world *w, struct couple *p)
{
	const struct vpn_network *n = joined(p->a);
	struct inner a = p->a->inner, b = p->b->inner;
	uint8_t other[16];

	if (!n)
		return;
	memcpy(other, n->ip6.ip, 16);
	other[15] ^= 1;
	for (int i = 0; i < 6; i++) {
		inner_syn_from(p->a, n->ip6.ip, elsewhere, 8080);
		inner_syn_from(p->a, other, tv, 8080); /* somebody else's address */
		inner_syn_from(p->a, p->a->self, tv, 8080);
		inner_syn_from(p->a, n->ip6.ip, p->b->self, 22);
		inner_ping_from(p->a, n->ip6.ip, elsewhere);
		inner_syn_from(p->b, tv, n->ip6.ip, 22); /* the network's hosts open nothing */
		inner_ping_from(p->b, tv, n->ip6.ip);
		inner_syn_from(p->b, elsewhere, n->ip6.ip, 22);
		world_for(w, MS(100));
	}
	world_for(w, SECONDS(1));
	if (p->b->inner.n_syn_in != b.n_syn_in || p->b->inner.n_echo_in != b.n_echo_in)
		world_fail(w, "something outside of the network was reached");
	if (p->a->inner.n_syn_in != a.n_syn_in || p->a->inner.n_echo_in != a.n_echo_in)
		world_fail(w, "the network's hosts reach who joined");
}

static bool join(struct world *w, struct couple *p, const char *name)
{
	if (!dial(w, p, name) || !both_up(w, p)) {
		if (!w->failed)
			world_fail(w, "not up: %s", host_event(p->a, VPN_EV_ENDED, p->call)->reason);
		return false;
	}
	return reaches(w, p);
}

static void granted(struct world *w, const struct scenario_run *r)
{
	struct vpn_network first;
	struct couple p;
	bool host = world_below(w, 2);

	if (!start(w, r, &p, host ? ACCEPT : NULL, NETWORK("10.77.0.0/24")))
		return;
	world_allow_network(w, p.a, p.b, PREFIX);
	if (!join(w, &p, "lan"))
		return;
	first = *joined(p.a);
	if (first.n_prefixes != 2 || first.ip4.family != ADDR_IP4 || first.n_dns != 1)
		world_fail(w, "%u prefixes, %u name servers", first.n_prefixes, first.n_dns);
	probes(w, &p);
	host_hangup(world_below(w, 2) ? p.a : p.b, p.call);
	host_hangup(p.a, p.call);
	if (w->failed || !both_clean(w, &p, OTHER_END_US))
		return;
	if (joined(p.a)) {
		world_fail(w, "the network is left after the call");
		return;
	}
	/* with everything that is granted; the same addresses */
	world_allow(w, p.a, p.b, 6, 5900);
	if (!join(w, &p, NULL))
		return;
	if (!addr_ip_eq(&joined(p.a)->ip4, &first.ip4) || !addr_ip_eq(&joined(p.a)->ip6, &first.ip6))
		world_fail(w, "other addresses than before");
	for (int i = 0; i < 25 && !p.a->inner.n_synacks; i++) {
		inner_syn(p.a, p.b, 5900);
		world_for(w, MS(500));
	}
	host_hangup(p.a, p.call);
	(void)both_clean(w, &p, OTHER_END_US);
}

/* The data plane of one end checks nothing: the other's holds. */
static void hostile(struct world *w, const struct scenario_run *r, bool caller)
{
	struct couple p;

	if (!start(w, r, &p, ACCEPT, NETWORK("10.77.0.0/24")))
		return;
	*(caller ? &p.a->hostile : &p.b->hostile) = true;
	world_allow_network(w, p.a, p.b, PREFIX);
	if (!join(w, &p, "lan"))
		return;
	probes(w, &p);
	host_hangup(p.a, p.call);
	(void)both_clean(w, &p, OTHER_END_US);
}

static void hostile_caller(struct world *w, const struct scenario_run *r)
{
	hostile(w, r, true);
}

static void hostile_router(struct world *w, const struct scenario_run *r)
{
	hostile(w, r, false);
}

static bool refused(struct world *w, struct couple *p, const char *words)
{
	const struct vpn_event *e;

	if (dial(w, p, "lan")) {
		world_fail(w, "the network was joined");
		return false;
	}
	if (w->failed)
		return false;
	e = host_event(p->a, VPN_EV_ENDED, p->call);
	if (e->code != REASON_NOT_ALLOWED)
		world_fail(w, "ended with %d", (int)e->code);
	if (!strstr(e->reason, words))
		world_fail(w, "\"%s\" lacks \"%s\"", e->reason, words);
	if (p->a->n_networks)
		world_fail(w, "addresses or routes were set");
	return !w->failed;
}

static void wrong_prefix(struct world *w, const struct scenario_run *r)
{
	static const char *const accepts[] = {
		"accept-prefix = 10.4.0.0/24, 10.77.0.0/24, 2001:db8:3::/64, 2001:db8:77::/64\n",
		"accept-prefix = 10.3.0.0/24, 2001:db8:3::/64, 2001:db8:77::/64\n",
		"accept-prefix = 10.3.0.0/25, 10.77.0.0/24\n",
	};
	struct couple p;

	if (start(w, r, &p, accepts[world_below(w, 3)], NETWORK("10.77.0.0/24")) && refused(w, &p, "accept-prefix"))
		(void)both_clean(w, &p, OTHER_END_US);
}

static void not_asked(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (start(w, r, &p, "", NETWORK("10.77.0.0/24")) && refused(w, &p, "none was asked for"))
		(void)both_clean(w, &p, OTHER_END_US);
}

/* One address, two who want it. */
static void exhausted(struct world *w, const struct scenario_run *r)
{
	struct host_setup c = { .user = "carol", .identity = ID_CAROL, .daemon = "host = yes\n" };
	struct couple alice, carol = { .call = 0 };
	char extra[2048];

	if (!start(w, r, &alice, ACCEPT, NETWORK("10.77.0.5/32")))
		return;
	(void)snprintf(extra, sizeof(extra), "%s" ACCEPT, peer_section(w, "bob", ID_BOB, NULL));
	c.extra = extra;
	carol.a = host_new(w, &c);
	carol.b = alice.b;
	if (!start_all(w))
		return;
	world_allow_network(w, alice.a, alice.b, PREFIX);
	if (!join(w, &alice, "lan") || !refused(w, &carol, "no address left") || !reaches(w, &alice))
		return;
	host_hangup(alice.a, alice.call);
	if (!both_clean(w, &alice, OTHER_END_US))
		return;
	w->n_networks = 0;
	world_allow_network(w, carol.a, carol.b, PREFIX);
	if (join(w, &carol, "lan")) {
		host_hangup(carol.a, carol.call);
		(void)both_clean(w, &carol, OTHER_END_US);
	}
}

static void revoked(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	char bob[4096];

	if (!start(w, r, &p, ACCEPT, NETWORK("10.77.0.0/24")))
		return;
	world_allow_network(w, p.a, p.b, PREFIX);
	if (!join(w, &p, "lan"))
		return;
	w->n_networks = 0; /* from now on nothing may be delivered */
	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP NETWORK("10.77.0.0/24") "%s",
		       peer_section(w, "alice", ID_ALICE, "desktop"));
	if (host_reload(p.b, bob) != OK)
		world_fail(w, "the new configuration is not taken");
	for (int i = 0; i < 10 && joined(p.a); i++) {
		inner_syn_from(p.a, joined(p.a)->ip6.ip, tv, 8080);
		world_for(w, MS(200));
	}
	if (!w->failed && until_ended(w, p.a, p.call, SECONDS(60)) && ended_with(w, &p, REASON_REVOKED))
		(void)both_clean(w, &p, OTHER_END_US);
}

static const struct {
	const char *name;
	void (*run)(struct world *w, const struct scenario_run *r);
} rows[] = {
	{ "granted", granted },           { "hostile-caller", hostile_caller }, { "hostile-router", hostile_router },
	{ "wrong-prefix", wrong_prefix }, { "not-asked", not_asked },           { "exhausted", exhausted },
	{ "revoked", revoked },
};

unsigned network_variants(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const char *network_name(unsigned i)
{
	return rows[i].name;
}

void run_network(struct world *w, const struct scenario_run *r)
{
	rows[r->variant].run(w, r);
}
