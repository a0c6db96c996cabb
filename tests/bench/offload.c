/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/bench/offload.c - what cutting and merging cost a packet: a super-packet of 46 segments with 1400 bytes each,
 * cut into one arena, and those merged again; beside them, the sum of 1400 bytes by each implementation, and a copy
 * of as many. On one core; rounds alternate; medians. What is merged lies in the cache, as it does behind a cipher. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "esp/merge.h"
#include "esp/segment.h"
#include "esp/sum.h"

enum { ROUNDS = 9, LOOPS = 400, SEGMENTS = 46, PART = 1400, SLOT = 1536 };

static uint8_t super[ESP_SUPER_MAX], arena[SEGMENTS * SLOT], before[SEGMENTS][64];
static struct esp_write writes[SEGMENTS];
static volatile uint32_t sink;

static double cpu_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double v[ROUNDS])
{
	qsort(v, ROUNDS, sizeof(*v), by_value);
	return v[ROUNDS / 2];
}

struct kind {
	const char *name;
	bool v6, udp;
	double cut[ROUNDS], merged[ROUNDS], single[ROUNDS];
};

static struct esp_super super_make(const struct kind *k)
{
	size_t l3 = k->v6 ? 40 : 20, head = l3 + (k->udp ? 8 : 32), len = head + (size_t)SEGMENTS * PART;
	struct vnet v = { .gso_size = PART };
	struct esp_super s;
	uint8_t *l4 = super + l3;

	for (size_t i = 0; i < sizeof(super); i++)
		super[i] = (uint8_t)(i * 2654435761u >> 11);
	memset(super, 0, head);
	if (k->v6) {
		super[0] = 0x60;
		put_be16(super + 4, (uint16_t)(len - 40));
		super[6] = k->udp ? 17 : 6;
		super[7] = 64;
		super[8] = super[24] = 0xfd;
		super[39] = 1;
	} else {
		super[0] = 0x45;
		put_be16(super + 2, (uint16_t)len);
		super[6] = 0x40;
		super[8] = 64;
		super[9] = k->udp ? 17 : 6;
		super[12] = super[16] = 10;
		super[19] = 1;
	}
	put_be16(l4, 1000);
	put_be16(l4 + 2, 2000);
	if (k->udp) {
		put_be16(l4 + 4, (uint16_t)(len - l3));
	} else {
		l4[12] = 0x80;
		l4[13] = 0x10;
		memcpy(l4 + 20, "\1\1\10\12\0\0\0\1\0\0\0\2", 12);
	}
	v.gso_type = k->v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
	if (k->udp)
		v.gso_type = VNET_GSO_UDP_L4;
	if (esp_super_parse(span_of(super, len), &v, &s) != OK || s.n != SEGMENTS)
		exit(1);
	return s;
}

static double cut(const struct esp_super *s)
{
	double began = cpu_s();

	for (unsigned l = 0; l < LOOPS; l++)
		for (unsigned i = 0; i < SEGMENTS; i++)
			sink = (uint32_t)esp_super_segment(s, i, arena + (size_t)i * SLOT, SLOT);
	return (cpu_s() - began) * 1e9 / (LOOPS * SEGMENTS);
}

/* uso false, of UDP: looked at, and all written alone. */
static double merge(const struct esp_super *s, bool uso, unsigned want)
{
	const struct esp_merge_config cfg = { .uso = uso };
	double took = 0;

	for (unsigned i = 0; i < SEGMENTS; i++)
		memcpy(before[i], arena + (size_t)i * SLOT, sizeof(before[i]));
	for (unsigned l = 0; l < LOOPS; l++) {
		double began = cpu_s();
		struct esp_merge m;
		unsigned n;

		esp_merge_init(&m, &cfg, writes, SEGMENTS);
		for (unsigned i = 0; i < SEGMENTS; i++)
			if (!esp_merge_add(&m, arena + (size_t)i * SLOT, s->len))
				exit(1);
		n = esp_merge_finish(&m);
		took += cpu_s() - began;
		if (n != want)
			exit(1);
		/* the first one's header was changed */
		memcpy(arena, before[0], sizeof(before[0]));
	}
	return took * 1e9 / (LOOPS * SEGMENTS);
}

static double sums(int kind, bool copies)
{
	double began = cpu_s();

	for (unsigned l = 0; l < LOOPS * SEGMENTS; l++) {
		const uint8_t *from = super + (size_t)(l % SEGMENTS) * PART;
		uint8_t *to = arena + (size_t)(l % SEGMENTS) * SLOT;

		if (kind < 0)
			memcpy(to, from, PART);
		else
			sink = esp_sum_by((enum esp_sum_kind)kind, copies ? to : NULL, from, PART);
		sink = to[0];
	}
	return (cpu_s() - began) * 1e9 / (LOOPS * SEGMENTS);
}

int main(void)
{
	static const char *const names[ESP_SUM_KINDS] = { "portable", "AVX2" };
	static struct kind kinds[] = { { .name = "TCP in IPv4" },
				       { .name = "TCP in IPv6", .v6 = true },
				       { .name = "UDP in IPv4", .udp = true },
				       { .name = "UDP in IPv6", .v6 = true, .udp = true } };
	static double sum[ESP_SUM_KINDS][ROUNDS], copy[ESP_SUM_KINDS][ROUNDS], plain[ROUNDS];

	for (unsigned r = 0; r < ROUNDS; r++) {
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			struct esp_super s = super_make(&kinds[k]);

			kinds[k].cut[r] = cut(&s);
			kinds[k].merged[r] = merge(&s, true, 1);
			kinds[k].single[r] = kinds[k].udp ? merge(&s, false, SEGMENTS) : 0;
		}
		for (int k = 0; k < ESP_SUM_KINDS; k++) {
			sum[k][r] = esp_sum_has((enum esp_sum_kind)k) ? sums(k, false) : 0;
			copy[k][r] = esp_sum_has((enum esp_sum_kind)k) ? sums(k, true) : 0;
		}
		plain[r] = sums(-1, true);
	}
	printf("ns a packet, %d segments of %d bytes; sums by %s\n", SEGMENTS, PART, names[esp_sum_chosen()]);
	printf("%-14s %10s %10s %14s\n", "", "cut", "merge", "not merged");
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		printf("%-14s %10.1f %10.1f", kinds[k].name, median(kinds[k].cut), median(kinds[k].merged));
		if (kinds[k].udp)
			printf(" %14.1f", median(kinds[k].single));
		printf("\n");
	}
	for (int k = 0; k < ESP_SUM_KINDS; k++)
		if (esp_sum_has((enum esp_sum_kind)k))
			printf("sum of %d bytes, %s: %.1f; with a copy %.1f\n", PART, names[k], median(sum[k]),
			       median(copy[k]));
	printf("memcpy of %d bytes: %.1f\n", PART, median(plain));
	return 0;
}
