#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Every algorithm that both know, with strongSwan as called and as calling peer: IKE and ESP suites, kinds of certificates.

    home (tielined, service echo) 10.96.0.1 ---- 10.96.0.2 stock (charon; SIP by sippeer.py)

Each row of SUITES is a peer of its own, with its own certificate, address and proposals. tielined offers its default list, so a
row with another group than X25519 is an INVALID_KE_PAYLOAD as well; rows with `ours` have a list in tielined's [peer] section.
"""
import collections
import hashlib
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import sippeer      # noqa: E402

HOME, STOCK = "10.96.0.1", "10.96.0.2"
HEAD = """
[account]
aor = sip:home@example.net
server = 10.96.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[service echo]
listen = tcp/7002
"""
PEER = """
[peer sip:%(name)s@example.org]
bare = yes
ice = no
cert = sha-256:%(cert)s
address = %(inner)s
allow = echo
%(ours)s
"""
EC256 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
EC384 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-384")
GCM, GCM_SA = ("aes128gcm16-prfsha256-x25519", "aes128gcm16"), ("AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519", "ESP:AES_GCM_16-128")
# proposals and how they appear in the list of SAs: (ike, esp) each; auth and how it appears in the log
Suite = collections.namedtuple("Suite", "name what key proposals sa auth signed ours", defaults=("pubkey", "", ""))
SUITES = [
    Suite("gcm256", "AES-256-GCM, P-384", EC256, ("aes256gcm16-prfsha384-ecp384", "aes256gcm16"),
          ("AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384", "ESP:AES_GCM_16-256"),
          ours="ike = aes256gcm16-prfsha384-ecp384\nesp = aes256gcm16"),
    Suite("chacha", "ChaCha20-Poly1305, X25519", EC256, ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305"),
          ("CHACHA20_POLY1305/PRF_HMAC_SHA2_256/CURVE_25519", "ESP:CHACHA20_POLY1305")),
    Suite("cbc256", "AES-256-CBC, HMAC-SHA2-256-128, MODP-2048", EC256, ("aes256-sha256-modp2048", "aes256-sha256"),
          ("AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "ESP:AES_CBC-256/HMAC_SHA2_256_128")),
    Suite("cbc128", "AES-128-CBC, HMAC-SHA2-256-128, PRF SHA-512, MODP-3072", EC256, ("aes128-sha256-prfsha512-modp3072", "aes128-sha256"),
          ("AES_CBC-128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_512/MODP_3072", "ESP:AES_CBC-128/HMAC_SHA2_256_128")),
    Suite("gcm128", "AES-128-GCM, P-256", EC256, ("aes128gcm16-prfsha256-ecp256", "aes128gcm16"),
          ("AES_GCM_16-128/PRF_HMAC_SHA2_256/ECP_256", "ESP:AES_GCM_16-128")),
    Suite("rsa", "RSA certificate, PKCS#1", ("rsa:3072",), GCM, GCM_SA, "ike:rsa-sha384", "RSA_EMSA_PKCS1_SHA2_384"),
    Suite("pss", "RSA certificate, PSS", ("rsa:2048",), GCM, GCM_SA, "ike:rsa/pss-sha256", "RSA_EMSA_PSS_SHA2_256"),
    Suite("p384", "ECDSA P-384 certificate", EC384, GCM, GCM_SA, "pubkey", "ECDSA_WITH_SHA384_DER"),
    Suite("ed25519", "Ed25519 certificate", ("ed25519",), GCM, GCM_SA, "pubkey", "ED25519"),
]


def inner_of(s):
    """The inner address of a row's peer."""
    return "fd00:96::1%d" % SUITES.index(s)


def aor_of(s):
    """Its name."""
    return s.name + "@example.org"


def network(lab):
    "strongSwan runs, with a certificate of each kind; tielined is registered and knows them all"
    lab.home, lab.stock = lab.netns("home"), lab.netns("stock")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.charon = charon.Charon(lab, "charon", lab.stock, "stock@example.org", "fd00:96::2")
    conf, lab.marks = HEAD, {}
    for s in SUITES:
        der = lab.charon.certificate(s.name, aor_of(s), s.key)
        lab.marks[s] = sippeer.fingerprint(der)
        lab.ip(lab.stock, "address", "add", inner_of(s) + "/128", "dev", "lo")
        conf += PEER % {"name": s.name, "cert": hashlib.sha256(der).hexdigest(), "inner": inner_of(s), "ours": s.ours}
    lab.charon.start()
    lab.called = None
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK, passwords={"home": "8c1f0a63e5d97b24a1c3"},
                              answer=lambda offer: sippeer.bare_sdp(STOCK, charon.PORT, "passive", lab.marks[lab.called]))
    lab.d = lab.daemon("tielined", lab.home, conf)
    lab.d.registered()
    with open(lab.d.state + "/identity.crt") as f:
        lab.pem = f.read()
    lablib.echo_server(lab, lab.home, "127.0.0.1", 7002)


def connection(lab, s):
    """charon is this row's peer; returns where its log stands."""
    lab.charon.connection(STOCK, HOME, 4500, lab.pem, "home@example.net", lab.d.address, s.name, ike=s.proposals[0], esp=s.proposals[1],
                          auth=s.auth, own_id=aor_of(s), inner=inner_of(s))
    return len(lab.charon.process.text())


def agreed(lab, s, mark):
    """Both ends speak what the row says."""
    sas = lab.charon.sas().replace(" ", "")
    for words in s.sa:
        lablib.check(words in sas, "%s is not in %s" % (words, sas))
    log = lab.charon.process.text()[mark:]
    lablib.check("authentication of '%s' (myself) with %s" % (aor_of(s), s.signed) in log, "signature: " + log[-2000:])


def gone(lab):
    """Nothing is left at either end."""
    lablib.wait(lambda: not lab.d.calls(), 5, "tielined has no call")
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")
    lablib.check(not lab.sip.errors, "the SIP peer had no trouble: %s" % lab.sip.errors)


def calls(lab, s):
    """tielined calls, IKE initiator."""
    d, mark, lab.called = lab.d, connection(lab, s), s
    ident = d.control.send("call", to="sip:" + aor_of(s))
    d.control.event(ident, "up")
    agreed(lab, s, mark)
    call = d.calls("up")[0]["id"]
    lablib.check(len(d.ping(call)) == 2, "two replies")
    port = lablib.echo_server(lab, lab.stock, inner_of(s), 7001)
    granted = d.control.find(d.control.send("forward", call=call, protocol="tcp", port=port),
                             lambda line: line.get("event") == "granted", 5, "forward")
    host, _, local = granted["local"].rpartition(":")
    lablib.tcp_echo(lab, lab.home, host, int(local))
    lablib.check(d.control.call("hangup", to="sip:" + aor_of(s))["code"] == 0, "hangup is accepted")
    d.control.done(ident)
    gone(lab)


def is_called(lab, s):
    """tielined is called, IKE responder."""
    mark = connection(lab, s)
    call = lab.sip.invite("sip:home@example.net", "sip:" + aor_of(s), sippeer.bare_sdp(STOCK, charon.PORT, "active", lab.marks[s]))
    lablib.wait(lambda: call.status, 5, "an answer")
    lablib.check(call.status == 200, "status %s" % call.status)
    lab.charon.initiate()
    lab.d.up()
    agreed(lab, s, mark)
    lab.charon.ping(lab.d.address, inner=inner_of(s))
    lablib.tcp_echo(lab, lab.stock, lab.d.address, 7002, source=inner_of(s))
    lab.charon.terminate()
    lablib.wait(lambda: call.ended, 5, "BYE arrives")
    gone(lab)


def step(role, s):
    """One case."""
    def run(lab):
        role(lab, s)
    run.__doc__ = "%s: %s" % ("tielined calls" if role is calls else "tielined is called", s.what)
    return run


def nothing_in_common(lab):
    "a peer without any algorithm of ours: no tunnel, and a reason"
    s = SUITES[0]
    lab.charon.connection(STOCK, HOME, 4500, lab.pem, "home@example.net", lab.d.address, s.name, ike="aes128gcm16-prfsha256-x25519",
                          esp="aes128gcm16", own_id=aor_of(s), inner=inner_of(s))
    call = lab.sip.invite("sip:home@example.net", "sip:" + aor_of(s), sippeer.bare_sdp(STOCK, charon.PORT, "active", lab.marks[s]))
    lablib.wait(lambda: call.status == 200, 5, "an answer")
    lab.charon.refused()
    lablib.check("received NO_PROPOSAL_CHOSEN" in lab.charon.process.text(), "charon hears why")
    lab.sip.bye(call)
    gone(lab)


def end(lab):
    "tielined ends cleanly"
    lablib.check(lab.d.stop() == 0, "tielined ends with 0")


lablib.main("ts", [network] + [step(role, s) for s in SUITES for role in (calls, is_called)] + [nothing_in_common, end], needs=charon.NEEDS)
