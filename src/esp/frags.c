/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/frags.h"

#include <stdlib.h>
#include <string.h>

#define UNITS (65536 / 8) /* offsets count in units of 8 (RFC 791, 3.2) */

struct datagram {
	uint64_t expires_us; /* 0: a free place */
	bool inbound;
	enum addr_family family;
	uint8_t protocol, src[16], dst[16];
	uint32_t id;
	struct esp_frag_owner o;
	unsigned n_units, total; /* passed; of the whole, 0: not known yet */
	uint64_t passed[UNITS / 64];
};

struct esp_frags {
	struct datagram d[ESP_FRAGS_MAX];
};

enum err esp_frags_new(struct esp_frags **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? OK : ERR_NOMEM;
}

void esp_frags_free(struct esp_frags *f)
{
	free(f);
}

/* RFC 791, 3.2 and RFC 8200, 4.5: IPv6 tells datagrams apart without the protocol, which a later fragment need not repeat. */
static bool is_of(const struct datagram *d, bool inbound, const struct esp_inner *p)
{
	return d->expires_us && d->id == p->id && d->inbound == inbound && d->family == p->ends.family &&
	       (d->family == ADDR_IP6 || d->protocol == p->ends.protocol) && !memcmp(d->src, p->ends.src, 16) &&
	       !memcmp(d->dst, p->ends.dst, 16);
}

bool esp_frags_same(const struct esp_inner *a, const struct esp_inner *b)
{
	return a->id == b->id && a->ends.family == b->ends.family &&
	       (a->ends.family == ADDR_IP6 || a->ends.protocol == b->ends.protocol) &&
	       !memcmp(a->ends.src, b->ends.src, 16) && !memcmp(a->ends.dst, b->ends.dst, 16);
}

static struct datagram *find(const struct esp_frags *f, bool inbound, const struct esp_inner *p)
{
	for (unsigned i = 0; i < ESP_FRAGS_MAX; i++)
		if (is_of(&f->d[i], inbound, p))
			return (struct datagram *)&f->d[i];
	return NULL;
}

static unsigned count(const struct esp_frags *f, uint32_t owner)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ESP_FRAGS_MAX; i++)
		n += f->d[i].expires_us && f->d[i].o.owner == owner;
	return n;
}

/* The oldest of one call. It has one. */
static struct datagram *oldest(struct esp_frags *f, uint32_t owner)
{
	struct datagram *d = NULL;

	for (unsigned i = 0; i < ESP_FRAGS_MAX; i++)
		if (f->d[i].expires_us && f->d[i].o.owner == owner && (!d || f->d[i].expires_us < d->expires_us))
			d = &f->d[i];
	return d;
}

/* Whoever has most gives way: the call itself, once it has its share. */
static struct datagram *place(struct esp_frags *f, uint64_t now_us, uint32_t owner)
{
	struct datagram *free_one = NULL;
	uint32_t worst = owner;
	unsigned most = 0, own = 0;

	for (unsigned i = 0; i < ESP_FRAGS_MAX; i++) {
		struct datagram *d = &f->d[i];

		if (d->expires_us <= now_us) {
			d->expires_us = 0;
			free_one = d;
		} else {
			own += d->o.owner == owner;
		}
	}
	if (own >= ESP_FRAGS_OWNER)
		return oldest(f, owner);
	if (free_one)
		return free_one;
	for (unsigned i = 0; i < ESP_FRAGS_MAX; i++) {
		unsigned n = count(f, f->d[i].o.owner);

		if (n > most) {
			most = n;
			worst = f->d[i].o.owner;
		}
	}
	return oldest(f, worst);
}

/* The units from the fragment's offset on. False: one of them has passed before. */
static bool mark(struct datagram *d, const struct esp_inner *p)
{
	unsigned data_at = p->fragment_at ? p->fragment_at + 8u : p->upper, at = p->offset / 8u;
	unsigned n = ((unsigned)p->len - data_at + 7) / 8;

	if (at + n > UNITS || (d->total && at + n > d->total) || (!p->more && d->total))
		return false;
	for (unsigned i = at; i < at + n; i++)
		if (d->passed[i / 64] >> i % 64 & 1)
			return false;
	for (unsigned i = at; i < at + n; i++)
		d->passed[i / 64] |= UINT64_C(1) << i % 64;
	d->n_units += n;
	if (!p->more)
		d->total = at + n;
	if (d->total && d->n_units >= d->total)
		d->expires_us = 0; /* it is whole: nothing may follow */
	return true;
}

void esp_frags_first(struct esp_frags *f, uint64_t now_us, bool inbound, const struct esp_inner *p,
		     const struct esp_frag_owner *o)
{
	struct datagram *d = find(f, inbound, p);

	if (!d)
		d = place(f, now_us, o->owner);
	memset(d, 0, sizeof(*d));
	d->expires_us = now_us + ESP_FRAG_US;
	d->inbound = inbound;
	d->family = p->ends.family;
	d->protocol = p->ends.protocol;
	memcpy(d->src, p->ends.src, 16);
	memcpy(d->dst, p->ends.dst, 16);
	d->id = p->id;
	d->o = *o;
	(void)mark(d, p);
}

void esp_frags_forget(struct esp_frags *f, bool inbound, const struct esp_inner *p, uint32_t owner)
{
	struct datagram *d = find(f, inbound, p);

	if (d && d->o.owner == owner)
		d->expires_us = 0;
}

bool esp_frags_find(const struct esp_frags *f, uint64_t now_us, bool inbound, const struct esp_inner *p,
		    struct esp_frag_owner *ret)
{
	const struct datagram *d = find(f, inbound, p);

	if (!d || d->expires_us <= now_us)
		return false;
	*ret = d->o;
	return true;
}

bool esp_frags_later(struct esp_frags *f, bool inbound, const struct esp_inner *p)
{
	struct datagram *d = find(f, inbound, p);

	return d && mark(d, p);
}

void esp_frags_owner_gone(struct esp_frags *f, uint32_t owner)
{
	for (unsigned i = 0; i < ESP_FRAGS_MAX; i++)
		if (f->d[i].o.owner == owner)
			f->d[i].expires_us = 0;
}
