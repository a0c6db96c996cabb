#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A remote client joins a home network (RFC 6193, 3): home B is that network's router, home A has host = yes.

    home-a (NAT) ---- internet ---- (NAT) home-b 10.3.0.1, 2001:db8:3::1 ---- tv 10.3.0.10, 2001:db8:3::10
                                          `-- desk 10.2.0.10, of another network
"""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import B, TV, TV6, USER, ping, reaches     # noqa: E402
from lablib import check, wait   # noqa: E402

OWN, OWN6 = "10.77.0.", "2001:db8:77::"
HOST = "host = yes\ndataplane = user\nrekey-after = 6s"


def addresses(lab):
    """What home A's TUN has."""
    return lab.ip(lab.a, "-o", "address", "show", "dev", "tie0")


def routes(lab, *args):
    """Routes of home A's own tables, both families."""
    return lab.ip(lab.a, "-4", "route", "show", *args) + lab.ip(lab.a, "-6", "route", "show", *args)


def registers(lab):
    "both homes register and know each other's keys; the TUN is in the host's namespace"
    lab.h = homes.Homes(lab, daemon_a=HOST, daemon_b=HOST, change=homes.with_network)
    lab.a, lab.b, lab.tv = lab.h.ns["a"], lab.h.ns["b"], lab.h.lan().tv_ns
    lab.h.services().start().pin()
    check("tie0" in lab.ip(lab.a, "link") and "tie0" in lab.ip(lab.b, "link"), "no TUN")


def warns(lab):
    "a router that does not forward is told what to do"
    lab.h.b.process.says("net.ipv4.ip_forward=1")
    lab.h.b.process.says("net.ipv6.conf.all.forwarding=1")
    lab.forwards(lab.b)


def blocked(lab):
    "without a call nothing goes out in clear: unreachable routes for what is accepted"
    text = routes(lab, "type", "unreachable")
    for prefix in ("10.3.0.0/24", "10.77.0.0/24", "2001:db8:3::/64", "2001:db8:77::/64"):
        check(prefix in text, "%s: %s" % (prefix, text))
    check(not ping(lab, lab.a, TV), "the network is reached without a call")


def joins(lab):
    "a call for the network: addresses and routes on the caller's host, and the client says which"
    status, out, err = lab.h.a.cli("call", B + "/lan", "--detach", uid=USER, seconds=60)
    check(status == 0, "%d %s %s" % (status, out, err))
    line = [x for x in out.splitlines() if x.startswith("lan: ")][0]
    check(line.startswith("lan: 10.3.0.0/24, 2001:db8:3::/64 as 10.77.0.") and ", 2001:db8:77::" in line and line.endswith(", DNS 10.3.0.1"), line)
    lab.own = line.split(" as ")[1].split(",")[0]
    lab.own6 = line.split(", 2001:db8:77")[1].split(",")[0]
    lab.own6 = "2001:db8:77" + lab.own6
    text = addresses(lab)
    check(lab.own + "/32" in text and lab.own6 + "/128" in text, text)
    text = routes(lab, "dev", "tie0")
    check("10.3.0.0/24" in text and "2001:db8:3::/64" in text, text)
    there = lab.ip(lab.b, "-4", "route") + lab.ip(lab.b, "-6", "route")
    check(lab.own in there and lab.own6 in there, there)


def carries(lab):
    "ping and TCP to a host of the network, IPv4 and IPv6"
    for to in (TV, TV6):
        check(ping(lab, lab.a, to), "no ping to " + to)
        check(reaches(lab, lab.a, to, 8080), "no TCP to " + to)


def status(lab):
    "status shows network and address at both ends"
    for home in (lab.h.a, lab.h.b):
        code, out, err = home.cli("status")
        check(code == 0 and "lan 10.3.0.0/24, 2001:db8:3::/64 as %s, %s, DNS 10.3.0.1" % (lab.own, lab.own6) in out, out + err)


def others(lab):
    "nothing else: no other host behind home B, no service that was not asked for, and nothing from the network to the caller"
    check(not ping(lab, lab.a, "10.2.0.10"), "another network is reached")
    before = sum(lab.h.a.calls("up")[0]["drops"].values())
    lab.ip(lab.a, "route", "add", "10.2.0.10/32", "dev", "tie0", "src", lab.own)
    check(not ping(lab, lab.a, "10.2.0.10") and not reaches(lab, lab.a, "10.2.0.10", 5900), "another network is reached")
    lab.ip(lab.a, "route", "delete", "10.2.0.10/32", "dev", "tie0")
    check(not reaches(lab, lab.a, lab.h.b.address, 5900), "a service that was not asked for is reached")
    check(sum(lab.h.a.calls("up")[0]["drops"].values()) > before, "the drops are not counted")
    lablib.echo_server(lab, lab.a, "0.0.0.0", 9090)
    lablib.echo_server(lab, lab.a, "::", 9091)
    for to, port in ((lab.own, 9090), (lab.own6, 9091)):
        check(not ping(lab, lab.tv, to) and not reaches(lab, lab.tv, to, port), "the network reaches the caller")


def rekeys(lab):
    "new keys under a network go unnoticed"
    count = lab.h.a.process.text().count("Child SA up")
    wait(lambda: lab.h.a.process.text().count("Child SA up") > count + 1, 20, "new keys")
    check(ping(lab, lab.a, TV) and ping(lab, lab.a, TV6) and reaches(lab, lab.a, TV6, 8080), "gone")
    check(lab.own in addresses(lab) and lab.own in lab.ip(lab.b, "-4", "route"), addresses(lab))


def clean(lab):
    """Nothing of the network on the caller's host, but unreachable routes, and no way to him at the router."""
    wait(lambda: OWN not in addresses(lab) and OWN6 not in addresses(lab), 8, "the addresses are gone")
    check("10.3.0.0/24" not in routes(lab, "dev", "tie0"), "the route is left")
    check("10.3.0.0/24" in routes(lab, "type", "unreachable"), "no unreachable route")
    wait(lambda: lab.own not in lab.ip(lab.b, "-4", "route"), 8, "the way to the caller is gone")
    left = lab.ip(lab.b, "-4", "route", "show", "type", "unreachable") + lab.ip(lab.b, "-6", "route", "show", "type", "unreachable")
    check("10.77.0.0/29" in left and "2001:db8:77::/64" in left, "what is on its way to him leaves in clear: " + left)
    check(not ping(lab, lab.a, TV), "the network is reached after the call")


def hangs_up(lab):
    "hang-up: addresses and routes are gone at both ends, the unreachable route stays"
    check(lab.h.a.cli("hangup", B, uid=USER)[0] == 0, "hangup")
    clean(lab)
    check(lab.h.b.address + " dev lo" in routes(lab, "type", "unreachable"), "the peer's own address: " + routes(lab, "type", "unreachable"))


def again(lab):
    "the next call has the same addresses"
    call = lab.h.a.dial(B + "/lan")
    granted = call.event("granted", 30)
    check(granted["addresses"] == [lab.own, lab.own6] and granted["prefixes"] == ["10.3.0.0/24", "2001:db8:3::/64"], granted)
    call.event("up")
    check(ping(lab, lab.a, TV), "no ping")
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "exit status")
    clean(lab)


def both(lab):
    "without a name both are granted: the service by a local port, the network"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    granted = {x["name"]: x for x in call.lines() if x.get("event") == "granted"}
    check(set(granted) == {"desktop", "lan"}, granted)
    check(lab.h.echo(USER, granted["desktop"]["local"], 1000)[0] == 0, "the service")
    check(ping(lab, lab.a, TV6), "no ping")
    lab.call = call


def revoked(lab):
    "the owner takes the network back while the call is up: the service stays"
    lab.h.b.reload("allow = desktop lan", "allow = desktop")
    wait(lambda: OWN not in addresses(lab), 8, "the address is gone")
    check(lab.h.a.up() and "10.3.0.0/24" not in routes(lab, "dev", "tie0"), "the route is left")
    lab.call.process.kill(signal.SIGINT)
    lab.call.done(10)
    lab.h.b.reload()


def not_accepted(lab):
    "what accept-prefix does not list is not taken, and the call says why"
    lab.h.a.reload("10.3.0.0/24, 10.77", "10.9.0.0/24, 10.77")
    code, _, err = lab.h.a.cli("call", B + "/lan", "--detach", uid=USER, seconds=60)
    check(code == 16 and "accept-prefix" in err, "%d %s" % (code, err))
    check(OWN not in addresses(lab) and "10.3.0.0/24" not in routes(lab), "something is left: " + routes(lab))
    lab.h.a.reload()
    check("10.3.0.0/24" in routes(lab, "type", "unreachable"), "no unreachable route")


def killed(lab):
    "SIGKILL of the engine: its addresses and routes go with it, unreachable ones too"
    lab.h.a.cli("call", B + "/lan", "--detach", uid=USER, seconds=60)
    check(ping(lab, lab.a, TV), "no ping")
    lab.h.a.process.kill(signal.SIGKILL)
    wait(lambda: "tie0" not in lab.ip(lab.a, "link"), 8, "the TUN is gone")
    wait(lambda: not routes(lab, "type", "unreachable").strip(), 8, "unreachable routes are gone: " + routes(lab, "type", "unreachable"))
    lab.h.a.again()
    code, out, err = lab.h.a.cli("call", B + "/lan", "--detach", uid=USER, seconds=60)
    check(code == 0 and "as %s," % lab.own in out, "%d %s %s" % (code, out, err))
    check(ping(lab, lab.a, TV), "no ping")
    lab.h.a.cli("hangup", "all", uid=USER)
    clean(lab)


def without_host(lab):
    "a caller with host = no has the network in its private namespace, and reaches it by forward"
    check(lab.h.a.stop() == 0, "exit status")
    lab.h.a.again(daemon="")
    code, out, err = lab.h.a.cli("call", B + "/lan", "--detach", uid=USER, seconds=60)
    check(code == 0, "%d %s %s" % (code, out, err))
    check(not ping(lab, lab.a, TV) and "tie0" not in lab.ip(lab.a, "link"), "it is in the host's namespace")
    for target in ("tcp/%s:8080" % TV, "tcp/[%s]:8080" % TV6):
        line = [x for x in lab.h.a.ask("forward", B, target, uid=USER) if x.get("event") == "granted"][0]
        code, text = lab.h.echo(USER, line["local"], 100000)
        check(code == 0, text)
    code, _, err = lab.h.a.cli("forward", B, "tcp/10.2.0.10:5900", uid=USER)
    check(code == 16, "%d %s" % (code, err))
    lab.h.a.cli("hangup", "all", uid=USER)


def ends(lab):
    "daemons end with status 0, and nothing of them is left"
    check(lab.h.a.stop() == 0 and lab.h.b.stop() == 0 and lab.h.exchange.stop() == 0, "exit status")
    for ns in (lab.a, lab.b):
        text = lab.ip(ns, "-4", "route", "show", "proto", "193") + lab.ip(ns, "-6", "route", "show", "proto", "193")
        check(not text.strip() and "tie0" not in lab.ip(ns, "link"), text)
    wait(lambda: not homes.leftovers(lab), 5, "left: %s" % homes.leftovers(lab))


lablib.main("tln", [registers, warns, blocked, joins, carries, status, others, rekeys, hangs_up, again, both, revoked, not_accepted, killed, without_host, ends],
            needs=["ip", "nft", "setpriv", "ping"])
