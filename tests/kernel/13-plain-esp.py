#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""ESP without UDP (`udp-encap = no`) with strongSwan and the kernel's ESP; inside user-mode-linux.

    home (tielined, service echo) 10.108.0.1 ---- 10.108.0.2 stock (charon, kernel ESP; SIP by sippeer.py)

The stock peer offers `ike-esp`: IKE stays on the ports of the descriptions, ESP is protocol 50.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402
import tcpcopy      # noqa: E402
import uml          # noqa: E402
import wire         # noqa: E402


class Plain(pair.Pair):
    """The stock peer's descriptions have `ike-esp`."""

    def describe(self, offer, setup="passive"):
        return super().describe(offer, setup).replace("ike-esp-udpencap", "ike-esp")


def start(lab):
    "charon and tielined run"
    lab.pair = Plain(lab, 108, charon.KernelCharon, peer="ice = no\nudp-encap = no", encap="no", esp="aes128gcm16-esn")
    lab.wire = wire.Wire(lab, lab.pair.stock, "eth0")
    lab.pair.start()


def is_called(lab):
    "strongSwan calls: the answer has ike-esp, neither side sees a NAT, the kernel's SAs are without UDP"
    p = lab.pair
    p.is_called()
    lablib.check("udp ike-esp\r\n" in p.call.answer, "answer: " + p.call.answer)
    lablib.check("is behind NAT" not in p.peer.process.text(), "no NAT")
    lablib.check("encap" not in p.peer.states() and p.peer.states().count("proto esp") == 2, p.peer.states())


def traffic(lab):
    "ping, both ways, and a copy of 4 MB to our service and back"
    lab.pair.pings()
    lablib.tcp_echo(lab, lab.pair.stock, lab.pair.d.address, pair.ECHO, size=4 << 20, seconds=30, source=lab.pair.inner)
    lablib.check(not lab.pair.drops(), "drops: %s" % lab.pair.drops())


def rekeys(lab):
    "strongSwan rekeys the Child SA while a copy runs: nothing is lost"
    copy = tcpcopy.EchoCopy(lab, lab.pair.stock, lab.pair.d.address, pair.ECHO, lab.pair.inner)
    copy.moves()
    n = lab.pair.d.process.text().count("Child SA up")
    lab.pair.peer.swanctl("--rekey", "--child", "tunnel")
    lablib.wait(lambda: lab.pair.d.process.text().count("Child SA up") > n, 10, "another Child SA")
    copy.moves()
    copy.finish()
    lablib.check(not lab.pair.drops(), "drops: %s" % lab.pair.drops())


def terminate(lab):
    "strongSwan ends it: nothing is left"
    lab.pair.terminate()


def on_the_wire(lab):
    "ESP was protocol 50 on the wire, and none was in UDP"
    lablib.check(lab.wire.protocols.get(50, 0) > 1000, "protocols: %s" % lab.wire.protocols)
    lablib.check(lab.wire.esp == 0, "%d of ESP in UDP" % lab.wire.esp)
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


uml.main("tv", [start, is_called, traffic, rekeys, terminate, on_the_wire], needs=[charon.CHARON, "swanctl", "openssl", "ip", "ping"])
