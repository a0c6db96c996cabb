/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Our own key and its self-signed certificate. */
#include "crypto/cert.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define VALID_S (20LL * 365 * 86400)

struct identity {
	EVP_PKEY *key;
	X509 *cert;
	uint8_t *cert_der, *spki;
	size_t cert_len, spki_len;
};

void identity_free(struct identity *id)
{
	if (!id)
		return;
	EVP_PKEY_free(id->key);
	X509_free(id->cert);
	OPENSSL_free(id->cert_der);
	OPENSSL_free(id->spki);
	free(id);
}

/* Takes key and cert, also when it fails. */
static enum err identity_of(EVP_PKEY *key, X509 *cert, struct identity **ret)
{
	struct identity *id = calloc(1, sizeof(*id));
	int cert_len, spki_len;

	if (!id || !key || !cert) {
		enum err e = id ? ERR_SYSTEM : ERR_NOMEM;

		EVP_PKEY_free(key);
		X509_free(cert);
		free(id);
		return e;
	}
	id->key = key;
	id->cert = cert;
	cert_len = i2d_X509(cert, &id->cert_der);
	spki_len = i2d_PUBKEY(key, &id->spki);
	if (cert_len <= 0 || spki_len <= 0) {
		identity_free(id);
		return ERR_SYSTEM;
	}
	id->cert_len = (size_t)cert_len;
	id->spki_len = (size_t)spki_len;
	*ret = id;
	return OK;
}

static bool add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool good = ext && X509_add_ext(x, ext, -1) == 1;

	X509_EXTENSION_free(ext);
	return good;
}

/* Built from values, not from configuration text: an AOR with a comma must not become two names. */
static bool add_mails(X509 *x, const char *const *aors, size_t n)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	bool good = names != NULL;

	for (size_t i = 0; good && i < n; i++) {
		GENERAL_NAME *g = GENERAL_NAME_new();
		ASN1_IA5STRING *s = ASN1_IA5STRING_new();

		good = g && s && ASN1_STRING_set(s, aors[i], -1) == 1;
		if (good) {
			GENERAL_NAME_set0_value(g, GEN_EMAIL, s);
			s = NULL;
			good = sk_GENERAL_NAME_push(names, g) > 0;
		}
		if (good)
			g = NULL;
		ASN1_IA5STRING_free(s);
		GENERAL_NAME_free(g);
	}
	good = good && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0) == 1;
	GENERAL_NAMES_free(names);
	return good;
}

static bool set_names(X509 *x, const char *aor)
{
	X509_NAME *name = X509_get_subject_name(x);
	/* A common name has at most 64 characters (RFC 5280, A.1). */
	int len = (int)strnlen(aor, 64);

	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)aor, len, -1, 0) == 1 &&
	       X509_set_issuer_name(x, name) == 1;
}

static bool set_serial(X509 *x)
{
	uint8_t bytes[16];
	BIGNUM *n;
	bool good;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always 16 bytes */
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	good = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return good;
}

static X509 *make_cert(EVP_PKEY *key, const char *const *aors, size_t n_aors, int64_t not_before_s)
{
	X509 *x = X509_new();

	if (!x)
		return NULL;
	if (X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
	    !ASN1_TIME_set(X509_getm_notBefore(x), (time_t)not_before_s) ||
	    !ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(not_before_s + VALID_S)) || !set_names(x, aors[0]) ||
	    X509_set_pubkey(x, key) != 1 || !add_extension(x, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add_extension(x, NID_key_usage, "critical,digitalSignature") || !add_mails(x, aors, n_aors) ||
	    X509_sign(x, key, EVP_sha256()) <= 0) {
		X509_free(x);
		return NULL;
	}
	return x;
}

enum err identity_generate(const char *const *aors, size_t n_aors, int64_t not_before_s, struct identity **ret)
{
	EVP_PKEY *key;

	if (!n_aors)
		return ERR_WRONG_STATE;
	key = EVP_EC_gen("P-256");
	return identity_of(key, key ? make_cert(key, aors, n_aors, not_before_s) : NULL, ret);
}

enum err identity_renew(const struct identity *id, const char *const *aors, size_t n_aors, int64_t not_before_s,
			struct identity **ret)
{
	if (!n_aors || EVP_PKEY_up_ref(id->key) != 1)
		return ERR_WRONG_STATE;
	return identity_of(id->key, make_cert(id->key, aors, n_aors, not_before_s), ret);
}

/* Never asks on a terminal for the password of an encrypted key. */
static int no_password(char *buf, int size, int rwflag, void *u)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)u;
	return -1;
}

enum err identity_load(struct span key_pem, struct span cert_pem, struct identity **ret)
{
	BIO *kb, *cb;
	EVP_PKEY *key;
	X509 *cert;
	char group[64] = "";

	if (key_pem.len > INT_MAX || cert_pem.len > INT_MAX)
		return ERR_LIMIT;
	kb = BIO_new_mem_buf(key_pem.p, (int)key_pem.len);
	cb = BIO_new_mem_buf(cert_pem.p, (int)cert_pem.len);
	key = kb ? PEM_read_bio_PrivateKey(kb, NULL, no_password, NULL) : NULL;
	cert = cb ? PEM_read_bio_X509(cb, NULL, no_password, NULL) : NULL;
	BIO_free(kb);
	BIO_free(cb);
	if (!key || !cert || !EVP_PKEY_is_a(key, "EC") ||
	    EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1 ||
	    (strcmp(group, "prime256v1") && strcmp(group, "P-256"))) {
		EVP_PKEY_free(key);
		X509_free(cert);
		return ERR_MALFORMED;
	}
	if (X509_check_private_key(cert, key) != 1) {
		EVP_PKEY_free(key);
		X509_free(cert);
		return ERR_AUTH;
	}
	return identity_of(key, cert, ret);
}

static char *bio_text(BIO *b)
{
	char *data, *text;
	long len = BIO_get_mem_data(b, &data);

	text = len > 0 ? malloc((size_t)len + 1) : NULL;
	if (text) {
		memcpy(text, data, (size_t)len);
		text[len] = 0;
	}
	return text;
}

enum err identity_pem(const struct identity *id, char **ret_key, char **ret_cert)
{
	BIO *kb = BIO_new(BIO_s_secmem()), *cb = BIO_new(BIO_s_mem());
	char *key = NULL, *cert = NULL;

	if (kb && cb && PEM_write_bio_PrivateKey(kb, id->key, NULL, NULL, 0, NULL, NULL) == 1 &&
	    PEM_write_bio_X509(cb, id->cert) == 1) {
		key = bio_text(kb);
		cert = bio_text(cb);
	}
	BIO_free(kb);
	BIO_free(cb);
	if (!key || !cert) {
		if (key)
			OPENSSL_cleanse(key, strlen(key));
		free(key);
		free(cert);
		return ERR_NOMEM;
	}
	*ret_key = key;
	*ret_cert = cert;
	return OK;
}

struct span identity_cert(const struct identity *id)
{
	return span_of(id->cert_der, id->cert_len);
}

struct span identity_spki(const struct identity *id)
{
	return span_of(id->spki, id->spki_len);
}

bool identity_has_aor(const struct identity *id, const char *aor)
{
	return cert_has_mail(identity_cert(id), span_str(aor));
}

enum err identity_sign_der(const struct identity *id, struct span data, uint8_t *ret, size_t *ret_len)
{
	static const uint8_t nothing[1];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t len = SIG_MAX;
	bool good;

	if (!ctx)
		return ERR_NOMEM;
	good = EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, id->key, NULL) == 1 &&
	       EVP_DigestSign(ctx, ret, &len, data.p ? data.p : nothing, data.len) == 1;
	EVP_MD_CTX_free(ctx);
	if (!good)
		return ERR_SYSTEM;
	*ret_len = len;
	return OK;
}

enum err identity_sign_raw(const struct identity *id, struct span data, uint8_t ret[64])
{
	uint8_t der[SIG_MAX];
	const uint8_t *p = der;
	size_t len;
	ECDSA_SIG *s;
	enum err e = identity_sign_der(id, data, der, &len);
	bool good;

	if (e != OK)
		return e;
	s = d2i_ECDSA_SIG(NULL, &p, (long)len);
	good = s && BN_bn2binpad(ECDSA_SIG_get0_r(s), ret, 32) == 32 &&
	       BN_bn2binpad(ECDSA_SIG_get0_s(s), ret + 32, 32) == 32;
	ECDSA_SIG_free(s);
	return good ? OK : ERR_SYSTEM;
}
