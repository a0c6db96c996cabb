/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/impl.h - inside vpn/ only: the state of one daemon and of its calls.
 *
 *   vpn.c       life, bytes out, time, accounts, queues         describe.c  our descriptions, and what we accept of theirs
 *   call.c      SIP events, set-up and the end of a call        tunnel.c    ICE and IKE events, SAs, liveness
 *   grant.c     what is asked, granted, forwarded and revoked   status.c    what is told about it
 *   proof.c     shared keys, CAs, first contact                 ask.c       what the owner is asked (`ask = yes`)
 *   replay.c    nonces of offers that were seen             inforce.c   requests inside the dialog
 *   input.c     bytes in
 *   child.c     Child SAs come and go           network.c   grants of networks
 *   forward.c   local ports into the tunnel
 *   keylog.c    keys for who made the call and may have them  move.c    which path ESP goes by
 *   mtu.c       how long its packets may be     plane.c     where they pass */
#pragma once
#include "esp/pmtu.h"
#include "ice/agent.h"
#include "ice/gather.h"
#include "ike/peek.h"
#include "ike/sa.h"
#include "sdp/seal.h"
#include "sip/ua.h"
#include "vpn/policy.h"
#include "vpn/vpn.h"

#define CALL_HALF_OPEN_MAX 4 /* IKE SAs of one call before one authenticates (docs/protocol.md) */
#define CALL_FORK_WAIT_US SECONDS(2) /* after a bad answer, a good one may still come from a fork */
#define CALL_ANSWERS_US SECONDS(32) /* how long after the first answer others may come (RFC 3261, 13.2.2.4: 64 T1) */
#define CALL_REGISTER_WAIT_US SECONDS(8) /* a call made before the registration stands */
/* A call made or taken before a STUN server has answered for the first time waits for five of its requests (RFC 8489, 6.2.1:
 * at 0, 0.5, 1.5, 3.5 and 7.5 s): later, or when all requests failed, calls do not wait. */
#define ICE_PACING_MS 10 /* Ta that we propose: few candidates, one component */
#define CALL_GATHER_WAIT_US SECONDS(8)
#define CALL_SETUP_US SECONDS(75) /* answered, but no SA: ICE's patience and IKE's retransmissions */
#define CALL_CLOSING_US SECONDS(5) /* how long a DELETE is repeated, or answered, after the end */
#define CALL_REFUSED_US                                                                                                \
	SECONDS(35) /* after a REFUSE of our own: its retransmissions, and then the caller has hung up */
#define ASK_OPEN_MAX 8 /* questions at a time (docs/protocol.md) */
#define ASK_UNANSWERED_MAX 5 /* of one key within the following time, that were not answered with yes */
#define ASK_REMEMBER_US SECONDS(600)
#define ASK_PAST_MAX 64
#define WAIT_MAX_S 600 /* a caller waits no longer for a person, whatever it is told */
/* RFC 8863: how long ICE tries. The callee a little longer, so that the caller is told by its own ICE that there is no path
 * before it hears a BYE for the same reason. */
#define CALLER_PATIENCE_MS 39500
#define CALLEE_PATIENCE_MS 49500
#define OFFER_FRESH_S 300
#define REPLAY_KEEP_S 600
/* Of one Child SA, far below what its cipher bears: AES-GCM's margin after 2^36 blocks is still 2^57 (a tebibyte), and without ESN
 * there are 2^32 numbers (RFC 4303, 3.3.3). Soft: then a new one is made. */
#define CHILD_SOFT_PACKETS (UINT64_C(3) << 30)
#define CHILD_SOFT_BYTES (UINT64_C(3) << 38)
#define CHILD_HARD_BYTES (UINT64_C(1) << 40)
#define IKE_LIFE_FACTOR 4 /* the IKE SA lives so many times `rekey-after` */
#define LOCALS_MAX 8
#define GATHERS_MAX 16
/* Ids of local forwards that are no grant's own: this bit, 1 bit for UDP, a counter, the port. No grant has it. */
#define FORWARD_EXTRA 0x80000000u
#define FORWARD_UDP 0x40000000u

enum call_state {
	CALL_PENDING, /* caller: waits for the registration */
	CALL_GATHERING, /* callee: accepted; waits for the own address as seen from outside */
	CALL_INVITING,
	CALL_RINGING,
	CALL_CONNECTING, /* descriptions are exchanged; ICE */
	CALL_KEYING, /* IKE */
	CALL_ASKING, /* authenticated; services asked for */
	CALL_WAITING, /* the other side asks somebody (TIELINE_WAIT) */
	CALL_UP,
	CALL_CLOSING /* over; a DELETE may still be repeated */
};

struct grant {
	struct ike_grant g;
	uint32_t spi_in; /* of its Child SA, 0: none (yet) */
	bool asked; /* caller: CREATE_CHILD_SA is under way or done */
	bool forward_wanted, told;
	struct vpn_network *net; /* owned; NULL: a service, or a network that is not up yet */
	bool net_up; /* the host has it */
	bool waits; /* for new keys, before it is used */
	struct addr local; /* caller: where it is reachable */
	uint64_t expires_us; /* TIME_NEVER: unlimited */
	int64_t until_s;
};

/* The reasons of TIELINE_REFUSE. */
enum { REFUSE_NOT_ALLOWED, REFUSE_DECLINED, REFUSE_NO_ANSWER };

/* Somebody is asked about this call. */
struct ask {
	uint32_t request, seconds;
	uint64_t until_us;
	unsigned n;
	char names[CFG_ALLOW_MAX][CFG_NAME_MAX + 1];
};
enum ask_end { ASK_OPEN, ASK_GRANTED, ASK_DECLINED, ASK_EXPIRED, ASK_LEFT, ASK_WITHDRAWN };
/* What became of a question, for who answers it late, and so that nobody asks without end. call 0: a free place. */
struct ask_past {
	unsigned call;
	uint32_t request;
	uint64_t asked_us;
	uint8_t who[32]; /* hash of key and address: a peer with a shared key has no key of its own */
	enum ask_end end;
};

struct kept {
	uint8_t *p;
	size_t len;
}; /* owned */

struct call {
	struct vpn *vpn; /* whose it is */
	unsigned id, account;
	bool outgoing, bare, trust_first, named, export_keys;
	enum call_state state;
	uint64_t owner, began_us, deadline_us;
	int64_t since_s;
	enum reason deadline_code;
	const char *deadline_text;
	struct log log;
	/* the request */
	char peer[CFG_AOR_MAX], service[CFG_NAME_MAX + 1];
	uint32_t timeout_s;
	bool timeout_given; /* by the user: then it is for all that he waits for */
	uint64_t give_up_us;
	uint16_t local_port;
	/* signalling */
	unsigned sip_call; /* 0: none (any more) */
	bool heard; /* caller: the exchange or the callee has said something */
	bool answered_once; /* a bad answer has come: fork_* */
	enum reason fork_code;
	char fork_text[200];
	unsigned leg; /* of an answer with an unknown key: not chosen yet, another one may answer too */
	uint64_t choose_us; /* TIME_NEVER: no such leg */
	bool first_pin; /* this call made us remember the key */
	uint8_t *canon_offer; /* owned; until the answer */
	size_t canon_offer_len;
	uint8_t *offer; /* owned; theirs, in CALL_GATHERING */
	size_t offer_len;
	uint8_t bind[16]; /* our own nonce */
	struct kept own_text, peer_canon; /* the pair of descriptions in force */
	/* who */
	bool has_key;
	uint8_t key[SPKI_HASH], spki[SDP_SPKI_MAX];
	size_t spki_len;
	enum trust_level level;
	uint8_t peer_address[16];
	/* how */
	bool ike_initiator, no_ice;
	bool plain_esp; /* a stock peer's `ike-esp`, which its section allows: ESP is an IP protocol of its own (RFC 4303) */
	struct path fixed; /* no_ice */
	struct ike_config *ike_cfg; /* owned, from the answer to the end */
	struct ice_agent *ice;
	struct path path; /* in use; family NONE: none yet */
	struct path aim; /* the one that ICE, or for want of it we, chose last */
	uint64_t stale_us; /* from when on nothing is sent on `path`; TIME_NEVER: it is `aim` */
	bool stale;
	struct path ike_path; /* where the IKE message that is worked on came from */
	struct pmtu mtu; /* of path */
	struct addr mtu_local, mtu_remote; /* of which path it is */
	uint64_t mtu_changes; /* esp_set_changes() when mtu_may_echo was found */
	bool mtu_may_echo;
	bool path_told;
	enum ice_type local_type, remote_type;
	struct ike_sa *sa, *half_open[CALL_HALF_OPEN_MAX];
	bool half_failed[CALL_HALF_OPEN_MAX];
	bool lingers; /* sa is over, but answers what the other side repeats */
	bool authenticated, held, peer_up;
	uint64_t authenticated_us;
	bool revoked; /* callee: the last grant is gone, not all Deletes are confirmed yet */
	unsigned n_revoking; /* Deletes of revoked grants that are not confirmed yet */
	struct ask *ask; /* callee, owned: the owner is asked; NULL: he is not */
	bool agreed; /* he said yes, or the policy did without him: this call's grants need no asking any more */
	bool refused; /* callee: all that was asked for; the caller's hang-up is awaited, CALL_REFUSED_US at most */
	/* what */
	uint32_t request, next_grant, n_forwards;
	struct grant grants[IKE_GRANTS_MAX];
	unsigned n_grants;
	uint32_t cp_asks; /* callee: the addresses that the peer asks for */
	uint16_t cp_failed; /* callee: why a network was not granted, as an error notify; 0: no such reason */
	bool told_up;
	bool in_kernel; /* new SAs are the kernel's */
	bool no_kernel; /* it would not have this call */
	uint64_t plane_due_us; /* how long `waits` of its grants; TIME_NEVER: none does, and nothing is missing */
	struct call *next;
};

struct account {
	const struct cfg_account *cfg;
	unsigned sip; /* number in the agent, 0: not started */
	bool registered, password_wrong;
	char reason[128];
	int64_t clock_off_s; /* the registrar's clock less ours, when it last answered; 0: unknown */
	struct addr server, stun, local;
};

struct replay;
MUST_CHECK enum err replay_new(const struct rng *rng, struct replay **ret);
void replay_free(struct replay *r);
bool replay_seen(const struct replay *r, const uint8_t bind[16]);
/* ERR_LIMIT: too many within 600 s, in all or of this key; the offer is then refused. */
MUST_CHECK enum err replay_add(struct replay *r, const uint8_t bind[16], const uint8_t key[SPKI_HASH], int64_t now_s);

struct want_queue {
	struct vpn_want *w;
	unsigned head, n, cap;
};
struct event_queue {
	struct vpn_event *e;
	unsigned head, n, cap;
};

struct vpn {
	struct vpn_env env;
	struct log log;
	struct config *cfg;
	struct trust *trust;
	const struct identity *identity;
	uint8_t key[SPKI_HASH], self[16], cert_hash[32];
	int64_t started_s;
	struct sip_ua *ua;
	struct esp_set *esp;
	struct ike_cookies *cookies;
	struct ice_pacer pacer;
	struct replay *replay;
	struct account accounts[CFG_ACCOUNTS_MAX];
	struct addr locals[LOCALS_MAX];
	unsigned n_locals;
	struct ice_gather *gathers[GATHERS_MAX];
	struct addr gather_local[GATHERS_MAX], gather_server[GATHERS_MAX];
	unsigned n_gathers;
	struct call *calls;
	unsigned next_call;
	struct log_limit stranger_limit;
	struct ask_past pasts[ASK_PAST_MAX];
	bool going; /* vpn_hangup_all */
	struct want_queue wants;
	struct event_queue events;
	struct sdp *sdp, *sdp_other; /* scratch: too big for a stack */
	struct sdp_ike *media;
	uint8_t canon[SDP_CANON_MAX];
	uint8_t text[SDP_TEXT_MAX];
	uint8_t (*contacts)[32]; /* whom we have had an SA with since the start; owned */
	unsigned n_contacts;
	bool contacts_full; /* not all of them are in there */
	struct outq *words; /* IKE that no SA is there for to send: cookies */
	struct outq *probes; /* ESP of our own: how long may it be? */
	uint64_t n_ike_unvalidated, n_ike_unknown, n_stun_unknown;
};

/* vpn.c */
struct call *vpn_call_new(struct vpn *v, uint64_t now_us, unsigned account, bool outgoing); /* NULL: no memory */
/* Its lines in the log are found by "peer#id"; again when the peer is known. */
void vpn_tag(const struct vpn *v, struct call *c);
struct call *vpn_call_find(struct vpn *v, unsigned id); /* live ones only */
unsigned vpn_calls_active(const struct vpn *v);
void vpn_want(struct vpn *v, const struct vpn_want *w);
struct vpn_event vpn_event_of(const struct call *c, uint64_t now_us, enum vpn_event_kind kind);
void vpn_tell(struct vpn *v, const struct vpn_event *e);
void vpn_say(struct vpn *v, const struct call *c, uint64_t now_us, enum vpn_event_kind kind);
void vpn_audit(struct vpn *v, const struct call *c, const char *fmt, ...) PRINTF_LIKE(3, 4);
int64_t vpn_wall_s(const struct vpn *v);
bool vpn_gathered(const struct vpn *v);

/* describe.c: what is wrong with a description, as the call's end. */
struct verdict {
	bool ok;
	enum reason code;
	unsigned status;
	const char *text;
};
/* Our offer, into v->text; *ret_len. Keeps canon and bind in the call. */
MUST_CHECK enum err describe_offer(struct vpn *v, struct call *c, size_t *ret_len);
/* Our answer to the offer in v->sdp, v->media; the call's IKE configuration is ready after it. */
MUST_CHECK enum err describe_answer(struct vpn *v, struct call *c, struct span offer_canon, unsigned index,
				    size_t *ret_len);
/* The same for c->offer, which was found good earlier. */
MUST_CHECK enum err describe_late_answer(struct vpn *v, struct call *c, size_t *ret_len);
/* Is this offer to be talked to? Fills key, peer, level, bare, ... of c and *ret_index; v->sdp, v->media, v->canon are set. */
struct verdict describe_check_offer(struct vpn *v, struct call *c, struct span from, struct span body,
				    unsigned *ret_index, size_t *ret_canon_len);
struct verdict describe_check_answer(struct vpn *v, struct call *c, struct span body);

/* proof.c */
MUST_CHECK enum err proof_describe(const struct cfg_peer *p, struct sdp_ike *m); /* p NULL: none */
bool proof_psk_named(const struct cfg_peer *p, const struct sdp_ike *m);
MUST_CHECK enum err proof_fill(const struct vpn *v, const struct call *c, struct ike_config *k);
MUST_CHECK enum err proof_bind(const struct vpn *v, const struct call *c, struct ike_config *k);
bool proof_stands(const struct call *c, const struct cfg_peer *p, const struct cfg_peer *q); /* NULL: no section */
void proof_contacted(struct vpn *v, const struct call *c);
const char *proof_failure_text(const struct ike_event *e);

/* keylog.c: nothing, unless the call was made for it and the configuration still allows it. */
void keylog_ike(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_export *k);
void keylog_esp(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_child *k);
/* Lines of the tables, into dst of VPN_KEYS_LINE. */
void keylog_ike_line(const struct ike_export *k, char *dst);
void keylog_esp_line(bool ip6, uint32_t spi, enum cipher_alg alg, const uint8_t *key, bool esn, char *dst);

/* inforce.c */
MUST_CHECK enum err inforce_own(struct call *c, struct span text);
MUST_CHECK enum err inforce_peer(struct call *c, struct span canon);
void inforce_done(struct call *c);
void inforce_request(struct vpn *v, struct call *c, uint64_t now_us, const struct sip_event *e);

/* call.c */
void call_sip_event(struct vpn *v, uint64_t now_us, const struct sip_event *e);
void call_tick(struct vpn *v, struct call *c, uint64_t now_us);
uint64_t call_deadline_us(const struct call *c);
/* Local first (docs/protocol.md). text NULL: the code's sentence. */
void call_end(struct vpn *v, struct call *c, uint64_t now_us, enum reason code, const char *text);
/* Its forwards and route go; once. */
void call_take_down(struct vpn *v, struct call *c);
void call_free(struct call *c);
bool call_live(const struct call *c);
const char *call_state_name(const struct call *c);

/* tunnel.c */
/* How ESP goes where IKE goes by `path`. */
struct path tunnel_esp_path(const struct call *c, const struct path *path);
void tunnel_begin(struct vpn *v, struct call *c, uint64_t now_us); /* descriptions are exchanged */
void tunnel_ice_drain(struct vpn *v, struct call *c, uint64_t now_us);
void tunnel_ike_drain(struct vpn *v, struct call *c, uint64_t now_us);
/* False: it was nobody's, and nothing has changed. */
bool tunnel_ike_input(struct vpn *v, uint64_t now_us, const struct path *path, struct span msg);
void tunnel_tick(struct vpn *v, struct call *c, uint64_t now_us);

/* mtu.c */
void mtu_answered(struct vpn *v, struct call *c, uint64_t now_us, unsigned size);
void mtu_echoes(struct vpn *v, uint64_t now_us); /* after ESP came in */
void mtu_tick(struct vpn *v, struct call *c, uint64_t now_us); /* after whatever may have changed the path */

/* move.c */
void move_ice(struct vpn *v, struct call *c, uint64_t now_us, const struct ice_event *e, bool chosen);
void move_rebound(struct call *c, uint64_t now_us, const struct ice_event *e); /* our NAT has another mapping */
void move_authenticated(struct vpn *v, struct call *c, uint64_t now_us,
			const struct path *path); /* path: of IKE_AUTH */
void move_event(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e);
void move_locals(struct vpn *v, uint64_t now_us); /* v->locals changed */
void move_tick(struct vpn *v, struct call *c, uint64_t now_us);
void move_hold(struct vpn *v, struct call *c); /* c->held changed */
/* Without ICE: may IKE of the established SA come from anywhere? What is not authentic changes nothing. */
bool move_anywhere(const struct call *c);
enum ike_place move_place(void *arg, const struct path *path); /* arg: the call; for struct ike_config */

/* grant.c */
void grant_asked(struct vpn *v, struct call *c, struct ike_sa *sa, uint64_t now_us, const struct ike_event *e);
void grant_child_asked(struct vpn *v, struct call *c, struct ike_sa *sa, uint64_t now_us, const struct ike_event *e);
void grant_received(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_grant *g);
void grant_child_up(struct vpn *v, struct call *c, uint64_t now_us, struct ike_event *e);
void grant_child_gone(struct vpn *v, struct call *c, uint64_t now_us, const struct ike_event *e);
void grant_more(struct vpn *v, struct call *c, uint64_t now_us); /* caller: ask for the Child SAs that are missing */
void grant_failed(struct call *c, uint32_t id);
void grant_check_up(struct vpn *v, struct call *c, uint64_t now_us);
void grant_due(struct vpn *v, uint64_t now_us); /* lifetimes by packets and bytes */
void grant_tick(struct vpn *v, struct call *c, uint64_t now_us);
void grant_recheck(struct vpn *v, struct call *c, uint64_t now_us); /* policy changed */
/* A stock peer that calls, and has us begin the key exchange: what we propose is what its section allows, and nothing else is
 * taken. False: it allows nothing. */
MUST_CHECK bool grant_propose(struct vpn *v, struct call *c, struct ike_ts_list *ret_own, struct ike_ts_list *ret_peer);
/* Its owner's yes came: the Child SA of a stock peer, which asks for nothing by itself, is asked for by us. */
MUST_CHECK enum err grant_offer_stock(struct vpn *v, struct call *c, uint64_t now_us);
void grant_unasked(struct vpn *v, struct call *c, uint64_t now_us); /* its key is proved */
enum policy_verdict grant_verdict(const struct vpn *v, const struct call *c, const char *name);
/* One service, if policy says so; POLICY_YES: it is among the call's grants. seconds: at most so long, 0: as policy says. */
enum policy_verdict grant_by_name(struct vpn *v, struct call *c, uint64_t now_us, uint32_t request, const char *name,
				  uint32_t seconds);
/* Selectors of everything between the two inner addresses: what a caller proposes first. */
void grant_propose_all(const struct vpn *v, const struct call *c, struct ike_ts_list *ret_own,
		       struct ike_ts_list *ret_peer);

bool grant_ping_allowed(const struct vpn *v, const struct call *c);
void grant_selectors_all(struct vpn *v, struct call *c, struct ike_decision *d); /* of a stock peer */
void grant_forget(struct call *c, struct grant *g);
/* What it is about is granted no more: its flows, sockets, addresses and memory go. */
void grant_close(struct vpn *v, const struct call *c, struct grant *g);
void grants_drop(struct call *c);
struct grant *grant_by_id(struct call *c, uint32_t id);
void grant_tell(struct vpn *v, const struct call *c, uint64_t now_us, const struct grant *g);
/* Caller: it was granted and cannot be used. */
void grant_give_up(struct vpn *v, struct call *c, uint64_t now_us, struct grant *g, const char *why);

/* plane.c */
void plane_choose(const struct vpn *v, struct call *c); /* before the SPI of a first SA; grants are known */
/* A first SA is up. True: its call suits the kernel, and there will be new keys soon: what it is about waits for them. */
MUST_CHECK bool plane_change(struct vpn *v, struct call *c, uint64_t now_us, uint32_t spi_in);
void plane_leave(struct vpn *v, struct call *c, uint64_t now_us); /* the kernel would not */
void plane_recheck(struct vpn *v, struct call *c, uint64_t now_us); /* more was granted */
void plane_failures(struct vpn *v, uint64_t now_us);
void plane_tick(struct vpn *v, struct call *c, uint64_t now_us);
bool plane_is_kernel(const struct vpn *v, const struct call *c);

/* child.c: those that wait for new keys go on with what there are. */
void child_wait_over(struct vpn *v, struct call *c, uint64_t now_us);

/* forward.c */
void forward_want(struct vpn *v, struct call *c, const struct grant *g, uint16_t local_port);

/* network.c */
MUST_CHECK enum err network_lease(const struct vpn *v, const struct call *c, const struct cfg_network *cfg,
				  struct vpn_network **ret);
void network_ts(const struct call *c, const struct vpn_network *n, struct ike_ts_list *server,
		struct ike_ts_list *client);
void network_cp(const struct vpn_network *n, struct ike_cp *cp); /* added to what is there */
uint32_t network_asks(const struct vpn *v, const struct call *c); /* caller: for ike_config.cp_asks */
void network_propose(const struct vpn *v, const struct call *c, struct ike_ts_list *own, struct ike_ts_list *peer);
/* Caller: a sentence, or g->net is set. */
const char *network_take(const struct vpn *v, const struct call *c, struct grant *g, const struct ike_event *e);
const char *network_objection(const struct vpn *v, const struct call *c, const struct grant *g); /* NULL: none */
/* c is authenticated: no network that we joined may hold its inner address. */
void network_make_way(struct vpn *v, const struct call *c, uint64_t now_us);
bool network_is(const struct call *c, const struct ike_child *k);
bool network_inside(const struct vpn_network *n, const struct ike_ts *t);
bool network_selector(const struct call *c, const struct grant *g, const struct ike_ts *t, bool local);
void network_up(struct vpn *v, const struct call *c, struct grant *g);
void network_down(struct vpn *v, const struct call *c, struct grant *g);
void network_drop(struct grant *g);

/* ask.c: note each service, then begin; false: no memory, or too many questions, and nobody is asked. */
MUST_CHECK bool ask_note(struct call *c, const char *name);
MUST_CHECK bool ask_begin(struct vpn *v, struct call *c, uint64_t now_us, uint32_t request);
void ask_authenticated(struct vpn *v, struct call *c, uint64_t now_us); /* the peer is proved: now the owner is told */
void ask_close(struct vpn *v, struct call *c, enum ask_end end); /* nothing where nobody is asked */
void ask_tick(struct vpn *v, struct call *c, uint64_t now_us);
void ask_recheck(struct vpn *v, struct call *c, uint64_t now_us,
		 bool known); /* policy changed; known: is the peer still? */
