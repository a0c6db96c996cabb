/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/packet.h"

#include <string.h>

#include "crypto/secret.h"

enum err esp_cipher_init(struct esp_cipher *c, enum aead_alg alg, const uint8_t *keymat, bool esn)
{
	enum err e;

	memset(c, 0, sizeof(*c));
	e = aead_new(alg, keymat, &c->aead);
	if (e != OK)
		return e;
	memcpy(c->salt, keymat + aead_key_size(alg), ESP_SALT);
	c->esn = esn;
	return OK;
}

void esp_cipher_done(struct esp_cipher *c)
{
	aead_free(c->aead);
	secret_wipe(c, sizeof(*c));
}

static void nonce_of(const struct esp_cipher *c, const uint8_t *iv, uint8_t nonce[AEAD_NONCE])
{
	memcpy(nonce, c->salt, ESP_SALT);
	memcpy(nonce + ESP_SALT, iv, AEAD_NONCE - ESP_SALT);
}

/* RFC 4106, 5: SPI and number; the number has 64 bits with ESN. */
static struct span aad_of(const struct esp_cipher *c, uint32_t spi, uint64_t seq, uint8_t aad[12])
{
	put_be32(aad, spi);
	if (!c->esn) {
		put_be32(aad + 4, (uint32_t)seq);
		return span_of(aad, 8);
	}
	put_be64(aad + 4, seq);
	return span_of(aad, 12);
}

enum err esp_packet_seal(struct esp_cipher *c, uint32_t spi, uint64_t seq, uint64_t iv, uint8_t next, struct span inner,
			 uint8_t *out, size_t cap, size_t *ret_len)
{
	struct wr w = wr_of(out, cap);
	uint8_t nonce[AEAD_NONCE], aad[12], pad = 0;
	enum err e;

	wr_u32(&w, spi);
	wr_u32(&w, (uint32_t)seq);
	wr_u64(&w, iv);
	wr_span(&w, inner);
	/* RFC 4303, 2.4: the next header ends at a multiple of 4, and the padding counts from 1. */
	while ((inner.len + pad + ESP_TRAILER) % 4 != 0)
		wr_u8(&w, ++pad);
	wr_u8(&w, pad);
	wr_u8(&w, next);
	wr_zero(&w, AEAD_TAG);
	if (w.bad)
		return ERR_LIMIT;
	nonce_of(c, out + 8, nonce);
	e = aead_seal(c->aead, nonce, aad_of(c, spi, seq, aad), span_of(out + ESP_HEAD, w.len - ESP_HEAD - AEAD_TAG),
		      out + ESP_HEAD);
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
	uint8_t nonce[AEAD_NONCE], aad[12];
	enum err e;

	if (packet.len < ESP_MIN)
		return ERR_MALFORMED;
	nonce_of(c, packet.p + 8, nonce);
	e = aead_open(c->aead, nonce, aad_of(c, be32(packet.p), seq, aad), span_from(packet, ESP_HEAD), out);
	if (e != OK)
		return e;
	return trailer(span_of(out, packet.len - ESP_HEAD - AEAD_TAG), ret_next, ret_inner);
}
