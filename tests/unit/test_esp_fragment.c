/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Inner fragments (RFC 4301, 7.4): what passes with its first fragment, and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp/frags.h"
#include "esp_carry.h"
#include "esp_fragment.h"
#include "harness.h"

static struct pkt query(bool v6, uint16_t port, size_t len)
{
	return pkt_udp(v6, HOST_A, 40000, HOST_B, port, len);
}

/* A datagram in three pieces and its answer in two, of both families. */
static void pass_with_their_first(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pair *p = pair_new(v6);
		struct pkt q = query(v6, 53, 1500), r = pkt_udp(v6, HOST_B, 53, HOST_A, 40000, 1001);

		for (uint32_t id = 1; id < 300; id++) {
			assert_int_equal(carry(p, true, pkt_fragment(&q, 0, 504, id)), PASS);
			assert_int_equal(carry(p, true, pkt_fragment(&q, 504, 504, id)), PASS);
			assert_int_equal(carry(p, true, pkt_fragment(&q, 1008, 0, id)), PASS);
			assert_int_equal(carry(p, false, pkt_fragment(&r, 0, 800, id)), PASS);
			assert_int_equal(carry(p, false, pkt_fragment(&r, 800, 0, id)), PASS);
		}
		/* in another order behind the first */
		assert_int_equal(carry(p, true, pkt_fragment(&q, 0, 504, 7)), PASS);
		assert_int_equal(carry(p, true, pkt_fragment(&q, 1008, 0, 7)), PASS);
		assert_int_equal(carry(p, true, pkt_fragment(&q, 504, 504, 7)), PASS);
		pair_free(p);
	}
}

static void echo_in_fragments(void **state)
{
	struct pair *p = pair_new(true);
	static const uint8_t big[1400];
	struct pkt e = pkt_icmp(true, HOST_A, HOST_B, 128, 0, SPAN_OF(big));

	(void)state;
	assert_int_equal(carry(p, true, pkt_fragment(&e, 0, 1200, 7)), PASS);
	assert_int_equal(carry(p, true, pkt_fragment(&e, 1200, 0, 7)), PASS);
	pair_free(p);
}

/* From us, and from a peer whose own plane checks nothing. */
static void refused(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pair *p = pair_new(v6);
		struct pkt q = query(v6, 53, 1500), bad = query(v6, 54, 1500), f = pkt_fragment(&q, 504, 504, 1), s;
		uint64_t before;

		/* before its first, or without one */
		assert_int_equal(carry(p, true, f), ESP_DROP_FRAGMENT);
		assert_int_equal(hostile(p, f), HELD_BACK);
		/* the first one is not allowed: nothing of it passes */
		assert_int_equal(carry(p, true, pkt_fragment(&bad, 0, 504, 2)), ESP_DROP_NO_SA);
		assert_int_equal(carry(p, true, pkt_fragment(&bad, 504, 504, 2)), ESP_DROP_FRAGMENT);
		assert_int_equal(hostile(p, pkt_fragment(&bad, 0, 504, 2)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, pkt_fragment(&bad, 504, 504, 2)), HELD_BACK);
		/* one that is allowed, and then one of the same name that is not: the name is worth nothing any more */
		assert_int_equal(hostile(p, pkt_fragment(&q, 0, 504, 3)), PASS);
		assert_int_equal(hostile(p, pkt_fragment(&bad, 0, 504, 3)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, pkt_fragment(&q, 504, 504, 3)), HELD_BACK);
		/* over the ports that were judged (RFC 1858; RFC 5722), over one that passed, and twice */
		assert_int_equal(hostile(p, pkt_fragment(&q, 0, 504, 4)), PASS);
		assert_int_equal(hostile(p, pkt_fragment(&bad, 8, 504, 4)), AT_RECEIVER(ESP_DROP_OVERLAP));
		assert_int_equal(hostile(p, pkt_fragment(&q, 496, 504, 4)), AT_RECEIVER(ESP_DROP_OVERLAP));
		assert_int_equal(hostile(p, pkt_fragment(&q, 504, 504, 4)), PASS);
		assert_int_equal(hostile(p, pkt_fragment(&q, 504, 504, 4)), AT_RECEIVER(ESP_DROP_OVERLAP));
		assert_int_equal(hostile(p, pkt_fragment(&q, 1000, 0, 4)), AT_RECEIVER(ESP_DROP_OVERLAP));
		assert_int_equal(hostile(p, pkt_fragment(&q, 1008, 0, 4)), PASS);
		/* it is whole: nothing follows */
		assert_int_equal(hostile(p, pkt_fragment(&q, 1008, 0, 4)), HELD_BACK);
		/* beyond the end */
		s = query(v6, 53, 1000);
		assert_int_equal(hostile(p, pkt_fragment(&q, 0, 504, 5)), PASS);
		assert_int_equal(hostile(p, pkt_fragment(&s, 600, 0, 5)), PASS);
		assert_int_equal(hostile(p, pkt_fragment(&q, 1200, 0, 5)), AT_RECEIVER(ESP_DROP_OVERLAP));
		assert_int_equal(hostile(p, pkt_fragment(&q, 1200, 16, 5)), AT_RECEIVER(ESP_DROP_OVERLAP));
		/* another id, another sender */
		assert_int_equal(hostile(p, pkt_fragment(&q, 504, 96, 6)), HELD_BACK);
		q = pkt_udp(v6, 3, 40000, HOST_B, 53, 1500);
		assert_int_equal(hostile(p, pkt_fragment(&q, 504, 96, 5)), AT_RECEIVER(ESP_DROP_SELECTOR));
		/* nothing of what waited came out, and in the end it is counted */
		assert_false(esp_plane_poll_inner(p->b, &(struct esp_packet){ .len = 0 }));
		before = esp_plane_counters(p->b)->drops[ESP_DROP_FRAGMENT];
		assert_true(esp_plane_deadline_us(p->b) <= p->now + MS(250));
		p->now += MS(250);
		esp_plane_tick(p->b, p->now);
		assert_int_equal(esp_plane_counters(p->b)->drops[ESP_DROP_FRAGMENT], before + 5);
		pair_free(p);
	}
}

static bool take(struct pair *p, const struct pkt *want)
{
	struct esp_packet got;

	if (!esp_plane_poll_inner(p->b, &got))
		return false;
	assert_int_equal(got.len, want->len);
	assert_memory_equal(got.p, want->b, want->len);
	return true;
}

/* A network that brings them out of order: they wait for the first. */
static void early(void **state)
{
	struct pair *p = pair_new(true);
	struct pkt q = query(true, 53, 1500), f[3], other;
	struct esp_counters c;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		f[i] = pkt_fragment(&q, i * 504, i < 2 ? 504 : 0, 9);
	assert_int_equal(hostile(p, f[2]), HELD_BACK);
	assert_int_equal(hostile(p, f[1]), HELD_BACK);
	other = pkt_fragment(&q, 1000, 0, 9);
	assert_int_equal(hostile(p, other), HELD_BACK); /* over another: one of the two is lost */
	p->now += MS(249);
	esp_plane_tick(p->b, p->now);
	assert_int_equal(esp_plane_counters(p->b)->packets_in, 0);
	{
		uint8_t outer[ESP_PACKET_MAX];
		struct esp_packet in = { .p = outer }, out[ESP_BATCH];

		p->raw_seq += 1000;
		assert_int_equal(esp_packet_seal(&p->raw, PAIR_SPI_B, p->raw_seq, p->raw_seq, 41,
						 span_of(f[0].b, f[0].len), outer, sizeof(outer), &in.len),
				 OK);
		assert_int_equal(esp_plane_input(p->b, p->now, &in, 1, out), 1);
		assert_memory_equal(out[0].p, f[0].b, f[0].len);
	}
	assert_int_equal(esp_plane_counters(p->b)->drops[ESP_DROP_OVERLAP], 1);
	c = *esp_plane_counters(p->b);
	assert_int_equal(c.packets_in, 3);
	assert_int_equal(c.bytes_in, f[0].len + f[1].len + f[2].len);
	assert_true(take(p, &f[2]) && take(p, &f[1]));
	assert_false(take(p, &f[1]));
	pair_free(p);
	/* so many wait, and then the oldest goes; the call's end takes them with it */
	p = pair_new(true);
	for (unsigned i = 0; i < 20; i++) {
		p->now++;
		other = pkt_fragment(&q, 504, 504, 100 + i);
		(void)hostile(p, other);
	}
	assert_int_equal(esp_plane_counters(p->b)->drops[ESP_DROP_FRAGMENT], 12);
	esp_call_remove(p->b, PAIR_CALL);
	p->now += MS(250);
	esp_plane_tick(p->b, p->now);
	assert_int_equal(esp_plane_counters(p->b)->drops[ESP_DROP_FRAGMENT], 12);
	pair_free(p);
}

/* The other direction is another datagram. */
static void direction(void **state)
{
	struct pair *p = pair_new(true);
	struct pkt q = query(true, 53, 1500), r = pkt_udp(true, HOST_B, 53, HOST_A, 40000, 1500);

	(void)state;
	assert_int_equal(carry(p, true, pkt_fragment(&q, 0, 504, 1)), PASS);
	assert_int_equal(carry(p, false, pkt_fragment(&r, 504, 504, 1)), ESP_DROP_FRAGMENT);
	pair_free(p);
}

static void time_over(void **state)
{
	struct pair *p = pair_new(true);
	struct pkt q = query(true, 53, 1500);

	(void)state;
	assert_int_equal(carry(p, true, pkt_fragment(&q, 0, 504, 1)), PASS);
	p->now += ESP_FRAG_US - 1;
	assert_int_equal(carry(p, true, pkt_fragment(&q, 504, 504, 1)), PASS);
	p->now++;
	assert_int_equal(carry(p, true, pkt_fragment(&q, 1008, 0, 1)), ESP_DROP_FRAGMENT);
	pair_free(p);
}

/* Whoever leaves many datagrams unfinished loses his own oldest ones. */
static void bounded(void **state)
{
	struct esp_frags *f = NULL;
	struct esp_inner p = { .fragment = ESP_FIRST, .more = true, .len = 48, .upper = 40 };
	struct esp_frag_owner o = { 1, 0, 0 }, got;

	(void)state;
	assert_int_equal(esp_frags_new(&f), OK);
	p.ends.family = ADDR_IP6;
	p.id = 1000;
	o.owner = 2;
	esp_frags_first(f, 1, true, &p, &o);
	o.owner = 1;
	for (p.id = 0; p.id < 3 * ESP_FRAGS_MAX; p.id++)
		esp_frags_first(f, 2 + p.id, true, &p, &o);
	for (unsigned id = 0; id < 3 * ESP_FRAGS_MAX; id++) {
		p.id = id;
		assert_int_equal(esp_frags_find(f, 500, true, &p, &got), id >= 3 * ESP_FRAGS_MAX - ESP_FRAGS_OWNER);
	}
	/* many others: each has its share as long as there is room, then the one with most gives way */
	for (o.owner = 3; o.owner < 6; o.owner++)
		for (unsigned n = 0; n < ESP_FRAGS_OWNER; n++) {
			p.id = 10000 * o.owner + n;
			esp_frags_first(f, 1000 + n, true, &p, &o);
		}
	p.id = 1000;
	assert_true(esp_frags_find(f, 2000, true, &p, &got));
	assert_int_equal(got.owner, 2);
	esp_frags_owner_gone(f, 2);
	assert_false(esp_frags_find(f, 2000, true, &p, &got));
	esp_frags_free(f);
}

/* The SA went, or the call: so does what its fragments were allowed. A new SA of the grant takes them in. */
static void with_their_sa(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_sa_config a = pair_config_a(true), b;
	struct pkt q = query(true, 53, 1500);

	(void)state;
	assert_int_equal(carry(p, true, pkt_fragment(&q, 0, 504, 1)), PASS);
	a.spi_in++;
	a.spi_out++;
	b = pair_mirror(&a);
	assert_int_equal(esp_sa_add(p->a, p->now, &a), OK);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	assert_int_equal(carry(p, true, pkt_fragment(&q, 504, 504, 1)), PASS);
	esp_sa_remove(p->a, PAIR_SPI_A);
	assert_int_equal(carry(p, true, pkt_fragment(&q, 1008, 0, 1)), ESP_DROP_FRAGMENT);
	assert_int_equal(carry(p, true, pkt_fragment(&q, 0, 504, 2)), PASS);
	assert_int_equal(be32(p->outer), a.spi_out);
	esp_call_remove(p->a, PAIR_CALL);
	assert_int_equal(carry(p, true, pkt_fragment(&q, 504, 504, 2)), ESP_DROP_FRAGMENT);
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pass_with_their_first),
		cmocka_unit_test(echo_in_fragments),
		cmocka_unit_test(refused),
		cmocka_unit_test(early),
		cmocka_unit_test(direction),
		cmocka_unit_test(time_over),
		cmocka_unit_test(bounded),
		cmocka_unit_test(with_their_sa),
	};

	return HARNESS_RUN(tests);
}
