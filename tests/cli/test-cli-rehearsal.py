# SPDX-License-Identifier: BSD-2-Clause
"""ferry migrate --dry-run, against a monitor that says what the test wants, and for real: what it says comes true. TAP.

usage: test-cli-rehearsal.py SOURCE_ROOT FERRY [CASE]"""

import json
import os
import sys

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import check, run                   # noqa: E402 (the path comes first)
from fake_monitor import FakeMonitor, OneByOne  # noqa: E402
from ferry import Ferry                        # noqa: E402

URI = "tcp:192.0.2.1:4444"
MEASURED = {"done": True, "seconds": 3.01, "bandwidth": 100 << 20, "max-bandwidth": 100 << 20, "downtime-limit": 300,
            "first-second-pages": 25600, "steady-pages-rate": 256, "written": [{"seconds": 1, "pages": 25600}], "rounds": 2}
CONVERGES = {**MEASURED, "converges": True, "total-time": 2500.5, "downtime": 120.2}
NOT = {**MEASURED, "converges": False, "downtime": 2400.0,
       "advice": {"downtime-limit": 3020, "cpu-throttle-percentage": 45, "max-bandwidth": 262144000}}


def dry_run(rehearsal, *options, status="cancelled", **more):
    """Of a monitor whose rehearsal comes out so: the finished command, and the requests."""
    end = {"status": status, "transport": "tcp", **more}
    if rehearsal:
        end["rehearsal"] = rehearsal
    with Ferry(FERRY) as ferry:
        monitor = FakeMonitor(ferry.path("qmp"), {
            "ferry-rehearse": {}, "query-migrate": OneByOne([{"status": "active", "rehearsal": {"done": False}}, end])})
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("qmp"), *options, URI)
        monitor.close()
    return result, monitor


def converges__a_paragraph__0():
    result, monitor = dry_run(CONVERGES, "--dry-run=7")
    check(result.returncode == 0, result)
    check(monitor.arguments("ferry-rehearse") == {"uri": URI, "seconds": 7}, monitor.requests)
    check("migrate" not in [name for name, _ in monitor.requests], "it moved")
    for words in (f"It converges: the guest would be at {URI} in 2.50 s, and stand still for 120 ms of the 300 ms",
                  "by tcp, took 100 MiB/s (max-bandwidth is set)", "100 MiB in the first second", "1 MiB a second"):
        check(words in result.stdout, f"no '{words}' in {result.stdout}")
    check("What would do" not in result.stdout, result.stdout)


def not_converging__each_advice__4():
    result, monitor = dry_run(NOT, "--dry-run")
    check(result.returncode == 4, result)
    check(monitor.arguments("ferry-rehearse")["seconds"] == 3, monitor.requests)
    for words in ("It does not converge", "stand still for 2.40 s, and may for 300 ms", "--set downtime-limit=3020",
                  "--set max-bandwidth=262144000", "--set auto-converge=on", "45 %", "--postcopy"):
        check(words in result.stdout, f"no '{words}' in {result.stdout}")
    result, _ = dry_run({**NOT, "advice": {}}, "--dry-run")
    check(result.returncode == 4 and "--set" not in result.stdout and "--postcopy" in result.stdout, result)


def json__numbers_and_the_same_status():
    for rehearsal, code in ((CONVERGES, 0), (NOT, 4)):
        result, _ = dry_run(rehearsal, "--dry-run", "--json")
        check(result.returncode == code and json.loads(result.stdout)["rehearsal"] == rehearsal, result)


def cancelled_or_failed__1_as_a_migration():
    result, _ = dry_run({"done": False}, "--dry-run")
    check(result.returncode == 1 and "cancelled" in result.stderr, result)
    result, _ = dry_run({"done": False}, "--dry-run", status="failed", **{"error-desc": "cannot rehearse to x"})
    check(result.returncode == 1 and f"the rehearsal to {URI} failed: cannot rehearse to x" in result.stderr, result)


class Pair:
    """Two real monitors."""

    def __init__(self, *options):
        self.ferry = Ferry(FERRY)
        self.options = options

    def __enter__(self):
        self.ferry.__enter__()
        there, self.destination = self.ferry.guest("b", "--ram", "64M", "--process", "--incoming", "tcp:127.0.0.1:0")
        self.uri = there.wait_line("listening on ")
        _, self.source = self.ferry.guest("a", "--ram", "64M", "--process", *self.options)
        return self

    def __exit__(self, *what):
        self.ferry.__exit__(*what)

    def migrate(self, *options):
        result = self.ferry.command("migrate", "--qmp", "unix:" + self.ferry.path("a"), "--json", *options, self.uri)
        check(result.stdout, result)
        return result.returncode, json.loads(result.stdout)


def check_moved(pair, *options):
    code, info = pair.migrate(*options)
    check(code == 0 and info["status"] == "completed" and info["verified"] is True, info)
    report = pair.destination.command("guest-check")
    check(report["passed"], report)


def real__idle_guest__converges_and_then_does():
    with Pair() as pair:
        code, info = pair.migrate("--dry-run=1")
        check(code == 0 and info["rehearsal"]["converges"] and info["status"] == "cancelled", info)
        check(pair.source.command("query-status") == {"status": "running", "singlestep": False, "running": True}, "stopped")
        check(pair.destination.command("query-migrate") == {"status": "setup"}, "the destination is not as before")
        check_moved(pair)


def real__half_as_fast_again_as_the_link__does_not_until_the_advice_is_taken():
    slow = ("max-bandwidth=20M", "avail-switchover-bandwidth=20M")
    with Pair("--workload", "random:30", *[word for name in slow for word in ("--set", name)]) as pair:
        code, info = pair.migrate("--dry-run=3")
        check(code == 4 and not info["rehearsal"]["converges"], info["rehearsal"])
        advice = info["rehearsal"]["advice"]
        check(advice["downtime-limit"] > 300, advice)
        check_moved(pair, "--set", f"downtime-limit={advice['downtime-limit']}")


def real__refused__says_why_and_moves_nothing():
    with Pair() as pair:
        for uri in ("file:" + pair.ferry.path("x"), "exec:cat"):
            pair.uri, there = uri, pair.uri
            code, info = pair.migrate("--dry-run")
            check(code == 1 and "rehearse to tcp:, unix: or rdma:" in info["error-desc"], info)
            check(not os.path.exists(pair.ferry.path("x")), "it wrote a file")
            pair.uri = there
        try:
            pair.source.command("ferry-rehearse", uri=pair.uri, seconds=601)
            check(False, "601 s were taken")
        except Exception as refusal:  # QmpError
            check("1 to 600" in str(refusal), refusal)


CASES = [(case.__name__, case) for case in (
    converges__a_paragraph__0,
    not_converging__each_advice__4,
    json__numbers_and_the_same_status,
    cancelled_or_failed__1_as_a_migration,
    real__idle_guest__converges_and_then_does,
    real__half_as_fast_again_as_the_link__does_not_until_the_advice_is_taken,
    real__refused__says_why_and_moves_nothing,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
