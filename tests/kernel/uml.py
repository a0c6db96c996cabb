# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""A kernel with ESP: runs a program of lablib inside user-mode-linux (Debian's package of that name), with this machine's own
files, read-only, as its root.

A program of tests/kernel ends with uml.main() in place of lablib.main(). Started on the host it boots the virtual machine, which
starts the same program again; there main() is lablib.main(). What it prints arrives here as it is, as does its exit status.
Nothing of the machine's network is reachable from inside, and all ends with the process that was started here.

Inside: tmpfs on /run and on ROOM (TMPDIR), /proc, /sys, the modules of MODULES. One processor; a boot takes two seconds.
"""
import ctypes
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib       # noqa: E402

LINUX = "/usr/bin/linux.uml"
MODULES = ["ipv6", "tun", "veth", "xfrm_user", "af_key", "esp4", "esp6", "gcm", "ghash_generic", "drbg", "jitterentropy_rng", "seqiv", "echainiv",
           "chacha_generic", "poly1305_generic", "chacha20poly1305", "authenc", "authencesn", "cbc", "hmac",
           "sha512_generic", "ctr", "bridge"]
INSIDE = "TIELINE_UML"
MEMORY = "512M"
ROOM = [path for path in ("/mnt", "/media") if not (lablib.ROOT + "/").startswith(path + "/")][0]      # hidden inside
SECONDS = 120       # of a whole program, with the boot
HALT_S = 5          # of the machine, when the program is over
# The longest state of a processor that this kernel can save: AVX-512. See fewer_registers().
XSTATE = 2696
# Where it cannot, programs inside must not use the registers that would be lost.
PLAIN = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX_Fast_Unaligned_Load", "OPENSSL_ia32cap": ":0",
         "NSS_DISABLE_AVX2": "1"}
_LIBC = ctypes.CDLL(None, use_errno=True)


def _must(value, what):
    if value < 0:
        raise OSError(ctypes.get_errno(), "%s: %s" % (what, os.strerror(ctypes.get_errno())))


def mount(kind, where, options=""):
    """Mounts a file system without a device."""
    _must(_LIBC.mount(kind.encode(), where.encode(), kind.encode(), 0, options.encode()), "mount " + where)


# ---- outside ----

def too_many_registers():
    """Is a process's state longer than this kernel believes? AT_MINSIGSTKSZ has it, and about 900 bytes more."""
    return _LIBC.getauxval(51) > XSTATE + 1024


def fewer_registers():
    """PTRACE_GETREGSET of NT_X86_XSTATE fails from here on: the kernel then keeps to FXSAVE, which always has the same length. With the
    other one, on a processor with AMX, it stops at its first process."""
    def op(code, k, yes=0, no=0):
        return struct.pack("<HBBI", code, yes, no, k)
    load, equal, ret = 0x20, 0x15, 0x06
    program = b"".join([op(load, 4), op(equal, 0xc000003e, 0, 7),           # x86-64
                        op(load, 0), op(equal, 101, 0, 5),                  # ptrace
                        op(load, 16), op(equal, 0x4204, 0, 3),              # GETREGSET
                        op(load, 32), op(equal, 0x202, 0, 1),               # NT_X86_XSTATE
                        op(ret, 0x50000 | 5), op(ret, 0x7fff0000)])         # EIO, or go on
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _must(_LIBC.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _must(_LIBC.prctl(22, 2, fprog, 0, 0), "PR_SET_SECCOMP")


def boot(folder, program):
    """Becomes the virtual machine. `folder` has room for its files; its own memory is a tmpfs, here, in a mount namespace."""
    memory = folder + "/memory"
    os.mkdir(memory)
    mount("tmpfs", memory, "size=1G,mode=0700")
    env = dict(os.environ, TMPDIR=memory)
    # what has a name of capital letters becomes the environment of its first process
    inside = {INSIDE: "1", "TIELINE_BUILD": os.path.abspath(os.environ.get("TIELINE_BUILD") or lablib.ROOT + "/build"), "PYTHONDONTWRITEBYTECODE": "1"}
    if too_many_registers():
        fewer_registers()
        inside.update(PLAIN)
    argv = [LINUX, "mem=" + MEMORY, "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "panic=1", "con=null", "con0=null,fd:1", "uml_dir=" + memory,
            "init=" + sys.executable] + ["%s=%s" % v for v in inside.items()]
    os.execve(LINUX, argv + ["--", os.path.abspath(__file__), "init", folder, program], env)


def run(program, seconds):
    """Runs a program inside and prints what it prints. Returns its exit status."""
    folder = tempfile.mkdtemp(prefix="tieline-uml.")
    os.chmod(folder, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    machine, shown = None, 0

    def show():
        nonlocal shown
        with open(folder + "/output", "ab+") as f:
            f.seek(shown)
            data = f.read()
        shown += len(data)
        sys.stdout.write(data.decode("utf-8", "replace"))
        sys.stdout.flush()

    try:
        with open(folder + "/console", "wb") as console:
            # its first process is that of a PID namespace: all of the machine's ends with it
            machine = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
                                        os.path.abspath(__file__), "boot", folder, os.path.abspath(program)],
                                       stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        end = time.monotonic() + seconds
        over = False
        while machine.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
            show()
            if not over and os.path.exists(folder + "/status"):     # the program has ended; now and then the halt hangs
                over, end = True, min(end, time.monotonic() + HALT_S)
        late = machine.poll() is None
        if late:
            machine.kill()
            machine.wait()
        show()
        if os.path.exists(folder + "/status"):
            with open(folder + "/status") as f:
                return int(f.read())
        print("# the virtual machine %s; its console:" % ("took over %d s" % seconds if late else "stopped"))
        with open(folder + "/console", errors="replace") as f:
            for line in f.read().splitlines()[-60:]:
                print("# " + line)
        return 1
    finally:
        if machine and machine.poll() is None:
            machine.kill()
            machine.wait()
        shutil.rmtree(folder, ignore_errors=True)


# ---- inside ----

def load_modules():
    """Loads MODULES and what they need; one that is not there is found out by who needs it."""
    folder = "/usr/lib/uml/modules/" + os.uname().release
    with open(folder + "/modules.dep") as f:
        needs = {line.split(":")[0]: line.split(":")[1].split() for line in f}
    paths = {os.path.basename(p)[:-3].replace("-", "_"): p for p in needs}
    for name in MODULES:
        for path in list(reversed(needs.get(paths.get(name), []))) + [paths.get(name)]:
            if path:
                with open(os.path.join(folder, path), "rb") as f:
                    _LIBC.syscall(313, f.fileno(), b"", 0)          # finit_module; it may be there already


def init(folder, program):
    """The first process inside."""
    status = 1
    try:
        mount("proc", "/proc")
        mount("sysfs", "/sys")
        mount("tmpfs", "/run", "mode=0755")
        mount("tmpfs", ROOM, "mode=1777")
        host = ROOM + "/host"
        os.mkdir(host)
        mount("hostfs", host, folder)
        load_modules()
        env = dict(os.environ, TMPDIR=ROOM, PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        with open(host + "/output", "ab") as out:
            child = subprocess.Popen([sys.executable, program], stdout=out, stderr=out, env=env)
        while True:
            pid, how = os.wait()
            if pid == child.pid:
                status = os.waitstatus_to_exitcode(how)
                break
        with open(host + "/status.new", "w") as f:
            f.write(str(status))
        os.rename(host + "/status.new", host + "/status")
    finally:
        _LIBC.sync()
        _LIBC.reboot(0x4321fedc)        # power off


def main(prefix, steps, needs=(), seconds=SECONDS):
    """lablib.main() inside; outside it boots."""
    if os.environ.get(INSIDE):
        lablib.main(prefix, steps, needs)
    why = "not root" if os.geteuid() else None
    missing = [n for n in [LINUX, "unshare"] + list(needs) if not (lablib.program(n) or os.path.exists(n))]
    if not why and missing:
        why = "not installed: " + ", ".join(n.replace(lablib.ROOT + "/", "") for n in missing)
    if why:
        print("1..%d" % len(steps))
        for i, step in enumerate(steps, 1):
            print("ok %d - %s # SKIP %s" % (i, step.__doc__, why))
        sys.exit(0)
    sys.exit(run(sys.argv[0], seconds))


if __name__ == "__main__":
    {"boot": boot, "init": init}[sys.argv[1]](sys.argv[2], sys.argv[3])
