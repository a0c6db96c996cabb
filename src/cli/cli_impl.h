/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/cli_impl.h - inside cli/ only.
 *   cli.c      options and commands        talk.c     lines to and from the daemon, escaping
 *   call.c     a call in the foreground    command.c  the commands that ask once
 *   status.c   the table                   inspect.c  files for inspect/
 *   help.c     texts */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"
#include "tieline/tieline.h"

/* Exit codes: those that the client gives by itself; all others come from the daemon as numbers. */
enum cli_code { CLI_OK = 0, CLI_INTERNAL = 1, CLI_USAGE = 2, CLI_INPUT = 3, CLI_NO_DAEMON = 4 };

struct cli {
	FILE *out, *err;
	const char *control; /* NULL: the library's default */
	bool json; /* the daemon's lines go to out unchanged */
	const char *command; /* its name, for sentences */
	struct tieline *t; /* NULL: not connected */
};

/* ---- help.c ---- */
const char *cli_help(const char *command); /* NULL: the overview; NULL returned: no such command */

/* ---- talk.c ---- */
/* "tieline: ..." on err. */
void cli_say(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "tieline: ..." and where help is; CLI_USAGE. */
int cli_usage(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* CLI_OK or what went wrong, said. */
int cli_connect(struct cli *c);
/* Takes the reference. */
int cli_send(struct cli *c, json_t *request);
/* One line: CLI_OK with *ret, to be released by the caller; -1: nothing yet (after timeout_ms) or a signal; else the exit
 * code, said. With --json the line is printed as it came. */
int cli_next(struct cli *c, int timeout_ms, json_t **ret);
/* Sends and reads to `done`; each event of this request goes to `event` (NULL: ignored; not called with --json). */
int cli_ask(struct cli *c, json_t *request, void (*event)(const struct cli *c, const json_t *line),
	    void (*done)(const struct cli *c, const json_t *line));
/* The exit code of a `done` line; its sentence is said when it is not 0. */
int cli_done(const struct cli *c, const json_t *line);

/* A member for the terminal: no control character and nothing but ASCII gets through (\xNN), cut at cap. A member that is
 * missing or of another type gives "". Returns dst. */
#define CLI_TEXT 512
char *cli_text(const json_t *o, const char *key, char dst[CLI_TEXT]);
const char *cli_escape(const char *text, char dst[CLI_TEXT]);
/* 0 where it is missing or no number */
json_int_t cli_int(const json_t *o, const char *key);
double cli_real(const json_t *o, const char *key);
bool cli_is(const json_t *o, const char *key, const char *value);

/* A whole decimal number within bounds. */
bool cli_number(const char *text, long min, long max, long *ret);
/* ADDR/SERVICE, cut in place: the first '/' behind '@'. NULL: no service. */
char *cli_cut_service(char *text);

/* ---- commands; argc and argv begin with the command's name ---- */
int cli_call(struct cli *c, int argc, char **argv); /* call.c */
int cli_hangup(struct cli *c, int argc, char **argv); /* command.c */
int cli_answer(struct cli *c, int argc, char **argv);
int cli_decline(struct cli *c, int argc, char **argv);
int cli_forward(struct cli *c, int argc, char **argv);
int cli_trust(struct cli *c, int argc, char **argv);
int cli_explain(struct cli *c, int argc, char **argv);
int cli_ping(struct cli *c, int argc, char **argv);
int cli_log(struct cli *c, int argc, char **argv);
int cli_reload(struct cli *c, int argc, char **argv);
/* Prefixes, addresses and DNS of a granted network, in one line. */
void cli_network(FILE *out, const json_t *o);
int cli_status(struct cli *c, int argc, char **argv); /* status.c */
int cli_inspect(struct cli *c, int argc, char **argv); /* inspect.c */

/* Options that every command has. The rest of a command's options are given to it one by one. */
#define CLI_COMMON                                                                                                     \
	{ "control", required_argument, NULL, 'C' }, { "json", no_argument, NULL, 'J' },                               \
	{                                                                                                              \
		"help", no_argument, NULL, 'H'                                                                         \
	}
struct option;
/* getopt_long without its own sentences. Common options are dealt with. Returns the option, -1 at the end, or -2: the
 * command is over, *ret_code is its exit code. Begins anew when *at is 0. */
int cli_option(struct cli *c, int argc, char **argv, const char *shorts, const struct option *longs, int *at,
	       int *ret_code);
