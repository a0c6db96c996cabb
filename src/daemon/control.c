/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/control.c - the control socket: connections, lines, and the events that belong to open requests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "daemon/control_impl.h"

/* ---- connections ---- */

static void connection_free(void *arg)
{
	struct connection *c = arg;

	if (c->out)
		secret_wipe(c->out, c->out_cap);
	free(c->out);
	free(c);
}

/* Calls that were made by it without `detach` end with it (docs/control-protocol.md). */
static void connection_close(struct connection *c)
{
	struct control *s = c->control;

	if (c->dead)
		return;
	c->dead = true;
	for (struct connection **at = &s->connections; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	s->n_connections--;
	for (struct request *r = s->requests, *next; r; r = next) {
		next = r->next;
		if (r->conn != c)
			continue;
		r->conn = NULL;
		if (r->kind ==
		    RQ_CALL) { /* its end frees it; without a number it is being made, and its maker sees this */
			if (r->call && !r->detach)
				(void)!vpn_hangup(s->e->vpn, loop_now_us(s->e->loop), r->call);
			continue;
		}
		if (r->kind == RQ_PING)
			pings_cancel(s->e->pings, r->token);
		r->kind = RQ_DEAD; /* somebody may be walking over the list: swept later */
	}
	loop_fd_free(c->watch);
	close(c->fd);
	if (loop_defer(s->e->loop, connection_free, c) != OK)
		log_error(&s->e->log, "no memory to free a connection");
}

static void flush(struct connection *c)
{
	while (c->out_len) {
		ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			connection_close(c);
			return;
		}
		c->out_len -= (size_t)n;
		memmove(c->out, c->out + n, c->out_len);
		secret_wipe(c->out + c->out_len, (size_t)n); /* there may have been keys in it */
	}
	if (loop_fd_set(c->watch, c->out_len ? LOOP_READ | LOOP_WRITE : LOOP_READ) != OK)
		connection_close(c);
}

static bool queue(struct connection *c, const char *text, size_t len)
{
	if (c->out_len + len + 1 > c->out_cap) {
		size_t cap = c->out_cap ? c->out_cap : 4096;
		char *grown;

		while (cap < c->out_len + len + 1)
			cap *= 2;
		if (cap > CONTROL_QUEUE_MAX)
			return false;
		grown = malloc(cap); /* realloc would leave what was there */
		if (!grown)
			return false;
		if (c->out) {
			memcpy(grown, c->out, c->out_len);
			secret_wipe(c->out, c->out_cap);
		}
		free(c->out);
		c->out = grown;
		c->out_cap = cap;
	}
	memcpy(c->out + c->out_len, text, len);
	c->out[c->out_len + len] = '\n';
	c->out_len += len + 1;
	return true;
}

void control_send(struct connection *c, json_t *line)
{
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

	json_decref(line);
	if (c->dead) {
		if (text)
			secret_wipe(text, strlen(text));
		free(text);
		return;
	}
	/* A reader who does not read is closed, rather than told something with a piece missing. */
	if (!text || strlen(text) >= TIELINE_LINE_MAX || !queue(c, text, strlen(text)))
		connection_close(c);
	else
		flush(c);
	if (text)
		secret_wipe(text, strlen(text));
	free(text);
}

void control_done(struct connection *c, const json_t *id, enum reason code, const char *reason, json_t *extra)
{
	json_t *o = json_object();

	json_object_set(o, "id", (json_t *)(uintptr_t)id);
	json_object_set_new(o, "done", json_true());
	json_object_set_new(o, "code", json_integer(code));
	json_object_set_new(o, "reason", json_string(reason));
	if (extra) {
		json_object_update(o, extra);
		json_decref(extra);
	}
	control_send(c, o);
}

/* From the loop only: nobody walks over the requests. */
static void sweep(struct control *s)
{
	for (struct request *r = s->requests, *next; r; r = next) {
		next = r->next;
		if (r->kind == RQ_DEAD)
			control_request_free(s, r);
	}
}

static void readable(struct connection *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	size_t at = 0;

	sweep(c->control);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		connection_close(c);
		return;
	}
	c->in_len += (size_t)n;
	while (!c->dead) {
		const char *end = memchr(c->in + at, '\n', c->in_len - at);
		size_t len;

		if (!end)
			break;
		len = (size_t)(end - (c->in + at));
		if (len)
			command_line(c, c->in + at, len);
		at += len + 1;
	}
	if (c->dead)
		return;
	c->in_len -= at;
	memmove(c->in, c->in + at, c->in_len);
	if (c->in_len == sizeof(c->in)) /* no line is that long */
		connection_close(c);
}

static void ready(void *arg, int fd, int events)
{
	struct connection *c = arg;

	(void)fd;
	if (events & LOOP_WRITE)
		flush(c);
	if (!c->dead && events & LOOP_READ)
		readable(c);
}

static void accept_one(void *arg, int fd, int events)
{
	struct control *s = arg;
	struct ucred who = { .uid = UINT32_MAX };
	socklen_t len = sizeof(who);
	struct connection *c;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	sweep(s);
	if (conn < 0)
		return;
	c = s->n_connections < CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c || getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &who, &len)) {
		free(c);
		close(conn);
		return;
	}
	*c = (struct connection){ .control = s, .fd = conn, .uid = who.uid };
	if (loop_fd_add(s->e->loop, conn, LOOP_READ, ready, c, &c->watch) != OK) {
		free(c);
		close(conn);
		return;
	}
	c->next = s->connections;
	s->connections = c;
	s->n_connections++;
}

/* ---- requests ---- */

struct request *control_request(struct connection *c, enum request_kind kind, json_t *id)
{
	struct control *s = c->control;
	struct request *r;
	unsigned n = 0;

	for (r = s->requests; r; r = r->next)
		n += r->conn == c;
	/* what it was told before may have shown that it is gone: nothing may point to it any more */
	r = n < REQUESTS_MAX && !c->dead ? calloc(1, sizeof(*r)) : NULL;
	if (!r)
		return NULL;
	*r = (struct request){
		.kind = kind, .conn = c, .id = json_incref(id), .token = ++s->next_token, .uid = c->uid
	};
	r->next = s->requests;
	s->requests = r;
	return r;
}

struct request *control_find(const struct connection *c, enum request_kind kind, const json_t *id)
{
	for (struct request *r = c->control->requests; r; r = r->next)
		if (r->conn == c && r->kind == kind && json_equal(r->id, id))
			return r;
	return NULL;
}

void control_request_free(struct control *s, struct request *r)
{
	for (struct request **at = &s->requests; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			break;
		}
	json_decref(r->id);
	free(r);
}

static struct request *by_token(const struct control *s, uint64_t token)
{
	for (struct request *r = s->requests; r; r = r->next)
		if (token && r->token == token)
			return r;
	return NULL;
}

bool control_owner(const struct control *s, uint64_t owner, uint32_t *ret_uid, bool *ret_any_user)
{
	const struct request *r = by_token(s, owner);

	if (!r)
		return false;
	*ret_uid = r->uid;
	*ret_any_user = r->any_user;
	return true;
}

static void to_request(struct control *s, struct request *r, const struct vpn_event *e, json_t *line)
{
	if (r->conn && !r->answered) {
		json_object_set(line, "id", r->id);
		control_send(r->conn, json_incref(line));
	}
	if (r->conn && r->detach && !r->answered && e->kind == VPN_EV_UP) {
		r->answered = true; /* docs/control-protocol.md: --detach returns when the call is up */
		control_done(r->conn, r->id, REASON_OK, "", NULL);
	}
	if (e->kind != VPN_EV_ENDED)
		return;
	if (r->conn && !r->answered)
		control_done(r->conn, r->id, e->code, e->reason, NULL);
	control_request_free(s, r);
}

/* To the connection that made the call and asked for them, and to nobody else: no subscriber, no log. */
static void keys_event(struct control *s, const struct vpn_event *e)
{
	struct request *r = by_token(s, e->owner);
	json_t *line, *text;

	if (!r || r->kind != RQ_CALL || !r->keys || !r->conn || r->answered)
		return;
	log_warn(&s->e->log, "keys of call %u are given out to user %u (%s)", e->call, r->uid, e->keys_table);
	line = json_of_event(s->e->vpn, loop_now_us(s->e->loop), e);
	text = json_incref(json_object_get(line, "line"));
	json_object_set(line, "id", r->id);
	control_send(r->conn, line);
	secret_wipe((char *)(uintptr_t)json_string_value(text), json_string_length(text));
	json_decref(text);
}

void control_event(struct control *s, const struct vpn_event *e)
{
	bool answer = e->kind == VPN_EV_GRANTED || e->kind == VPN_EV_REFUSED, taken = false;
	struct request *r = e->call ? by_token(s, e->owner) : NULL;
	json_t *line;

	if (e->kind == VPN_EV_KEYS) {
		keys_event(s, e);
		return;
	}
	line = json_of_event(s->e->vpn, loop_now_us(s->e->loop), e);
	for (struct request *x = s->requests, *next; x; x = next) {
		struct connection *c = x->conn; /* its memory outlives its end by a round of the loop */

		next = x->next;
		if (!c || (x->kind != RQ_SUBSCRIBE && x->kind != RQ_FORWARD))
			continue;
		if (x->kind == RQ_FORWARD && (x->call != e->call || taken || (!answer && e->kind != VPN_EV_ENDED)))
			continue;
		json_object_set(line, "id", x->id);
		control_send(c, json_incref(line));
		if (x->kind == RQ_SUBSCRIBE)
			continue;
		/* another forward of the same call: this answers it, and its owner is not told again */
		control_done(c, x->id, answer || e->code ? e->code : REASON_VANISHED, e->reason, NULL);
		control_request_free(s, x);
		taken = answer;
	}
	if (r && r->kind == RQ_CALL && !taken)
		to_request(s, r, e, line);
	json_decref(line);
}

void control_pinged(struct control *s, const struct ping_report *p)
{
	struct request *r = by_token(s, p->token);
	json_t *o;

	if (!r || !r->conn)
		return;
	o = json_pack("{s:O, s:s, s:i}", "id", r->id, "event", p->lost ? "lost" : "reply", "seq", (int)p->seq);
	if (!p->lost)
		json_object_set_new(o, "rtt_ms", json_real(p->rtt_us / 1000.0));
	control_send(r->conn, o);
	r = by_token(s, p->token); /* gone, if the connection broke just now */
	if (!r || !r->conn || !p->last)
		return;
	control_done(r->conn, r->id, p->n_replies ? REASON_OK : REASON_VANISHED, p->n_replies ? "" : "no reply", NULL);
	control_request_free(s, r);
}

static void follow(void *arg, const char *text)
{
	struct control *s = arg;

	for (struct request *r = s->requests, *next; r; r = next) {
		next = r->next;
		if (r->kind == RQ_LOG && r->conn)
			control_send(r->conn, json_pack("{s:O, s:s, s:o}", "id", r->id, "event", "log", "line",
							json_of_line(text)));
	}
}

/* ---- life ---- */

enum err control_new(struct engine *e, int listen_fd, struct control **ret)
{
	struct control *s = calloc(1, sizeof(*s));
	enum err r;

	if (!s)
		return ERR_NOMEM;
	s->e = e;
	s->listen_fd = listen_fd;
	r = loop_fd_add(e->loop, listen_fd, LOOP_READ, accept_one, s, &s->watch);
	if (r != OK) {
		free(s);
		return r;
	}
	journal_follow(e->journal, follow, s);
	*ret = s;
	return OK;
}

void control_free(struct control *s)
{
	if (!s)
		return;
	journal_follow(s->e->journal, NULL, NULL);
	while (s->connections)
		connection_close(s->connections);
	while (s->requests)
		control_request_free(s, s->requests);
	loop_fd_free(s->watch);
	close(s->listen_fd);
	free(s);
}
