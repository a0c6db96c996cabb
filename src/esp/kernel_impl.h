/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* esp/kernel_impl.h - what the kernel is to have, and what it has.
 *   kernel.c       what the owner says      kernel_request.c  requests, and what came of them */
#pragma once
#include "esp/kernel.h"

#define KERNEL_PAIRS_MAX (ESP_TS_MAX * 2)

struct kernel_pair {
	struct addr_prefix server, client;
	/* as it is there */
	enum esp_kernel_act is;
	struct addr own, peer;
	size_t mtu;
};

/* One direction of an SA. */
struct kernel_half {
	uint32_t spi;
	uint8_t key[CIPHER_KEY_MAX]; /* wiped once the kernel has it */
	bool shall; /* be there */
	/* as it is */
	bool there, was; /* was: once. It is not made again: its numbers would begin anew */
	struct addr own, peer;
	bool ask; /* for its counters */
	struct esp_kernel_count count;
};
enum { KERNEL_OUT, KERNEL_IN, KERNEL_HALVES }; /* as esp_kernel_request.inbound */

struct kernel_sa {
	struct kernel_sa *next; /* an older one of its slot */
	struct kernel_half half[KERNEL_HALVES];
	enum cipher_alg alg;
	bool esn, copy_dscp;
	uint64_t hard_packets, soft_packets, soft_bytes, hard_bytes; /* 0: none */
	bool standby; /* it sends when the peer has, or when what it replaces is gone (esp/plane.h) */
	uint32_t replaces;
	uint64_t end_us; /* it was replaced: until when it receives; TIME_NEVER: it was not */
	bool soft_told, hard_told, due_soft, due_hard;
};

struct kernel_slot {
	struct kernel_slot *next;
	uint16_t number;
	uint32_t call, grant;
	bool ours; /* the client is on this side */
	struct kernel_pair pairs[KERNEL_PAIRS_MAX];
	unsigned n_pairs;
	struct path path;
	unsigned mtu;
	struct kernel_sa *sas; /* the newest first */
	bool held;
	bool elsewhere; /* what is sent goes by the other plane */
	bool over; /* nothing of it shall be there */
	bool failed, failed_told; /* the kernel would not; over */
	bool forget; /* its call is over, and with it the counters */
	struct esp_counters counters; /* of SAs that are gone, and times */
};

struct esp_kernel {
	struct kernel_slot *slots;
	struct esp_counters gone; /* of slots that are */
	bool work; /* there may be a request */
	bool news; /* something to tell */
	uint64_t count_us; /* when counters are asked for again */
};

/* kernel.c: it sends from now on, and no other of its slot does. */
void kernel_activate(struct esp_kernel *k, struct kernel_slot *s, struct kernel_sa *sa);
void kernel_fail(struct esp_kernel *k, struct kernel_slot *s);
void kernel_sa_free(struct kernel_slot *s, struct kernel_sa *sa); /* its counters stay */
void kernel_add_counts(struct esp_counters *to, const struct kernel_sa *sa);
/* kernel_request.c */
bool kernel_request_next(struct kernel_slot *s, struct esp_kernel_request *ret);
