/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_move.c - calls whose path changes under traffic: a NAT that silently takes another mapping, and pairs that ICE
 * replaces by others that work as well (RFC 4555; docs/protocol.md). */
#include <stdio.h>

#include "ice/agent_impl.h"
#include "ike/sa_impl.h"
#include "scenario.h"
#include "vpn/impl.h"

#define GAME 27015
/* A mapping that changed is noticed by the next consent check, 6 s later at most (RFC 7675, 5.1); the old pair is given up after three
 * questions; then there is the update. */
#define FOLLOW_US SECONDS(6 + 1 + 1)

enum what { CALLER_REBOUND, CALLEE_REBOUND, REPLACED, REPLACED_REKEYED, REPLACED_LOSSY, UNANSWERED, REFUSED, VARIANTS };
static const char *const names[VARIANTS] = { "caller-rebound", "callee-rebound", "replaced", "replaced-rekeyed",
					     "replaced-lossy", "unanswered",     "refused" };

unsigned move_variants(void)
{
	return VARIANTS;
}

const char *move_name(unsigned i)
{
	return names[i];
}

struct traffic {
	uint16_t port;
	unsigned n_asked, n_told, n_in, n_replies;
};

static void traffic_begin(struct world *w, const struct couple *p, struct traffic *t)
{
	world_for(w, SECONDS(1)); /* what was sent before has arrived */
	t->n_asked = t->n_told = 0;
	t->n_in = p->b->inner.n_udp_in;
	t->n_replies = p->a->inner.n_udp_replies;
}

/* By alice, who is answered, or by bob. */
static void one_packet(struct world *w, struct couple *p, struct traffic *t)
{
	if (!t->port) {
		t->port = inner_udp(p->a, p->b, GAME);
		t->n_asked++;
	} else if (world_below(w, 2) || !p->b->inner.udp_from) {
		inner_udp_on(p->a, p->b, t->port, GAME);
		t->n_asked++;
	} else {
		inner_udp_on(p->b, p->a, GAME, p->b->inner.udp_from);
		t->n_told++;
	}
}

static void flow(struct world *w, struct couple *p, struct traffic *t, uint64_t us)
{
	uint64_t end = w->now_us + us;

	while (w->now_us < end && !w->failed) {
		one_packet(w, p, t);
		world_for(w, 100 + world_below(w, MS(15)));
	}
}

/* Not one inner packet was lost. */
static bool all_arrived(struct world *w, struct couple *p, const struct traffic *t)
{
	unsigned in, replies;

	world_for(w, SECONDS(1));
	in = p->b->inner.n_udp_in - t->n_in;
	replies = p->a->inner.n_udp_replies - t->n_replies;
	if (in != t->n_asked || replies != in + t->n_told)
		world_fail(w, "of %u and %u packets sent %u and %u arrived", t->n_asked, t->n_asked + t->n_told, in,
			   replies);
	return !w->failed;
}

static struct call *call_of(const struct host *h)
{
	struct call *c = h->vpn->calls;

	return c && call_live(c) ? c : NULL;
}

/* No move is under way, and each end sends where the other one is. */
static bool settled(struct world *w, void *arg)
{
	const struct couple *p = arg;
	const struct call *a = call_of(p->a), *b = call_of(p->b);

	(void)w;
	return a && b && a->sa && b->sa && ike_sa_up(a->sa) && ike_sa_up(b->sa) && !a->sa->task && !a->sa->queue &&
	       !b->sa->task && !b->sa->queue && !a->sa->move.update_due && !b->sa->move.has_maybe &&
	       path_eq(&a->path, &a->aim) && path_eq(&a->path, &a->sa->path) && path_eq(&b->path, &b->sa->path) &&
	       !a->stale && !b->stale;
}

static bool settles(struct world *w, struct couple *p, uint64_t limit_us)
{
	if (world_until(w, settled, p, limit_us))
		return true;
	world_fail(w, "the move is not over after %u s", (unsigned)(limit_us / 1000000));
	return false;
}

static bool begin(struct world *w, struct couple *p, enum nat_kind alice, enum nat_kind bob, bool ip6,
		  const char *daemon)
{
	static char text[4096];
	struct host_setup a = { .user = "alice", .identity = ID_ALICE, .nat = alice, .has_ip6 = ip6, .daemon = daemon };
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = bob, .has_ip6 = ip6, .daemon = daemon };

	(void)snprintf(text, sizeof(text), SERVICE_GAME "%s", peer_section(w, "alice", ID_ALICE, "game"));
	a.extra = peer_section(w, "bob", ID_BOB, NULL);
	b.extra = text;
	*p = (struct couple){ .a = host_new(w, &a), .b = host_new(w, &b) };
	world_allow(w, p->a, p->b, 17, GAME);
	if (!start_all(w) || (!dial(w, p, NULL) && w->failed) || !both_up(w, p))
		return false;
	world_for(w, SECONDS(10)); /* all checks are over */
	return settles(w, p, SECONDS(10));
}

static void end(struct world *w, struct couple *p)
{
	if (!call_of(p->a) || !call_of(p->b)) {
		world_fail(w, "the call has ended");
		return;
	}
	world_check_up(w, p->a, p->b);
	if (w->failed)
		return;
	host_hangup(world_below(w, 2) ? p->a : p->b, p->call);
	(void)both_clean(w, p, OTHER_END_US);
}

/* A box restarts and takes other ports. */
static void forget(struct nat *n)
{
	n->n = 0;
	n->preserves_port = false;
}

static void rebound(struct world *w, bool caller)
{
	/* from a new mapping a strict filter before the other end lets nothing in */
	enum nat_kind moving = (enum nat_kind)(NAT_CONE + world_below(w, NAT_KINDS - NAT_CONE));
	enum nat_kind other = (enum nat_kind)(NAT_NONE + world_below(w, NAT_PORT));
	struct traffic t = { .port = 0 };
	struct couple p;
	struct host *h;

	if (!begin(w, &p, caller ? moving : other, caller ? other : moving, false, NULL))
		return;
	h = caller ? p.a : p.b;
	traffic_begin(w, &p, &t);
	flow(w, &p, &t, SECONDS(2));
	if (!all_arrived(w, &p, &t))
		return;
	for (int i = 0; i < 3 && !w->failed; i++) {
		struct addr before = call_of(caller ? p.b : p.a)->path.remote;
		unsigned n = host_event_count(caller ? p.b : p.a, VPN_EV_PATH_CHANGED);

		world_trace(w, "the NAT of %s forgets", h->name);
		forget(h->nat);
		flow(w, &p, &t, FOLLOW_US);
		if (!settles(w, &p, SECONDS(1)))
			return;
		traffic_begin(w, &p, &t);
		flow(w, &p, &t, SECONDS(5));
		if (!all_arrived(w, &p, &t))
			return;
		if (addr_eq(&call_of(caller ? p.b : p.a)->path.remote, &before) ||
		    host_event_count(caller ? p.b : p.a, VPN_EV_PATH_CHANGED) == n) {
			world_fail(w, "the other end does not know the new mapping");
			return;
		}
	}
	end(w, &p);
}

bool nominate_other(struct host *h)
{
	struct ice_agent *a = call_of(h)->ice;

	for (unsigned k = 1; k < a->n_pairs; k++) {
		unsigned i = (a->selected + k) % a->n_pairs;

		if (i != a->selected && a->pairs[i].state == PAIR_SUCCEEDED) {
			ice_nominate(a, h->w->now_us, i);
			host_drain(h);
			return true;
		}
	}
	return false;
}

static void rekey_somewhere(struct world *w, struct couple *p)
{
	struct call *c = call_of(world_below(w, 2) ? p->a : p->b);

	if (world_below(w, 2))
		(void)!ike_sa_rekey(c->sa, w->now_us);
	else if (c->n_grants)
		(void)!ike_sa_child_rekey(c->sa, w->now_us, c->grants[0].spi_in);
	host_drain(p->a);
	host_drain(p->b);
}

/* Strictly no inner packet is lost: both paths work. */
static void replaced(struct world *w, enum what what)
{
	struct traffic t = { .port = 0 };
	struct couple p;
	unsigned n;

	w->loss_ppm = w->dup_ppm = w->reorder_ppm = 0;
	if (!begin(w, &p, NAT_NONE, NAT_NONE, true, NULL))
		return;
	n = host_event_count(p.a, VPN_EV_PATH_CHANGED);
	if (what == REPLACED_LOSSY) {
		w->loss_ppm = 50000;
		w->dup_ppm = w->reorder_ppm = 50000;
	}
	traffic_begin(w, &p, &t);
	for (int i = 0; i < 20 && !w->failed; i++) {
		if (!call_of(p.a) || !call_of(p.b))
			break;
		if (!nominate_other(p.a)) {
			world_fail(w, "there is no other pair");
			return;
		}
		if (what == REPLACED_REKEYED) {
			world_for(w, world_below(w, MS(300)));
			rekey_somewhere(w, &p);
		}
		/* now and then the next one comes before this one is over */
		flow(w, &p, &t, world_below(w, 3) ? SECONDS(2) : world_below(w, MS(300)));
	}
	w->loss_ppm = w->dup_ppm = w->reorder_ppm = 0;
	flow(w, &p, &t, SECONDS(1));
	if (!settles(w, &p, SECONDS(40)) || (what != REPLACED_LOSSY && !all_arrived(w, &p, &t)))
		return;
	if (host_event_count(p.a, VPN_EV_PATH_CHANGED) < n + 5) {
		world_fail(w, "the path has not changed");
		return;
	}
	end(w, &p);
}

/* The update gets no answer for a while: ESP stays on the old path as long as consent on it is fresh, then nothing is sent, and with
 * the answer it goes on. */
static void unanswered(struct world *w)
{
	struct traffic t = { .port = 0 };
	struct couple p;
	struct path old;

	if (!begin(w, &p, NAT_NONE, NAT_NONE, true, NULL))
		return;
	old = call_of(p.a)->path;
	call_of(p.b)->sa->window.next_in++; /* bob takes no request of alice's */
	if (!nominate_other(p.a)) {
		world_fail(w, "there is no other pair");
		return;
	}
	traffic_begin(w, &p, &t);
	flow(w, &p, &t, SECONDS(20));
	if (!all_arrived(w, &p, &t))
		return;
	if (!path_eq(&call_of(p.a)->path, &old) || call_of(p.a)->stale || call_of(p.b)->stale) {
		world_fail(w, "ESP does not go by the old path");
		return;
	}
	world_for(w, SECONDS(16)); /* a check on the old path may have crossed the nomination */
	if (!call_of(p.a) || !call_of(p.b) || !call_of(p.a)->stale || !call_of(p.b)->stale) {
		world_fail(w, "30 s after the last consent something is still sent by the old path");
		return;
	}
	call_of(p.b)->sa->window.next_in--;
	if (!settles(w, &p, SECONDS(10)))
		return;
	traffic_begin(w, &p, &t);
	flow(w, &p, &t, SECONDS(2));
	if (all_arrived(w, &p, &t))
		end(w, &p);
}

static enum ike_place nowhere(void *arg, const struct path *path)
{
	(void)arg;
	(void)path;
	return IKE_PLACE_NO;
}

/* The update is refused: on the old path nothing says any more that somebody wants what is sent there. In the end the other side
 * agrees, or the call is over. */
static void refused(struct world *w)
{
	struct traffic t = { .port = 0 };
	struct couple p;
	struct path old;
	bool agrees = world_below(w, 2);

	if (!begin(w, &p, NAT_NONE, NAT_NONE, true, "dead-after = 100\n"))
		return;
	old = call_of(p.a)->path;
	call_of(p.b)->sa->cfg.place = nowhere;
	if (!nominate_other(p.a)) {
		world_fail(w, "there is no other pair");
		return;
	}
	traffic_begin(w, &p, &t);
	flow(w, &p, &t, SECONDS(20));
	if (!all_arrived(w, &p, &t))
		return;
	if (!path_eq(&call_of(p.a)->path, &old)) {
		world_fail(w, "ESP does not go by the old path");
		return;
	}
	world_for(w, SECONDS(16));
	if (!call_of(p.a) || !call_of(p.b) || !call_of(p.a)->stale || !call_of(p.b)->stale) {
		world_fail(w, "30 s after the last consent something is still sent by the old path");
		return;
	}
	if (!agrees) {
		world_for(w, SECONDS(102));
		if (call_of(p.a) || call_of(p.b))
			world_fail(w, "the call does not end");
		return;
	}
	call_of(p.b)->sa->cfg.place = move_place;
	if (!settles(w, &p, SECONDS(40)))
		return;
	traffic_begin(w, &p, &t);
	flow(w, &p, &t, SECONDS(2));
	if (all_arrived(w, &p, &t))
		end(w, &p);
}

void run_move(struct world *w, const struct scenario_run *r)
{
	w->loss_ppm = w->dup_ppm = w->reorder_ppm = 0;
	if (r->variant <= CALLEE_REBOUND)
		rebound(w, r->variant == CALLER_REBOUND);
	else if (r->variant == UNANSWERED)
		unanswered(w);
	else if (r->variant == REFUSED)
		refused(w);
	else
		replaced(w, (enum what)r->variant);
}
