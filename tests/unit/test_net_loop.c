/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The loop's turns: what is always ready holds up nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/timers.h"
#include "net/loop.h"
#include "harness.h"

#define TURNS 5

static struct loop *l;
static unsigned n_ready, n_ticks, in_a_row;
static bool always_due;

static void ready(void *arg, int fd, int events)
{
	(void)arg;
	(void)fd;
	assert_int_equal(events, LOOP_READ);
	n_ready++;
	assert_true(++in_a_row < 100); /* others have their turn */
	if (!always_due && n_ready == TURNS)
		loop_stop(l);
}

static void tick(void *arg, uint64_t now_us)
{
	(void)arg;
	(void)now_us;
	in_a_row = 0;
	if (++n_ticks == TURNS)
		loop_stop(l);
}

static uint64_t deadline(void *arg)
{
	(void)arg;
	return always_due ? 0 : TIME_NEVER;
}

/* The end of a pipe that nobody writes to is always readable. */
static void turns(void **state)
{
	struct loop_hooks hooks = { .tick = tick, .deadline = deadline };
	struct loop_fd *f;
	int pair[2];

	(void)state;
	for (int due = 0; due < 2; due++) {
		always_due = due;
		n_ready = n_ticks = in_a_row = 0;
		assert_int_equal(loop_new(&l), OK);
		loop_hooks_set(l, &hooks);
		assert_int_equal(pipe(pair), 0);
		(void)close(pair[1]);
		assert_int_equal(loop_fd_add(l, pair[0], LOOP_READ, ready, NULL, &f), OK);
		assert_int_equal(loop_run(l), OK);
		assert_true(n_ready >= TURNS - 1);
		assert_int_equal(n_ticks, due ? TURNS : 0);
		loop_fd_free(f);
		loop_free(l);
		(void)close(pair[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(turns) };

	return HARNESS_RUN(tests);
}
