/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* base/rng.h - injected randomness. The daemons pass crypto_rng(); tests and the
 * simulator pass a seeded one, so that a run can be replayed. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct rng {
	/* Fills dst. Must not fail: a source that cannot deliver aborts the process. */
	void (*fill)(void *arg, void *dst, size_t len);
	void *arg;
};

void rng_fill(const struct rng *r, void *dst, size_t len);
uint32_t rng_u32(const struct rng *r);
uint64_t rng_u64(const struct rng *r);
/* Uniform in [0, n), n > 0, without modulo bias. */
uint32_t rng_below(const struct rng *r, uint32_t n);
/* n letters and digits (62 symbols, 5.95 bits each) and a NUL into dst of n + 1. */
void rng_text(const struct rng *r, char *dst, size_t n);

/* A seeded generator for tests and the simulator; not for anything secret. */
struct rng_seeded {
	uint64_t s[4];
};
struct rng rng_seeded_init(struct rng_seeded *state, uint64_t seed); /* arg borrows state */
