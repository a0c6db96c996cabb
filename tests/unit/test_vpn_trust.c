/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The pin store and the one function that says yes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "vpn/policy.h"

#define HEX(d) "sha-256:" d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d d
#define CONFIG                                                                                                         \
	"[account]\naor = me@example.net\nserver = 192.0.2.1\npassword = p\n"                                          \
	"[service desktop]\nlisten = tcp/5900\n[service files]\nlisten = tcp/445\n"                                    \
	"[peer bob@example.net]\nkey = " HEX(                                                                          \
		"bb") "\nallow = desktop\n"                                                                            \
		      "[peer tom@example.net]\nallow = desktop\nrequire = tofu\nping = no\n"                           \
		      "[peer ann@example.net]\nallow = files\n"                                                        \
		      "[peer box@example.net]\nbare = yes\ncert = " HEX(                                               \
			      "cc") "\naddress = fd00::9\nallow = files\n"                                             \
				    "[peer old@example.net]\nbare = yes\nkey = " HEX(                                  \
					    "dd") "\naddress = fd00::8\nallow = files\n"
#define PINS                                                                                                           \
	"# learned\nsip:tom@example.net " HEX("11") " tofu 1700000000\n\nsip:ann@example.net " HEX(                    \
		"22") " tofu 5 signed\n"                                                                               \
		      "sip:sue@example.net " HEX("33") " sas 7\n"

static struct config *cfg;
static struct trust *trust;

static const uint8_t *key(int byte)
{
	static uint8_t k[SPKI_HASH];

	memset(k, byte, sizeof(k));
	return k;
}

static int load(void **state)
{
	struct conf_error e;

	(void)state;
	assert_int_equal(config_parse("f", SPAN_LIT(CONFIG), &cfg, &e), OK);
	assert_int_equal(trust_new(&trust), OK);
	if (trust_load(trust, "pins", SPAN_LIT(PINS), cfg, &e) != OK)
		fail_msg("%s", e.text);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	trust_free(trust);
	config_free(cfg);
	return 0;
}

static void lookups(void **state)
{
	enum trust_level l;

	(void)state;
	assert_int_equal(trust_check(trust, "sip:bob@example.net", key(0xbb), &l), TRUST_GOOD);
	assert_int_equal(l, LEVEL_PINNED);
	assert_int_equal(trust_check(trust, "sip:tom@example.net", key(0x11), &l), TRUST_GOOD);
	assert_int_equal(l, LEVEL_TOFU);
	assert_int_equal(trust_check(trust, "sip:bob@example.net", key(0x99), &l), TRUST_MISMATCH);
	assert_int_equal(trust_check(trust, "sip:tom@example.net", key(0xbb), &l), TRUST_OTHER_AOR);
	assert_int_equal(trust_check(trust, "sip:eve@example.net", key(0xbb), &l), TRUST_OTHER_AOR);
	assert_int_equal(trust_check(trust, "sip:eve@example.net", key(0x99), &l), TRUST_UNKNOWN);
	assert_true(trust_ever_signed(trust, key(0x22)) && !trust_ever_signed(trust, key(0x11)));
}

static void adding_and_removing(void **state)
{
	enum trust_level l;

	(void)state;
	assert_int_equal(trust_add(trust, "sip:new@example.net", key(0x44), LEVEL_TOFU, 9, false), OK);
	assert_int_equal(trust_add(trust, "sip:new@example.net", key(0x55), LEVEL_PINNED, 9, false), ERR_DENIED);
	assert_int_equal(trust_add(trust, "sip:new@example.net", key(0x55), LEVEL_PINNED, 9, true), OK);
	assert_int_equal(trust_add(trust, "sip:x@example.net", key(0x55), LEVEL_PINNED, 9, true), ERR_DENIED);
	assert_int_equal(trust_add(trust, "sip:new@example.net", key(0x44), LEVEL_PINNED, 9, false), OK);
	assert_int_equal(trust_check(trust, "sip:new@example.net", key(0x44), &l), TRUST_GOOD);
	assert_int_equal(l, LEVEL_PINNED);
	assert_int_equal(trust_remove(trust, "sip:new@example.net", key(0x44)), OK);
	assert_int_equal(trust_check(trust, "sip:new@example.net", key(0x44), &l), TRUST_MISMATCH);
	assert_int_equal(trust_remove(trust, "sip:new@example.net", NULL), OK);
	assert_int_equal(trust_remove(trust, "sip:new@example.net", NULL), ERR_NOTFOUND);
	assert_int_equal(trust_remove(trust, "sip:bob@example.net", NULL), ERR_DENIED);
}

static struct trust *with_config(const char *pins, size_t len, const char *peer)
{
	char text[1024];
	struct config *c;
	struct trust *t;
	struct conf_error e;

	(void)snprintf(text, sizeof(text), "[account]\naor = me@example.net\nserver = 192.0.2.1\npassword = p\n%s",
		       peer);
	assert_int_equal(config_parse("f", span_str(text), &c, &e), OK);
	assert_int_equal(trust_new(&t), OK);
	if (trust_load(t, "pins", span_of(pins, len), c, &e) != OK)
		fail_msg("%s", e.text);
	config_free(c);
	return t;
}

/* What only the configuration said is over when it does not say so any more, also for a key that has called meanwhile. */
static void taken_out_of_the_configuration(void **state)
{
	static const char *const rows[] = { "", "[peer bob@example.net]\n",
					    "[peer bob@example.net]\nkey = " HEX("bc") "\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct trust *t = with_config("", 0, "[peer bob@example.net]\nkey = " HEX("bb") "\n"), *after;
		enum trust_level l;
		char *text;
		size_t len;

		trust_mark_signed(t, key(0xbb));
		assert_int_equal(trust_write(t, &text, &len), OK);
		after = with_config(text, len, rows[i]);
		assert_int_equal(trust_check(after, "sip:bob@example.net", key(0xbb), &l),
				 i < 2 ? TRUST_UNKNOWN : TRUST_MISMATCH);
		assert_int_equal(trust_has_aor(after, "sip:bob@example.net"), i == 2);
		assert_true(trust_ever_signed(after, key(0xbb)));
		/* it can be learned again, and is then what was learned */
		assert_int_equal(trust_add(after, "sip:bob@example.net", key(0xbb), LEVEL_TOFU, 5, true), OK);
		assert_int_equal(trust_check(after, "sip:bob@example.net", key(0xbb), &l), TRUST_GOOD);
		assert_int_equal(l, LEVEL_TOFU);
		trust_free(t);
		trust_free(after);
		free(text);
	}
}

/* A learned pin that the configuration lists as well is pinned as long as it does, and what it was after that. */
static void learned_and_configured(void **state)
{
	static const char pins[] = "sip:bob@example.net " HEX("bb") " tofu 5\n";
	struct trust *t = with_config(pins, sizeof(pins) - 1, "[peer bob@example.net]\nkey = " HEX("bb") "\n"), *after;
	enum trust_level l;
	char *text;
	size_t len;

	(void)state;
	assert_int_equal(trust_check(t, "sip:bob@example.net", key(0xbb), &l), TRUST_GOOD);
	assert_int_equal(l, LEVEL_PINNED);
	assert_int_equal(trust_write(t, &text, &len), OK);
	after = with_config(text, len, "");
	assert_int_equal(trust_check(after, "sip:bob@example.net", key(0xbb), &l), TRUST_GOOD);
	assert_int_equal(l, LEVEL_TOFU);
	trust_free(t);
	trust_free(after);
	free(text);
}

static void written_is_read(void **state)
{
	struct trust *again;
	struct conf_error e;
	char *text;
	size_t len;
	enum trust_level l;

	(void)state;
	trust_mark_signed(trust, key(0xbb));
	assert_int_equal(trust_write(trust, &text, &len), OK);
	assert_int_equal(trust_new(&again), OK);
	assert_int_equal(trust_load(again, "pins", span_of(text, len), cfg, &e), OK);
	assert_int_equal(trust_check(again, "sip:sue@example.net", key(0x33), &l), TRUST_GOOD);
	assert_int_equal(l, LEVEL_SAS);
	assert_true(trust_ever_signed(again, key(0x22)) && trust_ever_signed(again, key(0xbb)));
	trust_free(again);
	free(text);
}

static void bad_files(void **state)
{
	static const char *const rows[] = {
		"sip:x@y",
		"sip:x@y " HEX("11"),
		"sip:x@y " HEX("11") " none 5",
		"sip:x@y " HEX("11") " tofu -1",
		"sip:x@y " HEX("11") " tofu 5 maybe",
		"sip:x@y " HEX("11") " tofu 5 signed more",
		"x " HEX("11") " tofu 5",
		/* contradicts the key of [peer bob] */
		"sip:bob@example.net " HEX("99") " tofu 5",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct trust *t;
		struct conf_error e = { 0 };

		assert_int_equal(trust_new(&t), OK);
		assert_int_not_equal(trust_load(t, "pins", span_str(rows[i]), cfg, &e), OK);
		assert_non_null(strstr(e.text, "pins"));
		trust_free(t);
	}
}

/* Every row of the rule: who, which key, with what evidence, asking for what. */
static void decisions(void **state)
{
	static const struct {
		const char *peer;
		int key; /* -1: none */
		enum policy_act act;
		enum evidence evidence;
		bool bare, we_call, first;
		const char *service;
		enum policy_why why;
	} rows[] = {
		{ "sip:bob@example.net", 0xbb, POLICY_TALK, EVIDENCE_SIGNED, false, false, false, NULL, POLICY_OK },
		{ "sip:bob@example.net", 0xbb, POLICY_TALK, EVIDENCE_CLAIMED, false, false, false, NULL,
		  POLICY_EVIDENCE },
		{ "sip:bob@example.net", 0x99, POLICY_TALK, EVIDENCE_SIGNED, false, false, false, NULL,
		  POLICY_MISMATCH },
		{ "sip:eve@example.net", 0x99, POLICY_TALK, EVIDENCE_SIGNED, false, false, false, NULL,
		  POLICY_STRANGER },
		{ "sip:eve@example.net", 0xbb, POLICY_TALK, EVIDENCE_SIGNED, false, false, false, NULL,
		  POLICY_WRONG_AOR },
		{ "sip:bob@example.net", -1, POLICY_TALK, EVIDENCE_CLAIMED, false, true, false, NULL, POLICY_OK },
		{ "sip:eve@example.net", -1, POLICY_TALK, EVIDENCE_CLAIMED, false, true, false, NULL, POLICY_NO_PIN },
		{ "sip:eve@example.net", -1, POLICY_TALK, EVIDENCE_CLAIMED, false, true, true, NULL, POLICY_OK },
		{ "sip:eve@example.net", 0x99, POLICY_TALK, EVIDENCE_SIGNED, false, true, true, NULL, POLICY_OK },
		/* --trust-first does not override a pin, nor help a caller */
		{ "sip:bob@example.net", 0x99, POLICY_TALK, EVIDENCE_SIGNED, false, true, true, NULL, POLICY_MISMATCH },
		{ "sip:eve@example.net", 0xbb, POLICY_TALK, EVIDENCE_SIGNED, false, true, true, NULL,
		  POLICY_WRONG_AOR },
		{ "sip:eve@example.net", 0x99, POLICY_TALK, EVIDENCE_SIGNED, false, false, true, NULL,
		  POLICY_STRANGER },
		/* without security lines */
		{ "sip:bob@example.net", 0xbb, POLICY_TALK, EVIDENCE_CLAIMED, true, false, false, NULL,
		  POLICY_BARE_NOT_ALLOWED },
		{ "sip:box@example.net", -1, POLICY_TALK, EVIDENCE_CLAIMED, true, false, false, NULL, POLICY_OK },
		{ "sip:eve@example.net", -1, POLICY_TALK, EVIDENCE_CLAIMED, true, false, false, NULL,
		  POLICY_BARE_NOT_ALLOWED },
		{ "sip:old@example.net", 0xdd, POLICY_TALK, EVIDENCE_CLAIMED, true, false, false, NULL, POLICY_OK },
		{ "sip:old@example.net", 0x22, POLICY_TALK, EVIDENCE_CLAIMED, true, false, false, NULL,
		  POLICY_NEVER_BARE },
		/* grants */
		{ "sip:bob@example.net", 0xbb, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "desktop",
		  POLICY_OK },
		{ "sip:bob@example.net", 0xbb, POLICY_GRANT, EVIDENCE_SIGNED, false, false, false, "desktop",
		  POLICY_EVIDENCE },
		{ "sip:bob@example.net", 0xbb, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "files",
		  POLICY_NOT_ALLOWED },
		{ "sip:bob@example.net", 0xbb, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "x",
		  POLICY_NO_SERVICE },
		{ "sip:bob@example.net", 0x99, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "desktop",
		  POLICY_MISMATCH },
		{ "sip:ann@example.net", 0x22, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "files",
		  POLICY_LEVEL },
		{ "sip:tom@example.net", 0x11, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "desktop",
		  POLICY_OK },
		{ "sip:sue@example.net", 0x33, POLICY_GRANT, EVIDENCE_AUTHENTICATED, false, false, false, "desktop",
		  POLICY_NO_PEER },
		/* the pinned certificate's key is somebody else's, or none is that */
		{ "sip:box@example.net", 0xbb, POLICY_GRANT, EVIDENCE_AUTHENTICATED, true, false, false, "files",
		  POLICY_WRONG_AOR },
		{ "sip:box@example.net", 0x77, POLICY_GRANT, EVIDENCE_AUTHENTICATED, true, false, false, "files",
		  POLICY_OK },
		{ "sip:box@example.net", -1, POLICY_GRANT, EVIDENCE_AUTHENTICATED, true, false, false, "files",
		  POLICY_OK },
		{ "sip:bob@example.net", 0xbb, POLICY_PING, EVIDENCE_AUTHENTICATED, false, false, false, NULL,
		  POLICY_OK },
		{ "sip:tom@example.net", 0x11, POLICY_PING, EVIDENCE_AUTHENTICATED, false, false, false, NULL,
		  POLICY_NOT_ALLOWED },
		{ "sip:sue@example.net", 0x33, POLICY_PING, EVIDENCE_AUTHENTICATED, false, false, false, NULL,
		  POLICY_NO_PEER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct policy_question q = {
			.act = rows[i].act,
			.evidence = rows[i].evidence,
			.peer = rows[i].peer,
			.key = rows[i].key < 0 ? NULL : key(rows[i].key),
			.bare = rows[i].bare,
			.we_call = rows[i].we_call,
			.trust_first = rows[i].first,
			.service = rows[i].service,
		};
		struct policy_answer a;

		policy_decide(cfg, trust, &q, &a);
		if (a.why != rows[i].why || (a.verdict == POLICY_YES) != (rows[i].why == POLICY_OK) || !a.rule[0])
			fail_msg("row %zu: %s", i, a.rule);
	}
}

/* `ask = yes`: the owner's yes is evidence like any other, and replaces none. */
static void asking(void **state)
{
	static const struct {
		enum policy_act act;
		enum evidence evidence;
		int key;
		bool agreed;
		const char *service;
		enum policy_verdict verdict;
	} rows[] = {
		{ POLICY_TALK, EVIDENCE_SIGNED, 0xbb, false, NULL, POLICY_YES },
		{ POLICY_PING, EVIDENCE_AUTHENTICATED, 0xbb, false, NULL, POLICY_YES },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, 0xbb, false, "desktop", POLICY_ASK },
		{ POLICY_GRANT, EVIDENCE_CONFIRMED, 0xbb, false, "desktop", POLICY_ASK },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, 0xbb, true, "desktop", POLICY_YES },
		{ POLICY_GRANT, EVIDENCE_SIGNED, 0xbb, false, "desktop", POLICY_NO },
		{ POLICY_GRANT, EVIDENCE_SIGNED, 0xbb, true, "desktop", POLICY_NO },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, 0xbb, false, "files", POLICY_NO },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, 0xbb, true, "files", POLICY_NO },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, 0x99, false, "desktop", POLICY_NO },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, 0x99, true, "desktop", POLICY_NO },
		{ POLICY_GRANT, EVIDENCE_AUTHENTICATED, -1, false, "nothing", POLICY_NO },
	};

	(void)state;
	for (unsigned i = 0; i < cfg->n_peers; i++)
		cfg->peers[i].ask = true;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct policy_question q = { .act = rows[i].act,
					     .evidence = rows[i].evidence,
					     .peer = "sip:bob@example.net",
					     .key = rows[i].key < 0 ? NULL : key(rows[i].key),
					     .agreed = rows[i].agreed,
					     .service = rows[i].service };
		struct policy_answer a;

		policy_decide(cfg, trust, &q, &a);
		if (a.verdict != rows[i].verdict || !a.rule[0])
			fail_msg("row %zu: %d, %s", i, (int)a.verdict, a.rule);
	}
}

static bool once(void *arg)
{
	struct trust *t = NULL;
	struct conf_error e;
	char *text = NULL;
	size_t len;
	bool all;

	(void)arg;
	all = trust_new(&t) == OK && trust_load(t, "pins", SPAN_LIT(PINS), cfg, &e) == OK &&
	      trust_write(t, &text, &len) == OK;
	free(text);
	trust_free(t);
	return all;
}

static void allocation_failures(void **state)
{
	(void)state;
	harness_alloc_ladder(once, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lookups, load, unload),
		cmocka_unit_test_setup_teardown(adding_and_removing, load, unload),
		cmocka_unit_test(taken_out_of_the_configuration),
		cmocka_unit_test(learned_and_configured),
		cmocka_unit_test_setup_teardown(written_is_read, load, unload),
		cmocka_unit_test_setup_teardown(bad_files, load, unload),
		cmocka_unit_test_setup_teardown(decisions, load, unload),
		cmocka_unit_test_setup_teardown(asking, load, unload),
		cmocka_unit_test_setup_teardown(allocation_failures, load, unload),
	};

	return HARNESS_RUN(tests);
}
