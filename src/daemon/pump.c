/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/pump.c - bytes between vpn and the sockets of the engine's thread: the tunnel port's control socket, SIP. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine.h"
#include "daemon/monitor.h"
#include "net/demux.h"
#include "net/raw.h"

#define ROUNDS 4 /* batches taken from one descriptor before the others have their turn */

static struct udp_group *group_of(struct engine *e, enum addr_family family)
{
	for (int i = 0; i < 2; i++)
		if (e->groups[i].family == family)
			return &e->groups[i];
	return NULL;
}

/* ---- out ---- */

static enum err send_raw(const struct udp_group *g, const struct out *o)
{
	struct udp_sender sender = { .fd = g->raw_fd, .raw = true };
	struct udp_out m = { .path = &o->path, .p = o->bytes.p, .len = o->bytes.len, .tos = o->path.tos };
	enum udp_fate fate;

	return g->raw_fd >= 0 && udp_send_trains(&sender, &m, 1, &fate) == 1 ? OK : ERR_LIMIT;
}

void pump_output(struct engine *e, enum vpn_channel channel, const struct out *o)
{
	static const uint8_t marker[4] = { 0 };
	struct udp_group *g = group_of(e, o->path.remote.family);
	enum err r = ERR_NOTFOUND;

	if (channel == VPN_SIP && o->path.transport != TRANSPORT_UDP) {
		streams_output(e->streams, o);
		return;
	}
	if (g && channel == VPN_SIP)
		r = udp_send(g->sip_fd, &o->path, SPAN_NONE, o->bytes);
	else if (g && channel == VPN_STUN) /* as ESP, or ESP itself: it measures what ESP may send */
		r = o->path.transport == TRANSPORT_ESP ? send_raw(g, o)
						       : udp_send(g->fds[1], &o->path, SPAN_NONE, o->bytes);
	else if (g)
		r = udp_send(g->fds[0], &o->path, SPAN_OF(marker), o->bytes);
	if (r != OK)
		log_debug(&e->log, "a datagram of %zu bytes could not be sent: %s", o->bytes.len, err_name(r));
}

/* ---- in ---- */

/* The plane knows whether a relay of ours has this channel. For anything but ESP in it there is no taker. */
static void channel_in(struct engine *e, uint64_t now_us, struct udp_msg *m)
{
	struct demux_inside in;

	if (!demux_channel(span_of(m->p, m->len), &in) || in.kind != DEMUX_ESP) {
		e->drops[DEMUX_CHANNEL]++;
		return;
	}
	m->path.channel = in.channel;
	m->p += PATH_CHANNEL_HDR;
	m->len = in.bytes.len;
	data_esp(e, now_us, m);
}

void pump_datagram(struct engine *e, uint64_t now_us, struct udp_msg *m)
{
	struct span d = span_of(m->p, m->len);
	enum demux_kind k = demux_classify(d);

	switch (k) {
	case DEMUX_IKE: vpn_input_ike(e->vpn, now_us, &m->path, span_from(d, 4)); break;
	case DEMUX_STUN: vpn_input_stun(e->vpn, now_us, &m->path, d); break;
	case DEMUX_ESP: data_esp(e, now_us, m); break; /* what the kernel led here, or a worker found in a train */
	case DEMUX_CHANNEL: channel_in(e, now_us, m); break;
	case DEMUX_KEEPALIVE:
	case DEMUX_DROP: e->drops[k]++; break;
	}
	/* A burst must not fill vpn's queues: what they hold is bounded for one datagram, not for a round of them. */
	if (k == DEMUX_IKE || k == DEMUX_STUN)
		engine_drain(e);
}

static void control_ready(void *arg, int fd, int events)
{
	struct engine *e = arg;
	bool first = e->groups[0].fds[0] == fd || e->groups[0].fds[1 + e->n_workers] == fd;
	uint16_t port = e->groups[!first].port;
	struct udp_msg msgs[CONTROL_TRAINS], one;

	(void)events;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = udp_recv_trains(fd, port, e->trains, CONTROL_TRAINS, msgs);

		for (unsigned i = 0; i < n; i++)
			for (size_t at = 0; udp_next(&msgs[i], &at, &one);)
				pump_datagram(e, loop_now_us(e->loop), &one);
		if (n < CONTROL_TRAINS)
			return;
	}
}

static void sip_ready(void *arg, int fd, int events)
{
	struct engine *e = arg;
	uint16_t port = e->groups[0].sip_fd == fd ? e->groups[0].sip_port : e->groups[1].sip_port;
	struct udp_msg msgs[UDP_BATCH];
	unsigned n = udp_recv(fd, port, e->buffers, msgs);

	(void)events;
	for (unsigned i = 0; i < n; i++) {
		vpn_input_sip(e->vpn, loop_now_us(e->loop), &msgs[i].path, span_of(msgs[i].p, msgs[i].len));
		engine_drain(e);
	}
}

/* ---- open, close ---- */

static enum err bind_group(struct engine *e, struct udp_group *g, enum addr_family family, uint16_t port)
{
	unsigned n_data = e->n_workers + e->kernel;
	enum err r = OK;

	for (unsigned i = 0; r == OK && i <= n_data; i++) {
		struct monitor_request rq = { .op = MONITOR_BIND_GROUP,
					      .family = (uint8_t)family,
					      .n_data = (uint8_t)n_data,
					      .index = (uint8_t)i,
					      .add = e->kernel,
					      .port = port };
		struct monitor_reply reply;

		r = monitor_ask(e->monitor_fd, &rq, &reply, &g->fds[i]);
		if (r == OK)
			g->port = reply.port;
	}
	return r;
}

static enum err open_group(struct engine *e, struct udp_group *g, enum addr_family family, uint16_t *port)
{
	struct addr any = { .family = family }, local;
	enum err r = bind_group(e, g, family, *port);

	if (r != OK)
		return r;
	*port = g->port;
	g->family = family;
	r = udp_open(&any, &g->sip_fd, &local);
	g->sip_port = local.port;
	if (r == OK)
		r = loop_fd_add(e->loop, g->fds[0], LOOP_READ, control_ready, e, &g->watch);
	if (r == OK && e->kernel)
		r = loop_fd_add(e->loop, g->fds[1 + e->n_workers], LOOP_READ, control_ready, e, &g->kernel_watch);
	return r == OK ? loop_fd_add(e->loop, g->sip_fd, LOOP_READ, sip_ready, e, &g->sip_watch) : r;
}

/* With a socket for the kernel's ESP, if it is wished for and there is any. */
static enum err open_first(struct engine *e, uint16_t *port)
{
	const struct config *cfg = vpn_config(e->vpn);
	enum err r;

	e->kernel = config_wants_kernel(cfg);
	r = open_group(e, &e->groups[0], ADDR_IP4, port);
	if (r == ERR_UNSUPPORTED && e->kernel && cfg->dataplane == CFG_DATAPLANE_KERNEL) {
		log_error(&e->log,
			  "dataplane = kernel: this kernel has no ESP (esp4, esp6, xfrm_user, AES-GCM), or no rules "
			  "for directions (nf_tables of the family inet, with connection tracking)");
		return r;
	}
	if (r == ERR_UNSUPPORTED && e->kernel) {
		e->kernel = false;
		log_info(&e->log, "networks pass in user space: this kernel has no ESP, or no rules for directions");
		r = open_group(e, &e->groups[0], ADDR_IP4, port);
	}
	if (r == OK && e->kernel) {
		log_info(&e->log, "networks pass in the kernel");
		r = vpn_kernel_begin(e->vpn);
	}
	return r;
}

void pump_open_raw(struct engine *e)
{
	if (!config_plain_esp(vpn_config(e->vpn)))
		return;
	for (int i = 0; i < 2; i++) {
		struct udp_group *g = &e->groups[i];
		struct monitor_request rq = { .op = MONITOR_RAW_ESP, .family = (uint8_t)g->family };
		struct monitor_reply reply;
		enum err r;

		if (g->family == ADDR_NONE || g->raw_fd >= 0)
			continue;
		r = monitor_ask(e->monitor_fd, &rq, &reply, &g->raw_fd);
		if (r != OK)
			log_error(&e->log, "ESP without UDP (udp-encap = no): no socket: %s", err_name(r));
	}
	data_raw(e);
}

enum err pump_open(struct engine *e, uint16_t port)
{
	enum err r;

	r = open_first(e, &port);
	if (r == ERR_WRONG_STATE) {
		log_error(&e->log, "UDP port %u is in use; set another `port` in [daemon]", port);
		return r;
	}
	if (r == OK && open_group(e, &e->groups[1], ADDR_IP6, &port) != OK)
		log_warn(&e->log, "no IPv6 on the tunnel port");
	if (r == OK)
		r = data_open_tun(e);
	if (r != OK)
		log_error(&e->log, "sockets or the TUN could not be opened: %s", err_name(r));
	else
		pump_open_raw(e);
	return r;
}

void pump_close(struct engine *e)
{
	for (int i = 0; i < 2; i++) {
		struct udp_group *g = &e->groups[i];

		loop_fd_free(g->watch);
		loop_fd_free(g->kernel_watch);
		for (unsigned k = 0; k < 2 + CFG_WORKERS_MAX; k++)
			if (g->fds[k] >= 0)
				close(g->fds[k]);
		if (g->raw_fd >= 0)
			close(g->raw_fd);
		loop_fd_free(g->sip_watch);
		if (g->sip_fd >= 0)
			close(g->sip_fd);
	}
}
