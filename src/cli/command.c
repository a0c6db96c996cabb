/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/command.c - the commands that ask once and print the answer. */
#include "cli/cli_impl.h"

#include <getopt.h>
#include <string.h>

static const struct option common[] = { CLI_COMMON, { NULL, 0, NULL, 0 } };

/* A command without options of its own and with `min` to `max` arguments: -1, or the exit code. */
static int plain(struct cli *c, int argc, char **argv, int min, int max, const char *expected)
{
	int at = 0, code = CLI_OK;

	if (cli_option(c, argc, argv, "h", common, &at, &code) == -2)
		return code;
	if (argc - optind < min || argc - optind > max)
		return cli_usage(c, "expected %s", expected);
	return -1;
}

/* Which call: a number is one of `status`, anything else an address. */
static json_t *request_of(const char *what, const char *who, const char *aor_key)
{
	long id;

	if (cli_number(who, 1, 0x7fffffff, &id))
		return json_pack("{s:s, s:I}", "do", what, "call", (json_int_t)id);
	return json_pack("{s:s, s:s}", "do", what, aor_key, who);
}

int cli_hangup(struct cli *c, int argc, char **argv)
{
	int code = plain(c, argc, argv, 1, 1, "AOR, the number of a call, or all");

	if (code >= 0)
		return code;
	if (!strcmp(argv[optind], "all"))
		return cli_ask(c, json_pack("{s:s, s:b}", "do", "hangup", "all", 1), NULL, NULL);
	return cli_ask(c, request_of("hangup", argv[optind], "to"), NULL, NULL);
}

/* ---- answer, decline ---- */

int cli_answer(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "seconds", required_argument, NULL, 's' },
					       { NULL, 0, NULL, 0 } };
	int at = 0, code = CLI_OK, o;
	long id, seconds = 0;

	while ((o = cli_option(c, argc, argv, "h", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		if (!cli_number(optarg, 1, 30L * 86400, &seconds))
			return cli_usage(c, "--seconds: expected 1 to 2592000 (30 days)");
	}
	if (argc - optind != 1 || !cli_number(argv[optind], 1, 0x7fffffff, &id))
		return cli_usage(c, "expected the number of a call that `tieline status` shows as asking");
	return cli_ask(
		c, json_pack("{s:s, s:I, s:I}", "do", "answer", "call", (json_int_t)id, "seconds", (json_int_t)seconds),
		NULL, NULL);
}

int cli_decline(struct cli *c, int argc, char **argv)
{
	static const char expected[] = "the number of a call that `tieline status` shows as asking";
	int code = plain(c, argc, argv, 1, 1, expected);
	long id;

	if (code >= 0)
		return code;
	if (!cli_number(argv[optind], 1, 0x7fffffff, &id))
		return cli_usage(c, "expected %s", expected);
	return cli_ask(c, json_pack("{s:s, s:I}", "do", "decline", "call", (json_int_t)id), NULL, NULL);
}

/* ---- forward ---- */

static void forwarded(const struct cli *c, const json_t *line)
{
	char protocol[CLI_TEXT], local[CLI_TEXT];

	if (cli_is(line, "event", "granted"))
		(void)fprintf(c->out, "%s/%lld at %s\n", cli_text(line, "protocol", protocol),
			      (long long)cli_int(line, "port"), cli_text(line, "local", local));
}

/* PORT, ADDRESS:PORT or [ADDRESS]:PORT; *ret_host NULL: the peer itself. Cuts the text. */
static bool target_of(char *text, const char **ret_host, long *ret_port)
{
	char *colon = strrchr(text, ':'), *end;

	*ret_host = NULL;
	if (!colon)
		return cli_number(text, 1, 65535, ret_port);
	*colon = 0;
	end = text + strlen(text);
	if (*text == '[' && end > text + 1 && end[-1] == ']') {
		end[-1] = 0;
		text++;
	}
	*ret_host = text;
	return *text && cli_number(colon + 1, 1, 65535, ret_port);
}

int cli_forward(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "port", required_argument, NULL, 'p' },
					       { NULL, 0, NULL, 0 } };
	int at = 0, code = CLI_OK, o;
	long port = 0, local = 0;
	const char *host = NULL;
	char *slash;
	json_t *rq;

	while ((o = cli_option(c, argc, argv, "hp:", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		if (!cli_number(optarg, 1, 65535, &local))
			return cli_usage(c, "--port: expected 1 to 65535");
	}
	slash = argc - optind == 2 ? strchr(argv[optind + 1], '/') : NULL;
	if (!slash || !target_of(slash + 1, &host, &port))
		return cli_usage(c, "expected AOR or the number of a call, then tcp/PORT or udp/PORT, or with the "
				    "address of a host of a granted network tcp/ADDRESS:PORT");
	*slash = 0;
	rq = request_of("forward", argv[optind], "peer");
	json_object_set_new(rq, "protocol", json_string(argv[optind + 1]));
	json_object_set_new(rq, "port", json_integer(port));
	json_object_set_new(rq, "local_port", json_integer(local));
	if (host)
		json_object_set_new(rq, "host", json_string(host));
	return cli_ask(c, rq, forwarded, NULL);
}

/* ---- trust ---- */

static void pin(const struct cli *c, const json_t *line)
{
	char peer[CLI_TEXT], key[CLI_TEXT], level[CLI_TEXT];

	if (cli_is(line, "event", "pin"))
		(void)fprintf(c->out, "%s %s %s%s\n", cli_text(line, "peer", peer), cli_text(line, "key", key),
			      cli_text(line, "level", level),
			      json_is_true(json_object_get(line, "config")) ? " (configuration)" : "");
	else if (cli_is(line, "event", "key"))
		(void)fprintf(c->out, "%s %s\n", cli_text(line, "aor", peer), cli_text(line, "key", key));
}

int cli_trust(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "add-device", no_argument, NULL, 'a' },
					       { NULL, 0, NULL, 0 } };
	static const struct {
		const char *op;
		int min, max;
	} ops[] = {
		{ "list", 0, 0 },
		{ "export", 0, 0 },
		{ "add", 2, 2 },
		{ "remove", 1, 2 },
	};
	bool add_device = false;
	int at = 0, code = CLI_OK, o, n;

	while ((o = cli_option(c, argc, argv, "h", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		add_device = true;
	}
	n = argc - optind - 1;
	for (size_t i = 0; n >= 0 && i < sizeof(ops) / sizeof(ops[0]); i++) {
		json_t *rq;

		if (strcmp(ops[i].op, argv[optind]) || n < ops[i].min || n > ops[i].max)
			continue;
		rq = json_pack("{s:s, s:s, s:b}", "do", "trust", "op", ops[i].op, "add_device", add_device);
		if (n > 0)
			json_object_set_new(rq, "peer", json_string(argv[optind + 1]));
		if (n > 1)
			json_object_set_new(rq, "key", json_string(argv[optind + 2]));
		return cli_ask(c, rq, pin, NULL);
	}
	return cli_usage(c, "expected list, add AOR KEY, remove AOR [KEY] or export");
}

/* ---- explain ---- */

static void explained(const struct cli *c, const json_t *line)
{
	char verdict[CLI_TEXT], rule[CLI_TEXT], level[CLI_TEXT];

	(void)fprintf(c->out, "%s: %s (level %s)\n", cli_text(line, "verdict", verdict), cli_text(line, "rule", rule),
		      cli_text(line, "level", level));
}

int cli_explain(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "key", required_argument, NULL, 'k' },
					       { NULL, 0, NULL, 0 } };
	const char *key = NULL, *service;
	int at = 0, code = CLI_OK, o;
	json_t *rq;

	while ((o = cli_option(c, argc, argv, "h", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		key = optarg;
	}
	if (argc - optind != 1)
		return cli_usage(c, "expected AOR or AOR/SERVICE");
	service = cli_cut_service(argv[optind]);
	rq = json_pack("{s:s, s:s}", "do", "explain", "peer", argv[optind]);
	if (service)
		json_object_set_new(rq, "service", json_string(service));
	if (key)
		json_object_set_new(rq, "key", json_string(key));
	return cli_ask(c, rq, NULL, explained);
}

/* ---- ping ---- */

static void pong(const struct cli *c, const json_t *line)
{
	if (cli_is(line, "event", "reply"))
		(void)fprintf(c->out, "reply %lld: %.3f ms\n", (long long)cli_int(line, "seq"),
			      cli_real(line, "rtt_ms"));
	else if (cli_is(line, "event", "lost"))
		(void)fprintf(c->out, "lost %lld\n", (long long)cli_int(line, "seq"));
	(void)fflush(c->out);
}

int cli_ping(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "count", required_argument, NULL, 'c' },
					       { NULL, 0, NULL, 0 } };
	int at = 0, code = CLI_OK, o;
	long count = 4;
	json_t *rq;

	while ((o = cli_option(c, argc, argv, "hc:", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		if (!cli_number(optarg, 1, 1000, &count))
			return cli_usage(c, "--count: expected 1 to 1000");
	}
	if (argc - optind != 1)
		return cli_usage(c, "expected AOR or the number of a call");
	rq = request_of("ping", argv[optind], "peer");
	json_object_set_new(rq, "count", json_integer(count));
	return cli_ask(c, rq, pong, NULL);
}

/* ---- log, reload ---- */

static void logged(const struct cli *c, const json_t *line)
{
	char text[CLI_TEXT];

	if (!cli_is(line, "event", "log"))
		return;
	(void)fprintf(c->out, "%s\n", cli_text(line, "line", text));
	(void)fflush(c->out);
}

int cli_log(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON, { "follow", no_argument, NULL, 'f' }, { NULL, 0, NULL, 0 } };
	bool follow = false;
	int at = 0, code = CLI_OK, o;

	while ((o = cli_option(c, argc, argv, "hf", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		follow = true;
	}
	if (optind != argc)
		return cli_usage(c, "takes no argument");
	return cli_ask(c, json_pack("{s:s, s:b}", "do", "log", "follow", follow), logged, NULL);
}

int cli_reload(struct cli *c, int argc, char **argv)
{
	int code = plain(c, argc, argv, 0, 0, "no argument");

	return code >= 0 ? code : cli_ask(c, json_pack("{s:s}", "do", "reload"), NULL, NULL);
}
