#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""New keys with strongSwan, for the IKE SA and the Child SA, made by either side while a TCP connection never rests; in a call of
tielined's, then in one of strongSwan's.

    home (tielined, service echo) 10.92.0.1 ---- 10.92.0.2 stock (charon; SIP by sippeer.py)

strongSwan wants a key exchange for each Child SA but the first (PFS). The bytes that come back must be those that were sent, and
tielined must not have dropped a packet.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402
import tcpcopy      # noqa: E402

# what charon says of a request of ours
CHILD = r"parsed CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\)"
IKE = r"parsed CREATE_CHILD_SA request \d+ \[ SA No KE \]"


def start(lab):
    "strongSwan and tielined run"
    lab.pair = pair.Pair(lab, 92, daemon="rekey-after = 5s", esp="aes128gcm16-x25519")
    lab.pair.start()
    lab.charon, lab.mark = lab.pair.peer, 0


def log(lab):
    """What charon has said in this call."""
    return lab.charon.process.text()[lab.mark:]


def calls(lab):
    "tielined calls, and a copy runs through its tunnel"
    lab.pair.calls()
    host, port = lab.pair.forward()
    lab.copy = tcpcopy.EchoCopy(lab, lab.pair.home, host, port)
    lab.copy.moves()


def is_called(lab):
    "strongSwan calls, and a copy runs through its tunnel"
    lab.mark = len(lab.charon.process.text())
    lab.pair.is_called()
    lab.copy = tcpcopy.EchoCopy(lab, lab.pair.stock, lab.pair.d.address, pair.ECHO, lab.pair.inner)
    lab.copy.moves()


def spis(lab):
    """SPIs of the IKE SA and of the Child SAs that charon lists."""
    text = lab.charon.sas()
    return re.findall(r"([0-9a-f]{16})_[ir]", text)[:2], sorted(re.findall(r"^ +in +([0-9a-f]{8})", text, re.M))


def charon_child(lab):
    "strongSwan rekeys the Child SA"
    before = spis(lab)[1]
    lab.charon.swanctl("--rekey", "--child", "tunnel")
    done = r"generating CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\).*parsed CREATE_CHILD_SA response \d+ \[ SA"
    lablib.wait(lambda: re.search(done, log(lab), re.S), 10, "strongSwan's request is answered")
    lablib.wait(lambda: len(spis(lab)[1]) == 1 and spis(lab)[1] != before, 10, "another Child SA")
    lablib.check("AES_GCM_16-128/CURVE_25519" in lab.charon.sas().replace(" ", ""), "with a KE: " + lab.charon.sas())
    lab.copy.moves()


def charon_ike(lab):
    "strongSwan rekeys the IKE SA"
    before = spis(lab)[0]
    lab.charon.swanctl("--rekey", "--ike", "call")
    done = r"generating CREATE_CHILD_SA request \d+ \[ SA No KE \].*parsed CREATE_CHILD_SA response \d+ \[ SA No KE \]"
    lablib.wait(lambda: re.search(done, log(lab), re.S), 10, "strongSwan's request is answered")
    lablib.wait(lambda: spis(lab)[0] not in ([], before), 10, "another IKE SA")
    lablib.wait(lambda: lab.charon.sas().count("ESTABLISHED") == 1, 10, "and only that")
    lab.copy.moves()


def tieline_child(lab):
    "tielined rekeys the Child SA, several times"
    lablib.wait(lambda: len(re.findall(CHILD, log(lab))) >= 3, 40, "three Child SAs of ours")
    lab.copy.moves()


def tieline_ike(lab):
    "tielined rekeys the IKE SA, after four times its lifetime"
    lablib.wait(lambda: re.search(IKE, log(lab)), 40, "an IKE SA of ours")
    lablib.wait(lambda: lab.charon.sas().count("ESTABLISHED") == 1, 10, "and only that")
    lab.copy.moves()


def whole(lab):
    "the copy is whole, and tielined has dropped nothing"
    lab.copy.finish()
    lablib.check(not lab.pair.drops(), "dropped: %s" % lab.pair.drops())
    lablib.check(not re.search(r"(CHILD|IKE)_SA [a-z]*\[?\{?\d+\]?\}? (rekeying|creation) failed", log(lab)), "charon had no failure")


def hang_up(lab):
    "hang-up by the newest IKE SA: nothing is left at either end"
    lab.pair.hang_up()


def terminate(lab):
    "strongSwan ends the newest IKE SA: nothing is left at either end"
    lab.pair.terminate()
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


REKEYS = [charon_child, charon_ike, tieline_child, tieline_ike, whole]
lablib.main("tk", [start, calls] + REKEYS + [hang_up, is_called] + REKEYS + [terminate], needs=charon.NEEDS)
