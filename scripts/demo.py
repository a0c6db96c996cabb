#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""make demo: two homes behind kernel NATs, an exchange between them, one call, and nothing left of it.

What it prints comes from `tieline --json` or from the kernel. Any surprise ends it with a sentence and exit status 1.
DEMO_BREAK=grant|nat|pin breaks one thing on purpose: nothing granted, two symmetric NATs, a wrong key.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import A, B, OTHER, USER     # noqa: E402
from lablib import check, wait          # noqa: E402

BREAK = os.environ.get("DEMO_BREAK", "")


def title(text):
    print("\n== %s" % text, flush=True)


def say(text=""):
    print("   " + text, flush=True)


def change(name, text):
    """What DEMO_BREAK changes in the example configurations."""
    if BREAK == "grant" and name == "home-b":
        return text.replace("allow = desktop files\n", "")
    return text


def set_up(lab):
    title("Two homes and an exchange")
    print(homes.TOPOLOGY)
    nat = "symmetric" if BREAK == "nat" else "port-restricted"
    h = homes.Homes(lab, nat, nat, change=change)
    say("both NATs are %s (nftables)" % nat)
    h.services().start()
    title("Both are registered")
    for home in (h.a, h.b):
        account = home.ask("status")[-1]["status"]["accounts"][0]
        check(account["registered"], "%s is not registered" % home.name)
        say("%(aor)s  registered\n      key      %(key)s\n      address  %(address)s" % account)
    return h


def pin(h):
    title("Each owner enters the other's key, once")
    h.pin()
    if BREAK == "pin":
        h.a.ask("trust", "remove", B)
        h.a.ask("trust", "add", B, "sha-256:" + "5a" * 32)
    for home in (h.a, h.b):
        for line in home.ask("trust", "list"):
            if line.get("event") == "pin":
                say("%s knows %s at level %s: %s..." % (home.name, line["peer"], line["level"], line["key"][:24]))


def dial(h):
    title("home-a$ tieline call %s" % B)
    call = h.a.dial(B)
    granted = {}
    try:
        up = call.event("up", 90)
    except lablib.Failed:
        status, done = call.done()
        raise lablib.Failed("the call failed with exit status %d: %s" % (status, done and done["reason"])) from None
    for line in call.lines():
        more = ""
        if line["event"] == "path":
            more = "%s -> %s (%s)" % (line["local"], line["remote"], line["path"])
        elif line["event"] == "authenticated":
            more = "%s..., level %s" % (line["key"][:24], line["level"])
        elif line["event"] == "granted":
            granted[line["name"]] = line["local"]
            more = "%s at %s" % (line["name"], line["local"])
        say("%6.3f s  %-14s %s" % (line["t_ms"] / 1000, line["event"], more))
    check(set(granted) == {"desktop", "files"}, "granted are %s" % sorted(granted))
    return call, up, granted


def ping(h):
    title("home-a$ tieline ping %s" % B)
    replies = [line for line in h.a.ask("ping", B) if line.get("event") == "reply"]
    check(replies, "no reply to ping")
    for line in replies:
        say("reply %d from %s in %.1f ms" % (line["seq"], h.b.address, line["rtt_ms"]))


def transfer(h, granted):
    title("Through the granted services: random bytes to an echo server and back, checksums compared")
    for name in ("desktop", "files"):
        status, text = h.echo(USER, granted[name], 4000000)
        for line in text.splitlines():
            say("%-8s %s" % (name, line))
        check(status == 0, "the transfer through %s failed" % name)


def refused_call(h):
    title("home-a$ tieline call %s/admin: a service that is not granted" % B)
    status, _, err = h.a.cli("call", B + "/admin", uid=USER)
    check(status == 16, "it ended with %d: %s" % (status, err))
    say("exit status %d: %s" % (status, err.strip()))
    h.clean()


def refusals(h, granted):
    title("A port that is not granted is not reached")
    before = h.a.ask("status")[-1]["status"]["calls"][0]["drops"]
    status, text = None, ""
    try:
        h.a.inner("python3", os.path.join(lablib.ROOT, "tests/echo.py"), "[%s]:22" % h.b.address, "10", "2", seconds=20)
    except lablib.Failed as e:
        text = str(e).splitlines()[-1].split(": ", 1)[-1]
    check(text, "port 22 was reached although it is not granted")
    after = h.a.ask("status")[-1]["status"]["calls"][0]["drops"]
    say("port 22 of %s from inside the private namespace: %s" % (h.b.address, text))
    say("drops of the call: %s, before: %s" % (after, before))
    title("Another user of the caller's machine is refused")
    status, text = h.echo(OTHER, granted["files"], 10)
    check(status != 0, "another user got through")
    say("user %d at %s: %s" % (OTHER, granted["files"], text.splitlines()[-1]))
    status, text = h.echo(USER, granted["files"], 10)
    check(status == 0, "the caller's own user does not get through any more: " + text)
    say("user %d, who called: %s" % (USER, text.splitlines()[-1]))


def status_of(h):
    title("tieline status, both ends")
    for home in (h.a, h.b):
        status, out, err = home.cli("status")
        check(status == 0, err)
        for line in out.rstrip().splitlines():
            say("%s  %s" % (home.name, line))
        calls = home.calls("up")
        check(len(calls) == 1 and len(calls[0]["services"]) == 2, "%s has other calls than one with two services" % home.name)


def hang_up(h, call):
    title("Ctrl-C")
    began = time.monotonic()
    call.process.kill(signal.SIGINT)
    status, done = call.done(10)
    check(status == 0, "hang-up ended with %d" % status)
    say("exit status %d: %s" % (status, done["reason"]))
    h.clean()
    say("both ends show no call and no route to the other after %.2f s" % (time.monotonic() - began))
    for home in (h.a, h.b):
        say("%s: %s" % (home.name, "; ".join(" ".join(line.split()) for line in
            home.inner("ip", "-6", "-brief", "address", "show", "dev", "tie0").splitlines())))


def take_down(lab, h):
    title("The daemons go")
    for home in (h.a, h.b):
        check(home.stop() == 0, "%s did not end with 0" % home.name)
    check(h.exchange.stop() == 0, "the exchange did not end with 0")
    wait(lambda: not homes.leftovers(lab), 5, "no process is left: %s" % homes.leftovers(lab))
    say("no process and no interface of theirs is left; the lab's namespaces go now")


def main():
    if BREAK not in ("", "grant", "nat", "pin"):
        sys.exit("demo: DEMO_BREAK is grant, nat or pin")
    if os.geteuid():
        sys.exit("demo: needs root: it makes network namespaces")
    lab = lablib.Lab("demo")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        h = set_up(lab)
        pin(h)
        if not BREAK:
            refused_call(h)
        call, _, granted = dial(h)
        ping(h)
        transfer(h, granted)
        refusals(h, granted)
        status_of(h)
        hang_up(h, call)
        take_down(lab, h)
    except lablib.Failed as e:
        print("\ndemo: %s" % e, flush=True)
        if os.environ.get("DEMO_LOGS"):
            lab.diagnose(200)
        lab.close()
        return 1
    lab.close()
    print("\nDone.")
    return 0


sys.exit(main())
