/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rng.h"
#include "net/raw.h"
#include "harness.h"
#include "net_local.h"

#define N_DATA 3

static void close_all(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)close(fds[i]);
}

/* Waits for one datagram on any of the sockets; returns which. */
static unsigned recv_any(int *fds, unsigned n, uint16_t port, struct udp_buffers *b, struct udp_msg *msgs)
{
	struct pollfd p[8];

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	assert_int_equal(poll(p, n, 5000), 1);
	for (unsigned i = 0; i < n; i++) {
		if (p[i].revents) {
			assert_int_equal(udp_recv(fds[i], port, b, msgs), 1);
			return i;
		}
	}
	return n;
}

static void split(enum addr_family family)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 7);
	struct udp_buffers *b = udp_buffers_new();
	struct udp_msg msgs[UDP_BATCH];
	struct addr from = loopback(family, 0);
	struct path path = { .remote = loopback(family, 0) };
	int fds[N_DATA + 1], fd;
	uint16_t port;

	assert_non_null(b);
	assert_int_equal(udp_group_open(family, 0, N_DATA, fds, &port), OK);
	assert_int_not_equal(port, 0);
	assert_int_equal(udp_open(&from, &fd, &from), OK);
	path.remote.port = port;
	for (unsigned i = 0; i < 600; i++) {
		uint8_t bytes[40];
		size_t len = 1 + rng_below(&rng, sizeof(bytes) - 1);
		struct span d = span_of(bytes, len);
		struct demux_inside in = { .bytes = d };
		unsigned got, want;

		rng_fill(&rng, bytes, len);
		if (i % 3 == 0)
			bytes[0] |= 0xc0;
		if (i % 7 == 0)
			len = d.len = 1;
		if (i % 5 == 0 && len > 4) { /* ChannelData, most of it with ESP, some that says too much */
			put_be32(bytes, 0x40000000u | i << 16 | (uint32_t)(len - 4 + (i % 4 == 0)));
			bytes[4] |= 0xc0;
		}
		in.kind = demux_classify(d);
		if (in.kind == DEMUX_CHANNEL)
			(void)!demux_channel(d, &in);
		want = in.kind == DEMUX_ESP ? 1 + be32(in.bytes.p) % N_DATA : 0;
		path.tos = (uint8_t)(i * 37); /* DSCP and ECN, each value */
		/* in two parts, as a marker or a TURN header would be */
		assert_int_equal(udp_send(fd, &path, span_sub(d, 0, len / 2), span_from(d, len / 2)), OK);
		got = recv_any(fds, N_DATA + 1, port, b, msgs);
		assert_int_equal(got, want);
		assert_int_equal(msgs[0].len, len);
		assert_memory_equal(msgs[0].p, bytes, len);
		assert_true(addr_eq(&msgs[0].path.remote, &from));
		assert_true(addr_eq(&msgs[0].path.local, &path.remote));
		assert_int_equal(msgs[0].path.tos, path.tos);
		assert_int_equal(msgs[0].path.transport, TRANSPORT_UDP);
	}
	assert_int_equal(udp_recv(fds[0], port, b, msgs), 0);
	(void)close(fd);
	close_all(fds, N_DATA + 1);
	udp_buffers_free(b);
}

/* More than a link carries is refused, not cut; by the control socket it may be cut (IKE without fragments of its own). */
static void never_in_fragments(void **state)
{
	static const enum addr_family families[] = { ADDR_IP4, ADDR_IP6 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		bool v6 = families[i] == ADDR_IP6;
		struct path path = { .remote = loopback(families[i], 9) };
		int fds[2], value = -1;
		socklen_t len = sizeof(value);
		uint16_t port;
		static uint8_t big[65500];

		if (v6 && !have(ADDR_IP6))
			continue;
		assert_int_equal(udp_group_open(families[i], 0, 1, fds, &port), OK);
		assert_int_equal(getsockopt(fds[1], v6 ? IPPROTO_IPV6 : IPPROTO_IP,
					    v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &value, &len),
				 0);
		assert_int_equal(value, IP_PMTUDISC_PROBE); /* IPV6_PMTUDISC_PROBE is the same number */
		assert_int_equal(udp_send(fds[1], &path, SPAN_NONE, span_of(big, 1400)), OK);
		if (v6) { /* loopback carries 65536 bytes: nothing of IPv4 is longer */
			assert_int_equal(udp_send(fds[1], &path, SPAN_NONE, SPAN_OF(big)), ERR_LIMIT);
			assert_int_equal(udp_send(fds[0], &path, SPAN_NONE, SPAN_OF(big)), OK);
		}
		close_all(fds, 2);
	}
}

static void group_ip4(void **state)
{
	(void)state;
	split(ADDR_IP4);
}

static void group_ip6(void **state)
{
	(void)state;
	if (!have(ADDR_IP6))
		skip();
	split(ADDR_IP6);
}

/* Both families hold one port; each gets its own datagrams, in its own form. */
static void two_families_one_port(void **state)
{
	struct udp_buffers *b;
	struct udp_msg msgs[UDP_BATCH];
	int fds[4], fd4, fd6;
	struct addr from4 = loopback(ADDR_IP4, 0), from6 = loopback(ADDR_IP6, 0);
	struct path path = { .tos = 0 };
	uint16_t port = 0, port6 = 0;
	enum err e = ERR_WRONG_STATE;

	(void)state;
	if (!have(ADDR_IP6))
		skip();
	b = udp_buffers_new();
	assert_non_null(b);
	for (int i = 0; i < 20 && e != OK; i++) { /* the port may be another's in IPv6 */
		assert_int_equal(udp_group_open(ADDR_IP4, 0, 1, fds, &port), OK);
		e = udp_group_open(ADDR_IP6, port, 1, fds + 2, &port6);
		if (e != OK)
			close_all(fds, 2);
	}
	assert_int_equal(e, OK);
	assert_int_equal(port6, port);
	assert_int_equal(udp_open(&from4, &fd4, &from4), OK);
	assert_int_equal(udp_open(&from6, &fd6, &from6), OK);
	path.remote = loopback(ADDR_IP4, port);
	assert_int_equal(udp_send(fd4, &path, SPAN_NONE, SPAN_LIT("\xc0\0\0\0\0\0\0\0")), OK);
	assert_int_equal(recv_any(fds, 4, port, b, msgs), 1);
	assert_int_equal(msgs[0].path.remote.family, ADDR_IP4);
	path.remote = loopback(ADDR_IP6, port);
	assert_int_equal(udp_send(fd6, &path, SPAN_NONE, SPAN_LIT("\0\0\0\0")), OK);
	assert_int_equal(recv_any(fds, 4, port, b, msgs), 2);
	assert_int_equal(msgs[0].path.remote.family, ADDR_IP6);
	/* an IPv4 address cannot be reached through the IPv6 socket: V6ONLY */
	path.remote = loopback(ADDR_IP4, port);
	assert_int_not_equal(udp_send(fd6, &path, SPAN_NONE, SPAN_LIT("x")), OK);
	(void)close(fd4);
	(void)close(fd6);
	close_all(fds, 4);
	udp_buffers_free(b);
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* A port in use is an error that says so, also when the other one allows sharing; nothing is left open. */
static void port_in_use(void **state)
{
	int fds[N_DATA + 1], again[N_DATA + 1], fd, one = 1;
	struct sockaddr_storage ss;
	struct addr any = { .family = ADDR_IP4 };
	unsigned before = open_fds();
	socklen_t len = sizeof(ss);
	uint16_t port, other;

	(void)state;
	assert_int_equal(udp_group_open(ADDR_IP4, 0, N_DATA, fds, &port), OK);
	assert_int_equal(udp_group_open(ADDR_IP4, port, N_DATA, again, &other), ERR_WRONG_STATE);
	assert_int_equal(udp_group_open(ADDR_IP4, port, 0, again, &other), ERR_WRONG_STATE);
	close_all(fds, N_DATA + 1);
	assert_int_equal(udp_group_open(ADDR_IP4, port, N_DATA, fds, &other), OK);
	assert_int_equal(other, port);
	close_all(fds, N_DATA + 1);

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&any, &ss)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	any = addr_from_sockaddr(&ss);
	assert_int_equal(udp_group_open(ADDR_IP4, any.port, N_DATA, fds, &port), ERR_WRONG_STATE);
	(void)close(fd);
	assert_int_equal(udp_group_open(ADDR_NONE, 0, 1, fds, &port), ERR_UNSUPPORTED);
	assert_int_equal(open_fds(), before);
}

/* A data socket that was full says so with what comes after. */
static void overflows(void **state)
{
	static const uint8_t esp[1400] = { 0xc0, 0, 0, 1 };
	static uint8_t room[4][UDP_TRAIN_MAX];
	struct path path = { .remote = addr_ip4(0x7f000001, 0) };
	struct addr lo = addr_ip4(0x7f000001, 0), at;
	uint32_t lost = 0;
	int fds[2], from;

	(void)state;
	assert_int_equal(udp_group_open(ADDR_IP4, 0, 1, fds, &path.remote.port), OK);
	assert_int_equal(udp_open(&lo, &from, &at), OK);
	for (int round = 0; round < 2; round++) { /* what came before the first loss does not know of it */
		struct udp_msg got[4];

		for (int i = 0; i < 4000; i++)
			(void)!udp_send(from, &path, SPAN_NONE, SPAN_OF(esp));
		for (unsigned n; (n = udp_recv_trains(fds[1], path.remote.port, room, 4, got)) > 0;)
			lost = got[n - 1].lost;
	}
	assert_true(lost > 0);
	(void)close(from);
	close_all(fds, 2);
}

static void batches(void **state)
{
	struct udp_buffers *b = udp_buffers_new();
	struct udp_out msgs[UDP_BATCH];
	struct udp_msg in[UDP_BATCH];
	enum udp_fate fates[UDP_BATCH];
	struct udp_sender sender = { .fd = -1 };
	struct addr from = loopback(ADDR_IP4, 0), back;
	struct path path = { .remote = loopback(ADDR_IP4, 0) }, other;
	uint8_t bytes[UDP_BATCH], big[UDP_DATAGRAM_MAX + 1] = { 0 };
	unsigned n = 0, got = 0;
	uint16_t port;
	int fd, group;

	(void)state;
	assert_non_null(b);
	assert_int_equal(udp_group_open(ADDR_IP4, 0, 0, &group, &port), OK);
	assert_int_equal(udp_open(&from, &fd, &from), OK);
	path.remote.port = port;
	path.local = addr_ip4(0x7f000009, 0); /* the socket is bound to 127.0.0.1; this asks for another */
	for (; n < UDP_BATCH; n++) {
		bytes[n] = (uint8_t)n;
		msgs[n] = (struct udp_out){ .path = &path, .p = &bytes[n], .len = 1, .tos = (uint8_t)(n & 1 ? 4 : 0) };
	}
	other = path;
	other.remote = loopback(ADDR_IP6, port); /* cannot leave, and holds nobody up */
	msgs[5].path = &other;
	sender.fd = fd;
	assert_int_equal(udp_send_trains(&sender, msgs, n, fates), UDP_BATCH - 1);
	assert_int_equal(fates[5], UDP_FAILED);
	while (got < UDP_BATCH - 1) {
		struct pollfd p = { .fd = group, .events = POLLIN };
		unsigned k;

		assert_int_equal(poll(&p, 1, 5000), 1);
		k = udp_recv(group, port, b, in);
		for (unsigned i = 0; i < k; i++, got++) {
			assert_int_equal(in[i].len, 1);
			assert_int_equal(in[i].p[0], got < 5 ? got : got + 1);
			assert_int_equal(in[i].path.tos, in[i].p[0] & 1 ? 4 : 0);
			assert_true(in[i].path.remote.ip[3] == 9);
		}
	}
	/* an answer leaves from the address that was asked: 127.0.0.9 is ours, too */
	path = (struct path){ .local = addr_ip4(0x7f000002, port), .remote = from };
	assert_int_equal(udp_send(group, &path, SPAN_NONE, SPAN_LIT("answer")), OK);
	assert_int_equal(recv_any(&fd, 1, from.port, b, in), 0);
	back = addr_ip4(0x7f000002, port);
	assert_true(addr_eq(&in[0].path.remote, &back));
	/* longer than we take: not handed up cut */
	path = (struct path){ .remote = loopback(ADDR_IP4, port) };
	assert_int_equal(udp_send(fd, &path, SPAN_NONE, SPAN_OF(big)), OK);
	assert_int_equal(udp_send(fd, &path, SPAN_NONE, SPAN_LIT("next")), OK);
	assert_int_equal(recv_any(&group, 1, port, b, in), 0);
	assert_true(span_eq_str(span_of(in[0].p, in[0].len), "next"));
	(void)close(fd);
	(void)close(group);
	udp_buffers_free(b);
}

/* ESP without UDP, on the loopback interface: what arrives is what was sent, without a header of IP. */
static void raw(void **state)
{
	static const uint8_t esp[] = { 0xc1, 2, 3, 4, 0, 0, 0, 1, 9, 9, 9, 9 };
	static uint8_t trains[4][UDP_TRAIN_MAX];
	struct udp_msg in[UDP_BATCH];

	(void)state;
	need_root();
	for (int six = 0; six < 2; six++) {
		enum addr_family family = six ? ADDR_IP6 : ADDR_IP4;
		struct addr lo = loopback(family, 0);
		struct path path = { .transport = TRANSPORT_ESP, .local = lo, .remote = lo };
		struct udp_out m[2] = { { .path = &path, .p = esp, .len = sizeof(esp), .tos = 2 },
					{ .path = &path, .p = esp, .len = sizeof(esp), .tos = 2 } };
		struct udp_sender sender = { .raw = true };
		enum udp_fate fates[2];
		struct pollfd p = { .events = POLLIN };
		unsigned n;

		assert_int_equal(raw_esp_open(family, &p.fd), OK);
		path.remote.port = 4500; /* of no use here */
		sender.fd = p.fd;
		assert_int_equal(udp_send_trains(&sender, m, 2, fates), 2);
		assert_int_equal(sender.n_refused, 0);
		assert_int_equal(poll(&p, 1, 5000), 1);
		n = raw_esp_recv(p.fd, trains, 4, in);
		assert_int_equal(n, 2);
		assert_true(span_eq(span_of(in[0].p, in[0].len), SPAN_OF(esp)));
		assert_int_equal(in[0].path.transport, TRANSPORT_ESP);
		assert_int_equal(in[0].path.tos, 2);
		assert_true(addr_eq(&in[0].path.remote, &lo) && addr_eq(&in[0].path.local, &lo));
		(void)close(p.fd);
	}
}

static void source(void **state)
{
	struct addr a, want = loopback(ADDR_IP4, 0), remote = addr_ip4(0x7f000005, 80);

	(void)state;
	assert_int_equal(udp_source_towards(&remote, &a), OK);
	assert_true(addr_eq(&a, &want));
	remote = (struct addr){ .family = ADDR_NONE };
	assert_int_equal(udp_source_towards(&remote, &a), ERR_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_in_fragments),
		cmocka_unit_test(group_ip4),
		cmocka_unit_test(group_ip6),
		cmocka_unit_test(two_families_one_port),
		cmocka_unit_test(port_in_use),
		cmocka_unit_test(overflows),
		cmocka_unit_test(batches),
		cmocka_unit_test(source),
		cmocka_unit_test(raw),
	};

	return HARNESS_RUN(tests);
}
