/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Fragments (RFC 7383): cutting, putting together, and calls whose certificates do not fit into a datagram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "harness.h"
#include "ike_pair.h"

static struct pair p;
static struct identity *big[2];

/* A certificate of over 3000 bytes: many names. */
static void big_identities(void)
{
	static const char *const own[] = { "alice@example.com", "bob@example.com" };
	static char names[100][64];
	const char *all[101];

	for (int i = 0; i < 2 && !big[i]; i++) {
		all[0] = own[i];
		for (int k = 0; k < 100; k++) {
			(void)snprintf(names[k], sizeof(names[k]), "another-name-%d@%d.example.net", k, i);
			all[k + 1] = names[k];
		}
		assert_int_equal(identity_generate(all, 101, 1700000000, &big[i]), OK);
		assert_true(identity_cert(big[i]).len > 3000);
	}
}

static void begin(uint64_t seed)
{
	big_identities();
	pair_init(&p, seed);
	for (int i = 0; i < 2; i++) {
		p.cfg[i].identity = big[i];
		pair_expect(&p.cfg[i], big[!i]);
	}
	assert_int_equal(pair_new(&p), OK);
}

static void dial(void)
{
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
}

/* ---- a call ---- */

static unsigned n_fragments[2];
static size_t longest;

static bool measure(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)n;
	n_fragments[from] += msg[16] == IKE_P_SKF;
	if (*len > longest)
		longest = *len;
	return true;
}

static void call(void **state)
{
	(void)state;
	begin(1);
	n_fragments[0] = n_fragments[1] = 0;
	longest = 0;
	p.filter = measure;
	dial();
	pair_for(&p, 4 * FLIGHT_US);
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	assert_true(n_fragments[ALICE] >= 4 && n_fragments[BOB] >= 4);
	assert_int_equal(p.n_sent, 2 + n_fragments[0] + n_fragments[1]);
	assert_true(longest <= IKE_FRAGMENT_MAX);
	assert_true(!p.sa[ALICE]->parts[0] && !p.sa[ALICE]->parts[1] && !p.sa[BOB]->parts[0]);
	assert_int_equal(ike_sa_deadline_us(p.sa[BOB]), TIME_NEVER);
	/* what fits into a datagram is not cut (2.4) */
	n_fragments[0] = n_fragments[1] = 0;
	ike_sa_probe(p.sa[ALICE], p.now_us);
	pair_for(&p, SECONDS(1));
	assert_int_equal(n_fragments[0] + n_fragments[1], 0);
	pair_done(&p);
}

static bool drop_nth(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)from;
	(void)msg;
	(void)len;
	return n != *(unsigned *)q->arg;
}

static bool drop_many(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)from;
	(void)msg;
	(void)len;
	(void)n;
	return rng_below(&q->rng, 100) >= *(unsigned *)q->arg;
}

/* Any one datagram is lost, or many: all fragments come again, and those that were there already are kept. */
static void lost(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 14; n++) {
		begin(n);
		p.filter = drop_nth;
		p.arg = &n;
		dial();
		pair_for(&p, SECONDS(4));
		assert_true(pair_up(&p) && pair_child_same(&p, 0));
		pair_done(&p);
	}
	for (unsigned seed = 0; seed < 10; seed++) {
		unsigned percent = 20;

		begin(100 + seed);
		p.filter = drop_many;
		p.arg = &percent;
		dial();
		pair_for(&p, SECONDS(120));
		assert_true(p.n_children[ALICE] <= 1 && p.n_children[BOB] <= 1);
		assert_true(pair_child_same(&p, 0) || p.last[ALICE][IKE_EV_FAILED].fail == IKE_FAIL_TIMEOUT);
		pair_done(&p);
	}
}

/* Every datagram twice and the later ones first. */
static bool reorder(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	pair_throw(q, !from, span_of(msg, *len), FLIGHT_US + MS(50 - n % 7));
	pair_throw(q, !from, span_of(msg, *len), FLIGHT_US + MS(60));
	return false;
}

static void out_of_order(void **state)
{
	(void)state;
	begin(3);
	p.filter = reorder;
	dial();
	pair_for(&p, SECONDS(2));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 1);
	pair_done(&p);
}

/* ---- repetitions (2.6.1) ---- */

static uint8_t kept[8][IKE_FRAGMENT_MAX];
static size_t kept_len[8];
static unsigned n_kept;

static bool keep_requests(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)n;
	if (from == ALICE && msg[16] == IKE_P_SKF && n_kept < 8) {
		memcpy(kept[n_kept], msg, *len);
		kept_len[n_kept++] = *len;
	}
	return true;
}

static void answered_again(void **state)
{
	unsigned before;

	(void)state;
	begin(4);
	n_kept = 0;
	p.filter = keep_requests;
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p) && n_kept >= 4);
	for (unsigned i = 0; i < n_kept; i++) {
		before = p.n_sent;
		ike_sa_input(p.sa[BOB], p.now_us, &p.path[BOB], span_of(kept[i], kept_len[i]));
		pair_for(&p, MS(100));
		/* the whole answer for the first fragment, nothing for the others */
		assert_int_equal(p.n_sent - before >= 4, i == 0);
		assert_int_equal(p.n_sent == before, i != 0);
		assert_null(p.sa[BOB]->parts[0]);
	}
	pair_done(&p);
}

/* The peer has found that its fragments are too long for the path, and cuts the request that was answered anew (2.5.2). */
static void cut_anew(void **state)
{
	(void)state;
	begin(4);
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	for (int i = 0; i < 4; i++) {
		/* the first; another; the first of an older one; the first, by somebody else */
		struct ike_header h =
			ike_header_of(p.sa[ALICE], IKE_AUTH, false, i == 2 ? p.sa[BOB]->window.next_in - 2 : 1);
		uint8_t mem[256];
		unsigned before = p.n_sent;
		struct ike_build b;
		struct span msg;

		ike_build_start(&b, mem, sizeof(mem), &h);
		ike_build_skf(&b, i == 1 ? 2 : 1, 30);
		wr_zero(&b.w, 100);
		assert_int_equal(ike_build_seal(&b, &p.sa[ALICE]->keys.out, &msg), OK);
		if (i == 3)
			mem[msg.len - 1] ^= 1;
		ike_sa_input(p.sa[BOB], p.now_us, &p.path[BOB], msg);
		pair_for(&p, MS(100));
		assert_int_equal(p.n_sent - before >= 4, i == 0);
		assert_int_equal(p.n_sent == before, i != 0);
		assert_null(p.sa[BOB]->parts[0]);
	}
	assert_true(pair_up(&p));
	pair_done(&p);
}

/* What is kept of a message that never becomes whole goes, and the SA with its time. */
static bool drop_last(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)q;
	(void)n;
	(void)len;
	return from != ALICE || msg[16] != IKE_P_SKF || be16(msg + IKE_HDR + 4) != be16(msg + IKE_HDR + 6);
}

static void never_whole(void **state)
{
	(void)state;
	begin(5);
	p.filter = drop_last;
	dial();
	pair_for(&p, SECONDS(10));
	assert_non_null(p.sa[BOB]->parts[0]);
	assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 0);
	pair_for(&p, SECONDS(60));
	assert_null(p.sa[BOB]->parts[0]);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	pair_done(&p);
}

/* ---- a peer that knows nothing of it ---- */

/* Turns the notify into one that nobody knows, also in what AUTH covers. */
static void forget(uint8_t *msg, size_t len)
{
	static const uint8_t notify[] = { 0, 8, 0, 0, 0x40, 0x2e };

	pair_flip(msg, len, SPAN_OF(notify), 5);
}

static bool ignorant(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)measure(q, from, n, msg, len);
	if (from == *(int *)q->arg && msg[18] == IKE_SA_INIT) {
		struct ike_setup *s = q->sa[from]->setup;

		forget(msg, *len);
		forget(from == ALICE ? s->init_i : s->init_r, from == ALICE ? s->init_i_len : s->init_r_len);
	}
	return true;
}

static void one_side_only(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++) {
		begin(6);
		n_fragments[0] = n_fragments[1] = 0;
		p.filter = ignorant;
		p.arg = &side;
		dial();
		pair_for(&p, SECONDS(1));
		/* the one that was not told sends its message whole (2.3) */
		assert_int_equal(n_fragments[!side], 0);
		pair_done(&p);
	}
}

/* ---- parts ---- */

static const struct ike_header head = { .spi_i = 1, .exchange = IKE_AUTH, .message_id = 1 };

static enum err add(struct ike_parts **parts, unsigned number, unsigned total, uint32_t id, size_t len)
{
	static const uint8_t bytes[IKE_MSG_MAX];
	struct ike_header h = head;
	struct ike_fragment f = { .number = (uint16_t)number, .total = (uint16_t)total };

	h.message_id = id;
	if (!ike_parts_wants(*parts, &h, &f))
		return ERR_DENIED;
	return ike_parts_add(parts, SECONDS(5), SPAN_LIT("datagram"), &h, &f, IKE_P_IDI, span_of(bytes, len));
}

static void rules(void **state)
{
	struct ike_parts *parts = NULL;
	struct ike_fragment f;
	uint8_t mem[IKE_MSG_MAX];
	struct span s;

	(void)state;
	/* 2.6: the numbers */
	assert_int_equal(ike_fragment_parse(SPAN_LIT("\0\1\0\2"), &f), OK);
	assert_int_equal(ike_fragment_parse(SPAN_LIT("\0\0\0\2"), &f), ERR_MALFORMED);
	assert_int_equal(ike_fragment_parse(SPAN_LIT("\0\3\0\2"), &f), ERR_MALFORMED);
	assert_int_equal(ike_fragment_parse(SPAN_LIT("\0\0\0\0"), &f), ERR_MALFORMED);
	assert_int_equal(ike_fragment_parse(SPAN_LIT("\0\1\0"), &f), ERR_MALFORMED);
	assert_int_equal(add(&parts, 1, IKE_FRAGMENTS_MAX + 1, 1, 10), ERR_DENIED);
	/* in any order, each once */
	assert_int_equal(add(&parts, 3, 3, 1, 30), OK);
	assert_int_equal(add(&parts, 3, 3, 1, 30), ERR_DENIED);
	assert_int_equal(add(&parts, 1, 3, 1, 10), OK);
	assert_false(ike_parts_complete(parts));
	/* fewer than before is wrong */
	assert_int_equal(add(&parts, 2, 2, 1, 10), ERR_DENIED);
	assert_int_equal(add(&parts, 2, 3, 1, 20), OK);
	assert_true(ike_parts_complete(parts));
	assert_int_equal(ike_parts_join(parts, mem, sizeof(mem), &s), OK);
	assert_int_equal(s.len, 60);
	assert_int_equal(ike_parts_join(parts, mem, 59, &s), ERR_LIMIT);
	assert_int_equal(parts->first, IKE_P_IDI);
	/* more than before: all over again */
	assert_int_equal(add(&parts, 2, 4, 1, 5), OK);
	assert_int_equal(parts->n, 1);
	assert_int_equal(parts->len, 5);
	assert_null(parts->head);
	/* another message: the same */
	assert_int_equal(add(&parts, 1, 2, 2, 7), OK);
	assert_int_equal(parts->n, 1);
	assert_int_equal(parts->total, 2);
	/* too long in all */
	assert_int_equal(add(&parts, 2, 2, 2, IKE_MSG_MAX), ERR_LIMIT);
	assert_null(parts);
	assert_int_equal(add(&parts, 1, 1, 3, 0), OK);
	assert_true(ike_parts_complete(parts));
	ike_parts_free(parts);
	ike_parts_free(NULL);
}

/* Every length of content: cut, opened, joined. */
static void lengths_of(enum cipher_alg alg)
{
	static uint8_t content[IKE_MSG_MAX], mem[IKE_MSG_MAX], plain[IKE_MSG_MAX], joined[IKE_MSG_MAX];
	static const uint8_t key[CIPHER_KEY_MAX] = { 1 };
	const struct span sk_e = span_of(key, cipher_encr_size(alg)), sk_a = span_of(key, cipher_integ_size(alg));
	const size_t chunk = IKE_FRAGMENT_MAX - IKE_FRAGMENT_OVER;
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct ike_sk k, open;

	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i * 7);
	assert_int_equal(ike_sk_init(&k, alg, sk_e, sk_a, &rng), OK);
	assert_int_equal(ike_sk_init(&open, alg, sk_e, sk_a, NULL), OK);
	for (size_t len = 0; len < sizeof(mem);
	     len += len < 3 || len % chunk < 2 || len % chunk == chunk - 1 ? 1 : 61) {
		struct ike_parts *parts = NULL;
		struct ike_build b;
		struct span out, d, s;
		unsigned n = 0;

		ike_build_start(&b, mem, sizeof(mem), &head);
		ike_build_sk(&b);
		wr_bytes(&b.w, content, len);
		wr_patch_u8(&b.w, b.sk_at, IKE_P_IDI);
		if (ike_fragment_seal(&b, &k, &out) != OK) {
			assert_true(len > IKE_MSG_MAX - 800);
			continue;
		}
		while ((d = ike_datagram(&out)).len) {
			struct ike_fragment f = { 1, 1 };
			struct ike_header h;
			struct ike_chain c;

			assert_true(d.len <= IKE_FRAGMENT_MAX);
			assert_int_equal(ike_header_parse(d, &h), OK);
			assert_int_equal(ike_chain_parse(span_from(d, IKE_HDR), h.next, &c), OK);
			assert_int_equal(c.n, 1);
			assert_int_equal(c.p[0].type, len > chunk ? IKE_P_SKF : IKE_P_SK);
			assert_int_equal(c.p[0].next, n ? IKE_P_NONE : IKE_P_IDI);
			if (len > chunk)
				assert_int_equal(ike_fragment_parse(c.p[0].body, &f), OK);
			assert_int_equal(f.number, ++n);
			assert_int_equal(ike_sk_open(&open, d, &c.p[0], plain, &s), OK);
			assert_int_equal(ike_parts_add(&parts, 0, d, &h, &f, c.p[0].next, s), OK);
			/* a number that was changed on the way is not authentic */
			if (len > chunk) {
				mem[d.p - mem + IKE_HDR + 5] ^= 1;
				assert_int_equal(ike_sk_open(&open, d, &c.p[0], plain, &s), ERR_AUTH);
			}
		}
		assert_true(ike_parts_complete(parts));
		assert_int_equal(ike_parts_join(parts, joined, sizeof(joined), &s), OK);
		assert_int_equal(s.len, len);
		assert_memory_equal(joined, content, len);
		ike_parts_free(parts);
	}
	ike_sk_done(&k);
	ike_sk_done(&open);
}

static void lengths(void **state)
{
	(void)state;
	for (enum cipher_alg alg = 0; alg < CIPHER_COUNT; alg++)
		lengths_of(alg);
}

/* ---- damage ---- */

/* bob gets each fragment cut at every length, and with every byte changed; then the right ones. */
static bool damage(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	static uint8_t copy[IKE_FRAGMENT_MAX];

	(void)n;
	if (from != ALICE || msg[16] != IKE_P_SKF)
		return true;
	for (size_t cut = 0; cut < *len; cut++) {
		uint8_t *exact = malloc(cut ? cut : 1);

		assert_non_null(exact);
		memcpy(exact, msg, cut);
		ike_sa_input(q->sa[BOB], q->now_us, &q->path[BOB], span_of(exact, cut));
		if (cut >= IKE_HDR + 8) { /* with lengths that agree */
			put_be32(exact + 24, (uint32_t)cut);
			put_be16(exact + IKE_HDR + 2, (uint16_t)(cut - IKE_HDR));
			ike_sa_input(q->sa[BOB], q->now_us, &q->path[BOB], span_of(exact, cut));
		}
		free(exact);
		memcpy(copy, msg, *len);
		copy[cut] ^= 0x55;
		ike_sa_input(q->sa[BOB], q->now_us, &q->path[BOB], span_of(copy, *len));
	}
	return true;
}

static void damaged(void **state)
{
	(void)state;
	begin(8);
	p.filter = damage;
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	pair_done(&p);
}

/* Whoever knows the SPIs can write what looks like a fragment that is of no use. It is no sign of life (RFC 7296, 2.4). */
static void not_alive(void **state)
{
	uint8_t msg[IKE_HDR + 8 + 32] = { 0 };
	struct ike_sa *sa;

	(void)state;
	begin(10);
	p.cfg[BOB].dpd_s = 30;
	ike_sa_free(p.sa[BOB]);
	assert_int_equal(ike_sa_new(&p.cfg[BOB], &p.sa[BOB]), OK);
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	sa = p.sa[BOB];
	put_be64(msg, sa->spi_i);
	put_be64(msg + 8, sa->spi_r);
	msg[16] = IKE_P_SKF;
	msg[17] = 0x20;
	msg[18] = IKE_INFORMATIONAL;
	msg[19] = 0x08;
	put_be32(msg + 20, sa->window.next_in);
	put_be32(msg + 24, sizeof(msg));
	put_be16(msg + IKE_HDR + 2, sizeof(msg) - IKE_HDR);
	put_be16(msg + IKE_HDR + 4, 1);
	put_be16(msg + IKE_HDR + 6, IKE_FRAGMENTS_MAX + 1);
	ike_sa_free(p.sa[ALICE]); /* gone without a word */
	p.sa[ALICE] = NULL;
	for (int i = 0; i < 12; i++) {
		ike_sa_input(sa, p.now_us, &p.path[BOB], SPAN_OF(msg));
		pair_for(&p, SECONDS(20));
	}
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	pair_done(&p);
}

static bool once(void *arg)
{
	bool good;

	(void)arg;
	pair_init(&p, 9);
	for (int i = 0; i < 2; i++) {
		p.cfg[i].identity = big[i];
		pair_expect(&p.cfg[i], big[!i]);
	}
	if (pair_new(&p) != OK || ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) != OK) {
		pair_done(&p);
		return false;
	}
	pair_for(&p, 4 * FLIGHT_US);
	good = pair_up(&p) && pair_child_same(&p, 0);
	pair_for(&p, SECONDS(20));
	/* memory that was missing once costs time, nothing else */
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	pair_done(&p);
	return good;
}

static void no_memory(void **state)
{
	(void)state;
	big_identities();
	harness_alloc_ladder(once, NULL);
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
	identity_free(big[0]);
	identity_free(big[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(call),           cmocka_unit_test(lost),      cmocka_unit_test(out_of_order),
		cmocka_unit_test(answered_again), cmocka_unit_test(cut_anew),  cmocka_unit_test(never_whole),
		cmocka_unit_test(one_side_only),  cmocka_unit_test(rules),     cmocka_unit_test(lengths),
		cmocka_unit_test(damaged),        cmocka_unit_test(no_memory), cmocka_unit_test(not_alive),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
