# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
#
# A thin front of meson. Every target installs what it needs first (scripts/deps.sh).
FUZZ_SECONDS ?= 60

.PHONY: all build-release build-asan build-fuzz test check fuzz fuzz-cover lint clean
all: build-release

build-release:
	@scripts/deps.sh build test
	@[ -f build/build.ninja ] || meson setup build
	ninja -C build

build-asan:
	@scripts/deps.sh build test
	@[ -f build-asan/build.ninja ] || meson setup build-asan -Dsanitize=true
	ninja -C build-asan

# Everything that a machine without internet can run.
test: build-release build-asan
	tests/run

# The quick round.
check: build-asan
	tests/run unit

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
	git ls-files 'src/*.c' | xargs clang-tidy --quiet -p build

clean:
	rm -rf build build-asan build-fuzz
