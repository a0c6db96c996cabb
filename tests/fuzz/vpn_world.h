/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/fuzz/vpn_world.h - two daemons without sockets, alice who calls and bob who grants a service, with an exchange between them
 * and a wire that the includer may tamper with. Signalling is by UDP: streams never open. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/exchange.h"
#include "ice/stun.h"
#include "net/demux.h"
#include "vpn/impl.h"

#define WIRE_MAX 512
#define DELAY_US MS(5)
#define WALL_S 1795467600
#define SERVICE_PORT 5900
#define PASSWORD "k3Zq9vT1xB7nR5mW2cY8Lx"

enum { ALICE, BOB, EXCHANGE };
enum on_wire { WIRE_SIP, WIRE_STUN, WIRE_IKE, WIRE_ESP, WIRE_OTHER };

struct side {
	struct vpn *vpn;
	struct identity *identity;
	uint8_t key[SPKI_HASH], self[16];
	struct addr ip;
	unsigned call, n_ups, n_downs;
	bool up, granted;
};

struct datagram {
	uint64_t due_us;
	struct addr from, to;
	bool stream_failed; /* not a datagram at all: the stream `from.port` did not open */
	uint64_t stream;
	uint8_t *p;
	size_t len;
};

static struct side sides[2];
static struct exchange *exchange;
static struct exchange_config *exchange_cfg;
static struct datagram wire[WIRE_MAX];
static unsigned n_wire;
static uint64_t now_us;
static struct rng_seeded seed;
static struct rng rng;

/* The includer's: false: the datagram is lost. May change bytes and length (within cap). */
static bool tamper(enum on_wire kind, bool to_bob, uint8_t *p, size_t *len, size_t cap);

static int64_t wall_s(void *arg)
{
	(void)arg;
	return WALL_S + (int64_t)(now_us / 1000000);
}

static struct addr at_port(const struct addr *ip, uint16_t port)
{
	struct addr a = *ip;

	a.port = port;
	return a;
}

static struct addr exchange_addr(uint16_t port)
{
	return addr_ip4(0xcb007101, port);
}

static enum on_wire kind_of(const struct addr *to, struct span d)
{
	static const enum on_wire kinds[] = {
		[DEMUX_IKE] = WIRE_IKE,       [DEMUX_STUN] = WIRE_STUN,       [DEMUX_ESP] = WIRE_ESP,
		[DEMUX_CHANNEL] = WIRE_OTHER, [DEMUX_KEEPALIVE] = WIRE_OTHER, [DEMUX_DROP] = WIRE_OTHER
	};

	return to->port == 6000 || to->port == 5060 ? WIRE_SIP : kinds[demux_classify(d)];
}

/* A copy goes onto the wire. */
static void post(const struct addr *from, const struct addr *to, struct span bytes)
{
	size_t cap = bytes.len + 1024;
	struct datagram d = { .due_us = now_us + DELAY_US, .from = *from, .to = *to, .len = bytes.len };

	if (n_wire == WIRE_MAX)
		return;
	d.p = malloc(cap);
	if (!d.p)
		abort();
	if (bytes.len)
		memcpy(d.p, bytes.p, bytes.len);
	if (tamper(kind_of(to, bytes), addr_ip_eq(to, &sides[BOB].ip) || addr_ip_eq(from, &sides[ALICE].ip), d.p,
		   &d.len, cap))
		wire[n_wire++] = d;
	else
		free(d.p);
}

/* ---- what only a host can do ---- */

static void want(struct side *s, const struct vpn_want *x)
{
	struct addr local = addr_ip4(0x7f000001, 40000);
	const struct side *other = &sides[s == &sides[ALICE]];

	switch (x->kind) {
	case VPN_WANT_PEER_UP:
		/* nobody but the key that is pinned, whatever the path did */
		if (memcmp(x->peer, other->self, 16) ||
		    !span_eq(span_of(x->spki, x->spki_len), identity_spki(other->identity)))
			abort();
		s->n_ups++;
		break;
	case VPN_WANT_PEER_DOWN:
		if (++s->n_downs > s->n_ups)
			abort();
		break;
	case VPN_WANT_FORWARD:
		if (s != &sides[ALICE] || x->protocol != 6 || x->port != SERVICE_PORT)
			abort(); /* bob grants nothing else */
		vpn_forward_ready(s->vpn, now_us, x->call, x->grant_id, &local);
		break;
	case VPN_WANT_NETWORK_UP:
	case VPN_WANT_NETWORK_DOWN: abort(); /* bob grants none */
	case VPN_WANT_FORWARD_CLOSE:
	case VPN_WANT_SAVE_PINS:
	case VPN_WANT_AUDIT: break;
	}
}

static void told(struct side *s, const struct vpn_event *e)
{
	const struct side *other = &sides[s == &sides[ALICE]];

	if (e->kind == VPN_EV_INCOMING)
		s->call = e->call;
	if ((e->kind == VPN_EV_AUTHENTICATED || e->kind == VPN_EV_UP || e->kind == VPN_EV_GRANTED) &&
	    (!e->has_key || memcmp(e->key, other->key, SPKI_HASH) || e->level != LEVEL_PINNED))
		abort();
	if (e->kind == VPN_EV_ENDED && !e->reason[0])
		abort(); /* an end without a sentence */
	s->up |= e->kind == VPN_EV_UP;
	s->granted |= e->kind == VPN_EV_GRANTED;
}

static void put_out(struct side *s, enum vpn_channel channel, const struct out *o)
{
	static uint8_t marked[4 + 65536];
	struct addr from = o->path.local;

	if (o->kind == OUT_OPEN && n_wire < WIRE_MAX)
		wire[n_wire++] = (struct datagram){ .due_us = now_us,
						    .to = at_port(&s->ip, 6000),
						    .from = o->path.remote,
						    .stream_failed = true,
						    .stream = o->path.stream };
	if (o->kind != OUT_SEND || o->path.transport != TRANSPORT_UDP || o->bytes.len > sizeof(marked) - 4)
		return;
	if (channel == VPN_SIP)
		from = at_port(&s->ip, 6000);
	if (channel != VPN_IKE) {
		post(&from, &o->path.remote, o->bytes);
		return;
	}
	memcpy(marked + 4, o->bytes.p, o->bytes.len);
	post(&from, &o->path.remote, span_of(marked, o->bytes.len + 4));
}

static void drain(struct side *s)
{
	enum vpn_channel channel;
	struct vpn_want x;
	struct vpn_event e;
	struct out o;
	bool more = true;

	while (more) {
		more = false;
		for (; vpn_poll_want(s->vpn, &x); more = true)
			want(s, &x);
		for (; vpn_poll_output(s->vpn, &channel, &o); more = true)
			put_out(s, channel, &o);
		for (; vpn_poll_event(s->vpn, &e); more = true)
			told(s, &e);
	}
}

static void exchange_drain(void)
{
	struct out o;

	while (exchange_poll_output(exchange, &o))
		if (o.kind == OUT_SEND && o.path.transport == TRANSPORT_UDP)
			post(&(struct addr[1]){ exchange_addr(5060) }[0], &o.path.remote, o.bytes);
}

/* ---- in ---- */

/* What comes out of a tunnel was granted: the service's packets one way, the answers the other, errors about them, echoes. */
static void inner(const struct side *s, const uint8_t *p, size_t len)
{
	uint16_t port;

	if (len < 44 || p[0] >> 4 != 6 || memcmp(p + 8, sides[s == &sides[ALICE]].self, 16) ||
	    memcmp(p + 24, s->self, 16))
		abort();
	if (p[6] == 58)
		return;
	port = s == &sides[BOB] ? be16(p + 42) : be16(p + 40);
	if (p[6] != 6 || port != SERVICE_PORT)
		abort();
}

static void tunnel_in(struct side *s, const struct path *path, uint8_t *p, size_t len)
{
	struct esp_packet in = { .path = *path, .p = p, .len = len }, out[ESP_BATCH];
	struct span d = span_of(p, len);
	unsigned n;

	switch (demux_classify(d)) {
	case DEMUX_IKE: vpn_input_ike(s->vpn, now_us, path, span_from(d, 4)); break;
	case DEMUX_STUN: vpn_input_stun(s->vpn, now_us, path, d); break;
	case DEMUX_ESP:
		n = vpn_input_esp(s->vpn, now_us, &in, 1, out);
		for (unsigned i = 0; i < n; i++)
			inner(s, out[i].p, out[i].len);
		break;
	case DEMUX_CHANNEL:
	case DEMUX_KEEPALIVE:
	case DEMUX_DROP: break;
	}
}

static void deliver(struct datagram *d)
{
	struct path path = { .local = d->to, .remote = d->from };
	uint8_t mem[256];
	struct wr w = wr_of(mem, sizeof(mem));

	for (int k = 0; k < 2; k++) {
		struct side *s = &sides[k];

		if (!addr_ip_eq(&d->to, &s->ip))
			continue;
		if (d->stream_failed) {
			path.transport = TRANSPORT_TCP;
			path.stream = d->stream;
			vpn_input_stream(s->vpn, now_us, &path, STREAM_FAILED);
		} else if (d->to.port == 6000) {
			vpn_input_sip(s->vpn, now_us, &path, span_of(d->p, d->len));
		} else if (d->to.port == 4500) {
			tunnel_in(s, &path, d->p, d->len);
		}
		drain(s);
	}
	if (addr_eq(&d->to, &(struct addr[1]){ exchange_addr(5060) }[0])) {
		exchange_input(exchange, now_us, &path, span_of(d->p, d->len));
		exchange_drain();
	} else if (addr_eq(&d->to, &(struct addr[1]){ exchange_addr(3478) }[0]) &&
		   stun_serve(span_of(d->p, d->len), &d->from, &w)) {
		post(&d->to, &d->from, wr_done(&w));
	}
}

static void pass(uint64_t for_us)
{
	uint64_t until = now_us + for_us;
	unsigned still = 0;

	for (;;) {
		uint64_t due = exchange_deadline_us(exchange);
		unsigned first = WIRE_MAX;

		for (int k = 0; k < 2; k++)
			if (vpn_deadline_us(sides[k].vpn) < due)
				due = vpn_deadline_us(sides[k].vpn);
		for (unsigned i = 0; i < n_wire; i++)
			if (wire[i].due_us <= due && (first == WIRE_MAX || wire[i].due_us < wire[first].due_us)) {
				due = wire[i].due_us;
				first = i;
			}
		if (due > until)
			break;
		still = due > now_us ? 0 : still + 1;
		if (still > 2000)
			abort(); /* time stands still */
		if (due > now_us)
			now_us = due;
		if (first != WIRE_MAX) {
			struct datagram d = wire[first];

			memmove(wire + first, wire + first + 1, (--n_wire - first) * sizeof(wire[0]));
			deliver(&d);
			free(d.p);
			continue;
		}
		exchange_tick(exchange, now_us);
		exchange_drain();
		for (int k = 0; k < 2; k++) {
			vpn_tick(sides[k].vpn, now_us);
			drain(&sides[k]);
		}
	}
	now_us = until;
}

/* ---- life ---- */

/* The configuration of one side; without: the other is not pinned, or is granted nothing. */
static void load(int k, bool pins, bool grants, struct config **ret_cfg, struct trust **ret_trust)
{
	char text[1024], key[KEY_TEXT];
	struct conf_error why;

	(void)snprintf(text, sizeof(text),
		       "[daemon]\ndead-after = 30s\nmax-calls = 4\n[account]\naor = sip:%s@e\nserver = "
		       "203.0.113.1;transport=udp\n"
		       "password = " PASSWORD "\ninsecure-digest = yes\n[service desktop]\nlisten = tcp/5900\n"
		       "[service other]\nlisten = udp/7777\n%s%s%s%s%s%s",
		       k ? "b" : "a", pins ? "[peer sip:" : "", pins ? (k ? "a" : "b") : "", pins ? "@e]\nkey = " : "",
		       pins ? key_text(sides[!k].key, key) : "", pins ? "\n" : "",
		       pins && grants && k ? "allow = desktop\n" : "");
	if (config_parse("f", span_str(text), ret_cfg, &why) != OK || trust_new(ret_trust) != OK ||
	    trust_load(*ret_trust, "pins", SPAN_NONE, *ret_cfg, &why) != OK)
		abort();
}

static void identities_free(void)
{
	identity_free(sides[ALICE].identity);
	identity_free(sides[BOB].identity);
	exchange_config_free(exchange_cfg);
}

static void world_once(void)
{
	static const char *const mails[] = { "a@e", "b@e" };
	static const char conf[] = "[exchange]\ndomain = e\nlisten = 203.0.113.1\n[user a]\npassword = " PASSWORD
				   "\n[user b]\npassword = " PASSWORD "\n";
	struct conf_error why;

	for (int k = 0; k < 2; k++)
		if (identity_generate(&mails[k], 1, WALL_S, &sides[k].identity) != OK ||
		    spki_hash(identity_spki(sides[k].identity), sides[k].key) != OK ||
		    spki_address(identity_spki(sides[k].identity), sides[k].self) != OK)
			abort();
	if (exchange_config_parse("f", span_str(conf), &exchange_cfg, &why) != OK)
		abort();
	(void)atexit(identities_free);
}

static void world_init(void)
{
	struct exchange_env exchange_env = { .rng = &rng, .wall_s = wall_s };
	struct vpn_env env = { .rng = &rng, .wall_s = wall_s };
	struct addr server = exchange_addr(5060), stun = exchange_addr(3478);

	if (!exchange_cfg)
		world_once();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1000);
	n_wire = 0;
	if (exchange_new(&exchange_env, exchange_cfg, &exchange) != OK)
		abort();
	for (int k = 0; k < 2; k++) {
		struct side *s = &sides[k];
		struct trust *trust;
		struct config *cfg;
		struct addr local, sip;

		s->ip = addr_ip4(0x0a000001u + (uint32_t)k, 0);
		s->call = s->n_ups = s->n_downs = 0;
		s->up = s->granted = false;
		local = at_port(&s->ip, 4500);
		sip = at_port(&s->ip, 6000);
		load(k, true, true, &cfg, &trust);
		if (vpn_new(&env, cfg, trust, s->identity, &s->vpn) != OK)
			abort();
		vpn_set_locals(s->vpn, now_us, &local, 1);
		vpn_set_server(s->vpn, now_us, 0, &server, &stun, &sip);
		drain(s);
	}
}

/* Both say good-bye; whatever happened before, nothing is left. */
static void world_done(void)
{
	for (int k = 0; k < 2; k++) {
		vpn_hangup_all(sides[k].vpn, now_us);
		drain(&sides[k]);
	}
	pass(SECONDS(150));
	for (int k = 0; k < 2; k++) {
		if (vpn_calls_active(sides[k].vpn) || sides[k].vpn->calls || !vpn_idle(sides[k].vpn) ||
		    sides[k].n_ups != sides[k].n_downs)
			abort();
		vpn_free(sides[k].vpn);
	}
	exchange_free(exchange);
	while (n_wire)
		free(wire[--n_wire].p);
}
