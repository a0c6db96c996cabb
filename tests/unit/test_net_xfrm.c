/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two namespaces with a veth between them, and ESP of the kernel's where it has it (tests/kernel/14-xfrm.py). A packet that has no
 * policy passes in clear: what counts is in the SAs' counters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netns.h"
#include "net/tun.h"
#include "net/udp.h"
#include "net/vnet.h"
#include "net/xfrm.h"
#include "harness.h"
#include "two_ends.h"

/* ---- tests ---- */

static void need_esp(void)
{
	if (geteuid() != 0 || !have_esp()) {
		print_message("# needs root and a kernel with ESP: tests/kernel has one\n");
		skip();
	}
}

static void refuses(void **state)
{
	struct xfrm_sa sa = { .spi = 256, .reqid = 1, .from = ip_of("192.0.2.1"), .to = ip_of("192.0.2.2") }, bad;
	struct xfrm_policy p = { .reqid = 1, .from = one(&sa.from), .to = one(&sa.to) }, wrong;
	struct xfrm_counters c;
	struct addr none = { .family = ADDR_NONE }, six = ip_of("2001:db8::1");

	(void)state;
	bad = sa;
	bad.spi = 255;
	assert_int_equal(xfrm_sa_add(-1, &bad), ERR_MALFORMED);
	bad = sa;
	bad.reqid = 0;
	assert_int_equal(xfrm_sa_add(-1, &bad), ERR_MALFORMED);
	bad = sa;
	bad.to = six;
	assert_int_equal(xfrm_sa_add(-1, &bad), ERR_MALFORMED);
	bad = sa;
	bad.from = bad.to = none;
	assert_int_equal(xfrm_sa_add(-1, &bad), ERR_MALFORMED);
	bad = sa;
	bad.to.port = 4500;
	assert_int_equal(xfrm_sa_add(-1, &bad), ERR_MALFORMED);
	bad = sa;
	bad.aead = XFRM_N_AEADS;
	assert_int_equal(xfrm_sa_add(-1, &bad), ERR_UNSUPPORTED);
	assert_int_equal(xfrm_sa_remove(-1, 256, &none), ERR_MALFORMED);
	assert_int_equal(xfrm_sa_counters(-1, 256, &none, &c), ERR_MALFORMED);
	assert_int_equal(xfrm_sa_move(-1, 256, &sa.to, &sa.from, &six), ERR_MALFORMED);

	assert_int_equal(xfrm_policy_set(-1, &p), ERR_MALFORMED); /* no outer addresses */
	wrong = p;
	wrong.block = true;
	wrong.reqid = 0;
	assert_int_equal(xfrm_policy_set(-1, &wrong), ERR_MALFORMED);
	wrong = p;
	wrong.block = true;
	wrong.to = one(&six);
	assert_int_equal(xfrm_policy_set(-1, &wrong), ERR_MALFORMED);
	wrong.to = one(&sa.to);
	wrong.to.len = 33;
	assert_int_equal(xfrm_policy_set(-1, &wrong), ERR_MALFORMED);
	wrong.to.len = 8; /* the address has bits behind them */
	assert_int_equal(xfrm_policy_set(-1, &wrong), ERR_MALFORMED);
	assert_int_equal(xfrm_policy_remove(-1, XFRM_WAY_IN, &wrong.from, &wrong.to), ERR_MALFORMED);

	assert_int_equal(xfrm_key_size(XFRM_AES128_GCM), 20);
	assert_int_equal(xfrm_key_size(XFRM_N_AEADS), 0);
}

static void says_what_there_is(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("# needs root\n");
		skip();
	}
	for (int f = ADDR_IP4; f <= ADDR_IP6; f += 2)
		for (enum xfrm_aead a = 0; a < XFRM_N_AEADS; a++) {
			enum err e = xfrm_available((enum addr_family)f, a);

			print_message("# IPv%d, %u: %s\n", f, (unsigned)a, err_name(e));
			assert_true(e == OK || e == ERR_UNSUPPORTED);
		}
}

static void carry(const struct wish *w)
{
	struct end x[2];

	begin_esp(x);
	set_policies(x, 0, NULL);
	set_policies(x, 1, NULL);
	for (unsigned inner = 0; inner < 2; inner++)
		assert_false(passes(x, 0, inner, 0));
	for (int i = 0; i < 2; i++) {
		add_sas(x, i, w);
		set_policies(x, i, w);
	}
	for (int from = 0; from < 2; from++) {
		struct xfrm_counters sent, got;

		for (unsigned inner = 0; inner < 2; inner++)
			assert_true(passes(x, from, inner, 3000));
		sent = counters(x, from, !from, w);
		got = counters(x, !from, !from, w);
		assert_int_equal(sent.packets, 2);
		assert_int_equal(sent.sequence, 2);
		assert_int_equal(got.packets, 2);
		assert_int_equal(got.sequence, 2);
		assert_true(got.bytes > 0 && sent.bytes > 0);
		assert_int_equal(got.replayed + got.outside_window + got.not_authentic, 0);
	}
	flush(x);
	for (int i = 0; i < 2; i++) {
		struct xfrm_counters c;

		assert_int_equal(xfrm_sa_counters(x[i].ns, x[0].spi_in, &x[0].outer[w->outer][w->at], &c),
				 ERR_NOTFOUND);
	}
	end(x);
}

static void carries(void **state)
{
	(void)state;
	need_esp();
	for (unsigned outer = 0; outer < 2; outer++)
		for (enum xfrm_aead a = 0; a < XFRM_N_AEADS; a++)
			for (int esn = 0; esn < 2; esn++)
				carry(&(struct wish){ .outer = outer, .aead = a, .esn = esn });
	for (unsigned outer = 0; outer < 2; outer++)
		carry(&(struct wish){ .outer = outer, .esn = true, .plain = true });
}

static void default_closed(void **state)
{
	const struct wish w = { .esn = true };
	struct xfrm_policy p;
	struct end x[2];

	(void)state;
	need_esp();
	begin_esp(x);
	/* the other end sends in clear: what shall come by an SA does not come without */
	assert_true(passes(x, 0, 0, 3000));
	add_sas(x, 1, &w);
	set_policies(x, 1, &w);
	assert_false(passes(x, 0, 0, SILENCE_MS));
	/* and nothing goes out in clear for want of an SA */
	assert_int_equal(xfrm_sa_remove(x[1].ns, x[0].spi_in, &x[0].outer[0][0]), OK);
	assert_int_equal(xfrm_sa_remove(x[1].ns, x[0].spi_in, &x[0].outer[0][0]), ERR_NOTFOUND);
	assert_false(passes(x, 1, 0, SILENCE_MS));
	/* nor by an SA what no policy is for */
	flush(x);
	add_sas(x, 0, &w);
	add_sas(x, 1, &w);
	set_policies(x, 0, &w);
	assert_false(passes(x, 0, 0, SILENCE_MS));
	assert_int_equal(counters(x, 1, 1, &w).packets, 1); /* it was authentic */
	set_policies(x, 1, &w);
	assert_true(passes(x, 0, 0, 3000));
	/* the sender's own policy may be wider than what was agreed on: ours decides */
	p = policy_of(x, 1, 0, XFRM_WAY_IN, &w);
	assert_int_equal(xfrm_policy_remove(x[1].ns, p.way, &p.from, &p.to), OK);
	assert_int_equal(xfrm_policy_remove(x[1].ns, p.way, &p.from, &p.to), ERR_NOTFOUND);
	assert_false(passes(x, 0, 0, SILENCE_MS));
	end(x);
}

static void one_port(void **state)
{
	const struct wish w = { .esn = true };
	uint8_t esp[40] = { 0xc0, 0, 1, 1, 0, 0, 0, 9 };
	struct path path;
	struct end x[2];

	(void)state;
	need_esp();
	for (unsigned f = 0; f < 2; f++) {
		begin_esp(x);
		path = (struct path){ .local = x[0].outer[f][0], .remote = x[1].outer[f][0] };
		for (int i = 0; i < 2; i++) {
			add_sas(x, i, &w);
			set_policies(x, i, &w);
		}
		for (int k = 0; k < 2; k++) { /* by either socket */
			assert_int_equal(udp_send(x[0].fds[f][k], &path, span_str(""), span_str("\1\1stun and IKE")),
					 OK);
			assert_true(arrives(x[1].fds[f][0], "\1\1stun and IKE", 3000));
			assert_int_equal(udp_send(x[0].fds[f][k], &path, span_str(""), SPAN_OF(esp)), OK);
			assert_false(arrives(x[1].fds[f][k], "", SILENCE_MS));
		}
		if (!f)
			assert_int_equal(counters(x, 1, 1, &w).not_authentic, 2); /* the kernel had it */
		end(x);
	}
}

struct group {
	int fds[3];
	uint16_t port;
};

static enum err open_two(void *arg)
{
	struct group *g = arg;

	return udp_group_open(ADDR_IP4, 0, 2, g->fds, &g->port);
}

#define TRAIN 12
#define DATAGRAM 100

/* A train to a group with a socket for even SPIs, ours, and one for odd SPIs, the kernel's. Returns what we had of it. */
static unsigned train(const struct end x[2], const struct group *g, unsigned first_kernel, unsigned every)
{
	static uint8_t room[2][UDP_TRAIN_MAX];
	struct udp_sender sender = { .fd = x[0].fds[0][0] };
	uint8_t bytes[TRAIN][DATAGRAM] = { { 0 } };
	struct path path = { .local = x[0].outer[0][0], .remote = x[1].outer[0][0] };
	struct udp_out msgs[TRAIN];
	struct udp_msg got[2];
	enum udp_fate fates[TRAIN];
	unsigned n = 0;

	path.remote.port = g->port;
	for (unsigned i = 0; i < TRAIN; i++) {
		put_be32(bytes[i], i >= first_kernel && i % every == 0 ? x[1].spi_in : 0xc0000200);
		put_be32(bytes[i] + 4, i + 1);
		msgs[i] = (struct udp_out){ .path = &path, .p = bytes[i], .len = DATAGRAM };
	}
	assert_int_equal(udp_send_trains(&sender, msgs, TRAIN, fates), TRAIN);
	(void)poll(NULL, 0, SILENCE_MS);
	for (int k = 0; k < 3; k++)
		for (unsigned m; (m = udp_recv_trains(g->fds[k], g->port, room, 2, got)) > 0;)
			for (unsigned i = 0; i < m; i++) {
				struct udp_msg d;
				size_t at = 0;

				while (udp_next(&got[i], &at, &d))
					n++;
			}
	return n;
}

static void trains(void **state)
{
	const struct wish w = { .esn = true };
	struct end x[2];
	struct group g;

	(void)state;
	need_esp();
	begin_esp(x);
	add_sas(x, 1, &w);
	assert_int_equal(netns_run(x[1].ns, open_two, &g), OK);
	assert_int_equal(udp_give_esp(g.fds[2]), OK);
	assert_int_equal(train(x, &g, TRAIN, 1), TRAIN);
	assert_int_equal(train(x, &g, 0, 1), 0);
	assert_int_equal(counters(x, 1, 1, &w).not_authentic, TRAIN);
	/* its first datagram leads a mixed one: what is not the kernel's and comes with it is lost */
	assert_int_equal(train(x, &g, 0, 2), 0);
	assert_int_equal(counters(x, 1, 1, &w).not_authentic, TRAIN + TRAIN / 2);
	for (int k = 0; k < 3; k++)
		(void)close(g.fds[k]);
	end(x);
}

/* ---- moved ---- */

static enum err tap(void *arg)
{
	int *fd = arg;

	*fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IP));
	return *fd >= 0 ? OK : ERR_SYSTEM;
}

/* The datagram inside the last IPv4 packet from this port. */
static size_t tapped(int fd, uint16_t from_port, uint8_t *to, size_t cap)
{
	uint8_t packet[2048];
	size_t len = 0;
	ssize_t n;

	while ((n = recv(fd, packet, sizeof(packet), 0)) > 0)
		if (n > 28 && packet[0] == 0x45 && packet[9] == IPPROTO_UDP && be16(packet + 20) == from_port) {
			len = be16(packet + 24) - 8u;
			assert_true(len <= cap && len + 28 <= (size_t)n);
			memcpy(to, packet + 28, len);
		}
	return len;
}

static void move(const struct end x[2], int at, const struct wish *old, const struct wish *w)
{
	for (int to = 0; to < 2; to++)
		assert_int_equal(xfrm_sa_move(x[at].ns, x[to].spi_in, &x[to].outer[old->outer][old->at],
					      &x[!to].outer[w->outer][w->at], &x[to].outer[w->outer][w->at]),
				 OK);
	set_policies(x, at, w);
}

static void moves(void **state)
{
	static const struct wish ways[] = { { .outer = 0, .at = 0 }, { .outer = 0, .at = 1 }, { .outer = 1, .at = 0 },
					    { .outer = 0, .at = 0 }, { .outer = 1, .at = 1 }, { .outer = 0, .at = 1 } };
	struct path path;
	uint8_t copy[512];
	struct end x[2];
	size_t len;
	int fd;

	(void)state;
	need_esp();
	for (int esn = 0; esn < 2; esn++) {
		struct wish first = { .esn = esn };

		begin_esp(x);
		assert_int_equal(netns_run(x[1].ns, tap, &fd), OK);
		for (int i = 0; i < 2; i++) {
			add_sas(x, i, &first);
			set_policies(x, i, &first);
		}
		assert_true(passes(x, 0, 0, 3000));
		len = tapped(fd, x[0].port[0], copy, sizeof(copy));
		assert_true(len > 8);
		for (unsigned k = 1; k < sizeof(ways) / sizeof(ways[0]); k++) {
			move(x, 0, &ways[k - 1], &ways[k]);
			move(x, 1, &ways[k - 1], &ways[k]);
			for (int from = 0; from < 2; from++)
				assert_true(passes(x, from, k % 2, 3000));
			/* no number is used twice, and what counts towards the limits goes on */
			assert_int_equal(counters(x, 0, 1, &ways[k]).sequence, k + 1);
			assert_int_equal(counters(x, 1, 1, &ways[k]).sequence, k + 1);
			assert_int_equal(counters(x, 0, 1, &ways[k]).packets, k + 1);
			assert_int_equal(counters(x, 1, 0, &ways[k]).packets, k);
		}
		/* what came before all of this is a replay still: the window came along */
		path = (struct path){ .local = x[0].outer[0][1], .remote = x[1].outer[0][1] };
		assert_int_equal(counters(x, 1, 1, &ways[5]).replayed, 0);
		assert_int_equal(udp_send(x[0].fds[0][1], &path, span_str(""), span_of(copy, len)), OK);
		for (int i = 0; i < 50 && !counters(x, 1, 1, &ways[5]).replayed; i++)
			(void)poll(NULL, 0, 20);
		assert_int_equal(counters(x, 1, 1, &ways[5]).replayed, 1);
		/* there is none, or its place is taken: then it says so */
		assert_int_equal(
			xfrm_sa_move(x[0].ns, 0xc0ffee00, &x[1].outer[0][1], &x[0].outer[0][0], &x[1].outer[0][0]),
			ERR_NOTFOUND);
		(void)close(fd);
		end(x);
	}
}

static void limits(void **state)
{
	const struct wish w = { .esn = true, .hard_packets = 3 };
	struct xfrm_counters c;
	struct end x[2];
	unsigned passed = 0;

	(void)state;
	need_esp();
	begin_esp(x);
	for (int i = 0; i < 2; i++) {
		add_sas(x, i, &w);
		set_policies(x, i, &w);
	}
	while (passed < 10 && passes(x, 0, 0, SILENCE_MS))
		passed++;
	assert_in_range(passed, 2, 3);
	/* it is gone a moment later */
	for (int i = 0; i < 100 && xfrm_sa_counters(x[0].ns, x[1].spi_in, &x[1].outer[0][0], &c) == OK; i++)
		(void)poll(NULL, 0, 20);
	assert_int_equal(xfrm_sa_counters(x[0].ns, x[1].spi_in, &x[1].outer[0][0], &c), ERR_NOTFOUND);
	end(x);
}

/* ---- forwarded ---- */

static enum err forwarding(void *arg)
{
	int fd = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, "1", 1) == 1;

	(void)arg;
	if (fd >= 0)
		(void)close(fd);
	return ok ? OK : ERR_SYSTEM;
}

/* A UDP datagram to this address comes out of the TUN. */
static bool forwarded(const struct end *x, const struct addr *to, int tun)
{
	struct pollfd p = { .fd = tun, .events = POLLIN };
	struct sockaddr_storage ss;
	uint8_t packet[2048];
	int out = inner_socket(x, 0, 0);
	bool found = false;
	struct vnet v;

	assert_true(sendto(out, "to a network", 12, 0, (const struct sockaddr *)&ss, addr_to_sockaddr(to, &ss)) > 0);
	(void)close(out);
	while (!found && poll(&p, 1, SILENCE_MS) == 1) {
		size_t n = vnet_read(tun, packet, sizeof(packet), &v);

		found = n >= 20 && packet[0] >> 4 == 4 && packet[9] == IPPROTO_UDP && !memcmp(packet + 16, to->ip, 4);
	}
	return found;
}

static void forwards(void **state)
{
	const struct wish w = { .outer = 1, .esn = true };
	struct tun_config cfg = { .name = "xt0", .mtu = 1400, .n_queues = 1 };
	struct addr_prefix network = { .base = ip_of("192.168.50.0"), .len = 24 };
	struct addr host = ip_of("192.168.50.9");
	struct xfrm_policy p;
	struct end x[2];
	unsigned on;
	int tun;

	(void)state;
	need_esp();
	begin_esp(x);
	host.port = PORT;
	assert_int_equal(netns_run(x[1].ns, forwarding, NULL), OK);
	assert_int_equal(tun_open(x[1].ns, &cfg, &tun, &on), OK);
	assert_int_equal(tun_route(x[1].ns, cfg.name, &network, NULL, 0, true), OK);
	assert_int_equal(tun_route(x[0].ns, LINK, &network, &x[0].inner[0], 0, true), OK);
	add_sas(x, 0, &w);
	add_sas(x, 1, &w);
	p = policy_of(x, 0, 0, XFRM_WAY_OUT, &w);
	p.to = network;
	assert_int_equal(xfrm_policy_set(x[0].ns, &p), OK);
	assert_false(forwarded(&x[0], &host, tun));
	assert_int_equal(counters(x, 1, 1, &w).packets, 1);
	p.way = XFRM_WAY_FORWARD;
	assert_int_equal(xfrm_policy_set(x[1].ns, &p), OK);
	assert_true(forwarded(&x[0], &host, tun));
	assert_int_equal(counters(x, 1, 1, &w).packets, 2);
	(void)close(tun);
	end(x);
}

/* ---- leftovers ---- */

static void flushes_ours(void **state)
{
	const struct wish w = { .esn = true };
	struct xfrm_sa sa;
	struct xfrm_policy p;
	struct xfrm_counters c;
	struct end x[2];

	(void)state;
	need_esp();
	begin_esp(x);
	for (unsigned i = 0; i < 200; i++) { /* more than are found at a time */
		struct addr a = addr_ip4(0x0a640000u + i, 0);

		sa = sa_of(x, 0, &w);
		sa.spi = 0xd0000000 + i;
		sa.reqid = 1000 + i;
		assert_int_equal(xfrm_sa_add(x[0].ns, &sa), OK);
		assert_int_equal(xfrm_sa_add(x[0].ns, &sa), ERR_WRONG_STATE);
		p = policy_of(x, 0, 0, XFRM_WAY_OUT, i % 2 ? &w : NULL);
		p.to = one(&a);
		p.reqid = 1000 + i;
		assert_int_equal(xfrm_policy_set(x[0].ns, &p), OK);
	}
	assert_int_equal(xfrm_flush(x[0].ns, 1001, 1198), OK);
	for (unsigned i = 0; i < 200; i++) {
		enum err e = i == 0 || i == 199 ? OK : ERR_NOTFOUND;
		struct addr_prefix from = one(&x[0].inner[0]), to;
		struct addr a = addr_ip4(0x0a640000u + i, 0);

		to = one(&a);
		assert_int_equal(xfrm_sa_counters(x[0].ns, 0xd0000000 + i, &x[0].outer[0][0], &c), e);
		assert_int_equal(xfrm_policy_remove(x[0].ns, XFRM_WAY_OUT, &from, &to), e);
	}
	end(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),  cmocka_unit_test(says_what_there_is),
		cmocka_unit_test(carries),  cmocka_unit_test(default_closed),
		cmocka_unit_test(one_port), cmocka_unit_test(trains),
		cmocka_unit_test(moves),    cmocka_unit_test(limits),
		cmocka_unit_test(forwards), cmocka_unit_test(flushes_ours),
	};

	return HARNESS_RUN(tests);
}
