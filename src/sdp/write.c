/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/text.h"
#include "sdp/ike.h"

static const char *setup_name(enum sdp_setup s)
{
	return s == SDP_ACTIVE ? "active" : s == SDP_PASSIVE ? "passive" : "actpass";
}

static void write_address(struct wr *w, const struct addr *a)
{
	char text[ADDR_TEXT];

	wr_fmt(w, "IN IP%c %s", a->family == ADDR_IP6 ? '6' : '4', addr_write_ip(a, text));
}

static void write_session(struct wr *w, const struct sdp_origin *o, const struct sdp_ike *m)
{
	wr_fmt(w, "v=0\r\no=- %llu %llu ", (unsigned long long)o->id, (unsigned long long)o->version);
	write_address(w, &o->addr);
	wr_str(w, "\r\ns=-\r\nt=0 0\r\n");
	if (m->ice_pacing_ms && m->ice_ufrag[0])
		wr_fmt(w, "a=ice-pacing:%u\r\n", m->ice_pacing_ms);
}

static void write_fingerprints(struct wr *w, const char *name, const struct sdp_fingerprint *list, unsigned n)
{
	char text[3 * HASH_MAX];

	for (unsigned i = 0; i < n; i++)
		wr_fmt(w, "a=%s:%s %s\r\n", name, hash_name(list[i].hash),
		       hex_colon_write(span_of(list[i].value, list[i].len), text, sizeof(text)));
}

static void write_base64(struct wr *w, const char *name, const uint8_t *bytes, size_t len)
{
	wr_fmt(w, "a=%s:", name);
	wr_base64(w, span_of(bytes, len));
	wr_str(w, "\r\n");
}

static void write_span(struct wr *w, const char *name, struct span v)
{
	wr_fmt(w, "a=%s:", name);
	wr_span(w, v);
	wr_str(w, "\r\n");
}

static void write_tieline(struct wr *w, const struct sdp_ike *m)
{
	if (m->has_bind)
		write_base64(w, "tieline-bind", m->bind, sizeof(m->bind));
	if (m->has_key)
		write_base64(w, "tieline-key", m->spki, m->spki_len);
	if (m->has_aor)
		wr_fmt(w, "a=tieline-aor:%s\r\n", m->aor);
	if (m->has_to)
		wr_fmt(w, "a=tieline-to:%s\r\n", m->to);
	if (m->has_date)
		wr_fmt(w, "a=tieline-date:%lld\r\n", (long long)m->date_s);
	if (m->pake.p)
		write_span(w, "tieline-pake", m->pake);
	if (m->sas.p)
		write_span(w, "tieline-sas", m->sas);
	if (m->prev.p)
		write_span(w, "tieline-prev", m->prev);
	if (m->has_sig)
		write_base64(w, "tieline-sig", m->sig, sizeof(m->sig));
}

static void write_media(struct wr *w, const struct sdp_ike *m)
{
	wr_fmt(w, "m=application %u udp %s\r\nc=", m->addr.port,
	       m->fmt == SDP_IKE_ESP ? "ike-esp" : "ike-esp-udpencap");
	write_address(w, &m->addr);
	wr_str(w, "\r\n");
	if (m->mid[0])
		wr_fmt(w, "a=mid:%s\r\n", m->mid);
	if (m->setup_explicit)
		wr_fmt(w, "a=ike-setup:%s\r\n", setup_name(m->setup));
	write_fingerprints(w, "fingerprint", m->fingerprints, m->n_fingerprints);
	write_fingerprints(w, "psk-fingerprint", m->psk_fingerprints, m->n_psk_fingerprints);
	if (m->ice2)
		wr_str(w, "a=ice-options:ice2\r\n");
	if (m->ice_ufrag[0])
		wr_fmt(w, "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\n", m->ice_ufrag, m->ice_pwd);
	for (unsigned i = 0; i < m->n_candidates; i++)
		write_span(w, "candidate", m->candidates[i]);
	write_tieline(w, m);
}

void sdp_ike_write_offer(struct wr *w, const struct sdp_origin *o, const struct sdp_ike *m)
{
	write_session(w, o, m);
	write_media(w, m);
}

/* A refused section keeps its place, with port 0 and its formats (RFC 3264, 6); c= because each section must have one
 * (RFC 8866, 5.7). */
static void write_refused(struct wr *w, const struct sdp_origin *o, const struct sdp_media *m)
{
	wr_str(w, "m=");
	wr_span(w, m->type);
	wr_str(w, " 0 ");
	wr_span(w, m->proto);
	for (unsigned i = 0; i < m->n_formats; i++) {
		wr_u8(w, ' ');
		wr_span(w, m->formats[i]);
	}
	wr_str(w, "\r\nc=");
	write_address(w, &o->addr);
	wr_str(w, "\r\n");
}

void sdp_ike_write_answer(struct wr *w, const struct sdp_origin *o, const struct sdp *offer, unsigned index,
			  const struct sdp_ike *m)
{
	write_session(w, o, m);
	for (unsigned i = 0; i < offer->n_media; i++)
		if (i == index)
			write_media(w, m);
		else
			write_refused(w, o, &offer->media[i]);
}
