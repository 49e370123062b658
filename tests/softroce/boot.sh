#!/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
# The first process in the machine: mounts the host's files, with memory over them that takes every write,
# and goes on there in inside.sh. Whatever busybox can do is done here: it starts ten times as fast.

share() {
	/busybox mount -t 9p -o "trans=virtio,version=9p2000.L,msize=500000,$3" "$1" "$2"
}

/busybox mkdir -p /dev /proc /sys /host /memory /root
/busybox mount -t devtmpfs dev /dev
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
for module in /modules/*; do
	/busybox insmod "$module"
done

share host /host cache=loose,ro
/busybox mount -t tmpfs memory /memory
/busybox mkdir /memory/upper /memory/work
/busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root

for place in dev proc sys; do
	/busybox mount --move /$place /root/$place
done
/busybox mount -t tmpfs run /root/run
/busybox mkdir -p /root/run/softroce /root/dev/shm /root/dev/pts /root/lib/modules
/busybox mount -t tmpfs shm /root/dev/shm
/busybox mount -t devpts pts /root/dev/pts
for link in fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
	/busybox ln -s "/proc/self/${link#*:}" "/root/dev/${link%:*}"
done

# Where the host reads along, it must see every write at once.
job=/root/run/softroce
share job $job cache=mmap
/busybox mount --bind "/root$(/busybox readlink $job/modules)" /root/lib/modules
if [ -L $job/results ]; then
	share results "/root$(/busybox readlink $job/results)" cache=mmap
fi

exec /busybox switch_root /root /bin/bash /run/softroce/inside.sh
