#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Other proofs than a pinned certificate, with strongSwan in both roles: PSK, private CA, PPK; and certificates of over 3000
bytes, in fragments, from either side.

    home (tielined, service echo) 10.98.0.1 ---- 10.98.0.2 stock (charon; SIP by sippeer.py)

Each case has a [peer] section, an inner address and a connection of charon of its own; one is loaded at a time.
"""
import hashlib
import os
import re
import ssl
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import charon       # noqa: E402
import lablib       # noqa: E402
import sippeer      # noqa: E402

HOME, STOCK, PORT = "10.98.0.1", "10.98.0.2", 4500
# ours, one for each section that has any; and one that nobody knows
PSKS = {"psk": "5f1c9e02b7d84a63e1770d4c8b92fa35", "psk-wrong": "a08d3be15f7240c6b9e4127fd05c38e1",
        "psk-other": "c3771eb80d5f49a2864bf10e9a2cd573", "ppk-psk": "2be94f0d61c8a7357ed0b2945fc81a6e"}
OTHER_PSK = "11c59e02b7d84a63e1770d4c8b92fa36"
PPK, OTHER_PPK = ("%s24d8f0b1937ace566e08c1a2d47b93fe" % half for half in ("c7a1355b9d20e4f86613b08a7fd9124e", "07a1355b9d20e4f86613b08a7fd9124e"))
ACCOUNT = """
[account]
aor = sip:home@example.net
server = 10.98.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[service echo]
listen = tcp/7002
"""
PEER = """
[peer sip:%(name)s@example.org]
bare = yes
ice = no
address = %(inner)s
allow = echo
%(proof)s
"""
CONNECTION = """
connections {
	call {
		version = 2
		local_addrs = 10.98.0.2
		remote_addrs = 10.98.0.1
		local_port = %(port)d
		remote_port = 4500
		proposals = aes128gcm16-prfsha256-x25519
		encap = yes
		mobike = no
		send_cert = always
		%(more)s
		local { auth = %(auth)s
			%(certs)s
			id = %(name)s@example.org }
		remote { auth = %(auth)s
			%(peer_certs)s
			id = home@example.net }
		children { tunnel { local_ts = %(inner)s/128
			remote_ts = %(peer_inner)s/128
			esp_proposals = aes128gcm16
			mode = tunnel } }
	}
}
secrets { %(secrets)s }
"""


class Case:
    """One peer. proof: lines of its section; psk: charon's; cert: file in swanctl/x509; ppk: charon's."""

    def __init__(self, number, name, psk=None, cert=None, ppk=None):
        self.name, self.psk, self.cert, self.ppk, self.proof = name, psk, cert, ppk, ""
        self.ours = PSKS.get(name)
        self.inner = "fd00:98::%x" % (number + 0x10)

    @property
    def aor(self):
        """Its address."""
        return "sip:%s@example.org" % self.name


CASES = [Case(*c) for c in enumerate(["psk", "psk-wrong", "psk-other", "ca", "ca-big", "ca-wrong", "ca-expired", "ca-name", "ppk", "ppk-wrong",
                                      "ppk-psk"])]
BY_NAME = {c.name: c for c in CASES}


def openssl(*args):
    """Runs it."""
    return lablib.run(["openssl"] + list(args))


def issue(lab, name, mail, ca, days=30, names=0, is_ca=False):
    """A certificate and key NAME.pem in the lab's folder `pki`, by `ca` (None: by itself)."""
    pki = lab.pki + "/"
    alt = ",".join(["email:" + mail] + ["email:another-name-%d@a-long-domain.example.net" % i for i in range(names)])
    with open(pki + name + ".ext", "w") as f:
        f.write("basicConstraints = critical,CA:TRUE\nkeyUsage = keyCertSign\n" if is_ca else
                "basicConstraints = CA:FALSE\nkeyUsage = digitalSignature\nsubjectAltName = " + alt + "\n")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name,
            "-keyout", pki + name + ".key", "-out", pki + name + ".csr")
    sign = ["-CA", pki + ca + ".pem", "-CAkey", pki + ca + ".key", "-CAcreateserial"] if ca else ["-signkey", pki + name + ".key"]
    openssl("x509", "-req", "-in", pki + name + ".csr", "-days", str(days), "-extfile", pki + name + ".ext", "-out", pki + name + ".pem", *sign)
    return pki + name + ".pem"


def der(lab, name):
    """A certificate's bytes."""
    with open("%s/%s.pem" % (lab.pki, name)) as f:
        return ssl.PEM_cert_to_DER_cert(f.read())


def give(lab, name, folder="x509", key=True):
    """Puts it where swanctl finds it."""
    for ext, where in (("pem", folder), ("key", "private")) if key else (("pem", folder),):
        with open("%s/%s.%s" % (lab.pki, name, ext)) as f, open("%s/swanctl/%s/%s.pem" % (lab.charon.dir, where, name), "w") as g:
            g.write(f.read())


def certificates(lab):
    """All that the cases need: a root, a CA below it, one of somebody else, and what they sign."""
    lab.pki = lab.dir + "/pki"
    os.makedirs(lab.pki)
    issue(lab, "root", "", None, is_ca=True)
    issue(lab, "mid", "", "root", is_ca=True)
    issue(lab, "strange", "", None, is_ca=True)
    for name, ca, days, names in (("ca", "mid", 30, 0), ("ca-big", "root", 30, 90), ("ca-wrong", "strange", 30, 0), ("ca-expired", "root", -1, 0),
                                  ("ca-name", "root", 30, 0), ("ppk", None, 30, 0)):
        mail = "somebody-else@example.org" if name == "ca-name" else name + "@example.org"
        issue(lab, name, mail, ca, days, names)
        give(lab, name)
        BY_NAME[name].cert = name
        BY_NAME[name].proof = "ca = %s/root.pem" % lab.pki if ca else "cert = sha-256:" + hashlib.sha256(der(lab, name)).hexdigest()
    give(lab, "mid", "x509", False)       # shown to who asks for the root
    give(lab, "root", "x509ca", False)
    lablib.check(len(der(lab, "ca-big")) > 3000, "a big certificate")
    issue(lab, "home", "home@example.net", None, names=90)        # ours


def proofs():
    """What both sides are told of shared keys."""
    for name, ours in PSKS.items():
        BY_NAME[name].psk = OTHER_PSK if name in ("psk-wrong", "psk-other") else ours
        BY_NAME[name].proof = "psk = 0x" + ours
    BY_NAME["ppk-wrong"].cert = "ppk"
    BY_NAME["ppk-wrong"].proof = BY_NAME["ppk"].proof
    for name, theirs in (("ppk", PPK), ("ppk-wrong", OTHER_PPK), ("ppk-psk", PPK)):
        BY_NAME[name].ppk = theirs
        BY_NAME[name].proof += "\nppk = house-1 0x" + PPK


def fingerprint_line(lab, case, announced=None):
    """The line of its description; announced: what it says where that is not what charon has."""
    if case.psk:
        text = hashlib.sha256(bytes.fromhex(announced or case.psk)).hexdigest().upper()
        return "a=psk-fingerprint:sha-256 " + ":".join(text[i:i + 2] for i in range(0, 64, 2))
    return "a=fingerprint:sha-256 " + sippeer.fingerprint(der(lab, case.cert))


def sdp(lab, case, setup, announced=None):
    """Its description."""
    text = sippeer.bare_sdp(STOCK, charon.PORT, setup, "X")
    return text.replace("a=fingerprint:sha-256 X", fingerprint_line(lab, case, announced))


def load(lab, case):
    """charon's connection for one case."""
    by_psk = case.psk is not None
    secrets = 'ike-1 { id-1 = home@example.net\n id-2 = %s@example.org\n secret = 0x%s }\n' % (case.name, case.psk) if by_psk else ""
    if case.ppk:
        secrets += "ppk-1 { id-1 = house-1\n secret = 0x%s }\n" % case.ppk
    with open(lab.charon.dir + "/swanctl/swanctl.conf", "w") as f:
        f.write(CONNECTION % {"port": charon.PORT, "auth": "psk" if by_psk else "pubkey", "certs": "" if by_psk else "certs = %s.pem" % case.cert,
                              "peer_certs": "" if by_psk else "certs = peer.pem", "name": case.name, "inner": case.inner,
                              "peer_inner": lab.d.address, "secrets": secrets,
                              "more": "ppk_id = house-1\n ppk_required = yes" if case.ppk else ""})
    lab.charon.swanctl("--load-all", "--clear")
    lab.mark = len(lab.charon.process.text())


def log(lab):
    """What charon has said since load()."""
    return lab.charon.process.text()[lab.mark:]


def network(lab):
    "both ends run; our certificate and theirs have over 3000 bytes"
    lab.home, lab.stock = lab.netns("home"), lab.netns("stock")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.charon = charon.Charon(lab, "charon", lab.stock, "stock@example.org", "fd00:98::2")
    certificates(lab)
    proofs()
    for case in CASES:
        lab.ip(lab.stock, "address", "add", case.inner + "/128", "dev", "lo")
    lab.charon.start()
    lab.reply = None
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK, answer=lambda offer: lab.reply)
    # what is in the state folder already stays
    lab.conf = ACCOUNT + "".join(PEER % {"name": c.name, "inner": c.inner, "proof": c.proof} for c in CASES)
    lab.d = lablib.Daemon(lab, "tielined", lab.home, lab.conf)
    os.makedirs(lab.d.state)
    for ours, theirs in (("identity.key", "home.key"), ("identity.crt", "home.pem")):
        with open("%s/%s" % (lab.pki, theirs)) as f, open("%s/%s" % (lab.d.state, ours), "w") as g:
            g.write(f.read())
    lab.d.start()
    lab.d.registered()
    lablib.check(lab.d.cert_der() == der(lab, "home"), "our certificate is the big one")
    with open(lab.pki + "/home.pem") as f, open(lab.charon.dir + "/swanctl/x509/peer.pem", "w") as g:
        g.write(f.read())
    lablib.echo_server(lab, lab.home, "127.0.0.1", 7002)


def calls(lab, name):
    """tielined calls, IKE initiator; a ping; it hangs up."""
    case = BY_NAME[name]
    load(lab, case)
    lab.reply = sdp(lab, case, "passive")
    ident = lab.d.control.send("call", to=case.aor)
    lab.d.control.event(ident, "up")
    call = [c for c in lab.d.calls("up") if c["peer"] == case.aor][0]
    lablib.check(call["level"] == "pinned", "level: %s" % call)
    lab.d.ping(call["id"])
    lab.charon.swanctl("--list-sas")
    offer = list(lab.sip.calls.values())[-1].offer
    lab.d.control.call("hangup", to=case.aor)
    lab.d.control.done(ident)
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")
    return offer


def called(lab, name):
    """It is called, strongSwan is IKE initiator; a ping and the service; strongSwan ends it."""
    case = BY_NAME[name]
    load(lab, case)
    call = lab.sip.invite("sip:home@example.net", case.aor, sdp(lab, case, "active"))
    lablib.wait(lambda: call.status, 5, "an answer")
    lablib.check(call.status == 200, "status %s" % call.status)
    lab.charon.initiate()
    lab.d.up()
    lab.ns_exec(lab.stock, ["ping", "-6", "-n", "-c", "1", "-W", "3", "-I", case.inner, lab.d.address])
    lablib.tcp_echo(lab, lab.stock, lab.d.address, 7002, source=case.inner)
    lab.charon.terminate()
    lablib.wait(lambda: call.ended and not lab.d.calls(), 5, "both ends are done")
    return call.answer


def call_fails(lab, name, words, code, half_open=False):
    """tielined calls, and its user reads these words. half_open: it breaks off before IKE_AUTH."""
    case = BY_NAME[name]
    load(lab, case)
    lab.reply = sdp(lab, case, "passive", case.ours)
    done = lab.d.control.call("call", to=case.aor, seconds=45)
    lablib.check(done["code"] == code and words in done["reason"], "end: %s" % done)
    lablib.wait(lambda: not lab.d.calls(), 15, "no call is left")
    if half_open:
        for number in re.findall(r"#(\d+), CONNECTING", lab.charon.sas()):      # it waits for IKE_AUTH
            lab.charon.swanctl("--terminate", "--ike-id", number, "--force")
    lablib.wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")


def called_fails(lab, name, words):
    """It is called, strongSwan hears AUTHENTICATION_FAILED, and our audit says these words."""
    case = BY_NAME[name]
    load(lab, case)
    call = lab.sip.invite("sip:home@example.net", case.aor, sdp(lab, case, "active", case.ours))
    lablib.wait(lambda: call.status, 5, "an answer")
    lablib.check(call.status == 200, "status %s" % call.status)
    said = lab.charon.refused()
    lablib.check("AUTHENTICATION_FAILED" in said, "another failure: " + said)
    with open(lab.d.state + "/audit.log") as f:
        last = [line for line in f if "key exchange failed" in line][-1]
    lablib.check(words in last, "audit: " + last)
    lab.sip.bye(call)
    lablib.wait(lambda: not lab.d.calls(), 15, "no call is left")


def psk(lab):
    "PSK: tielined calls; the offer has psk-fingerprint and no fingerprint"
    offer = calls(lab, "psk")
    lablib.check(fingerprint_line(lab, BY_NAME["psk"]) in offer and not sippeer.attributes(offer, "fingerprint"), "offer: " + offer)
    lablib.check(PSKS["psk"] not in offer.replace(":", "").lower(), "the key itself")


def psk_in(lab):
    "PSK: strongSwan calls; the answer has psk-fingerprint and no fingerprint"
    answer = called(lab, "psk")
    lablib.check(fingerprint_line(lab, BY_NAME["psk"]) in answer and not sippeer.attributes(answer, "fingerprint"), "answer: " + answer)
    lablib.check(not re.search(r"IKE_AUTH re.*\[.* CERT ", log(lab)), "no certificate: " + log(lab))


def psk_wrong(lab):
    "wrong PSK: both roles end, ours with a sentence"
    call_fails(lab, "psk-wrong", "does not accept our proof of identity", 33)
    called_fails(lab, "psk-wrong", "its certificate or shared key is another one")


def psk_unknown(lab):
    "an unknown psk-fingerprint: 488 without a description; as an answer: the call ends before IKE"
    case = BY_NAME["psk-other"]
    call = lab.sip.invite("sip:home@example.net", case.aor, sdp(lab, case, "active"))
    lablib.wait(lambda: call.status, 5, "an answer")
    last = [m for m in lab.sip.log if m.status == 488][-1]
    lablib.check(call.status == 488 and not last.body, "status %s: %s" % (call.status, last.body))
    lab.reply = sdp(lab, case, "passive")
    done = lab.d.control.call("call", to=case.aor, seconds=15)
    lablib.check(done["code"] == 30 and "another shared key" in done["reason"], "end: %s" % done)
    lablib.wait(lambda: not lab.d.calls(), 15, "no call is left")


def ca(lab):
    "private CA with one below it: tielined calls"
    calls(lab, "ca")
    lablib.check(log(lab).count("sending issuer cert") == 1, "charon sends the CA's certificate")


def ca_in(lab):
    "private CA with one below it: strongSwan calls"
    called(lab, "ca")


# Before the kernel puts fragments together; and what it counts.
NO_FRAGMENTS = """
table ip broken {
	counter lost {}
	chain in { type filter hook prerouting priority -450; ip frag-off & 0x3fff != 0 counter name lost drop; }
}
"""


def big(lab):
    "certificates of over 3000 bytes in fragments, both ways, on a path that loses IP fragments: tielined calls"
    for ns in (lab.home, lab.stock):
        lablib.run(["ip", "netns", "exec", ns, "nft", NO_FRAGMENTS])
    calls(lab, "ca-big")
    lablib.check("splitting IKE message" in log(lab) and "reassembled fragmented IKE message" in log(lab), "charon cuts and puts together")


def big_in(lab):
    "certificates of over 3000 bytes in fragments, both ways, on a path that loses IP fragments: strongSwan calls"
    called(lab, "ca-big")
    for ns in (lab.home, lab.stock):
        text = lablib.run(["ip", "netns", "exec", ns, "nft", "list", "counter", "ip", "broken", "lost"])
        lablib.check("packets 0 " in text, "IP fragments: " + text)
    lablib.check("splitting IKE message" in log(lab) and "reassembled fragmented IKE message" in log(lab), "charon cuts and puts together")


def ca_wrong(lab):
    "another CA, an expired certificate, another name: both roles end, ours with a sentence"
    for name, words in (("ca-wrong", "is not from the CA"), ("ca-expired", "has expired"), ("ca-name", "does not have the peer's address")):
        call_fails(lab, name, words, 31)
        called_fails(lab, name, words)


def ppk(lab):
    "PPK with a pinned certificate and with a PSK: tielined calls"
    calls(lab, "ppk")
    lablib.check("N(USE_PPK)" in log(lab) and "using PPK" in log(lab), "charon uses it: " + log(lab))
    calls(lab, "ppk-psk")


def ppk_in(lab):
    "PPK with a pinned certificate and with a PSK: strongSwan calls"
    called(lab, "ppk")
    called(lab, "ppk-psk")


def ppk_wrong(lab):
    "another PPK, and none: both roles end"
    call_fails(lab, "ppk-wrong", "does not accept our proof of identity", 33)
    called_fails(lab, "ppk-wrong", "proof of identity is wrong")
    BY_NAME["ppk-wrong"].ppk = None
    call_fails(lab, "ppk-wrong", "no post-quantum key", 33, True)
    called_fails(lab, "ppk-wrong", "no post-quantum key")


def reload(lab):
    "reload: the CAs that were read stay; another one takes a restart; a file that is not there is an error at the start"
    lablib.check(lab.d.control.call("reload")["code"] == 0, "reload")
    calls(lab, "ca")
    lab.d.configure(lab.conf.replace("/root.pem", "/strange.pem", 1))
    done = lab.d.control.call("reload")
    lablib.check(done["code"] != 0 and "strange.pem has not been read before" in done["reason"], "reload: %s" % done)
    calls(lab, "ca")
    other = lablib.Daemon(lab, "other", lab.home, lab.conf.replace("/root.pem", "/nothing.pem", 1))
    for path, words in (("/nothing.pem", "no such file"), ("/home.pem", "expected the certificate of a CA")):
        other.configure(lab.conf.replace("/root.pem", path, 1))
        try:
            other.start()
        except lablib.Failed:
            lablib.check(lab.pki + path + ": " + words in other.process.text(), "it says why: " + other.process.text())
            lablib.check(other.stop() == 2, "exit status 2")
        else:
            raise lablib.Failed("it starts")


def stop(lab):
    "nothing is left, tielined ends with 0"
    lablib.check(not lab.sip.errors, "the SIP peer had no trouble: %s" % lab.sip.errors)
    lablib.check(lab.d.stop() == 0, "tielined ends with 0")


lablib.main("ta", [network, psk, psk_in, psk_wrong, psk_unknown, ca, ca_in, big, big_in, ca_wrong, ppk, ppk_in, ppk_wrong, reload, stop], needs=charon.NEEDS + ["nft"])
