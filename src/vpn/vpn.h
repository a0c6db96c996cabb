/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* vpn/vpn.h - everything of one daemon between its sockets and its users: accounts, trust,
 * policy, calls, Child SAs. No I/O and no clock; the daemon and the simulator link the same
 * objects and differ only in what they do with the outputs.
 *
 * In: SIP bytes, datagrams of the tunnel port (classified by their first bytes: net/demux.h,
 * docs/protocol.md), packets from the TUN, commands of users, and the time. Out: bytes, packets,
 * `wants` (things only the host can do) and `events` (what a user is told). After every call that
 * takes now_us, drain vpn_poll_want(), vpn_poll_kernel(), vpn_poll_output() and vpn_poll_event(), in this order:
 * sockets of a call are closed before its last words leave. docs/architecture.md has the way of an
 * INVITE and of a packet. */
#pragma once
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "base/timers.h"
#include "esp/set.h"
#include "sdp/ike.h"
#include "vpn/config.h"
#include "vpn/reason.h"
#include "vpn/trust.h"

struct vpn;
struct identity;

struct vpn_env {
	const struct rng *rng;
	const struct log_sink *log;
	int64_t (*wall_s)(void *arg); /* unix time; for dates in descriptions and pins */
	void *arg;
	/* Of the data plane (esp/set.h); 0: one, and nobody but vpn's caller works on it. */
	unsigned shards;
	struct esp_set_hooks shard_hooks;
};

/* cfg and trust are moved in on success; identity is borrowed for the life of vpn. */
MUST_CHECK enum err vpn_new(const struct vpn_env *env, struct config *cfg, struct trust *trust,
			    const struct identity *identity, struct vpn **ret);
void vpn_free(struct vpn *v);

/* What the host knows and vpn cannot: */
/* our addresses on which the tunnel port is open (with that port) and their changes */
void vpn_set_locals(struct vpn *v, uint64_t now_us, const struct addr *locals, unsigned n);
/* the account's server and STUN server as addresses; `local`: our source address towards the server
 * (UDP: with the SIP socket's port). Starts (or renews) registration and the STUN keepalive. */
void vpn_set_server(struct vpn *v, uint64_t now_us, unsigned account, const struct addr *server,
		    const struct addr *stun, const struct addr *local);

/* There is a kernel that takes ESP, and rules about who opens flows: calls of networks alone pass there. Before the first call; what is to be
 * done is pulled by vpn_poll_kernel(). ERR_NOMEM. */
MUST_CHECK enum err vpn_kernel_begin(struct vpn *v);

/* ---- bytes in ---- */
void vpn_input_sip(struct vpn *v, uint64_t now_us, const struct path *path, struct span bytes);
void vpn_input_stream(struct vpn *v, uint64_t now_us, const struct path *path, enum stream_event ev);
void vpn_input_stun(struct vpn *v, uint64_t now_us, const struct path *path, struct span d);
void vpn_input_ike(struct vpn *v, uint64_t now_us, const struct path *path, struct span d); /* without marker */
/* Decrypted in place; inner packets of the batch are put to `out` (valid until the next call); returns how many. */
unsigned vpn_input_esp(struct vpn *v, uint64_t now_us, struct esp_packet *in, unsigned n,
		       struct esp_packet out[ESP_BATCH]);
unsigned vpn_input_inner(struct vpn *v, uint64_t now_us, struct esp_packet *in, unsigned n,
			 struct esp_packet out[ESP_BATCH_OUT]);
/* After either of them: more packets for the TUN (esp_set_poll_inner). */
bool vpn_poll_inner(struct vpn *v, struct esp_packet *ret);
void vpn_tick(struct vpn *v, uint64_t now_us);
uint64_t vpn_deadline_us(const struct vpn *v);

/* ---- bytes out ---- */
enum vpn_channel {
	VPN_SIP,
	VPN_STUN,
	VPN_IKE
}; /* IKE: the host adds the non-ESP marker. STUN: as it is, by the data socket; it may be ESP, too */
/* The data plane, for who works on its shards. */
struct esp_set *vpn_data(struct vpn *v);
bool vpn_poll_output(struct vpn *v, enum vpn_channel *ret_channel, struct out *ret);

/* ---- things only the host can do ---- */
/* A network that one side of a call granted to the other. */
#define VPN_PREFIXES_MAX 8
struct vpn_network {
	struct addr_prefix prefixes[VPN_PREFIXES_MAX];
	unsigned n_prefixes;
	struct addr ip4, ip6; /* assigned to who joins; NONE: none, then it is its inner address in IPv6 */
	struct addr dns[CFG_DNS_MAX];
	unsigned n_dns;
};
enum vpn_want_kind {
	VPN_WANT_PEER_UP, /* route `peer` into the TUN (again, if another call has it already) */
	VPN_WANT_PEER_DOWN, /* every forward and relayed socket of `call` closed; the route away if `last` */
	VPN_WANT_FORWARD, /* caller: open a local listener for `grant`; answer vpn_forward_ready() */
	VPN_WANT_FORWARD_CLOSE, /* one grant ended; callee: of the service `name` */
	/* `network` of `call`. `ours`: we have joined: the assigned addresses on the TUN, routes to the prefixes into it, and
	 * vpn_network_ready(). Else routes to the assigned addresses. */
	VPN_WANT_NETWORK_UP,
	VPN_WANT_NETWORK_DOWN,
	VPN_WANT_SAVE_PINS, /* trust_write(vpn_trust()) to the pins file */
	VPN_WANT_AUDIT /* a line for audit.log: text */
};
struct vpn_want {
	enum vpn_want_kind kind;
	unsigned call;
	uint32_t grant_id;
	uint8_t protocol;
	uint16_t port, local_port; /* local_port: wished, 0 any */
	char name[CFG_NAME_MAX + 1];
	uint8_t self[16], peer[16]; /* inner addresses */
	struct addr target; /* FORWARD: where to; mostly `peer` */
	bool ours; /* NETWORK_UP, NETWORK_DOWN */
	struct vpn_network network;
	bool last; /* PEER_DOWN: no other call has this peer */
	uint8_t spki[SDP_SPKI_MAX]; /* the peer's key, whose hash `peer` is; empty for a stock peer */
	size_t spki_len;
	uint64_t owner; /* the user's token of vpn_call() */
	char text[320];
};
bool vpn_poll_want(struct vpn *v, struct vpn_want *ret);
/* The same for ESP in the kernel (esp/kernel.h), one at a time: its outcome comes before the next is taken. */
bool vpn_poll_kernel(struct vpn *v, struct esp_kernel_request *ret);
void vpn_kernel_done(struct vpn *v, uint64_t now_us, const struct esp_kernel_request *rq, enum err e,
		     const struct esp_kernel_count *counts);
/* local: where the forward listens; family NONE: it failed. */
void vpn_forward_ready(struct vpn *v, uint64_t now_us, unsigned call, uint32_t grant_id, const struct addr *local);

/* The answer to a NETWORK_UP of ours. */
void vpn_network_ready(struct vpn *v, uint64_t now_us, unsigned call, uint32_t grant_id, bool ok);

/* ---- users ---- */
struct vpn_call_request {
	const char *to; /* as typed; normalised here */
	const char *service; /* NULL: all that is allowed */
	const char *from; /* account AOR, NULL: the first */
	bool trust_first;
	uint32_t timeout_s; /* 0: the account's ring */
	uint16_t local_port;
	bool export_keys; /* VPN_EV_KEYS */
	uint64_t owner; /* opaque, comes back in events and wants */
};
/* ERR_NOTFOUND: no such account. ERR_DENIED: the configuration exports no keys. ERR_LIMIT: max-calls. ERR_MALFORMED: not an address. What comes after
 * is told by events. */
MUST_CHECK enum err vpn_call(struct vpn *v, uint64_t now_us, const struct vpn_call_request *r, unsigned *ret_call);
/* ERR_NOTFOUND: no such call. */
MUST_CHECK enum err vpn_hangup(struct vpn *v, uint64_t now_us, unsigned call);
/* One more local forward of a call that is up, to a port that its grants cover (a stock peer names no services): of the peer
 * itself (host NULL), or of a host of a granted network. The host is asked by VPN_WANT_FORWARD with an id that is no grant's.
 * ERR_NOTFOUND, ERR_DENIED. */
MUST_CHECK enum err vpn_forward(struct vpn *v, uint64_t now_us, unsigned call, uint8_t protocol,
				const struct addr *host, uint16_t port, uint16_t local_port);
/* The owner's answer to VPN_EV_ASKED. On error *ret_why is a sentence; nothing has changed then, but that ERR_DENIED (the policy
 * forbids it meanwhile) refuses the caller. ERR_NOTFOUND: nobody is asked (any more); ERR_NOMEM and others: try again. */
struct vpn_answer {
	unsigned call;
	bool yes, has_request; /* has_request: only if this request is still the open one */
	uint32_t request;
	uint32_t seconds; /* the grant's length at most; 0: as the configuration says */
};
MUST_CHECK enum err vpn_answer(struct vpn *v, uint64_t now_us, const struct vpn_answer *a, const char **ret_why);
void vpn_hangup_all(struct vpn *v, uint64_t now_us); /* and unregister: the daemon is going */
/* True once nothing is left to be said (after vpn_hangup_all). */
bool vpn_idle(const struct vpn *v);
/* Changed policy: running calls are looked at again at once (revocation). cfg and trust moved in. */
MUST_CHECK enum err vpn_reload(struct vpn *v, uint64_t now_us, struct config *cfg, struct trust *trust);

/* The owner of the trust store changed it: saved, and running calls are looked at again. */
MUST_CHECK enum err vpn_trust_changed(struct vpn *v, uint64_t now_us);

enum vpn_event_kind {
	VPN_EV_REGISTERED,
	VPN_EV_REGISTER_FAILED,
	VPN_EV_INCOMING, /* callee: a known peer calls */
	VPN_EV_ASKED, /* callee: its owner is to decide: vpn_answer(), vpn_ask_status() */
	VPN_EV_TRYING,
	VPN_EV_RINGING,
	VPN_EV_ANSWERED,
	VPN_EV_PATH,
	VPN_EV_AUTHENTICATED,
	VPN_EV_WAITING,
	VPN_EV_GRANTED,
	VPN_EV_REFUSED,
	VPN_EV_UP,
	VPN_EV_PATH_CHANGED,
	VPN_EV_KEYS, /* for the owner's eyes only: keys_table, keys_line */
	VPN_EV_ENDED
};
const char *vpn_event_name(enum vpn_event_kind k); /* the control protocol's words */
/* One line of a table of a packet analyser, and its longest form: an IKE SA with AES-CBC-256. */
#define VPN_KEYS_LINE 512
struct vpn_event {
	enum vpn_event_kind kind;
	unsigned account, call;
	uint64_t owner;
	uint32_t t_ms; /* since the call began */
	char peer[CFG_AOR_MAX];
	uint8_t key[SPKI_HASH];
	bool has_key;
	enum trust_level level;
	char name[CFG_NAME_MAX + 1]; /* GRANTED, REFUSED */
	bool has_network;
	struct vpn_network network; /* GRANTED */
	uint8_t protocol; /* 0: a network */
	uint16_t port;
	struct addr local, remote; /* GRANTED: where the forward listens; PATH: the pair */
	char path_type[8]; /* host, srflx, prflx, relay */
	int64_t until_s; /* 0: unlimited */
	uint32_t request, seconds; /* ASKED; seconds also WAITING: how long somebody has for his answer */
	enum reason code; /* ENDED, REFUSED, REGISTER_FAILED */
	char reason[256]; /* one plain sentence */
	const char *keys_table; /* KEYS: "ikev2_decryption_table" or "esp_sa" */
	char keys_line[VPN_KEYS_LINE]; /* KEYS: secret, to be wiped by who takes it (vpn_event_done) */
};
bool vpn_poll_event(struct vpn *v, struct vpn_event *ret);
void vpn_event_done(struct vpn_event *e); /* wipes */

/* ---- for `status`, `explain`, `trust` ---- */
const struct config *vpn_config(const struct vpn *v);
struct trust *vpn_trust(struct vpn *v);
struct vpn_account_status {
	char aor[CFG_AOR_MAX];
	bool registered;
	char reason[128];
	int64_t clock_off_s; /* by how much the registrar's clock is before ours; 0: up to 60 s, which does no harm */
	uint8_t key[SPKI_HASH], address[16];
};
bool vpn_account_status(const struct vpn *v, unsigned account,
			struct vpn_account_status *ret); /* from 0; false: no more */
struct vpn_service_status {
	char name[CFG_NAME_MAX + 1];
	uint8_t protocol;
	uint16_t port;
	uint32_t grant_id;
	struct addr local;
	int64_t until_s;
	bool has_network;
	struct vpn_network network;
};
struct vpn_call_status {
	unsigned id;
	char account[CFG_AOR_MAX], peer[CFG_AOR_MAX];
	uint8_t key[SPKI_HASH];
	enum trust_level level;
	const char *state;
	bool outgoing;
	int64_t since_s;
	struct addr local, remote;
	char path_type[8];
	uint32_t rtt_us;
	bool in_kernel; /* its packets pass there */
	unsigned mtu; /* of the outer IP packet: so much was found to pass */
	uint8_t self[16], peer_address[16];
	unsigned n_services;
	struct vpn_service_status services[CFG_ALLOW_MAX];
	struct esp_counters counters;
};
bool vpn_call_status(const struct vpn *v, unsigned *at, struct vpn_call_status *ret); /* *at from 0; false: no more */
/* What the owner is asked in this call; false: nothing. */
struct vpn_ask_status {
	uint32_t request, left_s;
	unsigned n;
	char names[CFG_ALLOW_MAX][CFG_NAME_MAX + 1];
};
bool vpn_ask_status(const struct vpn *v, uint64_t now_us, unsigned call, struct vpn_ask_status *ret);
/* What was dropped without being of any call. */
struct vpn_drops {
	uint64_t ike_unknown, ike_unvalidated, stun_unknown;
	struct esp_counters esp; /* of all, calls included */
};
void vpn_drops(const struct vpn *v, struct vpn_drops *ret);
/* The call between us and this inner address, 0: none. For relays and ping. */
unsigned vpn_call_of_peer(const struct vpn *v, const uint8_t peer[16]);
