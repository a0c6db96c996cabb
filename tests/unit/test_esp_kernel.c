/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What a kernel is asked for, against one that checks each request: nothing passes before it may, numbers are never begun again,
 * and in the end nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/timers.h"
#include "esp/kernel.h"
#include "esp/set.h"
#include "harness.h"

#define PAIRS 64
#define SAS 256

static struct model {
	struct {
		uint16_t slot;
		struct addr_prefix server, client;
		enum esp_kernel_act is;
		struct addr own, peer;
		size_t mtu;
	} pairs[PAIRS];
	struct {
		uint16_t slot;
		uint32_t spi;
		bool inbound;
		struct addr own, peer;
		struct esp_kernel_count count;
		bool expired;
	} sas[SAS];
	unsigned n_pairs, n_sas;
	uint32_t sent[4096]; /* outbound SPIs that were there once */
	unsigned n_sent, n_requests;
	char words[512]; /* one letter a request */
	/* the n-th request from now on fails, that is ERR_SYSTEM; 0: none */
	unsigned fails_in;
	enum esp_kernel_act failed;
} m;
static struct esp_kernel *k;
static uint64_t now;

static int pair_at(const struct esp_kernel_request *rq)
{
	for (unsigned i = 0; i < m.n_pairs; i++)
		if (addr_prefix_eq(&m.pairs[i].server, &rq->server) && addr_prefix_eq(&m.pairs[i].client, &rq->client))
			return (int)i;
	return -1;
}

static int sa_at(const struct esp_kernel_request *rq)
{
	for (unsigned i = 0; i < m.n_sas; i++)
		if (m.sas[i].slot == rq->slot && m.sas[i].spi == rq->spi && m.sas[i].inbound == rq->inbound) {
			assert_true(addr_eq(&m.sas[i].own, &rq->own) && addr_eq(&m.sas[i].peer, &rq->peer));
			return (int)i;
		}
	return -1;
}

static bool slot_sends(uint16_t slot)
{
	for (unsigned i = 0; i < m.n_sas; i++)
		if (m.sas[i].slot == slot && !m.sas[i].inbound)
			return true;
	return false;
}

static void set_pair(const struct esp_kernel_request *rq)
{
	int at = pair_at(rq);

	if (rq->act == ESP_KERNEL_GONE) {
		assert_true(at >= 0 && m.pairs[at].slot == rq->slot);
		m.pairs[at] = m.pairs[--m.n_pairs];
		return;
	}
	/* blocked first; nobody else's */
	assert_true(at >= 0 ? m.pairs[at].slot == rq->slot : rq->act == ESP_KERNEL_BLOCK);
	if (at < 0) {
		assert_true(m.n_pairs < PAIRS);
		at = (int)m.n_pairs++;
	}
	if (rq->act == ESP_KERNEL_PASS)
		assert_true(slot_sends(rq->slot));
	m.pairs[at].slot = rq->slot;
	m.pairs[at].server = rq->server;
	m.pairs[at].client = rq->client;
	m.pairs[at].is = rq->act;
	m.pairs[at].own = rq->own;
	m.pairs[at].peer = rq->peer;
	m.pairs[at].mtu = rq->mtu;
}

static void add_sa(const struct esp_kernel_request *rq)
{
	bool blocked = false;

	for (unsigned i = 0; i < m.n_pairs; i++)
		blocked |= m.pairs[i].slot == rq->slot;
	assert_true(blocked); /* the rule about who opens flows is there */
	assert_true(m.n_sas < SAS);
	for (unsigned i = 0; i < m.n_sas; i++)
		assert_false(m.sas[i].spi == rq->spi && m.sas[i].inbound == rq->inbound);
	for (unsigned i = 0; !rq->inbound && i < m.n_sent; i++)
		assert_int_not_equal(m.sent[i], rq->spi); /* never a number twice under one key */
	if (!rq->inbound)
		m.sent[m.n_sent++ % 4096] = rq->spi;
	assert_int_equal(rq->key[0], rq->inbound ? 0x11 : 0x22);
	m.sas[m.n_sas].slot = rq->slot;
	m.sas[m.n_sas].spi = rq->spi;
	m.sas[m.n_sas].inbound = rq->inbound;
	m.sas[m.n_sas].own = rq->own;
	m.sas[m.n_sas].peer = rq->peer;
	m.sas[m.n_sas].expired = false;
	m.sas[m.n_sas++].count = (struct esp_kernel_count){ .packets = 0 };
}

static enum err carry_out(const struct esp_kernel_request *rq, struct esp_kernel_count *ret)
{
	int at = rq->act > ESP_KERNEL_PASS && rq->act != ESP_KERNEL_ADD ? sa_at(rq) : -1;
	bool fails = m.fails_in && !--m.fails_in;

	if (m.n_requests < sizeof(m.words) - 1)
		m.words[m.n_requests] = "gbihparmc"[rq->act];
	m.n_requests++;
	if (fails)
		m.failed = rq->act;
	switch (rq->act) {
	case ESP_KERNEL_ADD:
		if (!fails)
			add_sa(rq);
		break;
	case ESP_KERNEL_REMOVE:
		assert_true(at >= 0);
		m.sas[at] = m.sas[--m.n_sas];
		break;
	case ESP_KERNEL_MOVE:
		assert_true(at >= 0);
		m.sas[at].own = rq->new_own;
		m.sas[at].peer = rq->new_peer;
		if (fails)
			m.sas[at] = m.sas[--m.n_sas];
		break;
	case ESP_KERNEL_COUNT:
		assert_true(at >= 0);
		*ret = m.sas[at].count;
		if (m.sas[at].expired) {
			m.sas[at] = m.sas[--m.n_sas];
			return ERR_NOTFOUND;
		}
		break;
	default:
		if (!fails) {
			set_pair(rq);
		} else if (pair_at(rq) >= 0) { /* all of it, or nothing */
			at = pair_at(rq);
			m.pairs[at] = m.pairs[--m.n_pairs];
		}
	}
	return fails ? ERR_SYSTEM : OK;
}

/* All that there is to do; its words, a letter a request. */
static const char *settle(void)
{
	struct esp_kernel_request rq;

	m.n_requests = 0;
	memset(m.words, 0, sizeof(m.words));
	while (esp_kernel_poll(k, &rq)) {
		struct esp_kernel_count c = { .packets = 0 };
		enum err e = carry_out(&rq, &c);

		assert_true(m.n_requests < 400); /* it comes to an end */
		esp_kernel_done(k, now, &rq, e, &c);
	}
	return m.words;
}

static void begin(void)
{
	memset(&m, 0, sizeof(m));
	now = SECONDS(1000);
	k = esp_kernel_new();
	assert_non_null(k);
}

static void end(void)
{
	esp_kernel_free(k);
}

static struct esp_ts network4(uint8_t third, uint8_t last_lo, uint8_t last_hi)
{
	struct esp_ts t = { .family = ADDR_IP4, .port_hi = 65535 };

	memcpy(t.ip_lo, (uint8_t[]){ 10, 3, third, last_lo }, 4);
	memcpy(t.ip_hi, (uint8_t[]){ 10, 3, third, last_hi }, 4);
	return t;
}

static struct path path_to(uint16_t port)
{
	return (struct path){ .local = addr_ip4(0xc0000201, 4500), .remote = addr_ip4(0xc6336405, port) };
}

static struct esp_sa_config config(uint32_t call, uint32_t n)
{
	struct esp_sa_config c = { .spi_in = 0xc0000000 + n,
				   .spi_out = 0xd0000000 + n,
				   .alg = CIPHER_AES128_GCM,
				   .n_local = 1,
				   .n_peer = 1,
				   .open = ESP_OPEN_OUT,
				   .esn = true,
				   .call = call,
				   .grant_id = 7,
				   .mtu = 1500,
				   .path = path_to(1024) };

	memset(c.key_in, 0x11, sizeof(c.key_in));
	memset(c.key_out, 0x22, sizeof(c.key_out));
	c.ts_local[0] = network4(200, (uint8_t)call, (uint8_t)call);
	c.ts_peer[0] = network4(1, 0, 255);
	return c;
}

static void add(const struct esp_sa_config *c)
{
	assert_int_equal(esp_kernel_add(k, now, c), OK);
}

/* ---- */

static void comes_and_goes(void **state)
{
	struct esp_sa_config c = config(1, 1);
	uint32_t call;

	(void)state;
	begin();
	add(&c);
	assert_string_equal(settle(), "baap");
	assert_int_equal(m.pairs[0].server.len, 24);
	assert_int_equal(m.pairs[0].client.len, 32);
	/* IP 20, UDP 8, SPI and number 8, IV 8, ICV 16; a multiple of 4, less padding's length and the next header */
	assert_int_equal(m.pairs[0].mtu, 1440 - 2);
	assert_string_equal(settle(), "");
	esp_kernel_hold(k, 1, true);
	assert_string_equal(settle(), "h");
	esp_kernel_hold(k, 1, false);
	assert_string_equal(settle(), "p");
	esp_kernel_mtu(k, 1, 1400);
	assert_string_equal(settle(), "p");
	assert_int_equal(m.pairs[0].mtu, 1340 - 2);
	esp_kernel_path(k, 1, &(struct path){ .local = c.path.local, .remote = addr_ip4(0xc6336406, 9) });
	assert_string_equal(settle(), "mmp");
	esp_kernel_call_remove(k, 1);
	assert_string_equal(settle(), "grr");
	assert_false(esp_kernel_has(k, c.spi_in));
	assert_false(esp_kernel_poll_failed(k, &call));
	end();
}

/* What any link of IPv6 carries, and nobody believes less. */
static void short_path(void **state)
{
	struct esp_sa_config c = config(1, 1);

	(void)state;
	begin();
	c.mtu = 1280;
	c.n_local = c.n_peer = 2;
	c.ts_local[1] = c.ts_peer[1] = (struct esp_ts){ .family = ADDR_IP6, .port_hi = 65535 };
	c.ts_local[1].ip_lo[15] = c.ts_local[1].ip_hi[15] = 9;
	c.ts_peer[1].ip_lo[0] = c.ts_peer[1].ip_hi[0] = 0x20;
	memset(c.ts_peer[1].ip_hi + 8, 0xff, 8);
	add(&c);
	(void)settle();
	assert_int_equal(m.n_pairs, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(m.pairs[i].mtu, m.pairs[i].server.base.family == ADDR_IP6 ? 1280 : 1220 - 2);
	esp_kernel_mtu(k, 1, 1400);
	(void)settle();
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(m.pairs[i].mtu, 1340 - 2);
	end();
}

static void rekeyed(void **state)
{
	struct esp_sa_config a = config(1, 1), b = config(1, 2), c = config(1, 3);

	(void)state;
	begin();
	add(&a);
	(void)settle();
	/* by us: the new one sends at once, and the old one receives for a while */
	b.replaces = a.spi_in;
	add(&b);
	assert_string_equal(settle(), "aar");
	esp_kernel_retire(k, now, a.spi_in);
	assert_string_equal(settle(), "");
	now += ESP_LATE_US;
	esp_kernel_tick(k, now);
	assert_non_null(strstr(settle(), "r"));
	assert_int_equal(m.n_sas, 2);
	/* by the other side: it sends once the old one is gone */
	c.replaces = b.spi_in;
	c.standby = true;
	add(&c);
	assert_string_equal(settle(), "a");
	esp_kernel_retire(k, now, b.spi_in);
	assert_string_equal(settle(), "ar");
	end();
}

static void sends_when_the_peer_has(void **state)
{
	struct esp_sa_config a = config(1, 1), b = config(1, 2);
	struct esp_counters counters = { .packets_in = 0 };

	(void)state;
	begin();
	add(&a);
	b.replaces = a.spi_in;
	b.standby = true;
	add(&b);
	(void)settle();
	for (unsigned i = 0; i < m.n_sas; i++)
		if (m.sas[i].spi == b.spi_in)
			m.sas[i].count = (struct esp_kernel_count){ .packets = 3, .bytes = 300, .replayed = 2 };
	now += ESP_KERNEL_COUNT_US;
	assert_int_equal(esp_kernel_deadline_us(k), now);
	esp_kernel_tick(k, now);
	assert_string_equal(settle(), "carc");
	assert_true(esp_kernel_call_counters(k, 1, &counters));
	assert_int_equal(counters.packets_in, 3);
	assert_int_equal(counters.bytes_in, 300);
	assert_int_equal(counters.drops[ESP_DROP_REPLAY], 2);
	assert_int_equal(counters.last_in_us, now);
	assert_int_equal(counters.last_out_us, 0);
	end();
}

/* Both sides made new keys at once, and this one goes again. */
static void redundant(void **state)
{
	struct esp_sa_config a = config(1, 1), b = config(1, 2);

	(void)state;
	begin();
	add(&a);
	(void)settle();
	add(&b);
	esp_kernel_retire(k, now, b.spi_in);
	assert_string_equal(settle(), "a");
	end();
}

static void other_plane(void **state)
{
	struct esp_sa_config a = config(1, 1), b = config(1, 2);

	(void)state;
	begin();
	/* to the kernel: it waits for the end of one that is not here */
	a.standby = true;
	a.replaces = 0xc0001000;
	add(&a);
	assert_string_equal(settle(), "bai");
	esp_kernel_retire(k, now, a.replaces);
	assert_string_equal(settle(), "ap");
	/* and away: what is on its way still comes in */
	esp_kernel_superseded(k, a.spi_in);
	assert_string_equal(settle(), "ir");
	esp_kernel_retire(k, now, a.spi_in);
	assert_string_equal(settle(), "");
	now += ESP_LATE_US;
	esp_kernel_tick(k, now);
	assert_string_equal(settle(), "gr");
	/* the same grant comes back */
	add(&b);
	assert_string_equal(settle(), "baap");
	end();
}

static void limits(void **state)
{
	struct esp_sa_config a = config(1, 1);
	struct esp_due due;

	(void)state;
	begin();
	a.soft_bytes = 1000;
	a.hard_bytes = 2000;
	add(&a);
	(void)settle();
	m.sas[0].count.bytes = 600;
	m.sas[1].count.bytes = 500;
	now += ESP_KERNEL_COUNT_US;
	esp_kernel_tick(k, now);
	(void)settle();
	assert_int_equal(esp_kernel_deadline_us(k), 0);
	assert_true(esp_kernel_poll_due(k, &due));
	assert_int_equal(due.spi_in, a.spi_in);
	assert_false(due.hard);
	assert_false(esp_kernel_poll_due(k, &due)); /* once */
	assert_int_not_equal(esp_kernel_deadline_us(k), 0);
	/* it has ended by itself */
	m.sas[1].expired = true;
	now += ESP_KERNEL_COUNT_US;
	esp_kernel_tick(k, now);
	(void)settle();
	assert_true(esp_kernel_poll_due(k, &due));
	assert_true(due.hard);
	end();
}

static void only_networks(void **state)
{
	struct esp_sa_config c;
	struct esp_kernel_request rq;

	(void)state;
	begin();
#define REFUSED(change)                                                                                                \
	c = config(1, 1);                                                                                              \
	change;                                                                                                        \
	assert_int_equal(esp_kernel_add(k, now, &c), ERR_UNSUPPORTED)
	REFUSED(c.ts_peer[0].protocol = 6);
	REFUSED(c.ts_peer[0].port_hi = 80);
	REFUSED(c.ts_peer[0].port_lo = 1);
	REFUSED(c.ts_peer[0].ip_hi[3] = 254); /* no prefix */
	REFUSED(c.ts_peer[0].ip_lo[3] = 1);
	REFUSED(c.ts_local[0].ip_hi[3]++); /* two clients */
	REFUSED(c.n_peer = 0);
	REFUSED(c.alg = CIPHER_AES128_CBC_SHA256);
	REFUSED(c.open = ESP_OPEN_BOTH);
	REFUSED(c.path.channel = 0x4000);
	REFUSED(c.path.transport = TRANSPORT_ESP);
	REFUSED(c.ts_peer[0].protocol = 58); /* echo alone */
#undef REFUSED
	assert_false(esp_kernel_poll(k, &rq));
	/* echo beside it is left out */
	c = config(1, 1);
	c.ts_peer[1] = c.ts_local[1] = (struct esp_ts){ .family = ADDR_IP6, .protocol = 58, .port_hi = 65535 };
	c.n_peer = c.n_local = 2;
	add(&c);
	assert_string_equal(settle(), "baap");
	assert_int_equal(esp_kernel_add(k, now, &c), ERR_WRONG_STATE);
	/* new keys for another network than the old ones */
	c.spi_in++;
	c.ts_peer[0] = network4(2, 0, 255);
	assert_int_equal(esp_kernel_add(k, now, &c), ERR_UNSUPPORTED);
	assert_string_equal(settle(), "");
	end();
}

/* Whichever request of a life fails: all is taken back, it is told once, and another life can begin. */
static void each_fails(void **state)
{
	(void)state;
	for (unsigned at = 1; at < 30; at++) {
		struct esp_sa_config a = config(1, 1), b = config(1, 2), c = config(1, 3);
		uint32_t call = 0;
		bool told;

		begin();
		m.fails_in = at;
		add(&a);
		(void)settle();
		esp_kernel_hold(k, 1, true);
		(void)settle();
		esp_kernel_hold(k, 1, false);
		esp_kernel_path(k, 1, &(struct path){ .local = a.path.local, .remote = addr_ip4(0xc6336406, 9) });
		b.path.remote = addr_ip4(0xc6336406, 9);
		b.replaces = a.spi_in;
		add(&b);
		(void)settle();
		esp_kernel_retire(k, now, a.spi_in);
		now += ESP_LATE_US;
		esp_kernel_tick(k, now);
		(void)settle();
		told = esp_kernel_poll_failed(k, &call);
		assert_int_equal(told, !m.fails_in && m.failed != ESP_KERNEL_GONE && m.failed != ESP_KERNEL_REMOVE &&
					       m.failed != ESP_KERNEL_COUNT);
		assert_int_equal(call, told);
		assert_false(esp_kernel_poll_failed(k, &call));
		m.fails_in = 0;
		esp_kernel_call_remove(k, 1);
		(void)settle();
		assert_int_equal(m.n_pairs, 0);
		assert_int_equal(m.n_sas, 0);
		add(&c);
		assert_string_equal(settle(), "baap");
		end();
	}
}

/* One step of a life at random. */
static void step(struct rng *r, uint32_t *n)
{
	uint32_t call = 1 + rng_below(r, 3), old = 0xc0000000 + rng_below(r, *n + 1);
	struct esp_sa_config c = config(call, *n + 1);
	struct esp_due due;
	struct path p = path_to((uint16_t)(1024 + rng_below(r, 3)));

	switch (rng_below(r, 12)) {
	case 0:
	case 1:
	case 2:
		c.grant_id = rng_below(r, 2);
		c.ts_peer[0] = network4((uint8_t)(1 + c.grant_id), 0, 255);
		c.standby = rng_below(r, 2);
		c.replaces = rng_below(r, 2) ? old : 0;
		c.path = p;
		if (esp_kernel_add(k, now, &c) == OK)
			++*n;
		break;
	case 3: esp_kernel_retire(k, now, old); break;
	case 4: esp_kernel_superseded(k, old); break;
	case 5: esp_kernel_grant_remove(k, call, rng_below(r, 2)); break;
	case 6: esp_kernel_call_remove(k, call); break;
	case 7: esp_kernel_path(k, call, &p); break;
	case 8: esp_kernel_hold(k, call, rng_below(r, 2)); break;
	case 9: esp_kernel_mtu(k, call, 1280 + rng_below(r, 3) * 100); break;
	case 10:
		now += SECONDS(rng_below(r, 4));
		esp_kernel_tick(k, now);
		break;
	default:
		if (m.n_sas) {
			unsigned at = rng_below(r, m.n_sas);

			m.sas[at].count.packets++;
			m.sas[at].expired |= !rng_below(r, 20);
		}
		while (esp_kernel_poll_failed(k, &call) || esp_kernel_poll_due(k, &due))
			;
	}
}

static void at_random(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= 300; i++) {
		struct rng_seeded seed;
		struct rng r = rng_seeded_init(&seed, i);
		uint32_t n = 0;

		begin();
		for (int j = 0; j < 150; j++) {
			if (!m.fails_in && i % 2)
				m.fails_in = 1 + rng_below(&r, 100);
			step(&r, &n);
			if (rng_below(&r, 2))
				(void)settle();
		}
		m.fails_in = 0;
		for (uint32_t call = 1; call <= 3; call++)
			esp_kernel_call_remove(k, call);
		(void)settle();
		assert_int_equal(m.n_pairs, 0);
		assert_int_equal(m.n_sas, 0);
		esp_kernel_tick(k, now);
		assert_int_equal(esp_kernel_deadline_us(k) == TIME_NEVER || esp_kernel_deadline_us(k) == 0 ||
					 esp_kernel_deadline_us(k) > now,
				 1);
		end();
	}
}

static bool a_life(void *arg)
{
	struct esp_sa_config c = config(1, 1);
	bool whole = false;

	(void)arg;
	memset(&m, 0, sizeof(m));
	k = esp_kernel_new();
	if (!k)
		return false;
	if (esp_kernel_add(k, 0, &c) == OK) {
		c.spi_in++;
		whole = esp_kernel_add(k, 0, &c) == OK;
	}
	esp_kernel_call_remove(k, 1);
	esp_kernel_free(k);
	return whole;
}

static void memory(void **state)
{
	(void)state;
	harness_alloc_ladder(a_life, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_and_goes), cmocka_unit_test(short_path),
		cmocka_unit_test(rekeyed),        cmocka_unit_test(sends_when_the_peer_has),
		cmocka_unit_test(redundant),      cmocka_unit_test(other_plane),
		cmocka_unit_test(limits),         cmocka_unit_test(only_networks),
		cmocka_unit_test(each_fails),     cmocka_unit_test(at_random),
		cmocka_unit_test(memory),
	};

	return HARNESS_RUN(tests);
}
