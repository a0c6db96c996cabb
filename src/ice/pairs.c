/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/pairs.c - the check list (RFC 8445, 6.1) and the checks that we send (7.2.1 to 7.2.4). */
#include <stdlib.h>
#include <string.h>

#include "ice/agent_impl.h"

struct path ice_pair_path(const struct pair *p)
{
	return (struct path){ .transport = TRANSPORT_UDP, .local = p->base, .remote = p->remote.addr };
}

unsigned ice_pair_find(const struct ice_agent *a, const struct addr *base, const struct addr *remote)
{
	for (unsigned i = 0; i < a->n_pairs; i++)
		if (addr_eq(&a->pairs[i].base, base) && addr_eq(&a->pairs[i].remote.addr, remote))
			return i;
	return ICE_NO_PAIR;
}

static uint64_t priority_of(const struct ice_agent *a, const struct pair *p)
{
	return a->controlling ? ice_pair_priority(p->local_priority, p->remote.priority)
			      : ice_pair_priority(p->remote.priority, p->local_priority);
}

void ice_pairs_reprioritise(struct ice_agent *a)
{
	for (unsigned i = 0; i < a->n_pairs; i++)
		a->pairs[i].priority = priority_of(a, &a->pairs[i]);
}

/* Nothing is under way on it, or it led to an address that the peer came from once and left. */
static bool may_go(const struct ice_agent *a, unsigned i, uint64_t priority)
{
	const struct pair *p = &a->pairs[i];

	if (i == a->selected || i == a->challenger || i == a->nominating)
		return false;
	if (p->state == PAIR_SUCCEEDED)
		return p->remote.type == ICE_PRFLX && a->selected != ICE_NO_PAIR && p->priority <= priority;
	return (p->state == PAIR_FROZEN || p->state == PAIR_FAILED) && p->priority < priority;
}

/* 6.1.2.5: where the list is full, the worst pair that is of no use makes room. */
static unsigned place_for(struct ice_agent *a, uint64_t priority)
{
	unsigned worst = ICE_NO_PAIR;

	if (a->n_pairs < ICE_PAIRS_MAX)
		return a->n_pairs++;
	for (unsigned i = 0; i < a->n_pairs; i++)
		if (may_go(a, i, priority) && (worst == ICE_NO_PAIR || a->pairs[i].priority < a->pairs[worst].priority))
			worst = i;
	return worst;
}

/* 6.1.2.2 and 6.1.2.4: only bases make pairs, because a server-reflexive candidate is sent from its base. */
unsigned ice_pair_add(struct ice_agent *a, const struct addr *base, const struct ice_candidate *remote)
{
	struct pair p = { .base = *base, .remote = *remote, .state = PAIR_FROZEN, .local_type = ICE_HOST };
	const struct ice_local *l = NULL;
	struct wr w = wr_of(p.foundation, sizeof(p.foundation) - 1);
	unsigned i = ice_pair_find(a, base, &remote->addr);

	if (i != ICE_NO_PAIR)
		return i;
	for (unsigned k = 0; k < a->n_locals && !l; k++)
		if (a->locals[k].c.type == ICE_HOST && addr_eq(&a->locals[k].base, base))
			l = &a->locals[k];
	if (!l || base->family != remote->addr.family ||
	    addr_is_link_local(base) != addr_is_link_local(&remote->addr) ||
	    addr_is_loopback(base) != addr_is_loopback(&remote->addr))
		return ICE_NO_PAIR;
	p.preference = l->preference;
	p.local_priority = l->c.priority;
	p.priority = priority_of(a, &p);
	wr_fmt(&w, "%s:%s", l->c.foundation, remote->foundation);
	i = place_for(a, p.priority);
	if (i != ICE_NO_PAIR)
		a->pairs[i] = p;
	return i;
}

/* 6.1.2.6: of each foundation the best pair waits, the others stay frozen. */
static void unfreeze_one_each(struct ice_agent *a)
{
	for (unsigned i = 0; i < a->n_pairs; i++) {
		bool best = a->pairs[i].state == PAIR_FROZEN;

		for (unsigned k = 0; k < a->n_pairs && best; k++) {
			const struct pair *o = &a->pairs[k];

			if (k == i || strcmp(o->foundation, a->pairs[i].foundation))
				continue;
			best = o->state == PAIR_FROZEN ? o->priority < a->pairs[i].priority ||
								 (o->priority == a->pairs[i].priority && i < k)
						       : o->state != PAIR_WAITING && o->state != PAIR_IN_PROGRESS;
		}
		if (best)
			a->pairs[i].state = PAIR_WAITING;
	}
}

void ice_pairs_form(struct ice_agent *a)
{
	for (unsigned l = 0; l < a->n_locals; l++)
		for (unsigned r = 0; r < a->n_remotes; r++)
			if (a->locals[l].c.type == ICE_HOST)
				(void)ice_pair_add(a, &a->locals[l].base, &a->remotes[r]);
	unfreeze_one_each(a);
}

void ice_unfreeze(struct ice_agent *a, const char *foundation)
{
	for (unsigned i = 0; i < a->n_pairs; i++)
		if (a->pairs[i].state == PAIR_FROZEN && !strcmp(a->pairs[i].foundation, foundation))
			a->pairs[i].state = PAIR_WAITING;
}

/* ---- sending ---- */

void ice_check_write(struct ice_agent *a, const struct pair *p, const uint8_t transaction[12], bool use_candidate,
		     struct wr *w)
{
	uint8_t name[sizeof(a->remote_ufrag) + ICE_UFRAG_LEN + 1];
	struct wr user = wr_of(name, sizeof(name));

	wr_fmt(&user, "%s:%s", a->remote_ufrag, a->ufrag);
	stun_begin(w, STUN_REQUEST, STUN_BINDING, transaction);
	stun_put(w, STUN_USERNAME, wr_done(&user));
	stun_put_u32(w, STUN_PRIORITY, ice_priority(ICE_PRFLX, p->preference, 1)); /* 7.1.1 */
	stun_put_u64(w, a->controlling ? STUN_ICE_CONTROLLING : STUN_ICE_CONTROLLED, a->tie_breaker);
	if (use_candidate && a->controlling)
		stun_put(w, STUN_USE_CANDIDATE, SPAN_NONE);
	w->bad |= user.bad;
}

void ice_check_send(struct ice_agent *a, uint64_t now_us, const struct pair *p, const uint8_t transaction[12],
		    bool use_candidate)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	struct path path = ice_pair_path(p);

	(void)now_us;
	ice_check_write(a, p, transaction, use_candidate, &w);
	if (stun_finish(&w, span_str(a->remote_pwd), true) == OK &&
	    outq_push(a->out, OUT_SEND, &path, wr_done(&w)) == OK)
		a->stats.n_checks_out++;
}

/* 14.3: the more checks are under way, the slower each is repeated. */
static uint64_t rto_of(const struct ice_agent *a)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < a->n_pairs; i++)
		n += a->pairs[i].state == PAIR_WAITING || a->pairs[i].state == PAIR_IN_PROGRESS;
	return n * a->ta_us > ICE_RTO_US ? n * a->ta_us : ICE_RTO_US;
}

static void check_begin(struct ice_agent *a, uint64_t now_us, struct pair *p)
{
	struct check *c = &p->check;

	c->has_previous = c->active;
	memcpy(c->previous, c->transaction, sizeof(c->previous));
	rng_fill(a->cfg.rng, c->transaction, sizeof(c->transaction));
	c->active = true;
	c->n_sent = 1;
	c->sent_us = now_us;
	c->rto_us = rto_of(a);
	c->next_us = now_us + c->rto_us;
	c->use_candidate = p->nominate;
	c->as_controlling = a->controlling;
	c->is_answer = p->triggered;
	p->triggered = false;
	if (p->state != PAIR_SUCCEEDED)
		p->state = PAIR_IN_PROGRESS;
	ice_check_send(a, now_us, p, c->transaction, c->use_candidate);
}

/* 7.3.1.4. It leaves at once instead of at the next Ta: each answers one authenticated packet of the peer, so they
 * cannot outnumber its own paced checks. */
void ice_pair_trigger(struct ice_agent *a, uint64_t now_us, unsigned i)
{
	struct pair *p = &a->pairs[i];

	p->triggered = true;
	if (a->started && a->has_remote)
		check_begin(a, now_us, p);
}

static void check_repeat(struct ice_agent *a, uint64_t now_us, struct pair *p)
{
	struct check *c = &p->check;

	if (c->n_sent >= ICE_RC) { /* RFC 8489, 6.2.1: nobody answers */
		c->active = c->has_previous = false;
		if (p->nominate || p->state == PAIR_IN_PROGRESS)
			p->state = PAIR_FAILED;
		if (p->nominate)
			a->nominating = ICE_NO_PAIR;
		p->nominate = false;
		return;
	}
	c->n_sent++;
	c->rto_us *= 2;
	c->next_us = now_us + (c->n_sent == ICE_RC ? ICE_RM * (c->rto_us >> (ICE_RC - 1)) : c->rto_us);
	ice_check_send(a, now_us, p, c->transaction, c->use_candidate);
}

/* Is it still worth a first check? After the choice only what would be better than it (docs/protocol.md). */
static bool wanted(const struct ice_agent *a, const struct pair *p)
{
	return p->state == PAIR_WAITING && (a->selected == ICE_NO_PAIR || p->priority > a->pairs[a->selected].priority);
}

static struct pair *next_waiting(struct ice_agent *a)
{
	struct pair *best = NULL;

	for (unsigned i = 0; i < a->n_pairs; i++)
		if (wanted(a, &a->pairs[i]) && (!best || a->pairs[i].priority > best->priority))
			best = &a->pairs[i];
	return best;
}
/* When the next check that nothing triggered may start. */
static uint64_t turn_us(const struct ice_agent *a)
{
	uint64_t all = a->cfg.pacer ? a->cfg.pacer->next_us : 0;

	return a->pace_us > all ? a->pace_us : all;
}

void ice_pairs_tick(struct ice_agent *a, uint64_t now_us)
{
	struct pair *p;

	for (unsigned i = 0; i < a->n_pairs; i++) {
		if (a->pairs[i].triggered)
			check_begin(a, now_us, &a->pairs[i]);
		else if (a->pairs[i].check.active && a->pairs[i].check.next_us <= now_us)
			check_repeat(a, now_us, &a->pairs[i]);
	}
	if (now_us < turn_us(a))
		return;
	p = next_waiting(a);
	if (!p && a->selected == ICE_NO_PAIR) {
		unfreeze_one_each(a); /* 6.1.4.2 */
		p = next_waiting(a);
	}
	if (p)
		check_begin(a, now_us, p);
	if (p && a->cfg.pacer)
		a->cfg.pacer->next_us = now_us + MS(ICE_TA_LEAST_MS);
	a->pace_us = now_us + a->ta_us;
}

uint64_t ice_pairs_deadline_us(const struct ice_agent *a)
{
	uint64_t due = TIME_NEVER;

	for (unsigned i = 0; i < a->n_pairs; i++) {
		const struct pair *p = &a->pairs[i];

		if (p->triggered)
			return 0;
		if (p->check.active && p->check.next_us < due)
			due = p->check.next_us;
		if ((wanted(a, p) || (p->state == PAIR_FROZEN && a->selected == ICE_NO_PAIR)) && turn_us(a) < due)
			due = turn_us(a);
	}
	return due;
}
