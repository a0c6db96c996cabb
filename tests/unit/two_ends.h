/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* two_ends.h - two namespaces with a veth between them, each with outer and inner addresses, and the sockets of a tunnel port. For root. */
#pragma once
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netlink.h"
#include "net/netns.h"
#include "net/tun.h"
#include "net/udp.h"
#include "net/xfrm.h"

#define LINK "xv0"
#define PORT 7000
#define SILENCE_MS 150
#define N_OUTER 2 /* pairs of outer addresses of a family */

struct end {
	int ns, fds[2][2]; /* of the two groups: IPv4, IPv6; control, data */
	uint16_t port[2];
	struct addr outer[2][N_OUTER], inner[2]; /* by family */
	uint32_t spi_in;
};

static inline struct addr ip_of(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_ip(span_str(text), &a), OK);
	return a;
}

static inline struct addr_prefix one(const struct addr *a)
{
	struct addr_prefix p = { .base = *a, .len = (uint8_t)(addr_ip_len(a) * 8) };

	p.base.port = 0;
	return p;
}

/* ---- the two ends ---- */

struct veth {
	int other;
};

static inline enum err make_veth(void *arg)
{
	const struct veth *v = arg;
	_Alignas(struct nlmsghdr) char buffer[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct nlattr *info, *data, *peer;
	struct ifinfomsg none = { .ifi_family = AF_UNSPEC };

	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(none)), &none, sizeof(none));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, LINK);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(none)), &none, sizeof(none));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, LINK);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)v->other);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	return netlink_ask(NETLINK_ROUTE, nlh, false, NULL, NULL);
}

static inline enum err up(void *arg)
{
	(void)arg;
	return netlink_link_up(LINK, 1500);
}

static inline enum err open_groups(void *arg)
{
	struct end *x = arg;
	enum err e = OK;

	for (int f = 0; e == OK && f < 2; f++)
		e = udp_group_open(f ? ADDR_IP6 : ADDR_IP4, x->port[0], 1, x->fds[f], &x->port[f]);
	return e;
}

static inline void route_to(const struct end *x, const struct addr *a, const struct addr *source)
{
	struct addr_prefix to = one(a);

	assert_int_equal(tun_route(x->ns, LINK, &to, source, 0, true), OK);
}

static inline void begin(struct end x[2])
{
	static const char *const outer[2][2][N_OUTER] = {
		{ { "10.98.1.1", "10.98.2.1" }, { "fd98:1::1", "fd98:2::1" } },
		{ { "10.98.1.2", "10.98.2.2" }, { "fd98:1::2", "fd98:2::2" } }
	};
	static const char *const inner[2][2] = { { "192.168.98.1", "fd99::1" }, { "192.168.99.2", "fd99::2" } };
	struct veth v;

	memset(x, 0, 2 * sizeof(*x));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(netns_new(&x[i].ns), OK);
		x[i].port[0] = (uint16_t)(i ? 14500 : 4500);
		x[i].spi_in = 0xc0000100u + (unsigned)i;
		for (int f = 0; f < 2; f++) {
			x[i].inner[f] = ip_of(inner[i][f]);
			for (int k = 0; k < N_OUTER; k++) {
				x[i].outer[f][k] = ip_of(outer[i][f][k]);
				x[i].outer[f][k].port = x[i].port[0];
			}
		}
	}
	v.other = x[1].ns;
	assert_int_equal(netns_run(x[0].ns, make_veth, &v), OK);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(netns_run(x[i].ns, up, NULL), OK);
		for (int f = 0; f < 2; f++) {
			assert_int_equal(tun_address(x[i].ns, LINK, &x[i].inner[f], true), OK);
			for (int k = 0; k < N_OUTER; k++)
				assert_int_equal(tun_address(x[i].ns, LINK, &x[i].outer[f][k], true), OK);
		}
		for (int f = 0; f < 2; f++) {
			route_to(&x[i], &x[!i].inner[f], &x[i].inner[f]);
			for (int k = 0; k < N_OUTER; k++)
				route_to(&x[i], &x[!i].outer[f][k], &x[i].outer[f][k]);
		}
		assert_int_equal(netns_run(x[i].ns, open_groups, &x[i]), OK);
	}
}

static inline void end(struct end x[2])
{
	for (int i = 0; i < 2; i++) {
		for (int f = 0; f < 2; f++)
			for (int k = 0; k < 2; k++)
				(void)close(x[i].fds[f][k]);
		(void)close(x[i].ns);
	}
}

/* ---- packets ---- */

static inline int inner_socket(const struct end *x, unsigned family, uint16_t port)
{
	struct sockaddr_storage ss;
	struct addr a = x->inner[family];
	int fd;

	a.port = port;
	assert_int_equal(netns_socket(x->ns, family ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, &fd), OK);
	assert_int_equal(bind(fd, (const struct sockaddr *)&ss, addr_to_sockaddr(&a, &ss)), 0);
	return fd;
}

static inline bool arrives(int fd, const char *text, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char got[64];
	ssize_t n;

	if (poll(&p, 1, ms) != 1)
		return false;
	n = recv(fd, got, sizeof(got), 0);
	return n == (ssize_t)strlen(text) && !memcmp(got, text, strlen(text));
}

/* From inner address to inner address; false: it was not sent, or did not arrive. */
static inline bool passes(const struct end x[2], int from, unsigned family, int ms)
{
	static const char text[] = "inside";
	struct sockaddr_storage ss;
	struct addr to = x[!from].inner[family];
	int out = inner_socket(&x[from], family, 0), in = inner_socket(&x[!from], family, PORT);
	bool ok;

	to.port = PORT;
	ok = sendto(out, text, strlen(text), 0, (const struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)) > 0 &&
	     arrives(in, text, ms);
	(void)close(out);
	(void)close(in);
	return ok;
}

static inline bool have_esp(void)
{
	for (int f = ADDR_IP4; f <= ADDR_IP6; f += 2)
		for (enum xfrm_aead a = 0; a < XFRM_N_AEADS; a++)
			if (xfrm_available((enum addr_family)f, a) != OK)
				return false;
	return true;
}

static inline void begin_esp(struct end x[2])
{
	begin(x);
	for (int i = 0; i < 2; i++)
		for (int f = 0; f < 2; f++)
			assert_int_equal(udp_give_esp(x[i].fds[f][1]), OK);
}

/* ---- SAs and policies ---- */

struct wish {
	unsigned outer, at; /* outer family, which pair */
	enum xfrm_aead aead;
	bool esn, plain;
	uint64_t hard_packets;
};

static inline struct xfrm_sa sa_of(const struct end x[2], int to, const struct wish *w)
{
	struct xfrm_sa sa = { .spi = x[to].spi_in,
			      .from = x[!to].outer[w->outer][w->at],
			      .to = x[to].outer[w->outer][w->at],
			      .reqid = 77,
			      .aead = w->aead,
			      .esn = w->esn,
			      .hard_packets = w->hard_packets };

	memset(sa.key, 0x40 + to, sizeof(sa.key));
	if (w->plain)
		sa.from.port = sa.to.port = 0;
	return sa;
}

/* Both of this end's SAs. */
static inline void add_sas(const struct end x[2], int at, const struct wish *w)
{
	for (int to = 0; to < 2; to++) {
		struct xfrm_sa sa = sa_of(x, to, w);

		assert_int_equal(xfrm_sa_add(x[at].ns, &sa), OK);
	}
}

static inline struct xfrm_policy policy_of(const struct end x[2], int at, unsigned inner, enum xfrm_way way,
					   const struct wish *w)
{
	int from = way == XFRM_WAY_OUT ? at : !at;

	return (struct xfrm_policy){ .way = way,
				     .from = one(&x[from].inner[inner]),
				     .to = one(&x[!from].inner[inner]),
				     .reqid = 77,
				     .block = !w,
				     .outer_from = w ? x[from].outer[w->outer][w->at] : (struct addr){ 0 },
				     .outer_to = w ? x[!from].outer[w->outer][w->at] : (struct addr){ 0 } };
}

/* w NULL: blocking ones. */
static inline void set_policies(const struct end x[2], int at, const struct wish *w)
{
	for (unsigned inner = 0; inner < 2; inner++)
		for (enum xfrm_way way = XFRM_WAY_IN; way <= XFRM_WAY_OUT; way++) {
			struct xfrm_policy p = policy_of(x, at, inner, way, w);

			assert_int_equal(xfrm_policy_set(x[at].ns, &p), OK);
		}
}

static inline struct xfrm_counters counters(const struct end x[2], int at, int to, const struct wish *w)
{
	struct xfrm_counters c;

	assert_int_equal(xfrm_sa_counters(x[at].ns, x[to].spi_in, &x[to].outer[w->outer][w->at], &c), OK);
	return c;
}

static inline void flush(const struct end x[2])
{
	for (int i = 0; i < 2; i++)
		assert_int_equal(xfrm_flush(x[i].ns, 77, 77), OK);
}
