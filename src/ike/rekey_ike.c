/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* New keys for the IKE SA (RFC 7296, 1.3.2, 2.8.2, 2.18, 2.25.2).
 *
 *   HDR, SK {SA, Ni, KEi} -->
 *   <-- HDR, SK {SA, Nr, KEr}
 *   HDR, SK {D()} -->   <-- HDR, SK {}          over the old SA, its last request
 *
 * The new SA takes over the Child SAs, the queue and the owner's handle: struct ike_sa stays, and what it was becomes an
 * entry of sa->old until both sides have deleted it and no duplicate can come any more. Where both sides do it at
 * once, the peer's one waits as sa->rival until ours is answered; the one with the lowest of the four nonces is
 * deleted by the side that began it. */
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

/* ---- an SA that is not in force ---- */

static struct ike_sa *shell_new(const struct ike_sa *sa, bool from_initiator, uint64_t spi_i, uint64_t spi_r)
{
	struct ike_sa *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->cfg = sa->cfg;
	n->takes_fragments = sa->takes_fragments; /* as agreed in IKE_SA_INIT (RFC 7383, 2.3) */
	n->move.on = sa->move.on;
	n->log = sa->log;
	n->state = IKE_UP;
	n->from_initiator = from_initiator;
	n->spi_i = spi_i;
	n->spi_r = spi_r;
	n->path = sa->path;
	n->has_path = sa->has_path;
	n->out = sa->out;
	n->is_old = true;
	n->limit_us = n->retry_us = n->soft_us = n->hard_us = n->busy_since_us = TIME_NEVER;
	return n;
}

static void keep_old(struct ike_sa *sa, uint64_t now_us, struct ike_sa *old, bool we_delete)
{
	unsigned at = 0;

	for (unsigned i = 0; i < IKE_OLD_MAX; i++) {
		if (!sa->old[i]) {
			at = i;
			break;
		}
		if (sa->old[i]->forget_us < sa->old[at]->forget_us)
			at = i;
	}
	ike_sa_free(sa->old[at]);
	sa->old[at] = old;
	old->forget_us = now_us + IKE_OLD_US;
	if (we_delete) {
		old->want_delete = true;
		ike_tasks_run(old, now_us);
	} else {
		ike_enter(old, IKE_REPLACED, "rekeyed by the peer");
	}
}

void ike_old_free(struct ike_sa *sa)
{
	for (unsigned i = 0; i < IKE_OLD_MAX; i++) {
		ike_sa_free(sa->old[i]);
		sa->old[i] = NULL;
	}
	ike_sa_free(sa->rival);
	sa->rival = NULL;
}

struct ike_sa *ike_old_find(struct ike_sa *sa, const struct ike_header *h)
{
	for (unsigned i = 0; i < IKE_OLD_MAX; i++)
		if (sa->old[i] && ike_spis_match(sa->old[i], h))
			return sa->old[i];
	return NULL;
}

bool ike_sa_has_spi(const struct ike_sa *sa, uint64_t local_spi)
{
	if (ike_sa_local_spi(sa) == local_spi)
		return true;
	for (unsigned i = 0; i < IKE_OLD_MAX; i++)
		if (sa->old[i] && ike_sa_local_spi(sa->old[i]) == local_spi)
			return true;
	return false;
}

uint64_t ike_old_deadline_us(const struct ike_sa *sa)
{
	uint64_t due = TIME_NEVER;

	for (unsigned i = 0; i < IKE_OLD_MAX; i++) {
		const struct ike_sa *o = sa->old[i];
		uint64_t window = o ? ike_window_deadline_us(&o->window) : TIME_NEVER;

		if (!o)
			continue;
		due = o->forget_us < due ? o->forget_us : due;
		due = o->retry_us < due ? o->retry_us : due;
		due = window < due ? window : due;
		due = ike_fragments_deadline_us(o) < due ? ike_fragments_deadline_us(o) : due;
	}
	return due;
}

void ike_old_tick(struct ike_sa *sa, uint64_t now_us)
{
	for (unsigned i = 0; i < IKE_OLD_MAX; i++) {
		struct ike_sa *o = sa->old[i];
		struct span again;

		if (!o)
			continue;
		if (now_us >= o->forget_us) {
			ike_sa_free(o);
			sa->old[i] = NULL;
			continue;
		}
		ike_fragments_tick(o, now_us);
		switch (ike_window_tick(&o->window, now_us, &again)) {
		case IKE_DUE_RESEND:
			sa->stats.n_retransmitted++;
			ike_send(o, &o->path, again);
			break;
		case IKE_DUE_FAILED: ike_close(o, "no answer to the end of retransmissions"); break;
		case IKE_DUE_NOTHING: break;
		}
		ike_tasks_run(o, now_us);
	}
}

/* ---- a change of SAs ---- */

#define SWAP(type, a, b)                                                                                               \
	do {                                                                                                           \
		type swap_was = (a);                                                                                   \
		(a) = (b);                                                                                             \
		(b) = swap_was;                                                                                        \
		secret_wipe(&swap_was, sizeof(swap_was));                                                              \
	} while (0)

/* What was sent over the old SA and not answered leaves again over the new one; what would rekey the old one does not. */
static void move_tasks(struct ike_sa *sa)
{
	struct ike_task **at = &sa->queue, *t = sa->task;

	sa->task = NULL;
	if (t) {
		t->next = sa->queue;
		sa->queue = t;
		sa->n_queued++;
	}
	while ((t = *at) != NULL) {
		if (t->kind != IKE_TASK_REKEY_IKE) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		sa->n_queued--;
		ike_task_free(t);
	}
}

/* `next` is in force from now on, and holds what was until then. */
static void take_over(struct ike_sa *sa, uint64_t now_us, struct ike_sa *next, bool we_initiated)
{
	SWAP(uint64_t, sa->spi_i, next->spi_i);
	SWAP(uint64_t, sa->spi_r, next->spi_r);
	SWAP(bool, sa->from_initiator, next->from_initiator);
	SWAP(struct ike_window, sa->window, next->window);
	SWAP(struct ike_suite, sa->suite, next->suite);
	SWAP(struct ike_keys, sa->keys, next->keys);
	if (next->window.waiting)
		ike_window_answered(&next->window);
	ike_fragments_drop(sa); /* of a message to the old one */
	move_tasks(sa);
	ike_ask_free(sa->ask); /* the peer must not rekey while it waits for us (2.25.2) */
	sa->ask = NULL;
	sa->busy_since_us = sa->retry_us = TIME_NEVER;
	sa->last_in_us = now_us;
	ike_life_begin(sa, now_us, we_initiated);
	log_info(&sa->log, "IKE SA rekeyed by %s: %016llx_i %016llx_r", we_initiated ? "us" : "the peer",
		 (unsigned long long)sa->spi_i, (unsigned long long)sa->spi_r);
}

/* The peer's one, made while our own rekeying was out, is the new one. */
static struct ike_sa *rival_take(struct ike_sa *sa, uint64_t now_us)
{
	struct ike_sa *next = sa->rival;

	sa->rival = NULL;
	take_over(sa, now_us, next, false);
	return next;
}

bool ike_rekey_ike_heir(struct ike_sa *sa, uint64_t now_us)
{
	struct ike_events ev = { NULL, NULL };
	struct ike_sa *old;

	if (!sa->rival || sa->state != IKE_UP)
		return false;
	/* 2.8.2: the peer did not notice our request, which is forgotten. The event is for information only. */
	(void)!ike_events_add(&ev, IKE_EV_REKEYED);
	old = rival_take(sa, now_us);
	keep_old(sa, now_us, old, false);
	ike_close(old, "deleted by the peer");
	ike_events_commit(sa, &ev);
	return true;
}

/* ---- the one who begins ---- */

static bool under_way(const struct ike_sa *sa)
{
	if (sa->task && sa->task->kind == IKE_TASK_REKEY_IKE)
		return true;
	for (const struct ike_task *t = sa->queue; t; t = t->next)
		if (t->kind == IKE_TASK_REKEY_IKE)
			return true;
	return false;
}

enum err ike_sa_rekey(struct ike_sa *sa, uint64_t now_us)
{
	struct ike_task *t;
	enum err e;

	if (sa->state != IKE_UP || sa->want_delete)
		return ERR_WRONG_STATE;
	if (under_way(sa))
		return OK;
	e = ike_task_add(sa, IKE_TASK_REKEY_IKE, &t);
	if (e != OK)
		return e;
	sa->soft_us = TIME_NEVER;
	t->group = sa->suite.group;
	rng_fill(sa->cfg.rng, t->nonce, sizeof(t->nonce));
	while (!t->new_spi)
		t->new_spi = rng_u64(sa->cfg.rng);
	ike_tasks_run(sa, now_us);
	return OK;
}

enum err ike_rekey_ike_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b)
{
	enum err e = t->kex ? OK : kex_new(t->group->kex, sa->cfg.rng, &t->kex);
	uint8_t spi[8];

	if (e != OK)
		return e;
	put_be64(spi, t->new_spi);
	ike_build_offer(b, &sa->cfg.ike, IKE_PROTO_IKE, SPAN_OF(spi));
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(t->nonce));
	ike_build_ke(b, t->group->id, kex_public(t->kex));
	return b->w.bad ? ERR_LIMIT : OK;
}

static uint64_t spi_of(const struct ike_proposal *p)
{
	return p->spi.len == 8 ? be64(p->spi.p) : 0;
}

/* *ret: the new SA of an answer. ERR_DENIED: it is none that we proposed. */
static enum err answer_read(const struct ike_sa *sa, const struct ike_in *in, struct ike_sa **ret,
			    struct ike_low *ret_low)
{
	const struct ike_payload *psa = ike_chain_find(&in->chain, IKE_P_SA),
				 *pke = ike_chain_find(&in->chain, IKE_P_KE),
				 *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	const struct ike_task *t = sa->task;
	uint8_t shared[KEX_SHARED_MAX];
	const struct ike_proposal *p;
	struct ike_offer offer;
	struct ike_suite suite;
	struct ike_sa *next;
	struct ike_ke ke;
	struct span nr;
	enum err e;

	if (!psa || !pke || !pn || ike_offer_parse(psa->body, &offer) != OK ||
	    ike_proposal_chosen(&sa->cfg.ike, &offer, IKE_PROTO_IKE, &suite, &p) != OK || !spi_of(p) ||
	    ike_ke_parse(pke->body, &ke) != OK || ike_nonce_parse(pn->body, &nr) != OK ||
	    !ike_nonce_suits(&suite, nr) || suite.group != t->group || ke.group != t->group->id)
		return ERR_DENIED;
	next = shell_new(sa, true, t->new_spi, spi_of(p));
	if (!next)
		return ERR_NOMEM;
	next->suite = suite;
	e = kex_shared(t->kex, ke.value, shared);
	if (e == OK)
		e = ike_keys_rekey(&sa->keys, &suite, sa->cfg.rng, true, SPAN_OF(t->nonce), nr,
				   span_of(shared, kex_shared_size(t->group->kex)), next->spi_i, next->spi_r,
				   &next->keys);
	secret_wipe(shared, sizeof(shared));
	if (e != OK) {
		ike_sa_free(next);
		return e == ERR_NOMEM ? e : ERR_DENIED;
	}
	ike_low_of(SPAN_OF(t->nonce), nr, ret_low);
	*ret = next;
	return OK;
}

/* 2.8.2: the SA with the lowest nonce goes, by the one who made it; the old one by the one who made the other. */
static void settle(struct ike_sa *sa, uint64_t now_us, struct ike_sa *ours, const struct ike_low *low)
{
	struct ike_sa *rival = sa->rival;

	ike_task_over(sa);
	if (rival && ike_low_cmp(low, &sa->rival_low) < 0) {
		log_info(&sa->log, "both sides rekeyed the IKE SA; ours is redundant");
		keep_old(sa, now_us, rival_take(sa, now_us), false);
		keep_old(sa, now_us, ours, true);
		return;
	}
	sa->rival = NULL;
	take_over(sa, now_us, ours, true);
	keep_old(sa, now_us, ours, true);
	if (rival)
		keep_old(sa, now_us, rival, false);
}

static void refused(struct ike_sa *sa, const struct ike_in *in, uint16_t notify)
{
	struct ike_task *t = sa->task;
	struct ike_notify n;

	log_info(&sa->log, "the peer does not rekey the IKE SA: notify %u", notify);
	if (sa->rival) { /* 2.8.2: it has done it itself, and has not noticed that we were about to */
		ike_task_over(sa);
		keep_old(sa, in->now_us, rival_take(sa, in->now_us), false);
		return;
	}
	if (notify == IKE_N_INVALID_KE_PAYLOAD && ike_notify_find(&in->chain, notify, &n) && n.data.len == 2 &&
	    ike_group_find(&sa->cfg.ike, be16(n.data.p)) && !t->ke_changed) {
		t->group = ike_group_find(&sa->cfg.ike, be16(n.data.p));
		t->ke_changed = true;
		kex_free(t->kex);
		t->kex = NULL;
		ike_task_again(sa, in->now_us, false);
		return;
	}
	if (notify == IKE_N_TEMPORARY_FAILURE) {
		ike_task_again(sa, in->now_us, true);
		return;
	}
	sa->soft_us = in->now_us + SECONDS(60);
	ike_task_over(sa);
}

void ike_rekey_ike_response(struct ike_sa *sa, struct ike_in *in)
{
	uint16_t notify = ike_notify_error(&in->chain);
	struct ike_events ev = { NULL, NULL };
	struct ike_sa *ours = NULL;
	struct ike_low low;
	enum err e;

	/* of what is said beside an error only the error counts */
	if (!ike_chain_find(&in->chain, IKE_P_SA) && !sa->rival) {
		refused(sa, in, notify);
		return;
	}
	if (!ike_events_add(&ev, IKE_EV_REKEYED))
		return;
	if (!ike_chain_find(&in->chain, IKE_P_SA)) {
		refused(sa, in, notify);
		ike_events_commit(sa, &ev);
		return;
	}
	e = answer_read(sa, in, &ours, &low);
	if (e == OK) {
		settle(sa, in->now_us, ours, &low);
		ike_events_commit(sa, &ev);
	} else if (e == ERR_DENIED) {
		/* the peer goes on with keys that we do not have */
		ike_give_up(sa, IKE_FAIL_PROTOCOL, IKE_N_INVALID_SYNTAX);
	}
	ike_events_drop(&ev);
}

/* ---- the one who is asked ---- */

/* 2.25.2: what we are in the middle of; 0: nothing that matters. */
static bool busy(const struct ike_sa *sa, uint64_t now_us)
{
	bool child =
		sa->ask || (sa->task && (sa->task->kind == IKE_TASK_CHILD || sa->task->kind == IKE_TASK_REKEY_CHILD ||
					 sa->task->kind == IKE_TASK_CHILD_DELETE));

	return child || sa->rival || !ike_rekey_rate_ok(sa, now_us);
}

struct wish {
	struct ike_suite suite;
	struct ike_ke ke;
	struct span ni;
	uint64_t spi_i;
	uint8_t number;
};

/* OK with *ret_why: that is the answer. */
static enum err request_read(const struct ike_sa *sa, const struct ike_in *in, struct wish *ret, uint16_t *ret_why)
{
	const struct ike_payload *psa = ike_chain_find(&in->chain, IKE_P_SA),
				 *pke = ike_chain_find(&in->chain, IKE_P_KE),
				 *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	const struct ike_proposal *p;
	struct ike_offer offer;
	enum err e;

	*ret_why = 0;
	if (!psa || !pke || !pn)
		return ERR_MALFORMED;
	e = ike_offer_parse(psa->body, &offer);
	if (e == OK)
		e = ike_ke_parse(pke->body, &ret->ke);
	if (e == OK)
		e = ike_nonce_parse(pn->body, &ret->ni);
	if (e != OK)
		return e;
	if (ike_proposal_choose(&sa->cfg.ike, &offer, IKE_PROTO_IKE, ret->ke.group, &ret->suite, &p) != OK) {
		*ret_why = IKE_N_NO_PROPOSAL_CHOSEN;
		return OK;
	}
	if (!ike_nonce_suits(&ret->suite, ret->ni))
		return ERR_MALFORMED;
	ret->spi_i = spi_of(p);
	ret->number = p->number;
	if (!ret->spi_i)
		return ERR_MALFORMED;
	if (ret->ke.group != ret->suite.group->id)
		*ret_why = IKE_N_INVALID_KE_PAYLOAD;
	return OK;
}

static enum err answer_send(struct ike_sa *sa, const struct ike_in *in, const struct wish *w, struct ike_sa *next,
			    struct span nr)
{
	struct ike_header h = ike_header_of(sa, IKE_CREATE_CHILD_SA, true, in->h.message_id);
	uint8_t mem[2048], shared[KEX_SHARED_MAX], hash[32], spi[8];
	struct kex *kex = NULL;
	struct ike_build b;
	enum err e = kex_new(w->suite.group->kex, sa->cfg.rng, &kex);

	next->suite = w->suite;
	if (e == OK)
		e = kex_shared(kex, w->ke.value, shared);
	if (e == OK)
		e = ike_keys_rekey(&sa->keys, &w->suite, sa->cfg.rng, false, w->ni, nr,
				   span_of(shared, kex_shared_size(w->suite.group->kex)), next->spi_i, next->spi_r,
				   &next->keys);
	if (e == OK)
		e = ike_in_hash(in, hash);
	if (e == OK) {
		put_be64(spi, next->spi_r);
		ike_build_start(&b, mem, sizeof(mem), &h);
		ike_build_sk(&b);
		ike_build_choice(&b, IKE_PROTO_IKE, w->number, SPAN_OF(spi), &w->suite);
		ike_build_bytes(&b, IKE_P_NONCE, nr);
		ike_build_ke(&b, w->suite.group->id, kex_public(kex));
		e = ike_respond(sa, &b, hash, in->path);
	}
	kex_free(kex);
	secret_wipe(shared, sizeof(shared));
	return e;
}

static enum err accept(struct ike_sa *sa, const struct ike_in *in, const struct wish *w)
{
	struct ike_events ev = { NULL, NULL };
	bool ours_out = sa->task && sa->task->kind == IKE_TASK_REKEY_IKE;
	uint8_t nonce[IKE_NONCE_OURS];
	struct ike_sa *next;
	uint64_t spi_r = 0;
	enum err e;

	while (!spi_r)
		spi_r = rng_u64(sa->cfg.rng);
	rng_fill(sa->cfg.rng, nonce, sizeof(nonce));
	next = shell_new(sa, false, w->spi_i, spi_r);
	e = next && (ours_out || ike_events_add(&ev, IKE_EV_REKEYED)) ? OK : ERR_NOMEM;
	if (e == OK)
		e = answer_send(sa, in, w, next, SPAN_OF(nonce));
	if (e != OK) {
		ike_sa_free(next);
	} else if (ours_out) { /* 2.8.2: which of both stays is known when ours is answered */
		ike_rekey_rate_pay(sa, in->now_us);
		sa->rival = next;
		ike_low_of(w->ni, SPAN_OF(nonce), &sa->rival_low);
	} else {
		ike_rekey_rate_pay(sa, in->now_us);
		take_over(sa, in->now_us, next, false);
		keep_old(sa, in->now_us, next, false);
		ike_events_commit(sa, &ev);
	}
	ike_events_drop(&ev);
	return e;
}

void ike_rekey_ike_request(struct ike_sa *sa, struct ike_in *in)
{
	struct wish w;
	uint16_t why;
	enum err e;

	if (busy(sa, in->now_us)) {
		(void)!ike_respond_notify(sa, in, IKE_N_TEMPORARY_FAILURE, SPAN_NONE);
		return;
	}
	e = request_read(sa, in, &w, &why);
	if (e == OK && why == IKE_N_INVALID_KE_PAYLOAD) {
		(void)!ike_respond_group(sa, in, w.suite.group);
		return;
	}
	if (e == OK && why) {
		(void)!ike_respond_notify(sa, in, why, SPAN_NONE);
		return;
	}
	if (e == OK)
		e = accept(sa, in, &w);
	/* also a public value that is none (RFC 8031, 5) */
	if ((e == ERR_MALFORMED || e == ERR_LIMIT) && ike_respond_notify(sa, in, IKE_N_INVALID_SYNTAX, SPAN_NONE) == OK)
		ike_fail_rules(sa, IKE_N_INVALID_SYNTAX);
}
