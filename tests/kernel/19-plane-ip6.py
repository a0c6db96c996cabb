#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Networks whose packets pass in the kernel over IPv6: the two daemons of tests/bench/contestants.py on a stock kernel, between which no
UDP over IPv4 passes.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/bench")
import contestants       # noqa: E402
import lablib       # noqa: E402
import qemu         # noqa: E402
import seen     # noqa: E402
from lablib import check, wait      # noqa: E402

ONLY_IP6 = "table inet only6 {\n\tchain out { type filter hook output priority 0; meta nfproto ipv4 meta l4proto udp drop; }\n}\n"


class OverIp6(contestants.Tieline):
    """Both in the kernel if they can."""
    daemon = "host = yes\nrekey-after = 8s\n"

    def start(self):
        path = os.path.join(self.lab.dir, "only6")
        with open(path, "w", encoding="ascii") as f:
            f.write(ONLY_IP6)
        for ns in (self.client, self.server):
            self.lab.ns_exec(ns, ["nft", "-f", path])
        super().start()


def spis(lab):
    """Those of the client's SAs between the two addresses, all of them in UDP."""
    sas = seen.states(lab, lab.c.client)
    check(sas and all({s.src, s.dst} == set(contestants.OUTER[6]) and all(s.ports) for s in sas), [s.text for s in sas])
    return {s.spi for s in sas}


def carries(lab):
    """Ping, also with long packets, and TCP, IPv4 and IPv6, and the kernels still have the call."""
    for to in lab.c.to.values():
        for size in (56, 1232, 1300):
            lab.ns_exec(lab.c.client, ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "3", "-s", str(size), to])
        lablib.tcp_echo(lab, lab.c.client, to, 8080, size=300000)
    for home in (lab.c.a, lab.c.b):
        check([c["plane"] for c in home.calls("up")] == ["kernel"], home.calls())


def joins(lab):
    "a call over IPv6: both kernels have it"
    lab.c = OverIp6(lab)
    for to in lab.c.to.values():
        lablib.echo_server(lab, lab.c.server, to, 8080)
    for home in (lab.c.a, lab.c.b):
        wait(lambda h=home: [c["plane"] for c in h.calls("up")] == ["kernel"], 10, "the kernel has the call of " + home.name)
    spis(lab)


def passes(lab):
    "ping, also with packets of 1300 bytes, and TCP, IPv4 and IPv6 inside; the same with new keys"
    carries(lab)
    before = spis(lab)
    wait(lambda: not spis(lab) & before, 30, "all keys are new")
    carries(lab)


def short_link(lab):
    "the link carries 1300 bytes: the same, since the kernel cuts what is around"
    for ns, to in ((lab.c.client, 1), (lab.c.server, 0)):
        lab.ip(ns, "-6", "route", "add", contestants.OUTER[6][to] + "/128", "dev", "eth0", "mtu", "1300")
    carries(lab)


def ends(lab):
    "both daemons end; nothing is left in a kernel"
    check(lab.c.a.stop() == 0 and lab.c.b.stop() == 0, "exit status")
    for ns in (lab.c.client, lab.c.server):
        check(not seen.left(lab, ns), seen.left(lab, ns))


qemu.main("tv6", [joins, passes, short_link, ends])
