/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* tests/sim/scenario.h - what the scenarios share. */
#pragma once
#include "sim.h"

#define ALICE_AOR "sip:alice@" SIM_DOMAIN
#define BOB_AOR "sip:bob@" SIM_DOMAIN
/* From the command to the end, whatever happens: registration and own address 8 s, ringing 30 s, set-up 75 s. */
#define CALL_BOUND_US SECONDS(8 + 30 + 75)
/* The other end is clean so much later: it waits a little longer for a path, or hears the BYE or DELETE. */
#define OTHER_END_US SECONDS(60)

struct couple {
	struct host *a, *b;
	unsigned call;
};

/* Of both ends, drawn among those between which a call comes up. */
void any_nats(struct world *w, struct scenario_run *r);
/* alice who calls and bob who grants desktop, both registered; false: failed. */
bool pair_up(struct world *w, const struct scenario_run *r, struct couple *p);
/* The same with sections of their own. */
bool pair_up_with(struct world *w, const struct scenario_run *r, struct couple *p, const char *alice, const char *bob);
bool start_all(struct world *w); /* every host that is not running; until all are registered */
/* alice calls; until her end is up or over. True: up. */
bool dial(struct world *w, struct couple *p, const char *service);
/* Both ends are up (false: failed), and hold the same. */
bool both_up(struct world *w, struct couple *p);
/* Ping both ways and a connection to a granted TCP port, over a lossy network. */
bool traffic(struct world *w, struct couple *p, uint16_t port);
/* alice's call has ended with this code; and both ends are clean soon. */
bool ended_with(struct world *w, struct couple *p, enum reason code);
bool both_clean(struct world *w, struct couple *p, uint64_t limit_us);
bool until_ended(struct world *w, const struct host *h, unsigned call, uint64_t limit_us);

/* scenario_call.c */
void run_call(struct world *w, const struct scenario_run *r);
void run_two(struct world *w, const struct scenario_run *r);
void run_third(struct world *w, const struct scenario_run *r);
void run_lan(struct world *w, const struct scenario_run *r);
void run_ip6(struct world *w, const struct scenario_run *r);
void run_provider(struct world *w, const struct scenario_run *r);
/* scenario_refuse.c */
void run_refuse(struct world *w, const struct scenario_run *r);
unsigned refuse_variants(void);
const char *refuse_name(unsigned i);
/* scenario_ask.c */
void run_ask(struct world *w, const struct scenario_run *r);
unsigned ask_variants(void);
const char *ask_name(unsigned i);
/* scenario_network.c */
void run_network(struct world *w, const struct scenario_run *r);
unsigned network_variants(void);
const char *network_name(unsigned i);
/* scenario_trouble.c */
void run_trouble(struct world *w, const struct scenario_run *r);
unsigned trouble_variants(void);
const char *trouble_name(unsigned i);
/* scenario_rekey.c */
void run_rekey(struct world *w, const struct scenario_run *r);
unsigned rekey_variants(void);
const char *rekey_name(unsigned i);
/* scenario_mtu.c */
void run_mtu(struct world *w, const struct scenario_run *r);
unsigned mtu_variants(void);
const char *mtu_name(unsigned i);
/* scenario_move.c */
/* Another pair that passed a check is nominated, as if it had become the better one. False: there is none. */
bool nominate_other(struct host *h);
void run_move(struct world *w, const struct scenario_run *r);
unsigned move_variants(void);
const char *move_name(unsigned i);
/* scenario_evil.c */
void run_evil(struct world *w, const struct scenario_run *r);
void run_attack(struct world *w, const struct scenario_run *r);
unsigned attack_variants(void);
const char *attack_name(unsigned i);
