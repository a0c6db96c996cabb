/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/grant.c - what is asked for, granted, forwarded and revoked (docs/protocol.md). The callee's side asks policy with the
 * authenticated key each time; the caller's side opens nothing but the way out. */
#include <stdio.h>
#include <string.h>

#include "ike/payload.h"
#include "vpn/impl.h"

#define ICMP6 58
#define ECHO_LO 0x8000u /* type 128 << 8: echo request ... */
#define ECHO_HI 0x81ffu /* ... to echo reply (RFC 4443) */

static void add_ts(struct ike_ts_list *l, const uint8_t ip[16], uint8_t protocol, unsigned lo, unsigned hi)
{
	struct ike_ts *t;

	if (l->n == IKE_TS_MAX)
		return;
	t = &l->ts[l->n++];
	*t = (struct ike_ts){
		.family = ADDR_IP6, .protocol = protocol, .port_lo = (uint16_t)lo, .port_hi = (uint16_t)hi
	};
	memcpy(t->ip_lo, ip, 16);
	memcpy(t->ip_hi, ip, 16);
}

void grant_propose_all(const struct vpn *v, const struct call *c, struct ike_ts_list *ret_own,
		       struct ike_ts_list *ret_peer)
{
	ret_own->n = ret_peer->n = 0;
	add_ts(ret_own, v->self, 0, 0, 65535);
	add_ts(ret_peer, c->peer_address, 0, 0, 65535);
}

/* One service on `server`, for `client`. */
static void service_ts(const uint8_t server[16], const uint8_t client[16], uint8_t protocol, uint16_t port,
		       struct ike_ts_list *ret_server, struct ike_ts_list *ret_client)
{
	add_ts(ret_server, server, protocol, port, port);
	for (unsigned i = 0; i < ret_client->n; i++)
		if (ret_client->ts[i].protocol == protocol)
			return; /* two services of one protocol: one line is enough */
	add_ts(ret_client, client, protocol, 0, 65535);
}

static struct policy_answer ask_policy(const struct vpn *v, const struct call *c, enum policy_act act,
				       const char *service)
{
	struct policy_question q = { .act = act,
				     .evidence = c->authenticated || act != POLICY_TALK ? EVIDENCE_AUTHENTICATED
											: EVIDENCE_SIGNED,
				     .peer = c->peer,
				     .key = c->has_key ? c->key : NULL,
				     .bare = c->bare,
				     .we_call = c->outgoing,
				     .trust_first = c->trust_first && !c->authenticated,
				     .agreed = c->agreed,
				     .service = service };
	struct policy_answer a;

	policy_decide(v->cfg, v->trust, &q, &a);
	return a;
}

/* Of a call that we made, our own section may say no; without one there is echo (docs/protocol.md). */
bool grant_ping_allowed(const struct vpn *v, const struct call *c)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);

	return c->outgoing ? !p || p->ping : ask_policy(v, c, POLICY_PING, NULL).verdict == POLICY_YES;
}

static void ping_ts(struct vpn *v, struct call *c, struct ike_ts_list *own, struct ike_ts_list *peer)
{
	if (c->in_kernel || !grant_ping_allowed(v, c)) /* the kernel has no limit for it (esp/kernel.h) */
		return;
	/* A stock peer's policies need all of ICMP: its errors are not ours to decide by a selector, and strongSwan in user
	 * space takes an ICMP packet's port for 0. The data plane lets pass echo and errors of flows only, in any case. */
	add_ts(own, v->self, ICMP6, c->bare ? 0 : ECHO_LO, c->bare ? 65535 : ECHO_HI);
	add_ts(peer, c->peer_address, ICMP6, c->bare ? 0 : ECHO_LO, c->bare ? 65535 : ECHO_HI);
}

struct grant *grant_by_id(struct call *c, uint32_t id)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].g.id == id)
			return &c->grants[i];
	return NULL;
}

void grant_forget(struct call *c, struct grant *g)
{
	network_drop(g);
	*g = c->grants[--c->n_grants];
	c->grants[c->n_grants].net = NULL;
}

void grants_drop(struct call *c)
{
	while (c->n_grants)
		grant_forget(c, &c->grants[c->n_grants - 1]);
}

/* The Child SA of a grant could not be made. */
void grant_failed(struct call *c, uint32_t id)
{
	struct grant *g = id ? grant_by_id(c, id) : NULL;

	if (g && !g->spi_in)
		grant_forget(c, g);
	for (unsigned i = 0; c->bare && i < c->n_grants; i++)
		c->grants[i].asked = false; /* the stock peer may begin one itself */
}

/* ---- the callee's side ---- */

enum policy_verdict grant_verdict(const struct vpn *v, const struct call *c, const char *name)
{
	return ask_policy(v, c, POLICY_GRANT, name).verdict;
}

/* A network's addresses. False: there are none, or nobody asks for one; the exchange says which. */
static bool lease(struct vpn *v, struct call *c, const struct policy_answer *a, struct vpn_network **ret)
{
	enum err e = a->network ? network_lease(v, c, a->network, ret) : OK;

	if (e == OK)
		return true;
	c->cp_failed = e == ERR_DENIED ? IKE_N_FAILED_CP_REQUIRED : IKE_N_INTERNAL_ADDRESS_FAILURE;
	vpn_audit(v, c, "refused %.63s: %s", a->network->name,
		  e == ERR_DENIED  ? "no address was asked for"
		  : e == ERR_LIMIT ? "no address is left in its pool"
				   : "no memory");
	return false;
}

enum policy_verdict grant_by_name(struct vpn *v, struct call *c, uint64_t now_us, uint32_t request, const char *name,
				  uint32_t seconds)
{
	static const char *const words[] = {
		[POLICY_NO] = "refused", [POLICY_YES] = "granted", [POLICY_ASK] = "the owner is to decide about"
	};
	struct policy_answer a = ask_policy(v, c, POLICY_GRANT, name);
	struct vpn_network *net = NULL;
	struct grant *g;

	for (unsigned i = 0; i < c->n_grants; i++)
		if (a.verdict == POLICY_YES && !strcmp(c->grants[i].g.name, name))
			return POLICY_YES; /* asked for twice */
	if (a.verdict == POLICY_YES && (c->n_grants == IKE_GRANTS_MAX || !lease(v, c, &a, &net)))
		return POLICY_NO;
	vpn_audit(v, c, "%s %.63s: %s", words[a.verdict], name, a.rule);
	if (a.verdict != POLICY_YES)
		return a.verdict;
	if (!seconds || (a.peer->for_s && a.peer->for_s < seconds))
		seconds = a.peer->for_s;
	g = &c->grants[c->n_grants++];
	*g = (struct grant){ .g = { .request = request,
				    .id = ++c->next_grant,
				    .protocol = a.service ? a.service->protocol : 0,
				    .port = a.service ? a.service->port : 0,
				    .seconds = seconds },
			     .net = net,
			     .expires_us = TIME_NEVER };
	(void)snprintf(g->g.name, sizeof(g->g.name), "%s", name);
	if (seconds) {
		g->expires_us = now_us + SECONDS((uint64_t)seconds);
		g->until_s = vpn_wall_s(v) + seconds;
	}
	return POLICY_YES;
}

/* What was asked for, or all that is allowed: granted, or noted for the owner's decision. False: no memory for that. */
static bool decide_all(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);
	bool all = e->no_request || !e->n_names;
	unsigned n = !all ? e->n_names : p ? p->n_allow : 0;

	for (unsigned i = 0; i < n; i++) {
		const char *name = all ? p->allow[i] : e->names[i];

		if (grant_by_name(v, c, now_us, e->request, name, 0) == POLICY_ASK && !ask_note(c, name))
			return false;
	}
	return true;
}

static void selectors_of(struct vpn *v, struct call *c, const struct grant *g, struct ike_decision *d)
{
	if (g->net) {
		network_ts(c, g->net, &d->ts_local, &d->ts_peer);
		network_cp(g->net, &d->cp);
	} else {
		service_ts(v->self, c->peer_address, g->g.protocol, g->g.port, &d->ts_local, &d->ts_peer);
	}
}

/* A stock peer has one Child SA for all that it may reach. */
void grant_selectors_all(struct vpn *v, struct call *c, struct ike_decision *d)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		selectors_of(v, c, &c->grants[i], d);
	ping_ts(v, c, &d->ts_local, &d->ts_peer);
}

static void selectors_of_one(struct vpn *v, struct call *c, const struct grant *g, struct ike_decision *d)
{
	selectors_of(v, c, g, d);
	ping_ts(v, c, &d->ts_local, &d->ts_peer);
}

/* What a stock peer called by us may open towards us: nothing but answers; it is we who reach out. */
void grant_asked(struct vpn *v, struct call *c, struct ike_sa *sa, uint64_t now_us, const struct ike_event *e)
{
	struct ike_decision d = { .verdict = IKE_REJECTED, .request = e->request };
	bool key_known = c->has_key, noted;

	memcpy(c->key, e->peer_key, SPKI_HASH); /* IKE compared it with the announced one where there is one */
	c->has_key = true;
	if (ask_policy(v, c, POLICY_TALK, NULL).verdict != POLICY_YES) {
		c->has_key = key_known;
		vpn_audit(v, c, "the proved key is not acceptable");
		ike_sa_decide(sa, now_us, &d);
		return;
	}
	c->request = e->request;
	c->cp_asks = e->cp.there ? e->cp.asks : 0;
	if (c->outgoing && c->bare) { /* we called, it is the IKE initiator */
		d.verdict = IKE_GRANTED;
		grant_propose_all(v, c, &d.ts_local, &d.ts_peer);
		ike_sa_decide(sa, now_us, &d);
		return;
	}
	c->next_grant = rng_u32(v->env.rng) >> 1;
	noted = decide_all(v, c, now_us, e);
	d.refuse_reason = noted && !c->ask ? REFUSE_NOT_ALLOWED : REFUSE_NO_ANSWER;
	if (!noted)
		ask_close(v, c, ASK_LEFT);
	else if (c->ask && ask_begin(v, c, now_us, e->request))
		d.wait_s = (uint16_t)c->ask->seconds;
	c->agreed = c->n_grants != 0;
	d.verdict = c->n_grants ? IKE_GRANTED : c->ask ? IKE_WAITING : IKE_REFUSED;
	c->refused = d.verdict == IKE_REFUSED;
	d.notify = c->cp_failed; /* nothing else was granted that would speak against it */
	plane_choose(v, c);
	if (c->n_grants && c->bare)
		grant_selectors_all(v, c, &d);
	else if (c->n_grants)
		selectors_of_one(v, c, &c->grants[0], &d);
	for (unsigned i = 0; !c->bare && i < c->n_grants; i++)
		d.grants[d.n_grants++] = c->grants[i].g;
	ike_sa_decide(sa, now_us, &d);
}

bool grant_propose(struct vpn *v, struct call *c, struct ike_ts_list *ret_own, struct ike_ts_list *ret_peer)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);

	ret_own->n = ret_peer->n = 0;
	for (unsigned i = 0; p && i < p->n_allow; i++) {
		struct policy_answer a = ask_policy(v, c, POLICY_GRANT, p->allow[i]);

		if (a.verdict == POLICY_ASK)
			return false; /* without a Child SA we cannot begin */
		if (a.verdict == POLICY_YES && a.service) /* a network is asked for by who joins */
			service_ts(v->self, c->peer_address, a.service->protocol, a.service->port, ret_own, ret_peer);
	}
	ping_ts(v, c, ret_own, ret_peer);
	return ret_own->n && ret_peer->n;
}

enum err grant_offer_stock(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ike_decision d = { .n_grants = 0 };
	enum err e;

	plane_choose(v, c);
	grant_selectors_all(v, c, &d);
	e = ike_sa_child_create(c->sa, now_us, 0, 0, &d.ts_local, &d.ts_peer);
	for (unsigned i = 0; e == OK && i < c->n_grants; i++)
		c->grants[i].asked = true;
	return e;
}

void grant_unasked(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ike_event all = { .no_request = true };

	if (c->outgoing || !c->bare || !c->ike_initiator || !decide_all(v, c, now_us, &all))
		return;
	c->agreed = c->n_grants != 0;
}

void grant_child_asked(struct vpn *v, struct call *c, struct ike_sa *sa, uint64_t now_us, const struct ike_event *e)
{
	struct ike_decision d = { .verdict = IKE_REFUSED, .request = e->request };
	struct grant *g = c->outgoing ? NULL : grant_by_id(c, e->grant_id);

	plane_choose(v, c);
	if (g && !c->bare && !g->spi_in && ask_policy(v, c, POLICY_GRANT, g->g.name).verdict == POLICY_YES) {
		d.verdict = IKE_GRANTED;
		d.grants[d.n_grants++] = g->g;
		selectors_of_one(v, c, g, &d);
	} else if (c->bare && !c->outgoing && c->n_grants && !c->grants[0].spi_in && !c->grants[0].asked) {
		/* One at a time: a second one would not be found when its time is over or a grant is revoked. */
		d.verdict = IKE_GRANTED;
		grant_selectors_all(v, c, &d);
	}
	ike_sa_decide(sa, now_us, &d);
}

/* ---- the caller's side ---- */

static bool well_formed(const struct vpn *v, const struct call *c, const struct ike_grant *g)
{
	if (g->protocol)
		return (g->protocol == 6 || g->protocol == 17) && g->port;
	return !g->port && network_asks(v, c);
}

void grant_received(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_grant *ig)
{
	struct grant *g;

	/* only what was asked for, once, and never anything but a port of the peer's own address, or a network if we want one */
	if (!c->outgoing || c->bare || c->told_up || ig->request != c->request || !well_formed(v, c, ig) ||
	    (c->named && strcmp(ig->name, c->service)) || grant_by_id(c, ig->id) || (ig->id & FORWARD_EXTRA) ||
	    c->n_grants == IKE_GRANTS_MAX) {
		log_info(&c->log, "call %u: a grant that was not asked for is ignored", c->id);
		return;
	}
	g = &c->grants[c->n_grants++];
	*g = (struct grant){ .g = *ig, .expires_us = TIME_NEVER };
	if (ig->seconds)
		g->until_s = vpn_wall_s(v) + ig->seconds;
	if (c->state == CALL_WAITING) {
		c->state = CALL_ASKING;
		c->deadline_us = now_us + SECONDS(30);
		c->deadline_code = REASON_IKE;
		c->deadline_text = "the other side did not set up what it granted";
		grant_more(v, c, now_us);
	}
}

void grant_more(struct vpn *v, struct call *c, uint64_t now_us)
{
	for (unsigned i = 0; c->outgoing && c->sa && i < c->n_grants; i++) {
		struct grant *g = &c->grants[i];
		struct ike_ts_list own = { .n = 0 }, peer = { .n = 0 };

		if (g->asked || g->spi_in)
			continue;
		if (g->g.protocol) {
			service_ts(c->peer_address, v->self, g->g.protocol, g->g.port, &peer, &own);
			ping_ts(v, c, &own, &peer);
		} else {
			grant_propose_all(v, c, &own, &peer);
			network_propose(v, c, &own, &peer);
		}
		if (ike_sa_child_join(c->sa, now_us, c->request, g->g.id, &own, &peer,
				      g->g.protocol ? 0 : network_asks(v, c)) == OK)
			g->asked = true;
	}
}

void grant_tell(struct vpn *v, const struct call *c, uint64_t now_us, const struct grant *g)
{
	struct vpn_event e = vpn_event_of(c, now_us, VPN_EV_GRANTED);

	memcpy(e.name, g->g.name, sizeof(g->g.name));
	e.protocol = g->g.protocol;
	e.port = g->g.port;
	e.local = g->local;
	e.until_s = g->until_s;
	e.has_network = g->net != NULL;
	if (g->net)
		e.network = *g->net;
	vpn_tell(v, &e);
}

/* Its Child SA goes, whether it was taken or not. */
void grant_give_up(struct vpn *v, struct call *c, uint64_t now_us, struct grant *g, const char *why)
{
	struct vpn_event e = vpn_event_of(c, now_us, VPN_EV_REFUSED);
	enum reason code = g->told ? REASON_REVOKED : REASON_NOT_ALLOWED;
	uint32_t spi = g->spi_in;

	memcpy(e.name, g->g.name, sizeof(g->g.name));
	e.code = code;
	(void)snprintf(e.reason, sizeof(e.reason), "%s", why);
	log_warn(&c->log, "call %u: %.63s is not used: %s", c->id, g->g.name, why);
	vpn_tell(v, &e);
	grant_close(v, c, g);
	esp_set_grant_remove(v->esp, c->id, g->g.id);
	grant_forget(c, g);
	if (spi && c->sa)
		(void)!ike_sa_child_delete(c->sa, now_us, spi);
	if (!c->n_grants)
		call_end(v, c, now_us, code, why);
	else
		grant_check_up(v, c, now_us);
}

void grant_check_up(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (c->told_up || !c->outgoing || c->state == CALL_WAITING || !c->authenticated)
		return;
	for (unsigned i = 0; i < c->n_grants; i++)
		if (!c->grants[i].spi_in || !c->grants[i].told)
			return;
	if (!c->n_grants && !c->bare)
		return;
	c->told_up = true;
	c->state = CALL_UP;
	c->deadline_us = TIME_NEVER;
	vpn_say(v, c, now_us, VPN_EV_UP);
}

/* ---- the end of a grant ---- */

void grant_close(struct vpn *v, const struct call *c, struct grant *g)
{
	struct vpn_want w = { .kind = VPN_WANT_FORWARD_CLOSE, .call = c->id, .grant_id = g->g.id, .owner = c->owner };

	network_down(v, c, g);
	if (!g->g.protocol)
		return;
	if (!c->outgoing)
		(void)snprintf(w.name, sizeof(w.name), "%s", g->g.name);
	if (!c->outgoing || g->forward_wanted)
		vpn_want(v, &w);
}

/* Local first: the flow is cut before the other side is told. After the last grant the call lives on until the other side
 * has confirmed the Deletes of all Child SAs: otherwise a BYE could come first, and look like a hang-up. */
static void revoke(struct vpn *v, struct call *c, uint64_t now_us, unsigned i, const char *why)
{
	uint32_t spi = c->grants[i].spi_in, id = c->grants[i].g.id;

	vpn_audit(v, c, "revoked %s: %s", c->grants[i].g.name, why);
	grant_close(v, c, &c->grants[i]);
	grant_forget(c, &c->grants[i]);
	for (unsigned k = 0; spi && k < c->n_grants; k++)
		if (c->grants[k].spi_in == spi) { /* a stock peer's one Child SA: it may make a narrower one */
			grant_close(v, c, &c->grants[k]);
			c->grants[k].spi_in = 0;
		}
	if (spi)
		esp_set_grant_remove(v->esp, c->id, c->bare ? 0 : id);
	if (spi && c->sa && ike_sa_child_delete(c->sa, now_us, spi) == OK)
		c->n_revoking++;
	if (!c->n_grants && c->n_revoking) {
		call_take_down(v, c);
		c->revoked = true;
		c->deadline_us = now_us + CALL_CLOSING_US;
		c->deadline_code = REASON_REVOKED;
		c->deadline_text = NULL;
	} else if (!c->n_grants) {
		call_end(v, c, now_us, REASON_REVOKED, NULL);
	}
}

/* Numbers or bytes of a Child SA are nearly used up, or are. */
void grant_due(struct vpn *v, uint64_t now_us)
{
	struct esp_due d;

	while (esp_set_poll_due(v->esp, &d)) {
		struct call *c = vpn_call_find(v, d.call);

		if (c && c->sa)
			(void)!(d.hard ? ike_sa_child_delete(c->sa, now_us, d.spi_in)
				       : ike_sa_child_rekey(c->sa, now_us, d.spi_in));
	}
}

void grant_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	ask_tick(v, c, now_us);
	for (unsigned i = c->n_grants; i-- > 0 && call_live(c);)
		if (i < c->n_grants && now_us >= c->grants[i].expires_us)
			revoke(v, c, now_us, i, "its time is over");
}

void grant_recheck(struct vpn *v, struct call *c, uint64_t now_us)
{
	bool known = c->state == CALL_PENDING || ask_policy(v, c, POLICY_TALK, NULL).verdict == POLICY_YES;

	if (c->revoked || c->refused)
		return;
	if (c->ask) {
		ask_recheck(v, c, now_us, known);
		return;
	}
	if (!known && (c->outgoing || !c->n_grants)) {
		call_end(v, c, now_us, REASON_REVOKED, NULL);
		return;
	}
	if (!grant_ping_allowed(v, c))
		esp_set_ping_off(v->esp, c->id);
	for (unsigned i = c->n_grants; c->outgoing && i-- > 0 && call_live(c);) {
		const char *why = i < c->n_grants && c->grants[i].net ? network_objection(v, c, &c->grants[i]) : NULL;

		if (why)
			grant_give_up(v, c, now_us, &c->grants[i], why);
	}
	for (unsigned i = c->n_grants; !c->outgoing && i-- > 0 && call_live(c);)
		if (i < c->n_grants &&
		    (!known || ask_policy(v, c, POLICY_GRANT, c->grants[i].g.name).verdict != POLICY_YES))
			revoke(v, c, now_us, i, "the configuration changed");
}
