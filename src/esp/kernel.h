/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/kernel.h - SAs whose packets pass in the kernel, as their owner (esp/set.h) sees them. No I/O, no clock: what the kernel is to have
 * is kept here, and what is missing of it is pulled as requests, in an order in which nothing passes before it may and nothing
 * leaves in clear. The host carries each out and says what came of it.
 *
 *   pair   a network and the one who joined it; what passes between them, and that he alone opens flows
 *   slot   the pairs of a grant and its SAs; a packet that one of them brought is of one of these pairs
 *
 * Only networks: the kernel's selectors know no direction, so that each pair needs rules of its own, and echo to the peer's own
 * address has a limit that the kernel would not keep: there is none. */
#pragma once
#include "base/err.h"
#include "esp/plane.h"

#define ESP_KERNEL_COUNT_US SECONDS(2) /* ours: how often counters are asked for */

enum esp_kernel_act {
	ESP_KERNEL_GONE, /* pairs */
	ESP_KERNEL_BLOCK, /* nothing passes */
	ESP_KERNEL_IN, /* nothing goes out: what is sent to the other side takes its other way */
	ESP_KERNEL_HOLD, /* the same, but what is sent is dropped */
	ESP_KERNEL_PASS,
	ESP_KERNEL_ADD, /* SAs */
	ESP_KERNEL_REMOVE,
	ESP_KERNEL_MOVE, /* to new_own, new_peer, as it is */
	ESP_KERNEL_COUNT
};
struct esp_kernel_request {
	enum esp_kernel_act act;
	uint16_t slot;
	struct addr own, peer, new_own, new_peer; /* outer addresses, with ports: ESP in UDP */
	struct addr_prefix server, client; /* pairs */
	size_t mtu; /* pairs that pass: of an inner packet; 0: not limited */
	bool inbound, esn, copy_dscp; /* SAs */
	uint32_t spi;
	enum cipher_alg alg;
	uint8_t key[CIPHER_KEY_MAX]; /* ADD: to be wiped by who takes it */
	uint64_t hard_packets, hard_bytes; /* 0: no limit */
};
struct esp_kernel_count {
	uint64_t packets, bytes;
	uint32_t replayed, not_authentic; /* dropped */
};

struct esp_kernel;
struct esp_kernel *esp_kernel_new(void); /* NULL: no memory */
void esp_kernel_free(struct esp_kernel *k); /* wipes */
/* As esp_sa_add(). ERR_UNSUPPORTED: not what the kernel is given: another algorithm, a relayed path or none in UDP, selectors that are no
 * networks (echo is left out). */
MUST_CHECK enum err esp_kernel_add(struct esp_kernel *k, uint64_t now_us, const struct esp_sa_config *cfg);
/* Of any plane: it was replaced. */
void esp_kernel_retire(struct esp_kernel *k, uint64_t now_us, uint32_t spi_in);
/* An SA of the other plane sends in its place. */
void esp_kernel_superseded(struct esp_kernel *k, uint32_t spi_in);
void esp_kernel_grant_remove(struct esp_kernel *k, uint32_t call, uint32_t grant_id);
void esp_kernel_call_remove(struct esp_kernel *k, uint32_t call);
void esp_kernel_path(struct esp_kernel *k, uint32_t call, const struct path *path);
void esp_kernel_mtu(struct esp_kernel *k, uint32_t call, unsigned mtu);
void esp_kernel_hold(struct esp_kernel *k, uint32_t call, bool hold);
bool esp_kernel_has(const struct esp_kernel *k, uint32_t spi_in);

/* The next thing to be done, false: none. Its outcome comes before the next is taken. `counts` of COUNT that is OK. */
bool esp_kernel_poll(struct esp_kernel *k, struct esp_kernel_request *ret);
void esp_kernel_done(struct esp_kernel *k, uint64_t now_us, const struct esp_kernel_request *rq, enum err e,
		     const struct esp_kernel_count *counts);
/* A call that the kernel would not have: what it had of it is taken back, and nothing passes. Told once. */
bool esp_kernel_poll_failed(struct esp_kernel *k, uint32_t *ret_call);
bool esp_kernel_poll_due(struct esp_kernel *k, struct esp_due *ret);
void esp_kernel_tick(struct esp_kernel *k, uint64_t now_us);
uint64_t esp_kernel_deadline_us(const struct esp_kernel *k); /* 0: there is something to tell */

/* Added to *ret; as old as the last COUNT. False: nothing of this call. */
bool esp_kernel_call_counters(const struct esp_kernel *k, uint32_t call, struct esp_counters *ret);
void esp_kernel_counters(const struct esp_kernel *k, struct esp_counters *ret);
