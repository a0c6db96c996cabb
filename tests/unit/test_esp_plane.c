/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two planes back to back. A called B and was granted TCP 5900, UDP 53 and ping there; B granted it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "esp/flow.h"
#include "esp/replay.h"
#include "esp_pair.h"
#include "harness.h"

#define PASS (-1)
#define AT_RECEIVER(drop) (100 + (int)(drop))

enum { SYN = ESP_TCP_SYN, ACK = ESP_TCP_ACK, SYNACK = ESP_TCP_SYN | ESP_TCP_ACK, FIN = ESP_TCP_FIN | ESP_TCP_ACK,
       RST = ESP_TCP_RST };

struct pair {
	struct esp_plane *a, *b;
	uint64_t now;
	struct esp_cipher raw;            /* A's sending key, for an A that is hostile */
	uint64_t raw_seq;
	uint8_t outer[ESP_PACKET_MAX];    /* the last datagram between them */
	size_t outer_len;
	uint8_t outer_tos;
	struct pkt got;                   /* the last packet that was delivered */
	bool v6;
};

static struct esp_plane *plane(unsigned max_sas, unsigned max_flows)
{
	static struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = max_sas, .max_flows = max_flows };
	struct esp_plane *p = NULL;

	assert_int_equal(esp_plane_new(&cfg, &p), OK);
	return p;
}

static void pair_raw(struct pair *p, const struct esp_sa_config *a)
{
	assert_int_equal(esp_cipher_init(&p->raw, a->alg, a->key_out, a->esn), OK);
	p->raw_seq = 0;
}

static struct pair *pair_with(const struct esp_sa_config *a, bool v6, unsigned max_flows)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct esp_sa_config b = pair_mirror(a);

	assert_non_null(p);
	p->v6 = v6;
	p->now = SECONDS(1000);
	p->a = plane(8, max_flows);
	p->b = plane(8, max_flows);
	assert_int_equal(esp_sa_add(p->a, p->now, a), OK);
	assert_int_equal(esp_sa_add(p->b, p->now, &b), OK);
	pair_raw(p, a);
	return p;
}

static struct pair *pair_new(bool v6)
{
	struct esp_sa_config a = pair_config_a(v6);

	return pair_with(&a, v6, 64);
}

static void pair_free(struct pair *p)
{
	esp_plane_free(p->a);
	esp_plane_free(p->b);
	esp_cipher_done(&p->raw);
	free(p);
}

/* The one counter that grew since `before`. */
static int dropped(const struct esp_plane *pl, const struct esp_counters *before)
{
	const struct esp_counters *now = esp_plane_counters(pl);
	int found = PASS;

	for (int d = 0; d < ESP_N_DROPS; d++)
		if (now->drops[d] != before->drops[d]) {
			assert_int_equal(found, PASS);
			assert_int_equal(now->drops[d], before->drops[d] + 1);
			found = d;
		}
	return found;
}

static int deliver(struct pair *p, struct esp_plane *to, const uint8_t *outer, size_t len)
{
	struct esp_counters before = *esp_plane_counters(to);
	uint8_t *exact = malloc(len + 1);
	struct esp_packet in = { .p = exact, .len = len }, out[ESP_BATCH];
	unsigned n;

	assert_non_null(exact);
	if (len)
		memcpy(exact, outer, len);
	in.path.tos = p->outer_tos;
	n = esp_plane_input(to, p->now, &in, 1, out);
	free(exact);                              /* what comes out is not in it */
	if (n == 0) {
		int d = dropped(to, &before);

		assert_int_not_equal(d, PASS);
		return AT_RECEIVER(d);
	}
	assert_int_equal(n, 1);
	assert_int_equal(dropped(to, &before), PASS);
	assert_int_equal(esp_plane_counters(to)->bytes_in, before.bytes_in + out[0].len);
	memcpy(p->got.b, out[0].p, out[0].len);
	p->got.len = out[0].len;
	return PASS;
}

/* From an inner packet to the datagram in p->outer. */
static int seal(struct pair *p, struct esp_plane *from, struct pkt pk)
{
	struct esp_counters before = *esp_plane_counters(from);
	struct esp_packet in = { .p = pk.b, .len = pk.len }, out[ESP_BATCH];

	if (esp_plane_output(from, p->now, &in, 1, out) == 0) {
		int d = dropped(from, &before);

		assert_int_not_equal(d, PASS);
		return d;
	}
	assert_int_equal(out[0].call, PAIR_CALL);
	assert_true(out[0].len <= pk.len + ESP_OVERHEAD);
	assert_true(addr_eq(&out[0].path.remote, &(struct addr[]){ addr_ip4(from == p->a ? 0xc6336401 : 0xc0000201, 4500) }[0]));
	memcpy(p->outer, out[0].p, out[0].len);
	p->outer_len = out[0].len;
	p->outer_tos = out[0].path.tos;
	return PASS;
}

/* All the way; PASS means that the other end delivered the very packet. */
static int carry(struct pair *p, bool from_a, struct pkt pk)
{
	int r = seal(p, from_a ? p->a : p->b, pk);

	if (r == PASS)
		r = deliver(p, from_a ? p->b : p->a, p->outer, p->outer_len);
	if (r == PASS) {
		assert_int_equal(p->got.len, pk.len);
		assert_memory_equal(p->got.b, pk.b, pk.len);
	}
	return r;
}

/* A whose plane lets out anything: sealed with the right key, straight to B. */
static int hostile_raw(struct pair *p, uint8_t next, struct span plain)
{
	size_t len;

	p->raw_seq += 1000;               /* beyond what A's own plane has used */
	p->outer_tos = 0;
	assert_int_equal(esp_packet_seal(&p->raw, PAIR_SPI_B, p->raw_seq, p->raw_seq, next, plain, p->outer,
					 sizeof(p->outer), &len), OK);
	return deliver(p, p->b, p->outer, len);
}

static int hostile(struct pair *p, struct pkt pk)
{
	return hostile_raw(p, pk.b[0] >> 4 == 6 ? ESP_NEXT_IP6 : ESP_NEXT_IP4, span_of(pk.b, pk.len));
}

static struct pkt a_tcp(struct pair *p, uint16_t sport, uint16_t dport, uint8_t flags)
{
	return pkt_tcp(p->v6, HOST_A, sport, HOST_B, dport, flags);
}

static struct pkt b_tcp(struct pair *p, uint16_t sport, uint16_t dport, uint8_t flags)
{
	return pkt_tcp(p->v6, HOST_B, sport, HOST_A, dport, flags);
}

static void handshake(struct pair *p, uint16_t sport)
{
	assert_int_equal(carry(p, true, a_tcp(p, sport, 5900, SYN)), PASS);
	assert_int_equal(carry(p, false, b_tcp(p, 5900, sport, SYNACK)), PASS);
	assert_int_equal(carry(p, true, a_tcp(p, sport, 5900, ACK)), PASS);
}

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
		assert_int_equal(carry(p, false, pkt_echo(v6, HOST_B, HOST_A, false)), PASS);   /* both ways */
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
		const struct { struct pkt pk; int honest, evil; } row[] = {
			{ a_tcp(p, 40000, 22, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_tcp(v6, HOST_A, 1, 3, 5900, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_tcp(v6, 3, 1, HOST_B, 5900, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) }, /* spoofed source */
			{ pkt_tcp(v6, HOST_B, 1, HOST_B, 5900, SYN), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_udp(v6, HOST_A, 1, HOST_B, 54, 4), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_udp(v6, HOST_A, 1, HOST_B, 5900, 4), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_make(v6, HOST_A, HOST_B, 47, SPAN_LIT("gre")), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_echo(v6, HOST_A, 3, false), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_echo(v6, 3, HOST_B, false), ESP_DROP_NO_SA, AT_RECEIVER(ESP_DROP_SELECTOR) },
			{ pkt_icmp(v6, HOST_A, HOST_B, v6 ? 137 : 5, 0, SPAN_LIT("redirect")), ESP_DROP_NO_SA,
			  AT_RECEIVER(ESP_DROP_SELECTOR) },
			/* inside the selectors, but not an opening */
			{ a_tcp(p, 40000, 5900, ACK), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, SYNACK), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, SYN | RST), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
			{ a_tcp(p, 40000, 5900, SYN | ESP_TCP_FIN), ESP_DROP_DIRECTION, AT_RECEIVER(ESP_DROP_DIRECTION) },
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
		struct pkt query = pkt_udp(v6, HOST_A, 5353, HOST_B, 53, 200), other = pkt_udp(v6, HOST_A, 5354, HOST_B, 53, 200);
		struct pkt back = pkt_udp(v6, HOST_B, 53, HOST_A, 5353, 200), ping = pkt_echo(v6, HOST_B, HOST_A, false);
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
		assert_int_equal(hostile(p, error_about(v6, HOST_A, HOST_B, &query, 1000)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, error_about(v6, 3, HOST_B, &back, 1000)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, error_about(v6, HOST_A, 3, &back, 1000)), AT_RECEIVER(ESP_DROP_SELECTOR));
		assert_int_equal(hostile(p, error_about(v6, HOST_A, HOST_B, &back, head + 3)), AT_RECEIVER(ESP_DROP_FORMAT));
		/* The flow's end is the errors' end. */
		p->now += ESP_UDP_US;
		assert_int_equal(carry(p, false, error_about(v6, HOST_B, HOST_A, &query, 1000)), ESP_DROP_NO_SA);
		pair_free(p);
	}
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

/* ---- numbers, hold, limits ---- */

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
	assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), AT_RECEIVER(ESP_DROP_REPLAY));   /* out on the left */
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
	assert_int_equal(carry(p, false, b_tcp(p, 5900, 7, ACK)), PASS);         /* inbound goes on */
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

static void esn_passes(void **state)
{
	struct esp_sa_config a = pair_config_a(true);
	struct pair *p;

	(void)state;
	a.esn = true;
	a.alg = AEAD_CHACHA20_POLY1305;
	p = pair_with(&a, true, 64);
	handshake(p, 1);
	for (unsigned i = 1; i < 8; i++) {        /* across 2^32 twice */
		p->raw_seq = (uint64_t)i * 0x60000000u - 1000;
		assert_int_equal(hostile(p, a_tcp(p, 1, 5900, ACK)), PASS);
		assert_int_equal(deliver(p, p->b, p->outer, p->outer_len), AT_RECEIVER(ESP_DROP_REPLAY));
	}
	pair_free(p);
}

static void too_big(void **state)
{
	struct pair *p = pair_new(false);

	(void)state;
	assert_int_equal(carry(p, true, pkt_udp(false, HOST_A, 1, HOST_B, 53, ESP_PACKET_MAX - ESP_OVERHEAD - 28)), PASS);
	assert_int_equal(carry(p, true, pkt_udp(false, HOST_A, 1, HOST_B, 53, ESP_PACKET_MAX - ESP_OVERHEAD - 27)),
			 ESP_DROP_TOO_BIG);
	pair_free(p);
}

/* RFC 6040: the outer header carries the inner bits, and what the path marked comes back. */
static void ecn(void **state)
{
	static const struct { uint8_t inner, outer; int result; uint8_t then; } row[] = {
		{ 0, 0, PASS, 0 }, { 0, 1, PASS, 0 }, { 0, 2, PASS, 0 }, { 0, 3, AT_RECEIVER(ESP_DROP_FORMAT), 0 },
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
			if (row[i].result == PASS) {
				assert_int_equal(v6 ? p->got.b[1] >> 4 & 3 : p->got.b[1] & 3, row[i].then);
				if (!v6)
					assert_int_equal(pkt_sum(p->got.b, 20), 0);
			}
			pair_free(p);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_grant_passes),
		cmocka_unit_test(out_of_grant_drops),
		cmocka_unit_test(wrong_direction_drops),
		cmocka_unit_test(icmp_errors),
		cmocka_unit_test(ping_rate),
		cmocka_unit_test(ping_refused),
		cmocka_unit_test(replay_and_forgery),
		cmocka_unit_test(held),
		cmocka_unit_test(exhausted),
		cmocka_unit_test(esn_passes),
		cmocka_unit_test(too_big),
		cmocka_unit_test(ecn),
	};

	return HARNESS_RUN(tests);
}
