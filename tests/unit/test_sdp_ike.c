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

#include "base/text.h"
#include "harness.h"
#include "sdp/ike.h"
#include "sdp/seal.h"

#define HEAD "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"
#define IKE HEAD "m=application 4500 udp ike-esp-udpencap\r\nc=IN IP4 192.0.2.1\r\n"

static struct sdp d;
static struct sdp_ike m;
static const char *why;

static void parse(struct span text)
{
	size_t offset;

	if (sdp_parse(text, &d, &why, &offset) != OK)
		fail_msg("%s at %zu", why, offset);
}

static struct span canon(struct span text, bool is_answer, uint8_t dst[SDP_CANON_MAX])
{
	size_t len = 0;

	parse(text);
	assert_int_equal(sdp_ike_canon(&d, sdp_ike_find(&d), is_answer, dst, SDP_CANON_MAX, &len), OK);
	return span_of(dst, len);
}

/* The worked example: canonical texts, bind hash, tag, and signatures by another program. */
static void formats_of_the_product(void **state)
{
	json_t *root = harness_json("tieline/formats.json");
	uint8_t mem_o[SDP_CANON_MAX], mem_a[SDP_CANON_MAX], hash[32], tag[8], sig[64], bind_o[16];
	struct span canon_o = canon(span_str(harness_text(root, "offer_sdp")), false, mem_o), canon_a, want;
	size_t len;

	(void)state;
	assert_true(span_eq_str(canon_o, harness_text(root, "canon_offer")));
	assert_int_equal(sdp_ike_read(&d, 0, false, &m, &why), OK);
	assert_int_equal(m.setup, SDP_ACTIVE);
	assert_false(m.setup_explicit);
	assert_string_equal(m.aor, "sip:bob@example.net");
	assert_string_equal(m.to, "sip:home@example.org");
	assert_true(m.date_s == 1795413600);
	assert_string_equal(m.ice_ufrag, "9uB6");
	assert_true(m.ice2 && m.has_bind && m.has_key && !m.has_sig);
	memcpy(bind_o, m.bind, sizeof(bind_o));
	assert_int_equal(base64_parse(span_str(harness_text(root, "sig_offer_b64")), sig, 64, &len), OK);
	assert_int_equal(sdp_seal_verify(span_of(m.spki, m.spki_len), canon_o, SPAN_NONE, false, sig), OK);
	assert_int_equal(sdp_seal_verify(span_of(m.spki, m.spki_len), canon_o, SPAN_NONE, true, sig), ERR_AUTH);

	canon_a = canon(span_str(harness_text(root, "answer_sdp")), true, mem_a);
	assert_true(span_eq_str(canon_a, harness_text(root, "canon_answer")));
	assert_int_equal(sdp_ike_read(&d, 0, true, &m, &why), OK);
	assert_int_equal(base64_parse(span_str(harness_text(root, "sig_answer_b64")), sig, 64, &len), OK);
	assert_int_equal(sdp_seal_verify(span_of(m.spki, m.spki_len), canon_a, canon_o, true, sig), OK);
	mem_o[20] ^= 1;
	assert_int_equal(sdp_seal_verify(span_of(m.spki, m.spki_len), canon_a, canon_o, true, sig), ERR_AUTH);
	mem_o[20] ^= 1;
	want = harness_hex(root, "bind_hash_hex");
	assert_int_equal(sdp_bind_hash(canon_o, canon_a, hash), OK);
	assert_true(span_eq(SPAN_OF(hash), want));
	free((void *)(uintptr_t)want.p);
	want = harness_hex(root, "tag_hex");
	assert_int_equal(sdp_tag(bind_o, m.bind, tag), OK);
	assert_true(span_eq(SPAN_OF(tag), want));
	free((void *)(uintptr_t)want.p);
	json_decref(root);
}

/* A change of any security line changes the canonical text; what a border controller may touch does not. */
static void what_canon_covers(void **state)
{
	static const char base[] = HEAD
		"a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
		"m=application 4500 udp ike-esp-udpencap\r\nc=IN IP4 192.0.2.1\r\na=mid:ike\r\na=ike-setup:active\r\n"
		"a=fingerprint:sha-256 4A:AD\r\na=candidate:1 1 udp 1 192.0.2.1 4500 typ host\r\na=ice-options:ice2\r\n"
		"a=tieline-bind:AAECAwQFBgcICQoLDA0ODw==\r\na=tieline-new:x\r\n";
	static const struct {
		const char *from, *to;
		bool same;
	} rows[] = {
		{ "4500 udp", "9999 UDP", true },
		{ "IN IP4 192.0.2.1\r\na=mid", "IN IP4 203.0.113.9\r\na=mid", true },
		{ "a=mid:ike", "a=mid:0", true },
		{ "typ host", "typ srflx", true },
		{ "a=ice-options:ice2\r\n", "", true },
		{ "a=ike-setup:active\r\n", "", true }, /* the default of an offer */
		{ "a=ike-setup:active", "a=udp-setup:Active", true }, /* draft -06 */
		{ "sha-256 4A:AD", "SHA-256  4a:ad", true },
		{ "a=tieline-sig:", "a=tieline-sig:", true },
		{ "a=ike-setup:active", "a=ike-setup:passive", false },
		{ "4A:AD", "4A:AE", false },
		{ "a=fingerprint:sha-256 4A:AD\r\n", "", false },
		{ "ufrag:abcd", "ufrag:abce", false },
		{ "tuv\r\n", "tuw\r\n", false },
		{ "a=tieline-bind:AA", "a=tieline-bind:BA", false },
		{ "a=tieline-new:x\r\n", "", false },
		{ "udpencap", "x", false },
		{ "a=mid:ike\r\n", "a=fingerprint:md5 00:11\r\n", false },
		{ "a=mid:ike\r\n", "a=ice-ufrag:zzzz\r\n", false },
	};
	uint8_t mem[SDP_CANON_MAX], changed[SDP_CANON_MAX];
	struct span want = canon(span_str(base), false, mem);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[2048];
		const char *at = strstr(base, rows[i].from);
		size_t len = 0;

		(void)snprintf(text, sizeof(text), "%.*s%s%s", at ? (int)(at - base) : (int)strlen(base), base,
			       at ? rows[i].to : "", at ? at + strlen(rows[i].from) : "");
		parse(span_str(text));
		assert_int_equal(sdp_ike_canon(&d, 0, false, changed, sizeof(changed), &len), OK);
		if (span_eq(span_of(changed, len), want) != rows[i].same)
			fail_msg("row %zu", i);
	}
}

/* Row by row; docs/protocol.md has the same table. */
static void what_a_live_call_may_use(void **state)
{
	static const char head[] = HEAD "c=IN IP4 192.0.2.1\r\n";
	static const struct {
		const char *media;
		unsigned index, plain; /* plain: where the peer's section says udp-encap = no */
	} rows[] = {
		{ "m=application 4500 udp ike-esp-udpencap\r\n", 0, 0 },
		{ "m=application 4500 UDP IKE-ESP-UDPENCAP\r\n", 0, 0 },
		{ "m=application 4500 udp ike-esp\r\n", SDP_MEDIA_MAX, 0 },
		{ "m=application 4500 udp ike-esp\r\na=mid:1\r\nm=application 4500 udp ike-esp-udpencap\r\n", 1, 1 },
		{ "m=application 500 udp ike-esp\r\n", SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		{ "m=application 500 udp ike-esp-udpencap\r\n", SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		{ "m=application 0 udp ike-esp-udpencap\r\n", SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		{ "m=application 4500 tcp ike-esp-udpencap\r\n", SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		/* the answer's line is an application's, and RFC 3264, 6 has the type of the offer's */
		{ "m=audio 4500 udp ike-esp-udpencap\r\n", SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		{ "m=application 4500 udp ike-esp-udpencap ike-esp\r\n", SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		/* two lines: the first that can be used */
		{ "m=application 500 udp ike-esp\r\nm=application 4500 udp ike-esp-udpencap\r\n", 1, 1 },
		{ "m=application 4500 udp ike-esp-udpencap\r\nm=application 4501 udp ike-esp-udpencap\r\n", 0, 0 },
		{ "m=audio 9 RTP/AVP 0\r\nm=application 4500 udp ike-esp-udpencap\r\n", 1, 1 },
		/* bundled with something else */
		{ "a=group:BUNDLE 0 ike\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\nm=application 4500 udp "
		  "ike-esp-udpencap\r\na=mid:ike\r\n",
		  SDP_MEDIA_MAX, SDP_MEDIA_MAX },
		{ "a=group:BUNDLE 0 1\r\na=group:LS ike\r\nm=application 4500 udp ike-esp-udpencap\r\na=mid:ike\r\n", 0,
		  0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024];

		(void)snprintf(text, sizeof(text), "%s%s", head, rows[i].media);
		parse(span_str(text));
		if (sdp_ike_usable(&d, false) != rows[i].index || sdp_ike_usable(&d, true) != rows[i].plain)
			fail_msg("row %zu: %u", i, sdp_ike_usable(&d, false));
	}
}

static void wrong_values_are_refused(void **state)
{
	static const char *const rows[] = {
		HEAD "m=application 4500 udp ike-esp-udpencap\r\n",
		HEAD "m=application 4500 udp ike-esp-udpencap ike-esp\r\nc=IN IP4 192.0.2.1\r\n",
		HEAD "m=application 4500 tcp ike-esp-udpencap\r\nc=IN IP4 192.0.2.1\r\n",
		HEAD "m=audio 4500 udp ike-esp-udpencap\r\nc=IN IP4 192.0.2.1\r\n",
		HEAD "m=application 4500 udp wb\r\nc=IN IP4 192.0.2.1\r\n",
		HEAD "m=application 4500 udp ike-esp\r\nc=IN IP4 224.0.0.1\r\n",
		HEAD "m=application 4500 udp ike-esp\r\nc=IN IP4 host.example\r\n",
		HEAD "m=application 4500 udp ike-esp\r\nc=IN IP6 192.0.2.1\r\n",
		HEAD
		"a=tieline-bind:AAECAwQFBgcICQoLDA0ODw==\r\nm=application 4500 udp ike-esp\r\nc=IN IP4 192.0.2.1\r\n",
		IKE "a=tieline-bind:AAECAwQFBgcICQoLDA0ODw==\r\na=tieline-bind:AAECAwQFBgcICQoLDA0ODw==\r\n",
		IKE "a=Tieline-bind:AAECAwQFBgcICQoLDA0ODw==\r\n",
		IKE "a=tieline-bind:AAEC\r\n",
		IKE "a=tieline-bind:\r\n",
		HEAD "a=ice-pacing:fast\r\nm=application 4500 udp ike-esp\r\nc=IN IP4 192.0.2.1\r\n",
		IKE "a=tieline-bind\r\n",
		IKE "a=tieline-key:\r\n",
		IKE "a=tieline-key:====\r\n",
		IKE "a=tieline-sig:AAEC\r\n",
		IKE "a=tieline-date:-1\r\n",
		IKE "a=tieline-date:1x\r\n",
		IKE "a=tieline-date:9223372036854775808\r\n",
		IKE "a=tieline-aor:bob@example.net\r\n",
		IKE "a=tieline-aor:sip:bob@Example.net\r\n",
		IKE "a=tieline-to:sip:bob\r\n",
		IKE "a=ike-setup:holdconn\r\n",
		IKE "a=ike-setup\r\n",
		IKE "a=ike-setup:active\r\na=ike-setup:active\r\n",
		IKE "a=fingerprint:sha-256 4A:AD\r\n",
		IKE "a=fingerprint:sha-1\r\n",
		IKE "a=fingerprint:sha-1 zz\r\n",
		IKE "a=fingerprint:sha-1 D2:9F:6F:1E:CD:D3:09:E8:70:65:1A:51:7C:9D:30:4F:21:E4:4A:8E x\r\n",
		IKE "a=ice-ufrag:abcd\r\n",
		IKE "a=ice-pwd:abcdefghijklmnopqrstuv\r\n",
		IKE "a=ice-ufrag:abc\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n",
		IKE "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstu\r\n",
		IKE "a=ice-ufrag:ab:d\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n",
		IKE "a=mid:\r\n",
		IKE "a=mid:a\r\na=mid:b\r\n",
		IKE
		"a=tieline-x:1\r\na=fingerprint:sha-1 D2:9F:6F:1E:CD:D3:09:E8:70:65:1A:51:7C:9D:30:4F:21:E4:4A:8E\r\n"
		"a=fingerprint:SHA-1 D2:9F:6F:1E:CD:D3:09:E8:70:65:1A:51:7C:9D:30:4F:21:E4:4A:8F\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		parse(span_str(rows[i]));
		why = NULL;
		if (sdp_ike_read(&d, 0, false, &m, &why) != ERR_MALFORMED || !why)
			fail_msg("row %zu was taken", i);
	}
	parse(SPAN_LIT(IKE "a=ike-setup:actpass\r\n"));
	assert_int_equal(sdp_ike_read(&d, 0, false, &m, &why), OK);
	assert_int_equal(sdp_ike_read(&d, 0, true, &m, &why), ERR_MALFORMED); /* not in an answer */
	assert_int_equal(sdp_ike_read(&d, 1, false, &m, &why), ERR_MALFORMED);
}

/* Md2 and md5 are passed over, unknown hashes too; they are no error. */
static void weak_hashes_are_ignored(void **state)
{
	(void)state;
	parse(SPAN_LIT(IKE "a=fingerprint:md5 00:11\r\na=fingerprint:sha-999 00\r\n"));
	assert_int_equal(sdp_ike_read(&d, 0, false, &m, &why), OK);
	assert_int_equal(m.n_fingerprints, 0);
}

static void rfc6193_figures(void **state)
{
	json_t *root = harness_json("sdp/rfc6193/index.json"), *v;
	static const char *const keys[2][2] = { { "offer", "offer_ike_setup" }, { "answer", "answer_ike_setup" } };
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "examples"), i, v) for (int k = 0; k < 2; k++)
	{
		char rel[128];
		struct span text;

		(void)snprintf(rel, sizeof(rel), "sdp/rfc6193/%s", harness_text(v, keys[k][0]));
		text = harness_file(rel);
		parse(text);
		assert_int_equal(sdp_ike_read(&d, sdp_ike_find(&d), k, &m, &why), OK);
		assert_int_equal(m.setup, !strcmp(harness_text(v, keys[k][1]), "active") ? SDP_ACTIVE : SDP_PASSIVE);
		assert_int_equal(m.n_fingerprints, 1);
		assert_int_equal(m.fingerprints[0].hash, HASH_SHA1);
		assert_int_equal(m.fingerprints[0].len, 20);
		if (i == 1) {
			assert_int_equal(m.n_candidates, k ? 2 : 1);
			assert_true(m.ice_ufrag[0]);
		}
		free((void *)(uintptr_t)text.p);
	}
	json_decref(root);
}

/* RFC 4145, 4.1 */
static void setup_of_an_answer(void **state)
{
	static const struct {
		enum sdp_setup offered, preferred;
		bool ok;
		enum sdp_setup want;
	} rows[] = {
		{ SDP_ACTIVE, SDP_ACTIVE, true, SDP_PASSIVE },   { SDP_PASSIVE, SDP_PASSIVE, true, SDP_ACTIVE },
		{ SDP_ACTPASS, SDP_ACTIVE, true, SDP_ACTIVE },   { SDP_ACTPASS, SDP_PASSIVE, true, SDP_PASSIVE },
		{ SDP_ACTPASS, SDP_ACTPASS, false, SDP_ACTIVE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum sdp_setup got = SDP_ACTPASS;

		assert_int_equal(sdp_setup_answer(rows[i].offered, rows[i].preferred, &got) == OK, rows[i].ok);
		if (rows[i].ok)
			assert_int_equal(got, rows[i].want);
	}
}

static void names(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "bob@Example.NET", "sip:bob@example.net" },
		{ "sip:Bob@example.net", "sip:Bob@example.net" },
		{ "SIPS:bob@example.net:5061;transport=tcp?x=y", "sip:bob@example.net" },
		{ "sip:bob@[2001:DB8::1]:5060", "sip:bob@[2001:db8::1]" },
		{ "sip:bob@192.0.2.1", "sip:bob@192.0.2.1" },
		{ "bob", NULL },
		{ "@example.net", NULL },
		{ "bob@", NULL },
		{ "sip:bob:pw@example.net", NULL },
		{ "b%6fb@example.net", NULL },
		{ "bob@exa mple.net", NULL },
		{ "bob @example.net", NULL },
		{ "bob@example.net:x", NULL },
		{ "bob@example.net:", NULL },
		{ "bob@a@b", NULL },
		{ "bob@[2001:db8::1", NULL },
		{ "bob@[2001:db8::1]x", NULL },
		{ "\"b\"@example.net", NULL },
		{ "", NULL },
	};
	char dst[SDP_AOR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum err e = sdp_aor_normal(span_str(rows[i].text), dst, sizeof(dst));

		assert_int_equal(e == OK, rows[i].want != NULL);
		if (rows[i].want)
			assert_string_equal(dst, rows[i].want);
	}
	assert_int_equal(sdp_aor_normal(SPAN_LIT("bob@example.net"), dst, 19), ERR_LIMIT);
	assert_int_equal(sdp_aor_normal(SPAN_LIT("bob@example.net"), dst, 20), OK);
}

static bool canon_once(void *arg)
{
	uint8_t mem[SDP_CANON_MAX];
	size_t len;

	(void)arg;
	return sdp_ike_canon(&d, 0, false, mem, sizeof(mem), &len) == OK;
}

/* Every field of a description, written, read again, answered. */
static void written_is_read_again(void **state)
{
	static const char *const aors[] = { "bob@example.net" };
	struct sdp_origin o = { 7, 8, addr_ip4(0xc0000201, 0) };
	static struct sdp_ike back;
	uint8_t mem[SDP_TEXT_MAX], text2[SDP_TEXT_MAX], canon_text[SDP_CANON_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	struct identity *id;
	size_t len;

	(void)state;
	assert_int_equal(identity_generate(aors, 1, 1795413600, &id), OK);
	m = (struct sdp_ike){ .fmt = SDP_IKE_ESP_UDPENCAP,
			      .addr = addr_ip4(0xc0000201, 4500),
			      .mid = "ike",
			      .setup = SDP_ACTIVE,
			      .setup_explicit = true,
			      .n_fingerprints = 1,
			      .ice_ufrag = "abcdEFGH",
			      .ice_pwd = "abcdefghijklmnopqrstuvwx",
			      .ice2 = true,
			      .n_candidates = 1,
			      .is_tieline = true,
			      .has_bind = true,
			      .has_key = true,
			      .has_aor = true,
			      .has_to = true,
			      .has_date = true,
			      .aor = "sip:bob@example.net",
			      .to = "sip:home@example.org",
			      .date_s = 1795413600 };
	m.fingerprints[0] = (struct sdp_fingerprint){ .hash = HASH_SHA256, .len = 32 };
	m.candidates[0] = SPAN_LIT("1 1 udp 2130706431 192.0.2.1 4500 typ host");
	m.spki_len = identity_spki(id).len;
	memcpy(m.spki, identity_spki(id).p, m.spki_len);
	sdp_ike_write_offer(&w, &o, &m);
	assert_false(w.bad);
	parse(wr_done(&w));
	assert_int_equal(sdp_ike_canon(&d, 0, false, canon_text, sizeof(canon_text), &len), OK);
	harness_alloc_ladder(canon_once, NULL);
	assert_int_equal(sdp_seal_sign(id, span_of(canon_text, len), SPAN_NONE, false, m.sig), OK);
	m.has_sig = true;
	w.len = 0;
	sdp_ike_write_offer(&w, &o, &m);
	parse(wr_done(&w));
	assert_int_equal(sdp_ike_read(&d, sdp_ike_find(&d), false, &back, &why), OK);
	assert_int_equal(sdp_seal_verify(span_of(back.spki, back.spki_len), span_of(canon_text, len), SPAN_NONE, false,
					 back.sig),
			 OK);
	assert_string_equal(back.to, m.to);
	assert_true(span_eq(back.candidates[0], m.candidates[0]));
	/* the answer keeps other media, refused */
	parse(SPAN_LIT(HEAD "m=audio 5004/2 RTP/AVP 0 8\r\nc=IN IP4 192.0.2.1\r\nm=application 4500 udp "
			    "ike-esp-udpencap\r\nc=IN IP4 192.0.2.1\r\n"));
	assert_int_equal(sdp_ike_find(&d), 1);
	w = wr_of(text2, sizeof(text2));
	sdp_ike_write_answer(&w, &o, &d, 1, &m);
	parse(wr_done(&w));
	assert_int_equal(d.n_media, 2);
	assert_int_equal(d.media[0].port, 0);
	assert_int_equal(d.media[0].n_formats, 2);
	assert_int_equal(sdp_ike_find(&d), 1);
	identity_free(id);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_of_the_product),   cmocka_unit_test(what_canon_covers),
		cmocka_unit_test(what_a_live_call_may_use), cmocka_unit_test(wrong_values_are_refused),
		cmocka_unit_test(weak_hashes_are_ignored),  cmocka_unit_test(rfc6193_figures),
		cmocka_unit_test(setup_of_an_answer),       cmocka_unit_test(names),
		cmocka_unit_test(written_is_read_again),
	};

	return HARNESS_RUN(tests);
}
