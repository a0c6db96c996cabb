/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/unit/esp_pair.h - inner packets made by hand, and two planes back to back: A calls, B grants. Static
 * functions, for the plane's tests and its fuzzer. */
#pragma once
#include <string.h>

#include "esp/inner.h"
#include "esp/packet.h"
#include "esp/plane.h"

#define PAIR_CALL 7
#define PAIR_SPI_A 0xc000a001u /* inbound at A */
#define PAIR_SPI_B 0xc000b001u

struct pkt {
	uint8_t b[ESP_PACKET_MAX];
	size_t len;
};

/* fd00::LAST or 10.0.0.LAST. */
static inline void pkt_ip(uint8_t dst[16], bool v6, uint8_t last)
{
	memset(dst, 0, 16);
	if (v6) {
		dst[0] = 0xfd;
		dst[15] = last;
	} else {
		dst[0] = 10;
		dst[3] = last;
	}
}

static inline uint16_t pkt_sum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += be16(p + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* An IP packet around body. */
static inline struct pkt pkt_make(bool v6, uint8_t src, uint8_t dst, uint8_t protocol, struct span body)
{
	struct pkt p = { .len = 0 };
	uint8_t from[16], to[16];
	struct wr w = wr_of(p.b, sizeof(p.b));

	pkt_ip(from, v6, src);
	pkt_ip(to, v6, dst);
	if (v6) {
		wr_u32(&w, 0x60000000u);
		wr_u16(&w, (uint16_t)body.len);
		wr_u8(&w, protocol);
		wr_u8(&w, 64);
	} else {
		wr_u16(&w, 0x4500);
		wr_u16(&w, (uint16_t)(20 + body.len));
		wr_u32(&w, 0x00014000u);
		wr_u8(&w, 64);
		wr_u8(&w, protocol);
		wr_u16(&w, 0);
	}
	wr_bytes(&w, from, v6 ? 16 : 4);
	wr_bytes(&w, to, v6 ? 16 : 4);
	if (!v6)
		put_be16(p.b + 10, pkt_sum(p.b, 20));
	wr_span(&w, body);
	p.len = w.bad ? 0 : w.len;
	return p;
}

static inline struct pkt pkt_tcp(bool v6, uint8_t src, uint16_t sport, uint8_t dst, uint16_t dport, uint8_t flags)
{
	uint8_t b[24];
	struct wr w = wr_of(b, sizeof(b));

	wr_u16(&w, sport);
	wr_u16(&w, dport);
	wr_zero(&w, 8);
	wr_u8(&w, 5 << 4);
	wr_u8(&w, flags);
	wr_zero(&w, 6);
	wr_u32(&w, 0x64617461);
	return pkt_make(v6, src, dst, ESP_PROTO_TCP, wr_done(&w));
}

static inline struct pkt pkt_udp(bool v6, uint8_t src, uint16_t sport, uint8_t dst, uint16_t dport, size_t len)
{
	uint8_t b[ESP_PACKET_MAX];
	struct wr w = wr_of(b, sizeof(b));

	wr_u16(&w, sport);
	wr_u16(&w, dport);
	wr_u16(&w, (uint16_t)(8 + len));
	wr_u16(&w, 0);
	wr_zero(&w, len);
	return pkt_make(v6, src, dst, ESP_PROTO_UDP, wr_done(&w));
}

/* ICMP with anything behind its first four bytes. */
static inline struct pkt pkt_icmp(bool v6, uint8_t src, uint8_t dst, uint8_t type, uint8_t code, struct span inside)
{
	uint8_t b[ESP_PACKET_MAX];
	struct wr w = wr_of(b, sizeof(b));

	wr_u8(&w, type);
	wr_u8(&w, code);
	wr_zero(&w, 6);
	wr_span(&w, inside);
	return pkt_make(v6, src, dst, v6 ? ESP_PROTO_ICMP6 : ESP_PROTO_ICMP, wr_done(&w));
}

static inline struct pkt pkt_echo(bool v6, uint8_t src, uint8_t dst, bool reply)
{
	return pkt_icmp(v6, src, dst, v6 ? 128 + reply : reply ? 0 : 8, 0, SPAN_LIT("ping"));
}

static inline bool ends_same(const struct esp_ends *a, const struct esp_ends *b)
{
	return a->family == b->family && a->protocol == b->protocol && esp_ip_eq(a->src, b->src) &&
	       esp_ip_eq(a->dst, b->dst) && a->src_port == b->src_port && a->dst_port == b->dst_port;
}

/* Do both ways to parse say the same of it? */
static inline bool parsed_alike(struct span packet)
{
	struct esp_inner a, b;
	enum err e = esp_inner_parse(packet, &a);

	if (esp_inner_parse_any(packet, &b) != e)
		return false;
	return e != OK ||
	       (ends_same(&a.ends, &b.ends) && ends_same(&a.about, &b.about) && a.len == b.len &&
		a.tcp_flags == b.tcp_flags && a.dscp == b.dscp && a.ecn == b.ecn && a.fragment == b.fragment &&
		a.dont_fragment == b.dont_fragment && a.more == b.more && a.id == b.id && a.offset == b.offset &&
		a.upper == b.upper && a.fragment_at == b.fragment_at && a.cut_at == b.cut_at &&
		a.cut_next == b.cut_next && a.icmp == b.icmp && a.icmp_type == b.icmp_type &&
		a.icmp_code == b.icmp_code && a.icmp_id == b.icmp_id);
}

/* ---- two planes ---- */

enum { HOST_A = 1, HOST_B = 2 }; /* last octets of the inner addresses */

static inline struct esp_ts pair_ts(bool v6, uint8_t lo, uint8_t hi, uint8_t protocol, uint16_t port_lo,
				    uint16_t port_hi)
{
	struct esp_ts ts = {
		.family = v6 ? ADDR_IP6 : ADDR_IP4, .protocol = protocol, .port_lo = port_lo, .port_hi = port_hi
	};

	pkt_ip(ts.ip_lo, v6, lo);
	pkt_ip(ts.ip_hi, v6, hi);
	return ts;
}

/* A's side of "TCP 5900, UDP 53 and ping at B": the desktop of B for A. */
static inline struct esp_sa_config pair_config_a(bool v6)
{
	struct esp_sa_config c = { .spi_in = PAIR_SPI_A,
				   .spi_out = PAIR_SPI_B,
				   .alg = CIPHER_AES128_GCM,
				   .open = ESP_OPEN_OUT,
				   .allow_ping = true,
				   .call = PAIR_CALL,
				   .grant_id = 1 };
	uint8_t icmp = v6 ? ESP_PROTO_ICMP6 : ESP_PROTO_ICMP;

	memset(c.key_in, 0xaa, sizeof(c.key_in));
	memset(c.key_out, 0xbb, sizeof(c.key_out));
	c.ts_local[c.n_local++] = pair_ts(v6, HOST_A, HOST_A, ESP_PROTO_TCP, 0, UINT16_MAX);
	c.ts_local[c.n_local++] = pair_ts(v6, HOST_A, HOST_A, ESP_PROTO_UDP, 0, UINT16_MAX);
	c.ts_local[c.n_local++] = pair_ts(v6, HOST_A, HOST_A, icmp, 0, UINT16_MAX);
	c.ts_peer[c.n_peer++] = pair_ts(v6, HOST_B, HOST_B, ESP_PROTO_TCP, 5900, 5900);
	c.ts_peer[c.n_peer++] = pair_ts(v6, HOST_B, HOST_B, ESP_PROTO_UDP, 53, 53);
	c.ts_peer[c.n_peer++] = pair_ts(v6, HOST_B, HOST_B, icmp, 0, UINT16_MAX);
	c.path.local = addr_ip4(0xc0000201, 4500);
	c.path.remote = addr_ip4(0xc6336401, 4500);
	return c;
}

/* The same SA seen from the other end. */
static inline struct esp_sa_config pair_mirror(const struct esp_sa_config *a)
{
	struct esp_sa_config b = *a;

	b.spi_in = a->spi_out;
	b.spi_out = a->spi_in;
	memcpy(b.key_in, a->key_out, sizeof(b.key_in));
	memcpy(b.key_out, a->key_in, sizeof(b.key_out));
	memcpy(b.ts_local, a->ts_peer, sizeof(b.ts_local));
	memcpy(b.ts_peer, a->ts_local, sizeof(b.ts_peer));
	b.n_local = a->n_peer;
	b.n_peer = a->n_local;
	b.open = a->open == ESP_OPEN_IN ? ESP_OPEN_OUT : a->open == ESP_OPEN_OUT ? ESP_OPEN_IN : ESP_OPEN_BOTH;
	b.path.local = a->path.remote;
	b.path.remote = a->path.local;
	return b;
}
