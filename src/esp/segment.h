/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/segment.h - cuts what a TUN hands over with a header for offloads into packets as they would have come without:
 * TCP segments, UDP datagrams, or one packet whose checksum is to be finished. Pure.
 *
 * Of a TCP super-packet, IPv4's identification and the sequence number count on, FIN and PSH are the last segment's
 * and CWR is the first's (RFC 3168, 6.1.2: once per reduction of the window); everything else, ECN marks and options
 * included, is in every segment. UDP datagrams count the identification on. esp/merge.h is the reverse. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/vnet.h"

/* Our choice: 64 KiB in segments of 8 bytes, the least that a TCP of Linux ever sends by. Such are larger, with their
 * headers, than the super-packet: who asks for segments does it by as many as there is room for. */
#define ESP_SEGMENTS_MAX 8192

#define ESP_SUPER_MAX (40 + 65535) /* the longest packet without a jumbo payload option (RFC 8200, 3) */

struct esp_super {
	struct span packet; /* borrowed */
	unsigned n; /* segments, 1 or more */
	size_t len, len_last; /* of each but the last; of the last */
	/* the module's own */
	uint8_t kind, tcp_flags;
	bool v6;
	uint16_t l3, head; /* where the upper layer, and the payload, begin */
	uint16_t part, id, csum_start, csum_offset;
	uint32_t seq, ip_sum, l4_sum; /* sums of what is equal in all segments */
};

/* Checks every length, but decides nothing: esp/inner.h parses the packet for policy. ERR_MALFORMED: the header does
 * not go with the packet. ERR_UNSUPPORTED: a type or an IPv6 header that cannot be cut. ERR_LIMIT: more than
 * ESP_SEGMENTS_MAX. */
MUST_CHECK enum err esp_super_parse(struct span packet, const struct vnet *v, struct esp_super *ret);

/* Writes segment i, whole and with right checksums, to dst, which does not overlap the packet; returns its length, or
 * 0 if there is no such segment or it does not fit into cap. */
size_t esp_super_segment(const struct esp_super *s, unsigned i, uint8_t *dst, size_t cap);
