/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/consent.c - consent freshness on the selected pair (RFC 7675), which is its keepalive as well. A stated deviation:
 * after consent was lost the checks go on at the same pace, so that a path that comes back is noticed without a
 * new description; no data is sent meanwhile. */
#include <string.h>

#include "ice/agent_impl.h"

static void ask(struct ice_agent *a, uint64_t now_us)
{
	unsigned k = a->consent_at++ % ICE_CONSENT_OPEN;

	rng_fill(a->cfg.rng, a->consent[k], sizeof(a->consent[k]));
	a->consent_sent_us[k] = now_us;
	/* with USE-CANDIDATE: when our own NAT moved, the peer sees it as a nominated new pair */
	ice_check_send(a, now_us, &a->pairs[a->selected], a->consent[k], true);
}

static void schedule(struct ice_agent *a, uint64_t now_us)
{
	a->consent_next_us = now_us + ICE_CONSENT_US * (800 + rng_below(a->cfg.rng, 401)) / 1000;
}

void ice_consent_begin(struct ice_agent *a, uint64_t now_us)
{
	memset(a->consent_sent_us, 0, sizeof(a->consent_sent_us));
	a->consent_answered_us = a->pairs[a->selected].consent_us = now_us;
	if (a->consent_lost) {
		a->consent_lost = false;
		ice_tell(a, ICE_CONSENT_BACK, a->selected);
	}
	schedule(a, now_us);
}

bool ice_consent_ours(const struct ice_agent *a, const uint8_t transaction[12], uint64_t *ret_sent_us)
{
	for (unsigned k = 0; a->selected != ICE_NO_PAIR && k < ICE_CONSENT_OPEN; k++)
		if (a->consent_sent_us[k] && !memcmp(a->consent[k], transaction, 12)) {
			if (ret_sent_us)
				*ret_sent_us = a->consent_sent_us[k];
			return true;
		}
	return false;
}

void ice_consent_answered(struct ice_agent *a, uint64_t now_us, uint64_t sent_us)
{
	a->consent_answered_us = a->pairs[a->selected].consent_us = now_us;
	a->pairs[a->selected].rtt_us = (uint32_t)(now_us - sent_us);
	a->challenger = ICE_NO_PAIR;
	if (a->consent_lost) {
		a->consent_lost = false;
		ice_tell(a, ICE_CONSENT_BACK, a->selected);
	}
}

void ice_consent_challenge(struct ice_agent *a, uint64_t now_us, unsigned i)
{
	if (a->challenger == ICE_NO_PAIR)
		memset(a->consent_sent_us, 0, sizeof(a->consent_sent_us)); /* only answers to new questions count */
	a->challenger = i;
	a->n_asked = 1;
	a->challenge_us = now_us + ICE_ASK_US;
	ask(a, now_us);
}

void ice_consent_tick(struct ice_agent *a, uint64_t now_us)
{
	if (a->selected == ICE_NO_PAIR)
		return;
	if (a->challenger != ICE_NO_PAIR && now_us >= a->challenge_us) {
		if (a->n_asked < ICE_ASKS) {
			a->n_asked++;
			a->challenge_us = now_us + ICE_ASK_US + a->pairs[a->selected].rtt_us;
			ask(a, now_us);
		} else {
			unsigned i = a->challenger;

			a->challenger = ICE_NO_PAIR;
			ice_nominate(a, now_us, i);
		}
	}
	if (now_us >= a->consent_next_us) {
		ask(a, now_us);
		schedule(a, now_us);
	}
	if (!a->consent_lost && now_us >= a->consent_answered_us + ICE_CONSENT_LOST_US) {
		a->consent_lost = true;
		ice_tell(a, ICE_CONSENT_LOST, a->selected);
	}
}

uint64_t ice_consent_deadline_us(const struct ice_agent *a)
{
	uint64_t due = TIME_NEVER;

	if (a->selected == ICE_NO_PAIR)
		return due;
	due = a->consent_next_us;
	if (a->challenger != ICE_NO_PAIR && a->challenge_us < due)
		due = a->challenge_us;
	if (!a->consent_lost && a->consent_answered_us + ICE_CONSENT_LOST_US < due)
		due = a->consent_answered_us + ICE_CONSENT_LOST_US;
	return due;
}
