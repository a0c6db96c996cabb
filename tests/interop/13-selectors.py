#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Traffic selectors (RFC 7296, 2.9): strongSwan asks for more than it is granted, for nothing that it is granted, and gives less than
is asked for.

    home (tielined, service echo) 10.106.0.1 ---- 10.106.0.2 stock (charon; SIP by sippeer.py)
"""
import contextlib
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402


def start(lab):
    "strongSwan and tielined run"
    lab.pair = pair.Pair(lab, 106)
    lab.pair.start()
    for port in (7003, 7004):
        lablib.echo_server(lab, lab.pair.home, "127.0.0.1", port)
        lablib.echo_server(lab, lab.pair.stock, lab.pair.inner, port)


def selectors(lab):
    """(local, remote) of charon's Child SA."""
    sas = lab.pair.peer.sas()
    return tuple(sorted(re.findall(r"^ +%s +(.*?) *$" % name, sas, re.M)[-1].split()) for name in ("local", "remote"))


def is_narrowed(lab):
    """strongSwan's Child SA is what the grant allows."""
    p = lab.pair
    want = (sorted([p.inner + "/128[tcp]", p.inner + "/128[ipv6-icmp]"]),
            sorted([p.d.address + "/128[tcp/7002]", p.d.address + "/128[ipv6-icmp]"]))
    lablib.check(selectors(lab) == want, "%s instead of %s" % (selectors(lab), want))


def too_wide(lab):
    "it asks for all of IPv6, both ways: narrowed to its own address, the granted port, and ICMPv6"
    p = lab.pair
    p.swan = {"local_ts": "::/0", "remote_ts": "::/0"}
    p.is_called()
    is_narrowed(lab)


def only_that(lab):
    "the granted service and ping answer, another port does not; it ends the call"
    p = lab.pair
    p.peer_pings()
    lablib.tcp_echo(lab, p.stock, p.d.address, pair.ECHO, source=p.inner)
    with contextlib.suppress(OSError):
        lablib.tcp_echo(lab, p.stock, p.d.address, 7003, size=10, seconds=1, source=p.inner)
        raise lablib.Failed("it answered")
    p.terminate()


def both_families(lab):
    "it asks for both families, several prefixes and ports: what is left is the grant"
    p = lab.pair
    p.swan = {"local_ts": "0.0.0.0/0, %s/128, 2001:db8::/32" % p.inner, "remote_ts": "0.0.0.0/0, fd00::/8[tcp/7000-7100], fd00::/8[ipv6-icmp]"}
    p.is_called()
    is_narrowed(lab)
    lablib.tcp_echo(lab, p.stock, p.d.address, pair.ECHO, source=p.inner)
    p.terminate()


def refused(lab):
    "another port, another address of ours, of its own: TS_UNACCEPTABLE, no Child SA on either side"
    p = lab.pair
    n = p.d.process.text().count("Child SA up")
    for swan in ({"remote_ts": p.d.address + "/128[tcp/7003]"}, {"remote_ts": "fd00:106::7/128"}, {"local_ts": "fd00:106::7/128"},
                 {"local_ts": "10.0.0.0/8", "remote_ts": "10.0.0.0/8"}):
        p.swan = swan
        p.invite()
        p.connection()
        said = p.peer.refused()
        lablib.check("TS_UNACCEPT" in said, "another failure: " + said)
        lablib.check("INSTALLED" not in p.peer.sas(), p.peer.sas())
        lablib.check(p.d.process.text().count("Child SA up") == n, "tielined has none either")
        p.bye()


def less(lab):
    "tielined asks, strongSwan gives one port: a forward to it works; what goes to another one is dropped and counted"
    p = lab.pair
    p.swan = {"local_ts": p.inner + "/128[tcp/7001]", "remote_ts": p.d.address + "/128[tcp]"}
    p.calls()
    host, port = p.forward()
    lablib.tcp_echo(lab, p.home, host, port)
    lablib.check(not p.drops(), "drops: %s" % p.drops())
    host, port = p.forward(7004)
    with contextlib.suppress(OSError):
        lablib.tcp_echo(lab, p.home, host, port, size=10, seconds=1)
        raise lablib.Failed("it answered")
    lablib.check(list(p.drops()) == ["no-sa"], "drops: %s" % p.drops())
    p.hang_up()


def nothing(lab):
    "strongSwan has nothing of what tielined asks for: TS_UNACCEPTABLE is 16, with a sentence"
    p = lab.pair
    p.swan = {"local_ts": "fd00:106::7/128"}
    p.connection()
    done = p.d.control.call("call", to=pair.STOCK_AOR, seconds=20)
    lablib.check((done["code"], done["reason"]) == (16, "the other side's policy does not allow what was asked for"), "end: %s" % done)
    p.call = list(p.sip.calls.values())[-1]
    p.gone()


def no_suite(lab):
    "strongSwan has no ESP suite of ours: NO_PROPOSAL_CHOSEN is 33, with a sentence"
    p = lab.pair
    p.swan = {"esp": "aes256-sha384"}
    p.connection()
    done = p.d.control.call("call", to=pair.STOCK_AOR, seconds=20)
    lablib.check((done["code"], done["reason"]) == (33, "the key exchange failed: the other side has no ESP algorithms in common with us"),
                 "end: %s" % done)
    p.call = list(p.sip.calls.values())[-1]
    p.gone()
    lablib.check(p.d.stop() == 0, "tielined ends with 0")


lablib.main("tw", [start, too_wide, only_that, both_families, refused, less, nothing, no_suite], needs=charon.NEEDS)
