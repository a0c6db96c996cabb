/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/rng.h"
#include "net/bpf.h"
#include "net/demux.h"
#include "harness.h"

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

/* ---- the program, on an interpreter of the few instructions that it has ---- */

static uint32_t run(const struct sock_filter *code, unsigned n, struct span d)
{
	uint32_t a = 0;

	for (unsigned pc = 0; pc < n; pc++) {
		const struct sock_filter *f = &code[pc];

		switch (f->code) {
		case BPF_LD | BPF_W | BPF_LEN: a = (uint32_t)d.len; break;
		case BPF_LD | BPF_W | BPF_ABS:
			if (f->k + 4 > d.len)
				return 0;
			a = be32(d.p + f->k);
			break;
		case BPF_JMP | BPF_JGE | BPF_K: pc += a >= f->k ? f->jt : f->jf; break;
		case BPF_ALU | BPF_MOD | BPF_K: a %= f->k; break;
		case BPF_ALU | BPF_ADD | BPF_K: a += f->k; break;
		case BPF_RET | BPF_A: return a;
		case BPF_RET | BPF_K: return f->k;
		default: fail_msg("instruction %u: code %#x", pc, f->code);
		}
	}
	fail_msg("the program does not return");
	return 0;
}

static void agree(struct span d)
{
	static const unsigned counts[] = { 1, 2, 3, 4, 7, 16 };

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct sock_filter code[BPF_SPLIT_MAX];
		uint32_t got = run(code, bpf_split_write(counts[i], code), d);

		if (demux_classify(d) == DEMUX_ESP)
			assert_int_equal(got, 1 + be32(d.p) % counts[i]);
		else
			assert_int_equal(got, 0);
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
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table), cmocka_unit_test(program_agrees) };

	return HARNESS_RUN(tests);
}
