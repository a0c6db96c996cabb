/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_call.c - calls that come up, or find no path. */
#include <stdio.h>

#include "scenario.h"
#include "vpn/impl.h"

static uint64_t refused_by_plane(const struct host *h)
{
	const struct esp_counters *c = esp_plane_counters(esp_set_plane(h->vpn->esp, 0));

	return c->drops[ESP_DROP_SELECTOR] + c->drops[ESP_DROP_DIRECTION] + c->drops[ESP_DROP_NO_SA];
}

/* What no grant covers, sent several times because datagrams get lost; the stacks say whether anything arrives. The
 * honest end counts it: its own plane on the way out, or, when the sender's checks nothing, the other's on the way in. */
static void forbidden(struct world *w, struct couple *p)
{
	struct host *counts_a = p->a->hostile ? p->b : p->a, *counts_b = p->b->hostile ? p->a : p->b;
	uint64_t before = refused_by_plane(counts_a);
	unsigned n = p->b->inner.n_syn_in;

	for (int i = 0; i < 6; i++) {
		inner_syn(p->a, p->b, 22);
		inner_udp(p->a, p->b, 5900);
		inner_syn_as(p->a, p->b->self, p->b, 5900);
		world_for(w, MS(100));
	}
	world_for(w, SECONDS(1));
	if (refused_by_plane(counts_a) < before + 6)
		world_fail(w, "packets to ports that are not granted are not counted at %s", counts_a->name);
	if (p->b->inner.n_syn_in != n)
		world_fail(w, "a connection to a port that is not granted was opened");
	/* the callee may not open anything towards the caller */
	before = refused_by_plane(counts_b);
	n = p->a->inner.n_syn_in;
	for (int i = 0; i < 6; i++) {
		inner_syn(p->b, p->a, 5900);
		inner_syn(p->b, p->a, 22);
		inner_udp(p->b, p->a, 53);
		world_for(w, MS(100));
	}
	world_for(w, SECONDS(1));
	if (refused_by_plane(counts_b) < before + 6)
		world_fail(w, "flows towards the caller are not counted at %s", counts_b->name);
	if (p->a->inner.n_syn_in != n)
		world_fail(w, "the callee opened a flow towards the caller");
}

/* Left alone for a while: keepalives hold the NATs open, consent and liveness go on. */
static bool rest(struct world *w, struct couple *p)
{
	world_for(w, SECONDS(60) + world_below(w, SECONDS(340)));
	if (w->failed)
		return false;
	if (host_event(p->a, VPN_EV_ENDED, p->call)) {
		world_fail(w, "the idle call ended: %s", host_event(p->a, VPN_EV_ENDED, p->call)->reason);
		return false;
	}
	return traffic(w, p, 5900);
}

static void hang_up(struct world *w, struct couple *p)
{
	struct host *h = world_below(w, 2) ? p->a : p->b, *other = h == p->a ? p->b : p->a;
	unsigned call = h == p->a ? p->call : host_event(p->b, VPN_EV_UP, 0)->call;
	const struct vpn_event *e;

	host_hangup(h, call);
	if (host_calls(h)) {
		world_fail(w, "%s still has the call after its hang-up", h->name);
		return;
	}
	if (!until_ended(w, other, 0, SECONDS(30)))
		return;
	e = host_event(other, VPN_EV_ENDED, 0);
	if (e->code != REASON_OK)
		world_fail(w, "%s is told %d (%s) after the other side's hang-up", other->name, (int)e->code,
			   e->reason);
}

static void no_path(struct world *w, struct couple *p)
{
	const struct vpn_event *e = host_event(p->a, VPN_EV_ENDED, p->call);

	if (!e)
		world_fail(w, "up, although these NATs need a relay");
	else if (ended_with(w, p, REASON_NO_PATH) && (host_event(p->b, VPN_EV_UP, 0) || p->a->n_peers || p->b->n_peers))
		world_fail(w, "no path, but something was up");
}

void run_call(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	bool works = nat_pair_works(r->nat[0], r->nat[1]);

	if (!pair_up(w, r, &p))
		return;
	switch (world_below(w, 4)) {
	case 0: p.a->hostile = true; break;
	case 1: p.b->hostile = true; break;
	default: break;
	}
	(void)dial(w, &p, world_below(w, 2) ? "desktop" : NULL);
	if (w->failed)
		return;
	if (!works) {
		no_path(w, &p);
		return;
	}
	if (!both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	forbidden(w, &p);
	if (!w->failed && world_below(w, 8) == 0 && !rest(w, &p))
		return;
	if (!w->failed)
		hang_up(w, &p);
	if (!w->failed)
		(void)both_clean(w, &p, OTHER_END_US);
}

/* Two services of one call: a Child SA each; a third one of the configuration is not this peer's. */
void run_two(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	char bob[4096];
	unsigned n;

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP SERVICE_GAME "[service files]\nlisten = tcp/445\n%s",
		       peer_section(w, "alice", ID_ALICE, "desktop, game"));
	if (!pair_up_with(w, r, &p, peer_section(w, "bob", ID_BOB, NULL), bob))
		return;
	world_allow(w, p.a, p.b, 6, 5900);
	world_allow(w, p.a, p.b, 17, 27015);
	if (!dial(w, &p, NULL) && w->failed)
		return;
	if (!both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	if (host_event_count(p.a, VPN_EV_GRANTED) != 2 || p.a->n_forwards != 2)
		world_fail(w, "%u services granted, expected 2", host_event_count(p.a, VPN_EV_GRANTED));
	n = p.a->inner.n_udp_replies;
	for (int i = 0; i < 25 && p.a->inner.n_udp_replies == n; i++) {
		inner_udp(p.a, p.b, 27015);
		inner_syn(p.a, p.b, 445);
		world_for(w, MS(700));
	}
	if (p.a->inner.n_udp_replies == n)
		world_fail(w, "no answer from the second service");
	if (!w->failed)
		hang_up(w, &p);
	if (!w->failed)
		(void)both_clean(w, &p, OTHER_END_US);
}

/* Two callers of one callee, one of them hostile: its own grant is all that it gets, also when it writes the other's address
 * into its packets, and the other one's tunnel is not disturbed. */
void run_third(struct world *w, const struct scenario_run *r)
{
	struct host_setup c = { .user = "carol",
				.identity = ID_CAROL,
				.nat = (enum nat_kind)world_below(w, NAT_SYMMETRIC) };
	struct couple alice, carol;
	char bob[4096];
	unsigned n;

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP SERVICE_GAME "%s%s",
		       peer_section(w, "alice", ID_ALICE, "desktop"), peer_section(w, "carol", ID_CAROL, "game"));
	c.extra = peer_section(w, "bob", ID_BOB, NULL);
	carol.a = host_new(w, &c);
	carol.a->hostile = true;
	if (!pair_up_with(w, r, &alice, peer_section(w, "bob", ID_BOB, NULL), bob))
		return;
	carol.b = alice.b;
	world_allow(w, alice.a, alice.b, 6, 5900);
	world_allow(w, carol.a, carol.b, 17, 27015);
	if ((!dial(w, &alice, NULL) && w->failed) || !both_up(w, &alice) || !traffic(w, &alice, 5900) ||
	    (!dial(w, &carol, NULL) && w->failed) || !both_up(w, &carol) || !traffic(w, &carol, 0))
		return;
	n = carol.b->inner.n_syn_in;
	for (int i = 0; i < 10; i++) {
		inner_syn(carol.a, carol.b, 5900);
		inner_syn_as(carol.a, alice.a->self, carol.b, 5900);
		inner_syn(carol.a, alice.a, 5900);
		inner_ping(carol.a, alice.a);
		world_for(w, MS(100));
	}
	world_for(w, SECONDS(1));
	if (carol.b->inner.n_syn_in != n)
		world_fail(w, "another peer's grant was used");
	if (w->failed || !traffic(w, &alice, 5900))
		return;
	host_hangup(carol.a, carol.call);
	world_for(w, SECONDS(5));
	if (traffic(w, &alice, 5900))
		host_hangup(alice.a, alice.call);
	if (!w->failed)
		(void)both_clean(w, &alice, OTHER_END_US);
}

static void simple(struct world *w, const struct host_setup *a, const struct host_setup *b, const char *path_type)
{
	struct couple p = { host_new(w, a), host_new(w, b), 0 };
	const struct vpn_event *e;

	world_allow(w, p.a, p.b, 6, 5900);
	if (!start_all(w) || (!dial(w, &p, NULL) && w->failed) || !both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	e = host_event(p.a, VPN_EV_PATH_CHANGED, p.call);
	if (!e)
		e = host_event(p.a, VPN_EV_PATH, p.call);
	if (path_type && (!e || !span_eq_str(span_str(e->path_type), path_type)))
		world_fail(w, "the path is %s, expected %s", e ? e->path_type : "none", path_type);
	if (!w->failed)
		hang_up(w, &p);
	if (!w->failed)
		(void)both_clean(w, &p, OTHER_END_US);
}

static struct host_setup setup_of(struct world *w, bool alice, char bob[4096])
{
	(void)snprintf(bob, 4096, SERVICE_DESKTOP "%s", peer_section(w, "alice", ID_ALICE, "desktop"));
	return alice ? (struct host_setup){ .user = "alice",
					    .identity = ID_ALICE,
					    .extra = peer_section(w, "bob", ID_BOB, NULL) }
		     : (struct host_setup){ .user = "bob", .identity = ID_BOB, .extra = bob };
}

/* Both in one home, behind one NAT that does not hairpin: only the host candidates work. */
void run_lan(struct world *w, const struct scenario_run *r)
{
	char text[4096];
	struct host_setup a = setup_of(w, true, text), b = setup_of(w, false, text);

	(void)r;
	a.nat = (enum nat_kind)(1 + world_below(w, NAT_KINDS - 1));
	b.nat = a.nat;
	b.shares_lan = true;
	simple(w, &a, &b, "host");
}

/* IPv4 that cannot come up, IPv6 behind firewalls that let answers in. */
void run_ip6(struct world *w, const struct scenario_run *r)
{
	char text[4096];
	struct host_setup a = setup_of(w, true, text), b = setup_of(w, false, text);

	(void)r;
	a.nat = b.nat = NAT_SYMMETRIC;
	a.has_ip6 = b.has_ip6 = true;
	simple(w, &a, &b, "host");
}

/* Two NATs in a row: the home's and the provider's. */
void run_provider(struct world *w, const struct scenario_run *r)
{
	char text[4096];
	struct host_setup a = setup_of(w, true, text), b = setup_of(w, false, text);

	(void)r;
	a.nat = (enum nat_kind)(1 + world_below(w, NAT_PORT));
	a.outer = (enum nat_kind)(1 + world_below(w, NAT_PORT));
	b.nat = (enum nat_kind)world_below(w, NAT_SYMMETRIC);
	if (b.nat != NAT_NONE && world_below(w, 2))
		b.outer = (enum nat_kind)(1 + world_below(w, NAT_PORT));
	simple(w, &a, &b, NULL);
}
