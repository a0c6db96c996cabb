/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/text.h"
#include "harness.h"

static void hex_both_ways(void **state)
{
	static const uint8_t bytes[] = { 0x4a, 0xad, 0xb9 };
	static const struct {
		const char *text;
		bool colons;
		enum err want;
	} rows[] = {
		{ "4aadb9", false, OK },
		{ "4AADB9", true, OK },
		{ "4A:AD:B9", true, OK },
		{ "4A:AD", false, ERR_MALFORMED },
		{ "4A:ADB9", true, ERR_MALFORMED }, /* between all or none */
		{ "4A:AD:", true, ERR_MALFORMED },
		{ "4A:AD:B", true, ERR_MALFORMED },
		{ ":4A:AD", true, ERR_MALFORMED },
		{ "4aadb", false, ERR_MALFORMED },
		{ "4aadbg", false, ERR_MALFORMED },
		{ "4aadb900", false, ERR_LIMIT },
	};
	char text[16];
	uint8_t dst[3];
	size_t len;

	(void)state;
	assert_string_equal(hex_write(SPAN_OF(bytes), text, sizeof(text)), "4aadb9");
	assert_string_equal(hex_colon_write(SPAN_OF(bytes), text, 9), "4A:AD:B9");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(dst, 0, sizeof(dst));
		assert_int_equal(hex_parse(span_str(rows[i].text), rows[i].colons, dst, sizeof(dst), &len),
				 rows[i].want);
		if (rows[i].want == OK) {
			assert_int_equal(len, 3);
			assert_memory_equal(dst, bytes, 3);
		}
	}
}

/* RFC 4648, 10, and what its section 3 forbids. */
static void base64_both_ways(void **state)
{
	static const struct {
		const char *plain, *text;
	} rows[] = {
		{ "", "" },
		{ "f", "Zg==" },
		{ "fo", "Zm8=" },
		{ "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" },
		{ "foobar", "Zm9vYmFy" },
	};
	static const char *const wrong[] = { "Zg",   "Zg=",  "Zh==",   "Zm9=",     "Z===",
					     "====", "Zm 9", "Zm9v\n", "Zg==Zg==", "Zm9v=" };
	uint8_t mem[16];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wr w = wr_of(mem, sizeof(mem));

		wr_base64(&w, span_str(rows[i].plain));
		assert_true(span_eq_str(wr_done(&w), rows[i].text));
		assert_int_equal(w.len, base64_size(strlen(rows[i].plain)));
		assert_int_equal(base64_parse(span_str(rows[i].text), mem, sizeof(mem), &len), OK);
		assert_true(span_eq_str(span_of(mem, len), rows[i].plain));
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(base64_parse(span_str(wrong[i]), mem, sizeof(mem), &len), ERR_MALFORMED);
	assert_int_equal(base64_parse(SPAN_LIT("Zm9v"), mem, 2, &len), ERR_LIMIT);
}

static void foreign_text_is_escaped(void **state)
{
	char dst[16], tiny[8];

	(void)state;
	assert_string_equal(text_escape(SPAN_LIT("a\"b\n"), dst, sizeof(dst)), "a\\x22b\\x0a");
	assert_string_equal(text_escape(SPAN_LIT("1234567"), tiny, sizeof(tiny)), "1234567");
	assert_string_equal(text_escape(SPAN_LIT("12345678"), tiny, sizeof(tiny)), "1234...");
	assert_string_equal(text_escape(SPAN_NONE, tiny, sizeof(tiny)), "");
}

static void addresses(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "192.0.2.1:4500", "192.0.2.1:4500" },
		{ "192.0.2.1", "192.0.2.1:7" },
		{ "[2001:db8::1]:80", "[2001:db8::1]:80" },
		{ "2001:db8::1", "[2001:db8::1]:7" },
		{ "[2001:db8::1]", "[2001:db8::1]:7" },
		{ "::ffff:192.0.2.1", "192.0.2.1:7" }, /* mapped: one form for one address */
		{ "192.0.2.1:", NULL },
		{ "192.0.2.1:65536", NULL },
		{ "192.0.2", NULL },
		{ "192.0.2.1.", NULL },
		{ "[192.0.2.1]:1", NULL },
		{ "[2001:db8::1]x", NULL },
		{ "[2001:db8::1", NULL },
		{ "", NULL },
		{ "example.org", NULL },
		{ "192.0.2.1 ", NULL },
		{ "fe80::1%eth0", NULL },
	};
	char text[ADDR_TEXT];
	struct addr a, b;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(addr_parse(span_str(rows[i].text), 7, &a) == OK, rows[i].want != NULL);
		if (rows[i].want)
			assert_string_equal(addr_write(&a, text), rows[i].want);
	}
	a = addr_ip4(0xc0000201, 1);
	b = addr_ip4(0xc0000201, 2);
	assert_true(addr_ip_eq(&a, &b));
	assert_false(addr_eq(&a, &b));
	assert_true(addr_cmp(&a, &b) < 0);
}

static void kinds_of_addresses(void **state)
{
	static const struct {
		const char *text;
		bool private, loopback, link, multicast, any;
	} rows[] = {
		{ "10.1.2.3", true, false, false, false, false },
		{ "172.15.0.1", false, false, false, false, false },
		{ "172.31.0.1", true, false, false, false, false },
		{ "192.168.0.1", true, false, false, false, false },
		{ "100.64.0.1", true, false, false, false, false },
		{ "100.128.0.1", false, false, false, false, false },
		{ "fd00::1", true, false, false, false, false },
		{ "fe80::1", false, false, true, false, false },
		{ "169.254.1.1", false, false, true, false, false },
		{ "127.9.9.9", false, true, false, false, false },
		{ "::1", false, true, false, false, false },
		{ "239.1.1.1", false, false, false, true, false },
		{ "ff02::1", false, false, false, true, false },
		{ "0.0.0.0", false, false, false, false, true },
		{ "::", false, false, false, false, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr a;

		assert_int_equal(addr_parse_ip(span_str(rows[i].text), &a), OK);
		assert_int_equal(addr_is_private(&a), rows[i].private);
		assert_int_equal(addr_is_loopback(&a), rows[i].loopback);
		assert_int_equal(addr_is_link_local(&a), rows[i].link);
		assert_int_equal(addr_is_multicast(&a), rows[i].multicast);
		assert_int_equal(addr_is_any(&a), rows[i].any);
	}
}

static void prefixes(void **state)
{
	static const struct {
		const char *prefix, *ip;
		bool has;
	} rows[] = {
		{ "192.168.16.0/20", "192.168.31.255", true }, { "192.168.16.0/20", "192.168.32.0", false },
		{ "0.0.0.0/0", "203.0.113.1", true },          { "0.0.0.0/0", "::1", false },
		{ "2001:db8::/33", "2001:db8:7fff::1", true }, { "2001:db8::/33", "2001:db8:8000::1", false },
		{ "192.0.2.1/32", "192.0.2.1", true },
	};
	static const char *const wrong[] = { "192.168.16.1/20", "10.0.0.0/33",    "10.0.0.0",
					     "10.0.0.0/",       "2001:db8::/129", "x/8" };
	struct addr_prefix p;
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(addr_prefix_parse(span_str(rows[i].prefix), &p), OK);
		assert_int_equal(addr_parse_ip(span_str(rows[i].ip), &a), OK);
		assert_int_equal(addr_prefix_has(&p, &a), rows[i].has);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(addr_prefix_parse(span_str(wrong[i]), &p), ERR_MALFORMED);
}

static void ranges(void **state)
{
	static const struct {
		const char *lo, *hi;
		int len; /* -1: no prefix */
	} rows[] = {
		{ "10.3.0.0", "10.3.0.255", 24 },      { "10.3.0.0", "10.3.0.254", -1 },
		{ "10.3.0.1", "10.3.0.255", -1 },      { "10.3.0.7", "10.3.0.7", 32 },
		{ "0.0.0.0", "255.255.255.255", 0 },   { "10.3.0.8", "10.3.0.7", -1 },
		{ "10.3.0.0", "2001:db8::1", -1 },     { "2001:db8::", "2001:db8::ffff", 112 },
		{ "2001:db8::1", "2001:db8::1", 128 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr lo, hi;
		struct addr_prefix p;

		assert_int_equal(addr_parse_ip(span_str(rows[i].lo), &lo), OK);
		assert_int_equal(addr_parse_ip(span_str(rows[i].hi), &hi), OK);
		assert_int_equal(addr_prefix_of_range(&lo, &hi, &p), rows[i].len >= 0);
		if (rows[i].len < 0)
			continue;
		assert_int_equal(p.len, rows[i].len);
		assert_true(addr_prefix_sound(&p) && addr_ip_eq(&p.base, &lo));
	}
	assert_false(addr_prefix_sound(&(struct addr_prefix){ .base = addr_ip4(0x0a000000, 0), .len = 33 }));
	assert_false(addr_prefix_sound(&(struct addr_prefix){ .base = addr_ip4(0x0a000001, 0), .len = 31 }));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),           cmocka_unit_test(hex_both_ways),
		cmocka_unit_test(base64_both_ways), cmocka_unit_test(foreign_text_is_escaped),
		cmocka_unit_test(addresses),        cmocka_unit_test(kinds_of_addresses),
		cmocka_unit_test(prefixes),
	};

	return HARNESS_RUN(tests);
}
