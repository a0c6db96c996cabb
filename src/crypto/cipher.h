/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/cipher.h - protects one packet: what IKE's Encrypted payload and ESP have in common.
 *
 *   head | IV | plaintext | ICV        head and IV are authenticated, the plaintext is encrypted as well
 *
 * Combined modes: AES-GCM (RFC 4106, RFC 5282) and ChaCha20-Poly1305 (RFC 7634): nonce = salt 4 || IV 8, the IV is not
 * among the associated data. AES-CBC with HMAC-SHA2-256-128 (RFC 3602, RFC 4868): encrypt, then MAC over all before it.
 *
 * One keyed object per SA and direction; one thread uses it at a time. A packet costs no fetch and no allocation of ours (inside
 * OpenSSL 3.0 an HMAC takes two small ones, combined modes none). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/rng.h"

enum cipher_alg {
	CIPHER_AES128_GCM,
	CIPHER_AES256_GCM,
	CIPHER_CHACHA20_POLY1305,
	CIPHER_AES128_CBC_SHA256,
	CIPHER_AES256_CBC_SHA256,
	CIPHER_COUNT
};
#define CIPHER_IV_MIN 8
#define CIPHER_IV_MAX 16
#define CIPHER_ICV 16 /* of all of them */
#define CIPHER_BLOCK_MAX 16
#define CIPHER_KEY_MAX (32 + 32) /* AES-256 and HMAC-SHA2-256 */

struct cipher;
const char *cipher_name(enum cipher_alg alg);
bool cipher_combined(enum cipher_alg alg); /* no integrity algorithm beside it */
/* Bytes of keying material: encryption key with its salt, integrity key (0: combined), in this order, as KEYMAT has them
 * (RFC 7296, 2.17; RFC 4106, 8.1); and of both. */
size_t cipher_encr_size(enum cipher_alg alg);
size_t cipher_integ_size(enum cipher_alg alg);
size_t cipher_key_size(enum cipher_alg alg);
size_t cipher_iv_size(enum cipher_alg alg);
size_t cipher_block(enum cipher_alg alg); /* the plaintext is a multiple of it; 1: any length */

/* key: cipher_key_size bytes, copied. rng: for IVs that must be unpredictable; copied, its arg is borrowed; NULL: opens only,
 * or combined. */
MUST_CHECK enum err cipher_new(enum cipher_alg alg, const uint8_t *key, const struct rng *rng, struct cipher **ret);
void cipher_free(struct cipher *c); /* wipes */

/* What is authenticated beside IV and plaintext. tail: after the ciphertext (the high half of an extended sequence number,
 * RFC 4303, 2.2.1); not with combined modes, which have it in head. */
struct cipher_about {
	struct span head, tail;
};
/* at: room for the IV, len bytes of plaintext, room for the ICV; encrypted in place. counter: never twice under one key; it
 * is the IV of combined modes (RFC 4106, 3.1), the others draw theirs at random (RFC 3602, 3). */
MUST_CHECK enum err cipher_seal(struct cipher *c, const struct cipher_about *about, uint64_t counter, uint8_t *at,
				size_t len);
/* sealed: IV | ciphertext | ICV. out gets what is between, whose length is *ret_len; it is where the ciphertext stands, or does not
 * overlap sealed. ERR_AUTH: not by this
 * key, and out holds nothing of use. ERR_MALFORMED: a length that no packet has. */
MUST_CHECK enum err cipher_open(struct cipher *c, const struct cipher_about *about, struct span sealed, uint8_t *out,
				size_t *ret_len);
