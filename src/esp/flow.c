/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/flow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Words that a tuple is hashed as. */
#define HASH_WORDS 10

/* Every list of a state has one time-out, and a packet moves its flow to the end: each is in order of expiry. */
struct list {
	uint32_t first, last, n;
};

struct owner {
	struct list half, rest; /* half: in order of expiry, too */
	uint32_t n; /* all flows */
	uint32_t prev, next; /* 1-based, of those with as many half-open ones */
};

struct esp_flows {
	struct esp_flow *flow; /* [0] is not used */
	uint32_t *bucket, mask;
	uint32_t max, n, free, owner_max;
	uint32_t top; /* places above it were never used: their memory is untouched */
	struct list lists[ESP_FLOW_STATES];
	struct owner *owner;
	uint32_t *with; /* first owner with so many half-open ones, 1 and more; 1-based */
	uint32_t most; /* an owner has so many, none has more */
	unsigned n_owners;
	uint64_t key[HASH_WORDS + 1];
};

struct esp_tuple esp_tuple_of(const struct esp_ends *ends, bool inbound)
{
	struct esp_tuple t;

	memset(&t, 0, sizeof(t));
	t.family = ends->family;
	t.protocol = ends->protocol;
	memcpy(t.local_ip, inbound ? ends->dst : ends->src, 16);
	memcpy(t.peer_ip, inbound ? ends->src : ends->dst, 16);
	t.local_port = inbound ? ends->dst_port : ends->src_port;
	t.peer_port = inbound ? ends->src_port : ends->dst_port;
	return t;
}

static bool tuple_eq(const struct esp_tuple *a, const struct esp_tuple *b)
{
	return a->family == b->family && a->protocol == b->protocol && a->local_port == b->local_port &&
	       a->peer_port == b->peer_port && !memcmp(a->local_ip, b->local_ip, 16) &&
	       !memcmp(a->peer_ip, b->peer_ip, 16);
}

/* Multilinear hashing with a random key (Dietzfelbinger 1996; strongly universal): the peer, who chooses
 * tuples but not the key, cannot make long chains. */
static uint32_t *bucket_of(struct esp_flows *f, const struct esp_tuple *t)
{
	uint32_t word[HASH_WORDS];
	uint64_t h = f->key[HASH_WORDS];

	for (unsigned i = 0; i < 4; i++) {
		word[i] = be32(t->local_ip + 4 * i);
		word[4 + i] = be32(t->peer_ip + 4 * i);
	}
	word[8] = (uint32_t)t->local_port << 16 | t->peer_port;
	word[9] = (uint32_t)t->family << 8 | t->protocol;
	for (unsigned i = 0; i < HASH_WORDS; i++)
		h += f->key[i] * word[i];
	return &f->bucket[(uint32_t)(h >> 32) & f->mask];
}

enum err esp_flows_new(const struct rng *rng, unsigned max_flows, unsigned n_owners, struct esp_flows **ret)
{
	struct esp_flows *f;
	uint32_t n = 16;

	if (max_flows == 0 || max_flows > 1u << 24 || n_owners == 0)
		return ERR_LIMIT;
	while (n < max_flows)
		n *= 2;
	f = calloc(1, sizeof(*f));
	if (!f)
		return ERR_NOMEM;
	f->flow = calloc((size_t)max_flows + 1, sizeof(*f->flow));
	f->bucket = calloc(n, sizeof(*f->bucket));
	f->owner = calloc(n_owners, sizeof(*f->owner));
	f->owner_max = max_flows > 1 ? max_flows / 2 : 1;
	f->with = calloc((size_t)f->owner_max + 1, sizeof(*f->with));
	if (!f->flow || !f->bucket || !f->owner || !f->with) {
		esp_flows_free(f);
		return ERR_NOMEM;
	}
	f->mask = n - 1;
	f->max = max_flows;
	f->n_owners = n_owners;
	rng_fill(rng, f->key, sizeof(f->key));
	*ret = f;
	return OK;
}

void esp_flows_free(struct esp_flows *f)
{
	if (!f)
		return;
	free(f->flow);
	free(f->bucket);
	free(f->owner);
	free(f->with);
	free(f);
}

unsigned esp_flows_len(const struct esp_flows *f)
{
	return f->n;
}

/* The owner's number of half-open ones was `before`. */
static void rank(struct esp_flows *f, struct owner *own, uint32_t before)
{
	uint32_t now = own->half.n, at = (uint32_t)(own - f->owner) + 1;

	if (before) {
		*(own->prev ? &f->owner[own->prev - 1].next : &f->with[before]) = own->next;
		if (own->next)
			f->owner[own->next - 1].prev = own->prev;
	}
	own->prev = own->next = 0;
	if (now) {
		own->next = f->with[now];
		if (own->next)
			f->owner[own->next - 1].prev = at;
		f->with[now] = at;
	}
	f->most = now > f->most ? now : f->most;
	while (f->most && !f->with[f->most]) /* once at most: it counts one by one */
		f->most--;
}

static void own_unlink(struct esp_flows *f, struct esp_flow *fl)
{
	struct owner *own = &f->owner[fl->owner];
	struct list *l = fl->state == ESP_FLOW_HALF ? &own->half : &own->rest;

	*(fl->own_prev ? &f->flow[fl->own_prev].own_next : &l->first) = fl->own_next;
	*(fl->own_next ? &f->flow[fl->own_next].own_prev : &l->last) = fl->own_prev;
	fl->own_prev = fl->own_next = 0;
	l->n--;
	if (l == &own->half)
		rank(f, own, l->n + 1);
}

static void own_link(struct esp_flows *f, struct esp_flow *fl)
{
	struct owner *own = &f->owner[fl->owner];
	struct list *l = fl->state == ESP_FLOW_HALF ? &own->half : &own->rest;
	uint32_t at = (uint32_t)(fl - f->flow);

	fl->own_prev = l->last;
	fl->own_next = 0;
	*(l->last ? &f->flow[l->last].own_next : &l->first) = at;
	l->last = at;
	l->n++;
	if (l == &own->half)
		rank(f, own, l->n - 1);
}

static void unlink_flow(struct esp_flows *f, struct esp_flow *fl)
{
	struct list *l = &f->lists[fl->state];

	*(fl->prev ? &f->flow[fl->prev].next : &l->first) = fl->next;
	*(fl->next ? &f->flow[fl->next].prev : &l->last) = fl->prev;
	fl->prev = fl->next = 0;
	l->n--;
}

static void link_flow(struct esp_flows *f, struct esp_flow *fl)
{
	struct list *l = &f->lists[fl->state];
	uint32_t at = (uint32_t)(fl - f->flow);

	fl->prev = l->last;
	fl->next = 0;
	*(l->last ? &f->flow[l->last].next : &l->first) = at;
	l->last = at;
	l->n++;
}

void esp_flow_remove(struct esp_flows *f, struct esp_flow *fl)
{
	uint32_t at = (uint32_t)(fl - f->flow), *link = bucket_of(f, &fl->tuple);

	while (*link != at)
		link = &f->flow[*link].chain;
	*link = fl->chain;
	unlink_flow(f, fl);
	own_unlink(f, fl);
	f->owner[fl->owner].n--;
	f->n--;
	memset(fl, 0, sizeof(*fl));
	fl->next = f->free;
	f->free = at;
}

struct esp_flow *esp_flow_find(struct esp_flows *f, uint64_t now_us, const struct esp_tuple *t)
{
	for (uint32_t at = *bucket_of(f, t); at; at = f->flow[at].chain) {
		struct esp_flow *fl = &f->flow[at];

		if (!tuple_eq(&fl->tuple, t))
			continue;
		if (fl->expires_us > now_us)
			return fl;
		esp_flow_remove(f, fl); /* the tick is late */
		return NULL;
	}
	return NULL;
}

bool esp_flow_opens(const struct esp_inner *p)
{
	if (p->ends.protocol != ESP_PROTO_TCP)
		return true;
	return (p->tcp_flags & (ESP_TCP_SYN | ESP_TCP_ACK | ESP_TCP_RST | ESP_TCP_FIN)) == ESP_TCP_SYN;
}

static void evict(struct esp_flows *f, uint32_t owner)
{
	esp_flow_remove(f, &f->flow[f->owner[owner].half.first]);
}

bool esp_flow_make_room(struct esp_flows *f, uint32_t owner)
{
	struct owner *own = &f->owner[owner];

	if (own->n < f->owner_max && f->n < f->max)
		return true;
	if (own->half.n) {
		evict(f, owner);
		return true;
	}
	if (own->n >= f->owner_max || !f->most)
		return false;
	evict(f, f->with[f->most] - 1);
	return true;
}

static uint64_t expiry(const struct esp_flow *fl, enum esp_flow_state state, uint64_t now_us)
{
	static const uint64_t life[2][ESP_FLOW_STATES] = {
		{ ESP_UDP_US, 0, ESP_UDP_US, 0 }, /* datagrams */
		{ ESP_TCP_SHORT_US, ESP_TCP_OPEN_US, 0, ESP_TCP_SHORT_US }, /* TCP */
	};

	return now_us + life[fl->tuple.protocol == ESP_PROTO_TCP][state];
}

struct esp_flow *esp_flow_open(struct esp_flows *f, uint64_t now_us, const struct esp_tuple *t, bool inbound,
			       uint32_t owner, uint32_t grant, void *sa)
{
	uint32_t at = f->free ? f->free : ++f->top, *bucket = bucket_of(f, t);
	struct esp_flow *fl = &f->flow[at];

	assert(at <= f->max && owner < f->n_owners);
	if (at == f->free)
		f->free = fl->next;
	*fl = (struct esp_flow){ .tuple = *t,
				 .state = ESP_FLOW_HALF,
				 .opened_inbound = inbound,
				 .owner = owner,
				 .grant = grant,
				 .sa = sa,
				 .chain = *bucket };
	*bucket = at;
	f->n++;
	f->owner[owner].n++;
	fl->expires_us = expiry(fl, fl->state, now_us);
	link_flow(f, fl);
	own_link(f, fl);
	return fl;
}

bool esp_flow_begins_anew(const struct esp_flow *fl, const struct esp_inner *p)
{
	return fl->state == ESP_FLOW_CLOSING && esp_flow_opens(p);
}

bool esp_flow_admits(const struct esp_flow *fl, const struct esp_inner *p, bool inbound, bool may_open)
{
	if (fl->tuple.protocol != ESP_PROTO_TCP || inbound == fl->opened_inbound || may_open)
		return true;
	/* The other side may answer, but not start anew under the same ports. */
	return !((p->tcp_flags & ESP_TCP_SYN) && !(p->tcp_flags & ESP_TCP_ACK));
}

static enum esp_flow_state tcp_after(struct esp_flow *fl, const struct esp_inner *p, bool inbound)
{
	bool from_opener = inbound == fl->opened_inbound;

	if (fl->state == ESP_FLOW_CLOSING)
		return ESP_FLOW_CLOSING;
	if (p->tcp_flags & ESP_TCP_RST)
		return ESP_FLOW_CLOSING;
	fl->fin_peer |= inbound && (p->tcp_flags & ESP_TCP_FIN);
	fl->fin_local |= !inbound && (p->tcp_flags & ESP_TCP_FIN);
	if (fl->fin_local && fl->fin_peer)
		return ESP_FLOW_CLOSING;
	if (!from_opener && (p->tcp_flags & ESP_TCP_SYN))
		fl->replied = true;
	/* The opener's first segment after the reply ends the handshake. */
	if (fl->state == ESP_FLOW_HALF && fl->replied && from_opener && !(p->tcp_flags & ESP_TCP_SYN))
		return ESP_FLOW_OPEN;
	return fl->state;
}

void esp_flow_note(struct esp_flows *f, uint64_t now_us, struct esp_flow *fl, const struct esp_inner *p, bool inbound)
{
	enum esp_flow_state to;
	bool own;

	if (fl->tuple.protocol == ESP_PROTO_TCP) {
		to = tcp_after(fl, p, inbound);
		if (to == ESP_FLOW_CLOSING && fl->state == ESP_FLOW_CLOSING)
			return; /* not renewed: what is closed ends, whatever comes */
	} else {
		fl->replied |= inbound != fl->opened_inbound;
		to = fl->replied ? ESP_FLOW_SHORT : ESP_FLOW_HALF;
	}
	if (to == fl->state && !fl->next) { /* the last already */
		fl->expires_us = expiry(fl, to, now_us);
		return;
	}
	own = to == ESP_FLOW_HALF || fl->state == ESP_FLOW_HALF;
	unlink_flow(f, fl);
	if (own)
		own_unlink(f, fl);
	fl->state = to;
	fl->expires_us = expiry(fl, to, now_us);
	link_flow(f, fl);
	if (own)
		own_link(f, fl);
}

void esp_flows_walk(struct esp_flows *f, uint32_t owner, bool (*keep)(void *arg, struct esp_flow *fl), void *arg)
{
	const uint32_t first[2] = { f->owner[owner].half.first, f->owner[owner].rest.first };

	for (int i = 0; i < 2; i++)
		for (uint32_t at = first[i], next; at; at = next) {
			next = f->flow[at].own_next;
			if (!keep(arg, &f->flow[at]))
				esp_flow_remove(f, &f->flow[at]);
		}
}

void esp_flows_tick(struct esp_flows *f, uint64_t now_us)
{
	for (unsigned i = 0; i < ESP_FLOW_STATES; i++)
		while (f->lists[i].first && f->flow[f->lists[i].first].expires_us <= now_us)
			esp_flow_remove(f, &f->flow[f->lists[i].first]);
}

uint64_t esp_flows_deadline_us(const struct esp_flows *f)
{
	uint64_t due_us = TIME_NEVER;

	for (unsigned i = 0; i < ESP_FLOW_STATES; i++) {
		uint64_t us = f->lists[i].first ? f->flow[f->lists[i].first].expires_us : TIME_NEVER;

		due_us = us < due_us ? us : due_us;
	}
	return due_us;
}
