#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A stock RFC 6193 peer calls tielined; strongSwan initiates IKE and gets exactly what the peer's section grants.

    home (tielined, service echo) 10.91.0.1 ---- 10.91.0.2 stock (charon; SIP by sippeer.py)
"""
import contextlib
import hashlib
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import sippeer      # noqa: E402

HOME, STOCK = "10.91.0.1", "10.91.0.2"
INNER = "fd00:91::2"
CONF = """
[account]
aor = sip:home@example.net
server = 10.91.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[service echo]
listen = tcp/7002

[service other]
listen = tcp/7003

[peer sip:stock@example.org]
bare = yes
ice = no
cert = sha-256:%s
address = fd00:91::2
allow = echo
"""


def network(lab):
    "both ends run; tielined is registered"
    lab.home, lab.stock = lab.netns("home"), lab.netns("stock")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.charon = charon.Charon(lab, "charon", lab.stock, "stock@example.org", INNER)
    lab.charon.start()
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK)
    lab.d = lab.daemon("tielined", lab.home, CONF % hashlib.sha256(lab.charon.cert_der()).hexdigest())
    lab.d.registered()
    for port in (7002, 7003):
        lablib.echo_server(lab, lab.home, "127.0.0.1", port)


def strangers(lab):
    "a stranger gets 480, a known peer that announces another certificate 488; no call is left"
    bad = sippeer.bare_sdp(STOCK, charon.PORT, "active", ":".join(["00"] * 32))
    good = sippeer.bare_sdp(STOCK, charon.PORT, "active", sippeer.fingerprint(lab.charon.cert_der()))
    for who, sdp, status in (("sip:who@example.org", good, 480), ("sip:stock@example.org", bad, 488)):
        call = lab.sip.invite("sip:home@example.net", who, sdp)
        lablib.wait(lambda: call.status, 5, "an answer")        # pylint: disable=cell-var-from-loop
        lablib.check(call.status == status, "%s: %d instead of %s" % (who, call.status, status))
    lablib.check(not lab.d.calls(), "no call is left")


def invite(lab):
    "an offer with ike-setup:active is answered with passive and our fingerprint"
    sdp = sippeer.bare_sdp(STOCK, charon.PORT, "active", sippeer.fingerprint(lab.charon.cert_der()))
    lab.call = lab.sip.invite("sip:home@example.net", "sip:stock@example.org", sdp)
    lablib.wait(lambda: lab.call.status, 5, "an answer")
    answer = lab.call.answer
    lablib.check(lab.call.status == 200, "status %s" % lab.call.status)
    lablib.check(sippeer.attributes(answer, "ike-setup") == ["passive"], "ike-setup: " + answer)
    lablib.check(sippeer.attributes(answer, "fingerprint") == ["sha-256 " + sippeer.fingerprint(lab.d.cert_der())], "fingerprint: " + answer)
    lablib.check("tieline" not in answer and "ice-" not in answer, "nothing that a stock peer does not know: " + answer)
    media = re.search(r"^m=application (\d+) udp ike-esp-udpencap\r?$", answer, re.M)
    lablib.check(media and "c=IN IP4 " + HOME in answer, "address: " + answer)
    lab.port = int(media.group(1))


def inside(lab):
    "inside the dialog the same description gets ours again, another one 488, none at all ours as an offer"
    ours = lab.call.answer
    lablib.check(lab.sip.again(lab.call, "INVITE", lab.call.sdp) == (200, ours), "re-INVITE: %s" % lab.call.status)
    lablib.check(lab.sip.again(lab.call, "UPDATE", lab.call.sdp) == (200, ours), "UPDATE: %s" % lab.call.status)
    other = sippeer.bare_sdp(STOCK, charon.PORT, "active", ":".join(["00"] * 32))
    lablib.check(lab.sip.again(lab.call, "INVITE", other)[0] == 488, "another fingerprint: %s" % lab.call.status)
    lablib.check(lab.sip.again(lab.call, "INVITE") == (200, ours), "no description: %s" % lab.call.status)
    lablib.check(len(lab.d.calls()) == 1, "the call goes on")


def connection(lab, cert):
    """charon's one connection, with its announced certificate (own) or another."""
    with open(lab.d.state + "/identity.crt") as f:
        lab.charon.connection(STOCK, HOME, lab.port, f.read(), "home@example.net", lab.d.address, cert)


def other_certificate(lab):
    "a good signature by another certificate than the announced one is answered with AUTHENTICATION_FAILED"
    connection(lab, "other")
    said = lab.charon.refused()
    lablib.check("AUTHENTICATION_FAILED" in said, "another failure: " + said)
    lablib.check(not lab.d.calls("up") and not lab.charon.sas().strip(), "nothing is up")


def initiate(lab):
    "strongSwan initiates (through our cookie) and its Child SA is narrowed to the grant"
    connection(lab, "own")
    lab.charon.initiate()
    lab.id = lab.d.up()["id"]
    log = lab.charon.process.text()
    lablib.check("N(COOKIE)" in log, "a cookie was asked for")
    sas = lab.charon.sas()
    lablib.check("%s/128[tcp/7002]" % lab.d.address in sas, "service: " + sas)
    lablib.check("7003" not in sas and not re.search(r"remote .*/128( |$)", sas, re.M), "nothing wider: " + sas)
    lablib.check([s["name"] for s in lab.d.calls("up")[0]["services"]] == ["echo"], "services: %s" % lab.d.calls())


def ping_in(lab):
    "ping through the tunnel, strongSwan to tielined"
    lab.charon.ping(lab.d.address)


def ping_out(lab):
    "ping through the tunnel, tielined to strongSwan"
    lablib.check(len(lab.d.ping(lab.id)) == 2, "two replies")


def tcp(lab):
    "the granted service carries TCP"
    lablib.tcp_echo(lab, lab.stock, lab.d.address, 7002, source=INNER)
    call = lab.d.calls("up")[0]
    lablib.check(call["bytes_in"] > 100000 and call["bytes_out"] > 100000, "it went through the tunnel: %s" % call)


def not_granted(lab):
    "the service that is not granted cannot be reached"
    with contextlib.suppress(OSError):
        lablib.tcp_echo(lab, lab.stock, lab.d.address, 7003, size=10, seconds=1, source=INNER)
        raise lablib.Failed("it answered")


def liveness(lab):
    "strongSwan's liveness check is answered"
    lab.charon.process.says("sending DPD request")
    lablib.wait(lambda: re.search(r"sending DPD request.*parsed INFORMATIONAL response", lab.charon.process.text(), re.S), 5, "an answer")
    lablib.check(lab.d.calls("up"), "the call is up")


def terminate(lab):
    "strongSwan terminates: BYE, and nothing is left at either end"
    lab.charon.terminate()
    lablib.wait(lambda: lab.call.ended, 5, "BYE arrives")
    lablib.wait(lambda: not lab.d.calls(), 5, "tielined has no call")
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")
    lablib.check(INNER not in lab.d.inner("ip", "-6", "route"), "the route is gone")
    lablib.check(not lab.sip.errors, "the SIP peer had no trouble: %s" % lab.sip.errors)


def asked(lab):
    "ask = yes: strongSwan's Child SA is refused and its IKE SA stays; after the owner's yes tielined begins the Child SA"
    lab.d.configure(CONF % hashlib.sha256(lab.charon.cert_der()).hexdigest() + "ask = yes\n")
    lablib.check(lab.d.control.call("reload")["code"] == 0, "reload")
    subscription = lab.d.control.send("subscribe")
    sdp = sippeer.bare_sdp(STOCK, charon.PORT, "active", sippeer.fingerprint(lab.charon.cert_der()))
    lab.call = lab.sip.invite("sip:home@example.net", "sip:stock@example.org", sdp)
    lablib.wait(lambda: lab.call.status, 5, "an answer")
    lablib.check(lab.call.status == 200, "status %s" % lab.call.status)
    lab.port = int(re.search(r"^m=application (\d+) ", lab.call.answer, re.M).group(1))
    connection(lab, "own")
    said = lab.charon.refused()
    lablib.check("TS_UNACCEPT" in said, "another failure: " + said)
    question = lab.d.control.event(subscription, "asked", 5)
    lablib.check(question["peer"] == "sip:stock@example.org" and question["services"] == ["echo"], question)
    lablib.check("ESTABLISHED" in lab.charon.sas() and "tcp/7002" not in lab.charon.sas(), lab.charon.sas())
    with contextlib.suppress(OSError):
        lablib.tcp_echo(lab, lab.stock, lab.d.address, 7002, size=10, seconds=1, source=INNER)
        raise lablib.Failed("it answered before it was allowed")
    lablib.check(lab.d.control.call("answer", call=question["call"])["code"] == 0, "the owner says yes")
    lablib.wait(lambda: "tcp/7002" in lab.charon.sas(), 5, "strongSwan has the Child SA")
    lablib.tcp_echo(lab, lab.stock, lab.d.address, 7002, source=INNER)
    lab.charon.terminate()
    lablib.wait(lambda: not lab.d.calls(), 5, "tielined has no call")
    lablib.check(lab.d.stop() == 0, "tielined ends with 0")


lablib.main("ti", [network, strangers, invite, inside, other_certificate, initiate, ping_in, ping_out, tcp, not_granted, liveness, terminate, asked], needs=charon.NEEDS)
