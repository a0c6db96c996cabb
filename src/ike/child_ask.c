/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Child SAs that we ask for (child.c: those that we are asked for). */
#include "ike/config_payload.h"
#include "ike/sa_impl.h"

#include <string.h>

#include "crypto/secret.h"

enum err ike_child_take(const struct ike_sa *sa, const struct ike_keys *keys, const struct ike_chain *chain,
			const struct ike_child_offer *o, struct ike_event *ret)
{
	const struct ike_payload *psa = ike_chain_find(chain, IKE_P_SA), *pi = ike_chain_find(chain, IKE_P_TSI),
				 *pr = ike_chain_find(chain, IKE_P_TSR), *pke = ike_chain_find(chain, IKE_P_KE);
	uint8_t mem[KEX_SHARED_MAX + IKE_NONCE_MAX];
	struct ike_ke ke = { .group = 0 };
	struct span seed;
	struct ike_child c = {
		.spi_in = o->spi_in, .we_initiated = true, .request = o->request, .grant_id = o->grant_id
	};
	const struct ike_proposal *p;
	struct ike_suite suite;
	struct ike_offer offer;
	enum err e;

	if (!psa || !pi || !pr || sa->n_children >= IKE_CHILDREN_ALL)
		return ERR_DENIED;
	if (!sa->room)
		return ERR_NOMEM;
	if (!o->in_auth && (o->nr.len > IKE_NONCE_MAX || !ike_nonce_suits(&sa->suite, o->nr)))
		return ERR_DENIED;
	if (ike_offer_parse(psa->body, &offer) != OK ||
	    ike_proposal_chosen_ke(&sa->cfg.esp, o->in_auth ? NULL : ike_child_groups(sa), &offer,
				   o->group ? o->group->id : 0, &suite, &p) != OK ||
	    suite.group != o->group || ike_ts_parse(pi->body, &c.ts_local) != OK ||
	    ike_ts_parse(pr->body, &c.ts_peer) != OK)
		return ERR_DENIED;
	c.spi_out = be32(p->spi.p);
	/* 2.9: the answer may narrow what we proposed, and nothing else */
	if (c.spi_out < IKE_ESP_SPI_MIN || !c.ts_local.n || !c.ts_peer.n || !ike_ts_within(&c.ts_local, o->tsi) ||
	    !ike_ts_within(&c.ts_peer, o->tsr))
		return ERR_DENIED;
	c.alg = suite.encr->cipher;
	c.esn = suite.esn;
	if (o->group && (!pke || ike_ke_parse(pke->body, &ke) != OK || ke.group != o->group->id))
		return ERR_DENIED;
	e = ike_keymat_seed(o->kex, o->group, ke.value, o->ni, mem, &seed);
	if (e == ERR_MALFORMED)
		return ERR_DENIED;
	if (e == OK)
		e = ike_keymat_child(keys, c.alg, seed, o->nr, c.key_out, c.key_in, &c.key_len);
	secret_wipe(mem, sizeof(mem));
	if (e == OK)
		*ret = (struct ike_event){
			.kind = IKE_EV_CHILD_UP, .request = c.request, .grant_id = c.grant_id, .child = c
		};
	if (e == OK && o->asked_cp)
		(void)ike_cp_find(chain, IKE_CFG_REPLY, &ret->cp);
	secret_wipe(&c, sizeof(c));
	return e;
}

enum err ike_sa_child_create(struct ike_sa *sa, uint64_t now_us, uint32_t request, uint32_t grant_id,
			     const struct ike_ts_list *tsi, const struct ike_ts_list *tsr)
{
	return ike_sa_child_join(sa, now_us, request, grant_id, tsi, tsr, 0);
}

enum err ike_sa_child_join(struct ike_sa *sa, uint64_t now_us, uint32_t request, uint32_t grant_id,
			   const struct ike_ts_list *tsi, const struct ike_ts_list *tsr, uint32_t cp_asks)
{
	struct ike_task *t;
	uint32_t spi;
	enum err e;

	if (sa->state != IKE_UP || sa->want_delete || !tsi->n || !tsr->n)
		return ERR_WRONG_STATE;
	if (ike_child_reserved(sa) >= IKE_CHILDREN_MAX)
		return ERR_LIMIT;
	e = ike_spi_choose(sa, &spi);
	if (e == OK)
		e = ike_task_add(sa, IKE_TASK_CHILD, &t);
	if (e != OK)
		return e;
	t->spi_in = spi;
	t->request = request;
	t->grant_id = grant_id;
	t->tsi = *tsi;
	t->tsr = *tsr;
	t->cp_asks = cp_asks;
	t->group = ike_group_first(&sa->cfg.esp);
	rng_fill(sa->cfg.rng, t->nonce, sizeof(t->nonce));
	ike_tasks_run(sa, now_us);
	return OK;
}

enum err ike_child_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b)
{
	struct ike_grant g = { .request = t->request, .id = t->grant_id };
	uint8_t spi[4];

	struct ike_cp cp = { .asks = t->cp_asks };

	put_be32(spi, t->spi_in);
	if (t->group && !t->kex) {
		enum err e = kex_new(t->group->kex, sa->cfg.rng, &t->kex);

		if (e != OK)
			return e;
	}
	if (cp.asks)
		ike_build_cp(b, IKE_CFG_REQUEST, &cp);
	ike_build_offer_ke(b, &sa->cfg.esp, SPAN_OF(spi), t->group);
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(t->nonce));
	if (t->group)
		ike_build_ke(b, t->group->id, kex_public(t->kex));
	ike_build_ts(b, IKE_P_TSI, &t->tsi);
	ike_build_ts(b, IKE_P_TSR, &t->tsr);
	if (!sa->cfg.bare)
		ike_build_grant(b, &g, true);
	return b->w.bad ? ERR_LIMIT : OK;
}

/* No Child SA: WAIT or REFUSE of a tieline peer, or the error that a stock peer gives. */
static enum err refused(const struct ike_sa *sa, const struct ike_in *in, uint16_t notify, struct ike_events *ev)
{
	const struct ike_task *t = sa->task;
	struct ike_outcome o;
	struct ike_event *e;
	enum err err = ike_grants_take(sa, &in->chain, ev, &o);

	if (err != OK)
		return err;
	if (!o.waits && !o.refused) {
		e = ike_events_add(ev, IKE_EV_REFUSED);
		if (!e)
			return ERR_NOMEM;
		e->request = t->request;
		e->notify = notify;
	}
	for (struct ike_event_node *n = ev->head; n; n = n->next)
		n->e.grant_id = t->grant_id;
	return OK;
}

/* The one that the new one was to stand for (2.25: CHILD_SA_NOT_FOUND) goes, with or without a successor. */
static enum err old_gone(const struct ike_sa *sa, bool replaced, struct ike_events *ev)
{
	int i = sa->task->old_spi ? ike_child_find(sa, sa->task->old_spi, 0) : -1;

	return i < 0 ? OK : ike_gone_add(ev, &sa->children[i], replaced);
}

/* What there is to tell of the answer, before anything is changed. */
static enum err answer_events(struct ike_sa *sa, const struct ike_in *in, bool made, struct ike_event *child,
			      struct ike_events *ev)
{
	const struct ike_payload *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	const struct ike_task *t = sa->task;
	struct ike_child_offer offer = {
		.spi_in = t->spi_in,
		.request = t->request,
		.grant_id = t->grant_id,
		.tsi = &t->tsi,
		.tsr = &t->tsr,
		.asked_cp = t->cp_asks != 0,
		.ni = SPAN_OF(t->nonce),
		.nr = pn ? pn->body : SPAN_NONE,
		.group = t->group,
		.kex = t->kex,
	};
	uint16_t notify = ike_notify_error(&in->chain);
	enum err e = ike_child_room(sa);

	if (e == OK)
		e = made && pn ? ike_child_take(sa, &sa->keys, &in->chain, &offer, child) : ERR_DENIED;
	child->child.replaces = t->old_spi;
	if (e == OK) {
		struct ike_event *up = ike_events_add(ev, IKE_EV_CHILD_UP);

		if (!up)
			return ERR_NOMEM;
		*up = *child;
	} else if (e == ERR_DENIED) {
		e = refused(sa, in, notify ? notify : IKE_N_INVALID_SYNTAX, ev);
	}
	return e == OK ? old_gone(sa, child->kind == IKE_EV_CHILD_UP, ev) : e;
}

static void answer_commit(struct ike_sa *sa, uint64_t now_us, const struct ike_event *child)
{
	const struct ike_task *t = sa->task;
	const struct ike_group *group = t->group;
	int old = t->old_spi ? ike_child_find(sa, t->old_spi, 0) : -1;

	if (old >= 0)
		ike_child_remove(sa, (unsigned)old);
	ike_task_over(sa);
	if (child->kind == IKE_EV_CHILD_UP)
		ike_child_commit(sa, now_us, &child->child)->group = group;
}

void ike_child_response(struct ike_sa *sa, struct ike_in *in)
{
	const struct ike_task *t = sa->task;
	struct ike_event child = { .kind = IKE_EV_FAILED };
	struct ike_events ev = { NULL, NULL };
	uint16_t notify = ike_notify_error(&in->chain);
	bool made = ike_chain_find(&in->chain, IKE_P_SA);
	struct ike_task *stray;
	enum err e;

	if (t->kind != IKE_TASK_CHILD) {
		t->kind == IKE_TASK_REKEY_IKE ? ike_rekey_ike_response(sa, in) : ike_rekey_child_response(sa, in);
		return;
	}
	if (notify == IKE_N_TEMPORARY_FAILURE) {
		ike_task_again(sa, in->now_us, true);
		return;
	}
	if (!made && ike_task_another_ke(sa, in, notify)) {
		ike_task_again(sa, in->now_us, false);
		return;
	}
	e = answer_events(sa, in, made, &child, &ev);
	/* the peer holds a Child SA that we cannot use */
	if (e == OK && made && child.kind != IKE_EV_CHILD_UP) {
		e = ike_task_add(sa, IKE_TASK_CHILD_DELETE, &stray);
		if (e == OK)
			stray->spi_in = t->spi_in;
	}
	if (e == OK) {
		answer_commit(sa, in->now_us, &child);
		ike_events_commit(sa, &ev);
	}
	ike_events_drop(&ev);
	ike_event_done(&child);
}
