/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "daemon/relay.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/relay_impl.h"
#include "net/stream.h"
#include "net/tun.h"
#include "net/udp.h"

static enum err ask_monitor(void *arg, const struct monitor_request *rq, int *ret_fd)
{
	const struct relays *r = arg;
	struct monitor_reply reply;
	enum err e = monitor_ask(r->cfg.monitor_fd, rq, &reply, ret_fd);

	if (e == OK && *ret_fd < 0)
		return ERR_SYSTEM;
	return e;
}

static enum err open_socket(struct relays *r, const struct monitor_request *rq, int *ret_fd)
{
	if (r->cfg.open_socket)
		return r->cfg.open_socket(r->cfg.arg, rq, ret_fd);
	return ask_monitor(r, rq, ret_fd);
}

enum err relays_new(const struct relays_config *cfg, struct relays **ret)
{
	struct relays *r = calloc(1, sizeof(*r));

	if (!r)
		return ERR_NOMEM;
	r->cfg = *cfg;
	*ret = r;
	return OK;
}

const struct relay_stats *relays_stats(const struct relays *r)
{
	return &r->stats;
}

/* ---- who may ---- */

bool relay_room(const struct relays *r, unsigned call, unsigned n)
{
	unsigned of_call = relay_tcp_count(r, call) + relay_udp_count(r, call);

	return r->n_sockets + n <= r->cfg.max_sockets && of_call + n <= r->cfg.max_sockets / 2;
}

static void refused(struct relay_listener *l, const struct addr *from, const char *why)
{
	uint32_t n_more;
	char text[ADDR_TEXT];

	if (log_limit_pass(&l->r->limit, loop_now_us(l->r->cfg.loop), &n_more))
		log_warn(&l->r->cfg.log, "%s: %s refused: %s (%u more before)",
			 l->role == RELAY_SERVE ? l->service : "forward", addr_write(from, text), why, n_more);
}

bool relay_user_ok(struct relay_listener *l, const struct addr *from)
{
	uint32_t uid;

	if (l->any_user || (sock_owner(l->protocol, from, &l->local, &uid) == OK && uid == l->uid))
		return true;
	l->r->stats.n_refused_user++;
	refused(l, from, "not the user who made the call");
	return false;
}

unsigned relay_admit(struct relay_listener *l, const struct addr *from, unsigned n_sockets)
{
	struct relays *r = l->r;
	unsigned call = l->role == RELAY_FORWARD ? l->call : r->cfg.call_of_peer(r->cfg.arg, from);

	if (!call) {
		refused(l, from, "no call with this address");
		return 0;
	}
	if (!relay_room(r, call, n_sockets)) {
		refused(l, from, "too many connections");
		return 0;
	}
	return l->role == RELAY_SERVE || relay_user_ok(l, from) ? call : 0;
}

enum err relay_far_end(struct relay_listener *l, int *ret_fd)
{
	struct monitor_request rq;
	enum err e;

	memset(&rq, 0, sizeof(rq));
	if (l->role == RELAY_SERVE) {
		rq.op = MONITOR_SERVICE;
		memcpy(rq.service, l->service, sizeof(rq.service));
	} else {
		rq.op = MONITOR_CONNECT;
		rq.protocol = l->protocol;
		rq.peer = l->peer;
		rq.port = l->peer.port;
	}
	e = open_socket(l->r, &rq, ret_fd);
	if (e != OK) {
		l->r->stats.n_refused_target++;
		log_info(&l->r->cfg.log, "%s: the target cannot be reached: %s",
			 l->role == RELAY_SERVE ? l->service : "forward", err_name(e));
	}
	return e;
}

/* ---- listeners ---- */

static void rested(void *arg, uint64_t now_us)
{
	struct relay_listener *l = arg;

	if (loop_fd_set(l->watch, LOOP_READ) == OK)
		return;
	if (timer_arm(loop_timers(l->r->cfg.loop), &l->rest, now_us + MS(RELAY_REST_MS)) != OK)
		log_error(&l->r->cfg.log, "relay: out of memory: a listener stays closed");
}

static void listener_free(struct relay_listener *l)
{
	struct relay_listener **at = &l->r->listeners;

	while (*at && *at != l)
		at = &(*at)->next;
	if (*at) {
		*at = l->next;
		l->r->n_sockets--;
	}
	relay_udp_close(l, 0);
	timer_disarm(loop_timers(l->r->cfg.loop), &l->rest);
	loop_fd_free(l->watch);
	(void)close(l->fd);
	free(l);
}

/* Takes fd, also when it fails. proto is copied. */
static enum err listener_add(struct relays *r, const struct relay_listener *proto, int fd)
{
	struct relay_listener *l = malloc(sizeof(*l));
	enum err e;

	if (!l) {
		(void)close(fd);
		return ERR_NOMEM;
	}
	*l = *proto;
	l->r = r;
	l->fd = fd;
	l->rest = (struct timer){ .fire = rested, .arg = l };
	e = loop_fd_add(r->cfg.loop, fd, LOOP_READ, l->protocol == IPPROTO_TCP ? relay_tcp_ready : relay_udp_ready, l,
			&l->watch);
	if (e != OK) {
		(void)close(fd);
		free(l);
		return e;
	}
	l->next = r->listeners;
	r->listeners = l;
	r->n_sockets++;
	return OK;
}

enum err relays_serve(struct relays *r, const struct addr *self, const struct cfg_service *svc)
{
	struct relay_listener l = { .role = RELAY_SERVE, .protocol = svc->protocol, .local = *self };
	struct monitor_request rq;
	enum err e;
	int fd;

	if (r->n_sockets >= r->cfg.max_sockets)
		return ERR_LIMIT;
	memset(&rq, 0, sizeof(rq));
	rq.op = MONITOR_LISTEN;
	rq.peer = *self;
	memcpy(rq.service, svc->name, sizeof(rq.service));
	memcpy(l.service, svc->name, sizeof(l.service));
	e = open_socket(r, &rq, &fd);
	return e == OK ? listener_add(r, &l, fd) : e;
}

static struct relay_listener *forward_find(struct relays *r, unsigned call, uint32_t grant_id)
{
	struct relay_listener *l = r->listeners;

	while (l && !(l->role == RELAY_FORWARD && l->call == call && l->grant_id == grant_id))
		l = l->next;
	return l;
}

enum err relays_forward(struct relays *r, unsigned call, uint32_t grant_id, uint8_t protocol, const struct addr *peer,
			uint16_t local_port, uint32_t uid, bool any_user, struct addr *ret_local)
{
	struct relay_listener l = { .role = RELAY_FORWARD,
				    .protocol = protocol,
				    .call = call,
				    .grant_id = grant_id,
				    .uid = uid,
				    .any_user = any_user,
				    .peer = *peer };
	struct addr wish = addr_ip4(0x7f000001, local_port);
	enum err e;
	int fd;

	if (!call || !peer->port || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return ERR_UNSUPPORTED;
	if (forward_find(r, call, grant_id))
		return ERR_WRONG_STATE;
	if (r->n_sockets >= r->cfg.max_sockets)
		return ERR_LIMIT;
	e = protocol == IPPROTO_TCP ? tcp_listen(&wish, &fd, &l.local) : udp_open(&wish, &fd, &l.local);
	if (e != OK)
		return e;
	e = listener_add(r, &l, fd);
	if (e == OK)
		*ret_local = l.local;
	return e;
}

void relays_forward_close(struct relays *r, unsigned call, uint32_t grant_id)
{
	struct relay_listener *l = forward_find(r, call, grant_id);

	if (!l)
		return;
	relay_tcp_close(r, call, &grant_id);
	listener_free(l);
}

void relays_service_close(struct relays *r, unsigned call, const char *service)
{
	for (struct relay_listener *l = r->listeners; l && call; l = l->next)
		if (l->role == RELAY_SERVE && !strcmp(l->service, service)) {
			relay_tcp_close_at(l, call);
			relay_udp_close(l, call);
		}
}

void relays_call_close(struct relays *r, unsigned call)
{
	struct relay_listener *l = r->listeners;

	if (!call)
		return;
	relay_tcp_close(r, call, NULL);
	while (l) {
		struct relay_listener *next = l->next;

		if (l->role == RELAY_FORWARD && l->call == call)
			listener_free(l);
		else
			relay_udp_close(l, call);
		l = next;
	}
}

void relays_free(struct relays *r)
{
	if (!r)
		return;
	relay_tcp_close(r, 0, NULL);
	while (r->listeners) {
		struct relay_listener *l = r->listeners;

		r->listeners = l->next;
		listener_free(l);
	}
	free(r);
}
