/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* New keys for a Child SA (RFC 7296, 1.3.3, 2.8, 2.8.1, 2.9.2, 2.25.1).
 *
 *   HDR, SK {N(REKEY_SA), SA, Ni, [KE,] TSi, TSr, [N(TIELINE_GRANT)]} -->
 *   <-- HDR, SK {SA, Nr, [KE,] TSi, TSr}
 *   HDR, SK {D(old)} -->   <-- HDR, SK {D(old)}
 *
 * The owner is not asked: the new one has the grant and the selectors of the old one, or fewer. Both receive until
 * the Delete. Where both sides do it at once there are two new ones, and the one with the lowest of the four nonces
 * is deleted by the side that began it. */
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

/* ---- small things ---- */

static void low_take(struct span nonce, struct ike_low *l)
{
	size_t n = nonce.len < l->len ? nonce.len : l->len;
	int c = l->len ? memcmp(nonce.p, l->nonce, n) : -1;

	/* 2.8.1: octet by octet; where one ends it is the lower one */
	if (c > 0 || (c == 0 && nonce.len >= l->len) || nonce.len > sizeof(l->nonce))
		return;
	memcpy(l->nonce, nonce.p, nonce.len);
	l->len = nonce.len;
}

void ike_low_of(struct span ni, struct span nr, struct ike_low *ret)
{
	ret->len = 0;
	low_take(ni, ret);
	low_take(nr, ret);
}

int ike_low_cmp(const struct ike_low *a, const struct ike_low *b)
{
	size_t n = a->len < b->len ? a->len : b->len;
	int c = memcmp(a->nonce, b->nonce, n);

	if (c)
		return c;
	return a->len < b->len ? -1 : a->len > b->len;
}

bool ike_rekey_rate_ok(const struct ike_sa *sa, uint64_t now_us)
{
	return sa->rekeys_due_us <= now_us + (IKE_REKEY_BURST - 1) * IKE_REKEY_US;
}

void ike_rekey_rate_pay(struct ike_sa *sa, uint64_t now_us)
{
	sa->rekeys_due_us = (sa->rekeys_due_us > now_us ? sa->rekeys_due_us : now_us) + IKE_REKEY_US;
}

bool ike_rekey_child_wanted(const struct ike_sa *sa, const struct ike_task *t)
{
	int i = ike_child_find(sa, t->old_spi, 0);

	return i >= 0 && !sa->children[i].deleting && !sa->children[i].replaced;
}

bool ike_rekey_is_rival(const struct ike_sa *sa, const struct ike_child_sa *c)
{
	return sa->task && sa->task->kind == IKE_TASK_REKEY_CHILD && sa->task->rival_spi == c->spi_in;
}

/* ---- the one who begins ---- */

static bool under_way(const struct ike_sa *sa, uint32_t spi_in)
{
	if (sa->task && sa->task->old_spi == spi_in)
		return true;
	for (const struct ike_task *t = sa->queue; t; t = t->next)
		if (t->old_spi == spi_in)
			return true;
	return false;
}

enum err ike_sa_child_rekey(struct ike_sa *sa, uint64_t now_us, uint32_t spi_in)
{
	int i = spi_in ? ike_child_find(sa, spi_in, 0) : -1;
	struct ike_child_sa *c;
	struct ike_task *t;
	enum err e;

	if (sa->state != IKE_UP || sa->want_delete)
		return ERR_WRONG_STATE;
	if (i < 0)
		return ERR_NOTFOUND;
	c = &sa->children[i];
	if (c->deleting || c->replaced || c->silent || under_way(sa, spi_in))
		return OK;
	e = ike_task_add_child(sa, IKE_TASK_REKEY_CHILD, &t);
	if (e != OK)
		return e;
	t->old_spi = spi_in;
	t->request = c->request;
	t->grant_id = c->grant_id;
	/* 2.9.2: exactly what the old one carries */
	t->tsi = c->ts->local;
	t->tsr = c->ts->peer;
	t->group = c->group ? c->group : ike_group_first(&sa->cfg.esp);
	c->soft_us = TIME_NEVER;
	ike_tasks_run(sa, now_us);
	return OK;
}

enum err ike_rekey_child_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b)
{
	/* 1.3.3, 2.8: the SPI is the one that the sender receives with */
	ike_build_notify_spi(b, IKE_N_REKEY_SA, t->old_spi);
	return ike_child_build(sa, t, b);
}

/* What an answer leads to, before anything is changed. */
struct result {
	bool loses; /* ours is the redundant one (2.8.1) */
	bool silent; /* nobody wants it any more */
	uint32_t delete_spi; /* which one we delete; 0: none */
};

static struct result judge(const struct ike_sa *sa, const struct ike_task *t, struct span nr)
{
	int old = ike_child_find(sa, t->old_spi, 0);
	bool old_there = old >= 0 && !sa->children[old].deleting;
	struct ike_low own;

	/* 2.25.1: the old one was deleted meanwhile and not for another rekeying, or its grant was taken back */
	if (t->unwanted || (!old_there && !t->rival_spi))
		return (struct result){ .silent = true, .delete_spi = t->spi_in };
	ike_low_of(SPAN_OF(t->nonce), nr, &own);
	if (t->rival_spi && ike_low_cmp(&own, &t->rival_low) < 0)
		return (struct result){ .loses = true, .delete_spi = t->spi_in };
	return (struct result){ .delete_spi = old_there ? t->old_spi : 0 };
}

/* The peer has made one at the same time, and deleted it, and no other carries the grant: if ours comes to nothing, too,
 * the grant is over. */
static bool rival_gone(const struct ike_sa *sa, const struct ike_task *t)
{
	for (unsigned i = 0; i < sa->n_children; i++) {
		const struct ike_child_sa *c = &sa->children[i];

		if (!c->replaced && !c->silent && c->request == t->request && c->grant_id == t->grant_id)
			return false;
	}
	return t->rival_spi;
}

static enum err grant_over(const struct ike_task *t, struct ike_events *ev)
{
	const struct ike_child_sa c = { .spi_in = t->rival_spi, .request = t->request, .grant_id = t->grant_id };

	return ike_gone_add(ev, &c, false);
}

static void mark_replaced(struct ike_sa *sa, uint32_t spi_in)
{
	int i = spi_in ? ike_child_find(sa, spi_in, 0) : -1;

	if (i >= 0)
		sa->children[i].replaced = true;
}

static void made(struct ike_sa *sa, const struct ike_in *in, struct ike_event *child, struct span nr)
{
	const struct ike_task *t = sa->task;
	struct result r = judge(sa, t, nr);
	struct ike_events ev = { NULL, NULL };
	bool last = r.loses && rival_gone(sa, t);
	struct ike_event *up;
	struct ike_task *del = NULL;
	struct ike_child_sa *k;
	int i;

	r.silent |= last;
	up = r.silent ? NULL : ike_events_add(&ev, IKE_EV_CHILD_UP);
	if ((!r.silent && !up) || (last && grant_over(t, &ev) != OK) ||
	    (r.delete_spi && ike_task_add(sa, IKE_TASK_CHILD_DELETE, &del) != OK)) {
		ike_events_drop(&ev); /* like a lost answer */
		return;
	}
	child->child.replaces = t->old_spi;
	child->child.standby = child->child.redundant = r.loses;
	if (up)
		*up = *child;
	k = ike_child_commit(sa, in->now_us, &child->child);
	k->silent = r.silent;
	k->group = t->group;
	k->replaced = r.loses;
	if (!r.silent)
		mark_replaced(sa, t->old_spi);
	if (!r.silent && !r.loses)
		mark_replaced(sa, t->rival_spi);
	i = r.delete_spi ? ike_child_find(sa, r.delete_spi, 0) : -1;
	if (i >= 0)
		ike_delete_queue(&sa->children[i], del);
	if (r.loses)
		log_info(&sa->log, "both sides rekeyed a Child SA; ours is redundant");
	ike_task_over(sa);
	ike_events_commit(sa, &ev);
}

/* Once: in the group that the peer wants, or, where it takes nothing without PFS, in the IKE SA's. */
bool ike_task_another_ke(struct ike_sa *sa, const struct ike_in *in, uint16_t notify)
{
	struct ike_task *t = sa->task;
	const struct ike_group *g = NULL;
	struct ike_notify n;

	if (notify == IKE_N_INVALID_KE_PAYLOAD && ike_notify_find(&in->chain, notify, &n) && n.data.len == 2)
		g = ike_group_find(ike_child_groups(sa), be16(n.data.p));
	else if (notify == IKE_N_NO_PROPOSAL_CHOSEN && !t->group)
		g = sa->suite.group;
	if (!g || t->ke_changed)
		return false;
	t->ke_changed = true;
	t->group = g;
	kex_free(t->kex);
	t->kex = NULL;
	return true;
}

/* The peer made none. */
static void refused(struct ike_sa *sa, const struct ike_in *in, uint16_t notify)
{
	uint64_t now_us = in->now_us;
	struct ike_task *t = sa->task;
	int i = ike_child_find(sa, t->old_spi, 0);
	struct ike_events ev = { NULL, NULL };

	if (rival_gone(sa, t)) {
		if (i >= 0)
			sa->children[i].replaced = false;
		else if (grant_over(t, &ev) != OK)
			return;
		ike_task_over(sa);
		ike_events_commit(sa, &ev);
		return;
	}
	/* 2.8.1: it has done it itself meanwhile, or deleted it: there is nothing left to do */
	if (t->rival_spi || !ike_rekey_child_wanted(sa, t)) {
		ike_task_over(sa);
		return;
	}
	log_info(&sa->log, "the peer does not rekey Child SA %08x: notify %u", t->old_spi, notify);
	if (ike_task_another_ke(sa, in, notify)) {
		ike_task_again(sa, now_us, false);
		return;
	}
	switch (notify) {
	case IKE_N_TEMPORARY_FAILURE: ike_task_again(sa, now_us, true); break;
	case IKE_N_CHILD_SA_NOT_FOUND:
		/* 2.25: the peer has it no more; a new one from scratch takes its place */
		t->kind = IKE_TASK_CHILD;
		ike_task_again(sa, now_us, false);
		break;
	default:
		sa->children[i].soft_us = now_us + SECONDS(60);
		ike_task_over(sa);
		break;
	}
}

void ike_rekey_child_response(struct ike_sa *sa, struct ike_in *in)
{
	const struct ike_payload *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	const struct ike_task *t = sa->task;
	struct ike_child_offer offer = {
		.spi_in = t->spi_in,
		.request = t->request,
		.grant_id = t->grant_id,
		.tsi = &t->tsi,
		.tsr = &t->tsr,
		.ni = SPAN_OF(t->nonce),
		.nr = pn ? pn->body : SPAN_NONE,
		.group = t->group,
		.kex = t->kex,
	};
	struct ike_event child = { .kind = IKE_EV_FAILED };
	uint16_t notify = ike_notify_error(&in->chain);
	struct ike_task *stray;
	enum err e;

	if (!ike_chain_find(&in->chain, IKE_P_SA)) {
		refused(sa, in, notify);
		return;
	}
	if (ike_child_room(sa) != OK)
		return;
	e = pn ? ike_child_take(sa, &sa->keys, &in->chain, &offer, &child) : ERR_DENIED;
	if (e == OK) {
		made(sa, in, &child, pn->body);
	} else if (e == ERR_DENIED && ike_task_add(sa, IKE_TASK_CHILD_DELETE, &stray) == OK) {
		stray->spi_in = t->spi_in; /* the peer holds a Child SA that we cannot use */
		refused(sa, in, IKE_N_INVALID_SYNTAX);
	}
	ike_event_done(&child);
}

/* ---- the one who is asked ---- */

static enum err answer(struct ike_sa *sa, const struct ike_in *in, const struct ike_ask *ask,
		       const struct ike_decision *d, struct span nr, struct ike_events *ev, bool *ret_made)
{
	struct ike_header h = ike_header_of(sa, IKE_CREATE_CHILD_SA, true, in->h.message_id);
	uint8_t mem[IKE_MSG_MAX];
	struct ike_build b;
	enum err e;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	e = ike_child_answer(sa, &b, ask, d, nr, ev, ret_made);
	if (e == OK && *ret_made) {
		ev->tail->e.child.replaces = ask->rekeys;
		ev->tail->e.child.standby = true;
	}
	return e == OK ? ike_respond(sa, &b, ask->request_hash, in->path) : e;
}

/* Our own request about the same one is out: which of both stays is known when it is answered (2.8.1). */
static void note_rival(struct ike_sa *sa, const struct ike_ask *ask, struct span nr, uint32_t spi_in)
{
	struct ike_task *t = sa->task;

	if (!t || t->kind != IKE_TASK_REKEY_CHILD || t->old_spi != ask->rekeys)
		return;
	t->rival_spi = spi_in;
	ike_low_of(span_of(ask->ni, ask->ni_len), nr, &t->rival_low);
}

void ike_rekey_child_request(struct ike_sa *sa, struct ike_in *in, unsigned at)
{
	const struct ike_child_sa *old = &sa->children[at];
	struct ike_events ev = { NULL, NULL };
	struct ike_decision *d = calloc(1, sizeof(*d));
	struct ike_ask *ask = calloc(1, sizeof(*ask));
	uint8_t nonce[IKE_NONCE_OURS];
	bool is_made = false;
	enum err e = d && ask ? ike_child_ask_parse(sa, in, ask) : ERR_NOMEM;

	if (e == OK && ask->ke_wrong) {
		(void)!ike_respond_group(sa, in, ask->suite.group);
		ike_ask_free(ask);
		free(d);
		return;
	}
	if (e == OK) {
		ask->rekeys = old->spi_in;
		ask->request = old->request;
		ask->grant_id = old->grant_id;
		d->verdict = IKE_GRANTED;
		d->ts_local = old->ts->local;
		d->ts_peer = old->ts->peer;
		rng_fill(sa->cfg.rng, nonce, sizeof(nonce));
		e = answer(sa, in, ask, d, SPAN_OF(nonce), &ev, &is_made);
	}
	if (e == OK) {
		ike_rekey_rate_pay(sa, in->now_us);
		if (is_made) {
			mark_replaced(sa, ask->rekeys);
			note_rival(sa, ask, SPAN_OF(nonce), ev.tail->e.child.spi_in);
			ike_child_commit(sa, in->now_us, &ev.tail->e.child)->group = ask->suite.group;
		}
		ike_events_commit(sa, &ev);
	} else if ((e == ERR_MALFORMED || e == ERR_LIMIT) &&
		   ike_respond_notify(sa, in, IKE_N_INVALID_SYNTAX, SPAN_NONE) == OK) {
		ike_fail_rules(sa, IKE_N_INVALID_SYNTAX);
	}
	ike_ask_free(ask);
	free(d);
	ike_events_drop(&ev);
}
