/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/pmtu.h - how long a packet one path carries, found by sending packets of a size and hearing that they arrived (RFC 8899;
 * docs/protocol.md). Sizes are those of whole outer IP packets, multiples of 4. No I/O, no clock: whoever owns the path sends
 * the probes, by the same addresses and ports as ESP and with DF, and says which were answered.
 *
 *   begin: ESP_MTU_MIN; several sizes are asked for at once, then halves of what is left
 *   found: asked again while packets are sent; three times without an answer: back to ESP_MTU_MIN, and anew
 *   less than the most: larger ones are tried again after ten minutes */
#pragma once
#include "base/timers.h"
#include "esp/plane.h"

#define PMTU_MAX 1500 /* more is of no use: the TUN's packets are not longer */
#define PMTU_PROBE_US SECONDS(1) /* RFC 8899, 5.1.1: at least */
#define PMTU_PROBES 3 /* RFC 8899, 5.1.2: MAX_PROBES */
#define PMTU_CONFIRM_US SECONDS(10) /* ours: so long may a black hole go unnoticed, and the probes' time more */
#define PMTU_RAISE_US SECONDS(600) /* RFC 8899, 5.1.1 */
#define PMTU_GRAIN 8 /* near enough */
#define PMTU_OPEN_MAX 5

/* All zero is valid: ESP_MTU_MIN, and nothing is asked. */
struct pmtu {
	bool on;
	unsigned size; /* what passes */
	unsigned fails; /* least that does not; over PMTU_MAX: nothing is known */
	struct {
		unsigned size, n_sent; /* size 0: a free place */
		uint64_t due_us;
	} open[PMTU_OPEN_MAX];
	uint64_t confirm_us, raise_us, proved_us;
};

unsigned pmtu_size(const struct pmtu *m);
void pmtu_begin(struct pmtu *m, uint64_t now_us); /* a path, or another one */
void pmtu_end(struct pmtu *m);
/* The next three return true when pmtu_size() is another one than before. */
bool pmtu_answered(struct pmtu *m, uint64_t now_us, unsigned size);
/* last_out_us: when a packet was last sent. An unused path is not asked. */
bool pmtu_tick(struct pmtu *m, uint64_t now_us, uint64_t last_out_us);
/* A probe that is to be sent now; after pmtu_begin, _answered and _tick, until false. */
bool pmtu_poll_probe(struct pmtu *m, uint64_t now_us, unsigned *ret_size);
uint64_t pmtu_deadline_us(const struct pmtu *m);
