/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* INFORMATIONAL: Delete, liveness, later grants (RFC 7296, 1.4, 2.4, 2.25; docs/protocol.md), and the queue of
 * our own requests: the window lets out one at a time. */
#include "ike/sa_impl.h"

#include <stdlib.h>

#include "crypto/secret.h"

/* ---- queue ---- */

void ike_task_free(struct ike_task *t)
{
	if (!t)
		return;
	free(t->decision);
	kex_free(t->kex);
	secret_wipe(t, sizeof(*t));
	free(t);
}

/* *ret is in the queue already; the caller fills in the rest. */
enum err ike_task_add(struct ike_sa *sa, enum ike_task_kind kind, struct ike_task **ret)
{
	struct ike_task **at = &sa->queue, *t;

	if (sa->n_queued >= IKE_TASKS_MAX)
		return ERR_LIMIT;
	t = calloc(1, sizeof(*t));
	if (!t)
		return ERR_NOMEM;
	t->kind = kind;
	while (*at)
		at = &(*at)->next;
	*at = t;
	sa->n_queued++;
	*ret = t;
	return OK;
}

void ike_tasks_drop(struct ike_sa *sa)
{
	while (sa->queue) {
		struct ike_task *t = sa->queue;

		sa->queue = t->next;
		ike_task_free(t);
	}
	sa->n_queued = 0;
}

uint8_t ike_task_exchange(const struct ike_sa *sa)
{
	if (sa->state == IKE_CLOSING)
		return IKE_INFORMATIONAL;
	if (!sa->task)
		return 0;
	return ike_task_creates(sa->task) ? IKE_CREATE_CHILD_SA : IKE_INFORMATIONAL;
}

bool ike_task_creates(const struct ike_task *t)
{
	return t->kind == IKE_TASK_CHILD || t->kind == IKE_TASK_REKEY_CHILD || t->kind == IKE_TASK_REKEY_IKE;
}

void ike_task_over(struct ike_sa *sa)
{
	if (ike_task_creates(sa->task))
		sa->busy_since_us = TIME_NEVER;
	ike_window_answered(&sa->window);
	ike_task_free(sa->task);
	sa->task = NULL;
}

void ike_task_again(struct ike_sa *sa, uint64_t now_us, bool waits)
{
	struct ike_task *t = sa->task;

	if (!waits)
		sa->busy_since_us = TIME_NEVER;
	else if (sa->busy_since_us == TIME_NEVER)
		sa->busy_since_us = now_us;
	ike_window_answered(&sa->window);
	sa->task = NULL;
	t->not_before_us = waits ? now_us + IKE_BUSY_US + MS((uint64_t)rng_below(sa->cfg.rng, IKE_BUSY_US / 1000)) : 0;
	rng_fill(sa->cfg.rng, t->nonce, sizeof(t->nonce));
	t->next = sa->queue;
	sa->queue = t;
	sa->n_queued++;
}

static void build_decision(const struct ike_decision *d, struct ike_build *b)
{
	if (d->verdict == IKE_GRANTED)
		for (unsigned i = 0; i < d->n_grants; i++)
			ike_build_grant(b, &d->grants[i], false);
	else
		ike_build_refuse(b, d->request, d->refuse_reason);
}

/* The request for t, or the Delete of the SA (t NULL), sealed. */
static enum err build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b, struct span *ret)
{
	struct ike_header h = ike_header_of(sa, t && ike_task_creates(t) ? IKE_CREATE_CHILD_SA : IKE_INFORMATIONAL,
					    false, sa->window.next_out);
	enum err e = OK;

	ike_build_start(b, b->w.p, b->w.cap, &h);
	ike_build_sk(b);
	if (!t)
		ike_build_delete_ike(b);
	else if (t->kind == IKE_TASK_CHILD)
		e = ike_child_build(sa, t, b);
	else if (t->kind == IKE_TASK_REKEY_CHILD)
		e = ike_rekey_child_build(sa, t, b);
	else if (t->kind == IKE_TASK_REKEY_IKE)
		e = ike_rekey_ike_build(sa, t, b);
	else if (t->kind == IKE_TASK_CHILD_DELETE)
		ike_build_delete_esp(b, t->spi_in);
	else if (t->kind == IKE_TASK_DECISION)
		build_decision(t->decision, b);
	else if (t->kind != IKE_TASK_PROBE || ike_mobike_asks_nat(sa))
		e = ike_mobike_build(sa, t, b);
	return e == OK ? ike_seal(sa, &sa->keys, b, ret) : e;
}

/* The first that is due; those that nobody wants any more go. */
static struct ike_task **next_task(struct ike_sa *sa, uint64_t now_us)
{
	struct ike_task **at = &sa->queue;

	while (*at) {
		struct ike_task *t = *at;

		if (t->kind == IKE_TASK_REKEY_CHILD && !ike_rekey_child_wanted(sa, t)) {
			*at = t->next;
			sa->n_queued--;
			sa->busy_since_us = TIME_NEVER;
			ike_task_free(t);
		} else if (!ike_mobike_wanted(sa, t)) {
			*at = t->next;
			sa->n_queued--;
			ike_task_free(t);
		} else if (t->not_before_us > now_us) {
			at = &t->next;
		} else {
			return at;
		}
	}
	return NULL;
}

uint64_t ike_tasks_deadline_us(const struct ike_sa *sa)
{
	uint64_t due = TIME_NEVER;

	if (sa->state != IKE_UP || sa->window.waiting || sa->retry_us != TIME_NEVER)
		return TIME_NEVER;
	for (const struct ike_task *t = sa->queue; t; t = t->next)
		if (t->not_before_us && t->not_before_us < due)
			due = t->not_before_us;
	return due;
}

static void run(struct ike_sa *sa, uint64_t now_us)
{
	struct ike_task **at = sa->want_delete ? NULL : next_task(sa, now_us), *t = at ? *at : NULL;
	uint8_t mem[IKE_MSG_MAX];
	struct ike_build b = { .w = wr_of(mem, sizeof(mem)) };
	struct span msg;
	enum err e;

	if (!t && !sa->want_delete)
		return;
	e = build(sa, t, &b, &msg);
	if (e == OK)
		e = ike_window_send(&sa->window, now_us, msg);
	if (e == ERR_LIMIT) { /* no message IDs or IVs left: this SA has served */
		ike_fail(sa, IKE_FAIL_INTERNAL, 0);
		return;
	}
	if (e != OK) {
		sa->retry_us = now_us + IKE_RETRY_US;
		return;
	}
	if (t) {
		*at = t->next;
		sa->n_queued--;
		t->next = NULL;
		sa->task = t;
	} else {
		ike_enter(sa, IKE_CLOSING, "Delete sent");
	}
	ike_send(sa, ike_mobike_sent(sa, t), msg);
}

void ike_tasks_run(struct ike_sa *sa, uint64_t now_us)
{
	if (sa->retry_us != TIME_NEVER && now_us < sa->retry_us)
		return;
	sa->retry_us = TIME_NEVER;
	if (sa->ask && sa->ask->decided)
		ike_decision_run(sa, now_us);
	if (!ike_mobike_queue(sa))
		sa->retry_us = now_us + IKE_RETRY_US;
	if (sa->state == IKE_UP && (sa->want_delete || sa->queue) && !sa->window.waiting)
		run(sa, now_us);
}

void ike_delete_queue(struct ike_child_sa *c, struct ike_task *t)
{
	t->spi_in = c->spi_in;
	c->deleting = true;
}

static bool same_grant(const struct ike_child_sa *c, const struct ike_task *t)
{
	return c->request == t->request && c->grant_id == t->grant_id;
}

enum err ike_sa_child_delete(struct ike_sa *sa, uint64_t now_us, uint32_t spi_in)
{
	int i = spi_in ? ike_child_find(sa, spi_in, 0) : -1;
	struct ike_task *t;
	enum err e;

	if (sa->state != IKE_UP || sa->want_delete)
		return ERR_WRONG_STATE;
	if (i < 0)
		return ERR_NOTFOUND;
	if (sa->children[i].deleting)
		return OK;
	e = ike_task_add(sa, IKE_TASK_CHILD_DELETE, &t);
	if (e != OK)
		return e;
	ike_delete_queue(&sa->children[i], t);
	if (sa->task && sa->task->kind == IKE_TASK_REKEY_CHILD && same_grant(&sa->children[i], sa->task))
		sa->task->unwanted = true; /* what it makes is deleted as well */
	for (unsigned k = 0; k < sa->n_children; k++) {
		struct ike_child_sa *c = &sa->children[k];

		if (c->deleting || c->request != sa->children[i].request || c->grant_id != sa->children[i].grant_id)
			continue;
		if (ike_task_add(sa, IKE_TASK_CHILD_DELETE, &t) == OK)
			ike_delete_queue(c, t);
	}
	ike_tasks_run(sa, now_us);
	return OK;
}

/* ---- requests of the peer ---- */

enum err ike_gone_add(struct ike_events *ev, const struct ike_child_sa *c, bool replaced)
{
	struct ike_event *e;

	if (c->silent)
		return OK;
	e = ike_events_add(ev, IKE_EV_CHILD_GONE);
	if (!e)
		return ERR_NOMEM;
	e->replaced = replaced;
	e->child.spi_in = c->spi_in;
	e->child.spi_out = c->spi_out;
	e->request = e->child.request = c->request;
	e->grant_id = e->child.grant_id = c->grant_id;
	return OK;
}

/* What a request asks for, before anything is done. */
struct wish {
	bool delete_ike;
	bool gone[IKE_CHILDREN_ALL];
};

static void deletes_read(const struct ike_sa *sa, const struct ike_chain *c, struct wish *ret)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct ike_delete d;

		if (c->p[i].type != IKE_P_DELETE || ike_delete_parse(c->p[i].body, &d) != OK)
			continue;
		if (d.protocol == IKE_PROTO_IKE)
			ret->delete_ike = true;
		if (d.protocol != IKE_PROTO_ESP)
			continue;
		for (unsigned j = 0; j < d.n; j++) {
			/* 1.4.1: the SPIs are those that the sender receives with */
			int at = d.spis[j] ? ike_child_find(sa, 0, d.spis[j]) : -1;

			if (at >= 0)
				ret->gone[at] = true;
		}
	}
}

/* 1.4.1: the answer deletes the other direction, unless our own Delete of it crossed this one. */
static enum err answer_build(struct ike_sa *sa, const struct wish *w, struct ike_build *b, struct ike_events *ev)
{
	for (unsigned i = 0; i < sa->n_children; i++) {
		enum err e;

		if (!w->gone[i])
			continue;
		if (!sa->children[i].deleting)
			ike_build_delete_esp(b, sa->children[i].spi_in);
		e = ike_gone_add(ev, &sa->children[i],
				 sa->children[i].replaced || ike_rekey_is_rival(sa, &sa->children[i]));
		if (e != OK)
			return e;
	}
	return OK;
}

void ike_info_request(struct ike_sa *sa, struct ike_in *in)
{
	struct ike_header h = ike_header_of(sa, IKE_INFORMATIONAL, true, in->h.message_id);
	uint8_t mem[1024], hash[32]; /* Deletes of all, NAT detection and the longest COOKIE2 fit */
	struct ike_events ev = { NULL, NULL };
	struct wish wish = { .delete_ike = false };
	struct ike_outcome o;
	struct ike_build b;
	enum err e = ike_in_hash(in, hash);

	deletes_read(sa, &in->chain, &wish);
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	if (e == OK && !wish.delete_ike)
		e = answer_build(sa, &wish, &b, &ev);
	if (e == OK && !wish.delete_ike)
		e = ike_grants_take(sa, &in->chain, &ev, &o);
	if (e == OK && !wish.delete_ike)
		e = ike_mobike_answer(sa, in, &b, &ev);
	if (e == OK)
		e = ike_respond(sa, &b, hash, in->path);
	if (e == OK) {
		for (unsigned i = sa->n_children; i-- > 0;)
			if (wish.gone[i])
				ike_child_remove(sa, i);
		ike_events_commit(sa, &ev);
		if (!wish.delete_ike)
			ike_mobike_commit(sa, in);
		if (wish.delete_ike && ike_notify_error(&in->chain) == IKE_N_AUTHENTICATION_FAILED && !sa->want_delete)
			ike_fail(sa, IKE_FAIL_AUTH, IKE_N_AUTHENTICATION_FAILED);
		else if (wish.delete_ike && !ike_rekey_ike_heir(sa, in->now_us))
			ike_close(sa, "deleted by the peer");
	}
	ike_events_drop(&ev);
}

/* ---- answers to ours ---- */

void ike_info_response(struct ike_sa *sa, struct ike_in *in)
{
	struct ike_events ev = { NULL, NULL };
	int i = -1;

	if (sa->state == IKE_CLOSING) {
		ike_close(sa, "deleted by us");
		return;
	}
	/* 2.21.3: the peer has deleted the SA with this answer */
	if (ike_notify_error(&in->chain) == IKE_N_INVALID_SYNTAX) {
		ike_fail(sa, IKE_FAIL_PROTOCOL, IKE_N_INVALID_SYNTAX);
		return;
	}
	if (sa->task->kind == IKE_TASK_CHILD_DELETE) {
		i = ike_child_find(sa, sa->task->spi_in, 0);
		if (i >= 0 && ike_gone_add(&ev, &sa->children[i], sa->children[i].replaced) != OK)
			return;
	}
	if (ike_mobike_response(sa, in, &ev) != OK) {
		ike_events_drop(&ev);
		return;
	}
	if (i >= 0)
		ike_child_remove(sa, (unsigned)i);
	ike_task_over(sa);
	ike_events_commit(sa, &ev);
}
