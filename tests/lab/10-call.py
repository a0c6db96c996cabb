#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A call between two homes behind port-restricted NATs: what comes up, who reaches what, how it ends."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import A, B, OTHER, USER     # noqa: E402
from lablib import check, wait          # noqa: E402


def registers(lab):
    "both homes register, and enter each other's keys"
    lab.h = homes.Homes(lab).services().start().pin()


def calls(lab):
    "a call comes up through both NATs, with both services"
    lab.call = lab.h.a.dial(B)
    lab.call.event("up", 30)
    granted = [line for line in lab.call.lines() if line["event"] == "granted"]
    lab.granted = {line["name"]: line["local"] for line in granted}
    check(set(lab.granted) == {"desktop", "files"}, "granted: %s" % lab.granted)
    path = lab.call.event("path")
    check(path["path"] in ("srflx", "prflx"), "the path is %s" % path)
    there = lab.h.b.up()
    check(there["peer"] == A and there["direction"] == "in" and there["level"] == "pinned", there)
    check(len(there["services"]) == 2, there)


def pings(lab):
    "echo through the tunnel, both ways"
    lab.h.a.ping(lab.h.a.up()["id"])
    lab.h.b.ping(lab.h.b.up()["id"])


def carries(lab):
    "TCP through both services: a host of the home network, and the home's own machine"
    for name in ("desktop", "files"):
        status, text = lab.h.echo(USER, lab.granted[name], 1000000)
        check(status == 0, text)


def forwards(lab):
    "forward opens further local ports to a port that is granted, and to no other"
    for _ in range(2):
        line = [line for line in lab.h.a.ask("forward", B, "tcp/8080", uid=USER) if line.get("event") == "granted"][0]
        check((line["protocol"], line["port"]) == ("tcp", 8080), line)
        status, text = lab.h.echo(USER, line["local"], 1000)
        check(status == 0, text)
    status, _, err = lab.h.a.cli("forward", B, "tcp/22", uid=USER)
    check(status == 16, "%d %s" % (status, err))


def other_user(lab):
    "another user of the caller's machine is refused"
    status, text = lab.h.echo(OTHER, lab.granted["files"], 10)
    check(status != 0, "another user got through: " + text)


def not_granted(lab):
    "a port that is not granted is not reached, from inside the namespace either"
    for port in (22, 5901):
        try:
            lab.h.a.inner("python3", lablib.ROOT + "/tests/echo.py", "[%s]:%d" % (lab.h.b.address, port), "10", "2")
        except lablib.Failed:
            continue
        raise lablib.Failed("port %d was reached" % port)
    try:      # and nothing goes the other way: the callee opens no flow
        lab.h.b.inner("python3", lablib.ROOT + "/tests/echo.py", "[%s]:8080" % lab.h.a.address, "10", "2")
    except lablib.Failed:
        return
    raise lablib.Failed("the callee reached the caller")


def one_more(lab):
    "a call for one service: replaces the first, grants just that one"
    second = lab.h.a.dial(B + "/files")
    second.event("up", 30)
    names = [line["name"] for line in second.lines() if line["event"] == "granted"]
    check(names == ["files"], names)
    status, done = lab.call.done(10)
    check(status == 0, "the first call: %d %s" % (status, done))
    lab.call = second


def hang_up(lab):
    "Ctrl-C at the caller: exit status 0, nothing left at either end"
    lab.call.process.kill(signal.SIGINT)
    status, done = lab.call.done(10)
    check(status == 0, done)
    lab.h.clean()
    check(lab.h.echo(USER, lab.granted["files"], 10)[0] == 3, "the forward is still there")


def callee_hangs_up(lab):
    "the callee hangs up: the caller is told, exit status 0"
    call = lab.h.a.dial(B)
    call.event("up", 30)
    status, _, err = lab.h.b.cli("hangup", A)
    check(status == 0, err)
    status, done = call.done(10)
    check(status == 0 and done["reason"], "%d %s" % (status, done))
    lab.h.clean()


def detached(lab):
    "--detach returns when the call is up; hangup all ends it"
    status, out, err = lab.h.a.cli("call", B, "--detach", uid=USER)
    check(status == 0, err)
    check("127.0.0.1:" in out, "where the services are: " + out)
    lab.h.a.up()
    check(lab.h.a.cli("hangup", "all", uid=USER)[0] == 0, "hangup all")
    lab.h.clean()


def executes(lab):
    "--exec runs a command with the forward's address, hangs up and returns its status"
    command = "python3 %s/tests/echo.py $TIELINE_HOST:$TIELINE_PORT 1000 && exit 7" % lablib.ROOT
    status, out, err = lab.h.a.cli("call", B + "/files", "--exec", "sh", "-c", command, uid=USER)
    check(status == 7, "%d %s %s" % (status, out, err))
    check("back 1000 bytes" in out, out)
    lab.h.clean()


def pair_gone(lab):
    "daemons end with status 0 and leave no process behind"
    check(lab.h.a.stop() == 0 and lab.h.b.stop() == 0 and lab.h.exchange.stop() == 0, "exit status")
    wait(lambda: not homes.leftovers(lab), 5, "left: %s" % homes.leftovers(lab))


lablib.main("tlc", [registers, calls, pings, carries, forwards, other_user, not_granted, one_more, hang_up, callee_hangs_up, detached, executes,
                    pair_gone], needs=["ip", "nft", "setpriv"])
