/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/trust.h - the pin store: which key speaks for which AOR (docs/threat-model.md). Entries come from the
 * configuration ([peer] key, cert) and from the pins file (learned or added by `tieline trust add`).
 * Lookup both ways. The store holds text and values; the daemon reads and writes the file. */
#pragma once
#include "vpn/config.h"

#define TRUST_PINS_MAX 4096

struct trust;
struct trust_pin {
	char aor[CFG_AOR_MAX];
	uint8_t key[SPKI_HASH];
	enum trust_level level; /* LEVEL_TOFU or better */
	enum trust_level learned; /* what is left of it when the configuration does not list it; NONE: nothing */
	int64_t since_s; /* unix time, 0: from the configuration */
	bool from_config;
	bool ever_signed; /* this key signed a description: never accepted bare again */
};

MUST_CHECK enum err trust_new(struct trust **ret);
void trust_free(struct trust *t);
/* Adds the configuration's keys. ERR_DENIED with *e: a learned pin contradicts a [peer] key. */
MUST_CHECK enum err trust_load(struct trust *t, const char *file, struct span pins_text, const struct config *cfg,
			       struct conf_error *e);
/* The pins file's text, caller frees. Of configuration entries only that they have signed is in it, at level "none", which
 * pins nothing. */
MUST_CHECK enum err trust_write(const struct trust *t, char **ret_text, size_t *ret_len);

enum trust_match {
	TRUST_UNKNOWN, /* neither the AOR nor the key is known */
	TRUST_GOOD, /* this key is pinned under this AOR */
	TRUST_MISMATCH, /* the AOR is pinned to other keys: final */
	TRUST_OTHER_AOR /* the key is pinned, but under another AOR */
};
/* *ret_level is set for TRUST_GOOD. */
enum trust_match trust_check(const struct trust *t, const char *aor, const uint8_t key[SPKI_HASH],
			     enum trust_level *ret_level);
bool trust_has_aor(const struct trust *t, const char *aor);
/* ERR_DENIED: the AOR has another key already (add_device overrides), or the key another AOR. ERR_LIMIT. */
MUST_CHECK enum err trust_add(struct trust *t, const char *aor, const uint8_t key[SPKI_HASH], enum trust_level level,
			      int64_t now_s, bool add_device);
/* key NULL: all of the AOR. ERR_NOTFOUND; ERR_DENIED: it is in the configuration. */
MUST_CHECK enum err trust_remove(struct trust *t, const char *aor, const uint8_t *key);
void trust_mark_signed(struct trust *t, const uint8_t key[SPKI_HASH]);
bool trust_ever_signed(const struct trust *t, const uint8_t key[SPKI_HASH]);
const struct trust_pin *trust_next(const struct trust *t, unsigned *at);
