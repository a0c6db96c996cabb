/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/bench/null_aead.c - crypto/aead.h without any protection, for the program bench_relay alone: the daemon as it is, but
 * that its packets are copied and get a tag of zeros. What it carries at most, no cipher can better (tests/bench/plane.py).
 * It takes the place of crypto/aead.c when that program is linked; no other program has it, and no setting chooses it. */
#include <stdlib.h>
#include <string.h>

#include "crypto/aead_impl.h"

static const uint8_t no_tag[AEAD_TAG];

struct aead {
	const struct aead_backend *by;
};

static void *null_open_key(enum aead_alg alg, const uint8_t *key)
{
	(void)alg;
	(void)key;
	return NULL;
}

static void null_close_key(void *k)
{
	(void)k;
}

static enum err null_seal(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	(void)k;
	(void)nonce;
	(void)aad;
	if (in.len && out != in.p)
		memmove(out, in.p, in.len);
	memcpy(out + in.len, no_tag, AEAD_TAG);
	return OK;
}

static enum err null_open(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	(void)k;
	(void)nonce;
	(void)aad;
	if (memcmp(in.p + in.len - AEAD_TAG, no_tag, AEAD_TAG) != 0)
		return ERR_AUTH;
	if (in.len > AEAD_TAG && out != in.p)
		memmove(out, in.p, in.len - AEAD_TAG);
	return OK;
}

static const struct aead_backend null_backend = { "none", null_open_key, null_close_key, null_seal, null_open };

/* ---- crypto/aead.h ---- */

const char *aead_backend_name(enum aead_alg alg)
{
	(void)alg;
	return null_backend.name;
}

size_t aead_key_size(enum aead_alg alg)
{
	return alg == AEAD_AES128_GCM ? 16 : 32;
}

const char *aead_name(enum aead_alg alg)
{
	(void)alg;
	return "no encryption";
}

enum err aead_new(enum aead_alg alg, const uint8_t *key, struct aead **ret)
{
	struct aead *a = calloc(1, sizeof(*a));

	if (!a)
		return ERR_NOMEM;
	a->by = &null_backend;
	(void)a->by->open_key(alg, key);
	*ret = a;
	return OK;
}

void aead_free(struct aead *a)
{
	if (a)
		a->by->close_key(NULL);
	free(a);
}

enum err aead_seal(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	return a->by->seal(NULL, nonce, aad, in, out);
}

enum err aead_open(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	if (in.len < AEAD_TAG)
		return ERR_AUTH;
	return a->by->open(NULL, nonce, aad, in, out);
}
