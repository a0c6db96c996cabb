/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/config_payload.h"

#define FLAG_INITIATOR 0x08
#define FLAG_RESPONSE 0x20
#define FLAG_CRITICAL 0x80

enum err ike_header_parse(struct span msg, struct ike_header *ret)
{
	struct rd r = rd_of(msg);
	struct ike_header h = { .spi_i = rd_u64(&r), .spi_r = 0 };
	uint8_t flags;
	uint32_t length;

	h.spi_r = rd_u64(&r);
	h.next = rd_u8(&r);
	h.version = rd_u8(&r);
	h.exchange = rd_u8(&r);
	flags = rd_u8(&r);
	h.message_id = rd_u32(&r);
	length = rd_u32(&r);
	if (r.bad || length != msg.len || !h.spi_i)
		return ERR_MALFORMED;
	if (h.version >> 4 != 2)
		return ERR_UNSUPPORTED; /* 2.5: a higher minor version is fine */
	h.from_initiator = flags & FLAG_INITIATOR;
	h.is_response = flags & FLAG_RESPONSE;
	*ret = h;
	return OK;
}

/* Types of RFC 7296 and 7383; there the critical bit says nothing (3.2). */
static bool known(uint8_t type)
{
	return (type >= IKE_P_SA && type <= IKE_P_EAP) || type == IKE_P_SKF;
}

static bool only_once(uint8_t type)
{
	switch (type) {
	case IKE_P_SA:
	case IKE_P_KE:
	case IKE_P_IDI:
	case IKE_P_IDR:
	case IKE_P_AUTH:
	case IKE_P_NONCE:
	case IKE_P_TSI:
	case IKE_P_TSR:
	case IKE_P_SK: return true;
	default: return false;
	}
}

enum err ike_chain_parse(struct span body, uint8_t first, struct ike_chain *ret)
{
	struct rd r = rd_of(body);
	uint8_t type = first;

	ret->n = 0;
	ret->unknown_critical = 0;
	while (type != IKE_P_NONE) {
		struct ike_payload p = { .type = type, .next = rd_u8(&r), .critical = rd_u8(&r) & FLAG_CRITICAL };
		uint16_t len = rd_u16(&r);

		if (r.bad || len < IKE_PAYLOAD_HDR)
			return ERR_MALFORMED;
		p.offset = body.len - rd_left(&r);
		p.body = rd_span(&r, len - IKE_PAYLOAD_HDR);
		if (r.bad || (only_once(type) && ike_chain_find(ret, type)))
			return ERR_MALFORMED;
		if (ret->n == IKE_PAYLOADS_MAX)
			return ERR_LIMIT;
		if (p.critical && !known(type) && !ret->unknown_critical)
			ret->unknown_critical = type;
		ret->p[ret->n++] = p;
		/* 3.14: SK is the last payload, its Next Payload names the first one inside */
		type = type == IKE_P_SK || type == IKE_P_SKF ? IKE_P_NONE : p.next;
	}
	return rd_done(&r) ? OK : ERR_MALFORMED;
}

const struct ike_payload *ike_chain_find(const struct ike_chain *c, uint8_t type)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->p[i].type == type)
			return &c->p[i];
	return NULL;
}

enum err ike_ke_parse(struct span body, struct ike_ke *ret)
{
	struct rd r = rd_of(body);
	struct ike_ke ke = { .group = rd_u16(&r) };

	rd_skip(&r, 2);
	ke.value = rd_rest(&r);
	if (r.bad || !ke.value.len)
		return ERR_MALFORMED;
	*ret = ke;
	return OK;
}

enum err ike_id_parse(struct span body, struct ike_id *ret)
{
	struct rd r = rd_of(body);
	struct ike_id id = { .type = rd_u8(&r), .body = body };

	rd_skip(&r, 3);
	id.value = rd_rest(&r);
	if (r.bad)
		return ERR_MALFORMED;
	*ret = id;
	return OK;
}

enum err ike_cert_parse(struct span body, struct ike_cert *ret)
{
	struct rd r = rd_of(body);
	struct ike_cert c = { .encoding = rd_u8(&r) };

	c.value = rd_rest(&r);
	if (r.bad)
		return ERR_MALFORMED;
	*ret = c;
	return OK;
}

enum err ike_auth_parse(struct span body, struct ike_auth *ret)
{
	struct rd r = rd_of(body);
	struct ike_auth a = { .method = rd_u8(&r) };

	rd_skip(&r, 3);
	a.value = rd_rest(&r);
	if (r.bad)
		return ERR_MALFORMED;
	*ret = a;
	return OK;
}

enum err ike_nonce_parse(struct span body, struct span *ret)
{
	if (body.len < IKE_NONCE_MIN || body.len > IKE_NONCE_MAX)
		return ERR_MALFORMED;
	*ret = body;
	return OK;
}

enum err ike_notify_parse(struct span body, struct ike_notify *ret)
{
	struct rd r = rd_of(body);
	struct ike_notify n = { .protocol = rd_u8(&r) };
	uint8_t spi_len = rd_u8(&r);

	n.type = rd_u16(&r);
	n.spi = rd_span(&r, spi_len);
	n.data = rd_rest(&r);
	if (r.bad)
		return ERR_MALFORMED;
	*ret = n;
	return OK;
}

/* 3.11: SPI size 0 and no SPIs for IKE, else 4 each; AH cannot be ours, but its form is known. */
enum err ike_delete_parse(struct span body, struct ike_delete *ret)
{
	struct rd r = rd_of(body);
	struct ike_delete d = { .protocol = rd_u8(&r) };
	uint8_t spi_len = rd_u8(&r);
	uint16_t n = rd_u16(&r);

	if (r.bad)
		return ERR_MALFORMED;
	if (d.protocol == IKE_PROTO_IKE ? spi_len || n : spi_len != 4)
		return ERR_MALFORMED;
	if (d.protocol < IKE_PROTO_IKE || d.protocol > IKE_PROTO_ESP)
		return ERR_MALFORMED;
	if (n > IKE_DELETE_MAX)
		return ERR_LIMIT;
	for (d.n = 0; d.n < n; d.n++)
		d.spis[d.n] = rd_u32(&r);
	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret = d;
	return OK;
}

/* One payload's form. Each parser's result is thrown away: the exchange reads what it needs again. */
static enum err payload_check(const struct ike_payload *p)
{
	union {
		struct ike_offer offer;
		struct ike_ke ke;
		struct ike_id id;
		struct ike_cert cert;
		struct ike_auth auth;
		struct ike_notify notify;
		struct ike_delete del;
		struct ike_ts_list ts;
		struct span nonce;
		struct ike_cp cp;
	} u;
	uint8_t cfg;

	switch (p->type) {
	case IKE_P_SA: return ike_offer_parse(p->body, &u.offer);
	case IKE_P_KE: return ike_ke_parse(p->body, &u.ke);
	case IKE_P_IDI:
	case IKE_P_IDR: return ike_id_parse(p->body, &u.id);
	case IKE_P_CERT:
	case IKE_P_CERTREQ: return ike_cert_parse(p->body, &u.cert);
	case IKE_P_AUTH: return ike_auth_parse(p->body, &u.auth);
	case IKE_P_NONCE: return ike_nonce_parse(p->body, &u.nonce);
	case IKE_P_NOTIFY: return ike_notify_parse(p->body, &u.notify);
	case IKE_P_DELETE: return ike_delete_parse(p->body, &u.del);
	case IKE_P_CP: return ike_cp_parse(p->body, &cfg, &u.cp);
	case IKE_P_TSI:
	case IKE_P_TSR: return ike_ts_parse(p->body, &u.ts);
	default: return OK;
	}
}

enum err ike_chain_check(const struct ike_chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		enum err e = payload_check(&c->p[i]);

		if (e != OK)
			return e;
	}
	return OK;
}

bool ike_notify_find(const struct ike_chain *c, uint16_t type, struct ike_notify *ret)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct ike_notify n;

		if (c->p[i].type == IKE_P_NOTIFY && ike_notify_parse(c->p[i].body, &n) == OK && n.type == type) {
			*ret = n;
			return true;
		}
	}
	return false;
}

uint16_t ike_notify_error(const struct ike_chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct ike_notify n;

		if (c->p[i].type == IKE_P_NOTIFY && ike_notify_parse(c->p[i].body, &n) == OK && n.type &&
		    n.type < IKE_N_STATUS_FIRST)
			return n.type;
	}
	return 0;
}
