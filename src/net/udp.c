/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/bpf.h"
#include "net/udp.h"

#define UDP_DATA_ROOM (1 << 20) /* our choice, each way; 0.7 ms at 12 Gbit/s */

unsigned addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (a->family == ADDR_IP4) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;

		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return sizeof(*in);
	}
	if (a->family == ADDR_IP6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(a->port);
		memcpy(&in6->sin6_addr, a->ip, 16);
		return sizeof(*in6);
	}
	return 0;
}

struct addr addr_from_sockaddr(const struct sockaddr_storage *ss)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		return addr_of(span_of(&in->sin_addr, 4), ntohs(in->sin_port));
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

		return addr_of(span_of(&in6->sin6_addr, 16), ntohs(in6->sin6_port));
	}
	return (struct addr){ .family = ADDR_NONE };
}

static bool set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

static int domain_of(enum addr_family family)
{
	return family == ADDR_IP6 ? AF_INET6 : AF_INET;
}

/* A socket that tells the local address and the TOS byte of each datagram. */
static int socket_new(enum addr_family family)
{
	int fd = socket(domain_of(family), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool ok;

	if (fd < 0)
		return -1;
	if (family == ADDR_IP6)
		ok = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) && set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) &&
		     set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	else
		ok = set_int(fd, IPPROTO_IP, IP_PKTINFO, 1) && set_int(fd, IPPROTO_IP, IP_RECVTOS, 1);
	if (!ok) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

/* Nothing that is sent is fragmented, and what the kernel believes of the path does not matter: its size is found by probes
 * (docs/protocol.md). */
bool udp_never_fragment(int fd, enum addr_family family)
{
	return family == ADDR_IP6 ? set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
				  : set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
}

/* For a batch of trains, which the kernel's default has not; it is the kernel's memory, and bounds the queues. */
static void set_room(int fd)
{
	if (!set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, UDP_DATA_ROOM))
		(void)set_int(fd, SOL_SOCKET, SO_RCVBUF, UDP_DATA_ROOM);
	if (!set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, UDP_DATA_ROOM))
		(void)set_int(fd, SOL_SOCKET, SO_SNDBUF, UDP_DATA_ROOM);
	/* and whoever reads is told what did not fit */
	(void)set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
}

static enum err bind_to(int fd, const struct addr *local)
{
	struct sockaddr_storage ss;
	unsigned len = addr_to_sockaddr(local, &ss);

	if (bind(fd, (const struct sockaddr *)&ss, len) == 0)
		return OK;
	return errno == EADDRINUSE ? ERR_WRONG_STATE : errno == EADDRNOTAVAIL ? ERR_NOTFOUND : ERR_SYSTEM;
}

static enum err local_of(int fd, struct addr *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	memset(&ss, 0, sizeof(ss));
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return ERR_SYSTEM;
	*ret = addr_from_sockaddr(&ss);
	return OK;
}

enum err udp_group_open(enum addr_family family, uint16_t port, unsigned n_data, int *fds, uint16_t *ret_port)
{
	struct addr local = { .family = family, .port = port };
	struct sock_filter code[BPF_SPLIT_MAX];
	struct sock_fprog program = { .filter = code };
	enum err e = ERR_SYSTEM;
	unsigned n;

	if (family != ADDR_IP4 && family != ADDR_IP6)
		return ERR_UNSUPPORTED;
	for (n = 0; n <= n_data; n++) {
		fds[n] = socket_new(family);
		if (fds[n] < 0)
			goto fail;
		if (n > 0)
			set_room(fds[n]);
		/* Older kernels than 5.0 have no trains. */
		(void)set_int(fds[n], IPPROTO_UDP, UDP_GRO, 1);
		/* The first one is bound without SO_REUSEPORT: so it fails when any other socket has the port,
		 * and we never join a group that is not ours. (Joining ours takes our uid: root's.) */
		if (n > 0 && (!set_int(fds[n], SOL_SOCKET, SO_REUSEPORT, 1) || !udp_never_fragment(fds[n], family)))
			goto fail_this;
		if ((e = bind_to(fds[n], &local)) != OK)
			goto fail_this;
		e = ERR_SYSTEM;
		if (n == 0) {
			if ((e = local_of(fds[0], &local)) != OK)
				goto fail_this;
			local = (struct addr){ .family = family, .port = local.port };
			e = ERR_SYSTEM;
			if (n_data > 0 && !set_int(fds[0], SOL_SOCKET, SO_REUSEPORT, 1))
				goto fail_this;
		}
	}
	if (n_data > 0) {
		program.len = (unsigned short)bpf_split_write(n_data, code);
		if (setsockopt(fds[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) < 0)
			goto fail;
	}
	*ret_port = local.port;
	return OK;
fail_this:
	(void)close(fds[n]);
fail:
	while (n > 0)
		(void)close(fds[--n]);
	return e;
}

enum err udp_give_esp(int fd)
{
	/* a train is one packet to ESP */
	(void)set_int(fd, IPPROTO_UDP, UDP_GRO, 0);
	return set_int(fd, IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP) ? OK : ERR_UNSUPPORTED;
}

enum err udp_open(const struct addr *local, int *ret_fd, struct addr *ret_local)
{
	enum err e;
	int fd;

	if (local->family != ADDR_IP4 && local->family != ADDR_IP6)
		return ERR_UNSUPPORTED;
	fd = socket_new(local->family);
	if (fd < 0)
		return ERR_SYSTEM;
	e = bind_to(fd, local);
	if (e == OK)
		e = local_of(fd, ret_local);
	if (e != OK) {
		(void)close(fd);
		return e;
	}
	*ret_fd = fd;
	return OK;
}

void udp_fragments(int fd, enum addr_family family)
{
	/* IPv4: without DF the tunnel cuts what is too long. IPv6: pieces of what any link carries (RFC 8200, 5), and a Packet Too
	 * Big is not the next datagram's error. */
	if (family == ADDR_IP6)
		(void)!(set_int(fd, IPPROTO_IPV6, IPV6_MTU, 1280) &&
			set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT));
	else
		(void)set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
}

enum err udp_source_towards(const struct addr *remote, struct addr *ret)
{
	struct addr to = *remote, local;
	struct sockaddr_storage ss;
	unsigned len;
	enum err e;
	int fd;

	if (!to.port)
		to.port = 9; /* connect() wants one; nothing is sent */
	len = addr_to_sockaddr(&to, &ss);
	if (!len)
		return ERR_UNSUPPORTED;
	fd = socket(domain_of(to.family), SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ERR_SYSTEM;
	e = connect(fd, (const struct sockaddr *)&ss, len) == 0 ? local_of(fd, &local) : ERR_NOTFOUND;
	(void)close(fd);
	if (e != OK)
		return e;
	local.port = 0;
	*ret = local;
	return OK;
}
