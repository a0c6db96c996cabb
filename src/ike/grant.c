/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The owner's decision about what the peer asked (docs/protocol.md). No exchange is held open for a person: a
 * decision that takes time is WAITING now and an INFORMATIONAL later. */
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

static void build_verdict(const struct ike_ask *ask, const struct ike_decision *d, struct ike_build *b)
{
	if (ask->no_request) /* a stock peer: the error notify says enough */
		return;
	if (d->verdict == IKE_WAITING)
		ike_build_wait(b, ask->request, d->wait_s);
	else if (d->verdict != IKE_GRANTED && d->notify)
		return; /* so does ours */
	else if (d->verdict != IKE_GRANTED)
		ike_build_refuse(b, ask->request, d->refuse_reason);
	else if (ask->is_auth)
		for (unsigned i = 0; i < d->n_grants; i++)
			ike_build_grant(b, &d->grants[i], false);
}

static enum err build_answer(struct ike_sa *sa, const struct ike_ask *ask, struct ike_build *b, struct ike_events *ev,
			     bool *ret_made)
{
	const struct ike_decision *d = &ask->decision;
	uint8_t nonce[IKE_NONCE_OURS];
	enum err e = OK;

	*ret_made = false;
	if (ask->is_auth) {
		struct ike_event *up;

		if (d->verdict == IKE_REJECTED) {
			ike_build_notify(b, IKE_N_AUTHENTICATION_FAILED, SPAN_NONE);
			return OK;
		}
		up = ike_events_add(ev, IKE_EV_AUTHENTICATED);
		if (!up)
			return ERR_NOMEM;
		memcpy(up->peer_key, ask->peer_key, SPKI_HASH);
		up->initial_contact = ask->initial_contact;
		up->path = ask->path;
		e = ike_auth_own(sa, &sa->keys, sa->setup, b);
		if (e == OK)
			e = ike_child_answer(sa, b, ask, d, span_of(sa->setup->nr, sa->setup->nr_len), ev, ret_made);
	} else {
		rng_fill(sa->cfg.rng, nonce, sizeof(nonce));
		e = ike_child_answer(sa, b, ask, d, SPAN_OF(nonce), ev, ret_made);
	}
	if (e == OK)
		build_verdict(ask, d, b);
	return e;
}

/* The answer is out: the SA follows. */
static void commit(struct ike_sa *sa, uint64_t now_us, struct ike_events *ev, bool made)
{
	struct ike_ask *ask = sa->ask;

	sa->ask = NULL;
	if (ask->is_auth && ask->decision.verdict == IKE_REJECTED) {
		ike_ask_free(ask);
		ike_close(sa, "rejected by the owner");
		return;
	}
	if (ask->is_auth) {
		ike_setup_free(sa->setup);
		sa->setup = NULL;
		sa->limit_us = TIME_NEVER;
		sa->last_in_us = now_us;
		ike_enter(sa, IKE_UP, "the owner decided");
		ike_life_begin(sa, now_us, false);
	}
	if (made)
		ike_child_commit(sa, now_us, &ev->tail->e.child)->group = ask->suite.group;
	ike_ask_free(ask);
	ike_events_commit(sa, ev);
}

void ike_decision_run(struct ike_sa *sa, uint64_t now_us)
{
	const struct ike_ask *ask = sa->ask;
	struct ike_header h =
		ike_header_of(sa, ask->is_auth ? IKE_AUTH : IKE_CREATE_CHILD_SA, true, sa->window.next_in);
	uint8_t mem[IKE_MSG_MAX];
	struct ike_events ev = { NULL, NULL };
	struct ike_build b;
	bool made;
	enum err e;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	e = build_answer(sa, ask, &b, &ev, &made);
	if (e == OK)
		e = ike_respond(sa, &b, ask->request_hash, &ask->path);
	if (e == OK)
		commit(sa, now_us, &ev, made);
	else if (e == ERR_NOMEM)
		sa->retry_us = now_us + IKE_RETRY_US;
	else
		ike_fail(sa, IKE_FAIL_INTERNAL, 0);
	ike_events_drop(&ev);
}

void ike_sa_decide(struct ike_sa *sa, uint64_t now_us, const struct ike_decision *d)
{
	if (!sa->ask || sa->ask->decided || d->n_grants > IKE_GRANTS_MAX)
		return;
	/* kept until it could be sent: there is no second call */
	sa->ask->decision = *d;
	sa->ask->decided = true;
	ike_tasks_run(sa, now_us);
}

enum err ike_sa_grant_later(struct ike_sa *sa, uint64_t now_us, const struct ike_decision *d)
{
	struct ike_decision *copy;
	struct ike_task *t;
	enum err e;

	if (sa->state != IKE_UP || sa->want_delete || sa->cfg.bare)
		return ERR_WRONG_STATE;
	if ((d->verdict != IKE_GRANTED && d->verdict != IKE_REFUSED) || d->n_grants > IKE_GRANTS_MAX)
		return ERR_DENIED;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return ERR_NOMEM;
	e = ike_task_add(sa, IKE_TASK_DECISION, &t);
	if (e != OK) {
		free(copy);
		return e;
	}
	*copy = *d;
	t->decision = copy;
	ike_tasks_run(sa, now_us);
	return OK;
}
