/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/bench/handshake.c - IKE_SA_INIT and IKE_AUTH between two SAs in one process on one core, beside the primitives that
 * one handshake takes (both ends: two key pairs and two shared secrets of X25519, two ECDSA P-256 signatures made and two
 * verified). Rounds alternate, so that the ratio is of one run; CPU time, medians. Who sends has worked since the message
 * before: by that the time of a handshake is shared out between the roles. */
#include <stdio.h>
#include <time.h>

#include "ike_pair.h"

#define ROUNDS 9
#define HANDSHAKES 200

static struct pair pair;

static double cpu_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(enum err e)
{
	if (e != OK) {
		(void)fprintf(stderr, "handshake: %s\n", err_name(e));
		exit(1);
	}
}

static double last_s, role_s[2];

static bool charge(struct pair *p, int from, unsigned n, uint8_t *msg, size_t *len)
{
	double now = cpu_s();

	(void)p;
	(void)n;
	(void)msg;
	(void)len;
	role_s[from] += now - last_s;
	last_s = now;
	return true;
}

static double handshakes(uint64_t seed, double *ret_role)
{
	double began = cpu_s();

	role_s[ALICE] = role_s[BOB] = 0;
	for (uint64_t i = 0; i < HANDSHAKES; i++) {
		pair_init(&pair, seed * HANDSHAKES + i);
		pair.filter = charge;
		last_s = cpu_s();
		must(pair_new(&pair));
		must(ike_sa_start(pair.sa[ALICE], pair.now_us, &pair.path[ALICE]));
		pair_for(&pair, 4 * FLIGHT_US);
		if (!pair_up(&pair))
			must(ERR_WRONG_STATE);
		(void)charge(&pair, ALICE, 0, NULL, NULL); /* who took the last message */
		pair_done(&pair);
	}
	for (int i = 0; i < 2; i++)
		ret_role[i] = role_s[i] / HANDSHAKES;
	return (cpu_s() - began) / HANDSHAKES;
}

/* What any implementation has to compute for one handshake of both ends. */
static void primitives_once(struct rng *rng, struct pubkey *key)
{
	static const uint8_t octets[700] = { 1 };
	uint8_t sig[64], shared[KEX_SHARED_MAX];
	struct kex *k[2];

	for (int i = 0; i < 2; i++) {
		must(kex_new(KEX_X25519, rng, &k[i]));
		must(identity_sign_raw(pair_ids[ALICE], SPAN_OF(octets), sig));
		must(pubkey_verify_raw(key, SPAN_OF(octets), SPAN_OF(sig)));
	}
	for (int i = 0; i < 2; i++)
		must(kex_shared(k[i], kex_public(k[!i]), shared));
	kex_free(k[0]);
	kex_free(k[1]);
}

static double primitives(struct rng *rng, struct pubkey *key)
{
	double began = cpu_s();

	for (int i = 0; i < HANDSHAKES; i++)
		primitives_once(rng, key);
	return (cpu_s() - began) / HANDSHAKES;
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), order);
	return v[ROUNDS / 2];
}

int main(void)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	double ours[ROUNDS], theirs[ROUNDS], role[2][ROUNDS], one[2], a, b;
	struct pubkey *key;

	pair_identities();
	must(pubkey_from_spki(identity_spki(pair_ids[ALICE]), &key));
	for (int i = 0; i < ROUNDS; i++) {
		ours[i] = handshakes((uint64_t)i + 1, one);
		role[ALICE][i] = one[ALICE];
		role[BOB][i] = one[BOB];
		theirs[i] = primitives(&rng, key);
	}
	a = median(ours);
	b = median(theirs);
	(void)printf("handshakes, both ends on one core: %.0f a second (%.0f us); the primitives alone: %.0f (%.0f "
		     "us); ratio %.2f "
		     "(medians of %d rounds of %d)\n",
		     1 / a, a * 1e6, 1 / b, b * 1e6, b / a, ROUNDS, HANDSHAKES);
	(void)printf("as initiator alone: %.0f a second, as responder alone: %.0f\n", 1 / median(role[ALICE]),
		     1 / median(role[BOB]));
	pubkey_free(key);
	pair_identities_done();
	return 0;
}
