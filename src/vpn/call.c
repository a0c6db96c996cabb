/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/call.c - a call from INVITE to its end: what SIP says, and what follows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"
#include "vpn/impl.h"

bool call_live(const struct call *c)
{
	return c->state != CALL_CLOSING;
}

const char *call_state_name(const struct call *c)
{
	static const char *const names[] = {
		[CALL_PENDING] = "registering", [CALL_GATHERING] = "gathering",   [CALL_INVITING] = "calling",
		[CALL_RINGING] = "ringing",     [CALL_CONNECTING] = "connecting", [CALL_KEYING] = "keying",
		[CALL_ASKING] = "asking",       [CALL_WAITING] = "waiting",       [CALL_UP] = "up",
		[CALL_CLOSING] = "closing",
	};

	return names[c->state];
}

static void drop_half_open(struct call *c)
{
	for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++) {
		ike_sa_free(c->half_open[i]);
		c->half_open[i] = NULL;
		c->half_failed[i] = false;
	}
}

void call_free(struct call *c)
{
	if (!c)
		return;
	drop_half_open(c);
	ike_sa_free(c->sa);
	ice_agent_free(c->ice);
	free(c->ask);
	grants_drop(c);
	if (c->ike_cfg)
		ike_config_done(c->ike_cfg);
	free(c->ike_cfg);
	free(c->canon_offer);
	inforce_done(c);
	free(c->offer);
	secret_wipe(c, sizeof(*c));
	free(c);
}

static void deadline(struct call *c, uint64_t at_us, enum reason code, const char *text)
{
	c->deadline_us = at_us;
	c->deadline_code = code;
	c->deadline_text = text;
}

/* ---- the end ---- */

void call_take_down(struct vpn *v, struct call *c)
{
	struct vpn_want w = { .kind = VPN_WANT_PEER_DOWN, .call = c->id, .owner = c->owner, .last = true };

	if (!c->peer_up)
		return;
	c->peer_up = false;
	for (unsigned i = 0; i < c->n_grants; i++)
		network_down(v, c, &c->grants[i]);
	memcpy(w.self, v->self, 16);
	memcpy(w.peer, c->peer_address, 16);
	memcpy(w.spki, c->spki, c->spki_len);
	w.spki_len = c->spki_len;
	for (const struct call *o = v->calls; o; o = o->next)
		if (o->peer_up && !memcmp(o->peer_address, c->peer_address, 16))
			w.last = false;
	vpn_want(v, &w);
}

void call_end(struct vpn *v, struct call *c, uint64_t now_us, enum reason code, const char *text)
{
	struct vpn_event e;

	if (!call_live(c))
		return;
	if (c->revoked && code == REASON_OK) { /* the other side's hang-up is its answer to that */
		code = REASON_REVOKED;
		text = NULL;
	}
	e = vpn_event_of(c, now_us, VPN_EV_ENDED);
	e.code = code;
	(void)snprintf(e.reason, sizeof(e.reason), "%s", text ? text : reason_text(code));
	ask_close(v, c, ASK_LEFT);
	/* flows and sockets first, then keys, then the words on the wire */
	call_take_down(v, c);
	esp_set_call_remove(v->esp, c->id);
	c->state = CALL_CLOSING;
	grants_drop(c);
	c->deadline_us = c->give_up_us = c->stale_us = c->plane_due_us = TIME_NEVER;
	drop_half_open(c);
	if (c->sa) {
		ike_sa_delete(c->sa, now_us);
		deadline(c, now_us + CALL_CLOSING_US, code, NULL);
	}
	ice_agent_free(c->ice);
	c->ice = NULL;
	if (c->sip_call)
		sip_ua_hangup(v->ua, now_us, c->sip_call);
	c->sip_call = 0;
	log_info(&c->log, "call %u with %s ended: %s", c->id, c->peer, e.reason);
	vpn_audit(v, c, "ended (%d): %s", (int)code, e.reason);
	vpn_tell(v, &e);
}

/* ---- the caller's side ---- */

static void begin_invite(struct vpn *v, struct call *c, uint64_t now_us)
{
	const struct cfg_peer *peer = config_peer(v->cfg, c->peer);
	size_t len;

	if (peer && peer->bare) {
		c->bare = true;
		c->no_ice = !peer->ice;
		memcpy(c->peer_address, peer->address.ip, 16);
	}
	if (describe_offer(v, c, &len) != OK || sip_ua_invite(v->ua, now_us, v->accounts[c->account].sip, c->peer,
							      span_of(v->text, len), &c->sip_call) != OK) {
		call_end(v, c, now_us, REASON_INTERNAL, NULL);
		return;
	}
	c->state = CALL_INVITING;
	deadline(c, now_us + SECONDS((uint64_t)c->timeout_s), REASON_NOT_AVAILABLE, "nobody answered in time");
}

static void begin_outgoing(struct vpn *v, struct call *c, uint64_t now_us)
{
	const struct cfg_peer *peer = config_peer(v->cfg, c->peer);
	struct account *a = &v->accounts[c->account];
	struct policy_question q = { .act = POLICY_TALK,
				     .evidence = EVIDENCE_CLAIMED,
				     .peer = c->peer,
				     .we_call = true,
				     .bare = peer && peer->bare,
				     .trust_first = c->trust_first };
	struct policy_answer p;

	policy_decide(v->cfg, v->trust, &q, &p);
	if (p.verdict != POLICY_YES) {
		call_end(v, c, now_us, REASON_LEVEL, NULL);
		return;
	}
	c->level = p.level;
	if (a->registered && (vpn_gathered(v) || now_us >= c->began_us + CALL_GATHER_WAIT_US)) {
		begin_invite(v, c, now_us);
	} else if (a->password_wrong) {
		call_end(v, c, now_us, REASON_PASSWORD, NULL);
	} else if (now_us >= c->began_us + CALL_REGISTER_WAIT_US) {
		call_end(v, c, now_us, REASON_EXCHANGE, a->reason[0] ? a->reason : NULL);
	} else {
		/* looked at again when the registration changes; at the latest then */
		/* NOLINTNEXTLINE(bugprone-branch-clone) both waits are 8 s, for reasons of their own */
		deadline(c, a->registered ? c->began_us + CALL_GATHER_WAIT_US : c->began_us + CALL_REGISTER_WAIT_US,
			 REASON_EXCHANGE, NULL);
	}
}

static void sip_failed(struct vpn *v, struct call *c, uint64_t now_us, const struct sip_event *e)
{
	static const struct {
		unsigned status;
		enum reason code;
		const char *text;
	} rows[] = {
		{ 0, REASON_EXCHANGE, NULL },
		{ 503, REASON_EXCHANGE, NULL },
		{ 500, REASON_EXCHANGE, "the exchange or the other side reports an internal error" },
		{ 401, REASON_PASSWORD, NULL },
		{ 407, REASON_PASSWORD, NULL },
		{ 404, REASON_UNKNOWN_CALLEE, NULL },
		{ 604, REASON_UNKNOWN_CALLEE, NULL },
		{ 486, REASON_BUSY, NULL },
		{ 600, REASON_BUSY, NULL },
		{ 603, REASON_DECLINED, NULL },
		{ 403, REASON_PIN, "the other side knows our key under another address" },
		{ 488, REASON_SECURITY_LINES,
		  "the other side knows our key but refuses the offer: it is not fresh (clocks may differ) or was "
		  "changed on the way" },
		{ 408, REASON_NOT_AVAILABLE, NULL },
		{ 480, REASON_NOT_AVAILABLE, NULL },
	};
	enum reason code = REASON_NOT_AVAILABLE;
	const char *text = NULL;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == e->status) {
			code = rows[i].code;
			text = rows[i].text;
		}
	c->sip_call = 0;
	if (c->answered_once) /* a bad answer is the better explanation */
		call_end(v, c, now_us, c->fork_code, c->fork_text);
	else
		call_end(v, c, now_us, code, text);
}

static void answered(struct vpn *v, struct call *c, uint64_t now_us, const struct sip_event *e)
{
	struct verdict r;

	if (c->state != CALL_INVITING && c->state != CALL_RINGING) {
		/* A second box answers. Where no pin tells them apart, neither is taken (docs/threat-model.md). */
		if (!c->leg)
			return;
		if (c->first_pin && trust_remove(v->trust, c->peer, c->key) == OK) {
			struct vpn_want w = { .kind = VPN_WANT_SAVE_PINS };

			vpn_want(v, &w);
			vpn_audit(v, c, "first key forgotten again");
		}
		call_end(v, c, now_us, REASON_LEVEL, "two devices answered and no pinned key tells which is meant");
		return;
	}
	r = describe_check_answer(v, c, e->body);
	if (r.ok) {
		if (c->level == LEVEL_NONE) {
			c->leg = e->leg;
			c->choose_us = now_us + CALL_ANSWERS_US;
		} else {
			sip_ua_choose_leg(v->ua, now_us, c->sip_call, e->leg);
		}
		vpn_say(v, c, now_us, VPN_EV_ANSWERED);
		vpn_audit(v, c, "answered at level %s", trust_level_name(c->level));
		tunnel_begin(v, c, now_us);
		return;
	}
	sip_ua_drop_leg(v->ua, now_us, c->sip_call, e->leg);
	if (!c->answered_once) {
		c->answered_once = true;
		c->fork_code = r.code;
		(void)snprintf(c->fork_text, sizeof(c->fork_text), "%s", r.text ? r.text : reason_text(r.code));
		log_warn(&c->log, "call %u: an answer is refused: %s", c->id, c->fork_text);
		deadline(c, now_us + CALL_FORK_WAIT_US, r.code, c->fork_text);
	}
}

/* ---- the callee's side ---- */

/* Nothing that a stranger could cause comes before this. */
static void accepted(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (!c->bare && !trust_ever_signed(v->trust, c->key)) {
		struct vpn_want w = { .kind = VPN_WANT_SAVE_PINS };

		trust_mark_signed(v->trust, c->key);
		vpn_want(v, &w);
	}
	vpn_say(v, c, now_us, VPN_EV_INCOMING);
	vpn_audit(v, c, "accepted at level %s%s", trust_level_name(c->level), c->bare ? ", bare" : "");
}

/* The first requests to the STUN server are still out: an answer without our outside address might find no path. */
static bool wait_for_address(struct vpn *v, struct call *c, uint64_t now_us, struct span offer)
{
	if (c->no_ice || vpn_gathered(v))
		return false;
	c->offer = malloc(offer.len);
	if (!c->offer)
		return false; /* then without it */
	memcpy(c->offer, offer.p, offer.len);
	c->offer_len = offer.len;
	c->state = CALL_GATHERING;
	deadline(c, now_us + CALL_GATHER_WAIT_US, REASON_INTERNAL, NULL);
	return true;
}

static void late_answer(struct vpn *v, struct call *c, uint64_t now_us)
{
	size_t len;

	if (describe_late_answer(v, c, &len) != OK ||
	    sip_ua_answer(v->ua, now_us, c->sip_call, span_of(v->text, len)) != OK) {
		call_end(v, c, now_us, REASON_INTERNAL, "the answer could not be made");
		return;
	}
	free(c->offer);
	c->offer = NULL;
	tunnel_begin(v, c, now_us);
}

/* One call of one peer may be in the making: who may call at all, and who writes the name of a stock peer into a From, must not
 * take the places of all others. The newer one stays, as it does once it is authenticated (docs/protocol.md). */
static void drop_unfinished(struct vpn *v, const struct call *c, uint64_t now_us)
{
	for (struct call *o = v->calls; o; o = o->next)
		if (o != c && call_live(o) && !o->outgoing && !o->authenticated && o->account == c->account &&
		    o->bare == c->bare && o->has_key == c->has_key && !memcmp(o->key, c->key, SPKI_HASH) &&
		    !strcmp(o->peer, c->peer))
			call_end(v, o, now_us, REASON_OK, "replaced by a new call of the same peer");
}

/* A stranger leaves no trace but this log line, and not many of those. */
static void say_refused(struct vpn *v, const struct call *c, uint64_t now_us, const struct verdict *r)
{
	uint32_t more = 0;

	if (r->status != 480) {
		log_info(&c->log, "call %u refused with %u: %s", c->id, r->status, r->text);
		vpn_audit(v, c, "refused: %s", r->text);
	} else if (log_limit_pass(&v->stranger_limit, now_us, &more)) {
		log_info(&c->log, "call %u refused with 480: %s (%u more before)", c->id, r->text, more);
	}
}

/* Before anything is known of the caller, only this: the answer is the one that a device which is not there would get. */
static void incoming(struct vpn *v, uint64_t now_us, const struct sip_event *e)
{
	struct call *c = vpn_call_new(v, now_us, 0, false);
	unsigned index = 0;
	size_t canon_len = 0, len = 0;
	struct verdict r;
	bool waits = false;

	if (!c) {
		sip_ua_reject(v->ua, now_us, e->call, 500);
		return;
	}
	for (unsigned i = 0; i < v->cfg->n_accounts; i++)
		if (v->accounts[i].sip == e->account)
			c->account = i;
	c->state = CALL_CONNECTING;
	c->sip_call = e->call;
	r = describe_check_offer(v, c, e->from, e->body, &index, &canon_len);
	if (r.ok)
		drop_unfinished(v, c, now_us);
	if (r.ok && (vpn_calls_active(v) > v->cfg->max_calls || v->going))
		r = (struct verdict){ .status = 486, .code = REASON_BUSY, .text = "all calls are taken" };
	if (r.ok)
		waits = wait_for_address(v, c, now_us, e->body);
	if (r.ok && !waits && describe_answer(v, c, span_of(v->canon, canon_len), index, &len) != OK)
		r = (struct verdict){ .status = 500, .code = REASON_INTERNAL, .text = "the answer could not be made" };
	if (r.ok && !waits && sip_ua_answer(v->ua, now_us, c->sip_call, span_of(v->text, len)) != OK)
		r = (struct verdict){ .status = 500, .code = REASON_INTERNAL, .text = "the answer could not be sent" };
	if (!r.ok) {
		say_refused(v, c, now_us, &r);
		sip_ua_reject(v->ua, now_us, c->sip_call, r.status);
		c->sip_call = 0;
		c->state = CALL_CLOSING;
		return;
	}
	accepted(v, c, now_us);
	if (!waits)
		tunnel_begin(v, c, now_us);
}

/* ---- events ---- */

static struct call *by_sip(struct vpn *v, unsigned sip_call)
{
	for (struct call *c = v->calls; c; c = c->next)
		if (sip_call && c->sip_call == sip_call)
			return c;
	return NULL;
}

static void account_event(struct vpn *v, uint64_t now_us, const struct sip_event *e)
{
	for (unsigned i = 0; i < v->cfg->n_accounts; i++) {
		struct account *a = &v->accounts[i];
		struct vpn_event out = { .account = i,
					 .kind = e->kind == SIP_REGISTERED ? VPN_EV_REGISTERED
									   : VPN_EV_REGISTER_FAILED };
		bool was;

		if (!a->sip || a->sip != e->account)
			continue;
		was = a->registered;
		a->registered = e->kind == SIP_REGISTERED;
		a->password_wrong = !a->registered && (e->status == 401 || e->status == 407 || e->status == 403);
		(void)snprintf(a->reason, sizeof(a->reason), "%s", a->registered ? "" : e->reason);
		if (a->registered && sip_ua_server_date_s(v->ua, a->sip))
			a->clock_off_s = sip_ua_server_date_s(v->ua, a->sip) - vpn_wall_s(v);
		out.code = a->registered ? REASON_OK : a->password_wrong ? REASON_PASSWORD : REASON_EXCHANGE;
		(void)snprintf(out.reason, sizeof(out.reason), "%.120s: %.120s", a->cfg->aor,
			       a->registered ? "registered" : e->reason);
		if (!was || !a->registered) /* a refresh is no news */
			vpn_tell(v, &out);
		for (struct call *c = v->calls; c; c = c->next)
			if (c->state == CALL_PENDING && c->account == i)
				begin_outgoing(v, c, now_us);
	}
}

void call_sip_event(struct vpn *v, uint64_t now_us, const struct sip_event *e)
{
	struct call *c = by_sip(v, e->call);

	if (e->kind == SIP_REGISTERED || e->kind == SIP_REGISTER_FAILED) {
		account_event(v, now_us, e);
		return;
	}
	if (e->kind == SIP_CALL_INCOMING) {
		incoming(v, now_us, e);
		return;
	}
	if (!c)
		return;
	switch (e->kind) {
	case SIP_CALL_TRYING:
		c->heard = true;
		vpn_say(v, c, now_us, VPN_EV_TRYING);
		break;
	case SIP_CALL_RINGING:
		c->heard = true;
		if (c->state == CALL_INVITING)
			c->state = CALL_RINGING;
		vpn_say(v, c, now_us, VPN_EV_RINGING);
		break;
	case SIP_CALL_ANSWERED: answered(v, c, now_us, e); break;
	case SIP_CALL_FAILED: sip_failed(v, c, now_us, e); break;
	case SIP_CALL_REQUEST: inforce_request(v, c, now_us, e); break;
	case SIP_CALL_ENDED:
		c->sip_call = 0;
		if (c->outgoing && !c->told_up) /* no success that was never there */
			call_end(v, c, now_us, REASON_NOT_AVAILABLE,
				 "the other side hung up before the tunnel was there");
		else
			call_end(v, c, now_us, REASON_OK, "the other side hung up");
		break;
	case SIP_CALL_CONFIRMED:
	case SIP_CALL_INCOMING:
	case SIP_REGISTERED:
	case SIP_REGISTER_FAILED: break;
	}
}

/* ---- time ---- */

void call_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (c->state == CALL_PENDING && !c->sip_call && call_live(c)) {
		begin_outgoing(v, c, now_us);
		return;
	}
	if (c->state == CALL_GATHERING && (vpn_gathered(v) || now_us >= c->deadline_us)) {
		late_answer(v, c, now_us);
		return;
	}
	if (now_us >= c->choose_us) { /* nobody else answered */
		c->choose_us = TIME_NEVER;
		if (c->leg && c->sip_call)
			sip_ua_choose_leg(v->ua, now_us, c->sip_call, c->leg);
		c->leg = 0;
	}
	if (now_us < c->deadline_us)
		return;
	if (c->state == CALL_INVITING && !c->heard &&
	    !c->answered_once) { /* not even a 100: it is not the callee's fault */
		c->deadline_code = REASON_EXCHANGE;
		c->deadline_text = NULL;
	}
	c->deadline_us = TIME_NEVER;
	if (!call_live(c)) {
		ike_sa_free(c->sa);
		c->sa = NULL;
		return;
	}
	call_end(v, c, now_us, c->deadline_code, c->deadline_text);
}

uint64_t call_deadline_us(const struct call *c)
{
	uint64_t due = c->deadline_us;

	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].expires_us < due)
			due = c->grants[i].expires_us;
	if (c->ask && c->ask->until_us < due)
		due = c->ask->until_us;
	if (c->give_up_us < due)
		due = c->give_up_us;
	if (c->stale_us < due)
		due = c->stale_us;
	if (c->choose_us < due)
		due = c->choose_us;
	if (c->plane_due_us < due)
		due = c->plane_due_us;
	return due;
}
