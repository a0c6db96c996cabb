/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/exch.c - the host of the exchange and of its STUN server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/exchange.h"
#include "ice/stun.h"
#include "sim.h"

static const char *const passwords[][2] = {
	{ "alice", "alice-5a0f3c9e7b1d2846" },
	{ "bob", "bob-91c2d3e4f5061728394a" },
	{ "carol", "carol-0b1c2d3e4f5a6978" },
	{ "mallory", "mallory-77665544332211" },
};

const char *exch_password(const char *user)
{
	for (size_t i = 0; i < sizeof(passwords) / sizeof(passwords[0]); i++)
		if (!strcmp(passwords[i][0], user))
			return passwords[i][1];
	return "nobody-has-this-password";
}

static int64_t wall_s(void *arg)
{
	const struct world *w = arg;

	return SIM_WALL_S + (int64_t)((w->now_us - SECONDS(1000)) / 1000000);
}

static void log_line(void *arg, enum log_level level, const char *area, const char *tag, const char *text)
{
	world_trace(arg, "exchange %s [%s] %s %s", log_level_name(level), area, tag, text);
}

bool exch_start(struct world *w)
{
	struct exchange_env env = { .rng = &w->rng, .wall_s = wall_s, .arg = w };
	struct conf_error why = { .text = "" };
	char text[2048];
	int n = snprintf(text, sizeof(text), "[exchange]\ndomain = " SIM_DOMAIN "\nlisten = 198.51.100.1:5060\n");

	for (size_t i = 0; i < sizeof(passwords) / sizeof(passwords[0]); i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "[user %s]\npassword = %s\n", passwords[i][0],
			      passwords[i][1]);
	w->exchange_sink = (struct log_sink){ .level = LOG_DEBUG, .write = log_line, .arg = w };
	env.log = w->trace ? &w->exchange_sink : NULL;
	if (exchange_config_parse("exchange.conf", span_str(text), &w->exchange_config, &why) != OK ||
	    exchange_new(&env, w->exchange_config, &w->exchange) != OK) {
		world_fail(w, "the exchange does not start: %s", why.text);
		return false;
	}
	exch_drain(w);
	return true;
}

void exch_kill(struct world *w)
{
	if (!w->exchange)
		return;
	stream_exchange_gone(w);
	exchange_free(w->exchange);
	exchange_config_free(w->exchange_config);
	w->exchange = NULL;
	w->exchange_config = NULL;
	w->exchange_deadline_us = TIME_NEVER;
}

static void trace_message(struct world *w, const char *what, struct span d)
{
	if (w->trace)
		world_trace(w, "exchange %s %.*s, %zu bytes", what, (int)span_find(d, '\r'), (const char *)d.p, d.len);
}

void exch_drain(struct world *w)
{
	struct out o;

	while (exchange_poll_output(w->exchange, &o)) {
		struct span d = o.bytes;

		if (o.kind == OUT_SEND) {
			trace_message(w, "sends", d);
			if (!evil_rewrite(w, &o.path, &d))
				continue;
		}
		if (o.path.transport == TRANSPORT_UDP) {
			net_send_exchange(w, &w->exchange_addr, &o.path.remote, d);
		} else {
			o.bytes = d;
			stream_output_exchange(w, &o);
		}
	}
	w->exchange_deadline_us = exchange_deadline_us(w->exchange);
}

void exch_tick(struct world *w)
{
	exchange_tick(w->exchange, w->now_us);
	exch_drain(w);
}

void exch_datagram(struct world *w, const struct addr *from, const struct addr *to, struct span d)
{
	struct path path = { .transport = TRANSPORT_UDP, .local = *to, .remote = *from };
	uint8_t answer[STUN_MSG_MAX];
	struct wr wr = wr_of(answer, sizeof(answer));

	if (!w->exchange || w->exchange_cut)
		return;
	if (to->port == w->stun_addr.port) {
		if (stun_serve(d, from, &wr))
			net_send_exchange(w, to, from, wr_done(&wr));
	} else if (to->port == w->exchange_addr.port) {
		trace_message(w, "gets", d);
		exchange_input(w->exchange, w->now_us, &path, d);
		exch_drain(w);
	}
}

void exch_stream_bytes(struct world *w, const struct path *path, struct span d)
{
	trace_message(w, "gets", d);
	exchange_input(w->exchange, w->now_us, path, d);
	exch_drain(w);
}

void exch_stream_event(struct world *w, const struct path *path, enum stream_event ev)
{
	exchange_stream(w->exchange, w->now_us, path, ev);
	exch_drain(w);
}
