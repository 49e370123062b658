# SPDX-License-Identifier: BSD-2-Clause
"""ferry migrate and ferry ctl against a monitor that says what the test wants. TAP.

usage: test-cli-migrate.py SOURCE_ROOT FERRY [CASE]"""

import json
import os
import signal
import socket
import sys

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import check, run  # noqa: E402 (the path comes first)
from fake_monitor import FakeMonitor, OneByOne  # noqa: E402
from ferry import Ferry  # noqa: E402

URI = "tcp:192.0.2.1:4444"
RAM = {"transferred": 500000, "remaining": 0, "total": 1 << 20, "duplicate": 100, "normal": 156, "page-size": 4096,
       "dirty-pages-rate": 10, "mbps": 800.5, "dirty-sync-count": 2}
ROUNDS = [{"round": 1, "dirty-pages": 256, "normal": 150, "duplicate": 100, "bytes": 450000, "time-us": 90000},
          {"round": 2, "dirty-pages": 6, "normal": 6, "duplicate": 0, "bytes": 50000, "time-us": 10000}]
ACTIVE = {"status": "active", "total-time": 50, "expected-downtime": 30, "ram": {**RAM, "remaining": 1 << 19}}
COMPLETED = {"status": "completed", "total-time": 100, "setup-time": 1, "downtime": 7, "ram": RAM, "transport": "tcp",
             "wire-bytes": 512345, "verified": True, "rounds": ROUNDS,
             "cpu": {"source": {"user": 1.5, "system": 0.25}, "destination": {"user": 1.0, "system": 0.5}}}
SETTINGS = {
    "query-migrate-capabilities": [{"capability": "events", "state": True}, {"capability": "verify-ram", "state": False}],
    "query-migrate-parameters": {"max-bandwidth": 0, "downtime-limit": 300, "tls-creds": "", "block-incremental": False},
    "migrate-set-capabilities": {}, "migrate-set-parameters": {},
}


class Bench:
    """A ferry, and a monitor that gives these answers to query-migrate."""

    def __init__(self, *infos, **answers):
        self.ferry = Ferry(FERRY)
        self.answers = {"migrate": {}, "query-migrate": OneByOne(infos or [{}])}
        self.answers.update({name.replace("_", "-"): value for name, value in answers.items()})
        self.monitor = None

    def __enter__(self):
        self.ferry.__enter__()
        self.monitor = FakeMonitor(self.ferry.path("qmp"), self.answers)
        return self

    def __exit__(self, *what):
        self.monitor.close()
        self.ferry.__exit__(*what)

    @property
    def address(self):
        return "unix:" + self.ferry.path("qmp")

    def migrate(self, *options, uri=URI, **more):
        return self.ferry.command("migrate", "--qmp", self.address, *options, uri, **more)


def completed__report_and_a_line_a_round__0():
    with Bench({"status": "setup"}, ACTIVE, {**ACTIVE, "rounds": ROUNDS}, COMPLETED) as bench:
        result = bench.migrate()
        check(result.returncode == 0, result)
        check(bench.monitor.arguments("migrate") == {"uri": URI}, bench.monitor.requests)
        check(result.stdout.startswith(f"The guest moved to {URI} in 100 ms and stood still for 7 ms."), result.stdout)
        for words in ("transport    tcp", "rounds       2, the last of 6 pages", "verified     yes",
                      "source 1.50 s user, 0.25 s system; destination 1.00 s user, 0.50 s system"):
            check(words in result.stdout, f"no '{words}' in {result.stdout}")
        check("round 1: 250 pages (100 zero), 439 KiB in 90 ms" in result.stderr, result.stderr)
        check(result.stderr.count("round 1:") == 1 and result.stderr.count("round 2:") == 1, result.stderr)
        check("\r" not in result.stderr and "\033" not in result.stderr, "drawn without a terminal")


def completed__json__one_object_with_what_is_promised():
    with Bench(ACTIVE, COMPLETED) as bench:
        result = bench.migrate("--json")
        check(result.returncode == 0 and json.loads(result.stdout) == COMPLETED, result)
        check(not result.stderr, result.stderr)
    plain = {key: COMPLETED[key] for key in ("status", "total-time", "downtime", "ram")}
    with Bench(plain) as bench:
        result = json.loads(bench.migrate("--json").stdout)
        check(result == {**plain, "transport": None, "wire-bytes": None, "cpu": None, "verified": None}, result)


def completed__another_monitors_answer__is_reported_too():
    with Bench(ACTIVE, {key: COMPLETED[key] for key in ("status", "total-time", "downtime", "ram")}) as bench:
        result = bench.migrate()
        check(result.returncode == 0 and "rounds       2\n" in result.stdout, result)
        check("not asked for" in result.stdout, result.stdout)


def completed__quiet__says_nothing():
    with Bench(ACTIVE, COMPLETED) as bench:
        result = bench.migrate("--quiet")
        check((result.returncode, result.stdout, result.stderr) == (0, "", ""), result)


def failed__reason_and_where_the_guest_is__1():
    with Bench(ACTIVE, {"status": "failed", "error-desc": "the dog ate it"}) as bench:
        result = bench.migrate()
        check(result.returncode == 1, result)
        check(f"the migration to {URI} failed: the dog ate it" in result.stderr, result.stderr)
        check("The guest runs on at the source." in result.stderr, result.stderr)
    with Bench({"status": "failed"}, query_status={"status": "paused", "running": False}) as bench:
        check("The guest is at the source, paused." in bench.migrate().stderr, "paused")


def refused__before_it_began__1_and_json_says_why():
    with Bench(migrate="error: a guest lives here already") as bench:
        result = bench.migrate("--json")
        check(result.returncode == 1, result)
        answer = json.loads(result.stdout)
        check(answer["status"] == "failed" and answer["error-desc"] == "a guest lives here already", answer)
        check("a guest lives here already" in result.stderr, result.stderr)


def handover_lost__stays_so__3_and_tells_what_to_do():
    with Bench({"status": "handover-lost", "error-desc": "the link died"}) as bench:
        result = bench.migrate("--quiet")
        check(result.returncode == 3, result)
        check("in doubt: the link died" in result.stderr and "ferry-resolve" in result.stderr, result.stderr)


def handover_lost__resolves_itself__0():
    with Bench(ACTIVE, {"status": "handover-lost"}, {"status": "handover-lost"}, COMPLETED) as bench:
        check(bench.migrate().returncode == 0, "not 0")


def monitor__dies_on_the_way__3():
    with Bench(ACTIVE, None) as bench:
        result = bench.migrate("--json")
        check(result.returncode == 3, result)
        check(json.loads(result.stdout)["status"] == "handover-lost", result.stdout)
        check("lost sight" in result.stderr and "hung up" not in result.stdout, result.stderr)


def settings__known__are_sent_with_their_types():
    with Bench(COMPLETED, **SETTINGS) as bench:
        options = ("verify-ram=on", "max-bandwidth=100M", "downtime-limit=50", "tls-creds=5", "block-incremental=off")
        result = bench.migrate(*[word for option in options for word in ("--set", option)])
        check(result.returncode == 0, result)
        check(bench.monitor.arguments("migrate-set-capabilities") ==
              {"capabilities": [{"capability": "verify-ram", "state": True}]}, bench.monitor.requests)
        check(bench.monitor.arguments("migrate-set-parameters") ==
              {"max-bandwidth": 100 << 20, "downtime-limit": 50, "tls-creds": "5", "block-incremental": False},
              bench.monitor.requests)
        order = [name for name, _ in bench.monitor.requests]
        check(order.index("migrate-set-parameters") < order.index("migrate"), order)


def settings__wrong__2_and_nothing_was_set():
    for option, words in (("warp=9", "events, verify-ram, max-bandwidth, downtime-limit"), ("verify-ram=maybe", "on or off"),
                          ("downtime-limit=-1", "integer"), ("downtime-limit=x", "integer"), ("events", "NAME=VALUE")):
        with Bench(COMPLETED, **SETTINGS) as bench:
            result = bench.migrate("--set", "max-bandwidth=5", "--set", option)
            check(result.returncode == 2 and words in result.stderr, f"{option}: {result}")
            done = {name for name, _ in bench.monitor.requests}
            check(not done & {"migrate", "migrate-set-parameters", "migrate-set-capabilities"}, f"{option}: {done}")


def settings__out_of_range__2_with_the_monitors_words():
    with Bench(COMPLETED, **{**SETTINGS, "migrate-set-parameters": "error: Parameter 'downtime-limit' expects"}) as bench:
        result = bench.migrate("--set", "downtime-limit=9999999")
        check(result.returncode == 2 and "Parameter 'downtime-limit' expects" in result.stderr, result)
        check("migrate" not in [name for name, _ in bench.monitor.requests], bench.monitor.requests)


def fd__of_our_own__is_passed_on_by_name():
    ours, theirs = socket.socketpair()
    with ours, theirs, Bench(COMPLETED, getfd={}) as bench:
        process = bench.ferry.begin("migrate", "--qmp", bench.address, "--quiet", f"fd:{theirs.fileno()}",
                                    pass_fds=(theirs.fileno(),))
        check(process.wait() == 0, process.output)
        name = bench.monitor.arguments("getfd")["fdname"]
        check(not name[0].isdigit() and bench.monitor.arguments("migrate") == {"uri": "fd:" + name}, name)
        check(len(bench.monitor.descriptors) == 1, bench.monitor.descriptors)
        check(os.fstat(bench.monitor.descriptors[0]).st_ino == os.fstat(theirs.fileno()).st_ino, "another descriptor")


def interrupt__on_the_way__cancels_and_waits_for_it():
    with Bench(ACTIVE) as bench:
        infos = bench.monitor.answers["query-migrate"]
        bench.monitor.answers["migrate_cancel"] = {}
        process = bench.ferry.begin("migrate", "--qmp", bench.address, URI)
        process.wait_line("copying")
        process.process.send_signal(signal.SIGINT)
        bench.monitor.wait_request("migrate_cancel")
        infos[:] = [{"status": "cancelling"}, {"status": "cancelled"}]
        check(process.wait() == 1, process.output)
        check("ferry migrate: cancelled" in process.output, process.output)
        check("The guest runs on at the source." in process.output, process.output)


def peer__no_qmp__is_said():
    with Ferry(FERRY) as ferry:
        monitor = FakeMonitor(ferry.path("qmp"), {}, greeting={"hello": "there"})
        result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("qmp"), URI)
        monitor.close()
        check(result.returncode == 1 and "does not speak QMP" in result.stderr, result)


def ctl__values__have_the_types_they_look_like():
    with Bench(echo={"ok": [1, True]}) as bench:
        words = ("s=text", "n=5", "f=-1.5e3", "t=true", "z=null", 'q="5"', "l=[1,2]", "o.a=1", "o.b=x", "lead=0123",
                 "uri=tcp:a:1", "e=", "bad={", "sq='x'", "eq=a=b")
        result = bench.ferry.command("ctl", "--qmp", bench.address, "echo", *words)
        check(result.returncode == 0 and json.loads(result.stdout) == {"ok": [1, True]}, result)
        check(bench.monitor.arguments("echo") == {
            "s": "text", "n": 5, "f": -1500.0, "t": True, "z": None, "q": "5", "l": [1, 2], "o": {"a": 1, "b": "x"},
            "lead": "0123", "uri": "tcp:a:1", "e": "", "bad": "{", "sq": "'x'", "eq": "a=b"}, bench.monitor.requests)


def ctl__refused__1_with_the_words():
    with Bench(stop="error: the guest is elsewhere") as bench:
        result = bench.ferry.command("ctl", "--qmp", bench.address, "stop")
        check((result.returncode, result.stdout) == (1, ""), result)
        check(result.stderr == "ferry ctl: the guest is elsewhere\n", result.stderr)


CASES = [(case.__name__, case) for case in (
    completed__report_and_a_line_a_round__0,
    completed__json__one_object_with_what_is_promised,
    completed__another_monitors_answer__is_reported_too,
    completed__quiet__says_nothing,
    failed__reason_and_where_the_guest_is__1,
    refused__before_it_began__1_and_json_says_why,
    handover_lost__stays_so__3_and_tells_what_to_do,
    handover_lost__resolves_itself__0,
    monitor__dies_on_the_way__3,
    settings__known__are_sent_with_their_types,
    settings__wrong__2_and_nothing_was_set,
    settings__out_of_range__2_with_the_monitors_words,
    fd__of_our_own__is_passed_on_by_name,
    interrupt__on_the_way__cancels_and_waits_for_it,
    peer__no_qmp__is_said,
    ctl__values__have_the_types_they_look_like,
    ctl__refused__1_with_the_words,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
