#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""1 GB of random data each way at once, over one TCP connection through a call whose keys change every 200 MB and whose path changes
(tests/bench/bulk.py). Always the build without sanitizers: the data plane at its own speed is what is tried."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tests/bench")]
os.environ["TIELINE_BUILD"] = os.path.join(ROOT, "build")
import bulk     # noqa: E402
import lablib     # noqa: E402

TOTAL = 10**9


def up(lab):
    "two daemons, a call for a network"
    lab.tunnel = bulk.Tieline(lab)


def carries(lab):
    "1 GB each way, new keys every 200 MB, changes of path: every byte is right"
    result = bulk.transfer(lab.tunnel, TOTAL, 10)
    lablib.check(result["moves"] >= 1, "the path has not changed")
    print("# " + bulk.in_words(result, TOTAL))


def ends(lab):
    "both daemons end with status 0"
    lablib.check(lab.tunnel.a.stop() == 0 and lab.tunnel.b.stop() == 0, "exit status")


lablib.main("tlb", [up, carries, ends], needs=["ip", "setpriv"])
