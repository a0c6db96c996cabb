/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "crypto/chain.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "crypto/cert.h"

/* 112 bits: RSA from 2048, curves from 224, no SHA-1 (RFC 8247, 4.2) */
#define SECURITY_LEVEL 2
#define EKU_IPSEC_IKE "1.3.6.1.5.5.7.3.17"
#define EKU_ANY "2.5.29.37.0"

struct cert_anchor {
	X509 *cert;
	uint8_t *spki;
	size_t spki_len;
	unsigned owners;
};

static int no_password(char *buf, int size, int rwflag, void *u)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)u;
	return -1;
}

enum err cert_anchor_new(struct span pem, struct cert_anchor **ret)
{
	struct cert_anchor *a;
	BIO *b;
	int len;

	if (pem.len > INT_MAX)
		return ERR_LIMIT;
	a = calloc(1, sizeof(*a));
	if (!a)
		return ERR_NOMEM;
	a->owners = 1;
	b = BIO_new_mem_buf(pem.p, (int)pem.len);
	a->cert = b ? PEM_read_bio_X509(b, NULL, no_password, NULL) : NULL;
	BIO_free(b);
	ERR_clear_error();
	/* RFC 5280, 4.2.1.3 and 4.2.1.9: basic constraints say CA, and key usage, where it is there, keyCertSign */
	if (!a->cert || X509_check_ca(a->cert) != 1 || !(X509_get_key_usage(a->cert) & KU_KEY_CERT_SIGN)) {
		cert_anchor_free(a);
		return ERR_MALFORMED;
	}
	len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(a->cert), &a->spki);
	if (len <= 0) {
		cert_anchor_free(a);
		return ERR_SYSTEM;
	}
	a->spki_len = (size_t)len;
	*ret = a;
	return OK;
}

struct cert_anchor *cert_anchor_ref(struct cert_anchor *a)
{
	if (a)
		a->owners++;
	return a;
}

void cert_anchor_free(struct cert_anchor *a)
{
	if (!a || --a->owners)
		return;
	X509_free(a->cert);
	OPENSSL_free(a->spki);
	free(a);
}

struct span cert_anchor_spki(const struct cert_anchor *a)
{
	return span_of(a->spki, a->spki_len);
}

static X509 *parse(struct span der)
{
	const uint8_t *p = der.p;
	X509 *x = der.len && der.len <= CERT_DER_MAX ? d2i_X509(NULL, &p, (long)der.len) : NULL;

	if (x && p != der.p + der.len) {
		X509_free(x);
		return NULL;
	}
	return x;
}

/* RFC 4945, 5.1.3.2 and 5.1.3.12: what is said about the key's use must fit; what is not said does not forbid. */
static bool for_ike(X509 *leaf)
{
	EXTENDED_KEY_USAGE *eku;
	bool good = false;
	int crit;

	if (!(X509_get_key_usage(leaf) & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)))
		return false;
	eku = X509_get_ext_d2i(leaf, NID_ext_key_usage, &crit, NULL);
	if (!eku)
		return crit == -1; /* absent; otherwise unreadable or twice */
	for (int i = 0; i < sk_ASN1_OBJECT_num(eku); i++) {
		char oid[64];

		if (OBJ_obj2txt(oid, sizeof(oid), sk_ASN1_OBJECT_value(eku, i), 1) > 0)
			good |= !strcmp(oid, EKU_IPSEC_IKE) || !strcmp(oid, EKU_ANY);
	}
	EXTENDED_KEY_USAGE_free(eku);
	return good;
}

static const char *why_of(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED: return "the certificate, or one above it, has expired";
	case X509_V_ERR_CERT_NOT_YET_VALID: return "the certificate, or one above it, is not valid yet";
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return "the certificate is not from the CA that the configuration names";
	case X509_V_ERR_CERT_SIGNATURE_FAILURE: return "a signature on the certificate, or on one above it, is wrong";
	case X509_V_ERR_INVALID_CA:
	case X509_V_ERR_PATH_LENGTH_EXCEEDED:
	case X509_V_ERR_KEYUSAGE_NO_CERTSIGN: return "a certificate that may not sign others has signed one";
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK: return "the certificate, or one above it, uses a key or hash that is too weak";
	default: return "the certificate's chain is not valid";
	}
}

/* The chain as RFC 5280 wants it; OpenSSL's own idea of names and purposes is not asked. */
static enum err verify(const struct cert_anchor *a, X509 *leaf, STACK_OF(X509) * others, int64_t now_s,
		       const char **ret_why)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	enum err e = ERR_NOMEM;
	int error;

	if (store && ctx && X509_STORE_add_cert(store, a->cert) == 1 &&
	    X509_STORE_CTX_init(ctx, store, leaf, others) == 1) {
		param = X509_STORE_CTX_get0_param(ctx);
		X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
		X509_VERIFY_PARAM_set_depth(param, CHAIN_MAX);
		X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
		/* the anchor is what its owner named, also when something above it has signed it */
		(void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
		if (X509_verify_cert(ctx) == 1) {
			e = OK;
		} else {
			error = X509_STORE_CTX_get_error(ctx);
			if (error != X509_V_ERR_OUT_OF_MEM) {
				*ret_why = why_of(error);
				e = ERR_AUTH;
			}
		}
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return e;
}

enum err cert_chain_verify(const struct cert_anchor *a, const struct span *certs, unsigned n, int64_t now_s,
			   const char *mail, const char **ret_why)
{
	STACK_OF(X509) *others = sk_X509_new_null();
	X509 *leaf = n ? parse(certs[0]) : NULL;
	enum err e = others ? OK : ERR_NOMEM;

	*ret_why = "a certificate cannot be read";
	if (e == OK && (!leaf || n > CHAIN_MAX))
		e = ERR_AUTH;
	for (unsigned i = 1; e == OK && i < n; i++) {
		X509 *x = parse(certs[i]);

		if (!x) {
			e = ERR_AUTH;
		} else if (sk_X509_push(others, x) <= 0) {
			X509_free(x);
			e = ERR_NOMEM;
		}
	}
	if (e == OK)
		e = verify(a, leaf, others, now_s, ret_why);
	if (e == OK && !for_ike(leaf)) {
		*ret_why = "the certificate was not made for signing in IKE";
		e = ERR_AUTH;
	}
	if (e == OK && !cert_has_mail(certs[0], span_str(mail))) {
		*ret_why = "the certificate does not have the peer's address as a name (subjectAltName email)";
		e = ERR_AUTH;
	}
	sk_X509_pop_free(others, X509_free);
	X509_free(leaf);
	return e;
}
