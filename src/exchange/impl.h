/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/impl.h - inside exchange/ only.
 *   exchange.c   life, dispatch, streams, authentication      registrar.c  bindings      proxy.c, branch.c  forwarding */
#pragma once
#include "exchange/exchange.h"
#include "sip/digest.h"
#include "sip/msg.h"
#include "sip/txn.h"

#define CONTEXTS_MAX 2048
#define TIMER_C_US SECONDS(185)           /* RFC 3261, 16.6: over three minutes */
#define NONCE_AGE_S 300
#define CONTACT_MAX 512

struct binding {
	char contact[CONTACT_MAX];
	char call_id[256];
	uint32_t cseq;
	struct path path;
	uint64_t expires_us;
};

struct location {                         /* of one user; same index as cfg->users */
	struct binding b[EXCHANGE_BINDINGS_MAX];
	unsigned n;
};

struct stream {
	struct path path;
	bool open;
	int user;                         /* whose REGISTER with good credentials came by it, -1: nobody's */
	uint8_t *buf;                     /* what is not a whole message yet; SIP_MSG_MAX, NULL until needed */
	size_t len;
};

struct context;
struct branch {
	struct context *ctx;
	struct sip_txn *txn;              /* client transaction, NULL: over */
	char id[SIP_BRANCH_TEXT];
	char uri[CONTACT_MAX];
	struct path path;
	bool provisional, final, cancel_wanted;
};

struct context {                          /* one forwarded request (16.2: response context) */
	struct exchange *x;
	struct sip_txn *server;           /* NULL: over */
	struct branch b[EXCHANGE_BRANCHES_MAX];
	unsigned n;
	bool answered, cancelled;
	uint64_t began_us, timer_c_us, absent_us;     /* absent_us: when the 480 is due, TIME_NEVER: not */
	unsigned best;                    /* status, 0: none */
	uint8_t *best_bytes;
	size_t best_len;
	struct context *next;
};

struct exchange {
	struct exchange_env env;
	const struct exchange_config *cfg;
	struct log log;
	struct sip_txns *txns;
	struct sip_nonces nonces;
	struct location *locations;
	struct stream *streams;           /* EXCHANGE_STREAMS_MAX, path.stream 0: free */
	struct context *contexts;
	unsigned n_contexts;
	struct log_limit refused_limit;
	struct exchange_stats stats;
	struct sip_msg *msg;              /* scratch: too big for a stack */
	uint8_t text[SIP_MSG_MAX];
};

/* exchange.c */
int exchange_user_find(const struct exchange *x, struct span name);   /* -1: none */
struct stream *exchange_stream_of(struct exchange *x, const struct path *path);
/* A response without a transaction. */
void exchange_answer(struct exchange *x, const struct path *path, const struct sip_msg *rq, unsigned status, const char *reason);
void exchange_respond(struct exchange *x, uint64_t now_us, struct sip_txn *txn, unsigned status, const char *reason);
/* The user whose credentials rq carries in header h for our realm; -1: none (*ret_stale: they were good for an old nonce). */
int exchange_authenticate(struct exchange *x, uint64_t now_us, const struct sip_msg *rq, enum sip_h h, bool *ret_stale);
void exchange_challenge(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq, unsigned status,
			bool stale);
bool exchange_is_ours(const struct exchange *x, const struct sip_uri *u);     /* a URI of our domain or of our own address */

/* registrar.c */
void registrar_request(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *rq, const struct path *path,
		       unsigned user);
void registrar_stream_lost(struct exchange *x, uint64_t stream);
void registrar_tick(struct exchange *x, uint64_t now_us);
uint64_t registrar_deadline_us(const struct exchange *x);
const struct binding *registrar_by_contact(const struct exchange *x, const struct sip_uri *contact);

/* proxy.c */
void proxy_request(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *rq, const struct path *path);
void proxy_ack(struct exchange *x, const struct sip_msg *ack, const struct path *path);
void proxy_cancel(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *cancel);
void proxy_event(struct exchange *x, uint64_t now_us, const struct sip_txn_event *e);
void proxy_tick(struct exchange *x, uint64_t now_us);
uint64_t proxy_deadline_us(const struct exchange *x);
void proxy_free(struct exchange *x);
