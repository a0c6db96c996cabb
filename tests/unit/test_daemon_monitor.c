/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/monitor.h"
#include "net/stream.h"
#include "net/udp.h"
#include "net/vnet.h"
#include "harness.h"

static struct cfg_peer peers[2] = {
	{ .aor = "sip:a@example.com" },
	{ .aor = "sip:b@example.com", .has_address = true },
};
static struct config cfg = {
	.interface = "tietest1",
	.peers = peers,
	.n_peers = 2,
	.n_services = 4,
	.services = { { .name = "web", .protocol = 6, .port = 8080 },
		      { .name = "dns", .protocol = 17, .port = 53 },
		      { .name = "local", .protocol = 6 },
		      { .name = "far", .protocol = 6, .port = 80, .has_target = true } },
};
static int mon = -1;
static pid_t mon_pid;

static void need_privilege(void)
{
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
		print_message("# needs root and /dev/net/tun\n");
		skip();
	}
}

static int start(void **state)
{
	(void)state;
	peers[1].address = addr_ip4(0x0a4d0002, 0);
	return monitor_start(&cfg, &mon, &mon_pid) == OK ? 0 : -1;
}

/* The monitor ends when our end is closed, whatever a test left. */
static int stop(void **state)
{
	int status = -1;

	(void)state;
	(void)close(mon);
	return waitpid(mon_pid, &status, 0) == mon_pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static enum err ask(const struct monitor_request *rq, int *fd)
{
	struct monitor_reply reply;
	int got = -1;
	enum err e = monitor_ask(mon, rq, &reply, &got);

	if (fd)
		*fd = got;
	else if (got >= 0)
		(void)close(got);
	assert_true(fd || got < 0);
	return e;
}

static struct monitor_request request(enum monitor_op op, const char *service, const char *spki)
{
	struct monitor_request rq;

	memset(&rq, 0, sizeof(rq));
	rq.op = op;
	if (service)
		memcpy(rq.service, service, strlen(service));
	if (spki) {
		rq.spki_len = (uint16_t)strlen(spki);
		memcpy(rq.spki, spki, rq.spki_len);
	}
	return rq;
}

static struct addr key_address(const char *spki)
{
	uint8_t ip[16];

	assert_int_equal(spki_address(span_str(spki), ip), OK);
	return addr_of(SPAN_OF(ip), 0);
}

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t len = sizeof(on);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len), 0);
	return on;
}

/* A packet of this transport protocol to this address comes out of one of the TUN's queues. */
static void expect_packet(const int tun[2], uint8_t protocol, const struct addr *to)
{
	uint8_t packet[2048];
	size_t at = to->family == ADDR_IP6 ? 24 : 16, len = addr_ip_len(to);

	for (int i = 0; i < 20; i++) {
		struct pollfd p[2] = { { .fd = tun[0], .events = POLLIN }, { .fd = tun[1], .events = POLLIN } };
		struct vnet v;

		assert_true(poll(p, 2, 5000) >= 1);
		assert_true(vnet_read(p[0].revents ? tun[0] : tun[1], packet, sizeof(packet), &v) > 20);
		if (packet[len == 16 ? 6 : 9] == protocol && memcmp(packet + at, to->ip, len) == 0)
			return;
	}
	fail_msg("no such packet");
}

static void inside(void **state)
{
	struct monitor_request rq = request(MONITOR_SELF_ADDRESS, NULL, "our key");
	struct addr self = key_address("our key"), peer = key_address("peer's key"), stock = peers[1].address;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct monitor_reply reply;
	int tun[2], fd, on;

	(void)state;
	need_privilege();
	/* the TUN, once; an address of ours only by its key */
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE);
	rq = request(MONITOR_TUN, NULL, NULL);
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED); /* no queues */
	rq.n_data = MONITOR_DATA_MAX + 1;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq.n_data = 2;
	rq.index = 2;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq.index = 1;
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE); /* not made yet */
	rq.index = 0;
	rq.offloads = 0xf0; /* none that we know */
	assert_int_equal(monitor_ask(mon, &rq, &reply, &tun[0]), OK);
	assert_int_equal(reply.offloads, 0);
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE);
	rq.index = 1;
	rq.n_data = 3;
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE); /* of another number */
	rq.n_data = 2;
	assert_int_equal(ask(&rq, &tun[1]), OK);
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE); /* given */
	rq = request(MONITOR_SELF_ADDRESS, NULL, NULL);
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq.spki_len = sizeof(rq.spki) + 1;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq = request(MONITOR_SELF_ADDRESS, NULL, "our key");
	assert_int_equal(ask(&rq, NULL), OK);
	assert_int_equal(ask(&rq, NULL), OK);

	/* listening: a configured service on an address of ours */
	rq = request(MONITOR_LISTEN, "web", NULL);
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	rq.peer = peer;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	rq.peer = self;
	rq.port = 22; /* not asked for: the configuration's counts */
	assert_int_equal(ask(&rq, &fd), OK);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	self.port = 8080;
	peer = addr_from_sockaddr(&ss);
	assert_true(addr_eq(&peer, &self));
	assert_true(is_listening(fd));
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE);
	(void)close(fd);
	rq = request(MONITOR_LISTEN, "dns", NULL);
	rq.peer = self;
	assert_int_equal(ask(&rq, &fd), OK);
	assert_false(is_listening(fd));
	(void)close(fd);
	rq = request(MONITOR_LISTEN, "nosuch", NULL);
	rq.peer = self;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	memset(rq.service, 'a', sizeof(rq.service)); /* no end */
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);

	/* connecting: only to a peer with a route, which only a key or the configuration makes */
	peer = key_address("peer's key");
	rq = request(MONITOR_CONNECT, NULL, NULL);
	rq.peer = peer;
	rq.port = 5900;
	rq.protocol = 6;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	rq = request(MONITOR_PEER_ROUTE, NULL, NULL);
	rq.add = 1;
	rq.peer = peer;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	rq = request(MONITOR_PEER_ROUTE, NULL, "our key");
	rq.add = 1;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED); /* that is ourselves */
	rq = request(MONITOR_PEER_ROUTE, NULL, "peer's key");
	assert_int_equal(ask(&rq, NULL), ERR_NOTFOUND); /* nothing to remove */
	rq.add = 1;
	assert_int_equal(ask(&rq, NULL), OK);
	assert_int_equal(ask(&rq, NULL), OK);
	rq = request(MONITOR_SELF_ADDRESS, NULL, "peer's key");
	assert_int_equal(ask(&rq, NULL), ERR_DENIED); /* and that a peer */
	rq = request(MONITOR_CONNECT, NULL, NULL);
	rq.peer = peer;
	rq.protocol = 6;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq.port = 5900;
	rq.protocol = 1;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq.protocol = 6;
	assert_int_equal(ask(&rq, &fd), OK);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	expect_packet(tun, 6, &peer);
	(void)close(fd);
	rq.protocol = 17;
	assert_int_equal(ask(&rq, &fd), OK);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	expect_packet(tun, 17, &peer);
	(void)close(fd);
	rq = request(MONITOR_PEER_ROUTE, NULL, "peer's key");
	assert_int_equal(ask(&rq, NULL), OK);
	rq = request(MONITOR_CONNECT, NULL, NULL);
	rq.peer = peer;
	rq.port = 5900;
	rq.protocol = 6;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);

	/* a stock peer's address is the configuration's */
	rq = request(MONITOR_PEER_ROUTE, NULL, NULL);
	rq.add = 1;
	rq.peer = addr_ip4(0x0a4d0003, 0);
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	rq.peer = stock;
	assert_int_equal(ask(&rq, NULL), OK);
	rq.add = 0;
	assert_int_equal(ask(&rq, NULL), OK);

	/* its network is gone for our own sockets: nothing was changed outside */
	on = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(on, (struct sockaddr *)&ss, addr_to_sockaddr(&self, &ss)), -1);
	(void)close(on);
	(void)close(tun[0]);
	(void)close(tun[1]);
}

static void tunnel_port(void **state)
{
	struct monitor_request rq = request(MONITOR_BIND_GROUP, NULL, NULL);
	struct monitor_reply reply = { 0 };
	uint16_t port = 0;
	int fds[4];

	(void)state;
	rq.n_data = 2;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED); /* no family */
	rq.family = 4;
	rq.index = 1;
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE); /* not open yet */
	rq.index = 3;
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	for (uint8_t i = 0; i < 3; i++) {
		rq.index = i;
		assert_int_equal(monitor_ask(mon, &rq, &reply, &fds[i]), OK);
		assert_true(fds[i] >= 0);
		assert_true(i == 0 || port == reply.port);
		port = reply.port;
	}
	assert_int_not_equal(port, 0);
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE); /* given away */
	rq.index = 0;
	assert_int_equal(ask(&rq, NULL), ERR_WRONG_STATE);
	rq = request(MONITOR_BIND_GROUP, NULL, NULL);
	rq.family = 6;
	switch (monitor_ask(mon, &rq, &reply, &fds[3])) {
	case OK:
		assert_int_equal(reply.port, port); /* the same one */
		(void)close(fds[3]);
		break;
	default: break; /* no IPv6 here */
	}
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]);
}

/* Only where some peer may have ESP without UDP. The monitor reads `cfg` at its start. */
static void raw_esp(void **state)
{
	struct monitor_request rq = request(MONITOR_RAW_ESP, NULL, NULL);
	int fd, protocol = 0;
	socklen_t len = sizeof(protocol);

	need_privilege();
	assert_int_equal(ask(&rq, NULL), ERR_MALFORMED);
	rq.family = 4;
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	assert_int_equal(stop(state), 0);
	peers[1].plain_esp = true;
	assert_int_equal(start(state), 0);
	assert_int_equal(ask(&rq, &fd), OK);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len), 0);
	assert_int_equal(protocol, IPPROTO_ESP);
	(void)close(fd);
	peers[1].plain_esp = false;
}

static void out_of_form(void **state)
{
	struct monitor_request rq = request((enum monitor_op)99, NULL, NULL);
	struct monitor_reply reply = { 0 };
	uint8_t big[sizeof(rq) + 1] = { 0 };

	(void)state;
	assert_int_equal(ask(&rq, NULL), ERR_UNSUPPORTED);
	rq.op = 0;
	assert_int_equal(ask(&rq, NULL), ERR_UNSUPPORTED);
	assert_int_equal(send(mon, &rq, sizeof(rq) - 1, 0), sizeof(rq) - 1);
	assert_int_equal(recv(mon, &reply, sizeof(reply), 0), sizeof(reply));
	assert_int_equal(reply.err, ERR_MALFORMED);
	assert_int_equal(send(mon, big, sizeof(big), 0), sizeof(big));
	assert_int_equal(recv(mon, &reply, sizeof(reply), 0), sizeof(reply));
	assert_int_equal(reply.err, ERR_MALFORMED);
}

static void accepts(int listener, int fd)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	int got;

	assert_int_equal(poll(&p, 1, 5000), 1);
	got = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(got >= 0);
	(void)close(got);
	(void)close(fd);
}

static void service(void **state)
{
	struct monitor_request rq = request(MONITOR_SERVICE, "local", NULL);
	struct addr local = addr_ip4(0x7f000001, 0), local6 = { .family = ADDR_IP6, .ip = { [15] = 1 } };
	int listener, listener6, fd;
	uint16_t port;

	(void)state;
	/* the configuration is read before the monitor starts: choose the ports before */
	assert_int_equal(tcp_listen(&local, &listener, &local), OK);
	port = local6.port = local.port;
	assert_int_equal(stop(NULL), 0);
	cfg.services[2].port = port;
	cfg.services[3].target = local;
	assert_int_equal(start(NULL), 0);
	assert_int_equal(ask(&rq, &fd), OK);
	accepts(listener, fd);
	rq = request(MONITOR_SERVICE, "far", NULL);
	assert_int_equal(ask(&rq, &fd), OK);
	accepts(listener, fd);
	(void)close(listener);
	rq = request(MONITOR_SERVICE, "local", NULL);
	assert_int_equal(ask(&rq, NULL), ERR_NOTFOUND);
	rq = request(MONITOR_SERVICE, "nosuch", NULL);
	assert_int_equal(ask(&rq, NULL), ERR_DENIED);
	rq = request(MONITOR_SERVICE, "dns", NULL);
	assert_int_equal(ask(&rq, &fd), OK);
	(void)close(fd);
	if (tcp_listen(&local6, &listener6, &local6) == OK) {
		rq = request(MONITOR_SERVICE, "local", NULL);
		assert_int_equal(ask(&rq, &fd), OK); /* by IPv6 when IPv4 refuses */
		accepts(listener6, fd);
		(void)close(listener6);
	}
}

/* The engine is killed: the monitor goes, too. */
static void dies_with_the_engine(void **state)
{
	pid_t engine, monitor = 0;
	int pipe_fds[2], status;
	char hold;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* so that we see it end */
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	engine = fork();
	if (engine == 0) {
		pid_t pid;
		int fd;

		if (monitor_start(&cfg, &fd, &pid) != OK || write(pipe_fds[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		for (;;)
			(void)pause();
	}
	assert_int_equal(read(pipe_fds[0], &monitor, sizeof(monitor)), sizeof(monitor));
	assert_int_equal(kill(monitor, 0), 0);
	(void)close(pipe_fds[1]);
	assert_int_equal(kill(engine, SIGKILL), 0);
	assert_int_equal(waitpid(engine, &status, 0), engine);
	assert_int_equal(waitpid(monitor, &status, 0), monitor);
	assert_int_equal(read(pipe_fds[0], &hold, 1), 0);
	(void)close(pipe_fds[0]);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0), 0);
}

/* A signal from the terminal does not end it, and a lost one is noticed. */
static void signals(void **state)
{
	struct monitor_request rq = request((enum monitor_op)99, NULL, NULL);
	int status;

	(void)state;
	assert_int_equal(ask(&rq, NULL), ERR_UNSUPPORTED); /* it is in its loop */
	assert_int_equal(kill(mon_pid, SIGINT), 0);
	assert_int_equal(kill(mon_pid, SIGTERM), 0);
	assert_int_equal(ask(&rq, NULL), ERR_UNSUPPORTED);
	assert_int_equal(kill(mon_pid, SIGKILL), 0);
	assert_int_equal(waitpid(mon_pid, &status, 0), mon_pid);
	assert_int_equal(ask(&rq, NULL), ERR_SYSTEM);
	(void)close(mon);
	assert_int_equal(start(NULL), 0);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(inside),
		WITH(tunnel_port),
		WITH(raw_esp),
		WITH(out_of_form),
		WITH(service),
		WITH(signals),
		cmocka_unit_test(dies_with_the_engine),
	};

	return HARNESS_RUN(tests);
}
