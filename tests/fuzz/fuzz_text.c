/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* One value as text: what is taken is written again, and taken as the same.
 * covers: src/base/text.c src/base/addr.c */
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void binary(struct span s)
{
	static uint8_t bytes[4096], again[4096];
	static char text[3 * sizeof(bytes) + 1];
	struct wr w = wr_of(text, sizeof(text));
	size_t len, back;

	for (int colons = 0; colons < 2; colons++) {
		if (hex_parse(s, colons, bytes, sizeof(bytes), &len) != OK)
			continue;
		if (colons && len)
			(void)hex_colon_write(span_of(bytes, len), text, sizeof(text));
		else
			(void)hex_write(span_of(bytes, len), text, sizeof(text));
		if (hex_parse(span_str(text), colons, again, sizeof(again), &back) != OK || back != len ||
		    memcmp(bytes, again, len))
			abort();
	}
	if (base64_parse(s, bytes, sizeof(bytes), &len) != OK)
		return;
	wr_base64(&w, span_of(bytes, len));
	if (w.bad || w.len != base64_size(len) || !span_eq(wr_done(&w), s))
		abort(); /* one text for one value: what is signed has no second form */
}

static void address(struct span s)
{
	struct addr a, b;
	struct addr_prefix p, q;
	char text[ADDR_TEXT + 8];
	struct wr w = wr_of(text, sizeof(text));

	if (addr_parse_ip(s, &a) == OK &&
	    (addr_parse_ip(span_str(addr_write_ip(&a, text)), &b) != OK || !addr_eq(&a, &b) || addr_cmp(&a, &b)))
		abort();
	if (addr_parse(s, 4500, &a) == OK &&
	    (addr_parse(span_str(addr_write(&a, text)), 1, &b) != OK || !addr_eq(&a, &b)))
		abort();
	if (addr_prefix_parse(s, &p) != OK)
		return;
	if (!addr_prefix_has(&p, &p.base))
		abort();
	(void)addr_write_ip(&p.base, text);
	w.len = strlen(text);
	wr_fmt(&w, "/%u", p.len);
	if (w.bad || addr_prefix_parse(wr_done(&w), &q) != OK || q.len != p.len || !addr_eq(&q.base, &p.base))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		a = addr_of(span_of("\xc0\x00\x02\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\x01", i ? 16 : 4), 1);
		(void)addr_prefix_has(&p, &a);
	}
	if (addr_is_any(&p.base) + addr_is_loopback(&p.base) + addr_is_link_local(&p.base) +
		    addr_is_multicast(&p.base) + addr_is_private(&p.base) >
	    1)
		abort(); /* no address is of two such kinds */
}

static void escaped(struct span s)
{
	char text[64];

	(void)text_escape(s, text, sizeof(text));
	if (strlen(text) >= sizeof(text))
		abort();
	for (const char *c = text; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			abort(); /* goes to a terminal */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span s = span_of(data, size);

	binary(s);
	address(s);
	escaped(s);
	return 0;
}
