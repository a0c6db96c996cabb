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

void plane_activate(struct esp_plane *p, struct esp_sa *sa)
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
	struct esp_sa *sa = p->sadb.newest;

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
		heir = plane_heir_of(p, gone, fl);
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
	plane_call_gone(p, c);
	memset(c, 0, sizeof(*c));
}

void esp_call_set_path(struct esp_plane *p, uint32_t call, const struct path *path)
{
	for (struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older)
		if (sa->call->call == call) {
			sa->path = *path;
			esp_sa_fit(sa);
		}
}

void esp_call_set_mtu(struct esp_plane *p, uint32_t call, unsigned mtu)
{
	struct esp_call *c = esp_sadb_call(&p->sadb, call);

	if (!c)
		return;
	c->mtu = mtu;
	for (struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older)
		if (sa->call == c)
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
	plane_held_tick(p, now_us);
	while (sa) {
		struct esp_sa *older = sa->older;

		if (now_us >= sa->end_us)
			sa_remove(p, sa);
		sa = older;
	}
}

uint64_t esp_plane_deadline_us(const struct esp_plane *p)
{
	uint64_t due = esp_flows_deadline_us(p->flows), held = plane_held_deadline_us(p);

	due = held < due ? held : due;
	for (const struct esp_sa *sa = p->sadb.newest; sa; sa = sa->older)
		due = sa->end_us < due ? sa->end_us : due;
	return due;
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
	p->n_due += !told && (sa->due_soft || sa->due_hard);
}

bool esp_plane_has_news(const struct esp_plane *p)
{
	return p->n_due || p->n_echoed;
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
