/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_frag.c - inner fragments (esp/frags.h), and those that come a little too early. */
#include <string.h>

#include "esp/plane_impl.h"

/* RFC 4301, 7.4: a later fragment goes where its first one was let through, by an SA of the same grant. */
enum esp_drop plane_later(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt)
{
	struct esp_tuple t = esp_tuple_of(&pkt->ends, true);
	struct esp_frag_owner o;

	if (!esp_sa_covers_hosts(sa, &t))
		return ESP_DROP_SELECTOR;
	if (!esp_frags_find(p->frags, now_us, true, pkt, &o))
		return HELD;
	if (o.owner != plane_owner_of(p, sa->call) || o.grant != sa->grant)
		return ESP_DROP_FRAGMENT;
	return esp_frags_later(p->frags, true, pkt) ? PASSED : ESP_DROP_OVERLAP;
}

/* ---- those that wait ---- */

static void let_go(struct esp_plane *p, struct held *h)
{
	h->until_us = 0;
	p->n_held--;
}

static struct held *place(struct esp_plane *p, const struct esp_call *call)
{
	struct held *free_one = NULL, *oldest = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < ESP_HELD_MAX; i++) {
		struct held *h = &p->held[i];

		if (!h->until_us) {
			free_one = free_one ? free_one : h;
		} else if (h->call == call) {
			n++;
			if (!oldest || h->until_us < oldest->until_us)
				oldest = h;
		}
	}
	return n < ESP_HELD_OWNER && free_one ? free_one : oldest;
}

enum esp_drop plane_hold(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt,
			 const uint8_t *packet)
{
	struct held *h = place(p, sa->call);

	plane_life_note(p, sa, pkt->len);
	if (!h)
		return ESP_DROP_FRAGMENT;
	if (h->until_us) {
		plane_count_drop(p, h->call, ESP_DROP_FRAGMENT);
		let_go(p, h);
	}
	h->until_us = now_us + ESP_HELD_US;
	h->ready = false;
	h->call = sa->call;
	h->grant = sa->grant;
	h->pkt = *pkt;
	memcpy(h->packet, packet, pkt->len);
	p->n_held++;
	return HELD;
}

/* Their first one has passed. */
static void release(struct esp_plane *p, const struct esp_sa *sa, const struct esp_inner *first)
{
	for (unsigned i = 0; p->n_held && i < ESP_HELD_MAX; i++) {
		struct held *h = &p->held[i];

		if (!h->until_us || h->ready || h->call != sa->call || h->grant != sa->grant ||
		    !esp_frags_same(&h->pkt, first))
			continue;
		if (esp_frags_later(p->frags, true, &h->pkt)) {
			h->ready = true;
			plane_count_in(p, h->call, h->pkt.len);
		} else {
			plane_count_drop(p, h->call, ESP_DROP_OVERLAP);
			let_go(p, h);
		}
	}
}

void plane_first_note(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt,
		      bool inbound, enum esp_drop d)
{
	struct esp_frag_owner o = { plane_owner_of(p, sa->call), sa->grant, sa->spi_in };

	if (d != PASSED) {
		esp_frags_forget(p->frags, inbound, pkt, o.owner);
		return;
	}
	esp_frags_first(p->frags, now_us, inbound, pkt, &o);
	if (inbound)
		release(p, sa, pkt);
}

void plane_held_tick(struct esp_plane *p, uint64_t now_us)
{
	for (unsigned i = 0; p->n_held && i < ESP_HELD_MAX; i++) {
		struct held *h = &p->held[i];

		if (!h->until_us || now_us < h->until_us)
			continue;
		if (!h->ready)
			plane_count_drop(p, h->call, ESP_DROP_FRAGMENT);
		let_go(p, h);
	}
}

uint64_t plane_held_deadline_us(const struct esp_plane *p)
{
	uint64_t due = TIME_NEVER;

	for (unsigned i = 0; p->n_held && i < ESP_HELD_MAX; i++)
		if (p->held[i].until_us && p->held[i].until_us < due)
			due = p->held[i].until_us;
	return due;
}

void plane_call_gone(struct esp_plane *p, struct esp_call *call)
{
	esp_frags_owner_gone(p->frags, plane_owner_of(p, call));
	for (unsigned i = 0; i < ESP_HELD_MAX; i++)
		if (p->held[i].until_us && p->held[i].call == call)
			let_go(p, &p->held[i]);
}

bool esp_plane_poll_inner(struct esp_plane *p, struct esp_packet *ret)
{
	for (unsigned i = 0; p->n_held && i < ESP_HELD_MAX; i++) {
		struct held *h = &p->held[i];

		if (!h->until_us || !h->ready)
			continue;
		*ret = (struct esp_packet){ .p = h->packet, .len = h->pkt.len, .call = h->call->call };
		let_go(p, h);
		return true;
	}
	return plane_told_poll(p, ret);
}
