/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* inspect/inspect_impl.h - inside inspect/ only.
 *   inspect.c  kinds, results, text        keys.c         the keys file
 *   text.c     sip, sdp                    stun.c         stun, datagram
 *   ike.c      messages                    ike_payload.c  payloads       esp.c  packets */
#pragma once
#include "crypto/cipher.h"
#include "inspect/inspect.h"

struct ike_chain;
struct ike_payload;

/* Results; a kind returns one of these. value: takes the reference. */
json_t *inspect_yes(const char *kind, json_t *value);
json_t *inspect_no(const char *kind, const char *reason, size_t offset);
/* As above, with a name inside the reason: "payload SA: malformed". */
json_t *inspect_no_of(const char *kind, const char *what, const char *name, enum err e, size_t offset);

/* Both take the reference of what is put in. When memory runs out, or one of them is NULL, what was there is released and NULL
 * comes back: so the whole result is NULL, never one with a piece missing. */
json_t *inspect_append(json_t *list, json_t *item);
json_t *inspect_set(json_t *o, const char *key, json_t *value);

json_t *inspect_text(struct span s); /* foreign text */
json_t *inspect_hex(struct span s);
/* Numbers as hexadecimal of that many bytes. */
json_t *inspect_hex64(uint64_t v);
json_t *inspect_hex32(uint32_t v);
/* 4 or 16 bytes of an address; others: hexadecimal. */
json_t *inspect_ip(struct span ip);
/* Where p is in d, p being borrowed from it. */
size_t inspect_at(struct span d, const void *p);

json_t *inspect_sip(struct span d, const struct inspect_options *o);
json_t *inspect_sdp(struct span d, const struct inspect_options *o);
json_t *inspect_stun(struct span d, const struct inspect_options *o);
json_t *inspect_datagram(struct span d, const struct inspect_options *o);
json_t *inspect_ike(struct span d, const struct inspect_options *o);
json_t *inspect_esp(struct span d, const struct inspect_options *o);

/* ike_payload.c: the array of payloads; NULL with *ret_err and, where it is not ERR_NOMEM, *ret_bad: the payload whose form
 * is wrong. */
json_t *inspect_ike_payloads(const struct ike_chain *c, const struct ike_payload **ret_bad, enum err *ret_err);
const char *inspect_ike_payload_name(uint8_t type);

/* keys.c: cipher_key_size(alg) bytes, as cipher_new() takes them; ERR_NOTFOUND: no key for these SPIs. */
struct inspect_key {
	enum cipher_alg alg;
	struct span bytes;
	bool esn;
	uint32_t seq_high;
};
MUST_CHECK enum err inspect_key_ike(const struct inspect_keys *k, uint64_t spi_i, uint64_t spi_r, bool from_initiator,
				    struct inspect_key *ret);
MUST_CHECK enum err inspect_key_esp(const struct inspect_keys *k, uint32_t spi, struct inspect_key *ret);
