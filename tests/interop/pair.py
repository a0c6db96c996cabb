# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""tielined and one stock RFC 6193 peer on one cable, and a call between them in either direction.

    home (tielined, service echo) 10.NET.0.1 ---- 10.NET.0.2 stock (SIP by sippeer.py)

The peer's IKE and ESP are an object like charon.Charon: cert_der(), start(), connection(), initiate(), terminate(), sas(), empty().
"""
import hashlib
import re

import charon
import lablib
import sippeer

AOR, STOCK_AOR = "sip:home@example.net", "sip:stock@example.org"
ECHO, THEIR_ECHO = 7002, 7001     # ports: our service, and what we forward to
CONF = """
[account]
aor = sip:home@example.net
server = %(server)s:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes
%(account)s

[service echo]
listen = tcp/7002
%(more)s

[peer sip:stock@example.org]
bare = yes
cert = sha-256:%(cert)s
address = %(inner)s
allow = echo
%(peer)s
"""


class Pair:
    """Both ends, with one call at most. net: a number of its own; account, peer, daemon: lines of these sections; more: other sections;
    tag: for a second pair; swan: more words of the peer's connection()."""

    def __init__(self, lab, net, kind=charon.Charon, account="", peer="ice = no", daemon="", tag="", more="", **swan):
        self.lab, self.net, self.tag, self.swan = lab, net, tag, swan
        self.home_ip, self.stock_ip, self.inner = "10.%d.0.1" % net, "10.%d.0.2" % net, "fd00:%d::2" % net
        self.home, self.stock = lab.netns("home" + tag), lab.netns("stock" + tag)
        self.port, self.call, self.ident = 4500, None, None
        self.conf = {"account": account, "peer": peer, "more": more, "inner": self.inner}
        self.daemon = daemon
        self.cables()
        self.peer = kind(lab, "peer" + tag, self.stock, "stock@example.org", self.inner)

    def cables(self):
        """The network between both."""
        self.lab.veth(self.home, "eth0", [self.home_ip + "/24"], self.stock, "eth0", [self.stock_ip + "/24"])

    def server(self):
        """(namespace, address) of the SIP and STUN server."""
        return self.stock, self.stock_ip

    def start(self):
        """All of it runs, tielined is registered."""
        lab, (ns, address) = self.lab, self.server()
        self.peer.start()
        self.mark = sippeer.fingerprint(self.peer.cert_der())
        self.conf["server"] = address
        self.conf["cert"] = hashlib.sha256(self.peer.cert_der()).hexdigest()
        self.sip = sippeer.SipPeer(lab, ns, address, passwords={"home": "8c1f0a63e5d97b24a1c3"}, answer=self.describe)
        self.start_home()
        lablib.echo_server(lab, self.home, "127.0.0.1", ECHO)
        lablib.echo_server(lab, self.stock, self.inner, THEIR_ECHO)

    def start_home(self):
        """(Another) tielined, with what is in its state folder."""
        self.d = self.lab.daemon("tielined" + self.tag, self.home, CONF % self.conf, daemon=self.daemon)
        self.d.registered()
        with open(self.d.state + "/identity.crt") as f:
            self.pem = f.read()

    def describe(self, _offer, setup="passive"):
        """The peer's description, an answer or (offer None) an offer."""
        return sippeer.bare_sdp(self.stock_ip, self.peer.port, setup, self.mark)

    def outer(self):
        """Addresses of both as the peer's IKE sees them."""
        return self.stock_ip, self.home_ip

    def connection(self):
        """Tells the peer about tielined."""
        self.peer.connection(*self.outer(), self.port, self.pem, "home@example.net", self.d.address, **self.swan)

    def calls(self):
        """tielined calls, IKE initiator."""
        self.connection()
        self.ident = self.d.control.send("call", to=STOCK_AOR)
        self.d.control.event(self.ident, "up", 20)
        self.call = list(self.sip.calls.values())[-1]

    def invite(self, setup="active"):
        """The peer calls by SIP; its IKE is to follow."""
        self.call = self.sip.invite(AOR, STOCK_AOR, self.describe(None, setup))
        lablib.wait(lambda: self.call.status, 5, "an answer")
        lablib.check(self.call.status == 200, "status %s" % self.call.status)
        self.port = int(re.search(r"^m=application (\d+) ", self.call.answer, re.M).group(1))

    def is_called(self):
        """tielined is called, IKE responder."""
        self.invite()
        self.connection()
        self.peer.initiate()
        self.d.up()

    def id(self):
        """Of the call that is up."""
        return self.d.calls("up")[0]["id"]

    def drops(self):
        """What tielined has dropped: {why: count}."""
        return {k: v for k, v in self.d.calls("up")[0]["drops"].items() if v}

    def forward(self, to=THEIR_ECHO):
        """(address, port) of a local forward to a port of the peer, its echo server."""
        d = self.d
        granted = d.control.find(d.control.send("forward", call=self.id(), protocol="tcp", port=to),
                                 lambda line: line.get("event") == "granted", 5, "forward")
        host, _, local = granted["local"].rpartition(":")
        return host, int(local)

    def pings(self, least=2):
        """Pings each way; how many of two of ours must be answered."""
        self.peer_pings()
        replies = len(self.d.ping(self.id()))
        lablib.check(replies >= least, "%d replies of 2" % replies)

    def peer_pings(self):
        """A ping by the peer."""
        self.lab.ns_exec(self.stock, ["ping", "-6", "-n", "-c", "2", "-i", "0.2", "-W", "3", "-I", self.inner, self.d.address])

    def gone(self):
        """Nothing is left at either end."""
        lablib.wait(lambda: not self.d.calls(), 8, "tielined has no call")
        lablib.wait(self.call_ended, 5, "BYE arrives")
        lablib.wait(self.peer.empty, 8, "the peer has no SA")
        lablib.check(self.inner not in self.d.inner("ip", "-6", "route"), "the route is gone")
        lablib.check(not self.sip.errors, "the SIP peer had no trouble: %s" % self.sip.errors)

    def call_ended(self):
        """BYE was heard."""
        return self.call.ended

    def hang_up(self):
        """tielined ends its own call."""
        lablib.check(self.d.control.call("hangup", to=STOCK_AOR)["code"] == 0, "hangup is accepted")
        if self.ident:
            self.d.control.done(self.ident)
            self.ident = None
        self.gone()

    def bye(self):
        """The peer ends it by SIP alone."""
        self.sip.bye(self.call)
        self.call.ended = True
        self.gone()

    def terminate(self):
        """The peer ends it."""
        self.peer.terminate()
        self.gone()
