/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/share.h"

#include <string.h>

#define STEP (SHARE_PARTS / 16)

static void forget(struct share *s, uint64_t now_us)
{
	if (now_us < s->forget_us)
		return;
	if (now_us - s->forget_us > 20 * SHARE_FORGET_US)
		s->n = 0;
	s->forget_us = now_us + SHARE_FORGET_US;
	s->total = 0;
	for (unsigned i = s->n; i-- > 0;) {
		s->calls[i].bytes /= 2;
		if (!s->calls[i].bytes)
			s->calls[i] = s->calls[--s->n];
	}
	for (unsigned i = 0; i < s->n; i++)
		s->total += s->calls[i].bytes;
}

/* Its place; that of who has least where there is none left. */
static unsigned place_of(struct share *s, uint32_t call)
{
	unsigned least = 0;

	for (unsigned i = 0; i < s->n; i++) {
		if (s->calls[i].call == call)
			return i;
		if (s->calls[i].bytes < s->calls[least].bytes)
			least = i;
	}
	if (s->n < SHARE_CALLS)
		least = s->n++;
	else
		s->total -= s->calls[least].bytes;
	s->calls[least].call = call;
	s->calls[least].bytes = 0;
	return least;
}

static void adapt(struct share *s, uint64_t now_us, uint32_t lost)
{
	if (lost != s->lost && now_us >= s->step_us) {
		s->cut = s->cut + STEP < SHARE_PARTS ? s->cut + STEP : SHARE_PARTS - 1;
		s->step_us = now_us + SHARE_STEP_US;
	}
	if (lost != s->lost) {
		s->ease_us = now_us + SHARE_EASE_US;
	} else if (s->cut && now_us >= s->ease_us) {
		s->cut--;
		s->ease_us = now_us + SHARE_EASE_US;
	}
	s->lost = lost;
}

bool share_pass(struct share *s, uint64_t now_us, uint32_t call, size_t len, uint32_t lost)
{
	unsigned at;

	forget(s, now_us);
	at = place_of(s, call);
	s->calls[at].bytes += len;
	s->total += len;
	adapt(s, now_us, lost);
	/* a quarter more than the mean: those that are alike are treated alike */
	if (!s->cut || s->n < 2 || s->calls[at].bytes * s->n < s->total + s->total / 4)
		return true;
	s->turn += s->cut;
	if (s->turn < SHARE_PARTS)
		return true;
	s->turn -= SHARE_PARTS;
	return false;
}
