/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Whatever the selectors are, the index gives out every SA that covers a packet, the newest first, and few more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "esp/sadb.h"
#include "harness.h"
#include "esp_pair.h"

#define SAS 200
#define ROUNDS 4000

static struct rng_seeded seed;
static struct rng rng;
static struct esp_sa *sas[SAS]; /* in the order of their coming; NULL: gone */

static unsigned any(unsigned n)
{
	return rng_u32(&rng) % n;
}

static const uint8_t protocols[] = { 0, ESP_PROTO_TCP, ESP_PROTO_UDP, ESP_PROTO_ICMP6, 47 };
static const uint16_t ports[] = { 0, 22, 53, 0x8000, UINT16_MAX };

static struct esp_ts any_ts(void)
{
	uint8_t host = (uint8_t)(1 + any(4));
	uint16_t lo = ports[any(5)], hi = any(2) ? lo : UINT16_MAX;
	struct esp_ts ts = pair_ts(any(2), host, any(8) ? host : host + (uint8_t)any(3), protocols[any(5)], lo, hi);

	if (!any(4)) { /* any port */
		ts.port_lo = 0;
		ts.port_hi = UINT16_MAX;
	}
	if (ts.family == ADDR_IP4)
		memset(ts.ip_hi + 4, 0x55, 12); /* not looked at */
	return ts;
}

static struct esp_tuple any_tuple(void)
{
	struct esp_tuple t = { .family = any(2) ? ADDR_IP6 : ADDR_IP4, .protocol = protocols[1 + any(4)] };

	pkt_ip(t.local_ip, t.family == ADDR_IP6, (uint8_t)(1 + any(5)));
	pkt_ip(t.peer_ip, t.family == ADDR_IP6, (uint8_t)(1 + any(5)));
	t.local_port = ports[any(5)];
	t.peer_port = ports[any(5)];
	return t;
}

static void change(struct esp_sadb *db, uint32_t serial)
{
	struct esp_sa_config c = pair_config_a(true);

	if (sas[0]) { /* the list is full: some go, from anywhere, and the rest moves up */
		unsigned k = 0;

		for (unsigned i = 0; i < SAS; i++) {
			if (any(3))
				sas[k++] = sas[i];
			else
				esp_sadb_remove(db, sas[i]);
		}
		memmove(sas + SAS - k, sas, k * sizeof(*sas));
		memset(sas, 0, (SAS - k) * sizeof(*sas));
	}
	memmove(sas, sas + 1, (SAS - 1) * sizeof(*sas));
	c.spi_in = 1000 + serial;
	c.call = any(20);
	c.n_local = 1 + any(3);
	c.n_peer = 1 + any(4);
	for (unsigned i = 0; i < ESP_TS_MAX; i++) {
		c.ts_local[i] = any_ts();
		c.ts_peer[i] = any_ts();
	}
	assert_int_equal(esp_sadb_add(db, &c, &sas[SAS - 1]), OK);
	assert_ptr_equal(esp_sadb_find(db, c.spi_in), sas[SAS - 1]);
	assert_ptr_equal(esp_sadb_call(db, c.call), sas[SAS - 1]->call);
}

/* What is left of the candidates is what a walk through all finds; returns how many that is. */
static unsigned compare(struct esp_candidates c, const struct esp_tuple *t,
			bool (*covers)(const struct esp_sa *sa, const struct esp_tuple *t))
{
	unsigned n = 0;
	const struct esp_sa *sa, *before = NULL;

	for (int i = SAS - 1; i >= 0; i--) {
		if (!sas[i] || !covers(sas[i], t))
			continue;
		do {
			sa = esp_candidates_next(&c);
			assert_non_null(sa);
			assert_true(!before || sa->serial < before->serial);
			before = sa;
		} while (!covers(sa, t));
		assert_ptr_equal(sa, sas[i]);
		n++;
	}
	while ((sa = esp_candidates_next(&c)) != NULL)
		assert_false(covers(sa, t));
	return n;
}

static void as_a_walk_would(void **state)
{
	struct esp_sadb db;
	unsigned ends = 0, hosts = 0;

	(void)state;
	rng = rng_seeded_init(&seed, 11);
	assert_int_equal(esp_sadb_init(&db, SAS + 1, &rng), OK);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		change(&db, i);
		for (int k = 0; k < 4; k++) {
			struct esp_tuple t = any_tuple();

			ends += compare(esp_index_ends(db.index, &t), &t, esp_sa_covers);
			hosts += compare(esp_index_hosts(db.index, &t), &t, esp_sa_covers_hosts);
		}
	}
	assert_true(ends > ROUNDS && hosts > ends);
	memset(sas, 0, sizeof(sas));
	esp_sadb_done(&db);
}

/* A thousand grants of one peer, each a port of his, and a thousand for him, each a port of ours: one of either is looked at. */
static void many_grants(void **state)
{
	struct esp_sadb db;
	struct esp_tuple t = { .family = ADDR_IP6, .protocol = ESP_PROTO_TCP, .local_port = 20500, .peer_port = 10500 };
	struct esp_sa *ret;
	unsigned n = 0;

	(void)state;
	rng = rng_seeded_init(&seed, 12);
	assert_int_equal(esp_sadb_init(&db, 2000, &rng), OK);
	pkt_ip(t.local_ip, true, HOST_A);
	pkt_ip(t.peer_ip, true, HOST_B);
	for (uint16_t i = 0; i < 1000; i++) {
		struct esp_sa_config c = pair_config_a(true);

		c.n_local = c.n_peer = 1;
		c.call = i % 100;
		for (unsigned ours = 0; ours < 2; ours++) {
			uint16_t port = (uint16_t)(ours ? 20000 + i : 10000 + i);

			c.spi_in = 1000 + 2u * i + ours;
			c.ts_local[0] =
				pair_ts(true, HOST_A, HOST_A, ESP_PROTO_TCP, ours ? port : 0, ours ? port : UINT16_MAX);
			c.ts_peer[0] =
				pair_ts(true, HOST_B, HOST_B, ESP_PROTO_TCP, ours ? 0 : port, ours ? UINT16_MAX : port);
			assert_int_equal(esp_sadb_add(&db, &c, &ret), OK);
		}
	}
	for (struct esp_candidates c = esp_index_ends(db.index, &t); (ret = esp_candidates_next(&c)) != NULL; n++)
		assert_true(esp_sa_covers(ret, &t));
	assert_int_equal(n, 2);
	esp_sadb_done(&db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_a_walk_would),
		cmocka_unit_test(many_grants),
	};

	return HARNESS_RUN(tests);
}
