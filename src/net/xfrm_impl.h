/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/xfrm_impl.h - what xfrm.c and xfrm_policy.c share. */
#pragma once
#include <netinet/in.h>
#include <linux/xfrm.h>

#include "net/netlink.h"
#include "net/xfrm.h"

#define XFRM_MESSAGE 1024 /* longer than any request of ours */
struct xfrm_buffer {
	_Alignas(uint64_t) char bytes[XFRM_MESSAGE];
};

uint16_t xfrm_family(enum addr_family f); /* AF_INET, AF_INET6 */
xfrm_address_t xfrm_address(const struct addr *a);
struct nlmsghdr *xfrm_request(void *buffer, uint16_t type, uint16_t flags);
/* A copy of an answer's payload, which stands on four bytes where the structure may want eight. False: it is not there in full. */
MUST_CHECK bool xfrm_payload(const struct nlmsghdr *nlh, void *ret, size_t size);
void xfrm_no_limits(struct xfrm_lifetime_cfg *l);
