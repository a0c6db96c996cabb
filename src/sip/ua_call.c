/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Calls: what both sides have, and the caller's side (RFC 3261, 9.1, 13.2, 15). */
#include <stdlib.h>
#include <string.h>
#include "sip/ua_impl.h"

static void guard_fired(void *arg, uint64_t now_us)
{
	struct call *c = arg;

	(void)now_us;
	if (c->state != CALL_INVITING)
		return;
	ua_req_drop(&c->invite);
	c->state = CALL_OVER;
}

struct call *ua_call_new(struct account *acc, bool is_caller)
{
	struct sip_ua *ua = acc->ua;
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->last = ua_event_new(ua, SIP_CALL_ENDED, NULL, NULL, SPAN_NONE);
	if (!c->last) {
		free(c);
		return NULL;
	}
	c->ua = ua;
	c->acc = acc;
	c->is_caller = is_caller;
	c->state = is_caller ? CALL_INVITING : CALL_OFFERED;
	c->guard.fire = guard_fired;
	c->guard.arg = c;
	for (unsigned i = 0; i < UA_SLOTS; i++) {
		c->slots[i].own = OWN_SLOT;
		c->slots[i].call = c;
		c->slots[i].timer.fire = ua_slot_fired;
		c->slots[i].timer.arg = &c->slots[i];
	}
	ua_req_init(&c->invite, REQ_INVITE, acc, &c->early);
	ua_req_init(&c->cancel, REQ_CANCEL, acc, &c->early);
	c->invite.call = c->cancel.call = c;
	c->id = ++ua->n_calls_ever;
	c->next = ua->calls;
	ua->calls = c;
	acc->n_calls++;
	return c;
}

void ua_call_free(struct call *c)
{
	struct sip_ua *ua = c->ua;

	for (struct call **at = &ua->calls; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	c->acc->n_calls--;
	ua_req_drop(&c->invite);
	ua_req_drop(&c->cancel);
	timer_disarm(ua->timers, &c->guard);
	for (unsigned i = 0; i < UA_SLOTS; i++)
		ua_slot_done(&c->slots[i]);
	while (c->legs) {
		struct leg *l = c->legs;

		c->legs = l->next;
		ua_req_drop(&l->bye);
		sip_dialog_done(&l->d);
		free(l->ack);
		free(l);
	}
	sip_dialog_done(&c->early);
	free(c->last);
	free(c->offer);
	free(c);
}

bool ua_call_through(const struct call *c)
{
	if (c->state != CALL_OVER || !c->dead || ua_req_busy(&c->invite) || ua_req_busy(&c->cancel))
		return false;
	for (const struct leg *l = c->legs; l; l = l->next)
		if (l->state == LEG_UP || ua_req_busy(&l->bye))
			return false;
	return true;
}

/* ---- legs ---- */

struct leg *ua_leg_new(struct call *c)
{
	struct leg *l, **at = &c->legs;

	if (c->n_legs >= UA_LEGS_MAX)
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	while (*at)
		at = &(*at)->next;
	*at = l;
	l->id = ++c->n_legs;
	ua_req_init(&l->bye, REQ_BYE, c->acc, &l->d);
	l->bye.call = c;
	l->bye.leg = l;
	return l;
}

/* The one just made, which came to nothing. */
static void leg_remove_last(struct call *c)
{
	struct leg **at = &c->legs, *l;

	while ((*at)->next)
		at = &(*at)->next;
	l = *at;
	*at = NULL;
	c->n_legs--;
	sip_dialog_done(&l->d);
	free(l->ack);
	free(l);
}

struct leg *ua_leg_up(const struct call *c)
{
	for (struct leg *l = c->legs; l; l = l->next)
		if (l->state == LEG_UP)
			return l;
	return NULL;
}

static struct leg *leg_find(const struct call *c, unsigned id)
{
	for (struct leg *l = c->legs; l; l = l->next)
		if (l->id == id)
			return l;
	return NULL;
}

void ua_leg_bye(struct call *c, uint64_t now_us, struct leg *l)
{
	(void)c;
	if (l->state == LEG_GONE)
		return;
	l->state = LEG_GONE;
	ua_req_start(&l->bye, now_us);
}

static void legs_bye(struct call *c, uint64_t now_us, unsigned except)
{
	for (struct leg *l = c->legs; l; l = l->next)
		if (l->id != except)
			ua_leg_bye(c, now_us, l);
}

/* ---- the end ---- */

void ua_call_over(struct call *c, enum sip_event_kind kind, unsigned leg, unsigned status, struct span reason)
{
	struct ua_event *ev = c->last;

	c->state = CALL_OVER;
	if (c->dead)
		return;
	c->dead = true;
	c->last = NULL;
	ev->e.kind = kind;
	ev->e.account = c->acc->id;
	ev->e.call = c->id;
	ev->e.leg = leg;
	ev->e.status = status;
	ua_event_reason(ev, reason);
	ua_event_queue(c->ua, ev);
}

void ua_call_peer_bye(struct call *c, struct leg *l)
{
	l->state = LEG_GONE;
	/* Of several forks that the user has not chosen from, one may go; the call lives while any does. */
	if (c->chosen != l->id && ua_leg_up(c))
		return;
	ua_call_over(c, SIP_CALL_ENDED, l->id, 0, SPAN_LIT("the other side hung up"));
}

/* ---- the caller's side ---- */

static struct ua_event *call_event(struct call *c, enum sip_event_kind kind, const struct sip_msg *m,
				   const struct path *path, struct span body)
{
	struct ua_event *ev = ua_event_new(c->ua, kind, m->from.uri.is_sip ? &m->from.uri : NULL,
					   m->to.uri.is_sip ? &m->to.uri : NULL, body);

	if (!ev)
		return NULL;
	ev->e.account = c->acc->id;
	ev->e.call = c->id;
	ev->e.status = m->status;
	ev->e.path = *path;
	ua_event_reason(ev, m->reason);
	return ev;
}

static void cancel_send(struct call *c, uint64_t now_us)
{
	c->cancel_wanted = false;
	c->cancel.cseq = c->invite.cseq;
	c->cancel.path = c->invite.path;
	memcpy(c->cancel.branch, c->invite.branch, sizeof(c->cancel.branch));
	ua_req_start(&c->cancel, now_us);
	ua_arm(c->ua, &c->guard, now_us + 64 * SIP_T1_US);
}

static void provisional(struct call *c, uint64_t now_us, const struct sip_msg *m, const struct path *path)
{
	bool ringing = m->status >= 180;
	struct ua_event *ev;

	if (c->cancel_wanted)
		cancel_send(c, now_us);
	if (c->dead || c->state != CALL_INVITING || (!ringing && c->trying_told))
		return;
	ev = call_event(c, ringing ? SIP_CALL_RINGING : SIP_CALL_TRYING, m, path, SPAN_NONE);
	if (!ev)
		return;
	c->trying_told = true;
	ua_event_queue(c->ua, ev);
}

/* 13.2.2.4: the ACK to a 2xx has the INVITE's number and credentials, and a branch of its own. */
static enum err ack_build(struct call *c, struct leg *l, const struct path *path)
{
	struct wr w = wr_of(c->ua->scratch, SIP_MSG_MAX);
	char branch[SIP_BRANCH_TEXT];

	sip_branch(&c->ua->rng, branch);
	sip_dialog_request(&l->d, &w, SIP_ACK, c->invite.cseq, path->transport, &path->local, branch);
	wr_bytes(&w, c->invite.credentials, c->invite.credentials_len);
	sip_write_end(&w, NULL, SPAN_NONE);
	if (w.bad)
		return ERR_LIMIT;
	l->ack = (uint8_t *)span_dup(wr_done(&w));
	l->ack_len = w.len;
	return l->ack ? OK : ERR_NOMEM;
}

static void ack_send(struct call *c, struct leg *l, const struct path *path)
{
	(void)!sip_txns_send(c->ua->txns, path, span_of(l->ack, l->ack_len)); /* lost: the 2xx comes again */
}

static void success(struct call *c, uint64_t now_us, const struct sip_msg *m, const struct path *from)
{
	struct path path = from->transport == TRANSPORT_UDP ? c->invite.path : *from;
	bool unwanted = c->dead || c->chosen, too_long = m->body.len > SIP_BODY_MAX;
	struct ua_event *ev = NULL;
	struct leg *l;

	for (l = c->legs; l; l = l->next)
		if (span_eq_str(m->to_tag, l->d.remote_tag)) {
			ack_send(c, l, &path);
			return;
		}
	/* What there is no room for is not acknowledged: it is repeated, and at last given up by the other side. */
	l = ua_leg_new(c);
	if (!l)
		return;
	if (!unwanted && !too_long)
		ev = call_event(c, SIP_CALL_ANSWERED, m, &path, m->body);
	if ((!unwanted && !too_long && !ev) || sip_dialog_uac(&l->d, &c->early, m) != OK ||
	    ack_build(c, l, &path) != OK) {
		free(ev);
		leg_remove_last(c);
		return;
	}
	timer_disarm(c->ua->timers, &c->guard);
	c->cancel_wanted = false;
	c->state = c->dead ? CALL_OVER : CALL_UP;
	ack_send(c, l, &path);
	if (ev) {
		ev->e.leg = l->id;
		ua_event_queue(c->ua, ev);
		return;
	}
	ua_leg_bye(c, now_us, l);
	if (too_long && !ua_leg_up(c))
		ua_call_over(c, SIP_CALL_FAILED, l->id, 0, SPAN_LIT("the answer's description is too long"));
}

void ua_invite_answer(struct call *c, uint64_t now_us, const struct sip_msg *m, const struct path *path)
{
	if (!sip_dialog_asked(&c->early, m))
		return; /* a branch of ours in an answer to something else */
	if (m->status < 200)
		provisional(c, now_us, m, path);
	else
		success(c, now_us, m, path);
}

void ua_invite_failed(struct call *c, uint64_t now_us, unsigned status, struct span reason)
{
	(void)now_us;
	if (c->state != CALL_INVITING)
		return;
	timer_disarm(c->ua->timers, &c->guard);
	ua_call_over(c, SIP_CALL_FAILED, 0, status, reason);
}

void ua_invite_ended(struct call *c)
{
	/* No fork can follow now. Where the user dropped all that came, nothing is left. */
	if (c->state == CALL_UP && !ua_leg_up(c))
		ua_call_over(c, SIP_CALL_ENDED, 0, 0, SPAN_LIT("no leg is left"));
	/* Answered, but by nothing that makes a dialog (12.1.2): no timer would end it any more. */
	if (c->state == CALL_INVITING)
		ua_call_over(c, SIP_CALL_FAILED, 0, 0, SPAN_LIT("no answer that can be used"));
}

enum err sip_ua_invite(struct sip_ua *ua, uint64_t now_us, unsigned account, const char *to, struct span offer,
		       unsigned *ret_call)
{
	struct account *acc = ua_account_find(ua, account);
	struct sip_uri uri;
	struct call *c;
	unsigned n = 0;
	enum err e;

	if (!acc)
		return ERR_NOTFOUND;
	if (strlen(to) >= SIP_AOR_MAX || sip_uri_parse(span_str(to), &uri) != OK || !uri.is_sip || uri.headers.len)
		return ERR_MALFORMED;
	for (c = ua->calls; c; c = c->next)
		n += !c->dead;
	if (n >= ua->max_calls || offer.len > SIP_BODY_MAX)
		return ERR_LIMIT;
	c = ua_call_new(acc, true);
	if (!c)
		return ERR_NOMEM;
	e = sip_dialog_out(&c->early, &ua->rng, acc->aor, to, to);
	c->offer = (uint8_t *)span_dup(offer);
	c->offer_len = offer.len;
	if (e != OK || !c->offer) {
		ua_call_free(c);
		return ERR_NOMEM;
	}
	*ret_call = c->id;
	ua_req_start(&c->invite, now_us);
	ua_pump(ua, now_us);
	return OK;
}

static void hangup_invited(struct call *c, uint64_t now_us)
{
	if (!c->invite.txn) {
		ua_req_drop(&c->invite); /* still waits for its stream */
		c->state = CALL_OVER;
	} else if (c->invite.heard) {
		cancel_send(c, now_us);
	} else {
		c->cancel_wanted = true; /* 9.1: not before a provisional answer */
	}
}

void sip_ua_hangup(struct sip_ua *ua, uint64_t now_us, unsigned call)
{
	struct call *c = ua_call_find(ua, call);

	if (!c)
		return;
	switch (c->state) {
	case CALL_OFFERED: sip_ua_reject(ua, now_us, call, 480); return;
	case CALL_INVITING:
		c->dead = true;
		hangup_invited(c, now_us);
		break;
	case CALL_ANSWERED:
		/* 15: the callee sends no BYE before the ACK, or the time for it is over. */
		c->dead = true;
		c->bye_wanted = true;
		break;
	case CALL_UP:
		c->dead = true;
		c->state = CALL_OVER;
		legs_bye(c, now_us, 0);
		break;
	case CALL_OVER: break;
	}
	ua_pump(ua, now_us);
}

void sip_ua_choose_leg(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned leg)
{
	struct call *c = ua_call_find(ua, call);
	struct leg *l = c && c->is_caller ? leg_find(c, leg) : NULL;

	if (!l)
		return;
	c->chosen = leg;
	legs_bye(c, now_us, leg);
	if (l->state == LEG_GONE)
		ua_call_over(c, SIP_CALL_ENDED, leg, 0, SPAN_LIT("the other side hung up"));
	ua_pump(ua, now_us);
}

void sip_ua_drop_leg(struct sip_ua *ua, uint64_t now_us, unsigned call, unsigned leg)
{
	struct call *c = ua_call_find(ua, call);
	struct leg *l = c && c->is_caller ? leg_find(c, leg) : NULL;

	if (!l)
		return;
	ua_leg_bye(c, now_us, l);
	if (!ua_leg_up(c) && (c->chosen || !c->invite.txn))
		ua_call_over(c, SIP_CALL_ENDED, leg, 0, SPAN_LIT("no leg is left"));
	ua_pump(ua, now_us);
}
