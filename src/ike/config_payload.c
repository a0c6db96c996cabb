/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The Configuration payload (RFC 7296, 2.19 and 3.15). */
#include "ike/config_payload.h"

#include <string.h>

#define TYPE_BITS 0x7fffu /* the first bit is reserved, and ignored */

int ike_cp_size(uint16_t type)
{
	switch (type) {
	case IKE_CP_IP4_ADDRESS:
	case IKE_CP_IP4_NETMASK:
	case IKE_CP_IP4_DNS: return 4;
	case IKE_CP_IP4_SUBNET: return 8;
	case IKE_CP_IP6_DNS: return 16;
	case IKE_CP_IP6_ADDRESS:
	case IKE_CP_IP6_SUBNET: return 17;
	default: return -1;
	}
}

/* False: its ones are not all in front. */
static bool netmask_len(const uint8_t p[4], uint8_t *ret)
{
	uint32_t mask = be32(p);
	uint8_t len = 0;

	while (len < 32 && mask & 0x80000000u >> len)
		len++;
	if (len < 32 && mask << len)
		return false;
	*ret = len;
	return true;
}

static void netmask_write(struct wr *w, uint8_t len)
{
	wr_u32(w, len ? UINT32_MAX << (32 - len) : 0);
}

/* Host bits are cleared: 3.15.1 calls it an address with a mask. */
static bool prefix_of(struct addr ip, uint8_t len, struct addr_prefix *ret)
{
	size_t bits = addr_ip_len(&ip) * 8;

	if (len > bits)
		return false;
	for (size_t bit = len; bit < bits; bit++)
		ip.ip[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	*ret = (struct addr_prefix){ .base = ip, .len = len };
	return true;
}

/* addr_of() would make an IPv4 address of a mapped one. */
static struct addr ip6_of(const uint8_t p[16])
{
	struct addr a = { .family = ADDR_IP6 };

	memcpy(a.ip, p, 16);
	return a;
}

static bool usable(const struct addr *a)
{
	return !addr_is_any(a) && !addr_is_multicast(a) && !addr_is_loopback(a) && !addr_is_link_local(a);
}

static void take_address(const struct addr *a, struct addr *to)
{
	if (to->family == ADDR_NONE && usable(a)) /* one of each family is asked for */
		*to = *a;
}

static void take_dns(const struct addr *a, struct ike_cp *cp)
{
	if (cp->n_dns < IKE_CP_DNS_MAX && usable(a))
		cp->dns[cp->n_dns++] = *a;
}

static void take_subnet(struct addr ip, uint8_t len, struct ike_cp *cp)
{
	if (cp->n_subnets < IKE_CP_SUBNETS_MAX && prefix_of(ip, len, &cp->subnets[cp->n_subnets]))
		cp->n_subnets++;
}

static void take_value(uint16_t type, const uint8_t *v, struct ike_cp *cp)
{
	struct addr ip4 = addr_of(span_of(v, 4), 0), ip6 = { .family = ADDR_NONE };
	uint8_t len;

	if (ike_cp_size(type) >= 16)
		ip6 = ip6_of(v);
	switch (type) {
	case IKE_CP_IP4_ADDRESS: take_address(&ip4, &cp->ip4); break;
	case IKE_CP_IP4_NETMASK:
		if (netmask_len(v, &len))
			cp->ip4_len = len;
		break;
	case IKE_CP_IP4_DNS: take_dns(&ip4, cp); break;
	case IKE_CP_IP4_SUBNET:
		if (netmask_len(v + 4, &len))
			take_subnet(ip4, len, cp);
		break;
	case IKE_CP_IP6_ADDRESS: take_address(&ip6, &cp->ip6); break;
	case IKE_CP_IP6_DNS: take_dns(&ip6, cp); break;
	case IKE_CP_IP6_SUBNET: take_subnet(ip6, v[16], cp); break;
	default: break;
	}
}

enum err ike_cp_parse(struct span body, uint8_t *ret_type, struct ike_cp *ret)
{
	struct rd r = rd_of(body);
	uint8_t cfg = rd_u8(&r);
	struct ike_cp cp = { .there = true };

	rd_skip(&r, 3);
	while (rd_left(&r)) {
		uint16_t type = rd_u16(&r) & TYPE_BITS, len = rd_u16(&r);
		struct span v = rd_span(&r, len);
		int size = ike_cp_size(type);

		if (r.bad)
			return ERR_MALFORMED;
		if (size < 0)
			continue;
		if (len && len != (unsigned)size)
			return ERR_MALFORMED;
		cp.asks |= IKE_CP_BIT(type);
		if (len && cfg == IKE_CFG_REPLY)
			take_value(type, v.p, &cp);
	}
	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret_type = cfg;
	*ret = cp;
	return OK;
}

bool ike_cp_find(const struct ike_chain *c, enum ike_cfg_type type, struct ike_cp *ret)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct ike_cp cp;
		uint8_t is;

		if (c->p[i].type == IKE_P_CP && ike_cp_parse(c->p[i].body, &is, &cp) == OK && is == type) {
			*ret = cp;
			return true;
		}
	}
	return false;
}

/* ---- writing ---- */

static void attribute(struct ike_build *b, uint16_t type, struct span value)
{
	wr_u16(&b->w, type);
	wr_u16(&b->w, (uint16_t)value.len);
	wr_span(&b->w, value);
}

static void build_request(struct ike_build *b, const struct ike_cp *cp)
{
	for (unsigned type = IKE_CP_IP4_ADDRESS; type <= IKE_CP_IP6_SUBNET; type++)
		if (cp->asks & IKE_CP_BIT(type) && ike_cp_size((uint16_t)type) >= 0)
			attribute(b, (uint16_t)type, SPAN_NONE);
}

static void build_subnet(struct ike_build *b, const struct ike_cp *cp, const struct addr_prefix *p)
{
	bool ip4 = p->base.family == ADDR_IP4;
	uint16_t type = ip4 ? IKE_CP_IP4_SUBNET : IKE_CP_IP6_SUBNET;

	if (!(cp->asks & IKE_CP_BIT(type)))
		return;
	wr_u16(&b->w, type);
	wr_u16(&b->w, (uint16_t)ike_cp_size(type));
	wr_span(&b->w, addr_ip(&p->base));
	if (ip4)
		netmask_write(&b->w, p->len);
	else
		wr_u8(&b->w, p->len);
}

static void build_reply(struct ike_build *b, const struct ike_cp *cp)
{
	if (cp->ip4.family == ADDR_IP4 && cp->asks & IKE_CP_BIT(IKE_CP_IP4_ADDRESS)) {
		attribute(b, IKE_CP_IP4_ADDRESS, addr_ip(&cp->ip4));
		if (cp->asks & IKE_CP_BIT(IKE_CP_IP4_NETMASK)) {
			wr_u16(&b->w, IKE_CP_IP4_NETMASK);
			wr_u16(&b->w, 4);
			netmask_write(&b->w, cp->ip4_len);
		}
	}
	if (cp->ip6.family == ADDR_IP6 && cp->asks & IKE_CP_BIT(IKE_CP_IP6_ADDRESS)) {
		wr_u16(&b->w, IKE_CP_IP6_ADDRESS);
		wr_u16(&b->w, 17);
		wr_span(&b->w, addr_ip(&cp->ip6));
		wr_u8(&b->w, 128);
	}
	for (unsigned i = 0; i < cp->n_dns; i++) {
		uint16_t type = cp->dns[i].family == ADDR_IP4 ? IKE_CP_IP4_DNS : IKE_CP_IP6_DNS;

		if (cp->asks & IKE_CP_BIT(type))
			attribute(b, type, addr_ip(&cp->dns[i]));
	}
	for (unsigned i = 0; i < cp->n_subnets; i++)
		build_subnet(b, cp, &cp->subnets[i]);
}

void ike_build_cp(struct ike_build *b, enum ike_cfg_type type, const struct ike_cp *cp)
{
	ike_build_open(b, IKE_P_CP);
	wr_u32(&b->w, (uint32_t)type << 24);
	if (type == IKE_CFG_REQUEST)
		build_request(b, cp);
	else
		build_reply(b, cp);
}
