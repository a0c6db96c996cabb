/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The multi-buffer library's direct calls (no job queue: with one packet at a time that is the fast way). The manager holds the functions
 * of this CPU and nothing of a packet, so one serves all threads. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <intel-ipsec-mb.h>

#include "crypto/aead_impl.h"
#include "crypto/secret.h"

#define NEEDED (IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ | IMB_FEATURE_AVX)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static IMB_MGR *manager; /* for the life of the process */

struct key {
	struct gcm_key_data gcm; /* aligned to 64 */
	struct gcm_context_data ctx;
	struct chacha20_poly1305_context_data chacha_ctx;
	enum aead_alg alg;
	uint8_t chacha[32];
};

static void look(void)
{
	IMB_MGR *m = alloc_mb_mgr(0);

	if (m && (m->features & NEEDED) == NEEDED) {
		init_mb_mgr_auto(m, NULL);
		manager = m;
	} else if (m) {
		free_mb_mgr(m);
	}
}

static void close_key(void *p)
{
	if (!p)
		return;
	secret_wipe(p, sizeof(struct key));
	free(p);
}

static void *open_key(enum aead_alg alg, const uint8_t *key)
{
	size_t size = (sizeof(struct key) + 63) / 64 * 64;
	struct key *k = aligned_alloc(64, size);

	if (!k)
		return NULL;
	memset(k, 0, size);
	k->alg = alg;
	switch (alg) {
	case AEAD_AES128_GCM: IMB_AES128_GCM_PRE(manager, key, &k->gcm); break;
	case AEAD_AES256_GCM: IMB_AES256_GCM_PRE(manager, key, &k->gcm); break;
	default: memcpy(k->chacha, key, sizeof(k->chacha)); break;
	}
	return k;
}

static enum err seal(void *p, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	struct key *k = p;
	uint8_t *tag = out + in.len;

	switch (k->alg) {
	case AEAD_AES128_GCM:
		IMB_AES128_GCM_ENC(manager, &k->gcm, &k->ctx, out, in.p, in.len, nonce, aad.p, aad.len, tag, AEAD_TAG);
		break;
	case AEAD_AES256_GCM:
		IMB_AES256_GCM_ENC(manager, &k->gcm, &k->ctx, out, in.p, in.len, nonce, aad.p, aad.len, tag, AEAD_TAG);
		break;
	default:
		IMB_CHACHA20_POLY1305_INIT(manager, k->chacha, &k->chacha_ctx, nonce, aad.p, aad.len);
		IMB_CHACHA20_POLY1305_ENC_UPDATE(manager, k->chacha, &k->chacha_ctx, out, in.p, in.len);
		IMB_CHACHA20_POLY1305_ENC_FINALIZE(manager, &k->chacha_ctx, tag, AEAD_TAG);
		break;
	}
	return OK;
}

/* Its decryption gives the tag that it comes to and compares nothing. */
static enum err open(void *p, const uint8_t *nonce, struct span aad, struct span in, uint8_t *out)
{
	struct key *k = p;
	size_t len = in.len - AEAD_TAG;
	uint8_t tag[AEAD_TAG], want[AEAD_TAG];

	memcpy(want, in.p + len, AEAD_TAG);
	switch (k->alg) {
	case AEAD_AES128_GCM:
		IMB_AES128_GCM_DEC(manager, &k->gcm, &k->ctx, out, in.p, len, nonce, aad.p, aad.len, tag, AEAD_TAG);
		break;
	case AEAD_AES256_GCM:
		IMB_AES256_GCM_DEC(manager, &k->gcm, &k->ctx, out, in.p, len, nonce, aad.p, aad.len, tag, AEAD_TAG);
		break;
	default:
		IMB_CHACHA20_POLY1305_INIT(manager, k->chacha, &k->chacha_ctx, nonce, aad.p, aad.len);
		IMB_CHACHA20_POLY1305_DEC_UPDATE(manager, k->chacha, &k->chacha_ctx, out, in.p, len);
		IMB_CHACHA20_POLY1305_DEC_FINALIZE(manager, &k->chacha_ctx, tag, AEAD_TAG);
		break;
	}
	if (secret_eq(tag, want, AEAD_TAG))
		return OK;
	secret_wipe(tag, sizeof(tag)); /* the right tag of a wrong packet is nobody's business */
	secret_wipe(out, len);
	return ERR_AUTH;
}

static const struct aead_backend backend = { "ipsec-mb", open_key, close_key, seal, open };

const struct aead_backend *aead_mb(void)
{
	(void)pthread_once(&once, look);
	return manager ? &backend : NULL;
}
