/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/grant.c - what is asked for, granted, forwarded and revoked (docs/protocol.md). The callee's side asks policy with the
 * authenticated key each time; the caller's side opens nothing but the way out. */
#include <stdio.h>
#include <string.h>

#include "crypto/secret.h"
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
static bool ping_allowed(const struct vpn *v, const struct call *c)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);

	return c->outgoing ? !p || p->ping : ask_policy(v, c, POLICY_PING, NULL).verdict == POLICY_YES;
}

static void ping_ts(struct vpn *v, struct call *c, struct ike_ts_list *own, struct ike_ts_list *peer)
{
	if (!ping_allowed(v, c))
		return;
	/* A stock peer's policies need all of ICMP: its errors are not ours to decide by a selector, and strongSwan in user
	 * space takes an ICMP packet's port for 0. The data plane lets pass echo and errors of flows only, in any case. */
	add_ts(own, v->self, ICMP6, c->bare ? 0 : ECHO_LO, c->bare ? 65535 : ECHO_HI);
	add_ts(peer, c->peer_address, ICMP6, c->bare ? 0 : ECHO_LO, c->bare ? 65535 : ECHO_HI);
}

static struct grant *by_id(struct call *c, uint32_t id)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].g.id == id)
			return &c->grants[i];
	return NULL;
}

static void forget(struct call *c, struct grant *g)
{
	*g = c->grants[--c->n_grants];
}

/* The Child SA of a grant could not be made. */
void grant_failed(struct call *c, uint32_t id)
{
	struct grant *g = id ? by_id(c, id) : NULL;

	if (g && !g->spi_in)
		forget(c, g);
	for (unsigned i = 0; c->bare && i < c->n_grants; i++)
		c->grants[i].asked = false; /* the stock peer may begin one itself */
}

/* ---- the callee's side ---- */

enum policy_verdict grant_verdict(const struct vpn *v, const struct call *c, const char *name)
{
	return ask_policy(v, c, POLICY_GRANT, name).verdict;
}

enum policy_verdict grant_by_name(struct vpn *v, struct call *c, uint64_t now_us, uint32_t request, const char *name,
				  uint32_t seconds)
{
	static const char *const words[] = {
		[POLICY_NO] = "refused", [POLICY_YES] = "granted", [POLICY_ASK] = "the owner is to decide about"
	};
	struct policy_answer a = ask_policy(v, c, POLICY_GRANT, name);
	struct grant *g;

	vpn_audit(v, c, "%s %.63s: %s", words[a.verdict], name, a.rule);
	if (a.verdict != POLICY_YES)
		return a.verdict;
	for (unsigned i = 0; i < c->n_grants; i++)
		if (!strcmp(c->grants[i].g.name, name))
			return POLICY_YES; /* asked for twice */
	if (c->n_grants == IKE_GRANTS_MAX)
		return POLICY_NO;
	if (!seconds || (a.peer->for_s && a.peer->for_s < seconds))
		seconds = a.peer->for_s;
	g = &c->grants[c->n_grants++];
	*g = (struct grant){ .g = { .request = request,
				    .id = ++c->next_grant,
				    .protocol = a.service->protocol,
				    .port = a.service->port,
				    .seconds = seconds },
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

/* A stock peer has one Child SA for all that it may reach. */
static void selectors_of_all(struct vpn *v, struct call *c, struct ike_decision *d)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		service_ts(v->self, c->peer_address, c->grants[i].g.protocol, c->grants[i].g.port, &d->ts_local,
			   &d->ts_peer);
	ping_ts(v, c, &d->ts_local, &d->ts_peer);
}

static void selectors_of(struct vpn *v, struct call *c, const struct grant *g, struct ike_decision *d)
{
	service_ts(v->self, c->peer_address, g->g.protocol, g->g.port, &d->ts_local, &d->ts_peer);
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
	if (c->n_grants && c->bare)
		selectors_of_all(v, c, &d);
	else if (c->n_grants)
		selectors_of(v, c, &c->grants[0], &d);
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
		if (a.verdict == POLICY_YES)
			service_ts(v->self, c->peer_address, a.service->protocol, a.service->port, ret_own, ret_peer);
	}
	ping_ts(v, c, ret_own, ret_peer);
	return ret_own->n && ret_peer->n;
}

enum err grant_offer_stock(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ike_decision d = { .n_grants = 0 };
	enum err e;

	selectors_of_all(v, c, &d);
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
	struct grant *g = c->outgoing ? NULL : by_id(c, e->grant_id);

	if (g && !c->bare && !g->spi_in && ask_policy(v, c, POLICY_GRANT, g->g.name).verdict == POLICY_YES) {
		d.verdict = IKE_GRANTED;
		d.grants[d.n_grants++] = g->g;
		selectors_of(v, c, g, &d);
	} else if (c->bare && !c->outgoing && c->n_grants && !c->grants[0].spi_in && !c->grants[0].asked) {
		/* One at a time: a second one would not be found when its time is over or a grant is revoked. */
		d.verdict = IKE_GRANTED;
		selectors_of_all(v, c, &d);
	}
	ike_sa_decide(sa, now_us, &d);
}

/* ---- the caller's side ---- */

void grant_received(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_grant *ig)
{
	struct grant *g;

	/* only what was asked for, once, and never anything but a port of the peer's own address */
	if (!c->outgoing || c->bare || c->told_up || ig->request != c->request ||
	    (ig->protocol != 6 && ig->protocol != 17) || !ig->port || (c->named && strcmp(ig->name, c->service)) ||
	    by_id(c, ig->id) || (ig->id & FORWARD_EXTRA) || c->n_grants == IKE_GRANTS_MAX) {
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
		service_ts(c->peer_address, v->self, g->g.protocol, g->g.port, &peer, &own);
		ping_ts(v, c, &own, &peer);
		if (ike_sa_child_create(c->sa, now_us, c->request, g->g.id, &own, &peer) == OK)
			g->asked = true;
	}
}

static void want_forward(struct vpn *v, struct call *c, uint32_t id, uint8_t protocol, uint16_t port,
			 uint16_t local_port, const char *name)
{
	struct vpn_want w = { .kind = VPN_WANT_FORWARD,
			      .call = c->id,
			      .grant_id = id,
			      .protocol = protocol,
			      .port = port,
			      .local_port = local_port,
			      .owner = c->owner };

	memcpy(w.self, v->self, 16);
	memcpy(w.peer, c->peer_address, 16);
	(void)snprintf(w.name, sizeof(w.name), "%s", name);
	vpn_want(v, &w);
}

static struct vpn_event granted_event(const struct call *c, uint64_t now_us, const struct grant *g)
{
	struct vpn_event e = vpn_event_of(c, now_us, VPN_EV_GRANTED);

	memcpy(e.name, g->g.name, sizeof(g->g.name));
	e.protocol = g->g.protocol;
	e.port = g->g.port;
	e.local = g->local;
	e.until_s = g->until_s;
	return e;
}

void vpn_forward_ready(struct vpn *v, uint64_t now_us, unsigned call, uint32_t grant_id, const struct addr *local)
{
	struct call *c = vpn_call_find(v, call);
	struct grant extra = { .g = { .id = grant_id,
				      .protocol = grant_id & FORWARD_UDP ? 17 : 6,
				      .port = (uint16_t)grant_id } },
		     *g;
	struct vpn_event e;

	if (!c)
		return;
	g = grant_id & FORWARD_EXTRA ? &extra : by_id(c, grant_id);
	if (!g || g->told)
		return;
	if (local->family == ADDR_NONE) {
		e = vpn_event_of(c, now_us, VPN_EV_REFUSED);
		memcpy(e.name, g->g.name, sizeof(g->g.name));
		e.code = REASON_USAGE;
		(void)snprintf(e.reason, sizeof(e.reason),
			       "no local port could be opened for it; is the wished one in use?");
		vpn_tell(v, &e);
		if (g != &extra && c->n_grants == 1) {
			call_end(v, c, now_us, REASON_USAGE, e.reason);
			vpn_tick(v, now_us);
			return;
		}
	} else {
		g->local = *local;
		e = granted_event(c, now_us, g);
		vpn_tell(v, &e);
	}
	g->told = true;
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

/* ---- Child SAs, both sides ---- */

static bool selectors_ours(const struct vpn *v, const struct call *c, const struct ike_child *k)
{
	for (unsigned i = 0; i < k->ts_local.n; i++)
		if (memcmp(k->ts_local.ts[i].ip_lo, v->self, 16) || memcmp(k->ts_local.ts[i].ip_hi, v->self, 16))
			return false;
	for (unsigned i = 0; i < k->ts_peer.n; i++)
		if (memcmp(k->ts_peer.ts[i].ip_lo, c->peer_address, 16) ||
		    memcmp(k->ts_peer.ts[i].ip_hi, c->peer_address, 16))
			return false;
	return k->ts_local.n && k->ts_peer.n;
}

static void copy_ts(const struct ike_ts_list *from, struct esp_ts *to, unsigned *ret_n)
{
	for (unsigned i = 0; i < from->n && i < ESP_TS_MAX; i++) {
		const struct ike_ts *t = &from->ts[i];

		to[i] = (struct esp_ts){
			.family = t->family, .protocol = t->protocol, .port_lo = t->port_lo, .port_hi = t->port_hi
		};
		memcpy(to[i].ip_lo, t->ip_lo, 16);
		memcpy(to[i].ip_hi, t->ip_hi, 16);
		*ret_n = i + 1;
	}
}

/* What a stock peer that calls us may carry, whoever proposed it and whatever was agreed on: what its grants cover. */
static void cut_to_grants(struct vpn *v, struct call *c, struct ike_child *k)
{
	struct ike_decision d = { .n_grants = 0 };
	struct ike_ts_list own, peer;

	selectors_of_all(v, c, &d);
	ike_ts_narrow(&k->ts_local, &d.ts_local, &own);
	ike_ts_narrow(&k->ts_peer, &d.ts_peer, &peer);
	k->ts_local = own;
	k->ts_peer = peer;
}

static enum err install(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_child *k)
{
	struct esp_sa_config s = { .spi_in = k->spi_in,
				   .spi_out = k->spi_out,
				   .alg = k->alg,
				   .open = c->outgoing ? ESP_OPEN_OUT : ESP_OPEN_IN,
				   .esn = k->esn,
				   .call = c->id,
				   .grant_id = k->grant_id,
				   .path = tunnel_esp_path(c, &c->path),
				   .standby = k->standby,
				   .replaces = k->redundant ? 0 : k->replaces,
				   .soft_packets = CHILD_SOFT_PACKETS - rng_below(v->env.rng, 1u << 28),
				   .soft_bytes = CHILD_SOFT_BYTES,
				   .hard_bytes = CHILD_HARD_BYTES };
	enum err e;

	s.allow_ping = ping_allowed(v, c);
	memcpy(s.key_in, k->key_in, sizeof(s.key_in));
	memcpy(s.key_out, k->key_out, sizeof(s.key_out));
	copy_ts(&k->ts_local, s.ts_local, &s.n_local);
	copy_ts(&k->ts_peer, s.ts_peer, &s.n_peer);
	e = selectors_ours(v, c, k) ? esp_sa_add(v->esp, now_us, &s) : ERR_DENIED;
	secret_wipe(&s, sizeof(s));
	return e;
}

void grant_child_up(struct vpn *v, struct call *c, uint64_t now_us, struct ike_event *e)
{
	struct ike_child *k = &e->child;
	struct grant *g = by_id(c, k->grant_id);
	enum err r;

	if (c->bare && !c->outgoing)
		cut_to_grants(v, c, k);
	r = g || c->bare ? install(v, c, now_us, k) : ERR_DENIED;
	if (r != OK) {
		log_warn(&c->log, "call %u: a Child SA is refused: %s", c->id, err_name(r));
		if (g && k->replaces) /* then it ends with all that it has */
			g->spi_in = k->spi_in;
		if (c->sa)
			(void)!ike_sa_child_delete(c->sa, now_us, k->spi_in);
		return;
	}
	if (c->held)
		esp_call_hold(v->esp, c->id, true);
	if (k->redundant) { /* of two that both sides made at once: it receives, never sends, and goes */
		esp_sa_retire(v->esp, now_us, k->spi_in);
		return;
	}
	for (unsigned i = 0; c->bare && i < c->n_grants; i++) {
		c->grants[i].spi_in = k->spi_in;
		c->grants[i].asked = false;
	}
	if (g)
		g->spi_in = k->spi_in;
	if (k->replaces) /* rekeyed: grant, flows and forward are as they were */
		return;
	if (!c->outgoing) {
		c->state = CALL_UP;
		if (!c->told_up)
			vpn_say(v, c, now_us, VPN_EV_UP);
		c->told_up = true;
		return;
	}
	if (g && !g->forward_wanted) {
		g->forward_wanted = true;
		want_forward(v, c, g->g.id, g->g.protocol, g->g.port, c->n_grants == 1 ? c->local_port : 0, g->g.name);
	}
	grant_more(v, c, now_us);
	grant_check_up(v, c, now_us);
}

static void close_forward(struct vpn *v, const struct call *c, const struct grant *g)
{
	struct vpn_want w = { .kind = VPN_WANT_FORWARD_CLOSE, .call = c->id, .grant_id = g->g.id, .owner = c->owner };

	if (!c->outgoing)
		(void)snprintf(w.name, sizeof(w.name), "%s", g->g.name);
	if (!c->outgoing || g->forward_wanted)
		vpn_want(v, &w);
}

void grant_child_gone(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	uint32_t spi_in = e->child.spi_in;
	bool ours = true; /* a Delete of ours, of a grant that was revoked */

	if (e->replaced) {
		esp_sa_retire(v->esp, now_us, spi_in);
		return;
	}
	esp_grant_remove(v->esp, c->id, e->grant_id);
	for (unsigned i = c->n_grants; i-- > 0;) {
		if (c->grants[i].spi_in != spi_in)
			continue;
		ours = false;
		close_forward(v, c, &c->grants[i]);
		if (c->bare) /* a stock peer makes a new one in its place; its time runs on */
			c->grants[i].spi_in = 0;
		else
			forget(c, &c->grants[i]);
	}
	if (ours && c->n_revoking)
		c->n_revoking--;
	if (!c->n_grants && ((c->revoked && !c->n_revoking) || (c->outgoing && c->told_up)))
		call_end(v, c, now_us, REASON_REVOKED, NULL);
}

/* Local first: the flow is cut before the other side is told. After the last grant the call lives on until the other side
 * has confirmed the Deletes of all Child SAs: otherwise a BYE could come first, and look like a hang-up. */
static void revoke(struct vpn *v, struct call *c, uint64_t now_us, unsigned i, const char *why)
{
	uint32_t spi = c->grants[i].spi_in, id = c->grants[i].g.id;

	vpn_audit(v, c, "revoked %s: %s", c->grants[i].g.name, why);
	close_forward(v, c, &c->grants[i]);
	forget(c, &c->grants[i]);
	for (unsigned k = 0; spi && k < c->n_grants; k++)
		if (c->grants[k].spi_in == spi) { /* a stock peer's one Child SA: it may make a narrower one */
			close_forward(v, c, &c->grants[k]);
			c->grants[k].spi_in = 0;
		}
	if (spi)
		esp_grant_remove(v->esp, c->id, c->bare ? 0 : id);
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

	while (esp_plane_poll_due(v->esp, &d)) {
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
	if (!ping_allowed(v, c))
		esp_call_ping_off(v->esp, c->id);
	for (unsigned i = c->n_grants; !c->outgoing && i-- > 0 && call_live(c);)
		if (i < c->n_grants &&
		    (!known || ask_policy(v, c, POLICY_GRANT, c->grants[i].g.name).verdict != POLICY_YES))
			revoke(v, c, now_us, i, "the configuration changed");
}

enum err vpn_forward(struct vpn *v, uint64_t now_us, unsigned call, uint8_t protocol, uint16_t port,
		     uint16_t local_port)
{
	struct call *c = vpn_call_find(v, call);
	bool covered = c && c->bare;

	(void)now_us;
	if (!c)
		return ERR_NOTFOUND;
	for (unsigned i = 0; i < c->n_grants; i++)
		covered |= c->grants[i].g.protocol == protocol && c->grants[i].g.port == port;
	if (!c->outgoing || c->state != CALL_UP || !covered)
		return ERR_DENIED;
	want_forward(v, c, FORWARD_EXTRA | (protocol == 17 ? FORWARD_UDP : 0) | (c->n_forwards++ & 0x3fff) << 16 | port,
		     protocol, port, local_port, "");
	return OK;
}
