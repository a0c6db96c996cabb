/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Datagrams in batches: recvmmsg(2) and sendmmsg(2) with their control messages. */
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#include "net/udp_impl.h"

struct udp_buffers {
	struct mmsghdr headers[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_storage from[UDP_BATCH];
	union udp_control control[UDP_BATCH];
	uint8_t data[UDP_BATCH][UDP_DATAGRAM_MAX];
};

struct udp_buffers *udp_buffers_new(void)
{
	return calloc(1, sizeof(struct udp_buffers));
}

void udp_buffers_free(struct udp_buffers *b)
{
	free(b);
}

static void read_control(struct msghdr *m, struct udp_msg *u)
{
	struct path *path = &u->path;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			path->local = addr_of(span_of(&info.ipi_addr, 4), path->local.port);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			path->local = addr_of(span_of(&info.ipi6_addr, 16), path->local.port);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			path->tos = *(const uint8_t *)CMSG_DATA(c); /* one octet when received */
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			int tclass;

			memcpy(&tclass, CMSG_DATA(c), sizeof(tclass));
			path->tos = (uint8_t)tclass;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			memcpy(&u->lost, CMSG_DATA(c), sizeof(u->lost));
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			int size;

			memcpy(&size, CMSG_DATA(c), sizeof(size));
			u->segment = size > 0 && (size_t)size < u->len ? (size_t)size : 0;
		}
	}
}

/* Is the source one that may go up? A mapped address in an IPv6 header names nobody. */
static bool source_ok(const struct sockaddr_storage *from)
{
	if (from->ss_family == AF_INET6)
		return !IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)from)->sin6_addr);
	return from->ss_family == AF_INET;
}

void udp_header_in(struct mmsghdr *header, struct iovec *iov, struct sockaddr_storage *from, union udp_control *control)
{
	header->msg_hdr = (struct msghdr){
		.msg_name = from,
		.msg_namelen = sizeof(*from),
		.msg_iov = iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(*control),
	};
}

unsigned udp_headers_recv(int fd, struct mmsghdr *headers, unsigned n)
{
	int got = -1;

	/* A pending error is returned once in place of a datagram: try again so that it hides nothing. */
	for (int tries = 0; tries < 3; tries++) {
		got = recvmmsg(fd, headers, n, MSG_DONTWAIT, NULL);
		if (got >= 0 || errno == EAGAIN)
			break;
	}
	return got > 0 ? (unsigned)got : 0;
}

bool udp_header_read(struct mmsghdr *header, uint16_t local_port, struct udp_msg *ret)
{
	struct msghdr *m = &header->msg_hdr;
	const struct sockaddr_storage *from = m->msg_name;

	/* Cut datagrams are longer than anything that we take. */
	if ((m->msg_flags & MSG_TRUNC) || !source_ok(from))
		return false;
	*ret = (struct udp_msg){
		.path = { .transport = TRANSPORT_UDP, .remote = addr_from_sockaddr(from) },
		.p = m->msg_iov->iov_base,
		.len = header->msg_len,
	};
	ret->path.local = (struct addr){ .family = ret->path.remote.family, .port = local_port };
	read_control(m, ret);
	return true;
}

unsigned udp_recv(int fd, uint16_t local_port, struct udp_buffers *b, struct udp_msg ret[UDP_BATCH])
{
	unsigned n = 0, got;

	for (unsigned i = 0; i < UDP_BATCH; i++) {
		b->iov[i] = (struct iovec){ .iov_base = b->data[i], .iov_len = UDP_DATAGRAM_MAX };
		udp_header_in(&b->headers[i], &b->iov[i], &b->from[i], &b->control[i]);
	}
	got = udp_headers_recv(fd, b->headers, UDP_BATCH);
	for (unsigned i = 0; i < got; i++)
		n += udp_header_read(&b->headers[i], local_port, &ret[n]);
	return n;
}

void udp_control_add(struct msghdr *m, int level, int type, const void *value, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + m->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), value, len);
	m->msg_controllen += CMSG_SPACE(len);
}

void udp_control_write(struct msghdr *m, union udp_control *control, const struct path *path, uint8_t tos_byte)
{
	int tos = tos_byte;

	memset(control, 0, sizeof(*control));
	m->msg_control = control;
	m->msg_controllen = 0;
	if (path->local.family == ADDR_IP4 && !addr_is_any(&path->local)) {
		struct in_pktinfo info = { 0 };

		memcpy(&info.ipi_spec_dst, path->local.ip, 4);
		udp_control_add(m, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else if (path->local.family == ADDR_IP6 && !addr_is_any(&path->local)) {
		struct in6_pktinfo info = { 0 };

		memcpy(&info.ipi6_addr, path->local.ip, 16);
		udp_control_add(m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
	if (tos && path->remote.family == ADDR_IP4)
		udp_control_add(m, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	else if (tos)
		udp_control_add(m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
}

static enum err send_error(void)
{
	switch (errno) {
	case EAGAIN:
	case ENOBUFS:
	case EMSGSIZE: return ERR_LIMIT;
	default: return ERR_SYSTEM;
	}
}

enum err udp_send(int fd, const struct path *path, struct span prefix, struct span bytes)
{
	struct sockaddr_storage to;
	union udp_control control;
	struct iovec iov[2] = {
		{ .iov_base = (void *)prefix.p, .iov_len = prefix.len },
		{ .iov_base = (void *)bytes.p, .iov_len = bytes.len },
	};
	struct msghdr m = { .msg_name = &to, .msg_iov = iov, .msg_iovlen = 2 };

	m.msg_namelen = addr_to_sockaddr(&path->remote, &to);
	if (!m.msg_namelen)
		return ERR_UNSUPPORTED;
	udp_control_write(&m, &control, path, path->tos);
	/* The first call may report an earlier datagram's error (ICMP) and send nothing. */
	for (int tries = 0; tries < 2; tries++)
		if (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return OK;
	return send_error();
}
