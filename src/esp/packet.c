/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/packet.h"

#include <string.h>

#include "crypto/secret.h"

enum err esp_cipher_init(struct esp_cipher *c, enum cipher_alg alg, const uint8_t *keymat, const struct rng *rng,
			 bool esn)
{
	/* RFC 4303, 2.4: the next header ends at a multiple of 4 and of the block. */
	*c = (struct esp_cipher){ .alg = alg,
				  .esn = esn,
				  .combined = cipher_combined(alg),
				  .head = (uint8_t)(ESP_HDR + cipher_iv_size(alg)),
				  .align = (uint8_t)(cipher_block(alg) > 4 ? cipher_block(alg) : 4) };
	return cipher_new(alg, keymat, rng, &c->cipher);
}

void esp_cipher_done(struct esp_cipher *c)
{
	cipher_free(c->cipher);
	secret_wipe(c, sizeof(*c));
}

/* Combined modes: SPI and number, of 64 bits with ESN (RFC 4106, 5; RFC 7634, 2.1). Else: SPI and the low half before,
 * with ESN the high half after everything (RFC 4303, 2.2.1). */
static void about_set(const struct esp_cipher *c, uint32_t spi, uint64_t seq, uint8_t mem[12], struct cipher_about *ret)
{
	ret->head.p = mem;
	ret->head.len = 8;
	ret->tail.p = NULL;
	ret->tail.len = 0;
	put_be64(mem, (uint64_t)spi << 32 | (uint32_t)seq);
	if (!c->esn)
		return;
	if (c->combined) {
		put_be64(mem + 4, seq);
		ret->head.len = 12;
	} else {
		put_be32(mem + 8, (uint32_t)(seq >> 32));
		ret->tail.p = mem + 8;
		ret->tail.len = 4;
	}
}

size_t esp_packet_inner_max(const struct esp_cipher *c, size_t room)
{
	size_t over = (size_t)c->head + CIPHER_ICV, body;

	if (room < over)
		return 0;
	body = (room - over) / c->align * c->align;
	return body > ESP_TRAILER ? body - ESP_TRAILER : 0;
}

size_t esp_packet_head_size(const struct esp_cipher *c)
{
	return c->head;
}

enum err esp_packet_seal_placed(struct esp_cipher *c, uint32_t spi, uint64_t seq, uint64_t iv, uint8_t next,
				size_t inner_len, uint8_t *out, size_t cap, size_t *ret_len)
{
	size_t body = c->head, pad = -(inner_len + ESP_TRAILER) & (c->align - 1u);
	size_t len = inner_len + pad + ESP_TRAILER;
	struct cipher_about about;
	uint8_t mem[12];
	enum err e;

	if (inner_len > cap || body + len + CIPHER_ICV > cap)
		return ERR_LIMIT;
	put_be32(out, spi);
	put_be32(out + 4, (uint32_t)seq);
	for (size_t i = 0; i < pad; i++) /* it counts from 1 (RFC 4303, 2.4) */
		out[body + inner_len + i] = (uint8_t)(i + 1);
	out[body + len - 2] = (uint8_t)pad;
	out[body + len - 1] = next;
	about_set(c, spi, seq, mem, &about);
	e = cipher_seal(c->cipher, &about, iv, out + ESP_HDR, len);
	if (e != OK)
		return e;
	*ret_len = body + len + CIPHER_ICV;
	return OK;
}

enum err esp_packet_seal(struct esp_cipher *c, uint32_t spi, uint64_t seq, uint64_t iv, uint8_t next, struct span inner,
			 uint8_t *out, size_t cap, size_t *ret_len)
{
	size_t at = esp_packet_head_size(c);

	if (at > cap || inner.len > cap - at)
		return ERR_LIMIT;
	if (inner.len)
		memcpy(out + at, inner.p, inner.len);
	return esp_packet_seal_placed(c, spi, seq, iv, next, inner.len, out, cap, ret_len);
}

enum err esp_packet_head(struct span packet, struct esp_head *ret)
{
	if (packet.len < ESP_MIN)
		return ERR_MALFORMED;
	*ret = (struct esp_head){ be32(packet.p), be32(packet.p + 4) };
	return OK;
}

/* The decrypted part, from its end. */
static enum err trailer(struct span plain, uint8_t *ret_next, struct span *ret_inner)
{
	uint8_t next = plain.p[plain.len - 1], pad = plain.p[plain.len - 2];
	size_t len = plain.len - ESP_TRAILER;

	if (next == ESP_NEXT_DUMMY) {
		*ret_inner = SPAN_NONE;
		*ret_next = next;
		return OK;
	}
	if (pad > len)
		return ERR_MALFORMED;
	len -= pad;
	/* RFC 4303, 2.4: the receiver SHOULD inspect the padding. */
	for (unsigned i = 0; i < pad; i++)
		if (plain.p[len + i] != i + 1)
			return ERR_MALFORMED;
	*ret_inner = span_of(plain.p, len);
	*ret_next = next;
	return OK;
}

enum err esp_packet_open(struct esp_cipher *c, uint64_t seq, struct span packet, uint8_t *out, uint8_t *ret_next,
			 struct span *ret_inner)
{
	struct cipher_about about;
	uint8_t mem[12];
	size_t len;
	enum err e;

	if (packet.len < ESP_MIN)
		return ERR_MALFORMED;
	about_set(c, be32(packet.p), seq, mem, &about);
	e = cipher_open(c->cipher, &about, span_from(packet, ESP_HDR), out, &len);
	if (e == ERR_MALFORMED)
		return ERR_AUTH;
	if (e != OK)
		return e;
	return len < ESP_TRAILER ? ERR_MALFORMED : trailer(span_of(out, len), ret_next, ret_inner);
}
