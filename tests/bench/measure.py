# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""Single measurements of a contestant (contestants.py): iperf3, ping, /proc. Each is one run of a second or a few."""
import array
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import lablib     # noqa: E402

PORT = 5201
LOSS_PERCENT = 1.0
PING_S = 0.11          # tieline lets ten echoes a second through a network's grant
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class NoResult(Exception):
    """The run came to nothing; the text says why."""


def _in(ns, argv):
    return [lablib.program("ip"), "netns", "exec", ns] + argv


@contextlib.contextmanager
def _iperf_server(contestant):
    """An iperf3 server for one test, ended in any case."""
    argv = _in(contestant.server, ["iperf3", "-s", "-1", "-p", str(PORT), "--forceflush"])
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        try:
            while True:
                line = p.stdout.readline()
                if not line:
                    raise NoResult("iperf3 -s ended")
                if b"listening" in line:
                    break
            yield
        finally:
            p.kill()
            p.stdout.close()


def iperf(contestant, args, seconds, family=4):
    """`iperf3 -c`: its JSON."""
    argv = _in(contestant.client, ["iperf3", "-c", contestant.to[family], "-p", str(PORT), "-t", str(seconds), "-J"] + args)
    with _iperf_server(contestant):
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
                                  timeout=seconds + 8)
            end = json.loads(done.stdout.decode("utf-8", "replace"))
        except (subprocess.TimeoutExpired, ValueError):
            raise NoResult("iperf3 does not end, or says nothing") from None
    if "error" in end or "sum_received" not in end.get("end", {}) and "sum" not in end.get("end", {}):
        raise NoResult("iperf3: " + str(end.get("error", "no sum")))
    return end["end"]


# ---- of processes ----

def cpu_s(pids):
    """User and system time of processes with all their threads."""
    total = 0
    for pid in pids:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _status(pid, name):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"^%s:\s+(\d+)" % name, f.read(), re.M).group(1)) / 1024


def forget_peak(pids):
    """What VmHWM says is from now on."""
    for pid in pids:
        with open("/proc/%d/clear_refs" % pid, "w") as f:
            f.write("5")


def _pages(pid):
    """The frames of memory that a process has mapped (Documentation/admin-guide/mm/pagemap.rst of the kernel)."""
    frames = set()
    with open("/proc/%d/maps" % pid) as f:
        areas = [[int(x, 16) // PAGE for x in line.split()[0].split("-")] for line in f if "[vsyscall]" not in line]
    with open("/proc/%d/pagemap" % pid, "rb") as f:
        for first, end in areas:
            f.seek(first * 8)
            entries = array.array("Q", f.read((end - first) * 8))
            frames.update(e & (1 << 55) - 1 for e in entries if e >> 63)
    return frames


def twice(pids):
    """MiB that several of these processes have in common: what adding their sizes counts more than once."""
    pages = [_pages(pid) for pid in pids]
    return (sum(map(len, pages)) - len(set().union(*pages))) * PAGE / 2**20 if len(pids) > 1 else 0


def resident(pids, peak=False):
    """MiB of all these processes, now or at most, each page once."""
    return sum(_status(pid, "VmHWM" if peak else "VmRSS") for pid in pids) - twice(pids)


# ---- measures: each returns {name: value} ----

def tcp(contestant, name, seconds, streams=1, family=4):
    """TCP, in Gbit/s that arrived; CPU seconds that the tunnel's processes took a GB, both ends together."""
    pids = sum(contestant.processes(), [])
    before = cpu_s(pids)
    end = iperf(contestant, ["-P", str(streams)], seconds, family)["sum_received"]
    ret = {name: end["bits_per_second"] / 1e9}
    if pids and end["bytes"]:
        ret[name + "_cpu"] = (cpu_s(pids) - before) / (end["bytes"] / 1e9)
    return ret


def ping(contestant, count):
    """Milliseconds of each reply, inside."""
    text = subprocess.run(_in(contestant.client, ["ping", "-n", "-c", str(count), "-i", str(PING_S), "-W", "1", contestant.to[4]]),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=count + 5).stdout.decode("utf-8", "replace")
    times = [float(t) for t in re.findall(r"time=([\d.]+) ms", text)]
    if not times:
        raise NoResult("no reply to ping")
    return times


def idle(contestant, count):
    """The tunnel at rest."""
    return {"ping_idle": statistics.median(ping(contestant, count))}


def loaded(contestant, seconds):
    """Four TCP streams and a ping beside them."""
    argv = _in(contestant.client, ["ping", "-n", "-i", str(PING_S), "-w", str(seconds + 5), contestant.to[4]])
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        try:
            time.sleep(PING_S / 2)
            began = time.time()
            ret = tcp(contestant, "tcp4", seconds, 4)
        finally:
            p.send_signal(2)
            text = p.communicate(timeout=10)[0].decode("utf-8", "replace")
    times = [float(t) for t in re.findall(r"time=([\d.]+) ms", text)]
    # iperf3 takes a moment to begin
    skip = int(0.2 / PING_S) if time.time() - began > 0.5 else 0
    if times[skip:]:
        ret["ping_load"] = statistics.median(times[skip:])
        ret["ping_load_worst"] = max(times[skip:])
    return ret


def udp_once(contestant, size, kpps, seconds):
    """(thousands of packets a second that arrived, loss in percent) at that many sent."""
    end = iperf(contestant, ["-u", "-l", str(size), "-b", "%d" % (kpps * 1000 * size * 8)], seconds)["sum"]
    if not end.get("packets"):
        raise NoResult("iperf3 has sent nothing")
    return (end["packets"] - end["lost_packets"]) / end["seconds"] / 1000, end["lost_percent"]


def _udp_try(contestant, size, rate, seconds, again):
    """As udp_once(); `again` where little was lost, since a hiccup of the machine loses as much."""
    for last in (not again, True):
        try:
            got, lost = udp_once(contestant, size, rate, seconds)
        except NoResult:
            got, lost = 0.0, 100.0
        if last or lost < LOSS_PERCENT or lost > 8 * LOSS_PERCENT:
            return got, lost
    return got, lost


def udp(contestant, name, size, steps, memory, seconds=1):
    """The most that arrived with less than LOSS_PERCENT lost: bisection, which goes on where the round before has ended."""
    low, high, best = 0.0, None, 0.0
    rate = memory.get(name, 60.0)
    for step in range(steps + 4):
        if step >= steps and best:      # only to find any rate at all it may go on
            break
        got, lost = _udp_try(contestant, size, rate, seconds, steps > 2)
        if lost < LOSS_PERCENT:
            best, low = max(best, got), rate
            if got < rate * 0.9:      # iperf3 cannot send more: the end of the scale
                break
        else:
            high = rate
        if high is None:
            rate = low * 1.4
        elif low:
            rate = (low + high) / 2
        else:
            rate = max(min(got, high / 1.25), high / 3)
    memory[name] = max(best, 1.0) * 1.05 if best else rate
    return {name: best} if best else {}


def flood(contestant, seconds):
    """UDP as fast as iperf3 sends: what arrives, and the memory of an end's processes, of the end with more: at most, of one process
    alone, and half a second after."""
    ends = contestant.processes()
    for pids in ends:
        forget_peak(pids)
    try:
        end = iperf(contestant, ["-u", "-l", "1200", "-b", "0"], seconds)["sum"]
        ret = {"flood": (end["packets"] - end["lost_packets"]) / end["seconds"] / 1000}
    except NoResult:
        ret = {}
    if any(ends):
        ret["rss_peak"] = max(resident(pids, True) for pids in ends)
        ret["rss_one"] = max(resident([pid], True) for pids in ends for pid in pids)
        time.sleep(0.5)
        ret["rss_after"] = max(resident(pids) for pids in ends)
    return ret
