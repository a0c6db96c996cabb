#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""MOBIKE (RFC 4555) with strongSwan: whoever began the IKE SA changes its address while a TCP connection never rests.

    stock (charon) 10.93.0.2, then .3 ---- 10.93.0.1, then .4 home (tielined) 10.94.0.1 ---- 10.94.0.2 exchange (sippeer.py)

Without ICE. The new address comes first, then the old one goes. The bytes that come back must be those that were sent.
"""
import hashlib
import os
import re
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import sippeer      # noqa: E402
import tcpcopy      # noqa: E402

HOME, HOME_NEW, STOCK, STOCK_NEW, SIP = "10.93.0.1", "10.93.0.4", "10.93.0.2", "10.93.0.3", "10.94.0.2"
INNER = "fd00:93::2"
PORT = 4500
CONF = """
[account]
aor = sip:home@example.net
server = 10.94.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[service echo]
listen = tcp/7002

[peer sip:stock@example.org]
bare = yes
ice = no
cert = sha-256:%s
address = fd00:93::2
allow = echo
"""


def network(lab):
    "both ends run; tielined is registered"
    lab.home, lab.stock, lab.exchange = lab.netns("home"), lab.netns("stock"), lab.netns("exch")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.veth(lab.home, "eth1", ["10.94.0.1/24"], lab.exchange, "eth0", [SIP + "/24"])
    for ns in (lab.home, lab.stock):
        lab.sysctl(ns, "net.ipv4.conf.all.promote_secondaries", 1)
        lab.sysctl(ns, "net.ipv4.conf.eth0.promote_secondaries", 1)
    lab.charon = charon.Charon(lab, "charon", lab.stock, "stock@example.org", INNER)
    lab.charon.start()
    mark = lab.mark = sippeer.fingerprint(lab.charon.cert_der())
    lab.sip = sippeer.SipPeer(lab, lab.exchange, SIP, passwords={"home": "8c1f0a63e5d97b24a1c3"},
                              answer=lambda offer: sippeer.bare_sdp(STOCK, charon.PORT, "passive", mark))
    lab.d = lab.daemon("tielined", lab.home, CONF % hashlib.sha256(lab.charon.cert_der()).hexdigest())
    lab.d.registered()
    lablib.echo_server(lab, lab.home, "127.0.0.1", 7002)
    with open(lab.d.state + "/identity.crt") as f:
        lab.cert = f.read()


def calls_in(lab):
    "strongSwan calls and begins the IKE SA; a copy runs through its tunnel"
    sdp = sippeer.bare_sdp(STOCK, charon.PORT, "active", lab.mark)
    lab.call = lab.sip.invite("sip:home@example.net", "sip:stock@example.org", sdp)
    lablib.wait(lambda: lab.call.status, 5, "an answer")
    lablib.check(lab.call.status == 200 and "c=IN IP4 " + HOME in lab.call.answer, "%s %s" % (lab.call.status, lab.call.answer))
    port = int(re.search(r"^m=application (\d+) ", lab.call.answer, re.M).group(1))
    lab.charon.connection("%any", HOME, port, lab.cert, "home@example.net", lab.d.address, mobike="yes")
    lab.charon.initiate()
    lab.id = lab.d.up()["id"]
    lablib.check(re.search(r"parsed IKE_AUTH response .*N\(MOBIKE_SUP\)", lab.charon.process.text()), "MOBIKE on both sides")
    with lab.inside(lab.stock):
        conn = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    conn.settimeout(30)
    conn.bind((INNER, 0))
    conn.connect((lab.d.address, 7002))
    lab.copy = tcpcopy.Copy(conn)
    lab.copy.start()
    lab.copy.moves()


def path(lab):
    """Local and remote address that tielined tells."""
    call = lab.d.calls("up")[0]
    return call["local"], call["remote"]


def drops(lab):
    """What tielined has dropped in this call: nothing."""
    return {k: n for k, n in lab.d.calls("up")[0]["drops"].items() if n}


def changes(lab, ns, old, new):
    """An address comes, the old one goes."""
    lab.ip(ns, "address", "add", new + "/24", "dev", "eth0")
    lab.copy.moves()
    lab.ip(ns, "address", "del", old + "/24", "dev", "eth0")


def stock_moves(lab):
    "strongSwan's address changes: it sends UPDATE_SA_ADDRESSES, tielined checks return routability and follows"
    subscription = lab.d.control.send("subscribe")
    changes(lab, lab.stock, STOCK, STOCK_NEW)
    lab.d.control.event(subscription, "path-changed", 20)
    lablib.check(path(lab)[1] == "%s:%d" % (STOCK_NEW, charon.PORT), "path: %s" % (path(lab),))
    lablib.check("N(UPD_SA_ADDR)" in lab.charon.process.text(), "an update was sent")
    lablib.check(re.search(r"parsed INFORMATIONAL request \d+ \[ N\(COOKIE2\) \]", lab.charon.process.text()), "its return routability was checked")
    lab.copy.moves()


def stock_moves_back(lab):
    "and back again"
    subscription = lab.d.control.send("subscribe")
    changes(lab, lab.stock, STOCK_NEW, STOCK)
    lab.d.control.event(subscription, "path-changed", 20)
    lablib.check(path(lab)[1] == "%s:%d" % (STOCK, charon.PORT), "path: %s" % (path(lab),))
    lab.copy.moves()


def whole(lab):
    "every byte came back; the end reaches strongSwan"
    lab.copy.stopped.set()
    lab.copy.join(10)
    lab.copy.reader.join(10)
    lablib.check(lab.copy.n_back == lab.copy.n_sent and lab.copy.back.digest() == lab.copy.sent.digest(),
                 "sent %d, back %d" % (lab.copy.n_sent, lab.copy.n_back))
    lablib.check(not drops(lab), "drops: %s" % drops(lab))
    lab.d.control.call("hangup", to="sip:stock@example.org")
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")
    lablib.wait(lambda: not lab.d.calls(), 10, "tielined has no call")


def calls_out(lab):
    "tielined calls and begins the IKE SA; a copy runs through its tunnel"
    lab.charon.connection("%any", "%any", PORT, lab.cert, "home@example.net", lab.d.address, mobike="yes")
    lab.ident = lab.d.control.send("call", to="sip:stock@example.org")
    lab.d.control.event(lab.ident, "up")
    port = lablib.echo_server(lab, lab.stock, INNER, 7001)
    granted = lab.d.control.find(lab.d.control.send("forward", call=lab.d.calls("up")[0]["id"], protocol="tcp", port=port),
                                 lambda line: line.get("event") == "granted", 5, "forward")
    host, _, local = granted["local"].rpartition(":")
    with lab.inside(lab.home):
        conn = socket.create_connection((host, int(local)), 5)
    conn.settimeout(30)
    lab.copy = tcpcopy.Copy(conn)
    lab.copy.start()
    lab.copy.moves()


def home_moves(lab):
    "tielined's address changes: its update is answered, and both send to where the other one is"
    n = len(re.findall(r"N\(UPD_SA_ADDR\)", lab.charon.process.text()))
    changes(lab, lab.home, HOME, HOME_NEW)
    lab.d.control.event(lab.ident, "path-changed", 20)
    lablib.check(path(lab)[0] == "%s:%d" % (HOME_NEW, PORT), "path: %s" % (path(lab),))
    lablib.check(len(re.findall(r"parsed INFORMATIONAL request \d+ \[ N\(UPD_SA_ADDR\)", lab.charon.process.text())) > 0 and
                 len(re.findall(r"N\(UPD_SA_ADDR\)", lab.charon.process.text())) > n, "an update came")
    lablib.check(HOME_NEW in lab.charon.sas(), "strongSwan knows: " + lab.charon.sas())
    lab.copy.moves()


lablib.main("tm", [network, calls_in, stock_moves, stock_moves_back, whole, calls_out, home_moves, whole], needs=charon.NEEDS)
