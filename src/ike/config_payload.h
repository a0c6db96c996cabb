/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/config_payload.h - the Configuration payload (RFC 7296, 2.19 and 3.15), read and written. Form only. */
#pragma once
#include "ike/payload.h"

enum ike_cfg_type { IKE_CFG_REQUEST = 1, IKE_CFG_REPLY = 2, IKE_CFG_SET = 3, IKE_CFG_ACK = 4 };

/* An attribute of a type that we do not know is left out (3.15.1), a known one of a length that it cannot have is
 * ERR_MALFORMED. Of a request `asks` is filled and nothing else: what it suggests is not heard. Of a reply, values; `asks`
 * has the attributes that were there. More values than there is room for are left out, as is what is no address or prefix. */
MUST_CHECK enum err ike_cp_parse(struct span body, uint8_t *ret_type, struct ike_cp *ret);
/* How long an attribute is, where it is not empty (3.15.1); -1: not one of ours. */
int ike_cp_size(uint16_t type);
/* The first one of that type. Call after ike_chain_check(). */
bool ike_cp_find(const struct ike_chain *c, enum ike_cfg_type type, struct ike_cp *ret);
/* A request: `asks`, without values. A reply: the values of what is in `asks`. */
void ike_build_cp(struct ike_build *b, enum ike_cfg_type type, const struct ike_cp *cp);
