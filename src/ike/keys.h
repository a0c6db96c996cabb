/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/keys.h - key derivation (RFC 7296, 2.13 to 2.17) and the Encrypted payload (RFC 7296, 3.14;
 * RFC 5282). All secrets of an SA are in one struct, wiped by one call. */
#pragma once
#include "ike/payload.h"
#include "ike/proposal.h"

/* prf+ (2.13). ERR_LIMIT: more than 255 blocks. */
MUST_CHECK enum err ike_prf_plus(enum hash_alg prf, struct span key, struct span seed, uint8_t *ret, size_t len);
/* SKEYSEED = prf(Ni | Nr, g^ir) (2.14); ret of hash_size(prf). */
MUST_CHECK enum err ike_skeyseed(enum hash_alg prf, struct span ni, struct span nr, struct span shared, uint8_t *ret);

/* One direction of the Encrypted payload. */
struct ike_sk {
	struct cipher *cipher;
	enum cipher_alg alg;
	uint64_t next_iv; /* a counter: never twice under one key (RFC 5282, 3.1) */
};
/* SK_e with its salt, and SK_a, empty with combined modes. rng: see cipher_new(). */
MUST_CHECK enum err ike_sk_init(struct ike_sk *k, enum cipher_alg alg, struct span sk_e, struct span sk_a,
				const struct rng *rng);
void ike_sk_done(struct ike_sk *k);

struct ike_keys {
	uint8_t sk_d[HASH_MAX], sk_pi[HASH_MAX], sk_pr[HASH_MAX];
	size_t prf_len;
	enum hash_alg prf;
	struct ike_sk in, out;
	/* What protects messages, as it was derived, for who exports it: only with `keep`, else zeros. Each is SK_e with its
	 * salt, then SK_a. raw_i: of what the initiator of the IKE SA sends. */
	bool keep;
	uint8_t raw_i[CIPHER_KEY_MAX], raw_r[CIPHER_KEY_MAX];
};
/* All of 2.14. ret->keep is the caller's to set, before. rng: see cipher_new(). On failure *ret holds nothing. */
MUST_CHECK enum err ike_keys_derive(const struct ike_suite *s, const struct rng *rng, bool initiator, struct span ni,
				    struct span nr, struct span shared, uint64_t spi_i, uint64_t spi_r,
				    struct ike_keys *ret);
/* The same for an IKE SA that replaces another: SKEYSEED hangs on its SK_d (2.18). */
MUST_CHECK enum err ike_keys_rekey(const struct ike_keys *old, const struct ike_suite *s, const struct rng *rng,
				   bool initiator, struct span ni, struct span nr, struct span shared, uint64_t spi_i,
				   uint64_t spi_r, struct ike_keys *ret);
void ike_keys_done(struct ike_keys *k); /* wipes; fine on zeros */

/* KEYMAT = prf+(SK_d, Ni | Nr) (2.17), cut into both directions, each of CIPHER_KEY_MAX: encryption key with its salt, then
 * integrity key. With a key exchange of its own (PFS) ni is g^ir | Ni. ret_i: initiator of this exchange to responder. Returns
 * the length of one in *ret_len. */
MUST_CHECK enum err ike_keymat_child(const struct ike_keys *k, enum cipher_alg alg, struct span ni, struct span nr,
				     uint8_t *ret_i, uint8_t *ret_r, size_t *ret_len);

/* prf(SK_p, body of the ID payload), the last part of the AUTH octets (2.15): octets are
 * message || nonce of the other side || this. ret of hash_size. */
MUST_CHECK enum err ike_auth_mac(const struct ike_keys *k, bool of_initiator, struct span id_body, uint8_t *ret);

/* Opens an SK payload in a message that is being built; inner payloads follow as usual. */
void ike_build_sk(struct ike_build *b);
/* The same with an SKF payload (RFC 7383, 2.5); bytes of its content follow. */
void ike_build_skf(struct ike_build *b, uint16_t number, uint16_t total);
/* Closes everything, encrypts in place. */
MUST_CHECK enum err ike_build_seal(struct ike_build *b, struct ike_sk *k, struct span *ret);
/* Decrypts the SK or SKF payload p of msg into plain (of p->body.len at least); *ret is what is inside, without
 * padding, to be walked from p->next. ERR_AUTH: not by that key. ERR_MALFORMED: a length that no such payload
 * has, or by that key, with a padding that is none. */
MUST_CHECK enum err ike_sk_open(struct ike_sk *k, struct span msg, const struct ike_payload *p, uint8_t *plain,
				struct span *ret);

/* The same of any payload that ends a message: IV, encrypted content, padding, its length, ICV. */
size_t ike_sk_size(const struct ike_sk *k, size_t content_len);
/* head: the message up to `at` as it will be sent, lengths included. at: ike_sk_size bytes, in which the content begins after
 * cipher_iv_size(k->alg). */
MUST_CHECK enum err ike_sk_seal(struct ike_sk *k, struct span head, uint8_t *at, size_t content_len);
MUST_CHECK enum err ike_sk_unseal(struct ike_sk *k, struct span head, struct span sealed, uint8_t *plain,
				  struct span *ret);
