/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/kex.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/dh.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>

#include "crypto/secret.h"

#define POINT_MAX (1 + 96)

/* priv: bytes drawn for a private key. Exponents of MODP: RFC 3526, 8 takes twice the strength, 320 and 420 bits by its higher
 * estimate. */
static const struct {
	const char *name; /* OpenSSL's */
	int nid; /* of a curve */
	BIGNUM *(*prime)(BIGNUM *bn);
	size_t priv, public, shared;
} groups[KEX_COUNT] = {
	[KEX_X25519] = { "X25519", 0, NULL, 32, 32, 32 },
	[KEX_P256] = { "P-256", NID_X9_62_prime256v1, NULL, 32, 64, 32 },
	[KEX_P384] = { "P-384", NID_secp384r1, NULL, 48, 96, 48 },
	[KEX_MODP2048] = { "modp_2048", 0, BN_get_rfc3526_prime_2048, 40, 256, 256 },
	[KEX_MODP3072] = { "modp_3072", 0, BN_get_rfc3526_prime_3072, 53, 384, 384 },
};

struct kex {
	enum kex_group group;
	EVP_PKEY *key;
	uint8_t public[KEX_PUBLIC_MAX];
};

size_t kex_public_size(enum kex_group g)
{
	return groups[g].public;
}

size_t kex_shared_size(enum kex_group g)
{
	return groups[g].shared;
}

/* A key from its parts; bld, which it frees, has the public value if ok. priv NULL: public only. */
static EVP_PKEY *key_of_parts(const char *type, enum kex_group g, OSSL_PARAM_BLD *bld, bool ok, const BIGNUM *priv)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (ok && ctx && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, groups[g].name, 0) == 1 &&
	    (!priv || OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, priv) == 1) &&
	    (params = OSSL_PARAM_BLD_to_param(bld)) && EVP_PKEY_fromdata_init(ctx) == 1)
		(void)EVP_PKEY_fromdata(ctx, &key, priv ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

/* ---- curves of RFC 5903 ---- */

/* point is 04 || x || y. */
static EVP_PKEY *ec_key(enum kex_group g, const BIGNUM *priv, const uint8_t *point)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	size_t len = 1 + groups[g].public;

	return key_of_parts("EC", g, bld,
			    bld && OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, len) == 1,
			    priv);
}

/* ERR_MALFORMED: the number is 0 or not below the group's order. */
static enum err ec_from_private(struct kex *k, struct span priv)
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(groups[k->group].nid);
	size_t len = 1 + groups[k->group].public;
	BIGNUM *d = BN_secure_new();
	EC_POINT *q = group ? EC_POINT_new(group) : NULL;
	uint8_t point[POINT_MAX];
	enum err e = ERR_SYSTEM;

	if (!group || !d || !q || !BN_bin2bn(priv.p, (int)priv.len, d))
		goto out;
	if (BN_is_zero(d) || BN_cmp(d, EC_GROUP_get0_order(group)) >= 0) {
		e = ERR_MALFORMED;
		goto out;
	}
	BN_set_flags(d, BN_FLG_CONSTTIME);
	if (EC_POINT_mul(group, q, d, NULL, NULL, NULL) != 1 ||
	    EC_POINT_point2oct(group, q, POINT_CONVERSION_UNCOMPRESSED, point, sizeof(point), NULL) != len)
		goto out;
	k->key = ec_key(k->group, d, point);
	if (!k->key)
		goto out;
	memcpy(k->public, point + 1, len - 1);
	e = OK;
out:
	EC_POINT_free(q);
	BN_clear_free(d);
	EC_GROUP_free(group);
	return e;
}

/* ---- MODP (RFC 3526) ---- */

static EVP_PKEY *dh_key(enum kex_group g, const BIGNUM *priv, const BIGNUM *public)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();

	return key_of_parts("DH", g, bld, bld && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PUB_KEY, public) == 1,
			    priv);
}

/* ERR_MALFORMED: the exponent is 0. */
static enum err dh_from_private(struct kex *k, struct span priv)
{
	BIGNUM *p = groups[k->group].prime(NULL), *x = BN_secure_new(), *g = BN_new(), *y = BN_new();
	BN_CTX *ctx = BN_CTX_new();
	enum err e = ERR_SYSTEM;

	if (!p || !x || !g || !y || !ctx || !BN_bin2bn(priv.p, (int)priv.len, x) || BN_set_word(g, 2) != 1)
		goto out;
	if (BN_is_zero(x)) {
		e = ERR_MALFORMED;
		goto out;
	}
	BN_set_flags(x, BN_FLG_CONSTTIME);
	if (BN_mod_exp(y, g, x, p, ctx) != 1 ||
	    BN_bn2binpad(y, k->public, (int)groups[k->group].public) != (int)groups[k->group].public)
		goto out;
	k->key = dh_key(k->group, x, y);
	if (k->key)
		e = OK;
out:
	BN_CTX_free(ctx);
	BN_free(y);
	BN_free(g);
	BN_clear_free(x);
	BN_free(p);
	return e;
}

/* RFC 6989, 2.1: in these groups, whose primes are safe, 1 < y < p - 1 is all that is to be checked. */
static EVP_PKEY *dh_peer(enum kex_group group, struct span public)
{
	BIGNUM *p = groups[group].prime(NULL), *y = BN_bin2bn(public.p, (int)public.len, NULL);
	EVP_PKEY *key = NULL;

	if (p && y && !BN_is_zero(y) && !BN_is_one(y) && BN_sub_word(p, 1) == 1 && BN_cmp(y, p) < 0)
		key = dh_key(group, NULL, y);
	BN_free(p);
	BN_free(y);
	return key;
}

/* ---- all ---- */

static enum err x25519_from_private(struct kex *k, struct span priv)
{
	size_t len = 32;

	k->key = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, priv.p, priv.len);
	if (!k->key || EVP_PKEY_get_raw_public_key(k->key, k->public, &len) != 1 || len != 32)
		return ERR_SYSTEM;
	return OK;
}

enum err kex_from_private(enum kex_group g, struct span priv, struct kex **ret)
{
	struct kex *k;
	enum err e;

	if (groups[g].prime ? priv.len > groups[g].public : priv.len != groups[g].priv)
		return ERR_MALFORMED;
	k = calloc(1, sizeof(*k));
	if (!k)
		return ERR_NOMEM;
	k->group = g;
	if (groups[g].prime)
		e = dh_from_private(k, priv);
	else if (groups[g].nid)
		e = ec_from_private(k, priv);
	else
		e = x25519_from_private(k, priv);
	if (e != OK) {
		kex_free(k);
		return e;
	}
	*ret = k;
	return OK;
}

enum err kex_new(enum kex_group g, const struct rng *rng, struct kex **ret)
{
	uint8_t priv[64];
	enum err e;

	/* A number out of a curve's range (one in 2^32 with P-256) is drawn again: no bias, and it ends. */
	do {
		rng_fill(rng, priv, groups[g].priv);
		e = kex_from_private(g, span_of(priv, groups[g].priv), ret);
	} while (e == ERR_MALFORMED);
	secret_wipe(priv, sizeof(priv));
	return e;
}

void kex_free(struct kex *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->key);
	free(k);
}

struct span kex_public(const struct kex *k)
{
	return span_of(k->public, kex_public_size(k->group));
}

static EVP_PKEY *peer_key(enum kex_group g, struct span public)
{
	uint8_t point[POINT_MAX] = { 4 };

	if (groups[g].prime)
		return dh_peer(g, public);
	if (!groups[g].nid)
		return EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, public.p, public.len);
	memcpy(point + 1, public.p, public.len);
	return ec_key(g, NULL, point); /* NULL when the point is not on the curve */
}

/* RFC 7296, 2.14: the shared secret has the prime's length, leading zeros included. */
static bool padded(enum kex_group g, EVP_PKEY_CTX *ctx)
{
	return !groups[g].prime || EVP_PKEY_CTX_set_dh_pad(ctx, 1) == 1;
}

enum err kex_shared(const struct kex *k, struct span peer_public, uint8_t *ret)
{
	static const uint8_t zero[KEX_SHARED_MAX];
	uint8_t shared[KEX_SHARED_MAX];
	EVP_PKEY_CTX *ctx = NULL;
	EVP_PKEY *peer;
	size_t len = sizeof(shared);
	/* what peer_key() has checked already costs another exponentiation in MODP groups */
	int validate = !groups[k->group].prime;
	enum err e = ERR_MALFORMED;

	if (peer_public.len != kex_public_size(k->group))
		return ERR_MALFORMED;
	peer = peer_key(k->group, peer_public);
	if (!peer)
		return ERR_MALFORMED;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, k->key, NULL);
	/* set_peer checks the point; derive fails on an all-zero X25519 result (RFC 7748, 6.1). */
	if (!ctx || EVP_PKEY_derive_init(ctx) != 1 || !padded(k->group, ctx))
		e = ERR_SYSTEM;
	else if (EVP_PKEY_derive_set_peer_ex(ctx, peer, validate) == 1 && EVP_PKEY_derive(ctx, shared, &len) == 1 &&
		 len == kex_shared_size(k->group) && !secret_eq(shared, zero, len)) {
		memcpy(ret, shared, len);
		e = OK;
	}
	secret_wipe(shared, sizeof(shared));
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(peer);
	return e;
}
