/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/inner.h - what the data plane must know of an inner IP packet to decide about it: bounded, pure.
 *
 * Refused, because nobody could decide about them: source routes and routing headers with segments left (the address
 * that the selectors saw is not where the packet ends), IPv4 with the reserved flag, more than ESP_EXT_MAX extension
 * headers, ICMP of the other IP version, an ICMP error in fragments. A fragment other than the first carries no ports
 * (RFC 4301, 7): what it may do is esp/frags.h's. A first one must hold the whole header of its protocol. */
#pragma once
#include <stdbool.h>
#include <string.h>
#include "base/addr.h"

#define ESP_EXT_MAX 8 /* IPv6 extension headers (our choice) */

enum esp_proto {
	ESP_PROTO_ICMP = 1,
	ESP_PROTO_TCP = 6,
	ESP_PROTO_UDP = 17,
	ESP_PROTO_DCCP = 33,
	ESP_PROTO_ICMP6 = 58,
	ESP_PROTO_SCTP = 132,
	ESP_PROTO_UDPLITE = 136
};
enum esp_tcp { ESP_TCP_FIN = 1, ESP_TCP_SYN = 2, ESP_TCP_RST = 4, ESP_TCP_ACK = 16 };

/* Both ends as they are in a packet. */
struct esp_ends {
	enum addr_family family;
	uint8_t protocol; /* the upper layer's */
	uint8_t src[16], dst[16]; /* IPv4 in the first four, the rest zero */
	uint16_t src_port, dst_port; /* 0 for protocols without ports */
};

enum esp_icmp {
	ESP_ICMP_NONE, /* no ICMP at all */
	ESP_ICMP_ECHO, /* request or reply */
	ESP_ICMP_ERROR, /* unreachable, too big, time exceeded, parameter problem */
	ESP_ICMP_OTHER
};

enum esp_fragment {
	ESP_WHOLE, /* an IPv6 packet with an atomic fragment's header as well (RFC 6946) */
	ESP_FIRST, /* more follow */
	ESP_LATER /* no ports, and of IPv6 `protocol` is the first header of the fragmented part */
};

struct esp_inner {
	struct esp_ends ends;
	size_t len; /* of the packet, by its own header */
	uint8_t tcp_flags; /* enum esp_tcp; 0 for other protocols */
	uint8_t dscp, ecn; /* the six bits, the two bits */
	enum esp_fragment fragment;
	bool dont_fragment; /* IPv4's flag; true of IPv6 */
	bool more; /* fragments follow */
	uint32_t id; /* of a fragment */
	uint16_t offset; /* of a fragment: where in the datagram its data begin */
	/* Places in the packet: the upper layer's header, or a later fragment's data; IPv6: the Fragment header, 0: none; where
	 * one would stand, and the next-header byte that would name it (RFC 8200, 4.5). */
	uint16_t upper, fragment_at, cut_at, cut_next;
	enum esp_icmp icmp;
	uint8_t icmp_type, icmp_code;
	uint16_t icmp_id; /* of an echo */
	struct esp_ends about; /* ESP_ICMP_ERROR: the packet inside, as it was sent */
};

/* The packet may be followed by other bytes (TFC padding, RFC 4303, 2.7). ERR_MALFORMED: lengths or version are
 * wrong. ERR_UNSUPPORTED: refused as above. */
MUST_CHECK enum err esp_inner_parse(struct span packet, struct esp_inner *ret);

/* The same, without its short way for whole TCP and UDP packets that have neither options nor extension headers: what tests hold
 * that one against. */
MUST_CHECK enum err esp_inner_parse_any(struct span packet, struct esp_inner *ret);

bool esp_proto_has_ports(uint8_t protocol);

/* Two addresses of esp_ends. */
static inline bool esp_ip_eq(const uint8_t a[16], const uint8_t b[16])
{
	uint64_t x[2], y[2];

	memcpy(x, a, 16);
	memcpy(y, b, 16);
	return !((x[0] ^ y[0]) | (x[1] ^ y[1]));
}

/* Changes the two bits in a packet that esp_inner_parse accepted. */
void esp_inner_set_ecn(uint8_t *packet, uint8_t ecn);
