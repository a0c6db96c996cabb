/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "ice/candidate.h"
#include "ice/stun.h"

static struct stun_msg m;
static const uint8_t transaction[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

static void parse_cut(struct span text)
{
	for (size_t cut = 0; cut < text.len; cut++) {
		uint8_t *copy = malloc(cut + 1);

		assert_non_null(copy);
		memcpy(copy, text.p, cut);
		assert_int_not_equal(stun_parse(span_of(copy, cut), &m), OK);
		free(copy);
	}
}

static void done(struct span s)
{
	free((void *)(uintptr_t)s.p);
}

/* RFC 5769: what is in the message, its integrity and fingerprint, every truncation, every flipped bit. */
static void rfc5769(void **state)
{
	json_t *root = harness_json("stun/rfc/vectors.json"), *v;
	size_t i;
	unsigned n = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "vectors"), i, v)
	{
		const char *password = json_string_value(json_object_get(v, "password_short_term"));
		const char *mapped =
			json_string_value(json_object_get(json_object_get(v, "attributes"), "XOR-MAPPED-ADDRESS"));
		struct span bytes, id;
		uint8_t *mem;

		if (!password)
			continue;
		bytes = harness_hex(v, "hex");
		id = harness_hex(v, "transaction_id");
		assert_int_equal(stun_parse(bytes, &m), OK);
		assert_true(span_eq(SPAN_OF(m.transaction), id));
		assert_true(m.has_fingerprint);
		assert_int_equal(stun_check_integrity(&m, span_str(password)), OK);
		assert_int_equal(stun_check_integrity(&m, SPAN_LIT("wrong")), ERR_AUTH);
		if (mapped) {
			struct addr want, got;

			assert_int_equal(addr_parse(span_str(mapped), 0, &want), OK);
			assert_int_equal(stun_attr_addr(&m, stun_find(&m, STUN_XOR_MAPPED_ADDRESS), &got), OK);
			assert_true(addr_eq(&want, &got));
			assert_int_equal(m.cls, STUN_SUCCESS);
		} else {
			assert_true(span_eq_str(stun_find(&m, STUN_USERNAME)->value, "evtj:h6vY"));
			assert_int_equal(be32(stun_find(&m, STUN_PRIORITY)->value.p), 1845494271);
			assert_int_equal(m.cls, STUN_REQUEST);
		}
		parse_cut(bytes);
		mem = malloc(bytes.len);
		assert_non_null(mem);
		for (size_t bit = 0; bit < bytes.len * 8; bit++) {
			memcpy(mem, bytes.p, bytes.len);
			mem[bit / 8] ^= (uint8_t)(1 << bit % 8);
			/* a flip in the type of FINGERPRINT makes it an unprotected, ignored attribute */
			assert_true(stun_parse(span_of(mem, bytes.len), &m) != OK || !m.has_fingerprint ||
				    stun_check_integrity(&m, span_str(password)) != OK);
		}
		free(mem);
		done(bytes);
		done(id);
		n++;
	}
	assert_int_equal(n, 2);
	json_decref(root);
}

static void libnice_verdicts(void **state)
{
	json_t *root = harness_json("stun/libnice/verdicts.json"), *v;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "messages"), i, v)
	{
		struct span bytes = harness_hex(v, "hex");

		assert_int_equal(stun_parse(bytes, &m) == OK, !strcmp(harness_text(v, "verdict"), "parse_ok"));
		if (!strcmp(harness_text(v, "file"), "simple_resp.bin")) {
			assert_int_equal(m.cls, STUN_ERROR);
			assert_int_equal(m.method, 0x525);
		}
		/* (a broken one may be broken just by what a cut removes) */
		if (!strcmp(harness_text(v, "verdict"), "parse_ok"))
			parse_cut(bytes);
		done(bytes);
	}
	json_decref(root);
}

static void messages_of_browsers(void **state)
{
	json_t *root = harness_json("stun/real/messages.json"), *v, *a;
	size_t i, k;

	(void)state;
	json_array_foreach(json_object_get(root, "messages"), i, v)
	{
		char rel[128];
		struct span bytes;

		(void)snprintf(rel, sizeof(rel), "stun/real/%s", harness_text(v, "file"));
		bytes = harness_file(rel);
		assert_int_equal(stun_parse(bytes, &m),
				 json_is_false(json_object_get(v, "fingerprint_valid")) ? ERR_AUTH : OK);
		if (m.raw.p == bytes.p)
			json_array_foreach(json_object_get(v, "attributes"), k, a)
			{
				uint16_t type = (uint16_t)strtoul(harness_text(a, "type"), NULL, 16);
				struct span value = harness_hex(a, "value");

				if (type != STUN_FINGERPRINT) {
					assert_int_equal(m.attrs[k].type, type);
					assert_true(span_eq(m.attrs[k].value, value));
				}
				done(value);
			}
		parse_cut(bytes);
		done(bytes);
	}
	json_decref(root);
}

static void written_is_read(void **state)
{
	uint8_t mem[STUN_MSG_MAX];
	struct addr in = addr_ip4(0xc0000201, 4500), in6, out;
	uint16_t unknown[4];

	(void)state;
	assert_int_equal(addr_parse(SPAN_LIT("[2001:db8::1]:9"), 0, &in6), OK);
	for (enum stun_class cls = STUN_REQUEST; cls <= STUN_ERROR; cls++) {
		struct wr w = wr_of(mem, sizeof(mem));

		stun_begin(&w, cls, 0xabc, transaction);
		stun_put(&w, STUN_USERNAME, SPAN_LIT("a:bcd"));
		stun_put_u64(&w, STUN_ICE_CONTROLLED, 7);
		stun_put_xor_addr(&w, STUN_XOR_MAPPED_ADDRESS, cls & 1 ? &in : &in6, transaction);
		stun_put_error(&w, 487, "Role Conflict");
		stun_put_u32(&w, 0x7ffe, 1);
		assert_int_equal(stun_finish(&w, SPAN_LIT("pass"), true), OK);
		assert_true(stun_is(wr_done(&w)));
		assert_int_equal(stun_parse(wr_done(&w), &m), OK);
		assert_int_equal(m.cls, cls);
		assert_int_equal(m.method, 0xabc);
		assert_int_equal(stun_check_integrity(&m, SPAN_LIT("pass")), OK);
		assert_int_equal(stun_error_code(&m), 487);
		assert_int_equal(stun_attr_addr(&m, stun_find(&m, STUN_XOR_MAPPED_ADDRESS), &out), OK);
		assert_true(addr_eq(&out, cls & 1 ? &in : &in6));
		assert_int_equal(stun_unknown(&m, unknown, 4), 1);
		assert_int_equal(unknown[0], 0x7ffe);
	}
}

/* What stands behind MESSAGE-INTEGRITY is not protected by it and must not be believed (RFC 8489, 14.5). */
static void attributes_behind_integrity_are_ignored(void **state)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	(void)state;
	stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
	assert_int_equal(stun_finish(&w, SPAN_LIT("pass"), false), OK);
	stun_put(&w, STUN_USE_CANDIDATE, SPAN_NONE);
	assert_int_equal(stun_finish(&w, SPAN_NONE, true), OK);
	assert_int_equal(stun_parse(wr_done(&w), &m), OK);
	assert_null(stun_find(&m, STUN_USE_CANDIDATE));
	assert_int_equal(stun_check_integrity(&m, SPAN_LIT("pass")), OK);
	/* and nothing may follow FINGERPRINT */
	stun_put(&w, STUN_SOFTWARE, SPAN_NONE);
	assert_int_equal(stun_finish(&w, SPAN_NONE, false), OK);
	assert_int_equal(stun_parse(wr_done(&w), &m), ERR_MALFORMED);
}

static void limits(void **state)
{
	uint8_t mem[STUN_MSG_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	(void)state;
	stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
	for (int i = 0; i < STUN_ATTRS_MAX; i++)
		stun_put(&w, STUN_SOFTWARE, SPAN_NONE);
	assert_int_equal(stun_finish(&w, SPAN_NONE, false), OK);
	assert_int_equal(stun_parse(wr_done(&w), &m), OK);
	stun_put(&w, STUN_SOFTWARE, SPAN_NONE);
	assert_int_equal(stun_finish(&w, SPAN_NONE, false), OK);
	assert_int_equal(stun_parse(wr_done(&w), &m), ERR_LIMIT);
	w = wr_of(mem, 30);
	stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
	assert_int_equal(stun_finish(&w, SPAN_LIT("pass"), true), ERR_LIMIT);
}

static void server_answers_binding_requests_only(void **state)
{
	uint8_t in[STUN_MSG_MAX], out[STUN_MSG_MAX];
	struct addr from = addr_ip4(0xcb007109, 1234), got;

	(void)state;
	for (enum stun_class cls = STUN_REQUEST; cls <= STUN_ERROR; cls++) {
		struct wr w = wr_of(in, sizeof(in)), answer = wr_of(out, sizeof(out));

		stun_begin(&w, cls, STUN_BINDING, transaction);
		assert_int_equal(stun_finish(&w, SPAN_NONE, true), OK);
		assert_int_equal(stun_serve(wr_done(&w), &from, &answer), cls == STUN_REQUEST);
		if (cls != STUN_REQUEST)
			continue;
		assert_int_equal(stun_parse(wr_done(&answer), &m), OK);
		assert_int_equal(m.cls, STUN_SUCCESS);
		assert_memory_equal(m.transaction, transaction, 12);
		assert_int_equal(stun_attr_addr(&m, stun_find(&m, STUN_XOR_MAPPED_ADDRESS), &got), OK);
		assert_true(addr_eq(&got, &from));
	}
	{
		struct wr w = wr_of(in, sizeof(in)), answer = wr_of(out, sizeof(out));

		stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
		stun_put_u32(&w, 0x0003, 6); /* CHANGE-REQUEST: not ours */
		assert_int_equal(stun_finish(&w, SPAN_NONE, false), OK);
		assert_true(stun_serve(wr_done(&w), &from, &answer));
		assert_int_equal(stun_parse(wr_done(&answer), &m), OK);
		assert_int_equal(stun_error_code(&m), 420);
		assert_int_equal(be16(stun_find(&m, STUN_UNKNOWN_ATTRIBUTES)->value.p), 3);
	}
}

/* ---- candidates ---- */

static void candidate_lines(void **state)
{
	json_t *root = harness_json("ice/candidate-lines.json"), *v;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "cases"), i, v)
	{
		const char *text = harness_text(v, "candidate"), *verdict = harness_text(v, "verdict");
		const json_t *want = json_object_get(v, "parsed");
		struct ice_candidate c;
		struct span line =
			span_of(text, json_string_length(json_object_get(v, "candidate"))); /* one holds a NUL */
		enum err e;

		if (span_starts(line, "candidate:"))
			line = span_from(line, 10);
		e = ice_candidate_parse(line, &c);
		if (!strcmp(verdict, "reject") ? e == OK : !strcmp(verdict, "parse_ok") && e == ERR_MALFORMED)
			fail_msg("\"%s\": %s, wanted %s", text, err_name(e), verdict);
		if (want && e == OK) {
			uint8_t mem[256];
			struct wr w = wr_of(mem, sizeof(mem));
			struct ice_candidate back;

			assert_string_equal(c.foundation, harness_text(want, "foundation"));
			assert_int_equal(c.priority, json_integer_value(json_object_get(want, "priority")));
			assert_int_equal(c.addr.port, json_integer_value(json_object_get(want, "port")));
			assert_string_equal(ice_type_name(c.type), harness_text(want, "type"));
			ice_candidate_write(&w, &c);
			assert_int_equal(ice_candidate_parse(wr_done(&w), &back), OK);
			assert_true(addr_eq(&back.addr, &c.addr) && addr_eq(&back.related, &c.related));
		}
		for (size_t cut = 0; cut < line.len; cut++)
			if (ice_candidate_parse(span_sub(line, 0, cut), &c) == OK)
				assert_true(c.addr.port != 0);
	}
	json_decref(root);
}

static void priorities(void **state)
{
	json_t *root = harness_json("ice/priorities.json"), *v;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "candidates"), i,
			   v) for (enum ice_type t = ICE_HOST; t <= ICE_RELAY;
				   t++) if (!strcmp(ice_type_name(t), harness_text(v, "type")))
		assert_int_equal(ice_priority(t, (uint16_t)json_integer_value(json_object_get(v, "local_preference")),
					      (uint32_t)json_integer_value(json_object_get(v, "component"))),
				 json_integer_value(json_object_get(v, "priority")));
	/* RFC 8445, 6.1.2.3, with the numbers of the vectors' libnice pair */
	assert_true(ice_pair_priority(1, 5000) == (1ull << 32) + 10000);
	assert_true(ice_pair_priority(5000, 1) == (1ull << 32) + 10001);
	json_decref(root);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc5769),
		cmocka_unit_test(libnice_verdicts),
		cmocka_unit_test(messages_of_browsers),
		cmocka_unit_test(written_is_read),
		cmocka_unit_test(attributes_behind_integrity_are_ignored),
		cmocka_unit_test(limits),
		cmocka_unit_test(server_answers_binding_requests_only),
		cmocka_unit_test(candidate_lines),
		cmocka_unit_test(priorities),
	};

	return HARNESS_RUN(tests);
}
