/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/esp_fragment.h - cutting packets and putting them together, with no code of the data plane. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "esp_pair.h"

/* The fragment of pk whose data are [at, at + n) of what follows the IP header; n of 0: all that is left. */
static inline struct pkt pkt_fragment(const struct pkt *pk, size_t at, size_t n, uint32_t id)
{
	bool v6 = pk->b[0] >> 4 == 6;
	size_t head = v6 ? 40 : 20, all = pk->len - head;
	struct pkt f = { .len = 0 };

	n = n && at + n < all ? n : all - at;
	memcpy(f.b, pk->b, head);
	if (v6) {
		f.b[40] = f.b[6];
		f.b[6] = 44;
		f.b[41] = 0;
		put_be16(f.b + 42, (uint16_t)(at | (at + n < all)));
		put_be32(f.b + 44, id);
		put_be16(f.b + 4, (uint16_t)(8 + n));
		head += 8;
	} else {
		put_be16(f.b + 2, (uint16_t)(20 + n));
		put_be16(f.b + 4, (uint16_t)id);
		put_be16(f.b + 6, (uint16_t)(at / 8 | (at + n < all ? 0x2000 : 0)));
		put_be16(f.b + 10, 0);
		put_be16(f.b + 10, pkt_sum(f.b, 20));
	}
	memcpy(f.b + head, pk->b + (v6 ? 40 : 20) + at, n);
	f.len = head + n;
	return f;
}

/* A receiver that puts one datagram together: addresses, id and protocol must be the same of all, nothing may overlap. */
struct whole {
	uint8_t head[40], data[65536 + 8];
	bool seen[65536 / 8 + 1], v6, any, broken;
	uint32_t id;
	size_t total, n_units; /* total 0: the last one is missing */
	uint8_t protocol;
};

/* v6: Fragment header right behind the IPv6 header, or none; v4: no options. True: this one makes it whole. */
static inline bool whole_add(struct whole *w, const uint8_t *p, size_t len)
{
	bool v6 = p[0] >> 4 == 6, cut = v6 && p[6] == 44, more;
	size_t head = v6 ? cut ? 48 : 40 : 20, offset = 0, n = len - head;
	uint32_t id = 0;

	more = false;
	if (cut) {
		offset = be16(p + 42) & 0xfff8u;
		more = be16(p + 42) & 1;
		id = be32(p + 44);
	} else if (!v6) {
		offset = (be16(p + 6) & 0x1fffu) * 8u;
		more = be16(p + 6) & 0x2000;
		id = be16(p + 4);
		w->broken |= pkt_sum(p, 20) != 0;
	}
	w->broken |= len < head || (v6 ? be16(p + 4) + 40u : be16(p + 2)) != len || (more && n % 8);
	if (w->broken)
		return false;
	if (!w->any) {
		w->any = true;
		w->v6 = v6;
		w->id = id;
		w->protocol = cut ? p[40] : v6 ? p[6] : p[9];
		memcpy(w->head, p, v6 ? 40 : 20);
	}
	w->broken |= w->v6 != v6 || w->id != id ||
		     w->protocol != (cut  ? p[40]
				     : v6 ? p[6]
					  : p[9]) ||
		     memcmp(w->head + (v6 ? 8 : 12), p + (v6 ? 8 : 12), v6 ? 32 : 8) || w->head[1] != p[1];
	for (size_t i = offset / 8; i < (offset + n + 7) / 8; i++) {
		w->broken |= w->seen[i];
		w->seen[i] = true;
		w->n_units++;
	}
	memcpy(w->data + offset, p + head, n);
	if (!more)
		w->total = offset + n;
	return !w->broken && w->total && w->n_units == (w->total + 7) / 8;
}
