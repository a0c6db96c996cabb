/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/mtu.c - how long the packets of a call may be: esp/pmtu.h asks, ICE's agent sends and hears, the data plane obeys.
 * A call without ICE has nothing that answers, and stays with what every path carries. */
#include "vpn/impl.h"

static void obey(struct vpn *v, struct call *c)
{
	log_debug(&c->log, "call %u: the path carries packets of %u bytes", c->id, pmtu_size(&c->mtu));
	esp_call_set_mtu(v->esp, c->id, pmtu_size(&c->mtu));
}

static void send_probes(struct call *c, uint64_t now_us)
{
	unsigned size;

	while (pmtu_poll_probe(&c->mtu, now_us, &size))
		(void)!ice_agent_probe(c->ice, size); /* one that does not leave is a lost one */
}

void mtu_begin(struct vpn *v, struct call *c, uint64_t now_us)
{
	pmtu_begin(&c->mtu, now_us);
	obey(v, c);
	send_probes(c, now_us);
}

void mtu_end(struct vpn *v, struct call *c)
{
	pmtu_end(&c->mtu);
	obey(v, c);
}

void mtu_answered(struct vpn *v, struct call *c, uint64_t now_us, unsigned size)
{
	if (pmtu_answered(&c->mtu, now_us, size))
		obey(v, c);
	send_probes(c, now_us);
}

void mtu_tick(struct vpn *v, struct call *c, uint64_t now_us)
{
	struct esp_counters k = { .last_out_us = 0 };

	if (!c->ice)
		return;
	(void)esp_call_counters(v->esp, c->id, &k);
	if (pmtu_tick(&c->mtu, now_us, k.last_out_us)) {
		log_info(&c->log, "call %u: long packets do not arrive any more", c->id);
		obey(v, c);
	}
	send_probes(c, now_us);
}
