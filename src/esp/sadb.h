/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/sadb.h - the SAs of the plane and the calls that they belong to. Internal to esp/.
 *
 * An SA is found by its inbound SPI (RFC 4301, 4.1: unicast, so the SPI alone says it), by what it covers (esp/index.h), or in
 * its call's list, from the newest to the oldest. A call is remembered, with its counters and hold, also while it has no
 * SA, until it is removed or its place is needed. Nothing that is asked here takes longer for others' SAs and calls. */
#pragma once
#include "esp/flow.h"
#include "esp/index.h"
#include "esp/packet.h"
#include "esp/plane.h"
#include "esp/replay.h"

/* Our choice: echoes a second in each direction of an SA, and how many at once. */
#define ESP_PING_INTERVAL_US 100000u
#define ESP_PING_BURST 20

/* The generic cell rate algorithm: when the next echo would be due if they came evenly. */
struct esp_rate {
	uint64_t due_us;
};
bool esp_rate_pass(struct esp_rate *r, uint64_t now_us);

struct esp_call {
	bool held;
	uint32_t call;
	struct esp_sa *newest; /* NULL: it has none, and waits among the idle ones */
	struct esp_call *chain; /* in its bucket, or of unused places */
	struct esp_call *idle_prev, *idle_next; /* in the order in which they lost their last SA */
	struct esp_counters counters;
	unsigned mtu; /* of the outer packet; 0: not limited */
	struct esp_rate told; /* of packets too big */
	uint16_t echo_id; /* of echoes of our own; 0: none yet */
	/* Of the last relayed path that is not in use any more; 0: none. */
	uint16_t relay_channel;
	struct addr relay;
};

/* Places in a list of SAs. */
struct esp_sa_links {
	struct esp_sa *prev, *next;
};

struct esp_sa {
	struct esp_sa *older, *newer; /* of its call */
	struct esp_sa *spi_chain;
	uint64_t serial; /* higher: newer */
	struct esp_leg *legs; /* the index's */
	unsigned n_legs;
	struct esp_sa_links late, due; /* the plane's: those that go, those with something to tell */
	struct esp_call *call;
	uint32_t spi_in, spi_out, grant;
	struct esp_cipher in, out;
	struct esp_replay replay;
	uint64_t seq, seq_max; /* last number sent, and the last that may be */
	uint64_t packets_in, bytes; /* lifetime; bytes in both directions */
	uint64_t soft_packets, soft_bytes, hard_bytes; /* UINT64_MAX: none */
	bool soft_told, hard_told, due_soft, due_hard;
	bool standby; /* see esp_sa_config */
	uint32_t replaces;
	bool superseded; /* the one that replaces it sends */
	uint64_t end_us; /* replaced: when it goes; TIME_NEVER: not replaced */
	struct esp_ts ts_local[ESP_TS_MAX], ts_peer[ESP_TS_MAX];
	unsigned n_local, n_peer;
	enum esp_open open;
	bool allow_ping, ping_one_way, copy_dscp;
	size_t inner_max; /* what fits into one packet of the path */
	struct esp_rate ping_in, ping_out;
	struct esp_flow *came_by; /* the flow of the last packet that came in; see esp_flow_again() */
	struct path path;
};

/* Is this pair of ends inside the selectors? ICMP echo: both ports are the request's type << 8. */
bool esp_sa_covers(const struct esp_sa *sa, const struct esp_tuple *t);
/* The addresses alone: for an ICMP error, whose inside says which flow it is about. */
bool esp_sa_covers_hosts(const struct esp_sa *sa, const struct esp_tuple *t);

/* What stands around ESP on its path. */
size_t esp_sa_around(const struct esp_sa *sa);
/* inner_max anew: the path or its MTU has changed. */
void esp_sa_fit(struct esp_sa *sa);
/* Its call goes on to another path. */
void esp_sa_set_path(struct esp_sa *sa, const struct path *path);
/* Of ChannelData: is this a relayed path that the call uses, or the last one that it has used? */
bool esp_sa_relayed(const struct esp_sa *sa, const struct path *by);

struct esp_sadb {
	struct esp_sa **by_spi; /* 1 << bits lists */
	struct esp_index *index;
	struct esp_call **by_call; /* as many */
	unsigned bits;
	struct esp_call *call; /* max places */
	struct esp_call *unused; /* places below n_places */
	struct esp_call *idle_first, *idle_last;
	unsigned n, max, n_places;
	uint64_t serial;
	struct rng rng; /* of the ciphers */
};

MUST_CHECK enum err esp_sadb_init(struct esp_sadb *db, unsigned max_sas, const struct rng *rng);
void esp_sadb_done(struct esp_sadb *db);
/* ERR_MALFORMED: selectors, SPI or algorithm are none. ERR_LIMIT: max_sas. ERR_WRONG_STATE: the SPI is taken. */
MUST_CHECK enum err esp_sadb_add(struct esp_sadb *db, const struct esp_sa_config *cfg, struct esp_sa **ret);
/* Frees sa and wipes its keys. */
void esp_sadb_remove(struct esp_sadb *db, struct esp_sa *sa);
struct esp_sa *esp_sadb_find(const struct esp_sadb *db, uint32_t spi_in);
struct esp_call *esp_sadb_call(const struct esp_sadb *db, uint32_t call); /* NULL: none */
void esp_sadb_call_forget(struct esp_sadb *db, struct esp_call *c); /* one without SAs */
