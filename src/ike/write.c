/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <string.h>

#include "ike/payload.h"

#define LENGTH_AT 24 /* of the message, in the header */
#define NEXT_AT 16

void ike_build_start(struct ike_build *b, void *mem, size_t cap, const struct ike_header *h)
{
	*b = (struct ike_build){ .w = wr_of(mem, cap), .next_at = NEXT_AT };
	wr_u64(&b->w, h->spi_i);
	wr_u64(&b->w, h->spi_r);
	wr_u8(&b->w, IKE_P_NONE);
	wr_u8(&b->w, 0x20);
	wr_u8(&b->w, h->exchange);
	wr_u8(&b->w, (uint8_t)((h->from_initiator ? 0x08 : 0) | (h->is_response ? 0x20 : 0)));
	wr_u32(&b->w, h->message_id);
	wr_u32(&b->w, 0);
}

void ike_build_close(struct ike_build *b)
{
	if (b->open_at && !b->w.bad) {
		size_t len = b->w.len - b->open_at;

		if (len > UINT16_MAX)
			b->w.bad = true;
		else
			wr_patch_u16(&b->w, b->open_at + 2, (uint16_t)len);
	}
	b->open_at = 0;
}

void ike_build_open(struct ike_build *b, uint8_t type)
{
	ike_build_close(b);
	if (b->w.bad)
		return;
	wr_patch_u8(&b->w, b->next_at, type);
	b->open_at = b->next_at = b->w.len;
	wr_u32(&b->w, 0);
}

enum err ike_build_done(struct ike_build *b, struct span *ret)
{
	ike_build_close(b);
	if (b->w.bad)
		return ERR_LIMIT;
	wr_patch_u32(&b->w, LENGTH_AT, (uint32_t)b->w.len);
	*ret = wr_done(&b->w);
	return OK;
}

void ike_build_bytes(struct ike_build *b, uint8_t type, struct span body)
{
	ike_build_open(b, type);
	wr_span(&b->w, body);
}

void ike_build_ke(struct ike_build *b, uint16_t group, struct span value)
{
	ike_build_open(b, IKE_P_KE);
	wr_u16(&b->w, group);
	wr_u16(&b->w, 0);
	wr_span(&b->w, value);
}

void ike_build_id(struct ike_build *b, uint8_t type, const char *mail)
{
	ike_build_open(b, type);
	wr_u32(&b->w, (uint32_t)IKE_ID_RFC822 << 24);
	wr_str(&b->w, mail);
}

void ike_build_cert(struct ike_build *b, struct span der)
{
	ike_build_open(b, IKE_P_CERT);
	wr_u8(&b->w, IKE_CERT_X509_SIGNATURE);
	wr_span(&b->w, der);
}

void ike_build_auth(struct ike_build *b, uint8_t method, struct span value)
{
	ike_build_open(b, IKE_P_AUTH);
	wr_u32(&b->w, (uint32_t)method << 24);
	wr_span(&b->w, value);
}

/* 3.10: without an SPI the protocol is 0. */
void ike_build_notify(struct ike_build *b, uint16_t type, struct span data)
{
	ike_build_open(b, IKE_P_NOTIFY);
	wr_u16(&b->w, 0);
	wr_u16(&b->w, type);
	wr_span(&b->w, data);
}

void ike_build_notify_spi(struct ike_build *b, uint16_t type, uint32_t esp_spi)
{
	ike_build_open(b, IKE_P_NOTIFY);
	wr_u8(&b->w, IKE_PROTO_ESP);
	wr_u8(&b->w, 4);
	wr_u16(&b->w, type);
	wr_u32(&b->w, esp_spi);
}

void ike_build_delete_ike(struct ike_build *b)
{
	ike_build_open(b, IKE_P_DELETE);
	wr_u8(&b->w, IKE_PROTO_IKE);
	wr_zero(&b->w, 3);
}

void ike_build_delete_esp(struct ike_build *b, uint32_t spi)
{
	ike_build_open(b, IKE_P_DELETE);
	wr_u8(&b->w, IKE_PROTO_ESP);
	wr_u8(&b->w, 4);
	wr_u16(&b->w, 1);
	wr_u32(&b->w, spi);
}

/* ---- the data of our own notifies (docs/protocol.md) ---- */

void ike_build_grant(struct ike_build *b, const struct ike_grant *g, bool brief)
{
	ike_build_notify(b, IKE_N_TIELINE_GRANT, SPAN_NONE);
	wr_u32(&b->w, g->request);
	wr_u32(&b->w, g->id);
	if (brief)
		return;
	wr_u8(&b->w, g->protocol);
	wr_u16(&b->w, g->port);
	wr_u32(&b->w, g->seconds);
	wr_str(&b->w, g->name);
}

void ike_build_request(struct ike_build *b, uint32_t request, const char names[][IKE_NAME_MAX + 1], unsigned n)
{
	ike_build_notify(b, IKE_N_TIELINE_REQUEST, SPAN_NONE);
	wr_u32(&b->w, request);
	for (unsigned i = 0; i < n; i++) {
		wr_u8(&b->w, (uint8_t)strlen(names[i]));
		wr_str(&b->w, names[i]);
	}
}

void ike_build_refuse(struct ike_build *b, uint32_t request, uint8_t reason)
{
	ike_build_notify(b, IKE_N_TIELINE_REFUSE, SPAN_NONE);
	wr_u32(&b->w, request);
	wr_u8(&b->w, reason);
}

void ike_build_wait(struct ike_build *b, uint32_t request, uint16_t seconds)
{
	ike_build_notify(b, IKE_N_TIELINE_WAIT, SPAN_NONE);
	wr_u32(&b->w, request);
	wr_u16(&b->w, seconds);
}

/* A service's name: no NUL and nothing unprintable, it is shown to people. */
static enum err name_copy(struct span s, char dst[IKE_NAME_MAX + 1])
{
	if (!s.len || s.len > IKE_NAME_MAX)
		return ERR_MALFORMED;
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return ERR_MALFORMED;
	return span_copy_str(s, dst, IKE_NAME_MAX + 1);
}

enum err ike_request_parse(struct span data, struct ike_request *ret)
{
	struct rd r = rd_of(data);
	struct ike_request q = { .request = rd_u32(&r) };

	while (rd_left(&r)) {
		uint8_t len = rd_u8(&r);
		struct span name = rd_span(&r, len);

		if (r.bad)
			return ERR_MALFORMED;
		if (q.n_names == IKE_GRANTS_MAX)
			return ERR_LIMIT;
		if (name_copy(name, q.names[q.n_names]) != OK)
			return ERR_MALFORMED;
		q.n_names++;
	}
	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret = q;
	return OK;
}

enum err ike_grant_parse(struct span data, bool brief, struct ike_grant *ret)
{
	struct rd r = rd_of(data);
	struct ike_grant g = { .request = rd_u32(&r) };

	g.id = rd_u32(&r);
	if (!brief) {
		g.protocol = rd_u8(&r);
		g.port = rd_u16(&r);
		g.seconds = rd_u32(&r);
		if (r.bad || name_copy(rd_rest(&r), g.name) != OK)
			return ERR_MALFORMED;
	}
	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret = g;
	return OK;
}

enum err ike_refuse_parse(struct span data, uint32_t *ret_request, uint8_t *ret_reason)
{
	struct rd r = rd_of(data);
	uint32_t request = rd_u32(&r);
	uint8_t reason = rd_u8(&r);

	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret_request = request;
	*ret_reason = reason;
	return OK;
}

enum err ike_wait_parse(struct span data, uint32_t *ret_request, uint16_t *ret_seconds)
{
	struct rd r = rd_of(data);
	uint32_t request = rd_u32(&r);
	uint16_t seconds = rd_u16(&r);

	if (!rd_done(&r))
		return ERR_MALFORMED;
	*ret_request = request;
	*ret_seconds = seconds;
	return OK;
}
