/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/vnet.h - what stands before a packet in a TUN that is opened with a header for offloads: the content of Linux's
 * virtio_net_hdr in host order. Whoever does the I/O translates; the values are the kernel's. */
#pragma once
#include <stdint.h>

enum {
	/* flags */
	VNET_NEEDS_CSUM = 1, /* the checksum field holds the sum of the pseudo-header; the rest is to be added */
	VNET_DATA_VALID = 2, /* the checksum was found right */
	/* gso_type */
	VNET_GSO_NONE = 0,
	VNET_GSO_TCPV4 = 1,
	VNET_GSO_UDP = 3, /* a datagram to be made IP fragments of: not offered, refused */
	VNET_GSO_TCPV6 = 4,
	VNET_GSO_UDP_L4 = 5, /* a train of datagrams of equal size */
	VNET_GSO_ECN = 0x80 /* with TCP: CWR is set, and is the first segment's alone */
};

struct vnet {
	uint8_t flags, gso_type;
	uint16_t hdr_len; /* IP and upper layer's headers; a hint */
	uint16_t gso_size; /* payload of each segment but the last */
	uint16_t csum_start, csum_offset; /* from the packet's beginning; from csum_start */
};
