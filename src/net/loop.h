/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/loop.h - the event loop of a process (libevent): readable and writable descriptors, one
 * deadline, signals. All callbacks run in the thread of loop_run(). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct timers;
struct loop;
struct loop_fd;
enum { LOOP_READ = 1, LOOP_WRITE = 2 };

MUST_CHECK enum err loop_new(struct loop **ret);
void loop_free(struct loop *l);
uint64_t loop_now_us(const struct loop *l); /* CLOCK_MONOTONIC, read anew at each call */
int64_t loop_wall_s(void); /* unix time */
/* Timers that the loop runs by itself, beside the hooks' one deadline: for the objects of net/ and daemon/. */
struct timers *loop_timers(struct loop *l);
MUST_CHECK enum err loop_fd_add(struct loop *l, int fd, int events, void (*ready)(void *arg, int fd, int events),
				void *arg, struct loop_fd **ret);
MUST_CHECK enum err loop_fd_set(struct loop_fd *f, int events); /* 0: paused */
void loop_fd_free(struct loop_fd *f); /* does not close fd; safe inside its own callback */
/* `idle` runs after each round of callbacks (to drain protocol outputs); `deadline` tells when `tick` is
 * due next (TIME_NEVER: not at all). */
struct loop_hooks {
	void (*tick)(void *arg, uint64_t now_us);
	uint64_t (*deadline)(void *arg);
	void (*idle)(void *arg);
	void *arg;
};
void loop_hooks_set(struct loop *l, const struct loop_hooks *h);
MUST_CHECK enum err loop_signal(struct loop *l, int signo, void (*fired)(void *arg, int signo), void *arg);
/* Runs fn once, after the current round of callbacks: to free what is still in use. loop_free() runs what is left. */
MUST_CHECK enum err loop_defer(struct loop *l, void (*fn)(void *arg), void *arg);
MUST_CHECK enum err loop_run(struct loop *l); /* until loop_stop; ERR_WRONG_STATE: nothing left to wait for */
void loop_stop(struct loop *l);
/* The calling thread has a short slice of a processor's time (sched_setattr(2), since Linux 6.12), so that it is run when there is something to do,
 * and not after those that work through long queues; how much it may take is as before. Threads that it makes are as any other. Where
 * the kernel cannot, nothing changes. */
void loop_prompt(void);
/* For the other files of net/: libevent's base. */
struct event_base;
struct event_base *loop_base(struct loop *l);
