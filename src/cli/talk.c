/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/talk.c - lines to and from the daemon, and what of them may reach a terminal. */
#include "cli/cli_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PATH "/run/tieline/control"

void cli_say(const struct cli *c, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)fputs("tieline: ", c->err);
	(void)vfprintf(c->err, fmt, args);
	(void)fputc('\n', c->err);
	(void)fflush(c->err);
	va_end(args);
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	(void)fprintf(c->err, "tieline: %s%s", c->command ? c->command : "", c->command ? ": " : "");
	(void)vfprintf(c->err, fmt, args);
	(void)fprintf(c->err, "; see `tieline %s%s--help`\n", c->command ? c->command : "", c->command ? " " : "");
	va_end(args);
	return CLI_USAGE;
}

/* The path that the library takes, for sentences. */
static const char *control_path(const struct cli *c)
{
	const char *path = c->control ? c->control : getenv("TIELINE_CONTROL");

	return path && *path ? path : DEFAULT_PATH;
}

int cli_connect(struct cli *c)
{
	char safe[CLI_TEXT];
	int e = tieline_open(c->control, &c->t);

	if (!e)
		return CLI_OK;
	c->t = NULL;
	if (e == EACCES || e == EPERM)
		cli_say(c, "%s: you may not use this daemon; its group may (%s)", cli_escape(control_path(c), safe),
			strerror(e));
	else
		cli_say(c, "no tielined answers at %s (%s); is it running?", cli_escape(control_path(c), safe),
			strerror(e));
	return CLI_NO_DAEMON;
}

static int lost(const struct cli *c, int e)
{
	char safe[CLI_TEXT];

	if (e == EMSGSIZE)
		cli_say(c, "the daemon sent a line of more than %d bytes", TIELINE_LINE_MAX);
	else if (e == EPIPE)
		cli_say(c, "tielined at %s has ended or closed the connection", cli_escape(control_path(c), safe));
	else
		cli_say(c, "%s: %s", cli_escape(control_path(c), safe), strerror(e));
	return e == EMSGSIZE ? CLI_INTERNAL : CLI_NO_DAEMON;
}

int cli_send(struct cli *c, json_t *request)
{
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int e = text ? tieline_send(c->t, text) : ENOMEM;

	json_decref(request);
	free(text);
	if (e == EMSGSIZE) {
		cli_say(c, "the command is longer than %d bytes", TIELINE_LINE_MAX);
		return CLI_USAGE;
	}
	if (!text || e == ENOMEM) {
		cli_say(c, "an argument is no UTF-8 text, or memory ran out");
		return CLI_USAGE;
	}
	return e ? lost(c, e) : CLI_OK;
}

int cli_next(struct cli *c, int timeout_ms, json_t **ret)
{
	const char *line;
	json_error_t why;
	int e = tieline_next(c->t, timeout_ms, &line);

	if (e == EAGAIN || e == EINTR)
		return -1;
	if (e)
		return lost(c, e);
	*ret = json_loads(line, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(*ret)) {
		json_decref(*ret);
		cli_say(c, "the daemon sent a line that is no JSON object");
		return CLI_INTERNAL;
	}
	if (c->json) {
		(void)fprintf(c->out, "%s\n", line);
		(void)fflush(c->out);
	}
	return CLI_OK;
}

int cli_done(const struct cli *c, const json_t *line)
{
	const json_t *code = json_object_get(line, "code");
	json_int_t n = json_integer_value(code);
	char reason[CLI_TEXT];

	if (!json_is_integer(code) || n < 0 || n > 255) {
		cli_say(c, "the daemon's answer has no exit code");
		return CLI_INTERNAL;
	}
	cli_text(line, "reason", reason);
	if (n)
		cli_say(c, "%s", reason[0] ? reason : "refused");
	return (int)n;
}

int cli_ask(struct cli *c, json_t *request, void (*event)(const struct cli *c, const json_t *line),
	    void (*done)(const struct cli *c, const json_t *line))
{
	json_t *line = NULL;
	int code = c->t ? CLI_OK : cli_connect(c);

	if (code != CLI_OK) {
		json_decref(request);
		return code;
	}
	json_object_set_new(request, "id", json_integer(1));
	code = cli_send(c, request);
	while (code == CLI_OK) {
		code = cli_next(c, -1, &line);
		if (code == -1)
			code = CLI_OK; /* a signal without a handler of ours: it has been dealt with */
		else if (code == CLI_OK) {
			bool mine = cli_int(line, "id") == 1, last = json_is_true(json_object_get(line, "done"));

			if (mine && last) {
				code = cli_done(c, line);
				if (done && !c->json && code == CLI_OK)
					done(c, line);
				json_decref(line);
				return code;
			}
			if (mine && event && !c->json)
				event(c, line);
			json_decref(line);
		}
	}
	return code;
}

/* ---- foreign text ---- */

const char *cli_escape(const char *text, char dst[CLI_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	size_t at = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (at + 8 > CLI_TEXT) {
			memcpy(dst + at, "...", 3);
			at += 3;
			break;
		}
		if (*p >= 0x20 && *p < 0x7f) {
			dst[at++] = (char)*p;
		} else {
			dst[at++] = '\\';
			dst[at++] = 'x';
			dst[at++] = digits[*p >> 4];
			dst[at++] = digits[*p & 15];
		}
	}
	dst[at] = 0;
	return dst;
}

char *cli_text(const json_t *o, const char *key, char dst[CLI_TEXT])
{
	const char *s = json_string_value(json_object_get(o, key));

	(void)cli_escape(s ? s : "", dst);
	return dst;
}

json_int_t cli_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

double cli_real(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

bool cli_is(const json_t *o, const char *key, const char *value)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && !strcmp(s, value);
}

/* ---- arguments ---- */

bool cli_number(const char *text, long min, long max, long *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || v < min || v > max)
		return false;
	*ret = v;
	return true;
}

char *cli_cut_service(char *text)
{
	char *at = strchr(text, '@'), *slash = strchr(at ? at : text, '/');

	if (!slash)
		return NULL;
	*slash = 0;
	return slash + 1;
}
