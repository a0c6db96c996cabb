/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/proof.c - what a [peer] section says of proofs, in descriptions and for IKE: shared keys, CAs, PPKs, first contact. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "crypto/secret.h"
#include "vpn/impl.h"

#define CONTACTS_MAX 4096
#define PPK_LEN 32

/* ---- psk-fingerprint (RFC 6193, 8.2) ---- */

static enum err psk_hash(const struct cfg_peer *p, enum hash_alg alg, uint8_t ret[HASH_MAX])
{
	return hash_of(alg, span_of(p->psk.bytes, p->psk.len), ret);
}

enum err proof_describe(const struct cfg_peer *p, struct sdp_ike *m)
{
	struct sdp_fingerprint *f = &m->psk_fingerprints[0];

	if (!p || !p->psk.len)
		return OK;
	m->n_fingerprints = 0; /* no certificate is shown (RFC 6193, 8.2) */
	m->n_psk_fingerprints = 1;
	*f = (struct sdp_fingerprint){ .hash = HASH_SHA256, .len = hash_size(HASH_SHA256) };
	return psk_hash(p, HASH_SHA256, f->value);
}

bool proof_psk_named(const struct cfg_peer *p, const struct sdp_ike *m)
{
	for (unsigned i = 0; i < m->n_psk_fingerprints; i++) {
		const struct sdp_fingerprint *f = &m->psk_fingerprints[i];
		uint8_t value[HASH_MAX];

		if (f->hash == HASH_SHA1 && !p->sha1)
			continue;
		if (psk_hash(p, f->hash, value) == OK && secret_eq(value, f->value, f->len))
			return true;
	}
	return false;
}

/* ---- first contact (RFC 7296, 2.4), by (AOR, key); a stock peer shows its key only later ---- */

static enum err contact_of(const struct call *c, uint8_t ret[32])
{
	static const uint8_t no_key[SPKI_HASH];
	struct span parts[] = { span_str(c->peer), span_of("", 1), span_of(c->bare ? no_key : c->key, SPKI_HASH) };

	return hash_parts(HASH_SHA256, parts, 3, ret);
}

static bool contacted(const struct vpn *v, const uint8_t who[32])
{
	for (unsigned i = 0; i < v->n_contacts; i++)
		if (!memcmp(v->contacts[i], who, 32))
			return true;
	return false;
}

/* Is there one more call with this peer on its way to an SA? The peer may have its half of it already. */
static bool another(const struct vpn *v, const struct call *c)
{
	for (const struct call *o = v->calls; o; o = o->next)
		if (o != c && call_live(o) && o->ike_cfg && o->account == c->account && !strcmp(o->peer, c->peer))
			return true;
	return false;
}

/* Only in doubt not: to say it wrongly would end a call that is up. */
static bool first_contact(const struct vpn *v, const struct call *c)
{
	uint8_t who[32];

	return !v->contacts_full && contact_of(c, who) == OK && !contacted(v, who) && !another(v, c);
}

void proof_contacted(struct vpn *v, const struct call *c)
{
	uint8_t(*grown)[32], who[32];

	if (v->contacts_full || contact_of(c, who) != OK || contacted(v, who))
		return;
	grown = v->n_contacts < CONTACTS_MAX ? realloc(v->contacts, (v->n_contacts + 1) * sizeof(*grown)) : NULL;
	if (!grown) { /* better never again than wrongly */
		v->contacts_full = true;
		return;
	}
	v->contacts = grown;
	memcpy(v->contacts[v->n_contacts++], who, 32);
}

/* ---- for IKE ---- */

enum err proof_fill(const struct vpn *v, const struct call *c, struct ike_config *k)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);

	k->wall_s = vpn_wall_s(v);
	k->initial_contact = first_contact(v, c);
	if (!p || !c->bare)
		return OK;
	if (p->ca_file[0] && !p->ca)
		return ERR_DENIED; /* what is in the file was never read: nobody has its certificate from there */
	k->ca = cert_anchor_ref(p->ca);
	memcpy(k->psk.bytes, p->psk.bytes, p->psk.len);
	k->psk.len = p->psk.len;
	/* towards a stock peer unchanged and under its own name */
	memcpy(k->ppk.bytes, p->ppk.bytes, p->ppk.len);
	k->ppk.len = p->ppk.len;
	memcpy(k->ppk_id, p->ppk_id, sizeof(k->ppk_id));
	return OK;
}

/* docs/protocol.md: the PPK of a tieline call is made from the configured one, and named after the call's tag. */
enum err proof_bind(const struct vpn *v, const struct call *c, struct ike_config *k)
{
	const struct cfg_peer *p = config_peer(v->cfg, c->peer);
	uint8_t mem[2 * 4 + CFG_SECRET_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	enum err e;

	if (!p || !p->ppk.len)
		return OK;
	wr_lp(&w, SPAN_NONE);
	wr_lp(&w, span_of(p->ppk.bytes, p->ppk.len));
	e = w.bad ? ERR_LIMIT : hkdf_of(HASH_SHA256, wr_done(&w), SPAN_LIT("tieline ppk v1"), k->ppk.bytes, PPK_LEN);
	secret_wipe(mem, sizeof(mem));
	if (e != OK)
		return e;
	k->ppk.len = PPK_LEN;
	memcpy(k->ppk_id, "tl-", 3);
	hex_write(SPAN_OF(k->tag), k->ppk_id + 3, sizeof(k->ppk_id) - 3);
	return OK;
}

static bool same_secret(const struct cfg_secret *a, const struct cfg_secret *b)
{
	return a->len == b->len && secret_eq(a->bytes, b->bytes, a->len);
}

/* Would what this call was proved with, or is about to be, still do? Policy knows of keys; the rest is compared by IKE, and once.
 * p, q: the section before and now. */
bool proof_stands(const struct call *c, const struct cfg_peer *p, const struct cfg_peer *q)
{
	static const struct cfg_peer none;

	p = p ? p : &none;
	q = q ? q : &none;
	if (!same_secret(&p->ppk, &q->ppk))
		return false;
	return !c->bare ||
	       (q->bare && p->sha1 == q->sha1 && p->plain_esp == q->plain_esp && same_secret(&p->psk, &q->psk) &&
		p->has_cert == q->has_cert && !memcmp(p->cert, q->cert, sizeof(p->cert)) &&
		!strcmp(p->ca_file, q->ca_file) && addr_ip_eq(&p->address, &q->address));
}

/* What a key exchange ended with, for a person; NULL: nothing that the kind of failure does not say. */
const char *proof_failure_text(const struct ike_event *e)
{
	switch (e->fail) {
	case IKE_FAIL_CHAIN: return e->detail;
	case IKE_FAIL_PPK: return "one side has no post-quantum key (ppk) for the other, or it has another name there";
	case IKE_FAIL_NAT:
		return "an address translator is on the way, or the other side wants ESP in UDP, and its section says "
		       "udp-encap = no";
	case IKE_FAIL_AUTH:
		return e->notify ? ike_notify_text(e->notify)
				 : "the other side's proof of identity is wrong: its certificate or shared key is "
				   "another "
				   "one than configured here";
	case IKE_FAIL_PROTOCOL: return e->detail ? e->detail : e->notify ? ike_notify_text(e->notify) : NULL;
	default: return NULL;
	}
}
