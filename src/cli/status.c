/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/status.c - accounts and calls for people. */
#include "cli/cli_impl.h"

#include <getopt.h>
#include <string.h>
#include <time.h>

static const char *when(json_int_t unix_s, char dst[32])
{
	time_t t = (time_t)unix_s;
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(dst, 32, "%Y-%m-%d %H:%M:%S", &tm))
		dst[0] = 0;
	return dst;
}

static const char *bytes(json_int_t n, char dst[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)n;
	size_t u = 0;

	while (v >= 1024 && u < sizeof(units) / sizeof(units[0]) - 1) {
		v /= 1024;
		u++;
	}
	(void)snprintf(dst, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return dst;
}

static void clock_of(const struct cli *c, const json_t *a)
{
	json_int_t off = cli_int(a, "clock_off_s");

	if (off)
		(void)fprintf(c->out, "  clock   ours is %lld s %s the exchange's; at 300 s calls fail\n",
			      (long long)(off < 0 ? -off : off), off < 0 ? "ahead of" : "behind");
}

static void account(const struct cli *c, const json_t *a)
{
	char aor[CLI_TEXT], address[CLI_TEXT], key[CLI_TEXT], reason[CLI_TEXT];

	(void)fprintf(c->out, "%s: %s%s%s\n  address %s\n  key     %s\n", cli_text(a, "aor", aor),
		      json_is_true(json_object_get(a, "registered")) ? "registered" : "not registered",
		      json_object_get(a, "reason") ? ": " : "", cli_text(a, "reason", reason),
		      cli_text(a, "address", address), cli_text(a, "key", key));
	clock_of(c, a);
}

static void list(FILE *out, const json_t *array)
{
	const json_t *o;
	char safe[CLI_TEXT];
	size_t i;

	json_array_foreach(array, i, o)(void)
		fprintf(out, "%s%s", i ? ", " : "", cli_escape(json_is_string(o) ? json_string_value(o) : "", safe));
}

void cli_network(FILE *out, const json_t *o)
{
	const json_t *addresses = json_object_get(o, "addresses"), *dns = json_object_get(o, "dns");

	list(out, json_object_get(o, "prefixes"));
	if (json_array_size(addresses)) {
		(void)fputs(" as ", out);
		list(out, addresses);
	}
	if (json_array_size(dns)) {
		(void)fputs(", DNS ", out);
		list(out, dns);
	}
}

static void service(const struct cli *c, const json_t *s)
{
	char name[CLI_TEXT], protocol[CLI_TEXT], local[CLI_TEXT], time[32];

	(void)fprintf(c->out, "      %s ", cli_text(s, "name", name));
	if (json_array_size(json_object_get(s, "prefixes")))
		cli_network(c->out, s);
	else if (cli_is(s, "protocol", "network"))
		(void)fputs("network", c->out);
	else
		(void)fprintf(c->out, "%s/%lld", cli_text(s, "protocol", protocol), (long long)cli_int(s, "port"));
	if (*cli_text(s, "local", local))
		(void)fprintf(c->out, " at %s", local);
	if (cli_int(s, "until"))
		(void)fprintf(c->out, " until %s", when(cli_int(s, "until"), time));
	(void)fputc('\n', c->out);
}

static void asks(const struct cli *c, const json_t *k)
{
	const json_t *ask = json_object_get(k, "asks"), *name;
	char safe[CLI_TEXT];
	size_t i;

	if (!ask)
		return;
	(void)fputs("      asks for", c->out);
	json_array_foreach(json_object_get(ask, "services"), i, name)(void) fprintf(
		c->out, "%s %s", i ? "," : "", cli_escape(json_is_string(name) ? json_string_value(name) : "", safe));
	(void)fprintf(c->out, ", %lld s left: `tieline answer %lld` or `tieline decline %lld`\n",
		      (long long)cli_int(ask, "left_s"), (long long)cli_int(k, "id"), (long long)cli_int(k, "id"));
}

static void drops(const struct cli *c, json_t *d)
{
	const char *key;
	json_t *n;
	char safe[CLI_TEXT];

	json_object_foreach(d, key, n)(void)
		fprintf(c->out, "      dropped %lld: %s\n", (long long)json_integer_value(n), cli_escape(key, safe));
}

static void call(const struct cli *c, const json_t *k)
{
	char peer[CLI_TEXT], state[CLI_TEXT], level[CLI_TEXT], path[CLI_TEXT], local[CLI_TEXT], remote[CLI_TEXT];
	char in[32], out[32], since[32];
	const json_t *s;
	size_t i;

	(void)fprintf(c->out, "%4lld  %s %s: %s, level %s, since %s\n", (long long)cli_int(k, "id"),
		      cli_is(k, "direction", "out") ? "to" : "from", cli_text(k, "peer", peer),
		      cli_text(k, "state", state), cli_text(k, "level", level), when(cli_int(k, "since"), since));
	if (*cli_text(k, "remote", remote))
		(void)fprintf(c->out, "      path %s: %s to %s, %.1f ms%s\n", cli_text(k, "path", path),
			      cli_text(k, "local", local), remote, cli_real(k, "rtt_ms"),
			      cli_is(k, "plane", "kernel") ? ", in the kernel" : "");
	json_array_foreach(json_object_get(k, "services"), i, s) service(c, s);
	asks(c, k);
	(void)fprintf(c->out, "      in %s, out %s\n", bytes(cli_int(k, "bytes_in"), in),
		      bytes(cli_int(k, "bytes_out"), out));
	drops(c, json_object_get(k, "drops"));
}

static void table(const struct cli *c, const json_t *line)
{
	const json_t *status = json_object_get(line, "status"), *calls = json_object_get(status, "calls"), *o;
	size_t i;

	json_array_foreach(json_object_get(status, "accounts"), i, o) account(c, o);
	if (!json_array_size(calls))
		(void)fputs("no calls\n", c->out);
	json_array_foreach(calls, i, o) call(c, o);
}

int cli_status(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON, { NULL, 0, NULL, 0 } };
	int at = 0, code = CLI_OK;

	if (cli_option(c, argc, argv, "h", longs, &at, &code) == -2)
		return code;
	if (optind != argc)
		return cli_usage(c, "takes no argument");
	return cli_ask(c, json_pack("{s:s}", "do", "status"), NULL, table);
}
