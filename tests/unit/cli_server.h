/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/cli_server.h - the client run against a control server that follows a script, in a process of its own.
 *
 *   "<{...}"  the next line must be this JSON ("<": any)
 *           ">..."    these bytes and a newline are sent
 *   "%N"      N bytes without a newline are sent       "INT"     the client gets this signal (INT, TERM)
 *   "x"       the connection is closed                 "wait F"  until the file F is there
 *
 * At its end the script waits for the client to close. */
#pragma once
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

static char folder[64], path[96];
static char *out_text, *err_text;

static bool expect(FILE *f, const char *want)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n = getline(&line, &cap, f);
	json_t *a = n > 0 ? json_loads(line, 0, NULL) : NULL, *b = json_loads(want, 0, NULL);
	bool same = a && (!*want || (b && json_equal(a, b)));

	if (!same)
		(void)fprintf(stderr, "# wanted %s\n# got    %s\n", want, n > 0 ? line : "nothing\n");
	json_decref(a);
	json_decref(b);
	free(line);
	return same;
}

static void send_bytes(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
}

static void send_many(int fd, long n)
{
	for (; n > 0; n--)
		send_bytes(fd, "x", 1);
}

static void await(const char *file)
{
	struct stat st;

	while (stat(file, &st) || !st.st_size)
		(void)usleep(2000);
}

/* The server's exit status: 0 if all went by the script. */
static int serve(int listener, const char *const *script)
{
	int fd = accept(listener, NULL, NULL);
	FILE *f = fdopen(dup(fd), "r");
	char byte;

	(void)alarm(20);
	for (; *script; script++) {
		const char *s = *script;

		if (*s == '<' && !expect(f, s + 1))
			return 1;
		if (*s == '>') {
			send_bytes(fd, s + 1, strlen(s + 1));
			send_bytes(fd, "\n", 1);
		}
		if (*s == '%')
			send_many(fd, atol(s + 1));
		if (!strcmp(s, "INT"))
			(void)kill(getppid(), SIGINT);
		if (!strcmp(s, "TERM"))
			(void)kill(getppid(), SIGTERM);
		if (!strncmp(s, "wait ", 5))
			await(s + 5);
		if (!strcmp(s, "x"))
			return 0;
	}
	while (fread(&byte, 1, 1, f) == 1)
		if (byte != '\n')
			return 2; /* something was sent that the script does not know of */
	return 0;
}

static int folder_new(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/tieline-cli-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/control", folder);
	return 0;
}

static int folder_free(void **state)
{
	char command[128];

	(void)state;
	free(out_text);
	free(err_text);
	out_text = err_text = NULL;
	(void)snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) ? -1 : 0;
}

/* The client alone; args end in NULL. Output goes to out_text and err_text. */
static int client(const char *const *args)
{
	char *argv[24] = { (char *)(uintptr_t) "tieline", (char *)(uintptr_t) "--control", path };
	size_t out_len, err_len;
	FILE *out, *err;
	int argc = 3, code;

	free(out_text);
	free(err_text);
	out_text = err_text = NULL;
	out = open_memstream(&out_text, &out_len);
	err = open_memstream(&err_text, &err_len);
	for (; *args; args++)
		argv[argc++] = strdup(*args); /* the client cuts its arguments in place */
	code = cli_run(argc, argv, out, err);
	(void)fclose(out);
	(void)fclose(err);
	while (argc > 3)
		free(argv[--argc]);
	return code;
}

static int client_with(const char *const *script, const char *const *args)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), code, status = 0;
	pid_t pid;

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	(void)unlink(path);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(listener, 1), 0);
	(void)fflush(NULL);
	pid = fork();
	if (!pid)
		_exit(serve(listener, script));
	close(listener);
	code = client(args);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return code;
}

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define SCRIPT ARGS
