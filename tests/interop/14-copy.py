#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""100 MB each way in a call of either side, compared by their hash, while both ping; tielined drops nothing.

    home (tielined, service copy) 10.107.0.1 ---- 10.107.0.2 stock (charon; SIP by sippeer.py)
"""
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402
import transfer     # noqa: E402

SIZE, PORT = 100 * 1000 * 1000, 7010


def start(lab):
    "strongSwan and tielined run"
    lab.pair = pair.Pair(lab, 107, peer="ice = no\nallow = copy", more="[service copy]\nlisten = tcp/%d\n" % PORT)
    lab.pair.start()
    transfer.server(lab, lab.pair.home, "127.0.0.1", PORT)
    transfer.server(lab, lab.pair.stock, lab.pair.inner, PORT)


def calls(lab):
    "tielined calls"
    lab.pair.calls()
    host, port = lab.pair.forward(PORT)
    lab.where = (lab.pair.home, host, port)


def is_called(lab):
    "strongSwan calls"
    lab.pair.is_called()
    lab.where = (lab.pair.stock, lab.pair.d.address, PORT, lab.pair.inner)


def while_pinging(lab, what):
    """A transfer, and pings by both sides meanwhile, and tielined drops nothing. The peer's own sockets may: a copy at full speed is
    more than kernel-libipsec takes, and a ping, unlike TCP, is not sent again. One of four must get through."""
    p, failed = lab.pair, []

    def pings():
        try:
            lost = 0
            for _ in range(2):
                try:
                    p.pings(least=1)
                except lablib.Failed:
                    lost += 1
            lablib.check(lost < 2, "no ping gets through")
        except Exception as e:      # pylint: disable=broad-except  # told by the step
            failed.append(e)
    pinger = threading.Thread(target=pings, daemon=True)
    pinger.start()
    mb_s = what(lab, SIZE, *lab.where)
    pinger.join(30)
    lablib.check(not failed and not pinger.is_alive(), "pings: %s" % failed)
    lablib.check(not p.drops(), "drops: %s" % p.drops())
    print("# %.0f MB/s" % mb_s)


def send(lab):
    "100 MB from the caller"
    while_pinging(lab, transfer.send)


def fetch(lab):
    "100 MB to the caller"
    while_pinging(lab, transfer.fetch)


def counted(lab):
    "what was carried is counted"
    call = lab.pair.d.calls("up")[0]
    lablib.check(call["bytes_in"] > SIZE and call["bytes_out"] > SIZE, "%s" % call)


def hang_up(lab):
    "tielined hangs up"
    lab.pair.hang_up()


def terminate(lab):
    "strongSwan ends the call"
    lab.pair.terminate()
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


lablib.main("tc", [start, calls, send, fetch, counted, hang_up, is_called, send, fetch, counted, terminate], needs=charon.NEEDS)
