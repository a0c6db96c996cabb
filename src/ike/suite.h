/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/suite.h - the algorithms that we do, and lists of them in words: what is offered and taken, by default or for one
 * peer (docs/protocol.md). A new algorithm is a new row in suite.c.
 *
 *   aes256gcm16-prfsha384-ecp384, aes256-sha256-modp2048
 *
 * A list is of proposals, each of one algorithm or more for each of its transform types, in order of preference. Combined
 * ciphers and those with an integrity algorithm are in proposals of their own (RFC 7296, 3.3; RFC 5282, 8). */
#pragma once
#include <stdbool.h>
#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "crypto/kex.h"

struct ike_encr {
	uint16_t id, key_bits;
	enum cipher_alg cipher; /* with its integrity algorithm, if it needs one */
	const char *name;
};
struct ike_integ {
	uint16_t id;
	const char *name;
};
struct ike_prf {
	uint16_t id;
	enum hash_alg hash;
	const char *name;
};
struct ike_group {
	uint16_t id;
	enum kex_group kex;
	const char *name;
};

/* What two peers agreed on. All that apply are set; ESP has no PRF and, without PFS, no group; combined ciphers have no
 * integrity algorithm. */
struct ike_suite {
	const struct ike_encr *encr;
	const struct ike_integ *integ;
	const struct ike_prf *prf;
	const struct ike_group *group;
	bool esn;
};

#define IKE_LIST_PROPOSALS 8
#define IKE_LIST_ALGS 16 /* of one proposal: each word once */

/* One row of the table of algorithms. */
struct ike_alg {
	const char *word;
	uint8_t type; /* enum ike_transform_type */
	uint16_t id, key_bits;
	union {
		const struct ike_encr *encr;
		const struct ike_integ *integ;
		const struct ike_prf *prf;
		const struct ike_group *group;
	};
};
const struct ike_alg *ike_alg_at(uint8_t row);
struct ike_list_proposal {
	uint8_t n, row[IKE_LIST_ALGS]; /* of the table */
};
struct ike_list {
	uint8_t n;
	struct ike_list_proposal proposal[IKE_LIST_PROPOSALS];
};

/* Proposals separated by commas, words by hyphens. ERR_MALFORMED with *ret_expected: what was expected. A proposal of IKE
 * without a word for the PRF takes that of its integrity algorithm. */
MUST_CHECK enum err ike_list_parse(struct span text, bool esp, struct ike_list *ret, const char **ret_expected);
/* The list for peers that have none of their own. */
void ike_list_default(bool esp, struct ike_list *ret);
/* Text of ike_list_default(). */
const char *ike_list_default_text(bool esp);

const struct ike_group *ike_group_find(const struct ike_list *l, uint16_t id); /* NULL: not in the list */
const struct ike_group *ike_group_first(const struct ike_list *l);
/* "AES-GCM-16-128, HMAC-SHA2-256, X25519"; returns dst. */
#define IKE_SUITE_TEXT 80
const char *ike_suite_text(const struct ike_suite *s, char dst[IKE_SUITE_TEXT]);
