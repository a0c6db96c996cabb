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
	enum addr_family family;
	uint8_t protocol;
	uint8_t local_ip[16], peer_ip[16];
	uint16_t local_port, peer_port;
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
	struct esp_tuple tuple;
	enum esp_flow_state state;
	bool opened_inbound; /* the peer opened it */
	bool replied, fin_local, fin_peer;
	uint64_t expires_us;
	uint32_t owner; /* index of the call */
	uint32_t grant;
	void *sa; /* what sends it; the SADB's */
	uint32_t chain, prev, next; /* 1-based places in the table; 0: none */
};

struct esp_flows;
/* n_owners: owners are numbered from 0. */
MUST_CHECK enum err esp_flows_new(const struct rng *rng, unsigned max_flows, unsigned n_owners, struct esp_flows **ret);
void esp_flows_free(struct esp_flows *f);
unsigned esp_flows_len(const struct esp_flows *f);

/* The live flow of this tuple. */
struct esp_flow *esp_flow_find(struct esp_flows *f, uint64_t now_us, const struct esp_tuple *t);
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
/* Walks all flows in use: *at starts at 0; NULL at the end. Removing the one returned is allowed. */
struct esp_flow *esp_flow_next(struct esp_flows *f, uint32_t *at);
void esp_flows_tick(struct esp_flows *f, uint64_t now_us);
uint64_t esp_flows_deadline_us(const struct esp_flows *f); /* TIME_NEVER: none */
