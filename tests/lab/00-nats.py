#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""The lab's kernel NATs are what their names say: mapping and filtering of each, with plain UDP sockets.

    host 10.95.0.2 ---- NAT 198.51.100.1 ---- 198.51.100.5 and .6, on one machine
"""
import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402

INSIDE, OUTSIDE, A, B = "10.95.0.2", "198.51.100.1", "198.51.100.5", "198.51.100.6"
# from the address and port that was written to; from its address, another port; from elsewhere
FILTERING = {"full-cone": (True, True, True), "address-restricted": (True, True, False), "port-restricted": (True, False, False),
             "symmetric": (True, False, False)}


def udp(lab, ns, address, port=0):
    """A bound UDP socket inside a namespace."""
    with lab.inside(ns):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    s.settimeout(0.3)
    return s


def heard(s):
    """The next datagram's sender, None: there is none."""
    try:
        return s.recvfrom(100)[1]
    except socket.timeout:
        return None


def network(lab):
    "the network is there"
    lab.host, lab.box, lab.out = lab.netns("host"), lab.netns("box", forward=True), lab.netns("out")
    lab.veth(lab.host, "eth0", [INSIDE + "/24"], lab.box, "lan", ["10.95.0.1/24"])
    lab.veth(lab.out, "eth0", [A + "/24", B + "/24"], lab.box, "wan", [OUTSIDE + "/24"])
    lab.route(lab.host, "default", "10.95.0.1")
    lab.port = 5000


def a_nat(lab, kind):
    """One kind's mapping and filtering, and that what came unasked does not spoil the mapping to come."""
    lab.ns_exec(lab.box, ["nft", "flush", "ruleset"])
    lab.nat(lab.box, kind)
    lab.port += 1                         # conntrack remembers the last one's
    inner, a, a2, b = udp(lab, lab.host, INSIDE, lab.port), udp(lab, lab.out, A), udp(lab, lab.out, A), udp(lab, lab.out, B)
    with inner, a, a2, b:
        b.sendto(b"unasked", (OUTSIDE, lab.port))
        lablib.check(heard(inner) is None, "what is unasked does not come in")
        inner.sendto(b"x", a.getsockname())
        mapped = heard(a)
        lablib.check(mapped and mapped[0] == OUTSIDE, "it goes out: %s" % (mapped,))
        got = []
        for s in (a, a2, b):
            s.sendto(b"y", mapped)
            got.append(heard(inner) is not None)
        lablib.check(tuple(got) == FILTERING[kind], "filtering: %s" % got)
        inner.sendto(b"x", b.getsockname())
        other = heard(b)
        if kind == "symmetric":
            lablib.check(mapped[1] != lab.port and other[1] != mapped[1], "mapping: %s, %s" % (mapped, other))
        else:
            lablib.check(mapped[1] == other[1] == lab.port, "mapping: %s, %s" % (mapped, other))
        b.sendto(b"y", other)
        lablib.check(heard(inner) == b.getsockname(), "the answer of the second comes in")


def step(kind):
    """A NAT's case."""
    def run(lab):
        a_nat(lab, kind)
    run.__doc__ = kind + ": mapping and filtering"
    return run


def blocked(lab):
    "udp-blocked: UDP does not pass, TCP does"
    lab.ns_exec(lab.box, ["nft", "flush", "ruleset"])
    lab.nat(lab.box, "udp-blocked")
    inner, a = udp(lab, lab.host, INSIDE), udp(lab, lab.out, A)
    with inner, a:
        inner.sendto(b"x", a.getsockname())
        lablib.check(heard(a) is None, "UDP passes")
    lablib.tcp_echo(lab, lab.host, A, lablib.echo_server(lab, lab.out, A, 0))


lablib.main("ti", [network] + [step(kind) for kind in FILTERING] + [blocked], needs=["ip", "nft"])
