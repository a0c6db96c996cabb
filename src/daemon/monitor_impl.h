/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/monitor_impl.h - inside the monitor only.
 *   monitor_main.c  its life and the conversation      monitor_net.c  addresses and routes of networks, unreachable routes */
#pragma once
#include "daemon/monitor.h"
#include "net/tun.h"

struct group {
	int fds[MONITOR_DATA_MAX + 1];
	uint8_t n_data;
	uint16_t port;
	bool made;
};

struct joined {
	struct addr_prefix to;
	struct addr source; /* NONE: somebody who joined a network of ours */
};

/* With host = yes: where packets must not go in clear while no call is up. */
struct blocked {
	struct addr_prefix to;
	bool configured; /* goes when the configuration does not name it any more */
};

struct monitor {
	const struct config *cfg;
	struct config *reloaded; /* owned; cfg is it then */
	int ns_fd; /* -1: not made yet, or the host's own */
	bool tun_made;
	int tun_fds[MONITOR_DATA_MAX]; /* -1: given away */
	uint8_t n_queues, offloads;
	struct group groups[2]; /* IPv4, IPv6 */
	struct addr self[MONITOR_SELF_MAX], routes[MONITOR_ROUTES_MAX], assigned[MONITOR_ASSIGNED_MAX];
	unsigned n_self, n_routes, n_assigned;
	struct joined joined[MONITOR_NETWORKS_MAX];
	unsigned n_joined;
	struct blocked *blocked; /* owned */
	unsigned n_blocked;
};

bool monitor_has(const struct addr *list, unsigned n, const struct addr *a);
/* Into the TUN; with host = yes behind every route that is there already. */
MUST_CHECK enum err monitor_route(struct monitor *m, const struct addr_prefix *to, const struct addr *source, bool add);
MUST_CHECK enum err monitor_assigned(struct monitor *m, const struct monitor_request *rq);
MUST_CHECK enum err monitor_network(struct monitor *m, const struct monitor_request *rq);
void monitor_networks_recheck(struct monitor *m); /* the configuration is another one: what it does not allow goes */
bool monitor_joined(const struct monitor *m, const struct addr *a); /* is it in a network that we joined? */
/* Unreachable routes; nothing without host = yes. Those that cannot be set are missed by nobody but a bystander. */
void monitor_block(struct monitor *m, const struct addr_prefix *to);
void monitor_block_configured(struct monitor *m); /* what the configuration names, and no more what it does not */
void monitor_clean(struct monitor *m); /* the end: what would stay in the host's namespace */
