/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario_refuse.c - calls that are refused: the code, the sentence, and clean ends. */
#include <stdio.h>
#include <string.h>

#include "scenario.h"
#include "vpn/impl.h"

static void quiet_callee(struct world *w, const struct couple *p)
{
	if (host_event_count(p->b, VPN_EV_INCOMING) || host_event_count(p->b, VPN_EV_ENDED))
		world_fail(w, "the callee's users are told of a call that was refused");
}

static void refused(struct world *w, const struct scenario_run *r, const char *alice, const char *bob, const char *to,
		    const char *service, enum reason code)
{
	struct couple p;

	if (!pair_up_with(w, r, &p, alice, bob))
		return;
	p.call = host_call(p.a, to, service, false);
	if (until_ended(w, p.a, p.call, CALL_BOUND_US) && ended_with(w, &p, code) && code != REASON_NOT_ALLOWED &&
	    code != REASON_PIN && code != REASON_FINGERPRINT)
		quiet_callee(w, &p);
}

static void unknown_callee(struct world *w, const struct scenario_run *r)
{
	refused(w, r, peer_section(w, "nobody", ID_CAROL, NULL), NULL, "sip:nobody@" SIM_DOMAIN, NULL,
		REASON_UNKNOWN_CALLEE);
}

static void not_registered(struct world *w, const struct scenario_run *r)
{
	refused(w, r, peer_section(w, "carol", ID_CAROL, NULL), NULL, "sip:carol@" SIM_DOMAIN, NULL,
		REASON_NOT_AVAILABLE);
}

static void no_pin(struct world *w, const struct scenario_run *r)
{
	refused(w, r, NULL, NULL, BOB_AOR, NULL, REASON_LEVEL);
}

static const char *bob_grants(struct world *w, const char *user, unsigned identity, const char *allow)
{
	char *text = w->text[w->n_text++ % 8];

	(void)snprintf(text, sizeof(w->text[0]), SERVICE_DESKTOP "%s", peer_section(w, user, identity, allow));
	return text;
}

static void pin_mismatch(struct world *w, const struct scenario_run *r)
{
	refused(w, r, peer_section(w, "bob", ID_CAROL, NULL), bob_grants(w, "alice", ID_ALICE, "desktop"), BOB_AOR,
		NULL, REASON_PIN);
}

/* bob knows the caller's key, but as carol's. */
static void wrong_name(struct world *w, const struct scenario_run *r)
{
	refused(w, r, peer_section(w, "bob", ID_BOB, NULL), bob_grants(w, "carol", ID_ALICE, "desktop"), BOB_AOR, NULL,
		REASON_PIN);
}

static void no_grant(struct world *w, const struct scenario_run *r)
{
	refused(w, r, peer_section(w, "bob", ID_BOB, NULL), bob_grants(w, "alice", ID_ALICE, NULL), BOB_AOR, NULL,
		REASON_NOT_ALLOWED);
}

/* A service that exists but is not hers, and one that does not exist. */
static void other_service(struct world *w, const struct scenario_run *r)
{
	char bob[4096];

	(void)snprintf(bob, sizeof(bob), SERVICE_GAME "%s", bob_grants(w, "alice", ID_ALICE, "desktop"));
	refused(w, r, peer_section(w, "bob", ID_BOB, NULL), bob, BOB_AOR, world_below(w, 2) ? "game" : "files",
		REASON_NOT_ALLOWED);
}

static void wrong_password(struct world *w, const struct scenario_run *r)
{
	struct host_setup s = {
		.user = "alice", .identity = ID_ALICE, .nat = r->nat[0], .password = "wrong-wrong-wrong-wrong-1"
	};
	struct host *a;
	unsigned call;

	s.extra = peer_section(w, "bob", ID_BOB, NULL);
	s.udp_signalling = world_below(w, 2);
	a = host_new(w, &s);
	if (!host_start(a))
		return;
	world_for(w, world_below(w, SECONDS(3)));
	call = host_call(a, BOB_AOR, NULL, false);
	if (until_ended(w, a, call, SECONDS(40)) && host_event(a, VPN_EV_ENDED, call)->code != REASON_PASSWORD)
		world_fail(w, "ended with %d: %s", (int)host_event(a, VPN_EV_ENDED, call)->code,
			   host_event(a, VPN_EV_ENDED, call)->reason);
}

static void no_exchange(struct world *w, const struct scenario_run *r)
{
	struct host_setup s = { .user = "alice", .identity = ID_ALICE, .nat = r->nat[0] };
	struct host *a;
	unsigned call;

	s.extra = peer_section(w, "bob", ID_BOB, NULL);
	s.udp_signalling = world_below(w, 2);
	w->exchange_cut = world_below(w, 2); /* no answer at all, or a closed port */
	if (!w->exchange_cut)
		exch_kill(w);
	a = host_new(w, &s);
	if (!host_start(a))
		return;
	world_for(w, world_below(w, SECONDS(3)));
	call = host_call(a, BOB_AOR, NULL, false);
	if (until_ended(w, a, call, SECONDS(15)) && host_event(a, VPN_EV_ENDED, call)->code != REASON_EXCHANGE)
		world_fail(w, "ended with %d: %s", (int)host_event(a, VPN_EV_ENDED, call)->code,
			   host_event(a, VPN_EV_ENDED, call)->reason);
}

/* All calls of bob's are taken by carol's one. */
static void busy(struct world *w, const struct scenario_run *r)
{
	struct host_setup a = { .user = "alice", .identity = ID_ALICE, .nat = r->nat[0] },
			  b = { .user = "bob", .identity = ID_BOB }, c = { .user = "carol", .identity = ID_CAROL };
	struct couple alice, carol;
	char bob[4096];

	(void)snprintf(bob, sizeof(bob), "%s%s", bob_grants(w, "alice", ID_ALICE, "desktop"),
		       peer_section(w, "carol", ID_CAROL, "desktop"));
	a.extra = c.extra = peer_section(w, "bob", ID_BOB, NULL);
	b.extra = bob;
	b.daemon = "max-calls = 1\n";
	carol.a = host_new(w, &c);
	alice.a = host_new(w, &a);
	alice.b = carol.b = host_new(w, &b);
	world_allow(w, carol.a, carol.b, 6, 5900);
	if (!start_all(w) || (!dial(w, &carol, NULL) && w->failed) || !both_up(w, &carol))
		return;
	(void)dial(w, &alice, NULL);
	if (w->failed)
		return;
	if (!host_event(alice.a, VPN_EV_ENDED, alice.call) ||
	    host_event(alice.a, VPN_EV_ENDED, alice.call)->code != REASON_BUSY)
		world_fail(w, "not busy");
	else if (traffic(w, &carol, 5900))
		host_hangup(carol.a, carol.call);
}

/* What bob signs is not what his IKE shows: a broken or hostile peer. */
static void wrong_fingerprint(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!pair_up(w, r, &p))
		return;
	p.b->vpn->cert_hash[0] ^= 1;
	(void)dial(w, &p, NULL);
	if (!w->failed)
		(void)ended_with(w, &p, REASON_FINGERPRINT);
}

/* A stranger learns nothing: no packet but one SIP response, no event, and the same end in the same time as for a device
 * that is not there. */
static void stranger(struct world *w, const struct scenario_run *r)
{
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = r->nat[1] },
			  m = { .user = "mallory", .identity = ID_MALLORY, .nat = r->nat[0] };
	struct couple p;
	uint64_t absent_us, stranger_us, began;
	uint64_t n_ike, n_stun;
	unsigned n_audit;
	char text[4096];

	w->loss_ppm = w->reorder_ppm = w->dup_ppm = 0; /* times are compared */
	(void)snprintf(text, sizeof(text), "%s%s", peer_section(w, "bob", ID_BOB, NULL),
		       peer_section(w, "carol", ID_CAROL, NULL));
	m.extra = text;
	b.extra = bob_grants(w, "alice", ID_ALICE, "desktop");
	p.a = host_new(w, &m);
	p.b = host_new(w, &b);
	if (!start_all(w))
		return;
	world_for(w, SECONDS(5));
	began = w->now_us;
	p.call = host_call(p.a, "sip:carol@" SIM_DOMAIN, NULL, false);
	if (!until_ended(w, p.a, p.call, SECONDS(40)) || !ended_with(w, &p, REASON_NOT_AVAILABLE))
		return;
	absent_us = w->now_us - began;
	world_for(w, SECONDS(1));
	n_ike = p.b->n_ike_out;
	n_stun = p.b->n_stun_out;
	n_audit = p.b->n_audit;
	began = w->now_us;
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	if (!until_ended(w, p.a, p.call, SECONDS(40)) || !ended_with(w, &p, REASON_NOT_AVAILABLE))
		return;
	stranger_us = w->now_us - began;
	if (absent_us > stranger_us + MS(20) || stranger_us > absent_us + MS(20) || absent_us < SECONDS(1))
		world_fail(w, "a stranger sees a difference: %llu ms for nobody there, %llu ms for a device",
			   (unsigned long long)absent_us / 1000, (unsigned long long)stranger_us / 1000);
	/* one Binding request may be the keepalive to the STUN server */
	if (p.b->n_ike_out != n_ike || p.b->n_stun_out > n_stun + 1 || p.b->n_audit != n_audit)
		world_fail(w, "a stranger's call causes packets or lines in the audit log");
	quiet_callee(w, &p);
}

/* --trust-first: the first key is remembered, and from then on it is the pin. */
static void trust_first(struct world *w, const struct scenario_run *r)
{
	char bob[4096];
	struct couple p;
	unsigned call;

	(void)snprintf(bob, sizeof(bob), "%s", bob_grants(w, "alice", ID_ALICE, "desktop"));
	if (!pair_up_with(w, r, &p, NULL, bob))
		return;
	world_allow(w, p.a, p.b, 6, 5900);
	call = p.call = host_call(p.a, BOB_AOR, NULL, true);
	world_for(w, SECONDS(40));
	if (!both_up(w, &p) || !traffic(w, &p, 5900))
		return;
	if (host_event(p.a, VPN_EV_UP, call)->level != LEVEL_TOFU || !p.a->n_saves)
		world_fail(w, "the first key was not remembered");
	host_hangup(p.a, call);
	if (w->failed || !both_clean(w, &p, OTHER_END_US))
		return;
	host_kill(p.a); /* the pins file lives on */
	if (!start_all(w) || (!dial(w, &p, NULL) && w->failed))
		return;
	if (!both_up(w, &p))
		return;
	host_hangup(p.a, p.call);
	if (!both_clean(w, &p, OTHER_END_US))
		return;
	/* another device takes bob's name */
	host_kill(p.b);
	p.b->identity = pool_identity(ID_CAROL);
	if (!start_all(w))
		return;
	(void)dial(w, &p, NULL);
	if (!w->failed)
		(void)ended_with(w, &p, REASON_PIN);
}

/* No local port can be opened for what was granted. */
static void no_forward(struct world *w, const struct scenario_run *r)
{
	struct couple p;

	if (!pair_up(w, r, &p))
		return;
	p.a->refuse_forwards = true;
	(void)dial(w, &p, NULL);
	if (!w->failed)
		(void)ended_with(w, &p, REASON_USAGE);
}

/* Bob's clock is wrong by more than an offer's freshness: the caller is told, and so is who asks for bob's status. */
static void wrong_clock(struct world *w, const struct scenario_run *r)
{
	struct host_setup a = {
		.user = "alice", .identity = ID_ALICE, .nat = r->nat[0], .extra = peer_section(w, "bob", ID_BOB, NULL)
	};
	struct host_setup b = { .user = "bob", .identity = ID_BOB, .nat = r->nat[1], .clock_off_s = 400 };
	struct vpn_account_status s;
	struct couple p;

	b.extra = bob_grants(w, "alice", ID_ALICE, "desktop");
	p.a = host_new(w, &a);
	p.b = host_new(w, &b);
	if (!start_all(w))
		return;
	if (!vpn_account_status(p.a->vpn, 0, &s) || s.clock_off_s || !vpn_account_status(p.b->vpn, 0, &s) ||
	    s.clock_off_s > -395 || s.clock_off_s < -405) {
		world_fail(w, "the status says the clock is off by %lld s", (long long)s.clock_off_s);
		return;
	}
	p.call = host_call(p.a, BOB_AOR, NULL, false);
	if (until_ended(w, p.a, p.call, SECONDS(40)))
		(void)ended_with(w, &p, REASON_SECURITY_LINES);
}

static const struct {
	const char *name;
	void (*run)(struct world *w, const struct scenario_run *r);
} rows[] = {
	{ "unknown-callee", unknown_callee },
	{ "not-registered", not_registered },
	{ "no-pin", no_pin },
	{ "pin-mismatch", pin_mismatch },
	{ "wrong-name", wrong_name },
	{ "no-grant", no_grant },
	{ "other-service", other_service },
	{ "wrong-password", wrong_password },
	{ "no-exchange", no_exchange },
	{ "busy", busy },
	{ "wrong-fingerprint", wrong_fingerprint },
	{ "stranger", stranger },
	{ "trust-first", trust_first },
	{ "no-forward", no_forward },
	{ "wrong-clock", wrong_clock },
};

unsigned refuse_variants(void)
{
	return sizeof(rows) / sizeof(rows[0]);
}

const char *refuse_name(unsigned i)
{
	return rows[i].name;
}

void run_refuse(struct world *w, const struct scenario_run *r)
{
	rows[r->variant].run(w, r);
}
