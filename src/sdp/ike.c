/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "sdp/ike.h"

#include <string.h>

#include "base/text.h"
#include "sdp/effective.h"

struct reader {
	const struct sdp *d;
	unsigned index;
	struct sdp_ike *m;
	const char *why;
};

static bool fmt_parse(struct span token, enum sdp_fmt *ret)
{
	if (span_ieq_str(token, "ike-esp"))
		*ret = SDP_IKE_ESP;
	else if (span_ieq_str(token, "ike-esp-udpencap"))
		*ret = SDP_IKE_ESP_UDPENCAP;
	else
		return false;
	return true;
}

unsigned sdp_ike_find(const struct sdp *d)
{
	for (unsigned i = 0; i < d->n_media; i++) {
		const struct sdp_media *m = &d->media[i];
		enum sdp_fmt fmt;

		if (m->port && span_eq_str(m->type, "application") && span_ieq_str(m->proto, "udp") &&
		    fmt_parse(m->formats[0], &fmt))
			return i;
	}
	return SDP_MEDIA_MAX;
}

static void read_media_line(struct reader *r)
{
	const struct sdp_media *media = &r->d->media[r->index];
	struct span c = media->s.connection.p ? media->s.connection : r->d->session.connection;

	if (media->n_formats != 1 || !fmt_parse(media->formats[0], &r->m->fmt))
		r->why = "the IKE media line has not exactly one format, ike-esp or ike-esp-udpencap";
	else if (!span_eq_str(media->type, "application"))
		r->why = "the IKE media line's type is not application";
	else if (!span_ieq_str(media->proto, "udp"))
		r->why = "the IKE media line's protocol is not udp";
	else if (!c.p)
		r->why = "no c= line for the IKE media";
	else if (sdp_connection_parse(c, &r->m->addr) != OK)
		r->why = "the IKE media's c= is not a unicast address";
	else
		r->m->addr.port = (uint16_t)media->port;
}

static void read_mid(struct reader *r)
{
	bool twice;
	unsigned at = 0;
	const struct sdp_attr *a = sdp_attr_next(&r->d->media[r->index].s, "mid", &at);

	twice = a && sdp_attr_next(&r->d->media[r->index].s, "mid", &at);
	if (a && (twice || !a->value.len || span_copy_str(a->value, r->m->mid, sizeof(r->m->mid)) != OK))
		r->why = "a=mid is wrong";
}

static void read_setup(struct reader *r, bool is_answer)
{
	bool twice;
	const struct sdp_attr *a = effective_setup(r->d, r->index, &twice);
	struct span v = a ? span_trim(a->value) : SPAN_NONE;

	r->m->setup = is_answer ? SDP_PASSIVE : SDP_ACTIVE;
	if (!a)
		return;
	r->m->setup_explicit = true;
	if (twice)
		r->why = "ike-setup twice";
	else if (span_ieq_str(v, "active"))
		r->m->setup = SDP_ACTIVE;
	else if (span_ieq_str(v, "passive"))
		r->m->setup = SDP_PASSIVE;
	else if (span_ieq_str(v, "actpass") && !is_answer)
		r->m->setup = SDP_ACTPASS;
	else
		r->why = "ike-setup is not active, passive or (in an offer) actpass";
}

/* "sha-256 4A:AD:..." (RFC 8122, 5). Hashes that we do not use, md2 and md5 among them, are left out. */
static void read_fingerprint(struct reader *r, struct span value, struct sdp_fingerprint *list, unsigned *n)
{
	struct span name = span_word(&value), hex = span_word(&value);
	struct sdp_fingerprint f = { .len = 0 };
	uint8_t any[128];
	size_t len;

	if (!hex.len || span_trim(value).len || hex_parse(hex, true, any, sizeof(any), &len) != OK || !len) {
		r->why = "a fingerprint is not a hash name and hex bytes with colons";
		return;
	}
	for (f.hash = HASH_SHA1; f.hash < HASH_COUNT; f.hash++)
		if (span_ieq_str(name, hash_name(f.hash)))
			break;
	if (f.hash == HASH_COUNT)
		return;
	if (len != hash_size(f.hash)) {
		r->why = "a fingerprint's length is not its hash's";
		return;
	}
	if (*n == SDP_FINGERPRINTS_MAX) {
		r->why = "too many fingerprints";
		return;
	}
	memcpy(f.value, any, len);
	f.len = len;
	list[(*n)++] = f;
}

static void read_fingerprints(struct reader *r)
{
	struct effective e = effective_of(r->d, r->index, "fingerprint");
	const struct sdp_attr *a;

	while (!r->why && (a = effective_next(&e)))
		read_fingerprint(r, a->value, r->m->fingerprints, &r->m->n_fingerprints);
	e = effective_of(r->d, r->index, "psk-fingerprint");
	while (!r->why && (a = effective_next(&e)))
		read_fingerprint(r, a->value, r->m->psk_fingerprints, &r->m->n_psk_fingerprints);
}

/* RFC 8839, 5.4: ice-char is a letter, a digit, "+" or "/". */
static bool ice_text(struct span v, size_t min, char *dst, size_t cap)
{
	for (size_t i = 0; i < v.len; i++)
		if (!ascii_is_alpha(v.p[i]) && !ascii_is_digit(v.p[i]) && v.p[i] != '+' && v.p[i] != '/')
			return false;
	return v.len >= min && span_copy_str(v, dst, cap) == OK;
}

static void read_ice(struct reader *r)
{
	const struct sdp_section *media = &r->d->media[r->index].s;
	const struct sdp_attr *ufrag, *pwd, *options, *a;
	bool twice_ufrag, twice_pwd, twice_options;
	unsigned at = 0;

	ufrag = effective_one(r->d, r->index, "ice-ufrag", &twice_ufrag);
	pwd = effective_one(r->d, r->index, "ice-pwd", &twice_pwd);
	options = effective_one(r->d, r->index, "ice-options", &twice_options);
	if (twice_ufrag || twice_pwd || twice_options || !ufrag != !pwd)
		r->why = "ICE credentials twice or by halves";
	else if (ufrag && !ice_text(ufrag->value, 4, r->m->ice_ufrag, sizeof(r->m->ice_ufrag)))
		r->why = "ice-ufrag is not 4 to 256 ICE characters";
	else if (pwd && !ice_text(pwd->value, 22, r->m->ice_pwd, sizeof(r->m->ice_pwd)))
		r->why = "ice-pwd is not 22 to 256 ICE characters";
	if (options) {
		struct span left = options->value, word;

		while ((word = span_word(&left)).len)
			r->m->ice2 |= span_eq_str(word, "ice2");
	}
	a = sdp_attr_next(&r->d->session, "ice-pacing", &at);
	r->m->ice_pacing_ms = 50;
	if (a && span_u32(span_trim(a->value), UINT32_MAX, &r->m->ice_pacing_ms) != OK)
		r->why = "ice-pacing is not a number";
	at = 0;
	r->m->ice_lite = sdp_attr_next(&r->d->session, "ice-lite", &at) != NULL;
	at = 0;
	r->m->ice_mismatch = sdp_attr_next(media, "ice-mismatch", &at) != NULL;
	at = 0;
	while (!r->why && (a = sdp_attr_next(media, "candidate", &at))) {
		if (r->m->n_candidates == SDP_CANDIDATES_MAX)
			r->why = "too many candidates";
		else
			r->m->candidates[r->m->n_candidates++] = a->value;
	}
}

/* ---- tieline-* lines ---- */

static bool base64_exactly(struct span v, uint8_t *dst, size_t want)
{
	size_t len;

	return base64_parse(v, dst, want, &len) == OK && len == want;
}

/* An AOR must be written in its normal form: two spellings would be two names under one signature check. */
static bool aor_exactly(struct span v, char dst[SDP_AOR_MAX])
{
	return sdp_aor_normal(v, dst, SDP_AOR_MAX) == OK && span_eq_str(v, dst);
}

static void read_tieline_line(struct reader *r, struct span name, struct span v)
{
	struct sdp_ike *m = r->m;
	bool good = true;

	if (span_eq_str(name, "tieline-bind"))
		good = m->has_bind = base64_exactly(v, m->bind, sizeof(m->bind));
	else if (span_eq_str(name, "tieline-key"))
		good = m->has_key = base64_parse(v, m->spki, sizeof(m->spki), &m->spki_len) == OK && m->spki_len;
	else if (span_eq_str(name, "tieline-aor"))
		good = m->has_aor = aor_exactly(v, m->aor);
	else if (span_eq_str(name, "tieline-to"))
		good = m->has_to = aor_exactly(v, m->to);
	else if (span_eq_str(name, "tieline-sig"))
		good = m->has_sig = base64_exactly(v, m->sig, sizeof(m->sig));
	else if (span_eq_str(name, "tieline-pake"))
		m->pake = v;
	else if (span_eq_str(name, "tieline-sas"))
		m->sas = v;
	else if (span_eq_str(name, "tieline-prev"))
		m->prev = v;
	else if (span_eq_str(name, "tieline-date")) {
		uint64_t date;

		good = m->has_date = span_u64(v, INT64_MAX, &date) == OK;
		if (good)
			m->date_s = (int64_t)date;
	}
	if (!good)
		r->why = "a tieline- line's value is wrong";
}

static void read_tieline(struct reader *r)
{
	const struct sdp_section *s = &r->d->media[r->index].s;

	for (unsigned i = 0; i < r->d->session.n_attrs; i++)
		if (span_istarts(r->d->session.attrs[i].name, "tieline-"))
			r->why = "a tieline- line at session level";
	for (unsigned i = 0; !r->why && i < s->n_attrs; i++) {
		unsigned at = i + 1;
		char name[64];

		if (!span_istarts(s->attrs[i].name, "tieline-"))
			continue;
		r->m->is_tieline = true;
		for (size_t k = 0; k < s->attrs[i].name.len; k++)
			if (ascii_lower(s->attrs[i].name.p[k]) != s->attrs[i].name.p[k])
				r->why = "a tieline- line in upper case";
		if (span_copy_str(s->attrs[i].name, name, sizeof(name)) != OK)
			r->why = "a tieline- line with an overlong name";
		else if (sdp_attr_next(s, name, &at))
			r->why = "a tieline- line twice";
		if (!r->why)
			read_tieline_line(r, s->attrs[i].name, span_trim(s->attrs[i].value));
	}
	/* A tieline description has exactly one certificate: one line a hash. */
	for (unsigned i = 0; r->m->is_tieline && i < r->m->n_fingerprints; i++)
		for (unsigned k = 0; k < i; k++)
			if (r->m->fingerprints[i].hash == r->m->fingerprints[k].hash)
				r->why = "two fingerprints of one hash";
}

enum err sdp_ike_read(const struct sdp *d, unsigned index, bool is_answer, struct sdp_ike *ret, const char **ret_why)
{
	struct reader r = { .d = d, .index = index, .m = ret };

	memset(ret, 0, sizeof(*ret));
	if (index >= d->n_media)
		r.why = "no IKE media section";
	if (!r.why)
		read_media_line(&r);
	if (!r.why)
		read_mid(&r);
	if (!r.why)
		read_setup(&r, is_answer);
	if (!r.why)
		read_fingerprints(&r);
	if (!r.why)
		read_ice(&r);
	if (!r.why)
		read_tieline(&r);
	if (!r.why)
		return OK;
	*ret_why = r.why;
	memset(ret, 0, sizeof(*ret));
	return ERR_MALFORMED;
}

enum err sdp_setup_answer(enum sdp_setup offered, enum sdp_setup preferred, enum sdp_setup *ret)
{
	/* RFC 4145, 4.1 */
	if (offered == SDP_ACTPASS && preferred == SDP_ACTPASS)
		return ERR_DENIED; /* an answer says active or passive */
	*ret = offered == SDP_ACTIVE ? SDP_PASSIVE : offered == SDP_PASSIVE ? SDP_ACTIVE : preferred;
	return OK;
}
