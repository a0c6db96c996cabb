/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/suite.h"

#include "ike/payload.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* RFC 8247, 2 and RFC 8221, 5, 6; what of them is left out and why: docs/protocol.md. Words are those of strongSwan. */
static const struct ike_encr encrs[] = {
	{ 20, 128, CIPHER_AES128_GCM, "AES-GCM-16-128" },         { 20, 256, CIPHER_AES256_GCM, "AES-GCM-16-256" },
	{ 28, 0, CIPHER_CHACHA20_POLY1305, "ChaCha20-Poly1305" }, /* RFC 7634, 4: no Key Length attribute */
	{ 12, 128, CIPHER_AES128_CBC_SHA256, "AES-CBC-128" },     { 12, 256, CIPHER_AES256_CBC_SHA256, "AES-CBC-256" },
};
static const struct ike_integ integs[] = {
	{ 12, "HMAC-SHA2-256-128" },
};
static const struct ike_prf prfs[] = {
	{ 5, HASH_SHA256, "HMAC-SHA2-256" },
	{ 6, HASH_SHA384, "HMAC-SHA2-384" },
	{ 7, HASH_SHA512, "HMAC-SHA2-512" },
};
static const struct ike_group groups[] = {
	{ 31, KEX_X25519, "X25519" }, /* RFC 8031 */
	{ 19, KEX_P256, "P-256" }, /* RFC 5903 */
	{ 20, KEX_P384, "P-384" },         { 14, KEX_MODP2048, "MODP-2048" }, /* RFC 3526 */
	{ 15, KEX_MODP3072, "MODP-3072" },
};

static const struct ike_alg table[] = {
	{ "aes128gcm16", IKE_T_ENCR, 20, 128, { .encr = &encrs[0] } },
	{ "aes256gcm16", IKE_T_ENCR, 20, 256, { .encr = &encrs[1] } },
	{ "chacha20poly1305", IKE_T_ENCR, 28, 0, { .encr = &encrs[2] } },
	{ "aes128", IKE_T_ENCR, 12, 128, { .encr = &encrs[3] } },
	{ "aes256", IKE_T_ENCR, 12, 256, { .encr = &encrs[4] } },
	{ "sha256", IKE_T_INTEG, 12, 0, { .integ = &integs[0] } },
	{ "prfsha256", IKE_T_PRF, 5, 0, { .prf = &prfs[0] } },
	{ "prfsha384", IKE_T_PRF, 6, 0, { .prf = &prfs[1] } },
	{ "prfsha512", IKE_T_PRF, 7, 0, { .prf = &prfs[2] } },
	{ "x25519", IKE_T_KE, 31, 0, { .group = &groups[0] } },
	{ "ecp256", IKE_T_KE, 19, 0, { .group = &groups[1] } },
	{ "ecp384", IKE_T_KE, 20, 0, { .group = &groups[2] } },
	{ "modp2048", IKE_T_KE, 14, 0, { .group = &groups[3] } },
	{ "modp3072", IKE_T_KE, 15, 0, { .group = &groups[4] } },
	{ "esn", IKE_T_ESN, 1, 0, { .encr = NULL } },
	{ "noesn", IKE_T_ESN, 0, 0, { .encr = NULL } },
};
/* A word is once in a proposal, so the proposal holds them all, and what complete() adds was not in it. */
_Static_assert(COUNT(table) <= IKE_LIST_ALGS, "room for each word");
enum { ROW_PRFSHA256 = 6, ROW_NOESN = 15 };

/* 128 bits first: they match the strength of the first two groups, and are the faster ones per packet. */
static const char ike_default[] = "aes128gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-"
				  "x25519-ecp256-ecp384-modp3072-modp2048,"
				  "aes128-aes256-sha256-prfsha256-prfsha384-prfsha512-"
				  "x25519-ecp256-ecp384-modp3072-modp2048";
static const char esp_default[] = "aes128gcm16-aes256gcm16-chacha20poly1305-esn-noesn,"
				  "aes128-aes256-sha256-esn-noesn";

const struct ike_alg *ike_alg_at(uint8_t row)
{
	return &table[row];
}

static bool word_find(struct span word, uint8_t *ret)
{
	for (size_t i = 0; i < COUNT(table); i++)
		if (span_eq_str(word, table[i].word)) {
			*ret = (uint8_t)i;
			return true;
		}
	return false;
}

static unsigned n_of(const struct ike_list_proposal *p, uint8_t type)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n; i++)
		n += table[p->row[i]].type == type;
	return n;
}

/* All ciphers of it are combined, or none. */
static bool one_kind(const struct ike_list_proposal *p, bool *ret_combined)
{
	unsigned n_combined = 0;

	for (unsigned i = 0; i < p->n; i++)
		n_combined += table[p->row[i]].type == IKE_T_ENCR && cipher_combined(table[p->row[i]].encr->cipher);
	*ret_combined = n_combined;
	return !n_combined || n_combined == n_of(p, IKE_T_ENCR);
}

/* Do the words of a proposal make one? Adds what may be left out. */
static bool complete(struct ike_list_proposal *p, bool esp, const char **x)
{
	bool combined;

	*x = "a cipher in each proposal, such as aes128gcm16";
	if (!n_of(p, IKE_T_ENCR))
		return false;
	*x = "combined ciphers (aes128gcm16) and others (aes128) in proposals of their own, separated by a comma";
	if (!one_kind(p, &combined))
		return false;
	*x = "sha256 with aes128 or aes256, and with no combined cipher (prfsha256 is the PRF)";
	if (!n_of(p, IKE_T_INTEG) != combined)
		return false;
	*x = "in esp no PRF";
	if (esp && n_of(p, IKE_T_PRF))
		return false;
	if (esp) {
		if (!n_of(p, IKE_T_ESN))
			p->row[p->n++] = ROW_NOESN;
		return true;
	}
	*x = "in ike no esn or noesn";
	if (n_of(p, IKE_T_ESN))
		return false;
	*x = "a group in each proposal of ike, such as x25519";
	if (!n_of(p, IKE_T_KE))
		return false;
	*x = "a PRF in each proposal of ike, such as prfsha256";
	if (!n_of(p, IKE_T_PRF)) {
		if (combined)
			return false;
		p->row[p->n++] = ROW_PRFSHA256;
	}
	return true;
}

static bool proposal_parse(struct span text, bool esp, struct ike_list_proposal *p, const char **x)
{
	p->n = 0;
	for (struct span rest = text; rest.p;) {
		uint8_t row;

		*x = "words such as aes256gcm16-prfsha384-ecp384 (docs/configuration.md)";
		if (!word_find(span_cut(rest, '-', &rest), &row))
			return false;
		*x = "each word once in a proposal";
		for (unsigned i = 0; i < p->n; i++)
			if (p->row[i] == row)
				return false;
		p->row[p->n++] = row;
	}
	return complete(p, esp, x);
}

enum err ike_list_parse(struct span text, bool esp, struct ike_list *ret, const char **ret_expected)
{
	struct ike_list l = { .n = 0 };

	for (struct span rest = text; l.n == 0 || rest.p;) {
		struct span one = span_trim(span_cut(rest, ',', &rest));

		*ret_expected = "at most 8 proposals";
		if (l.n == IKE_LIST_PROPOSALS)
			return ERR_MALFORMED;
		if (!proposal_parse(one, esp, &l.proposal[l.n], ret_expected))
			return ERR_MALFORMED;
		l.n++;
	}
	*ret = l;
	return OK;
}

const char *ike_list_default_text(bool esp)
{
	return esp ? esp_default : ike_default;
}

void ike_list_default(bool esp, struct ike_list *ret)
{
	const char *unused;

	if (ike_list_parse(span_str(ike_list_default_text(esp)), esp, ret, &unused) != OK)
		ret->n = 0;
}

const struct ike_group *ike_group_find(const struct ike_list *l, uint16_t id)
{
	for (unsigned i = 0; i < l->n; i++)
		for (unsigned k = 0; k < l->proposal[i].n; k++) {
			const struct ike_alg *a = &table[l->proposal[i].row[k]];

			if (a->type == IKE_T_KE && (!id || a->id == id))
				return a->group;
		}
	return NULL;
}

const struct ike_group *ike_group_first(const struct ike_list *l)
{
	return ike_group_find(l, 0);
}

const char *ike_suite_text(const struct ike_suite *s, char dst[IKE_SUITE_TEXT])
{
	struct wr w = wr_of(dst, IKE_SUITE_TEXT - 1);

	wr_str(&w, s->encr->name);
	if (s->integ)
		wr_fmt(&w, ", %s", s->integ->name);
	if (s->prf)
		wr_fmt(&w, ", %s", s->prf->name);
	if (s->group)
		wr_fmt(&w, ", %s", s->group->name);
	if (s->esn)
		wr_str(&w, ", ESN");
	dst[w.len] = 0;
	return dst;
}
