/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* sip/ua_impl.h - inside sip/ only: the user agent's state, shared by ua.c (life, events, sorting of input), ua_stream.c
 * (streams and framing), ua_request.c (requests of ours: path, digest, result), ua_register.c (accounts), ua_call.c (calls and
 * the caller's side) and ua_callee.c (requests of others). */
#pragma once
#include "base/timers.h"
#include "sip/dialog.h"
#include "sip/digest.h"
#include "sip/txn.h"
#include "sip/ua.h"

/* Our choices. */
#define UA_ACCOUNTS_MAX 16
#define UA_STREAMS_MAX 64
#define UA_LEGS_MAX 8 /* forked 2xx; further ones are not acknowledged and die by themselves */
#define UA_SLOTS 5 /* the first INVITE and four requests inside the dialog */
#define UA_REASON_TEXT 128
#define UA_UDP_MAX 1300 /* RFC 3261, 18.1.1 */
#define UA_PING_US SECONDS(90) /* RFC 5626, 4.4.1: 95 to 120 s at most for TCP */
#define UA_PONG_US SECONDS(10)
#define UA_ALLOW "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE"

struct account;
struct call;
struct leg;

struct ua_event {
	struct ua_event *next;
	struct sip_event e;
	char reason[UA_REASON_TEXT];
	uint8_t mem[]; /* from, to, body */
};

struct ua_stream {
	struct ua_stream *next;
	uint64_t number;
	struct path path;
	bool open, ponged; /* ponged: the other side answers pings, so one without an answer means something */
	bool bad; /* framing lost: closed, the rest of its bytes is ignored */
	struct account *acc; /* that it was opened for, NULL: accepted by the loop */
	uint8_t *buf;
	size_t len, cap;
	struct timer timer; /* next ping, or the time the pong is due */
	bool waits_pong;
	struct sip_ua *ua;
};

/* What events of a transaction name as owner. */
enum ua_owner { OWN_REQ, OWN_SLOT };

enum ua_req_kind { REQ_REGISTER, REQ_INVITE, REQ_CANCEL, REQ_BYE };

/* A request of ours until its final answer, through challenges and changes of transport. */
struct ua_req {
	enum ua_owner own;
	enum ua_req_kind kind;
	struct account *acc;
	struct call *call;
	struct leg *leg;
	struct sip_dialog *d;
	uint32_t cseq;
	char branch[SIP_BRANCH_TEXT];
	struct sip_txn *txn;
	struct path path;
	uint64_t waits; /* stream that it waits for, 0: none */
	bool heard, force_udp;
	bool use_auth[2]; /* WWW, proxy */
	unsigned n_challenged[2];
	char *credentials; /* header lines; an ACK to the 2xx repeats those of the INVITE (22.1) */
	size_t credentials_len;
};

struct ua_auth {
	bool have;
	struct sip_challenge c;
	char *mem;
	uint32_t nc;
};

struct account {
	struct account *next;
	struct sip_ua *ua;
	unsigned id, n_calls;
	char *aor, *user, *password, *domain; /* domain: request URI of REGISTER */
	char contact_user[20];
	struct addr server, local;
	enum transport transport;
	uint32_t expires_s;
	bool insecure_digest;
	struct ua_stream *stream, *aux; /* aux: for long requests of an account over UDP */
	struct sip_dialog reg;
	struct ua_req req;
	struct timer timer;
	bool registered, removing, gone, minimum_taken;
	unsigned n_failures;
	int64_t date_s;
	struct ua_auth auth[2];
};

enum leg_state { LEG_UP, LEG_GONE };

struct leg {
	struct leg *next;
	unsigned id;
	enum leg_state state;
	struct sip_dialog d;
	struct ua_req bye;
	uint8_t *ack;
	size_t ack_len;
};

/* A request of the other side that waits for an answer of the user, or its 2xx that waits for the ACK. */
struct ua_slot {
	enum ua_owner own;
	struct call *call;
	bool used, is_invite, waits_ack;
	unsigned id; /* 0: the first INVITE */
	struct sip_txn *txn;
	uint32_t cseq;
	uint8_t *ok;
	size_t ok_len;
	struct timer timer;
	uint64_t interval_us, give_up_us;
};

enum call_state {
	CALL_INVITING, /* caller: no 2xx yet. Ends by timer B, by the user, or by the guard behind a CANCEL */
	CALL_OFFERED, /* callee: no final answer. Ends by the user or by CANCEL */
	CALL_ANSWERED, /* callee: 2xx without ACK. Ends after 64*T1 */
	CALL_UP,
	CALL_OVER /* what is left of exchanges runs on; freed when they are through */
};

struct call {
	struct call *next;
	struct sip_ua *ua;
	struct account *acc;
	unsigned id;
	bool is_caller;
	bool dead; /* the user hears nothing more of it, and cannot name it any more */
	enum call_state state;
	struct leg *legs;
	unsigned n_legs, chosen; /* chosen 0: none yet */
	struct ua_event *last; /* the event of its end, made beforehand */
	/* caller */
	struct sip_dialog early;
	struct ua_req invite, cancel;
	uint8_t *offer;
	size_t offer_len;
	bool trying_told, cancel_wanted;
	struct timer guard; /* 9.1: an INVITE without an answer 64*T1 after its CANCEL is over */
	/* either side */
	struct ua_slot slots[UA_SLOTS];
	unsigned n_requests;
	bool bye_wanted; /* callee: when the ACK is here (15) */
};

struct sip_ua {
	struct rng rng;
	struct log log;
	struct log_limit limit;
	unsigned max_calls;
	struct sip_txns *txns;
	struct timers *timers;
	struct account *accounts;
	struct call *calls;
	struct ua_stream *streams;
	unsigned n_accounts_ever, n_calls_ever, n_streams;
	uint64_t n_streams_ever;
	struct ua_event *ev_head, **ev_tail, *ev_lent;
	uint8_t *scratch; /* SIP_MSG_MAX: a message being written */
	struct sip_msg *parsed; /* a message being read */
	struct sip_ua_stats stats;
};

/* ---- ua.c ---- */
/* An event to fill and queue; NULL: out of memory. from and to become "sip:user@host". */
struct ua_event *ua_event_new(struct sip_ua *ua, enum sip_event_kind kind, const struct sip_uri *from,
			      const struct sip_uri *to, struct span body);
void ua_event_queue(struct sip_ua *ua, struct ua_event *ev);
void ua_event_reason(struct ua_event *ev, struct span text);
/* Runs the events of the transactions and frees what is through. Every entry point ends with it. */
void ua_pump(struct sip_ua *ua, uint64_t now_us);
void ua_arm(struct sip_ua *ua, struct timer *t, uint64_t due_us);
struct account *ua_account_find(const struct sip_ua *ua, unsigned id);
/* A call that the user may name. */
struct call *ua_call_find(const struct sip_ua *ua, unsigned id);

/* ---- ua_stream.c ---- */
struct ua_stream *ua_stream_open(struct account *acc); /* NULL: limit or memory */
void ua_stream_close(struct sip_ua *ua, uint64_t now_us, struct ua_stream *s);
void ua_stream_free(struct sip_ua *ua, struct ua_stream *s);
void ua_stream_input(struct sip_ua *ua, uint64_t now_us, const struct path *path, struct span bytes);
/* A whole message (ua.c). */
void ua_message(struct sip_ua *ua, uint64_t now_us, const struct path *path, struct span bytes);

/* ---- ua_request.c ---- */
void ua_req_init(struct ua_req *r, enum ua_req_kind kind, struct account *acc, struct sip_dialog *d);
void ua_req_start(struct ua_req *r, uint64_t now_us); /* takes the next number of the dialog */
void ua_req_drop(struct ua_req *r); /* no more results; its transaction ends by itself */
bool ua_req_busy(const struct ua_req *r);
void ua_req_txn_event(struct ua_req *r, uint64_t now_us, const struct sip_txn_event *ev);
/* The stream that requests wait for is open, or will not be. */
void ua_reqs_stream(struct sip_ua *ua, uint64_t now_us, uint64_t stream, bool open);
/* "sip:user@address;transport=tcp" of the account, as reached over this path. */
void ua_contact_write(struct wr *w, const struct account *acc, const struct path *path);
void ua_auth_done(struct ua_auth *a);

/* ---- ua_register.c ---- */
void ua_register_answer(struct account *acc, uint64_t now_us, const struct sip_msg *m);
void ua_register_failed(struct account *acc, uint64_t now_us, unsigned status, struct span reason, uint32_t wait_s,
			bool fatal);
void ua_register_flow_lost(struct account *acc, uint64_t now_us);
void ua_account_free(struct account *acc);
/* Unix time of an RFC 1123 date (20.17), 0: none. */
int64_t ua_date_parse(struct span text);

/* ---- ua_call.c ---- */
struct call *ua_call_new(struct account *acc, bool is_caller);
void ua_call_free(struct call *c);
bool ua_call_through(const struct call *c); /* nothing is left to do */
struct leg *ua_leg_new(struct call *c);
struct leg *ua_leg_up(const struct call *c); /* the first that lives */
void ua_leg_bye(struct call *c, uint64_t now_us, struct leg *l);
/* Tells the user, once, that the call is over. */
void ua_call_over(struct call *c, enum sip_event_kind kind, unsigned leg, unsigned status, struct span reason);
void ua_invite_answer(struct call *c, uint64_t now_us, const struct sip_msg *m, const struct path *path);
void ua_invite_failed(struct call *c, uint64_t now_us, unsigned status, struct span reason);
void ua_invite_ended(struct call *c);
void ua_call_peer_bye(struct call *c, struct leg *l);

/* ---- ua_callee.c ---- */
void ua_request(struct sip_ua *ua, uint64_t now_us, struct sip_txn *x, const struct path *path,
		const struct sip_msg *m);
void ua_slot_event(struct ua_slot *s, uint64_t now_us, const struct sip_txn_event *ev);
void ua_slot_done(struct ua_slot *s);
/* An answer from outside any transaction, to a message that could not be parsed whole. */
void ua_refuse(struct sip_ua *ua, const struct path *path, const struct sip_msg *m, unsigned status);
void ua_slot_fired(void *arg, uint64_t now_us);
