/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/flow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Words that a tuple is hashed as. */
#define HASH_WORDS 10

/* Every list has one time-out, and a packet moves its flow to the end: each is in order of expiry. */
struct list {
	uint32_t first, last, n;
};

struct owner {
	struct list half;
	uint32_t n; /* all flows */
};

struct esp_flows {
	struct esp_flow *flow; /* [0] is not used */
	uint32_t *bucket, mask;
	uint32_t max, n, free, owner_max;
	uint32_t top; /* places above it were never used: their memory is untouched */
	struct list lists[ESP_FLOW_STATES]; /* HALF: see the owners */
	struct owner *owner;
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
	if (!f->flow || !f->bucket || !f->owner) {
		esp_flows_free(f);
		return ERR_NOMEM;
	}
	f->mask = n - 1;
	f->max = max_flows;
	f->owner_max = max_flows > 1 ? max_flows / 2 : 1;
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
	free(f);
}

unsigned esp_flows_len(const struct esp_flows *f)
{
	return f->n;
}

static struct list *list_of(struct esp_flows *f, const struct esp_flow *fl)
{
	return fl->state == ESP_FLOW_HALF ? &f->owner[fl->owner].half : &f->lists[fl->state];
}

static void unlink_flow(struct esp_flows *f, struct esp_flow *fl)
{
	struct list *l = list_of(f, fl);

	*(fl->prev ? &f->flow[fl->prev].next : &l->first) = fl->next;
	*(fl->next ? &f->flow[fl->next].prev : &l->last) = fl->prev;
	fl->prev = fl->next = 0;
	l->n--;
}

static void link_flow(struct esp_flows *f, struct esp_flow *fl)
{
	struct list *l = list_of(f, fl);
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
	uint32_t worst = 0;

	if (own->n < f->owner_max && f->n < f->max)
		return true;
	if (own->half.n) {
		evict(f, owner);
		return true;
	}
	if (own->n >= f->owner_max)
		return false;
	for (uint32_t i = 1; i < f->n_owners; i++)
		if (f->owner[i].half.n > f->owner[worst].half.n)
			worst = i;
	if (!f->owner[worst].half.n)
		return false;
	evict(f, worst);
	return true;
}

static void enter(struct esp_flows *f, uint64_t now_us, struct esp_flow *fl, enum esp_flow_state to)
{
	static const uint64_t life[2][ESP_FLOW_STATES] = {
		{ ESP_UDP_US, 0, ESP_UDP_US, 0 }, /* datagrams */
		{ ESP_TCP_SHORT_US, ESP_TCP_OPEN_US, 0, ESP_TCP_SHORT_US }, /* TCP */
	};

	fl->state = to;
	fl->expires_us = now_us + life[fl->tuple.protocol == ESP_PROTO_TCP][to];
	link_flow(f, fl);
}

struct esp_flow *esp_flow_open(struct esp_flows *f, uint64_t now_us, const struct esp_tuple *t, bool inbound,
			       uint32_t owner, uint32_t grant, void *sa)
{
	uint32_t at = f->free ? f->free : ++f->top, *bucket = bucket_of(f, t);
	struct esp_flow *fl = &f->flow[at];

	assert(at <= f->max && owner < f->n_owners);
	if (at == f->free)
		f->free = fl->next;
	*fl = (struct esp_flow){
		.tuple = *t, .opened_inbound = inbound, .owner = owner, .grant = grant, .sa = sa, .chain = *bucket
	};
	*bucket = at;
	f->n++;
	f->owner[owner].n++;
	enter(f, now_us, fl, ESP_FLOW_HALF);
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
	if (p->tcp_flags & ESP_TCP_FIN)
		*(inbound ? &fl->fin_peer : &fl->fin_local) = true;
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

	if (fl->tuple.protocol == ESP_PROTO_TCP) {
		to = tcp_after(fl, p, inbound);
		if (to == ESP_FLOW_CLOSING && fl->state == ESP_FLOW_CLOSING)
			return; /* not renewed: what is closed ends, whatever comes */
	} else {
		fl->replied |= inbound != fl->opened_inbound;
		to = fl->replied ? ESP_FLOW_SHORT : ESP_FLOW_HALF;
	}
	unlink_flow(f, fl);
	enter(f, now_us, fl, to);
}

struct esp_flow *esp_flow_next(struct esp_flows *f, uint32_t *at)
{
	while (*at < f->top) {
		struct esp_flow *fl = &f->flow[++*at];

		if (fl->tuple.family != ADDR_NONE)
			return fl;
	}
	return NULL;
}

static void expire(struct esp_flows *f, uint64_t now_us, const struct list *l)
{
	while (l->first && f->flow[l->first].expires_us <= now_us)
		esp_flow_remove(f, &f->flow[l->first]);
}

void esp_flows_tick(struct esp_flows *f, uint64_t now_us)
{
	for (unsigned i = 0; i < ESP_FLOW_STATES; i++)
		expire(f, now_us, &f->lists[i]);
	for (unsigned i = 0; i < f->n_owners; i++)
		expire(f, now_us, &f->owner[i].half);
}

static uint64_t sooner(const struct esp_flows *f, const struct list *l, uint64_t due_us)
{
	return l->first && f->flow[l->first].expires_us < due_us ? f->flow[l->first].expires_us : due_us;
}

uint64_t esp_flows_deadline_us(const struct esp_flows *f)
{
	uint64_t due_us = TIME_NEVER;

	for (unsigned i = 0; i < ESP_FLOW_STATES; i++)
		due_us = sooner(f, &f->lists[i], due_us);
	for (unsigned i = 0; i < f->n_owners; i++)
		due_us = sooner(f, &f->owner[i].half, due_us);
	return due_us;
}
