/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* An ICE agent and a gatherer, in the state that the first byte names, get datagrams and time. The peer's messages are made so
 * that they verify: what stands behind the credentials is reached.
 * covers: src/ice/agent.c src/ice/pairs.c src/ice/request.c src/ice/response.c src/ice/consent.c src/ice/gather.c */
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "ice/agent_impl.h"
#include "ice/gather.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const unsigned fuzz_replay_cuts = 64;

/* One step of the input: what, then the bytes that it takes. */
enum step { REQUEST, ANSWER, SEALED, RAW, TIME, OWNER, N_STEPS };
/* The start: bits of the first byte. */
#define CONTROLLING 0x01
#define DESCRIBED 0x02
#define STARTED 0x04
#define LITE 0x08
#define SETTLED 0x10 /* its first check is answered, and its nomination */
#define STEPS_MAX 32
#define SENT_MAX 16
#define PEER_UFRAG "peer"
#define PEER_PWD "0123456789abcdefghijkl"

struct sent {
	struct path path;
	uint8_t transaction[12];
	bool is_gather;
};

static struct ice_agent *agent;
static struct ice_gather *gather;
static struct rng_seeded seed;
static struct rng rng;
static uint64_t now_us;
static struct sent sent[SENT_MAX]; /* the newest first */
static unsigned n_answered; /* checks with a good answer from where they were sent */
static unsigned n_asked; /* requests of the peer that verify */
static struct stun_msg parsed;

/* Few, so that they meet: 0 to 3 are what the description lists, 3 by IPv6. */
static struct addr peer(uint8_t i)
{
	struct addr a = addr_ip4(0xc6336401u + i % 16, (uint16_t)(5000 + i / 16));

	if (i % 16 == 3) {
		uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, 0, 1, [15] = i };

		a = addr_of(SPAN_OF(ip), 5000);
	}
	return a;
}

static struct addr base(uint8_t i)
{
	uint8_t ip[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 };

	return i % 4 == 1 ? addr_of(SPAN_OF(ip), 4500) : addr_ip4(0x0a000001u + i % 4, 4500);
}

static struct addr server(void)
{
	return addr_ip4(0xcb007101, 3478);
}

static void note(const struct out *o, bool is_gather)
{
	if (o->kind != OUT_SEND || stun_parse(o->bytes, &parsed) != OK || !parsed.has_fingerprint)
		abort(); /* nothing but good STUN leaves */
	if (parsed.cls != STUN_REQUEST)
		return;
	memmove(sent + 1, sent, sizeof(sent) - sizeof(sent[0]));
	sent[0] = (struct sent){ .path = o->path, .is_gather = is_gather };
	memcpy(sent[0].transaction, parsed.transaction, sizeof(parsed.transaction));
}

/* What must hold after every step. */
static void drain(void)
{
	struct ice_event e;
	struct out o;

	while (ice_agent_poll_output(agent, &o)) {
		bool ours = false;

		for (uint8_t i = 0; i < 4; i++)
			ours |= addr_eq(&o.path.local, &(struct addr[1]){ base(i) }[0]);
		if (!agent->started || !ours)
			abort(); /* before the description was checked, or from an address that is not ours */
		note(&o, false);
	}
	while (ice_gather_poll_output(gather, &o))
		note(&o, true);
	while (ice_agent_poll_event(agent, &e)) {
		if ((e.kind == ICE_VALID || e.kind == ICE_SELECTED) &&
		    (!n_answered || !ice_agent_validated(agent, &e.path)))
			abort(); /* nobody showed that he is there */
		if (e.kind == ICE_FAILED && now_us < agent->start_us + MS(39500))
			abort();
	}
	if (agent->n_pairs > ICE_PAIRS_MAX || agent->n_remotes > ICE_REMOTE_MAX || agent->n_locals > ICE_LOCAL_MAX)
		abort();
	for (unsigned i = 0; i < agent->n_pairs; i++)
		if ((agent->pairs[i].heard && !n_asked) || (agent->pairs[i].state == PAIR_SUCCEEDED && !n_answered))
			abort();
}

static void input(const struct path *path, struct span bytes)
{
	if (stun_parse(bytes, &parsed) != OK)
		return;
	if (ice_gather_owns(gather, &parsed, &path->remote))
		ice_gather_input(gather, now_us, &parsed);
	else
		ice_agent_input(agent, now_us, path, &parsed); /* asks ice_agent_owns() itself */
	drain();
}

static void username(struct wr *w)
{
	char name[ICE_UFRAG_LEN + sizeof(PEER_UFRAG) + 1];
	struct wr n = wr_of(name, sizeof(name));

	wr_fmt(&n, "%s:%s", ice_agent_ufrag(agent), PEER_UFRAG);
	stun_put(w, STUN_USERNAME, wr_done(&n));
}

/* A check of the peer: what is in it, from where, to where, tie-breaker, priority. */
static void request(struct rd *r)
{
	uint8_t what = rd_u8(r), mem[STUN_MSG_MAX], transaction[12] = { rd_u8(r) };
	struct path path = { .remote = peer(rd_u8(r)) };
	struct wr w = wr_of(mem, sizeof(mem));

	path.local = base(what >> 6);
	stun_begin(&w, STUN_REQUEST, STUN_BINDING, transaction);
	username(&w);
	if (!(what & 0x01))
		stun_put_u32(&w, STUN_PRIORITY, 0x6e000000u + transaction[0]);
	if (what & 0x02)
		stun_put(&w, STUN_USE_CANDIDATE, SPAN_NONE);
	if (what & 0x04)
		stun_put_u64(&w, what & 0x08 ? STUN_ICE_CONTROLLING : STUN_ICE_CONTROLLED,
			     what & 0x10 ? UINT64_MAX : 1);
	if (what & 0x20)
		stun_put_u32(&w, 0x7001, 0);
	if (stun_finish(&w, span_str(ice_agent_pwd(agent)), true) != OK)
		abort();
	n_asked++;
	input(&path, wr_done(&w));
}

/* An answer to the k-th newest request: the peer's or the STUN server's. */
static void answer(struct rd *r)
{
	uint8_t what = rd_u8(r), which = rd_u8(r) % SENT_MAX, mem[STUN_MSG_MAX];
	const struct sent *s = &sent[which];
	struct path path = s->path;
	struct addr mapped = what & 0x04 ? peer(what) : path.local;
	struct wr w = wr_of(mem, sizeof(mem));
	static const unsigned codes[] = { 487, 400, 401, 500 };

	if (path.local.family == ADDR_NONE)
		return;
	if (what & 0x02)
		path.remote = peer(what >> 4);
	stun_begin(&w, what & 0x01 ? STUN_ERROR : STUN_SUCCESS, STUN_BINDING, s->transaction);
	if (what & 0x01)
		stun_put_error(&w, codes[(what >> 4) % 4], "no");
	else if (!(what & 0x08))
		stun_put_xor_addr(&w, STUN_XOR_MAPPED_ADDRESS, &mapped, s->transaction);
	if (stun_finish(&w, s->is_gather ? SPAN_NONE : SPAN_LIT(PEER_PWD), true) != OK)
		abort();
	n_answered += !s->is_gather && !(what & 0x01) && path_eq(&path, &s->path);
	input(&path, wr_done(&w));
}

/* Class, then attributes as the fuzzer wants them, under good credentials. */
static void sealed(struct rd *r)
{
	uint8_t what = rd_u8(r), len = rd_u8(r), mem[STUN_MSG_MAX];
	struct span attrs = rd_span(r, len < rd_left(r) ? len : rd_left(r));
	const uint8_t *transaction = sent[(what >> 4) % SENT_MAX].transaction;
	struct path path = { .local = base(what >> 6), .remote = peer(what >> 4) };
	struct wr w = wr_of(mem, sizeof(mem));
	bool is_request = what % 4 == STUN_REQUEST;

	stun_begin(&w, (enum stun_class)(what % 4), what & 0x08 ? 3 : STUN_BINDING, transaction);
	if (is_request)
		username(&w);
	wr_span(&w, span_sub(attrs, 0, attrs.len & ~(size_t)3));
	if (stun_finish(&w, is_request ? span_str(ice_agent_pwd(agent)) : SPAN_LIT(PEER_PWD), true) != OK)
		return;
	n_asked += is_request;
	n_answered += what % 4 == STUN_SUCCESS;
	input(&path, wr_done(&w));
}

static void raw(struct rd *r)
{
	uint8_t len = rd_u8(r);
	struct path path = { .local = base(len), .remote = peer(len) };

	input(&path, rd_span(r, len < rd_left(r) ? len : rd_left(r)));
}

static void pass(uint64_t for_us)
{
	uint64_t until = now_us + for_us;

	for (unsigned still = 0;; still++) {
		uint64_t a = ice_agent_deadline_us(agent), g = ice_gather_deadline_us(gather), due = a < g ? a : g;

		if (due > until)
			break;
		if (due > now_us) {
			now_us = due;
			still = 0;
		}
		if (still > 1000)
			abort(); /* time stands still */
		ice_agent_tick(agent, now_us);
		ice_gather_tick(gather, now_us);
		drain();
	}
	now_us = until;
}

static void describe(bool lite)
{
	struct ice_candidate c[4] = { { .component = 1 } };

	for (uint8_t i = 0; i < 4; i++) {
		c[i] = (struct ice_candidate){ .type = i == 2 ? ICE_SRFLX : ICE_HOST, .component = 1, .addr = peer(i) };
		c[i].foundation[0] = (char)('1' + i % 3);
		c[i].priority = ice_priority(c[i].type, (uint16_t)(65535 - i), 1);
	}
	if (ice_agent_set_remote(agent, PEER_UFRAG, PEER_PWD, lite, c, 4) != OK)
		abort();
}

static void owner(struct rd *r)
{
	uint8_t what = rd_u8(r);
	struct addr outside = addr_ip4(0xcb007120, 61000), from = base(what >> 4), mapped, own;

	switch (what % 5) {
	case 0:
		if (!agent->has_remote)
			describe(what & 0x10);
		break;
	case 1: ice_agent_start(agent, now_us); break;
	case 2: (void)!ice_agent_add_local(agent, ICE_HOST, &from, &from); break;
	case 3: (void)!ice_agent_add_local(agent, ICE_SRFLX, &outside, &from); break;
	default:
		if (ice_gather_mapped(gather, &mapped, &own) && (!mapped.port || addr_is_any(&mapped)))
			abort();
		break;
	}
	drain();
}

static void start(uint8_t how)
{
	struct ice_config cfg = { .rng = &rng, .controlling = how & CONTROLLING };
	struct addr first = base(0), second = base(1), stun = server();
	struct rd ok = rd_of(SPAN_LIT("\0\0"));

	rng = rng_seeded_init(&seed, 1);
	now_us = SECONDS(1);
	n_answered = n_asked = 0;
	memset(sent, 0, sizeof(sent));
	if (ice_agent_new(&cfg, &agent) != OK || ice_gather_new(&rng, &first, &stun, &gather) != OK ||
	    ice_agent_add_local(agent, ICE_HOST, &first, &first) != OK ||
	    ice_agent_add_local(agent, ICE_HOST, &second, &second) != OK)
		abort();
	ice_gather_start(gather, now_us);
	drain();
	if (how & (DESCRIBED | STARTED | SETTLED))
		describe(how & LITE);
	if (how & (STARTED | SETTLED))
		ice_agent_start(agent, now_us);
	drain();
	for (unsigned i = 0; (how & SETTLED) && i < 2; i++) {
		struct rd again = ok;

		answer(&again);
		pass(MS(20));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd r = rd_of(span_of(data, size));

	start(rd_u8(&r));
	for (unsigned n = 0; n < STEPS_MAX && rd_left(&r); n++)
		switch (rd_u8(&r) % N_STEPS) {
		case REQUEST: request(&r); break;
		case ANSWER: answer(&r); break;
		case SEALED: sealed(&r); break;
		case RAW: raw(&r); break;
		case TIME: pass(rd_left(&r) ? (uint64_t)rd_u8(&r) * MS(50) : 0); break;
		default: owner(&r); break;
		}
	pass(SECONDS(60));
	if (agent->started && agent->selected != ICE_NO_PAIR && !agent->consent_lost)
		abort(); /* nobody has answered for a minute */
	ice_agent_free(agent);
	ice_gather_free(gather);
	return 0;
}
