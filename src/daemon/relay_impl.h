/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/relay_impl.h - what relay.c, relay_tcp.c and relay_udp.c share. */
#pragma once
#include "base/timers.h"
#include "daemon/monitor.h"
#include "daemon/relay.h"

#define RELAY_ACCEPT_BATCH 16
#define RELAY_REST_MS 100 /* of a listener that cannot accept */
#define RELAY_CONNECT_S 15
#define RELAY_HALF_CLOSED_S 3600 /* a connection of which one half has ended and the other is silent */
#define RELAY_UDP_CHECK_S 1 /* how long the owner of a local UDP socket is taken for granted */
#define RELAY_UDP_PER_ADDRESS 64 /* sessions of one address at one listener */

enum relay_role { RELAY_SERVE, RELAY_FORWARD };

struct relay_session;
struct relay_splice;

struct relay_listener {
	struct relay_listener *next;
	struct relays *r;
	struct loop_fd *watch;
	struct timer rest;
	int fd;
	enum relay_role role;
	uint8_t protocol;
	char service[CFG_NAME_MAX + 1]; /* RELAY_SERVE */
	unsigned call; /* RELAY_FORWARD and what follows */
	uint32_t grant_id, uid;
	bool any_user;
	struct addr local, peer;
	struct relay_session *sessions; /* UDP */
};

struct relays {
	struct relays_config cfg;
	struct relay_stats stats;
	struct relay_listener *listeners;
	struct relay_splice *splices;
	unsigned n_sockets;
	struct log_limit limit;
	uint8_t datagram[65536];
};

/* Is there room for n more sockets, and may this call have them? */
bool relay_room(const struct relays *r, unsigned call, unsigned n);
/* May this local address use the forward? Counts and logs a refusal. */
bool relay_user_ok(struct relay_listener *l, const struct addr *from);
/* The call that a new flow from this address belongs to, 0: none; what is refused is refused here. */
unsigned relay_admit(struct relay_listener *l, const struct addr *from, unsigned n_sockets);
/* The far end's socket for a flow that came in at l, connected or connecting. A failure is counted. */
MUST_CHECK enum err relay_far_end(struct relay_listener *l, int *ret_fd);

/* relay_tcp.c */
void relay_tcp_ready(void *arg, int fd, int events);
void relay_tcp_close(struct relays *r, unsigned call, const uint32_t *grant_id); /* NULL: all grants */
void relay_tcp_close_at(const struct relay_listener *l, unsigned call); /* of connections accepted at l */
unsigned relay_tcp_count(const struct relays *r, unsigned call); /* sockets of the call */
/* relay_udp.c */
void relay_udp_ready(void *arg, int fd, int events);
void relay_udp_close(struct relay_listener *l, unsigned call); /* 0: all calls */
unsigned relay_udp_count(const struct relays *r, unsigned call);
