#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""bandwidth-group, measured where the bytes arrive. Usage: test-group.py FERRY [SUBSTRING-OF-CASES]

Four migrations share one budget. The destinations' counts of bytes are sampled while all four send, then while three do,
as the smallest has arrived, and then two, as one source was killed. In every window of half a second each must have its
part, and all together the budget.

Eight processes are many for a small machine. A window that misses is only excused where one of the threads that move the
pages waited longer for a CPU in it than it can make up for (as in test-bandwidth.py), or no sample could be taken for as
long. Where not MOST of the windows hold in any of TRIES tries the case is skipped, with what there was: that is no pass.
"""

import os
import sys
import time

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)

import cases
import processes
import waits
from cases import Skip, check, wait_for
from processes import Place, QmpError

MIB = 1 << 20
BUDGET = 400 * MIB
SHARE_TOLERANCE = 0.15
SUM_TOLERANCE = 0.05
WINDOW_S = 0.5
ACT_S = 0.15  # what a change of members may take to be seen
SENDING_S = 1.1  # how long each number of members is looked at
RAM_MIB = (480, 480, 480, 130)  # so that the last one arrives first
TRIES = 3
ENOUGH = 5  # windows of each number of members
MOST = 0.8  # of them hold; the others are excused


class Migration:
    """A source and its destination; both have their memory before they start."""

    def __init__(self, place, name, mib, *options):
        self.destination = place.monitor(f"{name}-to", "--process", "--prealloc", "--incoming", "tcp:127.0.0.1:0", ram=f"{mib}M")
        self.source = place.monitor(f"{name}-from", "--process", "--prealloc", *options, ram=f"{mib}M")
        self.samples = []

    def begin(self):
        self.source.call("migrate", uri=self.destination.uri())

    def prepare(self):
        """Once it is active."""
        self.threads = (waits.find_thread(self.source, "ferry-source"),
                        waits.find_thread(self.destination, "ferry-incoming"))

    def sample(self):
        """False where it does not send any more."""
        asked = time.monotonic()
        status = self.destination.migration()
        answered = time.monotonic()
        if status.get("status") != "active":
            return False
        self.samples.append(((asked + answered) / 2, status["ram"]["transferred"],
                             [waits.waited(path) for path in self.threads]))
        return True


def begin_all(place):
    group = place.file("group")
    options = ("--set", f"bandwidth-group={group}", "--set", f"group-bandwidth={BUDGET}")
    migrations = [Migration(place, str(i), mib, *options) for i, mib in enumerate(RAM_MIB)]
    for migration in migrations:
        migration.begin()
    for migration in migrations:
        migration.source.wait_state("active")
        migration.prepare()
    return migrations


def sample_all(migrations, seconds):
    """Until one of them does not send any more, for @seconds at most. Their samples, then forgotten."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        if not all([migration.sample() for migration in migrations]):
            break
        time.sleep(0.004)
    series = [migration.samples for migration in migrations]
    for migration in migrations:
        migration.samples = []
    return [[sample for sample in samples if sample[0] >= begin + ACT_S] for samples in series]


def rate(samples, begin, end):
    """(bytes a second from @begin to @end, whether the machine kept it from being more or less)"""
    inside = [sample for sample in samples if begin <= sample[0] < end]
    if len(inside) < 2:
        return 0, True
    excused = max(waits.starved(*pair) for pair in zip(inside, inside[1:])) > waits.STARVED_S
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]), excused


class Windows:
    """Those of one number of members in one try."""

    def __init__(self, series):
        self.n = len(series)
        self.all = []  # ([share of its part of each], share of the budget, excused)
        begin = max((samples[0][0] for samples in series if samples), default=0)
        end = min((samples[-1][0] for samples in series if samples), default=0)
        while begin + WINDOW_S <= end:
            rates = [rate(samples, begin, begin + WINDOW_S) for samples in series]
            self.all.append(([each / (BUDGET / self.n) for each, _ in rates], sum(each for each, _ in rates) / BUDGET,
                             any(excused for _, excused in rates)))
            begin += 0.05

    def holding(self):
        return [window for window in self.all
                if all(abs(part - 1) <= SHARE_TOLERANCE for part in window[0]) and abs(window[1] - 1) <= SUM_TOLERANCE]

    def check(self):
        missed = [window for window in self.all if window not in self.holding() and not window[2]]
        check(not missed, f"{self.n} members: (parts, sum) {missed}")

    def suffice(self):
        return len(self.all) >= ENOUGH and len(self.holding()) >= MOST * len(self.all)

    def __str__(self):
        parts = [part for window in self.all for part in window[0]] or [0]
        sums = [window[1] for window in self.all] or [0]
        return (f"{self.n} members: {len(self.holding())} of {len(self.all)} windows hold, "
                f"parts {min(parts):.3f} to {max(parts):.3f}, sums {min(sums):.3f} to {max(sums):.3f}")


def one_try():
    """The windows of each number of members."""
    tried = []
    with Place() as place:
        migrations = begin_all(place)
        for n in (4, 3, 2):
            sending = migrations[:n]
            tried.append(Windows(sample_all(sending, SENDING_S if n < 4 else 60)))
            if n > 2:
                told = sending[0].source.migration()
                check(told.get("bandwidth-group", {}).get("members") in (n, n - 1), told)
            if n == 4:
                migrations[3].source.wait_state("completed")
            elif n == 3:
                migrations[2].source.kill()
        for migration in migrations[:2]:
            migration.source.wait_state("completed")
            check("bandwidth-group" not in migration.source.migration(), "it is a member after its end")
    return tried


def four_at_once__one_budget__each_has_its_part_in_every_window():
    if not waits.can_tell():
        raise Skip("this kernel does not tell how long a thread waits for a CPU")
    if processes.is_sanitized():
        raise Skip("a sanitizer makes it too slow for 400 MiB/s")
    for _ in range(TRIES):
        tried = one_try()
        for windows in tried:
            print(f"# {windows}")
            windows.check()
        if all(windows.suffice() for windows in tried):
            return
    raise Skip("this machine is too busy: " + "; ".join(str(windows) for windows in tried if not windows.suffice()))


def refused(monitor, words):
    try:
        monitor.call("migrate", uri="tcp:127.0.0.1:1")
    except QmpError as error:
        check(words in error.desc, error.desc)
        check(monitor.state() == "none", monitor.state())
        return
    raise AssertionError(f"migrate was not refused: expected {words}")


def group__cannot_be_joined__migrate_is_refused_and_says_why():
    with Place() as place:
        source = place.monitor("source", "--process", ram="16M")
        source.set(group_bandwidth=MIB)
        refused(source, "no bandwidth-group")
        source.set(bandwidth_group="group")
        refused(source, "not an absolute path")
        source.set(bandwidth_group=place.file("source.log"))
        refused(source, "no file of a group")
        source.set(bandwidth_group=place.file("no/where"))
        refused(source, "No such file")


def budget__changed_in_flight__acts_at_once_and_with_its_own_limit():
    with Place() as place:
        migration = Migration(place, "one", 64, "--set", f"bandwidth-group={place.file('group')}", "--set", "group-bandwidth=4M")
        migration.begin()
        migration.source.wait_state("active")

        def told():
            return migration.source.migration().get("bandwidth-group")

        wait_for(lambda: told() == {"members": 1, "rate": 4 * MIB}, "the group's budget")
        migration.source.set(max_bandwidth=MIB)
        wait_for(lambda: told() == {"members": 1, "rate": MIB}, "its own limit")
        migration.source.set(max_bandwidth=0, group_bandwidth=2 * MIB)
        wait_for(lambda: told() == {"members": 1, "rate": 2 * MIB}, "the changed budget")
        migration.source.set(group_bandwidth=0)
        migration.source.wait_state("completed")
        migration.destination.guest_check()


CASES = [(case.__name__, case) for case in (
    four_at_once__one_budget__each_has_its_part_in_every_window,
    group__cannot_be_joined__migrate_is_refused_and_says_why,
    budget__changed_in_flight__acts_at_once_and_with_its_own_limit,
)]

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    processes.use(sys.argv[1])
    sys.exit(cases.run(CASES, *sys.argv[2:]))
