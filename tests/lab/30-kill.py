#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""SIGKILL at any moment: whoever is left can call again, and of the one that was killed nothing stays. Peers that vanish."""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import B   # noqa: E402
from lablib import check, wait   # noqa: E402

MOMENTS = 6           # of a call that comes up, for each of the four victims


def start(lab):
    "two homes"
    lab.h = homes.Homes(lab, daemon_a="dead-after = 30s\nworkers = 4", daemon_b="dead-after = 30s").services().start().pin()
    lab.random = random.Random(6193)


def ended(pid):
    """Is this process gone, or only waiting to be collected?"""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def dies(lab, home, part):
    """Kills the engine or the monitor of a home; the other part, the namespace and the TUN go with it."""
    engine = home.process.pid
    monitor = check(lablib.children(engine), "%s has a monitor" % home.name)[0]
    os.kill(engine if part == "engine" else monitor, signal.SIGKILL)
    wait(lambda: ended(monitor), 5, "the monitor of %s has ended" % home.name)
    wait(lambda: not home.process.alive(), 5, "the engine of %s has ended" % home.name)
    if home._control:
        home._control.close()
        home._control = None


def killed(home_name, part):
    def step(lab):
        home = lab.h.a if home_name == "home-a" else lab.h.b
        for i in range(MOMENTS):
            call = lab.h.a.dial(B)
            moment = lab.random.uniform(0, 0.4) if i else 2.0
            time.sleep(moment)
            dies(lab, home, part)
            if home is lab.h.a:
                wait(lambda c=call: not c.process.alive(), 5, "the client ends when its daemon is gone")
            else:
                call.process.kill(signal.SIGINT)
                call.done(10)
            home.start()
            home.registered()
            again = lab.h.a.dial(B)
            again.event("up", 30)
            wait(lambda: len(lab.h.b.calls("up")) == 1, 10, "one call at the callee")
            again.process.kill(signal.SIGINT)
            again.done(10)
            lab.h.clean(10)
    step.__doc__ = "%s's %s is killed at %d moments of a call: the next call comes up" % (home_name, part, MOMENTS)
    return step


def exchange_dies(lab):
    "the exchange is killed during a call: the call stays; after its return the next call comes up"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    lab.h.exchange.kill(signal.SIGKILL)
    wait(lambda: not lab.h.exchange.alive(), 5, "it is dead")
    lab.h.a.ping(lab.h.a.up()["id"])
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "hang-up without an exchange")
    lab.h.clean(10)
    lab.h.start_exchange()
    wait(lambda: all(not home.registered(60) is None for home in (lab.h.a, lab.h.b)), 60, "both register again")
    again = lab.h.a.dial(B)
    again.event("up", 30)
    again.process.kill(signal.SIGINT)
    again.done(10)
    lab.h.clean(10)


def vanishes(lab):
    "the callee's network goes away: the caller ends with 40, and so does the callee"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    lab.ip(lab.h.nat_ns["b"], "link", "set", "wan", "down")
    status, done = call.done(90)
    check(status == 40, "%d %s" % (status, done))
    wait(lambda: not lab.h.b.calls(), 90, "the callee has ended it too")
    lab.ip(lab.h.nat_ns["b"], "link", "set", "wan", "up")
    lab.h.clean(10)


lablib.main("tlk", [start] + [killed(h, p) for h in ("home-a", "home-b") for p in ("engine", "monitor")] + [exchange_dies, vanishes],
            needs=["ip", "nft", "setpriv"])
