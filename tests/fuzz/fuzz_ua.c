/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A user agent with one account, in the state that the first byte names, between its server and its owner. The rest is a script:
 * pieces that end with a NUL byte, the first byte of a piece is what happens:
 *   s  bytes on the newest stream to the server     u  a datagram from the server    z  a stranger's datagram
 *   e  events of the newest stream: o open, c closed, f failed; a: the loop accepted one
 *   o  calls of the owner, a letter each            t  time: the piece's length squared, in quarters of a second
 * In a message, $1 and $2 stand for the lines with which an answer to the newest request, or the newest INVITE, of the agent
 * begins; $V, $F, $I, $N for the Via, From, Call-ID and CSeq number of the latter; $T for the To tag of the agent's newest answer; $K for its Contact.
 * covers: src/sip/ua.c src/sip/ua_call.c src/sip/ua_callee.c src/sip/ua_register.c src/sip/ua_request.c src/sip/ua_stream.c
   src/sip/dialog.c src/sip/txn.c src/sip/txn_client.c src/sip/txn_server.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sip/ua_impl.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 48;

#define PIECE_MAX 16384
#define STEPS_MAX 24
#define CLOSE "Content-Length: 0\n\n"
#define REGISTERED "SIP/2.0 200 OK\n$1Contact: <$K>;expires=600\n" CLOSE
#define CALL                                                                                                           \
	"INVITE $K SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bKi\nFrom: <sip:p@e>;tag=p\nTo: <sip:a@e>\nCall-ID: c\n"    \
	"CSeq: 1 INVITE\nContact: <sip:p@h>\nRecord-Route: <sip:203.0.113.1;lr>\n"                                     \
	"Content-Type: application/sdp\nContent-Length: 5\n\noffer"
#define ACK                                                                                                            \
	"ACK $K SIP/2.0\nVia: SIP/2.0/TCP h;branch=z9hG4bKa\nFrom: <sip:p@e>;tag=p\nTo: <sip:a@e>;tag=$T\nCall-ID: "   \
	"c\n"                                                                                                          \
	"CSeq: 1 ACK\n" CLOSE
#define ANSWERED                                                                                                       \
	"SIP/2.0 200 OK\n$2Contact: <sip:q@h>\nRecord-Route: <sip:203.0.113.1;lr>\nContent-Type: application/sdp\n"    \
	"Content-Length: 6\n\nanswer"

/* How each state is come to. */
static const char *const starts[][8] = {
	{ NULL }, /* nothing yet: the owner adds the account */
	{ "oT", "eo", NULL }, /* REGISTER sent */
	{ "oU", NULL },
	{ "oT", "eo", "s" REGISTERED, NULL }, /* registered */
	{ "oU", "u" REGISTERED, NULL },
	{ "oT", "eo", "s" REGISTERED, "oi", NULL }, /* INVITE sent */
	{ "oT", "eo", "s" REGISTERED, "oi", "s" ANSWERED, NULL }, /* up, as caller */
	{ "oT", "eo", "s" REGISTERED, "s" CALL, NULL }, /* offered */
	{ "oT", "eo", "s" REGISTERED, "s" CALL, "oa", NULL }, /* answered */
	{ "oT", "eo", "s" REGISTERED, "s" CALL, "oa", "s" ACK, NULL }, /* up, as callee */
	{ "oU", "u" REGISTERED, "u" CALL, "oa", "u" ACK, NULL },
	{ "oU", "u" REGISTERED, "oi", "eo", NULL }, /* INVITE by a stream of its own */
};

static struct sip_ua *ua;
static struct rng_seeded seed;
static struct rng rng;
static uint64_t now_us;
static unsigned account, call, leg, request;
static struct path stream;
static uint64_t n_accepted, n_failed;
static bool finishing;
static struct sip_msg m;
static char answer_of[2][4096], via[1024], from[512], call_id[256], number[16], to_tag[128], contact[256];

static struct addr server_addr(void)
{
	return addr_ip4(0xcb007101, 5060);
}

static struct addr local_addr(void)
{
	return addr_ip4(0x0a000001, 6000);
}

static void note(char *dst, size_t cap, struct span s)
{
	if (s.len >= cap)
		return;
	if (s.len)
		memcpy(dst, s.p, s.len);
	dst[s.len] = 0;
}

/* The lines of an answer that come from its request; with a To tag of the server. */
static void note_request(char *dst, size_t cap)
{
	static uint8_t mem[4096];
	struct wr w = wr_of(mem, sizeof(mem));
	struct sip_walk walk = { .at = 0 };
	struct sip_via v;

	while (sip_via_next(&m, &walk, &v) == OK) {
		wr_str(&w, "Via: ");
		wr_span(&w, v.text);
		wr_str(&w, "\n");
	}
	wr_str(&w, "From: ");
	wr_span(&w, sip_value(&m, H_FROM));
	wr_str(&w, "\nTo: ");
	wr_span(&w, sip_value(&m, H_TO));
	wr_str(&w, m.to_tag.len ? "\nCall-ID: " : ";tag=srv\nCall-ID: ");
	wr_span(&w, sip_value(&m, H_CALL_ID));
	wr_str(&w, "\nCSeq: ");
	wr_span(&w, sip_value(&m, H_CSEQ));
	wr_str(&w, "\n");
	if (!w.bad)
		note(dst, cap, wr_done(&w));
}

static void note_message(struct span bytes)
{
	struct sip_walk walk = { .at = 0 };
	struct sip_nameaddr n;
	const char *why;
	unsigned status;

	if (sip_parse(bytes, &m, &why, &status) != OK)
		return; /* a ping; or a refusal of what was too broken to be quoted well */
	if (sip_walk_next(&m, H_CONTACT, &walk, &n) == OK && !n.star)
		note(contact, sizeof(contact), n.uri.text);
	if (!m.is_request) {
		note(to_tag, sizeof(to_tag), m.to_tag);
		return;
	}
	if (m.method == SIP_ACK)
		return;
	note_request(answer_of[0], sizeof(answer_of[0]));
	if (m.method != SIP_INVITE)
		return;
	note_request(answer_of[1], sizeof(answer_of[1]));
	note(via, sizeof(via), m.via.text);
	note(from, sizeof(from), sip_value(&m, H_FROM));
	note(call_id, sizeof(call_id), sip_value(&m, H_CALL_ID));
	(void)snprintf(number, sizeof(number), "%u", m.cseq);
}

/* What is sent goes where it may go; each event names what it must. */
static void drain(void)
{
	struct sip_event e;
	struct out o;

	while (sip_ua_poll_output(ua, &o)) {
		if (o.kind == OUT_OPEN) {
			stream = o.path;
			stream.local = local_addr();
		}
		if (o.path.transport != TRANSPORT_UDP && !o.path.stream)
			abort();
		if (o.kind == OUT_SEND)
			note_message(o.bytes);
	}
	while (sip_ua_poll_event(ua, &e)) {
		if (!e.reason || (e.kind >= SIP_CALL_INCOMING && !e.call) ||
		    (e.kind < SIP_CALL_INCOMING && !e.account) || (e.kind == SIP_CALL_ANSWERED && !e.leg) ||
		    (e.kind == SIP_CALL_REQUEST && !e.request) || e.body.len > SIP_BODY_MAX)
			abort();
		if (e.kind == SIP_CALL_INCOMING)
			call = e.call;
		if (e.kind == SIP_CALL_ANSWERED)
			leg = e.leg;
		if (e.kind == SIP_CALL_REQUEST)
			request = e.request;
	}
}

static void add(enum transport t)
{
	struct sip_account_config cfg = { .aor = "sip:a@e",
					  .user = "a",
					  .password = "secret",
					  .server = server_addr(),
					  .transport = t,
					  .insecure_digest = true };
	struct addr local = local_addr();

	if (!account && sip_ua_account_add(ua, now_us, &cfg, &local, &account) != OK)
		abort();
}

static void owner(uint8_t what)
{
	struct addr local = addr_ip4(0x0a000002, 6001), server = server_addr();
	unsigned id;

	switch (what) {
	case 'T': add(TRANSPORT_TCP); break;
	case 'U': add(TRANSPORT_UDP); break;
	case 'i':
		if (sip_ua_invite(ua, now_us, account, "sip:b@e", SPAN_LIT("offer"), &id) == OK)
			call = id;
		break;
	case 'r': (void)!sip_ua_ring(ua, now_us, call, 180); break;
	case 'a': (void)!sip_ua_answer(ua, now_us, call, SPAN_LIT("answer")); break;
	case 'c': sip_ua_confirm(ua, now_us, call); break;
	case 'j': sip_ua_reject(ua, now_us, call, 486); break;
	case 'h': sip_ua_hangup(ua, now_us, call); break;
	case 'l': sip_ua_choose_leg(ua, now_us, call, leg); break;
	case 'd': sip_ua_drop_leg(ua, now_us, call, leg); break;
	case 'q': (void)!sip_ua_respond(ua, now_us, call, request, 200, SPAN_LIT("answer")); break;
	case 'n': (void)!sip_ua_respond(ua, now_us, call, request, 488, SPAN_NONE); break;
	case 'b': sip_ua_account_rebind(ua, now_us, account, &local, &server); break;
	case 'm': sip_ua_account_remove(ua, now_us, account); break;
	default: break;
	}
	drain();
}

static const char *variable(uint8_t name)
{
	switch (name) {
	case '1': return answer_of[0];
	case '2': return answer_of[1];
	case 'V': return via;
	case 'F': return from;
	case 'I': return call_id;
	case 'N': return number;
	case 'T': return to_tag;
	case 'K': return contact;
	default: return NULL;
	}
}

static void say(const struct path *path, struct span text)
{
	static uint8_t mem[PIECE_MAX];
	struct wr w = wr_of(mem, sizeof(mem));

	for (size_t k = 0; k < text.len; k++) {
		const char *v = text.p[k] == '$' && k + 1 < text.len ? variable(text.p[k + 1]) : NULL;

		if (v) {
			wr_str(&w, v);
			k++;
		} else {
			wr_u8(&w, text.p[k]);
		}
	}
	if (w.bad)
		return;
	sip_ua_input(ua, now_us, path, wr_done(&w));
	drain();
}

static void event(uint8_t what)
{
	struct path accepted = { .transport = TRANSPORT_TCP,
				 .local = local_addr(),
				 .remote = addr_ip4(0xc0000207, 99) };

	if (what == 'a') {
		accepted.stream = (UINT64_C(1) << 32) + ++n_accepted;
		sip_ua_stream(ua, now_us, &accepted, STREAM_OPEN);
		stream = accepted;
	} else if (stream.stream) {
		sip_ua_stream(ua, now_us, &stream,
			      what == 'o'   ? STREAM_OPEN
			      : what == 'c' ? STREAM_CLOSED
					    : STREAM_FAILED);
	}
	drain();
}

/* Each stream that the agent asked for is lost, or never came to be: the loop tells one of the two of every stream. */
static void lose_streams(void)
{
	while (n_failed < ua->n_streams_ever) {
		struct path p = {
			.transport = TRANSPORT_TCP, .local = local_addr(), .remote = server_addr(), .stream = ++n_failed
		};

		sip_ua_stream(ua, now_us, &p, STREAM_FAILED);
		drain();
	}
}

static void pass(uint64_t for_us)
{
	uint64_t until = now_us + for_us;
	unsigned still = 0;

	while (sip_ua_deadline_us(ua) <= until) {
		if (sip_ua_deadline_us(ua) > now_us) {
			now_us = sip_ua_deadline_us(ua);
			still = 0;
		}
		if (still++ > 1000)
			abort(); /* time stands still */
		sip_ua_tick(ua, now_us);
		drain();
		if (finishing)
			lose_streams();
	}
	now_us = until;
}

static void piece(struct span s)
{
	struct path udp = { .local = local_addr(), .remote = server_addr() }, other = udp;

	if (!s.len)
		return;
	other.remote = addr_ip4(0xc0000207, 99);
	switch (s.p[0]) {
	case 's': say(&stream, span_from(s, 1)); break;
	case 'u': say(&udp, span_from(s, 1)); break;
	case 'z': say(&other, span_from(s, 1)); break;
	case 't': pass(MS(250) * (s.len < 64 ? s.len * s.len : 4096)); break;
	case 'e':
		for (size_t i = 1; i < s.len; i++)
			event(s.p[i]);
		break;
	case 'o':
		for (size_t i = 1; i < s.len; i++)
			owner(s.p[i]);
		break;
	default: break;
	}
}

static void start(uint8_t how)
{
	struct sip_ua_config cfg = { .rng = &rng, .max_calls = 4 };

	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1);
	account = call = leg = request = 0;
	n_accepted = n_failed = 0;
	finishing = false;
	stream = (struct path){ .transport = TRANSPORT_TCP };
	memset(answer_of, 0, sizeof(answer_of));
	via[0] = from[0] = call_id[0] = number[0] = to_tag[0] = contact[0] = 0;
	if (sip_ua_new(&cfg, &ua) != OK)
		abort();
	for (const char *const *s = starts[how % (sizeof(starts) / sizeof(starts[0]))]; *s; s++)
		piece(span_str(*s));
}

/* Whatever it was, it ends when the owner ends it, and nobody answers. */
static void finish(void)
{
	finishing = true;
	for (struct call *c = ua->calls; c; c = ua->calls) {
		while (c && c->dead)
			c = c->next;
		if (!c)
			break;
		sip_ua_hangup(ua, now_us, c->id);
		drain();
	}
	if (account)
		owner('m');
	lose_streams();
	pass(SECONDS(600));
	sip_ua_tick(ua, now_us); /* frees what the last call into it gave up */
	if (ua->calls || ua->accounts || sip_txns_len(ua->txns) || !sip_ua_quiet(ua))
		abort();
	sip_ua_free(ua);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	start(size ? data[0] : 0);
	for (size_t at = 1, n = 0; at < size && n < STEPS_MAX; n++) {
		size_t end = at;

		while (end < size && data[end])
			end++;
		piece(span_of(data + at, end - at));
		at = end + 1;
	}
	finish();
	return 0;
}
