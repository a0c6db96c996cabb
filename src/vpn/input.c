/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/input.c - bytes in: to the call, the account or the data plane that they are for. */
#include "vpn/impl.h"

/* Answers leave by the path of what they answer, and ESP by that of IKE_AUTH: without the sender's marks. */
static struct path unmarked(const struct path *path)
{
	struct path p = *path;

	p.tos = 0;
	return p;
}

void vpn_input_sip(struct vpn *v, uint64_t now_us, const struct path *path, struct span bytes)
{
	struct path from = unmarked(path);

	sip_ua_input(v->ua, now_us, &from, bytes);
	vpn_tick(v, now_us);
}

void vpn_input_stream(struct vpn *v, uint64_t now_us, const struct path *path, enum stream_event ev)
{
	sip_ua_stream(v->ua, now_us, path, ev);
	vpn_tick(v, now_us);
}

void vpn_input_stun(struct vpn *v, uint64_t now_us, const struct path *path, struct span d)
{
	struct path from = unmarked(path);
	struct stun_msg m;

	if (stun_parse(d, &m) != OK) {
		v->n_stun_unknown++;
		return;
	}
	for (unsigned i = 0; i < v->n_gathers; i++)
		if (ice_gather_owns(v->gathers[i], &m, &from.remote)) {
			ice_gather_input(v->gathers[i], now_us, &m);
			vpn_tick(v, now_us);
			return;
		}
	for (struct call *c = v->calls; c; c = c->next)
		if (c->ice && ice_agent_owns(c->ice, &m)) {
			ice_agent_input(c->ice, now_us, &from, &m);
			tunnel_ice_drain(v, c, now_us);
			vpn_tick(v, now_us);
			return;
		}
	v->n_stun_unknown++;
}

void vpn_input_ike(struct vpn *v, uint64_t now_us, const struct path *path, struct span d)
{
	struct path from = unmarked(path);

	if (tunnel_ike_input(v, now_us, &from, d))
		vpn_tick(v, now_us);
}

unsigned vpn_input_esp(struct vpn *v, uint64_t now_us, struct esp_packet *in, unsigned n,
		       struct esp_packet out[ESP_BATCH])
{
	unsigned n_out = esp_set_input(v->esp, now_us, in, n, out);

	mtu_echoes(v, now_us);
	return n_out;
}

unsigned vpn_input_inner(struct vpn *v, uint64_t now_us, struct esp_packet *in, unsigned n,
			 struct esp_packet out[ESP_BATCH_OUT])
{
	return esp_set_output(v->esp, now_us, in, n, out);
}

bool vpn_poll_inner(struct vpn *v, struct esp_packet *ret)
{
	return esp_set_poll_inner(v->esp, ret);
}
