#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests that are switched over before their memory, between `ferry run` processes.
Usage: test-postcopy-processes.py FERRY [SUBSTRING-OF-CASES]"""

import functools
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import Skip, check, wait_for
from processes import Migrate, Place, QmpError, check_arrived, migrate

KINDS = ("--process", "--kvm")
# Writes three times what the link may carry: precopy would never end.
BUSY = ("--workload", "random:60")
SLOW = ("--set", "max-bandwidth=20M", "--set", "downtime-limit=0")
# What a machine that does other things too may add to it.
DOWNTIME_MS = 300 + 1700


@functools.cache
def why_not(kind):
    return processes.can_run(kind)


def check_numbers(destination, result):
    """What both sides say of it, once the guest is whole."""
    check(result["status"] == "completed", f"status {result['status']}")
    check(0 <= result["downtime"] <= DOWNTIME_MS, f"a downtime of {result['downtime']} ms")
    here, there = result["postcopy"], destination.migration()["postcopy"]
    print(f"# {here['mode']}: downtime {result['downtime']} ms, {here['discarded-pages']} pages followed, "
          f"{here['requests']} requests, latency in us {there['latency-us']}")
    check(there["repeated-pages"] == 0, f"pages came twice: {there}")
    check(here["missing-pages"] == there["missing-pages"] == 0, f"pages are missing: {here}, {there}")
    check(there["urgent-pages"] + there["background-pages"] == here["discarded-pages"], f"{here}, {there}")
    check(result["verified"] is None, f"verified: {result['verified']}")
    return here


def check_move(source, destination, uri, *options, pass_fds=()):
    begin = time.monotonic()
    code, result, err = migrate(source, uri, *options, pass_fds=pass_fds)
    check(code == 0, f"ferry migrate exited with {code}: {err}")
    numbers = check_numbers(destination, result)
    check_arrived(source, destination, begin)
    return numbers


# ---- over every channel, both guests, every moment ----

def over_socket(kind, listen, *options, backing="memfd"):
    with Place() as place:
        destination = place.monitor("destination", kind, "--backing", backing, "--incoming",
                                    listen.replace("PLACE", place.path))
        source = place.monitor("source", kind, "--backing", backing, *BUSY)
        return check_move(source, destination, destination.uri(), *options)


def over_fd(kind):
    ours, theirs = socket.socketpair()
    with ours, theirs, Place() as place:
        destination = place.monitor("destination", kind, "--incoming", f"fd:{theirs.fileno()}",
                                    pass_fds=[theirs.fileno()])
        theirs.close()
        source = place.monitor("source", kind, *BUSY)
        check_move(source, destination, f"fd:{ours.fileno()}", "--postcopy", pass_fds=[ours.fileno()])


TCP, UNIX = "tcp:127.0.0.1:0", "unix:PLACE/socket"
WAYS = {
    "at_once_over_tcp": lambda kind: over_socket(kind, TCP, "--postcopy"),
    "at_once_over_unix": lambda kind: over_socket(kind, UNIX, "--postcopy"),
    "at_once_over_fd": over_fd,
    "in_mid_round_over_tcp": lambda kind: over_socket(kind, TCP, "--postcopy=700ms", *SLOW),
    "in_mid_round_over_unix": lambda kind: over_socket(kind, UNIX, "--postcopy=700ms", *SLOW),
    "in_private_memory": lambda kind: over_socket(kind, TCP, "--postcopy=300ms", *SLOW, backing="anon"),
}


def way_case(kind, way):
    def run():
        if why_not(kind):
            raise Skip(why_not(kind))
        way(kind)
    return run


# ---- what it is for, and what it must not do ----

def guest__writes_three_times_the_bandwidth__completes_after_rounds():
    numbers = over_socket("--process", TCP, "--postcopy=round:2", *SLOW)
    check(numbers["discarded-pages"] > 0, "nothing was missing")


def guest__idle__completes():
    with Place() as place:
        destination = place.monitor("destination", "--process", "--incoming", UNIX.replace("PLACE", place.path))
        source = place.monitor("source", "--process", "--workload", "idle")
        check_move(source, destination, destination.uri(), "--postcopy")


def events__of_both_sides__name_the_states():
    with Place() as place:
        destination = place.monitor("destination", "--process", "--incoming", TCP)
        source = place.monitor("source", "--process", *BUSY)
        source.capability("postcopy-ram", True)
        source.call("migrate", uri=destination.uri())
        source.call("migrate-start-postcopy")
        source.wait_state("completed")
        destination.wait_state("completed")
        for monitor, states in ((source, ["setup", "active", "device", "postcopy-active", "completed"]),
                                (destination, ["active", "handover", "postcopy-active", "completed"])):
            came = [event["data"]["status"] for _, event in monitor.qmp.events if event["event"] == "MIGRATION"]
            check(came[-len(states):] == states, f"{monitor.name}: {came}")
        there = destination.migration()
        check(there["postcopy-blocktime"] >= 0 and len(there["postcopy-vcpu-blocktime"]) == 1, f"{there}")
        check(source.migration()["ram"]["postcopy-bytes"] > 0, f"{source.migration()}")


def cancel__after_the_switch__has_no_effect():
    with Place() as place:
        destination = place.monitor("destination", "--process", "--incoming", TCP)
        source = place.monitor("source", "--process", *BUSY)
        source.capability("postcopy-ram", True)
        source.set(max_postcopy_bandwidth=1 << 20)
        begin = time.monotonic()
        source.call("migrate", uri=destination.uri())
        source.call("migrate-start-postcopy")
        source.wait_state("postcopy-active")
        source.call("migrate_cancel")
        # The background alone would take a minute; the guest gets what it asks for.
        before = source.call("guest-check")["written"]
        wait_for(lambda: destination.call("query-migrate")["ram"]["postcopy-requests"] > 100, "requests")
        check(source.state() == "postcopy-active", f"the migration is {source.state()}")
        source.set(max_postcopy_bandwidth=0)
        source.wait_state("completed")
        check(destination.guest_check()["written"] > 0 and before >= 0, "the guest did not go on")
        check_arrived(source, destination, begin)


def start_postcopy__not_enabled__refused():
    with Place() as place:
        source = place.monitor("source", "--process", *BUSY)
        for wanted in ("postcopy-ram", "after a migration"):
            try:
                source.call("migrate-start-postcopy")
                check(False, "it was not refused")
            except QmpError as error:
                check(wanted in error.desc, error.desc)
            source.capability("postcopy-ram", True)


def destination__killed_after_the_switch__exit_3_and_how_to_recover():
    with Place() as place:
        destination = place.monitor("destination", "--process", "--incoming", TCP)
        source = place.monitor("source", "--process", *BUSY)
        source.set(max_postcopy_bandwidth=1 << 20)
        migration = Migrate(source, destination.uri(), "--postcopy")
        source.wait_state("postcopy-active")
        destination.kill()
        code, result, err = migration.finish()
        check(code == 3, f"exit status {code}: {err}")
        check(result["status"] == "postcopy-paused", f"{result}")
        check("--resume" in err and "migrate-recover" in err, err)
        check(not source.running(), "the guest runs at the source again")


CASES = (
    guest__writes_three_times_the_bandwidth__completes_after_rounds,
    guest__idle__completes,
    events__of_both_sides__name_the_states,
    cancel__after_the_switch__has_no_effect,
    start_postcopy__not_enabled__refused,
    destination__killed_after_the_switch__exit_3_and_how_to_recover,
)


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    table = [(f"{kind[2:]}_guest__switched_{name}__arrives_whole", way_case(kind, way))
             for name, way in WAYS.items() for kind in KINDS]
    return cases.run(table + [(case.__name__, case) for case in CASES], *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
