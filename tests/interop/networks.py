# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What 10-network.py and, with both ends' ESP in the kernel, tests/kernel/18-plane-strongswan.py do: networks and a strongSwan.

    tv 10.3.0.10, 2001:db8:3::10 ---- home (tielined, host = yes) 10.92.0.1 ---- 10.92.0.2 stock (charon; SIP by sippeer.py),
                                                                                 before 10.8.0.1, 2001:db8:8::1
"""
import contextlib
import hashlib
import re

import charon
import lablib
import sippeer
from lablib import check, wait

HOME, STOCK, INNER = "10.92.0.1", "10.92.0.2", "fd00:92::2"
TV, TV6, GATE, GATE6 = "10.3.0.10", "2001:db8:3::10", "10.8.0.1", "2001:db8:8::1"
CONF = """
[account]
aor = sip:home@example.net
server = 10.92.0.2:5060
password = 8c1f0a63e5d97b24a1c3
insecure-digest = yes

[network lan]
prefix = 10.3.0.0/24 2001:db8:3::/64
pool = 10.77.0.0/30 2001:db8:77::/64
dns = 10.3.0.1 2001:db8:3::1

[peer sip:stock@example.org]
bare = yes
ice = no
cert = sha-256:%s
address = fd00:92::2
allow = lan
accept-prefix = 10.8.0.0/24 10.88.0.0/24
accept-prefix = 2001:db8:8::/64 2001:db8:88::/64
"""
CONNECTION = """
connections {
	call {
		version = 2
		local_addrs = 10.92.0.2
		remote_addrs = 10.92.0.1
		local_port = %(port)d
		remote_port = %(remote_port)d
		proposals = aes128gcm16-prfsha256-x25519
		encap = yes
		mobike = no
		send_cert = always
		%(more)s
		local { auth = pubkey
			certs = own.pem
			id = stock@example.org }
		remote { auth = pubkey
			certs = peer.pem
			id = home@example.net }
		children { tunnel { %(child)s
			esp_proposals = aes128gcm16
			mode = tunnel } }
	}
}
pools {
	four { addrs = 10.88.0.0/29
		dns = 10.8.0.1 }
	six { addrs = 2001:db8:88::/124
		dns = 2001:db8:8::1 }
}
"""


class RoadWarrior(charon.Charon):
    """charon that installs the addresses it is given, and writes name servers to a file of its own."""

    def start(self):
        """As charon.Charon."""
        plain, plugins = charon._STRONGSWAN, charon._PLUGINS      # pylint: disable=protected-access
        charon._STRONGSWAN = plain.replace("install_virtual_ip = no", "install_virtual_ip = yes").replace(
            "plugins {", "plugins { resolve { file = %(dir)s/resolv.conf\n resolvconf { iface_prefix = none\n path = /nonexistent } }")
        charon._PLUGINS = plugins + " resolve attr"
        try:
            super().start()
        finally:
            charon._STRONGSWAN, charon._PLUGINS = plain, plugins

    def configure(self, lab, more, child, remote_port=4500):
        """Its one connection."""
        with open(lab.d.state + "/identity.crt") as f, open(self.dir + "/swanctl/x509/peer.pem", "w") as to:
            to.write(f.read())
        with open(self.dir + "/swanctl/swanctl.conf", "w") as f:
            f.write(CONNECTION % {"port": charon.PORT, "remote_port": remote_port, "more": more, "child": child})
        self.swanctl("--load-all")


class KernelRoadWarrior(RoadWarrior):
    """The same with the kernel's ESP."""
    kernel = charon.KernelCharon.kernel


def ping(lab, ns, to):
    """Does this address answer?"""
    with contextlib.suppress(lablib.Failed):
        lab.ns_exec(ns, ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", to])
        return True
    return False


def invite(lab, setup="active"):
    """The stock peer calls; the description is answered."""
    sdp = sippeer.bare_sdp(STOCK, charon.PORT, setup, sippeer.fingerprint(lab.charon.cert_der()))
    lab.call = lab.sip.invite("sip:home@example.net", "sip:stock@example.org", sdp)
    wait(lambda: lab.call.status, 5, "an answer")
    check(lab.call.status == 200, "status %s" % lab.call.status)
    lab.port = int(re.search(r"^m=application (\d+) ", lab.call.answer, re.M).group(1))


def begin(lab, stock, plane):
    """Both ends run, charon as the class `stock`; tielined is registered."""
    lab.home, lab.stock, lab.tv = lab.netns("home", forward=True), lab.netns("stock"), lab.netns("tv")
    lab.veth(lab.home, "eth0", [HOME + "/24"], lab.stock, "eth0", [STOCK + "/24"])
    lab.veth(lab.home, "eth1", ["10.3.0.1/24", "2001:db8:3::1/64"], lab.tv, "eth0", [TV + "/24", TV6 + "/64"])
    for gateway in ("10.3.0.1", "2001:db8:3::1"):
        lab.route(lab.tv, "default", gateway)
    for address in (GATE + "/32", GATE6 + "/128"):
        lab.ip(lab.stock, "address", "add", address, "dev", "lo")
    lab.charon = stock(lab, "charon", lab.stock, "stock@example.org", INNER)
    lab.charon.start()
    mark = sippeer.fingerprint(lab.charon.cert_der())
    lab.sip = sippeer.SipPeer(lab, lab.stock, STOCK, passwords={"home": "8c1f0a63e5d97b24a1c3"},
                              answer=lambda offer: sippeer.bare_sdp(STOCK, charon.PORT, "passive", mark))
    lab.d = lablib.Daemon(lab, "tielined", lab.home, CONF % hashlib.sha256(lab.charon.cert_der()).hexdigest(),
                          "host = yes\nrekey-after = 8s\ndataplane = " + plane).start()
    lab.d.registered()
    for address in (TV, TV6):
        lablib.echo_server(lab, lab.tv, address, 8080)
    lablib.echo_server(lab, lab.stock, GATE, 8080)
    lablib.echo_server(lab, lab.stock, GATE6, 8080)


def no_address(lab):
    "a road warrior that asks for no address has FAILED_CP_REQUIRED, and no Child SA"
    invite(lab)
    lab.charon.configure(lab, "", "local_ts = %s/128\nremote_ts = 10.3.0.0/24,2001:db8:3::/64" % INNER, lab.port)
    lab.charon.refused()
    check("FAIL_CP_REQ" in lab.charon.process.text(), lab.charon.process.text()[-2000:])
    lab.charon.terminate()
    wait(lambda: not lab.d.calls(), 40, "tielined has no call")


def road_warrior(lab):
    "a strongSwan road warrior has a virtual IPv4 and IPv6 address and name servers of tielined"
    invite(lab)
    lab.charon.configure(lab, "vips = 0.0.0.0,::", "remote_ts = 10.3.0.0/24,2001:db8:3::/64", lab.port)
    lab.charon.initiate()
    call = lab.d.up()
    lan = call["services"][0]
    check(lan["name"] == "lan" and lan["protocol"] == "network" and len(lan["addresses"]) == 2, lan)
    lab.given = lan["addresses"]
    sas = lab.charon.sas()
    for address, bits in zip(lab.given, ("/32", "/128")):
        check(address + bits in sas and address + bits in lab.ip(lab.stock, "address"), sas)
    check("10.3.0.0/24" in sas and "2001:db8:3::/64" in sas, sas)
    with open(lab.charon.dir + "/resolv.conf") as f:
        text = f.read()
    check("nameserver 10.3.0.1" in text and "nameserver 2001:db8:3::1" in text, text)


def into_the_network(lab):
    "ping and TCP into the network, IPv4 and IPv6; nothing comes the other way"
    for to in (TV, TV6):
        check(ping(lab, lab.stock, to), "no ping to " + to)
        lablib.tcp_echo(lab, lab.stock, to, 8080)
    check(not ping(lab, lab.tv, lab.given[0]), "the network reaches the road warrior")
    check(not ping(lab, lab.stock, "10.3.1.1"), "another network answers")


def new_keys(lab):
    "new keys, by either side, go unnoticed"
    count = lab.d.process.text().count("Child SA up")
    lab.charon.swanctl("--rekey", "--child", "tunnel")
    wait(lambda: lab.d.process.text().count("Child SA up") > count, 10, "a new Child SA")
    check(ping(lab, lab.stock, TV), "no ping")
    count = lab.d.process.text().count("Child SA up")
    wait(lambda: lab.d.process.text().count("Child SA up") > count, 20, "a new Child SA")
    check(ping(lab, lab.stock, TV6), "no ping")
    lablib.tcp_echo(lab, lab.stock, TV, 8080)


def leaves(lab):
    "strongSwan terminates: the ways to its addresses are gone; the next time it has the same ones"
    lab.charon.terminate()
    wait(lambda: not lab.d.calls(), 5, "tielined has no call")
    text = lab.ip(lab.home, "-4", "route") + lab.ip(lab.home, "-6", "route")
    check(not any(address in text for address in lab.given), text)
    invite(lab)
    lab.charon.configure(lab, "vips = 0.0.0.0,::", "remote_ts = 10.3.0.0/24,2001:db8:3::/64", lab.port)
    lab.charon.initiate()
    check(lab.d.up()["services"][0]["addresses"] == lab.given, lab.d.calls())
    lab.charon.terminate()
    wait(lambda: not lab.d.calls(), 5, "tielined has no call")


def gateway(lab):
    "tielined joins the network of a strongSwan gateway: addresses of its pools, and name servers"
    lab.charon.configure(lab, "pools = four,six", "local_ts = 10.8.0.0/24,2001:db8:8::/64\nremote_ts = dynamic")
    lab.ident = lab.d.control.send("call", to="sip:stock@example.org")
    granted = lab.d.control.event(lab.ident, "granted")
    lab.d.control.event(lab.ident, "up")
    check(granted["protocol"] == "network" and granted["prefixes"] == ["10.8.0.0/24", "2001:db8:8::/64"], granted)
    check(granted["dns"] == ["10.8.0.1", "2001:db8:8::1"] and len(granted["addresses"]) == 2, granted)
    text = lab.ip(lab.home, "address", "show", "dev", "tie0")
    check(all(a in text for a in granted["addresses"]), text)
    check(granted["addresses"][0].startswith("10.88.0.") and granted["addresses"][1].startswith("2001:db8:88::"), granted)


def through_the_gateway(lab):
    "ping and TCP through it, IPv4 and IPv6, also after new keys"
    for to in (GATE, GATE6):
        check(ping(lab, lab.home, to), "no ping to " + to)
        lablib.tcp_echo(lab, lab.home, to, 8080)
    count = lab.d.process.text().count("Child SA up")
    wait(lambda: lab.d.process.text().count("Child SA up") > count, 20, "a new Child SA")
    for to in (GATE, GATE6):
        check(ping(lab, lab.home, to), "no ping to " + to)


def hangs_up(lab):
    "hang-up: addresses and routes are gone, unreachable routes stay"
    check(lab.d.control.call("hangup", to="sip:stock@example.org")["code"] == 0, "hangup")
    lab.d.control.done(lab.ident)
    wait(lambda: "10.88.0." not in lab.ip(lab.home, "address", "show", "dev", "tie0"), 5, "the address is gone")
    check("10.8.0.0/24" not in lab.ip(lab.home, "route", "show", "dev", "tie0"), "the route is gone")
    check("10.8.0.0/24" in lab.ip(lab.home, "route", "show", "type", "unreachable"), "no unreachable route")
    wait(lambda: not lab.charon.sas().strip(), 5, "charon has no SA")


def empty_pool(lab):
    "a gateway without an address to give: INTERNAL_ADDRESS_FAILURE, and the call says so"
    lab.charon.configure(lab, "pools = nosuch", "local_ts = 10.8.0.0/24,2001:db8:8::/64\nremote_ts = dynamic")
    ident = lab.d.control.send("call", to="sip:stock@example.org")
    done = lab.d.control.done(ident, 40)
    check(done["code"] == 16 and "no address left" in done["reason"], done)
    check(lab.d.stop() == 0, "tielined ends with 0")
