/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A description through everything that sdp/ does with foreign text.
 * covers: src/sdp/sdp.c src/sdp/ike.c src/sdp/canon.c src/sdp/effective.c src/sdp/aor.c src/sdp/write.c src/sdp/usable.c
   src/sdp/seal.c */
#include <stdlib.h>
#include <string.h>

#include "sdp/ike.h"
#include "sdp/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t canon_of(const struct sdp *d, unsigned i, bool is_answer, uint8_t *dst)
{
	size_t len = 0;

	return sdp_ike_canon(d, i, is_answer, dst, SDP_CANON_MAX, &len) == OK ? len : 0;
}

/* What we read, written by us, means the same: fields of the tieline lines and the role survive. */
static void again(const struct sdp_ike *m, bool is_answer)
{
	static struct sdp d;
	static struct sdp_ike back;
	static uint8_t text[2 * SDP_TEXT_MAX];
	struct sdp_origin o = { 1, 1, m->addr };
	struct wr w = wr_of(text, sizeof(text));
	const char *why;
	size_t offset;

	sdp_ike_write_offer(&w, &o, m);
	if (w.bad || w.len > SDP_TEXT_MAX)
		return;
	if (sdp_parse(wr_done(&w), &d, &why, &offset) != OK || sdp_ike_read(&d, 0, is_answer, &back, &why) != OK)
		abort();
	if (back.setup != m->setup || strcmp(back.aor, m->aor) || back.spki_len != m->spki_len ||
	    back.date_s != m->date_s || back.n_candidates != m->n_candidates ||
	    back.n_fingerprints != m->n_fingerprints || strcmp(back.ice_pwd, m->ice_pwd))
		abort();
}

/* The answer to it keeps every section in its place, and refuses all but one. */
static void answer(const struct sdp *offer, unsigned index, const struct sdp_ike *m)
{
	static struct sdp back;
	static uint8_t text[4 * SDP_TEXT_MAX];
	struct sdp_origin o = { 1, 2, m->addr };
	struct wr w = wr_of(text, sizeof(text));
	enum sdp_setup setup;
	const char *why;
	size_t offset;

	if (sdp_setup_answer(m->setup, SDP_PASSIVE, &setup) == OK && setup == m->setup)
		abort(); /* RFC 4145, 4.1: one side waits, the other begins */
	sdp_ike_write_answer(&w, &o, offer, index, m);
	if (w.bad || w.len > SDP_TEXT_MAX)
		return;
	if (sdp_parse(wr_done(&w), &back, &why, &offset) != OK || back.n_media != offer->n_media)
		abort();
	for (unsigned i = 0; i < back.n_media; i++)
		if ((i == index ? m->addr.port : 0) != back.media[i].port ||
		    !span_eq(back.media[i].type, offer->media[i].type))
			abort();
}

static struct identity *identity;

static void finish(void)
{
	identity_free(identity);
}

/* What we sign verifies, and as nothing else. */
static void seal(const struct sdp_ike *m, struct span canon)
{
	static const char *const mails[] = { "a@e" };
	uint8_t sig[64], bind[32], tag[8];
	struct span spki;

	if (!m->has_sig || !m->has_key || !m->has_bind)
		return;
	if (!identity) {
		if (identity_generate(mails, 1, 0, &identity) != OK)
			abort();
		(void)atexit(finish);
	}
	spki = identity_spki(identity);
	(void)!sdp_seal_verify(span_of(m->spki, m->spki_len), canon, SPAN_NONE, false, m->sig);
	if (sdp_seal_sign(identity, canon, SPAN_NONE, false, sig) != OK ||
	    sdp_seal_verify(spki, canon, SPAN_NONE, false, sig) != OK ||
	    sdp_seal_verify(spki, canon, canon, true, sig) != ERR_AUTH || sdp_bind_hash(canon, canon, bind) != OK ||
	    sdp_tag(m->bind, m->bind, tag) != OK)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sdp d;
	static struct sdp_ike m;
	static uint8_t canon[SDP_CANON_MAX];
	char aor[SDP_AOR_MAX];
	struct addr a;
	const char *why = NULL;
	size_t offset = 0;

	(void)!sdp_aor_normal(span_of(data, size), aor, sizeof(aor));
	if (sdp_parse(span_of(data, size), &d, &why, &offset) != OK) {
		if (!why || offset > size)
			abort();
		return 0;
	}
	(void)!sdp_connection_parse(d.session.connection, &a);
	if (sdp_ike_usable(&d, true) < sdp_ike_find(&d) || sdp_ike_usable(&d, false) < sdp_ike_find(&d))
		abort(); /* a usable one is an IKE section */
	for (unsigned i = 0; i < d.n_media; i++)
		for (int is_answer = 0; is_answer < 2; is_answer++) {
			bool read = sdp_ike_read(&d, i, is_answer, &m, &why) == OK;
			size_t len = canon_of(&d, i, is_answer, canon);

			if (!read)
				continue;
			again(&m, is_answer);
			answer(&d, i, &m);
			if (!is_answer && len)
				seal(&m, span_of(canon, len));
		}
	return 0;
}
