/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/branch.c - one copy of a request to one device (RFC 3261, 16.6), its answers and its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/impl.h"

#define VIA_TEXT (ADDR_TEXT + SIP_BRANCH_TEXT + 40)
#define RECORD_ONE ((size_t)TOKEN_TEXT + ADDR_TEXT + 40)
#define RECORD_TEXT (2 * RECORD_ONE)

/* ---- forwarding ---- */

struct addr branch_sent_by(const struct exchange *x, const struct path *path)
{
	if (x->cfg->advertise.family == path->local.family && x->cfg->advertise.family != ADDR_NONE)
		return x->cfg->advertise;
	if (path->local.family == ADDR_NONE || addr_is_any(&path->local))
		return x->cfg->listen[0];
	return path->local;
}

static void via_write(const struct exchange *x, const struct path *to, const char *id, char ret[VIA_TEXT])
{
	struct addr own = branch_sent_by(x, to);
	char text[ADDR_TEXT];

	/* rport over datagrams: the answer comes back to the socket that asked, whatever lies between. */
	(void)snprintf(ret, VIA_TEXT, "SIP/2.0/%s %s%s;branch=%s", transport_name(to->transport),
		       addr_write(&own, text), to->transport == TRANSPORT_UDP ? ";rport" : "", id);
}

static size_t record_one(const struct exchange *x, const struct path *seen_by, const char *token, char *dst, size_t cap)
{
	struct addr own = branch_sent_by(x, seen_by);
	char text[ADDR_TEXT];
	int n = snprintf(dst, cap, "<sip:%s@%s%s;lr>", token, addr_write(&own, text),
			 seen_by->transport == TRANSPORT_TCP ? ";transport=tcp" : "");

	return n > 0 ? (size_t)n : 0;
}

/* 16.6 (4) and RFC 5658: one value, or one for each side where they reach us in different ways; the callee's is on top. */
static enum err record_write(struct exchange *x, const struct sip_msg *rq, const struct path *from,
			     const struct path *to, const struct token *record, char ret[RECORD_TEXT])
{
	char token[TOKEN_TEXT], other[RECORD_ONE];
	enum err e = token_write(x, record, rq->call_id, token);
	size_t n;

	if (e != OK)
		return e;
	n = record_one(x, to, token, ret, RECORD_TEXT);
	(void)record_one(x, from, token, other, sizeof(other));
	if (strcmp(ret, other) != 0)
		(void)snprintf(ret + n, RECORD_TEXT - n, ", %s", other);
	return OK;
}

struct span branch_forward(struct exchange *x, const struct sip_msg *rq, const struct path *from, const struct path *to,
			   struct span uri, const char *branch_id, unsigned n_pop, const struct token *record)
{
	struct wr w = wr_of(x->text, sizeof(x->text));
	char via[VIA_TEXT], rr[RECORD_TEXT];
	struct sip_edit e = {
		.request_uri = uri,
		.received = from->remote,
		.pop_route = n_pop,
		.max_forwards = rq->max_forwards < 0 ? 70 : rq->max_forwards - 1,
		.drop_proxy_authorization = true,
	};

	via_write(x, to, branch_id, via);
	e.push_via = span_str(via);
	if (record) {
		if (record_write(x, rq, from, to, record, rr) != OK)
			return SPAN_NONE;
		e.push_record_route = span_str(rr);
	}
	sip_write_edited(&w, rq, &e);
	return w.bad ? SPAN_NONE : wr_done(&w);
}

void branch_start(struct context *c, uint64_t now_us, const struct side *to, struct span uri,
		  const struct token *record)
{
	struct exchange *x = c->x;
	const struct sip_msg *rq = sip_txn_request_msg(c->server);
	struct branch *b = &c->b[c->n];
	struct span bytes;

	if (c->n == EXCHANGE_BRANCHES_MAX)
		return;
	*b = (struct branch){ .own = OWN_BRANCH, .ctx = c, .path = to->path, .uri = span_dup(uri) };
	c->n++;
	sip_branch(x->env.rng, b->id);
	bytes = b->uri ? branch_forward(x, rq, sip_txn_path(c->server), &b->path, uri, b->id, c->n_pop, record)
		       : SPAN_NONE;
	if (!bytes.len || sip_txn_request(x->txns, now_us, &b->path, rq->method, b->id, bytes, b, &b->txn) != OK) {
		b->txn = NULL;
		b->final = true;
		context_consider(c, b->uri && !bytes.len ? 513 : 500, SPAN_NONE);
		return;
	}
	x->stats.n_forwarded++;
}

/* ---- CANCEL ---- */

/* 9.1: Request-URI, Call-ID, To, From, number, Route and the topmost Via of the INVITE. */
static struct span cancel_build(const struct branch *b)
{
	struct exchange *x = b->ctx->x;
	const struct sip_msg *rq = sip_txn_request_msg(b->ctx->server);
	struct wr w = wr_of(x->text, sizeof(x->text));
	struct sip_walk walk = { .at = 0 };
	struct sip_nameaddr n;
	char via[VIA_TEXT];

	via_write(x, &b->path, b->id, via);
	sip_write_request(&w, "CANCEL", span_str(b->uri));
	sip_write_header(&w, H_VIA, span_str(via));
	sip_write_headerf(&w, H_MAX_FORWARDS, "70");
	for (unsigned i = 0; sip_walk_next(rq, H_ROUTE, &walk, &n) == OK; i++)
		if (i >= b->ctx->n_pop)
			sip_write_header(&w, H_ROUTE, n.text);
	sip_write_header(&w, H_FROM, sip_value(rq, H_FROM));
	sip_write_header(&w, H_TO, sip_value(rq, H_TO));
	sip_write_header(&w, H_CALL_ID, rq->call_id);
	sip_write_headerf(&w, H_CSEQ, "%u CANCEL", (unsigned)rq->cseq);
	sip_write_end(&w, NULL, SPAN_NONE);
	return w.bad ? SPAN_NONE : wr_done(&w);
}

static void cancel_send(struct branch *b, uint64_t now_us)
{
	struct sip_txn *txn;
	struct span bytes;

	/* Without the server transaction there is no copy of the request; the branch then ends by its own timer. */
	if (b->cancelled || b->final || !b->txn || !b->ctx->server)
		return;
	b->cancelled = true;
	bytes = cancel_build(b);
	if (bytes.len && sip_txn_request(b->ctx->x->txns, now_us, &b->path, SIP_CANCEL, b->id, bytes, NULL, &txn) == OK)
		sip_txn_forget(txn); /* its answer tells nothing that the INVITE's will not */
}

void branches_cancel(struct context *c, uint64_t now_us)
{
	if (sip_txn_method(c->server) != SIP_INVITE)
		return;
	for (unsigned i = 0; i < c->n; i++) {
		c->b[i].cancel_wanted = true;
		if (c->b[i].provisional) /* 9.1: not before a provisional answer */
			cancel_send(&c->b[i], now_us);
	}
	if (c->give_up_us > now_us + ABANDON_US)
		c->give_up_us = now_us + ABANDON_US;
}

/* ---- answers ---- */

/* The answer as it goes on (16.7, 3), in x->text. Empty: it is not one to this request, or does not fit. */
static struct span strip(const struct context *c, const struct sip_msg *m)
{
	const struct sip_msg *rq = sip_txn_request_msg(c->server);
	struct wr w = wr_of(c->x->text, sizeof(c->x->text));
	struct sip_edit e = { .pop_via = true, .max_forwards = -1 };

	if (m->n_vias < 2 || !span_eq(m->call_id, rq->call_id) || m->cseq != rq->cseq ||
	    !span_eq(m->from_tag, rq->from_tag))
		return SPAN_NONE;
	sip_write_edited(&w, m, &e);
	return w.bad ? SPAN_NONE : wr_done(&w);
}

static void provisional(struct branch *b, uint64_t now_us, const struct sip_msg *m, struct span bytes)
{
	struct context *c = b->ctx;

	b->provisional = true;
	if (b->cancel_wanted) {
		cancel_send(b, now_us);
		return;
	}
	if (m->status == 100 || c->answered || !bytes.len)
		return;
	c->give_up_us = now_us + TIMER_C_US; /* 16.7 (2) */
	(void)!sip_txn_respond(c->server, now_us, m->status, bytes);
}

static void success(struct branch *b, uint64_t now_us, const struct sip_msg *m, struct span bytes)
{
	struct context *c = b->ctx;
	bool first = !b->final;

	b->final = true;
	if (!bytes.len) {
		if (first)
			context_consider(c, 500, SPAN_NONE);
		return;
	}
	if (sip_txn_respond(c->server, now_us, m->status, bytes) == OK)
		c->answered = true;
	branches_cancel(c, now_us);
}

void branch_response(struct branch *b, uint64_t now_us, const struct sip_msg *m)
{
	struct context *c = b->ctx;
	struct span bytes;

	if (!c->server) {
		b->final |= m->status >= 200;
		context_check(c, now_us);
		return;
	}
	bytes = strip(c, m);
	if (m->status < 200) {
		provisional(b, now_us, m, bytes);
	} else if (m->status < 300) {
		success(b, now_us, m, bytes);
	} else if (!b->final) {
		b->final = true;
		/* 16.7 (6): a 503 speaks of one device; the caller would take it for us. */
		if (!bytes.len || m->status == 503)
			context_consider(c, 500, SPAN_NONE);
		else
			context_consider(c, m->status, bytes);
		if (m->status >= 600)
			branches_cancel(c, now_us);
	}
	context_check(c, now_us);
}

void branch_failed(struct branch *b, uint64_t now_us, unsigned status)
{
	if (b->final)
		return;
	b->final = true;
	if (b->ctx->server)
		context_consider(b->ctx, status, SPAN_NONE);
	context_check(b->ctx, now_us);
}
