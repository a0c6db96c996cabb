/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <stdio.h>
#include <string.h>

#include "vpn/impl.h"

const char *vpn_event_name(enum vpn_event_kind k)
{
	static const char *const names[] = {
		[VPN_EV_REGISTERED] = "registered",
		[VPN_EV_REGISTER_FAILED] = "register-failed",
		[VPN_EV_INCOMING] = "incoming",
		[VPN_EV_ASKED] = "asked",
		[VPN_EV_TRYING] = "trying",
		[VPN_EV_RINGING] = "ringing",
		[VPN_EV_ANSWERED] = "answered",
		[VPN_EV_PATH] = "path",
		[VPN_EV_AUTHENTICATED] = "authenticated",
		[VPN_EV_WAITING] = "waiting",
		[VPN_EV_GRANTED] = "granted",
		[VPN_EV_REFUSED] = "refused",
		[VPN_EV_UP] = "up",
		[VPN_EV_PATH_CHANGED] = "path-changed",
		[VPN_EV_KEYS] = "keys",
		[VPN_EV_ENDED] = "ended",
	};

	return names[k];
}

const struct config *vpn_config(const struct vpn *v)
{
	return v->cfg;
}

struct trust *vpn_trust(struct vpn *v)
{
	return v->trust;
}

/* Offers are fresh for 300 s; the owner hears of it before calls fail (docs/protocol.md). */
#define CLOCK_OFF_S 60

void vpn_drops(const struct vpn *v, struct vpn_drops *ret)
{
	*ret = (struct vpn_drops){ v->n_ike_unknown, v->n_ike_unvalidated, v->n_stun_unknown, { .packets_in = 0 } };
	esp_set_counters(v->esp, &ret->esp);
}

bool vpn_account_status(const struct vpn *v, unsigned account, struct vpn_account_status *ret)
{
	struct vpn_account_status s = { .registered = false };

	if (account >= v->cfg->n_accounts)
		return false;
	memcpy(s.aor, v->cfg->accounts[account].aor, sizeof(s.aor));
	s.registered = v->accounts[account].registered;
	memcpy(s.reason, v->accounts[account].reason, sizeof(s.reason));
	if (v->accounts[account].clock_off_s > CLOCK_OFF_S || v->accounts[account].clock_off_s < -CLOCK_OFF_S)
		s.clock_off_s = v->accounts[account].clock_off_s;
	memcpy(s.key, v->key, sizeof(s.key));
	memcpy(s.address, v->self, sizeof(s.address));
	*ret = s;
	return true;
}

static void services_of(const struct call *c, struct vpn_call_status *s)
{
	for (unsigned i = 0; i < c->n_grants && s->n_services < CFG_ALLOW_MAX; i++) {
		struct vpn_service_status *x = &s->services[s->n_services++];
		const struct grant *g = &c->grants[i];

		*x = (struct vpn_service_status){ .protocol = g->g.protocol,
						  .port = g->g.port,
						  .grant_id = g->g.id,
						  .local = g->local,
						  .until_s = g->until_s };
		memcpy(x->name, g->g.name, sizeof(g->g.name));
		x->has_network = g->net != NULL;
		if (g->net)
			x->network = *g->net;
	}
}

bool vpn_call_status(const struct vpn *v, unsigned *at, struct vpn_call_status *ret)
{
	const struct call *c = v->calls;
	unsigned n = 0;
	enum ice_type worse;

	while (c && (!call_live(c) || n++ < *at))
		c = c->next;
	if (!c)
		return false;
	(*at)++;
	*ret = (struct vpn_call_status){ .id = c->id,
					 .level = c->level,
					 .state = call_state_name(c),
					 .outgoing = c->outgoing,
					 .since_s = c->since_s,
					 .local = c->path.local,
					 .remote = c->path.remote };
	memcpy(ret->account, v->cfg->accounts[c->account].aor, sizeof(ret->account));
	memcpy(ret->peer, c->peer, sizeof(ret->peer));
	memcpy(ret->key, c->key, sizeof(ret->key));
	memcpy(ret->self, v->self, 16);
	memcpy(ret->peer_address, c->peer_address, 16);
	worse = c->local_type > c->remote_type ? c->local_type : c->remote_type;
	if (c->path.local.family != ADDR_NONE)
		(void)snprintf(ret->path_type, sizeof(ret->path_type), "%s", ice_type_name(worse));
	if (c->ice)
		ret->rtt_us = ice_agent_rtt_us(c->ice);
	ret->mtu = pmtu_size(&c->mtu);
	ret->in_kernel = plane_is_kernel(v, c);
	services_of(c, ret);
	(void)!esp_set_call_counters(v->esp, c->id, &ret->counters);
	return true;
}

/* Its inner address, or one that it was assigned. */
static bool comes_from(const struct call *c, const uint8_t ip[16])
{
	for (unsigned i = 0; i < c->n_grants; i++)
		if (c->grants[i].net && c->grants[i].net->ip6.family == ADDR_IP6 &&
		    !memcmp(c->grants[i].net->ip6.ip, ip, 16))
			return true;
	return !memcmp(c->peer_address, ip, 16);
}

unsigned vpn_call_of_peer(const struct vpn *v, const uint8_t peer[16])
{
	for (const struct call *c = v->calls; c; c = c->next)
		if (call_live(c) && !c->outgoing && c->authenticated && comes_from(c, peer))
			return c->id;
	return 0;
}
