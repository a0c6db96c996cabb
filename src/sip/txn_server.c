/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Server transactions: RFC 3261, 17.2, and RFC 6026, 7.1. */
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "sip/txn_impl.h"

#define SIP_PORT 5060

struct path sip_reply_path(const struct path *path, const struct sip_msg *rq)
{
	struct path p = *path;

	if (p.transport == TRANSPORT_UDP && !rq->via.has_rport)
		p.remote.port = rq->via.port ? rq->via.port : SIP_PORT;
	return p;
}

static bool has_cookie(const struct sip_msg *m)
{
	return span_starts(m->via.branch, "z9hG4bK") && m->via.branch.len > 7;
}

/* 17.2.3: branch, sent-by and method, ACK counting as INVITE; without the cookie the fields that RFC 2543 names, the To tag
 * left out because an ACK has the answer's. `method` is the one looked for: CANCEL looks for INVITE (9.2). */
static void server_key(struct wr *w, const struct sip_msg *m, enum sip_method method)
{
	wr_u8(w, has_cookie(m) ? 's' : 'o');
	wr_u8(w, (uint8_t)method);
	if (method == SIP_UNKNOWN)
		wr_lp(w, m->method_text);
	if (has_cookie(m)) {
		wr_lp(w, m->via.branch);
		wr_u16(w, m->via.port);
		for (size_t i = 0; i < m->via.host.len; i++)
			wr_u8(w, ascii_lower(m->via.host.p[i]));
		return;
	}
	wr_lp(w, m->uri_text);
	wr_lp(w, m->from_tag);
	wr_lp(w, m->call_id);
	wr_u32(w, m->cseq);
	wr_lp(w, m->via.text);
}

/* NULL: out of memory. The caller frees w->p. */
static bool key_make(struct wr *w, const struct sip_msg *m, enum sip_method method)
{
	size_t cap = m->via.branch.len + m->via.host.len + m->via.text.len + m->uri_text.len + m->from_tag.len +
		     m->call_id.len + m->method_text.len + 64;
	uint8_t *mem = malloc(cap);

	*w = wr_of(mem, mem ? cap : 0);
	if (mem)
		server_key(w, m, method);
	return mem && !w->bad;
}

static struct sip_txn *find(struct sip_txns *t, const struct sip_msg *m, enum sip_method method)
{
	struct sip_txn *x = NULL;
	struct wr w;

	if (key_make(&w, m, method))
		x = table_find(t->by_key, wr_done(&w));
	free(w.p);
	return x;
}

struct sip_txn *sip_txn_of_cancel(struct sip_txns *t, const struct sip_msg *cancel)
{
	return find(t, cancel, SIP_INVITE);
}

/* The To tag of the answer that was given: an ACK of RFC 2543 has it (17.2.3). */
static bool answer_has_tag(const struct sip_txn *x, struct span tag)
{
	struct sip_msg *m = malloc(sizeof(*m));
	const char *why;
	unsigned status;
	bool same = m && sip_parse(span_of(x->bytes, x->len), m, &why, &status) == OK && span_eq(m->to_tag, tag);

	free(m);
	return same;
}

/* True: the ACK belongs to x and is dealt with. */
static bool ack_input(struct sip_txn *x, uint64_t now_us, const struct sip_msg *ack)
{
	/* RFC 6026, 6: in Accepted it acknowledges a 2xx, which is the user's business. */
	if (x->state == TXN_ACCEPTED)
		return false;
	if (x->state != TXN_COMPLETED)
		return true;
	if (x->is_2543 && !answer_has_tag(x, ack->to_tag))
		return false;
	timer_disarm(x->t->timers, &x->again);
	timer_disarm(x->t->timers, &x->end);
	txn_over(x, SIP_TXN_ACKED, false);
	txn_enter(x, TXN_CONFIRMED);
	if (txn_reliable(x))
		txn_end(x);
	else
		txn_arm(x, &x->end, now_us + SIP_T4_US); /* I */
	return true;
}

static void begin(struct sip_txns *t, const struct path *path, const struct sip_msg *m, struct span key)
{
	struct path reply = sip_reply_path(path, m);
	struct txn_request *copy = malloc(sizeof(*copy) + m->raw.len);
	struct sip_txn *x;
	const char *why;
	unsigned status;

	if (!copy)
		return;
	if (m->raw.len)
		memcpy(copy->bytes, m->raw.p, m->raw.len);
	if (sip_parse(span_of(copy->bytes, m->raw.len), &copy->msg, &why, &status) != OK ||
	    txn_new(t, false, m->method, &reply, key, &x) != OK) {
		free(copy);
		return;
	}
	x->request = copy;
	x->is_2543 = !has_cookie(m);
	x->ev_request.ev =
		(struct sip_txn_event){ .kind = SIP_TXN_REQUEST, .txn = x, .path = *path, .msg = &copy->msg };
	txn_queue(t, &x->ev_request);
}

void txn_server_request(struct sip_txns *t, uint64_t now_us, const struct path *path, const struct sip_msg *m)
{
	struct sip_txn *x;
	struct wr w;

	if (m->method == SIP_ACK) {
		x = find(t, m, SIP_INVITE);
		if (!x || !ack_input(x, now_us, m))
			(void)txn_queue_msg(t, SIP_TXN_REQUEST, NULL, path, m);
		return;
	}
	if (key_make(&w, m, m->method)) {
		x = table_find(t->by_key, wr_done(&w));
		if (!x)
			begin(t, path, m, wr_done(&w));
		else if (x->len && x->state != TXN_ACCEPTED && x->state != TXN_CONFIRMED)
			txn_repeat(x, x->bytes, x->len);
	}
	free(w.p);
}

/* Timer G. */
void txn_server_again(void *arg, uint64_t now_us)
{
	struct sip_txn *x = arg;

	txn_repeat(x, x->bytes, x->len);
	x->interval_us = x->interval_us * 2 < SIP_T2_US ? x->interval_us * 2 : SIP_T2_US;
	txn_arm(x, &x->again, now_us + x->interval_us);
}

/* Timers H, I, J, L. */
void txn_server_end(void *arg, uint64_t now_us)
{
	struct sip_txn *x = arg;

	(void)now_us;
	if (x->method == SIP_INVITE && x->state == TXN_COMPLETED)
		txn_over(x, SIP_TXN_ACKED, true);
	txn_end(x);
}

enum err sip_txn_respond(struct sip_txn *x, uint64_t now_us, unsigned status, struct span bytes)
{
	enum err e;

	if (x->is_client || status < 100 || status > 699)
		return ERR_WRONG_STATE;
	if (x->state == TXN_ACCEPTED) {
		if (status < 200 || status > 299)
			return ERR_WRONG_STATE;
		x->t->n_retransmitted += span_eq(bytes, span_of(x->bytes, x->len));
		return txn_send(x, bytes.p, bytes.len);
	}
	if (x->state != TXN_TRYING && x->state != TXN_PROCEEDING)
		return ERR_WRONG_STATE;
	e = txn_keep(&x->bytes, &x->len, bytes);
	if (e != OK)
		return e;
	/* An answer that finds the queue full goes out with the next repeat. */
	(void)!txn_send(x, x->bytes, x->len);
	if (status < 200) {
		txn_enter(x, TXN_PROCEEDING);
	} else if (x->method != SIP_INVITE) {
		txn_enter(x, TXN_COMPLETED);
		if (txn_reliable(x))
			txn_end(x);
		else
			txn_arm(x, &x->end, now_us + 64 * SIP_T1_US); /* J */
	} else if (status < 300) {
		txn_enter(x, TXN_ACCEPTED);
		txn_arm(x, &x->end, now_us + 64 * SIP_T1_US); /* L */
	} else {
		txn_enter(x, TXN_COMPLETED);
		x->interval_us = SIP_T1_US;
		txn_arm(x, &x->end, now_us + 64 * SIP_T1_US); /* H */
		if (!txn_reliable(x))
			txn_arm(x, &x->again, now_us + SIP_T1_US); /* G */
	}
	return OK;
}
