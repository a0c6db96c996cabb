#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""soak.py [GB]: so many gigabytes (10) of random data each way at once through a call with new keys every 200 MB and changes of path
(tests/bench/bulk.py); compares checksums. Root. Exit status 0 when all bytes are right."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bulk     # noqa: E402
import lablib     # noqa: E402


def main():
    total = int(float(sys.argv[1] if len(sys.argv) > 1 else 10) * 10**9)
    if os.geteuid() or not lablib.binary("tielined"):
        print("soak.py: " + ("not root" if os.geteuid() else "tielined is not built"))
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lab = lablib.Lab("bs")
    told = [0]

    def say(got, rekeys, moves):
        if got // 10**9 != told[0]:
            told[0] = got // 10**9
            print("%d GB, %d new Child SAs, %d changes of path" % (told[0], rekeys, moves), flush=True)
    try:
        result = bulk.transfer(bulk.Tieline(lab), total, 20, say)
    except lablib.Failed as e:
        lab.diagnose(30)
        print("soak.py: %s" % e)
        return 1
    finally:
        lab.close()
    print(bulk.in_words(result, total))
    for direction, digest in zip(("to the server", "to the client"), result["sha256"]):
        print("%s: sha-256 %s, sent and received" % (direction, digest))
    return 0


sys.exit(main())
