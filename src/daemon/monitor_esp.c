/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ESP in the kernel for networks, with host = yes alone: whose packets may go through it, with which SAs, and who opens flows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"
#include "daemon/monitor_impl.h"
#include "net/direction.h"
#include "net/xfrm.h"

/* 20 IP, 8 UDP, 8 SPI and number, 8 IV, 1280, 4 padding, its length and the next header, 16 ICV */
#define IP6_IN_IP4_MTU 1344

/* Ours begin with the tunnel port, of which a host has one: so another daemon's are never touched. */
static uint32_t reqid_of(const struct monitor *m, uint16_t slot)
{
	return (uint32_t)m->esp->port << 16 | slot;
}

static struct group *group_of(struct monitor *m, enum addr_family f)
{
	return &m->groups[f == ADDR_IP6];
}

bool monitor_esp_can(const struct config *cfg)
{
	return cfg->host && direction_available() == OK && xfrm_available(ADDR_IP4, XFRM_AES128_GCM) == OK &&
	       xfrm_available(ADDR_IP6, XFRM_AES128_GCM) == OK;
}

enum err monitor_esp_begin(struct monitor *m, uint16_t port)
{
	struct esp_kernel *k;

	if (m->esp)
		return m->esp->port == port ? OK : ERR_UNSUPPORTED;
	k = calloc(1, sizeof(*k));
	if (!k)
		return ERR_NOMEM;
	k->port = port;
	(void)snprintf(k->table, sizeof(k->table), "%s", m->cfg->interface);
	m->esp = k;
	/* what one that was killed has left; there may be nothing */
	(void)!direction_flush(m->ns_fd, m->esp->table);
	return xfrm_flush(m->ns_fd, reqid_of(m, 1), reqid_of(m, UINT16_MAX));
}

void monitor_esp_end(struct monitor *m)
{
	if (!m->esp)
		return;
	(void)!xfrm_flush(m->ns_fd, reqid_of(m, 1), reqid_of(m, UINT16_MAX));
	(void)!direction_flush(m->ns_fd, m->esp->table);
	free(m->esp);
	m->esp = NULL;
}

/* ---- whose packets ---- */

static bool joined_as(const struct monitor *m, const struct addr_prefix *to, const struct addr *source)
{
	for (unsigned i = 0; i < m->n_joined; i++)
		if (addr_prefix_eq(&m->joined[i].to, to) &&
		    (source ? addr_ip_eq(&m->joined[i].source, source) : m->joined[i].source.family == ADDR_NONE))
			return true;
	return false;
}

static bool is_granted(const struct config *cfg, const struct addr_prefix *p)
{
	for (unsigned i = 0; i < cfg->n_networks; i++)
		for (unsigned k = 0; k < cfg->networks[i].prefix.n; k++)
			if (addr_prefix_inside(p, &cfg->networks[i].prefix.p[k]))
				return true; /* or a part, which a peer has narrowed it to */
	return false;
}

/* We have joined this network, from this address; or it is ours, and the other's address has its route. *ret_ours: the client is us. */
static bool may_pass(const struct monitor *m, const struct addr_prefix *server, const struct addr_prefix *client,
		     bool *ret_ours)
{
	*ret_ours = monitor_has(m->assigned, m->n_assigned, &client->base) ||
		    monitor_has(m->self, m->n_self, &client->base);
	if (*ret_ours)
		return joined_as(m, server, &client->base);
	return is_granted(m->cfg, server) &&
	       (joined_as(m, client, NULL) || monitor_has(m->routes, m->n_routes, &client->base));
}

static struct esp_pair *pair_find(struct esp_kernel *k, const struct addr_prefix *server,
				  const struct addr_prefix *client)
{
	for (unsigned i = 0; i < k->n_pairs; i++)
		if (addr_prefix_eq(&k->pairs[i].server, server) && addr_prefix_eq(&k->pairs[i].client, client))
			return &k->pairs[i];
	return NULL;
}

static bool outer_fits(struct monitor *m, const struct addr *own, const struct addr *peer)
{
	return monitor_is_address(own) && monitor_is_address(peer) && own->family == peer->family &&
	       group_of(m, own->family)->made && own->port == group_of(m, own->family)->port && peer->port &&
	       !addr_is_any(own) && !addr_is_any(peer) && !addr_is_multicast(own) && !addr_is_multicast(peer);
}

/* IPv6 of 1280 bytes must pass (RFC 8200, 5). Where an interface or a router has said that the way does not carry them with what is
 * around them, the kernel drops those that it forwards and says a length that nobody believes, and takes none of ours. */
static bool too_short(const struct monitor_esp *rq)
{
	unsigned mtu;

	return rq->server.base.family == ADDR_IP6 && rq->own.family == ADDR_IP4 &&
	       path_mtu(&rq->own, &rq->peer, &mtu) == OK && mtu < IP6_IN_IP4_MTU;
}

/* With IN what goes out has no policy: it takes the route into the TUN. */
static enum err set_way(struct monitor *m, const struct xfrm_policy *x, uint8_t action)
{
	enum err e;

	if (x->way != XFRM_WAY_OUT || action != ESP_KERNEL_IN)
		return xfrm_policy_set(m->ns_fd, x);
	e = xfrm_policy_remove(m->ns_fd, x->way, &x->from, &x->to);
	return e == ERR_NOTFOUND ? OK : e;
}

static enum err set_ways(struct monitor *m, const struct esp_pair *p, const struct monitor_esp *rq)
{
	enum err e = OK;

	for (enum xfrm_way way = XFRM_WAY_IN; e == OK && way < XFRM_N_WAYS; way++) {
		bool to_client = p->ours == (way != XFRM_WAY_OUT);
		struct xfrm_policy x = { .way = way,
					 .from = to_client ? p->server : p->client,
					 .to = to_client ? p->client : p->server,
					 .reqid = reqid_of(m, p->slot),
					 .block = rq->action == ESP_KERNEL_BLOCK ||
						  (rq->action == ESP_KERNEL_HOLD && way == XFRM_WAY_OUT),
					 .outer_from = rq->own,
					 .outer_to = rq->peer };

		if (way == XFRM_WAY_FORWARD && p->ours)
			continue; /* it ends here */
		e = set_way(m, &x, rq->action);
	}
	return e;
}

static void set_mtu(struct monitor *m, struct esp_pair *p, uint16_t mtu)
{
	if (p->mtu != mtu)
		monitor_route_mtu(m, p->ours ? &p->server : &p->client, p->ours ? &p->client.base : NULL, mtu);
	p->mtu = mtu;
}

static void unset_ways(struct monitor *m, const struct esp_pair *p)
{
	for (enum xfrm_way way = XFRM_WAY_IN; way < XFRM_N_WAYS; way++) {
		bool to_client = p->ours == (way != XFRM_WAY_OUT);

		(void)!xfrm_policy_remove(m->ns_fd, way, to_client ? &p->server : &p->client,
					  to_client ? &p->client : &p->server);
	}
	(void)!direction_remove(m->ns_fd, m->esp->table, p->rule);
}

/* Who opens flows. It comes before anything can pass, and goes after it. */
static enum err set_rule(struct monitor *m, const struct esp_pair *p)
{
	struct direction d = { .table = m->esp->table,
			       .id = p->rule,
			       .servers = { p->server },
			       .clients = { p->client },
			       .n_servers = 1,
			       .n_clients = 1 };

	return direction_set(m->ns_fd, &d);
}

static enum err new_pair(struct monitor *m, const struct monitor_esp *rq, struct esp_pair **ret)
{
	struct esp_kernel *k = m->esp;
	bool ours;

	if (!may_pass(m, &rq->server, &rq->client, &ours))
		return ERR_DENIED;
	if (k->n_pairs == MONITOR_ESP_PAIRS)
		return ERR_LIMIT;
	*ret = &k->pairs[k->n_pairs++];
	**ret = (struct esp_pair){
		.slot = rq->slot, .ours = ours, .rule = ++k->last_rule, .server = rq->server, .client = rq->client
	};
	return set_rule(m, *ret);
}

static void drop_pair(struct monitor *m, struct esp_pair *p)
{
	set_mtu(m, p, 0);
	unset_ways(m, p);
	*p = m->esp->pairs[--m->esp->n_pairs];
	if (!m->esp->n_pairs) /* nor is a table without rules left, for which connections would be tracked */
		(void)!direction_flush(m->ns_fd, m->esp->table);
}

bool monitor_esp_carries(const struct monitor *m, const struct addr *a)
{
	for (unsigned i = 0; m->esp && i < m->esp->n_pairs; i++)
		if (m->esp->pairs[i].ours && addr_prefix_has(&m->esp->pairs[i].server, a))
			return true;
	return false;
}

void monitor_esp_recheck(struct monitor *m)
{
	bool ours;

	for (unsigned i = m->esp ? m->esp->n_pairs : 0; i-- > 0;)
		if (!may_pass(m, &m->esp->pairs[i].server, &m->esp->pairs[i].client, &ours))
			drop_pair(m, &m->esp->pairs[i]);
}

enum err monitor_esp_policy(struct monitor *m, const struct monitor_esp *rq)
{
	struct esp_pair *p;
	enum err e = OK;

	if (!m->esp)
		return ERR_WRONG_STATE;
	if (!rq->slot || !monitor_is_prefix(&rq->server) || !monitor_is_prefix(&rq->client) ||
	    rq->client.len != addr_ip_len(&rq->client.base) * 8 || rq->server.base.family != rq->client.base.family ||
	    rq->action > ESP_KERNEL_PASS || (rq->action > ESP_KERNEL_BLOCK && !outer_fits(m, &rq->own, &rq->peer)))
		return ERR_MALFORMED;
	p = pair_find(m->esp, &rq->server, &rq->client);
	if (p && p->slot != rq->slot)
		return ERR_WRONG_STATE;
	if (!p && rq->action == ESP_KERNEL_GONE)
		return ERR_NOTFOUND;
	if (!p)
		e = new_pair(m, rq, &p);
	if (!p)
		return e;
	if (e == OK && rq->action > ESP_KERNEL_BLOCK && too_short(rq))
		e = ERR_UNSUPPORTED;
	if (e == OK && rq->action != ESP_KERNEL_GONE) {
		set_mtu(m, p, rq->action > ESP_KERNEL_BLOCK ? rq->mtu : 0);
		e = set_ways(m, p, rq);
	}
	if (e != OK || rq->action == ESP_KERNEL_GONE)
		drop_pair(m, p);
	return e;
}

/* ---- SAs ---- */

static struct esp_known *sa_find(struct esp_kernel *k, uint32_t spi, const struct addr *to)
{
	for (unsigned i = 0; i < k->n_sas; i++)
		if (k->sas[i].spi == spi && addr_eq(&k->sas[i].to, to))
			return &k->sas[i];
	return NULL;
}

static bool has_slot(const struct esp_kernel *k, uint16_t slot)
{
	for (unsigned i = 0; i < k->n_pairs; i++)
		if (k->pairs[i].slot == slot)
			return true;
	return false;
}

/* Ours begin with two bits and lead to the last socket of the group. */
static bool spi_fits(struct monitor *m, const struct monitor_esp *rq)
{
	const struct group *g = group_of(m, rq->own.family);

	return !rq->inbound || (rq->spi >= 0xc0000000 && rq->spi % g->n_data == g->n_data - 1u);
}

enum err monitor_esp_add(struct monitor *m, const struct monitor_esp *rq)
{
	struct esp_kernel *k = m->esp;
	struct xfrm_sa sa = { .spi = rq->spi,
			      .from = rq->inbound ? rq->peer : rq->own,
			      .to = rq->inbound ? rq->own : rq->peer,
			      .aead = (enum xfrm_aead)rq->aead,
			      .esn = rq->esn,
			      .copy_dscp = rq->copy_dscp,
			      .hard_packets = rq->hard_packets,
			      .hard_bytes = rq->hard_bytes };
	enum err e;

	if (!k)
		return ERR_WRONG_STATE;
	if (!outer_fits(m, &rq->own, &rq->peer) || !spi_fits(m, rq) || rq->aead >= XFRM_N_AEADS)
		return ERR_MALFORMED;
	if (!has_slot(k, rq->slot))
		return ERR_DENIED;
	if (k->n_sas == MONITOR_ESP_SAS)
		return ERR_LIMIT;
	sa.reqid = reqid_of(m, rq->slot);
	memcpy(sa.key, rq->key, sizeof(sa.key));
	e = xfrm_sa_add(m->ns_fd, &sa);
	secret_wipe(sa.key, sizeof(sa.key));
	if (e == OK)
		k->sas[k->n_sas++] = (struct esp_known){ .spi = sa.spi, .to = sa.to, .inbound = rq->inbound };
	return e;
}

/* own and peer are the SA's in what follows; `inbound` says which of them it leads to. */
static struct esp_known *sa_of(struct monitor *m, const struct monitor_esp *rq)
{
	struct esp_known *s = m->esp ? sa_find(m->esp, rq->spi, rq->inbound ? &rq->own : &rq->peer) : NULL;

	return s && s->inbound == (rq->inbound != 0) ? s : NULL;
}

enum err monitor_esp_remove(struct monitor *m, const struct monitor_esp *rq)
{
	struct esp_known *s = sa_of(m, rq);
	enum err e;

	if (!s)
		return ERR_NOTFOUND;
	e = xfrm_sa_remove(m->ns_fd, s->spi, &s->to);
	*s = m->esp->sas[--m->esp->n_sas];
	return e;
}

enum err monitor_esp_move(struct monitor *m, const struct monitor_esp *rq)
{
	struct esp_known *s = sa_of(m, rq);
	const struct addr *to = rq->inbound ? &rq->new_own : &rq->new_peer;
	enum err e;

	if (!s)
		return ERR_NOTFOUND;
	if (!outer_fits(m, &rq->new_own, &rq->new_peer))
		return ERR_MALFORMED;
	e = xfrm_sa_move(m->ns_fd, s->spi, &s->to, rq->inbound ? &rq->new_peer : &rq->new_own, to);
	if (e == OK)
		s->to = *to;
	else
		*s = m->esp->sas[--m->esp->n_sas]; /* it may be gone, and shall be */
	return e;
}

enum err monitor_esp_count(struct monitor *m, const struct monitor_esp *rq, struct monitor_reply *ret)
{
	struct esp_known *s = sa_of(m, rq);
	struct xfrm_counters c;
	enum err e = s ? xfrm_sa_counters(m->ns_fd, s->spi, &s->to, &c) : ERR_NOTFOUND;

	if (s && e == ERR_NOTFOUND) /* a limit has ended it */
		*s = m->esp->sas[--m->esp->n_sas];
	if (e != OK)
		return e;
	ret->packets = c.packets;
	ret->bytes = c.bytes;
	ret->replayed = c.replayed + c.outside_window;
	ret->not_authentic = c.not_authentic;
	return OK;
}
