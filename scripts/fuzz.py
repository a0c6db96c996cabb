#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""fuzz.py run SECONDS [TARGET...]: the libFuzzer targets of build-fuzz/ for that long, two at a time; exit 1 on a crash. What is
found stays in build-fuzz/found/TARGET, where the next run takes it up.
fuzz.py cover: the lines that each target's corpus reaches in the files that the target names in its
"covers: src/base/conf.c ..." comment."""
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build-fuzz/tests/fuzz")


def targets():
    for path in sorted(glob.glob(BUILD + "/fuzz_*")):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield os.path.basename(path)[len("fuzz_"):], path


def run_one(name, path, seconds):
    work = tempfile.mkdtemp(prefix="fuzz-" + name)
    env = dict(os.environ, LLVM_PROFILE_FILE=os.path.join(work, "profile"))
    new = os.path.join(ROOT, "build-fuzz/found", name)
    os.makedirs(new, exist_ok=True)
    done = subprocess.run([path, "-max_total_time=%d" % seconds, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
                           "-artifact_prefix=%s/build-fuzz/crash-%s-" % (ROOT, name), new,
                           os.path.join(ROOT, "tests/fuzz/corpus", name)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, check=False)
    output = done.stdout.decode("utf-8", "replace")
    shutil.rmtree(work)
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
    print("%-20s %10s runs  %s" % (name, runs.group(1) if runs else "?", "FAILED" if done.returncode else "ok"), flush=True)
    if done.returncode:
        print(output[-4000:])
    return done.returncode == 0


def cover_one(name, path):
    with open(os.path.join(ROOT, "tests/fuzz/fuzz_%s.c" % name), encoding="utf-8") as f:
        files = re.search(r"covers:\s*([^*]*)\*", f.read()).group(1).split()
    with tempfile.TemporaryDirectory() as work:
        raw, merged = os.path.join(work, "raw"), os.path.join(work, "merged")
        subprocess.run([path, "-runs=0", os.path.join(ROOT, "tests/fuzz/corpus", name)], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, env=dict(os.environ, LLVM_PROFILE_FILE=raw))
        subprocess.run(["llvm-profdata-14", "merge", "-o", merged, raw], check=True)
        text = subprocess.run(["llvm-cov-14", "export", "-summary-only", "-instr-profile", merged, path],
                              check=True, stdout=subprocess.PIPE).stdout
    lines = [f["summary"]["lines"] for f in json.loads(text)["data"][0]["files"]
             if any(f["filename"].endswith("/" + wanted) for wanted in files)]
    covered, count = sum(n["covered"] for n in lines), sum(n["count"] for n in lines)
    print("%-20s %5.1f %% of %5d lines  %s" % (name, 100 * covered / max(count, 1), count, " ".join(files)))


def main():
    found = [t for t in targets() if not sys.argv[3:] or t[0] in sys.argv[3:]]
    if not found:
        print("fuzz.py: no such targets in build-fuzz/; `make fuzz` builds them")
        return 1
    if sys.argv[1:2] == ["cover"]:
        for name, path in found:
            cover_one(name, path)
        return 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        good = list(pool.map(lambda t: run_one(t[0], t[1], int(sys.argv[2])), found))
    return 0 if all(good) else 1


sys.exit(main())
