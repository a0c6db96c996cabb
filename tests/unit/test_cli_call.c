/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* `tieline call` against a scripted daemon: progress, ends, signals, --exec, what reaches the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/text.h"
#include "cli_server.h"
#include "harness.h"

#define CALL_OF(extra)                                                                                                 \
	"<{\"id\":1,\"do\":\"call\",\"to\":\"home@example.org\",\"timeout\":0,\"port\":0,\"trust_first\":false,"       \
	"\"any_user\":false,\"detach\":" extra "}"
#define CALL CALL_OF("false")
#define CALL_DESKTOP CALL_OF("false,\"service\":\"desktop\"")
#define HANGUP "<{\"id\":2,\"do\":\"hangup\",\"request\":1}"
#define HANGUP_DONE ">{\"id\":2,\"done\":true,\"code\":0,\"reason\":\"\"}"
#define GRANTED(name, local)                                                                                           \
	">{\"id\":1,\"event\":\"granted\",\"t_ms\":310,\"name\":\"" name                                               \
	"\",\"protocol\":\"tcp\",\"port\":5900,\"local\":\"" local "\",\"until\":0}"
#define EVENT(name, ms) ">{\"id\":1,\"event\":\"" name "\",\"t_ms\":" ms "}"
#define DONE(code, reason) ">{\"id\":1,\"done\":true,\"code\":" code ",\"reason\":\"" reason "\"}"

static void progress_and_a_good_end(void **state)
{
	(void)state;
	assert_int_equal(
		client_with(
			SCRIPT(CALL_DESKTOP, EVENT("trying", "3"), EVENT("ringing", "42"), EVENT("answered", "1042"),
			       ">{\"id\":1,\"event\":\"path\",\"t_ms\":1100,\"path\":\"srflx\",\"local\":\"192.0.2.1:"
			       "4500\","
			       "\"remote\":\"198.51.100.7:4500\"}",
			       ">{\"id\":9,\"event\":\"ended\",\"t_ms\":1}", /* not ours */
			       ">{\"id\":1,\"event\":\"authenticated\",\"t_ms\":1200,\"peer\":\"sip:home@example.org\","
			       "\"key\":\"sha-256:00\",\"level\":\"pinned\"}",
			       ">{\"id\":1,\"event\":\"waiting\",\"t_ms\":1201,\"peer\":\"sip:home@example.org\","
			       "\"seconds\":60}",
			       GRANTED("desktop", "127.0.0.1:40123"), EVENT("up", "1211"),
			       ">{\"id\":1,\"event\":\"ended\",\"t_ms\":60000,\"code\":0,\"reason\":\"the other side "
			       "hung up\"}",
			       DONE("0", "the other side hung up")),
			ARGS("call", "home@example.org/desktop")),
		0);
	assert_string_equal(err_text, "");
	assert_string_equal(out_text, "0.003 s  trying\n"
				      "0.042 s  ringing\n"
				      "1.042 s  answered\n"
				      "1.100 s  path srflx: 192.0.2.1:4500 to 198.51.100.7:4500\n"
				      "1.200 s  authenticated sip:home@example.org sha-256:00, level pinned\n"
				      "1.201 s  waiting: somebody at home@example.org is asked, for 60 s\n"
				      "0.310 s  granted desktop (tcp/5900)\n"
				      "desktop at 127.0.0.1:40123\n"
				      "1.211 s  up\n"
				      "60.000 s  ended: the other side hung up\n");
}

static void a_network(void **state)
{
	(void)state;
	assert_int_equal(
		client_with(
			SCRIPT(CALL,
			       ">{\"id\":1,\"event\":\"granted\",\"t_ms\":310,\"name\":\"lan\",\"protocol\":"
			       "\"network\",\"port\":0,\"local\":null,\"until\":0,\"prefixes\":[\"192.0.2.0/24\","
			       "\"2001:db8::/64\"],\"addresses\":[\"192.0.2.130\"],\"dns\":[\"192.0.2.1\",5]}",
			       ">{\"id\":1,\"event\":\"granted\",\"t_ms\":320,\"name\":\"own\",\"protocol\":"
			       "\"network\",\"port\":0,\"local\":null,\"until\":0,\"prefixes\":[\"2001:db8:1::/64\"],"
			       "\"addresses\":[],\"dns\":[]}",
			       DONE("0", "hung up")),
			ARGS("call", "home@example.org")),
		0);
	assert_string_equal(out_text, "0.310 s  granted lan (network)\n"
				      "lan: 192.0.2.0/24, 2001:db8::/64 as 192.0.2.130, DNS 192.0.2.1, \n"
				      "0.320 s  granted own (network)\n"
				      "own: 2001:db8:1::/64\n");
}

static void every_end_has_its_code(void **state)
{
	static const int codes[] = { 1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 20, 30, 31, 32, 33, 34, 35, 36, 40 };

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		char done[128], sentence[64];

		(void)snprintf(done, sizeof(done), ">{\"id\":1,\"done\":true,\"code\":%d,\"reason\":\"it is %d\"}",
			       codes[i], codes[i]);
		(void)snprintf(sentence, sizeof(sentence), "tieline: it is %d\n", codes[i]);
		assert_int_equal(
			client_with(SCRIPT(CALL, EVENT("trying", "3"), done), ARGS("call", "home@example.org")),
			codes[i]);
		assert_string_equal(err_text, sentence);
		assert_string_equal(out_text, "0.003 s  trying\n");
	}
}

static void no_daemon(void **state)
{
	(void)state;
	(void)unlink(path);
	assert_int_equal(client(ARGS("call", "home@example.org")), 4);
	assert_non_null(strstr(err_text, path));
	assert_string_equal(out_text, "");
}

static void the_daemon_breaks(void **state)
{
	(void)state;
	/* it dies, in the middle of a line too */
	assert_int_equal(client_with(SCRIPT(CALL, EVENT("trying", "3"), "x"), ARGS("call", "home@example.org")), 4);
	assert_non_null(strstr(err_text, "has ended"));
	assert_int_equal(client_with(SCRIPT(CALL, "%30", "x"), ARGS("call", "home@example.org")), 4);
	/* it sends a line without an end, or no JSON, or no object, or a `done` without a code */
	assert_int_equal(client_with(SCRIPT(CALL, "%65536", "x"), ARGS("call", "home@example.org")), 1);
	assert_non_null(strstr(err_text, "65536"));
	assert_int_equal(client_with(SCRIPT(CALL, ">{\"id\":1", "x"), ARGS("call", "home@example.org")), 1);
	assert_int_equal(client_with(SCRIPT(CALL, ">[1]", "x"), ARGS("call", "home@example.org")), 1);
	assert_int_equal(client_with(SCRIPT(CALL, ">{\"id\":1,\"done\":true}", "x"), ARGS("call", "home@example.org")),
			 1);
	assert_int_equal(client_with(SCRIPT(CALL, DONE("-1", "")), ARGS("call", "home@example.org")), 1);
	assert_int_equal(client_with(SCRIPT(CALL, DONE("256", "")), ARGS("call", "home@example.org")), 1);
	/* members of wrong types are as if they were not there */
	assert_int_equal(
		client_with(SCRIPT(CALL, ">{\"id\":1,\"event\":7,\"t_ms\":\"x\"}",
				   ">{\"id\":1,\"event\":\"granted\",\"name\":[],\"local\":5}", DONE("13", "")),
			    ARGS("call", "home@example.org")),
		13);
	assert_string_equal(err_text, "tieline: refused\n");
}

static void ctrl_c_hangs_up(void **state)
{
	(void)state;
	assert_int_equal(
		client_with(SCRIPT(CALL, EVENT("trying", "3"), "INT", HANGUP, HANGUP_DONE, DONE("0", "hung up")),
			    ARGS("call", "home@example.org")),
		0);
	assert_string_equal(err_text, "");
	/* the call's end may come first, with a code of its own; SIGTERM is the same; and before there is any event */
	assert_int_equal(client_with(SCRIPT(CALL, "TERM", HANGUP, DONE("40", "gone"), HANGUP_DONE),
				     ARGS("call", "home@example.org")),
			 0);
	/* the daemon goes away instead of answering */
	assert_int_equal(client_with(SCRIPT(CALL, "INT", HANGUP, "x"), ARGS("call", "home@example.org")), 4);
	/* signals are as they were */
	{
		sigset_t now;

		assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &now), 0);
		assert_false(sigismember(&now, SIGINT) || sigismember(&now, SIGCHLD));
	}
}

static void detached(void **state)
{
	(void)state;
	assert_int_equal(client_with(SCRIPT(CALL_OF("true"), GRANTED("desktop", "127.0.0.1:40123"), EVENT("up", "400"),
					    DONE("0", "")),
				     ARGS("call", "--detach", "home@example.org")),
			 0);
	assert_non_null(strstr(out_text, "\ndesktop at 127.0.0.1:40123\n"));
	/* given up before it is up: it must not go on */
	assert_int_equal(client_with(SCRIPT(CALL_OF("true"), "INT", HANGUP, HANGUP_DONE, DONE("0", "")),
				     ARGS("call", "--detach", "home@example.org")),
			 0);
}

static void all_options(void **state)
{
	(void)state;
	assert_int_equal(
		client_with(
			SCRIPT("<{\"id\":1,\"do\":\"call\",\"to\":\"sip:home@example.org\",\"service\":\"a/b\","
			       "\"timeout\":20,\"port\":5901,\"trust_first\":true,\"any_user\":true,\"detach\":false,"
			       "\"from\":\"sip:me@example.net\"}",
			       DONE("0", "")),
			ARGS("call", "sip:home@example.org/a/b", "--timeout", "20", "--trust-first", "--any-user",
			     "--from=sip:me@example.net", "--port", "5901")),
		0);
}

static void nothing_foreign_steers_the_terminal(void **state)
{
	(void)state;
	assert_int_equal(
		client_with(SCRIPT(CALL, EVENT("\\u001b[2J", "1"), GRANTED("a\\u001b]0;x\\u0007\\u009b\\r", "\\u0001"),
				   GRANTED("\\n\\nfake", "127.0.0.1:1\\nroot at 1.2.3.4:5"),
				   ">{\"id\":1,\"event\":\"refused\",\"t_ms\":1,\"name\":\"\\u202e\",\"reason\":"
				   "\"\\u0008\"}",
				   DONE("13", "\\u001b[31mno \\\"way\\\"")),
			    ARGS("call", "home@example.org")),
		13);
	for (const char *p = out_text; *p; p++)
		assert_true(*p == '\n' || (*p >= 0x20 && *p < 0x7f));
	assert_null(strstr(out_text, "\nroot at"));
	assert_string_equal(err_text, "tieline: \\x1b[31mno \"way\"\n");
}

static void json_passes_unchanged(void **state)
{
	(void)state;
	assert_int_equal(client_with(SCRIPT(CALL, ">{ \"t_ms\" : 3,\"id\":1, \"event\":\"trying\"}",
					    ">{\"id\":7,\"event\":\"x\"}", DONE("14", "busy")),
				     ARGS("--json", "call", "home@example.org")),
			 14);
	assert_string_equal(out_text, "{ \"t_ms\" : 3,\"id\":1, \"event\":\"trying\"}\n{\"id\":7,\"event\":\"x\"}\n"
				      "{\"id\":1,\"done\":true,\"code\":14,\"reason\":\"busy\"}\n");
	assert_string_equal(err_text, "tieline: busy\n");
}

#define CALL_KEYS CALL_OF("false,\"keys\":true")
#define KEYS(table, line) ">{\"id\":1,\"event\":\"keys\",\"t_ms\":1,\"table\":\"" table "\",\"line\":\"" line "\"}"

static void keys_go_to_a_new_file(void **state)
{
	char at[128], text[256] = "";
	struct stat st;
	FILE *f;

	(void)state;
	(void)snprintf(at, sizeof(at), "%s/keys", folder);
	assert_int_equal(
		client_with(SCRIPT(CALL_KEYS, KEYS("ikev2_decryption_table", "0a,0b,\\\"x\\\""), KEYS("esp_sa", "c1"),
				   KEYS("esp_sa", "c2"), EVENT("up", "5"), DONE("0", "")),
			    ARGS("call", "home@example.org", "--export-keys", at)),
		0);
	assert_string_equal(out_text, "0.005 s  up\n"); /* no key */
	assert_int_equal(stat(at, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	f = fopen(at, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	(void)fclose(f);
	assert_string_equal(text, "# ikev2_decryption_table\n0a,0b,\"x\"\n# esp_sa\nc1\nc2\n");
	/* what is there is not touched, be it a file or a link to nowhere */
	assert_int_equal(client(ARGS("call", "home@example.org", "--export-keys", at)), 2);
	assert_non_null(strstr(err_text, "overwrite nothing"));
	assert_int_equal(unlink(at), 0);
	assert_int_equal(symlink("/nowhere/at/all", at), 0);
	assert_int_equal(client(ARGS("call", "home@example.org", "--export-keys", at)), 2);
	assert_int_equal(unlink(at), 0);
	/* refused: no empty file stays */
	assert_int_equal(client_with(SCRIPT(CALL_KEYS, DONE("16", "no keys")),
				     ARGS("call", "home@example.org", "--export-keys", at)),
			 16);
	assert_int_equal(stat(at, &st), -1);
	/* neither printed nor without a reader */
	assert_int_equal(client(ARGS("--json", "call", "home@example.org", "--export-keys", at)), 2);
	assert_int_equal(client(ARGS("call", "home@example.org", "--detach", "--export-keys", at)), 2);
	assert_int_equal(stat(at, &st), -1);
}

/* ---- --exec ---- */

static char *file_text(const char *name)
{
	static char text[128];
	char at[128];
	size_t n;
	FILE *f;

	(void)snprintf(at, sizeof(at), "%s/%s", folder, name);
	f = fopen(at, "r");
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	(void)fclose(f);
	return text;
}

static void exec_has_host_and_port(void **state)
{
	static const char *const locals[][2] = { { "127.0.0.1:40123", "127.0.0.1 40123\n" }, { "[::1]:5", "::1 5\n" } };
	char command[256];

	(void)state;
	(void)snprintf(command, sizeof(command), "echo $TIELINE_HOST $TIELINE_PORT > %s/seen; exit 7", folder);
	for (int i = 0; i < 2; i++) {
		char granted[256];

		(void)snprintf(granted, sizeof(granted),
			       ">{\"id\":1,\"event\":\"granted\",\"t_ms\":1,\"name\":\"desktop\",\"protocol\":\"tcp\","
			       "\"port\":1,\"local\":\"%s\"}",
			       locals[i][0]);
		/* another service, though granted first, does not start it */
		assert_int_equal(
			client_with(SCRIPT(CALL_DESKTOP, GRANTED("other", "127.0.0.1:1"), granted, HANGUP, HANGUP_DONE,
					   DONE("0", "hung up")),
				    ARGS("call", "home@example.org/desktop", "--exec", "/bin/sh", "-c", command)),
			7);
		assert_string_equal(file_text("seen"), locals[i][1]);
		assert_string_equal(out_text, ""); /* it belongs to the command */
		assert_non_null(strstr(err_text, "desktop at "));
	}
	assert_null(getenv("TIELINE_HOST"));
}

static void exec_is_ended_with_the_call(void **state)
{
	char command[256], ready[128];

	(void)state;
	(void)snprintf(ready, sizeof(ready), "wait %s/ready", folder);
	(void)snprintf(command, sizeof(command), "trap 'exit 9' TERM; echo x > %s/ready; while :; do sleep 0.01; done",
		       folder);
	assert_int_equal(
		client_with(SCRIPT(CALL_DESKTOP, GRANTED("desktop", "127.0.0.1:1"), ready, DONE("40", "vanished")),
			    ARGS("call", "home@example.org/desktop", "--exec", "/bin/sh", "-c", command)),
		9);
	assert_non_null(strstr(err_text, "tieline: vanished\n"));
	/* the daemon dies */
	(void)unlink(ready + 5);
	assert_int_equal(client_with(SCRIPT(CALL_DESKTOP, GRANTED("desktop", "127.0.0.1:1"), ready, "x"),
				     ARGS("call", "home@example.org/desktop", "--exec", "/bin/sh", "-c", command)),
			 9);
	/* killed by a signal: as a shell says it */
	assert_int_equal(client_with(SCRIPT(CALL_DESKTOP, GRANTED("desktop", "127.0.0.1:1"), DONE("17", "revoked")),
				     ARGS("call", "home@example.org/desktop", "--exec", "sleep", "30")),
			 128 + SIGTERM);
	/* the client itself is told to end: so is the command, and the call */
	(void)unlink(ready + 5);
	assert_int_equal(client_with(SCRIPT(CALL_DESKTOP, GRANTED("desktop", "127.0.0.1:1"), ready, "TERM", HANGUP,
					    HANGUP_DONE, DONE("0", "")),
				     ARGS("call", "home@example.org/desktop", "--exec", "/bin/sh", "-c", command)),
			 9);
}

static void exec_that_does_not_come_to_it(void **state)
{
	(void)state;
	/* refused: the call's code */
	assert_int_equal(client_with(SCRIPT(CALL_DESKTOP, DONE("16", "not allowed")),
				     ARGS("call", "home@example.org/desktop", "--exec", "true")),
			 16);
	/* no such program: said, and hung up */
	assert_int_equal(
		client_with(SCRIPT(CALL_DESKTOP, GRANTED("desktop", "127.0.0.1:1"), HANGUP, HANGUP_DONE, DONE("0", "")),
			    ARGS("call", "home@example.org/desktop", "--exec", "/nowhere/x")),
		2);
	assert_non_null(strstr(err_text, "/nowhere/x cannot be started"));
	/* no local address */
	assert_int_equal(client_with(SCRIPT(CALL_DESKTOP, GRANTED("desktop", ""), HANGUP, HANGUP_DONE, DONE("0", "")),
				     ARGS("call", "home@example.org/desktop", "--exec", "true")),
			 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, folder_new, folder_free)
		CASE(progress_and_a_good_end),
		CASE(a_network),
		CASE(every_end_has_its_code),
		CASE(no_daemon),
		CASE(the_daemon_breaks),
		CASE(ctrl_c_hangs_up),
		CASE(detached),
		CASE(all_options),
		CASE(nothing_foreign_steers_the_terminal),
		CASE(json_passes_unchanged),
		CASE(keys_go_to_a_new_file),
		CASE(exec_has_host_and_port),
		CASE(exec_is_ended_with_the_call),
		CASE(exec_that_does_not_come_to_it),
	};

	return HARNESS_RUN(tests);
}
