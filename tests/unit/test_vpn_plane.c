/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* In the kernel or here: who chooses when, and what becomes of a call that the kernel would not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vpn_box.h"

/* A kernel that takes all but what it is told to refuse. */
static enum esp_kernel_act refuses; /* once so many were accepted */
static unsigned refuse_from, n_asked[ESP_KERNEL_COUNT + 1], n_sas, n_pass;

static enum err our_kernel(const struct esp_kernel_request *rq, struct esp_kernel_count *ret)
{
	(void)ret;
	n_asked[rq->act]++;
	if (refuse_from && rq->act == refuses && n_asked[rq->act] >= refuse_from) {
		n_pass -= n_pass && rq->act <= ESP_KERNEL_PASS;
		return ERR_DENIED;
	}
	n_sas += rq->act == ESP_KERNEL_ADD;
	n_sas -= rq->act == ESP_KERNEL_REMOVE;
	n_pass = rq->act == ESP_KERNEL_PASS ? 1 : rq->act < ESP_KERNEL_PASS ? 0 : n_pass;
	return OK;
}

static void start(const char *peer, const char *more)
{
	kernel = our_kernel;
	refuse_from = n_sas = n_pass = 0;
	memset(n_asked, 0, sizeof(n_asked));
	begin("host = yes\n", peer, more);
}

static bool here(uint32_t spi)
{
	return esp_spi_taken(esp_set_plane(v->esp, 0), spi);
}

/* The callee knows what it grants: its first keys are the kernel's. */
static void granting(void **state)
{
	(void)state;
	start("allow = lan\n", LAN);
	open_call(false, false);
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_true(esp_set_in_kernel(v->esp, box_up.child.spi_out));
	assert_false(here(box_up.child.spi_out));
	assert_int_equal(n_sas, 2);
	assert_int_equal(n_pass, 1);
	assert_int_equal(n_up, 1);
	/* no echo: the kernel has no limit for it */
	for (unsigned i = 0; i < box_up.child.ts_peer.n; i++)
		assert_int_not_equal(box_up.child.ts_peer.ts[i].protocol, 58);
	assert_int_equal(vpn_hangup(v, now_us, c->id), OK);
	exchange();
	assert_int_equal(n_sas, 0);
	assert_int_equal(n_pass, 0);
	end();
}

static void service_beside(void **state)
{
	(void)state;
	start("allow = desktop lan\n", LAN);
	open_call(false, false);
	is_called();
	assert_int_equal(n_box_up, 1);
	assert_true(here(box_up.child.spi_out));
	assert_int_equal(n_asked[ESP_KERNEL_ADD], 0);
	end();
}

/* The caller's first keys are made before it knows. Nobody is told before there are others. */
static void joining(void **state)
{
	(void)state;
	start(ACCEPT, "");
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	calls();
	assert_int_equal(n_box_up, 2);
	assert_true(esp_set_in_kernel(v->esp, box_up.child.spi_out));
	assert_true(c->in_kernel);
	assert_int_equal(n_up, 1);
	assert_int_equal(n_granted, 1);
	assert_int_equal(c->state, CALL_UP);
	assert_int_equal(n_sas, 2);
	assert_int_equal(n_pass, 1);
	/* the box has no keys of its first SA any more */
	now_us += ESP_LATE_US;
	vpn_tick(v, now_us);
	exchange();
	assert_int_equal(n_box_gone, 1);
	end();
}

static void joining_a_gateway(void **state)
{
	(void)state;
	start(STOCK ACCEPT, "");
	open_call(true, true);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.n_grants = 0;
	calls();
	assert_int_equal(c->state, CALL_UP);
	assert_true(c->in_kernel);
	assert_int_equal(n_up, 1);
	assert_int_equal(n_sas, 2);
	end();
}

/* A gateway that has services of its own beside it: that is not the kernel's. */
static void gateway_and_more(void **state)
{
	(void)state;
	start(STOCK ACCEPT, "");
	open_call(true, true);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	decision.ts_local.ts[decision.ts_local.n++] = host(c->peer_address);
	decision.ts_peer.ts[decision.ts_peer.n++] = host(v->self);
	decision.n_grants = 0;
	calls();
	assert_int_equal(c->state, CALL_UP);
	assert_int_equal(box_up.child.ts_local.n, 2);
	assert_int_equal(n_box_up, 1);
	assert_true(here(box_up.child.spi_out));
	assert_int_equal(n_asked[ESP_KERNEL_BLOCK], 0);
	end();
}

/* The box does not answer when the keys are to be changed: what was granted is used with those that there are. */
static void patience(void **state)
{
	struct ike_sa *silent;
	uint32_t spi;

	(void)state;
	start(ACCEPT, "");
	open_call(true, false);
	offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
	assert_int_equal(ike_sa_new(&box_cfg, &box), OK);
	assert_int_equal(ike_sa_new(c->ike_cfg, &c->sa), OK);
	assert_int_equal(ike_sa_start(c->sa, now_us, &c->path), OK);
	for (int i = 0; i < 2; i++) { /* IKE_SA_INIT, IKE_AUTH */
		struct out o;

		assert_true(ike_sa_poll_output(c->sa, &o));
		ike_sa_input(box, now_us, &path, o.bytes);
		for (struct ike_event e; ike_sa_poll_event(box, &e);)
			box_event(&e);
		assert_true(ike_sa_poll_output(box, &o));
		vpn_input_ike(v, now_us, &(struct path){ .local = path.remote, .remote = path.local }, o.bytes);
	}
	spi = box_up.child.spi_out;
	silent = box;
	box = NULL;
	exchange();
	assert_true(here(spi));
	assert_int_equal(n_up, 0);
	assert_int_equal(vpn_deadline_us(v) <= now_us + SECONDS(5), 1);
	now_us += SECONDS(5);
	vpn_tick(v, now_us);
	exchange();
	assert_int_equal(n_up, 1);
	assert_int_equal(c->state, CALL_UP);
	box = silent;
	end();
}

/* Whatever it refuses at the start: the call comes up in user space, and nothing is left in the kernel. */
static void refused_at_once(void **state)
{
	static const enum esp_kernel_act acts[] = { ESP_KERNEL_BLOCK, ESP_KERNEL_ADD, ESP_KERNEL_PASS };

	(void)state;
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		for (unsigned from = 1; from <= 2; from++)
			for (int outgoing = 0; outgoing < 2; outgoing++) {
				start(outgoing ? ACCEPT : "allow = lan\n", outgoing ? "" : LAN);
				refuses = acts[i];
				refuse_from = from;
				open_call(outgoing, false);
				offer("192.0.2.0", "192.0.2.255", "198.51.100.7");
				if (outgoing)
					calls();
				else
					is_called();
				for (int k = 0; k < 3; k++) {
					now_us += SECONDS(2);
					vpn_tick(v, now_us);
					exchange();
				}
				if (c->in_kernel) { /* there was no second one to be refused */
					assert_int_equal(from, 2);
					end();
					continue;
				}
				assert_int_equal(c->state, CALL_UP);
				assert_true(here(box_up.child.spi_out));
				assert_int_equal(n_sas, 0);
				assert_int_equal(n_pass, 0);
				assert_true(c->no_kernel);
				end();
			}
}

/* What comes only later: a path that the kernel cannot have. */
static void leaves(void **state)
{
	struct path relayed;

	(void)state;
	start("allow = lan\n", LAN);
	open_call(false, false);
	is_called();
	assert_true(c->in_kernel);
	relayed = c->path;
	relayed.channel = 0x4001;
	esp_set_path(v->esp, c->id, &relayed);
	vpn_tick(v, now_us);
	exchange();
	assert_false(c->in_kernel);
	assert_int_equal(n_box_up, 2);
	assert_true(here(box_up.child.spi_out));
	assert_int_equal(n_sas, 0);
	assert_int_equal(c->state, CALL_UP);
	end();
}

/* And no other keys: then it is over, and not a tunnel through which nothing passes. */
static void stranded(void **state)
{
	struct ike_sa *silent;

	(void)state;
	start("allow = lan\n", LAN);
	open_call(false, false);
	is_called();
	silent = box;
	box = NULL;
	refuse_from = 1;
	refuses = ESP_KERNEL_HOLD;
	esp_set_hold(v->esp, c->id, true);
	exchange();
	vpn_tick(v, now_us);
	assert_true(c->no_kernel);
	now_us += SECONDS(5);
	vpn_tick(v, now_us);
	exchange();
	assert_int_equal(ended.code, REASON_INTERNAL);
	box = silent;
	end();
}

static void no_kernel(void **state)
{
	(void)state;
	kernel = NULL;
	begin("host = yes\n", "allow = lan\n", LAN);
	open_call(false, false);
	is_called();
	assert_true(here(box_up.child.spi_out));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(granting),          cmocka_unit_test(service_beside),
		cmocka_unit_test(joining),           cmocka_unit_test(patience),
		cmocka_unit_test(refused_at_once),   cmocka_unit_test(leaves),
		cmocka_unit_test(stranded),          cmocka_unit_test(no_kernel),
		cmocka_unit_test(joining_a_gateway), cmocka_unit_test(gateway_and_more),
	};

	return HARNESS_RUN(tests);
}
