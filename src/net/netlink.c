/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netns.h"
#include "net/tun.h"

static enum err of_errno(int error)
{
	switch (error) {
	case 0: return OK;
	case EEXIST:
	case EBUSY: return ERR_WRONG_STATE;
	case ENOENT:
	case ESRCH:
	case ENODEV:
	case EADDRNOTAVAIL: return ERR_NOTFOUND;
	case EPERM:
	case EACCES: return ERR_DENIED;
	case EAFNOSUPPORT:
	case ENOSYS: /* XFRM: no such algorithm */
	case EPROTONOSUPPORT: /* XFRM: no ESP */
	case EOPNOTSUPP: return ERR_UNSUPPORTED;
	case ENOMEM: return ERR_NOMEM;
	default: return ERR_SYSTEM;
	}
}

/* One received buffer. *ret_end: nothing more comes. */
static enum err take(const struct nlmsghdr *nlh, int len, bool single,
		     enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg, bool *ret_end)
{
	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
		enum err e;

		if (nlh->nlmsg_type == NLMSG_DONE) {
			*ret_end = true;
			return OK;
		}
		if (nlh->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *error = mnl_nlmsg_get_payload(nlh);

			*ret_end = true;
			return nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*error)) ? ERR_SYSTEM : of_errno(-error->error);
		}
		e = each ? each(arg, nlh) : OK;
		if (e != OK || single) {
			*ret_end = true;
			return e;
		}
	}
	return OK;
}

static enum err ask(int family, unsigned groups, const void *bytes, size_t len, bool single,
		    enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg)
{
	struct mnl_socket *s = mnl_socket_open2(family, SOCK_CLOEXEC);
	_Alignas(struct nlmsghdr) char buffer[NETLINK_BUFFER];
	enum err e = ERR_SYSTEM;
	bool end = false;

	if (!s)
		return errno == EPROTONOSUPPORT ? ERR_UNSUPPORTED : ERR_SYSTEM;
	if (mnl_socket_bind(s, groups, MNL_SOCKET_AUTOPID) == 0 && mnl_socket_sendto(s, bytes, len) >= 0)
		e = OK;
	while (e == OK && !end) {
		ssize_t n = mnl_socket_recvfrom(s, buffer, sizeof(buffer));

		e = n < 0 ? ERR_SYSTEM : take((const struct nlmsghdr *)buffer, (int)n, single, each, arg, &end);
		if (n == 0)
			break;
	}
	(void)mnl_socket_close(s);
	return e;
}

static enum err ask_one(int family, unsigned groups, struct nlmsghdr *nlh, bool single,
			enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg)
{
	nlh->nlmsg_seq = 1;
	nlh->nlmsg_flags |= NLM_F_REQUEST;
	return ask(family, groups, nlh, nlh->nlmsg_len, single, each, arg);
}

enum err netlink_ask(int family, struct nlmsghdr *nlh, bool single,
		     enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg)
{
	return ask_one(family, 0, nlh, single, each, arg);
}

enum err netlink_ask_member(int family, unsigned groups, struct nlmsghdr *nlh,
			    enum err (*each)(void *arg, const struct nlmsghdr *nlh), void *arg)
{
	return ask_one(family, groups, nlh, false, each, arg);
}

enum err netlink_ask_batch(int family, const void *messages, size_t len)
{
	return ask(family, 0, messages, len, false, NULL, NULL);
}

/* ---- links ---- */

static enum err link_up(const char *name, unsigned mtu, bool tame)
{
	_Alignas(struct nlmsghdr) char buffer[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ifinfomsg *info;

	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	info->ifi_flags = info->ifi_change = IFF_UP;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (mtu)
		mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
	if (tame) {
		struct nlattr *all = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
		struct nlattr *ip6 = mnl_attr_nest_start(nlh, AF_INET6);

		mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(nlh, ip6);
		mnl_attr_nest_end(nlh, all);
	}
	return netlink_ask(NETLINK_ROUTE, nlh, false, NULL, NULL);
}

enum err netlink_link_up(const char *name, unsigned mtu)
{
	enum err e = ERR_UNSUPPORTED;

	if (strlen(name) >= IFNAMSIZ)
		return ERR_LIMIT;
	if (mtu)
		e = link_up(name, mtu, true);
	/* loopback, or a kernel without IPv6 */
	return e == ERR_UNSUPPORTED ? link_up(name, mtu, false) : e;
}

/* ---- addresses and routes of a TUN ---- */

#define ROUTE_PROTOCOL 193 /* ours, so that `ip route show proto 193` finds them (rtnetlink.h: above 4 for anybody) */

struct change {
	const char *name; /* NULL: an unreachable route */
	struct addr_prefix to;
	const struct addr *source;
	uint32_t metric;
	bool add;
	unsigned mtu; /* of a route; 0: as its interface's */
	bool only_mtu;
};

static uint8_t af_of(const struct addr *ip)
{
	return ip->family == ADDR_IP6 ? AF_INET6 : AF_INET;
}

static enum err change_address(void *arg)
{
	const struct change *c = arg;
	const struct addr *ip = &c->to.base;
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ifaddrmsg *m;
	unsigned index = if_nametoindex(c->name);
	enum err e;

	if (!index)
		return ERR_NOTFOUND;
	nlh->nlmsg_type = c->add ? RTM_NEWADDR : RTM_DELADDR;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | (c->add ? NLM_F_CREATE | NLM_F_EXCL : 0));
	m = mnl_nlmsg_put_extra_header(nlh, sizeof(*m));
	m->ifa_family = af_of(ip);
	m->ifa_prefixlen = c->to.len;
	m->ifa_flags = IFA_F_NODAD | IFA_F_PERMANENT; /* nobody else is on this link to detect */
	m->ifa_index = index;
	mnl_attr_put(nlh, IFA_LOCAL, addr_ip_len(ip), ip->ip);
	mnl_attr_put(nlh, IFA_ADDRESS, addr_ip_len(ip), ip->ip);
	e = netlink_ask(NETLINK_ROUTE, nlh, false, NULL, NULL);
	return e == ERR_WRONG_STATE && c->add ? OK : e; /* it is there */
}

static uint16_t route_flags(const struct change *c)
{
	if (c->only_mtu)
		return NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE;
	if (!c->add)
		return NLM_F_REQUEST | NLM_F_ACK;
	/* beside others one with the same metric is not ours to replace, but for what nobody else makes */
	return (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE |
			  (c->metric && c->name ? NLM_F_EXCL : NLM_F_REPLACE));
}

static enum err change_route(void *arg)
{
	const struct change *c = arg;
	const struct addr *ip = &c->to.base;
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct rtmsg *m;
	unsigned index = c->name ? if_nametoindex(c->name) : 0;

	if (c->name && !index)
		return ERR_NOTFOUND;
	nlh->nlmsg_type = c->add ? RTM_NEWROUTE : RTM_DELROUTE;
	nlh->nlmsg_flags = route_flags(c);
	m = mnl_nlmsg_put_extra_header(nlh, sizeof(*m));
	m->rtm_family = af_of(ip);
	m->rtm_dst_len = c->to.len;
	m->rtm_table = RT_TABLE_MAIN;
	m->rtm_protocol = ROUTE_PROTOCOL;
	m->rtm_scope = c->name && ip->family == ADDR_IP4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	m->rtm_type = c->name ? RTN_UNICAST : RTN_UNREACHABLE;
	mnl_attr_put(nlh, RTA_DST, addr_ip_len(ip), ip->ip);
	if (index)
		mnl_attr_put_u32(nlh, RTA_OIF, index);
	if (c->source)
		mnl_attr_put(nlh, RTA_PREFSRC, addr_ip_len(c->source), c->source->ip);
	if (c->metric)
		mnl_attr_put_u32(nlh, RTA_PRIORITY, c->metric);
	if (c->mtu) {
		struct nlattr *metrics = mnl_attr_nest_start(nlh, RTA_METRICS);

		mnl_attr_put_u32(nlh, RTAX_MTU, c->mtu);
		mnl_attr_nest_end(nlh, metrics);
	}
	return netlink_ask(NETLINK_ROUTE, nlh, false, NULL, NULL);
}

static enum err change(int ns_fd, struct change c, enum err (*fn)(void *arg))
{
	size_t len = addr_ip_len(&c.to.base);

	if (!len || c.to.len > len * 8 || (c.source && c.source->family != c.to.base.family))
		return ERR_UNSUPPORTED;
	if (c.name && strlen(c.name) >= IFNAMSIZ)
		return ERR_LIMIT;
	return netns_run(ns_fd, fn, &c);
}

enum err tun_address(int ns_fd, const char *name, const struct addr *ip, bool add)
{
	struct addr_prefix to = { .base = *ip, .len = (uint8_t)(addr_ip_len(ip) * 8) };

	return change(ns_fd, (struct change){ .name = name, .to = to, .add = add }, change_address);
}

enum err tun_route(int ns_fd, const char *name, const struct addr_prefix *to, const struct addr *source,
		   uint32_t metric, bool add)
{
	return change(ns_fd, (struct change){ .name = name, .to = *to, .source = source, .metric = metric, .add = add },
		      change_route);
}

enum err tun_route_mtu(int ns_fd, const char *name, const struct addr_prefix *to, const struct addr *source,
		       uint32_t metric, unsigned mtu)
{
	struct change c = {
		.name = name, .to = *to, .source = source, .metric = metric, .add = true, .only_mtu = true, .mtu = mtu
	};

	return change(ns_fd, c, change_route);
}

/* ---- a watch on this host's addresses ---- */

enum err address_watch_open(int *ret_fd)
{
	struct sockaddr_nl local = { .nl_family = AF_NETLINK,
				     .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
						  RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return ERR_SYSTEM;
	if (bind(fd, (const struct sockaddr *)&local, sizeof(local)) < 0) {
		(void)close(fd);
		return ERR_SYSTEM;
	}
	*ret_fd = fd;
	return OK;
}

void address_watch_drain(int fd)
{
	char byte;

	/* What changed is read anew by whoever cares; ENOBUFS (we missed some) is one more reason to. */
	while (recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) >= 0 || errno == ENOBUFS)
		;
}
