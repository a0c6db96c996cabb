#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The tieline authors
#
# deps.sh [build|test|lab|interop|kernel|fuzz|bench|lint]...   installs the Debian packages that a step needs (default: build).
# What each is for: docs/dependencies.md. Does nothing, and needs no privileges, when all are there.
# `kernel` also unpacks, without installing them, two packages that exclude strongSwan's and a kernel that this machine is not to boot: into
# build-peers/PACKAGE.
set -eu

build="gcc libc6-dev meson ninja-build pkg-config libssl-dev libevent-dev libjansson-dev libmnl-dev libseccomp-dev
	libcap-ng-dev"
# amd64 alone has it
[ "$(dpkg --print-architecture)" != amd64 ] || build="$build libipsec-mb-dev"
test="libcmocka-dev python3"
lab="iproute2 nftables procps util-linux python3"
fuzz="clang libclang-rt-14-dev llvm-14"
strongswan="strongswan-charon strongswan-swanctl libstrongswan-standard-plugins libstrongswan-extra-plugins libcharon-extra-plugins"
bench="openssl iperf3 ethtool iputils-ping wireguard-go wireguard-tools $strongswan"
lint="clang-format clang-tidy python3"
interop="iputils-ping openssl $strongswan kamailio coturn python3-aioice tshark"
kernel="user-mode-linux libnss3-tools libcurl3-nss libldns3 libunbound8 libevent-2.1-7 libevent-pthreads-2.1-7 libldap-2.5-0
	libpam0g libaudit1 libselinux1"
unpacked="libreswan openiked"
# one architecture's machine, whose kernel is a package of this name's dependency
[ "$(dpkg --print-architecture)" != amd64 ] || kernel="$kernel qemu-system-x86" unpacked="$unpacked linux-image"
peers=$(dirname "$0")/../build-peers

want="" unpack=""
for set in "${@:-build}"; do
	case $set in
	build) want="$want $build" ;;
	test) want="$want $build $test" ;;
	lab) want="$want $lab" ;;
	interop) want="$want $lab $interop" ;;
	kernel) want="$want $lab $kernel" unpack=$unpacked ;;
	fuzz) want="$want $build $fuzz" ;;
	bench) want="$want $bench" ;;
	lint) want="$want $build $lint" ;;
	*) echo "deps.sh: unknown set \"$set\"; expected build, test, lab, interop, kernel, fuzz, bench or lint" >&2; exit 2 ;;
	esac
done

missing=""
for package in $want; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
absent=""
for package in $unpack; do
	[ -d "$peers/$package" ] || absent="$absent $package"
done
[ -n "$missing$absent" ] || exit 0
if [ -n "$missing" ] && [ "$(id -u)" != 0 ]; then
	echo "deps.sh: these packages are missing, run as root or install them:$missing" >&2
	exit 1
fi

policy=/usr/sbin/policy-rc.d
made="" work=""
clean() {
	[ -z "$made" ] || rm -f "$policy"
	[ -z "$work" ] || rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
# A server that comes as a dependency must not start on a user's machine.
if [ -n "$missing" ] && [ ! -e "$policy" ]; then
	made=yes
	printf '#!/bin/sh\nexit 101\n' > "$policy"
	chmod 755 "$policy"
fi

# The contents of packages, without installing them. What is there afterwards is whole.
unpack() {
	for package in "$@"; do
		[ ! -d "$peers/$package" ] || continue
		mkdir -p "$peers"
		work=$(mktemp -d "$peers/.new.XXXXXX") || return 1
		name=$package
		[ "$package" != linux-image ] || name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *\(linux-image-\)/\1/p' | head -n 1)
		(cd "$work" && apt-get download -q "$name" && dpkg-deb -x ./*.deb root) || return 1
		mv "$work/root" "$peers/$package" || return 1
		rm -rf "$work"
		work=""
	done
}

export DEBIAN_FRONTEND=noninteractive
for try in 1 2 3; do
	# shellcheck disable=SC2086  # lists of words
	if { [ "$(id -u)" != 0 ] || apt-get update -q; } &&
	    { [ -z "$missing" ] || apt-get install -q -y --no-install-recommends $missing; } && unpack $absent; then
		exit 0
	fi
	echo "deps.sh: try $try of 3 failed" >&2
	sleep $((try * 2))
done
echo "deps.sh: could not install:$missing$absent" >&2
exit 1
