# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What a kernel has of calls' networks and has done with their packets, as `ip`, `nft` and /proc tell it. `watch`: counters of a test's own."""
import os
import re


def drops(lab, ns):
    """What XFRM has dropped in a namespace: the counters that are not 0."""
    with lab.inside(ns), open("/proc/thread-self/net/xfrm_stat", encoding="ascii") as f:
        return {line.split()[0]: int(line.split()[1]) for line in f if int(line.split()[1])}


def more(old, new):
    """What has grown, and by how much."""
    return {k: n - old.get(k, 0) for k, n in new.items() if n > old.get(k, 0)}


class State:
    """One SA of `ip -s xfrm state`."""

    def __init__(self, text):
        def number(words, base=10):
            found = re.search(words, text)
            return int(found.group(1), base) if found else 0
        self.text = text
        self.src, self.dst = re.match(r"src (\S+) dst (\S+)", text).groups()
        self.spi, self.reqid = number(r" spi 0x([0-9a-f]+)", 16), number(r" reqid (\d+)")
        self.ports = number(r" sport (\d+)"), number(r" dport (\d+)")
        self.bytes, self.packets = number(r"lifetime current:\s*(\d+)\(bytes\)"), number(r"lifetime current:\s*\d+\(bytes\), (\d+)\(packets\)")
        self.failures = sum(int(n) for n in re.search(r"stats:\s*replay-window (\d+) replay (\d+) failed (\d+)", text).groups())


def states(lab, ns):
    """The SAs of a namespace."""
    text = lab.ip(ns, "-s", "xfrm", "state")
    return [State(s) for s in re.split(r"^(?=src )", text, flags=re.M) if s.strip()]


def left(lab, ns):
    """What a call's networks have in a kernel: SAs, policies, rules. Without one, nothing."""
    chains = lab.ns_exec(ns, ["nft", "list", "chains", "inet"])
    rules = re.search(r"table inet tie0 \{\s*chain", chains)
    return (lab.ip(ns, "xfrm", "state") + lab.ip(ns, "xfrm", "policy") + (rules and chains or "")).strip()


def count(lab, ns):
    """This program's own counters of packets in a namespace."""
    text = lab.ns_exec(ns, ["nft", "list", "counters", "table", "inet", "watch"])
    return {name: int(n) for name, n in re.findall(r"counter (\w+) \{\s*packets (\d+)", text)}


def tun(lab, ns):
    """Bytes that a TUN has carried."""
    with lab.inside(ns), open("/proc/thread-self/net/dev", encoding="ascii") as f:
        words = [line.split(":")[1].split() for line in f if line.strip().startswith("tie0:")][0]
    return int(words[0]) + int(words[8])


def watch(lab, ns, rules):
    """Counters of this program in a namespace."""
    path = os.path.join(lab.dir, ns + ".watch")
    with open(path, "w", encoding="ascii") as f:
        f.write(rules)
    lab.ns_exec(ns, ["nft", "-f", path])
