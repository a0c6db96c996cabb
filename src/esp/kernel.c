/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "esp/kernel_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "crypto/secret.h"
#include "esp/packet.h"

struct esp_kernel *esp_kernel_new(void)
{
	struct esp_kernel *k = calloc(1, sizeof(*k));

	if (k)
		k->count_us = TIME_NEVER;
	return k;
}

void kernel_add_counts(struct esp_counters *to, const struct kernel_sa *sa)
{
	const struct esp_kernel_count *in = &sa->half[KERNEL_IN].count, *out = &sa->half[KERNEL_OUT].count;

	to->packets_in += in->packets;
	to->bytes_in += in->bytes;
	to->packets_out += out->packets;
	to->bytes_out += out->bytes;
	to->drops[ESP_DROP_REPLAY] += in->replayed;
	to->drops[ESP_DROP_AUTH] += in->not_authentic;
}

void kernel_sa_free(struct kernel_slot *s, struct kernel_sa *sa)
{
	struct kernel_sa **at = &s->sas;

	while (*at != sa)
		at = &(*at)->next;
	*at = sa->next;
	kernel_add_counts(&s->counters, sa);
	secret_wipe(sa, sizeof(*sa));
	free(sa);
}

/* Its counters are the call's as long as that has another one. */
static void slot_free(struct esp_kernel *k, struct kernel_slot **at)
{
	struct kernel_slot *s = *at, *heir = k->slots;

	while (s->sas)
		kernel_sa_free(s, s->sas);
	while (heir && (heir == s || heir->call != s->call))
		heir = heir->next;
	esp_counters_add(heir ? &heir->counters : &k->gone, &s->counters);
	*at = s->next;
	free(s);
}

void esp_kernel_free(struct esp_kernel *k)
{
	while (k && k->slots)
		slot_free(k, &k->slots);
	free(k);
}

/* ---- what is found ---- */

static struct kernel_slot *slot_find(const struct esp_kernel *k, uint32_t call, uint32_t grant)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next)
		if (s->call == call && s->grant == grant && !s->over)
			return s;
	return NULL;
}

static struct kernel_sa *sa_find(const struct esp_kernel *k, uint32_t spi_in, struct kernel_slot **ret_slot)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next)
		for (struct kernel_sa *sa = s->sas; sa; sa = sa->next)
			if (sa->half[KERNEL_IN].spi == spi_in) {
				*ret_slot = s;
				return sa;
			}
	return NULL;
}

bool esp_kernel_has(const struct esp_kernel *k, uint32_t spi_in)
{
	struct kernel_slot *s;

	return sa_find(k, spi_in, &s) != NULL;
}

static uint16_t free_number(const struct esp_kernel *k)
{
	uint16_t n = 1;

	for (const struct kernel_slot *s = k->slots; s;)
		if (s->number == n) {
			n++; /* and from the beginning */
			s = k->slots;
		} else {
			s = s->next;
		}
	return n;
}

/* ---- selectors ---- */

static bool prefix_of(const struct esp_ts *t, struct addr_prefix *ret)
{
	struct addr lo = { .family = t->family }, hi = lo;

	memcpy(lo.ip, t->ip_lo, 16);
	memcpy(hi.ip, t->ip_hi, 16);
	return addr_prefix_of_range(&lo, &hi, ret);
}

static bool is_echo(const struct esp_ts *t)
{
	return t->protocol == 58 || t->protocol == 1;
}

/* The whole of a protocol-less selector is one network, or one client. */
static bool prefixes_of(const struct esp_ts *ts, unsigned n, struct addr_prefix ret[ESP_TS_MAX], unsigned *ret_n)
{
	*ret_n = 0;
	for (unsigned i = 0; i < n; i++) {
		if (is_echo(&ts[i]))
			continue;
		if (ts[i].protocol || ts[i].port_lo || ts[i].port_hi != UINT16_MAX ||
		    !prefix_of(&ts[i], &ret[(*ret_n)++]))
			return false;
	}
	return true;
}

static bool pairs_of(const struct esp_sa_config *cfg, struct kernel_slot *s)
{
	struct addr_prefix local[ESP_TS_MAX], peer[ESP_TS_MAX];
	unsigned n_local, n_peer;

	if (cfg->open == ESP_OPEN_BOTH || !prefixes_of(cfg->ts_local, cfg->n_local, local, &n_local) ||
	    !prefixes_of(cfg->ts_peer, cfg->n_peer, peer, &n_peer))
		return false;
	s->ours = cfg->open == ESP_OPEN_OUT;
	for (unsigned i = 0; i < n_local; i++)
		for (unsigned j = 0; j < n_peer; j++) {
			struct kernel_pair p = { .server = s->ours ? peer[j] : local[i],
						 .client = s->ours ? local[i] : peer[j],
						 .is = ESP_KERNEL_GONE };

			if (p.server.base.family != p.client.base.family)
				continue;
			if (p.client.len != addr_ip_len(&p.client.base) * 8 || s->n_pairs == KERNEL_PAIRS_MAX)
				return false;
			s->pairs[s->n_pairs++] = p;
		}
	return s->n_pairs > 0;
}

static bool path_fits(const struct path *p)
{
	return p->transport == TRANSPORT_UDP && !p->channel;
}

/* ---- SAs come and go ---- */

static bool can_send(const struct kernel_sa *sa)
{
	const struct kernel_half *out = &sa->half[KERNEL_OUT];

	return sa->end_us == TIME_NEVER && (!out->was || out->there);
}

void kernel_activate(struct esp_kernel *k, struct kernel_slot *s, struct kernel_sa *sa)
{
	for (struct kernel_sa *o = s->sas; o; o = o->next)
		o->half[KERNEL_OUT].shall = false;
	sa->half[KERNEL_OUT].shall = true;
	sa->standby = false;
	s->elsewhere = false;
	k->work = true;
}

void kernel_fail(struct esp_kernel *k, struct kernel_slot *s)
{
	if (s->over)
		return;
	s->over = s->failed = true;
	k->work = k->news = true;
}

static struct kernel_sa *sa_new(const struct esp_sa_config *cfg)
{
	struct kernel_sa *sa = calloc(1, sizeof(*sa));

	if (!sa)
		return NULL;
	*sa = (struct kernel_sa){
		.half = { [KERNEL_IN] = { .spi = cfg->spi_in, .shall = true }, [KERNEL_OUT] = { .spi = cfg->spi_out } },
		.alg = cfg->alg,
		.esn = cfg->esn,
		.copy_dscp = cfg->copy_dscp,
		.hard_packets = cfg->hard_packets,
		.soft_packets = cfg->soft_packets,
		.soft_bytes = cfg->soft_bytes,
		.hard_bytes = cfg->hard_bytes,
		.standby = cfg->standby,
		.replaces = cfg->replaces,
		.end_us = TIME_NEVER
	};
	memcpy(sa->half[KERNEL_IN].key, cfg->key_in, CIPHER_KEY_MAX);
	memcpy(sa->half[KERNEL_OUT].key, cfg->key_out, CIPHER_KEY_MAX);
	return sa;
}

static struct kernel_slot *slot_new(struct esp_kernel *k, const struct esp_sa_config *cfg)
{
	struct kernel_slot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->call = cfg->call;
	s->grant = cfg->grant_id;
	s->number = free_number(k);
	return s;
}

/* New keys are for what the old ones were for; a peer that narrows them on the way gets others. */
static bool same_pairs(const struct kernel_slot *a, const struct kernel_slot *b)
{
	if (a->ours != b->ours || a->n_pairs != b->n_pairs)
		return false;
	for (unsigned i = 0; i < a->n_pairs; i++)
		if (!addr_prefix_eq(&a->pairs[i].server, &b->pairs[i].server) ||
		    !addr_prefix_eq(&a->pairs[i].client, &b->pairs[i].client))
			return false;
	return true;
}

/* Its place of (call, grant), and the newest SA of it. */
static enum err place(struct esp_kernel *k, struct kernel_slot *s, const struct kernel_slot *like,
		      const struct esp_sa_config *cfg, struct kernel_slot **ret)
{
	struct kernel_sa *sa = sa_new(cfg);

	if (sa && !s) {
		s = slot_new(k, cfg);
		if (s) {
			memcpy(s->pairs, like->pairs, sizeof(s->pairs));
			s->n_pairs = like->n_pairs;
			s->ours = like->ours;
			s->elsewhere = true; /* until one sends */
			s->next = k->slots;
			k->slots = s;
		}
	}
	if (!sa || !s) {
		secret_wipe(sa, sa ? sizeof(*sa) : 0);
		free(sa);
		return ERR_NOMEM;
	}
	sa->next = s->sas;
	s->sas = sa;
	*ret = s;
	return OK;
}

enum err esp_kernel_add(struct esp_kernel *k, uint64_t now_us, const struct esp_sa_config *cfg)
{
	struct kernel_slot *s = slot_find(k, cfg->call, cfg->grant_id), like = { .n_pairs = 0 };
	enum err e;

	if (!cipher_combined(cfg->alg) || !path_fits(&cfg->path) || !pairs_of(cfg, &like))
		return ERR_UNSUPPORTED;
	if (s && !same_pairs(s, &like))
		return ERR_UNSUPPORTED;
	if (esp_kernel_has(k, cfg->spi_in))
		return ERR_WRONG_STATE;
	e = place(k, s, &like, cfg, &s);
	if (e != OK)
		return e;
	s->path = cfg->path;
	s->mtu = cfg->mtu;
	if (!cfg->standby)
		kernel_activate(k, s, s->sas);
	if (k->count_us == TIME_NEVER)
		k->count_us = now_us + ESP_KERNEL_COUNT_US;
	k->work = true;
	return OK;
}

static void successor_wake(struct esp_kernel *k, struct kernel_slot *s)
{
	struct kernel_sa *last = NULL;

	for (struct kernel_sa *sa = s->sas; sa; sa = sa->next) {
		if (!can_send(sa))
			continue;
		if (sa->half[KERNEL_OUT].shall)
			return;
		if (sa->standby) {
			kernel_activate(k, s, sa);
			return;
		}
		if (!last)
			last = sa;
	}
	if (last && !s->elsewhere)
		kernel_activate(k, s, last);
	else
		s->elsewhere = true;
}

static void retire(struct esp_kernel *k, struct kernel_slot *s, struct kernel_sa *sa, uint64_t now_us)
{
	if (sa->end_us == TIME_NEVER)
		sa->end_us = now_us + ESP_LATE_US;
	sa->half[KERNEL_OUT].shall = sa->standby = false;
	successor_wake(k, s);
	k->work = true;
}

void esp_kernel_retire(struct esp_kernel *k, uint64_t now_us, uint32_t spi_in)
{
	struct kernel_slot *s = NULL;
	struct kernel_sa *sa = sa_find(k, spi_in, &s);

	if (sa)
		retire(k, s, sa, now_us);
	for (s = k->slots; s && !sa; s = s->next) /* it was the other plane's */
		for (struct kernel_sa *o = s->sas; o; o = o->next)
			if (o->standby && o->replaces == spi_in && !s->over)
				kernel_activate(k, s, o);
}

void esp_kernel_superseded(struct esp_kernel *k, uint32_t spi_in)
{
	struct kernel_slot *s = NULL;

	if (!sa_find(k, spi_in, &s))
		return;
	for (struct kernel_sa *o = s->sas; o; o = o->next)
		o->half[KERNEL_OUT].shall = false;
	s->elsewhere = true;
	k->work = true;
}

static void end(struct esp_kernel *k, struct kernel_slot *s)
{
	s->over = true;
	k->work = true;
}

void esp_kernel_grant_remove(struct esp_kernel *k, uint32_t call, uint32_t grant_id)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next)
		if (s->call == call && s->grant == grant_id)
			end(k, s);
}

void esp_kernel_call_remove(struct esp_kernel *k, uint32_t call)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next)
		if (s->call == call) {
			s->forget = true;
			end(k, s);
		}
}

/* ---- calls ---- */

void esp_kernel_path(struct esp_kernel *k, uint32_t call, const struct path *path)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next) {
		if (s->call != call || s->over)
			continue;
		s->path = *path;
		k->work = true;
		if (!path_fits(path))
			kernel_fail(k, s);
	}
}

void esp_kernel_mtu(struct esp_kernel *k, uint32_t call, unsigned mtu)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next)
		if (s->call == call && s->mtu != mtu) {
			s->mtu = mtu;
			k->work = true;
		}
}

void esp_kernel_hold(struct esp_kernel *k, uint32_t call, bool hold)
{
	for (struct kernel_slot *s = k->slots; s; s = s->next)
		if (s->call == call && s->held != hold) {
			s->held = hold;
			k->work = true;
		}
}

/* ---- time ---- */

static void ask_counts(struct esp_kernel *k, uint64_t now_us)
{
	bool any = false;

	for (struct kernel_slot *s = k->slots; s; s = s->next)
		for (struct kernel_sa *sa = s->sas; sa && !s->over; sa = sa->next) {
			for (int i = 0; i < KERNEL_HALVES; i++)
				sa->half[i].ask |= sa->half[i].there;
			any = true;
		}
	k->count_us = any ? now_us + ESP_KERNEL_COUNT_US : TIME_NEVER;
	k->work |= any;
}

void esp_kernel_tick(struct esp_kernel *k, uint64_t now_us)
{
	if (now_us >= k->count_us)
		ask_counts(k, now_us);
	for (struct kernel_slot *s = k->slots; s; s = s->next) {
		bool live = false;

		for (struct kernel_sa *sa = s->sas; sa && !s->over; sa = sa->next) {
			bool *receives = &sa->half[KERNEL_IN].shall;

			if (now_us >= sa->end_us && *receives) {
				*receives = false;
				k->work = true;
			}
			live |= *receives;
		}
		if (!live && !s->over)
			end(k, s);
	}
}

uint64_t esp_kernel_deadline_us(const struct esp_kernel *k)
{
	uint64_t due = k->count_us;

	if (k->news)
		return 0;
	for (const struct kernel_slot *s = k->slots; s; s = s->next)
		for (const struct kernel_sa *sa = s->sas; sa && !s->over; sa = sa->next)
			if (sa->half[KERNEL_IN].shall && sa->end_us < due)
				due = sa->end_us;
	return due;
}

/* ---- what is told ---- */

bool esp_kernel_poll_failed(struct esp_kernel *k, uint32_t *ret_call)
{
	for (struct kernel_slot *s = k->slots; k->news && s; s = s->next)
		if (s->failed && !s->failed_told && !s->forget) {
			s->failed_told = true;
			*ret_call = s->call;
			return true;
		}
	return false;
}

bool esp_kernel_poll_due(struct esp_kernel *k, struct esp_due *ret)
{
	for (struct kernel_slot *s = k->slots; k->news && s; s = s->next)
		for (struct kernel_sa *sa = s->sas; sa && !s->over; sa = sa->next) {
			bool *which = sa->due_hard ? &sa->due_hard : &sa->due_soft;

			if (!*which)
				continue;
			*ret = (struct esp_due){ .spi_in = sa->half[KERNEL_IN].spi,
						 .call = s->call,
						 .hard = sa->due_hard };
			*which = false;
			return true;
		}
	k->news = false; /* esp_kernel_poll_failed comes first */
	return false;
}

/* ---- counters ---- */

static void slot_counters(const struct kernel_slot *s, struct esp_counters *ret)
{
	esp_counters_add(ret, &s->counters);
	for (const struct kernel_sa *sa = s->sas; sa; sa = sa->next)
		kernel_add_counts(ret, sa);
}

bool esp_kernel_call_counters(const struct esp_kernel *k, uint32_t call, struct esp_counters *ret)
{
	bool any = false;

	for (const struct kernel_slot *s = k->slots; s; s = s->next)
		if (s->call == call && !s->forget) {
			slot_counters(s, ret);
			any = true;
		}
	return any;
}

void esp_kernel_counters(const struct esp_kernel *k, struct esp_counters *ret)
{
	esp_counters_add(ret, &k->gone);
	for (const struct kernel_slot *s = k->slots; s; s = s->next)
		slot_counters(s, ret);
}

/* ---- requests ---- */

/* Does the call have another place for counters? */
static bool alone(const struct esp_kernel *k, const struct kernel_slot *s)
{
	for (const struct kernel_slot *o = k->slots; o; o = o->next)
		if (o != s && o->call == s->call)
			return false;
	return true;
}

/* What shall not be, and is not there any more: else there would be a request about it. */
static void sweep(struct esp_kernel *k)
{
	for (struct kernel_slot **at = &k->slots; *at;) {
		struct kernel_slot *s = *at;

		for (struct kernel_sa *sa = s->sas, *next; sa; sa = next) {
			next = sa->next;
			if (!sa->half[KERNEL_IN].there && !sa->half[KERNEL_OUT].there &&
			    (s->over || !sa->half[KERNEL_IN].shall))
				kernel_sa_free(s, sa);
		}
		if (s->over && (s->forget || (s->failed == s->failed_told && !alone(k, s))))
			slot_free(k, at);
		else
			at = &s->next;
	}
}

bool esp_kernel_poll(struct esp_kernel *k, struct esp_kernel_request *ret)
{
	if (!k->work)
		return false;
	for (int over = 1; over >= 0; over--) /* what goes makes room for what comes */
		for (struct kernel_slot *s = k->slots; s; s = s->next)
			if (s->over == (over == 1) && kernel_request_next(s, ret))
				return true;
	sweep(k);
	k->work = false;
	return false;
}
