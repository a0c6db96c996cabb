/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sdp/seal.h - signed descriptions (formats: docs/protocol.md). Pure functions over
 * canonical texts. */
#pragma once
#include <stdint.h>
#include "base/buf.h"
#include "crypto/cert.h"

/* canon_offer is SPAN_NONE for signing or checking an offer. */
MUST_CHECK enum err sdp_seal_sign(const struct identity *id, struct span canon_own, struct span canon_offer,
				  bool is_answer, uint8_t ret_sig[64]);
/* ERR_AUTH: the signature is not the key's. ERR_MALFORMED: not a P-256 key. */
MUST_CHECK enum err sdp_seal_verify(struct span spki, struct span canon_own, struct span canon_offer, bool is_answer,
				    const uint8_t sig[64]);
MUST_CHECK enum err sdp_bind_hash(struct span canon_offer, struct span canon_answer, uint8_t ret[32]);
MUST_CHECK enum err sdp_tag(const uint8_t bind_o[16], const uint8_t bind_a[16], uint8_t ret[8]);
