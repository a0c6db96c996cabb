/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/direction.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/netlink.h"
#include "net/netns.h"
#include "net/tun.h"

#define NAME_MAX_LEN 20
#define BATCH_MAX (96 * 1024)
#define MESSAGE_MAX 2048 /* longer than any of ours */
#define PRIORITY (-150) /* after connection tracking (-200), before addresses are translated (-100 and 100) */

struct batch {
	_Alignas(struct nlmsghdr) char bytes[BATCH_MAX];
	size_t len;
	struct nlmsghdr *last;
	bool full;
};

/* ---- messages ---- */

static size_t aligned(const struct nlmsghdr *nlh)
{
	return ((size_t)nlh->nlmsg_len + MNL_ALIGNTO - 1) / MNL_ALIGNTO * MNL_ALIGNTO;
}

static struct nlmsghdr *message(struct batch *b, uint16_t type, uint16_t flags, uint8_t family, uint16_t res_id)
{
	struct nlmsghdr *nlh;
	struct nfgenmsg *g;

	if (b->last)
		b->len += aligned(b->last);
	if (b->len + MESSAGE_MAX > sizeof(b->bytes)) { /* goes no further than its own room, and nowhere */
		b->full = true;
		b->len = 0;
	}
	nlh = mnl_nlmsg_put_header(b->bytes + b->len);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));
	*g = (struct nfgenmsg){ .nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(res_id) };
	b->last = nlh;
	return nlh;
}

static struct nlmsghdr *change(struct batch *b, int type, uint16_t flags, const char *table)
{
	struct nlmsghdr *nlh = message(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);

	/* the attribute of a table's name has this number in all of them */
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
	return nlh;
}

static void begin(struct batch *b)
{
	*b = (struct batch){ .len = 0 };
	(void)message(b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

/* The last change is acknowledged; one that fails before it says so first. */
static enum err commit(struct batch *b)
{
	b->last->nlmsg_flags |= NLM_F_ACK;
	(void)message(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	if (b->full)
		return ERR_LIMIT;
	return netlink_ask_batch(NETLINK_NETFILTER, b->bytes, b->len + aligned(b->last));
}

/* ---- rules ---- */

static void put_number(struct nlmsghdr *nlh, int type, uint32_t n)
{
	mnl_attr_put_u32(nlh, (uint16_t)type, htonl(n));
}

static void put_data(struct nlmsghdr *nlh, int type, const void *p, size_t len)
{
	struct nlattr *nest = mnl_attr_nest_start(nlh, (uint16_t)type);

	mnl_attr_put(nlh, NFTA_DATA_VALUE, len, p);
	mnl_attr_nest_end(nlh, nest);
}

struct expression {
	struct nlattr *element, *data;
};

static struct expression expression(struct nlmsghdr *nlh, const char *name)
{
	struct expression e;

	e.element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, name);
	e.data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
	return e;
}

static void expressed(struct nlmsghdr *nlh, struct expression e)
{
	mnl_attr_nest_end(nlh, e.data);
	mnl_attr_nest_end(nlh, e.element);
}

static void compare(struct nlmsghdr *nlh, enum nft_cmp_ops op, const void *p, size_t len)
{
	struct expression e = expression(nlh, "cmp");

	put_number(nlh, NFTA_CMP_SREG, NFT_REG_1);
	put_number(nlh, NFTA_CMP_OP, op);
	put_data(nlh, NFTA_CMP_DATA, p, len);
	expressed(nlh, e);
}

static void mask(struct nlmsghdr *nlh, const void *bits, size_t len)
{
	static const uint8_t zeros[16];
	struct expression e = expression(nlh, "bitwise");

	put_number(nlh, NFTA_BITWISE_SREG, NFT_REG_1);
	put_number(nlh, NFTA_BITWISE_DREG, NFT_REG_1);
	put_number(nlh, NFTA_BITWISE_LEN, (uint32_t)len);
	put_data(nlh, NFTA_BITWISE_MASK, bits, len);
	put_data(nlh, NFTA_BITWISE_XOR, zeros, len);
	expressed(nlh, e);
}

/* One byte about the packet. */
static void meta_is(struct nlmsghdr *nlh, enum nft_meta_keys key, uint8_t value)
{
	struct expression e = expression(nlh, "meta");

	put_number(nlh, NFTA_META_DREG, NFT_REG_1);
	put_number(nlh, NFTA_META_KEY, key);
	expressed(nlh, e);
	compare(nlh, NFT_CMP_EQ, &value, 1);
}

static void address_in(struct nlmsghdr *nlh, const struct addr_prefix *p, uint32_t offset)
{
	size_t len = addr_ip_len(&p->base);
	struct expression e;
	uint8_t bits[16] = { 0 };

	if (!p->len)
		return;
	e = expression(nlh, "payload");
	put_number(nlh, NFTA_PAYLOAD_DREG, NFT_REG_1);
	put_number(nlh, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	put_number(nlh, NFTA_PAYLOAD_OFFSET, offset);
	put_number(nlh, NFTA_PAYLOAD_LEN, (uint32_t)len);
	expressed(nlh, e);
	for (size_t bit = 0; bit < p->len; bit++)
		bits[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	mask(nlh, bits, len);
	compare(nlh, NFT_CMP_EQ, p->base.ip, len);
}

static void flow_is(struct nlmsghdr *nlh, uint32_t state)
{
	static const uint32_t none;
	struct expression e = expression(nlh, "ct");

	put_number(nlh, NFTA_CT_DREG, NFT_REG_1);
	put_number(nlh, NFTA_CT_KEY, NFT_CT_STATE);
	expressed(nlh, e);
	mask(nlh, &state, sizeof(state));
	compare(nlh, NFT_CMP_NEQ, &none, sizeof(none));
}

static void verdict(struct nlmsghdr *nlh, uint32_t code)
{
	struct expression e = expression(nlh, "immediate");
	struct nlattr *data, *v;

	put_number(nlh, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = mnl_attr_nest_start(nlh, NFTA_IMMEDIATE_DATA);
	v = mnl_attr_nest_start(nlh, NFTA_DATA_VERDICT);
	put_number(nlh, NFTA_VERDICT_CODE, code);
	mnl_attr_nest_end(nlh, v);
	mnl_attr_nest_end(nlh, data);
	expressed(nlh, e);
}

struct place {
	const char *table;
	char chain[16];
	uint32_t hook;
};

/* state 0: whatever it is; related: ICMP alone, since helpers relate what a flow's bytes ask for. */
static void rule(struct batch *b, const struct place *at, const struct addr_prefix *from, const struct addr_prefix *to,
		 uint32_t state, uint32_t code)
{
	struct nlmsghdr *nlh = change(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, at->table);
	bool six = from->base.family == ADDR_IP6;
	struct nlattr *list;

	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, at->chain);
	list = mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);
	meta_is(nlh, NFT_META_NFPROTO, six ? NFPROTO_IPV6 : NFPROTO_IPV4);
	address_in(nlh, from, six ? 8 : 12);
	address_in(nlh, to, six ? 24 : 16);
	if (state == NF_CT_STATE_BIT(IP_CT_RELATED))
		meta_is(nlh, NFT_META_L4PROTO, six ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	if (state)
		flow_is(nlh, state);
	verdict(nlh, code);
	mnl_attr_nest_end(nlh, list);
}

static void chain(struct batch *b, const struct place *at)
{
	struct nlmsghdr *nlh = change(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE, at->table);
	struct nlattr *hook;

	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, at->chain);
	hook = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
	put_number(nlh, NFTA_HOOK_HOOKNUM, at->hook);
	put_number(nlh, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
	mnl_attr_nest_end(nlh, hook);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, "filter");
}

static void empty(struct batch *b, const struct place *at)
{
	mnl_attr_put_strz(change(b, NFT_MSG_DELRULE, 0, at->table), NFTA_RULE_CHAIN, at->chain);
}

/* ---- a grant ---- */

/* What comes in, from a tunnel or a network card, and what goes out, of this host's own as well. */
static void places(struct place ret[2], const char *table, uint32_t id)
{
	static const struct {
		char letter;
		uint32_t hook;
	} hooks[2] = { { 'i', NF_INET_PRE_ROUTING }, { 'o', NF_INET_POST_ROUTING } };

	for (int i = 0; i < 2; i++) {
		ret[i] = (struct place){ .table = table, .hook = hooks[i].hook };
		(void)snprintf(ret[i].chain, sizeof(ret[i].chain), "%c%u", hooks[i].letter, (unsigned)id);
	}
}

static bool is_name(const char *s)
{
	size_t len = strlen(s);

	return len && len <= NAME_MAX_LEN;
}

static bool prefixes_fit(const struct addr_prefix *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!addr_prefix_sound(&p[i])) /* a rule for it would match nothing, and not drop either */
			return false;
	return true;
}

static unsigned rules(struct batch *b, const struct place *at, const struct direction *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->n_servers; i++)
		for (unsigned k = 0; k < d->n_clients; k++) {
			const struct addr_prefix *from = &d->servers[i], *to = &d->clients[k];

			if (from->base.family != to->base.family || !addr_ip_len(&from->base))
				continue;
			rule(b, at, from, to, NF_CT_STATE_BIT(IP_CT_ESTABLISHED), NF_ACCEPT);
			rule(b, at, from, to, NF_CT_STATE_BIT(IP_CT_RELATED), NF_ACCEPT);
			rule(b, at, from, to, 0, NF_DROP);
			n++;
		}
	return n;
}

static enum err set(void *arg)
{
	const struct direction *d = arg;
	struct place at[2];
	struct batch b;
	unsigned n = 0;

	places(at, d->table, d->id);
	begin(&b);
	(void)change(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, d->table);
	for (int i = 0; i < 2; i++) {
		chain(&b, &at[i]);
		empty(&b, &at[i]);
		n += rules(&b, &at[i], d);
	}
	return n ? commit(&b) : ERR_MALFORMED;
}

enum err direction_set(int ns_fd, const struct direction *d)
{
	struct direction copy = *d;

	if (!is_name(d->table) || d->n_servers > DIRECTION_SERVERS_MAX || d->n_clients > DIRECTION_CLIENTS_MAX ||
	    !prefixes_fit(d->servers, d->n_servers) || !prefixes_fit(d->clients, d->n_clients))
		return ERR_MALFORMED;
	return netns_run(ns_fd, set, &copy);
}

struct removal {
	const char *table;
	uint32_t id;
};

static enum err unset(void *arg)
{
	const struct removal *r = arg;
	struct place at[2];
	struct batch b;

	places(at, r->table, r->id);
	begin(&b);
	for (int i = 0; i < 2; i++) {
		empty(&b, &at[i]);
		mnl_attr_put_strz(change(&b, NFT_MSG_DELCHAIN, 0, r->table), NFTA_CHAIN_NAME, at[i].chain);
	}
	return commit(&b);
}

enum err direction_remove(int ns_fd, const char *table, uint32_t id)
{
	struct removal r = { .table = table, .id = id };

	return is_name(table) ? netns_run(ns_fd, unset, &r) : ERR_MALFORMED;
}

static enum err unset_all(void *arg)
{
	const struct removal *r = arg;
	struct batch b;

	begin(&b);
	(void)change(&b, NFT_MSG_DELTABLE, 0, r->table);
	return commit(&b);
}

enum err direction_flush(int ns_fd, const char *table)
{
	struct removal r = { .table = table };

	return is_name(table) ? netns_run(ns_fd, unset_all, &r) : ERR_MALFORMED;
}

enum err direction_available(void)
{
	static const uint8_t one[16] = { [15] = 1 };
	struct direction d = { .table = "probe", .id = 1, .n_servers = 2, .n_clients = 2 };
	int ns_fd;
	enum err e = netns_new(&ns_fd);

	d.servers[0] = d.clients[0] = (struct addr_prefix){ .base = addr_ip4(0x7f000001, 0), .len = 32 };
	d.servers[1] = d.clients[1] = (struct addr_prefix){ .base = addr_of(SPAN_OF(one), 0), .len = 128 };
	if (e != OK)
		return e;
	e = direction_set(ns_fd, &d);
	(void)close(ns_fd);
	return e;
}
