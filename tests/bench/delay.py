# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""How long a daemon takes for the answer to a STUN check and to an IKE request while ESP keeps it busy.

Asked is the server's end, from the client's address and port: Binding requests with the call's own ICE credentials, which a
sniffer takes out of the descriptions on the link, and the client's last IKE request once more, which is answered as it was
(RFC 7296, 2.1). The client's daemon knows nothing of either and drops the answers. Times are the kernel's, of the server's network
interface: from the datagram's arrival to its answer's leaving. The limit of what this can tell: a repeated request costs a
hash and a comparison, not a decryption; of all that a busy daemon makes an answer wait for it sees everything.
"""
import contextlib
import ctypes
import hashlib
import hmac
import os
import re
import socket
import struct
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contestants     # noqa: E402
import lablib     # noqa: E402
import measure     # noqa: E402

COOKIE = 0x2112A442
PORT = 4500
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
OUTGOING = 4      # PACKET_OUTGOING

# Of an Ethernet frame with IPv4 and UDP: the cookie of STUN in its place, or the marker of IKE.
CONTROL = [(0x28, 0, 0, 12), (0x15, 0, 7, 0x0800), (0x30, 0, 0, 23), (0x15, 0, 5, 17), (0x20, 0, 0, 46), (0x15, 2, 0, COOKIE),
           (0x20, 0, 0, 42), (0x15, 0, 1, 0), (0x06, 0, 0, 2048), (0x06, 0, 0, 0)]
SIP = [(0x28, 0, 0, 12), (0x15, 0, 3, 0x0800), (0x30, 0, 0, 23), (0x15, 0, 1, 6), (0x06, 0, 0, 65535), (0x06, 0, 0, 0)]
ALL = [(0x06, 0, 0, 64)]


def sniffer(lab, ns, program, dev="eth0"):
    """A socket that sees what passes an interface and the classic BPF program."""
    with lab.inside(ns):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    code = b"".join(struct.pack("HBBI", *i) for i in program)
    memory = ctypes.create_string_buffer(code, len(code))
    s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(memory)))
    s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.settimeout(0.2)
    s.bind((dev, 3))      # ETH_P_ALL
    return s


def payload_of(frame):
    """(source address, UDP payload) of such a frame."""
    head = (frame[14] & 15) * 4
    return socket.inet_ntoa(frame[26:30]), frame[14 + head + 8:]


class Collector(threading.Thread):
    """Reads a sniffer until it is stopped: [(time in ns, outgoing, frame)]."""

    def __init__(self, sock):
        super().__init__(daemon=True)
        self.sock, self.seen, self.on = sock, [], True
        self.start()

    def run(self):
        while self.on:
            try:
                frame, more, _, addr = self.sock.recvmsg(65536, 64)
            except OSError:
                continue
            for level, kind, data in more:
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    s, ns = struct.unpack("ll", data[:16])
                    self.seen.append((s * 10**9 + ns, addr[2] == OUTGOING, frame))

    def stop(self):
        """Ends it and returns what it has seen."""
        self.on = False
        self.join(2)
        self.sock.close()
        return self.seen


def longest_frame(contestant, seconds=1):
    """Bytes of the longest IP packet that the server's interface takes in under load: whether the wire is a hard one."""
    with contextlib.closing(sniffer(contestant.lab, contestant.server, ALL)) as s:
        got = []

        def look():
            end = time.monotonic() + seconds + 1
            while time.monotonic() < end and not done:
                with contextlib.suppress(OSError):
                    data = s.recv(65536, socket.MSG_TRUNC)
                    got.append(struct.unpack("!H", data[16:18])[0] if data[12:14] == b"\x08\0" else 0)
        done = []
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        measure.tcp(contestant, "x", seconds)
        done.append(True)
        thread.join(3)
    return max(got, default=0)


class Credentials:
    """What an offer and its answer say, from the client's link."""

    def __init__(self, contestant):
        self.control = Collector(sniffer(contestant.lab, contestant.server, CONTROL))
        self.sip = Collector(sniffer(contestant.lab, contestant.client, SIP))

    def take(self):
        """((client's ufrag, password), (server's)), the client's last IKE request with its marker"""
        time.sleep(0.3)
        text = {False: b"", True: b""}
        for _, outgoing, frame in self.sip.stop():
            head = 14 + (frame[14] & 15) * 4
            text[outgoing] += frame[head + (frame[head + 12] >> 4) * 4:]
        pairs = []
        for side in (True, False):
            found = [re.findall(pattern, text[side]) for pattern in (rb"a=ice-ufrag:(\S+)", rb"a=ice-pwd:(\S+)")]
            lablib.check(all(found), "no ICE credentials on the link")
            pairs.append((found[0][-1], found[1][-1]))
        last, request = -1, None
        for _, outgoing, frame in self.control.stop():
            _, p = payload_of(frame)
            if outgoing or p[:4] != b"\0\0\0\0" or len(p) < 32 or p[23] & 0x20:
                continue
            ident = struct.unpack("!I", p[24:28])[0]
            if ident > last:      # of a message in fragments the first
                last, request = ident, p[:4 + struct.unpack("!I", p[28:32])[0]]
        lablib.check(request, "no IKE request on the link")
        return pairs, request


def binding_request(transaction, client, server):
    """A check as the client's agent sends it (RFC 8445, 7.1)."""
    def attribute(kind, value):
        return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)

    def head(length):
        return struct.pack("!HHI", 1, length, COOKIE) + transaction

    body = attribute(0x0006, server[0] + b":" + client[0]) + attribute(0x0024, struct.pack("!I", 110 << 24 | 0xffff << 8 | 255)) + \
        attribute(0x802A, os.urandom(8))
    body += attribute(0x0008, hmac.new(server[1], head(len(body) + 24) + body, hashlib.sha1).digest())
    crc = zlib.crc32(head(len(body) + 8) + body) ^ 0x5354554E
    return head(len(body) + 8) + body + attribute(0x8028, struct.pack("!I", crc))


def _ip_udp(payload):
    """IPv4 and UDP headers from the client's tunnel port to the server's; the kernel adds the IP checksum."""
    length = 20 + 8 + len(payload)
    return struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0) + socket.inet_aton(contestants.OUTER[4][0]) + \
        socket.inet_aton(contestants.OUTER[4][1]) + struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload


def probe(contestant, known, seconds, interval=0.01):
    """Sends both kinds in turn for so long; {"stun": [ms, ...], "ike": [ms, ...], "stun_lost": n, "ike_lost": n}"""
    (client, server), request = known
    seen = Collector(sniffer(contestant.lab, contestant.server, CONTROL))
    with contestant.lab.inside(contestant.client):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    n = 0
    with raw:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            n += 1
            payload = binding_request(b"bench" + struct.pack("!IHB", n, 0, 0), client, server) if n % 2 else request
            raw.sendto(_ip_udp(payload), (contestants.OUTER[4][1], 0))
            time.sleep(interval)
    time.sleep(0.3)
    return _match(seen.stop(), request)


def _match(frames, request):
    asked, ret = {}, {"stun": [], "ike": [], "stun_lost": 0, "ike_lost": 0}
    for ns, outgoing, frame in sorted(frames, key=lambda f: f[0]):
        _, p = payload_of(frame)
        if p[4:8] == struct.pack("!I", COOKIE) and p[8:13] == b"bench":
            key, kind = p[8:20], "stun"
        elif p[:4] == b"\0\0\0\0" and p[4:20] == request[4:20] and p[24:28] == request[24:28]:
            key, kind = b"ike", "ike"
        else:
            continue
        if not outgoing:
            if key in asked:
                ret[kind + "_lost"] += 1
            asked[key] = ns
        elif key in asked:
            ret[kind].append((ns - asked.pop(key)) / 1e6)
    for key in asked:
        ret[("ike" if key == b"ike" else "stun") + "_lost"] += 1
    return ret


def percentile(values, percent):
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]


def under_load(contestant, known, seconds, load):
    """probe() while iperf3 runs with these arguments; {kind: {"n", "lost", "median", "p99", "worst"}}"""
    result = {}

    def run():
        with contextlib.suppress(measure.NoResult):
            measure.iperf(contestant, load, seconds + 2)
    thread = threading.Thread(target=run, daemon=True)
    if load:
        thread.start()
        time.sleep(0.7)
    result = probe(contestant, known, seconds)
    if load:
        thread.join(seconds + 15)
    ret = {}
    for kind in ("stun", "ike"):
        times = result[kind]
        ret[kind] = {"n": len(times), "lost": result[kind + "_lost"]}
        if times:
            ret[kind].update(median=percentile(times, 50), p99=percentile(times, 99), worst=max(times))
    return ret


LOADS = {"none": None, "tcp4": ["-P", "4"], "udp": ["-u", "-l", "1200", "-b", "0"]}
