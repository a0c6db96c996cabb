/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/host.c - a host: its daemon (struct vpn), and in the place of net/, relays and the monitor this file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/demux.h"
#include "sim.h"
#include "vpn/impl.h"

static int64_t wall_s(void *arg)
{
	const struct host *h = arg;

	return SIM_WALL_S + h->setup.clock_off_s + (int64_t)((h->w->now_us - SECONDS(1000)) / 1000000);
}

static void log_line(void *arg, enum log_level level, const char *area, const char *tag, const char *text)
{
	struct host *h = arg;

	world_trace(h->w, "%s %s [%s] %s %s", h->name, log_level_name(level), area, tag, text);
}

/* ---- life ---- */

static void place(struct host *h)
{
	struct world *w = h->w;
	uint32_t i = h->index;
	struct addr outside = addr_ip4(0xcb007164u + i, 0), provider = addr_ip4(0xcb0071c8u + i, 0);
	uint8_t ip6[16] = { 0x20, 0x01, 0x0d, 0xb8, (uint8_t)(i + 1), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };

	h->delay_us = world_below(w, MS(75));
	h->tunnel_port = 4500;
	h->sip_port = (uint16_t)(32768 + world_below(w, 28000));
	h->ip4 = addr_ip4(0xcb00710au + i, 0);
	if (h->setup.shares_lan) {
		h->nat = w->hosts[0]->nat;
		h->ip4 = addr_ip4(0xc0a8010bu + i, 0);
	} else if (h->setup.nat != NAT_NONE) {
		if (h->setup.outer != NAT_NONE) {
			h->outer = sim_new(sizeof(*h->outer));
			nat_init(h->outer, &w->net_rng, h->setup.outer, &provider);
			outside = addr_ip4(0x64400001u + i, 0); /* 100.64/10 (RFC 6598) */
		}
		h->nat = sim_new(sizeof(*h->nat));
		nat_init(h->nat, &w->net_rng, h->setup.nat, &outside);
		/* homes often use the same addresses inside */
		h->ip4 = addr_ip4(world_below(w, 2) ? 0xc0a8010au : 0xc0a8010au + (i << 8), 0);
	}
	if (h->setup.has_ip6) {
		h->ip6 = addr_of(span_of(ip6, 16), 0);
		h->firewall = sim_new(sizeof(*h->firewall));
		nat_init(h->firewall, &w->net_rng, NAT_PORT, &h->ip6);
		h->firewall->firewall = true;
	}
}

struct host *host_new(struct world *w, const struct host_setup *s)
{
	struct host *h = sim_new(sizeof(*h));

	if (w->n_hosts == SIM_HOSTS_MAX)
		abort();
	h->w = w;
	h->index = w->n_hosts;
	w->hosts[w->n_hosts++] = h;
	h->setup = *s;
	h->setup.extra = (char *)sim_copy(span_str(s->extra));
	h->identity = pool_identity(s->identity);
	h->deadline_us = TIME_NEVER;
	h->events = sim_new(SIM_EVENTS_MAX * sizeof(*h->events));
	if (spki_hash(identity_spki(h->identity), h->key) != OK ||
	    spki_address(identity_spki(h->identity), h->self) != OK)
		abort();
	(void)snprintf(h->name, sizeof(h->name), "%s%s", s->user, s->aor_user ? "'" : "");
	(void)snprintf(h->aor, sizeof(h->aor), "sip:%s@" SIM_DOMAIN, s->aor_user ? s->aor_user : s->user);
	h->sink = (struct log_sink){ .level = LOG_DEBUG, .write = log_line, .arg = h };
	place(h);
	if (w->trace)
		world_trace(w, "%s: NAT %s%s, mappings of %llu s, %llu ms away, SIP by %s", h->name,
			    nat_kind_name(s->nat), h->nat && h->nat->preserves_port ? " that preserves ports" : "",
			    (unsigned long long)(h->nat ? h->nat->timeout_us / 1000000 : 0),
			    (unsigned long long)(h->delay_us / 1000), s->udp_signalling ? "UDP" : "TCP");
	return h;
}

void host_free(struct host *h)
{
	vpn_free(h->vpn);
	if (!h->setup.shares_lan)
		free(h->nat);
	free(h->outer);
	free(h->firewall);
	free((void *)(uintptr_t)h->setup.extra);
	free(h->pins);
	free(h->events);
	free(h);
}

enum err host_load(struct host *h, struct config **ret_cfg, struct trust **ret_trust)
{
	char text[8192];
	struct conf_error why = { .text = "" };
	enum err e;

	(void)snprintf(text, sizeof(text),
		       "[daemon]\nport = %u\n%s[account]\naor = %s\nserver = 198.51.100.1%s\nuser = %s\npassword = %s\n"
		       "insecure-digest = yes\n%s",
		       h->tunnel_port, h->setup.daemon ? h->setup.daemon : "", h->aor,
		       h->setup.udp_signalling ? ";transport=udp" : ";transport=tcp", h->setup.user,
		       h->setup.password ? h->setup.password : exch_password(h->setup.user), h->setup.extra);
	e = config_parse("tielined.conf", span_str(text), ret_cfg, &why);
	if (e == OK && (e = trust_new(ret_trust)) == OK)
		e = trust_load(*ret_trust, "pins", span_str(h->pins ? h->pins : ""), *ret_cfg, &why);
	if (e != OK)
		world_fail(h->w, "%s: configuration: %s", h->name, why.text);
	return e;
}

bool host_start(struct host *h)
{
	struct world *w = h->w;
	struct vpn_env env = { .rng = &w->rng, .log = w->trace ? &h->sink : NULL, .wall_s = wall_s, .arg = h };
	struct addr locals[2], sip = h->ip4;
	struct config *cfg = NULL;
	struct trust *trust = NULL;
	unsigned n = 0;

	if (host_load(h, &cfg, &trust) != OK)
		return false;
	if (vpn_new(&env, cfg, trust, h->identity, &h->vpn) != OK) {
		world_fail(w, "%s does not start", h->name);
		return false;
	}
	locals[n++] = h->ip4;
	if (h->ip6.family)
		locals[n++] = h->ip6;
	for (unsigned i = 0; i < n; i++)
		locals[i].port = h->tunnel_port;
	sip.port = h->sip_port;
	vpn_set_locals(h->vpn, w->now_us, locals, n);
	vpn_set_server(h->vpn, w->now_us, 0, &w->exchange_addr, &w->stun_addr, &sip);
	host_drain(h);
	return true;
}

enum err host_reload(struct host *h, const char *extra)
{
	struct config *cfg;
	struct trust *trust;
	enum err e;

	free((void *)(uintptr_t)h->setup.extra);
	h->setup.extra = (char *)sim_copy(span_str(extra));
	if (host_load(h, &cfg, &trust) != OK)
		return ERR_MALFORMED;
	e = vpn_reload(h->vpn, h->w->now_us, cfg, trust);
	host_drain(h);
	return e;
}

void host_kill(struct host *h)
{
	world_trace(h->w, "%s: the daemon dies", h->name);
	stream_host_gone(h);
	vpn_free(h->vpn);
	h->vpn = NULL;
	h->deadline_us = TIME_NEVER;
	h->n_restarts++;
	h->n_events = 0; /* call numbers begin again */
	h->n_networks = h->n_peers = h->n_forwards =
		0; /* the end of the daemon is the end of every address, route and socket (7.6) */
}

/* ---- what only a host can do ---- */

static void want_peer(struct host *h, const struct vpn_want *x, bool up)
{
	for (unsigned i = 0; i < h->n_peers; i++)
		if (h->peers[i].call == x->call) {
			if (up || !h->peers[i].up || memcmp(h->peers[i].peer, x->peer, 16))
				h->n_bad_wants++;
			h->peers[i].up = false;
			for (unsigned k = 0; k < h->n_forwards; k++)
				if (h->forwards[k].call == x->call)
					h->forwards[k].open = false;
			return;
		}
	if (!up || h->n_peers == SIM_PEERS_MAX) {
		h->n_bad_wants++;
		return;
	}
	h->peers[h->n_peers] = (struct sim_peer){ .call = x->call, .up = true };
	memcpy(h->peers[h->n_peers++].peer, x->peer, 16);
}

static void want_forward(struct host *h, const struct vpn_want *x)
{
	struct addr local = addr_ip4(0x7f000001u, (uint16_t)(40000 + h->n_forwards));
	struct sim_forward *f = &h->forwards[h->n_forwards];

	if (h->n_forwards == SIM_FORWARDS_MAX)
		abort();
	if (h->refuse_forwards) {
		local.family = ADDR_NONE;
	} else {
		h->n_forwards++;
		*f = (struct sim_forward){
			.call = x->call, .grant_id = x->grant_id, .protocol = x->protocol, .port = x->port, .open = true
		};
		memcpy(f->peer, x->peer, 16);
	}
	vpn_forward_ready(h->vpn, h->w->now_us, x->call, x->grant_id, &local);
}

static void want_close(struct host *h, const struct vpn_want *x)
{
	if (x->name[0]) /* callee: connections to the service, which are not simulated */
		return;
	for (unsigned i = 0; i < h->n_forwards; i++)
		if (h->forwards[i].call == x->call && h->forwards[i].grant_id == x->grant_id && h->forwards[i].open) {
			h->forwards[i].open = false;
			return;
		}
	if (!h->refuse_forwards)
		h->n_bad_wants++;
}

/* Each once, and never two of one call's grant. */
static void want_network(struct host *h, const struct vpn_want *x, bool up)
{
	unsigned i = 0;

	while (i < h->n_networks && (h->networks[i].call != x->call || h->networks[i].grant_id != x->grant_id))
		i++;
	if (up ? i < h->n_networks || i == SIM_NETWORKS_MAX : i == h->n_networks) {
		h->n_bad_wants++;
		return;
	}
	if (up)
		h->networks[h->n_networks++] = (struct sim_network){
			.call = x->call, .grant_id = x->grant_id, .ours = x->ours, .n = x->network
		};
	else
		h->networks[i] = h->networks[--h->n_networks];
	if (up && x->ours)
		vpn_network_ready(h->vpn, h->w->now_us, x->call, x->grant_id, true);
}

static void save_pins(struct host *h)
{
	char *text;
	size_t len;

	if (trust_write(vpn_trust(h->vpn), &text, &len) != OK)
		return; /* no memory: said in a log */
	free(h->pins);
	h->pins = text;
	h->n_saves++;
}

static void carry_out(struct host *h, const struct vpn_want *x)
{
	static const char *const names[] = { "peer up",    "peer down",    "forward",   "close forward",
					     "network up", "network down", "save pins", "audit:" };

	world_trace(h->w, "%s wants %s %s (call %u)", h->name, names[x->kind], x->text, x->call);
	switch (x->kind) {
	case VPN_WANT_PEER_UP: want_peer(h, x, true); break;
	case VPN_WANT_PEER_DOWN: want_peer(h, x, false); break;
	case VPN_WANT_FORWARD: want_forward(h, x); break;
	case VPN_WANT_FORWARD_CLOSE: want_close(h, x); break;
	case VPN_WANT_NETWORK_UP: want_network(h, x, true); break;
	case VPN_WANT_NETWORK_DOWN: want_network(h, x, false); break;
	case VPN_WANT_SAVE_PINS: save_pins(h); break;
	case VPN_WANT_AUDIT: h->n_audit++; break;
	}
}

static void told(struct host *h, const struct vpn_event *e)
{
	world_trace(h->w, "%s: call %u %s %s %s%s (%d) %s", h->name, e->call, vpn_event_name(e->kind), e->peer, e->name,
		    e->path_type, (int)e->code, e->reason);
	if (h->n_events == SIM_EVENTS_MAX) {
		world_fail(h->w, "%s: more than %d events", h->name, SIM_EVENTS_MAX);
		return;
	}
	h->events[h->n_events++] = (struct sim_event){ .at_us = h->w->now_us, .e = *e };
}

static void put_out(struct host *h, enum vpn_channel channel, const struct out *o)
{
	uint8_t marked[SIM_DATAGRAM_MAX + 4] = { 0 };

	h->n_stun_out += channel == VPN_STUN;
	h->n_ike_out += channel == VPN_IKE;
	if (channel == VPN_SIP && o->path.transport != TRANSPORT_UDP) {
		stream_output(h, o);
	} else if (channel == VPN_IKE && o->bytes.len <= SIM_DATAGRAM_MAX) {
		memcpy(marked + 4, o->bytes.p, o->bytes.len);
		net_send(h, &o->path, span_of(marked, o->bytes.len + 4));
	} else {
		struct path path = o->path;

		if (path.local.family == ADDR_NONE || addr_is_any(&path.local)) {
			path.local = h->ip4;
			path.local.port = h->sip_port;
		}
		net_send(h, &path, o->bytes);
	}
}

void host_drain(struct host *h)
{
	enum vpn_channel channel;
	struct vpn_want x;
	struct vpn_event e;
	struct out o;
	bool more = true;

	while (more) {
		more = false;
		while (vpn_poll_want(h->vpn, &x)) {
			carry_out(h, &x);
			more = true;
		}
		while (vpn_poll_output(h->vpn, &channel, &o)) {
			put_out(h, channel, &o);
			more = true;
		}
		while (vpn_poll_event(h->vpn, &e)) {
			told(h, &e);
			more = true;
		}
	}
	h->deadline_us = vpn_deadline_us(h->vpn);
}

void host_tick(struct host *h)
{
	vpn_tick(h->vpn, h->w->now_us);
	host_drain(h);
}

static void esp_in(struct host *h, const struct path *path, uint8_t *p, size_t len)
{
	struct esp_packet in = { .p = p, .len = len, .path = path, .tos = path->tos }, out[ESP_BATCH];
	unsigned n = vpn_input_esp(h->vpn, h->w->now_us, &in, 1, out);

	for (unsigned i = 0; i < n; i++) {
		uint8_t packet[ESP_PACKET_MAX];

		memcpy(packet, out[i].p, out[i].len); /* answering uses the plane again */
		inner_input(h, packet, out[i].len);
	}
	while (vpn_poll_inner(h->vpn, &in))
		inner_input(h, in.p, in.len);
}

void host_datagram(struct host *h, const struct path *path, uint8_t *p, size_t len)
{
	struct span d = span_of(p, len);

	if (path->local.port == h->sip_port) {
		vpn_input_sip(h->vpn, h->w->now_us, path, d);
	} else if (path->local.port != h->tunnel_port) {
		return;
	} else {
		switch (demux_classify(d)) {
		case DEMUX_IKE: vpn_input_ike(h->vpn, h->w->now_us, path, span_from(d, 4)); break;
		case DEMUX_STUN: vpn_input_stun(h->vpn, h->w->now_us, path, d); break;
		case DEMUX_ESP: esp_in(h, path, p, len); break;
		case DEMUX_CHANNEL:
		case DEMUX_KEEPALIVE:
		case DEMUX_DROP: break;
		}
	}
	if (h->vpn)
		host_drain(h);
}

/* ---- users ---- */

unsigned host_call(struct host *h, const char *to, const char *service, bool trust_first)
{
	struct vpn_call_request r = { .to = to, .service = service, .trust_first = trust_first, .owner = 1 };
	unsigned call = 0;

	world_trace(h->w, "%s: a user calls %s%s%s", h->name, to, service ? "/" : "", service ? service : "");
	if (vpn_call(h->vpn, h->w->now_us, &r, &call) != OK)
		call = 0;
	host_drain(h);
	return call;
}

void host_hangup(struct host *h, unsigned call)
{
	world_trace(h->w, "%s: a user hangs up call %u", h->name, call);
	(void)!vpn_hangup(h->vpn, h->w->now_us, call);
	host_drain(h);
}

enum err host_answer(struct host *h, unsigned call, bool yes, const char **ret_why)
{
	struct vpn_answer a = { .call = call, .yes = yes };
	enum err e = vpn_answer(h->vpn, h->w->now_us, &a, ret_why);

	world_trace(h->w, "%s: the owner says %s to call %u: %s", h->name, yes ? "yes" : "no", call, *ret_why);
	host_drain(h);
	return e;
}

const struct vpn_event *host_event(const struct host *h, enum vpn_event_kind kind, unsigned call)
{
	for (unsigned i = h->n_events; i-- > 0;)
		if (h->events[i].e.kind == kind && (!call || h->events[i].e.call == call))
			return &h->events[i].e;
	return NULL;
}

unsigned host_event_count(const struct host *h, enum vpn_event_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->n_events; i++)
		n += h->events[i].e.kind == kind;
	return n;
}

unsigned host_calls(const struct host *h)
{
	return h->vpn ? vpn_calls_active(h->vpn) : 0;
}

bool host_registered(const struct host *h)
{
	struct vpn_account_status s;

	return h->vpn && vpn_account_status(h->vpn, 0, &s) && s.registered;
}

const char *peer_section(struct world *w, const char *user, unsigned identity, const char *allow)
{
	char key[KEY_TEXT], *text = w->text[w->n_text++ % 8];
	uint8_t hash[SPKI_HASH];

	if (spki_hash(identity_spki(pool_identity(identity)), hash) != OK)
		abort();
	(void)snprintf(text, sizeof(w->text[0]), "[peer sip:%s@" SIM_DOMAIN "]\nkey = %s\n%s%s%s", user,
		       key_text(hash, key), allow ? "allow = " : "", allow ? allow : "", allow ? "\n" : "");
	return text;
}
