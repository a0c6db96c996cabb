/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_impl.h - inside esp/ only: the plane's state, shared by plane.c (packets), plane_sa.c (SAs and calls, lifetimes)
, plane_big.c (packets that do not fit)
 * and plane_frag.c (fragments). */
#pragma once
#include "esp/frags.h"
#include "esp/plane.h"
#include "esp/sadb.h"

/* What a packet's way ends with when it was not dropped. */
#define PASSED ESP_N_DROPS
#define HELD (ESP_N_DROPS + 1) /* it stays here: it waits for its datagram's first fragment, or was for us */

#define ESP_TOLD_SLOTS 4 /* more at once say nothing new */

struct told {
	uint32_t call;
	size_t len;
	uint8_t packet[1280];
};

#define ESP_ECHOED_MAX 16
struct echoed {
	uint32_t call;
	unsigned size;
};

#define ESP_HELD_MAX 16
#define ESP_HELD_OWNER 8 /* of one call */
#define ESP_HELD_US MS(250) /* as far apart as a network brings two packets out of order, and more */

/* An inner fragment that came before its first, or after the first has come and not been taken yet. */
struct held {
	uint64_t until_us; /* 0: a free place */
	bool ready;
	struct esp_call *call;
	uint32_t grant;
	struct esp_inner pkt;
	uint8_t packet[ESP_PACKET_MAX];
};

struct esp_plane {
	struct log log;
	struct esp_sadb sadb;
	struct esp_flows *flows;
	struct esp_flow *went_by; /* the flow of the last packet out; see esp_flow_again() */
	struct esp_frags *frags;
	struct esp_counters counters;
	struct esp_sa *due_first; /* SAs with something to tell */
	struct esp_sa *late_first, *late_last; /* that were replaced, in the order in which they go */
	struct log_limit ecn_limit;
	uint8_t self[16];
	struct held held[ESP_HELD_MAX];
	unsigned n_held;
	struct told told[ESP_TOLD_SLOTS];
	unsigned told_head, n_told;
	struct echoed echoed[ESP_ECHOED_MAX];
	unsigned echoed_head, n_echoed;
	uint8_t piece[ESP_PACKET_MAX], segment[ESP_PACKET_MAX];
	uint8_t out[ESP_BATCH_OUT][ESP_PACKET_MAX];
};

static inline uint32_t plane_owner_of(const struct esp_plane *p, const struct esp_call *call)
{
	return (uint32_t)(call - p->sadb.call);
}

static inline bool plane_may_open(const struct esp_sa *sa, bool inbound)
{
	return sa->open & (inbound ? ESP_OPEN_IN : ESP_OPEN_OUT);
}

/* Does it send what belongs to no flow yet? */
static inline bool plane_sends(const struct esp_sa *sa)
{
	return !sa->standby && !sa->superseded && sa->end_us == TIME_NEVER;
}

/* plane_sa.c */
/* The peer has its keys: it sends what its grant's flows bring (RFC 7296, 2.8). */
void plane_activate(struct esp_plane *p, struct esp_sa *sa);
/* Of the others, the newest that sends and may carry this flow on. */
struct esp_sa *plane_heir_of(const struct esp_plane *p, const struct esp_sa *gone, const struct esp_flow *fl);
bool plane_used_up(const struct esp_sa *sa);
void plane_life_note(struct esp_plane *p, struct esp_sa *sa, size_t len);

static inline void plane_count_drop(struct esp_plane *p, struct esp_call *call, enum esp_drop d)
{
	p->counters.drops[d]++;
	call->counters.drops[d]++;
}

/* sa NULL: nobody's packet. */
static inline void plane_drop(struct esp_plane *p, struct esp_sa *sa, enum esp_drop d)
{
	if (sa)
		plane_count_drop(p, sa->call, d);
	else
		p->counters.drops[d]++;
}

static inline void plane_count_in(struct esp_plane *p, struct esp_call *call, size_t len)
{
	p->counters.packets_in++;
	p->counters.bytes_in += len;
	call->counters.packets_in++;
	call->counters.bytes_in += len;
}

static inline void plane_count_out(struct esp_plane *p, struct esp_call *call, unsigned n, size_t len, uint64_t now_us)
{
	struct esp_counters *both[] = { &p->counters, &call->counters };

	for (int i = 0; i < 2; i++) {
		both[i]->packets_out += n;
		both[i]->bytes_out += len;
		both[i]->last_out_us = now_us;
	}
}

/* RFC 6040, 4.1, normal mode, and DSCP as the SA says. */
static inline uint8_t plane_outer_tos(const struct esp_sa *sa, const struct esp_inner *pkt)
{
	unsigned dscp = sa->copy_dscp ? pkt->dscp : sa->path.tos >> 2;

	return (uint8_t)(dscp << 2 | pkt->ecn);
}

/* What stands before ESP in a datagram: of a path with a channel its number and a length (RFC 8656, 12.4). */
static inline size_t plane_frame_size(const struct esp_sa *sa)
{
	return sa->path.channel ? PATH_CHANNEL_HDR : 0;
}

/* The datagram in buf, of which len bytes are ESP. RFC 8656, 12.5: over UDP it need not be padded. */
static inline struct esp_packet plane_datagram(const struct esp_sa *sa, const struct esp_inner *pkt, uint8_t *buf,
					       size_t len)
{
	if (sa->path.channel) {
		put_be16(buf, sa->path.channel);
		put_be16(buf + 2, (uint16_t)len);
		len += PATH_CHANNEL_HDR;
	}
	return (struct esp_packet){
		.p = buf, .len = len, .path = &sa->path, .call = sa->call->call, .tos = plane_outer_tos(sa, pkt)
	};
}

/* plane.c */
/* Which SA sends this packet, by its flow first, so that replies leave by the SA of their flow. Changes nothing. */
enum esp_drop plane_outbound_sa(struct esp_plane *p, uint64_t now_us, const struct esp_inner *pkt,
				struct esp_sa **ret_sa, struct esp_flow **ret_flow);
/* All else that must be so before it is sealed; notes its flow. */
enum esp_drop plane_admit(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, struct esp_flow *fl,
			  const struct esp_inner *pkt);
/* One packet into p->out[at] and on; how many datagrams it became. */
unsigned plane_output_at(struct esp_plane *p, uint64_t now_us, const struct esp_packet *in, unsigned at,
			 struct esp_packet *ret);
/* Into p->out[at]. */
enum esp_drop plane_seal(struct esp_plane *p, struct esp_sa *sa, const struct esp_inner *pkt, struct span packet,
			 unsigned at, struct esp_packet *ret);

/* plane_echo.c: is this the reply to an echo of our own? Then it is noted, and goes no further. */
bool plane_echo_note(struct esp_plane *p, struct esp_sa *sa, const struct esp_inner *pkt, const uint8_t *packet);

/* plane_frag.c */
/* Of a later fragment that came in: PASSED, HELD or why not. */
enum esp_drop plane_later(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt);
/* What became of a first fragment, for those that follow it. */
void plane_first_note(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt,
		      bool inbound, enum esp_drop d);
/* HELD, or why not. */
enum esp_drop plane_hold(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_inner *pkt,
			 const uint8_t *packet);
void plane_held_tick(struct esp_plane *p, uint64_t now_us);
uint64_t plane_held_deadline_us(const struct esp_plane *p);
void plane_call_gone(struct esp_plane *p, struct esp_call *call);
bool plane_told_poll(struct esp_plane *p, struct esp_packet *ret);

/* plane_big.c: of a packet that is longer than its SA's inner_max. PASSED: it is to be cut; else it is dropped, and its
 * sender was told where that is due. */
enum esp_drop plane_too_big(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_packet *in,
			    const struct esp_inner *pkt);
