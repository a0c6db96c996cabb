/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>

#include "base/text.h"
#include "crypto/aead_impl.h"
#include "crypto/hash.h"
#include "crypto/kex.h"
#include "harness.h"

static struct span unhex(const char *text, uint8_t *dst, size_t cap)
{
	size_t len = 0;

	assert_int_equal(hex_parse(span_str(text), false, dst, cap, &len), OK);
	return span_of(dst, len);
}

static void assert_hex(struct span got, const char *want)
{
	char text[513];

	assert_string_equal(hex_write(got, text, sizeof(text)), want);
}

/* ---- hashes ---- */

/* RFC 1321 A.5, RFC 3174 7.3 and FIPS 180: "abc". */
static void hash_of_abc(void **state)
{
	static const struct {
		enum hash_alg alg;
		const char *want;
	} rows[] = {
		{ HASH_MD5, "900150983cd24fb0d6963f7d28e17f72" },
		{ HASH_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d" },
		{ HASH_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	};
	struct span parts[] = { SPAN_LIT("a"), SPAN_NONE, SPAN_LIT("bc") };
	uint8_t got[HASH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(hash_of(rows[i].alg, SPAN_LIT("abc"), got), OK);
		assert_hex(span_of(got, hash_size(rows[i].alg)), rows[i].want);
		assert_int_equal(hash_parts(rows[i].alg, parts, 3, got), OK);
		assert_hex(span_of(got, hash_size(rows[i].alg)), rows[i].want);
	}
	assert_string_equal(hash_name(HASH_SHA384), "sha-384");
}

/* RFC 4231, test case 2. */
static void hmac_rfc4231(void **state)
{
	static const struct {
		enum hash_alg alg;
		const char *want;
	} rows[] = {
		{ HASH_SHA256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ HASH_SHA384,
		  "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649" },
	};
	struct span parts[] = { SPAN_LIT("what do ya want "), SPAN_LIT("for nothing?") };
	uint8_t got[HASH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(hmac_parts(rows[i].alg, SPAN_LIT("Jefe"), parts, 2, got), OK);
		assert_hex(span_of(got, hash_size(rows[i].alg)), rows[i].want);
	}
	/* An empty key is a key, not "the one before". */
	assert_int_equal(hmac_of(HASH_SHA256, SPAN_NONE, SPAN_NONE, got), OK);
	assert_hex(span_of(got, 32), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* RFC 5869, A.3: no salt, no info. */
static void hkdf_rfc5869(void **state)
{
	uint8_t ikm[22], okm[42];

	(void)state;
	memset(ikm, 0x0b, sizeof(ikm));
	assert_int_equal(hkdf_of(HASH_SHA256, SPAN_OF(ikm), SPAN_NONE, okm, sizeof(okm)), OK);
	assert_hex(SPAN_OF(okm),
		   "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
	assert_int_equal(hkdf_of(HASH_SHA256, SPAN_OF(ikm), SPAN_NONE, okm, 255 * 32 + 1), ERR_LIMIT);
}

/* ---- AEAD ---- */

static void check_backend(const struct aead_backend *b, enum aead_alg alg, struct span key, struct span nonce,
			  struct span aad, struct span plain, struct span sealed, bool valid)
{
	void *k = b->open_key(alg, key.p);
	uint8_t *mem = malloc(plain.len + AEAD_TAG), *back = malloc(sealed.len + 1);

	assert_non_null(mem);
	assert_non_null(back);
	assert_non_null(k);
	if (valid) {
		assert_int_equal(b->seal(k, nonce.p, aad, plain, mem), OK);
		assert_true(span_eq(span_of(mem, plain.len + AEAD_TAG), sealed));
		/* in place, with the same object again */
		assert_int_equal(b->open(k, nonce.p, aad, span_of(mem, sealed.len), mem), OK);
		assert_true(span_eq(span_of(mem, plain.len), plain));
	}
	if (valid || sealed.len >= AEAD_TAG)
		assert_int_equal(b->open(k, nonce.p, aad, sealed, back), valid ? OK : ERR_AUTH);
	if (valid)
		assert_true(span_eq(span_of(back, plain.len), plain));
	b->close_key(k);
	free(mem);
	free(back);
}

static void check_aead(enum aead_alg alg, struct span key, struct span nonce, struct span aad, struct span plain,
		       struct span sealed, bool valid)
{
	assert_int_equal(key.len, aead_key_size(alg));
	check_backend(&aead_openssl, alg, key, nonce, aad, plain, sealed, valid);
	if (aead_mb())
		check_backend(aead_mb(), alg, key, nonce, aad, plain, sealed, valid);
}

/* ---- a second implementation that is not right ---- */

static void *wrong_key(enum aead_alg alg, const uint8_t *key)
{
	(void)alg;
	(void)key;
	return malloc(1);
}

static enum err wrong_seal(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	(void)k;
	(void)nonce;
	(void)aad;
	memmove(out, in.p, in.len);
	memset(out + in.len, 0, AEAD_TAG);
	return OK;
}

/* Right results, but it takes what is not authentic. */
static void *lax_key(enum aead_alg alg, const uint8_t *key)
{
	return aead_openssl.open_key(alg, key);
}

static enum err lax_seal(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	return aead_openssl.seal(k, nonce, aad, in, out);
}

static enum err lax_open(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	(void)aead_openssl.open(k, nonce, aad, in, out);
	return OK;
}

static void aead_backends_compared(void **state)
{
	static const struct aead_backend wrong = { "wrong", wrong_key, free, wrong_seal, wrong_seal };
	struct aead_backend lax = { "lax", lax_key, aead_openssl.close_key, lax_seal, lax_open };

	(void)state;
	for (enum aead_alg i = 0; i < AEAD_COUNT; i++) {
		assert_true(aead_same(&aead_openssl, &aead_openssl, i));
		assert_false(aead_same(&aead_openssl, &wrong, i));
		assert_false(aead_same(&aead_openssl, &lax, i));
		if (aead_mb())
			assert_true(aead_same(&aead_openssl, aead_mb(), i));
		assert_string_equal(aead_backend_name(i), aead_mb() ? "ipsec-mb" : "OpenSSL");
	}
}

static void testmgr(const char *rel, enum aead_alg alg16, enum aead_alg alg32)
{
	json_t *root = harness_json(rel), *v;
	size_t i, n = 0;

	json_array_foreach(json_object_get(root, "vectors"), i, v)
	{
		struct span key = harness_hex(v, "key"), salt = harness_hex(v, "salt"), iv = harness_hex(v, "iv");
		struct span aad = harness_hex(v, "aad"), plain = harness_hex(v, "plaintext");
		struct span sealed = harness_hex(v, "ciphertext_and_icv");
		uint8_t nonce[AEAD_NONCE];

		if ((key.len == 16 || key.len == 32) && salt.len == 4 && iv.len == 8 &&
		    json_integer_value(json_object_get(v, "icv_len")) == AEAD_TAG) {
			memcpy(nonce, salt.p, 4);
			memcpy(nonce + 4, iv.p, 8);
			check_aead(key.len == 16 ? alg16 : alg32, key, SPAN_OF(nonce), aad, plain, sealed,
				   !strcmp(harness_text(v, "verdict"), "valid"));
			n++;
		}
		free((void *)key.p);
		free((void *)salt.p);
		free((void *)iv.p);
		free((void *)aad.p);
		free((void *)plain.p);
		free((void *)sealed.p);
	}
	assert_true(n > 0);
	json_decref(root);
}

static void aead_gcm_esp_vectors(void **state)
{
	(void)state;
	testmgr("esp/linux-testmgr/rfc4106.json", AEAD_AES128_GCM, AEAD_AES256_GCM);
}

static void aead_chacha_esp_vectors(void **state)
{
	(void)state;
	testmgr("esp/linux-testmgr/rfc7539esp.json", AEAD_CHACHA20_POLY1305, AEAD_CHACHA20_POLY1305);
}

static void aead_gcm_wycheproof(void **state)
{
	json_t *root = harness_json("crypto/wycheproof/aes_gcm_test.json"), *group, *v;
	size_t g, i, n = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "testGroups"), g, group)
	{
		json_int_t bits = json_integer_value(json_object_get(group, "keySize"));

		if (json_integer_value(json_object_get(group, "ivSize")) != 96 || (bits != 128 && bits != 256) ||
		    json_integer_value(json_object_get(group, "tagSize")) != 128)
			continue;
		json_array_foreach(json_object_get(group, "tests"), i, v)
		{
			struct span key = harness_hex(v, "key"), nonce = harness_hex(v, "iv"),
				    aad = harness_hex(v, "aad");
			struct span plain = harness_hex(v, "msg"), ct = harness_hex(v, "ct"),
				    tag = harness_hex(v, "tag");
			uint8_t *sealed = malloc(ct.len + tag.len);

			assert_non_null(sealed);
			memcpy(sealed, ct.p, ct.len);
			memcpy(sealed + ct.len, tag.p, tag.len);
			check_aead(bits == 128 ? AEAD_AES128_GCM : AEAD_AES256_GCM, key, nonce, aad, plain,
				   span_of(sealed, ct.len + tag.len), !strcmp(harness_text(v, "result"), "valid"));
			n++;
			free(sealed);
			free((void *)key.p);
			free((void *)nonce.p);
			free((void *)aad.p);
			free((void *)plain.p);
			free((void *)ct.p);
			free((void *)tag.p);
		}
	}
	assert_true(n > 50);
	json_decref(root);
}

static void aead_refuses_every_change(void **state)
{
	static const uint8_t key[16], nonce[AEAD_NONCE];
	uint8_t sealed[5 + AEAD_TAG], back[5] = { 1, 1, 1, 1, 1 };
	struct aead *a;

	(void)state;
	assert_int_equal(aead_new(AEAD_AES128_GCM, key, &a), OK);
	assert_int_equal(aead_seal(a, nonce, SPAN_LIT("aad"), SPAN_LIT("hello"), sealed), OK);
	for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(aead_open(a, nonce, SPAN_LIT("aad"), SPAN_OF(sealed), back), ERR_AUTH);
		sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_memory_equal(back, "\0\0\0\0\0", 5);
	for (size_t cut = 0; cut < sizeof(sealed); cut++)
		assert_int_equal(aead_open(a, nonce, SPAN_LIT("aad"), span_of(sealed, cut), back), ERR_AUTH);
	assert_int_equal(aead_open(a, nonce, SPAN_LIT("aae"), SPAN_OF(sealed), back), ERR_AUTH);
	assert_int_equal(aead_open(a, nonce, SPAN_LIT("aad"), SPAN_OF(sealed), back), OK);
	aead_free(a);
}

static bool make_aead(void *arg)
{
	static const uint8_t key[32];
	struct aead *a = NULL;
	enum err e = aead_new(AEAD_AES256_GCM, key, &a);

	(void)arg;
	aead_free(a);
	return e == OK;
}

static void aead_without_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(make_aead, NULL);
}

/* ---- key exchange ---- */

static void exchange(enum kex_group g, const char *priv_i, const char *priv_r, const char *pub_i, const char *pub_r,
		     const char *want)
{
	uint8_t mem[64], shared[KEX_SHARED_MAX];
	struct kex *i = NULL, *r = NULL;

	assert_int_equal(kex_from_private(g, unhex(priv_i, mem, sizeof(mem)), &i), OK);
	assert_int_equal(kex_from_private(g, unhex(priv_r, mem, sizeof(mem)), &r), OK);
	assert_hex(kex_public(i), pub_i);
	assert_hex(kex_public(r), pub_r);
	assert_int_equal(kex_shared(i, kex_public(r), shared), OK);
	assert_hex(span_of(shared, kex_shared_size(g)), want);
	assert_int_equal(kex_shared(r, kex_public(i), shared), OK);
	assert_hex(span_of(shared, kex_shared_size(g)), want);
	kex_free(i);
	kex_free(r);
}

static void kex_rfc5903_group19(void **state)
{
	json_t *v = harness_json("ikev2/rfc/rfc5903-group19.json");

	(void)state;
	exchange(KEX_P256, harness_text(v, "private_i"), harness_text(v, "private_r"), harness_text(v, "public_i"),
		 harness_text(v, "public_r"), harness_text(v, "shared_secret"));
	json_decref(v);
}

/* RFC 5903, 8.2. */
static void kex_rfc5903_group20(void **state)
{
	(void)state;
	exchange(KEX_P384,
		 "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
		 "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
		 "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa"
		 "9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
		 "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571"
		 "dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
		 "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746");
}

/* Computed from the formulas of RFC 3526, 3 and 4, by other means: SHA-256 of both public values and of the shared
 * secret for the private keys 0102..28 and 292a..50. */
static void kex_rfc3526(void **state)
{
	static const struct {
		enum kex_group group;
		const char *i, *r, *shared;
	} rows[] = {
		{ KEX_MODP2048, "3ae26e14ac54744ba175a8b2c76205eebfc4fdb8314c4c40ae2ea47b3c0e28a3",
		  "f004201373749bb4a11ac168dee9ca58fd4d4a95fe374add29941d9e44fc1a9f",
		  "af739a3e7cffbe8f8dd9700308b04c2182c5feee6afcdab8d1803a093991bd57" },
		{ KEX_MODP3072, "71cd9b27251732586c6a41ac0f0a75656b6a8230b1ec2452d3bca7a4da036034",
		  "46bd900e02859d51e4cf92fb214639e13534aab4e43bfa60e5f3843fdbca098d",
		  "9ded64b8c5d41c1421c6707bf7f7091116f3c2e3cb75bdc347eaf90966cecb69" },
	};

	(void)state;
	for (size_t n = 0; n < 2; n++) {
		uint8_t priv[80], shared[KEX_SHARED_MAX], hash[32];
		struct kex *i, *r;

		for (uint8_t k = 0; k < sizeof(priv); k++)
			priv[k] = (uint8_t)(k + 1);
		assert_int_equal(kex_from_private(rows[n].group, span_of(priv, 40), &i), OK);
		assert_int_equal(kex_from_private(rows[n].group, span_of(priv + 40, 40), &r), OK);
		assert_int_equal(hash_of(HASH_SHA256, kex_public(i), hash), OK);
		assert_hex(SPAN_OF(hash), rows[n].i);
		assert_int_equal(hash_of(HASH_SHA256, kex_public(r), hash), OK);
		assert_hex(SPAN_OF(hash), rows[n].r);
		assert_int_equal(kex_shared(i, kex_public(r), shared), OK);
		assert_int_equal(hash_of(HASH_SHA256, span_of(shared, kex_shared_size(rows[n].group)), hash), OK);
		assert_hex(SPAN_OF(hash), rows[n].shared);
		kex_free(i);
		kex_free(r);
	}
}

/* RFC 6989, 2.1: 0, 1, p - 1, p and more are no public values; 2 is. */
static void kex_refuses_bad_numbers(void **state)
{
	static const enum kex_group all[] = { KEX_MODP2048, KEX_MODP3072 };
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 3);

	(void)state;
	for (size_t n = 0; n < 2; n++) {
		size_t len = kex_public_size(all[n]);
		uint8_t y[KEX_PUBLIC_MAX] = { 0 }, shared[KEX_SHARED_MAX], p[KEX_PUBLIC_MAX];
		BIGNUM *prime = n ? BN_get_rfc3526_prime_3072(NULL) : BN_get_rfc3526_prime_2048(NULL);
		struct kex *k;

		assert_int_equal(BN_bn2binpad(prime, p, (int)len), (int)len);
		BN_free(prime);
		assert_int_equal(kex_new(all[n], &rng, &k), OK);
		assert_int_equal(kex_shared(k, span_of(y, len), shared), ERR_MALFORMED);
		y[len - 1] = 1;
		assert_int_equal(kex_shared(k, span_of(y, len), shared), ERR_MALFORMED);
		y[len - 1] = 2;
		assert_int_equal(kex_shared(k, span_of(y, len), shared), OK);
		assert_int_equal(kex_shared(k, span_of(y, len - 1), shared), ERR_MALFORMED);
		assert_int_equal(kex_shared(k, span_of(p, len), shared), ERR_MALFORMED);
		p[len - 1]--;
		assert_int_equal(kex_shared(k, span_of(p, len), shared), ERR_MALFORMED);
		p[len - 1]--;
		assert_int_equal(kex_shared(k, span_of(p, len), shared), OK);
		memset(y, 0xff, sizeof(y));
		assert_int_equal(kex_shared(k, span_of(y, len), shared), ERR_MALFORMED);
		kex_free(k);
	}
}

static void kex_rfc8031_group31(void **state)
{
	json_t *v = harness_json("ikev2/rfc/rfc8031-curve25519.json");

	(void)state;
	exchange(KEX_X25519, harness_text(v, "random_i"), harness_text(v, "random_r"), harness_text(v, "public_i"),
		 harness_text(v, "public_r"), harness_text(v, "shared_secret"));
	json_decref(v);
}

static void kex_x25519_wycheproof(void **state)
{
	json_t *root = harness_json("crypto/wycheproof/x25519_test.json"), *group, *v;
	static const uint8_t zero[32];
	size_t g, i, n = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "testGroups"), g, group)
		json_array_foreach(json_object_get(group, "tests"), i, v)
	{
		struct span pub = harness_hex(v, "public"), priv = harness_hex(v, "private");
		struct span want = harness_hex(v, "shared");
		uint8_t shared[KEX_SHARED_MAX];
		struct kex *k;
		enum err e;

		assert_int_equal(kex_from_private(KEX_X25519, priv, &k), OK);
		e = kex_shared(k, pub, shared);
		/* RFC 8031, 5: an all-zero result MUST be refused. */
		assert_int_equal(e, span_eq(want, SPAN_OF(zero)) || pub.len != 32 ? ERR_MALFORMED : OK);
		if (e == OK)
			assert_true(span_eq(span_of(shared, 32), want));
		kex_free(k);
		free((void *)pub.p);
		free((void *)priv.p);
		free((void *)want.p);
		n++;
	}
	assert_true(n > 400);
	json_decref(root);
}

static void kex_refuses_bad_points(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	uint8_t point[64], point384[96], shared[KEX_SHARED_MAX];
	struct kex *k;

	(void)state;
	assert_int_equal(kex_new(KEX_P256, &rng, &k), OK);
	memcpy(point, kex_public(k).p, 64);
	assert_int_equal(kex_shared(k, SPAN_OF(point), shared), OK);
	point[63] ^= 1; /* off the curve */
	assert_int_equal(kex_shared(k, SPAN_OF(point), shared), ERR_MALFORMED);
	memset(point, 0, sizeof(point));
	assert_int_equal(kex_shared(k, SPAN_OF(point), shared), ERR_MALFORMED);
	assert_int_equal(kex_shared(k, span_of(point, 63), shared), ERR_MALFORMED);
	assert_int_equal(kex_shared(k, SPAN_NONE, shared), ERR_MALFORMED);
	kex_free(k);
	assert_int_equal(kex_new(KEX_P384, &rng, &k), OK);
	memcpy(point384, kex_public(k).p, 96);
	assert_int_equal(kex_shared(k, SPAN_OF(point384), shared), OK);
	point384[0] ^= 1;
	assert_int_equal(kex_shared(k, SPAN_OF(point384), shared), ERR_MALFORMED);
	assert_int_equal(kex_shared(k, span_of(point384, 64), shared), ERR_MALFORMED);
	kex_free(k);
	memset(point, 0, sizeof(point));
	assert_int_equal(kex_from_private(KEX_P256, span_of(point, 32), &k), ERR_MALFORMED);
	memset(point, 0xff, sizeof(point));
	assert_int_equal(kex_from_private(KEX_P256, span_of(point, 32), &k), ERR_MALFORMED);
}

static void kex_repeats_from_a_seed(void **state)
{
	struct rng_seeded s1, s2;
	struct rng a = rng_seeded_init(&s1, 9), b = rng_seeded_init(&s2, 9);

	(void)state;
	for (enum kex_group g = 0; g < KEX_COUNT; g++) {
		struct kex *x, *y;

		assert_int_equal(kex_new(g, &a, &x), OK);
		assert_int_equal(kex_new(g, &b, &y), OK);
		assert_true(span_eq(kex_public(x), kex_public(y)));
		kex_free(x);
		kex_free(y);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_of_abc),
		cmocka_unit_test(hmac_rfc4231),
		cmocka_unit_test(hkdf_rfc5869),
		cmocka_unit_test(aead_gcm_esp_vectors),
		cmocka_unit_test(aead_chacha_esp_vectors),
		cmocka_unit_test(aead_gcm_wycheproof),
		cmocka_unit_test(aead_refuses_every_change),
		cmocka_unit_test(aead_without_memory),
		cmocka_unit_test(aead_backends_compared),
		cmocka_unit_test(kex_rfc5903_group19),
		cmocka_unit_test(kex_rfc5903_group20),
		cmocka_unit_test(kex_rfc3526),
		cmocka_unit_test(kex_refuses_bad_numbers),
		cmocka_unit_test(kex_rfc8031_group31),
		cmocka_unit_test(kex_x25519_wycheproof),
		cmocka_unit_test(kex_refuses_bad_points),
		cmocka_unit_test(kex_repeats_from_a_seed),
	};

	return HARNESS_RUN(tests);
}
