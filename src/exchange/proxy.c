/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/proxy.c - where a request goes (RFC 3261, 16.4 and 16.5): a new call to the bindings of its callee, a request
 * inside a dialog to the side that our Record-Route names. */
#include <stdlib.h>

#include "exchange/impl.h"

#define ROUTES_LOOKED_AT 4 /* ours are one or two (branch_forward) */

void proxy_way(struct exchange *x, const struct sip_msg *rq, const struct path *path, struct way *ret)
{
	struct sip_walk walk = { .at = 0 };
	struct sip_nameaddr n;

	ret->n_pop = 0;
	ret->has_token = false;
	while (ret->n_pop < ROUTES_LOOKED_AT && sip_walk_next(rq, H_ROUTE, &walk, &n) == OK) {
		struct token t;
		bool sealed = n.uri.is_sip && token_parse(x, n.uri.user, rq->call_id, &t) == OK;

		if (!sealed && !exchange_is_ours(x, &n.uri, path))
			return;
		if (sealed && !ret->has_token) {
			ret->token = t;
			ret->has_token = true;
		}
		ret->n_pop++;
	}
}

/* Where a side of a call is now: by the flow that it used, or where its device has registered since. */
static bool side_path(const struct exchange *x, const struct side *s, const struct sip_uri *uri, struct path *ret)
{
	const struct stream *stream = conn_of(x, &s->path);
	const struct binding *b = registrar_device(x, s->user, uri);

	if (stream)
		*ret = stream->path;
	else if (s->path.transport == TRANSPORT_UDP && (!b || registrar_has_flow(x, s->user, &s->path)))
		*ret = s->path;
	else if (b)
		*ret = b->path;
	else
		return false;
	return true;
}

/* Inside a dialog. */
static bool dialog_target(struct exchange *x, const struct sip_msg *rq, const struct way *way, struct side *ret)
{
	const struct binding *b;

	if (way->has_token) {
		const struct token *t = &way->token;

		*ret = t->caller_tag == token_tag(x, rq->from_tag) ? t->callee : t->caller;
		return side_path(x, ret, &rq->uri, &ret->path);
	}
	b = registrar_device_any(x, &rq->uri, &ret->user);
	if (b)
		ret->path = b->path;
	return b != NULL;
}

static void call_start(struct exchange *x, uint64_t now_us, struct context *c, const struct sip_msg *rq,
		       const struct path *path)
{
	unsigned callee = (unsigned)exchange_user_find(x, rq->uri.user);
	const struct location *l = &x->locations[callee];
	struct token record = { .caller = { .user = (unsigned)x->who, .path = *path },
				.caller_tag = token_tag(x, rq->from_tag) };

	c->is_call = true;
	(void)answer_txn(x, now_us, c->server, 100, NULL);
	log_info(&x->log, "%s calls %s (%u devices)", x->cfg->users[x->who].name, x->cfg->users[callee].name, l->n);
	for (unsigned i = 0; i < l->n; i++) {
		/* The device that calls is not called: it may be one of several with the same address. */
		if (path_eq(&l->b[i]->path, path))
			continue;
		record.callee = (struct side){ .user = callee, .path = l->b[i]->path };
		branch_start(c, now_us, &record.callee, span_str(l->b[i]->contact), &record);
	}
}

void proxy_request(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *rq,
		   const struct path *path)
{
	bool is_call = !rq->to_tag.len;
	struct context *c = context_new(x, now_us, txn, is_call ? x->who : -1);
	struct side to;
	struct way way;

	if (!c) {
		(void)answer_txn(x, now_us, txn, 500, NULL);
		return;
	}
	proxy_way(x, rq, path, &way);
	c->n_pop = way.n_pop;
	if (is_call) {
		call_start(x, now_us, c, rq, path);
	} else if (dialog_target(x, rq, &way, &to)) {
		if (rq->method == SIP_INVITE)
			(void)answer_txn(x, now_us, txn, 100, NULL);
		branch_start(c, now_us, &to, rq->uri_text, NULL);
	} else {
		context_consider(c, way.has_token ? 430 : 481, SPAN_NONE);
		exchange_refused(x, now_us, path, rq, "its device is gone");
	}
	context_check(c, now_us);
}

/* The ACK to a 2xx (16.11): forwarded, never answered. */
void proxy_ack(struct exchange *x, const struct sip_msg *ack, const struct path *path)
{
	const struct stream *s = conn_of(x, path);
	char id[SIP_BRANCH_TEXT];
	struct span bytes;
	struct side to;
	struct way way;

	if (answer_tag_is_ours(x, ack) || !ack->to_tag.len || ack->max_forwards == 0 || ack->n_vias >= SIP_VIAS_MAX)
		return;
	proxy_way(x, ack, path, &way);
	if ((!way.has_token && (!s || s->user < 0)) || !dialog_target(x, ack, &way, &to)) {
		x->stats.n_stray++;
		return;
	}
	sip_branch(x->env.rng, id);
	bytes = branch_forward(x, ack, path, &to.path, ack->uri_text, id, way.n_pop, NULL);
	if (bytes.len && sip_txns_send(x->txns, &to.path, bytes) == OK)
		x->stats.n_forwarded++;
}
