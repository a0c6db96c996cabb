/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Relayed paths: ESP leaves as TURN ChannelData, and comes in by nothing but the call's channels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp/segment.h"
#include "esp/set.h"
#include "esp_carry.h"
#include "harness.h"
#include "net/demux.h"

/* ---- paths ---- */

/* A server of its own for each last octet. */
static struct path relay(bool v6, uint8_t server, uint16_t channel)
{
	uint8_t ip[16] = { 0x20, 1, 0xd, 0xb8 };

	ip[15] = server;
	return (struct path){ .local = addr_ip4(0xc0000201, 4500),
			      .remote = v6 ? addr_of(SPAN_OF(ip), 3478) : addr_ip4(0xcb007100u + server, 3478),
			      .channel = channel };
}

static struct path direct(bool v6)
{
	return relay(v6, 99, 0);
}

static struct pkt udp(size_t len)
{
	return pkt_udp(true, HOST_A, 1000, HOST_B, 53, len);
}

/* What B gets when its server brings it what A's sent: an own piece of memory, as long as it is. */
static int relayed(struct pair *p, const struct esp_packet *out, const struct path *from, const struct path *by)
{
	struct esp_counters before = *esp_plane_counters(p->b);
	struct span d = span_of(out->p, out->len);
	struct demux_inside in = { .bytes = d };
	struct esp_packet pk, got[ESP_BATCH];
	int r = PASS;

	assert_int_equal(out->path->channel, from->channel);
	assert_true(addr_eq(&out->path->remote, &from->remote));
	assert_int_equal(demux_channel(d, &in), from->channel != 0);
	assert_int_equal(in.channel, from->channel);
	assert_int_equal(in.bytes.len, out->len - (from->channel ? 4 : 0)); /* no padding */
	assert_int_equal(demux_classify(in.bytes), DEMUX_ESP);
	pk = (struct esp_packet){ .p = malloc(in.bytes.len), .len = in.bytes.len, .path = by };
	assert_non_null(pk.p);
	memcpy(pk.p, in.bytes.p, pk.len);
	if (esp_plane_input(p->b, p->now, &pk, 1, got)) {
		assert_int_equal(dropped(p->b, &before), PASS);
		memcpy(p->got.b, got[0].p, got[0].len);
		p->got.len = got[0].len;
	} else {
		r = AT_RECEIVER(dropped(p->b, &before));
	}
	free(pk.p);
	return r;
}

static struct esp_packet sealed(struct pair *p, struct pkt pk)
{
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];

	assert_int_equal(esp_plane_output(p->a, p->now, &in, 1, out), 1);
	return out[0];
}

static void set_paths(struct pair *p, const struct path *a, const struct path *b)
{
	esp_call_set_path(p->a, PAIR_CALL, a);
	esp_call_set_path(p->b, PAIR_CALL, b);
}

/* ---- both ways ---- */

static void round_trip(void **state)
{
	(void)state;
	for (int alg = 0; alg < CIPHER_COUNT; alg++)
		for (int v6 = 0; v6 < 2; v6++) {
			struct path pa = relay(v6, 1, 0x4000), pb = relay(!v6, 2, 0x4fff);
			struct esp_sa_config a = pair_config_a(true);
			struct pair *p;

			a.alg = (enum cipher_alg)alg;
			p = pair_with(&a, true, 64);
			set_paths(p, &pa, &pb);
			for (size_t len = 0; len < 40; len++) {
				struct pkt pk = udp(len);
				struct esp_packet out = sealed(p, pk);

				assert_int_equal(relayed(p, &out, &pa, &pb), PASS);
				assert_int_equal(p->got.len, pk.len);
				assert_memory_equal(p->got.b, pk.b, pk.len);
			}
			/* the longest that there is: nothing is written behind its place */
			for (size_t len = ESP_PACKET_MAX - ESP_OVERHEAD - 48 - 20;
			     len <= ESP_PACKET_MAX - ESP_OVERHEAD - 48; len++) {
				struct esp_packet out = sealed(p, udp(len));

				assert_true(out.len <= ESP_PACKET_MAX);
				assert_int_equal(relayed(p, &out, &pa, &pb), PASS);
			}
			pair_free(p);
		}
}

/* A super-packet's segments are framed one by one, and are as long as each other: what makes a train. */
static void super_packets(void **state)
{
	enum { GSO = 1000, N = 45, LEN = 48 + (N - 1) * GSO + 7 };
	struct path pa = relay(false, 1, 0x4001), pb = relay(true, 2, 0x4002);
	struct vnet v = { .gso_type = VNET_GSO_UDP_L4,
			  .flags = VNET_NEEDS_CSUM,
			  .hdr_len = 48,
			  .gso_size = GSO,
			  .csum_start = 40,
			  .csum_offset = 6 };
	struct pkt head = udp(0);
	struct esp_packet out[ESP_BATCH_OUT];
	struct esp_super_work w = { .at = 0 };
	struct esp_super s;
	struct pair *p = pair_new(true);
	uint8_t *g = calloc(1, LEN);
	unsigned n;

	(void)state;
	assert_non_null(g);
	set_paths(p, &pa, &pb);
	memcpy(g, head.b, 48);
	put_be16(g + 4, LEN - 40);
	put_be16(g + 44, LEN - 40);
	for (size_t i = 48; i < LEN; i++)
		g[i] = (uint8_t)(i * 7);
	assert_int_equal(esp_super_parse(span_of(g, LEN), &v, &s), OK);
	w.super = &s;
	n = esp_plane_super(p->a, p->now, &w, 0, out);
	assert_int_equal(n, N);
	for (unsigned i = 0; i < n; i++) {
		assert_true(i == n - 1 ? out[i].len < out[0].len : out[i].len == out[0].len);
		assert_int_equal(relayed(p, &out[i], &pa, &pb), PASS);
		assert_memory_equal(p->got.b + 48, g + 48 + (size_t)i * GSO, i == n - 1 ? 7 : GSO);
	}
	free(g);
	pair_free(p);
}

/* ---- what must not come in ---- */

/* Not by another channel, server or port; and then nothing is learnt from it or about it: the packet itself still comes in by its way. */
static void wrong_relay(void **state)
{
	struct path pa = relay(false, 1, 0x4001), pb = relay(false, 2, 0x4002), none = direct(false);
	struct path wrong[4];
	struct pair *p = pair_new(true);
	struct esp_packet out;
	struct esp_counters k;

	(void)state;
	set_paths(p, &pa, &pb);
	for (int i = 0; i < 4; i++)
		wrong[i] = pb;
	wrong[0].channel = 0x4003;
	wrong[1].remote.port++;
	wrong[2].remote.ip[0] ^= 1;
	wrong[3].remote = relay(true, 2, 0).remote;
	out = sealed(p, udp(10));
	for (int i = 0; i < 4; i++)
		assert_int_equal(relayed(p, &out, &pa, &wrong[i]), AT_RECEIVER(ESP_DROP_CHANNEL));
	assert_int_equal(esp_plane_counters(p->b)->last_in_us, 0);
	assert_int_equal(relayed(p, &out, &pa, &pb), PASS);
	assert_int_equal(relayed(p, &out, &pa, &pb), AT_RECEIVER(ESP_DROP_REPLAY));
	/* where it does not verify, and even where it was there before, it is still the channel that is wrong */
	assert_int_equal(relayed(p, &out, &pa, &wrong[0]), AT_RECEIVER(ESP_DROP_CHANNEL));
	out = sealed(p, udp(10));
	out.p[out.len - 1] ^= 1;
	assert_int_equal(relayed(p, &out, &pa, &wrong[1]), AT_RECEIVER(ESP_DROP_CHANNEL));
	assert_int_equal(relayed(p, &out, &pa, &pb), AT_RECEIVER(ESP_DROP_AUTH));
	assert_true(esp_call_counters(p->b, PAIR_CALL, &k));
	assert_int_equal(k.drops[ESP_DROP_CHANNEL], 6);
	assert_string_equal(esp_drop_name(ESP_DROP_CHANNEL), "channel");
	/* a call that has no relay */
	pair_free(p);
	p = pair_new(true);
	set_paths(p, &pa, &none);
	out = sealed(p, udp(10));
	none.channel = 0x4001;
	assert_int_equal(relayed(p, &out, &pa, &none), AT_RECEIVER(ESP_DROP_CHANNEL));
	none.channel = 0;
	assert_int_equal(relayed(p, &out, &pa, &none), PASS);
	/* one that has, and a peer who reaches us directly: keys decide, as ever */
	set_paths(p, &pa, &pb);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &none), PASS);
	pair_free(p);
}

/* Another call's channel is no better than a stranger's, an unknown SPI is that first. */
static void another_calls_relay(void **state)
{
	struct path pa = relay(false, 1, 0x4001), pb = relay(false, 2, 0x4002);
	struct esp_sa_config other = pair_config_a(true);
	struct pair *p = pair_new(true);
	struct esp_packet out;

	(void)state;
	set_paths(p, &pa, &pb);
	other.call = PAIR_CALL + 1;
	other.spi_in = PAIR_SPI_B + 8;
	other.path = relay(false, 2, 0x4003);
	assert_int_equal(esp_sa_add(p->b, p->now, &other), OK);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &other.path), AT_RECEIVER(ESP_DROP_CHANNEL));
	assert_int_equal(relayed(p, &out, &pa, &pb), PASS);
	esp_call_remove(p->b, PAIR_CALL);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &pb), AT_RECEIVER(ESP_DROP_UNKNOWN_SPI));
	/* a new call has nothing of the older ones' */
	other = pair_config_a(true);
	other = pair_mirror(&other);
	other.path = direct(false);
	assert_int_equal(esp_sa_add(p->b, p->now, &other), OK);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &pb), AT_RECEIVER(ESP_DROP_CHANNEL));
	pair_free(p);
}

/* ---- changes of path ---- */

/* What one end has sent before the change comes in after it, whichever of the two changes first. */
static void changes_under_traffic(void **state)
{
	enum { FLIGHT = 8 };
	struct path ways[][2] = { { direct(false), direct(false) },
				  { relay(false, 1, 0x4001), relay(false, 2, 0x4002) },
				  { direct(false), direct(false) },
				  { relay(true, 3, 0x4001), relay(false, 2, 0x4003) },
				  { relay(false, 1, 0x4001), relay(false, 2, 0x4002) },
				  { direct(true), direct(true) } };
	struct pair *p = pair_new(true);
	uint64_t n = 0;

	(void)state;
	set_paths(p, &ways[0][0], &ways[0][1]);
	for (size_t i = 0; i + 1 < sizeof(ways) / sizeof(ways[0]); i++) {
		uint8_t copies[FLIGHT][ESP_PACKET_MAX];
		struct esp_packet flight[FLIGHT];

		for (int k = 0; k < FLIGHT; k++) {
			flight[k] = sealed(p, udp(100));
			memcpy(copies[k], flight[k].p, flight[k].len);
			flight[k].p = copies[k];
			flight[k].path = &ways[i][0];
		}
		for (int k = 0; k < FLIGHT; k++) {
			if (k == FLIGHT / 2)
				esp_call_set_path(p->b, PAIR_CALL, &ways[i + 1][1]);
			assert_int_equal(relayed(p, &flight[k], &ways[i][0], &ways[i][1]), PASS);
		}
		/* said twice, it is no change */
		esp_call_set_path(p->b, PAIR_CALL, &ways[i + 1][1]);
		flight[0] = sealed(p, udp(100));
		assert_int_equal(relayed(p, &flight[0], &ways[i][0], &ways[i][1]), PASS);
		esp_call_set_path(p->a, PAIR_CALL, &ways[i + 1][0]);
		flight[0] = sealed(p, udp(100));
		assert_int_equal(relayed(p, &flight[0], &ways[i + 1][0], &ways[i + 1][1]), PASS);
		n += FLIGHT + 2;
	}
	assert_int_equal(esp_plane_counters(p->a)->packets_out, n);
	assert_int_equal(esp_plane_counters(p->b)->packets_in, n);
	pair_free(p);
}

/* A change later, what a relay brings still counts; when there is another one in its place, it does not. */
static void how_long_a_relay_counts(void **state)
{
	struct path pa = direct(false), none = direct(false), r[3], by;
	struct pair *p = pair_new(true);
	struct esp_packet out;

	(void)state;
	set_paths(p, &pa, &none);
	for (uint8_t i = 0; i < 3; i++)
		r[i] = relay(false, 2, (uint16_t)(0x4002 + i));
	esp_call_set_path(p->b, PAIR_CALL, &r[0]);
	esp_call_set_path(p->b, PAIR_CALL, &none);
	esp_call_set_path(p->b, PAIR_CALL, &r[1]);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &r[0]), PASS);
	/* the same relay by another address of ours is the same relay */
	by = r[1];
	by.local = addr_ip4(0xc0000202, 4500);
	esp_call_set_path(p->b, PAIR_CALL, &by);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &r[0]), PASS);
	esp_call_set_path(p->b, PAIR_CALL, &r[2]);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &r[0]), AT_RECEIVER(ESP_DROP_CHANNEL));
	assert_int_equal(relayed(p, &out, &pa, &r[1]), PASS);
	out = sealed(p, udp(10));
	assert_int_equal(relayed(p, &out, &pa, &r[2]), PASS);
	pair_free(p);
}

/* ---- how long they may be ---- */

/* The longest inner packet that leaves in one piece; none of what leaves is longer than the path takes. */
static size_t longest(struct pair *p, unsigned mtu, size_t around)
{
	size_t most = 0;

	for (size_t len = mtu - 200; len < mtu; len++) {
		struct pkt pk = udp(len - 48);
		struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT], told;

		if (esp_plane_output(p->a, p->now, &in, 1, out) == 1) {
			assert_true(out[0].len + around <= mtu);
			most = len;
		}
		while (esp_plane_poll_inner(p->a, &told))
			;
	}
	return most;
}

static void what_fits(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		size_t around = v6 ? 48 : 28, without;
		struct path way = direct(v6), by = relay(v6, 1, 0x4001);
		struct pair *p = pair_new(true);

		esp_call_set_path(p->a, PAIR_CALL, &way);
		esp_call_set_mtu(p->a, PAIR_CALL, 1400);
		without = longest(p, 1400, around);
		assert_int_equal(without, 1400 - around - 8 - 8 - 2 - 16 - (1400 - around - 8 - 8 - 16) % 4);
		esp_call_set_path(p->a, PAIR_CALL, &by);
		assert_int_equal(longest(p, 1400, around), without - 4);
		esp_call_set_path(p->a, PAIR_CALL, &way);
		assert_int_equal(longest(p, 1400, around), without);
		pair_free(p);
	}
}

/* An echo that measures the path fills it with its frame; also through the shards' owner, who copies it. */
static void echoes_and_the_owner(void **state)
{
	static struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 8, .max_flows = 64 };
	struct esp_sa_config a = pair_config_a(true);
	struct pkt pk = udp(100);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];
	uint8_t peer[16], buf[ESP_PACKET_MAX];
	struct esp_set *s;

	(void)state;
	pkt_ip(cfg.self, true, HOST_A);
	pkt_ip(peer, true, HOST_B);
	a.path = relay(false, 1, 0x4001);
	a.spi_in = 0xc0000000u + PAIR_CALL % 2;
	assert_int_equal(esp_set_new(&cfg, 2, NULL, &s), OK);
	assert_int_equal(esp_set_add(s, 0, &a), OK);
	for (unsigned size = ESP_MTU_MIN; size < ESP_MTU_MIN + 40; size++) {
		struct demux_inside inside;

		assert_true(esp_set_echo(s, PAIR_CALL, peer, size, buf, &out[0]));
		assert_true(out[0].len + 28 <= size && out[0].len + 28 + 4 > size);
		assert_true(demux_channel(span_of(buf, out[0].len), &inside));
		assert_int_equal(inside.bytes.len, out[0].len - 4);
		assert_int_equal(inside.kind, DEMUX_ESP);
	}
	assert_int_equal(esp_set_output(s, 0, &in, 1, out), 1);
	assert_int_equal(be16(out[0].p), 0x4001);
	assert_int_equal(be16(out[0].p + 2), out[0].len - 4);
	assert_int_equal(out[0].path->channel, 0x4001);
	esp_set_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(super_packets),
		cmocka_unit_test(wrong_relay),
		cmocka_unit_test(another_calls_relay),
		cmocka_unit_test(changes_under_traffic),
		cmocka_unit_test(how_long_a_relay_counts),
		cmocka_unit_test(what_fits),
		cmocka_unit_test(echoes_and_the_owner),
	};

	return HARNESS_RUN(tests);
}
