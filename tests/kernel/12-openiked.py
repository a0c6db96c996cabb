#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""OpenIKED as IKE peer, in both roles, without ESP (openiked.py says why); inside user-mode-linux.

    home (tielined) 10.103.0.1 ---- 10.103.0.2 stock (iked; SIP by sippeer.py)
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402
import openiked     # noqa: E402
import pair         # noqa: E402
import uml          # noqa: E402


def start(lab):
    "tielined runs, and knows iked's certificate"
    lab.pair = pair.Pair(lab, 103, openiked.Openiked)
    lab.pair.start()


def up(lab):
    """Both have the SAs."""
    p = lab.pair
    sas = p.peer.sas()
    lablib.check(re.search(r"iked_sas: .*<UFQDN/home@example.net>\[\] VALID [ri] natt udpecap ", sas), "an IKE SA: " + sas)
    for direction, words in (("out", "%s/128 -> %s/128" % (p.inner, p.d.address)), ("in", "%s/128 -> %s/128" % (p.d.address, p.inner))):
        lablib.check("ESP %s %s" % (direction, words) in sas, "traffic selectors: " + sas)
    lablib.check("IKE suite AES-GCM-16-128, HMAC-SHA2-256, X25519" in p.d.process.text(), "IKE suite")
    lablib.check(re.search(r"SA up in=.* AES-CBC-256 HMAC-SHA2-256-128", p.d.process.text()), "ESP suite")


def calls(lab):
    "tielined calls: IKE SA and Child SA are there"
    lab.pair.calls()
    up(lab)


def is_called(lab):
    "iked calls: the same"
    lab.pair.is_called()
    up(lab)


def hang_up(lab):
    "hang-up: nothing is left at either end"
    lab.pair.hang_up()


def terminate(lab):
    "iked ends it: the same"
    lab.pair.terminate()
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


uml.main("tv", [start, calls, hang_up, is_called, terminate], needs=openiked.NEEDS)
