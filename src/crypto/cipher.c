/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/cipher.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/aead.h"
#include "crypto/secret.h"

#define SALT 4 /* RFC 4106, 4; RFC 7634, 2 */
#define HMAC_KEY 32 /* RFC 4868, 2.1.1: as long as the hash */
#define HMAC_SIZE 32
#define PACKET_MAX (INT_MAX - 64)

_Static_assert(AEAD_TAG == CIPHER_ICV && AEAD_NONCE == SALT + 8, "the interface's sizes");

static const struct {
	const char *name;
	const char *cbc; /* NULL: combined */
	enum aead_alg aead;
	size_t key;
} algs[CIPHER_COUNT] = {
	[CIPHER_AES128_GCM] = { "AES-GCM-16-128", NULL, AEAD_AES128_GCM, 16 },
	[CIPHER_AES256_GCM] = { "AES-GCM-16-256", NULL, AEAD_AES256_GCM, 32 },
	[CIPHER_CHACHA20_POLY1305] = { "ChaCha20-Poly1305", NULL, AEAD_CHACHA20_POLY1305, 32 },
	[CIPHER_AES128_CBC_SHA256] = { "AES-CBC-128 HMAC-SHA2-256-128", "AES-128-CBC", 0, 16 },
	[CIPHER_AES256_CBC_SHA256] = { "AES-CBC-256 HMAC-SHA2-256-128", "AES-256-CBC", 0, 32 },
};

struct cipher {
	enum cipher_alg alg;
	/* combined */
	struct aead *aead;
	uint8_t salt[SALT];
	/* the others; keys are set once */
	EVP_CIPHER *cbc;
	EVP_CIPHER_CTX *enc, *dec;
	EVP_MAC_CTX *mac;
	struct rng rng;
};

const char *cipher_name(enum cipher_alg alg)
{
	return algs[alg].name;
}

bool cipher_combined(enum cipher_alg alg)
{
	return !algs[alg].cbc;
}

size_t cipher_encr_size(enum cipher_alg alg)
{
	return algs[alg].key + (cipher_combined(alg) ? SALT : 0);
}

size_t cipher_integ_size(enum cipher_alg alg)
{
	return cipher_combined(alg) ? 0 : HMAC_KEY;
}

size_t cipher_key_size(enum cipher_alg alg)
{
	return cipher_encr_size(alg) + cipher_integ_size(alg);
}

size_t cipher_iv_size(enum cipher_alg alg)
{
	return cipher_combined(alg) ? CIPHER_IV_MIN : CIPHER_IV_MAX;
}

size_t cipher_block(enum cipher_alg alg)
{
	return cipher_combined(alg) ? 1 : CIPHER_BLOCK_MAX;
}

/* ---- AES-CBC with HMAC ---- */

static EVP_MAC_CTX *hmac_new(const uint8_t *key)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac); /* the context holds it */
	if (!ctx || EVP_MAC_init(ctx, key, HMAC_KEY, params) == 1)
		return ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

static enum err cbc_new(struct cipher *c, const uint8_t *key)
{
	c->cbc = EVP_CIPHER_fetch(NULL, algs[c->alg].cbc, NULL);
	c->enc = EVP_CIPHER_CTX_new();
	c->dec = EVP_CIPHER_CTX_new();
	c->mac = hmac_new(key + algs[c->alg].key);
	if (!c->cbc || !c->enc || !c->dec || !c->mac || EVP_EncryptInit_ex2(c->enc, c->cbc, key, NULL, NULL) != 1 ||
	    EVP_DecryptInit_ex2(c->dec, c->cbc, key, NULL, NULL) != 1)
		return ERR_SYSTEM;
	/* padding is the packet's, not the cipher's */
	EVP_CIPHER_CTX_set_padding(c->enc, 0);
	EVP_CIPHER_CTX_set_padding(c->dec, 0);
	return OK;
}

/* RFC 4868, 2.6 (the first half of the HMAC) over head | IV | ciphertext | tail. */
static enum err icv_of(struct cipher *c, const struct cipher_about *about, struct span body, uint8_t icv[CIPHER_ICV])
{
	struct span parts[] = { about->head, body, about->tail };
	uint8_t full[HMAC_SIZE];
	size_t len = 0;
	/* no key: the one that was set, from the start */
	bool good = EVP_MAC_init(c->mac, NULL, 0, NULL) == 1;

	for (size_t i = 0; good && i < 3; i++)
		good = !parts[i].len || EVP_MAC_update(c->mac, parts[i].p, parts[i].len) == 1;
	good = good && EVP_MAC_final(c->mac, full, &len, sizeof(full)) == 1 && len == sizeof(full);
	if (good)
		memcpy(icv, full, CIPHER_ICV);
	secret_wipe(full, sizeof(full));
	return good ? OK : ERR_SYSTEM;
}

static enum err cbc_seal(struct cipher *c, const struct cipher_about *about, uint8_t *at, size_t len)
{
	uint8_t *body = at + CIPHER_IV_MAX;
	int n;

	if (!c->rng.fill)
		return ERR_WRONG_STATE;
	if (!len || len % CIPHER_BLOCK_MAX)
		return ERR_MALFORMED;
	rng_fill(&c->rng, at, CIPHER_IV_MAX);
	if (EVP_EncryptInit_ex2(c->enc, NULL, NULL, at, NULL) != 1 ||
	    EVP_EncryptUpdate(c->enc, body, &n, body, (int)len) != 1 || (size_t)n != len)
		return ERR_SYSTEM;
	return icv_of(c, about, span_of(at, CIPHER_IV_MAX + len), body + len);
}

/* The MAC first: nothing of a packet that is not the peer's is decrypted, so its padding tells nobody anything. */
static enum err cbc_open(struct cipher *c, const struct cipher_about *about, struct span iv, struct span text,
			 struct span icv, uint8_t *out)
{
	uint8_t want[CIPHER_ICV];
	enum err e = icv_of(c, about, span_of(iv.p, iv.len + text.len), want);
	int n;

	if (e != OK)
		return e;
	if (!secret_eq(want, icv.p, CIPHER_ICV))
		return ERR_AUTH;
	if (EVP_DecryptInit_ex2(c->dec, NULL, NULL, iv.p, NULL) != 1 ||
	    EVP_DecryptUpdate(c->dec, out, &n, text.p, (int)text.len) != 1 || (size_t)n != text.len)
		return ERR_SYSTEM;
	return OK;
}

/* ---- all ---- */

enum err cipher_new(enum cipher_alg alg, const uint8_t *key, const struct rng *rng, struct cipher **ret)
{
	struct cipher *c = calloc(1, sizeof(*c));
	enum err e;

	if (!c)
		return ERR_NOMEM;
	c->alg = alg;
	if (rng)
		c->rng = *rng;
	if (cipher_combined(alg)) {
		memcpy(c->salt, key + algs[alg].key, SALT);
		e = aead_new(algs[alg].aead, key, &c->aead);
	} else {
		e = cbc_new(c, key);
	}
	if (e != OK) {
		cipher_free(c);
		return e;
	}
	*ret = c;
	return OK;
}

void cipher_free(struct cipher *c)
{
	if (!c)
		return;
	aead_free(c->aead);
	EVP_CIPHER_CTX_free(c->enc); /* cleanses the key schedule */
	EVP_CIPHER_CTX_free(c->dec);
	EVP_CIPHER_free(c->cbc);
	EVP_MAC_CTX_free(c->mac);
	secret_wipe(c, sizeof(*c));
	free(c);
}

static void nonce_of(const struct cipher *c, const uint8_t *iv, uint8_t nonce[AEAD_NONCE])
{
	memcpy(nonce, c->salt, SALT);
	memcpy(nonce + SALT, iv, CIPHER_IV_MIN);
}

enum err cipher_seal(struct cipher *c, const struct cipher_about *about, uint64_t counter, uint8_t *at, size_t len)
{
	uint8_t nonce[AEAD_NONCE], *body = at + CIPHER_IV_MIN;

	if (len > PACKET_MAX)
		return ERR_LIMIT;
	if (!c->aead)
		return cbc_seal(c, about, at, len);
	put_be64(at, counter);
	nonce_of(c, at, nonce);
	return aead_seal(c->aead, nonce, about->head, span_of(body, len), body);
}

enum err cipher_open(struct cipher *c, const struct cipher_about *about, struct span sealed, uint8_t *out,
		     size_t *ret_len)
{
	size_t iv_len = cipher_iv_size(c->alg), len = sealed.len - iv_len - CIPHER_ICV;
	uint8_t nonce[AEAD_NONCE];
	enum err e;

	if (sealed.len < iv_len + CIPHER_ICV || len > PACKET_MAX || len % cipher_block(c->alg))
		return ERR_MALFORMED;
	if (c->aead) {
		nonce_of(c, sealed.p, nonce);
		e = aead_open(c->aead, nonce, about->head, span_from(sealed, iv_len), out);
	} else {
		e = cbc_open(c, about, span_sub(sealed, 0, iv_len), span_sub(sealed, iv_len, len),
			     span_from(sealed, iv_len + len), out);
	}
	if (e == OK)
		*ret_len = len;
	return e;
}
