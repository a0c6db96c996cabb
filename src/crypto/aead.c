/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/aead.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/aead_impl.h"

static const struct {
	const char *name;
	size_t key;
} algs[AEAD_COUNT] = {
	[AEAD_AES128_GCM] = { "AES-128-GCM-16", 16 },
	[AEAD_AES256_GCM] = { "AES-256-GCM-16", 32 },
	[AEAD_CHACHA20_POLY1305] = { "ChaCha20-Poly1305", 32 },
};

struct aead {
	const struct aead_backend *by;
	void *key;
};

size_t aead_key_size(enum aead_alg alg)
{
	return algs[alg].key;
}

const char *aead_name(enum aead_alg alg)
{
	return algs[alg].name;
}

/* ---- which implementation ---- */

#define LONGEST 3000

/* One packet by a, and by b: sealed to the same bytes, opened to what it was, refused when a bit is wrong. */
static bool same_packet(const struct aead_backend *a, void *ka, const struct aead_backend *b, void *kb, size_t len,
			uint8_t *mem)
{
	uint8_t *one = mem, *other = mem + LONGEST + AEAD_TAG, nonce[AEAD_NONCE] = { 1, 2, 3, 4, 5 };
	struct span aad = span_of("head of 12 bytes", len % 2 ? 8 : 12);
	bool good;

	nonce[11] = (uint8_t)len;
	for (size_t i = 0; i < len; i++)
		one[i] = other[i] = (uint8_t)(i * 7 + len);
	good = a->seal(ka, nonce, aad, span_of(one, len), one) == OK &&
	       b->seal(kb, nonce, aad, span_of(other, len), other) == OK && !memcmp(one, other, len + AEAD_TAG) &&
	       b->open(kb, nonce, aad, span_of(other, len + AEAD_TAG), other) == OK;
	for (size_t i = 0; good && i < len; i++)
		good = other[i] == (uint8_t)(i * 7 + len);
	for (size_t i = len ? 0 : len; good && i < len + AEAD_TAG; i += i < len ? len : 5) {
		memcpy(other, one, len + AEAD_TAG);
		other[i] ^= 0x10;
		good = b->open(kb, nonce, aad, span_of(other, len + AEAD_TAG), other) == ERR_AUTH;
	}
	memcpy(other, one, len + AEAD_TAG);
	nonce[0] ^= 1;
	return good && b->open(kb, nonce, aad, span_of(other, len + AEAD_TAG), other) == ERR_AUTH;
}

bool aead_same(const struct aead_backend *a, const struct aead_backend *b, enum aead_alg alg)
{
	static const size_t lens[] = {
		0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 575, 1023, 1400, LONGEST
	};
	uint8_t key[AEAD_KEY_MAX], *mem = malloc(2 * (LONGEST + AEAD_TAG));
	void *ka, *kb;
	bool good;

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(0xa5 ^ i);
	ka = a->open_key(alg, key);
	kb = b->open_key(alg, key);
	good = mem && ka && kb;
	for (size_t i = 0; good && i < sizeof(lens) / sizeof(lens[0]); i++)
		good = same_packet(a, ka, b, kb, lens[i], mem);
	a->close_key(ka);
	b->close_key(kb);
	free(mem);
	return good;
}

static const struct aead_backend *chosen[AEAD_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
	const struct aead_backend *fast = aead_mb();

	for (enum aead_alg i = 0; i < AEAD_COUNT; i++)
		chosen[i] = fast && aead_same(&aead_openssl, fast, i) ? fast : &aead_openssl;
}

const char *aead_backend_name(enum aead_alg alg)
{
	(void)pthread_once(&once, choose);
	return chosen[alg]->name;
}

/* ---- use ---- */

enum err aead_new(enum aead_alg alg, const uint8_t *key, struct aead **ret)
{
	struct aead *a = calloc(1, sizeof(*a));

	if (!a)
		return ERR_NOMEM;
	(void)pthread_once(&once, choose);
	a->by = chosen[alg];
	a->key = a->by->open_key(alg, key);
	if (!a->key) {
		free(a);
		return ERR_SYSTEM;
	}
	*ret = a;
	return OK;
}

void aead_free(struct aead *a)
{
	if (!a)
		return;
	a->by->close_key(a->key);
	free(a);
}

enum err aead_seal(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	if (in.len > INT_MAX - AEAD_TAG || aad.len > INT_MAX)
		return ERR_LIMIT;
	return a->by->seal(a->key, nonce, aad, in, out);
}

enum err aead_open(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	if (in.len < AEAD_TAG)
		return ERR_AUTH;
	if (in.len > INT_MAX || aad.len > INT_MAX)
		return ERR_LIMIT;
	return a->by->open(a->key, nonce, aad, in, out);
}
