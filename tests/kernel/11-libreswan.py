#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""libreswan with the kernel's ESP, in both roles; inside user-mode-linux.

    home (tielined, service echo) 10.102.0.1 ---- 10.102.0.2 stock (pluto, kernel ESP; SIP by sippeer.py)
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402
import libreswan    # noqa: E402
import pair         # noqa: E402
import uml          # noqa: E402
import wire         # noqa: E402


def start(lab):
    "pluto and tielined run"
    lab.pair = pair.Pair(lab, 102, libreswan.Libreswan, daemon="rekey-after = 5s")
    lab.wire = wire.Wire(lab, lab.pair.stock, "eth0")
    lab.pair.start()


def calls(lab):
    "tielined calls: the kernel has its SAs, in UDP"
    lab.pair.calls()
    lablib.check(lab.pair.peer.states().count("encap type espinudp sport") == 2, "ESP in UDP: " + lab.pair.peer.states())


def is_called(lab):
    "pluto calls, for the one service: the same"
    lab.pair.swan = {"service": pair.ECHO}
    lab.pair.is_called()
    lablib.check(lab.pair.peer.states().count("encap type espinudp sport") == 2, "ESP in UDP: " + lab.pair.peer.states())


def pings(lab):
    "ping, both ways"
    lab.pair.pings()


def rekeys(lab):
    "pluto rekeys the Child SA and the IKE SA; ping again"
    p = lab.pair
    for what, words in (("ipsec", r"Child SA up.*Child SA gone"), ("ike", r"IKE SA rekeyed by the peer.*REPLACED -> DEAD \(deleted by the peer\)")):
        at = len(p.d.process.text())
        p.peer.whack("--rekey-" + what, "--name", "call")
        lablib.wait(lambda: re.search(words, p.d.process.text()[at:], re.S), 5, "new keys: " + what)      # pylint: disable=cell-var-from-loop
    p.pings()


def rekeyed(lab):
    "tielined rekeys the Child SA; TCP again"
    p = lab.pair
    lablib.wait(lambda: "responder rekeyed Child SA" in p.peer.process.text(), 10, "new keys")
    lablib.tcp_echo(lab, p.home, *p.forward())


def copy_out(lab):
    "a copy of 1 MB through our forward and back is the same; hang-up"
    host, port = lab.pair.forward()
    lablib.tcp_echo(lab, lab.pair.home, host, port, size=1 << 20)
    lab.pair.hang_up()


def copy_in(lab):
    "a copy of 1 MB to our service and back is the same; pluto ends it"
    lablib.tcp_echo(lab, lab.pair.stock, lab.pair.d.address, pair.ECHO, size=1 << 20, source=lab.pair.inner)
    lab.pair.terminate()


def on_the_wire(lab):
    "no packet of protocol 50 was on the wire, and ESP in UDP was"
    lablib.check(lab.wire.protocols.get(50, 0) == 0, "protocols: %s" % lab.wire.protocols)
    lablib.check(lab.wire.esp > 500 and lab.wire.ike > 10, "in UDP: %d of ESP, %d of IKE" % (lab.wire.esp, lab.wire.ike))
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


uml.main("tv", [start, calls, pings, rekeys, rekeyed, copy_out, is_called, copy_in, on_the_wire], needs=libreswan.NEEDS)
