/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/auth.h"

#include <string.h>

#include "crypto/secret.h"

/* RFC 7427, appendix A.3.2: ecdsa-with-SHA256, by which we sign. */
static const uint8_t own_signature[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
#define SHA2_256 2 /* RFC 7427, 7 */

struct span ike_hash_algorithms(void)
{
	/* SHA2-256, -384, -512; 5: "Identity", for Ed25519 (RFC 8420, 2) */
	static const uint8_t data[] = { 0, SHA2_256, 0, 3, 0, 4, 0, 5 };

	return SPAN_OF(data);
}

bool ike_hash_algorithms_suit(struct span data)
{
	struct rd r = rd_of(data);

	while (rd_left(&r) >= 2)
		if (rd_u16(&r) == SHA2_256)
			return true;
	return false;
}

/* 2.15: RealMessage | Nonce of the other | prf(SK_p, ID payload without its generic header). */
enum err ike_auth_octets(const struct ike_keys *k, const struct ike_signed *s, uint8_t mem[IKE_OCTETS_MAX],
			 struct span *ret)
{
	struct wr w = wr_of(mem, IKE_OCTETS_MAX);
	uint8_t mac[HASH_MAX];
	enum err e = ike_auth_mac(k, s->of_initiator, s->id_body, mac);

	if (e != OK)
		return e;
	wr_span(&w, s->message);
	wr_span(&w, s->nonce);
	wr_bytes(&w, mac, k->prf_len);
	*ret = wr_done(&w);
	return w.bad ? ERR_LIMIT : OK;
}

enum err ike_auth_sign(const struct identity *id, const struct ike_keys *k, const struct ike_signed *s, bool digital,
		       struct ike_build *b)
{
	uint8_t mem[IKE_OCTETS_MAX], sig[SIG_MAX];
	struct span octets;
	size_t len = 64;
	enum err e = ike_auth_octets(k, s, mem, &octets);

	if (e != OK)
		return e;
	e = digital ? identity_sign_der(id, octets, sig, &len) : identity_sign_raw(id, octets, sig);
	if (e != OK)
		return e;
	if (!digital) {
		ike_build_auth(b, IKE_AUTH_ECDSA_256, span_of(sig, len));
		return OK;
	}
	/* RFC 7427, 3: length of the AlgorithmIdentifier in one byte, it, the signature */
	ike_build_auth(b, IKE_AUTH_DIGITAL_SIGNATURE, SPAN_NONE);
	wr_u8(&b->w, sizeof(own_signature));
	wr_bytes(&b->w, own_signature, sizeof(own_signature));
	wr_bytes(&b->w, sig, len);
	return OK;
}

static enum err verify_digital(const struct pubkey *key, struct span value, struct span octets)
{
	struct rd r = rd_of(value);
	uint8_t len = rd_u8(&r);
	struct span der = rd_span(&r, len), sig = rd_rest(&r);
	struct sig_alg alg;

	if (r.bad || sig_alg_parse(der, &alg) != OK)
		return ERR_AUTH;
	return pubkey_verify(key, &alg, octets, sig);
}

/* Method 1, RSA by RFC 7296, has no word for its hash, and its default is SHA-1: an RSA key signs by method 14. */
static enum err verify_signature(const struct pubkey *key, const struct ike_auth *auth, struct span octets)
{
	enum pubkey_type type = pubkey_type(key);

	switch (auth->method) {
	case IKE_AUTH_DIGITAL_SIGNATURE: return verify_digital(key, auth->value, octets);
	case IKE_AUTH_ECDSA_256: return type == PUBKEY_EC_P256 ? pubkey_verify_raw(key, octets, auth->value) : ERR_AUTH;
	case IKE_AUTH_ECDSA_384: return type == PUBKEY_EC_P384 ? pubkey_verify_raw(key, octets, auth->value) : ERR_AUTH;
	case IKE_AUTH_ECDSA_521: return type == PUBKEY_EC_P521 ? pubkey_verify_raw(key, octets, auth->value) : ERR_AUTH;
	default: return ERR_AUTH;
	}
}

/* RFC 6193, 7: the certificate must be one of those that the description announced. */
static enum err announced(const struct ike_config *cfg, struct span cert, bool *ret)
{
	bool found = false;

	for (unsigned i = 0; i < cfg->n_fingerprints; i++) {
		uint8_t value[HASH_MAX];
		enum err e = hash_of(cfg->fingerprints[i].hash, cert, value);

		if (e != OK)
			return e;
		if (secret_eq(value, cfg->fingerprints[i].value, hash_size(cfg->fingerprints[i].hash)))
			found = true;
	}
	*ret = found;
	return OK;
}

/* A tieline peer is its AOR; at a stock peer the certificate alone decides. */
static bool name_ok(const struct ike_config *cfg, struct span id_body)
{
	struct ike_id id;

	return cfg->bare ||
	       (ike_id_parse(id_body, &id) == OK && id.type == IKE_ID_RFC822 && span_eq_str(id.value, cfg->peer_aor));
}

static enum err key_verify(const struct ike_config *cfg, const struct ike_keys *k, const struct ike_signed *s,
			   const struct pubkey *key, const struct ike_auth *auth, enum ike_failure *ret_fail,
			   uint8_t ret_key[SPKI_HASH])
{
	uint8_t mem[IKE_OCTETS_MAX], name[SPKI_HASH];
	struct span octets;
	enum err e = spki_hash(pubkey_spki(key), name);

	if (e != OK)
		return e;
	if (cfg->has_peer_key ? !secret_eq(name, cfg->peer_key, SPKI_HASH) : !cfg->bare) {
		*ret_fail = IKE_FAIL_PIN;
		return ERR_AUTH;
	}
	e = ike_auth_octets(k, s, mem, &octets);
	if (e != OK)
		return e;
	e = verify_signature(key, auth, octets);
	if (e == ERR_NOMEM)
		return e;
	if (e != OK || !name_ok(cfg, s->id_body)) {
		*ret_fail = IKE_FAIL_AUTH;
		return ERR_AUTH;
	}
	memcpy(ret_key, name, SPKI_HASH);
	return OK;
}

enum err ike_peer_verify(const struct ike_config *cfg, const struct ike_keys *k, const struct ike_signed *s,
			 struct span cert, const struct ike_auth *auth, enum ike_failure *ret_fail,
			 uint8_t ret_key[SPKI_HASH])
{
	struct pubkey *key = NULL;
	bool is_announced;
	enum err e = announced(cfg, cert, &is_announced);

	if (e != OK)
		return e;
	if (!is_announced) {
		*ret_fail = IKE_FAIL_FINGERPRINT;
		return ERR_AUTH;
	}
	e = pubkey_from_cert(cert, &key);
	if (e == ERR_NOMEM)
		return e;
	if (e != OK) {
		*ret_fail = IKE_FAIL_AUTH; /* announced, yet nothing that we can verify with */
		return ERR_AUTH;
	}
	e = key_verify(cfg, k, s, key, auth, ret_fail, ret_key);
	pubkey_free(key);
	return e;
}
