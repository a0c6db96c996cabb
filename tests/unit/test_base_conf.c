/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "harness.h"

struct thing {
	uint32_t time_s;
	bool on;
	unsigned n_list;
	char name[32];
};
struct all {
	struct thing things[4];
	unsigned n;
};

static enum err set_time(void *o, struct span v, const char **x)
{
	*x = "a time";
	return conf_duration_s(v, &((struct thing *)o)->time_s);
}

static enum err set_on(void *o, struct span v, const char **x)
{
	*x = "yes or no";
	return conf_bool(v, &((struct thing *)o)->on);
}

static enum err set_list(void *o, struct span v, const char **x)
{
	(void)v;
	(void)x;
	((struct thing *)o)->n_list++;
	return OK;
}

static enum err begin(void *arg, struct span name, void **ret, const char **x)
{
	struct all *a = arg;

	*x = "a short name";
	if (a->n == 4)
		return ERR_LIMIT;
	if (span_copy_str(name, a->things[a->n].name, sizeof(a->things[0].name)) != OK)
		return ERR_LIMIT;
	*ret = &a->things[a->n++];
	return OK;
}

static enum err end(void *arg, void *o, const char **x)
{
	(void)arg;
	*x = "on = yes with a time over an hour";
	return ((struct thing *)o)->time_s > 3600 && !((struct thing *)o)->on ? ERR_MALFORMED : OK;
}

static const struct conf_key keys[] = {
	{ "time", true, false, set_time },    { "on", false, false, set_on }, { "list", false, true, set_list },
	{ "password", false, false, set_on }, { NULL, false, false, NULL },
};
static const struct conf_section sections[] = {
	{ "one", CONF_UNNAMED, false, keys, begin, NULL },
	{ "many", CONF_NAMED, true, keys, begin, end },
	{ "same", CONF_UNNAMED, true, keys, begin, NULL },
	{ NULL, CONF_UNNAMED, false, NULL, NULL, NULL },
};

static void reads_what_is_there(void **state)
{
	static const char text[] =
		"# a comment\r\n\r\n[one]\r\ntime = 5m\n  on=yes  \nlist = a = b # not a comment\nlist=\n"
		"; another\n[many  two words ]\ntime=90\n[many x]\ntime = 1d\non = yes";
	struct all a = { 0 };
	struct conf_error e;

	(void)state;
	assert_int_equal(conf_parse("f", span_str(text), sections, &a, &e), OK);
	assert_int_equal(a.n, 3);
	assert_int_equal(a.things[0].time_s, 300);
	assert_true(a.things[0].on);
	assert_int_equal(a.things[0].n_list, 2);
	assert_string_equal(a.things[1].name, "two words");
	assert_int_equal(a.things[1].time_s, 90);
	assert_int_equal(a.things[2].time_s, 86400);
}

static void wrong_lines_are_named(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "time = 1", "f:1: \"time\" stands outside of a section; expected [section] first" },
		{ "[none]", "f:1: unknown section [none]; expected one that the manual lists" },
		{ "[one x]", "f:1: section [one] has a name; expected [one]" },
		{ "[many]", "f:1: section [many] has no name; expected [many NAME]" },
		{ "[one", "f:1: a section head without its end; expected ']'" },
		{ "[one]\nonly words", "f:2: neither a section nor a value; expected key = value" },
		{ "[one]\n= 5", "f:2: neither a section nor a value; expected key = value" },
		{ "[one]\ntimes = 5", "f:2: unknown key \"times\" in [one]; expected one that the manual lists" },
		{ "[one]\nTime = 5", "f:2: unknown key \"Time\" in [one]; expected one that the manual lists" },
		{ "[one]\ntime = 5\ntime = 6", "f:3: \"time\" is given twice; expected it once" },
		{ "[one]\ntime = \x01", "f:2: time \"\\x01\" is not accepted; expected a time" },
		{ "[one]\npassword = secret", "f:2: password \"(hidden)\" is not accepted; expected yes or no" },
		{ "\n[one]\non = yes", "f:2: [one] has no \"time\"; expected time = VALUE" },
		{ "[one]\ntime = 1\n[one]\n", "f:3: section [one] appears twice; expected it once" },
		{ "[many a]\ntime = 1\n[many a]", "f:3: section [many] appears twice; expected it once" },
		{ "[many a]\ntime = 2h\n",
		  "f:1: section \"many\" is not accepted; expected on = yes with a time over an hour" },
		{ "[many 12345678901234567890123456789012345]",
		  "f:1: name \"12345678901234567890123456789012345\" is not accepted; expected a short name" },
	};
	struct conf_error e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct all a = { 0 };

		assert_int_equal(conf_parse("f", span_str(rows[i].text), sections, &a, &e), ERR_MALFORMED);
		assert_string_equal(e.text, rows[i].want);
	}
}

static void limits(void **state)
{
	struct all a = { 0 };
	struct conf_error e;
	char *big = calloc(1, CONF_FILE_MAX + 1);

	(void)state;
	assert_non_null(big);
	assert_int_equal(conf_parse("f", SPAN_LIT("[one]\nti\0me = 5"), sections, &a, &e), ERR_MALFORMED);
	assert_string_equal(e.text, "f:2: a NUL byte; expected text");
	memset(big, '#', CONF_FILE_MAX + 1);
	assert_int_equal(conf_parse("f", span_of(big, CONF_LINE_MAX), sections, &a, &e), OK);
	assert_int_equal(conf_parse("f", span_of(big, CONF_LINE_MAX + 1), sections, &a, &e), ERR_MALFORMED);
	assert_int_equal(conf_parse("f", span_of(big, CONF_FILE_MAX + 1), sections, &a, &e), ERR_MALFORMED);
	assert_int_equal(e.line, 0);
	free(big);
	/* repeatable without a name, up to what the owner takes */
	a.n = 0;
	assert_int_equal(
		conf_parse("f",
			   SPAN_LIT("[same]\ntime=1\n[same]\ntime=1\n[same]\ntime=1\n[same]\ntime=1\n[same]\ntime=1"),
			   sections, &a, &e),
		ERR_MALFORMED);
	assert_int_equal(e.line, 9);
}

static void durations(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint32_t s;
	} rows[] = {
		{ "0", true, 0 },
		{ "90", true, 90 },
		{ "90s", true, 90 },
		{ "2m", true, 120 },
		{ "49710d", true, 4294944000u },
		{ "49711d", false, 0 },
		{ "", false, 0 },
		{ "s", false, 0 },
		{ "1w", false, 0 },
		{ "-1s", false, 0 },
		{ "1 s", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t s = 0;

		assert_int_equal(conf_duration_s(span_str(rows[i].text), &s) == OK, rows[i].ok);
		assert_int_equal(s, rows[i].s);
	}
}

static bool parse_once(void *arg)
{
	struct all a = { 0 };
	struct conf_error e;

	(void)arg;
	return conf_parse("f", SPAN_LIT("[one]\ntime = 5\n"), sections, &a, &e) == OK;
}

static void without_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(parse_once, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_is_there),
		cmocka_unit_test(wrong_lines_are_named),
		cmocka_unit_test(limits),
		cmocka_unit_test(durations),
		cmocka_unit_test(without_memory),
	};

	return HARNESS_RUN(tests);
}
