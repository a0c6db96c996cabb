/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/kex.h - ephemeral key exchange. The private key comes from the injected rng,
 * so that a simulated run repeats. */
#pragma once
#include <stdint.h>
#include "base/buf.h"
#include "base/rng.h"

enum kex_group { KEX_X25519, KEX_P256, KEX_COUNT };
#define KEX_PUBLIC_MAX 64
#define KEX_SHARED_MAX 32

struct kex;
/* Bytes of the public value as IKE carries it (RFC 8031: 32; RFC 5903: x || y without
 * the leading 4, 64) and of the shared secret (RFC 5903: x only). */
size_t kex_public_size(enum kex_group g);
size_t kex_shared_size(enum kex_group g);
MUST_CHECK enum err kex_new(enum kex_group g, const struct rng *rng, struct kex **ret);
/* For known-answer tests: a given private key (32 bytes big-endian, X25519 as RFC 7748). */
MUST_CHECK enum err kex_from_private(enum kex_group g, struct span priv, struct kex **ret);
void kex_free(struct kex *k); /* wipes */
struct span kex_public(const struct kex *k); /* borrowed from k */
/* ERR_MALFORMED: wrong length, not on the curve, or an all-zero X25519 result (RFC 8031, 5). */
MUST_CHECK enum err kex_shared(const struct kex *k, struct span peer_public, uint8_t *ret);
