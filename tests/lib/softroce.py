# SPDX-License-Identifier: BSD-2-Clause
"""The wire of tests/softroce/run, for tests that run in that machine: its ends, its counters, and how it is cut."""

import collections
import os
import re
import subprocess

from cases import Skip, check

ADDRESSES = {"ipv4": ("10.77.0.1", "10.77.0.2"), "ipv6": ("fd00:77::1", "fd00:77::2")}
NEAR, FAR = ADDRESSES["ipv4"]
ENDS = ("v0", "v1")
PACKET_BYTES = 4096  # of memory, at most


def output_of(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode == 0, f"{' '.join(argv)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def only_there(table):
    """The cases of @table, each of which is skipped in any other machine."""
    def guarded(function):
        def case():
            if "FERRY_SOFTROCE" not in os.environ:
                raise Skip("no wire of soft-RoCE here: tests/softroce/run makes one")
            function()
        return case
    return [(name, guarded(function)) for name, function in table]


def read_counter(path):
    with open(path, encoding="utf-8") as counter:
        return int(counter.read())


def sent(end):
    """What v0 or v1 has put on the wire, in bytes."""
    return read_counter(f"/sys/class/net/{end}/statistics/tx_bytes")


def packets(device):
    """Those of RDMA that rxe0 or rxe1 has sent."""
    return read_counter(f"/sys/class/infiniband/{device}/ports/1/hw_counters/sent_pkts")


class Cutter:
    """Cuts the wire, both ways: nothing arrives at either end, until heal(). The links stay up: rxe connects no more once
    it had to say something on a link that is down. Made before it is needed, since a process takes long to start while
    the emulated machine is busy."""

    def __enter__(self):
        self.whole = True
        self.tc = subprocess.Popen(("tc", "-force", "-batch", "-"), stdin=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exception):
        self.heal()
        self.tc.communicate(timeout=60)

    def _change(self, verb, rest=""):
        self.tc.stdin.write("".join(f"qdisc {verb} dev {end} root {rest}\n" for end in ENDS))
        self.tc.stdin.flush()

    def cut(self):
        self.whole = False
        self._change("add", "netem loss 100%")

    def heal(self):
        if not self.whole:
            self._change("del")
        self.whole = True


def holdings(monitor):
    """What its descriptors are, each with its count. librdmacm opens a device once, and keeps it for the process's life:
    so a device with its queue of events, once, is left out."""
    held = collections.Counter()
    for number in monitor.descriptors():
        try:
            held[re.sub(r"\d+\]$", "", os.readlink(f"/proc/{monitor.pid}/fd/{number}"))] += 1
        except FileNotFoundError:
            continue
    for device in [name for name in held if name.startswith("/dev/infiniband/uverbs")]:
        held.subtract((device, "anon_inode:[infinibandevent]"))
    return +held
