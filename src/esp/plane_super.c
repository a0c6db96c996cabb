/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_super.c - what a TUN with offloads hands over: policy looks at it once, and each segment is made where it is
 * sealed. */
#include "esp/plane_impl.h"

#include "esp/cut.h"
#include "esp/segment.h"

/* May it leave as it is, segment by segment? What takes a second look goes the way of single packets. */
static bool plain(const struct esp_sa *sa, const struct esp_inner *pkt, const struct esp_super *s)
{
	return s->len <= sa->inner_max && pkt->fragment == ESP_WHOLE && !(pkt->tcp_flags & ESP_TCP_SYN);
}

static enum esp_drop seal_segment(struct esp_plane *p, struct esp_sa *sa, const struct esp_inner *pkt,
				  const struct esp_super *s, unsigned i, unsigned slot, struct esp_packet *ret)
{
	size_t frame = plane_frame_size(sa), head = frame + esp_packet_head_size(&sa->out), len, total;
	uint8_t *buf = p->out[slot];

	len = esp_super_segment(s, i, buf + head, ESP_PACKET_MAX - head);
	if (!len)
		return ESP_DROP_TOO_BIG;
	if (plane_used_up(sa))
		return ESP_DROP_EXHAUSTED;
	sa->seq++;
	if (esp_packet_seal_placed(&sa->out, sa->spi_out, sa->seq, sa->seq,
				   pkt->ends.family == ADDR_IP4 ? ESP_NEXT_IP4 : ESP_NEXT_IP6, len, buf + frame,
				   ESP_PACKET_MAX - frame, &total) != OK)
		return ESP_DROP_AUTH;
	*ret = plane_datagram(sa, pkt, buf, total);
	plane_life_note(p, sa, len);
	return PASSED;
}

/* Each segment by itself, as if the TUN had no offloads. */
static unsigned one_by_one(struct esp_plane *p, uint64_t now_us, struct esp_super_work *w, unsigned n_out,
			   struct esp_packet out[ESP_BATCH_OUT])
{
	for (; w->at < w->super->n && n_out + ESP_PIECES_MAX <= ESP_BATCH_OUT; w->at++) {
		struct esp_packet in = { .p = p->segment };

		in.len = esp_super_segment(w->super, w->at, p->segment, sizeof(p->segment));
		if (in.len)
			n_out += plane_output_at(p, now_us, &in, n_out, &out[n_out]);
		else
			plane_drop(p, NULL, ESP_DROP_TOO_BIG);
	}
	return n_out;
}

/* Policy, for all of it. False: dropped and counted, or left to one_by_one(). */
static bool begin(struct esp_plane *p, uint64_t now_us, struct esp_super_work *w)
{
	struct esp_flow *fl;
	struct esp_sa *sa = NULL;
	enum esp_drop d = ESP_DROP_FORMAT;

	w->begun = true;
	if (esp_inner_parse(w->super->packet, &w->pkt) == OK)
		d = plane_outbound_sa(p, now_us, &w->pkt, &sa, &fl);
	if (d == PASSED && !plain(sa, &w->pkt, w->super)) {
		w->single = true;
		return false;
	}
	if (d == PASSED)
		d = plane_admit(p, now_us, sa, fl, &w->pkt);
	if (d != PASSED) {
		w->lost = w->elsewhere && !sa && d == ESP_DROP_NO_SA;
		if (!w->lost)
			plane_drop(p, sa, d);
		w->at = w->super->n;
		return false;
	}
	w->sa = sa;
	return true;
}

unsigned esp_plane_super(struct esp_plane *p, uint64_t now_us, struct esp_super_work *w, unsigned n_out,
			 struct esp_packet out[ESP_BATCH_OUT])
{
	const unsigned before = n_out;
	size_t bytes = 0;

	if (!w->begun && !begin(p, now_us, w) && !w->single)
		return n_out;
	if (w->single)
		return one_by_one(p, now_us, w, n_out, out);
	for (; w->at < w->super->n && n_out < ESP_BATCH_OUT; w->at++) {
		enum esp_drop d = seal_segment(p, w->sa, &w->pkt, w->super, w->at, n_out, &out[n_out]);

		if (d != PASSED) {
			plane_drop(p, w->sa, d);
			continue;
		}
		bytes += w->at + 1 < w->super->n ? w->super->len : w->super->len_last;
		n_out++;
	}
	if (n_out > before)
		plane_count_out(p, w->sa->call, n_out - before, bytes, now_us);
	return n_out;
}
