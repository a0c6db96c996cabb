/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/conf.h - a strict INI reader. It parses text, opens nothing.
 *
 *     # or ; at the start of a line: a comment
 *     [section]  or  [section NAME]
 *     key = value              value: everything after '=', outer blanks removed
 *
 * The caller gives a table of sections and keys. Whatever is not in it is an error that
 * names file, line and what was expected; so is a key given twice that is not
 * repeatable, a section NAME that appears twice, a missing required key or NAME, a NUL
 * byte, a line over CONF_LINE_MAX, a file over CONF_FILE_MAX. Nothing is cut silently. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

#define CONF_LINE_MAX 4096
#define CONF_FILE_MAX (1024 * 1024)
#define CONF_ERROR_TEXT 512

struct conf_error {
	unsigned line; /* 1-based; 0: the file as a whole */
	char text[CONF_ERROR_TEXT]; /* "FILE:LINE: what is wrong; expected ..." */
};
/* Fills e (if not NULL) and returns ERR_MALFORMED: for value parsers as well. */
enum err conf_fail(struct conf_error *e, const char *file, unsigned line, const char *fmt, ...) PRINTF_LIKE(4, 5);

struct conf_key {
	const char *name;
	bool required, repeatable;
	/* Parses the value into obj. On failure write what was expected, e.g. "a port from
	 * 0 to 65535", to expected (its static or literal text) and return an error; the
	 * reader makes the sentence from it. */
	enum err (*set)(void *obj, struct span value, const char **expected);
};

enum conf_naming { CONF_UNNAMED, CONF_NAMED };

struct conf_section {
	const char *name;
	enum conf_naming naming;
	bool repeatable; /* an unnamed section may appear more than once */
	const struct conf_key *keys; /* ends with a NULL name */
	/* Called at the section's head; returns the object that its keys are set on. */
	enum err (*begin)(void *arg, struct span name, void **ret_obj, const char **expected);
	/* Called after its last key; checks what belongs together. May be NULL. */
	enum err (*end)(void *arg, void *obj, const char **expected);
};

/* sections ends with a NULL name. On error *e says why and what was built so far is the
 * caller's to free. */
MUST_CHECK enum err conf_parse(const char *file, struct span text, const struct conf_section *sections, void *arg,
			       struct conf_error *e);

/* Value parsers to build `set` functions from. */
MUST_CHECK enum err conf_bool(struct span v, bool *ret); /* yes | no */
MUST_CHECK enum err conf_duration_s(struct span v, uint32_t *ret); /* 90, 90s, 5m, 2h, 1d */
