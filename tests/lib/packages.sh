# SPDX-License-Identifier: BSD-2-Clause
# What Ferry needs from Debian, in one place: sourced by ./check and ./quickstart.
# shellcheck shell=bash disable=SC2034

build_packages=(gcc libc6-dev meson ninja-build pkg-config python3
	libglib2.0-dev libjson-glib-dev libxxhash-dev zlib1g-dev libzstd-dev systemtap-sdt-dev
	libibverbs-dev librdmacm-dev)
# libubsan1 and the like come with gcc; g++ is for the test that C++ can include the headers.
test_packages=(g++ libcunit1-dev clang-format binutils git groff-base spin procps util-linux)
# Tests that need one of these say SKIP, and why, where it cannot be installed.
peer_packages=(qemu-system-x86)
# gnuplot draws the charts of a bench's report; iperf3 is a peer of its TCP.
bench_packages=(gnuplot-nox iperf3)
# What tests/softroce/run needs here, and what the tests use in its machine, which has this host's files.
softroce_packages=(qemu-system-x86 cpio kmod util-linux iproute2
	rdma-core ibverbs-providers ibverbs-utils rdmacm-utils perftest)

# Prints those of its arguments that are not installed.
missing_packages() {
	local name

	for name in "$@"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
			echo "$name"
	done
}

# The words to put before apt-get, or an error where there is no way.
become_root() {
	if [ "$(id -u)" = 0 ]; then
		echo env
	elif command -v sudo >/dev/null; then
		echo sudo
	else
		return 1
	fi
}

# install_packages NAME...: quick and silent when all is there; else says what it installs.
install_packages() {
	local missing root log status=0

	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! command -v apt-get >/dev/null; then
		echo "This needs a Debian (or the equivalent of these packages): ${missing[*]}" >&2
		return 1
	fi
	if ! root=$(become_root); then
		echo "Not root, and no sudo. As root, run:" >&2
		echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
		return 1
	fi
	echo "Installing from Debian: ${missing[*]}"
	log=$(mktemp)
	{
		$root apt-get -q update &&
			$root env DEBIAN_FRONTEND=noninteractive apt-get -qy \
				-o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
	} </dev/null >"$log" 2>&1 || status=1
	if [ $status != 0 ]; then
		echo "apt-get failed:" >&2
		tail -n 15 "$log" >&2
	fi
	rm -f "$log"
	return $status
}
