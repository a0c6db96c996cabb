/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "net/stream.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/timers.h"
#include "net/udp.h"

#define N_BUCKETS 256
#define N_LISTENERS 8
#define ACCEPT_BATCH 16
/* A listener that cannot accept (no descriptors left) rests for as long. */
#define ACCEPT_REST_MS 100

enum stream_state {
	STREAM_CONNECTING, /* until STREAM_CONNECT_MS */
	STREAM_UP,
	STREAM_FLUSHING, /* our OUT_CLOSE came: write what is queued, until STREAM_CONNECT_MS */
	STREAM_ENDING /* the descriptor is closed; the event is due with the next timer run */
};

struct stream {
	struct stream *next; /* of its bucket */
	struct streams *all;
	struct loop_fd *watch;
	struct timer timer;
	struct path path;
	int fd;
	enum stream_state state;
	bool accepted, was_open;
	uint64_t last_us; /* traffic */
	uint8_t *out; /* queue: out_len bytes from out_at on */
	size_t out_at, out_len, out_cap;
};

struct listener {
	struct streams *all;
	struct loop_fd *watch;
	struct timer rest;
	int fd;
	enum transport transport;
};

struct streams {
	struct streams_config cfg;
	struct stream *buckets[N_BUCKETS];
	struct listener listeners[N_LISTENERS];
	unsigned n, n_listeners;
	uint64_t next_number;
	uint8_t in[16384];
};

/* ---- life of a stream ---- */

static struct stream **slot_of(struct streams *s, uint64_t number)
{
	struct stream **at = &s->buckets[number % N_BUCKETS];

	while (*at && (*at)->path.stream != number)
		at = &(*at)->next;
	return at;
}

static void stream_free(struct stream *st)
{
	struct stream **at = slot_of(st->all, st->path.stream);

	if (*at == st) {
		*at = st->next;
		st->all->n--;
	}
	timer_disarm(loop_timers(st->all->cfg.loop), &st->timer);
	loop_fd_free(st->watch);
	if (st->fd >= 0)
		(void)close(st->fd);
	free(st->out);
	free(st);
}

/* Tells about the end and forgets the stream. Only from the timer, so that no caller holds it. */
static void stream_gone(struct stream *st)
{
	struct streams_config cfg = st->all->cfg;
	struct path path = st->path;
	enum stream_event ev = st->was_open ? STREAM_CLOSED : STREAM_FAILED;

	stream_free(st);
	cfg.event(cfg.arg, &path, ev);
}

static uint64_t after_ms(const struct stream *st, uint64_t ms)
{
	return loop_now_us(st->all->cfg.loop) + MS(ms);
}

/* A stream's timer is armed from its beginning: arming it anew takes no memory and cannot fail. */
static void arm(struct stream *st, uint64_t due_us)
{
	enum err e = timer_arm(loop_timers(st->all->cfg.loop), &st->timer, due_us);

	assert(e == OK);
	(void)e;
}

static void stream_end(struct stream *st)
{
	if (st->state == STREAM_ENDING)
		return;
	st->state = STREAM_ENDING;
	loop_fd_free(st->watch);
	st->watch = NULL;
	(void)close(st->fd);
	st->fd = -1;
	st->out_len = 0;
	arm(st, 0);
}

static void stream_timer(void *arg, uint64_t now_us)
{
	struct stream *st = arg;
	uint64_t idle_us = SECONDS(st->all->cfg.idle_s);
	uint64_t due = TIME_NEVER - 1; /* armed, though it is never due */

	if (st->state == STREAM_UP && st->accepted && idle_us)
		due = st->last_us + idle_us;
	/* ended, or its time is over */
	if (st->state != STREAM_UP || due <= now_us || timer_arm(loop_timers(st->all->cfg.loop), &st->timer, due) != OK)
		stream_gone(st);
}

/* ---- bytes ---- */

static void watch(struct stream *st)
{
	int events = st->state == STREAM_CONNECTING ? LOOP_WRITE : 0;

	if (st->state == STREAM_UP)
		events = LOOP_READ | (st->out_len ? LOOP_WRITE : 0);
	else if (st->state == STREAM_FLUSHING)
		events = LOOP_WRITE;
	if (st->watch && loop_fd_set(st->watch, events) != OK)
		stream_end(st);
}

static void flush(struct stream *st)
{
	while (st->out_len) {
		ssize_t n = send(st->fd, st->out + st->out_at, st->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0) {
			if (errno != EAGAIN)
				stream_end(st);
			return;
		}
		st->out_at += (size_t)n;
		st->out_len -= (size_t)n;
		st->last_us = loop_now_us(st->all->cfg.loop);
	}
	st->out_at = 0;
	if (st->state == STREAM_FLUSHING)
		stream_end(st);
}

static enum err append(struct stream *st, struct span bytes)
{
	if (bytes.len > STREAM_QUEUE_MAX - st->out_len)
		return ERR_LIMIT;
	if (st->out_at && st->out_at + st->out_len + bytes.len > st->out_cap) {
		memmove(st->out, st->out + st->out_at, st->out_len);
		st->out_at = 0;
	}
	if (st->out_len + bytes.len > st->out_cap) {
		size_t cap = st->out_cap ? st->out_cap : 4096;
		uint8_t *p;

		while (cap < st->out_len + bytes.len)
			cap *= 2;
		p = realloc(st->out, cap);
		if (!p)
			return ERR_NOMEM;
		st->out = p;
		st->out_cap = cap;
	}
	if (bytes.len)
		memcpy(st->out + st->out_at + st->out_len, bytes.p, bytes.len);
	st->out_len += bytes.len;
	return OK;
}

static void stream_send(struct stream *st, struct span bytes)
{
	if (st->state != STREAM_UP && st->state != STREAM_CONNECTING)
		return;
	if (append(st, bytes) != OK) {
		stream_end(st); /* a stream with a hole in it is of no use */
		return;
	}
	if (st->state == STREAM_UP)
		flush(st);
	watch(st);
}

static void stream_close(struct stream *st)
{
	if (st->state == STREAM_CONNECTING) {
		stream_end(st);
	} else if (st->state == STREAM_UP) {
		st->state = STREAM_FLUSHING;
		arm(st, after_ms(st, STREAM_CONNECT_MS));
		flush(st);
		watch(st);
	}
}

static void stream_input(struct stream *st)
{
	struct streams *s = st->all;
	ssize_t n = recv(st->fd, s->in, sizeof(s->in), MSG_DONTWAIT);
	struct path path = st->path;

	if (n > 0) {
		st->last_us = loop_now_us(s->cfg.loop);
		s->cfg.input(s->cfg.arg, &path, span_of(s->in, (size_t)n));
	} else if (n == 0 || errno != EAGAIN) {
		stream_end(st);
	}
}

static void opened(struct stream *st)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct streams_config *cfg = &st->all->cfg;
	struct path path;

	memset(&ss, 0, sizeof(ss));
	if (getsockname(st->fd, (struct sockaddr *)&ss, &len) == 0)
		st->path.local = addr_from_sockaddr(&ss);
	st->state = STREAM_UP;
	st->was_open = true;
	st->last_us = loop_now_us(cfg->loop);
	arm(st, st->last_us); /* sets the idle time-out */
	path = st->path;
	cfg->event(cfg->arg, &path, STREAM_OPEN);
}

static void stream_ready(void *arg, int fd, int events)
{
	struct stream *st = arg;
	int fault = 0;
	socklen_t len = sizeof(fault);

	if (st->state == STREAM_CONNECTING) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len) < 0 || fault) {
			stream_end(st);
			return;
		}
		opened(st);
	}
	if ((events & LOOP_WRITE) && (st->state == STREAM_UP || st->state == STREAM_FLUSHING))
		flush(st);
	if ((events & LOOP_READ) && st->state == STREAM_UP)
		stream_input(st);
	watch(st);
}

/* ---- new streams ---- */

/* Takes fd (-1: the stream is born dead and its FAILED is due). */
static struct stream *stream_add(struct streams *s, const struct path *path, int fd, enum stream_state state)
{
	struct stream *st = calloc(1, sizeof(*st));
	struct stream **at;

	if (!st) {
		if (fd >= 0)
			(void)close(fd);
		return NULL;
	}
	*st = (struct stream){ .all = s, .path = *path, .fd = fd, .state = state };
	st->timer = (struct timer){ .fire = stream_timer, .arg = st };
	if (timer_arm(loop_timers(s->cfg.loop), &st->timer, fd < 0 ? 0 : after_ms(st, STREAM_CONNECT_MS)) != OK ||
	    (fd >= 0 && loop_fd_add(s->cfg.loop, fd, LOOP_WRITE, stream_ready, st, &st->watch) != OK)) {
		stream_free(st);
		return NULL;
	}
	at = slot_of(s, path->stream);
	st->next = *at;
	*at = st;
	s->n++;
	return st;
}

static int connect_to(const struct addr *remote)
{
	struct sockaddr_storage ss;
	unsigned len = addr_to_sockaddr(remote, &ss);
	int fd, one = 1;

	if (!len)
		return -1;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* Messages are whole when they are sent: waiting for more gains nothing. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

static struct stream *stream_open(struct streams *s, const struct path *path)
{
	int fd = -1;

	if (!path->stream || *slot_of(s, path->stream))
		return NULL; /* a number is used once: the protocol module's mistake */
	if (path->transport == TRANSPORT_TCP && s->n < s->cfg.max_streams)
		fd = connect_to(&path->remote);
	/* Without memory there is no event either: the protocol's own timers notice. */
	return stream_add(s, path, fd, fd < 0 ? STREAM_ENDING : STREAM_CONNECTING);
}

static struct stream *stream_towards(struct streams *s, const struct path *path)
{
	for (unsigned i = 0; i < N_BUCKETS; i++)
		for (struct stream *st = s->buckets[i]; st; st = st->next)
			if (st->path.transport == path->transport && addr_eq(&st->path.remote, &path->remote) &&
			    (st->state == STREAM_UP || st->state == STREAM_CONNECTING))
				return st;
	return NULL;
}

void streams_output(struct streams *s, const struct out *o)
{
	struct stream *st = o->path.stream ? *slot_of(s, o->path.stream) : NULL;
	struct path path = o->path;

	if (path.transport == TRANSPORT_UDP)
		return;
	switch (o->kind) {
	case OUT_OPEN: (void)stream_open(s, &path); break;
	case OUT_SEND:
		if (!path.stream && !(st = stream_towards(s, &path))) {
			path.stream = s->next_number++;
			st = stream_open(s, &path);
		}
		if (st)
			stream_send(st, o->bytes);
		break;
	case OUT_CLOSE:
		if (st)
			stream_close(st);
		break;
	}
}

/* ---- listening ---- */

static void accept_one(struct listener *l, int fd, const struct sockaddr_storage *from)
{
	struct streams *s = l->all;
	struct path path = { .transport = l->transport, .remote = addr_from_sockaddr(from) };
	struct stream *st;
	int one = 1;

	if (s->n >= s->cfg.max_streams) {
		(void)close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	path.stream = s->next_number++;
	st = stream_add(s, &path, fd, STREAM_CONNECTING);
	if (!st)
		return;
	st->accepted = true;
	opened(st);
	watch(st);
}

static void listener_rest(struct listener *l)
{
	uint64_t due = loop_now_us(l->all->cfg.loop) + MS(ACCEPT_REST_MS);

	/* without memory for the timer it goes on trying, which is only wasteful */
	if (timer_arm(loop_timers(l->all->cfg.loop), &l->rest, due) == OK && loop_fd_set(l->watch, 0) != OK)
		timer_disarm(loop_timers(l->all->cfg.loop), &l->rest);
}

static void listener_rested(void *arg, uint64_t now_us)
{
	struct listener *l = arg;

	(void)now_us;
	if (loop_fd_set(l->watch, LOOP_READ) != OK)
		listener_rest(l);
}

static void listener_ready(void *arg, int fd, int events)
{
	struct listener *l = arg;

	(void)events;
	for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		int got;

		memset(&from, 0, sizeof(from));
		got = accept4(fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (got >= 0) {
			accept_one(l, got, &from);
			continue;
		}
		if (errno == ECONNABORTED)
			continue;
		if (errno != EAGAIN)
			listener_rest(l);
		return;
	}
}

enum err streams_listen(struct streams *s, int listen_fd, enum transport transport)
{
	struct listener *l = &s->listeners[s->n_listeners];
	enum err e;

	if (s->n_listeners == N_LISTENERS)
		return ERR_LIMIT;
	if (transport != TRANSPORT_TCP)
		return ERR_UNSUPPORTED;
	*l = (struct listener){ .all = s, .fd = listen_fd, .transport = transport };
	l->rest = (struct timer){ .fire = listener_rested, .arg = l };
	e = loop_fd_add(s->cfg.loop, listen_fd, LOOP_READ, listener_ready, l, &l->watch);
	if (e == OK)
		s->n_listeners++;
	return e;
}

enum err tcp_listen(const struct addr *local, int *ret_fd, struct addr *ret_local)
{
	struct sockaddr_storage ss;
	unsigned len = addr_to_sockaddr(local, &ss);
	socklen_t got = sizeof(ss);
	int fd, one = 1;
	enum err e = ERR_SYSTEM;

	if (!len)
		return ERR_UNSUPPORTED;
	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return ERR_SYSTEM;
	/* Connections of an earlier run that linger in TIME-WAIT do not hold the port. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (ss.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0))
		goto fail;
	if (bind(fd, (const struct sockaddr *)&ss, len) < 0 || listen(fd, 128) < 0) {
		e = errno == EADDRINUSE ? ERR_WRONG_STATE : errno == EADDRNOTAVAIL ? ERR_NOTFOUND : ERR_SYSTEM;
		goto fail;
	}
	if (getsockname(fd, (struct sockaddr *)&ss, &got) < 0)
		goto fail;
	*ret_local = addr_from_sockaddr(&ss);
	*ret_fd = fd;
	return OK;
fail:
	(void)close(fd);
	return e;
}

/* ---- all of them ---- */

enum err streams_new(const struct streams_config *cfg, struct streams **ret)
{
	struct streams *s = calloc(1, sizeof(*s));

	if (!s)
		return ERR_NOMEM;
	s->cfg = *cfg;
	s->next_number = cfg->first_number;
	*ret = s;
	return OK;
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < N_BUCKETS; i++) {
		while (s->buckets[i]) {
			struct stream *st = s->buckets[i];

			s->buckets[i] = st->next;
			stream_free(st);
		}
	}
	for (unsigned i = 0; i < s->n_listeners; i++) {
		timer_disarm(loop_timers(s->cfg.loop), &s->listeners[i].rest);
		loop_fd_free(s->listeners[i].watch);
		(void)close(s->listeners[i].fd);
	}
	free(s);
}
