#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
#
# deps.sh [build|test|lab|interop|fuzz|bench|lint]...   installs the Debian packages that a step needs (default: build).
# What each is for: docs/dependencies.md. Does nothing, and needs no privileges, when all are there.
set -eu

build="gcc libc6-dev meson ninja-build pkg-config libssl-dev libevent-dev libjansson-dev libmnl-dev libseccomp-dev
	libcap-ng-dev"
test="libcmocka-dev python3"
lab="iproute2 nftables procps util-linux python3"
fuzz="clang libclang-rt-14-dev llvm-14"
bench="openssl"
lint="clang-format clang-tidy python3"
interop="iputils-ping openssl strongswan-charon strongswan-swanctl libstrongswan-standard-plugins
	libstrongswan-extra-plugins libcharon-extra-plugins kamailio coturn python3-aioice tshark"

want=""
for set in "${@:-build}"; do
	case $set in
	build) want="$want $build" ;;
	test) want="$want $build $test" ;;
	lab) want="$want $lab" ;;
	interop) want="$want $lab $interop" ;;
	fuzz) want="$want $build $fuzz" ;;
	bench) want="$want $bench" ;;
	lint) want="$want $build $lint" ;;
	*) echo "deps.sh: unknown set \"$set\"; expected build, test, lab, interop, fuzz, bench or lint" >&2; exit 2 ;;
	esac
done

missing=""
for package in $want; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: these packages are missing, run as root or install them:$missing" >&2
	exit 1
fi

# A server that comes as a dependency must not start on a user's machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' > "$policy"
	chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
for try in 1 2 3; do
	# shellcheck disable=SC2086  # a list of words
	if apt-get update -q && apt-get install -q -y --no-install-recommends $missing; then
		exit 0
	fi
	echo "deps.sh: try $try of 3 failed" >&2
	sleep $((try * 2))
done
echo "deps.sh: could not install:$missing" >&2
exit 1
