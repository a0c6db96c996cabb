/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/peek.h - what the dispatcher may know of an IKE datagram before any SA is asked: header and,
 * in IKE_SA_INIT, our vendor ID and the call's tag (docs/protocol.md). Form only, no state. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/addr.h"
#include "base/rng.h"

struct ike_peek {
	uint64_t spi_i, spi_r;
	uint8_t exchange; /* 34 IKE_SA_INIT, 35 IKE_AUTH, 36 CREATE_CHILD_SA, 37 INFORMATIONAL */
	bool from_initiator, is_response;
	uint32_t message_id;
	bool has_vendor_id, has_tag, has_cookie;
	uint8_t tag[8];
};
/* msg: without the non-ESP marker. */
MUST_CHECK enum err ike_peek(struct span msg, struct ike_peek *ret);

/* Cookies (RFC 7296, 2.6): stateless, from a secret that rolls over. */
struct ike_cookies;
MUST_CHECK enum err ike_cookies_new(const struct rng *rng, struct ike_cookies **ret);
void ike_cookies_free(struct ike_cookies *c);
/* Does this IKE_SA_INIT request carry a valid cookie for its sender? */
bool ike_cookies_valid(struct ike_cookies *c, uint64_t now_us, struct span msg, const struct addr *from);
/* The response that asks for one; written into w. */
MUST_CHECK enum err ike_cookies_challenge(struct ike_cookies *c, uint64_t now_us, struct span msg,
					  const struct addr *from, struct wr *w);
