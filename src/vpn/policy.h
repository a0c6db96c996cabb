/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/policy.h - the one function that says yes. It is asked at every step with the
 * evidence that the step has, and `tieline explain` asks it as well. Everything it does not
 * know ends at "no". */
#pragma once
#include "vpn/config.h"
#include "vpn/trust.h"

enum evidence {
	EVIDENCE_CLAIMED, /* somebody wrote this AOR */
	EVIDENCE_SIGNED, /* a fresh description is signed by this key */
	EVIDENCE_AUTHENTICATED, /* IKE's AUTH proved this key */
	EVIDENCE_CONFIRMED /* and the users compared the SAS */
};

enum policy_act {
	POLICY_TALK, /* answer his call / take his answer at all: ring, ICE, IKE */
	POLICY_GRANT, /* let him reach `service` of ours */
	POLICY_PING /* ICMP echo between the two inner addresses */
};

struct policy_question {
	enum policy_act act;
	enum evidence evidence;
	const char *peer; /* AOR text */
	const uint8_t *key; /* SPKI hash, NULL: none shown */
	bool bare; /* no tieline lines in his description */
	bool we_call; /* our user dialled him */
	bool trust_first; /* and allowed an unknown key (--trust-first) */
	bool agreed; /* the owner was asked in this call, and said yes */
	const char *service; /* POLICY_GRANT */
};

enum policy_verdict {
	POLICY_NO,
	POLICY_YES,
	POLICY_ASK /* POLICY_GRANT only: yes, if the owner says so (`ask = yes`) */
};
enum policy_why { /* why not; each has its sentence */
		  POLICY_OK,
		  POLICY_STRANGER,
		  POLICY_MISMATCH,
		  POLICY_WRONG_AOR,
		  POLICY_NO_PIN,
		  POLICY_LEVEL,
		  POLICY_NO_PEER,
		  POLICY_NOT_ALLOWED,
		  POLICY_NO_SERVICE,
		  POLICY_EVIDENCE,
		  POLICY_BARE_NOT_ALLOWED,
		  POLICY_NEVER_BARE,
		  POLICY_WHY_COUNT
};
struct policy_answer {
	enum policy_verdict verdict;
	enum policy_why why;
	enum trust_level level; /* of this key under this AOR, given the evidence */
	const struct cfg_peer *peer; /* the section that decided, or NULL */
	const struct cfg_service *service;
	const struct cfg_network *network; /* POLICY_GRANT: one of the two */
	char rule[192]; /* "[peer sip:bob@example.net] allow = desktop", or why not */
};
void policy_decide(const struct config *cfg, const struct trust *trust, const struct policy_question *q,
		   struct policy_answer *ret);
const char *policy_why_text(enum policy_why w); /* a plain sentence, never NULL */
