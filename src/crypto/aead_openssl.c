/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "crypto/aead_impl.h"
#include "crypto/secret.h"

static const char *const names[AEAD_COUNT] = {
	[AEAD_AES128_GCM] = "AES-128-GCM",
	[AEAD_AES256_GCM] = "AES-256-GCM",
	[AEAD_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
};

/* Cipher and key are set once; a packet only sets the nonce (fetching anew costs twice the sealing). */
struct key {
	EVP_CIPHER *cipher;
	EVP_CIPHER_CTX *seal, *open;
};

static void close_key(void *p)
{
	struct key *k = p;

	if (!k)
		return;
	EVP_CIPHER_CTX_free(k->seal); /* cleanses the key schedule */
	EVP_CIPHER_CTX_free(k->open);
	EVP_CIPHER_free(k->cipher);
	free(k);
}

static void *open_key(enum aead_alg alg, const uint8_t *key)
{
	struct key *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->cipher = EVP_CIPHER_fetch(NULL, names[alg], NULL);
	k->seal = EVP_CIPHER_CTX_new();
	k->open = EVP_CIPHER_CTX_new();
	if (!k->cipher || !k->seal || !k->open || EVP_EncryptInit_ex2(k->seal, k->cipher, key, NULL, NULL) != 1 ||
	    EVP_DecryptInit_ex2(k->open, k->cipher, key, NULL, NULL) != 1) {
		close_key(k);
		return NULL;
	}
	return k;
}

static enum err seal(void *p, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	struct key *k = p;
	uint8_t none;
	int n;

	if (EVP_EncryptInit_ex2(k->seal, NULL, NULL, nonce, NULL) != 1)
		return ERR_SYSTEM;
	if (aad.len && EVP_EncryptUpdate(k->seal, NULL, &n, aad.p, (int)aad.len) != 1)
		return ERR_SYSTEM;
	if (in.len && EVP_EncryptUpdate(k->seal, out, &n, in.p, (int)in.len) != 1)
		return ERR_SYSTEM;
	if (EVP_EncryptFinal_ex(k->seal, &none, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(k->seal, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG, out + in.len) != 1)
		return ERR_SYSTEM;
	return OK;
}

static enum err open(void *p, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	struct key *k = p;
	uint8_t tag[AEAD_TAG], none;
	size_t len = in.len - AEAD_TAG;
	int n;

	memcpy(tag, in.p + len, AEAD_TAG);
	if (EVP_DecryptInit_ex2(k->open, NULL, NULL, nonce, NULL) != 1)
		return ERR_SYSTEM;
	if (aad.len && EVP_DecryptUpdate(k->open, NULL, &n, aad.p, (int)aad.len) != 1)
		return ERR_SYSTEM;
	if (len && EVP_DecryptUpdate(k->open, out, &n, in.p, (int)len) != 1)
		return ERR_SYSTEM;
	if (EVP_CIPHER_CTX_ctrl(k->open, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG, tag) != 1)
		return ERR_SYSTEM;
	if (EVP_DecryptFinal_ex(k->open, &none, &n) != 1) {
		secret_wipe(out, len);
		return ERR_AUTH;
	}
	return OK;
}

const struct aead_backend aead_openssl = { "OpenSSL", open_key, close_key, seal, open };
