/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* inspect of STUN, datagrams, IKE and ESP over published messages with their verdicts and keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "esp/packet.h"
#include "ike/fragment.h"
#include "inspect_run.h"

static void drop(struct span s)
{
	free((void *)(uintptr_t)s.p);
}

static const char *field(const json_t *r, const char *key)
{
	return harness_text(json_object_get(r, "value"), key);
}

static json_int_t offset(const json_t *r)
{
	assert_false(inspect_ok(r));
	return json_integer_value(json_object_get(r, "offset"));
}

/* ---- stun ---- */

static const json_t *attribute(const json_t *r, const char *name)
{
	json_t *a;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(r, "value"), "attributes"), i,
			   a) if (!strcmp(harness_text(a, "name"), name)) return json_object_get(a, "value");
	fail_msg("no attribute %s", name);
	return NULL;
}

/* RFC 5769, 2.1 and 2.2, with their password and with another. */
static void stun_of_the_rfc(void **state)
{
	json_t *root = harness_json("stun/rfc/vectors.json"), *v, *r;
	size_t i, n = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "vectors"), i, v)
	{
		struct span d = harness_hex(v, "hex");
		const char *password = json_string_value(json_object_get(v, "password_short_term"));
		struct inspect_options good = { .has_password = true, .password = span_str(password) };
		struct inspect_options bad = { .has_password = true, .password = SPAN_LIT("other") };

		if (password && !strcmp(harness_text(v, "fingerprint"), "valid")) {
			r = run("stun", d, &good);
			assert_true(inspect_ok(r));
			assert_string_equal(field(r, "transaction"), harness_text(v, "transaction_id"));
			assert_true(json_is_true(json_object_get(json_object_get(r, "value"), "fingerprint_ok")));
			assert_true(json_is_true(json_object_get(json_object_get(r, "value"), "integrity_ok")));
			if (!strcmp(harness_text(v, "file"), "req.bin")) {
				assert_string_equal(field(r, "class"), "request");
				assert_string_equal(json_string_value(attribute(r, "USERNAME")), "evtj:h6vY");
				assert_int_equal(json_integer_value(attribute(r, "PRIORITY")), 1845494271);
			} else {
				assert_string_equal(field(r, "class"), "success");
				assert_string_equal(json_string_value(attribute(r, "XOR-MAPPED-ADDRESS")),
						    "192.0.2.1:32853");
			}
			json_decref(r);
			r = run("stun", d, &bad);
			assert_int_equal(offset(r), d.len - 8 - 24); /* before FINGERPRINT */
			json_decref(r);
			n++;
		}
		ladder("stun", d, NULL);
		drop(d);
	}
	assert_int_equal(n, 2);
	json_decref(root);
}

static void stun_verdicts(void **state)
{
	json_t *root = harness_json("stun/libnice/verdicts.json"), *v;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "messages"), i, v)
	{
		struct span d = harness_hex(v, "hex");
		json_t *r = run("stun", d, NULL);

		assert_int_equal(inspect_ok(r), !strcmp(harness_text(v, "verdict"), "parse_ok"));
		json_decref(r);
		drop(d);
	}
	json_decref(root);
	root = harness_json("stun/real/messages.json");
	json_array_foreach(json_object_get(root, "messages"), i, v)
	{
		char rel[128];
		struct span d;
		json_t *r, *valid = json_object_get(v, "fingerprint_valid");

		(void)snprintf(rel, sizeof(rel), "stun/real/%s", harness_text(v, "file"));
		d = harness_file(rel);
		r = run("stun", d, NULL);
		assert_int_equal(inspect_ok(r), !json_is_false(valid));
		if (inspect_ok(r)) {
			assert_true(json_equal(json_object_get(json_object_get(r, "value"), "fingerprint_ok"), valid));
			assert_int_equal(json_array_size(json_object_get(json_object_get(r, "value"), "attributes")),
					 json_array_size(json_object_get(v, "attributes")));
		}
		json_decref(r);
		ladder("stun", d, NULL);
		drop(d);
	}
	json_decref(root);
}

static void stun_places(void **state)
{
	static const uint8_t attr[] = { 0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6,
					7, 8, 9, 9, 9,    9,    0,    6,    0, 8, 1, 1, 1, 1 };
	static const uint8_t cookie[20] = { 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x41 },
			     length[20] = { 0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42 };
	static const struct {
		struct span d;
		json_int_t at;
	} rows[] = {
		{ { attr, 0 }, 0 },    { { attr, 19 }, 19 },  { { attr, sizeof(attr) }, 20 },
		{ { cookie, 20 }, 4 }, { { length, 20 }, 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *r = run("stun", rows[i].d, NULL);

		assert_int_equal(offset(r), rows[i].at);
		json_decref(r);
	}
}

/* ---- datagram ---- */

static void datagrams(void **state)
{
	static const uint8_t stun[20] = { 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42 };
	static const struct {
		struct span d;
		const char *class;
	} rows[] = {
		{ { (const uint8_t *)"\0\0\0\0\1\2\3\4\5", 9 }, "ike" },
		{ { stun, 20 }, "stun" },
		{ { (const uint8_t *)"\xc0\0\0\1\0\0\0\1", 8 }, "esp" },
		{ { (const uint8_t *)"\xff", 1 }, "keepalive" },
		{ { (const uint8_t *)"\x40\0\0\4abcdefgh", 12 }, "channel" },
		{ { (const uint8_t *)"REGISTER", 8 }, "drop" },
		{ { (const uint8_t *)"", 0 }, "drop" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *r = run("datagram", rows[i].d, NULL);

		assert_true(inspect_ok(r));
		assert_string_equal(field(r, "class"), rows[i].class);
		json_decref(r);
		ladder("datagram", rows[i].d, NULL);
	}
}

/* ---- ike ---- */

static json_t *payload_of(json_t *list, const char *name)
{
	json_t *p;
	size_t i;

	json_array_foreach(list, i, p) if (!strcmp(harness_text(p, "name"), name)) return p;
	return NULL;
}

static json_t *payloads(const json_t *r)
{
	return json_object_get(json_object_get(r, "value"), "payloads");
}

static struct inspect_keys *keys_of(const char *text)
{
	struct inspect_keys *k = NULL;
	const char *why = NULL;

	if (inspect_keys_parse(span_str(text), &k, &why) != OK)
		fail_msg("%s", why);
	return k;
}

/* A capture: its keys go into a keys file by their own names, and what is inside is what the vectors say. */
static void decrypted(const char *rel, const char *encr)
{
	json_t *file = harness_json(rel), *m;
	char text[1024], other[1024];
	struct inspect_options with = { .keys = NULL }, wrong = { .keys = NULL };
	struct inspect_keys *k, *x;
	bool auth_seen = false;
	char integ[2][256] = { "", "" };
	size_t i, n = 0;

	if (strstr(encr, "hmac"))
		for (int swap = 0; swap < 2; swap++)
			(void)snprintf(integ[swap], sizeof(integ[swap]), ",\"sk_ai\":\"%s\",\"sk_ar\":\"%s\"",
				       harness_text(file, swap ? "sk_ar" : "sk_ai"),
				       harness_text(file, swap ? "sk_ai" : "sk_ar"));
	(void)snprintf(
		text, sizeof(text),
		"{\"ike\":[{\"spi_i\":\"%s\",\"spi_r\":\"%s\",\"sk_ei\":\"%s\",\"sk_er\":\"%s\"%s,\"encr\":\"%s\"}]}",
		harness_text(file, "spi_i"), harness_text(file, "spi_r"), harness_text(file, "sk_ei"),
		harness_text(file, "sk_er"), integ[0], encr);
	(void)snprintf(
		other, sizeof(other),
		"{\"ike\":[{\"spi_i\":\"%s\",\"spi_r\":\"%s\",\"sk_ei\":\"%s\",\"sk_er\":\"%s\"%s,\"encr\":\"%s\"}]}",
		harness_text(file, "spi_i"), harness_text(file, "spi_r"), harness_text(file, "sk_er"),
		harness_text(file, "sk_ei"), integ[1], encr);
	with.keys = k = keys_of(text);
	wrong.keys = x = keys_of(other);
	json_array_foreach(json_object_get(file, "messages"), i, m)
	{
		struct span d = harness_hex(m, "message");
		json_t *r = run("ike", d, &with), *sk, *auth;

		assert_true(inspect_ok(r));
		assert_int_equal(json_integer_value(json_object_get(
					 json_object_get(json_object_get(r, "value"), "header"), "exchange")),
				 json_integer_value(json_object_get(m, "exchange")));
		sk = payload_of(payloads(r), "SK");
		if (sk) {
			json_t *inside = json_object_get(sk, "payloads"), *bad = run("ike", d, &wrong),
			       *shut = run("ike", d, NULL);

			assert_true(json_is_true(json_object_get(sk, "decrypted")));
			assert_int_equal(json_array_size(inside) ? json_integer_value(json_object_get(
									   json_array_get(inside, 0), "type"))
								 : 0,
					 json_integer_value(json_object_get(m, "inner_first_payload")));
			auth = payload_of(inside, "AUTH");
			auth_seen |= auth && !strcmp(harness_text(auth, "value"),
						     harness_text(file, "expected_auth_data_contains"));
			/* with the two directions exchanged it is refused; without keys it is shown as it is */
			assert_false(inspect_ok(bad));
			assert_true(inspect_ok(shut));
			assert_true(json_is_false(json_object_get(payload_of(payloads(shut), "SK"), "decrypted")));
			json_decref(bad);
			json_decref(shut);
			n++;
		}
		json_decref(r);
		ladder("ike", d, &with);
		drop(d);
	}
	assert_true(n >= 2);
	assert_true(auth_seen);
	inspect_keys_free(k);
	inspect_keys_free(x);
	json_decref(file);
}

#define FRAGMENT_KEYS                                                                                                  \
	"{\"ike\":[{\"spi_i\":\"1111111111111111\",\"spi_r\":\"2222222222222222\","                                    \
	"\"sk_ei\":\"000102030405060708090a0b0c0d0e0f10111213\",\"sk_er\":"                                            \
	"\"000102030405060708090a0b0c0d0e0f10111213\"}]}"

/* RFC 7383: each fragment opens by itself; what is inside is a piece of the payloads. */
static void ike_fragments_decrypted(void **state)
{
	struct ike_header h = { .spi_i = UINT64_C(0x1111111111111111),
				.spi_r = UINT64_C(0x2222222222222222),
				.exchange = IKE_AUTH,
				.from_initiator = true };
	struct inspect_options with = { .keys = keys_of(FRAGMENT_KEYS) };
	static uint8_t mem[2 * IKE_MSG_MAX], key[20], big[3000];
	struct ike_sk sk = { .cipher = NULL };
	struct ike_build b;
	struct span all, one;
	size_t len = 0;
	int n = 0;

	(void)state;
	for (uint8_t i = 0; i < sizeof(key); i++)
		key[i] = i;
	assert_int_equal(ike_sk_init(&sk, CIPHER_AES128_GCM, SPAN_OF(key), SPAN_NONE, NULL), OK);
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	ike_build_bytes(&b, IKE_P_VENDOR, SPAN_OF(big));
	assert_int_equal(ike_fragment_seal(&b, &sk, &all), OK);
	while ((one = ike_datagram(&all)).len) {
		json_t *r = run("ike", one, &with), *skf = payload_of(payloads(r), "SKF");

		assert_true(inspect_ok(r));
		assert_int_equal(json_integer_value(json_object_get(skf, "fragment")), ++n);
		assert_int_equal(json_integer_value(json_object_get(skf, "fragments")), 3);
		assert_true(json_is_true(json_object_get(skf, "decrypted")));
		len += strlen(harness_text(skf, "content")) / 2;
		json_decref(r);
		ladder("ike", one, &with);
	}
	assert_int_equal(n, 3);
	assert_int_equal(len, 4 + sizeof(big));
	ike_sk_done(&sk);
	inspect_keys_free((struct inspect_keys *)(uintptr_t)with.keys);
}

static void ike_capture_decrypted(void **state)
{
	(void)state;
	decrypted("ikev2/wireshark/ikev2-decrypt-aes256gcm16.json", "aes-gcm-16-256");
	decrypted("ikev2/wireshark/ikev2-decrypt-aes256cbc.json", "aes-cbc-256-hmac-sha2-256-128");
}

/* A packet of our own with AES-CBC: its two keys are two members. */
static void esp_aes_cbc(void **state)
{
	static const uint8_t keymat[CIPHER_KEY_MAX] = { 0 };
	static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
	struct inspect_options with = { .keys = NULL };
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 4);
	uint8_t packet[128], inner[20] = { 0x45 };
	struct esp_cipher c;
	struct inspect_keys *k;
	char text[512];
	size_t len;
	json_t *r;

	(void)state;
	assert_int_equal(esp_cipher_init(&c, CIPHER_AES256_CBC_SHA256, keymat, &rng, true), OK);
	assert_int_equal(esp_packet_seal(&c, 0xc0000009, (UINT64_C(3) << 32) | 8, 8, 4, SPAN_OF(inner), packet,
					 sizeof(packet), &len),
			 OK);
	esp_cipher_done(&c);
	(void)snprintf(text, sizeof(text),
		       "{\"esp\":[{\"spi\":\"c0000009\",\"key\":\"%s\",\"integ_key\":\"%s\",\"encr\":"
		       "\"aes-cbc-256-hmac-sha2-256-128\",\"esn\":true,\"seq_high\":3}]}",
		       zeros, zeros);
	with.keys = k = keys_of(text);
	r = run("esp", span_of(packet, len), &with);
	assert_true(inspect_ok(r));
	assert_int_equal(json_integer_value(json_object_get(json_array_get(payloads(r), 0), "length")), 20);
	json_decref(r);
	ladder("esp", span_of(packet, len), &with);
	packet[len - 1] ^= 1;
	r = run("esp", span_of(packet, len), &with);
	assert_string_equal(harness_text(r, "reason"), "not by this key");
	json_decref(r);
	inspect_keys_free(k);
}

static void ike_captures(void **state)
{
	json_t *index = harness_json("ikev2/other-captures/index.json"), *entry, *m;
	size_t i, k;

	(void)state;
	json_array_foreach(json_object_get(index, "captures"), i, entry)
	{
		const char *verdict = harness_text(entry, "verdict"), *file = harness_text(entry, "file");
		char rel[256];
		json_t *capture;

		(void)snprintf(rel, sizeof(rel), "ikev2/other-captures/%.*s.json", (int)strcspn(file, "."), file);
		capture = harness_json(rel);
		json_array_foreach(json_object_get(capture, "messages"), k, m)
		{
			struct span d = harness_hex(m, "message");
			bool is_ike = !strncmp(harness_text(m, "kind"), "ike", 3);
			json_t *r = run(is_ike ? "ike" : "esp", d, NULL);

			if (is_ike && (!strcmp(verdict, "parse_ok") ? !inspect_ok(r)
								    : !strcmp(verdict, "reject") && inspect_ok(r)))
				fail_msg("%s, message %zu: wanted %s", file, k, verdict);
			json_decref(r);
			ladder("ike", d, NULL);
			drop(d);
		}
		json_decref(capture);
	}
	json_decref(index);
}

static void ike_single_payloads(void **state)
{
	json_t *file = harness_json("ikev2/payloads/payloads.json"), *p;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(file, "payloads"), i, p)
	{
		struct span payload = harness_hex(p, "hex");
		uint8_t mem[2048] = { [7] = 1, [17] = 0x20, [18] = 34, [19] = 8 };
		struct wr w = wr_of(mem + 28, sizeof(mem) - 28);
		struct span d;
		json_t *r;

		wr_span(&w, payload);
		assert_false(w.bad);
		d = span_of(mem, w.len + 28);
		mem[16] = (uint8_t)json_integer_value(json_object_get(p, "payload_type"));
		put_be32(mem + 24, (uint32_t)d.len);
		r = run("ike", d, NULL);
		if (json_is_true(json_object_get(p, "length_field_matches")) && !inspect_ok(r))
			fail_msg("%s: refused", harness_text(p, "name"));
		json_decref(r);
		for (size_t at = 28; at < d.len; at++) {
			mem[at] ^= 0xff;
			json_decref(run("ike", d, NULL));
			mem[at] ^= 0xff;
		}
		drop(payload);
	}
	json_decref(file);
}

/* One message with our own notifies, as docs/protocol.md has them; and where it is said to break. */
static void ike_ours(void **state)
{
	static const uint8_t body[] = {
		41,   0,    0,   48, 0,   0,  0xb4, 0x71, 1,   2, 3, 4, 5, 6,   7,   8,   [47] = 0xee, /* N(BIND) */
		41,   0,    0,   22, 0,   0,  0xb4, 0x72, 0,   0, 0, 7, 7, 'd', 'e', 's', 'k',
		't',  'o',  'p', 1,  'a', /* N(REQUEST) */
		0,    0,    0,   26, 0,   0,  0xb4, 0x73, 0,   0, 0, 7, 0, 0,   0,   9,   6,
		0x17, 0x0c, 0,   0,  0,   60, 'v',  'n',  'c', /* N(GRANT) */
	};
	uint8_t mem[28 + 4 + sizeof(body)] = { [11] = 1, [20] = 41, [21] = 0x20, [22] = 37, [23] = 8 };
	struct span d = span_of(mem + 4, 28 + sizeof(body));
	json_t *r, *list, *o;

	(void)state;
	memcpy(mem + 32, body, sizeof(body));
	put_be32(mem + 28, (uint32_t)d.len);
	/* alone, and behind the non-ESP marker */
	for (int marked = 0; marked < 2; marked++) {
		r = run("ike", marked ? span_of(mem, sizeof(mem)) : d, NULL);
		assert_true(inspect_ok(r));
		list = payloads(r);
		assert_int_equal(json_array_size(list), 3);
		o = json_array_get(list, 0);
		assert_string_equal(harness_text(o, "notify_name"), "TIELINE_BIND");
		assert_string_equal(harness_text(o, "tag"), "0102030405060708");
		o = json_array_get(list, 1);
		assert_string_equal(json_string_value(json_array_get(json_object_get(o, "names"), 0)), "desktop");
		o = json_array_get(list, 2);
		assert_string_equal(harness_text(o, "service"), "vnc");
		assert_int_equal(json_integer_value(json_object_get(o, "port")), 5900);
		json_decref(r);
	}
	ladder("ike", d, NULL);
	/* the second payload's length is too long */
	put_be16(mem + 32 + 48 + 2, 400);
	r = run("ike", d, NULL);
	assert_int_equal(offset(r), 28 + 48);
	json_decref(r);
	r = run("ike", span_of(mem, sizeof(mem)), NULL);
	assert_int_equal(offset(r), 4 + 28 + 48);
	json_decref(r);
	mem[4 + 17] = 0x10; /* IKEv1 */
	r = run("ike", d, NULL);
	assert_int_equal(offset(r), 17);
	json_decref(r);
}

static void ike_configuration(void **state)
{
	static const uint8_t d[] = {
		0,   0,   0,   0,    0,   0,   0,   1,   0, 0,  0, 0, 0,   0,
		0,   0,   47,  0x20, 34,  8,   0,   0,   0, 0,  0, 0, 0,   28 + 36, /* header */
		0,   0,   0,   36,   2,   0,   0,   0, /* CP, reply */
		0,   1,   0,   4,    198, 51,  100, 234, 0, 13, 0, 8, 198, 51,
		100, 192, 255, 255,  255, 192, 0,   99,  0, 0,  0, 3, 0,   0,
	};
	json_t *r = run("ike", SPAN_OF(d), NULL), *p, *a;

	(void)state;
	assert_true(inspect_ok(r));
	p = json_array_get(payloads(r), 0);
	assert_int_equal(json_integer_value(json_object_get(p, "cfg_type")), 2);
	a = json_object_get(p, "attributes");
	assert_int_equal(json_array_size(a), 4);
	assert_string_equal(harness_text(json_array_get(a, 0), "name"), "INTERNAL_IP4_ADDRESS");
	assert_string_equal(harness_text(json_array_get(a, 0), "address"), "198.51.100.234");
	assert_string_equal(harness_text(json_array_get(a, 1), "address"), "198.51.100.192");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(a, 2), "type")), 99);
	assert_null(json_object_get(json_array_get(a, 2), "name"));
	assert_null(json_object_get(json_array_get(a, 3), "address"));
	json_decref(r);
	ladder("ike", SPAN_OF(d), NULL);
}

static void keys_files(void **state)
{
	static const char *const wrong[] = {
		"",
		"[]",
		"{",
		"{\"ike\":{}}",
		"{\"ike\":[1]}",
		"{\"ike\":[{\"spi_i\":\"00\"}]}",
		"{\"esp\":[{\"spi\":\"c0000001\"}]}",
		"{\"esp\":[{\"spi\":\"c0000001\",\"key\":\"00\"}]}",
		/* an integrity key missing, and one that is not wanted */
		"{\"esp\":[{\"spi\":\"c0000001\",\"key\":\"00000000000000000000000000000000\",\"encr\":\"aes-cbc-128-"
		"hmac-"
		"sha2-256-128\"}]}",
		"{\"esp\":[{\"spi\":\"c0000001\",\"key\":\"0000000000000000000000000000000000000000\",\"integ_key\":"
		"\"00\"}]}",
		"{\"esp\":[{\"spi\":\"c0000001\",\"key\":\"0000000000000000000000000000000000000000\",\"encr\":"
		"\"rot13\"}]}",
		"{\"esp\":[{\"spi\":\"c0000001\",\"key\":\"0000000000000000000000000000000000000000\",\"encr\":\"aes-"
		"gcm-16-256\"}]}",
		"{\"esp\":[{\"spi\":\"c0000001\",\"key\":\"0000000000000000000000000000000000000000\",\"seq_high\":-1}]"
		"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct inspect_keys *k = NULL;
		const char *why = "";

		if (inspect_keys_parse(span_str(wrong[i]), &k, &why) == OK)
			fail_msg("taken: %s", wrong[i]);
		assert_true(strlen(why) > 5);
	}
	inspect_keys_free(keys_of(
		"{\"name\":\"x\",\"esp\":[{\"spi\":\"c0000001\",\"key\":\"0000000000000000000000000000000000000000\","
		"\"esn\":true,\"seq_high\":1,\"comment\":7}]}"));
}

/* ---- esp ---- */

/* RFC 7634, appendix A, with its key. */
static void esp_of_the_rfc(void **state)
{
	json_t *j = harness_json("esp/rfc/rfc7634-appendix-a.json"), *r, *p;
	struct span d = harness_hex(j, "esp");
	struct inspect_options o = { .keys = NULL };
	struct inspect_keys *k;
	char text[256];

	(void)state;
	(void)snprintf(text, sizeof(text), "{\"esp\":[{\"spi\":\"%s\",\"key\":\"%s\",\"encr\":\"chacha20-poly1305\"}]}",
		       harness_text(j, "spi"), harness_text(j, "keymat"));
	o.keys = k = keys_of(text);
	r = run("esp", d, &o);
	assert_true(inspect_ok(r));
	p = json_array_get(payloads(r), 0);
	assert_string_equal(harness_text(p, "hex"), harness_text(j, "inner_packet"));
	assert_string_equal(harness_text(p, "source"), "198.51.100.5");
	assert_int_equal(json_integer_value(json_object_get(p, "protocol")), 1);
	json_decref(r);
	ladder("esp", d, &o);
	inspect_keys_free(k);
	drop(d);
	json_decref(j);
}

/* RFC 4106: each published case that can be a packet, as packet and as key. */
static void esp_aes_gcm(void **state)
{
	json_t *j = harness_json("esp/linux-testmgr/rfc4106.json"), *v;
	unsigned n = 0;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(j, "vectors"), i, v)
	{
		struct span aad = harness_hex(v, "aad"), iv = harness_hex(v, "iv"),
			    sealed = harness_hex(v, "ciphertext_and_icv"), key = harness_hex(v, "key");
		uint8_t mem[1024];
		struct wr w = wr_of(mem, sizeof(mem));
		struct inspect_options o = { .keys = NULL };
		struct inspect_keys *k;
		char text[300];
		json_t *r;

		if ((aad.len == 8 || aad.len == 12) && be32(aad.p) >= ESP_SPI_MIN && (key.len == 16 || key.len == 32) &&
		    json_integer_value(json_object_get(v, "icv_len")) == 16 &&
		    !strcmp(harness_text(v, "verdict"), "valid")) {
			(void)snprintf(text, sizeof(text),
				       "{\"esp\":[{\"spi\":\"%.8s\",\"key\":\"%s%s\",\"esn\":%s,\"seq_high\":%u}]}",
				       harness_text(v, "aad"), harness_text(v, "key"), harness_text(v, "salt"),
				       aad.len == 12 ? "true" : "false", aad.len == 12 ? be32(aad.p + 4) : 0);
			wr_u32(&w, be32(aad.p));
			wr_u32(&w, be32(aad.p + aad.len - 4));
			wr_span(&w, iv);
			wr_span(&w, sealed);
			assert_false(w.bad);
			o.keys = k = keys_of(text);
			r = run("esp", wr_done(&w), &o);
			/* authentic; only its plaintext need not end in an ESP trailer */
			if (!inspect_ok(r))
				assert_string_not_equal(harness_text(r, "reason"), "not by this key");
			n += inspect_ok(r);
			json_decref(r);
			mem[w.len - 1] ^= 1;
			r = run("esp", wr_done(&w), &o);
			if (w.len >= ESP_MIN)
				assert_string_equal(harness_text(r, "reason"), "not by this key");
			json_decref(r);
			inspect_keys_free(k);
		}
		drop(aad);
		drop(iv);
		drop(sealed);
		drop(key);
	}
	assert_true(n > 0);
	json_decref(j);
}

static void esp_captured(void **state)
{
	json_t *j = harness_json("esp/captures/esp-in-udp-4500.json"), *p;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(j, "packets"), i, p)
	{
		struct span d = harness_hex(p, "udp_payload");
		json_t *r = run("esp", d, NULL), *h = json_object_get(json_object_get(r, "value"), "header");

		assert_true(inspect_ok(r));
		assert_string_equal(harness_text(h, "spi"), harness_text(p, "spi"));
		assert_int_equal(json_integer_value(json_object_get(h, "sequence")),
				 json_integer_value(json_object_get(p, "seq")));
		assert_true(json_is_false(json_object_get(json_object_get(r, "value"), "decrypted")));
		json_decref(r);
		drop(d);
	}
	json_decref(j);
}

/* Anything at all, as every kind. */
static void seeds_of_others(void **state)
{
	static const char *const kinds[] = { "sip", "sdp", "stun", "datagram", "ike", "esp" };
	static const char *const files[] = { "stun/fuzz-seeds/coturn-13.bin",
					     "stun/fuzz-seeds/pjsip-input-14-turn-channeldata.bin",
					     "stun/fuzz-seeds/coturn-seed_http_get.bin",
					     "sdp/parser-cases/pion-zones.sdp", "sip-torture/rfc4475/wsinv.dat" };

	(void)state;
	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		struct span d = harness_file(files[f]);

		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			json_decref(run(kinds[k], d, NULL));
		drop(d);
	}
	assert_false(inspect_has_kind("elf"));
	assert_null(inspect_run("elf", SPAN_NONE, &(struct inspect_options){ .has_password = false }));
}

/* ---- memory ---- */

struct load {
	const char *kind;
	struct span d;
	struct inspect_options o;
};

static bool once(void *arg)
{
	const struct load *l = arg;
	json_t *r = inspect_run(l->kind, l->d, &l->o);
	bool whole = inspect_ok(r);

	json_decref(r);
	return whole;
}

/* Each allocation of our own fails once: then there is no result, rather than one with a piece missing. */
static void no_memory(void **state)
{
	json_t *ike = harness_json("ikev2/wireshark/ikev2-decrypt-aes256gcm16.json"),
	       *esp = harness_json("esp/rfc/rfc7634-appendix-a.json");
	struct load rows[3] = { { .kind = "stun", .d = harness_file("stun/rfc/req.bin") },
				{ .kind = "esp", .d = harness_hex(esp, "esp") },
				{ .kind = "ike",
				  .d = harness_hex(json_array_get(json_object_get(ike, "messages"), 3), "message") } };
	struct inspect_keys *k;
	char text[1024];

	(void)state;
	(void)snprintf(text, sizeof(text),
		       "{\"ike\":[{\"spi_i\":\"%s\",\"spi_r\":\"%s\",\"sk_ei\":\"%s\",\"sk_er\":\"%s\"}],"
		       "\"esp\":[{\"spi\":\"%s\",\"key\":\"%s\",\"encr\":\"chacha20-poly1305\"}]}",
		       harness_text(ike, "spi_i"), harness_text(ike, "spi_r"), harness_text(ike, "sk_ei"),
		       harness_text(ike, "sk_er"), harness_text(esp, "spi"), harness_text(esp, "keymat"));
	k = keys_of(text);
	for (int i = 0; i < 3; i++) {
		rows[i].o.keys = k;
		harness_alloc_ladder(once, &rows[i]);
		drop(rows[i].d);
	}
	inspect_keys_free(k);
	json_decref(ike);
	json_decref(esp);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(stun_of_the_rfc),
		cmocka_unit_test(stun_verdicts),
		cmocka_unit_test(stun_places),
		cmocka_unit_test(datagrams),
		cmocka_unit_test(ike_capture_decrypted),
		cmocka_unit_test(ike_fragments_decrypted),
		cmocka_unit_test(ike_captures),
		cmocka_unit_test(ike_single_payloads),
		cmocka_unit_test(ike_ours),
		cmocka_unit_test(esp_aes_cbc),
		cmocka_unit_test(ike_configuration),
		cmocka_unit_test(keys_files),
		cmocka_unit_test(esp_of_the_rfc),
		cmocka_unit_test(esp_aes_gcm),
		cmocka_unit_test(esp_captured),
		cmocka_unit_test(seeds_of_others),
		cmocka_unit_test(no_memory),
	};

	return HARNESS_RUN(tests);
}
