/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/gather.h - keeps our server-reflexive address known (RFC 8489 Binding requests from the
 * tunnel port to a STUN server), once a daemon and address family rather than once a call:
 * a call then needs no gathering round trip, and the NAT's binding is kept alive. */
#pragma once
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "ice/stun.h"

#define ICE_GATHER_KEEPALIVE_MS 15000 /* our choice, below the 30 s of short-lived UDP bindings */

struct ice_gather;
MUST_CHECK enum err ice_gather_new(const struct rng *rng, const struct addr *local, const struct addr *server,
				   struct ice_gather **ret);
void ice_gather_free(struct ice_gather *g);
void ice_gather_start(struct ice_gather *g, uint64_t now_us);
bool ice_gather_owns(const struct ice_gather *g, const struct stun_msg *m, const struct addr *from);
void ice_gather_input(struct ice_gather *g, uint64_t now_us, const struct stun_msg *m);
void ice_gather_tick(struct ice_gather *g, uint64_t now_us);
uint64_t ice_gather_deadline_us(const struct ice_gather *g);
bool ice_gather_poll_output(struct ice_gather *g, struct out *ret);
/* The mapped address; false: not known (yet, or any more). *ret_base: our own. */
bool ice_gather_mapped(const struct ice_gather *g, struct addr *ret, struct addr *ret_base);
/* False until the first answer or until all retransmissions of the first request are over. */
bool ice_gather_settled(const struct ice_gather *g);
