# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
#
# A thin front of meson. Every target installs what it needs first (scripts/deps.sh).
SEEDS ?= 50
FUZZ_SECONDS ?= 60
GB ?= 10
BENCH ?=
PREFIX ?= /usr/local

.PHONY: all programs build-release build-asan build-fuzz demo test check lab interop test-kernel sim bench soak fuzz fuzz-cover lint install clean
all: build-release

build-release:
	@scripts/deps.sh build test
	@[ -f build/build.ninja ] || meson setup build --prefix=$(PREFIX)
	ninja -C build

# Only what is installed.
programs:
	@scripts/deps.sh build test
	@[ -f build/build.ninja ] || meson setup build --prefix=$(PREFIX)
	ninja -C build tieline tielined tieline-exchange libtieline.a

build-asan:
	@scripts/deps.sh build test
	@[ -f build-asan/build.ninja ] || meson setup build-asan -Dsanitize=true
	ninja -C build-asan

# Two homes behind NATs that call each other.
demo: programs
	@scripts/deps.sh lab
	scripts/demo.py

# Everything that a machine without internet can run.
test: build-release build-asan
	@scripts/deps.sh lab interop || echo "make test: what needs these packages is skipped, and says so"
	@scripts/deps.sh kernel || echo "make test: what needs these packages is skipped, and says so"
	tests/run

# The quick round.
check: build-release build-asan
	SEEDS=5 tests/run unit sim

lab: build-release build-asan
	@scripts/deps.sh lab
	tests/run lab

interop: build-release
	@scripts/deps.sh lab interop
	tests/run interop

# With the kernel's ESP: peers in user-mode-linux, our own two planes on a stock kernel in QEMU.
test-kernel: build-release
	@scripts/deps.sh interop kernel
	tests/run kernel

# The simulator over SEEDS seeds of every NAT pairing.
sim: build-release build-asan
	SEEDS=$(SEEDS) tests/run sim

# Figures of docs and notes: handshakes, cutting and merging, set-up time, memory, lines of code; the data plane beside other tunnels,
# with the options BENCH (--quick, --docs; docs/performance.md).
bench: build-release
	@scripts/deps.sh lab bench || echo "make bench: what needs these packages is left out, and named"
	build/tests/bench_handshake
	build/tests/bench_offload
	scripts/figures.py
	tests/bench/plane.py $(BENCH)

# GB of random data each way, with new keys and changes of path.
soak: build-release
	@scripts/deps.sh lab
	tests/bench/soak.py $(GB)

build-fuzz:
	@scripts/deps.sh build test fuzz
	@[ -f build-fuzz/build.ninja ] || CC=clang-14 meson setup build-fuzz -Dfuzz=true
	ninja -C build-fuzz

fuzz: build-fuzz
	scripts/fuzz.py run $(FUZZ_SECONDS)

# How much of its own files each fuzzer's corpus reaches.
fuzz-cover: build-fuzz
	scripts/fuzz.py cover

lint:
	@scripts/deps.sh lint test
	@[ -f build/build.ninja ] || meson setup build
	git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror
	git ls-files 'src/*.c' | xargs -n1 -P2 clang-tidy --quiet -p build

install: programs
	meson install -C build --no-rebuild

clean:
	rm -rf build build-asan build-fuzz build-peers
