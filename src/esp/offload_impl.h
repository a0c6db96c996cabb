/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/offload_impl.h - what cutting and merging share: where the fields stand that they look at (RFC 791, 8200, 9293,
 * 768), and big-endian numbers without a call for each, of which there are some thirty a packet. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	IP4_HEADER = 20, /* without options */
	IP4_AT_TOS = 1,
	IP4_AT_LEN = 2,
	IP4_AT_ID = 4,
	IP4_AT_FRAGMENT = 6,
	IP4_AT_TTL = 8,
	IP4_AT_PROTOCOL = 9,
	IP4_AT_CSUM = 10,
	IP4_AT_SRC = 12,
	IP4_DONT_FRAGMENT = 0x4000,
	IP6_HEADER = 40,
	IP6_AT_LEN = 4,
	IP6_AT_NEXT = 6,
	IP6_AT_HOPS = 7,
	IP6_AT_SRC = 8,
	TCP_HEADER = 20, /* without options */
	TCP_AT_SEQ = 4,
	TCP_AT_ACK = 8,
	TCP_AT_OFFSET = 12,
	TCP_AT_FLAGS = 13,
	TCP_AT_WINDOW = 14,
	TCP_AT_CSUM = 16,
	TCP_AT_URGENT = 18,
	TCP_FIN = 1,
	TCP_PSH = 8,
	TCP_ACK = 16,
	TCP_ECE = 64,
	TCP_CWR = 128,
	UDP_HEADER = 8,
	UDP_AT_LEN = 4,
	UDP_AT_CSUM = 6
};

static inline uint16_t at16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t at32(const uint8_t *p)
{
	return (uint32_t)at16(p) << 16 | at16(p + 2);
}

static inline uint64_t at64(const uint8_t *p)
{
	return (uint64_t)at32(p) << 32 | at32(p + 4);
}

static inline void set16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void set32(uint8_t *p, uint32_t v)
{
	set16(p, (uint16_t)(v >> 16));
	set16(p + 2, (uint16_t)v);
}

/* esp_sum() of n times four bytes, not folded as far: at most 17 bits. n is small. */
static inline uint32_t words_sum(const uint8_t *p, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += at32(p + (size_t)4 * i);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	return (uint32_t)sum;
}

/* The pseudo-header's (RFC 9293, 3.1; RFC 8200, 8.1); the same remarks. */
static inline uint32_t pseudo_sum(const uint8_t *ip, bool v6, uint8_t protocol, size_t l4_len)
{
	return (v6 ? words_sum(ip + IP6_AT_SRC, 8) : words_sum(ip + IP4_AT_SRC, 2)) + protocol + (uint32_t)l4_len;
}
