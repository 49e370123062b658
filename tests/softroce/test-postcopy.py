#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests that go by RDMA before their memory: fetched by the destination, or written by the source. In the machine of
tests/softroce/run. Usage: test-postcopy.py FERRY [SUBSTRING-OF-CASES]"""

import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Migrate, Place, check_arrived
from softroce import FAR, Cutter, only_there

KIND = "--process"
MIB = 1 << 20
PAGE = 4096
RAM, PAGES = "32M", 32 * MIB // PAGE
BANDWIDTH = 4 * MIB
WORKLOAD = f"random:{3 * BANDWIDTH // MIB}"  # three times what may go: precopy never ends
TRICKLE = MIB  # bytes a second of what nobody waits for, so that postcopy lasts
RECOVERY_PORTS = {None: 4490, "source": 4491}  # a case each: connections of an earlier one may still be there
LONG_S = 150  # an emulated machine, and often a starved one


class Scene:
    """A guest that writes faster than it may go, and where it goes. @push: at which side rdma-postcopy-pull is off."""

    def __init__(self, push=None):
        self.push = push

    def __enter__(self):
        self.place = Place().__enter__()
        try:
            self.destination = self.place.monitor("destination", KIND, "--incoming", f"rdma:{FAR}:0", ram=RAM)
            self.source = self.place.monitor("source", KIND, "--workload", WORKLOAD, ram=RAM)
            self.source.capability("rdma-require", True)
            self.source.set(max_bandwidth=BANDWIDTH)
            for monitor in self.place.monitors:
                monitor.capability("rdma-postcopy-pull", monitor.name != self.push)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        self.begin = time.monotonic()
        return self

    def __exit__(self, *exception):
        self.place.__exit__(*exception)

    def migrate(self, *options):
        """In the background."""
        return Migrate(self.source, self.destination.uri(), *options)

    def finish(self, migration):
        """Returns query-migrate's answer at the destination, and ferry migrate's at the source."""
        code, answer, err = migration.finish(LONG_S)
        check(code == 0, f"ferry migrate: status {code}: {err}")
        check(answer["status"] == "completed", f"it is {answer['status']}")
        self.check_whole()
        there = self.destination.migration()
        return there, answer

    def check_whole(self):
        """Everything is at the destination, and came once."""
        wait_for(lambda: self.destination.state() == "completed", lambda: f"the end: {self.destination.migration()}")
        check_arrived(self.source, self.destination, self.begin)
        there = self.destination.migration()["postcopy"]
        check(there["repeated-pages"] == 0, f"{there['repeated-pages']} pages came twice")
        check(there["missing-pages"] == 0, f"{there['missing-pages']} pages are missing")

    def wait_switched(self):
        for monitor in self.place.monitors:
            monitor.wait_state("postcopy-active", timeout=LONG_S)

    def cut(self, wire):
        """Both sides pause, and say why; the guest is not started at the source."""
        wire.cut()
        for monitor in self.place.monitors:
            monitor.wait_state("postcopy-paused", timeout=LONG_S)
            answer = monitor.migration()
            print(f"# {monitor.name}: {answer.get('error-desc')}")
            check(answer.get("error-desc"), f"{monitor.name} does not say why it paused")
        check(not self.source.running(), "the guest runs at the source again")
        check(self.destination.running(), "the guest does not run at the destination")
        wire.heal()


def check_counts(status, mode):
    """Of query-migrate's postcopy, at either side."""
    check(status["mode"] == mode, f"it went by {status['mode']}, not by {mode}")
    check(0 < status["discarded-pages"] <= PAGES, f"{status['discarded-pages']} pages were missing at the switch")
    check(status["pauses"] == 0, f"it paused {status['pauses']} times")


def writer__thrice_as_fast_as_the_link__moves(mode, push=None, when="=2s"):
    def case():
        with Scene(push) as scene:
            there, here = scene.finish(scene.migrate("--postcopy" + when))
            check(here["transport"] == there["transport"] == "rdma", f"it went by {here['transport']}")
            counts = there["postcopy"]
            for status in (here["postcopy"], counts):
                check_counts(status, mode)
            came = counts["urgent-pages"] + counts["background-pages"]
            check(came == counts["discarded-pages"], f"{came} pages came, {counts['discarded-pages']} were missing")
            check(counts["requests"] > 0 and counts["latency-us"]["count"] > 0, f"the guest never waited: {counts}")
            print(f"# {counts['requests']} faults, {counts['latency-us']}")
            check_rdma(mode, scene.source.call("query-rdma"), scene.destination.call("query-rdma"), counts)
    return case


def check_rdma(mode, here, there, counts):
    """query-rdma's counters say that the pages went that way, and no other."""
    if mode == "pull":
        wanted = counts["discarded-pages"] * PAGE
        check(there["bytes-read"] == wanted, f"{there['bytes-read']} bytes were read, {wanted} were missing")
        check(there["urgent-reads"] > 0 and there["background-reads"] > 0, f"nothing was read for somebody: {there}")
        check(here["urgent-writes"] == there["urgent-writes"] == 0, f"the source wrote: {here}")
    else:
        check(here["urgent-writes"] > 0, f"nothing was written for somebody: {here}")
        check(here["urgent-writes"] == there["urgent-writes"], f"{here['urgent-writes']} urgent writes, "
              f"{there['urgent-writes']} arrived")
        check(there["told-writes"] > there["urgent-writes"], f"nothing came that nobody waited for: {there}")
        check(there["urgent-reads"] == there["background-reads"] == 0, f"the destination read: {there}")


def wire__cut_and_healed__goes_on_over_tcp(push=None):
    """Begun by RDMA, paused at both sides, and recovered over TCP."""
    def case():
        with Cutter() as wire, Scene(push) as scene:
            for monitor in scene.place.monitors:
                monitor.set(max_postcopy_bandwidth=TRICKLE)
            scene.source.capability("postcopy-ram", True)
            scene.source.call("migrate", uri=scene.destination.uri())
            scene.source.wait_state("active", timeout=LONG_S)
            scene.source.call("migrate-start-postcopy")
            scene.wait_switched()
            missing = wait_for(lambda: scene.destination.migration()["postcopy"]["missing-pages"], "the number of missing pages")
            wait_for(lambda: scene.destination.migration()["postcopy"]["missing-pages"] < missing, "pages to come")
            scene.cut(wire)
            for monitor in scene.place.monitors:
                monitor.set(max_postcopy_bandwidth=0)
            uri = f"tcp:{FAR}:{RECOVERY_PORTS[push]}"
            scene.destination.call("migrate-recover", uri=uri)
            since = scene.source.mark()
            scene.source.call("migrate", uri=uri, resume=True)
            _, state = scene.source.wait_state("completed", "postcopy-paused", since=since, timeout=LONG_S)
            check(state == "completed", f"the recovery failed: {scene.source.migration()}")
            scene.check_whole()
            for monitor in scene.place.monitors:
                counts = monitor.migration()["postcopy"]
                check(counts["pauses"] == 1, f"{monitor.name} counts {counts['pauses']} pauses")
    return case


def bench__fault__measures_every_way():
    done = subprocess.run([processes.FERRY, "bench", "fault", f"rdma:{FAR}:0", "--ram", "8M", "--faults", "50", "--repeat", "1",
                           "--json", "-"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250, check=False)
    check(done.returncode == 0, f"status {done.returncode}: {done.stderr}")
    rows = {(row["mode"], row["background"]): row for row in json.loads(done.stdout)["rows"]}
    loads = {(mode, load) for mode in ("pull", "push", "tcp") for load in (False, True)}
    check(set(rows) == loads | {("floor", False)}, f"the rows are {sorted(rows)}")
    for (mode, background), row in rows.items():
        check("skipped" not in row, f"{mode} was skipped: {row}")
        turn, = row["turns"]
        if not background:
            check(turn["faults"] == 50, f"{mode}: {turn['faults']} faults")
            check(0 < turn["p50-us"] <= turn["p99-us"] <= turn["max-us"], f"{mode}: {turn}")
        if mode != "floor":
            check(turn["missing"] == 8 * MIB // PAGE, f"{mode}: {turn['missing']} pages were missing")
            check(turn["way"] == mode if mode != "tcp" else turn["way"] in ("push", "stream"), f"{mode}: went by {turn['way']}")
        print(f"# {mode} {'background' if background else 'idle'}: {turn}")
    check(rows["pull", False]["p50-over-floor"] > 0, "no ratio to the floor")


def table():
    yield "pull__guest_that_writes_thrice_as_fast__moves_whole", writer__thrice_as_fast_as_the_link__moves("pull")
    yield "pull__from_the_first_round_on__moves_whole", writer__thrice_as_fast_as_the_link__moves("pull", when="=round:1")
    yield "push__at_once__moves_whole", writer__thrice_as_fast_as_the_link__moves("push", "source", when="")
    for side in ("source", "destination"):
        yield (f"push__pull_off_at_the_{side}__moves_whole", writer__thrice_as_fast_as_the_link__moves("push", side))
    yield "wire__cut_in_pull_and_healed__goes_on_over_tcp", wire__cut_and_healed__goes_on_over_tcp()
    yield "wire__cut_in_push_and_healed__goes_on_over_tcp", wire__cut_and_healed__goes_on_over_tcp("source")
    yield "bench_fault__by_rdma__measures_every_way", bench__fault__measures_every_way


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(only_there(table()), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
