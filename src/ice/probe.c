/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ice/probe.c - checks of a certain size on the selected pair: what the path carries (docs/protocol.md). Any agent answers them,
 * for it ignores an attribute that it need not understand (RFC 8489, 14). */
#include <string.h>

#include "ice/agent_impl.h"

#define FINISH 32 /* MESSAGE-INTEGRITY and FINGERPRINT, which stun_finish() adds */

enum err ice_agent_probe(struct ice_agent *a, unsigned size)
{
	uint8_t mem[ICE_PROBE_MAX], padding[ICE_PROBE_MAX];
	struct ice_probe *at;
	struct path path;
	struct wr w = wr_of(mem, sizeof(mem));
	size_t len;

	if (a->selected == ICE_NO_PAIR || size % 4 || size > ICE_PROBE_MAX)
		return ERR_WRONG_STATE;
	path = ice_pair_path(&a->pairs[a->selected]);
	at = &a->probes[a->probe_at++ % ICE_PROBES_OPEN];
	rng_fill(a->cfg.rng, at->transaction, sizeof(at->transaction));
	ice_check_write(a, &a->pairs[a->selected], at->transaction, false, &w);
	len = (path.remote.family == ADDR_IP6 ? 48u : 28u) + w.len + 4 + FINISH; /* with IP and UDP */
	if (w.bad || size < len)
		return ERR_LIMIT;
	rng_fill(a->cfg.rng, padding, size - len); /* nothing on the way makes it shorter */
	stun_put(&w, STUN_TIELINE_PADDING, span_of(padding, size - len));
	at->size = size;
	if (stun_finish(&w, span_str(a->remote_pwd), true) != OK ||
	    outq_push(a->out, OUT_SEND, &path, wr_done(&w)) != OK) {
		at->size = 0;
		return ERR_LIMIT;
	}
	a->stats.n_checks_out++;
	return OK;
}

static struct ice_probe *find(const struct ice_agent *a, const uint8_t transaction[12])
{
	for (unsigned i = 0; i < ICE_PROBES_OPEN; i++)
		if (a->probes[i].size && !memcmp(a->probes[i].transaction, transaction, 12))
			return (struct ice_probe *)&a->probes[i];
	return NULL;
}

bool ice_probe_ours(const struct ice_agent *a, const uint8_t transaction[12])
{
	return find(a, transaction) != NULL;
}

void ice_probe_answered(struct ice_agent *a, const struct path *path, const struct stun_msg *m)
{
	struct ice_probe *p = find(a, m->transaction);
	const struct pair *pair = &a->pairs[a->selected];

	/* Also an error is an answer: what it is to has arrived. */
	if (!p || !addr_eq(&path->remote, &pair->remote.addr) || !addr_eq(&path->local, &pair->base))
		return;
	ice_tell_size(a, p->size);
	p->size = 0;
}

void ice_probes_forget(struct ice_agent *a)
{
	memset(a->probes, 0, sizeof(a->probes));
}
