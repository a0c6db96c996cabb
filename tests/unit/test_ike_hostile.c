/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Two SAs and what goes wrong between them: wrong keys, changed descriptions, forged and broken messages, no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "harness.h"
#include "ike_pair.h"

static struct pair p;

static void begin(uint64_t seed)
{
	pair_init(&p, seed);
	assert_int_equal(pair_new(&p), OK);
}

static void dial(void)
{
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
}

/* ---- who is who ---- */

static void eve_answers(void)
{
	p.cfg[BOB].identity = pair_ids[2];
}
static void eve_announced(void)
{
	eve_answers();
	assert_int_equal(hash_of(HASH_SHA256, identity_cert(pair_ids[2]), p.cfg[ALICE].fingerprints[0].value), OK);
}
static void bob_expects_eve(void)
{
	p.cfg[BOB].fingerprints[0].value[0] ^= 1;
}
static void bob_pins_another(void)
{
	p.cfg[BOB].peer_key[0] ^= 1;
}
static void alice_misnamed(void)
{
	p.cfg[ALICE].local_aor[0] = 'A';
}
static void bob_misnamed(void)
{
	p.cfg[BOB].local_aor[0] = 'B';
	p.cfg[ALICE].peer_aor[0] = 'B';
	p.cfg[ALICE].peer_aor[1] = 'x';
}
static void other_tag(void)
{
	p.cfg[BOB].tag[7] ^= 1;
}
static void other_hash(void)
{
	p.cfg[BOB].bind_hash[31] ^= 1;
}
static void bob_unbound(void)
{
	p.cfg[BOB].has_binding = false;
	p.cfg[BOB].bare = true;
}
static void both_unbound(void)
{
	bob_unbound();
	p.cfg[ALICE].has_binding = false;
	p.cfg[ALICE].bare = true;
}
static void stock_in_bound_call(void)
{
	bob_unbound();
	p.stock[ALICE] = p.stock[BOB] = true;
}

/* Each row: what is wrong, and what each side says. At bob FAIL_NONE: nothing to say. */
static void wrong_peer(void **state)
{
	static const struct {
		void (*set)(void);
		enum ike_failure alice, bob;
		const char *what;
	} rows[] = {
		{ eve_answers, IKE_FAIL_FINGERPRINT, IKE_FAIL_AUTH, "another certificate than announced" },
		{ eve_announced, IKE_FAIL_PIN, IKE_FAIL_AUTH, "announced, but not the pinned key" },
		{ bob_expects_eve, IKE_FAIL_AUTH, IKE_FAIL_FINGERPRINT, "fingerprint at the responder" },
		{ bob_pins_another, IKE_FAIL_AUTH, IKE_FAIL_PIN, "pin at the responder" },
		{ alice_misnamed, IKE_FAIL_AUTH, IKE_FAIL_AUTH, "the right key under another name" },
		{ bob_misnamed, IKE_FAIL_AUTH, IKE_FAIL_AUTH, "alice wants somebody else" },
		{ other_tag, IKE_FAIL_TIMEOUT, IKE_FAIL_BINDING, "another tag" },
		{ other_hash, IKE_FAIL_TIMEOUT, IKE_FAIL_BINDING, "another bind hash" },
		{ bob_unbound, IKE_FAIL_TIMEOUT, IKE_FAIL_BINDING, "bob's description had no binding" },
		{ both_unbound, IKE_FAIL_TIMEOUT, IKE_FAIL_BINDING, "both descriptions had none: vendor ID" },
		{ stock_in_bound_call, IKE_FAIL_BINDING, IKE_FAIL_TIMEOUT, "vendor ID missing in a bound call" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pair_init(&p, i);
		rows[i].set();
		assert_int_equal(pair_new(&p), OK);
		dial();
		pair_for(&p, SECONDS(70));
		if (p.last[ALICE][IKE_EV_FAILED].fail != rows[i].alice ||
		    p.last[BOB][IKE_EV_FAILED].fail != rows[i].bob)
			fail_msg("%s: alice %s, bob %s", rows[i].what,
				 ike_failure_name(p.last[ALICE][IKE_EV_FAILED].fail),
				 ike_failure_name(p.last[BOB][IKE_EV_FAILED].fail));
		assert_int_equal(p.n_events[ALICE][IKE_EV_AUTHENTICATED] + p.n_children[ALICE], 0);
		assert_int_equal(p.n_children[BOB], p.n_events[BOB][IKE_EV_CHILD_UP]);
		if (rows[i].bob != IKE_FAIL_AUTH)
			assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 0);
		pair_done(&p);
	}
}

/* What no configuration may leave out. */
static void refused_by_default(void **state)
{
	struct ike_sa *sa = NULL;

	(void)state;
	pair_init(&p, 1);
	p.cfg[0].n_fingerprints = 0;
	assert_int_equal(ike_sa_new(&p.cfg[0], &sa), ERR_DENIED);
	p.cfg[0].bare = true;
	assert_int_equal(ike_sa_new(&p.cfg[0], &sa), ERR_DENIED);
	p.cfg[1].has_peer_key = false;
	assert_int_equal(ike_sa_new(&p.cfg[1], &sa), ERR_DENIED);
	p.cfg[1].has_peer_key = true;
	p.cfg[1].has_binding = false;
	assert_int_equal(ike_sa_new(&p.cfg[1], &sa), ERR_DENIED);
	p.cfg[1].has_binding = true;
	p.cfg[1].n_fingerprints = 5;
	assert_int_equal(ike_sa_new(&p.cfg[1], &sa), ERR_LIMIT);
	ike_sa_free(NULL);
}

/* ---- changed messages ---- */

struct change {
	unsigned n;
	size_t at;
	uint8_t mask;
	unsigned n_before;
};

/* Changed copies of the n-th message arrive before it. */
static bool copies_before(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	const struct change *c = q->arg;

	if (n == c->n)
		for (size_t at = 0; at < *len; at += 3) {
			uint8_t copy[IKE_MSG_MAX];

			memcpy(copy, msg, *len);
			copy[at] ^= (uint8_t)(1u << (at % 8));
			ike_sa_input(q->sa[!from], q->now_us, &q->path[!from], span_of(copy, *len));
			ike_sa_input(q->sa[!from], q->now_us, &q->path[!from], span_of(copy, at));
		}
	return true;
}

/* Protected messages: whatever came before the right one changed nothing. */
static void tampered_protected(void **state)
{
	(void)state;
	for (unsigned n = 2; n < 8; n++) {
		struct change c = { .n = n };

		begin(n);
		p.filter = copies_before;
		p.arg = &c;
		dial();
		pair_for(&p, MS(100));
		assert_int_equal(
			ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr), OK);
		pair_for(&p, MS(100));
		assert_int_equal(ike_sa_child_delete(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in), OK);
		pair_for(&p, MS(100));
		assert_true(pair_up(&p) && pair_child_same(&p, 0) && pair_child_same(&p, 1));
		assert_int_equal(p.n_sent, 8); /* nothing had to be sent again */
		assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_GONE], 1);
		assert_true(ike_sa_stats(p.sa[ALICE])->n_bad_auth + ike_sa_stats(p.sa[BOB])->n_bad_auth > 10);
		pair_done(&p);
	}
}

static bool change_one(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	const struct change *c = q->arg;

	(void)from;
	if (n == c->n && c->at < *len)
		msg[c->at] ^= c->mask;
	return true;
}

/* IKE_SA_INIT is covered by AUTH: a change on the way either is not taken (and the right one comes again), or
 * ends the call. Never are both up with different ideas, and never is a Child SA up at alice. */
static void tampered_init(void **state)
{
	unsigned n_up = 0, n_failed = 0;

	(void)state;
	for (unsigned n = 0; n < 2; n++)
		for (size_t at = 0; at < 420; at += 5) {
			struct change c = { .n = n, .at = at, .mask = (uint8_t)(1u << (at % 8)) };

			begin(at);
			p.filter = change_one;
			p.arg = &c;
			dial();
			pair_for(&p, SECONDS(40));
			if (pair_up(&p)) {
				assert_true(pair_child_same(&p, 0));
				n_up++;
			} else {
				assert_int_equal(p.n_children[ALICE], 0);
				assert_int_equal(p.n_events[ALICE][IKE_EV_FAILED], 1);
				n_failed++;
			}
			pair_done(&p);
		}
	assert_true(n_up > 0 && n_failed > 0);
}

/* 2.21.1: whoever writes errors into the set-up does not end it. */
static bool forged_errors(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	static const uint16_t types[] = { IKE_N_NO_PROPOSAL_CHOSEN,
					  IKE_N_INVALID_SYNTAX,
					  IKE_N_AUTHENTICATION_FAILED,
					  IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD,
					  4,
					  5,
					  11 };

	(void)msg;
	(void)len;
	for (size_t i = 0; from == ALICE && n == 0 && i < sizeof(types) / sizeof(types[0]); i++) {
		struct ike_header h = { .spi_i = ike_sa_spi_i(q->sa[ALICE]),
					.exchange = IKE_SA_INIT,
					.is_response = true };
		struct ike_build b;
		uint8_t mem[64];
		struct span forged;

		ike_build_start(&b, mem, sizeof(mem), &h);
		ike_build_notify(&b, types[i], SPAN_NONE);
		assert_int_equal(ike_build_done(&b, &forged), OK);
		ike_sa_input(q->sa[ALICE], q->now_us, &q->path[ALICE], forged);
	}
	return q->arg == NULL;
}

static void unprotected_errors(void **state)
{
	static int silent;

	(void)state;
	begin(1);
	p.filter = forged_errors;
	dial();
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	pair_done(&p);
	/* but if nothing better comes, it is what the user hears */
	begin(2);
	p.filter = forged_errors;
	p.arg = &silent;
	dial();
	pair_for(&p, SECONDS(31));
	assert_int_equal(p.n_events[ALICE][IKE_EV_FAILED], 0);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_NO_PROPOSAL);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].notify, IKE_N_NO_PROPOSAL_CHOSEN);
	pair_done(&p);
}

/* No group that both do: bob says NO_PROPOSAL_CHOSEN, every time. */
static void nothing_in_common(void **state)
{
	const char *expected;

	(void)state;
	pair_init(&p, 3);
	assert_int_equal(ike_list_parse(SPAN_LIT("aes128gcm16-prfsha256-x25519"), false, &p.cfg[BOB].ike, &expected),
			 OK);
	assert_int_equal(ike_list_parse(SPAN_LIT("aes128gcm16-prfsha256-ecp256"), false, &p.cfg[ALICE].ike, &expected),
			 OK);
	assert_int_equal(pair_new(&p), OK);
	dial();
	pair_for(&p, SECONDS(40));
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_NO_PROPOSAL);
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_NO_PROPOSAL);
	pair_done(&p);
}

/* ---- a peer with the right keys and wrong ideas ---- */

/* A request of side `from` with this content, built with its keys. */
static void inside(int from, uint8_t exchange, void (*fill)(struct ike_build *b), uint8_t first_type)
{
	struct ike_sa *sa = p.sa[from];
	struct ike_header h = ike_header_of(sa, exchange, false, sa->window.next_out);
	uint8_t mem[IKE_MSG_MAX];
	struct ike_build b;
	struct span msg;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_sk(&b);
	if (fill)
		fill(&b);
	if (first_type)
		mem[IKE_HDR] = first_type;
	assert_int_equal(ike_build_seal(&b, &sa->keys.out, &msg), OK);
	assert_int_equal(ike_window_send(&sa->window, p.now_us, msg), OK);
	pair_throw(&p, !from, msg, FLIGHT_US);
}

static struct ike_chain answer;
static uint8_t answer_plain[IKE_MSG_MAX];

/* Reads bob's answers on their way to alice. */
static bool read_answer(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	struct ike_header h;
	struct ike_chain c;
	struct span inner;

	(void)n;
	if (from != BOB || ike_header_parse(span_of(msg, *len), &h) != OK || !h.is_response ||
	    h.exchange == IKE_SA_INIT)
		return true;
	assert_int_equal(ike_chain_parse(span_from(span_of(msg, *len), IKE_HDR), h.next, &c), OK);
	assert_int_equal(ike_sk_open(&q->sa[ALICE]->keys.in, span_of(msg, *len), &c.p[0], answer_plain, &inner), OK);
	assert_int_equal(ike_chain_parse(inner, c.p[0].next, &answer), OK);
	return h.exchange == IKE_AUTH; /* alice knows nothing of it */
}

static void fill_unknown_critical(struct ike_build *b)
{
	ike_build_open(b, 200);
	b->w.p[b->open_at + 1] = 0x80;
}

static void fill_unknown(struct ike_build *b)
{
	ike_build_open(b, 200);
}
static void fill_broken(struct ike_build *b)
{
	ike_build_bytes(b, IKE_P_NOTIFY, SPAN_LIT("x"));
}
static void fill_rekey_unknown(struct ike_build *b)
{
	ike_build_notify_spi(b, IKE_N_REKEY_SA, 0x12345678);
}
static void fill_child(struct ike_build *b)
{
	static const uint8_t nonce[32] = { 1 };

	ike_build_offer(b, &p.sa[ALICE]->cfg.esp, IKE_PROTO_ESP, SPAN_LIT("\x01\x02\x03\x04"));
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(nonce));
	ike_build_ts(b, IKE_P_TSI, &p.cfg[ALICE].tsi);
	ike_build_ts(b, IKE_P_TSR, &p.cfg[ALICE].tsr);
}
static void fill_rekey_twice(struct ike_build *b)
{
	static const uint8_t nonce[32] = { 1 };

	ike_build_notify_spi(b, IKE_N_REKEY_SA, p.children[ALICE][0].spi_in);
	ike_build_offer(b, &p.sa[ALICE]->cfg.esp, IKE_PROTO_ESP, SPAN_LIT("\x01\x02\x03\x04"));
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(nonce));
	ike_build_ts(b, IKE_P_TSI, &p.cfg[ALICE].tsi);
}
static void rekey_ike(struct ike_build *b, struct span spi, uint16_t group)
{
	static const uint8_t nonce[32]; /* no public value of X25519: its result would be zero */

	ike_build_offer(b, &p.sa[ALICE]->cfg.ike, IKE_PROTO_IKE, spi);
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(nonce));
	ike_build_ke(b, group, SPAN_OF(nonce));
}
static void fill_rekey_ike(struct ike_build *b)
{
	rekey_ike(b, SPAN_LIT("12345678"), 31);
}
static void fill_rekey_ike_group(struct ike_build *b)
{
	rekey_ike(b, SPAN_LIT("12345678"), 1);
}
static void fill_rekey_ike_no_spi(struct ike_build *b)
{
	rekey_ike(b, SPAN_NONE, 31);
}
static void fill_child_no_nonce(struct ike_build *b)
{
	ike_build_offer(b, &p.sa[ALICE]->cfg.esp, IKE_PROTO_ESP, SPAN_LIT("\x01\x02\x03\x04"));
	ike_build_ts(b, IKE_P_TSI, &p.cfg[ALICE].tsi);
	ike_build_ts(b, IKE_P_TSR, &p.cfg[ALICE].tsr);
}
static void fill_low_spi(struct ike_build *b)
{
	static const uint8_t nonce[32] = { 1 };

	ike_build_offer(b, &p.sa[ALICE]->cfg.esp, IKE_PROTO_ESP, SPAN_LIT("\0\0\0\xff"));
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(nonce));
	ike_build_ts(b, IKE_P_TSI, &p.cfg[ALICE].tsi);
	ike_build_ts(b, IKE_P_TSR, &p.cfg[ALICE].tsr);
}
static void fill_rekey_low_spi(struct ike_build *b)
{
	ike_build_notify_spi(b, IKE_N_REKEY_SA, p.children[ALICE][0].spi_in);
	fill_low_spi(b);
}
static void fill_ours_later(struct ike_build *b)
{
	ike_build_notify(b, 46200, SPAN_LIT("a later issue"));
}
static void fill_contact(struct ike_build *b)
{
	ike_build_notify(b, IKE_N_INITIAL_CONTACT, SPAN_NONE);
}
static void fill_ah_delete(struct ike_build *b)
{
	ike_build_delete_esp(b, 0x01020304);
	b->w.p[b->open_at + 4] = IKE_PROTO_AH;
}

static void wrong_ideas(void **state)
{
	static const struct {
		uint8_t exchange;
		void (*fill)(struct ike_build *b);
		uint16_t notify; /* in the answer, 0: none */
		bool stays;
		const char *what;
	} rows[] = {
		{ IKE_INFORMATIONAL, NULL, 0, true, "empty" },
		{ IKE_INFORMATIONAL, fill_unknown, 0, true, "unknown payload" },
		{ IKE_INFORMATIONAL, fill_unknown_critical, IKE_N_UNSUPPORTED_CRITICAL_PAYLOAD, true, "critical" },
		{ IKE_INFORMATIONAL, fill_broken, IKE_N_INVALID_SYNTAX, false, "malformed" },
		{ IKE_INFORMATIONAL, fill_ours_later, 0, true, "a notify of a later version" },
		{ IKE_INFORMATIONAL, fill_contact, 0, true, "INITIAL_CONTACT" },
		{ IKE_INFORMATIONAL, fill_ah_delete, 0, true, "Delete of an AH SA" },
		{ IKE_CREATE_CHILD_SA, fill_rekey_unknown, IKE_N_CHILD_SA_NOT_FOUND, true, "rekey of nothing" },
		{ IKE_CREATE_CHILD_SA, fill_rekey_low_spi, IKE_N_NO_PROPOSAL_CHOSEN, true, "rekey to a reserved SPI" },
		{ IKE_CREATE_CHILD_SA, fill_rekey_twice, IKE_N_INVALID_SYNTAX, false,
		  "rekey without selectors of one side" },
		{ IKE_CREATE_CHILD_SA, fill_rekey_ike, IKE_N_INVALID_SYNTAX, false,
		  "rekey of the SA with a KE that is none" },
		{ IKE_CREATE_CHILD_SA, fill_rekey_ike_group, IKE_N_INVALID_KE_PAYLOAD, true,
		  "rekey of the SA, another group" },
		{ IKE_CREATE_CHILD_SA, fill_rekey_ike_no_spi, IKE_N_INVALID_SYNTAX, false,
		  "rekey of the SA without an SPI" },
		{ IKE_CREATE_CHILD_SA, fill_child_no_nonce, IKE_N_INVALID_SYNTAX, false, "no nonce" },
		{ IKE_CREATE_CHILD_SA, fill_low_spi, IKE_N_NO_PROPOSAL_CHOSEN, true, "a reserved SPI" },
		{ IKE_CREATE_CHILD_SA, NULL, IKE_N_INVALID_SYNTAX, false, "an empty CREATE_CHILD_SA" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin(i);
		p.filter = read_answer;
		dial();
		pair_for(&p, MS(100));
		assert_true(pair_up(&p));
		answer.n = 99;
		inside(ALICE, rows[i].exchange, rows[i].fill, 0);
		pair_for(&p, MS(100));
		if (answer.n == 99 || ike_notify_error(&answer) != rows[i].notify ||
		    ike_sa_up(p.sa[BOB]) != rows[i].stays || p.n_children[BOB] != 1)
			fail_msg("%s: answer %u", rows[i].what, answer.n == 99 ? 0 : ike_notify_error(&answer));
		pair_done(&p);
	}
}

/* A Child SA that nobody asked for, towards alice: her owner is asked, and she answers what he says. */
static void unasked_child(void **state)
{
	(void)state;
	begin(30);
	dial();
	pair_for(&p, MS(100));
	p.child_decision.verdict = IKE_REFUSED;
	inside(BOB, IKE_CREATE_CHILD_SA, fill_child, 0);
	pair_for(&p, MS(15));
	assert_true(p.last[ALICE][IKE_EV_CHILD_ASKED].no_request);
	assert_int_equal(p.n_children[ALICE], 1);
	assert_true(ike_sa_up(p.sa[ALICE]));
	pair_done(&p);
}

static void fill_waits(struct ike_build *b)
{
	for (unsigned i = 0; i <= IKE_GRANTS_MAX; i++)
		ike_build_wait(b, p.cfg[ALICE].request, 1);
}
static void fill_refusals(struct ike_build *b)
{
	for (unsigned i = 0; i <= IKE_GRANTS_MAX; i++)
		ike_build_refuse(b, p.cfg[ALICE].request, 0);
}

/* Bob says the same many times in one message: alice's owner is not flooded with what one datagram can hold. */
static void many_words(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		begin(31);
		dial();
		pair_for(&p, MS(100));
		inside(BOB, IKE_INFORMATIONAL, i ? fill_refusals : fill_waits, 0);
		pair_for(&p, MS(15));
		assert_int_equal(p.n_events[ALICE][IKE_EV_WAIT] + p.n_events[ALICE][IKE_EV_REFUSED], 0);
		assert_true(ike_sa_up(p.sa[ALICE]));
		pair_done(&p);
	}
}

/* What a message may carry by its length alone. */
static void sizes(void **state)
{
	static uint8_t big[IKE_MSG_MAX + 1];

	(void)state;
	begin(31);
	dial();
	pair_for(&p, MS(100));
	ike_sa_input(p.sa[BOB], p.now_us, &p.path[BOB], SPAN_OF(big));
	ike_sa_input(p.sa[BOB], p.now_us, &p.path[BOB], SPAN_NONE);
	assert_int_equal(ike_sa_stats(p.sa[BOB])->n_malformed, 2);
	/* somebody else's SPIs */
	put_be64(big, 5);
	big[17] = 0x20;
	big[18] = IKE_INFORMATIONAL;
	put_be32(big + 24, 28);
	ike_sa_input(p.sa[BOB], p.now_us, &p.path[BOB], span_of(big, 28));
	assert_int_equal(ike_sa_stats(p.sa[BOB])->n_stray, 1);
	assert_true(pair_up(&p));
	pair_done(&p);
}

/* One's own message sent back is nothing. */
static bool mirror(struct pair *q, int from, unsigned n, uint8_t *msg, size_t *len)
{
	(void)n;
	pair_throw(q, from, span_of(msg, *len), MS(1));
	return true;
}

static void reflected(void **state)
{
	(void)state;
	begin(32);
	p.filter = mirror;
	dial();
	pair_for(&p, MS(100));
	ike_sa_probe(p.sa[ALICE], p.now_us);
	ike_sa_probe(p.sa[BOB], p.now_us);
	pair_for(&p, SECONDS(2));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	assert_int_equal(ike_sa_stats(p.sa[ALICE])->n_retransmitted + ike_sa_stats(p.sa[BOB])->n_retransmitted, 0);
	pair_done(&p);
}

/* The owner does not decide: alice gives up, bob's half-open SA ends. */
static void undecided(void **state)
{
	struct ike_decision d;

	(void)state;
	begin(33);
	p.undecided = true;
	dial();
	pair_for(&p, SECONDS(40));
	assert_int_equal(p.n_events[BOB][IKE_EV_ASKED], 1);
	assert_int_equal(p.last[ALICE][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	assert_int_equal(p.last[BOB][IKE_EV_FAILED].fail, IKE_FAIL_TIMEOUT);
	d = p.decision;
	ike_sa_decide(p.sa[BOB], p.now_us, &d); /* too late is nothing */
	assert_int_equal(p.n_children[BOB], 0);
	pair_done(&p);
}

/* ---- no memory ---- */

/* A whole life; true: everything happened, and without any delay. After a failed allocation it may take longer, but
 * what happens in the end is the same. */
static bool life(void *arg)
{
	static struct ike_decision later;
	bool in_time, begun, whole = false;

	(void)arg;
	pair_init(&p, 40);
	begun = pair_new(&p) == OK && ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) == OK;
	pair_for(&p, 4 * FLIGHT_US);
	in_time = begun && pair_up(&p);
	pair_for(&p, SECONDS(3));
	if (begun && !(pair_up(&p) && pair_child_same(&p, 0)))
		abort();
	later = p.decision;
	if (begun && ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &p.cfg[ALICE].tsi, &p.cfg[ALICE].tsr) == OK &&
	    ike_sa_grant_later(p.sa[BOB], p.now_us, &later) == OK) {
		pair_for(&p, 2 * FLIGHT_US);
		in_time = in_time && pair_child_same(&p, 1) && p.n_events[ALICE][IKE_EV_GRANT] == 4;
		pair_for(&p, SECONDS(3));
		if (!pair_child_same(&p, 1) || p.n_events[ALICE][IKE_EV_GRANT] != 4)
			abort();
		ike_sa_probe(p.sa[ALICE], p.now_us);
		if (ike_sa_child_delete(p.sa[BOB], p.now_us, p.children[BOB][0].spi_in) == OK) {
			pair_for(&p, 2 * FLIGHT_US);
			whole = p.n_events[ALICE][IKE_EV_CHILD_GONE] == 1 && p.n_events[BOB][IKE_EV_CHILD_GONE] == 1 &&
				p.n_sent == 12;
			pair_for(&p, SECONDS(3));
			if (p.n_events[ALICE][IKE_EV_CHILD_GONE] != 1 || p.n_events[BOB][IKE_EV_CHILD_GONE] != 1)
				abort();
		}
	}
	if (begun) {
		ike_sa_delete(p.sa[ALICE], p.now_us);
		pair_for(&p, 2 * FLIGHT_US);
		whole = whole && in_time && p.n_events[ALICE][IKE_EV_CLOSED] == 1 && p.n_sent == 14;
		pair_for(&p, SECONDS(3));
		if (p.n_events[ALICE][IKE_EV_CLOSED] != 1 || p.n_events[BOB][IKE_EV_CLOSED] != 1)
			abort();
	}
	pair_done(&p);
	return whole;
}

static void no_memory(void **state)
{
	(void)state;
	pair_identities();
	harness_alloc_ladder(life, NULL);
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_peer),         cmocka_unit_test(refused_by_default),
		cmocka_unit_test(tampered_protected), cmocka_unit_test(tampered_init),
		cmocka_unit_test(unprotected_errors), cmocka_unit_test(nothing_in_common),
		cmocka_unit_test(wrong_ideas),        cmocka_unit_test(unasked_child),
		cmocka_unit_test(many_words),         cmocka_unit_test(sizes),
		cmocka_unit_test(reflected),          cmocka_unit_test(undecided),
		cmocka_unit_test(no_memory),          cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
