/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Super-packets through the plane: what comes out at the other end is what single packets would have been, and policy, MTU and
 * lifetimes hold for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "esp/segment.h"
#include "harness.h"
#include "esp_carry.h"

#define PAYLOAD_MAX 60000

/* A TCP super-packet from A to B's service. */
struct big {
	uint8_t b[ESP_SUPER_MAX];
	size_t len;
	struct vnet vnet;
};

static struct big big_tcp(uint8_t flags, uint16_t dport, size_t payload, uint16_t gso)
{
	struct pkt pk = pkt_tcp(true, HOST_A, 40000, HOST_B, dport, flags);
	static struct big g;

	pk.len -= 4; /* its own payload */
	assert_true(payload <= PAYLOAD_MAX);
	memset(&g, 0, sizeof(g));
	memcpy(g.b, pk.b, pk.len);
	g.len = pk.len + payload;
	for (size_t i = 0; i < payload; i++)
		g.b[pk.len + i] = (uint8_t)(i * 31 + payload);
	put_be16(g.b + 4, (uint16_t)(g.len - 40));
	g.vnet = (struct vnet){ .flags = VNET_NEEDS_CSUM,
				.gso_type = payload > gso ? VNET_GSO_TCPV6 : VNET_GSO_NONE,
				.hdr_len = (uint16_t)pk.len,
				.gso_size = gso,
				.csum_start = 40,
				.csum_offset = 16 };
	return g;
}

static struct esp_packet out[ESP_BATCH_OUT], got[ESP_BATCH];

/* All of it; every segment that arrives is compared with the one that it is. Returns how many arrived. */
static unsigned through(struct pair *p, struct big *g)
{
	struct esp_super s;
	struct esp_super_work w = { .super = &s };
	unsigned seen = 0, at = 0;

	assert_int_equal(esp_super_parse(span_of(g->b, g->len), &g->vnet, &s), OK);
	while (w.at < s.n) {
		unsigned n = esp_plane_super(p->a, p->now, &w, 0, out);

		for (unsigned i = 0; i < n; i++) {
			uint8_t want[ESP_PACKET_MAX];
			size_t len = esp_super_segment(&s, at++, want, sizeof(want));

			if (esp_plane_input(p->b, p->now, &out[i], 1, got) == 0)
				continue;
			assert_int_equal(got[0].len, len);
			assert_memory_equal(got[0].p, want, len);
			seen++;
		}
	}
	return seen;
}

static void open_flow(struct pair *p)
{
	assert_int_equal(carry(p, true, pkt_tcp(true, HOST_A, 40000, HOST_B, 5900, ESP_TCP_SYN)), PASS);
	assert_int_equal(carry(p, false, pkt_tcp(true, HOST_B, 5900, HOST_A, 40000, ESP_TCP_SYN | ESP_TCP_ACK)), PASS);
	assert_int_equal(carry(p, true, pkt_tcp(true, HOST_A, 40000, HOST_B, 5900, ESP_TCP_ACK)), PASS);
}

static void segments_arrive_as_they_are(void **state)
{
	static const struct {
		size_t payload;
		uint16_t gso;
	} rows[] = { { 0, 1000 },     { 1, 1000 },     { 1000, 1000 },  { 1001, 1000 }, { 2000, 1000 },
		     { 46000, 1000 }, { 60000, 1320 }, { 59999, 1320 }, { 60000, 100 }, { 1320, 1320 } };
	struct pair *p = pair_new(true);

	(void)state;
	open_flow(p);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct big g = big_tcp(ESP_TCP_ACK, 5900, rows[i].payload, rows[i].gso);
		unsigned want = rows[i].payload > rows[i].gso
					? (unsigned)((rows[i].payload + rows[i].gso - 1u) / rows[i].gso)
					: 1;
		uint64_t before = esp_plane_counters(p->a)->packets_out, bytes = esp_plane_counters(p->b)->bytes_in;

		assert_int_equal(through(p, &g), want);
		assert_int_equal(esp_plane_counters(p->a)->packets_out, before + want);
		assert_int_equal(esp_plane_counters(p->b)->bytes_in, bytes + rows[i].payload + (uint64_t)want * 60);
	}
	pair_free(p);
}

/* Nothing of a super-packet passes that would not pass alone; it counts as one drop. */
static void policy_holds(void **state)
{
	struct pair *p = pair_new(true);
	struct big g = big_tcp(ESP_TCP_ACK, 5900, 5000, 1000);

	(void)state;
	assert_int_equal(through(p, &g), 0); /* no flow yet */
	assert_int_equal(esp_plane_counters(p->a)->packets_out, 0);
	open_flow(p);
	g = big_tcp(ESP_TCP_ACK, 5901, 5000, 1000); /* another port */
	assert_int_equal(through(p, &g), 0);
	g = big_tcp(ESP_TCP_ACK, 5900, 5000, 1000);
	esp_call_hold(p->a, PAIR_CALL, true);
	assert_int_equal(through(p, &g), 0);
	assert_int_equal(esp_plane_counters(p->a)->drops[ESP_DROP_HELD], 1);
	esp_call_hold(p->a, PAIR_CALL, false);
	assert_int_equal(through(p, &g), 5);
	pair_free(p);
}

/* A path that carries less than the TUN: each segment is told of, or cut, as single packets are. */
static void path_carries_less(void **state)
{
	struct pair *p = pair_new(true);
	struct big g = big_tcp(ESP_TCP_ACK, 5900, 5 * 1320, 1320);
	struct esp_packet told;
	unsigned n_told = 0;

	(void)state;
	open_flow(p);
	esp_call_set_mtu(p->a, PAIR_CALL, 1300);
	assert_int_equal(through(p, &g), 0);
	assert_int_equal(esp_plane_counters(p->a)->drops[ESP_DROP_TOO_BIG], 5);
	while (esp_plane_poll_inner(p->a, &told))
		n_told++;
	assert_true(n_told >= 1);
	g = big_tcp(ESP_TCP_ACK, 5900, 5000, 1000);
	assert_int_equal(through(p, &g), 5);
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_arrive_as_they_are),
		cmocka_unit_test(policy_holds),
		cmocka_unit_test(path_carries_less),
	};

	return HARNESS_RUN(tests);
}
