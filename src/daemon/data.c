/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* daemon/data.c - the engine's side of its workers: their life, and what they hand over. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/engine.h"
#include "daemon/monitor.h"
#include "esp/segment.h"
#include "net/tun.h"

#define STRAYS_MAX 64 /* taken at a time before others have their turn */

static void enter(void *arg, unsigned shard)
{
	struct engine *e = arg;

	worker_enter(&e->workers[shard]);
}

static void leave(void *arg, unsigned shard)
{
	struct engine *e = arg;

	worker_leave(&e->workers[shard]);
}

static bool news(void *arg, unsigned shard)
{
	struct engine *e = arg;

	return atomic_exchange(&e->workers[shard].news, false);
}

enum err data_init(struct engine *e, unsigned n, struct vpn_env *env)
{
	enum err r = OK;

	e->tell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	e->trains = calloc(CONTROL_TRAINS, sizeof(*e->trains));
	if (e->tell_fd < 0 || !e->trains)
		return ERR_NOMEM;
	for (unsigned i = 0; r == OK && i < n; i++) {
		struct worker *w = &e->workers[e->n_workers++];

		*w = (struct worker){
			.shard = i, .n_shards = n, .udp_fd = { -1, -1 }, .raw_fd = { -1, -1 }, .tell_fd = e->tell_fd
		};
		for (unsigned k = 0; k < WORKER_QUEUES; k++)
			w->tun_fd[k] = -1;
		r = worker_init(w);
	}
	env->shards = n;
	env->shard_hooks =
		(struct esp_set_hooks){ .enter = enter, .leave = leave, .arg = e, .own_time = true, .news = news };
	return r;
}

/* ---- what workers hand over ---- */

static void tun_write(struct engine *e, const struct esp_packet *p)
{
	static const struct vnet whole = { .flags = 0 };
	struct span packet = span_of(p->p, p->len);

	if (vnet_write(e->workers[0].tun_fd[0], &whole, &packet, 1) != OK)
		e->drops[DEMUX_ESP]++; /* the TUN's queue is full, or the kernel does not like the packet */
}

static void told(struct engine *e)
{
	struct esp_packet p;

	while (vpn_poll_inner(e->vpn, &p))
		tun_write(e, &p);
}

static void inner_in(struct engine *e, uint64_t now_us, const struct esp_packet *p)
{
	if (!pings_input(e->pings, now_us, p->p, p->len))
		tun_write(e, p);
}

void data_esp(struct engine *e, uint64_t now_us, const struct udp_msg *m)
{
	struct esp_packet in = { .p = m->p, .len = m->len, .path = &m->path, .tos = m->path.tos }, out[ESP_BATCH];
	unsigned n = vpn_input_esp(e->vpn, now_us, &in, 1, out);

	for (unsigned i = 0; i < n; i++)
		inner_in(e, now_us, &out[i]);
	told(e);
}

static void send(struct engine *e, const struct esp_packet *p, unsigned n)
{
	struct udp_sender sender[2] = { { .fd = -1 }, { .fd = -1 } };
	int raw_fd[2] = { -1, -1 };

	for (int i = 0; i < 2; i++) {
		unsigned six = e->groups[i].family == ADDR_IP6;

		if (e->groups[i].family == ADDR_NONE)
			continue;
		sender[six].fd = e->groups[i].fds[1];
		raw_fd[six] = e->groups[i].raw_fd;
	}
	(void)worker_send(sender, raw_fd, p, n);
}

void pump_inner(struct engine *e, uint8_t *packet, size_t len)
{
	struct esp_packet in = { .p = packet, .len = len }, out[ESP_BATCH_OUT];

	send(e, out, vpn_input_inner(e->vpn, loop_now_us(e->loop), &in, 1, out));
	told(e);
}

/* From a queue of the TUN that is another shard's than the packet's call. */
static void super_out(struct engine *e, uint64_t now_us, const struct worker *from, const struct stray *s, size_t len)
{
	struct esp_packet out[ESP_BATCH_OUT];
	struct esp_super super;
	unsigned last = from->shard == e->n_workers - 1 ? e->n_workers - 2 : e->n_workers - 1;

	if (esp_super_parse(span_of(e->trains[0], len), &s->vnet, &super) != OK)
		return;
	for (unsigned i = 0; i < e->n_workers; i++) {
		struct esp_super_work work = { .super = &super, .elsewhere = i != last };

		if (i == from->shard)
			continue;
		worker_enter(&e->workers[i]);
		while (work.at < super.n)
			send(e, out, esp_plane_super(e->workers[i].plane, now_us, &work, 0, out));
		worker_leave(&e->workers[i]);
		if (!work.lost)
			break;
	}
	told(e);
}

static void stray_ready(void *arg, int fd, int events)
{
	struct engine *e = arg;
	struct worker *w = NULL;
	struct stray s;
	size_t len;

	(void)events;
	for (unsigned i = 0; i < e->n_workers; i++)
		if (e->workers[i].stray_fd == fd)
			w = &e->workers[i];
	for (int i = 0; w && i < STRAYS_MAX && worker_stray(w, &s, e->trains[0], &len); i++) {
		uint64_t now_us = loop_now_us(e->loop);
		struct udp_msg m = { .path = s.path, .p = e->trains[0], .len = len };
		struct esp_packet p = { .p = e->trains[0], .len = len };

		if (s.kind == STRAY_DATAGRAM)
			pump_datagram(e, now_us, &m);
		else if (s.kind == STRAY_INNER)
			inner_in(e, now_us, &p);
		else if (e->n_workers > 1)
			super_out(e, now_us, w, &s, len);
	}
}

/* A plane has something for vpn: the loop's tick and drain follow. */
static void tell_ready(void *arg, int fd, int events)
{
	struct engine *e = arg;
	uint64_t ignored;

	(void)events;
	(void)!read(fd, &ignored, sizeof(ignored));
	vpn_tick(e->vpn, loop_now_us(e->loop));
}

void data_pinging(struct engine *e, bool on)
{
	for (unsigned i = 0; i < e->n_workers; i++)
		atomic_store(&e->workers[i].pinging, on);
}

void data_drops(const struct engine *e, struct data_drop ret[DATA_DROPS])
{
	static const char *const names[DATA_DROPS] = { "tun-full", "unsent", "strays-lost", "unreadable", "shed" };

	for (int i = 0; i < DATA_DROPS; i++)
		ret[i] = (struct data_drop){ .name = names[i] };
	for (unsigned i = 0; i < e->n_workers; i++) {
		const struct worker_counters *c = &e->workers[i].counters;
		const _Atomic uint64_t *from[DATA_DROPS] = { &c->tun_full, &c->unsent, &c->strays_lost, &c->unreadable,
							     &c->shed };

		for (int k = 0; k < DATA_DROPS; k++)
			ret[k].n += atomic_load_explicit(from[k], memory_order_relaxed);
	}
	ret[0].n += e->drops[DEMUX_ESP];
}

/* ---- life ---- */

/* As many for each worker as there may be. */
static enum err open_queues(struct engine *e, unsigned i, uint8_t *ret_offloads)
{
	struct worker *w = &e->workers[i];
	enum err r = OK;

	w->n_queues = MONITOR_DATA_MAX / e->n_workers < WORKER_QUEUES ? MONITOR_DATA_MAX / e->n_workers : WORKER_QUEUES;
	for (unsigned k = 0; r == OK && k < w->n_queues; k++) {
		struct monitor_request rq = { .op = MONITOR_TUN,
					      .n_data = (uint8_t)(e->n_workers * w->n_queues),
					      .index = (uint8_t)(i * w->n_queues + k),
					      .offloads = TUN_OFFLOAD_ALL };
		struct monitor_reply reply;

		r = monitor_ask(e->monitor_fd, &rq, &reply, &w->tun_fd[k]);
		*ret_offloads = r == OK ? reply.offloads : 0;
	}
	return r;
}

enum err data_open_tun(struct engine *e)
{
	const struct config *cfg = vpn_config(e->vpn);
	enum err r = OK;

	for (unsigned i = 0; r == OK && i < e->n_workers; i++) {
		struct worker *w = &e->workers[i];
		uint8_t offloads = 0;

		r = open_queues(e, i, &offloads);
		w->plane = esp_set_plane(vpn_data(e->vpn), i);
		w->divisor = esp_set_divisor(vpn_data(e->vpn));
		w->merge_cfg.uso = offloads & TUN_OFFLOAD_USO;
		/* in the private namespace packets end at a socket */
		w->merge_cfg.fixed_ids = !cfg->host;
		for (int k = 0; k < 2; k++) {
			unsigned six = e->groups[k].family == ADDR_IP6;

			if (e->groups[k].family == ADDR_NONE)
				continue;
			w->udp_fd[six] = e->groups[k].fds[1 + i];
			w->port[six] = e->groups[k].port;
		}
	}
	return r;
}

enum err data_start(struct engine *e)
{
	enum err r = loop_fd_add(e->loop, e->tell_fd, LOOP_READ, tell_ready, e, &e->tell_watch);

	for (unsigned i = 0; r == OK && i < e->n_workers; i++) {
		r = loop_fd_add(e->loop, e->workers[i].stray_fd, LOOP_READ, stray_ready, e, &e->stray_watch[i]);
		if (r == OK)
			r = worker_start(&e->workers[i]);
	}
	return r;
}

void data_raw(struct engine *e)
{
	struct worker *w = &e->workers[0];

	worker_enter(w);
	for (int i = 0; i < 2; i++)
		if (e->groups[i].family != ADDR_NONE)
			w->raw_fd[e->groups[i].family == ADDR_IP6] = e->groups[i].raw_fd;
	worker_leave(w);
	worker_wake(w);
}

void data_close(struct engine *e)
{
	loop_fd_free(e->tell_watch);
	for (unsigned i = 0; i < e->n_workers; i++) {
		int fds[WORKER_QUEUES];

		memcpy(fds, e->workers[i].tun_fd, sizeof(fds)); /* worker_done() forgets them */
		loop_fd_free(e->stray_watch[i]);
		worker_done(&e->workers[i]);
		for (unsigned k = 0; k < WORKER_QUEUES; k++)
			if (fds[k] >= 0)
				(void)close(fds[k]);
	}
	e->n_workers = 0;
	if (e->tell_fd >= 0)
		(void)close(e->tell_fd);
	free(e->trains);
}
