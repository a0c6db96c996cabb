/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/main.c - the simulator's command line:
 *
 *   sim [--seed N] [--count N] [--nat A,B] [--scenario NAME[:VARIANT] | all] [--jobs N] [--trace]
 *
 * Without --nat a scenario that depends on NATs runs all pairings. A batch of seeds is one TAP case; a failure prints the
 * command line that repeats it. A, B: none, cone, address, port, symmetric. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#define CASES_MAX 1024
#define JOBS_MAX 64

struct options {
	uint64_t seed, count;
	bool has_nat, trace;
	enum nat_kind nat[2];
	const char *scenario, *variant;
	unsigned jobs;
};

struct batch {
	const struct scenario *scenario;
	struct scenario_run run;
	bool done, failed;
	pid_t worker;
	uint64_t seed, n_up, n_runs, failed_seed, ms, setup_us;
	char why[400];
};

/* Shared with the workers. */
struct board {
	unsigned next;
	struct batch b[CASES_MAX];
	unsigned n;
};

static struct board *board;
static const char *program;

static uint64_t salt_of(const struct batch *b)
{
	uint64_t h = 14695981039346656037ull;

	for (const char *c = b->scenario->name; *c; c++)
		h = (h ^ (uint8_t)*c) * 1099511628211ull;
	return (h ^ (unsigned)(b->run.nat[0] * NAT_KINDS + b->run.nat[1])) * 1099511628211ull + b->run.variant;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void run_one(struct batch *b, uint64_t seed, bool trace)
{
	struct world *w = world_new(seed, salt_of(b), trace);

	b->seed = seed;
	if (exch_start(w))
		b->scenario->run(w, &b->run);
	if (!w->failed)
		world_finish(w);
	b->n_runs++;
	b->n_up += w->came_up;
	b->setup_us += w->setup_us;
	if (w->failed && !b->failed) {
		b->failed = true;
		b->failed_seed = seed;
		(void)snprintf(b->why, sizeof(b->why), "%s", w->why);
	}
	world_free(w);
}

static void run_batch(struct batch *b, const struct options *o)
{
	uint64_t start = now_ms();

	b->worker = getpid();
	for (uint64_t i = 0; i < o->count && !b->failed; i++)
		run_one(b, o->seed + i, o->trace);
	b->ms = now_ms() - start;
	b->done = true;
}

/* ---- the list of batches ---- */

static void add(const struct scenario *s, unsigned variant, enum nat_kind a, enum nat_kind b)
{
	if (board->n < CASES_MAX)
		board->b[board->n++] = (struct batch){ .scenario = s, .run = { .nat = { a, b }, .variant = variant } };
}

static void add_nats(const struct scenario *s, unsigned variant, const struct options *o)
{
	if (o->has_nat || !s->by_nat) {
		add(s, variant, o->nat[0], o->nat[1]);
		return;
	}
	for (enum nat_kind a = NAT_NONE; a < NAT_KINDS; a++)
		for (enum nat_kind b = NAT_NONE; b < NAT_KINDS; b++)
			add(s, variant, a, b);
}

static bool add_all(const struct options *o)
{
	for (unsigned i = 0; i < n_scenarios; i++) {
		const struct scenario *s = &scenarios[i];

		if (strcmp(o->scenario, "all") && strcmp(o->scenario, s->name))
			continue;
		for (unsigned v = 0; v < (s->n_variants ? s->n_variants() : 1); v++)
			if (!o->variant || (s->variant_name && !strcmp(o->variant, s->variant_name(v))))
				add_nats(s, v, o);
	}
	return board->n > 0;
}

/* ---- workers ---- */

static void work(const struct options *o)
{
	unsigned i;

	while ((i = __atomic_fetch_add(&board->next, 1, __ATOMIC_SEQ_CST)) < board->n)
		run_batch(&board->b[i], o);
}

static pid_t start_worker(const struct options *o)
{
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	if (!pool_make())
		exit(1);
	work(o);
	pool_free();
	exit(0); /* and the leak checker has its say */
}

/* One that dies takes its batch with it, and another goes on. */
static void bury(pid_t pid, int status)
{
	for (unsigned i = 0; i < board->n; i++) {
		struct batch *b = &board->b[i];

		if (b->done || b->worker != pid)
			continue;
		b->done = b->failed = true;
		b->failed_seed = b->seed;
		(void)snprintf(b->why, sizeof(b->why), WIFSIGNALED(status) ? "signal %d" : "exit status %d",
			       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
}

static unsigned run_workers(const struct options *o)
{
	unsigned n_running = 0, n_bad = 0;
	int status;
	pid_t pid;

	while (n_running < o->jobs && start_worker(o) > 0)
		n_running++;
	while (n_running && (pid = wait(&status)) > 0) {
		n_running--;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		n_bad++;
		bury(pid, status);
		if (board->next < board->n && start_worker(o) > 0)
			n_running++;
	}
	return n_bad;
}

/* ---- the report ---- */

static void name_of(const struct batch *b, char *dst, size_t cap)
{
	int n = snprintf(dst, cap, "%s", b->scenario->name);

	if (b->scenario->variant_name && n > 0)
		(void)snprintf(dst + n, cap - (size_t)n, ":%s", b->scenario->variant_name(b->run.variant));
}

static void report(unsigned number, const struct batch *b, const struct options *o)
{
	bool ok = b->done && !b->failed;
	char name[128];

	name_of(b, name, sizeof(name));
	printf("%s %u - %s %s,%s: %llu seeds, %llu up", ok ? "ok" : "not ok", number, name,
	       nat_kind_name(b->run.nat[0]), nat_kind_name(b->run.nat[1]), (unsigned long long)b->n_runs,
	       (unsigned long long)b->n_up);
	if (b->n_up)
		printf(" after %llu ms", (unsigned long long)(b->setup_us / b->n_up / 1000));
	printf(" (%llu ms)\n", (unsigned long long)b->ms);
	if (ok)
		return;
	printf("# %s\n# repeat: %s --seed %llu --count 1 --nat %s,%s --scenario %s --trace\n",
	       b->failed ? b->why : "did not end", program,
	       (unsigned long long)(b->failed ? b->failed_seed
				    : b->seed ? b->seed
					      : o->seed),
	       nat_kind_name(b->run.nat[0]), nat_kind_name(b->run.nat[1]), name);
}

static int usage(void)
{
	fprintf(stderr,
		"usage: sim [--seed N] [--count N] [--nat A,B] [--scenario NAME[:VARIANT]] [--jobs N] [--trace]\n"
		"A, B: none, cone, address, port, symmetric; NAME: all");
	for (unsigned i = 0; i < n_scenarios; i++)
		fprintf(stderr, ", %s", scenarios[i].name);
	fprintf(stderr, "\n");
	return 2;
}

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	return text && span_u64(span_str(text), max, ret) == OK;
}

static bool parse_nat(const char *text, struct options *o)
{
	char a[16];
	struct span rest, first = span_cut(span_str(text), ',', &rest);

	if (!text || span_copy_str(first, a, sizeof(a)) != OK || !rest.p)
		return false;
	o->has_nat = true;
	return nat_kind_parse(a, &o->nat[0]) && nat_kind_parse((const char *)rest.p, &o->nat[1]);
}

static bool parse(int argc, char **argv, struct options *o)
{
	uint64_t jobs;

	for (int i = 1; i < argc; i++) {
		const char *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--trace")) {
			o->trace = true;
			continue;
		}
		i++;
		if (!strcmp(argv[i - 1], "--seed") && number(next, UINT64_MAX, &o->seed))
			continue;
		if (!strcmp(argv[i - 1], "--count") && number(next, 1000000000, &o->count))
			continue;
		if (!strcmp(argv[i - 1], "--jobs") && number(next, JOBS_MAX, &jobs) && jobs) {
			o->jobs = (unsigned)jobs;
			continue;
		}
		if (!strcmp(argv[i - 1], "--nat") && next && parse_nat(next, o))
			continue;
		if (!strcmp(argv[i - 1], "--scenario") && next) {
			char *colon = strchr(argv[i], ':');

			o->scenario = argv[i];
			if (colon) {
				*colon = 0;
				o->variant = colon + 1;
			}
			continue;
		}
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct options o = { .seed = 1, .count = 1, .scenario = "call", .jobs = 1 };
	unsigned n_bad = 0;
	bool failed = false;

	program = argv[0];
	/* a daemon's big tables are fresh zero pages each time, not old ones to be cleared */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 18);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 1;
	if (!parse(argc, argv, &o) || !add_all(&o))
		return usage();
	if (o.trace) {
		if (!pool_make())
			return 1;
		work(&o);
		pool_free();
	} else {
		n_bad = run_workers(&o);
	}
	printf("1..%u\n", board->n + 1);
	for (unsigned i = 0; i < board->n; i++) {
		report(i + 1, &board->b[i], &o);
		failed |= board->b[i].failed || !board->b[i].done;
	}
	printf("%s %u - workers end cleanly, without leaks\n", n_bad ? "not ok" : "ok", board->n + 1);
	return failed || n_bad;
}
