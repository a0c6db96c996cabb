/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/segment.h and esp/merge.h between two kernels' ends: TUNs with offloads, in private namespaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "esp_stream.h"
#include "harness.h"
#include "net/netlink.h"
#include "net/netns.h"
#include "net/tun.h"
#include "net/udp.h"

_Static_assert(VNET_NEEDS_CSUM == VIRTIO_NET_HDR_F_NEEDS_CSUM && VNET_DATA_VALID == VIRTIO_NET_HDR_F_DATA_VALID,
	       "flags");
_Static_assert(VNET_GSO_NONE == VIRTIO_NET_HDR_GSO_NONE && VNET_GSO_TCPV4 == VIRTIO_NET_HDR_GSO_TCPV4 &&
		       VNET_GSO_UDP == VIRTIO_NET_HDR_GSO_UDP && VNET_GSO_TCPV6 == VIRTIO_NET_HDR_GSO_TCPV6 &&
		       VNET_GSO_ECN == VIRTIO_NET_HDR_GSO_ECN,
	       "types");

/* newer than some headers */
#define OFFLOAD_USO (0x20 | 0x40)
#define SEGMENT_OPTION 103

static void need_privilege(void)
{
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
		print_message("# needs root and /dev/net/tun\n");
		skip();
	}
}

/* ---- a TUN ---- */

struct tun {
	const char *name;
	bool offload;
	int ns, fd;
	bool uso;
};

static enum err tun_make(void *arg)
{
	struct tun *t = arg;
	unsigned can = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };

	if (t->offload)
		ifr.ifr_flags |= IFF_VNET_HDR;
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", t->name);
	t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0 || ioctl(t->fd, TUNSETIFF, &ifr) < 0)
		return ERR_SYSTEM;
	if (t->offload) {
		t->uso = ioctl(t->fd, TUNSETOFFLOAD, can | OFFLOAD_USO) == 0;
		if (!t->uso && ioctl(t->fd, TUNSETOFFLOAD, can) < 0)
			return ERR_SYSTEM;
	}
	return netlink_link_up(t->name, 1500);
}

static struct addr ip_of(bool v6, uint8_t last)
{
	struct addr a = { .family = v6 ? ADDR_IP6 : ADDR_IP4 };

	a.ip[0] = v6 ? 0xfd : 10;
	a.ip[v6 ? 15 : 3] = last;
	return a;
}

static struct tun tun_up(int ns, const char *name, bool offload)
{
	struct tun t = { .name = name, .offload = offload, .ns = ns };

	assert_int_equal(netns_run(ns, tun_make, &t), OK);
	return t;
}

static void route(const struct tun *t, uint8_t last)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct addr_prefix to = { .base = ip_of(v6, last), .len = v6 ? 128 : 32 };

		assert_int_equal(tun_route(t->ns, t->name, &to, NULL, 0, true), OK);
	}
}

static void address(const struct tun *t, uint8_t last)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct addr a = ip_of(v6, last);

		assert_int_equal(tun_address(t->ns, t->name, &a, true), OK);
	}
}

/* 0: nothing there. */
static size_t tun_get(const struct tun *t, struct vnet *v, uint8_t *p, size_t cap)
{
	struct virtio_net_hdr h;
	struct iovec iov[2] = { { &h, sizeof(h) }, { p, cap } };
	ssize_t n = readv(t->fd, iov, 2);

	if (n < (ssize_t)sizeof(h))
		return 0;
	*v = (struct vnet){ h.flags, h.gso_type, h.hdr_len, h.gso_size, h.csum_start, h.csum_offset };
	return (size_t)n - sizeof(h);
}

static bool tun_put(const struct tun *t, const struct esp_write *w)
{
	const struct vnet *v = &w->vnet;
	struct virtio_net_hdr h = { v->flags, v->gso_type, v->hdr_len, v->gso_size, v->csum_start, v->csum_offset };
	struct iovec iov[1 + ESP_SLICES_MAX] = { { &h, sizeof(h) } };

	for (unsigned i = 0; i < w->n; i++)
		iov[1 + i] = (struct iovec){ (void *)w->slice[i].p, w->slice[i].len };
	return writev(t->fd, iov, (int)(1 + w->n)) == (ssize_t)(sizeof(h) + w->len);
}

/* ---- the kernel cuts a write that it forwards as we do ---- */

static enum err forwarding_on(void *arg)
{
	static const char *const files[] = { "/proc/sys/net/ipv4/ip_forward",
					     "/proc/sys/net/ipv6/conf/all/forwarding" };

	(void)arg;
	for (size_t i = 0; i < 2; i++) {
		int fd = open(files[i], O_WRONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : write(fd, "1", 1);

		if (fd >= 0)
			(void)close(fd);
		if (n != 1)
			return ERR_SYSTEM;
	}
	return OK;
}

/* The next one of a stream that a sender could have made: what the kernel does not forward is no test. */
static void sender_next(struct stream *s, struct stream_flow *f)
{
	uint8_t p[STREAM_PACKET];
	size_t payload = stream_chance(s, 8) ? 1 + stream_pick(s, f->mss) : f->mss, l3, len;
	struct stream_flow once = *f;

	if (stream_chance(s, 5))
		once.flags |= S_PSH;
	if (stream_chance(s, 2))
		once.flags |= S_FIN;
	if (stream_chance(s, 3))
		once.flags |= S_CWR;
	l3 = stream_ip(&once, p, 0);
	len = l3 + stream_l4(s, &once, p + l3, payload);
	stream_finish(&once, p, l3, len);
	f->seq += (uint32_t)payload;
	f->id = (uint16_t)(f->id + 1);
	stream_put(s, p, len);
}

/* A router has taken one from the hop limit. */
static void hop(uint8_t *p)
{
	if (p[0] >> 4 == 6) {
		p[7]--;
		return;
	}
	p[8]--;
	put_be16(p + 10, 0);
	put_be16(p + 10, (uint16_t)~stream_sum(p, 20, 0));
}

static size_t forwarded(const struct tun *t, uint8_t *p, size_t cap)
{
	for (int i = 0; i < 50; i++) {
		struct pollfd pfd = { .fd = t->fd, .events = POLLIN };
		ssize_t n;

		if (poll(&pfd, 1, 2000) != 1)
			return 0;
		n = read(t->fd, p, cap);
		/* what the kernel itself has to say is not for these addresses */
		if (n > (p[0] >> 4 == 6 ? 40 : 20) && p[p[0] >> 4 == 6 ? 39 : 19] >= 101 &&
		    p[p[0] >> 4 == 6 ? 24 : 16] == (p[0] >> 4 == 6 ? 0xfd : 10))
			return (size_t)n;
	}
	return 0;
}

static void kernel_cuts_the_same(void **state)
{
	static struct stream s;
	static struct esp_write writes[STREAM_MAX];
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 11);
	struct stream_packet orig[STREAM_MAX];
	unsigned merged = 0;
	struct tun in, out;
	int ns;

	(void)state;
	need_privilege();
	assert_int_equal(netns_new(&ns), OK);
	if (netns_run(ns, forwarding_on, NULL) != OK) {
		print_message("# needs a kernel that forwards\n");
		(void)close(ns);
		skip();
	}
	in = tun_up(ns, "tieoff0", true);
	out = tun_up(ns, "tieoff1", false);
	for (uint8_t i = 1; i <= 3; i++)
		route(&in, i);
	route(&out, 101);
	route(&out, 102);
	for (unsigned round = 0; round < 60; round++) {
		struct esp_merge_config cfg = { .uso = in.uso };
		struct esp_merge m;
		struct stream_flow f;
		uint8_t got[STREAM_PACKET];
		unsigned n;

		memset(&s, 0, sizeof(s));
		s.rng = rng;
		stream_flow_init(&s, &f);
		f.dst = (uint8_t)(f.dst + 100);
		f.flags |= stream_chance(&s, 20) ? S_ECE : 0;
		/* one flow: the way of another one may be another */
		while (s.n < 100)
			sender_next(&s, &f);
		for (unsigned i = 0; i < s.n; i++) {
			orig[i] = (struct stream_packet){ malloc(s.in[i].len), s.in[i].len };
			assert_non_null(orig[i].p);
			memcpy(orig[i].p, s.in[i].p, s.in[i].len);
		}
		esp_merge_init(&m, &cfg, writes, STREAM_MAX);
		for (unsigned i = 0; i < s.n; i++)
			assert_true(esp_merge_add(&m, s.in[i].p, s.in[i].len));
		n = esp_merge_finish(&m);
		merged += s.n - n;
		for (unsigned i = 0; i < n; i++)
			assert_true(tun_put(&in, &writes[i]));
		for (unsigned i = 0; i < s.n; i++) {
			hop(orig[i].p);
			assert_int_equal(forwarded(&out, got, sizeof(got)), orig[i].len);
			assert_memory_equal(got, orig[i].p, orig[i].len);
			free(orig[i].p);
		}
		stream_done(&s);
	}
	assert_true(merged > 60 * 40);
	(void)close(in.fd);
	(void)close(out.fd);
	(void)close(ns);
}

/* ---- two hosts with a relay between their TUNs ---- */

struct relay {
	struct tun tun[2];
	int ns[2];
	unsigned supers, trains, writes, segments, corrupt_every;
};

static void relay_up(struct relay *r)
{
	memset(r, 0, sizeof(*r));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(netns_new(&r->ns[i]), OK);
		r->tun[i] = tun_up(r->ns[i], "tieoff0", true);
		address(&r->tun[i], (uint8_t)(1 + i));
		route(&r->tun[i], (uint8_t)(2 - i));
	}
}

static void relay_down(struct relay *r)
{
	for (int i = 0; i < 2; i++) {
		(void)close(r->tun[i].fd);
		(void)close(r->ns[i]);
	}
}

/* What one TUN has, cut, then merged into the other. Now and then a segment is spoilt on the way. */
static void relay_some(struct relay *r, int from)
{
	enum { SEGMENTS = 600, WRITES = 64 };
	static uint8_t super[ESP_SUPER_MAX], segment[SEGMENTS][STREAM_PACKET];
	static struct esp_write writes[WRITES];
	struct esp_merge_config cfg = { .uso = r->tun[!from].uso };
	struct esp_merge m;
	unsigned used = 0, n;

	esp_merge_init(&m, &cfg, writes, WRITES);
	for (unsigned reads = 0; reads < 8; reads++) {
		struct esp_super sup;
		struct vnet v;
		size_t len = tun_get(&r->tun[from], &v, super, sizeof(super));

		if (!len)
			break;
		assert_int_equal(esp_super_parse(span_of(super, len), &v, &sup), OK);
		assert_true(used + sup.n <= SEGMENTS);
		r->supers += sup.n > 1 && v.gso_type != VNET_GSO_UDP_L4;
		r->trains += sup.n > 1 && v.gso_type == VNET_GSO_UDP_L4;
		for (unsigned i = 0; i < sup.n; i++, used++) {
			uint8_t *p = segment[used];
			size_t got = esp_super_segment(&sup, i, p, STREAM_PACKET);
			uint8_t protocol = p[p[0] >> 4 == 6 ? 6 : 9];

			assert_true(got > 0);
			if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP)
				assert_true(stream_sums_right(p, got));
			if (r->corrupt_every && ++r->segments % r->corrupt_every == 0)
				p[got - 1] ^= 0x40;
			assert_true(esp_merge_add(&m, p, got));
		}
		if (used > SEGMENTS - 64 || m.n > WRITES - 50)
			break;
	}
	n = esp_merge_finish(&m);
	for (unsigned i = 0; i < n; i++) {
		r->writes += writes[i].n > 1;
		(void)tun_put(&r->tun[!from], &writes[i]); /* a queue that is full is loss */
	}
}

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 2654435761u >> 13);
}

struct end {
	int fd;
	size_t sent, received;
};

/* As much as there is room for, both ways. */
static void end_work(struct end *e, size_t total)
{
	static uint8_t bytes[1 << 16];
	size_t n = total - e->sent < sizeof(bytes) ? total - e->sent : sizeof(bytes);
	ssize_t did;

	for (size_t i = 0; i < n; i++)
		bytes[i] = pattern(e->sent + i);
	did = n ? send(e->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	assert_true(did >= 0 || errno == EAGAIN);
	e->sent += did > 0 ? (size_t)did : 0;
	did = recv(e->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	for (ssize_t i = 0; i < did; i++)
		if (bytes[i] != pattern(e->received + (size_t)i))
			fail_msg("byte %zu is wrong", e->received + (size_t)i);
	e->received += did > 0 ? (size_t)did : 0;
}

static void relay_wait(struct relay *r)
{
	struct pollfd p[2] = { { .fd = r->tun[0].fd, .events = POLLIN }, { .fd = r->tun[1].fd, .events = POLLIN } };

	(void)poll(p, 2, 50);
	for (int i = 0; i < 2; i++)
		if (p[i].revents & POLLIN)
			relay_some(r, i);
}

static void tcp_both_ways(struct relay *r, bool v6, size_t total)
{
	struct addr a = ip_of(v6, 1), b = ip_of(v6, 2);
	struct sockaddr_storage ss;
	struct end e[2] = { { .fd = -1 }, { .fd = -1 } };
	int listener, rounds = 0;

	a.port = 4000;
	b.port = 5000;
	assert_int_equal(netns_socket(r->ns[1], v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				      &listener),
			 OK);
	assert_int_equal(bind(listener, (struct sockaddr *)&ss, addr_to_sockaddr(&b, &ss)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(netns_socket(r->ns[0], v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
				      &e[0].fd),
			 OK);
	/* the kernel makes the local route of a new address in its own time */
	for (int i = 0; i < 100 && bind(e[0].fd, (struct sockaddr *)&ss, addr_to_sockaddr(&a, &ss)) != 0; i++)
		(void)usleep(20000);
	(void)connect(e[0].fd, (struct sockaddr *)&ss, addr_to_sockaddr(&b, &ss));
	for (rounds = 0; e[1].fd < 0; rounds++) {
		assert_true(rounds < 400);
		relay_wait(r);
		e[1].fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	for (rounds = 0; e[0].received < total || e[1].received < total; rounds++) {
		assert_true(rounds < 1000000);
		for (int i = 0; i < 2; i++)
			if (e[i].sent < total || e[i].received < total)
				end_work(&e[i], total);
		relay_wait(r);
	}
	(void)close(e[0].fd);
	(void)close(e[1].fd);
	(void)close(listener);
}

static void streams_through(void **state)
{
	struct relay r;

	(void)state;
	need_privilege();
	for (int v6 = 0; v6 < 2; v6++) {
		relay_up(&r);
		tcp_both_ways(&r, v6, 8u << 20);
		assert_true(r.supers > 50);
		assert_true(r.writes > 50);
		relay_down(&r);
	}
}

/* What was spoilt is dropped by the receiver, and sent again. */
static void streams_with_damage(void **state)
{
	struct relay r;

	(void)state;
	need_privilege();
	relay_up(&r);
	r.corrupt_every = 251;
	tcp_both_ways(&r, false, 1u << 20);
	assert_true(r.segments > 1000);
	relay_down(&r);
}

/* A train of datagrams is the same number of datagrams at the other end. */
static void trains_through(void **state)
{
	static uint8_t bytes[20 * 1000 + 300], got[2000];
	int size = 1000;
	struct relay r;

	(void)state;
	need_privilege();
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = pattern(i);
	for (int v6 = 0; v6 < 2; v6++) {
		struct addr a = ip_of(v6, 1), b = ip_of(v6, 2);
		struct sockaddr_storage ss;
		size_t at = 0;
		int tx, rx;

		relay_up(&r);
		b.port = 5000;
		assert_int_equal(netns_socket(r.ns[1], v6 ? AF_INET6 : AF_INET,
					      SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, &rx),
				 OK);
		assert_int_equal(netns_socket(r.ns[0], v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, &tx), OK);
		for (int i = 0; i < 100 && bind(rx, (struct sockaddr *)&ss, addr_to_sockaddr(&b, &ss)) != 0; i++)
			(void)usleep(20000);
		for (int i = 0; i < 100 && bind(tx, (struct sockaddr *)&ss, addr_to_sockaddr(&a, &ss)) != 0; i++)
			(void)usleep(20000);
		assert_int_equal(connect(tx, (struct sockaddr *)&ss, addr_to_sockaddr(&b, &ss)), 0);
		if (setsockopt(tx, IPPROTO_UDP, SEGMENT_OPTION, &size, sizeof(size)) < 0) {
			print_message("# needs a kernel with UDP_SEGMENT\n");
			skip();
		}
		for (int rounds = 0; at < sizeof(bytes); rounds++) {
			ssize_t n = recv(rx, got, sizeof(got), 0);

			assert_true(rounds < 400);
			/* what comes before the kernel has made the route of the new address is dropped */
			if (n < 0 && !at && rounds % 20 == 0)
				assert_int_equal(send(tx, bytes, sizeof(bytes), 0), sizeof(bytes));
			if (n < 0) {
				relay_wait(&r);
				continue;
			}
			assert_int_equal(n, sizeof(bytes) - at < 1000 ? sizeof(bytes) - at : 1000);
			assert_memory_equal(got, bytes + at, (size_t)n);
			at += (size_t)n;
		}
		if (r.tun[0].uso) {
			assert_true(r.trains > 0);
			assert_true(r.writes > 0);
		} else {
			print_message("# this kernel's TUN has no USO\n");
		}
		(void)close(tx);
		(void)close(rx);
		relay_down(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_cuts_the_same),
		cmocka_unit_test(streams_through),
		cmocka_unit_test(streams_with_damage),
		cmocka_unit_test(trains_through),
	};

	return HARNESS_RUN(tests);
}
