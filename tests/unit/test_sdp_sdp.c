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
#include "sdp/ike.h"
#include "sdp/sdp.h"

#define HEAD "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"

static struct sdp d; /* too big for a small stack */
static struct sdp_ike m;

static enum err parse(struct span text)
{
	const char *why = NULL;
	size_t offset = 0;
	enum err e = sdp_parse(text, &d, &why, &offset);

	if (e != OK) {
		assert_non_null(why);
		assert_true(offset <= text.len);
	}
	return e;
}

/* Everything there is to do with a description; no result is wanted but a clean one. */
static void use(struct span text)
{
	if (parse(text) != OK)
		return;
	for (unsigned i = 0; i < d.n_media; i++)
		for (int is_answer = 0; is_answer < 2; is_answer++) {
			uint8_t canon[SDP_CANON_MAX];
			const char *why = NULL;
			size_t len;

			if (sdp_ike_read(&d, i, is_answer, &m, &why) != OK)
				assert_non_null(why);
			if (sdp_ike_canon(&d, i, is_answer, canon, sizeof(canon), &len) == OK)
				assert_true(len > 0 && len <= sizeof(canon));
		}
}

static void ladder(struct span text)
{
	for (size_t cut = 0; cut <= text.len; cut++) {
		uint8_t *copy = malloc(cut + 1);

		assert_non_null(copy);
		if (cut)
			memcpy(copy, text.p, cut);
		use(span_of(copy, cut));
		free(copy);
	}
}

static void a_description_in_parts(void **state)
{
	static const char text[] =
		HEAD "c=IN IP6 2001:db8::1\r\na=group:x 1 2\r\n"
		     "m=audio 49170/2 RTP/AVP 0 8\r\nb=AS:64\r\na=sendonly\r\na=rtpmap:0 PCMU/8000\r\n"
		     "m=application 0 udp ike-esp\r\nc=IN IP4 192.0.2.7\r\n";
	unsigned at = 0;
	struct addr a;

	(void)state;
	assert_int_equal(parse(span_str(text)), OK);
	assert_int_equal(d.n_media, 2);
	assert_true(span_eq_str(d.session.attrs[0].name, "group"));
	assert_true(span_eq_str(d.session.attrs[0].value, "x 1 2"));
	assert_int_equal(d.media[0].port, 49170);
	assert_int_equal(d.media[0].n_ports, 2);
	assert_int_equal(d.media[0].n_formats, 2);
	assert_false(d.media[0].s.attrs[0].has_value);
	assert_true(span_eq_str(sdp_attr_next(&d.media[0].s, "rtpmap", &at)->value, "0 PCMU/8000"));
	assert_null(sdp_attr_next(&d.media[0].s, "rtpmap", &at));
	assert_int_equal(sdp_connection_parse(d.session.connection, &a), OK);
	assert_int_equal(a.family, ADDR_IP6);
	assert_int_equal(sdp_ike_find(&d), SDP_MEDIA_MAX); /* port 0 */
	ladder(span_str(text));
}

static void wrong_lines_are_refused(void **state)
{
	static const char *const rows[] = {
		"",
		"v=1\r\n",
		"v=0\r\n",
		"v=0\r\nv=0\r\n",
		" v=0\r\n",
		HEAD "x=1\r\n",
		HEAD "A=1\r\n",
		HEAD "a\r\n",
		HEAD "\r\n",
		HEAD "a=\r\n",
		HEAD "a=:x\r\n",
		HEAD "a=b c\r\n",
		HEAD "s=again\r\n",
		HEAD "o=- 1 1 IN IP4 192.0.2.1\r\n",
		"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nt=0 0\r\n",
		"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n",
		"v=0\r\no=- x 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n",
		"v=0\r\no=- 1 1 IN IPX 192.0.2.1\r\ns=-\r\nt=0 0\r\n",
		"v=0\r\no=1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n",
		"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0\r\n",
		HEAD "c=IN IP4\r\n",
		HEAD "c=XX IP4 192.0.2.1\r\n",
		HEAD "m=audio 65536 RTP/AVP 0\r\n",
		HEAD "m=audio -1 RTP/AVP 0\r\n",
		HEAD "m=audio 1/0 RTP/AVP 0\r\n",
		HEAD "m=audio 1 RTP/AVP\r\n",
		HEAD "m=audio\r\n",
		HEAD "m=\r\n",
		HEAD "r=1 1 1\r\nr=\r\n",
		HEAD "m=audio 1 RTP/AVP 0\r\nt=0 0\r\n",
		"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 1 x 0\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(parse(span_str(rows[i])), ERR_MALFORMED);
	assert_int_equal(parse(SPAN_LIT(HEAD "a=x\0y\r\n")), ERR_MALFORMED);
	assert_int_equal(parse(SPAN_LIT(HEAD "a=x\ry\r\n")), ERR_MALFORMED);
}

static void limits(void **state)
{
	char *text = malloc(SDP_TEXT_MAX + 64);
	struct wr w = wr_of(text, SDP_TEXT_MAX + 64);

	(void)state;
	assert_non_null(text);
	wr_str(&w, HEAD);
	for (int i = 0; i < SDP_ATTRS_MAX; i++)
		wr_str(&w, "a=x\r\n");
	assert_int_equal(parse(wr_done(&w)), OK);
	wr_str(&w, "a=x\r\n");
	assert_int_equal(parse(wr_done(&w)), ERR_MALFORMED);
	w.len = 0;
	wr_str(&w, HEAD);
	for (int i = 0; i < SDP_MEDIA_MAX; i++)
		wr_str(&w, "m=x 1 y z\r\n");
	assert_int_equal(parse(wr_done(&w)), OK);
	wr_str(&w, "m=x 1 y z\r\n");
	assert_int_equal(parse(wr_done(&w)), ERR_MALFORMED);
	memset(text, 'x', SDP_TEXT_MAX + 1);
	assert_int_equal(parse(span_of(text, SDP_TEXT_MAX + 1)), ERR_LIMIT);
	free(text);
}

static void parser_cases_of_others(void **state)
{
	json_t *root = harness_json("sdp/parser-cases/verdicts.json"), *v;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "cases"), i, v)
	{
		char rel[256];
		const char *verdict = harness_text(v, "verdict");
		struct span text;
		enum err e;

		(void)snprintf(rel, sizeof(rel), "sdp/parser-cases/%s", harness_text(v, "file"));
		text = harness_file(rel);
		e = parse(text);
		if (!strcmp(verdict, "parse_ok") ? e != OK : !strcmp(verdict, "reject") ? e == OK : false)
			fail_msg("%s: wanted %s", rel, verdict);
		ladder(text);
		free((void *)(uintptr_t)text.p);
	}
	json_decref(root);
}

static void examples_of_rfcs(void **state)
{
	static const char *const files[] = {
		"rfc3264/10.1-1-offer.sdp",        "rfc3264/10.1-2-answer.sdp",      "rfc4317/2.1-1-offer.sdp",
		"rfc4317/5.2-4-second-answer.sdp", "rfc4317/4.3-3-second-offer.sdp", "rfc8839/4.2.6-example.sdp",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char rel[128];
		struct span text;

		(void)snprintf(rel, sizeof(rel), "sdp/%s", files[i]);
		text = harness_file(rel);
		assert_int_equal(parse(text), OK);
		ladder(text);
		free((void *)(uintptr_t)text.p);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_description_in_parts),
		cmocka_unit_test(wrong_lines_are_refused),
		cmocka_unit_test(limits),
		cmocka_unit_test(parser_cases_of_others),
		cmocka_unit_test(examples_of_rfcs),
	};

	return HARNESS_RUN(tests);
}
