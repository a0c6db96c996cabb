/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/engine.c - the confined process: what vpn wants is carried out, what happens is told. */
#include "daemon/engine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/aead.h"
#include "crypto/secret.h"
#include "daemon/monitor.h"
#include "daemon/sandbox.h"

#define STOP_US SECONDS(3) /* for DELETE, BYE and un-REGISTER to be answered */
#define FIRST_ACCEPTED_STREAM (1ull << 32)

/* ---- wants ---- */

static enum err route(struct engine *e, const struct vpn_want *w, bool add)
{
	struct monitor_request rq = { .op = MONITOR_PEER_ROUTE,
				      .add = add,
				      .peer = addr_of(span_of(w->peer, 16), 0),
				      .spki_len = (uint16_t)w->spki_len };
	struct monitor_reply reply;
	int fd;

	memcpy(rq.spki, w->spki, w->spki_len);
	return monitor_ask(e->monitor_fd, &rq, &reply, &fd);
}

static void forward(struct engine *e, const struct vpn_want *w)
{
	struct addr local = { .family = ADDR_NONE };
	uint32_t uid = 0;
	bool any_user = false;

	if (!control_owner(e->control, w->owner, &uid, &any_user) ||
	    relays_forward(e->relays, w->call, w->grant_id, w->protocol, &w->target, w->local_port, uid, any_user,
			   &local) != OK)
		local.family = ADDR_NONE;
	vpn_forward_ready(e->vpn, loop_now_us(e->loop), w->call, w->grant_id, &local);
}

static void save_pins(struct engine *e)
{
	char *text;
	size_t len;

	if (trust_write(vpn_trust(e->vpn), &text, &len) != OK) {
		log_error(&e->log, "no memory to save the pins");
		return;
	}
	if (state_write(e->paths->state, "pins", span_of(text, len)) != OK)
		log_error(&e->log, "the pins cannot be saved in %s", e->paths->state);
	free(text);
}

static void audit(struct engine *e, const char *text)
{
	char line[400];
	time_t now = (time_t)loop_wall_s();
	struct tm tm;
	int n;

	(void)gmtime_r(&now, &tm);
	n = snprintf(line, sizeof(line), "%04d-%02d-%02dT%02d:%02d:%02dZ %s\n", tm.tm_year + 1900, tm.tm_mon + 1,
		     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, text);
	if (n >= (int)sizeof(line))
		line[n = sizeof(line) - 1] = '\n';
	if (write(e->audit_fd, line, (size_t)n) != n)
		log_error(&e->log, "the audit log cannot be written");
}

static void carry_out(struct engine *e, const struct vpn_want *w)
{
	enum err r = OK;

	switch (w->kind) {
	case VPN_WANT_PEER_UP: r = route(e, w, true); break;
	case VPN_WANT_PEER_DOWN:
		relays_call_close(e->relays, w->call);
		if (w->last)
			r = route(e, w, false);
		break;
	case VPN_WANT_FORWARD: forward(e, w); break;
	case VPN_WANT_FORWARD_CLOSE:
		if (w->name[0])
			relays_service_close(e->relays, w->call, w->name);
		else
			relays_forward_close(e->relays, w->call, w->grant_id);
		break;
	case VPN_WANT_NETWORK_UP: networks_up(e, w); break;
	case VPN_WANT_NETWORK_DOWN: networks_down(e, w); break;
	case VPN_WANT_SAVE_PINS: save_pins(e); break;
	case VPN_WANT_AUDIT: audit(e, w->text); break;
	}
	if (r != OK)
		log_error(&e->log, "the route of call %u could not be %s: %s", w->call,
			  w->kind == VPN_WANT_PEER_UP ? "made" : "removed", err_name(r));
}

/* ---- the loop's hooks ---- */

void engine_drain(struct engine *e)
{
	enum vpn_channel channel;
	struct out o;
	struct esp_kernel_request rq;
	struct vpn_want w;
	struct vpn_event ev;
	bool more = true;

	while (more) {
		more = false;
		/* sockets of a call are closed before its last words leave (docs/protocol.md) */
		while (vpn_poll_want(e->vpn, &w)) {
			carry_out(e, &w);
			more = true;
		}
		while (vpn_poll_kernel(e->vpn, &rq)) {
			kernel_carry_out(e, &rq);
			more = true;
		}
		while (vpn_poll_output(e->vpn, &channel, &o)) {
			pump_output(e, channel, &o);
			more = true;
		}
		while (vpn_poll_event(e->vpn, &ev)) {
			if (!ev.call)
				log_info(&e->log, "%s", ev.reason);
			control_event(e->control, &ev);
			if (ev.kind == VPN_EV_KEYS)
				vpn_event_done(&ev);
			more = true;
		}
	}
}

static void idle(void *arg)
{
	struct engine *e = arg;

	engine_drain(e);
	journal_catch_up(e->journal);
	if (e->stopping && (vpn_idle(e->vpn) || loop_now_us(e->loop) >= e->stop_us))
		loop_stop(e->loop);
}

static void tick(void *arg, uint64_t now_us)
{
	struct engine *e = arg;

	vpn_tick(e->vpn, now_us);
}

static uint64_t deadline(void *arg)
{
	struct engine *e = arg;
	uint64_t due = vpn_deadline_us(e->vpn);

	return e->stopping && e->stop_us < due ? e->stop_us : due;
}

static void stop(void *arg, int signo)
{
	struct engine *e = arg;

	(void)signo;
	if (e->stopping) {
		loop_stop(e->loop); /* asked twice */
		return;
	}
	log_info(&e->log, "going");
	e->stopping = true;
	e->stop_us = loop_now_us(e->loop) + STOP_US;
	vpn_hangup_all(e->vpn, loop_now_us(e->loop));
}

static void reload(void *arg, int signo)
{
	char why[400];

	(void)signo;
	(void)!engine_reload(arg, why, sizeof(why)); /* it is in the log */
}

static void monitor_gone(void *arg, int fd, int events)
{
	struct engine *e = arg;

	(void)fd;
	(void)events;
	log_error(&e->log, "the monitor is gone; so are the namespace and all tunnels");
	e->failed = true;
	loop_stop(e->loop);
}

static void pinged(void *arg, const struct ping_report *r)
{
	struct engine *e = arg;

	control_pinged(e->control, r);
}

static void stream_input(void *arg, const struct path *path, struct span bytes)
{
	struct engine *e = arg;

	vpn_input_sip(e->vpn, loop_now_us(e->loop), path, bytes);
}

static void stream_event_cb(void *arg, const struct path *path, enum stream_event ev)
{
	struct engine *e = arg;

	vpn_input_stream(e->vpn, loop_now_us(e->loop), path, ev);
}

static unsigned call_of_peer(void *arg, const struct addr *peer)
{
	struct engine *e = arg;

	return peer->family == ADDR_IP6 ? vpn_call_of_peer(e->vpn, peer->ip) : 0;
}

static int64_t wall_s(void *arg)
{
	(void)arg;
	return loop_wall_s();
}

/* ---- life ---- */

static enum err self_address(struct engine *e)
{
	struct monitor_request rq = { .op = MONITOR_SELF_ADDRESS };
	struct span spki = identity_spki(e->identity);
	struct monitor_reply reply;
	int fd;
	enum err r = spki_address(spki, e->self);

	if (r != OK || spki.len > sizeof(rq.spki))
		return ERR_LIMIT;
	rq.spki_len = (uint16_t)spki.len;
	memcpy(rq.spki, spki.p, spki.len);
	return monitor_ask(e->monitor_fd, &rq, &reply, &fd);
}

static enum err serve(struct engine *e)
{
	const struct config *cfg = vpn_config(e->vpn);
	struct addr self = addr_of(SPAN_OF(e->self), 0);
	enum err r = OK;

	for (unsigned i = 0; r == OK && i < cfg->n_services; i++) {
		r = relays_serve(e->relays, &self, &cfg->services[i]);
		if (r != OK)
			log_error(&e->log, "service %s cannot be offered: %s", cfg->services[i].name, err_name(r));
	}
	return r;
}

/* In the order that each needs the one before; the filter comes last, before the first foreign byte. */
static enum err open_all(struct engine *e, struct engine_start *s, const char *user)
{
	struct relays_config relays = { .loop = e->loop,
					.log = log_of(journal_sink(e->journal), "relay", ""),
					.monitor_fd = e->monitor_fd,
					.max_sockets = 512,
					.call_of_peer = call_of_peer,
					.arg = e };
	struct streams_config streams = { .loop = e->loop,
					  .max_streams = 32,
					  .first_number = FIRST_ACCEPTED_STREAM,
					  .input = stream_input,
					  .event = stream_event_cb,
					  .arg = e };
	struct loop_hooks hooks = { .tick = tick, .deadline = deadline, .idle = idle, .arg = e };
	enum err r = pump_open(e, vpn_config(e->vpn)->port);

	if (r != OK)
		return r; /* it has said which socket */
	r = self_address(e);
	networks_warn(e);
	if (r == OK)
		r = loop_fd_add(e->loop, e->monitor_fd, LOOP_READ, monitor_gone, e, &e->monitor_watch);
	if (r == OK)
		r = loop_signal(e->loop, SIGTERM, stop, e);
	if (r == OK)
		r = loop_signal(e->loop, SIGINT, stop, e);
	if (r == OK)
		r = loop_signal(e->loop, SIGHUP, reload, e);
	loop_prompt();
	if (r == OK)
		r = sandbox_drop(user);
	if (r == OK)
		r = sandbox_filter();
	if (r != OK) {
		log_error(&e->log, "the engine cannot be confined: %s", err_name(r));
		return r;
	}
	r = relays_new(&relays, &e->relays);
	if (r == OK)
		r = streams_new(&streams, &e->streams);
	if (r == OK)
		r = pings_new(e, pinged, e, &e->pings);
	if (r == OK)
		r = control_new(e, s->control_fd, &e->control);
	if (r == OK)
		r = serve(e);
	if (r == OK)
		r = names_open(e);
	if (r == OK)
		r = data_start(e);
	loop_hooks_set(e->loop, &hooks);
	return r;
}

static void close_all(struct engine *e)
{
	if (e->loop)
		names_close(e);
	control_free(e->control);
	relays_free(e->relays);
	streams_free(e->streams);
	pings_free(e->pings);
	loop_fd_free(e->monitor_watch);
	data_close(e);
	pump_close(e);
	vpn_free(e->vpn);
	udp_buffers_free(e->buffers);
	loop_free(e->loop);
}

static enum err make(struct engine *e, struct engine_start *s, struct rng *rng)
{
	struct vpn_env env = { .rng = rng, .log = journal_sink(s->journal), .wall_s = wall_s };
	enum err r = loop_new(&e->loop);

	e->buffers = udp_buffers_new();
	if (r == OK && !e->buffers)
		r = ERR_NOMEM;
	if (r == OK)
		r = data_init(e, s->cfg->workers, &env);
	if (r == OK)
		r = vpn_new(&env, s->cfg, s->trust, s->identity, &e->vpn);
	if (r != OK) {
		config_free(s->cfg);
		trust_free(s->trust);
	}
	return r;
}

int engine_run(struct engine_start *s)
{
	static struct engine engine;
	struct engine *e = &engine;
	struct rng rng = crypto_rng();
	char user[64];
	pid_t pid;
	enum err r;

	*e = (struct engine){ .paths = s->paths,
			      .identity = s->identity,
			      .journal = s->journal,
			      .monitor_fd = -1,
			      .tell_fd = -1,
			      .audit_fd = s->audit_fd,
			      .log = log_of(journal_sink(s->journal), "daemon", "") };
	for (int i = 0; i < 2; i++)
		e->groups[i] = (struct udp_group){ .raw_fd = -1, .sip_fd = -1 };
	for (int i = 0; i < 2; i++)
		for (unsigned k = 0; k < 2 + CFG_WORKERS_MAX; k++)
			e->groups[i].fds[k] = -1;
	memcpy(user, s->cfg->user, sizeof(user));
	r = monitor_start(s->cfg, &e->monitor_fd, &pid);
	if (r == OK)
		r = make(e, s, &rng);
	if (r == OK)
		r = open_all(e, s, user);
	if (r == OK) {
		log_info(&e->log, "tielined is running; AES-GCM by %s", aead_backend_name(AEAD_AES128_GCM));
		r = loop_run(e->loop);
	}
	if (r != OK)
		log_error(&e->log, "stopped: %s", err_name(r));
	close_all(e);
	close(e->monitor_fd); /* the monitor, and with it the namespace, ends */
	return r == OK && !e->failed ? 0 : 1;
}
