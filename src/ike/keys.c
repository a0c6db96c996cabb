/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/keys.h"

#include <string.h>

#include "crypto/secret.h"

#define SK_IV 8 /* RFC 5282, 3.1 */

enum err ike_prf_plus(enum hash_alg prf, struct span key, struct span seed, uint8_t *ret, size_t len)
{
	size_t size = hash_size(prf);
	uint8_t t[HASH_MAX], n = 0;
	enum err e = OK;

	if (len > 255 * size)
		return ERR_LIMIT;
	/* T1 = prf(K, S | 0x01), Tn = prf(K, T(n-1) | S | n) */
	while (len && e == OK) {
		struct span parts[] = { span_of(t, n ? size : 0), seed, span_of(&n, 1) };
		size_t take = len < size ? len : size;

		n++;
		e = hmac_parts(prf, key, parts, 3, t);
		if (e == OK)
			memcpy(ret, t, take);
		ret += take;
		len -= take;
	}
	secret_wipe(t, sizeof(t));
	return e;
}

enum err ike_skeyseed(enum hash_alg prf, struct span ni, struct span nr, struct span shared, uint8_t *ret)
{
	uint8_t key[2 * IKE_NONCE_MAX];
	struct wr w = wr_of(key, sizeof(key));

	wr_span(&w, ni);
	wr_span(&w, nr);
	if (w.bad)
		return ERR_LIMIT;
	return hmac_of(prf, wr_done(&w), shared, ret);
}

enum err ike_sk_init(struct ike_sk *k, enum aead_alg alg, struct span key)
{
	size_t size = aead_key_size(alg);

	*k = (struct ike_sk){ .aead = NULL };
	if (key.len != size + IKE_SALT_MAX)
		return ERR_MALFORMED;
	memcpy(k->salt, key.p + size, IKE_SALT_MAX);
	return aead_new(alg, key.p, &k->aead);
}

void ike_sk_done(struct ike_sk *k)
{
	aead_free(k->aead);
	secret_wipe(k, sizeof(*k));
}

void ike_keys_done(struct ike_keys *k)
{
	ike_sk_done(&k->in);
	ike_sk_done(&k->out);
	secret_wipe(k, sizeof(*k));
}

/* Takes the next len bytes of derived material. */
static struct span cut(struct span *from, size_t len)
{
	struct span s = span_sub(*from, 0, len);

	*from = span_from(*from, len);
	return s;
}

static enum err seed_of(struct span ni, struct span nr, uint64_t spi_i, uint64_t spi_r, struct wr *w)
{
	wr_span(w, ni);
	wr_span(w, nr);
	wr_u64(w, spi_i);
	wr_u64(w, spi_r);
	return w->bad ? ERR_LIMIT : OK;
}

/* {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr);
 * with an AEAD the SK_a are of length zero (RFC 5282, 7). */
static enum err keys_cut(const struct ike_suite *s, bool initiator, struct span m, struct ike_keys *k)
{
	size_t key_len = aead_key_size(s->encr->alg) + s->encr->salt;
	struct span ei, er;
	enum err e;

	memcpy(k->sk_d, cut(&m, k->prf_len).p, k->prf_len);
	ei = cut(&m, key_len);
	er = cut(&m, key_len);
	memcpy(k->sk_pi, cut(&m, k->prf_len).p, k->prf_len);
	memcpy(k->sk_pr, cut(&m, k->prf_len).p, k->prf_len);
	e = ike_sk_init(&k->out, s->encr->alg, initiator ? ei : er);
	if (e == OK)
		e = ike_sk_init(&k->in, s->encr->alg, initiator ? er : ei);
	return e;
}

/* The rest of 2.14, from SKEYSEED on. */
static enum err keys_expand(const struct ike_suite *s, bool initiator, struct span skeyseed, struct span ni,
			    struct span nr, uint64_t spi_i, uint64_t spi_r, struct ike_keys *ret)
{
	uint8_t seed[2 * IKE_NONCE_MAX + 16];
	uint8_t material[3 * HASH_MAX + 2 * (AEAD_KEY_MAX + IKE_SALT_MAX)];
	struct ike_keys k = { .prf = s->prf->hash, .prf_len = hash_size(s->prf->hash) };
	size_t len = 3 * k.prf_len + 2 * (aead_key_size(s->encr->alg) + s->encr->salt);
	struct wr w = wr_of(seed, sizeof(seed));
	enum err e = seed_of(ni, nr, spi_i, spi_r, &w);

	if (e == OK)
		e = ike_prf_plus(k.prf, skeyseed, wr_done(&w), material, len);
	if (e == OK)
		e = keys_cut(s, initiator, span_of(material, len), &k);
	if (e == OK)
		*ret = k;
	else
		ike_keys_done(&k);
	secret_wipe(&k, sizeof(k));
	secret_wipe(material, sizeof(material));
	return e;
}

enum err ike_keys_derive(const struct ike_suite *s, bool initiator, struct span ni, struct span nr, struct span shared,
			 uint64_t spi_i, uint64_t spi_r, struct ike_keys *ret)
{
	uint8_t skeyseed[HASH_MAX];
	enum err e = ike_skeyseed(s->prf->hash, ni, nr, shared, skeyseed);

	if (e == OK)
		e = keys_expand(s, initiator, span_of(skeyseed, hash_size(s->prf->hash)), ni, nr, spi_i, spi_r, ret);
	secret_wipe(skeyseed, sizeof(skeyseed));
	return e;
}

/* SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), by the old SA's PRF (2.18) */
enum err ike_keys_rekey(const struct ike_keys *old, const struct ike_suite *s, bool initiator, struct span ni,
			struct span nr, struct span shared, uint64_t spi_i, uint64_t spi_r, struct ike_keys *ret)
{
	struct span parts[] = { shared, ni, nr };
	uint8_t skeyseed[HASH_MAX];
	enum err e = hmac_parts(old->prf, span_of(old->sk_d, old->prf_len), parts, 3, skeyseed);

	if (e == OK)
		e = keys_expand(s, initiator, span_of(skeyseed, old->prf_len), ni, nr, spi_i, spi_r, ret);
	secret_wipe(skeyseed, sizeof(skeyseed));
	return e;
}

enum err ike_keymat_child(const struct ike_keys *k, const struct ike_encr *encr, struct span ni, struct span nr,
			  uint8_t *ret_i, uint8_t *ret_r, size_t *ret_len)
{
	size_t len = aead_key_size(encr->alg) + encr->salt;
	uint8_t seed[KEX_SHARED_MAX + 2 * IKE_NONCE_MAX], material[2 * (AEAD_KEY_MAX + IKE_SALT_MAX)];
	struct wr w = wr_of(seed, sizeof(seed));
	enum err e;

	wr_span(&w, ni);
	wr_span(&w, nr);
	if (w.bad)
		return ERR_LIMIT;
	e = ike_prf_plus(k->prf, span_of(k->sk_d, k->prf_len), wr_done(&w), material, 2 * len);
	if (e == OK) {
		memcpy(ret_i, material, len);
		memcpy(ret_r, material + len, len);
		*ret_len = len;
	}
	secret_wipe(material, sizeof(material));
	return e;
}

enum err ike_auth_mac(const struct ike_keys *k, bool of_initiator, struct span id_body, uint8_t *ret)
{
	return hmac_of(k->prf, span_of(of_initiator ? k->sk_pi : k->sk_pr, k->prf_len), id_body, ret);
}

/* ---- Encrypted payload ---- */

void ike_build_sk(struct ike_build *b)
{
	ike_build_open(b, IKE_P_SK);
	b->sk_at = b->open_at;
	b->open_at = 0; /* it is closed by ike_build_seal() */
	wr_zero(&b->w, SK_IV);
}

static void nonce_of(const struct ike_sk *k, const uint8_t *iv, uint8_t ret[AEAD_NONCE])
{
	memcpy(ret, k->salt, IKE_SALT_MAX);
	memcpy(ret + IKE_SALT_MAX, iv, SK_IV);
}

/* RFC 5282, 5.1: the associated data are all octets from the header through the SK payload's generic
 * header; the IV is not among them. No padding is needed, so its length is 0 (3.14). */
enum err ike_build_seal(struct ike_build *b, struct ike_sk *k, struct span *ret)
{
	size_t body = b->sk_at + IKE_PAYLOAD_HDR, in_at = body + SK_IV, in_len;
	uint8_t nonce[AEAD_NONCE];
	enum err e;

	ike_build_close(b);
	wr_u8(&b->w, 0);
	in_len = b->w.len - in_at;
	wr_zero(&b->w, AEAD_TAG);
	b->open_at = b->sk_at;
	e = ike_build_done(b, ret);
	if (e != OK)
		return e;
	if (k->next_iv == UINT64_MAX)
		return ERR_LIMIT;
	put_be64(b->w.p + body, k->next_iv++);
	nonce_of(k, b->w.p + body, nonce);
	return aead_seal(k->aead, nonce, span_of(b->w.p, body), span_of(b->w.p + in_at, in_len), b->w.p + in_at);
}

enum err ike_sk_open(struct ike_sk *k, struct span msg, const struct ike_payload *p, uint8_t *plain, struct span *ret)
{
	struct rd r = rd_of(p->body);
	uint8_t iv[SK_IV], nonce[AEAD_NONCE];
	struct span sealed;
	size_t len, pad;
	enum err e;

	rd_bytes(&r, iv, SK_IV);
	sealed = rd_rest(&r);
	if (r.bad || sealed.len < AEAD_TAG + 1)
		return ERR_MALFORMED;
	nonce_of(k, iv, nonce);
	/* p is the last payload of msg (ike_chain_parse), so its body ends where msg ends */
	e = aead_open(k->aead, nonce, span_sub(msg, 0, msg.len - p->body.len), sealed, plain);
	if (e != OK)
		return e;
	len = sealed.len - AEAD_TAG;
	pad = plain[len - 1];
	if (pad > len - 1)
		return ERR_MALFORMED;
	*ret = span_of(plain, len - 1 - pad);
	return OK;
}
