/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Messages as bytes: form, limits, truncation, other projects' captures, selectors, proposals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "base/timers.h"
#include "harness.h"
#include "ike/payload.h"
#include "ike/peek.h"
#include "ike/proposal.h"

static struct span unhex(const char *hex, uint8_t *mem, size_t cap)
{
	size_t len = 0;

	assert_int_equal(hex_parse(span_str(hex), false, mem, cap, &len), OK);
	return span_of(mem, len);
}

/* Everything that may be asked of a message; true: header, chain and payloads have their form. */
static bool well_formed(struct span msg)
{
	struct ike_header h;
	struct ike_chain c;
	struct ike_peek k;

	(void)!ike_peek(msg, &k);
	return ike_header_parse(msg, &h) == OK && ike_chain_parse(span_from(msg, IKE_HDR), h.next, &c) == OK &&
	       ike_chain_check(&c) == OK;
}

/* In memory of exactly that size, so that the sanitizer sees a read behind the end. */
static bool well_formed_copy(struct span msg)
{
	uint8_t *copy = malloc(msg.len ? msg.len : 1);
	bool ok;

	assert_non_null(copy);
	memcpy(copy, msg.p, msg.len);
	ok = well_formed(span_of(copy, msg.len));
	free(copy);
	return ok;
}

static void truncations(struct span msg)
{
	uint8_t *copy = malloc(msg.len);

	assert_non_null(copy);
	for (size_t len = 0; len < msg.len; len++) {
		assert_false(well_formed_copy(span_sub(msg, 0, len)));
		/* the same with a header that agrees to the shorter length: some are whole by chance, none may crash */
		if (len < IKE_HDR)
			continue;
		memcpy(copy, msg.p, len);
		put_be32(copy + 24, (uint32_t)len);
		(void)well_formed_copy(span_of(copy, len));
	}
	free(copy);
}

static void mutations(struct span msg)
{
	uint8_t *copy = malloc(msg.len);

	assert_non_null(copy);
	for (size_t i = 0; i < msg.len; i++) {
		static const uint8_t values[] = { 0, 1, 4, 0x7f, 0x80, 0xff };

		for (size_t v = 0; v < sizeof(values); v++) {
			memcpy(copy, msg.p, msg.len);
			copy[i] = values[v];
			(void)well_formed_copy(span_of(copy, msg.len));
		}
	}
	free(copy);
}

static void captures(void **state)
{
	json_t *index = harness_json("ikev2/other-captures/index.json"), *entry;
	size_t i, j;

	(void)state;
	json_array_foreach(json_object_get(index, "captures"), i, entry)
	{
		const char *verdict = harness_text(entry, "verdict"), *file = harness_text(entry, "file");
		char rel[256] = "ikev2/other-captures/";
		json_t *capture, *m;

		strncat(rel, file, strcspn(file, "."));
		strncat(rel, ".json", 6);
		capture = harness_json(rel);
		json_array_foreach(json_object_get(capture, "messages"), j, m)
		{
			struct span msg;
			bool ok;

			if (strncmp(harness_text(m, "kind"), "ike", 3))
				continue; /* ESP of the same capture */
			msg = harness_hex(m, "message");
			ok = well_formed_copy(msg);
			if (!strcmp(verdict, "parse_ok") && !ok)
				fail_msg("%s, message %zu: refused", file, j);
			if (!strcmp(verdict, "reject") && ok)
				fail_msg("%s, message %zu: taken", file, j);
			free((void *)(uintptr_t)msg.p);
		}
		json_decref(capture);
	}
	json_decref(index);
}

/* ikev2/payloads: one payload each, put behind a header. */
static void single_payloads(void **state)
{
	json_t *file = harness_json("ikev2/payloads/payloads.json"), *p;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(file, "payloads"), i, p)
	{
		struct span payload = harness_hex(p, "hex");
		struct ike_header h = { .spi_i = 1, .exchange = IKE_SA_INIT, .from_initiator = true };
		uint8_t mem[2048];
		struct ike_build b;
		struct span msg;

		ike_build_start(&b, mem, sizeof(mem), &h);
		wr_span(&b.w, payload);
		assert_int_equal(ike_build_done(&b, &msg), OK);
		mem[16] = (uint8_t)json_integer_value(json_object_get(p, "payload_type"));
		if (json_is_true(json_object_get(p, "length_field_matches")) && !well_formed_copy(msg))
			fail_msg("%s: refused", harness_text(p, "name"));
		mutations(msg);
		free((void *)(uintptr_t)payload.p);
	}
	json_decref(file);
}

/* The IKE_SA_INIT request of a stock peer, with transforms that we do not know (CAST, 3DES, MODP, Camellia). */
/* What we do by default: IKE, ESP. */
static struct ike_list lists[2];

static const char stock_sa[] = "020000400101000603000008010000060300000c0100000c800e00800300000c01000017800e01000300000"
			       "8020000020300000802000004"
			       "000000080400000e"
			       "0000002c02010004"
			       "0300000c01000014800e0100"
			       "03000008"
			       "02000006"
			       "03000008"
			       "02000005"
			       "00000008"
			       "0400001f";

static void stock_offer(void **state)
{
	uint8_t mem[256];
	struct ike_offer o;
	const struct ike_proposal *p;
	struct ike_suite s;

	(void)state;
	assert_int_equal(ike_offer_parse(unhex(stock_sa, mem, sizeof(mem)), &o), OK);
	assert_int_equal(o.n_proposals, 2);
	assert_int_equal(o.proposals[0].n, 6);
	assert_int_equal(o.transforms[1].key_bits, 128);
	assert_int_equal(ike_proposal_choose(&lists[0], &o, IKE_PROTO_IKE, 14, &s, &p), OK);
	assert_int_equal(p->number, 2);
	assert_int_equal(s.encr->key_bits, 256);
	assert_int_equal(s.prf->id, 5);
	assert_int_equal(s.group->id, 31);
	assert_int_equal(ike_proposal_choose(&lists[1], &o, IKE_PROTO_ESP, 0, &s, &p), ERR_NOTFOUND);
}

/* One transform each: type, id, key bits, and whether the proposal is then still ours. */
static void proposal_rows(void **state)
{
	static const struct {
		const char *sa;
		enum ike_protocol protocol;
		bool ours;
		const char *what;
	} rows[] = {
		{ "0000002001030402"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "0000000805000000",
		  IKE_PROTO_ESP, true, "GCM, no ESN" },
		{ "0000002001030402"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "0000000805000001",
		  IKE_PROTO_ESP, true, "ESN only" },
		{ "0000001801030401"
		  "c0000001"
		  "0000000c01000014800e0080",
		  IKE_PROTO_ESP, false, "ESN transform missing" },
		{ "0000001c01030402"
		  "c0000001"
		  "0300000801000014"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "no key length" },
		{ "0000002001030402"
		  "c0000001"
		  "0300000c01000014800e00c0"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "192 bits" },
		{ "0000002801030403"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "030000080300000c"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "AEAD with an integrity transform only" },
		{ "0000002801030403"
		  "c0000001"
		  "0300000c0100000c800e0100"
		  "030000080300000c"
		  "0000000805000000",
		  IKE_PROTO_ESP, true, "CBC with its integrity transform" },
		{ "0000002001030402"
		  "c0000001"
		  "0300000c0100000c800e0100"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "CBC without one" },
		{ "0000002801030403"
		  "c0000001"
		  "0300000c0100000c800e0100"
		  "0300000803000000"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "CBC with NONE" },
		{ "0000002801030403"
		  "c0000001"
		  "0300000c0100000c800e0100"
		  "0300000803000002"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "CBC with HMAC-SHA1-96" },
		{ "0000001c01030402"
		  "c0000001"
		  "030000080100001c"
		  "0000000805000000",
		  IKE_PROTO_ESP, true, "ChaCha20-Poly1305 has no key length" },
		{ "0000003001030404"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "030000080300000c"
		  "0300000803000000"
		  "0000000805000000",
		  IKE_PROTO_ESP, true, "or NONE" },
		{ "0000002801030403"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "030000080400001f"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "PFS demanded" },
		{ "0000003001030404"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "030000080400001f"
		  "0300000804000000"
		  "0000000805000000",
		  IKE_PROTO_ESP, true, "PFS or none" },
		{ "0000002801030403"
		  "c0000001"
		  "0300000c01000014800e0080"
		  "0300000806000024"
		  "0000000805000000",
		  IKE_PROTO_ESP, false, "a transform type that nobody knows" },
		{ "0000002401030402"
		  "c0000001"
		  "0300001001000014800e00804001000000000008"
		  "05000000",
		  IKE_PROTO_ESP, false, "an attribute that nobody knows" },
		{ "0000002401010003"
		  "0300000c01000014800e0080"
		  "0300000802000005"
		  "000000080400001f",
		  IKE_PROTO_IKE, true, "IKE" },
		{ "0000001c01010002"
		  "0300000c01000014800e0080"
		  "0000000802000005",
		  IKE_PROTO_IKE, false, "no group" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t mem[256];
		struct ike_offer o;
		const struct ike_proposal *p;
		struct ike_suite s;

		if (ike_offer_parse(unhex(rows[i].sa, mem, sizeof(mem)), &o) != OK)
			fail_msg("%s: malformed", rows[i].what);
		if ((ike_proposal_choose(&lists[rows[i].protocol == IKE_PROTO_ESP], &o, rows[i].protocol, 0, &s, &p) ==
		     OK) != rows[i].ours)
			fail_msg("%s: wrong choice", rows[i].what);
	}
}

/* What we write, read again: an offer of all, a choice of one. */
static void offer_and_choice(void **state)
{
	struct ike_header h = { .spi_i = 1, .exchange = IKE_SA_INIT };
	uint8_t mem[1024], spi[4] = { 0xc0, 0, 0, 1 };
	const struct ike_proposal *p;
	struct ike_suite s, back;
	struct ike_chain c;
	struct ike_offer o;
	struct ike_build b;
	struct span msg;

	(void)state;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_offer(&b, &lists[1], IKE_PROTO_ESP, SPAN_OF(spi));
	assert_int_equal(ike_build_done(&b, &msg), OK);
	truncations(msg);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_SA, &c), OK);
	assert_int_equal(ike_offer_parse(c.p[0].body, &o), OK);
	assert_true(span_eq(o.proposals[0].spi, SPAN_OF(spi)));
	assert_int_equal(ike_proposal_chosen(&lists[1], &o, IKE_PROTO_ESP, &back, &p),
			 ERR_DENIED); /* two ENCR are no choice */
	assert_int_equal(ike_proposal_choose(&lists[1], &o, IKE_PROTO_ESP, 0, &s, &p), OK);

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_choice(&b, IKE_PROTO_ESP, 1, SPAN_OF(spi), &s);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_SA, &c), OK);
	assert_int_equal(ike_offer_parse(c.p[0].body, &o), OK);
	assert_int_equal(ike_proposal_chosen(&lists[1], &o, IKE_PROTO_ESP, &back, &p), OK);
	assert_ptr_equal(back.encr, s.encr);
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_choice(&b, IKE_PROTO_ESP, 2, SPAN_OF(spi), &s);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_SA, &c), OK);
	assert_int_equal(ike_offer_parse(c.p[0].body, &o), OK);
	assert_int_equal(ike_proposal_chosen(&lists[1], &o, IKE_PROTO_ESP, &back, &p),
			 ERR_DENIED); /* we sent no number 2 */
}

static void chain_rows(void **state)
{
	static const struct {
		uint8_t first;
		const char *body;
		enum err e;
		uint8_t critical;
		const char *what;
	} rows[] = {
		{ 0, "", OK, 0, "nothing" },
		{ 43, "00000004", OK, 0, "an empty vendor ID" },
		{ 43, "00000003", ERR_MALFORMED, 0, "shorter than its header" },
		{ 43, "00000005", ERR_MALFORMED, 0, "longer than the message" },
		{ 43, "0000000400", ERR_MALFORMED, 0, "a byte left over" },
		{ 43, "2b000004", ERR_MALFORMED, 0, "the next one missing" },
		{ 200, "00000004", OK, 0, "unknown" },
		{ 200, "00800004", OK, 200, "unknown and critical" },
		{ 33, "00800004", OK, 0, "known: critical says nothing (3.2)" },
		{ 40, "2800000400000004", ERR_MALFORMED, 0, "two nonces" },
		{ 37, "2500000400000004", OK, 0, "two certificates" },
		{ 46, "29000004", OK, 0, "SK ends the chain" },
	};
	uint8_t many[4 * (IKE_PAYLOADS_MAX + 1)];
	struct ike_chain c;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t mem[64];

		if (ike_chain_parse(unhex(rows[i].body, mem, sizeof(mem)), rows[i].first, &c) != rows[i].e ||
		    (rows[i].e == OK && c.unknown_critical != rows[i].critical))
			fail_msg("%s", rows[i].what);
	}
	for (unsigned i = 0; i <= IKE_PAYLOADS_MAX; i++)
		memcpy(many + 4 * i, i < IKE_PAYLOADS_MAX ? "\x2b\0\0\4" : "\0\0\0\4", 4);
	assert_int_equal(ike_chain_parse(SPAN_OF(many), IKE_P_VENDOR, &c), ERR_LIMIT);
	memcpy(many + 4 * (IKE_PAYLOADS_MAX - 1), "\0\0\0\4", 4);
	assert_int_equal(ike_chain_parse(span_of(many, 4 * IKE_PAYLOADS_MAX), IKE_P_VENDOR, &c), OK);
}

static struct ike_ts ts4(uint8_t protocol, uint32_t lo, uint32_t hi, uint16_t plo, uint16_t phi)
{
	struct ike_ts t = { .family = ADDR_IP4, .protocol = protocol, .port_lo = plo, .port_hi = phi };

	put_be32(t.ip_lo, lo);
	put_be32(t.ip_hi, hi);
	return t;
}

static void narrowing(void **state)
{
	static const struct {
		struct {
			uint8_t protocol;
			uint32_t lo, hi;
			uint16_t plo, phi;
		} a, b, r;
		bool any;
		const char *what;
	} rows[] = {
		{ { 0, 0, UINT32_MAX, 0, 65535 }, { 6, 10, 20, 80, 80 }, { 6, 10, 20, 80, 80 }, true, "all of it" },
		{ { 6, 10, 20, 80, 90 }, { 6, 15, 30, 85, 95 }, { 6, 15, 20, 85, 90 }, true, "overlap" },
		{ { 6, 10, 20, 0, 65535 }, { 17, 10, 20, 0, 65535 }, { 0, 0, 0, 0, 0 }, false, "other protocol" },
		{ { 6, 10, 20, 0, 79 }, { 6, 10, 20, 80, 90 }, { 0, 0, 0, 0, 0 }, false, "ports apart" },
		{ { 6, 10, 20, 0, 79 }, { 6, 21, 30, 0, 79 }, { 0, 0, 0, 0, 0 }, false, "addresses apart" },
		{ { 6, 10, 20, 65535, 0 }, { 0, 0, UINT32_MAX, 0, 65535 }, { 0, 0, 0, 0, 0 }, false, "OPAQUE" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ike_ts_list a = { .n = 1 }, b = { .n = 1 }, r;
		struct ike_ts want = ts4(rows[i].r.protocol, rows[i].r.lo, rows[i].r.hi, rows[i].r.plo, rows[i].r.phi);

		a.ts[0] = ts4(rows[i].a.protocol, rows[i].a.lo, rows[i].a.hi, rows[i].a.plo, rows[i].a.phi);
		b.ts[0] = ts4(rows[i].b.protocol, rows[i].b.lo, rows[i].b.hi, rows[i].b.plo, rows[i].b.phi);
		ike_ts_narrow(&a, &b, &r);
		if (r.n != rows[i].any || (r.n && memcmp(&r.ts[0], &want, sizeof(want))))
			fail_msg("%s", rows[i].what);
		assert_true(ike_ts_within(&r, &b) && ike_ts_within(&r, &a));
		assert_true(!r.n || !ike_ts_within(&a, &r) || rows[i].any);
	}
}

static void selectors_on_the_wire(void **state)
{
	struct ike_header h = { .spi_i = 1, .exchange = IKE_AUTH };
	struct ike_ts_list list = { .n = 2 }, back;
	uint8_t mem[512];
	struct ike_chain c;
	struct ike_build b;
	struct span msg;

	(void)state;
	list.ts[0] = ts4(17, 0x0a000001, 0x0a0000ff, 53, 53);
	list.ts[1] =
		(struct ike_ts){ .family = ADDR_IP6, .port_hi = 65535, .ip_lo = { 0xfd, 1 }, .ip_hi = { 0xfd, 2 } };
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_ts(&b, IKE_P_TSI, &list);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_TSI, &c), OK);
	assert_int_equal(ike_ts_parse(c.p[0].body, &back), OK);
	assert_int_equal(back.n, 2);
	assert_memory_equal(back.ts, list.ts, 2 * sizeof(list.ts[0]));
	truncations(msg);
	mutations(msg);
	/* a selector type that is not ours (9, Fibre Channel) is left out, not refused */
	mem[IKE_HDR + 8] = 9;
	assert_int_equal(ike_ts_parse(c.p[0].body, &back), OK);
	assert_int_equal(back.n, 1);
}

static void our_notifies(void **state)
{
	struct ike_header h = { .spi_i = 1, .exchange = IKE_AUTH };
	char names[2][IKE_NAME_MAX + 1] = { "desktop", "ssh" };
	struct ike_grant g = { .request = 7, .id = 9, .protocol = 6, .port = 5900, .seconds = 60, .name = "desktop" },
			 gb;
	uint32_t request;
	uint8_t mem[512], reason;
	uint16_t seconds;
	struct ike_request q;
	struct ike_notify n;
	struct ike_chain c;
	struct ike_build b;
	struct span msg;

	(void)state;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_request(&b, 7, names, 2);
	ike_build_grant(&b, &g, false);
	ike_build_refuse(&b, 7, 1);
	ike_build_wait(&b, 7, 30);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_NOTIFY, &c), OK);
	assert_true(ike_notify_find(&c, IKE_N_TIELINE_REQUEST, &n));
	assert_int_equal(ike_request_parse(n.data, &q), OK);
	assert_int_equal(q.n_names, 2);
	assert_string_equal(q.names[1], "ssh");
	assert_int_equal(ike_request_parse(span_sub(n.data, 0, n.data.len - 1), &q), ERR_MALFORMED);
	assert_true(ike_notify_find(&c, IKE_N_TIELINE_GRANT, &n));
	assert_int_equal(ike_grant_parse(n.data, false, &gb), OK);
	assert_int_equal(gb.port, 5900);
	assert_string_equal(gb.name, "desktop");
	assert_int_equal(ike_grant_parse(n.data, true, &gb), ERR_MALFORMED);
	assert_int_equal(ike_grant_parse(SPAN_LIT("\0\0\0\7\0\0\0\11\6\0\1\0\0\0\0a b"), false, &gb), ERR_MALFORMED);
	assert_true(ike_notify_find(&c, IKE_N_TIELINE_REFUSE, &n));
	assert_int_equal(ike_refuse_parse(n.data, &request, &reason), OK);
	assert_int_equal(reason, 1);
	assert_true(ike_notify_find(&c, IKE_N_TIELINE_WAIT, &n));
	assert_int_equal(ike_wait_parse(n.data, &request, &seconds), OK);
	assert_int_equal(seconds, 30);
	assert_int_equal(ike_notify_error(&c), 0);
	mutations(msg);
}

static struct span init_request(struct ike_build *b, void *mem, size_t cap, struct span cookie, bool ours)
{
	static const uint8_t nonce[32] = { 1, 2, 3 }, bind[IKE_BIND_LEN] = { 't', 'a', 'g' };
	struct ike_header h = { .spi_i = 0x1122334455667788, .exchange = IKE_SA_INIT, .from_initiator = true };
	struct span msg;

	ike_build_start(b, mem, cap, &h);
	if (cookie.len)
		ike_build_notify(b, IKE_N_COOKIE, cookie);
	ike_build_bytes(b, IKE_P_NONCE, SPAN_OF(nonce));
	if (ours) {
		ike_build_bytes(b, IKE_P_VENDOR, ike_vendor_id());
		ike_build_notify(b, IKE_N_TIELINE_BIND, SPAN_OF(bind));
	}
	assert_int_equal(ike_build_done(b, &msg), OK);
	return msg;
}

static void peeking(void **state)
{
	uint8_t mem[512];
	struct ike_build b;
	struct ike_peek k;

	(void)state;
	assert_int_equal(ike_peek(init_request(&b, mem, sizeof(mem), SPAN_NONE, true), &k), OK);
	assert_true(k.has_vendor_id && k.has_tag && !k.has_cookie && k.from_initiator && !k.is_response);
	assert_memory_equal(k.tag, "tag\0\0\0\0\0", 8);
	assert_true(k.spi_i == 0x1122334455667788 && !k.spi_r && k.exchange == IKE_SA_INIT && !k.message_id);
	truncations(wr_done(&b.w));
	mutations(wr_done(&b.w));
	assert_int_equal(ike_peek(init_request(&b, mem, sizeof(mem), SPAN_LIT("c"), false), &k), OK);
	assert_true(!k.has_vendor_id && !k.has_tag && k.has_cookie);
	mem[17] = 0x10;
	assert_int_equal(ike_peek(wr_done(&b.w), &k), ERR_UNSUPPORTED); /* IKEv1 */
	mem[17] = 0x21;
	assert_int_equal(ike_peek(wr_done(&b.w), &k), OK); /* 2.5: minor versions do not matter */
}

/* 2.6: asked for, sent back, good for one to two minutes, for this sender and this nonce only. */
static void cookies(void **state)
{
	struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct addr from = addr_ip4(0xc0000201, 4500), other = addr_ip4(0xc0000202, 4500);
	struct ike_cookies *c = NULL;
	uint8_t mem[512], answer[256], again[512], cookie[64];
	struct wr w = wr_of(answer, sizeof(answer));
	struct ike_build b, b2;
	struct ike_header h;
	struct ike_chain chain;
	struct ike_notify n;
	struct span msg, second;

	(void)state;
	assert_int_equal(ike_cookies_new(&rng, &c), OK);
	msg = init_request(&b, mem, sizeof(mem), SPAN_NONE, true);
	assert_false(ike_cookies_valid(c, SECONDS(1), msg, &from));
	assert_int_equal(ike_cookies_challenge(c, SECONDS(1), msg, &from, &w), OK);
	assert_int_equal(ike_header_parse(wr_done(&w), &h), OK);
	assert_true(h.is_response && !h.from_initiator && !h.spi_r && h.exchange == IKE_SA_INIT);
	assert_int_equal(ike_chain_parse(span_from(wr_done(&w), IKE_HDR), h.next, &chain), OK);
	assert_true(ike_notify_find(&chain, IKE_N_COOKIE, &n));
	assert_true(n.data.len <= sizeof(cookie));
	memcpy(cookie, n.data.p, n.data.len);
	second = init_request(&b2, again, sizeof(again), span_of(cookie, n.data.len), true);
	assert_true(ike_cookies_valid(c, SECONDS(1), second, &from));
	assert_false(ike_cookies_valid(c, SECONDS(1), second, &other));
	assert_true(ike_cookies_valid(c, SECONDS(61), second, &from));
	assert_false(ike_cookies_valid(c, SECONDS(200), second, &from));
	again[sizeof(again) - 1] = 0;
	cookie[5] ^= 1;
	second = init_request(&b2, again, sizeof(again), span_of(cookie, n.data.len), true);
	assert_false(ike_cookies_valid(c, SECONDS(1), second, &from));
	assert_int_equal(ike_cookies_challenge(c, SECONDS(1), SPAN_LIT("no message"), &from, &w), ERR_MALFORMED);
	ike_cookies_free(c);
	ike_cookies_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(captures),         cmocka_unit_test(single_payloads),
		cmocka_unit_test(stock_offer),      cmocka_unit_test(proposal_rows),
		cmocka_unit_test(offer_and_choice), cmocka_unit_test(chain_rows),
		cmocka_unit_test(narrowing),        cmocka_unit_test(selectors_on_the_wire),
		cmocka_unit_test(our_notifies),     cmocka_unit_test(peeking),
		cmocka_unit_test(cookies),
	};

	ike_list_default(false, &lists[0]);
	ike_list_default(true, &lists[1]);
	return HARNESS_RUN(tests);
}
