/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/request.c - checks that arrive (RFC 8445, 7.3). */
#include <string.h>

#include "ice/agent_impl.h"

static void answer(struct ice_agent *a, const struct path *path, struct wr *w)
{
	if (stun_finish(w, span_str(a->pwd), true) == OK)
		(void)!outq_push(a->out, OUT_SEND, path, wr_done(w));
}

static void refuse(struct ice_agent *a, const struct path *path, const uint8_t transaction[12], unsigned code,
		   const char *reason, struct span unknown)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	stun_begin(&w, STUN_ERROR, STUN_BINDING, transaction);
	stun_put_error(&w, code, reason);
	if (unknown.len)
		stun_put(&w, STUN_UNKNOWN_ATTRIBUTES, unknown);
	answer(a, path, &w);
}

/* 7.3.1.1: two agents in one role; the larger tie-breaker is controlling. False: the request ends with 487. */
static bool settle_role(struct ice_agent *a, const struct early *rq)
{
	if (!rq->has_role || rq->as_controlling != a->controlling)
		return true;
	a->stats.n_role_conflicts++;
	if (a->controlling ? a->tie_breaker >= rq->tie_breaker : a->tie_breaker < rq->tie_breaker)
		return false; /* the other one is to change */
	a->controlling = !a->controlling;
	ice_pairs_reprioritise(a);
	return true;
}

/* Where the list is full, an address that was learned and is not in use: the pairs keep their own copies. */
static struct ice_candidate *remote_place(struct ice_agent *a)
{
	if (a->n_remotes < ICE_REMOTE_MAX)
		return &a->remotes[a->n_remotes++];
	for (unsigned i = 0; i < ICE_REMOTE_MAX; i++) {
		struct ice_candidate *c = &a->remotes[(a->n_learned + i) % ICE_REMOTE_MAX];

		if (c->type == ICE_PRFLX &&
		    (a->selected == ICE_NO_PAIR || !addr_eq(&c->addr, &a->pairs[a->selected].remote.addr)))
			return c;
	}
	return NULL;
}

/* 7.3.1.3: an address that no description named. */
static bool learn_remote(struct ice_agent *a, const struct addr *from, uint32_t priority, struct ice_candidate *ret)
{
	struct ice_candidate c = { .type = ICE_PRFLX, .component = 1, .priority = priority, .addr = *from };
	struct wr w = wr_of(c.foundation, sizeof(c.foundation) - 1);
	struct ice_candidate *at;

	for (unsigned i = 0; i < a->n_remotes; i++)
		if (addr_eq(&a->remotes[i].addr, from)) {
			*ret = a->remotes[i];
			return true;
		}
	at = remote_place(a);
	if (!at)
		return false;
	wr_fmt(&w, "prflx%u", a->n_learned++);
	*at = c;
	*ret = c;
	return true;
}

/* 7.3.1.4 */
static void trigger(struct ice_agent *a, uint64_t now_us, unsigned i)
{
	struct pair *p = &a->pairs[i];

	if (p->state == PAIR_SUCCEEDED)
		return;
	/* A request and its duplicate make one check. One of our own that was out before does not count: the peer's NAT may have
	 * dropped it, and what this request shows is that the next one passes. */
	if (p->state == PAIR_IN_PROGRESS && p->check.active && p->check.is_answer &&
	    now_us < p->check.sent_us + a->ta_us)
		return;
	ice_pair_trigger(a, now_us, i);
}

static void handle(struct ice_agent *a, uint64_t now_us, const struct early *rq)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	struct ice_candidate remote;
	unsigned i = ICE_NO_PAIR;

	if (!settle_role(a, rq)) {
		refuse(a, &rq->path, rq->transaction, 487, "Role Conflict", SPAN_NONE);
		return;
	}
	stun_begin(&w, STUN_SUCCESS, STUN_BINDING, rq->transaction);
	stun_put_xor_addr(&w, STUN_XOR_MAPPED_ADDRESS, &rq->path.remote, rq->transaction);
	answer(a, &rq->path, &w);
	if (learn_remote(a, &rq->path.remote, rq->priority, &remote))
		i = ice_pair_add(a, &rq->path.local, &remote);
	if (i == ICE_NO_PAIR) {
		a->stats.n_unmatched++;
		return;
	}
	a->pairs[i].heard = true;
	trigger(a, now_us, i);
	if (!rq->use_candidate || a->controlling)
		return;
	if (a->pairs[i].state == PAIR_SUCCEEDED) /* 7.3.1.5 */
		ice_select(a, now_us, i);
	else
		a->pairs[i].nominated_by_peer = true;
}

/* Of all who saw our description only the one whose description was accepted is answered: a forked offer has more readers. */
void ice_early_replay(struct ice_agent *a, uint64_t now_us)
{
	for (unsigned i = 0; i < a->n_early; i++)
		if (!strcmp(a->early[i].ufrag, a->remote_ufrag))
			handle(a, now_us, &a->early[i]);
		else
			a->stats.n_bad_auth++;
	a->n_early = 0;
}

void ice_request_input(struct ice_agent *a, uint64_t now_us, const struct path *path, const struct stun_msg *m)
{
	const struct stun_attr *user = stun_find(m, STUN_USERNAME), *priority = stun_find(m, STUN_PRIORITY);
	const struct stun_attr *on = stun_find(m, STUN_ICE_CONTROLLING), *off = stun_find(m, STUN_ICE_CONTROLLED);
	const struct stun_attr *role = on ? on : off;
	struct early rq = { .path = *path,
			    .use_candidate = stun_find(m, STUN_USE_CANDIDATE) != NULL,
			    .has_role = role != NULL,
			    .as_controlling = on != NULL };
	uint16_t types[8];
	uint8_t unknown[16];
	unsigned n;

	memcpy(rq.transaction, m->transaction, sizeof(rq.transaction));
	/* docs/protocol.md: FINGERPRINT is required. The password proves that the sender saw our description. */
	if (!m->has_fingerprint || stun_check_integrity(m, span_str(a->pwd)) != OK ||
	    (a->has_remote && !span_eq_str(span_from(user->value, ICE_UFRAG_LEN + 1), a->remote_ufrag))) {
		a->stats.n_bad_auth++; /* no answer: it would tell a stranger that a call is on */
		return;
	}
	a->stats.n_checks_in++;
	n = stun_unknown(m, types, 8);
	if (n) {
		for (unsigned i = 0; i < n; i++)
			put_be16(unknown + 2 * i, types[i]);
		if (a->started)
			refuse(a, path, m->transaction, 420, "Unknown Attribute", span_of(unknown, (size_t)2 * n));
		return;
	}
	if (!priority || priority->value.len != 4 || (role && role->value.len != 8)) {
		if (a->started)
			refuse(a, path, m->transaction, 400, "Bad Request", SPAN_NONE);
		return;
	}
	rq.priority = be32(priority->value.p);
	rq.tie_breaker = role ? be64(role->value.p) : 0;
	if (a->started)
		handle(a, now_us, &rq);
	else if (a->n_early < ICE_EARLY_MAX &&
		 span_copy_str(span_from(user->value, ICE_UFRAG_LEN + 1), rq.ufrag, sizeof(rq.ufrag)) == OK)
		a->early[a->n_early++] = rq;
}
