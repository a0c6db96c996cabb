#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""plane.py [--quick] [--docs] [--patient] [--rounds N] [--only KEY,...] [--out FOLDER]: the data plane beside other tunnels.

Root. Rounds go over all contestants (tests/bench/contestants.py), each round beginning with another one, so that a ratio is of one
time and a machine that gets slower is no advantage to anybody. Medians with minimum and maximum; FOLDER (build/bench) gets
plane.json and plane.svg. --patient waits before each contestant, for 30 s at most, until other programs leave the machine alone.
--docs also writes the results into docs/performance.md, which says how to read them. About eight minutes,
with --quick under two minutes and one round only.
"""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contestants     # noqa: E402
import delay     # noqa: E402
import lablib     # noqa: E402
import measure     # noqa: E402
import report     # noqa: E402


class Plan:
    """How long and how often."""

    def __init__(self, quick, rounds):
        self.rounds = rounds or (1 if quick else 3)
        self.tcp_s = 1 if quick else 2
        self.udp_steps = 2 if quick else 4
        self.pings = 5 if quick else 12
        self.flood_s = 1 if quick else 2
        self.probe_s = 1 if quick else 6


def machine():
    """What it was measured on."""
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) // 1024
    return {"cpu": cpu.group(1) if cpu else os.uname().machine, "n_cpus": os.cpu_count(), "memory_mib": memory,
            "kernel": "Linux " + re.match(r"[\d.]*\d", os.uname().release).group(0)}


def busy():
    """How much of the machine others use: processors, over half a second."""
    def read():
        with open("/proc/stat") as f:
            fields = [int(x) for x in f.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]
    total, rest = read()
    time.sleep(0.5)
    total2, rest2 = read()
    return os.cpu_count() * (1 - (rest2 - rest) / max(1, total2 - total))


class Bench:
    """One run."""

    def __init__(self, lab, plan, only, patient):
        self.lab, self.plan, self.patient, self.others = lab, plan, patient, []
        self.known = self.credentials = None
        self.missing, self.notes, self.up = {}, [], []
        for kind in contestants.ALL:
            if only and kind.key not in only:
                continue
            try:
                self.up.append(self._start(kind))
            except contestants.Missing as e:
                self.missing[kind.title] = str(e)
        self.rounds = {c.key: [] for c in self.up}
        self.memory = {c.key: {} for c in self.up}

    def _start(self, kind):
        if kind is contestants.Tieline:
            kind = type("Sniffed", (kind,), {"sniff": self._sniff})
        c = kind(self.lab)
        c.wire(False)
        for family in (4, 6):      # neighbours are known, flows are open
            self.lab.ns_exec(c.client, ["ping", "-n", "-c", "3", "-i", "0.3", "-W", "3", c.to[family]])
        return c

    def _sniff(self, contestant):
        self.credentials = delay.Credentials(contestant)

    def _measure(self, contestant, result, function, *args):
        try:
            result.update(function(contestant, *args))
        except measure.NoResult as e:
            self.notes.append("%s, %s: %s" % (contestant.title, args[0] if isinstance(args[0], str) else function.__name__, e))

    def one(self, c):
        """All measures of one contestant."""
        p, result = self.plan, {}
        c.wire(False)
        self._measure(c, result, measure.tcp, "tcp1", p.tcp_s)
        self._measure(c, result, measure.loaded, p.tcp_s)
        self._measure(c, result, measure.tcp, "tcp1_ip6", p.tcp_s, 1, 6)
        self._measure(c, result, measure.flood, p.flood_s)
        # where the search begins the first time
        self.memory[c.key].setdefault("udp1200", max(10.0, result.get("flood", 60.0)))
        self.memory[c.key].setdefault("udp64", max(10.0, result.get("flood", 60.0)))
        self._measure(c, result, measure.udp, "udp1200", 1200, p.udp_steps, self.memory[c.key])
        self._measure(c, result, measure.udp, "udp64", 64, p.udp_steps, self.memory[c.key])
        self._measure(c, result, measure.idle, p.pings)
        if c.hard:
            c.wire(True)
            self._measure(c, result, measure.tcp, "hard", p.tcp_s)
        self.rounds[c.key].append(result)

    def _quiet(self):
        """Notes how much of the machine others use."""
        end = time.monotonic() + (30 if self.patient else 0)
        while True:
            others = busy()
            if others < 0.2 or time.monotonic() >= end:
                break
        self.others.append(others)

    def run(self):
        """All rounds."""
        for r in range(self.plan.rounds):
            for i in range(len(self.up)):
                c = self.up[(i + r) % len(self.up)]
                print("round %d of %d: %s" % (r + 1, self.plan.rounds, c.title), file=sys.stderr, flush=True)
                self._quiet()
                self.one(c)

    def check_wires(self):
        """Is the hard wire one?"""
        for c in self.up:
            if not c.hard:
                continue
            c.wire(True)
            longest = delay.longest_frame(c)
            if longest > 1500:
                self.notes.append("%s: %d bytes crossed the hard wire as one" % (c.title, longest))

    def delays(self):
        """Of STUN and IKE answers."""
        if not self.credentials:
            return {}
        c = self.up[0]
        known = self.credentials.take()
        c.wire(False)
        self._quiet()
        return {name: delay.under_load(c, known, self.plan.probe_s if load else min(2, self.plan.probe_s), load)
                for name, load in delay.LOADS.items()}

    def aead(self):
        """Whose AES-GCM the daemon uses: its log says so."""
        found = [re.search(r"AES-GCM by (.*)", c.b.process.text()) for c in self.up if c.key == "tieline"]
        return found[0].group(1).strip() if found and found[0] else "-"


def grants():
    """bench_grants' figures."""
    path = lablib.binary("tests/bench_grants")
    return json.loads(subprocess.run([path], stdout=subprocess.PIPE, check=True, timeout=60).stdout) if path else {}


def arguments():
    """Of the command line."""
    parser = argparse.ArgumentParser(description="tieline's data plane beside other tunnels")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--docs", action="store_true", help="also into docs/performance.md")
    parser.add_argument("--patient", action="store_true", help="wait for the machine to be idle")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--only", default="", help="tieline,null,bare,wireguard,strongswan,veth")
    parser.add_argument("--out", default=os.path.join(lablib.ROOT, "build/bench"))
    return parser.parse_args()


def main():
    args = arguments()
    missing = [n for n in ("ip", "iperf3", "ethtool", "ping", "setpriv") if not lablib.program(n)]
    if os.geteuid() or missing or not lablib.binary("tielined"):
        print("plane.py: " + ("not root" if os.geteuid() else "not installed: " + ", ".join(missing) if missing else "not built"))
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.makedirs(args.out, exist_ok=True)
    began = time.monotonic()
    lab = lablib.Lab("bp")
    try:
        bench = Bench(lab, Plan(args.quick, args.rounds), args.only.split(",") if args.only else None, args.patient)
        delays = bench.delays()
        bench.run()
        if not args.quick:
            bench.check_wires()
        aead, versions = bench.aead(), {c.title: c.version() for c in bench.up if c.key not in ("null", "bare", "veth")}
    except Exception:
        lab.diagnose(15)
        raise
    finally:
        lab.close()
    others = statistics.mean(bench.others)
    bench.notes.append("beside all this, other programs used %.2f of %d processors (mean of %d looks between the measures)"
                       % (others, os.cpu_count(), len(bench.others)))
    versions["iperf3"] = contestants.package("iperf3")
    result = {"date": time.strftime("%Y-%m-%d"), "command": "tests/bench/plane.py" + "".join(" " + a for a in sys.argv[1:]),
              "n_rounds": bench.plan.rounds, "machine": machine(), "versions": versions, "aead": aead,
              "titles": {c.key: c.title for c in bench.up}, "missing": bench.missing, "notes": bench.notes, "rounds": bench.rounds,
              "summary": {key: report.summary(r) for key, r in bench.rounds.items()}, "delay": delays, "grants": grants(),
              "seconds": 0}
    result["goals"] = [dict(zip(("figure", "goal", "measured", "met"), g)) for g in report.goals(result)]
    result["seconds"] = round(time.monotonic() - began)
    write(args, result)
    return 0


def write(args, result):
    """Everywhere that it goes."""
    with open(os.path.join(args.out, "plane.json"), "w") as f:
        json.dump(result, f, indent=1)
    with open(os.path.join(args.out, "plane.svg"), "w") as f:
        f.write(report.svg(result))
    print(report.text(result))
    print("%d s; %s/plane.json, plane.svg" % (result["seconds"], args.out))
    if args.docs:
        with open(os.path.join(lablib.ROOT, "docs/performance.svg"), "w") as f:
            f.write(report.svg(result))
        report.write_docs(os.path.join(lablib.ROOT, "docs/performance.md"), result, "performance.svg")


if __name__ == "__main__":
    sys.exit(main())
