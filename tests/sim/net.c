/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/net.c - datagrams: out through the NATs, over a lossy network, in through the NATs. */
#include <string.h>

#include "net/demux.h"
#include "sim.h"

static bool is_exchange(const struct world *w, const struct addr *a)
{
	return addr_ip_eq(a, &w->exchange_addr);
}

/* Who sits at a public address: a host itself, or the outermost box before it. */
static struct host *at_public(struct world *w, const struct addr *a)
{
	for (unsigned i = 0; i < w->n_hosts; i++) {
		struct host *h = w->hosts[i];
		const struct addr *out = h->outer ? &h->outer->outside : h->nat ? &h->nat->outside : &h->ip4;

		if (addr_ip_eq(a, out) || (h->ip6.family && addr_ip_eq(a, &h->ip6)))
			return h;
	}
	return NULL;
}

uint64_t net_delay_us(struct world *w, const struct host *h)
{
	return h->delay_us + w->exchange_delay_us;
}

static void fly(struct world *w, uint64_t delay_us, const struct addr *from, const struct addr *to, struct span bytes,
		struct host *local)
{
	struct event e = { .kind = EVENT_DATAGRAM,
			   .from = *from,
			   .to = *to,
			   .local = local,
			   .bytes = (uint8_t *)(uintptr_t)bytes.p,
			   .len = bytes.len };
	unsigned copies = world_below(w, 1000000) < w->dup_ppm ? 2 : 1;

	w->n_datagrams++;
	if (world_below(w, 1000000) < w->loss_ppm) {
		w->n_lost++;
		if (w->trace) {
			char a[ADDR_TEXT], b[ADDR_TEXT];

			world_trace(w, "  lost: %s to %s, %zu bytes", addr_write(from, a), addr_write(to, b),
				    bytes.len);
		}
		return;
	}
	while (copies--) {
		/* a little jitter; one that is reordered is overtaken by what follows */
		e.due_us = w->now_us + delay_us + world_below(w, 500);
		if (world_below(w, 1000000) < w->reorder_ppm)
			e.due_us += MS(1) + world_below(w, MS(60));
		world_post(w, &e);
	}
}

static void trace_datagram(struct world *w, const char *who, const struct addr *from, const struct addr *to,
			   struct span d)
{
	char a[ADDR_TEXT], b[ADDR_TEXT];

	if (w->trace)
		world_trace(w, "  %s: %s %s to %s, %zu bytes", who,
			    from->port == 5060 || to->port == 5060 ? "sip" : demux_kind_name(demux_classify(d)),
			    addr_write(from, a), addr_write(to, b), d.len);
}

/* A link between two hosts drops what is too long for it, with no word about it. IKE may be in fragments, which arrive. */
static bool too_long(const struct host *h, const struct host *o, const struct addr *from, struct span d)
{
	bool six = from->family == ADDR_IP6;
	size_t len = d.len + (six ? 48 : 28);
	unsigned here = six && h->mtu6 ? h->mtu6 : h->mtu, there = !o ? 0 : six && o->mtu6 ? o->mtu6 : o->mtu;

	return from->port == h->tunnel_port && demux_classify(d) != DEMUX_IKE &&
	       ((here && len > here) || (there && len > there));
}

/* Inside one LAN: no NAT, hardly any delay. True: it was for there. */
static bool local(struct host *h, const struct addr *from, const struct addr *to, struct span d)
{
	for (unsigned i = 0; i < h->w->n_hosts; i++) {
		struct host *o = h->w->hosts[i];

		if (h->nat && o->nat == h->nat && addr_ip_eq(&o->ip4, to)) {
			fly(h->w, MS(1), from, to, d, o);
			return true;
		}
	}
	return false;
}

/* Somebody on the wire sends it once more, from an address of his own, and once with a bit turned. */
static void echo(struct world *w, uint64_t delay_us, const struct addr *to, struct span d)
{
	struct addr third = addr_ip4(0xcb007142u, 6666);
	uint8_t copy[SIM_DATAGRAM_MAX];

	memcpy(copy, d.p, d.len);
	fly(w, delay_us + MS(1), &third, to, d, NULL);
	if (!w->evil.damages)
		return;
	if (d.len > 8)
		copy[8 + world_below(w, d.len - 8)] ^= (uint8_t)(1u << world_below(w, 8));
	fly(w, delay_us + MS(1), &third, to, span_of(copy, d.len), NULL);
}

static bool let_in(struct world *w, struct host *h, const struct addr *from, struct addr *to)
{
	if (to->family == ADDR_IP6)
		return !h->firewall || nat_in(h->firewall, w->now_us, from, to);
	return (!h->outer || nat_in(h->outer, w->now_us, from, to)) && (!h->nat || nat_in(h->nat, w->now_us, from, to));
}

static bool let_out(struct world *w, struct host *h, struct addr *from, const struct addr *to)
{
	if (from->family == ADDR_IP6)
		return !h->firewall || nat_out(h->firewall, &w->net_rng, w->now_us, from, to);
	return (!h->nat || nat_out(h->nat, &w->net_rng, w->now_us, from, to)) &&
	       (!h->outer || nat_out(h->outer, &w->net_rng, w->now_us, from, to));
}

void net_send(struct host *h, const struct path *path, struct span d)
{
	struct world *w = h->w;
	struct addr from = path->local, to = path->remote;
	struct host *o;

	trace_datagram(w, h->name, &from, &to, d);
	h->n_datagrams_out++;
	if (h->cut)
		return;
	if (from.family != to.family || d.len > SIM_DATAGRAM_MAX) {
		world_fail(w, "%s sends from one family to the other, or too much", h->name);
		return;
	}
	if (from.family == ADDR_IP4 && !addr_ip_eq(&from, &h->ip4)) {
		world_fail(w, "%s sends from an address that it does not have", h->name);
		return;
	}
	if (local(h, &from, &to, d))
		return;
	if (addr_is_private(&to) && to.family == ADDR_IP4)
		return; /* nobody of that name here */
	if (!let_out(w, h, &from, &to))
		return;
	o = at_public(w, &to);
	if (too_long(h, o, &path->local, d)) {
		h->n_too_long++;
		return;
	}
	if (is_exchange(w, &to)) {
		fly(w, net_delay_us(w, h), &from, &to, d, NULL);
	} else if (o && (o->nat != h->nat || !h->nat)) {
		fly(w, h->delay_us + o->delay_us, &from, &to, d, NULL);
		if (w->evil.echoes)
			echo(w, h->delay_us + o->delay_us, &to, d);
	}
}

void net_send_exchange(struct world *w, const struct addr *from, const struct addr *to, struct span d)
{
	struct host *o = at_public(w, to);

	if (o && !w->exchange_cut)
		fly(w, net_delay_us(w, o), from, to, d, NULL);
}

void net_arrive(struct world *w, struct event *e)
{
	struct path path = { .transport = TRANSPORT_UDP, .remote = e->from };
	struct host *h = NULL;

	if (is_exchange(w, &e->to)) {
		exch_datagram(w, &e->from, &e->to, span_of(e->bytes, e->len));
		return;
	}
	if (e->local) {
		h = e->local;
	} else {
		h = at_public(w, &e->to);
		if (h && !let_in(w, h, &e->from, &e->to))
			h = NULL;
		/* several hosts behind one box */
		for (unsigned i = 0; h && h->nat && i < w->n_hosts; i++)
			if (w->hosts[i]->nat == h->nat && addr_ip_eq(&w->hosts[i]->ip4, &e->to)) {
				h = w->hosts[i];
				break;
			}
	}
	if (!h || !h->vpn || h->cut)
		return;
	path.local = e->to;
	host_datagram(h, &path, e->bytes, e->len);
}
