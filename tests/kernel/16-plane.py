#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Networks whose packets the kernel carries (`dataplane`), on a stock kernel: tests/lab/90-network.py with ESP by XFRM.

    home-a (symmetric NAT) ---- internet ---- (NAT) home-b 10.3.0.1, 2001:db8:3::1 ---- tv 10.3.0.10, 2001:db8:3::10
                                              `-- desk 10.2.0.10, of another network

Each end has its own plane. What the kernel has of them is seen by `ip xfrm`, `nft` and /proc/net/xfrm_stat, what a packet came to by
counters of this program in the table `watch`. Whatever is done here, nothing for the network leaves a home in clear.
"""
import contextlib
import os
import re
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
import homes        # noqa: E402
import lablib       # noqa: E402
import qemu         # noqa: E402
import tcpcopy      # noqa: E402
from homes import B, TV, TV6, USER, ping, reaches     # noqa: E402
from knock import PORT, Flow, knocks, servers     # noqa: E402
from lablib import check, wait   # noqa: E402
from seen import count, drops, left, more, states, tun, watch     # noqa: E402

HOST = "host = yes\n"
A_OUTER, B_OUTER, DESK = "10.1.0.2", "10.2.0.2", "10.2.0.10"
TV_OTHER, B_OTHER = "2001:db8:4::10", "2001:db8:4::1"      # of a second network, which is not granted
# Each counts what comes in before anything else of the host sees it, but for connection tracking's helpers.
LEAKS = """
table inet watch {
	counter leaks { }
	counter seen { }
	chain pre { type filter hook prerouting priority -300;
		%s counter name leaks
		ip daddr 10.99.0.1 counter name seen
		ip6 daddr 2001:db8:99::1 counter name seen
	}
}
"""
TO_NETWORK = "ip daddr 10.3.0.0/24 counter name leaks\n\t\tip6 daddr 2001:db8:3::/64"
# ICE tries home B's own addresses there as well.
FROM_NETWORK = "ip saddr 10.3.0.0/24 ip saddr != 10.3.0.1 counter name leaks\n\t\tip6 saddr 2001:db8:3::/64 ip6 saddr != 2001:db8:3::1"
# Before and after the rules of home A, which are at -150.
GUARD = """
table inet watch {
	counter early { }
	counter late { }
	chain early { type filter hook prerouting priority -160; %(which)s counter name early; %(which6)s counter name early; }
	chain late { type filter hook prerouting priority -140; %(which)s counter name late; %(which6)s counter name late; }
}
"""
# What comes to the hosts behind home B.
BEHIND = """
table inet watch {
	counter odd { }
	chain pre { type filter hook prerouting priority -300;
		meta l4proto icmpv6 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } return
		%s
	}
}
"""
# The one of examples/home-router.
FIREWALL = """
table inet filter {
	chain forward { type filter hook forward priority 0; policy drop;
		iifname tie0 oifname eth1 accept
		meta ipsec exists oifname eth1 accept
		iifname eth1 ct state established,related accept
	}
}
"""
SILENT = """
table inet silent {
	chain out { type filter hook output priority 0; ip daddr 10.77.0.0/29 drop; ip6 daddr 2001:db8:77::/64 drop; }
}
"""


# ---- what the kernels have ----

def directions(lab, ns):
    """(those to it, those from it)."""
    outer = A_OUTER if ns == lab.a else B_OUTER
    all_of_it = states(lab, ns)
    return [s for s in all_of_it if s.dst == outer], [s for s in all_of_it if s.src == outer]


# ---- calls and packets ----

def joins(lab, a, b):
    """A call for the network, and the plane that each end is to come to."""
    lab.own, lab.own6 = lab.h.join()
    lab.h.planes(a, b)


def hang_up(lab):
    """At both ends nothing is left in the kernel."""
    check(lab.h.a.cli("hangup", B, uid=USER)[0] == 0, "hangup")
    nothing(lab)


def nothing(lab, seconds=3):
    """No call, nothing in a kernel."""
    for home, ns in ((lab.h.a, lab.a), (lab.h.b, lab.b)):
        wait(lambda h=home: not h.calls(), seconds, "%s has no call" % home.name)
        wait(lambda n=ns: not left(lab, n), seconds, "%s has something left: %s" % (home.name, left(lab, ns)))


def udp(lab, to, size=1000):
    """A datagram to the TV and back; one may be lost."""
    data = os.urandom(size)
    with lab.inside(lab.a):
        client = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(2)
        client.connect((to, PORT))
        for _ in range(3):
            with contextlib.suppress(OSError):
                client.send(data)
                if client.recv(65536) == data:
                    return True
    return False


def carries(lab, size=100000):
    """Ping, TCP and UDP to the TV, IPv4 and IPv6."""
    for to in (TV, TV6):
        check(ping(lab, lab.a, to), "no ping to " + to)
        check(reaches(lab, lab.a, to, 8080, size, 10), "no TCP to " + to)
        check(udp(lab, to), "no UDP to " + to)


@contextlib.contextmanager
def taken(lab, ns, *addresses):
    """A host takes addresses that are not its own."""
    for address in addresses:
        lab.ip(ns, "address", "add", address, "dev", "lo")
    try:
        yield
    finally:
        for address in addresses:
            lab.ip(ns, "address", "delete", address, "dev", "lo")


@contextlib.contextmanager
def firewall(lab):
    """Home B forwards nothing but what its rules name."""
    watch(lab, lab.b, FIREWALL)
    try:
        yield
    finally:
        lab.ns_exec(lab.b, ["nft", "delete", "table", "inet", "filter"])


@contextlib.contextmanager
def hosts_silent(lab):
    """While home B's daemon is not there, and with it not its routes, the network's hosts send nothing to who has joined: what flows of
    former calls would repeat."""
    watch(lab, lab.tv, SILENT)
    try:
        yield
    finally:
        lab.ns_exec(lab.tv, ["nft", "delete", "table", "inet", "silent"])


def link_local(lab, ns, dev):
    """An interface's address of the link."""
    return re.search(r"inet6 (fe80:\S+)/", lab.ip(ns, "-6", "address", "show", "dev", dev, "scope", "link")).group(1)


# ---- steps ----

def registers(lab):
    "two homes, both with `dataplane = user`"
    lab.h = homes.Homes(lab, "symmetric", "address-restricted", HOST + "dataplane = user", HOST + "dataplane = user", homes.with_network)
    h = lab.h.lan()
    lab.a, lab.b, lab.tv, lab.desk = h.ns["a"], h.ns["b"], h.tv_ns, h.desk_ns
    lab.forwards(lab.b)
    lab.ip(lab.b, "address", "add", B_OTHER + "/64", "dev", "eth1")
    lab.ip(lab.tv, "address", "add", TV_OTHER + "/64", "dev", "eth0")
    for letter, which in (("a", TO_NETWORK), ("b", FROM_NETWORK)):
        # IPv6 has a way out as well, if anything should take it
        lab.ip(h.ns[letter], "-6", "route", "add", "default", "via", link_local(lab, h.nat_ns[letter], "lan"), "dev", "eth0")
        watch(lab, h.nat_ns[letter], LEAKS % which)
    servers(lab, lab.tv, TV, TV6, TV_OTHER)
    for ns in (lab.desk, lab.b, lab.a):
        servers(lab, ns, "::")      # IPv4 as well
    h.services().start().pin()


def user(lab):
    "user space on a kernel with ESP: the call carries, and the kernel has nothing of it"
    joins(lab, "user", "user")
    with firewall(lab):
        carries(lab)
    for ns in (lab.a, lab.b):
        check(not left(lab, ns) and not drops(lab, ns), "in the kernel: %s %s" % (left(lab, ns), drops(lab, ns)))
    hang_up(lab)


def restart(home, daemon):
    """With other lines of [daemon]."""
    check(home.stop() == 0, "exit status")
    home.again(HOST + daemon)


def apart(lab, a, b):
    """A call whose ends have different planes: it carries, and only one kernel has anything of it."""
    joins(lab, a, b)
    carries(lab)
    ends_of = {a: lab.a, b: lab.b}
    check(len(states(lab, ends_of["kernel"])) >= 2 and not left(lab, ends_of["user"]), "in user space: " + left(lab, ends_of["user"]))
    hang_up(lab)


def one_end(lab):
    "the caller's packets are its kernel's, the callee's are not"
    restart(lab.h.a, "dataplane = auto\ndead-after = 60s")
    apart(lab, "kernel", "user")


def kernel(lab):
    "both kernels carry: bytes each way in the SAs, nothing in the TUNs, none dropped"
    with hosts_silent(lab):
        restart(lab.h.b, "dataplane = auto\ndead-after = 60s")
    joins(lab, "kernel", "kernel")
    told = lab.h.a.ask("status")[-1]["status"]["calls"]
    check([c["plane"] for c in told] == ["kernel"], told)
    before = {ns: (drops(lab, ns), tun(lab, ns)) for ns in (lab.a, lab.b)}
    with firewall(lab):
        carries(lab, 200000)
    for ns in (lab.a, lab.b):
        for way in directions(lab, ns):
            check(sum(s.bytes for s in way) > 400000, "%s: %s" % (ns, [s.text for s in states(lab, ns)]))
            check(not sum(s.failures for s in way), "%s: %s" % (ns, [s.text for s in way]))
        dropped = more(before[ns][0], drops(lab, ns))
        # what is too long for the path; its sender was told
        check(dropped.pop("XfrmOutStateModeError", 0) <= 4 and not dropped, "%s has dropped: %s" % (ns, more(before[ns][0], drops(lab, ns))))
        # but for a router solicitation, and one more of ICE's checks with what is an address of the network
        check(tun(lab, ns) - before[ns][1] < 2000, "the TUN of %s has carried %d bytes" % (ns, tun(lab, ns) - before[ns][1]))
        table = lab.ns_exec(ns, ["nft", "list", "table", "inet", "tie0"])
        check("10.3.0.0/24" in table and lab.own in table and "2001:db8:3::/64" in table and lab.own6 in table, table)


def misuse(lab, ns, other, pairs):
    """One end sends by its SA from and to what nobody has agreed on: all of that comes out of the SA at the other end, and is dropped there."""
    out = directions(lab, ns)[1][0]
    for source, to in pairs:
        lab.ip(ns, "xfrm", "policy", "add", "src", source, "dst", to, "dir", "out", "priority", "1",
               "tmpl", "src", out.src, "dst", out.dst, "proto", "esp", "reqid", str(out.reqid), "mode", "tunnel")

    def passed():
        return sum(s.packets for s in directions(lab, ns)[1]), sum(s.packets for s in directions(lab, other)[0])
    before, (sent, received) = drops(lab, other), passed()
    found = knocks(lab, ns, pairs)
    wait(lambda: passed()[1] >= received + 3 * len(pairs), 2, "all of it comes to the other end")
    sent, received = (new - old for new, old in zip(passed(), (sent, received)))
    dropped = more(before, drops(lab, other))
    for source, to in pairs:
        lab.ip(ns, "xfrm", "policy", "delete", "src", source, "dst", to, "dir", "out")
    print("# sent %d, received %d, dropped %s" % (sent, received, dropped))
    check(not found, "answered: %s" % found)
    check(set(dropped) <= {"XfrmInNoPols", "XfrmInTmplMismatch", "XfrmInPolBlock"} and sum(dropped.values()) >= received, dropped)


def forwards(lab):
    "local forwards to hosts of the network pass in the kernel as well"
    for target in ("tcp/%s:8080" % TV, "tcp/[%s]:8080" % TV6):
        line = [x for x in lab.h.a.ask("forward", B, target, uid=USER) if x.get("event") == "granted"][0]
        code, text = lab.h.echo(USER, line["local"], 50000, 20 * lablib.PATIENCE)
        check(code == 0, "%s: %s" % (target, text))


def grantee(lab):
    "a hostile caller uses the SA for what is not granted, other targets and other sources: nothing arrives, and it is counted"
    strange, strange6 = [a for a in ("10.77.0.5", "10.77.0.6") if a != lab.own][0], "2001:db8:77::5"      # of the pool, and nobody's
    odd = "ip saddr { 10.77.0.0/29, %s } counter name odd" % A_OUTER
    odd6 = "\n\t\tip6 saddr 2001:db8:77::/64 counter name odd"
    watch(lab, lab.desk, BEHIND % odd)
    # what is granted comes from own to TV alone, and none of that is sent now
    watch(lab, lab.tv, BEHIND % (odd + odd6))
    watch(lab, lab.b, BEHIND.replace("hook prerouting", "hook forward") % (odd + odd6))
    routes = [(lab.own, DESK + "/32"), (lab.own, B_OUTER + "/32"), (lab.own6, "2001:db8:4::/64")]
    with taken(lab, lab.a, strange + "/32", strange6 + "/128"):
        for source, to in routes:
            lab.ip(lab.a, "route", "add", to, "dev", "tie0", "src", source)
        misuse(lab, lab.a, lab.b, [(lab.own, DESK), (lab.own, B_OUTER), (lab.own6, TV_OTHER), (lab.own6, B_OTHER), (lab.own6, lab.h.b.address),
                                   (strange, TV), (strange, "10.3.0.1"), (A_OUTER, TV), (strange6, TV6)])
        for _, to in routes:
            lab.ip(lab.a, "route", "delete", to, "dev", "tie0")
    for ns in (lab.desk, lab.tv, lab.b):
        check(count(lab, ns) == {"odd": 0}, "%s: something has arrived: %s" % (ns, count(lab, ns)))
    carries(lab)
    check(count(lab, lab.tv)["odd"] > 10, "the counters count nothing")


def granter_outside(lab):
    "a hostile callee uses the SA from outside of its network, and to another address of the caller's: the same"
    misuse(lab, lab.b, lab.a, [(B_OUTER, lab.own), (B_OTHER, lab.own6), (lab.h.b.address, lab.own6), ("10.3.0.1", A_OUTER)])
    carries(lab)


def granter(lab):
    "a hostile callee: what its network opens is dropped by the caller, what the caller has opened goes on; an honest one sends none of it"
    which = {"which": "ip saddr 10.3.0.0/24 ip daddr " + lab.own, "which6": "ip6 saddr 2001:db8:3::/64 ip6 daddr " + lab.own6}
    watch(lab, lab.a, GUARD % which)
    unasked = [(TV, lab.own), (TV6, lab.own6)]
    flows = [Flow(lab, TV), Flow(lab, TV6)]
    for f in flows:
        f.goes()
    before = count(lab, lab.a)
    found = knocks(lab, lab.tv, unasked)
    check(not found, "answered: %s" % found)
    check(count(lab, lab.a) == before, "an honest callee has sent: %s, before: %s" % (count(lab, lab.a), before))
    path = os.path.join(lab.dir, "rules")
    with open(path, "w", encoding="ascii") as f:
        f.write(lab.ns_exec(lab.b, ["nft", "list", "table", "inet", "tie0"]))
    lab.ns_exec(lab.b, ["nft", "delete", "table", "inet", "tie0"])
    found = knocks(lab, lab.tv, unasked)
    after = count(lab, lab.a)
    check(not found, "answered: %s" % found)
    check(after["early"] >= before["early"] + 6 and after["late"] == before["late"], "before %s, after %s" % (before, after))
    for f in flows:
        f.goes()
    check(count(lab, lab.a)["late"] > after["late"], "the counters count nothing")
    lab.ns_exec(lab.b, ["nft", "-f", path])
    for f in flows:
        f.goes()
        f.conn.close()


def in_clear(lab):
    "packets in clear with the addresses of the tunnel, at both ends: they go no further, and are counted"
    before = {ns: sum(drops(lab, ns).values()) for ns in (lab.a, lab.b)}
    odd = count(lab, lab.tv)
    six = link_local(lab, lab.b, "eth0")
    with taken(lab, lab.desk, lab.own + "/32", lab.own6 + "/128"):
        lab.ip(lab.desk, "route", "add", "10.3.0.0/24", "via", B_OUTER)
        lab.ip(lab.desk, "route", "add", "2001:db8:3::/64", "via", six, "dev", "eth0")
        found = knocks(lab, lab.desk, [(lab.own, TV), (lab.own, "10.3.0.1"), (lab.own6, TV6), (lab.own6, "2001:db8:3::1")])
        lab.ip(lab.desk, "route", "delete", "10.3.0.0/24")
        lab.ip(lab.desk, "route", "delete", "2001:db8:3::/64")
    check(not found, "answered: %s" % found)
    check(count(lab, lab.tv) == odd, "something has arrived: %s, before: %s" % (count(lab, lab.tv), odd))
    grown = sum(drops(lab, lab.b).values()) - before[lab.b]
    check(grown >= 12, "home B has dropped %d" % grown)
    # and what claims to be an answer of the TV's
    with lab.inside(lab.a):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, taken(lab, lab.h.nat_ns["a"], TV + "/32"):
        client.settimeout(5)
        client.connect((TV, PORT))
        client.send(b"asked")
        check(client.recv(100) == b"asked", "no UDP")
        lab.ip(lab.h.nat_ns["a"], "route", "add", lab.own + "/32", "via", A_OUTER)
        with lab.inside(lab.h.nat_ns["a"]):
            liar = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with liar:
            liar.bind((TV, PORT))
            liar.sendto(b"a lie", client.getsockname())
        lab.ip(lab.h.nat_ns["a"], "route", "delete", lab.own + "/32")
        client.settimeout(1)
        with contextlib.suppress(socket.timeout):
            raise lablib.Failed("it has arrived: %s" % client.recv(100))
    check(sum(drops(lab, lab.a).values()) > before[lab.a], "home A has dropped nothing")


def forgets(lab):
    "the NAT forgets its mappings: the kernels' SAs follow, and the call is carried by them as before"
    flow = Flow(lab, TV)
    flow.goes()
    wan, router = "198.51.100.11/24", lab.h.nat_ns["a"]
    old, began = lab.h.b.calls("up")[0]["remote"], time.monotonic()
    lab.ip(router, "address", "delete", wan, "dev", "wan")
    lab.ip(router, "address", "add", wan, "dev", "wan")
    new = wait(lambda: [c["remote"] for c in lab.h.b.calls("up") if c["remote"] != old], 10, "the call moves away from " + old)[0]
    wait(lambda: {s.ports[1] for s in directions(lab, lab.b)[1]} == {int(new.rpartition(":")[2])}, 5, "home B sends to " + new)
    carries(lab)
    print("# from %s to %s: %.1f s until all passed" % (old, new, time.monotonic() - began))
    flow.goes()
    flow.conn.close()
    lab.h.planes("kernel", "kernel")


def silent(lab):
    "the other side vanishes: nothing leaves, in clear or through the tunnel, until it is heard again"
    router = lab.h.nat_ns["b"]
    lab.ip(router, "link", "set", "wan", "down")
    lab.h.a.process.says("the other side is silent", 10)     # 30 s
    sent, dropped = sum(s.packets for s in directions(lab, lab.a)[1]), drops(lab, lab.a)
    knocks(lab, lab.a, [(lab.own, TV), (lab.own6, TV6)])
    check(sum(s.packets for s in directions(lab, lab.a)[1]) == sent, "it was sent")
    print("# home A has dropped %s" % more(dropped, drops(lab, lab.a)))
    lab.ip(router, "link", "set", "wan", "up")
    wait(lambda: ping(lab, lab.a, TV), 6, "it is heard again")
    lab.h.planes("kernel", "kernel")
    carries(lab)


def hangs_up(lab):
    "hang-up: no SA, policy or rule is left at either end, and packets for the network stay at home"
    hang_up(lab)
    check(not ping(lab, lab.a, TV) and not ping(lab, lab.a, TV6), "the network is reached")
    # nor does what the network's hosts have for somebody who has left it
    check(not knocks(lab, lab.tv, [(TV, lab.own), (TV6, lab.own6)]), "answered")
    check(count(lab, lab.h.nat_ns["b"])["leaks"] == 0, "home B sends it in clear")
    with lab.inside(lab.a):
        for family, to in ((socket.AF_INET, "10.99.0.1"), (socket.AF_INET6, "2001:db8:99::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.sendto(b"out", (to, PORT))
    wait(lambda: count(lab, lab.h.nat_ns["a"])["seen"] == 2, 2, "what is not for the network leaves home A")


def service(lab):
    "a call with a service beside the network stays in user space, and both work"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    granted = {x["name"]: x for x in call.lines() if x.get("event") == "granted"}
    check(set(granted) == {"desktop", "lan"}, granted)
    for _ in range(2):
        code, text = lab.h.echo(USER, granted["desktop"]["local"], 50000, 20 * lablib.PATIENCE)
        check(code == 0, text)
        check(ping(lab, lab.a, TV) and ping(lab, lab.a, TV6), "no ping")
        lab.h.planes("user", "user")
        for ns in (lab.a, lab.b):
            check(not states(lab, ns), "in the kernel: " + left(lab, ns))
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "exit status")
    nothing(lab)


def revoked(lab):
    "the owner takes the network back while kernels carry it: the same at once, an open flow ends"
    joins(lab, "kernel", "kernel")
    flow = Flow(lab, TV)
    flow.goes()
    lab.h.b.reload("allow = desktop lan", "allow = desktop")
    nothing(lab, 2)
    check(not ping(lab, lab.a, TV), "the network is reached")
    flow.conn.close()
    lab.h.b.reload()


def ended(pid):
    """Is this process gone, or only waiting to be collected?"""
    with contextlib.suppress(OSError), open("/proc/%d/stat" % pid, encoding="utf-8") as f:
        return f.read().rpartition(")")[2].split()[0] == "Z"
    return True


def dies(home, part):
    """Its engine or its monitor is killed; the other one ends by itself."""
    engine = home.process.pid
    monitor = check(lablib.children(engine), "%s has a monitor" % home.name)[0]
    os.kill(engine if part == "engine" else monitor, signal.SIGKILL)
    wait(lambda: ended(monitor) and not home.process.alive(), 5, "%s has ended" % home.name)


def engine_killed(lab):
    "SIGKILL of the callee's engine: its monitor leaves nothing; started again with `dataplane = kernel` it takes the next call"
    joins(lab, "kernel", "kernel")
    with hosts_silent(lab):
        dies(lab.h.b, "engine")
        check(not left(lab, lab.b), "left: " + left(lab, lab.b))
        lab.h.a.cli("hangup", "all", uid=USER)
        wait(lambda: not left(lab, lab.a), 3, "left at home A: " + left(lab, lab.a))
        lab.h.b.again(HOST + "dataplane = kernel\nrekey-after = 6s")
    joins(lab, "kernel", "kernel")
    carries(lab, 20000)


def monitor_killed(lab):
    "SIGKILL of the caller's monitor: what it could not remove, the next start removes; the next call works"
    dies(lab.h.a, "monitor")
    print("# left by it: %d lines" % len(left(lab, lab.a).splitlines()))
    lab.h.a.again(HOST + "dataplane = kernel\nrekey-after = 6s")
    wait(lambda: not left(lab, lab.a), 3, "left: " + left(lab, lab.a))
    joins(lab, "kernel", "kernel")
    carries(lab, 20000)


def rekeys(lab):
    "new keys under a TCP copy, twice at least: every byte is right, and it never stands still for long"
    copy = tcpcopy.EchoCopy(lab, lab.a, TV, 8080)
    copy.moves()
    before = {ns: drops(lab, ns) for ns in (lab.a, lab.b)}
    spis, made = {s.spi for s in states(lab, lab.a)}, lab.h.a.process.text().count("Child SA up")
    wait(lambda: lab.h.a.process.text().count("Child SA up") >= made + 2, 20, "new keys, twice")
    wait(lambda: not spis & {s.spi for s in states(lab, lab.a)}, 5, "the old SAs go")
    copy.moves()
    dropped = {ns: more(before[ns], drops(lab, ns)) for ns in (lab.a, lab.b)}
    copy.finish()
    lab.h.planes("kernel", "kernel")
    print("# %d bytes, the longest pause %.2f s, dropped: %s" % (copy.n_back, copy.longest, dropped))
    check(copy.longest < 4, "it stood still for %.1f s" % copy.longest)
    for ns in (lab.a, lab.b):
        check(not sum(s.failures for s in states(lab, ns)), [s.text for s in states(lab, ns)])
    check(not any(dropped.values()), "dropped: %s" % dropped)
    hang_up(lab)


def other_end(lab):
    "the callee's packets are its kernel's, the caller's are not"
    restart(lab.h.a, "dataplane = user")
    apart(lab, "user", "kernel")


def ends(lab):
    "nothing for the network has left a home in clear; daemons end with status 0, and nothing of them is left"
    for letter in "ab":
        seen = count(lab, lab.h.nat_ns[letter])
        print("# home %s: %s" % (letter, seen))
        check(seen["leaks"] == 0, "home %s: %s" % (letter, seen))
    lab.tables = {ns: lab.ns_exec(ns, ["nft", "list", "tables"]) for ns in (lab.a, lab.b)}
    check(lab.h.a.stop() == 0 and lab.h.b.stop() == 0 and lab.h.exchange.stop() == 0, "exit status")
    for ns in (lab.a, lab.b):
        check(not left(lab, ns) and "tie0" not in lab.ip(ns, "link"), left(lab, ns))


def no_table(lab):
    "while the daemons ran without a call, there was not even an empty table of rules"
    check("tie0" not in str(lab.tables), "tables: %s" % lab.tables)


STEPS = [registers, user, one_end, kernel, forwards, grantee, granter_outside, granter, in_clear, forgets, silent, hangs_up, service, revoked,
         engine_killed, monitor_killed, rekeys, other_end, ends, no_table]
qemu.main("ty", STEPS, needs=["ip", "nft", "setpriv", "ping"], seconds=240)
