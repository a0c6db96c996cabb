/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/inner.c - a small IP stack behind each tunnel: it answers echoes, SYNs and datagrams, and checks that
 * nothing is ever delivered to it that no grant covers. It reads packets by itself, with no code of the data plane. */
#include <string.h>

#include "sim.h"

enum {
	TCP = 6,
	UDP = 17,
	ICMP6 = 58,
	IP6_HEADER = 40,
	FRAGMENT = 44,
	PIECE = 1280 - IP6_HEADER - 8, /* what the host's stack sends in one piece */
	TOO_BIG = 2,
	ECHO = 128,
	ECHO_REPLY = 129,
	FIN = 1,
	SYN = 2,
	RST = 4,
	ACK = 16
};

/* ---- building ---- */

static uint16_t sum(const uint8_t src[16], const uint8_t dst[16], uint8_t protocol, struct span body)
{
	uint32_t s = (uint32_t)body.len + protocol;

	for (size_t i = 0; i < 16; i += 2)
		s += (uint32_t)be16(src + i) + be16(dst + i);
	for (size_t i = 0; i < body.len; i += 2)
		s += (uint32_t)(body.p[i] << 8 | (i + 1 < body.len ? body.p[i + 1] : 0));
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)~s;
}

static void send_raw(struct host *h, uint8_t *packet, size_t len)
{
	struct esp_packet in = { .p = packet, .len = len }, out[ESP_BATCH_OUT], told;
	unsigned n = vpn_input_inner(h->vpn, h->w->now_us, &in, 1, out);

	for (unsigned i = 0; i < n; i++) {
		struct path path = *out[i].path;

		path.tos = out[i].tos;
		net_send(h, &path, span_of(out[i].p, out[i].len));
	}
	while (vpn_poll_inner(h->vpn, &told)) {
		if (told.len < IP6_HEADER + 8 || told.p[6] != ICMP6 || told.p[IP6_HEADER] != TOO_BIG ||
		    memcmp(told.p + 24, packet + 8, 16) || memcmp(told.p + 8, h->self, 16) ||
		    sum(told.p + 8, told.p + 24, ICMP6, span_of(told.p + IP6_HEADER, told.len - IP6_HEADER)))
			world_fail(h->w, "%s is told something strange", h->name);
		h->inner.n_told++;
		h->inner.told_mtu = be32(told.p + IP6_HEADER + 4);
	}
}

/* at: where in the body its checksum goes, already zero. */
static void send_packet(struct host *h, const uint8_t src[16], const uint8_t dst[16], uint8_t protocol, uint8_t *body,
			size_t len, size_t at)
{
	uint8_t packet[ESP_PACKET_MAX];
	struct wr w = wr_of(packet, sizeof(packet));

	put_be16(body + at, sum(src, dst, protocol, span_of(body, len)));
	wr_u32(&w, 0x60000000);
	wr_u16(&w, (uint16_t)len);
	wr_u8(&w, protocol);
	wr_u8(&w, 64);
	wr_bytes(&w, src, 16);
	wr_bytes(&w, dst, 16);
	wr_bytes(&w, body, len);
	send_raw(h, packet, w.len);
}

static void send_echo(struct host *h, const uint8_t src[16], const uint8_t dst[16], uint8_t type, uint16_t id)
{
	uint8_t body[64] = { type };

	put_be16(body + 4, id);
	send_packet(h, src, dst, ICMP6, body, sizeof(body), 2);
}

static void send_tcp(struct host *h, const uint8_t src[16], const uint8_t dst[16], uint16_t sport, uint16_t dport,
		     uint8_t flags)
{
	uint8_t body[20] = { 0 };

	put_be16(body, sport);
	put_be16(body + 2, dport);
	put_be32(body + 4, 1000);
	put_be32(body + 8, flags & ACK ? 1001 : 0);
	body[12] = 5 << 4;
	body[13] = flags;
	put_be16(body + 14, 65535);
	send_packet(h, src, dst, TCP, body, sizeof(body), 16);
}

static void send_udp(struct host *h, const uint8_t dst[16], uint16_t sport, uint16_t dport)
{
	uint8_t body[108] = { 0 };

	put_be16(body, sport);
	put_be16(body + 2, dport);
	put_be16(body + 4, sizeof(body));
	send_packet(h, h->self, dst, UDP, body, sizeof(body), 6);
}

static void send_fragments(struct host *h, const uint8_t dst[16], const uint8_t *body, size_t len)
{
	uint32_t id = (uint32_t)++h->w->serial;

	for (size_t at = 0; at < len; at += PIECE) {
		size_t n = len - at < PIECE ? len - at : PIECE;
		uint8_t packet[IP6_HEADER + 8 + PIECE];
		struct wr w = wr_of(packet, sizeof(packet));

		wr_u32(&w, 0x60000000);
		wr_u16(&w, (uint16_t)(8 + n));
		wr_u8(&w, FRAGMENT);
		wr_u8(&w, 64);
		wr_bytes(&w, h->self, 16);
		wr_bytes(&w, dst, 16);
		wr_u16(&w, UDP << 8);
		wr_u16(&w, (uint16_t)(at | (at + n < len)));
		wr_u32(&w, id);
		wr_bytes(&w, body + at, n);
		send_raw(h, packet, w.len);
	}
}

static void send_udp_big(struct host *h, const uint8_t dst[16], uint16_t sport, uint16_t dport, size_t len, bool whole)
{
	uint8_t body[8 + INNER_UDP_MAX] = { 0 };

	len += 8;
	put_be16(body, sport);
	put_be16(body + 2, dport);
	put_be16(body + 4, (uint16_t)len);
	for (size_t i = 8; i < len; i++)
		body[i] = (uint8_t)(i * 37 + len);
	if (len <= PIECE || whole) {
		send_packet(h, h->self, dst, UDP, body, len, 6);
		return;
	}
	put_be16(body + 6, sum(h->self, dst, UDP, span_of(body, len)));
	send_fragments(h, dst, body, len);
}

static uint16_t open_flow(struct host *h, uint8_t protocol, const uint8_t peer[16], uint16_t port)
{
	struct inner *in = &h->inner;
	uint16_t local = (uint16_t)(50000 + in->next_port++ % 10000);

	in->opened[in->n_opened % 64].protocol = protocol;
	memcpy(in->opened[in->n_opened % 64].peer, peer, 16);
	in->opened[in->n_opened % 64].local_port = local;
	in->opened[in->n_opened % 64].peer_port = port;
	in->n_opened++;
	return local;
}

void inner_ping(struct host *h, const struct host *to)
{
	if (h->vpn)
		send_echo(h, h->self, to->self, ECHO, (uint16_t)(h->index + 1));
}

void inner_syn(struct host *h, const struct host *to, uint16_t port)
{
	if (h->vpn)
		send_tcp(h, h->self, to->self, open_flow(h, TCP, to->self, port), port, SYN);
}

void inner_syn_as(struct host *h, const uint8_t src[16], const struct host *to, uint16_t port)
{
	if (h->vpn)
		send_tcp(h, src, to->self, 40000, port, SYN);
}

void inner_syn_from(struct host *h, const uint8_t src[16], const uint8_t dst[16], uint16_t port)
{
	if (h->vpn)
		send_tcp(h, src, dst, open_flow(h, TCP, dst, port), port, SYN);
}

void inner_ping_from(struct host *h, const uint8_t src[16], const uint8_t dst[16])
{
	if (h->vpn)
		send_echo(h, src, dst, ECHO, 7);
}

uint16_t inner_udp(struct host *h, const struct host *to, uint16_t port)
{
	uint16_t local = open_flow(h, UDP, to->self, port);

	inner_udp_on(h, to, local, port);
	return local;
}

void inner_udp_on(struct host *h, const struct host *to, uint16_t own_port, uint16_t port)
{
	if (h->vpn)
		send_udp(h, to->self, own_port, port);
}

void inner_udp_big(struct host *h, const struct host *to, uint16_t own_port, uint16_t port, size_t len, bool whole)
{
	if (h->vpn)
		send_udp_big(h, to->self, own_port, port, len, whole);
}

/* ---- what may be delivered ---- */

static bool granted(const struct world *w, unsigned caller, unsigned callee, uint8_t protocol, uint16_t port)
{
	for (unsigned i = 0; i < w->n_grants; i++) {
		const struct oracle_grant *g = &w->grants[i];

		if (g->caller == caller && g->callee == callee &&
		    (protocol == ICMP6 || (g->protocol == protocol && g->port == port)))
			return true;
	}
	return false;
}

static bool opened(const struct inner *in, uint8_t protocol, const uint8_t peer[16], uint16_t local_port,
		   uint16_t peer_port)
{
	for (unsigned i = 0; i < in->n_opened && i < 64; i++)
		if (in->opened[i].protocol == protocol && !memcmp(in->opened[i].peer, peer, 16) &&
		    in->opened[i].local_port == local_port && in->opened[i].peer_port == peer_port)
			return true;
	return false;
}

static const struct host *of_address(const struct world *w, const uint8_t ip[16])
{
	for (unsigned i = 0; i < w->n_hosts; i++)
		if (!memcmp(w->hosts[i]->self, ip, 16))
			return w->hosts[i];
	return NULL;
}

static bool peer_is_up(const struct host *h, const uint8_t ip[16])
{
	for (unsigned i = 0; i < h->n_peers; i++)
		if (h->peers[i].up && !memcmp(h->peers[i].peer, ip, 16))
			return true;
	return false;
}

/* May who joins from `own` and a host at `there` speak, by what these two hosts are allowed and told to route? */
static bool network_has(const struct world *w, const struct host *caller, const struct host *callee,
			const uint8_t own[16], const uint8_t there[16])
{
	struct addr a = addr_of(span_of(own, 16), 0), b = addr_of(span_of(there, 16), 0);
	bool allowed = false, joined = false, routed = false;

	for (unsigned i = 0; i < w->n_networks; i++)
		allowed |= w->networks[i].caller == caller->index && w->networks[i].callee == callee->index &&
			   addr_prefix_has(&w->networks[i].prefix, &b);
	for (unsigned i = 0; i < callee->n_networks; i++)
		routed |= !callee->networks[i].ours && addr_ip_eq(&callee->networks[i].n.ip6, &a);
	for (unsigned i = 0; i < caller->n_networks; i++)
		joined |= caller->networks[i].ours && addr_ip_eq(&caller->networks[i].n.ip6, &a);
	return allowed && (joined || caller->hostile) && (routed || callee->hostile);
}

/* Between who has joined a network and one of its hosts, opened by the first. */
static bool of_network(struct host *h, const uint8_t *p)
{
	uint16_t sport = be16(p + IP6_HEADER), dport = be16(p + IP6_HEADER + 2);
	bool reply = p[6] == ICMP6 ? p[IP6_HEADER] == ECHO_REPLY : opened(&h->inner, p[6], p + 8, dport, sport);

	if (p[6] != TCP && (p[6] != ICMP6 || (p[IP6_HEADER] != ECHO && p[IP6_HEADER] != ECHO_REPLY)))
		return false;
	for (unsigned i = 0; i < h->w->n_hosts; i++) {
		const struct host *o = h->w->hosts[i];

		if (o != h && (reply ? network_has(h->w, h, o, p + 24, p + 8) : network_has(h->w, o, h, p + 8, p + 24)))
			return true;
	}
	return false;
}

static const char *objection(struct host *h, const uint8_t *p, size_t len)
{
	const struct host *from = of_address(h->w, p + 8);
	uint8_t protocol = p[6];
	uint16_t sport = be16(p + IP6_HEADER), dport = be16(p + IP6_HEADER + 2);

	if (of_network(h, p))
		return sum(p + 8, p + 24, protocol, span_of(p + IP6_HEADER, len - IP6_HEADER)) ? "has a wrong checksum"
											       : NULL;
	if (memcmp(p + 24, h->self, 16))
		return "is for another address";
	if (!from || from == h)
		return "comes from nobody's address";
	if (!peer_is_up(h, p + 8))
		return "comes from a peer that is not up";
	if (sum(p + 8, p + 24, protocol, span_of(p + IP6_HEADER, len - IP6_HEADER)))
		return "has a wrong checksum";
	if (protocol == ICMP6 && (p[IP6_HEADER] == ECHO || p[IP6_HEADER] == ECHO_REPLY))
		return granted(h->w, from->index, h->index, ICMP6, 0) || granted(h->w, h->index, from->index, ICMP6, 0)
			       ? NULL
			       : "is an echo where nothing is granted";
	if (protocol != TCP && protocol != UDP)
		return "is of a protocol that nobody granted";
	if (granted(h->w, from->index, h->index, protocol, dport))
		return NULL;
	if (granted(h->w, h->index, from->index, protocol, sport) && opened(&h->inner, protocol, p + 8, dport, sport))
		return NULL;
	return "is outside every grant";
}

/* ---- what is delivered ---- */

static void tcp_in(struct host *h, const uint8_t *p)
{
	uint16_t sport = be16(p + IP6_HEADER), dport = be16(p + IP6_HEADER + 2);
	uint8_t flags = p[IP6_HEADER + 13];

	if ((flags & (SYN | ACK)) == (SYN | ACK)) {
		h->inner.n_synacks++;
	} else if (flags & SYN) {
		h->inner.n_syn_in++;
		send_tcp(h, p + 24, p + 8, dport, sport, SYN | ACK); /* or a host of our network */
	} else if (flags & RST) {
		h->inner.n_resets++;
	}
}

static void udp_in(struct host *h, const uint8_t *p, size_t len)
{
	uint16_t sport = be16(p + IP6_HEADER), dport = be16(p + IP6_HEADER + 2);

	if (dport >= 50000 && dport < 60000) {
		h->inner.n_udp_replies++;
	} else {
		h->inner.n_udp_in++;
		h->inner.udp_from = sport;
		send_udp_big(h, p + 8, dport, sport, len - IP6_HEADER - 8, false);
	}
}

/* RFC 8200, 4.5. True: *p and *len are the whole packet. What is of more than one at a time, or longer than anybody sends, is
 * lost, as it may be; no fragment lies over another, and the first is the first (esp/frags.h). */
static bool put_together(struct host *h, uint8_t **p, size_t *len)
{
	struct inner_parts *d = &h->inner.parts;
	size_t at = be16(*p + 42) & 0xfff8u, n = *len - IP6_HEADER - 8;
	uint32_t id = be32(*p + 44);

	if (!at) {
		*d = (struct inner_parts){ .any = true, .id = id };
		memcpy(d->packet, *p, IP6_HEADER);
		d->packet[6] = (*p)[IP6_HEADER];
	}
	if (!d->any || d->id != id || at + n > 8 + INNER_UDP_MAX || memcmp(d->packet + 8, *p + 8, 32))
		return false;
	for (size_t i = at / 8; i < (at + n + 7) / 8; i++) {
		if (d->seen[i])
			world_fail(h->w, "%s: a fragment over another", h->name);
		d->seen[i] = true;
	}
	memcpy(d->packet + IP6_HEADER + at, *p + IP6_HEADER + 8, n);
	d->n += n;
	if (!(be16(*p + 42) & 1))
		d->total = at + n;
	if (d->n != d->total)
		return false;
	d->any = false;
	put_be16(d->packet + 4, (uint16_t)d->n);
	*p = d->packet;
	*len = IP6_HEADER + d->n;
	return true;
}

void inner_input(struct host *h, uint8_t *p, size_t len)
{
	const char *why;

	h->w->n_delivered++;
	if (len < IP6_HEADER + 8 || p[0] >> 4 != 6 || be16(p + 4) + (size_t)IP6_HEADER != len) {
		world_fail(h->w, "%s: what is delivered is no IPv6 packet", h->name);
		return;
	}
	if (p[6] == FRAGMENT && !put_together(h, &p, &len))
		return;
	why = objection(h, p, len);
	world_trace(h->w, "%s: inner packet, protocol %u, ports %u to %u%s%s", h->name, p[6], be16(p + 40),
		    be16(p + 42), why ? ", " : "", why ? why : "");
	if (why && !h->hostile) {
		world_fail(h->w, "%s: a packet was delivered that %s (protocol %u, ports %u to %u)", h->name, why, p[6],
			   be16(p + 40), be16(p + 42));
		return;
	}
	if (p[6] == ICMP6 && p[IP6_HEADER] == ECHO) {
		h->inner.n_echo_in++;
		send_echo(h, p + 24, p + 8, ECHO_REPLY, be16(p + 44));
	} else if (p[6] == ICMP6) {
		h->inner.n_echo_replies++;
	} else if (p[6] == TCP && len >= IP6_HEADER + 20) {
		tcp_in(h, p);
	} else if (p[6] == UDP) {
		udp_in(h, p, len);
	}
}
