/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/network.c - addresses and routes of networks that were granted, by way of the monitor. */
#include <fcntl.h>
#include <unistd.h>

#include "daemon/engine.h"
#include "daemon/monitor.h"

static enum err ask(struct engine *e, struct monitor_request *rq)
{
	struct monitor_reply reply;
	int fd;

	return monitor_ask(e->monitor_fd, rq, &reply, &fd);
}

static enum err assigned(struct engine *e, const struct addr *a, bool add)
{
	struct monitor_request rq = { .op = MONITOR_ASSIGNED, .add = add, .peer = *a };

	return a->family == ADDR_NONE ? OK : ask(e, &rq);
}

static enum err route(struct engine *e, const struct addr_prefix *to, const struct addr *source, bool add)
{
	struct monitor_request rq = { .op = MONITOR_NETWORK_ROUTE, .add = add, .peer = to->base, .bits = to->len };

	if (source)
		rq.source = *source;
	return ask(e, &rq);
}

static void note(enum err *worst, enum err r)
{
	if (*worst == OK)
		*worst = r;
}

/* We have joined it: our addresses there, and what lies behind. */
static enum err ours(struct engine *e, const struct vpn_network *n, bool add)
{
	struct addr self = addr_of(SPAN_OF(e->self), 0);
	enum err r = OK;

	if (add) {
		note(&r, assigned(e, &n->ip4, true));
		note(&r, assigned(e, &n->ip6, true));
	}
	for (unsigned i = 0; i < n->n_prefixes && (r == OK || !add); i++) {
		bool ip4 = n->prefixes[i].base.family == ADDR_IP4;

		note(&r, route(e, &n->prefixes[i], ip4 ? &n->ip4 : n->ip6.family == ADDR_IP6 ? &n->ip6 : &self, add));
	}
	if (!add) {
		note(&r, assigned(e, &n->ip4, false));
		note(&r, assigned(e, &n->ip6, false));
	}
	return r;
}

/* Somebody has joined ours: the way to him. */
static enum err theirs(struct engine *e, const struct vpn_network *n, bool add)
{
	const struct addr *all[] = { &n->ip4, &n->ip6 };
	enum err r = OK;

	for (int i = 0; i < 2; i++) {
		struct addr_prefix to = { .base = *all[i], .len = (uint8_t)(addr_ip_len(all[i]) * 8) };

		if (all[i]->family != ADDR_NONE)
			note(&r, route(e, &to, NULL, add));
	}
	return r;
}

void networks_up(struct engine *e, const struct vpn_want *w)
{
	enum err r = w->ours ? ours(e, &w->network, true) : theirs(e, &w->network, true);

	if (r != OK) {
		log_error(&e->log, "addresses or routes of %s of call %u could not be set: %s", w->name, w->call,
			  r == ERR_WRONG_STATE ? "there is another route to it already" : err_name(r));
		if (w->ours)
			(void)ours(e, &w->network, false);
	}
	if (w->ours)
		vpn_network_ready(e->vpn, loop_now_us(e->loop), w->call, w->grant_id, r == OK);
}

void networks_down(struct engine *e, const struct vpn_want *w)
{
	enum err r = w->ours ? ours(e, &w->network, false) : theirs(e, &w->network, false);

	if (r != OK && r != ERR_NOTFOUND) /* not there: it could not be set */
		log_error(&e->log, "addresses or routes of %s of call %u could not be removed: %s", w->name, w->call,
			  err_name(r));
}

/* ---- forwarding is the administrator's ---- */

static bool is_off(const char *path)
{
	char text = '1';
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, &text, 1) != 1)
		text = '1';
	(void)close(fd);
	return text == '0';
}

static bool has_family(const struct config *cfg, enum addr_family family)
{
	for (unsigned i = 0; i < cfg->n_networks; i++)
		for (unsigned k = 0; k < cfg->networks[i].prefix.n; k++)
			if (cfg->networks[i].prefix.p[k].base.family == family)
				return true;
	return false;
}

void networks_warn(struct engine *e)
{
	const struct config *cfg = vpn_config(e->vpn);

	if (has_family(cfg, ADDR_IP4) && is_off("/proc/sys/net/ipv4/ip_forward"))
		log_warn(&e->log,
			 "this machine does not forward IPv4, so nobody who joins a [network] gets further than "
			 "to it: sysctl -w net.ipv4.ip_forward=1");
	if (has_family(cfg, ADDR_IP6) && is_off("/proc/sys/net/ipv6/conf/all/forwarding"))
		log_warn(&e->log,
			 "this machine does not forward IPv6, so nobody who joins a [network] gets further than "
			 "to it: sysctl -w net.ipv6.conf.all.forwarding=1");
}
