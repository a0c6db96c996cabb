/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/hash.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "crypto/secret.h"

static const struct {
	const char *name, *openssl;
	size_t size;
} algs[HASH_COUNT] = {
	[HASH_MD5] = { "md5", "MD5", 16 },           [HASH_SHA1] = { "sha-1", "SHA1", 20 },
	[HASH_SHA256] = { "sha-256", "SHA256", 32 }, [HASH_SHA384] = { "sha-384", "SHA384", 48 },
	[HASH_SHA512] = { "sha-512", "SHA512", 64 },
};

size_t hash_size(enum hash_alg alg)
{
	return algs[alg].size;
}

const char *hash_name(enum hash_alg alg)
{
	return algs[alg].name;
}

enum err hash_parts(enum hash_alg alg, const struct span *parts, size_t n, uint8_t *ret)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD *md = EVP_MD_fetch(NULL, algs[alg].openssl, NULL);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = md && ctx && EVP_DigestInit_ex2(ctx, md, NULL) == 1;

	for (size_t i = 0; good && i < n; i++)
		good = !parts[i].len || EVP_DigestUpdate(ctx, parts[i].p, parts[i].len) == 1;
	good = good && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
	if (good)
		memcpy(ret, digest, algs[alg].size);
	secret_wipe(digest, sizeof(digest));
	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	return good ? OK : ERR_SYSTEM;
}

enum err hash_of(enum hash_alg alg, struct span s, uint8_t *ret)
{
	return hash_parts(alg, &s, 1, ret);
}

enum err hmac_parts(enum hash_alg alg, struct span key, const struct span *parts, size_t n, uint8_t *ret)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	static const uint8_t no_key[1];
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)algs[alg].openssl, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	size_t len = 0;
	/* A NULL key would mean "keep the key that was set before". */
	bool good = ctx && EVP_MAC_init(ctx, key.len ? key.p : no_key, key.len, params) == 1;

	for (size_t i = 0; good && i < n; i++)
		good = !parts[i].len || EVP_MAC_update(ctx, parts[i].p, parts[i].len) == 1;
	good = good && EVP_MAC_final(ctx, digest, &len, sizeof(digest)) == 1 && len == algs[alg].size;
	if (good)
		memcpy(ret, digest, len);
	secret_wipe(digest, sizeof(digest));
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
	return good ? OK : ERR_SYSTEM;
}

enum err hmac_of(enum hash_alg alg, struct span key, struct span s, uint8_t *ret)
{
	return hmac_parts(alg, key, &s, 1, ret);
}

enum err hkdf_of(enum hash_alg alg, struct span ikm, struct span info, uint8_t *ret, size_t len)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)algs[alg].openssl, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)ikm.p, ikm.len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info.p, info.len),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	bool good;

	if (len > 255 * algs[alg].size) { /* RFC 5869, 2.3 */
		EVP_KDF_CTX_free(ctx);
		EVP_KDF_free(kdf);
		return ERR_LIMIT;
	}
	good = ctx && EVP_KDF_derive(ctx, ret, len, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return good ? OK : ERR_SYSTEM;
}
