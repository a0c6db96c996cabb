/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Trains of datagrams: UDP_GRO and UDP_SEGMENT of udp(7). */
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "net/udp_impl.h"

/* A device cuts what is shorter than 64 KiB with all headers, the link's included; the kernel would take longer trains and cut them
 * itself, before the device, which costs what trains are for. IPv6, UDP, and 32 bytes for links and VLANs. */
#define TRAIN_MAX (65535 - 40 - 8 - 32)
#define OUT_DATAGRAMS 256 /* of one sendmmsg */
#define ALONE_FOR 65536 /* datagrams; then the device or the route may be another one */

/* ---- in ---- */

unsigned udp_recv_trains(int fd, uint16_t local_port, uint8_t (*bufs)[UDP_TRAIN_MAX], unsigned n, struct udp_msg *ret)
{
	struct mmsghdr headers[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_storage from[UDP_BATCH];
	union udp_control control[UDP_BATCH];
	unsigned got, k = 0;

	if (n > UDP_BATCH)
		n = UDP_BATCH;
	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ .iov_base = bufs[i], .iov_len = UDP_TRAIN_MAX };
		udp_header_in(&headers[i], &iov[i], &from[i], &control[i]);
	}
	got = udp_headers_recv(fd, headers, n);
	for (unsigned i = 0; i < got; i++)
		k += udp_header_read(&headers[i], local_port, &ret[k]);
	return k;
}

bool udp_next(const struct udp_msg *m, size_t *offset, struct udp_msg *ret)
{
	struct udp_msg one = { .segment = 0 };

	if (!udp_cut(m, offset, &one.p, &one.len))
		return false;
	one.path = m->path;
	*ret = one;
	return true;
}

/* ---- out ---- */

struct train {
	unsigned first, n; /* of the datagrams */
};

/* What one sendmmsg takes. */
struct outbox {
	const struct udp_out *msgs;
	enum udp_fate *fates;
	struct train trains[UDP_BATCH];
	struct mmsghdr headers[UDP_BATCH];
	struct sockaddr_storage to[UDP_BATCH];
	union udp_control control[UDP_BATCH];
	struct iovec iov[OUT_DATAGRAMS];
	unsigned n, n_iov;
};

static bool same_way(const struct udp_out *a, const struct udp_out *b)
{
	if (a->tos != b->tos)
		return false;
	return a->path == b->path ||
	       (addr_eq(&a->path->remote, &b->path->remote) && addr_ip_eq(&a->path->local, &b->path->local));
}

/* How many of these, at most n, leave as one train. */
static unsigned train_length(const struct udp_out *m, unsigned n)
{
	size_t total = m->len;
	unsigned k = 1;

	if (n > UDP_TRAIN_DATAGRAMS)
		n = UDP_TRAIN_DATAGRAMS;
	while (k < n && m[k - 1].len == m->len && m[k].len && m[k].len <= m->len && total + m[k].len <= TRAIN_MAX &&
	       same_way(&m[k], m))
		total += m[k++].len;
	return k;
}

static void outbox_add(const struct udp_sender *s, struct outbox *o, unsigned first, unsigned n)
{
	const struct udp_out *m = &o->msgs[first];
	struct addr to = m->path->remote;
	struct msghdr *h = &o->headers[o->n].msg_hdr;

	o->trains[o->n] = (struct train){ .first = first, .n = n };
	*h = (struct msghdr){ .msg_name = &o->to[o->n], .msg_iov = &o->iov[o->n_iov], .msg_iovlen = n };
	if (s->raw)
		to.port = 0; /* an IPv6 raw socket takes it for a protocol number */
	h->msg_namelen = addr_to_sockaddr(&to, &o->to[o->n]);
	udp_control_write(h, &o->control[o->n], m->path, m->tos);
	if (n > 1) {
		uint16_t size = (uint16_t)m->len; /* two of them are no longer than an IP packet */

		udp_control_add(h, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
	}
	for (unsigned i = 0; i < n; i++)
		o->iov[o->n_iov++] = (struct iovec){ .iov_base = (void *)(uintptr_t)m[i].p, .iov_len = m[i].len };
	o->n++;
}

static void set_fates(const struct outbox *o, unsigned first, unsigned n, enum udp_fate fate)
{
	for (unsigned i = 0; i < n; i++)
		o->fates[first + i] = fate;
}

static bool is_full(void)
{
	return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM;
}

/* A train that the kernel did not take, datagram by datagram. False: no room, the rest is not tried. */
static bool send_alone(struct udp_sender *s, struct outbox *o, unsigned at)
{
	const struct train *t = &o->trains[at];
	struct msghdr h = o->headers[at].msg_hdr;
	struct iovec *iov = h.msg_iov;
	unsigned sent = 0;

	h.msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
	h.msg_iovlen = 1;
	for (unsigned i = 0; i < t->n; i++) {
		enum udp_fate *fate = &o->fates[t->first + i];

		/* what was too long once is so again */
		if (i && fate[-1] == UDP_TOO_LONG && iov[i].iov_len == iov[i - 1].iov_len) {
			*fate = UDP_TOO_LONG;
			continue;
		}
		h.msg_iov = &iov[i];
		if (sendmsg(s->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
			*fate = UDP_SENT;
			sent++;
		} else if (is_full()) {
			set_fates(o, t->first + i, t->n - i, UDP_FULL);
			return false;
		} else {
			*fate = errno == EMSGSIZE ? UDP_TOO_LONG : UDP_FAILED;
		}
	}
	/* It was for being a train, not for its datagrams: the device, or what stands before it (XFRM), cannot cut it. */
	if (sent && o->fates[t->first] == UDP_SENT) {
		s->alone = ALONE_FOR;
		s->n_refused++;
	}
	return true;
}

/* False: no room. All fates of what is in it are set. */
static bool outbox_send(struct udp_sender *s, struct outbox *o)
{
	unsigned at = 0;

	while (at < o->n) {
		const struct train t = o->trains[at];
		int got = sendmmsg(s->fd, o->headers + at, o->n - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		bool room = true;

		for (int i = 0; i < got; i++, at++)
			set_fates(o, o->trains[at].first, o->trains[at].n, UDP_SENT);
		if (got > 0)
			continue;
		if (is_full()) {
			room = false;
		} else if (t.n > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE || errno == EOPNOTSUPP)) {
			room = send_alone(s, o, at++);
		} else {
			set_fates(o, t.first, t.n, errno == EMSGSIZE ? UDP_TOO_LONG : UDP_FAILED);
			at++;
		}
		if (!room) {
			for (; at < o->n; at++)
				set_fates(o, o->trains[at].first, o->trains[at].n, UDP_FULL);
			return false;
		}
	}
	return true;
}

unsigned udp_send_trains(struct udp_sender *s, const struct udp_out *msgs, unsigned n, enum udp_fate *fates)
{
	struct outbox o;
	unsigned at = 0, sent = 0;
	bool room = true;

	o.msgs = msgs;
	o.fates = fates;
	while (at < n && room) {
		o.n = o.n_iov = 0;
		while (at < n && o.n < UDP_BATCH && o.n_iov < OUT_DATAGRAMS) {
			unsigned k = n - at;

			if (k > OUT_DATAGRAMS - o.n_iov)
				k = OUT_DATAGRAMS - o.n_iov;
			k = s->raw || s->alone ? 1 : train_length(&msgs[at], k);
			outbox_add(s, &o, at, k);
			at += k;
			s->alone -= s->alone > 0;
		}
		room = outbox_send(s, &o);
	}
	set_fates(&o, at, n - at, UDP_FULL);
	for (unsigned i = 0; i < n; i++)
		sent += fates[i] == UDP_SENT;
	return sent;
}
