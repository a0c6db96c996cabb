/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/hash.h - hashes, HMAC and HKDF over OpenSSL. Digests go to caller's memory of
 * hash_size() bytes. Only ERR_SYSTEM (the library failed) and ERR_LIMIT are possible. */
#pragma once
#include <stdint.h>
#include "base/buf.h"

/* MD5 for SIP digest (RFC 8760) and SHA-1 for STUN (RFC 8489) and old fingerprints only. */
enum hash_alg { HASH_MD5, HASH_SHA1, HASH_SHA256, HASH_SHA384, HASH_SHA512, HASH_COUNT };
#define HASH_MAX 64

size_t hash_size(enum hash_alg alg);
const char *hash_name(enum hash_alg alg); /* "sha-256": RFC 8122 names */
/* Over the concatenation of n parts. */
MUST_CHECK enum err hash_parts(enum hash_alg alg, const struct span *parts, size_t n, uint8_t *ret);
MUST_CHECK enum err hash_of(enum hash_alg alg, struct span s, uint8_t *ret);
MUST_CHECK enum err hmac_parts(enum hash_alg alg, struct span key, const struct span *parts, size_t n, uint8_t *ret);
MUST_CHECK enum err hmac_of(enum hash_alg alg, struct span key, struct span s, uint8_t *ret);
/* RFC 5869, no salt (a string of zeros). */
MUST_CHECK enum err hkdf_of(enum hash_alg alg, struct span ikm, struct span info, uint8_t *ret, size_t len);
