/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* inspect of SIP and SDP over published messages with their verdicts (RFC 4475, RFC 5118 and others). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect_run.h"

static void verdict_of(const char *kind, const char *rel, const char *verdict)
{
	struct span d = harness_file(rel);
	json_t *r = run(kind, d, NULL);
	bool ok = inspect_ok(r);

	if (!strcmp(verdict, "parse_ok") ? !ok : !strcmp(verdict, "reject") ? ok : false)
		fail_msg("%s: wanted %s, got %s", rel, verdict, json_string_value(json_object_get(r, "reason")));
	json_decref(r);
	ladder(kind, d, NULL);
	free((void *)(uintptr_t)d.p);
}

static unsigned verdict_file(const char *kind, const char *dir, const char *file, const char *list)
{
	char rel[256];
	json_t *root, *v;
	size_t i;

	(void)snprintf(rel, sizeof(rel), "%s/%s", dir, file);
	root = harness_json(rel);
	json_array_foreach(json_object_get(root, list), i, v)
	{
		(void)snprintf(rel, sizeof(rel), "%s/%s", dir, harness_text(v, "file"));
		verdict_of(kind, rel, harness_text(v, "verdict"));
	}
	json_decref(root);
	return (unsigned)i;
}

static void torture_messages(void **state)
{
	(void)state;
	assert_int_equal(verdict_file("sip", "sip-torture/rfc4475", "verdicts.json", "messages"), 25);
	assert_int_equal(verdict_file("sip", "sip-torture/rfc5118", "verdicts.json", "messages"), 6);
}

static void messages_of_others(void **state)
{
	(void)state;
	assert_int_equal(verdict_file("sip", "sip-messages", "index.json", "messages"), 66);
}

static void captured_messages(void **state)
{
	json_t *root = harness_json("sip-captures/index.json"), *v, *m;
	size_t i, k;

	(void)state;
	json_array_foreach(json_object_get(root, "captures"), i, v)
	{
		char rel[256];
		json_t *capture, *r;
		unsigned n_bad = 0, n_may = 0;

		(void)snprintf(rel, sizeof(rel), "sip-captures/%.*s.json", (int)strcspn(harness_text(v, "file"), "."),
			       harness_text(v, "file"));
		capture = harness_json(rel);
		json_array_foreach(json_object_get(capture, "messages"), k, m)
		{
			struct span d = harness_hex(m, "payload_hex");

			r = run("sip", d, NULL);
			n_bad += !inspect_ok(r);
			json_decref(r);
			free((void *)(uintptr_t)d.p);
		}
		/* its message has two To headers (t: and To:), of which there is one (RFC 3261, 20): refused here */
		n_may = !strcmp(harness_text(v, "file"), "multi-value-headers.pcap");
		if (!strcmp(harness_text(v, "verdict"), "parse_ok") ? n_bad != n_may
		    : !strcmp(harness_text(v, "verdict"), "reject") ? !n_bad
								    : false)
			fail_msg("%s: %u messages refused", rel, n_bad);
		json_decref(capture);
	}
	json_decref(root);
}

static void sip_fields(void **state)
{
	static const char request[] =
		"INVITE sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nMax-Forwards: 70\r\n"
		"f: <sip:c@d.example>;tag=1\r\nTo: <sip:a@b.example>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"
		"Subject: one  \r\n\t two \xff\x1b\xc3\xa4\r\nContent-Length: 2\r\n\r\nhi";
	static const char response[] =
		"SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:c@d.example>;tag=1\r\n"
		"To: <sip:a@b.example>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
	static const char short_body[] =
		"BYE sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n"
		"From: <sip:c@d.example>;tag=1\r\nTo: <sip:a@b.example>;tag=2\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n"
		"Content-Length: 20\r\n\r\nhi";
	json_t *r, *v;

	(void)state;
	r = run("sip", SPAN_LIT("") /* nothing at all */, NULL);
	assert_false(inspect_ok(r));
	json_decref(r);
	r = run("sip", span_str(request), NULL);
	assert_true(inspect_ok(r));
	v = json_object_get(r, "value");
	assert_string_equal(harness_text(v, "type"), "request");
	assert_string_equal(harness_text(v, "method"), "INVITE");
	assert_string_equal(harness_text(v, "uri"), "sip:a@b.example");
	assert_true(json_is_null(json_object_get(v, "status")));
	assert_int_equal(json_array_size(json_object_get(v, "headers")), 8);
	assert_string_equal(harness_text(json_array_get(json_object_get(v, "headers"), 2), "name"), "f");
	/* unfolded; bytes that are no UTF-8 are marked, others stay */
	assert_string_equal(harness_text(json_array_get(json_object_get(v, "headers"), 6), "value"),
			    "one two \xef\xbf\xbd\x1b\xc3\xa4");
	assert_int_equal(json_integer_value(json_object_get(v, "body_len")), 2);
	json_decref(r);
	r = run("sip", span_str(response), NULL);
	v = json_object_get(r, "value");
	assert_string_equal(harness_text(v, "type"), "response");
	assert_string_equal(harness_text(v, "method"), "INVITE");
	assert_int_equal(json_integer_value(json_object_get(v, "status")), 180);
	assert_true(json_is_null(json_object_get(v, "uri")));
	json_decref(r);
	r = run("sip", span_str(short_body), NULL);
	assert_false(inspect_ok(r));
	assert_int_equal(json_integer_value(json_object_get(r, "offset")),
			 strstr(short_body, "Content-L") - short_body);
	json_decref(r);
}

static void descriptions(void **state)
{
	static const char *const indexes[] = { "sdp/rfc3264", "sdp/rfc4317", "sdp/rfc8839" };
	static const char *const files[] = { "rfc6193/figure2-offer",      "rfc6193/figure2-answer",
					     "rfc6193/figure5-offer",      "rfc6193/figure5-answer",
					     "rfc3264/10.1-1-offer",       "rfc3264/10.1-4-answer2",
					     "rfc4317/4.3-3-second-offer", "rfc8839/4.2.6-example" };
	char rel[128];

	(void)state;
	for (size_t i = 0; i < sizeof(indexes) / sizeof(indexes[0]); i++) {
		(void)snprintf(rel, sizeof(rel), "%s/index.json", indexes[i]);
		json_decref(harness_json(rel));
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		(void)snprintf(rel, sizeof(rel), "sdp/%s.sdp", files[i]);
		verdict_of("sdp", rel, "parse_ok");
	}
	assert_int_equal(verdict_file("sdp", "sdp/parser-cases", "verdicts.json", "cases"), 17);
}

static void sdp_fields(void **state)
{
	struct span d = harness_file("sdp/rfc6193/figure5-offer.sdp");
	json_t *r = run("sdp", d, NULL), *v = json_object_get(r, "value"), *m;

	(void)state;
	assert_string_equal(harness_text(v, "origin"), "offerer 2890844526 2890842807 IN IP4 192.0.2.10");
	assert_int_equal(json_array_size(json_object_get(v, "media")), 1);
	m = json_array_get(json_object_get(v, "media"), 0);
	assert_string_equal(harness_text(m, "type"), "application");
	assert_int_equal(json_integer_value(json_object_get(m, "port")), 4500);
	assert_string_equal(harness_text(m, "proto"), "udp");
	assert_string_equal(json_string_value(json_array_get(json_object_get(m, "formats"), 0)), "ike-esp-udpencap");
	assert_string_equal(harness_text(json_array_get(json_object_get(m, "attributes"), 0), "name"), "ike-setup");
	assert_string_equal(harness_text(json_array_get(json_object_get(m, "attributes"), 0), "value"), "active");
	json_decref(r);
	free((void *)(uintptr_t)d.p);
	/* a flag has no value; a wrong line is named by its place */
	r = run("sdp", span_str("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n"), NULL);
	v = json_array_get(json_object_get(json_object_get(r, "value"), "attributes"), 0);
	assert_string_equal(harness_text(v, "name"), "ice-lite");
	assert_true(json_is_null(json_object_get(v, "value")));
	json_decref(r);
	r = run("sdp", span_str("v=0\r\nnonsense\r\n"), NULL);
	assert_false(inspect_ok(r));
	assert_int_equal(json_integer_value(json_object_get(r, "offset")), 5);
	json_decref(r);
}

/* The signed offer and answer of our own formats: the security lines are seen as they are. */
static void our_own(void **state)
{
	static const char *const names[] = { "offer_sdp", "answer_sdp" };
	json_t *root = harness_json("tieline/formats.json"), *m, *a;
	size_t i, k;

	(void)state;
	for (int n = 0; n < 2; n++) {
		struct span text = span_str(harness_text(root, names[n]));
		json_t *r = run("sdp", text, NULL);
		bool seen = false;

		assert_true(inspect_ok(r));
		json_array_foreach(json_object_get(json_object_get(r, "value"), "media"), i, m)
		{
			json_array_foreach(json_object_get(m, "attributes"), k, a)
			{
				if (!strcmp(harness_text(a, "name"), "tieline-aor"))
					seen = !strcmp(
						harness_text(a, "value"),
						harness_text(json_object_get(root, n ? "answerer" : "offerer"), "aor"));
			}
		}
		assert_true(seen);
		json_decref(r);
		ladder("sdp", text, NULL);
	}
	json_decref(root);
}

static bool both_once(void *arg)
{
	static const char sip[] =
		"BYE sip:a@b.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n"
		"From: <sip:c@d.example>;tag=1\r\nTo: <sip:a@b.example>;tag=2\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n\r\n";
	static const char sdp[] = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\na=x:y\r\n";
	struct inspect_options o = { .has_password = false };
	json_t *a = inspect_run("sip", span_str(sip), &o), *b = inspect_run("sdp", span_str(sdp), &o);
	bool whole = inspect_ok(a) && inspect_ok(b);

	(void)arg;
	json_decref(a);
	json_decref(b);
	return whole;
}

static void no_memory(void **state)
{
	(void)state;
	harness_alloc_ladder(both_once, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(torture_messages),  cmocka_unit_test(messages_of_others),
		cmocka_unit_test(captured_messages), cmocka_unit_test(sip_fields),
		cmocka_unit_test(descriptions),      cmocka_unit_test(sdp_fields),
		cmocka_unit_test(our_own),           cmocka_unit_test(no_memory),
	};

	return HARNESS_RUN(tests);
}
