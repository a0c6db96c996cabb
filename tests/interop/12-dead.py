#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""One side is killed during a call, and the other one finds out by its liveness check (RFC 7296, 2.4).

    home (tielined, service echo) 10.104.0.1 ---- 10.104.0.2 stock (charon; SIP by sippeer.py), and such a pair on 10.105.0.0/24

What comes first runs in both pairs at once, since it takes half a minute: charon is killed in a call of tielined's, and in one of its own.
"""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402

VANISHED = (40, "the other side has vanished")
STARTED_AGAIN = (40, "the other side was started again and knows nothing of this call")


def start(lab):
    "two calls are up: one of tielined's, one of strongSwan's"
    lab.out = pair.Pair(lab, 104, account="dpd = 5s")
    lab.into = pair.Pair(lab, 105, account="dpd = 5s", tag="2")
    for p in (lab.out, lab.into):
        p.start()
    lab.subscription = lab.into.d.control.send("subscribe")
    lab.out.calls()
    lab.into.is_called()
    lab.local = lab.out.forward()
    for p in (lab.out, lab.into):
        p.pings()


def killed(p):
    """SIGKILL to charon: it says nothing any more."""
    p.peer.process.kill(signal.SIGKILL)
    p.peer.process.stop()


def peer_dies(lab):
    "strongSwan is killed: tielined asks after 5 s and ends its own call 32 s later with 40; BYE follows"
    killed(lab.out)
    killed(lab.into)
    end = lab.out.d.control.done(lab.out.ident, 50)
    lablib.check((end["code"], end["reason"]) == VANISHED, "end: %s" % end)
    lab.out.ident = None


def peer_dies_in(lab):
    "the same for a call of strongSwan's"
    end = lab.into.d.control.event(lab.subscription, "ended", 20)
    lablib.check((end["code"], end["reason"]) == VANISHED, "end: %s" % end)


def nothing_left(lab):
    "of both calls nothing is left: no route, no forward"
    for p in (lab.out, lab.into):
        lablib.wait(lambda: not p.d.calls() and p.call.ended, 5, "the call is gone")        # pylint: disable=cell-var-from-loop
        lablib.check(p.inner not in p.d.inner("ip", "-6", "route"), "the route is gone")
    try:
        lablib.tcp_echo(lab, lab.out.home, *lab.local, size=10, seconds=2)
    except OSError:
        pass
    else:
        raise lablib.Failed("the forward is there")


def peer_again(lab):
    "strongSwan is started again and calls; killed and started again, it calls once more: the older call ends with a reason"
    p = lab.into
    p.peer.start()
    p.is_called()
    killed(p)
    p.peer.start()
    p.invite()
    p.connection()
    p.peer.initiate()
    p.d.control.find(lab.subscription, lambda line: line.get("event") == "ended" and (line["code"], line["reason"]) == STARTED_AGAIN, 10,
                     "end of the older call")
    lablib.wait(lambda: len(p.d.calls("up")) == 1 and len(p.d.calls()) == 1, 5, "one call")
    p.pings()


def we_die(lab):
    "tielined is killed: what was its own ends with it; started again it calls, and strongSwan forgets the older SA"
    p = lab.out
    p.peer.start()
    p.calls()
    log, ns = p.peer.process, p.d.inner_ns()
    engine = lablib.children(p.d.process.pid)
    lablib.check(ns and engine, "a private namespace and an engine")
    p.d.process.kill(signal.SIGKILL)
    lablib.wait(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in engine), 5, "the engine has ended")
    p.start_home()
    p.calls()
    lablib.check(p.peer.sas().count("ESTABLISHED") == 1, "one SA: " + p.peer.sas())
    lablib.check("destroying duplicate IKE_SA for peer 'home@example.net', received INITIAL_CONTACT" in log.text(), "INITIAL_CONTACT")
    p.pings()


def we_die_for_good(lab):
    "tielined is killed and stays away: strongSwan ends the SA by its own check"
    p = lab.out
    p.d.process.kill(signal.SIGKILL)
    lablib.wait(p.peer.empty, 30, "charon has no SA")
    lablib.check("giving up after" in p.peer.process.text(), "it gave up")
    lablib.check(lab.into.d.stop() == 0, "the other tielined ends with 0")


lablib.main("td", [start, peer_dies, peer_dies_in, nothing_left, peer_again, we_die, we_die_for_good], needs=charon.NEEDS)
