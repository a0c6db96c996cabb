/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/esp_stream.h - streams of packets of every kind, and what must hold of them after esp/merge.h and
 * esp/segment.h: for the unit tests and the fuzzers. Whatever is random is drawn from a struct rng, which may be a
 * fuzzer's bytes. Sums and parsing are done again here, the plain way. Broken invariants abort. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "esp/merge.h"
#include "esp/segment.h"

#define STREAM_MAX 256 /* packets */
#define STREAM_PACKET 2048
#define STREAM_FLOWS 12

enum { S_FIN = 1, S_SYN = 2, S_RST = 4, S_PSH = 8, S_ACK = 16, S_URG = 32, S_ECE = 64, S_CWR = 128 };

struct stream_packet {
	uint8_t *p; /* malloc'd to its length: the sanitizer sees one byte too far */
	size_t len;
};

/* What the next packet of a flow will be made of. */
struct stream_flow {
	bool v6, udp, df;
	uint8_t tos, ttl, reserved, flags, opt_len, opt[40];
	uint16_t sport, dport, id, id_step, window, urgent, mss;
	uint32_t label, seq, ack;
	uint8_t src, dst;
};

struct stream {
	struct rng rng;
	struct stream_flow flows[STREAM_FLOWS];
	unsigned n_flows, n;
	struct stream_packet in[STREAM_MAX];
};

#define STREAM_MUST(cond)                                                                                              \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                               \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Never ends, whatever the bytes are. */
static inline unsigned stream_pick(struct stream *s, unsigned n)
{
	uint16_t v;

	rng_fill(&s->rng, &v, sizeof(v));
	return v % n;
}

static inline bool stream_chance(struct stream *s, unsigned percent)
{
	return stream_pick(s, 100) >= 100 - percent; /* a source that is at its end gives zeros: nothing special */
}

static inline uint32_t stream_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

static inline uint32_t stream_pseudo(const uint8_t *p, uint8_t protocol, size_t l4_len)
{
	uint32_t sum = p[0] >> 4 == 6 ? stream_sum(p + 8, 32, 0) : stream_sum(p + 12, 8, 0);

	sum += protocol + (uint32_t)l4_len;
	return (sum & 0xffff) + (sum >> 16);
}

/* Header and upper layer of a packet without extension headers and fragments are right. */
static inline bool stream_sums_right(const uint8_t *p, size_t len)
{
	bool v6 = p[0] >> 4 == 6;
	size_t l3 = v6 ? 40 : (size_t)(p[0] & 15) * 4;

	return (v6 || stream_sum(p, l3, 0) == 0xffff) &&
	       stream_sum(p + l3, len - l3, stream_pseudo(p, p[v6 ? 6 : 9], len - l3)) == 0xffff;
}

/* ---- packets ---- */

static inline void stream_flow_init(struct stream *s, struct stream_flow *f)
{
	memset(f, 0, sizeof(*f));
	f->v6 = stream_chance(s, 45);
	f->udp = stream_chance(s, 30);
	f->df = !stream_chance(s, 20);
	f->tos = (uint8_t)stream_pick(s, 4);
	f->ttl = 64;
	f->flags = S_ACK;
	f->sport = (uint16_t)(1000 + stream_pick(s, 3));
	f->dport = (uint16_t)(2000 + stream_pick(s, 2));
	f->src = (uint8_t)(1 + stream_pick(s, 3));
	f->dst = (uint8_t)(1 + stream_pick(s, 2));
	f->id = (uint16_t)stream_pick(s, 65536);
	f->id_step = stream_chance(s, 15) ? 0 : 1;
	if (!f->id_step)
		f->id = 0;
	f->seq = (uint32_t)stream_pick(s, 65536) << 16 | 0xf000;
	f->ack = stream_pick(s, 65536);
	f->window = (uint16_t)stream_pick(s, 65536);
	f->mss = (uint16_t)(1 + stream_pick(s, 1400));
	if (stream_chance(s, 50)) { /* time stamps (RFC 7323) */
		static const uint8_t ts[12] = { 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2 };

		f->opt_len = sizeof(ts);
		memcpy(f->opt, ts, sizeof(ts));
	}
}

/* The upper layer behind at[0..]: header, payload; its checksum is still 0. */
static inline size_t stream_l4(struct stream *s, const struct stream_flow *f, uint8_t *at, size_t payload)
{
	size_t head = f->udp ? 8 : 20u + f->opt_len;

	memset(at, 0, head);
	put_be16(at, f->sport);
	put_be16(at + 2, f->dport);
	if (f->udp) {
		put_be16(at + 4, (uint16_t)(head + payload));
	} else {
		put_be32(at + 4, f->seq);
		put_be32(at + 8, f->ack);
		at[12] = (uint8_t)(head / 4 << 4 | f->reserved);
		at[13] = f->flags;
		put_be16(at + 14, f->window);
		put_be16(at + 18, f->urgent);
		memcpy(at + 20, f->opt, f->opt_len);
	}
	rng_fill(&s->rng, at + head, payload);
	return head + payload;
}

/* exotic: 1 IPv4 options, 2 first fragment, 3 last fragment, 4 reserved flag; IPv6: 1 destination options, 2, 3
 * fragments, 4 routing header. */
static inline size_t stream_ip(const struct stream_flow *f, uint8_t *p, unsigned exotic)
{
	size_t l3 = f->v6 ? 40 : 20;

	memset(p, 0, 60);
	if (f->v6) {
		static const uint8_t ext[5] = { 0, 60, 44, 44, 43 };

		put_be32(p, 6u << 28 | (uint32_t)f->tos << 20 | f->label);
		p[6] = f->udp ? 17 : 6;
		p[7] = f->ttl;
		p[8] = p[24] = 0xfd;
		p[23] = f->src;
		p[39] = f->dst;
		if (exotic) {
			p[40] = p[6];
			p[6] = ext[exotic];
			if (exotic == 1)
				p[42] = 1, p[43] = 4; /* PadN */
			else if (exotic != 4)
				put_be16(p + 42, exotic == 2 ? 1 : 0x100);
			l3 += 8;
		}
		return l3;
	}
	p[0] = 0x45;
	p[1] = f->tos;
	put_be16(p + 4, f->id);
	put_be16(p + 6, f->df ? 0x4000 : 0);
	p[8] = f->ttl;
	p[9] = f->udp ? 17 : 6;
	p[12] = p[16] = 10;
	p[15] = f->src;
	p[19] = f->dst;
	if (exotic == 1) {
		p[0] = 0x46;
		p[20] = p[21] = p[22] = 1;
		l3 = 24;
	} else if (exotic == 2 || exotic == 3) {
		put_be16(p + 6, exotic == 2 ? 0x2000 : 100);
	} else if (exotic == 4) {
		p[6] |= 0x80;
	}
	return l3;
}

/* Lengths and checksums, as a sender finishes them. */
static inline void stream_finish(const struct stream_flow *f, uint8_t *p, size_t l3, size_t len)
{
	uint8_t *csum = p + l3 + (f->udp ? 6 : 16);
	uint16_t v;

	if (f->v6) {
		put_be16(p + 4, (uint16_t)(len - 40));
	} else {
		put_be16(p + 2, (uint16_t)len);
		put_be16(p + 10, (uint16_t)~stream_sum(p, l3, 0));
	}
	v = (uint16_t)~stream_sum(p + l3, len - l3, stream_pseudo(p, f->udp ? 17 : 6, len - l3));
	put_be16(csum, f->udp && !v ? 0xffff : v);
}

static inline void stream_put(struct stream *s, const uint8_t *p, size_t len)
{
	struct stream_packet *to;

	if (s->n == STREAM_MAX)
		return;
	to = &s->in[s->n++];
	to->p = malloc(len);
	STREAM_MUST(to->p);
	memcpy(to->p, p, len);
	to->len = len;
}

/* Makes the upper layer's checksum come out as 0 by its last two bytes. */
static inline void stream_zero_sum(struct stream *s, const struct stream_flow *f, uint8_t *p, size_t l3, size_t len)
{
	size_t csum = l3 + (f->udp ? 6 : 16);

	put_be16(p + len - 2, 0);
	put_be16(p + csum, 0);
	stream_finish(f, p, l3, len);
	put_be16(p + len - 2, be16(p + csum));
	put_be16(p + csum, 0);
	stream_finish(f, p, l3, len);
	if (stream_chance(s, 50))
		put_be16(p + csum, 0xffff);
}

/* Makes an IPv4 header's checksum come out as 0 by its identification, which is returned. */
static inline uint16_t stream_zero_header(struct stream *s, uint8_t *p, size_t l3)
{
	uint16_t id;

	put_be16(p + 4, 0);
	put_be16(p + 10, 0);
	id = (uint16_t)~stream_sum(p, l3, 0);
	put_be16(p + 4, id);
	put_be16(p + 10, stream_chance(s, 50) ? 0xffff : 0);
	return id;
}

/* A flow goes on; now and then anything changes, for good or for one packet. */
static inline void stream_next(struct stream *s, struct stream_flow *f)
{
	struct stream_flow once;
	uint8_t p[STREAM_PACKET];
	size_t payload = f->mss, l3, len;
	unsigned exotic = stream_chance(s, 5) ? 1 + stream_pick(s, 4) : 0;

	if (stream_chance(s, 25)) {
		switch (stream_pick(s, 10)) {
		case 0: f->tos = (uint8_t)stream_pick(s, 256); break;
		case 1: f->ttl = (uint8_t)(60 + stream_pick(s, 3)); break;
		case 2: f->label = stream_pick(s, 3); break;
		case 3: f->df = !f->df; break;
		case 4: f->id = (uint16_t)stream_pick(s, 65536); break;
		case 5: f->ack += stream_pick(s, 3000); break;
		case 6: f->window = (uint16_t)stream_pick(s, 65536); break;
		case 7: f->opt[7] = (uint8_t)stream_pick(s, 256); break;
		case 8: f->flags ^= S_ECE; break;
		default: f->mss = (uint16_t)(1 + stream_pick(s, 1400)); break;
		}
	}
	once = *f;
	if (stream_chance(s, 12)) {
		switch (stream_pick(s, 9)) {
		case 0: once.flags |= S_FIN; break;
		case 1: once.flags |= S_CWR; break;
		case 2: once.flags |= S_URG, once.urgent = 3; break;
		case 3: once.flags |= S_SYN; break;
		case 4: once.flags |= S_RST; break;
		case 5: once.flags ^= S_ACK; break;
		case 6: once.reserved = (uint8_t)(1 + stream_pick(s, 15)); break;
		case 7: once.urgent = 9; break;
		default: once.seq += stream_pick(s, 3) - 1; break;
		}
	}
	if (stream_chance(s, 12))
		once.flags |= S_PSH;
	if (stream_chance(s, 12))
		payload = stream_pick(s, 1500);
	l3 = stream_ip(&once, p, exotic);
	len = l3 + stream_l4(s, &once, p + l3, payload);
	stream_finish(&once, p, l3, len);
	if (stream_chance(s, 3) && payload > 2 && len % 2 == 0)
		stream_zero_sum(s, &once, p, l3, len);
	if (f->udp && stream_chance(s, 4))
		put_be16(p + l3 + 6, 0);
	if (stream_chance(s, 4))
		p[stream_pick(s, (unsigned)len)] ^= (uint8_t)(1u << stream_pick(s, 8)); /* and the sums stay */
	if (!f->v6 && stream_chance(s, 2))
		f->id = stream_zero_header(s, p, l3);
	if (stream_chance(s, 1))
		p[len++] = 0; /* longer than it says */
	f->seq += (uint32_t)payload;
	f->id = (uint16_t)(f->id + f->id_step);
	stream_put(s, p, len);
}

static inline void stream_init(struct stream *s, const struct rng *rng)
{
	memset(s, 0, sizeof(*s));
	s->rng = *rng;
	s->n_flows = 1 + stream_pick(s, STREAM_FLOWS);
	for (unsigned i = 0; i < s->n_flows; i++)
		stream_flow_init(s, &s->flows[i]);
}

static inline void stream_done(struct stream *s)
{
	for (unsigned i = 0; i < s->n; i++)
		free(s->in[i].p);
	s->n = 0;
}

/* n packets: flows in bursts, duplicates, neighbours the wrong way round, other protocols, rubbish. */
static inline void stream_fill(struct stream *s, unsigned n)
{
	unsigned flow = 0;

	while (s->n < n && s->n < STREAM_MAX) {
		unsigned had = s->n;

		if (stream_chance(s, 30))
			flow = stream_pick(s, s->n_flows);
		stream_next(s, &s->flows[flow]);
		if (stream_chance(s, 3))
			stream_put(s, s->in[s->n - 1].p, s->in[s->n - 1].len);
		if (stream_chance(s, 3) && had) {
			struct stream_packet last = s->in[had];

			s->in[had] = s->in[had - 1];
			s->in[had - 1] = last;
		}
		if (stream_chance(s, 3)) {
			struct stream_packet *last = &s->in[s->n - 1];
			uint8_t rest[64];

			if (stream_chance(s, 50) && last->len > 28) { /* the same addresses, ICMP */
				uint8_t p[STREAM_PACKET];

				memcpy(p, last->p, last->len);
				p[p[0] >> 4 == 6 ? 6 : 9] = 58;
				stream_put(s, p, last->len);
			} else {
				rng_fill(&s->rng, rest, sizeof(rest));
				stream_put(s, rest, 1 + stream_pick(s, sizeof(rest)));
			}
		}
	}
}

/* ---- what must hold ---- */

/* Which packets may not pass each other. */
struct stream_key {
	bool addresses, ports;
	uint8_t bytes[1 + 32 + 1 + 4];
};

static inline struct stream_key stream_key_of(const uint8_t *p, size_t len)
{
	struct stream_key k = { .addresses = false };
	bool v6 = p[0] >> 4 == 6;
	size_t l3 = v6 ? 40 : 20;
	uint8_t protocol;

	if (len < l3)
		return k;
	k.addresses = true;
	k.bytes[0] = p[0] >> 4;
	memcpy(k.bytes + 1, p + (v6 ? 8 : 12), v6 ? 32 : 8);
	protocol = p[v6 ? 6 : 9];
	if ((protocol != 6 && protocol != 17) || (!v6 && (p[0] != 0x45 || be16(p + 6) & 0xbfff)) || len < l3 + 8)
		return k;
	if (protocol == 6 && (len < l3 + 20 || p[l3 + 12] >> 4 < 5 || l3 + (size_t)(p[l3 + 12] >> 4) * 4 > len))
		return k;
	if (protocol == 17 && be16(p + l3 + 4) != len - l3)
		return k;
	if (be16(p + (v6 ? 4 : 2)) != (v6 ? len - 40 : len))
		return k;
	k.ports = true;
	k.bytes[33] = protocol;
	memcpy(k.bytes + 34, p + l3, 4);
	return k;
}

static inline bool stream_ordered(const struct stream_key *a, const struct stream_key *b)
{
	if (!a->addresses || !b->addresses)
		return true;
	return !memcmp(a->bytes, b->bytes, 33) &&
	       (!a->ports || !b->ports || !memcmp(a->bytes, b->bytes, sizeof(a->bytes)));
}

static inline size_t stream_gather(const struct esp_write *w, uint8_t *to)
{
	size_t len = 0;

	STREAM_MUST(w->n >= 1 && w->n <= ESP_SLICES_MAX);
	for (unsigned i = 0; i < w->n; i++) {
		memcpy(to + len, w->slice[i].p, w->slice[i].len);
		len += w->slice[i].len;
	}
	STREAM_MUST(len == w->len && (w->n == 1 || len <= ESP_WRITE_MAX));
	return len;
}

static inline void stream_vnet_check(const struct esp_write *w)
{
	const uint8_t *p = w->slice[0].p;
	const struct vnet *v = &w->vnet;

	if (w->n == 1) {
		STREAM_MUST(!(v->flags & ~VNET_DATA_VALID) && !v->gso_type && !v->hdr_len && !v->gso_size &&
			    !v->csum_start && !v->csum_offset);
		STREAM_MUST(!v->flags || stream_sums_right(p, w->len));
		return;
	}
	STREAM_MUST(v->flags == VNET_NEEDS_CSUM && v->csum_start == (p[0] >> 4 == 6 ? 40 : 20));
	STREAM_MUST(v->gso_size && v->hdr_len + (size_t)v->gso_size == w->slice[0].len);
	for (unsigned i = 1; i < w->n; i++)
		STREAM_MUST(w->slice[i].len == v->gso_size || (i + 1 == w->n && w->slice[i].len < v->gso_size));
}

/* Identification apart, where merging took one for all (esp_merge_config). */
static inline bool stream_same(const struct stream_packet *a, const uint8_t *p, size_t len, bool but_id)
{
	uint8_t copy[STREAM_PACKET];

	if (a->len != len)
		return false;
	if (!memcmp(a->p, p, len))
		return true;
	if (!but_id || p[0] != 0x45 || !(p[6] & 0x40))
		return false;
	memcpy(copy, p, len);
	memcpy(copy + 4, a->p + 4, 2);
	memcpy(copy + 10, a->p + 10, 2);
	return !memcmp(copy, a->p, len) && stream_sum(p, 20, 0) == 0xffff;
}

/* Merges all packets, in batches of at most cap writes, cuts again; the same packets must come out, in an allowed
 * order. Returns the number of writes. */
static inline unsigned stream_roundtrip(struct stream *s, const struct esp_merge_config *cfg, unsigned cap)
{
	static struct esp_write writes[STREAM_MAX];
	static struct stream_key keys[STREAM_MAX];
	static struct stream_packet orig[STREAM_MAX];
	static uint8_t super[ESP_SUPER_MAX], cut[ESP_SUPER_MAX];
	unsigned pos[STREAM_MAX], at = 0, n_out = 0, total = 0;
	bool taken[STREAM_MAX] = { false };
	struct esp_merge m;

	for (unsigned i = 0; i < s->n; i++) {
		orig[i] = (struct stream_packet){ malloc(s->in[i].len), s->in[i].len };
		STREAM_MUST(orig[i].p);
		memcpy(orig[i].p, s->in[i].p, s->in[i].len);
		keys[i] = stream_key_of(s->in[i].p, s->in[i].len);
	}
	while (at < s->n) {
		unsigned from = at, n;

		esp_merge_init(&m, cfg, writes, cap);
		while (at < s->n && esp_merge_add(&m, s->in[at].p, s->in[at].len))
			at++;
		STREAM_MUST(at > from);
		n = esp_merge_finish(&m);
		STREAM_MUST(n && n <= cap && (at == s->n || n == cap));
		total += n;
		for (unsigned w = 0; w < n; w++) {
			struct esp_super sup;
			size_t len = stream_gather(&writes[w], super);

			stream_vnet_check(&writes[w]);
			STREAM_MUST(esp_super_parse(span_of(super, len), &writes[w].vnet, &sup) == OK);
			STREAM_MUST(sup.n == writes[w].n);
			for (unsigned i = 0; i < sup.n; i++) {
				size_t got = esp_super_segment(&sup, i, cut, sizeof(cut));
				unsigned j = from;

				while (j < at && (taken[j] || !stream_same(&orig[j], cut, got, cfg->fixed_ids)))
					j++;
				STREAM_MUST(j < at);
				taken[j] = true;
				pos[j] = n_out++;
			}
		}
	}
	STREAM_MUST(n_out == s->n);
	for (unsigned i = 0; i < s->n; i++)
		for (unsigned j = i + 1; j < s->n; j++)
			STREAM_MUST(pos[i] < pos[j] || !stream_ordered(&keys[i], &keys[j]));
	for (unsigned i = 0; i < s->n; i++)
		free(orig[i].p);
	return total;
}
