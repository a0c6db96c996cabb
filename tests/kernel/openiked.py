# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""OpenIKED's iked as IKE peer, from where scripts/deps.sh has unpacked it; inside user-mode-linux, since it wants PF_KEY.

It only agrees on keys. Debian's build (7.2) does not offer AES-GCM or ChaCha20-Poly1305 for ESP, and of AES-CBC with HMAC-SHA2-256-128,
which it then takes, says "pfkey_sa: unsupported integrity algorithm": with Linux no suite is left that is also ours.
"""
import os
import ssl

import lablib

ROOT = os.path.join(lablib.ROOT, "build-peers/openiked/usr/sbin")
NEEDS = [ROOT + "/iked", "openssl", "ip", "ping"]
_POLICY = """
ikev2 "call" %(mode)s esp from %(inner)s to %(peer_inner)s local %(local)s peer %(remote)s \\
	ikesa enc aes-128-gcm prf hmac-sha2-256 group curve25519 \\
	childsa enc aes-256 auth hmac-sha2-256 \\
	srcid %(aor)s dstid %(peer_id)s
"""
# `ip netns exec` has made a mount namespace: what iked wants to find in fixed places is put there.
_START = """
mount -t tmpfs none /var && mkdir -p /var/lib/openiked/empty /var/run && mount --bind "$0" /etc && exec "$@"
"""


class Openiked:
    """One iked. `aor` without sip: is its identity; `inner` its inner address, on lo. It initiates when it starts, or never."""
    port = 4500     # iked also takes its own port for that of its peers

    def __init__(self, lab, name, ns, aor, inner):
        self.lab, self.name, self.ns, self.aor, self.inner, self.process, self.policy = lab, name, ns, aor, inner, None, None
        self.dir = os.path.join(lab.dir, name)
        self.etc = self.dir + "/etc"
        for folder in ("ca", "certs", "crls", "private", "ocsp", "pubkeys/ufqdn", "pubkeys/fqdn", "pubkeys/ipv4", "pubkeys/ipv6"):
            os.makedirs("%s/iked/%s" % (self.etc, folder))
        for path in ("ld.so.cache", "nsswitch.conf", "protocols", "services"):
            if os.path.exists("/etc/" + path):
                with open("/etc/" + path, "rb") as f, open("%s/%s" % (self.etc, path), "wb") as g:
                    g.write(f.read())
        with open(self.etc + "/passwd", "w") as f:
            f.write("root:x:0:0::/root:/bin/sh\n_iked:x:992:992::/var/lib/openiked/empty:/usr/sbin/nologin\n")
        with open(self.etc + "/group", "w") as f:
            f.write("root:x:0:\n_iked:x:992:\n")
        lablib.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=" + aor, "-addext", "subjectAltName=email:" + aor, "-keyout", self.etc + "/iked/private/local.key",
                    "-out", self.etc + "/iked/certs/%s.crt" % aor])
        lablib.run(["openssl", "pkey", "-in", self.etc + "/iked/private/local.key", "-pubout", "-out", self.etc + "/iked/local.pub"])
        with open(self.etc + "/iked/certs/%s.crt" % aor) as f, open(self.etc + "/iked/ca/own.crt", "w") as g:
            g.write(f.read())
        lab.ip(ns, "address", "add", inner + "/128", "dev", "lo")

    def cert_der(self):
        """Its certificate."""
        with open(self.etc + "/iked/certs/%s.crt" % self.aor) as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def start(self):
        """It starts with its policy."""

    def _run(self, mode):
        if self.process:
            self.process.stop()
        with open(self.etc + "/iked.conf", "w") as f:
            f.write(_POLICY % dict(self.policy, mode=mode))
        os.chmod(self.etc + "/iked.conf", 0o600)
        argv = ["sh", "-c", _START, self.etc, ROOT + "/iked", "-d", "-vv", "-p", str(self.port), "-s", self.dir + "/iked.sock"]
        self.process = self.lab.spawn(self.ns, argv, self.name)
        self.process.says("config_getstatic: no stickyaddress")       # the last of its settings

    def connection(self, local, remote, _remote_port, peer_cert_pem, peer_id, peer_inner):
        """Starts it with its policy: only this peer, by its key."""
        with open(self.dir + "/peer.pem", "w") as f:
            f.write(peer_cert_pem)
        key = lablib.run(["openssl", "x509", "-in", self.dir + "/peer.pem", "-noout", "-pubkey"])
        with open(self.etc + "/iked/pubkeys/ufqdn/" + peer_id, "w") as f:
            f.write(key)
        with open(self.etc + "/iked/ca/peer.crt", "w") as f:
            f.write(peer_cert_pem)
        self.policy = {"inner": self.inner, "peer_inner": peer_inner, "local": local, "remote": remote, "aor": self.aor, "peer_id": peer_id}
        self._run("passive")

    def initiate(self):
        """Starts it again, as initiator."""
        self._run("active")

    def ikectl(self, *args):
        """A command of ikectl; returns its output."""
        return self.lab.ns_exec(self.ns, [ROOT + "/ikectl", "-s", self.dir + "/iked.sock"] + list(args))

    def terminate(self):
        """Ends its IKE SA."""
        self.ikectl("reset", "id", "UFQDN/" + self.policy["peer_id"])

    def sas(self):
        """Its SAs and what they are for."""
        return self.ikectl("show", "sa")

    def empty(self):
        """It has none."""
        return not self.sas().strip()
