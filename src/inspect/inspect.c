/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "inspect/inspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/text.h"
#include "inspect/inspect_impl.h"

static const struct {
	const char *name;
	json_t *(*run)(struct span d, const struct inspect_options *o);
} kinds[] = {
	{ "sip", inspect_sip },           { "sdp", inspect_sdp }, { "stun", inspect_stun },
	{ "datagram", inspect_datagram }, { "ike", inspect_ike }, { "esp", inspect_esp },
};

bool inspect_has_kind(const char *kind)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, kind))
			return true;
	return false;
}

json_t *inspect_run(const char *kind, struct span bytes, const struct inspect_options *o)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, kind))
			return bytes.len > INSPECT_MAX ? inspect_no(kind, "longer than any message", INSPECT_MAX)
						       : kinds[i].run(bytes, o);
	return NULL;
}

bool inspect_ok(const json_t *result)
{
	return json_is_true(json_object_get(result, "ok"));
}

/* ---- results ---- */

json_t *inspect_yes(const char *kind, json_t *value)
{
	return json_pack("{s:s, s:b, s:o}", "kind", kind, "ok", 1, "value", value);
}

json_t *inspect_no(const char *kind, const char *reason, size_t offset)
{
	return json_pack("{s:s, s:b, s:s, s:I}", "kind", kind, "ok", 0, "reason", reason, "offset", (json_int_t)offset);
}

json_t *inspect_no_of(const char *kind, const char *what, const char *name, enum err e, size_t offset)
{
	char reason[160];

	(void)snprintf(reason, sizeof(reason), "%s %s: %s", what, name, err_name(e));
	return inspect_no(kind, reason, offset);
}

/* ---- values ---- */

json_t *inspect_append(json_t *list, json_t *item)
{
	if (!json_array_append_new(list, item))
		return list;
	json_decref(list);
	return NULL;
}

json_t *inspect_set(json_t *o, const char *key, json_t *value)
{
	if (!json_object_set_new(o, key, value))
		return o;
	json_decref(o);
	return NULL;
}

/* Length of the UTF-8 sequence at the start of s (RFC 3629, 4), 0: none. */
static size_t utf8(struct span s)
{
	static const struct {
		uint8_t lo, hi, len, second_lo, second_hi;
	} rows[] = {
		{ 0x00, 0x7f, 1, 0, 0 },       { 0xc2, 0xdf, 2, 0x80, 0xbf }, { 0xe0, 0xe0, 3, 0xa0, 0xbf },
		{ 0xe1, 0xec, 3, 0x80, 0xbf }, { 0xed, 0xed, 3, 0x80, 0x9f }, { 0xee, 0xef, 3, 0x80, 0xbf },
		{ 0xf0, 0xf0, 4, 0x90, 0xbf }, { 0xf1, 0xf3, 4, 0x80, 0xbf }, { 0xf4, 0xf4, 4, 0x80, 0x8f },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (s.p[0] < rows[i].lo || s.p[0] > rows[i].hi)
			continue;
		if (rows[i].len > s.len)
			return 0;
		for (size_t k = 1; k < rows[i].len; k++)
			if (s.p[k] < (k == 1 ? rows[i].second_lo : 0x80) ||
			    s.p[k] > (k == 1 ? rows[i].second_hi : 0xbf))
				return 0;
		return rows[i].len;
	}
	return 0;
}

json_t *inspect_text(struct span s)
{
	char *text = malloc(3 * s.len + 1);
	size_t at = 0;
	json_t *ret;

	while (text && s.len) {
		size_t n = utf8(s);

		if (n)
			memcpy(text + at, s.p, n);
		else
			memcpy(text + at, "\xef\xbf\xbd", 3);
		at += n ? n : 3;
		s = span_from(s, n ? n : 1);
	}
	ret = text ? json_stringn(text, at) : NULL;
	free(text);
	return ret;
}

json_t *inspect_hex(struct span s)
{
	char *text = malloc(2 * s.len + 1);
	json_t *ret = text ? json_string(hex_write(s, text, 2 * s.len + 1)) : NULL;

	free(text);
	return ret;
}

json_t *inspect_hex64(uint64_t v)
{
	uint8_t bytes[8];

	put_be64(bytes, v);
	return inspect_hex(SPAN_OF(bytes));
}

json_t *inspect_hex32(uint32_t v)
{
	uint8_t bytes[4];

	put_be32(bytes, v);
	return inspect_hex(SPAN_OF(bytes));
}

json_t *inspect_ip(struct span ip)
{
	struct addr a = { .family = ip.len == 4 ? ADDR_IP4 : ADDR_IP6 };
	char text[ADDR_TEXT];

	if (ip.len != 4 && ip.len != 16)
		return inspect_hex(ip);
	memcpy(a.ip, ip.p, ip.len); /* not addr_of(): a mapped address is shown as it is */
	return json_string(addr_write_ip(&a, text));
}

size_t inspect_at(struct span d, const void *p)
{
	return p ? (size_t)((const uint8_t *)p - d.p) : 0;
}
