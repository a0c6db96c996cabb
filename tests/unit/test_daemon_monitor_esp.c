/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The monitor's requests about ESP in the kernel, each against the configuration; in a network namespace of the test's own. What
 * needs a kernel with ESP and nftables is run by tests/kernel/15-xfrm-stock.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/direction.h"
#include "net/xfrm.h"
#include "monitor_ask.h"

#define REST                                                                                                           \
	"interface = tietest3\n" ACCOUNT "[network lan]\nprefix = 10.3.0.0/24\npool = 10.77.0.0/29\n"                  \
	"[peer a@example.net]\naccept-prefix = 10.8.0.0/16, 2001:db8:8::/64\n"
#define HOST_YES "[daemon]\nhost = yes\n" REST
#define SPI 0xc0000003u /* leads to the last one of 2 */

static void need_esp(void)
{
	need_privilege();
	if (direction_available() != OK || xfrm_available(ADDR_IP4, XFRM_AES128_GCM) != OK) {
		print_message("# needs a kernel with ESP and nftables: tests/kernel has one\n");
		skip();
	}
}

static struct addr_prefix prefix(const char *text)
{
	struct addr_prefix p;

	assert_int_equal(addr_prefix_parse(span_str(text), &p), OK);
	return p;
}

static enum err bind_with(const char *text)
{
	struct monitor_request make = { .op = MONITOR_TUN, .n_data = 1 };
	struct monitor_request rq = { .op = MONITOR_BIND_GROUP, .family = 4, .n_data = 2, .add = 1 };
	struct monitor_reply reply;
	struct conf_error e;

	assert_int_equal(config_parse(file, span_str(text), &cfg, &e), OK);
	assert_int_equal(monitor_start(cfg, &mon, &mon_pid), OK);
	assert_int_equal(monitor_ask(mon, &make, &reply, &tun), OK);
	return ask(&rq);
}

/* We join 10.8.1.0/24 as 10.8.0.5, and somebody ours as 10.77.0.2. */
static void join(void)
{
	struct monitor_request rq = { .op = MONITOR_ASSIGNED, .add = 1, .peer = ip("10.8.0.5", 0) };

	assert_int_equal(ask(&rq), OK);
	rq = (struct monitor_request){ .op = MONITOR_NETWORK_ROUTE,
				       .add = 1,
				       .bits = 24,
				       .peer = ip("10.8.1.0", 0),
				       .source = ip("10.8.0.5", 0) };
	assert_int_equal(ask(&rq), OK);
	rq = (struct monitor_request){ .op = MONITOR_NETWORK_ROUTE, .add = 1, .bits = 32, .peer = ip("10.77.0.2", 0) };
	assert_int_equal(ask(&rq), OK);
}

static struct monitor_request policy(const char *server, const char *client, uint8_t action)
{
	struct monitor_request rq = { .op = MONITOR_ESP_POLICY };

	rq.esp.slot = 7;
	rq.esp.action = action;
	rq.esp.server = prefix(server);
	rq.esp.client = prefix(client);
	rq.esp.own = ip("192.0.2.1", 4500);
	rq.esp.peer = ip("192.0.2.2", 1024);
	return rq;
}

static struct monitor_request sa(bool inbound)
{
	struct monitor_request rq = policy("10.8.1.0/24", "10.8.0.5/32", 0);

	rq.op = MONITOR_ESP_ADD;
	rq.esp.inbound = inbound;
	rq.esp.spi = inbound ? SPI : 0x12345678;
	rq.esp.esn = 1;
	rq.esp.hard_packets = 1000;
	memset(rq.esp.key, 0x42, sizeof(rq.esp.key));
	return rq;
}

static void only_in_the_host(void **state)
{
	struct monitor_request rq;

	(void)state;
	need_privilege();
	assert_int_equal(bind_with("[daemon]\ninterface = tietest3\n" ACCOUNT), ERR_UNSUPPORTED);
	rq = policy("10.3.0.0/24", "10.77.0.2/32", ESP_KERNEL_BLOCK);
	assert_int_equal(ask(&rq), ERR_WRONG_STATE);
	rq = sa(true);
	assert_int_equal(ask(&rq), ERR_WRONG_STATE);
	rq.op = MONITOR_ESP_MOVE;
	assert_int_equal(ask(&rq), ERR_NOTFOUND);
	rq.op = MONITOR_ESP_COUNT;
	assert_int_equal(ask(&rq), ERR_NOTFOUND);
	/* the port is still to be had */
	rq = (struct monitor_request){ .op = MONITOR_BIND_GROUP, .family = 4, .n_data = 2 };
	assert_int_equal(ask(&rq), OK);
	end();
}

static void what_may_pass(void **state)
{
	static const struct {
		const char *server, *client;
		enum err before, after;
	} all[] = {
		{ "10.8.1.0/24", "10.8.0.5/32", ERR_DENIED, OK },
		{ "10.8.1.0/25", "10.8.0.5/32", ERR_DENIED, ERR_DENIED }, /* as it was joined, or not */
		{ "10.8.2.0/24", "10.8.0.5/32", ERR_DENIED, ERR_DENIED },
		{ "10.8.1.0/24", "10.8.0.6/32", ERR_DENIED, ERR_DENIED },
		{ "0.0.0.0/0", "10.8.0.5/32", ERR_DENIED, ERR_DENIED },
		{ "10.3.0.0/24", "10.77.0.2/32", ERR_DENIED, OK },
		{ "10.3.0.0/24", "10.77.0.3/32", ERR_DENIED, ERR_DENIED },
		{ "10.4.0.0/24", "10.77.0.2/32", ERR_DENIED, ERR_DENIED },
		{ "10.3.0.0/16", "10.77.0.2/32", ERR_DENIED, ERR_DENIED },
		{ "10.3.0.0/24", "10.77.0.0/29", ERR_MALFORMED, ERR_MALFORMED }, /* one client */
		{ "2001:db8:8::/64", "10.77.0.2/32", ERR_MALFORMED, ERR_MALFORMED },
	};
	struct monitor_request rq;

	(void)state;
	need_esp();
	assert_int_equal(bind_with(HOST_YES), OK);
	for (int joined = 0; joined < 2; joined++) {
		for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
			for (int pass = 0; pass < 2; pass++) {
				rq = policy(all[i].server, all[i].client, pass ? ESP_KERNEL_PASS : ESP_KERNEL_BLOCK);
				assert_int_equal(ask(&rq), joined ? all[i].after : all[i].before);
			}
		if (!joined)
			join();
	}
	/* in, out and, where it is our network, forward */
	assert_int_equal(shows("ip xfrm policy", "dir in "), 2);
	assert_int_equal(shows("ip xfrm policy", "dir out "), 2);
	assert_int_equal(shows("ip xfrm policy", "dir fwd "), 1);
	assert_int_equal(shows("ip xfrm policy", "action block"), 0);
	assert_int_equal(shows("nft list table inet tietest3", "drop"), 4);
	/* blocked, and gone */
	rq = policy("10.3.0.0/24", "10.77.0.2/32", ESP_KERNEL_BLOCK);
	assert_int_equal(ask(&rq), OK);
	assert_int_equal(shows("ip xfrm policy", "action block"), 3);
	rq.esp.slot = 8;
	assert_int_equal(ask(&rq), ERR_WRONG_STATE);
	rq.esp.slot = 7;
	rq.esp.action = ESP_KERNEL_GONE;
	assert_int_equal(ask(&rq), OK);
	assert_int_equal(ask(&rq), ERR_NOTFOUND);
	assert_int_equal(shows("ip xfrm policy", "dir"), 2);
	assert_int_equal(shows("nft list table inet tietest3", "drop"), 2);
	/* out of form */
	rq.esp.action = ESP_KERNEL_PASS + 1;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = policy("10.3.0.0/24", "10.77.0.2/32", ESP_KERNEL_PASS);
	rq.esp.slot = 0;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = policy("10.3.0.0/24", "10.77.0.2/32", ESP_KERNEL_PASS);
	rq.esp.own.port = 4501;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = policy("10.3.0.0/24", "10.77.0.2/32", ESP_KERNEL_PASS);
	rq.esp.peer.family = (enum addr_family)9;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = policy("10.3.0.0/24", "10.77.0.2/32", ESP_KERNEL_PASS);
	rq.esp.server.base.ip[3] = 1;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	end();
	assert_int_equal(shows("ip xfrm policy; ip xfrm state; nft list tables", "tietest3"), 0);
	assert_int_equal(shows("ip xfrm policy", "dir"), 0);
}

static void sas(void **state)
{
	struct monitor_request rq, pass = policy("10.8.1.0/24", "10.8.0.5/32", ESP_KERNEL_PASS);
	struct monitor_reply reply;
	struct xfrm_sa other = { .spi = 0xc0000009, .reqid = 7, .esn = true };

	(void)state;
	need_esp();
	assert_int_equal(bind_with(HOST_YES), OK);
	join();
	rq = sa(true);
	assert_int_equal(ask(&rq), ERR_DENIED); /* for nothing */
	assert_int_equal(ask(&pass), OK);
	for (int inbound = 0; inbound < 2; inbound++) {
		rq = sa(inbound);
		assert_int_equal(ask(&rq), OK);
		assert_int_equal(ask(&rq), ERR_WRONG_STATE);
	}
	assert_int_equal(shows("ip xfrm state", "proto esp"), 2);
	/* no SPI of a worker's, nor of somebody else's */
	rq.esp.spi = SPI + 1;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq.esp.spi = 0x40000003;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = sa(false);
	rq.esp.spi = 255;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = sa(false);
	rq.esp.own.port = 4501;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = sa(false);
	rq.esp.peer = ip("224.0.0.1", 1024);
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = sa(false);
	rq.esp.own = ip("2001:db8::1", 4500); /* no such group */
	rq.esp.peer = ip("2001:db8::2", 4500);
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = sa(false);
	rq.esp.aead = XFRM_N_AEADS;
	assert_int_equal(ask(&rq), ERR_MALFORMED);
	rq = sa(true);
	rq.esp.spi = SPI + 2;
	rq.esp.slot = 8;
	assert_int_equal(ask(&rq), ERR_DENIED);
	/* counted, moved, removed */
	for (int inbound = 0; inbound < 2; inbound++) {
		rq = sa(inbound);
		rq.op = MONITOR_ESP_COUNT;
		assert_int_equal(ask_for(&rq, &reply), OK);
		assert_int_equal(reply.packets + reply.bytes + reply.replayed + reply.not_authentic, 0);
		rq.op = MONITOR_ESP_MOVE;
		assert_int_equal(ask(&rq), ERR_MALFORMED); /* nowhere */
		rq.esp.new_own = ip("192.0.2.3", 4500);
		rq.esp.new_peer = ip("192.0.2.4", 1025);
		assert_int_equal(ask(&rq), OK);
		assert_int_equal(ask(&rq), ERR_NOTFOUND);
		rq.op = MONITOR_ESP_REMOVE;
		rq.esp.own = rq.esp.new_own;
		rq.esp.peer = rq.esp.new_peer;
		rq.esp.inbound = !inbound;
		assert_int_equal(ask(&rq), ERR_NOTFOUND);
		rq.esp.inbound = (uint8_t)inbound;
		assert_int_equal(ask(&rq), OK);
		assert_int_equal(ask(&rq), ERR_NOTFOUND);
	}
	assert_int_equal(shows("ip xfrm state", "proto esp"), 0);
	/* others have SAs, too */
	other.from = ip("192.0.2.2", 1024);
	other.to = ip("192.0.2.1", 4500);
	assert_int_equal(xfrm_sa_add(-1, &other), OK);
	rq = sa(true);
	rq.esp.spi = other.spi;
	for (uint32_t op = MONITOR_ESP_REMOVE; op <= MONITOR_ESP_COUNT; op++) {
		rq.op = op;
		assert_int_equal(ask(&rq), ERR_NOTFOUND);
	}
	end();
	assert_int_equal(shows("ip xfrm state", "proto esp"), 1);
}

/* What each action leaves in the kernel. */
static void actions(void **state)
{
	static const struct {
		uint8_t action;
		uint16_t mtu;
		unsigned blocked, out, templates, mtus;
	} all[] = {
		{ ESP_KERNEL_BLOCK, 0, 2, 1, 0, 0 },   { ESP_KERNEL_PASS, 1300, 0, 1, 2, 1 },
		{ ESP_KERNEL_HOLD, 1300, 1, 1, 1, 1 }, { ESP_KERNEL_IN, 1300, 0, 0, 1, 1 },
		{ ESP_KERNEL_IN, 1300, 0, 0, 1, 1 },   { ESP_KERNEL_PASS, 0, 0, 1, 2, 0 },
	};
	struct monitor_request rq;

	(void)state;
	need_esp();
	assert_int_equal(bind_with(HOST_YES), OK);
	join();
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		rq = policy("10.8.1.0/24", "10.8.0.5/32", all[i].action);
		rq.esp.mtu = all[i].mtu;
		assert_int_equal(ask(&rq), OK);
		assert_int_equal(shows("ip xfrm policy", "action block"), all[i].blocked);
		assert_int_equal(shows("ip xfrm policy", "dir out"), all[i].out);
		assert_int_equal(shows("ip xfrm policy", "tmpl"), all[i].templates);
		assert_int_equal(shows("ip route", "mtu 1300"), all[i].mtus);
		assert_int_equal(shows("nft list table inet tietest3", "established"), 2); /* in and out */
	}
	rq.esp.mtu = 1300;
	assert_int_equal(ask(&rq), OK);
	rq.esp.action = ESP_KERNEL_GONE;
	assert_int_equal(ask(&rq), OK);
	assert_int_equal(shows("ip xfrm policy", "dir"), 0);
	assert_int_equal(shows("ip route", "10.8.1.0/24"), 1);
	assert_int_equal(shows("ip route", "mtu"), 0);
	assert_int_equal(shows("nft list tables", "tietest3"), 0);
	end();
}

/* A network that was joined passes, with one SA, which is returned. */
static struct monitor_request one_passes(void)
{
	struct monitor_request rq, pass = policy("10.8.1.0/24", "10.8.0.5/32", ESP_KERNEL_PASS);

	need_esp();
	assert_int_equal(bind_with(HOST_YES), OK);
	join();
	assert_int_equal(ask(&pass), OK);
	rq = sa(true);
	assert_int_equal(ask(&rq), OK);
	return rq;
}

/* A limit has ended it: its place is free. */
static void ended_by_itself(void **state)
{
	struct monitor_request rq = one_passes();

	(void)state;
	assert_int_equal(shows("ip xfrm state flush", "error"), 0);
	rq.op = MONITOR_ESP_COUNT;
	assert_int_equal(ask(&rq), ERR_NOTFOUND);
	rq.op = MONITOR_ESP_ADD;
	assert_int_equal(ask(&rq), OK);
	rq.op = MONITOR_ESP_REMOVE;
	assert_int_equal(ask(&rq), OK);
	assert_int_equal(ask(&rq), ERR_NOTFOUND);
	end();
}

/* The configuration does not allow it any more: so it passes no more, whatever the engine says. */
static void allowed_no_more(void **state)
{
	static char path[] = "/tmp/tieline-test-XXXXXX";
	struct monitor_request rq, reload = { .op = MONITOR_RELOAD, .add = 1 };
	int fd;

	(void)state;
	need_esp();
	fd = mkstemp(path);
	assert_true(fd >= 0 && close(fd) == 0);
	file = path;
	save(path, HOST_YES);
	assert_int_equal(bind_with(HOST_YES), OK);
	join();
	rq = policy("10.8.1.0/24", "10.8.0.5/32", ESP_KERNEL_PASS);
	assert_int_equal(ask(&rq), OK);
	rq = policy("10.3.0.0/25", "10.77.0.2/32", ESP_KERNEL_PASS);
	assert_int_equal(ask(&rq), OK);
	assert_int_equal(ask(&reload), OK);
	assert_int_equal(shows("ip xfrm policy", "dir out"), 2);
	save(path, "[daemon]\nhost = yes\ninterface = tietest3\n" ACCOUNT
		   "[peer a@example.net]\naccept-prefix = 10.8.0.0/16\n");
	assert_int_equal(ask(&reload), OK);
	assert_int_equal(shows("ip xfrm policy", "dir out"), 1);
	assert_int_equal(shows("ip xfrm policy", "10.3.0.0/25"), 0);
	assert_int_equal(ask(&rq), ERR_DENIED);
	rq.esp.action = ESP_KERNEL_GONE;
	assert_int_equal(ask(&rq), ERR_NOTFOUND);
	end();
	file = "f";
	assert_int_equal(unlink(path), 0);
}

static void leftovers(void **state)
{
	int status;

	(void)state;
	(void)one_passes();
	assert_int_equal(kill(mon_pid, SIGKILL), 0);
	assert_int_equal(waitpid(mon_pid, &status, 0), mon_pid);
	(void)close(tun);
	(void)close(mon);
	config_free(cfg);
	assert_int_equal(shows("ip xfrm state", "proto esp"), 1);
	assert_int_equal(bind_with(HOST_YES), OK);
	assert_int_equal(shows("ip xfrm state; ip xfrm policy", "src"), 0);
	assert_int_equal(shows("nft list tables", "tietest3"), 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_in_the_host),
		cmocka_unit_test(what_may_pass),
		cmocka_unit_test(sas),
		cmocka_unit_test(actions),
		cmocka_unit_test(ended_by_itself),
		cmocka_unit_test(allowed_no_more),
		cmocka_unit_test(leftovers),
	};

	return HARNESS_RUN(tests);
}
