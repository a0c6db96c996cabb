/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane.h - the user-space ESP data plane's core (RFC 4303 tunnel mode, RFC 3948): the SA
 * database and what happens to a packet. Batch-shaped, no I/O, no clock.
 *
 *   inner packet -> flow and selector check -> replay number, seal -> outer datagram
 *   outer datagram -> SPI -> replay check, open -> selectors -> flow direction -> inner packet
 *
 * Default closed: an inner packet for which no SA fits is dropped and counted, in both
 * directions. Enforced here again after IKE's narrowing, because a peer's IKE may be hostile. */
#pragma once
#include "base/log.h"
#include "base/path.h"
#include "base/rng.h"
#include "crypto/cipher.h"
#include "esp/inner.h"

#define ESP_TS_MAX 8
#define ESP_BATCH 64
#define ESP_BATCH_OUT (2 * ESP_BATCH) /* datagrams of a batch: packets that are too long for the path leave in two */
#define ESP_LATE_US SECONDS(5) /* ours: as long as a network keeps a packet, and longer than any reorders */
#define ESP_PACKET_MAX 2048 /* inner or outer, one packet */
#define ESP_MTU_MIN 1280 /* least MTU of a path (docs/protocol.md) */
#define ESP_OVERHEAD 64 /* channel 4, SPI 4, sequence 4, IV 16, pad and trailer 17, ICV 16: never more */

struct esp_ts { /* see ike/sa.h; same meaning */
	enum addr_family family;
	uint8_t protocol;
	uint16_t port_lo, port_hi;
	uint8_t ip_lo[16], ip_hi[16];
};

enum esp_open { /* who may open a flow through this SA */
		ESP_OPEN_IN = 1, /* the peer: we are the granting side */
		ESP_OPEN_OUT = 2, /* we: the peer granted us a service */
		ESP_OPEN_BOTH = 3
};

struct esp_sa_config {
	uint32_t spi_in, spi_out;
	enum cipher_alg alg;
	uint8_t key_in[CIPHER_KEY_MAX], key_out[CIPHER_KEY_MAX]; /* cipher_key_size(alg) of it */
	struct esp_ts ts_local[ESP_TS_MAX], ts_peer[ESP_TS_MAX];
	unsigned n_local, n_peer;
	enum esp_open open;
	/* ICMPv6/ICMP echo inside the selectors is open both ways, rate-limited. The selectors must name it: both
	 * lists need an entry of protocol 58 (1) or 0 whose ports hold the request's type << 8. */
	bool allow_ping;
	bool ping_one_way; /* of echoes, too: the request comes from who may open flows */
	bool esn;
	uint32_t call, grant_id; /* labels for counters and removal */
	uint64_t hard_packets; /* 0: 2^32 - 2^20 without ESN: then nothing more is sent (RFC 4303, 3.3.3) */
	uint64_t soft_packets; /* in either direction: esp_plane_poll_due() tells, once; 0: never */
	uint64_t soft_bytes, hard_bytes; /* of inner packets, both directions together; 0: no limit */
	/* Of a new SA whose keys the peer may not have yet: nothing is sent through it until a packet came in by it, or no
	 * other SA of its grant is left (RFC 7296, 2.8). */
	bool standby;
	/* The inner packet's DSCP is also the outer one's, for anyone on the path to read (RFC 2983, 4.1 and 4.2). No: path.tos
	 * is. What the peer's packets carry inside is never changed. */
	bool copy_dscp;
	unsigned mtu; /* esp_call_set_mtu() of the call with its first SA */
	uint32_t
		replaces; /* inbound SPI of the one that sends no more once this one does, unless it is the last; 0: none */
	struct path path; /* outer addresses to send to */
};

struct esp_plane;
struct esp_sa;
struct esp_super;
struct esp_plane_config {
	const struct rng *rng;
	struct log log;
	unsigned max_sas, max_flows;
	uint8_t self
		[16]; /* our own inner address: what comes from it is this host's, and it speaks of packets too big */
};
MUST_CHECK enum err esp_plane_new(const struct esp_plane_config *cfg, struct esp_plane **ret);
void esp_plane_free(struct esp_plane *p);
/* Keys are copied; the caller wipes its own. ERR_MALFORMED: SPI under 256, selectors or algorithm that are none.
 * ERR_LIMIT: max_sas. ERR_WRONG_STATE: the inbound SPI is taken. An SA with the call and grant of an older
 * one carries that one's flows on (rekeying: add the new one, then remove the old one). */
MUST_CHECK enum err esp_sa_add(struct esp_plane *p, uint64_t now_us, const struct esp_sa_config *cfg);
/* Flows through it go as well, unless another SA of the same call and grant carries them on. */
void esp_sa_remove(struct esp_plane *p, uint32_t spi_in);
/* It was replaced: nothing is sent through it any more, but what is on its way still comes in for ESP_LATE_US. */
void esp_sa_retire(struct esp_plane *p, uint64_t now_us, uint32_t spi_in);
/* An SA of the call's that is not here (esp/set.h) was replaced: the one that waits for its end sends. */
void esp_sa_replaced(struct esp_plane *p, uint32_t call, uint32_t spi_in);
void esp_grant_remove(struct esp_plane *p, uint32_t call, uint32_t grant_id); /* all SAs of one grant */
void esp_call_remove(struct esp_plane *p, uint32_t call); /* its SAs, flows, counters and hold */
/* ChannelData counts only from the server and by the channel of a relayed path of the call's: this one, and the last other one. */
void esp_call_set_path(struct esp_plane *p, uint32_t call, const struct path *path);
/* The outer IP packet's longest, at least ESP_MTU_MIN; 0: not limited. An inner packet that does not fit (esp_plane_output) is cut
 * where it may be: IPv4 without DF, IPv6 of our own, or up to 1280 bytes, or a fragment. Else it is dropped. If it is IPv4 with DF or
 * longer than 1280 bytes, its sender is told (esp_plane_poll_inner), cut or not. The MSS option of TCP is lowered to what fits, in both directions. */
void esp_call_set_mtu(struct esp_plane *p, uint32_t call, unsigned mtu);
/* Outbound stops (consent lost); inbound goes on. For a call that has had an SA; later SAs of it are held as well. */
void esp_call_hold(struct esp_plane *p, uint32_t call, bool hold);
/* Echo in the SAs that the call has is over (`ping` was taken back), but in those where it goes one way; flows go on. */
void esp_call_ping_off(struct esp_plane *p, uint32_t call);
bool esp_spi_taken(const struct esp_plane *p, uint32_t spi_in);
uint32_t esp_spi_call(const struct esp_plane *p, uint32_t spi_in); /* whose it is; 0: nobody's */

/* One packet in a batch. Memory: the input's is the caller's and is written to (decrypted in place), and what esp_plane_input gives
 * out lies in it; the output of esp_plane_output belongs to the plane until the next call, and so does its path. tos: of an outer
 * datagram in and out, for which path->tos is not looked at; the inner ECN bits follow it (RFC 6040). Of a path with a channel what
 * comes out is ChannelData; what goes in is the ESP inside, with path->channel (path may be NULL: none). */
struct esp_packet {
	uint8_t *p;
	size_t len;
	const struct path *path; /* an outer datagram's; of an inner packet that came in one, its */
	uint32_t call;
	uint8_t tos;
};
/* An ICMPv6 echo of our own to the peer's inner address, as long as what fits into an IP packet of this size, but no longer than what
 * the TUN sends, whatever the call's MTU is; ret: the datagram, until the next esp_plane_output. False: no SA of the call lets it through. Its reply is no packet for
 * anybody else: esp_plane_poll_echo() tells the size after esp_plane_input. */
bool esp_plane_echo(struct esp_plane *p, uint32_t call, const uint8_t peer[16], unsigned size, struct esp_packet *ret);
bool esp_plane_may_echo(const struct esp_plane *p, uint32_t call, const uint8_t peer[16]);
bool esp_plane_poll_echo(struct esp_plane *p, uint32_t *ret_call, unsigned *ret_size);
/* Outer datagrams (ESP, without UDP header) in; inner packets out. Returns how many of out[] are filled,
 * at most n; n is at most ESP_BATCH. */
unsigned esp_plane_input(struct esp_plane *p, uint64_t now_us, struct esp_packet *in, unsigned n,
			 struct esp_packet out[ESP_BATCH]);
/* Inner packets in; outer datagrams out, at most 2 n. */
unsigned esp_plane_output(struct esp_plane *p, uint64_t now_us, struct esp_packet *in, unsigned n,
			  struct esp_packet out[ESP_BATCH_OUT]);
/* A super-packet of the TUN (esp/segment.h) on its way: segment by segment, as far as there is room. Zeros but for `super`; done
 * when at is super->n. Between two calls for one of them nothing else happens to the plane. */
struct esp_super_work {
	const struct esp_super *super;
	unsigned at;
	bool elsewhere; /* what no SA is for may be another shard's: it is not counted, `lost` says so */
	bool lost;
	/* the plane's */
	bool begun, single;
	struct esp_sa *sa;
	struct esp_inner pkt;
};
/* Datagrams into out[n_out...], whose memory is the plane's until the next call with n_out 0; returns how many there are then. */
unsigned esp_plane_super(struct esp_plane *p, uint64_t now_us, struct esp_super_work *w, unsigned n_out,
			 struct esp_packet out[ESP_BATCH_OUT]);
/* After either: more packets for the TUN, until false. Of esp_plane_input fragments that came before their datagram's first one
 * and were held for a moment; of esp_plane_output what is to be said to senders on this side, with a limit for each call.
 * Memory: until the next call of either. */
bool esp_plane_poll_inner(struct esp_plane *p, struct esp_packet *ret);
void esp_plane_tick(struct esp_plane *p, uint64_t now_us); /* flow time-outs */
uint64_t esp_plane_deadline_us(const struct esp_plane *p);

/* An SA whose numbers or bytes are nearly used up, or are (hard). */
struct esp_due {
	uint32_t spi_in, call;
	bool hard;
};
bool esp_plane_poll_due(struct esp_plane *p, struct esp_due *ret);
bool esp_plane_has_due(const struct esp_plane *p);
/* esp_plane_poll_due or esp_plane_poll_echo has something to tell. */
bool esp_plane_has_news(const struct esp_plane *p);

/* Counters by reason. */
enum esp_drop {
	ESP_DROP_SHORT,
	ESP_DROP_UNKNOWN_SPI,
	ESP_DROP_REPLAY,
	ESP_DROP_AUTH,
	ESP_DROP_FORMAT,
	ESP_DROP_SELECTOR, /* inner packet outside the SA's selectors */
	ESP_DROP_DIRECTION, /* a flow that this side may not open */
	ESP_DROP_NO_SA, /* outbound: nothing grants it */
	ESP_DROP_HELD,
	ESP_DROP_EXHAUSTED,
	ESP_DROP_FLOWS_FULL,
	ESP_DROP_PING_RATE,
	ESP_DROP_TOO_BIG,
	ESP_DROP_DUMMY, /* next header 59 (RFC 4303, 2.6) */
	ESP_DROP_ECN, /* the path marked a packet that cannot carry the mark (RFC 6040, 4.2) */
	ESP_DROP_FRAGMENT, /* inner fragment whose first has not passed */
	ESP_DROP_OVERLAP, /* inner fragment over another one */
	ESP_DROP_CHANNEL, /* ChannelData by none of the call's relayed paths */
	ESP_N_DROPS
};
const char *esp_drop_name(enum esp_drop d);
struct esp_counters {
	uint64_t packets_in, packets_out, bytes_in, bytes_out; /* inner bytes that passed */
	uint64_t drops[ESP_N_DROPS];
	uint64_t ecn_odd; /* combinations of inner and outer ECN that no tunnel makes (RFC 6040, 4.2), dropped or not */
	uint64_t last_in_us; /* last datagram that was authentic, a dummy included */
	uint64_t last_out_us;
};
void esp_counters_add(struct esp_counters *to, const struct esp_counters *c); /* of times the later ones */
const struct esp_counters *esp_plane_counters(const struct esp_plane *p); /* all of it, strangers included */
/* Of one call; false: none. They outlive its last SA until esp_call_remove, or until its place is needed. */
bool esp_call_counters(const struct esp_plane *p, uint32_t call, struct esp_counters *ret);
