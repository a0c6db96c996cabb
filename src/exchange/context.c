/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/context.c - one forwarded request and all its branches (RFC 3261, 16.2): the best answer, the second that a
 * stranger waits, timer C, and the end. */
#include <stdlib.h>
#include <string.h>

#include "exchange/impl.h"

static void fired(void *arg, uint64_t now_us);

struct context *context_new(struct exchange *x, uint64_t now_us, struct sip_txn *server, int caller)
{
	struct context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct context){
		.own = OWN_CONTEXT, .x = x, .server = server, .caller = caller, .best_rank = UINT32_MAX
	};
	c->absent_us = now_us + EXCHANGE_ABSENT_US;
	c->give_up_us = now_us + TIMER_C_US;
	c->timer.fire = fired;
	c->timer.arg = c;
	if (timer_arm(x->timers, &c->timer, c->give_up_us) != OK) {
		free(c);
		return NULL;
	}
	sip_txn_set_owner(server, c);
	c->next = x->contexts;
	if (c->next)
		c->next->prev = c;
	x->contexts = c;
	x->n_contexts++;
	if (caller >= 0)
		x->locations[caller].n_pending++;
	return c;
}

/* The caller may have another one under way. */
static void not_pending(struct context *c)
{
	if (c->caller >= 0)
		c->x->locations[c->caller].n_pending--;
	c->caller = -1;
}

static void context_free(struct context *c)
{
	struct exchange *x = c->x;

	not_pending(c);
	timer_disarm(x->timers, &c->timer);
	if (c->prev)
		c->prev->next = c->next;
	else
		x->contexts = c->next;
	if (c->next)
		c->next->prev = c->prev;
	for (unsigned i = 0; i < c->n; i++)
		free(c->b[i].uri);
	free(c->best_bytes);
	free(c);
	x->n_contexts--;
}

void contexts_free(struct exchange *x)
{
	while (x->contexts)
		context_free(x->contexts);
}

/* ---- the best answer ---- */

/* 16.7 (6): 6xx, else the lowest class, within 4xx those that say how to do better. Lower is better. */
static unsigned rank(unsigned status)
{
	static const unsigned telling[] = { 401, 407, 415, 420, 484 };

	if (status >= 600)
		return 0;
	for (unsigned i = 0; i < sizeof(telling) / sizeof(telling[0]); i++)
		if (status == telling[i])
			return 400;
	switch (status) {
	case 480: return 420; /* says less than any other device's answer */
	case 487: return 425; /* our own CANCEL's doing */
	case 408: return 430;
	default: return status < 400 ? 300 : status < 500 ? 410 : 500;
	}
}

void context_consider(struct context *c, unsigned status, struct span bytes)
{
	unsigned r = rank(status);
	uint8_t *copy = NULL;

	if (r >= c->best_rank)
		return;
	/* Without memory for its bytes an answer of ours says the same with less. */
	if (bytes.len && (copy = malloc(bytes.len)))
		memcpy(copy, bytes.p, bytes.len);
	free(c->best_bytes);
	c->best_bytes = copy;
	c->best_len = copy ? bytes.len : 0;
	c->best_rank = r;
	c->best = status;
}

static bool all_final(const struct context *c)
{
	for (unsigned i = 0; i < c->n; i++)
		if (!c->b[i].final)
			return false;
	return true;
}

static bool through(const struct context *c)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->b[i].txn)
			return false;
	return !c->server;
}

/* docs/exchange.md: nobody there, a device that does not know the caller, a device that is not reached any more, and either of
 * them with a caller who gave up, are two answers of ours, and none before its time. */
static bool is_absent(const struct context *c, unsigned *status)
{
	if (!c->is_call)
		return false;
	if (c->cancelled && (*status == 480 || *status == 487 || *status == 408)) {
		*status = 487;
		return true;
	}
	return *status == 480;
}

static void answer_final(struct context *c, uint64_t now_us, unsigned status, bool own)
{
	c->answered = true;
	if (!own && c->best_bytes &&
	    sip_txn_respond(c->server, now_us, status, span_of(c->best_bytes, c->best_len)) == OK)
		return;
	if (!answer_txn(c->x, now_us, c->server, status, NULL))
		c->server = NULL;
}

static void arm(struct context *c, uint64_t due_us)
{
	enum err e = timer_arm(c->x->timers, &c->timer, due_us);

	(void)e; /* armed from the beginning: that takes no memory */
}

void context_check(struct context *c, uint64_t now_us)
{
	if (c->server && !c->answered && all_final(c)) {
		unsigned status = c->best ? c->best : 480;
		bool absent = is_absent(c, &status);

		if (absent && now_us < c->absent_us) {
			arm(c, c->absent_us);
			return;
		}
		answer_final(c, now_us, status, absent);
	}
	if (c->answered)
		not_pending(c);
	if (through(c))
		context_free(c);
	else
		arm(c, all_final(c) ? TIME_NEVER : c->give_up_us);
}

/* ---- ends ---- */

void context_cancel(struct context *c, uint64_t now_us)
{
	if (c->answered || c->cancelled || !c->server)
		return;
	c->cancelled = true;
	branches_cancel(c, now_us);
	context_check(c, now_us);
}

/* Branches that nobody answers any more. */
void context_abandon(struct context *c, uint64_t now_us)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct branch *b = &c->b[i];

		if (b->final)
			continue;
		b->final = true;
		if (b->txn)
			sip_txn_forget(b->txn);
		b->txn = NULL;
		context_consider(c, 408, SPAN_NONE);
	}
	context_check(c, now_us);
}

static void fired(void *arg, uint64_t now_us)
{
	struct context *c = arg;
	bool cancelling = false;

	if (all_final(c) || now_us < c->give_up_us) {
		context_check(c, now_us);
		return;
	}
	for (unsigned i = 0; i < c->n; i++)
		cancelling |= c->b[i].cancel_wanted && !c->b[i].final;
	if (cancelling || !c->server || sip_txn_method(c->server) != SIP_INVITE) {
		context_abandon(c, now_us);
		return;
	}
	c->give_up_us = TIME_NEVER; /* timer C (16.8); branches_cancel() sets the end */
	branches_cancel(c, now_us);
	context_check(c, now_us);
}

void context_stream_lost(struct exchange *x, uint64_t now_us, uint64_t stream)
{
	for (struct context *c = x->contexts, *next; c; c = next) {
		next = c->next;
		/* The caller can hear no answer any more: nobody need ring for it. */
		if (c->server && sip_txn_path(c->server)->transport != TRANSPORT_UDP &&
		    sip_txn_path(c->server)->stream == stream)
			context_cancel(c, now_us);
	}
}

void context_event(struct exchange *x, uint64_t now_us, const struct sip_txn_event *e)
{
	struct branch *b = e->owner;
	struct context *c = e->owner;

	(void)x;
	if (*(const enum owner *)e->owner == OWN_CONTEXT) {
		if (e->kind != SIP_TXN_ENDED)
			return; /* an ACK, or that none came: the device has its own (16.7, 17.2.1) */
		c->server = NULL;
		c->answered = true;
		context_check(c, now_us);
		return;
	}
	switch (e->kind) {
	case SIP_TXN_RESPONSE: branch_response(b, now_us, e->msg); break;
	case SIP_TXN_TIMEOUT: branch_failed(b, now_us, 408); break;
	case SIP_TXN_FAILED:
		branch_failed(b, now_us, 480); /* its connection went: the device is not there */
		break;
	case SIP_TXN_ENDED:
		b->txn = NULL;
		if (b->final)
			context_check(b->ctx, now_us);
		else
			branch_failed(b, now_us, 408);
		break;
	default: break;
	}
}
