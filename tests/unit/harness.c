/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "harness.h"

/* ---- allocations of our objects go through here (ld --wrap) ---- */

static unsigned long n_until_failure; /* 0: never fail */
static bool failed;

static bool fails_now(void)
{
	if (!n_until_failure || --n_until_failure)
		return false;
	failed = true;
	return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t n)
{
	return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails_now() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails_now() ? NULL : __real_strdup(s);
}

void harness_alloc_ladder(bool (*once)(void *arg), void *arg)
{
	for (unsigned long n = 1; n < 100000; n++) {
		bool whole;

		failed = false;
		n_until_failure = n;
		whole = once(arg);
		n_until_failure = 0;
		if (!failed) {
			assert_true(whole);
			return;
		}
		assert_false(whole);
	}
	fail_msg("the ladder has no end");
}

/* ---- vectors ---- */

struct span harness_file(const char *rel)
{
	const char *dir = getenv("TIELINE_VECTORS");
	char path[4096];
	uint8_t *bytes;
	long len;
	FILE *f;

	if (!dir || !*dir)
		skip();
	(void)snprintf(path, sizeof(path), "%s/%s", dir, rel);
	f = fopen(path, "rb");
	if (!f)
		fail_msg("%s cannot be opened", rel);
	(void)fseek(f, 0, SEEK_END);
	len = ftell(f);
	rewind(f);
	bytes = malloc((size_t)len + 1);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, (size_t)len, f), (size_t)len);
	bytes[len] = 0;
	(void)fclose(f);
	return span_of(bytes, (size_t)len);
}

json_t *harness_json(const char *rel)
{
	struct span text = harness_file(rel);
	json_error_t e;
	json_t *j = json_loadb((const char *)text.p, text.len, JSON_ALLOW_NUL, &e);

	if (!j)
		fail_msg("%s:%d: %s", rel, e.line, e.text);
	free((void *)text.p);
	return j;
}

const char *harness_text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	if (!s)
		fail_msg("the vector has no \"%s\"", key);
	return s;
}

struct span harness_hex(const json_t *object, const char *key)
{
	struct span text = span_str(harness_text(object, key));
	uint8_t *bytes = malloc(text.len / 2 + 1);
	size_t len = 0;

	assert_non_null(bytes);
	assert_int_equal(hex_parse(text, false, bytes, text.len / 2, &len), OK);
	return span_of(bytes, len);
}

int harness_run(const char *name, const struct CMUnitTest *tests, size_t n)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}
