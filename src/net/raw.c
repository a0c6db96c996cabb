/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/raw.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define IP4_HEADER_MIN 20

enum err raw_esp_open(enum addr_family family, int *ret_fd)
{
	static const int on = 1;
	bool six = family == ADDR_IP6, ok;
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ESP);

	if (fd < 0)
		return ERR_SYSTEM;
	if (six)
		ok = setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) == 0 &&
		     setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on)) == 0;
	else
		ok = setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0 &&
		     setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)) == 0;
	ok = ok && udp_never_fragment(fd, family);
	if (!ok) {
		(void)close(fd);
		return ERR_SYSTEM;
	}
	*ret_fd = fd;
	return OK;
}

unsigned raw_esp_recv(int fd, uint8_t (*bufs)[UDP_TRAIN_MAX], unsigned n_bufs, struct udp_msg *ret)
{
	unsigned got = udp_recv_trains(fd, 0, bufs, n_bufs, ret), n = 0;

	for (unsigned i = 0; i < got; i++) {
		struct udp_msg m = ret[i];

		m.path.transport = TRANSPORT_ESP;
		m.path.remote.port = 0;
		if (m.path.remote.family == ADDR_IP4) {
			size_t head = m.len >= IP4_HEADER_MIN ? (size_t)(m.p[0] & 0x0f) * 4 : 0;

			if (head < IP4_HEADER_MIN || head > m.len)
				continue;
			m.p += head;
			m.len -= head;
		}
		ret[n++] = m;
	}
	return n;
}
