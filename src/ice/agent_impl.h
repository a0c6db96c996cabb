/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/agent_impl.h - inside ice/ only: the agent's state, shared by agent.c (life, candidates, events), pairs.c (check
 * list), request.c (checks that arrive), response.c (answers to ours, nomination) and consent.c. */
#pragma once
#include "base/timers.h"
#include "ice/agent.h"

#define ICE_TA_MS 50 /* pacing of new checks where nothing else is agreed (RFC 8445, 14.2) */
#define ICE_TA_LEAST_MS 5 /* and the least, of one agent and of all together */
#define ICE_RTO_US MS(500) /* RFC 8445, 14.3: at least */
#define ICE_RC 7 /* RFC 8489, 6.2.1: transmissions, and the wait after the last in RTOs */
#define ICE_RM 16
#define ICE_CONSENT_US SECONDS(5) /* RFC 7675, 5.1: times 0.8 to 1.2 */
#define ICE_CONSENT_LOST_US SECONDS(30)
#define ICE_CONSENT_OPEN 8 /* consent checks whose answer is still accepted */
#define ICE_PROBES_OPEN 16 /* whose answer is still accepted */
#define ICE_EARLY_MAX 8 /* checks that arrived before the description */
#define ICE_EVENTS_MAX 16
#define ICE_ASK_US MS(270) /* a challenged pair is asked three times, this far apart */
#define ICE_ASKS 3
#define ICE_NO_PAIR ICE_PAIRS_MAX

enum pair_state { PAIR_FROZEN, PAIR_WAITING, PAIR_IN_PROGRESS, PAIR_SUCCEEDED, PAIR_FAILED };

struct ice_local {
	struct ice_candidate c;
	struct addr base;
	uint16_t preference;
};

struct check { /* one STUN transaction of ours */
	uint8_t transaction[12], previous[12]; /* a triggered check replaces one whose answer may still come */
	bool active, has_previous, use_candidate, as_controlling;
	bool is_answer; /* begun because the peer checked this pair */
	unsigned n_sent;
	uint64_t sent_us, next_us, rto_us;
};

struct pair {
	struct addr base; /* a host candidate's address: what we send from */
	uint16_t preference; /* of that candidate */
	struct ice_candidate remote;
	char foundation[68];
	uint32_t local_priority;
	uint64_t priority;
	enum pair_state state;
	enum ice_type local_type; /* what the mapped address showed us to be */
	bool heard; /* a check of the peer arrived on it, authenticated */
	bool triggered, nominated_by_peer, nominate;
	struct check check;
	uint32_t rtt_us;
	uint64_t consent_us;
	struct addr mapped; /* where the peer sees us; family NONE: not known */
};

struct early {
	struct path path;
	uint8_t transaction[12];
	uint32_t priority;
	bool use_candidate, has_role, as_controlling;
	uint64_t tie_breaker;
	char ufrag[257]; /* the sender's own, from USERNAME: who it is shows when the description is there */
};

struct ice_probe {
	uint8_t transaction[12];
	unsigned size; /* 0: a free place */
};

struct ice_agent {
	struct ice_config cfg;
	char ufrag[ICE_UFRAG_LEN + 1], pwd[ICE_PWD_LEN + 1];
	char remote_ufrag[257], remote_pwd[257];
	bool has_remote, started, valid_told, failed_told;
	bool controlling;
	uint64_t tie_breaker;
	struct ice_local locals[ICE_LOCAL_MAX];
	struct ice_candidate remotes[ICE_REMOTE_MAX];
	unsigned n_locals, n_remotes;
	unsigned n_learned; /* of the other side's addresses, over the call's life */
	struct pair pairs[ICE_PAIRS_MAX];
	unsigned n_pairs, selected, nominating;
	uint64_t ta_us, start_us, pace_us;
	struct early early[ICE_EARLY_MAX];
	unsigned n_early;
	/* consent on the selected pair */
	uint8_t consent[ICE_CONSENT_OPEN][12];
	uint64_t consent_sent_us[ICE_CONSENT_OPEN];
	unsigned consent_at;
	uint64_t consent_next_us, consent_answered_us;
	bool consent_lost;
	unsigned challenger; /* a pair that takes over if the selected one does not answer by then */
	unsigned n_asked;
	uint64_t challenge_us; /* when to ask again, or to change over */
	struct ice_probe probes[ICE_PROBES_OPEN]; /* on the selected pair */
	unsigned probe_at;
	struct ice_event events[ICE_EVENTS_MAX];
	unsigned ev_head, ev_n;
	struct outq *out;
	struct ice_stats stats;
};

/* pairs.c */
unsigned ice_pair_find(const struct ice_agent *a, const struct addr *base, const struct addr *remote);
/* ICE_NO_PAIR: no base of ours, or the list is full of better ones. */
unsigned ice_pair_add(struct ice_agent *a, const struct addr *base, const struct ice_candidate *remote);
void ice_pairs_form(struct ice_agent *a);
void ice_pairs_tick(struct ice_agent *a, uint64_t now_us);
uint64_t ice_pairs_deadline_us(const struct ice_agent *a);
void ice_pair_trigger(struct ice_agent *a, uint64_t now_us, unsigned i);
void ice_unfreeze(struct ice_agent *a, const char *foundation);
void ice_pairs_reprioritise(struct ice_agent *a); /* after a change of role */
void ice_check_send(struct ice_agent *a, uint64_t now_us, const struct pair *p, const uint8_t transaction[12],
		    bool use_candidate);
/* A check up to what stun_finish() adds. */
void ice_check_write(struct ice_agent *a, const struct pair *p, const uint8_t transaction[12], bool use_candidate,
		     struct wr *w);
struct path ice_pair_path(const struct pair *p);

/* request.c */
void ice_request_input(struct ice_agent *a, uint64_t now_us, const struct path *path, const struct stun_msg *m);
void ice_early_replay(struct ice_agent *a, uint64_t now_us);

/* response.c */
void ice_response_input(struct ice_agent *a, uint64_t now_us, const struct path *path, const struct stun_msg *m);
bool ice_response_ours(const struct ice_agent *a, const uint8_t transaction[12]);
void ice_select(struct ice_agent *a, uint64_t now_us, unsigned i);
void ice_nominate(struct ice_agent *a, uint64_t now_us, unsigned i);

/* consent.c */
void ice_consent_begin(struct ice_agent *a, uint64_t now_us);
void ice_consent_tick(struct ice_agent *a, uint64_t now_us);
uint64_t ice_consent_deadline_us(const struct ice_agent *a);
bool ice_consent_ours(const struct ice_agent *a, const uint8_t transaction[12], uint64_t *ret_sent_us);
void ice_consent_answered(struct ice_agent *a, uint64_t now_us, uint64_t sent_us);
/* A pair came up after the selected one: ask the selected one now, and change over if it is silent. */
void ice_consent_challenge(struct ice_agent *a, uint64_t now_us, unsigned i);

/* probe.c */
bool ice_probe_ours(const struct ice_agent *a, const uint8_t transaction[12]);
void ice_probe_answered(struct ice_agent *a, const struct path *path, const struct stun_msg *m);
void ice_probes_forget(struct ice_agent *a);

/* agent.c */
void ice_tell_size(struct ice_agent *a, unsigned size);
void ice_tell(struct ice_agent *a, enum ice_event_kind kind, unsigned pair);
