/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "net/bpf.h"
#include "net/demux.h"
#include "harness.h"
#include "bpf_run.h"

/* ---- the table of docs/protocol.md ---- */

#define COOKIE "\x21\x12\xa4\x42"
#define TWELVE "abcdefghijkl"

static const struct {
	const char *bytes;
	size_t len;
	enum demux_kind kind;
	const char *what;
} rows[] = {
	{ "", 0, DEMUX_DROP, "empty" },
	{ "\xff", 1, DEMUX_KEEPALIVE, "keepalive" },
	{ "\xfe", 1, DEMUX_DROP, "another single octet" },
	{ "\x00", 1, DEMUX_DROP, "one zero" },
	{ "\xff\xff", 2, DEMUX_DROP, "two octets 0xff" },
	{ "\x00\x00\x00", 3, DEMUX_DROP, "three quarters of a marker" },
	{ "\x00\x00\x00\x00", 4, DEMUX_IKE, "marker and nothing else: IKE's to refuse" },
	{ "\x00\x00\x00\x00zzzz", 8, DEMUX_IKE, "marker and something" },
	{ "\x00\x00\x00\x01zzzz", 8, DEMUX_DROP, "top bits 00, no cookie" },
	{ "\x00\x00\x00\x00" COOKIE TWELVE, 20, DEMUX_IKE, "marker wins over the cookie" },
	{ "\x00\x01\x00\x00" COOKIE TWELVE, 20, DEMUX_STUN, "Binding request" },
	{ "\x01\x01\x00\x00" COOKIE TWELVE, 20, DEMUX_STUN, "Binding response" },
	{ "\x3f\xff\x00\x00" COOKIE TWELVE, 20, DEMUX_STUN, "highest type" },
	{ "\x00\x01\x00\x04" COOKIE TWELVE "1234", 24, DEMUX_STUN, "with an attribute" },
	{ "\x00\x01\x00\x04" COOKIE TWELVE, 20, DEMUX_DROP, "cut" },
	{ "\x00\x01\x00\x00" COOKIE TWELVE "1234", 24, DEMUX_DROP, "bytes behind it" },
	{ "\x00\x01\x00\x03" COOKIE TWELVE "123", 23, DEMUX_DROP, "length not a multiple of 4" },
	{ "\x00\x01\x00\x00" COOKIE "abcdefghijk", 19, DEMUX_DROP, "one short of a header" },
	{ "\x00\x01\x00\x00\x21\x12\xa4\x43" TWELVE, 20, DEMUX_DROP, "wrong cookie" },
	{ "\x40\x00\x00\x00", 4, DEMUX_CHANNEL, "ChannelData, empty" },
	{ "\x4f\xff\x00\x04zzzz", 8, DEMUX_CHANNEL, "ChannelData, highest number" },
	{ "\x40\x00\x00", 3, DEMUX_DROP, "less than a ChannelData header" },
	{ "\x50\x00\x00\x04zzzz", 8, DEMUX_DROP, "reserved channel number" },
	{ "\x80\x00\x00\x04zzzz", 8, DEMUX_DROP, "RTP's range: nothing of ours" },
	{ "\xbf\xff\xff\xffzzzz", 8, DEMUX_DROP, "just below our SPIs" },
	{ "\xc0\x00\x00\x00zzzz", 8, DEMUX_ESP, "lowest SPI" },
	{ "\xff\xff\xff\xffzzzz", 8, DEMUX_ESP, "highest SPI" },
	{ "\xc0\x00\x00\x00zzz", 7, DEMUX_DROP, "SPI, no whole sequence number" },
};

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (demux_classify(span_of(rows[i].bytes, rows[i].len)) != rows[i].kind)
			fail_msg("%s: %s, not %s", rows[i].what,
				 demux_kind_name(demux_classify(span_of(rows[i].bytes, rows[i].len))),
				 demux_kind_name(rows[i].kind));
	assert_string_equal(demux_kind_name(DEMUX_KEEPALIVE), "keepalive");
	assert_string_equal(demux_kind_name((enum demux_kind)99), "drop");
}

/* ---- what is in ChannelData ---- */

#define ESP8                                                                                                           \
	"\xc0\x00\x00\x07"                                                                                             \
	"\x00\x00\x00\x01"

static const struct {
	const char *bytes;
	size_t len;
	bool is;
	uint16_t channel;
	size_t inside;
	enum demux_kind kind;
	const char *what;
} channels[] = {
	{ "\x40\x00\x00\x00", 4, true, 0x4000, 0, DEMUX_DROP, "empty" },
	{ "\x40\x00\x00\x08" ESP8, 12, true, 0x4000, 8, DEMUX_ESP, "ESP, lowest number" },
	{ "\x4f\xff\x00\x08" ESP8, 12, true, 0x4fff, 8, DEMUX_ESP, "ESP, highest number" },
	{ "\x50\x00\x00\x08" ESP8, 12, false, 0, 0, DEMUX_DROP, "a reserved number" },
	{ "\x3f\xff\x00\x08" ESP8, 12, false, 0, 0, DEMUX_DROP, "below the numbers" },
	{ ESP8 "zzzz", 12, false, 0, 0, DEMUX_DROP, "bare ESP" },
	{ "\x40\x01\x00\x09" ESP8, 12, false, 0, 0, DEMUX_DROP, "one byte less than it says" },
	{ "\x40\x01\xff\xff" ESP8, 12, false, 0, 0, DEMUX_DROP, "the longest that it may say" },
	{ "\x40\x01\x00\x07" ESP8, 12, true, 0x4001, 7, DEMUX_DROP, "one byte less than ESP has" },
	{ "\x40\x01\x00\x09" ESP8 "zpad", 16, true, 0x4001, 9, DEMUX_ESP, "padded" },
	{ "\x40\x01\x00\x08" ESP8 "padded on", 21, true, 0x4001, 8, DEMUX_ESP, "padded by more than need be" },
	{ "\x40\x01\x00\x01"
	  "\xff",
	  5, true, 0x4001, 1, DEMUX_KEEPALIVE, "keepalive" },
	{ "\x40\x01\x00\x08"
	  "\x00\x00\x00\x00zzzz",
	  12, true, 0x4001, 8, DEMUX_IKE, "IKE" },
	{ "\x40\x01\x00\x14"
	  "\x00\x01\x00\x00" COOKIE TWELVE,
	  24, true, 0x4001, 20, DEMUX_STUN, "STUN" },
	{ "\x40\x01\x00\x0c"
	  "\x40\x02\x00\x08" ESP8,
	  16, true, 0x4001, 12, DEMUX_CHANNEL, "ChannelData in ChannelData" },
};

static void inside_of_channels(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++) {
		struct demux_inside in;
		bool is = demux_channel(span_of(channels[i].bytes, channels[i].len), &in);

		if (is != channels[i].is ||
		    (is && (in.channel != channels[i].channel || in.bytes.len != channels[i].inside ||
			    in.kind != channels[i].kind || (const char *)in.bytes.p != channels[i].bytes + 4)))
			fail_msg("%s", channels[i].what);
	}
}

/* Nothing is left of a datagram that was cut, at whatever length; exact memory shows what is read. */
static void cut_channels(void **state)
{
	static const char whole[] = "\x40\x01\x00\x14" ESP8 "abcdefghijkl";
	struct demux_inside in;

	(void)state;
	for (size_t len = 0; len <= 24; len++) {
		uint8_t *exact = malloc(len + !len);

		assert_non_null(exact);
		memcpy(exact, whole, len);
		assert_int_equal(demux_channel(span_of(exact, len), &in), len == 24);
		free(exact);
	}
}

/* ---- the program, on an interpreter of the few instructions that it has ---- */

/* The socket that the definition leads a datagram to. */
static uint32_t socket_of(struct span d, unsigned n_data)
{
	struct demux_inside in = { .bytes = d, .kind = demux_classify(d) };

	if (in.kind == DEMUX_CHANNEL)
		(void)!demux_channel(d, &in);
	return in.kind == DEMUX_ESP ? 1 + be32(in.bytes.p) % n_data : 0;
}

static void agree(struct span d)
{
	static const unsigned counts[] = { 1, 2, 3, 4, 7, 16 };

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct sock_filter code[BPF_SPLIT_MAX];
		uint32_t got;

		assert_true(bpf_run(code, bpf_split_write(counts[i], code), d, &got));
		assert_int_equal(got, socket_of(d, counts[i]));
	}
}

static void program_agrees(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 4500);
	uint8_t bytes[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		agree(span_of(rows[i].bytes, rows[i].len));
	for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++)
		agree(span_of(channels[i].bytes, channels[i].len));
	for (int i = 0; i < 100000; i++) {
		size_t len = rng_below(&rng, sizeof(bytes));

		rng_fill(&rng, bytes, len);
		agree(span_of(bytes, len));
	}
	/* every first byte at every length around the bounds */
	memset(bytes, 0xff, sizeof(bytes));
	for (unsigned first = 0; first < 256; first++) {
		bytes[0] = (uint8_t)first;
		for (size_t len = 0; len < 12; len++)
			agree(span_of(bytes, len));
	}
	/* ChannelData of every length around the bounds, that says every other one, with every first byte inside */
	for (unsigned first = 0; first < 256; first++) {
		put_be16(bytes, 0x4001);
		bytes[4] = (uint8_t)first;
		for (size_t len = 0; len < 20; len++)
			for (uint16_t says = 0; says < 20; says++) {
				put_be16(bytes + 2, says);
				agree(span_of(bytes, len));
			}
		put_be16(bytes + 2, (uint16_t)(first << 8 | 8));
		agree(SPAN_OF(bytes));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table), cmocka_unit_test(inside_of_channels),
					    cmocka_unit_test(cut_channels), cmocka_unit_test(program_agrees) };

	return HARNESS_RUN(tests);
}
