/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A peer's public key, and the names of keys. */
#include "crypto/cert.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/text.h"

struct pubkey {
	EVP_PKEY *key;
	size_t spki_len;
	uint8_t spki[];
};

/* Takes key. EC keys must name their curve: explicit parameters let a peer choose a weak group. The quick check is the whole one
 * here: all our curves have prime order, so a point on the curve that is not the identity is in the group. */
static enum err pubkey_of(EVP_PKEY *key, struct span spki, struct pubkey **ret)
{
	struct pubkey *k;

	if (!key)
		return ERR_MALFORMED;
	if (EVP_PKEY_is_a(key, "EC")) {
		char encoding[32] = "";
		EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
		bool good = ctx &&
			    EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, encoding, sizeof(encoding),
							   NULL) == 1 &&
			    !strcmp(encoding, "named_curve") && EVP_PKEY_public_check_quick(ctx) == 1;

		EVP_PKEY_CTX_free(ctx);
		if (!good) {
			EVP_PKEY_free(key);
			return ERR_MALFORMED;
		}
	}
	k = calloc(1, sizeof(*k) + spki.len);
	if (!k) {
		EVP_PKEY_free(key);
		return ERR_NOMEM;
	}
	k->key = key;
	k->spki_len = spki.len;
	memcpy(k->spki, spki.p, spki.len);
	*ret = k;
	return OK;
}

/* RFC 5480, 2.1.1 and 2.2: what stands before an uncompressed point of P-256, the form of almost every key here. OpenSSL 3.0
 * takes as long to read it by its decoders as to verify a signature. */
static const uint8_t p256_head[] = { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
				     0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00 };
#define P256_POINT 65

static bool is_p256(struct span spki)
{
	return spki.len == sizeof(p256_head) + P256_POINT && !memcmp(spki.p, p256_head, sizeof(p256_head)) &&
	       spki.p[sizeof(p256_head)] == POINT_CONVERSION_UNCOMPRESSED;
}

/* NULL: not a point of the curve. */
static EVP_PKEY *p256_key(struct span spki)
{
	uint8_t point[P256_POINT];
	char group[] = "P-256";
	OSSL_PARAM params[] = { OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group) - 1),
				OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
				OSSL_PARAM_END };
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *key = NULL;

	memcpy(point, spki.p + sizeof(p256_head), sizeof(point));
	if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(ctx);
	return key;
}

/* One key, one name: an encoding that is not the canonical one would have another hash. */
static bool is_canonical(EVP_PKEY *key, struct span spki)
{
	uint8_t *der = NULL;
	int len = i2d_PUBKEY(key, &der);
	bool same = len > 0 && span_eq(span_of(der, (size_t)len), spki);

	OPENSSL_free(der);
	return same;
}

enum err pubkey_from_spki(struct span spki_der, struct pubkey **ret)
{
	const uint8_t *p = spki_der.p;
	EVP_PKEY *key;

	if (!spki_der.len || spki_der.len > CERT_DER_MAX)
		return ERR_MALFORMED;
	if (is_p256(spki_der))
		return pubkey_of(p256_key(spki_der), spki_der, ret);
	key = d2i_PUBKEY(NULL, &p, (long)spki_der.len);
	if (!key || p != spki_der.p + spki_der.len || !is_canonical(key, spki_der)) {
		EVP_PKEY_free(key);
		return ERR_MALFORMED;
	}
	return pubkey_of(key, spki_der, ret);
}

/* One value of the universal class (class 0) or with a context tag, of definite length; *ret: it whole, *ret_body: without its
 * header. */
static bool der_next(struct span *left, int class, int tag, struct span *ret, struct span *ret_body)
{
	const uint8_t *p = left->p;
	int flags, got_tag, got_class;
	long len;

	if (!left->len || left->len > CERT_DER_MAX)
		return false;
	flags = ASN1_get_object(&p, &len, &got_tag, &got_class, (long)left->len);
	if (flags & 0x81 || got_tag != tag || got_class != class) /* 0x80: an error, 1: of indefinite length */
		return false;
	*ret_body = span_of(p, (size_t)len);
	*ret = span_of(left->p, (size_t)(p - left->p) + (size_t)len);
	*left = span_from(*left, ret->len);
	return true;
}

/* RFC 5280, 4.1: Certificate { tbsCertificate { [0] version, serialNumber, signature, issuer, validity, subject,
 * subjectPublicKeyInfo, ... }, signatureAlgorithm, signatureValue }. */
static bool cert_spki(struct span cert, struct span *ret)
{
	static const int before[] = { V_ASN1_INTEGER, V_ASN1_SEQUENCE, V_ASN1_SEQUENCE, V_ASN1_SEQUENCE,
				      V_ASN1_SEQUENCE };
	struct span body, tbs, one, in;

	if (!der_next(&cert, V_ASN1_UNIVERSAL, V_ASN1_SEQUENCE, &one, &body) || cert.len ||
	    !der_next(&body, V_ASN1_UNIVERSAL, V_ASN1_SEQUENCE, &one, &tbs) ||
	    !der_next(&body, V_ASN1_UNIVERSAL, V_ASN1_SEQUENCE, &one, &in) ||
	    !der_next(&body, V_ASN1_UNIVERSAL, V_ASN1_BIT_STRING, &one, &in) || body.len)
		return false;
	(void)der_next(&tbs, V_ASN1_CONTEXT_SPECIFIC, 0, &one, &in); /* version 1 has none */
	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
		if (!der_next(&tbs, V_ASN1_UNIVERSAL, before[i], &one, &in))
			return false;
	return der_next(&tbs, V_ASN1_UNIVERSAL, V_ASN1_SEQUENCE, ret, &in);
}

enum err pubkey_from_cert(struct span cert_der, struct pubkey **ret)
{
	struct span spki;

	return cert_spki(cert_der, &spki) ? pubkey_from_spki(spki, ret) : ERR_MALFORMED;
}

static X509 *cert_parse(struct span der)
{
	const uint8_t *p = der.p;
	X509 *x;

	if (!der.len || der.len > CERT_DER_MAX)
		return NULL;
	x = d2i_X509(NULL, &p, (long)der.len);
	if (x && p != der.p + der.len) {
		X509_free(x);
		return NULL;
	}
	return x;
}

void pubkey_free(struct pubkey *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->key);
	free(k);
}

enum pubkey_type pubkey_type(const struct pubkey *k)
{
	char group[64] = "";

	if (EVP_PKEY_is_a(k->key, "ED25519"))
		return PUBKEY_ED25519;
	if (EVP_PKEY_is_a(k->key, "RSA"))
		return PUBKEY_RSA;
	if (!EVP_PKEY_is_a(k->key, "EC") || EVP_PKEY_get_group_name(k->key, group, sizeof(group), NULL) != 1)
		return PUBKEY_OTHER;
	if (!strcmp(group, "prime256v1") || !strcmp(group, "P-256"))
		return PUBKEY_EC_P256;
	if (!strcmp(group, "secp521r1") || !strcmp(group, "P-521"))
		return PUBKEY_EC_P521;
	return !strcmp(group, "secp384r1") || !strcmp(group, "P-384") ? PUBKEY_EC_P384 : PUBKEY_OTHER;
}

struct span pubkey_spki(const struct pubkey *k)
{
	return span_of(k->spki, k->spki_len);
}

/* ---- signatures ---- */

static bool suits(const struct pubkey *k, enum sig_kind kind)
{
	int bits = EVP_PKEY_get_bits(k->key);

	switch (pubkey_type(k)) {
	case PUBKEY_EC_P256:
	case PUBKEY_EC_P384:
	case PUBKEY_EC_P521: return kind == SIG_ECDSA;
	case PUBKEY_ED25519: return kind == SIG_ED25519;
	case PUBKEY_RSA:
		return (kind == SIG_RSA_PKCS1 || kind == SIG_RSA_PSS) && bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
	default: return false;
	}
}

static bool rsa_padding(EVP_PKEY_CTX *ctx, const struct sig_alg *alg, const char *hash)
{
	if (alg->kind == SIG_RSA_PKCS1)
		return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
	if (alg->kind != SIG_RSA_PSS)
		return true;
	return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
	       EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, hash, NULL) == 1 &&
	       EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, alg->salt_len) == 1;
}

enum err pubkey_verify(const struct pubkey *k, const struct sig_alg *alg, struct span data, struct span sig)
{
	static const char *const names[HASH_COUNT] = { NULL, NULL, "SHA256", "SHA384", "SHA512" };
	static const uint8_t nothing[1];
	const char *hash = alg->kind == SIG_ED25519 ? NULL : names[alg->hash];
	EVP_PKEY_CTX *pctx;
	EVP_MD_CTX *ctx;
	bool good;

	/* no signature over MD5 or SHA-1 (RFC 8247, 4.2) */
	if (!suits(k, alg->kind) || (!hash && alg->kind != SIG_ED25519))
		return ERR_DENIED;
	ctx = EVP_MD_CTX_new();
	if (!ctx)
		return ERR_NOMEM;
	good = EVP_DigestVerifyInit_ex(ctx, &pctx, hash, NULL, NULL, k->key, NULL) == 1 &&
	       rsa_padding(pctx, alg, hash) &&
	       EVP_DigestVerify(ctx, sig.p ? sig.p : nothing, sig.len, data.p ? data.p : nothing, data.len) == 1;
	EVP_MD_CTX_free(ctx);
	return good ? OK : ERR_AUTH;
}

enum err pubkey_verify_raw(const struct pubkey *k, struct span data, struct span sig)
{
	static const struct {
		size_t half;
		enum hash_alg hash;
	} rows[] = {
		[PUBKEY_EC_P256] = { 32, HASH_SHA256 },
		[PUBKEY_EC_P384] = { 48, HASH_SHA384 },
		[PUBKEY_EC_P521] = { 66, HASH_SHA512 },
	};
	enum pubkey_type type = pubkey_type(k);
	struct sig_alg alg = { .kind = SIG_ECDSA };
	ECDSA_SIG *s;
	BIGNUM *r, *t;
	uint8_t *der = NULL;
	size_t half;
	int len;
	enum err e;

	if (type > PUBKEY_EC_P521 || sig.len != 2 * rows[type].half)
		return ERR_MALFORMED;
	half = rows[type].half;
	alg.hash = rows[type].hash;
	s = ECDSA_SIG_new();
	r = BN_bin2bn(sig.p, (int)half, NULL);
	t = BN_bin2bn(sig.p + half, (int)half, NULL);
	if (!s || !r || !t || ECDSA_SIG_set0(s, r, t) != 1) {
		BN_free(r);
		BN_free(t);
		ECDSA_SIG_free(s);
		return ERR_NOMEM;
	}
	len = i2d_ECDSA_SIG(s, &der);
	e = len > 0 ? pubkey_verify(k, &alg, data, span_of(der, (size_t)len)) : ERR_SYSTEM;
	OPENSSL_free(der);
	ECDSA_SIG_free(s);
	return e;
}

/* ---- names ---- */

enum err spki_hash(struct span spki_der, uint8_t ret[SPKI_HASH])
{
	return hash_of(HASH_SHA256, spki_der, ret);
}

char *key_text(const uint8_t hash[SPKI_HASH], char dst[KEY_TEXT])
{
	memcpy(dst, "sha-256:", 8);
	hex_write(span_of(hash, SPKI_HASH), dst + 8, KEY_TEXT - 8);
	return dst;
}

enum err key_parse(struct span text, uint8_t ret[SPKI_HASH])
{
	uint8_t hash[SPKI_HASH];
	size_t len;

	if (!span_istarts(text, "sha-256:"))
		return ERR_MALFORMED;
	if (hex_parse(span_from(text, 8), true, hash, sizeof(hash), &len) != OK || len != sizeof(hash))
		return ERR_MALFORMED;
	memcpy(ret, hash, sizeof(hash));
	return OK;
}

enum err spki_address(struct span spki_der, uint8_t ret[16])
{
	struct span parts[] = { SPAN_LIT("tieline address v1"), spki_der };
	uint8_t hash[32];
	enum err e = hash_parts(HASH_SHA256, parts, 2, hash);

	if (e != OK)
		return e;
	ret[0] = 0xfd;
	memcpy(ret + 1, hash, 15);
	return OK;
}

bool cert_has_mail(struct span cert_der, struct span mail)
{
	X509 *x = cert_parse(cert_der);
	GENERAL_NAMES *names = x ? X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL) : NULL;
	bool found = false;

	for (int i = 0; names && !found && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);

		if (g->type == GEN_EMAIL)
			found = span_eq(mail, span_of(ASN1_STRING_get0_data(g->d.rfc822Name),
						      (size_t)ASN1_STRING_length(g->d.rfc822Name)));
	}
	GENERAL_NAMES_free(names);
	X509_free(x);
	return found;
}
