#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Networks whose packets tielined leaves to the kernel, with strongSwan, whose ESP is the kernel's as well: the steps of
tests/interop/10-network.py on a stock kernel. What each step has sent is seen in the kernel's SAs at tielined's end.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
import charon       # noqa: E402
import networks as n      # noqa: E402
import qemu         # noqa: E402
from lablib import check, wait      # noqa: E402


# Long packets of tielined's: with DF, and without.
WATCH = """
table inet watch {
	counter whole { }
	counter cut { }
	chain pre { type filter hook prerouting priority -450;
		ip saddr 10.92.0.1 ip length 1344 ip frag-off & 0x4000 == 0x4000 counter name whole
		ip saddr 10.92.0.1 ip length 1344 ip frag-off & 0x4000 == 0 counter name cut
	}
}
"""


def network(lab):
    "both ends run, with ESP in the kernel; tielined is registered"
    n.begin(lab, n.KernelRoadWarrior, "auto")


def carried(lab):
    """Bytes that the SAs of tielined's end have carried: to it, from it."""
    text = lab.ip(lab.home, "-s", "xfrm", "state")
    ways = re.findall(r"^src (\S+) .*?lifetime current:\s*(\d+)\(bytes\)", text, re.M | re.S)
    return tuple(sum(int(b) for src, b in ways if (src == n.STOCK) == inbound) for inbound in (True, False))


def tun(lab):
    """Bytes that tielined's TUN has carried."""
    words = re.search(r"tie0:(.*)", lab.ns_exec(lab.home, ["cat", "/proc/net/dev"])).group(1).split()
    return int(words[0]) + int(words[8])


def in_kernel(lab, *steps):
    """Steps while the call's packets are the kernel's: both ways carry, the TUN does not, and neither kernel has found one that was
    wrong."""
    wait(lambda: [c["plane"] for c in lab.d.calls("up")] == ["kernel"], 10, "the kernel has the call")
    before = tun(lab)
    for step in steps:
        step(lab)
    check(min(carried(lab)) > 300, "in the SAs: %d, %d" % carried(lab))      # which may be new ones
    check(tun(lab) - before < 2000, "the TUN has carried %d bytes" % (tun(lab) - before))
    for ns in (lab.home, lab.stock):
        failures = re.findall(r"replay-window (\d+) replay (\d+) failed (\d+)", lab.ip(ns, "-s", "xfrm", "state"))
        check(failures and all(f == ("0", "0", "0") for f in failures), "%s: %s" % (ns, failures))


def joined(lab):
    "a strongSwan road warrior joins; ping and TCP into the network, IPv4 and IPv6; nothing comes the other way"
    n.road_warrior(lab)
    in_kernel(lab, n.into_the_network)


def long_ones(lab):
    "nothing is known of the path but that it carries 1280 bytes: IPv6 packets of that length pass, and what is around them may be cut"
    path = os.path.join(lab.dir, "watch")
    with open(path, "w", encoding="ascii") as f:
        f.write(WATCH)
    lab.ns_exec(lab.stock, ["nft", "-f", path])
    in_kernel(lab, lambda _: lab.ns_exec(lab.tv, ["ping", "-6", "-n", "-c", "1", "-W", "5", "-s", "1232", "2001:db8:3::1"]),
              lambda _: lab.ns_exec(lab.stock, ["ping", "-6", "-n", "-c", "2", "-i", "0.3", "-W", "5", "-s", "1232", n.TV6]))
    count = dict(re.findall(r"counter (\w+) \{\s*packets (\d+)", lab.ns_exec(lab.stock, ["nft", "list", "counters", "table", "inet", "watch"])))
    check(count["whole"] == "0" and int(count["cut"]) >= 2, count)


def new_keys(lab):
    "new keys, by either side, go unnoticed"
    in_kernel(lab, n.new_keys)


def nothing(lab):
    """Nothing of a call is left in tielined's kernel."""
    wait(lambda: not (lab.ip(lab.home, "xfrm", "state") + lab.ip(lab.home, "xfrm", "policy")).strip(), 5, "no SA and no policy")


def leaves(lab):
    "strongSwan terminates: nothing is left in the kernel; the next time it has the same addresses"
    n.leaves(lab)
    nothing(lab)


def short_link(lab):
    "the home's link carries 1300 bytes, where IPv6 of 1280 would be lost in the kernel: calls of either side stay in user space, and carry"
    lab.ip(lab.home, "route", "add", n.STOCK + "/32", "dev", "eth0", "mtu", "1300")
    for joins, steps, ends in ((n.road_warrior, n.into_the_network, n.leaves), (n.gateway, n.through_the_gateway, n.hangs_up)):
        joins(lab)
        wait(lambda: [c["plane"] for c in lab.d.calls("up")] == ["user"], 10, "user space has the call")
        steps(lab)
        ends(lab)
    lab.ip(lab.home, "route", "delete", n.STOCK + "/32", "dev", "eth0")
    nothing(lab)


def gateway(lab):
    "tielined joins the network of a strongSwan gateway; ping and TCP through it, also after new keys"
    n.gateway(lab)
    in_kernel(lab, n.through_the_gateway)


def hangs_up(lab):
    "hang-up: addresses and routes are gone, unreachable routes stay, nothing is left in either kernel"
    n.hangs_up(lab)
    nothing(lab)
    check(not lab.ip(lab.stock, "xfrm", "state").strip(), "left at strongSwan")
    check(lab.d.stop() == 0, "tielined ends with 0")


qemu.main("tvs", [network, joined, long_ones, new_keys, leaves, short_link, gateway, hangs_up],
          needs=charon.NEEDS + ["mount", os.path.dirname(charon.CHARON) + "/plugins", "/usr/lib/ssl", "/etc/ssl/openssl.cnf"], seconds=240)
