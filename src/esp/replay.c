/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/replay.h"

#include <assert.h>
#include <string.h>

#define WORD_BITS 64
static_assert((ESP_REPLAY_WORDS & (ESP_REPLAY_WORDS - 1)) == 0, "the ring is indexed by a mask");
static_assert(ESP_REPLAY_WORDS * WORD_BITS >= ESP_REPLAY_WINDOW + WORD_BITS, "the ring holds the window and a word");

static uint64_t bit_of(uint64_t seq)
{
	return (uint64_t)1 << (seq % WORD_BITS);
}

static unsigned word_of(uint64_t seq)
{
	return (unsigned)(seq / WORD_BITS % ESP_REPLAY_WORDS);
}

bool esp_replay_check(const struct esp_replay *w, uint64_t seq)
{
	/* 0 is never sent (RFC 4303, 3.3.3). The last number is refused, so that nobody drives the window to its end. */
	if (seq == 0 || seq == UINT64_MAX)
		return false;
	if (seq > w->top)
		return true;
	if (w->top - seq >= ESP_REPLAY_WINDOW)
		return false;
	return !(w->bits[word_of(seq)] & bit_of(seq));
}

void esp_replay_mark(struct esp_replay *w, uint64_t seq)
{
	if (!esp_replay_check(w, seq))
		return;
	if (seq > w->top) {
		/* Words that the window newly enters still hold what was seen a whole ring ago. */
		uint64_t fresh = seq / WORD_BITS - w->top / WORD_BITS;

		if (fresh >= ESP_REPLAY_WORDS)
			memset(w->bits, 0, sizeof(w->bits));
		else
			for (uint64_t k = 1; k <= fresh; k++)
				w->bits[(w->top / WORD_BITS + k) % ESP_REPLAY_WORDS] = 0;
		w->top = seq;
	}
	w->bits[word_of(seq)] |= bit_of(seq);
}

uint64_t esp_replay_extend(const struct esp_replay *w, uint32_t low)
{
	uint32_t top_low = (uint32_t)w->top, high = (uint32_t)(w->top >> 32);
	uint32_t bottom = top_low - (ESP_REPLAY_WINDOW - 1); /* modulo 2^32 */

	if (top_low >= ESP_REPLAY_WINDOW - 1) {
		/* The window lies within one half-space. Left of it means the next one. */
		if (low < bottom) {
			if (high == UINT32_MAX)
				return 0;
			high++;
		}
	} else if (low >= bottom) {
		/* The window reaches back into the space before. */
		if (high == 0)
			return 0;
		high--;
	}
	return (uint64_t)high << 32 | low;
}
