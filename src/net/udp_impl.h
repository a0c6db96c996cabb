/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/udp_impl.h - what udp_io.c and udp_train.c share. */
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include "net/udp.h"

/* Room for the source address, the TOS byte and the size of a train's datagrams. */
union udp_control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 3 * CMSG_SPACE(sizeof(int)) + 16];
};

/* For header, which receives into iov; the lengths are set anew for each call. */
void udp_header_in(struct mmsghdr *header, struct iovec *iov, struct sockaddr_storage *from,
		   union udp_control *control);
/* recvmmsg(2), once more after a pending error; how many came. */
unsigned udp_headers_recv(int fd, struct mmsghdr *headers, unsigned n);
/* What one header received. False: not to be handed up. */
bool udp_header_read(struct mmsghdr *header, uint16_t local_port, struct udp_msg *ret);

/* Source address and TOS as control messages. */
void udp_control_write(struct msghdr *m, union udp_control *control, const struct path *path, uint8_t tos_byte);
/* One more of them. */
void udp_control_add(struct msghdr *m, int level, int type, const void *value, size_t len);
