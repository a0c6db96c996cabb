/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/vpn.c - life, bytes out, time, accounts, queues. */
#include "vpn/vpn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"
#include "vpn/impl.h"

/* ---- queues: bounded by what max-calls calls can cause between two drains ---- */

void vpn_want(struct vpn *v, const struct vpn_want *w)
{
	struct want_queue *q = &v->wants;

	if (q->n == q->cap) {
		log_error(&v->log, "the host does not take what it is asked for; a request is lost");
		return;
	}
	q->w[(q->head + q->n++) % q->cap] = *w;
}

bool vpn_poll_want(struct vpn *v, struct vpn_want *ret)
{
	struct want_queue *q = &v->wants;

	if (!q->n)
		return false;
	*ret = q->w[q->head];
	q->head = (q->head + 1) % q->cap;
	q->n--;
	return true;
}

void vpn_tell(struct vpn *v, const struct vpn_event *e)
{
	struct event_queue *q = &v->events;

	if (q->n == q->cap) {
		log_error(&v->log, "the host does not take its events; one is lost");
		return;
	}
	q->e[(q->head + q->n++) % q->cap] = *e;
}

bool vpn_poll_event(struct vpn *v, struct vpn_event *ret)
{
	struct event_queue *q = &v->events;

	if (!q->n)
		return false;
	*ret = q->e[q->head];
	if (ret->kind == VPN_EV_KEYS)
		vpn_event_done(&q->e[q->head]);
	q->head = (q->head + 1) % q->cap;
	q->n--;
	return true;
}

struct vpn_event vpn_event_of(const struct call *c, uint64_t now_us, enum vpn_event_kind kind)
{
	struct vpn_event e = { .kind = kind,
			       .account = c->account,
			       .call = c->id,
			       .owner = c->owner,
			       .t_ms = (uint32_t)((now_us - c->began_us) / 1000),
			       .has_key = c->has_key,
			       .level = c->level };

	memcpy(e.peer, c->peer, sizeof(e.peer));
	memcpy(e.key, c->key, sizeof(e.key));
	return e;
}

void vpn_say(struct vpn *v, const struct call *c, uint64_t now_us, enum vpn_event_kind kind)
{
	struct vpn_event e = vpn_event_of(c, now_us, kind);

	vpn_tell(v, &e);
}

void vpn_audit(struct vpn *v, const struct call *c, const char *fmt, ...)
{
	struct vpn_want w = { .kind = VPN_WANT_AUDIT, .call = c->id };
	char key[KEY_TEXT] = "-";
	va_list args;
	int n;

	if (c->has_key)
		key_text(c->key, key);
	n = snprintf(w.text, sizeof(w.text), "call %u %s %.120s %s: ", c->id, c->outgoing ? "to" : "from", c->peer,
		     key);
	va_start(args, fmt);
	if (n > 0 && (size_t)n < sizeof(w.text))
		(void)vsnprintf(w.text + n, sizeof(w.text) - (size_t)n, fmt, args);
	va_end(args);
	vpn_want(v, &w);
}

/* ---- life ---- */

int64_t vpn_wall_s(const struct vpn *v)
{
	return v->env.wall_s(v->env.arg);
}

static enum err make_parts(struct vpn *v, const struct vpn_env *env, const struct config *cfg)
{
	struct sip_ua_config ua = { .rng = env->rng, .log = env->log, .max_calls = cfg->max_calls + 8 };
	struct esp_plane_config esp = { .rng = env->rng,
					.log = log_of(env->log, "esp", ""),
					.max_sas = cfg->max_calls * 2 *
						   IKE_CHILDREN_MAX, /* with those that are replaced */
					.max_flows = 32768 }; /* with what their table takes: 3 MiB */
	enum err e;

	memcpy(esp.self, v->self, sizeof(esp.self));
	v->wants.cap = 64 + 8 * cfg->max_calls;
	v->events.cap = 64 + 8 * cfg->max_calls;
	v->wants.w = calloc(v->wants.cap, sizeof(*v->wants.w));
	v->events.e = calloc(v->events.cap, sizeof(*v->events.e));
	v->sdp = calloc(1, sizeof(*v->sdp));
	v->sdp_other = calloc(1, sizeof(*v->sdp_other));
	v->media = calloc(1, sizeof(*v->media));
	v->words = outq_new(256, 256 * 1024);
	v->probes = outq_new(64, 128 * 1024);
	if (!v->wants.w || !v->events.e || !v->sdp || !v->sdp_other || !v->media || !v->words || !v->probes)
		return ERR_NOMEM;
	e = sip_ua_new(&ua, &v->ua);
	if (e == OK)
		e = esp_set_new(&esp, env->shards ? env->shards : 1, &env->shard_hooks, &v->esp);
	if (e == OK)
		e = ike_cookies_new(env->rng, &v->cookies);
	return e == OK ? replay_new(env->rng, &v->replay) : e;
}

static void destroy(struct vpn *v)
{
	while (v->calls) {
		struct call *c = v->calls;

		v->calls = c->next;
		call_free(c);
	}
	for (unsigned i = 0; i < v->n_gathers; i++)
		ice_gather_free(v->gathers[i]);
	sip_ua_free(v->ua);
	esp_set_free(v->esp);
	ike_cookies_free(v->cookies);
	replay_free(v->replay);
	free(v->contacts);
	outq_free(v->words);
	outq_free(v->probes);
	free(v->wants.w);
	for (struct vpn_event e; v->events.e && vpn_poll_event(v, &e);)
		vpn_event_done(&e);
	free(v->events.e);
	free(v->sdp);
	free(v->sdp_other);
	free(v->media);
	free(v);
}

enum err vpn_new(const struct vpn_env *env, struct config *cfg, struct trust *trust, const struct identity *identity,
		 struct vpn **ret)
{
	struct vpn *v = calloc(1, sizeof(*v));
	enum err e;

	if (!v)
		return ERR_NOMEM;
	v->env = *env;
	v->log = log_of(env->log, "vpn", "");
	v->identity = identity;
	v->next_call = 1;
	v->started_s = vpn_wall_s(v);
	e = spki_hash(identity_spki(identity), v->key);
	if (e == OK)
		e = spki_address(identity_spki(identity), v->self);
	if (e == OK)
		e = hash_of(HASH_SHA256, identity_cert(identity), v->cert_hash);
	if (e == OK)
		e = make_parts(v, env, cfg);
	if (e != OK) {
		destroy(v);
		return e;
	}
	v->cfg = cfg;
	v->trust = trust;
	for (unsigned i = 0; i < cfg->n_accounts; i++)
		v->accounts[i].cfg = &cfg->accounts[i];
	*ret = v;
	return OK;
}

void vpn_free(struct vpn *v)
{
	if (!v)
		return;
	trust_free(v->trust);
	config_free(v->cfg);
	destroy(v);
}

void vpn_tag(const struct vpn *v, struct call *c)
{
	char tag[96];

	(void)snprintf(tag, sizeof(tag), "%.80s#%u", c->peer[0] ? c->peer + 4 : "?", c->id);
	c->log = log_of(v->env.log, "vpn", tag);
}

struct call *vpn_call_new(struct vpn *v, uint64_t now_us, unsigned account, bool outgoing)
{
	struct call *c = calloc(1, sizeof(*c)), **end = &v->calls;

	if (!c)
		return NULL;
	c->vpn = v;
	c->id = v->next_call++;
	c->account = account;
	c->outgoing = outgoing;
	c->began_us = now_us;
	c->since_s = vpn_wall_s(v);
	c->deadline_us = c->choose_us = c->give_up_us = c->stale_us = c->plane_due_us = TIME_NEVER;
	vpn_tag(v, c);
	while (*end)
		end = &(*end)->next;
	*end = c;
	return c;
}

struct call *vpn_call_find(struct vpn *v, unsigned id)
{
	for (struct call *c = v->calls; c; c = c->next)
		if (c->id == id && call_live(c))
			return c;
	return NULL;
}

unsigned vpn_calls_active(const struct vpn *v)
{
	unsigned n = 0;

	for (const struct call *c = v->calls; c; c = c->next)
		n += call_live(c);
	return n;
}

/* ---- what the host knows ---- */

static void gather_for(struct vpn *v, uint64_t now_us, const struct addr *local, const struct addr *server)
{
	struct ice_gather *g;

	if (local->family != server->family || v->n_gathers == GATHERS_MAX)
		return;
	for (unsigned i = 0; i < v->n_gathers; i++)
		if (addr_eq(&v->gather_local[i], local) && addr_eq(&v->gather_server[i], server))
			return;
	if (ice_gather_new(v->env.rng, local, server, &g) != OK) {
		log_warn(&v->log, "no memory to learn our public address");
		return;
	}
	v->gather_local[v->n_gathers] = *local;
	v->gather_server[v->n_gathers] = *server;
	v->gathers[v->n_gathers++] = g;
	ice_gather_start(g, now_us);
}

static bool gather_wanted(const struct vpn *v, unsigned i)
{
	bool local = false, server = false;

	for (unsigned k = 0; k < v->n_locals; k++)
		local |= addr_eq(&v->locals[k], &v->gather_local[i]);
	for (unsigned k = 0; k < v->cfg->n_accounts; k++)
		server |= addr_eq(&v->accounts[k].stun, &v->gather_server[i]);
	return local && server;
}

static void gather_all(struct vpn *v, uint64_t now_us)
{
	for (unsigned i = v->n_gathers; i-- > 0;)
		if (!gather_wanted(v, i)) {
			ice_gather_free(v->gathers[i]);
			v->n_gathers--;
			v->gathers[i] = v->gathers[v->n_gathers];
			v->gather_local[i] = v->gather_local[v->n_gathers];
			v->gather_server[i] = v->gather_server[v->n_gathers];
		}
	for (unsigned a = 0; a < v->cfg->n_accounts; a++)
		for (unsigned k = 0; v->accounts[a].stun.family != ADDR_NONE && k < v->n_locals; k++)
			gather_for(v, now_us, &v->locals[k], &v->accounts[a].stun);
}

/* One answer in each family is enough: a network without a way to the server must not delay calls. */
static bool gathered(const struct vpn *v, enum addr_family family)
{
	bool all = true;

	for (unsigned i = 0; i < v->n_gathers; i++) {
		struct addr mapped, base;

		if (v->gather_local[i].family != family)
			continue;
		if (ice_gather_mapped(v->gathers[i], &mapped, &base))
			return true;
		all &= ice_gather_settled(v->gathers[i]);
	}
	return all;
}

bool vpn_gathered(const struct vpn *v)
{
	return gathered(v, ADDR_IP4) && gathered(v, ADDR_IP6);
}

void vpn_set_locals(struct vpn *v, uint64_t now_us, const struct addr *locals, unsigned n)
{
	v->n_locals = n < LOCALS_MAX ? n : LOCALS_MAX;
	memcpy(v->locals, locals, v->n_locals * sizeof(*locals));
	gather_all(v, now_us);
	move_locals(v, now_us);
}

void vpn_set_server(struct vpn *v, uint64_t now_us, unsigned account, const struct addr *server,
		    const struct addr *stun, const struct addr *local)
{
	struct account *a;

	if (account >= v->cfg->n_accounts)
		return;
	a = &v->accounts[account];
	a->server = *server;
	a->stun = *stun;
	a->local = *local;
	gather_all(v, now_us);
	if (a->sip) {
		sip_ua_account_rebind(v->ua, now_us, a->sip, local, server);
	} else {
		struct sip_account_config cfg = { .aor = a->cfg->aor,
						  .user = a->cfg->user,
						  .password = a->cfg->password,
						  .server = *server,
						  .transport = a->cfg->server.transport,
						  .insecure_digest = a->cfg->insecure_digest };

		if (sip_ua_account_add(v->ua, now_us, &cfg, local, &a->sip) != OK)
			log_error(&v->log, "cannot register %s", a->cfg->aor);
	}
	vpn_tick(v, now_us);
}

/* ---- time ---- */

static void sip_events(struct vpn *v, uint64_t now_us)
{
	struct sip_event e;

	while (sip_ua_poll_event(v->ua, &e))
		call_sip_event(v, now_us, &e);
}

static void sweep(struct vpn *v)
{
	for (struct call **at = &v->calls; *at;) {
		struct call *c = *at;

		if (c->state == CALL_CLOSING && !c->sa) {
			*at = c->next;
			call_free(c);
		} else {
			at = &c->next;
		}
	}
}

void vpn_tick(struct vpn *v, uint64_t now_us)
{
	sip_ua_tick(v->ua, now_us);
	sip_events(v, now_us);
	for (unsigned i = 0; i < v->n_gathers; i++)
		ice_gather_tick(v->gathers[i], now_us);
	esp_set_tick(v->esp, now_us);
	mtu_echoes(v, now_us);
	plane_failures(v, now_us);
	grant_due(v, now_us);
	for (struct call *c = v->calls; c; c = c->next) {
		tunnel_tick(v, c, now_us);
		call_tick(v, c, now_us);
	}
	sip_events(v, now_us);
	sweep(v);
}

static void earlier(uint64_t *due, uint64_t t)
{
	if (t < *due)
		*due = t;
}

uint64_t vpn_deadline_us(const struct vpn *v)
{
	uint64_t due = sip_ua_deadline_us(v->ua);

	for (unsigned i = 0; i < v->n_gathers; i++)
		earlier(&due, ice_gather_deadline_us(v->gathers[i]));
	earlier(&due, esp_set_deadline_us(v->esp));
	for (const struct call *c = v->calls; c; c = c->next) {
		earlier(&due, call_deadline_us(c));
		if (c->ice)
			earlier(&due, ice_agent_deadline_us(c->ice));
		if (call_live(c))
			earlier(&due, pmtu_deadline_us(&c->mtu));
		if (c->sa)
			earlier(&due, ike_sa_deadline_us(c->sa));
		for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
			if (c->half_open[i])
				earlier(&due, ike_sa_deadline_us(c->half_open[i]));
	}
	return due;
}

/* ---- bytes out: IKE before SIP, so that a DELETE leaves before the BYE ---- */

bool vpn_poll_output(struct vpn *v, enum vpn_channel *ret_channel, struct out *ret)
{
	*ret_channel = VPN_IKE;
	for (struct call *c = v->calls; c; c = c->next) {
		if (c->sa && ike_sa_poll_output(c->sa, ret))
			return true;
		for (unsigned i = 0; i < CALL_HALF_OPEN_MAX; i++)
			if (c->half_open[i] && ike_sa_poll_output(c->half_open[i], ret))
				return true;
	}
	if (outq_poll(v->words, ret))
		return true;
	*ret_channel = VPN_STUN;
	if (outq_poll(v->probes, ret))
		return true;
	for (struct call *c = v->calls; c; c = c->next)
		if (c->ice && ice_agent_poll_output(c->ice, ret))
			return true;
	for (unsigned i = 0; i < v->n_gathers; i++)
		if (ice_gather_poll_output(v->gathers[i], ret))
			return true;
	*ret_channel = VPN_SIP;
	return sip_ua_poll_output(v->ua, ret);
}

/* ---- users ---- */

static unsigned account_of(const struct vpn *v, const char *from)
{
	char aor[CFG_AOR_MAX];

	if (!from)
		return 0;
	if (sdp_aor_normal(span_str(from), aor, sizeof(aor)) != OK)
		return CFG_ACCOUNTS_MAX;
	for (unsigned i = 0; i < v->cfg->n_accounts; i++)
		if (!strcmp(v->cfg->accounts[i].aor, aor))
			return i;
	return CFG_ACCOUNTS_MAX;
}

enum err vpn_call(struct vpn *v, uint64_t now_us, const struct vpn_call_request *r, unsigned *ret_call)
{
	unsigned account = account_of(v, r->from);
	char aor[CFG_AOR_MAX];
	struct call *c;

	if (sdp_aor_normal(span_str(r->to), aor, sizeof(aor)) != OK ||
	    (r->service && strlen(r->service) > CFG_NAME_MAX))
		return ERR_MALFORMED;
	if (account >= v->cfg->n_accounts)
		return ERR_NOTFOUND;
	if (r->export_keys && !v->cfg->export_keys)
		return ERR_DENIED;
	if (vpn_calls_active(v) >= v->cfg->max_calls || v->going)
		return ERR_LIMIT;
	c = vpn_call_new(v, now_us, account, true);
	if (!c)
		return ERR_NOMEM;
	memcpy(c->peer, aor, sizeof(aor));
	vpn_tag(v, c);
	if (r->service)
		(void)snprintf(c->service, sizeof(c->service), "%s", r->service);
	c->named = r->service != NULL;
	c->trust_first = r->trust_first;
	c->export_keys = r->export_keys;
	c->timeout_given = r->timeout_s != 0;
	c->timeout_s = r->timeout_s ? r->timeout_s : v->cfg->accounts[account].ring_s;
	c->local_port = r->local_port;
	c->owner = r->owner;
	c->state = CALL_PENDING;
	c->request = rng_u32(v->env.rng) | 1;
	*ret_call = c->id;
	call_tick(v, c, now_us);
	vpn_tick(v, now_us);
	return OK;
}

enum err vpn_hangup(struct vpn *v, uint64_t now_us, unsigned call)
{
	struct call *c = vpn_call_find(v, call);

	if (!c)
		return ERR_NOTFOUND;
	call_end(v, c, now_us, REASON_OK, "hung up");
	vpn_tick(v, now_us);
	return OK;
}

void vpn_hangup_all(struct vpn *v, uint64_t now_us)
{
	v->going = true;
	for (struct call *c = v->calls; c; c = c->next)
		if (call_live(c))
			call_end(v, c, now_us, REASON_OK, "the daemon is going");
	for (unsigned i = 0; i < v->cfg->n_accounts; i++)
		if (v->accounts[i].sip) {
			sip_ua_account_remove(v->ua, now_us, v->accounts[i].sip);
			v->accounts[i].sip = 0;
		}
	vpn_tick(v, now_us);
}

bool vpn_idle(const struct vpn *v)
{
	for (const struct call *c = v->calls; c; c = c->next)
		if (!c->lingers)
			return false;
	return sip_ua_quiet(v->ua);
}

enum err vpn_trust_changed(struct vpn *v, uint64_t now_us)
{
	struct vpn_want save = { .kind = VPN_WANT_SAVE_PINS };

	vpn_want(v, &save);
	for (struct call *c = v->calls; c; c = c->next)
		if (call_live(c))
			grant_recheck(v, c, now_us);
	vpn_tick(v, now_us);
	return OK;
}

enum err vpn_reload(struct vpn *v, uint64_t now_us, struct config *cfg, struct trust *trust)
{
	/* Accounts and the daemon's own settings are bound to sockets and registrations: they need a restart. */
	if (cfg->n_accounts != v->cfg->n_accounts || cfg->port != v->cfg->port || cfg->max_calls > v->cfg->max_calls)
		return ERR_DENIED;
	for (unsigned i = 0; i < cfg->n_accounts; i++)
		if (strcmp(cfg->accounts[i].aor, v->cfg->accounts[i].aor) ||
		    strcmp(cfg->accounts[i].server.host, v->cfg->accounts[i].server.host))
			return ERR_DENIED;
	for (struct call *c = v->calls; c; c = c->next)
		if (call_live(c) && c->state != CALL_PENDING &&
		    !proof_stands(c, config_peer(v->cfg, c->peer), config_peer(cfg, c->peer)))
			call_end(v, c, now_us, REASON_REVOKED, NULL);
	config_free(v->cfg);
	trust_free(v->trust);
	v->cfg = cfg;
	v->trust = trust;
	for (unsigned i = 0; i < cfg->n_accounts; i++)
		v->accounts[i].cfg = &cfg->accounts[i];
	return vpn_trust_changed(v, now_us);
}

struct esp_set *vpn_data(struct vpn *v)
{
	return v->esp;
}
