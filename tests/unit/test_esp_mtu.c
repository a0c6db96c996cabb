/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Paths that carry less than an inner packet: cut, told, clamped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp/cut.h"
#include "esp_carry.h"
#include "esp_fragment.h"
#include "harness.h"

/* The ICMP checksum with the pseudo header of RFC 4443, 2.3, over an IPv6 packet without extensions. */
static bool sum6_right(const uint8_t *p, size_t len)
{
	uint8_t all[ESP_PACKET_MAX + 40] = { 0 };

	memcpy(all, p + 8, 32);
	put_be32(all + 32, (uint32_t)len - 40);
	all[39] = p[6];
	memcpy(all + 40, p + 40, len - 40);
	return pkt_sum(all, (len + 1) & ~(size_t)1) == 0;
}

struct sent {
	unsigned n, n_told;
	size_t longest; /* outer IP packet */
	struct whole *whole; /* NULL: nothing was delivered */
	bool complete;
	struct pkt told;
	int drop;
};

/* All that becomes of one packet. */
static struct sent send_all(struct pair *p, bool from_a, struct pkt pk, bool outer6)
{
	struct esp_plane *from = from_a ? p->a : p->b, *to = from_a ? p->b : p->a;
	struct esp_counters before = *esp_plane_counters(from);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT], got[ESP_BATCH];
	struct sent s = { .n = esp_plane_output(from, p->now, &in, 1, out), .drop = PASS };

	s.drop = s.n ? PASS : dropped(from, &before);
	while (esp_plane_poll_inner(from, &in)) {
		assert_true(in.len <= sizeof(s.told.b));
		memcpy(s.told.b, in.p, in.len);
		s.told.len = in.len;
		s.n_told++;
	}
	for (unsigned i = 0; i < s.n; i++) {
		size_t len = out[i].len + 8 + (outer6 ? 40 : 20);

		s.longest = len > s.longest ? len : s.longest;
		if (!s.whole)
			s.whole = calloc(1, sizeof(*s.whole));
		assert_non_null(s.whole);
		out[i].tos &= 3;
		assert_int_equal(esp_plane_input(to, p->now, &out[i], 1, got), 1);
		s.complete = whole_add(s.whole, got[0].p, got[0].len);
		assert_false(s.whole->broken);
	}
	return s;
}

static void sent_done(struct sent *s)
{
	free(s->whole);
}

static void set_mtu(struct pair *p, unsigned mtu)
{
	esp_call_set_mtu(p->a, PAIR_CALL, mtu);
	esp_call_set_mtu(p->b, PAIR_CALL, mtu);
}

static void assert_same(const struct sent *s, const struct pkt *pk)
{
	bool v6 = pk->b[0] >> 4 == 6;
	size_t head = v6 ? 40 : 20;

	assert_true(s->complete);
	assert_int_equal(s->whole->total, pk->len - head);
	assert_memory_equal(s->whole->data, pk->b + head, pk->len - head);
	assert_memory_equal(s->whole->head + (v6 ? 8 : 12), pk->b + (v6 ? 8 : 12), v6 ? 32 : 8);
	assert_int_equal(s->whole->protocol, pk->b[v6 ? 6 : 9]);
}

/* With each cipher and family: the longest packet that fits fills the path up to its alignment, one byte more is too long. */
static void what_fits(void **state)
{
	(void)state;
	for (int alg = 0; alg < CIPHER_COUNT; alg++)
		for (int outer6 = 0; outer6 < 2; outer6++) {
			struct esp_sa_config a = pair_config_a(false);
			struct pair *p;

			a.alg = (enum cipher_alg)alg;
			a.mtu = 1400;
			if (outer6) {
				static const uint8_t ip[16] = { 0x20, 1, 0xd, 0xb8 };

				a.path.local = a.path.remote = addr_of(SPAN_OF(ip), 4500);
			}
			p = pair_with(&a, false, 64);
			for (size_t len = 1250; len < 1400; len++) {
				struct pkt pk = pkt_udp(false, HOST_A, 1, HOST_B, 53, len - 28);
				struct sent s;

				pk.b[6] = 0; /* may be cut */
				put_be16(pk.b + 10, 0);
				put_be16(pk.b + 10, pkt_sum(pk.b, 20));
				s = send_all(p, true, pk, outer6);
				assert_true(s.longest <= 1400);
				assert_true(s.n == 1 || (s.n == 2 && len > 1330 - (outer6 ? 20 : 0) - 16));
				assert_same(&s, &pk);
				if (s.n == 2)
					assert_true(len - 28 + 8 + 20 + 64 + (outer6 ? 48 : 28) > 1400);
				sent_done(&s);
			}
			pair_free(p);
		}
}

/* ESP without UDP has room for eight bytes more. */
static void what_fits_without_udp(void **state)
{
	size_t longest[2] = { 0, 0 };

	(void)state;
	for (int plain = 0; plain < 2; plain++) {
		struct esp_sa_config a = pair_config_a(true);
		struct pair *p;

		a.mtu = 1400;
		a.path.transport = plain ? TRANSPORT_ESP : TRANSPORT_UDP;
		p = pair_with(&a, true, 64);
		for (size_t len = 1300; len < 1400; len++) {
			struct pkt pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, len - 48);
			struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];

			if (!esp_plane_output(p->a, p->now, &in, 1, out))
				break;
			assert_true(out[0].len + (plain ? 20 : 28) <= 1400);
			longest[plain] = len;
		}
		pair_free(p);
	}
	assert_int_equal(longest[1], longest[0] + 8);
}

/* IPv6 of 1280 bytes passes everywhere, longer ones are told; IPv4 by its own flag. */
static void cut_or_told(void **state)
{
	static const uint8_t self[16] = { 0xfd, [15] = HOST_A };
	struct pair *p = pair_new(true), *q = pair_new(false);
	struct pkt pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1232);
	struct sent s;

	(void)state;
	set_mtu(p, 1280);
	set_mtu(q, 1280);
	s = send_all(p, true, pk, false);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.n_told, 0);
	assert_true(s.longest <= 1280);
	assert_same(&s, &pk);
	sent_done(&s);
	/* one more */
	pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1233);
	s = send_all(p, true, pk, false);
	assert_int_equal(s.n, 0);
	assert_int_equal(s.drop, ESP_DROP_TOO_BIG);
	assert_int_equal(s.n_told, 1);
	assert_int_equal(s.told.len, 1280);
	assert_int_equal(s.told.b[6], 58);
	assert_int_equal(s.told.b[40], 2);
	assert_int_equal(be32(s.told.b + 44), 1280);
	assert_true(sum6_right(s.told.b, s.told.len));
	assert_memory_equal(s.told.b + 24, self, 16); /* to the sender */
	assert_memory_equal(s.told.b + 48, pk.b, 1280 - 48);
	/* a path that carries more says how much */
	set_mtu(p, 1400);
	pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1352);
	s = send_all(p, true, pk, false);
	assert_int_equal(s.n_told, 1);
	assert_true(be32(s.told.b + 44) > 1300 && be32(s.told.b + 44) < 1352);
	/* a fragment already: cut once more, and told */
	pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1800);
	pk = pkt_fragment(&pk, 0, 1360, 9);
	s = send_all(p, true, pk, false);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.n_told, 1);
	assert_false(s.complete);
	assert_int_equal(s.whole->n_units, 1360 / 8);
	assert_int_equal(s.whole->id, 9);
	sent_done(&s);
	/* IPv4 with DF */
	pk = pkt_udp(false, HOST_A, 1, HOST_B, 53, 1300);
	s = send_all(q, true, pk, false);
	assert_int_equal(s.drop, ESP_DROP_TOO_BIG);
	assert_int_equal(s.n_told, 1);
	assert_int_equal(s.told.len, 576);
	assert_int_equal(pkt_sum(s.told.b, 20), 0);
	assert_int_equal(pkt_sum(s.told.b + 20, 556), 0);
	assert_int_equal(be16(s.told.b + 20), 0x0304);
	assert_int_equal(be32(s.told.b + 24), 1280 - 28 - 8 - 8 - 16 - 2);
	assert_memory_equal(s.told.b + 28, pk.b, 548);
	assert_memory_equal(s.told.b + 16, pk.b + 12, 4);
	pair_free(p);
	pair_free(q);
}

/* Our own host's packets, which it would have cut itself had it known: nothing is lost, and it is told. */
static void own_are_cut(void **state)
{
	struct pkt pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1352);
	struct pair *p;
	struct sent s;

	(void)state;
	pkt_ip(carry_self, true, HOST_A);
	p = pair_new(true);
	memset(carry_self, 0, sizeof(carry_self));
	set_mtu(p, 1280);
	s = send_all(p, true, pk, false);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.n_told, 1);
	assert_memory_equal(s.told.b + 8, pk.b + 8, 16);
	assert_same(&s, &pk);
	sent_done(&s);
	pair_free(p);
}

/* An echo of our own asks how much the path carries; its reply, whole or in fragments, ends here, and nobody else's does. */
static void echoes_of_our_own(void **state)
{
	uint8_t peer[16], other[16];
	struct esp_packet out, got[ESP_BATCH];
	struct pair *p;
	uint32_t call;
	unsigned size;

	(void)state;
	pkt_ip(carry_self, true, HOST_A);
	pkt_ip(peer, true, HOST_B);
	pkt_ip(other, true, 3);
	p = pair_new(true);
	memset(carry_self, 0, sizeof(carry_self));
	assert_true(esp_plane_may_echo(p->a, PAIR_CALL, peer));
	assert_false(esp_plane_may_echo(p->a, PAIR_CALL, other));
	assert_false(esp_plane_may_echo(p->a, PAIR_CALL + 1, peer));
	assert_false(esp_plane_echo(p->a, PAIR_CALL, peer, 60, &out));
	assert_false(esp_plane_echo(p->a, PAIR_CALL, peer, ESP_PACKET_MAX + 4, &out));
	for (unsigned want = 1280; want <= 1500; want += 44) {
		struct pkt pk = { .len = 0 };
		struct esp_packet in = { .p = pk.b };

		set_mtu(p, 1280);
		p->now += SECONDS(1);
		assert_true(esp_plane_echo(p->a, PAIR_CALL, peer, want, &out));
		assert_int_equal(out.len + 28, want < 1464 ? want : 1464); /* the TUN's 1400 */
		assert_int_equal(out.call, PAIR_CALL);
		assert_int_equal(esp_plane_input(p->b, p->now, &out, 1, got), 1);
		assert_true(sum6_right(got[0].p, got[0].len));
		assert_int_equal(got[0].p[40], 128);
		/* B's stack answers */
		memcpy(pk.b, got[0].p, got[0].len);
		pk.len = got[0].len;
		memcpy(pk.b + 8, peer, 16);
		pkt_ip(pk.b + 24, true, HOST_A);
		pk.b[40] = 129;
		if (want % 88) { /* over a way back that carries less */
			pk = pkt_fragment(&pk, 0, 1200, 5);
			set_mtu(p, 1500);
		}
		in.len = pk.len;
		set_mtu(p, 1500);
		{
			struct esp_packet back[ESP_BATCH_OUT];

			assert_int_equal(esp_plane_output(p->b, p->now, &in, 1, back), 1);
			assert_int_equal(esp_plane_input(p->a, p->now, &back[0], 1, got), 0);
		}
		assert_true(esp_plane_poll_echo(p->a, &call, &size));
		assert_int_equal(call, PAIR_CALL);
		assert_int_equal(size, want);
		assert_false(esp_plane_poll_echo(p->a, &call, &size));
	}
	/* somebody else's */
	assert_int_equal(carry(p, false, pkt_echo(true, HOST_B, HOST_A, true)), PASS);
	assert_false(esp_plane_poll_echo(p->a, &call, &size));
	esp_call_ping_off(p->a, PAIR_CALL);
	assert_false(esp_plane_echo(p->a, PAIR_CALL, peer, 1400, &out));
	pair_free(p);
}

/* What nobody may be told about: errors, later fragments, senders that are none; and not too often. */
static void not_told(void **state)
{
	struct pair *p = pair_new(true);
	struct pkt pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1300), inside = pk;
	struct esp_inner in;
	uint8_t out[ESP_TOLD_MAX], self[16] = { 0xfd };
	unsigned n_told = 0;
	size_t len;

	(void)state;
	set_mtu(p, 1280);
	for (int i = 0; i < 100; i++) {
		struct sent s = send_all(p, true, pk, false);

		assert_int_equal(s.drop, ESP_DROP_TOO_BIG);
		n_told += s.n_told;
	}
	assert_true(n_told >= 10 && n_told <= 40);
	p->now += SECONDS(1);
	assert_int_equal(send_all(p, true, pk, false).n_told, 1);
	/* nothing is said about what is not allowed anyway */
	assert_int_equal(send_all(p, true, pkt_udp(true, HOST_A, 1, HOST_B, 54, 1300), false).n_told, 0);
	pk = pkt_icmp(true, HOST_A, HOST_B, 1, 4, span_of(inside.b, 1290));
	assert_int_equal(esp_inner_parse(span_of(pk.b, pk.len), &in), OK);
	assert_false(esp_too_big_write(pk.b, &in, 1280, self, out, &len));
	pk = pkt_fragment(&inside, 8, 1200, 1);
	assert_int_equal(esp_inner_parse(span_of(pk.b, pk.len), &in), OK);
	assert_false(esp_too_big_write(pk.b, &in, 1280, self, out, &len));
	for (int i = 0; i < 3; i++) {
		pk = inside;
		if (i == 0)
			pk.b[8] = 0xff; /* from many */
		else if (i == 1)
			memset(pk.b + 8, 0, 16); /* from nobody */
		else
			pk.b[24] = 0xff; /* to many */
		assert_int_equal(esp_inner_parse(span_of(pk.b, pk.len), &in), OK);
		assert_false(esp_too_big_write(pk.b, &in, 1280, self, out, &len));
	}
	pair_free(p);
}

/* A SYN with these options, its checksum right. */
static struct pkt syn_with(bool v6, bool from_a, uint8_t flags, struct span options)
{
	uint8_t b[60] = { 0 }, pseudo[100] = { 0 };
	struct pkt pk;
	size_t n = (20 + options.len + 3) & ~(size_t)3, addrs = v6 ? 32 : 8;

	put_be16(b, from_a ? 40000 : 5900);
	put_be16(b + 2, from_a ? 5900 : 40000);
	b[12] = (uint8_t)(n / 4 << 4);
	b[13] = flags;
	memcpy(b + 20, options.p, options.len);
	pk = pkt_make(v6, from_a ? HOST_A : HOST_B, from_a ? HOST_B : HOST_A, ESP_PROTO_TCP, span_of(b, n));
	memcpy(pseudo, pk.b + (v6 ? 8 : 12), addrs);
	pseudo[addrs + 1] = ESP_PROTO_TCP;
	pseudo[addrs + 3] = (uint8_t)n;
	memcpy(pseudo + addrs + 4, b, n);
	put_be16(pk.b + (v6 ? 40 : 20) + 16, pkt_sum(pseudo, addrs + 4 + n));
	return pk;
}

static bool tcp_sum_right(const struct pkt *pk)
{
	bool v6 = pk->b[0] >> 4 == 6;
	size_t addrs = v6 ? 32 : 8, head = v6 ? 40 : 20, n = pk->len - head;
	uint8_t pseudo[100] = { 0 };

	memcpy(pseudo, pk->b + (v6 ? 8 : 12), addrs);
	pseudo[addrs + 1] = ESP_PROTO_TCP;
	pseudo[addrs + 3] = (uint8_t)n;
	memcpy(pseudo + addrs + 4, pk->b + head, n);
	return pkt_sum(pseudo, addrs + 4 + n) == 0;
}

static void mss(void **state)
{
	static const struct {
		struct span options;
		size_t at; /* of the value, 0: nothing changes */
		uint16_t before;
	} row[] = {
		{ SPAN_LIT("\2\4\5\264"), 2, 1460 },
		{ SPAN_LIT("\1\2\4\5\264\0"), 3, 1460 },
		{ SPAN_LIT("\3\3\7\2\4\5\264\0"), 5, 1460 },
		{ SPAN_LIT("\4\2\10\12\1\2\3\4\5\6\7\10\2\4\7\154"), 14, 1900 },
		{ SPAN_LIT("\2\4\2\30"), 0, 0 },
		{ SPAN_LIT("\0\2\4\5\264"), 0, 0 },
		{ SPAN_LIT("\2\3\5\2\4\5\264"), 5, 1460 },
		{ SPAN_LIT("\3\0\2\4\5\264"), 0, 0 },
		{ SPAN_LIT("\3\1\2\4\5\264"), 0, 0 },
		{ SPAN_LIT("\3\50\2\4\5\264"), 0, 0 },
		{ SPAN_LIT("\1\1\1\2"), 0, 0 },
		{ SPAN_LIT(""), 0, 0 },
	};

	(void)state;
	for (int v6 = 0; v6 < 2; v6++)
		for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
			for (int from_a = 0; from_a < 2; from_a++) {
				struct pair *p = pair_new(v6);
				uint8_t flags = from_a ? SYN : SYNACK;
				struct pkt pk = syn_with(v6, from_a, flags, row[i].options), sent;
				size_t at = (v6 ? 60 : 40) + row[i].at;
				/* of AES-GCM in UDP over IPv4 */
				uint16_t fits = (uint16_t)(1280 - 28 - 8 - 8 - 16 - 2 - (v6 ? 60 : 40));

				if (!from_a)
					assert_int_equal(carry(p, true, a_tcp(p, 40000, 5900, SYN)), PASS);
				/* at the sender, at the receiver, and by neither */
				for (int where = 0; where < 3; where++) {
					sent = pk;
					set_mtu(p, 0);
					if (where < 2)
						esp_call_set_mtu((where == 0) == from_a ? p->a : p->b, PAIR_CALL, 1280);
					assert_int_equal(seal(p, from_a ? p->a : p->b, sent), PASS);
					assert_int_equal(deliver(p, from_a ? p->b : p->a, p->outer, p->outer_len),
							 PASS);
					assert_true(tcp_sum_right(&p->got));
					if (row[i].at && where < 2) {
						assert_int_equal(be16(pk.b + at), row[i].before);
						assert_int_equal(be16(p->got.b + at), fits);
						put_be16(p->got.b + at, row[i].before);
						memcpy(p->got.b + (v6 ? 56 : 36), pk.b + (v6 ? 56 : 36), 2);
					}
					assert_int_equal(p->got.len, pk.len);
					assert_memory_equal(p->got.b, pk.b, pk.len);
				}
				pair_free(p);
			}
}

static void dscp(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++)
		for (int copy = 0; copy < 2; copy++) {
			struct esp_sa_config a = pair_config_a(v6);
			struct pkt pk = pkt_udp(v6, HOST_A, 1, HOST_B, 53, 10);
			struct pair *p;

			a.copy_dscp = copy;
			p = pair_with(&a, v6, 64);
			if (v6)
				put_be32(pk.b, 0x60000000u | (46u << 2 | 1) << 20);
			else
				pk.b[1] = 46 << 2 | 1;
			put_be16(pk.b + 10, v6 ? be16(pk.b + 10) : 0);
			if (!v6)
				put_be16(pk.b + 10, pkt_sum(pk.b, 20));
			assert_int_equal(seal(p, p->a, pk), PASS);
			assert_int_equal(p->outer_tos, copy ? 46 << 2 | 1 : 1);
			/* the path's own marking never comes in (RFC 2983, 4.1; RFC 4301, 5.1.2) */
			p->outer_tos = 10 << 2 | 1;
			assert_int_equal(deliver(p, p->b, p->outer, p->outer_len), PASS);
			assert_memory_equal(p->got.b, pk.b, pk.len);
			pair_free(p);
		}
}

/* The last two numbers are for the two pieces, or for none. */
static void numbers(void **state)
{
	(void)state;
	for (uint64_t left = 1; left < 5; left++) {
		struct esp_sa_config a = pair_config_a(true);
		struct pkt pk = pkt_udp(true, HOST_A, 1, HOST_B, 53, 1232);
		struct pair *p;
		struct sent s;

		a.mtu = 1280;
		a.hard_packets = left;
		p = pair_with(&a, true, 64);
		for (uint64_t n = left; n >= 2; n -= 2) {
			s = send_all(p, true, pk, false);
			assert_int_equal(s.n, 2);
			sent_done(&s);
		}
		s = send_all(p, true, pk, false);
		assert_int_equal(s.drop, ESP_DROP_EXHAUSTED);
		pair_free(p);
	}
}

/* Any packet over any path: what comes out is what went in, or its sender was told, or it says itself that it cannot be. */
static void anything_over_any_path(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 46194);
	unsigned n_cut = 0, n_told = 0, n_whole = 0;

	(void)state;
	for (unsigned i = 0; i < 4000; i++) {
		bool v6 = rng_below(&rng, 2), from_a = rng_below(&rng, 4), df = rng_below(&rng, 2);
		struct esp_sa_config a = pair_config_a(v6);
		unsigned mtu = 1280 + rng_below(&rng, 300);
		size_t len = rng_below(&rng, 1900);
		struct pkt pk =
			from_a ? pkt_udp(v6, HOST_A, 1, HOST_B, 53, len) : pkt_udp(v6, HOST_B, 53, HOST_A, 1, len);
		struct pair *p;
		struct sent s;

		a.alg = (enum cipher_alg)rng_below(&rng, CIPHER_COUNT);
		a.mtu = mtu;
		p = pair_with(&a, v6, 8);
		rng_fill(&rng, pk.b + (v6 ? 48 : 28), len);
		if (!v6 && !df) {
			pk.b[6] = 0;
			put_be16(pk.b + 10, 0);
			put_be16(pk.b + 10, pkt_sum(pk.b, 20));
		}
		if (!from_a)
			assert_int_equal(carry(p, true, pkt_udp(v6, HOST_A, 1, HOST_B, 53, 4)), PASS);
		s = send_all(p, from_a, pk, false);
		assert_true(s.longest <= mtu);
		if (s.n) {
			assert_same(&s, &pk);
			n_cut += s.n == 2;
			n_whole += s.n == 1;
		} else {
			assert_int_equal(s.drop, ESP_DROP_TOO_BIG);
			assert_int_equal(s.n_told, 1);
			assert_true(v6 || df);
			n_told++;
			/* and as long as it was told is not too long */
			len = v6 ? be32(s.told.b + 44) - 48 : be32(s.told.b + 24) - 28;
			pk = from_a ? pkt_udp(v6, HOST_A, 1, HOST_B, 53, len) : pkt_udp(v6, HOST_B, 53, HOST_A, 1, len);
			s = send_all(p, from_a, pk, false);
			assert_int_equal(s.n_told, 0);
			assert_same(&s, &pk);
		}
		sent_done(&s);
		pair_free(p);
	}
	assert_true(n_cut > 200 && n_told > 200 && n_whole > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits),   cmocka_unit_test(what_fits_without_udp),
		cmocka_unit_test(cut_or_told), cmocka_unit_test(own_are_cut),
		cmocka_unit_test(not_told),    cmocka_unit_test(echoes_of_our_own),
		cmocka_unit_test(mss),         cmocka_unit_test(dscp),
		cmocka_unit_test(numbers),     cmocka_unit_test(anything_over_any_path),
	};

	return HARNESS_RUN(tests);
}
