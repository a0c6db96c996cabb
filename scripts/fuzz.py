#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
"""fuzz.py run SECONDS [TARGET...]: the libFuzzer targets of build-fuzz/ for that long, two at a time; exit 1 on a crash. What is
found stays in build-fuzz/found/TARGET, where the next run takes it up.
fuzz.py merge [TARGET...]: adds to each corpus the files of build-fuzz/found that reach code which it does not, as long as it has at
most 40 files of at most 4 KiB.
fuzz.py cover [TARGET...]: the lines that each target's corpus reaches in the files that the target names in its
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
FILES_MAX, BYTES_MAX = 40, 4096
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


def edges_of(path, dirs, work):
    """{file: the edges that it reaches}, from the control file of libFuzzer's merge (which, by set cover, names all that each file reaches)."""
    control, nothing = os.path.join(work, "control"), os.path.join(work, "nothing")
    os.mkdir(nothing)
    subprocess.run([path, "-set_cover_merge=1", "-use_counters=0", "-timeout=20", "-merge_control_file=" + control, nothing] + dirs, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, LLVM_PROFILE_FILE=os.path.join(work, "raw")))
    with open(control, encoding="utf-8") as f:
        lines = f.read().splitlines()
    names = lines[2:2 + int(lines[0])]
    reached = (line.split() for line in lines if line.startswith("FT "))
    return {names[int(words[1])]: set(words[2:]) for words in reached}


def merge_one(name, path):
    corpus, found = os.path.join(ROOT, "tests/fuzz/corpus", name), os.path.join(ROOT, "build-fuzz/found", name)
    with tempfile.TemporaryDirectory() as work:
        edges = edges_of(path, [d for d in (corpus, found) if os.path.isdir(d)], work)
    kept = [f for f in edges if f.startswith(corpus + "/")]
    have = set().union(*(edges[f] for f in kept))
    small = [f for f in edges if f not in kept and os.path.getsize(f) <= BYTES_MAX]
    while small and len(kept) < FILES_MAX:
        best = max(small, key=lambda f: (len(edges[f] - have), -os.path.getsize(f)))
        if edges[best] <= have:
            break
        base = os.path.basename(best)
        shutil.copy(best, os.path.join(corpus, base[:12] if re.fullmatch("[0-9a-f]{40}", base) else base))
        kept.append(best)
        have |= edges[best]
    print("%-20s %3d files, %d of %d edges" % (name, len(kept), len(have), len(set().union(*edges.values()))), flush=True)


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
    wanted = sys.argv[3:] if sys.argv[1:2] == ["run"] else sys.argv[2:]
    found = [t for t in targets() if not wanted or t[0] in wanted]
    if not found:
        print("fuzz.py: no such targets in build-fuzz/; `make fuzz` builds them")
        return 1
    if sys.argv[1:2] in (["cover"], ["merge"]):
        for name, path in found:
            (cover_one if sys.argv[1] == "cover" else merge_one)(name, path)
        return 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        good = list(pool.map(lambda t: run_one(t[0], t[1], int(sys.argv[2])), found))
    return 0 if all(good) else 1


sys.exit(main())
