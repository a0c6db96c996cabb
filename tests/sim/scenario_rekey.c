/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_rekey.c - calls that live much longer than their keys, with traffic all the time. Each end has
 * a lifetime of its own, so that now the one, now the other makes new keys; and now and then both are told to, nearly at
 * once, as two lifetimes rarely end. */
#include <stdio.h>
#include <string.h>

#include "ike/sa_impl.h"
#include "scenario.h"
#include "vpn/impl.h"

#define GAME 27015

struct course {
	const char *name;
	unsigned loss_ppm, dup_ppm, reorder_ppm;
	unsigned life_min_s, life_max_s; /* of rekey-after */
	unsigned seconds; /* of virtual time */
	unsigned gap_max_ms; /* between packets */
};
static const struct course courses[] = {
	{ "clean", 0, 0, 0, 10, 14, 600, 250 },
	{ "reordered", 0, 30000, 100000, 10, 14, 600, 250 },
	{ "lossy", 60000, 20000, 50000, 10, 14, 600, 250 },
	{ "very-lossy", 200000, 20000, 50000, 10, 30, 600, 1000 },
	{ "hours", 10000, 10000, 10000, 60, 600, 3 * 3600, 8000 },
};

unsigned rekey_variants(void)
{
	return sizeof(courses) / sizeof(courses[0]);
}

const char *rekey_name(unsigned i)
{
	return courses[i].name;
}

/* What was sent, and what the planes dropped before. */
struct traffic {
	unsigned n_asked, n_told; /* by alice, each of which is answered; by bob */
	uint16_t port; /* of a flow that goes on */
	unsigned n_in, n_replies;
	uint64_t drops[2][ESP_N_DROPS];
	uint64_t sas;
};

static void drops_of(const struct couple *p, uint64_t ret[2][ESP_N_DROPS])
{
	memcpy(ret[0], esp_plane_counters(esp_set_plane(p->a->vpn->esp, 0))->drops, sizeof(ret[0]));
	memcpy(ret[1], esp_plane_counters(esp_set_plane(p->b->vpn->esp, 0))->drops, sizeof(ret[1]));
}

static void one_packet(struct world *w, struct couple *p, struct traffic *t)
{
	if (!t->port || world_below(w, 60) == 0) {
		t->port = inner_udp(p->a, p->b, GAME);
		t->n_asked++;
	} else if (world_below(w, 2)) {
		inner_udp_on(p->a, p->b, t->port, GAME);
		t->n_asked++;
	} else if (p->b->inner.udp_from) { /* by a flow that is known there */
		inner_udp_on(p->b, p->a, GAME, p->b->inner.udp_from);
		t->n_told++;
	}
}

/* Nothing is dropped by our own doing: but for what the network doubled, and where it loses so much that consent on the
 * path is lost with it (RFC 7675), every reason is one. */
static bool none_dropped(struct world *w, const struct couple *p, const struct traffic *t)
{
	uint64_t now[2][ESP_N_DROPS];

	drops_of(p, now);
	for (int i = 0; i < 2; i++)
		for (int d = 0; d < ESP_N_DROPS; d++)
			if (d != ESP_DROP_REPLAY && !(d == ESP_DROP_HELD && w->loss_ppm > 20000) &&
			    now[i][d] != t->drops[i][d]) {
				world_fail(w, "%s dropped a packet: %s", i ? p->b->name : p->a->name,
					   esp_drop_name((enum esp_drop)d));
				return false;
			}
	return true;
}

static bool counts_fit(struct world *w, const struct couple *p, const struct traffic *t)
{
	unsigned in = p->b->inner.n_udp_in - t->n_in, replies = p->a->inner.n_udp_replies - t->n_replies;

	if (in > t->n_asked || replies > in + t->n_told)
		world_fail(w, "more arrived than was sent");
	else if (!w->loss_ppm && (in != t->n_asked || replies != in + t->n_told))
		world_fail(w, "of %u and %u packets sent %u and %u arrived, over a network that loses none", t->n_asked,
			   in + t->n_told, in, replies);
	else if (in < t->n_asked / 3)
		world_fail(w, "of %u packets only %u arrived", t->n_asked, in);
	return !w->failed;
}

static const struct ike_sa *sa_of(const struct host *h)
{
	return h->vpn->calls ? h->vpn->calls->sa : NULL;
}

static bool quiet(struct world *w, void *arg)
{
	const struct couple *p = arg;
	const struct ike_sa *a = sa_of(p->a), *b = sa_of(p->b);

	(void)w;
	return !a || !b || !call_live(p->a->vpn->calls) || !call_live(p->b->vpn->calls) ||
	       (!a->task && !a->queue && !b->task && !b->queue && a->n_children == 1 && b->n_children == 1);
}

/* True: the call has ended, which is a failure, unless the network lost a request seven times in a row. */
static bool over(struct world *w, const struct couple *p)
{
	const struct vpn_event *a = host_event(p->a, VPN_EV_ENDED, 0), *b = host_event(p->b, VPN_EV_ENDED, 0);
	bool vanished = (a && a->code == REASON_VANISHED) || (b && b->code == REASON_VANISHED);

	if ((a || b) && !(vanished && w->loss_ppm > 100000))
		world_fail(w, "the call ended with %d: %s", (int)(a ? a : b)->code, (a ? a : b)->reason);
	return a || b;
}

/* Between two rekeyings both ends hold the same. */
static bool same_keys(struct world *w, struct couple *p)
{
	bool in_time = world_until(w, quiet, p, SECONDS(60));

	if (over(w, p))
		return false;
	if (!in_time) {
		world_fail(w, "a rekeying takes more than a minute");
		return false;
	}
	world_check_up(w, p->a, p->b);
	return !w->failed;
}

static void one_begins(struct host *h, bool ike)
{
	struct call *c = h->vpn->calls;

	if (!c || !c->sa || !call_live(c) || !c->n_grants)
		return;
	(void)!(ike ? ike_sa_rekey(c->sa, h->w->now_us) : ike_sa_child_rekey(c->sa, h->w->now_us, c->grants[0].spi_in));
	host_drain(h);
}

/* Both, within about a round trip, the same or not. */
static void both_begin(struct world *w, struct couple *p)
{
	bool a_first = world_below(w, 2);

	one_begins(a_first ? p->a : p->b, world_below(w, 2));
	world_for(w, MS(world_below(w, 120)));
	one_begins(a_first ? p->b : p->a, world_below(w, 2));
}

static bool begin(struct world *w, const struct scenario_run *r, const struct course *c, struct couple *p)
{
	static char daemon[2][64];
	char bob[4096];
	struct host_setup a = { .user = "alice", .identity = ID_ALICE, .nat = r->nat[0] };
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = r->nat[1] };

	for (int i = 0; i < 2; i++)
		(void)snprintf(daemon[i], sizeof(daemon[i]), "rekey-after = %us\n",
			       (unsigned)(c->life_min_s + world_below(w, c->life_max_s - c->life_min_s + 1)));
	(void)snprintf(bob, sizeof(bob), SERVICE_GAME "%s", peer_section(w, "alice", ID_ALICE, "game"));
	a.extra = peer_section(w, "bob", ID_BOB, NULL);
	a.daemon = daemon[0];
	b.extra = bob;
	b.daemon = daemon[1];
	*p = (struct couple){ .a = host_new(w, &a), .b = host_new(w, &b) };
	world_allow(w, p->a, p->b, 17, GAME);
	return start_all(w) && (dial(w, p, NULL) || !w->failed) && both_up(w, p);
}

static void rekey(struct world *w, const struct scenario_run *r, const struct course *c)
{
	struct traffic t = { .n_asked = 0 };
	struct couple p;
	uint64_t end, check, ike;
	unsigned rounds;

	w->loss_ppm = w->dup_ppm = w->reorder_ppm = 0;
	if (!begin(w, r, c, &p))
		return;
	/* the nomination is over: a pair that changes loses packets of its own */
	world_for(w, SECONDS(10));
	w->loss_ppm = c->loss_ppm;
	w->dup_ppm = c->dup_ppm;
	w->reorder_ppm = c->reorder_ppm;
	drops_of(&p, t.drops);
	t.n_in = p.b->inner.n_udp_in;
	t.n_replies = p.a->inner.n_udp_replies;
	t.sas = w->n_sas;
	ike = sa_of(p.a) ? ike_sa_spi_i(sa_of(p.a)) : 0;
	end = w->now_us + SECONDS((uint64_t)c->seconds);
	check = w->now_us;
	while (w->now_us < end && !w->failed) {
		one_packet(w, &p, &t);
		world_for(w, MS(1 + world_below(w, c->gap_max_ms)));
		if (w->now_us < check)
			continue;
		check = w->now_us + SECONDS(1 + world_below(w, c->life_max_s));
		if (!same_keys(w, &p))
			return;
		if (world_below(w, 2))
			both_begin(w, &p);
	}
	world_for(w, SECONDS(5));
	rounds = c->seconds / c->life_max_s;
	if (w->failed || !none_dropped(w, &p, &t) || !counts_fit(w, &p, &t) || !same_keys(w, &p))
		return;
	/* each round makes an SA at either end; a retransmission takes its time */
	if (w->n_sas - t.sas < rounds || ike_sa_spi_i(sa_of(p.a)) == ike) {
		world_fail(w, "only %u Child SAs in %u rounds", (unsigned)(w->n_sas - t.sas), rounds);
		return;
	}
	host_hangup(p.a, p.call);
	(void)both_clean(w, &p, OTHER_END_US);
}

void run_rekey(struct world *w, const struct scenario_run *r)
{
	struct scenario_run mine = *r;

	any_nats(w, &mine);
	rekey(w, &mine, &courses[r->variant]);
}
