/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A SIP message as it comes from a socket or a stream, and what an agent and a proxy do with it.
 * covers: src/sip/msg.c src/sip/header.c src/sip/uri.c src/sip/frame.c src/sip/write.c src/sip/digest.c */
#include <stdlib.h>
#include <string.h>

#include "sip/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sip_msg m, back;
static uint8_t mem[4 * SIP_MSG_MAX];

static void walk(void)
{
	struct sip_nameaddr n;
	struct sip_via v;
	struct span value;
	struct addr a;
	uint32_t s;

	for (enum sip_h h = H_CONTACT; h <= H_RECORD_ROUTE; h++) {
		struct sip_walk w = { .at = 0 };

		while (sip_walk_next(&m, h, &w, &n) == OK) {
			(void)sip_param(n.params, "expires", &value);
			(void)!sip_uri_addr(&n.uri, 5060, &a);
			if (!n.star && !sip_uri_same(&n.uri, &n.uri))
				abort();
		}
	}
	{
		struct sip_walk w = { .at = 0 };

		while (sip_via_next(&m, &w, &v) == OK)
			;
	}
	(void)sip_has_token(&m, H_REQUIRE, "100rel");
	(void)sip_seconds(&m, H_EXPIRES, &s);
}

static void digest(void)
{
	struct sip_challenge c;
	struct sip_credentials k;
	const struct sip_header *h = sip_header(&m, H_AUTHORIZATION);
	struct wr w = wr_of(mem, sizeof(mem));

	if (sip_challenge_best(&m, H_WWW_AUTHENTICATE, &c) == OK)
		(void)!sip_digest_answer(&c, "me", "secret", "REGISTER", SPAN_LIT("sip:b"), 1, "cnonce", &w);
	if (h && sip_credentials_parse(h->value, &k) == OK)
		(void)!sip_digest_verify(&k, "00", SPAN_LIT("REGISTER"));
}

/* What a proxy writes can be read again, and says the same where nothing was changed. */
static void forward(void)
{
	struct addr from = addr_ip4(0xc0000207, 99);
	struct sip_edit e = { .push_via = SPAN_LIT("SIP/2.0/UDP x;branch=z9hG4bKq"),
			      .received = from,
			      .pop_route = true,
			      .max_forwards = 5 };
	struct wr w = wr_of(mem, sizeof(mem));
	const char *why;
	unsigned status;

	if (m.n_headers + 4 > SIP_HEADERS_MAX || m.n_vias + 1 > SIP_VIAS_MAX || m.raw.len > SIP_MSG_MAX / 2)
		return;
	sip_write_edited(&w, &m, &e);
	if (w.bad)
		return;
	if (sip_parse(wr_done(&w), &back, &why, &status) != OK || back.cseq != m.cseq || !span_eq(back.body, m.body) ||
	    !span_eq(back.from_tag, m.from_tag) || back.n_vias != m.n_vias + 1)
		abort();
	w = wr_of(mem, sizeof(mem));
	if (m.is_request) {
		sip_write_response(&w, &m, &from, 200, NULL, "t");
		sip_write_end(&w, NULL, SPAN_NONE);
		if (!w.bad && sip_parse(wr_done(&w), &back, &why, &status) != OK)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span s = span_of(data, size);
	const char *why = NULL;
	unsigned status;
	size_t len;
	bool ping;

	while (s.len) {
		enum sip_frame f = sip_frame(s, &len, &ping);

		if (f == SIP_FRAME_MORE || f == SIP_FRAME_BAD)
			break;
		if (!len || len > s.len)
			abort();
		s = span_from(s, len);
	}
	if (sip_parse(span_of(data, size), &m, &why, &status) != OK) {
		struct wr w = wr_of(mem, sizeof(mem));
		struct addr from = addr_ip4(1, 1);

		if (!why)
			abort();
		if (status)
			sip_write_response(&w, &m, &from, status, NULL, "t");
		return 0;
	}
	walk();
	digest();
	forward();
	return 0;
}
