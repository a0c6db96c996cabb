/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/set.h - the planes of all shards, as their owner (vpn/) sees them: one thing.
 *
 * A call lives in one shard with all that belongs to it; its inbound SPIs are chosen so that SPI mod n says which, and the
 * kernel leads its datagrams there (net/bpf.h). A shard's packets are the business of whoever works on it, esp_set_plane() at a time;
 * the owner's functions stand between `enter` and `leave` of the shard, which keep the two apart. Nothing here knows of threads:
 * with no hooks, as in the simulator, one caller does both.
 *
 * Where the host has a kernel that takes ESP, one more shard is the kernel's: its packets never come here (esp/kernel.h). An SA's
 * inbound SPI says to which it belongs, so that a call changes over by new keys. */
#pragma once
#include "esp/kernel.h"
#include "esp/plane.h"

#define ESP_SHARDS_MAX 8

struct esp_set_hooks {
	void (*enter)(void *arg, unsigned shard); /* NULL: nobody else is there */
	void (*leave)(void *arg, unsigned shard);
	void *arg;
	/* Who works on a shard looks after its time as well, and wakes the owner for esp_set_poll_due and _poll_echo. */
	bool own_time;
	/* Has he said so, since it was asked last? Else these two need not enter the shard. NULL: they always do. */
	bool (*news)(void *arg, unsigned shard);
};

struct esp_set;
/* n shards of cfg->max_sas each, and of cfg->max_flows together. */
MUST_CHECK enum err esp_set_new(const struct esp_plane_config *cfg, unsigned n, const struct esp_set_hooks *hooks,
				struct esp_set **ret);
void esp_set_free(struct esp_set *s);
struct esp_plane *esp_set_plane(struct esp_set *s, unsigned shard);
unsigned esp_set_shard(const struct esp_set *s, uint32_t call);
/* There is a kernel that takes ESP. Before the first SA. ERR_NOMEM. */
MUST_CHECK enum err esp_set_kernel_begin(struct esp_set *s);
bool esp_set_has_kernel(const struct esp_set *s);
/* Grows whenever the owner has changed something by one of the following. */
uint64_t esp_set_changes(const struct esp_set *s);
/* SPI mod this is the shard, the last one the kernel's if there is one. */
unsigned esp_set_divisor(const struct esp_set *s);
bool esp_set_in_kernel(const struct esp_set *s, uint32_t spi_in);

/* The owner's half of esp/plane.h; see there. ERR_UNSUPPORTED: nothing that the kernel is given. */
MUST_CHECK enum err esp_set_add(struct esp_set *s, uint64_t now_us, const struct esp_sa_config *cfg);
void esp_set_retire(struct esp_set *s, uint64_t now_us, uint32_t call, uint32_t spi_in);
void esp_set_grant_remove(struct esp_set *s, uint32_t call, uint32_t grant_id);
void esp_set_call_remove(struct esp_set *s, uint32_t call);
void esp_set_path(struct esp_set *s, uint32_t call, const struct path *path);
void esp_set_mtu(struct esp_set *s, uint32_t call, unsigned mtu);
void esp_set_hold(struct esp_set *s, uint32_t call, bool hold);
void esp_set_ping_off(struct esp_set *s, uint32_t call);
/* May a new SA of this call have this inbound SPI? It is of the call's shard, or of the kernel's, and free. */
bool esp_set_spi_fits(struct esp_set *s, uint32_t call, bool kernel, uint32_t spi_in);
bool esp_set_may_echo(struct esp_set *s, uint32_t call, const uint8_t peer[16]);
/* Into buf, of ESP_PACKET_MAX; its path lies in the set until the next call. */
bool esp_set_echo(struct esp_set *s, uint32_t call, const uint8_t peer[16], unsigned size, uint8_t *buf,
		  struct esp_packet *ret);
bool esp_set_poll_echo(struct esp_set *s, uint32_t *ret_call, unsigned *ret_size);
bool esp_set_poll_due(struct esp_set *s, struct esp_due *ret);
void esp_set_counters(struct esp_set *s, struct esp_counters *ret); /* of all shards */
bool esp_set_call_counters(struct esp_set *s, uint32_t call, struct esp_counters *ret);
/* The kernel's: see esp/kernel.h. Nothing where there is none. */
bool esp_set_poll_kernel(struct esp_set *s, struct esp_kernel_request *ret);
void esp_set_kernel_done(struct esp_set *s, uint64_t now_us, const struct esp_kernel_request *rq, enum err e,
			 const struct esp_kernel_count *counts);
bool esp_set_poll_failed(struct esp_set *s, uint32_t *ret_call);
/* With own_time the kernel's part alone. */
void esp_set_tick(struct esp_set *s, uint64_t now_us);
uint64_t esp_set_deadline_us(struct esp_set *s);

/* Packets by the owner himself: what strayed to him, and what he has to say. in and out as with esp/plane.h; what comes out of
 * esp_set_output lies in the set until the next call. */
unsigned esp_set_input(struct esp_set *s, uint64_t now_us, struct esp_packet *in, unsigned n,
		       struct esp_packet out[ESP_BATCH]);
unsigned esp_set_output(struct esp_set *s, uint64_t now_us, struct esp_packet *in, unsigned n,
			struct esp_packet out[ESP_BATCH_OUT]);
bool esp_set_poll_inner(struct esp_set *s, struct esp_packet *ret);
