/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "base/table.h"
#include "base/timers.h"
#include "harness.h"

/* ---- output queue ---- */

static void queue_keeps_order_and_bounds(void **state)
{
	struct outq *q = outq_new(2, 10);
	struct path path = { .stream = 7 };
	struct out o;

	(void)state;
	assert_non_null(q);
	assert_int_equal(outq_push(q, OUT_SEND, &path, SPAN_LIT("12345")), OK);
	assert_int_equal(outq_push(q, OUT_SEND, &path, SPAN_LIT("123456")), ERR_LIMIT); /* bytes */
	assert_int_equal(outq_push(q, OUT_CLOSE, &path, SPAN_NONE), OK);
	assert_int_equal(outq_push(q, OUT_SEND, &path, SPAN_LIT("")), ERR_LIMIT); /* items */
	assert_int_equal(outq_dropped(q), 2);
	assert_true(outq_poll(q, &o));
	assert_int_equal(o.kind, OUT_SEND);
	assert_int_equal(o.path.stream, 7);
	assert_true(span_eq_str(o.bytes, "12345"));
	assert_true(outq_poll(q, &o));
	assert_int_equal(o.kind, OUT_CLOSE);
	assert_false(outq_poll(q, &o));
	assert_int_equal(outq_push(q, OUT_SEND, &path, SPAN_LIT("1234567890")), OK);
	assert_int_equal(outq_len(q), 1);
	outq_free(q);
}

/* ---- timers ---- */

struct shot {
	struct timer timer;
	struct timers *all;
	unsigned *n_fired, order;
	uint64_t rearm_us;
};

static void fired(void *arg, uint64_t now_us)
{
	struct shot *s = arg;

	(void)now_us;
	s->order = ++*s->n_fired;
	if (s->rearm_us) {
		uint64_t due = s->rearm_us;

		s->rearm_us = 0;
		assert_int_equal(timer_arm(s->all, &s->timer, due), OK);
	}
}

static void timers_fire_in_order(void **state)
{
	static const uint64_t due[] = { 50, 10, 40, 10, 30, 20, 60, 10 };
	struct shot shots[8] = { 0 };
	struct timers *t = timers_new();
	unsigned n = 0;

	(void)state;
	assert_non_null(t);
	assert_true(timers_deadline_us(t) == TIME_NEVER);
	for (unsigned i = 0; i < 8; i++) {
		shots[i] = (struct shot){ .all = t, .n_fired = &n };
		shots[i].timer.fire = fired;
		shots[i].timer.arg = &shots[i];
		assert_int_equal(timer_arm(t, &shots[i].timer, due[i]), OK);
	}
	timer_disarm(t, &shots[2].timer);
	timer_disarm(t, &shots[2].timer);
	assert_int_equal(timers_deadline_us(t), 10);
	timers_run(t, 50);
	assert_int_equal(n, 6);
	assert_int_equal(shots[1].order, 1); /* equal deadlines: in order of arming */
	assert_int_equal(shots[3].order, 2);
	assert_int_equal(shots[7].order, 3);
	assert_int_equal(shots[5].order, 4);
	assert_int_equal(shots[4].order, 5);
	assert_int_equal(shots[0].order, 6);
	assert_int_equal(shots[2].order, 0);
	assert_true(timer_armed(&shots[6].timer));
	timers_free(t);
	assert_false(timer_armed(&shots[6].timer));
}

static void timer_rearmed_for_now_fires_in_the_same_run(void **state)
{
	struct timers *t = timers_new();
	unsigned n = 0;
	struct shot s = { .all = t, .n_fired = &n, .rearm_us = 5 };

	(void)state;
	assert_non_null(t);
	s.timer.fire = fired;
	s.timer.arg = &s;
	assert_int_equal(timer_arm(t, &s.timer, 1), OK);
	timers_run(t, 10);
	assert_int_equal(n, 2);
	timers_free(t);
}

static void timers_against_sorting(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	static struct shot shots[500];
	struct timers *t = timers_new();
	uint64_t last = 0;
	unsigned n = 0, armed = 0;

	(void)state;
	assert_non_null(t);
	for (unsigned i = 0; i < 500; i++) {
		shots[i] = (struct shot){ .all = t, .n_fired = &n };
		shots[i].timer.fire = fired;
		shots[i].timer.arg = &shots[i];
		assert_int_equal(timer_arm(t, &shots[i].timer, rng_below(&rng, 1000)), OK);
	}
	for (unsigned i = 0; i < 500; i += 3)
		timer_disarm(t, &shots[i].timer);
	for (unsigned i = 0; i < 500; i++)
		armed += timer_armed(&shots[i].timer);
	while (timers_deadline_us(t) != TIME_NEVER) {
		assert_true(timers_deadline_us(t) >= last);
		last = timers_deadline_us(t);
		timers_run(t, last);
	}
	assert_int_equal(n, armed);
	timers_free(t);
}

/* ---- table ---- */

static void table_finds_what_was_put(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 2);
	struct table *t = table_new(1000, &rng);
	static int values[1000];
	size_t at = 0;
	struct span key;

	(void)state;
	assert_non_null(t);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(table_put(t, span_of(&i, 4), &values[i]), OK);
	assert_int_equal(table_put(t, SPAN_LIT("more"), values), ERR_LIMIT);
	for (uint32_t i = 0; i < 1000; i += 2)
		assert_ptr_equal(table_take(t, span_of(&i, 4)), &values[i]);
	for (uint32_t i = 0; i < 1000; i++)
		assert_ptr_equal(table_find(t, span_of(&i, 4)), i % 2 ? &values[i] : NULL);
	assert_int_equal(table_put(t, span_of(&(uint32_t){ 1 }, 4), values), ERR_WRONG_STATE);
	assert_int_equal(table_put(t, SPAN_NONE, values), OK); /* an empty key is a key */
	assert_ptr_equal(table_take(t, SPAN_NONE), values);
	/* a walk in order of insertion, removing as it goes */
	for (uint32_t want = 1; want < 1000; want += 2) {
		int *v = table_next(t, &at, &key);
		uint32_t got;

		assert_non_null(v);
		assert_int_equal(key.len, 4);
		memcpy(&got, key.p, 4);
		assert_int_equal(got, want);
		assert_ptr_equal(table_take(t, span_of(&got, 4)), v);
	}
	assert_null(table_next(t, &at, &key));
	assert_int_equal(table_len(t), 0);
	table_free(t);
}

static bool fill_table(void *arg)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 3);
	struct table *t = table_new(4, &rng);
	bool all = t != NULL;

	(void)arg;
	for (uint8_t i = 0; t && i < 4; i++)
		all = table_put(t, span_of(&i, 1), t) == OK && all;
	table_free(t);
	return all;
}

static void table_without_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(fill_table, NULL);
}

/* ---- rng ---- */

static void seeded_runs_repeat(void **state)
{
	struct rng_seeded s1, s2;
	struct rng a = rng_seeded_init(&s1, 42), b = rng_seeded_init(&s2, 42), c;
	char text[25];
	unsigned seen[3] = { 0 };

	(void)state;
	assert_int_equal(rng_u64(&a), rng_u64(&b));
	c = rng_seeded_init(&s2, 43);
	assert_int_not_equal(rng_u64(&a), rng_u64(&c));
	for (int i = 0; i < 300; i++)
		seen[rng_below(&a, 3)]++;
	assert_true(seen[0] > 50 && seen[1] > 50 && seen[2] > 50);
	rng_text(&a, text, 24);
	assert_int_equal(strlen(text), 24);
}

/* ---- log ---- */

static char last_line[256];

static void keep(void *arg, enum log_level level, const char *area, const char *tag, const char *text)
{
	(void)arg;
	(void)snprintf(last_line, sizeof(last_line), "%s %s %s %s", log_level_name(level), area, tag, text);
}

static void log_has_level_area_and_tag(void **state)
{
	struct log_sink sink = { .level = LOG_INFO, .write = keep };
	struct log l = log_of(&sink, "ike", "sip:bob@example.com#7"), silent = log_of(NULL, "ike", "");

	(void)state;
	log_info(&l, "up after %d ms", 12);
	assert_string_equal(last_line, "info ike sip:bob@example.com#7 up after 12 ms");
	log_debug(&l, "not shown");
	log_error(&silent, "not shown");
	assert_string_equal(last_line, "info ike sip:bob@example.com#7 up after 12 ms");
}

static void log_limit_counts_what_it_leaves_out(void **state)
{
	struct log_limit lim = { 0 };
	uint32_t left_out;
	unsigned passed = 0;

	(void)state;
	for (int i = 0; i < 22; i++)
		passed += log_limit_pass(&lim, SECONDS(100) + (uint64_t)i, &left_out);
	assert_int_equal(passed, LOG_LIMIT_BURST);
	assert_true(log_limit_pass(&lim, SECONDS(111), &left_out));
	assert_int_equal(left_out, 17);
	assert_true(log_limit_pass(&lim, SECONDS(111), &left_out));
	assert_int_equal(left_out, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_keeps_order_and_bounds),
		cmocka_unit_test(timers_fire_in_order),
		cmocka_unit_test(timer_rearmed_for_now_fires_in_the_same_run),
		cmocka_unit_test(timers_against_sorting),
		cmocka_unit_test(table_finds_what_was_put),
		cmocka_unit_test(table_without_memory),
		cmocka_unit_test(seeded_runs_repeat),
		cmocka_unit_test(log_has_level_area_and_tag),
		cmocka_unit_test(log_limit_counts_what_it_leaves_out),
	};

	return HARNESS_RUN(tests);
}
