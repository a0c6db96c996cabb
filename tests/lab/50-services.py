#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Services and grants beyond the first call: UDP, time limits, a configuration that changes, and a network that is IPv6 only."""
import contextlib
import os
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import A, B   # noqa: E402
from lablib import check, wait   # noqa: E402

MORE = """
[service clock]
listen = udp/123
target = 10.2.0.10:123
"""


def udp_echo_server(lab, ns, address, port):
    """Sends back each datagram until the lab is closed."""
    with lab.inside(ns):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                data, peer = server.recvfrom(65536)
                server.sendto(data, peer)
    threading.Thread(target=serve, daemon=True).start()
    lab.at_close(server.close)


def udp_echo(lab, ns, local, data):
    """What comes back for one datagram to ADDRESS:PORT, b"" after 2 s."""
    host, _, port = local.rpartition(":")
    with lab.inside(ns):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(2)
        try:
            client.connect((host, int(port)))
            client.send(data)
            return client.recv(65536)
        except OSError:
            return b""


def configure(lab, allow, more=""):
    """Home B's configuration with these services allowed to home A."""
    text = lab.conf_b.replace("[peer ", MORE + "[peer ").replace("allow = desktop files", "allow = " + allow + more)
    lab.h.b.configure(text)


def start(lab):
    "two homes, a UDP service more"
    lab.h = homes.Homes(lab, change=lambda name, text: text if name == "home-a" else setattr(lab, "conf_b", text) or text)
    lab.h.services()
    udp_echo_server(lab, lab.h.desk_ns, "10.2.0.10", 123)
    configure(lab, "desktop files clock")
    lab.h.start().pin()


def udp(lab):
    "UDP through a forward, of any length"
    lab.call = lab.h.a.dial(B, uid=0)
    lab.call.event("up", 30)
    lab.local = {line["name"]: line["local"] for line in lab.call.lines() if line["event"] == "granted"}
    check(set(lab.local) == {"desktop", "files", "clock"}, lab.local)
    for data in (b"tick", os.urandom(1232), os.urandom(1233), os.urandom(1400), os.urandom(8000), os.urandom(60000)):
        check(udp_echo(lab, lab.h.ns["a"], lab.local["clock"], data) == data, "%d bytes did not come back" % len(data))


def narrowed(lab):
    "a service is taken out of the configuration: its flows end at once, the others stay"
    before, text = lab.h.echo(0, lab.local["files"], 100)
    check(before == 0, text)
    configure(lab, "desktop clock")
    lab.h.b.ask("reload")
    wait(lambda: lab.h.echo(0, lab.local["files"], 100)[0] != 0, 10, "files is not reached any more")
    check(udp_echo(lab, lab.h.ns["a"], lab.local["clock"], b"tick") == b"tick", "the clock is gone too")
    check(len(lab.h.b.calls("up")) == 1 and len(lab.h.b.up()["services"]) == 2, lab.h.b.calls())


def refused_file(lab):
    "a configuration with a wrong line is refused with file and line, and changes nothing"
    configure(lab, "desktop", "\nallwo = files")
    status, _, err = lab.h.b.cli("reload")
    check(status == 3 and "tielined.conf:" in err and "allwo" in err, "%d %s" % (status, err))
    check(len(lab.h.b.up()["services"]) == 2, lab.h.b.calls())


def revoked(lab):
    "nothing is allowed any more: the call ends with 17"
    text = lab.conf_b.replace("allow = desktop files", "ping = yes").replace("[peer ", MORE + "[peer ")
    lab.h.b.configure(text)
    lab.h.b.ask("reload")
    status, done = lab.call.done(10)
    check(status == 17, "%d %s" % (status, done))
    lab.h.clean()


def time_over(lab):
    "a grant for 3 s: the call ends with 17 when they are over"
    configure(lab, "desktop", "\nfor = 3s")
    lab.h.b.ask("reload")
    call = lab.h.a.dial(B)
    up = call.event("up", 30)
    status, done = call.done(20)
    check(status == 17, "%d %s" % (status, done))
    ended = [line for line in call.lines() if line.get("event") == "ended"][0]
    check(2500 < ended["t_ms"] - up["t_ms"] < 6000, "after %d ms" % (ended["t_ms"] - up["t_ms"]))
    lab.h.clean()


def only_ipv6(lab):
    "exchange, path and signalling over IPv6 alone"
    net = lab.netns("net6")
    lab.bridge(net)
    ns = {}
    for n, name in ((5, "exchange"), (11, "home-a"), (12, "home-b")):
        ns[name] = lab.netns(name + "6")
        lab.plug(ns[name], "eth0", ["2001:db8::%d/64" % n], net)
    where = os.path.join(lab.dir, "exchange6")
    os.makedirs(where)
    sections = [lablib.run([lablib.binary("tieline-exchange"), "user", "add", name]) for name in ("home-a", "home-b")]
    with open(where + "/exchange.conf", "w") as f:
        f.write("[exchange]\ndomain = example.net\nlisten = [2001:db8::5]\nuser = %s\n%s" % (lablib.engine_user(), "".join(sections)))
    lab.spawn(ns["exchange"], [lablib.binary("tieline-exchange"), "-c", where + "/exchange.conf"], "exchange6",
              env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0")).says("ready for")
    ends = []
    for name, section in zip(("home-a", "home-b"), sections):
        password = section.split("password =")[1].split()[0]
        text = ("[account]\naor = sip:%s@example.net\nserver = [2001:db8::5]\npassword = %s\ninsecure-digest = yes\n" % (name, password))
        if name == "home-b":
            text += "[service files]\nlisten = tcp/8080\n[peer %s]\nallow = files\n" % A
        ends.append(homes.Home(lab, name + "6", ns[name], text).start())
    a, b = ends
    a.registered()
    b.registered()
    a.ask("trust", "add", B, b.key)
    b.ask("trust", "add", A, a.key)
    lablib.echo_server(lab, ns["home-b"], "127.0.0.1", 8080)
    call = a.dial(B)
    call.event("up", 30)
    path = call.event("path")
    check(path["remote"].startswith("[2001:db8::"), path)
    a.ping(a.up()["id"])
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "hang-up")
    wait(lambda: not a.calls() and not b.calls(), 10, "both are clean")


lablib.main("tls", [start, udp, narrowed, refused_file, revoked, time_over, only_ipv6], needs=["ip", "nft", "setpriv"])
