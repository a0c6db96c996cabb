/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/plane.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "esp/sadb.h"

/* What a packet's way ends with when it was not dropped. */
#define PASSED ESP_N_DROPS

struct esp_plane {
	struct log log;
	struct esp_sadb sadb;
	struct esp_flows *flows;
	struct esp_counters counters;
	unsigned n_due; /* SAs with something to tell */
	uint8_t in[ESP_BATCH][ESP_PACKET_MAX], out[ESP_BATCH][ESP_PACKET_MAX];
};

const char *esp_drop_name(enum esp_drop d)
{
	static const char *const name[ESP_N_DROPS] = {
		[ESP_DROP_SHORT] = "short",
		[ESP_DROP_UNKNOWN_SPI] = "unknown-spi",
		[ESP_DROP_REPLAY] = "replay",
		[ESP_DROP_AUTH] = "auth",
		[ESP_DROP_FORMAT] = "format",
		[ESP_DROP_SELECTOR] = "selector",
		[ESP_DROP_DIRECTION] = "direction",
		[ESP_DROP_NO_SA] = "no-sa",
		[ESP_DROP_HELD] = "held",
		[ESP_DROP_EXHAUSTED] = "exhausted",
		[ESP_DROP_FLOWS_FULL] = "flows-full",
		[ESP_DROP_PING_RATE] = "ping-rate",
		[ESP_DROP_TOO_BIG] = "too-big",
		[ESP_DROP_DUMMY] = "dummy",
	};

	return (unsigned)d < ESP_N_DROPS ? name[d] : "unknown";
}

enum err esp_plane_new(const struct esp_plane_config *cfg, struct esp_plane **ret)
{
	struct esp_plane *p = calloc(1, sizeof(*p));
	enum err e;

	if (!p)
		return ERR_NOMEM;
	p->log = cfg->log;
	e = esp_sadb_init(&p->sadb, cfg->max_sas, cfg->rng);
	if (e == OK)
		e = esp_flows_new(cfg->rng, cfg->max_flows, cfg->max_sas, &p->flows);
	if (e != OK) {
		esp_plane_free(p);
		return e;
	}
	*ret = p;
	return OK;
}

void esp_plane_free(struct esp_plane *p)
{
	if (!p)
		return;
	esp_sadb_done(&p->sadb);
	esp_flows_free(p->flows);
	free(p);
}

static uint32_t owner_of(const struct esp_plane *p, const struct esp_call *call)
{
	return (uint32_t)(call - p->sadb.call);
}

static bool may_open(const struct esp_sa *sa, bool inbound)
{
	return sa->open & (inbound ? ESP_OPEN_IN : ESP_OPEN_OUT);
}

/* ---- SAs come and go ---- */

/* Would sa have let this flow begin? Then it may carry it on. */
static bool carries(const struct esp_plane *p, const struct esp_sa *sa, const struct esp_flow *fl)
{
	return owner_of(p, sa->call) == fl->owner && sa->grant == fl->grant && may_open(sa, fl->opened_inbound) &&
	       esp_sa_covers(sa, &fl->tuple);
}

/* Does it send what belongs to no flow yet? */
static bool sends(const struct esp_sa *sa)
{
	return !sa->standby && !sa->superseded && sa->end_us == TIME_NEVER;
}

/* The peer has its keys: it sends what its grant's flows bring (RFC 7296, 2.8). */
static void activate(struct esp_plane *p, struct esp_sa *sa)
{
	struct esp_sa *old = sa->replaces ? esp_sadb_find(&p->sadb, sa->replaces) : NULL;
	struct esp_flow *fl;
	uint32_t at = 0;

	sa->standby = sa->superseded = false;
	if (old && old != sa && old->call == sa->call && old->grant == sa->grant)
		old->superseded = true;
	while ((fl = esp_flow_next(p->flows, &at)) != NULL)
		if (carries(p, sa, fl))
			fl->sa = sa;
}

/* Of the others of its grant one must send: the newest that waits, or at last one that was superseded. */
static void successor_wake(struct esp_plane *p, const struct esp_sa *gone)
{
	struct esp_sa *waits = NULL, *last = NULL;

	for (struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older) {
		if (sa == gone || sa->call != gone->call || sa->grant != gone->grant || sa->end_us != TIME_NEVER)
			continue;
		if (sends(sa))
			return;
		if (sa->standby && !waits)
			waits = sa;
		if (sa->superseded && !last)
			last = sa;
	}
	if (waits || last)
		activate(p, waits ? waits : last);
}

/* Of the others, the newest that sends and may carry this flow on. */
static struct esp_sa *heir_of(const struct esp_plane *p, const struct esp_sa *gone, const struct esp_flow *fl)
{
	struct esp_sa *sa = p->sadb.newest;

	while (sa && (sa == gone || !sends(sa) || !carries(p, sa, fl)))
		sa = sa->older;
	return sa;
}

/* A new SA of the same grant replaces an older one (RFC 7296, 2.8): the flows go on, through the new one. */
enum err esp_sa_add(struct esp_plane *p, uint64_t now_us, const struct esp_sa_config *cfg)
{
	struct esp_sa *sa;
	enum err e;

	esp_flows_tick(p->flows, now_us);
	e = esp_sadb_add(&p->sadb, cfg, &sa);
	if (e != OK)
		return e;
	if (!sa->standby)
		activate(p, sa);
	log_info(&p->log, "SA up in=%08x out=%08x call=%u grant=%u %s", sa->spi_in, sa->spi_out, sa->call->call,
		 sa->grant, cipher_name(cfg->alg));
	return OK;
}

/* Flows through it go as well, unless another SA of the same grant carries them: after a rekeying. */
static void flows_pass_on(struct esp_plane *p, const struct esp_sa *gone)
{
	struct esp_flow *fl;
	uint32_t at = 0;

	successor_wake(p, gone);
	while ((fl = esp_flow_next(p->flows, &at)) != NULL) {
		struct esp_sa *heir;

		if (fl->sa != gone)
			continue;
		heir = heir_of(p, gone, fl);
		if (heir)
			fl->sa = heir;
		else
			esp_flow_remove(p->flows, fl);
	}
}

static void sa_remove(struct esp_plane *p, struct esp_sa *gone)
{
	flows_pass_on(p, gone);
	p->n_due -= gone->due_soft || gone->due_hard;
	log_info(&p->log, "SA down in=%08x out=%08x call=%u grant=%u", gone->spi_in, gone->spi_out, gone->call->call,
		 gone->grant);
	esp_sadb_remove(&p->sadb, gone);
}

void esp_sa_remove(struct esp_plane *p, uint32_t spi_in)
{
	struct esp_sa *sa = esp_sadb_find(&p->sadb, spi_in);

	if (sa)
		sa_remove(p, sa);
}

void esp_sa_retire(struct esp_plane *p, uint64_t now_us, uint32_t spi_in)
{
	struct esp_sa *sa = esp_sadb_find(&p->sadb, spi_in);

	if (!sa || sa->end_us != TIME_NEVER)
		return;
	sa->end_us = now_us + ESP_LATE_US;
	flows_pass_on(p, sa);
}

void esp_grant_remove(struct esp_plane *p, uint32_t call, uint32_t grant_id)
{
	struct esp_sa *sa = p->sadb.newest;

	while (sa) {
		struct esp_sa *older = sa->older;

		if (sa->call->call == call && sa->grant == grant_id)
			sa_remove(p, sa);
		sa = older;
	}
}

void esp_call_remove(struct esp_plane *p, uint32_t call)
{
	struct esp_call *c = esp_sadb_call(&p->sadb, call);
	struct esp_sa *sa = p->sadb.newest;

	if (!c)
		return;
	while (sa) {
		struct esp_sa *older = sa->older;

		if (sa->call == c)
			sa_remove(p, sa);
		sa = older;
	}
	memset(c, 0, sizeof(*c));
}

void esp_call_set_path(struct esp_plane *p, uint32_t call, const struct path *path)
{
	for (struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older)
		if (sa->call->call == call)
			sa->path = *path;
}

void esp_call_hold(struct esp_plane *p, uint32_t call, bool hold)
{
	struct esp_call *c = esp_sadb_call(&p->sadb, call);

	if (c)
		c->held = hold;
}

void esp_call_ping_off(struct esp_plane *p, uint32_t call)
{
	for (struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older)
		if (sa->call->call == call && !sa->ping_one_way)
			sa->allow_ping = false;
}

bool esp_spi_taken(const struct esp_plane *p, uint32_t spi_in)
{
	return esp_sadb_find(&p->sadb, spi_in) != NULL;
}

const struct esp_counters *esp_plane_counters(const struct esp_plane *p)
{
	return &p->counters;
}

bool esp_call_counters(const struct esp_plane *p, uint32_t call, struct esp_counters *ret)
{
	const struct esp_call *c = esp_sadb_call(&p->sadb, call);

	if (!c)
		return false;
	*ret = c->counters;
	return true;
}

void esp_plane_tick(struct esp_plane *p, uint64_t now_us)
{
	struct esp_sa *sa = p->sadb.newest;

	esp_flows_tick(p->flows, now_us);
	while (sa) {
		struct esp_sa *older = sa->older;

		if (now_us >= sa->end_us)
			sa_remove(p, sa);
		sa = older;
	}
}

uint64_t esp_plane_deadline_us(const struct esp_plane *p)
{
	uint64_t due = esp_flows_deadline_us(p->flows);

	for (const struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older)
		due = sa->end_us < due ? sa->end_us : due;
	return due;
}

/* ---- lifetimes (RFC 4301, 4.4.2.1) ---- */

static bool used_up(const struct esp_sa *sa)
{
	return sa->seq >= sa->seq_max || sa->bytes >= sa->hard_bytes;
}

static void life_note(struct esp_plane *p, struct esp_sa *sa, size_t len)
{
	bool told = sa->due_soft || sa->due_hard;

	sa->bytes += len;
	if (!sa->soft_told &&
	    (sa->seq >= sa->soft_packets || sa->packets_in >= sa->soft_packets || sa->bytes >= sa->soft_bytes))
		sa->soft_told = sa->due_soft = true;
	if (!sa->hard_told && used_up(sa))
		sa->hard_told = sa->due_hard = true;
	p->n_due += !told && (sa->due_soft || sa->due_hard);
}

bool esp_plane_has_due(const struct esp_plane *p)
{
	return p->n_due;
}

bool esp_plane_poll_due(struct esp_plane *p, struct esp_due *ret)
{
	for (struct esp_sa *sa = p->sadb.newest; sa && p->n_due; sa = sa->older) {
		if (!sa->due_soft && !sa->due_hard)
			continue;
		*ret = (struct esp_due){ .spi_in = sa->spi_in, .call = sa->call->call, .hard = sa->due_hard };
		sa->due_soft = sa->due_hard = false;
		p->n_due--;
		return true;
	}
	return false;
}

/* ---- what passes, in both directions ---- */

/* R1: the packet belongs to a flow, or is the first of one that this side may open. */
static enum esp_drop flow_check(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt,
				const struct esp_tuple *t, struct esp_flow *fl, bool inbound)
{
	bool opens = may_open(sa, inbound) && esp_flow_opens(pkt);
	uint32_t owner = owner_of(p, sa->call);

	if (fl && fl->owner != owner)
		return ESP_DROP_DIRECTION;
	if (fl && opens && esp_flow_begins_anew(fl, pkt)) {
		esp_flow_remove(p->flows, fl);
		fl = NULL;
	}
	if (fl) {
		if (!esp_flow_admits(fl, pkt, inbound, may_open(sa, inbound)))
			return ESP_DROP_DIRECTION;
		esp_flow_note(p->flows, now_us, fl, pkt, inbound);
		return PASSED;
	}
	if (!opens)
		return ESP_DROP_DIRECTION;
	if (!esp_flow_make_room(p->flows, owner))
		return ESP_DROP_FLOWS_FULL;
	fl = esp_flow_open(p->flows, now_us, t, inbound, owner, sa->grant, sa);
	if (!sends(sa)) { /* by a replaced one: answers leave by its successor */
		struct esp_sa *heir = heir_of(p, sa, fl);

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

	return sa->allow_ping && (!sa->ping_one_way || may_open(sa, request ? inbound : !inbound));
}

/* ---- outer in, inner out ---- */

static enum esp_drop inbound_check(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt)
{
	struct esp_tuple t = esp_tuple_of(&pkt->ends, true);
	struct esp_flow *fl;

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
		if (!fl || fl->owner != owner_of(p, sa->call) || !esp_sa_covers_hosts(sa, &t))
			return ESP_DROP_SELECTOR;
		return PASSED;
	case ESP_ICMP_OTHER: return ESP_DROP_SELECTOR;
	case ESP_ICMP_NONE: break;
	}
	/* RFC 4301, 5.2: also what is authentic must lie inside the selectors; the peer's IKE may be hostile. */
	if (!esp_sa_covers(sa, &t))
		return ESP_DROP_SELECTOR;
	return flow_check(p, now_us, sa, pkt, &t, esp_flow_find(p->flows, now_us, &t), true);
}

/* RFC 6040, 4.2, default tunnel egress. False: the packet must be dropped. */
static bool ecn_merge(uint8_t *packet, uint8_t inner, uint8_t outer)
{
	enum { NOT_ECT, ECT_1, ECT_0, CE };

	if (outer == CE && inner == NOT_ECT)
		return false;
	if ((outer == CE && inner != CE) || (outer == ECT_1 && inner == ECT_0))
		esp_inner_set_ecn(packet, outer);
	return true;
}

/* The part before anything is known to be from the peer: as little as possible happens to a stranger's packet. */
static enum esp_drop unseal(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, uint8_t *buf,
			    struct esp_sa **ret_sa, uint8_t *ret_next, struct span *ret_inner)
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
	if (packet.len > ESP_PACKET_MAX)
		return ESP_DROP_TOO_BIG;
	seq = sa->in.esn ? esp_replay_extend(&sa->replay, head.seq) : head.seq;
	if (!esp_replay_check(&sa->replay, seq))
		return ESP_DROP_REPLAY;
	e = esp_packet_open(&sa->in, seq, packet, buf, ret_next, ret_inner);
	if (e != OK && e != ERR_MALFORMED)
		return ESP_DROP_AUTH;
	esp_replay_mark(&sa->replay, seq);
	sa->packets_in++;
	if (sa->standby && sa->end_us == TIME_NEVER)
		activate(p, sa);
	p->counters.last_in_us = sa->call->counters.last_in_us = now_us;
	return e == OK ? PASSED : ESP_DROP_FORMAT;
}

static enum esp_drop input_one(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, uint8_t *buf,
			       struct esp_sa **ret_sa, struct esp_packet *ret)
{
	struct esp_inner pkt;
	struct span inner;
	uint8_t next;
	enum esp_drop d = unseal(p, now_us, in, buf, ret_sa, &next, &inner);

	if (d != PASSED)
		return d;
	if (next == ESP_NEXT_DUMMY)
		return ESP_DROP_DUMMY;
	if (next != ESP_NEXT_IP4 && next != ESP_NEXT_IP6)
		return ESP_DROP_FORMAT;
	if (esp_inner_parse(inner, &pkt) != OK || (pkt.ends.family == ADDR_IP4) != (next == ESP_NEXT_IP4))
		return ESP_DROP_FORMAT;
	d = inbound_check(p, now_us, *ret_sa, &pkt);
	if (d != PASSED)
		return d;
	if (!ecn_merge(buf, pkt.ecn, in->path.tos & 3))
		return ESP_DROP_FORMAT;
	*ret = (struct esp_packet){ .path = in->path, .p = buf, .len = pkt.len, .call = (*ret_sa)->call->call };
	return PASSED;
}

/* ---- inner in, outer out ---- */

/* The newest SA for a packet that belongs to no flow: an echo, or one that opens a flow, by an SA that lets us. If there is none,
 * *ret is the one in whose call the drop is counted: one that covers the packet, else one of the two hosts. */
static enum esp_drop choose(const struct esp_plane *p, const struct esp_tuple *t, const struct esp_inner *pkt,
			    struct esp_sa **ret)
{
	bool covered = false, opening = pkt->icmp != ESP_ICMP_ECHO;

	*ret = NULL;
	for (struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older) {
		if (!sends(sa))
			continue;
		if (!esp_sa_covers(sa, t)) {
			if (!*ret && esp_sa_covers_hosts(sa, t))
				*ret = sa;
			continue;
		}
		if (opening ? may_open(sa, false) : echo_may(sa, pkt, false)) {
			*ret = sa;
			return PASSED;
		}
		if (!covered)
			*ret = sa;
		covered = true;
	}
	return covered && opening ? ESP_DROP_DIRECTION : ESP_DROP_NO_SA;
}

/* Which SA sends this packet, by its flow first, so that replies leave by the SA of their flow. Changes nothing. */
static enum esp_drop outbound_sa(struct esp_plane *p, uint64_t now_us, const struct esp_inner *pkt,
				 struct esp_sa **ret_sa, struct esp_flow **ret_flow)
{
	struct esp_tuple t = esp_tuple_of(&pkt->ends, false);

	*ret_sa = NULL;
	*ret_flow = NULL;
	switch (pkt->icmp) {
	case ESP_ICMP_ECHO: t = echo_tuple(&pkt->ends, false); return choose(p, &t, pkt, ret_sa);
	case ESP_ICMP_ERROR:
		*ret_flow = error_flow(p, now_us, pkt, false);
		*ret_sa = *ret_flow ? (*ret_flow)->sa : NULL;
		return *ret_sa && esp_sa_covers_hosts(*ret_sa, &t) ? PASSED : ESP_DROP_NO_SA;
	case ESP_ICMP_OTHER: return ESP_DROP_NO_SA;
	case ESP_ICMP_NONE: break;
	}
	*ret_flow = esp_flow_find(p->flows, now_us, &t);
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

	if (pkt->icmp == ESP_ICMP_ECHO)
		return esp_rate_pass(&sa->ping_out, now_us) ? PASSED : ESP_DROP_PING_RATE;
	if (pkt->icmp != ESP_ICMP_NONE)
		return PASSED;
	t = esp_tuple_of(&pkt->ends, false);
	return flow_check(p, now_us, sa, pkt, &t, fl, false);
}

static enum esp_drop output_one(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, uint8_t *buf,
				struct esp_sa **ret_sa, struct esp_packet *ret, size_t *ret_inner)
{
	struct esp_inner pkt;
	struct esp_flow *fl;
	struct esp_sa *sa;
	enum esp_drop d;
	size_t len;
	uint8_t next;

	if (esp_inner_parse(span_of(in->p, in->len), &pkt) != OK)
		return ESP_DROP_FORMAT;
	d = outbound_sa(p, now_us, &pkt, ret_sa, &fl);
	if (d != PASSED)
		return d;
	sa = *ret_sa;
	if (sa->call->held || sa->path.remote.family == ADDR_NONE)
		return ESP_DROP_HELD; /* nowhere to send it, for now or yet */
	if (pkt.len > ESP_PACKET_MAX - ESP_OVERHEAD)
		return ESP_DROP_TOO_BIG;
	/* RFC 4303, 3.3.3: a number is never used twice under one key. */
	if (used_up(sa))
		return ESP_DROP_EXHAUSTED;
	d = outbound_check(p, now_us, sa, fl, &pkt);
	if (d != PASSED)
		return d;
	next = pkt.ends.family == ADDR_IP4 ? ESP_NEXT_IP4 : ESP_NEXT_IP6;
	sa->seq++;
	if (esp_packet_seal(&sa->out, sa->spi_out, sa->seq, sa->seq, next, span_of(in->p, pkt.len), buf, ESP_PACKET_MAX,
			    &len) != OK)
		return ESP_DROP_AUTH;
	*ret = (struct esp_packet){ .path = sa->path, .p = buf, .len = len, .call = sa->call->call };
	ret->path.tos = (uint8_t)((sa->path.tos & ~3) | pkt.ecn); /* RFC 6040, 4.1, normal mode */
	*ret_inner = pkt.len;
	return PASSED;
}

/* ---- batches ---- */

static void count_drop(struct esp_plane *p, struct esp_sa *sa, enum esp_drop d)
{
	p->counters.drops[d]++;
	if (sa)
		sa->call->counters.drops[d]++;
}

static void count_in(struct esp_counters *c, size_t len)
{
	c->packets_in++;
	c->bytes_in += len;
}

static void count_out(struct esp_counters *c, size_t len, uint64_t now_us)
{
	c->packets_out++;
	c->bytes_out += len;
	c->last_out_us = now_us;
}

unsigned esp_plane_input(struct esp_plane *p, uint64_t now_us, struct esp_packet *in, unsigned n,
			 struct esp_packet out[ESP_BATCH])
{
	unsigned n_out = 0;

	assert(n <= ESP_BATCH);
	for (unsigned i = 0; i < n; i++) {
		struct esp_sa *sa = NULL;
		enum esp_drop d = input_one(p, now_us, &in[i], p->in[n_out], &sa, &out[n_out]);

		if (d != PASSED) {
			count_drop(p, sa, d);
			continue;
		}
		count_in(&p->counters, out[n_out].len);
		count_in(&sa->call->counters, out[n_out].len);
		life_note(p, sa, out[n_out].len);
		n_out++;
	}
	return n_out;
}

unsigned esp_plane_output(struct esp_plane *p, uint64_t now_us, struct esp_packet *in, unsigned n,
			  struct esp_packet out[ESP_BATCH])
{
	unsigned n_out = 0;

	assert(n <= ESP_BATCH);
	for (unsigned i = 0; i < n; i++) {
		struct esp_sa *sa = NULL;
		size_t inner = 0;
		enum esp_drop d = output_one(p, now_us, &in[i], p->out[n_out], &sa, &out[n_out], &inner);

		if (d != PASSED) {
			count_drop(p, sa, d);
			continue;
		}
		count_out(&p->counters, inner, now_us);
		count_out(&sa->call->counters, inner, now_us);
		life_note(p, sa, inner);
		n_out++;
	}
	return n_out;
}
