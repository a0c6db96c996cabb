# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""echo.py ADDRESS:PORT BYTES [SECONDS]: sends random bytes to an echo server, compares what comes back, prints both checksums.
Exit status 0 when they are equal, 1 when they are not, 3 when there was no connection."""
import hashlib
import os
import socket
import sys
import threading


def main():
    host, _, port = sys.argv[1].rpartition(":")
    data = os.urandom(int(sys.argv[2]))
    try:
        conn = socket.create_connection((host.strip("[]"), int(port)), float(sys.argv[3]) if len(sys.argv) > 3 else 10)
    except OSError as e:
        print("no connection: %s" % e)
        return 3

    def send():
        try:
            conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    got = hashlib.sha256()
    n = 0
    try:
        while n < len(data):
            piece = conn.recv(65536)
            if not piece:
                break
            got.update(piece)
            n += len(piece)
    except OSError as e:
        print("after %d bytes: %s" % (n, e))
        return 1
    sent = hashlib.sha256(data).hexdigest()
    print("sent %d bytes, sha-256 %s" % (len(data), sent))
    print("back %d bytes, sha-256 %s" % (n, got.hexdigest()))
    return 0 if got.hexdigest() == sent else 1


sys.exit(main())
