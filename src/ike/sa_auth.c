/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* IKE_AUTH, both roles (RFC 7296, 1.2, 2.15, 2.21.2; docs/protocol.md).
 *
 *   HDR, SK {IDi, CERT, CERTREQ, [IDr,] AUTH, [CP,] SA, TSi, TSr, [N(TIELINE_REQUEST)]} -->
 *   <-- HDR, SK {IDr, CERT, AUTH, [CP,] SA, TSi, TSr, [N(TIELINE_GRANT)+]}
 *   or  HDR, SK {IDr, CERT, AUTH, N(TS_UNACCEPTABLE), [N(TIELINE_WAIT) | N(TIELINE_REFUSE)]}
 *
 * The responder answers when the owner has decided (grant.c). */
#include "ike/config_payload.h"
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

/* Our ID, certificate and signature. The ID's payload body is hashed as it stands in the message. */
static enum err prove(const struct ike_sa *sa, const struct ike_keys *keys, const struct ike_setup *s,
		      struct span id_body, struct ike_build *b)
{
	bool initiator = sa->cfg.initiator;
	struct ike_signed what = {
		.of_initiator = initiator,
		.id_body = id_body,
		.message = initiator ? span_of(s->init_i, s->init_i_len) : span_of(s->init_r, s->init_r_len),
		.nonce = initiator ? span_of(s->nr, s->nr_len) : span_of(s->ni, s->ni_len),
	};

	if (sa->cfg.psk.len)
		return ike_psk_sign(&sa->cfg.psk, keys, &what, b);
	return ike_auth_sign(sa->cfg.identity, keys, &what, s->digital, b);
}

/* Writes the ID payload, and its body into mem once more: it is part of what is signed. */
static struct span own_id(const struct ike_sa *sa, struct ike_build *b, uint8_t mem[4 + 256])
{
	struct wr w = wr_of(mem, 4 + 256);

	ike_build_id(b, sa->cfg.initiator ? IKE_P_IDI : IKE_P_IDR, sa->cfg.local_aor);
	wr_u32(&w, (uint32_t)IKE_ID_RFC822 << 24);
	wr_str(&w, sa->cfg.local_aor);
	return wr_done(&w);
}

enum err ike_auth_own(const struct ike_sa *sa, const struct ike_keys *keys, const struct ike_setup *s,
		      struct ike_build *b)
{
	uint8_t mem[4 + 256];
	struct span id = own_id(sa, b, mem);

	enum err e;

	if (!sa->cfg.psk.len)
		ike_build_cert(b, identity_cert(sa->cfg.identity));
	e = prove(sa, keys, s, id, b);
	if (e == OK && sa->cfg.ppk.len) /* RFC 8784, 3: used; no data */
		ike_build_notify(b, IKE_N_PPK_IDENTITY, SPAN_NONE);
	if (e == OK && sa->cfg.initial_contact)
		ike_build_notify(b, IKE_N_INITIAL_CONTACT, SPAN_NONE);
	if (e == OK && sa->move.on)
		ike_build_notify(b, IKE_N_MOBIKE_SUPPORTED, SPAN_NONE);
	return e;
}

/* ---- initiator ---- */

static bool wants_child(const struct ike_sa *sa)
{
	return sa->cfg.tsi.n && sa->cfg.tsr.n;
}

enum err ike_auth_build(const struct ike_sa *sa, struct ike_keys *keys, struct ike_setup *s, struct ike_build *b,
			struct span *ret)
{
	const struct ike_config *cfg = &sa->cfg;
	struct ike_header h = ike_header_of(sa, IKE_AUTH, false, 1);
	uint8_t mem[4 + 256], spi[4];
	struct span id;
	enum err e = ike_spi_choose(sa, &s->spi_in);

	if (e != OK)
		return e;
	ike_build_start(b, b->w.p, b->w.cap, &h);
	ike_build_sk(b);
	id = own_id(sa, b, mem);
	if (!cfg->psk.len) {
		ike_build_cert(b, identity_cert(cfg->identity));
		ike_build_certreq(sa, b);
	}
	if (!cfg->bare) /* a stock peer may call itself otherwise */
		ike_build_id(b, IKE_P_IDR, cfg->peer_aor);
	e = prove(sa, keys, s, id, b);
	if (e != OK)
		return e;
	if (cfg->ppk.len)
		ike_build_ppk_identity(b, cfg->ppk_id);
	if (cfg->initial_contact) /* 2.4 */
		ike_build_notify(b, IKE_N_INITIAL_CONTACT, SPAN_NONE);
	if (ike_mobike_wants(sa)) /* RFC 4555, 3.2 */
		ike_build_notify(b, IKE_N_MOBIKE_SUPPORTED, SPAN_NONE);
	if (wants_child(sa)) {
		struct ike_cp cp = { .asks = cfg->cp_asks };

		if (cp.asks) /* 2.19 */
			ike_build_cp(b, IKE_CFG_REQUEST, &cp);
		put_be32(spi, s->spi_in);
		ike_build_offer(b, &sa->cfg.esp, IKE_PROTO_ESP, SPAN_OF(spi));
		ike_build_ts(b, IKE_P_TSI, &cfg->tsi);
		ike_build_ts(b, IKE_P_TSR, &cfg->tsr);
	}
	if (!cfg->bare)
		ike_build_request(b, cfg->request, cfg->names, cfg->n_names);
	return ike_seal(sa, keys, b, ret);
}

static bool wanted(const struct ike_config *cfg, const struct ike_grant *g)
{
	if (cfg->bare || !cfg->initiator || g->request != cfg->request)
		return false;
	for (unsigned i = 0; i < cfg->n_names; i++)
		if (!strcmp(cfg->names[i], g->name))
			return true;
	return !cfg->n_names;
}

/* One notify of ours. A malformed one is not an answer; what was not asked for is nothing to us (docs/protocol.md). */
static enum err take_notify(const struct ike_sa *sa, const struct ike_notify *n, struct ike_events *ev,
			    struct ike_outcome *o)
{
	uint32_t request = 0;
	uint8_t reason = 0;
	uint16_t seconds = 0;
	struct ike_grant g;
	struct ike_event *e;

	if (n->type == IKE_N_TIELINE_GRANT && ike_grant_parse(n->data, false, &g) == OK && wanted(&sa->cfg, &g)) {
		e = ike_events_add(ev, IKE_EV_GRANT);
		if (!e)
			return ERR_NOMEM;
		e->request = g.request;
		e->grant_id = g.id;
		e->grant = g;
		if (!o->granted)
			o->first = g;
		o->granted = true;
	} else if (n->type == IKE_N_TIELINE_WAIT && ike_wait_parse(n->data, &request, &seconds) == OK &&
		   request == sa->cfg.request) {
		e = ike_events_add(ev, IKE_EV_WAIT);
		if (!e)
			return ERR_NOMEM;
		e->request = request;
		e->wait_s = seconds;
		o->waits = true;
	} else if (n->type == IKE_N_TIELINE_REFUSE && ike_refuse_parse(n->data, &request, &reason) == OK &&
		   request == sa->cfg.request) {
		e = ike_events_add(ev, IKE_EV_REFUSED);
		if (!e)
			return ERR_NOMEM;
		e->request = request;
		e->refuse_reason = reason;
		o->refused = true;
	}
	return OK;
}

enum err ike_grants_take(const struct ike_sa *sa, const struct ike_chain *c, struct ike_events *ev,
			 struct ike_outcome *ret)
{
	unsigned n_taken = 0;

	*ret = (struct ike_outcome){ .granted = false };
	if (sa->cfg.bare || !sa->cfg.initiator)
		return OK;
	for (unsigned i = 0; i < c->n; i++) {
		struct ike_notify n;
		enum err e;

		if (c->p[i].type != IKE_P_NOTIFY || ike_notify_parse(c->p[i].body, &n) != OK)
			continue;
		/* each is an event that the owner tells a person: no message of ours has more of all kinds */
		if ((n.type == IKE_N_TIELINE_GRANT || n.type == IKE_N_TIELINE_WAIT || n.type == IKE_N_TIELINE_REFUSE) &&
		    n_taken++ == IKE_GRANTS_MAX)
			return ERR_LIMIT;
		e = take_notify(sa, &n, ev, ret);
		if (e != OK)
			return e;
	}
	return OK;
}

/* The certificates that the peer shows, its own first (3.6). False: more than anybody needs. */
static bool certs_of(const struct ike_chain *c, struct span certs[CHAIN_MAX], unsigned *ret_n)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++) {
		struct ike_cert cert;

		if (c->p[i].type != IKE_P_CERT || ike_cert_parse(c->p[i].body, &cert) != OK)
			continue;
		if (n == CHAIN_MAX)
			return false;
		/* the first must be one that we can use, the others may be of any kind */
		if (cert.encoding == IKE_CERT_X509_SIGNATURE)
			certs[n++] = cert.value;
		else if (!n)
			break;
	}
	*ret_n = n;
	return true;
}

/* By certificate: announced (RFC 6193, 7), pinned where there is a pin, signed, and from the CA where one is demanded. */
static enum err cert_verify(struct ike_sa *sa, const struct ike_keys *keys, const struct ike_signed *what,
			    const struct ike_chain *c, const struct ike_auth *auth, enum ike_failure *ret_fail,
			    uint8_t ret_key[SPKI_HASH])
{
	const struct ike_config *cfg = &sa->cfg;
	struct span certs[CHAIN_MAX];
	const char *detail;
	unsigned n;
	enum err e;

	if (!certs_of(c, certs, &n) || !n) {
		*ret_fail = IKE_FAIL_FINGERPRINT;
		return ERR_AUTH;
	}
	e = ike_peer_verify(cfg, keys, what, certs[0], auth, ret_fail, ret_key);
	if (e != OK || !sa->setup->ca)
		return e;
	e = cert_chain_verify(sa->setup->ca, certs, n, cfg->wall_s, cfg->peer_aor, &detail);
	if (e == ERR_AUTH) {
		*ret_fail = IKE_FAIL_CHAIN;
		sa->detail = detail;
	}
	return e;
}

/* The peer's ID and proof. ERR_AUTH with *ret_fail, or it could not be found out. */
static enum err peer_verify(struct ike_sa *sa, const struct ike_keys *keys, const struct ike_chain *c,
			    enum ike_failure *ret_fail, uint8_t ret_key[SPKI_HASH])
{
	bool of_initiator = !sa->cfg.initiator;
	const struct ike_setup *s = sa->setup;
	const struct ike_payload *pid = ike_chain_find(c, of_initiator ? IKE_P_IDI : IKE_P_IDR),
				 *pauth = ike_chain_find(c, IKE_P_AUTH);
	struct ike_signed what = {
		.of_initiator = of_initiator,
		.message = of_initiator ? span_of(s->init_i, s->init_i_len) : span_of(s->init_r, s->init_r_len),
		.nonce = of_initiator ? span_of(s->nr, s->nr_len) : span_of(s->ni, s->ni_len),
	};
	struct ike_auth auth;
	enum err e;

	*ret_fail = IKE_FAIL_AUTH;
	if (!pid || !pauth || ike_auth_parse(pauth->body, &auth) != OK)
		return ERR_AUTH;
	what.id_body = pid->body;
	if (!sa->cfg.psk.len)
		return cert_verify(sa, keys, &what, c, &auth, ret_fail, ret_key);
	e = ike_psk_verify(&sa->cfg.psk, keys, &what, &auth);
	return e == OK ? ike_psk_key(sa->cfg.peer_aor, ret_key) : e;
}

/* Everything that a good answer brings, as events. *ret_stray: the peer made a Child SA that is not
 * what we proposed; it is to be deleted. */
static enum err answer_events(const struct ike_sa *sa, const struct ike_in *in, const uint8_t key[SPKI_HASH],
			      struct ike_events *ev, struct ike_event *child, bool *ret_stray)
{
	const struct ike_setup *s = sa->setup;
	struct ike_child_offer offer = {
		.spi_in = s->spi_in,
		.tsi = &sa->cfg.tsi,
		.tsr = &sa->cfg.tsr,
		.asked_cp = sa->cfg.cp_asks != 0,
		.ni = span_of(s->ni, s->ni_len),
		.nr = span_of(s->nr, s->nr_len),
		.in_auth = true,
	};
	uint16_t notify = ike_notify_error(&in->chain);
	struct ike_notify n;
	struct ike_outcome o;
	struct ike_event *e = ike_events_add(ev, IKE_EV_AUTHENTICATED);
	enum err err;

	if (!e)
		return ERR_NOMEM;
	memcpy(e->peer_key, key, SPKI_HASH);
	e->initial_contact = ike_notify_find(&in->chain, IKE_N_INITIAL_CONTACT, &n);
	err = ike_grants_take(sa, &in->chain, ev, &o);
	if (err != OK)
		return err;
	if (o.granted) {
		offer.request = o.first.request;
		offer.grant_id = o.first.id;
	}
	if (wants_child(sa) && ike_chain_find(&in->chain, IKE_P_SA)) {
		err = ike_child_take(sa, &sa->keys, &in->chain, &offer, child);
		if (err == ERR_NOMEM)
			return err;
		if (err == OK) {
			e = ike_events_add(ev, IKE_EV_CHILD_UP);
			if (!e)
				return ERR_NOMEM;
			*e = *child;
			return OK;
		}
		*ret_stray = true;
		notify = IKE_N_INVALID_SYNTAX;
	}
	/* A stock peer says why in an error notify; ours says it in WAIT or REFUSE as well. */
	if (wants_child(sa) && !o.waits && !o.refused) {
		e = ike_events_add(ev, IKE_EV_REFUSED);
		if (!e)
			return ERR_NOMEM;
		e->request = sa->cfg.request;
		e->notify = notify ? notify : IKE_N_TS_UNACCEPTABLE;
	}
	return OK;
}

static void answer_commit(struct ike_sa *sa, const struct ike_in *in, struct ike_events *ev,
			  const struct ike_event *child)
{
	uint64_t now_us = in->now_us;
	struct ike_notify n;

	ike_window_answered(&sa->window);
	ike_setup_free(sa->setup);
	sa->setup = NULL;
	ike_enter(sa, IKE_UP, "the peer proved its key");
	ike_mobike_up(sa, ike_notify_find(&in->chain, IKE_N_MOBIKE_SUPPORTED, &n));
	ike_life_begin(sa, now_us, true);
	if (child->kind == IKE_EV_CHILD_UP)
		(void)ike_child_commit(sa, now_us, &child->child);
	ike_events_commit(sa, ev);
}

void ike_auth_response(struct ike_sa *sa, struct ike_in *in)
{
	struct ike_event child = { .kind = IKE_EV_FAILED };
	struct ike_events ev = { NULL, NULL };
	uint16_t error = ike_notify_error(&in->chain);
	uint8_t key[SPKI_HASH];
	enum ike_failure why;
	struct ike_notify n;
	bool stray = false;
	struct ike_task *t;
	enum err e;

	if (!ike_chain_find(&in->chain, IKE_P_AUTH)) {
		if (error)
			ike_fail(sa, error == IKE_N_AUTHENTICATION_FAILED ? IKE_FAIL_AUTH : IKE_FAIL_PROTOCOL, error);
		else
			ike_fail_rules(sa, IKE_N_INVALID_SYNTAX);
		return;
	}
	e = peer_verify(sa, &sa->keys, &in->chain, &why, key);
	if (e == OK && sa->cfg.ppk.len && !ike_notify_find(&in->chain, IKE_N_PPK_IDENTITY, &n)) {
		why = IKE_FAIL_PPK; /* RFC 8784, 3: mandatory, and the responder has not used it */
		e = ERR_AUTH;
	}
	if (e == ERR_AUTH) {
		ike_disown(sa, IKE_N_AUTHENTICATION_FAILED); /* 2.21.2: the responder holds the SA to be up */
		ike_fail(sa, why, 0);
		return;
	}
	if (e == OK)
		e = answer_events(sa, in, key, &ev, &child, &stray);
	if (e == OK && stray) {
		uint32_t spi = sa->setup->spi_in;

		e = ike_task_add(sa, IKE_TASK_CHILD_DELETE, &t);
		if (e == OK)
			t->spi_in = spi;
	}
	if (e == OK)
		answer_commit(sa, in, &ev, &child);
	else if (e == ERR_LIMIT)
		ike_fail_rules(sa, IKE_N_INVALID_SYNTAX);
	ike_events_drop(&ev);
	ike_event_done(&child);
}

/* ---- responder ---- */

/* What the request says beside the proof. */
static enum err ask_parse(const struct ike_sa *sa, const struct ike_in *in, struct ike_ask *ask, struct ike_event *e)
{
	const struct ike_setup *s = sa->setup;
	struct ike_request q = { .n_names = 0 };
	struct ike_notify n, contact;
	enum err err = OK;

	ask->is_auth = true;
	ask->no_request = sa->cfg.bare || !ike_notify_find(&in->chain, IKE_N_TIELINE_REQUEST, &n);
	if (!ask->no_request)
		err = ike_request_parse(n.data, &q);
	if (err == OK)
		err = ike_child_parse(sa, in, ask);
	if (err != OK)
		return err;
	memcpy(ask->ni, s->ni, s->ni_len);
	ask->ni_len = s->ni_len;
	ask->request = q.request;
	ask->initial_contact = e->initial_contact = ike_notify_find(&in->chain, IKE_N_INITIAL_CONTACT, &contact);
	e->request = q.request;
	e->n_names = q.n_names;
	memcpy(e->names, q.names, sizeof(e->names));
	e->no_request = ask->no_request;
	e->wants_child = ask->wants_child;
	e->ts_local = ask->tsr;
	e->ts_peer = ask->tsi;
	e->cp = ask->cp;
	memcpy(e->peer_key, ask->peer_key, SPKI_HASH);
	return OK;
}

/* 2.21.2: an answer with nothing but the reason, and the SA is over. Without memory for the answer the
 * request comes again. */
static void reject(struct ike_sa *sa, const struct ike_in *in, uint16_t notify, enum ike_failure why)
{
	if (ike_respond_notify(sa, in, notify, SPAN_NONE) != OK)
		return;
	if (why == IKE_FAIL_PROTOCOL)
		ike_fail_rules(sa, notify);
	else
		ike_fail(sa, why, 0);
}

/* The initiator may say whom it wants (2.15); a tieline peer wants exactly us. */
static bool wants_us(const struct ike_sa *sa, const struct ike_chain *c)
{
	const struct ike_payload *p = ike_chain_find(c, IKE_P_IDR);
	struct ike_id id;

	return sa->cfg.bare || !p ||
	       (ike_id_parse(p->body, &id) == OK && id.type == IKE_ID_RFC822 &&
		span_eq_str(id.value, sa->cfg.local_aor));
}

/* RFC 8784, 3, table 1, with a PPK that is mandatory: both said that they use one, and it is this one. */
static enum err ppk_apply(const struct ike_sa *sa, const struct ike_chain *c, struct ike_keys *k,
			  enum ike_failure *ret_fail)
{
	if (!sa->cfg.ppk.len)
		return OK;
	if (!sa->setup->use_ppk || !ike_ppk_identity_is(c, sa->cfg.ppk_id)) {
		*ret_fail = IKE_FAIL_PPK;
		return ERR_AUTH;
	}
	return ike_ppk_mix(&sa->cfg.ppk, k);
}

void ike_auth_request(struct ike_sa *sa, struct ike_in *in)
{
	struct ike_keys keys = sa->keys; /* with the PPK, if this message is accepted */
	struct ike_ask *ask = calloc(1, sizeof(*ask));
	struct ike_events ev = { NULL, NULL };
	struct ike_event *asked = ike_events_add(&ev, IKE_EV_ASKED);
	enum ike_failure why = IKE_FAIL_NONE;
	struct ike_notify n;
	bool mobike = ike_mobike_wants(sa) && ike_notify_find(&in->chain, IKE_N_MOBIKE_SUPPORTED, &n);
	enum err e = ask && asked ? ike_in_hash(in, ask->request_hash) : ERR_NOMEM;

	if (e == OK)
		e = ppk_apply(sa, &in->chain, &keys, &why);
	if (e == OK)
		e = peer_verify(sa, &keys, &in->chain, &why, ask->peer_key);
	if (e == OK && !wants_us(sa, &in->chain)) {
		why = IKE_FAIL_AUTH;
		e = ERR_AUTH;
	}
	if (e == OK)
		e = ask_parse(sa, in, ask, asked);
	if (e == OK) {
		/* whatever paths the owner has meanwhile, this one counts (RFC 4555, 3.3) */
		ask->path = *in->path;
		if (!sa->path_set || mobike)
			sa->path = *in->path;
		ike_mobike_up(sa, mobike);
		sa->ask = ask;
		sa->limit_us = in->now_us + IKE_HALF_OPEN_US;
		ike_window_answering(&sa->window);
		sa->keys = keys;
		secret_wipe(&keys, sizeof(keys));
		ike_enter(sa, IKE_ASKED, "the peer proved its key");
		ike_events_commit(sa, &ev);
		return;
	}
	secret_wipe(&keys, sizeof(keys));
	ike_ask_free(ask);
	ike_events_drop(&ev);
	if (e == ERR_AUTH)
		reject(sa, in, IKE_N_AUTHENTICATION_FAILED, why);
	else if (e == ERR_MALFORMED || e == ERR_LIMIT)
		reject(sa, in, IKE_N_INVALID_SYNTAX, IKE_FAIL_PROTOCOL);
}
