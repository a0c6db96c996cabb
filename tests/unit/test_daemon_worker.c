/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two workers with their threads: what goes into one's TUN comes out of the other's. The TUNs are socket pairs, the network is the
 * loopback interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/timers.h"
#include "daemon/worker.h"
#include "esp/packet.h"
#include "esp/segment.h"
#include "harness.h"
#include "esp_pair.h"

#define WAIT_MS 10000
#define SUPER (60 + 40 * 1200)

static struct rng_seeded seed;
static struct rng rng;

struct end {
	struct esp_plane *plane;
	struct worker w;
	int tun; /* the kernel's end of it */
	struct addr at;
};
static struct end a, b;

static void end_open(struct end *e, unsigned shard, unsigned n)
{
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 8, .max_flows = 64 };
	struct addr lo = addr_ip4(0x7f000001, 0);
	int pair[2], room = 1 << 20;

	memset(e, 0, sizeof(*e));
	assert_int_equal(esp_plane_new(&cfg, &e->plane), OK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	e->tun = pair[0];
	e->w = (struct worker){ .shard = shard,
				.n_shards = n,
				.divisor = n,
				.plane = e->plane,
				.tun_fd = { pair[1], -1, -1, -1 },
				.n_queues = 1,
				.udp_fd = { -1, -1 },
				.raw_fd = { -1, -1 },
				.tell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	assert_int_equal(udp_open(&lo, &e->w.udp_fd[0], &e->at), OK);
	e->w.port[0] = e->at.port;
	assert_int_equal(worker_init(&e->w), OK);
}

static void end_close(struct end *e)
{
	int fds[] = { e->tun, e->w.tun_fd[0], e->w.udp_fd[0], e->w.tell_fd };

	worker_done(&e->w);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		(void)close(fds[i]);
	esp_plane_free(e->plane);
}

static void begin(unsigned shard, unsigned n)
{
	struct esp_sa_config ca = pair_config_a(true), cb;

	rng = rng_seeded_init(&seed, 7);
	end_open(&a, shard, n);
	end_open(&b, shard, n);
	ca.spi_in = 0xc0000000u - 0xc0000000u % 8 + shard;
	ca.spi_out = ca.spi_in + 8;
	cb = pair_mirror(&ca);
	ca.path = (struct path){ .local = a.at, .remote = b.at };
	cb.path = (struct path){ .local = b.at, .remote = a.at };
	assert_int_equal(esp_sa_add(a.plane, 0, &ca), OK);
	assert_int_equal(esp_sa_add(b.plane, 0, &cb), OK);
	assert_int_equal(worker_start(&a.w), OK);
	assert_int_equal(worker_start(&b.w), OK);
}

static void end_both(void)
{
	end_close(&a);
	end_close(&b);
}

static void into_tun(struct end *e, const struct vnet *v, const uint8_t *packet, size_t len)
{
	struct span s = span_of(packet, len);

	while (vnet_write(e->tun, v, &s, 1) != OK)
		(void)poll(&(struct pollfd){ .fd = e->tun, .events = POLLOUT }, 1, 10);
}

static size_t out_of_tun(struct end *e, struct vnet *v, uint8_t *packet, size_t cap)
{
	assert_int_equal(poll(&(struct pollfd){ .fd = e->tun, .events = POLLIN }, 1, WAIT_MS), 1);
	return vnet_read(e->tun, packet, cap, v);
}

static void single(struct end *from, struct end *to, struct pkt pk)
{
	uint8_t got[VNET_PACKET_MAX];
	struct vnet v = { .flags = 0 };
	size_t len;

	into_tun(from, &v, pk.b, pk.len);
	len = out_of_tun(to, &v, got, sizeof(got));
	assert_int_equal(len, pk.len);
	assert_memory_equal(got, pk.b, len);
}

static void open_flow(void)
{
	single(&a, &b, pkt_tcp(true, HOST_A, 40000, HOST_B, 5900, ESP_TCP_SYN));
	single(&b, &a, pkt_tcp(true, HOST_B, 5900, HOST_A, 40000, ESP_TCP_SYN | ESP_TCP_ACK));
	single(&a, &b, pkt_tcp(true, HOST_A, 40000, HOST_B, 5900, ESP_TCP_ACK));
}

/* A TCP super-packet; what its checksum field holds is the pseudo-header's sum. */
static size_t super_make(uint8_t *g, struct vnet *v, uint32_t seq)
{
	struct pkt pk = pkt_tcp(true, HOST_A, 40000, HOST_B, 5900, ESP_TCP_ACK);
	uint32_t sum = SUPER - 40 + 6;

	memcpy(g, pk.b, 60);
	put_be16(g + 4, SUPER - 40);
	put_be32(g + 44, seq);
	for (size_t i = 60; i < SUPER; i++)
		g[i] = (uint8_t)(i * 13 + seq);
	for (size_t i = 8; i < 40; i += 2)
		sum += be16(g + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put_be16(g + 56, (uint16_t)sum);
	*v = (struct vnet){ .flags = VNET_NEEDS_CSUM,
			    .gso_type = VNET_GSO_TCPV6,
			    .hdr_len = 60,
			    .gso_size = 1200,
			    .csum_start = 40,
			    .csum_offset = 16 };
	return SUPER;
}

/* The bytes of a stream arrive in their order, however they are merged; in how many writes of more than one packet. */
static unsigned stream(uint32_t first, uint32_t rounds)
{
	static uint8_t sent[SUPER], got[VNET_PACKET_MAX];
	unsigned merged = 0;

	for (uint32_t round = first; round < first + rounds; round++) {
		struct vnet v;
		size_t at = 60, len = super_make(sent, &v, round * (SUPER - 60));

		into_tun(&a, &v, sent, len);
		while (at < SUPER) {
			size_t n = out_of_tun(&b, &v, got, sizeof(got));

			assert_true(n > 60);
			assert_int_equal(be32(got + 44), round * (SUPER - 60) + (uint32_t)(at - 60));
			assert_memory_equal(got + 60, sent + at, n - 60);
			merged += v.gso_type == VNET_GSO_TCPV6;
			at += n - 60;
		}
		assert_int_equal(at, SUPER);
	}
	return merged;
}

static void a_stream_arrives(void **state)
{
	(void)state;
	begin(0, 1);
	open_flow();
	print_message("# %u writes of more than one packet\n", stream(0, 20));
	worker_enter(&a.w);
	assert_int_equal(esp_plane_counters(a.plane)->packets_out, 2 + 20 * 40);
	worker_leave(&a.w);
	end_both();
}

/* While packets go through, the engine's thread has the plane as often as it wants. */
static void the_engine_gets_in(void **state)
{
	static uint8_t sent[SUPER], got[VNET_PACKET_MAX];
	uint64_t n = 0;
	struct vnet v;

	(void)state;
	begin(0, 1);
	open_flow();
	for (uint32_t i = 0; i < 300; i++) {
		size_t len = super_make(sent, &v, i * (SUPER - 60));

		(void)!vnet_write(a.tun, &v, &(struct span){ sent, len }, 1);
		worker_enter(&b.w);
		assert_true(esp_spi_taken(b.plane, 0xc0000000u - 0xc0000000u % 8 + 8));
		worker_leave(&b.w);
		while (vnet_read(b.tun, got, sizeof(got), &v))
			;
	}
	/* packets went through meanwhile, or will have, once their threads have had a processor */
	for (int ms = 0; n <= 2 && ms < WAIT_MS; ms++) {
		worker_enter(&b.w);
		n = esp_plane_counters(b.plane)->packets_in;
		worker_leave(&b.w);
		(void)poll(NULL, 0, n <= 2);
	}
	assert_true(n > 2);
	end_both();
}

/* b's socket is full of what comes for one call, again and again: then that call's gives way to what is nobody's, and not the other
 * way round. */
static void who_floods_gives_way(void **state)
{
	static const uint8_t bytes[1000] = { 0 };
	uint8_t flood[sizeof(bytes)], other[40] = { 0xf0, 0, 0, 0 };
	struct path path = { .remote = { .family = ADDR_NONE } };
	int room = 64 << 10, on = 1;
	uint64_t shed = 0;

	(void)state;
	begin(0, 1);
	assert_int_equal(setsockopt(b.w.udp_fd[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
	assert_int_equal(setsockopt(b.w.udp_fd[0], SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on)), 0);
	path.remote = b.at;
	memcpy(flood, bytes, sizeof(flood));
	put_be32(flood, 0xc0000000u - 0xc0000000u % 8 + 8); /* of b's SA, and not authentic */
	for (int i = 0; i < 500 && !shed; i++) {
		worker_enter(&b.w);
		assert_int_equal(udp_send(a.w.udp_fd[0], &path, SPAN_NONE, SPAN_OF(other)), OK);
		for (int k = 0; k < 200; k++)
			(void)!udp_send(a.w.udp_fd[0], &path, SPAN_NONE, SPAN_OF(flood));
		worker_leave(&b.w);
		(void)poll(NULL, 0, 2);
		shed = atomic_load(&b.w.counters.shed);
	}
	assert_true(shed > 0);
	end_both();
}

static bool stray_wait(struct worker *w, struct stray *s, uint8_t *buf, size_t *len)
{
	return poll(&(struct pollfd){ .fd = w->stray_fd, .events = POLLIN }, 1, WAIT_MS) == 1 &&
	       worker_stray(w, s, buf, len);
}

static void what_is_not_its_own(void **state)
{
	static uint8_t buf[VNET_PACKET_MAX], esp[40] = { 0xc0, 0, 0, 7 };
	static const uint8_t framed[] = { 0x40, 1, 0, 8, 0xc0, 0, 0, 7, 0, 0, 0, 1 };
	static const uint8_t cut[] = { 0x40, 1, 0, 9, 0xc0, 0, 0, 5, 0, 0, 0, 1 };
	struct pkt pk = pkt_udp(true, HOST_A, 1, 77, 53, 10); /* no call here is with that host */
	struct path path = { .remote = { .family = ADDR_NONE } };
	struct vnet v = { .flags = 0 };
	struct stray s;
	size_t len;

	(void)state;
	begin(1, 4);
	path.remote = b.at;
	/* STUN or IKE */
	assert_int_equal(udp_send(a.w.udp_fd[0], &path, SPAN_NONE, SPAN_LIT("\0\0\0\0 not ESP")), OK);
	assert_true(stray_wait(&b.w, &s, buf, &len));
	assert_int_equal(s.kind, STRAY_DATAGRAM);
	assert_true(addr_eq(&s.path.remote, &a.at));
	assert_int_equal(len, 12);
	/* of an SA of shard 3 */
	assert_int_equal(udp_send(a.w.udp_fd[0], &path, SPAN_NONE, SPAN_OF(esp)), OK);
	assert_true(stray_wait(&b.w, &s, buf, &len));
	assert_int_equal(s.kind, STRAY_DATAGRAM);
	assert_int_equal(len, sizeof(esp));
	/* the same by a relay; and what says that it is longer */
	assert_int_equal(udp_send(a.w.udp_fd[0], &path, SPAN_NONE, SPAN_OF(framed)), OK);
	assert_true(stray_wait(&b.w, &s, buf, &len));
	assert_int_equal(len, sizeof(framed));
	assert_memory_equal(buf, framed, len);
	assert_int_equal(udp_send(a.w.udp_fd[0], &path, SPAN_NONE, SPAN_OF(cut)), OK);
	assert_true(stray_wait(&b.w, &s, buf, &len));
	assert_int_equal(len, sizeof(cut));
	/* from the TUN, perhaps another shard's */
	into_tun(&a, &v, pk.b, pk.len);
	assert_true(stray_wait(&a.w, &s, buf, &len));
	assert_int_equal(s.kind, STRAY_SUPER);
	assert_int_equal(len, pk.len);
	assert_memory_equal(buf, pk.b, len);
	worker_enter(&a.w);
	assert_int_equal(esp_plane_counters(a.plane)->drops[ESP_DROP_NO_SA], 0);
	worker_leave(&a.w);
	/* an echo reply, while the engine waits for some */
	atomic_store(&b.w.pinging, true);
	pk = pkt_echo(true, HOST_A, HOST_B, true);
	into_tun(&a, &v, pk.b, pk.len);
	assert_true(stray_wait(&b.w, &s, buf, &len));
	assert_int_equal(s.kind, STRAY_INNER);
	assert_memory_equal(buf, pk.b, len);
	end_both();
}

/* The plane's news wake the engine: a lifetime that is nearly over. */
static void news(void **state)
{
	struct esp_sa_config c = pair_config_a(true);
	struct vnet v = { .flags = 0 };
	struct pkt pk = pkt_udp(true, HOST_A, 1000, HOST_B, 53, 10);
	struct esp_due due;

	(void)state;
	begin(0, 1);
	c.spi_in = 0xc0001000u;
	c.spi_out = 0xc0001008u;
	c.call = 9;
	c.soft_packets = 1;
	c.path = (struct path){ .local = a.at, .remote = b.at };
	worker_enter(&a.w);
	assert_int_equal(esp_sa_add(a.plane, 0, &c), OK);
	worker_leave(&a.w);
	into_tun(&a, &v, pk.b, pk.len);
	assert_int_equal(poll(&(struct pollfd){ .fd = a.w.tell_fd, .events = POLLIN }, 1, WAIT_MS), 1);
	worker_enter(&a.w);
	assert_true(esp_plane_poll_due(a.plane, &due));
	worker_leave(&a.w);
	assert_int_equal(due.spi_in, c.spi_in);
	end_both();
}

/* ---- a TURN server between the two, that has a channel for each ---- */

enum { CHANNEL_A = 0x4001, CHANNEL_B = 0x4fff };

static struct {
	int fd;
	struct addr at;
	pthread_t thread;
	atomic_bool stop;
	atomic_uint n, trains; /* datagrams, and pieces of more than one */
} relay;

static void set_gro(int fd)
{
	assert_int_equal(setsockopt(fd, IPPROTO_UDP, UDP_GRO, &(int){ 1 }, sizeof(int)), 0);
}

static void relay_open(void)
{
	struct addr lo = addr_ip4(0x7f000001, 0);

	memset(&relay, 0, sizeof(relay));
	assert_int_equal(udp_open(&lo, &relay.fd, &relay.at), OK);
	set_gro(relay.fd);
	set_gro(a.w.udp_fd[0]);
	set_gro(b.w.udp_fd[0]);
}

/* To the other one, by its channel. What is not from one of the two, or by no channel of his, does not go on. */
static void relay_one(const struct udp_msg *m, struct udp_sender *sender)
{
	bool from_a = addr_eq(&m->path.remote, &a.at);
	struct path to = { .local = relay.at, .remote = from_a ? b.at : a.at };
	struct udp_out out[UDP_TRAIN_DATAGRAMS];
	enum udp_fate fates[UDP_TRAIN_DATAGRAMS];
	struct demux_inside in;
	size_t at = 0, len;
	unsigned n = 0;
	uint8_t *p;

	while (n < UDP_TRAIN_DATAGRAMS && udp_cut(m, &at, &p, &len)) {
		if (!demux_channel(span_of(p, len), &in) || in.channel != (from_a ? CHANNEL_A : CHANNEL_B))
			continue;
		put_be16(p, from_a ? CHANNEL_B : CHANNEL_A);
		out[n++] = (struct udp_out){ .path = &to, .p = p, .len = len };
	}
	(void)atomic_fetch_add(&relay.n, n);
	(void)atomic_fetch_add(&relay.trains, n > 1);
	(void)udp_send_trains(sender, out, n, fates);
}

static void *relay_run(void *arg)
{
	static uint8_t bufs[4][UDP_TRAIN_MAX];
	struct udp_sender sender = { .fd = relay.fd };
	struct udp_msg msgs[4];

	while (!atomic_load(&relay.stop)) {
		unsigned n;

		(void)poll(&(struct pollfd){ .fd = relay.fd, .events = POLLIN }, 1, 50);
		n = udp_recv_trains(relay.fd, relay.at.port, bufs, 4, msgs);
		for (unsigned i = 0; i < n; i++)
			relay_one(&msgs[i], &sender);
	}
	return arg;
}

static void relay_close(void)
{
	(void)close(relay.fd);
}

static void go(struct end *e, const struct addr *remote, uint16_t channel)
{
	struct path path = { .local = e->at, .remote = *remote, .channel = channel };

	worker_enter(&e->w);
	esp_call_set_path(e->plane, PAIR_CALL, &path);
	worker_leave(&e->w);
}

static uint64_t n_dropped(struct end *e, enum esp_drop d)
{
	uint64_t n;

	worker_enter(&e->w);
	n = esp_plane_counters(e->plane)->drops[d];
	worker_leave(&e->w);
	return n;
}

/* From the direct path to a relayed one and back, while packets are on their way. */
static void by_a_relay(void **state)
{
	static uint8_t sent[SUPER], got[VNET_PACKET_MAX];
	size_t bytes = 0;
	struct vnet v;

	(void)state;
	begin(0, 1);
	relay_open();
	assert_int_equal(pthread_create(&relay.thread, NULL, relay_run, NULL), 0);
	open_flow();
	(void)stream(0, 3);
	assert_int_equal(atomic_load(&relay.n), 0);
	go(&a, &relay.at, CHANNEL_A);
	go(&b, &relay.at, CHANNEL_B);
	single(&b, &a, pkt_tcp(true, HOST_B, 5900, HOST_A, 40000, ESP_TCP_ACK));
	assert_int_equal(atomic_load(&relay.n), 1);
	print_message("# by the relay, %u writes of more than one packet\n", stream(3, 20));
	assert_int_equal(atomic_load(&relay.n), 1 + 20 * 40);
	assert_true(atomic_load(&relay.trains) >= 20);
	/* on its way when both ends turn to the direct path */
	into_tun(&a, &v, sent, super_make(sent, &v, 23 * (SUPER - 60)));
	while (atomic_load(&relay.n) == 1 + 20 * 40)
		(void)poll(NULL, 0, 1);
	go(&b, &a.at, 0);
	go(&a, &b.at, 0);
	while (bytes < SUPER - 60)
		bytes += out_of_tun(&b, &v, got, sizeof(got)) - 60;
	(void)stream(24, 3);
	assert_int_equal(n_dropped(&b, ESP_DROP_CHANNEL), 0);
	atomic_store(&relay.stop, true);
	(void)pthread_join(relay.thread, NULL);
	assert_int_equal(atomic_load(&relay.n), 1 + 21 * 40);
	end_both();
	relay_close();
}

/* One train from the server's address with frames of two channels, bare ESP, and what is none. */
static void a_mixed_train(void **state)
{
	enum { LEN = 200, N = 7, SPI = 0xc0000008u };
	static const uint16_t channels[N] = { CHANNEL_B, 0x4777, CHANNEL_B, 0, 0, CHANNEL_B, CHANNEL_B };
	static const bool is_esp[N] = { true, true, true, true, false, false, true };
	static uint8_t bytes[N][LEN], got[VNET_PACKET_MAX];
	struct esp_sa_config ca = pair_config_a(true);
	struct udp_sender sender;
	struct udp_out out[N];
	enum udp_fate fates[N];
	struct esp_cipher raw;
	struct path path;
	struct stray s;
	struct vnet v;
	size_t len;

	(void)state;
	begin(0, 1);
	relay_open();
	go(&b, &relay.at, CHANNEL_B);
	path = (struct path){ .local = relay.at, .remote = b.at };
	assert_int_equal(esp_cipher_init(&raw, ca.alg, ca.key_out, &rng, false), OK);
	memset(bytes, 0, sizeof(bytes));
	for (unsigned i = 0; i < N; i++) {
		size_t frame = channels[i] ? 4 : 0;
		struct pkt pk = pkt_udp(true, HOST_A, (uint16_t)(1000 + i), HOST_B, 53, LEN - frame - 34 - 48);

		if (frame) {
			put_be16(bytes[i], channels[i]);
			put_be16(bytes[i] + 2, LEN - 4);
		}
		if (is_esp[i])
			assert_int_equal(esp_packet_seal(&raw, SPI, i + 1, i + 1, ESP_NEXT_IP6, span_of(pk.b, pk.len),
							 bytes[i] + frame, LEN - frame, &len),
					 OK);
		if (is_esp[i])
			assert_int_equal(len, LEN - frame);
		out[i] = (struct udp_out){ .path = &path, .p = bytes[i], .len = LEN };
	}
	sender = (struct udp_sender){ .fd = relay.fd };
	assert_int_equal(udp_send_trains(&sender, out, N, fates), N);
	for (unsigned i = 0; i < N; i++) {
		if (is_esp[i] && channels[i] != 0x4777) {
			assert_int_equal(out_of_tun(&b, &v, got, sizeof(got)), LEN - (channels[i] ? 4 : 0) - 34);
			assert_int_equal(be16(got + 40), 1000 + i);
		} else if (!is_esp[i]) {
			assert_true(stray_wait(&b.w, &s, got, &len));
			assert_int_equal(s.kind, STRAY_DATAGRAM);
			assert_int_equal(s.path.channel, 0);
			assert_int_equal(len, LEN);
			assert_memory_equal(got, bytes[i], LEN);
		}
	}
	assert_int_equal(n_dropped(&b, ESP_DROP_CHANNEL), 1);
	esp_cipher_done(&raw);
	end_both();
	relay_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_arrives),     cmocka_unit_test(the_engine_gets_in),
		cmocka_unit_test(what_is_not_its_own),  cmocka_unit_test(news),
		cmocka_unit_test(who_floods_gives_way), cmocka_unit_test(by_a_relay),
		cmocka_unit_test(a_mixed_train),
	};

	return HARNESS_RUN(tests);
}
