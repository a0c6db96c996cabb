/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/veth.h - two namespaces of the test's own, joined by a link whose offloads can be chosen; gone with the test. */
#pragma once
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netlink.h"
#include "net/netns.h"
#include "net/tun.h"

static const char *const veth_names[2] = { "tieveth0", "tieveth1" };

struct veth {
	int ns[2];
	struct addr ip4[2], ip6[2];
};

static enum err veth_link(void *arg)
{
	const struct veth *v = arg;
	_Alignas(struct nlmsghdr) char buffer[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *info, *peer;
	struct nlattr *link, *data, *other;

	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, veth_names[0]);
	link = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	other = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	peer = mnl_nlmsg_put_extra_header(nlh, sizeof(*peer));
	peer->ifi_family = AF_UNSPEC;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, veth_names[1]);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)v->ns[1]);
	mnl_attr_nest_end(nlh, other);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, link);
	return netlink_ask(NETLINK_ROUTE, nlh, false, NULL, NULL);
}

struct veth_feature {
	int end;
	uint32_t command; /* ETHTOOL_SGSO and its like */
	bool on;
};

static enum err veth_feature_set(void *arg)
{
	const struct veth_feature *f = arg;
	struct ethtool_value value = { .cmd = f->command, .data = f->on };
	struct ifreq ifr = { .ifr_data = (void *)&value };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	memcpy(ifr.ifr_name, veth_names[f->end], strlen(veth_names[f->end]));
	r = ioctl(fd, SIOCETHTOOL, &ifr);
	(void)close(fd);
	return r == 0 ? OK : ERR_SYSTEM;
}

/* One offload of one end. */
static inline void veth_set(const struct veth *v, int end, uint32_t command, bool on)
{
	struct veth_feature f = { .end = end, .command = command, .on = on };

	assert_int_equal(netns_run(v->ns[end], veth_feature_set, &f), OK);
}

static enum err veth_no_gso(void *arg)
{
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *info;

	(void)arg;
	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, veth_names[0]);
	mnl_attr_put_u32(nlh, IFLA_GSO_MAX_SEGS, 1);
	return netlink_ask(NETLINK_ROUTE, nlh, false, NULL, NULL);
}

/* Every packet of end 0 crosses alone, and end 1 joins them again as a network card's driver does. */
static inline void veth_hard(const struct veth *v)
{
	assert_int_equal(netns_run(v->ns[0], veth_no_gso, NULL), OK);
	veth_set(v, 0, ETHTOOL_STSO, false);
	veth_set(v, 0, ETHTOOL_SGSO, false);
	veth_set(v, 1, ETHTOOL_SGRO, true);
}

static enum err veth_up(void *arg)
{
	return netlink_link_up(arg, 1500);
}

static inline void veth_open(struct veth *v)
{
	assert_int_equal(netns_new(&v->ns[0]), OK);
	assert_int_equal(netns_new(&v->ns[1]), OK);
	assert_int_equal(netns_run(v->ns[0], veth_link, v), OK);
	for (int i = 0; i < 2; i++) {
		uint8_t ip[16] = { 0xfd, 9, [15] = (uint8_t)(1 + i) };

		v->ip4[i] = addr_ip4(0x0a090001 + (uint32_t)i, 0);
		v->ip6[i] = addr_of(SPAN_OF(ip), 0);
		assert_int_equal(tun_address(v->ns[i], veth_names[i], &v->ip4[i], true), OK);
		assert_int_equal(tun_address(v->ns[i], veth_names[i], &v->ip6[i], true), OK);
		assert_int_equal(netns_run(v->ns[i], veth_up, (void *)(uintptr_t)veth_names[i]), OK);
	}
	for (int i = 0; i < 2; i++) {
		struct addr_prefix to4 = { .base = addr_ip4(0x0a090000, 0), .len = 24 };
		struct addr_prefix to6 = { .base = v->ip6[0], .len = 64 };

		to6.base.ip[15] = 0;
		assert_int_equal(tun_route(v->ns[i], veth_names[i], &to4, NULL, 0, true), OK);
		assert_int_equal(tun_route(v->ns[i], veth_names[i], &to6, NULL, 0, true), OK);
	}
}

static inline void veth_close(struct veth *v)
{
	(void)close(v->ns[0]);
	(void)close(v->ns[1]);
}
