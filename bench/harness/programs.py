# SPDX-License-Identifier: BSD-2-Clause
"""How each program that is measured is started: its command line, from a few checked parameters, since they may come
from the other host. A folder in memory is its own; its monitor listens there as qmp."""

import contextlib
import glob
import os
import re
import shutil

from common import MIB, Missing, fill_file

SETTING = re.compile(r"[a-z0-9-]+=[A-Za-z0-9-]*")
WORKLOAD = re.compile(r"idle|(sweep|random|hotset:[0-9]+[KMG]):[0-9]+")
GUESTS = {"process": ["--process"], "kvm": ["--kvm"], "auto": []}


def need(program, package):
    found = shutil.which(program)
    if not found:
        raise Missing(f"not installed: apt-get install {package}")
    return found


def check(condition, what):
    if not condition:
        raise ValueError(what)


def has_room(folder, wanted):
    free = shutil.disk_usage(folder).free
    if free < wanted + (128 << 20):
        raise Missing(f"{folder} has {free >> 20} MiB free, and {wanted >> 20} MiB are needed: take less --ram")


def ferry(host, folder, ram, incoming=False, workload="idle", fill="pages", guest="process", prealloc=False,
          settings=(), beat_us=5000, seed=7):
    check(WORKLOAD.fullmatch(workload) and all(SETTING.fullmatch(setting) for setting in settings),
          f"no such workload or setting: {workload} {settings}")
    check(fill in ("pages", "random", "zero", "sparse"), f"no such fill: {fill}")
    argv = [host.ferry, "run", *GUESTS[guest], "--ram", f"{int(ram) // MIB}M", "--seed", str(int(seed)),
            "--beat-interval", str(int(beat_us)), "--qmp", f"unix:{folder}/qmp"]
    for setting in settings:
        argv += ["--set", setting]
    if prealloc:
        argv.append("--prealloc")
    if incoming:
        return argv + ["--incoming", "defer"]
    return argv + ["--workload", workload, "--fill", fill]


def qemu(host, folder, ram, incoming=False, fill="random", prealloc=False):
    """A guest that does not run: what it has in RAM is all there is to move."""
    program = need("qemu-system-x86_64", "qemu-system-x86")
    has_room(folder, ram)
    memory = os.path.join(folder, "ram")
    fill_file(memory, ram, "zero" if incoming else fill)
    argv = [program, "-nodefaults", "-display", "none", "-S", "-m", f"{int(ram) // MIB}M", "-object",
            f"memory-backend-file,id=ram,size={int(ram)},mem-path={memory},share=on,"
            f"prealloc={'on' if prealloc else 'off'}",
            "-machine", "q35,memory-backend=ram,accel=tcg", "-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
    return argv + (["-incoming", "defer"] if incoming else [])


def iperf3(host, folder, port):
    return [need("iperf3", "iperf3"), "-s", "-1", "-B", host.address, "-p", str(int(port))]


def find_device(address):
    """(device, GID index) of an address, RoCE v2 where there is a choice."""
    if ":" in address:
        raise Missing(f"ib_write_bw is run for IPv4 addresses alone, not for {address}")
    wanted = "0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x" % tuple(int(part) for part in address.split("."))
    found = None
    for path in glob.glob("/sys/class/infiniband/*/ports/1/gids/*"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as gid:
            if gid.read().strip() != wanted:
                continue
            index = os.path.basename(path)
            with open(os.path.join(os.path.dirname(path), "..", "gid_attrs", "types", index), encoding="ascii") as kind:
                if found is None or "v2" in kind.read():
                    found = path.split("/")[4], int(index)
    if not found:
        raise Missing(f"no RDMA device has the address {address}")
    return found


def write_bw(address, port, queue_pairs, size, count):
    """Either end of ib_write_bw."""
    device, gid = find_device(address)
    return [need("ib_write_bw", "perftest"), "-F", "-d", device, "-x", str(gid), "-p", str(int(port)),
            "-q", str(int(queue_pairs)), "-s", str(int(size)), "-n", str(int(count))]


def ib_write_bw(host, folder, port, queue_pairs, size, count):
    return write_bw(host.address, port, queue_pairs, size, count)


KINDS = {"ferry": ferry, "qemu": qemu, "iperf3": iperf3, "ib_write_bw": ib_write_bw}
MONITORED = {"ferry", "qemu"}
