/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sip/txn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "sip/txn_impl.h"

#define BIT(n) (1u << (n))

static const unsigned may_enter[] = {
	[TXN_CALLING] = BIT(TXN_PROCEEDING) | BIT(TXN_ACCEPTED) | BIT(TXN_COMPLETED) | BIT(TXN_OVER),
	[TXN_TRYING] = BIT(TXN_PROCEEDING) | BIT(TXN_COMPLETED) | BIT(TXN_OVER),
	[TXN_PROCEEDING] = BIT(TXN_PROCEEDING) | BIT(TXN_ACCEPTED) | BIT(TXN_COMPLETED) | BIT(TXN_OVER),
	[TXN_ACCEPTED] = BIT(TXN_OVER),
	[TXN_COMPLETED] = BIT(TXN_CONFIRMED) | BIT(TXN_OVER),
	[TXN_CONFIRMED] = BIT(TXN_OVER),
	[TXN_OVER] = 0,
};

void txn_enter(struct sip_txn *x, enum txn_state to)
{
	assert(may_enter[x->state] & BIT(to));
	x->state = to;
	if (to == TXN_ACCEPTED || to == TXN_COMPLETED)
		x->answered = true;
}

bool txn_reliable(const struct sip_txn *x)
{
	return x->path.transport != TRANSPORT_UDP;
}

enum err sip_txns_new(const struct rng *rng, struct sip_txns **ret)
{
	struct sip_txns *t = calloc(1, sizeof(*t));

	if (!t)
		return ERR_NOMEM;
	t->rng = rng;
	t->tail = &t->head;
	t->by_key = table_new(SIP_TXNS_MAX, rng);
	t->timers = timers_new();
	t->out = outq_new(TXN_OUT_ITEMS, TXN_OUT_BYTES);
	if (!t->by_key || !t->timers || !t->out) {
		sip_txns_free(t);
		return ERR_NOMEM;
	}
	*ret = t;
	return OK;
}

static void node_release(struct txn_node *n)
{
	if (!n)
		return;
	if (!n->embedded)
		free(n);
	else if (n->ev.kind == SIP_TXN_ENDED)
		txn_free(n->ev.txn);
}

void sip_txns_free(struct sip_txns *t)
{
	if (!t)
		return;
	/* Messages first: embedded nodes go with their transactions. A lent SIP_TXN_ENDED is out of the list already. */
	for (struct txn_node *n = t->head, *next; n; n = next) {
		next = n->next;
		if (!n->embedded)
			free(n);
	}
	if (t->lent && !t->lent->embedded)
		free(t->lent);
	while (t->first)
		txn_free(t->first);
	table_free(t->by_key);
	timers_free(t->timers);
	outq_free(t->out);
	free(t);
}

void sip_branch(const struct rng *rng, char ret[SIP_BRANCH_TEXT])
{
	memcpy(ret, "z9hG4bK", 7);
	rng_text(rng, ret + 7, SIP_BRANCH_TEXT - 8);
}

/* ---- life ---- */

enum err txn_new(struct sip_txns *t, bool is_client, enum sip_method method, const struct path *path, struct span key,
		 struct sip_txn **ret)
{
	struct sip_txn *x = calloc(1, sizeof(*x));
	enum err e;

	if (!x)
		return ERR_NOMEM;
	x->t = t;
	x->is_client = is_client;
	x->method = method;
	x->path = *path;
	x->state = method != SIP_INVITE ? TXN_TRYING : is_client ? TXN_CALLING : TXN_PROCEEDING;
	x->again.arg = x->end.arg = x;
	x->again.fire = is_client ? txn_client_again : txn_server_again;
	x->end.fire = is_client ? txn_client_end : txn_server_end;
	x->ev_request.embedded = x->ev_over.embedded = x->ev_ended.embedded = true;
	e = txn_keep(&x->key, &x->key_len, key);
	if (e == OK)
		e = table_put(t->by_key, key, x);
	if (e != OK) {
		free(x->key);
		free(x);
		return e;
	}
	x->next = t->first;
	if (x->next)
		x->next->prev = x;
	t->first = x;
	t->n++;
	*ret = x;
	return OK;
}

void txn_free(struct sip_txn *x)
{
	struct sip_txns *t = x->t;

	if (table_find(t->by_key, span_of(x->key, x->key_len)) == x)
		(void)table_take(t->by_key, span_of(x->key, x->key_len));
	timer_disarm(t->timers, &x->again);
	timer_disarm(t->timers, &x->end);
	if (x->prev)
		x->prev->next = x->next;
	else
		t->first = x->next;
	if (x->next)
		x->next->prev = x->prev;
	t->n--;
	free(x->key);
	free(x->bytes);
	free(x->ack);
	free(x->request);
	free(x);
}

void txn_end(struct sip_txn *x)
{
	struct sip_txns *t = x->t;

	if (x->state == TXN_OVER)
		return;
	txn_enter(x, TXN_OVER);
	(void)table_take(t->by_key, span_of(x->key, x->key_len));
	timer_disarm(t->timers, &x->again);
	timer_disarm(t->timers, &x->end);
	x->ev_ended.ev = (struct sip_txn_event){ .kind = SIP_TXN_ENDED, .txn = x, .path = x->path };
	txn_queue(t, &x->ev_ended);
}

void txn_over(struct sip_txn *x, enum sip_txn_event_kind kind, bool timed_out)
{
	x->ev_over.ev = (struct sip_txn_event){ .kind = kind, .txn = x, .timed_out = timed_out, .path = x->path };
	txn_queue(x->t, &x->ev_over);
}

void txn_arm(struct sip_txn *x, struct timer *timer, uint64_t due_us)
{
	if (x->state == TXN_OVER || timer_arm(x->t->timers, timer, due_us) == OK)
		return;
	if (x->is_client && !x->answered)
		txn_over(x, SIP_TXN_TIMEOUT, true);
	txn_end(x);
}

enum err txn_keep(uint8_t **dst, size_t *dst_len, struct span bytes)
{
	uint8_t *p = malloc(bytes.len ? bytes.len : 1);

	if (!p)
		return ERR_NOMEM;
	if (bytes.len)
		memcpy(p, bytes.p, bytes.len);
	free(*dst);
	*dst = p;
	*dst_len = bytes.len;
	return OK;
}

enum err txn_send(struct sip_txn *x, const uint8_t *bytes, size_t len)
{
	return outq_push(x->t->out, OUT_SEND, &x->path, span_of(bytes, len));
}

void txn_repeat(struct sip_txn *x, const uint8_t *bytes, size_t len)
{
	x->t->n_retransmitted++;
	(void)!txn_send(x, bytes, len); /* a full queue is like a lost datagram: the next repeat follows */
}

/* ---- events ---- */

void txn_queue(struct sip_txns *t, struct txn_node *n)
{
	n->next = NULL;
	*t->tail = n;
	t->tail = &n->next;
}

bool txn_queue_msg(struct sip_txns *t, enum sip_txn_event_kind kind, struct sip_txn *x, const struct path *path,
		   const struct sip_msg *m)
{
	struct txn_msg_node *n;
	const char *why;
	unsigned status;

	if (t->n_msg_events >= TXN_MSG_EVENTS_MAX)
		return false;
	n = malloc(sizeof(*n) + m->raw.len);
	if (!n)
		return false;
	if (m->raw.len)
		memcpy(n->bytes, m->raw.p, m->raw.len);
	if (sip_parse(span_of(n->bytes, m->raw.len), &n->msg, &why, &status) != OK) {
		free(n);
		return false;
	}
	n->node.embedded = false;
	n->node.ev = (struct sip_txn_event){ .kind = kind, .txn = x, .path = *path, .msg = &n->msg };
	txn_queue(t, &n->node);
	t->n_msg_events++;
	return true;
}

bool sip_txns_poll_event(struct sip_txns *t, struct sip_txn_event *ret)
{
	for (;;) {
		struct txn_node *n = t->head;

		node_release(t->lent);
		t->lent = NULL;
		if (!n)
			return false;
		t->head = n->next;
		if (!t->head)
			t->tail = &t->head;
		t->lent = n;
		if (!n->embedded)
			t->n_msg_events--;
		if (n->ev.txn && n->ev.txn->forgotten)
			continue;
		*ret = n->ev;
		ret->owner = n->ev.txn ? n->ev.txn->owner : NULL;
		return true;
	}
}

bool sip_txns_poll_output(struct sip_txns *t, struct out *ret)
{
	return outq_poll(t->out, ret);
}

void sip_txns_tick(struct sip_txns *t, uint64_t now_us)
{
	timers_run(t->timers, now_us);
}

uint64_t sip_txns_deadline_us(const struct sip_txns *t)
{
	return timers_deadline_us(t->timers);
}

size_t sip_txns_len(const struct sip_txns *t)
{
	return t->n;
}

bool sip_txns_quiet(const struct sip_txns *t)
{
	for (const struct sip_txn *x = t->first; x; x = x->next)
		if (x->is_client && !x->answered && x->state != TXN_OVER)
			return false;
	return true;
}

uint64_t sip_txns_retransmitted(const struct sip_txns *t)
{
	return t->n_retransmitted;
}

/* ---- small ones ---- */

void sip_txn_forget(struct sip_txn *x)
{
	x->forgotten = true;
	x->owner = NULL;
	/* These two wait for something without a timer (17.1.1, 17.2): nobody would end them any more. */
	if (!x->answered && (!x->is_client || (x->method == SIP_INVITE && x->state == TXN_PROCEEDING)))
		txn_end(x);
}

void sip_txn_set_owner(struct sip_txn *x, void *owner)
{
	x->owner = owner;
}

void *sip_txn_owner(const struct sip_txn *x)
{
	return x->owner;
}

const struct path *sip_txn_path(const struct sip_txn *x)
{
	return &x->path;
}

enum sip_method sip_txn_method(const struct sip_txn *x)
{
	return x->method;
}

const struct sip_msg *sip_txn_request_msg(const struct sip_txn *x)
{
	return x->request ? &x->request->msg : NULL;
}

bool sip_txn_answered(const struct sip_txn *x)
{
	return x->answered;
}

enum err sip_txns_send(struct sip_txns *t, const struct path *path, struct span bytes)
{
	return outq_push(t->out, OUT_SEND, path, bytes);
}

enum err sip_txns_open(struct sip_txns *t, const struct path *path)
{
	return outq_push(t->out, OUT_OPEN, path, SPAN_NONE);
}

enum err sip_txns_close(struct sip_txns *t, const struct path *path)
{
	return outq_push(t->out, OUT_CLOSE, path, SPAN_NONE);
}

/* ---- input ---- */

void sip_txns_input(struct sip_txns *t, uint64_t now_us, const struct path *path, const struct sip_msg *m)
{
	uint8_t key[SIP_BRANCH_TEXT + 8];
	struct wr w = wr_of(key, sizeof(key));
	struct sip_txn *x;

	if (m->is_request) {
		txn_server_request(t, now_us, path, m);
		return;
	}
	/* 17.1.3. A branch that does not fit is none of ours. */
	txn_client_key(&w, m->via.branch, m->cseq_method);
	x = w.bad ? NULL : table_find(t->by_key, wr_done(&w));
	if (x)
		txn_client_input(x, now_us, path, m);
	else
		(void)txn_queue_msg(t, SIP_TXN_STRAY, NULL, path, m);
}

void sip_txns_stream_lost(struct sip_txns *t, uint64_t now_us, uint64_t stream)
{
	(void)now_us;
	for (struct sip_txn *x = t->first; x; x = x->next) {
		if (!x->is_client || x->path.stream != stream || !stream || x->answered || x->state == TXN_OVER)
			continue;
		txn_over(x, SIP_TXN_FAILED, false);
		txn_end(x);
	}
}
