/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Signatures of peers: every kind that we verify, made here by OpenSSL, as AUTH payloads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/text.h"
#include "harness.h"
#include "ike/auth.h"

/* RFC 7427, appendix A; RFC 8420, appendix A. PSS of SHA-384 and SHA-512 are A.4.3 with the other object and salt. */
#define PSS(hash, salt)                                                                                                \
	"304606092a864886f70d01010a3039a00f300d06096086480165030402" hash                                              \
	"0500a11c301a06092a864886f70d010108300d0609608648"                                                             \
	"0165030402" hash "0500a2030201" salt "a303020101"
#define ECDSA_SHA256 "300a06082a8648ce3d040302"
#define ECDSA_SHA384 "300a06082a8648ce3d040303"
#define ECDSA_SHA512 "300a06082a8648ce3d040304"
#define RSA_SHA256 "300d06092a864886f70d01010b0500"
#define ED25519 "300506032b6570"

static struct span unhex(const char *hex, uint8_t *dst, size_t cap)
{
	size_t len;

	assert_int_equal(hex_parse(span_str(hex), false, dst, cap, &len), OK);
	return span_of(dst, len);
}

/* ---- AlgorithmIdentifiers ---- */

static void identifiers(void **state)
{
	static const struct {
		const char *der, *what;
		enum err e;
		enum sig_kind kind;
		enum hash_alg hash;
		int salt;
	} rows[] = {
		{ ECDSA_SHA256, "ECDSA SHA-256", OK, SIG_ECDSA, HASH_SHA256, 0 },
		{ ECDSA_SHA384, "ECDSA SHA-384", OK, SIG_ECDSA, HASH_SHA384, 0 },
		{ ECDSA_SHA512, "ECDSA SHA-512", OK, SIG_ECDSA, HASH_SHA512, 0 },
		{ RSA_SHA256, "RSA SHA-256", OK, SIG_RSA_PKCS1, HASH_SHA256, 0 },
		{ "300d06092a864886f70d01010c0500", "RSA SHA-384", OK, SIG_RSA_PKCS1, HASH_SHA384, 0 },
		{ "300d06092a864886f70d01010d0500", "RSA SHA-512", OK, SIG_RSA_PKCS1, HASH_SHA512, 0 },
		{ "300b06092a864886f70d01010b", "RSA without NULL", OK, SIG_RSA_PKCS1, HASH_SHA256, 0 },
		{ ED25519, "Ed25519", OK, SIG_ED25519, HASH_COUNT, 0 },
		{ PSS("01", "20"), "PSS SHA-256", OK, SIG_RSA_PSS, HASH_SHA256, 32 },
		{ PSS("02", "30"), "PSS SHA-384", OK, SIG_RSA_PSS, HASH_SHA384, 48 },
		{ PSS("03", "40"), "PSS SHA-512", OK, SIG_RSA_PSS, HASH_SHA512, 64 },
		{ "300d06092a864886f70d0101050500", "A.1.1, RSA SHA-1", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "300906072a8648ce3d0401", "A.3.1, ECDSA SHA-1", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "300b0609608648016503040302", "A.2.2, DSA", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "300d06092a864886f70d01010a3000", "A.4.1, PSS by default: SHA-1", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "303e06092a864886f70d01010a3031a00b300906052b0e03021a0500a118301606092a864886f70d010108300906052b0e"
		  "03021a0500a203020114a303020101",
		  "A.4.2, PSS SHA-1", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "304606092a864886f70d01010a3039a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06"
		  "096086480165030402020500a203020120a303020101",
		  "PSS with another hash in its mask", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "300c06082a8648ce3d0403020500", "ECDSA with NULL", ERR_UNSUPPORTED, 0, 0, 0 },
		{ "300a06082a8648ce3d04030200", "a byte after it", ERR_MALFORMED, 0, 0, 0 },
		{ "", "nothing", ERR_MALFORMED, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t mem[128];
		struct sig_alg alg = { 0 };
		struct span der = unhex(rows[i].der, mem, sizeof(mem));
		enum err e = sig_alg_parse(der, &alg);

		if (e != rows[i].e ||
		    (e == OK && (alg.kind != rows[i].kind || alg.hash != rows[i].hash || alg.salt_len != rows[i].salt)))
			fail_msg("%s", rows[i].what);
		for (size_t len = 0; e == OK && len < der.len; len++)
			if (sig_alg_parse(span_sub(der, 0, len), &alg) == OK)
				fail_msg("%s, cut at %zu", rows[i].what, len);
	}
}

static void identifiers_published(void **state)
{
	json_t *file = harness_json("ikev2/rfc/rfc7427-algorithm-identifiers.json"), *item;
	size_t i, n = 0;

	(void)state;
	json_array_foreach(json_object_get(file, "items"), i, item)
	{
		const char *name = harness_text(item, "name");
		struct span der = harness_hex(item, "der");
		bool sha2 = (strstr(name, "SHA-256") || strstr(name, "sha256") || strstr(name, "sha384") ||
			     strstr(name, "sha512")) &&
			    strncmp(name, "dsa", 3);
		struct sig_alg alg;

		if ((sig_alg_parse(der, &alg) == OK) != sha2)
			fail_msg("%s", name);
		n += sha2;
		free((void *)(uintptr_t)der.p);
	}
	assert_int_equal(n, 7);
	json_decref(file);
}

/* ---- AUTH ---- */

enum key { P256, P384, P521, ED, RSA2048, RSA1024, N_KEYS };
static EVP_PKEY *keys[N_KEYS];

static void keys_make(void)
{
	keys[P256] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	keys[P384] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	keys[P521] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
	keys[ED] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	keys[RSA2048] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	keys[RSA1024] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
	for (int i = 0; i < N_KEYS; i++)
		if (!keys[i])
			abort();
}

/* A self-signed certificate; what it says is nothing to a peer that was announced by its fingerprint. */
static struct span cert_make(EVP_PKEY *key, uint8_t **mem)
{
	X509 *x = X509_new();
	int len;

	*mem = NULL;
	assert_non_null(x);
	assert_int_equal(X509_set_version(x, 2), 1);
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), 0));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
	assert_int_equal(X509_set_pubkey(x, key), 1);
	assert_true(X509_sign(x, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()) > 0);
	len = i2d_X509(x, mem);
	X509_free(x);
	assert_true(len > 0);
	return span_of(*mem, (size_t)len);
}

static size_t sign(EVP_PKEY *key, const char *hash, int padding, int salt, struct span data, uint8_t *sig, size_t cap)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx;
	size_t len = cap;

	assert_int_equal(EVP_DigestSignInit_ex(ctx, &pctx, hash, NULL, NULL, key, NULL), 1);
	if (padding)
		assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, padding), 1);
	if (padding == RSA_PKCS1_PSS_PADDING)
		assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, salt), 1);
	assert_int_equal(EVP_DigestSign(ctx, sig, &len, data.p, data.len), 1);
	EVP_MD_CTX_free(ctx);
	return len;
}

/* DER to r || s (RFC 4754, 7). */
static size_t to_raw(uint8_t *sig, size_t len, int half)
{
	const uint8_t *p = sig;
	ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)len);
	uint8_t raw[132];

	assert_non_null(s);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(s), raw, half), half);
	assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(s), raw + half, half), half);
	ECDSA_SIG_free(s);
	memcpy(sig, raw, 2 * (size_t)half);
	return 2 * (size_t)half;
}

struct row {
	const char *what;
	enum key key;
	uint8_t method;
	const char *alg; /* method 14 */
	const char *hash;
	int padding, salt;
	int half; /* methods 9 to 11 */
	bool good;
};

static const struct row rows[] = {
	{ "P-256, SHA-256", P256, 14, ECDSA_SHA256, "SHA256", 0, 0, 0, true },
	{ "P-256, SHA-512", P256, 14, ECDSA_SHA512, "SHA512", 0, 0, 0, true },
	{ "P-384, SHA-384", P384, 14, ECDSA_SHA384, "SHA384", 0, 0, 0, true },
	{ "P-521, SHA-512", P521, 14, ECDSA_SHA512, "SHA512", 0, 0, 0, true },
	{ "Ed25519", ED, 14, ED25519, NULL, 0, 0, 0, true },
	{ "PKCS#1, SHA-256", RSA2048, 14, RSA_SHA256, "SHA256", RSA_PKCS1_PADDING, 0, 0, true },
	{ "PKCS#1, SHA-512", RSA2048, 14, "300d06092a864886f70d01010d0500", "SHA512", RSA_PKCS1_PADDING, 0, 0, true },
	{ "PSS, SHA-256", RSA2048, 14, PSS("01", "20"), "SHA256", RSA_PKCS1_PSS_PADDING, 32, 0, true },
	{ "PSS, SHA-384", RSA2048, 14, PSS("02", "30"), "SHA384", RSA_PKCS1_PSS_PADDING, 48, 0, true },
	{ "PSS, SHA-512", RSA2048, 14, PSS("03", "40"), "SHA512", RSA_PKCS1_PSS_PADDING, 64, 0, true },
	{ "method 9", P256, 9, NULL, "SHA256", 0, 0, 32, true },
	{ "method 10", P384, 10, NULL, "SHA384", 0, 0, 48, true },
	{ "method 11", P521, 11, NULL, "SHA512", 0, 0, 66, true },
	{ "another hash than said", P256, 14, ECDSA_SHA384, "SHA256", 0, 0, 0, false },
	{ "another salt than said", RSA2048, 14, PSS("01", "20"), "SHA256", RSA_PKCS1_PSS_PADDING, 20, 0, false },
	{ "PSS as PKCS#1", RSA2048, 14, RSA_SHA256, "SHA256", RSA_PKCS1_PSS_PADDING, 32, 0, false },
	{ "an RSA key and ECDSA", RSA2048, 14, ECDSA_SHA256, "SHA256", RSA_PKCS1_PADDING, 0, 0, false },
	{ "1024 bits", RSA1024, 14, RSA_SHA256, "SHA256", RSA_PKCS1_PADDING, 0, 0, false },
	{ "SHA-1", RSA2048, 14, "300d06092a864886f70d0101050500", "SHA1", RSA_PKCS1_PADDING, 0, 0, false },
	{ "RSA by method 1", RSA2048, 1, NULL, "SHA1", RSA_PKCS1_PADDING, 0, 0, false },
	{ "RSA by method 1, SHA-256", RSA2048, 1, NULL, "SHA256", RSA_PKCS1_PADDING, 0, 0, false },
	{ "P-384 by method 9", P384, 9, NULL, "SHA256", 0, 0, 48, false },
	{ "P-256 by method 10", P256, 10, NULL, "SHA384", 0, 0, 32, false },
	{ "a method of nobody", P256, 13, NULL, "SHA256", 0, 0, 32, false },
};

static size_t value_of(const struct row *r, struct span octets, uint8_t *mem, size_t cap)
{
	struct wr w = wr_of(mem, cap);
	uint8_t der[128], sig[600];
	size_t len;

	if (r->alg) {
		struct span a = unhex(r->alg, der, sizeof(der));

		wr_u8(&w, (uint8_t)a.len);
		wr_span(&w, a);
	}
	len = sign(keys[r->key], r->hash, r->padding, r->salt, octets, sig, sizeof(sig));
	if (r->half)
		len = to_raw(sig, len, r->half);
	wr_bytes(&w, sig, len);
	assert_false(w.bad);
	return w.len;
}

static void every_kind(void **state)
{
	static const uint8_t id_body[] = { IKE_ID_RFC822, 0, 0, 0, 'b', 'o', 'b' };
	struct ike_keys k = { .prf = HASH_SHA256, .prf_len = 32, .sk_pi = { 1 } };
	struct ike_signed what = { true, SPAN_LIT("a first message"), SPAN_LIT("and a nonce"), SPAN_OF(id_body) };
	uint8_t octets[128];
	struct wr w = wr_of(octets, sizeof(octets));

	(void)state;
	wr_span(&w, what.message);
	wr_span(&w, what.nonce);
	assert_int_equal(ike_auth_mac(&k, true, what.id_body, octets + w.len), OK);
	w.len += 32;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ike_config cfg = { .bare = true, .n_fingerprints = 1 };
		uint8_t value[1024], key[SPKI_HASH], *der;
		struct span cert = cert_make(keys[rows[i].key], &der);
		struct ike_auth auth = { rows[i].method, SPAN_NONE };
		enum ike_failure why = IKE_FAIL_NONE;
		enum err e;

		cfg.fingerprints[0].hash = HASH_SHA256;
		assert_int_equal(hash_of(HASH_SHA256, cert, cfg.fingerprints[0].value), OK);
		auth.value = span_of(value, value_of(&rows[i], wr_done(&w), value, sizeof(value)));
		e = ike_peer_verify(&cfg, &k, &what, cert, &auth, &why, key);
		if (e != (rows[i].good ? OK : ERR_AUTH) || (e != OK && why != IKE_FAIL_AUTH))
			fail_msg("%s: %d", rows[i].what, e);
		for (size_t at = 0; rows[i].good && at < auth.value.len; at += 7) {
			value[at] ^= 0x10;
			if (ike_peer_verify(&cfg, &k, &what, cert, &auth, &why, key) == OK)
				fail_msg("%s: byte %zu changed", rows[i].what, at);
			value[at] ^= 0x10;
		}
		for (size_t len = 0; rows[i].good && len < auth.value.len; len += 5) {
			struct ike_auth cut = { auth.method, span_sub(auth.value, 0, len) };

			if (ike_peer_verify(&cfg, &k, &what, cert, &cut, &why, key) == OK)
				fail_msg("%s: cut at %zu", rows[i].what, len);
		}
		OPENSSL_free(der);
	}
}

/* We announce what we verify, and no SHA-1. */
static void announced(void **state)
{
	(void)state;
	assert_true(span_eq(ike_hash_algorithms(), SPAN_LIT("\0\2\0\3\0\4\0\5")));
	assert_true(ike_hash_algorithms_suit(SPAN_LIT("\0\1\0\2")));
	assert_false(ike_hash_algorithms_suit(SPAN_LIT("\0\1\0\3\0")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identifiers),
		cmocka_unit_test(identifiers_published),
		cmocka_unit_test(every_kind),
		cmocka_unit_test(announced),
	};
	int r;

	keys_make();
	r = HARNESS_RUN(tests);
	for (int i = 0; i < N_KEYS; i++)
		EVP_PKEY_free(keys[i]);
	return r;
}
