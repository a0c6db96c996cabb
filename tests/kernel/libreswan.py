# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""libreswan's pluto as IKE peer with the kernel's ESP, from where scripts/deps.sh has unpacked it; inside user-mode-linux."""
import os
import ssl

import lablib

ROOT = os.path.join(lablib.ROOT, "build-peers/libreswan/usr/libexec/ipsec")
NEEDS = [ROOT + "/pluto", "certutil", "pk12util", "openssl", "ip", "ping"]
_CONNECTION = """
config setup
	logfile=/dev/stderr

conn call
	left=%(local)s
	leftid=%(aor)s
	leftcert=own
	leftsendcert=always
	leftsubnet=%(inner)s/128
	leftikeport=%(port)d
	leftupdown=/bin/true
	right=%(remote)s
	rightid=%(peer_id)s
	rightcert=peer
	rightsubnet=%(peer_inner)s/128
	rightikeport=%(remote_port)d
	hostaddrfamily=ipv4
	clientaddrfamily=ipv6
	ikev2=insist
	authby=ecdsa-sha2_256
	ike=aes_gcm128-sha2_256-dh31
	esp=aes_gcm128
	mobike=no
	auto=ignore
	%(service)s
"""


class Libreswan:
    """One pluto. `aor` without sip: is its identity; `inner` its inner address, on lo."""
    port = 4511

    def __init__(self, lab, name, ns, aor, inner):
        self.lab, self.name, self.ns, self.aor, self.inner, self.process = lab, name, ns, aor, inner, None
        self.dir = os.path.join(lab.dir, name)
        os.makedirs(self.dir + "/nss")
        lablib.run(["certutil", "-N", "-d", "sql:" + self.nss, "--empty-password"])
        lablib.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", "/CN=" + aor, "-addext", "subjectAltName=email:" + aor, "-keyout", self.dir + "/own.key", "-out", self.dir + "/own.pem"])
        lablib.run(["openssl", "pkcs12", "-export", "-name", "own", "-passout", "pass:", "-in", self.dir + "/own.pem",
                    "-inkey", self.dir + "/own.key", "-out", self.dir + "/own.p12"])
        lablib.run(["pk12util", "-i", self.dir + "/own.p12", "-d", "sql:" + self.nss, "-W", "", "-K", ""])
        lab.ip(ns, "address", "add", inner + "/128", "dev", "lo")

    @property
    def nss(self):
        """Folder of its certificates."""
        return self.dir + "/nss"

    def cert_der(self):
        """Its certificate."""
        with open(self.dir + "/own.pem") as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def start(self):
        """Starts it, without connections."""
        open(self.dir + "/ipsec.conf", "w").close()
        open(self.dir + "/ipsec.secrets", "w").close()
        # `ip netns exec` has made a mount namespace; pluto looks for its own programs here
        argv = ["sh", "-c", 'mount --bind "$0" /usr/libexec && exec "$@"', os.path.dirname(ROOT), ROOT + "/pluto", "--nofork", "--stderrlog", "--use-xfrm", "--no-dnssec", "--config", self.dir + "/ipsec.conf", "--rundir", self.dir,
                "--ipsecdir", self.dir, "--nssdir", self.nss, "--secretsfile", self.dir + "/ipsec.secrets", "--nhelpers", "0"]
        self.process = self.lab.spawn(self.ns, argv, self.name)
        lablib.wait(lambda: os.path.exists(self.dir + "/pluto.ctl"), 10, "pluto has its socket")
        self.whack("--listen")

    def whack(self, *args, seconds=20):
        """A command of whack; returns its output."""
        return self.lab.ns_exec(self.ns, [ROOT + "/whack", "--ctlsocket", self.dir + "/pluto.ctl"] + list(args), seconds)

    def connection(self, local, remote, remote_port, peer_cert_pem, peer_id, peer_inner, service=None):
        """Loads the one connection: only this peer, by its certificate. service: the TCP port that it asks for, None: all. It has one
        traffic selector each way, and mixes up what an answer narrows to several."""
        n = self.process.text().count("added IKEv2 connection")
        with open(self.dir + "/peer.pem", "w") as f:
            f.write(peer_cert_pem)
        lablib.run(["certutil", "-A", "-n", "peer", "-t", "CT,,", "-d", "sql:" + self.nss, "-i", self.dir + "/peer.pem"])
        with open(self.dir + "/ipsec.conf", "w") as f:
            f.write(_CONNECTION % {"local": local, "remote": remote, "port": self.port, "remote_port": remote_port, "aor": self.aor,
                                   "peer_id": peer_id, "inner": self.inner, "peer_inner": peer_inner, 
                                   "service": "leftprotoport=tcp\n\trightprotoport=tcp/%d" % service if service else ""})
        self.lab.ip(self.ns, "-6", "route", "replace", peer_inner + "/128", "dev", "eth0", "src", self.inner)
        self.lab.ns_exec(self.ns, [ROOT + "/addconn", "--config", self.dir + "/ipsec.conf", "--ctlsocket", self.dir + "/pluto.ctl", "call"])
        lablib.wait(lambda: self.process.text().count("added IKEv2 connection") > n, 5, "pluto has the connection")

    def initiate(self):
        """Brings its Child SA up; Failed with what it says."""
        return self.whack("--initiate", "--name", "call")

    def terminate(self):
        """Ends its IKE SA."""
        return self.whack("--terminate", "--name", "call")

    def sas(self):
        """Its SAs, in a line each."""
        return self.whack("--showstates")

    def states(self):
        """The kernel's SAs, with their counters."""
        return self.lab.ip(self.ns, "-s", "xfrm", "state")

    def empty(self):
        """It has none."""
        return not self.states().strip()
