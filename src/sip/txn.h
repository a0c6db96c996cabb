/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/txn.h - transactions (RFC 3261, 17; RFC 6026), for user agents and stateful proxies. Messages are already parsed; the
 * layer keeps copies of what it must repeat. Streams are not retransmitted on. No I/O, no clock. */
#pragma once
#include "base/path.h"
#include "base/rng.h"
#include "base/timers.h"
#include "sip/msg.h"

#define SIP_T1_US MS(500)
#define SIP_T2_US SECONDS(4)
#define SIP_T4_US SECONDS(5)
#define SIP_TXNS_MAX 4096
#define SIP_BRANCH_TEXT 24 /* "z9hG4bK" and random text, NUL */

struct sip_txns; /* all transactions of one element */
struct sip_txn;

MUST_CHECK enum err sip_txns_new(const struct rng *rng, struct sip_txns **ret);
void sip_txns_free(struct sip_txns *t);

void sip_branch(const struct rng *rng, char ret[SIP_BRANCH_TEXT]);
/* Sends a request whose topmost Via has this branch, and owns its retransmissions. owner comes back in events. *ret is
 * borrowed until its SIP_TXN_ENDED event (or sip_txn_forget). ACK to a 2xx is no transaction: push it with sip_txns_send(). */
MUST_CHECK enum err sip_txn_request(struct sip_txns *t, uint64_t now_us, const struct path *path,
				    enum sip_method method, const char *branch, struct span bytes, void *owner,
				    struct sip_txn **ret);
/* Answers the request of a server transaction (SIP_TXN_REQUEST): provisional ones are kept for repeats, a final one runs
 * its timers. A 2xx to INVITE is repeated by its owner (13.3.1.4), who may call this again with the same bytes (RFC 6026). */
MUST_CHECK enum err sip_txn_respond(struct sip_txn *x, uint64_t now_us, unsigned status, struct span bytes);
/* No more events of it; it ends by its own timers, or now where it has none: a server transaction without a final answer (a repeat
 * of its request is then a new one) and an INVITE that has had a provisional answer only. */
void sip_txn_forget(struct sip_txn *x);
void sip_txn_set_owner(struct sip_txn *x, void *owner);
void *sip_txn_owner(const struct sip_txn *x);
const struct path *sip_txn_path(const struct sip_txn *x);
enum sip_method sip_txn_method(const struct sip_txn *x);
/* The request of a server transaction, parsed from the layer's own copy; borrowed while the transaction lives. */
const struct sip_msg *sip_txn_request_msg(const struct sip_txn *x);
bool sip_txn_answered(const struct sip_txn *x); /* server: a final answer was given; client: was received */
/* The server INVITE transaction that this CANCEL is for (9.2), NULL: none (481). */
struct sip_txn *sip_txn_of_cancel(struct sip_txns *t, const struct sip_msg *cancel);
/* Anything outside a transaction: ACK to a 2xx, a stateless answer. */
MUST_CHECK enum err sip_txns_send(struct sip_txns *t, const struct path *path, struct span bytes);
MUST_CHECK enum err sip_txns_open(struct sip_txns *t, const struct path *path); /* OUT_OPEN */
MUST_CHECK enum err sip_txns_close(struct sip_txns *t, const struct path *path);

/* A parsed message in. Repeats are answered and swallowed inside; everything new is an event. */
void sip_txns_input(struct sip_txns *t, uint64_t now_us, const struct path *path, const struct sip_msg *m);
/* The stream failed or closed: client transactions on it that wait for an answer end with SIP_TXN_FAILED. */
void sip_txns_stream_lost(struct sip_txns *t, uint64_t now_us, uint64_t stream);

enum sip_txn_event_kind {
	SIP_TXN_REQUEST, /* a new request: txn (NULL for ACK to a 2xx), msg */
	SIP_TXN_RESPONSE, /* client: msg; for a forked or repeated 2xx to INVITE more than once */
	SIP_TXN_STRAY, /* a response that belongs to no transaction: msg (a proxy forwards 2xx, a UA drops it) */
	SIP_TXN_TIMEOUT, /* client: timer B or F. The transaction is over */
	SIP_TXN_FAILED, /* client: its stream is lost. The transaction is over */
	SIP_TXN_ACKED, /* server: the ACK to a non-2xx, or no ACK came until timer H (timed_out) */
	SIP_TXN_ENDED /* txn is freed after this event; the last one that names it */
};
struct sip_txn_event {
	enum sip_txn_event_kind kind;
	struct sip_txn *txn;
	void *owner;
	bool timed_out;
	struct path path;
	const struct sip_msg *msg; /* the layer's own copy, borrowed until the next sip_txns_poll_event() */
};
bool sip_txns_poll_event(struct sip_txns *t, struct sip_txn_event *ret);
bool sip_txns_poll_output(struct sip_txns *t, struct out *ret);
void sip_txns_tick(struct sip_txns *t, uint64_t now_us);
uint64_t sip_txns_deadline_us(const struct sip_txns *t);
size_t sip_txns_len(const struct sip_txns *t);
/* No request of ours waits for its answer. What is still there only catches repeats. */
bool sip_txns_quiet(const struct sip_txns *t);
uint64_t sip_txns_retransmitted(const struct sip_txns *t); /* repeats of requests and answers, ever */
/* Where an answer to this request goes (18.2.2, RFC 3581): where it came from, over a datagram without rport to the port of
 * its Via. sip_txn_path() of a server transaction is this one. */
struct path sip_reply_path(const struct path *path, const struct sip_msg *rq);
