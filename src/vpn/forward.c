/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/forward.c - local ports of the caller's machine that lead into the tunnel. */
#include <stdio.h>
#include <string.h>

#include "vpn/impl.h"

static void want_forward(struct vpn *v, const struct call *c, const struct grant *g, const struct addr *target,
			 uint16_t local_port)
{
	struct vpn_want w = { .kind = VPN_WANT_FORWARD,
			      .call = c->id,
			      .grant_id = g->g.id,
			      .protocol = g->g.protocol,
			      .port = g->g.port,
			      .local_port = local_port,
			      .target = *target,
			      .owner = c->owner };

	memcpy(w.self, v->self, 16);
	memcpy(w.peer, c->peer_address, 16);
	(void)snprintf(w.name, sizeof(w.name), "%s", g->g.name);
	vpn_want(v, &w);
}

static struct addr at_peer(const struct call *c, uint16_t port)
{
	struct addr a = { .family = ADDR_IP6, .port = port };

	memcpy(a.ip, c->peer_address, 16);
	return a;
}

void forward_want(struct vpn *v, struct call *c, const struct grant *g, uint16_t local_port)
{
	struct addr target = at_peer(c, g->g.port);

	want_forward(v, c, g, &target, local_port);
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
	g = grant_id & FORWARD_EXTRA ? &extra : grant_by_id(c, grant_id);
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
		grant_tell(v, c, now_us, g);
	}
	g->told = true;
	grant_check_up(v, c, now_us);
}

/* A port of the peer itself, or a host in one of its networks. */
static bool covered(const struct call *c, uint8_t protocol, const struct addr *host, uint16_t port)
{
	for (unsigned i = 0; i < c->n_grants; i++) {
		const struct grant *g = &c->grants[i];

		for (unsigned k = 0; host && g->net && g->told && k < g->net->n_prefixes; k++)
			if (addr_prefix_has(&g->net->prefixes[k], host))
				return true;
		if (!host && g->g.protocol == protocol && g->g.port == port)
			return true;
	}
	return !host && c->bare;
}

enum err vpn_forward(struct vpn *v, uint64_t now_us, unsigned call, uint8_t protocol, const struct addr *host,
		     uint16_t port, uint16_t local_port)
{
	struct call *c = vpn_call_find(v, call);
	struct grant extra = { .g = { .protocol = protocol, .port = port } };
	struct addr target;

	(void)now_us;
	if (!c)
		return ERR_NOTFOUND;
	if (!c->outgoing || c->state != CALL_UP || !covered(c, protocol, host, port))
		return ERR_DENIED;
	target = host ? *host : at_peer(c, port);
	target.port = port;
	extra.g.id = FORWARD_EXTRA | (protocol == 17 ? FORWARD_UDP : 0) | (c->n_forwards++ & 0x3fff) << 16 | port;
	want_forward(v, c, &extra, &target, local_port);
	return OK;
}
