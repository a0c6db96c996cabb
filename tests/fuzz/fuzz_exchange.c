/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* An exchange with two registered users. The input is a script: pieces that end with a NUL byte; the first byte says by
 * which flow the rest comes: 'a' and 'b' the streams of the two, 'A' and 'B' their datagrams, 's' and 'S' a stranger's; 't'
 * time passes (its length squared, in quarters of a second), 'x' and 'y': the streams of a and b are lost. In a piece $V and
 * $R stand for the topmost Via and the Record-Route of the newest request that the exchange sent, $C for the answer of a
 * to its newest challenge.
 * covers: src/exchange/answer.c src/exchange/auth.c src/exchange/branch.c src/exchange/context.c src/exchange/exchange.c src/exchange/proxy.c src/exchange/registrar.c src/exchange/stream.c src/exchange/token.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exchange/exchange.h"
#include "sip/digest.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 48;

#define PIECE_MAX 16384
#define PASSWORD "k3Zq9vT1xB7nR5mW2cY8Lx"

static const char conf[] = "[exchange]\ndomain = e\nlisten = 203.0.113.1\n[user a]\npassword = " PASSWORD
			   "\n[user b]\npassword = " PASSWORD "\n";
static const char flows[] = "abABsS";
static struct exchange_config *cfg;
static struct rng_seeded seed;
static struct rng rng;
static struct exchange *x;
static uint64_t now_us;
static struct sip_msg m;
static char via[1024], record[2048], credentials[1024];

static int64_t wall(void *arg)
{
	(void)arg;
	return 1795467600;
}

static struct path flow(size_t i)
{
	struct path p = { .local = addr_ip4(0xcb007101, 5060), .remote = addr_ip4(0x0a000001u + (uint32_t)i, 4000) };

	p.transport = i < 2 || i == 4 ? TRANSPORT_TCP : TRANSPORT_UDP;
	p.stream = p.transport == TRANSPORT_TCP ? i + 1 : 0;
	return p;
}

static void note(char *dst, size_t cap, struct span s)
{
	if (s.len >= cap)
		return;
	if (s.len)
		memcpy(dst, s.p, s.len);
	dst[s.len] = 0;
}

static void note_challenge(const char *method, const char *uri, const char *user)
{
	enum sip_h h = m.status == 401 ? H_WWW_AUTHENTICATE : H_PROXY_AUTHENTICATE;
	struct wr w = wr_of(credentials, sizeof(credentials) - 1);
	struct sip_challenge c;

	if (sip_challenge_best(&m, h, &c) != OK)
		abort(); /* ours is one that we can answer */
	wr_str(&w, m.status == 401 ? "Authorization: " : "Proxy-Authorization: ");
	if (sip_digest_answer(&c, user, PASSWORD, method, span_str(uri), 1, "c", &w) != OK)
		w.len = 0;
	credentials[w.len] = 0;
}

/* Nothing goes to where nobody is, and what goes can be read. */
static void drain(const char *user)
{
	const char *why;
	struct out o;
	unsigned status;

	while (exchange_poll_output(x, &o)) {
		bool known = false;

		for (size_t i = 0; i < sizeof(flows) - 1; i++) {
			struct path p = flow(i);

			known |= p.transport == o.path.transport && p.stream == o.path.stream &&
				 addr_ip_eq(&p.remote, &o.path.remote);
		}
		if (!known)
			abort();
		if (o.kind != OUT_SEND || sip_parse(o.bytes, &m, &why, &status) != OK)
			continue;
		if (m.is_request) {
			note(via, sizeof(via), m.via.text);
			note(record, sizeof(record), sip_value(&m, H_RECORD_ROUTE));
		} else if ((m.status == 401 || m.status == 407) && sip_header(&m, H_DATE) == NULL) {
			if (m.n_vias != 1 ||
			    (!sip_header(&m, H_WWW_AUTHENTICATE) && !sip_header(&m, H_PROXY_AUTHENTICATE)))
				continue; /* a device's own */
			if (m.cseq_method == SIP_REGISTER)
				note_challenge("REGISTER", "sip:e", user);
			else
				note_challenge("INVITE", "sip:b@e", user);
		}
	}
}

static void say(size_t i, const uint8_t *text, size_t len, const char *user)
{
	static uint8_t mem[PIECE_MAX];
	struct wr w = wr_of(mem, sizeof(mem));
	struct path p = flow(i);

	for (size_t k = 0; k < len; k++) {
		if (text[k] == '$' && k + 1 < len && strchr("VRC", text[k + 1]) && text[k + 1]) {
			k++;
			wr_str(&w, text[k] == 'V' ? via : text[k] == 'R' ? record : credentials);
		} else {
			wr_u8(&w, text[k]);
		}
	}
	if (w.bad)
		return;
	exchange_input(x, now_us, &p, wr_done(&w));
	drain(user);
}

static void registers(size_t i, const char *user)
{
	char text[2048];

	for (unsigned n = 1; n <= 2; n++) {
		int len = snprintf(
			text, sizeof(text),
			"REGISTER sip:e SIP/2.0\nVia: SIP/2.0/TCP h;rport;branch=z9hG4bK%zu%u\nFrom: <sip:%s@e>;tag=1\n"
			"To: <sip:%s@e>\nCall-ID: %zu\nCSeq: %u REGISTER\nContact: <sip:%s%zu@h>\n%s%sContent-Length: "
			"0\n\n",
			i, n, user, user, i, n, user, i, n == 2 ? credentials : "", n == 2 ? "\n" : "");

		say(i, (const uint8_t *)text, (size_t)len, user);
	}
}

static void pass(uint64_t for_us)
{
	uint64_t until = now_us + for_us;

	while (exchange_deadline_us(x) <= until) {
		if (exchange_deadline_us(x) > now_us)
			now_us = exchange_deadline_us(x);
		exchange_tick(x, now_us);
		drain("a");
	}
	now_us = until;
}

static void start(void)
{
	struct exchange_env env = { .rng = &rng, .wall_s = wall };
	struct exchange_stats s;
	struct conf_error e;

	if (!cfg && exchange_config_parse("f", span_str(conf), &cfg, &e) != OK)
		abort();
	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1);
	if (exchange_new(&env, cfg, &x) != OK)
		abort();
	registers(0, "a");
	registers(1, "b");
	registers(3, "b");
	exchange_stats(x, &s);
	if (s.n_bindings != 3)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exchange_stats s;

	start();
	for (size_t at = 0; at < size;) {
		size_t end = at;
		const char *f;

		while (end < size && data[end])
			end++;
		f = end > at ? strchr(flows, data[at]) : NULL;
		if (f && *f) {
			say((size_t)(f - flows), data + at + 1, end - at - 1, "a");
		} else if (end > at && data[at] == 't') {
			pass(MS(250) * (end - at) * (end - at));
		} else if (end > at && (data[at] == 'x' || data[at] == 'y')) {
			struct path p = flow(data[at] == 'y');

			exchange_stream(x, now_us, &p, STREAM_CLOSED);
			drain("a");
		}
		at = end + 1;
	}
	/* Whatever it was, it ends. */
	pass(SECONDS(3 * 3600));
	exchange_stats(x, &s);
	if (s.n_contexts || s.n_bindings)
		abort();
	exchange_free(x);
	x = NULL;
	return 0;
}
