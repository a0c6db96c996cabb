/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/world.c - the virtual clock, the queue of events and what must hold at every step. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/exchange.h"
#include "vpn/impl.h"

#define STEPS_MAX 400000 /* of one run: more is a loop */
#define IDLE_TICKS_MAX 1000 /* of one daemon without the clock moving */

/* ---- findings ---- */

void world_trace(struct world *w, const char *fmt, ...)
{
	va_list args;

	if (!w->trace)
		return;
	printf("# %10.6f ", (double)w->now_us / 1e6);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

void world_fail(struct world *w, const char *fmt, ...)
{
	va_list args;

	if (w->failed)
		return;
	w->failed = true;
	va_start(args, fmt);
	(void)vsnprintf(w->why, sizeof(w->why), fmt, args);
	va_end(args);
	world_trace(w, "FAILED: %s", w->why);
}

/* ---- the queue: a heap by time, then by order of posting ---- */

static bool before(const struct event *a, const struct event *b)
{
	return a->due_us != b->due_us ? a->due_us < b->due_us : a->serial < b->serial;
}

void world_post(struct world *w, const struct event *e)
{
	struct event *own = sim_new(sizeof(*own));
	unsigned i;

	*own = *e;
	own->serial = w->serial++;
	own->bytes = sim_copy(span_of(e->bytes, e->len));
	if (w->n_heap == w->cap_heap) {
		w->cap_heap = w->cap_heap ? 2 * w->cap_heap : 256;
		w->heap = sim_grow(w->heap, w->cap_heap * sizeof(struct event *));
	}
	for (i = w->n_heap++; i && before(own, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = own;
}

static struct event *take(struct world *w)
{
	struct event *top = w->heap[0], *last = w->heap[--w->n_heap];
	unsigned i = 0;

	for (;;) {
		unsigned c = 2 * i + 1;

		if (c >= w->n_heap)
			break;
		if (c + 1 < w->n_heap && before(w->heap[c + 1], w->heap[c]))
			c++;
		if (!before(w->heap[c], last))
			break;
		w->heap[i] = w->heap[c];
		i = c;
	}
	if (w->n_heap)
		w->heap[i] = last;
	return top;
}

static void event_free(struct event *e)
{
	free(e->bytes);
	free(e);
}

/* ---- life ---- */

uint64_t world_below(struct world *w, uint64_t n)
{
	return rng_u64(&w->net_rng) % n;
}

struct world *world_new(uint64_t seed, uint64_t salt, bool trace)
{
	struct world *w = sim_new(sizeof(*w));

	w->seed = seed;
	w->trace = trace;
	w->now_us = SECONDS(1000);
	w->net_rng = rng_seeded_init(&w->net_state, seed * 1000003 + salt);
	w->rng = rng_seeded_init(&w->rng_state, (seed * 1000003 + salt) ^ 0x5851f42d4c957f2dull);
	random_seed(seed * 1000003 + salt);
	w->exchange_addr = addr_ip4(0xc6336401u, 5060);
	w->stun_addr = addr_ip4(0xc6336401u, 3478);
	w->exchange_deadline_us = TIME_NEVER;
	w->next_exchange_stream = 1;
	w->loss_ppm = (unsigned)world_below(w, 50001);
	w->dup_ppm = (unsigned)world_below(w, 20001);
	w->reorder_ppm = (unsigned)world_below(w, 50001);
	w->exchange_delay_us = world_below(w, MS(50));
	wrap_watch(w);
	world_trace(w, "seed %llu: loss %u ppm, duplicates %u ppm, reordering %u ppm", (unsigned long long)seed,
		    w->loss_ppm, w->dup_ppm, w->reorder_ppm);
	return w;
}

void world_free(struct world *w)
{
	exch_kill(w);
	for (unsigned i = 0; i < w->n_hosts; i++)
		host_free(w->hosts[i]);
	for (unsigned i = 0; i < w->n_heap; i++)
		event_free(w->heap[i]);
	wrap_watch(NULL);
	memory_well();
	free(w->heap);
	free(w->streams);
	free(w->evil.recorded);
	free(w->evil.made);
	free(w);
}

void world_allow(struct world *w, const struct host *caller, const struct host *callee, uint8_t protocol, uint16_t port)
{
	w->grants[w->n_grants++] = (struct oracle_grant){ caller->index, callee->index, protocol, port };
}

void world_allow_network(struct world *w, const struct host *caller, const struct host *callee, const char *prefix)
{
	struct oracle_network n = { .caller = caller->index, .callee = callee->index };

	if (addr_prefix_parse(span_str(prefix), &n.prefix) != OK)
		abort();
	w->networks[w->n_networks++] = n;
}

/* ---- time ---- */

static uint64_t next_us(const struct world *w)
{
	uint64_t t = w->n_heap ? w->heap[0]->due_us : TIME_NEVER;

	for (unsigned i = 0; i < w->n_hosts; i++)
		if (w->hosts[i]->vpn && w->hosts[i]->deadline_us < t)
			t = w->hosts[i]->deadline_us;
	if (w->exchange && w->exchange_deadline_us < t)
		t = w->exchange_deadline_us;
	return t;
}

static void deliver(struct world *w, struct event *e)
{
	switch (e->kind) {
	case EVENT_DATAGRAM: net_arrive(w, e); break;
	case EVENT_STREAM_BYTES: stream_bytes(w, e); break;
	case EVENT_STREAM_STATE: stream_state(w, e); break;
	}
}

/* One event or one tick. */
static void step(struct world *w, uint64_t t)
{
	if (t > w->now_us) {
		w->now_us = t;
		for (unsigned i = 0; i < w->n_hosts; i++)
			w->hosts[i]->idle_ticks = 0;
		w->exchange_idle_ticks = 0;
	}
	if (++w->n_steps > STEPS_MAX)
		world_fail(w, "more than %d steps: something goes round in circles", STEPS_MAX);
	if (w->n_heap && w->heap[0]->due_us <= w->now_us) {
		struct event *e = take(w);

		deliver(w, e);
		event_free(e);
		return;
	}
	for (unsigned i = 0; i < w->n_hosts; i++) {
		struct host *h = w->hosts[i];

		if (!h->vpn || h->deadline_us > w->now_us)
			continue;
		if (++h->idle_ticks > IDLE_TICKS_MAX)
			world_fail(w, "%s has a deadline that ticking does not move", h->name);
		host_tick(h);
		return;
	}
	if (++w->exchange_idle_ticks > IDLE_TICKS_MAX)
		world_fail(w, "the exchange has a deadline that ticking does not move");
	exch_tick(w);
}

bool world_until(struct world *w, bool (*done)(struct world *w, void *arg), void *arg, uint64_t limit_us)
{
	uint64_t end_us = w->now_us + limit_us;

	while (!w->failed) {
		uint64_t t;

		if (done && done(w, arg))
			return true;
		t = next_us(w);
		if (t > end_us) {
			w->now_us = end_us;
			return false;
		}
		step(w, t);
	}
	return false;
}

void world_for(struct world *w, uint64_t us)
{
	(void)world_until(w, NULL, NULL, us);
}

/* ---- both ends hold the same ---- */

static const struct sim_sa *sa_in(const struct world *w, uint32_t spi_in, const struct esp_plane *plane)
{
	for (unsigned i = 0; i < w->n_sas && i < SIM_SAS_MAX; i++)
		if (w->sas[i].plane == plane && w->sas[i].cfg.spi_in == spi_in)
			return &w->sas[i];
	return NULL;
}

static bool ts_eq(const struct esp_ts *a, unsigned n_a, const struct esp_ts *b, unsigned n_b)
{
	return n_a == n_b && !memcmp(a, b, n_a * sizeof(*a));
}

static void check_grants(struct world *w, const struct host *a, const struct host *b, const struct call *ca,
			 const struct call *cb)
{
	for (unsigned i = 0; i < ca->n_grants; i++) {
		const struct sim_sa *sa = sa_in(w, ca->grants[i].spi_in, esp_set_plane(a->vpn->esp, 0)), *sb;
		const struct grant *gb = NULL;

		for (unsigned k = 0; k < cb->n_grants; k++)
			if (cb->grants[k].g.id == ca->grants[i].g.id)
				gb = &cb->grants[k];
		if (!sa || !gb) {
			world_fail(w, "grant %u of %s is not known at %s", ca->grants[i].g.id, a->name, b->name);
			return;
		}
		sb = sa_in(w, sa->cfg.spi_out, esp_set_plane(b->vpn->esp, 0));
		if (!sb || sb->cfg.spi_out != sa->cfg.spi_in || gb->spi_in != sb->cfg.spi_in)
			world_fail(w, "the SPIs of grant %u do not fit", ca->grants[i].g.id);
		else if (memcmp(sa->cfg.key_in, sb->cfg.key_out, sizeof(sa->cfg.key_in)) ||
			 memcmp(sa->cfg.key_out, sb->cfg.key_in, sizeof(sa->cfg.key_in)) || sa->cfg.alg != sb->cfg.alg)
			world_fail(w, "up, but the ends hold different keys");
		else if (!ts_eq(sa->cfg.ts_local, sa->cfg.n_local, sb->cfg.ts_peer, sb->cfg.n_peer) ||
			 !ts_eq(sa->cfg.ts_peer, sa->cfg.n_peer, sb->cfg.ts_local, sb->cfg.n_local))
			world_fail(w, "the ends of a Child SA have different selectors");
		else if (gb->g.port != ca->grants[i].g.port || gb->g.protocol != ca->grants[i].g.protocol ||
			 strcmp(gb->g.name, ca->grants[i].g.name))
			world_fail(w, "the ends of a grant have different services");
	}
}

static const struct call *call_with(const struct host *h, const struct host *peer, bool outgoing)
{
	const struct call *newest = NULL;

	for (const struct call *c = h->vpn->calls; c; c = c->next)
		if (call_live(c) && c->outgoing == outgoing && c->has_key && !memcmp(c->key, peer->key, SPKI_HASH))
			newest = c;
	return newest;
}

void world_check_up(struct world *w, const struct host *a, const struct host *b)
{
	const struct call *ca = call_with(a, b, true), *cb = call_with(b, a, false);

	if (!ca || !cb) {
		world_fail(w, "up, but not a call of %s's key at %s", ca ? a->name : b->name, ca ? b->name : a->name);
		return;
	}
	if (!ca->sa || !cb->sa || !ike_sa_up(ca->sa) || !ike_sa_up(cb->sa))
		world_fail(w, "up, but not both ends have an IKE SA that is up");
	else if (ike_sa_spi_i(ca->sa) != ike_sa_spi_i(cb->sa) || ike_sa_spi_r(ca->sa) != ike_sa_spi_r(cb->sa))
		world_fail(w, "up, but the IKE SAs differ");
	else if (memcmp(ca->ike_cfg->bind_hash, cb->ike_cfg->bind_hash, 32) ||
		 memcmp(ca->ike_cfg->tag, cb->ike_cfg->tag, 8))
		world_fail(w, "up, but the descriptions differ");
	else if (strcmp(ca->peer, b->aor) || strcmp(cb->peer, a->aor) || memcmp(ca->peer_address, b->self, 16) ||
		 memcmp(cb->peer_address, a->self, 16))
		world_fail(w, "up, but with another name or address than the peer's");
	else
		check_grants(w, a, b, ca, cb);
}

/* ---- the end: nothing is left ---- */

static void check_balance(struct world *w, struct host *h)
{
	for (unsigned i = 0; i < h->n_peers; i++)
		if (h->peers[i].up)
			world_fail(w, "%s: PEER_UP of call %u without PEER_DOWN", h->name, h->peers[i].call);
	for (unsigned i = 0; i < h->n_forwards; i++)
		if (h->forwards[i].open)
			world_fail(w, "%s: forward of call %u is not closed", h->name, h->forwards[i].call);
	if (h->n_networks)
		world_fail(w, "%s: %u networks are left", h->name, h->n_networks);
	if (h->n_bad_wants)
		world_fail(w, "%s: %u requests to the host make no sense", h->name, h->n_bad_wants);
}

/* Every call that a user heard of has ended, once, with a sentence, and nothing came after. */
static void check_ends(struct world *w, const struct host *h)
{
	for (unsigned i = 0; i < h->n_events; i++) {
		const struct vpn_event *e = &h->events[i].e;
		unsigned n_ends = 0;

		for (unsigned k = i; e->call && k < h->n_events; k++)
			if (h->events[k].e.call == e->call) {
				if (n_ends)
					world_fail(w, "%s: call %u goes on after its end", h->name, e->call);
				n_ends += h->events[k].e.kind == VPN_EV_ENDED;
			}
		if (e->call && (n_ends != 1 || (e->kind == VPN_EV_ENDED && !e->reason[0])))
			world_fail(w, "%s: call %u has no end, or no reason", h->name, e->call);
	}
}

static bool hosts_idle(struct world *w, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < w->n_hosts; i++)
		if (w->hosts[i]->vpn && !vpn_idle(w->hosts[i]->vpn))
			return false;
	return true;
}

static bool exchange_idle(struct world *w, void *arg)
{
	struct exchange_stats s;

	(void)arg;
	if (!w->exchange)
		return true;
	exchange_stats(w->exchange, &s);
	return !s.n_contexts;
}

void world_finish(struct world *w)
{
	struct vpn_call_status s;
	unsigned at = 0;

	for (unsigned i = 0; i < w->n_hosts; i++)
		if (w->hosts[i]->vpn) {
			vpn_hangup_all(w->hosts[i]->vpn, w->now_us);
			host_drain(w->hosts[i]);
		}
	if (!world_until(w, hosts_idle, NULL, SECONDS(80)) && !w->failed)
		world_fail(w, "a daemon has something left 80 s after its end");
	for (unsigned i = 0; i < w->n_hosts; i++) {
		struct host *h = w->hosts[i];

		if (!h->vpn)
			continue;
		if (vpn_call_status(h->vpn, &at, &s))
			world_fail(w, "%s still lists a call", h->name);
		check_balance(w, h);
		check_ends(w, h);
		for (unsigned k = 0; k < w->n_sas && k < SIM_SAS_MAX; k++)
			if (w->sas[k].plane == esp_set_plane(h->vpn->esp, 0) &&
			    esp_spi_taken(esp_set_plane(h->vpn->esp, 0), w->sas[k].cfg.spi_in))
				world_fail(w, "%s still has an SA", h->name);
	}
	if (!world_until(w, exchange_idle, NULL, SECONDS(200)) && !w->failed)
		world_fail(w, "the exchange has a request left 200 s after the end");
}
