/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The search for a path's MTU, over paths that are made up, with a clock of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "esp/pmtu.h"
#include "harness.h"

#define RTT_US MS(80)
#define FLYING 64

struct road {
	struct pmtu m;
	uint64_t now, last_out;
	unsigned carries, n_probes, n_changes, loss_percent;
	bool used;
	struct {
		unsigned size;
		uint64_t due;
	} flying[FLYING];
	unsigned n_flying;
	struct rng_seeded seed;
	struct rng rng;
};

static void probe(struct road *r)
{
	unsigned size;

	while (pmtu_poll_probe(&r->m, r->now, &size)) {
		assert_true(size > 0 && size <= PMTU_MAX && size % 4 == 0 && size > ESP_MTU_MIN);
		r->n_probes++;
		if (size > r->carries || rng_below(&r->rng, 100) < r->loss_percent)
			continue;
		assert_true(r->n_flying < FLYING);
		r->flying[r->n_flying].size = size;
		r->flying[r->n_flying++].due = r->now + RTT_US;
	}
}

static void road_begin(struct road *r, unsigned carries)
{
	*r = (struct road){ .now = SECONDS(1000), .carries = carries };
	r->rng = rng_seeded_init(&r->seed, carries);
	pmtu_begin(&r->m, r->now);
	probe(r);
}

/* Nothing is ever used that the road does not carry, but for a road that has changed. */
static void road_run(struct road *r, uint64_t us)
{
	uint64_t end = r->now + us;

	while (r->now < end) {
		uint64_t due = pmtu_deadline_us(&r->m), next = due < end ? due : end;
		unsigned first = FLYING;

		for (unsigned i = 0; i < r->n_flying; i++)
			if (r->flying[i].due <= next) {
				next = r->flying[i].due;
				first = i;
			}
		assert_true(next > r->now || first != FLYING || due <= r->now);
		r->now = next;
		if (r->used)
			r->last_out = r->now;
		if (first != FLYING) {
			unsigned size = r->flying[first].size;

			r->flying[first] = r->flying[--r->n_flying];
			r->n_changes += pmtu_answered(&r->m, r->now, size);
		}
		r->n_changes += pmtu_tick(&r->m, r->now, r->last_out);
		probe(r);
		assert_true(pmtu_deadline_us(&r->m) > r->now);
	}
}

static void finds(void **state)
{
	(void)state;
	for (unsigned carries = ESP_MTU_MIN; carries <= 1600; carries++) {
		struct road r;
		unsigned most = carries < PMTU_MAX ? carries : PMTU_MAX;

		road_begin(&r, carries);
		assert_int_equal(pmtu_size(&r.m), ESP_MTU_MIN);
		road_run(&r, RTT_US + 1);
		/* what is common is known at once */
		assert_true(pmtu_size(&r.m) >= (carries >= 1500   ? 1500
						: carries >= 1420 ? 1420
						: carries >= 1344 ? 1344
								  : 1280));
		road_run(&r, SECONDS(30));
		assert_true(pmtu_size(&r.m) <= most && pmtu_size(&r.m) + PMTU_GRAIN > most);
		assert_true(r.n_probes <= 40);
		/* and then it is quiet: nobody uses it */
		r.n_probes = 0;
		road_run(&r, SECONDS(400));
		assert_int_equal(r.n_probes, 0);
	}
}

static void finds_in_spite_of_loss(void **state)
{
	unsigned n_right = 0;

	(void)state;
	for (unsigned carries = 1300; carries <= 1500; carries += 4) {
		struct road r;

		road_begin(&r, carries);
		r.loss_percent = 15;
		road_run(&r, SECONDS(60));
		assert_true(pmtu_size(&r.m) <= carries);
		n_right += pmtu_size(&r.m) + PMTU_GRAIN > carries;
		r.used = true;
		road_run(&r, SECONDS(2000)); /* confirmations are lost as well */
		assert_true(pmtu_size(&r.m) <= carries);
	}
	assert_true(n_right > 40);
}

static void black_hole(void **state)
{
	static const unsigned later[] = { 1280, 1300, 1344, 1400, 1484 };

	(void)state;
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		struct road r;

		road_begin(&r, 1500);
		r.used = true;
		road_run(&r, SECONDS(100));
		assert_int_equal(pmtu_size(&r.m), 1500);
		r.carries = later[i];
		road_run(&r, PMTU_CONFIRM_US + PMTU_PROBES * PMTU_PROBE_US + 1);
		assert_true(pmtu_size(&r.m) <= later[i]);
		road_run(&r, SECONDS(30));
		assert_true(pmtu_size(&r.m) <= later[i] && pmtu_size(&r.m) + PMTU_GRAIN > later[i]);
		/* it was mended: noticed in time */
		r.carries = 1500;
		road_run(&r, PMTU_RAISE_US + SECONDS(10));
		assert_int_equal(pmtu_size(&r.m), 1500);
	}
}

/* A path that is used is asked now and then; one that is not is not. */
static void confirms(void **state)
{
	struct road r;

	(void)state;
	road_begin(&r, 1500);
	road_run(&r, SECONDS(5));
	r.n_probes = 0;
	r.used = true;
	road_run(&r, SECONDS(100));
	assert_true(r.n_probes >= 8 && r.n_probes <= 11);
	r.used = false;
	road_run(&r, SECONDS(20));
	r.n_probes = 0;
	road_run(&r, SECONDS(1000));
	assert_int_equal(r.n_probes, 0);
}

/* Nobody answers: the least, and then silence but for the ten minutes. */
static void mute(void **state)
{
	struct road r;

	(void)state;
	road_begin(&r, 0);
	r.used = true;
	road_run(&r, SECONDS(60));
	assert_int_equal(pmtu_size(&r.m), ESP_MTU_MIN);
	assert_true(r.n_probes <= 40);
	r.n_probes = 0;
	road_run(&r, SECONDS(500));
	assert_int_equal(r.n_probes, 0);
	road_run(&r, SECONDS(100));
	assert_true(r.n_probes > 0);
}

/* Another path: from the beginning. Answers of sizes that nobody asked for change nothing, or say more than was known. */
static void anew(void **state)
{
	struct pmtu m = { .on = false };
	unsigned size;

	(void)state;
	assert_int_equal(pmtu_size(&m), ESP_MTU_MIN);
	assert_false(pmtu_answered(&m, 1, 1500));
	assert_false(pmtu_tick(&m, 1, 1));
	assert_false(pmtu_poll_probe(&m, 1, &size));
	assert_true(pmtu_deadline_us(&m) == TIME_NEVER);
	pmtu_begin(&m, 1);
	assert_true(pmtu_answered(&m, 2, 1420));
	assert_false(pmtu_answered(&m, 2, 1280));
	assert_false(pmtu_answered(&m, 2, 1504));
	assert_int_equal(pmtu_size(&m), 1420);
	pmtu_begin(&m, 3);
	assert_int_equal(pmtu_size(&m), ESP_MTU_MIN);
	for (uint64_t now = 3; now < SECONDS(60); now += MS(100)) {
		(void)pmtu_tick(&m, now, 0);
		while (pmtu_poll_probe(&m, now, &size))
			;
	}
	assert_true(pmtu_answered(&m, SECONDS(60), 1500)); /* very late, but it came */
	assert_int_equal(pmtu_size(&m), 1500);
	pmtu_end(&m);
	assert_int_equal(pmtu_size(&m), ESP_MTU_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds),      cmocka_unit_test(finds_in_spite_of_loss),
		cmocka_unit_test(black_hole), cmocka_unit_test(confirms),
		cmocka_unit_test(mute),       cmocka_unit_test(anew),
	};

	return HARNESS_RUN(tests);
}
