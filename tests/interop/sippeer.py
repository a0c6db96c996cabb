# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A small SIP registrar and user agent for the stock side of a call (RFC 3261, RFC 7616, RFC 3264, RFC 6193).

It lives in a thread, on one UDP and one TCP port of a namespace. It knows nothing of signed descriptions, which is
its use: what tielined says to a stock peer, and what it makes of a stock peer's words, is judged by something that
shares no code with it.
"""
import contextlib
import hashlib
import os
import re
import selectors
import socket
import threading

import lablib

REASONS = {100: "Trying", 180: "Ringing", 200: "OK", 401: "Unauthorized", 404: "Not Found", 480: "Temporarily Unavailable", 481: "No Such Call",
           488: "Not Acceptable Here", 501: "Not Implemented"}


class Message:
    """One SIP message: start (the first line), headers [(name, value)], body."""

    def __init__(self, start, headers, body=""):
        self.start, self.headers, self.body = start, headers, body
        words = start.split(" ", 2)
        self.status = int(words[1]) if start.startswith("SIP/2.0 ") else None
        self.method = None if self.status else words[0]
        self.uri = None if self.status else words[1]

    def all(self, name):
        """All values of a header."""
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=""):
        """The first value of a header."""
        return (self.all(name) or [default])[0]

    def tag(self, name):
        """The tag of From or To, or ""."""
        found = re.search(r";\s*tag=([^;>\s]+)", self.get(name))
        return found.group(1) if found else ""

    def encode(self):
        """Its bytes, with the length of the body."""
        lines = [self.start] + ["%s: %s" % h for h in self.headers if h[0].lower() != "content-length"]
        body = self.body.encode()
        return ("\r\n".join(lines + ["Content-Length: %d" % len(body)]) + "\r\n\r\n").encode() + body


def decode(data):
    """(message, bytes used), or (None, 0) if it is not whole yet."""
    head, sep, rest = data.partition(b"\r\n\r\n")
    if not sep:
        return None, 0
    lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8")).split("\r\n")
    short = {"v": "Via", "f": "From", "t": "To", "i": "Call-ID", "m": "Contact", "l": "Content-Length", "c": "Content-Type"}
    headers = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.append((short.get(name.strip(), name.strip()), value.strip()))
    m = Message(lines[0], headers)
    length = int(m.get("Content-Length", "0"))
    if len(rest) < length:
        return None, 0
    m.body = rest[:length].decode("utf-8")
    return m, len(head) + 4 + length


def inner_uri(value):
    """The URI of a Contact, From or To."""
    found = re.search(r"<([^>]+)>", value)
    return found.group(1) if found else value.split(";")[0].strip()


def aor(value):
    """sip:user@host of a From, To or Contact, without port and parameters."""
    return re.sub(r"(sip:[^@]+@[^;:>]+).*", r"\1", inner_uri(value))


class Flow:
    """Where a message came from, and where its answers go."""

    def __init__(self, sock, peer, stream):
        self.sock, self.peer, self.stream, self.buffer = sock, peer, stream, b""

    def send(self, m):
        """Sends a message this way."""
        if self.stream:
            self.sock.sendall(m.encode())
        else:
            self.sock.sendto(m.encode(), self.peer)


class Call:
    """One dialog, from this side."""

    def __init__(self, flow, call_id, ours, theirs, target, cseq=1):
        self.flow, self.call_id, self.ours, self.theirs, self.target, self.cseq = flow, call_id, ours, theirs, target, cseq
        self.status, self.answer, self.acked, self.ended, self.offer, self.sdp = None, None, False, False, None, None


class SipPeer:
    """The registrar and user agent. passwords: {user: password} (None: no digest); answer(offer SDP) -> SDP or status."""

    def __init__(self, lab, ns, address, port=5060, passwords=None, answer=None):
        self.address, self.port, self.passwords, self.answer = address, port, passwords, answer
        self.bindings, self.calls, self.log, self.errors = {}, {}, [], []
        self.lock, self.selector, self.nonces = threading.RLock(), selectors.DefaultSelector(), set()
        with lab.inside(ns):
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.udp.bind((address, port))
        self.tcp.bind((address, port))
        self.tcp.listen(8)
        self.wake_r, self.wake_w = os.pipe()
        self.selector.register(self.udp, selectors.EVENT_READ, self._datagram)
        self.selector.register(self.tcp, selectors.EVENT_READ, self._accept)
        self.selector.register(self.wake_r, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        lab.at_close(self.close)
        lablib.stun_server(lab, ns, address)

    def close(self):
        """Stops the thread and closes all."""
        os.write(self.wake_w, b"x")
        self.thread.join(2)
        for s in [self.udp, self.tcp] + [k.fileobj for k in list(self.selector.get_map().values())]:
            with contextlib.suppress(Exception):
                s.close()

    # ---- bytes ----

    def _serve(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                try:
                    with self.lock:
                        key.data(key.fileobj)
                except OSError:
                    pass
                except Exception as e:      # pylint: disable=broad-except  # shown by the next step that asks
                    self.errors.append("%s: %s" % (type(e).__name__, e))

    def _datagram(self, sock):
        data, peer = sock.recvfrom(65536)
        m, _ = decode(data)
        if m:
            self._message(m, Flow(sock, peer, False))

    def _accept(self, sock):
        conn, peer = sock.accept()
        flow = Flow(conn, peer, True)
        self.selector.register(conn, selectors.EVENT_READ, lambda s: self._stream(s, flow))

    def _stream(self, sock, flow):
        data = sock.recv(65536)
        if not data:
            self.selector.unregister(sock)
            sock.close()
            return
        flow.buffer += data
        while True:
            flow.buffer = flow.buffer.lstrip(b"\r\n")
            m, used = decode(flow.buffer)
            if not m:
                return
            flow.buffer = flow.buffer[used:]
            self._message(m, flow)

    # ---- messages ----

    def _message(self, m, flow):
        self.log.append(m)
        if m.status:
            self._response(m, flow)
        elif m.method == "REGISTER":
            self._register(m, flow)
        elif m.method == "INVITE":
            self._invited(m, flow)
        elif m.method == "ACK":
            call = self.calls.get(m.get("Call-ID"))
            if call:
                call.acked = True
        elif m.method == "BYE":
            call = self.calls.get(m.get("Call-ID"))
            if call:
                call.ended = True
            self._reply(m, flow, 200 if call else 481)
        else:
            self._reply(m, flow, 200 if m.method in ("OPTIONS", "CANCEL") else 501)

    def _reply(self, m, flow, status, more=(), body=""):
        headers = [("Via", v) for v in m.all("Via")]
        if not flow.stream:               # RFC 3581
            headers[0] = ("Via", re.sub(r";rport(?=;|$)", ";rport=%d" % flow.peer[1], headers[0][1]) + ";received=" + flow.peer[0])
        to = m.get("To")
        if status > 100 and not m.tag("To"):
            to += ";tag=" + hashlib.sha256(m.get("Call-ID").encode()).hexdigest()[:12]
        headers += [("From", m.get("From")), ("To", to), ("Call-ID", m.get("Call-ID")), ("CSeq", m.get("CSeq"))]
        headers += list(more) + ([("Content-Type", "application/sdp")] if body else [])
        flow.send(Message("SIP/2.0 %d %s" % (status, REASONS[status]), headers, body))

    def _register(self, m, flow):
        if self.passwords is not None and not self._digest_ok(m):
            nonce = os.urandom(12).hex()
            self.nonces.add(nonce)
            value = 'Digest realm="lab", qop="auth", algorithm=SHA-256, nonce="%s"' % nonce
            self._reply(m, flow, 401, [("WWW-Authenticate", value)])
            return
        contact = m.get("Contact")
        if m.get("Expires") == "0" or contact.endswith("expires=0"):
            self.bindings.pop(aor(m.get("To")), None)
        else:
            self.bindings[aor(m.get("To"))] = (inner_uri(contact), flow)
        self._reply(m, flow, 200, [("Contact", re.sub(r";expires=\d+", "", contact) + ";expires=3600")])

    def _digest_ok(self, m):
        def h(*words):
            return hashlib.sha256(":".join(words).encode()).hexdigest()
        d = {k: v.strip('"') for k, v in re.findall(r'(\w+)=("[^"]*"|[^,\s]+)', m.get("Authorization"))}
        if d.get("nonce") not in self.nonces or d.get("username") not in self.passwords:
            return False
        a1, a2 = h(d["username"], "lab", self.passwords[d["username"]]), h(m.method, d["uri"])
        return d.get("response") == h(a1, d["nonce"], d["nc"], d["cnonce"], d["qop"], a2)

    def _contact(self, flow):
        return "<sip:peer@%s:%d;transport=%s>" % (self.address, self.port, "tcp" if flow.stream else "udp")

    def _invited(self, m, flow):
        call = self.calls.get(m.get("Call-ID"))
        if call and call.answer is not None:          # said again
            self._reply(m, flow, 200, [("Contact", self._contact(flow))], call.answer)
            return
        body = self.answer(m.body) if self.answer else 404
        if isinstance(body, int):
            self._reply(m, flow, body)
            return
        tag = hashlib.sha256(m.get("Call-ID").encode()).hexdigest()[:12]
        call = Call(flow, m.get("Call-ID"), m.get("To") + ";tag=" + tag, m.get("From"), inner_uri(m.get("Contact")))
        call.offer, call.answer = m.body, body
        self.calls[call.call_id] = call
        self._reply(m, flow, 180)
        self._reply(m, flow, 200, [("Contact", self._contact(flow))], body)

    def _request(self, call, method, cseq, body=""):
        via = "SIP/2.0/%s %s:%d;branch=z9hG4bK%s;rport" % ("TCP" if call.flow.stream else "UDP", self.address, self.port, os.urandom(8).hex())
        headers = [("Via", via), ("Max-Forwards", "70"), ("From", call.ours), ("To", call.theirs), ("Call-ID", call.call_id),
                   ("CSeq", "%d %s" % (cseq, method)), ("Contact", self._contact(call.flow))]
        if body:
            headers.append(("Content-Type", "application/sdp"))
        call.flow.send(Message("%s %s SIP/2.0" % (method, call.target), headers, body))

    def _response(self, m, flow):
        call = self.calls.get(m.get("Call-ID"))
        number, _, method = m.get("CSeq").partition(" ")
        if not call or m.status < 200 or method not in ("INVITE", "UPDATE"):
            return
        call.theirs = m.get("To")
        if m.status < 300:
            call.answer = m.body
            call.target = inner_uri(m.get("Contact")) or call.target
            if method == "INVITE":
                self._request(call, "ACK", int(number))
        call.status = m.status

    # ---- for the steps ----

    def invite(self, to, from_aor, sdp):
        """Calls a registered address; the returned Call gets status and answer when they come."""
        with self.lock:
            target, flow = lablib.check(self.bindings.get(to), to + " is registered")
            call = Call(flow, os.urandom(12).hex() + "@" + self.address, "<%s>;tag=%s" % (from_aor, os.urandom(6).hex()), "<%s>" % to, target)
            call.sdp = sdp
            self.calls[call.call_id] = call
            self._request(call, "INVITE", 1, sdp)
            return call

    def again(self, call, method, sdp=""):
        """A request inside the dialog; returns (status, description) of its final answer."""
        with self.lock:
            call.status, call.answer, call.cseq = None, "", call.cseq + 1
            self._request(call, method, call.cseq, sdp)
        lablib.wait(lambda: call.status, 5, "an answer to " + method)
        return call.status, call.answer

    def bye(self, call):
        """Ends a call."""
        with self.lock:
            call.cseq += 1
            self._request(call, "BYE", call.cseq)


def bare_sdp(address, port, setup, fingerprint, more=()):
    """A description as RFC 6193 has it: one certificate, no ICE unless `more` lines bring it."""
    return "\r\n".join(["v=0", "o=- 1 1 IN IP4 " + address, "s=-", "t=0 0", "m=application %d udp ike-esp-udpencap" % port,
                        "c=IN IP4 " + address, "a=ike-setup:" + setup, "a=fingerprint:sha-256 " + fingerprint] + list(more)) + "\r\n"


def attributes(sdp, name):
    """All values of an attribute of a description."""
    return [line[len(name) + 3:] for line in sdp.splitlines() if line.startswith("a=%s:" % name)]


def fingerprint(der):
    """SHA-256 of a certificate in the form of a=fingerprint."""
    text = hashlib.sha256(der).hexdigest().upper()
    return ":".join(text[i:i + 2] for i in range(0, 64, 2))
