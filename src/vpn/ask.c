/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/ask.c - `ask = yes`: somebody decides about each call (docs/protocol.md). The caller is told to wait, no exchange is
 * held open; the owner sees who was proved by IKE, and his answer leaves in an INFORMATIONAL of our own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vpn/impl.h"

/* ---- what was asked before ---- */

static bool recent(const struct ask_past *p, uint64_t now_us)
{
	return p->call && (p->end == ASK_OPEN || now_us < p->asked_us + ASK_REMEMBER_US);
}

static struct ask_past *past_of(struct vpn *v, unsigned call)
{
	for (unsigned i = 0; i < ASK_PAST_MAX; i++)
		if (v->pasts[i].call == call)
			return &v->pasts[i];
	return NULL;
}

/* A place: one that was never used, or the oldest of those that need not be remembered. */
static struct ask_past *past_free(struct vpn *v, uint64_t now_us)
{
	struct ask_past *best = NULL;

	for (unsigned i = 0; i < ASK_PAST_MAX; i++) {
		struct ask_past *p = &v->pasts[i];

		if (!p->call)
			return p;
		if ((!recent(p, now_us) || p->end == ASK_GRANTED) && (!best || p->asked_us < best->asked_us))
			best = p;
	}
	return best;
}

/* The older call of the same key ends when this one is authenticated; then its question is gone, too. */
static bool replaces(const struct call *c, const struct call *o)
{
	return o->id < c->id && o->account == c->account && !strcmp(o->peer, c->peer);
}

static enum err who_asks(const struct call *c, uint8_t ret[32])
{
	uint8_t text[SPKI_HASH + CFG_AOR_MAX];
	struct wr w = wr_of(text, sizeof(text));

	wr_bytes(&w, c->key, SPKI_HASH);
	wr_str(&w, c->peer);
	return w.bad ? ERR_LIMIT : hash_of(HASH_SHA256, wr_done(&w), ret);
}

/* No peer, however well known, may bury the owner under questions: one at a time of a key, so many in ten minutes of a key
 * that were not answered with yes, so many at a time in all. */
static bool may_ask(const struct vpn *v, const struct call *c, uint64_t now_us, const uint8_t who[32])
{
	unsigned n_open = 0, n_key = 0;

	for (const struct call *o = v->calls; o; o = o->next) {
		bool same = !memcmp(o->key, c->key, SPKI_HASH) && !strcmp(o->peer, c->peer);

		if (o == c || !o->ask || (same && replaces(c, o)))
			continue;
		if (same)
			return false;
		n_open++;
	}
	for (unsigned i = 0; i < ASK_PAST_MAX; i++)
		n_key += recent(&v->pasts[i], now_us) && v->pasts[i].end != ASK_GRANTED &&
			 !memcmp(v->pasts[i].who, who, sizeof(v->pasts[i].who));
	return n_open < ASK_OPEN_MAX && n_key < ASK_UNANSWERED_MAX;
}

/* ---- from the request to the question ---- */

bool ask_note(struct call *c, const char *name)
{
	if (!c->ask)
		c->ask = calloc(1, sizeof(*c->ask));
	if (!c->ask)
		return false;
	for (unsigned i = 0; i < c->ask->n; i++)
		if (!strcmp(c->ask->names[i], name))
			return true;
	if (c->ask->n == CFG_ALLOW_MAX)
		return false;
	(void)snprintf(c->ask->names[c->ask->n++], sizeof(c->ask->names[0]), "%s", name);
	return true;
}

static void drop(struct call *c)
{
	free(c->ask);
	c->ask = NULL;
}

void ask_close(struct vpn *v, struct call *c, enum ask_end end)
{
	struct ask_past *p = c->ask ? past_of(v, c->id) : NULL;

	if (p)
		p->end = end;
	drop(c);
}

bool ask_begin(struct vpn *v, struct call *c, uint64_t now_us, uint32_t request)
{
	const struct cfg_peer *section = config_peer(v->cfg, c->peer);
	struct ask_past *p = NULL;
	uint8_t who[32];

	if (section && who_asks(c, who) == OK && may_ask(v, c, now_us, who))
		p = past_free(v, now_us);
	if (!p) {
		vpn_audit(v, c, "the owner is not asked: too many questions");
		drop(c);
		return false;
	}
	*p = (struct ask_past){ .call = c->id, .request = request, .asked_us = now_us, .end = ASK_OPEN };
	memcpy(p->who, who, sizeof(p->who));
	c->ask->request = request;
	c->ask->seconds = section->ask_s;
	c->ask->until_us = now_us + SECONDS((uint64_t)section->ask_s);
	return true;
}

static void announce(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct vpn_event e = vpn_event_of(c, now_us, VPN_EV_ASKED);
	uint64_t left_us = c->ask->until_us > now_us ? c->ask->until_us - now_us : 0;

	e.request = c->ask->request;
	e.seconds = (uint32_t)((left_us + 999999) / 1000000);
	log_info(&c->log, "call %u: %s asks for %s%s; `tieline answer %u` or `tieline decline %u` within %u s", c->id,
		 c->peer, c->ask->names[0], c->ask->n > 1 ? " and more" : "", c->id, c->id, e.seconds);
	vpn_tell(v, &e);
}

void ask_authenticated(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (!c->ask)
		return;
	c->state = CALL_WAITING;
	announce(v, c, now_us);
}

/* ---- the answer ---- */

/* The caller is told, and hangs up when it has nothing else; one that does not has no route here and goes in the end. */
static void refuse(struct vpn *v, struct call *c, uint64_t now_us, uint8_t why, enum ask_end end)
{
	static const struct {
		enum reason code;
		const char *text;
	} rows[] = {
		[REFUSE_NOT_ALLOWED] = { REASON_NOT_ALLOWED, "the configuration does not allow it any more" },
		[REFUSE_DECLINED] = { REASON_DECLINED, "declined" },
		[REFUSE_NO_ANSWER] = { REASON_NOT_AVAILABLE, "nobody decided in time" },
	};
	struct ike_decision d = { .verdict = IKE_REFUSED, .request = c->ask->request, .refuse_reason = why };
	struct vpn_event e = vpn_event_of(c, now_us, VPN_EV_REFUSED);
	/* a stock peer knows no REFUSE: its call ends */
	enum err r = c->sa && !c->bare ? ike_sa_grant_later(c->sa, now_us, &d) : ERR_WRONG_STATE;

	ask_close(v, c, end);
	vpn_audit(v, c, "refused: %s", rows[why].text);
	e.code = rows[why].code;
	(void)snprintf(e.reason, sizeof(e.reason), "%s", rows[why].text);
	vpn_tell(v, &e);
	c->refused = true;
	if (r != OK) {
		call_end(v, c, now_us, rows[why].code, rows[why].text);
		return;
	}
	call_take_down(v, c);
	c->deadline_us = now_us + CALL_REFUSED_US;
	c->deadline_code = rows[why].code;
	c->deadline_text = rows[why].text;
}

static void tell_granted(struct vpn *v, const struct call *c, uint64_t now_us)
{
	for (unsigned i = 0; i < c->n_grants; i++) {
		grant_tell(v, c, now_us, &c->grants[i]);
	}
}

/* The answer on the wire: GRANTs, or the one Child SA of a stock peer. */
static enum err send_grants(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ike_decision d = { .verdict = IKE_GRANTED, .request = c->ask->request };

	if (!c->sa)
		return ERR_WRONG_STATE;
	if (c->bare)
		return grant_offer_stock(v, c, now_us);
	for (unsigned i = 0; i < c->n_grants; i++)
		d.grants[d.n_grants++] = c->grants[i].g;
	return ike_sa_grant_later(c->sa, now_us, &d);
}

/* Policy is asked again with the owner's yes: what it forbids meanwhile is not granted. Nothing has changed on error, but
 * ERR_DENIED: then nothing is left to be granted, and the caller is told. */
static enum err grant(struct vpn *v, struct call *c, uint64_t now_us, uint32_t seconds)
{
	enum err e;

	c->agreed = true;
	for (unsigned i = 0; i < c->ask->n; i++)
		(void)grant_by_name(v, c, now_us, c->ask->request, c->ask->names[i], seconds);
	e = c->n_grants ? send_grants(v, c, now_us) : ERR_DENIED;
	if (e != OK) {
		c->agreed = false;
		grants_drop(c);
		if (e == ERR_DENIED)
			refuse(v, c, now_us, REFUSE_NOT_ALLOWED, ASK_WITHDRAWN);
		return e;
	}
	ask_close(v, c, ASK_GRANTED);
	c->state = CALL_UP;
	tell_granted(v, c, now_us);
	return OK;
}

static const char *why_not(struct vpn *v, const struct vpn_answer *a)
{
	static const char *const texts[] = {
		[ASK_OPEN] = "another request is open in this call; `tieline status` shows it",
		[ASK_GRANTED] = "this request was answered with yes already",
		[ASK_DECLINED] = "this request was declined already",
		[ASK_EXPIRED] = "too late: the time for an answer is over, and the caller was told that nobody decided",
		[ASK_LEFT] = "too late: the caller has hung up, or the call ended otherwise",
		[ASK_WITHDRAWN] = "the configuration or the pins do not allow any more what was asked for",
	};
	const struct ask_past *p = a->call ? past_of(v, a->call) : NULL;

	if (p && (!a->has_request || p->request == a->request || p->end == ASK_OPEN))
		return texts[p->end];
	return vpn_call_find(v, a->call) ? "nobody is asked anything in this call" : "no such call";
}

enum err vpn_answer(struct vpn *v, uint64_t now_us, const struct vpn_answer *a, const char **ret_why)
{
	struct call *c = vpn_call_find(v, a->call);
	enum err e;

	*ret_why = "";
	if (c)
		ask_tick(v, c, now_us); /* the time may be over, and nobody has looked yet */
	if (!c || !c->ask || (a->has_request && a->request != c->ask->request)) {
		*ret_why = why_not(v, a);
		return ERR_NOTFOUND;
	}
	if (a->yes) {
		vpn_audit(v, c, "the owner says yes");
		e = grant(v, c, now_us, a->seconds);
	} else {
		vpn_audit(v, c, "the owner declines");
		refuse(v, c, now_us, REFUSE_DECLINED, ASK_DECLINED);
		e = OK;
	}
	if (e == ERR_DENIED)
		*ret_why = why_not(v, a);
	else if (e != OK)
		*ret_why = "the answer could not be sent now; try again";
	vpn_tick(v, now_us);
	return e;
}

/* ---- time, and a policy that changes ---- */

void ask_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (c->ask && now_us >= c->ask->until_us)
		refuse(v, c, now_us, REFUSE_NO_ANSWER, ASK_EXPIRED);
}

/* Forbidden meanwhile: refused. Needs no asking any more: granted. Only some of it is left: the owner is asked for that. */
void ask_recheck(struct vpn *v, struct call *c, uint64_t now_us, bool known)
{
	bool yes = false;
	unsigned n = 0, before = c->ask->n;

	for (unsigned i = 0; known && i < c->ask->n; i++) {
		enum policy_verdict verdict = grant_verdict(v, c, c->ask->names[i]);

		if (verdict == POLICY_NO)
			continue;
		yes |= verdict == POLICY_YES;
		if (n != i)
			memcpy(c->ask->names[n], c->ask->names[i], sizeof(c->ask->names[0]));
		n++;
	}
	c->ask->n = n;
	if (!n) {
		refuse(v, c, now_us, REFUSE_NOT_ALLOWED, ASK_WITHDRAWN);
	} else if (yes) {
		vpn_audit(v, c, "the configuration does not ask any more");
		(void)!grant(v, c, now_us, 0); /* without memory the question stays */
	} else if (n != before && c->authenticated) {
		announce(v, c, now_us);
	}
}

/* ---- for `status` ---- */

bool vpn_ask_status(const struct vpn *v, uint64_t now_us, unsigned call, struct vpn_ask_status *ret)
{
	for (const struct call *c = v->calls; c; c = c->next) {
		if (c->id != call || !c->ask || !c->authenticated)
			continue;
		*ret = (struct vpn_ask_status){ .request = c->ask->request, .n = c->ask->n };
		if (c->ask->until_us > now_us)
			ret->left_s = (uint32_t)((c->ask->until_us - now_us + 999999) / 1000000);
		memcpy(ret->names, c->ask->names, sizeof(ret->names));
		return true;
	}
	return false;
}
