/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/packet.h"

#include "crypto/secret.h"

enum err esp_cipher_init(struct esp_cipher *c, enum cipher_alg alg, const uint8_t *keymat, const struct rng *rng,
			 bool esn)
{
	*c = (struct esp_cipher){ .alg = alg, .esn = esn };
	return cipher_new(alg, keymat, rng, &c->cipher);
}

void esp_cipher_done(struct esp_cipher *c)
{
	cipher_free(c->cipher);
	secret_wipe(c, sizeof(*c));
}

/* Combined modes: SPI and number, of 64 bits with ESN (RFC 4106, 5; RFC 7634, 2.1). Else: SPI and the low half before,
 * with ESN the high half after everything (RFC 4303, 2.2.1). */
static struct cipher_about about_of(const struct esp_cipher *c, uint32_t spi, uint64_t seq, uint8_t mem[12])
{
	put_be32(mem, spi);
	put_be32(mem + 4, (uint32_t)seq);
	if (!c->esn)
		return (struct cipher_about){ .head = span_of(mem, 8) };
	if (!cipher_combined(c->alg)) {
		put_be32(mem + 8, (uint32_t)(seq >> 32));
		return (struct cipher_about){ .head = span_of(mem, 8), .tail = span_of(mem + 8, 4) };
	}
	put_be64(mem + 4, seq);
	return (struct cipher_about){ .head = span_of(mem, 12) };
}

/* RFC 4303, 2.4: the next header ends at a multiple of 4 and of the block. */
static size_t align_of(const struct esp_cipher *c)
{
	return cipher_block(c->alg) > 4 ? cipher_block(c->alg) : 4;
}

size_t esp_packet_inner_max(const struct esp_cipher *c, size_t room)
{
	size_t over = ESP_HDR + cipher_iv_size(c->alg) + CIPHER_ICV, body;

	if (room < over)
		return 0;
	body = (room - over) / align_of(c) * align_of(c);
	return body > ESP_TRAILER ? body - ESP_TRAILER : 0;
}

enum err esp_packet_seal(struct esp_cipher *c, uint32_t spi, uint64_t seq, uint64_t iv, uint8_t next, struct span inner,
			 uint8_t *out, size_t cap, size_t *ret_len)
{
	size_t align = align_of(c); /* and the padding counts from 1 (RFC 4303, 2.4) */
	size_t body = ESP_HDR + cipher_iv_size(c->alg);
	struct wr w = wr_of(out, cap);
	struct cipher_about about;
	uint8_t mem[12], pad = 0;
	enum err e;

	wr_u32(&w, spi);
	wr_u32(&w, (uint32_t)seq);
	wr_zero(&w, cipher_iv_size(c->alg));
	wr_span(&w, inner);
	while ((inner.len + pad + ESP_TRAILER) % align != 0)
		wr_u8(&w, ++pad);
	wr_u8(&w, pad);
	wr_u8(&w, next);
	wr_zero(&w, CIPHER_ICV);
	if (w.bad)
		return ERR_LIMIT;
	about = about_of(c, spi, seq, mem);
	e = cipher_seal(c->cipher, &about, iv, out + ESP_HDR, w.len - body - CIPHER_ICV);
	if (e != OK)
		return e;
	*ret_len = w.len;
	return OK;
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
	about = about_of(c, be32(packet.p), seq, mem);
	e = cipher_open(c->cipher, &about, span_from(packet, ESP_HDR), out, &len);
	if (e == ERR_MALFORMED)
		return ERR_AUTH;
	if (e != OK)
		return e;
	return len < ESP_TRAILER ? ERR_MALFORMED : trailer(span_of(out, len), ret_next, ret_inner);
}
