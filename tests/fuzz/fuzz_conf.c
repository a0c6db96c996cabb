/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The INI reader with a table of every kind of section.
 * covers: src/base/conf.c */
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/conf.h"
#include "base/text.h"

struct all {
	char name[32];
	uint32_t s;
	bool b;
	unsigned n;
};

static enum err set_s(void *o, struct span v, const char **x)
{
	*x = "a time";
	return conf_duration_s(v, &((struct all *)o)->s);
}

static enum err set_b(void *o, struct span v, const char **x)
{
	*x = "yes or no";
	return conf_bool(v, &((struct all *)o)->b);
}

static enum err set_addr(void *o, struct span v, const char **x)
{
	struct addr_prefix p;
	struct addr a;

	(void)o;
	*x = "an address";
	return addr_prefix_parse(v, &p) == OK ? OK : addr_parse(v, 5060, &a);
}

static enum err begin(void *arg, struct span name, void **ret, const char **x)
{
	struct all *a = arg;

	*x = "a name";
	*ret = a;
	return a->n++ < 20 ? span_copy_str(name, a->name, sizeof(a->name)) : ERR_LIMIT;
}

static const struct conf_key keys[] = {
	{ "s", false, false, set_s },
	{ "b", true, false, set_b },
	{ "a", false, true, set_addr },
	{ NULL, false, false, NULL },
};
static const struct conf_section sections[] = {
	{ "u", CONF_UNNAMED, false, keys, begin, NULL },
	{ "r", CONF_UNNAMED, true, keys, begin, NULL },
	{ "n", CONF_NAMED, true, keys, begin, NULL },
	{ NULL, CONF_UNNAMED, false, NULL, NULL, NULL },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct all a = { .n = 0 };
	struct conf_error e = { .line = 0 };
	char shown[20];

	if (conf_parse("f", span_of(data, size), sections, &a, &e) == ERR_MALFORMED && !e.text[0])
		abort(); /* a refusal without a sentence */
	if (strlen(text_escape(span_of(data, size), shown, sizeof(shown))) >= sizeof(shown))
		abort();
	return 0;
}
