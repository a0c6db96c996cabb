/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/index.h"

#include <stdlib.h>
#include <string.h>

#include "esp/sadb.h"

#define KEY_WORDS 6

/* The lists. What an SA's selectors say of the peer's end, one by one: */
enum kind {
	WIDE, /* more than one address */
	HOST, /* one address, whatever else there is: for esp_index_hosts() */
	PEER_PORT, /* one address, protocol and port */
	LOCAL_PORT, /* one address, and every selector of our end that goes with it has one protocol and port */
	ANY_PORT /* one address, and none of both */
};

struct key {
	enum kind kind;
	enum addr_family family;
	uint8_t protocol;
	uint16_t port;
	const uint8_t *ip;
};

/* The SAs of one key, newest first. */
struct group {
	struct group *chain;
	struct esp_leg *newest;
	uint32_t word[KEY_WORDS];
};

struct esp_leg {
	struct esp_sa *sa;
	struct esp_leg *older, *newer;
	struct group *group; /* NULL: in none */
};

struct esp_index {
	struct group wide;
	struct group **bucket;
	uint32_t mask;
	uint64_t key[KEY_WORDS + 1];
};

enum err esp_index_new(const struct rng *rng, unsigned max_sas, struct esp_index **ret)
{
	struct esp_index *x = calloc(1, sizeof(*x));
	uint32_t n = 16;

	if (!x)
		return ERR_NOMEM;
	while (n < max_sas)
		n *= 2;
	n *= 2; /* an SA has two lists or more */
	x->bucket = calloc(n, sizeof(struct group *));
	if (!x->bucket) {
		free(x);
		return ERR_NOMEM;
	}
	x->mask = n - 1;
	rng_fill(rng, x->key, sizeof(x->key));
	*ret = x;
	return OK;
}

void esp_index_free(struct esp_index *x)
{
	if (!x)
		return;
	free(x->bucket);
	free(x);
}

static void words_of(const struct key *k, uint32_t word[KEY_WORDS])
{
	bool v6 = k->family == ADDR_IP6;

	word[0] = (uint32_t)k->kind << 16 | (uint32_t)k->family << 8 | k->protocol;
	word[1] = k->port;
	for (unsigned i = 0; i < 4; i++)
		word[2 + i] = i && !v6 ? 0 : be32(k->ip + 4 * i);
}

/* The link to the key's group, or where it would be. Multilinear hashing, as in flow.c. */
static struct group **link_of(const struct esp_index *x, const uint32_t word[KEY_WORDS])
{
	uint64_t h = x->key[KEY_WORDS];
	struct group **link;

	for (unsigned i = 0; i < KEY_WORDS; i++)
		h += x->key[i] * word[i];
	link = &x->bucket[(uint32_t)(h >> 32) & x->mask];
	while (*link && memcmp((*link)->word, word, sizeof((*link)->word)) != 0)
		link = &(*link)->chain;
	return link;
}

static const struct esp_leg *newest(const struct esp_index *x, const struct key *k)
{
	uint32_t word[KEY_WORDS];
	const struct group *g;

	words_of(k, word);
	g = *link_of(x, word);
	return g ? g->newest : NULL;
}

/* ---- SAs come and go ---- */

static bool is_host(const struct esp_ts *ts)
{
	return !memcmp(ts->ip_lo, ts->ip_hi, ts->family == ADDR_IP4 ? 4 : 16);
}

static bool is_port(const struct esp_ts *ts)
{
	return ts->protocol && ts->port_lo == ts->port_hi;
}

/* Can a packet match both? */
static bool go_together(const struct esp_ts *local, const struct esp_ts *peer)
{
	return local->family == peer->family &&
	       (!local->protocol || !peer->protocol || local->protocol == peer->protocol);
}

static void enter(struct group *g, struct esp_sa *sa)
{
	struct esp_leg *leg;

	if (g->newest && g->newest->sa == sa)
		return;
	leg = &sa->legs[sa->n_legs++];
	*leg = (struct esp_leg){ .sa = sa, .older = g->newest, .group = g };
	if (g->newest)
		g->newest->newer = leg;
	g->newest = leg;
}

static enum err enter_keyed(struct esp_index *x, struct esp_sa *sa, const struct key *k)
{
	uint32_t word[KEY_WORDS];
	struct group **link;

	words_of(k, word);
	link = link_of(x, word);
	if (!*link) {
		*link = calloc(1, sizeof(**link));
		if (!*link)
			return ERR_NOMEM;
		memcpy((*link)->word, word, sizeof(word));
	}
	enter(*link, sa);
	return OK;
}

static enum err add_by_local(struct esp_index *x, struct esp_sa *sa, const struct esp_ts *peer, struct key *k)
{
	enum err e = OK;
	unsigned i;

	for (i = 0; i < sa->n_local; i++)
		if (go_together(&sa->ts_local[i], peer) && !is_port(&sa->ts_local[i]))
			break;
	if (i < sa->n_local) {
		k->kind = ANY_PORT;
		return enter_keyed(x, sa, k);
	}
	k->kind = LOCAL_PORT;
	for (i = 0; e == OK && i < sa->n_local; i++) {
		const struct esp_ts *local = &sa->ts_local[i];

		if (!go_together(local, peer))
			continue;
		k->protocol = local->protocol;
		k->port = local->port_lo;
		e = enter_keyed(x, sa, k);
	}
	return e;
}

static enum err add_one(struct esp_index *x, struct esp_sa *sa, const struct esp_ts *peer)
{
	struct key k = { .kind = HOST, .family = peer->family, .ip = peer->ip_lo };
	enum err e;

	if (!is_host(peer)) {
		enter(&x->wide, sa);
		return OK;
	}
	e = enter_keyed(x, sa, &k);
	if (e != OK)
		return e;
	if (!is_port(peer))
		return add_by_local(x, sa, peer, &k);
	k.kind = PEER_PORT;
	k.protocol = peer->protocol;
	k.port = peer->port_lo;
	return enter_keyed(x, sa, &k);
}

enum err esp_index_add(struct esp_index *x, struct esp_sa *sa)
{
	enum err e = OK;

	sa->n_legs = 0;
	sa->legs = calloc(sa->n_peer * (1 + sa->n_local), sizeof(*sa->legs)); /* at most so many */
	if (!sa->legs)
		return ERR_NOMEM;
	for (unsigned i = 0; e == OK && i < sa->n_peer; i++)
		e = add_one(x, sa, &sa->ts_peer[i]);
	if (e != OK)
		esp_index_remove(x, sa);
	return e;
}

static void group_remove(struct esp_index *x, struct group *g)
{
	if (g == &x->wide)
		return;
	*link_of(x, g->word) = g->chain;
	free(g);
}

void esp_index_remove(struct esp_index *x, struct esp_sa *sa)
{
	for (unsigned i = 0; i < sa->n_legs; i++) {
		struct esp_leg *leg = &sa->legs[i];

		if (leg->newer)
			leg->newer->older = leg->older;
		else
			leg->group->newest = leg->older;
		if (leg->older)
			leg->older->newer = leg->newer;
		if (!leg->group->newest)
			group_remove(x, leg->group);
	}
	free(sa->legs);
	sa->legs = NULL;
	sa->n_legs = 0;
}

/* ---- asked for a packet ---- */

struct esp_candidates esp_index_ends(const struct esp_index *x, const struct esp_tuple *t)
{
	struct esp_candidates c = { { x->wide.newest } };
	struct key k = { .kind = ANY_PORT, .family = t->family, .ip = t->peer_ip };

	c.at[1] = newest(x, &k);
	k.protocol = t->protocol;
	k.kind = PEER_PORT;
	k.port = t->peer_port;
	c.at[2] = newest(x, &k);
	k.kind = LOCAL_PORT;
	k.port = t->local_port;
	c.at[3] = newest(x, &k);
	return c;
}

struct esp_candidates esp_index_hosts(const struct esp_index *x, const struct esp_tuple *t)
{
	struct key k = { .kind = HOST, .family = t->family, .ip = t->peer_ip };

	return (struct esp_candidates){ { x->wide.newest, newest(x, &k) } };
}

struct esp_sa *esp_candidates_next(struct esp_candidates *c)
{
	struct esp_sa *sa = NULL;

	for (unsigned i = 0; i < 4; i++)
		if (c->at[i] && (!sa || c->at[i]->sa->serial > sa->serial))
			sa = c->at[i]->sa;
	for (unsigned i = 0; i < 4; i++)
		if (c->at[i] && c->at[i]->sa == sa)
			c->at[i] = c->at[i]->older;
	return sa;
}
