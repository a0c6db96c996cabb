/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Trains of datagrams, through loopback and through a link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>

#include "base/rng.h"
#include "net/buffers.h"
#include "harness.h"
#include "net_local.h"
#include "veth.h"

#define N_MSGS 80 /* what a socket's buffer holds at its default, each alone */
#define N_ROUNDS 16

/* ---- a group, in some namespace ---- */

struct group {
	enum addr_family family;
	int fds[3]; /* control, two of data */
	uint16_t port;
};

static enum err group_make(void *arg)
{
	struct group *g = arg;

	return udp_group_open(g->family, 0, 2, g->fds, &g->port);
}

static struct group group_open(int ns, enum addr_family family)
{
	struct group g = { .family = family };

	assert_int_equal(netns_run(ns, group_make, &g), OK);
	return g;
}

static void group_close(struct group *g)
{
	for (int i = 0; i < 3; i++)
		(void)close(g->fds[i]);
}

static const uint8_t warm[4] = { 0xff, 0xff, 0xff, 0xff };

/* A first datagram finds the neighbour, and waits for addresses that the kernel has not made ready yet. Later ones may still come,
 * and are nobody's. */
static void warm_up(int fd, const struct path *path, int to_fd, struct net_buffers *b)
{
	struct pollfd p = { .fd = to_fd, .events = POLLIN };
	struct udp_msg in[NET_IN];

	for (int i = 0; i < 200; i++) {
		(void)!udp_send(fd, path, SPAN_NONE, SPAN_OF(warm));
		if (poll(&p, 1, 20) != 1)
			continue;
		(void)udp_recv_trains(to_fd, 1, b->in, NET_IN, in);
		return;
	}
	fail_msg("no way to the other end");
}

static unsigned send_trains(struct udp_sender *s, const struct udp_msg *msgs, unsigned n, enum udp_fate *fates)
{
	static struct udp_out out[200];

	assert_true(n <= 200);
	for (unsigned i = 0; i < n; i++)
		out[i] = (struct udp_out){
			.path = &msgs[i].path, .p = msgs[i].p, .len = msgs[i].len, .tos = msgs[i].path.tos
		};
	return udp_send_trains(s, out, n, fates);
}

/* What comes within a while to one socket, datagram by datagram into msgs (with memory of its own); returns how many
 * datagrams, and in *trains by how many messages. */
static unsigned take(int fd, uint16_t port, struct net_buffers *b, struct udp_msg *msgs, unsigned cap, unsigned want,
		     unsigned *trains)
{
	unsigned n = 0;

	*trains = 0;
	while (n < want) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		struct udp_msg in[NET_IN];
		unsigned k;

		if (poll(&p, 1, 2000) != 1)
			break;
		k = udp_recv_trains(fd, port, b->in, NET_IN, in);
		for (unsigned i = 0; i < k; i++) {
			unsigned before = n;

			for (size_t at = 0; n < cap && udp_next(&in[i], &at, &msgs[n]);) {
				uint8_t *copy;

				/* the kernel may have made a train of them as well */
				if (span_eq(span_of(msgs[n].p, msgs[n].len), SPAN_OF(warm)))
					continue;
				copy = malloc(msgs[n].len + 1);
				assert_non_null(copy);
				memcpy(copy, msgs[n].p, msgs[n].len);
				msgs[n++].p = copy;
			}
			*trains += n > before;
		}
	}
	return n;
}

static void release(struct udp_msg *msgs, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(msgs[i].p);
}

static unsigned count_sent(const enum udp_fate *fates, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++)
		sent += fates[i] == UDP_SENT;
	return sent;
}

/* ---- every mixture arrives as it was sent ---- */

/* Datagrams of a few sizes in runs, to two ports, with several TOS bytes and source addresses. */
static unsigned mix(struct rng *rng, const struct path paths[4], uint8_t *bytes, struct udp_msg *msgs)
{
	static const size_t sizes[] = { 1, 64, 700, 1200, 1400, 1452 };
	unsigned n = 0;

	while (n < N_MSGS) {
		unsigned run = 1 + (unsigned)rng_below(rng, 90);
		size_t len = sizes[rng_below(rng, 6)];
		struct path path = paths[rng_below(rng, 4)];

		path.tos = (uint8_t)(rng_below(rng, 3) * 0x2a + rng_below(rng, 4));
		for (unsigned i = 0; i < run && n < N_MSGS; i++, n++) {
			msgs[n] = (struct udp_msg){ .path = path, .p = bytes + (size_t)n * 1500, .len = len };
			if (i + 1 == run)
				msgs[n].len = 1 + rng_below(rng, (uint32_t)len);
			rng_fill(rng, msgs[n].p, msgs[n].len);
			msgs[n].p[0] &= 0x3f; /* none is for the control socket, but one of a single byte */
		}
	}
	return n;
}

/* What was sent to `port` is what came, in its order. */
static void compare(const struct udp_msg *sent, unsigned n, uint16_t port, const struct addr *local,
		    const struct udp_msg *got, unsigned n_got)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		if (sent[i].path.remote.port != port)
			continue;
		assert_true(k < n_got);
		assert_int_equal(got[k].len, sent[i].len);
		assert_memory_equal(got[k].p, sent[i].p, sent[i].len);
		assert_int_equal(got[k].path.tos, sent[i].path.tos);
		assert_true(addr_ip_eq(&got[k].path.remote, &sent[i].path.local));
		assert_int_equal(got[k].path.remote.port, sent[i].path.local.port);
		assert_true(addr_ip_eq(&got[k].path.local, local));
		k++;
	}
	assert_int_equal(k, n_got);
}

/* From a group at one end to two sockets at the other, which receive trains. */
static void mixtures(int from_ns, int to_ns, const struct addr from[2], const struct addr *to, unsigned seed,
		     unsigned *ret_trains)
{
	struct rng_seeded s;
	struct rng rng = rng_seeded_init(&s, seed);
	struct net_buffers *b = net_buffers_new();
	struct group out = group_open(from_ns, to->family), in[2];
	struct udp_sender sender = { .fd = out.fds[1] };
	struct path paths[4] = { { .transport = TRANSPORT_UDP } };
	static struct udp_msg msgs[N_MSGS], got[N_MSGS];
	static enum udp_fate fates[N_MSGS];
	uint8_t *bytes = malloc(N_MSGS * 1500);
	unsigned trains, n, n_to[2] = { 0 };
	const int room = 4 << 20;

	assert_non_null(b);
	assert_non_null(bytes);
	for (int i = 0; i < 2; i++) {
		in[i] = group_open(to_ns, to->family);
		/* one socket for everything: the groups' programs are not what this is about */
		(void)close(in[i].fds[2]);
		(void)close(in[i].fds[1]);
		/* the default holds them, but only just where each is in memory of its own */
		if (setsockopt(in[i].fds[0], SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0)
			(void)setsockopt(in[i].fds[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	}
	for (int i = 0; i < 4; i++) {
		paths[i] = (struct path){ .local = from[i & 1], .remote = *to };
		paths[i].local.port = out.port;
		paths[i].remote.port = in[i >> 1].port;
		warm_up(out.fds[1], &paths[i], in[i >> 1].fds[0], b);
	}
	*ret_trains = 0;
	for (int round = 0; round < N_ROUNDS; round++) {
		n = mix(&rng, paths, bytes, msgs);
		n_to[0] = n_to[1] = 0;
		for (unsigned i = 0; i < n; i++)
			n_to[msgs[i].path.remote.port == in[1].port]++;
		assert_int_equal(send_trains(&sender, msgs, n, fates), n);
		assert_int_equal(count_sent(fates, n), n);
		for (int i = 0; i < 2; i++) {
			unsigned k = take(in[i].fds[0], in[i].port, b, got, N_MSGS, n_to[i], &trains);

			compare(msgs, n, in[i].port, to, got, k);
			release(got, k);
			*ret_trains += trains;
		}
	}
	assert_int_equal(sender.n_refused, 0);
	group_close(&out);
	(void)close(in[0].fds[0]);
	(void)close(in[1].fds[0]);
	free(bytes);
	net_buffers_free(b);
}

static void by_loopback(void **state)
{
	static const enum addr_family families[] = { ADDR_IP4, ADDR_IP6 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct addr lo = loopback(families[i], 0), from[2] = { lo, lo };
		unsigned trains;

		if (!have(families[i]))
			continue;
		if (i == 0)
			from[1] = addr_ip4(0x7f000009, 0);
		mixtures(-1, -1, from, &lo, 40 + i, &trains);
		assert_true(trains < N_ROUNDS * N_MSGS / 8);
	}
}

/* Links of several abilities. What they cannot is done by the kernel, or by sending one by one: the datagrams are the same. */
static void by_links(void **state)
{
	static const struct {
		const char *what;
		uint32_t off[3];
		bool hard;
	} links[] = {
		{ "all offloads", { 0 }, false },
		{ "no segmentation", { ETHTOOL_SGSO, ETHTOOL_STSO }, false },
		{ "no checksums", { ETHTOOL_STXCSUM }, false },
		{ "no scatter", { ETHTOOL_SSG }, false },
		{ "each alone", { 0 }, true },
	};

	(void)state;
	need_root();
	for (unsigned i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		struct veth v;
		unsigned trains4, trains6;

		veth_open(&v);
		for (int k = 0; k < 3 && links[i].off[k]; k++)
			veth_set(&v, 0, links[i].off[k], false);
		if (links[i].hard)
			veth_hard(&v);
		mixtures(v.ns[0], v.ns[1], (struct addr[2]){ v.ip4[0], v.ip4[0] }, &v.ip4[1], 50 + i, &trains4);
		mixtures(v.ns[0], v.ns[1], (struct addr[2]){ v.ip6[0], v.ip6[0] }, &v.ip6[1], 60 + i, &trains6);
		print_message("# %s: %u datagrams came in %u (IPv4) and %u (IPv6) trains\n", links[i].what,
			      N_ROUNDS * N_MSGS, trains4, trains6);
		if (i == 0)
			assert_true(trains4 < N_ROUNDS * N_MSGS / 4 && trains6 < N_ROUNDS * N_MSGS / 4);
		veth_close(&v);
	}
}

/* ---- bounds ---- */

static void longest(void **state)
{
	static const struct {
		enum addr_family family;
		size_t len;
		unsigned n, trains;
	} cases[] = {
		{ ADDR_IP4, 1000, 64, 1 }, { ADDR_IP4, 1000, 65, 2 }, { ADDR_IP4, 1, 64, 1 },
		{ ADDR_IP4, 1, 130, 3 },   { ADDR_IP4, 32727, 2, 1 }, { ADDR_IP4, 32728, 2, 2 },
		{ ADDR_IP4, 1422, 46, 1 }, { ADDR_IP4, 1424, 47, 2 }, { ADDR_IP4, 65507, 1, 1 },
		{ ADDR_IP4, 0, 3, 3 },     { ADDR_IP6, 1000, 64, 1 }, { ADDR_IP6, 1000, 65, 2 },
		{ ADDR_IP6, 32727, 2, 1 }, { ADDR_IP6, 32728, 2, 2 }, { ADDR_IP6, 1422, 46, 1 },
		{ ADDR_IP6, 65527, 1, 1 },
	};
	struct net_buffers *b = net_buffers_new();
	static uint8_t bytes[65536];
	static struct udp_msg got[200];

	(void)state;
	assert_non_null(b);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct path path = { .local = loopback(cases[i].family, 0), .remote = loopback(cases[i].family, 0) };
		struct udp_sender s = { 0 };
		struct udp_msg msgs[200];
		enum udp_fate fates[200];
		struct addr from = path.local;
		unsigned n, trains;
		struct group g;

		if (!have(cases[i].family))
			continue;
		g = group_open(-1, cases[i].family);
		assert_int_equal(udp_open(&from, &s.fd, &from), OK);
		path.remote.port = g.port;
		for (n = 0; n < cases[i].n; n++)
			msgs[n] = (struct udp_msg){ .path = path, .p = bytes, .len = cases[i].len };
		bytes[0] = cases[i].len < 8 ? 0 : 0xc0; /* an odd SPI: the second data socket's */
		bytes[3] = 1;
		assert_int_equal(send_trains(&s, msgs, n, fates), n);
		assert_int_equal(s.n_refused, 0);
		assert_int_equal(take(g.fds[cases[i].len < 8 ? 0 : 2], g.port, b, got, 200, n, &trains), n);
		assert_int_equal(trains, cases[i].trains);
		for (unsigned k = 0; k < n; k++)
			assert_int_equal(got[k].len, cases[i].len);
		release(got, n);
		(void)close(s.fd);
		group_close(&g);
	}
	net_buffers_free(b);
}

static void walk(void **state)
{
	uint8_t bytes[25] = { 0 };
	struct udp_msg m = { .p = bytes, .len = 25, .segment = 10, .path = { .tos = 7 } }, one;
	size_t at = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_true(udp_next(&m, &at, &one));
		assert_ptr_equal(one.p, bytes + i * 10);
		assert_int_equal(one.len, i < 2 ? 10 : 5);
		assert_int_equal(one.segment, 0);
		assert_int_equal(one.path.tos, 7);
	}
	assert_false(udp_next(&m, &at, &one));
	assert_false(udp_next(&m, &at, &one));
	for (size_t len = 0; len < 3; len++) {
		m.len = len;
		m.segment = 0;
		at = 0;
		assert_true(udp_next(&m, &at, &one));
		assert_int_equal(one.len, len);
		assert_false(udp_next(&m, &at, &one));
	}
}

/* ---- what cannot leave ---- */

/* The kernel refuses trains of a socket that wants no checksums, as it does where IPsec of its own stands before the device. */
static void refused(void **state)
{
	static const enum addr_family families[] = { ADDR_IP4, ADDR_IP6 };
	struct net_buffers *b = net_buffers_new();
	static uint8_t bytes[40][100];
	static struct udp_msg got[100];
	int on = 1;

	(void)state;
	assert_non_null(b);
	for (unsigned f = 0; f < 2; f++) {
		struct path path = { .local = loopback(families[f], 0), .remote = loopback(families[f], 0) };
		struct udp_sender s = { 0 };
		struct udp_msg msgs[40];
		enum udp_fate fates[40];
		unsigned trains;
		struct group g;

		if (!have(families[f]))
			continue;
		g = group_open(-1, families[f]);
		path.remote.port = g.port;
		assert_int_equal(udp_open(&path.local, &s.fd, &path.local), OK);
		if (families[f] == ADDR_IP6) {
			assert_int_equal(setsockopt(s.fd, IPPROTO_UDP, UDP_NO_CHECK6_TX, &on, sizeof(on)), 0);
			assert_int_equal(setsockopt(g.fds[1], IPPROTO_UDP, UDP_NO_CHECK6_RX, &on, sizeof(on)), 0);
		} else {
			assert_int_equal(setsockopt(s.fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
		}
		for (unsigned i = 0; i < 40; i++) {
			msgs[i] = (struct udp_msg){ .path = path, .p = bytes[i], .len = 100 };
			bytes[i][0] = 0xc0; /* an even SPI: the first one's */
			bytes[i][9] = (uint8_t)i;
		}
		for (unsigned round = 0; round < 2; round++) {
			assert_int_equal(send_trains(&s, msgs, 40, fates), 40);
			assert_int_equal(take(g.fds[1], g.port, b, got, 100, 40, &trains), 40);
			for (unsigned i = 0; i < 40; i++)
				assert_int_equal(got[i].p[9], i);
			release(got, 40);
			assert_int_equal(s.n_refused, 1); /* once: it is remembered */
			assert_true(s.alone > 0);
		}
		/* for a while: then a train is tried again, which now leaves */
		on = 0;
		assert_int_equal(setsockopt(s.fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
		assert_int_equal(setsockopt(s.fd, IPPROTO_UDP, UDP_NO_CHECK6_TX, &on, sizeof(on)), 0);
		on = 1;
		s.alone = 3;
		assert_int_equal(send_trains(&s, msgs, 40, fates), 40);
		assert_int_equal(s.alone, 0);
		assert_int_equal(take(g.fds[1], g.port, b, got, 100, 40, &trains), 40);
		assert_int_equal(trains, 4);
		release(got, 40);
		(void)close(s.fd);
		group_close(&g);
	}
	net_buffers_free(b);
}

/* Longer than the link carries: told for each datagram; the others leave, and trains are not given up for it. */
static void too_long(void **state)
{
	struct net_buffers *b;
	static uint8_t bytes[1600];
	static struct udp_msg got[100];
	struct veth v;

	(void)state;
	need_root();
	b = net_buffers_new();
	assert_non_null(b);
	veth_open(&v);
	bytes[0] = 0xc0;
	for (int six = 0; six < 2; six++) {
		const struct addr *ip = six ? v.ip6 : v.ip4;
		struct group out = group_open(v.ns[0], ip[0].family), in = group_open(v.ns[1], ip[0].family);
		struct udp_sender s = { .fd = out.fds[1] };
		struct path path = { .local = ip[0], .remote = ip[1] };
		size_t most = six ? 1452 : 1472;
		struct udp_msg msgs[50];
		enum udp_fate fates[50];
		unsigned trains;

		path.remote.port = in.port;
		warm_up(out.fds[1], &path, in.fds[0], b);
		/* 20 that fit just so, 20 of a byte more with a short one at their end, 9 small ones */
		for (unsigned i = 0; i < 50; i++)
			msgs[i] = (struct udp_msg){ .path = path,
						    .p = bytes,
						    .len = i < 20    ? most
							   : i < 40  ? most + 1
							   : i == 40 ? 300
								     : 1000 };
		assert_int_equal(send_trains(&s, msgs, 50, fates), 30);
		for (unsigned i = 0; i < 50; i++)
			assert_int_equal(fates[i], i >= 20 && i < 40 ? UDP_TOO_LONG : UDP_SENT);
		assert_int_equal(s.alone, 0);
		assert_int_equal(s.n_refused, 0);
		assert_int_equal(take(in.fds[1], in.port, b, got, 100, 30, &trains), 30);
		assert_int_equal(got[19].len, most);
		assert_int_equal(got[20].len, 300);
		release(got, 30);
		/* one of them by itself */
		msgs[0].len = most + 1;
		assert_int_equal(send_trains(&s, msgs, 1, fates), 0);
		assert_int_equal(fates[0], UDP_TOO_LONG);
		group_close(&out);
		group_close(&in);
	}
	veth_close(&v);
	net_buffers_free(b);
}

/* No way to one peer holds nobody else up; a full socket ends the batch. */
static void no_way(void **state)
{
	struct net_buffers *b;
	static uint8_t bytes[1000];
	static struct udp_msg got[100], msgs[100];
	enum udp_fate fates[100];
	int least = 1;
	struct veth v;

	(void)state;
	need_root();
	b = net_buffers_new();
	assert_non_null(b);
	veth_open(&v);
	bytes[0] = 0xc0;
	for (int six = 0; six < 2; six++) {
		const struct addr *ip = six ? v.ip6 : v.ip4;
		struct group out = group_open(v.ns[0], ip[0].family), in = group_open(v.ns[1], ip[0].family);
		struct udp_sender s = { .fd = out.fds[1] };
		struct path path = { .local = ip[0], .remote = ip[1] };
		unsigned trains, sent;

		path.remote.port = in.port;
		warm_up(out.fds[1], &path, in.fds[0], b);
		for (unsigned i = 0; i < 30; i++) {
			msgs[i] = (struct udp_msg){ .path = path, .p = bytes, .len = 1000 };
			if (i >= 10 && i < 20)
				msgs[i].path.remote.ip[0] = 0x20; /* no route */
		}
		msgs[25].path.local = loopback(six ? ADDR_IP6 : ADDR_IP4, 0);
		msgs[25].path.local.ip[1] = 77; /* not ours */
		if (!six)
			msgs[25].path.local = addr_ip4(0x0a090077, 0);
		msgs[27].path.remote = loopback(six ? ADDR_IP4 : ADDR_IP6, in.port); /* not of this socket */
		assert_int_equal(send_trains(&s, msgs, 30, fates), 18);
		for (unsigned i = 0; i < 30; i++)
			assert_int_equal(fates[i], (i >= 10 && i < 20) || i == 25 || i == 27 ? UDP_FAILED : UDP_SENT);
		assert_int_equal(take(in.fds[1], in.port, b, got, 100, 18, &trains), 18);
		release(got, 18);

		/* nobody answers for this address: what goes there waits in the socket's room */
		assert_int_equal(setsockopt(s.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
		for (unsigned i = 0; i < 100; i++) {
			msgs[i] = (struct udp_msg){ .path = path, .p = bytes, .len = 1000 - i };
			msgs[i].path.remote.ip[six ? 15 : 3] = 99;
		}
		sent = send_trains(&s, msgs, 100, fates);
		assert_true(sent > 0 && sent < 100);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(fates[i], i < sent ? UDP_SENT : UDP_FULL);
		group_close(&out);
		group_close(&in);
	}
	veth_close(&v);
	net_buffers_free(b);
}

/* ---- the kernel makes trains of what comes, for every peer ---- */

/* Of a group's sockets the kernel asks one by the addresses' hash whether it wants trains, whichever the program will choose:
 * all want them, or some peers would have none. TOS bytes are kept apart. */
static void joined(void **state)
{
	struct net_buffers *b;
	static uint8_t bytes[20][1000];
	static struct udp_msg got[100];
	struct veth v;

	(void)state;
	need_root();
	b = net_buffers_new();
	assert_non_null(b);
	veth_open(&v);
	veth_hard(&v);
	for (int six = 0; six < 2; six++) {
		const struct addr *ip = six ? v.ip6 : v.ip4;
		struct group in = group_open(v.ns[1], ip[0].family);

		for (unsigned peer = 0; peer < 12; peer++) {
			struct group out = group_open(v.ns[0], ip[0].family);
			struct udp_sender s = { .fd = out.fds[1] };
			struct path path = { .local = ip[0], .remote = ip[1] };
			struct udp_msg msgs[20];
			enum udp_fate fates[20];
			unsigned trains;

			path.remote.port = in.port;
			warm_up(out.fds[1], &path, in.fds[0], b);
			for (unsigned i = 0; i < 20; i++) {
				bytes[i][0] = 0xc0;
				bytes[i][3] = 1;
				bytes[i][8] = (uint8_t)i;
				msgs[i] = (struct udp_msg){ .path = path, .p = bytes[i], .len = 1000 };
				msgs[i].path.tos = i < 10 ? 0x2a : 0x2b;
			}
			assert_int_equal(send_trains(&s, msgs, 20, fates), 20);
			assert_int_equal(take(in.fds[2], in.port, b, got, 100, 20, &trains), 20);
			for (unsigned i = 0; i < 20; i++) {
				assert_int_equal(got[i].p[8], i);
				assert_int_equal(got[i].path.tos, i < 10 ? 0x2a : 0x2b);
			}
			assert_true(trains <= 10); /* two, mostly; the driver's polls may part them */
			release(got, 20);
			group_close(&out);
		}
		group_close(&in);
	}
	veth_close(&v);
	net_buffers_free(b);
}

/* A train is led by its first datagram. ESP behind a STUN message of the same length comes to the control socket, and the reverse;
 * nothing is lost. A relay's frames say how long each is, not how long the train. */
static void mixed_kinds(void **state)
{
	struct net_buffers *b = net_buffers_new();
	uint8_t stun[20] = { 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42 }, esp[20] = { 0xc0, 0, 0, 9 };
	uint8_t framed[20] = { 0x40, 1, 0, 16, 0xc0, 0, 0, 9 };
	uint8_t *const firsts[] = { stun, esp, framed };
	struct group g = group_open(-1, ADDR_IP4);
	struct path path = { .local = loopback(ADDR_IP4, 0), .remote = loopback(ADDR_IP4, g.port) };
	struct udp_sender s = { 0 };
	static struct udp_msg got[4];
	unsigned trains;

	(void)state;
	assert_non_null(b);
	assert_int_equal(demux_classify(SPAN_OF(stun)), DEMUX_STUN);
	assert_int_equal(udp_open(&path.local, &s.fd, &path.local), OK);
	for (int first = 0; first < 3; first++) {
		struct udp_msg msgs[3] = { { .path = path, .p = firsts[first], .len = 20 },
					   { .path = path, .p = esp, .len = 20 },
					   { .path = path, .p = stun, .len = 20 } };
		enum udp_fate fates[3];

		assert_int_equal(send_trains(&s, msgs, 3, fates), 3);
		assert_int_equal(take(g.fds[first ? 2 : 0], g.port, b, got, 4, 3, &trains), 3);
		assert_int_equal(trains, 1);
		for (int i = 0; i < 3; i++)
			assert_memory_equal(got[i].p, msgs[i].p, 20);
		release(got, 3);
	}
	(void)close(s.fd);
	group_close(&g);
	net_buffers_free(b);
}

static bool buffers_once(void *arg)
{
	struct net_buffers *b = net_buffers_new();

	(void)arg;
	net_buffers_free(b);
	return b != NULL;
}

static void memory_runs_out(void **state)
{
	(void)state;
	harness_alloc_ladder(buffers_once, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walk),        cmocka_unit_test(by_loopback),
		cmocka_unit_test(by_links),    cmocka_unit_test(longest),
		cmocka_unit_test(refused),     cmocka_unit_test(too_long),
		cmocka_unit_test(no_way),      cmocka_unit_test(joined),
		cmocka_unit_test(mixed_kinds), cmocka_unit_test(memory_runs_out),
	};

	return HARNESS_RUN(tests);
}
