/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/frags.h - stateful fragment checking (RFC 4301, 7.4): what a datagram's first fragment was allowed, its later ones are,
 * which carry no ports. Internal to esp/.
 *
 * A later fragment passes when the first one has, when it lies behind it, and when it overlaps nothing that passed (RFC 5722,
 * RFC 1858): so the ports that were judged are the ones that the receiver will see. All memory is taken by
 * esp_frags_new. */
#pragma once
#include "base/timers.h"
#include "esp/inner.h"

#define ESP_FRAGS_MAX 64 /* datagrams of which fragments are awaited */
#define ESP_FRAGS_OWNER 16 /* of one call */
#define ESP_FRAG_US SECONDS(10) /* ours; who puts them together waits longer (RFC 8200, 4.5: 60 s) */

struct esp_frags;
MUST_CHECK enum err esp_frags_new(struct esp_frags **ret);
void esp_frags_free(struct esp_frags *f);

/* Whose datagram it is, and which SA its first fragment went by. */
struct esp_frag_owner {
	uint32_t owner, grant, spi;
};
/* A first fragment that passed; it begins the datagram anew. */
void esp_frags_first(struct esp_frags *f, uint64_t now_us, bool inbound, const struct esp_inner *p,
		     const struct esp_frag_owner *o);
/* A first fragment of this owner's that did not. */
void esp_frags_forget(struct esp_frags *f, bool inbound, const struct esp_inner *p, uint32_t owner);
/* What is known of a later fragment's datagram; false: nothing. */
bool esp_frags_find(const struct esp_frags *f, uint64_t now_us, bool inbound, const struct esp_inner *p,
		    struct esp_frag_owner *ret);
/* After esp_frags_find, and whatever else there was to check. False: it overlaps. */
bool esp_frags_later(struct esp_frags *f, bool inbound, const struct esp_inner *p);
/* Are they of one datagram, by their headers? */
bool esp_frags_same(const struct esp_inner *a, const struct esp_inner *b);
/* Of a call that ends. */
void esp_frags_owner_gone(struct esp_frags *f, uint32_t owner);
