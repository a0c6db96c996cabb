/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "exchange/exchange.h"
#include "harness.h"
#include "sip/digest.h"

#define HEAD "[exchange]\ndomain = Example.NET\n"
#define PASSWORD "k3Zq9vT1xB7nR5mW2cY8La"
#define HA1 "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

static struct exchange_config *parse(const char *text)
{
	struct exchange_config *c = NULL;
	struct conf_error e = { .text = "" };

	if (exchange_config_parse("x.conf", span_str(text), &c, &e) != OK)
		fail_msg("%s", e.text);
	return c;
}

static void defaults(void **state)
{
	struct exchange_config *c = parse(HEAD);
	struct addr sip = addr_ip4(0, 5060), stun = addr_ip4(0, 3478);

	(void)state;
	assert_string_equal(c->domain, "example.net");
	assert_string_equal(c->realm, "example.net");
	assert_string_equal(c->user, "tieline");
	assert_true(c->n_listen == 1 && addr_eq(&c->listen[0], &sip) && c->n_stun == 1 && addr_eq(&c->stun[0], &stun));
	assert_true(c->advertise.family == ADDR_NONE && !c->n_users);
	exchange_config_free(c);
}

static void everything(void **state)
{
	/* the realm stands behind the users that need it */
	struct exchange_config *c =
		parse("[user zoe]\npassword = " PASSWORD "\n[user adam]\nha1-sha256 = " HA1 "\n" HEAD
		      "realm = our house\nlisten = 192.0.2.1\nlisten = [2001:db8::1]:5070\nstun = 192.0.2.1:9\n"
		      "advertise = 198.51.100.7\nuser = nobody\n");
	char ha1[HASH_MAX * 2 + 1];
	struct addr own = addr_ip4(0xc6336407, 5060);

	(void)state;
	assert_int_equal(c->n_users, 2);
	assert_string_equal(c->users[0].name, "adam");
	assert_string_equal(c->users[0].ha1, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	assert_string_equal(c->users[0].ha1_md5, "");
	assert_int_equal(sip_digest_ha1(HASH_SHA256, "zoe", "our house", PASSWORD, ha1), OK);
	assert_string_equal(c->users[1].ha1, ha1);
	assert_int_equal(sip_digest_ha1(HASH_MD5, "zoe", "our house", PASSWORD, ha1), OK);
	assert_string_equal(c->users[1].ha1_md5, ha1);
	assert_true(c->n_listen == 2 && c->n_stun == 1 && addr_eq(&c->advertise, &own));
	assert_string_equal(c->user, "nobody");
	exchange_config_free(c);
	c = parse(HEAD "stun = no\nlisten = 192.0.2.1\nlisten = 192.0.2.1:5070\n");
	assert_true(!c->n_stun && c->n_listen == 2);
	exchange_config_free(c);
}

static void refusals(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
	} rows[] = {
		{ "", 0 },
		{ "[user a]\npassword = " PASSWORD "\n", 0 }, /* no [exchange] */
		{ "[exchange]\n", 1 }, /* no domain */
		{ "[exchange]\ndomain = -x\n", 2 },
		{ "[exchange]\ndomain = a b\n", 2 },
		{ HEAD "domain = example.org\n", 3 },
		{ HEAD "realm = a\"b\n", 3 },
		{ HEAD "realm =\n", 3 },
		{ HEAD "listen = example.net\n", 3 },
		{ HEAD "listen = 192.0.2.1\nlisten = 192.0.2.1:5060\n", 4 },
		{ HEAD "listen = 224.0.0.1\n", 3 },
		{ HEAD "listen = 192.0.2.1:99999\n", 3 },
		{ HEAD "advertise = 0.0.0.0\n", 3 },
		{ HEAD "advertise = 192.0.2.1:0\n", 3 },
		{ HEAD "stun = no\nstun = 192.0.2.1\n", 4 },
		{ HEAD "port = 5\n", 3 },
		{ HEAD "[user]\npassword = " PASSWORD "\n", 3 },
		{ HEAD "[user a b]\npassword = " PASSWORD "\n", 3 },
		{ HEAD "[user a@b]\npassword = " PASSWORD "\n", 3 },
		{ HEAD "[user a]\n", 3 }, /* neither */
		{ HEAD "[user a]\npassword = " PASSWORD "\nha1-sha256 = " HA1 "\n", 3 }, /* both */
		{ HEAD "[user a]\npassword = k3Zq9vT1xB7nR5mW2cY8L\n", 4 }, /* 21 characters */
		{ HEAD "[user a]\npassword = aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 4 }, /* nobody generated that */
		{ HEAD "[user a]\npassword = correct horse battery staple\n", 4 },
		{ HEAD "[user a]\nha1-sha256 = 0123\n", 4 },
		{ HEAD "[user a]\npassword = " PASSWORD "\n[user a]\npassword = " PASSWORD "\n", 5 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct exchange_config *c = NULL;
		struct conf_error e = { .text = "" };

		if (exchange_config_parse("x.conf", span_str(rows[i].text), &c, &e) != ERR_MALFORMED || c ||
		    e.line != rows[i].line)
			fail_msg("row %u: line %u: %s", i, e.line, e.text);
		assert_null(strstr(e.text, "correct horse")); /* a refused password is not shown */
	}
}

static bool once(void *arg)
{
	struct exchange_config *c = NULL;
	struct conf_error e;

	(void)arg;
	if (exchange_config_parse("x.conf", SPAN_LIT(HEAD "[user a]\npassword = " PASSWORD "\n"), &c, &e) != OK)
		return false;
	exchange_config_free(c);
	return true;
}

static void without_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(once, NULL);
}

static void too_many_users(void **state)
{
	static char text[200 * (EXCHANGE_USERS_MAX + 1)];
	struct wr w = wr_of(text, sizeof(text));
	struct exchange_config *c = NULL;
	struct conf_error e;

	(void)state;
	wr_str(&w, HEAD);
	for (unsigned i = 0; i < 200; i++)
		wr_fmt(&w, "[user u%u]\npassword = " PASSWORD "\n", i);
	assert_int_equal(exchange_config_parse("x.conf", wr_done(&w), &c, &e), OK);
	assert_int_equal(c->n_users, 200);
	exchange_config_free(c);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),       cmocka_unit_test(everything),     cmocka_unit_test(refusals),
		cmocka_unit_test(without_memory), cmocka_unit_test(too_many_users),
	};

	return HARNESS_RUN(tests);
}
