/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/monitor.h"
#include "daemon/relay.h"
#include "net/stream.h"
#include "net/udp.h"
#include "harness.h"

/* ---- a world of loopback: the "inside" and the services are sockets of this test ---- */

struct world {
	struct loop *loop;
	struct relays *relays;
	struct addr far; /* where CONNECT and SERVICE lead */
	int far_tcp, far_udp; /* bound there */
	struct addr inside; /* where LISTEN listens */
	unsigned call, max_sockets; /* of every peer */
	enum err refuse;
	struct monitor_request last;
	uint64_t due_us;
};

static struct world w;
static const struct cfg_service web = { .name = "web", .protocol = 6, .port = 80 };
static const struct cfg_service dns = { .name = "dns", .protocol = 17, .port = 53 };
static struct addr peer;

static int socket_to(const struct addr *to, int type)
{
	struct sockaddr_storage ss;
	unsigned len = addr_to_sockaddr(to, &ss);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&ss, len) < 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static enum err fake_open(void *arg, const struct monitor_request *rq, int *ret_fd)
{
	struct world *world = arg;
	bool udp = rq->protocol == 17 || strcmp(rq->service, "dns") == 0;
	struct addr local = addr_ip4(0x7f000001, 0);

	world->last = *rq;
	if (world->refuse != OK)
		return world->refuse;
	if (rq->op == MONITOR_LISTEN)
		return udp ? udp_open(&local, ret_fd, &world->inside) : tcp_listen(&local, ret_fd, &world->inside);
	*ret_fd = socket_to(&world->far, udp ? SOCK_DGRAM : SOCK_STREAM);
	return OK;
}

static unsigned call_of_peer(void *arg, const struct addr *from)
{
	assert_int_equal(from->family, ADDR_IP4);
	return ((struct world *)arg)->call;
}

static void tick(void *arg, uint64_t now_us)
{
	(void)now_us;
	loop_stop(((struct world *)arg)->loop);
}

static uint64_t deadline(void *arg)
{
	return ((struct world *)arg)->due_us;
}

static int start(void **state)
{
	struct relays_config cfg = { .monitor_fd = -1,
				     .max_sockets = w.max_sockets ? w.max_sockets : 64,
				     .call_of_peer = call_of_peer,
				     .open_socket = fake_open,
				     .arg = &w };
	struct loop_hooks hooks = { .tick = tick, .deadline = deadline, .arg = &w };
	struct addr any = addr_ip4(0x7f000001, 0);

	(void)state;
	memset(&w, 0, sizeof(w));
	w.call = 5;
	peer = addr_ip4(0x0a000002, 5900);
	assert_int_equal(loop_new(&w.loop), OK);
	loop_hooks_set(w.loop, &hooks);
	assert_int_equal(tcp_listen(&any, &w.far_tcp, &w.far), OK);
	assert_int_equal(udp_open(&w.far, &w.far_udp, &any), OK);
	cfg.loop = w.loop;
	assert_int_equal(relays_new(&cfg, &w.relays), OK);
	return 0;
}

static int start_small(void **state)
{
	w.max_sockets = 10;
	return start(state);
}

static int stop(void **state)
{
	(void)state;
	relays_free(w.relays);
	loop_free(w.loop);
	(void)close(w.far_tcp);
	(void)close(w.far_udp);
	w.max_sockets = 0;
	return 0;
}

/* Lets the loop run for a moment. */
static void step(void)
{
	w.due_us = loop_now_us(w.loop) + 500;
	assert_int_equal(loop_run(w.loop), OK);
}

#define EVENTUALLY(cond)                                                                                               \
	do {                                                                                                           \
		int i_ = 0;                                                                                            \
		while (!(cond)) {                                                                                      \
			if (++i_ > 5000)                                                                               \
				fail_msg("never: %s", #cond);                                                          \
			step();                                                                                        \
		}                                                                                                      \
	} while (0)

static int accept_far(void)
{
	int fd = -1;

	EVENTUALLY((fd = accept4(w.far_tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	return fd;
}

/* What comes next: bytes (at most cap), 0 the end, -1 with errno a broken connection. */
static ssize_t next(int fd, void *to, size_t cap)
{
	ssize_t n = -1;

	EVENTUALLY((n = recv(fd, to, cap, 0)) >= 0 || errno != EAGAIN);
	return n;
}

static void expect(int fd, const char *text)
{
	char got[64] = { 0 };

	assert_int_equal(next(fd, got, sizeof(got) - 1), strlen(text));
	assert_string_equal(got, text);
}

static void expect_reset(int fd)
{
	char byte;

	assert_int_equal(next(fd, &byte, 1), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static struct addr forward(unsigned call, uint32_t grant, uint8_t protocol, uint32_t uid)
{
	struct addr local;

	assert_int_equal(relays_forward(w.relays, call, grant, protocol, &peer, 0, uid, false, &local), OK);
	assert_true(addr_is_loopback(&local));
	assert_int_not_equal(local.port, 0);
	return local;
}

/* ---- TCP ---- */

static void forward_tcp(void **state)
{
	struct addr local = forward(5, 1, 6, getuid()), other;
	const struct relay_stats *stats = relays_stats(w.relays);
	int near, far;
	char byte;

	(void)state;
	assert_int_equal(relays_forward(w.relays, 5, 1, 6, &peer, 0, 0, true, &other), ERR_WRONG_STATE);
	assert_int_equal(relays_forward(w.relays, 5, 2, 6, &peer, local.port, 0, true, &other), ERR_WRONG_STATE);
	assert_int_equal(relays_forward(w.relays, 5, 2, 1, &peer, 0, 0, true, &other), ERR_UNSUPPORTED);
	near = socket_to(&local, SOCK_STREAM);
	say(near, "early"); /* before the far end is connected */
	far = accept_far();
	assert_int_equal(w.last.op, MONITOR_CONNECT);
	assert_int_equal(w.last.protocol, 6);
	assert_int_equal(w.last.port, 5900);
	assert_true(addr_eq(&w.last.peer, &peer));
	expect(far, "early");
	say(far, "hello");
	expect(near, "hello");
	assert_int_equal(stats->n_open, 1);
	/* one half ends, the other goes on */
	assert_int_equal(shutdown(near, SHUT_WR), 0);
	assert_int_equal(next(far, &byte, 1), 0);
	say(far, "answer");
	expect(near, "answer");
	(void)close(far);
	assert_int_equal(next(near, &byte, 1), 0);
	EVENTUALLY(stats->n_open == 0);
	assert_int_equal(stats->n_total, 1);
	assert_int_equal(stats->n_refused_user + stats->n_refused_target, 0);
	(void)close(near);
	relays_forward_close(w.relays, 5, 1);
	near = socket_to(&local, SOCK_STREAM);
	assert_int_equal(next(near, &byte, 1), -1);
	assert_int_equal(errno, ECONNREFUSED);
	(void)close(near);
}

static void reset_is_passed_on(void **state)
{
	struct addr local = forward(5, 1, 6, getuid());
	struct linger now = { 1, 0 };
	int near = socket_to(&local, SOCK_STREAM), far = accept_far();

	(void)state;
	say(near, "x");
	expect(far, "x");
	assert_int_equal(setsockopt(far, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	(void)close(far);
	expect_reset(near);
	(void)close(near);
}

static void other_user(void **state)
{
	struct addr local = forward(5, 1, 6, getuid() + 1), udp = forward(5, 2, 17, getuid() + 1);
	const struct relay_stats *stats = relays_stats(w.relays);
	int near = socket_to(&local, SOCK_STREAM), fd;

	(void)state;
	expect_reset(near);
	(void)close(near);
	assert_int_equal(stats->n_refused_user, 1);
	assert_int_equal(w.last.op, 0); /* nobody was asked for anything */
	fd = socket_to(&udp, SOCK_DGRAM);
	say(fd, "x");
	EVENTUALLY(stats->n_refused_user == 2);
	assert_int_equal(w.last.op, 0);
	(void)close(fd);
	/* any_user takes them all */
	assert_int_equal(relays_forward(w.relays, 5, 3, 6, &peer, 0, getuid() + 1, true, &local), OK);
	near = socket_to(&local, SOCK_STREAM);
	fd = accept_far();
	(void)close(fd);
	(void)close(near);
}

/* Nobody reads: the writer stops after the sockets' buffers and ours. Then all of it comes, in order. */
static void back_pressure(void **state)
{
	struct addr local = forward(5, 1, 6, getuid());
	int near = socket_to(&local, SOCK_STREAM), far = accept_far(), stuck = 0, small = 65536;
	size_t sent = 0, total = 64u << 20, got = 0;
	static uint8_t bytes[65536];

	(void)state;
	(void)setsockopt(near, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	while (sent < total && stuck < 20) {
		ssize_t n;

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)((sent + i) % 251);
		n = send(near, bytes, sizeof(bytes), MSG_NOSIGNAL);
		if (n < 0)
			step();
		stuck = n < 0 ? stuck + 1 : 0;
		sent += n > 0 ? (size_t)n : 0;
	}
	assert_true(sent < total);
	assert_int_equal(shutdown(near, SHUT_WR), 0);
	for (;;) {
		ssize_t n = next(far, bytes, sizeof(bytes));

		assert_true(n >= 0);
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++, got++)
			if (bytes[i] != (uint8_t)(got % 251))
				fail_msg("another byte at %zu", got);
	}
	assert_int_equal(got, sent);
	(void)close(far);
	(void)close(near);
}

static void target_refuses(void **state)
{
	struct addr local = forward(5, 1, 6, getuid()), gone;
	const struct relay_stats *stats = relays_stats(w.relays);
	int near, fd;

	(void)state;
	w.refuse = ERR_NOTFOUND;
	near = socket_to(&local, SOCK_STREAM);
	expect_reset(near);
	(void)close(near);
	assert_int_equal(stats->n_refused_target, 1);
	/* it is found out later: a port where nobody listens */
	w.refuse = OK;
	gone = addr_ip4(0x7f000001, 0);
	assert_int_equal(tcp_listen(&gone, &fd, &gone), OK);
	(void)close(fd);
	w.far = gone;
	near = socket_to(&local, SOCK_STREAM);
	expect_reset(near);
	(void)close(near);
	assert_int_equal(stats->n_refused_target, 2);
	assert_int_equal(stats->n_open, 0);
}

static void serve_tcp(void **state)
{
	struct addr self = addr_ip4(0x0a000001, 0);
	int near, far;
	char byte;

	(void)state;
	w.refuse = ERR_DENIED;
	assert_int_equal(relays_serve(w.relays, &self, &web), ERR_DENIED);
	w.refuse = OK;
	assert_int_equal(relays_serve(w.relays, &self, &web), OK);
	assert_int_equal(w.last.op, MONITOR_LISTEN);
	assert_string_equal(w.last.service, "web");
	assert_true(addr_eq(&w.last.peer, &self));
	near = socket_to(&w.inside, SOCK_STREAM);
	say(near, "ask");
	far = accept_far();
	assert_int_equal(w.last.op, MONITOR_SERVICE);
	assert_string_equal(w.last.service, "web");
	expect(far, "ask");
	say(far, "tell");
	expect(near, "tell");
	/* the end of the call is the end of its connections, at once and on both sides; the service goes on */
	relays_call_close(w.relays, 4);
	say(far, "still");
	expect(near, "still");
	relays_call_close(w.relays, 5);
	expect_reset(near);
	expect_reset(far);
	(void)close(near);
	(void)close(far);
	w.call = 0; /* an address of no call */
	near = socket_to(&w.inside, SOCK_STREAM);
	expect_reset(near);
	(void)close(near);
	w.call = 6;
	near = socket_to(&w.inside, SOCK_STREAM);
	far = accept_far();
	(void)close(near);
	assert_int_equal(next(far, &byte, 1), 0);
	(void)close(far);
}

static void call_close(void **state)
{
	struct addr a = forward(5, 1, 6, getuid()), b = forward(6, 1, 6, getuid());
	int near_a = socket_to(&a, SOCK_STREAM), far_a = accept_far();
	int near_b = socket_to(&b, SOCK_STREAM), far_b = accept_far();
	char byte;

	(void)state;
	relays_call_close(w.relays, 5);
	expect_reset(near_a);
	expect_reset(far_a);
	say(near_b, "b");
	expect(far_b, "b");
	(void)close(near_a);
	near_a = socket_to(&a, SOCK_STREAM);
	assert_int_equal(next(near_a, &byte, 1), -1);
	assert_int_equal(errno, ECONNREFUSED);
	relays_forward_close(w.relays, 6, 9); /* no such grant */
	say(near_b, "c");
	expect(far_b, "c");
	relays_forward_close(w.relays, 6, 1); /* a grant that ends takes its connections along */
	expect_reset(near_b);
	expect_reset(far_b);
	assert_int_equal(relays_stats(w.relays)->n_open, 0);
	(void)close(near_a);
	(void)close(far_a);
	(void)close(near_b);
	(void)close(far_b);
}

/* 10 sockets: two listeners and 8; one call may have 5, which is two connections. */
static void bounds(void **state)
{
	struct addr a = forward(5, 1, 6, getuid()), b = forward(6, 1, 6, getuid());
	int fds[4], refused;

	(void)state;
	for (int i = 0; i < 2; i++) {
		fds[2 * i] = socket_to(&a, SOCK_STREAM);
		fds[2 * i + 1] = accept_far();
	}
	refused = socket_to(&a, SOCK_STREAM);
	expect_reset(refused);
	(void)close(refused);
	refused = socket_to(&b, SOCK_STREAM); /* the other call has its share */
	(void)close(accept_far());
	(void)close(refused);
	for (int i = 0; i < 4; i++)
		(void)close(fds[i]);
	EVENTUALLY(relays_stats(w.relays)->n_open == 0);
}

/* ---- UDP ---- */

/* A datagram arrives at the far socket; returns who sent it. */
static struct addr expect_far(const char *text)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char got[64] = { 0 };
	ssize_t n = -1;

	EVENTUALLY((n = recvfrom(w.far_udp, got, sizeof(got) - 1, 0, (struct sockaddr *)&ss, &len)) >= 0);
	assert_int_equal(n, strlen(text));
	assert_string_equal(got, text);
	return addr_from_sockaddr(&ss);
}

static void tell(const struct addr *to, const char *text)
{
	struct sockaddr_storage ss;
	unsigned len = addr_to_sockaddr(to, &ss);

	assert_int_equal(sendto(w.far_udp, text, strlen(text), 0, (struct sockaddr *)&ss, len), strlen(text));
}

static void udp_both(const struct addr *local, enum monitor_op op)
{
	const struct relay_stats *stats = relays_stats(w.relays);
	int a = socket_to(local, SOCK_DGRAM), b = socket_to(local, SOCK_DGRAM);
	struct addr from_a, from_b, again;

	say(a, "from a");
	from_a = expect_far("from a");
	assert_int_equal(w.last.op, op);
	say(b, "from b");
	from_b = expect_far("from b");
	assert_false(addr_eq(&from_a, &from_b));
	tell(&from_b, "to b");
	tell(&from_a, "to a");
	expect(a, "to a");
	expect(b, "to b");
	say(a, "more");
	again = expect_far("more");
	assert_true(addr_eq(&again, &from_a)); /* the same session */
	assert_int_equal(stats->n_open, 2);
	relays_call_close(w.relays, 5);
	assert_int_equal(stats->n_open, 0);
	(void)close(a);
	(void)close(b);
}

static void forward_udp(void **state)
{
	struct addr local = forward(5, 1, 17, getuid());

	(void)state;
	udp_both(&local, MONITOR_CONNECT);
	assert_int_equal(w.last.protocol, 17);
}

/* A local port that another user takes over while its session lasts is of no use to him after a second. */
static void port_changes_hands(void **state)
{
	struct addr local = forward(5, 1, 17, getuid()), from;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint64_t until;
	int fd;

	(void)state;
	if (geteuid() != 0) {
		print_message("# needs root\n");
		skip();
	}
	fd = socket_to(&local, SOCK_DGRAM);
	say(fd, "mine");
	(void)expect_far("mine");
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	from = addr_from_sockaddr(&ss);
	(void)close(fd);
	assert_int_equal(seteuid(65534), 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&from, &ss)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, addr_to_sockaddr(&local, &ss)), 0);
	until = loop_now_us(w.loop) + 1100000;
	EVENTUALLY(loop_now_us(w.loop) > until);
	say(fd, "theirs");
	EVENTUALLY(relays_stats(w.relays)->n_refused_user == 1);
	assert_int_equal(relays_stats(w.relays)->n_open, 0);
	assert_int_equal(recv(w.far_udp, &ss, sizeof(ss), 0), -1);
	(void)close(fd);
}

static void serve_udp(void **state)
{
	struct addr self = addr_ip4(0x0a000001, 0);
	int a;

	(void)state;
	assert_int_equal(relays_serve(w.relays, &self, &dns), OK);
	udp_both(&w.inside, MONITOR_SERVICE);
	/* the listener outlives the call; an address of no call is not heard */
	w.call = 6;
	a = socket_to(&w.inside, SOCK_DGRAM);
	say(a, "next call");
	(void)expect_far("next call");
	(void)close(a);
	w.call = 0;
	a = socket_to(&w.inside, SOCK_DGRAM);
	say(a, "stranger");
	for (int i = 0; i < 20; i++)
		step();
	assert_int_equal(relays_stats(w.relays)->n_total, 3);
	(void)close(a);
}

/* One service of a call is taken back: what that call has open there is closed at both ends, and nothing else. */
static void service_close(void **state)
{
	struct addr self = addr_ip4(0x0a000001, 0), at_web, at_dns;
	int near[2], far[2], dns_near;

	(void)state;
	assert_int_equal(relays_serve(w.relays, &self, &web), OK);
	at_web = w.inside;
	assert_int_equal(relays_serve(w.relays, &self, &dns), OK);
	at_dns = w.inside;
	for (unsigned i = 0; i < 2; i++) {
		w.call = 5 + i;
		near[i] = socket_to(&at_web, SOCK_STREAM);
		far[i] = accept_far();
	}
	w.call = 5;
	dns_near = socket_to(&at_dns, SOCK_DGRAM);
	say(dns_near, "ask");
	(void)expect_far("ask");
	assert_int_equal(relays_stats(w.relays)->n_open, 3);
	relays_service_close(w.relays, 5, "web");
	expect_reset(near[0]);
	expect_reset(far[0]);
	say(near[1], "still");
	expect(far[1], "still");
	assert_int_equal(relays_stats(w.relays)->n_open, 2);
	relays_service_close(w.relays, 5, "dns");
	assert_int_equal(relays_stats(w.relays)->n_open, 1);
	for (unsigned i = 0; i < 2; i++) {
		(void)close(near[i]);
		(void)close(far[i]);
	}
	(void)close(dns_near);
}

static bool ladder(void *arg)
{
	struct relays_config cfg = {
		.loop = w.loop, .max_sockets = 16, .call_of_peer = call_of_peer, .open_socket = fake_open, .arg = &w
	};
	struct addr self = addr_ip4(0x0a000001, 0), local;
	struct relays *r = NULL;
	bool whole = relays_new(&cfg, &r) == OK && relays_serve(r, &self, &web) == OK &&
		     relays_forward(r, 5, 1, 6, &peer, 0, 0, true, &local) == OK &&
		     relays_forward(r, 5, 2, 17, &peer, 0, 0, true, &local) == OK;

	(void)arg;
	relays_free(r);
	return whole;
}

static void out_of_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(ladder, NULL);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(forward_tcp),    WITH(reset_is_passed_on),
		WITH(other_user),     WITH(back_pressure),
		WITH(target_refuses), WITH(serve_tcp),
		WITH(call_close),     cmocka_unit_test_setup_teardown(bounds, start_small, stop),
		WITH(forward_udp),    WITH(port_changes_hands),
		WITH(serve_udp),      WITH(service_close),
		WITH(out_of_memory),
	};

	return HARNESS_RUN(tests);
}
