#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests that are switched over before their memory, which follows by RDMA: written by the source, or read by the
destination. In the machine of tests/softroce/run. Usage: test-postcopy.py FERRY [SUBSTRING-OF-CASES]"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check
from processes import Place, check_arrived, migrate
from softroce import FAR

KIND = "--process"


def check_move(mode, *options, pull=True):
    with Place() as place:
        destination = place.monitor("destination", KIND, "--incoming", f"rdma:{FAR}:0", ram="32M")
        source = place.monitor("source", KIND, "--workload", "random:5", ram="32M")
        source.capability("rdma-postcopy-pull", pull)
        begin = time.monotonic()
        code, result, err = migrate(source, destination.uri(), *options)
        check(code == 0, f"ferry migrate exited with {code}: {err}")
        check(result["transport"] == "rdma", f"transport {result['transport']}: {result.get('fallback-reason')}")
        here, there = result["postcopy"], destination.migration()["postcopy"]
        print(f"# {here['mode']}: downtime {result['downtime']} ms, {here['discarded-pages']} pages followed, "
              f"latency in us {there['latency-us']}")
        check(here["mode"] == there["mode"] == mode, f"mode {here['mode']}, {there['mode']}")
        check(there["repeated-pages"] == 0, f"pages came twice: {there}")
        check(there["urgent-pages"] + there["background-pages"] == here["discarded-pages"], f"{here}, {there}")
        check_arrived(source, destination, begin)


def pages__pulled_at_once__guest_arrives_whole():
    check_move("pull", "--postcopy")


def pages__pulled_after_a_round__guest_arrives_whole():
    check_move("pull", "--set", "max-bandwidth=4M", "--set", "downtime-limit=10", "--postcopy=round:1")


def pages__pushed_at_once__guest_arrives_whole():
    check_move("push", "--postcopy", pull=False)


def pages__pushed_in_mid_round__guest_arrives_whole():
    check_move("push", "--set", "max-bandwidth=4M", "--set", "downtime-limit=10", "--postcopy=2s", pull=False)


CASES = (
    pages__pulled_at_once__guest_arrives_whole,
    pages__pulled_after_a_round__guest_arrives_whole,
    pages__pushed_at_once__guest_arrives_whole,
    pages__pushed_in_mid_round__guest_arrives_whole,
)


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run([(case.__name__, case) for case in CASES], *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
