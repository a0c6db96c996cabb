/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_big.c - inner packets that the path does not carry in one piece (RFC 4301, 8.2; docs/protocol.md). */
#include <string.h>

#include "esp/cut.h"
#include "esp/plane_impl.h"

/* IPv4 says so itself. IPv6 only its source may cut (RFC 8200, 4.5): that is this host, where it is our own address. Of others what
 * any link must carry (RFC 8200, 5): a path that does not is made to; and what is in fragments already, which one more does not
 * hurt. */
static bool may_be_cut(const struct esp_plane *p, const struct esp_inner *pkt)
{
	if (pkt->ends.family == ADDR_IP4)
		return !pkt->dont_fragment;
	return pkt->len <= ESP_IP6_MTU_MIN || pkt->fragment != ESP_WHOLE || !memcmp(pkt->ends.src, p->self, 16);
}

static void tell(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_packet *in,
		 const struct esp_inner *pkt)
{
	struct told *t = &p->told[(p->told_head + p->n_told) % ESP_TOLD_SLOTS];
	size_t mtu = sa->inner_max;

	if (pkt->ends.family == ADDR_IP6 && mtu < ESP_IP6_MTU_MIN)
		mtu = ESP_IP6_MTU_MIN;
	if (p->n_told == ESP_TOLD_SLOTS || !esp_rate_pass(&sa->call->told, now_us) ||
	    !esp_too_big_write(in->p, pkt, (unsigned)mtu, p->self, t->packet, &t->len))
		return;
	t->call = sa->call->call;
	p->n_told++;
}

enum esp_drop plane_too_big(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_packet *in,
			    const struct esp_inner *pkt)
{
	bool told_of = pkt->dont_fragment && (pkt->ends.family == ADDR_IP4 || pkt->len > ESP_IP6_MTU_MIN);

	if (told_of)
		tell(p, now_us, sa, in, pkt);
	return may_be_cut(p, pkt) ? PASSED : ESP_DROP_TOO_BIG;
}

bool plane_told_poll(struct esp_plane *p, struct esp_packet *ret)
{
	struct told *t = &p->told[p->told_head];

	if (!p->n_told)
		return false;
	*ret = (struct esp_packet){ .p = t->packet, .len = t->len, .call = t->call };
	p->told_head = (p->told_head + 1) % ESP_TOLD_SLOTS;
	p->n_told--;
	return true;
}
