/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/inspect_run.h - one message through inspect, with what must hold for every result. Include after
 * <cmocka.h>. */
#pragma once
#include "harness.h"
#include "inspect/inspect.h"

/* The bytes at the end of their own heap memory, so that the sanitizer sees one too far. */
static json_t *run(const char *kind, struct span d, const struct inspect_options *o)
{
	static const struct inspect_options none = { .has_password = false };
	uint8_t *copy = malloc(d.len ? d.len : 1);
	json_t *r;
	char *text;

	assert_non_null(copy);
	if (d.len)
		memcpy(copy, d.p, d.len);
	r = inspect_run(kind, span_of(copy, d.len), o ? o : &none);
	free(copy);
	assert_non_null(r);
	assert_string_equal(harness_text(r, "kind"), kind);
	if (inspect_ok(r)) {
		assert_true(json_is_object(json_object_get(r, "value")));
	} else {
		assert_true(strlen(harness_text(r, "reason")) > 1);
		assert_true(json_is_integer(json_object_get(r, "offset")));
		assert_in_range(json_integer_value(json_object_get(r, "offset")), 0, d.len);
	}
	text = json_dumps(r, JSON_ENSURE_ASCII | JSON_COMPACT);
	assert_non_null(text);
	for (const char *p = text; *p; p++)
		assert_in_range(*p, 0x20, 0x7f);
	free(text);
	return r;
}

/* Cut at every length: a result, good or bad, and nothing else. Long messages in steps. */
static inline void ladder(const char *kind, struct span d, const struct inspect_options *o)
{
	for (size_t cut = 0; cut<d.len; cut += d.len> 1200 ? 7 : 1)
		json_decref(run(kind, span_sub(d, 0, cut), o));
}
