/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_mtu.c - links that carry less than an inner packet takes, and links that begin to. */
#include <stdio.h>
#include <string.h>

#include "esp/pmtu.h"
#include "scenario.h"
#include "vpn/impl.h"

#define GAME_PORT 27015
#define SEARCH_US SECONDS(30)

static const struct {
	const char *name;
	unsigned a, b; /* links */
	unsigned then; /* both, after a while; 0: as before */
	bool ip6;
	unsigned ip6_mtu; /* of the path by IPv6, which is taken first; 0: the same */
} rows[] = {
	{ "1280", 1280, 1500, 0, false, 0 },
	{ "1300", 1300, 1300, 0, false, 0 },
	{ "1400", 1400, 1400, 0, false, 0 },
	{ "1500", 1500, 1500, 0, false, 0 },
	{ "1400-and-1500", 1400, 1500, 0, false, 0 },
	{ "black-hole-1320", 1500, 1500, 1320, false, 0 },
	{ "black-hole-1280", 1400, 1500, 1280, false, 0 },
	{ "grows", 1300, 1300, 1500, false, 0 },
	{ "ip6-1400", 1400, 1400, 0, true, 0 },
	{ "another-path", 1320, 1320, 0, true, 1480 },
};

unsigned mtu_variants(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const char *mtu_name(unsigned i)
{
	return rows[i].name;
}

static unsigned mtu_of(const struct host *h)
{
	struct vpn_call_status s;
	unsigned at = 0;

	return vpn_call_status(h->vpn, &at, &s) ? s.mtu : 0;
}

/* One datagram and its answer, or what the sender was told instead. Over a network that loses. */
static bool exchange_of(struct world *w, struct couple *p, uint16_t port, size_t len, bool whole)
{
	struct inner *in = &p->a->inner;
	unsigned replies = in->n_udp_replies, told = in->n_told;

	for (int round = 0; round < 25; round++) {
		inner_udp_big(p->a, p->b, port, GAME_PORT, len, whole);
		world_for(w, MS(400));
		if (w->failed)
			return false;
		if (in->n_udp_replies > replies)
			return true;
		if (whole && in->n_told > told) {
			if (in->told_mtu < 1280 || in->told_mtu - 48 >= len) {
				world_fail(w, "told that %u bytes would pass, of %zu and 48", in->told_mtu, len);
				return false;
			}
			len = in->told_mtu - 48;
			told = in->n_told;
		}
	}
	world_fail(w, "a datagram of %zu bytes%s was not answered; MTU %u and %u", len, whole ? " in one piece" : "",
		   mtu_of(p->a), mtu_of(p->b));
	return false;
}

static bool every_size(struct world *w, struct couple *p, uint16_t port)
{
	static const size_t sizes[] = { 10, 1100, 1200, 1232, 1233, 2000, INNER_UDP_MAX };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!exchange_of(w, p, port, sizes[i], false))
			return false;
	/* as long as the TUN lets through */
	return exchange_of(w, p, port, 1352, true) && exchange_of(w, p, port, 1290, true);
}

/* Never more than the links carry, and, where none of all the probes of one size was lost, as much. */
static bool found(struct world *w, const struct couple *p, unsigned carries)
{
	const struct host *h[] = { p->a, p->b };

	for (int i = 0; i < 2; i++)
		if (mtu_of(h[i]) > carries || (!w->loss_ppm && mtu_of(h[i]) + PMTU_GRAIN <= carries)) {
			world_fail(w, "%s has found an MTU of %u where it is %u", h[i]->name, mtu_of(h[i]), carries);
			return false;
		}
	return true;
}

static bool up(struct world *w, const struct scenario_run *r, struct couple *p)
{
	char bob[4096];
	struct host_setup a = { .user = "alice", .identity = ID_ALICE, .nat = r->nat[0] };
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = r->nat[1], .extra = bob };

	(void)snprintf(bob, sizeof(bob), SERVICE_GAME "%s", peer_section(w, "alice", ID_ALICE, "game"));
	a.extra = peer_section(w, "bob", ID_BOB, NULL);
	a.has_ip6 = b.has_ip6 = rows[r->variant].ip6;
	p->a = host_new(w, &a);
	p->b = host_new(w, &b);
	p->a->mtu = rows[r->variant].a;
	p->b->mtu = rows[r->variant].b;
	/* the pair that is not in use stays one */
	if (rows[r->variant].ip6_mtu && p->a->firewall && p->b->firewall)
		p->a->firewall->timeout_us = p->b->firewall->timeout_us = SECONDS(3600);
	p->a->mtu6 = p->b->mtu6 = rows[r->variant].ip6_mtu;
	if (world_below(w, 2))
		w->loss_ppm = w->reorder_ppm = 0;
	if (!start_all(w))
		return false;
	world_allow(w, p->a, p->b, 17, GAME_PORT);
	return (dial(w, p, NULL) || !w->failed) && both_up(w, p);
}

static enum addr_family family_of(const struct host *h)
{
	return h->vpn->calls ? h->vpn->calls->path.local.family : ADDR_NONE;
}

/* ICE takes another pair, and back: what was known of the old path is not used on the new one. */
static bool other_path(struct world *w, struct couple *p, uint16_t port)
{
	enum addr_family family = family_of(p->a) == ADDR_IP4 ? ADDR_IP6 : ADDR_IP4;
	unsigned carries = family == ADDR_IP6 ? p->a->mtu6 : p->a->mtu;

	for (int i = 0; i < 100 && !w->failed && (family_of(p->a) != family || family_of(p->b) != family); i++) {
		/* one may come to nothing where packets are lost */
		if (i % 25 == 0 && family_of(p->a) != family && !nominate_other(p->a)) {
			world_fail(w, "there is no other pair");
			return false;
		}
		world_for(w, MS(200));
	}
	if (w->failed || family_of(p->a) != family || family_of(p->b) != family) {
		world_fail(w, "the call has not moved");
		return false;
	}
	if (mtu_of(p->a) > carries || mtu_of(p->b) > carries) {
		world_fail(w, "the new path is used like the old one");
		return false;
	}
	if (!exchange_of(w, p, port, 1232, false) || !exchange_of(w, p, port, 3000, false))
		return false;
	world_for(w, SEARCH_US);
	return !w->failed && found(w, p, carries) && every_size(w, p, port);
}

void run_mtu(struct world *w, const struct scenario_run *r)
{
	unsigned a = rows[r->variant].a, b = rows[r->variant].b, then = rows[r->variant].then;
	unsigned six = rows[r->variant].ip6_mtu, carries = a < b ? a : b;
	struct couple p;
	uint16_t port;

	if (!up(w, r, &p))
		return;
	port = inner_udp(p.a, p.b, GAME_PORT);
	/* from the first moment on, whatever is known yet */
	if (!exchange_of(w, &p, port, 1232, false) || !exchange_of(w, &p, port, 3000, false))
		return;
	world_for(w, SEARCH_US);
	if (six && family_of(p.a) == ADDR_IP6)
		carries = six;
	if (w->failed || !found(w, &p, carries) || !every_size(w, &p, port))
		return;
	if (then) {
		p.a->mtu = p.b->mtu = then;
		for (uint64_t end = w->now_us + (then > carries ? PMTU_RAISE_US : 0) + 2 * SEARCH_US;
		     !w->failed && w->now_us < end;) {
			inner_udp_big(p.a, p.b, port, GAME_PORT, 1300, false);
			world_for(w, SECONDS(1));
		}
		if (w->failed || !found(w, &p, then) || !every_size(w, &p, port))
			return;
	}
	if (six && (!other_path(w, &p, port) || !other_path(w, &p, port)))
		return;
	if (!traffic(w, &p, 0))
		return;
	host_hangup(p.a, p.call);
	(void)both_clean(w, &p, OTHER_END_US);
}
