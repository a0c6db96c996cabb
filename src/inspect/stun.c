/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <stdlib.h>

#include "ice/stun.h"
#include "inspect/inspect_impl.h"
#include "net/demux.h"

static json_t *address(const struct stun_msg *m, const struct stun_attr *a)
{
	char text[ADDR_TEXT];
	struct addr addr;

	return stun_attr_addr(m, a, &addr) == OK ? json_string(addr_write(&addr, text)) : inspect_hex(a->value);
}

static json_t *value_of(const struct stun_msg *m, const struct stun_attr *a)
{
	switch (a->type) {
	case STUN_USERNAME:
	case STUN_REALM:
	case STUN_NONCE:
	case STUN_SOFTWARE: return inspect_text(a->value);
	case STUN_MAPPED_ADDRESS:
	case STUN_XOR_MAPPED_ADDRESS: return address(m, a);
	case STUN_PRIORITY: return a->value.len == 4 ? json_integer(be32(a->value.p)) : inspect_hex(a->value);
	case STUN_ERROR_CODE:
		if (!stun_error_code(m) || a != stun_find(m, STUN_ERROR_CODE))
			return inspect_hex(a->value);
		return json_pack("{s:I, s:o}", "code", (json_int_t)stun_error_code(m), "reason",
				 inspect_text(span_from(a->value, 4)));
	default: return inspect_hex(a->value);
	}
}

static json_t *stun_value(const struct stun_msg *m, bool checked)
{
	static const char *const classes[] = { "request", "indication", "success", "error" };
	json_t *attributes = json_array(), *v;

	for (unsigned i = 0; i < m->n_attrs; i++)
		attributes = inspect_append(
			attributes, json_pack("{s:I, s:s, s:o}", "type", (json_int_t)m->attrs[i].type, "name",
					      stun_attr_name(m->attrs[i].type), "value", value_of(m, &m->attrs[i])));
	v = json_pack("{s:s, s:I, s:o, s:o, s:o}", "class", classes[m->cls], "method", (json_int_t)m->method,
		      "transaction", inspect_hex(SPAN_OF(m->transaction)), "attributes", attributes, "fingerprint_ok",
		      m->has_fingerprint ? json_true() : json_null());
	if (checked)
		v = inspect_set(v, "integrity_ok", json_true());
	return v;
}

/* The header or attribute that does not fit, found by walking again. */
static size_t stun_offset(struct span d)
{
	struct rd r = rd_of(d);

	if (!stun_is(d))
		return d.len < STUN_HDR ? d.len : d.p[0] & 0xc0 ? 0 : be32(d.p + 4) != STUN_COOKIE ? 4 : 2;
	rd_skip(&r, STUN_HDR);
	while (rd_left(&r)) {
		size_t at = d.len - rd_left(&r);
		uint16_t type = rd_u16(&r), len = rd_u16(&r);

		rd_skip(&r, (size_t)len + (size_t)(4 - len % 4) % 4);
		if (r.bad || type == STUN_FINGERPRINT)
			return at;
	}
	return d.len;
}

json_t *inspect_stun(struct span d, const struct inspect_options *o)
{
	struct stun_msg m;
	const struct stun_attr *a;
	enum err e = stun_parse(d, &m);

	if (e == ERR_AUTH)
		return inspect_no("stun", "FINGERPRINT is not that of these bytes", stun_offset(d));
	if (e != OK)
		return inspect_no("stun",
				  stun_is(d) ? e == ERR_LIMIT ? "too many attributes" : "attributes"
					     : "header, cookie or length",
				  stun_offset(d));
	if (o->has_password && stun_check_integrity(&m, o->password) != OK) {
		a = stun_find(&m, STUN_MESSAGE_INTEGRITY);
		return inspect_no("stun", a ? "MESSAGE-INTEGRITY is not by this password" : "no MESSAGE-INTEGRITY",
				  a ? inspect_at(d, a->value.p) - 4 : d.len);
	}
	return inspect_yes("stun", stun_value(&m, o->has_password));
}

json_t *inspect_datagram(struct span d, const struct inspect_options *o)
{
	(void)o;
	return inspect_yes("datagram", json_pack("{s:s, s:I}", "class", demux_kind_name(demux_classify(d)), "length",
						 (json_int_t)d.len));
}
