/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* inspect/inspect.h - one message as JSON: form only, no state, no policy. What `tieline inspect` prints
 * (docs/inspect.md):
 *
 *   {"kind": "sip", "ok": true, "value": {...}}
 *   {"kind": "sip", "ok": false, "reason": "...", "offset": 17}
 *
 * Foreign text becomes JSON strings in which bytes that are no UTF-8 are U+FFFD; other bytes are hexadecimal. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "base/buf.h"

#define INSPECT_MAX 65535 /* bytes of one message */

struct inspect_keys;
struct inspect_options {
	bool has_password;
	struct span password; /* stun: short-term credential */
	const struct inspect_keys *keys; /* ike, esp; NULL: none */
};

bool inspect_has_kind(const char *kind);
/* Caller releases. NULL: out of memory, or no such kind. */
json_t *inspect_run(const char *kind, struct span bytes, const struct inspect_options *o);
bool inspect_ok(const json_t *result);

/* A keys file: {"ike": [{"spi_i", "spi_r", "sk_ei", "sk_er", "encr"}], "esp": [{"spi", "key", "encr", "esn", "seq_high"}]}.
 * *ret_why is a sentence on an error. Freed with inspect_keys_free(), which wipes. */
MUST_CHECK enum err inspect_keys_parse(struct span text, struct inspect_keys **ret, const char **ret_why);
void inspect_keys_free(struct inspect_keys *k);
