/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* What the kernel lacks, a request at a time: pairs are blocked, SAs are made, then pairs pass; and the other way round. */
#include <string.h>

#include "crypto/secret.h"
#include "esp/kernel_impl.h"
#include "esp/packet.h"

/* ---- pairs ---- */

/* IPv6 of 1280 bytes passes in any case: what is too long for the path around it is cut outside (net/xfrm.h). */
static size_t inner_mtu(const struct kernel_slot *s, enum addr_family inner)
{
	const size_t ip = s->path.remote.family == ADDR_IP6 ? 40 : 20;
	size_t over =
		ip + 8 + ESP_HDR + CIPHER_IV_MIN + CIPHER_ICV; /* combined modes: a multiple of 4 (RFC 4303, 2.4) */

	size_t mtu = s->mtu > over + 4 ? (s->mtu - over) / 4 * 4 - ESP_TRAILER : 0;

	return mtu && inner == ADDR_IP6 && mtu < ESP_IP6_MTU_MIN ? ESP_IP6_MTU_MIN : mtu;
}

static enum esp_kernel_act pair_shall(const struct kernel_slot *s)
{
	bool sends = false;

	if (s->over)
		return ESP_KERNEL_GONE;
	for (const struct kernel_sa *sa = s->sas; sa; sa = sa->next)
		sends |= sa->half[KERNEL_OUT].shall;
	if (s->held)
		return ESP_KERNEL_HOLD;
	return sends && !s->elsewhere ? ESP_KERNEL_PASS : ESP_KERNEL_IN;
}

static bool pair_to(struct kernel_slot *s, struct kernel_pair *p, enum esp_kernel_act act,
		    struct esp_kernel_request *ret)
{
	size_t mtu = act == ESP_KERNEL_GONE || act == ESP_KERNEL_BLOCK ? 0 : inner_mtu(s, p->server.base.family);
	bool there = act == ESP_KERNEL_GONE || act == ESP_KERNEL_BLOCK ||
		     (addr_eq(&p->own, &s->path.local) && addr_eq(&p->peer, &s->path.remote) && p->mtu == mtu);

	if (p->is == act && there)
		return false;
	*ret = (struct esp_kernel_request){ .act = act,
					    .slot = s->number,
					    .server = p->server,
					    .client = p->client,
					    .own = s->path.local,
					    .peer = s->path.remote,
					    .mtu = mtu };
	p->is = act;
	p->own = s->path.local;
	p->peer = s->path.remote;
	p->mtu = mtu;
	return true;
}

static bool pairs_to(struct kernel_slot *s, enum esp_kernel_act act, struct esp_kernel_request *ret)
{
	for (unsigned i = 0; i < s->n_pairs; i++)
		if (pair_to(s, &s->pairs[i], act, ret))
			return true;
	return false;
}

/* The rule about who opens flows is there before anything else is. */
static bool pairs_begin(struct kernel_slot *s, struct esp_kernel_request *ret)
{
	for (unsigned i = 0; i < s->n_pairs; i++)
		if (s->pairs[i].is == ESP_KERNEL_GONE && pair_to(s, &s->pairs[i], ESP_KERNEL_BLOCK, ret))
			return true;
	return false;
}

/* ---- SAs ---- */

static struct esp_kernel_request about(const struct kernel_slot *s, const struct kernel_half *h,
				       enum esp_kernel_act act, int i)
{
	return (struct esp_kernel_request){
		.act = act, .slot = s->number, .inbound = i == KERNEL_IN, .spi = h->spi, .own = h->own, .peer = h->peer
	};
}

static void add(const struct kernel_slot *s, struct kernel_sa *sa, int i, struct esp_kernel_request *ret)
{
	struct kernel_half *h = &sa->half[i];

	h->there = h->was = true;
	h->own = s->path.local;
	h->peer = s->path.remote;
	*ret = about(s, h, ESP_KERNEL_ADD, i);
	ret->alg = sa->alg;
	ret->esn = sa->esn;
	ret->copy_dscp = sa->copy_dscp;
	ret->hard_packets = sa->hard_packets;
	ret->hard_bytes = sa->hard_bytes;
	memcpy(ret->key, h->key, sizeof(ret->key));
	secret_wipe(h->key, sizeof(h->key)); /* it is asked for once */
}

static bool move(const struct kernel_slot *s, struct kernel_half *h, int i, struct esp_kernel_request *ret)
{
	if (!h->there || (addr_eq(&h->own, &s->path.local) && addr_eq(&h->peer, &s->path.remote)))
		return false;
	*ret = about(s, h, ESP_KERNEL_MOVE, i);
	h->own = ret->new_own = s->path.local;
	h->peer = ret->new_peer = s->path.remote;
	return true;
}

/* What comes in first: it must not be sent by who is not heard. */
static bool add_or_move(const struct kernel_slot *s, struct kernel_sa *sa, struct esp_kernel_request *ret)
{
	for (int i = KERNEL_HALVES; i-- > 0;)
		if (sa->half[i].shall && !sa->half[i].was) {
			add(s, sa, i, ret);
			return true;
		}
	return move(s, &sa->half[KERNEL_IN], KERNEL_IN, ret) || move(s, &sa->half[KERNEL_OUT], KERNEL_OUT, ret);
}

static bool remove_one(const struct kernel_slot *s, struct kernel_sa *sa, struct esp_kernel_request *ret)
{
	for (int i = KERNEL_HALVES; i-- > 0;) {
		struct kernel_half *h = &sa->half[i];

		if (!h->there || (h->shall && !s->over))
			continue;
		*ret = about(s, h, ESP_KERNEL_REMOVE, i);
		h->there = false;
		return true;
	}
	return false;
}

static bool count(const struct kernel_slot *s, struct kernel_sa *sa, struct esp_kernel_request *ret)
{
	for (int i = KERNEL_HALVES; i-- > 0;) {
		struct kernel_half *h = &sa->half[i];

		if (!h->ask || !h->there)
			continue;
		*ret = about(s, h, ESP_KERNEL_COUNT, i);
		h->ask = false;
		return true;
	}
	return false;
}

/* One after the other: so that another one is there to send before the old one is gone. */
bool kernel_request_next(struct kernel_slot *s, struct esp_kernel_request *ret)
{
	if (s->over && pairs_to(s, ESP_KERNEL_GONE, ret))
		return true;
	if (!s->over && pairs_begin(s, ret))
		return true;
	for (struct kernel_sa *sa = s->sas; sa && !s->over; sa = sa->next)
		if (add_or_move(s, sa, ret))
			return true;
	if (!s->over && pairs_to(s, pair_shall(s), ret))
		return true;
	for (struct kernel_sa *sa = s->sas; sa; sa = sa->next)
		if (remove_one(s, sa, ret) || count(s, sa, ret))
			return true;
	return false;
}

/* ---- what came of it ---- */

static void failed(struct esp_kernel *k, struct kernel_slot *s, struct kernel_half *h,
		   const struct esp_kernel_request *rq)
{
	for (unsigned i = 0; rq->act <= ESP_KERNEL_PASS && i < s->n_pairs; i++)
		if (addr_prefix_eq(&s->pairs[i].server, &rq->server) &&
		    addr_prefix_eq(&s->pairs[i].client, &rq->client))
			s->pairs[i].is = ESP_KERNEL_GONE; /* it is all of it, or nothing */
	if (h && (rq->act == ESP_KERNEL_ADD || rq->act == ESP_KERNEL_MOVE))
		h->there = false;
	if (rq->act != ESP_KERNEL_GONE && rq->act != ESP_KERNEL_REMOVE)
		kernel_fail(k, s);
}

static void hard(struct esp_kernel *k, struct kernel_sa *sa)
{
	if (!sa->hard_told)
		sa->hard_told = sa->due_hard = k->news = true;
}

static void counted(struct esp_kernel *k, uint64_t now_us, struct kernel_slot *s, struct kernel_sa *sa, bool inbound,
		    const struct esp_kernel_count *c)
{
	const struct esp_kernel_count *in = &sa->half[KERNEL_IN].count, *out = &sa->half[KERNEL_OUT].count;
	struct esp_kernel_count *was = &sa->half[inbound].count;
	uint64_t most, bytes;

	if (c->packets > was->packets)
		*(inbound ? &s->counters.last_in_us : &s->counters.last_out_us) = now_us;
	*was = *c;
	if (sa->standby && in->packets) /* the peer has the keys */
		kernel_activate(k, s, sa);
	most = in->packets > out->packets ? in->packets : out->packets;
	bytes = in->bytes + out->bytes;
	if (!sa->soft_told &&
	    ((sa->soft_packets && most >= sa->soft_packets) || (sa->soft_bytes && bytes >= sa->soft_bytes)))
		sa->soft_told = sa->due_soft = k->news = true;
	if (sa->hard_bytes && bytes >= sa->hard_bytes)
		hard(k, sa);
}

static struct kernel_slot *slot_of(const struct esp_kernel *k, uint16_t number)
{
	struct kernel_slot *s = k->slots;

	while (s && s->number != number)
		s = s->next;
	return s;
}

void esp_kernel_done(struct esp_kernel *k, uint64_t now_us, const struct esp_kernel_request *rq, enum err e,
		     const struct esp_kernel_count *counts)
{
	struct kernel_slot *s = slot_of(k, rq->slot);
	struct kernel_sa *sa = s ? s->sas : NULL;
	struct kernel_half *h;

	while (sa && rq->spi != sa->half[rq->inbound].spi)
		sa = sa->next;
	if (!s)
		return;
	h = sa ? &sa->half[rq->inbound] : NULL;
	if (rq->act != ESP_KERNEL_COUNT) {
		if (e != OK)
			failed(k, s, h, rq);
	} else if (sa && e == OK) {
		counted(k, now_us, s, sa, rq->inbound, counts);
	} else if (sa && e == ERR_NOTFOUND && !s->over) { /* a limit has ended it */
		h->there = h->shall = false;
		hard(k, sa);
	}
}
