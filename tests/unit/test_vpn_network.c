/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* Networks: who is given which address, and what a caller takes of a peer that may be hostile. A real SA at the other side
 * (the box), a call of vpn at ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "vpn_box.h"

/* ---- who grants ---- */

static void same_address(void **state)
{
	struct addr first;
	unsigned n_ts4 = 0;

	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	open_call(false, true);
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_true(box_up.cp.there);
	first = box_up.cp.ip4;
	assert_true(addr_ip_eq(&first, &(struct addr){ .family = ADDR_IP4, .ip = { 198, 51, 100, 1 } }) ||
		    addr_ip_eq(&first, &(struct addr){ .family = ADDR_IP4, .ip = { 198, 51, 100, 2 } }));
	assert_int_equal(box_up.cp.ip6.family, ADDR_IP6);
	assert_int_equal(box_up.cp.n_dns, 1);
	/* selectors: the assigned addresses to the network's prefixes, and echo */
	for (unsigned i = 0; i < box_up.child.ts_local.n; i++) {
		const struct ike_ts *t = &box_up.child.ts_local.ts[i];

		assert_true(
			(t->family == ADDR_IP4 && !memcmp(t->ip_lo, first.ip, 4) && !memcmp(t->ip_hi, first.ip, 4)) ||
			!memcmp(t->ip_lo, box_up.cp.ip6.ip, 16) || t->protocol == 58);
		n_ts4 += t->family == ADDR_IP4;
	}
	assert_int_equal(n_ts4, 1);
	assert_int_equal(n_up, 1);
	assert_false(up.ours);
	assert_true(addr_ip_eq(&up.network.ip4, &first));
	/* calling anew, while the old call is still there: the same */
	box_done();
	now_us += SECONDS(1);
	path.local.port++;
	open_call(false, true);
	is_called();
	assert_true(addr_ip_eq(&box_up.cp.ip4, &first));
	assert_int_equal(n_down, 1); /* the old one's */
	assert_int_equal(n_up, 1);
	/* revocation */
	{
		struct config *cfg;
		struct trust *trust;

		configure("host = yes\n", STOCK "allow = desktop\n", LAN, &cfg, &trust);
		assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
		exchange();
		assert_int_equal(n_down, 2);
		assert_int_equal(n_box_gone, 1);
	}
	end();
}

/* The two addresses of a /30 that may be given: a third caller is refused, and told why. */
static void exhausted(void **state)
{
	struct call *others[2];

	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	for (unsigned i = 0; i < 2; i++) {
		struct vpn_network *n = NULL;

		others[i] = vpn_call_new(v, now_us, 0, false);
		others[i]->cp_asks = ASKS;
		(void)snprintf(others[i]->peer, sizeof(others[i]->peer), "sip:other%u@example.com", i);
		assert_int_equal(network_lease(v, others[i], &v->cfg->networks[0], &n), OK);
		others[i]->state = CALL_UP;
		others[i]->grants[others[i]->n_grants++] = (struct grant){ .net = n, .expires_us = TIME_NEVER };
	}
	assert_false(addr_ip_eq(&others[0]->grants[0].net->ip4, &others[1]->grants[0].net->ip4));
	open_call(false, true);
	is_called();
	assert_int_equal(n_box_up, 0);
	assert_int_equal(n_box_refused, 1);
	assert_int_equal(box_refused.notify, IKE_N_INTERNAL_ADDRESS_FAILURE);
	assert_true(ike_sa_up(box)); /* RFC 7296, 2.19 */
	end();
}

static void not_asked(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	open_call(false, true);
	box_cfg.cp_asks = 0;
	is_called();
	assert_int_equal(n_box_up, 0);
	assert_int_equal(box_refused.notify, IKE_N_FAILED_CP_REQUIRED);
	end();
}

/* Only IPv4 is asked for: then there is no IPv6 either. */
static void one_family(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK "allow = lan\n", LAN);
	open_call(false, true);
	box_cfg.cp_asks = IKE_CP_BIT(IKE_CP_IP4_ADDRESS);
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_int_equal(box_up.cp.ip6.family, ADDR_NONE);
	assert_int_equal(box_up.cp.n_dns, 0);
	for (unsigned i = 0; i < box_up.child.ts_peer.n; i++)
		assert_true(box_up.child.ts_peer.ts[i].family == ADDR_IP4 || box_up.child.ts_peer.ts[i].protocol == 58);
	end();
}

/* No pool: the peer comes from its own address. */
static void no_pool(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK "allow = lan\nping = no\n", "[network lan]\nprefix = 2001:db8:1::/64\n");
	open_call(false, true);
	box_cfg.cp_asks = 0;
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_int_equal(box_up.child.ts_local.n, 1);
	assert_memory_equal(box_up.child.ts_local.ts[0].ip_lo, c->peer_address, 16);
	assert_int_equal(box_up.child.ts_peer.n, 1);
	end();
}

/* A tieline peer that asks for it by name. */
static void by_name(void **state)
{
	(void)state;
	begin("host = yes\n", "allow = lan, desktop\n", LAN);
	open_call(false, false);
	c->has_key = true;
	assert_int_equal(spki_hash(identity_spki(pair_ids[ALICE]), c->key), OK);
	box_cfg.n_names = 1;
	(void)snprintf(box_cfg.names[0], sizeof(box_cfg.names[0]), "lan");
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_true(box_up.cp.there);
	assert_int_equal(c->n_grants, 1);
	assert_int_equal(c->grants[0].g.protocol, 0);
	end();
}

/* ---- who joins ---- */

/* The box grants a network, as it likes. */
static void joins(void **state)
{
	(void)state;
	begin("host = yes\n", ACCEPT, "");
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_up, 1);
	assert_true(up.ours);
	assert_int_equal(up.network.n_prefixes, 1);
	assert_int_equal(up.network.prefixes[0].len, 24);
	assert_int_equal(n_granted, 1);
	assert_true(granted.has_network && !granted.protocol);
	assert_int_equal(c->state, CALL_UP);
	assert_true(esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	/* accepted no more */
	{
		struct config *cfg;
		struct trust *trust;

		configure("host = yes\n", "accept-prefix = 203.0.113.0/24\n", "", &cfg, &trust);
		assert_int_equal(vpn_reload(v, now_us, cfg, trust), OK);
		exchange();
		assert_int_equal(n_down, 1);
		assert_int_equal(ended.code, REASON_REVOKED);
		assert_non_null(strstr(ended.reason, "accept-prefix"));
	}
	end();
}

static void refuses(const char *daemon, const char *peer, const char *words)
{
	begin(daemon, peer, "");
	open_call(true, false);
	calls();
	assert_int_equal(n_up, 0);
	assert_int_equal(n_granted, 0);
	assert_false(n_box_up && esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	assert_int_equal(ended.code, REASON_NOT_ALLOWED);
	if (!strstr(ended.reason, words))
		fail_msg("\"%s\" lacks \"%s\"", ended.reason, words);
	assert_string_equal(refused.reason, ended.reason);
	end();
}

static void hostile(void **state)
{
	(void)state;
	offer("192.0.2.0", "192.0.3.255", "198.51.100.7");
	refuses("host = yes\n", ACCEPT, "outside of accept-prefix");
	offer("192.0.2.0", "192.0.2.255", "203.0.113.7");
	refuses("host = yes\n", ACCEPT, "address outside of accept-prefix");
	offer("0.0.0.0", "255.255.255.255", "198.51.100.7");
	refuses("host = yes\n", ACCEPT, "too wide");
	refuses("host = no\n", "", "too wide");
	offer("127.0.0.0", "127.255.255.255", "198.51.100.7");
	refuses("host = no\n", "", "none that anybody may have");
	offer("192.0.2.1", "192.0.2.255", "198.51.100.7");
	refuses("host = yes\n", ACCEPT, "no prefix");
	/* an address that is not assigned, or no selector for the one that is */
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.cp.ip4 = address("198.51.100.8");
	begin("host = yes\n", ACCEPT, "");
	open_call(true, false);
	calls();
	assert_false(esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	assert_int_equal(n_up, 0);
	end();
	/* where the peer itself is */
	offer("203.0.113.0", "203.0.113.255", "198.51.100.7");
	refuses("host = yes\n", "accept-prefix = 203.0.113.0/24, 198.51.100.0/24\n", "the tunnel itself needs");
}

/* With host = yes and no accept-prefix nothing is asked for; a network is none of our business. */
static void unwanted(void **state)
{
	(void)state;
	begin("host = yes\n", "", "");
	open_call(true, false);
	assert_int_equal(c->ike_cfg->cp_asks, 0);
	assert_int_equal(c->ike_cfg->tsi.n, 1);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_up + n_granted, 0);
	end();
}

/* A service must keep our own address, whatever was proposed. */
static void service_stays(void **state)
{
	(void)state;
	begin("host = no\n", "", "");
	open_call(true, false);
	assert_int_equal(c->ike_cfg->tsi.n, 3);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.grants[0].protocol = 6;
	decision.grants[0].port = 5900;
	calls();
	assert_int_equal(n_box_up, 1);
	assert_false(esp_spi_taken(esp_set_plane(v->esp, 0), box_up.child.spi_out));
	assert_int_equal(n_up, 0);
	end();
}

static void host_cannot(void **state)
{
	(void)state;
	begin("host = yes\n", ACCEPT, "");
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	not_ready = true;
	calls();
	assert_int_equal(n_up, 1);
	assert_int_equal(ended.code, REASON_NOT_ALLOWED);
	assert_non_null(strstr(ended.reason, "could not be set"));
	end();
}

/* A stock gateway: what accept-prefix lists is proposed, and taken; our call ends when it takes it back. */
static void stock_gateway(void **state)
{
	(void)state;
	begin("host = yes\n", STOCK ACCEPT, "");
	open_call(true, true);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.n_grants = 0;
	calls();
	assert_int_equal(n_up, 1);
	assert_int_equal(c->state, CALL_UP);
	assert_true(granted.has_network);
	assert_int_equal(ike_sa_child_delete(box, now_us, box_up.child.spi_in), OK);
	exchange();
	assert_int_equal(n_down, 1);
	assert_int_equal(ended.code, REASON_REVOKED);
	end();
}

/* Two calls, one network: the second is refused. */
static void overlap(void **state)
{
	struct call *first;
	struct vpn_network n = { .n_prefixes = 1 };

	(void)state;
	begin("host = no\n", "", "");
	first = vpn_call_new(v, now_us, 0, true);
	first->state = CALL_UP;
	first->peer_address[0] = 0xfd;
	assert_int_equal(addr_prefix_parse(SPAN_LIT("192.0.2.128/25"), &n.prefixes[0]), OK);
	first->grants[0].expires_us = TIME_NEVER;
	first->grants[0].net = malloc(sizeof(n));
	*first->grants[0].net = n;
	first->n_grants = 1;
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_up, 0);
	assert_non_null(strstr(ended.reason, "overlaps"));
	end();
}

/* A network that was joined before holds the inner address of whom we call now: it would get what is for him. */
static void hides_a_peer(void **state)
{
	struct call *first;
	struct vpn_network n = { .n_prefixes = 1 };
	unsigned id;

	(void)state;
	begin("host = no\n", "", "");
	first = vpn_call_new(v, now_us, 0, true);
	first->state = CALL_UP;
	first->peer_address[0] = 0xfd;
	first->peer_address[1] = 1;
	assert_int_equal(addr_prefix_parse(SPAN_LIT("fd00::/32"), &n.prefixes[0]), OK);
	first->grants[0] = (struct grant){ .expires_us = TIME_NEVER, .net = malloc(sizeof(n)), .net_up = true };
	*first->grants[0].net = n;
	first->n_grants = 1;
	first->peer_up = true;
	id = first->id;
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_down, 1);
	assert_int_equal(down.call, id);
	assert_null(vpn_call_find(v, id)); /* that was all that it had */
	assert_int_equal(n_up, 1);
	assert_int_equal(c->state, CALL_UP);
	end();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_address),  cmocka_unit_test(exhausted),    cmocka_unit_test(not_asked),
		cmocka_unit_test(one_family),    cmocka_unit_test(no_pool),      cmocka_unit_test(by_name),
		cmocka_unit_test(joins),         cmocka_unit_test(hostile),      cmocka_unit_test(unwanted),
		cmocka_unit_test(service_stays), cmocka_unit_test(host_cannot),  cmocka_unit_test(stock_gateway),
		cmocka_unit_test(overlap),       cmocka_unit_test(hides_a_peer),
	};
	int r = HARNESS_RUN(tests);

	pair_identities_done();
	return r;
}
