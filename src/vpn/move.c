/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/move.c - the path of a call, and how it changes (docs/protocol.md, RFC 4555). ICE finds pairs, the IKE initiator moves the
 * SAs to the one that ICE chose, and ESP follows when the other side has agreed. Towards a peer without MOBIKE each side follows its
 * own choice. */
#include <stdio.h>

#include "vpn/impl.h"

#define CONSENT_US SECONDS(30) /* RFC 7675, 5.1 */

void move_hold(struct vpn *v, struct call *c)
{
	esp_set_hold(v->esp, c->id, c->held || c->stale);
}

static void tell_path(struct vpn *v, struct call *c, uint64_t now_us, enum vpn_event_kind kind)
{
	struct vpn_event e = vpn_event_of(c, now_us, kind);
	enum ice_type worse = c->local_type > c->remote_type ? c->local_type : c->remote_type;

	e.local = c->path.local;
	e.remote = c->path.remote;
	(void)snprintf(e.path_type, sizeof(e.path_type), "%s", ice_type_name(worse));
	vpn_tell(v, &e);
}

/* How long may ESP stay on a path that is not the chosen one? As long as the other side's consent on it is fresh. */
static void watch(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct ice_pair_info i = { .proved = false };

	c->stale_us = TIME_NEVER;
	if (c->ice && c->aim.local.family != ADDR_NONE && !path_eq(&c->path, &c->aim)) {
		(void)ice_agent_pair(c->ice, &c->path, &i);
		/* never asked by us: the exchange of IKE_AUTH is what shows consent */
		c->stale_us = (i.consent_us ? i.consent_us : now_us) + CONSENT_US;
	} else if (c->stale) {
		c->stale = false;
		move_hold(v, c);
		if (!c->held)
			c->give_up_us = TIME_NEVER;
	}
}

static void go(struct vpn *v, struct call *c, uint64_t now_us, const struct path *path)
{
	struct ice_pair_info i = { .local_type = ICE_PRFLX, .remote_type = ICE_PRFLX };
	bool changed = !path_eq(&c->path, path), told = c->path_told || c->no_ice;
	struct path esp = tunnel_esp_path(c, path);

	c->path = *path;
	if (c->ice) {
		(void)ice_agent_pair(c->ice, path, &i);
		c->local_type = i.local_type;
		c->remote_type = i.remote_type;
	}
	watch(v, c, now_us);
	esp_set_path(v->esp, c->id, &esp);
	if (told && changed)
		tell_path(v, c, now_us, VPN_EV_PATH_CHANGED);
}

void move_ice(struct vpn *v, struct call *c, uint64_t now_us, const struct ice_event *e, bool chosen)
{
	bool first = !c->path_told;

	if (!first && !chosen)
		return;
	c->aim = e->path;
	if (!c->sa || ike_sa_move(c->sa, now_us, &e->path, false))
		go(v, c, now_us, &e->path);
	else
		watch(v, c, now_us);
	if (!first)
		return;
	c->path_told = true;
	if (!c->authenticated)
		c->deadline_code = REASON_IKE; /* whatever is missing at the end of CALL_SETUP_US, it is not the path */
	tell_path(v, c, now_us, VPN_EV_PATH);
}

void move_rebound(struct call *c, uint64_t now_us, const struct ice_event *e)
{
	if (c->sa && c->ike_initiator)
		(void)ike_sa_move(c->sa, now_us, &e->path, true);
}

void move_authenticated(struct vpn *v, struct call *c, uint64_t now_us, const struct path *path)
{
	/* RFC 4555, 3.3: the path of IKE_AUTH, until the initiator says otherwise */
	if (!c->ike_initiator && ike_sa_mobike(c->sa))
		go(v, c, now_us, path);
	/* The pair on which the peer proved itself passed its check; the answer to ours may still be on its way. ESP must not
	 * wait for it, or our first answer to the peer would have nowhere to go. */
	else if (c->path.local.family == ADDR_NONE)
		go(v, c, now_us, &c->ike_path);
}

void move_event(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e)
{
	if (e->kind == IKE_EV_MOVED) {
		go(v, c, now_us, &e->path);
		return;
	}
	log_warn(&c->log, "call %u: the other side does not take the new path; the old one stays", c->id);
	if (!c->ice) /* else only as long as there is consent on it */
		c->aim = c->path;
	watch(v, c, now_us);
}

bool move_anywhere(const struct call *c)
{
	return c->no_ice && c->sa && ike_sa_mobike(c->sa) && (ike_sa_up(c->sa) || !call_live(c));
}

enum ike_place move_place(void *arg, const struct path *path)
{
	const struct call *c = arg;
	struct ice_pair_info i;

	if (c->no_ice) /* docs/protocol.md: never port 500, where IKE has no marker */
		return path->remote.port && path->remote.port != 500 ? IKE_PLACE_UNPROVED : IKE_PLACE_NO;
	if (!c->ice || !ice_agent_validated(c->ice, path))
		return IKE_PLACE_NO;
	/* a check that came from there shows who sent it, not from where */
	return ice_agent_pair(c->ice, path, &i) && i.proved ? IKE_PLACE_PROVED : IKE_PLACE_UNPROVED;
}

/* Also when the other side has refused: then it is asked again now and then, until the call is given up. */
void move_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	if (now_us < c->stale_us)
		return;
	if (!c->stale) {
		log_warn(&c->log, "call %u: the old path is too old, the new one is not agreed on; nothing is sent",
			 c->id);
		c->stale = true;
		move_hold(v, c);
		if (!c->held)
			c->give_up_us = now_us + SECONDS((uint64_t)v->cfg->dead_after_s);
	}
	c->stale_us = now_us + CONSENT_US;
	if (c->sa)
		(void)ike_sa_move(c->sa, now_us, &c->aim, false);
}

static const struct addr *local_for(const struct vpn *v, const struct path *path)
{
	const struct addr *other = NULL;

	for (unsigned i = 0; i < v->n_locals; i++) {
		if (addr_eq(&v->locals[i], &path->local))
			return NULL; /* it is still there */
		if (!other && v->locals[i].family == path->remote.family)
			other = &v->locals[i];
	}
	return other;
}

void move_locals(struct vpn *v, uint64_t now_us)
{
	for (struct call *c = v->calls; c; c = c->next) {
		const struct addr *local = c->no_ice && c->ike_initiator && c->sa ? local_for(v, &c->aim) : NULL;

		if (!local || !call_live(c))
			continue;
		c->aim.local = *local;
		if (ike_sa_move(c->sa, now_us, &c->aim, false))
			go(v, c, now_us, &c->aim);
	}
}
