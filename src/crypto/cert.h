/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* crypto/cert.h - keys, self-signed certificates and signatures over OpenSSL. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "crypto/hash.h"

#define SPKI_HASH 32 /* SHA-256 over the DER SubjectPublicKeyInfo: a key's name */
#define KEY_TEXT (8 + 64 + 1) /* "sha-256:" and hex digits, NUL */
#define CERT_DER_MAX 8192
#define SIG_MAX 512

/* ---- our own key and certificate ---- */
struct identity;
/* New ECDSA P-256 key and a self-signed certificate with one rfc822Name per AOR (each
 * without "sip:"); not_before_s is unix time, validity 20 years (the key is pinned, the
 * date means nothing to our peers but a stock IKE peer reads it). */
MUST_CHECK enum err identity_generate(const char *const *aors, size_t n_aors, int64_t not_before_s,
				      struct identity **ret);
/* From PEM (unencrypted PKCS#8 or SEC1 key, X.509 certificate). ERR_AUTH: they do not belong together. */
MUST_CHECK enum err identity_load(struct span key_pem, struct span cert_pem, struct identity **ret);
/* Same key, a new certificate for these AORs (an account was added). */
MUST_CHECK enum err identity_renew(const struct identity *id, const char *const *aors, size_t n_aors,
				   int64_t not_before_s, struct identity **ret);
void identity_free(struct identity *id);
/* PEM texts, NUL-terminated, caller frees (the key with secret_wipe first). */
MUST_CHECK enum err identity_pem(const struct identity *id, char **ret_key, char **ret_cert);
struct span identity_cert(const struct identity *id); /* DER, borrowed */
struct span identity_spki(const struct identity *id); /* DER, borrowed */
bool identity_has_aor(const struct identity *id, const char *aor); /* in subjectAltName, without "sip:" */
/* ECDSA over SHA-256: 64 bytes r || s. */
MUST_CHECK enum err identity_sign_raw(const struct identity *id, struct span data, uint8_t ret[64]);
/* ECDSA over SHA-256 in DER (RFC 7427 ecdsa-with-SHA256); ret of SIG_MAX. */
MUST_CHECK enum err identity_sign_der(const struct identity *id, struct span data, uint8_t *ret, size_t *ret_len);

/* ---- a peer's public key ---- */
struct pubkey;
enum pubkey_type { PUBKEY_EC_P256, PUBKEY_EC_P384, PUBKEY_EC_P521, PUBKEY_ED25519, PUBKEY_RSA, PUBKEY_OTHER };
#define RSA_BITS_MIN 2048 /* RFC 8247, 4.1.1 */
#define RSA_BITS_MAX 8192 /* ours: a peer chooses the key, and we pay for it */
MUST_CHECK enum err pubkey_from_spki(struct span spki_der, struct pubkey **ret);
/* The certificate's key. ERR_MALFORMED: not one DER certificate and nothing after it. */
MUST_CHECK enum err pubkey_from_cert(struct span cert_der, struct pubkey **ret);
void pubkey_free(struct pubkey *k);
enum pubkey_type pubkey_type(const struct pubkey *k);
struct span pubkey_spki(const struct pubkey *k); /* DER, borrowed */
/* ECDSA, r || s with the hash that belongs to the curve (RFC 4754, 3): P-256 with SHA-256 and 64 bytes, P-384 with SHA-384 and
 * 96, P-521 with SHA-512 and 132. ERR_AUTH: does not verify. ERR_MALFORMED: another key or length. */
MUST_CHECK enum err pubkey_verify_raw(const struct pubkey *k, struct span data, struct span sig);

/* A signature algorithm as an AlgorithmIdentifier says it (RFC 7427, appendix A; RFC 8420, appendix A). */
enum sig_kind { SIG_ECDSA, SIG_ED25519, SIG_RSA_PKCS1, SIG_RSA_PSS };
struct sig_alg {
	enum sig_kind kind;
	enum hash_alg hash; /* SHA-256, -384 or -512; not with Ed25519 */
	int salt_len; /* RSA-PSS */
};
/* ERR_UNSUPPORTED: none that we verify, SHA-1 included. ERR_MALFORMED: not one DER AlgorithmIdentifier. */
MUST_CHECK enum err sig_alg_parse(struct span der, struct sig_alg *ret);
/* Signatures as certificates have them: ECDSA in DER, the others as they are. ERR_AUTH: does not verify. ERR_DENIED: the algorithm is not
 * for this key, or the key too weak or too long. */
MUST_CHECK enum err pubkey_verify(const struct pubkey *k, const struct sig_alg *alg, struct span data, struct span sig);

/* ---- names and fingerprints ---- */
MUST_CHECK enum err spki_hash(struct span spki_der, uint8_t ret[SPKI_HASH]);
char *key_text(const uint8_t hash[SPKI_HASH], char dst[KEY_TEXT]); /* returns dst */
/* "sha-256:" + 64 hex digits; case and colons between bytes free. */
MUST_CHECK enum err key_parse(struct span text, uint8_t ret[SPKI_HASH]);
/* 0xFD || first 15 bytes of SHA-256("tieline address v1" || SPKI): the inner IPv6 address. */
MUST_CHECK enum err spki_address(struct span spki_der, uint8_t ret[16]);
/* Is mail (no "sip:") an rfc822Name of the certificate? */
bool cert_has_mail(struct span cert_der, struct span mail);
