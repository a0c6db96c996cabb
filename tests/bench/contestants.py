# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""The tunnels that tests/bench/plane.py and soak.py send through, each between two network namespaces of its own:

    client 198.51.100.1, 2001:db8:100::1 -- eth0 -- veth -- eth0 -- 198.51.100.2, 2001:db8:100::2 server
           `-- the tunnel's end                                     the tunnel's end --' 10.9.0.1, 2001:db8:9::1

All stand at the same time and are idle but for the one that is measured. Those whose programs are missing raise Missing.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "interop"))
import charon     # noqa: E402
import homes      # noqa: E402
import lablib     # noqa: E402
from lablib import check, wait     # noqa: E402

OUTER = {4: ("198.51.100.1", "198.51.100.2"), 6: ("2001:db8:100::1", "2001:db8:100::2")}
INNER = {4: ("10.9.0.2", "10.9.0.1"), 6: ("2001:db8:9::2", "2001:db8:9::1")}     # a tieline client's come out of a pool
LEN = {4: 32, 6: 128}
# What ethtool calls the means by which several outer packets cross a link as one. A veth's receiver takes what comes as one without
# any offload of its own.
TRAINS = ("tcp-segmentation-offload", "tx-udp-segmentation")


class Missing(Exception):
    """This contestant cannot take part; the text says why."""


def need(*programs):
    """Missing unless all of them are installed."""
    absent = [p for p in programs if not (lablib.program(p) or os.path.exists(p))]
    if absent:
        raise Missing("not installed: " + ", ".join(absent))


def text_of(argv):
    """What a command prints, whatever its exit status is."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          env=dict(os.environ, PATH=lablib._PATH), timeout=10)
    return done.stdout.decode("utf-8", "replace")


def package(name):
    """The version of an installed Debian package."""
    return text_of(["dpkg-query", "-W", "-f", "${Version}", name]).strip()


class Contestant:
    """The link alone, without a tunnel: what all others are held against."""
    key, title = "veth", "no tunnel (veth)"
    to = {4: OUTER[4][1], 6: OUTER[6][1]}      # where the server is reached
    outer_family = 4
    hard = True      # whether it can do with the hard wire
    daemons = ()      # the client's, the server's

    def __init__(self, lab):
        self.lab = lab
        self.client, self.server = lab.netns(self.key + "-a"), lab.netns(self.key + "-b")
        self.cable("eth0", [a + n for a, n in ((OUTER[4][0], "/24"), (OUTER[6][0], "/64"))],
                   [a + n for a, n in ((OUTER[4][1], "/24"), (OUTER[6][1], "/64"))])
        self.start()

    def cable(self, dev, addresses_client, addresses_server):
        """A link between both ends."""
        self.lab.veth(self.client, dev, addresses_client, self.server, dev, addresses_server)

    def start(self):
        """Brings the tunnel up."""

    def version(self):
        """Of the program."""
        return "Linux " + os.uname().release

    def processes(self):
        """([PIDs of the client's end], [PIDs of the server's end])"""
        return tuple([d.pid for d in self.daemons[i:i + 1]] for i in (0, 1))

    def wire(self, hard):
        """hard: every outer packet crosses the link alone, cut by the kernel before it and not joined behind it, as between machines
        whose network cards can do neither. Else trains of them cross as one, as they do inside a machine."""
        for ns in (self.client, self.server):
            for feature in TRAINS:
                text_of(["ip", "netns", "exec", ns, "ethtool", "-K", "eth0", feature, "off" if hard else "on"])
            text_of(["ip", "netns", "exec", ns, "ethtool", "-K", "eth0", "generic-receive-offload", "off"])

    def inside(self, ns, end, dev):
        """The addresses that the tunnel's interface of an end has (0: the client)."""
        for family in (4, 6):
            self.lab.ip(ns, "address", "add", "%s/%d" % (INNER[family][end], 24 if family == 4 else 64), "dev", dev)

    def server_address(self, family):
        """The server's end of the tunnel, for the server's own programs."""
        self.lab.ip(self.server, "address", "add", "%s/%d" % (INNER[family][1], LEN[family]), "dev", "lo")


class Tieline(Contestant):
    """Two daemons and an exchange at the server's side; the client joins a network that the server is in (host = yes)."""
    key, title = "tieline", "tieline"
    program = "tielined"
    to = {4: INNER[4][1], 6: INNER[6][1]}
    daemon, level = "host = yes\ndataplane = user\n", "info"
    sniff = None     # called with the client's namespace before the call
    exchange_conf = "[exchange]\ndomain = example.net\nlisten = %s\nuser = %s\n"

    def start(self):
        if not lablib.binary(self.program):
            raise Missing("%s is not built" % self.program)
        lab = self.lab
        for family in (4, 6):
            self.server_address(family)
        for ns in (self.client, self.server):
            lab.sysctl(ns, "net.ipv4.ip_forward", 1)
            lab.sysctl(ns, "net.ipv6.conf.all.forwarding", 1)
        self._exchange()
        self.a = self._home("home-a", self.client, "[peer %s]\naccept-prefix = 10.9.0.0/24, 10.77.0.0/24\n"
                            "accept-prefix = 2001:db8:9::/64, 2001:db8:77::/64\n" % homes.B)
        self.b = self._home("home-b", self.server, "[network lan]\nprefix = 10.9.0.0/24, 2001:db8:9::/64\n"
                            "pool = 10.77.0.0/29, 2001:db8:77::/64\n[peer %s]\nallow = lan\n" % homes.A)
        for home in (self.b, self.a):
            home.start()
        for home in (self.b, self.a):
            home.registered()
        homes.Homes.pin(self)
        if self.sniff:
            self.sniff(self)
        status, out, err = self.a.cli("call", homes.B + "/lan", "--detach", seconds=60)
        check(status == 0, "%s: no call: %s%s" % (self.key, out, err))

    def _exchange(self):
        where = os.path.join(self.lab.dir, self.key + "-exchange")
        os.makedirs(where)
        self.passwords = {}
        text = self.exchange_conf % (OUTER[4][1], lablib.engine_user())
        for name in ("home-a", "home-b"):
            self.passwords[name] = lablib.run([lablib.binary("tieline-exchange"), "user", "add", name])
            text += self.passwords[name]
        with open(where + "/exchange.conf", "w") as f:
            f.write(text)
        os.chmod(where + "/exchange.conf", 0o600)
        argv = [lablib.binary("tieline-exchange"), "-c", where + "/exchange.conf", "-s", where + "/state", "-r", where + "/run"]
        self.lab.spawn(self.server, argv, self.key + "-exchange").says("ready for")

    def _home(self, name, ns, sections):
        password = re.search(r"^\s*password\s*=\s*(\S+)", self.passwords[name], re.M).group(1)
        conf = "[account]\naor = sip:%s@example.net\nserver = %s:5060;transport=tcp\npassword = %s\ninsecure-digest = yes\n%s" % (
            name, OUTER[4][1], password, sections)
        home = homes.Home(self.lab, "%s-%s" % (self.key, name), ns, conf, self.daemon, level=self.level)
        home.program = self.program
        return home

    def version(self):
        return text_of([lablib.binary("tieline"), "--version"]).split()[-1]

    def processes(self):
        return tuple([home.process.pid] + lablib.children(home.process.pid) for home in (self.a, self.b))


class Relay(Tieline):
    """The same without encryption (null_aead.c): what everything else costs."""
    key, title = "null", "tieline's null relay"
    program = "tests/bench_relay"


class Bare(Contestant):
    """bare.c: reads, sends, receives and writes, and nothing else. What TUN and UDP cost on this machine."""
    key, title = "bare", "bare relay"
    program = "tests/bench_bare"
    to = Tieline.to
    hard = False
    super_bytes = "62000"      # a super-packet, so that it leaves as one train

    def start(self):
        if not lablib.binary(self.program):
            raise Missing("%s is not built" % self.program)
        self.daemons = []
        for i, (ns, end) in enumerate(((self.client, "a"), (self.server, "b"))):
            name = "b%s%d" % (end, os.getpid())
            self.daemons.append(self.lab.spawn(ns, [lablib.binary(self.program), name, OUTER[4][i], OUTER[4][1 - i]], "bare-" + end))
            self.daemons[i].says("ready")
            self.lab.ip(ns, "link", "set", name, "gso_max_size", self.super_bytes)
            self.inside(ns, i, name)


class WireGuardGo(Contestant):
    """Debian's wireguard-go."""
    key, title = "wireguard", "wireguard-go"
    to = Tieline.to
    port = 51820

    def start(self):
        need("wireguard-go", "wg")
        keys, self.names, self.daemons = [], [], []
        for ns, end in ((self.client, "a"), (self.server, "b")):
            name = "w%s%d" % (end, os.getpid())
            self.names.append(name)
            self.daemons.append(self.lab.spawn(ns, ["wireguard-go", "-f", name], "wireguard-" + end))
            keys.append(text_of(["wg", "genkey"]).strip())
        for i, ns in enumerate((self.client, self.server)):
            path = os.path.join(self.lab.dir, "wireguard-key-%d" % i)
            with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                f.write(keys[i] + "\n")
            other = subprocess.run(["wg", "pubkey"], input=keys[1 - i].encode(), stdout=subprocess.PIPE, check=True).stdout.decode().strip()
            argv = ["wg", "set", self.names[i], "private-key", path, "listen-port", str(self.port), "peer", other, "allowed-ips",
                    ",".join("%s/%d" % (INNER[f][1 - i], LEN[f]) for f in (4, 6)), "endpoint", "%s:%d" % (OUTER[4][1 - i], self.port)]
            wait(lambda n=ns, a=argv: self._quiet(n, a), 10, "wireguard-go takes its configuration")
            self.inside(ns, i, self.names[i])
            self.lab.ip(ns, "link", "set", self.names[i], "up")

    def _quiet(self, ns, argv):
        try:
            self.lab.ns_exec(ns, argv)
        except lablib.Failed:
            return False
        return True

    def version(self):
        return package("wireguard-go")


class StrongSwan(Contestant):
    """strongSwan's charon with kernel-libipsec."""
    key, title = "strongswan", "strongSwan kernel-libipsec"
    to = Tieline.to

    def start(self):
        need(*charon.NEEDS)
        ends = []
        for i, (ns, aor) in enumerate(((self.client, "a@example.org"), (self.server, "b@example.org"))):
            ends.append(charon.Charon(self.lab, "charon-" + aor[0], ns, aor, INNER[6][i]))
            self.lab.ip(ns, "address", "add", INNER[4][i] + "/32", "dev", "lo")
            ends[i].start()
        for i, end in enumerate(ends):
            other = ends[1 - i]
            with open(other.dir + "/swanctl/x509/own.pem") as f:
                pem = f.read()
            ts = [",".join("%s/%d" % (INNER[f][n], LEN[f]) for f in (4, 6)) for n in (0, 1)]
            end.connection(OUTER[4][i], OUTER[4][1 - i], charon.PORT, pem, other.aor, other.inner, local_ts=ts[i], remote_ts=ts[1 - i],
                           dpd="60s")
        ends[0].initiate()
        self.daemons = [end.process for end in ends]

    def version(self):
        return package("strongswan-charon")


ALL = (Tieline, Relay, Bare, WireGuardGo, StrongSwan, Contestant)
