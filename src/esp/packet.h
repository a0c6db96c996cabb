/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/packet.h - one ESP packet in tunnel mode (RFC 4303, 2), with the ciphers of crypto/cipher.h:
 *
 *   SPI 4 | sequence 4 | IV 8 or 16 | { inner packet | TFC padding | 1,2,3.. | pad length 1 | next header 1 } | ICV 16
 *
 * The braces are encrypted. Pure functions of their arguments: replay numbers, selectors and policy are
 * the plane's. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "crypto/cipher.h"

#define ESP_HDR 8 /* SPI, sequence number */
#define ESP_TRAILER 2 /* pad length, next header */
#define ESP_MIN (ESP_HDR + CIPHER_IV_MIN + ESP_TRAILER + CIPHER_ICV)
/* RFC 8200, 5: IPv6 packets of this length go everywhere; and RFC 8201, 4: less nobody believes. */
#define ESP_IP6_MTU_MIN 1280
#define ESP_SPI_MIN 256 /* RFC 4303, 2.1: 0 is local, 1 to 255 are reserved */

enum esp_next { ESP_NEXT_IP4 = 4, ESP_NEXT_IP6 = 41, ESP_NEXT_DUMMY = 59 };

/* One direction of an SA. */
struct esp_cipher {
	struct cipher *cipher;
	enum cipher_alg alg;
	bool esn; /* the high half of the number is authenticated, not sent (RFC 4303, 2.2.1) */
	/* of alg: asked for each packet */
	bool combined;
	uint8_t head,
		align; /* what stands before the inner packet; a power of 2 that what is encrypted is a multiple of */
};
/* keymat is cipher_key_size(alg) bytes and is copied. rng: see cipher_new(). On failure c->cipher is NULL. */
MUST_CHECK enum err esp_cipher_init(struct esp_cipher *c, enum cipher_alg alg, const uint8_t *keymat,
				    const struct rng *rng, bool esn);
void esp_cipher_done(struct esp_cipher *c); /* wipes; fine on all zero bytes */

/* Where the inner packet stands in an outgoing or incoming one. */
size_t esp_packet_head_size(const struct esp_cipher *c);
/* As esp_packet_seal(), of an inner packet that stands in its place in `out` already. */
MUST_CHECK enum err esp_packet_seal_placed(struct esp_cipher *c, uint32_t spi, uint64_t seq, uint64_t iv, uint8_t next,
					   size_t inner_len, uint8_t *out, size_t cap, size_t *ret_len);
/* iv must never repeat under one key: the plane passes the sequence number (RFC 4106, 3.1); AES-CBC draws its own. out must not
 * overlap inner. ERR_LIMIT: it does not fit into cap. */
MUST_CHECK enum err esp_packet_seal(struct esp_cipher *c, uint32_t spi, uint64_t seq, uint64_t iv, uint8_t next,
				    struct span inner, uint8_t *out, size_t cap, size_t *ret_len);

/* The longest inner packet whose ESP packet is at most room long; 0: none. */
size_t esp_packet_inner_max(const struct esp_cipher *c, size_t room);

struct esp_head {
	uint32_t spi, seq;
};
/* ERR_MALFORMED: too short to be ESP with any of our ciphers. */
MUST_CHECK enum err esp_packet_head(struct span packet, struct esp_head *ret);
/* seq is the whole number, whose low half the packet carries. Writes at most packet.len bytes to out, which does not overlap the
 * packet, or is in it at esp_packet_head_size(). *ret_inner lies in out: what precedes the padding; an inner packet and any TFC padding after it (RFC 4303, 2.7).
 * ERR_AUTH: not from the peer, nothing may be learnt from it (a length that this cipher never
 * has included). ERR_MALFORMED: from the peer, but its trailer is wrong. Of a dummy (ESP_NEXT_DUMMY) only the next header counts (2.6) and *ret_inner is empty. */
MUST_CHECK enum err esp_packet_open(struct esp_cipher *c, uint64_t seq, struct span packet, uint8_t *out,
				    uint8_t *ret_next, struct span *ret_inner);
