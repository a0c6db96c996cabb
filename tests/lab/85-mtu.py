#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A link that carries 1400 bytes, and later only 1300 without a word about it: TCP and long datagrams through the tunnel, and
never an IP fragment outside."""
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import B   # noqa: E402
from lablib import check, wait   # noqa: E402

CLOCK = "[service clock]\nlisten = udp/123\ntarget = 10.2.0.10:123\n"
# Before the kernel puts fragments together; and what it counts.
NO_FRAGMENTS = """
table ip nofrag {
    chain pre {
        type filter hook prerouting priority -500;
        ip daddr 198.51.100.0/24 ip frag-off & 0x3fff != 0 counter drop
    }
}
"""


def udp_echo(lab, size):
    """Random bytes to the forward; do they come back within 3 s?"""
    host, _, port = lab.granted["clock"].rpartition(":")
    data = os.urandom(size)
    with lab.inside(lab.h.ns["a"]):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(3)
        try:
            client.connect((host, int(port)))
            client.send(data)
            return client.recv(65536) == data
        except OSError:
            return False


def link(lab, mtu):
    """Both ends of the cable between home A's router and the world."""
    lab.ip(lab.h.nat_ns["a"], "link", "set", "wan", "mtu", str(mtu))


def mtus(lab):
    return lab.h.a.up()["mtu"], lab.h.b.up()["mtu"]


def fragments(lab):
    """None has been seen by either router."""
    for ns in lab.h.nat_ns.values():
        text = lab.ns_exec(ns, ["nft", "list", "table", "ip", "nofrag"])
        check("packets 0 " in text, "IP fragments: " + text)


def start(lab):
    "two homes, a link of 1400 bytes between them, routers that drop fragments"
    lab.h = homes.Homes(lab, change=lambda name, text: text if name == "home-a" else text.replace("[peer ", CLOCK + "[peer ").replace(
        "allow = desktop files", "allow = desktop files clock"))
    link(lab, 1400)
    for ns in lab.h.nat_ns.values():
        lablib.run(["ip", "netns", "exec", ns, "nft", NO_FRAGMENTS])
    lab.h.services()
    lablib.udp_echo_server(lab, lab.h.desk_ns, "10.2.0.10", 123)
    lab.h.start().pin()


def at_once(lab):
    "a call comes up, and carries TCP and datagrams from the first moment on"
    lab.call = lab.h.a.dial(B, uid=0)
    lab.call.event("up", 30)
    lab.granted = {line["name"]: line["local"] for line in lab.call.lines() if line["event"] == "granted"}
    status, text = lab.h.echo(0, lab.granted["files"], 300000)
    check(status == 0, text)
    check(udp_echo(lab, 1232) and udp_echo(lab, 3000), "a datagram did not come back")


def found(lab):
    "both ends find the link's MTU"
    wait(lambda: all(1392 <= mtu <= 1400 for mtu in mtus(lab)), 40, "an MTU near 1400: %s" % (mtus(lab),))


def carried(lab):
    "a copy by TCP, its checksum right, and datagrams of many sizes, each the first time"
    status, text = lab.h.echo(0, lab.granted["desktop"], 5000000, 60)
    check(status == 0, text)
    for size in (1, 1200, 1232, 1233, 1352, 1353, 1400, 3000, 8000):
        check(udp_echo(lab, size), "%d bytes did not come back" % size)
    for home in (lab.h.a, lab.h.b):
        drops = home.up()["drops"]
        check(not {"fragment", "overlap", "format"} & set(drops), drops)


def black_hole(lab):
    "the link becomes one of 1300 bytes while a copy runs: it ends well, and so does all that follows"
    argv = [sys.executable, os.path.join(lablib.ROOT, "tests/echo.py"), lab.granted["files"], "40000000", "60"]
    copy = lab.spawn(lab.h.ns["a"], argv, "copy")
    wait(lambda: lab.h.a.up()["bytes_out"] > 7000000, 30, "the copy has begun")
    link(lab, 1300)
    wait(lambda: all(1280 <= mtu <= 1300 for mtu in mtus(lab)), 40, "an MTU up to 1300: %s" % (mtus(lab),))
    check(copy.alive(), "the copy was over before: " + copy.text())
    wait(lambda: not copy.alive(), 120, "the copy's end")
    check(copy.popen.returncode == 0, copy.text())
    # the sender's own stack was told, and believes it: segments fit by themselves now
    route = lab.h.a.inner("ip", "-6", "route", "get", lab.h.b.address)
    check(" mtu 12" in route, "what home A's stack knows of the path: " + route)
    for size in (1, 1200, 1232, 1233, 3000, 8000):
        check(udp_echo(lab, size), "%d bytes did not come back" % size)
    status, text = lab.h.echo(0, lab.granted["desktop"], 1000000, 60)
    check(status == 0, text)


def wire(lab):
    "no IP fragment was ever sent; hang-up"
    fragments(lab)
    lab.call.process.kill(signal.SIGINT)
    check(lab.call.done(10)[0] == 0, "hang-up")
    lab.h.clean()


lablib.main("tlm", [start, at_once, found, carried, black_hole, wire], needs=["ip", "nft", "setpriv"])
