/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/vnet.h - packets through a TUN that net/tun.h opened: each has a header for offloads before it, and may be a
 * super-packet, which stands for many. Nothing here cuts, merges or finishes a checksum (esp/segment.h, esp/merge.h). */
#pragma once
#include <stdbool.h>
#include "base/buf.h"

#define VNET_HEADER 10 /* the kernel's virtio_net_hdr before a packet */
#define VNET_PACKET_MAX 65536 /* room for a packet to read: one byte more than the longest, which tells a cut one */
#define VNET_SLICES_MAX 64

enum {
	/* flags */
	VNET_NEEDS_CSUM = 1, /* the checksum field holds the sum of the pseudo-header; the rest is to be added */
	VNET_DATA_VALID = 2, /* the checksum was found right */
	/* gso_type */
	VNET_GSO_NONE = 0,
	VNET_GSO_TCPV4 = 1,
	VNET_GSO_TCPV6 = 4,
	VNET_GSO_UDP_L4 = 5,
	VNET_GSO_ECN = 0x80 /* with TCP: CWR is set, and is the first segment's alone */
};

/* The kernel's virtio_net_hdr, in host order. All zero: a packet that is what it is. */
struct vnet {
	uint8_t flags, gso_type;
	uint16_t hdr_len; /* IP and upper layer's headers; a hint */
	uint16_t gso_size; /* payload of each segment but the last */
	uint16_t csum_start, csum_offset; /* from the packet's beginning; from csum_start */
};

/* One packet; its length, or 0: nothing is there. A packet that does not leave a byte of cap free may have been cut
 * off and is passed over. */
size_t vnet_read(int fd, uint8_t *buf, size_t cap, struct vnet *ret);
/* One packet (a super-packet with a gso_type) made of 1 to VNET_SLICES_MAX slices. ERR_LIMIT: no room, come again or drop
 * it. ERR_SYSTEM: the kernel does not take such a packet, or the interface is down. */
MUST_CHECK enum err vnet_write(int fd, const struct vnet *v, const struct span *slices, unsigned n);
