/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* UDP relayed: a session for each address that speaks to a listener, with a connected socket of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/relay_impl.h"
#include "net/udp.h"

struct relay_session {
	struct relay_session *next;
	struct relay_listener *l;
	struct loop_fd *watch;
	struct timer idle;
	int fd;
	unsigned call;
	struct addr near; /* who speaks to the listener */
	uint64_t last_us, checked_us;
};

static void session_free(struct relay_session *s)
{
	struct relay_session **at = &s->l->sessions;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at) {
		*at = s->next;
		s->l->r->n_sockets--;
		s->l->r->stats.n_open--;
	}
	timer_disarm(loop_timers(s->l->r->cfg.loop), &s->idle);
	loop_fd_free(s->watch);
	(void)close(s->fd);
	free(s);
}

static void idle(void *arg, uint64_t now_us)
{
	struct relay_session *s = arg;
	uint64_t due = s->last_us + SECONDS(RELAY_UDP_IDLE_S);

	if (due <= now_us || timer_arm(loop_timers(s->l->r->cfg.loop), &s->idle, due) != OK)
		session_free(s);
}

/* From the far end back to who began. */
static void session_ready(void *arg, int fd, int events)
{
	struct relay_session *s = arg;
	struct relays *r = s->l->r;
	struct sockaddr_storage to;
	unsigned to_len = addr_to_sockaddr(&s->near, &to);

	(void)events;
	for (int i = 0; i < UDP_BATCH; i++) {
		ssize_t n = recv(fd, r->datagram, sizeof(r->datagram), MSG_DONTWAIT);

		if (n < 0) {
			/* ECONNREFUSED: the target is not there now. UDP's users live with that; the idle time-out
			 * ends the session. */
			if (errno != EAGAIN)
				r->stats.n_refused_target++;
			return;
		}
		s->last_us = loop_now_us(r->cfg.loop);
		/* what does not fit the socket's buffer is lost, as in any network */
		(void)sendto(s->l->fd, r->datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL,
			     (const struct sockaddr *)&to, to_len);
	}
}

static unsigned of_address(const struct relay_listener *l, const struct addr *near)
{
	unsigned n = 0;

	for (const struct relay_session *s = l->sessions; s; s = s->next)
		n += addr_ip_eq(&s->near, near);
	return n;
}

static struct relay_session *session_add(struct relay_listener *l, const struct addr *near)
{
	struct relays *r = l->r;
	struct relay_session *s;
	uint64_t now = loop_now_us(r->cfg.loop);
	unsigned call;
	int fd;

	if (of_address(l, near) >= RELAY_UDP_PER_ADDRESS)
		return NULL;
	call = relay_admit(l, near, 1);
	if (!call || relay_far_end(l, &fd) != OK)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s) {
		(void)close(fd);
		return NULL;
	}
	*s = (struct relay_session){ .l = l, .fd = fd, .call = call, .near = *near, .last_us = now, .checked_us = now };
	s->idle = (struct timer){ .fire = idle, .arg = s };
	if (loop_fd_add(r->cfg.loop, fd, LOOP_READ, session_ready, s, &s->watch) != OK ||
	    timer_arm(loop_timers(r->cfg.loop), &s->idle, now + SECONDS(RELAY_UDP_IDLE_S)) != OK) {
		session_free(s);
		return NULL;
	}
	s->next = l->sessions;
	l->sessions = s;
	r->n_sockets++;
	r->stats.n_open++;
	r->stats.n_total++;
	return s;
}

/* The session that a datagram from this address belongs to, perhaps a new one. NULL: it is dropped. */
static struct relay_session *session_of(struct relay_listener *l, const struct addr *near)
{
	struct relay_session *s = l->sessions;
	uint64_t now = loop_now_us(l->r->cfg.loop);

	while (s && !addr_eq(&s->near, near))
		s = s->next;
	if (!s)
		return session_add(l, near);
	/* A port changes hands without a word: look again whose it is, but not for each datagram. */
	if (l->role == RELAY_FORWARD && now - s->checked_us >= SECONDS(RELAY_UDP_CHECK_S)) {
		if (!relay_user_ok(l, near)) {
			session_free(s);
			return NULL;
		}
		s->checked_us = now;
	}
	return s;
}

void relay_udp_ready(void *arg, int fd, int events)
{
	struct relay_listener *l = arg;
	struct relays *r = l->r;

	(void)events;
	for (int i = 0; i < UDP_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct relay_session *s;
		struct addr near;
		ssize_t n;

		memset(&ss, 0, sizeof(ss));
		n = recvfrom(fd, r->datagram, sizeof(r->datagram), MSG_DONTWAIT, (struct sockaddr *)&ss, &len);
		if (n < 0)
			return;
		near = addr_from_sockaddr(&ss);
		s = session_of(l, &near);
		if (!s)
			continue;
		s->last_us = loop_now_us(r->cfg.loop);
		/* ECONNREFUSED here is an earlier datagram's fate: once more sends this one */
		if (send(s->fd, r->datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED)
			(void)send(s->fd, r->datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

void relay_udp_close(struct relay_listener *l, unsigned call)
{
	struct relay_session *s = l->sessions;

	while (s) {
		struct relay_session *next = s->next;

		if (!call || s->call == call)
			session_free(s);
		s = next;
	}
}

unsigned relay_udp_count(const struct relays *r, unsigned call)
{
	unsigned n = 0;

	for (const struct relay_listener *l = r->listeners; l; l = l->next)
		for (const struct relay_session *s = l->sessions; s; s = s->next)
			n += s->call == call;
	return n;
}
