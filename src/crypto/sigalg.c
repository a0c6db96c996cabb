/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* AlgorithmIdentifiers of signatures. */
#include "crypto/cert.h"

#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define ALG_DER_MAX 255 /* RFC 7427, 3: its length has one byte */

static const struct {
	int nid;
	struct sig_alg alg;
} algs[] = {
	{ NID_ecdsa_with_SHA256, { SIG_ECDSA, HASH_SHA256, 0 } },
	{ NID_ecdsa_with_SHA384, { SIG_ECDSA, HASH_SHA384, 0 } },
	{ NID_ecdsa_with_SHA512, { SIG_ECDSA, HASH_SHA512, 0 } },
	{ NID_sha256WithRSAEncryption, { SIG_RSA_PKCS1, HASH_SHA256, 0 } },
	{ NID_sha384WithRSAEncryption, { SIG_RSA_PKCS1, HASH_SHA384, 0 } },
	{ NID_sha512WithRSAEncryption, { SIG_RSA_PKCS1, HASH_SHA512, 0 } },
	{ NID_ED25519, { SIG_ED25519, HASH_COUNT, 0 } },
};

/* The object's number; *ret_params: type of its parameters, V_ASN1_UNDEF for none. */
static int nid_of(const X509_ALGOR *a, int *ret_params)
{
	const ASN1_OBJECT *oid;
	const void *value;

	X509_ALGOR_get0(&oid, ret_params, &value, a);
	return OBJ_obj2nid(oid);
}

/* RFC 4055, 2.1: a hash stands with NULL or without parameters. */
static bool hash_of_alg(const X509_ALGOR *a, enum hash_alg *ret)
{
	int params, nid = a ? nid_of(a, &params) : NID_undef;

	if (nid == NID_sha256)
		*ret = HASH_SHA256;
	else if (nid == NID_sha384)
		*ret = HASH_SHA384;
	else if (nid == NID_sha512)
		*ret = HASH_SHA512;
	else
		return false; /* absent: SHA-1 */
	return params == V_ASN1_UNDEF || params == V_ASN1_NULL;
}

/* RFC 4055, 3.1: MGF1 with the same hash, the standard trailer. */
static enum err pss_of(const RSA_PSS_PARAMS *p, struct sig_alg *ret)
{
	X509_ALGOR *mask = NULL;
	enum hash_alg hash, mgf_hash;
	long salt = p->saltLength ? ASN1_INTEGER_get(p->saltLength) : 20;
	int params;
	bool good;

	if (p->maskGenAlgorithm && nid_of(p->maskGenAlgorithm, &params) == NID_mgf1)
		mask = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(X509_ALGOR), p->maskGenAlgorithm->parameter);
	good = hash_of_alg(p->hashAlgorithm, &hash) && hash_of_alg(mask, &mgf_hash) && hash == mgf_hash && salt >= 0 &&
	       salt <= RSA_BITS_MAX / 8 && (!p->trailerField || ASN1_INTEGER_get(p->trailerField) == 1);
	X509_ALGOR_free(mask);
	if (!good)
		return ERR_UNSUPPORTED;
	*ret = (struct sig_alg){ .kind = SIG_RSA_PSS, .hash = hash, .salt_len = (int)salt };
	return OK;
}

static enum err pss_parse(const X509_ALGOR *a, struct sig_alg *ret)
{
	RSA_PSS_PARAMS *p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(RSA_PSS_PARAMS), a->parameter);
	enum err e = p ? pss_of(p, ret) : ERR_UNSUPPORTED;

	RSA_PSS_PARAMS_free(p);
	return e;
}

static enum err alg_of(const X509_ALGOR *a, struct sig_alg *ret)
{
	int params, nid = nid_of(a, &params);

	if (nid == NID_rsassaPss)
		return pss_parse(a, ret);
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++)
		if (algs[i].nid == nid) {
			/* RFC 4055, 5: PKCS#1 has NULL, and none is accepted; RFC 5758, 3.2, RFC 8410, 3: the others have none */
			if (params != V_ASN1_UNDEF && (algs[i].alg.kind != SIG_RSA_PKCS1 || params != V_ASN1_NULL))
				return ERR_UNSUPPORTED;
			*ret = algs[i].alg;
			return OK;
		}
	return ERR_UNSUPPORTED;
}

enum err sig_alg_parse(struct span der, struct sig_alg *ret)
{
	const uint8_t *p = der.p;
	X509_ALGOR *a;
	enum err e = ERR_MALFORMED;

	if (!der.len || der.len > ALG_DER_MAX)
		return ERR_MALFORMED;
	a = d2i_X509_ALGOR(NULL, &p, (long)der.len);
	if (a && p == der.p + der.len)
		e = alg_of(a, ret);
	X509_ALGOR_free(a);
	return e;
}
