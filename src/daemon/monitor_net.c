/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Addresses and routes of networks, and with host = yes the unreachable routes behind them. */
#include <stdlib.h>
#include <string.h>

#include "daemon/monitor_impl.h"

/* In the host's namespace. What the administrator or the kernel has set comes first: a connected network has 0 or 256. */
#define METRIC_TUN 1024u
#define METRIC_UNREACHABLE 0x7ffffff0u

static struct addr_prefix one(const struct addr *a)
{
	struct addr_prefix p = { .base = *a, .len = (uint8_t)(addr_ip_len(a) * 8) };

	p.base.port = 0;
	return p;
}

bool monitor_is_address(const struct addr *a)
{
	struct addr b = addr_of(span_of(a->ip, a->family == ADDR_IP4 ? 4 : 16), 0);

	return (a->family == ADDR_IP4 || a->family == ADDR_IP6) && a->family == b.family &&
	       !memcmp(a->ip, b.ip, sizeof(b.ip));
}

bool monitor_is_prefix(const struct addr_prefix *p)
{
	return monitor_is_address(&p->base) && addr_prefix_sound(p);
}

static bool accepted(const struct config *cfg, const struct addr_prefix *p)
{
	if (!config_prefix_sane(p))
		return false;
	for (unsigned i = 0; cfg->host && i < cfg->n_peers; i++)
		if (config_prefixes_have(&cfg->peers[i].accept, p))
			return true;
	return !cfg->host;
}

static bool in_pool(const struct config *cfg, const struct addr_prefix *p)
{
	for (unsigned i = 0; i < cfg->n_networks; i++)
		if (p->len == addr_ip_len(&p->base) * 8 && config_prefixes_have(&cfg->networks[i].pool, p))
			return true;
	return false;
}

static bool holds(const struct addr_prefix *p, const struct addr *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (addr_prefix_has(p, &list[i]))
			return true;
	return false;
}

enum err monitor_route(struct monitor *m, const struct addr_prefix *to, const struct addr *source, bool add)
{
	return tun_route(m->ns_fd, m->cfg->interface, to, source, m->cfg->host ? METRIC_TUN : 0, add);
}

/* A packet that is too long for the path leaves in pieces then, as if the route had no limit. */
void monitor_route_mtu(struct monitor *m, const struct addr_prefix *to, const struct addr *source, unsigned mtu)
{
	(void)!tun_route_mtu(m->ns_fd, m->cfg->interface, to, source, m->cfg->host ? METRIC_TUN : 0, mtu);
}

/* ---- what a peer assigned ---- */

enum err monitor_assigned(struct monitor *m, const struct monitor_request *rq)
{
	struct addr_prefix p = one(&rq->peer);
	enum err e;

	if (!monitor_is_prefix(&p))
		return ERR_MALFORMED;
	if (!m->tun_made)
		return ERR_WRONG_STATE;
	for (unsigned i = 0; i < m->n_assigned; i++) {
		if (!addr_ip_eq(&m->assigned[i], &p.base))
			continue;
		if (rq->add)
			return OK;
		m->assigned[i] = m->assigned[--m->n_assigned];
		return tun_address(m->ns_fd, m->cfg->interface, &p.base, false);
	}
	if (!rq->add)
		return ERR_NOTFOUND;
	if (!accepted(m->cfg, &p) || holds(&p, m->self, m->n_self) || holds(&p, m->routes, m->n_routes))
		return ERR_DENIED;
	if (m->n_assigned == MONITOR_ASSIGNED_MAX)
		return ERR_LIMIT;
	e = tun_address(m->ns_fd, m->cfg->interface, &p.base, true);
	if (e == OK)
		m->assigned[m->n_assigned++] = p.base;
	return e;
}

/* ---- networks ---- */

static bool may_route(const struct monitor *m, const struct addr_prefix *to, const struct addr *source)
{
	if (holds(to, m->self, m->n_self) || holds(to, m->routes, m->n_routes))
		return false;
	if (source->family == ADDR_NONE)
		return in_pool(m->cfg, to);
	return accepted(m->cfg, to) && source->family == to->base.family &&
	       (monitor_has(m->assigned, m->n_assigned, source) || monitor_has(m->self, m->n_self, source));
}

enum err monitor_network(struct monitor *m, const struct monitor_request *rq)
{
	struct joined j = { .to = { .base = rq->peer, .len = rq->bits }, .source = rq->source };
	const struct addr *source = j.source.family == ADDR_NONE ? NULL : &j.source;
	enum err e;

	j.to.base.port = j.source.port = 0;
	if (!monitor_is_prefix(&j.to) || (source && !monitor_is_address(source)))
		return ERR_MALFORMED;
	if (!m->tun_made)
		return ERR_WRONG_STATE;
	for (unsigned i = 0; i < m->n_joined; i++) {
		if (!addr_prefix_eq(&m->joined[i].to, &j.to))
			continue;
		if (rq->add)
			return addr_ip_eq(&m->joined[i].source, &j.source) ? OK : ERR_DENIED;
		m->joined[i] = m->joined[--m->n_joined];
		return monitor_route(m, &j.to, NULL, false);
	}
	if (!rq->add)
		return ERR_NOTFOUND;
	if (!may_route(m, &j.to, &j.source))
		return ERR_DENIED;
	if (m->n_joined == MONITOR_NETWORKS_MAX)
		return ERR_LIMIT;
	e = monitor_route(m, &j.to, source, true);
	if (e == OK)
		m->joined[m->n_joined++] = j;
	return e;
}

bool monitor_joined(const struct monitor *m, const struct addr *a)
{
	for (unsigned i = 0; i < m->n_joined; i++)
		if (m->joined[i].source.family != ADDR_NONE && addr_prefix_has(&m->joined[i].to, a))
			return true;
	return false;
}

void monitor_networks_recheck(struct monitor *m)
{
	for (unsigned i = m->n_joined; i-- > 0;) {
		struct joined j = m->joined[i];

		if (j.source.family == ADDR_NONE ? in_pool(m->cfg, &j.to) : accepted(m->cfg, &j.to))
			continue;
		(void)!monitor_route(m, &j.to, NULL, false);
		m->joined[i] = m->joined[--m->n_joined];
	}
	for (unsigned i = m->n_assigned; i-- > 0;) {
		struct addr_prefix p = one(&m->assigned[i]);

		if (accepted(m->cfg, &p))
			continue;
		(void)!tun_address(m->ns_fd, m->cfg->interface, &p.base, false);
		m->assigned[i] = m->assigned[--m->n_assigned];
	}
}

/* ---- unreachable routes ---- */

static bool unreachable(const struct addr_prefix *to, bool add)
{
	return tun_route(-1, NULL, to, NULL, METRIC_UNREACHABLE, add) == OK;
}

static struct blocked *blocked_find(struct monitor *m, const struct addr_prefix *to)
{
	for (unsigned i = 0; i < m->n_blocked; i++)
		if (addr_prefix_eq(&m->blocked[i].to, to))
			return &m->blocked[i];
	return NULL;
}

static void block(struct monitor *m, const struct addr_prefix *to, bool configured)
{
	struct blocked *b = blocked_find(m, to), *grown;

	if (b) {
		b->configured |= configured;
		return;
	}
	grown = realloc(m->blocked, (m->n_blocked + 1) * sizeof(*grown));
	if (!grown)
		return;
	m->blocked = grown;
	if (unreachable(to, true))
		m->blocked[m->n_blocked++] = (struct blocked){ .to = *to, .configured = configured };
}

void monitor_block(struct monitor *m, const struct addr_prefix *to)
{
	if (m->cfg->host && m->n_blocked < MONITOR_ROUTES_MAX + CFG_PEERS_MAX * (CFG_PREFIXES_MAX + 1))
		block(m, to, false);
}

static bool named(const struct config *cfg, const struct addr_prefix *to)
{
	for (unsigned i = 0; i < cfg->n_peers; i++) {
		const struct cfg_peer *p = &cfg->peers[i];

		for (unsigned k = 0; k < p->accept.n; k++)
			if (addr_prefix_eq(&p->accept.p[k], to))
				return true;
		if (p->has_address && addr_ip_eq(&p->address, &to->base) && to->len == addr_ip_len(&to->base) * 8)
			return true;
	}
	for (unsigned i = 0; i < cfg->n_networks; i++)
		for (unsigned k = 0; k < cfg->networks[i].pool.n; k++)
			if (addr_prefix_eq(&cfg->networks[i].pool.p[k], to))
				return true;
	return false;
}

void monitor_block_configured(struct monitor *m)
{
	if (!m->cfg->host)
		return;
	for (unsigned i = m->n_blocked; i-- > 0;)
		if (m->blocked[i].configured && !named(m->cfg, &m->blocked[i].to)) {
			(void)unreachable(&m->blocked[i].to, false);
			m->blocked[i] = m->blocked[--m->n_blocked];
		}
	for (unsigned i = 0; i < m->cfg->n_peers; i++) {
		const struct cfg_peer *p = &m->cfg->peers[i];
		struct addr_prefix address = one(&p->address);

		for (unsigned k = 0; k < p->accept.n; k++)
			block(m, &p->accept.p[k], true);
		if (p->has_address)
			block(m, &address, true);
	}
	/* what is still on its way to somebody who has left a network of ours */
	for (unsigned i = 0; i < m->cfg->n_networks; i++)
		for (unsigned k = 0; k < m->cfg->networks[i].pool.n; k++)
			block(m, &m->cfg->networks[i].pool.p[k], true);
}

void monitor_clean(struct monitor *m)
{
	for (unsigned i = 0; i < m->n_blocked; i++)
		(void)unreachable(&m->blocked[i].to, false);
	free(m->blocked);
	m->blocked = NULL;
	m->n_blocked = 0;
}
