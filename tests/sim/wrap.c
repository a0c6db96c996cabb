/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/wrap.c - what stands between the daemon's layers and below them in the simulator: the SAs that reach the
 * data plane are recorded (the linker leads esp_sa_add here), and a hostile host's are widened until its own side
 * checks nothing. OpenSSL's randomness comes from the seed; identities are made once. */
#define OPENSSL_API_COMPAT 0x10100000L
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/cert.h"
#include "sim.h"
#include "vpn/impl.h"

enum err __wrap_esp_sa_add(struct esp_plane *p, uint64_t now_us, const struct esp_sa_config *cfg);
enum err __real_esp_sa_add(struct esp_plane *p, uint64_t now_us, const struct esp_sa_config *cfg);

static struct world *watched;

void wrap_watch(struct world *w)
{
	watched = w;
}

static void widen(struct esp_sa_config *cfg)
{
	struct esp_ts all = { .family = ADDR_IP6, .port_hi = 65535 };

	memset(all.ip_hi, 0xff, sizeof(all.ip_hi));
	cfg->n_local = cfg->n_peer = 1;
	cfg->ts_local[0] = cfg->ts_peer[0] = all;
	cfg->open = ESP_OPEN_BOTH;
	cfg->allow_ping = true;
}

enum err __wrap_esp_sa_add(struct esp_plane *p, uint64_t now_us, const struct esp_sa_config *cfg)
{
	struct esp_sa_config mine = *cfg;

	for (unsigned i = 0; watched && i < watched->n_hosts; i++) {
		struct host *h = watched->hosts[i];

		if (!h->vpn || esp_set_plane(h->vpn->esp, 0) != p)
			continue;
		watched->sas[watched->n_sas++ % SIM_SAS_MAX] = (struct sim_sa){ .plane = p, .cfg = *cfg };
		if (h->hostile)
			widen(&mine);
	}
	return __real_esp_sa_add(p, now_us, &mine);
}

/* ---- randomness ---- */

static struct rng_seeded random_state;
static struct rng random_rng;

static int random_bytes(unsigned char *dst, int len)
{
	rng_fill(&random_rng, dst, (size_t)len);
	return 1;
}

static int random_status(void)
{
	return 1;
}

void random_seed(uint64_t seed)
{
	static const RAND_METHOD method = { .bytes = random_bytes,
					    .pseudorand = random_bytes,
					    .status = random_status };

	random_rng = rng_seeded_init(&random_state, seed);
	RAND_set_rand_method(&method);
}

/* ---- identities ---- */

static struct identity *pool[IDS];

bool pool_make(void)
{
	/* mallory's certificate claims to be bob's: names in certificates prove nothing */
	static const char *const mails[IDS][2] = { { "alice@" SIM_DOMAIN },
						   { "bob@" SIM_DOMAIN },
						   { "carol@" SIM_DOMAIN },
						   { "mallory@" SIM_DOMAIN, "bob@" SIM_DOMAIN } };

	random_seed(1);
	for (unsigned i = 0; i < IDS; i++)
		if (identity_generate(mails[i], mails[i][1] ? 2 : 1, SIM_WALL_S - 86400, &pool[i]) != OK)
			return false;
	return true;
}

void pool_free(void)
{
	for (unsigned i = 0; i < IDS; i++)
		identity_free(pool[i]);
}

const struct identity *pool_identity(unsigned i)
{
	return pool[i];
}

/* ---- memory: allocations of our own objects go through here as well ---- */

static unsigned long n_until_failure, n_failures, n_allocations;
static unsigned fails_one_in;
static struct rng_seeded memory_state;
static struct rng memory_rng;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

void memory_ill(unsigned long n, unsigned one_in)
{
	n_until_failure = n;
	fails_one_in = one_in;
	n_failures = n_allocations = 0;
	memory_rng = rng_seeded_init(&memory_state, n * 7919 + one_in);
}

void memory_well(void)
{
	n_until_failure = fails_one_in = 0;
}

unsigned long memory_failures(void)
{
	return n_failures;
}

unsigned long memory_count(void)
{
	return n_allocations;
}

static bool fails_now(void)
{
	n_allocations++;
	if (!(n_until_failure && !--n_until_failure) && !(fails_one_in && rng_below(&memory_rng, fails_one_in) == 0))
		return false;
	n_failures++;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails_now() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails_now() ? NULL : __real_strdup(s);
}

void *sim_new(size_t n)
{
	void *p = __real_calloc(1, n);

	if (!p)
		abort();
	return p;
}

void *sim_grow(void *p, size_t n)
{
	p = __real_realloc(p, n);
	if (!p)
		abort();
	return p;
}

uint8_t *sim_copy(struct span s)
{
	uint8_t *p = sim_new(s.len + 1);

	if (s.len)
		memcpy(p, s.p, s.len);
	return p;
}
