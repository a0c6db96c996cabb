/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/hash.h"
#include "esp/packet.h"
#include "esp/plane.h"
#include "harness.h"

static void from_hex(const char *hex, uint8_t *dst, size_t cap, size_t *len)
{
	assert_int_equal(hex_parse(span_str(hex), false, dst, cap, len), OK);
}

/* RFC 7634, appendix A: an ICMP echo in tunnel mode, field by field. */
static const char rfc7634_keymat[] = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
				     "a0a1a2a3";
static const char rfc7634_inner[] = "45000054a6f200004001e778c6336405c0000205"
				    "08005b7a3a080000553bec100007362708090a0b0c0d0e0f"
				    "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637";
static const char rfc7634_esp[] =
	"01020304"
	"00000005"
	"1011121314151617"
	"24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7"
	"2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0"
	"76aaa8266b7fb0f7b11b369907e1ad43";

struct rfc7634 {
	struct esp_cipher c;
	uint8_t keymat[36], inner[128], esp[256], out[256];
	size_t keymat_len, inner_len, esp_len;
};

static void rfc7634_init(struct rfc7634 *v)
{
	memset(v, 0, sizeof(*v));
	from_hex(rfc7634_keymat, v->keymat, sizeof(v->keymat), &v->keymat_len);
	from_hex(rfc7634_inner, v->inner, sizeof(v->inner), &v->inner_len);
	from_hex(rfc7634_esp, v->esp, sizeof(v->esp), &v->esp_len);
	assert_int_equal(esp_cipher_init(&v->c, CIPHER_CHACHA20_POLY1305, v->keymat, NULL, false), OK);
}

static void rfc7634_both_ways(void **state)
{
	struct rfc7634 v;
	struct esp_head head;
	struct span inner;
	uint8_t next;
	size_t len;

	(void)state;
	rfc7634_init(&v);
	assert_int_equal(esp_packet_seal(&v.c, 0x01020304, 5, 0x1011121314151617u, ESP_NEXT_IP4,
					 span_of(v.inner, v.inner_len), v.out, sizeof(v.out), &len),
			 OK);
	assert_int_equal(len, v.esp_len);
	assert_memory_equal(v.out, v.esp, len);
	assert_int_equal(esp_packet_head(span_of(v.esp, v.esp_len), &head), OK);
	assert_int_equal(head.spi, 0x01020304);
	assert_int_equal(head.seq, 5);
	assert_int_equal(esp_packet_open(&v.c, 5, span_of(v.esp, v.esp_len), v.out, &next, &inner), OK);
	assert_int_equal(next, ESP_NEXT_IP4);
	assert_true(span_eq(inner, span_of(v.inner, v.inner_len)));
	esp_cipher_done(&v.c);
}

/* Each shorter length is refused, each changed bit is not authentic. */
static void truncated_and_tampered(void **state)
{
	struct rfc7634 v;
	struct span inner;
	uint8_t next;

	(void)state;
	rfc7634_init(&v);
	for (size_t n = 0; n < v.esp_len; n++) {
		uint8_t *exact = malloc(n + 1); /* so that the sanitizer sees a read past it */

		assert_non_null(exact);
		memcpy(exact, v.esp, n);
		assert_int_equal(esp_packet_open(&v.c, 5, span_of(exact, n), v.out, &next, &inner),
				 n < ESP_MIN ? ERR_MALFORMED : ERR_AUTH);
		free(exact);
	}
	for (size_t bit = 0; bit < v.esp_len * 8; bit++) {
		v.esp[bit / 8] ^= (uint8_t)(1 << bit % 8);
		/* The number is authenticated as the window understood it. */
		if (bit / 8 < 4 || bit / 8 >= 8)
			assert_int_equal(esp_packet_open(&v.c, 5, span_of(v.esp, v.esp_len), v.out, &next, &inner),
					 ERR_AUTH);
		v.esp[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(esp_packet_open(&v.c, 6, span_of(v.esp, v.esp_len), v.out, &next, &inner), ERR_AUTH);
	esp_cipher_done(&v.c);
}

static void vector_rfc7634(void **state)
{
	json_t *j = harness_json("esp/rfc/rfc7634-appendix-a.json");
	struct span keymat = harness_hex(j, "keymat"), iv = harness_hex(j, "iv"),
		    inner = harness_hex(j, "inner_packet"), want = harness_hex(j, "esp");
	struct esp_cipher c;
	uint8_t out[256];
	size_t len;

	(void)state;
	assert_int_equal(esp_cipher_init(&c, CIPHER_CHACHA20_POLY1305, keymat.p, NULL, false), OK);
	assert_int_equal(esp_packet_seal(&c, 0x01020304, 5, be64(iv.p), ESP_NEXT_IP4, inner, out, sizeof(out), &len),
			 OK);
	assert_true(span_eq(span_of(out, len), want));
	esp_cipher_done(&c);
	free((void *)keymat.p);
	free((void *)iv.p);
	free((void *)inner.p);
	free((void *)want.p);
	json_decref(j);
}

/* A published AEAD case as a packet: SPI and number are its AAD. Its plaintext need not end in an ESP trailer: then
 * opening must say so, and nothing else. Returns whether the plaintext was one of ESP. */
static bool aead_case(enum cipher_alg alg, struct span keymat, struct span aad, struct span iv, struct span plain,
		      struct span sealed)
{
	bool esn = aad.len == 12, whole;
	uint64_t seq = esn ? be64(aad.p + 4) : be32(aad.p + 4);
	uint8_t packet[1024], out[1024], next;
	struct wr w = wr_of(packet, sizeof(packet));
	struct esp_cipher c;
	struct span inner;
	size_t len;
	enum err e;

	wr_u32(&w, be32(aad.p));
	wr_u32(&w, (uint32_t)seq);
	wr_span(&w, iv);
	wr_span(&w, sealed);
	assert_false(w.bad);
	assert_int_equal(esp_cipher_init(&c, alg, keymat.p, NULL, esn), OK);
	e = esp_packet_open(&c, seq, wr_done(&w), out, &next, &inner);
	assert_true(e == OK || e == ERR_MALFORMED);
	assert_memory_equal(out, plain.p, plain.len);
	whole = e == OK && next != ESP_NEXT_DUMMY && plain.len - inner.len - ESP_TRAILER < 4 && plain.len % 4 == 0;
	if (whole) {
		uint8_t copy[1024];

		memcpy(copy, inner.p, inner.len);
		assert_int_equal(esp_packet_seal(&c, be32(aad.p), seq, be64(iv.p), next, span_of(copy, inner.len), out,
						 sizeof(out), &len),
				 OK);
		assert_true(span_eq(span_of(out, len), wr_done(&w)));
	}
	packet[w.len - 1] ^= 1;
	assert_int_equal(esp_packet_open(&c, seq, wr_done(&w), out, &next, &inner), ERR_AUTH);
	esp_cipher_done(&c);
	return whole;
}

static unsigned aead_file(const char *rel, bool chacha, unsigned *ret_n)
{
	json_t *j = harness_json(rel), *v;
	unsigned n_whole = 0;
	size_t i;

	*ret_n = 0;
	json_array_foreach(json_object_get(j, "vectors"), i, v)
	{
		struct span key = harness_hex(v, "key"), salt = harness_hex(v, "salt"), aad = harness_hex(v, "aad"),
			    iv = harness_hex(v, "iv"), plain = harness_hex(v, "plaintext"),
			    sealed = harness_hex(v, "ciphertext_and_icv");
		uint8_t keymat[CIPHER_KEY_MAX];
		bool usable = json_integer_value(json_object_get(v, "icv_len")) == 16 &&
			      (aad.len == 8 || aad.len == 12) && (key.len == 16 || key.len == 32) &&
			      !strcmp(harness_text(v, "verdict"), "valid") && plain.len >= ESP_TRAILER;

		if (usable) {
			memcpy(keymat, key.p, key.len);
			memcpy(keymat + key.len, salt.p, salt.len);
			n_whole += aead_case(chacha          ? CIPHER_CHACHA20_POLY1305
					     : key.len == 16 ? CIPHER_AES128_GCM
							     : CIPHER_AES256_GCM,
					     span_of(keymat, key.len + salt.len), aad, iv, plain, sealed);
			++*ret_n;
		}
		free((void *)key.p);
		free((void *)salt.p);
		free((void *)aad.p);
		free((void *)iv.p);
		free((void *)plain.p);
		free((void *)sealed.p);
	}
	json_decref(j);
	return n_whole;
}

static void vector_linux(void **state)
{
	unsigned n, n_whole;

	(void)state;
	n_whole = aead_file("esp/linux-testmgr/rfc4106.json", false, &n);
	print_message("# rfc4106: %u cases, %u of them whole ESP packets\n", n, n_whole);
	assert_true(n >= 10 && n_whole >= 3);
	(void)aead_file("esp/linux-testmgr/rfc7539esp.json", true, &n);
	assert_int_equal(n, 1);
}

/* A captured AES-CBC tunnel, whose integrity key and algorithm are not ours to know: its packets get an ICV of the one that we
 * do, and are then opened as any other. */
static void vector_cbc_capture(void **state)
{
	json_t *j = harness_json("esp/captures/esp-aes256-cbc-tunnel.json"), *v;
	struct span enc = harness_hex(j, "enc_key");
	uint8_t keymat[CIPHER_KEY_MAX];
	struct esp_cipher c;
	size_t i, n = 0;

	(void)state;
	assert_int_equal(enc.len, 32);
	memset(keymat, 0x77, sizeof(keymat));
	memcpy(keymat, enc.p, 32);
	assert_int_equal(esp_cipher_init(&c, CIPHER_AES256_CBC_SHA256, keymat, NULL, false), OK);
	json_array_foreach(json_object_get(j, "packets"), i, v)
	{
		struct span esp = harness_hex(v, "esp"), want = harness_hex(v, "plaintext"), inner;
		size_t body = esp.len - 12; /* without its 96-bit ICV */
		uint8_t packet[512], out[512], mac[32], next;

		assert_true(esp.len < sizeof(packet) - CIPHER_ICV);
		memcpy(packet, esp.p, body);
		assert_int_equal(hmac_of(HASH_SHA256, span_of(keymat + 32, 32), span_of(packet, body), mac), OK);
		memcpy(packet + body, mac, CIPHER_ICV);
		assert_int_equal(
			esp_packet_open(&c, be32(packet + 4), span_of(packet, body + CIPHER_ICV), out, &next, &inner),
			OK);
		assert_int_equal(next, json_integer_value(json_object_get(v, "next_header")));
		assert_true(span_eq(inner, want));
		assert_int_equal(esp_packet_open(&c, be32(packet + 4), esp, out, &next, &inner), ERR_AUTH);
		free((void *)(uintptr_t)esp.p);
		free((void *)(uintptr_t)want.p);
		n++;
	}
	assert_true(n >= 8);
	esp_cipher_done(&c);
	free((void *)(uintptr_t)enc.p);
	json_decref(j);
}

/* ---- padding, limits, ESN ---- */

static void lengths(void **state)
{
	static const uint8_t keymat[CIPHER_KEY_MAX] = { 1, 2, 3 };
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	uint8_t inner[64], packet[256], out[256], next;
	struct span got;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(inner); i++)
		inner[i] = (uint8_t)(i * 7);
	for (enum cipher_alg a = 0; a < CIPHER_COUNT; a++)
		for (int esn = 0; esn < 2; esn++)
			for (size_t n = 0; n <= sizeof(inner); n++) {
				struct esp_cipher c;
				uint64_t seq = esn ? 0x500000007u : 7;

				assert_int_equal(esp_cipher_init(&c, a, keymat, &rng, esn), OK);
				assert_int_equal(esp_packet_seal(&c, 0xc0ffee01, seq, seq, ESP_NEXT_IP6,
								 span_of(inner, n), packet, sizeof(packet), &len),
						 OK);
				if (cipher_combined(a))
					assert_true(len >= n + ESP_MIN && len < n + ESP_MIN + 4 && len % 4 == 0);
				else
					assert_true(len >= n + 42 && len < n + 42 + 16 && len % 16 == 8);
				assert_true(len <= n + ESP_OVERHEAD);
				assert_int_equal(be32(packet + 4), 7);
				assert_int_equal(esp_packet_open(&c, seq, span_of(packet, len), out, &next, &got), OK);
				assert_int_equal(next, ESP_NEXT_IP6);
				assert_true(span_eq(got, span_of(inner, n)));
				if (esn) /* the half that is not sent counts */
					assert_int_equal(esp_packet_open(&c, 7, span_of(packet, len), out, &next, &got),
							 ERR_AUTH);
				for (size_t cap = 0; cap < len; cap++)
					assert_int_equal(esp_packet_seal(&c, 0xc0ffee01, seq, seq, ESP_NEXT_IP6,
									 span_of(inner, n), out, cap, &(size_t){ 0 }),
							 ERR_LIMIT);
				esp_cipher_done(&c);
			}
	esp_cipher_done(&(struct esp_cipher){ 0 });
}

/* Plaintexts that only the peer itself can send: sealed as they are. */
static void trailers(void **state)
{
	static const struct {
		const char *plain;
		enum err e;
		size_t inner;
		uint8_t next;
	} row[] = {
		{ "0004", OK, 0, 4 },
		{ "aabb0004", OK, 2, 4 },
		{ "aa010104", OK, 1, 4 },
		{ "aa0102030304", OK, 1, 4 },
		{ "0102030405060629", OK, 0, 41 },
		{ "aa020104", ERR_MALFORMED, 0, 0 }, /* padding is not 1 */
		{ "aa0102040304", ERR_MALFORMED, 0, 0 },
		{ "aa0000000304", ERR_MALFORMED, 0, 0 }, /* zeros */
		{ "0104", ERR_MALFORMED, 0, 0 }, /* longer than there is */
		{ "0102030404", ERR_MALFORMED, 0, 0 },
		{ "ff04", ERR_MALFORMED, 0, 0 },
		{ "003b", OK, 0, ESP_NEXT_DUMMY },
		{ "deadbeefff3b", OK, 0, ESP_NEXT_DUMMY }, /* RFC 4303, 2.6: need not be well-formed */
	};
	static const uint8_t keymat[CIPHER_KEY_MAX] = { 9 };
	struct esp_cipher c;

	(void)state;
	assert_int_equal(esp_cipher_init(&c, CIPHER_AES256_GCM, keymat, NULL, false), OK);
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		uint8_t packet[128] = { 0xc0, 0, 0, 1, 0, 0, 0, 1 }, out[128], next = 0;
		struct cipher_about about = { .head = span_of(packet, ESP_HDR) };
		struct span inner = SPAN_NONE;
		size_t len;
		enum err e;

		from_hex(row[i].plain, packet + ESP_HDR + CIPHER_IV_MIN, 64, &len);
		assert_int_equal(cipher_seal(c.cipher, &about, 1, packet + ESP_HDR, len), OK);
		e = esp_packet_open(&c, 1, span_of(packet, ESP_HDR + CIPHER_IV_MIN + len + CIPHER_ICV), out, &next,
				    &inner);
		if (e != row[i].e || inner.len != row[i].inner || next != row[i].next)
			fail_msg("row %zu", i);
	}
	esp_cipher_done(&c);
}

static bool ladder_once(void *arg)
{
	static const uint8_t keymat[CIPHER_KEY_MAX] = { 4 };
	struct esp_cipher c;
	bool whole = esp_cipher_init(&c, CIPHER_AES128_GCM, keymat, NULL, false) == OK;

	(void)arg;
	esp_cipher_done(&c);
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
		cmocka_unit_test(rfc7634_both_ways),  cmocka_unit_test(truncated_and_tampered),
		cmocka_unit_test(vector_rfc7634),     cmocka_unit_test(vector_linux),
		cmocka_unit_test(vector_cbc_capture), cmocka_unit_test(lengths),
		cmocka_unit_test(trailers),           cmocka_unit_test(allocation_ladder),
	};

	return HARNESS_RUN(tests);
}
