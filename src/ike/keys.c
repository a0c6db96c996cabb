/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/keys.h"

#include <string.h>

#include "crypto/secret.h"

#define SKF_NUMBERS 4

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

enum err ike_sk_init(struct ike_sk *k, enum cipher_alg alg, struct span sk_e, struct span sk_a, const struct rng *rng)
{
	uint8_t key[CIPHER_KEY_MAX];
	enum err e;

	*k = (struct ike_sk){ .alg = alg };
	if (sk_e.len != cipher_encr_size(alg) || sk_a.len != cipher_integ_size(alg))
		return ERR_MALFORMED;
	memcpy(key, sk_e.p, sk_e.len);
	if (sk_a.len)
		memcpy(key + sk_e.len, sk_a.p, sk_a.len);
	e = cipher_new(alg, key, rng, &k->cipher);
	secret_wipe(key, sizeof(key));
	return e;
}

void ike_sk_done(struct ike_sk *k)
{
	cipher_free(k->cipher);
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

static void raw_keep(uint8_t ret[CIPHER_KEY_MAX], struct span sk_e, struct span sk_a)
{
	memcpy(ret, sk_e.p, sk_e.len);
	if (sk_a.len)
		memcpy(ret + sk_e.len, sk_a.p, sk_a.len);
}

/* {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr);
 * with combined modes the SK_a are of length zero (RFC 5282, 7), and the SK_e have their salt at the end (7.1). */
static enum err keys_cut(enum cipher_alg alg, const struct rng *rng, bool initiator, struct span m, struct ike_keys *k)
{
	size_t a_len = cipher_integ_size(alg), e_len = cipher_encr_size(alg);
	struct span ai, ar, ei, er;
	enum err e;

	memcpy(k->sk_d, cut(&m, k->prf_len).p, k->prf_len);
	ai = cut(&m, a_len);
	ar = cut(&m, a_len);
	ei = cut(&m, e_len);
	er = cut(&m, e_len);
	memcpy(k->sk_pi, cut(&m, k->prf_len).p, k->prf_len);
	memcpy(k->sk_pr, cut(&m, k->prf_len).p, k->prf_len);
	e = ike_sk_init(&k->out, alg, initiator ? ei : er, initiator ? ai : ar, rng);
	if (e == OK)
		e = ike_sk_init(&k->in, alg, initiator ? er : ei, initiator ? ar : ai, rng);
	if (k->keep) {
		raw_keep(k->raw_i, ei, ai);
		raw_keep(k->raw_r, er, ar);
	}
	return e;
}

/* The rest of 2.14, from SKEYSEED on. */
static enum err keys_expand(const struct ike_suite *s, const struct rng *rng, bool initiator, bool keep,
			    struct span skeyseed, struct span ni, struct span nr, uint64_t spi_i, uint64_t spi_r,
			    struct ike_keys *ret)
{
	uint8_t seed[2 * IKE_NONCE_MAX + 16];
	uint8_t material[3 * HASH_MAX + 2 * CIPHER_KEY_MAX];
	struct ike_keys k = { .prf = s->prf->hash, .prf_len = hash_size(s->prf->hash), .keep = keep };
	size_t len = 3 * k.prf_len + 2 * cipher_key_size(s->encr->cipher);
	struct wr w = wr_of(seed, sizeof(seed));
	enum err e = seed_of(ni, nr, spi_i, spi_r, &w);

	if (e == OK)
		e = ike_prf_plus(k.prf, skeyseed, wr_done(&w), material, len);
	if (e == OK)
		e = keys_cut(s->encr->cipher, rng, initiator, span_of(material, len), &k);
	if (e == OK)
		*ret = k;
	else
		ike_keys_done(&k);
	secret_wipe(&k, sizeof(k));
	secret_wipe(material, sizeof(material));
	return e;
}

enum err ike_keys_derive(const struct ike_suite *s, const struct rng *rng, bool initiator, struct span ni,
			 struct span nr, struct span shared, uint64_t spi_i, uint64_t spi_r, struct ike_keys *ret)
{
	uint8_t skeyseed[HASH_MAX];
	enum err e = ike_skeyseed(s->prf->hash, ni, nr, shared, skeyseed);

	if (e == OK)
		e = keys_expand(s, rng, initiator, ret->keep, span_of(skeyseed, hash_size(s->prf->hash)), ni, nr, spi_i,
				spi_r, ret);
	secret_wipe(skeyseed, sizeof(skeyseed));
	return e;
}

/* SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), by the old SA's PRF (2.18) */
enum err ike_keys_rekey(const struct ike_keys *old, const struct ike_suite *s, const struct rng *rng, bool initiator,
			struct span ni, struct span nr, struct span shared, uint64_t spi_i, uint64_t spi_r,
			struct ike_keys *ret)
{
	struct span parts[] = { shared, ni, nr };
	uint8_t skeyseed[HASH_MAX];
	enum err e = hmac_parts(old->prf, span_of(old->sk_d, old->prf_len), parts, 3, skeyseed);

	if (e == OK)
		e = keys_expand(s, rng, initiator, old->keep, span_of(skeyseed, old->prf_len), ni, nr, spi_i, spi_r,
				ret);
	secret_wipe(skeyseed, sizeof(skeyseed));
	return e;
}

/* 2.17: all of one direction before the other, the encryption key before the integrity key. */
enum err ike_keymat_child(const struct ike_keys *k, enum cipher_alg alg, struct span ni, struct span nr, uint8_t *ret_i,
			  uint8_t *ret_r, size_t *ret_len)
{
	size_t len = cipher_key_size(alg);
	uint8_t seed[KEX_SHARED_MAX + 2 * IKE_NONCE_MAX], material[2 * CIPHER_KEY_MAX];
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

size_t ike_sk_size(const struct ike_sk *k, size_t content_len)
{
	size_t block = cipher_block(k->alg);

	/* the content, its padding and the byte that says how much of it are a multiple of the block (3.14) */
	return cipher_iv_size(k->alg) + (content_len + block) / block * block + CIPHER_ICV;
}

enum err ike_sk_seal(struct ike_sk *k, struct span head, uint8_t *at, size_t content_len)
{
	size_t iv = cipher_iv_size(k->alg), len = ike_sk_size(k, content_len) - iv - CIPHER_ICV;
	struct cipher_about about = { .head = head };

	if (k->next_iv == UINT64_MAX)
		return ERR_LIMIT;
	memset(at + iv + content_len, 0, len - content_len);
	at[iv + len - 1] = (uint8_t)(len - content_len - 1);
	return cipher_seal(k->cipher, &about, k->next_iv++, at, len);
}

enum err ike_sk_unseal(struct ike_sk *k, struct span head, struct span sealed, uint8_t *plain, struct span *ret)
{
	struct cipher_about about = { .head = head };
	size_t len, pad;
	enum err e = cipher_open(k->cipher, &about, sealed, plain, &len);

	if (e != OK)
		return e;
	if (!len)
		return ERR_MALFORMED;
	pad = plain[len - 1];
	if (pad > len - 1)
		return ERR_MALFORMED;
	*ret = span_of(plain, len - 1 - pad);
	return OK;
}

/* The room for the IV is that of combined modes; ike_build_seal() makes it wider where it must. */
void ike_build_sk(struct ike_build *b)
{
	ike_build_open(b, IKE_P_SK);
	b->sk_at = b->open_at;
	b->open_at = 0; /* it is closed by ike_build_seal() */
	wr_zero(&b->w, CIPHER_IV_MIN);
	b->in_at = b->w.len;
}

void ike_build_skf(struct ike_build *b, uint16_t number, uint16_t total)
{
	ike_build_open(b, IKE_P_SKF);
	b->sk_at = b->open_at;
	b->open_at = 0;
	wr_u16(&b->w, number);
	wr_u16(&b->w, total);
	wr_zero(&b->w, CIPHER_IV_MIN);
	b->in_at = b->w.len;
}

/* RFC 5282, 5.1: the associated data are all octets from the header through the SK payload's generic
 * header; the IV is not among them. RFC 7296, 3.14: else the ICV covers all that precedes it. */
enum err ike_build_seal(struct ike_build *b, struct ike_sk *k, struct span *ret)
{
	size_t content = b->in_at, body = content - CIPHER_IV_MIN, len;
	enum err e;

	ike_build_close(b);
	if (b->w.bad)
		return ERR_LIMIT;
	len = b->w.len - content;
	wr_zero(&b->w, ike_sk_size(k, len) - (b->w.len - body));
	b->open_at = b->sk_at;
	e = ike_build_done(b, ret);
	if (e != OK)
		return e;
	memmove(b->w.p + body + cipher_iv_size(k->alg), b->w.p + content, len);
	return ike_sk_seal(k, span_of(b->w.p, body), b->w.p + body, len);
}

enum err ike_sk_open(struct ike_sk *k, struct span msg, const struct ike_payload *p, uint8_t *plain, struct span *ret)
{
	/* number and total of a fragment are before the IV, and as authentic as the header (RFC 7383, 2.5) */
	struct span sealed = span_from(p->body, p->type == IKE_P_SKF ? SKF_NUMBERS : 0);

	/* p is the last payload of msg (ike_chain_parse), so its body ends where msg ends */
	return ike_sk_unseal(k, span_sub(msg, 0, msg.len - sealed.len), sealed, plain, ret);
}
