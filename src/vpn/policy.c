/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/policy.c - the one page that says yes (docs/threat-model.md). Every path that is not written here ends at "no". */
#include "vpn/policy.h"

#include <stdio.h>
#include <string.h>

static const char *const why_texts[POLICY_WHY_COUNT] = {
	[POLICY_OK] = "allowed",
	[POLICY_STRANGER] = "neither this address nor its key is known here",
	[POLICY_MISMATCH] = "this address is pinned to another key",
	[POLICY_WRONG_AOR] = "this key is pinned under another address",
	[POLICY_NO_PIN] = "no key is pinned for this address",
	[POLICY_LEVEL] = "the key is known, but not well enough for what the configuration requires",
	[POLICY_NO_PEER] = "no [peer] section names this address",
	[POLICY_NOT_ALLOWED] = "the [peer] section does not allow this",
	[POLICY_NO_SERVICE] = "no [service] or [network] section has this name",
	[POLICY_EVIDENCE] = "the key has not been proved yet",
	[POLICY_BARE_NOT_ALLOWED] =
		"the description has no security lines and the [peer] section does not say bare = yes",
	[POLICY_NEVER_BARE] = "this key has signed descriptions before, so one without a signature is not accepted",
};

const char *policy_why_text(enum policy_why w)
{
	return (unsigned)w < POLICY_WHY_COUNT ? why_texts[w] : "not allowed";
}

static void no(struct policy_answer *a, enum policy_why why)
{
	a->verdict = POLICY_NO;
	a->why = why;
	(void)snprintf(a->rule, sizeof(a->rule), "%s", policy_why_text(why));
}

static void yes(struct policy_answer *a, const struct cfg_peer *section, const char *aor, const char *text,
		const char *name)
{
	a->verdict = POLICY_YES;
	a->why = POLICY_OK;
	(void)snprintf(a->rule, sizeof(a->rule), "%s%.120s%s %s%s", section ? "[peer " : "", aor, section ? "]" : ":",
		       text, name);
}

/* Which level this key has under this name, or why it has none. A stock peer is known by its section. */
static enum policy_why level_of(const struct trust *trust, const struct policy_question *q, struct policy_answer *a)
{
	enum trust_level level = LEVEL_NONE;

	if (q->bare) {
		if (!a->peer || !a->peer->bare)
			return POLICY_BARE_NOT_ALLOWED;
		if (q->key && trust_ever_signed(trust, q->key))
			return POLICY_NEVER_BARE;
		/* certificate, chain and shared key are compared by IKE; a key that is pinned must fit as well. Level
		 * pinned is of this address only: the section names it, and a CA's certificate must */
		if (a->peer->has_cert || a->peer->psk.len || a->peer->ca_file[0]) {
			enum trust_match m = q->key ? trust_check(trust, q->peer, q->key, &level) : TRUST_GOOD;

			if (m == TRUST_MISMATCH)
				return POLICY_MISMATCH;
			if (m == TRUST_OTHER_AOR)
				return POLICY_WRONG_AOR;
			a->level = LEVEL_PINNED;
			return POLICY_OK;
		}
	}
	if (!q->key) { /* nothing shown yet: is there anything to compare with? */
		if (!trust_has_aor(trust, q->peer))
			return POLICY_NO_PIN;
		a->level = LEVEL_PINNED;
		for (unsigned at = 0;;) {
			const struct trust_pin *p = trust_next(trust, &at);

			if (!p)
				break;
			if (!strcmp(p->aor, q->peer) && p->level < a->level)
				a->level = p->level;
		}
		return POLICY_OK;
	}
	switch (trust_check(trust, q->peer, q->key, &level)) {
	case TRUST_GOOD: a->level = level; return POLICY_OK;
	case TRUST_MISMATCH: return POLICY_MISMATCH;
	case TRUST_OTHER_AOR: return POLICY_WRONG_AOR;
	case TRUST_UNKNOWN: break;
	}
	return POLICY_STRANGER;
}

/* Talking: a known key that signed, or the user dialled and said --trust-first. */
static void decide_talk(const struct policy_question *q, enum policy_why known, struct policy_answer *a)
{
	bool first = q->we_call && q->trust_first && (known == POLICY_STRANGER || known == POLICY_NO_PIN) && !q->bare;

	if (known == POLICY_OK && (q->evidence >= EVIDENCE_SIGNED || q->bare || q->we_call))
		yes(a, a->peer, q->peer, "key known at level ", trust_level_name(a->level));
	else if (first)
		yes(a, a->peer, q->peer, "first key, --trust-first", "");
	else
		no(a, known == POLICY_OK ? POLICY_EVIDENCE : known);
}

/* What a peer may reach: only after IKE proved the key, at the level that its section requires. */
static void decide_grant(const struct config *cfg, const struct policy_question *q, enum policy_why known,
			 struct policy_answer *a)
{
	if (known != POLICY_OK) {
		no(a, known);
		return;
	}
	if (!a->peer) {
		no(a, POLICY_NO_PEER);
		return;
	}
	if (q->evidence < EVIDENCE_AUTHENTICATED) {
		no(a, POLICY_EVIDENCE);
		return;
	}
	if (a->level < a->peer->require) {
		no(a, POLICY_LEVEL);
		return;
	}
	if (q->act == POLICY_PING) {
		if (a->peer->ping)
			yes(a, a->peer, q->peer, "ping = yes", "");
		else
			no(a, POLICY_NOT_ALLOWED);
		return;
	}
	a->service = q->service ? config_service(cfg, q->service) : NULL;
	a->network = q->service ? config_network(cfg, q->service) : NULL;
	if (!a->service && !a->network) {
		no(a, POLICY_NO_SERVICE);
		return;
	}
	for (unsigned i = 0; i < a->peer->n_allow; i++)
		if (!strcmp(a->peer->allow[i], q->service)) {
			bool ask = a->peer->ask && !q->agreed;

			yes(a, a->peer, q->peer, ask ? "ask = yes, allow = " : "allow = ", q->service);
			if (ask)
				a->verdict = POLICY_ASK;
			return;
		}
	no(a, POLICY_NOT_ALLOWED);
}

void policy_decide(const struct config *cfg, const struct trust *trust, const struct policy_question *q,
		   struct policy_answer *ret)
{
	struct policy_answer a = { .verdict = POLICY_NO, .peer = config_peer(cfg, q->peer) };
	enum policy_why known = level_of(trust, q, &a);

	if (q->act == POLICY_TALK)
		decide_talk(q, known, &a);
	else if (q->act == POLICY_GRANT || q->act == POLICY_PING)
		decide_grant(cfg, q, known, &a);
	else
		no(&a, POLICY_NOT_ALLOWED);
	*ret = a;
}
