/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/tunnel.c - from two descriptions to keys: ICE and IKE events of a call, liveness. */
#include <stdio.h>
#include <string.h>

#include "crypto/secret.h"
#include "ike/payload.h"
#include "vpn/impl.h"

static void start_ike(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (c->sa || !c->ike_initiator || !call_live(c))
		return;
	if (ike_sa_new(c->ike_cfg, &c->sa) != OK || ike_sa_start(c->sa, now_us, &c->path) != OK) {
		call_end(v, c, now_us, REASON_INTERNAL, NULL);
		return;
	}
	c->state = CALL_KEYING;
	tunnel_ike_drain(v, c, now_us);
}

struct path tunnel_esp_path(const struct call *c, const struct path *path)
{
	struct path p = *path;

	if (c->plain_esp) {
		p.transport = TRANSPORT_ESP;
		p.local.port = p.remote.port = 0;
	}
	return p;
}

void tunnel_begin(struct vpn *v, struct call *c, uint64_t now_us)
{
	c->state = CALL_CONNECTING;
	c->deadline_us = now_us + CALL_SETUP_US;
	c->deadline_code = c->no_ice ? REASON_IKE : REASON_NO_PATH;
	c->deadline_text = NULL;
	if (c->no_ice) {
		c->path = c->aim = c->fixed;
		start_ike(v, c, now_us);
	} else {
		ice_agent_start(c->ice, now_us);
		tunnel_ice_drain(v, c, now_us);
	}
}

/* ---- ICE ---- */

static void fall_silent(struct vpn *v, struct call *c, uint64_t now_us)
{
	log_warn(&c->log, "call %u: the other side is silent; nothing is sent until it is heard again", c->id);
	c->held = true;
	move_hold(v, c);
	c->give_up_us = now_us + SECONDS((uint64_t)v->cfg->dead_after_s);
}

static void heard_again(struct vpn *v, struct call *c)
{
	c->held = false;
	move_hold(v, c);
	if (!c->stale)
		c->give_up_us = TIME_NEVER;
}

void tunnel_ice_drain(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ice_event e;

	while (c->ice && ice_agent_poll_event(c->ice, &e))
		switch (e.kind) {
		case ICE_VALID:
			move_ice(v, c, now_us, &e, false);
			start_ike(v, c, now_us);
			break;
		case ICE_SELECTED:
			move_ice(v, c, now_us, &e, true);
			if (c->held)
				heard_again(v, c);
			start_ike(v, c, now_us);
			break;
		case ICE_FAILED:
			/* The tunnel was there before the choice of a pair was made: then this is a silence like any other. */
			if (c->authenticated)
				fall_silent(v, c, now_us);
			else
				call_end(v, c, now_us, REASON_NO_PATH, NULL);
			break;
		case ICE_CONSENT_LOST: fall_silent(v, c, now_us); break;
		case ICE_CONSENT_BACK: heard_again(v, c); break;
		case ICE_REBOUND: move_rebound(c, now_us, &e); break;
		case ICE_PROBED: mtu_answered(v, c, now_us, e.size); break;
		}
}

/* ---- IKE in ---- */

/* Only from a pair that passed a check with this call's credentials; without ICE only from the described address. */
static bool path_allowed(const struct call *c, const struct path *path)
{
	if (c->no_ice)
		return addr_eq(&path->remote, &c->fixed.remote);
	return c->ice && ice_agent_validated(c->ice, path);
}

static struct ike_sa *sa_of(struct call *c, uint64_t spi)
{
	if (c->sa && ike_sa_has_spi(c->sa, spi)) /* also of the one that a rekeying replaced */
		return c->sa;
	for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
		if (c->half_open[i] && ike_sa_local_spi(c->half_open[i]) == spi)
			return c->half_open[i];
	return NULL;
}

/* A repeated IKE_SA_INIT belongs to the SA that it made. */
static struct ike_sa *half_open_of(struct call *c, uint64_t spi_i)
{
	if (c->sa && !c->ike_initiator && ike_sa_spi_i(c->sa) == spi_i)
		return c->sa;
	for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
		if (c->half_open[i] && ike_sa_spi_i(c->half_open[i]) == spi_i)
			return c->half_open[i];
	return NULL;
}

/* One that has failed gives way. One that waits for a first message which is worth an answer (it has no SPI of the peer yet)
 * is used again: a message that comes to nothing, or that is told to try another group, holds no place. */
static struct ike_sa *half_open_new(struct call *c)
{
	unsigned at = CALL_HALF_OPEN_MAX;

	for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
		if (c->half_open[i] && !c->half_failed[i] && !ike_sa_spi_i(c->half_open[i]))
			return c->half_open[i];
	for (unsigned i = CALL_HALF_OPEN_MAX; i-- > 0;)
		if (!c->half_open[i] || (c->half_failed[i] && (at == CALL_HALF_OPEN_MAX || c->half_open[at])))
			at = i;
	if (at == CALL_HALF_OPEN_MAX)
		return NULL;
	ike_sa_free(c->half_open[at]);
	c->half_failed[at] = false;
	if (ike_sa_new(c->ike_cfg, &c->half_open[at]) != OK)
		c->half_open[at] = NULL;
	return c->half_open[at];
}

/* The address of a peer without ICE was not proved by any check: it has to show a cookie (RFC 7296, 2.6). */
static bool cookie_needed(struct vpn *v, struct call *c, uint64_t now_us, const struct path *path, struct span msg)
{
	uint8_t answer[256];
	struct wr w = wr_of(answer, sizeof(answer));

	if (!c->no_ice || ike_cookies_valid(v->cookies, now_us, msg, &path->remote))
		return false;
	if (ike_cookies_challenge(v->cookies, now_us, msg, &path->remote, &w) == OK)
		(void)!outq_push(v->words, OUT_SEND, path, wr_done(&w)); /* full: it asks again */
	return true;
}

/* Without a tag nothing tells the calls between two addresses apart: a first message is for the one that has seen it, else for one
 * that still waits. The peer may have been started again, and have lost what is up here. */
static struct call *call_of_init(struct vpn *v, const struct ike_peek *p, const struct path *path)
{
	struct call *found = NULL;

	for (struct call *c = v->calls; c; c = c->next) {
		if (!call_live(c) || !c->ike_cfg || c->ike_initiator || !path_allowed(c, path) || c->bare == p->has_tag)
			continue;
		if (c->bare ? half_open_of(c, p->spi_i) != NULL : secret_eq(p->tag, c->ike_cfg->tag, sizeof(p->tag)))
			return c;
		if (c->bare && (!found || (found->sa && !c->sa)))
			found = c;
	}
	return found;
}

static bool input_init(struct vpn *v, uint64_t now_us, const struct path *path, const struct ike_peek *p,
		       struct span msg)
{
	struct call *c = call_of_init(v, p, path);
	struct ike_sa *sa;

	if (!c) {
		v->n_ike_unknown++;
		return false;
	}
	sa = half_open_of(c, p->spi_i);
	if (!sa && (c->sa || cookie_needed(v, c, now_us, path, msg)))
		return false;
	if (!sa)
		sa = half_open_new(c);
	if (sa)
		ike_sa_input(sa, now_us, path, msg);
	tunnel_ike_drain(v, c, now_us);
	return true;
}

/* Before a byte of it is read: is it from an address pair of some call? One that is over still waits for the answer to its
 * DELETE. Without ICE, a peer with MOBIKE whose SA is up may be anywhere: then the SPI is looked at as well. */
static bool from_a_call(const struct vpn *v, const struct path *path)
{
	for (const struct call *c = v->calls; c; c = c->next)
		if (move_anywhere(c) ||
		    (call_live(c) ? path_allowed(c, path)
				  : addr_eq(&c->path.remote, &path->remote) || addr_eq(&c->aim.remote, &path->remote)))
			return true;
	return false;
}

bool tunnel_ike_input(struct vpn *v, uint64_t now_us, const struct path *path, struct span msg)
{
	struct ike_peek p;

	if (!from_a_call(v, path)) {
		v->n_ike_unvalidated++;
		return false;
	}
	if (ike_peek(msg, &p) != OK) {
		v->n_ike_unknown++;
		return false;
	}
	if (p.exchange == 34 && !p.is_response)
		return input_init(v, now_us, path, &p, msg);
	for (struct call *c = v->calls; c; c = c->next) {
		struct ike_sa *sa = sa_of(c, p.from_initiator ? p.spi_r : p.spi_i);

		if (!sa)
			continue;
		/* after the end only the answer to our DELETE is of interest, and it is authenticated */
		if (call_live(c) && !path_allowed(c, path) && !(sa == c->sa && move_anywhere(c))) {
			v->n_ike_unvalidated++;
			return false;
		}
		c->ike_path = *path;
		ike_sa_input(sa, now_us, path, msg);
		tunnel_ike_drain(v, c, now_us);
		return true;
	}
	v->n_ike_unknown++;
	return false;
}

/* ---- IKE events ---- */

static void sa_failed(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	static const struct {
		enum ike_failure fail;
		enum reason code;
		const char *text;
	} rows[] = {
		{ IKE_FAIL_NO_PROPOSAL, REASON_IKE, "the key exchange failed: no common algorithms" },
		{ IKE_FAIL_AUTH, REASON_IKE,
		  "the key exchange failed: the proof of identity is wrong or ours was refused" },
		{ IKE_FAIL_FINGERPRINT, REASON_FINGERPRINT, NULL },
		{ IKE_FAIL_PIN, REASON_PIN, NULL },
		{ IKE_FAIL_BINDING, REASON_SECURITY_LINES, NULL },
		{ IKE_FAIL_CHAIN, REASON_PIN, NULL },
		{ IKE_FAIL_PPK, REASON_IKE, NULL },
		{ IKE_FAIL_NAT, REASON_NO_PATH, NULL },
		{ IKE_FAIL_INTERNAL, REASON_INTERNAL, NULL },
		{ IKE_FAIL_EXPIRED, REASON_VANISHED, "no new keys could be agreed before the old ones ended" },
		{ IKE_FAIL_PROTOCOL, REASON_IKE, "the key exchange failed: the other side breaks its rules" },
	};
	enum reason code = REASON_IKE;
	const char *text = "the key exchange got no answer", *more;
	char line[256];

	if (e->fail == IKE_FAIL_TIMEOUT && c->authenticated) {
		code = REASON_VANISHED;
		text = NULL;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].fail == e->fail) {
			code = rows[i].code;
			text = rows[i].text;
		}
	more = proof_failure_text(e);
	if (more) {
		(void)snprintf(line, sizeof(line), "the key exchange failed: %s", more);
		text = line;
	}
	c->lingers = true;
	call_end(v, c, now_us, code, text);
}

/* RFC 7296, 2.4: the peer has no other SA with us. What it had proved before this call began is from before its restart; what
 * was proved since may have crossed this one, and stays. */
static void end_older(struct vpn *v, struct call *c, uint64_t now_us)
{
	for (struct call *o = v->calls; o; o = o->next)
		if (o != c && call_live(o) && o->authenticated && o->authenticated_us < c->began_us &&
		    o->account == c->account && !strcmp(o->peer, c->peer) && !memcmp(o->key, c->key, SPKI_HASH))
			call_end(v, o, now_us, REASON_VANISHED,
				 "the other side was started again and knows nothing of this call");
}

/* A stock peer shows its key only now; what is pinned decides. */
static bool key_acceptable(struct vpn *v, struct call *c, const uint8_t key[SPKI_HASH])
{
	struct policy_question q = { .act = POLICY_TALK,
				     .evidence = EVIDENCE_AUTHENTICATED,
				     .peer = c->peer,
				     .key = key,
				     .bare = c->bare,
				     .we_call = c->outgoing,
				     .trust_first = c->trust_first };
	struct policy_answer a;

	if (c->has_key && memcmp(c->key, key, SPKI_HASH))
		return false;
	policy_decide(v->cfg, v->trust, &q, &a);
	if (a.verdict != POLICY_YES)
		return false;
	memcpy(c->key, key, SPKI_HASH);
	c->has_key = true;
	c->level = a.level;
	return true;
}

/* One call for one pair of keys and direction: the newer one stays (docs/protocol.md). An older one goes even if it never got
 * as far: its owner has begun anew. False: c is the older one. */
static bool replace_others(struct vpn *v, struct call *c, uint64_t now_us)
{
	for (struct call *o = v->calls; o; o = o->next) {
		if (o == c || !call_live(o) || o->outgoing != c->outgoing || !o->has_key ||
		    memcmp(o->key, c->key, SPKI_HASH) || o->account != c->account || strcmp(o->peer, c->peer))
			continue;
		if (o->id < c->id) {
			call_end(v, o, now_us, REASON_OK, "replaced by a new call of the same key");
		} else if (o->authenticated) {
			call_end(v, c, now_us, REASON_OK, "replaced by a new call of the same key");
			return false;
		}
	}
	return true;
}

static void peer_up(struct vpn *v, struct call *c)
{
	struct vpn_want w = { .kind = VPN_WANT_PEER_UP, .call = c->id, .owner = c->owner };

	if (c->peer_up)
		return;
	c->peer_up = true;
	memcpy(w.self, v->self, 16);
	memcpy(w.peer, c->peer_address, 16);
	memcpy(w.spki, c->spki, c->spki_len);
	w.spki_len = c->spki_len;
	vpn_want(v, &w);
}

static void authenticated(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	struct vpn_want save = { .kind = VPN_WANT_SAVE_PINS };

	if (!key_acceptable(v, c, e->peer_key)) {
		call_end(v, c, now_us, REASON_PIN, NULL);
		return;
	}
	c->authenticated = true;
	c->authenticated_us = now_us;
	proof_contacted(v, c);
	if (e->initial_contact)
		end_older(v, c, now_us);
	move_authenticated(v, c, now_us, &e->path);
	/* AUTH covers the bind hash of our answer: the caller has it, whatever became of its ACK. */
	if (!c->outgoing && !c->bare && c->sip_call)
		sip_ua_confirm(v->ua, now_us, c->sip_call);
	if (c->level == LEVEL_NONE && c->outgoing && c->trust_first) {
		if (trust_add(v->trust, c->peer, c->key, LEVEL_TOFU, vpn_wall_s(v), false) == OK) {
			c->level = LEVEL_TOFU;
			c->first_pin = true;
			vpn_want(v, &save);
			vpn_audit(v, c, "first key remembered (--trust-first)");
		}
	}
	if (!c->bare && !trust_ever_signed(v->trust, c->key)) {
		trust_mark_signed(v->trust, c->key);
		vpn_want(v, &save);
	}
	c->state = c->outgoing ? CALL_ASKING : CALL_UP;
	c->deadline_us = c->outgoing ? now_us + SECONDS(30) : c->refused ? now_us + CALL_REFUSED_US : TIME_NEVER;
	c->deadline_code = c->outgoing ? REASON_IKE : REASON_NOT_ALLOWED;
	c->deadline_text = c->outgoing ? "the other side did not answer what was asked for" : NULL;
	if (!replace_others(v, c, now_us))
		return;
	network_make_way(v, c, now_us);
	peer_up(v, c);
	vpn_audit(v, c, "authenticated at level %s", trust_level_name(c->level));
	vpn_say(v, c, now_us, VPN_EV_AUTHENTICATED);
	grant_unasked(v, c, now_us);
	ask_authenticated(v, c, now_us);
}

static void refused(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	static const struct {
		enum reason code;
		const char *text;
	} rows[] = {
		{ REASON_NOT_ALLOWED, NULL },
		{ REASON_DECLINED, NULL },
		{ REASON_NOT_AVAILABLE, "nobody there decided in time" },
	};
	struct vpn_event out = vpn_event_of(c, now_us, VPN_EV_REFUSED);
	unsigned i = e->refuse_reason < 3 ? e->refuse_reason : 0;
	/* a stock peer says why by an error notify alone */
	const char *text = e->notify ? ike_notify_text(e->notify) : rows[i].text;

	out.code = rows[i].code;
	if (e->notify == IKE_N_NO_PROPOSAL_CHOSEN) { /* that is no policy of its owner's */
		out.code = REASON_IKE;
		text = "the key exchange failed: the other side has no ESP algorithms in common with us";
	}
	(void)snprintf(out.name, sizeof(out.name), "%s", c->service);
	(void)snprintf(out.reason, sizeof(out.reason), "%s", text ? text : reason_text(out.code));
	vpn_tell(v, &out);
	grant_failed(c, e->grant_id);
	if (!c->n_grants)
		call_end(v, c, now_us, out.code, text);
	else
		grant_check_up(v, c, now_us);
}

/* The callee ends it with a REFUSE; where that does not come, we do, a little later. */
static void waiting(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	struct vpn_event out = vpn_event_of(c, now_us, VPN_EV_WAITING);
	uint64_t user_us = c->began_us + SECONDS((uint64_t)c->timeout_s);

	if (c->state != CALL_ASKING) /* once, and not when services were granted already */
		return;
	out.seconds = e->wait_s < WAIT_MAX_S ? e->wait_s : WAIT_MAX_S;
	c->state = CALL_WAITING;
	c->deadline_us = now_us + SECONDS((uint64_t)out.seconds + 10);
	if (c->timeout_given && user_us < c->deadline_us)
		c->deadline_us = user_us;
	c->deadline_code = REASON_NOT_AVAILABLE;
	c->deadline_text = "nobody there decided in time";
	vpn_tell(v, &out);
}

static void closed(struct vpn *v, struct call *c, uint64_t now_us)
{
	c->lingers = true;
	if (c->outgoing && !c->told_up)
		call_end(v, c, now_us, REASON_NOT_AVAILABLE, "the other side hung up before the tunnel was there");
	else
		call_end(v, c, now_us, REASON_OK, "the other side hung up");
}

/* Events of the SA that is ours; false: the call is over. */
static void sa_event(struct vpn *v, struct call *c, struct ike_sa *sa, uint64_t now_us, struct ike_event *e)
{
	switch (e->kind) {
	case IKE_EV_ASKED: grant_asked(v, c, sa, now_us, e); break;
	case IKE_EV_CHILD_ASKED: grant_child_asked(v, c, sa, now_us, e); break;
	case IKE_EV_AUTHENTICATED: authenticated(v, c, now_us, e); break;
	case IKE_EV_GRANT: grant_received(v, c, now_us, &e->grant); break;
	case IKE_EV_WAIT: waiting(v, c, now_us, e); break;
	case IKE_EV_REFUSED: refused(v, c, now_us, e); break;
	case IKE_EV_CHILD_UP:
		keylog_esp(v, c, now_us, &e->child);
		grant_child_up(v, c, now_us, e);
		break;
	case IKE_EV_KEYS: keylog_ike(v, c, now_us, &e->keys); break;
	case IKE_EV_CHILD_GONE: grant_child_gone(v, c, now_us, e); break;
	case IKE_EV_REKEYED: break;
	case IKE_EV_MOVED:
	case IKE_EV_STAYED: move_event(v, c, now_us, e); break;
	case IKE_EV_CLOSED: closed(v, c, now_us); break;
	case IKE_EV_FAILED: sa_failed(v, c, now_us, e); break;
	}
}

/* One that we did not begin: others may follow, so the call goes on until its time is over, and then ends with this. */
static void half_open_failed(struct vpn *v, struct call *c, const struct ike_event *e)
{
	const char *why = proof_failure_text(e);

	if (e->fail == IKE_FAIL_TIMEOUT || e->kind != IKE_EV_FAILED)
		return;
	vpn_audit(v, c, "key exchange failed: %s", why ? why : ike_failure_name(e->fail));
	if (why) {
		c->deadline_code = e->fail == IKE_FAIL_CHAIN ? REASON_PIN : REASON_IKE;
		c->deadline_text = why;
	}
}

/* Before one of the callee's half-open SAs has proved the peer it can only fail or ask; the first that proves it wins. */
static void half_open_drain(struct vpn *v, struct call *c, uint64_t now_us, unsigned i)
{
	struct ike_event e;

	while (c->half_open[i] && ike_sa_poll_event(c->half_open[i], &e)) {
		struct ike_sa *sa = c->half_open[i];

		if (e.kind == IKE_EV_FAILED || e.kind == IKE_EV_CLOSED) {
			log_warn(&c->log, "call %u: a key exchange failed: %s", c->id, ike_failure_name(e.fail));
			half_open_failed(v, c, &e);
			c->half_failed[i] = true; /* kept: its last answer is still to be sent */
		} else if (e.kind == IKE_EV_KEYS) {
			keylog_ike(v, c, now_us, &e.keys);
		} else if (e.kind == IKE_EV_ASKED) {
			c->half_open[i] = NULL;
			for (unsigned k = 0; k < CALL_HALF_OPEN_MAX; k++) {
				ike_sa_free(c->half_open[k]);
				c->half_open[k] = NULL;
			}
			c->sa = sa;
			sa_event(v, c, sa, now_us, &e);
		}
		ike_event_done(&e);
	}
}

void tunnel_ike_drain(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ike_event e;

	for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
		half_open_drain(v, c, now_us, i);
	while (c->sa && ike_sa_poll_event(c->sa, &e)) {
		if (call_live(c))
			sa_event(v, c, c->sa, now_us, &e);
		else if (e.kind == IKE_EV_CLOSED || e.kind == IKE_EV_FAILED)
			c->lingers = true;
		ike_event_done(&e);
	}
}

/* ---- time ---- */

void tunnel_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (c->ice) {
		ice_agent_tick(c->ice, now_us);
		tunnel_ice_drain(v, c, now_us);
	}
	if (c->sa)
		ike_sa_tick(c->sa, now_us);
	for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
		if (c->half_open[i])
			ike_sa_tick(c->half_open[i], now_us);
	tunnel_ike_drain(v, c, now_us);
	if (!call_live(c))
		return;
	grant_tick(v, c, now_us);
	plane_tick(v, c, now_us);
	move_tick(v, c, now_us);
	mtu_tick(v, c, now_us);
	if (now_us >= c->give_up_us) {
		c->give_up_us = TIME_NEVER;
		call_end(v, c, now_us, REASON_VANISHED, NULL);
	}
}
