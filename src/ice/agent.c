/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ice/agent.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"
#include "ice/agent_impl.h"

enum err ice_agent_new(const struct ice_config *cfg, struct ice_agent **ret)
{
	struct ice_agent *a = calloc(1, sizeof(*a));

	if (!a)
		return ERR_NOMEM;
	a->cfg = *cfg;
	a->cfg.log.area = "ice";
	if (!a->cfg.patience_ms)
		a->cfg.patience_ms = 39500; /* RFC 8863, 4: as long as one check with RFC 8489's timers */
	ice_agent_set_pacing(a, 0);
	a->controlling = cfg->controlling;
	a->selected = a->challenger = a->nominating = ICE_NO_PAIR;
	a->out = outq_new(256, 256 * 1024);
	if (!a->out) {
		ice_agent_free(a);
		return ERR_NOMEM;
	}
	rng_text(cfg->rng, a->ufrag, ICE_UFRAG_LEN);
	rng_text(cfg->rng, a->pwd, ICE_PWD_LEN);
	a->tie_breaker = rng_u64(cfg->rng);
	*ret = a;
	return OK;
}

void ice_agent_set_pacing(struct ice_agent *a, uint32_t remote_ms)
{
	uint32_t own = a->cfg.pacing_ms ? a->cfg.pacing_ms : ICE_TA_MS, ms = own > remote_ms ? own : remote_ms;

	/* a peer that wants seconds between checks wants no call */
	a->ta_us = MS((uint64_t)(ms < ICE_TA_LEAST_MS ? ICE_TA_LEAST_MS : ms > 500 ? 500 : ms));
}

void ice_agent_free(struct ice_agent *a)
{
	if (!a)
		return;
	outq_free(a->out);
	secret_wipe(a, sizeof(*a));
	free(a);
}

const char *ice_agent_ufrag(const struct ice_agent *a)
{
	return a->ufrag;
}

const char *ice_agent_pwd(const struct ice_agent *a)
{
	return a->pwd;
}

/* ---- our candidates ---- */

/* RFC 8445, 5.1.1.3: same type and same base address, same foundation (one STUN server is assumed). */
static void set_foundation(struct ice_agent *a, struct ice_local *l)
{
	unsigned next = 1;
	char digits[12];
	struct wr w = wr_of(digits, sizeof(digits) - 1);

	for (unsigned i = 0; i < a->n_locals; i++) {
		const struct ice_local *o = &a->locals[i];
		uint64_t n = 0;

		if (o->c.type == l->c.type && addr_ip_eq(&o->base, &l->base)) {
			memcpy(l->c.foundation, o->c.foundation, sizeof(l->c.foundation));
			return;
		}
		if (span_u64(span_str(o->c.foundation), UINT32_MAX, &n) == OK && n >= next)
			next = (unsigned)n + 1;
	}
	wr_fmt(&w, "%u", next);
	digits[w.len] = 0;
	memcpy(l->c.foundation, digits, sizeof(digits));
}

enum err ice_agent_add_local(struct ice_agent *a, enum ice_type type, const struct addr *addr, const struct addr *base)
{
	struct ice_local l = { .c = { .type = type, .component = 1, .addr = *addr }, .base = *base };

	for (unsigned i = 0; i < a->n_locals; i++)
		if (addr_eq(&a->locals[i].c.addr, addr) && addr_eq(&a->locals[i].base, base))
			return OK; /* redundant (5.1.3) */
	if (a->n_locals == ICE_LOCAL_MAX)
		return ERR_LIMIT;
	/* 5.1.2.1: the host's order of addresses is the order of preference */
	l.preference = (uint16_t)(65535 - a->n_locals);
	for (unsigned i = 0; i < a->n_locals; i++)
		if (type != ICE_HOST && a->locals[i].c.type == ICE_HOST && addr_eq(&a->locals[i].base, base))
			l.preference = a->locals[i].preference;
	l.c.priority = ice_priority(type, l.preference, 1);
	if (type != ICE_HOST)
		l.c.related = *base;
	set_foundation(a, &l);
	a->locals[a->n_locals++] = l;
	if (a->started && type == ICE_HOST)
		for (unsigned i = 0; i < a->n_remotes; i++)
			(void)ice_pair_add(a, base, &a->remotes[i]);
	return OK;
}

bool ice_agent_local(const struct ice_agent *a, unsigned index, struct ice_candidate *ret)
{
	/* few: the index-th by priority is found by counting the better ones */
	for (unsigned i = 0; i < a->n_locals; i++) {
		unsigned better = 0;

		for (unsigned k = 0; k < a->n_locals; k++)
			better += a->locals[k].c.priority > a->locals[i].c.priority ||
				  (a->locals[k].c.priority == a->locals[i].c.priority && k < i);
		if (better == index) {
			*ret = a->locals[i].c;
			return true;
		}
	}
	return false;
}

/* ---- the other side ---- */

enum err ice_agent_set_remote(struct ice_agent *a, const char *ufrag, const char *pwd, bool lite,
			      const struct ice_candidate *cands, unsigned n)
{
	if (span_copy_str(span_str(ufrag), a->remote_ufrag, sizeof(a->remote_ufrag)) != OK ||
	    span_copy_str(span_str(pwd), a->remote_pwd, sizeof(a->remote_pwd)) != OK || !*ufrag || !*pwd)
		return ERR_MALFORMED;
	if (n > ICE_REMOTE_MAX)
		return ERR_LIMIT;
	a->n_remotes = 0;
	for (unsigned i = 0; i < n; i++) {
		bool twice = false;

		for (unsigned k = 0; k < a->n_remotes; k++)
			twice |= addr_eq(&a->remotes[k].addr, &cands[i].addr);
		if (!twice)
			a->remotes[a->n_remotes++] = cands[i];
	}
	if (lite)
		a->controlling = true; /* RFC 8445, 6.1.1: a lite agent is controlled */
	a->has_remote = true;
	return OK;
}

void ice_agent_start(struct ice_agent *a, uint64_t now_us)
{
	if (a->started || !a->has_remote)
		return;
	a->started = true;
	a->start_us = a->pace_us = now_us;
	ice_pairs_form(a);
	log_debug(&a->cfg.log, "%u local and %u remote candidates make %u pairs", a->n_locals, a->n_remotes,
		  a->n_pairs);
	ice_early_replay(a, now_us);
	ice_agent_tick(a, now_us);
}

/* ---- in, out ---- */

bool ice_agent_owns(const struct ice_agent *a, const struct stun_msg *m)
{
	if (m->cls == STUN_REQUEST) {
		const struct stun_attr *u = stun_find(m, STUN_USERNAME);

		return u && u->value.len > ICE_UFRAG_LEN && u->value.p[ICE_UFRAG_LEN] == ':' &&
		       span_eq_str(span_sub(u->value, 0, ICE_UFRAG_LEN), a->ufrag);
	}
	return (m->cls == STUN_SUCCESS || m->cls == STUN_ERROR) &&
	       (ice_response_ours(a, m->transaction) || ice_consent_ours(a, m->transaction, NULL) ||
		ice_probe_ours(a, m->transaction));
}

void ice_agent_input(struct ice_agent *a, uint64_t now_us, const struct path *path, const struct stun_msg *m)
{
	if (m->method != STUN_BINDING || !ice_agent_owns(a, m))
		a->stats.n_unmatched++;
	else if (m->cls == STUN_REQUEST)
		ice_request_input(a, now_us, path, m);
	else
		ice_response_input(a, now_us, path, m);
	if (a->started)
		ice_agent_tick(a, now_us);
}

/* When there is nothing to wait for any more: no pair was chosen, no check is under way. RFC 8863: the peer may still show an
 * address that nobody knew, so patience runs in full. A pair that works but is never nominated ends so as well; once one
 * is chosen, consent watches over it. */
static uint64_t failed_us(const struct ice_agent *a)
{
	if (a->selected != ICE_NO_PAIR || a->failed_told || ice_pairs_deadline_us(a) != TIME_NEVER)
		return TIME_NEVER;
	return a->start_us + MS(a->cfg.patience_ms);
}

void ice_agent_tick(struct ice_agent *a, uint64_t now_us)
{
	if (!a->started)
		return;
	ice_pairs_tick(a, now_us);
	ice_consent_tick(a, now_us);
	if (now_us >= failed_us(a)) {
		a->failed_told = true;
		ice_tell(a, ICE_FAILED, ICE_NO_PAIR);
	}
}

uint64_t ice_agent_deadline_us(const struct ice_agent *a)
{
	uint64_t pairs, consent, failed;

	if (!a->started)
		return TIME_NEVER;
	pairs = ice_pairs_deadline_us(a);
	consent = ice_consent_deadline_us(a);
	failed = failed_us(a);
	if (consent < pairs)
		pairs = consent;
	return failed < pairs ? failed : pairs;
}

bool ice_agent_poll_output(struct ice_agent *a, struct out *ret)
{
	return outq_poll(a->out, ret);
}

bool ice_agent_validated(const struct ice_agent *a, const struct path *path)
{
	unsigned i = ice_pair_find(a, &path->local, &path->remote);

	return i != ICE_NO_PAIR && (a->pairs[i].heard || a->pairs[i].state == PAIR_SUCCEEDED);
}

bool ice_agent_pair(const struct ice_agent *a, const struct path *path, struct ice_pair_info *ret)
{
	unsigned i = ice_pair_find(a, &path->local, &path->remote);
	const struct pair *p = &a->pairs[i];

	if (i == ICE_NO_PAIR)
		return false;
	*ret = (struct ice_pair_info){ .local_type = p->local_type,
				       .remote_type = p->remote.type,
				       .proved = p->state == PAIR_SUCCEEDED,
				       .consent_us = p->consent_us };
	return true;
}

/* ---- events ---- */

void ice_tell(struct ice_agent *a, enum ice_event_kind kind, unsigned pair)
{
	struct ice_event e = { .kind = kind };

	if (a->ev_n == ICE_EVENTS_MAX)
		return; /* the owner drains after every call: cannot be reached */
	if (pair != ICE_NO_PAIR) {
		e.path = ice_pair_path(&a->pairs[pair]);
		e.local_type = a->pairs[pair].local_type;
		e.remote_type = a->pairs[pair].remote.type;
		e.rtt_us = a->pairs[pair].rtt_us;
	}
	a->events[(a->ev_head + a->ev_n++) % ICE_EVENTS_MAX] = e;
}

void ice_tell_size(struct ice_agent *a, unsigned size)
{
	unsigned n = a->ev_n;

	ice_tell(a, ICE_PROBED, a->selected);
	if (a->ev_n > n)
		a->events[(a->ev_head + n) % ICE_EVENTS_MAX].size = size;
}

bool ice_agent_poll_event(struct ice_agent *a, struct ice_event *ret)
{
	if (!a->ev_n)
		return false;
	*ret = a->events[a->ev_head];
	a->ev_head = (a->ev_head + 1) % ICE_EVENTS_MAX;
	a->ev_n--;
	return true;
}

bool ice_agent_selected(const struct ice_agent *a, struct path *ret)
{
	if (a->selected == ICE_NO_PAIR)
		return false;
	*ret = ice_pair_path(&a->pairs[a->selected]);
	return true;
}

uint32_t ice_agent_rtt_us(const struct ice_agent *a)
{
	return a->selected == ICE_NO_PAIR ? 0 : a->pairs[a->selected].rtt_us;
}

const struct ice_stats *ice_agent_stats(const struct ice_agent *a)
{
	return &a->stats;
}
