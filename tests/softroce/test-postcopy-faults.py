#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What breaks while the pages of a running guest go by RDMA: both sides pause, and go on, by RDMA or without. In the
machine of tests/softroce/run. Usage: test-postcopy-faults.py FERRY [SUBSTRING-OF-CASES]"""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Place, check_arrived
from softroce import FAR, Cutter, only_there

KIND = "--process"
RAM = "32M"
MIB = 1 << 20
PAUSE_S = 30


class Scene:
    """A guest that was switched over, and whose pages trickle by RDMA. @pull: the destination reads them."""

    def __init__(self, pull):
        self.pull = pull
        self.port = 4470

    def __enter__(self):
        self.place = Place().__enter__()
        try:
            self._reach()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        self.place.__exit__(*exception)

    def _reach(self):
        self.uri = f"rdma:{FAR}:{self.port}"
        self.destination = self.place.monitor("destination", KIND, "--incoming", self.uri, ram=RAM)
        self.source = self.place.monitor("source", KIND, "--workload", "random:5", ram=RAM)
        self.source.capability("postcopy-ram", True)
        self.source.capability("rdma-postcopy-pull", self.pull)
        for monitor in self.source, self.destination:
            monitor.set(max_postcopy_bandwidth=2 * MIB)
        self.source.set(max_bandwidth=8 * MIB)
        self.begin = time.monotonic()
        self.source.call("migrate", uri=self.uri)
        self.source.wait_state("active")
        self.source.call("migrate-start-postcopy")
        wait_for(self.is_under_way, lambda: f"the switch: {self.source.migration()}")
        mode = self.source.migration()["postcopy"]["mode"]
        check(mode == ("pull" if self.pull else "push"), f"the pages go by {mode}")

    def is_under_way(self):
        return self.source.state() == self.destination.state() == "postcopy-active"

    def wait_paused(self):
        for monitor in self.source, self.destination:
            wait_for(lambda: monitor.state() == "postcopy-paused",
                     lambda: f"{monitor.name} to pause: {monitor.migration()}", PAUSE_S)
            print(f"# {monitor.name}: {monitor.migration()['error-desc']}")
            check(monitor.migration()["postcopy"]["pauses"] == 1, f"{monitor.migration()}")

    def move(self, scheme):
        """The destination listens elsewhere."""
        self.port += 1
        self.uri = f"{scheme}:{FAR}:{self.port}"
        self.destination.call("migrate-recover", uri=self.uri)

    def recover(self, transport):
        since = self.source.mark()
        self.source.call("migrate", uri=self.uri, resume=True)
        wait_for(self.is_under_way, lambda: f"to go on: {self.source.migration()}", PAUSE_S)
        check(self.source.migration()["transport"] == transport, f"{self.source.migration()}")
        for monitor in self.source, self.destination:
            monitor.set(max_postcopy_bandwidth=0)
        _, state = self.source.wait_state("completed", "postcopy-paused", since=since)
        check(state == "completed", f"paused again: {self.source.migration()}")
        wait_for(lambda: self.destination.state() == "completed", lambda: f"{self.destination.migration()}")
        check_arrived(self.source, self.destination, self.begin)
        there = self.destination.migration()["postcopy"]
        check(there["missing-pages"] == there["repeated-pages"] == 0, f"{there}")


def wire_cut(pull):
    def case():
        with Cutter() as wire, Scene(pull) as scene:
            wire.cut()
            scene.wait_paused()
            wire.heal()
            scene.recover("rdma")
    return case


def recovered_by_tcp(pull):
    """What began by RDMA ends without it."""
    def case():
        with Scene(pull) as scene:
            scene.source.call("migrate-pause")
            scene.wait_paused()
            scene.move("tcp")
            scene.recover("tcp")
    return case


def source__stopped__recovered_by_rdma():
    with Scene(True) as scene:
        scene.source.signal(signal.SIGSTOP)
        wait_for(lambda: scene.destination.state() == "postcopy-paused", "the destination to notice", PAUSE_S)
        scene.source.signal(signal.SIGCONT)
        scene.wait_paused()
        scene.recover("rdma")


def table():
    for pull, name in (False, "pushed"), (True, "pulled"):
        yield f"wire__cut_while_pages_are_{name}__recovered", wire_cut(pull)
        yield f"pages__{name}_by_rdma__recovered_by_tcp", recovered_by_tcp(pull)
    yield source__stopped__recovered_by_rdma.__name__, source__stopped__recovered_by_rdma


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(only_there(table()), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
