/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/inspect.c - files for inspect/. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_impl.h"
#include "inspect/inspect.h"

#define KEYS_FILE_MAX (256 * 1024)

/* malloc'd; at most max + 1 bytes, so that the caller sees what is too long. NULL: said. */
static uint8_t *read_file(const struct cli *c, const char *path, size_t max, size_t *ret_len)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
	uint8_t *bytes = f ? malloc(max + 1) : NULL;
	char safe[CLI_TEXT];

	errno = f && !bytes ? ENOMEM : errno;
	if (bytes) {
		*ret_len = fread(bytes, 1, max + 1, f);
		if (ferror(f)) {
			errno = errno ? errno : EIO;
			free(bytes);
			bytes = NULL;
		}
	}
	if (!bytes)
		cli_say(c, "%s: %s", cli_escape(path, safe), strerror(errno));
	if (f && f != stdin)
		(void)fclose(f);
	return bytes;
}

static int read_keys(const struct cli *c, const char *path, struct inspect_keys **ret)
{
	const char *why = "too long";
	char safe[CLI_TEXT];
	size_t len = 0;
	uint8_t *text = read_file(c, path, KEYS_FILE_MAX, &len);
	enum err e = ERR_LIMIT;

	if (!text)
		return CLI_USAGE;
	if (len <= KEYS_FILE_MAX)
		e = inspect_keys_parse(span_of(text, len), ret, &why);
	explicit_bzero(text, len);
	free(text);
	if (e == OK)
		return CLI_OK;
	cli_say(c, "%s: %s", cli_escape(path, safe), why);
	return CLI_USAGE;
}

/* jansson writes what is below a blank as \u00XX, and with ENSURE_ASCII everything beyond ASCII too; DEL is left. */
static void put(FILE *f, const char *text)
{
	for (; *text; text++)
		if (*text == 0x7f)
			(void)fputs("\\u007f", f);
		else
			(void)fputc(*text, f);
	(void)fputc('\n', f);
}

static int show(const struct cli *c, json_t *result)
{
	char *text = result ? json_dumps(result, JSON_ENSURE_ASCII | (c->json ? JSON_COMPACT : JSON_INDENT(2))) : NULL;
	int code = inspect_ok(result) ? CLI_OK : CLI_INPUT;

	json_decref(result);
	if (!text) {
		cli_say(c, "out of memory");
		return CLI_INTERNAL;
	}
	put(c->out, text);
	free(text);
	return code;
}

int cli_inspect(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = { CLI_COMMON,
					       { "password", required_argument, NULL, 'p' },
					       { "keys", required_argument, NULL, 'k' },
					       { NULL, 0, NULL, 0 } };
	struct inspect_options o = { .has_password = false };
	struct inspect_keys *keys = NULL;
	const char *keys_path = NULL;
	int at = 0, code = CLI_OK, opt;
	size_t len = 0;
	uint8_t *bytes;

	while ((opt = cli_option(c, argc, argv, "h", longs, &at, &code)) != -1) {
		if (opt == -2)
			return code;
		if (opt == 'p') {
			o.has_password = true;
			o.password = span_str(optarg);
		} else {
			keys_path = optarg;
		}
	}
	if (argc - optind != 2 || !inspect_has_kind(argv[optind]))
		return cli_usage(c, "expected sip, sdp, stun, datagram, ike or esp, then a file or -");
	code = keys_path ? read_keys(c, keys_path, &keys) : CLI_OK;
	if (code != CLI_OK)
		return code;
	o.keys = keys;
	bytes = read_file(c, argv[optind + 1], INSPECT_MAX, &len);
	code = bytes ? show(c, inspect_run(argv[optind], span_of(bytes, len), &o)) : CLI_USAGE;
	free(bytes);
	inspect_keys_free(keys);
	return code;
}
