/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What moves an SA: its owner's calls, datagrams, and time. */
#include "ike/sa_impl.h"

#include "crypto/secret.h"

enum err ike_sa_start(struct ike_sa *sa, uint64_t now_us, const struct path *path)
{
	if (sa->state != IKE_IDLE)
		return ERR_WRONG_STATE;
	ike_sa_set_path(sa, path);
	sa->last_in_us = now_us;
	return ike_init_start(sa, now_us);
}

void ike_sa_delete(struct ike_sa *sa, uint64_t now_us)
{
	if (sa->state == IKE_DEAD || sa->want_delete)
		return;
	sa->want_delete = true;
	ike_events_drop(&sa->events);
	ike_tasks_drop(sa);
	/* Only an SA that the peer may hold to be up is worth a Delete. While IKE_AUTH is out it is sent
	 * once the answer is there. */
	if (sa->state == IKE_UP)
		ike_tasks_run(sa, now_us);
	else if (sa->state != IKE_AUTH_SENT)
		ike_close(sa, "deleted before it was up");
}

void ike_sa_probe(struct ike_sa *sa, uint64_t now_us)
{
	struct ike_task *t;

	/* a request that is out, or waits, is a probe already */
	if (sa->state != IKE_UP || sa->task || sa->queue)
		return;
	if (ike_task_add(sa, IKE_TASK_PROBE, &t) == OK)
		ike_tasks_run(sa, now_us);
}

/* ---- datagrams ---- */

bool ike_spis_match(const struct ike_sa *sa, const struct ike_header *h)
{
	if (h->from_initiator == sa->from_initiator)
		return false;
	if (sa->from_initiator)
		return h->spi_i == sa->spi_i && (!sa->spi_r || h->spi_r == sa->spi_r);
	if (h->exchange == IKE_SA_INIT)
		return !h->spi_r && (!sa->spi_i || h->spi_i == sa->spi_i);
	return h->spi_i == sa->spi_i && h->spi_r == sa->spi_r;
}

/* Which exchanges a state takes as a request of the peer. */
static bool takes_request(const struct ike_sa *sa, uint8_t exchange)
{
	switch (sa->state) {
	case IKE_LISTENING: return exchange == IKE_SA_INIT;
	case IKE_INIT_DONE: return exchange == IKE_AUTH;
	case IKE_UP:
	case IKE_REPLACED:
	case IKE_CLOSING: return exchange == IKE_CREATE_CHILD_SA || exchange == IKE_INFORMATIONAL;
	default: return false;
	}
}

/* The exchange of the request that is out. */
static bool takes_response(const struct ike_sa *sa, uint8_t exchange)
{
	switch (sa->state) {
	case IKE_INIT_SENT: return exchange == IKE_SA_INIT;
	case IKE_AUTH_SENT: return exchange == IKE_AUTH;
	case IKE_UP:
	case IKE_CLOSING: return exchange == ike_task_exchange(sa);
	default: return false;
	}
}

/* True: go on with it. */
static bool in_order(struct ike_sa *sa, const struct ike_in *in)
{
	struct span response;

	if (in->h.is_response) {
		if (ike_window_expects(&sa->window, in->h.message_id) && takes_response(sa, in->h.exchange))
			return true;
		sa->stats.n_duplicate++;
		return false;
	}
	switch (ike_window_request(&sa->window, in->h.message_id, in->msg, &response)) {
	case IKE_IN_NEW:
		if (takes_request(sa, in->h.exchange))
			return true;
		sa->stats.n_stray++;
		return false;
	case IKE_IN_AGAIN:
		sa->stats.n_duplicate++;
		ike_send(sa, in->path, response);
		return false;
	default:
		sa->stats.n_duplicate++;
		if (ike_fragment_again(sa, in, &response))
			ike_send(sa, in->path, response);
		return false;
	}
}

/* 2.21.3: a malformed message that is authentic is answered and ends the SA; an unknown critical payload is
 * refused, and the SA stays unless it was just being made. True: the message is fine. */
static bool content_ok(struct ike_sa *sa, struct ike_in *in, struct span inner, uint8_t first)
{
	enum err e = ike_chain_parse(inner, first, &in->chain);

	if (e == OK)
		e = ike_chain_check(&in->chain);
	if (e == OK && !in->chain.unknown_critical)
		return true;
	if (e != OK) {
		sa->stats.n_malformed++;
		if (in->h.is_response || ike_respond_notify(sa, in, IKE_N_INVALID_SYNTAX, SPAN_NONE) == OK)
			ike_fail_rules(sa, IKE_N_INVALID_SYNTAX);
		return false;
	}
	if (!in->h.is_response && ike_respond_notify(sa, in, IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD,
						     span_of(&in->chain.unknown_critical, 1)) != OK)
		return false;
	if (in->h.is_response || sa->state == IKE_INIT_DONE)
		ike_fail_rules(sa, IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD);
	return false;
}

static void dispatch(struct ike_sa *sa, struct ike_in *in)
{
	switch (in->h.exchange) {
	case IKE_AUTH: in->h.is_response ? ike_auth_response(sa, in) : ike_auth_request(sa, in); break;
	case IKE_CREATE_CHILD_SA: in->h.is_response ? ike_child_response(sa, in) : ike_child_request(sa, in); break;
	default: in->h.is_response ? ike_info_response(sa, in) : ike_info_request(sa, in); break;
	}
	ike_tasks_run(sa, in->now_us);
}

static void protected_input(struct ike_sa *sa, struct ike_in *in)
{
	uint8_t plain[IKE_MSG_MAX];
	const struct ike_payload *sk;
	struct ike_parts *whole = NULL;
	struct span inner;
	uint8_t first;
	enum err e;

	if (ike_chain_parse(span_from(in->msg, IKE_HDR), in->h.next, &in->chain) != OK) {
		sa->stats.n_malformed++;
		return;
	}
	sk = ike_chain_find(&in->chain, IKE_P_SK);
	if (!sk && sa->takes_fragments)
		sk = ike_chain_find(&in->chain, IKE_P_SKF);
	if (!sk || !sa->keys.in.cipher) {
		sa->stats.n_stray++;
		return;
	}
	if (sk->type == IKE_P_SKF) {
		e = ike_fragment_take(sa, in, sk, plain, &whole, &inner, &first);
	} else {
		first = sk->next;
		e = ike_sk_open(&sa->keys.in, in->msg, sk, plain, &inner);
	}
	if (e == ERR_NOTFOUND) { /* more of it is to come */
		secret_wipe(plain, sizeof(plain));
		return;
	}
	if (e != OK) {
		if (e == ERR_AUTH)
			sa->stats.n_bad_auth++;
		else
			sa->stats.n_malformed++;
		secret_wipe(plain, sizeof(plain));
		return;
	}
	sa->stats.n_in++;
	sa->last_in_us = in->now_us;
	if (content_ok(sa, in, inner, first))
		dispatch(sa, in);
	ike_parts_free(whole);
	secret_wipe(plain, sizeof(plain));
}

void ike_sa_input(struct ike_sa *sa, uint64_t now_us, const struct path *path, struct span msg)
{
	struct ike_in in = { .now_us = now_us, .path = path, .msg = msg };

	if (msg.len > IKE_MSG_MAX || ike_header_parse(msg, &in.h) != OK) {
		sa->stats.n_malformed++;
		return;
	}
	/* after a rekeying both IKE SAs live for a while (2.8) */
	if (!ike_spis_match(sa, &in.h) && ike_old_find(sa, &in.h))
		sa = ike_old_find(sa, &in.h);
	if (!ike_spis_match(sa, &in.h)) {
		sa->stats.n_stray++;
		return;
	}
	if (!in_order(sa, &in))
		return;
	if (in.h.exchange != IKE_SA_INIT)
		protected_input(sa, &in);
	else if (ike_chain_parse(span_from(msg, IKE_HDR), in.h.next, &in.chain) != OK ||
		 ike_chain_check(&in.chain) != OK)
		sa->stats.n_malformed++;
	else if (in.h.is_response)
		ike_init_response(sa, &in);
	else
		ike_init_request(sa, &in);
}

/* ---- time ---- */

static uint64_t dpd_us(const struct ike_sa *sa)
{
	/* a request that is out, or waits, will tell */
	if (!sa->cfg.dpd_s || sa->state != IKE_UP || sa->window.waiting || sa->queue)
		return TIME_NEVER;
	return sa->last_in_us + SECONDS(sa->cfg.dpd_s);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t ike_sa_deadline_us(const struct ike_sa *sa)
{
	uint64_t t = earlier(sa->limit_us, sa->retry_us);

	/* while a retry for lack of memory is due, the liveness check waits for it */
	if (sa->retry_us == TIME_NEVER)
		t = earlier(t, dpd_us(sa));
	t = earlier(t, ike_tasks_deadline_us(sa));
	t = earlier(t, ike_old_deadline_us(sa));
	t = earlier(t, ike_life_deadline_us(sa));
	t = earlier(t, ike_fragments_deadline_us(sa));
	return earlier(t, ike_window_deadline_us(&sa->window));
}

static void no_answer(struct ike_sa *sa)
{
	if (sa->want_delete)
		ike_close(sa, "no answer to the end of retransmissions");
	else if (sa->state == IKE_INIT_SENT && sa->suspect != IKE_FAIL_NONE)
		ike_fail(sa, sa->suspect, sa->suspect_notify);
	else
		ike_fail(sa, IKE_FAIL_TIMEOUT, 0);
}

void ike_sa_tick(struct ike_sa *sa, uint64_t now_us)
{
	struct span again;

	ike_old_tick(sa, now_us);
	if (now_us >= sa->limit_us) {
		ike_fail(sa, sa->suspect != IKE_FAIL_NONE ? sa->suspect : IKE_FAIL_TIMEOUT, sa->suspect_notify);
		return;
	}
	ike_fragments_tick(sa, now_us);
	switch (ike_window_tick(&sa->window, now_us, &again)) {
	case IKE_DUE_RESEND:
		sa->stats.n_retransmitted++;
		ike_mobike_resend(sa, again);
		break;
	case IKE_DUE_FAILED: no_answer(sa); return;
	case IKE_DUE_NOTHING: break;
	}
	if (now_us >= sa->retry_us)
		sa->retry_us = TIME_NEVER;
	ike_life_tick(sa, now_us);
	if (now_us >= dpd_us(sa) && sa->retry_us == TIME_NEVER) {
		struct ike_task *t;

		if (!sa->queue && ike_task_add(sa, IKE_TASK_PROBE, &t) != OK)
			sa->retry_us = now_us + IKE_RETRY_US;
	}
	ike_tasks_run(sa, now_us);
}
