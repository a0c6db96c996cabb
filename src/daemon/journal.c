/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/engine.h"

#define LINES 1000
#define LINE_TEXT 400

struct journal {
	struct log_sink sink;
	char lines[LINES][LINE_TEXT];
	unsigned head, n;
	void (*follow)(void *arg, const char *text);
	void *arg;
};

/* "2026-01-02T03:04:05.678Z info ike sip:bob@example.net#7 text" */
static void write_line(void *arg, enum log_level level, const char *area, const char *tag, const char *text)
{
	struct journal *j = arg;
	char *line = j->lines[(j->head + j->n) % LINES];
	struct timespec ts;
	struct tm tm;

	if (j->n < LINES)
		j->n++;
	else
		j->head = (j->head + 1) % LINES;
	clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	(void)snprintf(line, LINE_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s %s%s%s", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000,
		       log_level_name(level), area, tag, *tag ? " " : "", text);
	(void)fprintf(stderr, "%s\n", line);
	if (j->follow)
		j->follow(j->arg, line);
}

enum err journal_new(enum log_level level, struct journal **ret)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return ERR_NOMEM;
	j->sink = (struct log_sink){ .level = level, .write = write_line, .arg = j };
	*ret = j;
	return OK;
}

void journal_free(struct journal *j)
{
	free(j);
}

const struct log_sink *journal_sink(const struct journal *j)
{
	return &j->sink;
}

const char *journal_line(const struct journal *j, unsigned index)
{
	return index < j->n ? j->lines[(j->head + index) % LINES] : NULL;
}

void journal_follow(struct journal *j, void (*line)(void *arg, const char *text), void *arg)
{
	j->follow = line;
	j->arg = arg;
}
