/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/flow.h - who opened which flow: the connection tracking behind "only the granted
 * direction opens". A flow is a 5-tuple seen from here (local, peer); it belongs to an owner (a call's
 * grant) and is sent by one of that owner's SAs.
 *
 * All memory is taken by esp_flows_new: nothing is allocated per packet or per flow. A flow without any
 * reply yet is half open; when there is no room, the oldest half-open flow makes it, never one that both
 * sides use. One owner's call may hold half of the table, so that a hostile peer leaves room for others. */
#pragma once
#include "base/rng.h"
#include "base/timers.h"
#include "esp/inner.h"

/* Our choice; RFC 5382, 5 wants at least 2 h and 4 min for TCP established. Closing and half-open ones may go
 * early, because nobody else's mapping is at stake here. */
#define ESP_TCP_OPEN_US SECONDS(2 * 3600)
#define ESP_TCP_SHORT_US SECONDS(60)
#define ESP_UDP_US SECONDS(60)

struct esp_tuple {
	uint8_t local_ip[16], peer_ip[16];
	uint16_t local_port, peer_port;
	enum addr_family family : 8;
	uint8_t protocol;
};
/* inbound: the packet comes from the peer, its source is the peer's end. */
struct esp_tuple esp_tuple_of(const struct esp_ends *ends, bool inbound);

enum esp_flow_state {
	ESP_FLOW_HALF, /* opened, no answer yet */
	ESP_FLOW_OPEN, /* TCP: handshake done */
	ESP_FLOW_SHORT, /* datagrams that were answered */
	ESP_FLOW_CLOSING, /* TCP: reset, or both sides have finished */
	ESP_FLOW_STATES
};

struct esp_flow {
	struct esp_tuple tuple; /* what follows stands so that all of it is 88 bytes, of which there are many */
	enum esp_flow_state state : 8;
	bool opened_inbound : 1; /* the peer opened it */
	bool replied : 1, fin_local : 1, fin_peer : 1;
	uint32_t owner; /* index of the call */
	uint64_t expires_us;
	void *sa; /* what sends it; the SADB's, and one that covers the tuple */
	uint32_t grant;
	uint32_t chain, prev, next; /* 1-based places in the table; 0: none */
	uint32_t own_prev, own_next; /* among its owner's */
};

struct esp_flows;
/* n_owners: owners are numbered from 0. */
MUST_CHECK enum err esp_flows_new(const struct rng *rng, unsigned max_flows, unsigned n_owners, struct esp_flows **ret);
void esp_flows_free(struct esp_flows *f);
unsigned esp_flows_len(const struct esp_flows *f);

/* The live flow of this tuple. */
struct esp_flow *esp_flow_find(struct esp_flows *f, uint64_t now_us, const struct esp_tuple *t);
/* Is a place in the table, where a flow was found before, one of a live flow between these ends? NULL, or over or another's by now:
 * no. Packets of one flow follow each other. */
static inline bool esp_flow_again(const struct esp_flow *fl, uint64_t now_us, const struct esp_ends *e, bool inbound)
{
	const struct esp_tuple *t;

	if (!fl)
		return false;
	t = &fl->tuple;
	if (t->family != e->family || t->protocol != e->protocol || fl->expires_us <= now_us)
		return false;
	if (inbound)
		return t->local_port == e->dst_port && t->peer_port == e->src_port && esp_ip_eq(t->local_ip, e->dst) &&
		       esp_ip_eq(t->peer_ip, e->src);
	return t->local_port == e->src_port && t->peer_port == e->dst_port && esp_ip_eq(t->local_ip, e->src) &&
	       esp_ip_eq(t->peer_ip, e->dst);
}
/* May this packet be the first of a flow? TCP: SYN without ACK; others: any. */
bool esp_flow_opens(const struct esp_inner *p);
/* Room for one more of this owner, perhaps by taking the oldest half-open one. False: full. */
bool esp_flow_make_room(struct esp_flows *f, uint32_t owner);
/* After esp_flow_make_room, of a tuple that has no live flow. */
struct esp_flow *esp_flow_open(struct esp_flows *f, uint64_t now_us, const struct esp_tuple *t, bool inbound,
			       uint32_t owner, uint32_t grant, void *sa);
/* The flow is over, and this packet may begin another one with the same ports: remove it first. */
bool esp_flow_begins_anew(const struct esp_flow *fl, const struct esp_inner *p);
/* Does a packet of an existing flow pass? No: the side that may not open sends a SYN. may_open: that side
 * may open flows by its grant. Changes nothing. */
bool esp_flow_admits(const struct esp_flow *fl, const struct esp_inner *p, bool inbound, bool may_open);
/* A packet that passed: state and time-out. */
void esp_flow_note(struct esp_flows *f, uint64_t now_us, struct esp_flow *fl, const struct esp_inner *p, bool inbound);

void esp_flow_remove(struct esp_flows *f, struct esp_flow *fl);
/* All of an owner's, until it has seen them; false: the flow is removed. */
void esp_flows_walk(struct esp_flows *f, uint32_t owner, bool (*keep)(void *arg, struct esp_flow *fl), void *arg);
void esp_flows_tick(struct esp_flows *f, uint64_t now_us);
uint64_t esp_flows_deadline_us(const struct esp_flows *f); /* TIME_NEVER: none */
