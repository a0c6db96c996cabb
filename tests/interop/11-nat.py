#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""NATs between tielined and strongSwan, on either side and on both.

    home (tielined) 10.93.1.2 -- house -- 10.93.0.3 .. pub .. 10.93.0.2 stock (charon)             "open"
                                                    .. pub .. 10.93.0.4 -- office -- 10.93.2.2 stock (charon)    "forwarded"
                                                    .. pub .. 10.93.0.5 -- flat -- 10.93.3.2 agent (aioice) -- 10.93.4.2 stock   "ice"
    pub: SIP and STUN servers, 10.93.0.1, .10, .11

Without ICE a stock peer is where its description says (`ice = no`), so it is public or knows its NAT's outside: here the office has
a static forwarding. With ICE it is anywhere: aioice does that for charon, and relays between its pair and charon's socket.
What cannot work: a stock peer without either behind a NAT, and one that calls us through our own NAT if that lets nothing in which
was not asked for; that one is tried here, and ends with a reason.
"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import pair         # noqa: E402
import sippeer      # noqa: E402

PYTHON = "/usr/bin/python3"       # the one that Debian's python3-aioice belongs to
NO_AIOICE = "python3-aioice is not installed"
PUB = "10.93.0.1"
HOUSE, OFFICE, FLAT = "10.93.0.3", "10.93.0.4", "10.93.0.5"


def router(lab, name, outside, inside):
    """A NAT that lets in what was sent to before."""
    ns = lab.netns(name, forward=True)
    lab.plug(ns, "wan", [outside + "/24"], lab.pub)
    lab.nat(ns, "port-restricted")
    lab.ip(ns, "link", "add", "lan", "type", "bridge")
    lab.ip(ns, "link", "set", "lan", "up")
    lab.ip(ns, "address", "add", inside + "/24", "dev", "lan")
    return ns


def behind(lab, ns, address, router_ns, gateway):
    """A host of such a network."""
    lab.plug(ns, "eth0", [address + "/24"], router_ns, "lan")
    lab.route(ns, "default", gateway)


class Home(pair.Pair):
    """tielined behind the house's NAT; each pair has a server of its own."""
    server_ip = PUB

    def server(self):
        return self.lab.pub, self.server_ip

    def outer(self):
        return self.stock_ip, HOUSE


class Open(Home):
    """The stock peer is public."""

    def cables(self):
        lab = self.lab
        behind(lab, self.home, "10.93.1.2", lab.house, "10.93.1.1")
        lab.plug(self.stock, "eth0", [self.stock_ip + "/24"], lab.pub)


def network(lab):
    "tielined is behind a NAT and registers through it; strongSwan runs at a public address"
    lab.pub = lab.netns("pub")
    lab.bridge(lab.pub)
    for address in (PUB, PUB + "0", PUB + "1"):
        lab.ip(lab.pub, "address", "add", address + "/24", "dev", "br0")
    lab.house = router(lab, "house", HOUSE, "10.93.1.1")
    lab.pair = Open(lab, 93)
    lab.pair.start()


def blocked(lab):
    "strongSwan's IKE does not get into that NAT unasked: the call ends by its BYE, and nothing is left"
    p = lab.pair
    p.invite()
    lablib.check("c=IN IP4 " + HOUSE in p.call.answer, "answer: " + p.call.answer)
    p.connection()
    p.peer.refused(3)
    for number in re.findall(r"#(\d+), CONNECTING", p.peer.sas()):
        p.peer.swanctl("--terminate", "--ike-id", number, "--force")
    p.bye()


def we_call(lab):
    "tielined calls out of its NAT: the offer has its outside address, strongSwan sees the NAT"
    p = lab.pair
    p.calls()
    lablib.check("c=IN IP4 " + HOUSE in p.call.offer, "offer: " + p.call.offer)
    lablib.check("remote host is behind NAT" in p.peer.process.text(), "charon sees it")


def traffic(lab):
    "ping and TCP, both ways; hang-up"
    p = lab.pair
    if not p:
        raise lablib.Skip(NO_AIOICE)
    p.pings()
    host, port = p.forward()
    lablib.tcp_echo(lab, p.home, host, port)
    p.hang_up()


def actpass(lab):
    "an offer that leaves it to us who begins (actpass): we do, out of our NAT, and it comes up"
    p = lab.pair
    p.invite("actpass")
    lablib.check(sippeer.attributes(p.call.answer, "ike-setup") == ["active"], "answer: " + p.call.answer)
    p.connection()
    p.d.up()
    p.pings()
    lablib.tcp_echo(lab, p.stock, p.d.address, pair.ECHO, source=p.inner)
    p.terminate()


def restrict(lab):
    """The house's NAT is port-restricted again."""
    lab.ns_exec(lab.house, ["nft", "flush", "ruleset"])
    lab.nat(lab.house, "port-restricted")


def full_cone(lab):
    "strongSwan calls through a NAT that lets everybody in who knows the port (full cone)"
    p = lab.pair
    lab.ns_exec(lab.house, ["nft", "flush", "ruleset"])
    lab.nat(lab.house, "full-cone")
    # it learns from our next packet to the STUN server
    lablib.wait(lambda: "4500" in lab.ns_exec(lab.house, ["nft", "list", "map", "ip", "nat", "open"]), 40, "the NAT knows our port")
    p.is_called()
    p.pings()
    lablib.tcp_echo(lab, p.stock, p.d.address, pair.ECHO, source=p.inner)
    p.terminate()
    restrict(lab)


class Forwarded(Home):
    """The stock peer's NAT has a static forwarding, and it says its outside address."""
    server_ip = PUB + "0"

    def cables(self):
        lab = self.lab
        behind(lab, self.home, "10.93.1.3", lab.house, "10.93.1.1")
        lab.office = router(lab, "office", OFFICE, "10.93.2.1")
        self.stock_ip = "10.93.2.2"
        behind(lab, self.stock, self.stock_ip, lab.office, "10.93.2.1")
        for rule in ("add chain ip nat pre { type nat hook prerouting priority dstnat; }",
                     "add rule ip nat pre iifname wan udp dport %d dnat to %s" % (charon.PORT, self.stock_ip)):
            lab.ns_exec(lab.office, ["nft", rule])

    def describe(self, _offer, setup="passive"):
        return sippeer.bare_sdp(OFFICE, self.peer.port, setup, self.mark)


def forwarded(lab):
    "both behind NATs, strongSwan's with a static forwarding, without ICE: tielined calls"
    p = lab.pair = Forwarded(lab, 93, tag="2")
    p.start()
    p.calls()
    lablib.check("local host is behind NAT, sending keep alives" in p.peer.process.text(), "charon sees its NAT")


def forwarded_actpass(lab):
    "the same: strongSwan calls with actpass"
    actpass(lab)
    lablib.check(lab.pair.d.stop() == 0, "tielined ends with 0")


class Iced(Home):
    """aioice does ICE for the stock peer, behind a NAT of its own."""
    server_ip = PUB + "1"

    def cables(self):
        lab = self.lab
        behind(lab, self.home, "10.93.1.4", lab.house, "10.93.1.1")
        lab.flat = router(lab, "flat", FLAT, "10.93.3.1")
        self.agent = lab.netns("agent")
        behind(lab, self.agent, "10.93.3.2", lab.flat, "10.93.3.1")
        self.stock_ip = "10.93.4.2"
        lab.veth(self.agent, "eth1", ["10.93.4.1/24"], self.stock, "eth0", [self.stock_ip + "/24"])

    def outer(self):
        return self.stock_ip, "10.93.4.1"

    def describe(self, offer, setup="passive"):
        self.ice = IceAgent(self, "controlled" if offer else "controlling")
        if offer:
            self.ice.meet(offer)
        lines = ["a=ice-ufrag:" + self.ice.local["ufrag"], "a=ice-pwd:" + self.ice.local["pwd"]]
        lines += ["a=candidate:" + c for c in self.ice.local["candidates"]]
        return sippeer.bare_sdp(FLAT, 9, setup, self.mark, lines)

    def is_called(self):
        self.invite()
        self.ice.meet(self.call.answer)
        self.port = 4500
        self.connection()
        self.ice.process.says("connected controlling=True")
        self.peer.initiate()
        self.d.up()


class IceAgent:
    """ice_peer.py, and the files by which it and the descriptions meet."""

    def __init__(self, p, role):
        lab = p.lab
        lab.n_agents = getattr(lab, "n_agents", 0) + 1
        self.dir = os.path.join(lab.dir, "ice%d" % lab.n_agents)
        os.mkdir(self.dir)
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ice_peer.py")
        self.process = lab.spawn(p.agent, [PYTHON, path, role, self.dir, "10.93.3.2", p.server_ip + ":3478", "10.93.4.1:4500",
                                           "%s:%d" % (p.stock_ip, charon.PORT)], "ice%d" % lab.n_agents)
        lablib.wait(lambda: os.path.exists(self.dir + "/local.json"), 10, "aioice has its candidates")
        with open(self.dir + "/local.json") as f:
            self.local = json.load(f)

    def meet(self, sdp):
        """Tells it the other side's description."""
        value = {"ufrag": sippeer.attributes(sdp, "ice-ufrag")[0], "pwd": sippeer.attributes(sdp, "ice-pwd")[0],
                 "candidates": sippeer.attributes(sdp, "candidate")}
        with open(self.dir + "/remote.new", "w") as f:
            json.dump(value, f)
        os.rename(self.dir + "/remote.new", self.dir + "/remote.json")


def iced(lab):
    "both behind NATs, ICE on both sides: tielined calls, and the path goes from outside to outside"
    lab.pair = None
    if subprocess.run([PYTHON, "-c", "import aioice"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise lablib.Skip(NO_AIOICE)
    p = lab.pair = Iced(lab, 93, peer="", tag="3")
    p.start()
    p.calls()
    call = p.d.calls("up")[0]
    lablib.check(call["remote"].startswith(FLAT + ":") and call["path"] in ("srflx", "prflx"), "path: %s" % call)


def iced_in(lab):
    "the same: strongSwan calls; ping and TCP, both ways; it ends the call"
    p = lab.pair
    if not p:
        raise lablib.Skip(NO_AIOICE)
    p.ice.process.stop()
    p.is_called()
    call = p.d.calls("up")[0]
    lablib.check(call["remote"].startswith(FLAT + ":") and call["path"] in ("srflx", "prflx"), "path: %s" % call)
    p.pings()
    lablib.tcp_echo(lab, p.stock, p.d.address, pair.ECHO, source=p.inner)
    p.terminate()
    lablib.check(p.d.stop() == 0, "tielined ends with 0")


lablib.main("tn", [network, blocked, full_cone, we_call, traffic, actpass, forwarded, traffic, forwarded_actpass, iced, traffic, iced_in],
            needs=charon.NEEDS + ["nft", PYTHON])
