# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A TCP connection that never rests."""
import hashlib
import os
import socket
import threading
import time

import lablib


class Copy(threading.Thread):
    """Sends to an echo server without a pause until it is stopped, and hashes both ways."""

    def __init__(self, conn):
        super().__init__(daemon=True)
        self.conn, self.stopped, self.sent, self.back = conn, threading.Event(), hashlib.sha256(), hashlib.sha256()
        self.n_sent = self.n_back = 0
        self.longest = 0.0      # without a byte, in seconds
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def run(self):
        while not self.stopped.is_set():
            data = os.urandom(8000)
            self.conn.sendall(data)
            self.sent.update(data)
            self.n_sent += len(data)
            time.sleep(0.002)
        self.conn.shutdown(socket.SHUT_WR)

    def read(self):
        """What comes back, to its end."""
        last = time.monotonic()
        while True:
            data = self.conn.recv(65536)
            if not data:
                return
            self.longest = max(self.longest, time.monotonic() - last)
            last = time.monotonic()
            self.back.update(data)
            self.n_back += len(data)

    def moves(self):
        """Bytes still come back."""
        n = self.n_back
        lablib.wait(lambda: self.n_back > n + 100000, 10, "the copy goes on")


class EchoCopy(Copy):
    """One that connects to an echo server by itself."""

    def __init__(self, lab, ns, host, port, source=None):
        with lab.inside(ns):
            conn = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        conn.settimeout(30)
        if source:
            conn.bind((source, 0))
        conn.connect((host, port))
        super().__init__(conn)
        self.start()

    def finish(self):
        """Ends it; what came back must be what was sent."""
        self.stopped.set()
        self.join(20)
        self.reader.join(20)
        self.conn.close()
        lablib.check(self.n_back == self.n_sent and self.back.digest() == self.sent.digest(),
                     "%d of %d bytes came back, or others" % (self.n_back, self.n_sent))
        lablib.check(self.n_sent > 200000, "only %d bytes" % self.n_sent)
