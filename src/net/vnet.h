/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/vnet.h - packets through a TUN that net/tun.h opened: each has a header for offloads before it, and may be a
 * super-packet, which stands for many. Nothing here cuts, merges or finishes a checksum (esp/segment.h, esp/merge.h). */
#pragma once
#include <stdbool.h>
#include "base/buf.h"
#include "base/vnet.h"

#define VNET_HEADER 10 /* the kernel's virtio_net_hdr before a packet */
#define VNET_PACKET_MAX 65536 /* room for a packet to read: one byte more than the longest, which tells a cut one */
#define VNET_SLICES_MAX 64

/* One packet; its length, or 0: nothing is there. A packet that does not leave a byte of cap free may have been cut
 * off and is passed over. */
size_t vnet_read(int fd, uint8_t *buf, size_t cap, struct vnet *ret);
/* One packet (a super-packet with a gso_type) made of 1 to VNET_SLICES_MAX slices. ERR_LIMIT: no room, come again or drop
 * it. ERR_SYSTEM: the kernel does not take such a packet, or the interface is down. */
MUST_CHECK enum err vnet_write(int fd, const struct vnet *v, const struct span *slices, unsigned n);
