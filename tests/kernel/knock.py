# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What tries a tunnel from inside a namespace: flows that are used now and then, and datagrams, connections and pings that hope for an
answer."""
import contextlib
import os
import socket
import struct
import time

import lablib
from lablib import check

PORT = 9090


class Flow:
    """A TCP connection from home A to the TV that is used now and then."""

    def __init__(self, lab, to):
        with lab.inside(lab.a):
            self.conn = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_STREAM)
        self.conn.settimeout(20)
        self.conn.connect((to, 8080))

    def goes(self, size=20000):
        """So many bytes come back."""
        data, back = os.urandom(size), b""
        self.conn.sendall(data)
        while len(back) < size:
            back += check(self.conn.recv(65536), "the flow has ended")
        check(back == data, "other bytes came back")


class Knock:
    """A datagram, a TCP connection and a ping from one address to another, without waiting for an answer."""
    last = 0

    def __init__(self, lab, ns, source, to):
        six = ":" in to
        family = socket.AF_INET6 if six else socket.AF_INET
        with lab.inside(ns):
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.tcp = socket.socket(family, socket.SOCK_STREAM)
            self.ping = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
        self.of = "%s to %s" % (source, to)
        for s in (self.udp, self.tcp, self.ping):
            s.setblocking(False)
            s.bind((source, 0))
        Knock.last += 1
        # the kernel fills in the checksum of ICMPv6
        self.reply = struct.pack("!BB", 129 if six else 0, 0), struct.pack("!H", Knock.last)
        checksum = 0 if six else 0xffff - 0x0800 - Knock.last
        with contextlib.suppress(OSError):
            self.udp.sendto(b"knock", (to, PORT))
        with contextlib.suppress(OSError):
            self.tcp.connect((to, PORT))
        with contextlib.suppress(OSError):
            self.ping.sendto(struct.pack("!BBHHH", 128 if six else 8, 0, checksum, Knock.last, 0), (to, 0))

    def answers(self):
        """Which of them were answered."""
        found = []
        for name, s in (("udp", self.udp), ("ping", self.ping)):
            with contextlib.suppress(OSError):
                while True:
                    data = s.recv(2048)[-8:]        # no IPv4 header, which a raw socket shows
                    if name == "udp" or (data[:2], data[4:6]) == self.reply:
                        found.append(name)
        with contextlib.suppress(OSError):
            self.tcp.getpeername()
            found.append("tcp")
        return found

    def close(self):
        for s in (self.udp, self.tcp, self.ping):
            s.close()


def knocks(lab, ns, pairs):
    """Each of (source, to) in turn; a second later, what was answered."""
    all_of_them = [Knock(lab, ns, *pair) for pair in pairs]
    time.sleep(1)
    found = {k.of: k.answers() for k in all_of_them}
    for k in all_of_them:
        k.close()
    return {of: words for of, words in found.items() if words}


def servers(lab, ns, *addresses):
    """What a Knock is for: TCP and UDP that answer."""
    for address in addresses:
        lablib.echo_server(lab, ns, address, PORT)
        lablib.udp_echo_server(lab, ns, address, PORT)
