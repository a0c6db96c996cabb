/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/monitor_impl.h - inside the monitor only.
 *   monitor_main.c  its life and the conversation      monitor_net.c  addresses and routes of networks, unreachable routes
 *   monitor_esp.c   ESP in the kernel */
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

/* ESP in the kernel. */
struct esp_pair {
	uint16_t slot;
	bool ours; /* the client is this host */
	uint32_t rule;
	struct addr_prefix server, client;
	uint16_t mtu; /* of the route to the other side */
};
struct esp_known {
	uint32_t spi;
	struct addr to;
	bool inbound;
};
struct esp_kernel {
	uint16_t port;
	char table[16]; /* the name of the TUN, as it was */
	uint32_t last_rule;
	struct esp_pair pairs[MONITOR_ESP_PAIRS];
	struct esp_known sas[MONITOR_ESP_SAS];
	unsigned n_pairs, n_sas;
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
	struct esp_kernel *esp; /* owned; NULL: none in the kernel */
};

bool monitor_has(const struct addr *list, unsigned n, const struct addr *a);
/* Into the TUN; with host = yes behind every route that is there already. */
MUST_CHECK enum err monitor_route(struct monitor *m, const struct addr_prefix *to, const struct addr *source, bool add);
void monitor_route_mtu(struct monitor *m, const struct addr_prefix *to, const struct addr *source, unsigned mtu);
MUST_CHECK enum err monitor_assigned(struct monitor *m, const struct monitor_request *rq);
MUST_CHECK enum err monitor_network(struct monitor *m, const struct monitor_request *rq);
void monitor_networks_recheck(struct monitor *m); /* the configuration is another one: what it does not allow goes */
bool monitor_joined(const struct monitor *m, const struct addr *a); /* is it in a network that we joined? */
/* Unreachable routes; nothing without host = yes. Those that cannot be set are missed by nobody but a bystander. */
void monitor_block(struct monitor *m, const struct addr_prefix *to);
void monitor_block_configured(struct monitor *m); /* what the configuration names, and no more what it does not */
void monitor_clean(struct monitor *m); /* the end: what would stay in the host's namespace */

/* Requests are bytes of a process that may be hostile. */
bool monitor_is_address(const struct addr *a);
bool monitor_is_prefix(const struct addr_prefix *p);

bool monitor_esp_can(const struct config *cfg);
MUST_CHECK enum err monitor_esp_begin(struct monitor *m, uint16_t port);
void monitor_esp_end(struct monitor *m);
bool monitor_esp_carries(const struct monitor *m, const struct addr *a); /* what we and this host of a network say */
void monitor_esp_recheck(struct monitor *m); /* after monitor_networks_recheck(): what may pass no more does not */
MUST_CHECK enum err monitor_esp_policy(struct monitor *m, const struct monitor_esp *rq);
MUST_CHECK enum err monitor_esp_add(struct monitor *m, const struct monitor_esp *rq);
MUST_CHECK enum err monitor_esp_remove(struct monitor *m, const struct monitor_esp *rq);
MUST_CHECK enum err monitor_esp_move(struct monitor *m, const struct monitor_esp *rq);
MUST_CHECK enum err monitor_esp_count(struct monitor *m, const struct monitor_esp *rq, struct monitor_reply *ret);
