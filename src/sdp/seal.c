/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sdp/seal.h"

#include <stdlib.h>

#include "sdp/ike.h"

/* The octets under a signature: "tieline sdp v1" and the canonical texts (docs/protocol.md, tieline-sig). Caller frees. */
static enum err signed_octets(struct span own, struct span offer, bool is_answer, struct span *ret)
{
	size_t cap = 64 + own.len + offer.len;
	uint8_t *mem = malloc(cap);
	struct wr w = wr_of(mem, mem ? cap : 0);

	if (!mem)
		return ERR_NOMEM;
	wr_str(&w, "tieline sdp v1");
	wr_lp(&w, is_answer ? SPAN_LIT("answer") : SPAN_LIT("offer"));
	wr_lp(&w, own);
	if (is_answer)
		wr_lp(&w, offer);
	if (w.bad) {
		free(mem);
		return ERR_LIMIT;
	}
	*ret = wr_done(&w);
	return OK;
}

enum err sdp_seal_sign(const struct identity *id, struct span canon_own, struct span canon_offer, bool is_answer,
		       uint8_t ret_sig[64])
{
	struct span octets;
	enum err e = signed_octets(canon_own, canon_offer, is_answer, &octets);

	if (e != OK)
		return e;
	e = identity_sign_raw(id, octets, ret_sig);
	free((void *)(uintptr_t)octets.p);
	return e;
}

enum err sdp_seal_verify(struct span spki, struct span canon_own, struct span canon_offer, bool is_answer,
			 const uint8_t sig[64])
{
	struct pubkey *key = NULL;
	struct span octets;
	enum err e = pubkey_from_spki(spki, &key);

	if (e != OK)
		return e;
	e = signed_octets(canon_own, canon_offer, is_answer, &octets);
	if (e == OK) {
		e = pubkey_verify_raw(key, octets, span_of(sig, 64));
		free((void *)(uintptr_t)octets.p);
	}
	pubkey_free(key);
	return e;
}

enum err sdp_bind_hash(struct span canon_offer, struct span canon_answer, uint8_t ret[32])
{
	uint8_t len_o[4], len_a[4];
	struct span parts[] = { SPAN_LIT("tieline bind v1"), SPAN_OF(len_o), canon_offer, SPAN_OF(len_a),
				canon_answer };

	if (canon_offer.len > UINT32_MAX || canon_answer.len > UINT32_MAX)
		return ERR_LIMIT;
	put_be32(len_o, (uint32_t)canon_offer.len);
	put_be32(len_a, (uint32_t)canon_answer.len);
	return hash_parts(HASH_SHA256, parts, 5, ret);
}

enum err sdp_tag(const uint8_t bind_o[16], const uint8_t bind_a[16], uint8_t ret[8])
{
	struct span parts[] = { SPAN_LIT("tieline tag v1"), span_of(bind_o, 16), span_of(bind_a, 16) };
	uint8_t hash[32];
	enum err e = hash_parts(HASH_SHA256, parts, 3, hash);

	if (e != OK)
		return e;
	for (int i = 0; i < 8; i++)
		ret[i] = hash[i];
	return OK;
}
