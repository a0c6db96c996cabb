/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* ike/sa.h - one IKE SA with its Child SAs (RFC 7296), initiator or responder.
 *
 * No I/O and no clock. Messages go in and out without the non-ESP marker; the loop adds and
 * removes it. The window, retransmission and duplicate detection are inside (RFC 7296, 2.1
 * to 2.3). Policy is outside: the SA reports what the peer proved and asks, the owner decides:
 *
 *   initiator: new -> start -> IKE_EV_AUTHENTICATED -> IKE_EV_GRANT*, IKE_EV_CHILD_UP*
 *   responder: new -> input(IKE_SA_INIT) -> input(IKE_AUTH) -> IKE_EV_ASKED -> ike_sa_decide()
 *              -> IKE_EV_AUTHENTICATED, IKE_EV_CHILD_UP
 *
 * After every call that takes now_us drain ike_sa_poll_output() and ike_sa_poll_event(). A
 * message that fails leaves the SA as it was. */
#pragma once
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "base/timers.h"
#include "crypto/cert.h"
#include "crypto/chain.h"
#include "crypto/kex.h"
#include "ike/suite.h"

struct ike_sa;

#define IKE_MSG_MAX 8192 /* a longer message is dropped unread */
#define IKE_GRANTS_MAX 16 /* services in one call */
#define IKE_NAME_MAX 63 /* of a service */
#define IKE_CHILDREN_MAX 16
#define IKE_TS_MAX 8 /* selectors a side in one Child SA */

/* One traffic selector (RFC 7296, 3.13.1): an address range, a protocol (0: any) and a
 * port range (ICMP: type << 8 | code). Host order. */
struct ike_ts {
	enum addr_family family;
	uint8_t protocol;
	uint16_t port_lo, port_hi;
	uint8_t ip_lo[16], ip_hi[16];
};
struct ike_ts_list {
	struct ike_ts ts[IKE_TS_MAX];
	unsigned n;
};
/* Intersection of what was asked with one list of what is allowed (RFC 7296, 2.9): entry by
 * entry; *ret->n is 0 when nothing is left. */
void ike_ts_narrow(const struct ike_ts_list *asked, const struct ike_ts_list *allowed, struct ike_ts_list *ret);

/* What a Configuration payload asks for or assigns (RFC 7296, 3.15). */
#define IKE_CP_DNS_MAX 4
#define IKE_CP_SUBNETS_MAX 8
#define IKE_CP_BIT(type) (UINT32_C(1) << (type))
enum ike_cp_type {
	IKE_CP_IP4_ADDRESS = 1,
	IKE_CP_IP4_NETMASK = 2,
	IKE_CP_IP4_DNS = 3,
	IKE_CP_IP6_ADDRESS = 8,
	IKE_CP_IP6_DNS = 10,
	IKE_CP_IP4_SUBNET = 13,
	IKE_CP_IP6_SUBNET = 15
};
struct ike_cp {
	bool there;
	uint32_t asks; /* IKE_CP_BIT of each attribute */
	struct addr ip4, ip6; /* assigned; family NONE: none */
	uint8_t ip4_len; /* by its netmask; 0: none */
	struct addr dns[IKE_CP_DNS_MAX];
	unsigned n_dns;
	struct addr_prefix subnets[IKE_CP_SUBNETS_MAX];
	unsigned n_subnets;
};

/* One granted service, as TIELINE_GRANT carries it. */
struct ike_grant {
	uint32_t request, id;
	uint8_t protocol; /* 6 TCP, 17 UDP, 0 a network */
	uint16_t port;
	uint32_t seconds; /* 0: unlimited */
	char name[IKE_NAME_MAX + 1];
};

#define IKE_SECRET_MIN 16
#define IKE_SECRET_MAX 64
#define IKE_PPK_ID_MAX 64
struct ike_psk {
	uint8_t bytes[IKE_SECRET_MAX];
	size_t len;
}; /* 0: none */

/* May the initiator move there (RFC 4555, 3.5), and does anything show that it receives there (3.7)? */
enum ike_place { IKE_PLACE_NO, IKE_PLACE_UNPROVED, IKE_PLACE_PROVED };

struct ike_config {
	const struct rng *rng;
	struct log log;
	bool initiator;
	const struct identity *identity; /* ours; borrowed for the SA's life */
	char local_aor[256], peer_aor[256]; /* mail form, without "sip:": IDi/IDr */
	/* What the peer must prove. A certificate whose DER hashes to one of the fingerprints, whose key
	 * is the pinned one, and a good signature over the AUTH octets by that key. */
	struct {
		enum hash_alg hash;
		uint8_t value[HASH_MAX];
	} fingerprints[4];
	unsigned n_fingerprints;
	bool has_peer_key;
	uint8_t peer_key[SPKI_HASH]; /* tieline calls: always */
	bool bare; /* a stock peer: its ID and vendor IDs are not ours to demand */
	/* ESP without UDP: what NAT detection says (2.23) must be that there is none, or nothing comes of it. */
	bool plain_esp;
	/* A stock peer's other proofs. psk: both sides prove themselves by it, and no certificate is shown (RFC 7296, 2.15). ca:
	 * beside what is above, its certificate is from this CA, at wall_s (unix time), and has peer_aor as rfc822Name. The SA
	 * keeps the anchor for itself. */
	struct ike_psk psk;
	struct cert_anchor *ca;
	int64_t wall_s;
	/* Mixed into the keys, mandatory (RFC 8784); its PPK_ID is of type 2, PPK_ID_FIXED. */
	struct ike_psk ppk;
	char ppk_id[IKE_PPK_ID_MAX + 1];
	bool initial_contact; /* this is our first SA to that peer since we started (RFC 7296, 2.4) */
	/* Call binding (docs/protocol.md); tieline calls: always */
	bool has_binding;
	uint8_t tag[8], bind_hash[32];
	/* Services asked for in IKE_AUTH (initiator; tieline calls). n_names 0: all that is allowed. */
	uint32_t request;
	char names[IKE_GRANTS_MAX][IKE_NAME_MAX + 1];
	unsigned n_names;
	/* What is offered and taken; n 0: the default list. */
	struct ike_list ike, esp;
	/* Selectors proposed (initiator, and CREATE_CHILD_SA that we start). */
	struct ike_ts_list tsi, tsr;
	uint32_t cp_asks; /* initiator: what IKE_AUTH asks for in a CFG_REQUEST (2.19); 0: nothing */
	/* Is this inbound ESP SPI taken? A pure question, asked while an SPI is chosen. */
	bool (*spi_taken)(void *arg, uint32_t spi);
	void *spi_arg;
	/* Responder: a pure question, asked when an authentic update came by this path. NULL: anywhere, once it is proved. */
	enum ike_place (*place)(void *arg, const struct path *path);
	void *place_arg;
	/* Initiator: how often IKE_SA_INIT leaves before anything was answered; 0: as any request. Where no check has shown
	 * that the peer is at its address, it may be somebody else's (docs/protocol.md: 3). */
	unsigned first_sends;
	bool export_keys; /* IKE_EV_KEYS; else no secret is ever copied for anybody */
	uint32_t dpd_s; /* liveness check after that much silence; 0: off */
	/* Lifetimes (2.8): after so long the one who made the SA makes a new one; the SA ends at 5/4 of it and a minute. 0: no
	 * limit. */
	uint32_t ike_life_s, child_life_s;
};

/* The owner's: wipes the secrets of a configuration and lets go of its anchor. */
void ike_config_done(struct ike_config *cfg);
MUST_CHECK enum err ike_sa_new(const struct ike_config *cfg, struct ike_sa **ret);
void ike_sa_free(struct ike_sa *sa); /* sends nothing; wipes */

/* Initiator: sends IKE_SA_INIT on this path. */
MUST_CHECK enum err ike_sa_start(struct ike_sa *sa, uint64_t now_us, const struct path *path);
/* A datagram for this SA. Dropped and counted when it is not for it or not authentic. */
void ike_sa_input(struct ike_sa *sa, uint64_t now_us, const struct path *path, struct span msg);
/* New exchanges of ours and retransmissions leave here from now on; responses leave where the
 * request came from (2.11). */
void ike_sa_set_path(struct ike_sa *sa, const struct path *path);
/* The owner has another path, or (rebound) the other side sees us elsewhere on the one that there is. True: the owner moves
 * ESP at once, as the peer does by itself: no MOBIKE, or the SA is not up yet. False: as initiator the peer is told, and
 * IKE_EV_MOVED comes when it has answered (RFC 4555, 3.5), until when ESP stays where it is; as responder nothing happens:
 * the initiator moves. */
bool ike_sa_move(struct ike_sa *sa, uint64_t now_us, const struct path *path, bool rebound);
bool ike_sa_mobike(const struct ike_sa *sa); /* both sides said so in IKE_AUTH */
void ike_sa_tick(struct ike_sa *sa, uint64_t now_us);
uint64_t ike_sa_deadline_us(const struct ike_sa *sa);
bool ike_sa_poll_output(struct ike_sa *sa, struct out *ret);

uint64_t ike_sa_spi_i(const struct ike_sa *sa);
uint64_t ike_sa_spi_r(const struct ike_sa *sa); /* 0: not known yet */
/* Ours: the half of the SPI pair by which the dispatcher finds us. */
uint64_t ike_sa_local_spi(const struct ike_sa *sa);
/* Is that one of ours? After a rekeying the SPIs of the replaced IKE SA are, too, until it is over on both sides. */
bool ike_sa_has_spi(const struct ike_sa *sa, uint64_t local_spi);
const char *ike_sa_state_name(const struct ike_sa *sa);
bool ike_sa_up(const struct ike_sa *sa);

/* ---- the responder's decision ---- */
enum ike_verdict {
	IKE_GRANTED, /* grants[0] is the Child SA of this exchange, the others are listed */
	IKE_WAITING, /* N(TIELINE_WAIT): somebody is asked; ike_sa_grant_later() follows */
	IKE_REFUSED, /* authenticated, but nothing granted: N(TS_UNACCEPTABLE), N(TIELINE_REFUSE); the SA stays */
	IKE_REJECTED /* AUTHENTICATION_FAILED: the SA ends */
};
struct ike_decision {
	enum ike_verdict verdict;
	uint32_t request;
	unsigned n_grants;
	struct ike_grant grants[IKE_GRANTS_MAX];
	/* What the Child SA may carry: narrowed against what was proposed. Ours is the responder's side. */
	struct ike_ts_list ts_local, ts_peer;
	struct ike_cp cp; /* there: what is assigned; of it goes out what was asked for */
	uint16_t notify; /* REFUSED: the error that says why, in the place of TS_UNACCEPTABLE and REFUSE; 0: none */
	uint16_t wait_s;
	uint8_t refuse_reason; /* 0 refused, 1 declined, 2 no answer */
};
/* Answers IKE_EV_ASKED; the response leaves. */
void ike_sa_decide(struct ike_sa *sa, uint64_t now_us, const struct ike_decision *d);
/* After IKE_WAITING: an INFORMATIONAL with GRANT or REFUSE. */
MUST_CHECK enum err ike_sa_grant_later(struct ike_sa *sa, uint64_t now_us, const struct ike_decision *d);
/* Initiator: CREATE_CHILD_SA for one more grant; towards a stock peer request and id are 0. */
MUST_CHECK enum err ike_sa_child_create(struct ike_sa *sa, uint64_t now_us, uint32_t request, uint32_t grant_id,
					const struct ike_ts_list *tsi, const struct ike_ts_list *tsr);
/* The same with a CFG_REQUEST (2.19) for these attributes. */
MUST_CHECK enum err ike_sa_child_join(struct ike_sa *sa, uint64_t now_us, uint32_t request, uint32_t grant_id,
				      const struct ike_ts_list *tsi, const struct ike_ts_list *tsr, uint32_t cp_asks);
/* Deletes one Child SA (by our inbound SPI), e.g. a revoked grant, and those that it replaces or is replaced by. */
MUST_CHECK enum err ike_sa_child_delete(struct ike_sa *sa, uint64_t now_us, uint32_t spi_in);
/* New keys now, as at the end of a lifetime (1.3.2, 1.3.3): IKE_EV_REKEYED, or IKE_EV_CHILD_UP and later
 * IKE_EV_CHILD_GONE of the old one. OK also when it is under way already. */
MUST_CHECK enum err ike_sa_rekey(struct ike_sa *sa, uint64_t now_us);
MUST_CHECK enum err ike_sa_child_rekey(struct ike_sa *sa, uint64_t now_us, uint32_t spi_in);
/* Delete of the IKE SA, then IKE_EV_CLOSED when answered or after the retransmissions. Until then
 * no event but the end comes any more. Before IKE_AUTH is sent, and before the owner's decision, an SA is closed
 * at once and in silence; while IKE_AUTH is out, the Delete follows its answer. */
void ike_sa_delete(struct ike_sa *sa, uint64_t now_us);
/* Empty INFORMATIONAL now. */
void ike_sa_probe(struct ike_sa *sa, uint64_t now_us);

/* ---- events ---- */
enum ike_event_kind {
	IKE_EV_ASKED, /* responder: AUTH verified; request and names; decide */
	IKE_EV_CHILD_ASKED, /* responder: CREATE_CHILD_SA; request, grant_id; decide with one grant */
	IKE_EV_AUTHENTICATED, /* both sides proved who they are */
	IKE_EV_GRANT, /* initiator: grant */
	IKE_EV_WAIT, /* initiator: the other side asks somebody, wait_s */
	IKE_EV_REFUSED, /* initiator: request, refuse_reason (or a Child SA exchange failed: notify) */
	IKE_EV_CHILD_UP, /* child */
	IKE_EV_KEYS, /* with export_keys, before what else there is to tell: `keys` of the IKE SA, anew after new ones */
	IKE_EV_CHILD_GONE, /* child.spi_in: deleted by either side; `replaced` */
	IKE_EV_REKEYED, /* the IKE SA has new keys and SPIs; its Child SAs are as they were */
	IKE_EV_MOVED, /* ESP is to be sent to `path` from now on */
	IKE_EV_STAYED, /* initiator: the peer does not move; ESP stays on `path` */
	/* The end, after all other events; what Child SAs there were are gone without an event of their own. */
	IKE_EV_CLOSED, /* deleted by the peer or by us: fail NONE */
	IKE_EV_FAILED /* the SA is dead: fail says why */
};
enum ike_failure {
	IKE_FAIL_NONE,
	IKE_FAIL_TIMEOUT, /* no answer to our retransmissions */
	IKE_FAIL_NO_PROPOSAL,
	IKE_FAIL_AUTH, /* the peer's AUTH, or AUTHENTICATION_FAILED from it */
	IKE_FAIL_FINGERPRINT, /* its certificate is not the announced one */
	IKE_FAIL_PIN, /* certificate announced, but not the pinned key */
	IKE_FAIL_BINDING, /* vendor ID, tag or bind hash missing or different */
	IKE_FAIL_CHAIN, /* its certificate is not what the CA demands: `detail` */
	IKE_FAIL_NAT, /* plain_esp, and there is a NAT, or the peer wants ESP in UDP */
	IKE_FAIL_PPK, /* one side has no PPK, or another one */
	IKE_FAIL_PROTOCOL, /* malformed or an error notify: `notify` */
	IKE_FAIL_INTERNAL,
	IKE_FAIL_EXPIRED /* its lifetime is over, and no new keys could be made */
};
const char *ike_failure_name(enum ike_failure f);
/* An error notify (RFC 7296, 3.10.1) as a sentence about the other side; never NULL. */
const char *ike_notify_text(uint16_t notify);

struct ike_child {
	uint32_t spi_in, spi_out;
	enum cipher_alg alg;
	uint8_t key_in[CIPHER_KEY_MAX], key_out[CIPHER_KEY_MAX];
	size_t key_len; /* cipher_key_size(alg) */
	struct ike_ts_list ts_local, ts_peer;
	bool esn, we_initiated;
	uint32_t request, grant_id;
	/* Rekeying. replaces: spi_in of the one whose traffic it takes over, 0: none. Both receive until the old one is gone.
	 * standby: send through it only when the peer has, or when the old one is gone (2.8). redundant: made by both sides
	 * at once, and this is the one that goes again (2.8.1). */
	uint32_t replaces;
	bool standby, redundant;
};
/* What protects the messages of an IKE SA, each cipher_key_size(alg) bytes: SK_e with its salt, then SK_a. key_i: of its
 * initiator's. */
struct ike_export {
	uint64_t spi_i, spi_r;
	enum cipher_alg alg;
	uint8_t key_i[CIPHER_KEY_MAX], key_r[CIPHER_KEY_MAX];
};
struct ike_event {
	enum ike_event_kind kind;
	uint32_t request, grant_id;
	unsigned n_names; /* ASKED: 0 = everything allowed */
	char names[IKE_GRANTS_MAX][IKE_NAME_MAX + 1];
	bool no_request; /* ASKED by a stock peer: no TIELINE_REQUEST */
	bool wants_child; /* ASKED: an SA payload is there */
	struct ike_ts_list ts_local, ts_peer; /* ASKED: as proposed, seen from us */
	struct ike_cp cp; /* ASKED, CHILD_ASKED: what is asked for; CHILD_UP: what was assigned to us */
	struct ike_grant grant;
	uint16_t wait_s, notify;
	uint8_t refuse_reason;
	enum ike_failure fail;
	const char *detail; /* FAILED: a sentence that says more, or NULL; not owned */
	bool initial_contact; /* ASKED, AUTHENTICATED: the peer has no other SA with us */
	struct ike_child child; /* keys: wipe after use (ike_event_done) */
	struct ike_export keys; /* KEYS; the same */
	struct path path; /* MOVED, STAYED; AUTHENTICATED: by which IKE_AUTH came, as responder (RFC 4555, 3.3) */
	bool replaced; /* CHILD_GONE: another one has its traffic; packets on their way may still come in */
	uint8_t peer_key
		[SPKI_HASH]; /* ASKED, AUTHENTICATED; with a PSK a name for its owner that says nothing of the PSK */
};
bool ike_sa_poll_event(struct ike_sa *sa, struct ike_event *ret);
void ike_event_done(struct ike_event *e); /* wipes */

struct ike_stats {
	uint64_t n_in, n_out, n_retransmitted, n_duplicate, n_bad_auth, n_malformed, n_stray;
};
const struct ike_stats *ike_sa_stats(const struct ike_sa *sa);
