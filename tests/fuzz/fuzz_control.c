/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Bytes on a connection of the control socket, with an engine behind it that has no network: commands run to their end
 * or wait for a registration that never comes.
 * covers: src/daemon/command.c src/daemon/control.c src/daemon/json.c */
#include "../unit/control_engine.h"
#include "replay.h"

#define FUZZ_MAX 8192 /* bytes: well below what a socket buffer takes at once */

static struct control_engine engine;
static int client = -1;
static bool accepted;

/* Detached calls, and those whose connection is gone. */
static void end_calls(struct engine *e)
{
	struct vpn_call_status s;
	unsigned at = 0;

	while (vpn_call_status(e->vpn, &at, &s)) {
		if (vpn_hangup(e->vpn, loop_now_us(e->loop), s.id) != OK)
			abort();
		at = 0;
	}
	engine_drain(e);
}

/* After each round: what came back is thrown away; when the daemon has closed, it is over. */
static void idle(void *arg)
{
	struct engine *e = arg;
	uint8_t answer[4096];

	engine_drain(e);
	while (recv(client, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
	accepted |= e->control->n_connections > 0;
	if (!accepted || e->control->n_connections)
		return;
	end_calls(e);
	for (const struct request *r = e->control->requests; r; r = r->next)
		if (r->conn || r->kind != RQ_DEAD)
			abort(); /* something was left behind */
	loop_stop(e->loop);
}

static void finish(void)
{
	control_engine_free(&engine);
}

/* A process that waits for the end of this one, and takes away the folder that a fuzzer which is stopped or crashes would
 * leave. It holds nothing open but the pipe that tells. */
static void clean_up_after_us(const struct control_engine *c)
{
	static const char *const names[] = { "control", "tielined.conf", "pins" };
	int told[2];
	pid_t pid;

	if (pipe2(told, O_CLOEXEC) || (pid = fork()) < 0)
		abort();
	if (pid) {
		close(told[0]);
		return; /* told[1] closes when we end, however that is */
	}
	if (dup2(told[0], 0) < 0 || close_range(1, ~0u, 0) || setsid() < 0)
		_exit(1);
	while (read(0, &(char){ 0 }, 1) > 0)
		;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/%s", c->dir, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(c->dir);
	_exit(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 64;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (!engine.e.loop) {
		control_engine_new(&engine, LOG_ERROR);
		loop_hooks_set(engine.e.loop, &(struct loop_hooks){ .tick = control_tick,
								    .deadline = control_deadline,
								    .idle = idle,
								    .arg = &engine.e });
		clean_up_after_us(&engine);
		(void)atexit(finish);
	}
	size = size < FUZZ_MAX ? size : FUZZ_MAX;
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", engine.socket);
	if (client < 0 || connect(client, (struct sockaddr *)&un, sizeof(un)))
		abort();
	if (size && send(client, data, size, 0) != (ssize_t)size)
		abort();
	(void)shutdown(client, SHUT_WR);
	accepted = false;
	if (loop_run(engine.e.loop) != OK)
		abort();
	close(client);
	return 0;
}
