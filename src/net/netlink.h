/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/netlink.h - one request to the kernel at a time, through libmnl; for the files behind net/tun.h. */
#pragma once
#include <libmnl/libmnl.h>
#include "base/err.h"

#define NETLINK_BUFFER 32768 /* as long as the kernel makes an answer (netlink_dump) */

/* Opens a socket of `family` (NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_XFRM), sends nlh (whose sequence number it sets), hands
 * each answer to each() and ends with the acknowledgement, the end of a dump or, with `single`, the first answer.
 * The kernel's errors: EEXIST ERR_WRONG_STATE, ENOENT ESRCH ENODEV ERR_NOTFOUND, EPERM ERR_DENIED, ENOMEM
 * ERR_NOMEM, others ERR_SYSTEM. What each() returns other than OK ends it and is returned. */
MUST_CHECK enum err netlink_ask(int family, struct nlmsghdr *nlh, bool single,
				enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg);
/* The same as a member of groups (a bit each): what the kernel tells them about the change comes to each(), before the
 * acknowledgement, among what others do meanwhile. */
MUST_CHECK enum err netlink_ask_member(int family, unsigned groups, struct nlmsghdr *nlh,
				       enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg);
/* Many messages in one, of which the last change wants to be acknowledged; the first error, or that. */
MUST_CHECK enum err netlink_ask_batch(int family, const void *messages, size_t len);
/* Up, with this MTU (0: as it is) and no link-local IPv6 address of the kernel's own making. In the namespace of
 * the calling thread. */
MUST_CHECK enum err netlink_link_up(const char *name, unsigned mtu);
