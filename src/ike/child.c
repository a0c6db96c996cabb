/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Child SAs: in IKE_AUTH and by CREATE_CHILD_SA (RFC 7296, 1.3, 2.9, 2.17).
 *
 *   HDR, SK {[CP,] SA, Ni, TSi, TSr, N(TIELINE_GRANT)} -->
 *   <-- HDR, SK {[CP,] SA, Nr, TSi, TSr}   or   HDR, SK {N(error)}
 *
 * We send a KE where the esp list names a group, or where the peer takes nothing without: else the keys hang on the IKE SA's
 * exchange, which is made anew. A peer's KE is answered (PFS). */
#include "ike/config_payload.h"
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

#define SPI_TRIES 256

/* ---- the set ---- */

int ike_child_find(const struct ike_sa *sa, uint32_t spi_in, uint32_t spi_out)
{
	for (unsigned i = 0; i < sa->n_children; i++)
		if ((!spi_in || sa->children[i].spi_in == spi_in) && (!spi_out || sa->children[i].spi_out == spi_out))
			return (int)i;
	return -1;
}

enum err ike_child_room(struct ike_sa *sa)
{
	if (!sa->room)
		sa->room = calloc(1, sizeof(*sa->room));
	return sa->room ? OK : ERR_NOMEM;
}

struct ike_child_sa *ike_child_commit(struct ike_sa *sa, uint64_t now_us, const struct ike_child *c)
{
	struct ike_child_sa *k = &sa->children[sa->n_children++];

	*k = (struct ike_child_sa){
		.spi_in = c->spi_in,
		.spi_out = c->spi_out,
		.request = c->request,
		.grant_id = c->grant_id,
		.we_initiated = c->we_initiated,
		.ts = sa->room,
	};
	k->ts->local = c->ts_local;
	k->ts->peer = c->ts_peer;
	sa->room = NULL;
	ike_child_life_begin(sa, now_us, k);
	log_info(&sa->log, "Child SA up, in %08x out %08x", c->spi_in, c->spi_out);
	return k;
}

void ike_child_remove(struct ike_sa *sa, unsigned i)
{
	log_info(&sa->log, "Child SA gone, in %08x", sa->children[i].spi_in);
	free(sa->children[i].ts);
	sa->children[i] = sa->children[--sa->n_children];
}

unsigned ike_child_reserved(const struct ike_sa *sa)
{
	unsigned n = sa->task && sa->task->kind == IKE_TASK_CHILD;

	for (unsigned i = 0; i < sa->n_children; i++)
		n += !sa->children[i].replaced && !sa->children[i].silent;
	for (const struct ike_task *t = sa->queue; t; t = t->next)
		n += t->kind == IKE_TASK_CHILD;
	return n;
}

static bool spi_taken(const struct ike_sa *sa, uint32_t spi)
{
	if (ike_child_find(sa, spi, 0) >= 0 || (sa->task && sa->task->spi_in == spi))
		return true;
	for (const struct ike_task *t = sa->queue; t; t = t->next)
		if (t->spi_in == spi)
			return true;
	return sa->cfg.spi_taken && sa->cfg.spi_taken(sa->cfg.spi_arg, spi);
}

enum err ike_spi_choose(const struct ike_sa *sa, uint32_t *ret)
{
	for (unsigned i = 0; i < SPI_TRIES; i++) {
		uint32_t spi = rng_u32(sa->cfg.rng) | IKE_ESP_SPI_OURS;

		if (!spi_taken(sa, spi)) {
			*ret = spi;
			return OK;
		}
	}
	return ERR_LIMIT;
}

/* In which groups a Child SA may have a key exchange of its own (PFS): where its list names none, in those of the IKE SA. */
const struct ike_list *ike_child_groups(const struct ike_sa *sa)
{
	return ike_group_first(&sa->cfg.esp) ? &sa->cfg.esp : &sa->cfg.ike;
}

/* ---- the one who is asked (who asks: child_ask.c) ---- */

enum err ike_child_parse(const struct ike_sa *sa, const struct ike_in *in, struct ike_ask *ask)
{
	const struct ike_payload *psa = ike_chain_find(&in->chain, IKE_P_SA),
				 *pi = ike_chain_find(&in->chain, IKE_P_TSI),
				 *pr = ike_chain_find(&in->chain, IKE_P_TSR);
	const struct ike_payload *pke = ask->is_auth ? NULL : ike_chain_find(&in->chain, IKE_P_KE);
	const struct ike_proposal *p;
	struct ike_ke ke = { .group = 0 };
	struct ike_offer offer;
	enum err e;

	if (!psa)
		return OK;
	if (!pi || !pr)
		return ERR_MALFORMED;
	e = ike_offer_parse(psa->body, &offer);
	if (e == OK)
		e = ike_ts_parse(pi->body, &ask->tsi);
	if (e == OK)
		e = ike_ts_parse(pr->body, &ask->tsr);
	if (e == OK && pke)
		e = ike_ke_parse(pke->body, &ke);
	if (e != OK)
		return e;
	ask->wants_child = true;
	if (!ike_cp_find(&in->chain, IKE_CFG_REQUEST, &ask->cp))
		ask->cp.there = false;
	if (ike_proposal_choose_ke(&sa->cfg.esp, ask->is_auth ? NULL : ike_child_groups(sa), &offer, ke.group,
				   &ask->suite, &p) == OK &&
	    be32(p->spi.p) >= IKE_ESP_SPI_MIN) {
		ask->acceptable = true;
		ask->proposal = p->number;
		ask->spi_out = be32(p->spi.p);
	}
	if (!ask->acceptable || !ask->suite.group)
		return OK;
	ask->ke_wrong = ask->suite.group->id != ke.group;
	if (ask->ke_wrong)
		return OK;
	if (!ke.value.len || ke.value.len > sizeof(ask->ke))
		return ERR_MALFORMED;
	memcpy(ask->ke, ke.value.p, ke.value.len);
	ask->ke_len = ke.value.len;
	return OK;
}

enum err ike_respond_group(struct ike_sa *sa, const struct ike_in *in, const struct ike_group *group)
{
	uint8_t id[2];

	put_be16(id, group->id);
	return ike_respond_notify(sa, in, IKE_N_INVALID_KE_PAYLOAD, SPAN_OF(id));
}

enum err ike_keymat_seed(const struct kex *kex, const struct ike_group *group, struct span peer_ke, struct span ni,
			 uint8_t *mem, struct span *ret)
{
	size_t n = group ? kex_shared_size(group->kex) : 0;
	enum err e = group ? kex_shared(kex, peer_ke, mem) : OK;

	if (e != OK)
		return e;
	memcpy(mem + n, ni.p, ni.len);
	*ret = span_of(mem, n + ni.len);
	return OK;
}

/* The Child SA that the decision allows, but for its keys. OK, or the notify that tells why there is none. */
static uint16_t child_of(const struct ike_sa *sa, const struct ike_ask *ask, const struct ike_decision *d,
			 struct ike_child *c)
{
	bool listed = ask->is_auth && d->n_grants;

	if (d->verdict != IKE_GRANTED)
		return d->verdict == IKE_REFUSED && d->notify ? d->notify : IKE_N_TS_UNACCEPTABLE;
	if (!ask->acceptable)
		return IKE_N_NO_PROPOSAL_CHOSEN;
	ike_ts_narrow(&ask->tsi, &d->ts_peer, &c->ts_peer);
	ike_ts_narrow(&ask->tsr, &d->ts_local, &c->ts_local);
	if (!c->ts_peer.n || !c->ts_local.n)
		return IKE_N_TS_UNACCEPTABLE;
	if ((!ask->rekeys && ike_child_reserved(sa) >= IKE_CHILDREN_MAX) || sa->n_children >= IKE_CHILDREN_ALL ||
	    ike_spi_choose(sa, &c->spi_in) != OK)
		return IKE_N_NO_ADDITIONAL_SAS;
	c->spi_out = ask->spi_out;
	c->alg = ask->suite.encr->cipher;
	c->esn = ask->suite.esn;
	c->request = listed ? d->grants[0].request : ask->request;
	c->grant_id = listed ? d->grants[0].id : ask->grant_id;
	return 0;
}

enum err ike_child_answer(struct ike_sa *sa, struct ike_build *b, const struct ike_ask *ask,
			  const struct ike_decision *d, struct span nr, struct ike_events *ev, bool *ret_made)
{
	struct ike_event *e;
	struct ike_child c = { .we_initiated = false };
	const struct ike_group *group = ask->suite.group;
	uint8_t spi[4], mem[KEX_SHARED_MAX + IKE_NONCE_MAX];
	struct kex *kex = NULL;
	struct span seed;
	uint16_t why;
	enum err err;

	*ret_made = false;
	if (!ask->wants_child)
		return OK;
	why = child_of(sa, ask, d, &c);
	if (why) {
		ike_build_notify(b, why, SPAN_NONE);
		return OK;
	}
	e = ike_events_add(ev, IKE_EV_CHILD_UP);
	if (!e)
		return ERR_NOMEM;
	err = ike_child_room(sa);
	if (err != OK)
		return err;
	if (group)
		err = kex_new(group->kex, sa->cfg.rng, &kex);
	if (err == OK)
		err = ike_keymat_seed(kex, group, span_of(ask->ke, ask->ke_len), span_of(ask->ni, ask->ni_len), mem,
				      &seed);
	if (err == OK)
		err = ike_keymat_child(&sa->keys, c.alg, seed, nr, c.key_in, c.key_out, &c.key_len);
	secret_wipe(mem, sizeof(mem));
	if (err != OK) {
		kex_free(kex);
		return err;
	}
	if (ask->cp.there && d->cp.there) { /* 2.19: only to a request, and only what it asks for */
		struct ike_cp cp = d->cp;

		cp.asks = ask->cp.asks;
		ike_build_cp(b, IKE_CFG_REPLY, &cp);
	}
	put_be32(spi, c.spi_in);
	ike_build_choice(b, IKE_PROTO_ESP, ask->proposal, SPAN_OF(spi), &ask->suite);
	if (!ask->is_auth)
		ike_build_bytes(b, IKE_P_NONCE, nr);
	if (group)
		ike_build_ke(b, group->id, kex_public(kex));
	kex_free(kex);
	ike_build_ts(b, IKE_P_TSI, &c.ts_peer);
	ike_build_ts(b, IKE_P_TSR, &c.ts_local);
	e->child = c;
	e->request = c.request;
	e->grant_id = c.grant_id;
	secret_wipe(&c, sizeof(c));
	*ret_made = true;
	return OK;
}

static bool is_rekey_ike(const struct ike_in *in)
{
	return ike_chain_find(&in->chain, IKE_P_SA) && !ike_chain_find(&in->chain, IKE_P_TSI); /* 1.3.2 */
}

/* 2.25: what is refused before anybody is asked; 0: nothing. *ret_at: the Child SA that is to be rekeyed, -1: none. */
static uint16_t refuse_early(const struct ike_sa *sa, const struct ike_in *in, uint32_t *ret_spi, int *ret_at)
{
	struct ike_notify n;

	*ret_spi = 0;
	*ret_at = -1;
	if (sa->state != IKE_UP || sa->want_delete)
		return IKE_N_TEMPORARY_FAILURE;
	if (is_rekey_ike(in))
		return 0;
	/* 2.25.2: our own rekeying of the IKE SA is out */
	if (sa->task && sa->task->kind == IKE_TASK_REKEY_IKE)
		return IKE_N_TEMPORARY_FAILURE;
	if (ike_notify_find(&in->chain, IKE_N_REKEY_SA, &n)) {
		int i = n.protocol == IKE_PROTO_ESP && n.spi.len == 4 && be32(n.spi.p)
				? ike_child_find(sa, 0, be32(n.spi.p))
				: -1;

		if (i < 0) {
			/* the answer that will tell us of it may still be on its way */
			if (sa->task && ike_task_creates(sa->task))
				return IKE_N_TEMPORARY_FAILURE;
			*ret_spi = n.spi.len == 4 ? be32(n.spi.p) : 0;
			return IKE_N_CHILD_SA_NOT_FOUND;
		}
		*ret_at = i;
		/* 2.25.1; one that has a successor is about to be closed */
		if (sa->children[i].deleting || sa->children[i].replaced || !ike_rekey_rate_ok(sa, in->now_us))
			return IKE_N_TEMPORARY_FAILURE;
		return sa->n_children >= IKE_CHILDREN_ALL ? IKE_N_NO_ADDITIONAL_SAS : 0;
	}
	return ike_child_reserved(sa) >= IKE_CHILDREN_MAX || sa->n_children >= IKE_CHILDREN_ALL
		       ? IKE_N_NO_ADDITIONAL_SAS
		       : 0;
}

static enum err respond_early(struct ike_sa *sa, const struct ike_in *in, uint16_t why, uint32_t spi)
{
	struct ike_header h = ike_header_of(sa, IKE_CREATE_CHILD_SA, true, in->h.message_id);
	struct ike_build b;
	uint8_t mem[256], hash[32];
	enum err e;

	if (!spi)
		return ike_respond_notify(sa, in, why, SPAN_NONE);
	e = ike_in_hash(in, hash);
	if (e != OK)
		return e;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	ike_build_notify_spi(&b, why, spi);
	return ike_respond(sa, &b, hash, in->path);
}

enum err ike_child_ask_parse(const struct ike_sa *sa, const struct ike_in *in, struct ike_ask *ask)
{
	const struct ike_payload *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	struct ike_grant g = { .request = 0 };
	struct ike_notify n;
	struct span ni;
	enum err e = ike_child_parse(sa, in, ask);

	if (e == OK && (!ask->wants_child || !pn))
		e = ERR_MALFORMED;
	if (e == OK)
		e = ike_nonce_parse(pn->body, &ni);
	if (e == OK && !ike_nonce_suits(&sa->suite, ni))
		e = ERR_MALFORMED;
	ask->no_request = sa->cfg.bare || !ike_notify_find(&in->chain, IKE_N_TIELINE_GRANT, &n);
	if (e == OK && !ask->no_request)
		e = ike_grant_parse(n.data, true, &g);
	if (e != OK)
		return e;
	memcpy(ask->ni, ni.p, ni.len);
	ask->ni_len = ni.len;
	ask->request = g.request;
	ask->grant_id = g.id;
	ask->path = *in->path;
	return ike_in_hash(in, ask->request_hash);
}

void ike_child_request(struct ike_sa *sa, struct ike_in *in)
{
	struct ike_events ev = { NULL, NULL };
	struct ike_event *asked;
	struct ike_ask *ask;
	int rekeys;
	uint32_t spi;
	uint16_t why = refuse_early(sa, in, &spi, &rekeys);
	enum err e;

	if (why) {
		(void)!respond_early(sa, in, why, spi); /* without memory the request comes again */
		return;
	}
	if (is_rekey_ike(in) || rekeys >= 0) {
		if (rekeys >= 0)
			ike_rekey_child_request(sa, in, (unsigned)rekeys);
		else
			ike_rekey_ike_request(sa, in);
		return;
	}
	ask = calloc(1, sizeof(*ask));
	asked = ike_events_add(&ev, IKE_EV_CHILD_ASKED);
	e = ask && asked ? ike_child_ask_parse(sa, in, ask) : ERR_NOMEM;
	if (e == OK && ask->acceptable && !ask->ke_wrong) {
		asked->request = ask->request;
		asked->grant_id = ask->grant_id;
		asked->no_request = ask->no_request;
		asked->wants_child = true;
		asked->ts_local = ask->tsr;
		asked->ts_peer = ask->tsi;
		asked->cp = ask->cp;
		sa->ask = ask;
		ike_window_answering(&sa->window);
		ike_events_commit(sa, &ev);
		return;
	}
	if (e == OK && ask->ke_wrong)
		(void)!ike_respond_group(sa, in, ask->suite.group);
	else if (e == OK)
		(void)!ike_respond_notify(sa, in, IKE_N_NO_PROPOSAL_CHOSEN, SPAN_NONE);
	else if ((e == ERR_MALFORMED || e == ERR_LIMIT) &&
		 ike_respond_notify(sa, in, IKE_N_INVALID_SYNTAX, SPAN_NONE) == OK)
		ike_fail_rules(sa, IKE_N_INVALID_SYNTAX);
	ike_ask_free(ask);
	ike_events_drop(&ev);
}
