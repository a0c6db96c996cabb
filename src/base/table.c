/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/table.h"

#include <stdlib.h>
#include <string.h>

/* Open chains over a power of two of buckets, sized once for max_items; items also form a list in
 * order of insertion, by which a walk goes. */
struct item {
	struct item *chain, *prev, *next;
	uint64_t serial;
	void *value;
	size_t len;
	uint8_t key[];
};

struct table {
	struct item **buckets, *first, *last;
	size_t n, max_items, mask;
	uint64_t serial, k0, k1;
};

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

/* SipHash-2-4 (Aumasson, Bernstein 2012). It spreads keys over buckets and keeps no secret: of all that is
 * keyed here only this is our own code, because no library of ours offers it. */
static uint64_t siphash(uint64_t k0, uint64_t k1, struct span s)
{
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
			  k1 ^ 0x7465646279746573u };
	size_t i = 0;

	for (;;) {
		size_t n = s.len - i < 8 ? s.len - i : 8;
		uint64_t m = n < 8 ? (uint64_t)s.len << 56 : 0;

		for (size_t k = 0; k < n; k++)
			m |= (uint64_t)s.p[i + k] << (8 * k);
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
		i += n;
		if (n < 8)
			break;
	}
	v[2] ^= 0xff;
	for (int k = 0; k < 4; k++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct table *table_new(size_t max_items, const struct rng *rng)
{
	struct table *t = calloc(1, sizeof(*t));
	size_t n = 16;

	if (!t)
		return NULL;
	while (n < max_items)
		n *= 2;
	t->buckets = calloc(n, sizeof(struct item *));
	if (!t->buckets) {
		free(t);
		return NULL;
	}
	t->mask = n - 1;
	t->max_items = max_items;
	t->k0 = rng_u64(rng);
	t->k1 = rng_u64(rng);
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	while (t->first) {
		struct item *it = t->first;

		t->first = it->next;
		free(it);
	}
	free(t->buckets);
	free(t);
}

/* The link that points to the item, or the one where it would go. */
static struct item **find_link(const struct table *t, struct span key)
{
	struct item **link = &t->buckets[siphash(t->k0, t->k1, key) & t->mask];

	while (*link && !span_eq(span_of((*link)->key, (*link)->len), key))
		link = &(*link)->chain;
	return link;
}

enum err table_put(struct table *t, struct span key, void *value)
{
	struct item **link = find_link(t, key), *it;

	if (*link)
		return ERR_WRONG_STATE;
	if (t->n == t->max_items)
		return ERR_LIMIT;
	it = calloc(1, sizeof(*it) + key.len);
	if (!it)
		return ERR_NOMEM;
	it->value = value;
	it->len = key.len;
	if (key.len)
		memcpy(it->key, key.p, key.len);
	it->serial = ++t->serial;
	it->prev = t->last;
	if (t->last)
		t->last->next = it;
	else
		t->first = it;
	t->last = it;
	*link = it;
	t->n++;
	return OK;
}

void *table_find(const struct table *t, struct span key)
{
	struct item *it = *find_link(t, key);

	return it ? it->value : NULL;
}

void *table_take(struct table *t, struct span key)
{
	struct item **link = find_link(t, key), *it = *link;
	void *value;

	if (!it)
		return NULL;
	*link = it->chain;
	if (it->prev)
		it->prev->next = it->next;
	else
		t->first = it->next;
	if (it->next)
		it->next->prev = it->prev;
	else
		t->last = it->prev;
	value = it->value;
	free(it);
	t->n--;
	return value;
}

size_t table_len(const struct table *t)
{
	return t->n;
}

void *table_next(const struct table *t, size_t *at, struct span *ret_key)
{
	/* `at` is the serial of the item given last: it may be gone by now, so look for the next one. Walks are
	 * over small tables and rare. */
	for (struct item *it = t->first; it; it = it->next)
		if (it->serial > *at) {
			*at = it->serial;
			if (ret_key)
				*ret_key = span_of(it->key, it->len);
			return it->value;
		}
	return NULL;
}
