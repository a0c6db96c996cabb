/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/monitor.h - the small privileged process and its client (docs/architecture.md). The engine asks over a
 * SOCK_SEQPACKET pair, one fixed-size request at a time, answered at once with an error and at most one
 * descriptor. Requests are few, typed and bounded; the monitor checks each against the configuration that
 * it read itself. It never parses a foreign byte, never takes an address, port or path as text. */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include "base/addr.h"
#include "crypto/cert.h"
#include "esp/kernel.h"
#include "vpn/config.h"

enum monitor_op {
	MONITOR_BIND_GROUP =
		1, /* family: the tunnel port's sockets, n_data + 1 of them, one descriptor a reply: index 0
				   * opens the group (once a family) on the configured port or, if that is 0, the other
				   * family's; the reply has the port. `add`: the last one is given to the
				   * kernel's ESP, with host = yes; ERR_UNSUPPORTED: it has none, or no rules for directions */
	MONITOR_RAW_ESP, /* family: a raw socket for ESP without UDP, if some [peer] has udp-encap = no */
	MONITOR_TUN, /* the TUN's n_data queues, one descriptor a reply: index 0 makes it, with what of `offloads` the kernel
		      * has; the reply says which */
	MONITOR_SELF_ADDRESS, /* our inner address: the hash of the key in spki; one for each of our keys */
	MONITOR_PEER_ROUTE, /* add or remove a peer's route: hash of spki, or (spki_len 0) an [peer] address = of the
				   * configuration */
	MONITOR_LISTEN, /* a socket in the namespace on our own inner address `peer`, for a configured service */
	MONITOR_CONNECT, /* a TCP or UDP socket in the namespace, connecting to a routed peer's port (non-blocking) */
	MONITOR_SERVICE, /* a TCP or UDP socket outside, connecting to a configured service's target */
	MONITOR_ASSIGNED, /* add or remove an address that a peer assigned to us. With host = yes one that an accept-prefix lists */
	MONITOR_NETWORK_ROUTE, /* add or remove a route of `peer`/`bits` into the TUN, from `source`, one of ours: a network that we
				* joined, with host = yes one that an accept-prefix lists; or (of one address, without source)
				* somebody who joined ours, from a pool of the configuration */
	/* ESP in the kernel (net/xfrm.h), with `esp`, where MONITOR_BIND_GROUP with `add` has given it a socket: */
	MONITOR_ESP_POLICY, /* what passes between a network, which we joined or grant, and the one who joined it; and that he alone
			     * opens flows */
	MONITOR_ESP_ADD, /* an SA for what passes: in UDP, from or to the tunnel port; ours has an SPI that leads to the socket */
	MONITOR_ESP_REMOVE,
	MONITOR_ESP_MOVE, /* to new_own and new_peer, as it is; on failure it is gone */
	MONITOR_ESP_COUNT, /* the reply has its counters; ERR_NOTFOUND: also when a limit has ended it */
	MONITOR_RELOAD /* the configuration file, opened anew, for the engine to read; `add`: taken over here as well */
};
struct monitor_esp {
	uint16_t slot; /* ties SAs and what passes, the engine's choice; not 0 */
	uint8_t action; /* POLICY: of enum esp_kernel_act, up to PASS */
	uint16_t mtu; /* POLICY: of an inner packet; 0: not limited */
	uint8_t inbound, aead, esn, copy_dscp; /* SAs; aead: of enum xfrm_aead (net/xfrm.h) */
	uint32_t spi;
	struct addr own, peer, new_own, new_peer; /* outer addresses with ports */
	struct addr_prefix server, client; /* POLICY: the network, and one address */
	uint64_t hard_packets, hard_bytes;
	uint8_t key[36];
};
struct monitor_request {
	uint32_t op;
	uint8_t family; /* 4, 6 */
	uint8_t protocol; /* 6, 17 */
	uint8_t add;
	uint8_t index;
	uint8_t bits;
	uint8_t n_data; /* MONITOR_BIND_GROUP, MONITOR_TUN: at most MONITOR_DATA_MAX */
	uint8_t offloads; /* MONITOR_TUN: of enum tun_offload (net/tun.h) */
	uint16_t port;
	uint16_t spki_len;
	struct addr peer, source;
	char service[CFG_NAME_MAX + 1];
	uint8_t spki[600];
	struct monitor_esp esp;
};
#define MONITOR_DATA_MAX 16
#define MONITOR_SELF_MAX CFG_ACCOUNTS_MAX
#define MONITOR_ROUTES_MAX (2 * CFG_PEERS_MAX)
#define MONITOR_ASSIGNED_MAX 64
#define MONITOR_NETWORKS_MAX 512
#define MONITOR_ESP_PAIRS 512
#define MONITOR_ESP_SAS 2048
/* err: ERR_DENIED: not by the configuration. ERR_WRONG_STATE: asked for already, or the port is in use.
 * ERR_NOTFOUND: nobody listens at the target, no route. */
struct monitor_reply {
	uint32_t err;
	uint16_t port;
	uint8_t offloads;
	/* MONITOR_ESP_COUNT */
	uint64_t packets, bytes;
	uint32_t replayed, not_authentic;
};

/* Starts the monitor in a child process (before the engine drops its privileges): forks; the child never
 * returns. *ret_fd is the engine's end; when it is closed the monitor ends, and with it the namespace, or with host = yes
 * what it set in the host's. The child keeps cfg. It dies with the thread that calls this, SIGKILL included. */
MUST_CHECK enum err monitor_start(const struct config *cfg, int *ret_fd, pid_t *ret_pid);
/* The monitor's own life, in the child; returns when the engine's end is closed. */
void monitor_serve(const struct config *cfg, int fd);
/* Engine: one request. Returns the reply's error, or ERR_SYSTEM when the monitor is gone or answers out of form;
 * *ret_fd is -1 when the answer carries none. Blocks (the monitor answers in microseconds; a service on this
 * machine that does not answer takes it 2 ms). */
MUST_CHECK enum err monitor_ask(int fd, const struct monitor_request *rq, struct monitor_reply *ret, int *ret_fd);
