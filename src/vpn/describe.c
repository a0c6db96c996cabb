/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/describe.c - our descriptions, and what we accept of the other side's (docs/protocol.md). */
#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"
#include "vpn/impl.h"

#define CANDIDATE_TEXT 200

static const struct verdict fine = { .ok = true };

static struct verdict bad(unsigned status, enum reason code, const char *text)
{
	return (struct verdict){ .status = status, .code = code, .text = text };
}

/* To a stranger every reason is the 480 of a device that is not there (4.2); the log and the audit know better. */
static struct verdict stranger(const char *text)
{
	return bad(480, REASON_NOT_AVAILABLE, text);
}

/* ---- ours ---- */

static enum err add_candidates(struct vpn *v, struct call *c)
{
	enum err e = OK;
	struct addr mapped, base;

	for (unsigned i = 0; e == OK && i < v->n_locals; i++)
		e = ice_agent_add_local(c->ice, ICE_HOST, &v->locals[i], &v->locals[i]);
	for (unsigned i = 0; e == OK && i < v->n_gathers; i++)
		if (ice_gather_mapped(v->gathers[i], &mapped, &base) && !addr_eq(&mapped, &base))
			e = ice_agent_add_local(c->ice, ICE_SRFLX, &mapped, &base);
	return e == ERR_LIMIT ? OK : e; /* enough of them */
}

static enum err make_agent(struct vpn *v, struct call *c)
{
	struct ice_config cfg = { .rng = v->env.rng,
				  .log = c->log,
				  .controlling = c->outgoing,
				  .pacing_ms = ICE_PACING_MS,
				  .pacer = &v->pacer,
				  .patience_ms = c->outgoing ? CALLER_PATIENCE_MS : CALLEE_PATIENCE_MS };
	enum err e;

	if (c->no_ice)
		return OK;
	e = ice_agent_new(&cfg, &c->ice);
	return e == OK ? add_candidates(v, c) : e;
}

/* The default address of m= and c=: what most likely works without ICE (RFC 8445, 5.1.4). */
static struct addr default_address(const struct vpn *v)
{
	struct addr mapped, base;

	for (unsigned i = 0; i < v->n_gathers; i++)
		if (ice_gather_mapped(v->gathers[i], &mapped, &base))
			return mapped;
	return v->n_locals ? v->locals[0] : addr_ip4(0, 9);
}

struct candidate_texts {
	char t[SDP_CANDIDATES_MAX][CANDIDATE_TEXT];
};

static enum err fill_own(struct vpn *v, struct call *c, bool is_answer, struct sdp_ike *m,
			 struct candidate_texts *texts)
{
	struct ice_candidate cand;

	*m = (struct sdp_ike){ .fmt = SDP_IKE_ESP_UDPENCAP,
			       .addr = default_address(v),
			       .mid = "ike",
			       .setup = is_answer ? SDP_PASSIVE : SDP_ACTIVE,
			       .setup_explicit = true,
			       .n_fingerprints = 1 };
	m->fingerprints[0].hash = HASH_SHA256;
	m->fingerprints[0].len = 32;
	memcpy(m->fingerprints[0].value, v->cert_hash, 32);
	if (c->ice) {
		m->ice2 = true;
		m->ice_pacing_ms = ICE_PACING_MS;
		(void)!span_copy_str(span_str(ice_agent_ufrag(c->ice)), m->ice_ufrag, sizeof(m->ice_ufrag));
		(void)!span_copy_str(span_str(ice_agent_pwd(c->ice)), m->ice_pwd, sizeof(m->ice_pwd));
		while (m->n_candidates < SDP_CANDIDATES_MAX && ice_agent_local(c->ice, m->n_candidates, &cand)) {
			struct wr w = wr_of(texts->t[m->n_candidates], CANDIDATE_TEXT);

			ice_candidate_write(&w, &cand);
			m->candidates[m->n_candidates++] = wr_done(&w);
		}
	}
	if (c->plain_esp) {
		m->fmt = SDP_IKE_ESP;
		m->addr = c->fixed.local; /* nothing that a NAT made will do */
	}
	if (c->bare)
		return proof_describe(config_peer(v->cfg, c->peer), m);
	m->is_tieline = m->has_bind = m->has_key = m->has_aor = m->has_date = true;
	rng_fill(v->env.rng, c->bind, sizeof(c->bind));
	memcpy(m->bind, c->bind, sizeof(m->bind));
	m->spki_len = identity_spki(v->identity).len;
	memcpy(m->spki, identity_spki(v->identity).p, m->spki_len);
	memcpy(m->aor, v->cfg->accounts[c->account].aor, sizeof(m->aor));
	m->date_s = vpn_wall_s(v);
	if (!is_answer) {
		m->has_to = true;
		memcpy(m->to, c->peer, sizeof(m->to));
	}
	return OK;
}

static struct sdp_origin origin_of(struct vpn *v)
{
	return (struct sdp_origin){ .id = rng_u64(v->env.rng) >> 1, .version = 1, .addr = default_address(v) };
}

/* Text -> canonical form, with the description in *scratch. */
static enum err canon_of(struct span text, struct sdp *scratch, unsigned index, bool is_answer,
			 uint8_t dst[SDP_CANON_MAX], size_t *ret_len)
{
	const char *why;
	size_t at;
	enum err e = sdp_parse(text, scratch, &why, &at);

	return e == OK ? sdp_ike_canon(scratch, index, is_answer, dst, SDP_CANON_MAX, ret_len) : e;
}

enum err describe_offer(struct vpn *v, struct call *c, size_t *ret_len)
{
	struct candidate_texts *texts = calloc(1, sizeof(*texts));
	struct sdp_origin o = origin_of(v);
	struct wr w = wr_of(v->text, sizeof(v->text));
	size_t canon_len = 0;
	enum err e = texts ? make_agent(v, c) : ERR_NOMEM;

	if (e == OK) {
		e = fill_own(v, c, false, v->media, texts);
	}
	if (e == OK) {
		sdp_ike_write_offer(&w, &o, v->media);
		e = w.bad ? ERR_LIMIT : canon_of(wr_done(&w), v->sdp, 0, false, v->canon, &canon_len);
	}
	if (e == OK && !c->bare) {
		e = sdp_seal_sign(v->identity, span_of(v->canon, canon_len), SPAN_NONE, false, v->media->sig);
		v->media->has_sig = true;
		w = wr_of(v->text, sizeof(v->text));
		sdp_ike_write_offer(&w, &o, v->media);
	}
	if (e == OK) {
		free(c->canon_offer);
		c->canon_offer = malloc(canon_len);
		e = !c->canon_offer ? ERR_NOMEM : w.bad ? ERR_LIMIT : OK;
	}
	if (e == OK) {
		memcpy(c->canon_offer, v->canon, canon_len);
		c->canon_offer_len = canon_len;
		*ret_len = w.len;
		e = inforce_own(c, wr_done(&w));
	}
	free(texts);
	return e;
}

/* ---- theirs: what both directions check ---- */

/* Fingerprints that count: sha-256 and better; sha-1 only where the peer's section says so. A pinned certificate
 * must be among them, and is then the only one. */
static bool take_fingerprints(const struct sdp_ike *m, const struct cfg_peer *peer, struct ike_config *k)
{
	k->n_fingerprints = 0;
	if (peer && peer->bare && peer->psk.len) /* agreed on, or there is no call */
		return proof_psk_named(peer, m);
	for (unsigned i = 0; i < m->n_fingerprints && i < 4; i++) {
		const struct sdp_fingerprint *f = &m->fingerprints[i];

		if (f->hash == HASH_SHA1 && !(peer && peer->sha1))
			continue;
		if (peer && peer->bare && peer->has_cert && f->hash == HASH_SHA256 && memcmp(f->value, peer->cert, 32))
			return false;
		k->fingerprints[k->n_fingerprints].hash = f->hash;
		memcpy(k->fingerprints[k->n_fingerprints].value, f->value, f->len);
		k->n_fingerprints++;
	}
	if (peer && peer->bare && peer->has_cert) {
		k->n_fingerprints = 1;
		k->fingerprints[0].hash = HASH_SHA256;
		memcpy(k->fingerprints[0].value, peer->cert, 32);
	}
	return k->n_fingerprints > 0;
}

static bool spi_taken(void *arg, uint32_t spi)
{
	const struct call *c = arg;

	return !esp_set_spi_fits(c->vpn->esp, c->id, c->in_kernel, spi);
}

static bool mail_of(const char *aor, char *dst, size_t cap)
{
	return span_copy_str(span_from(span_str(aor), 4), dst, cap) == OK;
}

/* The IKE configuration of this call from the other side's description. */
static enum err make_ike(struct vpn *v, struct call *c, const struct sdp_ike *m)
{
	const struct cfg_peer *peer = config_peer(v->cfg, c->peer);
	struct ike_config *k = calloc(1, sizeof(*k));

	if (!k)
		return ERR_NOMEM;
	if (c->ike_cfg)
		ike_config_done(c->ike_cfg);
	free(c->ike_cfg);
	c->ike_cfg = k;
	k->rng = v->env.rng;
	k->log = c->log;
	k->log.area = "ike";
	k->initiator = c->ike_initiator;
	k->identity = v->identity;
	if (!mail_of(v->cfg->accounts[c->account].aor, k->local_aor, sizeof(k->local_aor)) ||
	    !mail_of(c->peer, k->peer_aor, sizeof(k->peer_aor)))
		return ERR_LIMIT;
	if (!take_fingerprints(m, peer, k))
		return ERR_AUTH;
	if (peer) {
		k->ike = peer->ike;
		k->esp = peer->esp;
	}
	k->has_peer_key = c->has_key;
	memcpy(k->peer_key, c->key, SPKI_HASH);
	k->bare = c->bare;
	k->plain_esp = c->plain_esp;
	k->request = c->bare ? 0 : c->request;
	if (c->named && !c->bare) {
		k->n_names = 1;
		memcpy(k->names[0], c->service, sizeof(c->service));
	}
	if (proof_fill(v, c, k) != OK)
		return ERR_AUTH;
	if (c->outgoing || !c->ike_initiator) {
		grant_propose_all(v, c, &k->tsi, &k->tsr);
		network_propose(v, c, &k->tsi, &k->tsr);
		k->cp_asks = network_asks(v, c);
	} else if (!grant_propose(v, c, &k->tsi, &k->tsr)) {
		return ERR_DENIED;
	}
	k->export_keys = c->outgoing && c->export_keys;
	k->spi_taken = spi_taken;
	k->spi_arg = c;
	k->place = move_place;
	k->place_arg = c;
	/* With ICE, consent on the path is the liveness check, and `dead-after` says how long a silence may last. */
	k->first_sends = c->no_ice ? 3 : 0; /* the address is whatever the description says */
	k->dpd_s = c->no_ice ? v->cfg->accounts[c->account].dpd_s : 0;
	k->child_life_s = v->cfg->rekey_after_s;
	k->ike_life_s = IKE_LIFE_FACTOR * v->cfg->rekey_after_s;
	return OK;
}

static enum err bind_call(const struct vpn *v, struct call *c, struct span canon_offer, struct span canon_answer,
			  const uint8_t bind_o[16], const uint8_t bind_a[16])
{
	enum err e = sdp_bind_hash(canon_offer, canon_answer, c->ike_cfg->bind_hash);

	c->ike_cfg->has_binding = true;
	if (e == OK)
		e = sdp_tag(bind_o, bind_a, c->ike_cfg->tag);
	return e == OK ? proof_bind(v, c, c->ike_cfg) : e;
}

/* Gives ICE (or, without it, the call) the other side's addresses. False: none that we can use. */
static bool take_addresses(struct vpn *v, struct call *c, const struct sdp_ike *m)
{
	struct ice_candidate cands[SDP_CANDIDATES_MAX];
	unsigned n = 0;

	if (c->no_ice) {
		c->fixed = (struct path){ .transport = TRANSPORT_UDP, .remote = m->addr };
		for (unsigned i = 0; i < v->n_locals && c->fixed.local.family == ADDR_NONE; i++)
			if (v->locals[i].family == m->addr.family)
				c->fixed.local = v->locals[i];
		return c->fixed.local.family != ADDR_NONE && m->addr.port && m->addr.port != 500;
	}
	if (!m->ice_ufrag[0] || !m->ice_pwd[0] || m->ice_mismatch)
		return false;
	for (unsigned i = 0; i < m->n_candidates && n < ICE_REMOTE_MAX; i++)
		n += ice_candidate_parse(m->candidates[i], &cands[n]) == OK;
	ice_agent_set_pacing(c->ice, m->ice_pacing_ms);
	return ice_agent_set_remote(c->ice, m->ice_ufrag, m->ice_pwd, m->ice_lite, cands, n) == OK;
}

static bool take_key(struct vpn *v, struct call *c, const struct sdp_ike *m)
{
	if (spki_hash(span_of(m->spki, m->spki_len), c->key) != OK || !memcmp(c->key, v->key, SPKI_HASH) ||
	    spki_address(span_of(m->spki, m->spki_len), c->peer_address) != OK)
		return false;
	memcpy(c->spki, m->spki, m->spki_len);
	c->spki_len = m->spki_len;
	c->has_key = true;
	return true;
}

static struct policy_answer ask_policy(struct vpn *v, const struct call *c, enum evidence evidence)
{
	struct policy_question q = { .act = POLICY_TALK,
				     .evidence = evidence,
				     .peer = c->peer,
				     .key = c->has_key ? c->key : NULL,
				     .bare = c->bare,
				     .we_call = c->outgoing,
				     .trust_first = c->trust_first };
	struct policy_answer a;

	policy_decide(v->cfg, v->trust, &q, &a);
	return a;
}

/* ---- an offer ---- */

/* RFC 4145, 4.1: it leaves to us who begins. Without ICE its first message would not pass a NAT of ours, but ours does. Somebody who
 * is to be asked is asked about a peer that begins. */
static enum sdp_setup preferred_setup(const struct vpn *v, const struct call *c, const struct cfg_peer *peer)
{
	struct addr mapped, base;

	for (unsigned i = 0; c->no_ice && !peer->ask && i < v->n_gathers; i++)
		if (ice_gather_mapped(v->gathers[i], &mapped, &base) && !addr_eq(&mapped, &base))
			return SDP_ACTIVE;
	return SDP_PASSIVE;
}

static struct verdict check_bare_offer(struct vpn *v, struct call *c, struct span from)
{
	struct policy_answer a;
	enum sdp_setup setup;

	if (sdp_aor_normal(from, c->peer, sizeof(c->peer)) != OK)
		return stranger("no usable From");
	vpn_tag(v, c);
	c->bare = true;
	a = ask_policy(v, c, EVIDENCE_CLAIMED);
	if (a.verdict != POLICY_YES)
		return stranger(policy_why_text(a.why));
	c->level = a.level;
	c->no_ice = !a.peer->ice;
	c->plain_esp = a.peer->plain_esp && v->media->fmt == SDP_IKE_ESP;
	memcpy(c->peer_address, a.peer->address.ip, 16);
	if (sdp_setup_answer(v->media->setup, preferred_setup(v, c, a.peer), &setup) != OK)
		return bad(488, REASON_INPUT, "no usable ike-setup");
	c->ike_initiator = setup == SDP_ACTIVE;
	return fine;
}

/* Cheap checks first; nobody whose key is not pinned makes us verify a signature. */
static struct verdict check_signed_offer(struct vpn *v, struct call *c, struct span canon)
{
	const struct sdp_ike *m = v->media;
	int64_t now_s = vpn_wall_s(v);
	enum trust_level level;
	enum trust_match match;
	struct policy_answer a;
	unsigned account = 0;

	if (!m->has_bind || !m->has_key || !m->has_aor || !m->has_to || !m->has_date || !m->has_sig ||
	    !m->n_fingerprints)
		return stranger("security lines are missing");
	while (account < v->cfg->n_accounts && strcmp(v->cfg->accounts[account].aor, m->to))
		account++;
	if (account == v->cfg->n_accounts)
		return stranger("addressed to somebody else");
	c->account = account;
	memcpy(c->peer, m->aor, sizeof(c->peer));
	vpn_tag(v, c);
	if (!take_key(v, c, m))
		return stranger("unusable key");
	match = trust_check(v->trust, c->peer, c->key, &level);
	if (match != TRUST_GOOD && match != TRUST_OTHER_AOR)
		return stranger(match == TRUST_MISMATCH ? "the caller's address is pinned to another key"
							: "unknown key");
	if (sdp_seal_verify(span_of(m->spki, m->spki_len), canon, SPAN_NONE, false, m->sig) != OK)
		return stranger("the signature does not verify");
	if (match == TRUST_OTHER_AOR)
		return bad(403, REASON_PIN, "the key is pinned under another address");
	if (replay_seen(v->replay, m->bind))
		return stranger("seen before");
	if (m->date_s < now_s - OFFER_FRESH_S || m->date_s > now_s + OFFER_FRESH_S || m->date_s < v->started_s)
		return bad(488, REASON_SECURITY_LINES, "the offer is not fresh (our clocks may differ)");
	a = ask_policy(v, c, EVIDENCE_SIGNED);
	if (a.verdict != POLICY_YES)
		return stranger(policy_why_text(a.why));
	if (replay_add(v->replay, m->bind, c->key, now_s) != OK)
		return bad(486, REASON_BUSY, "too many calls");
	c->level = a.level;
	if (m->setup != SDP_ACTIVE || !m->setup_explicit)
		return bad(488, REASON_SECURITY_LINES, "ike-setup is not active");
	return fine;
}

/* NULL: v->sdp, v->media and v->canon are set. */
static const char *read_offer(struct vpn *v, struct span body, unsigned *ret_index, size_t *ret_canon_len)
{
	const char *why = "";
	size_t at;

	if (sdp_parse(body, v->sdp, &why, &at) != OK)
		return "not a description";
	*ret_index = sdp_ike_usable(v->sdp, true);
	if (*ret_index == SDP_MEDIA_MAX)
		*ret_index = sdp_ike_find(v->sdp); /* who is it that offers what cannot be used? */
	if (*ret_index == SDP_MEDIA_MAX || sdp_ike_read(v->sdp, *ret_index, false, v->media, &why) != OK)
		return "no usable IKE media";
	if (sdp_ike_canon(v->sdp, *ret_index, false, v->canon, sizeof(v->canon), ret_canon_len) != OK)
		return "no canonical form";
	return NULL;
}

struct verdict describe_check_offer(struct vpn *v, struct call *c, struct span from, struct span body,
				    unsigned *ret_index, size_t *ret_canon_len)
{
	const char *why = read_offer(v, body, ret_index, ret_canon_len);
	struct verdict r;

	if (why)
		return stranger(why);
	r = v->media->is_tieline ? check_signed_offer(v, c, span_of(v->canon, *ret_canon_len))
				 : check_bare_offer(v, c, from);
	if (!r.ok)
		return r;
	if (sdp_ike_usable(v->sdp, c->plain_esp) == SDP_MEDIA_MAX)
		return bad(488, REASON_INPUT,
			   "no usable IKE media: it must be ike-esp-udpencap, unbundled and not on port 500");
	if (make_agent(v, c) != OK || inforce_peer(c, span_of(v->canon, *ret_canon_len)) != OK)
		return bad(500, REASON_INTERNAL, "no memory");
	if (!take_addresses(v, c, v->media))
		return bad(488, REASON_NO_PATH, "no usable addresses");
	switch (make_ike(v, c, v->media)) {
	case OK: return fine;
	case ERR_AUTH: return bad(488, REASON_FINGERPRINT, "no usable fingerprint");
	case ERR_DENIED: return bad(488, REASON_NOT_ALLOWED, "its section allows nothing that could be proposed to it");
	default: return bad(500, REASON_INTERNAL, "no memory");
	}
}

enum err describe_late_answer(struct vpn *v, struct call *c, size_t *ret_len)
{
	unsigned index;
	size_t canon_len;

	if (read_offer(v, span_of(c->offer, c->offer_len), &index, &canon_len))
		return ERR_MALFORMED; /* it was fine before */
	/* what was learned of ourselves meanwhile; the agent drops what it has */
	if (c->ice && add_candidates(v, c) != OK)
		return ERR_NOMEM;
	return describe_answer(v, c, span_of(v->canon, canon_len), index, ret_len);
}

enum err describe_answer(struct vpn *v, struct call *c, struct span offer_canon, unsigned index, size_t *ret_len)
{
	struct candidate_texts *texts = calloc(1, sizeof(*texts));
	uint8_t *canon = malloc(SDP_CANON_MAX), bind_o[16];
	struct sdp_origin o = origin_of(v);
	struct wr w = wr_of(v->text, sizeof(v->text));
	size_t canon_len = 0;
	enum err e = texts && canon ? OK : ERR_NOMEM;

	if (e == OK) {
		memcpy(bind_o, v->media->bind, sizeof(bind_o));
		e = fill_own(v, c, true, v->media, texts);
	}
	if (e == OK) {
		v->media->setup = c->ike_initiator ? SDP_ACTIVE : SDP_PASSIVE;
		sdp_ike_write_answer(&w, &o, v->sdp, index, v->media);
		e = w.bad ? ERR_LIMIT : canon_of(wr_done(&w), v->sdp_other, index, true, canon, &canon_len);
	}
	if (e == OK && !c->bare) {
		e = sdp_seal_sign(v->identity, span_of(canon, canon_len), offer_canon, true, v->media->sig);
		v->media->has_sig = true;
		w = wr_of(v->text, sizeof(v->text));
		sdp_ike_write_answer(&w, &o, v->sdp, index, v->media);
		if (e == OK)
			e = w.bad ? ERR_LIMIT
				  : bind_call(v, c, offer_canon, span_of(canon, canon_len), bind_o, c->bind);
	}
	if (e == OK)
		e = w.bad ? ERR_LIMIT : inforce_own(c, wr_done(&w));
	if (e == OK)
		*ret_len = w.len;
	free(canon);
	free(texts);
	return e;
}

/* ---- an answer ---- */

static struct verdict check_signed_answer(struct vpn *v, struct call *c, struct span canon)
{
	const struct sdp_ike *m = v->media;
	struct policy_answer a;

	if (!m->has_bind || !m->has_key || !m->has_aor || !m->has_date || !m->has_sig || !m->n_fingerprints ||
	    m->has_to)
		return bad(0, REASON_SECURITY_LINES, NULL);
	if (strcmp(m->aor, c->peer))
		return bad(0, REASON_PIN, "the answer speaks for another address than the one that was dialled");
	if (!take_key(v, c, m))
		return bad(0, REASON_PIN, "the answer shows our own key");
	a = ask_policy(v, c, EVIDENCE_SIGNED);
	if (a.verdict != POLICY_YES)
		return bad(0, a.why == POLICY_LEVEL ? REASON_LEVEL : REASON_PIN, NULL);
	if (sdp_seal_verify(span_of(m->spki, m->spki_len), canon, span_of(c->canon_offer, c->canon_offer_len), true,
			    m->sig) != OK)
		return bad(0, REASON_SECURITY_LINES, NULL);
	if (m->setup != SDP_PASSIVE || !m->setup_explicit)
		return bad(0, REASON_SECURITY_LINES, "the answer's ike-setup is not passive");
	c->level = a.level;
	c->ike_initiator = true;
	return fine;
}

static struct verdict check_bare_answer(struct vpn *v, struct call *c)
{
	if (!c->bare)
		return bad(0, REASON_SECURITY_LINES,
			   "the answer has no security lines; somebody on the signalling path removed them");
	if (v->media->setup == SDP_ACTPASS)
		return bad(0, REASON_INPUT, "the answer does not say who begins");
	c->ike_initiator = v->media->setup == SDP_PASSIVE;
	return fine;
}

struct verdict describe_check_answer(struct vpn *v, struct call *c, struct span body)
{
	const char *why = "";
	size_t at, canon_len;
	struct verdict r;
	enum err e;

	c->has_key = false;
	if (sdp_parse(body, v->sdp, &why, &at) != OK || !v->sdp->n_media)
		return bad(0, REASON_SECURITY_LINES, "the answer is not a description");
	if (sdp_ike_usable(v->sdp, false) != 0)
		return bad(0, REASON_NOT_AVAILABLE, "the other side does not take part in IKE media");
	if (sdp_ike_read(v->sdp, 0, true, v->media, &why) != OK ||
	    sdp_ike_canon(v->sdp, 0, true, v->canon, sizeof(v->canon), &canon_len) != OK)
		return bad(0, REASON_SECURITY_LINES, "the answer's IKE media is malformed");
	if (v->media->is_tieline && c->bare)
		return bad(0, REASON_SECURITY_LINES, "a peer that is configured as bare answered with security lines");
	r = v->media->is_tieline ? check_signed_answer(v, c, span_of(v->canon, canon_len)) : check_bare_answer(v, c);
	if (!r.ok)
		return r;
	if (!take_addresses(v, c, v->media))
		return bad(0, REASON_NO_PATH, "the answer has no usable addresses");
	e = make_ike(v, c, v->media);
	if (e == OK)
		e = inforce_peer(c, span_of(v->canon, canon_len));
	if (e == OK && !c->bare)
		e = bind_call(v, c, span_of(c->canon_offer, c->canon_offer_len), span_of(v->canon, canon_len), c->bind,
			      v->media->bind);
	if (e == ERR_AUTH)
		return bad(0, REASON_FINGERPRINT,
			   "the answer has no usable fingerprint, or names another shared key than its [peer] section");
	return e == OK ? fine : bad(0, REASON_INTERNAL, NULL);
}
