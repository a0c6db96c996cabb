/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* SA payload (RFC 7296, 3.3). What we do not know is kept as numbers: a stock peer offers much
 * that is nothing to us, and choosing is not this file's task. */
#include "ike/payload.h"

#define ATTR_FORMAT_TV 0x8000
#define ATTR_KEY_LENGTH 14 /* 3.3.5, always of the TV form */
#define MORE_PROPOSALS 2
#define MORE_TRANSFORMS 3

/* 3.3.5. An attribute that is not the key length makes the transform unacceptable, not malformed. */
static enum err attributes(struct rd *r, struct ike_transform *t)
{
	while (rd_left(r)) {
		uint16_t type = rd_u16(r), value = rd_u16(r);

		if (r->bad)
			return ERR_MALFORMED;
		if (type == (ATTR_FORMAT_TV | ATTR_KEY_LENGTH)) {
			if (t->key_bits || !value)
				return ERR_MALFORMED;
			t->key_bits = value;
			continue;
		}
		t->unknown_attribute = true;
		if (!(type & ATTR_FORMAT_TV))
			rd_skip(r, value);
	}
	return r->bad ? ERR_MALFORMED : OK;
}

/* 3.3.2. *more: another transform follows in this proposal. */
static enum err transform(struct rd *r, struct ike_transform *ret, bool *more)
{
	uint8_t last = rd_u8(r);
	uint16_t len;
	struct rd body;

	rd_skip(r, 1);
	len = rd_u16(r);
	if (r->bad || len < 8 || (last && last != MORE_TRANSFORMS))
		return ERR_MALFORMED;
	body = rd_of(rd_span(r, len - 4u));
	if (r->bad)
		return ERR_MALFORMED;
	*ret = (struct ike_transform){ .type = rd_u8(&body) };
	rd_skip(&body, 1);
	ret->id = rd_u16(&body);
	*more = last;
	return attributes(&body, ret);
}

static enum err transforms(struct rd *r, unsigned n, struct ike_offer *o, struct ike_proposal *p)
{
	p->first = o->n_transforms;
	for (p->n = 0; p->n < n; p->n++) {
		bool more;
		enum err e;

		if (o->n_transforms == IKE_TRANSFORMS_MAX)
			return ERR_LIMIT;
		e = transform(r, &o->transforms[o->n_transforms], &more);
		if (e != OK)
			return e;
		o->n_transforms++;
		if (more != (p->n + 1 < n))
			return ERR_MALFORMED;
	}
	return rd_done(r) ? OK : ERR_MALFORMED;
}

/* 3.3.1: lengths of the SPI by protocol; in IKE_SA_INIT the IKE SPI is in the header. */
static bool spi_ok(uint8_t protocol, size_t len)
{
	switch (protocol) {
	case IKE_PROTO_IKE: return len == 0 || len == 8;
	case IKE_PROTO_AH:
	case IKE_PROTO_ESP: return len == 4;
	default: return true;
	}
}

enum err ike_offer_parse(struct span s, struct ike_offer *ret)
{
	struct rd r = rd_of(s);
	bool more = true;

	ret->n_proposals = ret->n_transforms = 0;
	while (more) {
		struct ike_proposal p = { 0 };
		uint8_t last = rd_u8(&r), spi_len, n;
		uint16_t len;
		struct rd body;
		enum err e;

		rd_skip(&r, 1);
		len = rd_u16(&r);
		if (r.bad || len < 8 || (last && last != MORE_PROPOSALS))
			return ERR_MALFORMED;
		body = rd_of(rd_span(&r, len - 4u));
		p.number = rd_u8(&body);
		p.protocol = rd_u8(&body);
		spi_len = rd_u8(&body);
		n = rd_u8(&body);
		p.spi = rd_span(&body, spi_len);
		if (r.bad || body.bad || !spi_ok(p.protocol, spi_len))
			return ERR_MALFORMED;
		/* 3.3.1: each one more than the one before. The first is 1 in an offer, in a choice the
		 * number of what was chosen. */
		if (ret->n_proposals && p.number != ret->proposals[ret->n_proposals - 1].number + 1)
			return ERR_MALFORMED;
		if (ret->n_proposals == IKE_PROPOSALS_MAX)
			return ERR_LIMIT;
		e = transforms(&body, n, ret, &p);
		if (e != OK)
			return e;
		ret->proposals[ret->n_proposals++] = p;
		more = last;
	}
	return rd_done(&r) ? OK : ERR_MALFORMED;
}
