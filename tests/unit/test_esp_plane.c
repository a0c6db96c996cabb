/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What passes and what does not. A called B and was granted TCP 5900, UDP 53 and ping there; B granted it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "esp/replay.h"
#include "esp_carry.h"
#include "harness.h"

/* ---- grants ---- */

static void in_grant_passes(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pair *p = pair_new(v6);
		struct esp_counters c;

		handshake(p, 40000);
		assert_int_equal(carry(p, false, b_tcp(p, 5900, 40000, ACK)), PASS);
		assert_int_equal(carry(p, true, pkt_udp(v6, HOST_A, 5353, HOST_B, 53, 30)), PASS);
		assert_int_equal(carry(p, false, pkt_udp(v6, HOST_B, 53, HOST_A, 5353, 500)), PASS);
		assert_int_equal(carry(p, true, pkt_echo(v6, HOST_A, HOST_B, false)), PASS);
		assert_int_equal(carry(p, false, pkt_echo(v6, HOST_B, HOST_A, true)), PASS);
		assert_int_equal(carry(p, false, pkt_echo(v6, HOST_B, HOST_A, false)), PASS); /* both ways */
		assert_int_equal(carry(p, true, pkt_echo(v6, HOST_A, HOST_B, true)), PASS);
		assert_true(esp_call_counters(p->a, PAIR_CALL, &c));
		assert_int_equal(c.packets_out, 5);
		assert_int_equal(c.packets_in, 5);
		assert_int_equal(c.last_in_us, p->now);
		assert_memory_equal(&c, esp_plane_counters(p->a), sizeof(c));
		assert_false(esp_call_counters(p->a, PAIR_CALL + 1, &c));
		pair_free(p);
	}
}

/* What the honest end refuses, and what the grantor refuses when the caller's end is hostile. */
static void out_of_grant_drops(void **state)
{
	struct pkt other_family;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pair *p = pair_new(v6);
		const struct {
			struct pkt pk;
			int honest, evil;
		} row[] = {
			{ a_tcp(p, 40000, 22, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_tcp(v6, HOST_A, 1, 3, 5900, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_tcp(v6, 3, 1, HOST_B, 5900, SYN), ESP_DROP_NO_SA,
			  AT_RECEIVER(ESP_DROP_SELECTOR) }, /* spoofed source */
			{ pkt_tcp(v6, HOST_B, 1, HOST_B, 5900, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_udp(v6, HOST_A, 1, HOST_B, 54, 4), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_udp(v6, HOST_A, 1, HOST_B, 5900, 4), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_make(v6, HOST_A, HOST_B, 47, SPAN_LIT("gre")), ESP_DROP_NO_SA,
			  AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_echo(v6, HOST_A, 3, false), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_echo(v6, 3, HOST_B, false), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_icmp(v6, HOST_A, HOST_B, v6 ? 137 : 5, 0, SPAN_LIT("redirect")), ESP_DROP_NO_SA,
			  AT_RECEIVER(ESP_DROP_SELECTOR) },
			/* inside the selectors, but not an opening */
			{ a_tcp(p, 40000, 5900, ACK), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, SYNACK), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, SYN | RST), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, SYN | ESP_TCP_FIN), ESP_DROP_DIRECTION,
			  AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, 0), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
		};

		for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
			int honest = carry(p, true, row[i].pk), evil = hostile(p, row[i].pk);

			if (honest != row[i].honest || evil != row[i].evil)
				fail_msg("row %zu, IPv%d: %d, %d", i, v6 ? 6 : 4, honest, evil);
		}
		other_family = pkt_tcp(!v6, HOST_A, 1, HOST_B, 5900, SYN);
		assert_int_equal(carry(p, true, other_family), ESP_DROP_NO_SA);
		assert_int_equal(hostile(p, other_family), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(esp_plane_counters(p->b)->packets_in, 0);
		pair_free(p);
	}
}

/* The granting side cannot open anything towards the caller, whatever it is. */
static void wrong_direction_drops(void **state)
{
	struct esp_sa_config turned = pair_config_a(true);
	struct pair *p = pair_new(true);
	struct esp_counters c;

	(void)state;
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 40000, SYN)), ESP_DROP_DIRECTION);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 40000, SYNACK)), ESP_DROP_DIRECTION);
	assert_int_equal(carry(p, false, pkt_udp(true, HOST_B, 53, HOST_A, 99, 4)), ESP_DROP_DIRECTION);
	assert_true(esp_call_counters(p->b, PAIR_CALL, &c));
	assert_int_equal(c.drops[ESP_DROP_DIRECTION], 3);
	/* Inside a flow that A opened, B may answer but not begin anew. */
	handshake(p, 40000);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 40000, SYN)), ESP_DROP_DIRECTION);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 40001, ACK)), ESP_DROP_DIRECTION);
	assert_int_equal(carry(p, true, a_tcp(p, 40000, 5900, RST)), PASS);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 40000, SYN)), ESP_DROP_DIRECTION);
	pair_free(p);
	/* The peer is hostile: its plane sends what it likes. A grants nothing, so A's raw key serves as the peer's. */
	turned.open = ESP_OPEN_IN;
	p = pair_with(&turned, true, 64);
	assert_int_equal(hostile(p, a_tcp(p, 40000, 5900, SYN)), AT_RECEIVER(ESP_DROP_DIRECTION));
	assert_int_equal(hostile(p, a_tcp(p, 40000, 5900, ACK)), AT_RECEIVER(ESP_DROP_DIRECTION));
	assert_int_equal(hostile(p, pkt_udp(true, HOST_A, 1, HOST_B, 53, 4)), AT_RECEIVER(ESP_DROP_DIRECTION));
	pair_free(p);
}

/* ---- ICMP ---- */

static struct pkt error_about(bool v6, uint8_t src, uint8_t dst, const struct pkt *about, size_t keep)
{
	return pkt_icmp(v6, src, dst, v6 ? 1 : 3, v6 ? 4 : 3, span_of(about->b, keep < about->len ? keep : about->len));
}

static void icmp_errors(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		struct pair *p = pair_new(v6);
		struct pkt query = pkt_udp(v6, HOST_A, 5353, HOST_B, 53, 200),
			   other = pkt_udp(v6, HOST_A, 5354, HOST_B, 53, 200);
		struct pkt back = pkt_udp(v6, HOST_B, 53, HOST_A, 5353, 200),
			   ping = pkt_echo(v6, HOST_B, HOST_A, false);
		size_t head = v6 ? 40 : 20;

		assert_int_equal(carry(p, true, query), PASS);
		/* B's kernel says that nobody listens: about a packet that A sent. */
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &query, 1000)), PASS);
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &query, head + 8)), PASS);
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &query, head + 7)), ESP_DROP_FORMAT);
		/* About a flow that is not there, or that is turned round, or with an inside that was not ours to send. */
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &other, 1000)), ESP_DROP_NO_SA);
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &back, 1000)), ESP_DROP_NO_SA);
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, 3, &query, 1000)), ESP_DROP_NO_SA);
		assert_int_equal(carry(p, false, error_about(v6, 3, HOST_A, &query, 1000)), ESP_DROP_NO_SA);
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &ping, 1000)), ESP_DROP_NO_SA);
		/* A hostile A against B: the same, judged after decryption. */
		assert_int_equal(hostile(p, error_about(v6, HOST_A, HOST_B, &back, 1000)), PASS);
		assert_int_equal(hostile(p, error_about(v6, HOST_A, HOST_B, &query, 1000)),
				 AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, error_about(v6, 3, HOST_B, &back, 1000)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, error_about(v6, HOST_A, 3, &back, 1000)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, error_about(v6, HOST_A, HOST_B, &back, head + 3)),
				 AT_RECEIVER(ESP_DROP_FORMAT));
		/* The flow's end is the errors' end. */
		p->now += SECONDS(60);
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &query, 1000)), ESP_DROP_NO_SA);
		pair_free(p);
	}
}

/* A grant of a network: any protocol between two ranges. */
static void network_grant(void **state)
{
	struct esp_sa_config a = pair_config_a(true);
	struct pkt gre = pkt_make(true, HOST_A, HOST_B, 47, SPAN_LIT("gre")),
		   query = pkt_udp(true, HOST_A, 1, HOST_B, 9, 4);
	struct pair *p;

	(void)state;
	a.n_local = a.n_peer = 1;
	a.ts_local[0] = pair_ts(true, 1, 5, 0, 0, UINT16_MAX);
	a.ts_peer[0] = pair_ts(true, 1, 5, 0, 0, UINT16_MAX);
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, gre), PASS);
	assert_int_equal(carry(p, false, pkt_make(true, HOST_B, HOST_A, 47, SPAN_LIT("back"))), PASS);
	assert_int_equal(carry(p, false, pkt_make(true, HOST_B, HOST_A, 46, SPAN_LIT("back"))), ESP_DROP_DIRECTION);
	assert_int_equal(carry(p, true, query), PASS);
	/* A router on the way may tell of an error (the range has it), but only the one who sent the packet. */
	assert_int_equal(carry(p, false, error_about(true, 4, HOST_A, &query, 1000)), PASS);
	assert_int_equal(carry(p, false, error_about(true, 4, 3, &query, 1000)), ESP_DROP_NO_SA);
	pair_free(p);
	/* Ports are named: what has none is not inside. */
	a.ts_peer[0] = pair_ts(true, 1, 5, 0, 9, 9);
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, gre), ESP_DROP_NO_SA);
	assert_int_equal(hostile(p, gre), AT_RECEIVER(ESP_DROP_SELECTOR));
	assert_int_equal(carry(p, true, query), PASS);
	pair_free(p);
	/* All of IPv4 is nothing of IPv6. */
	a.ts_peer[0] = a.ts_local[0] = pair_ts(false, 0, 0, 0, 0, UINT16_MAX);
	memset(a.ts_local[0].ip_lo, 0, 4);
	memset(a.ts_local[0].ip_hi, 255, 4);
	a.ts_peer[0] = a.ts_local[0];
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, query), ESP_DROP_NO_SA);
	assert_int_equal(hostile(p, query), AT_RECEIVER(ESP_DROP_SELECTOR));
	assert_int_equal(carry(p, true, pkt_tcp(false, HOST_A, 1, HOST_B, 22, SYN)), PASS);
	pair_free(p);
}

static void ping_rate(void **state)
{
	struct pair *p = pair_new(true);
	struct pkt ping = pkt_echo(true, HOST_A, HOST_B, false);

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(carry(p, true, ping), PASS);
	assert_int_equal(carry(p, true, ping), ESP_DROP_PING_RATE);
	assert_int_equal(hostile(p, ping), AT_RECEIVER(ESP_DROP_PING_RATE));
	/* B's own way is not used up by A. */
	assert_int_equal(carry(p, false, pkt_echo(true, HOST_B, HOST_A, true)), PASS);
	p->now += 100000;
	assert_int_equal(carry(p, true, ping), PASS);
	assert_int_equal(carry(p, true, ping), ESP_DROP_PING_RATE);
	for (unsigned i = 0; i < 50; i++) {
		p->now += 100000;
		assert_int_equal(carry(p, true, ping), PASS);
	}
	pair_free(p);
}

/* Without ping in the grant, and with selectors that name no ICMP. */
static void ping_refused(void **state)
{
	struct esp_sa_config a = pair_config_a(true);
	struct pkt ping = pkt_echo(true, HOST_A, HOST_B, false);
	struct pair *p;

	(void)state;
	a.allow_ping = false;
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, ping), ESP_DROP_NO_SA);
	assert_int_equal(hostile(p, ping), AT_RECEIVER(ESP_DROP_SELECTOR));
	pair_free(p);
	a.allow_ping = true;
	a.n_local = a.n_peer = 2;
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, ping), ESP_DROP_NO_SA);
	assert_int_equal(hostile(p, ping), AT_RECEIVER(ESP_DROP_SELECTOR));
	pair_free(p);
	/* Only echo requests (type 128, any code): the reply belongs to it, an unreachable does not. */
	a = pair_config_a(true);
	a.ts_local[2] = pair_ts(true, HOST_A, HOST_A, ESP_PROTO_ICMP6, 128 << 8, (128 << 8) + 255);
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, ping), PASS);
	assert_int_equal(carry(p, false, pkt_echo(true, HOST_B, HOST_A, true)), PASS);
	pair_free(p);
}

/* Of a network: only who may open flows asks, only the other answers. A called. */
static void ping_one_way(void **state)
{
	struct pkt there = pkt_echo(true, HOST_A, HOST_B, false), back = pkt_echo(true, HOST_B, HOST_A, true);
	struct pkt asks = pkt_echo(true, HOST_B, HOST_A, false), answers = pkt_echo(true, HOST_A, HOST_B, true);
	struct esp_sa_config a = pair_config_a(true);
	struct pair *p;

	(void)state;
	a.ping_one_way = true;
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, there), PASS);
	assert_int_equal(carry(p, false, back), PASS);
	assert_int_equal(carry(p, false, asks), ESP_DROP_NO_SA);
	assert_int_equal(carry(p, true, answers), ESP_DROP_NO_SA);
	/* `ping` taken back is about the peer's own address, not about a network */
	esp_call_ping_off(p->a, PAIR_CALL);
	assert_int_equal(carry(p, true, there), PASS);
	pair_free(p);
	p = pair_with(&a, true, 64);
	assert_int_equal(hostile(p, answers), AT_RECEIVER(ESP_DROP_DIRECTION));
	pair_free(p);
}

/* ---- numbers, hold, limits ---- */

/* Taken back while the call is up: both ends' own echo and what a hostile peer sends, but not the service. */
static void ping_taken_back(void **state)
{
	struct esp_sa_config a = pair_config_a(true);
	struct pkt ping = pkt_echo(true, HOST_A, HOST_B, false);
	struct pair *p;

	(void)state;
	p = pair_with(&a, true, 64);
	assert_int_equal(carry(p, true, ping), PASS);
	esp_call_ping_off(p->b, PAIR_CALL + 1);
	assert_int_equal(carry(p, true, ping), PASS);
	esp_call_ping_off(p->b, PAIR_CALL);
	assert_int_equal(hostile(p, ping), AT_RECEIVER(ESP_DROP_SELECTOR));
	assert_int_equal(carry(p, false, pkt_echo(true, HOST_B, HOST_A, false)), ESP_DROP_NO_SA);
	assert_int_equal(carry(p, true, pkt_tcp(true, HOST_A, 40000, HOST_B, 5900, ESP_TCP_SYN)), PASS);
	pair_free(p);
}

static void replay_and_forgery(void **state)
{
	struct pair *p = pair_new(true);
	uint8_t kept[ESP_PACKET_MAX], big[ESP_PACKET_MAX + 1];
	size_t len;

	(void)state;
	assert_int_equal(seal(p, p->a, a_tcp(p, 1, 5900, SYN)), PASS);
	len = p->outer_len;
	memcpy(kept, p->outer, len);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(deliver(p, p->b, kept, n), AT_RECEIVER(n < ESP_MIN ? ESP_DROP_SHORT : ESP_DROP_AUTH));
	for (size_t i = 0; i < len; i++) {
		int d;

		kept[i] ^= 0x10;
		d = deliver(p, p->b, kept, len);
		kept[i] ^= 0x10;
		assert_int_equal(d, AT_RECEIVER(i < 4 ? ESP_DROP_UNKNOWN_SPI : ESP_DROP_AUTH));
	}
	/* None of the forgeries moved the window. */
	assert_int_equal(deliver(p, p->b, kept, len), PASS);
	assert_int_equal(deliver(p, p->b, kept, len), AT_RECEIVER(ESP_DROP_REPLAY));
	assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), PASS);
	p->raw_seq += 2000;
	assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), PASS);
	p->raw_seq -= 1000 + ESP_REPLAY_WINDOW;
	assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), AT_RECEIVER(ESP_DROP_REPLAY)); /* out on the left */
	p->outer_tos = 0;
	memset(big, 0, sizeof(big));
	put_be32(big, PAIR_SPI_B);
	put_be32(big + 4, 0x7fffffff);
	assert_int_equal(deliver(p, p->b, big, sizeof(big)), AT_RECEIVER(ESP_DROP_TOO_BIG));
	assert_int_equal(deliver(p, p->b, big, ESP_PACKET_MAX), AT_RECEIVER(ESP_DROP_AUTH));
	pair_free(p);
}

static void held(void **state)
{
	struct pair *p = pair_new(true);

	(void)state;
	handshake(p, 7);
	esp_call_hold(p->a, PAIR_CALL, true);
	esp_call_hold(p->a, 99, true);
	assert_int_equal(carry(p, true, a_tcp(p, 7, 5900, ACK)), ESP_DROP_HELD);
	assert_int_equal(carry(p, true, a_tcp(p, 8, 5900, SYN)), ESP_DROP_HELD);
	assert_int_equal(carry(p, true, pkt_echo(true, HOST_A, HOST_B, false)), ESP_DROP_HELD);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 7, ACK)), PASS); /* inbound goes on */
	esp_call_hold(p->a, PAIR_CALL, false);
	assert_int_equal(carry(p, true, a_tcp(p, 7, 5900, ACK)), PASS);
	pair_free(p);
}

static void exhausted(void **state)
{
	struct esp_sa_config a = pair_config_a(true);
	struct pair *p;

	(void)state;
	a.hard_packets = 3;
	p = pair_with(&a, true, 64);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, SYN)), PASS);
	assert_int_equal(carry(p, true, a_tcp(p, 1, 5900, SYN)), ESP_DROP_EXHAUSTED);
	assert_int_equal(carry(p, true, pkt_echo(true, HOST_A, HOST_B, false)), ESP_DROP_EXHAUSTED);
	/* A new SA of the grant carries the flow on. */
	a.spi_in++;
	a.hard_packets = 0;
	assert_int_equal(esp_sa_add(p->a, p->now, &a), OK);
	assert_int_equal(seal(p, p->a, a_tcp(p, 1, 5900, SYN)), PASS);
	assert_int_equal(be32(p->outer + 4), 1);
	pair_free(p);
}

static void esn_with(enum cipher_alg alg)
{
	struct esp_sa_config a = pair_config_a(true);
	struct pair *p;

	a.esn = true;
	a.alg = alg;
	p = pair_with(&a, true, 64);
	handshake(p, 1);
	for (unsigned i = 1; i < 8; i++) { /* across 2^32 twice */
		p->raw_seq = (uint64_t)i * 0x60000000u - 1000;
		assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), PASS);
		assert_int_equal(deliver(p, p->b, p->outer, p->outer_len), AT_RECEIVER(ESP_DROP_REPLAY));
	}
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 1, ACK)), PASS);
	pair_free(p);
}

static void esn_passes(void **state)
{
	(void)state;
	for (enum cipher_alg alg = 0; alg < CIPHER_COUNT; alg++)
		esn_with(alg);
}

/* The longest inner packet fits with each cipher, whatever its padding. */
static void longest(void **state)
{
	(void)state;
	for (enum cipher_alg alg = 0; alg < CIPHER_COUNT; alg++)
		for (unsigned less = 0; less < 16; less++) {
			struct esp_sa_config a = pair_config_a(false);
			struct pair *p;

			a.alg = alg;
			p = pair_with(&a, false, 64);
			assert_int_equal(
				carry(p, true,
				      pkt_udp(false, HOST_A, 1, HOST_B, 53, ESP_PACKET_MAX - ESP_OVERHEAD - 28 - less)),
				PASS);
			pair_free(p);
		}
}

static void too_big(void **state)
{
	struct pair *p = pair_new(false);

	(void)state;
	assert_int_equal(carry(p, true, pkt_udp(false, HOST_A, 1, HOST_B, 53, ESP_PACKET_MAX - ESP_OVERHEAD - 28)),
			 PASS);
	assert_int_equal(carry(p, true, pkt_udp(false, HOST_A, 1, HOST_B, 53, ESP_PACKET_MAX - ESP_OVERHEAD - 27)),
			 ESP_DROP_TOO_BIG);
	pair_free(p);
}

/* RFC 6040: the outer header carries the inner bits, and what the path marked comes back. */
static void ecn(void **state)
{
	static const struct {
		uint8_t inner, outer;
		int result;
		uint8_t then;
	} row[] = {
		{ 0, 0, PASS, 0 }, { 0, 1, PASS, 0 }, { 0, 2, PASS, 0 }, { 0, 3, AT_RECEIVER(ESP_DROP_ECN), 0 },
		{ 1, 0, PASS, 1 }, { 1, 1, PASS, 1 }, { 1, 2, PASS, 1 }, { 1, 3, PASS, 3 },
		{ 2, 0, PASS, 2 }, { 2, 1, PASS, 1 }, { 2, 2, PASS, 2 }, { 2, 3, PASS, 3 },
		{ 3, 0, PASS, 3 }, { 3, 1, PASS, 3 }, { 3, 2, PASS, 3 }, { 3, 3, PASS, 3 },
	};

	(void)state;
	for (int v6 = 0; v6 < 2; v6++)
		for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
			struct pair *p = pair_new(v6);
			struct pkt pk = a_tcp(p, 1, 5900, SYN);

			esp_inner_set_ecn(pk.b, row[i].inner);
			assert_int_equal(seal(p, p->a, pk), PASS);
			assert_int_equal(p->outer_tos, row[i].inner);
			p->outer_tos = row[i].outer;
			assert_int_equal(deliver(p, p->b, p->outer, p->outer_len), row[i].result);
			/* figure 4: marked with (!) or (!!!) */
			assert_int_equal(esp_plane_counters(p->b)->ecn_odd,
					 i == 1 || i == 2 || i == 3 || i == 6 || i == 13);
			if (row[i].result == PASS) {
				assert_int_equal(v6 ? p->got.b[1] >> 4 & 3 : p->got.b[1] & 3, row[i].then);
				if (!v6)
					assert_int_equal(pkt_sum(p->got.b, 20), 0);
			}
			pair_free(p);
		}
}

/* ---- a peer that sends anything ---- */

/* Whatever it seals: what B delivers is inside the grant and opened by A, and nothing is read out of bounds. */
static void hostile_anything(void **state)
{
	struct pair *p = pair_new(true);
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 46193);
	unsigned n_passed = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		static const uint8_t nexts[] = { 4, 41, 59, 6, 17, 58, 0, 255 };
		struct pkt base[] = { a_tcp(p, (uint16_t)(i % 50), 5900, SYN), a_tcp(p, (uint16_t)(i % 50), 5900, ACK),
				      pkt_udp(true, HOST_A, 9, HOST_B, 53, 20), pkt_echo(true, HOST_A, HOST_B, false),
				      pkt_tcp(false, HOST_A, 1, HOST_B, 5900, SYN) };
		struct pkt pk = base[rng_below(&rng, 5)];
		unsigned n = rng_below(&rng, 4);
		struct esp_inner got;

		for (unsigned k = 0; k < n; k++)
			pk.b[rng_below(&rng, (uint32_t)pk.len)] = (uint8_t)rng_u32(&rng);
		pk.len = rng_below(&rng, 4) ? pk.len + rng_below(&rng, 5) : rng_below(&rng, (uint32_t)pk.len + 1);
		p->now += rng_below(&rng, 20000);
		if (p->raw_seq > UINT32_MAX - 2000) {
			pair_free(p);
			p = pair_new(true);
		}
		if (hostile_raw(p, rng_below(&rng, 8) ? 41 : nexts[rng_below(&rng, 8)], span_of(pk.b, pk.len)) != PASS)
			continue;
		n_passed++;
		assert_int_equal(esp_inner_parse(span_of(p->got.b, p->got.len), &got), OK);
		assert_int_equal(got.len, p->got.len);
		assert_true(got.ends.family == ADDR_IP6 && got.ends.src[15] == HOST_A && got.ends.dst[15] == HOST_B);
		assert_true(got.icmp != ESP_ICMP_OTHER);
		if (got.ends.protocol == ESP_PROTO_TCP)
			assert_int_equal(got.ends.dst_port, 5900);
		else if (got.ends.protocol == ESP_PROTO_UDP)
			assert_int_equal(got.ends.dst_port, 53);
		else
			assert_int_equal(got.ends.protocol, ESP_PROTO_ICMP6);
	}
	assert_true(n_passed > 1000);
	pair_free(p);
}

/* TFC padding is no part of what is delivered (RFC 4303, 2.7); dummies and other contents are dropped. */
static void odd_contents(void **state)
{
	struct pair *p = pair_new(true);
	struct pkt pk = a_tcp(p, 1, 5900, SYN);
	size_t len = pk.len;

	(void)state;
	memset(pk.b + len, 0x5a, 100);
	assert_int_equal(hostile_raw(p, 41, span_of(pk.b, len + 100)), PASS);
	assert_int_equal(p->got.len, len);
	assert_memory_equal(p->got.b, pk.b, len);
	assert_int_equal(hostile_raw(p, 59, span_of(pk.b, 3)), AT_RECEIVER(ESP_DROP_DUMMY));
	assert_int_equal(hostile_raw(p, 4, span_of(pk.b, len)), AT_RECEIVER(ESP_DROP_FORMAT));
	assert_int_equal(hostile_raw(p, 6, span_of(pk.b + 40, len - 40)), AT_RECEIVER(ESP_DROP_FORMAT));
	for (size_t n = 0; n < len; n++)
		assert_int_equal(hostile_raw(p, 41, span_of(pk.b, n)), AT_RECEIVER(ESP_DROP_FORMAT));
	/* AH, ESP in ESP, transport mode, wrapped ESP: nothing but tunnel mode */
	for (unsigned next = 0; next < 256; next++)
		if (next != ESP_NEXT_IP4 && next != ESP_NEXT_IP6 && next != ESP_NEXT_DUMMY)
			assert_int_equal(hostile_raw(p, (uint8_t)next, span_of(pk.b, len)),
					 AT_RECEIVER(ESP_DROP_FORMAT));
	/* a dummy of any length, without any contents as well */
	assert_int_equal(hostile_raw(p, 59, SPAN_NONE), AT_RECEIVER(ESP_DROP_DUMMY));
	assert_int_equal(hostile_raw(p, 59, span_of(pk.b, 1400)), AT_RECEIVER(ESP_DROP_DUMMY));
	pair_free(p);
	/* IPv4's length rules over what follows it, too */
	p = pair_new(false);
	pk = a_tcp(p, 1, 5900, SYN);
	len = pk.len;
	memset(pk.b + len, 0x5a, 1000);
	assert_int_equal(hostile_raw(p, 4, span_of(pk.b, len + 1000)), PASS);
	assert_int_equal(p->got.len, len);
	assert_memory_equal(p->got.b, pk.b, len);
	/* RFC 4303, 2.2: the first number is 1 */
	{
		size_t n;

		assert_int_equal(esp_packet_seal(&p->raw, PAIR_SPI_B, 0, 0, ESP_NEXT_IP4, span_of(pk.b, len), p->outer,
						 sizeof(p->outer), &n),
				 OK);
		assert_int_equal(deliver(p, p->b, p->outer, n), AT_RECEIVER(ESP_DROP_REPLAY));
	}
	pair_free(p);
}

/* A port that no SA covers is counted in the call of the two hosts; other hosts only in the whole. */
static void no_sa_is_counted_in_its_call(void **state)
{
	struct pair *p = pair_new(true);
	struct esp_counters c;

	(void)state;
	assert_int_equal(carry(p, true, a_tcp(p, 40000, 22, SYN)), ESP_DROP_NO_SA);
	assert_int_equal(carry(p, true, pkt_tcp(true, HOST_A, 1, 3, 5900, SYN)), ESP_DROP_NO_SA);
	assert_true(esp_call_counters(p->a, PAIR_CALL, &c));
	assert_int_equal(c.drops[ESP_DROP_NO_SA], 1);
	assert_int_equal(esp_plane_counters(p->a)->drops[ESP_DROP_NO_SA], 2);
	pair_free(p);
}

/* Keys are there before the path: nothing is sent to nowhere. */
static void no_path_yet(void **state)
{
	struct pair *p = pair_new(true);
	struct path none = { .transport = TRANSPORT_UDP };

	(void)state;
	esp_call_set_path(p->a, PAIR_CALL, &none);
	assert_int_equal(carry(p, true, a_tcp(p, 40000, 5900, SYN)), ESP_DROP_HELD);
	pair_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_grant_passes),
		cmocka_unit_test(no_sa_is_counted_in_its_call),
		cmocka_unit_test(no_path_yet),
		cmocka_unit_test(out_of_grant_drops),
		cmocka_unit_test(wrong_direction_drops),
		cmocka_unit_test(icmp_errors),
		cmocka_unit_test(network_grant),
		cmocka_unit_test(ping_rate),
		cmocka_unit_test(ping_refused),
		cmocka_unit_test(ping_one_way),
		cmocka_unit_test(ping_taken_back),
		cmocka_unit_test(replay_and_forgery),
		cmocka_unit_test(held),
		cmocka_unit_test(exhausted),
		cmocka_unit_test(esn_passes),
		cmocka_unit_test(longest),
		cmocka_unit_test(too_big),
		cmocka_unit_test(ecn),
		cmocka_unit_test(hostile_anything),
		cmocka_unit_test(odd_contents),
	};

	return HARNESS_RUN(tests);
}
