#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Holds src/ to its layers (docs/architecture.md): a TAP test, one case a folder."""
import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROTOCOLS = ["sip", "sdp", "ice", "ike", "esp"]
MAY_INCLUDE = {
    "base": [],
    "crypto": ["base"],
    **{p: ["base", "crypto"] for p in PROTOCOLS},
    "vpn": ["base", "crypto"] + PROTOCOLS,
    "net": ["base"],
    "ctl": ["base"],
    "inspect": ["base", "crypto", "net/demux.h"] + PROTOCOLS,
    "daemon": ["base", "crypto", "vpn", "net", "ctl", "esp", "ice"],
    "exchange": ["base", "crypto", "sip", "ice", "net"],
    "cli": ["base", "ctl", "inspect"],
    "main": ["base", "crypto", "vpn", "net", "ctl", "inspect", "daemon", "exchange", "cli"],
}
# Protocol code, trust and policy do no I/O, read no clock and start no threads (docs/architecture.md).
NO_IO = PROTOCOLS + ["vpn"]
SYSTEM = re.compile(r"^(sys/(socket|epoll|select|time|timerfd|ioctl|stat)\.h|netinet/.*|event2/.*|time\.h|poll\.h|"
                    r"unistd\.h|fcntl\.h|pthread\.h|signal\.h|netdb\.h)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def faults(folder):
    for path in sorted(glob.glob(os.path.join(ROOT, "src", folder, "*.[ch]"))):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        where = os.path.relpath(path, ROOT)
        for kind, name in INCLUDE.findall(text):
            if kind == '"':
                top = name.split("/")[0]
                if top not in (folder, "tieline") and top not in MAY_INCLUDE[folder] and name not in MAY_INCLUDE[folder]:
                    yield "%s includes %s" % (where, name)
            elif folder in NO_IO and SYSTEM.match(name):
                yield "%s includes <%s>" % (where, name)


def main():
    folders = sorted(d for d in os.listdir(os.path.join(ROOT, "src")) if os.path.isdir(os.path.join(ROOT, "src", d)))
    bad = 0
    for n, folder in enumerate(folders, 1):
        found = list(faults(folder)) if folder in MAY_INCLUDE else ["src/%s is in no layer" % folder]
        bad += bool(found)
        print("%sok %d - layer %s" % ("not " if found else "", n, folder))
        for line in found:
            print("# " + line)
    print("1..%d" % len(folders))
    return 1 if bad else 0


sys.exit(main())
