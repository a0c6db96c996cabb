/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/ike_pair.h - an initiator and a responder back to back in virtual time, with their owners. Side 0
 * is alice, who calls; side 1 is bob. A datagram takes 10 ms; `filter` may change or drop it. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "ike/peek.h"
#include "ike/sa_impl.h"

#define ALICE 0
#define BOB 1
#define FLIGHT_US MS(10)
#define FLYING_MAX 64
#define KINDS (IKE_EV_FAILED + 1)

struct flying {
	uint64_t due_us;
	int to;
	struct path path; /* as `to` sees it */
	uint8_t bytes[IKE_MSG_MAX];
	size_t len;
};

struct pair {
	struct rng_seeded seed;
	struct rng rng;
	struct ike_config cfg[2];
	struct ike_sa *sa[2];
	struct path path[2];
	uint64_t now_us;
	struct flying *air[FLYING_MAX];
	unsigned n_air, n_sent;
	/* true: deliver. n counts from 0 over both sides. */
	bool (*filter)(struct pair *p, int from, unsigned n, uint8_t *msg, size_t *len);
	/* With it addresses count: the path as the receiver sees it, to be changed by what is on the way. False: lost. */
	bool (*wire)(struct pair *p, int from, struct path *path, struct span msg);
	void *arg;
	struct ike_cookies *cookies; /* bob's dispatcher asks for them */
	bool stock[2]; /* takes its vendor ID away */
	/* owners */
	struct ike_decision decision, child_decision;
	bool undecided;
	unsigned n_events[2][KINDS];
	unsigned n_over[2]; /* CHILD_GONE, and nothing has its traffic */
	struct ike_event last[2][KINDS];
	struct ike_child children[2][32];
	unsigned n_children[2];
	uint32_t taken; /* an SPI that spi_taken() calls taken, 0: none */
};

static struct identity *pair_ids[3]; /* alice, bob, eve: made once, keys are slow */

static inline void pair_identities(void)
{
	static const char *const aors[] = { "alice@example.com", "bob@example.com", "bob@example.com" };

	for (int i = 0; i < 3 && !pair_ids[i]; i++)
		if (identity_generate(&aors[i], 1, 1700000000, &pair_ids[i]) != OK)
			abort();
}

static inline void pair_identities_done(void)
{
	for (int i = 0; i < 3; i++)
		identity_free(pair_ids[i]);
}

static inline bool pair_spi_taken(void *arg, uint32_t spi)
{
	const struct pair *p = arg;

	return p->taken && spi == p->taken;
}

static inline struct ike_ts pair_ts(uint8_t last, uint8_t protocol, uint16_t port_lo, uint16_t port_hi)
{
	struct ike_ts t = { .family = ADDR_IP6, .protocol = protocol, .port_lo = port_lo, .port_hi = port_hi };

	t.ip_lo[0] = t.ip_hi[0] = 0xfd;
	t.ip_lo[15] = t.ip_hi[15] = last;
	return t;
}

static inline void pair_expect(struct ike_config *cfg, const struct identity *peer)
{
	cfg->n_fingerprints = 1;
	cfg->fingerprints[0].hash = HASH_SHA256;
	cfg->has_peer_key = true;
	if (hash_of(HASH_SHA256, identity_cert(peer), cfg->fingerprints[0].value) != OK ||
	    spki_hash(identity_spki(peer), cfg->peer_key) != OK)
		abort();
}

static inline void pair_init(struct pair *p, uint64_t seed)
{
	static const char *const aors[] = { "alice@example.com", "bob@example.com" };

	pair_identities();
	memset(p, 0, sizeof(*p));
	p->rng = rng_seeded_init(&p->seed, seed);
	p->now_us = SECONDS(1000);
	for (int i = 0; i < 2; i++) {
		struct ike_config *cfg = &p->cfg[i];

		cfg->rng = &p->rng;
		cfg->initiator = i == ALICE;
		cfg->identity = pair_ids[i];
		memcpy(cfg->local_aor, aors[i], strlen(aors[i]));
		memcpy(cfg->peer_aor, aors[!i], strlen(aors[!i]));
		pair_expect(cfg, pair_ids[!i]);
		cfg->has_binding = true;
		memset(cfg->tag, 0x11, sizeof(cfg->tag));
		memset(cfg->bind_hash, 0x22, sizeof(cfg->bind_hash));
		cfg->spi_taken = pair_spi_taken;
		cfg->spi_arg = p;
		p->path[i].local = addr_ip4(0xc0000200u + (uint32_t)i, 4500);
		p->path[i].remote = addr_ip4(0xc0000200u + (uint32_t)!i, 4500);
	}
	p->cfg[ALICE].request = 7;
	p->cfg[ALICE].tsi.n = p->cfg[ALICE].tsr.n = 1;
	p->cfg[ALICE].tsi.ts[0] = pair_ts(1, 0, 0, 65535);
	p->cfg[ALICE].tsr.ts[0] = pair_ts(2, 0, 0, 65535);
	/* bob grants desktop and ssh; the Child SA of IKE_AUTH is the desktop's */
	p->decision = (struct ike_decision){
		.verdict = IKE_GRANTED,
		.request = 7,
		.n_grants = 2,
		.grants = { { .request = 7, .id = 101, .protocol = 6, .port = 5900, .name = "desktop" },
			    { .request = 7, .id = 102, .protocol = 6, .port = 22, .seconds = 60, .name = "ssh" } }
	};
	p->decision.ts_local.n = p->decision.ts_peer.n = 1;
	p->decision.ts_local.ts[0] = pair_ts(2, 6, 5900, 5900);
	p->decision.ts_peer.ts[0] = pair_ts(1, 6, 0, 65535);
	p->child_decision = p->decision;
	p->child_decision.n_grants = 1;
	p->child_decision.ts_local.ts[0] = pair_ts(2, 6, 22, 22);
}

static inline enum err pair_new(struct pair *p)
{
	enum err e = ike_sa_new(&p->cfg[ALICE], &p->sa[ALICE]);

	return e == OK ? ike_sa_new(&p->cfg[BOB], &p->sa[BOB]) : e;
}

static inline void pair_done(struct pair *p)
{
	ike_sa_free(p->sa[ALICE]);
	ike_sa_free(p->sa[BOB]);
	ike_cookies_free(p->cookies);
	for (unsigned i = 0; i < p->n_air; i++)
		free(p->air[i]);
	memset(p->last, 0, sizeof(p->last));
	p->sa[0] = p->sa[1] = NULL;
	p->cookies = NULL;
	p->n_air = 0;
}

/* Puts a datagram on its way. Allocation in tests does not take part in the ladder's count of what is ours, but may
 * be hit: then it is lost. */
static inline void pair_throw(struct pair *p, int to, struct span msg, uint64_t delay_us)
{
	struct flying *f;

	if (p->n_air == FLYING_MAX || msg.len > IKE_MSG_MAX)
		return;
	f = malloc(sizeof(*f));
	if (!f)
		return;
	f->due_us = p->now_us + delay_us;
	f->to = to;
	f->path = p->path[to];
	f->len = msg.len;
	memcpy(f->bytes, msg.p, msg.len);
	p->air[p->n_air++] = f;
}

/* A datagram that left by this path. */
static inline void pair_wire(struct pair *p, int from, const struct path *sent, struct span msg)
{
	struct path seen = { .transport = sent->transport, .local = sent->remote, .remote = sent->local };
	unsigned n = p->n_air;

	if (p->wire && !p->wire(p, from, &seen, msg))
		return;
	pair_throw(p, !from, msg, FLIGHT_US);
	if (p->wire && p->n_air > n)
		p->air[n]->path = seen;
}

/* Loses all that is on its way. */
static inline void pair_clear(struct pair *p)
{
	while (p->n_air)
		free(p->air[--p->n_air]);
}

/* The i-th byte of `what`, wherever that is in the message: nobody knows it any more. */
static inline void pair_flip(uint8_t *msg, size_t len, struct span what, size_t i)
{
	size_t at = span_find_span(span_of(msg, len), what);

	if (at + what.len <= len)
		msg[at + i] ^= 0xff;
}

/* A stock peer: our vendor ID becomes one that nobody knows, in the datagram and where AUTH takes it from. */
static inline void pair_stock(struct ike_sa *sa, uint8_t *msg, size_t len)
{
	if (len < IKE_HDR || msg[18] != IKE_SA_INIT)
		return;
	pair_flip(msg, len, ike_vendor_id(), 0);
	if (!sa->setup)
		return;
	if (sa->cfg.initiator)
		pair_flip(sa->setup->init_i, sa->setup->init_i_len, ike_vendor_id(), 0);
	else
		pair_flip(sa->setup->init_r, sa->setup->init_r_len, ike_vendor_id(), 0);
}

static inline void pair_outputs(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct out o;

		while (p->sa[i] && ike_sa_poll_output(p->sa[i], &o)) {
			uint8_t msg[IKE_MSG_MAX];
			size_t len = o.bytes.len;

			memcpy(msg, o.bytes.p, len);
			if (p->stock[i])
				pair_stock(p->sa[i], msg, len);
			if (!p->filter || p->filter(p, i, p->n_sent, msg, &len))
				pair_wire(p, i, &o.path, span_of(msg, len));
			p->n_sent++;
		}
	}
}

static inline void pair_events(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		struct ike_event e;

		while (p->sa[i] && ike_sa_poll_event(p->sa[i], &e)) {
			p->n_events[i][e.kind]++;
			p->last[i][e.kind] = e;
			p->n_over[i] += e.kind == IKE_EV_CHILD_GONE && !e.replaced;
			if (e.kind == IKE_EV_CHILD_UP && p->n_children[i] < 32)
				p->children[i][p->n_children[i]++] = e.child;
			if (e.kind == IKE_EV_ASKED && !p->undecided)
				ike_sa_decide(p->sa[i], p->now_us, &p->decision);
			if (e.kind == IKE_EV_CHILD_ASKED && !p->undecided)
				ike_sa_decide(p->sa[i], p->now_us, &p->child_decision);
			ike_event_done(&e);
		}
	}
}

static inline void pair_deliver(struct pair *p, struct flying *f)
{
	struct span msg = span_of(f->bytes, f->len);
	struct ike_peek k;

	if (f->to == BOB && p->cookies && ike_peek(msg, &k) == OK && k.exchange == IKE_SA_INIT && !k.is_response &&
	    !ike_cookies_valid(p->cookies, p->now_us, msg, &p->path[BOB].remote)) {
		uint8_t mem[256];
		struct wr w = wr_of(mem, sizeof(mem));

		if (ike_cookies_challenge(p->cookies, p->now_us, msg, &p->path[BOB].remote, &w) == OK)
			pair_throw(p, ALICE, wr_done(&w), FLIGHT_US);
		return;
	}
	if (p->sa[f->to])
		ike_sa_input(p->sa[f->to], p->now_us, &f->path, msg);
}

static inline uint64_t pair_next(const struct pair *p, int *ret_air)
{
	uint64_t t = TIME_NEVER;

	*ret_air = -1;
	/* `air` is in order of sending, so that equal times keep it */
	for (unsigned i = 0; i < p->n_air; i++)
		if (p->air[i]->due_us < t) {
			t = p->air[i]->due_us;
			*ret_air = (int)i;
		}
	for (int i = 0; i < 2; i++)
		if (p->sa[i] && ike_sa_deadline_us(p->sa[i]) < t) {
			t = ike_sa_deadline_us(p->sa[i]);
			*ret_air = -1;
		}
	return t;
}

/* Everything that happens up to `until`. */
static inline void pair_run(struct pair *p, uint64_t until_us)
{
	for (;;) {
		int at;
		uint64_t t;

		pair_events(p);
		pair_outputs(p);
		t = pair_next(p, &at);
		if (t > until_us)
			break;
		if (t > p->now_us)
			p->now_us = t;
		if (at >= 0) {
			struct flying *f = p->air[at];

			p->n_air--;
			memmove(&p->air[at], &p->air[at + 1], (p->n_air - (unsigned)at) * sizeof(p->air[0]));
			pair_deliver(p, f);
			free(f);
		} else {
			for (int i = 0; i < 2; i++)
				if (p->sa[i] && ike_sa_deadline_us(p->sa[i]) <= p->now_us)
					ike_sa_tick(p->sa[i], p->now_us);
		}
	}
	p->now_us = until_us;
}

static inline void pair_for(struct pair *p, uint64_t us)
{
	pair_run(p, p->now_us + us);
}

static inline bool pair_up(const struct pair *p)
{
	return p->sa[ALICE] && p->sa[BOB] && ike_sa_up(p->sa[ALICE]) && ike_sa_up(p->sa[BOB]);
}

/* The n-th Child SA of both sides is one: what one sends with, the other receives with. */
static inline bool pair_child_same(const struct pair *p, unsigned n)
{
	const struct ike_child *a = &p->children[ALICE][n], *b = &p->children[BOB][n];

	return p->n_children[ALICE] > n && p->n_children[BOB] > n && a->spi_in == b->spi_out &&
	       a->spi_out == b->spi_in && a->key_len == b->key_len && a->alg == b->alg && a->key_len >= 20 &&
	       !memcmp(a->key_in, b->key_out, a->key_len) && !memcmp(a->key_out, b->key_in, a->key_len) &&
	       memcmp(a->key_in, a->key_out, a->key_len) && a->spi_in >= IKE_ESP_SPI_OURS &&
	       b->spi_in >= IKE_ESP_SPI_OURS && a->request == b->request && a->grant_id == b->grant_id &&
	       !memcmp(&a->ts_local, &b->ts_peer, sizeof(a->ts_local)) &&
	       !memcmp(&a->ts_peer, &b->ts_local, sizeof(a->ts_peer)) && a->we_initiated != b->we_initiated;
}
