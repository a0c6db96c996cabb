/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_ask.c - `ask = yes`: somebody at the callee decides, or does not. */
#include <stdio.h>
#include <string.h>

#include "scenario.h"
#include "vpn/impl.h"

#define ASK_US SECONDS(60)

/* alice calls bob, who is asked; both ends wait. */
struct question {
	struct couple p;
	unsigned at_bob; /* the call's number there */
};

static bool is_waiting(struct world *w, void *arg)
{
	const struct question *q = arg;

	(void)w;
	return host_event(q->p.a, VPN_EV_ENDED, q->p.call) ||
	       (host_event(q->p.a, VPN_EV_WAITING, q->p.call) && host_event(q->p.b, VPN_EV_ASKED, 0));
}

/* Nothing is open anywhere: not a Child SA, not an echo. */
static bool nothing_yet(struct world *w, struct question *q)
{
	unsigned n = q->p.a->inner.n_echo_replies + q->p.b->inner.n_syn_in;

	for (int i = 0; i < 3; i++) {
		inner_ping(q->p.a, q->p.b);
		inner_syn(q->p.a, q->p.b, 5900);
		world_for(w, MS(100));
	}
	if (w->n_sas || q->p.a->inner.n_echo_replies + q->p.b->inner.n_syn_in != n)
		world_fail(w, "something is open before the answer: %u SAs", w->n_sas);
	return !w->failed;
}

static bool ask_with(struct world *w, const struct scenario_run *r, struct question *q, const char *service)
{
	static const uint8_t none[SPKI_HASH];
	const struct vpn_event *e;
	char bob[4096];

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP SERVICE_GAME "%sask = yes\n",
		       peer_section(w, "alice", ID_ALICE, "desktop, game"));
	if (!pair_up_with(w, r, &q->p, peer_section(w, "bob", ID_BOB, NULL), bob))
		return false;
	world_allow(w, q->p.a, q->p.b, 6, 5900);
	if (!service)
		world_allow(w, q->p.a, q->p.b, 17, 27015);
	q->p.call = host_call(q->p.a, BOB_AOR, service, false);
	if (!world_until(w, is_waiting, q, CALL_BOUND_US) || !host_event(q->p.b, VPN_EV_ASKED, 0)) {
		world_fail(w, "nobody is asked");
		return false;
	}
	e = host_event(q->p.b, VPN_EV_ASKED, 0);
	q->at_bob = e->call;
	if (memcmp(e->key, q->p.a->key, SPKI_HASH) || !memcmp(e->key, none, SPKI_HASH) || strcmp(e->peer, ALICE_AOR) ||
	    e->level != LEVEL_PINNED || !host_event(q->p.b, VPN_EV_AUTHENTICATED, q->at_bob))
		world_fail(w, "the owner sees another caller than the proved one");
	return !w->failed && nothing_yet(w, q);
}

static bool answer(struct world *w, struct question *q, bool yes, enum err expected)
{
	const char *why;
	enum err e = host_answer(q->p.b, q->at_bob, yes, &why);

	if (e != expected)
		world_fail(w, "the answer gives %s: %s", err_name(e), why);
	return e == expected;
}

static bool up_or_over(struct world *w, void *arg)
{
	const struct question *q = arg;

	(void)w;
	return host_event(q->p.a, VPN_EV_UP, q->p.call) || host_event(q->p.a, VPN_EV_ENDED, q->p.call);
}

static bool comes_up(struct world *w, struct question *q)
{
	if (!world_until(w, up_or_over, q, SECONDS(40)) || !both_up(w, &q->p)) {
		world_fail(w, "not up after the answer");
		return false;
	}
	w->came_up = true;
	return traffic(w, &q->p, 5900);
}

static void said_yes(struct world *w, const struct scenario_run *r)
{
	struct question q;

	if (!ask_with(w, r, &q, world_below(w, 2) ? "desktop" : NULL))
		return;
	world_for(w, world_below(w, ASK_US - SECONDS(10)));
	if (!nothing_yet(w, &q) || !answer(w, &q, true, OK) || !comes_up(w, &q))
		return;
	(void)answer(w, &q, world_below(w, 2), ERR_NOTFOUND); /* twice */
	world_for(w, world_below(w, 2 * ASK_US)); /* the question's time has no meaning any more */
	if (!w->failed && traffic(w, &q.p, 5900)) {
		host_hangup(world_below(w, 2) ? q.p.a : q.p.b, world_below(w, 2) ? q.p.call : q.at_bob);
		host_hangup(q.p.a, q.p.call);
		(void)both_clean(w, &q.p, OTHER_END_US);
	}
}

static void said_no(struct world *w, const struct scenario_run *r)
{
	struct question q;

	if (!ask_with(w, r, &q, NULL))
		return;
	world_for(w, world_below(w, ASK_US - SECONDS(10)));
	if (!answer(w, &q, false, OK) || !until_ended(w, q.p.a, q.p.call, SECONDS(40)) ||
	    !ended_with(w, &q.p, REASON_DECLINED))
		return;
	if (w->n_sas)
		world_fail(w, "an SA was made for a call that was declined");
	(void)answer(w, &q, true, ERR_NOTFOUND);
}

static void silence(struct world *w, const struct scenario_run *r)
{
	struct question q;

	if (!ask_with(w, r, &q, NULL) || !until_ended(w, q.p.a, q.p.call, ASK_US + SECONDS(12)) ||
	    !ended_with(w, &q.p, REASON_NOT_AVAILABLE))
		return;
	if (w->n_sas)
		world_fail(w, "an SA was made although nobody answered");
	(void)answer(w, &q, true, ERR_NOTFOUND);
}

static void hang_up(struct world *w, const struct scenario_run *r)
{
	struct question q;

	if (!ask_with(w, r, &q, NULL))
		return;
	world_for(w, world_below(w, SECONDS(20)));
	host_hangup(q.p.a, q.p.call);
	if (both_clean(w, &q.p, OTHER_END_US))
		(void)answer(w, &q, true, ERR_NOTFOUND);
}

/* The yes and the caller's hang-up cross. */
static void crossing(struct world *w, const struct scenario_run *r)
{
	const char *why;
	struct question q;

	if (!ask_with(w, r, &q, NULL))
		return;
	if (world_below(w, 2)) {
		host_hangup(q.p.a, q.p.call);
		world_for(w, world_below(w, MS(300)));
		(void)!host_answer(q.p.b, q.at_bob, true, &why);
	} else {
		if (!answer(w, &q, true, OK))
			return;
		world_for(w, world_below(w, MS(600)));
		host_hangup(q.p.a, q.p.call);
	}
	(void)both_clean(w, &q.p, OTHER_END_US);
}

static void vanishes(struct world *w, const struct scenario_run *r)
{
	const struct vpn_event *e;
	struct question q;
	struct host *gone;

	if (!ask_with(w, r, &q, NULL))
		return;
	gone = world_below(w, 2) ? q.p.a : q.p.b;
	gone->cut = true;
	world_trace(w, "%s has no network any more", gone->name);
	world_for(w, world_below(w, SECONDS(40)));
	if (world_below(w, 2) && !answer(w, &q, true, OK)) /* the owner cannot know */
		return;
	if (!until_ended(w, q.p.a, q.p.call, SECONDS(200)) || !both_clean(w, &q.p, SECONDS(200)))
		return;
	e = host_event(q.p.a, VPN_EV_ENDED, q.p.call);
	if (e->code != REASON_VANISHED && e->code != REASON_NOT_AVAILABLE)
		world_fail(w, "the caller is told %d: %s", (int)e->code, e->reason);
	gone->cut = false;
	world_for(w, SECONDS(100));
	if (w->failed || !start_all(w))
		return;
	q.p.call = host_call(q.p.a, BOB_AOR, NULL, false);
	if (!world_until(w, is_waiting, &q, CALL_BOUND_US) || host_event(q.p.b, VPN_EV_ASKED, 0)->call == q.at_bob) {
		world_fail(w, "nobody is asked the second time");
		return;
	}
	q.at_bob = host_event(q.p.b, VPN_EV_ASKED, 0)->call;
	if (answer(w, &q, true, OK) && comes_up(w, &q))
		host_hangup(q.p.a, q.p.call);
	if (!w->failed)
		(void)both_clean(w, &q.p, OTHER_END_US);
}

/* The caller dials again without hanging up: one question stays. */
static void calls_again(struct world *w, const struct scenario_run *r)
{
	struct question q, old;

	if (!ask_with(w, r, &q, NULL))
		return;
	old = q;
	q.p.call = host_call(q.p.a, BOB_AOR, NULL, false);
	if (!until_ended(w, q.p.b, q.at_bob, CALL_BOUND_US))
		return;
	world_for(w, SECONDS(12));
	q.at_bob = host_event(q.p.b, VPN_EV_ASKED, 0)->call;
	if (q.at_bob == old.at_bob || host_calls(q.p.b) != 1) {
		world_fail(w, "%u calls at the callee, not the one question", host_calls(q.p.b));
		return;
	}
	if (!answer(w, &old, true, ERR_NOTFOUND) || !answer(w, &q, true, OK) || !comes_up(w, &q))
		return;
	host_hangup(q.p.a, q.p.call);
	(void)both_clean(w, &q.p, OTHER_END_US);
}

/* A hostile callee grants what nobody asked for, while the caller waits. */
static void forged(struct world *w, struct question *q)
{
	const struct ike_grant wrong[] = {
		{ .request = 1, .id = 1, .protocol = 6, .port = 22, .name = "desktop" },
		{ .id = 2, .protocol = 17, .port = 27015, .name = "game" },
		{ .id = 3, .protocol = 0, .port = 5900, .name = "desktop" },
		{ .id = 4, .protocol = 58, .port = 5900, .name = "desktop" },
		{ .id = 5, .protocol = 6, .port = 0, .name = "desktop" },
		{ .id = 0xc0000001u, .protocol = 6, .port = 5900, .name = "desktop" },
		{ .id = 6, .protocol = 6, .port = 5900, .name = "" },
	};
	struct call *c = vpn_call_find(q->p.b->vpn, q->at_bob);

	for (size_t i = 0; c && i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct ike_decision d = { .verdict = IKE_GRANTED, .request = c->ask->request, .n_grants = 1 };

		d.grants[0] = wrong[i];
		if (!d.grants[0].request)
			d.grants[0].request = c->ask->request;
		if (ike_sa_grant_later(c->sa, w->now_us, &d) != OK)
			world_fail(w, "the hostile callee cannot say it");
	}
	host_drain(q->p.b);
}

static void evil(struct world *w, const struct scenario_run *r)
{
	struct question q;

	if (!ask_with(w, r, &q, "desktop"))
		return;
	forged(w, &q);
	world_for(w, SECONDS(20));
	if (w->failed)
		return;
	if (host_event(q.p.a, VPN_EV_GRANTED, 0) || q.p.a->n_forwards || !vpn_call_find(q.p.a->vpn, q.p.call) ||
	    vpn_call_find(q.p.a->vpn, q.p.call)->state != CALL_WAITING) {
		world_fail(w, "a grant that was not asked for counts");
		return;
	}
	if (nothing_yet(w, &q) && answer(w, &q, true, OK) && comes_up(w, &q))
		host_hangup(q.p.a, q.p.call);
	if (!w->failed)
		(void)both_clean(w, &q.p, OTHER_END_US);
}

static const struct {
	const char *name;
	void (*run)(struct world *w, const struct scenario_run *r);
} rows[] = {
	{ "yes", said_yes },      { "no", said_no },        { "silence", silence },   { "hang-up", hang_up },
	{ "crossing", crossing }, { "vanishes", vanishes }, { "again", calls_again }, { "evil", evil },
};

unsigned ask_variants(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const char *ask_name(unsigned i)
{
	return rows[i].name;
}

void run_ask(struct world *w, const struct scenario_run *r)
{
	struct scenario_run mine = *r;

	any_nats(w, &mine);
	rows[r->variant].run(w, &mine);
}
