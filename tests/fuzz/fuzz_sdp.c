/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A description through everything that sdp/ does with foreign text.
 * covers: src/sdp/sdp.c src/sdp/ike.c src/sdp/canon.c src/sdp/effective.c src/sdp/aor.c src/sdp/write.c */
#include <stdlib.h>
#include <string.h>

#include "sdp/ike.h"

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
	if (back.setup != m->setup || strcmp(back.aor, m->aor) || back.spki_len != m->spki_len || back.date_s != m->date_s ||
	    back.n_candidates != m->n_candidates || back.n_fingerprints != m->n_fingerprints || strcmp(back.ice_pwd, m->ice_pwd))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sdp d;
	static struct sdp_ike m;
	static uint8_t canon[SDP_CANON_MAX];
	char aor[SDP_AOR_MAX];
	const char *why = NULL;
	size_t offset = 0;

	(void)!sdp_aor_normal(span_of(data, size), aor, sizeof(aor));
	if (sdp_parse(span_of(data, size), &d, &why, &offset) != OK) {
		if (!why || offset > size)
			abort();
		return 0;
	}
	for (unsigned i = 0; i < d.n_media; i++)
		for (int is_answer = 0; is_answer < 2; is_answer++) {
			bool read = sdp_ike_read(&d, i, is_answer, &m, &why) == OK;

			(void)canon_of(&d, i, is_answer, canon);
			if (read)
				again(&m, is_answer);
		}
	return 0;
}
