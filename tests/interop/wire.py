# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""What IPv4 packets pass a device, counted by an AF_PACKET socket in a thread."""
import contextlib
import socket
import threading


class Wire:
    """protocols: {IP protocol: packets}; ike, esp, stun: UDP datagrams by their first bytes (docs/protocol.md)."""

    def __init__(self, lab, ns, device):
        self.protocols, self.ike, self.esp, self.stun = {}, 0, 0, 0
        with lab.inside(ns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind((device, 0x0003))        # ETH_P_ALL: what is sent as well
        threading.Thread(target=self._serve, daemon=True).start()
        lab.at_close(self.socket.close)

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                data, where = self.socket.recvfrom(128)
                if where[1] == 0x0800 and len(data) >= 20:
                    self._packet(data)

    def _packet(self, data):
        self.protocols[data[9]] = self.protocols.get(data[9], 0) + 1
        payload = data[(data[0] & 15) * 4 + 8:]
        if data[9] != 17 or len(payload) < 4:
            return
        if payload[:4] == bytes(4):
            self.ike += 1
        elif payload[4:8] == b"\x21\x12\xa4\x42":
            self.stun += 1
        else:
            self.esp += 1
