/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* End 0 is the client, end 1 the server; what is between them is in clear, rules are where packets pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "net/direction.h"
#include "harness.h"
#include "two_ends.h"

#define TABLE "tietest"

static void need_rules(void)
{
	enum err e = geteuid() ? ERR_DENIED : direction_available();

	if (e != OK) {
		print_message("# needs root and nftables with connection tracking: %s\n", err_name(e));
		skip();
	}
}

static struct direction of(const struct end x[2])
{
	struct direction d = { .table = TABLE, .id = 0x11940001, .n_servers = 2, .n_clients = 2 };

	for (int f = 0; f < 2; f++) {
		d.servers[f] = one(&x[1].inner[f]);
		d.clients[f] = one(&x[0].inner[f]);
	}
	return d;
}

/* A question and, on the same flow, its answer. */
static bool answers(const struct end x[2], int from, unsigned family)
{
	struct sockaddr_storage ss, source;
	struct addr to = x[!from].inner[family];
	int out = inner_socket(&x[from], family, 0), in = inner_socket(&x[!from], family, PORT);
	struct pollfd p = { .fd = in, .events = POLLIN };
	socklen_t len = sizeof(source);
	char text[16];
	bool ok;

	to.port = PORT;
	ok = sendto(out, "question", 8, 0, (const struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)) == 8 &&
	     poll(&p, 1, SILENCE_MS) == 1 &&
	     recvfrom(in, text, sizeof(text), 0, (struct sockaddr *)&source, &len) == 8 &&
	     sendto(in, "answer", 6, 0, (const struct sockaddr *)&source, len) == 6 &&
	     arrives(out, "answer", SILENCE_MS);
	(void)close(out);
	(void)close(in);
	return ok;
}

static bool connects(const struct end x[2], int from, unsigned family)
{
	struct sockaddr_storage ss;
	struct addr to = x[!from].inner[family];
	int out, in, domain = family ? AF_INET6 : AF_INET;
	struct pollfd p = { .events = POLLIN };
	bool ok;

	to.port = PORT;
	assert_int_equal(netns_socket(x[from].ns, domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, &out), OK);
	assert_int_equal(netns_socket(x[!from].ns, domain, SOCK_STREAM | SOCK_CLOEXEC, 0, &in), OK);
	assert_int_equal(setsockopt(in, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)), 0);
	assert_int_equal(bind(in, (const struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)), 0);
	assert_int_equal(listen(in, 1), 0);
	(void)connect(out, (const struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss));
	p.fd = in;
	ok = poll(&p, 1, SILENCE_MS) == 1;
	(void)close(out);
	(void)close(in);
	return ok;
}

/* Nobody listens there, and that comes back. */
static bool refused(const struct end x[2], int from, unsigned family)
{
	struct sockaddr_storage ss;
	struct addr to = x[!from].inner[family];
	int fd = inner_socket(&x[from], family, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	bool ok;

	to.port = PORT;
	ok = connect(fd, (const struct sockaddr *)&ss, addr_to_sockaddr(&to, &ss)) == 0 && send(fd, "?", 1, 0) == 1 &&
	     poll(&p, 1, SILENCE_MS) == 1 && recv(fd, &to, 1, 0) < 0 && errno == ECONNREFUSED;
	(void)close(fd);
	return ok;
}

static void one_way(void **state)
{
	struct direction d;
	struct end x[2];

	(void)state;
	need_rules();
	for (int at = 0; at < 2; at++) { /* at the client's end, or the server's */
		begin(x);
		d = of(x);
		for (unsigned f = 0; f < 2; f++)
			assert_true(passes(x, 1, f, 3000));
		assert_int_equal(direction_set(x[at].ns, &d), OK);
		for (unsigned f = 0; f < 2; f++) {
			assert_true(answers(x, 0, f));
			assert_true(connects(x, 0, f));
			assert_true(refused(x, 0, f));
			assert_false(answers(x, 1, f));
			assert_false(passes(x, 1, f, SILENCE_MS));
			assert_false(connects(x, 1, f));
			assert_false(refused(x, 1, f));
		}
		end(x);
	}
}

/* A hostile end may have any policy of its own: the other end alone has rules, and it has the same SAs. */
static void through_esp(void **state)
{
	struct wish w = { .esn = true };
	struct direction d;
	struct end x[2];

	(void)state;
	need_rules();
	if (!have_esp()) {
		print_message("# needs a kernel with ESP: tests/kernel has one\n");
		skip();
	}
	for (int at = 0; at < 2; at++)
		for (w.outer = 0; w.outer < 2; w.outer++) {
			begin_esp(x);
			d = of(x);
			for (int i = 0; i < 2; i++) {
				add_sas(x, i, &w);
				set_policies(x, i, &w);
			}
			for (unsigned f = 0; f < 2; f++)
				assert_true(passes(x, 1, f, 3000));
			assert_int_equal(direction_set(x[at].ns, &d), OK);
			for (unsigned f = 0; f < 2; f++) {
				uint64_t before = counters(x, 0, 0, &w).packets;

				assert_true(answers(x, 0, f));
				assert_true(connects(x, 0, f));
				assert_true(refused(x, 0, f));
				assert_true(counters(x, 0, 0, &w).packets >= before + 3);
				assert_false(answers(x, 1, f));
				assert_false(connects(x, 1, f));
				assert_false(refused(x, 1, f));
			}
			end(x);
		}
}

static void others_are_free(void **state)
{
	struct direction d, other;
	struct end x[2];

	(void)state;
	need_rules();
	begin(x);
	d = other = of(x);
	other.id++;
	for (int f = 0; f < 2; f++)
		d.clients[f].base.ip[f ? 15 : 3] ^= 0x40;
	assert_int_equal(direction_set(x[1].ns, &d), OK);
	assert_true(passes(x, 1, 0, 3000));
	assert_true(passes(x, 1, 1, 3000));
	/* networks, and one family alone */
	d = of(x);
	d.servers[0].base.ip[3] = 0;
	d.servers[0].len = 24;
	d.servers[1].len = 0;
	memset(d.servers[1].base.ip, 0, 16);
	d.n_clients = 1;
	assert_int_equal(direction_set(x[1].ns, &d), OK);
	assert_false(passes(x, 1, 0, SILENCE_MS));
	assert_true(passes(x, 1, 1, 3000));
	d.clients[0] = d.clients[1];
	assert_int_equal(direction_set(x[1].ns, &d), OK);
	assert_true(passes(x, 1, 0, 3000));
	assert_false(passes(x, 1, 1, SILENCE_MS));
	/* two of them, and each goes alone */
	assert_int_equal(direction_set(x[1].ns, &other), OK);
	assert_false(passes(x, 1, 0, SILENCE_MS));
	assert_int_equal(direction_remove(x[1].ns, TABLE, other.id), OK);
	assert_int_equal(direction_remove(x[1].ns, TABLE, other.id), ERR_NOTFOUND);
	assert_true(passes(x, 1, 0, 3000));
	assert_false(passes(x, 1, 1, SILENCE_MS));
	assert_int_equal(direction_flush(x[1].ns, TABLE), OK);
	assert_int_equal(direction_flush(x[1].ns, TABLE), ERR_NOTFOUND);
	assert_true(passes(x, 1, 1, 3000));
	end(x);
}

/* What is longest still fits. */
static void many(void **state)
{
	struct direction d;
	struct end x[2];

	(void)state;
	need_rules();
	begin(x);
	d = of(x);
	d.n_servers = DIRECTION_SERVERS_MAX;
	for (unsigned i = 0; i < d.n_servers; i++)
		d.servers[i] = one(&x[1].inner[1]);
	assert_true(
		passes(x, 1, 1, 3000)); /* the veth's neighbours are no tunnel's: they must know each other before */
	assert_int_equal(direction_set(x[1].ns, &d), OK);
	assert_false(passes(x, 1, 1, SILENCE_MS));
	assert_true(answers(x, 0, 1));
	d.clients[0] = d.clients[1];
	assert_int_equal(direction_set(x[1].ns, &d), OK);
	assert_false(passes(x, 1, 1, SILENCE_MS));
	end(x);
}

static void refuses(void **state)
{
	struct direction d = { .table = TABLE, .n_servers = 1, .n_clients = 1 }, bad;

	(void)state;
	d.servers[0] = (struct addr_prefix){ .base = addr_ip4(0xc0000200, 0), .len = 24 };
	d.clients[0] = (struct addr_prefix){ .base = addr_ip4(0xc6336401, 0), .len = 32 };
	bad = d;
	bad.table = "";
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
	bad.table = "a-name-that-is-far-too-long";
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
	assert_int_equal(direction_remove(-1, bad.table, 1), ERR_MALFORMED);
	assert_int_equal(direction_flush(-1, bad.table), ERR_MALFORMED);
	bad = d;
	bad.n_clients = DIRECTION_CLIENTS_MAX + 1;
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
	bad = d;
	bad.n_servers = 0;
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
	bad = d;
	bad.clients[0].base.family = ADDR_IP6;
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
	bad = d;
	bad.servers[0].len = 33;
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
	bad.servers[0].len = 22; /* the address has bits behind them */
	assert_int_equal(direction_set(-1, &bad), ERR_MALFORMED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_way), cmocka_unit_test(through_esp), cmocka_unit_test(others_are_free),
		cmocka_unit_test(many),    cmocka_unit_test(refuses),
	};

	return HARNESS_RUN(tests);
}
