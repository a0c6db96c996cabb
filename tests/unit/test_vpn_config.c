/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "harness.h"
#include "vpn/config.h"

#define KEY_A "sha-256:4AADB9000000000000000000000000000000000000000000000000000000000a"
#define ACCOUNT "[account]\naor = sip:me@example.net\nserver = 192.0.2.1\npassword = abcdefghijklmnopqrstuv\n"

#define HEX16 "9c1e72d04ab85f36e1087d2bc4935af6"
#define BARE ACCOUNT "[peer p@e]\nbare = yes\naddress = fd00::1\n"
#define HOST ACCOUNT "[daemon]\nhost = yes\n"
#define LAN "[network n]\nprefix = 192.0.2.0/24\npool = 198.51.100.0/29\n"

static const char whole[] =
	"# a home\n[daemon]\nuser = nobody\nport = 0\ninterface = tie9\nhost = no\ndataplane = auto\nmax-calls = 3\n"
	"dead-after = 90s\nlog-level = debug\nexport-keys = yes\n"
	"[account]\naor = SIP:me@Example.NET\nserver = [2001:db8::1]:5070;transport=udp\nuser = m\npassword = x=y\n"
	"stun = stun.example.net\ncandidates = all\nkey = shared\ninsecure-digest = yes\nring = 1m\ndpd = 10s\n"
	"[account]\naor = two@example.net\nserver = exchange.example.net\npassword-file = /x\n"
	"[service desktop]\nlisten = tcp/5900\n[service dns]\nlisten = udp/53\ntarget = 192.168.1.1:53\n"
	"[peer bob@example.net]\nkey = " KEY_A "\nallow = desktop, dns\nfor = 1h\nrequire = sas\nping = no\n"
	"ask = yes\nask-within = 2m\ndscp = copy\n"
	"ike = aes256gcm16-prfsha384-ecp384, aes256-sha256-modp2048\nesp = aes256gcm16\n"
	"[peer sip:box@example.net]\nbare = yes\nice = no\nsha1 = no\ncert = " KEY_A
	"\naddress = fd00::2\nallow = dns\n"
	"[peer sip:shared@example.net]\nbare = yes\naddress = fd00::3\npsk = 0x" HEX16 "\nppk = house-1 0x" HEX16
	"a0b1c2d3e4f5061728394a5b6c7d8e9f\n"
	"[peer sip:office@example.net]\nbare = yes\naddress = fd00::4\nca = /etc/tieline/ca.pem\n";

static void every_key(void **state)
{
	struct config *c;
	struct conf_error e;

	(void)state;
	if (config_parse("f", span_str(whole), &c, &e) != OK)
		fail_msg("%s", e.text);
	assert_string_equal(c->user, "nobody");
	assert_string_equal(c->interface, "tie9");
	assert_true(c->port == 0 && c->max_calls == 3 && c->dead_after_s == 90 && c->log_level == LOG_DEBUG &&
		    c->export_keys);
	assert_int_equal(c->n_accounts, 2);
	assert_string_equal(c->accounts[0].aor, "sip:me@example.net");
	assert_string_equal(c->accounts[0].server.host, "2001:db8::1");
	assert_true(c->accounts[0].server.port == 5070 && c->accounts[0].server.transport == TRANSPORT_UDP);
	assert_string_equal(c->accounts[0].password, "x=y");
	assert_true(c->accounts[0].ring_s == 60 && c->accounts[0].dpd_s == 10 && c->accounts[0].insecure_digest);
	assert_string_equal(c->accounts[1].user, "two");
	assert_string_equal(c->accounts[1].stun.host, "exchange.example.net");
	assert_true(c->accounts[1].stun.port == 3478 && c->accounts[1].server.transport == TRANSPORT_TCP);
	assert_true(config_service(c, "dns")->has_target && !config_service(c, "desktop")->has_target);
	assert_int_equal(config_peer(c, "sip:bob@example.net")->n_allow, 2);
	assert_true(config_peer(c, "sip:bob@example.net")->require == LEVEL_SAS &&
		    !config_peer(c, "sip:bob@example.net")->ping);
	assert_true(config_peer(c, "sip:bob@example.net")->copy_dscp &&
		    !config_peer(c, "sip:box@example.net")->copy_dscp);
	assert_true(config_peer(c, "sip:bob@example.net")->ask && config_peer(c, "sip:bob@example.net")->ask_s == 120);
	assert_true(!config_peer(c, "sip:box@example.net")->ask && config_peer(c, "sip:box@example.net")->ask_s == 60);
	assert_true(config_peer(c, "sip:box@example.net")->bare && !config_peer(c, "sip:box@example.net")->ice);
	assert_int_equal(config_peer(c, "sip:bob@example.net")->ike.n, 2);
	assert_int_equal(config_peer(c, "sip:bob@example.net")->esp.n, 1);
	assert_int_equal(config_peer(c, "sip:box@example.net")->ike.n, 0);
	assert_null(config_peer(c, "sip:eve@example.net"));
	assert_int_equal(config_peer(c, "sip:shared@example.net")->psk.len, 16);
	assert_int_equal(config_peer(c, "sip:shared@example.net")->psk.bytes[1], 0x1e);
	assert_int_equal(config_peer(c, "sip:shared@example.net")->ppk.len, 32);
	assert_string_equal(config_peer(c, "sip:shared@example.net")->ppk_id, "house-1");
	assert_string_equal(config_peer(c, "sip:office@example.net")->ca_file, "/etc/tieline/ca.pem");
	assert_int_equal(config_set_ca(&c->peers[c->n_peers - 1], SPAN_LIT("no certificate")), ERR_MALFORMED);
	assert_null(config_peer(c, "sip:office@example.net")->ca);
	config_free(c);
}

static void networks(void **state)
{
	static const char text[] =
		HOST "[network n]\nprefix = 192.0.2.0/24, 2001:db8::/64\nprefix = 203.0.113.0/25\n"
		     "pool = 198.51.100.0/29 2001:db8:1::/64\ndns = 192.0.2.1\ndns = 2001:db8::1\n"
		     "[peer p@e]\nallow = n\naccept-prefix = 10.0.0.0/8, fd00:1:2::/48\naccept-prefix = 192.0.2.0/24\n";
	struct addr_prefix p;
	const struct cfg_network *n;
	struct conf_error e;
	struct config *c;
	char dst[ADDR_TEXT];

	(void)state;
	assert_int_equal(config_parse("f", span_str(text), &c, &e), OK);
	assert_true(c->host);
	n = config_network(c, "n");
	assert_non_null(n);
	assert_null(config_network(c, "m"));
	assert_int_equal(n->prefix.n, 3);
	assert_string_equal(addr_prefix_write(&n->prefix.p[2], dst), "203.0.113.0/25");
	assert_string_equal(addr_prefix_write(config_pool(n, ADDR_IP6), dst), "2001:db8:1::/64");
	assert_string_equal(addr_prefix_write(config_pool(n, ADDR_IP4), dst), "198.51.100.0/29");
	assert_int_equal(n->n_dns, 2);
	assert_int_equal(c->peers[0].accept.n, 3);
	assert_int_equal(addr_prefix_parse(SPAN_LIT("10.1.0.0/16"), &p), OK);
	assert_true(config_prefixes_have(&c->peers[0].accept, &p));
	assert_int_equal(addr_prefix_parse(SPAN_LIT("10.0.0.0/7"), &p), OK);
	assert_false(config_prefixes_have(&c->peers[0].accept, &p));
	config_free(c);
}

/* Each is refused with a sentence that holds these words, and nothing is returned. */
static void refusals(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{ "", "no [account]" },
		{ "[account]\naor = x\n", "f:2" },
		{ ACCOUNT "[service a b]\nlisten = tcp/1\n", "a name of letters" },
		{ ACCOUNT "[service a]\nlisten = icmp/1\n", "tcp/PORT or udp/PORT" },
		{ ACCOUNT "[service a]\nlisten = tcp/0\n", "tcp/PORT or udp/PORT" },
		{ ACCOUNT "[service a]\nlisten = tcp/1\n[service b]\nlisten = tcp/1\n", "in one service only" },
		{ ACCOUNT "[service a]\nlisten = tcp/1\ntarget = 0.0.0.0:5\n", "an address and port" },
		{ ACCOUNT "[service a]\nlisten = tcp/1\naccept = /bin/true\n", "not available in this version" },
		{ ACCOUNT "[peer p@e]\nallow = nothing\n", "allows \"nothing\"" },
		{ ACCOUNT "[peer p@e]\nask = perhaps\n", "yes or no" },
		{ ACCOUNT "[peer p@e]\nask-within = 0s\n", "within its limits" },
		{ ACCOUNT "[peer p@e]\nask-within = 601\n", "within its limits" },
		{ ACCOUNT "[peer p@e]\nkey = md5:00\n", "sha-256:" },
		{ ACCOUNT "[peer p@e]\ndscp = ef\n", "copy or none" },
		{ ACCOUNT "[peer p@e]\nike = 3des-sha1-modp1024\n", "words such as aes256gcm16" },
		{ ACCOUNT "[peer p@e]\nike = aes256gcm16-prfsha256\n", "a group in each proposal" },
		{ ACCOUNT "[peer p@e]\nesp = aes256\n", "sha256 with aes128 or aes256" },
		{ ACCOUNT "[peer p@e]\nesp =\n", "words such as" },
		{ ACCOUNT "[peer p@e]\nice = no\n", "bare = yes with" },
		{ ACCOUNT "[peer p@e]\nudp-encap = no\n", "bare = yes with" },
		{ BARE "cert = " KEY_A "\nudp-encap = no\n", "ice = no with" },
		{ ACCOUNT "[peer p@e]\nbare = yes\naddress = fd00::1\n", "cert, key, ca or psk" },
		{ ACCOUNT "[peer p@e]\nbare = yes\naddress = fd00::1\ncert = " KEY_A
			  "\n[peer q@e]\nbare = yes\naddress = fd00::1\ncert = " KEY_A "\n",
		  "of its own" },
		{ BARE "psk = 0x" HEX16 "\n[peer q@e]\nbare = yes\naddress = fd00::2\npsk = 0x" HEX16 "\n",
		  "has the psk of [peer sip:p@e]" },
		{ BARE "psk = 0x" HEX16 "\ncert = " KEY_A "\n", "psk alone" },
		{ BARE "psk = 0x" HEX16 "\nca = /x\n", "psk alone" },
		{ ACCOUNT "[peer p@e]\nkey = " KEY_A "\npsk = 0x" HEX16 "\n", "bare = yes with psk or ca" },
		{ ACCOUNT "[peer p@e]\nca = /x\n", "bare = yes with psk or ca" },
		{ BARE "ca = ca.pem\n", "from / on" },
		/* What a person may have thought of */
		{ BARE "psk = correct horse battery staple\n", "generated" },
		{ BARE "psk = 0x\n", "generated" },
		{ BARE "psk = 0x0123\n", "generated" },
		{ BARE "psk = 0x9c1e72d04ab85f36e1087d2bc4935a\n", "generated" }, /* 15 bytes */
		{ BARE "psk = 0x9c1e72d04ab85f36e1087d2bc4935af\n", "generated" },
		{ BARE "psk = 0x636f727265637420686f727365206261\n", "generated" }, /* text */
		{ BARE "psk = 0x636f727265637420686f72736520620a\n", "generated" }, /* with its line's end */
		{ BARE "psk = 0x636f727265637420686f72736520620d0a\n", "generated" },
		{ BARE "psk = 0x636f727265637420686f7273650000000000\n", "generated" }, /* padded */
		{ BARE "psk = 0xc39c626572206772c3bcc39f6520536368c3b6\n", "generated" }, /* UTF-8 */
		{ BARE "psk = 0x00000000000000000000000000000000\n", "generated" },
		{ BARE "psk = 0x000102030405060708090a0b0c0d0e0f\n", "generated" },
		{ BARE "psk = 0xfffefdfcfbfaf9f8f7f6f5f4f3f2f1f0\n", "generated" },
		{ BARE "psk = 0xdeadbeefdeadbeefdeadbeefdeadbeef\n", "generated" },
		{ BARE "cert = " KEY_A "\nppk = house\n", "a name" },
		{ BARE "cert = " KEY_A "\nppk = ho:use 0x" HEX16 HEX16 "\n", "a name" },
		{ BARE "cert = " KEY_A "\nppk = house 0x" HEX16 "\n", "64 to 128" },
		{ BARE "cert = " KEY_A "\nppk = house 0x" HEX16 HEX16 "\n", "64 to 128" }, /* half of it twice */
		{ ACCOUNT "[peer p@e]\n[peer sips:p@E]\n", "each peer once" },
		{ ACCOUNT "[network n]\nprefix = 192.0.2.0/24\npool = 198.51.100.0/29\n", "host = yes" },
		{ HOST "[network n]\n", "prefix" },
		{ HOST "[network n]\nprefix = 192.0.2.1/24\n", "without host bits" },
		{ HOST "[network n]\nprefix = 0.0.0.0/0\n", "/8" },
		{ HOST "[network n]\nprefix = fd00::/8\n", "/32" },
		{ HOST "[network n]\nprefix = 127.0.0.0/8\n", "prefixes such as" },
		{ HOST "[network n]\nprefix = 192.0.2.0/24\n", "IPv4 pool" },
		{ HOST "[network n]\nprefix = 2001:db8::/64\npool = 192.0.2.0/24\n", "no pool of a family" },
		{ HOST LAN "pool = 198.51.100.64/29\n", "one pool of each" },
		{ HOST LAN "dns = 198.51.100.1\n", "outside of the pool" },
		{ HOST LAN "dns = router\n", "name servers" },
		{ HOST LAN "dns = 192.0.2.1,192.0.2.2 192.0.2.3\ndns = 192.0.2.4 192.0.2.5\n", "at most 4" },
		{ HOST LAN "[network m]\nprefix = 203.0.113.0/24\npool = 198.51.100.4/30\n", "a pool of its own" },
		{ HOST LAN "[service n]\nlisten = tcp/1\n", "the name of a [service]" },
		{ HOST LAN "[peer p@e]\nbare = yes\nask = yes\naddress = fd00::1\ncert = " KEY_A "\nallow = n\n",
		  "not all three" },
		{ ACCOUNT "[peer p@e]\naccept-prefix = everything\n", "prefixes such as" },
		{ ACCOUNT "[peer p@e]\naccept-prefix = 10.0.0.0/8,10.0.0.0/9,10.0.0.0/10,10.0.0.0/11 10.0.0.0/12\n",
		  "at most 4" },
		{ ACCOUNT "[call n]\n", "not available" },
		{ ACCOUNT "[daemon]\nhost = perhaps\n", "yes or no" },
		{ ACCOUNT "[daemon]\nport = 65536\n", "a port from 0 to 65535" },
		{ ACCOUNT "[daemon]\nmax-calls = 0\n", "from 1 to 256" },
		{ ACCOUNT "[daemon]\ndead-after = 5\n", "within its limits" },
		{ ACCOUNT "[daemon]\nexport-keys = maybe\n", "yes or no" },
		{ ACCOUNT "[daemon]\ncolour = red\n", "colour" },
		{ ACCOUNT ACCOUNT, "one account only" },
		{ ACCOUNT "password-file = /x\n", "either password or password-file" },
		{ "[account]\naor = a@b\nserver = x;transport=tls\npassword = p\n", ";transport=tcp" },
		{ "[account]\naor = a@b\nserver = [::1\npassword = p\n", ";transport=tcp" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config *c = NULL;
		struct conf_error e = { 0 };

		assert_int_not_equal(config_parse("f", span_str(rows[i].text), &c, &e), OK);
		assert_null(c);
		if (!strstr(e.text, rows[i].words))
			fail_msg("row %zu: \"%s\" lacks \"%s\"", i, e.text, rows[i].words);
	}
}

static void every_truncation(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < sizeof(whole) - 1; cut++) {
		struct config *c = NULL;
		struct conf_error e;

		if (config_parse("f", span_of(whole, cut), &c, &e) == OK)
			config_free(c);
		else
			assert_null(c);
	}
}

static bool once(void *arg)
{
	struct config *c;
	struct conf_error e;

	(void)arg;
	if (config_parse("f", span_str(whole), &c, &e) != OK)
		return false;
	config_free(c);
	return true;
}

static void allocation_failures(void **state)
{
	(void)state;
	harness_alloc_ladder(once, NULL);
}

/* A key with a slip in it is still nearly the key, and the sentence goes to the log. */
static void secrets_hidden(void **state)
{
	static const char *const texts[] = {
		BARE "psk = " HEX16 "\n", /* without 0x */
		BARE "psk = 0x" HEX16 "0\n", BARE "ppk = house-1 0x" HEX16 "\n",
		BARE "ppk = 0x" HEX16 HEX16 "\n", /* without a name */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct config *c = NULL;
		struct conf_error e;

		assert_int_equal(config_parse("f", span_str(texts[i]), &c, &e), ERR_MALFORMED);
		if (strstr(e.text, "9c1e") || !strstr(e.text, "(hidden)"))
			fail_msg("%s", e.text);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key),        cmocka_unit_test(networks),
		cmocka_unit_test(refusals),         cmocka_unit_test(secrets_hidden),
		cmocka_unit_test(every_truncation), cmocka_unit_test(allocation_failures),
	};

	return HARNESS_RUN(tests);
}
