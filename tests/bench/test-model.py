# SPDX-License-Identifier: BSD-2-Clause
"""The model of a migration at its edges. TAP.

usage: test-model.py SOURCE_ROOT [CASE]"""

import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace

SOURCE = sys.argv[1]
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(SOURCE, "tests", "lib"), os.path.join(SOURCE, "bench", "harness")]

import figures  # noqa: E402 (the path comes first)
from cases import check, run  # noqa: E402
from model import PAGE, Curve, Drawn, Guest, Machine, Shuffled, predict  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
LINK = Machine(rate=512 * MIB)
COSTLY = Machine(rate=512 * MIB, scan_ns=6, dirty_ns=200, round_s=0.001, setup_s=0.1, handover_s=0.01)


def near(value, expected, share=0.01):
    return abs(value - expected) <= share * abs(expected) + 1e-9


def hot(ram, mib, rate, law=Drawn):
    return Guest(ram, 0, law(mib * MIB, rate * MIB))


def idle_guest__one_round_and_the_fixed_costs():
    found = predict(Guest(GIB), LINK, 0.3)
    check(found.converges and len(found.rounds) == 1 and near(found.total, 2) and near(found.downtime, 0), found)
    found = predict(Guest(GIB), COSTLY, 0.3)
    collect = GIB / PAGE * 6e-9
    check(near(found.downtime, 0.01 + 2 * collect, 1e-6), found)
    check(near(found.total, 0.1 + 2 * 1.0005 + 0.001 + collect + found.downtime, 1e-6), found)


def all_zero__looking_is_all_it_takes():
    found = predict(Guest(GIB, 1.0), replace(LINK, zero_ns=250), 0.3)
    check(near(found.total, GIB / PAGE * 250e-9) and near(found.sent, 0), found)


def limit_0__only_an_idle_guest_converges():
    check(predict(Guest(GIB), LINK, 0).converges, "idle")
    check(not predict(hot(GIB, 64, 10), COSTLY, 0).converges, "busy")


def dirtying_above_the_link__never_ends_and_says_what_a_stop_would_come_to():
    found = predict(hot(4 * GIB, 2048, 4096), LINK, 0.3)
    check(not found.converges and math.isinf(found.total) and len(found.rounds) < 20, found)
    check(near(found.downtime, 2048 / 512, 0.2), found)
    check(predict(hot(4 * GIB, 2048, 4096), replace(LINK, rate=100 * GIB), 0.3).converges, "a link that is faster")


def hot_set_below_the_limit__converges_at_any_rate():
    found = predict(hot(GIB, 64, 1e6), LINK, 0.3)
    check(found.converges and near(found.downtime, 64 / 512, 0.01), found)


def limit_that_is_just_reached__downtime_is_within_it():
    for rate in range(20, 500, 20):
        found = predict(hot(4 * GIB, 1024, rate), LINK, 0.3)
        check(not found.converges or found.downtime <= 0.3 + 1e-9, f"{rate}: {found.downtime}")


def more_of_anything__never_ends_sooner():
    """RAM, a slower link, a faster guest."""
    last = 0
    for ram in (1, 2, 4, 8, 16):
        now = predict(hot(ram * GIB, 128, 100), COSTLY, 0.3).total
        check(now > last, f"{ram} GiB: {now}")
        last = now
    for rate in (4096, 2048, 1024, 512, 256):
        now = predict(hot(16 * GIB, 128, 50), replace(COSTLY, rate=rate * MIB), 0.3).total
        check(now > last or rate == 4096, f"{rate} MiB/s: {now}")
        last = now


def written__of_each_law__begins_with_the_rate_and_ends_with_the_set():
    for law in (Shuffled, Drawn):
        writes = law(1000 * PAGE, 1000 * PAGE)
        check(writes.written(0) == 0 and near(writes.written(0.001), 1, 0.01), law)
        check(near(writes.written(100), 1000), law)
        last = 0
        for step in range(1, 400):
            now = writes.written(step / 100)
            check(last <= now <= min(step * 10, 1000) + 1e-6, f"{law} after {step / 100}: {now}")
            last = now
    shuffled = Shuffled(1000 * PAGE, 1000 * PAGE)
    check(near(shuffled.written(1), 1000 * 5 / 6) and near(shuffled.written(0.999), shuffled.written(1.001)), "at a pass")


def written__of_a_curve__is_as_the_engine_has_it():
    """The numbers of the unit test of engine/rehearsal-model.c."""
    curve = Curve([(1, 100), (2, 150)], 1000)
    for seconds, pages in ((0, 0), (0.5, 50), (1.5, 125), (4, 250), (1e9, 1000)):
        check(near(curve.written(seconds), pages, 1e-9), f"{seconds}: {curve.written(seconds)}")
    check(Curve([], 1000).written(5) == 0, "no points")


def registering__beside_slow_pages_costs_nothing_and_before_them_all_of_it():
    guest = Guest(64 * GIB)
    plain = predict(guest, LINK, 0.3).total
    beside = replace(LINK, register_s=0.2 / GIB)
    check(near(predict(guest, beside, 0.3).total, plain, 1e-6), "beside")
    check(near(predict(guest, replace(beside, pin_all=True), 0.3).total, plain + 64 * 0.2, 1e-6), "before")
    check(near(predict(guest, replace(beside, rate=50e9), 0.3).total, 64 * 0.2, 0.01), "slower than the pages")


def stop_at_another_rate__counts_for_the_downtime_alone():
    found = predict(hot(GIB, 64, 1e6), replace(LINK, stop_rate=1024 * MIB), 0.3)
    check(near(found.downtime, 64 / 1024, 0.01) and near(found.rounds[0].seconds, 2), found)


def pages_that_lie_alone__are_the_senders_limit():
    found = predict(hot(GIB, 64, 1e6), replace(LINK, rate=50e9, page_ns=1000), 1)
    check(near(found.downtime, 64 * MIB / PAGE * 1e-6), found)
    check(near(predict(Guest(GIB), replace(LINK, page_ns=1e6), 1).total, 2), "pages that lie together")


def command__prints_a_record_that_the_report_reads():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.json")
        done = subprocess.run([sys.executable, os.path.join(SOURCE, "bench", "model"), "--link", "100G", "--ram", "64G..256G",
                               "--json", path], capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 0 and "100 Gb/s, 256 GiB" in done.stdout, done.stdout + done.stderr)
        record = figures.load(path)
        check(len(record["tables"][0]["rows"]) == 3 and record["charts"], record["tables"])
        with open(path, encoding="utf-8") as source:
            check(json.load(source)["ferry-bench"] == 1, "its version")


CASES = [(case.__name__, case) for case in (
    idle_guest__one_round_and_the_fixed_costs,
    all_zero__looking_is_all_it_takes,
    limit_0__only_an_idle_guest_converges,
    dirtying_above_the_link__never_ends_and_says_what_a_stop_would_come_to,
    hot_set_below_the_limit__converges_at_any_rate,
    limit_that_is_just_reached__downtime_is_within_it,
    more_of_anything__never_ends_sooner,
    written__of_each_law__begins_with_the_rate_and_ends_with_the_set,
    written__of_a_curve__is_as_the_engine_has_it,
    registering__beside_slow_pages_costs_nothing_and_before_them_all_of_it,
    stop_at_another_rate__counts_for_the_downtime_alone,
    pages_that_lie_alone__are_the_senders_limit,
    command__prints_a_record_that_the_report_reads,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[2:]))
