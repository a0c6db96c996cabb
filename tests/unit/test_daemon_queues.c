/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A worker and a TUN of the kernel's: what the queues are for. While the worker waits for a processor, one peer is sent more than a
 * queue holds, over many ports, and then others a little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker.h"
#include "net/tun.h"
#include "harness.h"
#include "esp_pair.h"
#include "net_local.h"

#define TUN_NAME "tietest1"
#define FLOODED HOST_B
#define FIRST_OTHER 16
#define OTHERS 16
#define A_LITTLE 20
#define OUR_PORT 9000
#define THEIR_PORT 7000
#define PORTS 16 /* of the flooded one's */

static struct rng_seeded seed;
static struct rng rng;
static struct worker w;
static struct esp_plane *peers; /* all of them */
static struct addr at; /* our datagrams leave from here, and come back to here */
static int ns, local_fd;

static struct addr host(uint8_t last, uint16_t port)
{
	struct addr a = { .family = ADDR_IP6, .port = port };

	pkt_ip(a.ip, true, last);
	return a;
}

/* A call with that host, any UDP; its number is the host's. */
static void call(uint8_t last)
{
	struct esp_sa_config ours = pair_config_a(true), theirs;

	ours.spi_in = 0xc0000000u + last;
	ours.spi_out = 0xd0000000u + last;
	ours.call = last;
	ours.open = ESP_OPEN_BOTH;
	ours.n_peer = ours.n_local = 0;
	ours.ts_local[ours.n_local++] = pair_ts(true, HOST_A, HOST_A, ESP_PROTO_UDP, 0, UINT16_MAX);
	ours.ts_peer[ours.n_peer++] = pair_ts(true, last, last, ESP_PROTO_UDP, 0, UINT16_MAX);
	ours.path = (struct path){ .local = at, .remote = at };
	theirs = pair_mirror(&ours);
	assert_int_equal(esp_sa_add(w.plane, 0, &ours), OK);
	assert_int_equal(esp_sa_add(peers, 0, &theirs), OK);
}

/* One datagram of that host's, through the worker, into the TUN. */
static void from(uint8_t last, uint16_t port)
{
	struct pkt pk = pkt_udp(true, last, port, HOST_A, OUR_PORT, 100);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];

	assert_int_equal(esp_plane_output(peers, 0, &in, 1, out), 1);
	assert_int_equal(udp_send(w.udp_fd[0], out[0].path, SPAN_NONE, span_of(out[0].p, out[0].len)), OK);
	worker_net_in(&w, 0, 0);
}

static void to(uint8_t last, uint16_t port)
{
	struct addr a = host(last, port);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);

	assert_int_equal(sendto(local_fd, "some of it", 10, 0, (struct sockaddr *)&ss, len), 10);
}

static void begin(unsigned n_queues)
{
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = OTHERS + 1, .max_flows = 64 };
	struct tun_config tun = { .name = TUN_NAME, .mtu = TUN_MTU, .n_queues = n_queues };
	struct addr self = host(HOST_A, 0), lo = loopback(ADDR_IP4, 0);
	struct addr_prefix all = { .base = host(0, 0), .len = 64 };
	struct sockaddr_storage ss;
	unsigned on;

	rng = rng_seeded_init(&seed, 7);
	w = (struct worker){ .n_shards = 1,
			     .divisor = 1,
			     .n_queues = n_queues,
			     .tun_fd = { -1, -1, -1, -1 },
			     .udp_fd = { -1, -1 },
			     .raw_fd = { -1, -1 },
			     .tell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	assert_int_equal(esp_plane_new(&cfg, &w.plane), OK);
	assert_int_equal(esp_plane_new(&cfg, &peers), OK);
	assert_int_equal(udp_open(&lo, &w.udp_fd[0], &at), OK);
	w.port[0] = at.port;
	assert_int_equal(netns_new(&ns), OK);
	assert_int_equal(tun_open(ns, &tun, w.tun_fd, &on), OK);
	assert_int_equal(tun_address(ns, TUN_NAME, &self, true), OK);
	assert_int_equal(tun_route(ns, TUN_NAME, &all, NULL, 0, true), OK);
	assert_int_equal(netns_socket(ns, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0, &local_fd), OK);
	self.port = OUR_PORT;
	assert_int_equal(bind(local_fd, (struct sockaddr *)&ss, addr_to_sockaddr(&self, &ss)), 0);
	assert_int_equal(worker_init(&w), OK);
}

static void end(void)
{
	const int fds[] = { w.udp_fd[0], w.tell_fd, local_fd, ns };
	struct esp_plane *plane = w.plane;

	for (unsigned i = 0; i < w.n_queues; i++)
		(void)close(w.tun_fd[i]);
	worker_done(&w);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		(void)close(fds[i]);
	esp_plane_free(plane);
	esp_plane_free(peers);
}

/* How many of the others had all that was sent to them. */
static unsigned unharmed(unsigned n_queues)
{
	struct esp_counters c;
	unsigned n = 0;

	begin(n_queues);
	worker_enter(&w);
	call(FLOODED);
	for (uint16_t i = 0; i < PORTS; i++)
		from(FLOODED, THEIR_PORT + i);
	for (uint8_t k = 0; k < OTHERS; k++) {
		call(FIRST_OTHER + k);
		from(FIRST_OTHER + k, THEIR_PORT);
	}
	for (uint16_t i = 0; i < 8 * TUN_QUEUE_LEN; i++)
		to(FLOODED, THEIR_PORT + i % PORTS);
	for (int i = 0; i < A_LITTLE; i++)
		for (uint8_t k = 0; k < OTHERS; k++)
			to(FIRST_OTHER + k, THEIR_PORT);
	for (int round = 0; round < 8 * TUN_QUEUE_LEN / WORKER_READS; round++)
		for (unsigned q = 0; q < n_queues; q++)
			worker_tun_in(&w, 0, q, n_queues);
	assert_true(esp_call_counters(w.plane, FLOODED, &c));
	assert_in_range(c.packets_out, 1, TUN_QUEUE_LEN + 1);
	for (uint8_t k = 0; k < OTHERS; k++)
		n += esp_call_counters(w.plane, FIRST_OTHER + k, &c) && c.packets_out == A_LITTLE;
	worker_leave(&w);
	end();
	return n;
}

static void a_flood_to_one(void **state)
{
	unsigned n;

	(void)state;
	need_root();
	assert_int_equal(unharmed(1), 0);
	n = unharmed(WORKER_QUEUES);
	print_message("# %u of %d unharmed\n", n, OTHERS);
	assert_true(n >= OTHERS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_flood_to_one) };

	return HARNESS_RUN(tests);
}
