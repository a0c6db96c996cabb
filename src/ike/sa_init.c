/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* IKE_SA_INIT, both roles (RFC 7296, 1.2, 2.6, 2.7, 2.21.1, 2.23; docs/protocol.md).
 *
 *   HDR, [N(COOKIE)], SA, KE, Ni, N(NAT_DETECTION)*2, N(SIGNATURE_HASH_ALGORITHMS), V, [N(TIELINE_BIND)] -->
 *   <-- HDR, SA, KE, Nr, N(NAT_DETECTION)*2, CERTREQ, N(SIGNATURE_HASH_ALGORITHMS), V, [N(TIELINE_BIND)]
 *
 * Our vendor ID is always there: seen by a tieline peer in a call without binding it tells that somebody
 * removed lines from the descriptions. */
#include "ike/sa_impl.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

#define INIT_MAX 2048 /* of a message that we write */

static void vendor_and_binding(const struct ike_sa *sa, struct ike_build *b)
{
	ike_build_bytes(b, IKE_P_VENDOR, ike_vendor_id());
	if (!sa->cfg.has_binding)
		return;
	ike_build_notify(b, IKE_N_TIELINE_BIND, SPAN_OF(sa->cfg.tag));
	wr_bytes(&b->w, sa->cfg.bind_hash, sizeof(sa->cfg.bind_hash));
}

/* docs/protocol.md: vendor ID, tag and hash are all there and ours, or the call is a bare one on both sides. */
static bool binding_ok(const struct ike_sa *sa, const struct ike_chain *c)
{
	struct ike_notify n;

	if (!sa->cfg.has_binding)
		return !ike_vendor_id_find(c);
	return ike_vendor_id_find(c) && ike_notify_find(c, IKE_N_TIELINE_BIND, &n) && n.data.len == IKE_BIND_LEN &&
	       secret_eq(n.data.p, sa->cfg.tag, sizeof(sa->cfg.tag)) &&
	       secret_eq(n.data.p + sizeof(sa->cfg.tag), sa->cfg.bind_hash, sizeof(sa->cfg.bind_hash));
}

/* ---- initiator ---- */

static enum err request_build(const struct ike_sa *sa, const struct ike_setup *s, const struct ike_group *group,
			      const struct kex *kex, struct span cookie, struct ike_build *b, struct span *ret)
{
	struct ike_header h = ike_header_of(sa, IKE_SA_INIT, false, 0);
	enum err e;

	h.spi_r = 0;
	ike_build_start(b, b->w.p, b->w.cap, &h);
	if (cookie.len) /* 2.6: the first payload */
		ike_build_notify(b, IKE_N_COOKIE, cookie);
	ike_build_offer(b, &sa->cfg.ike, IKE_PROTO_IKE, SPAN_NONE);
	ike_build_ke(b, group->id, kex_public(kex));
	ike_build_bytes(b, IKE_P_NONCE, span_of(s->ni, s->ni_len));
	e = ike_build_nat_detection(sa, b, 0, &sa->path);
	if (e != OK)
		return e;
	ike_build_notify(b, IKE_N_SIGNATURE_HASH_ALGORITHMS, ike_hash_algorithms());
	ike_build_notify(b, IKE_N_FRAGMENTATION_SUPPORTED, SPAN_NONE);
	if (sa->cfg.ppk.len) /* RFC 8784, 3 */
		ike_build_notify(b, IKE_N_USE_PPK, SPAN_NONE);
	vendor_and_binding(sa, b);
	return ike_build_done(b, ret);
}

enum err ike_init_start(struct ike_sa *sa, uint64_t now_us)
{
	const struct ike_group *group = ike_group_first(&sa->cfg.ike);
	struct ike_setup *s = sa->setup;
	uint8_t mem[INIT_MAX];
	struct ike_build b = { .w = wr_of(mem, sizeof(mem)) };
	struct kex *kex = NULL;
	struct span msg;
	enum err e;

	s->ni_len = IKE_NONCE_OURS;
	rng_fill(sa->cfg.rng, s->ni, s->ni_len);
	sa->window.sends_max = sa->cfg.first_sends;
	e = kex_new(group->kex, sa->cfg.rng, &kex);
	if (e == OK)
		e = request_build(sa, s, group, kex, SPAN_NONE, &b, &msg);
	if (e == OK)
		e = ike_copy(msg, &s->init_i, &s->init_i_len);
	if (e == OK)
		e = ike_window_send(&sa->window, now_us, msg);
	if (e != OK) {
		kex_free(kex);
		return e;
	}
	s->kex = kex;
	s->group = group;
	ike_enter(sa, IKE_INIT_SENT, "IKE_SA_INIT sent");
	ike_send(sa, &sa->path, msg);
	return OK;
}

/* The same request again, with the responder's cookie and perhaps another KE; nonce and SPI stay (2.6). */
static void restart(struct ike_sa *sa, uint64_t now_us, struct span cookie, const struct ike_group *group)
{
	struct ike_setup *s = sa->setup;
	uint8_t mem[INIT_MAX], *copy = NULL;
	size_t copy_len = 0;
	struct ike_build b = { .w = wr_of(mem, sizeof(mem)) };
	struct kex *kex = NULL;
	struct span msg;
	enum err e = group == s->group ? OK : kex_new(group->kex, sa->cfg.rng, &kex);

	if (e == OK)
		e = request_build(sa, s, group, kex ? kex : s->kex, cookie, &b, &msg);
	if (e == OK)
		e = ike_copy(msg, &copy, &copy_len);
	if (e == OK)
		e = ike_window_resend(&sa->window, now_us, msg);
	if (e != OK) {
		kex_free(kex);
		free(copy);
		return;
	}
	free(s->init_i);
	s->init_i = copy;
	s->init_i_len = copy_len;
	if (kex) {
		kex_free(s->kex);
		s->kex = kex;
		s->group = group;
		s->ke_changed = true;
	}
	if (cookie.p != s->cookie) {
		memcpy(s->cookie, cookie.p, cookie.len);
		s->cookie_len = cookie.len;
	}
	s->n_restarts++;
	ike_send(sa, &sa->path, msg);
}

/* True: it was a request to try again, and that is all there is to it. */
static bool try_again(struct ike_sa *sa, const struct ike_in *in)
{
	struct ike_setup *s = sa->setup;
	struct ike_notify n;

	if (ike_notify_find(&in->chain, IKE_N_COOKIE, &n)) {
		if (n.data.len && n.data.len <= IKE_COOKIE_MAX && s->n_restarts < IKE_RESTARTS_MAX)
			restart(sa, in->now_us, n.data, s->group);
		return true;
	}
	if (ike_notify_find(&in->chain, IKE_N_INVALID_KE_PAYLOAD, &n)) {
		/* Unprotected, so obeyed once: it can choose among our groups and nothing more. */
		const struct ike_group *g = n.data.len == 2 ? ike_group_find(&sa->cfg.ike, be16(n.data.p)) : NULL;

		if (g && g != s->group && !s->ke_changed && s->n_restarts < IKE_RESTARTS_MAX)
			restart(sa, in->now_us, span_of(s->cookie, s->cookie_len), g);
		else
			ike_suspect(sa, in->now_us, IKE_FAIL_NO_PROPOSAL, n.type);
		return true;
	}
	return false;
}

bool ike_nonce_suits(const struct ike_suite *s, struct span nonce)
{
	return nonce.len >= hash_size(s->prf->hash) / 2;
}

/* What an accepted IKE_SA_INIT gave; nothing of it is in the SA yet. */
struct outcome {
	struct ike_suite suite;
	struct ike_keys keys;
	struct span nonce; /* the peer's */
};

/* What we cannot do without, and the responder has to announce. */
static enum err extensions_ok(struct ike_sa *sa, const struct ike_in *in)
{
	struct ike_notify n;

	/* RFC 8784, 3: a mandatory PPK; what is missing here may still come, the message is not authentic (2.21.1) */
	if (sa->cfg.ppk.len && !ike_notify_find(&in->chain, IKE_N_USE_PPK, &n)) {
		ike_suspect(sa, in->now_us, IKE_FAIL_PPK, 0);
		return ERR_DENIED;
	}
	/* RFC 6023, 3: without a Child SA only where that is announced */
	if (!sa->cfg.tsi.n && !ike_notify_find(&in->chain, IKE_N_CHILDLESS_IKEV2_SUPPORTED, &n)) {
		ike_suspect(sa, in->now_us, IKE_FAIL_PROTOCOL, 0);
		return ERR_DENIED;
	}
	return OK;
}

/* Looks at the response; a failure means that it is not the one we wait for. */
static enum err response_read(struct ike_sa *sa, const struct ike_in *in, struct outcome *ret)
{
	const struct ike_payload *psa = ike_chain_find(&in->chain, IKE_P_SA),
				 *pke = ike_chain_find(&in->chain, IKE_P_KE),
				 *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	const struct ike_setup *s = sa->setup;
	const struct ike_proposal *p;
	struct ike_offer offer;
	struct ike_ke ke;
	uint8_t shared[KEX_SHARED_MAX];
	enum err e;

	if (!psa || !pke || !pn || !in->h.spi_r || in->chain.unknown_critical)
		return ERR_MALFORMED;
	if (!binding_ok(sa, &in->chain)) {
		ike_suspect(sa, in->now_us, IKE_FAIL_BINDING, 0);
		return ERR_DENIED;
	}
	if (!ike_nat_ok(sa, in)) {
		ike_suspect(sa, in->now_us, IKE_FAIL_NAT, 0);
		return ERR_DENIED;
	}
	e = extensions_ok(sa, in);
	if (e == OK)
		e = ike_offer_parse(psa->body, &offer);
	if (e == OK)
		e = ike_proposal_chosen(&sa->cfg.ike, &offer, IKE_PROTO_IKE, &ret->suite, &p);
	if (e == ERR_DENIED)
		ike_suspect(sa, in->now_us, IKE_FAIL_NO_PROPOSAL, 0);
	if (e == OK)
		e = ike_ke_parse(pke->body, &ke);
	if (e == OK)
		e = ike_nonce_parse(pn->body, &ret->nonce);
	if (e == OK &&
	    (!ike_nonce_suits(&ret->suite, ret->nonce) || ret->suite.group != s->group || ke.group != s->group->id))
		e = ERR_MALFORMED;
	if (e == OK)
		e = kex_shared(s->kex, ke.value, shared);
	ret->keys.keep = sa->cfg.export_keys;
	if (e == OK)
		e = ike_keys_derive(&ret->suite, sa->cfg.rng, true, span_of(s->ni, s->ni_len), ret->nonce,
				    span_of(shared, kex_shared_size(s->group->kex)), sa->spi_i, in->h.spi_r,
				    &ret->keys);
	if (e == OK && sa->cfg.ppk.len)
		e = ike_ppk_mix(&sa->cfg.ppk, &ret->keys);
	secret_wipe(shared, sizeof(shared));
	return e;
}

/* Prepares IKE_AUTH in a copy of the setup and of the SA's header fields; the SA changes at the end. */
static enum err auth_send(struct ike_sa *sa, const struct ike_in *in, struct outcome *o, struct ike_setup *s)
{
	uint8_t mem[IKE_MSG_MAX], *init_r = NULL;
	struct ike_build b = { .w = wr_of(mem, sizeof(mem)) };
	struct ike_notify n;
	struct span msg;
	enum err e = ike_copy(in->msg, &init_r, &s->init_r_len);

	if (e != OK)
		return e;
	s->nr_len = o->nonce.len;
	memcpy(s->nr, o->nonce.p, o->nonce.len);
	s->digital =
		ike_notify_find(&in->chain, IKE_N_SIGNATURE_HASH_ALGORITHMS, &n) && ike_hash_algorithms_suit(n.data);
	sa->takes_fragments = ike_notify_find(&in->chain, IKE_N_FRAGMENTATION_SUPPORTED, &n);
	sa->spi_r = in->h.spi_r;
	e = ike_auth_build(sa, &o->keys, s, &b, &msg);
	if (e == OK)
		e = ike_window_next(&sa->window, in->now_us, msg);
	if (e != OK) {
		sa->spi_r = 0;
		free(init_r);
		return e;
	}
	s->init_r = init_r;
	sa->window.sends_max = 0; /* somebody at this address has read our SPI */
	sa->suite = o->suite;
	sa->keys = o->keys;
	secret_wipe(&o->keys, sizeof(o->keys));
	kex_free(s->kex);
	s->kex = NULL;
	log_info(&sa->log, "IKE suite %s", ike_suite_text(&sa->suite, (char[IKE_SUITE_TEXT]){ 0 }));
	ike_enter(sa, IKE_AUTH_SENT, "IKE_SA_INIT answered");
	ike_send(sa, &sa->path, msg);
	return OK;
}

void ike_init_response(struct ike_sa *sa, struct ike_in *in)
{
	struct outcome o = { .nonce = SPAN_NONE };
	uint16_t error;

	sa->stats.n_in++;
	if (try_again(sa, in))
		return;
	error = ike_notify_error(&in->chain);
	if (error) {
		/* 2.21.1: anybody could have written it. Remembered, and said if nothing better comes. */
		ike_suspect(sa, in->now_us,
			    error == IKE_N_NO_PROPOSAL_CHOSEN ? IKE_FAIL_NO_PROPOSAL : IKE_FAIL_PROTOCOL, error);
		return;
	}
	if (response_read(sa, in, &o) != OK || auth_send(sa, in, &o, sa->setup) != OK)
		ike_keys_done(&o.keys);
}

/* ---- responder ---- */

/* An unprotected answer that leaves no state: the window waits for IKE_SA_INIT as before. */
static void answer_plain(struct ike_sa *sa, const struct ike_in *in, uint16_t type, struct span data)
{
	struct ike_header h = { .spi_i = in->h.spi_i, .exchange = IKE_SA_INIT, .is_response = true };
	uint8_t mem[128];
	struct ike_build b;
	struct span msg;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_notify(&b, type, data);
	if (ike_build_done(&b, &msg) == OK)
		ike_send(sa, in->path, msg);
}

/* CERTREQ (3.7): SHA-1 over a trusted CA's key. Whom we trust is in the descriptions, but stock peers send
 * their certificate only when asked, and take the list only when it is not empty: our own key stands there. */
void ike_build_certreq(const struct ike_sa *sa, struct ike_build *b)
{
	uint8_t hash[HASH_MAX];

	if (hash_of(HASH_SHA1, identity_spki(sa->cfg.identity), hash) != OK)
		return; /* it is only a hint */
	ike_build_open(b, IKE_P_CERTREQ);
	wr_u8(&b->w, IKE_CERT_X509_SIGNATURE);
	wr_bytes(&b->w, hash, hash_size(HASH_SHA1));
	if (sa->setup->ca && hash_of(HASH_SHA1, cert_anchor_spki(sa->setup->ca), hash) == OK)
		wr_bytes(&b->w, hash, hash_size(HASH_SHA1));
}

/* The request as far as it needs no answer of its own. ERR_DENIED: it got one, or is to be dropped. */
static enum err request_read(struct ike_sa *sa, const struct ike_in *in, struct outcome *ret, struct ike_ke *ret_ke,
			     uint8_t *ret_number)
{
	const struct ike_payload *psa = ike_chain_find(&in->chain, IKE_P_SA),
				 *pke = ike_chain_find(&in->chain, IKE_P_KE),
				 *pn = ike_chain_find(&in->chain, IKE_P_NONCE);
	const struct ike_proposal *p;
	struct ike_offer offer;
	uint8_t group[2];
	enum err e;

	if (!psa || !pke || !pn)
		return ERR_MALFORMED;
	if (!binding_ok(sa, &in->chain)) {
		ike_suspect(sa, in->now_us, IKE_FAIL_BINDING, 0);
		return ERR_DENIED;
	}
	if (!ike_nat_ok(sa, in)) {
		ike_suspect(sa, in->now_us, IKE_FAIL_NAT, 0);
		return ERR_DENIED;
	}
	if (in->chain.unknown_critical) {
		answer_plain(sa, in, IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD, span_of(&in->chain.unknown_critical, 1));
		return ERR_DENIED;
	}
	e = ike_offer_parse(psa->body, &offer);
	if (e == OK)
		e = ike_ke_parse(pke->body, ret_ke);
	if (e == OK)
		e = ike_nonce_parse(pn->body, &ret->nonce);
	if (e != OK)
		return e;
	if (ike_proposal_choose(&sa->cfg.ike, &offer, IKE_PROTO_IKE, ret_ke->group, &ret->suite, &p) != OK) {
		ike_suspect(sa, in->now_us, IKE_FAIL_NO_PROPOSAL, IKE_N_NO_PROPOSAL_CHOSEN);
		answer_plain(sa, in, IKE_N_NO_PROPOSAL_CHOSEN, SPAN_NONE);
		return ERR_DENIED;
	}
	if (ret_ke->group != ret->suite.group->id) {
		put_be16(group, ret->suite.group->id);
		answer_plain(sa, in, IKE_N_INVALID_KE_PAYLOAD, SPAN_OF(group));
		return ERR_DENIED;
	}
	*ret_number = p->number;
	return ike_nonce_suits(&ret->suite, ret->nonce) ? OK : ERR_MALFORMED;
}

static enum err response_build(const struct ike_sa *sa, const struct ike_in *in, const struct ike_setup *s,
			       const struct ike_suite *suite, uint8_t number, const struct kex *kex,
			       struct ike_build *b, struct span *ret)
{
	struct ike_header h = ike_header_of(sa, IKE_SA_INIT, true, 0);
	enum err e;

	ike_build_start(b, b->w.p, b->w.cap, &h);
	ike_build_choice(b, IKE_PROTO_IKE, number, SPAN_NONE, suite);
	ike_build_ke(b, suite->group->id, kex_public(kex));
	ike_build_bytes(b, IKE_P_NONCE, span_of(s->nr, s->nr_len));
	e = ike_build_nat_detection(sa, b, sa->spi_r, in->path);
	if (e != OK)
		return e;
	if (!sa->cfg.psk.len)
		ike_build_certreq(sa, b);
	/* RFC 6023, 3: IKE_AUTH may come without a Child SA */
	ike_build_notify(b, IKE_N_CHILDLESS_IKEV2_SUPPORTED, SPAN_NONE);
	if (sa->cfg.ppk.len && s->use_ppk)
		ike_build_notify(b, IKE_N_USE_PPK, SPAN_NONE);
	if (s->digital) /* RFC 7427, 4: only to a peer that sent it */
		ike_build_notify(b, IKE_N_SIGNATURE_HASH_ALGORITHMS, ike_hash_algorithms());
	if (sa->takes_fragments) /* RFC 7383, 2.3: the same */
		ike_build_notify(b, IKE_N_FRAGMENTATION_SUPPORTED, SPAN_NONE);
	vendor_and_binding(sa, b);
	return ike_build_done(b, ret);
}

static void request_commit(struct ike_sa *sa, const struct ike_in *in, struct outcome *o, struct span msg)
{
	sa->suite = o->suite;
	sa->keys = o->keys;
	secret_wipe(&o->keys, sizeof(o->keys));
	sa->suspect = IKE_FAIL_NONE;
	sa->suspect_notify = 0;
	sa->limit_us = in->now_us + IKE_HALF_OPEN_US;
	sa->last_in_us = in->now_us;
	if (!sa->path_set) {
		sa->path = *in->path;
		sa->has_path = true;
	}
	log_info(&sa->log, "IKE suite %s", ike_suite_text(&sa->suite, (char[IKE_SUITE_TEXT]){ 0 }));
	ike_enter(sa, IKE_INIT_DONE, "IKE_SA_INIT answered");
	ike_send(sa, in->path, msg);
}

static enum err request_answer(struct ike_sa *sa, const struct ike_in *in, struct outcome *o, const struct ike_ke *ke,
			       uint8_t number)
{
	struct ike_setup *s = sa->setup;
	uint8_t mem[INIT_MAX], shared[KEX_SHARED_MAX], hash[32];
	struct ike_build b = { .w = wr_of(mem, sizeof(mem)) };
	struct kex *kex = NULL;
	struct ike_notify n;
	struct span msg;
	enum err e = kex_new(o->suite.group->kex, sa->cfg.rng, &kex);

	s->ni_len = o->nonce.len;
	memcpy(s->ni, o->nonce.p, o->nonce.len);
	s->nr_len = IKE_NONCE_OURS;
	rng_fill(sa->cfg.rng, s->nr, s->nr_len);
	s->digital =
		ike_notify_find(&in->chain, IKE_N_SIGNATURE_HASH_ALGORITHMS, &n) && ike_hash_algorithms_suit(n.data);
	sa->takes_fragments = ike_notify_find(&in->chain, IKE_N_FRAGMENTATION_SUPPORTED, &n);
	s->use_ppk = ike_notify_find(&in->chain, IKE_N_USE_PPK, &n);
	sa->spi_i = in->h.spi_i;
	if (e == OK)
		e = kex_shared(kex, ke->value, shared);
	o->keys.keep = sa->cfg.export_keys;
	if (e == OK)
		e = ike_keys_derive(&o->suite, sa->cfg.rng, false, o->nonce, span_of(s->nr, s->nr_len),
				    span_of(shared, kex_shared_size(o->suite.group->kex)), sa->spi_i, sa->spi_r,
				    &o->keys);
	if (e == OK)
		e = response_build(sa, in, s, &o->suite, number, kex, &b, &msg);
	if (e == OK)
		e = ike_copy(in->msg, &s->init_i, &s->init_i_len);
	if (e == OK)
		e = ike_copy(msg, &s->init_r, &s->init_r_len);
	if (e == OK)
		e = ike_in_hash(in, hash);
	if (e == OK)
		e = ike_window_respond(&sa->window, hash, msg);
	if (e == OK)
		request_commit(sa, in, o, msg);
	else
		sa->spi_i = 0;
	kex_free(kex);
	secret_wipe(shared, sizeof(shared));
	return e;
}

void ike_init_request(struct ike_sa *sa, struct ike_in *in)
{
	struct outcome o = { .nonce = SPAN_NONE };
	struct ike_ke ke;
	uint8_t number;

	sa->stats.n_in++;
	if (request_read(sa, in, &o, &ke, &number) != OK || request_answer(sa, in, &o, &ke, number) != OK)
		ike_keys_done(&o.keys);
}
