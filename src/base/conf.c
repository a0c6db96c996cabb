/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/conf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* Bounds of our own: enough for any section table, small enough for a quadratic look. */
#define CONF_SECTIONS_MAX 2048
#define CONF_KEYS_MAX 64

enum err conf_fail(struct conf_error *e, const char *file, unsigned line, const char *fmt, ...)
{
	va_list args;
	int n;

	if (!e)
		return ERR_MALFORMED;
	e->line = line;
	if (line)
		n = snprintf(e->text, sizeof(e->text), "%s:%u: ", file, line);
	else
		n = snprintf(e->text, sizeof(e->text), "%s: ", file);
	if (n < 0 || (size_t)n >= sizeof(e->text))
		n = 0;
	va_start(args, fmt);
	(void)vsnprintf(e->text + n, sizeof(e->text) - (size_t)n, fmt, args);
	va_end(args);
	return ERR_MALFORMED;
}

struct seen {
	const struct conf_section *section;
	struct span name;
};

struct parser {
	const char *file;
	const struct conf_section *sections;
	void *arg;
	struct conf_error *e;
	unsigned line, section_line;
	const struct conf_section *section; /* the one that is open */
	void *obj;
	bool key_seen[CONF_KEYS_MAX];
	struct seen *seen; /* CONF_SECTIONS_MAX */
	unsigned n_seen;
};

/* A value parser's refusal as a sentence. Out of memory stays what it is. */
static enum err refuse(struct parser *p, unsigned line, enum err e, const char *what, struct span value,
		       const char *expected)
{
	char shown[80];

	if (e == ERR_NOMEM)
		return e;
	text_escape(value, shown, sizeof(shown));
	return conf_fail(p->e, p->file, line, "%s \"%s\" is %s; expected %s", what, shown,
			 e == ERR_UNSUPPORTED ? "not supported" : "not accepted",
			 expected ? expected : "another value");
}

static enum err close_section(struct parser *p)
{
	const struct conf_section *s = p->section;
	const char *expected = NULL;

	if (!s)
		return OK;
	p->section = NULL;
	for (unsigned i = 0; s->keys[i].name; i++)
		if (s->keys[i].required && !p->key_seen[i])
			return conf_fail(p->e, p->file, p->section_line, "[%s] has no \"%s\"; expected %s = VALUE",
					 s->name, s->keys[i].name, s->keys[i].name);
	if (s->end) {
		enum err e = s->end(p->arg, p->obj, &expected);

		if (e != OK)
			return refuse(p, p->section_line, e, "section", span_str(s->name), expected);
	}
	return OK;
}

static enum err open_section(struct parser *p, struct span head)
{
	const struct conf_section *s;
	const char *expected = NULL;
	char shown[80];
	struct span kind = span_word(&head), name = span_trim(head);
	enum err e = close_section(p);

	if (e != OK)
		return e;
	text_escape(kind, shown, sizeof(shown));
	for (s = p->sections; s->name && !span_eq_str(kind, s->name); s++)
		;
	if (!s->name)
		return conf_fail(p->e, p->file, p->line, "unknown section [%s]; expected one that the manual lists",
				 shown);
	if (s->naming == CONF_UNNAMED && name.len)
		return conf_fail(p->e, p->file, p->line, "section [%s] has a name; expected [%s]", shown, s->name);
	if (s->naming == CONF_NAMED && !name.len)
		return conf_fail(p->e, p->file, p->line, "section [%s] has no name; expected [%s NAME]", shown,
				 s->name);
	for (unsigned i = 0; i < p->n_seen; i++)
		if (p->seen[i].section == s &&
		    (s->naming == CONF_NAMED ? span_eq(p->seen[i].name, name) : !s->repeatable))
			return conf_fail(p->e, p->file, p->line, "section [%s] appears twice; expected it once", shown);
	if (p->n_seen == CONF_SECTIONS_MAX)
		return conf_fail(p->e, p->file, p->line, "more sections than %u", CONF_SECTIONS_MAX);
	p->seen[p->n_seen++] = (struct seen){ s, name };

	e = s->begin(p->arg, name, &p->obj, &expected);
	if (e != OK)
		return refuse(p, p->line, e, s->naming == CONF_NAMED ? "name" : "section",
			      s->naming == CONF_NAMED ? name : kind, expected);
	p->section = s;
	p->section_line = p->line;
	memset(p->key_seen, 0, sizeof(p->key_seen));
	return OK;
}

/* What was meant as a secret is not printed: a slip of the pen must not put it into the log. */
static bool is_secret(struct span key)
{
	return span_starts(key, "password") || span_starts(key, "ha1") || span_eq_str(key, "psk") ||
	       span_eq_str(key, "ppk");
}

static enum err set_key(struct parser *p, struct span key, struct span value)
{
	const struct conf_key *keys;
	const char *expected = NULL;
	char shown[80];
	unsigned i;
	enum err e;

	text_escape(key, shown, sizeof(shown));
	if (!p->section)
		return conf_fail(p->e, p->file, p->line, "\"%s\" stands outside of a section; expected [section] first",
				 shown);
	keys = p->section->keys;
	for (i = 0; keys[i].name && !span_eq_str(key, keys[i].name); i++)
		;
	if (!keys[i].name || i >= CONF_KEYS_MAX)
		return conf_fail(p->e, p->file, p->line,
				 "unknown key \"%s\" in [%s]; expected one that the manual lists", shown,
				 p->section->name);
	if (p->key_seen[i] && !keys[i].repeatable)
		return conf_fail(p->e, p->file, p->line, "\"%s\" is given twice; expected it once", shown);
	p->key_seen[i] = true;
	e = keys[i].set(p->obj, value, &expected);
	if (e != OK && is_secret(key))
		value = SPAN_LIT("(hidden)");
	return e == OK ? OK : refuse(p, p->line, e, keys[i].name, value, expected);
}

static enum err parse_line(struct parser *p, struct span line)
{
	struct span rest, key;

	if (line.len && line.p[line.len - 1] == '\r')
		line.len--;
	if (line.len > CONF_LINE_MAX)
		return conf_fail(p->e, p->file, p->line, "a line of more than %d bytes", CONF_LINE_MAX);
	if (span_find(line, 0) < line.len)
		return conf_fail(p->e, p->file, p->line, "a NUL byte; expected text");
	line = span_trim(line);
	if (!line.len || line.p[0] == '#' || line.p[0] == ';')
		return OK;
	if (line.p[0] == '[') {
		if (line.p[line.len - 1] != ']')
			return conf_fail(p->e, p->file, p->line, "a section head without its end; expected ']'");
		return open_section(p, span_trim(span_sub(line, 1, line.len - 2)));
	}
	key = span_trim(span_cut(line, '=', &rest));
	if (!rest.p || !key.len)
		return conf_fail(p->e, p->file, p->line, "neither a section nor a value; expected key = value");
	return set_key(p, key, span_trim(rest));
}

enum err conf_parse(const char *file, struct span text, const struct conf_section *sections, void *arg,
		    struct conf_error *e)
{
	struct parser p = { .file = file, .sections = sections, .arg = arg, .e = e };
	enum err r = OK;

	if (text.len > CONF_FILE_MAX)
		return conf_fail(e, file, 0, "larger than %d bytes", CONF_FILE_MAX);
	p.seen = calloc(CONF_SECTIONS_MAX, sizeof(*p.seen));
	if (!p.seen)
		return ERR_NOMEM;
	while (r == OK && text.len) {
		struct span line = span_cut(text, '\n', &text);

		p.line++;
		r = parse_line(&p, line);
	}
	if (r == OK)
		r = close_section(&p);
	free(p.seen);
	return r;
}

enum err conf_bool(struct span v, bool *ret)
{
	bool yes = span_eq_str(v, "yes");

	if (!yes && !span_eq_str(v, "no"))
		return ERR_MALFORMED;
	*ret = yes;
	return OK;
}

enum err conf_duration_s(struct span v, uint32_t *ret)
{
	uint32_t n, unit = 1;

	if (!v.len)
		return ERR_MALFORMED;
	switch (v.p[v.len - 1]) {
	case 'd': unit = 86400; break;
	case 'h': unit = 3600; break;
	case 'm': unit = 60; break;
	case 's': break;
	default: unit = 0; break; /* bare seconds */
	}
	if (unit)
		v.len--;
	else
		unit = 1;
	if (span_u32(v, UINT32_MAX / unit, &n) != OK)
		return ERR_MALFORMED;
	*ret = n * unit;
	return OK;
}
