/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sdp/usable.c - which IKE media section a live call may use (the table in docs/protocol.md). */
#include "base/text.h"
#include "sdp/ike.h"

/* Port 500 has no room for anything but IKE without the non-ESP marker (RFC 3948, 2.2). */
#define PORT_BARE_IKE 500

static struct span mid_of(const struct sdp_media *m)
{
	unsigned at = 0;
	const struct sdp_attr *a = sdp_attr_next(&m->s, "mid", &at);

	return a ? span_trim(a->value) : SPAN_NONE;
}

/* RFC 8859 gives ike-esp the category CAUTION: it does not share a transport with other media. */
static bool is_bundled(const struct sdp *d, const struct sdp_media *m)
{
	struct span mid = mid_of(m), words, word;
	const struct sdp_attr *a;
	unsigned at = 0;

	while (mid.len && (a = sdp_attr_next(&d->session, "group", &at)) != NULL) {
		words = a->value;
		if (!span_ieq_str(span_word(&words), "BUNDLE"))
			continue;
		while ((word = span_word(&words)).len)
			if (span_eq(word, mid))
				return true;
	}
	return false;
}

static unsigned first_of(const struct sdp *d, const char *format)
{
	for (unsigned i = 0; i < d->n_media; i++) {
		const struct sdp_media *m = &d->media[i];

		if (m->port && m->port != PORT_BARE_IKE && span_eq_str(m->type, "application") &&
		    span_ieq_str(m->proto, "udp") && m->n_formats == 1 && span_ieq_str(m->formats[0], format) &&
		    !is_bundled(d, m))
			return i;
	}
	return SDP_MEDIA_MAX;
}

unsigned sdp_ike_usable(const struct sdp *d, bool plain_esp)
{
	unsigned i = first_of(d, "ike-esp-udpencap");

	return i == SDP_MEDIA_MAX && plain_esp ? first_of(d, "ike-esp") : i;
}
