/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/engine.h"

#define LINES 1000
#define LINE_TEXT 400

/* Workers write, too; who follows and who reads is the thread that made it. */
struct journal {
	struct log_sink sink;
	pthread_mutex_t lock;
	pthread_t owner;
	unsigned n_behind; /* newest lines that who follows was not told yet */
	char copy[LINE_TEXT];
	char lines[LINES][LINE_TEXT];
	unsigned head, n;
	void (*follow)(void *arg, const char *text);
	void *arg;
};

/* "2026-01-02T03:04:05.678Z info ike sip:bob@example.net#7 text" */
static void write_line(void *arg, enum log_level level, const char *area, const char *tag, const char *text)
{
	struct journal *j = arg;
	struct timespec ts;
	struct tm tm;
	char *line;

	(void)pthread_mutex_lock(&j->lock);
	line = j->lines[(j->head + j->n) % LINES];
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
	if (j->follow && j->n_behind < LINES)
		j->n_behind++;
	(void)pthread_mutex_unlock(&j->lock);
	if (pthread_equal(pthread_self(), j->owner))
		journal_catch_up(j);
}

static bool behind(struct journal *j, char line[LINE_TEXT])
{
	bool any;

	(void)pthread_mutex_lock(&j->lock);
	any = j->n_behind && j->follow;
	if (any)
		memcpy(line, j->lines[(j->head + j->n - j->n_behind--) % LINES], LINE_TEXT);
	(void)pthread_mutex_unlock(&j->lock);
	return any;
}

void journal_catch_up(struct journal *j)
{
	char line[LINE_TEXT];

	while (behind(j, line))
		j->follow(j->arg, line);
}

enum err journal_new(enum log_level level, struct journal **ret)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return ERR_NOMEM;
	j->sink = (struct log_sink){ .level = level, .write = write_line, .arg = j };
	j->owner = pthread_self();
	if (pthread_mutex_init(&j->lock, NULL) != 0) {
		free(j);
		return ERR_SYSTEM;
	}
	*ret = j;
	return OK;
}

void journal_free(struct journal *j)
{
	if (j)
		(void)pthread_mutex_destroy(&j->lock);
	free(j);
}

const struct log_sink *journal_sink(const struct journal *j)
{
	return &j->sink;
}

const char *journal_line(struct journal *j, unsigned index)
{
	bool there;

	(void)pthread_mutex_lock(&j->lock);
	there = index < j->n;
	if (there)
		memcpy(j->copy, j->lines[(j->head + index) % LINES], LINE_TEXT);
	(void)pthread_mutex_unlock(&j->lock);
	return there ? j->copy : NULL;
}

void journal_follow(struct journal *j, void (*line)(void *arg, const char *text), void *arg)
{
	(void)pthread_mutex_lock(&j->lock);
	j->follow = line;
	j->arg = arg;
	j->n_behind = 0;
	(void)pthread_mutex_unlock(&j->lock);
}
