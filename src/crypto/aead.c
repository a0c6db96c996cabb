/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/aead.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "crypto/secret.h"

static const struct {
	const char *name, *openssl;
	size_t key;
} algs[AEAD_COUNT] = {
	[AEAD_AES128_GCM] = { "AES-128-GCM-16", "AES-128-GCM", 16 },
	[AEAD_AES256_GCM] = { "AES-256-GCM-16", "AES-256-GCM", 32 },
	[AEAD_CHACHA20_POLY1305] = { "ChaCha20-Poly1305", "ChaCha20-Poly1305", 32 },
};

/* Cipher and key are set once; a packet only sets the nonce (fetching anew costs twice the sealing). */
struct aead {
	EVP_CIPHER *cipher;
	EVP_CIPHER_CTX *seal, *open;
};

size_t aead_key_size(enum aead_alg alg)
{
	return algs[alg].key;
}

const char *aead_name(enum aead_alg alg)
{
	return algs[alg].name;
}

enum err aead_new(enum aead_alg alg, const uint8_t *key, struct aead **ret)
{
	struct aead *a = calloc(1, sizeof(*a));

	if (!a)
		return ERR_NOMEM;
	a->cipher = EVP_CIPHER_fetch(NULL, algs[alg].openssl, NULL);
	a->seal = EVP_CIPHER_CTX_new();
	a->open = EVP_CIPHER_CTX_new();
	if (!a->cipher || !a->seal || !a->open || EVP_EncryptInit_ex2(a->seal, a->cipher, key, NULL, NULL) != 1 ||
	    EVP_DecryptInit_ex2(a->open, a->cipher, key, NULL, NULL) != 1) {
		aead_free(a);
		return ERR_SYSTEM;
	}
	*ret = a;
	return OK;
}

void aead_free(struct aead *a)
{
	if (!a)
		return;
	EVP_CIPHER_CTX_free(a->seal); /* cleanses the key schedule */
	EVP_CIPHER_CTX_free(a->open);
	EVP_CIPHER_free(a->cipher);
	free(a);
}

enum err aead_seal(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	uint8_t none;
	int n;

	if (in.len > INT_MAX - AEAD_TAG || aad.len > INT_MAX)
		return ERR_LIMIT;
	if (EVP_EncryptInit_ex2(a->seal, NULL, NULL, nonce, NULL) != 1)
		return ERR_SYSTEM;
	if (aad.len && EVP_EncryptUpdate(a->seal, NULL, &n, aad.p, (int)aad.len) != 1)
		return ERR_SYSTEM;
	if (in.len && EVP_EncryptUpdate(a->seal, out, &n, in.p, (int)in.len) != 1)
		return ERR_SYSTEM;
	if (EVP_EncryptFinal_ex(a->seal, &none, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(a->seal, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG, out + in.len) != 1)
		return ERR_SYSTEM;
	return OK;
}

enum err aead_open(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	uint8_t tag[AEAD_TAG], none;
	size_t len;
	int n;

	if (in.len < AEAD_TAG)
		return ERR_AUTH;
	len = in.len - AEAD_TAG;
	if (len > INT_MAX || aad.len > INT_MAX)
		return ERR_LIMIT;
	memcpy(tag, in.p + len, AEAD_TAG);
	if (EVP_DecryptInit_ex2(a->open, NULL, NULL, nonce, NULL) != 1)
		return ERR_SYSTEM;
	if (aad.len && EVP_DecryptUpdate(a->open, NULL, &n, aad.p, (int)aad.len) != 1)
		return ERR_SYSTEM;
	if (len && EVP_DecryptUpdate(a->open, out, &n, in.p, (int)len) != 1)
		return ERR_SYSTEM;
	if (EVP_CIPHER_CTX_ctrl(a->open, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG, tag) != 1)
		return ERR_SYSTEM;
	if (EVP_DecryptFinal_ex(a->open, &none, &n) != 1) {
		secret_wipe(out, len);
		return ERR_AUTH;
	}
	return OK;
}
