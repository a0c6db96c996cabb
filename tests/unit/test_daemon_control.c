/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The control socket and its commands, served by a process of their own and asked by the real client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

#include "cli/cli.h"
#include "control_engine.h"
#include "harness.h"

static struct control_engine engine;
static pid_t server;
static char *out_text, *err_text;

#define OTHER_KEY "sha-256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static void stop(void *arg, int signo)
{
	(void)signo;
	loop_stop(arg);
}

static int start_server(void **state)
{
	(void)state;
	control_engine_new(&engine, LOG_INFO);
	(void)fflush(NULL);
	server = fork();
	if (!server) {
		int quiet = open("/dev/null", O_WRONLY);
		enum err r;

		(void)alarm(60);
		(void)dup2(quiet, 2);
		/* the loop's epoll descriptor was made before: it goes on here, and the parent only frees its copy */
		if (loop_signal(engine.e.loop, SIGTERM, stop, engine.e.loop) != OK)
			exit(3);
		r = loop_run(engine.e.loop);
		control_engine_free(&engine);
		exit(r == OK ? 0 : 4); /* the leak check runs here */
	}
	return 0;
}

static int stop_server(void **state)
{
	int status = -1;

	(void)state;
	(void)kill(server, SIGTERM);
	if (waitpid(server, &status, 0) != server || status)
		return -1;
	control_engine_free(&engine);
	free(out_text);
	free(err_text);
	out_text = err_text = NULL;
	return 0;
}

static int tieline(const char *const *args)
{
	char *argv[16] = { (char *)(uintptr_t) "tieline", (char *)(uintptr_t) "--control", engine.socket };
	size_t out_len, err_len;
	FILE *out, *err;
	int argc = 3, code;

	free(out_text);
	free(err_text);
	out_text = err_text = NULL;
	out = open_memstream(&out_text, &out_len);
	err = open_memstream(&err_text, &err_len);
	for (; *args; args++)
		argv[argc++] = strdup(*args);
	code = cli_run(argc, argv, out, err);
	(void)fclose(out);
	(void)fclose(err);
	while (argc > 3)
		free(argv[--argc]);
	return code;
}
#define TIELINE(...) tieline((const char *const[]){ __VA_ARGS__, NULL })

static void pins(void **state)
{
	(void)state;
	assert_int_equal(TIELINE("trust", "list"), 0);
	assert_string_equal(out_text, "sip:home@example.org " CONTROL_KEY " pinned (configuration)\n");
	assert_int_equal(TIELINE("trust", "add", "Bob@Example.ORG", OTHER_KEY), 0);
	assert_int_equal(TIELINE("trust", "list"), 0);
	assert_non_null(strstr(out_text, "\nsip:Bob@example.org " OTHER_KEY " pinned\n"));
	assert_int_equal(TIELINE("trust", "remove", "sip:bob@example.org"), 2); /* user parts have case */
	assert_int_equal(TIELINE("trust", "remove", "sip:Bob@example.org"), 0);
	assert_int_equal(TIELINE("trust", "add", "bob@example.org", "sha-256:12"), 2);
	assert_int_equal(TIELINE("trust", "add", "home@example.org", OTHER_KEY), 2);
	assert_non_null(strstr(err_text, "another key"));
	assert_int_equal(TIELINE("trust", "remove", "home@example.org"), 2);
	assert_non_null(strstr(err_text, "configuration"));
	assert_int_equal(TIELINE("trust", "remove", "carol@example.org"), 2);
	assert_int_equal(TIELINE("trust", "export"), 0);
	assert_memory_equal(out_text, "sip:me@example.net sha-256:", 27);
}

static void explained(void **state)
{
	(void)state;
	assert_int_equal(TIELINE("explain", "home@example.org/desktop"), 0);
	assert_string_equal(out_text, "yes: [peer sip:home@example.org] allow = desktop (level pinned)\n");
	assert_int_equal(TIELINE("explain", "home@example.org/printer"), 0);
	assert_memory_equal(out_text, "no: ", 4);
	assert_int_equal(TIELINE("explain", "home@example.org", "--key", CONTROL_KEY), 0);
	assert_memory_equal(out_text, "yes: ", 5);
	assert_int_equal(TIELINE("explain", "home@example.org", "--key", OTHER_KEY), 0);
	assert_string_equal(out_text, "no: this address is pinned to another key (level none)\n");
	assert_int_equal(TIELINE("explain", "eve@example.org"), 0);
	assert_memory_equal(out_text, "no: ", 4);
	assert_int_equal(TIELINE("explain", "not an address"), 2);
	assert_int_equal(TIELINE("explain", "home@example.org", "--key", "x"), 2);
}

static void nothing_to_act_on(void **state)
{
	(void)state;
	assert_int_equal(TIELINE("status"), 0);
	assert_non_null(strstr(out_text, "sip:me@example.net: not registered"));
	assert_non_null(strstr(out_text, "no calls\n"));
	assert_int_equal(TIELINE("hangup", "all"), 0);
	assert_int_equal(TIELINE("hangup", "5"), 2);
	assert_int_equal(TIELINE("hangup", "home@example.org"), 2);
	assert_int_equal(TIELINE("ping", "home@example.org"), 2);
	assert_int_equal(TIELINE("forward", "home@example.org", "tcp/80"), 2);
	assert_non_null(strstr(err_text, "no such call"));
	assert_int_equal(TIELINE("call", "nonsense"), 2);
	assert_int_equal(TIELINE("call", "home@example.org", "--from", "sip:you@example.net"), 2);
	assert_int_equal(TIELINE("log"), 0);
}

static void no_keys_by_default(void **state)
{
	char at[96];

	(void)state;
	(void)snprintf(at, sizeof(at), "%s/keys", engine.dir);
	assert_int_equal(TIELINE("call", "home@example.org", "--export-keys", at), 16);
	assert_non_null(strstr(err_text, "export-keys"));
	assert_int_equal(access(at, F_OK), -1);
	assert_int_equal(TIELINE("status"), 0);
	assert_non_null(strstr(out_text, "no calls\n"));
}

/* Whatever is not in a [peer] section: a success would be one without effect. */
static void needs_a_restart(void **state)
{
	static const char rest[] = "[service desktop]\nlisten = tcp/5900\n"
				   "[peer sip:home@example.org]\nkey = " CONTROL_KEY "\nallow = desktop\n";
	static const char account[] = "[account]\naor = sip:me@example.net\n";
	static const struct {
		const char *before, *of_account;
	} rows[] = {
		{ "[daemon]\ndead-after = 60s\n", "server = 192.0.2.1\npassword = abcdefghijklmnopqrstuv\n" },
		{ "[daemon]\nexport-keys = yes\n", "server = 192.0.2.1\npassword = abcdefghijklmnopqrstuv\n" },
		{ "[daemon]\nlog-level = debug\n", "server = 192.0.2.1\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1:5070\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1;transport=udp\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1\nstun = 192.0.2.2\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1\nuser = you\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1\npassword = another-one-of-22-bytes\n" },
		{ "", "server = 192.0.2.1\npassword-file = /nonexistent\n" },
		{ "", "server = 192.0.2.1\ninsecure-digest = yes\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1\nring = 60s\npassword = abcdefghijklmnopqrstuv\n" },
		{ "", "server = 192.0.2.1\ndpd = 60s\npassword = abcdefghijklmnopqrstuv\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024];

		(void)snprintf(text, sizeof(text), "%s%s%s%s", rows[i].before, account, rows[i].of_account, rest);
		control_conf(&engine, text);
		if (TIELINE("reload") != 3 || !strstr(err_text, "restart"))
			fail_msg("taken: %s%s", rows[i].before, rows[i].of_account);
	}
	control_conf(&engine, CONTROL_CONF);
	assert_int_equal(TIELINE("reload"), 0);
}

static void reloaded(void **state)
{
	(void)state;
	assert_int_equal(TIELINE("explain", "bob@example.org/desktop"), 0);
	assert_memory_equal(out_text, "no: ", 4);
	control_conf(&engine, CONTROL_CONF "[peer sip:bob@example.org]\nkey = " OTHER_KEY "\nallow = desktop\n");
	assert_int_equal(TIELINE("reload"), 0);
	assert_int_equal(TIELINE("explain", "bob@example.org/desktop"), 0);
	assert_memory_equal(out_text, "yes: ", 5);
	/* a wrong line, another service, another account, no file: all is as it was, and it is said where and why */
	control_conf(&engine, CONTROL_CONF "[peer sip:bob@example.org]\nkex = 1\n");
	assert_int_equal(TIELINE("reload"), 3);
	assert_non_null(strstr(err_text, "tielined.conf:11"));
	control_conf(&engine, CONTROL_CONF "[service printer]\nlisten = tcp/9100\n");
	assert_int_equal(TIELINE("reload"), 3);
	assert_non_null(strstr(err_text, "restart"));
	(void)unlink(engine.conf);
	assert_int_equal(TIELINE("reload"), 3);
	assert_non_null(strstr(err_text, "cannot be opened"));
	assert_int_equal(TIELINE("explain", "bob@example.org/desktop"), 0);
	assert_memory_equal(out_text, "yes: ", 5);
	assert_int_equal(TIELINE("log"), 0);
	assert_non_null(strstr(out_text, "the configuration is read again"));
}

/* ---- lines ---- */

static struct tieline *dial(void)
{
	struct tieline *t = NULL;

	assert_int_equal(tieline_open(engine.socket, &t), 0);
	return t;
}

static json_t *next(struct tieline *t)
{
	const char *line;
	json_t *o;

	assert_int_equal(tieline_next(t, 5000, &line), 0);
	o = json_loads(line, 0, NULL);
	assert_non_null(o);
	return o;
}

static json_int_t ask(struct tieline *t, const char *line)
{
	json_int_t code;
	json_t *o;

	assert_int_equal(tieline_send(t, line), 0);
	o = next(t);
	assert_true(json_is_true(json_object_get(o, "done")));
	assert_true(strlen(harness_text(o, "reason")) > 0 || !json_integer_value(json_object_get(o, "code")));
	code = json_integer_value(json_object_get(o, "code"));
	json_decref(o);
	return code;
}

static void wrong_lines(void **state)
{
	static const char *const lines[] = {
		"x",
		"[]",
		"7",
		"{}",
		"{\"do\":7}",
		"{\"do\":\"\"}",
		"{\"do\":\"dance\"}",
		"{\"do\":\"answer\"}",
		"{\"do\":\"answer\",\"call\":0}",
		"{\"do\":\"answer\",\"call\":1}",
		"{\"do\":\"answer\",\"call\":1,\"seconds\":2592001}",
		"{\"do\":\"answer\",\"call\":1,\"request\":\"x\"}",
		"{\"do\":\"decline\"}",
		"{\"do\":\"decline\",\"call\":\"x\"}",
		"{\"do\":\"decline\",\"call\":7,\"request\":7}",
		"{\"do\":\"pair\"}",
		"{\"do\":\"netcheck\"}",
		"{\"do\":\"call\"}",
		"{\"do\":\"call\",\"to\":7}",
		"{\"do\":\"call\",\"to\":\"a@b.example\",\"timeout\":-1}",
		"{\"do\":\"call\",\"to\":\"a@b.example\",\"port\":\"x\"}",
		"{\"do\":\"call\",\"to\":\"a@b.example\",\"port\":65536}",
		"{\"do\":\"call\",\"to\":\"a@b.example\",\"sas\":true}",
		"{\"do\":\"call\",\"to\":\"a@b.example\",\"to\":\"c@d.example\"}",
		"{\"do\":\"hangup\"}",
		"{\"do\":\"hangup\",\"call\":\"x\"}",
		"{\"do\":\"hangup\",\"request\":1}",
		"{\"do\":\"hangup\",\"to\":\"\"}",
		"{\"do\":\"forward\"}",
		"{\"do\":\"forward\",\"call\":1,\"protocol\":\"sctp\",\"port\":1}",
		"{\"do\":\"forward\",\"call\":1,\"protocol\":\"tcp\",\"port\":1}",
		"{\"do\":\"trust\"}",
		"{\"do\":\"trust\",\"op\":\"burn\"}",
		"{\"do\":\"trust\",\"op\":\"add\",\"peer\":\"a@b.example\"}",
		"{\"do\":\"explain\"}",
		"{\"do\":\"ping\"}",
		"{\"do\":\"ping\",\"peer\":\"a@b.example\",\"count\":1001}",
		"{\"do\":\"status\",\"call\":-1}",
		"{\"do\":\"status\",\"id\":[1]}",
		"{\"do\":\"status\",\"id\":\"01234567890123456789012345678901234567890123456789012345678901234\"}",
		"{\"do\":\"status\",\"x\":\"\\u0000\"}",
	};
	struct tieline *t = dial();

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (ask(t, lines[i]) != 2)
			fail_msg("taken: %s", lines[i]);
	assert_int_equal(ask(t, "{\"do\":\"status\"}"), 0);
	tieline_close(t);
}

static void a_line_that_is_too_long(void **state)
{
	struct tieline *t = dial();
	char *line = malloc(TIELINE_LINE_MAX + 2);
	const char *got;

	(void)state;
	memset(line, ' ', TIELINE_LINE_MAX + 1);
	line[TIELINE_LINE_MAX - 1] = 0;
	assert_int_equal(tieline_send(t, line), 0); /* the longest that there is */
	assert_int_equal(tieline_next(t, 5000, &got), 0);
	line[TIELINE_LINE_MAX - 1] = ' ';
	assert_int_equal(send(tieline_fd(t), line, TIELINE_LINE_MAX + 1, MSG_NOSIGNAL), TIELINE_LINE_MAX + 1);
	assert_int_equal(tieline_next(t, 5000, &got), EPIPE);
	tieline_close(t);
	free(line);
	assert_int_equal(TIELINE("status"), 0);
}

static size_t n_calls(void)
{
	struct tieline *t = dial();
	json_t *o;
	size_t n;

	assert_int_equal(tieline_send(t, "{\"id\":1,\"do\":\"status\"}"), 0);
	o = next(t);
	n = json_array_size(json_object_get(json_object_get(o, "status"), "calls"));
	json_decref(o);
	tieline_close(t);
	return n;
}

/* A call that waits: hung up by the id of its command, by its end of the connection, or not at all when detached. */
static void calls_and_their_connections(void **state)
{
	struct tieline *t = dial();
	json_t *o;
	int ended = 0, done = 0;

	(void)state;
	assert_int_equal(tieline_send(t, "{\"id\":\"a\",\"do\":\"call\",\"to\":\"home@example.org\"}"), 0);
	assert_int_equal(n_calls(), 1);
	assert_int_equal(tieline_send(t, "{\"id\":2,\"do\":\"hangup\",\"request\":\"a\"}"), 0);
	for (int i = 0; i < 3; i++) {
		o = next(t);
		ended += json_object_get(o, "event") && !strcmp(harness_text(o, "event"), "ended");
		done += json_is_true(json_object_get(o, "done"));
		json_decref(o);
	}
	assert_true(ended == 1 && done == 2);
	assert_int_equal(n_calls(), 0);
	assert_int_equal(tieline_send(t, "{\"id\":3,\"do\":\"call\",\"to\":\"home@example.org\"}"), 0);
	assert_int_equal(n_calls(), 1);
	tieline_close(t);
	for (int i = 0; i < 100 && n_calls(); i++)
		(void)usleep(10000);
	assert_int_equal(n_calls(), 0);
	t = dial();
	assert_int_equal(tieline_send(t, "{\"id\":4,\"do\":\"call\",\"to\":\"home@example.org\",\"detach\":true}"), 0);
	assert_int_equal(n_calls(), 1);
	tieline_close(t);
	(void)usleep(50000);
	assert_int_equal(n_calls(), 1);
	assert_int_equal(TIELINE("hangup", "home@example.org"), 0);
	assert_int_equal(n_calls(), 0);
}

/* Somebody follows three times over one connection and never reads: he is closed while the daemon walks over its
 * requests, and everybody else goes on. */
static void a_follower_who_does_not_read(void **state)
{
	struct tieline *deaf = dial(), *t = dial();
	struct pollfd p = { .fd = tieline_fd(deaf) }; /* of interest: is it closed? */
	const char *line;
	int r;

	(void)state;
	for (int i = 1; i <= REQUESTS_MAX; i++)
		assert_int_equal(tieline_send(deaf, "{\"id\":1,\"do\":\"log\",\"follow\":true}"), 0);
	for (int i = 0; i < 10000 && poll(&p, 1, 0) == 0; i++)
		assert_int_equal(ask(t, "{\"id\":1,\"do\":\"reload\"}"), 0);
	do
		r = tieline_next(deaf, 5000, &line);
	while (!r);
	assert_int_equal(r, EPIPE);
	tieline_close(deaf);
	tieline_close(t);
	assert_int_equal(TIELINE("status"), 0);
}

/* Lines come as they are written, to several commands of one connection. */
/* Who asks to follow and is gone before the first line is told follows nothing: the next line must not be for him. */
static void a_follower_who_leaves_at_once(void **state)
{
	(void)state;
	assert_int_equal(TIELINE("reload"), 0); /* there is a line */
	for (int i = 0; i < 50; i++) {
		struct tieline *t = dial();

		assert_int_equal(tieline_send(t, "{\"id\":1,\"do\":\"log\",\"follow\":true}"), 0);
		tieline_close(t);
		assert_int_equal(TIELINE("reload"), 0);
	}
}

static void followers(void **state)
{
	struct tieline *t = dial();
	bool seen[2] = { false };

	(void)state;
	assert_int_equal(tieline_send(t, "{\"id\":0,\"do\":\"log\",\"follow\":true}"), 0);
	assert_int_equal(tieline_send(t, "{\"id\":1,\"do\":\"log\",\"follow\":true}"), 0);
	assert_int_equal(TIELINE("reload"), 0);
	while (!seen[0] || !seen[1]) {
		json_t *o = next(t);

		assert_string_equal(harness_text(o, "event"), "log");
		if (strstr(harness_text(o, "line"), "the configuration is read again"))
			seen[json_integer_value(json_object_get(o, "id"))] = true;
		json_decref(o);
	}
	tieline_close(t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, start_server, stop_server)
		CASE(no_keys_by_default),
		CASE(pins),
		CASE(explained),
		CASE(nothing_to_act_on),
		CASE(reloaded),
		CASE(needs_a_restart),
		CASE(wrong_lines),
		CASE(a_line_that_is_too_long),
		CASE(calls_and_their_connections),
		CASE(a_follower_who_does_not_read),
		CASE(a_follower_who_leaves_at_once),
		CASE(followers),
	};

	return HARNESS_RUN(tests);
}
