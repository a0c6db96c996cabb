/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/sim.h - the deterministic simulator: complete daemons (struct vpn), the exchange and NATs in virtual time.
 * Every message is bytes with real cryptography; one seed gives one run, to the last byte.
 *
 *   main.c      command line, batches, TAP            world.c     clock, events, invariants
 *   net.c       datagrams, links, routing             stream.c    TCP streams to the exchange
 *   nat.c       NATs                                  host.c      a host with its daemon
 *   exch.c      the host of the exchange and STUN     inner.c     the IP stack behind a tunnel
 *   wrap.c      what IKE gives the data plane         evil.c      the proxy that rewrites
 *   scenario*.c what happens */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "base/timers.h"
#include "esp/plane.h"
#include "vpn/vpn.h"

#define SIM_HOSTS_MAX 4
#define SIM_EVENTS_MAX 256
#define SIM_FORWARDS_MAX 64
#define SIM_PEERS_MAX 16
#define SIM_SAS_MAX 128
#define SIM_DOMAIN "example.net"
#define SIM_DATAGRAM_MAX 9000
#define SIM_WALL_S 1900000000 /* unix time at which every run begins */

struct world;
struct host;

/* ---- NATs ---- */
enum nat_kind { NAT_NONE, NAT_CONE, NAT_ADDRESS, NAT_PORT, NAT_SYMMETRIC, NAT_KINDS };
const char *nat_kind_name(enum nat_kind k);
bool nat_kind_parse(const char *name, enum nat_kind *ret);
/* Without a relay all pairings come up but symmetric with symmetric or port-restricted (docs/architecture.md). */
bool nat_pair_works(enum nat_kind a, enum nat_kind b);

#define NAT_MAPPINGS_MAX 64
#define NAT_PERMITS_MAX 64
struct nat_permit {
	struct addr remote;
	uint64_t until_us;
};
struct nat_mapping {
	struct addr inside, remote; /* remote: only of a mapping that depends on it */
	uint16_t port; /* outside */
	uint64_t until_us;
	struct nat_permit permits[NAT_PERMITS_MAX];
	unsigned n_permits;
};
struct nat {
	enum nat_kind kind;
	bool preserves_port;
	bool firewall; /* filters, translates nothing (IPv6) */
	uint64_t timeout_us;
	struct addr outside; /* its address; port 0 */
	struct nat_mapping m[NAT_MAPPINGS_MAX];
	unsigned n;
	uint16_t next_port;
};
void nat_init(struct nat *n, const struct rng *rng, enum nat_kind kind, const struct addr *outside);
/* A datagram on its way out: *src becomes the outside's. False: no room. */
bool nat_out(struct nat *n, const struct rng *rng, uint64_t now_us, struct addr *src, const struct addr *dst);
/* On its way in: *dst becomes the inside's. False: not let through. */
bool nat_in(struct nat *n, uint64_t now_us, const struct addr *src, struct addr *dst);

/* ---- hosts ---- */
struct sim_event {
	uint64_t at_us;
	struct vpn_event e;
};
struct sim_forward {
	unsigned call;
	uint32_t grant_id;
	uint8_t protocol;
	uint16_t port;
	uint8_t peer[16];
	bool open;
};
#define SIM_NETWORKS_MAX 32
struct sim_network {
	unsigned call;
	uint32_t grant_id;
	bool ours;
	struct vpn_network n;
};
struct sim_peer {
	unsigned call;
	uint8_t peer[16];
	bool up;
};

struct host_setup {
	const char *user; /* registers as this one */
	const char *aor_user; /* NULL: the same; whose address it claims to be */
	const char *password; /* NULL: the right one */
	unsigned identity; /* index of the pool */
	enum nat_kind nat;
	enum nat_kind outer; /* a second NAT, of the provider */
	bool udp_signalling, has_ip6, shares_lan;
	const char *daemon; /* lines of [daemon] */
	int64_t clock_off_s; /* its clock is wrong by so much */
	const char *extra; /* [peer] and [service] sections; copied */
};

#define INNER_UDP_MAX 4000 /* of inner_udp_big */
/* A datagram in fragments, one at a time, as the host's stack puts it together. */
struct inner_parts {
	bool any, seen[INNER_UDP_MAX / 8 + 2];
	uint32_t id;
	size_t n, total; /* bytes; total 0: the last one is missing */
	uint8_t packet[40 + 8 + INNER_UDP_MAX];
};

/* What the host's own inner programs did and saw. */
struct inner {
	unsigned n_echo_replies, n_synacks, n_resets, n_udp_replies;
	unsigned n_syn_in, n_echo_in, n_udp_in;
	unsigned n_told, told_mtu; /* packets too big; the newest one's MTU */
	struct inner_parts parts;
	uint16_t next_port, udp_from; /* udp_from: peer's port of the newest request */
	struct {
		uint8_t protocol, peer[16];
		uint16_t local_port, peer_port;
	} opened[64];
	unsigned n_opened;
};

struct host {
	struct world *w;
	unsigned index;
	struct host_setup setup;
	char name[16], aor[64];
	const struct identity *identity;
	struct vpn *vpn; /* NULL: the daemon is not running */
	struct addr ip4, ip6; /* port 0 */
	uint16_t sip_port, tunnel_port;
	struct nat *nat, *firewall, *outer; /* NULL: none; owned, but for the nat of a shared LAN */
	uint64_t delay_us; /* one way to the middle of the network */
	bool cut; /* no network */
	unsigned mtu,
		mtu6; /* of its link, for what the tunnel's data socket sends; 0: any; mtu6 0: the same for IPv6 */
	bool hostile; /* its own data plane checks nothing */
	uint64_t deadline_us;
	char *pins; /* the pins file */
	struct sim_event *events;
	unsigned n_events;
	struct sim_forward forwards[SIM_FORWARDS_MAX];
	unsigned n_forwards, n_bad_wants;
	struct sim_peer peers[SIM_PEERS_MAX];
	struct sim_network networks[SIM_NETWORKS_MAX];
	unsigned n_networks;
	unsigned n_peers, n_audit, n_saves, n_restarts;
	bool refuse_forwards;
	struct inner inner;
	uint8_t self[16];
	uint8_t key[SPKI_HASH];
	struct log_sink sink;
	unsigned idle_ticks;
	uint64_t n_stun_out, n_ike_out, n_datagrams_out, n_too_long;
};

struct host *host_new(struct world *w, const struct host_setup *s);
void host_free(struct host *h);
bool host_start(struct host *h); /* the daemon begins to run */
/* What its configuration and pins file say now. */
MUST_CHECK enum err host_load(struct host *h, struct config **ret_cfg, struct trust **ret_trust);
/* Its sections are these now, and it reads them again. */
MUST_CHECK enum err host_reload(struct host *h, const char *extra);
void host_kill(struct host *h); /* it dies without a word */
void host_drain(struct host *h);
void host_tick(struct host *h);
void host_datagram(struct host *h, const struct path *path, uint8_t *p, size_t len);
/* Commands of its user. call returns 0 when refused. */
unsigned host_call(struct host *h, const char *to, const char *service, bool trust_first);
void host_hangup(struct host *h, unsigned call);
enum err host_answer(struct host *h, unsigned call, bool yes, const char **ret_why);
/* Newest event of that kind, of any call (0) or one; NULL: none. */
const struct vpn_event *host_event(const struct host *h, enum vpn_event_kind kind, unsigned call);
unsigned host_event_count(const struct host *h, enum vpn_event_kind kind);
unsigned host_calls(const struct host *h); /* live ones */
bool host_registered(const struct host *h);
/* Text of a [peer] section: who, the key of which identity, what is allowed (NULL: nothing). */
const char *peer_section(struct world *w, const char *user, unsigned identity, const char *allow);
#define SERVICE_DESKTOP "[service desktop]\nlisten = tcp/5900\n"
#define SERVICE_GAME "[service game]\nlisten = udp/27015\n"

/* ---- the oracle: what may happen, written by the scenario, independent of the code under test ---- */
struct oracle_grant {
	unsigned caller, callee;
	uint8_t protocol;
	uint16_t port;
};

struct oracle_network {
	unsigned caller, callee;
	struct addr_prefix prefix;
};

/* ---- inner.c ---- */
/* Probes from a host's inner stack to a peer's inner address. */
void inner_ping(struct host *h, const struct host *to);
void inner_syn(struct host *h, const struct host *to, uint16_t port);
uint16_t inner_udp(struct host *h, const struct host *to, uint16_t port); /* its own port; a new flow */
void inner_udp_on(struct host *h, const struct host *to, uint16_t own_port, uint16_t port); /* one that there is */
/* A datagram of so many bytes, which is answered with as many; over 1232 in fragments, or whole. */
void inner_udp_big(struct host *h, const struct host *to, uint16_t own_port, uint16_t port, size_t len, bool whole);
/* From an address that was assigned, or of a host behind. */
void inner_syn_from(struct host *h, const uint8_t src[16], const uint8_t dst[16], uint16_t port);
void inner_ping_from(struct host *h, const uint8_t src[16], const uint8_t dst[16]);
void inner_syn_as(struct host *h, const uint8_t src[16], const struct host *to, uint16_t port);
void inner_input(struct host *h, uint8_t *packet, size_t len);

/* ---- SAs as IKE handed them out (wrap.c) ---- */
struct sim_sa {
	const struct esp_plane *plane;
	struct esp_sa_config cfg;
	bool removed;
};

/* ---- evil proxy ---- */
struct evil {
	unsigned case_index; /* 0: honest */
	unsigned n_hits;
	uint8_t *recorded; /* the first INVITE as it left for a callee */
	size_t recorded_len;
	bool echoes, damages; /* all datagrams come again from a third address, and damaged */
	struct path recorded_path;
	/* A complete description of the attacker's instead of this one; asked once, repeated for retransmissions. */
	bool (*attack)(struct world *w, struct span theirs, struct wr *body);
	uint8_t *made;
	size_t made_len;
};

/* ---- the exchange ---- */
struct exchange;
struct exchange_config;

/* ---- events ---- */
enum event_kind { EVENT_DATAGRAM, EVENT_STREAM_BYTES, EVENT_STREAM_STATE };
struct event {
	uint64_t due_us, serial;
	enum event_kind kind;
	struct addr from, to; /* DATAGRAM */
	struct host *local; /* DATAGRAM inside one LAN: for whom */
	uint64_t stream; /* index in w->streams */
	bool to_exchange;
	enum stream_event state;
	uint8_t *bytes;
	size_t len;
};

struct sim_stream {
	struct host *host;
	unsigned generation; /* n_restarts of the host */
	uint64_t host_number, exchange_number;
	struct addr host_local, seen; /* as the host, as the exchange sees it */
	bool up, closed;
	uint64_t last_us[2]; /* due of the newest piece to the exchange, to the host */
};

struct world {
	uint64_t seed;
	struct rng_seeded net_state, rng_state;
	struct rng net_rng, rng; /* what the network does; what the daemons draw */
	uint64_t now_us, serial;
	struct event **heap;
	unsigned n_heap, cap_heap;
	unsigned loss_ppm, dup_ppm, reorder_ppm;
	struct host *hosts[SIM_HOSTS_MAX];
	unsigned n_hosts;
	struct sim_stream *streams;
	unsigned n_streams, cap_streams;
	/* the exchange */
	struct exchange *exchange;
	struct exchange_config *exchange_config;
	struct addr exchange_addr, stun_addr;
	uint64_t exchange_delay_us, exchange_deadline_us, next_exchange_stream;
	bool exchange_cut;
	unsigned exchange_idle_ticks;
	struct log_sink exchange_sink;
	struct evil evil;
	/* oracle and findings */
	struct oracle_grant grants[16];
	unsigned n_grants;
	struct oracle_network networks[4];
	unsigned n_networks;
	struct sim_sa sas[SIM_SAS_MAX];
	unsigned n_sas; /* so many there were; the newest are kept */
	unsigned n_delivered, n_steps, n_datagrams, n_lost;
	bool came_up;
	uint64_t setup_us; /* from the command to UP */
	bool failed;
	char why[400];
	bool trace;
	char text[8][2048]; /* peer_section() */
	unsigned n_text;
};

/* world.c */
struct world *world_new(uint64_t seed, uint64_t salt, bool trace);
void world_free(struct world *w);
void world_fail(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3); /* the first one stays */
void world_trace(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
void world_post(struct world *w, const struct event *e); /* bytes are copied */
/* Runs until done() or the time is over; false: not done (which is not a failure by itself). */
bool world_until(struct world *w, bool (*done)(struct world *w, void *arg), void *arg, uint64_t limit_us);
void world_for(struct world *w, uint64_t us);
uint64_t world_below(struct world *w, uint64_t n); /* a number of the network's */
void world_allow(struct world *w, const struct host *caller, const struct host *callee, uint8_t protocol,
		 uint16_t port);
void world_allow_network(struct world *w, const struct host *caller, const struct host *callee, const char *prefix);
/* All hang up and unregister; then nothing may be left anywhere. */
void world_finish(struct world *w);
/* Both ends of this call hold the same keys and identities. */
void world_check_up(struct world *w, const struct host *a, const struct host *b);

/* net.c */
void net_send(struct host *h, const struct path *path, struct span bytes); /* a datagram */
void net_send_exchange(struct world *w, const struct addr *from, const struct addr *to, struct span bytes);
void net_arrive(struct world *w, struct event *e);
uint64_t net_delay_us(struct world *w, const struct host *h); /* one way between it and the exchange */

/* stream.c */
void stream_output(struct host *h, const struct out *o);
void stream_output_exchange(struct world *w, const struct out *o);
void stream_bytes(struct world *w, struct event *e);
void stream_state(struct world *w, struct event *e);
void stream_host_gone(struct host *h); /* its daemon died: the kernel closes its sockets */
void stream_cut(struct host *h); /* its connections are reset */
void stream_exchange_gone(struct world *w);

/* exch.c */
bool exch_start(struct world *w);
void exch_kill(struct world *w);
void exch_tick(struct world *w);
void exch_drain(struct world *w);
void exch_datagram(struct world *w, const struct addr *from, const struct addr *to, struct span d);
void exch_stream_bytes(struct world *w, const struct path *path, struct span d);
void exch_stream_event(struct world *w, const struct path *path, enum stream_event ev);
const char *exch_password(const char *user);

/* pool of identities, made once: alice, bob, carol, mallory */
enum { ID_ALICE, ID_BOB, ID_CAROL, ID_MALLORY, IDS };
bool pool_make(void);
void pool_free(void);
const struct identity *pool_identity(unsigned i);
void random_seed(uint64_t seed); /* OpenSSL's randomness from here on */

/* ---- memory (wrap.c): allocations of the daemons and the exchange may fail, those of the simulator never do ---- */
void *sim_new(size_t n); /* zeroed */
void *sim_grow(void *p, size_t n);
uint8_t *sim_copy(struct span s); /* with a NUL behind */
/* From now on: the n-th allocation fails (0: none), and of all others one_in (0: none). */
void memory_ill(unsigned long n, unsigned one_in);
void memory_well(void);
unsigned long memory_failures(void); /* since memory_ill() */
unsigned long memory_count(void);

/* wrap.c */
void wrap_watch(struct world *w); /* whose SAs are recorded; NULL: nobody's */

/* evil.c */
/* May rewrite a message that leaves the exchange; *bytes then lies in static memory. False: swallow it. */
bool evil_rewrite(struct world *w, const struct path *path, struct span *bytes);
unsigned evil_cases(void);
const char *evil_case_name(unsigned i);
bool evil_code_right(unsigned i, int code); /* may the caller's call end so? */
bool evil_may_come_up(unsigned i);
bool evil_on_answer(unsigned i);
bool evil_wants_attacker(unsigned i);

/* scenarios */
struct scenario_run {
	enum nat_kind nat[2];
	unsigned variant; /* of those that have several */
};
struct scenario {
	const char *name;
	void (*run)(struct world *w, const struct scenario_run *r);
	bool by_nat; /* one batch for each pairing */
	unsigned (*n_variants)(void); /* NULL: one */
	const char *(*variant_name)(unsigned i);
};
extern const struct scenario scenarios[];
extern const unsigned n_scenarios;
