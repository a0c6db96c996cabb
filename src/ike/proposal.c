/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/proposal.h"

#define INTEG_NONE 0
#define KE_NONE 0

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

/* The first of ours of that type that is offered. wanted: the one to be taken before the others, 0: none. */
static const struct ike_alg *pick(const struct ike_list_proposal *ours, struct view v, uint8_t type, uint16_t wanted)
{
	const struct ike_alg *first = NULL;

	for (unsigned i = 0; i < ours->n; i++) {
		const struct ike_alg *a = ike_alg_at(ours->row[i]);

		if (a->type != type || !offers(v, type, a->id, a->key_bits))
			continue;
		if (wanted && a->id == wanted)
			return a;
		if (!first)
			first = a;
	}
	return first;
}

/* 3.3.3: a combined cipher stands without an integrity transform, or with NONE; any other needs one. */
static bool integ_of(const struct ike_list_proposal *ours, struct view v, struct ike_suite *s)
{
	const struct ike_alg *a;

	if (cipher_combined(s->encr->cipher))
		return !n_of_type(v, IKE_T_INTEG) || offers(v, IKE_T_INTEG, INTEG_NONE, 0);
	a = pick(ours, v, IKE_T_INTEG, 0);
	if (a)
		s->integ = a->integ;
	return a;
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

/* The group of a Child SA (1.3.1): the one of the KE payload, else any of ours, which is asked for by INVALID_KE_PAYLOAD. */
static const struct ike_group *group_of(const struct ike_list *groups, struct view v, uint16_t wanted)
{
	const struct ike_group *g = ike_group_find(groups, wanted);

	if (g && offers(v, IKE_T_KE, g->id, 0))
		return g;
	for (unsigned i = 0; i < v.n; i++) {
		if (v.t[i].type != IKE_T_KE || v.t[i].id == KE_NONE || v.t[i].key_bits || v.t[i].unknown_attribute)
			continue;
		g = ike_group_find(groups, v.t[i].id);
		if (g)
			return g;
	}
	return NULL;
}

static bool has_group(const struct ike_list_proposal *p)
{
	for (unsigned i = 0; i < p->n; i++)
		if (ike_alg_at(p->row[i])->type == IKE_T_KE)
			return true;
	return false;
}

/* groups: those of a Child SA with a key exchange of its own; NULL: none. */
static bool suite_of(const struct ike_list_proposal *ours, const struct ike_list *groups, struct view v,
		     enum ike_protocol protocol, uint16_t ke_group, struct ike_suite *ret)
{
	const struct ike_alg *encr = pick(ours, v, IKE_T_ENCR, 0), *prf, *group, *esn;
	struct ike_suite s = { .encr = encr ? encr->encr : NULL };

	if (!types_ok(v, protocol) || !s.encr || !integ_of(ours, v, &s))
		return false;
	if (protocol == IKE_PROTO_IKE) {
		prf = pick(ours, v, IKE_T_PRF, 0);
		group = pick(ours, v, IKE_T_KE, ke_group);
		if (!prf || !group)
			return false;
		s.prf = prf->prf;
		s.group = group->group;
	} else {
		esn = pick(ours, v, IKE_T_ESN, 0);
		if (groups && ke_group)
			s.group = group_of(groups, v, ke_group);
		if (groups && !s.group && has_group(ours))
			return false; /* of ours, one that is never without a key exchange of its own */
		if (!esn || (!s.group && n_of_type(v, IKE_T_KE) && !offers(v, IKE_T_KE, KE_NONE, 0)))
			return false;
		s.esn = esn->id;
	}
	*ret = s;
	return true;
}

static enum err choose(const struct ike_list *ours, const struct ike_list *groups, const struct ike_offer *o,
		       enum ike_protocol protocol, uint16_t ke_group, struct ike_suite *ret,
		       const struct ike_proposal **ret_proposal)
{
	for (unsigned i = 0; i < o->n_proposals; i++) {
		const struct ike_proposal *p = &o->proposals[i];
		struct view v = { &o->transforms[p->first], p->n };

		for (unsigned k = 0; k < ours->n; k++)
			if (p->protocol == protocol &&
			    suite_of(&ours->proposal[k], groups, v, protocol, ke_group, ret)) {
				*ret_proposal = p;
				return OK;
			}
	}
	return ERR_NOTFOUND;
}

enum err ike_proposal_choose(const struct ike_list *ours, const struct ike_offer *o, enum ike_protocol protocol,
			     uint16_t ke_group, struct ike_suite *ret, const struct ike_proposal **ret_proposal)
{
	return choose(ours, NULL, o, protocol, ke_group, ret, ret_proposal);
}

enum err ike_proposal_choose_ke(const struct ike_list *ours, const struct ike_list *groups, const struct ike_offer *o,
				uint16_t ke_group, struct ike_suite *ret, const struct ike_proposal **ret_proposal)
{
	return choose(ours, groups, o, IKE_PROTO_ESP, ke_group, ret, ret_proposal);
}

static enum err chosen(const struct ike_list *ours, const struct ike_list *groups, const struct ike_offer *o,
		       enum ike_protocol protocol, uint16_t ke_group, struct ike_suite *ret,
		       const struct ike_proposal **ret_proposal)
{
	struct view v = { o->transforms, o->n_transforms };
	const struct ike_proposal *p = &o->proposals[0];

	if (o->n_proposals != 1 || !p->number || p->number > ours->n || p->protocol != protocol)
		return ERR_DENIED;
	for (unsigned type = IKE_T_ENCR; type <= IKE_T_ESN; type++)
		if (n_of_type(v, (uint8_t)type) > 1)
			return ERR_DENIED;
	if (!suite_of(&ours->proposal[p->number - 1], groups, v, protocol, ke_group, ret))
		return ERR_DENIED;
	*ret_proposal = p;
	return OK;
}

enum err ike_proposal_chosen(const struct ike_list *ours, const struct ike_offer *o, enum ike_protocol protocol,
			     struct ike_suite *ret, const struct ike_proposal **ret_proposal)
{
	return chosen(ours, NULL, o, protocol, 0, ret, ret_proposal);
}

enum err ike_proposal_chosen_ke(const struct ike_list *ours, const struct ike_list *groups, const struct ike_offer *o,
				uint16_t ke_group, struct ike_suite *ret, const struct ike_proposal **ret_proposal)
{
	return chosen(ours, groups, o, IKE_PROTO_ESP, ke_group, ret, ret_proposal);
}

/* ---- writing ---- */

static void write_proposal(struct wr *w, enum ike_protocol protocol, uint8_t number, struct span spi,
			   const struct ike_transform *t, unsigned n, bool more)
{
	size_t at;

	wr_u16(w, more ? 0x0200 : 0);
	at = wr_open16(w);
	wr_u8(w, number);
	wr_u8(w, (uint8_t)protocol);
	wr_u8(w, (uint8_t)spi.len);
	wr_u8(w, (uint8_t)n);
	wr_span(w, spi);
	for (unsigned i = 0; i < n; i++) {
		wr_u8(w, i + 1 < n ? 3 : 0);
		wr_u8(w, 0);
		wr_u16(w, t[i].key_bits ? 12 : 8);
		wr_u8(w, t[i].type);
		wr_u8(w, 0);
		wr_u16(w, t[i].id);
		if (t[i].key_bits) {
			wr_u16(w, 0x800e); /* 3.3.5: Key Length, TV form */
			wr_u16(w, t[i].key_bits);
		}
	}
	wr_close16(w, at, 4); /* the length counts the two bytes before it and itself */
}

static void build_offer(struct ike_build *b, const struct ike_list *ours, enum ike_protocol protocol, struct span spi,
			const struct ike_group *group)
{
	ike_build_open(b, IKE_P_SA);
	for (unsigned i = 0; i < ours->n; i++) {
		const struct ike_list_proposal *p = &ours->proposal[i];
		struct ike_transform t[IKE_LIST_ALGS + 1];
		unsigned n = 0;

		if (group) /* the one of the KE payload stands first */
			t[n++] = (struct ike_transform){ .type = IKE_T_KE, .id = group->id };
		for (unsigned k = 0; k < p->n; k++) {
			const struct ike_alg *a = ike_alg_at(p->row[k]);

			/* IKE_AUTH has no KE, and so no group either (1.2) */
			if (a->type == IKE_T_KE && protocol == IKE_PROTO_ESP && (!group || a->id == group->id))
				continue;
			t[n++] = (struct ike_transform){ .type = a->type, .id = a->id, .key_bits = a->key_bits };
		}
		write_proposal(&b->w, protocol, (uint8_t)(i + 1), spi, t, n, i + 1 < ours->n);
	}
}

void ike_build_offer(struct ike_build *b, const struct ike_list *ours, enum ike_protocol protocol, struct span spi)
{
	build_offer(b, ours, protocol, spi, NULL);
}

void ike_build_offer_ke(struct ike_build *b, const struct ike_list *ours, struct span spi,
			const struct ike_group *group)
{
	build_offer(b, ours, IKE_PROTO_ESP, spi, group);
}

void ike_build_choice(struct ike_build *b, enum ike_protocol protocol, uint8_t number, struct span spi,
		      const struct ike_suite *s)
{
	struct ike_transform t[5] = { { .type = IKE_T_ENCR, .id = s->encr->id, .key_bits = s->encr->key_bits } };
	unsigned n = 1;

	if (s->prf)
		t[n++] = (struct ike_transform){ .type = IKE_T_PRF, .id = s->prf->id };
	if (s->integ)
		t[n++] = (struct ike_transform){ .type = IKE_T_INTEG, .id = s->integ->id };
	if (s->group)
		t[n++] = (struct ike_transform){ .type = IKE_T_KE, .id = s->group->id };
	if (protocol == IKE_PROTO_ESP)
		t[n++] = (struct ike_transform){ .type = IKE_T_ESN, .id = s->esn };
	ike_build_open(b, IKE_P_SA);
	write_proposal(&b->w, protocol, number, spi, t, n, false);
}
