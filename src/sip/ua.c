/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The agent's life, its events, and the sorting of what comes in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sip/ua_impl.h"

/* ---- events ---- */

static size_t aor_size(const struct sip_uri *u)
{
	return u ? u->user.len + u->host.len + 8 : 0;
}

/* "sip:user@host": who, for people; a port or a parameter says nothing to them. */
static struct span aor_write(struct wr *w, const struct sip_uri *u)
{
	size_t at = w->len;

	if (!u)
		return SPAN_NONE;
	wr_str(w, "sip:");
	wr_span(w, u->user);
	wr_str(w, u->user.len ? "@" : "");
	wr_str(w, u->host_is_ip6 ? "[" : "");
	wr_span(w, u->host);
	wr_str(w, u->host_is_ip6 ? "]" : "");
	return span_of(w->p + at, w->len - at);
}

struct ua_event *ua_event_new(struct sip_ua *ua, enum sip_event_kind kind, const struct sip_uri *from,
			      const struct sip_uri *to, struct span body)
{
	size_t cap = aor_size(from) + aor_size(to) + body.len + 1;
	struct ua_event *ev = calloc(1, sizeof(*ev) + cap);
	struct wr w = wr_of(ev ? ev->mem : NULL, ev ? cap : 0);

	if (!ev) {
		log_error(&ua->log, "out of memory: an event is lost");
		return NULL;
	}
	ev->e.kind = kind;
	ev->e.reason = ev->reason;
	ev->e.from = aor_write(&w, from);
	ev->e.to = aor_write(&w, to);
	ev->e.body = span_of(w.p + w.len, body.len);
	wr_span(&w, body);
	return ev;
}

void ua_event_reason(struct ua_event *ev, struct span text)
{
	size_t n = text.len < sizeof(ev->reason) ? text.len : sizeof(ev->reason) - 1;

	/* a foreign phrase may hold anything: what is not printable ASCII becomes '?' */
	for (size_t i = 0; i < n; i++)
		ev->reason[i] = text.p[i] >= 0x20 && text.p[i] < 0x7f ? (char)text.p[i] : '?';
	ev->reason[n] = 0;
}

void ua_event_queue(struct sip_ua *ua, struct ua_event *ev)
{
	ev->next = NULL;
	*ua->ev_tail = ev;
	ua->ev_tail = &ev->next;
}

bool sip_ua_poll_event(struct sip_ua *ua, struct sip_event *ret)
{
	struct ua_event *ev = ua->ev_head;

	free(ua->ev_lent);
	ua->ev_lent = ev;
	if (!ev)
		return false;
	ua->ev_head = ev->next;
	if (!ua->ev_head)
		ua->ev_tail = &ua->ev_head;
	*ret = ev->e;
	return true;
}

/* ---- life ---- */

enum err sip_ua_new(const struct sip_ua_config *cfg, struct sip_ua **ret)
{
	struct sip_ua *ua = calloc(1, sizeof(*ua));
	enum err e = ERR_NOMEM;

	if (!ua)
		return e;
	ua->rng = *cfg->rng;
	ua->log = log_of(cfg->log, "sip", "");
	ua->max_calls = cfg->max_calls;
	ua->ev_tail = &ua->ev_head;
	ua->timers = timers_new();
	ua->scratch = malloc(SIP_MSG_MAX);
	ua->parsed = malloc(sizeof(*ua->parsed));
	if (ua->timers && ua->scratch && ua->parsed)
		e = sip_txns_new(&ua->rng, &ua->txns);
	if (e != OK) {
		sip_ua_free(ua);
		return e;
	}
	*ret = ua;
	return OK;
}

void sip_ua_free(struct sip_ua *ua)
{
	if (!ua)
		return;
	while (ua->calls)
		ua_call_free(ua->calls);
	while (ua->accounts) {
		struct account *acc = ua->accounts;

		ua->accounts = acc->next;
		ua_account_free(acc);
	}
	while (ua->streams) {
		ua->streams->acc = NULL; /* the accounts are gone */
		ua_stream_free(ua, ua->streams);
	}
	while (ua->ev_head) {
		struct ua_event *ev = ua->ev_head;

		ua->ev_head = ev->next;
		free(ev);
	}
	free(ua->ev_lent);
	sip_txns_free(ua->txns);
	timers_free(ua->timers);
	free(ua->scratch);
	free(ua->parsed);
	free(ua);
}

void ua_arm(struct sip_ua *ua, struct timer *t, uint64_t due_us)
{
	if (timer_arm(ua->timers, t, due_us) != OK)
		log_error(&ua->log, "out of memory: a timer is lost");
}

struct account *ua_account_find(const struct sip_ua *ua, unsigned id)
{
	for (struct account *acc = ua->accounts; acc; acc = acc->next)
		if (acc->id == id && !acc->gone)
			return acc;
	return NULL;
}

struct call *ua_call_find(const struct sip_ua *ua, unsigned id)
{
	for (struct call *c = ua->calls; c; c = c->next)
		if (c->id == id && !c->dead)
			return c;
	return NULL;
}

/* ---- in ---- */

static void sort_event(struct sip_ua *ua, uint64_t now_us, const struct sip_txn_event *ev)
{
	if (ev->kind == SIP_TXN_REQUEST) {
		ua_request(ua, now_us, ev->txn, &ev->path, ev->msg);
	} else if (ev->kind == SIP_TXN_STRAY) {
		ua->stats.n_unmatched++;
	} else if (ev->owner) { /* both kinds of owner begin with what they are */
		if (*(const enum ua_owner *)ev->owner == OWN_REQ)
			ua_req_txn_event(ev->owner, now_us, ev);
		else
			ua_slot_event(ev->owner, now_us, ev);
	}
}

static void sweep(struct sip_ua *ua, uint64_t now_us)
{
	for (struct call *c = ua->calls, *next; c; c = next) {
		next = c->next;
		if (ua_call_through(c))
			ua_call_free(c);
	}
	for (struct account **at = &ua->accounts; *at;) {
		struct account *acc = *at;

		if (!acc->gone || acc->n_calls || acc->req.txn) {
			at = &acc->next;
			continue;
		}
		if (acc->aux)
			ua_stream_close(ua, now_us, acc->aux);
		if (acc->stream)
			ua_stream_close(ua, now_us, acc->stream);
		*at = acc->next;
		ua_account_free(acc);
	}
}

void ua_pump(struct sip_ua *ua, uint64_t now_us)
{
	struct sip_txn_event ev;

	while (sip_txns_poll_event(ua->txns, &ev))
		sort_event(ua, now_us, &ev);
	sweep(ua, now_us);
}

void ua_message(struct sip_ua *ua, uint64_t now_us, const struct path *path, struct span bytes)
{
	const char *why = "";
	unsigned status = 0;

	ua->stats.n_in++;
	if (sip_parse(bytes, ua->parsed, &why, &status) == OK) {
		sip_txns_input(ua->txns, now_us, path, ua->parsed);
		return;
	}
	ua->stats.n_malformed++;
	if (status && ua->parsed->is_request && ua->parsed->method != SIP_ACK)
		ua_refuse(ua, path, ua->parsed, status);
}

void sip_ua_input(struct sip_ua *ua, uint64_t now_us, const struct path *path, struct span bytes)
{
	if (path->transport == TRANSPORT_UDP)
		ua_message(ua, now_us, path, bytes);
	else
		ua_stream_input(ua, now_us, path, bytes);
	ua_pump(ua, now_us);
}

void sip_ua_tick(struct sip_ua *ua, uint64_t now_us)
{
	sip_txns_tick(ua->txns, now_us);
	timers_run(ua->timers, now_us);
	ua_pump(ua, now_us);
}

uint64_t sip_ua_deadline_us(const struct sip_ua *ua)
{
	uint64_t a = sip_txns_deadline_us(ua->txns), b = timers_deadline_us(ua->timers);

	return a < b ? a : b;
}

bool sip_ua_quiet(const struct sip_ua *ua)
{
	return sip_txns_quiet(ua->txns);
}

bool sip_ua_poll_output(struct sip_ua *ua, struct out *ret)
{
	bool any = sip_txns_poll_output(ua->txns, ret);

	ua->stats.n_out += any && ret->kind == OUT_SEND;
	ua->stats.n_retransmitted = sip_txns_retransmitted(ua->txns);
	return any;
}

const struct sip_ua_stats *sip_ua_stats(const struct sip_ua *ua)
{
	return &ua->stats;
}
