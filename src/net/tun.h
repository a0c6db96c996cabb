/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/tun.h, netns, netlink - the monitor's side of the kernel: a TUN, a private network namespace,
 * addresses and routes (netlink through libmnl). Needs privileges; used by the monitor alone. */
#pragma once
#include "base/addr.h"

/* Fits into 1500 bytes with ESP in UDP over IPv4 or IPv6 around it, and mostly into what PPPoE leaves of them. What a path does
 * not carry is cut or refused behind the TUN (esp/plane.h). */
#define TUN_MTU 1400
/* What a queue holds for a reader that waits for a CPU, in packets, each of which may be a super-packet: half of what the kernel
 * would let it hold (32 MiB, and as much for a ping to wait behind). It is no shorter because small datagrams count as much: a busy
 * machine lets the reader wait for milliseconds, in which 64 places lose some of 60,000 datagrams a second. */
#define TUN_QUEUE_LEN 256

/* A private namespace with loopback up. The caller stays in its own namespace. */
MUST_CHECK enum err netns_new(int *ret_ns_fd);
/* socket(2), made inside the namespace (ns_fd -1: our own). */
MUST_CHECK enum err netns_socket(int ns_fd, int domain, int type, int protocol, int *ret_fd);
/* What the kernel may leave undone in packets that are read (net/vnet.h), each with those before it. Packets that are written
 * may be of any kind that the kernel knows: of TCP always, trains of datagrams where TUN_OFFLOAD_USO is on. */
enum tun_offload {
	TUN_OFFLOAD_CSUM = 1, /* checksums */
	TUN_OFFLOAD_TSO = 2, /* TCP comes in super-packets, of both families */
	TUN_OFFLOAD_ECN = 4, /* those with CWR as well */
	TUN_OFFLOAD_USO = 8, /* and UDP, where a program sends trains; Linux 6.2 */
	TUN_OFFLOAD_ALL = 15
};
#define TUN_QUEUES_MAX 16
struct tun_config {
	const char *name;
	unsigned mtu;
	unsigned
		n_queues; /* 1 to TUN_QUEUES_MAX. What a queue writes of a flow makes it the one that reads the answers. */
	unsigned offloads; /* wanted; 0: every packet comes whole */
};
/* A TUN interface of our own, up, inside the namespace: a descriptor for each queue, non-blocking, to be used by
 * vnet_read() and vnet_write(). ret_offloads: what of the wanted is on, which is less where the kernel is older.
 * ERR_WRONG_STATE: there is such an interface. On error no descriptor is left. */
MUST_CHECK enum err tun_open(int ns_fd, const struct tun_config *cfg, int *fds, unsigned *ret_offloads);
/* One address, without a network around it. */
MUST_CHECK enum err tun_address(int ns_fd, const char *name, const struct addr *ip, bool add);
/* name NULL: an unreachable route. source, or NULL: what our packets come from. metric 0: instead of one that is there; else
 * beside others, and the lowest counts. Both may be asked for again; ERR_NOTFOUND: no such interface, no route to remove. */
MUST_CHECK enum err tun_route(int ns_fd, const char *name, const struct addr_prefix *to, const struct addr *source,
			      uint32_t metric, bool add);
/* How long packets that take such a route, which is there, may be; 0: as long as the interface says. */
MUST_CHECK enum err tun_route_mtu(int ns_fd, const char *name, const struct addr_prefix *to, const struct addr *source,
				  uint32_t metric, unsigned mtu);
/* The uid of the local socket that is connected from `from` to `to` (sock_diag, our own namespace); works
 * unprivileged. ERR_NOTFOUND; ERR_DENIED: sockets of different users share this UDP port. */
MUST_CHECK enum err sock_owner(uint8_t protocol, const struct addr *from, const struct addr *to, uint32_t *ret_uid);
/* How long IP packets from an address of ours to another one may be, as far as this host knows: its interface, routes, ICMP. Our own
 * namespace; works unprivileged. ERR_NOTFOUND: no way there, or no such address here. */
MUST_CHECK enum err path_mtu(const struct addr *from, const struct addr *to, unsigned *ret_mtu);
/* This host's addresses usable as ICE host candidates: up, not loopback, link-local, multicast or
 * deprecated, nor of the interface `except` (NULL: none); at most cap. Works unprivileged. */
MUST_CHECK enum err local_addresses(const char *except, struct addr *ret, unsigned cap, unsigned *ret_n);
/* A descriptor that becomes readable when addresses or routes change (RTNLGRP). */
MUST_CHECK enum err address_watch_open(int *ret_fd);
void address_watch_drain(int fd);
