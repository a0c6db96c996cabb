#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""coturn as STUN server tells tielined behind a kernel NAT its public address, and the offer shows it.

    home 10.93.0.2 ---- NAT 198.51.100.1 ---- 198.51.100.5 coturn and sippeer.py
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402
import sippeer      # noqa: E402

INSIDE, OUTSIDE, SERVER = "10.93.0.2", "198.51.100.1", "198.51.100.5"
CONF = """
[account]
aor = sip:home@example.net
server = 198.51.100.5:5060
stun = 198.51.100.5:3478
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[peer sip:stock@example.org]
bare = yes
cert = sha-256:%s
address = fd00:93::2
""" % ("11" * 32)


def network(lab):
    "coturn runs; tielined registers from behind the NAT"
    lab.home, lab.nat_ns, lab.server = lab.netns("home"), lab.netns("nat", forward=True), lab.netns("server")
    lab.veth(lab.home, "eth0", [INSIDE + "/24"], lab.nat_ns, "lan", ["10.93.0.1/24"])
    lab.veth(lab.server, "eth0", [SERVER + "/24"], lab.nat_ns, "wan", [OUTSIDE + "/24"])
    lab.route(lab.home, "default", "10.93.0.1")
    lab.nat(lab.nat_ns, "port-restricted")
    lab.offers = []

    def answer(offer):
        lab.offers.append(offer)
        return 480
    lab.sip = sippeer.SipPeer(lab, lab.server, SERVER, answer=answer)
    argv = [lablib.program("turnserver"), "-n", "-S", "-L", SERVER, "-p", "3478", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout",
            "--simple-log", "--pidfile", lab.dir + "/turnserver.pid"]
    coturn = lab.spawn(lab.server, argv, "coturn")

    def listens():
        lablib.check(coturn.alive(), "coturn goes on running")
        return SERVER + ":3478" in lab.ns_exec(lab.server, ["ss", "-Hlun"])
    lablib.wait(listens, 10, "coturn listens")
    lab.d = lab.daemon("tielined", lab.home, CONF)
    lab.d.registered()


def offer_of_a_call(lab):
    """Calls the stock peer, which is not available, and returns the candidates of the offer it was shown."""
    del lab.offers[:]
    end = lab.d.control.call("call", to="sip:stock@example.org")
    lablib.check(end["code"] == 13, "%s" % end)
    return lab.offers[0], [line.split() for line in sippeer.attributes(lab.offers[0], "candidate")]


def server_reflexive(lab):
    "the offer has the host candidate and the server-reflexive one, and the latter is its default"
    offer, candidates = offer_of_a_call(lab)
    kinds = {c[7]: c for c in candidates}
    lablib.check(set(kinds) == {"host", "srflx"} and len(candidates) == 2, "kinds: %s" % candidates)
    lablib.check(kinds["host"][4:6] == [INSIDE, "4500"], "host: %s" % kinds["host"])
    lablib.check(kinds["srflx"][4] == OUTSIDE and kinds["srflx"][8:] == ["raddr", INSIDE, "rport", "4500"], "srflx: %s" % kinds["srflx"])
    lablib.check(int(kinds["host"][3]) > int(kinds["srflx"][3]), "priorities: %s" % candidates)
    lablib.check("c=IN IP4 " + OUTSIDE in offer and "m=application %s udp" % kinds["srflx"][5] in offer, "default: " + offer)


def symmetric(lab):
    "behind a symmetric NAT the reflexive port is the one that the NAT chose"
    lab.d.stop()
    lab.ns_exec(lab.nat_ns, ["nft", "flush", "ruleset"])
    lab.nat(lab.nat_ns, "symmetric")
    # another port, since conntrack remembers the mapping of the first
    lab.d.configure(CONF, "port = 4501\n")
    lab.d.start().registered()
    _, candidates = offer_of_a_call(lab)
    srflx = [c for c in candidates if c[7] == "srflx"]
    lablib.check(len(srflx) == 1 and srflx[0][4] == OUTSIDE and srflx[0][5] != "4501", "srflx: %s" % candidates)
    lablib.check(not lab.sip.errors, "the SIP peer had no trouble: %s" % lab.sip.errors)
    lablib.check(lab.d.stop() == 0, "tielined ends with 0")


lablib.main("ti", [network, server_reflexive, symmetric], needs=["turnserver", "nft", "ip", "ss"])
