# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Two homes behind NATs and an exchange between them, set up from examples/ as a user would: what the demo and the lab share.

                         198.51.100.0/24
        ---+----------------+----------------+---
           | .5             | .11            | .12
        exchange          nat-a            nat-b
                            | 10.1.0.1       | 10.2.0.1
                          home-a           -+-------------+-
                          10.1.0.2      home-b          desk
                                        10.2.0.2     10.2.0.10
"""
import contextlib
import json
import os
import pwd
import re
import subprocess
import sys

import lablib
from lablib import check, wait

A, B = "sip:home-a@example.net", "sip:home-b@example.net"
TV, TV6 = "10.3.0.10", "2001:db8:3::10"      # of the network that home B may grant; see Homes.lan()
NETWORK = """
[network lan]
prefix = 10.3.0.0/24, 2001:db8:3::/64
pool = 10.77.0.0/29, 2001:db8:77::/64
dns = 10.3.0.1
"""
ACCEPT = "accept-prefix = 10.3.0.0/24, 10.77.0.0/24\naccept-prefix = 2001:db8:3::/64, 2001:db8:77::/64\n"
EXAMPLES = os.path.join(lablib.ROOT, "examples")
TOPOLOGY = __doc__.split("\n\n", 1)[1].rstrip()
USER, OTHER = 4001, 4002          # two users of the caller's machine


def user_of(uid):
    """setpriv prefix: this user, in the group that may write to the control socket, with no other rights."""
    gid = pwd.getpwnam(lablib.engine_user()).pw_gid
    return ["setpriv", "--reuid=%d" % uid, "--regid=%d" % gid, "--clear-groups", "--no-new-privs"]


def with_network(name, text):
    """A change of Homes: B grants its network beside one service, A accepts it."""
    if name == "home-a":
        return text + "\n[peer %s]\n%s" % (B, ACCEPT)
    return text.replace("allow = desktop files", "allow = desktop lan") + NETWORK


def ping(lab, ns, to, *args):
    """Does this address answer?"""
    try:
        lab.ns_exec(ns, ["ping", "-n", "-c", "1", "-W", "1"] + list(args) + [to])
    except lablib.Failed:
        return False
    return True


def reaches(lab, ns, host, port, size=100000, seconds=2):
    """Does TCP get through?"""
    with contextlib.suppress(lablib.Failed, OSError):
        lablib.tcp_echo(lab, ns, host, port, size, seconds)
        return True
    return False


class Running:
    """A `tieline --json` in the foreground: its lines as they come."""

    def __init__(self, process):
        self.process = process

    def lines(self):
        """All whole lines so far, as objects."""
        return [json.loads(line) for line in self.process.text().splitlines(keepends=True)
                if line.endswith("\n") and line.startswith("{")]

    def event(self, name, seconds=15):
        """Waits for an event; Failed with the call's last words if it ends before."""
        def look():
            for line in self.lines():
                if line.get("event") == name:
                    return line
            if not self.process.alive():
                raise lablib.Failed("no event %s, but: %s" % (name, self.process.text().strip().splitlines()[-1:]))
            return None
        return wait(look, seconds, "event " + name)

    def done(self, seconds=60):
        """Waits for its end; returns (exit status, last line)."""
        wait(lambda: not self.process.alive(), seconds, "the call's end")
        done = [line for line in self.lines() if line.get("done")]
        return self.process.popen.returncode, done[-1] if done else None


class Home(lablib.Daemon):
    """One home's daemon with its client."""

    def reload(self, old="", new=""):
        """Its first configuration with this change, read again."""
        self.configure(self.conf.replace(old, new) if old else self.conf, self.daemon)
        check(self.cli("reload")[0] == 0, "reload")

    def again(self, daemon=None):
        """Once more, after its end; with other lines of [daemon]."""
        if daemon is not None:
            self.daemon = daemon
            self.configure(self.conf, daemon)
        if self._control:
            self._control.close()
            self._control = None
        self.start().registered()

    def cli(self, *args, uid=0, seconds=30):
        """Runs `tieline ARGS` to its end on this machine; returns (exit status, stdout, stderr)."""
        argv = ["ip", "netns", "exec", self.ns] + (user_of(uid) if uid else []) + \
               [lablib.binary("tieline"), "--control", self.run + "/control"] + list(args)
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds * lablib.PATIENCE,
                              env=dict(os.environ, PATH=lablib._PATH), check=False)
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def ask(self, *args, uid=0):
        """`tieline --json ARGS`: its lines as objects; Failed if it did not exit with 0."""
        status, out, err = self.cli(*args, "--json", uid=uid)
        check(status == 0, "tieline %s: exit status %d: %s%s" % (" ".join(args), status, out, err))
        return [json.loads(line) for line in out.splitlines()]

    def dial(self, to, *args, uid=USER, name=None):
        """Starts `tieline call TO` in the foreground as a user."""
        argv = user_of(uid) + [lablib.binary("tieline"), "--control", self.run + "/control", "call", to, "--json"] + list(args)
        name = name or "%s-call-%d" % (self.name, len(self.lab.processes))
        return Running(self.lab.spawn(self.ns, argv, name))


class Homes:
    """The whole: networks, exchange, both homes. What is not asked for otherwise is as in examples/. nat_*: one of lablib.NATS; None: a
    router that translates nothing."""

    def __init__(self, lab, nat_a="port-restricted", nat_b="port-restricted", daemon_a="", daemon_b="", change=None):
        self.lab = lab
        self.change = change or (lambda name, text: text)
        net = self.net = lab.netns("net")
        lab.bridge(net)
        self.exchange_ns = lab.netns("exchange")
        lab.plug(self.exchange_ns, "eth0", ["198.51.100.5/24"], net)
        self.ns, self.nat_ns = {}, {}
        routers = (("a", "198.51.100.11", "10.1.0", nat_a), ("b", "198.51.100.12", "10.2.0", nat_b))
        for letter, wan, lan, kind in routers:
            router = self.nat_ns[letter] = lab.netns("nat-" + letter, forward=True)
            host = self.ns[letter] = lab.netns("home-" + letter)
            lab.plug(router, "wan", [wan + "/24"], net)
            lab.bridge(router, "lan")
            lab.ip(router, "address", "add", lan + ".1/24", "dev", "lan")
            lab.plug(host, "eth0", [lan + ".2/24"], router, "lan")
            lab.route(host, "default", lan + ".1")
            if kind:
                lab.nat(router, kind)
        for letter, wan, lan, _ in [r for r in routers if not r[3]]:
            for ns in [self.exchange_ns] + [r for other, r in self.nat_ns.items() if other != letter]:
                lab.route(ns, lan + ".0/24", wan)
        self.desk_ns = lab.netns("desk")
        lab.plug(self.desk_ns, "eth0", ["10.2.0.10/24"], self.nat_ns["b"], "lan")
        lab.route(self.desk_ns, "default", "10.2.0.1")
        self.tv_ns = None
        self.passwords = {}
        self.exchange = None
        self.start_exchange()
        self.a = self._home("home-a", "a", daemon_a)
        self.b = self._home("home-b", "b", daemon_b)

    def start_exchange(self):
        """`tieline-exchange user add` for both, then the exchange itself."""
        where = os.path.join(self.lab.dir, "exchange")
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(EXAMPLES, "exchange/exchange.conf")) as f:
            text = f.read() + "user = %s\n" % lablib.engine_user()
        for name in ("home-a", "home-b"):
            if name not in self.passwords:
                section = lablib.run([lablib.binary("tieline-exchange"), "user", "add", name])
                self.passwords[name] = section
            text += self.passwords[name]
        with open(where + "/exchange.conf", "w") as f:
            f.write(text)
        os.chmod(where + "/exchange.conf", 0o600)
        self.exchange = self.lab.spawn(self.exchange_ns, [lablib.binary("tieline-exchange"), "-c", where + "/exchange.conf",
                                                         "-s", where + "/state", "-r", where + "/run"], "exchange",
                                       env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
        self.exchange.says("ready for")

    def password(self, name):
        """The password of a user, out of the section that `user add` printed."""
        for line in self.passwords[name].splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "password":
                return value.strip()
        raise lablib.Failed("no password in what `tieline-exchange user add` printed")

    def _home(self, name, letter, daemon):
        where = os.path.join(self.lab.dir, name)
        os.makedirs(where, exist_ok=True)
        path = where + "/password"
        with open(path, "w") as f:
            f.write(self.password(name) + "\n")
        os.chmod(path, 0o600)
        with open(os.path.join(EXAMPLES, name, "tielined.conf")) as f:
            text = f.read().replace("/etc/tieline/password", path)
        return Home(self.lab, name, self.ns[letter], self.change(name, text), daemon)

    def start(self):
        """Both daemons run and are registered."""
        self.b.start()
        self.a.start()
        self.a.registered()
        self.b.registered()
        return self

    def pin(self):
        """What the two owners do once: each enters the key that the other reads out."""
        for here, there, aor in ((self.a, self.b, B), (self.b, self.a, A)):
            key = [line for line in there.ask("trust", "export") if line.get("event") == "key"][0]["key"]
            here.ask("trust", "add", aor, key)
        return self

    def services(self):
        """Servers behind home B's services: echo at the desk, echo on B itself."""
        lablib.echo_server(self.lab, self.desk_ns, "10.2.0.10", 5900)
        lablib.echo_server(self.lab, self.desk_ns, "10.2.0.10", 22)
        lablib.echo_server(self.lab, self.ns["b"], "127.0.0.1", 8080)
        return self

    def join(self):
        """Home A calls for home B's network; the addresses that it is assigned."""
        status, out, err = self.a.cli("call", B + "/lan", "--detach", uid=USER, seconds=60)
        check(status == 0, "%d %s %s" % (status, out, err))
        return check(re.search(r"^lan: .* as (10\.77\.0\.\d+), (2001:db8:77:[0-9a-f:]+),", out, re.M), out).groups()

    def planes(self, a, b):
        """Waits until the one call has these planes at both ends, for as long as a rekeying takes."""
        for home, plane in ((self.a, a), (self.b, b)):
            wait(lambda h=home, p=plane: [c["plane"] for c in h.calls("up")] == [p], 5, "%s has the plane %s" % (home.name, plane))

    def lan(self):
        """Home B's own network, and in it a TV with an echo server, port 8080."""
        lab = self.lab
        self.tv_ns = lab.netns("tv")
        lab.veth(self.ns["b"], "eth1", ["10.3.0.1/24", "2001:db8:3::1/64"], self.tv_ns, "eth0", [TV + "/24", TV6 + "/64"])
        lab.route(self.tv_ns, "default", "10.3.0.1")
        lab.route(self.tv_ns, "default", "2001:db8:3::1")
        for address in (TV, TV6):
            lablib.echo_server(lab, self.tv_ns, address, 8080)
        return self

    def echo(self, uid, address, size=200000, seconds=20):
        """A user of home A sends random bytes to a local forward and compares what comes back. Returns what it printed."""
        argv = ["ip", "netns", "exec", self.ns["a"]] + user_of(uid) + [sys.executable, os.path.join(lablib.ROOT, "tests/echo.py"), address, str(size)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                              env=dict(os.environ, PATH=lablib._PATH), check=False)
        return done.returncode, done.stdout.decode("utf-8", "replace").strip()

    def peer_routes(self, home):
        """Routes into the TUN of a home's private namespace, but for its own address."""
        text = home.inner("ip", "-6", "route", "show", "dev", "tie0")
        return [line.split()[0] for line in text.splitlines() if line.startswith("fd") and not line.startswith(home.address)]

    def clean(self, seconds=8):
        """Both ends show no call and no route to a peer any more."""
        for home in (self.a, self.b):
            if home.process and home.process.alive():
                wait(lambda h=home: not h.calls() and not self.peer_routes(h), seconds, "%s is clean" % home.name)


def leftovers(lab):
    """Processes in the lab's namespaces, and private namespaces that outlive their daemon."""
    left = []
    for ns in lab.namespaces:
        with contextlib.suppress(lablib.Failed):
            for pid in lablib.run(["ip", "netns", "pids", ns]).split():
                with contextlib.suppress(OSError), open("/proc/%s/comm" % pid) as f:
                    left.append("%s (%s)" % (f.read().strip(), pid))
    return left
