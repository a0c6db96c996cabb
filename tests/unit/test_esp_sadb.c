/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* SAs come and go, flows time out and make room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp/flow.h"
#include "esp_carry.h"
#include "harness.h"

/* ---- SAs come and go ---- */

static void removal_takes_flows(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_sa_config b, a = pair_config_a(true);
	struct esp_counters c;

	(void)state;
	b = pair_mirror(&a);
	assert_true(esp_spi_taken(p->b, PAIR_SPI_B));
	handshake(p, 1);
	esp_sa_remove(p->b, PAIR_SPI_B + 1); /* none */
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	esp_sa_remove(p->b, PAIR_SPI_B);
	assert_false(esp_spi_taken(p->b, PAIR_SPI_B));
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), AT_RECEIVER(ESP_DROP_UNKNOWN_SPI));
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), ESP_DROP_NO_SA);
	assert_int_equal(esp_plane_deadline_us(p->b), TIME_NEVER);
	/* The call is remembered, and the same SA again does not bring the flow back. */
	assert_true(esp_call_counters(p->b, PAIR_CALL, &c));
	assert_true(c.packets_in > 0);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), ESP_DROP_DIRECTION);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), AT_RECEIVER(ESP_DROP_DIRECTION));
	esp_call_remove(p->b, 99);
	esp_call_remove(p->b, PAIR_CALL);
	assert_false(esp_spi_taken(p->b, PAIR_SPI_B));
	assert_false(esp_call_counters(p->b, PAIR_CALL, &c));
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), AT_RECEIVER(ESP_DROP_UNKNOWN_SPI));
	pair_free(p);
}

/* RFC 7296, 2.8: a new SA, then the old one goes; the TCP connection notices nothing. */
static void rekeying_keeps_flows(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_sa_config a = pair_config_a(true), b;

	(void)state;
	handshake(p, 1);
	assert_int_equal(seal(p, p->a, a_tcp(p, 1, 5900, ACK)), PASS); /* on its way with the old SA */
	a.spi_in = PAIR_SPI_A + 1;
	a.spi_out = PAIR_SPI_B + 1;
	memset(a.key_in, 0x11, sizeof(a.key_in));
	memset(a.key_out, 0x22, sizeof(a.key_out));
	b = pair_mirror(&a);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	assert_int_equal(esp_sa_add(p->a, p->now, &a), OK);
	assert_int_equal(deliver(p, p->b, p->outer, p->outer_len), PASS);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_B + 1);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	esp_sa_remove(p->a, PAIR_SPI_A);
	esp_sa_remove(p->b, PAIR_SPI_B);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	/* The other way round: the new one goes first, and the flow falls back to the one that is left. */
	a.spi_in++;
	a.spi_out++;
	b = pair_mirror(&a);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	assert_int_equal(esp_sa_add(p->a, p->now, &a), OK);
	esp_sa_remove(p->a, PAIR_SPI_A + 2);
	esp_sa_remove(p->b, PAIR_SPI_B + 2);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_B + 1);
	pair_free(p);
}

/* The successor of both SAs, B's one on standby. */
static void rekey(struct pair *p, unsigned n, bool a_has_it)
{
	struct esp_sa_config a = pair_config_a(true), b;

	a.spi_in += n;
	a.spi_out += n;
	memset(a.key_in, 0x11, sizeof(a.key_in));
	memset(a.key_out, 0x22, sizeof(a.key_out));
	b = pair_mirror(&a);
	b.standby = true;
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	if (a_has_it)
		assert_int_equal(esp_sa_add(p->a, p->now, &a), OK);
}

/* RFC 7296, 2.8: the responder sends by the old SA until a packet came in by the new one. */
static void standby_waits_for_the_peer(void **state)
{
	struct pair *p = pair_new(true);

	(void)state;
	handshake(p, 1);
	rekey(p, 1, false);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS); /* by the old one: no sign */
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A);
	pair_free(p);
	p = pair_new(true);
	handshake(p, 1);
	rekey(p, 1, true);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_B + 1);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	pair_free(p);
}

/* ... or until the old one is deleted. That one still takes what is late, for ESP_LATE_US. */
static void retired_takes_what_is_late(void **state)
{
	struct pair *p = pair_new(true);
	uint8_t late[ESP_PACKET_MAX];
	size_t late_len;

	(void)state;
	handshake(p, 1);
	assert_int_equal(seal(p, p->a, a_tcp(p, 1, 5900, ACK)), PASS);
	memcpy(late, p->outer, p->outer_len);
	late_len = p->outer_len;
	rekey(p, 1, true);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B + 9); /* none */
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	assert_int_equal(deliver(p, p->b, late, late_len), PASS);
	/* even the first packet of a flow, which goes on by the successor */
	esp_sa_retire(p->b, p->now, PAIR_SPI_B);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	p->now += ESP_LATE_US;
	assert_true(esp_plane_deadline_us(p->b) <= p->now);
	esp_plane_tick(p->b, p->now);
	assert_false(esp_spi_taken(p->b, PAIR_SPI_B));
	assert_true(esp_spi_taken(p->b, PAIR_SPI_B + 1));
	assert_int_equal(deliver(p, p->b, late, late_len), AT_RECEIVER(ESP_DROP_UNKNOWN_SPI));
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	pair_free(p);
}

static void late_flow_is_answered(void **state)
{
	struct pair *p = pair_new(true);
	uint8_t late[ESP_PACKET_MAX];
	size_t late_len;

	(void)state;
	assert_int_equal(seal(p, p->a, a_tcp(p, 2, 5900, SYN)), PASS);
	memcpy(late, p->outer, p->outer_len);
	late_len = p->outer_len;
	rekey(p, 1, true);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B);
	assert_int_equal(deliver(p, p->b, late, late_len), PASS);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 2, SYN | ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	pair_free(p);
}

/* B rekeys, its Delete of the first SA is not answered for long, and meanwhile A rekeys and deletes the second: B goes on
 * by the third, not by the first, which A has no more. */
static void not_back_to_the_first(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_sa_config a = pair_config_a(true), b;

	(void)state;
	handshake(p, 1);
	for (unsigned n = 1; n <= 2; n++) {
		a.spi_in++;
		a.spi_out++;
		b = pair_mirror(&a);
		b.standby = n == 2;
		b.replaces = PAIR_SPI_B + n - 1;
		assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	}
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	/* nor for a flow that A, who does not know yet, begins by the first */
	assert_int_equal(carry(p, true, a_tcp(p, 2, 5900, SYN)), PASS);
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 2, SYN | ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 1);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B + 1);
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A + 2);
	/* and back only if nothing else is left */
	esp_sa_remove(p->b, PAIR_SPI_B + 2);
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A);
	pair_free(p);
}

/* A packet that is late by one that never sent, and was replaced, does not make it send: it is about to go. */
static void late_packet_wakes_nobody(void **state)
{
	struct pair *p = pair_new(true);

	(void)state;
	handshake(p, 1);
	rekey(p, 1, true);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B + 1);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_B + 1);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A);
	pair_free(p);
}

/* Revoking takes all SAs of a grant, also those that wait or were replaced, and no other's. */
static void grant_goes_whole(void **state)
{
	struct pair *p = pair_new(true);

	(void)state;
	handshake(p, 1);
	rekey(p, 1, true);
	rekey(p, 2, true);
	esp_sa_retire(p->b, p->now, PAIR_SPI_B);
	esp_grant_remove(p->b, PAIR_CALL, pair_config_a(true).grant_id + 1);
	esp_grant_remove(p->b, PAIR_CALL + 1, pair_config_a(true).grant_id);
	assert_true(esp_spi_taken(p->b, PAIR_SPI_B) && esp_spi_taken(p->b, PAIR_SPI_B + 1));
	esp_grant_remove(p->b, PAIR_CALL, pair_config_a(true).grant_id);
	for (unsigned i = 0; i < 3; i++)
		assert_false(esp_spi_taken(p->b, PAIR_SPI_B + i));
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), ESP_DROP_NO_SA);
	pair_free(p);
}

/* What is nearly used up, and what is, is told once each; used up, nothing more is sent. */
static void lifetimes(void **state)
{
	static const struct {
		uint64_t soft_packets, hard_packets, soft_bytes, hard_bytes;
	} rows[] = { { 3, 6, 0, 0 }, { 0, 0, 3 * 60, 6 * 60 } };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct pair *p = pair_new(true);
		struct esp_sa_config a = pair_config_a(true);
		struct esp_due d;

		esp_sa_remove(p->a, PAIR_SPI_A);
		a.soft_packets = rows[i].soft_packets;
		a.hard_packets = rows[i].hard_packets;
		a.soft_bytes = rows[i].soft_bytes;
		a.hard_bytes = rows[i].hard_bytes;
		assert_int_equal(esp_sa_add(p->a, p->now, &a), OK);
		for (unsigned n = 1; n <= 6; n++) {
			assert_int_equal(seal(p, p->a, a_tcp(p, 1, 5900, SYN)), PASS);
			assert_int_equal(esp_plane_has_due(p->a), n == 3 || n == 6);
			if (n != 3 && n != 6)
				continue;
			assert_true(esp_plane_poll_due(p->a, &d));
			assert_true(d.spi_in == PAIR_SPI_A && d.call == PAIR_CALL && d.hard == (n == 6));
			assert_false(esp_plane_poll_due(p->a, &d));
		}
		assert_int_equal(seal(p, p->a, a_tcp(p, 1, 5900, SYN)), ESP_DROP_EXHAUSTED);
		assert_false(esp_plane_has_due(p->a));
		pair_free(p);
	}
}

/* Another grant of the same call does not inherit, nor an SA through which the flow could not have begun:
 * revoking one is removing exactly that one. */
static void others_inherit_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct pair *p = pair_new(true);
		struct esp_sa_config a = pair_config_a(true), b;

		handshake(p, 1);
		a.spi_in++;
		a.spi_out++;
		b = pair_mirror(&a);
		if (i == 0)
			b.grant_id++;
		else if (i == 1)
			b.open = ESP_OPEN_OUT;
		else
			b.ts_local[0].port_lo = b.ts_local[0].port_hi = 5901;
		assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
		assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
		assert_int_equal(be32(p->outer), PAIR_SPI_A);
		esp_sa_remove(p->b, PAIR_SPI_B);
		assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), i == 2 ? ESP_DROP_NO_SA : ESP_DROP_DIRECTION);
		pair_free(p);
	}
}

/* Two calls whose selectors overlap: the second cannot use the first's flow. */
static void calls_do_not_mix(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_sa_config a = pair_config_a(true), b;

	(void)state;
	handshake(p, 1);
	a.spi_in++;
	a.spi_out++;
	a.call++;
	b = pair_mirror(&a);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	p->raw_seq = 0;
	{
		struct pkt pk = a_tcp(p, 1, 5900, ACK), query = pkt_udp(true, HOST_B, 5900, HOST_A, 1, 4);
		size_t len;

		assert_int_equal(esp_packet_seal(&p->raw, a.spi_out, 1, 1, ESP_NEXT_IP6, span_of(pk.b, pk.len),
						 p->outer, sizeof(p->outer), &len),
				 OK);
		assert_int_equal(deliver(p, p->b, p->outer, len), AT_RECEIVER(ESP_DROP_DIRECTION));
		query = b_tcp(p, 5900, 1, ACK);
		pk = pkt_icmp(true, HOST_A, HOST_B, 1, 4, span_of(query.b, query.len));
		assert_int_equal(esp_packet_seal(&p->raw, a.spi_out, 2, 2, ESP_NEXT_IP6, span_of(pk.b, pk.len),
						 p->outer, sizeof(p->outer), &len),
				 OK);
		assert_int_equal(deliver(p, p->b, p->outer, len), AT_RECEIVER(ESP_DROP_SELECTOR));
	}
	/* B's replies leave by the SA of the flow, not by the newest one. */
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(be32(p->outer), PAIR_SPI_A);
	pair_free(p);
}

static void paths(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_packet in, out[ESP_BATCH_OUT];
	struct path from,
		path = { .local = addr_ip4(0x0a000001, 4500), .remote = addr_ip4(0x0a000002, 9), .tos = 0xb8 };
	struct pkt pk = a_tcp(p, 1, 5900, SYN);

	(void)state;
	esp_call_set_path(p->a, 99, &path);
	esp_call_set_path(p->a, PAIR_CALL, &path);
	in = (struct esp_packet){ .p = pk.b, .len = pk.len };
	esp_inner_set_ecn(pk.b, 1);
	assert_int_equal(esp_plane_output(p->a, p->now, &in, 1, out), 1);
	assert_true(path_eq(out[0].path, &path));
	assert_int_equal(out[0].tos, 0xb9); /* the path's DSCP, the packet's ECN */
	/* What comes in says where it came from. */
	in = out[0];
	from = path;
	from.remote = addr_ip4(0x01020304, 5);
	in.path = &from;
	assert_int_equal(esp_plane_input(p->b, p->now, &in, 1, out), 1);
	assert_true(addr_eq(&out[0].path->remote, &from.remote));
	assert_int_equal(out[0].call, PAIR_CALL);
	pair_free(p);
}

static void config_is_checked(void **state)
{
	struct esp_plane *p = plane(3, 8);
	struct esp_sa_config good = pair_config_a(true), c;
	struct esp_plane_config cfg = { .max_sas = 0, .max_flows = 1 };
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_plane *none = NULL;
	struct esp_counters k;

	(void)state;
	cfg.rng = &rng;
	assert_int_equal(esp_plane_new(&cfg, &none), ERR_LIMIT);
	cfg.max_sas = 1;
	cfg.max_flows = 0;
	assert_int_equal(esp_plane_new(&cfg, &none), ERR_LIMIT);
	esp_plane_free(NULL);
#define BAD(change)                                                                                                    \
	do {                                                                                                           \
		c = good;                                                                                              \
		change;                                                                                                \
		assert_int_equal(esp_sa_add(p, 0, &c), ERR_MALFORMED);                                                 \
	} while (0)
	BAD(c.spi_in = 255);
	BAD(c.spi_out = 0);
	BAD(c.alg = CIPHER_COUNT);
	BAD(c.open = 0);
	BAD(c.open = 4);
	BAD(c.n_local = 0);
	BAD(c.n_peer = ESP_TS_MAX + 1);
	BAD(c.ts_local[1].family = ADDR_NONE);
	BAD(c.ts_peer[0].port_lo = 5901);
	BAD(c.ts_peer[2].ip_lo[15] = 9);
#undef BAD
	assert_int_equal(esp_sa_add(p, 0, &good), OK);
	assert_int_equal(esp_sa_add(p, 0, &good), ERR_WRONG_STATE);
	for (uint32_t i = 1; i < 3; i++) {
		c = good;
		c.spi_in += i;
		c.call += i;
		assert_int_equal(esp_sa_add(p, 0, &c), OK);
	}
	c.spi_in++;
	assert_int_equal(esp_sa_add(p, 0, &c), ERR_LIMIT);
	/* Places of calls without SAs are used again, the one that lost its last SA first. */
	esp_sa_remove(p, good.spi_in + 1);
	esp_sa_remove(p, good.spi_in);
	assert_true(esp_call_counters(p, good.call, &k) && esp_call_counters(p, good.call + 1, &k));
	c.call = 100;
	assert_int_equal(esp_sa_add(p, 0, &c), OK);
	assert_true(esp_call_counters(p, good.call, &k) && !esp_call_counters(p, good.call + 1, &k));
	for (int d = 0; d <= ESP_N_DROPS; d++)
		assert_true(strlen(esp_drop_name((enum esp_drop)d)) > 2);
	esp_plane_free(p);
}

/* ---- batches ---- */

static void batch(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_packet in[ESP_BATCH], out[ESP_BATCH_OUT], back[ESP_BATCH];
	static struct pkt pk[ESP_BATCH];
	unsigned n;

	(void)state;
	for (unsigned i = 0; i < ESP_BATCH; i++) {
		/* every third is refused, and every length differs */
		pk[i] = pkt_udp(true, HOST_A, 1, HOST_B, i % 3 ? 53 : 54, i);
		in[i] = (struct esp_packet){ .p = pk[i].b, .len = pk[i].len };
	}
	n = esp_plane_output(p->a, p->now, in, ESP_BATCH, out);
	assert_int_equal(n, ESP_BATCH - (ESP_BATCH + 2) / 3);
	out[5].p[20] ^= 1;
	assert_int_equal(esp_plane_input(p->b, p->now, out, n, back), n - 1);
	for (unsigned i = 0, at = 0; i < ESP_BATCH; i++) {
		if (i % 3 == 0 || i == 8) /* out[5] was pk[8] */
			continue;
		assert_int_equal(back[at].len, pk[i].len);
		assert_memory_equal(back[at].p, pk[i].b, pk[i].len);
		at++;
	}
	assert_int_equal(esp_plane_counters(p->a)->drops[ESP_DROP_NO_SA], (ESP_BATCH + 2) / 3);
	assert_int_equal(esp_plane_counters(p->b)->drops[ESP_DROP_AUTH], 1);
	assert_int_equal(esp_plane_input(p->b, p->now, out, 0, back), 0);
	pair_free(p);
}

/* ---- time and room ---- */

static void time_outs(void **state)
{
	struct pair *p = pair_new(true);

	(void)state;
	/* half open: 60 s, renewed by each SYN */
	assert_int_equal(esp_plane_deadline_us(p->b), TIME_NEVER);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, SYN)), PASS);
	assert_int_equal(esp_plane_deadline_us(p->b), p->now + SECONDS(60));
	p->now += SECONDS(60);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, SYNACK)), ESP_DROP_DIRECTION);
	esp_plane_tick(p->b, p->now);
	assert_int_equal(esp_plane_deadline_us(p->b), TIME_NEVER);
	/* established: 2 h, renewed by both sides */
	handshake(p, 1);
	assert_int_equal(esp_plane_deadline_us(p->b), p->now + SECONDS(7200));
	p->now += SECONDS(7199);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	p->now += SECONDS(7199);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS);
	/* one side has finished: the other may take its time */
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, FIN)), PASS);
	p->now += SECONDS(3600);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, FIN)), PASS);
	p->now += SECONDS(59);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), PASS); /* not renewed */
	p->now += SECONDS(1);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, ACK)), ESP_DROP_DIRECTION);
	/* reset: the ports may be used again at once, by the side that may open */
	handshake(p, 2);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 2, RST)), PASS);
	assert_int_equal(carry(p, true, a_tcp(p, 2, 5900, ACK)), PASS);
	handshake(p, 2);
	p->now += SECONDS(61);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 2, ACK)), PASS);
	/* datagrams: 60 s of silence */
	assert_int_equal(carry(p, true, pkt_udp(true, HOST_A, 9, HOST_B, 53, 1)), PASS);
	p->now += SECONDS(59);
	assert_int_equal(carry(p, false, pkt_udp(true, HOST_B, 53, HOST_A, 9, 1)), PASS);
	p->now += SECONDS(59);
	assert_int_equal(carry(p, false, pkt_udp(true, HOST_B, 53, HOST_A, 9, 1)), PASS);
	p->now += SECONDS(60);
	esp_plane_tick(p->b, p->now);
	assert_int_equal(carry(p, false, pkt_udp(true, HOST_B, 53, HOST_A, 9, 1)), ESP_DROP_DIRECTION);
	pair_free(p);
}

/* 8 flows, of which one call may hold 4. What both sides use is never taken. */
static void room(void **state)
{
	struct esp_sa_config a = pair_config_a(true), b;
	struct pair *p = pair_with(&a, true, 8);

	(void)state;
	handshake(p, 1);
	handshake(p, 2);
	for (uint16_t port = 100; port < 200; port++) /* a flood of SYNs, of which B's kernel answers none */
		assert_int_equal(hostile(p, a_tcp(p, port, 5900, SYN)), PASS);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 197, SYNACK)), ESP_DROP_DIRECTION); /* pushed out */
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 198, SYNACK)), PASS);
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 199, SYNACK)), PASS);
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 1, ACK)), PASS);
	assert_int_equal(seal(p, p->b, b_tcp(p, 5900, 2, ACK)), PASS);
	assert_int_equal(hostile(p, a_tcp(p, 198, 5900, ACK)), PASS);
	assert_int_equal(hostile(p, a_tcp(p, 199, 5900, ACK)), PASS);
	/* The call has its four, all in use. */
	assert_int_equal(hostile(p, a_tcp(p, 300, 5900, SYN)), AT_RECEIVER(ESP_DROP_FLOWS_FULL));
	assert_int_equal(hostile(p, pkt_udp(true, HOST_A, 300, HOST_B, 53, 1)), AT_RECEIVER(ESP_DROP_FLOWS_FULL));
	/* Another call finds room. */
	b = pair_mirror(&a);
	b.spi_in++;
	b.call++;
	b.ts_peer[0] = b.ts_peer[1] = b.ts_peer[2] = pair_ts(true, 5, 5, 0, 0, UINT16_MAX);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	for (uint16_t port = 1; port < 20; port++) {
		struct pkt pk = pkt_tcp(true, 5, port, HOST_B, 5900, SYN);
		size_t len;

		assert_int_equal(esp_packet_seal(&p->raw, b.spi_in, port, port, ESP_NEXT_IP6, span_of(pk.b, pk.len),
						 p->outer, sizeof(p->outer), &len),
				 OK);
		assert_int_equal(deliver(p, p->b, p->outer, len), PASS);
	}
	assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), PASS);
	pair_free(p);
}

/* The flow table by itself: when it is full, the call with the most half-open flows gives one. */
static void fair_eviction(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 3);
	struct esp_flows *f = NULL;
	struct esp_inner udp = { .ends = { .family = ADDR_IP6, .protocol = ESP_PROTO_UDP } };
	struct esp_tuple t[10];

	(void)state;
	assert_int_equal(esp_flows_new(&rng, 8, 3, &f), OK);
	for (uint16_t i = 0; i < 10; i++) {
		udp.ends.src_port = i;
		t[i] = esp_tuple_of(&udp.ends, true);
	}
	for (unsigned i = 0; i < 4; i++) { /* owner 0: three half open, owner 1: four answered */
		assert_true(esp_flow_make_room(f, 0));
		(void)esp_flow_open(f, i, &t[i], true, 0, 1, NULL);
		assert_true(esp_flow_make_room(f, 1));
		esp_flow_note(f, i, esp_flow_open(f, i, &t[4 + i], true, 1, 1, NULL), &udp, false);
	}
	esp_flow_note(f, 9, esp_flow_find(f, 9, &t[0]), &udp, false);
	assert_false(esp_flow_make_room(f, 1));
	assert_true(esp_flow_make_room(f, 2)); /* takes owner 0's oldest half-open one */
	assert_non_null(esp_flow_find(f, 9, &t[0]));
	assert_null(esp_flow_find(f, 9, &t[1]));
	assert_non_null(esp_flow_find(f, 9, &t[2]));
	assert_int_equal(esp_flows_len(f), 7);
	esp_flows_tick(f, SECONDS(60) + 3);
	assert_int_equal(esp_flows_len(f), 1); /* t[0], which was answered at 9 */
	assert_int_equal(esp_flows_deadline_us(f), SECONDS(60) + 9);
	esp_flows_free(f);
	esp_flows_free(NULL);
}

static bool ladder_once(void *arg)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = 4, .max_flows = 8 };
	struct esp_sa_config a = pair_config_a(true);
	struct pkt pk = pkt_tcp(true, HOST_A, 1, HOST_B, 5900, SYN);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH_OUT];
	struct esp_plane *p = NULL;
	bool whole = false;

	(void)arg;
	if (esp_plane_new(&cfg, &p) == OK && esp_sa_add(p, 0, &a) == OK) {
		a.spi_in++;
		whole = esp_sa_add(p, 0, &a) == OK;
		/* what was added works, also beside one that failed */
		if (esp_plane_output(p, 0, &in, 1, out) != 1)
			abort();
	}
	esp_plane_free(p);
	return whole;
}

static void allocation_ladder(void **state)
{
	(void)state;
	harness_alloc_ladder(ladder_once, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(removal_takes_flows),
		cmocka_unit_test(rekeying_keeps_flows),
		cmocka_unit_test(standby_waits_for_the_peer),
		cmocka_unit_test(retired_takes_what_is_late),
		cmocka_unit_test(late_flow_is_answered),
		cmocka_unit_test(not_back_to_the_first),
		cmocka_unit_test(late_packet_wakes_nobody),
		cmocka_unit_test(grant_goes_whole),
		cmocka_unit_test(lifetimes),
		cmocka_unit_test(others_inherit_nothing),
		cmocka_unit_test(calls_do_not_mix),
		cmocka_unit_test(paths),
		cmocka_unit_test(config_is_checked),
		cmocka_unit_test(batch),
		cmocka_unit_test(time_outs),
		cmocka_unit_test(room),
		cmocka_unit_test(fair_eviction),
		cmocka_unit_test(allocation_ladder),
	};

	return HARNESS_RUN(tests);
}
