/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* An SA's fragments (RFC 7383): one message a direction is put together at a time, of the one ID that is expected. A fragment is
 * authentic before anything of it is kept. */
#include "ike/sa_impl.h"

#include "crypto/secret.h"

enum err ike_seal(const struct ike_sa *sa, struct ike_keys *keys, struct ike_build *b, struct span *ret)
{
	return sa->takes_fragments ? ike_fragment_seal(b, &keys->out, ret) : ike_build_seal(b, &keys->out, ret);
}

enum err ike_fragment_take(struct ike_sa *sa, struct ike_in *in, const struct ike_payload *skf,
			   uint8_t plain[IKE_MSG_MAX], struct ike_parts **ret_whole, struct span *ret,
			   uint8_t *ret_first)
{
	struct ike_parts **parts = &sa->parts[in->h.is_response];
	struct ike_fragment f;
	struct span content;
	enum err e = ike_fragment_parse(skf->body, &f);

	if (e != OK)
		return e;
	if (!ike_parts_wants(*parts, &in->h, &f)) {
		sa->stats.n_duplicate++;
		return ERR_NOTFOUND;
	}
	e = ike_sk_open(&sa->keys.in, in->msg, skf, plain, &content);
	if (e != OK)
		return e;
	sa->last_in_us = in->now_us; /* a sign of life, and only now: what is not wanted was not looked at */
	e = ike_parts_add(parts, in->now_us, in->msg, &in->h, &f, skf->next, content);
	if (e == OK && !ike_parts_complete(*parts))
		return ERR_NOTFOUND;
	if (e == OK)
		e = ike_parts_join(*parts, plain, IKE_MSG_MAX, ret);
	if (e != OK)
		return e;
	*ret_whole = *parts;
	*parts = NULL;
	*ret_first = (*ret_whole)->first;
	in->msg = span_of((*ret_whole)->head, (*ret_whole)->head_len);
	return OK;
}

/* 2.5.2: a peer that looks for the path's MTU repeats its request in other, smaller fragments. 2.6.1: the first of them, and it
 * alone, asks for the answer once more. */
bool ike_fragment_again(struct ike_sa *sa, const struct ike_in *in, struct span *ret_response)
{
	const struct ike_window *w = &sa->window;
	uint8_t plain[IKE_MSG_MAX];
	const struct ike_payload *skf;
	struct ike_fragment f;
	struct ike_chain chain;
	struct span content;
	enum err e;

	if (!sa->takes_fragments || !sa->keys.in.cipher || !w->response || in->h.exchange == IKE_SA_INIT ||
	    in->h.message_id != w->next_in - 1 ||
	    ike_chain_parse(span_from(in->msg, IKE_HDR), in->h.next, &chain) != OK)
		return false;
	skf = ike_chain_find(&chain, IKE_P_SKF);
	if (!skf || ike_fragment_parse(skf->body, &f) != OK || f.number != 1)
		return false;
	e = ike_sk_open(&sa->keys.in, in->msg, skf, plain, &content);
	secret_wipe(plain, sizeof(plain));
	*ret_response = span_of(w->response, w->response_len);
	return e == OK;
}

void ike_fragments_drop(struct ike_sa *sa)
{
	for (unsigned i = 0; i < 2; i++) {
		ike_parts_free(sa->parts[i]);
		sa->parts[i] = NULL;
	}
}

void ike_fragments_tick(struct ike_sa *sa, uint64_t now_us)
{
	for (unsigned i = 0; i < 2; i++)
		if (sa->parts[i] && now_us >= sa->parts[i]->until_us) {
			ike_parts_free(sa->parts[i]);
			sa->parts[i] = NULL;
		}
}

uint64_t ike_fragments_deadline_us(const struct ike_sa *sa)
{
	uint64_t t = TIME_NEVER;

	for (unsigned i = 0; i < 2; i++)
		if (sa->parts[i] && sa->parts[i]->until_us < t)
			t = sa->parts[i]->until_us;
	return t;
}
