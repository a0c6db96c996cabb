/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/cli.c - which command it is, and the options that all have. */
#include "cli/cli.h"

#include <getopt.h>
#include <string.h>

#include "cli/cli_impl.h"

#define VERSION "0.1.0"

static const struct {
	const char *name;
	int (*run)(struct cli *c, int argc, char **argv);
} commands[] = {
	{ "call", cli_call },     { "hangup", cli_hangup },   { "status", cli_status }, { "forward", cli_forward },
	{ "trust", cli_trust },   { "explain", cli_explain }, { "ping", cli_ping },     { "log", cli_log },
	{ "reload", cli_reload }, { "inspect", cli_inspect }, { "answer", cli_answer }, { "decline", cli_decline },
};
/* Names that are taken, so that nobody is told of a typing error. */
static const char *const later[] = { "pair", "netcheck" };

int cli_option(struct cli *c, int argc, char **argv, const char *shorts, const struct option *longs, int *at,
	       int *ret_code)
{
	int o;

	if (!*at) {
		optind = 0; /* begin anew; 0 also resets what glibc keeps in between */
		opterr = 0;
		*at = 1;
	}
	o = getopt_long(argc, argv, shorts, longs, NULL);
	switch (o) {
	case 'C': c->control = optarg; return cli_option(c, argc, argv, shorts, longs, at, ret_code);
	case 'J': c->json = true; return cli_option(c, argc, argv, shorts, longs, at, ret_code);
	case 'h':
	case 'H':
		(void)fputs(cli_help(c->command), c->out);
		*ret_code = CLI_OK;
		return -2;
	case '?':
	case ':': {
		char safe[CLI_TEXT];

		*ret_code = cli_usage(
			c, "%s: no such option, or its value is missing or needless",
			cli_escape(optind > 0 && optind <= argc && argv[optind - 1] ? argv[optind - 1] : "", safe));
		return -2;
	}
	default: return o;
	}
}

static int run_command(struct cli *c, int argc, char **argv)
{
	char safe[CLI_TEXT];

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, argv[0])) {
			c->command = commands[i].name;
			return commands[i].run(c, argc, argv);
		}
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		if (!strcmp(later[i], argv[0])) {
			cli_say(c, "%s: this version has no such command", later[i]);
			return CLI_USAGE;
		}
	return cli_usage(c, "%s: no such command", cli_escape(argv[0], safe));
}

static int help(struct cli *c, int argc, char **argv)
{
	const char *text = cli_help(argc > 1 ? argv[1] : NULL);

	if (!text)
		return cli_usage(c, "there is no help for that");
	(void)fputs(text, c->out);
	return CLI_OK;
}

int cli_run(int argc, char **argv, FILE *out, FILE *err)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "version", no_argument, NULL, 'V' },
					       { NULL, 0, NULL, 0 } };
	struct cli c = { .out = out, .err = err };
	int at = 0, code = CLI_OK, o;

	while ((o = cli_option(&c, argc, argv, "+h", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		(void)fputs("tieline " VERSION "\n", out);
		return CLI_OK;
	}
	argc -= optind;
	argv += optind;
	if (argc < 1) {
		(void)fputs(cli_help(NULL), err);
		return CLI_USAGE;
	}
	code = !strcmp(argv[0], "help") ? help(&c, argc, argv) : run_command(&c, argc, argv);
	tieline_close(c.t);
	if (fflush(out) && code == CLI_OK)
		code = CLI_INTERNAL;
	return code;
}
