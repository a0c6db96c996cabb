/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Traffic selectors (RFC 7296, 2.9 and 3.13). */
#include <string.h>

#include "ike/payload.h"

#define TS_IPV4_ADDR_RANGE 7
#define TS_IPV6_ADDR_RANGE 8

static size_t ip_len(const struct ike_ts *t)
{
	return t->family == ADDR_IP4 ? 4 : 16;
}

static enum err selector(struct rd *r, bool *known, struct ike_ts *ret)
{
	struct ike_ts t = { 0 };
	uint8_t type = rd_u8(r);
	uint16_t len;
	struct rd body;

	t.protocol = rd_u8(r);
	len = rd_u16(r);
	if (r->bad || len < 4)
		return ERR_MALFORMED;
	body = rd_of(rd_span(r, len - 4u));
	if (r->bad)
		return ERR_MALFORMED;
	*known = type == TS_IPV4_ADDR_RANGE || type == TS_IPV6_ADDR_RANGE;
	if (!*known)
		return OK;
	t.family = type == TS_IPV4_ADDR_RANGE ? ADDR_IP4 : ADDR_IP6;
	t.port_lo = rd_u16(&body);
	t.port_hi = rd_u16(&body);
	rd_bytes(&body, t.ip_lo, ip_len(&t));
	rd_bytes(&body, t.ip_hi, ip_len(&t));
	if (!rd_done(&body) || memcmp(t.ip_lo, t.ip_hi, 16) > 0)
		return ERR_MALFORMED;
	/* 3.13.1: 65535 to 0 is OPAQUE; it meets nothing that we allow, and its form is right */
	if (t.port_lo > t.port_hi && !(t.port_lo == 65535 && t.port_hi == 0))
		return ERR_MALFORMED;
	*ret = t;
	return OK;
}

enum err ike_ts_parse(struct span s, struct ike_ts_list *ret)
{
	struct rd r = rd_of(s);
	uint8_t n = rd_u8(&r);
	struct ike_ts_list list = { .n = 0 };

	rd_skip(&r, 3);
	if (r.bad || !n)
		return ERR_MALFORMED;
	for (unsigned i = 0; i < n; i++) {
		struct ike_ts t;
		bool known;
		enum err e = selector(&r, &known, &t);

		if (e != OK)
			return e;
		if (!known)
			continue;
		if (list.n == IKE_TS_MAX)
			return ERR_LIMIT;
		list.ts[list.n++] = t;
	}
	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret = list;
	return OK;
}

void ike_build_ts(struct ike_build *b, uint8_t type, const struct ike_ts_list *list)
{
	ike_build_open(b, type);
	wr_u8(&b->w, (uint8_t)list->n);
	wr_zero(&b->w, 3);
	for (unsigned i = 0; i < list->n; i++) {
		const struct ike_ts *t = &list->ts[i];
		size_t len = ip_len(t);

		wr_u8(&b->w, t->family == ADDR_IP4 ? TS_IPV4_ADDR_RANGE : TS_IPV6_ADDR_RANGE);
		wr_u8(&b->w, t->protocol);
		wr_u16(&b->w, (uint16_t)(8 + 2 * len));
		wr_u16(&b->w, t->port_lo);
		wr_u16(&b->w, t->port_hi);
		wr_bytes(&b->w, t->ip_lo, len);
		wr_bytes(&b->w, t->ip_hi, len);
	}
}

static bool inside(const struct ike_ts *a, const struct ike_ts *b)
{
	return a->family == b->family && (!b->protocol || a->protocol == b->protocol) && a->port_lo >= b->port_lo &&
	       a->port_hi <= b->port_hi && a->port_lo <= a->port_hi && memcmp(a->ip_lo, b->ip_lo, 16) >= 0 &&
	       memcmp(a->ip_hi, b->ip_hi, 16) <= 0;
}

static bool inside_any(const struct ike_ts *a, const struct ike_ts_list *list)
{
	for (unsigned i = 0; i < list->n; i++)
		if (inside(a, &list->ts[i]))
			return true;
	return false;
}

bool ike_ts_within(const struct ike_ts_list *a, const struct ike_ts_list *b)
{
	for (unsigned i = 0; i < a->n; i++)
		if (!inside_any(&a->ts[i], b))
			return false;
	return true;
}

/* False: nothing is common to both. */
static bool intersect(const struct ike_ts *a, const struct ike_ts *b, struct ike_ts *ret)
{
	struct ike_ts t = { .family = a->family };

	if (a->family != b->family || (a->protocol && b->protocol && a->protocol != b->protocol))
		return false;
	t.protocol = a->protocol ? a->protocol : b->protocol;
	t.port_lo = a->port_lo > b->port_lo ? a->port_lo : b->port_lo;
	t.port_hi = a->port_hi < b->port_hi ? a->port_hi : b->port_hi;
	memcpy(t.ip_lo, memcmp(a->ip_lo, b->ip_lo, 16) > 0 ? a->ip_lo : b->ip_lo, 16);
	memcpy(t.ip_hi, memcmp(a->ip_hi, b->ip_hi, 16) < 0 ? a->ip_hi : b->ip_hi, 16);
	if (t.port_lo > t.port_hi || memcmp(t.ip_lo, t.ip_hi, 16) > 0)
		return false;
	*ret = t;
	return true;
}

/* A full list ends the work: what is left out makes the result narrower, which 2.9 allows. */
void ike_ts_narrow(const struct ike_ts_list *asked, const struct ike_ts_list *allowed, struct ike_ts_list *ret)
{
	struct ike_ts_list out = { .n = 0 };

	for (unsigned i = 0; i < asked->n; i++)
		for (unsigned j = 0; j < allowed->n && out.n < IKE_TS_MAX; j++) {
			struct ike_ts t;

			if (intersect(&asked->ts[i], &allowed->ts[j], &t) && !inside_any(&t, &out))
				out.ts[out.n++] = t;
		}
	*ret = out;
}
