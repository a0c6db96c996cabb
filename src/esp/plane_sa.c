/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_sa.c - the plane's life, its SAs and calls, and lifetimes. */
#include <stdlib.h>
#include <string.h>

#include "esp/plane_impl.h"

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
		[ESP_DROP_ECN] = "ecn",
		[ESP_DROP_FRAGMENT] = "fragment",
		[ESP_DROP_OVERLAP] = "overlap",
		[ESP_DROP_CHANNEL] = "channel",
	};

	return (unsigned)d < ESP_N_DROPS ? name[d] : "unknown";
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void esp_counters_add(struct esp_counters *to, const struct esp_counters *c)
{
	to->packets_in += c->packets_in;
	to->packets_out += c->packets_out;
	to->bytes_in += c->bytes_in;
	to->bytes_out += c->bytes_out;
	for (int d = 0; d < ESP_N_DROPS; d++)
		to->drops[d] += c->drops[d];
	to->ecn_odd += c->ecn_odd;
	to->last_in_us = later(to->last_in_us, c->last_in_us);
	to->last_out_us = later(to->last_out_us, c->last_out_us);
}

enum err esp_plane_new(const struct esp_plane_config *cfg, struct esp_plane **ret)
{
	struct esp_plane *p = calloc(1, sizeof(*p));
	enum err e;

	if (!p)
		return ERR_NOMEM;
	p->log = cfg->log;
	memcpy(p->self, cfg->self, sizeof(p->self));
	e = esp_sadb_init(&p->sadb, cfg->max_sas, cfg->rng);
	if (e == OK)
		e = esp_flows_new(cfg->rng, cfg->max_flows, cfg->max_sas, &p->flows);
	if (e == OK)
		e = esp_frags_new(&p->frags);
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
	esp_frags_free(p->frags);
	free(p);
}

/* ---- SAs come and go ---- */

/* Would sa have let this flow begin? Then it may carry it on. */
static bool carries(const struct esp_plane *p, const struct esp_sa *sa, const struct esp_flow *fl)
{
	return plane_owner_of(p, sa->call) == fl->owner && sa->grant == fl->grant &&
	       plane_may_open(sa, fl->opened_inbound) && esp_sa_covers(sa, &fl->tuple);
}

struct walk {
	struct esp_plane *p;
	struct esp_sa *sa;
};

static bool take_over(void *arg, struct esp_flow *fl)
{
	const struct walk *w = arg;

	if (carries(w->p, w->sa, fl))
		fl->sa = w->sa;
	return true;
}

void plane_activate(struct esp_plane *p, struct esp_sa *sa)
{
	struct esp_sa *old = sa->replaces ? esp_sadb_find(&p->sadb, sa->replaces) : NULL;
	struct walk w = { p, sa };

	sa->standby = sa->superseded = false;
	if (old && old != sa && old->call == sa->call && old->grant == sa->grant)
		old->superseded = true;
	esp_flows_walk(p->flows, plane_owner_of(p, sa->call), take_over, &w);
}

/* Of the others of its grant one must send: the newest that waits, or at last one that was superseded. */
static void successor_wake(struct esp_plane *p, const struct esp_sa *gone)
{
	struct esp_sa *waits = NULL, *last = NULL;

	for (struct esp_sa *sa = gone->call->newest; sa; sa = sa->older) {
		if (sa == gone || sa->grant != gone->grant || sa->end_us != TIME_NEVER)
			continue;
		if (plane_sends(sa))
			return;
		if (sa->standby && !waits)
			waits = sa;
		if (sa->superseded && !last)
			last = sa;
	}
	if (waits || last)
		plane_activate(p, waits ? waits : last);
}

struct esp_sa *plane_heir_of(const struct esp_plane *p, const struct esp_sa *gone, const struct esp_flow *fl)
{
	struct esp_sa *sa = gone->call->newest;

	while (sa && (sa == gone || !plane_sends(sa) || !carries(p, sa, fl)))
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
		plane_activate(p, sa);
	log_info(&p->log, "SA up in=%08x out=%08x call=%u grant=%u %s", sa->spi_in, sa->spi_out, sa->call->call,
		 sa->grant, cipher_name(cfg->alg));
	return OK;
}

static bool pass_on(void *arg, struct esp_flow *fl)
{
	const struct walk *w = arg;
	struct esp_sa *heir;

	if (fl->sa != w->sa)
		return true;
	heir = plane_heir_of(w->p, w->sa, fl);
	if (heir)
		fl->sa = heir;
	return heir;
}

/* Flows through it go as well, unless another SA of the same grant carries them: after a rekeying. */
static void flows_pass_on(struct esp_plane *p, struct esp_sa *gone)
{
	struct walk w = { p, gone };

	successor_wake(p, gone);
	esp_flows_walk(p->flows, plane_owner_of(p, gone->call), pass_on, &w);
}

/* ---- SAs that wait for something: in lists, so that nobody has to ask all of them ---- */

static void late_link(struct esp_plane *p, struct esp_sa *sa)
{
	struct esp_sa *before = p->late_last;

	/* they come in their order, but for what clocks are read late */
	while (before && before->end_us > sa->end_us)
		before = before->late.prev;
	sa->late.prev = before;
	sa->late.next = before ? before->late.next : p->late_first;
	*(before ? &before->late.next : &p->late_first) = sa;
	*(sa->late.next ? &sa->late.next->late.prev : &p->late_last) = sa;
}

static void late_unlink(struct esp_plane *p, struct esp_sa *sa)
{
	*(sa->late.prev ? &sa->late.prev->late.next : &p->late_first) = sa->late.next;
	*(sa->late.next ? &sa->late.next->late.prev : &p->late_last) = sa->late.prev;
}

static void due_link(struct esp_plane *p, struct esp_sa *sa)
{
	sa->due.prev = NULL;
	sa->due.next = p->due_first;
	if (p->due_first)
		p->due_first->due.prev = sa;
	p->due_first = sa;
}

static void due_unlink(struct esp_plane *p, struct esp_sa *sa)
{
	*(sa->due.prev ? &sa->due.prev->due.next : &p->due_first) = sa->due.next;
	if (sa->due.next)
		sa->due.next->due.prev = sa->due.prev;
	sa->due_soft = sa->due_hard = false;
}

static void sa_remove(struct esp_plane *p, struct esp_sa *gone)
{
	flows_pass_on(p, gone);
	if (gone->end_us != TIME_NEVER)
		late_unlink(p, gone);
	if (gone->due_soft || gone->due_hard)
		due_unlink(p, gone);
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
	late_link(p, sa);
	flows_pass_on(p, sa);
}

static struct esp_sa *newest_of(const struct esp_plane *p, uint32_t call)
{
	const struct esp_call *c = esp_sadb_call(&p->sadb, call);

	return c ? c->newest : NULL;
}

void esp_sa_replaced(struct esp_plane *p, uint32_t call, uint32_t spi_in)
{
	for (struct esp_sa *sa = newest_of(p, call); sa; sa = sa->older)
		if (sa->standby && sa->replaces == spi_in && sa->end_us == TIME_NEVER)
			plane_activate(p, sa);
}

void esp_grant_remove(struct esp_plane *p, uint32_t call, uint32_t grant_id)
{
	struct esp_sa *sa = newest_of(p, call);

	while (sa) {
		struct esp_sa *older = sa->older;

		if (sa->grant == grant_id)
			sa_remove(p, sa);
		sa = older;
	}
}

void esp_call_remove(struct esp_plane *p, uint32_t call)
{
	struct esp_call *c = esp_sadb_call(&p->sadb, call);

	if (!c)
		return;
	while (c->newest)
		sa_remove(p, c->newest);
	plane_call_gone(p, c);
	esp_sadb_call_forget(&p->sadb, c);
}

void esp_call_set_path(struct esp_plane *p, uint32_t call, const struct path *path)
{
	for (struct esp_sa *sa = newest_of(p, call); sa; sa = sa->older)
		esp_sa_set_path(sa, path);
}

void esp_call_set_mtu(struct esp_plane *p, uint32_t call, unsigned mtu)
{
	struct esp_call *c = esp_sadb_call(&p->sadb, call);

	if (!c)
		return;
	c->mtu = mtu;
	for (struct esp_sa *sa = c->newest; sa; sa = sa->older)
		esp_sa_fit(sa);
}

void esp_call_hold(struct esp_plane *p, uint32_t call, bool hold)
{
	struct esp_call *c = esp_sadb_call(&p->sadb, call);

	if (c)
		c->held = hold;
}

void esp_call_ping_off(struct esp_plane *p, uint32_t call)
{
	for (struct esp_sa *sa = newest_of(p, call); sa; sa = sa->older)
		if (!sa->ping_one_way)
			sa->allow_ping = false;
}

bool esp_spi_taken(const struct esp_plane *p, uint32_t spi_in)
{
	return esp_sadb_find(&p->sadb, spi_in) != NULL;
}

uint32_t esp_spi_call(const struct esp_plane *p, uint32_t spi_in)
{
	const struct esp_sa *sa = esp_sadb_find(&p->sadb, spi_in);

	return sa ? sa->call->call : 0;
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
	esp_flows_tick(p->flows, now_us);
	plane_held_tick(p, now_us);
	while (p->late_first && p->late_first->end_us <= now_us)
		sa_remove(p, p->late_first);
}

uint64_t esp_plane_deadline_us(const struct esp_plane *p)
{
	uint64_t due = esp_flows_deadline_us(p->flows), held = plane_held_deadline_us(p);

	due = held < due ? held : due;
	return p->late_first && p->late_first->end_us < due ? p->late_first->end_us : due;
}

/* ---- lifetimes (RFC 4301, 4.4.2.1) ---- */

bool plane_used_up(const struct esp_sa *sa)
{
	return sa->seq >= sa->seq_max || sa->bytes >= sa->hard_bytes;
}

void plane_life_note(struct esp_plane *p, struct esp_sa *sa, size_t len)
{
	bool told = sa->due_soft || sa->due_hard;

	sa->bytes += len;
	if (!sa->soft_told &&
	    (sa->seq >= sa->soft_packets || sa->packets_in >= sa->soft_packets || sa->bytes >= sa->soft_bytes))
		sa->soft_told = sa->due_soft = true;
	if (!sa->hard_told && plane_used_up(sa))
		sa->hard_told = sa->due_hard = true;
	if (!told && (sa->due_soft || sa->due_hard))
		due_link(p, sa);
}

bool esp_plane_has_news(const struct esp_plane *p)
{
	return p->due_first || p->n_echoed;
}

bool esp_plane_has_due(const struct esp_plane *p)
{
	return p->due_first;
}

bool esp_plane_poll_due(struct esp_plane *p, struct esp_due *ret)
{
	struct esp_sa *sa = p->due_first;

	if (!sa)
		return false;
	*ret = (struct esp_due){ .spi_in = sa->spi_in, .call = sa->call->call, .hard = sa->due_hard };
	due_unlink(p, sa);
	return true;
}
