/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/replay.h - anti-replay window of one inbound ESP SA (RFC 4303, 3.4.3), kept as a ring of
 * words that is never shifted (RFC 6479). Plain data, no allocation; all zero bytes is a valid, empty
 * window. 64-bit throughout, so that extended sequence numbers need nothing more. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* RFC 4303, 3.4.3 wants 32 at least and 64 by preference; 1024 survives reordering between queues and
 * a path that changes (our choice). */
#define ESP_REPLAY_WINDOW 1024
/* A power of two of words; one word more than the window would do, so the window is exact. */
#define ESP_REPLAY_WORDS 32

struct esp_replay {
	uint64_t top; /* highest number seen; 0: none */
	uint64_t bits[ESP_REPLAY_WORDS];
};

/* Would seq be accepted? Changes nothing. Ask it before the costly ICV check. */
bool esp_replay_check(const struct esp_replay *w, uint64_t seq);
/* Record seq as seen. Only after the ICV was good: a forged packet must never move the window. */
void esp_replay_mark(struct esp_replay *w, uint64_t seq);
/* The whole number of a packet that carries only its low half (RFC 4303, A2.2: the value that lies
 * nearest to the window); 0, which no check accepts, when it would lie before the first packet. */
uint64_t esp_replay_extend(const struct esp_replay *w, uint32_t low);
