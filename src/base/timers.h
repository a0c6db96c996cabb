/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/timers.h - a heap of deadlines. It reads no clock: the owner asks for the
 * earliest deadline and runs what is due.
 *
 * A struct timer lives inside the object that it belongs to, zeroed before first use;
 * the object disarms it in its own _free. Times are microseconds of the monotonic
 * clock that the loop (or a test) hands in. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

#define TIME_NEVER UINT64_MAX
#define MS(n) ((uint64_t)(n)*1000u)
#define SECONDS(n) ((uint64_t)(n)*1000000u)

struct timers;
struct timer {
	uint64_t due_us;
	void (*fire)(void *arg, uint64_t now_us);
	void *arg;
	size_t slot; /* 1-based place in the heap, 0: not armed */
};

struct timers *timers_new(void);
void timers_free(struct timers *t); /* armed timers are disarmed */
/* (Re)arms. ERR_NOMEM: not armed. Equal deadlines fire in the order of arming. */
MUST_CHECK enum err timer_arm(struct timers *t, struct timer *timer, uint64_t due_us);
void timer_disarm(struct timers *t, struct timer *timer); /* fine if not armed */
bool timer_armed(const struct timer *timer);
uint64_t timers_deadline_us(const struct timers *t); /* TIME_NEVER if none */
/* Fires everything due at now_us, earliest first; a timer armed by a callback for a
 * time <= now_us fires in the same run. Callbacks may arm and disarm any timer. */
void timers_run(struct timers *t, uint64_t now_us);
