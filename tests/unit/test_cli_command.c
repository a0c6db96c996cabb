/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* The commands that ask once, against a scripted daemon, and what is refused before any daemon is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/text.h"
#include "cli_server.h"
#include "harness.h"

#define DONE ">{\"id\":1,\"done\":true,\"code\":0,\"reason\":\"\"}"

static void usage(void **state)
{
	static const char *const wrong[][6] = {
		{ NULL },
		{ "dial" },
		{ "answer" },
		{ "answer", "home@example.org" },
		{ "answer", "1", "2" },
		{ "answer", "1", "--seconds", "0" },
		{ "answer", "1", "--seconds", "2592001" },
		{ "decline" },
		{ "decline", "x" },
		{ "decline", "1", "--seconds", "1" },
		{ "pair", "a@b.example" },
		{ "netcheck" },
		{ "--what" },
		{ "call" },
		{ "call", "a", "b" },
		{ "call", "a@b.example", "--timeout", "0" },
		{ "call", "a@b.example", "--timeout", "9x" },
		{ "call", "a@b.example", "--port", "65536" },
		{ "call", "a@b.example", "--exec" },
		{ "call", "a@b.example", "--from" },
		{ "call", "a@b.example", "--detach", "--exec", "true" },
		{ "hangup" },
		{ "hangup", "1", "2" },
		{ "forward", "1" },
		{ "forward", "1", "tcp" },
		{ "forward", "1", "tcp/0" },
		{ "forward", "1", "tcp/70000" },
		{ "forward", "1", "tcp/192.0.2.9:" },
		{ "forward", "1", "tcp/:80" },
		{ "trust" },
		{ "trust", "add" },
		{ "trust", "add", "a@b.example" },
		{ "trust", "list", "x" },
		{ "trust", "remove" },
		{ "trust", "burn" },
		{ "explain" },
		{ "ping" },
		{ "ping", "1", "-c", "0" },
		{ "ping", "1", "-c", "1001" },
		{ "log", "x" },
		{ "status", "x" },
		{ "reload", "x" },
		{ "inspect" },
		{ "inspect", "sip" },
		{ "inspect", "elf", "x" },
		{ "inspect", "sip", "/nowhere/x" },
		{ "help", "dial" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (client(wrong[i]) != 2)
			fail_msg("row %zu: %s %s is taken", i, wrong[i][0], wrong[i][1]);
		assert_string_equal(out_text, "");
		assert_true(strlen(err_text) > 10);
		/* a sentence that says what there is not yet */
		if (wrong[i][0] && (!strcmp(wrong[i][0], "pair") || !strcmp(wrong[i][0], "netcheck")))
			assert_non_null(strstr(err_text, "this version has no such command"));
	}
}

static void help_everywhere(void **state)
{
	static const char *const commands[] = { "call", "hangup", "status", "forward", "trust",  "explain",
						"ping", "log",    "reload", "inspect", "answer", "decline" };

	(void)state;
	assert_int_equal(client(ARGS("--help")), 0);
	assert_null(strstr(out_text, "netcheck"));
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		assert_int_equal(client(ARGS("--help")), 0);
		assert_non_null(strstr(out_text, commands[i]));
		assert_int_equal(client(ARGS(commands[i], "--help")), 0);
		assert_non_null(strstr(out_text, "usage: tieline "));
		assert_string_equal(err_text, "");
		assert_int_equal(client(ARGS("help", commands[i])), 0);
	}
	assert_int_equal(client(ARGS("--version")), 0);
	assert_memory_equal(out_text, "tieline ", 8);
}

static void what_is_asked(void **state)
{
	static const struct {
		const char *args[6], *request;
	} rows[] = {
		{ { "hangup", "all" }, "<{\"id\":1,\"do\":\"hangup\",\"all\":true}" },
		{ { "hangup", "7" }, "<{\"id\":1,\"do\":\"hangup\",\"call\":7}" },
		{ { "hangup", "home@example.org" }, "<{\"id\":1,\"do\":\"hangup\",\"to\":\"home@example.org\"}" },
		{ { "answer", "7" }, "<{\"id\":1,\"do\":\"answer\",\"call\":7,\"seconds\":0}" },
		{ { "answer", "7", "--seconds", "60" }, "<{\"id\":1,\"do\":\"answer\",\"call\":7,\"seconds\":60}" },
		{ { "decline", "7" }, "<{\"id\":1,\"do\":\"decline\",\"call\":7}" },
		{ { "trust", "list" }, "<{\"id\":1,\"do\":\"trust\",\"op\":\"list\",\"add_device\":false}" },
		{ { "trust", "export" }, "<{\"id\":1,\"do\":\"trust\",\"op\":\"export\",\"add_device\":false}" },
		{ { "trust", "add", "a@b.example", "sha-256:00", "--add-device" },
		  "<{\"id\":1,\"do\":\"trust\",\"op\":\"add\",\"add_device\":true,\"peer\":\"a@b.example\",\"key\":"
		  "\"sha-256:00\"}" },
		{ { "trust", "remove", "a@b.example" },
		  "<{\"id\":1,\"do\":\"trust\",\"op\":\"remove\",\"add_device\":false,\"peer\":\"a@b.example\"}" },
		{ { "explain", "a@b.example/desktop" },
		  "<{\"id\":1,\"do\":\"explain\",\"peer\":\"a@b.example\",\"service\":\"desktop\"}" },
		{ { "explain", "a@b.example", "--key", "sha-256:00" },
		  "<{\"id\":1,\"do\":\"explain\",\"peer\":\"a@b.example\",\"key\":\"sha-256:00\"}" },
		{ { "ping", "3", "-c", "2" }, "<{\"id\":1,\"do\":\"ping\",\"call\":3,\"count\":2}" },
		{ { "ping", "a@b.example" }, "<{\"id\":1,\"do\":\"ping\",\"peer\":\"a@b.example\",\"count\":4}" },
		{ { "log" }, "<{\"id\":1,\"do\":\"log\",\"follow\":false}" },
		{ { "log", "-f" }, "<{\"id\":1,\"do\":\"log\",\"follow\":true}" },
		{ { "reload" }, "<{\"id\":1,\"do\":\"reload\"}" },
		{ { "status" }, "<{\"id\":1,\"do\":\"status\"}" },
		{ { "forward", "a@b.example", "udp/53", "--port", "5353" },
		  "<{\"id\":1,\"do\":\"forward\",\"peer\":\"a@b.example\",\"protocol\":\"udp\",\"port\":53,\"local_"
		  "port\":5353}" },
		{ { "forward", "2", "tcp/192.0.2.9:80" },
		  "<{\"id\":1,\"do\":\"forward\",\"call\":2,\"protocol\":\"tcp\",\"port\":80,\"local_port\":0,"
		  "\"host\":\"192.0.2.9\"}" },
		{ { "forward", "2", "udp/[2001:db8::9]:53" },
		  "<{\"id\":1,\"do\":\"forward\",\"call\":2,\"protocol\":\"udp\",\"port\":53,\"local_port\":0,"
		  "\"host\":\"2001:db8::9\"}" },
		{ { "forward", "2", "tcp/80" },
		  "<{\"id\":1,\"do\":\"forward\",\"call\":2,\"protocol\":\"tcp\",\"port\":80,\"local_port\":0}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(client_with(SCRIPT(rows[i].request, DONE), rows[i].args), 0);
		assert_string_equal(err_text, "");
		/* whatever it is, a refusal ends it with that code and sentence */
		assert_int_equal(client_with(SCRIPT(rows[i].request,
						    ">{\"id\":1,\"done\":true,\"code\":16,\"reason\":\"no\\u0007\"}"),
					     rows[i].args),
				 16);
		assert_string_equal(err_text, "tieline: no\\x07\n");
		assert_int_equal(client_with(SCRIPT(rows[i].request, "x"), rows[i].args), 4);
	}
}

static void what_is_printed(void **state)
{
	(void)state;
	assert_int_equal(
		client_with(
			SCRIPT("<",
			       ">{\"id\":1,\"event\":\"pin\",\"peer\":\"sip:a@b.example\",\"key\":\"sha-256:00\","
			       "\"level\":\"pinned\",\"config\":true}",
			       ">{\"id\":1,\"event\":\"pin\",\"peer\":\"\\u001b[m\",\"key\":\"k\",\"level\":\"tofu\"}",
			       DONE),
			ARGS("trust", "list")),
		0);
	assert_string_equal(out_text, "sip:a@b.example sha-256:00 pinned (configuration)\n\\x1b[m k tofu\n");
	assert_int_equal(
		client_with(SCRIPT("<",
				   ">{\"id\":1,\"event\":\"key\",\"aor\":\"sip:a@b.example\",\"key\":\"sha-256:00\"}",
				   DONE),
			    ARGS("trust", "export")),
		0);
	assert_string_equal(out_text, "sip:a@b.example sha-256:00\n");
	assert_int_equal(
		client_with(SCRIPT("<", ">{\"id\":1,\"done\":true,\"code\":0,\"reason\":\"\",\"verdict\":\"no\","
					"\"rule\":\"why\",\"level\":\"none\"}"),
			    ARGS("explain", "a@b.example")),
		0);
	assert_string_equal(out_text, "no: why (level none)\n");
	assert_int_equal(client_with(SCRIPT("<", ">{\"id\":1,\"event\":\"reply\",\"seq\":1,\"rtt_ms\":12.5}",
					    ">{\"id\":1,\"event\":\"lost\",\"seq\":2}", DONE),
				     ARGS("ping", "1")),
			 0);
	assert_string_equal(out_text, "reply 1: 12.500 ms\nlost 2\n");
	assert_int_equal(
		client_with(SCRIPT("<", ">{\"id\":1,\"event\":\"log\",\"line\":\"a \\u001b b\"}", DONE), ARGS("log")),
		0);
	assert_string_equal(out_text, "a \\x1b b\n");
	assert_int_equal(client_with(SCRIPT("<",
					    ">{\"id\":1,\"event\":\"granted\",\"protocol\":\"tcp\",\"port\":80,"
					    "\"local\":\"127.0.0.1:4\"}",
					    DONE),
				     ARGS("forward", "1", "tcp/80")),
			 0);
	assert_string_equal(out_text, "tcp/80 at 127.0.0.1:4\n");
}

static const char status_line[] =
	">{\"id\":1,\"done\":true,\"code\":0,\"reason\":\"\",\"status\":{\"accounts\":[{\"aor\":\"sip:me@example.net\","
	"\"registered\":false,\"address\":\"fd00::1\",\"key\":\"sha-256:00\",\"reason\":\"wrong "
	"password\"}],\"calls\":[{\"id\":3,"
	"\"account\":\"sip:me@example.net\",\"peer\":\"sip:home@example.org\",\"key\":\"sha-256:11\",\"level\":"
	"\"pinned\","
	"\"state\":\"up\",\"direction\":\"out\",\"since\":0,\"local\":\"192.0.2.1:4500\",\"remote\":\"198.51.100.7:"
	"4500\","
	"\"path\":\"srflx\",\"rtt_ms\":12.34,\"services\":[{\"name\":\"desk\\u0007top\",\"protocol\":\"tcp\",\"port\":"
	"5900,"
	"\"local\":\"127.0.0.1:40123\",\"until\":0}],\"bytes_in\":2048,\"bytes_out\":5,\"drops\":{\"replay\":2}}]}}";

static void status(void **state)
{
	(void)state;
	(void)setenv("TZ", "UTC", 1);
	assert_int_equal(client_with(SCRIPT("<", status_line), ARGS("status")), 0);
	assert_string_equal(out_text, "sip:me@example.net: not registered: wrong password\n"
				      "  address fd00::1\n"
				      "  key     sha-256:00\n"
				      "   3  to sip:home@example.org: up, level pinned, since 1970-01-01 00:00:00\n"
				      "      path srflx: 192.0.2.1:4500 to 198.51.100.7:4500, 12.3 ms\n"
				      "      desk\\x07top tcp/5900 at 127.0.0.1:40123\n"
				      "      in 2.0 KiB, out 5 B\n"
				      "      dropped 2: replay\n");
	assert_int_equal(client_with(SCRIPT("<", status_line), ARGS("status", "--json")), 0);
	assert_memory_equal(out_text, status_line + 1, strlen(status_line + 1));
	assert_string_equal(out_text + strlen(status_line + 1), "\n");
	assert_int_equal(client_with(SCRIPT("<", DONE), ARGS("status")), 0);
	assert_string_equal(out_text, "no calls\n");
	assert_int_equal(
		client_with(SCRIPT("<",
				   ">{\"id\":1,\"done\":true,\"code\":0,\"reason\":\"\",\"status\":{\"calls\":[{"
				   "\"id\":4,\"peer\":\"sip:a@b.example\",\"state\":\"waiting\",\"level\":\"pinned\","
				   "\"asks\":{\"request\":9,\"left_s\":42,\"services\":[\"desk\\u0007top\",\"files\",7]"
				   "}}]}}"),
			    ARGS("status")),
		0);
	assert_non_null(strstr(out_text, "      asks for desk\\x07top, files, , 42 s left: `tieline answer 4` or "
					 "`tieline decline 4`\n"));
}

static void write_file(const char *name, const char *text)
{
	char at[128];
	FILE *f;

	(void)snprintf(at, sizeof(at), "%s/%s", folder, name);
	f = fopen(at, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	(void)fclose(f);
}

static void inspecting(void **state)
{
	char good[128], bad[128], keys[128];

	(void)state;
	write_file("good", "\xff");
	write_file("bad", "v=1\x1b\r\n");
	write_file("keys", "{\"ike\":[{\"spi_i\":1}]}");
	(void)snprintf(good, sizeof(good), "%s/good", folder);
	(void)snprintf(bad, sizeof(bad), "%s/bad", folder);
	(void)snprintf(keys, sizeof(keys), "%s/keys", folder);
	assert_int_equal(client(ARGS("inspect", "datagram", good, "--json")), 0);
	assert_string_equal(out_text,
			    "{\"kind\":\"datagram\",\"ok\":true,\"value\":{\"class\":\"keepalive\",\"length\":1}}\n");
	assert_int_equal(client(ARGS("inspect", "sdp", bad)), 3);
	assert_non_null(strstr(out_text, "\"ok\": false"));
	assert_string_equal(err_text, ""); /* the reason is in the JSON */
	assert_int_equal(client(ARGS("inspect", "ike", bad, "--keys", keys)), 2);
	assert_int_equal(client(ARGS("inspect", "ike", bad, "--keys", bad)), 2);
	assert_int_equal(client(ARGS("inspect", "ike", bad, "--keys", "/nowhere/x")), 2);
	assert_int_equal(client(ARGS("inspect", "sdp", folder)), 2); /* a folder */
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, folder_new, folder_free)
		CASE(usage),           CASE(help_everywhere), CASE(what_is_asked),
		CASE(what_is_printed), CASE(status),          CASE(inspecting),
	};

	return HARNESS_RUN(tests);
}
