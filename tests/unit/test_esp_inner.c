/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "esp_pair.h"
#include "harness.h"

/* One row: a packet in hex, blanks between its headers. */
struct row {
	const char *name, *hex;
	enum err e;
	uint8_t protocol;
	uint16_t src_port, dst_port;
	size_t len;
};

#define V4(total, frag, proto) "4500" total "0001" frag "40" proto "0000 0a000001 0a000002 "
#define V6(len, next) "60000000" len next "40 fd000000000000000000000000000001 fd000000000000000000000000000002 "
#define UDP8 "1234 0035 0008 0000 "
#define TCP20 "1234 170c 00000001 00000000 50 02 0000 0000 0000 "

static const struct row rows[] = {
	{ "udp4", V4("001c", "0000", "11") UDP8, OK, 17, 0x1234, 53, 28 },
	{ "udp4 with TFC padding", V4("001c", "0000", "11") UDP8 "ffffffff", OK, 17, 0x1234, 53, 28 },
	{ "udp4, do not fragment", V4("001c", "4000", "11") UDP8, OK, 17, 0x1234, 53, 28 },
	{ "udp4, first fragment", V4("001c", "2000", "11") "1234 0035 0808 0000", OK, 17, 0x1234, 53, 28 },
	{ "udp4, length too long for one that is whole", V4("001c", "0000", "11") "1234 0035 0009 0000", ERR_MALFORMED,
	  0, 0, 0, 0 },
	{ "udp4, length under its header", V4("001c", "0000", "11") "1234 0035 0007 0000", ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp4, later fragment", V4("001c", "0001", "11") UDP8, OK, 17, 0, 0, 28 },
	{ "udp4, fragment in the middle", V4("001c", "2001", "11") UDP8, OK, 17, 0, 0, 28 },
	{ "udp4, in the middle, not in units of 8", V4("001b", "2001", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp4, first, not in units of 8", V4("001e", "2000", "11") "1234 0035 0808 0000 0000", ERR_MALFORMED, 0, 0, 0,
	  0 },
	{ "udp4, last fragment of one byte", V4("0015", "0001", "11") UDP8, OK, 17, 0, 0, 21 },
	{ "udp4, empty fragment", V4("0014", "0001", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp4, up to the longest datagram", V4("001b", "1fff", "11") UDP8, OK, 17, 0, 0, 27 },
	{ "udp4, beyond the longest datagram", V4("001c", "1fff", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp4, first fragment without the whole header", V4("0014", "2000", "11"), ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp4, reserved flag", V4("001c", "8000", "11") UDP8, ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "total longer than there is", V4("001d", "0000", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "total cuts the ports", V4("001b", "0000", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "total under the header", V4("0013", "0000", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "header length 4", "4400001c 00010000 40110000 0a000001 0a000002" UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "header longer than the packet", "4f00001c 00010000 40110000 0a000001 0a000002" UDP8, ERR_MALFORMED, 0, 0, 0,
	  0 },
	{ "version 5", "5500001c 00010000 40110000 0a000001 0a000002" UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "options: router alert", "46000020 00010000 40110000 0a000001 0a000002 94040000" UDP8, OK, 17, 0x1234, 53,
	  32 },
	{ "options: nop, end", "46000020 00010000 40110000 0a000001 0a000002 010100ff" UDP8, OK, 17, 0x1234, 53, 32 },
	{ "options: loose source route", "47000024 00010000 40110000 0a000001 0a000002 83070401 02030400" UDP8,
	  ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "options: strict source route", "47000024 00010000 40110000 0a000001 0a000002 01890701 02030400" UDP8,
	  ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "options: length 1", "46000020 00010000 40110000 0a000001 0a000002 94010000" UDP8, ERR_MALFORMED, 0, 0, 0,
	  0 },
	{ "options: too long", "46000020 00010000 40110000 0a000001 0a000002 94050000" UDP8, ERR_MALFORMED, 0, 0, 0,
	  0 },
	{ "tcp4", V4("0028", "0000", "06") TCP20, OK, 6, 0x1234, 5900, 40 },
	{ "tcp4, offset 4", V4("0028", "0000", "06") "1234 170c 00000001 00000000 40 02 0000 00000000", ERR_MALFORMED,
	  0, 0, 0, 0 },
	{ "tcp4, offset beyond", V4("0028", "0000", "06") "1234 170c 00000001 00000000 60 02 0000 00000000",
	  ERR_MALFORMED, 0, 0, 0, 0 },
	{ "tcp4, first fragment without flags", V4("001c", "2000", "06") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "icmp4 echo", V4("001c", "0000", "01") "0800 0000 0007 0001", OK, 1, 0, 0, 28 },
	{ "icmp6 in IPv4", V4("001c", "0000", "3a") "8000 0000 0007 0001", ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "icmp4 in IPv6", V6("0008", "01") "0800 0000 0007 0001", ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "gre", V4("0018", "0000", "2f") "00000800", OK, 47, 0, 0, 24 },
	{ "sctp", V4("0018", "0000", "84") "0001 0002", OK, 132, 1, 2, 24 },
	{ "sctp without ports", V4("0017", "0000", "84") "0001 00", ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp6", V6("0008", "11") UDP8, OK, 17, 0x1234, 53, 48 },
	{ "udp6 with TFC padding", V6("0008", "11") UDP8 "00", OK, 17, 0x1234, 53, 48 },
	{ "udp6 too long", V6("0009", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp6, jumbo", V6("0000", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "udp6 behind hop-by-hop, destination", V6("0018", "00") "3c00 010400000000 1100 010400000000" UDP8, OK, 17,
	  0x1234, 53, 64 },
	{ "udp6 behind a long destination", V6("0018", "3c") "1101 010c 000000000000000000000000" UDP8, OK, 17, 0x1234,
	  53, 64 },
	{ "hop-by-hop later", V6("0018", "3c") "0000 010400000000 1100 010400000000" UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "extension beyond the end", V6("0010", "3c") "1102 010400000000" UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "atomic fragment", V6("0010", "2c") "1100 0000 00000001" UDP8, OK, 17, 0x1234, 53, 56 },
	{ "first fragment", V6("0010", "2c") "1100 0001 00000001 1234 0035 0500 0000", OK, 17, 0x1234, 53, 56 },
	{ "later fragment", V6("0010", "2c") "1100 0008 00000001" UDP8, OK, 17, 0, 0, 56 },
	{ "later fragment of a part with extensions", V6("0010", "2c") "3c00 0009 00000001" UDP8, OK, 60, 0, 0, 56 },
	{ "later fragment, not in units of 8", V6("000f", "2c") "1100 0009 00000001" UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "later fragment, empty", V6("0008", "2c") "1100 0008 00000001", ERR_MALFORMED, 0, 0, 0, 0 },
	{ "beyond the longest datagram", V6("0010", "2c") "1100 fff8 00000001" UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "first fragment whose headers go on", V6("0010", "2c") "3c00 0001 00000001 1101 010c 00000000", ERR_MALFORMED,
	  0, 0, 0, 0 },
	{ "two fragment headers", V6("0018", "2c") "2c00 0000 00000001 1100 0000 00000001" UDP8, ERR_MALFORMED, 0, 0, 0,
	  0 },
	{ "icmp6 error in fragments", V6("0040", "2c") "3a00 0001 00000001 0100 0000 00000000" V6("0008", "11") UDP8,
	  ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "icmp6 echo in fragments", V6("0010", "2c") "3a00 0001 00000001 8000 0000 0007 0001", OK, 58, 0, 0, 56 },
	{ "routing, none left", V6("0010", "2b") "1100 0400 00000000" UDP8, OK, 17, 0x1234, 53, 56 },
	{ "routing, one left", V6("0010", "2b") "1100 0401 00000000" UDP8, ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "no next header", V6("0000", "3b"), ERR_UNSUPPORTED, 0, 0, 0, 0 },
	{ "icmp6 redirect is no error", V6("0008", "3a") "8900 0000 00000000", OK, 58, 0, 0, 48 },
	{ "icmp6 error without inside", V6("0008", "3a") "0100 0000 00000000", ERR_MALFORMED, 0, 0, 0, 0 },
	{ "icmp6 error, inside of the other family",
	  V6("0024", "3a") "0100 0000 00000000" V4("001c", "0000", "11") UDP8, ERR_MALFORMED, 0, 0, 0, 0 },
	{ "icmp6 error, inside a later fragment",
	  V6("0040", "3a") "0100 0000 00000000" V6("0010", "2c") "1100 0008 00000001" UDP8, ERR_UNSUPPORTED, 0, 0, 0,
	  0 },
};

static size_t bytes_of(const char *hex, uint8_t *dst, size_t cap)
{
	char packed[512];
	size_t n = 0, len = 0;

	for (; *hex && n < sizeof(packed); hex++)
		if (*hex != ' ')
			packed[n++] = *hex;
	assert_int_equal(hex_parse(span_of(packed, n), false, dst, cap, &len), OK);
	return len;
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t b[256];
		size_t len = bytes_of(rows[i].hex, b, sizeof(b));
		struct esp_inner p;
		enum err e;

		memset(&p, 0, sizeof(p));
		e = esp_inner_parse(span_of(b, len), &p);
		if (e != rows[i].e || p.ends.protocol != rows[i].protocol || p.ends.src_port != rows[i].src_port ||
		    p.ends.dst_port != rows[i].dst_port || p.len != rows[i].len)
			fail_msg("%s: %s", rows[i].name, err_name(e));
	}
}

/* Each length of each good row, in memory that ends there: refused until the packet is whole. */
static void truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t b[256];
		size_t len = bytes_of(rows[i].hex, b, sizeof(b));

		for (size_t n = 0; n < len; n++) {
			uint8_t *exact = malloc(n + 1);
			struct esp_inner p;
			enum err e;

			assert_non_null(exact);
			memcpy(exact, b, n);
			e = esp_inner_parse(span_of(exact, n), &p);
			if (rows[i].e == OK && (e == OK) != (n >= rows[i].len))
				fail_msg("%s at %zu: %s", rows[i].name, n, err_name(e));
			free(exact);
		}
	}
}

static void extension_limit(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ESP_EXT_MAX + 3; n++) {
		uint8_t body[8 * (ESP_EXT_MAX + 4)] = { 0 };
		struct pkt pk;
		struct esp_inner p;
		size_t at = 0;

		for (unsigned k = 0; k < n; k++, at += 8)
			body[at] = k + 1 < n ? 60 : 17;
		put_be16(body + at + 4, 8);
		pk = pkt_make(true, 1, 2, n ? 60 : 17, span_of(body, at + 8));
		assert_int_equal(esp_inner_parse(span_of(pk.b, pk.len), &p), n <= ESP_EXT_MAX ? OK : ERR_UNSUPPORTED);
	}
}

static void icmp_fields(void **state)
{
	struct pkt inside = pkt_tcp(true, 2, 5900, 1, 1234, ESP_TCP_ACK), pk;
	struct esp_inner p;

	(void)state;
	pk = pkt_icmp(true, 1, 2, 2, 0, span_of(inside.b, inside.len));
	assert_int_equal(esp_inner_parse(span_of(pk.b, pk.len), &p), OK);
	assert_int_equal(p.icmp, ESP_ICMP_ERROR);
	assert_int_equal(p.about.src_port, 5900);
	assert_int_equal(p.about.dst_port, 1234);
	assert_int_equal(p.about.src[15], 2);
	assert_int_equal(p.about.dst[15], 1);
	pk = pkt_echo(false, 1, 2, true);
	pk.b[24] = 0x12;
	assert_int_equal(esp_inner_parse(span_of(pk.b, pk.len), &p), OK);
	assert_int_equal(p.icmp, ESP_ICMP_ECHO);
	assert_int_equal(p.icmp_type, 0);
	assert_int_equal(p.icmp_id, 0x1200);
	assert_int_equal(p.about.family, ADDR_NONE);
}

/* What a fragment says of itself, and where things lie in it. */
static void fragment_fields(void **state)
{
	static const struct {
		const char *hex;
		struct esp_inner want;
	} row[] = {
		{ V4("001c", "4000", "11") UDP8, { .dont_fragment = true, .id = 1, .upper = 20 } },
		{ V4("001c", "2002", "11") UDP8,
		  { .fragment = ESP_LATER, .more = true, .id = 1, .offset = 16, .upper = 20 } },
		{ V4("001c", "2000", "11") UDP8, { .fragment = ESP_FIRST, .more = true, .id = 1, .upper = 20 } },
		{ V6("0008", "11") UDP8, { .dont_fragment = true, .upper = 40, .cut_at = 40, .cut_next = 6 } },
		{ V6("0018", "00") "3c00 010400000000 1100 010400000000" UDP8,
		  { .dont_fragment = true, .upper = 56, .cut_at = 48, .cut_next = 40 } },
		{ V6("0018", "3c") "2b00 010400000000 1100 0400 00000000" UDP8,
		  { .dont_fragment = true, .upper = 56, .cut_at = 56, .cut_next = 48 } },
		{ V6("0018", "00") "2c00 010400000000 1100 0019 0a0b0c0d" UDP8,
		  { .fragment = ESP_LATER,
		    .dont_fragment = true,
		    .more = true,
		    .id = 0x0a0b0c0d,
		    .offset = 24,
		    .upper = 56,
		    .fragment_at = 48,
		    .cut_at = 48,
		    .cut_next = 40 } },
		{ V6("0010", "2c") "1100 0000 0a0b0c0d" UDP8,
		  { .dont_fragment = true,
		    .id = 0x0a0b0c0d,
		    .upper = 48,
		    .fragment_at = 40,
		    .cut_at = 40,
		    .cut_next = 6 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct esp_inner *w = &row[i].want;
		struct esp_inner p;
		uint8_t b[256];
		size_t len = bytes_of(row[i].hex, b, sizeof(b));

		assert_int_equal(esp_inner_parse(span_of(b, len), &p), OK);
		if (p.fragment != w->fragment || p.dont_fragment != w->dont_fragment || p.more != w->more ||
		    p.id != w->id || p.offset != w->offset || p.upper != w->upper || p.fragment_at != w->fragment_at ||
		    p.cut_at != w->cut_at || p.cut_next != w->cut_next)
			fail_msg("row %zu", i);
	}
}

/* The short way for what is usual takes nothing else, and says the same of it: packets near it, with some bytes changed, cut off, or
 * with something behind them. */
static void short_way(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 5);
	unsigned good = 0;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		bool v6 = i & 1;
		struct pkt pk = i & 2 ? pkt_tcp(v6, 1, 2, 3, 4, (uint8_t)i) : pkt_udp(v6, 1, 2, 3, 4, i % 50);
		uint8_t *exact;
		struct esp_inner p;
		size_t len = pk.len;

		for (unsigned k = rng_below(&rng, 3); k > 0; k--)
			pk.b[rng_below(&rng, v6 ? 60 : 40)] =
				(uint8_t)(rng_below(&rng, 2) ? rng_below(&rng, 256) : 1u << rng_below(&rng, 8));
		if (!rng_below(&rng, 4))
			len = rng_below(&rng, (uint32_t)len + 4);
		exact = malloc(len + 1); /* what is read beyond it shows */
		assert_non_null(exact);
		memcpy(exact + 1, pk.b, len);
		assert_true(parsed_alike(span_of(exact + 1, len)));
		good += esp_inner_parse(span_of(exact + 1, len), &p) == OK;
		free(exact);
	}
	assert_in_range(good, 60000, 180000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),       cmocka_unit_test(truncated),       cmocka_unit_test(extension_limit),
		cmocka_unit_test(icmp_fields), cmocka_unit_test(fragment_fields), cmocka_unit_test(short_way),
	};

	return HARNESS_RUN(tests);
}
