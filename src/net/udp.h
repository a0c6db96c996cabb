/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* net/udp.h - UDP sockets. The port group is the one local port of docs/protocol.md: N+1 sockets on one port
 * with SO_REUSEPORT and a classic BPF program; socket 0 takes everything but ESP. One group an address
 * family; made once, before anything is signalled, never closed singly, never connected. */
#pragma once
#include "base/path.h"
#include "net/demux.h"

#define UDP_BATCH 64
#define UDP_DATAGRAM_MAX 9216

/* Local address as sockaddr for other net/ files. */
struct sockaddr_storage;
unsigned addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret); /* its length */
struct addr addr_from_sockaddr(const struct sockaddr_storage *ss);

/* Opens n_data + 1 sockets bound to port (0: any; the same port for all) on every address of `family`,
 * attaches the program, sets packet info so that the local address of each datagram is known. fds[0] is the
 * control socket; what the others send leaves in one piece, with DF, or not at all. All of them, where the kernel can, receive trains
 * (udp_recv_trains): were the control socket to take single datagrams only, a share of the peers would never have trains, since
 * the kernel asks a socket of its own choice in the group whether to make one. ERR_WRONG_STATE: the port is in use. On error no
 * descriptor is left. */
MUST_CHECK enum err udp_group_open(enum addr_family family, uint16_t port, unsigned n_data, int *fds,
				   uint16_t *ret_port);

/* A data socket of a group, not the control socket: the kernel takes what is ESP there for its own SAs (net/xfrm.h), and what it has
 * no SA for is lost; everything else still arrives. Once and for all; no trains any more. ERR_UNSUPPORTED: it cannot. A train goes where its first datagram
 * leads: so what a peer may send in one train must not be the kernel's in part. */
MUST_CHECK enum err udp_give_esp(int fd);

struct udp_msg {
	struct path path; /* local (from packet info), remote, tos */
	uint8_t *p; /* borrowed until the next udp_recv on the same buffers */
	size_t len;
	/* Not 0: a train of datagrams of this many bytes each, but for the last, which may be shorter. */
	size_t segment;
	uint32_t lost; /* so many datagrams and trains had found this socket full; of a group's data sockets */
};
/* The next datagram of what was received, a train or not; *offset begins with 0. False: no more. */
static inline bool udp_cut(const struct udp_msg *m, size_t *offset, uint8_t **ret, size_t *ret_len)
{
	size_t at = *offset, left;

	/* an empty datagram is one as well */
	if (at >= m->len && (at || m->len))
		return false;
	left = m->len - at;
	if (m->segment && left > m->segment)
		left = m->segment;
	*ret = m->p + at;
	*ret_len = left;
	*offset = left ? at + left : 1;
	return true;
}
/* The same, with its path. */
bool udp_next(const struct udp_msg *m, size_t *offset, struct udp_msg *ret);
struct udp_buffers; /* memory of UDP_BATCH datagrams */
struct udp_buffers *udp_buffers_new(void);
void udp_buffers_free(struct udp_buffers *b);
/* Up to UDP_BATCH datagrams; 0: nothing there (or a transient error). local_port fills path.local.port. For sockets that do not
 * receive trains. */
unsigned udp_recv(int fd, uint16_t local_port, struct udp_buffers *b, struct udp_msg ret[UDP_BATCH]);
/* Sends one datagram from path->local (its ip selects the source address, if not "any") to path->remote.
 * ERR_LIMIT: the socket's buffer is full, or the datagram is longer than the path takes. */
MUST_CHECK enum err udp_send(int fd, const struct path *path, struct span prefix, struct span bytes);

/* ---- trains: many datagrams of one path and size with one way through the kernel ---- */

#define UDP_TRAIN_MAX 65536 /* room for a train: one byte more than the longest */
#define UDP_TRAIN_DATAGRAMS 64 /* what every kernel takes to send */

/* As udp_recv, each datagram or train in a buffer of the caller's, n of them, at most UDP_BATCH. A train's datagrams may
 * be of several kinds: the socket was chosen by the first one. */
unsigned udp_recv_trains(int fd, uint16_t local_port, uint8_t (*bufs)[UDP_TRAIN_MAX], unsigned n, struct udp_msg *ret);

struct udp_out {
	const struct path *path; /* but for its tos */
	const uint8_t *p;
	size_t len;
	uint8_t tos;
};
enum udp_fate {
	UDP_SENT,
	UDP_FULL, /* the socket's buffer or the device's queue; so is what comes behind it in the batch */
	UDP_TOO_LONG, /* for the path */
	UDP_FAILED /* no route, no such source address, not allowed */
};
/* A socket to send by, with what was learned of it. All zero but for fd and raw at first. */
struct udp_sender {
	int fd;
	bool raw; /* of a protocol without ports: no trains, and none of the path's ports */
	unsigned alone; /* trains were refused: so many are sent in single datagrams before one is tried again */
	uint64_t n_refused; /* trains */
};
/* Datagrams in their order; neighbours with the same addresses and TOS and the same length (the last one may be shorter) leave as
 * trains, at most UDP_TRAIN_DATAGRAMS and what a device cuts (65,455 bytes) long, wherever each lies in memory. A train that is
 * refused leaves in single datagrams. Whatever cannot leave is dropped and holds nobody up: fates[i] is the datagram's, of n.
 * Returns how many were sent. */
unsigned udp_send_trains(struct udp_sender *s, const struct udp_out *msgs, unsigned n, enum udp_fate *fates);

/* A plain UDP socket (SIP, relays). local with port 0: any. */
MUST_CHECK enum err udp_open(const struct addr *local, int *ret_fd, struct addr *ret_local);
/* What it sends leaves in one piece, with DF, or not at all, whatever the kernel has heard of the path. */
MUST_CHECK bool udp_never_fragment(int fd, enum addr_family family);
/* A UDP socket behind the TUN: long datagrams leave in fragments that every path of a tunnel carries, and none is lost to the
 * kernel's learning how much this one does. */
void udp_fragments(int fd, enum addr_family family);
/* Our source address towards remote, by the routing table (port 0). */
MUST_CHECK enum err udp_source_towards(const struct addr *remote, struct addr *ret);
