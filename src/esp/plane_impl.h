/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/plane_impl.h - inside esp/ only: the plane's state, shared by plane.c (packets), plane_sa.c (SAs and calls, lifetimes)
 * and plane_big.c (packets that do not fit). */
#pragma once
#include "esp/frags.h"
#include "esp/plane.h"
#include "esp/sadb.h"

/* What a packet's way ends with when it was not dropped. */
#define PASSED ESP_N_DROPS

#define ESP_TOLD_SLOTS 4 /* more at once say nothing new */

struct told {
	uint32_t call;
	size_t len;
	uint8_t packet[1280];
};

struct esp_plane {
	struct log log;
	struct esp_sadb sadb;
	struct esp_flows *flows;
	struct esp_frags *frags;
	struct esp_counters counters;
	unsigned n_due; /* SAs with something to tell */
	struct log_limit ecn_limit;
	uint8_t self[16];
	struct told told[ESP_TOLD_SLOTS];
	unsigned told_head, n_told;
	uint8_t piece[ESP_PACKET_MAX];
	uint8_t in[ESP_BATCH][ESP_PACKET_MAX], out[ESP_BATCH_OUT][ESP_PACKET_MAX];
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

/* plane_big.c: of a packet that is longer than its SA's inner_max. PASSED: it is to be cut; else it is dropped, and its
 * sender was told where that is due. */
enum esp_drop plane_too_big(struct esp_plane *p, uint64_t now_us, struct esp_sa *sa, const struct esp_packet *in,
			    const struct esp_inner *pkt);
