/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Several shards as one: calls and SPIs lead to theirs, and everything stands between enter and leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "esp/set.h"
#include "harness.h"
#include "esp_pair.h"

#define N 3

static struct rng_seeded seed;
static struct rng rng;
static bool inside[N];
static unsigned n_entered[N];

static void enter(void *arg, unsigned shard)
{
	assert_ptr_equal(arg, inside);
	assert_true(shard < N);
	for (unsigned i = 0; i < N; i++)
		assert_false(inside[i]); /* one at a time: no two can wait for each other */
	inside[shard] = true;
	n_entered[shard]++;
}

static void leave(void *arg, unsigned shard)
{
	(void)arg;
	assert_true(inside[shard]);
	inside[shard] = false;
}

static bool told[N];

static bool news(void *arg, unsigned shard)
{
	bool was = told[shard];

	assert_ptr_equal(arg, inside);
	told[shard] = false;
	return was;
}

static struct esp_set *set_new(unsigned n, bool own_time)
{
	struct esp_set_hooks hooks = { .enter = enter, .leave = leave, .arg = inside, .own_time = own_time };

	if (own_time)
		hooks.news = news;
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 8, .max_flows = 64 };
	struct esp_set *s;

	rng = rng_seeded_init(&seed, 1);
	memset(n_entered, 0, sizeof(n_entered));
	assert_int_equal(esp_set_new(&cfg, n, &hooks, &s), OK);
	return s;
}

static struct esp_sa_config config(uint32_t call, uint32_t spi)
{
	struct esp_sa_config c = pair_config_a(true);

	c.call = call;
	c.spi_in = spi;
	return c;
}

static void calls_and_their_shards(void **state)
{
	struct esp_set *s = set_new(N, false);
	struct esp_counters k;
	struct esp_due due;

	(void)state;
	for (uint32_t call = 1; call <= 6; call++) {
		uint32_t spi = 0xc0000000u - 0xc0000000u % N + call % N + 3 * call;
		struct esp_sa_config c = config(call, spi);

		assert_true(esp_set_spi_fits(s, call, false, spi));
		assert_false(esp_set_spi_fits(s, call, false, spi + 1)); /* another shard's */
		assert_int_equal(esp_set_add(s, 0, &c), OK);
		assert_false(esp_set_spi_fits(s, call, false, spi)); /* taken */
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(esp_spi_taken(esp_set_plane(s, i), spi), i == esp_set_shard(s, call));
		c.spi_in = spi + 1;
		assert_int_equal(esp_set_add(s, 0, &c), ERR_MALFORMED);
	}
	assert_true(esp_set_call_counters(s, 4, &k));
	assert_false(esp_set_call_counters(s, 7, &k));
	assert_false(esp_set_poll_due(s, &due));
	esp_set_call_remove(s, 4);
	assert_false(esp_set_call_counters(s, 4, &k));
	assert_true(esp_set_call_counters(s, 1, &k)); /* of the same shard */
	esp_set_grant_remove(s, 1, config(1, 0).grant_id);
	for (unsigned i = 0; i < N; i++)
		assert_true(n_entered[i] && !inside[i]);
	esp_set_free(s);
}

/* A packet that the owner sends or gets himself finds its shard; counters are of all. */
static void packets_of_the_owner(void **state)
{
	struct esp_set *a = set_new(N, false), *b = set_new(N, false);
	struct esp_sa_config ca = config(2, 0xc0000000u - 0xc0000000u % N + 2), cb;
	struct pkt pk = pkt_udp(true, HOST_A, 1000, HOST_B, 53, 100);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT], got[ESP_BATCH];
	struct esp_counters k;

	(void)state;
	ca.spi_out = 0xc0000000u - 0xc0000000u % N + 2 + N;
	cb = pair_mirror(&ca);
	cb.call = 2;
	assert_int_equal(esp_set_add(a, 0, &ca), OK);
	assert_int_equal(esp_set_add(b, 0, &cb), OK);
	assert_int_equal(esp_set_output(a, 0, &in, 1, out), 1);
	assert_int_equal(esp_set_input(b, 0, out, 1, got), 1);
	assert_int_equal(got[0].len, pk.len);
	assert_memory_equal(got[0].p, pk.b, pk.len);
	esp_set_counters(a, &k);
	assert_int_equal(k.packets_out, 1);
	esp_set_counters(b, &k);
	assert_int_equal(k.packets_in, 1);
	assert_int_equal(k.bytes_in, pk.len);
	/* nobody's */
	memset(pk.b, 0, 40);
	in = (struct esp_packet){ .p = pk.b, .len = 40 };
	assert_int_equal(esp_set_input(b, 0, &in, 1, got), 0);
	in.len = 3;
	assert_int_equal(esp_set_input(b, 0, &in, 1, got), 0);
	esp_set_counters(b, &k);
	assert_int_equal(k.drops[ESP_DROP_UNKNOWN_SPI], 1);
	assert_int_equal(k.drops[ESP_DROP_SHORT], 1);
	esp_set_free(a);
	esp_set_free(b);
}

static void whose_time_it_is(void **state)
{
	struct esp_set *s = set_new(1, false), *w = set_new(1, true);
	struct esp_sa_config c = config(1, 0xc0000000u);

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct esp_set *x = i ? w : s;

		assert_int_equal(esp_set_add(x, 0, &c), OK);
		esp_set_retire(x, 0, c.call, c.spi_in);
		assert_int_equal(esp_set_deadline_us(x) == TIME_NEVER, i);
		esp_set_tick(x, ESP_LATE_US);
		assert_int_equal(esp_spi_taken(esp_set_plane(x, 0), c.spi_in), i);
	}
	esp_set_free(s);
	esp_set_free(w);
}

/* Nobody waits for a shard of which there is nothing to hear. */
static void only_on_news(void **state)
{
	struct esp_set *s = set_new(1, true);
	struct esp_sa_config c = config(1, 0xc0000000u);
	struct pkt pk = pkt_udp(true, HOST_A, 1000, HOST_B, 53, 100);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];
	struct esp_due due;
	unsigned before;

	(void)state;
	c.soft_packets = 1;
	assert_int_equal(esp_set_add(s, 0, &c), OK);
	assert_int_equal(esp_plane_output(esp_set_plane(s, 0), 0, &in, 1, out), 1); /* by who works on it */
	before = n_entered[0];
	assert_false(esp_set_poll_due(s, &due));
	assert_int_equal(n_entered[0], before);
	told[0] = true;
	assert_true(esp_set_poll_due(s, &due));
	assert_int_equal(due.spi_in, c.spi_in);
	assert_false(esp_set_poll_due(s, &due)); /* it looks until there is no more */
	before = n_entered[0];
	assert_false(esp_set_poll_due(s, &due));
	assert_int_equal(n_entered[0], before);
	/* what the owner did himself he need not be told */
	assert_int_equal(esp_set_output(s, 0, &in, 1, out), 1);
	before = n_entered[0];
	assert_false(esp_set_poll_due(s, &due));
	assert_int_equal(n_entered[0], before + 1);
	esp_set_free(s);
}

/* One shard more is the kernel's. */
static void kernel_shard(void **state)
{
	struct esp_set *s = set_new(N, false);
	uint32_t base = 0xc0000000u - 0xc0000000u % (N + 1);
	struct esp_sa_config c = config(1, base + N), user = config(1, base + 1);
	struct esp_kernel_request rq;
	struct esp_counters k;
	unsigned n = 0;

	(void)state;
	assert_int_equal(esp_set_divisor(s), N);
	assert_false(esp_set_spi_fits(s, 1, true, base + N));
	assert_false(esp_set_poll_kernel(s, &rq));
	assert_int_equal(esp_set_kernel_begin(s), OK);
	assert_true(esp_set_has_kernel(s));
	assert_int_equal(esp_set_divisor(s), N + 1);
	assert_true(esp_set_spi_fits(s, 1, true, base + N));
	assert_false(esp_set_spi_fits(s, 1, true, base + 1));
	assert_true(esp_set_spi_fits(s, 1, false, base + 1));
	assert_false(esp_set_spi_fits(s, 1, false, base + N));
	assert_int_equal(esp_set_add(s, 0, &c), ERR_UNSUPPORTED); /* services */
	c.n_local = c.n_peer = 1;
	c.ts_local[0].protocol = c.ts_peer[0].protocol = 0;
	c.ts_peer[0].port_lo = 0;
	c.ts_peer[0].port_hi = UINT16_MAX;
	assert_int_equal(esp_set_add(s, 0, &c), OK);
	assert_false(esp_set_spi_fits(s, 1, true, base + N));
	while (esp_set_poll_kernel(s, &rq)) {
		struct esp_kernel_count count = { .packets = 5 };

		esp_set_kernel_done(s, 0, &rq, OK, &count);
		n++;
	}
	assert_int_equal(n, 4); /* blocked, in, out, passes */
	esp_set_tick(s, ESP_KERNEL_COUNT_US);
	while (esp_set_poll_kernel(s, &rq)) {
		struct esp_kernel_count count = { .packets = 5 };

		assert_int_equal(rq.act, ESP_KERNEL_COUNT);
		esp_set_kernel_done(s, ESP_KERNEL_COUNT_US, &rq, OK, &count);
	}
	assert_true(esp_set_call_counters(s, 1, &k));
	assert_int_equal(k.packets_in, 5);
	/* here again: it waits for the end of the kernel's */
	user.standby = true;
	user.replaces = c.spi_in;
	assert_int_equal(esp_set_add(s, 0, &user), OK);
	esp_set_retire(s, 0, 1, c.spi_in);
	{
		struct pkt pk = pkt_udp(true, HOST_A, 1000, HOST_B, 53, 100);
		struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];

		assert_int_equal(esp_set_output(s, 0, &in, 1, out), 1);
	}
	assert_true(esp_set_poll_kernel(s, &rq));
	assert_int_equal(rq.act, ESP_KERNEL_IN);
	esp_set_free(s);
}

static bool make(void *arg)
{
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 2, .max_flows = 4 };
	struct esp_set *s = NULL;
	enum err e = esp_set_new(&cfg, 2, NULL, &s);

	(void)arg;
	assert_true(e == OK || e == ERR_NOMEM);
	esp_set_free(s);
	return e == OK;
}

static void without_memory(void **state)
{
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 2, .max_flows = 4 };
	struct esp_set *s = NULL;

	(void)state;
	assert_int_equal(esp_set_new(&cfg, 0, NULL, &s), ERR_LIMIT);
	assert_int_equal(esp_set_new(&cfg, ESP_SHARDS_MAX + 1, NULL, &s), ERR_LIMIT);
	harness_alloc_ladder(make, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_and_their_shards), cmocka_unit_test(packets_of_the_owner),
		cmocka_unit_test(whose_time_it_is),       cmocka_unit_test(only_on_news),
		cmocka_unit_test(kernel_shard),           cmocka_unit_test(without_memory),
	};

	return HARNESS_RUN(tests);
}
