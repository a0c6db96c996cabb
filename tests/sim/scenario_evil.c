/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_evil.c - a hostile exchange, and an attacker with a complete daemon of its own. */
#include <stdio.h>
#include <string.h>

#include "scenario.h"
#include "vpn/impl.h"

/* The attacker's daemon claims to be `as`; it knows the keys of both as their peers do. */
static struct host *attacker(struct world *w, const char *as, const char *registers_as)
{
	struct host_setup m = { .user = registers_as, .aor_user = as, .identity = ID_MALLORY };
	char *text = w->text[w->n_text++ % 8];

	(void)snprintf(text, sizeof(w->text[0]), SERVICE_DESKTOP "%s%s",
		       strcmp(as, "alice") ? peer_section(w, "alice", ID_ALICE, "desktop") : "",
		       strcmp(as, "bob") ? peer_section(w, "bob", ID_BOB, "desktop") : "");
	m.extra = text;
	return host_new(w, &m);
}

/* A description of its own in the place of the true one: signed, well formed, with working candidates. */
static bool attack_offer(struct world *w, struct span theirs, struct wr *body)
{
	struct host *m = w->hosts[2];
	struct call *c = vpn_call_new(m->vpn, w->now_us, 0, true);
	size_t len;

	(void)theirs;
	if (!c)
		return false;
	(void)snprintf(c->peer, sizeof(c->peer), BOB_AOR);
	c->state = CALL_INVITING;
	c->deadline_us = w->now_us + SECONDS(30);
	if (describe_offer(m->vpn, c, &len) != OK)
		return false;
	wr_bytes(body, m->vpn->text, len);
	return true;
}

static bool attack_answer(struct world *w, struct span theirs, struct wr *body)
{
	struct host *m = w->hosts[2];
	struct call *c = vpn_call_new(m->vpn, w->now_us, 0, false);
	struct span invite = span_of(w->evil.recorded, w->evil.recorded_len), offer;
	unsigned index;
	size_t canon_len, len;

	(void)theirs;
	if (!c)
		return false;
	offer = span_from(invite, span_find_span(invite, SPAN_LIT("\r\n\r\n")) + 4);
	c->state = CALL_CONNECTING;
	c->deadline_us = w->now_us + SECONDS(30);
	if (!describe_check_offer(m->vpn, c, SPAN_NONE, offer, &index, &canon_len).ok ||
	    describe_answer(m->vpn, c, span_of(m->vpn->canon, canon_len), index, &len) != OK) {
		world_fail(w, "the attacker could not make an answer");
		return false;
	}
	wr_bytes(body, m->vpn->text, len);
	tunnel_begin(m->vpn, c, w->now_us);
	host_drain(m);
	return true;
}

static void nobody_else(struct world *w, const struct host *m)
{
	if (host_event_count(m, VPN_EV_UP) || host_event_count(m, VPN_EV_AUTHENTICATED) ||
	    host_event_count(m, VPN_EV_GRANTED) || m->n_peers)
		world_fail(w, "the attacker got through");
}

void run_evil(struct world *w, const struct scenario_run *r)
{
	struct scenario_run mine = *r;
	struct couple p;
	unsigned i = r->variant;
	const struct vpn_event *e;

	any_nats(w, &mine);
	if (!pair_up(w, &mine, &p))
		return;
	w->evil.case_index = i;
	if (evil_wants_attacker(i)) {
		if (!host_start(attacker(w, evil_on_answer(i) ? "bob" : "alice", "mallory")))
			return;
		world_for(w, SECONDS(1));
		w->evil.attack = evil_on_answer(i) ? attack_answer : attack_offer;
	}
	(void)dial(w, &p, NULL);
	if (w->failed)
		return;
	if (!w->evil.n_hits && i) {
		world_fail(w, "the proxy found nothing to change");
		return;
	}
	e = host_event(p.a, VPN_EV_ENDED, p.call);
	if (!e) {
		if (!evil_may_come_up(i))
			world_fail(w, "the call came up although the proxy changed it");
		else if (both_up(w, &p) && traffic(w, &p, 5900))
			host_hangup(p.a, p.call);
	} else if (!evil_code_right(i, (int)e->code)) {
		world_fail(w, "ended with %d: %s", (int)e->code, e->reason);
	} else if (host_event_count(p.b, VPN_EV_UP) || p.a->n_peers || p.b->n_peers) {
		world_fail(w, "somebody was up");
	}
	if (!w->failed && !evil_on_answer(i) && !evil_may_come_up(i) && host_event_count(p.b, VPN_EV_INCOMING))
		world_fail(w, "the callee rang for a changed offer");
	if (!w->failed && evil_wants_attacker(i))
		nobody_else(w, w->hosts[2]);
	if (!w->failed)
		(void)both_clean(w, &p, CALL_BOUND_US);
}

/* ---- attacks that are no single change ---- */

/* The proxy sends the recorded INVITE again, with another Call-ID and branch: a new request to SIP, an old offer to us. */
static void send_recorded(struct world *w, unsigned n)
{
	static uint8_t mem[65536];
	struct wr out = wr_of(mem, sizeof(mem));
	struct span m = span_of(w->evil.recorded, w->evil.recorded_len);
	struct out o = { .kind = OUT_SEND, .path = w->evil.recorded_path };

	while (m.len) {
		size_t len = span_find(m, '\n');
		struct span line = span_sub(m, 0, len + 1);

		m = span_from(m, len + 1);
		if (span_istarts(line, "call-id:"))
			wr_fmt(&out, "Call-ID: again-%u-%llu\r\n", n, (unsigned long long)w->now_us);
		else if (span_istarts(line, "via:") && span_find_span(line, SPAN_LIT("198.51.100.1")) < line.len)
			wr_fmt(&out, "Via: SIP/2.0/TCP 198.51.100.1:5060;branch=z9hG4bKagain%u%llu\r\n", n,
			       (unsigned long long)w->now_us);
		else
			wr_span(&out, line);
	}
	o.bytes = wr_done(&out);
	world_trace(w, "evil proxy: sends the recorded INVITE again");
	stream_output_exchange(w, &o);
}

static void replay(struct world *w, const struct scenario_run *r)
{
	static const uint64_t later[] = { 1, 20, 350, 1000 };
	struct couple p;
	unsigned n_incoming;
	uint64_t n_ike;

	if (!pair_up(w, r, &p) || (!dial(w, &p, NULL) && w->failed) || !both_up(w, &p))
		return;
	n_incoming = host_event_count(p.b, VPN_EV_INCOMING);
	send_recorded(w, 0); /* while the call is up */
	world_for(w, SECONDS(2));
	if (host_calls(p.b) != 1 || !traffic(w, &p, 5900))
		world_fail(w, "a repeated offer changed a running call");
	host_hangup(p.a, p.call);
	if (w->failed || !both_clean(w, &p, OTHER_END_US))
		return;
	world_for(w, SECONDS(10));
	n_ike = p.b->n_ike_out;
	for (unsigned i = 0; i < sizeof(later) / sizeof(later[0]) && !w->failed; i++) {
		world_for(w, SECONDS(later[i]));
		send_recorded(w, 1 + i);
		for (int k = 0; k < 30; k++) {
			world_for(w, MS(100));
			if (host_calls(p.b))
				world_fail(w, "a repeated offer made a call");
		}
	}
	if (host_event_count(p.b, VPN_EV_INCOMING) != n_incoming || p.b->n_ike_out != n_ike)
		world_fail(w, "a repeated offer had an effect");
}

/* The exchange gives bob's name to the attacker's device as well: two answers, one is pinned. */
static void fork_attack(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	struct host *m;

	if (!pair_up(w, r, &p))
		return;
	m = attacker(w, "bob", "bob");
	if (!host_start(m) || !start_all(w))
		return;
	if (!dial(w, &p, NULL)) {
		/* the true answer came more than the wait for forks after the false one: service is denied */
		if (!w->failed)
			(void)ended_with(w, &p, REASON_PIN);
		nobody_else(w, m);
		return;
	}
	if (!both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	nobody_else(w, m);
	host_hangup(p.a, p.call);
	if (!w->failed && both_clean(w, &p, OTHER_END_US) && host_calls(m)) {
		world_for(w, CALL_BOUND_US);
		if (host_calls(m))
			world_fail(w, "the other answerer's call is still there");
	}
}

/* The same towards a caller who knows no key yet and says --trust-first: neither of two answers is taken (docs/threat-model.md). */
static void fork_unpinned(struct world *w, const struct scenario_run *r)
{
	char bob[4096];
	struct couple p;
	struct host *m;

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP "%s", peer_section(w, "alice", ID_ALICE, "desktop"));
	if (!pair_up_with(w, r, &p, NULL, bob))
		return;
	m = attacker(w, "bob", "bob");
	if (!host_start(m) || !start_all(w))
		return;
	p.call = host_call(p.a, BOB_AOR, NULL, true);
	if (!until_ended(w, p.a, p.call, SECONDS(40)))
		return;
	if (trust_has_aor(vpn_trust(p.a->vpn), BOB_AOR))
		world_fail(w, "one of two unknown keys is remembered");
	(void)ended_with(w, &p, REASON_LEVEL);
}

/* Only the attacker's device is there under bob's name. */
static void impostor(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	struct host *m;

	if (!pair_up(w, r, &p))
		return;
	host_kill(p.b);
	world_for(w, SECONDS(2));
	m = attacker(w, "bob", "bob");
	if (!host_start(m))
		return;
	world_for(w, SECONDS(5));
	(void)dial(w, &p, NULL);
	if (w->failed || !until_ended(w, p.a, p.call, SECONDS(40)))
		return;
	nobody_else(w, m);
	(void)ended_with(w, &p, REASON_PIN);
}

/* The attacker is a known peer under its own name, and claims alice's. */
static void known_impostor(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	char bob[4096];

	(void)snprintf(bob, sizeof(bob), SERVICE_DESKTOP "%s%s", peer_section(w, "alice", ID_ALICE, "desktop"),
		       peer_section(w, "mallory", ID_MALLORY, NULL));
	if (!pair_up_with(w, r, &p, peer_section(w, "bob", ID_BOB, NULL), bob) ||
	    !host_start(attacker(w, "alice", "mallory")))
		return;
	world_for(w, SECONDS(1));
	for (unsigned i = 0; i < evil_cases(); i++)
		if (evil_wants_attacker(i) && !evil_on_answer(i))
			w->evil.case_index = i;
	w->evil.attack = attack_offer;
	(void)dial(w, &p, NULL);
	if (w->failed)
		return;
	nobody_else(w, w->hosts[2]);
	if (host_event_count(p.b, VPN_EV_INCOMING))
		world_fail(w, "the callee rang for it");
	(void)ended_with(w, &p, REASON_PIN);
}

/* Somebody on the wire repeats every datagram from another address; once the tunnel is up, also damaged (before that a damaged
 * IKE_SA_INIT that overtakes the true one denies service: RFC 7296, 2.21.1). */
static void wire(struct world *w, const struct scenario_run *r)
{
	struct couple p;
	unsigned sent = 0;

	w->loss_ppm = 0;
	w->evil.echoes = true;
	if (!pair_up(w, r, &p) || (!dial(w, &p, NULL) && w->failed) || !both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	w->evil.damages = true;
	world_for(w, SECONDS(2));
	p.b->inner.n_echo_in = 0;
	for (; sent < 20 && !w->failed; sent++) {
		inner_ping(p.a, p.b);
		world_for(w, MS(150));
	}
	world_for(w, SECONDS(1));
	if (p.b->inner.n_echo_in != sent)
		world_fail(w, "%u echoes sent, %u delivered", sent, p.b->inner.n_echo_in);
	world_for(w, SECONDS(60));
	if (w->failed || !traffic(w, &p, 5900))
		return;
	host_hangup(p.a, p.call);
	(void)both_clean(w, &p, OTHER_END_US);
}

static const struct {
	const char *name;
	void (*run)(struct world *w, const struct scenario_run *r);
} rows[] = {
	{ "replay", replay },
	{ "fork", fork_attack },
	{ "fork-unpinned", fork_unpinned },
	{ "impostor", impostor },
	{ "known-impostor", known_impostor },
	{ "wire", wire },
};

unsigned attack_variants(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const char *attack_name(unsigned i)
{
	return rows[i].name;
}

void run_attack(struct world *w, const struct scenario_run *r)
{
	struct scenario_run mine = *r;

	any_nats(w, &mine);
	rows[r->variant].run(w, &mine);
}
