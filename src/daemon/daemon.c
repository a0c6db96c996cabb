/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/daemon.c - the start, as root: files are read, the control socket is made; then the process splits. */
#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/engine.h"

#define VERSION "0.1.0"

static const char usage[] = "usage: tielined [-c FILE] [-s STATEDIR] [-r RUNDIR] [--log-level error|warn|info|debug]\n"
			    "  -c FILE       configuration (/etc/tieline/tielined.conf)\n"
			    "  -s STATEDIR   identity, pins, audit log (/var/lib/tieline)\n"
			    "  -r RUNDIR     control socket (/run/tieline)\n"
			    "  --help, --version\n";

struct options {
	struct daemon_paths paths;
	bool has_level;
	enum log_level level;
};

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

	*o = (struct options){ .paths = { "/etc/tieline/tielined.conf", "/var/lib/tieline", "/run/tieline" } };
	while ((c = getopt_long(argc, argv, "c:s:r:", longs, NULL)) != -1)
		switch (c) {
		case 'c': o->paths.conf = optarg; break;
		case 's': o->paths.state = optarg; break;
		case 'r': o->paths.run = optarg; break;
		case 'l':
			if (!log_level_parse(optarg, &o->level)) {
				(void)fprintf(stderr, "tielined: --log-level: expected error, warn, info or debug\n");
				return 2;
			}
			o->has_level = true;
			break;
		case 'h': (void)fputs(usage, stdout); return 0;
		case 'v': (void)puts("tielined " VERSION); return 0;
		default: (void)fputs(usage, stderr); return 2;
		}
	if (optind != argc) {
		(void)fputs(usage, stderr);
		return 2;
	}
	return -1;
}

/* 0660, of the daemon's group: who may write to it may call as this machine. */
static int control_socket(const char *run, const char *user)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct passwd *p = getpwnam(user);
	int fd;

	if (!p || snprintf(un.sun_path, sizeof(un.sun_path), "%s/control", run) >= (int)sizeof(un.sun_path)) {
		(void)fprintf(stderr, "tielined: %s: the name is too long for a socket\n", run);
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&un, sizeof(un))) {
		(void)fprintf(stderr, "tielined: %s: another tielined is running\n", un.sun_path);
		close(fd);
		return -1;
	}
	(void)unlink(un.sun_path);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&un, sizeof(un)) || lchown(un.sun_path, 0, p->pw_gid) ||
	    chmod(un.sun_path, 0660) || listen(fd, 16)) {
		(void)fprintf(stderr, "tielined: %s: %s\n", un.sun_path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static int audit_file(const char *state)
{
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/audit.log", state);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		(void)fprintf(stderr, "tielined: %s: %s\n", path, strerror(errno));
	return fd;
}

/* Everything that needs root's eyes, before anything foreign is read. */
static enum err prepare(const struct options *o, struct engine_start *s)
{
	const char *user = s->cfg->user;
	enum err e = state_directory(o->paths.state, user, 0700);

	if (e == OK)
		e = state_directory(o->paths.run, user, 0755);
	if (e == OK)
		e = state_identity(o->paths.state, s->cfg, &s->identity);
	if (e == OK)
		e = state_trust(o->paths.state, s->cfg, &s->trust);
	if (e != OK)
		return e;
	s->audit_fd = audit_file(o->paths.state);
	if (s->audit_fd < 0)
		return ERR_SYSTEM;
	e = state_give(o->paths.state, user);
	if (e != OK)
		return e;
	s->control_fd = control_socket(o->paths.run, user);
	if (s->control_fd < 0)
		return ERR_SYSTEM;
	return journal_new(o->has_level ? o->level : s->cfg->log_level, &s->journal);
}

int daemon_main(int argc, char **argv)
{
	struct options o;
	struct engine_start s = { .control_fd = -1, .audit_fd = -1 };
	char path[512];
	enum err e;
	int code = parse(argc, argv, &o);

	if (code >= 0)
		return code;
	(void)umask(077);
	if (state_config(o.paths.conf, &s.cfg) != OK)
		return 2;
	if (geteuid()) {
		(void)fprintf(stderr, "tielined: must be started as root: it makes a network namespace and a TUN, then "
				      "gives its rights away\n");
		config_free(s.cfg);
		return 1;
	}
	s.paths = &o.paths;
	e = prepare(&o, &s);
	if (e == OK) {
		code = engine_run(&s); /* takes cfg and trust */
	} else {
		/* no such user, and pins that the configuration contradicts, are the owner's to mend; the rest is trouble */
		code = e == ERR_NOTFOUND || e == ERR_DENIED || e == ERR_MALFORMED ? 2 : 1;
		config_free(s.cfg);
		trust_free(s.trust);
		if (s.control_fd >= 0)
			close(s.control_fd);
	}
	identity_free(s.identity);
	journal_free(s.journal);
	if (s.audit_fd >= 0)
		close(s.audit_fd);
	(void)snprintf(path, sizeof(path), "%s/control", o.paths.run);
	(void)unlink(path);
	return code;
}
