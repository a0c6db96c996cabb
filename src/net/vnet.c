/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/vnet.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <sys/uio.h>

#define READ_TRIES 4

_Static_assert(sizeof(struct virtio_net_hdr) == VNET_HEADER, "what TUNSETVNETHDRSZ was told");
_Static_assert(VNET_GSO_TCPV4 == VIRTIO_NET_HDR_GSO_TCPV4 && VNET_GSO_TCPV6 == VIRTIO_NET_HDR_GSO_TCPV6 &&
		       VNET_GSO_ECN == VIRTIO_NET_HDR_GSO_ECN && VNET_NEEDS_CSUM == VIRTIO_NET_HDR_F_NEEDS_CSUM &&
		       VNET_DATA_VALID == VIRTIO_NET_HDR_F_DATA_VALID,
	       "the kernel's values");

size_t vnet_read(int fd, uint8_t *buf, size_t cap, struct vnet *ret)
{
	struct virtio_net_hdr h;
	struct iovec iov[2] = { { .iov_base = &h, .iov_len = sizeof(h) }, { .iov_base = buf, .iov_len = cap } };

	for (int i = 0; i < READ_TRIES; i++) {
		ssize_t n = readv(fd, iov, 2);

		if (n < 0 && errno != EINTR)
			return 0;
		if (n <= (ssize_t)sizeof(h) || (size_t)n == sizeof(h) + cap)
			continue;
		/* without TUNSETVNETLE and TUNSETVNETBE its byte order is the machine's */
		*ret = (struct vnet){
			.flags = h.flags,
			.gso_type = h.gso_type,
			.hdr_len = h.hdr_len,
			.gso_size = h.gso_size,
			.csum_start = h.csum_start,
			.csum_offset = h.csum_offset,
		};
		return (size_t)n - sizeof(h);
	}
	return 0;
}

enum err vnet_write(int fd, const struct vnet *v, const struct span *slices, unsigned n)
{
	struct virtio_net_hdr h = {
		.flags = v->flags,
		.gso_type = v->gso_type,
		.hdr_len = v->hdr_len,
		.gso_size = v->gso_size,
		.csum_start = v->csum_start,
		.csum_offset = v->csum_offset,
	};
	struct iovec iov[1 + VNET_SLICES_MAX] = { { .iov_base = &h, .iov_len = sizeof(h) } };

	if (!n || n > VNET_SLICES_MAX)
		return ERR_LIMIT;
	for (unsigned i = 0; i < n; i++)
		iov[1 + i] = (struct iovec){ .iov_base = (void *)(uintptr_t)slices[i].p, .iov_len = slices[i].len };
	if (writev(fd, iov, (int)n + 1) >= 0)
		return OK;
	return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EINTR ? ERR_LIMIT : ERR_SYSTEM;
}
