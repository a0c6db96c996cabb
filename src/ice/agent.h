/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/agent.h - one ICE session with one component (RFC 8445 full agent), with consent
 * freshness (RFC 7675). One agent a call; many agents share one local port, the
 * dispatcher finds the agent by ufrag (requests) or transaction (responses).
 *
 * Order: new, add_local (any number), set_remote, start. Checks that arrive
 * before start are kept and answered by it: nothing leaves before the other side's description
 * was checked (RFC 8445, 7.3 would have them answered; the wait is the description's). "No fixed waits": the first pair that
 * passed a check is reported at once by ICE_VALID, nomination follows on its own.
 *
 * A relayed candidate's path carries a TURN channel; it has its place in struct path. */
#pragma once
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "ice/candidate.h"
#include "ice/stun.h"

#define ICE_LOCAL_MAX 16
#define ICE_REMOTE_MAX 32
#define ICE_PAIRS_MAX 100 /* RFC 8445, 6.1.2.5 */
#define ICE_UFRAG_LEN 8
#define ICE_PWD_LEN 24
#define ICE_PROBE_MAX 1500 /* IP packet of ice_agent_probe */

struct ice_agent;

/* Shared by the agents of one process, so that together they start at most one check in 5 ms (RFC 8445, 14.2). All zero is
 * valid. */
struct ice_pacer {
	uint64_t next_us;
};

struct ice_config {
	const struct rng *rng;
	struct log log; /* copied; area set to "ice" by the agent */
	bool controlling;
	uint32_t pacing_ms; /* Ta that we propose; 0: 50 */
	struct ice_pacer *pacer; /* borrowed, may be NULL */
	uint32_t patience_ms; /* RFC 8863: do not fail earlier; 0: 39,500 */
};

MUST_CHECK enum err ice_agent_new(const struct ice_config *cfg, struct ice_agent **ret);
void ice_agent_free(struct ice_agent *a);
const char *ice_agent_ufrag(const struct ice_agent *a); /* ours; random, ICE_UFRAG_LEN */
const char *ice_agent_pwd(const struct ice_agent *a);

/* A host candidate at `base` (our socket's address as bound on that interface), or a
 * server-reflexive one seen from it. Foundation and priority are set here; a redundant
 * one is dropped (5.1.3). Also allowed after start (a trickled or late srflx). */
MUST_CHECK enum err ice_agent_add_local(struct ice_agent *a, enum ice_type type, const struct addr *addr,
					const struct addr *base);
/* For the description: index from 0; false: no more. Ordered by priority, highest first. */
bool ice_agent_local(const struct ice_agent *a, unsigned index, struct ice_candidate *ret);
/* The other side's description. Candidates are copied. */
MUST_CHECK enum err ice_agent_set_remote(struct ice_agent *a, const char *ufrag, const char *pwd, bool lite,
					 const struct ice_candidate *cands, unsigned n);
/* What the other side proposed as Ta (RFC 8839, 5.5; absent: 50): the larger of both counts. Before start. */
void ice_agent_set_pacing(struct ice_agent *a, uint32_t remote_ms);
void ice_agent_start(struct ice_agent *a, uint64_t now_us);

/* Is this request's USERNAME for us (its first half is our ufrag)? Is this response's
 * transaction one of ours? Cheap; no state changes. */
bool ice_agent_owns(const struct ice_agent *a, const struct stun_msg *m);
void ice_agent_input(struct ice_agent *a, uint64_t now_us, const struct path *path, const struct stun_msg *m);
void ice_agent_tick(struct ice_agent *a, uint64_t now_us);
uint64_t ice_agent_deadline_us(const struct ice_agent *a);
bool ice_agent_poll_output(struct ice_agent *a, struct out *ret);

/* Has this address pair passed a check with this call's credentials, in either direction? The
 * gate before IKE. */
bool ice_agent_validated(const struct ice_agent *a, const struct path *path);

/* A pair; false: there is none (any more). */
struct ice_pair_info {
	enum ice_type local_type, remote_type;
	bool proved; /* a check of ours was answered on it: they receive there */
	uint64_t consent_us; /* when consent on it was shown last, by such an answer or a nomination; 0: never */
};
bool ice_agent_pair(const struct ice_agent *a, const struct path *path, struct ice_pair_info *ret);

enum ice_event_kind {
	ICE_VALID, /* first pair that passed a check of ours: IKE may start on it */
	ICE_SELECTED, /* nominated (again, when a better path was nominated later) */
	ICE_FAILED, /* no pair was chosen, no check is under way, and patience is over */
	ICE_CONSENT_LOST, /* 30 s without an answer on the selected pair: stop sending (RFC 7675) */
	ICE_CONSENT_BACK, /* a check on it was answered again */
	ICE_REBOUND, /* the other side sees us at another address on it than before: a NAT has changed its mapping */
	ICE_PROBED /* a packet of `size` has arrived by the selected pair */
};
struct ice_event {
	enum ice_event_kind kind;
	struct path path; /* local = base address, remote = peer */
	enum ice_type local_type, remote_type;
	uint32_t rtt_us; /* of the last answered check on it */
	unsigned size; /* PROBED: of the IP packet */
};
bool ice_agent_poll_event(struct ice_agent *a, struct ice_event *ret);
/* The selected pair; false: none is. */
bool ice_agent_selected(const struct ice_agent *a, struct path *ret);
/* One check on the selected pair that makes an IP packet of this size, a multiple of 4; ICE_PROBED, or nothing, follows. It is no
 * part of ICE itself: neither consent nor nomination hang on it. ERR_WRONG_STATE: no pair is selected, no such size. */
MUST_CHECK enum err ice_agent_probe(struct ice_agent *a, unsigned size);
/* Last measured round trip of the selected pair, 0: none. */
uint32_t ice_agent_rtt_us(const struct ice_agent *a);

struct ice_stats {
	uint64_t n_checks_out, n_checks_in, n_bad_auth, n_role_conflicts, n_unmatched;
};
const struct ice_stats *ice_agent_stats(const struct ice_agent *a);
