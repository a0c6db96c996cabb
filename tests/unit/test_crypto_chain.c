/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Chains of a private CA: each thing that must be right, wrong once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "crypto/chain.h"
#include "crypto/cert.h"
#include "harness.h"

#define NOW 1800000000
#define DAY 86400
#define PEER "bob@example.org"

struct made {
	EVP_PKEY *key;
	X509 *cert;
	uint8_t *der;
	size_t len;
};

/* What a certificate says; NULL: the extension is left out. */
struct wish {
	const char *name, *basic, *usage, *eku, *alt;
	int64_t from, to;
	const EVP_MD *md;
	bool unknown_critical;
};

static void add(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e;

	if (!value)
		return;
	e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static void add_unknown_critical(X509 *x)
{
	ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
	ASN1_OBJECT *o = OBJ_txt2obj("1.2.3.4.5", 1);
	X509_EXTENSION *e;

	assert_int_equal(ASN1_OCTET_STRING_set(s, (const uint8_t *)"\5\0", 2), 1);
	e = X509_EXTENSION_create_by_OBJ(NULL, o, 1, s);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
	ASN1_OBJECT_free(o);
	ASN1_OCTET_STRING_free(s);
}

/* issuer NULL: signed by itself. */
static struct made make(const struct wish *w, const struct made *issuer)
{
	struct made m = { .key = EVP_EC_gen("P-256"), .cert = X509_new() };
	X509_NAME *name = X509_get_subject_name(m.cert);
	int len;

	assert_int_equal(X509_set_version(m.cert, X509_VERSION_3), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(m.cert), rand());
	ASN1_TIME_set(X509_getm_notBefore(m.cert), (time_t)(w->from ? w->from : NOW - DAY));
	ASN1_TIME_set(X509_getm_notAfter(m.cert), (time_t)(w->to ? w->to : NOW + DAY));
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)w->name, -1, -1, 0);
	X509_set_issuer_name(m.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	X509_set_pubkey(m.cert, m.key);
	add(m.cert, NID_basic_constraints, w->basic);
	add(m.cert, NID_key_usage, w->usage);
	add(m.cert, NID_ext_key_usage, w->eku);
	add(m.cert, NID_subject_alt_name, w->alt);
	if (w->unknown_critical)
		add_unknown_critical(m.cert);
	assert_true(X509_sign(m.cert, issuer ? issuer->key : m.key, w->md ? w->md : EVP_sha256()) > 0);
	len = i2d_X509(m.cert, &m.der);
	assert_true(len > 0);
	m.len = (size_t)len;
	return m;
}

static void done(struct made *m)
{
	EVP_PKEY_free(m->key);
	X509_free(m->cert);
	OPENSSL_free(m->der);
}

static struct span der(const struct made *m)
{
	return span_of(m->der, m->len);
}

static enum err anchor(const struct made *m, struct cert_anchor **ret)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *text;
	long len;
	enum err e;

	assert_int_equal(PEM_write_bio_X509(b, m->cert), 1);
	len = BIO_get_mem_data(b, &text);
	e = cert_anchor_new(span_of(text, (size_t)len), ret);
	BIO_free(b);
	return e;
}

static const struct wish root_wish = {
	"root", "critical,CA:TRUE", "critical,keyCertSign,cRLSign", NULL, NULL, 0, 0, NULL, false
};
static const struct wish leaf_wish = { "bob", "CA:FALSE", "digitalSignature", NULL, "email:" PEER, 0, 0, NULL, false };

static enum err verify(const struct cert_anchor *a, const struct made *const *certs, unsigned n, int64_t now_s,
		       const char **why)
{
	struct span s[CHAIN_MAX + 2];

	for (unsigned i = 0; i < n; i++)
		s[i] = der(certs[i]);
	return cert_chain_verify(a, s, n, now_s, PEER, why);
}

static void leaves(void **state)
{
	static const struct {
		struct wish w;
		const char *word; /* of the sentence, NULL: fine */
	} rows[] = {
		{ { "a", "CA:FALSE", "digitalSignature", NULL, "email:" PEER, 0, 0, NULL, false }, NULL },
		{ { "b", NULL, NULL, NULL, "email:" PEER, 0, 0, NULL, false }, NULL },
		{ { "c", NULL, "nonRepudiation", NULL, "email:x@y,email:" PEER, 0, 0, NULL, false }, NULL },
		{ { "d", NULL, NULL, "1.3.6.1.5.5.7.3.17", "email:" PEER, 0, 0, NULL, false }, NULL },
		{ { "e", NULL, NULL, "serverAuth,anyExtendedKeyUsage", "email:" PEER, 0, 0, NULL, false }, NULL },
		{ { "f", NULL, NULL, "serverAuth", "email:" PEER, 0, 0, NULL, false }, "not made for" },
		{ { "g", NULL, "keyEncipherment", NULL, "email:" PEER, 0, 0, NULL, false }, "not made for" },
		{ { "h", NULL, NULL, NULL, "email:eve@example.org", 0, 0, NULL, false }, "as a name" },
		{ { "i", NULL, NULL, NULL, "DNS:" PEER, 0, 0, NULL, false }, "as a name" },
		{ { PEER, NULL, NULL, NULL, NULL, 0, 0, NULL, false }, "as a name" },
		{ { "j", NULL, NULL, NULL, "email:bob@example.org.evil", 0, 0, NULL, false }, "as a name" },
		{ { "k", NULL, NULL, NULL, "email:" PEER, NOW - 9 * DAY, NOW - 1, NULL, false }, "expired" },
		{ { "l", NULL, NULL, NULL, "email:" PEER, NOW + 60, NOW + DAY, NULL, false }, "not valid yet" },
		{ { "m", NULL, NULL, NULL, "email:" PEER, 0, 0, NULL, true }, "not valid" },
	};
	struct made root = make(&root_wish, NULL);
	struct cert_anchor *a;

	(void)state;
	assert_int_equal(anchor(&root, &a), OK);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct made leaf = make(&rows[i].w, &root);
		const struct made *one[] = { &leaf };
		const char *why = NULL;
		enum err e = verify(a, one, 1, NOW, &why);

		if (e != (rows[i].word ? ERR_AUTH : OK) || (rows[i].word && !strstr(why, rows[i].word)))
			fail_msg("row %zu: %s, %s", i, err_name(e), why);
		done(&leaf);
	}
	cert_anchor_free(a);
	done(&root);
}

static void chains(void **state)
{
	static const struct wish middle_wish = { "mid", "CA:TRUE,pathlen:0", "keyCertSign", NULL, NULL, 0, 0, NULL,
						 false };
	static const struct wish second_wish = { "mid2", "CA:TRUE", NULL, NULL, NULL, 0, 0, NULL, false };
	static const struct wish no_ca_wish = { "no", "CA:FALSE", "digitalSignature", NULL, "email:x@y", 0, 0,
						NULL, false };
	static const struct wish no_sign_wish = { "ns", "CA:TRUE", "digitalSignature", NULL, NULL, 0, 0, NULL, false };
	static const struct wish old_wish = {
		"old", "CA:TRUE", NULL, NULL, NULL, NOW - 9 * DAY, NOW - DAY, NULL, false
	};
	struct made root = make(&root_wish, NULL), other = make(&root_wish, NULL), mid = make(&middle_wish, &root);
	struct made second = make(&second_wish, &mid), no_ca = make(&no_ca_wish, &root), old = make(&old_wish, &root);
	struct made no_sign = make(&no_sign_wish, &root), own = make(&leaf_wish, NULL);
	struct made by_mid = make(&leaf_wish, &mid), by_second = make(&leaf_wish, &second);
	struct made by_no_ca = make(&leaf_wish, &no_ca), by_old = make(&leaf_wish, &old);
	struct made by_no_sign = make(&leaf_wish, &no_sign), by_other = make(&leaf_wish, &other);
	const struct {
		const struct made *certs[CHAIN_MAX + 1];
		unsigned n;
		const char *word;
	} rows[] = {
		{ { &by_mid, &mid }, 2, NULL },
		{ { &by_mid, &root, &by_other, &mid }, 4, NULL }, /* order and company do not matter */
		{ { &by_mid }, 1, "not from the CA" },
		{ { &by_second, &second, &mid }, 3, "may not sign" }, /* pathlen:0 */
		{ { &by_no_ca, &no_ca }, 2, "may not sign" },
		{ { &by_no_sign, &no_sign }, 2, "may not sign" },
		{ { &by_old, &old }, 2, "expired" },
		{ { &by_other }, 1, "" }, /* the name is the CA's, the signature not */
		{ { &by_other, &other }, 2, "" },
		{ { &own }, 1, "not from the CA" },
		{ { &by_mid, &mid, &root, &root, &root }, 5, "read" },
		{ { NULL }, 0, "read" },
	};
	struct cert_anchor *a, *m;

	(void)state;
	assert_int_equal(anchor(&root, &a), OK);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *why = NULL;
		enum err e = verify(a, rows[i].certs, rows[i].n, NOW, &why);

		if (e != (rows[i].word ? ERR_AUTH : OK) || (rows[i].word && !strstr(why, rows[i].word)))
			fail_msg("row %zu: %s, %s", i, err_name(e), why);
	}
	/* what is no CA is no anchor; one below another is */
	assert_int_equal(anchor(&no_ca, &m), ERR_MALFORMED);
	assert_int_equal(anchor(&no_sign, &m), ERR_MALFORMED);
	assert_int_equal(cert_anchor_new(SPAN_LIT("nothing"), &m), ERR_MALFORMED);
	assert_int_equal(cert_anchor_new(SPAN_NONE, &m), ERR_MALFORMED);
	assert_int_equal(anchor(&mid, &m), OK);
	{
		const struct made *one[] = { &by_mid };
		const char *why;

		assert_int_equal(verify(m, one, 1, NOW, &why), OK);
		assert_int_equal(verify(m, one, 1, NOW + 2 * DAY, &why), ERR_AUTH);
	}
	assert_ptr_equal(cert_anchor_ref(m), m);
	cert_anchor_free(m);
	assert_true(cert_anchor_spki(m).len > 50);
	cert_anchor_free(m);
	cert_anchor_free(a);
	cert_anchor_free(NULL);
	struct made *all[] = { &root, &other,  &mid,       &second,   &no_ca,  &old,        &no_sign,
			       &own,  &by_mid, &by_second, &by_no_ca, &by_old, &by_no_sign, &by_other };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		done(all[i]);
}

/* A certificate cut at every length, and with every byte changed, is refused. */
static void damaged(void **state)
{
	struct made root = make(&root_wish, NULL), leaf = make(&leaf_wish, &root);
	struct cert_anchor *a;
	const char *why;

	(void)state;
	assert_int_equal(anchor(&root, &a), OK);
	for (size_t i = 0; i < leaf.len; i++) {
		uint8_t *copy = malloc(leaf.len);
		struct span s = span_of(copy, i);

		assert_non_null(copy);
		memcpy(copy, leaf.der, leaf.len);
		assert_int_equal(cert_chain_verify(a, &s, 1, NOW, PEER, &why), ERR_AUTH);
		copy[i] ^= 0x20;
		s.len = leaf.len;
		assert_int_equal(cert_chain_verify(a, &s, 1, NOW, PEER, &why), ERR_AUTH);
		free(copy);
	}
	cert_anchor_free(a);
	done(&root);
	done(&leaf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves),
		cmocka_unit_test(chains),
		cmocka_unit_test(damaged),
	};

	return HARNESS_RUN(tests);
}
