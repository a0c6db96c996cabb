/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/kex.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>

#include "crypto/secret.h"

struct kex {
	enum kex_group group;
	EVP_PKEY *key;
	uint8_t public[KEX_PUBLIC_MAX];
};

size_t kex_public_size(enum kex_group g)
{
	return g == KEX_X25519 ? 32 : 64;
}

size_t kex_shared_size(enum kex_group g)
{
	(void)g;
	return 32;
}

/* A P-256 key from its parts; priv NULL: public only. point is 04 || x || y. */
static EVP_PKEY *p256_key(const BIGNUM *priv, const uint8_t point[65])
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (bld && ctx && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, 65) == 1 &&
	    (!priv || OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, priv) == 1) &&
	    (params = OSSL_PARAM_BLD_to_param(bld)) && EVP_PKEY_fromdata_init(ctx) == 1)
		(void)EVP_PKEY_fromdata(ctx, &key, priv ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

/* ERR_MALFORMED: the number is 0 or not below the group's order. */
static enum err p256_from_private(struct kex *k, struct span priv)
{
	EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	BIGNUM *d = BN_secure_new();
	EC_POINT *q = group ? EC_POINT_new(group) : NULL;
	uint8_t point[65];
	enum err e = ERR_SYSTEM;

	if (!group || !d || !q || !BN_bin2bn(priv.p, (int)priv.len, d))
		goto out;
	if (BN_is_zero(d) || BN_cmp(d, EC_GROUP_get0_order(group)) >= 0) {
		e = ERR_MALFORMED;
		goto out;
	}
	BN_set_flags(d, BN_FLG_CONSTTIME);
	if (EC_POINT_mul(group, q, d, NULL, NULL, NULL) != 1 ||
	    EC_POINT_point2oct(group, q, POINT_CONVERSION_UNCOMPRESSED, point, sizeof(point), NULL) != sizeof(point))
		goto out;
	k->key = p256_key(d, point);
	if (!k->key)
		goto out;
	memcpy(k->public, point + 1, 64);
	e = OK;
out:
	EC_POINT_free(q);
	BN_clear_free(d);
	EC_GROUP_free(group);
	return e;
}

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

	if (priv.len != 32)
		return ERR_MALFORMED;
	k = calloc(1, sizeof(*k));
	if (!k)
		return ERR_NOMEM;
	k->group = g;
	e = g == KEX_X25519 ? x25519_from_private(k, priv) : p256_from_private(k, priv);
	if (e != OK) {
		kex_free(k);
		return e;
	}
	*ret = k;
	return OK;
}

enum err kex_new(enum kex_group g, const struct rng *rng, struct kex **ret)
{
	uint8_t priv[32];
	enum err e;

	/* A P-256 number out of range (one in 2^32) is drawn again: no bias, and it ends. */
	do {
		rng_fill(rng, priv, sizeof(priv));
		e = kex_from_private(g, SPAN_OF(priv), ret);
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
	uint8_t point[65] = { 4 };

	if (g == KEX_X25519)
		return EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, public.p, public.len);
	memcpy(point + 1, public.p, 64);
	return p256_key(NULL, point); /* NULL when the point is not on the curve */
}

enum err kex_shared(const struct kex *k, struct span peer_public, uint8_t *ret)
{
	static const uint8_t zero[KEX_SHARED_MAX];
	uint8_t shared[KEX_SHARED_MAX];
	EVP_PKEY_CTX *ctx = NULL;
	EVP_PKEY *peer;
	size_t len = sizeof(shared);
	enum err e = ERR_MALFORMED;

	if (peer_public.len != kex_public_size(k->group))
		return ERR_MALFORMED;
	peer = peer_key(k->group, peer_public);
	if (!peer)
		return ERR_MALFORMED;
	ctx = EVP_PKEY_CTX_new_from_pkey(NULL, k->key, NULL);
	/* set_peer checks the point; derive fails on an all-zero X25519 result (RFC 7748, 6.1). */
	if (!ctx || EVP_PKEY_derive_init(ctx) != 1)
		e = ERR_SYSTEM;
	else if (EVP_PKEY_derive_set_peer(ctx, peer) == 1 && EVP_PKEY_derive(ctx, shared, &len) == 1 &&
		 len == sizeof(shared) && !secret_eq(shared, zero, sizeof(zero))) {
		memcpy(ret, shared, len);
		e = OK;
	}
	secret_wipe(shared, sizeof(shared));
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(peer);
	return e;
}
