/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/control_engine.h - an engine with everything behind the control socket and nothing else: no tunnel, no
 * server. Its calls wait for a registration that never comes. Of the monitor it has the reading of the configuration. */
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/cert.h"
#include "crypto/secret.h"
#include "daemon/control_impl.h"
#include "daemon/monitor.h"

#define CONTROL_KEY "sha-256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define CONTROL_CONF                                                                                                   \
	"[account]\naor = sip:me@example.net\nserver = 192.0.2.1\npassword = abcdefghijklmnopqrstuv\n"                 \
	"[service desktop]\nlisten = tcp/5900\n"                                                                       \
	"[peer sip:home@example.org]\nkey = " CONTROL_KEY "\nallow = desktop\n"

struct control_engine {
	struct engine e;
	struct daemon_paths paths;
	struct identity *identity;
	struct rng rng;
	pid_t monitor;
	char dir[64], conf[96], socket[96];
};

static int64_t control_wall_s(void *arg)
{
	(void)arg;
	return loop_wall_s();
}

static inline void control_pinged_cb(void *arg, const struct ping_report *r)
{
	struct engine *e = arg;

	control_pinged(e->control, r);
}

static inline void control_idle(void *arg)
{
	engine_drain(arg);
}

static inline void control_tick(void *arg, uint64_t now_us)
{
	struct engine *e = arg;

	vpn_tick(e->vpn, now_us);
}

static inline uint64_t control_deadline(void *arg)
{
	struct engine *e = arg;

	return vpn_deadline_us(e->vpn);
}

static inline void control_conf(const struct control_engine *c, const char *text)
{
	FILE *f = fopen(c->conf, "w");

	if (!f || fputs(text, f) < 0 || fclose(f))
		abort();
}

static inline int control_listen(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&un, sizeof(un)) || listen(fd, 16))
		abort();
	return fd;
}

#define CONTROL_MUST(call)                                                                                             \
	do {                                                                                                           \
		if ((call) != OK)                                                                                      \
			abort();                                                                                       \
	} while (0)

static inline void control_engine_new(struct control_engine *c, enum log_level level)
{
	static const char *const mails[] = { "me@example.net" };
	struct relays_config relays = { .monitor_fd = -1, .max_sockets = 16, .arg = &c->e };
	struct vpn_env env = { .wall_s = control_wall_s };
	struct conf_error why;
	struct config *cfg;
	struct trust *trust;

	memset(c, 0, sizeof(*c));
	(void)snprintf(c->dir, sizeof(c->dir), "/tmp/tieline-control-XXXXXX");
	if (!mkdtemp(c->dir))
		abort();
	(void)snprintf(c->conf, sizeof(c->conf), "%s/tielined.conf", c->dir);
	(void)snprintf(c->socket, sizeof(c->socket), "%s/control", c->dir);
	c->paths = (struct daemon_paths){ .conf = c->conf, .state = c->dir, .run = c->dir };
	control_conf(c, CONTROL_CONF);
	c->rng = crypto_rng();
	c->e = (struct engine){ .paths = &c->paths, .monitor_fd = -1, .tell_fd = -1 };
	c->e.audit_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	CONTROL_MUST(journal_new(level, &c->e.journal));
	c->e.log = log_of(journal_sink(c->e.journal), "daemon", "");
	CONTROL_MUST(loop_new(&c->e.loop));
	CONTROL_MUST(identity_generate(mails, 1, loop_wall_s(), &c->identity));
	CONTROL_MUST(config_parse(c->conf, span_str(CONTROL_CONF), &cfg, &why));
	CONTROL_MUST(monitor_start(cfg, &c->e.monitor_fd, &c->monitor));
	CONTROL_MUST(trust_new(&trust));
	CONTROL_MUST(trust_load(trust, "pins", SPAN_NONE, cfg, &why));
	env.rng = &c->rng;
	env.log = journal_sink(c->e.journal);
	CONTROL_MUST(vpn_new(&env, cfg, trust, c->identity, &c->e.vpn));
	relays.loop = c->e.loop;
	CONTROL_MUST(relays_new(&relays, &c->e.relays));
	CONTROL_MUST(pings_new(&c->e, control_pinged_cb, &c->e, &c->e.pings));
	CONTROL_MUST(control_new(&c->e, control_listen(c->socket), &c->e.control));
	loop_hooks_set(c->e.loop, &(struct loop_hooks){ .tick = control_tick,
							.deadline = control_deadline,
							.idle = control_idle,
							.arg = &c->e });
}

static inline void control_engine_free(struct control_engine *c)
{
	static const char *const names[] = { "control", "tielined.conf", "pins" };
	char path[128];

	control_free(c->e.control);
	relays_free(c->e.relays);
	pings_free(c->e.pings);
	vpn_free(c->e.vpn);
	loop_free(c->e.loop);
	identity_free(c->identity);
	journal_free(c->e.journal);
	close(c->e.audit_fd);
	close(c->e.monitor_fd);
	(void)waitpid(c->monitor, NULL, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", c->dir, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(c->dir);
}
