/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "harness.h"

static void reader_stops_at_the_end(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7 };
	struct rd r = rd_of(SPAN_OF(bytes)), sub;

	(void)state;
	assert_int_equal(rd_u8(&r), 1);
	assert_int_equal(rd_u16(&r), 0x0203);
	sub = rd_sub(&r, 2);
	assert_int_equal(rd_u16(&sub), 0x0405);
	assert_true(rd_done(&sub));
	assert_int_equal(rd_u8(&sub), 0);
	assert_true(sub.bad);
	assert_false(r.bad);
	assert_int_equal(rd_left(&r), 2);
	assert_int_equal(rd_u32(&r), 0);
	assert_true(r.bad);
	/* bad stays, also for a read that would have fitted */
	assert_int_equal(rd_u8(&r), 0);
	assert_false(rd_done(&r));
}

static void reader_of_nothing(void **state)
{
	struct rd r = rd_of(SPAN_NONE);
	uint8_t dst[2] = { 9, 9 };

	(void)state;
	assert_true(rd_done(&r));
	assert_int_equal(rd_rest(&r).len, 0);
	assert_true(rd_done(&r));
	rd_bytes(&r, dst, 2);
	assert_true(r.bad);
	assert_int_equal(dst[0] | dst[1], 0);
}

static void child_cannot_leave_its_container(void **state)
{
	static const uint8_t bytes[] = { 9, 1, 2 };
	struct rd r = rd_of(SPAN_OF(bytes)), sub = rd_sub(&r, 4);

	(void)state;
	assert_true(sub.bad);
	assert_true(r.bad);
}

static void writer_patches_lengths(void **state)
{
	static const uint8_t want[] = { 0xaa, 0, 6, 1, 2, 3, 4, 0, 0, 0, 2, 'h', 'i' };
	uint8_t mem[sizeof(want)];
	struct wr w = wr_of(mem, sizeof(mem));
	size_t at;

	(void)state;
	wr_u8(&w, 0xaa);
	at = wr_open16(&w);
	wr_u32(&w, 0x01020304);
	wr_close16(&w, at, 2);
	wr_lp(&w, SPAN_LIT("hi"));
	assert_false(w.bad);
	assert_true(span_eq(wr_done(&w), SPAN_OF(want)));
	wr_u8(&w, 1);
	assert_true(w.bad);
	assert_int_equal(w.len, sizeof(want));
}

static void writer_formats_to_the_last_byte(void **state)
{
	char mem[5];
	struct wr w = wr_of(mem, sizeof(mem));

	(void)state;
	wr_fmt(&w, "%d", 12);
	wr_fmt(&w, "%s", "345"); /* fills it exactly: no room for a NUL */
	assert_false(w.bad);
	assert_memory_equal(mem, "12345", 5);
	wr_fmt(&w, "%s", "");
	assert_false(w.bad);
	wr_fmt(&w, "x");
	assert_true(w.bad);
}

static void patch_outside_is_refused(void **state)
{
	uint8_t mem[8];
	struct wr w = wr_of(mem, sizeof(mem));

	(void)state;
	wr_u16(&w, 1);
	wr_patch_u16(&w, 1, 2);
	assert_true(w.bad);
}

static void numbers(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		bool ok;
		uint64_t value;
	} rows[] = {
		{ "0", 10, true, 0 },
		{ "10", 10, true, 10 },
		{ "11", 10, false, 0 },
		{ "007", 7, true, 7 },
		{ "", 10, false, 0 },
		{ "+1", 10, false, 0 },
		{ " 1", 10, false, 0 },
		{ "1 ", 10, false, 0 },
		{ "1x", 100, false, 0 },
		{ "5", 3, false, 0 },
		{ "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX, false, 0 },
		{ "99999999999999999999", UINT64_MAX, false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t v = 77;

		assert_int_equal(span_u64(span_str(rows[i].text), rows[i].max, &v) == OK, rows[i].ok);
		assert_int_equal(v, rows[i].ok ? rows[i].value : 77);
	}
}

static void cutting_text(void **state)
{
	struct span rest, text = SPAN_LIT("  one\ttwo  ");

	(void)state;
	assert_true(span_eq_str(span_cut(SPAN_LIT("a=b=c"), '=', &rest), "a"));
	assert_true(span_eq_str(rest, "b=c"));
	assert_true(span_eq_str(span_cut(SPAN_LIT("abc"), '=', &rest), "abc"));
	assert_null(rest.p);
	assert_true(span_eq_str(span_cut(SPAN_LIT("a="), '=', &rest), "a"));
	assert_non_null(rest.p);
	assert_int_equal(rest.len, 0);
	assert_true(span_eq_str(span_word(&text), "one"));
	assert_true(span_eq_str(span_word(&text), "two"));
	assert_int_equal(span_word(&text).len, 0);
	assert_true(span_eq_str(span_trim(SPAN_LIT(" \t x y\t")), "x y"));
	assert_true(span_istarts(SPAN_LIT("SIP/2.0"), "sip/"));
	assert_false(span_starts(SPAN_LIT("si"), "sip"));
	assert_int_equal(span_find_span(SPAN_LIT("ab\r\n\r\nx"), SPAN_LIT("\r\n\r\n")), 2);
	assert_true(span_cmp(SPAN_LIT("ab"), SPAN_LIT("abc")) < 0);
}

static void c_strings(void **state)
{
	char dst[4] = "zzz";

	(void)state;
	assert_int_equal(span_copy_str(SPAN_LIT("abcd"), dst, sizeof(dst)), ERR_LIMIT);
	assert_int_equal(span_copy_str(SPAN_LIT("a\0b"), dst, sizeof(dst)), ERR_MALFORMED);
	assert_string_equal(dst, "zzz");
	assert_int_equal(span_copy_str(SPAN_LIT("abc"), dst, sizeof(dst)), OK);
	assert_string_equal(dst, "abc");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reader_stops_at_the_end),
		cmocka_unit_test(reader_of_nothing),
		cmocka_unit_test(child_cannot_leave_its_container),
		cmocka_unit_test(writer_patches_lengths),
		cmocka_unit_test(writer_formats_to_the_last_byte),
		cmocka_unit_test(patch_outside_is_refused),
		cmocka_unit_test(numbers),
		cmocka_unit_test(cutting_text),
		cmocka_unit_test(c_strings),
	};

	return HARNESS_RUN(tests);
}
