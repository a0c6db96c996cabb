/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "esp/replay.h"
#include "harness.h"

#define W ESP_REPLAY_WINDOW

static bool take(struct esp_replay *w, uint64_t seq)
{
	bool ok = esp_replay_check(w, seq);

	esp_replay_mark(w, seq);
	return ok;
}

static void rows(void **state)
{
	static const struct {
		uint64_t seq;
		bool ok;
	} row[] = {
		{ 0, false }, /* never sent */
		{ 2, true },
		{ 2, false }, /* duplicate */
		{ 1, true },
		{ 1, false }, /* late, once */
		{ W + 2, true },
		{ 2, false }, /* fell out on the left */
		{ 3, true },
		{ 3, false }, /* the last one inside */
		{ W + 1, true },
		{ W + 1, false },
		{ 10 * W, true },
		{ 9 * W, false },
		{ 9 * W + 1, true },
		{ 9 * W + 1, false },
		{ 10 * W - 63, true },
		{ 10 * W - 64, true },
		{ 10 * W - 65, true }, /* across words */
		{ UINT32_MAX, true },
		{ UINT32_MAX, false },
		{ (uint64_t)UINT32_MAX + 5, true }, /* extended numbers */
		{ UINT32_MAX, false },
		{ (uint64_t)UINT32_MAX - 1, true },
		{ UINT64_MAX, false }, /* never lets the window be driven to its end */
		{ UINT64_MAX - 1, true },
		{ UINT64_MAX - 1, false },
		{ UINT64_MAX - 2, true },
	};
	struct esp_replay w;

	(void)state;
	memset(&w, 0, sizeof(w));
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (take(&w, row[i].seq) != row[i].ok)
			fail_msg("row %zu", i);
}

static void check_changes_nothing(void **state)
{
	struct esp_replay w, before;

	(void)state;
	memset(&w, 0, sizeof(w));
	esp_replay_mark(&w, 77);
	before = w;
	assert_true(esp_replay_check(&w, 100000));
	assert_true(esp_replay_check(&w, 78));
	assert_memory_equal(&w, &before, sizeof(w));
	esp_replay_mark(&w, 77); /* marking what is not acceptable neither */
	esp_replay_mark(&w, 0);
	assert_memory_equal(&w, &before, sizeof(w));
}

/* Against a plain record of all that was seen. */
static void model(void **state)
{
	enum { SPACE = 20000 };
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 4303);
	bool *seen = calloc(SPACE, sizeof(bool));
	struct esp_replay w;
	uint64_t top = 0;

	(void)state;
	assert_non_null(seen);
	memset(&w, 0, sizeof(w));
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t base = top > 1500 ? top - 1500 : 0;
		/* mostly around the top; a jump now and then */
		uint64_t seq = base + rng_below(&rng, rng_below(&rng, 1000) ? 1502 : 4000);
		bool ok;

		if (seq >= SPACE) {
			memset(seen, 0, SPACE * sizeof(bool));
			memset(&w, 0, sizeof(w));
			top = 0;
			continue;
		}
		ok = seq && !seen[seq] && (seq > top || top - seq < W);
		assert_int_equal(take(&w, seq), ok);
		if (ok) {
			seen[seq] = true;
			top = seq > top ? seq : top;
		}
	}
	free(seen);
}

static void extended(void **state)
{
	static const struct {
		uint64_t top;
		uint32_t low;
		uint64_t want;
	} row[] = {
		{ 0, 1, 1 },
		{ 0, UINT32_MAX, 0 }, /* before the first packet */
		{ 5, UINT32_MAX - 5, 0 },
		{ 5, UINT32_MAX / 2, UINT32_MAX / 2 },
		{ 2000, 3000, 3000 },
		{ 2000, 2000 - (W - 1), 2000 - (W - 1) },
		{ 2000, 2000 - W, 0x100000000u + 2000 - W }, /* left of the window: the next space */
		{ 0xffffffffu, 3, 0x100000003u },
		{ 0x100000003u, 0xfffffff0u, 0xfffffff0u }, /* the window reaches back */
		{ 0x100000003u, 4, 0x100000004u },
		{ 0xffffffff00001000u, 1, 0 }, /* there is no next space */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct esp_replay w;

		memset(&w, 0, sizeof(w));
		w.top = row[i].top;
		if (esp_replay_extend(&w, row[i].low) != row[i].want)
			fail_msg("row %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows),
		cmocka_unit_test(check_changes_nothing),
		cmocka_unit_test(model),
		cmocka_unit_test(extended),
	};

	return HARNESS_RUN(tests);
}
