/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/index.h - which SAs may cover a packet, without asking every one: by the peer's address, and by the port that a selector
 * names at either end. Selectors that are networks stand in one list, that is asked as well. Internal to esp/.
 *
 * What comes out is a little more than what covers the packet, newest SA first; esp_sa_covers() has the last word. */
#pragma once
#include "base/rng.h"
#include "esp/flow.h"

struct esp_sa;
struct esp_index;
struct esp_leg; /* an SA's place in one list */

MUST_CHECK enum err esp_index_new(const struct rng *rng, unsigned max_sas, struct esp_index **ret);
void esp_index_free(struct esp_index *x); /* empty */
/* An SA newer than all that are in it. On failure it is not in it. */
MUST_CHECK enum err esp_index_add(struct esp_index *x, struct esp_sa *sa);
void esp_index_remove(struct esp_index *x, struct esp_sa *sa);

struct esp_candidates {
	const struct esp_leg *at[4];
};
/* Among them is every SA that esp_sa_covers(), or esp_sa_covers_hosts(), these ends. */
struct esp_candidates esp_index_ends(const struct esp_index *x, const struct esp_tuple *t);
struct esp_candidates esp_index_hosts(const struct esp_index *x, const struct esp_tuple *t);
/* The next one, each once, the newest first; NULL: no more. */
struct esp_sa *esp_candidates_next(struct esp_candidates *c);
