#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Each trouble of docs/trouble.md that the real programs can be brought into: one plain sentence, its exit status, and a
clean state at both ends."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import A, B, USER     # noqa: E402
from lablib import check, wait   # noqa: E402


def fails(h, status, *args, words="", to=B, seconds=60):
    """`tieline call` of home A ends with this status and one sentence on stderr; returns how long it took."""
    began = time.monotonic()
    got, out, err = h.a.cli("call", to, *args, uid=USER, seconds=seconds)
    check(got == status, "exit status %d instead of %d: %s%s" % (got, status, out, err))
    sentences = [line for line in err.splitlines() if line.strip()]
    check(len(sentences) == 1, "not one sentence: %r" % err)
    check(words in err, "%r is not in %r" % (words, err))
    print("# %d: %s (%.1f s)" % (status, sentences[0], time.monotonic() - began))
    h.clean()
    return time.monotonic() - began


def no_daemon(lab):
    "no daemon: 4"
    lab.h = homes.Homes(lab, daemon_b="max-calls = 1")
    status, _, err = lab.h.a.cli("call", B)
    check(status == 4 and len(err.strip().splitlines()) == 1, "%d %s" % (status, err))


def no_pin(lab):
    "no pin of the callee: 32, and nothing is sent"
    lab.h.services().start()
    fails(lab.h, 32, words="tieline trust add")


def stranger(lab):
    "a caller whom the callee does not know: 13 after the exchange's second, as if nobody were there"
    key = lab.h.b.key
    lab.h.a.ask("trust", "add", B, key)
    took = fails(lab.h, 13)
    check(took >= 0.9, "after %.2f s already" % took)
    check("INCOMING" not in lab.h.b.process.text() and not lab.h.b.calls(), "the callee has noticed")


def unknown(lab):
    "unknown callee: 12"
    other = "sip:nobody@example.net"
    lab.h.a.ask("trust", "add", other, "sha-256:" + "77" * 32)
    fails(lab.h, 12, to=other)


def mismatch(lab):
    "the callee's key is not the pinned one: 31"
    lab.h.b.ask("trust", "add", A, lab.h.a.key)
    lab.h.a.ask("trust", "remove", B)
    lab.h.a.ask("trust", "add", B, "sha-256:" + "5a" * 32)
    fails(lab.h, 31)
    lab.h.a.ask("trust", "remove", B)
    lab.h.a.ask("trust", "add", B, lab.h.b.key)


def no_grant(lab):
    "a service that is not granted, and one that does not exist: the same 16"
    fails(lab.h, 16, to=B + "/admin")
    fails(lab.h, 16, to=B + "/nonsense")


def busy(lab):
    "busy: 14"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    # the callee takes one call at a time; the same key may replace its own, but before it is proved there is no room
    status, out, err = lab.h.a.cli("call", B, uid=USER)
    check(status == 14, "%d %s%s" % (status, out, err))
    check(lab.h.a.cli("hangup", "all")[0] == 0, "hangup")
    call.done(10)
    lab.h.clean()


def not_registered(lab):
    "callee not registered: 13, after the same second"
    check(lab.h.b.stop() == 0, "stop")
    took = fails(lab.h, 13)
    check(took >= 0.9, "after %.2f s already" % took)
    lab.h.b.start()
    lab.h.b.registered()


def wrong_password(lab):
    "wrong password: 11"
    path = lab.dir + "/home-a/password"
    with open(path) as f:
        good = f.read()
    check(lab.h.a.stop() == 0, "stop")
    with open(path, "w") as f:
        f.write("A" * 22 + "\n")
    lab.h.a.start()
    fails(lab.h, 11)
    check(lab.h.a.stop() == 0, "stop")
    with open(path, "w") as f:
        f.write(good)
    lab.h.a.start()
    lab.h.a.registered()


def revoked(lab):
    "the callee's owner removes the pin during a call: 17 at the caller at once"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    lab.h.b.ask("trust", "remove", A)
    status, done = call.done(10)
    check(status == 17, "%d %s" % (status, done))
    lab.h.clean()
    lab.h.b.ask("trust", "add", A, lab.h.a.key)


def port_in_use(lab):
    "the tunnel port is taken: the daemon says so and nothing else, exit status 1"
    argv = [lablib.binary("tielined"), "-c", lab.h.b.dir + "/tielined.conf", "-s", lab.dir + "/second", "-r", lab.dir + "/second"]
    second = lab.spawn(lab.h.b.ns, argv, "second", env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    wait(lambda: not second.alive(), 10, "it ends")
    check(second.popen.returncode == 1, second.popen.returncode)
    check("UDP port 4500 is in use" in second.text() and "confined" not in second.text(), second.text())
    check(lab.h.b.process.alive(), "the first one goes on")


def frozen_exchange(lab):
    "an exchange that says nothing at all: 10 when the time is over, and not the callee's fault"
    lab.h.exchange.kill(signal.SIGSTOP)
    fails(lab.h, 10, "--timeout", "2")
    lab.h.exchange.kill(signal.SIGCONT)
    time.sleep(1)             # the late INVITE and what ends it
    lab.h.clean(30)


def no_exchange(lab):
    "exchange unreachable: 10"
    check(lab.h.exchange.stop() == 0, "stop")
    check(lab.h.a.stop() == 0, "stop")
    lab.h.a.start()
    fails(lab.h, 10)


lablib.main("tlr", [no_daemon, no_pin, stranger, unknown, mismatch, no_grant, busy, not_registered, wrong_password, revoked,
                    port_in_use, frozen_exchange, no_exchange], needs=["ip", "nft", "setpriv"])
