/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/monitor_ask.h - a monitor in a network namespace of the test's own, and what the namespace looks like then. Include after
 * <cmocka.h>. */
#pragma once
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/monitor.h"
#include "harness.h"

static int mon = -1, tun = -1;
static pid_t mon_pid;
static struct config *cfg;
static const char *file = "f"; /* where the configuration stands */

#define ACCOUNT "[account]\naor = sip:me@example.net\nserver = 192.0.2.1\npassword = abcdefghijklmnopqrstuv\n"

static void need_privilege(void)
{
	if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0 || unshare(CLONE_NEWNET) < 0) {
		print_message("# needs root and /dev/net/tun\n");
		skip();
	}
}

static enum err ask_for(const struct monitor_request *rq, struct monitor_reply *reply)
{
	int fd = -1;
	enum err e = monitor_ask(mon, rq, reply, &fd);

	if (fd >= 0)
		(void)close(fd);
	return e;
}

static enum err ask(const struct monitor_request *rq)
{
	struct monitor_reply reply;

	return ask_for(rq, &reply);
}

static struct addr ip(const char *text, uint16_t port)
{
	struct addr a;

	assert_int_equal(addr_parse_ip(span_str(text), &a), OK);
	a.port = port;
	return a;
}

static void end(void)
{
	int status = -1;

	(void)close(tun);
	(void)close(mon);
	assert_int_equal(waitpid(mon_pid, &status, 0), mon_pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	config_free(cfg);
}

/* How many of these words does the command print? */
static unsigned shows(const char *command, const char *words)
{
	char text[16384];
	/* NOLINTNEXTLINE(cert-env33-c) the commands are the test's own */
	FILE *f = popen(command, "r");
	unsigned found = 0;
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	(void)pclose(f);
	for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
		found++;
	return found;
}

static void save(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}
