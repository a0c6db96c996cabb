/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Shared secrets: authentication by a PSK (RFC 7296, 2.15) and post-quantum keys (RFC 8784). */
#include "ike/auth.h"

#include <string.h>

#include "crypto/secret.h"

#define PPK_ID_FIXED 2 /* RFC 8784, 5.1 */

/* 2.15: AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), octets) */
static enum err mac(const struct ike_psk *psk, const struct ike_keys *k, const struct ike_signed *s,
		    uint8_t ret[HASH_MAX])
{
	uint8_t mem[IKE_OCTETS_MAX], padded[HASH_MAX];
	struct span octets;
	enum err e = ike_auth_octets(k, s, mem, &octets);

	if (e == OK)
		e = hmac_of(k->prf, span_of(psk->bytes, psk->len), SPAN_LIT("Key Pad for IKEv2"), padded);
	if (e == OK)
		e = hmac_of(k->prf, span_of(padded, k->prf_len), octets, ret);
	secret_wipe(padded, sizeof(padded));
	return e;
}

enum err ike_psk_sign(const struct ike_psk *psk, const struct ike_keys *k, const struct ike_signed *s,
		      struct ike_build *b)
{
	uint8_t value[HASH_MAX];
	enum err e = mac(psk, k, s, value);

	if (e == OK)
		ike_build_auth(b, IKE_AUTH_SHARED_KEY, span_of(value, k->prf_len));
	return e;
}

enum err ike_psk_verify(const struct ike_psk *psk, const struct ike_keys *k, const struct ike_signed *s,
			const struct ike_auth *auth)
{
	uint8_t value[HASH_MAX];
	enum err e = mac(psk, k, s, value);

	if (e != OK)
		return e;
	if (auth->method != IKE_AUTH_SHARED_KEY || auth->value.len != k->prf_len ||
	    !secret_eq(auth->value.p, value, k->prf_len))
		e = ERR_AUTH;
	secret_wipe(value, sizeof(value));
	return e;
}

enum err ike_psk_key(const char *peer_aor, uint8_t ret[SPKI_HASH])
{
	struct span parts[] = { SPAN_LIT("tieline psk peer v1"), span_str(peer_aor) };

	return hash_parts(HASH_SHA256, parts, 2, ret);
}

/* ---- PPK ---- */

enum err ike_ppk_mix(const struct ike_psk *ppk, struct ike_keys *k)
{
	struct span key = span_of(ppk->bytes, ppk->len);
	uint8_t d[HASH_MAX], pi[HASH_MAX], pr[HASH_MAX];
	enum err e = ike_prf_plus(k->prf, key, span_of(k->sk_d, k->prf_len), d, k->prf_len);

	if (e == OK)
		e = ike_prf_plus(k->prf, key, span_of(k->sk_pi, k->prf_len), pi, k->prf_len);
	if (e == OK)
		e = ike_prf_plus(k->prf, key, span_of(k->sk_pr, k->prf_len), pr, k->prf_len);
	if (e == OK) {
		memcpy(k->sk_d, d, k->prf_len);
		memcpy(k->sk_pi, pi, k->prf_len);
		memcpy(k->sk_pr, pr, k->prf_len);
	}
	secret_wipe(d, sizeof(d));
	secret_wipe(pi, sizeof(pi));
	secret_wipe(pr, sizeof(pr));
	return e;
}

void ike_build_ppk_identity(struct ike_build *b, const char *id)
{
	ike_build_notify(b, IKE_N_PPK_IDENTITY, SPAN_NONE);
	wr_u8(&b->w, PPK_ID_FIXED);
	wr_str(&b->w, id);
}

bool ike_ppk_identity_is(const struct ike_chain *c, const char *id)
{
	struct ike_notify n;

	return ike_notify_find(c, IKE_N_PPK_IDENTITY, &n) && n.data.len && n.data.p[0] == PPK_ID_FIXED &&
	       span_eq_str(span_from(n.data, 1), id);
}
