#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""tielined calls a stock RFC 6193 peer whose IKE and ESP are strongSwan's.

    home (tielined) 10.90.0.1 ---- 10.90.0.2 stock (charon; SIP by sippeer.py)

bare, no ICE, pinned ECDSA certificates both ways, X25519, AES-GCM, ESP in UDP.
"""
import errno
import hashlib
import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import sippeer      # noqa: E402

HOME, STOCK = "10.90.0.1", "10.90.0.2"
INNER = "fd00:90::2"
PORT = 4500
CONF = """
[account]
aor = sip:home@example.net
server = 10.90.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[peer sip:stock@example.org]
bare = yes
ice = no
cert = sha-256:%s
address = fd00:90::2
"""


def network(lab):
    "strongSwan runs, with a certificate of its own"
    lab.home, lab.stock = lab.netns("home"), lab.netns("stock")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.charon = charon.Charon(lab, "charon", lab.stock, "stock@example.org", INNER)
    lab.charon.start()


def register(lab):
    "tielined registers over TCP, digest with SHA-256"
    mark = sippeer.fingerprint(lab.charon.cert_der())
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK, passwords={"home": "8c1f0a63e5d97b24a1c3"},
                              answer=lambda offer: sippeer.bare_sdp(STOCK, charon.PORT, "passive", mark))
    lab.daemon_home = lab.daemon("tielined", lab.home, CONF % hashlib.sha256(lab.charon.cert_der()).hexdigest())
    lab.daemon_home.registered()
    lablib.check("sip:home@example.net" in lab.sip.bindings, "the registrar has a binding")
    with open(lab.daemon_home.state + "/identity.crt") as f:
        lab.charon.connection(STOCK, HOME, PORT, f.read(), "home@example.net", lab.daemon_home.address)


def call(lab):
    "the call comes up: RFC 6193 offer, IKE_SA_INIT, IKE_AUTH, one Child SA"
    d = lab.daemon_home
    lab.ident = d.control.send("call", to="sip:stock@example.org")
    d.control.event(lab.ident, "up")
    offer = list(lab.sip.calls.values())[0].offer
    lablib.check("m=application %d udp ike-esp-udpencap" % PORT in offer, "the offer's media line")
    lablib.check(sippeer.attributes(offer, "fingerprint") == ["sha-256 " + sippeer.fingerprint(d.cert_der())], "the offer's fingerprint")
    lablib.check(sippeer.attributes(offer, "ike-setup") == ["active"], "the offer's ike-setup")
    lablib.check("tieline" not in offer and "ice-" not in offer, "nothing in the offer that a stock peer does not know")
    sas = lab.charon.sas()
    lablib.check("AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519" in sas.replace(" ", ""), "suite: " + sas)
    lablib.check("ESP:AES_GCM_16-128" in sas and "INSTALLED" in sas, "Child SA: " + sas)


def ping_out(lab):
    "ping through the tunnel, tielined to strongSwan"
    d = lab.daemon_home
    lablib.check(len(d.ping(d.calls("up")[0]["id"])) == 2, "two replies")


def mtu(lab):
    "the path's MTU is found by echoes: there is no ICE to ask"
    d = lab.daemon_home
    lablib.wait(lambda: d.calls("up")[0]["mtu"] == 1500, 20, "an MTU of 1500")


def ping_in(lab):
    "ping through the tunnel, strongSwan to tielined"
    lab.charon.ping(lab.daemon_home.address)


def tcp_out(lab):
    "a local forward carries TCP to a port of the stock peer"
    d = lab.daemon_home
    port = lablib.echo_server(lab, lab.stock, INNER, 7001)
    granted = d.control.find(d.control.send("forward", call=d.calls("up")[0]["id"], protocol="tcp", port=port),
                             lambda line: line.get("event") == "granted", 5, "forward")
    host, _, local = granted["local"].rpartition(":")
    lablib.tcp_echo(lab, lab.home, host, int(local))


def tcp_in(lab):
    "the stock peer can open nothing but echo towards the caller: dropped and counted"
    d = lab.daemon_home
    before = sum(d.calls("up")[0]["drops"].values())
    with lab.inside(lab.stock):
        conn = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    with conn:
        conn.bind((INNER, 0))
        conn.setblocking(False)
        conn.connect_ex((d.address, 22))
        lablib.wait(lambda: sum(d.calls("up")[0]["drops"].values()) > before, 5, "the drop is counted")
        lablib.check(conn.connect_ex((d.address, 22)) in (errno.EALREADY, errno.EINPROGRESS), "no answer")


def hang_up(lab):
    "hang-up: DELETE and BYE arrive, nothing is left at either end"
    d = lab.daemon_home
    lablib.check(d.control.call("hangup", to="sip:stock@example.org")["code"] == 0, "hangup is accepted")
    d.control.done(lab.ident)
    lablib.wait(lambda: "received DELETE for IKE_SA" in lab.charon.process.text(), 5, "charon receives the DELETE")
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")
    lablib.wait(lambda: list(lab.sip.calls.values())[0].ended, 5, "BYE arrives")
    lablib.wait(lambda: not d.calls(), 5, "tielined has no call")
    lablib.check("fd00:90::2" not in d.inner("ip", "-6", "route"), "the route is gone")
    lablib.check(not lab.sip.errors, "the SIP peer had no trouble: %s" % lab.sip.errors)
    lablib.check(d.stop() == 0, "tielined ends with 0")
    lablib.check("sip:home@example.net" not in lab.sip.bindings, "the binding is gone")


lablib.main("ti", [network, register, call, ping_out, mtu, ping_in, tcp_out, tcp_in, hang_up], needs=charon.NEEDS)
