/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/path.h"

#include <stdlib.h>
#include <string.h>

const char *transport_name(enum transport t)
{
	static const char *const names[] = { "UDP", "TCP", "TLS", "ESP" };

	return (unsigned)t <= TRANSPORT_ESP ? names[t] : "?";
}

bool path_eq(const struct path *a, const struct path *b)
{
	return a->transport == b->transport && a->stream == b->stream && a->channel == b->channel &&
	       addr_eq(&a->local, &b->local) && addr_eq(&a->remote, &b->remote);
}

struct item {
	struct item *next;
	enum out_kind kind;
	struct path path;
	size_t len;
	uint8_t bytes[];
};

struct outq {
	struct item *head, **tail, *lent; /* lent: the item whose bytes the last poll gave out */
	size_t n, n_bytes, max_items, max_bytes;
	uint64_t n_dropped;
};

struct outq *outq_new(size_t max_items, size_t max_bytes)
{
	struct outq *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->tail = &q->head;
	q->max_items = max_items;
	q->max_bytes = max_bytes;
	return q;
}

void outq_free(struct outq *q)
{
	if (!q)
		return;
	while (q->head) {
		struct item *it = q->head;

		q->head = it->next;
		free(it);
	}
	free(q->lent);
	free(q);
}

enum err outq_push(struct outq *q, enum out_kind kind, const struct path *path, struct span bytes)
{
	struct item *it;

	if (q->n >= q->max_items || bytes.len > q->max_bytes - q->n_bytes) {
		q->n_dropped++;
		return ERR_LIMIT;
	}
	it = malloc(sizeof(*it) + bytes.len);
	if (!it) {
		q->n_dropped++;
		return ERR_NOMEM;
	}
	it->next = NULL;
	it->kind = kind;
	it->path = *path;
	it->len = bytes.len;
	if (bytes.len)
		memcpy(it->bytes, bytes.p, bytes.len);
	*q->tail = it;
	q->tail = &it->next;
	q->n++;
	q->n_bytes += bytes.len;
	return OK;
}

bool outq_poll(struct outq *q, struct out *ret)
{
	struct item *it = q->head;

	free(q->lent);
	q->lent = NULL;
	if (!it)
		return false;
	q->head = it->next;
	if (!q->head)
		q->tail = &q->head;
	q->n--;
	q->n_bytes -= it->len;
	q->lent = it;
	*ret = (struct out){ it->kind, it->path, span_of(it->bytes, it->len) };
	return true;
}

size_t outq_len(const struct outq *q)
{
	return q->n;
}

uint64_t outq_dropped(const struct outq *q)
{
	return q->n_dropped;
}
