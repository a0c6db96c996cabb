/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/exchange.c - life, and who may do what: requests are admitted here, before anything is kept of them. */
#include "exchange/impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/aead.h"
#include "crypto/secret.h"
#include "ice/stun.h"

#define SIP_PORT 5060
#define ALLOW "INVITE, ACK, CANCEL, BYE, REGISTER, OPTIONS"

/* ---- life ---- */

static enum err locations_new(struct exchange *x)
{
	enum err e = OK;

	x->locations = calloc(x->cfg->n_users ? x->cfg->n_users : 1, sizeof(*x->locations));
	if (!x->locations)
		return ERR_NOMEM;
	for (unsigned u = 0; e == OK && u < x->cfg->n_users; u++) {
		struct location *l = &x->locations[u];

		l->x = x;
		l->timer.fire = registrar_fired;
		l->timer.arg = l;
		e = timer_arm(x->timers, &l->timer, TIME_NEVER);
	}
	return e;
}

static enum err secrets_new(struct exchange *x)
{
	uint8_t key[AEAD_KEY_MAX];
	enum err e;

	sip_nonces_init(&x->nonces, x->env.rng);
	rng_fill(x->env.rng, x->tag_secret, sizeof(x->tag_secret));
	rng_fill(x->env.rng, key, sizeof(key));
	e = aead_new(AEAD_AES256_GCM, key, &x->seal);
	secret_wipe(key, sizeof(key));
	return e;
}

enum err exchange_new(const struct exchange_env *env, const struct exchange_config *cfg, struct exchange **ret)
{
	struct exchange *x = calloc(1, sizeof(*x));
	enum err e = ERR_NOMEM;

	if (!x)
		return e;
	x->env = *env;
	x->cfg = cfg;
	x->who = -1;
	x->log = log_of(env->log, "exchange", "");
	x->msg = malloc(sizeof(*x->msg));
	x->timers = timers_new();
	x->streams = table_new(EXCHANGE_STREAMS_MAX, env->rng);
	if (x->msg && x->timers && x->streams)
		e = sip_txns_new(env->rng, &x->txns);
	if (e == OK)
		e = locations_new(x);
	if (e == OK)
		e = secrets_new(x);
	if (e != OK) {
		exchange_free(x);
		return e;
	}
	*ret = x;
	return OK;
}

void exchange_free(struct exchange *x)
{
	if (!x)
		return;
	contexts_free(x);
	conns_free(x);
	registrar_free(x);
	sip_txns_free(x->txns);
	table_free(x->streams);
	timers_free(x->timers);
	aead_free(x->seal);
	secret_wipe(&x->nonces, sizeof(x->nonces));
	secret_wipe(x->tag_secret, sizeof(x->tag_secret));
	free(x->msg);
	free(x);
}

/* ---- names and addresses ---- */

int exchange_user_find(const struct exchange *x, struct span name)
{
	unsigned lo = 0, hi = x->cfg->n_users;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;
		int c = span_cmp(span_str(x->cfg->users[mid].name), name);

		if (!c)
			return (int)mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return -1;
}

bool exchange_is_ours(const struct exchange *x, const struct sip_uri *u, const struct path *path)
{
	struct addr a;

	if (!u->is_sip)
		return false;
	if (span_ieq_str(u->host, x->cfg->domain))
		return true;
	if (sip_uri_addr(u, SIP_PORT, &a) != OK)
		return false;
	for (unsigned i = 0; i < x->cfg->n_listen; i++)
		if (addr_eq(&a, &x->cfg->listen[i]))
			return true;
	return addr_eq(&a, &x->cfg->advertise) || addr_eq(&a, &path->local);
}

void exchange_refused(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq,
		      const char *why)
{
	char from[96], addr[ADDR_TEXT];
	uint32_t before;

	x->stats.n_refused++;
	if (log_limit_pass(&x->refused_limit, now_us, &before))
		log_warn(&x->log, "%s: %s of \"%s\" refused: %s (%u more before)", addr_write(&path->remote, addr),
			 rq->method == SIP_UNKNOWN ? "request" : sip_method_name(rq->method),
			 text_escape(rq->from.uri.text, from, sizeof(from)), why, (unsigned)before);
}

/* ---- admission ---- */

static bool refuse(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq,
		   unsigned status, const char *why)
{
	answer_stateless(x, path, rq, status, NULL);
	exchange_refused(x, now_us, path, rq, why);
	return false;
}

/* 420 with what is not understood (8.2.2.3, 16.3): we understand no extension that could be required of us. */
static bool refuse_extension(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq,
			     enum sip_h h)
{
	struct wr w = answer_begin(x, path, rq, 420, NULL);

	sip_write_header(&w, H_UNSUPPORTED, sip_value(rq, h));
	answer_send(x, path, rq, &w);
	exchange_refused(x, now_us, path, rq, "it requires an extension");
	return false;
}

static bool refuse_method(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq)
{
	struct wr w = answer_begin(x, path, rq, 405, NULL);

	sip_write_headerf(&w, H_ALLOW, ALLOW);
	answer_send(x, path, rq, &w);
	exchange_refused(x, now_us, path, rq, "only calls are forwarded");
	return false;
}

static bool admit_register(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq)
{
	bool stale;

	if (!exchange_is_ours(x, &rq->uri, path) || !exchange_is_ours(x, &rq->to.uri, path))
		return refuse(x, now_us, path, rq, 404, "not our domain");
	if (sip_header(rq, H_REQUIRE))
		return refuse_extension(x, now_us, path, rq, H_REQUIRE);
	x->who = auth_user(x, now_us, rq, H_AUTHORIZATION, &stale);
	if (x->who < 0) {
		auth_challenge(x, now_us, path, rq, 401, stale);
		if (sip_header(rq, H_AUTHORIZATION) && !stale)
			exchange_refused(x, now_us, path, rq, "wrong credentials");
		return false;
	}
	if (!span_eq_str(rq->to.uri.user, x->cfg->users[x->who].name))
		return refuse(x, now_us, path, rq, 403, "another user's address");
	conn_known(x, path, x->who);
	return true;
}

static int claimed(const struct exchange *x, const struct sip_msg *rq, const struct path *path)
{
	return exchange_is_ours(x, &rq->from.uri, path) ? exchange_user_find(x, rq->from.uri.user) : -1;
}

/* The rule in exchange.h: From is a user of ours, and the sender is that user. */
static bool admit_sender(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq)
{
	const struct stream *s = conn_of(x, path);
	int user = claimed(x, rq, path), shown;
	bool stale;

	if (s && user >= 0 && s->user == user) {
		x->who = user;
		return true;
	}
	shown = auth_user(x, now_us, rq, H_PROXY_AUTHORIZATION, &stale);
	if (shown < 0) {
		auth_challenge(x, now_us, path, rq, 407, stale);
		if (sip_header(rq, H_PROXY_AUTHORIZATION) && !stale)
			exchange_refused(x, now_us, path, rq, "wrong credentials");
		return false;
	}
	if (shown != user)
		return refuse(x, now_us, path, rq, 403, "From is not the user who sends it");
	conn_known(x, path, -1);
	x->who = user;
	return true;
}

static bool admit_call(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq)
{
	if (!admit_sender(x, now_us, path, rq))
		return false;
	if (!exchange_is_ours(x, &rq->uri, path))
		return refuse(x, now_us, path, rq, 403, "not our domain");
	if (exchange_user_find(x, rq->uri.user) < 0)
		return refuse(x, now_us, path, rq, 404, "unknown user");
	if (x->locations[x->who].n_pending >= EXCHANGE_PENDING_MAX)
		return refuse(x, now_us, path, rq, 503, "too many unanswered calls of one user");
	return true;
}

/* 16.3 (4): sent-by is ours in more Vias than a spiral of call forwarding explains. */
static bool loops(const struct exchange *x, const struct path *path, const struct sip_msg *rq)
{
	struct sip_walk walk = { .at = 0 };
	struct addr own = branch_sent_by(x, path), a;
	struct sip_via v;
	unsigned n = 0;

	while (sip_via_next(rq, &walk, &v) == OK)
		if (addr_parse_ip(v.host, &a) == OK) {
			a.port = v.port ? v.port : SIP_PORT;
			n += addr_eq(&a, &own);
		}
	return n >= LOOPS_MAX;
}

static bool admit_forward(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq)
{
	struct way way;

	if (!rq->uri.is_sip || rq->uri.secure)
		return refuse(x, now_us, path, rq, 416, "not a sip: address");
	if (sip_header(rq, H_PROXY_REQUIRE))
		return refuse_extension(x, now_us, path, rq, H_PROXY_REQUIRE);
	if (rq->max_forwards == 0)
		return refuse(x, now_us, path, rq, 483, "Max-Forwards is used up");
	if (rq->n_vias >= SIP_VIAS_MAX || loops(x, path, rq))
		return refuse(x, now_us, path, rq, 482, "it goes round");
	if (!rq->to_tag.len) {
		if (rq->method != SIP_INVITE)
			return refuse_method(x, now_us, path, rq);
		return admit_call(x, now_us, path, rq);
	}
	proxy_way(x, rq, path, &way);
	if (!way.has_token)
		return admit_sender(x, now_us, path, rq);
	conn_known(x, path, -1);
	return true;
}

static bool same_flow(const struct path *a, const struct path *b)
{
	return a->transport == b->transport && a->stream == b->stream && addr_ip_eq(&a->remote, &b->remote);
}

static bool admit(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq)
{
	const struct sip_txn *invite;

	/* An ACK has no answer; proxy_ack() looks at it. A repeated INVITE was admitted before; streams repeat nothing. */
	if (rq->method == SIP_ACK ||
	    (rq->method == SIP_INVITE && path->transport == TRANSPORT_UDP && sip_txn_of_cancel(x->txns, rq)))
		return true;
	if (sip_txns_len(x->txns) + TXNS_SPARE > SIP_TXNS_MAX || x->n_contexts >= CONTEXTS_MAX)
		return refuse(x, now_us, path, rq, 503, "too much to do");
	if (rq->method == SIP_CANCEL) {
		invite = sip_txn_of_cancel(x->txns, rq);
		if (!invite || !same_flow(sip_txn_path(invite), path))
			return refuse(x, now_us, path, rq, 481, "nothing to cancel");
		return true;
	}
	if (rq->method == SIP_REGISTER)
		return admit_register(x, now_us, path, rq);
	if (rq->method == SIP_OPTIONS && !rq->to_tag.len && !rq->uri.user.len && exchange_is_ours(x, &rq->uri, path)) {
		struct wr w = answer_begin(x, path, rq, 200, NULL);

		sip_write_headerf(&w, H_ALLOW, ALLOW);
		answer_send(x, path, rq, &w);
		return false;
	}
	return admit_forward(x, now_us, path, rq);
}

/* ---- in ---- */

void exchange_message(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes)
{
	const char *why = "";
	unsigned status = 0;

	x->stats.n_in++;
	x->who = -1;
	if (sip_parse(bytes, x->msg, &why, &status) != OK) {
		x->stats.n_malformed++;
		if (status && x->msg->is_request && x->msg->method != SIP_ACK)
			(void)refuse(x, now_us, path, x->msg, status, why);
		return;
	}
	if (!x->msg->is_request || admit(x, now_us, path, x->msg))
		sip_txns_input(x->txns, now_us, path, x->msg);
}

static void request(struct exchange *x, uint64_t now_us, const struct sip_txn_event *e)
{
	switch (e->msg->method) {
	case SIP_ACK: proxy_ack(x, e->msg, &e->path); break;
	case SIP_CANCEL: {
		struct sip_txn *invite = sip_txn_of_cancel(x->txns, e->msg);
		struct context *c = invite ? sip_txn_owner(invite) : NULL;

		(void)answer_txn(x, now_us, e->txn, 200, NULL);
		if (c)
			context_cancel(c, now_us);
		break;
	}
	case SIP_REGISTER: registrar_request(x, now_us, e->txn, e->msg, &e->path, (unsigned)x->who); break;
	default: proxy_request(x, now_us, e->txn, e->msg, &e->path); break;
	}
}

void exchange_pump(struct exchange *x, uint64_t now_us)
{
	struct sip_txn_event e;

	while (sip_txns_poll_event(x->txns, &e)) {
		if (e.kind == SIP_TXN_REQUEST)
			request(x, now_us, &e);
		else if (e.kind == SIP_TXN_STRAY)
			x->stats.n_stray++;
		else if (e.owner)
			context_event(x, now_us, &e);
	}
}

static void datagram(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	/* RFC 5626, 4.4.2: a device keeps its flow alive with STUN on this very port, or with empty lines. */
	if (stun_is(bytes)) {
		if (stun_serve(bytes, &path->remote, &w))
			(void)!sip_txns_send(x->txns, path, wr_done(&w));
		return;
	}
	if (bytes.len && bytes.p[0] == '\r' && bytes.len <= 4)
		return;
	exchange_message(x, now_us, path, bytes);
}

void exchange_input(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes)
{
	struct path from = *path;

	from.tos = 0; /* the sender's marks are not ours to repeat */
	if (from.transport == TRANSPORT_UDP)
		datagram(x, now_us, &from, bytes);
	else
		conn_input(x, now_us, &from, bytes);
	exchange_pump(x, now_us);
}

void exchange_tick(struct exchange *x, uint64_t now_us)
{
	sip_txns_tick(x->txns, now_us);
	timers_run(x->timers, now_us);
	exchange_pump(x, now_us);
}

uint64_t exchange_deadline_us(const struct exchange *x)
{
	uint64_t a = sip_txns_deadline_us(x->txns), b = timers_deadline_us(x->timers);

	return a < b ? a : b;
}

bool exchange_poll_output(struct exchange *x, struct out *ret)
{
	return sip_txns_poll_output(x->txns, ret);
}

void exchange_stats(const struct exchange *x, struct exchange_stats *ret)
{
	*ret = x->stats;
	ret->n_contexts = x->n_contexts;
	ret->n_streams = x->n_streams;
}
