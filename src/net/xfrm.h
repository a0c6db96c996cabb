/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/xfrm.h - ESP in the kernel (XFRM, by netlink through libmnl): SAs in tunnel mode, policies, counters. Needs CAP_NET_ADMIN;
 * for the monitor. ns_fd as in net/tun.h: -1 is our own namespace. Nothing here checks who may have what.
 *
 * A policy says what goes through which SAs, the two are tied by a number (reqid). What has no SA is dropped by the kernel, in
 * both directions. Make blocking policies first, then SAs, then let policies pass. All of a daemon's have reqids of one range,
 * by which leftovers are found. */
#pragma once
#include "base/addr.h"

#define XFRM_REPLAY_WINDOW 1024
#define XFRM_KEY_MAX 36

enum xfrm_aead { XFRM_AES128_GCM, XFRM_AES256_GCM, XFRM_CHACHA20_POLY1305, XFRM_N_AEADS }; /* RFC 4106, RFC 7634 */
size_t xfrm_key_size(enum xfrm_aead aead); /* key and salt, as KEYMAT has them; 0: none of these */

/* Makes an SA in a namespace of its own and removes it. ERR_UNSUPPORTED: this kernel has no such ESP, or no XFRM. */
MUST_CHECK enum err xfrm_available(enum addr_family outer, enum xfrm_aead aead);

struct xfrm_sa {
	uint32_t spi;
	struct addr from, to; /* outer addresses; with ports: in UDP (RFC 3948). Without both: plain */
	uint32_t reqid;
	enum xfrm_aead aead;
	uint8_t key[XFRM_KEY_MAX];
	bool esn; /* 64-bit sequence numbers (RFC 4303, 2.2.1) */
	bool copy_dscp; /* to the outer packet; the inner one's is never changed. ECN follows RFC 6040 as far as the kernel does */
	uint64_t soft_bytes, soft_packets, hard_bytes, hard_packets; /* 0: no limit. After hard ones it is gone. */
};
/* IPv4 and IPv6 inside, whatever is outside, where packets have no DF over IPv4: an inner IPv6 packet cannot be cut, so that around it may
 * be (RFC 4301, 8.1). Over IPv6 the kernel cuts what it knows to be too long. ERR_WRONG_STATE: there is one with this SPI and `to`; ERR_UNSUPPORTED: see
 * xfrm_available; ERR_MALFORMED: SPI under 256, no reqid, addresses of two families, one port alone. */
MUST_CHECK enum err xfrm_sa_add(int ns_fd, const struct xfrm_sa *sa);
MUST_CHECK enum err xfrm_sa_remove(int ns_fd, uint32_t spi, const struct addr *to);
/* The same SA between other addresses, with its sequence numbers, replay window, keys and used-up bytes as they are: it is
 * removed, and made anew from the last state that the kernel tells of it, so that no number is used twice; what comes in
 * between is dropped. `from` and `to` with ports as in xfrm_sa_add. On failure it may be gone. The counters of drops begin anew. */
MUST_CHECK enum err xfrm_sa_move(int ns_fd, uint32_t spi, const struct addr *old_to, const struct addr *from,
				 const struct addr *to);
struct xfrm_counters {
	uint64_t packets, bytes; /* towards the limits */
	uint64_t sequence; /* last one sent, or highest received */
	uint32_t replayed, outside_window, not_authentic; /* dropped */
};
MUST_CHECK enum err xfrm_sa_counters(int ns_fd, uint32_t spi, const struct addr *to, struct xfrm_counters *ret);

enum xfrm_way {
	XFRM_WAY_IN,
	XFRM_WAY_OUT,
	XFRM_WAY_FORWARD,
	XFRM_N_WAYS
}; /* forward: decrypted, and not for this host */
struct xfrm_policy {
	enum xfrm_way way;
	struct addr_prefix from, to; /* of inner packets, one family */
	uint32_t reqid; /* also its place: lower ones first */
	bool block;
	struct addr outer_from, outer_to; /* where not block; of other ways than OUT only the family counts */
};
/* In place of one with the same way and prefixes, without a moment between. */
MUST_CHECK enum err xfrm_policy_set(int ns_fd, const struct xfrm_policy *p);
MUST_CHECK enum err xfrm_policy_remove(int ns_fd, enum xfrm_way way, const struct addr_prefix *from,
				       const struct addr_prefix *to);

/* Removes all policies and SAs of these reqids, policies last. Nobody else's. */
MUST_CHECK enum err xfrm_flush(int ns_fd, uint32_t first, uint32_t last);
