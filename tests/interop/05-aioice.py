#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""aioice as the other end of our ICE, in both roles; IKE arrives on the pair that was selected.

    home (tielined) 10.94.0.1 ---- 10.94.0.2 stock (aioice; SIP by sippeer.py)
"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402
import sippeer      # noqa: E402

HOME, STOCK = "10.94.0.1", "10.94.0.2"
PYTHON = "/usr/bin/python3"       # the one that Debian's python3-aioice belongs to
MARK = ":".join(["11"] * 32)      # no IKE peer answers here: a certificate is not needed
CONF = """
[account]
aor = sip:home@example.net
server = 10.94.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[peer sip:stock@example.org]
bare = yes
cert = sha-256:%s
address = fd00:94::2
""" % ("11" * 32)


class IcePeer:
    """ice_peer.py, and the files by which it and the descriptions meet."""

    def __init__(self, lab, role):
        self.dir = os.path.join(lab.dir, role)
        os.mkdir(self.dir)
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ice_peer.py")
        self.process = lab.spawn(lab.stock, [PYTHON, path, role, self.dir], "aioice-" + role)
        lablib.wait(lambda: os.path.exists(self.dir + "/local.json"), 10, "aioice has its candidates")
        with open(self.dir + "/local.json") as f:
            self.local = json.load(f)
        self.port = int(self.local["candidates"][0].split()[5])

    def sdp(self, setup):
        """Its description."""
        lines = ["a=ice-ufrag:" + self.local["ufrag"], "a=ice-pwd:" + self.local["pwd"]]
        lines += ["a=candidate:" + c for c in self.local["candidates"]]
        return sippeer.bare_sdp(STOCK, self.port, setup, MARK, lines)

    def remote(self, sdp):
        """Tells it the other side's description."""
        value = {"ufrag": sippeer.attributes(sdp, "ice-ufrag")[0], "pwd": sippeer.attributes(sdp, "ice-pwd")[0],
                 "candidates": sippeer.attributes(sdp, "candidate")}
        with open(self.dir + "/remote.new", "w") as f:
            json.dump(value, f)
        os.rename(self.dir + "/remote.new", self.dir + "/remote.json")


def network(lab):
    "aioice gathers, tielined registers"
    if subprocess.run([PYTHON, "-c", "import aioice"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise lablib.Skip("python3-aioice is not installed")
    lab.home, lab.stock = lab.netns("home"), lab.netns("stock")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.ice = IcePeer(lab, "controlled")

    def answer(offer):
        lab.ice.remote(offer)
        return lab.ice.sdp("passive")
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK, answer=answer)
    lab.d = lab.daemon("tielined", lab.home, CONF)
    lab.d.registered()


def we_control(lab):
    "as the caller we control: the pair is found, nominated, and both say so"
    lab.ident = lab.d.control.send("call", to="sip:stock@example.org")
    path = lab.d.control.event(lab.ident, "path")
    want = (HOME + ":4500", "%s:%d" % (STOCK, lab.ice.port), "host")
    lablib.check((path["local"], path["remote"], path["path"]) == want, "%s instead of %s" % (path, want))
    lab.ice.process.says("connected controlling=False")


def ike_arrives(lab):
    "the payload on that pair is our IKE_SA_INIT behind the non-ESP marker"
    lab.ice.process.says("payload ")
    data = bytes.fromhex(re.search(r"payload ([0-9a-f]+)", lab.ice.process.text()).group(1))
    lablib.check(data[:4] == bytes(4), "the marker: %s" % data[:4].hex())
    # RFC 7296, 3.1: SPIs, next payload SA, version 2.0, exchange 34, flag I, message 0, length
    lablib.check(data[12:20] == bytes(8) and data[20:24] == b"\x21\x20\x22\x08" and data[24:28] == bytes(4) and
                 int.from_bytes(data[28:32], "big") == len(data) - 4, "the header: %s" % data[4:32].hex())


def hang_up(lab):
    "hang-up while IKE is out ends the call with a BYE"
    lablib.check(lab.d.control.call("hangup", to="sip:stock@example.org")["code"] == 0, "hangup is accepted")
    lablib.wait(lambda: all(c.ended for c in lab.sip.calls.values()), 5, "BYE arrives")
    lablib.wait(lambda: not lab.d.calls(), 8, "tielined has no call")
    lab.ice.process.stop()


def they_control(lab):
    "called by it we are controlled: the same pair, nominated by aioice"
    lab.ice = IcePeer(lab, "controlling")
    call = lab.sip.invite("sip:home@example.net", "sip:stock@example.org", lab.ice.sdp("active"))
    lablib.wait(lambda: call.status, 5, "an answer")
    lablib.check(call.status == 200, "status %s" % call.status)
    lab.ice.remote(call.answer)
    lab.ice.process.says("connected controlling=True")
    want = (HOME + ":4500", "%s:%d" % (STOCK, lab.ice.port), "host")
    lablib.wait(lambda: [c for c in lab.d.calls() if (c["local"], c["remote"], c["path"]) == want], 5, "the pair: %s" % lab.d.calls())
    # padded checks are answered: what need not be understood is ignored
    lablib.wait(lambda: lab.d.calls()[0]["mtu"] == 1500, 5, "an MTU of 1500")
    lab.sip.bye(call)
    lablib.wait(lambda: not lab.d.calls(), 5, "tielined has no call")
    lablib.check(not lab.sip.errors, "the SIP peer had no trouble: %s" % lab.sip.errors)
    lablib.check(lab.d.stop() == 0, "tielined ends with 0")


lablib.main("ti", [network, we_control, ike_arrives, hang_up, they_control], needs=[PYTHON, "ip"])
