/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/mtu.c - how long the packets of a call may be: esp/pmtu.h asks, and the data plane obeys. What is sent and answered are checks
 * of ICE's agent; without ICE, echoes to the peer's inner address, where an SA of the call lets them through. */
#include "vpn/impl.h"

static void obey(struct vpn *v, struct call *c)
{
	log_debug(&c->log, "call %u: the path carries packets of %u bytes", c->id, pmtu_size(&c->mtu));
	esp_set_mtu(v->esp, c->id, pmtu_size(&c->mtu));
}

static void send_echo(struct vpn *v, const struct call *c, unsigned size)
{
	uint8_t buf[ESP_PACKET_MAX];
	struct esp_packet p;
	struct path path;

	if (!esp_set_echo(v->esp, c->id, c->peer_address, size, buf, &p))
		return;
	path = *p.path;
	path.tos = p.tos;
	(void)!outq_push(v->probes, OUT_SEND, &path, span_of(p.p, p.len));
}

/* One that does not leave is a lost one. */
static void send_probes(struct vpn *v, struct call *c, uint64_t now_us)
{
	unsigned size;

	while (pmtu_poll_probe(&c->mtu, now_us, &size))
		if (c->ice)
			(void)!ice_agent_probe(c->ice, size);
		else
			send_echo(v, c, size);
}

void mtu_answered(struct vpn *v, struct call *c, uint64_t now_us, unsigned size)
{
	if (pmtu_answered(&c->mtu, now_us, size))
		obey(v, c);
	send_probes(v, c, now_us);
}

void mtu_echoes(struct vpn *v, uint64_t now_us)
{
	unsigned size;
	uint32_t id;

	while (esp_set_poll_echo(v->esp, &id, &size)) {
		struct call *c = vpn_call_find(v, id);

		/* what is to be sent then waits for the tick: the batch that came in is not delivered yet */
		if (c && !c->ice && pmtu_answered(&c->mtu, now_us, size))
			obey(v, c);
	}
}

/* Is there something that answers, on the very path that ESP goes by? */
static bool may_ask(const struct vpn *v, struct call *c)
{
	uint64_t changes = esp_set_changes(v->esp);
	struct path selected;

	if (c->held)
		return false;
	if (c->ice)
		return ice_agent_selected(c->ice, &selected) && path_eq(&selected, &c->path);
	/* looked at only when it may have changed: whoever asks the data plane waits for it */
	if (c->mtu_changes != changes)
		c->mtu_may_echo = esp_set_may_echo(v->esp, c->id, c->peer_address);
	c->mtu_changes = changes;
	return c->mtu_may_echo;
}

/* The path may be another one, or be heard again: then all that was known of it is void. */
static void follow(struct vpn *v, struct call *c, uint64_t now_us)
{
	bool same = addr_eq(&c->mtu_local, &c->path.local) && addr_eq(&c->mtu_remote, &c->path.remote);
	bool ask = may_ask(v, c);

	if (ask == c->mtu.on && same)
		return;
	c->mtu_local = c->path.local;
	c->mtu_remote = c->path.remote;
	if (ask)
		pmtu_begin(&c->mtu, now_us);
	else
		pmtu_end(&c->mtu);
	obey(v, c);
}

void mtu_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct esp_counters k = { .last_out_us = 0 };

	follow(v, c, now_us);
	if (now_us < pmtu_deadline_us(&c->mtu))
		return;
	(void)esp_set_call_counters(v->esp, c->id, &k);
	if (pmtu_tick(&c->mtu, now_us, k.last_out_us)) {
		log_info(&c->log, "call %u: long packets do not arrive any more", c->id);
		obey(v, c);
	}
	send_probes(v, c, now_us);
}
