# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""strongSwan's charon as IKE and ESP peer, all in user space (plugin kernel-libipsec), in a namespace of its own."""
import os
import ssl

import lablib

CHARON = "/usr/lib/ipsec/charon"
NEEDS = [CHARON, "swanctl", "openssl", "ip", "ping"]
PORT = 4511
_PLUGINS = ("random nonce openssl aes sha1 sha2 hmac kdf gcm curve25519 pem pkcs1 pkcs8 pubkey x509 constraints revocation vici "
            "%s socket-default updown")
# The port without the marker is any free one; only PORT is ever spoken of.
_STRONGSWAN = """
charon {
	load_modular = no
	load = %(plugins)s
	port = 0
	port_nat_t = %(port)d
	install_virtual_ip = no
	retransmit_tries = 3
	retransmit_timeout = 1.0
	plugins { vici { socket = unix://%(dir)s/vici } }
	filelog { stderr { default = 1
		ike = 2
		cfg = 2
		knl = 1
		flush_line = yes } }
}
"""
_CONNECTION = """
connections {
	call {
		version = 2
		local_addrs = %(local)s
		remote_addrs = %(remote)s
		local_port = %(port)d
		remote_port = %(remote_port)d
		proposals = %(ike)s
		encap = %(encap)s
		mobike = %(mobike)s
		dpd_delay = %(dpd)s
		send_cert = always
		local { auth = %(auth)s
			certs = %(cert)s.pem
			id = %(own_id)s }
		remote { auth = pubkey
			certs = peer.pem
			id = %(peer_id)s }
		children { tunnel { local_ts = %(local_ts)s
			remote_ts = %(remote_ts)s
			esp_proposals = %(esp)s
			mode = tunnel } }
	}
}
"""


class Charon:
    """One charon. `aor` without sip: is its identity; `inner` its inner address, on lo."""
    port = PORT
    kernel = "kernel-libipsec kernel-netlink"      # the plugins that are its ESP

    def __init__(self, lab, name, ns, aor, inner):
        self.lab, self.ns, self.aor, self.inner, self.process = lab, ns, aor, inner, None
        self.dir = os.path.join(lab.dir, name)
        self.name = name
        for folder in ("x509", "x509ca", "x509aa", "x509ocsp", "x509crl", "x509ac", "pubkey", "private", "rsa", "ecdsa", "bliss",
                       "pkcs8", "pkcs12", "conf.d"):
            os.makedirs("%s/swanctl/%s" % (self.dir, folder))
        for cert in ("own", "other"):     # the second one was announced to nobody
            self.certificate(cert, aor)
        lab.ip(ns, "address", "add", inner + "/128", "dev", "lo")

    def certificate(self, name, aor, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """Makes a key, as `openssl req -newkey` has it, and a certificate of aor; returns the certificate's DER."""
        lablib.run(["openssl", "req", "-x509", "-newkey"] + list(key) + [
            "-nodes", "-days", "30", "-subj", "/CN=" + aor, "-addext", "subjectAltName=email:" + aor,
            "-keyout", "%s/swanctl/private/%s.pem" % (self.dir, name), "-out", "%s/swanctl/x509/%s.pem" % (self.dir, name)])
        return self.cert_der(name)

    def cert_der(self, name="own"):
        """Its certificate."""
        with open("%s/swanctl/x509/%s.pem" % (self.dir, name)) as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def start(self):
        """Starts it, without connections."""
        with open(self.dir + "/strongswan.conf", "w") as f:
            f.write(_STRONGSWAN % {"plugins": _PLUGINS % self.kernel, "port": PORT, "dir": self.dir})
        # `ip netns exec` has made a mount namespace: this /run is charon's alone
        argv = ["sh", "-c", "mount -t tmpfs none /run && exec " + CHARON]
        env = dict(os.environ, STRONGSWAN_CONF=self.dir + "/strongswan.conf")
        self.process = self.lab.spawn(self.ns, argv, self.name, env=env)
        lablib.wait(lambda: os.path.exists(self.dir + "/vici"), 10, "charon has its socket")
        lablib.wait(lambda: self._quiet("--stats"), 10, "charon answers")

    def swanctl(self, *args, seconds=20):
        """A command of swanctl; returns its output."""
        env = {"SWANCTL_DIR": self.dir + "/swanctl", "STRONGSWAN_CONF": self.dir + "/strongswan.conf"}
        return lablib.run(["swanctl"] + list(args) + ["--uri", "unix://" + self.dir + "/vici"], seconds, env)

    def _quiet(self, *args):
        try:
            return self.swanctl(*args)
        except lablib.Failed:
            return None

    def connection(self, local, remote, remote_port, peer_cert_pem, peer_id, peer_inner, cert="own", **more):
        """Loads the one connection: only this peer, by its certificate; `cert` is ours, own or other. more: ike, esp (proposals), auth
        (how it proves itself), own_id, inner, local_ts, remote_ts, encap, mobike and dpd, where they are not the usual ones."""
        with open(self.dir + "/swanctl/x509/peer.pem", "w") as f:
            f.write(peer_cert_pem)
        with open(self.dir + "/swanctl/swanctl.conf", "w") as f:
            f.write(_CONNECTION % dict({"local": local, "remote": remote, "port": PORT, "remote_port": remote_port, "own_id": self.aor,
                                        "peer_id": peer_id, "local_ts": more.get("inner", self.inner) + "/128", "remote_ts": peer_inner + "/128",
                                        "cert": cert, "auth": "pubkey", "encap": "yes", "dpd": "1s",
                                        "ike": "aes128gcm16-prfsha256-x25519", "esp": "aes128gcm16", "mobike": "no"}, **more))
        self.swanctl("--load-all")

    def initiate(self, seconds=10):
        """Brings its Child SA up; Failed with what it says."""
        return self.swanctl("--initiate", "--child", "tunnel", "--timeout", str(seconds))

    def refused(self, seconds=10):
        """Its Child SA does not come up; returns what it says."""
        try:
            self.initiate(seconds)
        except lablib.Failed as e:
            return str(e)
        raise lablib.Failed("it came up")

    def terminate(self):
        """Ends its IKE SA."""
        return self.swanctl("--terminate", "--ike", "call", "--timeout", "10")

    def sas(self):
        """swanctl's list of SAs."""
        return self.swanctl("--list-sas")

    def empty(self):
        """It has none."""
        return not self.sas().strip()

    def ping(self, peer_inner, count=2, inner=None):
        """ping from its inner address; Failed without a reply."""
        return self.lab.ns_exec(self.ns, ["ping", "-6", "-n", "-c", str(count), "-i", "0.2", "-W", "3", "-I", inner or self.inner, peer_inner])


class KernelCharon(Charon):
    """The same with the kernel's ESP. Policies want a route towards what they are for."""
    kernel = "kernel-netlink"

    def connection(self, *args, **more):
        self.lab.ip(self.ns, "-6", "route", "replace", args[5] + "/128", "dev", "eth0", "src", self.inner)
        super().connection(*args, **more)

    def states(self):
        """The kernel's SAs, with their counters."""
        return self.lab.ip(self.ns, "-s", "xfrm", "state")

    def empty(self):
        return not self.sas().strip() and not self.states().strip()
