/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/network.c - grants of whole networks (docs/protocol.md). The one who grants has an address for who joins, the same one
 * again where it is free; the one who joins takes nothing that his own configuration does not accept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vpn/impl.h"

#define TRIES_MAX 65536u /* more than there can be leases */

/* ---- selectors ---- */

static void add_range(struct ike_ts_list *l, enum addr_family family, const uint8_t lo[16], const uint8_t hi[16])
{
	struct ike_ts *t;

	if (l->n == IKE_TS_MAX)
		return; /* narrower than it might be, which is allowed (RFC 7296, 2.9) */
	t = &l->ts[l->n++];
	*t = (struct ike_ts){ .family = family, .port_hi = 65535 };
	memcpy(t->ip_lo, lo, 16);
	memcpy(t->ip_hi, hi, 16);
}

static void add_prefix(struct ike_ts_list *l, const struct addr_prefix *p)
{
	uint8_t hi[16];

	memcpy(hi, p->base.ip, 16);
	for (size_t bit = p->len; bit < addr_ip_len(&p->base) * 8; bit++)
		hi[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	add_range(l, p->base.family, p->base.ip, hi);
}

static void add_all(struct ike_ts_list *l, enum addr_family family)
{
	static const struct addr_prefix all[] = { { .base = { .family = ADDR_IP4 } },
						  { .base = { .family = ADDR_IP6 } } };

	add_prefix(l, &all[family == ADDR_IP6]);
}

static struct addr low_of(const struct ike_ts *t)
{
	struct addr a = { .family = t->family };

	memcpy(a.ip, t->ip_lo, 16);
	return a;
}

static bool is_host(const struct ike_ts *t, enum addr_family family, const uint8_t ip[16])
{
	return t->family == family && !memcmp(t->ip_lo, ip, 16) && !memcmp(t->ip_hi, ip, 16);
}

static struct addr high_of(const struct ike_ts *t)
{
	struct addr a = { .family = t->family };

	memcpy(a.ip, t->ip_hi, 16);
	return a;
}

static bool in_prefix(const struct ike_ts *t, const struct addr_prefix *p)
{
	struct addr lo = low_of(t), hi = high_of(t);

	return addr_prefix_has(p, &lo) && addr_prefix_has(p, &hi);
}

/* ---- who grants: addresses ---- */

static const struct addr *address_of(const struct vpn_network *n, enum addr_family family)
{
	return family == ADDR_IP4 ? &n->ip4 : &n->ip6;
}

/* Of an older call of the same peer, which ends when this one is authenticated. */
static bool gives_way(const struct call *o, const struct call *c)
{
	return o != c && o->id < c->id && o->account == c->account && !strcmp(o->peer, c->peer) &&
	       !memcmp(o->key, c->key, SPKI_HASH);
}

static bool taken(const struct vpn *v, const struct call *c, const struct addr *a)
{
	for (const struct call *o = v->calls; o; o = o->next)
		for (unsigned i = 0; i < o->n_grants && !gives_way(o, c); i++)
			if (o->grants[i].net && addr_ip_eq(address_of(o->grants[i].net, a->family), a))
				return true;
	return false;
}

/* The n-th address of a pool. False: one with a meaning of its own (RFC 919, 7; RFC 4291, 2.6.1). */
static bool pool_address(const struct addr_prefix *p, uint32_t n, struct addr *ret)
{
	size_t len = addr_ip_len(&p->base), bits = len * 8 - p->len;
	struct addr a = p->base;

	if (bits > 1 && (!n || (a.family == ADDR_IP4 && n == (uint32_t)((UINT64_C(1) << bits) - 1))))
		return false;
	for (size_t i = 0; i < 4; i++)
		a.ip[len - 1 - i] |= (uint8_t)(n >> 8 * i);
	*ret = a;
	return true;
}

/* Where it begins to look is a hash of who asks: so he has the same address each time, unless somebody else has it. */
static enum err lease(const struct vpn *v, const struct call *c, const struct addr_prefix *pool, struct addr *ret)
{
	struct span parts[] = { span_str(c->peer), span_of("", 1), span_of(c->key, SPKI_HASH), addr_ip(&pool->base) };
	size_t bits = addr_ip_len(&pool->base) * 8 - pool->len;
	uint64_t size = bits >= 32 ? UINT64_C(1) << 32 : UINT64_C(1) << bits;
	uint8_t hash[32];
	enum err e = hash_parts(HASH_SHA256, parts, 4, hash);

	if (e != OK)
		return e;
	for (uint64_t i = 0; i < size && i < TRIES_MAX; i++) {
		struct addr a;

		if (pool_address(pool, (uint32_t)((be32(hash) + i) % size), &a) && !taken(v, c, &a)) {
			*ret = a;
			return OK;
		}
	}
	return ERR_LIMIT;
}

/* A stock peer has one Child SA, and one address of each family for all of its networks. */
static const struct addr *leased_before(const struct call *c, enum addr_family family)
{
	for (unsigned i = 0; c->bare && i < c->n_grants; i++)
		if (c->grants[i].net && address_of(c->grants[i].net, family)->family == family)
			return address_of(c->grants[i].net, family);
	return NULL;
}

static bool asked_for(const struct call *c, enum addr_family family)
{
	return c->cp_asks & IKE_CP_BIT(family == ADDR_IP4 ? IKE_CP_IP4_ADDRESS : IKE_CP_IP6_ADDRESS);
}

/* ERR_DENIED: no address is asked for, and there is no other way in. ERR_LIMIT: none is left. */
enum err network_lease(const struct vpn *v, const struct call *c, const struct cfg_network *cfg,
		       struct vpn_network **ret)
{
	static const enum addr_family families[] = { ADDR_IP4, ADDR_IP6 };
	struct vpn_network n = { .n_dns = cfg->n_dns };

	if (c->ike_initiator)
		return ERR_DENIED; /* we propose the Child SA, and an address cannot be pushed */
	for (int f = 0; f < 2; f++) {
		const struct addr_prefix *pool = config_pool(cfg, families[f]);
		const struct addr *before = leased_before(c, families[f]);
		struct addr *to = families[f] == ADDR_IP4 ? &n.ip4 : &n.ip6;
		enum err e = OK;

		if (pool && !asked_for(c, families[f]))
			continue;
		if (pool && before)
			*to = *before;
		else if (pool)
			e = lease(v, c, pool, to);
		if (e != OK)
			return e;
		for (unsigned i = 0; i < cfg->prefix.n; i++)
			if (cfg->prefix.p[i].base.family == families[f])
				n.prefixes[n.n_prefixes++] = cfg->prefix.p[i];
	}
	if (!n.n_prefixes)
		return ERR_DENIED;
	memcpy(n.dns, cfg->dns, sizeof(n.dns));
	*ret = malloc(sizeof(n));
	if (!*ret)
		return ERR_NOMEM;
	**ret = n;
	return OK;
}

static bool has_prefix(const struct vpn_network *n, enum addr_family family)
{
	for (unsigned i = 0; i < n->n_prefixes; i++)
		if (n->prefixes[i].base.family == family)
			return true;
	return false;
}

/* Without an address from a pool, who joins comes from his own. */
void network_ts(const struct call *c, const struct vpn_network *n, struct ike_ts_list *server,
		struct ike_ts_list *client)
{
	for (unsigned i = 0; i < n->n_prefixes; i++)
		add_prefix(server, &n->prefixes[i]);
	if (n->ip4.family == ADDR_IP4)
		add_range(client, ADDR_IP4, n->ip4.ip, n->ip4.ip);
	if (n->ip6.family == ADDR_IP6)
		add_range(client, ADDR_IP6, n->ip6.ip, n->ip6.ip);
	else if (has_prefix(n, ADDR_IP6))
		add_range(client, ADDR_IP6, c->peer_address, c->peer_address);
}

static void add_dns(struct ike_cp *cp, const struct addr *a)
{
	for (unsigned i = 0; i < cp->n_dns; i++)
		if (addr_ip_eq(&cp->dns[i], a))
			return;
	if (cp->n_dns < IKE_CP_DNS_MAX)
		cp->dns[cp->n_dns++] = *a;
}

void network_cp(const struct vpn_network *n, struct ike_cp *cp)
{
	cp->there = true;
	if (n->ip4.family == ADDR_IP4) {
		cp->ip4 = n->ip4;
		cp->ip4_len = 32;
	}
	if (n->ip6.family == ADDR_IP6)
		cp->ip6 = n->ip6;
	for (unsigned i = 0; i < n->n_dns; i++)
		add_dns(cp, &n->dns[i]);
	for (unsigned i = 0; i < n->n_prefixes; i++) {
		if (n->prefixes[i].base.family == ADDR_IP4 && addr_prefix_has(&n->prefixes[i], &n->ip4))
			cp->ip4_len = n->prefixes[i].len; /* the netmask of the link that it seems to be on */
		if (cp->n_subnets < IKE_CP_SUBNETS_MAX)
			cp->subnets[cp->n_subnets++] = n->prefixes[i];
	}
}

/* ---- who joins: what is asked for ---- */

static bool accepts(const struct cfg_peer *p, enum addr_family family)
{
	for (unsigned i = 0; p && i < p->accept.n; i++)
		if (p->accept.p[i].base.family == family)
			return true;
	return false;
}

/* Into the private namespace whatever comes, into the host's what accept-prefix lists. A stock peer is asked for nothing that
 * its section does not mention. */
static bool wants(const struct vpn *v, const struct call *c, enum addr_family family)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);

	if (!c->outgoing)
		return false;
	if (c->bare || v->cfg->host || (p && p->accept.n))
		return accepts(p, family);
	return true;
}

uint32_t network_asks(const struct vpn *v, const struct call *c)
{
	uint32_t asks = 0;

	if (wants(v, c, ADDR_IP4))
		asks |= IKE_CP_BIT(IKE_CP_IP4_ADDRESS) | IKE_CP_BIT(IKE_CP_IP4_DNS);
	if (wants(v, c, ADDR_IP6))
		asks |= IKE_CP_BIT(IKE_CP_IP6_ADDRESS) | IKE_CP_BIT(IKE_CP_IP6_DNS);
	return asks;
}

/* Beside what is there for services, which narrowing leaves as it was. A tieline peer may grant more than we accept: then we
 * want to know, and say so. */
void network_propose(const struct vpn *v, const struct call *c, struct ike_ts_list *own, struct ike_ts_list *peer)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);

	for (enum addr_family f = ADDR_IP4; f <= ADDR_IP6; f += ADDR_IP6 - ADDR_IP4) {
		if (!wants(v, c, f))
			continue;
		add_all(own, f);
		if (!c->bare)
			add_all(peer, f);
	}
	for (unsigned i = 0; c->bare && c->outgoing && p && i < p->accept.n; i++)
		add_prefix(peer, &p->accept.p[i]);
}

/* ---- who joins: what is taken ---- */

static bool other_network(const struct vpn *v, const struct grant *own, const struct addr_prefix *p)
{
	for (const struct call *o = v->calls; o; o = o->next)
		for (unsigned i = 0; call_live(o) && o->outgoing && i < o->n_grants; i++) {
			const struct vpn_network *n = o->grants[i].net;

			for (unsigned k = 0; n && &o->grants[i] != own && k < n->n_prefixes; k++)
				if (addr_prefix_meets(&n->prefixes[k], p))
					return true;
		}
	return false;
}

/* An inner address of ours or of anybody we are in a call with, or the way to the peer itself. */
static bool swallows(const struct vpn *v, const struct call *c, const struct addr_prefix *p)
{
	struct addr self = addr_of(span_of(v->self, 16), 0);

	if (addr_prefix_has(p, &self) || (v->cfg->host && addr_prefix_has(p, &c->path.remote)))
		return true;
	for (const struct call *o = v->calls; o; o = o->next) {
		struct addr a = addr_of(span_of(o->peer_address, 16), 0);

		if (call_live(o) && !addr_is_any(&a) && addr_prefix_has(p, &a))
			return true;
	}
	return false;
}

static const char *prefix_objection(const struct vpn *v, const struct call *c, const struct grant *g,
				    const struct addr_prefix *p)
{
	const struct cfg_peer *section = config_peer(v->cfg, c->peer);

	if (!config_prefix_sane(p))
		return "the other side's network is too wide, or none that anybody may have";
	if (section && section->accept.n && !config_prefixes_have(&section->accept, p))
		return "the other side's network is outside of accept-prefix of its [peer] section";
	if (v->cfg->host && !(section && section->accept.n))
		return "the other side's network is not accepted: its [peer] section has no accept-prefix";
	if (swallows(v, c, p))
		return "the other side's network holds an address that the tunnel itself needs";
	if (other_network(v, g, p))
		return "the other side's network overlaps with that of another call";
	return NULL;
}

static const char *address_objection(const struct vpn *v, const struct call *c, const struct grant *g,
				     const struct addr *a)
{
	const struct cfg_peer *section = config_peer(v->cfg, c->peer);
	struct addr_prefix one = { .base = *a, .len = (uint8_t)(addr_ip_len(a) * 8) };

	if (a->family == ADDR_NONE)
		return NULL;
	if (!config_prefix_sane(&one))
		return "the other side assigned an address that nobody may have";
	if (((section && section->accept.n) || v->cfg->host) &&
	    !(section && config_prefixes_have(&section->accept, &one)))
		return "the other side assigned an address outside of accept-prefix of its [peer] section";
	for (unsigned i = 0; i < v->n_locals; i++)
		if (v->cfg->host && addr_ip_eq(&v->locals[i], a))
			return "the other side assigned an address that this machine has already";
	for (const struct call *o = v->calls; o; o = o->next)
		for (unsigned i = 0; call_live(o) && i < o->n_grants; i++)
			if (&o->grants[i] != g && o->grants[i].net &&
			    addr_ip_eq(address_of(o->grants[i].net, a->family), a))
				return "the other side assigned an address that another call has already";
	return swallows(v, c, &one) ? "the other side assigned an address that the tunnel itself needs" : NULL;
}

/* All that the configuration has to say; asked again when it changes. */
const char *network_objection(const struct vpn *v, const struct call *c, const struct grant *g)
{
	const struct vpn_network *n = g->net;
	const char *why = NULL;

	for (unsigned i = 0; !why && i < n->n_prefixes; i++)
		why = prefix_objection(v, c, g, &n->prefixes[i]);
	if (!why)
		why = address_objection(v, c, g, &n->ip4);
	return why ? why : address_objection(v, c, g, &n->ip6);
}

/* c's inner address counts from now on. Who joined a network that holds it would send what is for c there: such addresses are
 * hashes of keys, so that only a network that was made for it holds one. */
void network_make_way(struct vpn *v, const struct call *c, uint64_t now_us)
{
	for (struct call *o = v->calls; o; o = o->next)
		for (unsigned i = o->n_grants; o != c && o->outgoing && i-- > 0 && call_live(o);) {
			const char *why = o->grants[i].net ? network_objection(v, o, &o->grants[i]) : NULL;

			if (why)
				grant_give_up(v, o, now_us, &o->grants[i], why);
		}
}

static bool add_network(struct vpn_network *n, const struct addr_prefix *p)
{
	for (unsigned i = 0; i < n->n_prefixes; i++)
		if (addr_prefix_eq(&n->prefixes[i], p))
			return true; /* with another protocol or port */
	if (n->n_prefixes == VPN_PREFIXES_MAX)
		return false;
	n->prefixes[n->n_prefixes++] = *p;
	return true;
}

/* The network of a Child SA that came up: what its selectors reach, and what was assigned. */
const char *network_take(const struct vpn *v, const struct call *c, struct grant *g, const struct ike_event *e)
{
	const struct ike_ts_list *peer = &e->child.ts_peer;
	struct vpn_network n = { .ip4 = e->cp.ip4, .ip6 = e->cp.ip6, .n_dns = e->cp.n_dns };
	const char *why;

	memcpy(n.dns, e->cp.dns, sizeof(n.dns));
	for (unsigned i = 0; i < peer->n; i++) {
		struct addr lo = low_of(&peer->ts[i]), hi = high_of(&peer->ts[i]);
		struct addr_prefix p;

		if (is_host(&peer->ts[i], ADDR_IP6, c->peer_address)) /* its own address, for echo and services */
			continue;
		if (peer->ts[i].family == ADDR_IP4 &&
		    n.ip4.family == ADDR_NONE) /* we would have nothing to come from */
			continue;
		if (!addr_prefix_of_range(&lo, &hi, &p) || !add_network(&n, &p))
			return "the other side's network is no prefix, or too many";
	}
	if (!n.n_prefixes)
		return "the other side's network is nothing";
	g->net = malloc(sizeof(n));
	if (!g->net)
		return "no memory";
	*g->net = n;
	why = network_objection(v, c, g);
	if (why) {
		free(g->net);
		g->net = NULL;
	}
	return why;
}

/* Does a stock peer's Child SA reach beyond its own address? */
bool network_is(const struct call *c, const struct ike_child *k)
{
	for (unsigned i = 0; i < k->ts_peer.n; i++)
		if (!is_host(&k->ts_peer.ts[i], ADDR_IP6, c->peer_address))
			return true;
	return false;
}

/* ---- both sides: is a selector of this grant's? ---- */

static bool is_assigned(const struct vpn_network *n, const struct ike_ts *t)
{
	return (n->ip4.family == ADDR_IP4 && is_host(t, ADDR_IP4, n->ip4.ip)) ||
	       (n->ip6.family == ADDR_IP6 && is_host(t, ADDR_IP6, n->ip6.ip));
}

bool network_inside(const struct vpn_network *n, const struct ike_ts *t)
{
	for (unsigned i = 0; i < n->n_prefixes; i++)
		if (in_prefix(t, &n->prefixes[i]))
			return true;
	return false;
}

/* local: our side's selector. `g` NULL: of any grant (a stock peer's one Child SA). */
bool network_selector(const struct call *c, const struct grant *g, const struct ike_ts *t, bool local)
{
	for (unsigned i = 0; i < c->n_grants; i++) {
		const struct vpn_network *n = c->grants[i].net;

		if (!n || (g && g != &c->grants[i]))
			continue;
		if (local == c->outgoing ? is_assigned(n, t) : network_inside(n, t))
			return true;
	}
	return false;
}

/* ---- the host's part ---- */

static void want(struct vpn *v, const struct call *c, const struct grant *g, bool up)
{
	struct vpn_want w = { .kind = up ? VPN_WANT_NETWORK_UP : VPN_WANT_NETWORK_DOWN,
			      .call = c->id,
			      .grant_id = g->g.id,
			      .owner = c->owner,
			      .ours = c->outgoing,
			      .network = *g->net };

	memcpy(w.self, v->self, 16);
	memcpy(w.peer, c->peer_address, 16);
	(void)snprintf(w.name, sizeof(w.name), "%s", g->g.name);
	vpn_want(v, &w);
}

void network_up(struct vpn *v, const struct call *c, struct grant *g)
{
	if (!g->net || g->net_up)
		return;
	g->net_up = true;
	want(v, c, g, true);
}

void network_down(struct vpn *v, const struct call *c, struct grant *g)
{
	if (g->net && g->net_up)
		want(v, c, g, false);
	g->net_up = false;
}

void network_drop(struct grant *g)
{
	free(g->net);
	g->net = NULL;
}

void vpn_network_ready(struct vpn *v, uint64_t now_us, unsigned call, uint32_t grant_id, bool ok)
{
	struct call *c = vpn_call_find(v, call);
	struct grant *g = c ? grant_by_id(c, grant_id) : NULL;

	if (!g || !g->net || !c->outgoing || g->told)
		return;
	if (!ok) {
		grant_give_up(v, c, now_us, g, "its addresses or routes could not be set on this machine; see the log");
		vpn_tick(v, now_us);
		return;
	}
	g->told = true;
	grant_tell(v, c, now_us, g);
	grant_check_up(v, c, now_us);
}
