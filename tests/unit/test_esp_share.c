/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A queue that overflows, and who gets through: a socket of so many places, and a worker that has so much time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/rng.h"
#include "esp/share.h"
#include "harness.h"

#define PLACES 200
#define CALLS 20
#define WORK 10 /* of one that passes; one that is dropped takes 1 */
#define WORK_MS 500 /* 50 that pass in a millisecond */
#define LEN 1200

static struct result {
	unsigned sent[CALLS], served[CALLS], dropped[CALLS];
	uint32_t lost;
} r;

/* Each millisecond per_ms[call] datagrams of each call, in random order; `fair`: with share_pass(). */
static void run(const unsigned per_ms[CALLS], unsigned n_ms, bool fair)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 7);
	struct share s;
	unsigned queue[PLACES], n = 0, at = 0;

	memset(&s, 0, sizeof(s));
	memset(&r, 0, sizeof(r));
	for (unsigned ms = 0; ms < n_ms; ms++) {
		unsigned left[CALLS], total = 0;
		int time = WORK_MS;

		for (unsigned i = 0; i < CALLS; i++)
			total += left[i] = per_ms[i];
		/* a tenth of the arrivals, then a tenth of the work */
		for (unsigned step = 0, all = total; step < 10; step++) {
			for (unsigned k = all * step / 10; k < all * (step + 1) / 10; k++) {
				unsigned pick = rng_below(&rng, total--), c = 0;

				while (pick >= left[c])
					pick -= left[c++];
				left[c]--;
				r.sent[c]++;
				if (n == PLACES)
					r.lost++;
				else
					queue[(at + n++) % PLACES] = c;
			}
			for (time = WORK_MS / 10; n && time > 0;) {
				unsigned c = queue[at];
				bool pass = !fair || share_idle(&s, r.lost) ||
					    share_pass(&s, ms * 1000u + step * 100u, c, LEN, r.lost);

				at = (at + 1) % PLACES;
				n--;
				time -= pass ? WORK : 1;
				*(pass ? &r.served[c] : &r.dropped[c]) += 1;
			}
		}
	}
}

static unsigned percent(unsigned call)
{
	return r.served[call] * 100 / r.sent[call];
}

/* Ten times what there is time for, from one call; a little from others. */
static void flood(void **state)
{
	static const unsigned per_ms[CALLS] = { [1] = 300, [2] = 2, [5] = 5 };

	(void)state;
	run(per_ms, 1000, false);
	assert_true(percent(2) < 25 && percent(5) < 25);
	run(per_ms, 1000, true);
	assert_true(percent(2) > 95 && percent(5) > 95);
	assert_true(r.served[1] > 10000); /* what time is left is its */
}

/* Nobody's are one call, however many they seem. */
static void strangers(void **state)
{
	static const unsigned per_ms[CALLS] = { [0] = 200, [3] = 20 };

	(void)state;
	run(per_ms, 1000, true);
	assert_true(percent(3) > 95);
}

static void alike(void **state)
{
	static const unsigned per_ms[CALLS] = { [1] = 60, [2] = 60, [3] = 5 };

	(void)state;
	run(per_ms, 1000, true);
	assert_true(percent(3) > 95);
	assert_true(r.served[1] * 10 > r.served[2] * 9 && r.served[2] * 10 > r.served[1] * 9);
	assert_true(r.served[1] + r.served[2] > 35000);
}

/* Alone, or without a loss: nothing is dropped here. */
static void no_need(void **state)
{
	static const unsigned alone[CALLS] = { [1] = 300 }, enough[CALLS] = { [1] = 40, [2] = 5 };

	(void)state;
	run(alone, 200, true);
	assert_int_equal(r.dropped[1], 0);
	run(enough, 1000, true);
	assert_int_equal(r.dropped[1] + r.dropped[2] + r.lost, 0);
}

/* It eases off when the flood is over. */
static void over(void **state)
{
	struct share s;
	uint64_t now = 1000000;
	uint32_t lost = 0;
	unsigned dropped = 0;

	(void)state;
	memset(&s, 0, sizeof(s));
	for (int i = 0; i < 100; i++, now += 1000) {
		(void)share_pass(&s, now, 1, 100000, ++lost);
		assert_true(share_pass(&s, now, 2, 100, lost));
	}
	assert_int_equal(s.cut, SHARE_PARTS - 1);
	for (int i = 0; i < 2000; i++, now += 1000) {
		dropped += !share_pass(&s, now, 1, 100000, lost);
		assert_true(share_pass(&s, now, 2, 100, lost));
	}
	assert_true(dropped > 50 && dropped < 500);
	assert_int_equal(s.cut, 0);
}

/* More calls than it tells apart. */
static void many(void **state)
{
	unsigned per_ms[CALLS];

	(void)state;
	for (unsigned i = 0; i < CALLS; i++)
		per_ms[i] = i == 1 ? 300 : 1;
	run(per_ms, 1000, true);
	for (unsigned i = 0; i < CALLS; i++)
		assert_true(i == 1 || percent(i) > 90);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flood),   cmocka_unit_test(strangers), cmocka_unit_test(alike),
		cmocka_unit_test(no_need), cmocka_unit_test(over),      cmocka_unit_test(many),
	};

	return HARNESS_RUN(tests);
}
