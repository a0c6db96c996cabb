/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Configuration payloads: form, and on their way through IKE_AUTH and CREATE_CHILD_SA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "harness.h"
#include "ike/config_payload.h"
#include "ike_pair.h"

#define ALL                                                                                                            \
	(IKE_CP_BIT(IKE_CP_IP4_ADDRESS) | IKE_CP_BIT(IKE_CP_IP4_NETMASK) | IKE_CP_BIT(IKE_CP_IP4_DNS) |                \
	 IKE_CP_BIT(IKE_CP_IP6_ADDRESS) | IKE_CP_BIT(IKE_CP_IP6_DNS) | IKE_CP_BIT(IKE_CP_IP4_SUBNET) |                 \
	 IKE_CP_BIT(IKE_CP_IP6_SUBNET))

static struct addr ip(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse_ip(span_str(text), &a), OK);
	return a;
}

static struct addr_prefix prefix(const char *text)
{
	struct addr_prefix p;

	assert_int_equal(addr_prefix_parse(span_str(text), &p), OK);
	return p;
}

static struct ike_cp example(void)
{
	return (struct ike_cp){ .there = true,
				.asks = ALL,
				.ip4 = ip("198.51.100.234"),
				.ip4_len = 26,
				.ip6 = ip("2001:db8::5"),
				.dns = { ip("198.51.100.1"), ip("2001:db8::53") },
				.n_dns = 2,
				.subnets = { prefix("198.51.100.192/26"), prefix("2001:db8::/64") },
				.n_subnets = 2 };
}

/* The payload's body, in static memory. */
static struct span built(enum ike_cfg_type type, const struct ike_cp *cp)
{
	static uint8_t mem[1024];
	struct ike_header h = { .spi_i = 1, .exchange = IKE_AUTH };
	static struct ike_chain chain;
	struct ike_build b;
	struct span msg;

	ike_build_start(&b, mem, sizeof(mem), &h);
	ike_build_cp(&b, type, cp);
	assert_int_equal(ike_build_done(&b, &msg), OK);
	assert_int_equal(ike_chain_parse(span_from(msg, IKE_HDR), msg.p[16], &chain), OK);
	assert_int_equal(chain.n, 1);
	assert_int_equal(chain.p[0].type, IKE_P_CP);
	assert_int_equal(ike_chain_check(&chain), OK);
	return chain.p[0].body;
}

static void bytes(void **state)
{
	static const uint8_t want[] = {
		2,  0,  0, 0, /* CFG_REPLY */
		0,  1,  0, 4,   198,  51,   100,  234, /* INTERNAL_IP4_ADDRESS */
		0,  2,  0, 4,   255,  255,  255,  192, /* INTERNAL_IP4_NETMASK */
		0,  8,  0, 17,  0x20, 0x01, 0x0d, 0xb8, 0,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 5,    128,
		0,  3,  0, 4,   198,  51,   100,  1, /* INTERNAL_IP4_DNS */
		0,  10, 0, 16,  0x20, 0x01, 0x0d, 0xb8, 0,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0x53, 0,
		13, 0,  8, 198, 51,   100,  192,  255,  255, 255, 192, /* INTERNAL_IP4_SUBNET */
		0,  15, 0, 17,  0x20, 0x01, 0x0d, 0xb8, 0,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0,    64,
	};
	static const uint8_t request[] = { 1, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0 };
	struct ike_cp cp = example();
	struct span body = built(IKE_CFG_REPLY, &cp);

	(void)state;
	assert_int_equal(body.len, sizeof(want));
	assert_memory_equal(body.p, want, sizeof(want));
	cp.asks = IKE_CP_BIT(IKE_CP_IP4_ADDRESS) | IKE_CP_BIT(IKE_CP_IP4_DNS) | IKE_CP_BIT(IKE_CP_IP6_ADDRESS);
	body = built(IKE_CFG_REQUEST, &cp);
	assert_int_equal(body.len, sizeof(request));
	assert_memory_equal(body.p, request, sizeof(request));
	/* of a reply goes out what was asked for */
	cp.asks = IKE_CP_BIT(IKE_CP_IP6_DNS);
	assert_int_equal(built(IKE_CFG_REPLY, &cp).len, 4 + 4 + 16);
	cp.asks = IKE_CP_BIT(IKE_CP_IP4_NETMASK); /* 3.15.1: with an address only */
	assert_int_equal(built(IKE_CFG_REPLY, &cp).len, 4);
}

static void round_trip(void **state)
{
	struct ike_cp cp = example(), got;
	uint8_t type;

	(void)state;
	assert_int_equal(ike_cp_parse(built(IKE_CFG_REPLY, &cp), &type, &got), OK);
	assert_int_equal(type, IKE_CFG_REPLY);
	assert_int_equal(got.asks, ALL);
	assert_true(addr_ip_eq(&got.ip4, &cp.ip4) && addr_ip_eq(&got.ip6, &cp.ip6));
	assert_int_equal(got.ip4_len, 26);
	assert_int_equal(got.n_dns, 2);
	assert_true(addr_ip_eq(&got.dns[0], &cp.dns[0]) && addr_ip_eq(&got.dns[1], &cp.dns[1]));
	assert_int_equal(got.n_subnets, 2);
	assert_true(addr_prefix_eq(&got.subnets[0], &cp.subnets[0]));
	assert_true(addr_prefix_eq(&got.subnets[1], &cp.subnets[1]));
	assert_int_equal(ike_cp_parse(built(IKE_CFG_REQUEST, &cp), &type, &got), OK);
	assert_int_equal(got.asks, ALL);
	assert_int_equal(got.ip4.family, ADDR_NONE);
}

static void truncated(void **state)
{
	struct ike_cp cp = example(), got;
	struct span body = built(IKE_CFG_REPLY, &cp);
	uint8_t type;
	unsigned n_ok = 0;

	(void)state;
	for (size_t len = 0; len < body.len; len++) {
		uint8_t *copy = malloc(len ? len : 1);

		memcpy(copy, body.p, len);
		n_ok += ike_cp_parse(span_of(copy, len), &type, &got) == OK;
		free(copy);
	}
	assert_int_equal(n_ok, 7); /* between two attributes, and before the first */
}

static enum err parse(const uint8_t *p, size_t len, struct ike_cp *ret)
{
	uint8_t type;

	return ike_cp_parse(span_of(p, len), &type, ret);
}

static void odd(void **state)
{
	static const uint8_t unknown[] = { 2, 0, 0, 0, 0, 7, 0, 2, 'v', '1', 0x40, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0, 9 };
	static const uint8_t reserved_bit[] = { 2, 9, 9, 9, 0x80, 1, 0, 4, 10, 0, 0, 9 };
	static const uint8_t wrong_length[] = { 2, 0, 0, 0, 0, 1, 0, 3, 10, 0, 0 };
	static const uint8_t twice[] = { 2, 0, 0, 0, 0, 1, 0, 4, 10, 0, 0, 9, 0, 1, 0, 4, 10, 0, 0, 10 };
	static const uint8_t nobody[] = { 2, 0, 0,   0, 0, 1, 0, 4, 0, 0, 0,   0, 0, 3,
					  0, 4, 224, 0, 0, 1, 0, 3, 0, 4, 127, 0, 0, 1 };
	static const uint8_t mask[] = { 2,   0, 0, 0,  0, 13, 0,  8, 10, 1, 2,   3,   255, 0,
					255, 0, 0, 13, 0, 8,  10, 1, 2,  3, 255, 255, 0,   0 };
	static const uint8_t wide[] = {
		2, 0, 0, 0, 0, 15, 0, 17, 0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 129
	};
	static const uint8_t suggestion[] = { 1, 0, 0, 0, 0, 1, 0, 4, 10, 0, 0, 9 };
	uint8_t many[4 + 40 * 8] = { 2 };
	struct ike_cp cp;
	struct addr a = ip("10.0.0.9");

	(void)state;
	assert_int_equal(parse(unknown, sizeof(unknown), &cp), OK);
	assert_true(addr_ip_eq(&cp.ip4, &a));
	assert_int_equal(cp.asks, IKE_CP_BIT(IKE_CP_IP4_ADDRESS));
	assert_int_equal(parse(reserved_bit, sizeof(reserved_bit), &cp), OK);
	assert_true(addr_ip_eq(&cp.ip4, &a));
	assert_int_equal(parse(wrong_length, sizeof(wrong_length), &cp), ERR_MALFORMED);
	assert_int_equal(parse(twice, sizeof(twice), &cp), OK);
	assert_true(addr_ip_eq(&cp.ip4, &a));
	assert_int_equal(parse(nobody, sizeof(nobody), &cp), OK);
	assert_int_equal(cp.ip4.family, ADDR_NONE);
	assert_int_equal(cp.n_dns, 0);
	assert_int_equal(parse(mask, sizeof(mask), &cp), OK);
	assert_int_equal(cp.n_subnets, 1);
	assert_int_equal(cp.subnets[0].len, 16);
	assert_int_equal(cp.subnets[0].base.ip[2], 0);
	assert_int_equal(parse(wide, sizeof(wide), &cp), OK);
	assert_int_equal(cp.n_subnets, 0);
	assert_int_equal(parse(suggestion, sizeof(suggestion), &cp), OK);
	assert_int_equal(cp.ip4.family, ADDR_NONE);
	for (unsigned i = 0; i < 40; i++)
		memcpy(many + 4 + i * 8, (uint8_t[]){ 0, 3, 0, 4, 10, 0, 0, (uint8_t)(i + 1) }, 8);
	assert_int_equal(parse(many, sizeof(many), &cp), OK);
	assert_int_equal(cp.n_dns, IKE_CP_DNS_MAX);
}

/* ---- through the exchanges ---- */

static struct ike_ts range4(const char *lo, const char *hi)
{
	struct addr a = ip(lo), b = ip(hi);
	struct ike_ts t = { .family = ADDR_IP4, .port_hi = 65535 };

	memcpy(t.ip_lo, a.ip, 4);
	memcpy(t.ip_hi, b.ip, 4);
	return t;
}

/* alice asks, and proposes everything beside the two addresses; bob has a network for her. */
static void join(struct pair *p)
{
	pair_init(p, 1);
	p->cfg[ALICE].cp_asks = ALL;
	p->cfg[ALICE].tsi.ts[p->cfg[ALICE].tsi.n++] = range4("0.0.0.0", "255.255.255.255");
	p->cfg[ALICE].tsr.ts[p->cfg[ALICE].tsr.n++] = range4("0.0.0.0", "255.255.255.255");
	p->decision.grants[0] = (struct ike_grant){ .request = 7, .id = 101, .name = "lan" };
	p->decision.n_grants = 1;
	p->decision.ts_local.ts[0] = range4("198.51.100.192", "198.51.100.255");
	p->decision.ts_peer.ts[0] = range4("198.51.100.234", "198.51.100.234");
	p->decision.cp = example();
	assert_int_equal(pair_new(p), OK);
	assert_int_equal(ike_sa_start(p->sa[ALICE], p->now_us, &p->path[ALICE]), OK);
}

static void in_auth(void **state)
{
	struct pair p;
	const struct ike_event *up = &p.last[ALICE][IKE_EV_CHILD_UP];

	(void)state;
	join(&p);
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p) && pair_child_same(&p, 0));
	assert_true(p.last[BOB][IKE_EV_ASKED].cp.there);
	assert_int_equal(p.last[BOB][IKE_EV_ASKED].cp.asks, ALL);
	assert_true(up->cp.there && addr_ip_eq(&up->cp.ip4, &p.decision.cp.ip4));
	assert_int_equal(up->cp.n_dns, 2);
	assert_int_equal(p.last[ALICE][IKE_EV_GRANT].grant.protocol, 0);
	assert_int_equal(p.children[ALICE][0].ts_peer.n, 1);
	assert_int_equal(p.children[ALICE][0].ts_peer.ts[0].family, ADDR_IP4);
	assert_false(p.last[BOB][IKE_EV_CHILD_UP].cp.there);
	pair_done(&p);
}

/* A service is granted: the wide selectors change nothing, and nothing is assigned. */
static void in_auth_service(void **state)
{
	struct pair p, plain;

	(void)state;
	pair_init(&plain, 1);
	assert_int_equal(pair_new(&plain), OK);
	assert_int_equal(ike_sa_start(plain.sa[ALICE], plain.now_us, &plain.path[ALICE]), OK);
	pair_for(&plain, SECONDS(1));
	pair_init(&p, 1);
	p.cfg[ALICE].cp_asks = ALL;
	p.cfg[ALICE].tsi.ts[1] = p.cfg[ALICE].tsr.ts[1] = range4("0.0.0.0", "255.255.255.255");
	p.cfg[ALICE].tsi.ts[2] = p.cfg[ALICE].tsr.ts[2] = (struct ike_ts){ .family = ADDR_IP6, .port_hi = 65535 };
	memset(p.cfg[ALICE].tsi.ts[2].ip_hi, 0xff, 16);
	memset(p.cfg[ALICE].tsr.ts[2].ip_hi, 0xff, 16);
	p.cfg[ALICE].tsi.n = p.cfg[ALICE].tsr.n = 3;
	assert_int_equal(pair_new(&p), OK);
	assert_int_equal(ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]), OK);
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p) && pair_up(&plain));
	assert_memory_equal(&p.children[ALICE][0].ts_local, &plain.children[ALICE][0].ts_local,
			    sizeof(struct ike_ts_list));
	assert_memory_equal(&p.children[BOB][0].ts_local, &plain.children[BOB][0].ts_local, sizeof(struct ike_ts_list));
	assert_false(p.last[ALICE][IKE_EV_CHILD_UP].cp.there);
	pair_done(&p);
	pair_done(&plain);
}

/* Nothing is assigned to who does not ask. */
static void not_asked(void **state)
{
	struct pair p;

	(void)state;
	join(&p);
	p.sa[ALICE]->cfg.cp_asks = 0;
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	assert_false(p.last[BOB][IKE_EV_ASKED].cp.there);
	assert_false(p.last[ALICE][IKE_EV_CHILD_UP].cp.there);
	pair_done(&p);
}

static void failures(void **state)
{
	static const uint16_t notify[] = { IKE_N_INTERNAL_ADDRESS_FAILURE, IKE_N_FAILED_CP_REQUIRED };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct pair p;

		join(&p);
		p.decision.verdict = IKE_REFUSED;
		p.decision.notify = notify[i];
		p.decision.n_grants = 0;
		pair_for(&p, SECONDS(1));
		assert_true(pair_up(&p)); /* 2.19: the IKE SA stays */
		assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_UP], 0);
		assert_int_equal(p.n_events[ALICE][IKE_EV_REFUSED], 1);
		assert_int_equal(p.last[ALICE][IKE_EV_REFUSED].notify, notify[i]);
		assert_non_null(strstr(ike_notify_text(notify[i]), "address"));
		pair_done(&p);
	}
}

static void in_create_child(void **state)
{
	struct ike_ts_list all = { .n = 1 };
	struct pair p;

	(void)state;
	join(&p);
	p.child_decision = p.decision;
	p.child_decision.grants[0].id = 102;
	pair_for(&p, SECONDS(1));
	assert_true(pair_up(&p));
	all.ts[0] = range4("0.0.0.0", "255.255.255.255");
	memset(&p.last[ALICE][IKE_EV_CHILD_UP], 0, sizeof(p.last[0][0]));
	assert_int_equal(ike_sa_child_join(p.sa[ALICE], p.now_us, 7, 102, &all, &all, ALL), OK);
	pair_for(&p, SECONDS(1));
	assert_true(p.last[BOB][IKE_EV_CHILD_ASKED].cp.there);
	assert_true(p.last[ALICE][IKE_EV_CHILD_UP].cp.there);
	assert_true(pair_child_same(&p, 1));
	memset(&p.last[ALICE][IKE_EV_CHILD_UP], 0, sizeof(p.last[0][0]));
	assert_int_equal(ike_sa_child_create(p.sa[ALICE], p.now_us, 7, 102, &all, &all), OK);
	pair_for(&p, SECONDS(1));
	assert_int_equal(p.n_events[ALICE][IKE_EV_CHILD_UP], 3);
	assert_false(p.last[ALICE][IKE_EV_CHILD_UP].cp.there);
	pair_done(&p);
}

static bool ladder(void *arg)
{
	struct pair p;
	bool up;

	(void)arg;
	pair_init(&p, 1);
	p.cfg[ALICE].cp_asks = ALL;
	p.decision.cp = example();
	up = pair_new(&p) == OK && ike_sa_start(p.sa[ALICE], p.now_us, &p.path[ALICE]) == OK;
	if (up) {
		pair_run(&p, p.now_us + MS(100));
		up = pair_up(&p) && p.last[ALICE][IKE_EV_CHILD_UP].cp.there;
	}
	pair_done(&p);
	return up;
}

static void memory(void **state)
{
	(void)state;
	pair_identities();
	harness_alloc_ladder(ladder, NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes),     cmocka_unit_test(round_trip), cmocka_unit_test(truncated),
		cmocka_unit_test(odd),       cmocka_unit_test(in_auth),    cmocka_unit_test(in_auth_service),
		cmocka_unit_test(not_asked), cmocka_unit_test(failures),   cmocka_unit_test(in_create_child),
		cmocka_unit_test(memory),
	};
	int r = HARNESS_RUN(tests);

	pair_identities_done();
	return r;
}
