/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A bystander who can read, hold back and write datagrams, but has no keys: changed ones arrive before the true ones, in every
 * state. Once there are keys, nothing that he writes changes anything, and every exchange ends as it would have without him.
 * covers: src/ike/sa_run.c src/ike/sa_init.c src/ike/window.c src/ike/peek.c */
#include "ike_states.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rd records;
static unsigned n_dropped;

/* Nothing in the SA, and nothing said, but what is counted. */
static void forged(struct pair *p, int to, struct span msg)
{
	struct ike_sa *sa = p->sa[to];
	static struct ike_sa before, after;
	size_t said = outq_len(sa->out);
	bool keys = sa->keys.in.cipher != NULL;

	memcpy(&before, sa, sizeof(before));
	ike_sa_input(sa, p->now_us, &p->path[to], msg);
	memcpy(&after, sa, sizeof(after));
	memset(&before.stats, 0, sizeof(before.stats));
	memset(&after.stats, 0, sizeof(after.stats));
	if (keys && (memcmp(&before, &after, sizeof(before)) != 0 || outq_len(sa->out) != said))
		abort();
}

static bool on_the_way(struct pair *p, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct record c = { .what = rd_u8(&records), .value = rd_u8(&records), .where = rd_u16(&records) };
	uint8_t other[IKE_MSG_MAX];
	struct ike_peek k;
	size_t m;

	(void)n;
	if (records.bad || c.what % N_CHANGES == KEEP)
		return true;
	if (c.what % N_CHANGES == DROP) /* less often than a message is repeated */
		return ++n_dropped > 3;
	memcpy(other, msg, *len);
	m = states_change(c, other, *len, sizeof(other));
	/* of the first exchange a true one, too, arrives anew; the same datagram twice is answered again (2.1) */
	if (m == *len && !memcmp(other, msg, m))
		return true;
	if (ike_peek(span_of(msg, *len), &k) == OK && (k.exchange != IKE_SA_INIT || p->sa[!from]->keys.in.cipher))
		forged(p, !from, span_of(other, m));
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pair p;
	uint8_t state, flags;
	bool over;

	records = rd_of(span_of(data, size < 256 ? size : 256));
	n_dropped = 0;
	state = rd_u8(&records) % N_STATES;
	flags = rd_u8(&records);
	states_begin(&p, state, flags);
	p.filter = on_the_way;
	states_go(&p, state);
	pair_for(&p, SECONDS(40));
	states_check(&p);
	states_same_keys(&p);
	over = state == S_DELETE || state == S_DELETE_REKEY;
	if (over ? p.sa[ALICE]->state != IKE_DEAD || p.sa[BOB]->state != IKE_DEAD : !pair_up(&p))
		abort();
	pair_done(&p);
	return 0;
}
