/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* exchange/impl.h - inside exchange/ only.
 *   exchange.c   life, dispatch, who may do what       stream.c   streams and framing       auth.c    digest
 *   answer.c     our own answers                       token.c    what Record-Route carries
 *   registrar.c  bindings                              proxy.c    where a request goes
 *   context.c    one forwarded request                 branch.c   one copy of it: forwarding, CANCEL, answers
 *   config.c     the file                              host.c    sockets                 command.c  the command line */
#pragma once
#include "base/table.h"
#include "exchange/exchange.h"
#include "sip/digest.h"
#include "sip/msg.h"
#include "sip/txn.h"

#define CONTEXTS_MAX 2048
#define TXNS_SPARE 64 /* of SIP_TXNS_MAX: new requests are refused when no more are left */
#define TIMER_C_US SECONDS(185) /* RFC 3261, 16.6: over three minutes */
#define ABANDON_US (64 * SIP_T1_US) /* 9.1: after a CANCEL no answer is waited for any longer */
#define NONCE_AGE_S 300
#define CONTACT_MAX 512
#define CALL_ID_MAX 256
#define LOOPS_MAX 2 /* how often a request may come back to us (16.3) */
#define TOKEN_TEXT 288
#define TAG_TEXT 20

struct binding {
	struct path path;
	uint64_t expires_us;
	uint32_t cseq;
	char *call_id; /* behind contact, in the same memory */
	char contact[];
};

struct location { /* of one user; same index as cfg->users */
	struct exchange *x;
	struct binding *b[EXCHANGE_BINDINGS_MAX];
	unsigned n;
	unsigned n_pending; /* calls of this user that are not answered yet */
	struct timer timer; /* always armed: the first expiry, or never */
};

struct stream {
	struct exchange *x;
	struct stream *prev, *next; /* newest first */
	struct path path;
	int user; /* whose REGISTER with good credentials came by it, -1: nobody's */
	bool known; /* somebody has authenticated on it, or shown a token */
	bool bad, half_ping;
	uint8_t *buf; /* what is not a whole message yet */
	size_t len, cap;
	struct timer timer; /* until it is known */
};

/* One side of a call: whose device, and by which flow. */
struct side {
	unsigned user;
	struct path path;
};

/* What our Record-Route says, sealed: who talks to whom. */
struct token {
	struct side caller, callee;
	uint32_t caller_tag; /* hash of the caller's From tag: tells which side a request comes from */
};

/* First member of what transactions name as their owner. */
enum owner { OWN_CONTEXT, OWN_BRANCH };

struct context;
struct branch {
	enum owner own;
	struct context *ctx;
	struct sip_txn *txn; /* client transaction, NULL: over */
	char id[SIP_BRANCH_TEXT];
	char *uri;
	struct path path;
	bool provisional, final, cancel_wanted, cancelled;
};

struct context { /* one forwarded request (16.2: response context) */
	enum owner own;
	struct exchange *x;
	struct context *prev, *next;
	struct sip_txn *server; /* NULL: over */
	int caller; /* user whose n_pending it counts in, -1: none */
	bool is_call; /* INVITE outside of a dialog: the second of docs/exchange.md holds */
	unsigned n_pop; /* Route elements that were for us */
	struct branch b[EXCHANGE_BRANCHES_MAX];
	unsigned n;
	bool answered, cancelled; /* answered: the server transaction has its final answer */
	uint64_t absent_us; /* no "not available" before this */
	uint64_t give_up_us; /* timer C, or the end of waiting behind a CANCEL */
	struct timer timer; /* always armed */
	unsigned best, best_rank; /* status, 0: none */
	uint8_t *best_bytes; /* NULL: an answer of our own is written */
	size_t best_len;
};

struct exchange {
	struct exchange_env env;
	const struct exchange_config *cfg;
	struct log log;
	struct sip_txns *txns;
	struct timers *timers;
	struct sip_nonces nonces;
	struct aead *seal;
	uint8_t tag_secret[32];
	struct location *locations;
	struct table *streams; /* by number */
	struct stream *newest;
	unsigned n_streams;
	size_t n_buffered;
	struct context *contexts;
	unsigned n_contexts;
	int who; /* the user that the request at hand was authenticated as, -1: by its token only */
	struct log_limit refused_limit;
	struct exchange_stats stats;
	struct sip_msg *msg; /* scratch: too big for a stack */
	uint8_t text[SIP_MSG_MAX];
};

/* exchange.c */
int exchange_user_find(const struct exchange *x, struct span name); /* -1: none */
bool exchange_is_ours(const struct exchange *x, const struct sip_uri *u,
		      const struct path *path); /* our domain or address */
void exchange_message(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes);
void exchange_pump(struct exchange *x, uint64_t now_us);
void exchange_refused(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq,
		      const char *why);

/* stream.c */
void conn_input(struct exchange *x, uint64_t now_us, const struct path *path, struct span bytes);
struct stream *conn_of(const struct exchange *x, const struct path *path);
void conn_known(struct exchange *x, const struct path *path, int user); /* user -1: leave it */
void conns_free(struct exchange *x);

/* auth.c. The user whose credentials rq carries in header h for our realm; -1: none (*ret_stale: they were good, for an old
 * nonce). */
int auth_user(struct exchange *x, uint64_t now_us, const struct sip_msg *rq, enum sip_h h, bool *ret_stale);
void auth_challenge(struct exchange *x, uint64_t now_us, const struct path *path, const struct sip_msg *rq,
		    unsigned status, bool stale);

/* answer.c: ours, without a transaction, or to one. The To tag is a function of the request: its ACK is known by it. */
struct wr answer_begin(struct exchange *x, const struct path *path, const struct sip_msg *rq, unsigned status,
		       const char *reason);
void answer_send(struct exchange *x, const struct path *path, const struct sip_msg *rq, struct wr *w);
void answer_stateless(struct exchange *x, const struct path *path, const struct sip_msg *rq, unsigned status,
		      const char *reason);
/* False: no memory; with a final status txn is over then, so that a repeat of its request is a new one. */
bool answer_txn(struct exchange *x, uint64_t now_us, struct sip_txn *txn, unsigned status, const char *reason);
bool answer_done(struct sip_txn *txn, uint64_t now_us, unsigned status, const struct wr *w); /* w is finished */
bool answer_tag_is_ours(struct exchange *x, const struct sip_msg *m);

/* token.c */
MUST_CHECK enum err token_write(struct exchange *x, const struct token *t, struct span call_id, char ret[TOKEN_TEXT]);
MUST_CHECK enum err token_parse(struct exchange *x, struct span text, struct span call_id, struct token *ret);
uint32_t token_tag(const struct exchange *x, struct span tag);

/* registrar.c */
void registrar_request(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *rq,
		       const struct path *path, unsigned user);
void registrar_stream_lost(struct exchange *x, uint64_t stream);
void registrar_fired(void *location, uint64_t now_us);
void registrar_free(struct exchange *x);
/* The binding of `user` with this Contact, or else its only one with this user part. */
const struct binding *registrar_device(const struct exchange *x, unsigned user, const struct sip_uri *contact);
/* The same among all users. *ret_user on success. */
const struct binding *registrar_device_any(const struct exchange *x, const struct sip_uri *contact, unsigned *ret_user);
bool registrar_has_flow(const struct exchange *x, unsigned user, const struct path *path);

/* proxy.c */
struct way { /* the Route headers of a request */
	unsigned n_pop;
	bool has_token;
	struct token token;
};
void proxy_way(struct exchange *x, const struct sip_msg *rq, const struct path *path, struct way *ret);
void proxy_request(struct exchange *x, uint64_t now_us, struct sip_txn *txn, const struct sip_msg *rq,
		   const struct path *path);
void proxy_ack(struct exchange *x, const struct sip_msg *ack, const struct path *path);

/* context.c */
struct context *context_new(struct exchange *x, uint64_t now_us, struct sip_txn *server,
			    int caller); /* NULL: no room */
void context_check(struct context *c,
		   uint64_t now_us); /* sends the final answer when it is time, arms the timer, may free c */
void context_consider(struct context *c, unsigned status,
		      struct span bytes); /* 16.7, step 6; bytes empty: of our own */
void context_cancel(struct context *c, uint64_t now_us); /* by the caller */
void context_abandon(struct context *c, uint64_t now_us);
void context_stream_lost(struct exchange *x, uint64_t now_us, uint64_t stream);
void context_event(struct exchange *x, uint64_t now_us, const struct sip_txn_event *e);
void contexts_free(struct exchange *x);

/* branch.c */
struct addr branch_sent_by(const struct exchange *x, const struct path *path);
/* The bytes of rq as they go to `to`, in x->text. record: Record-Route with this token. Empty: they do not fit. */
struct span branch_forward(struct exchange *x, const struct sip_msg *rq, const struct path *from, const struct path *to,
			   struct span uri, const char *branch_id, unsigned n_pop, const struct token *record);
void branch_start(struct context *c, uint64_t now_us, const struct side *to, struct span uri,
		  const struct token *record);
void branch_response(struct branch *b, uint64_t now_us, const struct sip_msg *m);
void branch_failed(struct branch *b, uint64_t now_us, unsigned status);
void branches_cancel(struct context *c, uint64_t now_us);
