#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a round costs beside its pages, by RAM. Usage: test-scale.py FERRY [SUBSTRING-OF-CASES]

Two guests of 512 MiB and 8 GiB that write the same 16 MiB, in one run, round by round, and the best of many rounds of each: what
else the machine does makes a round slower, never faster. Neither guest takes memory for what it does not write.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import Skip, check, wait_for
from processes import Place

MIB = 1 << 20
HOT_MIB = 16
PAGES = HOT_MIB * 256
FULL = 0.8  # of the hot set: what a round has to find to be compared
ROUNDS = 10
RATES = (40 * MIB, 150 * MIB)  # of a round that found little, and of others
RAM = ("512M", "8G")  # 16 times
MOST = 5
TRIES = 3


def wait_for_pass(source, number):
    """Whether round @number began; else the migration is over."""
    _, event = source.qmp.wait_event(lambda event: event["event"] == "MIGRATION_PASS" and event["data"]["pass"] == number
                                     or event.get("data", {}).get("status") == "completed", f"round {number}")
    return event["event"] == "MIGRATION_PASS"


def busy_rounds(source):
    return [one for one in source.migration()["rounds"][1:-1] if one["dirty-pages"] >= FULL * PAGES]


def run_rounds(source, destination):
    """Migrates until enough rounds had all of the hot set to send, and lets the guest go: its busy rounds."""
    wait_for(lambda: source.guest_check()["written"] > 2 * PAGES, "the guest to write its hot set")
    source.set(max_bandwidth=RATES[1])
    source.call("migrate", uri=destination.uri())
    number = 2
    while wait_for_pass(source, number) and len(busy_rounds(source)) < ROUNDS and number < 60:
        # A round that found little is slowed down, for the guest to get around.
        full = source.migration()["rounds"][-1]["dirty-pages"] >= FULL * PAGES
        source.set(max_bandwidth=RATES[full])
        number += 1
    source.set(downtime_limit=5000, max_bandwidth=0)
    source.wait_state("completed")
    destination.guest_check()
    return busy_rounds(source)


def measure(ram, kind):
    """(the busy rounds of a guest of @ram, or none where it was kept from writing; the dirty source)"""
    with Place() as place:
        destination = place.monitor("destination", *kind, "--incoming", "tcp:127.0.0.1:0", "--set", "verify-ram=off",
                                    ram=ram)
        source = place.monitor("source", *kind, "--fill", "holes", "--workload", f"hotset:{HOT_MIB}M:1600",
                               "--set", "verify-ram=off", "--set", "downtime-limit=0", ram=ram)
        rounds = run_rounds(source, destination)
        return rounds if len(rounds) >= ROUNDS else None, source.migration()["dirty-source"]


def check_growth(kind, part, what):
    """@part: of a round, in us."""
    if processes.is_sanitized():
        raise Skip("a sanitizer takes time by RAM of its own")
    why = processes.can_run(*kind)
    if why:
        raise Skip(why)
    best = []
    for ram in RAM:
        for _ in range(TRIES):
            rounds, name = measure(ram, kind)
            if rounds:
                break
        else:
            raise Skip(f"other work kept the guest from writing {HOT_MIB} MiB in a round, {TRIES} times")
        best.append(min(part(one) for one in rounds))
    times = best[1] / max(best[0], 1)
    print(f"# {name}, {what}: {best[0]} us a round of {RAM[0]}, {best[1]} us of {RAM[1]}: {times:.1f} times")
    check(times <= MOST, f"{times:.1f} times, and at most {MOST} were to be")


def bookkeeping__kvm_guest_of_16_times_the_ram__hardly_grows():
    """All of it, where the dirty log is a bitmap."""
    check_growth(["--kvm", "--dirty-source", "kvm-log"], lambda one: one["bookkeeping-us"], "bookkeeping")


def bookkeeping__process_guest_of_16_times_the_ram__hardly_grows_beside_the_collect():
    """What the kernel takes to walk page tables is not ours, and grows with RAM."""
    check_growth(["--process"], lambda one: one["bookkeeping-us"] - one["collect-us"], "beside the collect")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    processes.use(sys.argv[1])
    sys.exit(cases.run([(case.__name__, case) for case in (
        bookkeeping__kvm_guest_of_16_times_the_ram__hardly_grows,
        bookkeeping__process_guest_of_16_times_the_ram__hardly_grows_beside_the_collect,
    )], *sys.argv[2:]))
