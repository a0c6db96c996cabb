/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/aead_impl.h - inside crypto/ only: the implementations behind crypto/aead.h. */
#pragma once
#include "crypto/aead.h"

/* The same contract as the functions of crypto/aead.h. */
struct aead_backend {
	const char *name;
	void *(*open_key)(enum aead_alg alg, const uint8_t *key); /* NULL: it cannot */
	void (*close_key)(void *k); /* wipes; fine on NULL */
	enum err (*seal)(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out);
	enum err (*open)(void *k, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out);
};
extern const struct aead_backend aead_openssl;
/* ipsec-mb, where it is built in and the CPU has what it takes; else NULL. It is not asked for anything before its results
 * were compared. */
const struct aead_backend *aead_mb(void);
/* Do both come to the same results, and does b refuse what a refuses? */
bool aead_same(const struct aead_backend *a, const struct aead_backend *b, enum aead_alg alg);
