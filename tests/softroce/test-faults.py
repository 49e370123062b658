#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What breaks while pages go by RDMA: the side that is left notices, keeps or drops the guest, holds nothing of it, and
can start over. In the machine of tests/softroce/run. Usage: test-faults.py FERRY [SUBSTRING-OF-CASES]"""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Place, check_arrived
from softroce import FAR, Cutter, holdings, only_there, output_of

KIND = "--process"
RAM = "64M"
MIB = 1 << 20
BANDWIDTH = 8 * MIB  # so that it stays active for some seconds

# Whatever happens is to be noticed within 2 s. What comes on top is for a machine that is emulated, and often starved.
NOTICED_MS = 2000 + 500
# Likewise 100 ms, as in test-processes.py; and one of three tries has to be so quick.
CANCEL_MS = 100 + 100
CANCEL_TRIES = 3


class Scene:
    """A busy guest on its way, in active, with pages under way by RDMA. @before: what each side held before."""

    def __enter__(self):
        self.port = 4460
        self.place = Place().__enter__()
        try:
            self.destination = self.place.monitor("destination", KIND, "--incoming", "defer", ram=RAM)
            self.source = self.place.monitor("source", KIND, "--workload", "random:5", ram=RAM)
            self.before = {monitor: self.footprint(monitor) for monitor in self.place.monitors}
            self.reach_active()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        self.place.__exit__(*exception)

    @staticmethod
    def footprint(monitor):
        return holdings(monitor), monitor.threads()

    def listen(self, monitor):
        """At a port of its own: connections of an earlier try may still be there."""
        self.port += 1
        monitor.call("migrate-incoming", uri=f"rdma:{FAR}:{self.port}")
        return f"rdma:{FAR}:{self.port}"

    def reach_active(self):
        self.source.set(max_bandwidth=BANDWIDTH)
        since = {monitor: monitor.mark() for monitor in (self.source, self.destination)}
        self.source.call("migrate", uri=self.listen(self.destination))
        for monitor, mark in since.items():
            monitor.wait_state("active", since=mark)
        wait_for(lambda: self.source.migration()["ram"]["transferred"] > 2 * MIB, "pages to go")
        check(self.source.migration()["transport"] == "rdma", f"it is no RDMA: {self.source.migration()}")

    def check_noticed(self, monitor, begin, *words):
        """The migration failed at @monitor soon after @begin, seconds of time.time(), for a reason with these words."""
        _, event = monitor.qmp.wait_event(
            lambda event: event["event"] == "MIGRATION" and event["data"]["status"] == "failed", f"{monitor.name} to fail")
        stamp = event["timestamp"]
        took = (stamp["seconds"] + stamp["microseconds"] / 1e6 - begin) * 1000
        reason = monitor.migration()["error-desc"]
        print(f"# {monitor.name} noticed in {took:.0f} ms: {reason}")
        check(took <= NOTICED_MS, f"{monitor.name} noticed after {took:.0f} ms")
        check(any(word in reason for word in words), f"{monitor.name} gives no such reason as {words}: {reason}")

    def check_holds_nothing(self, monitor):
        first = self.before[monitor]
        wait_for(lambda: self.footprint(monitor) == first,
                 lambda: f"{monitor.name} to hold {first} again: {self.footprint(monitor)}", timeout=10)

    def check_empty(self):
        check(not self.destination.running(), "the destination runs half a guest")
        self.check_holds_nothing(self.destination)

    def check_runs_on(self):
        check(self.source.running(), "the guest does not run on")
        before = self.source.guest_check()["heartbeat"]
        wait_for(lambda: self.source.guest_check()["heartbeat"] > before, "the guest to go on")
        self.check_holds_nothing(self.source)

    def check_stayed(self):
        """The source runs the guest on, and a fresh destination takes it."""
        self.check_runs_on()
        self.move(self.source, self.place.monitor("fresh", KIND, "--incoming", "defer", ram=RAM))

    def move(self, source, destination):
        source.set(max_bandwidth=0)
        begin, since = time.monotonic(), source.mark()
        source.call("migrate", uri=self.listen(destination))
        _, state = source.wait_state("completed", "failed", since=since)
        answer = source.migration()
        check(state == "completed" and answer["transport"] == "rdma", f"the next migration does not work: {answer}")
        check_arrived(source, destination, begin)


def destination__killed__source_runs_on():
    with Scene() as scene:
        begin = time.time()
        scene.destination.kill()
        scene.check_noticed(scene.source, begin, "closed", "disconnected")
        scene.check_stayed()


def source__killed__destination_is_empty_and_takes_another():
    with Scene() as scene:
        begin = time.time()
        scene.source.kill()
        scene.check_noticed(scene.destination, begin, "closed", "disconnected")
        scene.check_empty()
        other = scene.place.monitor("other", KIND, "--workload", "idle", ram=RAM)
        scene.move(other, scene.destination)


def wire__cut__both_notice_and_source_runs_on():
    with Cutter() as wire, Scene() as scene:
        begin = time.time()
        wire.cut()
        # Or a failed write. Of many in flight rxe may flush all, and not tell that their retries came to an end.
        scene.check_noticed(scene.source, begin, "no sign of life", "IBV_WC_RETRY_EXC_ERR", "IBV_WC_WR_FLUSH_ERR")
        scene.check_noticed(scene.destination, begin, "no sign of life")
        check(scene.source.running(), "the guest does not run while the wire is cut")
        wire.heal()
        scene.check_empty()
        scene.check_stayed()


def destination__stopped__source_runs_on():
    with Scene() as scene:
        begin = time.time()
        scene.destination.signal(signal.SIGSTOP)
        scene.check_noticed(scene.source, begin, "no sign of life")
        scene.check_holds_nothing(scene.source)
        scene.destination.signal(signal.SIGCONT)
        wait_for(lambda: scene.destination.state() == "failed", "the destination to give up once it goes on")
        scene.check_empty()
        scene.check_stayed()


def source__stopped__destination_is_empty_and_source_runs_on():
    with Scene() as scene:
        begin = time.time()
        scene.source.signal(signal.SIGSTOP)
        scene.check_noticed(scene.destination, begin, "no sign of life")
        scene.check_empty()
        scene.source.signal(signal.SIGCONT)
        wait_for(lambda: scene.source.state() == "failed", "the source to give up once it goes on")
        scene.check_stayed()


def migration__cancelled__guest_runs_on_at_once():
    with Scene() as scene:
        took = []
        while True:
            since, begin = scene.source.mark(), time.monotonic()
            scene.source.call("migrate_cancel")
            end, _ = scene.source.wait_state("cancelled", since=since)
            took.append((end - begin) * 1000)
            print(f"# cancelled in {took[-1]:.0f} ms")
            check(scene.source.running(), "the guest does not run on")
            wait_for(lambda: scene.destination.state() == "failed", "the destination to hear of it")
            scene.check_empty()
            if took[-1] < CANCEL_MS or len(took) == CANCEL_TRIES:
                break
            scene.reach_active()
        check(took[-1] < CANCEL_MS, f"cancelling took {took} ms")
        scene.check_stayed()


def device__removed__source_runs_on():
    """The removal itself waits for every process that has the device open, and librdmacm opens all: it ends with the
    monitors, and no fresh destination can be had before."""
    rdma = subprocess.Popen(("rdma", "-b", "-"), stdin=subprocess.PIPE, text=True)  # early, like tc
    with rdma:
        with Scene() as scene:
            begin = time.time()
            rdma.stdin.write("link delete rxe1\n")
            rdma.stdin.close()
            scene.check_noticed(scene.source, begin, "DISCONNECTED", "DEVICE_REMOVAL")
            scene.check_noticed(scene.destination, begin, "DEVICE_REMOVAL")
            scene.check_empty()
            scene.check_runs_on()
        check(rdma.wait(30) == 0, f"rdma link delete: status {rdma.returncode}")
    output_of("rdma", "link", "add", "rxe1", "type", "rxe", "netdev", "v1")
    with Scene() as scene:
        scene.source.call("migrate_cancel")


CASES = (
    destination__killed__source_runs_on,
    source__killed__destination_is_empty_and_takes_another,
    wire__cut__both_notice_and_source_runs_on,
    destination__stopped__source_runs_on,
    source__stopped__destination_is_empty_and_source_runs_on,
    migration__cancelled__guest_runs_on_at_once,
    device__removed__source_runs_on,  # last: it changes the machine
)


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(only_there((case.__name__, case) for case in CASES), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
