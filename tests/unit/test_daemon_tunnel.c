/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two monitors, two namespaces, two sets of relays, and between the TUNs this test, which carries packets:
 *
 *   client - forward - [namespace a] - TUN = test = TUN - [namespace b] - relay - service
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/monitor.h"
#include "daemon/relay.h"
#include "net/stream.h"
#include "net/tun.h"
#include "net/udp.h"
#include "net/vnet.h"
#include "harness.h"

struct side {
	struct config cfg;
	struct relays *relays;
	struct loop_fd *watch;
	struct addr self;
	int mon, tun, other_tun;
	pid_t pid;
	uint64_t n_packets;
};

static struct side a, b;
static struct loop *loop;
static uint64_t due_us;

static struct addr ask(struct side *s, enum monitor_op op, const char *key, int *ret_fd)
{
	struct monitor_request rq;
	struct monitor_reply reply;
	uint8_t ip[16] = { 0 };
	int fd;

	memset(&rq, 0, sizeof(rq));
	rq.op = op;
	rq.add = 1;
	rq.n_data = 1; /* a TUN's queues */
	if (key) {
		rq.spki_len = (uint16_t)strlen(key);
		memcpy(rq.spki, key, rq.spki_len);
		assert_int_equal(spki_address(span_str(key), ip), OK);
	}
	assert_int_equal(monitor_ask(s->mon, &rq, &reply, &fd), OK);
	if (ret_fd)
		*ret_fd = fd;
	return addr_of(SPAN_OF(ip), 0);
}

static void carry(void *arg, int fd, int events)
{
	struct side *s = arg;
	uint8_t packet[2048];

	(void)events;
	for (int i = 0; i < 32; i++) {
		struct vnet v;
		size_t n = vnet_read(fd, packet, sizeof(packet), &v);
		struct span slice = span_of(packet, n);

		if (!n)
			return;
		assert_true(n <= TUN_MTU);
		/* or lost, as on any path */
		s->n_packets += vnet_write(s->other_tun, &v, &slice, 1) == OK;
	}
}

static unsigned call_of_peer(void *arg, const struct addr *from)
{
	(void)arg;
	return addr_ip_eq(from, &a.self) ? 3 : 0;
}

static void tick(void *arg, uint64_t now_us)
{
	(void)now_us;
	loop_stop(arg);
}

static uint64_t deadline(void *arg)
{
	(void)arg;
	return due_us;
}

static void side_start(struct side *s, const char *key, const char *peer_key)
{
	struct relays_config rc = { .loop = loop, .max_sockets = 16, .call_of_peer = call_of_peer };

	memcpy(s->cfg.interface, "tietest3", 9);
	assert_int_equal(monitor_start(&s->cfg, &s->mon, &s->pid), OK);
	(void)ask(s, MONITOR_TUN, NULL, &s->tun);
	s->self = ask(s, MONITOR_SELF_ADDRESS, key, NULL);
	(void)ask(s, MONITOR_PEER_ROUTE, peer_key, NULL);
	rc.monitor_fd = s->mon;
	assert_int_equal(relays_new(&rc, &s->relays), OK);
	assert_int_equal(loop_fd_add(loop, s->tun, LOOP_READ, carry, s, &s->watch), OK);
}

static void side_stop(struct side *s)
{
	int status;

	relays_free(s->relays);
	loop_fd_free(s->watch);
	(void)close(s->tun);
	(void)close(s->mon);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
}

static void step(void)
{
	due_us = loop_now_us(loop) + 500;
	assert_int_equal(loop_run(loop), OK);
}

#define EVENTUALLY(cond)                                                                                               \
	do {                                                                                                           \
		int i_ = 0;                                                                                            \
		while (!(cond)) {                                                                                      \
			if (++i_ > 10000)                                                                              \
				fail_msg("never: %s", #cond);                                                          \
			step();                                                                                        \
		}                                                                                                      \
	} while (0)

static int client(const struct addr *to, int type)
{
	struct sockaddr_storage ss;
	unsigned len = addr_to_sockaddr(to, &ss);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(connect(fd, (struct sockaddr *)&ss, len) == 0 || errno == EINPROGRESS);
	return fd;
}

static ssize_t next(int fd, void *to, size_t cap)
{
	ssize_t n;

	EVENTUALLY((n = recv(fd, to, cap, 0)) >= 0 || errno != EAGAIN);
	return n;
}

static void tcp_through(const struct addr *local, int listener)
{
	int near = client(local, SOCK_STREAM), far;
	size_t sent = 0, got = 0, total = 2u << 20;
	static uint8_t out[32768], in[32768];

	EVENTUALLY((far = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	while (got < total) {
		ssize_t n;

		if (sent < total) {
			for (size_t i = 0; i < sizeof(out); i++)
				out[i] = (uint8_t)((sent + i) % 253);
			n = send(near, out, total - sent < sizeof(out) ? total - sent : sizeof(out), MSG_NOSIGNAL);
			sent += n > 0 ? (size_t)n : 0;
		}
		step();
		n = recv(far, in, sizeof(in), 0);
		for (ssize_t i = 0; i < n; i++, got++)
			assert_int_equal(in[i], (uint8_t)(got % 253));
		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
	}
	assert_int_equal(shutdown(near, SHUT_WR), 0);
	assert_int_equal(next(far, in, sizeof(in)), 0);
	assert_int_equal(send(far, "thanks", 6, MSG_NOSIGNAL), 6);
	assert_int_equal(next(near, in, sizeof(in)), 6);
	/* the call's end on one side: the other side learns it by the reset, through the tunnel */
	relays_call_close(b.relays, 3);
	assert_int_equal(send(far, "x", 1, MSG_NOSIGNAL), -1); /* its reader has ended before: only writing tells */
	assert_int_equal(errno, EPIPE);
	assert_int_equal(next(near, in, sizeof(in)), -1);
	assert_int_equal(errno, ECONNRESET);
	(void)close(near);
	(void)close(far);
}

static void udp_through(const struct addr *local, int service)
{
	int near = client(local, SOCK_DGRAM);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	static uint8_t big[5000]; /* in fragments inside the tunnel */
	ssize_t n;

	assert_int_equal(send(near, big, sizeof(big), 0), sizeof(big));
	EVENTUALLY((n = recvfrom(service, big, sizeof(big), 0, (struct sockaddr *)&ss, &len)) >= 0);
	assert_int_equal(n, sizeof(big));
	assert_int_equal(sendto(service, "pong", 4, 0, (struct sockaddr *)&ss, len), 4);
	assert_int_equal(next(near, big, sizeof(big)), 4);
	assert_memory_equal(big, "pong", 4);
	(void)close(near);
}

static void from_user_to_service(void **state)
{
	struct addr web = addr_ip4(0x7f000001, 0), dns = web, peer, local, local_udp;
	struct loop_hooks hooks = { .tick = tick, .deadline = deadline };
	int listener, service;

	(void)state;
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
		print_message("# needs root and /dev/net/tun\n");
		skip();
	}
	assert_int_equal(tcp_listen(&web, &listener, &web), OK);
	assert_int_equal(udp_open(&dns, &service, &dns), OK);
	b.cfg.n_services = 2;
	b.cfg.services[0] = (struct cfg_service){ .name = "web", .protocol = 6, .port = 80 };
	b.cfg.services[1] = (struct cfg_service){ .name = "dns", .protocol = 17, .port = 53 };
	b.cfg.services[0].target = web;
	b.cfg.services[1].target = dns;
	b.cfg.services[0].has_target = b.cfg.services[1].has_target = true;
	assert_int_equal(loop_new(&loop), OK);
	hooks.arg = loop;
	loop_hooks_set(loop, &hooks);
	side_start(&a, "key of a", "key of b");
	side_start(&b, "key of b", "key of a");
	a.other_tun = b.tun;
	b.other_tun = a.tun;
	assert_int_equal(relays_serve(b.relays, &b.self, &b.cfg.services[0]), OK);
	assert_int_equal(relays_serve(b.relays, &b.self, &b.cfg.services[1]), OK);
	peer = b.self;
	peer.port = 80;
	assert_int_equal(relays_forward(a.relays, 9, 1, 6, &peer, 0, getuid(), false, &local), OK);
	peer.port = 53;
	assert_int_equal(relays_forward(a.relays, 9, 2, 17, &peer, 0, getuid(), false, &local_udp), OK);
	tcp_through(&local, listener);
	udp_through(&local_udp, service);
	assert_true(a.n_packets > 1000 && b.n_packets > 10); /* how often TCP acknowledges is the kernel's affair */
	/* a port that is no service: refused inside, by the kernel of b's namespace */
	peer.port = 22;
	assert_int_equal(relays_forward(a.relays, 9, 3, 6, &peer, 0, getuid(), false, &local), OK);
	service = dup2(client(&local, SOCK_STREAM), service);
	assert_int_equal(next(service, &local, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(relays_stats(a.relays)->n_refused_target, 1);
	side_stop(&a);
	side_stop(&b);
	loop_free(loop);
	(void)close(listener);
	(void)close(service);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(from_user_to_service) };

	return HARNESS_RUN(tests);
}
