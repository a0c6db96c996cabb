/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What `tieline inspect` does with a file. The first byte says of which kind: its low bits the kind or a keys file; with
 * SEALED an IKE or ESP message is made of the rest under keys that the decoder is given, so that the inside is reached.
 * covers: src/inspect/inspect.c src/inspect/keys.c src/inspect/text.c src/inspect/stun.c src/inspect/ike.c
   src/inspect/ike_payload.c src/inspect/esp.c */
#include <stdlib.h>
#include <string.h>

#include "esp/packet.h"
#include "ike/keys.h"
#include "inspect/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEALED 0x80
#define SPI_I UINT64_C(0x1111111111111111)
#define SPI_R UINT64_C(0x2222222222222222)
#define SPI_ESP 0xc0000001u
#define KEY36 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
#define KEY20 "000102030405060708090a0b0c0d0e0f10111213"
static const char keys_text[] =
	"{\"ike\": [{\"spi_i\": \"1111111111111111\", \"spi_r\": \"2222222222222222\", \"sk_ei\": \"" KEY36
	"\", \"sk_er\": \"" KEY36 "\"}], \"esp\": [{\"spi\": \"c0000001\", \"key\": \"" KEY20
	"\", \"esn\": true, \"seq_high\": 1}]}";
static const char *const kinds[] = { "sip", "sdp", "stun", "datagram", "ike", "esp" };
static struct inspect_keys *keys;

static void finish(void)
{
	inspect_keys_free(keys);
}

/* First byte exchange, second the first inner payload's type. */
static struct span seal_ike(struct span s, uint8_t *mem, size_t cap)
{
	struct ike_header h = { .spi_i = SPI_I, .spi_r = SPI_R, .from_initiator = true };
	struct ike_sk sk = { .cipher = NULL };
	struct ike_build b;
	struct span msg = SPAN_NONE;
	uint8_t key[36];

	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = i;
	if (s.len < 2 || ike_sk_init(&sk, CIPHER_AES256_GCM, SPAN_OF(key), SPAN_NONE, NULL) != OK)
		return SPAN_NONE;
	h.exchange = s.p[0];
	ike_build_start(&b, mem, cap, &h);
	ike_build_sk(&b);
	mem[IKE_HDR] = s.p[1];
	wr_span(&b.w, span_from(s, 2));
	if (ike_build_seal(&b, &sk, &msg) != OK)
		msg = SPAN_NONE;
	ike_sk_done(&sk);
	return msg;
}

/* First byte the next header. */
static struct span seal_esp(struct span s, uint8_t *mem, size_t cap)
{
	struct esp_cipher c = { .cipher = NULL };
	size_t len = 0;
	uint8_t key[20];

	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = i;
	if (!s.len || esp_cipher_init(&c, CIPHER_AES128_GCM, key, NULL, true) != OK)
		return SPAN_NONE;
	if (esp_packet_seal(&c, SPI_ESP, (UINT64_C(1) << 32) | 7, 7, s.p[0], span_from(s, 1), mem, cap, &len) != OK)
		len = 0;
	esp_cipher_done(&c);
	return span_of(mem, len);
}

static void show(const char *kind, struct span s, bool decrypts)
{
	struct inspect_options o = { .has_password = s.len % 2,
				     .password = SPAN_LIT("VOkJxbRl1RmTxUk/WvJxBt"),
				     .keys = keys };
	json_t *r = inspect_run(kind, s, &o), *value;
	char *text;

	if (!r || !(text = json_dumps(r, JSON_ENSURE_ASCII | JSON_COMPACT)))
		abort();
	for (const char *p = text; *p; p++)
		if (*p < 0x20)
			abort();
	free(text);
	value = json_object_get(r, inspect_ok(r) ? "value" : "reason");
	if (!value || (!inspect_ok(r) && (json_integer_value(json_object_get(r, "offset")) < 0 ||
					  (size_t)json_integer_value(json_object_get(r, "offset")) > s.len)))
		abort();
	if (decrypts && !strcmp(kind, "esp") && inspect_ok(r) && !json_is_true(json_object_get(value, "decrypted")))
		abort(); /* sealed under a key that it has */
	json_decref(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t mem[65536];
	struct inspect_keys *k = NULL;
	const char *why = NULL;
	struct span s;
	unsigned kind;

	if (!keys) {
		if (inspect_keys_parse(span_str(keys_text), &keys, &why) != OK)
			abort();
		(void)atexit(finish);
	}
	if (!size)
		return 0;
	s = span_of(data + 1, size - 1);
	kind = (data[0] & 0x7f) % 7;
	if (kind == 6) {
		if (inspect_keys_parse(s, &k, &why) != OK && (!why || !*why))
			abort();
		inspect_keys_free(k);
	} else if (data[0] & SEALED) {
		s = kind % 2 ? seal_esp(s, mem, sizeof(mem)) : seal_ike(s, mem, sizeof(mem));
		if (s.len)
			show(kind % 2 ? "esp" : "ike", s, true);
	} else if (s.len <= INSPECT_MAX) {
		show(kinds[kind], s, false);
	}
	return 0;
}
