/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/plane.h"

#include <assert.h>
#include <string.h>

#include "esp/cut.h"
#include "esp/plane_impl.h"

/* ---- what passes, in both directions ---- */

/* The packet belongs to a flow, or is the first of one that this side may open. */
static enum esp_drop flow_check(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt,
				const struct esp_tuple *t, struct esp_flow *fl, bool inbound)
{
	bool opens = plane_may_open(sa, inbound) && esp_flow_opens(pkt);
	uint32_t owner = plane_owner_of(p, sa->call);
	struct esp_tuple own;

	if (fl && fl->owner != owner)
		return ESP_DROP_DIRECTION;
	if (fl && opens && esp_flow_begins_anew(fl, pkt)) {
		own = *t; /* it may be the flow's, which goes */
		t = &own;
		esp_flow_remove(p->flows, fl);
		fl = NULL;
	}
	if (fl) {
		if (!esp_flow_admits(fl, pkt, inbound, plane_may_open(sa, inbound)))
			return ESP_DROP_DIRECTION;
		esp_flow_note(p->flows, now_us, fl, pkt, inbound);
		return PASSED;
	}
	if (!opens)
		return ESP_DROP_DIRECTION;
	if (!esp_flow_make_room(p->flows, owner))
		return ESP_DROP_FLOWS_FULL;
	fl = esp_flow_open(p->flows, now_us, t, inbound, owner, sa->grant, sa);
	if (!plane_sends(sa)) { /* by a replaced one: answers leave by its successor */
		struct esp_sa *heir = plane_heir_of(p, sa, fl);

		fl->sa = heir ? heir : sa;
	}
	return PASSED;
}

/* Ends of an echo as selectors see them: request and reply alike are covered by the request's type
 * (RFC 4301, 4.4.1.1: type << 8 | code). */
static struct esp_tuple echo_tuple(const struct esp_ends *ends, bool inbound)
{
	struct esp_tuple t = esp_tuple_of(ends, inbound);

	t.local_port = t.peer_port = ends->family == ADDR_IP4 ? 8 << 8 : 128 << 8;
	return t;
}

/* The flow that an ICMP error is about. The packet inside went the other way, and the error goes to its sender. */
static struct esp_flow *error_flow(struct esp_plane *p, uint64_t now_us, const struct esp_inner *pkt, bool inbound)
{
	struct esp_tuple about = esp_tuple_of(&pkt->about, !inbound);

	if (memcmp(pkt->about.src, pkt->ends.dst, sizeof(pkt->ends.dst)))
		return NULL;
	return esp_flow_find(p->flows, now_us, &about);
}

/* May this echo pass in this direction? */
static bool echo_may(const struct esp_sa *sa, const struct esp_inner *pkt, bool inbound)
{
	bool request = pkt->icmp_type == (pkt->ends.family == ADDR_IP4 ? 8 : 128);

	return sa->allow_ping && (!sa->ping_one_way || plane_may_open(sa, request ? inbound : !inbound));
}

/* ---- outer in, inner out ---- */

static enum esp_drop inbound_check(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt)
{
	struct esp_flow *fl = sa->came_by;
	struct esp_tuple t;

	if (pkt->icmp == ESP_ICMP_NONE && fl && fl->sa == sa && esp_flow_again(fl, now_us, &pkt->ends, true))
		return flow_check(p, now_us, sa, pkt, &fl->tuple, fl, true);
	t = esp_tuple_of(&pkt->ends, true);
	switch (pkt->icmp) {
	case ESP_ICMP_ECHO:
		t = echo_tuple(&pkt->ends, true);
		if (!sa->allow_ping || !esp_sa_covers(sa, &t))
			return ESP_DROP_SELECTOR;
		if (!echo_may(sa, pkt, true))
			return ESP_DROP_DIRECTION;
		return esp_rate_pass(&sa->ping_in, now_us) ? PASSED : ESP_DROP_PING_RATE;
	case ESP_ICMP_ERROR:
		fl = error_flow(p, now_us, pkt, true);
		if (!fl || fl->owner != plane_owner_of(p, sa->call) || !esp_sa_covers_hosts(sa, &t))
			return ESP_DROP_SELECTOR;
		return PASSED;
	case ESP_ICMP_OTHER: return ESP_DROP_SELECTOR;
	case ESP_ICMP_NONE: break;
	}
	/* RFC 4301, 5.2: also what is authentic must lie inside the selectors; the peer's IKE may be hostile. (Of a flow that is sent by
	 * this SA it was seen before, and selectors do not change.) */
	if (!esp_sa_covers(sa, &t))
		return ESP_DROP_SELECTOR;
	fl = sa->came_by = esp_flow_find(p->flows, now_us, &t);
	return flow_check(p, now_us, sa, pkt, &t, fl, true);
}

/* RFC 6040, 4.2, default tunnel egress, where the outer header says anything. False: the packet must be dropped. */
static bool ecn_merge(struct esp_plane *p, uint64_t now_us, struct esp_call *call, uint8_t *packet, uint8_t inner,
		      uint8_t outer)
{
	enum { NOT_ECT, ECT_1, ECT_0, CE };
	uint32_t left_out;

	/* what the figure calls dangerous, perhaps dangerous: no ingress makes it */
	if (inner == NOT_ECT || (inner == ECT_1 && outer == ECT_0) || (inner == CE && outer == ECT_1)) {
		p->counters.ecn_odd++;
		call->counters.ecn_odd++;
		if (log_limit_pass(&p->ecn_limit, now_us, &left_out))
			log_warn(&p->log, "ECN: a packet of call %u has %u inside and %u outside (%u like it before)",
				 call->call, inner, outer, left_out);
	}
	if (outer == CE && inner == NOT_ECT)
		return false;
	if ((outer == CE && inner != CE) || (outer == ECT_1 && inner == ECT_0))
		esp_inner_set_ecn(packet, outer);
	return true;
}

/* The part before anything is known to be from the peer: as little as possible happens to a stranger's packet. */
static enum esp_drop unseal(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, struct esp_sa **ret_sa,
			    uint8_t *ret_next, struct span *ret_inner)
{
	struct span packet = span_of(in->p, in->len);
	struct esp_head head;
	struct esp_sa *sa;
	uint64_t seq;
	enum err e;

	if (esp_packet_head(packet, &head) != OK)
		return ESP_DROP_SHORT;
	*ret_sa = sa = esp_sadb_find(&p->sadb, head.spi);
	if (!sa)
		return ESP_DROP_UNKNOWN_SPI;
	if (in->path && in->path->channel && !esp_sa_relayed(sa, in->path))
		return ESP_DROP_CHANNEL;
	if (packet.len > ESP_PACKET_MAX)
		return ESP_DROP_TOO_BIG;
	seq = sa->in.esn ? esp_replay_extend(&sa->replay, head.seq) : head.seq;
	if (!esp_replay_check(&sa->replay, seq))
		return ESP_DROP_REPLAY;
	e = esp_packet_open(&sa->in, seq, packet, in->p + esp_packet_head_size(&sa->in), ret_next, ret_inner);
	if (e != OK && e != ERR_MALFORMED)
		return ESP_DROP_AUTH;
	esp_replay_mark(&sa->replay, seq);
	sa->packets_in++;
	if (sa->standby && sa->end_us == TIME_NEVER)
		plane_activate(p, sa);
	p->counters.last_in_us = sa->call->counters.last_in_us = now_us;
	return e == OK ? PASSED : ESP_DROP_FORMAT;
}

static enum esp_drop input_one(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in,
			       struct esp_sa **ret_sa, struct esp_packet *ret)
{
	struct esp_inner pkt;
	struct esp_sa *sa;
	struct span inner;
	uint8_t next, *buf;
	enum esp_drop d = unseal(p, now_us, in, ret_sa, &next, &inner);

	if (d != PASSED)
		return d;
	if (next == ESP_NEXT_DUMMY)
		return ESP_DROP_DUMMY;
	if (next != ESP_NEXT_IP4 && next != ESP_NEXT_IP6)
		return ESP_DROP_FORMAT;
	if (esp_inner_parse(inner, &pkt) != OK || (pkt.ends.family == ADDR_IP4) != (next == ESP_NEXT_IP4))
		return ESP_DROP_FORMAT;
	sa = *ret_sa;
	buf = in->p + esp_packet_head_size(&sa->in);
	d = pkt.fragment == ESP_LATER ? plane_later(p, now_us, sa, &pkt) : inbound_check(p, now_us, sa, &pkt);
	if (pkt.fragment == ESP_FIRST)
		plane_first_note(p, now_us, sa, &pkt, true, d);
	if (d != PASSED && d != HELD)
		return d;
	if ((in->tos & 3) && !ecn_merge(p, now_us, sa->call, buf, pkt.ecn, in->tos & 3))
		return ESP_DROP_ECN;
	if (pkt.tcp_flags & ESP_TCP_SYN)
		esp_mss_clamp(buf, &pkt, sa->inner_max);
	if (d == HELD)
		return plane_hold(p, now_us, sa, &pkt, buf);
	if (pkt.icmp == ESP_ICMP_ECHO && plane_echo_note(p, sa, &pkt, buf)) {
		plane_count_in(p, sa->call, pkt.len);
		return HELD;
	}
	*ret = (struct esp_packet){ .p = buf, .len = pkt.len, .path = in->path, .call = sa->call->call };
	return PASSED;
}

/* ---- inner in, outer out ---- */

/* The newest SA for a packet that belongs to no flow: an echo, or one that opens a flow, by an SA that lets us. If there is none,
 * *ret is the one in whose call the drop is counted: one that covers the packet, else one of the two hosts. */
static enum esp_drop choose(const struct esp_plane *p, const struct esp_tuple *t, const struct esp_inner *pkt,
			    struct esp_sa **ret)
{
	struct esp_candidates c = esp_index_ends(p->sadb.index, t);
	bool opening = pkt->icmp != ESP_ICMP_ECHO;
	struct esp_sa *sa;

	*ret = NULL;
	while ((sa = esp_candidates_next(&c)) != NULL) {
		if (!plane_sends(sa) || !esp_sa_covers(sa, t))
			continue;
		if (opening ? plane_may_open(sa, false) : echo_may(sa, pkt, false)) {
			*ret = sa;
			return PASSED;
		}
		if (!*ret)
			*ret = sa;
	}
	if (*ret)
		return opening ? ESP_DROP_DIRECTION : ESP_DROP_NO_SA;
	c = esp_index_hosts(p->sadb.index, t);
	while ((sa = esp_candidates_next(&c)) != NULL && !(plane_sends(sa) && esp_sa_covers_hosts(sa, t)))
		;
	*ret = sa;
	return ESP_DROP_NO_SA;
}

/* By the SA of its first fragment. */
static enum esp_drop outbound_later(struct esp_plane *p, uint64_t now_us, const struct esp_inner *pkt,
				    struct esp_sa **ret_sa)
{
	struct esp_frag_owner o;

	if (!esp_frags_find(p->frags, now_us, false, pkt, &o))
		return ESP_DROP_FRAGMENT;
	*ret_sa = esp_sadb_find(&p->sadb, o.spi);
	return *ret_sa && plane_owner_of(p, (*ret_sa)->call) == o.owner ? PASSED : ESP_DROP_FRAGMENT;
}

enum esp_drop plane_outbound_sa(struct esp_plane *p, uint64_t now_us, const struct esp_inner *pkt,
				struct esp_sa **ret_sa, struct esp_flow **ret_flow)
{
	struct esp_tuple t;

	*ret_sa = NULL;
	*ret_flow = NULL;
	if (pkt->fragment == ESP_LATER)
		return outbound_later(p, now_us, pkt, ret_sa);
	if (pkt->icmp == ESP_ICMP_NONE && esp_flow_again(p->went_by, now_us, &pkt->ends, false)) {
		*ret_flow = p->went_by;
		*ret_sa = p->went_by->sa;
		return PASSED;
	}
	t = esp_tuple_of(&pkt->ends, false);
	switch (pkt->icmp) {
	case ESP_ICMP_ECHO: t = echo_tuple(&pkt->ends, false); return choose(p, &t, pkt, ret_sa);
	case ESP_ICMP_ERROR:
		*ret_flow = error_flow(p, now_us, pkt, false);
		*ret_sa = *ret_flow ? (*ret_flow)->sa : NULL;
		return *ret_sa && esp_sa_covers_hosts(*ret_sa, &t) ? PASSED : ESP_DROP_NO_SA;
	case ESP_ICMP_OTHER: return ESP_DROP_NO_SA;
	case ESP_ICMP_NONE: break;
	}
	*ret_flow = p->went_by = esp_flow_find(p->flows, now_us, &t);
	if (*ret_flow) {
		*ret_sa = (*ret_flow)->sa;
		return PASSED;
	}
	return choose(p, &t, pkt, ret_sa);
}

static enum esp_drop outbound_check(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, struct esp_flow *fl,
				    const struct esp_inner *pkt)
{
	struct esp_tuple t;

	if (pkt->fragment == ESP_LATER)
		return esp_frags_later(p->frags, false, pkt) ? PASSED : ESP_DROP_OVERLAP;
	if (pkt->icmp == ESP_ICMP_ECHO)
		return esp_rate_pass(&sa->ping_out, now_us) ? PASSED : ESP_DROP_PING_RATE;
	if (pkt->icmp != ESP_ICMP_NONE)
		return PASSED;
	if (!fl)
		t = esp_tuple_of(&pkt->ends, false);
	return flow_check(p, now_us, sa, pkt, fl ? &fl->tuple : &t, fl, false);
}

enum esp_drop plane_seal(struct esp_plane *p, struct esp_sa *sa, const struct esp_inner *pkt, struct span packet,
			 unsigned at, struct esp_packet *ret)
{
	uint8_t next = pkt->ends.family == ADDR_IP4 ? ESP_NEXT_IP4 : ESP_NEXT_IP6, *buf = p->out[at];
	size_t frame = plane_frame_size(sa), len;

	sa->seq++;
	if (esp_packet_seal(&sa->out, sa->spi_out, sa->seq, sa->seq, next, packet, buf + frame, ESP_PACKET_MAX - frame,
			    &len) != OK)
		return ESP_DROP_AUTH;
	*ret = plane_datagram(sa, pkt, buf, len);
	return PASSED;
}

static enum esp_drop seal_pieces(struct esp_plane *p, struct esp_sa *sa, const struct esp_inner *pkt,
				 const uint8_t *packet, unsigned at, struct esp_packet *ret, unsigned *ret_n)
{
	struct esp_cut c;
	size_t len;

	if (sa->seq_max - sa->seq < ESP_PIECES_MAX)
		return ESP_DROP_EXHAUSTED;
	if (esp_cut_begin(&c, packet, pkt, sa->inner_max, rng_u32(&p->sadb.rng)) != OK)
		return ESP_DROP_TOO_BIG;
	for (unsigned n = 0; esp_cut_next(&c, p->piece, &len); n++) {
		enum esp_drop d = plane_seal(p, sa, pkt, span_of(p->piece, len), at + n, &ret[n]);

		if (d != PASSED)
			return d;
		*ret_n = n + 1;
	}
	return PASSED;
}

/* Nowhere to send it, for now or yet. */
static bool is_held(const struct esp_sa *sa)
{
	return sa->call->held || sa->path.remote.family == ADDR_NONE;
}

enum esp_drop plane_admit(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, struct esp_flow *fl,
			  const struct esp_inner *pkt)
{
	enum esp_drop d;

	if (is_held(sa))
		return ESP_DROP_HELD;
	/* RFC 4303, 3.3.3: a number is never used twice under one key. */
	if (plane_used_up(sa))
		return ESP_DROP_EXHAUSTED;
	d = outbound_check(p, now_us, sa, fl, pkt);
	if (pkt->fragment == ESP_FIRST)
		plane_first_note(p, now_us, sa, pkt, false, d);
	return d;
}

/* ret: places for ESP_PIECES_MAX datagrams, whose memory is p->out from `at` on. */
static enum esp_drop output_one(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, unsigned at,
				struct esp_sa **ret_sa, struct esp_packet *ret, unsigned *ret_n, size_t *ret_inner)
{
	struct esp_inner pkt;
	struct esp_flow *fl;
	struct esp_sa *sa;
	enum esp_drop d;
	bool big;

	if (esp_inner_parse(span_of(in->p, in->len), &pkt) != OK)
		return ESP_DROP_FORMAT;
	d = plane_outbound_sa(p, now_us, &pkt, ret_sa, &fl);
	if (d != PASSED)
		return d;
	sa = *ret_sa;
	if (is_held(sa))
		return ESP_DROP_HELD;
	big = pkt.len > sa->inner_max;
	d = big ? plane_too_big(p, now_us, sa, in, &pkt) : PASSED;
	if (d == PASSED)
		d = plane_admit(p, now_us, sa, fl, &pkt);
	if (d != PASSED)
		return d;
	if (pkt.tcp_flags & ESP_TCP_SYN)
		esp_mss_clamp(in->p, &pkt, sa->inner_max);
	*ret_inner = pkt.len;
	*ret_n = 1;
	return big ? seal_pieces(p, sa, &pkt, in->p, at, ret, ret_n)
		   : plane_seal(p, sa, &pkt, span_of(in->p, pkt.len), at, ret);
}

/* ---- batches ---- */

unsigned esp_plane_input(struct esp_plane *p, uint64_t now_us, struct esp_packet *in, unsigned n,
			 struct esp_packet out[ESP_BATCH])
{
	unsigned n_out = 0;

	assert(n <= ESP_BATCH);
	for (unsigned i = 0; i < n; i++) {
		struct esp_sa *sa = NULL;
		enum esp_drop d = input_one(p, now_us, &in[i], &sa, &out[n_out]);

		if (d == HELD)
			continue;
		if (d != PASSED) {
			plane_drop(p, sa, d);
			continue;
		}
		assert(sa);
		plane_count_in(p, sa->call, out[n_out].len);
		plane_life_note(p, sa, out[n_out].len);
		n_out++;
	}
	return n_out;
}

unsigned plane_output_at(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, unsigned at,
			 struct esp_packet *ret)
{
	struct esp_sa *sa = NULL;
	unsigned n = 0;
	size_t inner = 0;
	enum esp_drop d = output_one(p, now_us, in, at, &sa, ret, &n, &inner);

	if (d != PASSED) {
		plane_drop(p, sa, d);
		return 0;
	}
	plane_count_out(p, sa->call, 1, inner, now_us);
	plane_life_note(p, sa, inner);
	return n;
}

unsigned esp_plane_output(struct esp_plane *p, uint64_t now_us, struct esp_packet *in, unsigned n,
			  struct esp_packet out[ESP_BATCH_OUT])
{
	unsigned n_out = 0;

	_Static_assert(ESP_BATCH_OUT >= ESP_BATCH * ESP_PIECES_MAX, "each packet of a batch may be cut");
	assert(n <= ESP_BATCH);
	for (unsigned i = 0; i < n; i++)
		n_out += plane_output_at(p, now_us, &in[i], n_out, &out[n_out]);
	return n_out;
}
