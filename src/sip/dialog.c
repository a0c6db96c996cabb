/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sip/dialog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copy(struct span s)
{
	return s.len <= SIP_DIALOG_TEXT_MAX ? span_dup(s) : NULL;
}

static char *bracketed(const char *uri)
{
	size_t cap = strlen(uri) + 3;
	char *p = malloc(cap);

	if (p)
		(void)snprintf(p, cap, "<%s>", uri);
	return p;
}

static char *random_text(const struct rng *rng, size_t len)
{
	char *p = malloc(len + 1);

	if (p)
		rng_text(rng, p, len);
	return p;
}

/* From or To without its parameters, always with brackets: what we write behind it are header parameters. Control characters,
 * folds for one, do not come back out. */
static char *without_params(const struct sip_nameaddr *n)
{
	size_t cap = n->display.len + n->uri.text.len + 4;
	char *p;
	struct wr w;

	if (cap > SIP_DIALOG_TEXT_MAX)
		return NULL;
	p = malloc(cap);
	if (!p)
		return NULL;
	w = wr_of(p, cap);
	if (n->display.len) {
		wr_span(&w, n->display);
		wr_u8(&w, ' ');
	}
	wr_u8(&w, '<');
	wr_span(&w, n->uri.text);
	wr_u8(&w, '>');
	wr_u8(&w, 0);
	for (size_t i = 0; i + 1 < w.len; i++)
		if ((uint8_t)p[i] < ' ')
			p[i] = ' ';
	return p;
}

void sip_dialog_done(struct sip_dialog *d)
{
	free(d->call_id);
	free(d->local_tag);
	free(d->remote_tag);
	free(d->local);
	free(d->remote);
	free(d->target);
	for (unsigned i = 0; i < d->n_routes; i++)
		free(d->routes[i]);
	*d = (struct sip_dialog){ 0 };
}

static bool complete(const struct sip_dialog *d)
{
	return d->call_id && d->local_tag && d->remote_tag && d->local && d->remote && d->target;
}

enum err sip_dialog_out(struct sip_dialog *d, const struct rng *rng, const char *local_uri, const char *remote_uri,
			const char *target)
{
	*d = (struct sip_dialog){
		.call_id = random_text(rng, SIP_CALL_ID_LEN),
		.local_tag = random_text(rng, SIP_TAG_LEN),
		.remote_tag = copy(SPAN_NONE),
		.local = bracketed(local_uri),
		.remote = bracketed(remote_uri),
		.target = copy(span_str(target)),
		/* 8.1.1.5: below 2^31, with room to count. */
		.local_cseq = 1 + rng_below(rng, 10000),
	};
	if (complete(d))
		return OK;
	sip_dialog_done(d);
	return ERR_NOMEM;
}

/* A Contact that we could send a request to; an empty span else. */
static struct span contact_of(const struct sip_msg *m)
{
	struct sip_walk walk = { 0 };
	struct sip_nameaddr n;

	if (sip_walk_next(m, H_CONTACT, &walk, &n) != OK || n.star || !n.uri.is_sip)
		return SPAN_NONE;
	return n.uri.text;
}

static void reverse(struct sip_dialog *d)
{
	for (unsigned i = 0; i < d->n_routes / 2; i++) {
		char *other = d->routes[d->n_routes - 1 - i];

		d->routes[d->n_routes - 1 - i] = d->routes[i];
		d->routes[i] = other;
	}
}

static enum err routes_take(struct sip_dialog *d, const struct sip_msg *m)
{
	struct sip_walk walk = { 0 };
	struct sip_nameaddr n;
	enum err e;

	while ((e = sip_walk_next(m, H_RECORD_ROUTE, &walk, &n)) == OK) {
		if (d->n_routes == SIP_ROUTES_MAX || n.text.len > SIP_DIALOG_TEXT_MAX)
			return ERR_LIMIT;
		d->routes[d->n_routes] = copy(n.text);
		if (!d->routes[d->n_routes])
			return ERR_NOMEM;
		d->n_routes++;
	}
	return e == ERR_NOTFOUND ? OK : e;
}

enum err sip_dialog_uac(struct sip_dialog *d, const struct sip_dialog *from, const struct sip_msg *answer)
{
	struct span contact = contact_of(answer);
	enum err e;

	if (contact.len > SIP_DIALOG_TEXT_MAX || answer->to_tag.len > SIP_DIALOG_TEXT_MAX) {
		*d = (struct sip_dialog){ 0 };
		return ERR_LIMIT;
	}
	*d = (struct sip_dialog){
		.call_id = copy(span_str(from->call_id)),
		.local_tag = copy(span_str(from->local_tag)),
		.remote_tag = copy(answer->to_tag),
		.local = copy(span_str(from->local)),
		.remote = copy(span_str(from->remote)),
		/* A 2xx must have a Contact (13.3.1.4); where it has none the request's own URI is the best guess. */
		.target = copy(contact.len ? contact : span_str(from->target)),
		.local_cseq = from->local_cseq,
	};
	e = complete(d) ? routes_take(d, answer) : ERR_NOMEM;
	if (e != OK)
		sip_dialog_done(d);
	reverse(d);
	return e;
}

enum err sip_dialog_uas(struct sip_dialog *d, const struct rng *rng, const struct sip_msg *rq)
{
	struct span contact = contact_of(rq);
	enum err e;

	*d = (struct sip_dialog){ 0 };
	if (!contact.len)
		return ERR_MALFORMED;
	if (contact.len > SIP_DIALOG_TEXT_MAX || rq->call_id.len > SIP_DIALOG_TEXT_MAX ||
	    rq->from_tag.len > SIP_DIALOG_TEXT_MAX ||
	    rq->from.display.len + rq->from.uri.text.len + 4 > SIP_DIALOG_TEXT_MAX ||
	    rq->to.display.len + rq->to.uri.text.len + 4 > SIP_DIALOG_TEXT_MAX)
		return ERR_LIMIT;
	*d = (struct sip_dialog){
		.call_id = copy(rq->call_id),
		.local_tag = random_text(rng, SIP_TAG_LEN),
		.remote_tag = copy(rq->from_tag),
		.local = without_params(&rq->to),
		.remote = without_params(&rq->from),
		.target = copy(contact),
		.local_cseq = 1 + rng_below(rng, 10000),
		.remote_cseq = rq->cseq,
		.remote_cseq_known = true,
	};
	e = complete(d) ? routes_take(d, rq) : ERR_NOMEM;
	if (e != OK)
		sip_dialog_done(d);
	return e;
}

/* ---- matching ---- */

bool sip_dialog_has(const struct sip_dialog *d, const struct sip_msg *rq)
{
	return d->call_id && span_eq_str(rq->call_id, d->call_id) && span_eq_str(rq->to_tag, d->local_tag) &&
	       span_eq_str(rq->from_tag, d->remote_tag);
}

bool sip_dialog_asked(const struct sip_dialog *d, const struct sip_msg *answer)
{
	return d->call_id && span_eq_str(answer->call_id, d->call_id) && span_eq_str(answer->from_tag, d->local_tag);
}

bool sip_dialog_seq(struct sip_dialog *d, const struct sip_msg *rq)
{
	if (d->remote_cseq_known && rq->cseq <= d->remote_cseq)
		return false;
	d->remote_cseq = rq->cseq;
	d->remote_cseq_known = true;
	return true;
}

void sip_dialog_refresh(struct sip_dialog *d, const struct sip_msg *m)
{
	struct span contact = contact_of(m);
	char *target = contact.len ? copy(contact) : NULL;

	if (!target)
		return;
	free(d->target);
	d->target = target;
}

/* ---- requests ---- */

static bool is_strict(const char *route)
{
	struct span text = span_str(route), lr;
	struct sip_nameaddr n;

	return sip_nameaddr_next(&text, &n) == OK && !sip_param(n.uri.params, "lr", &lr);
}

struct span sip_dialog_request_uri(const struct sip_dialog *d)
{
	struct span text;
	struct sip_nameaddr n;

	/* 12.2.1.1: a first route without lr wants to be the Request-URI. */
	if (d->n_routes && is_strict(d->routes[0])) {
		text = span_str(d->routes[0]);
		if (sip_nameaddr_next(&text, &n) == OK)
			return n.uri.text;
	}
	return span_str(d->target);
}

void sip_dialog_request(const struct sip_dialog *d, struct wr *w, enum sip_method method, uint32_t cseq,
			enum transport transport, const struct addr *sent_by, const char *branch)
{
	const char *name = sip_method_name(method);
	bool strict = d->n_routes && is_strict(d->routes[0]);

	sip_write_request(w, name, sip_dialog_request_uri(d));
	sip_write_via(w, transport, sent_by, branch);
	sip_write_headerf(w, H_MAX_FORWARDS, "70");
	for (unsigned i = strict; i < d->n_routes; i++)
		sip_write_header(w, H_ROUTE, span_str(d->routes[i]));
	if (strict)
		sip_write_headerf(w, H_ROUTE, "<%s>", d->target);
	sip_write_headerf(w, H_FROM, "%s;tag=%s", d->local, d->local_tag);
	sip_write_headerf(w, H_TO, d->remote_tag[0] ? "%s;tag=%s" : "%s", d->remote, d->remote_tag);
	sip_write_header(w, H_CALL_ID, span_str(d->call_id));
	sip_write_headerf(w, H_CSEQ, "%u %s", (unsigned)cseq, name);
}
