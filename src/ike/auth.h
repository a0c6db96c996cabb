/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/auth.h - who signs the AUTH payload, and who may (RFC 7296, 2.15; RFC 7427; RFC 4754).
 * Methods: 14 digital signature, and 9 to 11 of peers that do not know 14. We sign by 14, or 9, with the P-256 key that we
 * have; we verify ECDSA, Ed25519, RSA-PSS and RSA PKCS#1, with SHA-256 and better. */
#pragma once
#include "ike/keys.h"

#define IKE_AUTH_SHARED_KEY 2 /* RFC 7296, 2.15 */
#define IKE_AUTH_ECDSA_256 9 /* RFC 4754: SHA-256, P-256, r || s */
#define IKE_AUTH_ECDSA_384 10 /* SHA-384, P-384 */
#define IKE_AUTH_ECDSA_521 11 /* SHA-512, P-521 */
#define IKE_AUTH_DIGITAL_SIGNATURE 14 /* RFC 7427 */

/* What one side's AUTH covers. */
struct ike_signed {
	bool of_initiator;
	struct span message; /* its IKE_SA_INIT message, as sent */
	struct span nonce; /* of the other side */
	struct span id_body;
};

/* The octets that AUTH covers (2.15), into mem. */
#define IKE_OCTETS_MAX (IKE_MSG_MAX + IKE_NONCE_MAX + HASH_MAX)
MUST_CHECK enum err ike_auth_octets(const struct ike_keys *k, const struct ike_signed *s, uint8_t mem[IKE_OCTETS_MAX],
				    struct span *ret);

/* Data of our SIGNATURE_HASH_ALGORITHMS notify. */
struct span ike_hash_algorithms(void);
/* May we sign by method 14 with SHA-256 towards a peer with this notify's data? */
bool ike_hash_algorithms_suit(struct span data);

/* Writes the AUTH payload. digital: method 14, else 9. */
MUST_CHECK enum err ike_auth_sign(const struct identity *id, const struct ike_keys *k, const struct ike_signed *s,
				  bool digital, struct ike_build *b);

/* Does the peer prove what cfg demands? In this order: its certificate is one of the announced
 * (IKE_FAIL_FINGERPRINT), its key the pinned one (IKE_FAIL_PIN), the signature is by that key, and the
 * name is the peer's (IKE_FAIL_AUTH). ERR_AUTH with *ret_fail: no. Other errors: it could not be found
 * out. ret_key: name of the proven key. */
MUST_CHECK enum err ike_peer_verify(const struct ike_config *cfg, const struct ike_keys *k, const struct ike_signed *s,
				    struct span cert, const struct ike_auth *auth, enum ike_failure *ret_fail,
				    uint8_t ret_key[SPKI_HASH]);

/* ---- psk.c ---- */
MUST_CHECK enum err ike_psk_sign(const struct ike_psk *psk, const struct ike_keys *k, const struct ike_signed *s,
				 struct ike_build *b);
/* ERR_AUTH: not by this PSK. */
MUST_CHECK enum err ike_psk_verify(const struct ike_psk *psk, const struct ike_keys *k, const struct ike_signed *s,
				   const struct ike_auth *auth);
/* Stands for the key of a peer that has none to show: a hash of its name alone. */
MUST_CHECK enum err ike_psk_key(const char *peer_aor, uint8_t ret[SPKI_HASH]);
/* SK_d, SK_pi and SK_pr with the PPK in them (RFC 8784, 3). On failure *k is as it was. */
MUST_CHECK enum err ike_ppk_mix(const struct ike_psk *ppk, struct ike_keys *k);
/* N(PPK_IDENTITY) of the initiator. */
void ike_build_ppk_identity(struct ike_build *b, const char *id);
bool ike_ppk_identity_is(const struct ike_chain *c, const char *id);
