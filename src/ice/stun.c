/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ice/stun.h"

#include <string.h>

#include "crypto/hash.h"
#include "crypto/secret.h"

#define FINGERPRINT_XOR 0x5354554eu /* RFC 8489, 14.7 */

/* CRC-32 of ITU V.42 (RFC 8489, 14.7): no cryptography, it tells STUN from other traffic. */
static uint32_t crc32_of(struct span a, struct span b)
{
	struct span parts[] = { a, b };
	uint32_t crc = 0xffffffffu;

	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < parts[k].len; i++) {
			crc ^= parts[k].p[i];
			for (int bit = 0; bit < 8; bit++)
				crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
		}
	return crc ^ 0xffffffffu;
}

/* The message up to `len` bytes, its header saying that it ends `tail` bytes later: what integrity and fingerprint are
 * computed over (14.5 to 14.7). */
static void header_as(struct span raw, size_t end, uint8_t header[STUN_HDR])
{
	memcpy(header, raw.p, STUN_HDR);
	put_be16(header + 2, (uint16_t)(end - STUN_HDR));
}

bool stun_is(struct span d)
{
	return d.len >= STUN_HDR && !(d.p[0] & 0xc0) && be32(d.p + 4) == STUN_COOKIE && be16(d.p + 2) % 4 == 0 &&
	       (size_t)be16(d.p + 2) + STUN_HDR == d.len;
}

static bool fingerprint_ok(struct span d, size_t at, struct span value)
{
	uint8_t header[STUN_HDR];

	header_as(d, at + 8, header);
	return value.len == 4 &&
	       be32(value.p) == (crc32_of(SPAN_OF(header), span_sub(d, STUN_HDR, at - STUN_HDR)) ^ FINGERPRINT_XOR);
}

enum err stun_parse(struct span d, struct stun_msg *ret)
{
	struct rd r = rd_of(d);
	struct stun_msg m = { .raw = d };
	uint16_t type;

	if (!stun_is(d))
		return ERR_MALFORMED;
	type = rd_u16(&r);
	rd_skip(&r, 6);
	rd_bytes(&r, m.transaction, sizeof(m.transaction));
	/* 5: class bits C1 C0 are bits 8 and 4, the method is spread around them */
	m.cls = (enum stun_class)((type >> 7 & 2) | (type >> 4 & 1));
	m.method = (uint16_t)((type & 0x000f) | (type >> 1 & 0x0070) | (type >> 2 & 0x0f80));
	while (rd_left(&r)) {
		size_t at = d.len - rd_left(&r);
		struct stun_attr a = { .type = rd_u16(&r) };
		uint16_t len = rd_u16(&r);

		a.value = rd_span(&r, len);
		rd_skip(&r, (size_t)(4 - len % 4) % 4);
		if (r.bad || m.has_fingerprint) /* FINGERPRINT is the last (14.7) */
			return ERR_MALFORMED;
		if (a.type == STUN_FINGERPRINT) {
			if (!fingerprint_ok(d, at, a.value))
				return ERR_AUTH;
			m.has_fingerprint = true;
		} else if (a.type == STUN_MESSAGE_INTEGRITY_SHA256 && !m.has_integrity256) {
			if (a.value.len < 16 || a.value.len > 32 || a.value.len % 4)
				return ERR_MALFORMED;
			m.has_integrity256 = true;
		} else if (m.has_integrity || m.has_integrity256) {
			continue; /* not protected: ignored (14.5) */
		} else if (a.type == STUN_MESSAGE_INTEGRITY) {
			if (a.value.len != 20)
				return ERR_MALFORMED;
			m.has_integrity = true;
		}
		if (m.n_attrs == STUN_ATTRS_MAX)
			return ERR_LIMIT;
		m.attrs[m.n_attrs++] = a;
	}
	*ret = m;
	return OK;
}

const struct stun_attr *stun_find(const struct stun_msg *m, uint16_t type)
{
	for (unsigned i = 0; i < m->n_attrs; i++)
		if (m->attrs[i].type == type)
			return &m->attrs[i];
	return NULL;
}

enum err stun_check_integrity(const struct stun_msg *m, struct span password)
{
	const struct stun_attr *a = stun_find(m, STUN_MESSAGE_INTEGRITY);
	uint8_t header[STUN_HDR], mac[20];
	struct span parts[2];
	size_t at;

	if (!a)
		return ERR_AUTH;
	at = (size_t)(a->value.p - m->raw.p) - 4;
	header_as(m->raw, at + 24, header);
	parts[0] = SPAN_OF(header);
	parts[1] = span_sub(m->raw, STUN_HDR, at - STUN_HDR);
	if (hmac_parts(HASH_SHA1, password, parts, 2, mac) != OK)
		return ERR_SYSTEM;
	return secret_eq(mac, a->value.p, sizeof(mac)) ? OK : ERR_AUTH;
}

enum err stun_attr_addr(const struct stun_msg *m, const struct stun_attr *a, struct addr *ret)
{
	struct rd r = rd_of(a->value);
	uint8_t family, ip[16], mask[16];
	uint16_t port;
	size_t len;

	rd_skip(&r, 1);
	family = rd_u8(&r);
	port = rd_u16(&r);
	len = family == 1 ? 4 : family == 2 ? 16 : 0;
	rd_bytes(&r, ip, len);
	if (!len || !rd_done(&r))
		return ERR_MALFORMED;
	if (a->type == STUN_XOR_MAPPED_ADDRESS) {
		put_be32(mask, STUN_COOKIE);
		memcpy(mask + 4, m->transaction, 12);
		port = (uint16_t)(port ^ (STUN_COOKIE >> 16));
		for (size_t i = 0; i < len; i++)
			ip[i] ^= mask[i];
	}
	*ret = addr_of(span_of(ip, len), port);
	return OK;
}

static const struct {
	uint16_t type;
	const char *name;
} known[] = {
	{ STUN_MAPPED_ADDRESS, "MAPPED-ADDRESS" },
	{ STUN_USERNAME, "USERNAME" },
	{ STUN_MESSAGE_INTEGRITY, "MESSAGE-INTEGRITY" },
	{ STUN_ERROR_CODE, "ERROR-CODE" },
	{ STUN_UNKNOWN_ATTRIBUTES, "UNKNOWN-ATTRIBUTES" },
	{ STUN_REALM, "REALM" },
	{ STUN_NONCE, "NONCE" },
	{ STUN_MESSAGE_INTEGRITY_SHA256, "MESSAGE-INTEGRITY-SHA256" },
	{ STUN_XOR_MAPPED_ADDRESS, "XOR-MAPPED-ADDRESS" },
	{ STUN_PRIORITY, "PRIORITY" },
	{ STUN_USE_CANDIDATE, "USE-CANDIDATE" },
	{ STUN_SOFTWARE, "SOFTWARE" },
	{ STUN_FINGERPRINT, "FINGERPRINT" },
	{ STUN_ICE_CONTROLLED, "ICE-CONTROLLED" },
	{ STUN_ICE_CONTROLLING, "ICE-CONTROLLING" },
	{ STUN_TIELINE_PADDING, "TIELINE-PADDING" },
};

const char *stun_attr_name(uint16_t type)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].type == type)
			return known[i].name;
	return "unknown";
}

unsigned stun_unknown(const struct stun_msg *m, uint16_t *dst, unsigned cap)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->n_attrs && n < cap; i++)
		if (m->attrs[i].type < 0x8000 && !strcmp(stun_attr_name(m->attrs[i].type), "unknown"))
			dst[n++] = m->attrs[i].type;
	return n;
}

unsigned stun_error_code(const struct stun_msg *m)
{
	const struct stun_attr *a = stun_find(m, STUN_ERROR_CODE);
	struct rd r;
	unsigned cls, number;

	if (!a)
		return 0;
	r = rd_of(a->value);
	rd_skip(&r, 2);
	cls = rd_u8(&r) & 7;
	number = rd_u8(&r);
	return r.bad || cls < 3 || cls > 6 || number > 99 ? 0 : cls * 100 + number;
}

/* ---- writing ---- */

void stun_begin(struct wr *w, enum stun_class cls, uint16_t method, const uint8_t transaction[12])
{
	unsigned bits = method, c = cls;

	wr_u16(w,
	       (uint16_t)((bits & 0x000f) | (bits & 0x0070) << 1 | (bits & 0x0f80) << 2 | (c & 1) << 4 | (c & 2) << 7));
	wr_u16(w, 0);
	wr_u32(w, STUN_COOKIE);
	wr_bytes(w, transaction, 12);
}

void stun_put(struct wr *w, uint16_t type, struct span value)
{
	if (value.len > UINT16_MAX) {
		w->bad = true;
		return;
	}
	wr_u16(w, type);
	wr_u16(w, (uint16_t)value.len);
	wr_span(w, value);
	wr_zero(w, (size_t)(4 - value.len % 4) % 4);
}

void stun_put_u32(struct wr *w, uint16_t type, uint32_t v)
{
	uint8_t bytes[4];

	put_be32(bytes, v);
	stun_put(w, type, SPAN_OF(bytes));
}

void stun_put_u64(struct wr *w, uint16_t type, uint64_t v)
{
	uint8_t bytes[8];

	put_be64(bytes, v);
	stun_put(w, type, SPAN_OF(bytes));
}

void stun_put_xor_addr(struct wr *w, uint16_t type, const struct addr *a, const uint8_t transaction[12])
{
	uint8_t value[20] = { 0, a->family == ADDR_IP6 ? 2 : 1 }, mask[16];
	size_t len = addr_ip_len(a);

	put_be32(mask, STUN_COOKIE);
	memcpy(mask + 4, transaction, 12);
	put_be16(value + 2, (uint16_t)(a->port ^ (STUN_COOKIE >> 16)));
	for (size_t i = 0; i < len; i++)
		value[4 + i] = a->ip[i] ^ mask[i];
	stun_put(w, type, span_of(value, 4 + len));
}

void stun_put_error(struct wr *w, unsigned code, const char *reason)
{
	uint8_t mem[128];
	struct wr v = wr_of(mem, sizeof(mem));

	wr_u16(&v, 0);
	wr_u8(&v, (uint8_t)(code / 100));
	wr_u8(&v, (uint8_t)(code % 100));
	wr_str(&v, reason);
	w->bad |= v.bad;
	stun_put(w, STUN_ERROR_CODE, wr_done(&v));
}

enum err stun_finish(struct wr *w, struct span password, bool fingerprint)
{
	if (w->bad || w->len < STUN_HDR)
		return ERR_LIMIT;
	if (password.len) {
		uint8_t mac[20];

		wr_patch_u16(w, 2, (uint16_t)(w->len - STUN_HDR + 24));
		if (hmac_of(HASH_SHA1, password, wr_done(w), mac) != OK)
			return ERR_SYSTEM;
		stun_put(w, STUN_MESSAGE_INTEGRITY, SPAN_OF(mac));
	}
	if (fingerprint && !w->bad) {
		wr_patch_u16(w, 2, (uint16_t)(w->len - STUN_HDR + 8));
		stun_put_u32(w, STUN_FINGERPRINT, crc32_of(wr_done(w), SPAN_NONE) ^ FINGERPRINT_XOR);
	}
	if (!w->bad)
		wr_patch_u16(w, 2, (uint16_t)(w->len - STUN_HDR));
	return w->bad ? ERR_LIMIT : OK;
}

bool stun_serve(struct span request, const struct addr *from, struct wr *w)
{
	struct stun_msg m;
	uint16_t unknown[8];
	unsigned n;

	if (stun_parse(request, &m) != OK || m.cls != STUN_REQUEST || m.method != STUN_BINDING)
		return false;
	n = stun_unknown(&m, unknown, 8);
	if (n) { /* 6.3.1: 420 names what was not understood */
		uint8_t mem[16];
		struct wr list = wr_of(mem, sizeof(mem));

		for (unsigned i = 0; i < n; i++)
			wr_u16(&list, unknown[i]);
		stun_begin(w, STUN_ERROR, STUN_BINDING, m.transaction);
		stun_put_error(w, 420, "Unknown Attribute");
		stun_put(w, STUN_UNKNOWN_ATTRIBUTES, wr_done(&list));
	} else {
		stun_begin(w, STUN_SUCCESS, STUN_BINDING, m.transaction);
		stun_put_xor_addr(w, STUN_XOR_MAPPED_ADDRESS, from, m.transaction);
	}
	return stun_finish(w, SPAN_NONE, m.has_fingerprint) == OK;
}
