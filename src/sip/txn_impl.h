/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/txn_impl.h - inside sip/ only: what txn.c (life, matching, events), txn_client.c and txn_server.c share. */
#pragma once
#include "base/table.h"
#include "sip/txn.h"

#define TXN_MSG_EVENTS_MAX 512 /* our choice: messages that wait for sip_txns_poll_event */
#define TXN_OUT_ITEMS 4096
#define TXN_OUT_BYTES (4u * 1024 * 1024)

/* RFC 3261, figures 5 to 8, and RFC 6026, figures 2 and 3. */
enum txn_state {
	TXN_CALLING, /* client INVITE: nothing heard; A, B */
	TXN_TRYING, /* client: nothing heard; E, F. Server: no answer yet */
	TXN_PROCEEDING, /* a provisional answer; client: E, F unless INVITE */
	TXN_ACCEPTED, /* INVITE, 2xx: client M, server L */
	TXN_COMPLETED, /* final answer: client D or K, server G and H, or J */
	TXN_CONFIRMED, /* server INVITE: ACK is here; I */
	TXN_OVER /* out of the table; freed behind its SIP_TXN_ENDED */
};

/* An event that waits. Those of a transaction's own end are part of it, so that no lack of memory can lose them. */
struct txn_node {
	struct txn_node *next;
	struct sip_txn_event ev;
	bool embedded;
};

struct txn_msg_node {
	struct txn_node node;
	struct sip_msg msg;
	uint8_t bytes[];
};

struct txn_request { /* a server transaction's copy */
	struct sip_msg msg;
	uint8_t bytes[];
};

struct sip_txn {
	struct sip_txns *t;
	struct sip_txn *prev, *next;
	bool is_client, is_2543, forgotten, answered;
	enum txn_state state;
	enum sip_method method;
	struct path path;
	void *owner;
	uint8_t *key;
	size_t key_len;
	uint8_t *bytes; /* client: the request; server: the last answer */
	size_t len;
	uint8_t *ack; /* client: ACK to a non-2xx */
	size_t ack_len;
	struct txn_request *request; /* server */
	struct timer again, end;
	uint64_t interval_us;
	struct txn_node ev_request, ev_over, ev_ended;
};

struct sip_txns {
	const struct rng *rng;
	struct table *by_key;
	struct timers *timers;
	struct outq *out;
	struct sip_txn *first;
	size_t n;
	struct txn_node *head, **tail, *lent;
	unsigned n_msg_events;
	uint64_t n_retransmitted;
};

/* txn.c */
void txn_enter(struct sip_txn *x, enum txn_state to);
bool txn_reliable(const struct sip_txn *x);
/* Arms, or, without the memory for it, ends the transaction as its time-out would. */
void txn_arm(struct sip_txn *x, struct timer *timer, uint64_t due_us);
void txn_end(struct sip_txn *x);
/* The time-out, failure or ACK of x: at most one in its life. */
void txn_over(struct sip_txn *x, enum sip_txn_event_kind kind, bool timed_out);
void txn_queue(struct sip_txns *t, struct txn_node *n);
/* Queues an event with a copy of m. False: no room, nothing happened; the message counts as lost. */
bool txn_queue_msg(struct sip_txns *t, enum sip_txn_event_kind kind, struct sip_txn *x, const struct path *path,
		   const struct sip_msg *m);
MUST_CHECK enum err txn_send(struct sip_txn *x, const uint8_t *bytes, size_t len);
void txn_repeat(struct sip_txn *x, const uint8_t *bytes, size_t len);
/* Replaces *dst. ERR_NOMEM: unchanged. */
MUST_CHECK enum err txn_keep(uint8_t **dst, size_t *dst_len, struct span bytes);
/* Registers under key (copied). ERR_LIMIT, ERR_NOMEM, ERR_WRONG_STATE (exists). */
MUST_CHECK enum err txn_new(struct sip_txns *t, bool is_client, enum sip_method method, const struct path *path,
			    struct span key, struct sip_txn **ret);
void txn_free(struct sip_txn *x);

/* txn_client.c */
void txn_client_input(struct sip_txn *x, uint64_t now_us, const struct path *path, const struct sip_msg *m);
void txn_client_again(void *arg, uint64_t now_us);
void txn_client_end(void *arg, uint64_t now_us);
/* Key of the client transaction that a response with this branch and CSeq method is for. */
void txn_client_key(struct wr *w, struct span branch, enum sip_method method);

/* txn_server.c */
void txn_server_request(struct sip_txns *t, uint64_t now_us, const struct path *path, const struct sip_msg *m);
void txn_server_again(void *arg, uint64_t now_us);
void txn_server_end(void *arg, uint64_t now_us);
