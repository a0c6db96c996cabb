/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"
#include "net/tun.h"
#include "net/udp.h"
#include "net/vnet.h"
#include "harness.h"

static const char tun_name[] = "tietest0";

/* Namespaces and TUNs take root and /dev/net/tun. */
static void need_privilege(void)
{
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
		print_message("# needs root and /dev/net/tun\n");
		skip();
	}
}

static struct addr ip6_of(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_ip(span_str(text), &a), OK);
	return a;
}

/* The next packet from the TUN of this version and protocol; others (multicast listener reports) are passed over. */
static size_t read_packet(int tun, uint8_t version, uint8_t protocol, uint8_t *to, size_t cap)
{
	for (int i = 0; i < 20; i++) {
		struct pollfd p = { .fd = tun, .events = POLLIN };
		struct vnet v;
		size_t n;

		assert_int_equal(poll(&p, 1, 5000), 1);
		n = vnet_read(tun, to, cap, &v);
		assert_true(n > 0);
		if (to[0] >> 4 == version && to[version == 6 ? 6 : 9] == protocol)
			return n;
	}
	fail_msg("no packet of the kind");
	return 0;
}

static uint16_t checksum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += be16(p + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void namespace_and_tun(void **state)
{
	struct addr self = ip6_of("fd00::1"), peer = ip6_of("fd00::2"), any6 = { .family = ADDR_IP6 };
	struct addr self4 = ip6_of("10.77.0.1"), peer4 = ip6_of("10.77.0.2");
	struct addr_prefix to = { .base = peer, .len = 128 }, to4 = { .base = peer4, .len = 32 };
	struct sockaddr_storage ss;
	struct tun_config cfg = { .name = tun_name, .mtu = TUN_MTU, .n_queues = 1 };
	const struct vnet whole = { 0 };
	uint8_t packet[2048], payload[] = "through";
	struct span slice;
	unsigned on = 99;
	struct udp_buffers *b;
	struct udp_msg msgs[UDP_BATCH];
	int ns, tun, again, fd;
	struct pollfd p;
	struct ifreq ifr = { 0 };
	size_t n;

	(void)state;
	need_privilege();
	b = udp_buffers_new();
	assert_non_null(b);
	assert_int_equal(netns_new(&ns), OK);
	assert_int_equal(tun_open(ns, &cfg, &tun, &on), OK);
	assert_int_equal(on, 0);
	assert_int_equal(if_nametoindex(tun_name), 0); /* not where we are */
	assert_int_equal(tun_open(ns, &cfg, &again, &on), ERR_WRONG_STATE);
	cfg.n_queues = 0;
	assert_int_equal(tun_open(ns, &cfg, &again, &on), ERR_LIMIT);
	cfg = (struct tun_config){ .name = "a name that is too long", .n_queues = 1 };
	assert_int_equal(tun_open(ns, &cfg, &again, &on), ERR_LIMIT);
	assert_int_equal(tun_address(ns, tun_name, &self, true), OK);
	assert_int_equal(tun_address(ns, tun_name, &self, true), OK);
	assert_int_equal(tun_address(ns, "nosuch", &self, true), ERR_NOTFOUND);

	/* a socket of the namespace has no way out before the route, and one after it */
	assert_int_equal(netns_socket(ns, AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, &fd), OK);
	memcpy(ifr.ifr_name, tun_name, sizeof(tun_name));
	assert_int_equal(ioctl(fd, SIOCGIFMTU, &ifr), 0);
	assert_int_equal(ifr.ifr_mtu, TUN_MTU);
	self.port = 5000;
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&self, &ss)), 0);
	peer.port = 6000;
	assert_int_equal(sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&ss, addr_to_sockaddr(&peer, &ss)),
			 -1);
	assert_int_equal(tun_route(ns, tun_name, &to, NULL, 0, true), OK);
	assert_int_equal(tun_route(ns, tun_name, &to, NULL, 0, true), OK);
	assert_int_equal(sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&ss, addr_to_sockaddr(&peer, &ss)),
			 sizeof(payload));
	n = read_packet(tun, 6, IPPROTO_UDP, packet, sizeof(packet));
	assert_int_equal(n, 40 + 8 + sizeof(payload));
	assert_memory_equal(packet + 8, self.ip, 16);
	assert_memory_equal(packet + 24, peer.ip, 16);
	assert_memory_equal(packet + 48, payload, sizeof(payload));

	/* turned round, it arrives at the socket: the sums of addresses and ports stay the same */
	memcpy(packet + 8, peer.ip, 16);
	memcpy(packet + 24, self.ip, 16);
	put_be16(packet + 40, 6000);
	put_be16(packet + 42, 5000);
	put_be16(packet + 46, 0);
	put_be16(packet + 46, checksum(packet + 8, n - 8, (uint32_t)(n - 40) + IPPROTO_UDP));
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	/* the kernel makes the local route of a new address in its own time: what comes before is dropped */
	slice = span_of(packet, n);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(vnet_write(tun, &whole, &slice, 1), OK);
		if (poll(&p, 1, 50) == 1)
			break;
	}
	assert_true(p.revents & POLLIN);
	assert_int_equal(udp_recv(fd, 5000, b, msgs), 1);
	assert_true(addr_eq(&msgs[0].path.remote, &peer));
	assert_int_equal(msgs[0].len, sizeof(payload));

	assert_int_equal(tun_route(ns, tun_name, &to, NULL, 0, false), OK);
	assert_int_equal(tun_route(ns, tun_name, &to, NULL, 0, false), ERR_NOTFOUND);
	assert_int_equal(sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&ss, addr_to_sockaddr(&peer, &ss)),
			 -1);
	(void)close(fd);

	/* IPv4 the same way */
	assert_int_equal(tun_address(ns, tun_name, &self4, true), OK);
	assert_int_equal(tun_route(ns, tun_name, &to4, NULL, 0, true), OK);
	assert_int_equal(netns_socket(ns, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, &fd), OK);
	peer4.port = 7;
	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&ss, addr_to_sockaddr(&peer4, &ss)), 1);
	n = read_packet(tun, 4, IPPROTO_UDP, packet, sizeof(packet));
	assert_memory_equal(packet + 12, self4.ip, 4);
	assert_memory_equal(packet + 16, peer4.ip, 4);
	(void)close(fd);

	/* our own sockets are not in there */
	assert_int_equal(udp_open(&any6, &fd, &any6), OK);
	(void)close(fd);
	(void)close(tun);
	(void)close(ns);
	udp_buffers_free(b);
}

/* Loopback of the namespace is up; nothing else is, and nothing outside can be reached. */
static void namespace_is_private(void **state)
{
	struct addr lo = addr_ip4(0x7f000001, 9), out = addr_ip4(0xc0000201, 9);
	struct sockaddr_storage ss;
	int ns, fd;

	(void)state;
	need_privilege();
	assert_int_equal(netns_new(&ns), OK);
	assert_int_equal(netns_socket(ns, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, &fd), OK);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&lo, &ss)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&out, &ss)), -1);
	(void)close(fd);
	(void)close(ns);
	assert_int_equal(netns_socket(ns, AF_INET, SOCK_DGRAM, 0, &fd), ERR_SYSTEM); /* closed: no namespace */
}

/* ---- whose socket ---- */

static struct addr name_of(int fd, bool peer)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (peer)
		assert_int_equal(getpeername(fd, (struct sockaddr *)&ss, &len), 0);
	else
		assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	return addr_from_sockaddr(&ss);
}

static void tcp_owner(const char *listen_at, bool mapped)
{
	struct addr local = ip6_of(listen_at), from, to;
	struct sockaddr_storage ss;
	int listener, client, accepted;
	uint32_t uid = 12345;

	if (tcp_listen(&local, &listener, &local) != OK)
		return; /* no IPv6 here */
	client = socket(mapped || local.family == ADDR_IP6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (mapped) {
		struct addr in6 = { .family = ADDR_IP6, .port = local.port };

		in6.ip[10] = in6.ip[11] = 0xff;
		memcpy(in6.ip + 12, local.ip, 4);
		assert_int_equal(connect(client, (struct sockaddr *)&ss, addr_to_sockaddr(&in6, &ss)), 0);
	} else {
		assert_int_equal(connect(client, (struct sockaddr *)&ss, addr_to_sockaddr(&local, &ss)), 0);
	}
	(void)fcntl(listener, F_SETFL, 0);
	accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	from = name_of(accepted, true);
	to = name_of(accepted, false);
	assert_int_equal(sock_owner(IPPROTO_TCP, &from, &to, &uid), OK);
	assert_int_equal(uid, getuid());
	/* a socket that is left by its process has no owner: not root, none */
	(void)close(client);
	assert_int_equal(sock_owner(IPPROTO_TCP, &from, &to, &uid), ERR_NOTFOUND);
	from.port = 1;
	assert_int_equal(sock_owner(IPPROTO_TCP, &from, &to, &uid), ERR_NOTFOUND);
	/* the listener is not the one that connected */
	assert_int_equal(sock_owner(IPPROTO_TCP, &to, &from, &uid), ERR_NOTFOUND);
	(void)close(accepted);
	(void)close(listener);
}

static void owner_tcp(void **state)
{
	(void)state;
	tcp_owner("127.0.0.1", false);
	tcp_owner("127.0.0.1", true);
	tcp_owner("::1", false);
}

static void owner_udp(void **state)
{
	struct addr server = addr_ip4(0x7f000001, 0), from, other = addr_ip4(0x7f000001, 4),
		    any6 = { .family = ADDR_IP6 };
	struct sockaddr_storage ss;
	int listener, fd, no = 0;
	uint32_t uid;

	(void)state;
	assert_int_equal(udp_open(&server, &listener, &server), OK);
	/* connected */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&server, &ss)), 0);
	from = name_of(fd, false);
	uid = 12345;
	assert_int_equal(sock_owner(IPPROTO_UDP, &from, &server, &uid), OK);
	assert_int_equal(uid, getuid());
	assert_int_equal(sock_owner(IPPROTO_UDP, &from, &other, &uid), ERR_NOTFOUND); /* connected elsewhere */
	(void)close(fd);
	assert_int_equal(sock_owner(IPPROTO_UDP, &from, &server, &uid), ERR_NOTFOUND);
	/* not connected, bound to any address */
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&ss, addr_to_sockaddr(&server, &ss)), 1);
	from.port = name_of(fd, false).port;
	uid = 12345;
	assert_int_equal(sock_owner(IPPROTO_UDP, &from, &server, &uid), OK);
	assert_int_equal(uid, getuid());
	(void)close(fd);
	/* an IPv6 socket that speaks IPv4 as well; and one that does not */
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)), 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&any6, &ss)), 0);
		from.port = name_of(fd, false).port;
		assert_int_equal(sock_owner(IPPROTO_UDP, &from, &server, &uid), OK);
		(void)close(fd);
		assert_int_equal(udp_open(&any6, &fd, &any6), OK);
		from.port = any6.port;
		assert_int_equal(sock_owner(IPPROTO_UDP, &from, &server, &uid), ERR_NOTFOUND);
		(void)close(fd);
	}
	assert_int_equal(sock_owner(1, &from, &server, &uid), ERR_UNSUPPORTED);
	(void)close(listener);
}

/* Two users share a UDP port by SO_REUSEADDR: then it is nobody's. */
static void owner_ambiguous(void **state)
{
	struct addr server = addr_ip4(0x7f000001, 9), wide = { .family = ADDR_IP4 }, narrow;
	struct sockaddr_storage ss;
	int mine, theirs, one = 1;
	uint32_t uid;

	(void)state;
	need_privilege();
	mine = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(mine, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(mine, (struct sockaddr *)&ss, addr_to_sockaddr(&wide, &ss)), 0);
	narrow = addr_ip4(0x7f000001, name_of(mine, false).port);
	assert_int_equal(seteuid(65534), 0);
	theirs = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(sock_owner(IPPROTO_UDP, &narrow, &server, &uid), OK);
	assert_int_equal(uid, 0);
	assert_int_equal(setsockopt(theirs, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(theirs, (struct sockaddr *)&ss, addr_to_sockaddr(&narrow, &ss)), 0);
	assert_int_equal(sock_owner(IPPROTO_UDP, &narrow, &server, &uid), ERR_DENIED);
	(void)close(mine);
	assert_int_equal(sock_owner(IPPROTO_UDP, &narrow, &server, &uid), OK);
	assert_int_equal(uid, 65534);
	(void)close(theirs);
}

/* ---- our addresses ---- */

static void addresses(void **state)
{
	struct addr a[32];
	unsigned n = 99, few;

	(void)state;
	assert_int_equal(local_addresses(NULL, a, 32, &n), OK);
	assert_true(n <= 32);
	for (unsigned i = 0; i < n; i++) {
		assert_int_not_equal(a[i].family, ADDR_NONE);
		assert_int_equal(a[i].port, 0);
		assert_false(addr_is_loopback(&a[i]) || addr_is_link_local(&a[i]) || addr_is_any(&a[i]));
	}
	assert_int_equal(local_addresses(NULL, a, 0, &few), OK);
	assert_int_equal(few, 0);
}

static void how_long(void **state)
{
	struct addr here = addr_ip4(0x7f000001, 9), six = { .family = ADDR_IP6, .ip = { [15] = 1 }, .port = 9 };
	struct addr nobodys = addr_ip4(0xc0000201, 0);
	unsigned mtu;

	(void)state;
	assert_int_equal(path_mtu(&here, &here, &mtu), OK);
	assert_in_range(mtu, 1500, 65536);
	assert_int_equal(path_mtu(&six, &six, &mtu), OK);
	assert_in_range(mtu, 1500, 65536);
	assert_int_equal(path_mtu(&nobodys, &here, &mtu), ERR_NOTFOUND);
	assert_int_equal(path_mtu(&here, &six, &mtu), ERR_UNSUPPORTED);
}

static void watch(void **state)
{
	struct pollfd p = { .events = POLLIN };

	(void)state;
	assert_int_equal(address_watch_open(&p.fd), OK);
	address_watch_drain(p.fd);
	assert_int_equal(poll(&p, 1, 0), 0);
	(void)close(p.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(namespace_and_tun), cmocka_unit_test(namespace_is_private),
		cmocka_unit_test(owner_tcp),         cmocka_unit_test(owner_udp),
		cmocka_unit_test(owner_ambiguous),   cmocka_unit_test(addresses),
		cmocka_unit_test(how_long),          cmocka_unit_test(watch),
	};

	return HARNESS_RUN(tests);
}
