/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/peek.h"

#include <string.h>

#include "ike/payload.h"

/* docs/protocol.md: the first 16 bytes of SHA-256("tieline v1"). */
static const uint8_t vendor_id[16] = {
	0x95, 0x20, 0x21, 0x12, 0xcf, 0x29, 0x00, 0x0f, 0x1b, 0x7c, 0x77, 0x9f, 0x41, 0xf8, 0x06, 0x09,
};

struct span ike_vendor_id(void)
{
	return SPAN_OF(vendor_id);
}

bool ike_vendor_id_find(const struct ike_chain *c)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->p[i].type == IKE_P_VENDOR && span_eq(c->p[i].body, SPAN_OF(vendor_id)))
			return true;
	return false;
}

enum err ike_peek(struct span msg, struct ike_peek *ret)
{
	struct ike_peek k = { 0 };
	struct ike_header h;
	struct ike_chain c;
	struct ike_notify n;
	enum err e = ike_header_parse(msg, &h);

	if (e != OK)
		return e;
	k.spi_i = h.spi_i;
	k.spi_r = h.spi_r;
	k.exchange = h.exchange;
	k.from_initiator = h.from_initiator;
	k.is_response = h.is_response;
	k.message_id = h.message_id;
	if (h.exchange == IKE_SA_INIT) {
		e = ike_chain_parse(span_from(msg, IKE_HDR), h.next, &c);
		if (e != OK)
			return e;
		k.has_vendor_id = ike_vendor_id_find(&c);
		k.has_cookie = ike_notify_find(&c, IKE_N_COOKIE, &n);
		k.has_tag = ike_notify_find(&c, IKE_N_TIELINE_BIND, &n) && n.data.len == IKE_BIND_LEN;
		if (k.has_tag)
			memcpy(k.tag, n.data.p, sizeof(k.tag));
	}
	*ret = k;
	return OK;
}
