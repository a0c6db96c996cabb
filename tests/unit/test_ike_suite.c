/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Lists of algorithms: their words, and an IKE SA with each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "ike/sa_impl.h"
#include "ike_pair.h"

static void words(void **state)
{
	static const struct {
		const char *text;
		bool esp, good;
	} rows[] = {
		{ "aes256gcm16-prfsha384-ecp384", false, true },
		{ "aes256-sha256-modp2048", false, true },
		{ "chacha20poly1305-prfsha256-x25519", false, true },
		{ "aes128gcm16-aes256gcm16-prfsha256-x25519-ecp256 , aes128-sha256-modp3072", false, true },
		{ "aes256gcm16", true, true },
		{ "aes256-sha256-noesn", true, true },
		{ "aes128gcm16-esn-noesn,aes128-sha256", true, true },
		{ "", false, false },
		{ "aes256gcm16-prfsha384-ecp384,", false, false },
		{ ",aes256gcm16-prfsha384-ecp384", false, false },
		{ "aes256gcm16-prfsha384-ecp384-", false, false },
		{ "aes256gcm16--prfsha384-ecp384", false, false },
		{ "AES256GCM16-prfsha384-ecp384", false, false },
		{ "3des-sha1-modp1024", false, false },
		{ "aes256gcm16-prfsha384-modp1024", false, false },
		{ "aes256gcm16-prfsha384", false, false }, /* no group */
		{ "aes256gcm16-ecp384", false, false }, /* no PRF */
		{ "prfsha384-ecp384", false, false }, /* no cipher */
		{ "aes256-prfsha256-ecp384", false, false }, /* no integrity */
		{ "aes256gcm16-sha256-prfsha256-ecp384", false, false }, /* one too many */
		{ "aes256gcm16-aes256-sha256-prfsha256-ecp384", false, false }, /* mixed */
		{ "aes256gcm16-aes256gcm16-prfsha256-ecp384", false, false }, /* twice */
		{ "aes256gcm16-prfsha256-ecp384-esn", false, false },
		{ "aes256gcm16-prfsha256", true, false },
		{ "aes256gcm16-x25519", true, true }, /* PFS */
		{ "aes256gcm16-sha256-x25519", true, false },
		{ "aes256", true, false },
		{ "aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16",
		  true, true },
		{ "aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,aes256gcm16,"
		  "aes256gcm16",
		  true, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *expected = NULL;
		struct ike_list l;

		if ((ike_list_parse(span_str(rows[i].text), rows[i].esp, &l, &expected) == OK) != rows[i].good)
			fail_msg("\"%s\"", rows[i].text);
		assert_non_null(expected);
	}
}

/* The default list is what docs/protocol.md says: the fast and combined ones first. */
static void by_default(void **state)
{
	struct ike_list l;

	(void)state;
	for (int esp = 0; esp < 2; esp++) {
		ike_list_default(esp, &l);
		assert_int_equal(l.n, 2);
		assert_string_equal(ike_alg_at(l.proposal[0].row[0])->word, "aes128gcm16");
		assert_string_equal(ike_alg_at(l.proposal[1].row[0])->word, "aes128");
	}
	ike_list_default(false, &l);
	assert_string_equal(ike_group_first(&l)->name, "X25519");
	assert_non_null(ike_group_find(&l, 14));
	assert_null(ike_group_find(&l, 2));
	assert_null(ike_group_find(&l, 0xffff));
}

static const struct ike_group *group_used(const struct pair *p)
{
	return p->sa[ALICE]->suite.group;
}

/* One call: alice initiates with her lists, bob answers with his. */
static void one(const char *alice, const char *bob, const char *esp, const char *want_ike, enum cipher_alg want_esp,
		bool want_esn)
{
	char text[IKE_SUITE_TEXT];
	const char *expected;
	struct pair p;

	pair_init(&p, 8247);
	if (alice)
		assert_int_equal(ike_list_parse(span_str(alice), false, &p.cfg[ALICE].ike, &expected), OK);
	if (bob)
		assert_int_equal(ike_list_parse(span_str(bob), false, &p.cfg[BOB].ike, &expected), OK);
	if (esp)
		assert_int_equal(ike_list_parse(span_str(esp), true, &p.cfg[BOB].esp, &expected), OK);
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, SECONDS(5));
	if (!ike_sa_up(p.sa[ALICE]) || !ike_sa_up(p.sa[BOB]))
		fail_msg("%s / %s: not up", alice ? alice : "default", bob ? bob : "default");
	assert_string_equal(ike_suite_text(&p.sa[ALICE]->suite, text), want_ike);
	assert_ptr_equal(group_used(&p), p.sa[BOB]->suite.group);
	assert_int_equal(p.n_children[ALICE], 1);
	assert_int_equal(p.children[ALICE][0].alg, want_esp);
	assert_int_equal(p.children[ALICE][0].esn, want_esn);
	assert_int_equal(p.children[BOB][0].esn, want_esn);
	assert_int_equal(p.children[ALICE][0].key_len, cipher_key_size(want_esp));
	assert_true(pair_child_same(&p, 0));
	pair_done(&p);
}

static void each_suite(void **state)
{
	static const char gcm[] = "AES-GCM-16-128, HMAC-SHA2-256, X25519";

	(void)state;
	one(NULL, NULL, NULL, gcm, CIPHER_AES128_GCM, true);
	one("aes256gcm16-prfsha384-ecp384", NULL, "aes256gcm16", "AES-GCM-16-256, HMAC-SHA2-384, P-384",
	    CIPHER_AES256_GCM, false);
	one("chacha20poly1305-prfsha512-ecp256", NULL, "chacha20poly1305-esn",
	    "ChaCha20-Poly1305, HMAC-SHA2-512, P-256", CIPHER_CHACHA20_POLY1305, true);
	one("aes256-sha256-modp2048", NULL, "aes256-sha256", "AES-CBC-256, HMAC-SHA2-256-128, HMAC-SHA2-256, MODP-2048",
	    CIPHER_AES256_CBC_SHA256, false);
	one("aes128-sha256-prfsha512-modp3072", NULL, "aes128-sha256-esn",
	    "AES-CBC-128, HMAC-SHA2-256-128, HMAC-SHA2-512, MODP-3072", CIPHER_AES128_CBC_SHA256, true);
}

/* Takes half of the nonce out of an IKE_SA_INIT of `*p->arg`. */
static bool half_a_nonce(struct pair *p, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct ike_chain c;
	struct ike_header h;
	const struct ike_payload *pn;
	size_t at;

	(void)n;
	if (from != *(const int *)p->arg || msg[18] != IKE_SA_INIT)
		return true;
	assert_int_equal(ike_header_parse(span_of(msg, *len), &h), OK);
	assert_int_equal(ike_chain_parse(span_from(span_of(msg, *len), IKE_HDR), h.next, &c), OK);
	pn = ike_chain_find(&c, IKE_P_NONCE);
	assert_int_equal(pn->body.len, 32);
	at = (size_t)(pn->body.p - msg);
	memmove(msg + at + 16, msg + at + 32, *len - at - 32);
	*len -= 16;
	put_be16(msg + at - 2, 4 + 16);
	put_be32(msg + 24, (uint32_t)*len);
	return true;
}

/* RFC 7296, 2.10: 16 bytes are enough for HMAC-SHA2-256, and for no longer PRF. */
static void nonce_as_long_as_the_prf_wants(void **state)
{
	static const struct {
		const char *list;
		bool enough;
	} rows[] = { { "aes128gcm16-prfsha256-x25519", true },
		     { "aes128gcm16-prfsha384-x25519", false },
		     { "aes128gcm16-prfsha512-x25519", false } };
	const char *expected;
	struct pair p;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		int from = (int)i % 2;

		pair_init(&p, i);
		assert_int_equal(ike_list_parse(span_str(rows[i / 2].list), false, &p.cfg[ALICE].ike, &expected), OK);
		assert_int_equal(pair_new(&p), OK);
		p.filter = half_a_nonce;
		p.arg = &from;
		assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
		pair_for(&p, MS(100));
		/* the message was changed on its way: AUTH tells; but a short nonce is not taken at all */
		assert_int_equal(p.sa[!from]->suite.prf != NULL, rows[i / 2].enough);
		assert_false(pair_up(&p));
		pair_done(&p);
	}
}

/* The responder wants a group that the first message had no value for: INVALID_KE_PAYLOAD, for each of them. */
static void another_group(void **state)
{
	(void)state;
	one(NULL, "aes128gcm16-prfsha256-ecp256", NULL, "AES-GCM-16-128, HMAC-SHA2-256, P-256", CIPHER_AES128_GCM,
	    true);
	one(NULL, "aes128gcm16-prfsha256-ecp384", NULL, "AES-GCM-16-128, HMAC-SHA2-256, P-384", CIPHER_AES128_GCM,
	    true);
	one(NULL, "aes128gcm16-prfsha256-modp2048", NULL, "AES-GCM-16-128, HMAC-SHA2-256, MODP-2048", CIPHER_AES128_GCM,
	    true);
	one(NULL, "aes256-sha256-modp3072", NULL, "AES-CBC-256, HMAC-SHA2-256-128, HMAC-SHA2-256, MODP-3072",
	    CIPHER_AES128_GCM, true);
	/* the initiator's second choice is the responder's only one */
	one("aes128gcm16-prfsha256-modp2048,aes128-sha256-x25519", "aes128-sha256-x25519", NULL,
	    "AES-CBC-128, HMAC-SHA2-256-128, HMAC-SHA2-256, X25519", CIPHER_AES128_GCM, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(by_default),
		cmocka_unit_test(each_suite),
		cmocka_unit_test(another_group),
		cmocka_unit_test(nonce_as_long_as_the_prf_wants),
	};
	int r = HARNESS_RUN(tests);

	pair_identities_done();
	return r;
}
