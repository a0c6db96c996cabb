# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What the programs of tests/lab and tests/interop share: namespaces, links, kernel NATs, processes,
the control socket, polling, cleaning up, TAP. Python 3 standard library, root.

A program is a list of steps. A step is a function of the Lab whose docstring is the case's name; it fails by
an exception. What comes after a failed step is "not ok" as well, since each builds on the ones before.

    def registers(lab):
        "home registers"
        lab.home = lab.daemon("home", lab.netns("home"), CONF)
        lab.home.registered()

    lablib.main("tl", [registers, ...], needs=["nft"])

Everything that a Lab makes is named after its prefix and this process, and goes away with it: processes by
their own PIDs, then namespaces, then the folder. On a failure the tails of all logs are printed as comments.
"""
import atexit
import contextlib
import ctypes
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


# Where all takes longer, as in a machine without hardware's help, so many times longer.
PATIENCE = float(os.environ.get("TIELINE_PATIENCE") or 1)
SANITIZER = re.compile(r"ERROR: \w*Sanitizer|runtime error:")


class Failed(Exception):
    """A step's condition did not come true; the text says which."""


class Skip(Exception):
    """A step cannot be run on this machine; the text says why."""


def program(name):
    """Full path of a program, or None."""
    return shutil.which(name, path=_PATH)


def binary(name):
    """Full path of one of the project's programs, $TIELINE_BUILD/NAME or build/NAME; None: not built."""
    path = os.path.join(os.environ.get("TIELINE_BUILD") or os.path.join(ROOT, "build"), name)
    return os.path.abspath(path) if os.access(path, os.X_OK) else None


def engine_user():
    """The user that a daemon's engine becomes: the packaged one, or nobody."""
    for name in ("tieline", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Skip("no user tieline or nobody")


def wait(cond, seconds, what):
    """Polls cond() until it is true and returns that value; Failed("...: WHAT") after so many seconds (of PATIENCE)."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        value = cond()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed("after %g s: %s" % (seconds, what))
        time.sleep(0.02)


def check(cond, what):
    """Failed(WHAT) if cond is false; returns cond."""
    if not cond:
        raise Failed(what)
    return cond


class Process:
    """One started process, leader of its own group, its output in `log`."""

    def __init__(self, name, argv, log, **popen):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                          start_new_session=True, **popen)
        self.pid = self.popen.pid

    def alive(self):
        """Is it still running?"""
        return self.popen.poll() is None

    def text(self):
        """All it has printed so far."""
        with open(self.log, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def says(self, words, seconds=10):
        """Waits until its output contains these words."""
        return wait(lambda: words in self.text() or (not self.alive() and check(words in self.text(), "%s ended without: %s"
                    % (self.name, words))), seconds, "%s does not say: %s" % (self.name, words))

    def kill(self, number):
        """Sends a signal to this process alone."""
        if self.alive():
            os.kill(self.pid, number)

    def stop(self, seconds=5, number=signal.SIGTERM):
        """Ends it: the signal, and SIGKILL to its group if that was not enough in time. Returns the exit status."""
        self.kill(number)
        try:
            self.popen.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)      # what it left in its group, itself included
        return self.popen.wait()


class Control:
    """A connection to a daemon's control socket (docs/control-protocol.md)."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.buffer, self.lines, self.last = b"", [], 0

    def close(self):
        """Closes it; calls that were made by it without `detach` end."""
        self.socket.close()

    def send(self, do, **args):
        """Sends a command and returns its id."""
        self.last += 1
        line = dict(args, id=self.last, do=do)
        self.socket.sendall(json.dumps(line).encode() + b"\n")
        return self.last

    def _read(self, seconds):
        """Reads what is there, waiting for at most so long. False: the daemon closed."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(65536)
        except (socket.timeout, BlockingIOError):
            return True
        if not data:
            return False
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.lines += [json.loads(line) for line in lines]
        return True

    def seen(self, ident=None):
        """All lines received so far (of one command)."""
        self._read(0)
        return [line for line in self.lines if ident is None or line.get("id") == ident]

    def find(self, ident, match, seconds, what):
        """Waits for the first line of a command for which match(line); a command that is done early is a failure."""
        end = time.monotonic() + seconds * PATIENCE
        while True:
            of_it = [line for line in self.lines if line.get("id") == ident]
            for line in of_it:
                if match(line):
                    return line
            if of_it and of_it[-1].get("done"):
                raise Failed("%s: instead: %s" % (what, json.dumps(of_it[-1])))
            left = end - time.monotonic()
            if left <= 0:
                raise Failed("after %g s: %s; so far: %s" % (seconds, what, json.dumps(of_it)))
            if not self._read(left) :
                raise Failed("%s: the daemon closed the control socket" % what)

    def event(self, ident, name, seconds=10):
        """Waits for an event of a command by its name and returns the line."""
        return self.find(ident, lambda line: line.get("event") == name, seconds, "event %s" % name)

    def done(self, ident, seconds=10):
        """Waits for the last line of a command and returns it."""
        return self.find(ident, lambda line: line.get("done"), seconds, "end of command %d" % ident)

    def call(self, do, seconds=10, **args):
        """Sends a command, waits for its end, returns that line."""
        return self.done(self.send(do, **args), seconds)

    def status(self):
        """{"accounts": [...], "calls": [...]}"""
        return self.call("status")["status"]


class Daemon:
    """One tielined: its folder, process and control connection. `conf` is the configuration without [daemon]."""
    program = "tielined"

    def __init__(self, lab, name, ns, conf, daemon="", level="debug"):
        self.lab, self.name, self.ns = lab, name, ns
        self.dir = os.path.join(lab.dir, name)
        self.state, self.run = self.dir + "/state", self.dir + "/run"
        self.process = self._control = None
        self.level, self.conf, self.daemon = level, conf, daemon
        os.makedirs(self.dir, 0o755, exist_ok=True)
        self.configure(conf, daemon)

    def configure(self, conf, daemon=""):
        """Writes the configuration; `daemon` are further lines of [daemon]."""
        with open(self.dir + "/tielined.conf", "w") as f:
            f.write("[daemon]\nuser = %s\n%s\n%s" % (engine_user(), daemon, conf))
        os.chmod(self.dir + "/tielined.conf", 0o600)

    def launch(self):
        """Starts it, whatever becomes of it."""
        argv = [binary(self.program), "-c", self.dir + "/tielined.conf", "-s", self.state, "-r", self.run, "--log-level", self.level]
        self.process = self.lab.spawn(self.ns, argv, self.name, env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))

    def start(self, seconds=10):
        """Starts it and waits until it answers on its control socket."""
        self.launch()
        wait(lambda: self._answers() or (not self.process.alive() and check(False, self.name + " does not start")), seconds,
             "%s answers on its control socket" % self.name)
        return self

    def _answers(self):
        with contextlib.suppress(OSError, Failed):
            Control(self.run + "/control").close()
            return True
        return False

    def connect(self):
        """A new control connection."""
        return Control(self.run + "/control")

    @property
    def control(self):
        """The control connection of this object, made at first use."""
        if not self._control:
            self._control = self.connect()
        return self._control

    def status(self):
        """The daemon's status object."""
        return self.control.status()

    def registered(self, seconds=10):
        """Waits until all accounts are registered."""
        return wait(lambda: all(a["registered"] for a in self.status()["accounts"]), seconds, "%s registers" % self.name)

    def calls(self, state=None):
        """The calls of status (in one state)."""
        return [c for c in self.status()["calls"] if state in (None, c["state"])]

    def up(self, seconds=10):
        """Waits for a call that is up and returns it as status shows it."""
        return wait(lambda: self.calls("up"), seconds, "a call of %s is up" % self.name)[0]

    def ping(self, call, count=2, seconds=10):
        """Echo requests through a call's tunnel; returns the lines of the replies. Failed if none came."""
        ident = self.control.send("ping", call=call, count=count)
        end = self.control.done(ident, seconds)
        check(end["code"] == 0, "%s: no reply to ping: %s" % (self.name, end))
        return [line for line in self.control.seen(ident) if line.get("event") == "reply"]

    @property
    def key(self):
        """sha-256:... of its public key, as [peer] key = wants it."""
        return self.status()["accounts"][0]["key"]

    @property
    def address(self):
        """Its inner address."""
        return self.status()["accounts"][0]["address"]

    def cert_der(self):
        """Its certificate."""
        with open(self.state + "/identity.crt") as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def inner_ns(self):
        """/proc path of the private network namespace: the monitor's descriptor of it, while the daemon runs."""
        own = os.stat("/run/netns/" + self.ns).st_ino
        for pid in [self.process.pid] + children(self.process.pid):
            for fd in os.listdir("/proc/%d/fd" % pid):
                path = "/proc/%d/fd/%s" % (pid, fd)
                with contextlib.suppress(OSError):
                    if os.readlink(path).startswith("net:") and os.stat(path).st_ino != own:
                        return path
        return None

    def inner(self, *argv, seconds=10):
        """Runs a command inside the private network namespace and returns what it prints."""
        return run(["nsenter", "--net=" + check(self.inner_ns(), "%s has a private namespace" % self.name)] + list(argv), seconds)

    def stop(self, seconds=8):
        """SIGTERM; returns the exit status."""
        if self._control:
            self._control.close()
            self._control = None
        return self.process.stop(seconds)


def children(pid):
    """PIDs of a process's children."""
    with contextlib.suppress(OSError):
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(p) for p in f.read().split()]
    return []


def run(argv, seconds=20, env=None):
    """Runs a command to its end and returns its output; Failed with that output if it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                          env=dict(os.environ, PATH=_PATH, **(env or {})), check=False)
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise Failed("%s: %s" % (" ".join(argv), text.strip()))
    return text


# LAB.md of kernel NATs, in nftables' words. In each, what comes from outside unasked is dropped before conntrack
# remembers it: else our own packet to that place would get another port.
_NAT_BASE = """
table ip nat {
	chain post { type nat hook postrouting priority srcnat; oifname "%(outside)s" masquerade %(flags)s; }
	chain unasked { type filter hook input priority filter; iifname "%(outside)s" ct state new drop; }
	%(more)s
}
"""
_OPEN = """
	map open { type %(type)s : ipv4_addr; flags dynamic,timeout; timeout 120s; size 65535; }
	chain learn { type filter hook forward priority filter; oifname "%(outside)s" meta l4proto udp update @open { %(out)s : ip saddr }; }
	chain pre { type nat hook prerouting priority dstnat; iifname "%(outside)s" meta l4proto udp dnat to %(back)s map @open; }
"""
_FULL_CONE = {"type": "inet_service", "out": "udp sport", "back": "udp dport"}
_ADDRESS = {"type": "ipv4_addr . inet_service", "out": "ip daddr . udp sport", "back": "ip saddr . udp dport"}
_BLOCKED = 'chain blocked { type filter hook forward priority filter; oifname "%(outside)s" meta l4proto udp drop; }'
NATS = {
    "full-cone": ("", _OPEN, _FULL_CONE),
    "address-restricted": ("", _OPEN, _ADDRESS),
    "port-restricted": ("", "", {}),
    "symmetric": ("random,fully-random", "", {}),
    "udp-blocked": ("", _BLOCKED, {}),
}


class Lab:
    """All that one program makes. `dir` is its folder, readable by every user (engines are not root)."""

    def __init__(self, prefix):
        self.prefix = "%s%d" % (prefix, os.getpid())
        self.dir = tempfile.mkdtemp(prefix=self.prefix + ".")
        os.chmod(self.dir, 0o755)
        self.namespaces, self.processes, self.closers, self.n_links = [], [], [], 0
        atexit.register(self.close)

    # ---- network ----

    def netns(self, name, forward=False):
        """A new network namespace, lo up; returns its full name. forward: it routes."""
        full = "%s-%s" % (self.prefix, name)
        run(["ip", "netns", "add", full])
        self.namespaces.append(full)
        self.ip(full, "link", "set", "lo", "up")
        # duplicate address detection would hold an IPv6 address back for a second
        for key in ("all", "default"):
            self.sysctl(full, "net.ipv6.conf.%s.accept_dad" % key, 0)
        if forward:
            self.forwards(full)
        return full

    def forwards(self, ns):
        """A namespace routes from now on."""
        self.sysctl(ns, "net.ipv4.ip_forward", 1)
        self.sysctl(ns, "net.ipv6.conf.all.forwarding", 1)

    def ns_exec(self, ns, argv, seconds=20):
        """Runs a command to its end inside a namespace; returns its output."""
        return run(["ip", "netns", "exec", ns] + list(argv), seconds)

    def ip(self, ns, *args):
        """`ip ARGS` inside a namespace."""
        return run(["ip", "-n", ns] + list(args))

    def sysctl(self, ns, key, value):
        """Sets one kernel setting of a namespace; absent ones are no error."""
        with contextlib.suppress(Failed):
            self.ns_exec(ns, ["sysctl", "-qw", "%s=%s" % (key, value)])

    def _address(self, ns, dev, addresses):
        for a in addresses:
            self.ip(ns, "address", "add", a, "dev", dev)
        self.ip(ns, "link", "set", dev, "up")

    def veth(self, ns_a, dev_a, addr_a, ns_b, dev_b, addr_b):
        """A cable between two namespaces; addr_* are lists of ADDR/LEN."""
        self.ip(ns_a, "link", "add", dev_a, "type", "veth", "peer", "name", dev_b, "netns", ns_b)
        self._address(ns_a, dev_a, addr_a)
        self._address(ns_b, dev_b, addr_b)

    def bridge(self, ns, dev="br0"):
        """A switch inside a namespace: plug() connects others to it."""
        self.ip(ns, "link", "add", dev, "type", "bridge")
        self.ip(ns, "link", "set", dev, "up")

    def plug(self, ns, dev, addresses, ns_bridge, bridge="br0"):
        """A cable from `dev` of a namespace to a switch."""
        self.n_links += 1
        port = "port%d" % self.n_links
        self.veth(ns, dev, addresses, ns_bridge, port, [])
        self.ip(ns_bridge, "link", "set", port, "master", bridge)

    def route(self, ns, to, via):
        """A route, e.g. route(ns, "default", "10.0.0.1")."""
        self.ip(ns, "route", "add", to, "via", via)

    def nat(self, ns, kind, outside="wan"):
        """Makes a routing namespace a NAT of one of the NATS towards its device `outside`."""
        flags, more, words = NATS[kind]
        rules = _NAT_BASE % {"outside": outside, "flags": flags, "more": more % dict(words, outside=outside)}
        path = os.path.join(self.dir, ns + ".nft")
        with open(path, "w") as f:
            f.write(rules)
        self.ns_exec(ns, ["nft", "-f", path])

    @contextlib.contextmanager
    def inside(self, ns):
        """Sockets made by this thread within the `with` belong to the namespace (and stay there)."""
        with open("/proc/thread-self/ns/net") as back, open("/run/netns/" + ns) as there:
            check(_LIBC.setns(there.fileno(), _CLONE_NEWNET) == 0, "setns into " + ns)
            try:
                yield
            finally:
                if _LIBC.setns(back.fileno(), _CLONE_NEWNET):
                    os._exit(70)      # nothing of what follows may run in the wrong place

    # ---- processes ----

    def spawn(self, ns, argv, name, env=None, cwd=None):
        """Starts a process (inside a namespace, or None); its output goes to NAME.log. Ended by close()."""
        if ns:
            argv = [program("ip"), "netns", "exec", ns] + list(argv)      # execs: the PID is the program's own
        p = Process(name, argv, os.path.join(self.dir, name + ".log"), env=env, cwd=cwd)
        self.processes.append(p)
        return p

    def daemon(self, name, ns, conf, daemon="", level="debug"):
        """A started tielined."""
        return Daemon(self, name, ns, conf, daemon, level).start()

    def at_close(self, close):
        """Has close() called at the end, before processes are ended."""
        self.closers.append(close)

    def close(self):
        """Takes everything away; called at exit, and harmless when called twice."""
        for close in reversed(self.closers):
            with contextlib.suppress(Exception):
                close()
        for p in reversed(self.processes):
            with contextlib.suppress(Exception):
                p.stop(3)
        self.reports()
        for ns in reversed(self.namespaces):
            with contextlib.suppress(Exception):
                for pid in run(["ip", "netns", "pids", ns]).split():
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(Exception):
                run(["ip", "netns", "delete", ns])
        shutil.rmtree(self.dir, ignore_errors=True)
        self.closers, self.processes, self.namespaces = [], [], []

    def sanitizers(self):
        """Lines of a sanitizer in any log."""
        return [line for p in self.processes for line in p.text().splitlines() if SANITIZER.search(line)]

    def reports(self):
        """Prints what sanitizers had to say; the runner takes such a line for a failure."""
        for p in self.processes:
            text = p.text()
            at = max(text.find("Sanitizer:"), text.find("runtime error:"))
            if at >= 0:
                print("# ---- %s" % p.name)
                for line in text[max(0, at - 100):at + 4000].splitlines():
                    print("# " + line)

    def diagnose(self, lines=60):
        """Prints the tail of every log as TAP comments."""
        for p in self.processes:
            text = p.text().splitlines()
            print("# ---- %s: the last of %d lines" % (p.name, len(text)))
            for line in text[-lines:]:
                print("# " + line)


def echo_server(lab, ns, address, port):
    """A TCP server in a namespace that sends back what it gets, until the lab is closed. In a thread."""
    import threading

    with lab.inside(ns):
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(8)

    def one(conn):
        with conn, contextlib.suppress(OSError):
            conn.settimeout(30)
            while True:
                data = conn.recv(65536)
                if not data:
                    return
                conn.sendall(data)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()

    def close():
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
    lab.at_close(close)
    return server.getsockname()[1]


def udp_echo_server(lab, ns, address, port):
    """Sends back each datagram until the lab is closed. In a thread."""
    import threading

    with lab.inside(ns):
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                data, peer = server.recvfrom(65536)
                with contextlib.suppress(OSError):      # no way back
                    server.sendto(data, peer)
    threading.Thread(target=serve, daemon=True).start()
    lab.at_close(server.close)


def stun_server(lab, ns, address, port=3478):
    """Answers Binding requests (RFC 8489) over IPv4, until the lab is closed. In a thread."""
    import struct
    import threading

    with lab.inside(ns):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                data, peer = server.recvfrom(2048)
                if len(data) < 20 or data[:2] != b"\0\1" or data[4:8] != b"\x21\x12\xa4\x42":
                    continue
                ip = bytes(a ^ b for a, b in zip(socket.inet_aton(peer[0]), data[4:8]))
                mapped = struct.pack("!HHBBH", 0x20, 8, 0, 1, peer[1] ^ 0x2112) + ip
                server.sendto(b"\1\1" + struct.pack("!H", len(mapped)) + data[4:20] + mapped, peer)
    threading.Thread(target=serve, daemon=True).start()
    lab.at_close(server.close)


def tcp_echo(lab, ns, host, port, size=100000, seconds=20, source=None):
    """Sends so many random bytes to an echo server from inside a namespace and compares what comes back."""
    import threading

    data = os.urandom(size)
    with lab.inside(ns):
        conn = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with conn:
        conn.settimeout(seconds)
        if source:
            conn.bind((source, 0))
        conn.connect((host, port))

        def send():
            with contextlib.suppress(OSError):
                conn.sendall(data)
                conn.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        back = b""
        while len(back) < size:
            piece = conn.recv(65536)
            if not piece:
                break
            back += piece
        sender.join(seconds)
    check(hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), "%d of %d bytes came back, or others" % (len(back), size))


def main(prefix, steps, needs=()):
    """Runs a program's steps as TAP cases and exits. needs: programs without which all of it is skipped."""
    print("1..%d" % len(steps), flush=True)
    missing = [n for n in needs if not (program(n) or os.path.exists(n))]
    why = None
    if os.geteuid():
        why = "not root"
    elif missing:
        why = "not installed: " + ", ".join(missing)
    elif not binary("tielined"):
        why = "tielined is not built"
    if why:
        for i, step in enumerate(steps, 1):
            print("ok %d - %s # SKIP %s" % (i, step.__doc__, why))
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lab, failed = Lab(prefix), None
    for i, step in enumerate(steps, 1):
        began = time.monotonic()
        try:
            if failed:
                print("not ok %d - %s (after: %s)" % (i, step.__doc__, failed), flush=True)
                continue
            step(lab)
            check(not lab.sanitizers(), "a sanitizer's report: %s" % lab.sanitizers())
            print("ok %d - %s (%.1f s)" % (i, step.__doc__, time.monotonic() - began), flush=True)
        except Skip as e:
            print("ok %d - %s # SKIP %s" % (i, step.__doc__, e), flush=True)
        except Exception as e:      # pylint: disable=broad-except  # whatever it is, the case has failed
            failed = step.__doc__
            print("not ok %d - %s" % (i, step.__doc__))
            for line in traceback.format_exc().splitlines() if not isinstance(e, Failed) else [str(e)]:
                print("# " + line)
            lab.diagnose()
            sys.stdout.flush()
    lab.close()
    sys.exit(1 if failed else 0)
