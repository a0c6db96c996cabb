/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/monitor.h - the small privileged process and its client (DESIGN 3.2). The engine asks over a
 * SOCK_SEQPACKET pair, one fixed-size request at a time, answered at once with an error and at most one
 * descriptor. Requests are few, typed and bounded; the monitor checks each against the configuration that
 * it read itself. It never parses a foreign byte, never takes an address, port or path as text. */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include "base/addr.h"
#include "crypto/cert.h"
#include "vpn/config.h"

enum monitor_op {
	MONITOR_BIND_GROUP,       /* family: the tunnel port's sockets, n_data + 1 of them, one descriptor a reply (index) */
	MONITOR_TUN,              /* the TUN's descriptor */
	MONITOR_SELF_ADDRESS,     /* our inner address: must be the hash of the key in spki */
	MONITOR_PEER_ROUTE,       /* add or remove a peer's route: hash of spki, or an [peer] address = of the configuration */
	MONITOR_LISTEN,           /* a socket in the namespace on our own inner address, for a configured service */
	MONITOR_CONNECT,          /* a TCP or UDP socket in the namespace, connecting to a routed peer (non-blocking) */
	MONITOR_SERVICE           /* a TCP or UDP socket outside, connecting to a configured service's target */
};
struct monitor_request {
	uint32_t op;
	uint8_t family;           /* 4, 6 */
	uint8_t protocol;         /* 6, 17 */
	uint8_t add;
	uint8_t index;
	uint16_t port;
	uint16_t spki_len;
	struct addr peer;
	char service[CFG_NAME_MAX + 1];
	uint8_t spki[600];
};
struct monitor_reply { uint32_t err; uint16_t port; };

/* Starts the monitor in a child process (before the engine drops its privileges): forks; the child never
 * returns. *ret_fd is the engine's end; when it is closed the monitor ends, and with it the namespace.
 * The child keeps cfg. */
MUST_CHECK enum err monitor_start(const struct config *cfg, int *ret_fd, pid_t *ret_pid);
/* Engine: one request; ret_fd -1 when the answer carries none. Blocks (the monitor answers in microseconds). */
MUST_CHECK enum err monitor_ask(int fd, const struct monitor_request *rq, struct monitor_reply *ret, int *ret_fd);
