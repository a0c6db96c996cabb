/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/text.h"
#include "crypto/cert.h"
#include "crypto/secret.h"
#include "harness.h"

static const char *const one_aor[] = { "home@example.org" };
static const char *const two_aors[] = { "home@example.org", "a,email:other@example.net" };
#define DAY_S 1795413600

static void identity_lives_through_its_files(void **state)
{
	struct identity *id, *back, *renewed;
	char *key, *cert;

	(void)state;
	assert_int_equal(identity_generate(one_aor, 1, DAY_S, &id), OK);
	assert_int_equal(identity_pem(id, &key, &cert), OK);
	assert_int_equal(identity_load(span_str(key), span_str(cert), &back), OK);
	assert_true(span_eq(identity_cert(id), identity_cert(back)));
	assert_true(span_eq(identity_spki(id), identity_spki(back)));
	assert_true(identity_has_aor(back, "home@example.org"));
	assert_false(identity_has_aor(back, "Home@example.org"));
	assert_int_equal(identity_renew(back, two_aors, 2, DAY_S, &renewed), OK);
	assert_true(span_eq(identity_spki(id), identity_spki(renewed)));
	assert_true(identity_has_aor(renewed, "a,email:other@example.net")); /* one name, not two */
	assert_false(identity_has_aor(renewed, "other@example.net"));
	assert_int_equal(identity_load(span_str(cert), span_str(key), &back), ERR_MALFORMED);
	identity_free(back);
	identity_free(id);
	/* another key's certificate */
	assert_int_equal(identity_generate(one_aor, 1, DAY_S, &id), OK);
	free(cert);
	secret_wipe(key, strlen(key));
	free(key);
	assert_int_equal(identity_pem(id, &key, &cert), OK);
	identity_free(id);
	{
		char *key2, *cert2;

		assert_int_equal(identity_pem(renewed, &key2, &cert2), OK);
		assert_int_equal(identity_load(span_str(key), span_str(cert2), &back), ERR_AUTH);
		free(key2);
		free(cert2);
	}
	identity_free(renewed);
	free(key);
	free(cert);
	assert_int_equal(identity_generate(one_aor, 0, DAY_S, &id), ERR_WRONG_STATE);
}

static void signatures(void **state)
{
	struct identity *id, *other;
	struct pubkey *k, *wrong;
	const struct sig_alg sha256 = { SIG_ECDSA, HASH_SHA256, 0 }, sha1 = { SIG_ECDSA, HASH_SHA1, 0 };
	uint8_t raw[64], der[SIG_MAX];
	size_t len;

	(void)state;
	assert_int_equal(identity_generate(one_aor, 1, DAY_S, &id), OK);
	assert_int_equal(identity_generate(one_aor, 1, DAY_S, &other), OK);
	assert_int_equal(pubkey_from_cert(identity_cert(id), &k), OK);
	assert_int_equal(pubkey_from_spki(identity_spki(other), &wrong), OK);
	assert_int_equal(pubkey_type(k), PUBKEY_EC_P256);
	assert_true(span_eq(pubkey_spki(k), identity_spki(id)));
	assert_int_equal(identity_sign_raw(id, SPAN_LIT("data"), raw), OK);
	assert_int_equal(pubkey_verify_raw(k, SPAN_LIT("data"), span_of(raw, 64)), OK);
	assert_int_equal(pubkey_verify_raw(k, SPAN_LIT("date"), span_of(raw, 64)), ERR_AUTH);
	assert_int_equal(pubkey_verify_raw(wrong, SPAN_LIT("data"), span_of(raw, 64)), ERR_AUTH);
	raw[63] ^= 1;
	assert_int_equal(pubkey_verify_raw(k, SPAN_LIT("data"), span_of(raw, 64)), ERR_AUTH);
	memset(raw, 0, sizeof(raw));
	assert_int_equal(pubkey_verify_raw(k, SPAN_LIT("data"), span_of(raw, 64)), ERR_AUTH);
	memset(raw, 0xff, sizeof(raw));
	assert_int_equal(pubkey_verify_raw(k, SPAN_LIT("data"), span_of(raw, 64)), ERR_AUTH);
	assert_int_equal(identity_sign_der(id, SPAN_LIT("data"), der, &len), OK);
	assert_int_equal(pubkey_verify(k, &sha256, SPAN_LIT("data"), span_of(der, len)), OK);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(pubkey_verify(k, &sha256, SPAN_LIT("data"), span_of(der, cut)), ERR_AUTH);
	assert_int_equal(pubkey_verify(k, &sha1, SPAN_LIT("data"), span_of(der, len)), ERR_DENIED);
	pubkey_free(k);
	pubkey_free(wrong);
	identity_free(id);
	identity_free(other);
}

static void keys_must_be_whole_and_canonical(void **state)
{
	struct identity *id;
	struct pubkey *k;
	uint8_t mem[CERT_DER_MAX + 1];
	struct span spki, cert;

	(void)state;
	assert_int_equal(identity_generate(one_aor, 1, DAY_S, &id), OK);
	spki = identity_spki(id);
	cert = identity_cert(id);
	for (size_t cut = 0; cut < spki.len; cut++)
		assert_int_equal(pubkey_from_spki(span_sub(spki, 0, cut), &k), ERR_MALFORMED);
	for (size_t cut = 0; cut < cert.len; cut++)
		assert_int_equal(pubkey_from_cert(span_sub(cert, 0, cut), &k), ERR_MALFORMED);
	memcpy(mem, spki.p, spki.len);
	mem[spki.len] = 0;
	assert_int_equal(pubkey_from_spki(span_of(mem, spki.len + 1), &k), ERR_MALFORMED);
	mem[spki.len - 1] ^= 1; /* off the curve */
	assert_int_equal(pubkey_from_spki(span_of(mem, spki.len), &k), ERR_MALFORMED);
	memset(mem + spki.len - 64, 0, 64); /* nor is this one on it */
	assert_int_equal(pubkey_from_spki(span_of(mem, spki.len), &k), ERR_MALFORMED);
	memcpy(mem, spki.p, spki.len);
	mem[spki.len - 65] = 6; /* the hybrid form: the same point, another name */
	if (pubkey_from_spki(span_of(mem, spki.len), &k) == OK) {
		assert_false(span_eq(pubkey_spki(k), spki));
		pubkey_free(k);
	}
	memcpy(mem, cert.p, cert.len);
	assert_int_equal(pubkey_from_cert(span_of(mem, cert.len + 1), &k), ERR_MALFORMED);
	identity_free(id);
}

static void names_of_keys(void **state)
{
	static const struct {
		const char *text;
		bool ok;
	} rows[] = {
		{ "sha-256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", true },
		{ "SHA-256:000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F", true },
		{ "sha-256:00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:"
		  "1e:1f",
		  true },
		{ "sha-256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e", false },
		{ "sha-256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20", false },
		{ "sha-1:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", false },
		{ "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", false },
		{ "", false },
	};
	char text[KEY_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t hash[SPKI_HASH];

		assert_int_equal(key_parse(span_str(rows[i].text), hash) == OK, rows[i].ok);
		if (rows[i].ok)
			assert_string_equal(key_text(hash, text), rows[0].text);
	}
}

/* The worked example of our formats: key, address, and signatures made by another program. */
static void formats_of_the_product(void **state)
{
	json_t *root = harness_json("tieline/formats.json");
	static const char *const sides[] = { "offerer", "answerer" };
	static const char *const octets[] = { "signed_octets_offer_hex", "signed_octets_answer_hex" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const json_t *side = json_object_get(root, sides[i]);
		struct span spki = harness_hex(side, "spki_hex"), data = harness_hex(root, octets[i]);
		uint8_t hash[SPKI_HASH], ip[16];
		char text[KEY_TEXT];
		struct addr want, got;
		struct pubkey *k;

		assert_int_equal(spki_hash(spki, hash), OK);
		assert_string_equal(key_text(hash, text), harness_text(side, "key"));
		assert_int_equal(spki_address(spki, ip), OK);
		assert_int_equal(addr_parse_ip(span_str(harness_text(side, "address")), &want), OK);
		got = addr_of(SPAN_OF(ip), 0);
		assert_true(addr_eq(&got, &want));
		assert_int_equal(pubkey_from_spki(spki, &k), OK);
		{
			uint8_t sig[64];
			size_t len;
			const char *name = i ? "sig_answer_b64" : "sig_offer_b64";

			assert_int_equal(base64_parse(span_str(harness_text(root, name)), sig, sizeof(sig), &len), OK);
			assert_int_equal(len, 64);
			assert_int_equal(pubkey_verify_raw(k, data, span_of(sig, 64)), OK);
		}
		pubkey_free(k);
		free((void *)spki.p);
		free((void *)data.p);
	}
	json_decref(root);
}

static void secrets(void **state)
{
	uint8_t a[4] = { 1, 2, 3, 4 }, b[4] = { 1, 2, 3, 4 };
	struct rng rng = crypto_rng();

	(void)state;
	assert_true(secret_eq(a, b, 4));
	b[3] = 5;
	assert_false(secret_eq(a, b, 4));
	assert_true(secret_eq(a, b, 0));
	secret_wipe(a, 4);
	assert_memory_equal(a, "\0\0\0\0", 4);
	assert_int_not_equal(rng_u64(&rng), rng_u64(&rng));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity_lives_through_its_files), cmocka_unit_test(signatures),
		cmocka_unit_test(keys_must_be_whole_and_canonical), cmocka_unit_test(names_of_keys),
		cmocka_unit_test(formats_of_the_product),           cmocka_unit_test(secrets),
	};

	return HARNESS_RUN(tests);
}
