/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/digest.h - digest authentication (RFC 7616, RFC 8760, RFC 3261 section 22): both sides. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/rng.h"
#include "crypto/hash.h"
#include "sip/msg.h"

struct sip_challenge {
	enum hash_alg hash; /* HASH_MD5 or HASH_SHA256 */
	struct span realm, nonce, opaque; /* unquoted, as written; opaque.p NULL: absent */
	bool qop_auth; /* qop offers "auth"; false: the old form of RFC 2069 */
	bool stale;
};
/* The best of all WWW-Authenticate (or Proxy-Authenticate) headers: SHA-256 before MD5; others are skipped. */
MUST_CHECK enum err sip_challenge_best(const struct sip_msg *m, enum sip_h h, struct sip_challenge *ret);
/* Value of Authorization for it. nc counts from 1; cnonce is fresh text. */
MUST_CHECK enum err sip_digest_answer(const struct sip_challenge *c, const char *user, const char *password,
				      const char *method, struct span uri, uint32_t nc, const char *cnonce,
				      struct wr *w);

/* ---- the server's side ---- */
struct sip_credentials {
	enum hash_alg hash;
	struct span user, realm, nonce, uri, response, cnonce, nc, qop;
};
MUST_CHECK enum err sip_credentials_parse(struct span value, struct sip_credentials *ret);
/* H(user:realm:password) as lower-case hex with NUL, 65 bytes at most. */
MUST_CHECK enum err sip_digest_ha1(enum hash_alg hash, const char *user, const char *realm, const char *password,
				   char ret[HASH_MAX * 2 + 1]);
/* ERR_AUTH: wrong. Constant-time comparison. ha1 as hex. */
MUST_CHECK enum err sip_digest_verify(const struct sip_credentials *c, const char *ha1, struct span method);

/* Stateless nonces: time and HMAC. */
struct sip_nonces {
	uint8_t secret[32];
};
void sip_nonces_init(struct sip_nonces *n, const struct rng *rng);
#define SIP_NONCE_TEXT 64
MUST_CHECK enum err sip_nonce_make(const struct sip_nonces *n, uint64_t now_us, char ret[SIP_NONCE_TEXT]);
/* ERR_AUTH: not ours; ERR_WRONG_STATE: ours, but older than max_age_s (answer with stale=true). */
MUST_CHECK enum err sip_nonce_check(const struct sip_nonces *n, uint64_t now_us, struct span nonce, uint32_t max_age_s);
