/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };

const char *log_level_name(enum log_level level)
{
	return (unsigned)level <= LOG_DEBUG ? level_names[level] : "?";
}

bool log_level_parse(const char *name, enum log_level *ret)
{
	for (unsigned i = 0; i <= LOG_DEBUG; i++)
		if (!strcmp(name, level_names[i])) {
			*ret = (enum log_level)i;
			return true;
		}
	return false;
}

struct log log_of(const struct log_sink *sink, const char *area, const char *tag)
{
	struct log l = { .sink = sink, .area = area };

	(void)snprintf(l.tag, sizeof(l.tag), "%s", tag ? tag : "");
	return l;
}

PRINTF_LIKE(3, 0) static void put(const struct log *l, enum log_level level, const char *fmt, va_list args)
{
	char text[1024];

	if (!l->sink || level > l->sink->level)
		return;
	(void)vsnprintf(text, sizeof(text), fmt, args);
	l->sink->write(l->sink->arg, level, l->area ? l->area : "", l->tag, text);
}

#define LEVEL(name, level)                                                                                             \
	void name(const struct log *l, const char *fmt, ...)                                                           \
	{                                                                                                              \
		va_list args;                                                                                          \
                                                                                                                       \
		va_start(args, fmt);                                                                                   \
		put(l, level, fmt, args);                                                                              \
		va_end(args);                                                                                          \
	}

LEVEL(log_error, LOG_ERROR)
LEVEL(log_warn, LOG_WARN)
LEVEL(log_info, LOG_INFO)
LEVEL(log_debug, LOG_DEBUG)

bool log_limit_pass(struct log_limit *lim, uint64_t now_us, uint32_t *ret_suppressed)
{
	*ret_suppressed = 0;
	if (now_us - lim->window_start_us >= LOG_LIMIT_WINDOW_US || (!lim->n_in_window && !lim->n_suppressed)) {
		*ret_suppressed = lim->n_suppressed;
		*lim = (struct log_limit){ .window_start_us = now_us };
	}
	if (lim->n_in_window >= LOG_LIMIT_BURST) {
		if (lim->n_suppressed < UINT32_MAX)
			lim->n_suppressed++;
		return false;
	}
	lim->n_in_window++;
	return true;
}
