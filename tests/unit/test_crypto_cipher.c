/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* One packet protected, by every cipher. Published packets are in test_esp_packet and test_ike_keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "harness.h"

static const uint8_t key[CIPHER_KEY_MAX] = { 1, 2, 3, 4, 5, 6, 7, 8, [40] = 9 };
static struct rng_seeded seed;
static struct rng rng;

static void sizes(void **state)
{
	static const struct {
		size_t encr, integ, iv, block;
	} rows[CIPHER_COUNT] = {
		[CIPHER_AES128_GCM] = { 20, 0, 8, 1 },           [CIPHER_AES256_GCM] = { 36, 0, 8, 1 },
		[CIPHER_CHACHA20_POLY1305] = { 36, 0, 8, 1 },    [CIPHER_AES128_CBC_SHA256] = { 16, 32, 16, 16 },
		[CIPHER_AES256_CBC_SHA256] = { 32, 32, 16, 16 },
	};

	(void)state;
	for (enum cipher_alg a = 0; a < CIPHER_COUNT; a++) {
		assert_int_equal(cipher_encr_size(a), rows[a].encr);
		assert_int_equal(cipher_integ_size(a), rows[a].integ);
		assert_int_equal(cipher_iv_size(a), rows[a].iv);
		assert_int_equal(cipher_block(a), rows[a].block);
		assert_true(cipher_key_size(a) <= CIPHER_KEY_MAX);
	}
}

/* What goes in comes out; each changed bit, and each part of what is said about the packet, counts. */
static void both_ways(void **state)
{
	(void)state;
	for (enum cipher_alg a = 0; a < CIPHER_COUNT; a++) {
		struct cipher_about about = { SPAN_LIT("a head"), cipher_combined(a) ? SPAN_NONE : SPAN_LIT("tail") };
		struct cipher_about other = { SPAN_LIT("a Head"), about.tail };
		struct cipher *seal, *open;

		assert_int_equal(cipher_new(a, key, &rng, &seal), OK);
		assert_int_equal(cipher_new(a, key, NULL, &open), OK);
		for (size_t len = 0; len <= 64; len += cipher_block(a)) {
			uint8_t m[128], out[128];
			size_t total = cipher_iv_size(a) + len + CIPHER_ICV, got;
			enum err e;

			memset(m, 0x5a, sizeof(m));
			e = cipher_seal(seal, &about, len + 1, m, len);
			if (!len && !cipher_combined(a)) {
				assert_int_equal(e, ERR_MALFORMED);
				continue;
			}
			assert_int_equal(e, OK);
			if (cipher_combined(a))
				assert_int_equal(be64(m), len + 1); /* RFC 4106, 3.1: the IV is the counter */
			assert_int_equal(cipher_open(open, &about, span_of(m, total), out, &got), OK);
			assert_int_equal(got, len);
			for (size_t i = 0; i < len; i++)
				assert_int_equal(out[i], 0x5a);
			assert_int_equal(cipher_open(open, &other, span_of(m, total), out, &got), ERR_AUTH);
			if (!cipher_combined(a)) {
				other = (struct cipher_about){ about.head, SPAN_LIT("tial") };
				assert_int_equal(cipher_open(open, &other, span_of(m, total), out, &got), ERR_AUTH);
			}
			for (size_t bit = 0; bit < 8 * total; bit++) {
				m[bit / 8] ^= (uint8_t)(1u << bit % 8);
				assert_int_equal(cipher_open(open, &about, span_of(m, total), out, &got), ERR_AUTH);
				m[bit / 8] ^= (uint8_t)(1u << bit % 8);
			}
			for (size_t cut = 0; cut < total; cut++) {
				e = cipher_open(open, &about, span_of(m, cut), out, &got);
				assert_int_equal(e, cut < cipher_iv_size(a) + CIPHER_ICV ||
								    (cut - cipher_iv_size(a) - CIPHER_ICV) %
									    cipher_block(a)
							    ? ERR_MALFORMED
							    : ERR_AUTH);
			}
		}
		cipher_free(seal);
		cipher_free(open);
	}
}

/* RFC 3602, 3: IVs are random. RFC 4868, 2.6: the ICV is the first half of the HMAC over everything before it. */
static void cbc(void **state)
{
	struct cipher_about about = { SPAN_LIT("SPI and number"), SPAN_LIT("high") };
	uint8_t one[16 + 32 + 16] = { 0 }, two[sizeof(one)] = { 0 }, mac[32];
	struct span parts[] = { about.head, span_of(one, 48), about.tail };
	struct cipher *c;

	(void)state;
	assert_int_equal(cipher_new(CIPHER_AES256_CBC_SHA256, key, &rng, &c), OK);
	assert_int_equal(cipher_seal(c, &about, 1, one, 32), OK);
	assert_int_equal(cipher_seal(c, &about, 1, two, 32), OK);
	assert_memory_not_equal(one, two, 16);
	assert_memory_not_equal(one + 16, two + 16, 16);
	assert_int_equal(hmac_parts(HASH_SHA256, span_of(key + 32, 32), parts, 3, mac), OK);
	assert_memory_equal(one + 48, mac, CIPHER_ICV);
	assert_int_equal(cipher_seal(c, &about, 1, one, 31), ERR_MALFORMED);
	cipher_free(c);
	/* nothing random, nothing sent */
	assert_int_equal(cipher_new(CIPHER_AES128_CBC_SHA256, key, NULL, &c), OK);
	assert_int_equal(cipher_seal(c, &about, 1, one, 32), ERR_WRONG_STATE);
	cipher_free(c);
	cipher_free(NULL);
}

static bool make(void *arg)
{
	struct cipher *c = NULL;
	enum err e = cipher_new(*(enum cipher_alg *)arg, key, &rng, &c);

	cipher_free(c);
	return e == OK;
}

static void without_memory(void **state)
{
	(void)state;
	for (enum cipher_alg a = 0; a < CIPHER_COUNT; a++)
		harness_alloc_ladder(make, &a);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(both_ways),
		cmocka_unit_test(cbc),
		cmocka_unit_test(without_memory),
	};

	rng = rng_seeded_init(&seed, 3602);
	return HARNESS_RUN(tests);
}
