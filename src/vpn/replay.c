/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/replay.c - nonces of accepted offers, kept 600 s (docs/protocol.md). Entries are made only after a signature of a pinned
 * key verified, so a stranger cannot fill it; and of one key only so many, so that one peer cannot fill it for the others. */
#include <stdlib.h>
#include <string.h>

#include "base/table.h"
#include "vpn/impl.h"

#define REPLAY_MAX 4096
#define REPLAY_KEY_MAX 256 /* of one key: a call every 2.3 s */

struct entry {
	uint8_t bind[16], key[16];
	int64_t at_s;
}; /* key: the start of its hash */
struct replay {
	struct table *seen;
	struct entry ring[REPLAY_MAX];
	unsigned head, n;
};

enum err replay_new(const struct rng *rng, struct replay **ret)
{
	struct replay *r = calloc(1, sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->seen = table_new(REPLAY_MAX, rng);
	if (!r->seen) {
		free(r);
		return ERR_NOMEM;
	}
	*ret = r;
	return OK;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	table_free(r->seen);
	free(r);
}

bool replay_seen(const struct replay *r, const uint8_t bind[16])
{
	return table_find(r->seen, span_of(bind, 16)) != NULL;
}

static unsigned of_key(const struct replay *r, const uint8_t key[SPKI_HASH])
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->n; i++)
		n += !memcmp(r->ring[(r->head + i) % REPLAY_MAX].key, key, sizeof(r->ring[0].key));
	return n;
}

enum err replay_add(struct replay *r, const uint8_t bind[16], const uint8_t key[SPKI_HASH], int64_t now_s)
{
	struct entry *e;
	enum err x;

	while (r->n && r->ring[r->head].at_s + REPLAY_KEEP_S < now_s) {
		(void)table_take(r->seen, span_of(r->ring[r->head].bind, 16));
		r->head = (r->head + 1) % REPLAY_MAX;
		r->n--;
	}
	if (r->n == REPLAY_MAX || of_key(r, key) >= REPLAY_KEY_MAX)
		return ERR_LIMIT;
	e = &r->ring[(r->head + r->n) % REPLAY_MAX];
	memcpy(e->bind, bind, sizeof(e->bind));
	memcpy(e->key, key, sizeof(e->key));
	e->at_s = now_s;
	x = table_put(r->seen, span_of(e->bind, 16), e);
	if (x == OK)
		r->n++;
	return x;
}
