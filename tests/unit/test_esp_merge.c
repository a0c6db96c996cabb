/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What is merged and what is not, rule by rule; that nothing is changed by it is test_esp_offload.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp_stream.h"
#include "harness.h"

#define PART 100
#define WRITES 64

static struct esp_merge_config cfg;
static struct stream s;
static struct esp_write writes[WRITES];
static struct rng_seeded seed;

static int start(void **state)
{
	(void)state;
	stream_done(&s);
	memset(&s, 0, sizeof(s));
	s.rng = rng_seeded_init(&seed, 5);
	cfg = (struct esp_merge_config){ .uso = true };
	return 0;
}

static int stop(void **state)
{
	(void)state;
	stream_done(&s);
	return 0;
}

static struct stream_flow flow(bool v6, bool udp)
{
	return (struct stream_flow){ .v6 = v6,
				     .udp = udp,
				     .df = true,
				     .tos = 2,
				     .ttl = 64,
				     .flags = S_ACK,
				     .opt_len = 12,
				     .opt = { 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8 },
				     .sport = 1000,
				     .dport = 2000,
				     .id = 0xffff,
				     .id_step = 1,
				     .window = 500,
				     .seq = 0xffffffff,
				     .ack = 77,
				     .mss = PART,
				     .src = 1,
				     .dst = 2 };
}

static void put(struct stream_flow *f, size_t payload)
{
	uint8_t p[STREAM_PACKET];
	size_t l3 = stream_ip(f, p, 0), len = l3 + stream_l4(&s, f, p + l3, payload);

	stream_finish(f, p, l3, len);
	f->seq += (uint32_t)payload;
	f->id = (uint16_t)(f->id + f->id_step);
	stream_put(&s, p, len);
}

/* Merges what was put, and says how many packets each write has: "3 1 2". */
static const char *shape(void)
{
	static char text[4 * WRITES];
	struct esp_merge m;
	size_t len = 0;
	unsigned n;

	esp_merge_init(&m, &cfg, writes, WRITES);
	for (unsigned i = 0; i < s.n; i++)
		assert_true(esp_merge_add(&m, s.in[i].p, s.in[i].len));
	n = esp_merge_finish(&m);
	text[0] = 0;
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u", i ? " " : "", writes[i].n);
	return text;
}

static void again(const char *want)
{
	assert_string_equal(shape(), want);
	(void)start(NULL);
}

/* What the kernel is told. */
static void headers(void **state)
{
	(void)state;
	for (int k = 0; k < 4; k++) {
		bool v6 = k & 1, udp = k & 2;
		struct stream_flow f = flow(v6, udp);
		size_t l3 = v6 ? 40 : 20, l4 = udp ? 8 : 32, total = l3 + l4 + 250;
		const uint8_t *p;

		f.flags |= S_CWR;
		put(&f, PART);
		f.flags = S_ACK;
		put(&f, PART);
		f.flags |= S_PSH | S_FIN;
		put(&f, 50);
		assert_string_equal(shape(), "3");
		p = writes[0].slice[0].p;
		assert_ptr_equal(p, s.in[0].p);
		assert_ptr_equal(writes[0].slice[1].p, s.in[1].p + l3 + l4);
		assert_int_equal(writes[0].len, total);
		assert_int_equal(writes[0].vnet.flags, VNET_NEEDS_CSUM);
		assert_int_equal(writes[0].vnet.gso_type,
				 udp ? VNET_GSO_UDP_L4 : (v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4) | VNET_GSO_ECN);
		assert_int_equal(writes[0].vnet.hdr_len, l3 + l4);
		assert_int_equal(writes[0].vnet.gso_size, PART);
		assert_int_equal(writes[0].vnet.csum_start, l3);
		assert_int_equal(writes[0].vnet.csum_offset, udp ? 6 : 16);
		assert_int_equal(be16(p + (v6 ? 4 : 2)), v6 ? total - 40 : total);
		assert_true(v6 || stream_sum(p, 20, 0) == 0xffff);
		assert_int_equal(be16(p + l3 + (udp ? 6 : 16)), stream_pseudo(p, udp ? 17 : 6, total - l3));
		if (udp)
			assert_int_equal(be16(p + l3 + 4), total - l3);
		else
			assert_int_equal(p[l3 + 13], S_ACK | S_CWR | S_PSH | S_FIN);
		(void)start(NULL);
	}
}

/* One thing differs at the second packet of four: what follows is merged anew. */
static void differences(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++)
		for (int udp = 0; udp < 2; udp++)
			for (int what = 0; what < 22; what++) {
				struct stream_flow f = flow(v6, udp);
				const char *want = "1 3", *got;
				bool tcp_only = what >= 7;

				put(&f, PART);
				switch (what) {
				case 0: f.tos ^= 1; break;
				case 1: f.tos ^= 0x10; break;
				case 2: f.ttl--; break;
				case 3: f.sport++; break;
				case 4: f.src++; break;
				case 5: v6 ? f.label++ : f.id++; break;
				case 6: v6 ? (want = "4", 0) : (f.df = false); break;
				case 7: f.ack++; break;
				case 8: f.window++; break;
				case 9: f.opt[7]++; break;
				case 10: f.seq++; break;
				case 11: f.seq -= PART; break;
				case 12: f.flags |= S_ECE; break;
				case 13: f.flags |= S_CWR; break;
				case 14: f.flags &= (uint8_t)~S_ACK, want = "1 1 1 1"; break;
				case 15: f.flags |= S_URG, want = "1 1 1 1"; break;
				case 16: f.flags |= S_SYN, want = "1 1 1 1"; break;
				case 17: f.flags |= S_RST, want = "1 1 1 1"; break;
				case 18: f.reserved = 1; break;
				case 19: f.urgent = 1; break;
				case 20: f.opt_len = 8; break;
				default: f.flags |= S_PSH, want = "2 1 1"; break;
				}
				put(&f, PART);
				if (what == 13) /* CWR is set once */
					f.flags = S_ACK;
				put(&f, PART);
				put(&f, PART);
				got = shape();
				if (strcmp(got, udp && tcp_only ? "4" : want))
					fail_msg("IPv%c, %s, %d: %s", v6 ? '6' : '4', udp ? "UDP" : "TCP", what, got);
				(void)start(NULL);
			}
}

static void sizes(void **state)
{
	(void)state;
	for (int udp = 0; udp < 2; udp++) {
		struct stream_flow f = flow(false, udp);

		/* a shorter one ends it; a longer one begins; nothing is alone and ends it */
		put(&f, PART);
		put(&f, PART);
		put(&f, PART - 1);
		put(&f, PART - 1);
		put(&f, PART);
		put(&f, PART);
		put(&f, 0);
		put(&f, PART);
		put(&f, 1);
		again("3 1 2 1 2");
		/* 64 slices */
		f = flow(true, udp);
		for (int i = 0; i < 70; i++)
			put(&f, 1);
		again("64 6");
		/* 65,535 bytes: 46 of 1400 and their headers are under it, 47 are over it */
		f = flow(true, udp);
		for (int i = 0; i < 48; i++)
			put(&f, 1400);
		again("46 2");
	}
}

static void identification(void **state)
{
	struct stream_flow f = flow(false, false);

	(void)state;
	/* one for all: cut again, it would count */
	f.id = 0;
	f.id_step = 0;
	for (int i = 0; i < 4; i++)
		put(&f, PART);
	again("1 1 1 1");
	/* unless that is allowed; then not where it would be seen */
	for (int df = 0; df < 2; df++) {
		cfg.fixed_ids = true;
		f.df = df;
		for (int i = 0; i < 3; i++)
			put(&f, PART);
		again(df ? "3" : "1 1 1");
	}
	/* and not a mixture */
	cfg.fixed_ids = true;
	put(&f, PART);
	put(&f, PART);
	f.id++;
	put(&f, PART);
	f.id++;
	put(&f, PART);
	put(&f, PART);
	again("2 2 1");
}

static void wrong_sums(void **state)
{
	(void)state;
	for (int k = 0; k < 4; k++) {
		struct stream_flow f = flow(k & 1, k & 2);
		uint8_t before[STREAM_PACKET];

		for (int i = 0; i < 5; i++)
			put(&f, PART);
		s.in[0].p[s.in[0].len - 1] ^= 1;
		s.in[3].p[s.in[3].len - 1] ^= 1;
		memcpy(before, s.in[3].p, s.in[3].len);
		assert_string_equal(shape(), "1 2 1 1");
		assert_int_equal(writes[0].vnet.flags, 0);
		assert_int_equal(writes[2].vnet.flags, 0);
		assert_ptr_equal(writes[2].slice[0].p, s.in[3].p);
		assert_memory_equal(s.in[3].p, before, s.in[3].len);
		(void)start(NULL);
	}
	/* the header's */
	for (int i = 0; i < 3; i++) {
		struct stream_flow f = flow(false, false);

		for (int j = 0; j < 3; j++)
			put(&f, PART);
		s.in[i].p[10] ^= 1;
		again(i == 0 ? "1 2" : i == 1 ? "1 1 1" : "2 1");
	}
	/* a single one that was looked at, and one that was not */
	{
		struct stream_flow f = flow(false, false);

		put(&f, PART);
		put(&f, PART);
		s.in[1].p[60] ^= 1;
		assert_string_equal(shape(), "1 1");
		assert_int_equal(writes[0].vnet.flags, VNET_DATA_VALID);
		assert_int_equal(writes[1].vnet.flags, 0);
	}
}

static void udp_apart(void **state)
{
	struct stream_flow f = flow(false, true);

	(void)state;
	/* without a checksum */
	put(&f, PART);
	put(&f, PART);
	put(&f, PART);
	put_be16(s.in[1].p + 26, 0);
	again("1 1 1");
	/* without a TUN that takes it */
	cfg.uso = false;
	put(&f, PART);
	put(&f, PART);
	again("1 1");
}

static void flows(void **state)
{
	struct stream_flow f[ESP_RUNS_MAX + 1];

	(void)state;
	for (unsigned n = 2; n <= ESP_RUNS_MAX + 1; n++) {
		for (unsigned i = 0; i < n; i++) {
			f[i] = flow(i & 1, i & 2);
			f[i].sport = (uint16_t)(100 + i);
		}
		for (int round = 0; round < 3; round++)
			for (unsigned i = 0; i < n; i++)
				put(&f[i], PART);
		if (n <= ESP_RUNS_MAX) {
			/* each has its write, in the order of their first packets */
			(void)shape();
			for (unsigned i = 0; i < n; i++) {
				assert_int_equal(writes[i].n, 3);
				assert_ptr_equal(writes[i].slice[0].p, s.in[i].p);
			}
		} else {
			assert_int_equal(stream_roundtrip(&s, &cfg, WRITES) > n, true);
		}
		(void)start(NULL);
	}
}

/* A fragment and ICMP between the same addresses are not overtaken; others are not in the way. */
static void between(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++)
		for (int what = 0; what < 4; what++) {
			struct stream_flow f = flow(v6, false), other = flow(v6, true);

			put(&f, PART);
			if (what == 3)
				other.dst = 9;
			put(&other, PART);
			if (what == 0) {
				s.in[1].p[v6 ? 6 : 9] = v6 ? 58 : 1;
			} else if (what == 1) {
				s.in[1].p[6] = v6 ? 44 : 0x20;
			} else if (what == 3) {
				s.in[1].p[6] = v6 ? 44 : 0x20;
			}
			put(&f, PART);
			again(what == 2 || what == 3 ? "2 1" : "1 1 1");
		}
}

static void full(void **state)
{
	struct stream_flow f = flow(false, false), g = flow(true, false);
	struct esp_merge m;

	(void)state;
	for (int i = 0; i < 3; i++) {
		put(&f, PART);
		put(&g, PART);
	}
	esp_merge_init(&m, &cfg, writes, 1);
	assert_true(esp_merge_add(&m, s.in[0].p, s.in[0].len));
	assert_false(esp_merge_add(&m, s.in[1].p, s.in[1].len));
	assert_int_equal(esp_merge_finish(&m), 1);
	assert_int_equal(writes[0].n, 1);
	assert_int_equal(stream_roundtrip(&s, &cfg, 1), 6);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(headers),   CASE(differences), CASE(sizes),   CASE(identification), CASE(wrong_sums),
		CASE(udp_apart), CASE(flows),       CASE(between), CASE(full),
	};

	return HARNESS_RUN(tests);
}
