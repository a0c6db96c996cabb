# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A stock kernel with ESP and nftables: runs a program of lablib inside QEMU (Debian's qemu-system-x86, without hardware's help) on
Debian's kernel for clouds (linux-image-cloud-amd64).

As uml.py: a program ends with qemu.main() in place of lablib.main(). Started on the host it boots the virtual machine, which starts
the same program again. What the machine has is packed into an initial file system: python3, the folder tests, what the program
says it needs, each with its libraries, and the kernel's modules. One processor, no network, no disk; what is printed comes out of the
serial line. The kernel is looked for in /boot and in build-peers/linux-image/boot (scripts/deps.sh), modules beside it.
"""
import ctypes
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402

QEMU = "qemu-system-x86_64"
MODULES = ["veth", "tun", "xfrm_user", "esp4", "esp6", "gcm", "ctr", "ghash-generic", "seqiv", "echainiv", "drbg", "hmac", "aesni-intel",
           "ghash-clmulni-intel", "chacha20poly1305", "chacha_generic", "poly1305_generic", "sha512_generic", "authenc", "authencesn", "cbc",
           "nf_tables", "nf_conntrack", "nft_ct", "nft_masq", "nft_nat", "nft_chain_nat", "nft_reject_inet", "nft_objref", "bridge", "tcp_diag", "udp_diag"]
INSIDE = "TIELINE_QEMU"
MEMORY = "1G"
SECONDS = 150
PATIENCE = "5"
PYTHON = "/usr/bin/python3"
TOOLS = ["ip", "nft", "ping", "sysctl", "sh", "cat", "sleep", "env", "id", "setpriv"]
FILES = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ssl/openssl.cnf", "/etc/iproute2", "/usr/share/iproute2"]
LIBRARIES = ["libnss_files.so.2", "libgcc_s.so.1"]      # loaded by name at run time
END = "@end of the program: "


# ---- outside ----

def kernel():
    """vmlinuz and the folder of its modules; None: there is none."""
    for top in (lablib.ROOT + "/build-peers/linux-image", ""):
        for image in sorted(glob.glob(top + "/boot/vmlinuz-*-cloud-amd64"), reverse=True):
            modules = top + "/lib/modules/" + os.path.basename(image)[len("vmlinuz-"):]
            if os.path.isdir(modules):
                return image, modules
    return None


def module_files(folder):
    """MODULES with what they need, in the order of loading; what is built in has no file."""
    paths = {}
    for where, _, names in os.walk(folder):
        paths.update({n[:-3].replace("-", "_"): os.path.join(where, n) for n in names if n.endswith(".ko")})
    order = []

    def add(name):
        path = paths.get(name.replace("-", "_"))
        if not path or path in order:
            return
        with open(path, "rb") as f:
            needs = re.findall(rb"\0depends=([^\0]*)\0", f.read())
        for other in needs[0].decode().split(",") if needs else []:
            add(other)
        order.append(path)
    for name in MODULES:
        add(name)
    return order


class Archive:
    """cpio, "newc"."""

    def __init__(self, path):
        self.out, self.have, self.n = open(path, "wb"), set(), 0

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        self.n += 1
        fields = [self.n, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        self.out.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def folder(self, name):
        name = name.strip("/")
        if name and name not in self.have:
            self.folder(os.path.dirname(name))
            self.have.add(name)
            self._entry(name, 0o40755)

    def data(self, name, data, mode=0o100755):
        name = name.strip("/")
        if name not in self.have:
            self.folder(os.path.dirname(name))
            self.have.add(name)
            self._entry(name, mode, data)

    def link(self, name, to):
        self.data(name, to.encode(), 0o120777)

    def path(self, path):
        """A file with its libraries, or a folder, under its own name; links become what they lead to."""
        if os.path.isdir(path):
            for where, folders, names in os.walk(path):
                folders[:] = [f for f in folders if f not in ("__pycache__", "test", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "tkinter",
                                                               "site-packages", "dist-packages") and not f.startswith("config-")]
                for name in names:
                    self.path(os.path.join(where, name))
            return
        if path.strip("/") in self.have or not os.path.isfile(path):
            return
        with open(path, "rb") as f:
            data = f.read()
        self.data(path, data)
        if data[:4] == b"\x7fELF":
            for library in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout):
                self.path(library)

    def close(self):
        self._entry("TRAILER!!!", 0)
        self.out.close()


def pack(path, program, needs, modules):
    a = Archive(path)
    for link, to in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/run", "/run")):
        a.link(link, to)
    for folder in ("proc", "sys", "dev", "run", "tmp", "root", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
        a.folder(folder)

    def real(file):      # /lib is a link here and there
        file = os.path.abspath(file)
        return "/usr" + file if re.match(r"/(bin|sbin|lib|lib64)/", file) and os.path.exists("/usr" + file) else file
    keep = a.path
    a.path = lambda file: keep(real(file))
    for tool in TOOLS + [n for n in needs if not n.startswith("/")]:
        found = lablib.program(tool)
        if found:
            a.path(found)
    for file in [PYTHON] + FILES + [lablib.binary(n) or "" for n in ("tielined", "tieline", "tieline-exchange")] + [n for n in needs if n.startswith("/")]:
        a.path(file)
    for folder in ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"):
        for name in LIBRARIES:
            a.path(os.path.join(folder, name))
    a.path(subprocess.run([PYTHON, "-c", "import os; print(os.path.dirname(os.__file__))"], capture_output=True, text=True, check=True).stdout.strip())
    for file in glob.glob(lablib.ROOT + "/tests/*.py") + [lablib.ROOT + "/" + f for f in ("tests/lab", "tests/interop", "tests/kernel", "tests/bench", "examples")]:
        a.path(file)
    names = []
    for file in modules:
        names.append("/modules/" + os.path.basename(file))
        with open(file, "rb") as f:
            a.data(names[-1], f.read())
    a.data("modules/order", "\n".join(names).encode())
    a.data("init", ("#!/bin/sh\nexec %s %s init %s\n" % (PYTHON, os.path.abspath(__file__), program)).encode())
    a.close()


def run(program, needs, seconds):
    folder = tempfile.mkdtemp(prefix="tieline-qemu-")
    machine = None
    status = None
    tail = []
    try:
        image, modules = kernel()
        pack(folder + "/initrd", os.path.abspath(program), needs, module_files(modules))
        words = "console=ttyS0 quiet panic=-1 %s=1 TIELINE_BUILD=%s" % (INSIDE, os.environ.get("TIELINE_BUILD") or lablib.ROOT + "/build")
        machine = subprocess.Popen([QEMU, "-M", "microvm,acpi=off", "-cpu", "max", "-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none",
                                    "-serial", "stdio", "-no-reboot", "-kernel", image, "-initrd", folder + "/initrd", "-append", words],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env=dict(os.environ, PATH=lablib._PATH))
        os.set_blocking(machine.stdout.fileno(), False)
        end, rest = time.monotonic() + seconds, ""
        while status is None and time.monotonic() < end:
            over = machine.poll() is not None
            rest += (machine.stdout.read() or b"").decode("utf-8", "replace")
            *lines, rest = rest.replace("\r", "").split("\n")
            for line in lines:
                tail = tail[-60:] + [line]
                if END in line:
                    status = int(line.split(END)[1])
                    break
                if re.match(r"(not )?ok |#|1\.\.", line):
                    print(line, flush=True)
            if over:
                break
            time.sleep(0.05)
        if status is None:
            print("# the virtual machine stopped, or took over %d s; its console:" % seconds)
            print("".join("# " + line + "\n" for line in tail))
        return 1 if status is None else status
    finally:
        if machine and machine.poll() is None:
            machine.kill()
            machine.wait()
        shutil.rmtree(folder, ignore_errors=True)


# ---- inside ----

def init(program):
    """The first process inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    status = 1
    try:
        for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")):
            if libc.mount(kind.encode(), where.encode(), kind.encode(), 0, b"mode=1777" if where == "/tmp" else b""):
                print("# mount %s: %s" % (where, os.strerror(ctypes.get_errno())), flush=True)
        os.makedirs("/dev/net", exist_ok=True)
        with open("/modules/order", encoding="ascii") as f:
            for name in f.read().split():
                with open(name, "rb") as module:
                    if libc.syscall(313, module.fileno(), b"", 0):      # finit_module
                        print("# %s: %s" % (name, os.strerror(ctypes.get_errno())), flush=True)
        env = dict(os.environ, TMPDIR="/tmp", HOME="/root", TIELINE_PATIENCE=PATIENCE, PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        child = subprocess.Popen([sys.executable, program], env=env)
        while True:
            pid, how = os.wait()
            if pid == child.pid:
                status = os.waitstatus_to_exitcode(how)
                break
    finally:
        print("\n%s%d" % (END, status), flush=True)
        time.sleep(0.2)
        libc.reboot(0x1234567)      # -no-reboot: QEMU ends


def main(prefix, steps, needs=(), seconds=SECONDS):
    """lablib.main() inside; outside it boots."""
    if os.environ.get(INSIDE):
        lablib.main(prefix, steps, needs)
    missing = [n for n in [QEMU, PYTHON] + list(needs) if not (lablib.program(n) or os.path.exists(n))]
    if not kernel():
        missing.append("linux-image-cloud-amd64")
    if missing:
        print("1..%d" % len(steps))
        for i, step in enumerate(steps, 1):
            print("ok %d - %s # SKIP not installed: %s" % (i, step.__doc__, ", ".join(n.replace(lablib.ROOT + "/", "") for n in missing)))
        sys.exit(0)
    sys.exit(run(sys.argv[0], needs, seconds))


if __name__ == "__main__":
    init(sys.argv[2])
