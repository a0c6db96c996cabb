/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/control_impl.h - inside daemon/ only: connections and requests of the control socket, shared by control.c and
 * command.c. */
#pragma once
#include "daemon/engine.h"
#include "tieline/tieline.h"

#define CONNECTIONS_MAX 64
#define REQUESTS_MAX 16 /* open ones of one connection */
#define CONTROL_QUEUE_MAX (1024 * 1024)

enum request_kind { RQ_CALL, RQ_FORWARD, RQ_PING, RQ_LOG, RQ_SUBSCRIBE, RQ_DEAD };

struct connection {
	struct control *control;
	int fd;
	struct loop_fd *watch;
	uint32_t uid;
	bool dead; /* freed after the round */
	char in[TIELINE_LINE_MAX];
	size_t in_len;
	char *out;
	size_t out_len, out_cap;
	struct connection *next;
};

/* An open command. That of a call outlives its connection until the call ends, because it says whose forwards these are.
 * Others of a closed connection are RQ_DEAD until no walk over the list can be under way. */
struct request {
	enum request_kind kind;
	struct connection *conn; /* NULL: gone, or detached */
	json_t *id;
	uint64_t token;
	unsigned call;
	bool detach, any_user, answered, keys;
	uint32_t uid;
	struct request *next;
};

struct control {
	struct engine *e;
	int listen_fd;
	struct loop_fd *watch;
	struct connection *connections;
	struct request *requests;
	uint64_t next_token;
	unsigned n_connections;
};

/* control.c */
void control_send(struct connection *c, json_t *line); /* takes the reference */
void control_done(struct connection *c, const json_t *id, enum reason code, const char *reason, json_t *extra);
struct request *control_request(struct connection *c, enum request_kind kind,
				json_t *id); /* NULL: too many, or it is gone */
/* The open one of this connection that was asked with this id; NULL: none. */
struct request *control_find(const struct connection *c, enum request_kind kind, const json_t *id);
void control_request_free(struct control *c, struct request *r);

/* command.c */
void command_line(struct connection *c, const char *text, size_t len);
