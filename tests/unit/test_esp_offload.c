/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Merging and cutting against each other: what goes through both comes out as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp_stream.h"
#include "harness.h"

static void streams(const struct esp_merge_config *cfg, uint64_t seeds)
{
	static struct stream s;
	unsigned packets = 0, writes = 0;

	for (uint64_t i = 0; i < seeds; i++) {
		struct rng_seeded seed;
		struct rng rng = rng_seeded_init(&seed, i);

		stream_init(&s, &rng);
		stream_fill(&s, 1 + stream_pick(&s, STREAM_MAX));
		packets += s.n;
		writes += stream_roundtrip(&s, cfg, i % 4 ? STREAM_MAX : 1 + stream_pick(&s, 40));
		stream_done(&s);
	}
	/* it is no test if nothing is merged */
	assert_true(writes < packets * 9 / 10);
	assert_true(writes > packets / 10);
}

static void any_stream(void **state)
{
	static const struct esp_merge_config cfg = { .uso = true };

	(void)state;
	streams(&cfg, 400);
}

static void any_stream_without_uso(void **state)
{
	static const struct esp_merge_config cfg = { .uso = false };

	(void)state;
	streams(&cfg, 100);
}

static void any_stream_fixed_ids(void **state)
{
	static const struct esp_merge_config cfg = { .uso = true, .fixed_ids = true };

	(void)state;
	streams(&cfg, 100);
}

/* A super-packet as the kernel hands it over. */
static size_t super_make(struct stream *s, struct stream_flow *f, uint8_t *p, struct vnet *v)
{
	unsigned n = 2 + stream_pick(s, ESP_SLICES_MAX - 1);
	size_t room = (ESP_WRITE_MAX - 120) / n, part = 1 + stream_pick(s, room < 1400 ? (unsigned)room : 1400), l3,
	       len;

	f->flags = S_ACK;
	if (stream_chance(s, 50))
		f->flags |= S_PSH;
	if (stream_chance(s, 10))
		f->flags |= S_FIN;
	if (stream_chance(s, 20))
		f->flags |= S_CWR;
	if (stream_chance(s, 20))
		f->flags |= S_ECE;
	f->id_step = 1;
	l3 = stream_ip(f, p, 0);
	len = l3 + stream_l4(s, f, p + l3, (n - 1) * part + 1 + stream_pick(s, (unsigned)part));
	stream_finish(f, p, l3, len);
	put_be16(p + l3 + (f->udp ? 6 : 16), (uint16_t)stream_pseudo(p, f->udp ? 17 : 6, len - l3));
	*v = (struct vnet){ .flags = VNET_NEEDS_CSUM,
			    .gso_type = f->v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4,
			    .hdr_len = (uint16_t)(l3 + (f->udp ? 8u : 20u + f->opt_len)),
			    .gso_size = (uint16_t)part,
			    .csum_start = (uint16_t)l3,
			    .csum_offset = f->udp ? 6 : 16 };
	if (f->udp)
		v->gso_type = VNET_GSO_UDP_L4;
	else if (f->flags & S_CWR)
		v->gso_type |= VNET_GSO_ECN;
	return len;
}

static void super_there_and_back(void **state)
{
	static const struct esp_merge_config cfg = { .uso = true };
	static struct stream s;
	static struct esp_write writes[4];
	static uint8_t super[ESP_SUPER_MAX], segments[ESP_SLICES_MAX][STREAM_PACKET], again[ESP_SUPER_MAX];
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 7);

	(void)state;
	stream_init(&s, &rng);
	for (unsigned round = 0; round < 500; round++) {
		struct stream_flow f;
		struct esp_super sup;
		struct esp_merge m;
		struct vnet v;
		size_t len;

		stream_flow_init(&s, &f);
		len = super_make(&s, &f, super, &v);
		assert_int_equal(esp_super_parse(span_of(super, len), &v, &sup), OK);
		esp_merge_init(&m, &cfg, writes, 4);
		for (unsigned i = 0; i < sup.n; i++) {
			size_t got = esp_super_segment(&sup, i, segments[i], STREAM_PACKET);

			assert_int_equal(got, i + 1 < sup.n ? sup.len : sup.len_last);
			assert_true(stream_sums_right(segments[i], got));
			assert_true(esp_merge_add(&m, segments[i], got));
		}
		assert_int_equal(esp_merge_finish(&m), 1);
		assert_int_equal(writes[0].n, sup.n);
		assert_int_equal(stream_gather(&writes[0], again), len);
		assert_memory_equal(again, super, len);
		assert_memory_equal(&writes[0].vnet, &v, sizeof(v));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_stream),
		cmocka_unit_test(any_stream_without_uso),
		cmocka_unit_test(any_stream_fixed_ids),
		cmocka_unit_test(super_there_and_back),
	};

	return HARNESS_RUN(tests);
}
