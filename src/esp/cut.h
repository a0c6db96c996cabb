/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/cut.h - inner packets that do not fit into what the path carries: cut (RFC 791, 3.2; RFC 8200, 4.5), said to their
 * sender (RFC 792, RFC 4443), or avoided (the MSS of TCP). Pure functions. Internal to esp/. */
#pragma once
#include "esp/inner.h"

#define ESP_PIECES_MAX 2 /* no packet of ours is longer than two of what the least path carries */

struct esp_cut {
	const uint8_t *packet;
	const struct esp_inner *p;
	size_t head, data,
		len; /* headers that each piece has, without a Fragment header; where the data begin, and how many */
	size_t each, at; /* data of a piece, and what is done */
	uint32_t id;
};
/* Each piece is at most max long. id: IPv6's, of a packet that is no fragment yet. ERR_LIMIT: it takes more than
 * ESP_PIECES_MAX. */
MUST_CHECK enum err esp_cut_begin(struct esp_cut *c, const uint8_t *packet, const struct esp_inner *p, size_t max,
				  uint32_t id);
/* The next piece into out, which holds max; false: there are no more. */
bool esp_cut_next(struct esp_cut *c, uint8_t *out, size_t *ret_len);

#define ESP_TOLD_MAX 1280 /* RFC 4443, 3.2: as much of the packet as fits into IPv6's least MTU */
/* Packet Too Big, or Fragmentation Needed, to the packet's sender. from: an IPv6 address of ours; an IPv4 host refuses what
 * comes from its own address, so there it is the packet's destination that speaks. False: none may be sent (RFC 4443, 2.4;
 * RFC 1122, 3.2.2). */
bool esp_too_big_write(const uint8_t *packet, const struct esp_inner *p, unsigned mtu, const uint8_t from[16],
		       uint8_t out[ESP_TOLD_MAX], size_t *ret_len);

/* Lowers the MSS option of a SYN so that segments of it fit into inner packets of max; never raises it. */
void esp_mss_clamp(uint8_t *packet, const struct esp_inner *p, size_t max);
