/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/call.c - a call in the foreground: progress, where services are, Ctrl-C, and a program that is run for the call.
 *
 * Three things can end it: the daemon's `done`, a signal, the program. Whichever comes first starts the others' end:
 *   signal or program ended -> hangup to the daemon -> done, for at most HANGUP_MS
 *   done or daemon gone     -> SIGTERM to the program -> it ends
 * and the client returns when nothing is open any more. */
#include "cli/cli_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANGUP_MS 5000 /* how long the daemon may take to say that the call has ended */

struct call {
	struct cli *c;
	FILE *say; /* progress: out, or err where CMD owns out */
	char *to, *service, *from, **exec;
	bool detach, trust_first, any_user;
	const char *keys; /* --export-keys, NULL: no */
	FILE *keys_file;
	char keys_table[CLI_TEXT]; /* of the last line; "": there is none yet */
	long timeout, port;
	/* state */
	bool over; /* done came, or the daemon is gone */
	bool hanging_up, interrupted, refused;
	int code; /* of the call's end */
	int64_t until_ms; /* hanging_up */
	pid_t child; /* 0: not running */
	bool child_ended;
	int child_status;
	int signal_fd;
	sigset_t old_mask;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void hang_up(struct call *k)
{
	if (k->over || k->hanging_up)
		return;
	k->hanging_up = true;
	k->until_ms = now_ms() + HANGUP_MS;
	if (cli_send(k->c, json_pack("{s:i, s:s, s:i}", "id", 2, "do", "hangup", "request", 1)) != CLI_OK)
		k->over = true;
}

/* ---- the program ---- */

static void child_main(struct call *k, const char *host, const char *port, int report)
{
	int e;

	(void)sigprocmask(SIG_SETMASK, &k->old_mask, NULL);
	if (!setenv("TIELINE_HOST", host, 1) && !setenv("TIELINE_PORT", port, 1))
		(void)execvp(k->exec[0], k->exec);
	e = errno;
	(void)!write(report, &e, sizeof(e));
	_exit(127);
}

/* `local` is what the daemon gave: ADDRESS:PORT, an IPv6 address in brackets. */
static void start(struct call *k, const char *local)
{
	char host[64] = "", port[8] = "", safe[CLI_TEXT];
	const char *colon = strrchr(local, ':');
	size_t len = colon ? (size_t)(colon - local) : 0, skip = *local == '[';
	int fds[2], e = 0;
	long n;

	if (!colon || len - 2 * skip >= sizeof(host) || len < 2 * skip + 1 || !cli_number(colon + 1, 1, 65535, &n) ||
	    pipe2(fds, O_CLOEXEC)) {
		cli_say(k->c, "--exec: the service has no local address");
		k->code = CLI_INTERNAL;
		k->refused = true;
		hang_up(k);
		return;
	}
	memcpy(host, local + skip, len - 2 * skip);
	(void)snprintf(port, sizeof(port), "%ld", n);
	(void)fflush(NULL);
	k->child = fork();
	if (!k->child) {
		close(fds[0]);
		child_main(k, host, port, fds[1]);
	}
	close(fds[1]);
	if (k->child < 0)
		e = errno;
	else if (read(fds[0], &e, sizeof(e)) != (ssize_t)sizeof(e))
		e = 0; /* closed by exec */
	close(fds[0]);
	if (!e)
		return;
	if (k->child > 0)
		(void)waitpid(k->child, NULL, 0);
	k->child = 0;
	cli_say(k->c, "--exec: %s cannot be started: %s", cli_escape(k->exec[0], safe), strerror(e));
	k->code = CLI_USAGE;
	k->refused = true;
	hang_up(k);
}

static void reap(struct call *k)
{
	int status;

	if (k->child <= 0 || waitpid(k->child, &status, WNOHANG) != k->child)
		return;
	k->child = 0;
	k->child_ended = true;
	k->child_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	hang_up(k);
}

/* ---- events ---- */

static void progress(const struct call *k, const json_t *e)
{
	(void)fprintf(k->say, "%lld.%03lld s  ", (long long)cli_int(e, "t_ms") / 1000,
		      (long long)cli_int(e, "t_ms") % 1000);
}

static void granted(struct call *k, const json_t *e)
{
	char name[CLI_TEXT], protocol[CLI_TEXT], local[CLI_TEXT];

	cli_text(e, "name", name);
	cli_text(e, "local", local);
	if (!k->c->json) {
		progress(k, e);
		if (cli_is(e, "protocol", "network"))
			(void)fprintf(k->say, "granted %s (network)\n", name);
		else
			(void)fprintf(k->say, "granted %s (%s/%lld)\n", name, cli_text(e, "protocol", protocol),
				      (long long)cli_int(e, "port"));
		if (json_array_size(json_object_get(e, "prefixes"))) {
			(void)fprintf(k->say, "%s: ", name);
			cli_network(k->say, e);
			(void)fputc('\n', k->say);
		}
		if (local[0])
			(void)fprintf(k->say, "%s at %s\n", name, local);
	}
	if (k->exec && !k->child && !k->child_ended && !k->hanging_up &&
	    (k->service ? cli_is(e, "name", k->service) : !cli_is(e, "protocol", "network")))
		start(k, local);
}

static const char *name_of(const char *aor)
{
	return strncmp(aor, "sip:", 4) ? aor : aor + 4;
}

static void told(const struct call *k, const json_t *e)
{
	char a[CLI_TEXT], b[CLI_TEXT], d[CLI_TEXT];

	progress(k, e);
	if (cli_is(e, "event", "path") || cli_is(e, "event", "path-changed"))
		(void)fprintf(k->say, "%s %s: %s to %s", cli_is(e, "event", "path") ? "path" : "new path",
			      cli_text(e, "path", a), cli_text(e, "local", b), cli_text(e, "remote", d));
	else if (cli_is(e, "event", "authenticated"))
		(void)fprintf(k->say, "authenticated %s %s, level %s", cli_text(e, "peer", a), cli_text(e, "key", b),
			      cli_text(e, "level", d));
	else if (cli_is(e, "event", "waiting"))
		(void)fprintf(k->say, "waiting: somebody at %s is asked, for %lld s", name_of(cli_text(e, "peer", a)),
			      (long long)cli_int(e, "seconds"));
	else if (cli_is(e, "event", "refused"))
		(void)fprintf(k->say, "refused %s: %s", cli_text(e, "name", a), cli_text(e, "reason", b));
	else if (cli_is(e, "event", "ended") && !cli_int(e, "code"))
		(void)fprintf(k->say, "ended: %s", cli_text(e, "reason", a));
	else
		(void)fprintf(k->say, "%s", cli_text(e, "event", a));
	(void)fputc('\n', k->say);
}

/* ---- keys ---- */

/* A new file, for this user only: keys never overwrite anything, nor follow a link. */
static int keys_open(struct call *k)
{
	int fd = open(k->keys, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	char safe[CLI_TEXT];

	k->keys_file = fd < 0 ? NULL : fdopen(fd, "w");
	if (k->keys_file)
		return CLI_OK;
	cli_say(k->c, "--export-keys: %s: %s", cli_escape(k->keys, safe),
		errno == EEXIST ? "exists, and keys overwrite nothing" : strerror(errno));
	if (fd >= 0)
		close(fd);
	return CLI_USAGE;
}

/* The lines as they come: their values are of our own daemon. */
static void keys_came(struct call *k, const json_t *e)
{
	const char *line = json_string_value(json_object_get(e, "line"));
	char table[CLI_TEXT];
	bool ok = k->keys_file && line && !strpbrk(line, "\r\n");

	cli_text(e, "table", table);
	if (ok && strcmp(table, k->keys_table))
		ok = fprintf(k->keys_file, "# %s\n", table) > 0;
	ok = ok && fprintf(k->keys_file, "%s\n", line) > 0 && !fflush(k->keys_file);
	if (ok) {
		memcpy(k->keys_table, table, sizeof(table));
		return;
	}
	cli_say(k->c, "--export-keys: the keys cannot be written");
	k->code = CLI_INTERNAL;
	k->refused = true;
	hang_up(k);
}

static void keys_close(struct call *k)
{
	if (!k->keys_file)
		return;
	if (fclose(k->keys_file))
		cli_say(k->c, "--export-keys: the keys cannot be written");
	if (!k->keys_table[0])
		(void)unlink(k->keys); /* made by us, and nothing came */
}

static void line_came(struct call *k, const json_t *line)
{
	if (cli_int(line, "id") != 1)
		return; /* the answer to our hangup: the call's own `done` follows or came */
	if (json_is_true(json_object_get(line, "done"))) {
		k->over = true;
		if (k->hanging_up)
			return; /* what it says is our own doing */
		k->code = cli_done(k->c, line);
		if (k->child > 0)
			(void)kill(k->child, SIGTERM);
	} else if (cli_is(line, "event", "granted")) {
		granted(k, line);
	} else if (k->keys && cli_is(line, "event", "keys")) {
		keys_came(k, line);
	} else if (!k->c->json) {
		told(k, line);
	}
	(void)fflush(k->say);
}

static void lines(struct call *k)
{
	while (!k->over) {
		json_t *line = NULL;
		int r = cli_next(k->c, 0, &line);

		if (r == -1)
			return;
		if (r == CLI_OK) {
			line_came(k, line);
			json_decref(line);
			continue;
		}
		k->over = true; /* said by cli_next */
		if (!k->hanging_up || !k->refused)
			k->code = r;
		k->interrupted = false;
		if (k->child > 0)
			(void)kill(k->child, SIGTERM);
	}
}

/* ---- signals ---- */

static void signals(struct call *k)
{
	struct signalfd_siginfo s;

	while (read(k->signal_fd, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
		if (s.ssi_signo == SIGCHLD) {
			reap(k);
			continue;
		}
		/* The terminal gave it to the program as well, which decides what Ctrl-C means to it. */
		if (s.ssi_signo == SIGINT && s.ssi_code > 0 && k->child > 0)
			continue;
		if (k->interrupted && k->child <= 0)
			k->over = true; /* asked twice: closing the connection hangs up, too */
		k->interrupted = true;
		if (k->child > 0)
			(void)kill(k->child, SIGTERM);
		hang_up(k);
	}
}

static int signals_open(struct call *k)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, &k->old_mask);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Until nothing is open: the call is over and the program has ended. */
static void attend(struct call *k)
{
	while (!k->over || k->child > 0) {
		struct pollfd p[2] = { { .fd = k->signal_fd, .events = POLLIN },
				       { .fd = k->over ? -1 : tieline_fd(k->c->t), .events = POLLIN } };
		int64_t left = k->hanging_up && !k->over ? k->until_ms - now_ms() : 1000;

		if (k->hanging_up && !k->over && left <= 0) {
			cli_say(k->c, "the daemon does not say that the call has ended");
			k->over = true;
			continue;
		}
		(void)poll(p, 2, (int)left);
		signals(k);
		lines(k);
	}
}

static int run(struct call *k)
{
	json_t *rq = json_pack("{s:i, s:s, s:s, s:b, s:b, s:b, s:I, s:I}", "id", 1, "do", "call", "to", k->to, "detach",
			       k->detach, "trust_first", k->trust_first, "any_user", k->any_user, "timeout",
			       (json_int_t)k->timeout, "port", (json_int_t)k->port);
	int code = cli_connect(k->c);

	if (k->service)
		json_object_set_new(rq, "service", json_string(k->service));
	if (k->from)
		json_object_set_new(rq, "from", json_string(k->from));
	if (k->keys)
		json_object_set_new(rq, "keys", json_true());
	if (code != CLI_OK) {
		json_decref(rq);
		return code;
	}
	k->signal_fd = signals_open(k);
	code = k->signal_fd < 0 ? CLI_INTERNAL : CLI_OK;
	if (code == CLI_OK)
		code = cli_send(k->c, rq);
	else
		json_decref(rq);
	if (code == CLI_OK) {
		attend(k);
		code = k->child_ended ? k->child_status : k->interrupted ? CLI_OK : k->code;
	}
	if (k->signal_fd >= 0)
		close(k->signal_fd);
	(void)sigprocmask(SIG_SETMASK, &k->old_mask, NULL);
	return code;
}

/* ---- arguments ---- */

static int option(struct call *k, int o)
{
	switch (o) {
	case 'd': k->detach = true; return CLI_OK;
	case 't': k->trust_first = true; return CLI_OK;
	case 'u': k->any_user = true; return CLI_OK;
	case 'f': k->from = optarg; return CLI_OK;
	case 'k': k->keys = optarg; return CLI_OK;
	case 'T':
		return cli_number(optarg, 1, 3600, &k->timeout)
			       ? CLI_OK
			       : cli_usage(k->c, "--timeout: expected 1 to 3600 seconds");
	case 'p':
		return cli_number(optarg, 1, 65535, &k->port) ? CLI_OK : cli_usage(k->c, "--port: expected 1 to 65535");
	default: return CLI_OK;
	}
}

int cli_call(struct cli *c, int argc, char **argv)
{
	static const struct option longs[] = {
		CLI_COMMON,
		{ "detach", no_argument, NULL, 'd' },
		{ "trust-first", no_argument, NULL, 't' },
		{ "any-user", no_argument, NULL, 'u' },
		{ "from", required_argument, NULL, 'f' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "port", required_argument, NULL, 'p' },
		{ "export-keys", required_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 },
	};
	struct call k = { .c = c, .say = c->out, .signal_fd = -1 };
	int at = 0, code = CLI_OK, o;

	/* what follows --exec is CMD's, options and all */
	for (int i = 1; i < argc && !k.exec; i++)
		if (!strcmp(argv[i], "--exec")) {
			k.exec = argv + i + 1;
			argc = i;
		}
	if (k.exec && !k.exec[0])
		return cli_usage(c, "--exec: expected a command behind it");
	while ((o = cli_option(c, argc, argv, "h", longs, &at, &code)) != -1) {
		if (o == -2)
			return code;
		code = option(&k, o);
		if (code != CLI_OK)
			return code;
	}
	if (argc - optind != 1)
		return cli_usage(c, "expected AOR or AOR/SERVICE");
	if (k.exec && k.detach)
		return cli_usage(c, "--exec and --detach exclude each other: the call ends with the command");
	if (k.keys && (k.detach || c->json))
		return cli_usage(
			c, "--export-keys goes neither with --detach, whose client does not stay, nor with --json, "
			   "which would print the keys");
	if (k.exec && !c->json)
		k.say = c->err;
	k.to = argv[optind];
	k.service = cli_cut_service(k.to);
	code = k.keys ? keys_open(&k) : CLI_OK;
	if (code == CLI_OK)
		code = run(&k);
	keys_close(&k);
	return code;
}
