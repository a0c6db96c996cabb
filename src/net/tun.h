/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/tun.h, netns, netlink - the monitor's side of the kernel: a TUN, a private network namespace,
 * addresses and routes (netlink through libmnl). Needs privileges; used by the monitor alone. */
#pragma once
#include "base/addr.h"

#define TUN_MTU 1280 /* IPv6's minimum: fits every path with ESP in UDP around it */

/* A private namespace with loopback up. The caller stays in its own namespace. */
MUST_CHECK enum err netns_new(int *ret_ns_fd);
/* socket(2), made inside the namespace (ns_fd -1: our own). */
MUST_CHECK enum err netns_socket(int ns_fd, int domain, int type, int protocol, int *ret_fd);
/* A TUN interface (IFF_TUN | IFF_NO_PI), up, MTU set, inside the namespace; non-blocking. */
MUST_CHECK enum err tun_open(int ns_fd, const char *name, unsigned mtu, int *ret_fd);
/* One address, without a network around it. */
MUST_CHECK enum err tun_address(int ns_fd, const char *name, const struct addr *ip, bool add);
/* name NULL: an unreachable route. source, or NULL: what our packets come from. metric 0: instead of one that is there; else
 * beside others, and the lowest counts. Both may be asked for again; ERR_NOTFOUND: no such interface, no route to remove. */
MUST_CHECK enum err tun_route(int ns_fd, const char *name, const struct addr_prefix *to, const struct addr *source,
			      uint32_t metric, bool add);
/* The uid of the local socket that is connected from `from` to `to` (sock_diag, our own namespace); works
 * unprivileged. ERR_NOTFOUND; ERR_DENIED: sockets of different users share this UDP port. */
MUST_CHECK enum err sock_owner(uint8_t protocol, const struct addr *from, const struct addr *to, uint32_t *ret_uid);
/* This host's addresses usable as ICE host candidates: up, not loopback, link-local, multicast or
 * deprecated, nor of the interface `except` (NULL: none); at most cap. Works unprivileged. */
MUST_CHECK enum err local_addresses(const char *except, struct addr *ret, unsigned cap, unsigned *ret_n);
/* A descriptor that becomes readable when addresses or routes change (RTNLGRP). */
MUST_CHECK enum err address_watch_open(int *ret_fd);
void address_watch_drain(int fd);
