# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Random data over TCP in both directions at once through a call whose keys and path change meanwhile: tests/lab/95-bulk.py and
tests/bench/soak.py.

Each direction sends 200 MB for each new Child SA, in bursts at full speed, so that many packets are under way whenever
one SA takes over from another. The client is behind a NAT that forgets its mappings every few seconds and makes others, with other
ports: then the client's daemon moves the SAs (RFC 4555), and until it has seen that, nothing comes back.

    client 10.1.0.2 -- 10.1.0.1 nat 198.51.100.1 -- 198.51.100.2 server
"""
import hashlib
import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contestants     # noqa: E402
import lablib     # noqa: E402
from lablib import check, wait     # noqa: E402

REKEY_S = 5               # the shortest that a configuration may say
PER_REKEY = 200 * 10**6   # bytes of each direction
PIECE = 1 << 20
BURST = 8 * PIECE
PORT = 7010
OUTSIDE = contestants.OUTER[4][0] + "/24"


class Tieline(contestants.Tieline):
    """The pair of daemons, with keys that do not last."""
    key = "bulk"
    daemon = "host = yes\ndataplane = user\nrekey-after = %ds\n" % REKEY_S
    level = "debug"

    def cable(self, dev, addresses_client, addresses_server):
        lab = self.lab
        self.nat = lab.netns("bulk-nat", forward=True)
        lab.veth(self.client, dev, ["10.1.0.2/24"], self.nat, "lan", ["10.1.0.1/24"])
        lab.veth(self.nat, "wan", [OUTSIDE], self.server, dev, addresses_server)
        lab.route(self.client, "default", "10.1.0.1")
        lab.nat(self.nat, "symmetric")

    def remap(self):
        """The NAT's outside goes for a moment, and with it all mappings."""
        self.lab.ip(self.nat, "address", "delete", OUTSIDE, "dev", "wan")
        self.lab.ip(self.nat, "address", "add", OUTSIDE, "dev", "wan")

    def seen_at(self):
        """The client's address and port as the server's end has them."""
        calls = self.b.calls("up")
        return calls and calls[0]["remote"]

    def rekeys(self):
        """Child SAs that have come up after the first one."""
        return self.a.process.text().count("Child SA up") - 1


class Sender(threading.Thread):
    """Sends total bytes; `rekeys` tells how many new SAs there were."""

    def __init__(self, sock, total, rekeys, stop):
        super().__init__(daemon=True)
        self.sock, self.total, self.rekeys, self.stop = sock, total, rekeys, stop
        self.sent, self.hash, self.error = 0, hashlib.sha256(), None
        self.began = time.monotonic()

    def _pause(self):
        """Not faster than the keys change."""
        due = self.began + self.sent * (REKEY_S * 0.95) / PER_REKEY
        while not self.stop.is_set() and (time.monotonic() < due or self.sent >= (self.rekeys() + 1) * PER_REKEY + BURST):
            time.sleep(0.02)

    def run(self):
        try:
            while self.sent < self.total and not self.stop.is_set():
                if self.sent % BURST == 0:
                    self._pause()
                piece = os.urandom(min(PIECE, self.total - self.sent))
                self.hash.update(piece)
                self.sock.sendall(piece)
                self.sent += len(piece)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as e:
            self.error = e


class Receiver(threading.Thread):
    """Reads to the end."""

    def __init__(self, sock):
        super().__init__(daemon=True)
        self.sock, self.got, self.hash, self.error = sock, 0, hashlib.sha256(), None

    def run(self):
        buffer = bytearray(PIECE)
        try:
            while True:
                n = self.sock.recv_into(buffer)
                if not n:
                    return
                self.hash.update(memoryview(buffer)[:n])
                self.got += n
        except OSError as e:
            self.error = e


class Moves(threading.Thread):
    """Has the NAT take other mappings every so many seconds, and waits for the call to follow."""

    def __init__(self, tunnel, seconds, stop):
        super().__init__(daemon=True)
        self.tunnel, self.seconds, self.stop = tunnel, seconds, stop
        self.done, self.slowest, self.error = 0, 0.0, None

    def run(self):
        try:
            while not self.stop.wait(self.seconds):
                old, began = self.tunnel.seen_at(), time.monotonic()
                self.tunnel.remap()
                wait(lambda o=old: self.tunnel.seen_at() not in (o, []), 30, "the call moves away from %s" % old)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done += 1
        except Exception as e:      # pylint: disable=broad-except  # told by transfer()
            self.error = e


def _connection(tunnel):
    """(client's socket, server's socket) of one TCP connection through the tunnel."""
    lab, address = tunnel.lab, contestants.INNER[4][1]
    with lab.inside(tunnel.server):
        server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, PORT))
    server.listen(1)
    with lab.inside(tunnel.client):
        client = socket.socket()
    for s in (server, client):
        s.settimeout(60)
    client.connect((address, PORT))
    accepted = server.accept()[0]
    accepted.settimeout(60)
    server.close()
    return client, accepted


def transfer(tunnel, total, move_s, say=None):
    """So many bytes in each direction. Returns {"seconds", "rekeys", "moves", "slowest_move_s", "sha256": [2]}; Failed if a byte is
    missing or another one, or keys and path did not change as they should."""
    stop = threading.Event()
    ends = _connection(tunnel)
    counted = [tunnel.rekeys()]
    first, began = counted[0], time.monotonic()
    senders = [Sender(s, total, lambda: counted[0] - first, stop) for s in ends]
    receivers = [Receiver(s) for s in reversed(ends)]
    moves = Moves(tunnel, move_s, stop)
    threads = senders + receivers
    for t in threads + [moves]:
        t.start()
    last, progress_at = -1, began
    while any(t.is_alive() for t in threads):
        time.sleep(0.1)
        counted[0] = tunnel.rekeys()
        got, now = sum(r.got for r in receivers), time.monotonic()
        if got != last:
            last, progress_at = got, now
        wrong = [t.error for t in threads + [moves] if t.error]
        if wrong or now - progress_at > 60:
            stop.set()
            raise lablib.Failed("after %d bytes and %d new SAs: %s" % (got, counted[0] - first, wrong or "nothing moves"))
        if say:
            say(got, counted[0] - first, moves.done)
    stop.set()
    moves.join(45)
    for s in ends:
        s.close()
    check(not moves.error, "moving: %s" % moves.error)
    for sender, receiver in zip(senders, receivers):
        check(receiver.got == total and sender.sent == total, "%d of %d bytes arrived" % (receiver.got, total))
        check(sender.hash.digest() == receiver.hash.digest(), "other bytes arrived than were sent")
    rekeys = counted[0] - first
    check(rekeys >= total // PER_REKEY - 1, "%d new Child SAs for %d bytes" % (rekeys, total))
    return {"seconds": time.monotonic() - began, "rekeys": rekeys, "moves": moves.done, "slowest_move_s": moves.slowest,
            "sha256": [s.hash.hexdigest() for s in senders],
            "drops": {k: n for home in (tunnel.a, tunnel.b) for k, n in home.calls("up")[0]["drops"].items() if n}}


def in_words(result, total):
    """One sentence."""
    return "%.1f GB each way in %.0f s, %d new Child SAs, %d changes of path (the slowest in %.1f s), dropped: %s" % (
        total / 1e9, result["seconds"], result["rekeys"], result["moves"], result["slowest_move_s"],
        ", ".join("%s %d" % d for d in result["drops"].items()) or "nothing")
