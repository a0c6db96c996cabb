/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* How two SAs prove themselves to each other beside a pinned certificate: PSK, PPK, CA; and what IKE_AUTH says besides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "harness.h"
#include "ike_pair.h"

#define NOW 1800000000

static struct pair p;

/* Two stock peers: no binding, no vendor ID. */
static void begin(uint64_t seed)
{
	pair_init(&p, seed);
	for (int i = 0; i < 2; i++) {
		p.cfg[i].bare = true;
		p.cfg[i].has_binding = false;
		p.stock[i] = true;
	}
	p.decision.n_grants = 0;
}

static void secret(struct ike_psk *s, uint8_t seed, size_t len)
{
	s->len = len;
	for (size_t i = 0; i < len; i++)
		s->bytes[i] = (uint8_t)(seed + i * 37);
}

static void psk_only(void)
{
	for (int i = 0; i < 2; i++) {
		secret(&p.cfg[i].psk, 3, 16);
		p.cfg[i].n_fingerprints = 0;
		p.cfg[i].has_peer_key = false;
	}
}

static void ppk_both(void)
{
	for (int i = 0; i < 2; i++) {
		secret(&p.cfg[i].ppk, 9, 32);
		memcpy(p.cfg[i].ppk_id, "house", 6);
	}
}

static void run(void)
{
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, SECONDS(45));
}

/* ---- PSK ---- */

static bool no_certificate(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)from;
	(void)n;
	(void)msg;
	assert_true(*len < 700); /* a certificate alone is longer */
	return true;
}

static void psk(void **state)
{
	uint8_t key[SPKI_HASH];

	(void)state;
	begin(1);
	psk_only();
	p.filter = no_certificate;
	run();
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	assert_int_equal(ike_psk_key("alice@example.com", key), OK);
	assert_memory_equal(p.last[BOB][IKE_EV_ASKED].peer_key, key, SPKI_HASH);
	assert_int_equal(ike_psk_key("bob@example.com", key), OK);
	assert_memory_equal(p.last[ALICE][IKE_EV_AUTHENTICATED].peer_key, key, SPKI_HASH);
	pair_done(&p);
}

static void psk_wrong(void **state)
{
	(void)state;
	begin(2);
	psk_only();
	p.cfg[BOB].psk.bytes[5] ^= 1;
	run();
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_AUTH);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_AUTH);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].notify, IKE_N_AUTHENTICATION_FAILED);
	assert_non_null(strstr(ike_notify_text(IKE_N_AUTHENTICATION_FAILED), "proof of identity"));
	pair_done(&p);
	/* a certificate does not stand in for a PSK, nor the reverse */
	for (int i = 0; i < 2; i++) {
		begin(3);
		secret(&p.cfg[i].psk, 3, 16);
		run();
		assert_int_equal(p.n_events[ALICE][IKE_EV_AUTHENTICATED] + p.n_events[BOB][IKE_EV_AUTHENTICATED], 0);
		assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, i == BOB ? IKE_FAIL_AUTH : IKE_FAIL_FINGERPRINT);
		pair_done(&p);
	}
}

/* Neither a short PSK, nor one in a call of ours, nor nothing at all. */
static void psk_refused(void **state)
{
	struct ike_sa *sa = NULL;

	(void)state;
	begin(4);
	psk_only();
	p.cfg[0].psk.len = 15;
	assert_int_equal(ike_sa_new(&p.cfg[0], &sa), ERR_DENIED);
	p.cfg[0].psk.len = 0;
	assert_int_equal(ike_sa_new(&p.cfg[0], &sa), ERR_DENIED);
	pair_init(&p, 4);
	secret(&p.cfg[0].psk, 3, 16);
	assert_int_equal(ike_sa_new(&p.cfg[0], &sa), ERR_DENIED);
	secret(&p.cfg[1].ppk, 3, 32);
	assert_int_equal(ike_sa_new(&p.cfg[1], &sa), ERR_DENIED); /* without its name */
	assert_null(sa);
}

/* HMAC by OpenSSL itself. */
static void hmac256(struct span key, struct span text, uint8_t ret[32])
{
	unsigned len = 0;

	assert_non_null(HMAC(EVP_sha256(), key.p, (int)key.len, text.p, text.len, ret, &len));
	assert_int_equal(len, 32);
}

static void keys_of(struct ike_keys *k)
{
	*k = (struct ike_keys){ .prf = HASH_SHA256, .prf_len = 32 };
	for (uint8_t i = 0; i < 32; i++) {
		k->sk_d[i] = i;
		k->sk_pi[i] = (uint8_t)(0x40 + i);
		k->sk_pr[i] = (uint8_t)(0x80 + i);
	}
}

/* RFC 7296, 2.15, written once more. */
static void psk_octets(void **state)
{
	const struct ike_signed s = { .of_initiator = true,
				      .message = SPAN_LIT("the first message"),
				      .nonce = SPAN_LIT("nonce of the other"),
				      .id_body = SPAN_LIT("\3\0\0\0alice@example.com") };
	uint8_t mac[32], padded[32], want[32], mem[256], out[256];
	struct wr w = wr_of(mem, sizeof(mem));
	struct ike_header h = { .spi_i = 1 };
	struct ike_auth auth = { .method = IKE_AUTH_SHARED_KEY };
	struct ike_psk k;
	struct ike_keys keys;
	struct ike_build b;
	struct span msg;

	(void)state;
	secret(&k, 1, 20);
	keys_of(&keys);
	hmac256(span_of(keys.sk_pi, 32), s.id_body, mac);
	wr_span(&w, s.message);
	wr_span(&w, s.nonce);
	wr_bytes(&w, mac, 32);
	hmac256(span_of(k.bytes, k.len), SPAN_LIT("Key Pad for IKEv2"), padded);
	hmac256(SPAN_OF(padded), wr_done(&w), want);
	ike_build_start(&b, out, sizeof(out), &h);
	assert_int_equal(ike_psk_sign(&k, &keys, &s, &b), OK);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(msg.len, IKE_HDR + 8 + 32);
	assert_int_equal(msg.p[IKE_HDR + 4], IKE_AUTH_SHARED_KEY);
	assert_memory_equal(msg.p + IKE_HDR + 8, want, 32);
	auth.value = SPAN_OF(want);
	assert_int_equal(ike_psk_verify(&k, &keys, &s, &auth), OK);
	auth.method = IKE_AUTH_DIGITAL_SIGNATURE;
	assert_int_equal(ike_psk_verify(&k, &keys, &s, &auth), ERR_AUTH);
	auth.method = IKE_AUTH_SHARED_KEY;
	for (size_t len = 0; len < 32; len++) {
		auth.value = span_of(want, len);
		assert_int_equal(ike_psk_verify(&k, &keys, &s, &auth), ERR_AUTH);
	}
	auth.value = SPAN_OF(want);
	for (size_t i = 0; i < 32; i++) {
		want[i] ^= 1;
		assert_int_equal(ike_psk_verify(&k, &keys, &s, &auth), ERR_AUTH);
		want[i] ^= 1;
	}
}

/* ---- PPK (RFC 8784) ---- */

static void ppk_keys(void **state)
{
	uint8_t text[33], want[32];
	struct ike_keys before, k;
	struct ike_psk s;

	(void)state;
	secret(&s, 77, 32);
	keys_of(&before);
	k = before;
	assert_int_equal(ike_ppk_mix(&s, &k), OK);
	text[32] = 1; /* section 3: SK = prf(PPK, SK' | 0x01) */
	memcpy(text, before.sk_d, 32);
	hmac256(span_of(s.bytes, s.len), SPAN_OF(text), want);
	assert_memory_equal(k.sk_d, want, 32);
	memcpy(text, before.sk_pi, 32);
	hmac256(span_of(s.bytes, s.len), SPAN_OF(text), want);
	assert_memory_equal(k.sk_pi, want, 32);
	memcpy(text, before.sk_pr, 32);
	hmac256(span_of(s.bytes, s.len), SPAN_OF(text), want);
	assert_memory_equal(k.sk_pr, want, 32);
}

static void ppk(void **state)
{
	uint8_t without[32];

	(void)state;
	for (int with_psk = 0; with_psk < 2; with_psk++) {
		begin(5);
		if (with_psk)
			psk_only();
		run();
		memcpy(without, p.children[ALICE][0].key_in, 16);
		pair_done(&p);
		begin(5);
		if (with_psk)
			psk_only();
		ppk_both();
		run();
		assert_true(pair_up(&p) && pair_child_same(&p, 0));
		assert_memory_not_equal(p.children[ALICE][0].key_in, without, 16);
		pair_done(&p);
	}
	/* a tieline call takes one as well */
	pair_init(&p, 6);
	ppk_both();
	run();
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	pair_done(&p);
}

static void ppk_wrong(void **state)
{
	(void)state;
	/* the caller alone has one: it does not go on without */
	begin(7);
	ppk_both();
	p.cfg[BOB].ppk.len = 0;
	run();
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_PPK);
	assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 0);
	pair_done(&p);
	/* the other one alone */
	begin(8);
	ppk_both();
	p.cfg[ALICE].ppk.len = 0;
	run();
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_PPK);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].notify, IKE_N_AUTHENTICATION_FAILED);
	pair_done(&p);
	/* another name, another value */
	begin(9);
	ppk_both();
	p.cfg[BOB].ppk_id[0] = 'm';
	run();
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_PPK);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].notify, IKE_N_AUTHENTICATION_FAILED);
	pair_done(&p);
	begin(10);
	ppk_both();
	p.cfg[BOB].ppk.bytes[31] ^= 0x80;
	run();
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_AUTH);
	assert_int_equal(p.n_events[ALICE][IKE_EV_AUTHENTICATED], 0);
	pair_done(&p);
}

/* ---- CA ---- */

static EVP_PKEY *ca_key;
static X509 *ca_cert;

static void add(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static X509 *certificate(EVP_PKEY *key, const char *name, int64_t to, bool is_ca)
{
	X509 *x = X509_new();
	char alt[80];

	assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
	ASN1_TIME_set(X509_getm_notBefore(x), NOW - 86400);
	ASN1_TIME_set(X509_getm_notAfter(x), (time_t)to);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(is_ca ? x : ca_cert));
	X509_set_pubkey(x, key);
	(void)snprintf(alt, sizeof(alt), "email:%s", name);
	add(x, is_ca ? NID_basic_constraints : NID_subject_alt_name, is_ca ? "critical,CA:TRUE" : alt);
	assert_true(X509_sign(x, ca_key, EVP_sha256()) > 0);
	return x;
}

static struct identity *signed_identity(const char *name, int64_t to)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = certificate(key, name, to, false);
	BIO *kb = BIO_new(BIO_s_mem()), *cb = BIO_new(BIO_s_mem());
	struct identity *id = NULL;
	char *kt, *ct;
	long kn, cn;

	PEM_write_bio_PrivateKey(kb, key, NULL, NULL, 0, NULL, NULL);
	PEM_write_bio_X509(cb, x);
	kn = BIO_get_mem_data(kb, &kt);
	cn = BIO_get_mem_data(cb, &ct);
	assert_int_equal(identity_load(span_of(kt, (size_t)kn), span_of(ct, (size_t)cn), &id), OK);
	BIO_free(kb);
	BIO_free(cb);
	X509_free(x);
	EVP_PKEY_free(key);
	return id;
}

static struct cert_anchor *new_ca(void)
{
	struct cert_anchor *a;
	BIO *b = BIO_new(BIO_s_mem());
	char *text;
	long n;

	EVP_PKEY_free(ca_key);
	X509_free(ca_cert);
	ca_cert = NULL;
	ca_key = EVP_EC_gen("P-256");
	ca_cert = certificate(ca_key, "our CA", NOW + 86400, true);
	PEM_write_bio_X509(b, ca_cert);
	n = BIO_get_mem_data(b, &text);
	assert_int_equal(cert_anchor_new(span_of(text, (size_t)n), &a), OK);
	BIO_free(b);
	return a;
}

static void ca(void **state)
{
	static const struct {
		const char *name;
		int64_t to;
		bool other_ca, other_cert;
		enum ike_failure fail;
		const char *word;
	} rows[] = {
		{ "bob@example.com", NOW + 9999, false, false, IKE_FAIL_NONE, NULL },
		{ "bob@example.com", NOW - 60, false, false, IKE_FAIL_CHAIN, "expired" },
		{ "eve@example.com", NOW + 9999, false, false, IKE_FAIL_CHAIN, "as a name" },
		{ "bob@example.com", NOW + 9999, true, false, IKE_FAIL_CHAIN, NULL },
		/* from the CA, but not the announced one (RFC 6193, 7 and 8.1) */
		{ "bob@example.com", NOW + 9999, false, true, IKE_FAIL_FINGERPRINT, NULL },
	};

	(void)state;
	for (int role = 0; role < 2; role++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct cert_anchor *a = new_ca(), *b = rows[i].other_ca ? new_ca() : cert_anchor_ref(a);
			struct identity *id = signed_identity(rows[i].name, rows[i].to);
			const struct ike_event *e;

			begin(20 + i);
			/* the one with the CA certificate has bob's name in either role */
			p.cfg[role].identity = id;
			if (!rows[i].other_cert)
				pair_expect(&p.cfg[!role], id);
			p.cfg[!role].has_peer_key = false;
			memcpy(p.cfg[!role].peer_aor, "bob@example.com", 16);
			p.cfg[!role].ca = a;
			p.cfg[!role].wall_s = NOW;
			cert_anchor_free(b);
			run();
			cert_anchor_free(a); /* the SA has its own */
			e = &p.last[!role][IKE_EV_FAILED];
			assert_int_equal(pair_up(&p), rows[i].fail == IKE_FAIL_NONE);
			assert_int_equal(e->fail, rows[i].fail);
			if (rows[i].word)
				assert_non_null(strstr(e->detail, rows[i].word));
			pair_done(&p);
			identity_free(id);
		}
	EVP_PKEY_free(ca_key);
	X509_free(ca_cert);
}

/* ---- what else is said ---- */

static void initial_contact(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		pair_init(&p, 30);
		if (i < 2)
			p.cfg[i].initial_contact = true;
		run();
		assert_true(pair_up(&p));
		assert_int_equal(p.last[BOB][IKE_EV_ASKED].initial_contact, i == ALICE);
		assert_int_equal(p.last[BOB][IKE_EV_AUTHENTICATED].initial_contact, i == ALICE);
		assert_int_equal(p.last[ALICE][IKE_EV_AUTHENTICATED].initial_contact, i == BOB);
		pair_done(&p);
	}
}

/* Turns CHILDLESS_IKEV2_SUPPORTED into one that nobody knows, also in what AUTH covers. */
static void forget(uint8_t *msg, size_t len)
{
	static const uint8_t notify[] = { 0, 8, 0, 0, 0x40, 0x22 };

	pair_flip(msg, len, SPAN_OF(notify), 5);
}

static bool not_childless(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)n;
	if (from == BOB && msg[18] == IKE_SA_INIT) {
		forget(msg, *len);
		forget(q->sa[BOB]->setup->init_r, q->sa[BOB]->setup->init_r_len);
	}
	return true;
}

static void childless(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		pair_init(&p, 31);
		p.cfg[ALICE].tsi.n = p.cfg[ALICE].tsr.n = 0;
		p.decision.verdict = IKE_REFUSED;
		if (i)
			p.filter = not_childless;
		run();
		assert_int_equal(pair_up(&p), !i);
		assert_int_equal(p.n_children[ALICE] + p.n_children[BOB], 0);
		if (i)
			assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_PROTOCOL);
		pair_done(&p);
	}
}

/* An IKE_AUTH answer without AUTH: who broke a rule is told apart from what the peer said. */
static void answer_without(struct ike_notify *error)
{
	struct ike_header h;
	struct ike_build b;
	struct span msg;
	uint8_t mem[256];

	pair_init(&p, 32);
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, 2 * FLIGHT_US);
	h = ike_header_of(p.sa[BOB], IKE_AUTH, true, 1);
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	if (error)
		ike_build_notify(&b, error->type, SPAN_NONE);
	assert_int_equal(ike_build_seal(&b, &p.sa[BOB]->keys.out, &msg), OK);
	ike_sa_input(p.sa[ALICE], p.now_us, &p.path[ALICE], msg);
	pair_events(&p);
}

static void whose_error(void **state)
{
	struct ike_notify n = { .type = IKE_N_INVALID_SYNTAX };

	(void)state;
	answer_without(&n);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_PROTOCOL);
	assert_null(p.last[ALICE][IKE_EV_FAILED].detail);
	pair_done(&p);
	answer_without(NULL);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_PROTOCOL);
	assert_non_null(strstr(p.last[ALICE][IKE_EV_FAILED].detail, "breaks the rules"));
	pair_done(&p);
}

static void sentences(void **state)
{
	const char *unknown = ike_notify_text(8000);

	(void)state;
	for (unsigned n = 0; n < 65536; n++)
		assert_true(strlen(ike_notify_text((uint16_t)n)) > 20);
	for (unsigned n = 1; n < 45; n++)
		if (n == 1 || n == 4 || n == 5 || n == 7 || n == 9 || n == 11 || n == 14 || n == 17 || n == 24 ||
		    (n >= 34 && n != 42))
			assert_string_not_equal(ike_notify_text((uint16_t)n), unknown);
}

/* ---- memory ---- */

static bool once(void *arg)
{
	bool good;

	(void)arg;
	begin(40);
	psk_only();
	ppk_both();
	if (pair_new(&p) != OK || ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) != OK) {
		pair_done(&p);
		return false;
	}
	pair_for(&p, 4 * FLIGHT_US);
	good = pair_up(&p) && pair_child_same(&p, 0);
	pair_for(&p, SECONDS(20));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	pair_done(&p);
	return good;
}

static void no_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(once, NULL);
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(psk),        cmocka_unit_test(psk_wrong), cmocka_unit_test(psk_refused),
		cmocka_unit_test(psk_octets), cmocka_unit_test(ppk_keys),  cmocka_unit_test(ppk),
		cmocka_unit_test(ppk_wrong),  cmocka_unit_test(ca),        cmocka_unit_test(initial_contact),
		cmocka_unit_test(childless),  cmocka_unit_test(sentences), cmocka_unit_test(whose_error),
		cmocka_unit_test(no_memory),  cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
