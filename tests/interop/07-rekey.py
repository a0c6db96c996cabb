#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""New keys with strongSwan, for the IKE SA and the Child SA, made by either side while a TCP connection never rests.

    home (tielined) 10.92.0.1 ---- 10.92.0.2 stock (charon; SIP by sippeer.py)

strongSwan wants a key exchange for each Child SA but the first (PFS). The bytes that come back must be those that were sent, and tielined must not have dropped a packet.
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

HOME, STOCK = "10.92.0.1", "10.92.0.2"
INNER = "fd00:92::2"
PORT = 4500
CONF = """
[account]
aor = sip:home@example.net
server = 10.92.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[peer sip:stock@example.org]
bare = yes
ice = no
cert = sha-256:%s
address = fd00:92::2
"""
# what charon says of a request of ours
CHILD = r"parsed CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\)"
IKE = r"parsed CREATE_CHILD_SA request \d+ \[ SA No KE \]"


def start(lab):
    "the call is up, and a copy runs through its tunnel"
    lab.home, lab.stock = lab.netns("home"), lab.netns("stock")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.charon = charon.Charon(lab, "charon", lab.stock, "stock@example.org", INNER)
    lab.charon.start()
    mark = sippeer.fingerprint(lab.charon.cert_der())
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK, passwords={"home": "8c1f0a63e5d97b24a1c3"},
                              answer=lambda offer: sippeer.bare_sdp(STOCK, charon.PORT, "passive", mark))
    d = lab.d = lab.daemon("tielined", lab.home, CONF % hashlib.sha256(lab.charon.cert_der()).hexdigest(),
                           daemon="rekey-after = 5s")
    d.registered()
    with open(d.state + "/identity.crt") as f:
        lab.charon.connection(STOCK, HOME, PORT, f.read(), "home@example.net", d.address, esp="aes128gcm16-x25519")
    lab.ident = d.control.send("call", to="sip:stock@example.org")
    d.control.event(lab.ident, "up")
    port = lablib.echo_server(lab, lab.stock, INNER, 7001)
    granted = d.control.find(d.control.send("forward", call=d.calls("up")[0]["id"], protocol="tcp", port=port),
                             lambda line: line.get("event") == "granted", 5, "forward")
    host, _, local = granted["local"].rpartition(":")
    with lab.inside(lab.home):
        conn = socket.create_connection((host, int(local)), 5)
    conn.settimeout(30)
    lab.copy = tcpcopy.Copy(conn)
    lab.copy.start()
    lab.copy.moves()


def spis(lab):
    """SPIs of the IKE SA and of the Child SAs that charon lists."""
    text = lab.charon.sas()
    return re.findall(r"([0-9a-f]{16})_[ir]", text)[:2], sorted(re.findall(r"^ +in +([0-9a-f]{8})", text, re.M))


def charon_child(lab):
    "strongSwan rekeys the Child SA"
    before = spis(lab)[1]
    lab.charon.swanctl("--rekey", "--child", "tunnel")
    done = r"generating CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\).*parsed CREATE_CHILD_SA response \d+ \[ SA"
    lablib.wait(lambda: re.search(done, lab.charon.process.text(), re.S), 10, "strongSwan's request is answered")
    lablib.wait(lambda: len(spis(lab)[1]) == 1 and spis(lab)[1] != before, 10, "another Child SA")
    lablib.check("AES_GCM_16-128/CURVE_25519" in lab.charon.sas().replace(" ", ""), "with a KE: " + lab.charon.sas())
    lab.copy.moves()


def charon_ike(lab):
    "strongSwan rekeys the IKE SA"
    before = spis(lab)[0]
    lab.charon.swanctl("--rekey", "--ike", "call")
    done = r"generating CREATE_CHILD_SA request \d+ \[ SA No KE \].*parsed CREATE_CHILD_SA response \d+ \[ SA No KE \]"
    lablib.wait(lambda: re.search(done, lab.charon.process.text(), re.S), 10, "strongSwan's request is answered")
    lablib.wait(lambda: spis(lab)[0] not in ([], before), 10, "another IKE SA")
    lablib.wait(lambda: lab.charon.sas().count("ESTABLISHED") == 1, 10, "and only that")
    lab.copy.moves()


def tieline_child(lab):
    "tielined rekeys the Child SA, several times"
    lablib.wait(lambda: len(re.findall(CHILD, lab.charon.process.text())) >= 3, 40, "three Child SAs of ours")
    lab.copy.moves()


def tieline_ike(lab):
    "tielined rekeys the IKE SA, after four times its lifetime"
    lablib.wait(lambda: re.search(IKE, lab.charon.process.text()), 40, "an IKE SA of ours")
    lablib.wait(lambda: lab.charon.sas().count("ESTABLISHED") == 1, 10, "and only that")
    lab.copy.moves()


def whole(lab):
    "the copy is whole, and tielined has dropped nothing"
    lab.copy.stopped.set()
    lab.copy.join(20)
    lab.copy.reader.join(20)
    lablib.check(lab.copy.n_back == lab.copy.n_sent and lab.copy.back.digest() == lab.copy.sent.digest(),
                 "%d of %d bytes came back, or others" % (lab.copy.n_back, lab.copy.n_sent))
    lablib.check(lab.copy.n_sent > 1000000, "only %d bytes" % lab.copy.n_sent)
    drops = {k: v for k, v in lab.d.calls("up")[0]["drops"].items() if v}
    lablib.check(not drops, "dropped: %s" % drops)
    lablib.check(not re.search(r"(CHILD|IKE)_SA [a-z]*\[?\{?\d+\]?\}? (rekeying|creation) failed", lab.charon.process.text()),
                 "charon had no failure")


def hang_up(lab):
    "hang-up by the newest IKE SA: nothing is left at either end"
    d = lab.d
    lablib.check(d.control.call("hangup", to="sip:stock@example.org")["code"] == 0, "hangup is accepted")
    d.control.done(lab.ident)
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")
    lablib.wait(lambda: not d.calls(), 5, "tielined has no call")
    lablib.check(d.stop() == 0, "tielined ends with 0")


lablib.main("tk", [start, charon_child, charon_ike, tieline_child, tieline_ike, whole, hang_up], needs=charon.NEEDS)
