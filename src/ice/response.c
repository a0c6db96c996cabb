/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/response.c - answers to our checks (RFC 8445, 7.2.5) and what follows from them: the choice of a pair (8.1). */
#include <string.h>

#include "ice/agent_impl.h"

static bool is_current(const struct check *c, const uint8_t transaction[12])
{
	return c->active && !memcmp(c->transaction, transaction, 12);
}

static bool is_previous(const struct check *c, const uint8_t transaction[12])
{
	return c->has_previous && !memcmp(c->previous, transaction, 12);
}

static unsigned pair_of(const struct ice_agent *a, const uint8_t transaction[12])
{
	for (unsigned i = 0; i < a->n_pairs; i++)
		if (is_current(&a->pairs[i].check, transaction) || is_previous(&a->pairs[i].check, transaction))
			return i;
	return ICE_NO_PAIR;
}

bool ice_response_ours(const struct ice_agent *a, const uint8_t transaction[12])
{
	return pair_of(a, transaction) != ICE_NO_PAIR;
}

void ice_select(struct ice_agent *a, uint64_t now_us, unsigned i)
{
	if (a->selected == i)
		return;
	a->selected = i;
	ice_probes_forget(a);
	a->challenger = ICE_NO_PAIR;
	ice_tell(a, ICE_SELECTED, i);
	ice_consent_begin(a, now_us);
}

void ice_nominate(struct ice_agent *a, uint64_t now_us, unsigned i)
{
	a->nominating = i;
	a->pairs[i].nominate = true;
	ice_pair_trigger(a, now_us, i);
}

/* Regular nomination without fixed waits: the first pair that works, and again each time a better one works. A pair that
 * comes up after the choice without being better is what a rebound NAT looks like: the chosen one is asked (docs/protocol.md). */
static void consider(struct ice_agent *a, uint64_t now_us, unsigned i)
{
	const struct pair *p = &a->pairs[i];

	if (!a->controlling) {
		if (p->nominated_by_peer)
			ice_select(a, now_us, i);
		return;
	}
	if (a->selected == ICE_NO_PAIR) {
		if (a->nominating == ICE_NO_PAIR || p->priority > a->pairs[a->nominating].priority)
			ice_nominate(a, now_us, i);
	} else if (i != a->selected) {
		if (p->priority > a->pairs[a->selected].priority)
			ice_nominate(a, now_us, i);
		else if (p->heard)
			ice_consent_challenge(a, now_us, i);
	}
}

/* 7.2.5.3.1: the address that the peer saw us come from. Only its type is of use here: we send from the base anyway. True: it is
 * another one than before. */
static bool note_mapped(struct ice_agent *a, struct pair *p, const struct stun_msg *m)
{
	const struct stun_attr *x = stun_find(m, STUN_XOR_MAPPED_ADDRESS);
	struct addr mapped;
	bool other;

	p->local_type = ICE_PRFLX;
	if (!x || stun_attr_addr(m, x, &mapped) != OK)
		return false;
	other = p->mapped.family != ADDR_NONE && !addr_eq(&p->mapped, &mapped);
	p->mapped = mapped;
	for (unsigned k = 0; k < a->n_locals; k++)
		if (addr_eq(&a->locals[k].c.addr, &mapped) && addr_eq(&a->locals[k].base, &p->base))
			p->local_type = a->locals[k].c.type;
	return other;
}

static void succeeded(struct ice_agent *a, uint64_t now_us, unsigned i, const struct stun_msg *m, bool current)
{
	struct pair *p = &a->pairs[i];
	bool was_nomination = current && p->check.use_candidate && a->controlling,
	     was_valid = p->state == PAIR_SUCCEEDED;

	if (current) {
		if (p->check.n_sent == 1 && now_us > p->check.sent_us)
			p->rtt_us = (uint32_t)(now_us - p->check.sent_us);
		p->check.active = p->check.has_previous = false;
	} else {
		p->check.has_previous = false;
	}
	p->state = PAIR_SUCCEEDED;
	p->consent_us = now_us;
	if (note_mapped(a, p, m) && i == a->selected)
		ice_tell(a, ICE_REBOUND, i);
	ice_unfreeze(a, p->foundation);
	if (!a->valid_told) {
		a->valid_told = true;
		ice_tell(a, ICE_VALID, i);
	}
	if (was_nomination) {
		p->nominate = false;
		if (a->nominating == i) {
			a->nominating = ICE_NO_PAIR;
			ice_select(a, now_us, i);
		}
	} else if (!was_valid || p->nominated_by_peer) {
		consider(a, now_us, i);
	}
	p->nominated_by_peer = false;
}

static void failed(struct ice_agent *a, uint64_t now_us, unsigned i, const struct stun_msg *m)
{
	struct pair *p = &a->pairs[i];
	bool as_controlling = p->check.as_controlling;

	p->check.active = p->check.has_previous = false;
	if (stun_error_code(m) == 487) { /* 7.2.5.1 */
		a->stats.n_role_conflicts++;
		if (as_controlling == a->controlling) {
			a->controlling = !a->controlling;
			a->tie_breaker = rng_u64(a->cfg.rng);
			ice_pairs_reprioritise(a);
			p->nominate = false;
			a->nominating = ICE_NO_PAIR;
		}
		p->triggered = true;
		return;
	}
	(void)now_us;
	if (i != a->selected)
		p->state = PAIR_FAILED;
	if (a->nominating == i)
		a->nominating = ICE_NO_PAIR;
	p->nominate = false;
}

void ice_response_input(struct ice_agent *a, uint64_t now_us, const struct path *path, const struct stun_msg *m)
{
	uint64_t sent_us;
	unsigned i;

	if (!a->has_remote || stun_check_integrity(m, span_str(a->remote_pwd)) != OK) {
		a->stats.n_bad_auth++; /* RFC 8489, 9.1.4: as if it had not come */
		return;
	}
	if (ice_consent_ours(a, m->transaction, &sent_us)) {
		struct pair *p = &a->pairs[a->selected];

		if (m->cls == STUN_SUCCESS && addr_eq(&path->remote, &p->remote.addr) &&
		    addr_eq(&path->local, &p->base)) {
			ice_consent_answered(a, now_us, sent_us);
			if (note_mapped(a, p, m))
				ice_tell(a, ICE_REBOUND, a->selected);
		}
		return;
	}
	if (ice_probe_ours(a, m->transaction)) {
		ice_probe_answered(a, path, m);
		return;
	}
	i = pair_of(a, m->transaction);
	if (i == ICE_NO_PAIR)
		return;
	/* 7.2.5.2.1: an answer from elsewhere is no path that works both ways. The RFC fails the pair at once; we go on waiting for
	 * the right one until the check's time is over, because anyone on the wire can send a copy of it from an address of
	 * his own: nothing in it covers the source. */
	if (!addr_eq(&path->remote, &a->pairs[i].remote.addr) || !addr_eq(&path->local, &a->pairs[i].base)) {
		a->stats.n_unmatched++;
	} else if (m->cls == STUN_SUCCESS) {
		succeeded(a, now_us, i, m, is_current(&a->pairs[i].check, m->transaction));
	} else {
		failed(a, now_us, i, m);
	}
}
