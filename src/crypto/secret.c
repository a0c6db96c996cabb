/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/secret.h"

#include <limits.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

void secret_wipe(void *p, size_t len)
{
	if (len)
		OPENSSL_cleanse(p, len);
}

bool secret_eq(const void *a, const void *b, size_t len)
{
	return !len || CRYPTO_memcmp(a, b, len) == 0;
}

static void fill_system(void *arg, void *dst, size_t len)
{
	uint8_t *p = dst;

	(void)arg;
	while (len) {
		int n = len > INT_MAX ? INT_MAX : (int)len;

		/* Nothing safe can be done without randomness. */
		if (RAND_bytes(p, n) != 1)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

struct rng crypto_rng(void)
{
	return (struct rng){ fill_system, NULL };
}
