/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What an unprivileged process may ask the kernel: our addresses, whose a socket is, how long packets may be. */
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netlink.h"
#include "net/tun.h"
#include "net/udp.h"

#define LINKS_MAX 256 /* interfaces looked at; addresses of others are left out */

/* mnl_attr_for_each() without its narrowing: NULL at the end. */
static const struct nlattr *attr_first(const struct nlmsghdr *nlh, size_t header)
{
	const struct nlattr *a = mnl_nlmsg_get_payload_offset(nlh, header);

	return mnl_attr_ok(a, (int)((const char *)mnl_nlmsg_get_payload_tail(nlh) - (const char *)a)) ? a : NULL;
}

static const struct nlattr *attr_next(const struct nlmsghdr *nlh, const struct nlattr *at)
{
	const struct nlattr *a = mnl_attr_next(at);

	return mnl_attr_ok(a, (int)((const char *)mnl_nlmsg_get_payload_tail(nlh) - (const char *)a)) ? a : NULL;
}

/* ---- addresses ---- */

struct address_list {
	const char *except;
	unsigned links[LINKS_MAX], n_links;
	struct addr *to;
	unsigned n, cap;
};

static bool is_named(const struct nlmsghdr *nlh, const char *name)
{
	const struct nlattr *attr = attr_first(nlh, sizeof(struct ifinfomsg));

	for (; attr; attr = attr_next(nlh, attr))
		if (mnl_attr_get_type(attr) == IFLA_IFNAME)
			return mnl_attr_get_payload_len(attr) == strlen(name) + 1 &&
			       !memcmp(mnl_attr_get_payload(attr), name, strlen(name) + 1);
	return false;
}

static enum err each_link(void *arg, const struct nlmsghdr *nlh)
{
	struct address_list *l = arg;
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);

	if (l->except && nlh->nlmsg_len >= mnl_nlmsg_size(sizeof(*info)) && is_named(nlh, l->except))
		return OK;
	if (nlh->nlmsg_type == RTM_NEWLINK && nlh->nlmsg_len >= mnl_nlmsg_size(sizeof(*info)) &&
	    (info->ifi_flags & IFF_UP) && !(info->ifi_flags & IFF_LOOPBACK) && l->n_links < LINKS_MAX)
		l->links[l->n_links++] = (unsigned)info->ifi_index;
	return OK;
}

static bool link_usable(const struct address_list *l, unsigned index)
{
	for (unsigned i = 0; i < l->n_links; i++)
		if (l->links[i] == index)
			return true;
	return false;
}

static enum err each_address(void *arg, const struct nlmsghdr *nlh)
{
	struct address_list *l = arg;
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;
	struct span local = SPAN_NONE, address = SPAN_NONE;
	uint32_t flags;
	struct addr a;

	if (nlh->nlmsg_type != RTM_NEWADDR || nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*m)))
		return OK;
	flags = m->ifa_flags;
	for (attr = attr_first(nlh, sizeof(*m)); attr; attr = attr_next(nlh, attr)) {
		struct span value = span_of(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));

		if (mnl_attr_get_type(attr) == IFA_LOCAL)
			local = value;
		else if (mnl_attr_get_type(attr) == IFA_ADDRESS)
			address = value;
		else if (mnl_attr_get_type(attr) == IFA_FLAGS && value.len == sizeof(flags))
			memcpy(&flags, value.p, sizeof(flags));
	}
	/* on a point-to-point link IFA_ADDRESS is the other end's, IFA_LOCAL ours */
	a = addr_of(local.len ? local : address, 0);
	if (a.family == ADDR_NONE || !link_usable(l, m->ifa_index) ||
	    (flags & (IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED)) || addr_is_any(&a) ||
	    addr_is_loopback(&a) || addr_is_link_local(&a) || addr_is_multicast(&a))
		return OK;
	if (l->n < l->cap)
		l->to[l->n++] = a;
	return OK;
}

static enum err dump(uint16_t type, enum err (*each)(void *arg, const struct nlmsghdr *nlh), struct address_list *l)
{
	_Alignas(struct nlmsghdr) char buffer[128];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct rtgenmsg *m;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	m = mnl_nlmsg_put_extra_header(nlh, type == RTM_GETLINK ? sizeof(struct ifinfomsg) : sizeof(struct ifaddrmsg));
	m->rtgen_family = AF_UNSPEC;
	return netlink_ask(NETLINK_ROUTE, nlh, false, each, l);
}

enum err local_addresses(const char *except, struct addr *ret, unsigned cap, unsigned *ret_n)
{
	struct address_list l = { .except = except, .to = ret, .cap = cap };
	enum err e = dump(RTM_GETLINK, each_link, &l);

	if (e == OK)
		e = dump(RTM_GETADDR, each_address, &l);
	if (e == OK)
		*ret_n = l.n;
	return e;
}

/* ---- whose socket ---- */

struct owner {
	const struct addr *from, *to;
	uint8_t protocol;
	bool found, ambiguous;
	uint32_t uid;
};

/* States in which a TCP socket has an owner and a peer: not LISTEN, not TIME-WAIT, not half-made. */
#define TCP_OWNED                                                                                                      \
	(1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT |                    \
	 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

static struct addr diag_addr(const struct inet_diag_msg *m, const __be32 ip[4], __be16 port)
{
	/* a mapped address of an IPv6 socket becomes IPv4 here */
	return addr_of(span_of(ip, m->idiag_family == AF_INET6 ? 16 : 4), ntohs(port));
}

static bool is_v6only(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr = attr_first(nlh, sizeof(struct inet_diag_msg));

	for (; attr; attr = attr_next(nlh, attr))
		if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY && mnl_attr_get_payload_len(attr) >= 1)
			return mnl_attr_get_u8(attr) != 0;
	return false;
}

static bool fits_tcp(const struct owner *o, const struct inet_diag_msg *m)
{
	struct addr local = diag_addr(m, m->id.idiag_src, m->id.idiag_sport);
	struct addr remote = diag_addr(m, m->id.idiag_dst, m->id.idiag_dport);

	return m->idiag_state < 32 && (1u << m->idiag_state & TCP_OWNED) && addr_eq(&local, o->from) &&
	       addr_eq(&remote, o->to);
}

/* Could this UDP socket have sent from o->from to o->to? */
static bool fits_udp(const struct owner *o, const struct inet_diag_msg *m, const struct nlmsghdr *nlh)
{
	struct addr local = diag_addr(m, m->id.idiag_src, m->id.idiag_sport);
	struct addr remote = diag_addr(m, m->id.idiag_dst, m->id.idiag_dport);

	if (local.port != o->from->port || (remote.port && !addr_eq(&remote, o->to)))
		return false;
	if (!addr_is_any(&local))
		return addr_ip_eq(&local, o->from);
	return local.family == o->from->family || (local.family == ADDR_IP6 && !is_v6only(nlh));
}

static enum err each_socket(void *arg, const struct nlmsghdr *nlh)
{
	struct owner *o = arg;
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY || nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*m)))
		return OK;
	/* Without an inode nobody holds the socket any more, and its uid reads 0: never take that for root. */
	if (!m->idiag_inode || !(o->protocol == IPPROTO_TCP ? fits_tcp(o, m) : fits_udp(o, m, nlh)))
		return OK;
	if (o->found && o->uid != m->idiag_uid)
		o->ambiguous = true;
	o->found = true;
	o->uid = m->idiag_uid;
	return OK;
}

static enum err diag(struct owner *o, uint8_t family)
{
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *rq;
	bool exact = o->protocol == IPPROTO_TCP;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | (exact ? 0 : NLM_F_DUMP));
	rq = mnl_nlmsg_put_extra_header(nlh, sizeof(*rq));
	rq->sdiag_family = family;
	rq->sdiag_protocol = o->protocol;
	rq->idiag_states = ~0u;
	rq->id.idiag_cookie[0] = rq->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (exact) {
		rq->id.idiag_sport = htons(o->from->port);
		rq->id.idiag_dport = htons(o->to->port);
		memcpy(rq->id.idiag_src, o->from->ip, addr_ip_len(o->from));
		memcpy(rq->id.idiag_dst, o->to->ip, addr_ip_len(o->to));
	}
	return netlink_ask(NETLINK_SOCK_DIAG, nlh, exact, each_socket, o);
}

enum err sock_owner(uint8_t protocol, const struct addr *from, const struct addr *to, uint32_t *ret_uid)
{
	struct owner o = { .from = from, .to = to, .protocol = protocol };
	enum err e;

	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || from->family != to->family || !addr_ip_len(from))
		return ERR_UNSUPPORTED;
	e = diag(&o, from->family == ADDR_IP6 ? AF_INET6 : AF_INET);
	/* A client's UDP socket is rarely connected: look at all on its port, of both families. */
	if (e == OK && protocol == IPPROTO_UDP && from->family == ADDR_IP4)
		e = diag(&o, AF_INET6);
	if (e != OK)
		return e;
	if (!o.found)
		return ERR_NOTFOUND;
	if (o.ambiguous)
		return ERR_DENIED;
	*ret_uid = o.uid;
	return OK;
}

/* ---- how long packets may be ---- */

static int mtu_of(int fd, bool six)
{
	int mtu = 0;
	socklen_t len = sizeof(mtu);

	return getsockopt(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_MTU : IP_MTU, &mtu, &len) == 0 ? mtu : 0;
}

enum err path_mtu(const struct addr *from, const struct addr *to, unsigned *ret_mtu)
{
	struct addr any_port = *from;
	struct sockaddr_storage a, b;
	socklen_t a_len, b_len;
	int fd, mtu = 0;

	if (!addr_ip_len(from) || from->family != to->family)
		return ERR_UNSUPPORTED;
	any_port.port = 0;
	a_len = addr_to_sockaddr(&any_port, &a);
	b_len = addr_to_sockaddr(to, &b);
	fd = socket(a.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ERR_SYSTEM;
	/* nothing is sent: connect() looks for the way */
	if (bind(fd, (struct sockaddr *)&a, a_len) == 0 && connect(fd, (struct sockaddr *)&b, b_len) == 0)
		mtu = mtu_of(fd, from->family == ADDR_IP6);
	(void)close(fd);
	*ret_mtu = mtu > 0 ? (unsigned)mtu : 0;
	return *ret_mtu ? OK : ERR_NOTFOUND;
}
