/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Requests of others: the callee's side of a call, and what comes inside a dialog (RFC 3261, 8.2, 12.2.2, 13.3, 15.1.2). */
#include <stdlib.h>
#include <string.h>
#include "sip/ua_impl.h"

/* ---- answers ---- */

/* Contact and Allow go into what makes or refreshes a dialog; acc NULL: without. */
static struct span build(struct sip_ua *ua, const struct sip_msg *rq, const struct path *path, unsigned status,
			 const char *tag, const struct account *acc, struct span body)
{
	struct wr w = wr_of(ua->scratch, SIP_MSG_MAX);

	sip_write_response(&w, rq, &path->remote, status, NULL, tag);
	if (acc && status > 100 && status < 300) {
		uint8_t mem[160];
		struct wr v = wr_of(mem, sizeof(mem));

		ua_contact_write(&v, acc, path);
		sip_write_header(&w, H_CONTACT, wr_done(&v));
	}
	if (status == 405 || status == 200)
		sip_write_headerf(&w, H_ALLOW, UA_ALLOW);
	if (status == 420)
		sip_write_header(&w, H_UNSUPPORTED, sip_value(rq, H_REQUIRE));
	sip_write_end(&w, body.len ? "application/sdp" : NULL, body);
	return w.bad ? SPAN_NONE : wr_done(&w);
}

static enum err respond(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, unsigned status, const char *tag,
			const struct account *acc, struct span body)
{
	struct span bytes = build(ua, sip_txn_request_msg(x), sip_txn_path(x), status, tag, acc, body);

	return bytes.len ? sip_txn_respond(x, now_us, status, bytes) : ERR_LIMIT;
}

/* A final answer at once, outside any dialog of ours. */
static void refuse(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, unsigned status)
{
	char tag[SIP_TAG_LEN + 1];

	rng_text(&ua->rng, tag, SIP_TAG_LEN);
	if (respond(ua, now_us, x, status, tag, NULL, SPAN_NONE) != OK)
		log_warn(&ua->log, "an answer could not be written");
}

void ua_refuse(struct sip_ua *ua, const struct path *path, const struct sip_msg *m, unsigned status)
{
	struct path to = sip_reply_path(path, m);
	char tag[SIP_TAG_LEN + 1];
	struct span bytes;

	rng_text(&ua->rng, tag, SIP_TAG_LEN);
	bytes = build(ua, m, path, status, tag, NULL, SPAN_NONE);
	if (bytes.len)
		(void)!sip_txns_send(ua->txns, &to, bytes);
}

/* ---- slots ---- */

void ua_slot_done(struct ua_slot *s)
{
	if (s->txn)
		sip_txn_forget(s->txn);
	timer_disarm(s->call->ua->timers, &s->timer);
	free(s->ok);
	s->ok = NULL;
	s->txn = NULL;
	s->used = s->waits_ack = false;
}

static struct ua_slot *slot_new(struct call *c, struct sip_txn *x, const struct sip_msg *m)
{
	for (unsigned i = 0; i < UA_SLOTS; i++) {
		struct ua_slot *s = &c->slots[i];

		if (s->used)
			continue;
		s->used = true;
		s->is_invite = m->method == SIP_INVITE;
		s->waits_ack = false;
		s->txn = x;
		s->cseq = m->cseq;
		sip_txn_set_owner(x, s);
		return s;
	}
	return NULL;
}

static struct ua_slot *slot_of_txn(struct sip_txn *x)
{
	void *owner = x ? sip_txn_owner(x) : NULL;

	return owner && *(enum ua_owner *)owner == OWN_SLOT ? owner : NULL;
}

void ua_slot_event(struct ua_slot *s, uint64_t now_us, const struct sip_txn_event *ev)
{
	(void)now_us;
	if (ev->kind != SIP_TXN_ENDED || s->txn != ev->txn)
		return;
	s->txn = NULL;
	if (!s->waits_ack)
		ua_slot_done(s);
}

/* 13.3.1.4: a 2xx is repeated until its ACK comes, whatever it travels on; without one the dialog is given up with a BYE. */
void ua_slot_fired(void *arg, uint64_t now_us)
{
	struct ua_slot *s = arg;
	struct call *c = s->call;

	if (!s->waits_ack)
		return;
	if (s->txn && now_us < s->give_up_us) {
		(void)!sip_txn_respond(s->txn, now_us, 200, span_of(s->ok, s->ok_len));
		s->interval_us = 2 * s->interval_us < SIP_T2_US ? 2 * s->interval_us : SIP_T2_US;
		ua_arm(c->ua, &s->timer,
		       now_us + s->interval_us < s->give_up_us ? now_us + s->interval_us : s->give_up_us);
		return;
	}
	ua_slot_done(s);
	if (c->legs)
		ua_leg_bye(c, now_us, c->legs);
	ua_call_over(c, SIP_CALL_ENDED, 0, 0, SPAN_LIT("the answer was never confirmed"));
}

static enum err answer_invite(struct ua_slot *s, uint64_t now_us, const char *tag, struct span body)
{
	struct call *c = s->call;
	struct span bytes = build(c->ua, sip_txn_request_msg(s->txn), sip_txn_path(s->txn), 200, tag, c->acc, body);
	enum err e;

	if (!bytes.len)
		return ERR_LIMIT;
	s->ok = (uint8_t *)span_dup(bytes);
	s->ok_len = bytes.len;
	if (!s->ok)
		return ERR_NOMEM;
	e = sip_txn_respond(s->txn, now_us, 200, bytes);
	if (e != OK) {
		free(s->ok);
		s->ok = NULL;
		return e;
	}
	s->waits_ack = true;
	s->interval_us = SIP_T1_US;
	s->give_up_us = now_us + 64 * SIP_T1_US;
	ua_arm(c->ua, &s->timer, now_us + SIP_T1_US);
	return OK;
}

/* ---- the user's side ---- */

enum err sip_ua_ring(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned status)
{
	struct call *c = ua_call_find(ua, call);
	enum err e;

	if (!c)
		return ERR_NOTFOUND;
	if (c->is_caller || c->state != CALL_OFFERED || status < 101 || status > 199 || !c->slots[0].txn)
		return ERR_WRONG_STATE;
	e = respond(ua, now_us, c->slots[0].txn, status, c->legs->d.local_tag, c->acc, SPAN_NONE);
	ua_pump(ua, now_us);
	return e;
}

enum err sip_ua_answer(struct sip_ua *ua, uint64_t now_us, unsigned call, struct span answer)
{
	struct call *c = ua_call_find(ua, call);
	enum err e;

	if (!c)
		return ERR_NOTFOUND;
	if (c->is_caller || c->state != CALL_OFFERED || !c->slots[0].txn)
		return ERR_WRONG_STATE;
	if (answer.len > SIP_BODY_MAX)
		return ERR_LIMIT;
	e = answer_invite(&c->slots[0], now_us, c->legs->d.local_tag, answer);
	if (e == OK)
		c->state = CALL_ANSWERED;
	ua_pump(ua, now_us);
	return e;
}

void sip_ua_reject(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned status)
{
	struct call *c = ua_call_find(ua, call);

	if (!c || c->is_caller || c->state != CALL_OFFERED)
		return;
	if (c->slots[0].txn)
		(void)!respond(ua, now_us, c->slots[0].txn, status, c->legs->d.local_tag, NULL, SPAN_NONE);
	ua_slot_done(&c->slots[0]);
	c->legs->state = LEG_GONE;
	c->state = CALL_OVER;
	c->dead = true;
	ua_pump(ua, now_us);
}

enum err sip_ua_respond(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned request, unsigned status,
			struct span body)
{
	struct call *c = ua_call_find(ua, call);
	struct ua_slot *s = NULL;
	enum err e;

	for (unsigned i = 0; c && request && i < UA_SLOTS; i++)
		if (c->slots[i].used && c->slots[i].id == request && c->slots[i].txn && !c->slots[i].waits_ack)
			s = &c->slots[i];
	if (!s)
		return ERR_NOTFOUND;
	if (s->is_invite && status < 300) {
		e = answer_invite(s, now_us, NULL, body);
	} else {
		e = respond(ua, now_us, s->txn, status, NULL, c->acc, body);
		ua_slot_done(s);
	}
	ua_pump(ua, now_us);
	return e;
}

/* ---- requests outside a dialog ---- */

static struct account *account_of(const struct sip_ua *ua, const struct sip_msg *m)
{
	for (struct account *acc = ua->accounts; acc; acc = acc->next)
		if (!acc->gone && m->uri.is_sip && span_eq_str(m->uri.user, acc->contact_user))
			return acc;
	return NULL;
}

static void incoming(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, const struct path *path,
		     const struct sip_msg *m)
{
	struct account *acc = account_of(ua, m);
	struct ua_event *ev = NULL;
	struct call *c = NULL;
	struct leg *l = NULL;
	unsigned n = 0, status = 0;

	for (const struct call *o = ua->calls; o; o = o->next)
		n += !o->dead;
	/* Nobody has said yet that the caller is to know that we are here: what is wrong with the call gets the answer of a
	 * device that is not there (docs/protocol.md). */
	if (!acc)
		status = 404;
	else if (m->body.len > SIP_BODY_MAX || n >= ua->max_calls || sip_value(m, H_REQUIRE).len ||
		 !(c = ua_call_new(acc, false)) || !(l = ua_leg_new(c)) || !slot_new(c, x, m) ||
		 !(ev = ua_event_new(ua, SIP_CALL_INCOMING, m->from.uri.is_sip ? &m->from.uri : NULL,
				     m->to.uri.is_sip ? &m->to.uri : NULL, m->body)) ||
		 sip_dialog_uas(&l->d, &ua->rng, m) != OK) /* no usable Contact (12.1.1) */
		status = 480;
	if (status) {
		refuse(ua, now_us, x, status);
		free(ev);
		if (c) {
			sip_txn_set_owner(x, NULL);
			c->slots[0].txn = NULL;
			ua_call_free(c);
		}
		return;
	}
	c->slots[0].id = 0;
	(void)!respond(ua, now_us, x, 100, NULL, NULL, SPAN_NONE);
	ev->e.account = acc->id;
	ev->e.call = c->id;
	ev->e.path = *path;
	ua_event_queue(ua, ev);
}

static void outside(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, const struct path *path,
		    const struct sip_msg *m)
{
	switch (m->method) {
	case SIP_INVITE: incoming(ua, now_us, x, path, m); break;
	case SIP_OPTIONS: refuse(ua, now_us, x, account_of(ua, m) ? 200 : 404); break;
	case SIP_BYE:
	case SIP_UPDATE:
	case SIP_PRACK: refuse(ua, now_us, x, 481); break;
	case SIP_UNKNOWN: refuse(ua, now_us, x, 501); break;
	default: refuse(ua, now_us, x, 405); break;
	}
}

/* ---- requests inside a dialog ---- */

static struct leg *leg_of(const struct sip_ua *ua, const struct sip_msg *m, struct call **ret_call)
{
	for (struct call *c = ua->calls; c; c = c->next)
		for (struct leg *l = c->legs; l; l = l->next)
			if (l->d.call_id && sip_dialog_has(&l->d, m)) {
				*ret_call = c;
				return l;
			}
	return NULL;
}

/* The first answer has arrived. */
static void confirmed(struct call *c, uint64_t now_us)
{
	struct sip_ua *ua = c->ua;

	if (c->state == CALL_ANSWERED)
		c->state = c->dead ? CALL_OVER : CALL_UP;
	if (!c->dead) {
		struct ua_event *ev = ua_event_new(ua, SIP_CALL_CONFIRMED, NULL, NULL, SPAN_NONE);

		if (ev) {
			ev->e.account = c->acc->id;
			ev->e.call = c->id;
			ua_event_queue(ua, ev);
		}
	}
	if (c->bye_wanted)
		ua_leg_bye(c, now_us, c->legs);
}

static void acked(struct sip_ua *ua, uint64_t now_us, const struct sip_msg *m)
{
	struct call *c = NULL;
	struct leg *l = leg_of(ua, m, &c);

	for (unsigned i = 0; l && i < UA_SLOTS; i++) {
		struct ua_slot *s = &c->slots[i];
		bool first = s->used && !s->id && !c->is_caller;

		if (!s->used || !s->waits_ack || s->cseq != m->cseq)
			continue;
		ua_slot_done(s);
		if (first)
			confirmed(c, now_us);
		return;
	}
}

void sip_ua_confirm(struct sip_ua *ua, uint64_t now_us, unsigned call)
{
	struct call *c = ua_call_find(ua, call);

	for (unsigned i = 0; c && !c->is_caller && i < UA_SLOTS; i++)
		if (c->slots[i].used && !c->slots[i].id && c->slots[i].waits_ack) {
			ua_slot_done(&c->slots[i]);
			confirmed(c, now_us);
			break;
		}
	ua_pump(ua, now_us);
}

static void said_bye(struct sip_ua *ua, uint64_t now_us, struct call *c, struct leg *l, struct sip_txn *x)
{
	(void)!respond(ua, now_us, x, 200, NULL, NULL, SPAN_NONE);
	for (unsigned i = 0; i < UA_SLOTS; i++) { /* 15.1.2: what is still open ends with 487 */
		struct ua_slot *s = &c->slots[i];

		if (s->used && s->txn && !s->waits_ack)
			(void)!respond(ua, now_us, s->txn, 487, l->d.local_tag, NULL, SPAN_NONE);
		if (s->used)
			ua_slot_done(s);
	}
	ua_call_peer_bye(c, l);
}

static void change(struct sip_ua *ua, uint64_t now_us, struct call *c, struct sip_txn *x, const struct path *path,
		   const struct sip_msg *m)
{
	struct ua_event *ev;
	struct ua_slot *s;

	for (unsigned i = 0; i < UA_SLOTS; i++)
		if (c->slots[i].used && c->slots[i].id && (c->slots[i].is_invite || m->method == SIP_INVITE)) {
			refuse(ua, now_us, x, 491); /* 14.2; RFC 3311, 5.2: one offer at a time */
			return;
		}
	if (c->dead || (c->state != CALL_UP && c->state != CALL_ANSWERED)) {
		refuse(ua, now_us, x, c->dead ? 481 : 491);
		return;
	}
	ev = m->body.len <= SIP_BODY_MAX ? ua_event_new(ua, SIP_CALL_REQUEST, NULL, NULL, m->body) : NULL;
	s = ev ? slot_new(c, x, m) : NULL;
	if (!s) {
		free(ev);
		refuse(ua, now_us, x, m->body.len > SIP_BODY_MAX ? 513 : 500);
		return;
	}
	s->id = ++c->n_requests;
	ev->e.account = c->acc->id;
	ev->e.call = c->id;
	ev->e.request = s->id;
	ev->e.is_invite = s->is_invite;
	ev->e.path = *path;
	ua_event_queue(ua, ev);
}

static void inside(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, const struct path *path,
		   const struct sip_msg *m)
{
	struct call *c = NULL;
	struct leg *l = leg_of(ua, m, &c);

	if (!l || l->state == LEG_GONE) {
		refuse(ua, now_us, x, 481);
		return;
	}
	if (!sip_dialog_seq(&l->d, m)) {
		refuse(ua, now_us, x, 500); /* 12.2.2: out of order */
		return;
	}
	switch (m->method) {
	case SIP_BYE: said_bye(ua, now_us, c, l, x); break;
	case SIP_INVITE:
	case SIP_UPDATE:
		sip_dialog_refresh(&l->d, m);
		change(ua, now_us, c, x, path, m);
		break;
	case SIP_OPTIONS: refuse(ua, now_us, x, 200); break;
	case SIP_UNKNOWN: refuse(ua, now_us, x, 501); break;
	default: refuse(ua, now_us, x, 405); break;
	}
}

static void cancelled(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, const struct sip_msg *m)
{
	struct sip_txn *invite = sip_txn_of_cancel(ua->txns, m);
	struct ua_slot *s = slot_of_txn(invite);
	struct call *c = s ? s->call : NULL;

	if (!invite) {
		refuse(ua, now_us, x, 481);
		return;
	}
	refuse(ua, now_us, x, 200);
	if (!s || s->waits_ack || sip_txn_answered(invite))
		return; /* too late (9.2) */
	(void)!respond(ua, now_us, invite, 487, c->legs ? c->legs->d.local_tag : NULL, NULL, SPAN_NONE);
	ua_slot_done(s);
	if (!s->id && c->state == CALL_OFFERED && c->legs) {
		c->legs->state = LEG_GONE;
		ua_call_over(c, SIP_CALL_ENDED, 0, 0, SPAN_LIT("the caller gave up"));
	}
}

void ua_request(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, const struct path *path, const struct sip_msg *m)
{
	if (!x) {
		acked(ua, now_us, m);
		return;
	}
	if (m->method == SIP_CANCEL)
		cancelled(ua, now_us, x, m);
	else if (sip_value(m, H_REQUIRE).len && (m->method != SIP_INVITE || m->to_tag.len))
		refuse(ua, now_us, x, 420); /* 8.2.2.3: nothing that could be required is understood yet */
	else if (m->to_tag.len)
		inside(ua, now_us, x, path, m);
	else
		outside(ua, now_us, x, path, m);
}
