/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/host.c - the exchange's process: sockets around the core. */
#include "exchange/host.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "ice/stun.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/udp.h"

/* A registered device without keepalives of its own is heard at least when it registers again. */
#define IDLE_S (EXCHANGE_EXPIRES_MAX_S + 60)
#define FILES_WANTED (EXCHANGE_STREAMS_MAX + 64)

struct port {
	struct host *h;
	int fd; /* -1: not open */
	struct addr local;
	struct loop_fd *watch;
	bool is_stun;
};

struct host {
	const struct exchange_config *cfg;
	struct log log;
	struct rng rng;
	struct loop *loop;
	struct streams *streams;
	struct exchange *x;
	struct udp_buffers *buffers;
	struct port ports[2 * EXCHANGE_LISTEN_MAX];
	unsigned n_ports;
	uint64_t n_stun;
};

static int64_t wall(void *arg)
{
	(void)arg;
	return loop_wall_s();
}

/* ---- out ---- */

static int socket_from(const struct host *h, const struct addr *local)
{
	for (unsigned i = 0; i < h->n_ports; i++) {
		const struct port *p = &h->ports[i];

		if (!p->is_stun && p->local.family == local->family && p->local.port == local->port &&
		    (addr_is_any(&p->local) || addr_ip_eq(&p->local, local)))
			return p->fd;
	}
	return -1;
}

static void drain(void *arg)
{
	struct host *h = arg;
	struct out o;

	while (exchange_poll_output(h->x, &o)) {
		if (o.path.transport != TRANSPORT_UDP) {
			streams_output(h->streams, &o);
		} else if (o.kind == OUT_SEND) {
			int fd = socket_from(h, &o.path.local);

			/* What cannot leave is like a lost datagram: transactions repeat it. */
			if (fd >= 0)
				(void)!udp_send(fd, &o.path, SPAN_NONE, o.bytes);
		}
	}
}

/* ---- in ---- */

static void stun(struct host *h, const struct port *p, const struct udp_msg *m)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	if (!stun_serve(span_of(m->p, m->len), &m->path.remote, &w))
		return;
	h->n_stun++;
	(void)!udp_send(p->fd, &m->path, SPAN_NONE, wr_done(&w));
}

static void readable(void *arg, int fd, int events)
{
	struct port *p = arg;
	struct host *h = p->h;
	struct udp_msg msgs[UDP_BATCH];
	unsigned n = udp_recv(fd, p->local.port, h->buffers, msgs);

	(void)events;
	for (unsigned i = 0; i < n; i++) {
		if (p->is_stun) {
			stun(h, p, &msgs[i]);
			continue;
		}
		exchange_input(h->x, loop_now_us(h->loop), &msgs[i].path, span_of(msgs[i].p, msgs[i].len));
		drain(h);
	}
}

static void stream_bytes(void *arg, const struct path *path, struct span bytes)
{
	struct host *h = arg;

	exchange_input(h->x, loop_now_us(h->loop), path, bytes);
	drain(h);
}

static void stream_told(void *arg, const struct path *path, enum stream_event ev)
{
	struct host *h = arg;

	exchange_stream(h->x, loop_now_us(h->loop), path, ev);
}

static void tick(void *arg, uint64_t now_us)
{
	exchange_tick(((struct host *)arg)->x, now_us);
}

static uint64_t deadline(void *arg)
{
	return exchange_deadline_us(((struct host *)arg)->x);
}

/* ---- signals ---- */

static void tell_counters(const struct host *h)
{
	struct exchange_stats s;

	exchange_stats(h->x, &s);
	log_info(&h->log,
		 "%llu messages in, %llu malformed, %llu challenged, %llu bindings made, %llu forwarded, %llu refused, "
		 "%llu stray, "
		 "%llu streams closed, %llu STUN; now %u devices, %u requests, %u streams",
		 (unsigned long long)s.n_in, (unsigned long long)s.n_malformed, (unsigned long long)s.n_challenged,
		 (unsigned long long)s.n_registered, (unsigned long long)s.n_forwarded, (unsigned long long)s.n_refused,
		 (unsigned long long)s.n_stray, (unsigned long long)s.n_streams_closed, (unsigned long long)h->n_stun,
		 s.n_bindings, s.n_contexts, s.n_streams);
}

static void signalled(void *arg, int signo)
{
	struct host *h = arg;

	tell_counters(h);
	if (signo != SIGUSR1)
		loop_stop(h->loop);
}

/* ---- life ---- */

static const char *why_not(enum err e)
{
	return e == ERR_WRONG_STATE ? "the port is in use"
	       : e == ERR_NOTFOUND  ? "this machine has no such address"
	       : errno              ? strerror(errno)
				    : err_name(e);
}

static enum err udp_port(struct host *h, const struct addr *local, bool is_stun)
{
	struct port *p = &h->ports[h->n_ports];
	char text[ADDR_TEXT];
	enum err e;

	*p = (struct port){ .h = h, .fd = -1, .is_stun = is_stun };
	errno = 0;
	e = udp_open(local, &p->fd, &p->local);
	if (e != OK) {
		log_error(&h->log, "cannot listen on %s by UDP: %s", addr_write(local, text), why_not(e));
		return e;
	}
	h->n_ports++;
	return loop_fd_add(h->loop, p->fd, LOOP_READ, readable, p, &p->watch);
}

static enum err tcp_port(struct host *h, const struct addr *local)
{
	char text[ADDR_TEXT];
	struct addr bound;
	enum err e;
	int fd;

	errno = 0;
	e = tcp_listen(local, &fd, &bound);
	if (e != OK) {
		log_error(&h->log, "cannot listen on %s by TCP: %s", addr_write(local, text), why_not(e));
		return e;
	}
	return streams_listen(h->streams, fd, TRANSPORT_TCP);
}

static enum err open_all(struct host *h)
{
	char text[ADDR_TEXT];
	enum err e = OK;

	for (unsigned i = 0; e == OK && i < h->cfg->n_listen; i++) {
		e = udp_port(h, &h->cfg->listen[i], false);
		/* port 0: any, and then the same for both */
		if (e == OK)
			e = tcp_port(h, &h->ports[h->n_ports - 1].local);
		if (e == OK)
			log_info(&h->log, "SIP on %s by UDP and TCP",
				 addr_write(&h->ports[h->n_ports - 1].local, text));
	}
	for (unsigned i = 0; e == OK && i < h->cfg->n_stun; i++) {
		e = udp_port(h, &h->cfg->stun[i], true);
		if (e == OK)
			log_info(&h->log, "STUN on %s", addr_write(&h->ports[h->n_ports - 1].local, text));
	}
	return e;
}

static void allow_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= FILES_WANTED)
		return;
	r.rlim_cur = r.rlim_max < FILES_WANTED ? r.rlim_max : FILES_WANTED;
	(void)setrlimit(RLIMIT_NOFILE, &r); /* with less, fewer streams are accepted */
}

/* As root we become the configured user for good; otherwise we stay who we are. Either way nothing is gained by exec. */
static enum err give_up_rights(struct host *h)
{
	struct passwd *pw;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		log_error(&h->log, "no_new_privs: %s", strerror(errno));
		return ERR_SYSTEM;
	}
	if (geteuid())
		return OK;
	pw = getpwnam(h->cfg->user);
	if (!pw || !pw->pw_uid) {
		log_error(&h->log, "user \"%s\" %s; expected user = NAME in [exchange] of one without rights",
			  h->cfg->user, pw ? "is root" : "does not exist");
		return ERR_MALFORMED;
	}
	if (setgroups(0, NULL) || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) || !setuid(0)) {
		log_error(&h->log, "cannot become user \"%s\": %s", h->cfg->user, strerror(errno));
		return ERR_SYSTEM;
	}
	return OK;
}

static enum err make(struct host *h, const struct log_sink *log)
{
	struct exchange_env env = { .rng = &h->rng, .log = log, .wall_s = wall };
	struct loop_hooks hooks = { .tick = tick, .deadline = deadline, .idle = drain, .arg = h };
	struct streams_config sc = { .max_streams = EXCHANGE_STREAMS_MAX,
				     .first_number = 1,
				     .idle_s = IDLE_S,
				     .input = stream_bytes,
				     .event = stream_told,
				     .arg = h };
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1 };
	enum err e = loop_new(&h->loop);

	h->buffers = udp_buffers_new();
	if (e == OK && !h->buffers)
		e = ERR_NOMEM;
	if (e != OK)
		return e;
	sc.loop = h->loop;
	e = streams_new(&sc, &h->streams);
	if (e == OK)
		e = exchange_new(&env, h->cfg, &h->x);
	if (e == OK)
		e = open_all(h);
	loop_hooks_set(h->loop, &hooks);
	for (unsigned i = 0; e == OK && i < sizeof(signals) / sizeof(signals[0]); i++)
		e = loop_signal(h->loop, signals[i], signalled, h);
	return e;
}

enum err host_new(const struct exchange_config *cfg, const struct log_sink *log, struct host **ret)
{
	struct host *h = calloc(1, sizeof(*h));
	enum err e;

	if (!h)
		return ERR_NOMEM;
	h->cfg = cfg;
	h->log = log_of(log, "exchange", "");
	h->rng = crypto_rng();
	allow_files();
	(void)signal(SIGPIPE, SIG_IGN);
	e = make(h, log);
	if (e == OK)
		e = give_up_rights(h);
	if (e != OK) {
		host_free(h);
		return e;
	}
	log_info(&h->log, "ready for %s, %u users", cfg->domain, cfg->n_users);
	*ret = h;
	return OK;
}

enum err host_run(struct host *h)
{
	return loop_run(h->loop);
}

void host_free(struct host *h)
{
	if (!h)
		return;
	for (unsigned i = 0; i < h->n_ports; i++) {
		loop_fd_free(h->ports[i].watch);
		if (h->ports[i].fd >= 0)
			(void)close(h->ports[i].fd);
	}
	streams_free(h->streams);
	exchange_free(h->x);
	udp_buffers_free(h->buffers);
	loop_free(h->loop);
	free(h);
}
