/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/sa_impl.h - the inside of an SA, shared by the files that implement sa.h and by nobody else.
 *
 *   sa.c       life, output, events       sa_run.c   input and timers
 *   sa_init.c  IKE_SA_INIT        sa_auth.c  IKE_AUTH
 *   child.c    Child SAs that we are asked for, child_ask.c that we ask for        info.c INFORMATIONAL and the queue of our requests
 *   grant.c    the owner's decision        sa_fragment.c  parts of a message
 *   rekey.c    a Child SA's keys  rekey_ike.c the IKE SA's       lifetime.c when keys are to be made anew
 *   mobike.c   another path
 *
 * Rule of all exchanges: everything that can fail is done on locals, then a function whose name ends
 * in _commit changes the SA. Out of memory is like a lost datagram: nothing has changed, and
 * the retransmission tries again. */
#pragma once
#include "ike/auth.h"
#include "ike/fragment.h"
#include "ike/keys.h"
#include "ike/payload.h"
#include "ike/proposal.h"
#include "ike/sa.h"
#include "ike/window.h"

/* Named for what we wait for. Exits by time: LISTENING, INIT_DONE, ASKED by `limit_us`; INIT_SENT,
 * AUTH_SENT, CLOSING by the window's last retransmission; UP by the liveness check. */
enum ike_state {
	IKE_IDLE, /* initiator, not started */
	IKE_INIT_SENT,
	IKE_AUTH_SENT,
	IKE_LISTENING, /* responder, nothing came yet: the owner's time */
	IKE_INIT_DONE, /* responder: IKE_AUTH is next */
	IKE_ASKED, /* responder: the owner decides about IKE_AUTH */
	IKE_UP,
	IKE_CLOSING, /* our DELETE is out */
	IKE_REPLACED, /* rekeyed by the peer, who will delete it */
	IKE_DEAD,
	IKE_N_STATES
};

/* Ours: a responder gives up a half-open SA after this; it also is how long an initiator that got a
 * wrong IKE_SA_INIT may still send a right one. */
#define IKE_HALF_OPEN_US SECONDS(30)
#define IKE_RESTARTS_MAX 5 /* cookies and another KE in one IKE_SA_INIT */
#define IKE_TASKS_MAX 48 /* requests of ours that wait */
#define IKE_RETRY_US MS(200) /* when memory ran out */
#define IKE_CHILDREN_ALL (2 * IKE_CHILDREN_MAX) /* with those that are replaced */
#define IKE_OLD_MAX 4 /* IKE SAs that were replaced and are not forgotten yet */
#define IKE_OLD_US SECONDS(60) /* how long: the peer's retransmissions are over then */
/* Ours: rekeyings that the peer may begin: so many at once, then one a second. */
#define IKE_REKEY_BURST 32
#define IKE_REKEY_US SECONDS(1)
/* 2.25: a request that got TEMPORARY_FAILURE waits so long, and as much again at random; after minutes of nothing else
 * the SA is closed. */
#define IKE_BUSY_US SECONDS(2)
#define IKE_BUSY_MAX_US SECONDS(180)
/* RFC 4555, 3.11: how often an update and a check of return routability leave: 135 s. The check goes to the new address
 * alone so often, and is repeated so often if that did not tell. */
#define IKE_MOVE_SENDS 20
#define IKE_ROUTE_ALONE 3
#define IKE_ROUTE_CHECKS 3
#define IKE_COOKIE_MAX 64 /* RFC 7296, 2.6 */
#define IKE_ESP_SPI_MIN 256 /* RFC 4303, 2.1: 1 to 255 are reserved */
#define IKE_ESP_SPI_OURS 0xc0000000u /* both top bits: no ESP packet looks like STUN or channel data */

/* Until the SA is up. */
struct ike_setup {
	struct kex *kex;
	const struct ike_group *group;
	uint8_t *init_i, *init_r; /* both IKE_SA_INIT messages, for AUTH */
	size_t init_i_len, init_r_len;
	uint8_t ni[IKE_NONCE_MAX], nr[IKE_NONCE_MAX];
	size_t ni_len, nr_len;
	uint8_t cookie[IKE_COOKIE_MAX];
	size_t cookie_len;
	unsigned n_restarts;
	bool ke_changed; /* INVALID_KE_PAYLOAD was obeyed once */
	bool digital; /* the peer takes method 14 with SHA-256 */
	struct cert_anchor *ca; /* our share of the owner's */
	bool use_ppk; /* responder: the initiator has said that it does (RFC 8784, 3) */
	uint32_t spi_in; /* initiator: of the first Child SA */
};

/* A request of the peer that the owner decides about. */
struct ike_ask {
	bool is_auth; /* IKE_AUTH, else CREATE_CHILD_SA */
	struct path path;
	uint8_t request_hash[32];
	uint32_t request, grant_id;
	bool no_request;
	bool wants_child;
	/* its KE payload, where the suite has a group (PFS) */
	uint8_t ke[KEX_PUBLIC_MAX];
	size_t ke_len;
	bool ke_wrong; /* of another group than the one we choose */
	uint32_t rekeys; /* spi_in of the Child SA that it replaces; 0: none */
	bool acceptable; /* one of its ESP proposals is ours */
	struct ike_suite suite;
	uint8_t proposal;
	uint32_t spi_out;
	struct ike_ts_list tsi, tsr;
	struct ike_cp cp; /* its CFG_REQUEST */
	uint8_t ni[IKE_NONCE_MAX];
	size_t ni_len;
	uint8_t peer_key[SPKI_HASH];
	bool initial_contact;
	bool decided;
	struct ike_decision decision;
};

struct ike_child_sa {
	uint32_t spi_in, spi_out, request, grant_id;
	bool deleting; /* our Delete waits or is out */
	bool we_initiated;
	const struct ike_group
		*group; /* its keys had an exchange of their own (PFS), as its successor's shall; NULL: none */
	bool replaced; /* another one has its traffic */
	bool silent; /* the owner has not heard of it, and will not */
	uint64_t soft_us, hard_us; /* soft: TIME_NEVER once a new one is being made */
	struct ike_child_ts *ts; /* owned */
};
struct ike_child_ts {
	struct ike_ts_list local, peer;
};
/* The lowest nonce of an exchange (2.8.1). */
struct ike_low {
	uint8_t nonce[IKE_NONCE_MAX];
	size_t len;
};

/* A request of ours that waits for the window, or is out. */
enum ike_task_kind {
	IKE_TASK_CHILD,
	IKE_TASK_CHILD_DELETE,
	IKE_TASK_DECISION,
	IKE_TASK_PROBE,
	IKE_TASK_REKEY_CHILD,
	IKE_TASK_REKEY_IKE,
	IKE_TASK_UPDATE, /* of the addresses (RFC 4555, 3.5) */
	IKE_TASK_ROUTE /* does the peer receive at its new address (3.7)? */
};
struct ike_task {
	struct ike_task *next;
	enum ike_task_kind kind;
	uint32_t request, grant_id, spi_in;
	struct ike_ts_list tsi, tsr;
	uint32_t cp_asks; /* CHILD: a CFG_REQUEST goes along */
	struct ike_decision *decision; /* DECISION */
	uint8_t nonce[IKE_NONCE_OURS];
	uint64_t not_before_us; /* 0: at once */
	/* rekeying */
	uint32_t old_spi; /* spi_in of the Child SA that is replaced; CHILD: 0, or one that the peer has no more */
	uint32_t rival_spi; /* spi_in of the one by which the peer replaced it meanwhile; 0: none */
	struct ike_low rival_low;
	bool unwanted; /* its grant was taken back while it was out */
	uint64_t new_spi; /* IKE SA: our SPI */
	struct kex *kex;
	const struct ike_group *group;
	bool ke_changed;
	/* UPDATE, ROUTE; nonce: COOKIE2 */
	struct path path; /* on which it left first */
	bool spread; /* and on others as well */
};
/* Where the SA is (RFC 4555). */
struct ike_move {
	bool on; /* both sides support it */
	bool strayed; /* initiator: IKE_AUTH left on more than one path */
	bool update_due; /* initiator: the peer is to be told of sa->path */
	bool has_maybe; /* responder: `maybe` is where the peer says that it is */
	struct path esp, maybe; /* esp: where ESP goes */
	unsigned n_checks;
	uint64_t seen_spi; /* initiator: from where it was seen last, under the SPIs of then (3.8) */
	uint8_t seen[20];
};

struct ike_event_node {
	struct ike_event_node *next;
	struct ike_event e;
};
struct ike_events {
	struct ike_event_node *head, *tail;
};

struct ike_sa {
	struct ike_config cfg;
	struct log log;
	enum ike_state state;
	bool from_initiator; /* the flag in our messages (3.1): who began the exchange that made these keys */
	uint64_t spi_i, spi_r;
	struct path path; /* of our own exchanges */
	bool has_path, path_set; /* path_set: by the owner */
	struct ike_move move;
	struct ike_window window;
	struct ike_suite suite;
	struct ike_keys keys;
	uint64_t told_i, told_r; /* SPIs of the keys that were exported last */
	bool takes_fragments; /* both sides said so in IKE_SA_INIT (RFC 7383, 2.3) */
	struct ike_parts *parts[2]; /* of a request, of a response */
	struct ike_setup *setup;
	struct ike_ask *ask;
	struct ike_child_sa children[IKE_CHILDREN_ALL];
	unsigned n_children;
	struct ike_child_ts *room; /* for the next one's selectors */
	uint64_t soft_us, hard_us; /* of the IKE SA; TIME_NEVER: none */
	uint64_t busy_since_us; /* since when there was nothing but TEMPORARY_FAILURE; TIME_NEVER: not */
	uint64_t rekeys_due_us; /* the peer's rekeyings, if they came evenly */
	/* This struct is the IKE SA in force. One that it replaced, and one that waits for the end of a collision (2.8.2),
	 * are structs of their own, with nothing but SPIs, keys and window. */
	struct ike_sa *old[IKE_OLD_MAX];
	struct ike_sa *rival; /* made by the peer, while our own rekeying is out */
	struct ike_low rival_low;
	bool is_old;
	uint64_t forget_us;
	struct ike_task *queue, *task; /* waiting; out */
	unsigned n_queued;
	bool want_delete;
	uint64_t limit_us, retry_us, last_in_us;
	enum ike_failure suspect; /* what an unprotected message claimed; believed at the time-out (2.21) */
	uint16_t suspect_notify;
	struct ike_events events;
	bool has_final; /* CLOSED or FAILED, after all events */
	enum ike_event_kind final_kind;
	enum ike_failure final_fail;
	uint16_t final_notify;
	const char *detail; /* of final_fail */
	struct outq *out;
	struct ike_stats stats;
};

/* A datagram on its way through the exchanges. chain: the inner payloads, in IKE_SA_INIT the outer. */
struct ike_in {
	uint64_t now_us;
	const struct path *path;
	struct span msg;
	struct ike_header h;
	struct ike_chain chain;
};

/* ---- sa.c ---- */
void ike_enter(struct ike_sa *sa, enum ike_state to, const char *why);
void ike_fail(struct ike_sa *sa, enum ike_failure why, uint16_t notify);
/* IKE_FAIL_PROTOCOL by our own judgement: the notify, if any, is ours and not the peer's. */
void ike_fail_rules(struct ike_sa *sa, uint16_t notify);
void ike_close(struct ike_sa *sa, const char *why);
void ike_suspect(struct ike_sa *sa, uint64_t now_us, enum ike_failure why, uint16_t notify);
/* NULL: out of memory. */
struct ike_event *ike_events_add(struct ike_events *list, enum ike_event_kind kind);
void ike_events_drop(struct ike_events *list);
void ike_events_commit(struct ike_sa *sa, struct ike_events *list);
void ike_send(struct ike_sa *sa, const struct path *path, struct span msg);
/* Header of a message of ours; a request takes the window's next ID. */
struct ike_header ike_header_of(const struct ike_sa *sa, uint8_t exchange, bool is_response, uint32_t id);
MUST_CHECK enum err ike_in_hash(const struct ike_in *in, uint8_t ret[32]);
/* Answers `in` with one notify and nothing else. */
MUST_CHECK enum err ike_respond_notify(struct ike_sa *sa, const struct ike_in *in, uint16_t type, struct span data);
/* Seals b, keeps it as the answer to the request with that hash, and sends it. */
MUST_CHECK enum err ike_respond(struct ike_sa *sa, struct ike_build *b, const uint8_t request_hash[32],
				const struct path *path);
/* Closes b and encrypts it with these keys, in fragments where that is needed and agreed on. */
MUST_CHECK enum err ike_seal(const struct ike_sa *sa, struct ike_keys *keys, struct ike_build *b, struct span *ret);
MUST_CHECK enum err ike_copy(struct span s, uint8_t **ret, size_t *ret_len);
void ike_setup_free(struct ike_setup *s);
void ike_ask_free(struct ike_ask *a);

/* ---- sa_fragment.c ---- */
/* A fragment. OK: the message is complete, in *ret_whole, which the caller frees after the exchange; in->msg is its first
 * fragment, *ret its content, to be walked from *ret_first. Else it is kept or dropped, and that is all. */
MUST_CHECK enum err ike_fragment_take(struct ike_sa *sa, struct ike_in *in, const struct ike_payload *skf,
				      uint8_t plain[IKE_MSG_MAX], struct ike_parts **ret_whole, struct span *ret,
				      uint8_t *ret_first);
/* Is this the last request of the peer, cut anew? Then its answer goes out once more. */
bool ike_fragment_again(struct ike_sa *sa, const struct ike_in *in, struct span *ret_response);
void ike_fragments_drop(struct ike_sa *sa);
/* Forgets what has not become whole in time. */
void ike_fragments_tick(struct ike_sa *sa, uint64_t now_us);
uint64_t ike_fragments_deadline_us(const struct ike_sa *sa);
/* ---- sa_init.c ---- */
MUST_CHECK enum err ike_init_start(struct ike_sa *sa, uint64_t now_us);
void ike_init_request(struct ike_sa *sa, struct ike_in *in);
bool ike_spis_match(const struct ike_sa *sa, const struct ike_header *h); /* sa_run.c */
void ike_init_response(struct ike_sa *sa, struct ike_in *in);
void ike_build_certreq(const struct ike_sa *sa, struct ike_build *b);
/* ---- sa_auth.c ---- */
/* Builds IKE_AUTH with these keys into mem. */
MUST_CHECK enum err ike_auth_build(const struct ike_sa *sa, struct ike_keys *keys, struct ike_setup *setup,
				   struct ike_build *b, struct span *ret);
void ike_auth_request(struct ike_sa *sa, struct ike_in *in);
void ike_auth_response(struct ike_sa *sa, struct ike_in *in);
/* IDr, CERT and AUTH of a responder, into an open SK payload. */
MUST_CHECK enum err ike_auth_own(const struct ike_sa *sa, const struct ike_keys *keys, const struct ike_setup *setup,
				 struct ike_build *b);
/* GRANT, WAIT, REFUSE in a message to the one who asked: events for what answers our request. */
struct ike_outcome {
	bool granted, waits, refused;
	struct ike_grant first;
};
MUST_CHECK enum err ike_grants_take(const struct ike_sa *sa, const struct ike_chain *c, struct ike_events *ev,
				    struct ike_outcome *ret);
/* ---- nat.c ---- */
/* Both notifies. Where ESP goes in UDP the source hash is random, so that it cannot match: the peer sees a NAT and encapsulates. */
MUST_CHECK enum err ike_build_nat_detection(const struct ike_sa *sa, struct ike_build *b, uint64_t spi_r,
					    const struct path *path);
/* With plain_esp: nothing that changes an address is between us, and the peer knows of nothing either. */
bool ike_nat_ok(const struct ike_sa *sa, const struct ike_in *in);
/* ---- sa_init.c ---- */
/* 2.10: at least half the key size of the PRF, which is its output's (2.13). */
bool ike_nonce_suits(const struct ike_suite *s, struct span nonce);
/* ---- child.c ---- */
MUST_CHECK enum err ike_spi_choose(const struct ike_sa *sa, uint32_t *ret);
const struct ike_list *ike_child_groups(const struct ike_sa *sa); /* PFS */
/* g^ir | Ni, for ike_keymat_child(); without PFS just Ni. mem: KEX_SHARED_MAX + IKE_NONCE_MAX. */
MUST_CHECK enum err ike_keymat_seed(const struct kex *kex, const struct ike_group *group, struct span peer_ke,
				    struct span ni, uint8_t *mem, struct span *ret);
MUST_CHECK enum err ike_child_parse(const struct ike_sa *sa, const struct ike_in *in, struct ike_ask *ask);
/* Responder: SA, [Nr,] TSi, TSr into b, or the notify that says why not (*ret_notify). nr: for KEYMAT. */
MUST_CHECK enum err ike_child_answer(struct ike_sa *sa, struct ike_build *b, const struct ike_ask *ask,
				     const struct ike_decision *d, struct span nr, struct ike_events *ev,
				     bool *ret_made);
/* Initiator: the Child SA of an answer. ERR_DENIED: not what we proposed. */
struct ike_child_offer {
	uint32_t spi_in, request, grant_id;
	const struct ike_ts_list *tsi, *tsr;
	bool asked_cp; /* then a CFG_REPLY counts */
	struct span ni, nr;
	const struct ike_group *group; /* PFS; NULL: none */
	const struct kex *kex;
	bool in_auth;
};
MUST_CHECK enum err ike_child_take(const struct ike_sa *sa, const struct ike_keys *keys, const struct ike_chain *c,
				   const struct ike_child_offer *o, struct ike_event *ret);
/* Gets the memory for one more Child SA's selectors, if there is none. */
MUST_CHECK enum err ike_child_room(struct ike_sa *sa);
/* Takes the room. */
struct ike_child_sa *ike_child_commit(struct ike_sa *sa, uint64_t now_us, const struct ike_child *c);
void ike_child_remove(struct ike_sa *sa, unsigned i);
int ike_child_find(const struct ike_sa *sa, uint32_t spi_in, uint32_t spi_out); /* a 0 matches any; -1: none */
MUST_CHECK enum err ike_child_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b);
/* Children that carry traffic, and those that our own requests may still make. */
unsigned ike_child_reserved(const struct ike_sa *sa);
MUST_CHECK enum err ike_child_ask_parse(const struct ike_sa *sa, const struct ike_in *in, struct ike_ask *ask);
void ike_child_request(struct ike_sa *sa, struct ike_in *in);
void ike_child_response(struct ike_sa *sa, struct ike_in *in);
/* 1.3: the group that we want instead; the answer leaves. */
MUST_CHECK enum err ike_respond_group(struct ike_sa *sa, const struct ike_in *in, const struct ike_group *group);
/* ---- rekey.c ---- */
MUST_CHECK enum err ike_rekey_child_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b);
/* A request with REKEY_SA of a Child SA that is there. */
void ike_rekey_child_request(struct ike_sa *sa, struct ike_in *in, unsigned at);
void ike_rekey_child_response(struct ike_sa *sa, struct ike_in *in);
/* Is a request of ours that waits or is out about that Child SA? */
bool ike_rekey_child_wanted(const struct ike_sa *sa, const struct ike_task *t);
/* Is it the one by which the peer replaced what our own request, still out, is about? Who lost deletes his own (2.8.1): then
 * ours will carry the traffic. */
bool ike_rekey_is_rival(const struct ike_sa *sa, const struct ike_child_sa *c);
/* May the peer begin one more? Changes nothing; _pay does. */
bool ike_rekey_rate_ok(const struct ike_sa *sa, uint64_t now_us);
void ike_rekey_rate_pay(struct ike_sa *sa, uint64_t now_us);
void ike_low_of(struct span ni, struct span nr, struct ike_low *ret);
int ike_low_cmp(const struct ike_low *a, const struct ike_low *b);
/* Our request is over: it is forgotten, and the window is free. */
void ike_task_over(struct ike_sa *sa);
/* Our request was refused for its KE, or for having none: true once, when another may do better. */
bool ike_task_another_ke(struct ike_sa *sa, const struct ike_in *in, uint16_t notify);
/* It is to be sent again, with another nonce: at once, or (TEMPORARY_FAILURE) after a while. */
void ike_task_again(struct ike_sa *sa, uint64_t now_us, bool waits);
/* ---- rekey_ike.c ---- */
MUST_CHECK enum err ike_rekey_ike_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b);
void ike_rekey_ike_request(struct ike_sa *sa, struct ike_in *in);
void ike_rekey_ike_response(struct ike_sa *sa, struct ike_in *in);
/* The peer has deleted the IKE SA: true if another one that it made is in force now. */
bool ike_rekey_ike_heir(struct ike_sa *sa, uint64_t now_us);
void ike_old_tick(struct ike_sa *sa, uint64_t now_us);
uint64_t ike_old_deadline_us(const struct ike_sa *sa);
struct ike_sa *ike_old_find(struct ike_sa *sa, const struct ike_header *h);
void ike_old_free(struct ike_sa *sa);
/* ---- lifetime.c ---- */
void ike_life_begin(struct ike_sa *sa, uint64_t now_us, bool we_initiated); /* of the IKE SA */
void ike_child_life_begin(struct ike_sa *sa, uint64_t now_us, struct ike_child_sa *c);
void ike_life_tick(struct ike_sa *sa, uint64_t now_us);
uint64_t ike_life_deadline_us(const struct ike_sa *sa);
/* A Delete without waiting for its answer, and the end. */
void ike_give_up(struct ike_sa *sa, enum ike_failure why, uint16_t notify);
/* ---- grant.c ---- */
/* Sends the answer that the owner decided on. */
void ike_decision_run(struct ike_sa *sa, uint64_t now_us);
/* ---- mobike.c ---- */
bool ike_mobike_wants(const struct ike_sa *sa); /* do we say MOBIKE_SUPPORTED? */
void ike_mobike_up(struct ike_sa *sa, bool supported); /* IKE_AUTH is over; sa->path is its path */
/* Puts what is due before all else that waits. False: no memory. */
bool ike_mobike_queue(struct ike_sa *sa);
bool ike_mobike_wanted(const struct ike_sa *sa, const struct ike_task *t);
MUST_CHECK enum err ike_mobike_build(struct ike_sa *sa, struct ike_task *t, struct ike_build *b);
bool ike_mobike_asks_nat(const struct ike_sa *sa); /* is a PROBE built by ike_mobike_build()? */
/* The request for t (NULL: Delete of the SA) is about to leave; by the path that is returned. */
const struct path *ike_mobike_sent(struct ike_sa *sa, const struct ike_task *t);
void ike_mobike_resend(struct ike_sa *sa, struct span msg); /* what is out, once more */
/* An answer to sa->task. ERR_NOMEM: nothing has changed. ERR_DENIED: the SA is over. */
MUST_CHECK enum err ike_mobike_response(struct ike_sa *sa, const struct ike_in *in, struct ike_events *ev);
/* A request: what the answer says of it, and once that is out, what becomes of the SA. */
MUST_CHECK enum err ike_mobike_answer(const struct ike_sa *sa, const struct ike_in *in, struct ike_build *b,
				      struct ike_events *ev);
void ike_mobike_commit(struct ike_sa *sa, const struct ike_in *in);
/* ---- info.c ---- */
void ike_info_request(struct ike_sa *sa, struct ike_in *in);
void ike_info_response(struct ike_sa *sa, struct ike_in *in);
MUST_CHECK enum err ike_gone_add(struct ike_events *ev, const struct ike_child_sa *c, bool replaced);
void ike_task_free(struct ike_task *t);
MUST_CHECK enum err ike_task_add(struct ike_sa *sa, enum ike_task_kind kind, struct ike_task **ret);
/* Sends what waits, if the window is free. */
void ike_tasks_run(struct ike_sa *sa, uint64_t now_us);
uint64_t ike_tasks_deadline_us(const struct ike_sa *sa);
bool ike_task_creates(const struct ike_task *t); /* CREATE_CHILD_SA */
void ike_delete_queue(struct ike_child_sa *c, struct ike_task *t); /* t: of ike_task_add */
void ike_tasks_drop(struct ike_sa *sa);
uint8_t ike_task_exchange(const struct ike_sa *sa);
