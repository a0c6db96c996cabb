/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/proposal.h - the algorithms that we do, as tables in order of preference, and choosing
 * among what a peer offers (RFC 7296, 2.7 and 3.3). A new algorithm is a new row. */
#pragma once
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/kex.h"
#include "ike/payload.h"

struct ike_encr {
	uint16_t id, key_bits;
	enum aead_alg alg;
	uint8_t salt; /* bytes of KEYMAT after the key (RFC 5282, 7.1; RFC 4106, 8.1) */
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

#define IKE_SALT_MAX 4

/* All rows that apply are set; ESP has no PRF and, without PFS, no group. */
struct ike_suite {
	const struct ike_encr *encr;
	const struct ike_prf *prf;
	const struct ike_group *group;
};

const struct ike_group *ike_group_find(uint16_t id); /* NULL: not ours */
const struct ike_group *ike_group_first(void);

/* The peer's offer: the first of its proposals that we can do, in it what we like best; a KE group
 * that it already sent a value for is taken before the others (0: none). ERR_NOTFOUND: none.
 * protocol: IKE_PROTO_IKE or IKE_PROTO_ESP. */
MUST_CHECK enum err ike_proposal_choose(const struct ike_offer *offer, enum ike_protocol protocol, uint16_t ke_group,
					struct ike_suite *ret, const struct ike_proposal **ret_proposal);
/* The peer's choice from what ike_build_offer() wrote: one proposal, one transform a type, all of
 * them ours. ERR_DENIED: something that we did not offer. */
MUST_CHECK enum err ike_proposal_chosen(const struct ike_offer *answer, enum ike_protocol protocol,
					struct ike_suite *ret, const struct ike_proposal **ret_proposal);

/* The same of an offer of Child SA algorithms with this group and no other (PFS); 0: as above. */
MUST_CHECK enum err ike_proposal_chosen_ke(const struct ike_offer *answer, enum ike_protocol protocol,
					   uint16_t ke_group, struct ike_suite *ret,
					   const struct ike_proposal **ret_proposal);

/* The SA payload with all that we do. spi: 4 bytes for ESP, empty for IKE. */
void ike_build_offer(struct ike_build *b, enum ike_protocol protocol, struct span spi);
/* Of a Child SA with a KE in this group; NULL: as above. */
void ike_build_offer_ke(struct ike_build *b, enum ike_protocol protocol, struct span spi,
			const struct ike_group *group);
/* The SA payload with our choice; number: of the chosen proposal. */
void ike_build_choice(struct ike_build *b, enum ike_protocol protocol, uint8_t number, struct span spi,
		      const struct ike_suite *s);
