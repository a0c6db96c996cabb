/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* A message through everything that reads IKE without keys: header, chain, payloads, proposals, peek, cookies. The
 * first byte says what follows: 0 a message, else the body of a payload of that type.
 * covers: src/ike/payload.c src/ike/payload_sa.c src/ike/payload_ts.c src/ike/config_payload.c src/ike/peek.c src/ike/cookie.c
   src/ike/proposal.c */
#include <stdlib.h>
#include <string.h>

#include "base/timers.h"
#include "ike/config_payload.h"
#include "ike/peek.h"
#include "ike/proposal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What we choose from an offer, written, must be read as a choice of the same. */
static void choose(const struct ike_offer *o, enum ike_protocol protocol)
{
	static const uint8_t spi[4] = { 0xc0, 1, 2, 3 };
	struct ike_header h = { .spi_i = 1, .exchange = IKE_SA_INIT };
	const struct ike_proposal *p;
	struct ike_suite s, back;
	struct ike_list ours;
	struct ike_offer again;
	struct ike_chain c;
	struct ike_build b;
	struct span msg;
	uint8_t mem[256], number;

	ike_list_default(protocol == IKE_PROTO_ESP, &ours);
	(void)!ike_proposal_chosen(&ours, o, protocol, &s, &p);
	if (ike_proposal_choose(&ours, o, protocol, 19, &s, &p) != OK)
		return;
	number = cipher_combined(s.encr->cipher) ? 1 : 2; /* where it stands in the default list */
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_choice(&b, protocol, number, protocol == IKE_PROTO_ESP ? SPAN_OF(spi) : SPAN_NONE, &s);
	if (ike_build_done(&b, &msg) != OK || ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_SA, &c) != OK ||
	    ike_offer_parse(c.p[0].body, &again) != OK ||
	    ike_proposal_chosen(&ours, &again, protocol, &back, &p) != OK || back.encr != s.encr || back.prf != s.prf ||
	    back.group != s.group || back.integ != s.integ || back.esn != s.esn)
		abort();
}

/* What is assigned, written, says the same. */
static void assigned(struct span body)
{
	struct ike_header h = { .spi_i = 1, .exchange = IKE_AUTH };
	struct ike_cp cp, back;
	struct ike_chain c;
	struct ike_build b;
	struct span msg;
	uint8_t mem[1024], type;

	if (ike_cp_parse(body, &type, &cp) != OK || type != IKE_CFG_REPLY)
		return;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_cp(&b, IKE_CFG_REPLY, &cp);
	if (ike_build_done(&b, &msg) != OK || ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_CP, &c) != OK ||
	    !ike_cp_find(&c, IKE_CFG_REPLY, &back) || !addr_ip_eq(&cp.ip4, &back.ip4) ||
	    !addr_ip_eq(&cp.ip6, &back.ip6) || back.n_dns != cp.n_dns || back.n_subnets != cp.n_subnets)
		abort();
	for (unsigned i = 0; i < cp.n_subnets; i++)
		if (!addr_prefix_eq(&cp.subnets[i], &back.subnets[i]))
			abort();
}

/* Selectors: a narrowing lies inside both, and what we write is what we read. */
static void selectors(const struct ike_ts_list *ts)
{
	struct ike_ts_list half = *ts, both, back;
	struct ike_header h = { .spi_i = 1, .exchange = IKE_AUTH };
	struct ike_chain c;
	struct ike_build b;
	struct span msg;
	uint8_t mem[1024];

	half.n /= 2;
	if (half.n)
		half.ts[0].protocol = 6;
	ike_ts_narrow(ts, &half, &both);
	if (!ike_ts_within(&both, ts) || !ike_ts_within(&both, &half))
		abort();
	if (!ts->n)
		return;
	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_ts(&b, IKE_P_TSI, ts);
	if (ike_build_done(&b, &msg) != OK || ike_chain_parse(span_from(msg, IKE_HDR), IKE_P_TSI, &c) != OK ||
	    ike_ts_parse(c.p[0].body, &back) != OK || back.n != ts->n ||
	    memcmp(back.ts, ts->ts, ts->n * sizeof(ts->ts[0])))
		abort();
}

static void notifies(struct span data)
{
	struct ike_request q;
	struct ike_grant g;
	uint32_t request;
	uint16_t seconds;
	uint8_t reason;

	(void)!ike_request_parse(data, &q);
	(void)!ike_grant_parse(data, false, &g);
	(void)!ike_grant_parse(data, true, &g);
	(void)!ike_refuse_parse(data, &request, &reason);
	(void)!ike_wait_parse(data, &request, &seconds);
}

static void payloads(const struct ike_chain *c)
{
	struct ike_offer o;
	struct ike_ts_list ts;
	struct ike_notify n;

	if (ike_chain_check(c) != OK)
		return;
	(void)ike_notify_error(c);
	for (unsigned i = 0; i < c->n; i++) {
		if (c->p[i].type == IKE_P_SA && ike_offer_parse(c->p[i].body, &o) == OK) {
			choose(&o, IKE_PROTO_IKE);
			choose(&o, IKE_PROTO_ESP);
		}
		if ((c->p[i].type == IKE_P_TSI || c->p[i].type == IKE_P_TSR) && ike_ts_parse(c->p[i].body, &ts) == OK)
			selectors(&ts);
		if (c->p[i].type == IKE_P_CP)
			assigned(c->p[i].body);
		if (c->p[i].type == IKE_P_NOTIFY && ike_notify_parse(c->p[i].body, &n) == OK)
			notifies(n.data);
	}
}

static void dispatcher(struct span msg)
{
	static struct rng_seeded seed;
	struct rng rng = rng_seeded_init(&seed, 1);
	struct addr from = addr_ip4(0xc0000201, 4500);
	struct ike_cookies *c;
	uint8_t mem[256];
	struct wr w = wr_of(mem, sizeof(mem));
	struct ike_peek k;

	if (ike_peek(msg, &k) != OK || ike_cookies_new(&rng, &c) != OK)
		return;
	if (ike_cookies_valid(c, SECONDS(1), msg, &from))
		abort(); /* the secret is as good as random: nobody guesses it */
	if (ike_cookies_challenge(c, SECONDS(1), msg, &from, &w) == OK && ike_peek(wr_done(&w), &k) != OK)
		abort();
	ike_cookies_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ike_header h;
	struct ike_chain c;
	struct span msg;

	if (!size)
		return 0;
	msg = span_of(data + 1, size - 1);
	if (data[0]) {
		/* one payload, so that the fuzzer need not find its way through a header */
		c.n = 1;
		c.unknown_critical = 0;
		c.p[0] = (struct ike_payload){ .type = data[0], .body = msg };
		payloads(&c);
		if (data[0] == IKE_P_NOTIFY)
			notifies(msg);
		return 0;
	}
	dispatcher(msg);
	if (ike_header_parse(msg, &h) == OK && ike_chain_parse(span_from(msg, IKE_HDR), h.next, &c) == OK)
		payloads(&c);
	return 0;
}
