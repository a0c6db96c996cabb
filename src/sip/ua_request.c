/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Requests of ours: which way they leave, digest, and what becomes of them. */
#include <stdlib.h>
#include <string.h>
#include "sip/ua_impl.h"

static const char unreachable[] = "the exchange cannot be reached";
static const char connection_lost[] = "the connection to the exchange was lost";

static enum sip_method method_of(enum ua_req_kind k)
{
	static const enum sip_method methods[] = { SIP_REGISTER, SIP_INVITE, SIP_CANCEL, SIP_BYE };

	return methods[k];
}

void ua_req_init(struct ua_req *r, enum ua_req_kind kind, struct account *acc, struct sip_dialog *d)
{
	*r = (struct ua_req){ .own = OWN_REQ, .kind = kind, .acc = acc, .d = d };
}

bool ua_req_busy(const struct ua_req *r)
{
	return r->txn || r->waits;
}

void ua_req_drop(struct ua_req *r)
{
	if (r->txn)
		sip_txn_forget(r->txn);
	r->txn = NULL;
	r->waits = 0;
	free(r->credentials);
	r->credentials = NULL;
	r->credentials_len = 0;
}

/* ---- digest ---- */

void ua_auth_done(struct ua_auth *a)
{
	free(a->mem);
	*a = (struct ua_auth){ 0 };
}

static struct span keep(struct wr *w, struct span s)
{
	size_t at = w->len;

	wr_span(w, s);
	return w->bad || !s.p ? SPAN_NONE : span_of(w->p + at, s.len);
}

static enum err auth_take(struct ua_auth *a, const struct sip_challenge *c)
{
	size_t cap = c->realm.len + c->nonce.len + c->opaque.len + 1;
	char *mem = malloc(cap);
	struct wr w = wr_of(mem, mem ? cap : 0);

	if (!mem)
		return ERR_NOMEM;
	ua_auth_done(a);
	a->mem = mem;
	a->c = *c;
	a->c.realm = keep(&w, c->realm);
	a->c.nonce = keep(&w, c->nonce);
	a->c.opaque = keep(&w, c->opaque);
	a->have = true;
	return OK;
}

static bool auth_allowed(const struct account *acc, const struct path *path)
{
	return acc->insecure_digest || (path->transport == TRANSPORT_TLS && path->tls_name[0]);
}

static void auth_write(struct ua_req *r, const struct path *path, struct wr *w)
{
	static const enum sip_h names[] = { H_AUTHORIZATION, H_PROXY_AUTHORIZATION };
	struct account *acc = r->acc;
	char cnonce[25];
	uint8_t value[2048];

	for (unsigned i = 0; i < 2; i++) {
		struct ua_auth *a = &acc->auth[i];
		struct wr v = wr_of(value, sizeof(value));

		if (!r->use_auth[i] || !a->have || !auth_allowed(acc, path))
			continue;
		rng_text(&acc->ua->rng, cnonce, sizeof(cnonce) - 1);
		if (sip_digest_answer(&a->c, acc->user, acc->password, sip_method_name(method_of(r->kind)),
				      sip_dialog_request_uri(r->d), ++a->nc, cnonce, &v) == OK &&
		    !v.bad)
			sip_write_header(w, names[i], wr_done(&v));
	}
}

/* 401 or 407. True: asked again with an answer; false with *ret_why: no use. */
static bool challenged(struct ua_req *r, uint64_t now_us, const struct sip_msg *m, const char **ret_why)
{
	unsigned i = m->status == 407;
	struct sip_challenge c;

	if (sip_challenge_best(m, i ? H_PROXY_AUTHENTICATE : H_WWW_AUTHENTICATE, &c) != OK) {
		*ret_why = "the exchange asks for an authentication that is not known here";
		return false;
	}
	if (!auth_allowed(r->acc, &r->path)) {
		*ret_why = "digest over a connection that is not verified TLS is refused";
		return false;
	}
	/* A second challenge means that the answer was wrong, unless only its nonce was too old (RFC 7616, 3.3). */
	if (r->n_challenged[i]++ && (!c.stale || r->n_challenged[i] > 3)) {
		*ret_why = NULL;
		return false;
	}
	if (auth_take(&r->acc->auth[i], &c) != OK) {
		*ret_why = "out of memory";
		return false;
	}
	r->use_auth[i] = true;
	ua_req_start(r, now_us);
	return true;
}

/* ---- building and sending ---- */

void ua_contact_write(struct wr *w, const struct account *acc, const struct path *path)
{
	char text[ADDR_TEXT];

	wr_fmt(w, "<sip:%s@%s%s>", acc->contact_user, addr_write(&path->local, text),
	       path->transport == TRANSPORT_UDP   ? ""
	       : path->transport == TRANSPORT_TCP ? ";transport=tcp"
						  : ";transport=tls");
}

static void contact_header(struct wr *w, const struct account *acc, const struct path *path)
{
	uint8_t mem[160];
	struct wr v = wr_of(mem, sizeof(mem));

	ua_contact_write(&v, acc, path);
	sip_write_header(w, H_CONTACT, wr_done(&v));
}

static struct span build(struct ua_req *r, const struct path *path, size_t *ret_auth_at, size_t *ret_auth_len)
{
	struct account *acc = r->acc;
	struct wr w = wr_of(acc->ua->scratch, SIP_MSG_MAX);
	struct span body = SPAN_NONE;

	sip_dialog_request(r->d, &w, method_of(r->kind), r->cseq, path->transport, &path->local, r->branch);
	if (r->kind == REQ_REGISTER || r->kind == REQ_INVITE) {
		contact_header(&w, acc, path);
		sip_write_headerf(&w, H_ALLOW, UA_ALLOW);
	}
	if (r->kind == REQ_REGISTER)
		sip_write_headerf(&w, H_EXPIRES, "%u", acc->removing ? 0u : (unsigned)acc->expires_s);
	if (r->kind == REQ_INVITE) {
		sip_write_headerf(&w, H_ACCEPT, "application/sdp");
		body = span_of(r->call->offer, r->call->offer_len);
	}
	sip_write_headerf(&w, H_USER_AGENT, "tieline");
	*ret_auth_at = w.len;
	auth_write(r, path, &w);
	*ret_auth_len = w.len - *ret_auth_at;
	sip_write_end(&w, body.len ? "application/sdp" : NULL, body);
	return w.bad ? SPAN_NONE : wr_done(&w);
}

static void failed(struct ua_req *r, uint64_t now_us, unsigned status, struct span reason, uint32_t wait_s, bool fatal)
{
	switch (r->kind) {
	case REQ_REGISTER: ua_register_failed(r->acc, now_us, status, reason, wait_s, fatal); break;
	case REQ_INVITE: ua_invite_failed(r->call, now_us, status, reason); break;
	case REQ_CANCEL:
	case REQ_BYE: /* over either way */ break;
	}
}

enum way { WAY_READY, WAY_WAIT, WAY_NONE };

/* The account's own stream, or the one for long requests; opened when there is none. */
static enum way stream_way(struct ua_req *r, struct ua_stream **slot, struct path *ret)
{
	if (!*slot)
		*slot = ua_stream_open(r->acc);
	if (!*slot)
		return WAY_NONE;
	if (!(*slot)->open) {
		r->waits = (*slot)->number;
		return WAY_WAIT;
	}
	*ret = (*slot)->path;
	return WAY_READY;
}

static void send_now(struct ua_req *r, uint64_t now_us)
{
	struct account *acc = r->acc;
	struct path path = { .transport = TRANSPORT_UDP, .local = acc->local, .remote = acc->server };
	size_t auth_at, auth_len;
	struct span bytes;
	enum way way;

	r->waits = 0;
	if (acc->transport != TRANSPORT_UDP) {
		way = stream_way(r, &acc->stream, &path);
		if (way == WAY_NONE)
			failed(r, now_us, 0, span_str(unreachable), 0, false);
		if (way != WAY_READY)
			return;
	}
	if (r->kind != REQ_CANCEL)
		sip_branch(&acc->ua->rng, r->branch);
	bytes = build(r, &path, &auth_at, &auth_len);
	if (acc->transport == TRANSPORT_UDP && bytes.len > UA_UDP_MAX && !r->force_udp) {
		/* 18.1.1: too long for a datagram. */
		way = stream_way(r, &acc->aux, &path);
		if (way == WAY_WAIT)
			return;
		if (way == WAY_READY)
			bytes = build(r, &path, &auth_at, &auth_len);
	}
	r->path = path;
	r->heard = false;
	free(r->credentials);
	r->credentials_len = 0;
	r->credentials = bytes.len ? span_dup(span_sub(bytes, auth_at, auth_len)) : NULL;
	if (!r->credentials ||
	    sip_txn_request(acc->ua->txns, now_us, &path, method_of(r->kind), r->branch, bytes, r, &r->txn) != OK) {
		r->txn = NULL;
		failed(r, now_us, 0, span_str("out of memory or over a limit"), 0, false);
		return;
	}
	r->credentials_len = auth_len;
}

void ua_req_start(struct ua_req *r, uint64_t now_us)
{
	if (r->txn)
		sip_txn_forget(r->txn);
	r->txn = NULL;
	/* A CANCEL has the number, the branch and the way of its INVITE (9.1). */
	if (r->kind == REQ_CANCEL) {
		size_t at, len;
		struct span bytes = build(r, &r->path, &at, &len);

		if (!bytes.len ||
		    sip_txn_request(r->acc->ua->txns, now_us, &r->path, SIP_CANCEL, r->branch, bytes, r, &r->txn) != OK)
			r->txn = NULL;
		return;
	}
	r->cseq = ++r->d->local_cseq;
	r->use_auth[0] |= r->kind == REQ_REGISTER;
	r->use_auth[1] = true;
	send_now(r, now_us);
}

/* ---- results ---- */

/* Not an INVITE that was hung up in the meantime: it is not tried again. */
static bool wanted(const struct ua_req *r)
{
	return r->kind != REQ_CANCEL && (r->kind != REQ_INVITE || !r->call->dead);
}

static void answered(struct ua_req *r, uint64_t now_us, const struct sip_msg *m, const struct path *path)
{
	const char *why = NULL;
	uint32_t wait_s = 0;

	r->heard = true;
	if ((m->status == 401 || m->status == 407) && wanted(r)) {
		if (challenged(r, now_us, m, &why))
			return;
		/* why NULL: the password is wrong. Neither gets better by itself. */
		failed(r, now_us, why ? 0 : m->status, why ? span_str(why) : m->reason, 0, true);
		return;
	}
	if (r->kind == REQ_INVITE && m->status < 300) {
		ua_invite_answer(r->call, now_us, m, path);
		return;
	}
	if (m->status < 200)
		return;
	if (r->kind == REQ_REGISTER && (m->status < 300 || m->status == 423)) {
		ua_register_answer(r->acc, now_us, m);
		return;
	}
	if (m->status >= 300) {
		(void)sip_seconds(m, H_RETRY_AFTER, &wait_s);
		failed(r, now_us, m->status, m->reason.len ? m->reason : span_str(sip_reason_phrase(m->status)), wait_s,
		       false);
	}
}

void ua_req_txn_event(struct ua_req *r, uint64_t now_us, const struct sip_txn_event *ev)
{
	switch (ev->kind) {
	case SIP_TXN_RESPONSE: answered(r, now_us, ev->msg, &ev->path); break;
	case SIP_TXN_TIMEOUT:
		failed(r, now_us, r->kind == REQ_REGISTER ? 0 : 408, span_str("no answer"), 0, false);
		break;
	case SIP_TXN_FAILED:
		/* 18.1.1: the long request may still be understood as a datagram, as long as nobody has answered it. */
		if (r->acc->transport == TRANSPORT_UDP && !r->heard && !r->force_udp && wanted(r)) {
			r->force_udp = true;
			ua_req_start(r, now_us);
		} else {
			failed(r, now_us, r->kind == REQ_REGISTER ? 0 : 503, span_str(connection_lost), 0, false);
		}
		break;
	case SIP_TXN_ENDED:
		if (r->txn != ev->txn)
			break;
		r->txn = NULL;
		if (r->kind == REQ_INVITE)
			ua_invite_ended(r->call);
		break;
	default: break;
	}
}

static void stream_ready(struct ua_req *r, uint64_t now_us, uint64_t stream, bool open)
{
	if (!stream || r->waits != stream)
		return;
	r->waits = 0;
	if (open) {
		send_now(r, now_us);
	} else if (r->acc->transport == TRANSPORT_UDP) {
		r->force_udp = true;
		send_now(r, now_us);
	} else {
		failed(r, now_us, 0, span_str(unreachable), 0, false);
	}
}

void ua_reqs_stream(struct sip_ua *ua, uint64_t now_us, uint64_t stream, bool open)
{
	for (struct account *acc = ua->accounts; acc; acc = acc->next)
		stream_ready(&acc->req, now_us, stream, open);
	for (struct call *c = ua->calls; c; c = c->next) {
		stream_ready(&c->invite, now_us, stream, open);
		for (struct leg *l = c->legs; l; l = l->next)
			stream_ready(&l->bye, now_us, stream, open);
	}
}
