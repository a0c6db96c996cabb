/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A TUN with its header for offloads and with several queues, as the kernel makes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rng.h"
#include "net/tun.h"
#include "net/udp.h"
#include "net/vnet.h"
#include "harness.h"

#define QUEUES 4
#define BULK 3000000

/* Two namespaces, each with a TUN; what comes out of one is put into the other by the test. */
struct end {
	int ns, fds[QUEUES];
	unsigned n, on;
	struct addr ip4, ip6;
};

static struct end a, b;
static uint8_t packet[VNET_PACKET_MAX];

static void need_privilege(void)
{
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
		print_message("# needs root and /dev/net/tun\n");
		skip();
	}
}

static void end_open(struct end *e, uint8_t last, unsigned n, unsigned offloads)
{
	struct tun_config cfg = { .name = "tietest4", .mtu = TUN_MTU, .n_queues = n, .offloads = offloads };
	uint8_t ip[16] = { 0xfd, 7, [15] = last };

	e->n = n;
	e->ip4 = addr_ip4(0x0a070000u + last, 0);
	e->ip6 = addr_of(SPAN_OF(ip), 0);
	assert_int_equal(netns_new(&e->ns), OK);
	assert_int_equal(tun_open(e->ns, &cfg, e->fds, &e->on), OK);
	for (int six = 0; six < 2; six++) {
		struct addr_prefix net = { .base = six ? e->ip6 : e->ip4, .len = six ? 64 : 24 };

		net.base.ip[six ? 15 : 3] = 0;
		assert_int_equal(tun_address(e->ns, cfg.name, six ? &e->ip6 : &e->ip4, true), OK);
		assert_int_equal(tun_route(e->ns, cfg.name, &net, NULL, 0, true), OK);
	}
}

static void end_close(struct end *e)
{
	for (unsigned i = 0; i < e->n; i++)
		(void)close(e->fds[i]);
	(void)close(e->ns);
}

/* All that the TUN has, into the other one, as it is. */
struct carried {
	unsigned packets, supers[8], marked; /* by gso_type; with NEEDS_CSUM */
	size_t longest;
};

static void carry(const struct end *from, const struct end *to, struct carried *c)
{
	struct vnet v;
	size_t len;

	for (unsigned q = 0; q < from->n; q++) {
		while ((len = vnet_read(from->fds[q], packet, sizeof(packet), &v)) > 0) {
			/* in slices, as packets that were merged are */
			size_t cut = len > 200 ? 101 : len / 2;
			struct span slices[3] = { span_of(packet, cut), span_of(packet + cut, 7),
						  span_of(packet + cut + 7, len - cut - 7) };

			c->packets++;
			c->supers[v.gso_type & 7]++;
			c->marked += v.flags & VNET_NEEDS_CSUM;
			if (len > c->longest)
				c->longest = len;
			if (v.gso_type)
				assert_true(v.gso_size > 0 && v.gso_size <= TUN_MTU);
			else
				assert_true(len <= TUN_MTU);
			assert_int_equal(vnet_write(to->fds[q % to->n], &v, slices, 3), OK);
		}
	}
}

static int socket_in(const struct end *e, int domain, int type)
{
	int fd;

	assert_int_equal(netns_socket(e->ns, domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, &fd), OK);
	return fd;
}

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 2654435761u >> 13);
}

/* A connection from a to b that carries BULK bytes each way. */
static void bulk(bool six, struct carried *c)
{
	struct addr to = six ? b.ip6 : b.ip4;
	int domain = six ? AF_INET6 : AF_INET, listener = socket_in(&b, domain, SOCK_STREAM), fds[2];
	struct sockaddr_storage ss;
	socklen_t slen = sizeof(ss);
	size_t out[2] = { 0 }, in[2] = { 0 };

	fds[0] = socket_in(&a, domain, SOCK_STREAM);
	fds[1] = -1;
	/* a new IPv6 address is ready in the kernel's own time */
	for (int i = 0; i < 100 && bind(listener, (struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)) < 0; i++)
		(void)usleep(20000);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&ss, &slen), 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&ss, slen), -1);
	assert_int_equal(errno, EINPROGRESS);
	for (int rounds = 0; in[0] < BULK || in[1] < BULK; rounds++) {
		static uint8_t bytes[100000];

		/* what the kernel waits for (an address that is being looked at, a lost segment) takes its own time */
		assert_true(rounds < 600000);
		if (rounds % 16 == 15)
			(void)usleep(200);
		carry(&a, &b, c);
		carry(&b, &a, c);
		if (fds[1] < 0)
			fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		for (int i = 0; i < 2 && fds[1] >= 0; i++) {
			size_t left = BULK - out[i] < sizeof(bytes) ? BULK - out[i] : sizeof(bytes);
			ssize_t n;

			for (size_t k = 0; k < left; k++)
				bytes[k] = pattern(out[i] + k);
			n = left ? send(fds[i], bytes, left, MSG_NOSIGNAL) : 0;
			out[i] += n > 0 ? (size_t)n : 0;
			n = recv(fds[i], bytes, sizeof(bytes), 0);
			for (ssize_t k = 0; k < n; k++)
				if (bytes[k] != pattern(in[i]++))
					fail_msg("byte %zu is wrong", in[i] - 1);
		}
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)close(listener);
}

static void tcp(void **state)
{
	(void)state;
	need_privilege();
	for (int six = 0; six < 2; six++) {
		struct carried c = { 0 };

		end_open(&a, 1, 1, TUN_OFFLOAD_ALL);
		end_open(&b, 2, 1, TUN_OFFLOAD_ALL);
		print_message("# offloads: %x\n", a.on);
		assert_true(a.on & TUN_OFFLOAD_TSO);
		bulk(six, &c);
		print_message("# %u packets, %u super-packets, the longest of %zu\n", c.packets,
			      c.supers[six ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4], c.longest);
		assert_true(c.supers[six ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4] > 20);
		assert_int_equal(c.supers[six ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6], 0);
		assert_true(c.longest > 20000 && c.longest < VNET_PACKET_MAX);
		assert_true(c.marked > 20);
		end_close(&a);
		end_close(&b);
	}
}

/* With none, every packet is whole: nothing is said of it, and its checksums are there. */
static void tcp_without(void **state)
{
	static const unsigned wanted[] = { 0, TUN_OFFLOAD_CSUM };

	(void)state;
	need_privilege();
	for (int i = 0; i < 4; i++) {
		struct carried c = { 0 };

		end_open(&a, 1, 1, wanted[i / 2]);
		end_open(&b, 2, 1, wanted[i / 2]);
		assert_int_equal(a.on, wanted[i / 2]);
		bulk(i & 1, &c);
		assert_int_equal(c.supers[0], c.packets);
		assert_true(c.longest <= TUN_MTU);
		assert_int_equal(c.marked > 0, i / 2);
		end_close(&a);
		end_close(&b);
	}
}

static void tcp_by_queues(void **state)
{
	(void)state;
	need_privilege();
	for (int six = 0; six < 2; six++) {
		struct carried c = { 0 };

		end_open(&a, 1, QUEUES, TUN_OFFLOAD_ALL);
		end_open(&b, 2, 2, TUN_OFFLOAD_ALL);
		bulk(six, &c);
		end_close(&a);
		end_close(&b);
	}
}

/* ---- UDP: trains in both directions ---- */

static uint32_t sum(const uint8_t *p, size_t len, uint32_t from)
{
	for (size_t i = 0; i < len; i++)
		from += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (from >> 16)
		from = (from & 0xffff) + (from >> 16);
	return from;
}

/* The next packet of UDP; others are passed over. */
static size_t read_udp(const struct end *e, struct vnet *v)
{
	for (int i = 0; i < 50; i++) {
		struct pollfd p = { .fd = e->fds[0], .events = POLLIN };
		size_t len;

		if (poll(&p, 1, 2000) != 1)
			break;
		len = vnet_read(e->fds[0], packet, sizeof(packet), v);
		if (len && packet[packet[0] >> 4 == 6 ? 6 : 9] == IPPROTO_UDP)
			return len;
	}
	fail_msg("no datagram");
	return 0;
}

static void udp_trains(void **state)
{
	static uint8_t bytes[10 * 500 - 77];

	(void)state;
	need_privilege();
	end_open(&a, 1, 1, TUN_OFFLOAD_ALL);
	end_open(&b, 2, 1, TUN_OFFLOAD_ALL);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = pattern(i);
	for (int six = 0; six < 2; six++) {
		struct addr from = six ? a.ip6 : a.ip4, to = six ? b.ip6 : b.ip4;
		int domain = six ? AF_INET6 : AF_INET, size = 500;
		int fd = socket_in(&a, domain, SOCK_DGRAM), in = socket_in(&b, domain, SOCK_DGRAM);
		size_t head = six ? 48 : 28, len = 0, got = 0;
		struct sockaddr_storage ss;
		struct pollfd p = { .fd = in, .events = POLLIN };
		struct span slice;
		struct vnet v;

		from.port = 1000;
		to.port = 2000;
		for (int i = 0; i < 100 && bind(in, (struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)) < 0; i++)
			(void)usleep(20000);
		for (int i = 0; i < 100 && bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&from, &ss)) < 0; i++)
			(void)usleep(20000);
		(void)addr_to_sockaddr(&to, &ss);
		/* a single one: its checksum is to be finished, and says where */
		assert_int_equal(sendto(fd, bytes, 99, 0, (struct sockaddr *)&ss, sizeof(ss)), 99);
		len = read_udp(&a, &v);
		assert_int_equal(len, head + 99);
		assert_int_equal(v.gso_type, VNET_GSO_NONE);
		assert_int_equal(v.flags, VNET_NEEDS_CSUM);
		assert_int_equal(v.csum_start, head - 8);
		assert_int_equal(v.csum_offset, 6);
		/* it holds the sum of the pseudo-header: with the rest, all is 0xffff */
		put_be16(packet + head - 2, (uint16_t)~sum(packet + v.csum_start, len - v.csum_start, 0));
		assert_int_equal(sum(packet + (six ? 8 : 12), six ? 32 : 8,
				     sum(packet + v.csum_start, len - v.csum_start, 17 + 8 + 99)),
				 0xffff);
		/* finished, it is a packet like any other; the kernel's last doubt is about addresses */
		v = (struct vnet){ 0 };
		slice = span_of(packet, len);
		for (int i = 0; i < 100 && !(p.revents & POLLIN); i++) {
			assert_int_equal(vnet_write(b.fds[0], &v, &slice, 1), OK);
			(void)poll(&p, 1, 50);
		}
		while (recv(in, packet, sizeof(packet), 0) > 0 || poll(&p, 1, 50) == 1)
			;

		if (!(a.on & TUN_OFFLOAD_USO)) {
			print_message("# no trains of datagrams in this kernel\n");
			(void)close(fd);
			(void)close(in);
			continue;
		}
		/* a train comes as one packet, goes in as one, and is datagrams to the receiver */
		assert_int_equal(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
		assert_int_equal(sendto(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&ss, sizeof(ss)),
				 sizeof(bytes));
		len = read_udp(&a, &v);
		assert_int_equal(len, head + sizeof(bytes));
		assert_int_equal(v.gso_type, VNET_GSO_UDP_L4);
		assert_int_equal(v.gso_size, 500);
		slice = span_of(packet, len);
		assert_int_equal(vnet_write(b.fds[0], &v, &slice, 1), OK);
		for (int i = 0; i < 10; i++) {
			ssize_t n;

			assert_int_equal(poll(&p, 1, 2000), 1);
			n = recv(in, packet, sizeof(packet), 0);
			assert_int_equal(n, i < 9 ? 500 : 500 - 77);
			assert_memory_equal(packet, bytes + got, (size_t)n);
			got += (size_t)n;
		}
		assert_int_equal(recv(in, packet, sizeof(packet), 0), -1);
		(void)close(fd);
		(void)close(in);
	}
	end_close(&a);
	end_close(&b);
}

/* ---- queues ---- */

/* What a queue writes of a flow makes it the one that reads the answers. */
static void queues(void **state)
{
	struct sockaddr_storage ss;
	struct addr from, to;
	int fd;

	(void)state;
	need_privilege();
	end_open(&a, 1, QUEUES, TUN_OFFLOAD_CSUM);
	from = a.ip4;
	from.port = 1000;
	to = addr_ip4(0x0a070002, 2000);
	fd = socket_in(&a, AF_INET, SOCK_DGRAM);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&from, &ss)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)), 0);
	for (unsigned round = 0; round < 2 * QUEUES; round++) {
		unsigned q = round % QUEUES, found = QUEUES;
		const struct vnet whole = { 0 };
		uint8_t in[29] = { 0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17 };
		struct span slice = SPAN_OF(in);
		struct pollfd p = { .fd = fd, .events = POLLIN };
		struct vnet v;

		memcpy(in + 12, to.ip, 4);
		memcpy(in + 16, from.ip, 4);
		put_be16(in + 10, (uint16_t)~sum(in, 20, 0));
		put_be16(in + 20, to.port);
		put_be16(in + 22, from.port);
		put_be16(in + 24, 9); /* no checksum */
		assert_int_equal(vnet_write(a.fds[q], &whole, &slice, 1), OK);
		assert_int_equal(poll(&p, 1, 2000), 1);
		assert_int_equal(recv(fd, in, sizeof(in), 0), 1);
		assert_int_equal(send(fd, "xy", 2, 0), 2);
		for (unsigned k = 0; k < QUEUES; k++) {
			size_t len;

			while ((len = vnet_read(a.fds[k], packet, sizeof(packet), &v)) > 0)
				if (len == 30 && packet[0] == 0x45)
					found = k;
		}
		assert_int_equal(found, q);
	}
	(void)close(fd);
	end_close(&a);
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void bounds(void **state)
{
	struct tun_config cfg = { .name = "tietest4", .mtu = TUN_MTU, .n_queues = QUEUES };
	const struct vnet whole = { 0 }, odd = { .gso_type = 0x33 };
	uint8_t bytes[40] = { 0x45 };
	struct span slices[VNET_SLICES_MAX + 1];
	int fds[TUN_QUEUES_MAX];
	struct sockaddr_storage ss;
	struct addr to;
	unsigned on, before;
	struct vnet v;
	size_t len;
	int fd;

	(void)state;
	need_privilege();
	before = open_fds();
	end_open(&a, 1, QUEUES, TUN_OFFLOAD_ALL);
	/* several queues are no invitation to a further one */
	assert_int_equal(tun_open(a.ns, &cfg, fds, &on), ERR_WRONG_STATE);
	cfg.n_queues = 1;
	assert_int_equal(tun_open(a.ns, &cfg, fds, &on), ERR_WRONG_STATE);
	cfg.n_queues = TUN_QUEUES_MAX + 1;
	assert_int_equal(tun_open(a.ns, &cfg, fds, &on), ERR_LIMIT);
	cfg.name = "tietest5";
	cfg.n_queues = TUN_QUEUES_MAX;
	cfg.mtu = 70000; /* made and then refused: nothing is left of it */
	assert_int_not_equal(tun_open(a.ns, &cfg, fds, &on), OK);
	cfg.mtu = TUN_MTU;
	assert_int_equal(tun_open(a.ns, &cfg, fds, &on), OK);
	for (unsigned i = 0; i < TUN_QUEUES_MAX; i++) {
		assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		(void)close(fds[i]);
	}

	for (unsigned i = 0; i <= VNET_SLICES_MAX; i++)
		slices[i] = span_of(bytes + (i ? 20 : 0), i ? 0 : 20);
	assert_int_equal(vnet_write(a.fds[0], &whole, slices, 0), ERR_LIMIT);
	assert_int_equal(vnet_write(a.fds[0], &whole, slices, VNET_SLICES_MAX + 1), ERR_LIMIT);
	assert_int_equal(vnet_write(a.fds[0], &whole, slices, VNET_SLICES_MAX), OK);
	assert_int_equal(vnet_write(a.fds[0], &odd, slices, 1), ERR_SYSTEM);
	slices[0].len = 0;
	assert_int_not_equal(vnet_write(a.fds[0], &whole, slices, 1), OK);

	/* what is longer than the room for it is not taken for what it is not */
	to = addr_ip4(0x0a070002, 2000);
	fd = socket_in(&a, AF_INET, SOCK_DGRAM);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)), 0);
	for (unsigned k = 0; k < QUEUES; k++)
		while (vnet_read(a.fds[k], packet, sizeof(packet), &v) > 0)
			;
	assert_int_equal(send(fd, packet, 300, 0), 300);
	assert_int_equal(send(fd, packet, 171, 0), 171);
	assert_int_equal(send(fd, packet, 172, 0), 172);
	assert_int_equal(send(fd, packet, 80, 0), 80);
	for (unsigned k = 0, n = 0; k < QUEUES; k++) {
		while ((len = vnet_read(a.fds[k], packet, 200, &v)) > 0)
			assert_int_equal(len, n++ ? 28 + 80 : 28 + 171);
		assert_true(n == 0 || n == 2);
	}
	(void)close(fd);
	end_close(&a);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp),        cmocka_unit_test(tcp_without), cmocka_unit_test(tcp_by_queues),
		cmocka_unit_test(udp_trains), cmocka_unit_test(queues),      cmocka_unit_test(bounds),
	};

	return HARNESS_RUN(tests);
}
