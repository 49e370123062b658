#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The harness of the benches: turns, ratios, the two hosts, and small runs of the commands. TAP.

usage: test-harness.py SOURCE_ROOT FERRY [CASE]"""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile

SOURCE, FERRY = sys.argv[1:3]
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(SOURCE, "tests", "lib"), os.path.join(SOURCE, "bench", "harness")]

import figures  # noqa: E402 (the path comes first)
from cases import Skip, check, run, wait_for  # noqa: E402
from common import MIB, Missing  # noqa: E402
from guest import Frontier, gap_is_right  # noqa: E402
from record import Record, figure, ratio  # noqa: E402
from turns import Turns  # noqa: E402

QUIET = {"out": io.StringIO()}


def ratio__of_turns__is_taken_within_each():
    found = ratio([10, 100, None, 7], [5, 50, 3, 0])
    check(found["samples"] == [2, 2] and found["n"] == 2, found)
    check(ratio([None], [1]) is None and figure([]) is None, "something of nothing")
    check(figure([3, 1, 2]) == {"samples": [3, 1, 2], "median": 2, "min": 1, "max": 3, "n": 3}, figure([3, 1, 2]))


def record__wide_figure__is_warned_of():
    record = Record("compare", "a test", ["ferry"], {})
    record.note_wide("steady", figure([10, 11, 12]))
    record.note_wide("alone", figure([10]))
    check(not record.data["warnings"], record.data["warnings"])
    record.note_wide("wild", figure([10, 20, 12]), " ms")
    check(len(record.data["warnings"]) == 1 and "wild: 10 to 20 ms in 3 turns" in record.data["warnings"][0],
          record.data["warnings"])


def turns__every_other_one_backwards__the_warm_up_does_not_count():
    order = []
    turns = Turns({name: lambda name=name: order.append(name) or {"rate": len(order)} for name in "abc"}).run(2, **QUIET)
    check("".join(order) == "cba" "abc" "cba", order)
    check(turns.of("a", "rate") == [4, 9] and turns.of("c", "rate") == [6, 7], turns.samples)


def turns__one_fails_or_is_missing__the_others_go_on():
    calls = iter(range(9))

    def sometimes():
        if next(calls) == 1:
            raise RuntimeError("the cable is out")
        return {"rate": 1}

    def never():
        raise Missing("not installed: apt-get install it")
    turns = Turns({"sometimes": sometimes, "never": never}).run(2, **QUIET)
    check(turns.of("sometimes", "rate") == [None, 1], turns.samples)
    check(turns.failures == [{"what": "sometimes, turn 1/2", "why": "the cable is out"}], turns.failures)
    check(turns.skipped == [{"what": "never", "why": "not installed: apt-get install it"}], turns.skipped)
    check("never" not in turns.samples, turns.samples)


def frontier__between_what_converges_and_what_does_not__is_found():
    class Fake(Frontier):
        def __init__(self, edge):
            self.edge = edge

        def converges(self, ram, way, hot, rate, limit):
            return rate <= self.edge
    low, high = Fake(700).search(0, "tcp", 0, 300)
    check(low <= 700 < high and high / low < 1.1, (low, high))
    check(Fake(10).search(0, "tcp", 0, 300) == (None, 100), "below the first rate")
    check(Fake(1 << 30).search(0, "tcp", 0, 300)[1] is None, "above the last")


def gap__within_20_ms_or_a_fifth__is_right():
    for heartbeat, engine, right in ((25, 6, True), (27, 6, False), (118, 100, True), (121, 100, False),
                                     (590, 500, True), (601, 500, False), (400, 500, True), (399, 500, False)):
        check(gap_is_right({"heartbeat-ms": heartbeat, "downtime-ms": engine}) == right, (heartbeat, engine))


# ---- the commands ----

def bench(*arguments, status=0):
    done = subprocess.run([FERRY, "bench", *arguments], capture_output=True, text=True, timeout=100, check=False)
    check(done.returncode == status, f"{arguments}: status {done.returncode}: {done.stderr}")
    return done


@contextlib.contextmanager
def listener():
    """ferry bench guest --listen; gives HOST:PORT."""
    process = subprocess.Popen([FERRY, "bench", "guest", "--listen", "127.0.0.2:0"], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip().removeprefix("listening on ")
    finally:
        process.terminate()
        process.wait()


def compare__ferry_alone__record_has_every_sample():
    record = json.loads(bench("compare", "--only", "ferry", "--ram", "64M", "--repeat", "2", "--json", "-").stdout)
    figures.read(record)
    check(not record["failures"], record["failures"])
    check(sorted(record["raw"]) == ["ferry, multifd 2", "ferry, tcp"], record["raw"])
    rows = {row["name"]: row["cells"] for row in record["tables"][1]["rows"]}
    for name in record["raw"]:
        check(len(rows[name]["rate"]["samples"]) == 2, rows)
        check(rows[name]["rate"]["samples"] == [sample["rate"] for sample in record["raw"][name]], rows)
        check(rows[name]["cpu"]["median"] > 0 and rows[name]["bulk"]["median"] > 0, rows)
    check(record["command"][:3] == ["ferry", "bench", "compare"] and record["hosts"][0]["kernel"], record["hosts"])
    timeline = record["timelines"][0]
    check(any(event["what"] == "guest stands still" for event in timeline["events"]), timeline["events"])


def check_sweep(record):
    check(not record["failures"] and not record["skipped"], record)
    for runs in record["raw"]["sweep"].values():
        for sample in runs:
            check(sample["converged"] and sample["bytes"] > 64 * MIB, sample)
            # The guest stood for at least as long as the engine says, a rounded millisecond less.
            check(sample["heartbeat-ms"] >= sample["downtime-ms"] - 1, sample)
            check(sample["guest-speed"] > 0, sample)
    for timeline in record["timelines"]:
        times = [sample[0] for sample in timeline["samples"]]
        check(times == sorted(times) and len(times) > 3, times)
        check(timeline["interval-ms"] == 10, timeline["interval-ms"])
        check(timeline["samples"][-1][1] > 64 * MIB, timeline["samples"][-1])


GUESTS = ("--ram", "96M", "--hot-set", "4M", "--rate", "50", "--downtime-limit", "200,400", "--no-frontier")


def guest__two_small_ones__in_a_record_and_on_a_page():
    if not shutil.which("gnuplot"):
        raise Skip("gnuplot is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path, page = os.path.join(folder, "record.json"), os.path.join(folder, "page.html")
        done = bench("guest", *GUESTS, "--repeat", "2", "--json", path, "--report", page)
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        check_sweep(record)
        check(len(record["raw"]["sweep"]) == 2 and len(record["timelines"]) == 2, list(record["raw"]["sweep"]))
        check("engine's downtime within 20 ms or 20% of the heartbeat's" in done.stdout, done.stdout)
        with open(page, encoding="utf-8") as file:
            text = file.read()
        check("<svg" in text and "guest stands still" in text, "no timeline on the page")
        again = os.path.join(folder, "again.html")
        bench("report", path, "--report", again)
        with open(again, encoding="utf-8") as file:
            check(file.read() == text, "the page of the record differs")


def guest__between_two_hosts__as_on_one():
    with listener() as place:
        check_sweep(json.loads(bench("guest", "--peer", place, *GUESTS, "--json", "-").stdout))


def guest__nobody_listens__says_what_to_run_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = bench("guest", "--peer", f"127.0.0.1:{port}", *GUESTS, status=1)
    check(f"ferry bench guest --listen 127.0.0.1:{port}" in done.stderr, done.stderr)


def page__into_no_folder__fails_before_anything_is_measured():
    done = bench("compare", "--json", "/nowhere/record.json", status=1)
    check("/nowhere" in done.stderr and "turn" not in done.stderr, done.stderr)


def report__of_no_record__says_so():
    done = bench("report", os.path.join(SOURCE, "meson.build"), status=1)
    check("not JSON" in done.stderr, done.stderr)


def listener__hostile_peer__starts_nothing():
    calls = [b"garbage\n", b'{"call": "close", "values": [], "named": {}}\n',
             b'{"call": "__class__", "values": [], "named": {}}\n',
             b'{"call": "start", "values": ["sh"], "named": {}}\n',
             b'{"call": "start", "values": ["ferry"], "named": {"ram": 67108864, "workload": "idle --qmp x"}}\n',
             b'{"call": "start", "values": ["ferry"], "named": {"ram": "64M; reboot"}}\n',
             b'{"call": "start", "values": ["ferry"], "named": {"ram": 67108864, "settings": ["a=b c"]}}\n',
             b'{"call": "stop", "values": [7], "named": {}}\n']
    with listener() as place:
        host, port = place.split(":")
        with socket.create_connection((host, int(port))) as peer, peer.makefile("rb") as answers:
            for call in calls:
                peer.sendall(call)
                answer = json.loads(answers.readline())
                check("error" in answer, f"{call}: {answer}")
        # It serves the next one.
        check_sweep(json.loads(bench("guest", "--peer", place, *GUESTS, "--json", "-").stdout))


def children(pid):
    listed = subprocess.run(["ps", "--ppid", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return listed.stdout.split("\n")[:-1]


def listener__peer_goes_away__its_guests_end():
    process = subprocess.Popen([FERRY, "bench", "guest", "--listen", "127.0.0.2:0"], stdout=subprocess.PIPE, text=True)
    try:
        host, port = process.stdout.readline().strip().removeprefix("listening on ").split(":")
        with socket.create_connection((host, int(port))) as peer, peer.makefile("rb") as answers:
            peer.sendall(b'{"call": "start", "values": ["ferry"], "named": {"ram": 67108864, "incoming": true}}\n')
            check(json.loads(answers.readline())["return"]["number"] == 1, "no guest")
            check(len(children(process.pid)) == 1, children(process.pid))
        wait_for(lambda: not children(process.pid), "the guest's end")
    finally:
        process.terminate()
        process.wait()


CASES = [(name, case) for name, case in list(globals().items()) if "__" in name.strip("_") and callable(case)]

if __name__ == "__main__":
    sys.exit(run(CASES, sys.argv[3] if len(sys.argv) > 3 else ""))
