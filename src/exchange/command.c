/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/command.c - the command line of tieline-exchange. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "exchange/host.h"

#define VERSION "0.1.0"
#define PASSWORD_BYTES 16

static const char usage[] =
	"usage: tieline-exchange [-c FILE] [-s STATEDIR] [-r RUNDIR] [--log-level error|warn|info|debug]\n"
	"       tieline-exchange user add NAME\n"
	"  -c FILE       configuration (/etc/tieline/exchange.conf)\n"
	"  -s STATEDIR, -r RUNDIR\n"
	"                as for tielined; this version keeps nothing there\n"
	"  user add NAME prints a section for the configuration, with a generated password\n"
	"  --help, --version\n";

struct options {
	const char *conf;
	enum log_level level;
};

/* "2026-01-02T03:04:05.678Z info exchange text" */
static void write_line(void *arg, enum log_level level, const char *area, const char *tag, const char *text)
{
	struct timespec ts;
	struct tm tm;
	char when[32];

	(void)arg;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)fprintf(stderr, "%s.%03ldZ %s %s %s%s%s\n", when, ts.tv_nsec / 1000000, log_level_name(level), area, tag,
		      *tag ? " " : "", text);
}

/* -1: go on; else the exit code */
static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "log-level", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*o = (struct options){ .conf = "/etc/tieline/exchange.conf", .level = LOG_INFO };
	while ((c = getopt_long(argc, argv, "c:s:r:", longs, NULL)) != -1)
		switch (c) {
		case 'c': o->conf = optarg; break;
		case 's':
		case 'r': break;
		case 'l':
			if (!log_level_parse(optarg, &o->level)) {
				(void)fprintf(stderr,
					      "tieline-exchange: --log-level: expected error, warn, info or debug\n");
				return 2;
			}
			break;
		case 'h': (void)fputs(usage, stdout); return 0;
		case 'v': (void)puts("tieline-exchange " VERSION); return 0;
		default: (void)fputs(usage, stderr); return 2;
		}
	if (optind == argc)
		return -1;
	(void)fputs(usage, stderr);
	return 2;
}

/* tieline-exchange user add NAME: 128 random bits in base64url (RFC 4648, 5), 22 characters. */
static int user_add(const char *name)
{
	struct rng rng = crypto_rng();
	uint8_t secret[PASSWORD_BYTES];
	char text[32];
	struct wr w = wr_of(text, sizeof(text));

	if (!exchange_user_name_ok(span_str(name))) {
		(void)fprintf(stderr,
			      "tieline-exchange: user add: expected a name of letters, digits, '-', '_' and '.', "
			      "at most 63\n");
		return 2;
	}
	rng_fill(&rng, secret, sizeof(secret));
	wr_base64(&w, SPAN_OF(secret));
	for (size_t i = 0; i < w.len; i++)
		text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i] == '=' ? 0 : text[i];
	(void)printf("[user %s]\npassword = %.22s\n", name, text);
	secret_wipe(secret, sizeof(secret));
	secret_wipe(text, sizeof(text));
	if (fflush(stdout)) {
		(void)fprintf(stderr, "tieline-exchange: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}

/* NULL: said why. */
static struct exchange_config *config_read(const char *file)
{
	struct exchange_config *c = NULL;
	struct conf_error e = { .text = "" };
	char *text = malloc(CONF_FILE_MAX + 1);
	FILE *f = fopen(file, "re");
	struct stat st;
	size_t len;
	enum err r;

	if (!f || !text || fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
		(void)fprintf(stderr, "tieline-exchange: %s: %s\n", file, f ? "not a file" : strerror(errno));
		if (f)
			(void)fclose(f);
		free(text);
		return NULL;
	}
	len = fread(text, 1, CONF_FILE_MAX + 1, f);
	r = ferror(f) ? ERR_SYSTEM : exchange_config_parse(file, span_of(text, len), &c, &e);
	(void)fclose(f);
	secret_wipe(text, len);
	free(text);
	if (r != OK)
		(void)fprintf(stderr, "tieline-exchange: %s\n", e.text[0] ? e.text : err_name(r));
	else if (st.st_mode & S_IROTH)
		(void)fprintf(
			stderr,
			"tieline-exchange: %s: everybody can read the passwords in it; expected mode 0640 or 0600\n",
			file);
	return r == OK ? c : NULL;
}

int exchange_main(int argc, char **argv)
{
	struct exchange_config *cfg;
	struct host *h = NULL;
	struct options o;
	struct log_sink sink = { .write = write_line };
	enum err e;
	int code;

	if (argc == 4 && !strcmp(argv[1], "user") && !strcmp(argv[2], "add"))
		return user_add(argv[3]);
	code = parse(argc, argv, &o);
	if (code >= 0)
		return code;
	cfg = config_read(o.conf);
	if (!cfg)
		return 2;
	sink.level = o.level;
	e = host_new(cfg, &sink, &h);
	code = e == ERR_MALFORMED ? 2 : 1;
	if (e == OK)
		code = host_run(h) == OK ? 0 : 1;
	host_free(h);
	exchange_config_free(cfg);
	return code;
}
