/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/dns.h - host names to addresses without blocking (libevent's resolver). RFC 3263's records take their place here. */
#pragma once
#include "base/addr.h"
#include "net/loop.h"

struct dns;
MUST_CHECK enum err dns_new(struct loop *l, struct dns **ret); /* reads /etc/resolv.conf and /etc/hosts */
void dns_free(struct dns *d); /* no answer comes any more */
/* Addresses of a name (or of an address as text), with this port; n 0: none, *why says so. Answers once, and not from inside
* this call, but for names of /etc/hosts. */
typedef void dns_answer(void *arg, const struct addr *addrs, unsigned n, const char *why);
MUST_CHECK enum err dns_resolve(struct dns *d, const char *host, uint16_t port, dns_answer *answer, void *arg);
