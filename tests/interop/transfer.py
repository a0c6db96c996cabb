# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Much data over TCP in one direction, compared by SHA-256. The client sends S, its data and the end; the server answers with the hash
of what arrived. Or it sends R and 8 bytes of length; the server sends so much, and then its hash."""
import contextlib
import hashlib
import os
import socket
import struct
import threading
import time

import lablib

_PIECE = os.urandom(1 << 20)


def pour(conn, size):
    """Sends so many bytes, no two MiB of which are alike; returns their hash."""
    h, left, n = hashlib.sha256(), size, 0
    while left:
        data = struct.pack("!Q", n) + _PIECE[8:]
        data = data[:min(left, len(data))]
        conn.sendall(data)
        h.update(data)
        left -= len(data)
        n += 1
    return h.digest()


def drain(conn, size=None):
    """Reads so many bytes, or all to the end; returns (how many, their hash)."""
    h, n = hashlib.sha256(), 0
    while n != size:
        data = conn.recv(min(1 << 18, size - n) if size else 1 << 18)
        if not data:
            break
        h.update(data)
        n += len(data)
    return n, h.digest()


def server(lab, ns, address, port):
    """Serves until the lab is closed. In threads."""
    with lab.inside(ns):
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(4)

    def one(conn):
        with conn, contextlib.suppress(OSError):
            conn.settimeout(60)
            if conn.recv(1) == b"S":
                conn.sendall(drain(conn)[1])
            else:
                conn.sendall(pour(conn, struct.unpack("!Q", conn.recv(8, socket.MSG_WAITALL))[0]))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    lab.at_close(lambda: (listener.shutdown(socket.SHUT_RDWR), listener.close()))


def _connect(lab, ns, host, port, source):
    with lab.inside(ns):
        conn = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    conn.settimeout(60)
    if source:
        conn.bind((source, 0))
    conn.connect((host, port))
    return conn


def send(lab, size, ns, host, port, source=None):
    """Sends so many bytes to a server; returns MB/s."""
    with _connect(lab, ns, host, port, source) as conn:
        began = time.monotonic()
        conn.sendall(b"S")
        want = pour(conn, size)
        conn.shutdown(socket.SHUT_WR)
        got = conn.recv(32, socket.MSG_WAITALL)
        lablib.check(got == want, "the hash of %d bytes that were sent" % size)
        return size / 1e6 / (time.monotonic() - began)


def fetch(lab, size, ns, host, port, source=None):
    """Fetches so many bytes from a server; returns MB/s."""
    with _connect(lab, ns, host, port, source) as conn:
        began = time.monotonic()
        conn.sendall(b"R" + struct.pack("!Q", size))
        n, got = drain(conn, size)
        lablib.check(n == size and got == conn.recv(32, socket.MSG_WAITALL), "the hash of %d of %d bytes that came" % (n, size))
        return size / 1e6 / (time.monotonic() - began)
