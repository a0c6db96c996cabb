/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* TCP spliced: two sockets and a buffer for each direction. A direction is read only when its buffer is empty,
 * so that a slow reader slows its writer; the end of one direction is passed on and the other goes on. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/relay_impl.h"
#include "net/udp.h"

/* Rounds of read and write at one readiness, so that one fast flow does not hold up the others. */
#define PUMP_ROUNDS 4

struct direction {
	size_t at, len; /* what is left to write */
	bool eof, shut; /* the reader saw the end; the writer was told */
	uint8_t buffer[RELAY_BUFFER];
};

struct relay_splice {
	struct relay_splice *next;
	struct relays *r;
	const struct relay_listener *l; /* where it was accepted; it does not outlive it */
	unsigned call;
	bool by_forward;
	uint32_t grant_id; /* if by_forward */
	bool connecting; /* the far end, side 1 */
	struct timer limit; /* of connecting, then of being half closed and silent */
	uint64_t last_us;
	struct end {
		int fd;
		struct loop_fd *watch;
	} ends[2];
	struct direction dir[2]; /* dir[i]: from ends[i] to ends[1 - i] */
};

static void quit(int fd, bool reset)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (reset)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(fd);
}

static void splice_free(struct relay_splice *s, bool reset)
{
	struct relay_splice **at = &s->r->splices;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at) {
		*at = s->next;
		s->r->n_sockets -= 2;
		s->r->stats.n_open--;
	}
	timer_disarm(loop_timers(s->r->cfg.loop), &s->limit);
	for (int i = 0; i < 2; i++) {
		loop_fd_free(s->ends[i].watch);
		quit(s->ends[i].fd, reset);
	}
	free(s);
}

/* Moves bytes of one direction. False: the connection is broken. */
static bool pump(struct relay_splice *s, int from)
{
	struct direction *d = &s->dir[from];
	int in = s->ends[from].fd, out = s->ends[1 - from].fd;

	s->last_us = loop_now_us(s->r->cfg.loop);
	for (int round = 0; round < PUMP_ROUNDS; round++) {
		ssize_t n;

		if (!d->len && !d->eof) {
			n = recv(in, d->buffer, sizeof(d->buffer), MSG_DONTWAIT);
			if (n < 0 && errno != EAGAIN)
				return false;
			if (n < 0)
				break;
			d->eof = n == 0;
			d->at = 0;
			d->len = (size_t)n;
		}
		if (!d->len || s->connecting)
			break;
		n = send(out, d->buffer + d->at, d->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0)
			break;
		d->at += (size_t)n;
		d->len -= (size_t)n;
		if (d->len)
			break;
	}
	if (d->eof && !d->len && !d->shut && !s->connecting) {
		d->shut = true;
		/* the other side may have gone already: then reading it will tell */
		(void)shutdown(out, SHUT_WR);
		/* Who closed for good and who only ended his half look the same: the other half has its time. */
		return timer_arm(loop_timers(s->r->cfg.loop), &s->limit, s->last_us + SECONDS(RELAY_HALF_CLOSED_S)) ==
		       OK;
	}
	return true;
}

static bool watch(struct relay_splice *s)
{
	for (int i = 0; i < 2; i++) {
		bool waits = i == 1 && s->connecting;
		int events = (!waits && !s->dir[i].eof && !s->dir[i].len ? LOOP_READ : 0) |
			     (waits || s->dir[1 - i].len ? LOOP_WRITE : 0);

		if (loop_fd_set(s->ends[i].watch, events) != OK)
			return false;
	}
	return true;
}

static void target_failed(struct relay_splice *s)
{
	s->r->stats.n_refused_target++;
	splice_free(s, true);
}

static void end_ready(void *arg, int fd, int events)
{
	struct relay_splice *s = arg;
	int i = fd == s->ends[1].fd, fault = 0;
	socklen_t len = sizeof(fault);
	bool whole;

	if (i == 1 && s->connecting) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len) < 0 || fault) {
			target_failed(s);
			return;
		}
		s->connecting = false;
		timer_disarm(loop_timers(s->r->cfg.loop), &s->limit);
		events = LOOP_WRITE;
	}
	whole = (!(events & LOOP_READ) || pump(s, i)) && (!(events & LOOP_WRITE) || pump(s, 1 - i));
	if (whole && s->dir[0].shut && s->dir[1].shut)
		splice_free(s, false);
	else if (!whole || !watch(s))
		splice_free(s, true);
}

static void limit_reached(void *arg, uint64_t now_us)
{
	struct relay_splice *s = arg;
	uint64_t due = s->last_us + SECONDS(RELAY_HALF_CLOSED_S);

	if (s->connecting)
		target_failed(s);
	else if (due <= now_us || timer_arm(loop_timers(s->r->cfg.loop), &s->limit, due) != OK)
		splice_free(s, true);
}

/* Takes both descriptors. */
static void splice_add(struct relay_listener *l, unsigned call, int near, int far)
{
	struct relay_splice *s = calloc(1, sizeof(*s));
	struct relays *r = l->r;
	int one = 1;

	if (!s) {
		quit(near, true);
		quit(far, true);
		return;
	}
	s->r = r;
	s->l = l;
	s->call = call;
	s->by_forward = l->role == RELAY_FORWARD;
	s->grant_id = l->grant_id;
	s->connecting = true;
	s->ends[0].fd = near;
	s->ends[1].fd = far;
	s->limit = (struct timer){ .fire = limit_reached, .arg = s };
	for (int i = 0; i < 2; i++) {
		(void)setsockopt(s->ends[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		(void)setsockopt(s->ends[i].fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	}
	if (loop_fd_add(r->cfg.loop, near, LOOP_READ, end_ready, s, &s->ends[0].watch) != OK ||
	    loop_fd_add(r->cfg.loop, far, LOOP_WRITE, end_ready, s, &s->ends[1].watch) != OK ||
	    timer_arm(loop_timers(r->cfg.loop), &s->limit, loop_now_us(r->cfg.loop) + SECONDS(RELAY_CONNECT_S)) != OK) {
		splice_free(s, true);
		return;
	}
	s->next = r->splices;
	r->splices = s;
	r->n_sockets += 2;
	r->stats.n_open++;
	r->stats.n_total++;
}

static void accepted(struct relay_listener *l, int near, const struct addr *from)
{
	unsigned call = relay_admit(l, from, 2);
	int far;

	if (!call || relay_far_end(l, &far) != OK)
		quit(near, true);
	else
		splice_add(l, call, near, far);
}

void relay_tcp_ready(void *arg, int fd, int events)
{
	struct relay_listener *l = arg;
	uint64_t due = loop_now_us(l->r->cfg.loop) + MS(RELAY_REST_MS);

	(void)events;
	for (int i = 0; i < RELAY_ACCEPT_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct addr from;
		int got;

		memset(&ss, 0, sizeof(ss));
		got = accept4(fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (got >= 0) {
			from = addr_from_sockaddr(&ss);
			accepted(l, got, &from);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != ECONNABORTED) {
			/* no descriptors left, for example: it would be ready again at once */
			if (timer_arm(loop_timers(l->r->cfg.loop), &l->rest, due) == OK &&
			    loop_fd_set(l->watch, 0) != OK)
				timer_disarm(loop_timers(l->r->cfg.loop), &l->rest);
			return;
		}
	}
}

void relay_tcp_close(struct relays *r, unsigned call, const uint32_t *grant_id)
{
	struct relay_splice *s = r->splices;

	while (s) {
		struct relay_splice *next = s->next;

		if ((!call || s->call == call) && (!grant_id || (s->by_forward && s->grant_id == *grant_id)))
			splice_free(s, true);
		s = next;
	}
}

void relay_tcp_close_at(const struct relay_listener *l, unsigned call)
{
	struct relay_splice *s = l->r->splices;

	while (s) {
		struct relay_splice *next = s->next;

		if (s->l == l && s->call == call)
			splice_free(s, true);
		s = next;
	}
}

unsigned relay_tcp_count(const struct relays *r, unsigned call)
{
	unsigned n = 0;

	for (const struct relay_splice *s = r->splices; s; s = s->next)
		n += s->call == call ? 2 : 0;
	return n;
}
