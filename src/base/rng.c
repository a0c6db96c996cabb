/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include "base/rng.h"

#include <string.h>

void rng_fill(const struct rng *r, void *dst, size_t len)
{
	r->fill(r->arg, dst, len);
}

uint32_t rng_u32(const struct rng *r)
{
	uint32_t v;

	rng_fill(r, &v, sizeof(v));
	return v;
}

uint64_t rng_u64(const struct rng *r)
{
	uint64_t v;

	rng_fill(r, &v, sizeof(v));
	return v;
}

uint32_t rng_below(const struct rng *r, uint32_t n)
{
	/* Values below 2^32 mod n would make some results likelier: draw again. */
	uint32_t reject = (uint32_t)-n % n, v;

	do
		v = rng_u32(r);
	while (v < reject);
	return v % n;
}

void rng_text(const struct rng *r, char *dst, size_t n)
{
	static const char symbols[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

	for (size_t i = 0; i < n; i++)
		dst[i] = symbols[rng_below(r, 62)];
	dst[n] = 0;
}

/* xoshiro256**, seeded by splitmix64 (Blackman and Vigna). */
static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

static uint64_t next64(uint64_t s[4])
{
	uint64_t ret = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return ret;
}

static void fill_seeded(void *arg, void *dst, size_t len)
{
	struct rng_seeded *state = arg;
	uint8_t *p = dst;

	while (len) {
		uint64_t v = next64(state->s);
		size_t n = len < sizeof(v) ? len : sizeof(v);

		memcpy(p, &v, n);
		p += n;
		len -= n;
	}
}

struct rng rng_seeded_init(struct rng_seeded *state, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15u;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		state->s[i] = z ^ z >> 31;
	}
	return (struct rng){ fill_seeded, state };
}
