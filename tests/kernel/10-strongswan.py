#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""strongSwan with the kernel's ESP on a path without NAT, in both roles; inside user-mode-linux.

    home (tielined, service echo) 10.101.0.1 ---- 10.101.0.2 stock (charon, kernel ESP; SIP by sippeer.py)

It is not told to encapsulate (`encap = no`): that ESP stays inside UDP is our NAT detection's doing (RFC 7296, 2.23). AES-GCM with
64-bit sequence numbers, which kernel-libipsec of tests/interop does not have.
"""
import contextlib
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402
import tcpcopy      # noqa: E402
import uml          # noqa: E402
import wire         # noqa: E402


def start(lab):
    "charon and tielined run, with ESP in the kernel and in user space"
    lab.pair = pair.Pair(lab, 101, charon.KernelCharon, peer="ice = no\nesp = aes128gcm16-chacha20poly1305-esn, aes256-sha256-esn", daemon="rekey-after = 5s",
                         encap="no", esp="aes128gcm16-esn", dpd="0s")
    lab.wire = wire.Wire(lab, lab.pair.stock, "eth0")
    lab.pair.start()


def in_udp(lab):
    """The kernel's SAs are what they should be."""
    states = lab.pair.peer.states()
    lablib.check(states.count("encap type espinudp sport") == 2, "ESP in UDP, both ways: " + states)
    lablib.check(len(re.findall(r"flag .*esn", states)) == 2, "64-bit sequence numbers: " + states)
    lablib.check("rfc4106(gcm(aes))" in states, "AES-GCM: " + states)


def calls(lab):
    "tielined calls: the kernel has its SAs, in UDP, with ESN"
    lab.pair.calls()
    in_udp(lab)


def is_called(lab):
    "strongSwan calls: the same"
    lab.pair.is_called()
    in_udp(lab)


def pings(lab):
    "ping, both ways"
    lab.pair.pings()


def outside(lab):
    "a kernel that was told to sends what was not agreed on, another port and another source: dropped and counted as such"
    p = lab.pair
    lablib.echo_server(lab, p.home, "127.0.0.1", 7003)
    other = p.inner + "9"
    lab.ip(p.stock, "address", "add", other + "/128", "dev", "lo")
    reqid = re.search(r"src %s .*?reqid (\d+)" % p.stock_ip, p.peer.states(), re.S).group(1)
    for source in (p.inner, other):
        lab.ip(p.stock, "xfrm", "policy", "add", "src", source + "/128", "dst", p.d.address + "/128", "dir", "out", "priority", "1",
               "tmpl", "src", p.stock_ip, "dst", p.home_ip, "proto", "esp", "reqid", reqid, "mode", "tunnel")
    for source, port in ((p.inner, 7003), (other, pair.ECHO)):
        before = p.drops().get("selector", 0)
        with contextlib.suppress(OSError):
            lablib.tcp_echo(lab, p.stock, p.d.address, port, size=10, seconds=1, source=source)
            raise lablib.Failed("it answered: from %s to %d" % (source, port))
        lablib.check(p.drops().get("selector", 0) > before, "drops: %s" % p.drops())
    lablib.check(list(p.drops()) == ["selector"], "drops: %s" % p.drops())
    lab.ip(p.stock, "xfrm", "policy", "flush")


def copy_out(lab):
    "a copy of 4 MB through our forward and back is the same"
    host, port = lab.pair.forward()
    lablib.tcp_echo(lab, lab.pair.home, host, port, size=4 << 20, seconds=30)


def copy_in(lab):
    "a copy of 4 MB to our service and back is the same"
    lablib.tcp_echo(lab, lab.pair.stock, lab.pair.d.address, pair.ECHO, size=4 << 20, seconds=30, source=lab.pair.inner)


def begin(lab, *args):
    """The copy that runs while keys are made anew."""
    lab.copy = tcpcopy.EchoCopy(lab, *args)
    lab.copy.moves()


def rekeys(lab):
    """By both sides."""
    p, log = lab.pair, lab.pair.peer.process
    mark = len(log.text())
    p.peer.swanctl("--rekey", "--child", "tunnel")
    lablib.wait(lambda: re.search(r"generating CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\).*parsed CREATE_CHILD_SA response \d+ \[ SA",
                                  log.text()[mark:], re.S), 10, "strongSwan's Child SA")
    lab.copy.moves()
    mark = len(log.text())
    p.peer.swanctl("--rekey", "--ike", "call")
    lablib.wait(lambda: re.search(r"generating CREATE_CHILD_SA request \d+ \[ SA No KE \].*parsed CREATE_CHILD_SA response \d+ \[ SA No KE \]",
                                  log.text()[mark:], re.S), 10, "strongSwan's IKE SA")
    lab.copy.moves()
    lablib.wait(lambda: re.search(r"parsed CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\)", log.text()[mark:]), 20, "a Child SA of ours")
    lab.copy.moves()
    lab.copy.finish()
    lablib.check(not p.drops(), "dropped: %s" % p.drops())
    states = p.peer.states()
    counters = re.findall(r"replay-window (\d+) replay (\d+) failed (\d+)", states)
    lablib.check(counters and all(c == ("0", "0", "0") for c in counters), "the kernel dropped: " + states)


def rekey_out(lab):
    "strongSwan rekeys both SAs and tielined the Child SA while a copy of ours runs: nothing is lost"
    host, port = lab.pair.forward()
    begin(lab, lab.pair.home, host, port)
    rekeys(lab)


def rekey_in(lab):
    "the same for a call of strongSwan's"
    begin(lab, lab.pair.stock, lab.pair.d.address, pair.ECHO, lab.pair.inner)
    rekeys(lab)


def suites(lab):
    "ChaCha20-Poly1305, and AES-CBC with HMAC-SHA2-256-128, with the kernel: tielined calls, ping and TCP"
    p, usual = lab.pair, lab.pair.swan["esp"]
    for esp, words in (("chacha20poly1305-esn", ("rfc7539esp(chacha20,poly1305)",)), ("aes256-sha256-esn", ("cbc(aes)", "hmac(sha256)"))):
        p.swan["esp"] = esp
        p.calls()
        lablib.check(all(w in p.peer.states() for w in words), "%s is not in %s" % (words, p.peer.states()))
        p.pings()
        lablib.tcp_echo(lab, p.home, *p.forward())
        p.hang_up()
    p.swan["esp"] = usual


def hang_up(lab):
    "hang-up: nothing is left in the kernel or in tielined"
    lab.pair.hang_up()


def terminate(lab):
    "strongSwan ends it: the same"
    lab.pair.terminate()


def on_the_wire(lab):
    "no packet of protocol 50 was on the wire, and ESP in UDP was"
    lablib.check(lab.wire.protocols.get(50, 0) == 0, "protocols: %s" % lab.wire.protocols)
    lablib.check(lab.wire.esp > 10000 and lab.wire.ike > 20, "in UDP: %d of ESP, %d of IKE" % (lab.wire.esp, lab.wire.ike))
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


uml.main("tv", [start, calls, pings, copy_out, rekey_out, hang_up, suites, is_called, pings, copy_in, rekey_in, outside, terminate, on_the_wire],
         needs=[charon.CHARON, "swanctl", "openssl", "ip", "ping"])
