#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""The same as 14-xfrm.py on a stock kernel, which has nftables as well: who may open flows."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402
import qemu         # noqa: E402

PROGRAMS = [os.path.join(os.environ.get("TIELINE_BUILD") or lablib.ROOT + "/build", "tests/unit/test_" + n)
            for n in ("net_xfrm", "net_direction", "daemon_monitor_esp")]


def run(program):
    """Every test passes, none is skipped."""
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100, check=False, text=True)
    print("".join("# " + line + "\n" for line in done.stdout.splitlines()), end="")
    lablib.check(done.returncode == 0 and "SKIP" not in done.stdout.upper(), "status %d" % done.returncode)
    lablib.check(re.search(r"^ok \d+", done.stdout, re.M), "it printed no TAP")


def xfrm(lab):
    "ESP by XFRM: every test of the unit passes, none is skipped"
    run(PROGRAMS[0])


def direction(lab):
    "directions of flows: the same"
    run(PROGRAMS[1])


def monitor(lab):
    "requests of the monitor: the same"
    run(PROGRAMS[2])


qemu.main("ty", [xfrm, direction, monitor], needs=PROGRAMS)
