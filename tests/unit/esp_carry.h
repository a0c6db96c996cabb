/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/esp_carry.h - the fixture of the plane's tests: packets go from one end to the other, and the
 * result says where and why they were dropped. After <cmocka.h>. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "esp_pair.h"

#define PASS (-1)
#define HELD_BACK (-2) /* a fragment that waits for its first one */
#define AT_RECEIVER(drop) (100 + (int)(drop))

enum {
	SYN = ESP_TCP_SYN,
	ACK = ESP_TCP_ACK,
	SYNACK = ESP_TCP_SYN | ESP_TCP_ACK,
	FIN = ESP_TCP_FIN | ESP_TCP_ACK,
	RST = ESP_TCP_RST
};

struct pair {
	struct esp_plane *a, *b;
	uint64_t now;
	struct esp_cipher raw; /* A's sending key, for an A that is hostile */
	uint64_t raw_seq;
	uint8_t outer[ESP_PACKET_MAX]; /* the last datagram between them */
	size_t outer_len;
	uint8_t outer_tos;
	struct pkt got; /* the last packet that was delivered */
	bool v6;
};

static uint8_t carry_self[16]; /* of planes that are made */

static inline struct esp_plane *plane(unsigned max_sas, unsigned max_flows)
{
	static struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = max_sas, .max_flows = max_flows };
	struct esp_plane *p = NULL;

	memcpy(cfg.self, carry_self, sizeof(cfg.self));
	assert_int_equal(esp_plane_new(&cfg, &p), OK);
	return p;
}

static inline void pair_raw(struct pair *p, const struct esp_sa_config *a)
{
	static struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 2);

	assert_int_equal(esp_cipher_init(&p->raw, a->alg, a->key_out, &rng, a->esn), OK);
	p->raw_seq = 0;
}

static inline struct pair *pair_with(const struct esp_sa_config *a, bool v6, unsigned max_flows)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct esp_sa_config b = pair_mirror(a);

	assert_non_null(p);
	p->v6 = v6;
	p->now = SECONDS(1000);
	p->a = plane(8, max_flows);
	p->b = plane(8, max_flows);
	assert_int_equal(esp_sa_add(p->a, p->now, a), OK);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	pair_raw(p, a);
	return p;
}

static inline struct pair *pair_new(bool v6)
{
	struct esp_sa_config a = pair_config_a(v6);

	return pair_with(&a, v6, 64);
}

static inline void pair_free(struct pair *p)
{
	esp_plane_free(p->a);
	esp_plane_free(p->b);
	esp_cipher_done(&p->raw);
	free(p);
}

/* The one counter that grew since `before`. */
static inline int dropped(const struct esp_plane *pl, const struct esp_counters *before)
{
	const struct esp_counters *now = esp_plane_counters(pl);
	int found = PASS;

	for (int d = 0; d < ESP_N_DROPS; d++)
		if (now->drops[d] != before->drops[d]) {
			assert_int_equal(found, PASS);
			assert_int_equal(now->drops[d], before->drops[d] + 1);
			found = d;
		}
	return found;
}

static inline int deliver(struct pair *p, struct esp_plane *to, const uint8_t *outer, size_t len)
{
	struct esp_counters before = *esp_plane_counters(to);
	uint8_t *exact = malloc(len + 1);
	struct esp_packet in = { .p = exact, .len = len }, out[ESP_BATCH];
	unsigned n;

	assert_non_null(exact);
	if (len)
		memcpy(exact, outer, len);
	in.tos = p->outer_tos;
	n = esp_plane_input(to, p->now, &in, 1, out);
	if (n == 0) {
		int d = dropped(to, &before);

		free(exact);
		return d == PASS ? HELD_BACK : AT_RECEIVER(d);
	}
	assert_int_equal(n, 1);
	assert_int_equal(dropped(to, &before), PASS);
	assert_int_equal(esp_plane_counters(to)->bytes_in, before.bytes_in + out[0].len);
	memcpy(p->got.b, out[0].p, out[0].len);
	p->got.len = out[0].len;
	free(exact);
	return PASS;
}

/* From an inner packet to the datagram in p->outer. */
static inline int seal(struct pair *p, struct esp_plane *from, struct pkt pk)
{
	struct esp_counters before = *esp_plane_counters(from);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];

	if (esp_plane_output(from, p->now, &in, 1, out) == 0) {
		int d = dropped(from, &before);

		assert_int_not_equal(d, PASS);
		return d;
	}
	assert_int_equal(out[0].call, PAIR_CALL);
	assert_true(out[0].len <= pk.len + ESP_OVERHEAD);
	assert_true(addr_eq(&out[0].path->remote,
			    &(struct addr[]){ addr_ip4(from == p->a ? 0xc6336401 : 0xc0000201, 4500) }[0]));
	memcpy(p->outer, out[0].p, out[0].len);
	p->outer_len = out[0].len;
	p->outer_tos = out[0].tos;
	return PASS;
}

/* All the way; PASS means that the other end delivered the very packet. */
static inline int carry(struct pair *p, bool from_a, struct pkt pk)
{
	int r = seal(p, from_a ? p->a : p->b, pk);

	if (r == PASS)
		r = deliver(p, from_a ? p->b : p->a, p->outer, p->outer_len);
	if (r == PASS) {
		assert_int_equal(p->got.len, pk.len);
		assert_memory_equal(p->got.b, pk.b, pk.len);
	}
	return r;
}

/* A whose plane lets out anything: sealed with the right key, straight to B. */
static inline int hostile_raw(struct pair *p, uint8_t next, struct span plain)
{
	size_t len;

	p->raw_seq += 1000; /* beyond what A's own plane has used */
	p->outer_tos = 0;
	assert_int_equal(esp_packet_seal(&p->raw, PAIR_SPI_B, p->raw_seq, p->raw_seq, next, plain, p->outer,
					 sizeof(p->outer), &len),
			 OK);
	return deliver(p, p->b, p->outer, len);
}

static inline int hostile(struct pair *p, struct pkt pk)
{
	return hostile_raw(p, pk.b[0] >> 4 == 6 ? ESP_NEXT_IP6 : ESP_NEXT_IP4, span_of(pk.b, pk.len));
}

static inline struct pkt a_tcp(struct pair *p, uint16_t sport, uint16_t dport, uint8_t flags)
{
	return pkt_tcp(p->v6, HOST_A, sport, HOST_B, dport, flags);
}

static inline struct pkt b_tcp(struct pair *p, uint16_t sport, uint16_t dport, uint8_t flags)
{
	return pkt_tcp(p->v6, HOST_B, sport, HOST_A, dport, flags);
}

static inline void handshake(struct pair *p, uint16_t sport)
{
	assert_int_equal(carry(p, true, a_tcp(p, sport, 5900, SYN)), PASS);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, sport, SYNACK)), PASS);
	assert_int_equal(carry(p, true, a_tcp(p, sport, 5900, ACK)), PASS);
}
