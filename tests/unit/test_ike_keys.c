/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Key derivation, the Encrypted payload, AUTH and the window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/timers.h"
#include "crypto/secret.h"
#include "harness.h"
#include "ike/auth.h"
#include "ike/window.h"

static void drop(struct span s)
{
	free((void *)(uintptr_t)s.p);
}

static enum hash_alg alg_of(const char *name)
{
	static const struct {
		const char *name;
		enum hash_alg alg;
	} rows[] = {
		{ "SHA-1", HASH_SHA1 },
		{ "SHA2-384", HASH_SHA384 },
		{ "PRF_HMAC_SHA2_256", HASH_SHA256 },
		{ "PRF_HMAC_SHA2_384", HASH_SHA384 },
		{ "PRF_HMAC_SHA2_512", HASH_SHA512 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strcmp(rows[i].name, name))
			return rows[i].alg;
	fail_msg("hash %s", name);
	return HASH_SHA256;
}

static void cavp(void **state)
{
	json_t *file = harness_json("ikev2/kdf/prf-cavp.json"), *v;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(file, "vectors"), i, v)
	{
		enum hash_alg prf = alg_of(harness_text(v, "prf"));
		uint8_t out[2048];

		if (json_object_get(v, "skeyseed")) {
			struct span nn = harness_hex(v, "ni_nr"), gir = harness_hex(v, "g_ir"),
				    want = harness_hex(v, "skeyseed");

			assert_int_equal(ike_skeyseed(prf, span_sub(nn, 0, 3), span_from(nn, 3), gir, out), OK);
			assert_memory_equal(out, want.p, want.len);
			drop(nn);
			drop(gir);
			drop(want);
		} else {
			struct span key = harness_hex(v, "key"), seed = harness_hex(v, "seed"),
				    want = harness_hex(v, "out");

			assert_int_equal(ike_prf_plus(prf, key, seed, out, want.len), OK);
			assert_memory_equal(out, want.p, want.len);
			drop(key);
			drop(seed);
			drop(want);
		}
	}
	json_decref(file);
}

static void kdf_vector(const json_t *v)
{
	enum hash_alg prf = alg_of(harness_text(v, "hashAlg"));
	struct span ni = harness_hex(v, "nInit"), nr = harness_hex(v, "nResp"), gir = harness_hex(v, "gir");
	struct span si = harness_hex(v, "spiInit"), sr = harness_hex(v, "spiResp"),
		    seed_want = harness_hex(v, "sKeySeed");
	struct span dkm = harness_hex(v, "derivedKeyingMaterial"), child = harness_hex(v, "derivedKeyingMaterialChild");
	uint8_t skeyseed[HASH_MAX], mem[600], out[2048];
	struct wr w = wr_of(mem, sizeof(mem));

	assert_int_equal(ike_skeyseed(prf, ni, nr, gir, skeyseed), OK);
	assert_memory_equal(skeyseed, seed_want.p, seed_want.len);
	wr_span(&w, ni);
	wr_span(&w, nr);
	wr_span(&w, si);
	wr_span(&w, sr);
	assert_int_equal(ike_prf_plus(prf, span_of(skeyseed, hash_size(prf)), wr_done(&w), out, dkm.len), OK);
	assert_memory_equal(out, dkm.p, dkm.len);
	/* SK_d is the first part */
	assert_int_equal(ike_prf_plus(prf, span_sub(dkm, 0, hash_size(prf)), span_sub(wr_done(&w), 0, ni.len + nr.len),
				      out, child.len),
			 OK);
	assert_memory_equal(out, child.p, child.len);
	drop(ni);
	drop(nr);
	drop(gir);
	drop(si);
	drop(sr);
	drop(seed_want);
	drop(dkm);
	drop(child);
}

static void kdf(void **state)
{
	static const char *const files[] = { "ikev2/kdf/ikev2-kdf-full.json", "ikev2/kdf/acvp-derived.json" };

	(void)state;
	for (size_t f = 0; f < 2; f++) {
		json_t *file = harness_json(files[f]), *v;
		size_t i;

		json_array_foreach(json_object_get(file, "vectors"), i, v) kdf_vector(v);
		json_decref(file);
	}
}

static void prf_plus_limit(void **state)
{
	uint8_t *out = malloc(255 * 32 + 1);

	(void)state;
	assert_non_null(out);
	assert_int_equal(ike_prf_plus(HASH_SHA256, SPAN_LIT("k"), SPAN_LIT("s"), out, 255 * 32), OK);
	assert_int_equal(ike_prf_plus(HASH_SHA256, SPAN_LIT("k"), SPAN_LIT("s"), out, 255 * 32 + 1), ERR_LIMIT);
	free(out);
}

/* ---- the capture with its keys ---- */

static enum err open_message(struct ike_sk *k, struct span msg, uint8_t *plain, struct span *ret, uint8_t *ret_first)
{
	const struct ike_payload *sk;
	struct ike_header h;
	struct ike_chain c;
	enum err e = ike_header_parse(msg, &h);

	if (e == OK)
		e = ike_chain_parse(span_from(msg, IKE_HDR), h.next, &c);
	if (e != OK)
		return e;
	sk = ike_chain_find(&c, IKE_P_SK);
	if (!sk)
		return ERR_MALFORMED;
	*ret_first = sk->next;
	return ike_sk_open(k, msg, sk, plain, ret);
}

/* Each bit of a protected message matters. */
static void tampered(struct ike_sk *k, struct span msg)
{
	uint8_t copy[1024], plain[1024], first;
	struct span inner;

	for (size_t i = 0; i < msg.len; i++) {
		memcpy(copy, msg.p, msg.len);
		copy[i] ^= (uint8_t)(1u << (i % 8));
		assert_int_not_equal(open_message(k, span_of(copy, msg.len), plain, &inner, &first), OK);
	}
}

static void capture_of(const char *rel, enum cipher_alg alg)
{
	json_t *file = harness_json(rel), *m;
	struct span ei = harness_hex(file, "sk_ei"), er = harness_hex(file, "sk_er");
	struct span ai = cipher_combined(alg) ? SPAN_NONE : harness_hex(file, "sk_ai");
	struct span ar = cipher_combined(alg) ? SPAN_NONE : harness_hex(file, "sk_ar");
	struct span auth_want = harness_hex(file, "expected_auth_data_contains");
	struct ike_sk i_sk, r_sk;
	bool auth_seen = false;
	size_t i, n = 0;

	assert_int_equal(ike_sk_init(&i_sk, alg, ei, ai, NULL), OK);
	assert_int_equal(ike_sk_init(&r_sk, alg, er, ar, NULL), OK);
	json_array_foreach(json_object_get(file, "messages"), i, m)
	{
		struct span msg = harness_hex(m, "message"), want, inner;
		struct ike_sk *k;
		uint8_t plain[1024], first;
		struct ike_chain c;
		struct ike_auth a;

		if (!json_object_get(m, "inner_plaintext")) {
			drop(msg);
			continue;
		}
		want = harness_hex(m, "inner_plaintext");
		k = msg.p[19] & 0x08 ? &i_sk : &r_sk;
		assert_int_equal(open_message(k, msg, plain, &inner, &first), OK);
		assert_int_equal(inner.len, want.len);
		assert_memory_equal(inner.p, want.p, want.len);
		assert_int_equal(first, json_integer_value(json_object_get(m, "inner_first_payload")));
		assert_int_equal(ike_chain_parse(inner, first, &c), OK);
		assert_int_equal(ike_chain_check(&c), OK);
		if (ike_chain_find(&c, IKE_P_AUTH) && ike_auth_parse(ike_chain_find(&c, IKE_P_AUTH)->body, &a) == OK &&
		    span_eq(a.value, auth_want))
			auth_seen = true;
		tampered(k, msg);
		assert_int_not_equal(open_message(k == &i_sk ? &r_sk : &i_sk, msg, plain, &inner, &first), OK);
		drop(msg);
		drop(want);
		n++;
	}
	assert_true(n >= 2);
	assert_true(auth_seen);
	ike_sk_done(&i_sk);
	ike_sk_done(&r_sk);
	drop(ei);
	drop(er);
	drop(ai);
	drop(ar);
	drop(auth_want);
	json_decref(file);
}

static void capture(void **state)
{
	(void)state;
	capture_of("ikev2/wireshark/ikev2-decrypt-aes256gcm16.json", CIPHER_AES256_GCM);
	capture_of("ikev2/wireshark/ikev2-decrypt-aes256cbc.json", CIPHER_AES256_CBC_SHA256);
}

/* ---- our own ---- */

static struct ike_list lists[2]; /* the default of IKE; AES-CBC */

static struct rng_seeded seed;
static struct rng rng;

static void derive_pair(const struct ike_list *ours, struct ike_suite *s, struct ike_keys *i, struct ike_keys *r)
{
	static const uint8_t ni[32] = { 1 }, nr[32] = { 2 }, shared[32] = { 3 };
	uint8_t mem[1024];
	struct ike_header h = { .spi_i = 1, .exchange = IKE_SA_INIT };
	const struct ike_proposal *p;
	struct ike_chain c;
	struct ike_offer o;
	struct ike_build b;
	struct span msg;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_offer(&b, ours, IKE_PROTO_IKE, SPAN_NONE);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_SA, &c), OK);
	assert_int_equal(ike_offer_parse(c.p[0].body, &o), OK);
	assert_int_equal(ike_proposal_choose(ours, &o, IKE_PROTO_IKE, 0, s, &p), OK);
	assert_int_equal(ike_keys_derive(s, &rng, true, SPAN_OF(ni), SPAN_OF(nr), SPAN_OF(shared), 1, 2, i), OK);
	assert_int_equal(ike_keys_derive(s, &rng, false, SPAN_OF(ni), SPAN_OF(nr), SPAN_OF(shared), 1, 2, r), OK);
}

static void sealed_by(const struct ike_list *ours)
{
	struct ike_header h = { .spi_i = 1, .spi_r = 2, .exchange = IKE_INFORMATIONAL, .from_initiator = true };
	struct ike_keys i = { .keep = false }, r = { .keep = false };
	struct ike_suite s;
	struct ike_build b;
	struct ike_chain c;
	struct span msg, inner;
	uint8_t mem[512], again[512], plain[512], first;

	derive_pair(ours, &s, &i, &r);
	for (int round = 0; round < 2; round++) {
		ike_build_start(&b, round ? again : mem, sizeof(mem), &h);
		ike_build_sk(&b);
		ike_build_notify(&b, IKE_N_INITIAL_CONTACT, SPAN_NONE);
		ike_build_delete_ike(&b);
		assert_int_equal(ike_build_seal(&b, &i.out, &msg), OK);
		assert_int_equal(open_message(&r.in, msg, plain, &inner, &first), OK);
		assert_int_equal(ike_chain_parse(inner, first, &c), OK);
		assert_int_equal(c.n, 2);
		assert_int_equal(c.p[1].type, IKE_P_DELETE);
	}
	assert_memory_not_equal(mem, again, msg.len); /* another IV: a counter */
	if (cipher_combined(s.encr->cipher))
		assert_int_equal(be64(again + IKE_HDR + IKE_PAYLOAD_HDR), be64(mem + IKE_HDR + IKE_PAYLOAD_HDR) + 1);
	else
		assert_memory_not_equal(again + IKE_HDR + IKE_PAYLOAD_HDR, mem + IKE_HDR + IKE_PAYLOAD_HDR, 16);
	tampered(&r.in, msg);
	for (size_t len = 0; len < msg.len; len++)
		assert_int_not_equal(open_message(&r.in, span_sub(msg, 0, len), plain, &inner, &first), OK);
	/* an empty one, and one that does not fit */
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	assert_int_equal(ike_build_seal(&b, &i.out, &msg), OK);
	assert_int_equal(open_message(&r.in, msg, plain, &inner, &first), OK);
	assert_int_equal(inner.len, 0);
	assert_int_equal(first, IKE_P_NONE);
	ike_build_start(&b, mem, 50, &h);
	ike_build_sk(&b);
	assert_int_equal(ike_build_seal(&b, &i.out, &msg), ERR_LIMIT);
	ike_keys_done(&i);
	ike_keys_done(&r);
}

static void sealed_both_ways(void **state)
{
	(void)state;
	sealed_by(&lists[0]);
	sealed_by(&lists[1]);
}

/* Each length of content: the padding makes whole blocks, and what comes out is what went in. */
static void sealed_lengths(void **state)
{
	struct ike_header h = { .spi_i = 1, .spi_r = 2, .exchange = IKE_INFORMATIONAL, .from_initiator = true };
	uint8_t mem[512], plain[512], content[64] = { 0 }, first;
	struct ike_keys i = { .keep = false }, r = { .keep = false };
	struct ike_suite s;
	struct span msg, inner;
	struct ike_build b;

	(void)state;
	derive_pair(&lists[1], &s, &i, &r);
	for (size_t n = 0; n <= sizeof(content); n++) {
		ike_build_start(&b, mem, sizeof(mem), &h);
		ike_build_sk(&b);
		ike_build_bytes(&b, IKE_P_VENDOR, span_of(content, n));
		assert_int_equal(ike_build_seal(&b, &i.out, &msg), OK);
		assert_int_equal(msg.len, IKE_HDR + IKE_PAYLOAD_HDR + ike_sk_size(&i.out, n + 4));
		assert_int_equal((msg.len - IKE_HDR - IKE_PAYLOAD_HDR) % 16, 0);
		assert_int_equal(open_message(&r.in, msg, plain, &inner, &first), OK);
		assert_int_equal(inner.len, n + 4);
		/* it fits exactly, and not into less */
		ike_build_start(&b, mem, msg.len - 1, &h);
		ike_build_sk(&b);
		ike_build_bytes(&b, IKE_P_VENDOR, span_of(content, n));
		assert_int_equal(ike_build_seal(&b, &i.out, &inner), ERR_LIMIT);
	}
	ike_keys_done(&i);
	ike_keys_done(&r);
}

static void child_keys(void **state)
{
	uint8_t ki[CIPHER_KEY_MAX], kr[CIPHER_KEY_MAX], want[2 * CIPHER_KEY_MAX];
	char text[IKE_SUITE_TEXT];
	struct ike_keys i = { .keep = false }, r = { .keep = false };
	struct ike_suite s;
	size_t len;

	(void)state;
	derive_pair(&lists[0], &s, &i, &r);
	assert_int_equal(ike_keymat_child(&i, s.encr->cipher, SPAN_LIT("ni"), SPAN_LIT("nr"), ki, kr, &len), OK);
	assert_int_equal(len, 20);
	assert_int_equal(ike_prf_plus(HASH_SHA256, span_of(r.sk_d, 32), SPAN_LIT("ninr"), want, 40), OK);
	assert_memory_equal(ki, want, 20); /* 2.17: initiator to responder first */
	assert_memory_equal(kr, want + 20, 20);
	ike_keys_done(&i);
	ike_keys_done(&r);
	/* AES-CBC: 32 of encryption, 32 of integrity, for each direction; the IKE SA's own are in 2.14's order */
	derive_pair(&lists[1], &s, &i, &r);
	assert_string_equal(ike_suite_text(&s, text), "AES-CBC-256, HMAC-SHA2-256-128, HMAC-SHA2-256, MODP-2048");
	assert_int_equal(ike_keymat_child(&i, CIPHER_AES256_CBC_SHA256, SPAN_LIT("ni"), SPAN_LIT("nr"), ki, kr, &len),
			 OK);
	assert_int_equal(len, 64);
	assert_int_equal(ike_prf_plus(HASH_SHA256, span_of(r.sk_d, 32), SPAN_LIT("ninr"), want, 128), OK);
	assert_memory_equal(ki, want, 64);
	assert_memory_equal(kr, want + 64, 64);
	ike_keys_done(&i);
	ike_keys_done(&r);
}

/* ---- AUTH ---- */

static struct identity *identity_of(const char *aor)
{
	struct identity *id = NULL;

	assert_int_equal(identity_generate(&aor, 1, 1700000000, &id), OK);
	return id;
}

static void config_for(const struct identity *peer, struct ike_config *cfg)
{
	memset(cfg, 0, sizeof(*cfg));
	cfg->n_fingerprints = 1;
	cfg->fingerprints[0].hash = HASH_SHA256;
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(peer), cfg->fingerprints[0].value), OK);
	cfg->has_peer_key = true;
	assert_int_equal(spki_hash(identity_spki(peer), cfg->peer_key), OK);
	assert_int_equal(span_copy_str(SPAN_LIT("bob@example.com"), cfg->peer_aor, sizeof(cfg->peer_aor)), OK);
}

struct proof {
	struct ike_signed what;
	uint8_t mem[1024];
	struct ike_auth auth;
};

static void prove(const struct identity *id, const struct ike_keys *k, bool digital, const char *name, struct proof *p)
{
	static uint8_t id_body[64];
	struct ike_header h = { .spi_i = 1, .exchange = IKE_AUTH };
	struct wr w = wr_of(id_body, sizeof(id_body));
	struct ike_chain c;
	struct ike_build b;
	struct span msg;

	wr_u32(&w, (uint32_t)IKE_ID_RFC822 << 24);
	wr_str(&w, name);
	p->what = (struct ike_signed){ true, SPAN_LIT("the first message"), SPAN_LIT("the nonce"), wr_done(&w) };
	ike_build_start(&b, p->mem, sizeof(p->mem), &h);
	assert_int_equal(ike_auth_sign(id, k, &p->what, digital, &b), OK);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_AUTH, &c), OK);
	assert_int_equal(ike_auth_parse(c.p[0].body, &p->auth), OK);
}

/* Why a peer is not who it should be, in the order in which it is found out. */
static void who_may(void **state)
{
	struct identity *bob = identity_of("bob@example.com"), *eve = identity_of("bob@example.com"), *renewed = NULL;
	const char *aor = "bob@example.com";
	enum ike_failure why = IKE_FAIL_NONE;
	struct ike_config cfg;
	struct ike_keys i = { .keep = false }, r = { .keep = false };
	struct ike_suite s;
	struct proof p;
	uint8_t key[SPKI_HASH];

	(void)state;
	derive_pair(&lists[0], &s, &i, &r);
	assert_int_equal(identity_renew(bob, &aor, 1, 1700000001, &renewed), OK);
	for (int digital = 0; digital < 2; digital++) {
		config_for(bob, &cfg);
		prove(bob, &i, digital, "bob@example.com", &p);
		assert_int_equal(p.auth.method, digital ? 14 : 9);
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), OK);
		assert_memory_equal(key, cfg.peer_key, SPKI_HASH);
		/* the same key in a certificate that was not announced */
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(renewed), &p.auth, &why, key),
				 ERR_AUTH);
		assert_int_equal(why, IKE_FAIL_FINGERPRINT);
		/* announced by whoever changed the description, but not the pinned key */
		assert_int_equal(hash_of(HASH_SHA256, identity_cert(eve), cfg.fingerprints[0].value), OK);
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(eve), &p.auth, &why, key), ERR_AUTH);
		assert_int_equal(why, IKE_FAIL_PIN);
		/* his certificate, and a signature by somebody else */
		config_for(bob, &cfg);
		prove(eve, &i, digital, "bob@example.com", &p);
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), ERR_AUTH);
		assert_int_equal(why, IKE_FAIL_AUTH);
		/* himself under another name: a tieline peer may not, a stock peer may */
		prove(bob, &i, digital, "robert@example.com", &p);
		why = IKE_FAIL_NONE;
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), ERR_AUTH);
		assert_int_equal(why, IKE_FAIL_AUTH);
		cfg.bare = true;
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), OK);
		/* octets, one by one */
		prove(bob, &i, digital, "bob@example.com", &p);
		p.what.nonce = SPAN_LIT("another nonce");
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), ERR_AUTH);
		prove(bob, &i, digital, "bob@example.com", &p);
		p.what.message = SPAN_LIT("the first Message");
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), ERR_AUTH);
		prove(bob, &i, digital, "bob@example.com", &p);
		p.what.of_initiator = false;
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), ERR_AUTH);
		/* lengths and methods */
		prove(bob, &i, digital, "bob@example.com", &p);
		for (size_t len = 0; len < p.auth.value.len; len++) {
			struct ike_auth cut = { p.auth.method, span_sub(p.auth.value, 0, len) };

			assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &cut, &why, key),
					 ERR_AUTH);
		}
		p.auth.method = 1;
		assert_int_equal(ike_peer_verify(&cfg, &r, &p.what, identity_cert(bob), &p.auth, &why, key), ERR_AUTH);
	}
	identity_free(bob);
	identity_free(eve);
	identity_free(renewed);
	ike_keys_done(&i);
	ike_keys_done(&r);
}

/* ---- window ---- */

static void retransmission(void **state)
{
	static const uint64_t at_ms[] = { 500, 1500, 3500, 7500, 15500, 23500 };
	struct ike_window w = { .next_out = 0 };
	struct span out;

	(void)state;
	assert_true(ike_window_free(&w));
	assert_int_equal(ike_window_deadline_us(&w), TIME_NEVER);
	assert_int_equal(ike_window_send(&w, 0, SPAN_LIT("one")), OK);
	assert_int_equal(ike_window_send(&w, 0, SPAN_LIT("two")), ERR_WRONG_STATE);
	for (size_t i = 0; i < sizeof(at_ms) / sizeof(at_ms[0]); i++) {
		assert_int_equal(ike_window_deadline_us(&w), MS(at_ms[i]));
		assert_int_equal(ike_window_tick(&w, MS(at_ms[i]) - 1, &out), IKE_DUE_NOTHING);
		assert_int_equal(ike_window_tick(&w, MS(at_ms[i]), &out), IKE_DUE_RESEND);
		assert_true(span_eq_str(out, "one"));
	}
	assert_int_equal(ike_window_tick(&w, MS(31499), &out), IKE_DUE_NOTHING);
	assert_int_equal(ike_window_tick(&w, MS(31500), &out), IKE_DUE_FAILED);
	assert_true(ike_window_expects(&w, 0) && !ike_window_expects(&w, 1));
	ike_window_answered(&w);
	assert_false(ike_window_expects(&w, 0));
	/* 2.2: IDs are never used twice */
	w.next_out = UINT32_MAX;
	assert_false(ike_window_free(&w));
	assert_int_equal(ike_window_send(&w, 0, SPAN_LIT("x")), ERR_LIMIT);
	ike_window_done(&w);
}

static void duplicates(void **state)
{
	struct ike_window w = { .next_out = 0 };
	uint8_t hash[32];
	struct span r;

	(void)state;
	assert_int_equal(ike_window_request(&w, 1, SPAN_LIT("q"), &r), IKE_IN_DROP);
	assert_int_equal(ike_window_request(&w, UINT32_MAX, SPAN_LIT("q"), &r), IKE_IN_DROP);
	assert_int_equal(ike_window_request(&w, 0, SPAN_LIT("q0"), &r), IKE_IN_NEW);
	ike_window_answering(&w);
	assert_int_equal(ike_window_request(&w, 0, SPAN_LIT("q0"), &r), IKE_IN_DROP);
	assert_int_equal(hash_of(HASH_SHA256, SPAN_LIT("q0"), hash), OK);
	assert_int_equal(ike_window_respond(&w, hash, SPAN_LIT("a0")), OK);
	assert_int_equal(ike_window_request(&w, 0, SPAN_LIT("q0"), &r), IKE_IN_AGAIN);
	assert_true(span_eq_str(r, "a0"));
	assert_int_equal(ike_window_request(&w, 0, SPAN_LIT("made up"), &r), IKE_IN_DROP);
	assert_int_equal(ike_window_request(&w, 1, SPAN_LIT("q1"), &r), IKE_IN_NEW);
	assert_int_equal(hash_of(HASH_SHA256, SPAN_LIT("q1"), hash), OK);
	assert_int_equal(ike_window_respond(&w, hash, SPAN_LIT("a1")), OK);
	assert_int_equal(ike_window_request(&w, 0, SPAN_LIT("q0"), &r), IKE_IN_DROP);
	assert_int_equal(ike_window_request(&w, 1, SPAN_LIT("q1"), &r), IKE_IN_AGAIN);
	ike_window_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cavp),
		cmocka_unit_test(kdf),
		cmocka_unit_test(prf_plus_limit),
		cmocka_unit_test(capture),
		cmocka_unit_test(sealed_both_ways),
		cmocka_unit_test(sealed_lengths),
		cmocka_unit_test(child_keys),
		cmocka_unit_test(who_may),
		cmocka_unit_test(retransmission),
		cmocka_unit_test(duplicates),
	};

	rng = rng_seeded_init(&seed, 8247);
	ike_list_default(false, &lists[0]);
	if (ike_list_parse(SPAN_LIT("aes256-sha256-modp2048"), false, &lists[1], &(const char *){ NULL }) != OK)
		return 1;
	return HARNESS_RUN(tests);
}
