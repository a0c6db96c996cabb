#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""The kernel's ESP by way of net/xfrm.c: its unit test on a kernel that has it, inside user-mode-linux."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402
import uml          # noqa: E402

PROGRAM = os.path.join(os.environ.get("TIELINE_BUILD") or lablib.ROOT + "/build", "tests/unit/test_net_xfrm")


def runs(lab):
    "every test of the unit passes with the kernel's ESP, none is skipped"
    with open(lab.dir + "/out", "w+", encoding="utf-8") as out:
        status = subprocess.run([PROGRAM], stdout=out, stderr=subprocess.STDOUT, timeout=100, check=False).returncode
        out.seek(0)
        text = out.read()
    print("".join("# " + line + "\n" for line in text.splitlines()))
    lablib.check(status == 0 and "SKIP" not in text.upper(), "status %d" % status)
    lablib.check(re.search(r"^ok \d+", text, re.M), "it printed no TAP")


uml.main("tx", [runs], needs=[PROGRAM])
