#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Two tielineds register with Kamailio and call each other through it, by examples/kamailio.cfg as it stands.

    home-a 198.51.100.11 ----+---- 198.51.100.12 home-b (service echo)
                             |
                  198.51.100.5 kamailio
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402

SERVER = "198.51.100.5"
PASSWORDS = {"home-a": "7d2c9be0f1463a58e7b1", "home-b": "c04f8d91ab3e6275d2f9"}
USERS_PATH = "/etc/kamailio/tieline-users.cfg"
ACCOUNT = """
[account]
aor = sip:%s@example.net
server = 198.51.100.5:5060
password = %s
insecure-digest = yes
"""
B_SERVICES = """
[service echo]
listen = tcp/7004

[service other]
listen = tcp/7005
"""


def network(lab):
    "Kamailio runs with the example configuration"
    lab.wan = lab.netns("wan")
    lab.bridge(lab.wan)
    lab.ns = {}
    for name, address in (("sip", SERVER), ("home-a", "198.51.100.11"), ("home-b", "198.51.100.12")):
        lab.ns[name] = lab.netns(name)
        lab.plug(lab.ns[name], "eth0", [address + "/24"], lab.wan)
    folder = os.path.join(lab.dir, "kamailio")
    os.mkdir(folder)
    with open(os.path.join(lablib.ROOT, "examples/kamailio.cfg")) as f:
        text = f.read()
    lablib.check(text.count(USERS_PATH) == 1, "the example names its users' file once")
    with open(folder + "/kamailio.cfg", "w") as f:
        f.write(text.replace(USERS_PATH, folder + "/users.cfg"))
    with open(folder + "/users.cfg", "w") as f:
        f.write("event_route[htable:mod-init] {\n%s}\n" % "".join('\t$sht(users=>%s) = "%s";\n' % u for u in PASSWORDS.items()))
    argv = [lablib.program("kamailio"), "-f", folder + "/kamailio.cfg", "-DD", "-E", "-m", "32", "-M", "8", "-P", folder + "/pid",
            "-w", folder, "-Y", folder]
    lablib.stun_server(lab, lab.ns["sip"], SERVER)
    lab.kamailio = lab.spawn(lab.ns["sip"], argv, "kamailio")

    def listens():
        lablib.check(lab.kamailio.alive(), "Kamailio goes on running")
        return SERVER + ":5060" in lab.ns_exec(lab.ns["sip"], ["ss", "-Hltn"])
    lablib.wait(listens, 10, "Kamailio listens")


def register(lab):
    "both register over TCP with digest"
    lab.d = {name: lab.daemon(name, lab.ns[name], ACCOUNT % (name, PASSWORDS[name])) for name in PASSWORDS}
    for d in lab.d.values():
        d.registered()


def restart(lab):
    "both stop, keep their keys, and come back with each other's key configured"
    keys = {name: d.key for name, d in lab.d.items()}
    for name, d in lab.d.items():
        lablib.check(d.stop() == 0, name + " ends with 0")
        other = "home-b" if name == "home-a" else "home-a"
        d.configure(ACCOUNT % (name, PASSWORDS[name]) + (B_SERVICES if name == "home-b" else "") +
                    "\n[peer sip:%s@example.net]\nkey = %s\n%s" % (other, keys[other], "allow = echo\n" if name == "home-b" else ""))
        d.start()
        lablib.check(d.key == keys[name], name + " has its key still")
    for d in lab.d.values():
        d.registered()
    for port in (7004, 7005):
        lablib.echo_server(lab, lab.ns["home-b"], "127.0.0.1", port)


def unknown(lab):
    "a callee that Kamailio does not know ends the call with 12"
    end = lab.d["home-a"].control.call("call", to="sip:nobody@example.net", trust_first=True)
    lablib.check(end["code"] == 12, "%s" % end)


def not_granted(lab):
    "a service that is not granted is refused with 16"
    end = lab.d["home-a"].control.call("call", to="sip:home-b@example.net", service="other")
    lablib.check(end["code"] == 16, "%s" % end)
    lablib.wait(lambda: not lab.d["home-b"].calls(), 5, "home-b has no call")


def call(lab):
    "the call comes up with the granted service"
    a, b = lab.d["home-a"], lab.d["home-b"]
    lab.ident = a.control.send("call", to="sip:home-b@example.net", service="echo")
    granted = a.control.event(lab.ident, "granted")
    lablib.check((granted["name"], granted["protocol"], granted["port"]) == ("echo", "tcp", 7004), "%s" % granted)
    lab.forward = granted["local"]
    a.control.event(lab.ident, "up")
    path = a.control.event(lab.ident, "path")
    lablib.check(path["remote"] == "198.51.100.12:4500", "%s" % path)
    lablib.check(b.up()["peer"] == "sip:home-a@example.net" and b.up()["level"] == "pinned", "home-b knows the caller: %s" % b.calls())


def ping(lab):
    "ping through the tunnel, both ways"
    for d in lab.d.values():
        lablib.check(len(d.ping(d.up()["id"], count=1)) == 1, d.name)


def tcp(lab):
    "the local forward carries TCP to the service"
    host, _, port = lab.forward.rpartition(":")
    lablib.tcp_echo(lab, lab.ns["home-a"], host, int(port))


def hang_up(lab):
    "hang-up at the callee ends both sides; nothing is left"
    a, b = lab.d["home-a"], lab.d["home-b"]
    lablib.check(b.control.call("hangup", call=b.up()["id"])["code"] == 0, "hangup is accepted")
    end = a.control.done(lab.ident)
    lablib.check(end["code"] == 0, "the caller is told: %s" % end)
    for d, other in ((a, b), (b, a)):
        lablib.wait(lambda: not d.calls(), 5, "%s has no call" % d.name)      # pylint: disable=cell-var-from-loop
        lablib.check(other.address not in d.inner("ip", "-6", "route"), d.name + ": the route is gone")
    for d in lab.d.values():
        lablib.check(d.stop() == 0, d.name + " ends with 0")


lablib.main("ti", [network, register, restart, unknown, not_granted, call, ping, tcp, hang_up], needs=["kamailio", "ip", "ss"])
