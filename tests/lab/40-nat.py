#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Every pairing of kernel NATs: all come up but symmetric with symmetric and with port-restricted, which end with 20."""
import concurrent.futures
import itertools
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import B, USER     # noqa: E402
from lablib import check      # noqa: E402

KINDS = ["full-cone", "address-restricted", "port-restricted", "symmetric"]
PAIRS = [(a, b) for a, b in itertools.product(KINDS, KINDS) if KINDS.index(a) <= KINDS.index(b) or "symmetric" in (a, b)]
HOPELESS = {("symmetric", "symmetric"), ("symmetric", "port-restricted"), ("port-restricted", "symmetric")}
AT_ONCE = 4


def one(n, a, b):
    """One pairing in a lab of its own; returns what happened."""
    lab = lablib.Lab("tn%d" % n)
    try:
        h = homes.Homes(lab, a, b, daemon_a="workers = 2", daemon_b="workers = 3").services().start().pin()
        began = time.monotonic()
        if (a, b) in HOPELESS:
            status, out, err = h.a.cli("call", B, uid=USER, seconds=90)
            check(status == 20, "exit status %d: %s%s" % (status, out, err))
            h.clean(60)
            return "%s (%.0f s)" % (err.strip(), time.monotonic() - began)
        call = h.a.dial(B)
        up = call.event("up", 40)
        h.a.ping(h.a.up()["id"])
        kind = call.event("path")["path"]
        call.process.kill(signal.SIGINT)
        check(call.done(10)[0] == 0, "hang-up")
        h.clean()
        return "up in %d ms, %s" % (up["t_ms"], kind)
    except lablib.Failed:
        lab.diagnose()
        raise
    finally:
        lab.close()


def start(lab):
    "pairings are tried, several at a time"
    lab.pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    lab.at_close(lambda: lab.pool.shutdown(cancel_futures=True))
    order = sorted(PAIRS, key=lambda p: p not in HOPELESS)        # these wait longest
    jobs = {p: lab.pool.submit(one, n, *p) for n, p in enumerate(order)}
    lab.jobs = jobs


def step_of(a, b):
    def step(lab):
        print("# " + lab.jobs[(a, b)].result(240))
    step.__doc__ = "home A behind %s, home B behind %s: %s" % (a, b, "20" if (a, b) in HOPELESS else "up")
    return step


lablib.main("tln", [start] + [step_of(a, b) for a, b in PAIRS], needs=["ip", "nft", "setpriv"])
