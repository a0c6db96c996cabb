/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/child.c - Child SAs that come and go, both sides: is what they carry what was granted, and who may open flows? */
#include <string.h>

#include "crypto/secret.h"
#include "vpn/impl.h"

static bool selector_ours(const struct vpn *v, const struct call *c, const struct grant *g, const struct ike_ts *t,
			  bool local)
{
	const uint8_t *ip = local ? v->self : c->peer_address;

	if (t->family == ADDR_IP6 && !memcmp(t->ip_lo, ip, 16) && !memcmp(t->ip_hi, ip, 16))
		return true;
	return network_selector(c, c->bare ? NULL : g, t, local);
}

static bool selectors_ours(const struct vpn *v, const struct call *c, const struct grant *g, const struct ike_child *k)
{
	for (unsigned i = 0; i < k->ts_local.n; i++)
		if (!selector_ours(v, c, g, &k->ts_local.ts[i], true))
			return false;
	for (unsigned i = 0; i < k->ts_peer.n; i++)
		if (!selector_ours(v, c, g, &k->ts_peer.ts[i], false))
			return false;
	return k->ts_local.n && k->ts_peer.n;
}

/* Does it carry a network? */
static bool of_network(const struct call *c, const struct grant *g)
{
	bool any = g && g->net;

	for (unsigned i = 0; c->bare && i < c->n_grants; i++)
		any |= c->grants[i].net != NULL;
	return any;
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

	grant_selectors_all(v, c, &d);
	ike_ts_narrow(&k->ts_local, &d.ts_local, &own);
	ike_ts_narrow(&k->ts_peer, &d.ts_peer, &peer);
	k->ts_local = own;
	k->ts_peer = peer;
}

static enum err install(struct vpn *v, struct call *c, uint64_t now_us, const struct grant *g,
			const struct ike_child *k)
{
	struct esp_sa_config s = { .spi_in = k->spi_in,
				   .spi_out = k->spi_out,
				   .alg = k->alg,
				   .open = c->outgoing ? ESP_OPEN_OUT : ESP_OPEN_IN,
				   .esn = k->esn,
				   .call = c->id,
				   .grant_id = k->grant_id,
				   .path = tunnel_esp_path(c, &c->path),
				   .mtu = pmtu_size(&c->mtu),
				   .standby = k->standby,
				   .replaces = k->redundant ? 0 : k->replaces,
				   .soft_packets = CHILD_SOFT_PACKETS - rng_below(v->env.rng, 1u << 28),
				   .soft_bytes = CHILD_SOFT_BYTES,
				   .hard_bytes = CHILD_HARD_BYTES };
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);
	enum err e;

	s.copy_dscp = p && p->copy_dscp;
	s.ping_one_way = of_network(c, g); /* hosts of a network do not look for who joins it */
	s.allow_ping = s.ping_one_way || grant_ping_allowed(v, c);
	memcpy(s.key_in, k->key_in, sizeof(s.key_in));
	memcpy(s.key_out, k->key_out, sizeof(s.key_out));
	copy_ts(&k->ts_local, s.ts_local, &s.n_local);
	copy_ts(&k->ts_peer, s.ts_peer, &s.n_peer);
	e = selectors_ours(v, c, g, k) ? esp_set_add(v->esp, now_us, &s) : ERR_DENIED;
	secret_wipe(&s, sizeof(s));
	return e;
}

/* A stock peer names nothing: what reaches beyond its own address is one network. */
static const char *join(const struct vpn *v, struct call *c, struct grant **g, const struct ike_event *e)
{
	if (!*g) {
		*g = &c->grants[c->n_grants++];
		**g = (struct grant){ .g = { .name = "network" }, .asked = true, .expires_us = TIME_NEVER };
	}
	return network_take(v, c, *g, e);
}

/* Into its plane. What the kernel cannot have gets other keys; until then nothing passes. */
static enum err place(struct vpn *v, struct call *c, uint64_t now_us, const struct grant *g, const struct ike_child *k,
		      bool *ret_waits)
{
	enum err e = install(v, c, now_us, g, k);

	*ret_waits = e == ERR_UNSUPPORTED && esp_set_in_kernel(v->esp, k->spi_in);
	return *ret_waits ? OK : e;
}

/* There are keys, in the plane where they are to be: it is used. */
static void ready(struct vpn *v, struct call *c, uint64_t now_us, struct grant *g, uint32_t spi_in)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].spi_in == spi_in)
			network_up(v, c, &c->grants[i]);
	if (!c->outgoing) {
		c->state = CALL_UP;
		if (!c->told_up)
			vpn_say(v, c, now_us, VPN_EV_UP);
		c->told_up = true;
		return;
	}
	if (g && !g->net && !g->forward_wanted) {
		g->forward_wanted = true;
		forward_want(v, c, g, c->n_grants == 1 ? c->local_port : 0);
	}
	grant_more(v, c, now_us);
	grant_check_up(v, c, now_us);
}

/* No more waiting. False: nobody did. */
static bool waited(struct call *c, uint32_t spi_in)
{
	bool any = false, more = false;

	for (unsigned i = 0; i < c->n_grants; i++) {
		if (c->grants[i].spi_in == spi_in) {
			any |= c->grants[i].waits;
			c->grants[i].waits = false;
		}
		more |= c->grants[i].waits;
	}
	if (!more)
		c->plane_due_us = TIME_NEVER;
	return any;
}

void child_wait_over(struct vpn *v, struct call *c, uint64_t now_us)
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (waited(c, c->grants[i].spi_in))
			ready(v, c, now_us, &c->grants[i], c->grants[i].spi_in);
}

/* A stock peer's may reach its own address beside the network, for its services. */
static bool networks_only(const struct call *c, const struct grant *g, const struct ike_child *k)
{
	const struct ike_ts_list *server = c->outgoing ? &k->ts_peer : &k->ts_local;

	for (unsigned i = 0; i < server->n; i++)
		if (server->ts[i].protocol != 1 && server->ts[i].protocol != 58 &&
		    !network_selector(c, c->bare ? NULL : g, &server->ts[i], !c->outgoing))
			return false;
	return true;
}

/* Which grants it is of: all of a stock peer's. */
static void name_grants(struct call *c, struct grant *g, uint32_t spi_in)
{
	for (unsigned i = 0; c->bare && i < c->n_grants; i++) {
		c->grants[i].spi_in = spi_in;
		c->grants[i].asked = false;
	}
	if (g)
		g->spi_in = spi_in;
}

void grant_child_up(struct vpn *v, struct call *c, uint64_t now_us, struct ike_event *e)
{
	struct ike_child *k = &e->child;
	struct grant *g = grant_by_id(c, k->grant_id);
	bool unplaced = false;
	enum err r;

	if (c->bare && !c->outgoing)
		cut_to_grants(v, c, k);
	if (c->outgoing && (g ? !g->g.protocol && !g->net : c->bare && network_is(c, k))) {
		const char *why = join(v, c, &g, e);

		if (why) {
			g->spi_in = k->spi_in;
			grant_give_up(v, c, now_us, g, why);
			return;
		}
	}
	r = g || c->bare ? place(v, c, now_us, g, k, &unplaced) : ERR_DENIED;
	if (r != OK) {
		log_warn(&c->log, "call %u: a Child SA is refused: %s", c->id, err_name(r));
		if (g && k->replaces) /* then it ends with all that it has */
			g->spi_in = k->spi_in;
		if (c->sa)
			(void)!ike_sa_child_delete(c->sa, now_us, k->spi_in);
		return;
	}
	move_hold(v, c);
	if (k->redundant) { /* of two that both sides made at once: it receives, never sends, and goes */
		esp_set_retire(v->esp, now_us, c->id, k->spi_in);
		return;
	}
	name_grants(c, g, k->spi_in);
	if (unplaced) {
		for (unsigned i = 0; !k->replaces && i < c->n_grants; i++)
			c->grants[i].waits |= c->grants[i].spi_in == k->spi_in;
		plane_leave(v, c, now_us);
		return;
	}
	/* rekeyed: grant, flows and forward are as they were */
	if (k->replaces ? waited(c, k->spi_in) : !networks_only(c, g, k) || !plane_change(v, c, now_us, k->spi_in))
		ready(v, c, now_us, g, k->spi_in);
	plane_recheck(v, c, now_us);
}

void grant_child_gone(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	uint32_t spi_in = e->child.spi_in;
	bool ours = true; /* a Delete of ours, of a grant that was revoked */

	if (e->replaced) {
		esp_set_retire(v->esp, now_us, c->id, spi_in);
		return;
	}
	esp_set_grant_remove(v->esp, c->id, e->grant_id);
	for (unsigned i = c->n_grants; i-- > 0;) {
		if (c->grants[i].spi_in != spi_in)
			continue;
		ours = false;
		grant_close(v, c, &c->grants[i]);
		if (c->bare && !c->outgoing) /* a stock peer makes a new one in its place; its time runs on */
			c->grants[i].spi_in = 0;
		else
			grant_forget(c, &c->grants[i]);
	}
	if (ours && c->n_revoking)
		c->n_revoking--;
	if (!c->n_grants && ((c->revoked && !c->n_revoking) || (c->outgoing && c->told_up)))
		call_end(v, c, now_us, REASON_REVOKED, NULL);
}
