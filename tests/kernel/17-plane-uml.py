#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A kernel that has ESP, but no rules for who opens flows: networks stay in user space; inside user-mode-linux.

The homes of tests/homes.py behind plain routers, as there are no NATs either.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes        # noqa: E402
import uml          # noqa: E402
from homes import B, TV, TV6, USER, ping, reaches     # noqa: E402
from lablib import check, wait   # noqa: E402


def stays(lab):
    "`dataplane = auto`: the log says why, the call's packets pass in user space, and the kernel has no SA"
    h = lab.h = homes.Homes(lab, None, None, "host = yes", "host = yes\ndataplane = auto", homes.with_network).lan()
    lab.forwards(h.ns["b"])
    h.start().pin()
    for home in (h.a, h.b):
        home.process.says("networks pass in user space: this kernel has no ESP, or no rules for directions")
    h.join()
    for to in (TV, TV6):
        check(ping(lab, h.ns["a"], to), "no ping to " + to)
        check(reaches(lab, h.ns["a"], to, 8080), "no TCP to " + to)
    h.planes("user", "user")
    for ns in (h.ns["a"], h.ns["b"]):
        check(not (lab.ip(ns, "xfrm", "state") + lab.ip(ns, "xfrm", "policy")).strip(), "in the kernel: " + lab.ip(ns, "xfrm", "state"))
    check(h.a.cli("hangup", B, uid=USER)[0] == 0, "hangup")


def has_esp(lab):
    "it is not for want of ESP: an SA can be made"
    lab.ip(lab.h.ns["a"], "xfrm", "state", "add", "src", "10.1.0.2", "dst", "10.2.0.2", "proto", "esp", "spi", "0xc0000001", "mode", "tunnel",
           "aead", "rfc4106(gcm(aes))", "0x" + "61" * 20, "128", "encap", "espinudp", "4500", "4500", "0.0.0.0")
    lab.ip(lab.h.ns["a"], "xfrm", "state", "flush")


def refuses(lab):
    "`dataplane = kernel`: it does not start, and says what the kernel lacks"
    home = lab.h.b
    check(home.stop() == 0, "exit status")
    home.configure(home.conf, "host = yes\ndataplane = kernel")
    home.launch()
    wait(lambda: not home.process.alive(), 10, "it ends")
    text = home.process.text()
    check(home.process.popen.returncode in (1, 2), "exit status %d" % home.process.popen.returncode)
    check("dataplane = kernel: this kernel has no ESP" in text and "rules for directions" in text, text)
    check("tie0" not in lab.ip(home.ns, "link"), "its TUN is left")
    home.again("host = yes")
    check(lab.h.a.stop() == 0 and home.stop() == 0, "exit status")


uml.main("ty", [stays, has_esp, refuses], needs=["ip", "ping", "setpriv"])
