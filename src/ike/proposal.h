/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/proposal.h - choosing among what a peer offers, and offering (RFC 7296, 2.7 and 3.3). */
#pragma once
#include "ike/payload.h"
#include "ike/suite.h"

/* The peer's offer: the first of its proposals that fits one of ours, in it what ours prefers; a KE group
 * that it already sent a value for is taken before the others (0: none). ERR_NOTFOUND: none.
 * protocol: IKE_PROTO_IKE or IKE_PROTO_ESP. */
MUST_CHECK enum err ike_proposal_choose(const struct ike_list *ours, const struct ike_offer *offer,
					enum ike_protocol protocol, uint16_t ke_group, struct ike_suite *ret,
					const struct ike_proposal **ret_proposal);
/* The peer's choice from what ike_build_offer() wrote: one proposal with its number, one transform a type, all of
 * them in it. ERR_DENIED: something that we did not offer. */
MUST_CHECK enum err ike_proposal_chosen(const struct ike_list *ours, const struct ike_offer *answer,
					enum ike_protocol protocol, struct ike_suite *ret,
					const struct ike_proposal **ret_proposal);

/* The same for a Child SA that may have a key exchange of its own (PFS), in one of the groups of `groups`. ke_group: of
 * the KE payload that goes with the message, 0: none; then neither has the Child SA a group. */
MUST_CHECK enum err ike_proposal_choose_ke(const struct ike_list *ours, const struct ike_list *groups,
					   const struct ike_offer *offer, uint16_t ke_group, struct ike_suite *ret,
					   const struct ike_proposal **ret_proposal);
MUST_CHECK enum err ike_proposal_chosen_ke(const struct ike_list *ours, const struct ike_list *groups,
					   const struct ike_offer *answer, uint16_t ke_group, struct ike_suite *ret,
					   const struct ike_proposal **ret_proposal);

/* The SA payload with all of a list. spi: 4 bytes for ESP, empty for IKE. */
void ike_build_offer(struct ike_build *b, const struct ike_list *ours, enum ike_protocol protocol, struct span spi);
/* Of a Child SA, each proposal with this group (PFS); NULL: as above. */
void ike_build_offer_ke(struct ike_build *b, const struct ike_list *ours, struct span spi,
			const struct ike_group *group);
/* The SA payload with our choice; number: of the chosen proposal. */
void ike_build_choice(struct ike_build *b, enum ike_protocol protocol, uint8_t number, struct span spi,
		      const struct ike_suite *s);
