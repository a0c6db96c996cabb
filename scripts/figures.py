#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""figures.py [CALLS]: what docs and notes quote, measured in the lab's two homes (kernel NATs, no added delay).

  - from starting `tieline call` to the first reply of `tieline ping` through the tunnel: median, least and most of CALLS (20)
  - resident memory of both processes of the callee's daemon, idle and with one call
  - what `openssl speed` says of the primitives in a key exchange of IKE (`build/tests/bench_handshake` has ours)
  - lines of code by folder
"""
import os
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import B, USER     # noqa: E402


def resident_kib(pid):
    """VmRSS of a process."""
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def memory(home):
    """(engine, monitor) in KiB."""
    return resident_kib(home.process.pid), resident_kib(lablib.children(home.process.pid)[0])


def first_reply(h):
    """Seconds from the start of the client to the first reply."""
    tieline = "%s --control %s/control" % (lablib.binary("tieline"), h.a.run)
    command = "%s ping %s -c 1 >/dev/null && date +%%s.%%N" % (tieline, B)
    began = time.time()
    status, out, err = h.a.cli("call", B + "/files", "--exec", "sh", "-c", command, uid=USER)
    lablib.check(status == 0, "a call failed: %d %s" % (status, err))
    return float(out.split()[-1]) - began


def primitives():
    """(signatures, verifications of ECDSA P-256, X25519) a second, of one core."""
    r = subprocess.run(["openssl", "speed", "-seconds", "1", "-mr", "ecdsap256", "ecdhx25519"], stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL, check=True)
    values = {}
    for line in r.stdout.decode().splitlines():
        fields = line.split(":")
        if fields[0] in ("+F4", "+F5"):
            values[fields[0]] = [float(v) for v in fields[3:]]
    return values["+F4"][0], values["+F4"][1], values["+F5"][0]


def lines_of_code():
    """{folder: lines} of the C sources and of the tests."""
    counts = {}
    listed = subprocess.run(["git", "ls-files", "src", "include", "tests", "scripts"], cwd=lablib.ROOT, stdout=subprocess.PIPE, check=True)
    for path in listed.stdout.decode().split():
        if "corpus" in path or not path.endswith((".c", ".h", ".py", "run", ".sh")):
            continue
        folder = "/".join(path.split("/")[:2]) if path.startswith(("src/", "tests/")) and path.count("/") > 1 else path.split("/")[0]
        with open(os.path.join(lablib.ROOT, path), "rb") as f:
            counts[folder] = counts.get(folder, 0) + f.read().count(b"\n")
    return counts


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    lab = lablib.Lab("fig")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        h = homes.Homes(lab).services().start().pin()
        idle = memory(h.b)
        call = h.a.dial(B)
        call.event("up", 30)
        busy = memory(h.b)
        call.process.kill(signal.SIGINT)
        call.done(10)
        h.clean()
        times = [first_reply(h) for _ in range(n)]
    finally:
        lab.close()
    print("command to first reply: median %.0f ms, least %.0f, most %.0f, of %d calls"
          % (1000 * statistics.median(times), 1000 * min(times), 1000 * max(times), n))
    print("resident, engine and monitor: idle %d and %d KiB, with one call %d and %d KiB" % (idle + busy))
    sign, verify, ecdh = primitives()
    print("openssl speed: ECDSA P-256 %.0f signatures, %.0f verifications, X25519 %.0f a second: %.0f handshakes of both ends"
          % (sign, verify, ecdh, 1 / (2 / sign + 2 / verify + 4 / ecdh)))
    counts = lines_of_code()
    for folder in sorted(counts):
        print("%7d  %s" % (counts[folder], folder))
    print("%7d  all" % sum(counts.values()))
    return 0


sys.exit(main())
