/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/stream.c - TCP from hosts to the exchange: ordered and reliable; a lost segment comes later. */
#include <stdlib.h>

#include "sim.h"

#define RTO_US MS(300)
#define CONNECT_TIMEOUT_US SECONDS(20) /* nobody answers the SYN */
#define GIVE_UP_US SECONDS(60) /* nobody acknowledges data */

/* When a piece sent now arrives: after the one before it; each loss costs a retransmission. */
static uint64_t due(struct world *w, struct sim_stream *s, bool to_exchange)
{
	uint64_t t = w->now_us + net_delay_us(w, s->host) + world_below(w, 500), rto = RTO_US;

	while (world_below(w, 1000000) < w->loss_ppm) {
		t += rto;
		rto *= 2;
	}
	if (t < s->last_us[!to_exchange])
		t = s->last_us[!to_exchange];
	s->last_us[!to_exchange] = t;
	return t;
}

static void post_state(struct world *w, struct sim_stream *s, bool to_exchange, enum stream_event state,
		       uint64_t due_us)
{
	struct event e = { .kind = EVENT_STREAM_STATE,
			   .stream = (uint64_t)(s - w->streams),
			   .to_exchange = to_exchange,
			   .state = state,
			   .due_us = due_us };

	world_post(w, &e);
}

static void post_bytes(struct world *w, struct sim_stream *s, bool to_exchange, struct span d)
{
	struct event e = { .kind = EVENT_STREAM_BYTES,
			   .stream = (uint64_t)(s - w->streams),
			   .to_exchange = to_exchange,
			   .bytes = (uint8_t *)(uintptr_t)d.p,
			   .len = d.len,
			   .due_us = due(w, s, to_exchange) };

	world_post(w, &e);
}

static struct path path_at(const struct world *w, const struct sim_stream *s, bool at_exchange)
{
	return at_exchange ? (struct path){ .transport = TRANSPORT_TCP,
					    .local = w->exchange_addr,
					    .remote = s->seen,
					    .stream = s->exchange_number }
			   : (struct path){ .transport = TRANSPORT_TCP,
					    .local = s->host_local,
					    .remote = w->exchange_addr,
					    .stream = s->host_number };
}

static struct sim_stream *of_host(struct host *h, uint64_t number)
{
	struct world *w = h->w;

	for (unsigned i = 0; i < w->n_streams; i++) {
		struct sim_stream *s = &w->streams[i];

		if (s->host == h && s->generation == h->n_restarts && s->host_number == number && !s->closed)
			return s;
	}
	return NULL;
}

static void open_stream(struct host *h, const struct out *o)
{
	struct world *w = h->w;
	struct sim_stream *s;

	if (w->n_streams == w->cap_streams) {
		w->cap_streams = w->cap_streams ? 2 * w->cap_streams : 16;
		w->streams = sim_grow(w->streams, w->cap_streams * sizeof(*w->streams));
	}
	s = &w->streams[w->n_streams++];
	*s = (struct sim_stream){ .host = h,
				  .generation = h->n_restarts,
				  .host_number = o->path.stream,
				  .exchange_number = w->next_exchange_stream++,
				  .host_local = h->ip4 };
	s->host_local.port = (uint16_t)(32768 + world_below(w, 28000));
	s->seen = h->outer ? h->outer->outside : h->nat ? h->nat->outside : h->ip4;
	s->seen.port = (uint16_t)(32768 + world_below(w, 28000));
	if (!addr_eq(&o->path.remote, &w->exchange_addr)) {
		world_fail(w, "%s opens a stream to somebody else than its exchange", h->name);
		return;
	}
	if (h->cut || w->exchange_cut)
		post_state(w, s, false, STREAM_FAILED, w->now_us + CONNECT_TIMEOUT_US);
	else if (!w->exchange)
		post_state(w, s, false, STREAM_FAILED, w->now_us + 2 * net_delay_us(w, h));
	else
		post_state(w, s, true, STREAM_OPEN, due(w, s, true));
}

void stream_output(struct host *h, const struct out *o)
{
	struct sim_stream *s;

	world_trace(h->w, "  %s: stream %llu %s, %zu bytes", h->name, (unsigned long long)o->path.stream,
		    o->kind == OUT_OPEN    ? "open"
		    : o->kind == OUT_CLOSE ? "close"
					   : "send",
		    o->kind == OUT_SEND ? o->bytes.len : 0);
	if (o->kind == OUT_OPEN) {
		open_stream(h, o);
		return;
	}
	s = of_host(h, o->path.stream);
	if (!s)
		return; /* closed meanwhile; the event is on its way */
	if (o->kind == OUT_SEND) {
		post_bytes(h->w, s, true, o->bytes);
	} else {
		post_state(h->w, s, true, STREAM_CLOSED, due(h->w, s, true));
		s->closed = true;
	}
}

void stream_output_exchange(struct world *w, const struct out *o)
{
	for (unsigned i = 0; i < w->n_streams; i++) {
		struct sim_stream *s = &w->streams[i];

		if (s->exchange_number != o->path.stream || s->closed)
			continue;
		if (o->kind == OUT_SEND) {
			post_bytes(w, s, false, o->bytes);
		} else if (o->kind == OUT_CLOSE) {
			post_state(w, s, false, STREAM_CLOSED, due(w, s, false));
			s->closed = true;
		}
		return;
	}
}

static bool host_there(const struct sim_stream *s)
{
	return s->host->vpn && s->generation == s->host->n_restarts;
}

/* The way is cut: sent again until somebody gives up. True: not now. */
static bool stalled(struct world *w, struct sim_stream *s, struct event *e)
{
	if (!s->host->cut && !w->exchange_cut)
		return false;
	if (e->kind == EVENT_STREAM_BYTES && e->due_us + GIVE_UP_US < w->now_us)
		return true;
	if (e->from.port++ < GIVE_UP_US / SECONDS(1)) { /* counts the attempts */
		struct event again = *e;

		again.due_us = w->now_us + SECONDS(1);
		if (again.due_us > s->last_us[!e->to_exchange])
			s->last_us[!e->to_exchange] = again.due_us;
		world_post(w, &again);
	} else if (!s->closed) {
		s->closed = true;
		post_state(w, s, true, STREAM_CLOSED, w->now_us);
		post_state(w, s, false, STREAM_CLOSED, w->now_us);
	}
	return true;
}

void stream_bytes(struct world *w, struct event *e)
{
	struct sim_stream *s = &w->streams[e->stream];
	struct path path = path_at(w, s, e->to_exchange);

	if (stalled(w, s, e))
		return;
	if (e->to_exchange && w->exchange) {
		exch_stream_bytes(w, &path, span_of(e->bytes, e->len));
	} else if (!e->to_exchange && host_there(s)) {
		struct host *h = s->host;

		vpn_input_sip(h->vpn, w->now_us, &path, span_of(e->bytes, e->len));
		host_drain(h);
	}
}

void stream_state(struct world *w, struct event *e)
{
	struct sim_stream *s = &w->streams[e->stream];
	struct path path = path_at(w, s, e->to_exchange);
	struct host *h = s->host;

	/* a cut wire tells nobody; what the kernel decides by itself (it gave up) does arrive */
	if (e->state == STREAM_OPEN && stalled(w, s, e))
		return;
	if (e->to_exchange) {
		if (e->state == STREAM_OPEN) {
			if (!w->exchange || s->closed) {
				post_state(w, s, false, STREAM_FAILED, due(w, s, false));
				return;
			}
			s->up = true;
			post_state(w, s, false, STREAM_OPEN, due(w, s, false));
		}
		if (w->exchange)
			exch_stream_event(w, &path, e->state);
		return;
	}
	if (!host_there(s))
		return;
	if (e->state != STREAM_OPEN)
		s->closed = true;
	world_trace(w, "%s: stream %llu is %s", h->name, (unsigned long long)s->host_number,
		    e->state == STREAM_OPEN     ? "open"
		    : e->state == STREAM_CLOSED ? "closed"
						: "not to be had");
	vpn_input_stream(h->vpn, w->now_us, &path, e->state);
	host_drain(h);
}

void stream_host_gone(struct host *h)
{
	struct world *w = h->w;

	for (unsigned i = 0; i < w->n_streams; i++) {
		struct sim_stream *s = &w->streams[i];

		if (s->host != h || s->closed)
			continue;
		s->closed = true;
		post_state(w, s, true, STREAM_CLOSED, due(w, s, true));
	}
}

/* A box in between has forgotten the connection: either end is told when it uses it next; here, at once. */
void stream_cut(struct host *h)
{
	struct world *w = h->w;

	for (unsigned i = 0; i < w->n_streams; i++) {
		struct sim_stream *s = &w->streams[i];

		if (s->host != h || s->closed)
			continue;
		s->closed = true;
		post_state(w, s, true, STREAM_CLOSED, due(w, s, true));
		post_state(w, s, false, STREAM_CLOSED, due(w, s, false));
	}
}

void stream_exchange_gone(struct world *w)
{
	for (unsigned i = 0; i < w->n_streams; i++) {
		struct sim_stream *s = &w->streams[i];

		if (s->closed)
			continue;
		s->closed = true;
		post_state(w, s, false, STREAM_CLOSED, due(w, s, false));
	}
}
