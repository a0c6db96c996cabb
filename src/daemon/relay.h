/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/relay.h - sockets spliced together: a peer's connection inside the namespace to a service outside,
 * and a local user's connection outside to a peer's service inside. TCP with half-close and back-pressure
 * (bounded buffers), UDP with an idle time-out. Everything of a call ends with relay_call_close(). */
#pragma once
#include "base/addr.h"
#include "base/log.h"
#include "net/loop.h"
#include "vpn/config.h"

#define RELAY_BUFFER 65536 /* a direction */
#define RELAY_UDP_IDLE_S 60

struct monitor_request;
struct relays;
struct relays_config {
	struct loop *loop;
	struct log log;
	int monitor_fd;
	unsigned max_sockets; /* all of them; one call may have half of these */
	/* Which call is this inner peer address in (0: none: the connection is closed)? */
	unsigned (*call_of_peer)(void *arg, const struct addr *peer);
	/* How sockets inside, and those of services, are made. NULL: asks the monitor at monitor_fd. */
	enum err (*open_socket)(void *arg, const struct monitor_request *rq, int *ret_fd);
	void *arg;
};
MUST_CHECK enum err relays_new(const struct relays_config *cfg, struct relays **ret);
void relays_free(struct relays *r);
/* Callee: listens on our inner address for a configured service (asks the monitor), for all peers: what a
 * peer may reach is decided by the SPD, packet by packet. */
MUST_CHECK enum err relays_serve(struct relays *r, const struct addr *self, const struct cfg_service *svc);
/* Caller: a listener on 127.0.0.1 (wished port, 0 any) whose connections are made inside to peer:port. Only
 * connections of uid are accepted (looked up by sock_diag) unless any_user. */
MUST_CHECK enum err relays_forward(struct relays *r, unsigned call, uint32_t grant_id, uint8_t protocol,
				   const struct addr *peer, uint16_t local_port, uint32_t uid, bool any_user,
				   struct addr *ret_local);
void relays_forward_close(struct relays *r, unsigned call, uint32_t grant_id);
/* Callee: what the call has open at one service, which was taken back. */
void relays_service_close(struct relays *r, unsigned call, const char *service);
/* Every forward and every spliced socket of the call, both roles, at once (RST for TCP). */
void relays_call_close(struct relays *r, unsigned call);
struct relay_stats {
	uint64_t n_open, n_total, n_refused_user, n_refused_target;
};
const struct relay_stats *relays_stats(const struct relays *r);
