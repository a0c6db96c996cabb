/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Client transactions: RFC 3261, 17.1, and RFC 6026, 7.2. */
#include <stdlib.h>
#include <string.h>
#include "sip/txn_impl.h"

/* 17.1.1.2: at least 32 s, whatever T1 is. */
#define TIMER_D_US SECONDS(32)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void txn_client_key(struct wr *w, struct span branch, enum sip_method method)
{
	wr_u8(w, 'c');
	wr_u8(w, (uint8_t)method);
	wr_span(w, branch);
}

enum err sip_txn_request(struct sip_txns *t, uint64_t now_us, const struct path *path, enum sip_method method,
			 const char *branch, struct span bytes, void *owner, struct sip_txn **ret)
{
	uint8_t key[SIP_BRANCH_TEXT + 8];
	struct wr w = wr_of(key, sizeof(key));
	struct sip_txn *x;
	enum err e;

	txn_client_key(&w, span_str(branch), method);
	if (w.bad)
		return ERR_LIMIT;
	e = txn_new(t, true, method, path, wr_done(&w), &x);
	if (e != OK)
		return e;
	x->owner = owner;
	x->interval_us = SIP_T1_US;
	e = txn_keep(&x->bytes, &x->len, bytes);
	/* B and F are 64*T1 over every transport; A and E run where a datagram can be lost. */
	if (e == OK)
		e = timer_arm(t->timers, &x->end, now_us + 64 * SIP_T1_US);
	if (e == OK && !txn_reliable(x))
		e = timer_arm(t->timers, &x->again, now_us + SIP_T1_US);
	if (e == OK)
		e = txn_send(x, x->bytes, x->len);
	if (e != OK) {
		txn_free(x);
		return e;
	}
	*ret = x;
	return OK;
}

/* Timers A and E. */
void txn_client_again(void *arg, uint64_t now_us)
{
	struct sip_txn *x = arg;

	txn_repeat(x, x->bytes, x->len);
	if (x->state == TXN_CALLING)
		x->interval_us *= 2; /* 17.1.1.2: A doubles without a cap; B stops it */
	else if (x->state == TXN_TRYING)
		x->interval_us = min_u64(x->interval_us * 2, SIP_T2_US);
	else
		x->interval_us = SIP_T2_US; /* 17.1.2.2: E in Proceeding */
	txn_arm(x, &x->again, now_us + x->interval_us);
}

/* Timers B and F, and D, K, M, whose end nobody needs to know. */
void txn_client_end(void *arg, uint64_t now_us)
{
	struct sip_txn *x = arg;

	(void)now_us;
	if (!x->answered)
		txn_over(x, SIP_TXN_TIMEOUT, true);
	txn_end(x);
}

/* 17.1.1.3: the ACK to a non-2xx: same Request-URI, top Via, Call-ID, From, number and Route as the INVITE, the To of the answer. */
static enum err ack_build(struct sip_txn *x, const struct sip_msg *answer)
{
	struct sip_msg *rq = malloc(sizeof(*rq));
	size_t cap = x->len + answer->raw.len + 256;
	uint8_t *mem = malloc(cap);
	struct wr w = wr_of(mem, mem ? cap : 0);
	const struct sip_header *h;
	const char *why;
	unsigned status, at = 0;
	enum err e = ERR_NOMEM;

	if (!rq || !mem)
		goto out;
	e = sip_parse(span_of(x->bytes, x->len), rq, &why, &status);
	if (e != OK)
		goto out;
	sip_write_request(&w, "ACK", rq->uri_text);
	sip_write_header(&w, H_VIA, rq->via.text);
	sip_write_headerf(&w, H_MAX_FORWARDS, "70");
	while ((h = sip_header_next(rq, H_ROUTE, &at)))
		sip_write_header(&w, H_ROUTE, h->value);
	sip_write_header(&w, H_FROM, sip_value(rq, H_FROM));
	sip_write_header(&w, H_TO, sip_value(answer, H_TO));
	sip_write_header(&w, H_CALL_ID, rq->call_id);
	sip_write_headerf(&w, H_CSEQ, "%u ACK", (unsigned)rq->cseq);
	sip_write_end(&w, NULL, SPAN_NONE);
	e = w.bad ? ERR_LIMIT : txn_keep(&x->ack, &x->ack_len, wr_done(&w));
out:
	free(rq);
	free(mem);
	return e;
}

static void invite_final(struct sip_txn *x, uint64_t now_us, const struct path *path, const struct sip_msg *m)
{
	struct timers *timers = x->t->timers;

	/* What cannot be acknowledged for lack of memory was not received: it is repeated. */
	if (m->status >= 300 && ack_build(x, m) != OK)
		return;
	if (!txn_queue_msg(x->t, SIP_TXN_RESPONSE, x, path, m))
		return;
	timer_disarm(timers, &x->again);
	timer_disarm(timers, &x->end);
	if (m->status < 300) {
		txn_enter(x, TXN_ACCEPTED);
		txn_arm(x, &x->end, now_us + 64 * SIP_T1_US); /* M: for further 2xx of other branches */
		return;
	}
	txn_enter(x, TXN_COMPLETED);
	(void)!txn_send(x, x->ack, x->ack_len); /* a repeated answer brings it out again */
	if (txn_reliable(x))
		txn_end(x);
	else
		txn_arm(x, &x->end, now_us + TIMER_D_US);
}

static void invite_response(struct sip_txn *x, uint64_t now_us, const struct path *path, const struct sip_msg *m)
{
	switch (x->state) {
	case TXN_CALLING:
	case TXN_PROCEEDING:
		if (m->status >= 200) {
			invite_final(x, now_us, path, m);
		} else if (txn_queue_msg(x->t, SIP_TXN_RESPONSE, x, path, m)) {
			timer_disarm(x->t->timers, &x->again);
			timer_disarm(x->t->timers, &x->end);
			txn_enter(x, TXN_PROCEEDING);
		}
		break;
	case TXN_ACCEPTED:
		if (m->status >= 200 && m->status < 300)
			(void)txn_queue_msg(x->t, SIP_TXN_RESPONSE, x, path, m);
		break;
	case TXN_COMPLETED:
		if (m->status >= 300)
			txn_repeat(x, x->ack, x->ack_len);
		break;
	default: break;
	}
}

void txn_client_input(struct sip_txn *x, uint64_t now_us, const struct path *path, const struct sip_msg *m)
{
	if (x->method == SIP_INVITE) {
		invite_response(x, now_us, path, m);
		return;
	}
	if (x->state == TXN_COMPLETED || !txn_queue_msg(x->t, SIP_TXN_RESPONSE, x, path, m))
		return;
	if (m->status < 200) {
		txn_enter(x, TXN_PROCEEDING); /* E goes on, at T2 from its next time on */
		return;
	}
	timer_disarm(x->t->timers, &x->again);
	timer_disarm(x->t->timers, &x->end);
	txn_enter(x, TXN_COMPLETED);
	if (txn_reliable(x))
		txn_end(x);
	else
		txn_arm(x, &x->end, now_us + SIP_T4_US); /* K */
}
