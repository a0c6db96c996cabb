/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario.c - the table of scenarios, and the steps that they share. */
#include "scenario.h"

#include <stdio.h>
#include <string.h>

const struct scenario scenarios[] = {
	{ .name = "call", .run = run_call, .by_nat = true },
	{ .name = "two", .run = run_two },
	{ .name = "third", .run = run_third },
	{ .name = "lan", .run = run_lan },
	{ .name = "ip6", .run = run_ip6 },
	{ .name = "provider", .run = run_provider },
	{ .name = "refuse", .run = run_refuse, .n_variants = refuse_variants, .variant_name = refuse_name },
	{ .name = "ask", .run = run_ask, .n_variants = ask_variants, .variant_name = ask_name },
	{ .name = "trouble", .run = run_trouble, .n_variants = trouble_variants, .variant_name = trouble_name },
	{ .name = "evil", .run = run_evil, .n_variants = evil_cases, .variant_name = evil_case_name },
	{ .name = "network", .run = run_network, .n_variants = network_variants, .variant_name = network_name },
	{ .name = "rekey", .run = run_rekey, .n_variants = rekey_variants, .variant_name = rekey_name },
	{ .name = "mtu", .run = run_mtu, .n_variants = mtu_variants, .variant_name = mtu_name },
	{ .name = "move", .run = run_move, .n_variants = move_variants, .variant_name = move_name },
	{ .name = "attack", .run = run_attack, .n_variants = attack_variants, .variant_name = attack_name },
};
const unsigned n_scenarios = sizeof(scenarios) / sizeof(scenarios[0]);

static bool all_registered(struct world *w, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < w->n_hosts; i++)
		if (w->hosts[i]->vpn && !host_registered(w->hosts[i]))
			return false;
	return true;
}

bool start_all(struct world *w)
{
	for (unsigned i = 0; i < w->n_hosts; i++) {
		if (!w->hosts[i]->vpn && !host_start(w->hosts[i]))
			return false;
		world_for(w, world_below(w, MS(1500)));
	}
	if (world_until(w, all_registered, NULL, SECONDS(60)))
		return true;
	world_fail(w, "not everybody is registered after 60 s");
	return false;
}

bool pair_up_with(struct world *w, const struct scenario_run *r, struct couple *p, const char *alice, const char *bob)
{
	struct host_setup a = { .user = "alice", .identity = ID_ALICE, .nat = r->nat[0], .extra = alice };
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = r->nat[1], .extra = bob };

	a.udp_signalling = world_below(w, 4) == 0;
	b.udp_signalling = world_below(w, 4) == 0;
	p->a = host_new(w, &a);
	p->b = host_new(w, &b);
	p->call = 0;
	return start_all(w);
}

bool pair_up(struct world *w, const struct scenario_run *r, struct couple *p)
{
	char bob[4096];

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP "%s", peer_section(w, "alice", ID_ALICE, "desktop"));
	if (!pair_up_with(w, r, p, peer_section(w, "bob", ID_BOB, NULL), bob))
		return false;
	world_allow(w, p->a, p->b, 6, 5900);
	return true;
}

static bool up_or_over(struct world *w, void *arg)
{
	const struct couple *p = arg;

	(void)w;
	return host_event(p->a, VPN_EV_UP, p->call) || host_event(p->a, VPN_EV_ENDED, p->call);
}

bool dial(struct world *w, struct couple *p, const char *service)
{
	uint64_t began = w->now_us;

	p->call = host_call(p->a, BOB_AOR, service, false);
	if (!p->call) {
		world_fail(w, "the call is refused at once");
		return false;
	}
	if (!world_until(w, up_or_over, p, CALL_BOUND_US)) {
		world_fail(w, "neither up nor over after %u s", (unsigned)(CALL_BOUND_US / 1000000));
		return false;
	}
	if (host_event(p->a, VPN_EV_ENDED, p->call))
		return false;
	w->came_up = true;
	w->setup_us = w->now_us - began;
	return true;
}

static bool callee_up(struct world *w, void *arg)
{
	const struct couple *p = arg;

	(void)w;
	return host_event(p->b, VPN_EV_UP, 0) != NULL;
}

bool both_up(struct world *w, struct couple *p)
{
	const struct vpn_event *over = host_event(p->a, VPN_EV_ENDED, p->call);

	if (over) {
		world_fail(w, "not up, but ended with %d: %s", (int)over->code, over->reason);
		return false;
	}
	if (!world_until(w, callee_up, p, SECONDS(10))) {
		world_fail(w, "up at the caller, but not at the callee");
		return false;
	}
	world_check_up(w, p->a, p->b);
	return !w->failed;
}

bool traffic(struct world *w, struct couple *p, uint16_t port)
{
	struct inner a = p->a->inner, b = p->b->inner;

	for (int round = 0; round < 25; round++) {
		const struct inner *na = &p->a->inner, *nb = &p->b->inner;

		if (na->n_echo_replies == a.n_echo_replies)
			inner_ping(p->a, p->b);
		if (nb->n_echo_replies == b.n_echo_replies)
			inner_ping(p->b, p->a);
		if (port && na->n_synacks == a.n_synacks)
			inner_syn(p->a, p->b, port);
		world_for(w, MS(800));
		if (w->failed)
			return false;
		if (na->n_echo_replies > a.n_echo_replies && nb->n_echo_replies > b.n_echo_replies &&
		    (!port || na->n_synacks > a.n_synacks))
			return true;
	}
	world_fail(w, "no traffic through the tunnel within 20 s: %u and %u echoes, %u connections",
		   p->a->inner.n_echo_replies - a.n_echo_replies, p->b->inner.n_echo_replies - b.n_echo_replies,
		   p->a->inner.n_synacks - a.n_synacks);
	return false;
}

struct end {
	const struct host *h;
	unsigned call;
};

static bool has_ended(struct world *w, void *arg)
{
	const struct end *e = arg;

	(void)w;
	return host_event(e->h, VPN_EV_ENDED, e->call) != NULL;
}

bool until_ended(struct world *w, const struct host *h, unsigned call, uint64_t limit_us)
{
	struct end e = { h, call };

	if (world_until(w, has_ended, &e, limit_us))
		return true;
	world_fail(w, "%s: the call has not ended after %u s", h->name, (unsigned)(limit_us / 1000000));
	return false;
}

static bool is_clean(struct world *w, void *arg)
{
	const struct couple *p = arg;

	(void)w;
	return !host_calls(p->a) && !host_calls(p->b);
}

bool both_clean(struct world *w, struct couple *p, uint64_t limit_us)
{
	if (world_until(w, is_clean, p, limit_us))
		return true;
	world_fail(w, "%u calls at %s and %u at %s are left %u s after the end", host_calls(p->a), p->a->name,
		   host_calls(p->b), p->b->name, (unsigned)(limit_us / 1000000));
	return false;
}

bool ended_with(struct world *w, struct couple *p, enum reason code)
{
	const struct vpn_event *e = host_event(p->a, VPN_EV_ENDED, p->call);

	if (!e) {
		world_fail(w, "the call has not ended, expected %d", (int)code);
		return false;
	}
	if (e->code != code) {
		world_fail(w, "the call ended with %d (%s), expected %d", (int)e->code, e->reason, (int)code);
		return false;
	}
	return both_clean(w, p, OTHER_END_US);
}

void any_nats(struct world *w, struct scenario_run *r)
{
	do {
		r->nat[0] = (enum nat_kind)world_below(w, NAT_KINDS);
		r->nat[1] = (enum nat_kind)world_below(w, NAT_KINDS);
	} while (!nat_pair_works(r->nat[0], r->nat[1]));
}
