#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""`tieline call --export-keys`: what is captured on the wire opens with the file, by `tieline inspect` and by tshark."""
import collections
import csv
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import homes      # noqa: E402
import lablib     # noqa: E402
from homes import A, B, USER     # noqa: E402
from lablib import check, wait   # noqa: E402

Frame = collections.namedtuple("Frame", "when bytes")
CIPHERS = {("GCM", 40): "aes-gcm-16-128", ("GCM", 72): "aes-gcm-16-256", ("Cha", 72): "chacha20-poly1305",
           ("CBC", 32): "aes-cbc-128-hmac-sha2-256-128", ("CBC", 64): "aes-cbc-256-hmac-sha2-256-128"}


class Capture:
    """All frames of one interface, from an AF_PACKET socket."""

    def __init__(self, lab, ns, dev):
        with lab.inside(ns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((dev, 3))
        self.socket.settimeout(0.2)
        self.frames, self.stopping = [], False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            try:
                self.frames.append(Frame(time.time(), self.socket.recv(65535)))
            except socket.timeout:
                pass

    def stop(self):
        """The frames."""
        self.stopping = True
        self.thread.join(5)
        self.socket.close()
        return self.frames

    def save(self, path):
        """As a pcap file."""
        with open(path, "wb") as f:
            f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
            for frame in self.frames:
                f.write(struct.pack("<IIII", int(frame.when), int(frame.when % 1 * 1e6), len(frame.bytes), len(frame.bytes)))
                f.write(frame.bytes)


def tunnel_datagrams(frames):
    """Of IPv4 UDP frames from or to port 4500: (is IKE, payload); neither STUN nor keepalives."""
    for _, raw in frames:
        if raw[12:14] != b"\x08\x00" or raw[23] != 17:
            continue
        udp = raw[14 + (raw[14] & 15) * 4:]
        length = struct.unpack("!H", udp[4:6])[0]
        payload = udp[8:length]
        if 4500 not in struct.unpack("!HH", udp[:4]) or len(payload) < 16:
            continue
        if payload[:4] == b"\0\0\0\0":
            yield True, payload
        elif payload[0] >= 0x80:      # STUN begins with two zero bits; our SPIs with two ones
            yield False, payload


def cipher(name, key):
    """The word of docs/inspect.md for a table's name and the length of its key."""
    for (part, digits), word in CIPHERS.items():
        if part in name and len(key) == digits:
            return word
    raise lablib.Failed("unknown cipher %r with a key of %d digits" % (name, len(key)))


def keys_file(text):
    """The export as a file for `tieline inspect --keys`."""
    keys = {"ike": [], "esp": []}
    for line in csv.reader(x for x in text.splitlines() if not x.startswith("#")):
        if line[0].startswith("IPv"):
            entry = {"spi": line[3][2:], "key": line[5][2:], "encr": cipher(line[4], line[5][2:]), "esn": len(line) == 10}
            if line[7]:
                entry["integ_key"] = line[7][2:]
            keys["esp"].append(entry)
        else:
            entry = {"spi_i": line[0], "spi_r": line[1], "sk_ei": line[2], "sk_er": line[3], "encr": cipher(line[4], line[2])}
            if line[5]:
                entry.update(sk_ai=line[5], sk_ar=line[6])
            keys["ike"].append(entry)
    return keys


def inspect(lab, kind, keys, payload):
    """`tieline inspect` of one message with that file: its value."""
    path = os.path.join(lab.dir, "message")
    with open(path, "wb") as f:
        f.write(payload)
    out = subprocess.run([lablib.binary("tieline"), "inspect", kind, "--keys", keys, path], stdout=subprocess.PIPE, timeout=20,
                         check=False)
    result = json.loads(out.stdout)
    check(out.returncode == 0 and result["ok"], "%s: %s" % (kind, result))
    return result["value"]


def start(lab):
    "two homes; only home A's configuration lets keys out, and has new ones every 5 s"
    lab.h = homes.Homes(lab, daemon_a="export-keys = yes\nrekey-after = 5s\n").services().start().pin()
    lab.keys = os.path.join(lab.dir, "user")
    os.mkdir(lab.keys, 0o700)
    os.chown(lab.keys, USER, USER)
    os.chmod(lab.dir, 0o755)


def off(lab):
    "where the configuration does not allow it: 16, one sentence, no file, no call"
    path = os.path.join(lab.keys, "none")
    status, out, err = lab.h.b.cli("call", A, "--export-keys", path, uid=USER)
    check(status == 16 and "export-keys" in err and not os.path.exists(path), "%d %s%s" % (status, out, err))
    check(not lab.h.b.calls(), "there is a call")


def n_lines(path, start):
    """Lines that begin with this text, or with one of these digits."""
    with open(path) as f:
        return sum(1 for x in f if x.startswith(start) or (len(start) == 16 and x[0] in start))


def exported(lab):
    "a call with --export-keys: the file is the caller's alone; the log and the audit say so, and have no key; nor has anybody else"
    sub = lab.h.a.connect()
    subscription = sub.send("subscribe")
    for home in "ab":       # a train of datagrams is seen as one: let it be cut before (docs/inspect.md)
        lab.ip(lab.h.ns[home], "link", "set", "dev", "eth0", "gso_max_segs", "1")
    lab.capture = Capture(lab, lab.h.ns["a"], "eth0")
    path = os.path.join(lab.keys, "keys")
    argv = homes.user_of(USER) + [lablib.binary("tieline"), "--control", lab.h.a.run + "/control", "call", B + "/desktop",
                                  "--export-keys", path]
    call = lab.spawn(lab.h.a.ns, argv, "call-keys")
    call.says(" up", 15)
    local = [line.split(" at ")[1] for line in call.text().splitlines() if line.startswith("desktop at ")][0]
    status, text = lab.h.echo(USER, local, size=20000)
    check(status == 0, text)
    wait(lambda: n_lines(path, '"IPv') >= 4 and n_lines(path, "0123456789abcdef") >= 2, 40, "new keys of both kinds of SA")
    time.sleep(0.5)
    status, text = lab.h.echo(USER, local, size=20000)
    check(status == 0, text)
    call.kill(signal.SIGINT)
    wait(lambda: not call.alive(), 10, "the call's end")
    lab.h.clean()
    lab.frames = lab.capture.stop()
    mode = os.stat(path)
    check(mode.st_mode & 0o7777 == 0o600 and mode.st_uid == USER, oct(mode.st_mode))
    with open(path) as f:
        lab.export = f.read()
    secrets = [s for e in keys_file(lab.export)["ike"] + keys_file(lab.export)["esp"] for k, s in e.items()
               if k in ("sk_ei", "sk_er", "sk_ai", "sk_ar", "key", "integ_key")]
    check(len(secrets) >= 4, lab.export)
    log = lab.h.a.process.text()
    check("are given out to user %d" % USER in log, "the log does not say it")
    with open(lab.h.a.state + "/audit.log") as f:
        audit = f.read()
    check("are given to who made the call" in audit, audit)
    heard = json.dumps(sub.seen(subscription))
    check('"keys"' not in heard and "up" in heard, heard)
    for where in (log, audit, heard, call.text(), lab.h.b.process.text()):
        check(not [s for s in secrets if s in where], "a key is told elsewhere")
    status, _, err = lab.h.a.cli("call", B, "--export-keys", path, uid=USER)
    check(status == 2 and "exists" in err, "%d %s" % (status, err))


def inspected(lab):
    "`tieline inspect --keys` opens every protected message and packet of the capture"
    path = os.path.join(lab.dir, "keys.json")
    with open(path, "w") as f:
        json.dump(keys_file(lab.export), f)
    n = {"ike": 0, "esp": 0}
    spis = collections.Counter()
    for is_ike, payload in tunnel_datagrams(lab.frames):
        if not is_ike and spis["%08x" % struct.unpack("!I", payload[:4])] >= 10:      # enough of this SA
            continue
        value = inspect(lab, "ike" if is_ike else "esp", path, payload)
        if not is_ike:
            check(value["decrypted"], value)
            spis[value["header"]["spi"]] += 1
            n["esp"] += 1
        elif value["header"]["exchange"] != 34:
            sealed = [p for p in value["payloads"] if p["name"] in ("SK", "SKF")]
            check(sealed and all(p["name"] == "SKF" or p["decrypted"] for p in sealed), value)
            n["ike"] += 1
    check(n["ike"] >= 8 and n["esp"] >= 10 and len(spis) >= 4, "%s %s" % (n, spis))
    print("# %(ike)d IKE messages, %(esp)d ESP packets" % n)


def dissected(lab):
    "tshark with the same lines: what is inside IKE_AUTH, and the TCP connection inside ESP"
    if not lablib.program("tshark"):
        raise lablib.Skip("tshark is not installed")
    path = os.path.join(lab.dir, "wire.pcap")
    lab.capture.save(path)
    profile = os.path.join(lab.dir, "wireshark")
    os.makedirs(profile)
    for table, is_esp in (("ikev2_decryption_table", False), ("esp_sa", True)):
        with open(os.path.join(profile, table), "w") as f:
            f.writelines(x + "\n" for x in lab.export.splitlines() if x[0] != "#" and x.startswith('"IPv') == is_esp)
    run = subprocess.run([lablib.program("tshark"), "-r", path, "-o", "esp.enable_encryption_decode:TRUE", "-o",
                          "esp.enable_authentication_check:TRUE", "-d", "udp.port==4500,udpencap", "-T", "fields", "-e",
                          "isakmp.exchangetype", "-e", "isakmp.auth.method", "-e", "esp.spi", "-e", "tcp.dstport", "-e",
                          "esp.icv_good"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False,
                         env=dict(os.environ, WIRESHARK_CONFIG_DIR=profile))
    said = [x for x in run.stderr.decode().splitlines() if "uid" not in x and "root" not in x]
    rows = [x.split("\t") for x in run.stdout.decode().splitlines()]
    n_auth = sum(1 for r in rows if r[0] == "35" and r[1])
    inner = [r for r in rows if r[2] and r[3]]
    check(run.returncode == 0 and n_auth == 2 and len(inner) >= 10 and any("5900" in r[3] for r in inner),
          "%d: %d AUTH, %d inner packets; %s" % (run.returncode, n_auth, len(inner), said[:5]))
    print("# %d AUTH payloads, %d TCP packets inside ESP, of which %d have an ICV that it finds good" %
          (n_auth, len(inner), sum(1 for r in inner if r[4] in ("1", "True"))))


lablib.main("tx", [start, off, exported, inspected, dissected], needs=["ip", "nft", "setpriv"])
