/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/direction.h - who may open flows, where packets pass through the kernel alone (net/xfrm.h): rules of nftables with connection
 * tracking, by netlink through libmnl. Needs CAP_NET_ADMIN; for the monitor. ns_fd as in net/tun.h.
 *
 * Selectors of XFRM know no direction. Here, from the servers to the clients goes what belongs to a flow that a client has opened, or is
 * ICMP about one; all else is dropped, whether it comes from outside or from this host. What clients send is not looked at. Neighbour
 * discovery between the two is dropped as well: a tunnel has none. A
 * `table` is a daemon's own, of the family inet. */
#pragma once
#include "base/addr.h"

#define DIRECTION_SERVERS_MAX 8
#define DIRECTION_CLIENTS_MAX 2

struct direction {
	const char *table; /* up to 20 letters and digits */
	uint32_t id; /* of the grant, say; in place of what there is of this id */
	struct addr_prefix servers[DIRECTION_SERVERS_MAX], clients[DIRECTION_CLIENTS_MAX];
	unsigned n_servers, n_clients;
};
/* All of it or, on error, nothing. ERR_MALFORMED: no pair of one family. */
MUST_CHECK enum err direction_set(int ns_fd, const struct direction *d);
MUST_CHECK enum err direction_remove(int ns_fd, const char *table, uint32_t id); /* ERR_NOTFOUND */
MUST_CHECK enum err direction_flush(int ns_fd, const char *table); /* all of the table; ERR_NOTFOUND */
/* Tries it in a namespace of its own. What is not OK: this kernel cannot. */
MUST_CHECK enum err direction_available(void);
