/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Keys for a packet analyser: none unless asked for; then the lines open the very messages of the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "esp/packet.h"
#include "ike_pair.h"
#include "inspect_run.h"
#include "vpn/impl.h"

#define SEEN_MAX 64

static struct {
	uint8_t bytes[IKE_MSG_MAX];
	size_t len;
} seen[SEEN_MAX];
static unsigned n_seen;

static bool note(struct pair *p, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)p;
	(void)from;
	(void)n;
	assert_true(n_seen < SEEN_MAX);
	memcpy(seen[n_seen].bytes, msg, *len);
	seen[n_seen++].len = *len;
	return true;
}

/* The members of a line, without quotes. */
struct members {
	char text[16][256];
	unsigned n;
};

static struct members cut(const char *line)
{
	struct members m = { .n = 0 };

	for (const char *p = line;; p++) {
		size_t len = 0;
		bool quoted = *p == '"';

		assert_true(m.n < 16);
		for (p += quoted; *p && *p != (quoted ? '"' : ','); p++)
			m.text[m.n][len++] = *p;
		assert_true(len < 256);
		m.n++;
		p += quoted;
		if (!*p)
			return m;
		assert_int_equal(*p, ',');
	}
}

static const char *word_of(const char *name, size_t digits)
{
	if (strstr(name, "GCM"))
		return digits == 40 ? "aes-gcm-16-128" : "aes-gcm-16-256";
	if (strstr(name, "ChaCha20"))
		return "chacha20-poly1305";
	return digits == 32 ? "aes-cbc-128-hmac-sha2-256-128" : "aes-cbc-256-hmac-sha2-256-128";
}

static struct inspect_keys *parsed(json_t *root)
{
	char *text = json_dumps(root, 0);
	struct inspect_keys *k = NULL;
	const char *why = "";

	if (inspect_keys_parse(span_str(text), &k, &why) != OK)
		fail_msg("%s: %s", why, text);
	free(text);
	json_decref(root);
	return k;
}

static struct inspect_keys *keys_of_ike(const char *line)
{
	struct members m = cut(line);
	json_t *o;

	assert_int_equal(m.n, 8);
	o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "spi_i", m.text[0], "spi_r", m.text[1], "sk_ei", m.text[2], "sk_er",
		      m.text[3], "encr", word_of(m.text[4], strlen(m.text[2])));
	if (m.text[5][0]) {
		json_object_set_new(o, "sk_ai", json_string(m.text[5]));
		json_object_set_new(o, "sk_ar", json_string(m.text[6]));
		assert_string_equal(m.text[7], "HMAC_SHA2_256_128 [RFC4868]");
	} else {
		assert_string_equal(m.text[7], "NONE [RFC4306]");
	}
	return parsed(json_pack("{s:[o]}", "ike", o));
}

static struct inspect_keys *keys_of_esp(const char *line)
{
	struct members m = cut(line);
	json_t *o;

	assert_in_range(m.n, 8, 10);
	assert_memory_equal(m.text[3], "0x", 2);
	assert_memory_equal(m.text[5], "0x", 2);
	o = json_pack("{s:s, s:s, s:s, s:b}", "spi", m.text[3] + 2, "key", m.text[5] + 2, "encr",
		      word_of(m.text[4], strlen(m.text[5] + 2)), "esn", m.n == 10);
	if (m.text[7][0])
		json_object_set_new(o, "integ_key", json_string(m.text[7] + 2));
	return parsed(json_pack("{s:[o]}", "esp", o));
}

/* Opens all protected messages from `first` on; returns how many. */
static unsigned opened(const char *line, unsigned first)
{
	struct inspect_options o = { .keys = keys_of_ike(line) };
	unsigned n = 0;

	for (unsigned i = first; i < n_seen; i++) {
		json_t *r = run("ike", span_of(seen[i].bytes, seen[i].len), &o), *payload;
		size_t at;

		assert_true(inspect_ok(r));
		json_array_foreach(json_object_get(json_object_get(r, "value"), "payloads"), at, payload)
		{
			if (strcmp(harness_text(payload, "name"), "SK") != 0)
				continue;
			assert_true(json_is_true(json_object_get(payload, "decrypted")));
			n++;
		}
		json_decref(r);
	}
	inspect_keys_free((struct inspect_keys *)(uintptr_t)o.keys);
	return n;
}

static void esp_opens(const struct ike_child *k, const uint8_t *key, uint32_t spi)
{
	static const uint8_t ping[48] = { 0x60, 0, 0, 0, 0, 8, 58, 64 };
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct esp_cipher c = { 0 };
	struct inspect_options o = { .has_password = false };
	char line[VPN_KEYS_LINE];
	uint8_t packet[256];
	size_t len;
	json_t *r;

	keylog_esp_line(false, spi, k->alg, key, k->esn, line);
	assert_int_equal(esp_cipher_init(&c, k->alg, key, &rng, k->esn), OK);
	assert_int_equal(esp_packet_seal(&c, spi, 7, 7, 41, SPAN_OF(ping), packet, sizeof(packet), &len), OK);
	esp_cipher_done(&c);
	o.keys = keys_of_esp(line);
	r = run("esp", span_of(packet, len), &o);
	assert_true(inspect_ok(r) && json_is_true(json_object_get(json_object_get(r, "value"), "decrypted")));
	json_decref(r);
	inspect_keys_free((struct inspect_keys *)(uintptr_t)o.keys);
}

static void off(void **state)
{
	static const uint8_t nothing[CIPHER_KEY_MAX];
	static struct pair p;

	(void)state;
	pair_init(&p, 1);
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	assert_int_equal(ike_sa_rekey(p.sa[ALICE], p.now_us), OK);
	pair_for(&p, SECONDS(1));
	for (int k = 0; k < 2; k++) {
		assert_int_equal(p.n_events[k][IKE_EV_REKEYED], 1);
		assert_int_equal(p.n_events[k][IKE_EV_KEYS], 0);
		assert_false(p.sa[k]->keys.keep);
		assert_memory_equal(p.sa[k]->keys.raw_i, nothing, sizeof(nothing));
		assert_memory_equal(p.sa[k]->keys.raw_r, nothing, sizeof(nothing));
	}
	pair_done(&p);
}

/* Every algorithm; either role, alone; then new keys, by either side. */
static void on(void **state)
{
	static const char *const lists[] = { "aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha256-x25519",
					     "chacha20poly1305-prfsha256-x25519", "aes128-sha256-x25519",
					     "aes256-sha256-x25519" };
	static struct pair p;
	char line[VPN_KEYS_LINE];
	const char *why;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(lists) / sizeof(lists[0]); i++) {
		int who = (int)i % 2;
		unsigned n;

		pair_init(&p, 10 + i);
		p.filter = note;
		n_seen = 0;
		p.cfg[who].export_keys = true;
		for (int k = 0; k < 2; k++)
			assert_int_equal(ike_list_parse(span_str(lists[i / 2]), false, &p.cfg[k].ike, &why), OK);
		assert_int_equal(pair_new(&p), OK);
		assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
		pair_for(&p, SECONDS(1));
		assert_true(pair_up(&p));
		assert_int_equal(p.n_events[who][IKE_EV_KEYS], 1);
		assert_int_equal(p.n_events[!who][IKE_EV_KEYS], 0);
		keylog_ike_line(&p.last[who][IKE_EV_KEYS].keys, line);
		assert_true(opened(line, 0) >= 2);
		esp_opens(&p.children[who][0], p.children[who][0].key_in, p.children[who][0].spi_in);
		esp_opens(&p.children[who][0], p.children[who][0].key_out, p.children[who][0].spi_out);

		assert_int_equal(ike_sa_rekey(p.sa[i % 4 < 2 ? ALICE : BOB], p.now_us), OK);
		pair_for(&p, SECONDS(1));
		assert_int_equal(p.n_events[who][IKE_EV_KEYS], 2);
		n = n_seen;
		ike_sa_probe(p.sa[ALICE], p.now_us);
		ike_sa_probe(p.sa[BOB], p.now_us);
		pair_for(&p, SECONDS(1));
		keylog_ike_line(&p.last[who][IKE_EV_KEYS].keys, line);
		assert_int_equal(n_seen - n, 4);
		assert_int_equal(opened(line, n), 4);
		assert_int_equal(ike_sa_child_rekey(p.sa[ALICE], p.now_us, p.children[ALICE][0].spi_in), OK);
		pair_for(&p, SECONDS(1));
		assert_int_equal(p.n_children[who], 2);
		esp_opens(&p.children[who][1], p.children[who][1].key_in, p.children[who][1].spi_in);
		pair_done(&p);
	}
}

/* A key exchange that fails after IKE_SA_INIT is what one wants to look into. */
static void of_a_failure(void **state)
{
	static struct pair p;
	char line[VPN_KEYS_LINE];

	(void)state;
	pair_init(&p, 2);
	p.filter = note;
	n_seen = 0;
	p.cfg[ALICE].export_keys = true;
	p.cfg[ALICE].peer_key[0] ^= 1;
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, SECONDS(1));
	assert_false(pair_up(&p));
	assert_int_equal(p.n_events[ALICE][IKE_EV_FAILED], 1);
	assert_int_equal(p.n_events[ALICE][IKE_EV_KEYS], 1);
	keylog_ike_line(&p.last[ALICE][IKE_EV_KEYS].keys, line);
	assert_true(opened(line, 0) >= 2);
	pair_done(&p);
}

/* The forms, to the letter. */
static void forms(void **state)
{
	struct ike_export k = { .spi_i = 0x0158b8fb90b7623d, .spi_r = 0x0a, .alg = CIPHER_AES128_GCM };
	uint8_t key[CIPHER_KEY_MAX];
	char line[VPN_KEYS_LINE];

	(void)state;
	for (unsigned i = 0; i < CIPHER_KEY_MAX; i++)
		key[i] = (uint8_t)i;
	memcpy(k.key_i, key, sizeof(key));
	memset(k.key_r, 0xee, sizeof(k.key_r));
	keylog_ike_line(&k, line);
	assert_string_equal(line, "0158b8fb90b7623d,000000000000000a,000102030405060708090a0b0c0d0e0f10111213,"
				  "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee,\"AES-GCM-128 with 16 octet ICV "
				  "[RFC5282]\",,,\"NONE [RFC4306]\"");
	k.alg = CIPHER_AES128_CBC_SHA256;
	keylog_ike_line(&k, line);
	assert_string_equal(line, "0158b8fb90b7623d,000000000000000a,000102030405060708090a0b0c0d0e0f,"
				  "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee,\"AES-CBC-128 [RFC3602]\","
				  "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f,"
				  "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee,"
				  "\"HMAC_SHA2_256_128 [RFC4868]\"");
	keylog_esp_line(false, 0xc0000001, CIPHER_AES128_GCM, key, false, line);
	assert_string_equal(line, "\"IPv4\",\"*\",\"*\",\"0xc0000001\",\"AES-GCM with 16 octet ICV [RFC4106]\","
				  "\"0x000102030405060708090a0b0c0d0e0f10111213\",\"NULL\",\"\"");
	keylog_esp_line(true, 0x100, CIPHER_AES128_CBC_SHA256, key, true, line);
	assert_string_equal(line, "\"IPv6\",\"*\",\"*\",\"0x00000100\",\"AES-CBC [RFC3602]\","
				  "\"0x000102030405060708090a0b0c0d0e0f\",\"HMAC-SHA-256-128 [RFC4868]\","
				  "\"0x101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f\",\"64-bit\","
				  "\"0\"");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(off),
		cmocka_unit_test(on),
		cmocka_unit_test(of_a_failure),
		cmocka_unit_test(forms),
	};
	int r = cmocka_run_group_tests_name(__FILE__, tests, NULL, NULL);

	pair_identities_done();
	return r;
}
