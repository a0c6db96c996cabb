/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Stock peers' descriptions (RFC 6193, 6: figures 2, 3, 5 and 6): what is answered, what is taken from an answer, with
 * ICE and without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "ike_pair.h"
#include "vpn/impl.h"

#define SESSION "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nt=0 0\r\n"
#define PRINT_10 "a=fingerprint:SHA-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB\r\n"
#define PRINT_20 "a=fingerprint:SHA-1 D2:9F:6F:1E:CD:D3:09:E8:70:65:1A:51:7C:9D:30:4F:21:E4:4A:8E\r\n"
#define LINE_10(m) "m=application " m "\r\nc=IN IP4 192.0.2.10\r\na=ike-setup:active\r\n" PRINT_10
#define LINE_20(m) "m=application " m "\r\nc=IN IP4 192.0.2.20\r\na=ike-setup:passive\r\n" PRINT_20
#define FIGURE_5                                                                                                       \
	SESSION "a=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\na=ice-ufrag:9uB6\r\n" LINE_10(                                    \
		"4500 udp ike-esp-udpencap") "a=candidate:1 1 udp 2130706431 192.0.2.10 4500 typ host\r\n"
#define FIGURE_6                                                                                                       \
	SESSION "a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=ice-ufrag:8hhY\r\n" LINE_20(                                    \
		"45664 udp ike-esp-udpencap") "a=candidate:1 1 udp 2130706431 192.0.2.100 4500 typ host\r\n"           \
					      "a=candidate:2 1 udp 1694498815 192.0.2.20 45664 typ srflx raddr "       \
					      "192.0.2.100 rport 4500\r\n"

static struct rng_seeded seed;
static struct rng rng;
static struct vpn *v;
static struct call *c;

static int64_t wall(void *arg)
{
	(void)arg;
	return 1800000000;
}

static void begin(const char *section, bool outgoing)
{
	struct vpn_env env = { .rng = &rng, .wall_s = wall };
	struct addr local = addr_ip4(0xc0000201, 4600);
	char text[1024], key[KEY_TEXT];
	struct conf_error why;
	struct config *cfg;
	struct trust *trust;
	uint8_t name[SPKI_HASH];

	pair_identities();
	rng = rng_seeded_init(&seed, 6193);
	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), name), OK);
	(void)snprintf(text, sizeof(text),
		       "[account]\naor = bob@example.com\nserver = 192.0.2.9;transport=udp\npassword = p\n"
		       "[service files]\nlisten = tcp/445\n"
		       "[peer alice@example.com]\nbare = yes\nkey = %s\naddress = fd00::9\nallow = files\n%s",
		       key_text(name, key), section);
	assert_int_equal(config_parse("f", span_str(text), &cfg, &why), OK);
	assert_int_equal(trust_new(&trust), OK);
	assert_int_equal(trust_load(trust, "pins", SPAN_NONE, cfg, &why), OK);
	assert_int_equal(vpn_new(&env, cfg, trust, pair_ids[BOB], &v), OK);
	vpn_set_locals(v, SECONDS(1), &local, 1);
	c = vpn_call_new(v, SECONDS(1), 0, outgoing);
	assert_non_null(c);
}

static void end(void)
{
	vpn_free(v);
}

/* The sha-1 of the figure, and nothing else, is what the peer's certificate must have. */
static void expect_print(const char *hex_of_two)
{
	char two[8];

	assert_int_equal(c->ike_cfg->n_fingerprints, 1);
	assert_int_equal(c->ike_cfg->fingerprints[0].hash, HASH_SHA1);
	(void)snprintf(two, sizeof(two), "%02X:%02X", c->ike_cfg->fingerprints[0].value[0],
		       c->ike_cfg->fingerprints[0].value[1]);
	assert_string_equal(two, hex_of_two);
}

/* The answer to an offer; "": refused with 488. */
static const char *answer(const char *offer)
{
	static char text[SDP_TEXT_MAX];
	unsigned index;
	size_t canon_len, len = 0;
	struct verdict r =
		describe_check_offer(v, c, SPAN_LIT("sip:alice@example.com"), span_str(offer), &index, &canon_len);

	text[0] = 0;
	if (!r.ok) {
		assert_int_equal(r.status, 488);
		return text;
	}
	assert_int_equal(describe_answer(v, c, span_of(v->canon, canon_len), index, &len), OK);
	memcpy(text, v->text, len);
	text[len] = 0;
	return text;
}

static bool has(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *at = text; (at = strstr(at, line)) != NULL; at += n)
		if ((at == text || at[-1] == '\n') && (at[n] == '\r' || line[n - 1] == ':' || line[n - 1] == ' '))
			return true;
	return false;
}

/* Figures 2 and 3: no NAT, no ICE, and port 500, on which nothing but IKE has room: never here. On another port, and where the
 * section allows ESP without UDP, the answer is figure 3's. */
static void called_without_ice(void **state)
{
	const char *text;

	(void)state;
	begin("ice = no\nsha1 = yes\nudp-encap = no\n", false);
	assert_string_equal(answer(SESSION LINE_10("500 udp ike-esp")), "");
	end();
	begin("ice = no\nsha1 = yes\nudp-encap = no\n", false);
	text = answer(SESSION LINE_10("4500 udp ike-esp"));
	assert_true(has(text, "m=application 4600 udp ike-esp"));
	assert_true(has(text, "c=IN IP4 192.0.2.1"));
	assert_true(has(text, "a=ike-setup:passive"));
	assert_true(has(text, "a=fingerprint:sha-256 ")); /* ours is never sha-1 */
	assert_false(has(text, "a=ice-ufrag:"));
	assert_false(has(text, "a=tieline-key:"));
	assert_true(c->no_ice && c->plain_esp && !c->ike_initiator && c->ike_cfg->plain_esp);
	assert_int_equal(c->fixed.remote.port, 4500);
	expect_print("4A:AD");
	end();
	/* as long as nothing is said of it, ESP goes in UDP */
	begin("ice = no\nsha1 = yes\n", false);
	assert_string_equal(answer(SESSION LINE_10("4500 udp ike-esp")), "");
	end();
	begin("ice = no\nsha1 = yes\nudp-encap = no\n", false);
	text = answer(SESSION LINE_10("4500 udp ike-esp") LINE_10("4501 udp ike-esp-udpencap"));
	assert_true(has(text, "m=application 0 udp ike-esp"));
	assert_true(has(text, "m=application 4600 udp ike-esp-udpencap"));
	assert_false(c->plain_esp);
	end();
	/* sha-1 counts only where the section says so */
	begin("ice = no\nudp-encap = no\n", false);
	assert_string_equal(answer(SESSION LINE_10("4500 udp ike-esp")), "");
	end();
}

/* Figure 5, and the answer has what figure 6 has. */
static void called_with_ice(void **state)
{
	const char *text;

	(void)state;
	begin("sha1 = yes\n", false);
	text = answer(FIGURE_5);
	assert_true(has(text, "m=application 4600 udp ike-esp-udpencap"));
	assert_true(has(text, "a=ike-setup:passive"));
	assert_true(has(text, "a=fingerprint:sha-256 "));
	assert_true(has(text, "a=ice-ufrag:") && has(text, "a=ice-pwd:") && has(text, "a=candidate:"));
	assert_false(has(text, "a=tieline-key:"));
	assert_true(c->ice && !c->plain_esp && !c->ike_initiator);
	expect_print("4A:AD");
	end();
	begin("", false);
	assert_string_equal(answer(FIGURE_5), "");
	end();
	/* no candidates in it: a peer that its section says has ICE */
	begin("sha1 = yes\n", false);
	assert_string_equal(answer(SESSION LINE_10("4500 udp ike-esp-udpencap")), "");
	end();
}

static struct verdict call_and_answer(const char *section, const char *theirs)
{
	size_t len = 0;

	begin(section, true);
	c->bare = true;
	c->no_ice = strstr(section, "ice = no") != NULL;
	(void)snprintf(c->peer, sizeof(c->peer), "sip:alice@example.com");
	assert_int_equal(describe_offer(v, c, &len), OK);
	v->text[len] = 0;
	assert_true(has((const char *)v->text, "m=application 4600 udp ike-esp-udpencap"));
	assert_true(has((const char *)v->text, "a=ike-setup:active"));
	assert_int_equal(has((const char *)v->text, "a=ice-ufrag:"), !c->no_ice);
	return describe_check_answer(v, c, span_str(theirs));
}

/* What we offer is always in UDP; answers of figures 3 and 6. */
static void calling(void **state)
{
	(void)state;
	assert_true(call_and_answer("sha1 = yes\n", FIGURE_6).ok);
	assert_true(c->ice && c->ike_initiator && !c->plain_esp);
	expect_print("D2:9F");
	end();
	assert_int_equal(call_and_answer("", FIGURE_6).code, REASON_FINGERPRINT);
	end();
	assert_true(call_and_answer("ice = no\nsha1 = yes\n", SESSION LINE_20("4500 udp ike-esp-udpencap")).ok);
	assert_true(c->no_ice && c->ike_initiator);
	expect_print("D2:9F");
	end();
	/* figure 3 as it stands answers no offer of ours */
	assert_int_equal(
		call_and_answer("ice = no\nsha1 = yes\nudp-encap = no\n", SESSION LINE_20("500 udp ike-esp")).code,
		REASON_NOT_AVAILABLE);
	end();
	assert_int_equal(
		call_and_answer("ice = no\nsha1 = yes\nudp-encap = no\n", SESSION LINE_20("4500 udp ike-esp")).code,
		REASON_NOT_AVAILABLE);
	end();
}

static void last(void **state)
{
	(void)state;
	pair_identities_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(called_without_ice),
		cmocka_unit_test(called_with_ice),
		cmocka_unit_test(calling),
		cmocka_unit_test(last),
	};

	return HARNESS_RUN(tests);
}
