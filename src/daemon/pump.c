/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/pump.c - bytes between sockets, the TUN and vpn. */
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

static unsigned pick(const struct esp_packet *p, unsigned n, enum addr_family family, enum transport transport,
		     struct udp_msg *ret)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++)
		if (p[i].path.remote.family == family && p[i].path.transport == transport)
			ret[k++] = (struct udp_msg){ .path = p[i].path, .p = p[i].p, .len = p[i].len };
	return k;
}

static void send_batch(struct engine *e, const struct esp_packet *p, unsigned n)
{
	struct udp_msg msgs[ESP_BATCH_OUT];
	enum udp_fate fates[ESP_BATCH_OUT];
	unsigned k;

	for (int i = 0; i < 2; i++) {
		struct udp_group *g = &e->groups[i];

		if (g->family == ADDR_NONE)
			continue;
		k = pick(p, n, g->family, TRANSPORT_UDP, msgs);
		(void)udp_send_trains(&g->sender, msgs, k, fates);
		k = g->raw_fd >= 0 ? pick(p, n, g->family, TRANSPORT_ESP, msgs) : 0;
		for (unsigned at = 0; at < k; at += UDP_BATCH)
			(void)raw_esp_send_batch(g->raw_fd, msgs + at, k - at);
	}
}

/* A packet that is what it is. */
static void tun_write(struct engine *e, const struct esp_packet *p)
{
	static const struct vnet whole = { 0 };
	struct span packet = span_of(p->p, p->len);

	if (vnet_write(e->tun_fd, &whole, &packet, 1) != OK)
		e->drops[DEMUX_ESP]++; /* the TUN's queue is full, or the kernel does not like the packet */
}

/* What the data plane has for the TUN beside what it was given. */
static void more_to_tun(struct engine *e)
{
	struct esp_packet p;

	while (vpn_poll_inner(e->vpn, &p))
		tun_write(e, &p);
}

static void inner_out(struct engine *e, struct esp_packet *in, unsigned n)
{
	struct esp_packet out[ESP_BATCH_OUT];

	send_batch(e, out, vpn_input_inner(e->vpn, loop_now_us(e->loop), in, n, out));
	more_to_tun(e);
}

static enum err send_raw(const struct udp_group *g, const struct out *o)
{
	struct udp_msg m = { .path = o->path, .p = (uint8_t *)(uintptr_t)o->bytes.p, .len = o->bytes.len };

	return g->raw_fd >= 0 && raw_esp_send_batch(g->raw_fd, &m, 1) == 1 ? OK : ERR_LIMIT;
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

void pump_inner(struct engine *e, uint8_t *packet, size_t len)
{
	struct esp_packet in = { .p = packet, .len = len };

	inner_out(e, &in, 1);
}

/* ---- in ---- */

static void to_tun(struct engine *e, uint64_t now_us, const struct esp_packet *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!pings_input(e->pings, now_us, p[i].p, p[i].len))
			tun_write(e, &p[i]);
}

static void esp_in(struct engine *e, uint64_t now_us, struct udp_msg *m, unsigned n)
{
	struct esp_packet in[ESP_BATCH], out[ESP_BATCH];

	for (unsigned i = 0; i < n; i++)
		in[i] = (struct esp_packet){ .path = m[i].path, .p = m[i].p, .len = m[i].len };
	to_tun(e, now_us, out, vpn_input_esp(e->vpn, now_us, in, n, out));
	more_to_tun(e);
}

static void one_in(struct engine *e, uint64_t now_us, struct udp_msg *m)
{
	struct span d = span_of(m->p, m->len);
	enum demux_kind k = demux_classify(d);

	switch (k) {
	case DEMUX_IKE: vpn_input_ike(e->vpn, now_us, &m->path, span_from(d, 4)); break;
	case DEMUX_STUN: vpn_input_stun(e->vpn, now_us, &m->path, d); break;
	case DEMUX_ESP:
		esp_in(e, now_us, m, 1); /* the kernel let it through to the control socket */
		break;
	case DEMUX_CHANNEL:
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
	uint16_t port = e->groups[0].fds[0] == fd ? e->groups[0].port : e->groups[1].port;
	struct udp_msg msgs[NET_IN], one;

	(void)events;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = udp_recv_trains(fd, port, e->memory->in, NET_IN, msgs);

		for (unsigned i = 0; i < n; i++)
			for (size_t at = 0; udp_next(&msgs[i], &at, &one);)
				one_in(e, loop_now_us(e->loop), &one);
		if (n < NET_IN)
			return;
	}
}

static void data_ready(void *arg, int fd, int events)
{
	struct engine *e = arg;
	uint16_t port = e->groups[0].fds[1] == fd ? e->groups[0].port : e->groups[1].port;
	struct udp_msg msgs[NET_IN], batch[ESP_BATCH];

	(void)events;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = udp_recv_trains(fd, port, e->memory->in, NET_IN, msgs), k = 0;

		for (unsigned i = 0; i < n; i++) {
			for (size_t at = 0; udp_next(&msgs[i], &at, &batch[k]);) {
				if (++k < ESP_BATCH)
					continue;
				esp_in(e, loop_now_us(e->loop), batch, k);
				k = 0;
			}
		}
		if (k)
			esp_in(e, loop_now_us(e->loop), batch, k);
		if (n < NET_IN)
			return;
	}
}

static void raw_ready(void *arg, int fd, int events)
{
	struct engine *e = arg;
	struct udp_msg msgs[UDP_BATCH];

	(void)events;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = raw_esp_recv(fd, e->buffers, msgs);

		if (n)
			esp_in(e, loop_now_us(e->loop), msgs, n);
		if (n < UDP_BATCH)
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

static void tun_ready(void *arg, int fd, int events)
{
	static uint8_t packets[ESP_BATCH][ESP_PACKET_MAX];
	struct engine *e = arg;
	struct esp_packet in[ESP_BATCH];

	(void)events;
	for (int round = 0; round < ROUNDS; round++) {
		unsigned n = 0;

		while (n < ESP_BATCH) {
			struct vnet v; /* says nothing: no offload was asked for */
			size_t len = vnet_read(fd, packets[n], sizeof(packets[n]), &v);

			if (!len)
				break;
			in[n] = (struct esp_packet){ .p = packets[n], .len = len };
			n++;
		}
		if (n)
			inner_out(e, in, n);
		if (n < ESP_BATCH)
			return;
	}
}

/* ---- open, close ---- */

static enum err open_group(struct engine *e, struct udp_group *g, enum addr_family family, uint16_t *port)
{
	struct addr any = { .family = family }, local;
	enum err r;

	for (uint8_t i = 0; i < 2; i++) {
		struct monitor_request rq = {
			.op = MONITOR_BIND_GROUP, .family = (uint8_t)family, .n_data = 1, .index = i, .port = *port
		};
		struct monitor_reply reply;

		r = monitor_ask(e->monitor_fd, &rq, &reply, &g->fds[i]);
		if (r != OK)
			return r;
		g->port = reply.port;
	}
	*port = g->port;
	g->family = family;
	g->sender = (struct udp_sender){ .fd = g->fds[1] };
	r = udp_open(&any, &g->sip_fd, &local);
	g->sip_port = local.port;
	if (r == OK)
		r = loop_fd_add(e->loop, g->fds[0], LOOP_READ, control_ready, e, &g->watch[0]);
	if (r == OK)
		r = loop_fd_add(e->loop, g->fds[1], LOOP_READ, data_ready, e, &g->watch[1]);
	return r == OK ? loop_fd_add(e->loop, g->sip_fd, LOOP_READ, sip_ready, e, &g->sip_watch) : r;
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
		if (r == OK)
			r = loop_fd_add(e->loop, g->raw_fd, LOOP_READ, raw_ready, e, &g->raw_watch);
		if (r != OK)
			log_error(&e->log, "ESP without UDP (udp-encap = no): no socket: %s", err_name(r));
	}
}

enum err pump_open(struct engine *e, uint16_t port)
{
	struct monitor_request rq = { .op = MONITOR_TUN, .n_data = 1 };
	struct monitor_reply reply;
	enum err r;

	for (int i = 0; i < 2; i++)
		e->groups[i].fds[0] = e->groups[i].fds[1] = e->groups[i].sip_fd = e->groups[i].raw_fd = -1;
	r = open_group(e, &e->groups[0], ADDR_IP4, &port);
	if (r == ERR_WRONG_STATE) {
		log_error(&e->log, "UDP port %u is in use; set another `port` in [daemon]", port);
		return r;
	}
	if (r == OK && open_group(e, &e->groups[1], ADDR_IP6, &port) != OK)
		log_warn(&e->log, "no IPv6 on the tunnel port");
	if (r == OK)
		r = monitor_ask(e->monitor_fd, &rq, &reply, &e->tun_fd);
	if (r == OK)
		r = loop_fd_add(e->loop, e->tun_fd, LOOP_READ, tun_ready, e, &e->tun_watch);
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

		for (int k = 0; k < 2; k++) {
			loop_fd_free(g->watch[k]);
			if (g->fds[k] >= 0)
				close(g->fds[k]);
		}
		loop_fd_free(g->raw_watch);
		if (g->raw_fd >= 0)
			close(g->raw_fd);
		loop_fd_free(g->sip_watch);
		if (g->sip_fd >= 0)
			close(g->sip_fd);
	}
	loop_fd_free(e->tun_watch);
	if (e->tun_fd >= 0)
		close(e->tun_fd);
}
