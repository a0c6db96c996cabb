#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""`ask = yes`: a caller waits, somebody at the other home says yes or no from another terminal, or does not."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import A, B, USER     # noqa: E402
from lablib import check, wait   # noqa: E402


def configure(lab, more):
    """Home B's configuration with these lines more in its [peer] section."""
    lab.h.b.configure(lab.conf_b.replace("allow = desktop files", "allow = desktop files\n" + more))


def asked(lab):
    """The newest question at home B, as its subscriber hears it."""
    lab.n_asked += 1

    def look():
        lines = [line for line in lab.sub.seen(lab.subscription) if line.get("event") == "asked"]
        return lines[lab.n_asked - 1] if len(lines) >= lab.n_asked else None
    return wait(look, 15, "home B is asked")


def start(lab):
    "two homes; the one that is called asks its owner"
    lab.n_asked = 0
    lab.h = homes.Homes(lab, change=lambda name, text: text if name == "home-a" else setattr(lab, "conf_b", text) or text)
    configure(lab, "ask = yes")
    lab.h.services().start().pin()
    lab.sub = lab.h.b.connect()
    lab.subscription = lab.sub.send("subscribe")
    line = lab.h.b.ask("explain", A + "/desktop")[-1]
    check(line["verdict"] == "ask" and "ask = yes" in line["rule"], line)


def answered(lab):
    "the caller waits and reaches nothing; `tieline status` shows the question; `tieline answer` opens what was asked for"
    call = lab.h.a.dial(B + "/desktop")
    question = asked(lab)
    check(question["peer"] == A and question["key"] == lab.h.a.key and question["level"] == "pinned", question)
    check(question["services"] == ["desktop"] and question["seconds"] == 60, question)
    waiting = call.event("waiting")
    check(waiting["seconds"] == 60, waiting)
    check([c["state"] for c in lab.h.a.calls() + lab.h.b.calls()] == ["waiting", "waiting"], "not both ends wait")
    status, out, _ = lab.h.b.cli("status")
    check(status == 0 and "asks for desktop, " in out and "`tieline answer %d`" % question["call"] in out, out)
    status, _, err = lab.h.a.cli("ping", B, "--count", "1")
    check(status == 40, "a ping before the answer: %d %s" % (status, err))
    lab.h.b.ask("answer", str(question["call"]), "--seconds", "300")
    call.event("up", 10)
    local = call.event("granted")
    check(local["name"] == "desktop" and abs(local["until"] - time.time() - 300) < 20, local)
    status, text = lab.h.echo(USER, local["local"])
    check(status == 0, text)
    status, _, err = lab.h.b.cli("answer", str(question["call"]))
    check(status == 2 and "already" in err, "%d %s" % (status, err))
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "hang-up")
    lab.h.clean()


def told(lab):
    "what the caller's terminal shows; declined: 15"
    process = lab.spawn(lab.h.ns["a"], homes.user_of(USER) + [lablib.binary("tieline"), "--control", lab.h.a.run + "/control",
                                                              "call", B], "terminal")
    question = asked(lab)
    check(question["services"] == ["desktop", "files"], question)
    wait(lambda: "waiting: somebody at home-b@example.net is asked, for 60 s" in process.text(), 10, "the caller is told")
    lab.h.b.ask("decline", str(question["call"]))
    wait(lambda: not process.alive(), 10, "the call's end")
    check(process.popen.returncode == 15 and "declined" in process.text(), process.text())
    lab.h.clean()


def hung_up(lab):
    "Ctrl-C while waiting: 0; an answer after that is told that it is too late"
    call = lab.h.a.dial(B)
    question = asked(lab)
    call.event("waiting")
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "hang-up")
    lab.h.clean()
    status, _, err = lab.h.b.cli("answer", str(question["call"]))
    check(status == 2 and "hung up" in err, "%d %s" % (status, err))


def timeout(lab):
    "--timeout is for the waiting, too: 13"
    began = time.monotonic()
    call = lab.h.a.dial(B, "--timeout", "2")
    asked(lab)
    status, done = call.done(10)
    check(status == 13 and time.monotonic() - began < 8, "%d %s" % (status, done))
    lab.h.clean()


def pin_removed(lab):
    "the owner removes the pin while he is asked: 16, and no answer helps"
    call = lab.h.a.dial(B)
    question = asked(lab)
    lab.h.b.ask("trust", "remove", A)
    status, done = call.done(10)
    check(status == 16, "%d %s" % (status, done))
    status, _, err = lab.h.b.cli("answer", str(question["call"]))
    check(status == 2 and "pins" in err, "%d %s" % (status, err))
    lab.h.b.ask("trust", "add", A, lab.h.a.key)
    lab.h.clean()


def silence(lab):
    "nobody decides: 13 when the time that the configuration gives is over"
    configure(lab, "ask = yes\nask-within = 2s")
    lab.h.b.ask("reload")
    call = lab.h.a.dial(B)
    question = asked(lab)
    check(question["seconds"] == 2, question)
    status, done = call.done(10)
    check(status == 13 and "decided" in done["reason"], "%d %s" % (status, done))
    status, _, err = lab.h.b.cli("answer", str(question["call"]))
    check(status == 2 and "too late" in err, "%d %s" % (status, err))
    lab.h.clean()


def enough(lab):
    "five questions were not answered with yes: the next one of this key is not shown, and is 13 at once"
    call = lab.h.a.dial(B)
    status, done = call.done(10)
    check(status == 13, "%d %s" % (status, done))
    check(not [line for line in call.lines() if line.get("event") == "waiting"], "it waited")
    lab.h.clean()
    check(len([line for line in lab.sub.seen(lab.subscription) if line.get("event") == "asked"]) == lab.n_asked, "asked again")


def asks_no_more(lab):
    "`ask = no` and reload: the next call comes up by itself"
    configure(lab, "ask = no")
    lab.h.b.ask("reload")
    call = lab.h.a.dial(B)
    call.event("up", 10)
    call.process.kill(signal.SIGINT)
    check(call.done(10)[0] == 0, "hang-up")
    lab.h.clean()


lablib.main("tq", [start, answered, told, hung_up, timeout, pin_removed, silence, enough, asks_no_more],
            needs=["ip", "nft", "setpriv"])
