# SPDX-License-Identifier: BSD-2-Clause
"""A QEMU whose guest counts, ferry receive, and the guest at rest in between. The command under test is argv[1]."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import counting_guest
from qemu import Qemu
from cases import check, wait_for
from ferry import Process

FERRY = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FERRY", "ferry")

# Not a multiple of 256 KiB: QEMU 7.2's TCG loses dirty pages of such a block.
RAM = "131064K"
STEPS = 66  # of the guest until every page of its window was written and checked again


class Place:
    """A directory in memory for one case, with its guest image. @busy: it writes all of its window anew, again and
    again, faster than any round."""

    def __init__(self, busy=False):
        self.busy = busy

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="ferry-interop-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.kernel = self.file("guest.bin")
        with open(self.kernel, "wb") as image:
            image.write(counting_guest.image(*([0x20000] if self.busy else [])))
        return self

    def __exit__(self, *exception):
        shutil.rmtree(self.path)

    def file(self, name):
        return os.path.join(self.path, name)

    def qemu(self, name, machine, *more, ram=RAM):
        """A guest whose RAM is the file NAME.ram."""
        return Qemu(self.file(name), "-machine", f"{machine},memory-backend=m", "-m", ram,
                    "-object", f"memory-backend-file,id=m,size={ram},share=on,mem-path={self.ram(name)}",
                    "-kernel", self.kernel, *more)

    def ram(self, name):
        return self.file(name + ".ram")


class Receiver:
    """ferry receive, listening."""

    def __init__(self, place, uri, name, *options):
        self.directory = place.file(name)
        self.command = Process([FERRY, "receive", *options, uri, self.directory])
        self.uri = self.command.wait_line("listening on ")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.command.stop()

    def finish(self):
        return self.command.wait(), "\n".join(self.command.output)


def ferry(*arguments):
    done = subprocess.run([FERRY, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def wait_steps(qemu, more=STEPS):
    """Until the guest went on by so many steps; returns its counter."""
    seen = counting_guest.lines(qemu.serial_path)
    goal = (seen[-1][0] if seen else 0) + more

    def reached():
        now = counting_guest.lines(qemu.serial_path)
        return now and now[-1][0] >= goal and now

    now = wait_for(reached, f"the guest's step {goal}")
    check(all(good for _, good in now), "the guest found a page that it had not left so")
    return now[-1][0]


def same_file(one, other):
    return subprocess.run(["cmp", one, other], capture_output=True, text=True)


def live(source, destination, rounds, slow=False):
    """So many rounds at least; @slow: the later ones, whose pages are small, so that the guest comes to write in them. Of
    those that QEMU finds small enough one may be the last, wherever the guest got no processor meanwhile."""

    def reached(round_, may_end):
        found = source.qmp("query-migrate")
        ended = found.get("status") in ("completed", "failed")
        check(not ended or (may_end and found["status"] == "completed"),
              f"over before round {round_}: {found}, {destination}")
        return ended or found.get("ram", {}).get("dirty-sync-count", 0) >= round_

    wait_for(lambda: reached(3 if slow else rounds, False), f"round {3 if slow else rounds}")
    if slow:
        source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 20})
        wait_for(lambda: reached(rounds, True), f"round {rounds}")


def let_go(source):
    """Lets a migration end that must not before. QEMU takes encoded bytes for its bandwidth and whole pages for what is
    left, so on a busy machine pages that encode well never come under a short limit."""
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 33, "downtime-limit": 60000})


def receive_from(source, place, uri, name, rounds=1, options=(), bandwidth=64 << 20, said=None,
                 slow=False):
    """A live migration of so many rounds at least into ferry receive, whose words go to the list @said. The source
    stands still afterwards."""
    with Receiver(place, uri, name, *options) as receiver:
        source.qmp("migrate-set-parameters", **{"max-bandwidth": bandwidth if rounds > 1 else 1 << 33,
                                                "downtime-limit": 1 if rounds > 1 else 300})
        source.qmp("migrate", uri=receiver.uri)
        if rounds > 1:
            live(source, receiver.command.output, rounds, slow)
            let_go(source)
        check(source.migration_end() == "completed", f"the migration failed: {source.log()}{receiver.command.output}")
        status, text = receiver.finish()
        check(status == 0, f"receive failed: {text}")
        if said is not None:
            said.append(text)
    compared = same_file(place.ram("source"), main_ram(receiver.directory))
    check(compared.returncode == 0, f"RAM differs: {compared.stdout}{compared.stderr}")
    return receiver.directory


def main_ram(directory):
    """The file of the largest block; its name depends on the machine type."""
    with open(os.path.join(directory, "map.json")) as file:
        blocks = json.load(file)["ram"]["blocks"]
    return os.path.join(directory, max(blocks, key=lambda block: block["size"])["file"])


def last_step(qemu):
    return counting_guest.lines(qemu.serial_path)[-1][0]


def replay(place, directory, machine, last, uri, *more, expected="running"):
    """ferry send into a fresh QEMU, whose guest goes on from the last step."""
    with place.qemu("destination", machine, "-incoming", uri, *more) as destination:
        status, out, err = ferry("send", directory, uri)
        check(status == 0, f"send failed: {err}{destination.log()}")
        check("has loaded the guest" in out, f"send said {out}")
        wait_for(lambda: destination.status() == expected, f"a guest that is {expected}")
        if expected != "running":
            destination.qmp("cont")
        wait_steps(destination)
        first = counting_guest.lines(destination.serial_path)[0][0]
        check(last <= first <= last + 2, f"the guest stood at step {last} and went on at {first}")
    os.unlink(place.ram("destination"))
