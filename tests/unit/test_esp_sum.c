/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "esp/sum.h"
#include "harness.h"

/* As RFC 1071, 4.1 writes it down. */
static uint32_t plain(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* RFC 1071, 3: the worked example. */
static void example(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	(void)state;
	assert_int_equal(esp_sum(bytes, sizeof(bytes)), 0xddf2);
	assert_int_equal(esp_sum(bytes, 3), 0xf201);
	assert_int_equal(esp_sum(bytes, 0), 0);
	assert_int_equal(esp_sum_fold(0xffffffff), 0xffff);
	assert_int_equal(esp_sum_fold(0x1ffff), 1);
	assert_int_equal(esp_sum_fold(0), 0);
}

/* Every implementation, every length and place; memory that ends where the bytes do. */
static void lengths(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);

	(void)state;
	for (size_t len = 0; len < 2200; len += len < 300 ? 1 : 61) {
		uint8_t *src = malloc(len + 1), *dst = malloc(len + 1);
		uint32_t want;

		assert_non_null(src);
		assert_non_null(dst);
		rng_fill(&rng, src, len + 1);
		want = plain(src + 1, len);
		for (unsigned k = 0; k < ESP_SUM_KINDS; k++) {
			if (!esp_sum_has(k))
				continue;
			assert_int_equal(esp_sum_by(k, NULL, src + 1, len), want);
			memset(dst, 0, len + 1);
			assert_int_equal(esp_sum_by(k, dst, src + 1, len), want);
			assert_memory_equal(dst, src + 1, len);
			assert_int_equal(dst[len], 0);
		}
		assert_int_equal(esp_sum(src + 1, len), want);
		assert_int_equal(esp_sum_copy(dst + 1, src + 1, len), want);
		assert_memory_equal(dst + 1, src + 1, len);
		free(src);
		free(dst);
	}
}

/* The largest and the smallest sums. */
static void extremes(void **state)
{
	uint8_t *bytes = malloc(70000), *dst = malloc(70000);

	(void)state;
	assert_non_null(bytes);
	assert_non_null(dst);
	for (unsigned k = 0; k < ESP_SUM_KINDS; k++) {
		if (!esp_sum_has(k))
			continue;
		memset(bytes, 0xff, 70000);
		assert_int_equal(esp_sum_by(k, NULL, bytes, 70000), 0xffff);
		assert_int_equal(esp_sum_by(k, dst, bytes, 69999), plain(bytes, 69999));
		memset(bytes, 0, 70000);
		assert_int_equal(esp_sum_by(k, dst, bytes, 70000), 0);
		bytes[69999] = 1;
		assert_int_equal(esp_sum_by(k, NULL, bytes, 70000), 1);
		/* words that add up to 0xffff are no 0 */
		put_be16(bytes + 100, 0xfffe);
		assert_int_equal(esp_sum_by(k, NULL, bytes, 70000), 0xffff);
	}
	free(bytes);
	free(dst);
}

static void choice(void **state)
{
	(void)state;
	assert_true(esp_sum_has(ESP_SUM_PORTABLE));
	assert_int_equal(esp_sum_chosen(), esp_sum_has(ESP_SUM_AVX2) ? ESP_SUM_AVX2 : ESP_SUM_PORTABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(example),
		cmocka_unit_test(lengths),
		cmocka_unit_test(extremes),
		cmocka_unit_test(choice),
	};

	return HARNESS_RUN(tests);
}
