/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "ice/gather.h"

#include <stdlib.h>
#include <string.h>

#include "base/timers.h"

#define RTO_US MS(500) /* RFC 8489, 6.2.1 */
#define RC 7
#define RETRY_US SECONDS(30) /* a silent server is asked again after that much */

struct ice_gather {
	struct rng rng;
	struct addr local, server, mapped;
	bool started, settled, waiting, known;
	uint8_t transaction[12];
	unsigned n_sent;
	uint64_t rto_us, due_us;
	struct outq *out;
};

enum err ice_gather_new(const struct rng *rng, const struct addr *local, const struct addr *server,
			struct ice_gather **ret)
{
	struct ice_gather *g = calloc(1, sizeof(*g));

	if (!g)
		return ERR_NOMEM;
	g->rng = *rng;
	g->local = *local;
	g->server = *server;
	g->due_us = TIME_NEVER;
	g->out = outq_new(16, 4096);
	if (!g->out) {
		ice_gather_free(g);
		return ERR_NOMEM;
	}
	*ret = g;
	return OK;
}

void ice_gather_free(struct ice_gather *g)
{
	if (!g)
		return;
	outq_free(g->out);
	free(g);
}

static void send_request(struct ice_gather *g)
{
	uint8_t mem[64];
	struct wr w = wr_of(mem, sizeof(mem));
	struct path path = { .transport = TRANSPORT_UDP, .local = g->local, .remote = g->server };

	stun_begin(&w, STUN_REQUEST, STUN_BINDING, g->transaction);
	if (stun_finish(&w, SPAN_NONE, true) == OK)
		(void)!outq_push(g->out, OUT_SEND, &path, wr_done(&w));
	g->n_sent++;
}

static void ask(struct ice_gather *g, uint64_t now_us)
{
	rng_fill(&g->rng, g->transaction, sizeof(g->transaction));
	g->waiting = true;
	g->n_sent = 0;
	g->rto_us = RTO_US;
	send_request(g);
	g->due_us = now_us + g->rto_us;
}

void ice_gather_start(struct ice_gather *g, uint64_t now_us)
{
	g->started = true;
	ask(g, now_us);
}

bool ice_gather_owns(const struct ice_gather *g, const struct stun_msg *m, const struct addr *from)
{
	return g->waiting && (m->cls == STUN_SUCCESS || m->cls == STUN_ERROR) && addr_eq(from, &g->server) &&
	       !memcmp(m->transaction, g->transaction, sizeof(g->transaction));
}

void ice_gather_input(struct ice_gather *g, uint64_t now_us, const struct stun_msg *m)
{
	const struct stun_attr *x = stun_find(m, STUN_XOR_MAPPED_ADDRESS);
	struct addr mapped;

	g->known = m->cls == STUN_SUCCESS && x && stun_attr_addr(m, x, &mapped) == OK &&
		   mapped.family == g->local.family && mapped.port && !addr_is_any(&mapped) &&
		   !addr_is_multicast(&mapped);
	if (g->known)
		g->mapped = mapped;
	g->waiting = false;
	g->settled = true;
	g->due_us = now_us + MS(ICE_GATHER_KEEPALIVE_MS);
}

void ice_gather_tick(struct ice_gather *g, uint64_t now_us)
{
	if (!g->started || now_us < g->due_us)
		return;
	if (!g->waiting) {
		ask(g, now_us);
	} else if (g->n_sent < RC) {
		send_request(g);
		g->rto_us *= 2;
		g->due_us = now_us + g->rto_us;
	} else { /* nobody there: what we knew may be gone */
		g->waiting = g->known = false;
		g->settled = true;
		g->due_us = now_us + RETRY_US;
	}
}

uint64_t ice_gather_deadline_us(const struct ice_gather *g)
{
	return g->started ? g->due_us : TIME_NEVER;
}

bool ice_gather_poll_output(struct ice_gather *g, struct out *ret)
{
	return outq_poll(g->out, ret);
}

bool ice_gather_mapped(const struct ice_gather *g, struct addr *ret, struct addr *ret_base)
{
	if (!g->known)
		return false;
	*ret = g->mapped;
	*ret_base = g->local;
	return true;
}

bool ice_gather_settled(const struct ice_gather *g)
{
	return g->settled;
}
