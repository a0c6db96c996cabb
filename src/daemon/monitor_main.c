/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The privileged process itself: each request is checked against the configuration, then carried out. */
#include "daemon/monitor_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "daemon/state.h"
#include "net/raw.h"
#include "net/tun.h"
#include "net/udp.h"

#define LISTEN_BACKLOG 16
/* How long a service on this machine, for which two addresses are tried, is given to refuse. */
#define TARGET_WAIT_MS 2

bool monitor_has(const struct addr *list, unsigned n, const struct addr *a)
{
	for (unsigned i = 0; i < n; i++)
		if (addr_ip_eq(&list[i], a))
			return true;
	return false;
}

/* ---- the tunnel port and the TUN ---- */

static enum err bind_group(struct monitor *m, const struct monitor_request *rq, uint16_t *ret_port, int *ret_fd)
{
	struct group *g = &m->groups[rq->family == 6], *other = &m->groups[rq->family != 6];
	uint16_t port = m->cfg->port;
	enum err e;

	if ((rq->family != 4 && rq->family != 6) || rq->n_data > MONITOR_DATA_MAX || rq->index > rq->n_data)
		return ERR_MALFORMED;
	if (rq->index == 0) {
		if (g->made)
			return ERR_WRONG_STATE;
		if (!port && other->made)
			port = other->port;
		if (rq->add && (!rq->n_data || !monitor_esp_can(m->cfg)))
			return ERR_UNSUPPORTED;
		e = udp_group_open(rq->family == 6 ? ADDR_IP6 : ADDR_IP4, port, rq->n_data, g->fds, &g->port);
		if (e != OK)
			return e;
		if (rq->add)
			e = udp_give_esp(g->fds[rq->n_data]);
		if (e == OK && rq->add)
			e = monitor_esp_begin(m, g->port);
		for (unsigned i = 0; e != OK && i <= rq->n_data; i++)
			(void)close(g->fds[i]);
		if (e != OK)
			return e;
		g->n_data = rq->n_data;
		g->made = true;
	}
	if (!g->made || rq->n_data != g->n_data || g->fds[rq->index] < 0)
		return ERR_WRONG_STATE;
	*ret_port = g->port;
	*ret_fd = g->fds[rq->index];
	g->fds[rq->index] = -1; /* the caller closes it once it is sent */
	return OK;
}

static enum err open_raw_esp(const struct monitor *m, const struct monitor_request *rq, int *ret_fd)
{
	if (rq->family != 4 && rq->family != 6)
		return ERR_MALFORMED;
	return config_plain_esp(m->cfg) ? raw_esp_open(rq->family == 6 ? ADDR_IP6 : ADDR_IP4, ret_fd) : ERR_DENIED;
}

static enum err make_tun(struct monitor *m, const struct monitor_request *rq)
{
	struct tun_config cfg = {
		.name = m->cfg->interface, .mtu = TUN_MTU, .n_queues = rq->n_data, .offloads = rq->offloads
	};
	unsigned on;
	enum err e = OK;

	if (m->tun_made)
		return ERR_WRONG_STATE;
	if (m->ns_fd < 0 && !m->cfg->host)
		e = netns_new(&m->ns_fd);
	if (e == OK)
		e = tun_open(m->ns_fd, &cfg, m->tun_fds, &on);
	if (e != OK)
		return e;
	m->offloads = (uint8_t)on;
	m->n_queues = rq->n_data;
	m->tun_made = true;
	monitor_block_configured(m);
	return OK;
}

static enum err open_tun(struct monitor *m, const struct monitor_request *rq, struct monitor_reply *ret, int *ret_fd)
{
	enum err e = OK;

	if (!rq->n_data || rq->n_data > MONITOR_DATA_MAX || rq->index >= rq->n_data)
		return ERR_MALFORMED;
	if (rq->index == 0)
		e = make_tun(m, rq);
	if (e != OK)
		return e;
	if (!m->tun_made || rq->n_data != m->n_queues || m->tun_fds[rq->index] < 0)
		return ERR_WRONG_STATE;
	ret->offloads = m->offloads;
	*ret_fd = m->tun_fds[rq->index];
	m->tun_fds[rq->index] = -1; /* the caller closes it once it is sent */
	return OK;
}

/* ---- addresses and routes ---- */

static enum err address_of_key(const struct monitor_request *rq, struct addr *ret)
{
	uint8_t ip[16];
	enum err e;

	if (!rq->spki_len || rq->spki_len > sizeof(rq->spki))
		return ERR_MALFORMED;
	e = spki_address(span_of(rq->spki, rq->spki_len), ip); /* hashes it, does not read it */
	if (e == OK)
		*ret = addr_of(SPAN_OF(ip), 0);
	return e;
}

static enum err self_address(struct monitor *m, const struct monitor_request *rq)
{
	struct addr a;
	enum err e = address_of_key(rq, &a);

	if (e != OK)
		return e;
	if (!m->tun_made)
		return ERR_WRONG_STATE;
	if (monitor_has(m->self, m->n_self, &a))
		return OK;
	if (m->n_self == MONITOR_SELF_MAX)
		return ERR_LIMIT;
	if (monitor_has(m->routes, m->n_routes, &a))
		return ERR_DENIED;
	e = tun_address(m->ns_fd, m->cfg->interface, &a, true);
	if (e == OK)
		m->self[m->n_self++] = a;
	return e;
}

static bool is_configured(const struct config *cfg, const struct addr *a)
{
	for (unsigned i = 0; i < cfg->n_peers; i++)
		if (cfg->peers[i].has_address && addr_ip_eq(&cfg->peers[i].address, a))
			return true;
	return false;
}

static enum err peer_route(struct monitor *m, const struct monitor_request *rq)
{
	struct addr a = rq->peer;
	struct addr_prefix to;
	enum err e = OK;

	if (rq->spki_len)
		e = address_of_key(rq, &a);
	else if (!is_configured(m->cfg, &a))
		e = ERR_DENIED;
	if (e != OK)
		return e;
	a.port = 0;
	to = (struct addr_prefix){ .base = a, .len = (uint8_t)(addr_ip_len(&a) * 8) };
	if (!m->tun_made)
		return ERR_WRONG_STATE;
	if (monitor_has(m->self, m->n_self, &a))
		return ERR_DENIED;
	if (!rq->add) {
		for (unsigned i = 0; i < m->n_routes; i++) {
			if (addr_ip_eq(&m->routes[i], &a)) {
				m->routes[i] = m->routes[--m->n_routes];
				return monitor_route(m, &to, NULL, false);
			}
		}
		return ERR_NOTFOUND;
	}
	if (monitor_has(m->routes, m->n_routes, &a))
		return OK;
	if (m->n_routes == MONITOR_ROUTES_MAX)
		return ERR_LIMIT;
	e = monitor_route(m, &to, NULL, true);
	if (e == OK) {
		m->routes[m->n_routes++] = a;
		monitor_block(m, &to); /* for when the call is over */
	}
	return e;
}

/* ---- sockets ---- */

static const struct cfg_service *service_of(const struct config *cfg, const struct monitor_request *rq)
{
	if (!memchr(rq->service, 0, sizeof(rq->service)))
		return NULL;
	for (unsigned i = 0; i < cfg->n_services; i++)
		if (strcmp(cfg->services[i].name, rq->service) == 0)
			return &cfg->services[i];
	return NULL;
}

static enum err socket_of(int ns_fd, const struct addr *a, uint8_t protocol, int *ret_fd)
{
	int type = protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM;

	if ((protocol != IPPROTO_UDP && protocol != IPPROTO_TCP) || !addr_ip_len(a))
		return ERR_MALFORMED;
	return netns_socket(ns_fd, a->family == ADDR_IP6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC,
			    protocol, ret_fd);
}

/* A socket that only the TUN's packets reach. In the private namespace there is nothing else; in the host's, who is on the same link
 * could write under a peer's address. */
static enum err tunnel_socket(const struct monitor *m, const struct addr *a, uint8_t protocol, int *ret_fd)
{
	enum err e = socket_of(m->ns_fd, a, protocol, ret_fd);

	if (e == OK && m->cfg->host &&
	    setsockopt(*ret_fd, SOL_SOCKET, SO_BINDTODEVICE, m->cfg->interface, (socklen_t)strlen(m->cfg->interface)) <
		    0) {
		(void)close(*ret_fd);
		*ret_fd = -1;
		e = ERR_SYSTEM;
	}
	return e;
}

static enum err listen_inside(struct monitor *m, const struct monitor_request *rq, int *ret_fd)
{
	const struct cfg_service *svc = service_of(m->cfg, rq);
	struct sockaddr_storage ss;
	struct addr local = rq->peer;
	int fd, one = 1;
	enum err e;

	if (!svc || !monitor_has(m->self, m->n_self, &local))
		return ERR_DENIED;
	local.port = svc->port;
	e = tunnel_socket(m, &local, svc->protocol, &fd);
	if (e != OK)
		return e;
	if (svc->protocol == IPPROTO_TCP)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	else
		udp_fragments(fd, local.family);
	if (bind(fd, (const struct sockaddr *)&ss, addr_to_sockaddr(&local, &ss)) < 0 ||
	    (svc->protocol == IPPROTO_TCP && listen(fd, LISTEN_BACKLOG) < 0)) {
		e = errno == EADDRINUSE ? ERR_WRONG_STATE : ERR_SYSTEM;
		(void)close(fd);
		return e;
	}
	*ret_fd = fd;
	return OK;
}

static enum err of_connect(int error)
{
	switch (error) {
	case 0:
	case EINPROGRESS: return OK;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT: return ERR_NOTFOUND;
	default: return ERR_SYSTEM;
	}
}

/* Takes fd. */
static enum err connect_fd(int fd, const struct addr *to, int *ret_fd)
{
	struct sockaddr_storage ss;
	enum err e = OK;

	if (connect(fd, (const struct sockaddr *)&ss, addr_to_sockaddr(to, &ss)) < 0)
		e = of_connect(errno);
	if (e != OK)
		(void)close(fd);
	else
		*ret_fd = fd;
	return e;
}

static enum err connect_outside(const struct addr *to, uint8_t protocol, int *ret_fd)
{
	int fd;
	enum err e = socket_of(-1, to, protocol, &fd);

	return e == OK ? connect_fd(fd, to, ret_fd) : e;
}

static enum err connect_inside(struct monitor *m, const struct monitor_request *rq, int *ret_fd)
{
	struct addr to = rq->peer;
	enum err e;
	int fd;

	if (!monitor_has(m->routes, m->n_routes, &to) && !monitor_joined(m, &to))
		return ERR_DENIED;
	if (!rq->port)
		return ERR_MALFORMED;
	to.port = rq->port;
	/* what the kernel has decrypted is no packet of the TUN's, and its policies let nothing else in from there */
	e = monitor_esp_carries(m, &to) ? socket_of(m->ns_fd, &to, rq->protocol, &fd)
					: tunnel_socket(m, &to, rq->protocol, &fd);
	if (e == OK)
		e = connect_fd(fd, &to, ret_fd);
	if (e == OK && rq->protocol == IPPROTO_UDP)
		udp_fragments(*ret_fd, to.family);
	return e;
}

/* The answer of a connection on this machine is there at once, or nearly. */
static enum err settle(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int fault = 0;

	if (poll(&p, 1, TARGET_WAIT_MS) <= 0)
		return OK; /* later, then: the engine sees how it ends */
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len) < 0)
		return ERR_SYSTEM;
	return of_connect(fault);
}

static enum err connect_service(struct monitor *m, const struct monitor_request *rq, int *ret_fd)
{
	const struct cfg_service *svc = service_of(m->cfg, rq);
	struct addr to = addr_ip4(0x7f000001, 0);
	enum err e;

	if (!svc)
		return ERR_DENIED;
	if (svc->has_target)
		return connect_outside(&svc->target, svc->protocol, ret_fd);
	/* This machine, by either family. A UDP socket refuses nothing: it is IPv4. */
	for (int i = 0; i < 2; i++) {
		to.port = svc->port;
		e = connect_outside(&to, svc->protocol, ret_fd);
		if (e == OK) {
			e = settle(*ret_fd);
			if (e == OK)
				return OK;
			(void)close(*ret_fd);
			*ret_fd = -1;
		}
		to = (struct addr){ .family = ADDR_IP6, .ip = { [15] = 1 } };
	}
	return e;
}

/* ---- the configuration, again ---- */

static enum err take_over(struct monitor *m, int fd)
{
	struct conf_error why;
	struct config *cfg;
	char *text;
	size_t len;
	enum err e = state_read_fd(fd, &text, &len);

	if (e != OK)
		return e;
	e = config_parse(m->cfg->file, span_of(text, len), &cfg, &why);
	secret_wipe(text, len);
	free(text);
	if (e == OK && cfg->host != m->cfg->host) {
		config_free(cfg);
		e = ERR_DENIED;
	}
	if (e != OK)
		return e;
	config_free(m->reloaded);
	m->cfg = m->reloaded = cfg;
	monitor_networks_recheck(m);
	monitor_esp_recheck(m);
	if (m->tun_made)
		monitor_block_configured(m);
	return OK;
}

static enum err reload(struct monitor *m, const struct monitor_request *rq, int *ret_fd)
{
	int fd = m->cfg->file[0] ? open(m->cfg->file, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
	enum err e = OK;

	if (fd < 0)
		return ERR_NOTFOUND;
	if (rq->add)
		e = take_over(m, fd);
	if (e != OK || rq->add)
		(void)close(fd);
	else
		*ret_fd = fd;
	return e;
}

/* ---- the conversation ---- */

static enum err carry_out(struct monitor *m, const struct monitor_request *rq, struct monitor_reply *ret, int *ret_fd)
{
	switch (rq->op) {
	case MONITOR_BIND_GROUP: return bind_group(m, rq, &ret->port, ret_fd);
	case MONITOR_TUN: return open_tun(m, rq, ret, ret_fd);
	case MONITOR_SELF_ADDRESS: return self_address(m, rq);
	case MONITOR_PEER_ROUTE: return peer_route(m, rq);
	case MONITOR_LISTEN: return listen_inside(m, rq, ret_fd);
	case MONITOR_CONNECT: return connect_inside(m, rq, ret_fd);
	case MONITOR_RAW_ESP: return open_raw_esp(m, rq, ret_fd);
	case MONITOR_SERVICE: return connect_service(m, rq, ret_fd);
	case MONITOR_ASSIGNED: return monitor_assigned(m, rq);
	case MONITOR_NETWORK_ROUTE: return monitor_network(m, rq);
	case MONITOR_ESP_POLICY: return monitor_esp_policy(m, &rq->esp);
	case MONITOR_ESP_ADD: return monitor_esp_add(m, &rq->esp);
	case MONITOR_ESP_REMOVE: return monitor_esp_remove(m, &rq->esp);
	case MONITOR_ESP_MOVE: return monitor_esp_move(m, &rq->esp);
	case MONITOR_ESP_COUNT: return monitor_esp_count(m, &rq->esp, ret);
	case MONITOR_RELOAD: return reload(m, rq, ret_fd);
	default: return ERR_UNSUPPORTED;
	}
}

static bool answer(int to, const struct monitor_reply *reply, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)reply, .iov_len = sizeof(*reply) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	memset(&control, 0, sizeof(control));
	if (fd >= 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	do {
		n = sendmsg(to, &m, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*reply);
}

void monitor_serve(const struct config *cfg, int fd)
{
	struct monitor *m = calloc(1, sizeof(*m));
	struct monitor_request rq;
	bool alive = true;

	if (!m)
		return;
	m->cfg = cfg;
	m->ns_fd = -1;
	while (alive) {
		struct monitor_reply reply;
		int give = -1;
		ssize_t n;

		/* MSG_TRUNC: the true length. Descriptors that come along are dropped: there is no room for them. */
		n = recv(fd, &rq, sizeof(rq), MSG_TRUNC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		memset(&reply, 0, sizeof(reply));
		reply.err = n == (ssize_t)sizeof(rq) ? carry_out(m, &rq, &reply, &give) : ERR_MALFORMED;
		explicit_bzero(rq.esp.key, sizeof(rq.esp.key));
		alive = answer(fd, &reply, give);
		if (give >= 0)
			(void)close(give);
	}
	for (int i = 0; i < 2; i++)
		for (unsigned k = 0; m->groups[i].made && k <= m->groups[i].n_data; k++)
			if (m->groups[i].fds[k] >= 0)
				(void)close(m->groups[i].fds[k]);
	for (unsigned i = 0; i < m->n_queues; i++)
		if (m->tun_fds[i] >= 0)
			(void)close(m->tun_fds[i]);
	monitor_esp_end(m);
	monitor_clean(m);
	if (m->ns_fd >= 0)
		(void)close(m->ns_fd);
	config_free(m->reloaded);
	free(m);
}
