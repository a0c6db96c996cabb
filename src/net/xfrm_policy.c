/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Policies of the kernel, and what is left of ours. */
#include "net/xfrm_impl.h"

#include <string.h>
#include <sys/socket.h>

#include "net/netns.h"

static uint8_t direction(enum xfrm_way way)
{
	return way == XFRM_WAY_OUT ? XFRM_POLICY_OUT : way == XFRM_WAY_IN ? XFRM_POLICY_IN : XFRM_POLICY_FWD;
}

static bool prefix_fits(const struct addr_prefix *p)
{
	return addr_ip_len(&p->base) && addr_prefix_sound(p);
}

static void select_packets(struct xfrm_selector *s, const struct addr_prefix *from, const struct addr_prefix *to)
{
	s->saddr = xfrm_address(&from->base);
	s->prefixlen_s = from->len;
	s->daddr = xfrm_address(&to->base);
	s->prefixlen_d = to->len;
	s->family = xfrm_family(to->base.family);
}

static void put_template(struct nlmsghdr *nlh, const struct xfrm_policy *p)
{
	struct xfrm_user_tmpl t;

	memset(&t, 0, sizeof(t));
	t.id.proto = IPPROTO_ESP;
	t.family = xfrm_family(p->outer_to.family);
	t.reqid = p->reqid;
	t.mode = XFRM_MODE_TUNNEL;
	t.aalgos = t.ealgos = t.calgos = ~0u;
	if (p->way == XFRM_WAY_OUT) {
		t.saddr = xfrm_address(&p->outer_from);
		t.id.daddr = xfrm_address(&p->outer_to);
	}
	mnl_attr_put(nlh, XFRMA_TMPL, sizeof(t), &t);
}

static enum err set(void *arg)
{
	const struct xfrm_policy *p = arg;
	struct xfrm_buffer buffer;
	/* UPDPOLICY makes it, or replaces it */
	struct nlmsghdr *nlh = xfrm_request(&buffer, XFRM_MSG_UPDPOLICY, NLM_F_ACK);
	struct xfrm_userpolicy_info *i = mnl_nlmsg_put_extra_header(nlh, sizeof(*i));

	select_packets(&i->sel, &p->from, &p->to);
	xfrm_no_limits(&i->lft);
	i->priority = p->reqid;
	i->dir = direction(p->way);
	i->action = p->block ? XFRM_POLICY_BLOCK : XFRM_POLICY_ALLOW;
	if (!p->block)
		put_template(nlh, p);
	return netlink_ask(NETLINK_XFRM, nlh, false, NULL, NULL);
}

enum err xfrm_policy_set(int ns_fd, const struct xfrm_policy *p)
{
	struct xfrm_policy copy = *p;

	if (!p->reqid || !prefix_fits(&p->from) || !prefix_fits(&p->to) || p->from.base.family != p->to.base.family ||
	    (unsigned)p->way >= XFRM_N_WAYS)
		return ERR_MALFORMED;
	if (!p->block && (!addr_ip_len(&p->outer_to) || p->outer_from.family != p->outer_to.family))
		return ERR_MALFORMED;
	return netns_run(ns_fd, set, &copy);
}

struct selection {
	enum xfrm_way way;
	const struct addr_prefix *from, *to;
};

static enum err unset(void *arg)
{
	const struct selection *s = arg;
	struct xfrm_buffer buffer;
	struct nlmsghdr *nlh = xfrm_request(&buffer, XFRM_MSG_DELPOLICY, NLM_F_ACK);
	struct xfrm_userpolicy_id *id = mnl_nlmsg_put_extra_header(nlh, sizeof(*id));

	select_packets(&id->sel, s->from, s->to);
	id->dir = direction(s->way);
	return netlink_ask(NETLINK_XFRM, nlh, false, NULL, NULL);
}

enum err xfrm_policy_remove(int ns_fd, enum xfrm_way way, const struct addr_prefix *from, const struct addr_prefix *to)
{
	struct selection s = { .way = way, .from = from, .to = to };

	if (!prefix_fits(from) || !prefix_fits(to) || from->base.family != to->base.family)
		return ERR_MALFORMED;
	return netns_run(ns_fd, unset, &s);
}

/* ---- leftovers ---- */

#define FOUND_MAX 64 /* at a time */

struct flush {
	uint32_t first, last;
	unsigned n;
	union {
		struct xfrm_usersa_id sa[FOUND_MAX];
		struct xfrm_userpolicy_id policy[FOUND_MAX];
	} found;
};

static bool ours(const struct flush *f, uint32_t reqid)
{
	return reqid >= f->first && reqid <= f->last;
}

static enum err note_sa(void *arg, const struct nlmsghdr *nlh)
{
	struct flush *f = arg;
	struct xfrm_usersa_info i;

	if (nlh->nlmsg_type != XFRM_MSG_NEWSA || !xfrm_payload(nlh, &i, sizeof(i)) || i.id.proto != IPPROTO_ESP ||
	    !ours(f, i.reqid))
		return OK;
	if (f->n == FOUND_MAX)
		return OK; /* next time */
	f->found.sa[f->n++] = (struct xfrm_usersa_id){
		.daddr = i.id.daddr, .spi = i.id.spi, .family = i.family, .proto = i.id.proto
	};
	return OK;
}

static enum err note_policy(void *arg, const struct nlmsghdr *nlh)
{
	struct flush *f = arg;
	struct xfrm_userpolicy_info i;

	if (nlh->nlmsg_type != XFRM_MSG_NEWPOLICY || !xfrm_payload(nlh, &i, sizeof(i)) || !ours(f, i.priority) ||
	    f->n == FOUND_MAX)
		return OK;
	f->found.policy[f->n++] = (struct xfrm_userpolicy_id){ .sel = i.sel, .index = i.index, .dir = i.dir };
	return OK;
}

static enum err remove_one(uint16_t type, const void *id, size_t size)
{
	struct xfrm_buffer buffer;
	struct nlmsghdr *nlh = xfrm_request(&buffer, type, NLM_F_ACK);
	enum err e;

	memcpy(mnl_nlmsg_put_extra_header(nlh, size), id, size);
	e = netlink_ask(NETLINK_XFRM, nlh, false, NULL, NULL);
	return e == ERR_NOTFOUND ? OK : e; /* it went by itself meanwhile */
}

static enum err flush_kind(struct flush *f, uint16_t get, uint16_t del)
{
	struct xfrm_buffer buffer;
	bool policy = get == XFRM_MSG_GETPOLICY;
	enum err e;

	do {
		f->n = 0;
		e = netlink_ask(NETLINK_XFRM, xfrm_request(&buffer, get, NLM_F_DUMP), false,
				policy ? note_policy : note_sa, f);
		for (unsigned i = 0; e == OK && i < f->n; i++)
			e = policy ? remove_one(del, &f->found.policy[i], sizeof(f->found.policy[i]))
				   : remove_one(del, &f->found.sa[i], sizeof(f->found.sa[i]));
	} while (e == OK && f->n == FOUND_MAX);
	return e;
}

static enum err flush_all(void *arg)
{
	enum err e = flush_kind(arg, XFRM_MSG_GETSA, XFRM_MSG_DELSA), policies;

	policies = flush_kind(arg, XFRM_MSG_GETPOLICY, XFRM_MSG_DELPOLICY);
	return e == OK ? policies : e;
}

enum err xfrm_flush(int ns_fd, uint32_t first, uint32_t last)
{
	struct flush f = { .first = first, .last = last };

	return netns_run(ns_fd, flush_all, &f);
}
