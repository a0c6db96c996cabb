/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/timers.h"

#include <stdlib.h>

struct entry {
	struct timer *timer;
	uint64_t order; /* of arming: equal deadlines fire first armed, first fired */
};

struct timers {
	struct entry *heap;
	size_t n, cap;
	uint64_t order;
};

struct timers *timers_new(void)
{
	return calloc(1, sizeof(struct timers));
}

void timers_free(struct timers *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		t->heap[i].timer->slot = 0;
	free(t->heap);
	free(t);
}

static bool earlier(const struct entry *a, const struct entry *b)
{
	if (a->timer->due_us != b->timer->due_us)
		return a->timer->due_us < b->timer->due_us;
	return a->order < b->order;
}

static void place(struct timers *t, size_t i, struct entry e)
{
	t->heap[i] = e;
	e.timer->slot = i + 1;
}

static void sift(struct timers *t, size_t i)
{
	struct entry e = t->heap[i];

	while (i && earlier(&e, &t->heap[(i - 1) / 2])) {
		place(t, i, t->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= t->n)
			break;
		if (child + 1 < t->n && earlier(&t->heap[child + 1], &t->heap[child]))
			child++;
		if (!earlier(&t->heap[child], &e))
			break;
		place(t, i, t->heap[child]);
		i = child;
	}
	place(t, i, e);
}

enum err timer_arm(struct timers *t, struct timer *timer, uint64_t due_us)
{
	size_t i;

	timer_disarm(t, timer);
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 16;
		struct entry *grown = realloc(t->heap, cap * sizeof(*grown));

		if (!grown)
			return ERR_NOMEM;
		t->heap = grown;
		t->cap = cap;
	}
	timer->due_us = due_us;
	i = t->n++;
	t->heap[i] = (struct entry){ timer, t->order++ };
	sift(t, i);
	return OK;
}

void timer_disarm(struct timers *t, struct timer *timer)
{
	size_t i = timer->slot;

	if (!i--)
		return;
	timer->slot = 0;
	if (i != --t->n) {
		t->heap[i] = t->heap[t->n];
		sift(t, i);
	}
}

bool timer_armed(const struct timer *timer)
{
	return timer->slot != 0;
}

uint64_t timers_deadline_us(const struct timers *t)
{
	return t->n ? t->heap[0].timer->due_us : TIME_NEVER;
}

void timers_run(struct timers *t, uint64_t now_us)
{
	while (t->n && t->heap[0].timer->due_us <= now_us) {
		struct timer *timer = t->heap[0].timer;

		timer_disarm(t, timer);
		timer->fire(timer->arg, now_us);
	}
}
