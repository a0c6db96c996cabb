/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The monitor's requests about networks, each against the configuration; in a network namespace of the test's own, so that
 * host = yes changes nothing of this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/cert.h"
#include "monitor_ask.h"

#define HOST_YES                                                                                                       \
	"[daemon]\nhost = yes\ninterface = tietest2\n" ACCOUNT                                                         \
	"[network lan]\nprefix = 10.3.0.0/24\npool = 10.77.0.0/29\n[service game]\nlisten = udp/27015\n"               \
	"[peer a@example.net]\naccept-prefix = 10.8.0.0/16, 2001:db8:8::/64\n"
#define HOST_NO "[daemon]\ninterface = tietest2\n" ACCOUNT "[peer a@example.net]\n"

static enum err assigned(const char *text, bool add)
{
	struct monitor_request rq = { .op = MONITOR_ASSIGNED, .add = add, .peer = ip(text, 0) };

	return ask(&rq);
}

static enum err route(const char *prefix, const char *source, bool add)
{
	struct monitor_request rq = { .op = MONITOR_NETWORK_ROUTE, .add = add };
	struct addr_prefix p;

	assert_int_equal(addr_prefix_parse(span_str(prefix), &p), OK);
	rq.peer = p.base;
	rq.bits = p.len;
	if (source)
		rq.source = ip(source, 0);
	return ask(&rq);
}

static void begin(const char *text)
{
	struct monitor_request rq = { .op = MONITOR_TUN, .n_data = 1 };
	struct monitor_reply reply;
	struct conf_error e;

	need_privilege();
	assert_int_equal(config_parse(file, span_str(text), &cfg, &e), OK);
	assert_int_equal(monitor_start(cfg, &mon, &mon_pid), OK);
	assert_int_equal(assigned("10.8.0.5", true), ERR_WRONG_STATE);
	assert_int_equal(route("10.8.1.0/24", NULL, true), ERR_WRONG_STATE);
	assert_int_equal(monitor_ask(mon, &rq, &reply, &tun), OK);
	rq = (struct monitor_request){ .op = MONITOR_SELF_ADDRESS, .spki_len = 7 };
	memcpy(rq.spki, "our key", 7);
	assert_int_equal(ask(&rq), OK);
}

#define ROUTES "ip -4 route show proto 193; ip -6 route show proto 193"

static void in_the_host(void **state)
{
	(void)state;
	begin(HOST_YES);
	assert_true(shows(ROUTES, "unreachable 10.8.0.0/16"));
	assert_true(shows(ROUTES, "unreachable 2001:db8:8::/64"));
	assert_true(shows(ROUTES, "unreachable 10.77.0.0/29")); /* who has left it is nowhere */
	/* an address: accept-prefix lists it, or not */
	assert_int_equal(assigned("10.9.0.5", true), ERR_DENIED);
	assert_int_equal(assigned("10.77.0.1", true), ERR_DENIED); /* our own pool is not what others assign */
	assert_int_equal(assigned("127.0.0.1", true), ERR_DENIED);
	assert_int_equal(assigned("10.8.0.5", false), ERR_NOTFOUND);
	assert_int_equal(assigned("10.8.0.5", true), OK);
	assert_int_equal(assigned("10.8.0.5", true), OK);
	assert_true(shows("ip address show dev tietest2", "10.8.0.5/32"));
	/* a network: from an address of ours, and accepted */
	assert_int_equal(route("10.8.1.0/24", "10.8.0.6", true), ERR_DENIED);
	assert_int_equal(route("10.8.1.0/24", "2001:db8::1", true), ERR_DENIED);
	assert_int_equal(route("10.8.1.0/24", NULL, true), ERR_DENIED);
	assert_int_equal(route("10.9.0.0/24", "10.8.0.5", true), ERR_DENIED);
	assert_int_equal(route("10.0.0.0/8", "10.8.0.5", true), ERR_DENIED);
	assert_int_equal(route("0.0.0.0/0", "10.8.0.5", true), ERR_DENIED);
	assert_int_equal(route("10.8.1.0/24", "10.8.0.5", true), OK);
	assert_int_equal(route("10.8.1.0/24", "10.8.0.5", true), OK);
	assert_true(shows(ROUTES, "10.8.1.0/24 dev tietest2"));
	/* who joins our network: one address of its pool */
	assert_int_equal(route("10.77.0.0/29", NULL, true), ERR_DENIED);
	assert_int_equal(route("10.77.1.1/32", NULL, true), ERR_DENIED);
	assert_int_equal(route("10.77.0.2/32", NULL, true), OK);
	assert_true(shows(ROUTES, "10.77.0.2 dev tietest2"));
	/* another's route of the same prefix is left alone */
	assert_true(shows("ip link add d0 type veth peer name d1 && ip link set d1 up && ip link set d0 up && ip route "
			  "add 10.8.2.0/24 dev d0 metric 1024 && "
			  "ip route show 10.8.2.0/24",
			  "d0"));
	assert_int_equal(route("10.8.2.0/24", "10.8.0.5", true), ERR_WRONG_STATE);
	assert_true(shows("ip route show 10.8.2.0/24", "d0"));
	/* and back */
	assert_int_equal(route("10.77.0.2/32", NULL, false), OK);
	assert_int_equal(route("10.8.1.0/24", NULL, false), OK);
	assert_int_equal(route("10.8.1.0/24", NULL, false), ERR_NOTFOUND);
	assert_int_equal(assigned("10.8.0.5", false), OK);
	assert_false(shows("ip address show dev tietest2", "10.8.0.5"));
	assert_false(shows(ROUTES, "dev tietest2"));
	assert_true(shows(ROUTES, "unreachable 10.8.0.0/16"));
	assert_true(shows(ROUTES, "unreachable 10.77.0.0/29"));
	end();
	assert_false(shows(ROUTES, "unreachable"));
}

/* The peer's own address keeps its unreachable route when its call is over, and loses it at the end. */
static void peers(void **state)
{
	struct monitor_request rq = { .op = MONITOR_PEER_ROUTE, .add = 1, .spki_len = 8 };

	(void)state;
	begin(HOST_YES);
	memcpy(rq.spki, "his key.", 8);
	assert_int_equal(ask(&rq), OK);
	assert_true(shows("ip -6 route show dev tietest2", "fd"));
	rq.add = 0;
	assert_int_equal(ask(&rq), OK);
	assert_false(shows("ip -6 route show dev tietest2 proto 193", "fd"));
	assert_true(shows("ip -6 route show proto 193", "unreachable fd"));
	end();
	assert_false(shows("ip -6 route show proto 193", "unreachable"));
}

/* Whoever else can send to this machine under the peer's address is not the peer. */
static void by_the_tunnel_alone(void **state)
{
	struct monitor_request rq = { .op = MONITOR_LISTEN, .service = "game" },
			       to = { .op = MONITOR_CONNECT, .protocol = 17, .port = 53 };
	struct monitor_reply reply;
	char device[16];
	socklen_t len;
	int fds[2];

	(void)state;
	begin(HOST_YES);
	assert_int_equal(spki_address(SPAN_LIT("our key"), rq.peer.ip), OK);
	rq.peer.family = ADDR_IP6;
	assert_int_equal(assigned("10.8.0.5", true), OK);
	assert_int_equal(route("10.8.1.0/24", "10.8.0.5", true), OK);
	to.peer = ip("10.8.1.9", 0);
	assert_int_equal(monitor_ask(mon, &rq, &reply, &fds[0]), OK);
	assert_int_equal(monitor_ask(mon, &to, &reply, &fds[1]), OK);
	for (int i = 0; i < 2; i++) {
		len = sizeof(device);
		memset(device, 0, sizeof(device));
		assert_int_equal(getsockopt(fds[i], SOL_SOCKET, SO_BINDTODEVICE, device, &len), 0);
		assert_string_equal(device, "tietest2");
		(void)close(fds[i]);
	}
	end();
}

static void in_private(void **state)
{
	struct monitor_request rq = { .op = MONITOR_CONNECT, .protocol = 17, .port = 53, .peer = ip("192.0.2.9", 0) };

	(void)state;
	begin(HOST_NO);
	assert_int_equal(ask(&rq), ERR_DENIED);
	assert_int_equal(assigned("192.0.2.130", true), OK); /* whatever it is */
	assert_int_equal(assigned("224.0.0.1", true), ERR_DENIED);
	assert_int_equal(route("192.0.2.0/24", "192.0.2.130", true), OK);
	assert_int_equal(route("0.0.0.0/0", "192.0.2.130", true), ERR_DENIED);
	assert_int_equal(route("10.77.0.2/32", NULL, true), ERR_DENIED);
	assert_int_equal(ask(&rq), OK);
	assert_false(shows("ip address; ip route", "192.0.2"));
	end();
}

/* What the configuration does not allow any more goes, whether the engine asks for that or not. */
static void accepted_no_more(void **state)
{
	static char path[] = "/tmp/tieline-test-XXXXXX";
	struct monitor_request rq = { .op = MONITOR_RELOAD, .add = 1 };
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0 && close(fd) == 0);
	file = path;
	save(path, HOST_YES);
	begin(HOST_YES);
	assert_int_equal(assigned("10.8.0.5", true), OK);
	assert_int_equal(assigned("2001:db8:8::5", true), OK);
	assert_int_equal(route("10.8.1.0/24", "10.8.0.5", true), OK);
	assert_int_equal(route("2001:db8:8::/64", "2001:db8:8::5", true), OK);
	assert_int_equal(route("10.77.0.2/32", NULL, true), OK);
	assert_int_equal(ask(&rq), OK);
	assert_true(shows(ROUTES, "10.8.1.0/24 dev tietest2"));
	save(path, "[daemon]\nhost = yes\ninterface = tietest2\n" ACCOUNT
		   "[peer a@example.net]\naccept-prefix = 2001:db8:8::/64\n");
	assert_int_equal(ask(&rq), OK);
	assert_false(shows(ROUTES, "10.8.1.0/24"));
	assert_false(shows(ROUTES, "10.77.0.2"));
	assert_false(shows("ip address show dev tietest2", "10.8.0.5"));
	assert_true(shows("ip address show dev tietest2", "2001:db8:8::5"));
	assert_true(shows(ROUTES, "2001:db8:8::/64 dev tietest2"));
	assert_int_equal(route("10.8.1.0/24", NULL, false), ERR_NOTFOUND);
	assert_int_equal(assigned("10.8.0.5", false), ERR_NOTFOUND);
	end();
	file = "f";
	assert_int_equal(unlink(path), 0);
}

static void out_of_form(void **state)
{
	struct monitor_request rq = { .op = MONITOR_NETWORK_ROUTE, .add = 1, .bits = 24, .peer = ip("10.8.1.1", 0) };

	(void)state;
	begin(HOST_YES);
	assert_int_equal(ask(&rq), ERR_MALFORMED); /* host bits */
	rq.peer = ip("10.8.1.0", 0);
	rq.bits = 33;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq.bits = 24;
	rq.peer.ip[9] = 1; /* beyond an IPv4 address */
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq.peer = ip("10.8.1.0", 0);
	rq.source = (struct addr){ .family = (enum addr_family)7 };
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = (struct monitor_request){ .op = MONITOR_ASSIGNED, .add = 1 };
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq.peer.family = ADDR_IP6;
	memset(rq.peer.ip + 10, 0xff, 2); /* a mapped address */
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_the_host),         cmocka_unit_test(peers),
		cmocka_unit_test(by_the_tunnel_alone), cmocka_unit_test(in_private),
		cmocka_unit_test(accepted_no_more),    cmocka_unit_test(out_of_form),
	};

	return HARNESS_RUN(tests);
}
