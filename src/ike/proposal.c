/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/proposal.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* 128 bits first: it matches the strength of both groups and is the faster one per packet. */
static const struct ike_encr encrs[] = {
	{ 20, 128, AEAD_AES128_GCM, 4, "AES-GCM-16-128" },
	{ 20, 256, AEAD_AES256_GCM, 4, "AES-GCM-16-256" },
};
static const struct ike_prf prfs[] = {
	{ 5, HASH_SHA256, "HMAC-SHA2-256" },
	{ 6, HASH_SHA384, "HMAC-SHA2-384" },
	{ 7, HASH_SHA512, "HMAC-SHA2-512" },
};
static const struct ike_group groups[] = {
	{ 31, KEX_X25519, "X25519" },
	{ 19, KEX_P256, "P-256" },
};
#define NO_ESN 0
#define INTEG_NONE 0
#define KE_NONE 0

const struct ike_group *ike_group_first(void)
{
	return &groups[0];
}

const struct ike_group *ike_group_find(uint16_t id)
{
	for (size_t i = 0; i < COUNT(groups); i++)
		if (groups[i].id == id)
			return &groups[i];
	return NULL;
}

/* ---- choosing ---- */

struct view {
	const struct ike_transform *t;
	unsigned n;
};

static unsigned n_of_type(struct view v, uint8_t type)
{
	unsigned n = 0;

	for (unsigned i = 0; i < v.n; i++)
		n += v.t[i].type == type;
	return n;
}

static bool offers(struct view v, uint8_t type, uint16_t id, uint16_t key_bits)
{
	for (unsigned i = 0; i < v.n; i++)
		if (v.t[i].type == type && v.t[i].id == id && v.t[i].key_bits == key_bits && !v.t[i].unknown_attribute)
			return true;
	return false;
}

static const struct ike_encr *encr_of(struct view v)
{
	for (size_t i = 0; i < COUNT(encrs); i++)
		if (offers(v, IKE_T_ENCR, encrs[i].id, encrs[i].key_bits))
			return &encrs[i];
	return NULL;
}

static const struct ike_prf *prf_of(struct view v)
{
	for (size_t i = 0; i < COUNT(prfs); i++)
		if (offers(v, IKE_T_PRF, prfs[i].id, 0))
			return &prfs[i];
	return NULL;
}

static const struct ike_group *group_of(struct view v, uint16_t preferred)
{
	const struct ike_group *g = ike_group_find(preferred);

	if (g && offers(v, IKE_T_KE, g->id, 0))
		return g;
	for (size_t i = 0; i < COUNT(groups); i++)
		if (offers(v, IKE_T_KE, groups[i].id, 0))
			return &groups[i];
	return NULL;
}

/* 3.3.3: an AEAD stands without an integrity transform, or with NONE. */
static bool integ_ok(struct view v)
{
	return !n_of_type(v, IKE_T_INTEG) || offers(v, IKE_T_INTEG, INTEG_NONE, 0);
}

/* 3.3.6: a transform type that we do not know, or of another protocol, spoils the proposal. */
static bool types_ok(struct view v, enum ike_protocol protocol)
{
	for (unsigned i = 0; i < v.n; i++) {
		uint8_t type = v.t[i].type;

		if (type < IKE_T_ENCR || type > IKE_T_ESN ||
		    type == (protocol == IKE_PROTO_IKE ? IKE_T_ESN : IKE_T_PRF))
			return false;
	}
	return true;
}

static bool suite_of(struct view v, enum ike_protocol protocol, uint16_t ke_group, struct ike_suite *ret)
{
	struct ike_suite s = { .encr = encr_of(v) };

	if (!types_ok(v, protocol) || !s.encr || !integ_ok(v))
		return false;
	if (protocol == IKE_PROTO_IKE) {
		s.prf = prf_of(v);
		s.group = group_of(v, ke_group);
		if (!s.prf || !s.group)
			return false;
	} else {
		/* a group goes with a KE payload (1.3.1), and where there is none, it must not be needed */
		s.group = ke_group && n_of_type(v, IKE_T_KE) ? group_of(v, ke_group) : NULL;
		if (!offers(v, IKE_T_ESN, NO_ESN, 0) ||
		    (!s.group && n_of_type(v, IKE_T_KE) && !offers(v, IKE_T_KE, KE_NONE, 0)))
			return false;
	}
	*ret = s;
	return true;
}

enum err ike_proposal_choose(const struct ike_offer *o, enum ike_protocol protocol, uint16_t ke_group,
			     struct ike_suite *ret, const struct ike_proposal **ret_proposal)
{
	for (unsigned i = 0; i < o->n_proposals; i++) {
		const struct ike_proposal *p = &o->proposals[i];
		struct view v = { &o->transforms[p->first], p->n };

		if (p->protocol == protocol && suite_of(v, protocol, ke_group, ret)) {
			*ret_proposal = p;
			return OK;
		}
	}
	return ERR_NOTFOUND;
}

enum err ike_proposal_chosen(const struct ike_offer *o, enum ike_protocol protocol, struct ike_suite *ret,
			     const struct ike_proposal **ret_proposal)
{
	return ike_proposal_chosen_ke(o, protocol, 0, ret, ret_proposal);
}

enum err ike_proposal_chosen_ke(const struct ike_offer *o, enum ike_protocol protocol, uint16_t ke_group,
				struct ike_suite *ret, const struct ike_proposal **ret_proposal)
{
	struct view v = { o->transforms, o->n_transforms };

	if (o->n_proposals != 1 || o->proposals[0].number != 1 || o->proposals[0].protocol != protocol)
		return ERR_DENIED;
	for (unsigned type = IKE_T_ENCR; type <= IKE_T_ESN; type++)
		if (n_of_type(v, (uint8_t)type) > 1)
			return ERR_DENIED;
	if (!suite_of(v, protocol, ke_group, ret))
		return ERR_DENIED;
	*ret_proposal = &o->proposals[0];
	return OK;
}

/* ---- writing ---- */

struct list {
	struct ike_transform t[COUNT(encrs) + COUNT(prfs) + COUNT(groups) + 1];
	unsigned n;
};

static void add(struct list *l, uint8_t type, uint16_t id, uint16_t key_bits)
{
	l->t[l->n++] = (struct ike_transform){ .type = type, .id = id, .key_bits = key_bits };
}

static void write_proposal(struct ike_build *b, enum ike_protocol protocol, uint8_t number, struct span spi,
			   const struct list *l)
{
	struct wr *w = &b->w;
	size_t at;

	ike_build_open(b, IKE_P_SA);
	wr_u16(w, 0); /* the last proposal */
	at = wr_open16(w);
	wr_u8(w, number);
	wr_u8(w, (uint8_t)protocol);
	wr_u8(w, (uint8_t)spi.len);
	wr_u8(w, (uint8_t)l->n);
	wr_span(w, spi);
	for (unsigned i = 0; i < l->n; i++) {
		const struct ike_transform *t = &l->t[i];

		wr_u8(w, i + 1 < l->n ? 3 : 0);
		wr_u8(w, 0);
		wr_u16(w, t->key_bits ? 12 : 8);
		wr_u8(w, t->type);
		wr_u8(w, 0);
		wr_u16(w, t->id);
		if (t->key_bits) {
			wr_u16(w, 0x800e); /* 3.3.5: Key Length, TV form */
			wr_u16(w, t->key_bits);
		}
	}
	wr_close16(w, at, 4); /* the length counts the two bytes before it and itself */
}

void ike_build_offer(struct ike_build *b, enum ike_protocol protocol, struct span spi)
{
	ike_build_offer_ke(b, protocol, spi, NULL);
}

void ike_build_offer_ke(struct ike_build *b, enum ike_protocol protocol, struct span spi, const struct ike_group *group)
{
	struct list l = { .n = 0 };

	for (size_t i = 0; i < COUNT(encrs); i++)
		add(&l, IKE_T_ENCR, encrs[i].id, encrs[i].key_bits);
	if (protocol == IKE_PROTO_IKE) {
		for (size_t i = 0; i < COUNT(prfs); i++)
			add(&l, IKE_T_PRF, prfs[i].id, 0);
		for (size_t i = 0; i < COUNT(groups); i++)
			add(&l, IKE_T_KE, groups[i].id, 0);
	} else {
		if (group)
			add(&l, IKE_T_KE, group->id, 0);
		add(&l, IKE_T_ESN, NO_ESN, 0);
	}
	write_proposal(b, protocol, 1, spi, &l);
}

void ike_build_choice(struct ike_build *b, enum ike_protocol protocol, uint8_t number, struct span spi,
		      const struct ike_suite *s)
{
	struct list l = { .n = 0 };

	add(&l, IKE_T_ENCR, s->encr->id, s->encr->key_bits);
	if (s->prf)
		add(&l, IKE_T_PRF, s->prf->id, 0);
	if (s->group)
		add(&l, IKE_T_KE, s->group->id, 0);
	if (protocol == IKE_PROTO_ESP)
		add(&l, IKE_T_ESN, NO_ESN, 0);
	write_proposal(b, protocol, number, spi, &l);
}
