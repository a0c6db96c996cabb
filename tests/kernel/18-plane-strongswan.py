#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Networks whose packets tielined leaves to the kernel, with strongSwan, whose ESP is the kernel's as well: the steps of
tests/interop/10-network.py on a stock kernel. What each step has sent is seen in the kernel's SAs at tielined's end.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/interop")
import charon       # noqa: E402
import networks as n      # noqa: E402
import qemu         # noqa: E402
import seen     # noqa: E402
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


def in_kernel(lab, *steps):
    """Steps while the call's packets are the kernel's: both ways carry, the TUN does not, and neither kernel has found one that was
    wrong."""
    wait(lambda: [c["plane"] for c in lab.d.calls("up")] == ["kernel"], 10, "the kernel has the call")
    before = seen.tun(lab, lab.home)
    for step in steps:
        step(lab)
    sas = seen.states(lab, lab.home)
    for inbound in (True, False):      # which may be new ones
        carried = sum(s.bytes for s in sas if (s.src == n.STOCK) == inbound)
        check(carried > 300, "%d bytes in SAs, inbound: %s" % (carried, inbound))
    carried = seen.tun(lab, lab.home) - before
    check(carried < 2000, "the TUN has carried %d bytes" % carried)
    failures = [s.failures for ns in (lab.home, lab.stock) for s in seen.states(lab, ns)]
    check(not sum(failures), "failures: %s" % failures)


def joined(lab):
    "a strongSwan road warrior joins; ping and TCP into the network, IPv4 and IPv6; nothing comes the other way"
    n.road_warrior(lab)
    in_kernel(lab, n.into_the_network)


def long_ones(lab):
    "nothing is known of the path but that it carries 1280 bytes: IPv6 packets of that length pass, and what is around them may be cut"
    seen.watch(lab, lab.stock, WATCH)
    in_kernel(lab, lambda _: lab.ns_exec(lab.stock, ["ping", "-6", "-n", "-c", "3", "-i", "0.3", "-W", "5", "-s", "1232", n.TV6]))
    count = seen.count(lab, lab.stock)
    check(count["whole"] == 0 and count["cut"] >= 3, count)


def new_keys(lab):
    "new keys, by either side, go unnoticed"
    in_kernel(lab, n.new_keys)


def nothing(lab):
    """Nothing of a call is left in tielined's kernel."""
    wait(lambda: not seen.left(lab, lab.home), 5, "nothing is left")


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
