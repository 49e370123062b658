#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Goes on where boot.sh ends: makes the wire and its RDMA devices, runs the command, and ends the machine.
# /run/softroce is a folder that `run` made for this one machine.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
job=/run/softroce

# wire ADDRESS0 ADDRESS1 PREFIX: what `ip` has to do. Left to itself the kernel keeps to itself what goes from one of
# its own addresses to another. So the routes over the wire are asked first for what is sent from here, or through an
# end of the wire (which is how rdma_cm asks whether there is a way back), and the table of own addresses next.
# Two network namespaces would be plainer, but rxe works in the first one alone.
wire() {
	cat <<-END
		address add $1/$3 dev v0
		address add $2/$3 dev v1
		route add $2 dev v0 src $1 table 100
		route add $1 dev v1 src $2 table 101
		rule add pref 10 iif lo to $2 lookup 100
		rule add pref 11 iif lo to $1 lookup 101
		rule add pref 12 oif v0 to $2 lookup 100
		rule add pref 13 oif v1 to $1 lookup 101
		rule add pref 100 lookup local
		rule del pref 0
	END
}

make_devices() {
	local end

	# An MTU of 4096, which is RDMA's largest, needs some more for the headers.
	ip link add v0 mtu 9000 type veth peer name v1 mtu 9000
	for end in all v0 v1; do
		# Packets that come from an address of our own are welcome; each end answers for its own address alone.
		echo 1 >/proc/sys/net/ipv4/conf/$end/accept_local
		echo 0 >/proc/sys/net/ipv4/conf/$end/rp_filter
		echo 1 >/proc/sys/net/ipv4/conf/$end/arp_ignore
		echo 2 >/proc/sys/net/ipv4/conf/$end/arp_announce
		# An IPv6 address is good at once, not after a second's look for another owner.
		echo 0 >/proc/sys/net/ipv6/conf/$end/accept_dad
	done
	{
		printf 'link set %s up\n' lo v0 v1
		wire 10.77.0.1 10.77.0.2 24
	} | ip -4 -batch -
	printf 'link add rxe%s type rxe netdev v%s\n' 0 0 1 1 | rdma -b -
	# Behind the devices: so IPv4 is the GID of index 1, where tools expect it.
	wire fd00:77::1 fd00:77::2 64 | ip -6 -batch -
}

# Ends what the command left running, but not the processes of these ids: it may hold the pipes open.
end_others() {
	local process

	for process in /proc/[0-9]*; do
		process=${process#/proc/}
		case " 1 $* " in
		*" $process "*) ;;
		*) kill -KILL "$process" 2>/dev/null ;;
		esac
	done
}

run_command() {
	local copies status

	# Through pipes: a port can be opened once, and /dev/stdout as often as a test likes.
	mkfifo /run/stdout /run/stderr
	cat /run/stdout >/dev/vport0p1 &
	copies=($!)
	cat /run/stderr >/dev/vport0p2 &
	copies+=($!)
	(
		set -e -o pipefail
		make_devices
		ulimit -l unlimited
		echo 1 >/proc/sys/vm/unprivileged_userfaultfd
		# As docs/rdma.md tells for hosts that take guests in.
		echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled
		echo 1 >/sys/devices/system/cpu/cpu1/online
		echo begun >$job/status
		bash $job/command
	) </dev/null >/run/stdout 2>/run/stderr
	status=$?
	end_others "${copies[@]}"
	wait
	[ ! -e $job/status ] || echo $status >$job/status
}

run_command
sync
# QEMU ends when the machine restarts; an orderly shutdown has nothing left to save.
echo b >/proc/sysrq-trigger
