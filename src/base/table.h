/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/table.h - a bounded hash table from a short byte key to a pointer. The hash is
 * keyed (SipHash-2-4) with a random key, so that a peer who chooses keys cannot make
 * chains. The table copies keys; it does not own values. */
#pragma once
#include <stddef.h>
#include "base/buf.h"
#include "base/rng.h"

struct table;
struct table *table_new(size_t max_items, const struct rng *rng);
void table_free(struct table *t);
/* ERR_LIMIT: max_items reached. ERR_WRONG_STATE: the key is present. */
MUST_CHECK enum err table_put(struct table *t, struct span key, void *value);
void *table_find(const struct table *t, struct span key); /* NULL: absent */
void *table_take(struct table *t, struct span key); /* removes; NULL: absent */
size_t table_len(const struct table *t);
/* Walks in order of insertion: *at starts at 0; NULL at the end. Removing the item just
 * returned is allowed, inserting during a walk is not. */
void *table_next(const struct table *t, size_t *at, struct span *ret_key);
