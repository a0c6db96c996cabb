/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The tieline authors */
/* cli/help.c - what `--help` says; man/tieline.1 says it at length. */
#include <stddef.h>
#include <string.h>

#include "cli/cli_impl.h"

static const char overview[] =
	"usage: tieline [--control PATH] [--json] COMMAND ...\n"
	"\n"
	"  call AOR[/SERVICE]      dial, and stay until Ctrl-C\n"
	"  hangup AOR|ID|all       end calls\n"
	"  answer ID, decline ID   say yes or no to a caller who asks (`ask = yes`)\n"
	"  status                  accounts and calls\n"
	"  forward AOR|ID tcp|udp/[ADDRESS:]PORT\n"
	"                          one more local port of a call that is up\n"
	"  trust list|add|remove|export\n"
	"                          pinned keys\n"
	"  explain AOR[/SERVICE]   what policy says, and by which rule\n"
	"  ping AOR|ID             echo through the tunnel\n"
	"  log [-f]                the daemon's last lines\n"
	"  reload                  read the configuration again\n"
	"  inspect KIND FILE       decode sip, sdp, stun, datagram, ike or esp; needs no daemon\n"
	"  help COMMAND            or: tieline COMMAND --help\n"
	"\n"
	"  --control PATH          the daemon's socket (else $TIELINE_CONTROL, /run/tieline/control)\n"
	"  --json                  the daemon's lines as they are\n"
	"  --version\n";

static const struct {
	const char *name, *text;
} texts[] = {
	{ "call",
	  "usage: tieline call AOR[/SERVICE] [--detach] [--trust-first] [--timeout S] [--from AOR] [--port N] "
	  "[--any-user]\n"
	  "                    [--export-keys FILE] [--exec CMD [ARG ...]]\n"
	  "Dials AOR and asks for SERVICE (without one: for all that is allowed). Stays in the foreground; Ctrl-C "
	  "hangs up.\n"
	  "  --detach        return when the call is up; it stays until `tieline hangup`\n"
	  "  --trust-first   accept a key that was never seen and remember it (level tofu)\n"
	  "  --timeout S     give up after S seconds, 1 to 3600\n"
	  "  --from AOR      the account to call from, where there are several\n"
	  "  --port N        wished local port of the service\n"
	  "  --any-user      let every user of this machine use the local ports\n"
	  "  --export-keys FILE\n"
	  "                  write the call's keys to FILE, which must not exist, for Wireshark; the daemon must allow "
	  "it\n"
	  "  --exec CMD ...  must come last: start CMD with TIELINE_HOST and TIELINE_PORT in its environment when the\n"
	  "                  service is reachable; hang up when it ends, and exit with its status\n" },
	{ "hangup", "usage: tieline hangup AOR|ID|all\nEnds the calls with AOR, the call with that number, or all.\n" },
	{ "answer", "usage: tieline answer ID [--seconds N]\n"
		    "Grants what the call with that number asks for, for this call. `tieline status` shows who asks "
		    "and for what.\n"
		    "  --seconds N  for N seconds at most; `for` of the peer's section limits it as well\n" },
	{ "decline", "usage: tieline decline ID\nTells the caller no (exit status 15 at its end).\n" },
	{ "status", "usage: tieline status [--json]\nAccounts, their registration and keys, and the calls with their "
		    "services or what they ask for.\n" },
	{ "forward", "usage: tieline forward AOR|ID tcp|udp/[ADDRESS:]PORT [--port N]\n"
		     "Opens one more local port to a port of the peer that the call's grants cover, or to one of a "
		     "host of a network\n"
		     "that it granted, and prints where it is.\n"
		     "  --port N  wished local port\n" },
	{ "trust",
	  "usage: tieline trust list\n"
	  "       tieline trust add AOR KEY [--add-device]\n"
	  "       tieline trust remove AOR [KEY]\n"
	  "       tieline trust export\n"
	  "KEY is sha-256:<64 hex digits>. export prints our own addresses and keys, as the other side's `trust add`\n"
	  "takes them. --add-device: a further key for an address that has one.\n" },
	{ "explain", "usage: tieline explain AOR[/SERVICE] [--key KEY]\n"
		     "Asks the function that decides: may AOR call us, or may it reach SERVICE? Prints the rule.\n"
		     "  --key KEY  as if this key had been shown and proved\n" },
	{ "ping",
	  "usage: tieline ping AOR|ID [--count N]\nN echoes (4) through the tunnel of that call. 40: no reply.\n" },
	{ "log", "usage: tieline log [-f|--follow]\nThe daemon's last 1000 lines; -f: and those that come.\n" },
	{ "reload", "usage: tieline reload\nThe daemon reads its configuration again: all of it, or nothing of it.\n" },
	{ "inspect", "usage: tieline inspect sip|sdp|stun|datagram|ike|esp FILE [--password TEXT] [--keys FILE]\n"
		     "Decodes one message (FILE - : standard input) to JSON. Exit 0, or 3 when it is refused.\n"
		     "  --password TEXT  stun: check MESSAGE-INTEGRITY with this short-term password\n"
		     "  --keys FILE      ike, esp: decrypt with these keys (docs/inspect.md)\n" },
};

const char *cli_help(const char *command)
{
	if (!command)
		return overview;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!strcmp(texts[i].name, command))
			return texts[i].text;
	return NULL;
}
