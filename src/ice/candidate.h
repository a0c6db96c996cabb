/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/candidate.h - ICE candidates (RFC 8445 section 5.1, text form RFC 8839 section 5.1). Plain data. */
#pragma once
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"

enum ice_type { ICE_HOST, ICE_SRFLX, ICE_PRFLX, ICE_RELAY };

struct ice_candidate {
	enum ice_type type;
	char foundation[33];
	uint32_t component; /* 1 */
	uint32_t priority;
	struct addr addr;
	struct addr related; /* raddr/rport; family NONE: absent */
};

const char *ice_type_name(enum ice_type t); /* "host", "srflx", ... */
/* The value of a=candidate. ERR_UNSUPPORTED: well formed, but not ours to use (TCP, host
 * name, other component): ignore it. */
MUST_CHECK enum err ice_candidate_parse(struct span text, struct ice_candidate *ret);
void ice_candidate_write(struct wr *w, const struct ice_candidate *c);
/* RFC 8445, 5.1.2.1 and 6.1.2.3 */
uint32_t ice_priority(enum ice_type t, uint16_t local_preference, uint32_t component);
uint64_t ice_pair_priority(uint32_t controlling, uint32_t controlled);
