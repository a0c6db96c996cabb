/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/bench/grants.c - what a packet costs in the data plane's core (both ends of it, without system calls) when 1, 10, 100, 1,000
 * or 10,000 grants are up, each an SA of a call of its own with selectors of its own. Two planes back to back; rounds over the numbers
 * alternate, so that a ratio is of one run; CPU time.
 *
 *   "packet"  a UDP datagram of 1,200 bytes of a flow that is open, through the grant that was given first
 *   "spread"  the same, each packet of a batch of another grant
 *   "opening" the first packet of a new flow of that grant, whose SA has to be found by its selectors
 *
 * One JSON object on stdout: nanoseconds a packet, median, minimum and maximum of the rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/timers.h"
#include "esp_pair.h"

#define ROUNDS 5
#define BATCHES 300
#define PAYLOAD 1200
#define FIRST_PORT 10000

static const unsigned numbers[] = { 1, 10, 100, 1000, 10000 };
#define N_NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

enum kind { PACKET, SPREAD, OPENING, N_KINDS };
static const char *const kind_name[N_KINDS] = { "packet", "spread", "opening" };

struct world {
	unsigned n;
	struct esp_plane *a, *b;
	uint16_t next_port;
	uint64_t now_us;
};

static double ns[N_KINDS][N_NUMBERS][ROUNDS];

static void must(bool good, const char *what)
{
	if (good)
		return;
	(void)fprintf(stderr, "grants: %s\n", what);
	exit(1);
}

static double cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void world_new(struct world *w, unsigned n)
{
	static struct rng_seeded state;
	struct rng rng = rng_seeded_init(&state, 1);
	struct esp_plane_config cfg = { .rng = &rng, .max_sas = n, .max_flows = 65536 };

	*w = (struct world){ .n = n, .next_port = 20000, .now_us = SECONDS(1) };
	must(esp_plane_new(&cfg, &w->a) == OK && esp_plane_new(&cfg, &w->b) == OK, "planes");
	for (unsigned i = 0; i < n; i++) {
		struct esp_sa_config a = pair_config_a(false), b;
		uint16_t port = (uint16_t)(FIRST_PORT + i);

		a.spi_in = PAIR_SPI_A + i;
		a.spi_out = PAIR_SPI_B + 0x100000u + i;
		a.call = a.grant_id = i + 1;
		a.n_local = a.n_peer = 1;
		a.ts_local[0] = pair_ts(false, HOST_A, HOST_A, ESP_PROTO_UDP, 0, UINT16_MAX);
		a.ts_peer[0] = pair_ts(false, HOST_B, HOST_B, ESP_PROTO_UDP, port, port);
		b = pair_mirror(&a);
		must(esp_sa_add(w->a, w->now_us, &a) == OK && esp_sa_add(w->b, w->now_us, &b) == OK, "an SA");
	}
}

/* One batch from A to B, as many as arrive. */
static unsigned carry(struct world *w, struct pkt *packets)
{
	struct esp_packet in[ESP_BATCH], out[ESP_BATCH_OUT], got[ESP_BATCH];
	unsigned n;

	for (unsigned i = 0; i < ESP_BATCH; i++)
		in[i] = (struct esp_packet){ .p = packets[i].b, .len = packets[i].len };
	w->now_us += 10;
	n = esp_plane_output(w->a, w->now_us, in, ESP_BATCH, out);
	return n == ESP_BATCH ? esp_plane_input(w->b, w->now_us, out, n, got) : 0;
}

static void measure(struct world *w, enum kind kind, double *ret)
{
	static struct pkt packets[ESP_BATCH];
	unsigned batches = kind != OPENING ? BATCHES : w->n < 1000 ? 20 : 2;
	double sum = 0;

	for (unsigned b = 0; b < batches + 1; b++) {
		double began;

		for (unsigned i = 0; i < ESP_BATCH && (b == 0 || kind == OPENING); i++) {
			uint16_t to =
				(uint16_t)(FIRST_PORT + (kind == SPREAD ? (i * (w->n / ESP_BATCH + 1)) % w->n : 0));

			packets[i] =
				pkt_udp(false, HOST_A, kind == OPENING ? w->next_port++ : 5000, HOST_B, to, PAYLOAD);
		}
		began = cpu_ns();
		must(carry(w, packets) == ESP_BATCH, "packets are lost");
		if (b) /* the first one opens flows and warms up */
			sum += cpu_ns() - began;
	}
	*ret = sum / (batches * ESP_BATCH);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(void)
{
	(void)printf("{");
	for (unsigned k = 0; k < N_KINDS; k++) {
		(void)printf("%s\"%s\": {", k ? ", " : "", kind_name[k]);
		for (unsigned i = 0; i < N_NUMBERS; i++) {
			double *r = ns[k][i];

			qsort(r, ROUNDS, sizeof(*r), by_size);
			(void)printf("%s\"%u\": [%.1f, %.1f, %.1f]", i ? ", " : "", numbers[i], r[ROUNDS / 2], r[0],
				     r[ROUNDS - 1]);
		}
		(void)printf("}");
	}
	(void)printf("}\n");
}

int main(void)
{
	static struct world worlds[N_NUMBERS];

	for (unsigned i = 0; i < N_NUMBERS; i++)
		world_new(&worlds[i], numbers[i]);
	for (unsigned r = 0; r < ROUNDS; r++)
		for (unsigned k = 0; k < N_KINDS; k++)
			for (unsigned i = 0; i < N_NUMBERS; i++)
				measure(&worlds[i], (enum kind)k, &ns[k][i][r]);
	print();
	for (unsigned i = 0; i < N_NUMBERS; i++) {
		esp_plane_free(worlds[i].a);
		esp_plane_free(worlds[i].b);
	}
	return 0;
}
