/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* When keys are to be made anew (RFC 7296, 2.8). Each side keeps its own lifetimes. The one who made the SA begins at
 * the lifetime less up to a tenth of it, so that both rarely begin at once; the other one an eighth later, if
 * nothing has happened. At 5/4 and a minute the SA ends, which leaves room for all retransmissions. */
#include "ike/sa_impl.h"

static uint64_t jitter_us(const struct ike_sa *sa, uint32_t life_s)
{
	return MS((uint64_t)rng_below(sa->cfg.rng, life_s * 100 + 1));
}

static void begin(const struct ike_sa *sa, uint64_t now_us, uint32_t life_s, bool we_initiated, uint64_t *ret_soft,
		  uint64_t *ret_hard)
{
	uint64_t life = SECONDS((uint64_t)life_s);

	*ret_soft = *ret_hard = TIME_NEVER;
	if (!life_s)
		return;
	*ret_soft = now_us + life + (we_initiated ? 0 : life / 8) - jitter_us(sa, life_s);
	*ret_hard = now_us + life + life / 4 + SECONDS(60);
}

void ike_life_begin(struct ike_sa *sa, uint64_t now_us, bool we_initiated)
{
	begin(sa, now_us, sa->cfg.ike_life_s, we_initiated, &sa->soft_us, &sa->hard_us);
}

void ike_child_life_begin(struct ike_sa *sa, uint64_t now_us, struct ike_child_sa *c)
{
	begin(sa, now_us, sa->cfg.child_life_s, c->we_initiated, &c->soft_us, &c->hard_us);
}

void ike_disown(struct ike_sa *sa, uint16_t notify)
{
	struct ike_header h = ike_header_of(sa, IKE_INFORMATIONAL, false, sa->window.next_out);
	uint8_t mem[256];
	struct ike_build b;
	struct span msg;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	if (notify)
		ike_build_notify(&b, notify, SPAN_NONE);
	ike_build_delete_ike(&b);
	if (ike_seal(sa, &sa->keys, &b, &msg) == OK)
		ike_send(sa, &sa->path, msg);
}

void ike_give_up(struct ike_sa *sa, enum ike_failure why, uint16_t notify)
{
	ike_disown(sa, 0);
	ike_fail(sa, why, notify);
}

static uint64_t child_due(const struct ike_child_sa *c)
{
	if (c->deleting)
		return TIME_NEVER;
	return !c->replaced && c->soft_us < c->hard_us ? c->soft_us : c->hard_us;
}

static uint64_t busy_due(const struct ike_sa *sa)
{
	return sa->busy_since_us == TIME_NEVER ? TIME_NEVER : sa->busy_since_us + IKE_BUSY_MAX_US;
}

uint64_t ike_life_deadline_us(const struct ike_sa *sa)
{
	uint64_t due;

	if (sa->state != IKE_UP || sa->want_delete || sa->retry_us != TIME_NEVER)
		return TIME_NEVER;
	due = sa->soft_us < sa->hard_us ? sa->soft_us : sa->hard_us;
	if (busy_due(sa) < due)
		due = busy_due(sa);
	for (unsigned i = 0; i < sa->n_children; i++)
		if (child_due(&sa->children[i]) < due)
			due = child_due(&sa->children[i]);
	return due;
}

/* One that was replaced goes alone, whatever carries its grant now. */
static enum err child_end(struct ike_sa *sa, uint64_t now_us, struct ike_child_sa *c)
{
	struct ike_task *t;
	enum err e;

	log_info(&sa->log, "lifetime of Child SA %08x is over", c->spi_in);
	if (!c->replaced)
		return ike_sa_child_delete(sa, now_us, c->spi_in);
	e = ike_task_add(sa, IKE_TASK_CHILD_DELETE, &t);
	if (e == OK)
		ike_delete_queue(c, t);
	return e;
}

void ike_life_tick(struct ike_sa *sa, uint64_t now_us)
{
	enum err e = OK;

	if (sa->state != IKE_UP || sa->want_delete || sa->retry_us != TIME_NEVER)
		return;
	if (now_us >= sa->hard_us) {
		ike_give_up(sa, IKE_FAIL_EXPIRED, 0);
		return;
	}
	if (now_us >= busy_due(sa)) { /* 2.25: both sides do not hold the same any more */
		ike_give_up(sa, IKE_FAIL_PROTOCOL, IKE_N_TEMPORARY_FAILURE);
		return;
	}
	if (now_us >= sa->soft_us)
		e = ike_sa_rekey(sa, now_us);
	for (unsigned i = 0; i < sa->n_children && e == OK; i++) {
		struct ike_child_sa *c = &sa->children[i];

		if (now_us < child_due(c))
			continue;
		e = now_us >= c->hard_us ? child_end(sa, now_us, c) : ike_sa_child_rekey(sa, now_us, c->spi_in);
		c->soft_us = TIME_NEVER;
	}
	if (e != OK) /* no memory, or too many requests wait */
		sa->retry_us = now_us + IKE_RETRY_US;
}
