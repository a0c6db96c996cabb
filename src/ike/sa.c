/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ike/sa_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/secret.h"

#define BIT(s) (1u << (s))
#define OUT_ITEMS_MAX 32
#define OUT_BYTES_MAX ((size_t)8 * IKE_MSG_MAX)

static const unsigned may_enter[IKE_N_STATES] = {
	[IKE_IDLE] = BIT(IKE_INIT_SENT) | BIT(IKE_DEAD),
	[IKE_INIT_SENT] = BIT(IKE_AUTH_SENT) | BIT(IKE_DEAD),
	[IKE_AUTH_SENT] = BIT(IKE_UP) | BIT(IKE_DEAD),
	[IKE_LISTENING] = BIT(IKE_INIT_DONE) | BIT(IKE_DEAD),
	[IKE_INIT_DONE] = BIT(IKE_ASKED) | BIT(IKE_DEAD),
	[IKE_ASKED] = BIT(IKE_UP) | BIT(IKE_DEAD),
	[IKE_UP] = BIT(IKE_CLOSING) | BIT(IKE_REPLACED) | BIT(IKE_DEAD),
	[IKE_CLOSING] = BIT(IKE_DEAD),
	[IKE_REPLACED] = BIT(IKE_DEAD),
};

static const char *state_name(enum ike_state s)
{
	static const char *const names[IKE_N_STATES] = { "IDLE",  "INIT_SENT", "AUTH_SENT", "LISTENING", "INIT_DONE",
							 "ASKED", "UP",        "CLOSING",   "REPLACED",  "DEAD" };

	return names[s];
}

void ike_enter(struct ike_sa *sa, enum ike_state to, const char *why)
{
	assert(may_enter[sa->state] & BIT(to));
	log_info(&sa->log, "%s -> %s (%s)", state_name(sa->state), state_name(to), why);
	sa->state = to;
}

const char *ike_failure_name(enum ike_failure f)
{
	static const char *const names[] = {
		"none",         "time-out",     "no common algorithms", "authentication failed", "wrong fingerprint",
		"pin mismatch", "call binding", "certificate chain",    "address translator",    "post-quantum key",
		"protocol",     "internal",     "lifetime over"
	};

	return (unsigned)f <= IKE_FAIL_EXPIRED ? names[f] : "?";
}

/* ---- life ---- */

enum err ike_sa_new(const struct ike_config *cfg, struct ike_sa **ret)
{
	struct ike_sa *sa;
	uint64_t spi = 0;

	/* Refuse by default: nobody is a peer without a fingerprint or a strong secret, and a tieline peer has a pinned
	 * key and a bound call. */
	if ((!cfg->n_fingerprints && !cfg->psk.len) ||
	    (!cfg->bare && (!cfg->has_peer_key || !cfg->has_binding || cfg->psk.len)))
		return ERR_DENIED;
	if ((cfg->psk.len && cfg->psk.len < IKE_SECRET_MIN) || (cfg->ppk.len && !cfg->ppk_id[0]))
		return ERR_DENIED;
	if (cfg->n_fingerprints > 4 || cfg->n_names > IKE_GRANTS_MAX || cfg->tsi.n > IKE_TS_MAX ||
	    cfg->tsr.n > IKE_TS_MAX)
		return ERR_LIMIT;
	sa = calloc(1, sizeof(*sa));
	if (!sa)
		return ERR_NOMEM;
	sa->cfg = *cfg;
	if (!cfg->ike.n)
		ike_list_default(false, &sa->cfg.ike);
	if (!cfg->esp.n)
		ike_list_default(true, &sa->cfg.esp);
	sa->cfg.ca = NULL; /* needed while the SA is set up only */
	sa->log = cfg->log;
	sa->state = cfg->initiator ? IKE_IDLE : IKE_LISTENING;
	sa->limit_us = sa->retry_us = sa->soft_us = sa->hard_us = sa->busy_since_us = TIME_NEVER;
	sa->from_initiator = cfg->initiator;
	sa->out = outq_new(OUT_ITEMS_MAX, OUT_BYTES_MAX);
	sa->setup = calloc(1, sizeof(*sa->setup));
	if (!sa->out || !sa->setup || ike_child_room(sa) != OK) {
		ike_sa_free(sa);
		return ERR_NOMEM;
	}
	sa->setup->ca = cert_anchor_ref(cfg->ca);
	while (!spi)
		spi = rng_u64(cfg->rng);
	*(cfg->initiator ? &sa->spi_i : &sa->spi_r) = spi;
	*ret = sa;
	return OK;
}

void ike_config_done(struct ike_config *cfg)
{
	cert_anchor_free(cfg->ca);
	cfg->ca = NULL;
	secret_wipe(&cfg->psk, sizeof(cfg->psk));
	secret_wipe(&cfg->ppk, sizeof(cfg->ppk));
}

void ike_setup_free(struct ike_setup *s)
{
	if (!s)
		return;
	kex_free(s->kex);
	free(s->init_i);
	free(s->init_r);
	cert_anchor_free(s->ca);
	secret_wipe(s, sizeof(*s));
	free(s);
}

void ike_ask_free(struct ike_ask *a)
{
	free(a);
}

/* What an SA that is over does not need. The window stays: it answers duplicates. */
static void let_go(struct ike_sa *sa)
{
	ike_setup_free(sa->setup);
	sa->setup = NULL;
	ike_ask_free(sa->ask);
	sa->ask = NULL;
	ike_tasks_drop(sa);
	ike_task_free(sa->task);
	sa->task = NULL;
	ike_fragments_drop(sa);
	ike_keys_done(&sa->keys);
	while (sa->n_children)
		free(sa->children[--sa->n_children].ts);
	free(sa->room);
	sa->room = NULL;
	sa->limit_us = sa->retry_us = sa->soft_us = sa->hard_us = sa->busy_since_us = TIME_NEVER;
	if (sa->window.waiting)
		ike_window_answered(&sa->window);
}

void ike_sa_free(struct ike_sa *sa)
{
	if (!sa)
		return;
	let_go(sa);
	ike_old_free(sa);
	ike_window_done(&sa->window);
	ike_events_drop(&sa->events);
	if (!sa->is_old)
		outq_free(sa->out);
	secret_wipe(sa, sizeof(*sa));
	free(sa);
}

static void end(struct ike_sa *sa, enum ike_event_kind kind, enum ike_failure why, uint16_t notify)
{
	let_go(sa);
	sa->has_final = true;
	sa->final_kind = kind;
	sa->final_fail = why;
	sa->final_notify = notify;
}

void ike_fail(struct ike_sa *sa, enum ike_failure why, uint16_t notify)
{
	if (sa->state == IKE_DEAD)
		return;
	if (notify)
		log_warn(&sa->log, "failed: %s, notify %u", ike_failure_name(why), notify);
	ike_enter(sa, IKE_DEAD, ike_failure_name(why));
	end(sa, IKE_EV_FAILED, why, notify);
}

void ike_fail_rules(struct ike_sa *sa, uint16_t notify)
{
	if (sa->state != IKE_DEAD)
		sa->detail = "the other side sent a message that breaks the rules of IKE";
	ike_fail(sa, IKE_FAIL_PROTOCOL, notify);
}

void ike_close(struct ike_sa *sa, const char *why)
{
	if (sa->state == IKE_DEAD)
		return;
	ike_enter(sa, IKE_DEAD, why);
	end(sa, IKE_EV_CLOSED, IKE_FAIL_NONE, 0);
}

/* 2.21.1: what an unprotected message says is not believed while a right one may still come. The binding
 * is what a person must hear about, so it is not covered by another cause. */
void ike_suspect(struct ike_sa *sa, uint64_t now_us, enum ike_failure why, uint16_t notify)
{
	if (sa->suspect == IKE_FAIL_NONE || (why == IKE_FAIL_BINDING && sa->suspect != IKE_FAIL_BINDING)) {
		log_warn(&sa->log, "IKE_SA_INIT of the peer not accepted: %s", ike_failure_name(why));
		sa->suspect = why;
		sa->suspect_notify = notify;
	}
	if (sa->state == IKE_LISTENING && sa->limit_us == TIME_NEVER)
		sa->limit_us = now_us + IKE_HALF_OPEN_US;
}

enum err ike_copy(struct span s, uint8_t **ret, size_t *ret_len)
{
	uint8_t *p = malloc(s.len ? s.len : 1);

	if (!p)
		return ERR_NOMEM;
	if (s.len)
		memcpy(p, s.p, s.len);
	free(*ret);
	*ret = p;
	*ret_len = s.len;
	return OK;
}

/* ---- events ---- */

struct ike_event *ike_events_add(struct ike_events *list, enum ike_event_kind kind)
{
	struct ike_event_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->e.kind = kind;
	if (list->tail)
		list->tail->next = n;
	else
		list->head = n;
	list->tail = n;
	return &n->e;
}

static void node_free(struct ike_event_node *n)
{
	secret_wipe(n, sizeof(*n));
	free(n);
}

void ike_events_drop(struct ike_events *list)
{
	while (list->head) {
		struct ike_event_node *n = list->head;

		list->head = n->next;
		node_free(n);
	}
	list->tail = NULL;
}

/* After ike_sa_delete() the owner hears of the end only. */
void ike_events_commit(struct ike_sa *sa, struct ike_events *list)
{
	if (sa->want_delete) {
		ike_events_drop(list);
		return;
	}
	if (!list->head)
		return;
	if (sa->events.tail)
		sa->events.tail->next = list->head;
	else
		sa->events.head = list->head;
	sa->events.tail = list->tail;
	list->head = list->tail = NULL;
}

/* Keys that the owner wants and has not got, be they the first or those of a rekeying. Nothing is queued for it. */
static bool keys_due(const struct ike_sa *sa)
{
	return sa->cfg.export_keys && sa->keys.keep && sa->keys.out.cipher && !sa->want_delete &&
	       (sa->told_i != sa->spi_i || sa->told_r != sa->spi_r);
}

static void keys_tell(struct ike_sa *sa, struct ike_event *ret)
{
	*ret = (struct ike_event){
		.kind = IKE_EV_KEYS,
		.keys = { .spi_i = sa->spi_i, .spi_r = sa->spi_r, .alg = sa->keys.out.alg },
	};
	memcpy(ret->keys.key_i, sa->keys.raw_i, sizeof(ret->keys.key_i));
	memcpy(ret->keys.key_r, sa->keys.raw_r, sizeof(ret->keys.key_r));
	sa->told_i = sa->spi_i;
	sa->told_r = sa->spi_r;
}

bool ike_sa_poll_event(struct ike_sa *sa, struct ike_event *ret)
{
	struct ike_event_node *n = sa->events.head;

	if (keys_due(sa)) {
		keys_tell(sa, ret);
		return true;
	}
	if (n) {
		*ret = n->e;
		sa->events.head = n->next;
		if (!n->next)
			sa->events.tail = NULL;
		node_free(n);
		return true;
	}
	if (!sa->has_final)
		return false;
	sa->has_final = false;
	*ret = (struct ike_event){
		.kind = sa->final_kind, .fail = sa->final_fail, .notify = sa->final_notify, .detail = sa->detail
	};
	return true;
}

void ike_event_done(struct ike_event *e)
{
	secret_wipe(e, sizeof(*e));
}

/* ---- small questions ---- */

uint64_t ike_sa_spi_i(const struct ike_sa *sa)
{
	return sa->spi_i;
}

uint64_t ike_sa_spi_r(const struct ike_sa *sa)
{
	return sa->spi_r;
}

uint64_t ike_sa_local_spi(const struct ike_sa *sa)
{
	return sa->from_initiator ? sa->spi_i : sa->spi_r;
}

const char *ike_sa_state_name(const struct ike_sa *sa)
{
	return state_name(sa->state);
}

bool ike_sa_up(const struct ike_sa *sa)
{
	return sa->state == IKE_UP;
}

const struct ike_stats *ike_sa_stats(const struct ike_sa *sa)
{
	return &sa->stats;
}

/* ---- output ---- */

/* A full or failing queue is a lost datagram; retransmission is there for that. */
void ike_send(struct ike_sa *sa, const struct path *path, struct span msg)
{
	while (msg.len)
		if (outq_push(sa->out, OUT_SEND, path, ike_datagram(&msg)) == OK)
			sa->stats.n_out++;
}

bool ike_sa_poll_output(struct ike_sa *sa, struct out *ret)
{
	return outq_poll(sa->out, ret);
}

void ike_sa_set_path(struct ike_sa *sa, const struct path *path)
{
	sa->path = *path;
	sa->has_path = sa->path_set = true;
	for (unsigned i = 0; i < IKE_OLD_MAX; i++)
		if (sa->old[i])
			sa->old[i]->path = *path;
}

struct ike_header ike_header_of(const struct ike_sa *sa, uint8_t exchange, bool is_response, uint32_t id)
{
	return (struct ike_header){
		.spi_i = sa->spi_i,
		.spi_r = sa->spi_r,
		.exchange = exchange,
		.from_initiator = sa->from_initiator,
		.is_response = is_response,
		.message_id = id,
	};
}

enum err ike_in_hash(const struct ike_in *in, uint8_t ret[32])
{
	return hash_of(HASH_SHA256, in->msg, ret);
}

enum err ike_respond(struct ike_sa *sa, struct ike_build *b, const uint8_t request_hash[32], const struct path *path)
{
	struct span msg;
	enum err e = ike_seal(sa, &sa->keys, b, &msg);

	if (e == OK)
		e = ike_window_respond(&sa->window, request_hash, msg);
	if (e == OK)
		ike_send(sa, path, msg);
	return e;
}

enum err ike_respond_notify(struct ike_sa *sa, const struct ike_in *in, uint16_t type, struct span data)
{
	struct ike_header h = ike_header_of(sa, in->h.exchange, true, in->h.message_id);
	struct ike_build b;
	uint8_t mem[256], hash[32];
	enum err e = ike_in_hash(in, hash);

	if (e != OK)
		return e;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	ike_build_notify(&b, type, data);
	return ike_respond(sa, &b, hash, in->path);
}
