#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What a reader copies is taken: every configuration in examples/, README.md and docs/ is read by the program it is for.

The programs are started without root's rights and with an address that this machine does not have, so that each says what
it thinks of the file and ends: 1 when only that is in its way, 2 for the file."""
import glob
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib     # noqa: E402
from lablib import check   # noqa: E402

PASSWORD = "/etc/tieline/password"
ACCOUNT = "[account]\naor = sip:home-b@example.net\nserver = 198.51.100.5\npassword-file = %s\n" % PASSWORD
MISSING = "[service echo]\nlisten = tcp/7\n"      # a snippet may allow it without showing it


def start(lab, name, *args):
    """A program as nobody; returns (exit status, what it said)."""
    copy = os.path.join(lab.dir, name)            # the build folder may be root's alone
    if not os.path.exists(copy):
        with open(lablib.binary(name), "rb") as f, open(copy, "wb") as to:
            to.write(f.read())
        os.chmod(copy, 0o755)
    done = subprocess.run([lablib.program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", copy] + list(args),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False,
                          env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    return done.returncode, done.stdout.decode("utf-8", "replace")


def write(lab, name, text):
    path = os.path.join(lab.dir, name)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o600)
    os.chown(path, 65534, 65534)
    return path


def daemon_takes(lab, text, where):
    """tielined has nothing against this configuration."""
    password = write(lab, "password", "A" * 22 + "\n")
    status, out = start(lab, "tielined", "-c", write(lab, "tielined.conf", text.replace(PASSWORD, password)))
    check(status == 1 and "must be started as root" in out, "%s: exit status %d: %s" % (where, status, out))


def snippets(path):
    """Configurations of tielined in a document: indented or fenced blocks that begin with a section's name."""
    with open(path) as f:
        text = f.read()
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)
    blocks += [re.sub(r"^    ", "", b, flags=re.M) for b in re.findall(r"((?:^    .*\n|^\n(?=    ))+)", text, re.M)]
    return [b for b in (b.lstrip("\n") for b in blocks) if re.match(r"\[(daemon|account|service|peer)\b", b)]


def daemon_examples(lab):
    "tielined takes the examples of both homes, of the home router and of who joins it"
    os.chmod(lab.dir, 0o755)
    for name in ("home-a/tielined.conf", "home-b/tielined.conf", "home-router/tielined.conf", "home-router/joins.conf"):
        with open("%s/examples/%s" % (lablib.ROOT, name)) as f:
            daemon_takes(lab, f.read(), "examples/" + name)


def wrong_line(lab):
    "and names file and line of a wrong one"
    with open(lablib.ROOT + "/examples/home-b/tielined.conf") as f:
        lines = f.read().replace("target =", "targte =", 1).splitlines(keepends=True)
    number = [i for i, line in enumerate(lines, 1) if line.startswith("targte")][0]
    status, out = start(lab, "tielined", "-c", write(lab, "tielined.conf", "".join(lines)))
    check(status == 2 and "tielined.conf:%d:" % number in out and "targte" in out, "exit status %d: %s" % (status, out))


def documents(lab):
    "tielined takes what README.md and docs/ print"
    found = 0
    for path in [lablib.ROOT + "/README.md"] + sorted(glob.glob(lablib.ROOT + "/docs/*.md")):
        for text in snippets(path):
            found += 1
            with_account = text if "[account]" in text else ACCOUNT + text
            if re.search(r"^allow = .*\becho\b", text, re.M):
                with_account += MISSING
            with_account = re.sub(r"sha-256:<[^>]*>", "sha-256:" + "5a" * 32, with_account)
            daemon_takes(lab, with_account, os.path.relpath(path, lablib.ROOT))
    check(found >= 2, "only %d configurations found" % found)


def exchange_example(lab):
    "tieline-exchange takes its example, with users as `user add` prints them"
    with open(lablib.ROOT + "/examples/exchange/exchange.conf") as f:
        text = f.read()
    for name in ("home-a", "home-b"):
        status, out = start(lab, "tieline-exchange", "user", "add", name)
        check(status == 0, out)
        text += out
    path = write(lab, "exchange.conf", text)
    status, out = start(lab, "tieline-exchange", "-c", path)
    check(status == 1 and "cannot listen on 198.51.100.5:5060" in out, "exit status %d: %s" % (status, out))
    path = write(lab, "exchange.conf", text.replace("domain =", "doamin ="))
    status, out = start(lab, "tieline-exchange", "-c", path)
    check(status == 2 and "exchange.conf:" in out and "doamin" in out, "exit status %d: %s" % (status, out))


lablib.main("tdx", [daemon_examples, wrong_line, documents, exchange_example], needs=["setpriv"])
