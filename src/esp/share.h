/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/share.h - who is served when a socket has overflowed. Where nothing is lost nothing is dropped. Where the socket itself has lost
 * something, what comes for the calls that have more than their share is dropped unlooked at, more of it each time, until it holds what comes:
 * so that what comes for the others is not lost in the queue behind it. What is nobody's is one more call. A pure function of what
 * came, and when. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARE_CALLS 16 /* that are told apart at a time */
#define SHARE_PARTS 64 /* so many less one of which may be dropped */
#define SHARE_FORGET_US 10000 /* what came before counts half */
#define SHARE_STEP_US 1000 /* while something is lost: four parts more are dropped */
#define SHARE_EASE_US 5000 /* without a loss: one less */

struct share {
	struct {
		uint32_t call;
		uint64_t bytes; /* lately */
	} calls[SHARE_CALLS];
	unsigned n;
	uint64_t total;
	uint32_t lost; /* as the socket counted last */
	unsigned cut; /* parts of SHARE_PARTS that are dropped of who has more than his share */
	unsigned turn;
	uint64_t forget_us, step_us, ease_us;
};

/* Nothing is lost, and nothing to be dropped: whose a datagram is need not be asked. */
static inline bool share_idle(const struct share *s, uint32_t lost)
{
	return !s->cut && lost == s->lost;
}

/* len bytes came for this call (0: nobody's), after the socket had lost so many datagrams since it was made. False: drop them. */
bool share_pass(struct share *s, uint64_t now_us, uint32_t call, size_t len, uint32_t lost);
