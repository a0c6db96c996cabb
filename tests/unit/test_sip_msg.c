/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "sip/msg.h"

static struct sip_msg m;
static const char *why;
static unsigned status;

static const char invite[] =
	"INVITE sip:bob@example.net SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1:5060;rport;branch=z9hG4bKa1\r\n"
	"v: SIP/2.0/UDP h.example ;branch=z9hG4bKb2 , SIP/2.0/TLS [2001:db8::9]:7;branch=z9hG4bKc\r\n"
	"From: \"A <B>, \\\"C\" <sip:alice@example.net>;tag=f1\r\nTo: <sip:bob@example.net>\r\nCall-ID: c1@x\r\n"
	"CSeq: 7 INVITE\r\nMax-Forwards: 70\r\nRoute: <sip:p1;lr>, <sip:p2;lr>\r\nRoute: <sip:p3;lr>\r\n"
	"Contact: <sip:u1@192.0.2.1:5060;transport=tcp>;expires=60\r\nSupported: 100rel,\r\n  timer\r\n"
	"Content-Type: application/sdp\r\nl: 4\r\n\r\nbody";

/* Parses from memory of exactly that size, so that a read past the end is seen. */
static enum err parse_exact(const void *p, size_t len)
{
	static uint8_t *copy;

	free(copy);
	copy = malloc(len ? len : 1);
	assert_non_null(copy);
	memcpy(copy, p, len);
	return sip_parse(span_of(copy, len), &m, &why, &status);
}

static void walk_everything(void)
{
	static uint8_t mem[2 * SIP_MSG_MAX];
	struct sip_nameaddr n;
	struct sip_via v;
	struct span value;

	for (enum sip_h h = H_CONTACT; h <= H_RECORD_ROUTE; h++) {
		struct sip_walk w = { .at = 0 };

		for (int i = 0; i < 1000 && sip_walk_next(&m, h, &w, &n) == OK; i++)
			(void)sip_param(n.params, "expires", &value);
	}
	{
		struct sip_walk w = { .at = 0 };

		for (int i = 0; i < 1000 && sip_via_next(&m, &w, &v) == OK; i++)
			;
	}
	(void)sip_has_token(&m, H_SUPPORTED, "100rel");
	{
		struct wr w = wr_of(mem, sizeof(mem));
		struct addr from = addr_ip4(0xc0000207, 99);
		struct sip_edit e = { .push_via = SPAN_LIT("SIP/2.0/UDP x;branch=z9hG4bKq"),
				      .received = from,
				      .pop_route = true,
				      .push_record_route = SPAN_LIT("<sip:x;lr>"),
				      .max_forwards = 5 };

		sip_write_edited(&w, &m, &e);
		w = wr_of(mem, sizeof(mem));
		if (m.is_request)
			sip_write_response(&w, &m, &from, 200, NULL, "t");
	}
}

static void fields(void **state)
{
	struct sip_walk w = { .at = 0 }, vias = { .at = 0 };
	struct sip_nameaddr n;
	struct sip_via v;
	struct span value;

	(void)state;
	assert_int_equal(parse_exact(invite, sizeof(invite) - 1), OK);
	assert_true(m.is_request && m.method == SIP_INVITE && m.uri_ok && m.cseq == 7 && m.max_forwards == 70);
	assert_true(span_eq_str(m.uri.user, "bob") && span_eq_str(m.uri.host, "example.net"));
	assert_true(m.n_vias == 3 && m.via.transport == TRANSPORT_TCP && m.via.has_rport && !m.via.rport &&
		    m.via.port == 5060);
	assert_true(span_eq_str(m.via.branch, "z9hG4bKa1"));
	assert_int_equal(sip_via_next(&m, &vias, &v), OK);
	assert_int_equal(sip_via_next(&m, &vias, &v), OK);
	assert_true(span_eq_str(v.host, "h.example") && span_eq_str(v.branch, "z9hG4bKb2"));
	assert_int_equal(sip_via_next(&m, &vias, &v), OK);
	assert_true(span_eq_str(v.host, "2001:db8::9") && v.port == 7 && v.transport == TRANSPORT_TLS);
	assert_int_equal(sip_via_next(&m, &vias, &v), ERR_NOTFOUND);
	assert_true(span_eq_str(m.from_tag, "f1") && !m.to_tag.len && span_eq_str(m.from.uri.user, "alice"));
	assert_true(span_eq_str(m.call_id, "c1@x") && span_eq_str(m.body, "body"));
	for (int i = 1; i <= 3; i++) {
		char host[4] = { 'p', (char)('0' + i), 0 };

		assert_int_equal(sip_walk_next(&m, H_ROUTE, &w, &n), OK);
		assert_true(span_eq_str(n.uri.host, host) && sip_param(n.uri.params, "lr", &value));
	}
	assert_int_equal(sip_walk_next(&m, H_ROUTE, &w, &n), ERR_NOTFOUND);
	w = (struct sip_walk){ .at = 0 };
	assert_int_equal(sip_walk_next(&m, H_CONTACT, &w, &n), OK);
	assert_true(n.uri.port == 5060 && sip_param(n.params, "EXPIRES", &value) && span_eq_str(value, "60"));
	assert_true(sip_param(n.uri.params, "transport", &value) && span_eq_str(value, "tcp"));
	assert_true(sip_has_token(&m, H_SUPPORTED, "timer") && !sip_has_token(&m, H_SUPPORTED, "path"));
}

static void truncations(const void *p, size_t len)
{
	for (size_t cut = 0; cut < len; cut++)
		if (parse_exact(p, cut) == OK)
			walk_everything();
}

static void torture_file(const char *folder, const json_t *x)
{
	char rel[160];
	const char *verdict = harness_text(x, "verdict");
	struct span d;
	enum err e;

	(void)snprintf(rel, sizeof(rel), "sip-torture/%s/%s", folder, harness_text(x, "file"));
	d = harness_file(rel);
	e = parse_exact(d.p, d.len);
	if (!strcmp(verdict, "parse_ok") ? e != OK : !strcmp(verdict, "reject") && e == OK)
		fail_msg("%s: %s (%s), wanted %s", rel, err_name(e), why, verdict);
	if (!strcmp(harness_text(x, "file"), "wsinv.dat")) /* folds inside parameters */
		assert_true(span_eq_str(m.from_tag, "98asjd8") && span_eq_str(m.to_tag, "1918181833n") &&
			    m.n_vias == 3);
	if (e == OK)
		walk_everything();
	else if (status)
		assert_true(status ==
			    (unsigned)json_integer_value(json_array_get(json_object_get(x, "acceptable_status"), 0)));
	if (d.len < 1500)
		truncations(d.p, d.len);
	free((void *)(uintptr_t)d.p);
}

static void torture(void **state)
{
	static const char *const folders[] = { "rfc4475", "rfc5118" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		char rel[64];
		json_t *root, *x;
		size_t k;

		(void)snprintf(rel, sizeof(rel), "sip-torture/%s/verdicts.json", folders[i]);
		root = harness_json(rel);
		json_array_foreach(json_object_get(root, "messages"), k, x) torture_file(folders[i], x);
		json_decref(root);
	}
}

/* No verdicts here: they are read or refused. */
static void messages_of_others(void **state)
{
	char path[512];
	struct dirent *d;
	DIR *dir;
	unsigned n = 0, n_ok = 0;

	(void)state;
	json_decref(harness_json("sip-messages/index.json"));
	(void)snprintf(path, sizeof(path), "%s/sip-messages", getenv("TIELINE_VECTORS"));
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		char rel[400];
		struct span s;

		if (!strstr(d->d_name, ".sip"))
			continue;
		(void)snprintf(rel, sizeof(rel), "sip-messages/%s", d->d_name);
		s = harness_file(rel);
		n++;
		if (parse_exact(s.p, s.len) == OK) {
			walk_everything();
			n_ok++;
		}
		if (s.len < 1000)
			truncations(s.p, s.len);
		free((void *)(uintptr_t)s.p);
	}
	closedir(dir);
	assert_true(n > 30 && n_ok > n / 2);
}

static void refusals(void **state)
{
	static const struct {
		const char *from, *to;
		unsigned status;
	} rows[] = {
		{ "SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 505 },
		{ "CSeq: 7 INVITE", "CSeq: 7 BYE", 400 },
		{ "l: 4", "l: 5", 400 },
		{ "l: 4", "l: -1", 400 },
		{ "sip:bob@example.net SIP", "<sip:bob@example.net> SIP", 400 },
		{ "Max-Forwards: 70", "Max-Forwards: 256", 400 },
		{ "CSeq: 7 ", "CSeq: 2147483648 ", 0 },
		{ "Call-ID: c1@x", "Call-ID: ", 0 },
		{ "To: <sip:bob@example.net>", "To: <sip:bob@example.net", 0 },
		{ "To: <sip:bob@example.net>", "To: <sip:bob@example.net>,", 0 },
		{ "To: <sip:bob@example.net>", "To: <sip:bob@example.net> , <sip:c@example.net>", 0 },
		{ "INVITE sip", "INV\x01TE sip", 0 },
		{ "Via: SIP/2.0/TCP", "Via: SIP/1.0/TCP", 0 },
		{ "From: \"A", "From: \"\"A", 0 },
		{ ";tag=f1", ";tag=f1\r\n <sip:a@b>;tag=f1", 0 }, /* a tag is a token (25.1) */
		{ "Supported: 100rel", "Supported\x01: 100rel", 400 },
		{ "4\r\n\r\nbody", "4\r\nX\x01: y\r\n\r\nbody", 400 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[2048];
		const char *at = strstr(invite, rows[i].from);
		int n;

		assert_non_null(at);
		n = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - invite), invite, rows[i].to,
			     at + strlen(rows[i].from));
		if (parse_exact(text, (size_t)n) == OK || status != rows[i].status)
			fail_msg("row %zu: status %u (%s)", i, status, why);
	}
}

static void limits(void **state)
{
	static char text[SIP_MSG_MAX * 2];
	size_t n;

	(void)state;
	for (int count = SIP_HEADERS_MAX - 14; count < SIP_HEADERS_MAX + 3; count++) {
		n = sizeof(invite) - 9; /* before the blank line */
		memcpy(text, invite, n);
		for (int i = 0; i < count; i++)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "X: y\r\n");
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n");
		(void)!parse_exact(text, n);
	}
	assert_string_equal(why, "too many headers");
	memset(text, 'a', sizeof(text));
	assert_int_equal(parse_exact(text, SIP_MSG_MAX + 1), ERR_LIMIT);
}

static void frames(void **state)
{
	char stream[4096];
	size_t len = 0, total, at = 0;
	bool ping;
	unsigned n_messages = 0;

	(void)state;
	total = (size_t)snprintf(stream, sizeof(stream), "\r\n\r\n%s\r\n%s", invite, invite);
	for (size_t have = 0; have <= total; have++) /* byte by byte */
		while (have > at) {
			enum sip_frame f = sip_frame(span_of(stream + at, have - at), &len, &ping);

			if (f == SIP_FRAME_MORE)
				break;
			assert_int_not_equal(f, SIP_FRAME_BAD);
			if (f == SIP_FRAME_MESSAGE) {
				assert_int_equal(len, sizeof(invite) - 1);
				assert_int_equal(parse_exact(stream + at, len), OK);
				n_messages++;
			}
			at += len;
		}
	assert_true(n_messages == 2 && at == total);
	assert_int_equal(sip_frame(SPAN_LIT("\r\n\r\n"), &len, &ping), SIP_FRAME_KEEPALIVE);
	assert_true(ping && len == 4);
	assert_int_equal(sip_frame(SPAN_LIT("BYE sip:x SIP/2.0\r\nTo: x\r\n\r\n"), &len, &ping), SIP_FRAME_BAD);
	assert_int_equal(sip_frame(SPAN_LIT("BYE x SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n"), &len, &ping),
			 SIP_FRAME_BAD);
	assert_int_equal(sip_frame(SPAN_LIT("BYE x SIP/2.0\r\nl: 99999999999\r\n\r\n"), &len, &ping), SIP_FRAME_BAD);
	/* a length in a folded line is part of another header, and a folded length is a length */
	assert_int_equal(sip_frame(SPAN_LIT("BYE x SIP/2.0\r\ns: a\r\n l: 9\r\nl: 0\r\n\r\n"), &len, &ping),
			 SIP_FRAME_MESSAGE);
	assert_int_equal(sip_frame(SPAN_LIT("BYE x SIP/2.0\r\ns: a\r\n l: 0\r\n\r\n"), &len, &ping), SIP_FRAME_BAD);
	assert_int_equal(sip_frame(SPAN_LIT("BYE x SIP/2.0\r\nl:\r\n 0\r\n\r\n"), &len, &ping), SIP_FRAME_MESSAGE);
	assert_int_equal(sip_frame(SPAN_LIT("hello world\n"), &len, &ping), SIP_FRAME_BAD);
	assert_int_equal(sip_frame(SPAN_LIT("\r"), &len, &ping), SIP_FRAME_MORE);
	assert_int_equal(sip_frame(SPAN_LIT("\r\n"), &len, &ping), SIP_FRAME_KEEPALIVE);
	assert_true(!ping && len == 2);
	assert_int_equal(sip_frame(SPAN_LIT("\r\nBYE"), &len, &ping), SIP_FRAME_KEEPALIVE);
	assert_true(!ping && len == 2);
	assert_int_equal(sip_frame(SPAN_LIT("BYE x SIP/2.0\r\nl: 3\r\n\r\nab"), &len, &ping), SIP_FRAME_MORE);
}

/* What a proxy does to a request and to its answer. */
static void edits(void **state)
{
	static uint8_t mem[4096], back[4096];
	struct wr w = wr_of(mem, sizeof(mem)), r = wr_of(back, sizeof(back));
	struct addr from = addr_ip4(0xc6336409, 61000);
	struct sip_edit e = { .request_uri = SPAN_LIT("sip:u9@10.0.0.2:5060"),
			      .push_via = SPAN_LIT("SIP/2.0/UDP p.example;branch=z9hG4bKp"),
			      .received = from,
			      .pop_route = true,
			      .push_record_route = SPAN_LIT("<sip:p.example;lr>"),
			      .max_forwards = 69 };
	struct sip_edit pop = { .pop_via = true, .max_forwards = -1 };
	struct sip_walk walk = { .at = 0 };
	struct sip_nameaddr n;
	struct sip_via v;

	(void)state;
	assert_int_equal(parse_exact(invite, sizeof(invite) - 1), OK);
	sip_write_edited(&w, &m, &e);
	assert_false(w.bad);
	assert_int_equal(parse_exact(mem, w.len), OK);
	assert_true(m.n_vias == 4 && m.max_forwards == 69 && span_eq_str(m.uri.user, "u9") &&
		    span_eq_str(m.via.branch, "z9hG4bKp"));
	assert_int_equal(sip_via_next(&m, &walk, &v), OK);
	assert_int_equal(sip_via_next(&m, &walk, &v), OK);
	assert_true(span_eq_str(v.received, "198.51.100.9") && v.rport == 61000 && span_eq_str(v.branch, "z9hG4bKa1"));
	walk = (struct sip_walk){ .at = 0 };
	assert_int_equal(sip_walk_next(&m, H_ROUTE, &walk, &n), OK);
	assert_true(span_eq_str(n.uri.host, "p2") && span_eq_str(m.body, "body"));
	/* the answer finds its way back */
	sip_write_response(&r, &m, &from, 180, NULL, "tag2");
	sip_write_end(&r, NULL, SPAN_NONE);
	assert_false(r.bad);
	assert_int_equal(parse_exact(back, r.len), OK);
	assert_true(m.status == 180 && m.method == SIP_INVITE && span_eq_str(m.to_tag, "tag2") && m.n_vias == 4);
	assert_non_null(sip_header(&m, H_RECORD_ROUTE));
	w = wr_of(mem, sizeof(mem));
	sip_write_edited(&w, &m, &pop);
	assert_int_equal(parse_exact(mem, w.len), OK);
	assert_true(m.n_vias == 3 && span_eq_str(m.via.branch, "z9hG4bKa1") && m.via.rport == 61000);
}

/* A proxy that recorded itself twice (RFC 5658) takes both off, whether they stand in one header or in two. */
static void routes_go_from_the_top(void **state)
{
	static const char *const routes[] = { "Route: <sip:p1;lr>, <sip:p2;lr>\r\nRoute: <sip:p3;lr>\r\n",
					      "Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>,<sip:p3;lr>\r\n",
					      "Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\nroute: <sip:p3;lr>\r\n" };
	static char text[1024];
	static uint8_t mem[2048];

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		unsigned n_pop = i / 3 + 1;
		struct sip_edit e = { .pop_route = n_pop, .max_forwards = -1 };
		struct wr w = wr_of(mem, sizeof(mem));
		struct sip_walk walk = { .at = 0 };
		struct sip_nameaddr n;
		int len =
			snprintf(text, sizeof(text),
				 "BYE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKq\r\n%sFrom: <sip:a>;tag=1\r\n"
				 "To: <sip:b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n",
				 routes[i % 3]);

		assert_int_equal(parse_exact(text, (size_t)len), OK);
		sip_write_edited(&w, &m, &e);
		assert_int_equal(parse_exact(mem, w.len), OK);
		for (unsigned k = n_pop + 1; k <= 3; k++) {
			assert_int_equal(sip_walk_next(&m, H_ROUTE, &walk, &n), OK);
			assert_true(n.uri.host.p[1] == '0' + k);
		}
		assert_int_equal(sip_walk_next(&m, H_ROUTE, &walk, &n), ERR_NOTFOUND);
	}
}

static void values_cannot_add_lines(void **state)
{
	uint8_t mem[512];
	struct wr w = wr_of(mem, sizeof(mem));

	(void)state;
	sip_write_headerf(&w, H_CONTACT, "%s", "x\r\nVia: y");
	assert_true(w.bad);
	w = wr_of(mem, sizeof(mem));
	sip_write_request(&w, "BYE", SPAN_LIT("sip:a\nb"));
	assert_true(w.bad);
	w = wr_of(mem, sizeof(mem));
	sip_write_header(&w, H_CONTACT, SPAN_LIT("a\r\n b")); /* a fold becomes blanks */
	assert_true(!w.bad && span_find_span(span_sub(wr_done(&w), 0, w.len - 2), SPAN_LIT("\r")) == w.len - 2);
	w = wr_of(mem, sizeof(mem));
	sip_write_status(&w, 200, "O\nK");
	assert_true(w.bad);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),
		cmocka_unit_test(torture),
		cmocka_unit_test(messages_of_others),
		cmocka_unit_test(refusals),
		cmocka_unit_test(limits),
		cmocka_unit_test(frames),
		cmocka_unit_test(edits),
		cmocka_unit_test(routes_go_from_the_top),
		cmocka_unit_test(values_cannot_add_lines),
	};

	return HARNESS_RUN(tests);
}
