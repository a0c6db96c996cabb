/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/kex.h - ephemeral key exchange. The private key comes from the injected rng,
 * so that a simulated run repeats. */
#pragma once
#include <stdint.h>
#include "base/buf.h"
#include "base/rng.h"

enum kex_group { KEX_X25519, KEX_P256, KEX_P384, KEX_MODP2048, KEX_MODP3072, KEX_COUNT };
#define KEX_PUBLIC_MAX 384
#define KEX_SHARED_MAX 384

struct kex;
/* Bytes of the public value as IKE carries it (RFC 8031: 32; RFC 5903: x || y without the leading 4; RFC 7296, 3.4: as long
 * as the prime) and of the shared secret (RFC 5903: x only; RFC 7296, 2.14: as long as the prime). */
size_t kex_public_size(enum kex_group g);
size_t kex_shared_size(enum kex_group g);
MUST_CHECK enum err kex_new(enum kex_group g, const struct rng *rng, struct kex **ret);
/* For known-answer tests: a given private key (X25519 as RFC 7748; curves: big-endian, as long as the order; MODP:
 * big-endian, at most as long as the prime). */
MUST_CHECK enum err kex_from_private(enum kex_group g, struct span priv, struct kex **ret);
void kex_free(struct kex *k); /* wipes */
struct span kex_public(const struct kex *k); /* borrowed from k */
/* ERR_MALFORMED: wrong length, not on the curve (RFC 6989, 2.3), an all-zero X25519 result (RFC 8031, 5), or not between 1 and
 * the prime less 1 (RFC 6989, 2.1). ret: kex_shared_size bytes. */
MUST_CHECK enum err kex_shared(const struct kex *k, struct span peer_public, uint8_t *ret);
