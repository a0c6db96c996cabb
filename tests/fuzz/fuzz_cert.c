/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What a peer proves itself with: certificates, keys, AlgorithmIdentifiers, signatures. First byte: which. A signature is
 * one byte of length and an AlgorithmIdentifier, two bytes and a key, and the signature itself.
 * covers: src/crypto/pubkey.c src/crypto/sigalg.c */
#include <stdlib.h>

#include <openssl/x509.h>

#include "crypto/cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A key that was taken is one thing by its name: the same again from what it says it is. */
static void key_use(struct pubkey *k)
{
	struct pubkey *again;
	uint8_t sig[132] = { 1 };
	enum err e;

	for (size_t n = 0; n <= sizeof(sig); n += 4) {
		e = pubkey_verify_raw(k, SPAN_LIT("data"), span_of(sig, n));
		if (e != ERR_AUTH && e != ERR_MALFORMED)
			abort();
	}
	if (pubkey_from_spki(pubkey_spki(k), &again) == OK) {
		if (pubkey_type(again) != pubkey_type(k))
			abort();
		pubkey_free(again);
	}
	pubkey_free(k);
}

static void signature(struct span s)
{
	struct rd r = rd_of(s);
	uint8_t alg_len = rd_u8(&r);
	struct span der = rd_span(&r, alg_len), spki;
	uint16_t spki_len = rd_u16(&r);
	struct sig_alg alg;
	struct pubkey *k;

	spki = rd_span(&r, spki_len);
	if (r.bad || sig_alg_parse(der, &alg) != OK || pubkey_from_spki(spki, &k) != OK)
		return;
	if (pubkey_verify(k, &alg, SPAN_LIT("data"), rd_rest(&r)) == ERR_MALFORMED)
		abort();
	pubkey_free(k);
}

/* The key that stands in a certificate is the one that OpenSSL's whole reader finds there. */
static void same_key(struct span cert, const struct pubkey *k)
{
	const uint8_t *p = cert.p;
	X509 *x = d2i_X509(NULL, &p, (long)cert.len);
	uint8_t *spki = NULL;
	int len = x ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki) : 0;

	if (x && (len <= 0 || !span_eq(span_of(spki, (size_t)len), pubkey_spki(k))))
		abort();
	OPENSSL_free(spki);
	X509_free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span s = span_of(data, size), rest = span_from(s, 1);
	struct sig_alg alg;
	struct pubkey *k;

	if (!size)
		return 0;
	switch (data[0] % 4) {
	case 0:
		if (sig_alg_parse(rest, &alg) == OK && alg.kind != SIG_ED25519 && alg.hash < HASH_SHA256)
			abort();
		break;
	case 1:
		if (pubkey_from_spki(rest, &k) == OK)
			key_use(k);
		break;
	case 2:
		(void)cert_has_mail(rest, SPAN_LIT("me@example.net"));
		if (pubkey_from_cert(rest, &k) == OK) {
			same_key(rest, k);
			key_use(k);
		}
		break;
	default: signature(rest); break;
	}
	return 0;
}
