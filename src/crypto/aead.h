/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/aead.h - authenticated encryption: one keyed object per SA and direction.
 * Not thread-safe: one thread uses an object at a time. The nonce is 12 bytes for all
 * (RFC 4106 and RFC 5282: salt 4 || explicit IV 8); tags are 16 bytes. */
#pragma once
#include <stdint.h>
#include "base/buf.h"

enum aead_alg { AEAD_AES128_GCM, AEAD_AES256_GCM, AEAD_CHACHA20_POLY1305, AEAD_COUNT };
#define AEAD_KEY_MAX 32
#define AEAD_NONCE 12
#define AEAD_TAG 16

/* Two implementations: ipsec-mb, where it is built in, the CPU has what it takes, and its results, compared at the first use, are
 * OpenSSL's; else OpenSSL. */
const char *aead_backend_name(enum aead_alg alg); /* "ipsec-mb", "OpenSSL" */
struct aead;
size_t aead_key_size(enum aead_alg alg); /* without the salt */
const char *aead_name(enum aead_alg alg);
/* key has aead_key_size bytes and is copied. */
MUST_CHECK enum err aead_new(enum aead_alg alg, const uint8_t *key, struct aead **ret);
void aead_free(struct aead *a); /* wipes */
/* out gets in.len + AEAD_TAG bytes; it may be the memory of `in` (same start). */
MUST_CHECK enum err aead_seal(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out);
/* in is ciphertext || tag; out gets in.len - AEAD_TAG bytes and may be the memory of `in`.
 * ERR_AUTH: wrong tag, and out is zeroed. */
MUST_CHECK enum err aead_open(struct aead *a, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out);
