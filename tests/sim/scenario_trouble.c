/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_trouble.c - networks, daemons and exchanges that go away, and users who change their minds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ice/agent_impl.h"
#include "scenario.h"
#include "vpn/impl.h"

#define VANISHED_US SECONDS(30 + 120 + 30) /* consent, dead-after, and what the last answers take */

static bool up(struct world *w, const struct scenario_run *r, struct couple *p)
{
	return pair_up(w, r, p) && (dial(w, p, NULL) || !w->failed) && both_up(w, p) && traffic(w, p, 5900);
}

/* After whatever happened: a call works, and ends. */
static void call_again(struct world *w, struct couple *p)
{
	if (w->failed || !start_all(w) || (!dial(w, p, NULL) && w->failed) || !both_up(w, p) || !traffic(w, p, 5900))
		return;
	host_hangup(p->a, p->call);
	(void)both_clean(w, p, VANISHED_US);
}

static void vanishes(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	struct host *gone, *stays;
	const struct vpn_event *e;

	if (!up(w, r, &p))
		return;
	gone = world_below(w, 2) ? p.a : p.b;
	stays = gone == p.a ? p.b : p.a;
	gone->cut = true;
	world_trace(w, "%s has no network any more", gone->name);
	if (!until_ended(w, stays, 0, VANISHED_US) || !until_ended(w, gone, 0, VANISHED_US))
		return;
	e = host_event(stays, VPN_EV_ENDED, 0);
	if (e->code != REASON_VANISHED) {
		world_fail(w, "%s is told %d: %s", stays->name, (int)e->code, e->reason);
		return;
	}
	gone->cut = false;
	world_for(w, SECONDS(100));
	call_again(w, &p);
}

/* ICE has chosen at both ends: from then on consent goes on while the other side is silent. */
static bool chosen(struct world *w, void *arg)
{
	const struct couple *p = arg;
	const struct call *a = p->a->vpn->calls, *b = p->b->vpn->calls;

	(void)w;
	return a && b && a->ice && b->ice && a->ice->selected != ICE_NO_PAIR && b->ice->selected != ICE_NO_PAIR;
}

/* Back before dead-after: the call lives on. Where the NAT has forgotten the mapping meanwhile, the other side's filter may
 * keep the new one out; then both end in time. */
static void comes_back(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	struct host *gone;
	uint64_t cut_us = SECONDS(32) + world_below(w, SECONDS(50));

	if (!up(w, r, &p))
		return;
	if (!world_until(w, chosen, &p, SECONDS(35))) {
		world_fail(w, "ICE has not chosen after 35 s");
		return;
	}
	gone = world_below(w, 2) ? p.a : p.b;
	gone->cut = true;
	world_for(w, cut_us);
	gone->cut = false;
	world_for(w, SECONDS(30));
	if (w->failed)
		return;
	if (gone->nat && gone->nat->timeout_us < cut_us + SECONDS(10)) {
		world_for(w, VANISHED_US);
		if (host_event(p.a, VPN_EV_ENDED, 0)) {
			(void)both_clean(w, &p, SECONDS(10));
			return;
		}
	}
	if (traffic(w, &p, 5900))
		host_hangup(p.a, p.call);
	if (!w->failed)
		(void)both_clean(w, &p, VANISHED_US);
}

static void vanishes_early(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	struct host *gone;

	if (!pair_up(w, r, &p))
		return;
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, world_below(w, SECONDS(3)));
	gone = world_below(w, 2) ? p.a : p.b;
	gone->cut = true;
	world_trace(w, "%s has no network any more", gone->name);
	if (!until_ended(w, p.a, p.call, CALL_BOUND_US + VANISHED_US) || !both_clean(w, &p, VANISHED_US))
		return;
	if (host_event(p.a, VPN_EV_ENDED, p.call)->code == REASON_OK) {
		world_fail(w, "the call ended with 0: %s", host_event(p.a, VPN_EV_ENDED, p.call)->reason);
		return;
	}
	gone->cut = false;
	world_for(w, SECONDS(100));
	call_again(w, &p);
}

/* The tunnel does not need the exchange; its end is told on the path. */
static void exchange_vanishes(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!up(w, r, &p))
		return;
	exch_kill(w);
	world_for(w, world_below(w, SECONDS(200)));
	if (w->failed || !traffic(w, &p, 5900))
		return;
	host_hangup(world_below(w, 2) ? p.a : p.b, p.call);
	if (!both_clean(w, &p, SECONDS(20)) || !exch_start(w))
		return;
	world_for(w, SECONDS(400)); /* the registrations' back-off */
	call_again(w, &p);
}

static void exchange_vanishes_early(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!pair_up(w, r, &p))
		return;
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, world_below(w, SECONDS(3)));
	exch_kill(w);
	world_for(w, SECONDS(120));
	if (host_event(p.a, VPN_EV_UP, p.call))
		host_hangup(p.a, p.call);
	if (w->failed || !both_clean(w, &p, SECONDS(60)) || !exch_start(w))
		return;
	world_for(w, SECONDS(400));
	call_again(w, &p);
}

/* A connection to the exchange is reset at any moment: the call comes up or ends with a reason; one that is up stays up. */
static void stream_lost(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!pair_up(w, r, &p))
		return;
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, world_below(w, SECONDS(3)));
	stream_cut(world_below(w, 2) ? p.a : p.b);
	world_for(w, SECONDS(60));
	if (w->failed)
		return;
	if (host_event(p.a, VPN_EV_UP, p.call) && !host_event(p.a, VPN_EV_ENDED, p.call)) {
		if (traffic(w, &p, 5900))
			host_hangup(p.a, p.call);
	} else if (!host_event(p.a, VPN_EV_ENDED, p.call) || host_event(p.a, VPN_EV_ENDED, p.call)->code == REASON_OK) {
		world_fail(w, "neither up nor over with a reason");
	}
	if (!w->failed && both_clean(w, &p, OTHER_END_US))
		call_again(w, &p);
}

static void hang_up_early(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	struct vpn_call_status s;
	unsigned at = 0;

	if (!pair_up(w, r, &p))
		return;
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, world_below(w, MS(2500)));
	if (world_below(w, 2))
		host_hangup(p.a, p.call);
	else if (vpn_call_status(p.b->vpn, &at, &s))
		host_hangup(p.b, s.id);
	else
		host_hangup(p.a, p.call);
	if (until_ended(w, p.a, p.call, CALL_BOUND_US) && both_clean(w, &p, OTHER_END_US))
		call_again(w, &p);
}

/* Each calls the other at the same time: two calls, one each way. */
static void glare(struct world *w, const struct scenario_run *r)
{
	char alice[4096], bob[4096];
	struct couple p, back;

	(void)snprintf(alice, sizeof(alice), SERVICE_GAME "%s", peer_section(w, "bob", ID_BOB, "game"));
	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP "%s", peer_section(w, "alice", ID_ALICE, "desktop"));
	if (!pair_up_with(w, r, &p, alice, bob))
		return;
	back = (struct couple){ p.b, p.a, 0 };
	world_allow(w, p.a, p.b, 6, 5900);
	world_allow(w, p.b, p.a, 17, 27015);
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, world_below(w, MS(300)));
	back.call = host_call(p.b, ALICE_AOR, NULL, false);
	world_for(w, SECONDS(40));
	if (!host_event(p.a, VPN_EV_UP, p.call) || !host_event(p.b, VPN_EV_UP, back.call)) {
		world_fail(w, "not both calls are up");
		return;
	}
	w->came_up = true;
	world_check_up(w, p.a, p.b);
	world_check_up(w, p.b, p.a);
	if (w->failed || !traffic(w, &p, 5900) || !traffic(w, &back, 0))
		return;
	host_hangup(p.a, p.call);
	world_for(w, SECONDS(10));
	if (!traffic(w, &back, 0))
		return;
	host_hangup(p.a, host_event(p.a, VPN_EV_INCOMING, 0)->call);
	(void)both_clean(w, &p, OTHER_END_US);
}

/* A daemon dies without a word at any moment and is started again: calls work at once, and nothing is left behind. */
static void killed(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!pair_up(w, r, &p))
		return;
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, world_below(w, SECONDS(4)));
	host_kill(world_below(w, 2) ? p.a : p.b);
	world_for(w, world_below(w, SECONDS(3)));
	if (w->failed || !start_all(w))
		return;
	world_for(w, SECONDS(1)); /* offers from before the start are stale */
	call_again(w, &p);
}

/* A second call of the same key replaces the first. */
static void twice(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	unsigned first;

	if (!up(w, r, &p))
		return;
	first = p.call;
	if ((!dial(w, &p, NULL) && w->failed) || !until_ended(w, p.a, first, SECONDS(20)))
		return;
	world_for(w, SECONDS(10));
	if (w->failed || !traffic(w, &p, 5900))
		return;
	if (host_calls(p.a) != 1 || host_calls(p.b) != 1)
		world_fail(w, "%u calls at the caller, %u at the callee, expected one", host_calls(p.a),
			   host_calls(p.b));
	host_hangup(p.a, p.call);
	if (!w->failed)
		(void)both_clean(w, &p, OTHER_END_US);
}

/* The owner takes the grant, or the key, out of his configuration: at once nothing passes any more. */
static void revoked(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!up(w, r, &p))
		return;
	w->n_grants = 0; /* from now on nothing may be delivered */
	if (host_reload(p.b, world_below(w, 2) ? SERVICE_DESKTOP : "") != OK)
		world_fail(w, "the new configuration is not taken");
	for (int i = 0; i < 10; i++) {
		inner_syn(p.a, p.b, 5900);
		inner_ping(p.a, p.b);
		world_for(w, MS(200));
	}
	if (!w->failed && until_ended(w, p.a, p.call, SECONDS(30)))
		(void)both_clean(w, &p, OTHER_END_US);
	if (!w->failed && host_event(p.a, VPN_EV_ENDED, p.call)->code != REASON_REVOKED)
		world_fail(w, "ended with %d: %s", (int)host_event(p.a, VPN_EV_ENDED, p.call)->code,
			   host_event(p.a, VPN_EV_ENDED, p.call)->reason);
}

static void runs_out(struct world *w, const struct scenario_run *r)
{
	char bob[4096];
	struct couple p;

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP "%sfor = 60s\n",
		       peer_section(w, "alice", ID_ALICE, "desktop"));
	if (!pair_up_with(w, r, &p, peer_section(w, "bob", ID_BOB, NULL), bob))
		return;
	world_allow(w, p.a, p.b, 6, 5900);
	if ((!dial(w, &p, NULL) && w->failed) || !both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	if (host_event(p.a, VPN_EV_GRANTED, p.call)->until_s == 0)
		world_fail(w, "the caller is not told when it ends");
	if (!until_ended(w, p.a, p.call, SECONDS(75)) || !both_clean(w, &p, OTHER_END_US))
		return;
	if (host_event(p.a, VPN_EV_ENDED, p.call)->code != REASON_REVOKED)
		world_fail(w, "ended with %d: %s", (int)host_event(p.a, VPN_EV_ENDED, p.call)->code,
			   host_event(p.a, VPN_EV_ENDED, p.call)->reason);
}

#define MEMORY_SPAN 250 /* a call takes about this many allocations, both ends and the exchange together */

/* Memory runs out once, at any place, or again and again for some seconds: the call comes up or ends with a reason, nothing is
 * left, and as soon as there is memory calls work. */
static void no_memory(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	unsigned long n = 1 + world_below(w, MEMORY_SPAN);
	bool once = world_below(w, 2);

	if (!pair_up(w, r, &p))
		return;
	memory_ill(once ? n : 0, once ? 0 : 4 + (unsigned)world_below(w, 60));
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	world_for(w, once ? SECONDS(20) : world_below(w, SECONDS(30)));
	memory_well();
	world_trace(w, "memory: %lu of %lu allocations failed", memory_failures(), memory_count());
	if (w->failed)
		return;
	world_for(w, CALL_BOUND_US);
	if (p.call && !w->failed && !host_event(p.a, VPN_EV_ENDED, p.call)) {
		if (!host_event(p.a, VPN_EV_UP, p.call))
			world_fail(w, "neither up nor over");
		host_hangup(p.a, p.call);
	}
	if (w->failed || !both_clean(w, &p, VANISHED_US))
		return;
	world_for(w, SECONDS(120)); /* registrations' back-off */
	call_again(w, &p);
}

static const struct {
	const char *name;
	void (*run)(struct world *w, const struct scenario_run *r);
} rows[] = {
	{ "peer-vanishes", vanishes },
	{ "peer-comes-back", comes_back },
	{ "peer-vanishes-early", vanishes_early },
	{ "exchange-vanishes", exchange_vanishes },
	{ "exchange-vanishes-early", exchange_vanishes_early },
	{ "stream-lost", stream_lost },
	{ "hang-up-early", hang_up_early },
	{ "glare", glare },
	{ "killed", killed },
	{ "twice", twice },
	{ "revoked", revoked },
	{ "runs-out", runs_out },
	{ "no-memory", no_memory },
};

unsigned trouble_variants(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const char *trouble_name(unsigned i)
{
	return rows[i].name;
}

void run_trouble(struct world *w, const struct scenario_run *r)
{
	struct scenario_run mine = *r;

	any_nats(w, &mine);
	rows[r->variant].run(w, &mine);
}
