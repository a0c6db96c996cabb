/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/timers.h"
#include "harness.h"
#include "sip/digest.h"

static struct sip_msg m;

static void challenge_with(const char *headers)
{
	static char text[2048];
	const char *why;
	unsigned status;
	int n = snprintf(text, sizeof(text),
			 "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
			 "To: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n%s\r\n",
			 headers);

	assert_int_equal(sip_parse(span_of(text, (size_t)n), &m, &why, &status), OK);
}

static void rfc7616_vector(void **state)
{
	json_t *v = harness_json("sip-digest/rfc7616-sha256.json");
	struct sip_challenge c = { .hash = HASH_SHA256,
				   .realm = span_str(harness_text(v, "realm")),
				   .nonce = span_str(harness_text(v, "nonce")),
				   .qop_auth = true };
	struct sip_credentials k;
	uint8_t mem[1024];
	struct wr w = wr_of(mem, sizeof(mem));

	(void)state;
	assert_int_equal(sip_digest_answer(&c, harness_text(v, "username"), harness_text(v, "password"),
					   harness_text(v, "method"), span_str(harness_text(v, "uri")), 1,
					   harness_text(v, "cnonce"), &w),
			 OK);
	assert_int_equal(sip_credentials_parse(wr_done(&w), &k), OK);
	assert_true(span_eq_str(k.response, harness_text(v, "response")) && span_eq_str(k.nc, harness_text(v, "nc")));
	json_decref(v);
}

static void both_sides(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		enum hash_alg hash = i & 1 ? HASH_SHA256 : HASH_MD5;
		char headers[256], ha1[HASH_MAX * 2 + 1];
		struct sip_challenge c;
		struct sip_credentials k;
		uint8_t mem[1024];
		struct wr w = wr_of(mem, sizeof(mem));

		(void)snprintf(headers, sizeof(headers),
			       "WWW-Authenticate: Digest realm=\"r, x\", nonce=\"n1\", opaque=\"\"%s%s\r\n",
			       i & 1 ? ",algorithm=SHA-256" : "", i & 2 ? ", qop=\"auth-int, auth\"" : "");
		challenge_with(headers);
		assert_int_equal(sip_challenge_best(&m, H_WWW_AUTHENTICATE, &c), OK);
		assert_int_equal(c.hash, hash);
		assert_int_equal(sip_digest_answer(&c, "me", "secret", "REGISTER", SPAN_LIT("sip:b"), 3, "cn", &w), OK);
		assert_int_equal(sip_credentials_parse(wr_done(&w), &k), OK);
		assert_true(k.hash == hash && span_eq_str(k.user, "me") && span_eq_str(k.realm, "r, x"));
		assert_int_equal(sip_digest_ha1(hash, "me", "r, x", "secret", ha1), OK);
		assert_int_equal(sip_digest_verify(&k, ha1, SPAN_LIT("REGISTER")), OK);
		assert_int_equal(sip_digest_verify(&k, ha1, SPAN_LIT("INVITE")), ERR_AUTH);
		assert_int_equal(sip_digest_ha1(hash, "me", "r, x", "guess", ha1), OK);
		assert_int_equal(sip_digest_verify(&k, ha1, SPAN_LIT("REGISTER")), ERR_AUTH);
		for (size_t cut = 0; cut < w.len; cut++)
			if (sip_credentials_parse(span_sub(wr_done(&w), 0, cut), &k) == OK)
				assert_true(k.response.len == 2 * hash_size(k.hash));
	}
}

static void the_best_challenge_wins(void **state)
{
	struct sip_challenge c;

	(void)state;
	challenge_with("WWW-Authenticate: Digest realm=\"a\", nonce=\"1\", algorithm=MD5\r\n"
		       "WWW-Authenticate: Digest realm=\"a\", nonce=\"2\", algorithm=SHA-256, stale=TRUE\r\n"
		       "WWW-Authenticate: Digest realm=\"a\", nonce=\"3\", algorithm=SHA-512-256\r\nWWW-Authenticate: "
		       "Basic realm=\"a\"\r\n");
	assert_int_equal(sip_challenge_best(&m, H_WWW_AUTHENTICATE, &c), OK);
	assert_true(c.hash == HASH_SHA256 && span_eq_str(c.nonce, "2") && c.stale);
	challenge_with("WWW-Authenticate: Digest realm=\"a\", nonce=\"1\", qop=\"auth-int\"\r\n");
	assert_int_equal(sip_challenge_best(&m, H_WWW_AUTHENTICATE, &c), ERR_NOTFOUND);
	assert_int_equal(sip_challenge_best(&m, H_PROXY_AUTHENTICATE, &c), ERR_NOTFOUND);
}

static void nonces(void **state)
{
	struct rng_seeded s;
	struct rng rng = rng_seeded_init(&s, 1);
	struct sip_nonces a, b;
	char text[SIP_NONCE_TEXT];

	(void)state;
	sip_nonces_init(&a, &rng);
	sip_nonces_init(&b, &rng);
	assert_int_equal(sip_nonce_make(&a, SECONDS(100), text), OK);
	assert_int_equal(sip_nonce_check(&a, SECONDS(130), span_str(text), 30), OK);
	assert_int_equal(sip_nonce_check(&a, SECONDS(131), span_str(text), 30), ERR_WRONG_STATE);
	assert_int_equal(sip_nonce_check(&a, SECONDS(99), span_str(text), 30), ERR_WRONG_STATE);
	assert_int_equal(sip_nonce_check(&b, SECONDS(100), span_str(text), 30), ERR_AUTH);
	for (size_t i = 0; i < 48; i++) {
		char bad[SIP_NONCE_TEXT];

		memcpy(bad, text, sizeof(bad));
		bad[i] = bad[i] == '0' ? '1' : '0';
		assert_int_equal(sip_nonce_check(&a, SECONDS(100), span_str(bad), 30), ERR_AUTH);
		assert_int_equal(sip_nonce_check(&a, SECONDS(100), span_of(text, i), 30), ERR_AUTH);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc7616_vector),
		cmocka_unit_test(both_sides),
		cmocka_unit_test(the_best_challenge_wins),
		cmocka_unit_test(nonces),
	};

	return HARNESS_RUN(tests);
}
