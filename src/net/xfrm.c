/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* SAs of the kernel; policies are in xfrm_policy.c. */
#include "net/xfrm_impl.h"

#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netns.h"
#include "net/tun.h"

#define REPLAY_WORDS (XFRM_REPLAY_WINDOW / 32)

union replay {
	struct xfrm_replay_state_esn s; /* and its window behind it */
	uint8_t bytes[sizeof(struct xfrm_replay_state_esn) + REPLAY_WORDS * sizeof(uint32_t)];
};

union aead {
	struct xfrm_algo_aead a; /* and its key behind it */
	uint8_t bytes[sizeof(struct xfrm_algo_aead) + XFRM_KEY_MAX];
};

static const struct {
	const char *name;
	size_t key;
} aeads[XFRM_N_AEADS] = {
	[XFRM_AES128_GCM] = { "rfc4106(gcm(aes))", 16 + 4 },
	[XFRM_AES256_GCM] = { "rfc4106(gcm(aes))", 32 + 4 },
	[XFRM_CHACHA20_POLY1305] = { "rfc7539esp(chacha20,poly1305)", 32 + 4 },
};

size_t xfrm_key_size(enum xfrm_aead aead)
{
	return (unsigned)aead < XFRM_N_AEADS ? aeads[aead].key : 0;
}

/* ---- what all requests have ---- */

uint16_t xfrm_family(enum addr_family f)
{
	return f == ADDR_IP6 ? AF_INET6 : AF_INET;
}

xfrm_address_t xfrm_address(const struct addr *a)
{
	xfrm_address_t x;

	memset(&x, 0, sizeof(x));
	memcpy(&x, a->ip, addr_ip_len(a));
	return x;
}

struct nlmsghdr *xfrm_request(void *buffer, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return nlh;
}

bool xfrm_payload(const struct nlmsghdr *nlh, void *ret, size_t size)
{
	if (nlh->nlmsg_len < mnl_nlmsg_size(size))
		return false;
	memcpy(ret, mnl_nlmsg_get_payload(nlh), size);
	return true;
}

static bool addresses_fit(const struct addr *from, const struct addr *to)
{
	return addr_ip_len(from) && from->family == to->family && !from->port == !to->port;
}

void xfrm_no_limits(struct xfrm_lifetime_cfg *l)
{
	memset(l, 0, sizeof(*l));
	l->soft_byte_limit = l->hard_byte_limit = l->soft_packet_limit = l->hard_packet_limit = XFRM_INF;
}

static void set_limits(struct xfrm_lifetime_cfg *l, const struct xfrm_sa *sa)
{
	xfrm_no_limits(l);
	if (sa->soft_bytes)
		l->soft_byte_limit = sa->soft_bytes;
	if (sa->hard_bytes)
		l->hard_byte_limit = sa->hard_bytes;
	if (sa->soft_packets)
		l->soft_packet_limit = sa->soft_packets;
	if (sa->hard_packets)
		l->hard_packet_limit = sa->hard_packets;
}

/* ---- made ---- */

static void put_outer(struct xfrm_usersa_info *i, const struct addr *from, const struct addr *to)
{
	i->saddr = xfrm_address(from);
	i->id.daddr = xfrm_address(to);
	i->family = xfrm_family(to->family);
}

static void put_encap(struct nlmsghdr *nlh, const struct addr *from, const struct addr *to)
{
	struct xfrm_encap_tmpl t;

	if (!to->port)
		return;
	memset(&t, 0, sizeof(t));
	t.encap_type = UDP_ENCAP_ESPINUDP;
	t.encap_sport = htons(from->port);
	t.encap_dport = htons(to->port);
	mnl_attr_put(nlh, XFRMA_ENCAP, sizeof(t), &t);
}

static void put_key(struct nlmsghdr *nlh, const struct xfrm_sa *sa)
{
	size_t size = aeads[sa->aead].key;
	union aead a;

	memset(&a, 0, sizeof(a));
	memcpy(a.a.alg_name, aeads[sa->aead].name, strlen(aeads[sa->aead].name));
	a.a.alg_key_len = (unsigned)size * 8;
	a.a.alg_icv_len = 128;
	memcpy(a.bytes + sizeof(a.a), sa->key, size);
	mnl_attr_put(nlh, XFRMA_ALG_AEAD, sizeof(a.a) + size, &a);
	explicit_bzero(&a, sizeof(a));
}

static enum err make(void *arg)
{
	const struct xfrm_sa *sa = arg;
	union replay r = { .bytes = { 0 } };
	struct xfrm_buffer buffer;
	struct nlmsghdr *nlh = xfrm_request(&buffer, XFRM_MSG_NEWSA, NLM_F_ACK);
	struct xfrm_usersa_info *i = mnl_nlmsg_put_extra_header(nlh, sizeof(*i));
	enum err e;

	r.s.bmp_len = REPLAY_WORDS;
	r.s.replay_window = XFRM_REPLAY_WINDOW;
	put_outer(i, &sa->from, &sa->to);
	i->id.spi = htonl(sa->spi);
	i->id.proto = IPPROTO_ESP;
	i->mode = XFRM_MODE_TUNNEL;
	i->reqid = sa->reqid;
	/* either family inside */
	i->flags = (uint8_t)(XFRM_STATE_AF_UNSPEC | XFRM_STATE_NOPMTUDISC | (sa->esn ? XFRM_STATE_ESN : 0));
	set_limits(&i->lft, sa);
	put_key(nlh, sa);
	put_encap(nlh, &sa->from, &sa->to);
	mnl_attr_put(nlh, XFRMA_REPLAY_ESN_VAL, sizeof(r), &r);
	if (!sa->copy_dscp)
		mnl_attr_put_u32(nlh, XFRMA_SA_EXTRA_FLAGS, XFRM_SA_XFLAG_DONT_ENCAP_DSCP);
	e = netlink_ask(NETLINK_XFRM, nlh, false, NULL, NULL);
	explicit_bzero(&buffer, sizeof(buffer));
	return e;
}

enum err xfrm_sa_add(int ns_fd, const struct xfrm_sa *sa)
{
	struct xfrm_sa copy = *sa;
	enum err e;

	if (!xfrm_key_size(sa->aead))
		return ERR_UNSUPPORTED;
	if (sa->spi < 256 || !sa->reqid || !addresses_fit(&sa->from, &sa->to))
		return ERR_MALFORMED;
	e = netns_run(ns_fd, make, &copy);
	explicit_bzero(&copy, sizeof(copy));
	return e;
}

/* ---- found, removed ---- */

struct looking {
	uint32_t spi;
	const struct addr *to;
	uint16_t type, flags;
	struct xfrm_counters *counters; /* of XFRM_MSG_GETSA */
};

static struct nlmsghdr *about(struct looking *l, void *buffer)
{
	struct nlmsghdr *nlh = xfrm_request(buffer, l->type, l->flags);
	struct xfrm_usersa_id *id = mnl_nlmsg_put_extra_header(nlh, sizeof(*id));

	id->daddr = xfrm_address(l->to);
	id->spi = htonl(l->spi);
	id->family = xfrm_family(l->to->family);
	id->proto = IPPROTO_ESP;
	return nlh;
}

static enum err removed(void *arg)
{
	struct xfrm_buffer buffer;

	return netlink_ask(NETLINK_XFRM, about(arg, &buffer), false, NULL, NULL);
}

enum err xfrm_sa_remove(int ns_fd, uint32_t spi, const struct addr *to)
{
	struct looking l = { .spi = spi, .to = to, .type = XFRM_MSG_DELSA, .flags = NLM_F_ACK };

	return addr_ip_len(to) ? netns_run(ns_fd, removed, &l) : ERR_MALFORMED;
}

/* ---- counters ---- */

static bool is_attribute(const struct nlattr *a, const struct nlmsghdr *nlh)
{
	return mnl_attr_ok(a, (int)((const char *)mnl_nlmsg_get_payload_tail(nlh) - (const char *)a));
}

static bool attribute(const struct nlattr *a, int type, void *ret, size_t size)
{
	if (mnl_attr_get_type(a) != type || mnl_attr_get_payload_len(a) < size)
		return false;
	memcpy(ret, mnl_attr_get_payload(a), size);
	return true;
}

static enum err count(void *arg, const struct nlmsghdr *nlh)
{
	struct xfrm_counters *ret = ((struct looking *)arg)->counters;
	struct xfrm_replay_state_esn r;
	struct xfrm_usersa_info i;
	const struct nlattr *a;

	if (nlh->nlmsg_type != XFRM_MSG_NEWSA || !xfrm_payload(nlh, &i, sizeof(i)))
		return ERR_SYSTEM;
	*ret = (struct xfrm_counters){ .packets = i.curlft.packets,
				       .bytes = i.curlft.bytes,
				       .replayed = i.stats.replay,
				       .outside_window = i.stats.replay_window,
				       .not_authentic = i.stats.integrity_failed };
	for (a = mnl_nlmsg_get_payload_offset(nlh, sizeof(i)); is_attribute(a, nlh); a = mnl_attr_next(a)) {
		if (!attribute(a, XFRMA_REPLAY_ESN_VAL, &r, sizeof(r)))
			continue;
		ret->sequence =
			r.oseq || r.oseq_hi ? (uint64_t)r.oseq_hi << 32 | r.oseq : (uint64_t)r.seq_hi << 32 | r.seq;
	}
	return OK;
}

static enum err counted(void *arg)
{
	struct xfrm_buffer buffer;

	return netlink_ask(NETLINK_XFRM, about(arg, &buffer), true, count, arg);
}

enum err xfrm_sa_counters(int ns_fd, uint32_t spi, const struct addr *to, struct xfrm_counters *ret)
{
	struct looking l = { .spi = spi, .to = to, .type = XFRM_MSG_GETSA, .counters = ret };

	return addr_ip_len(to) ? netns_run(ns_fd, counted, &l) : ERR_MALFORMED;
}

/* ---- moved ---- */

struct move {
	const struct addr *from, *to; /* the new ones */
	uint32_t spi;
	const struct addr *old_to;
	void *buffer; /* of XFRM_MESSAGE */
	struct nlmsghdr *anew; /* in it, once the kernel has told the old one's last state */
};

static bool is_it(const struct xfrm_usersa_id *id, const struct move *m)
{
	xfrm_address_t to = xfrm_address(m->old_to);

	return id->spi == htonl(m->spi) && id->proto == IPPROTO_ESP && id->family == xfrm_family(m->old_to->family) &&
	       !memcmp(&id->daddr, &to, addr_ip_len(m->old_to));
}

/* NEWSA of what the message of its removal tells. */
static void take_over(struct move *m, const struct nlmsghdr *gone, const struct xfrm_usersa_info *old)
{
	struct nlmsghdr *nlh = xfrm_request(m->buffer, XFRM_MSG_NEWSA, NLM_F_ACK);
	struct xfrm_usersa_info *i = mnl_nlmsg_put_extra_header(nlh, sizeof(*i));
	const struct nlattr *a;

	*i = *old;
	i->replay_window = 0; /* it is in an attribute */
	put_outer(i, m->from, m->to);
	put_encap(nlh, m->from, m->to);
	mnl_attr_put(nlh, XFRMA_LTIME_VAL, sizeof(old->curlft), &old->curlft);
	for (a = mnl_nlmsg_get_payload_offset(gone, sizeof(struct xfrm_usersa_id)); is_attribute(a, gone);
	     a = mnl_attr_next(a)) {
		switch (mnl_attr_get_type(a)) {
		case XFRMA_ALG_AEAD:
		case XFRMA_REPLAY_ESN_VAL:
		case XFRMA_SA_EXTRA_FLAGS:
			if (!mnl_attr_put_check(nlh, XFRM_MESSAGE, mnl_attr_get_type(a), mnl_attr_get_payload_len(a),
						mnl_attr_get_payload(a)))
				return;
			break;
		default: break;
		}
	}
	m->anew = nlh;
}

static enum err keep(void *arg, const struct nlmsghdr *nlh)
{
	struct move *m = arg;
	struct xfrm_usersa_info old;
	struct xfrm_usersa_id id;
	const struct nlattr *a;

	if (nlh->nlmsg_type != XFRM_MSG_DELSA || !xfrm_payload(nlh, &id, sizeof(id)) || !is_it(&id, m))
		return OK; /* somebody else's */
	for (a = mnl_nlmsg_get_payload_offset(nlh, sizeof(id)); is_attribute(a, nlh); a = mnl_attr_next(a))
		if (attribute(a, XFRMA_SA, &old, sizeof(old)))
			take_over(m, nlh, &old);
	return OK;
}

static enum err moved(void *arg)
{
	struct move *m = arg;
	struct looking l = { .spi = m->spi, .to = m->old_to, .type = XFRM_MSG_DELSA, .flags = NLM_F_ACK };
	struct xfrm_buffer buffer;
	struct xfrm_buffer anew;
	enum err e;

	m->buffer = &anew;
	e = netlink_ask_member(NETLINK_XFRM, 1u << (XFRMNLGRP_SA - 1), about(&l, &buffer), keep, m);
	if (e == OK)
		e = m->anew ? netlink_ask(NETLINK_XFRM, m->anew, false, NULL, NULL) : ERR_SYSTEM;
	explicit_bzero(&anew, sizeof(anew));
	return e;
}

enum err xfrm_sa_move(int ns_fd, uint32_t spi, const struct addr *old_to, const struct addr *from,
		      const struct addr *to)
{
	struct move m = { .from = from, .to = to, .spi = spi, .old_to = old_to };

	return addr_ip_len(old_to) && addresses_fit(from, to) ? netns_run(ns_fd, moved, &m) : ERR_MALFORMED;
}

/* ---- is there any? ---- */

enum err xfrm_available(enum addr_family outer, enum xfrm_aead aead)
{
	struct xfrm_sa sa = { .spi = 0xc0000001, .reqid = 1, .aead = aead, .esn = true };
	int ns_fd;
	enum err e;

	sa.from = sa.to =
		outer == ADDR_IP6 ? (struct addr){ .family = ADDR_IP6, .ip = { [15] = 1 } } : addr_ip4(0x7f000001, 0);
	sa.from.port = sa.to.port = 4500;
	e = netns_new(&ns_fd);
	if (e != OK)
		return e;
	e = xfrm_sa_add(ns_fd, &sa);
	if (e == OK)
		e = xfrm_sa_remove(ns_fd, sa.spi, &sa.to);
	(void)close(ns_fd);
	return e;
}
