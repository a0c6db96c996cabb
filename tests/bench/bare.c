/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* bench_bare TUN LOCAL PEER: a relay that does nothing (tests/bench/plane.py). What is read from the TUN leaves as it is, the kernel's header and
 * a whole super-packet in one train of datagrams; what comes is written as it is. Four system calls a super-packet and the copies in
 * them are what no tunnel by TUN and UDP is without: how fast a machine is at these is the limit that the others are held against.
 * It works only where trains cross as one. Ends with SIGTERM. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tun.h"
#include "net/udp.h"
#include "net/vnet.h"

#define PORT 4500
#define PIECE 1400 /* bytes of a datagram */
#define READS 64 /* of one side before the other has its turn */
#define ROOM (1 << 20) /* of the socket, as the daemon's (net/udp.c) */

static uint8_t buf[VNET_PACKET_MAX + VNET_HEADER];

static bool send_out(int fd, const struct sockaddr_storage *to, socklen_t to_len, size_t len)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	union {
		struct cmsghdr h;
		uint8_t b[CMSG_SPACE(sizeof(uint16_t))];
	} control = {
		.h = { .cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT }
	};
	struct msghdr m = { .msg_name = (void *)(uintptr_t)to,
			    .msg_namelen = to_len,
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = len > PIECE ? sizeof(control) : 0 };
	uint16_t piece = PIECE;

	memcpy(CMSG_DATA(&control.h), &piece, sizeof(piece));
	return sendmsg(fd, &m, 0) >= 0 || errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED;
}

static int relay(int tun, int udp, const struct addr *peer)
{
	struct sockaddr_storage to;
	socklen_t to_len = addr_to_sockaddr(peer, &to);
	struct pollfd fds[2] = { { .fd = tun, .events = POLLIN }, { .fd = udp, .events = POLLIN } };

	while (poll(fds, 2, -1) > 0) {
		ssize_t n;

		for (int i = 0; fds[1].revents && i < READS && (n = recv(udp, buf, sizeof(buf), 0)) > 0; i++)
			(void)!write(tun, buf, (size_t)n); /* a full queue of the kernel's loses it */
		for (int i = 0; fds[0].revents && i < READS && (n = read(tun, buf, sizeof(buf))) > 0; i++)
			if (!send_out(udp, &to, to_len, (size_t)n))
				return perror("bench_bare: sendmsg"), 1;
	}
	return 1;
}

int main(int argc, char **argv)
{
	struct tun_config tun = { .mtu = TUN_MTU, .n_queues = 1, .offloads = TUN_OFFLOAD_ALL };
	struct addr local, peer, bound;
	unsigned on;
	int tun_fd, udp_fd, one = 1, room = ROOM;

	if (argc != 4 || addr_parse_ip(span_str(argv[2]), &local) != OK ||
	    addr_parse_ip(span_str(argv[3]), &peer) != OK) {
		(void)fprintf(stderr, "usage: bench_bare TUN LOCAL PEER\n");
		return 2;
	}
	tun.name = argv[1];
	local.port = peer.port = PORT;
	if (tun_open(-1, &tun, &tun_fd, &on) != OK || udp_open(&local, &udp_fd, &bound) != OK ||
	    setsockopt(udp_fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) < 0 ||
	    setsockopt(udp_fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0) {
		perror("bench_bare");
		return 1;
	}
	(void)puts("ready");
	(void)fflush(stdout);
	return relay(tun_fd, udp_fd, &peer);
}
