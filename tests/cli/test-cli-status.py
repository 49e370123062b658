# SPDX-License-Identifier: BSD-2-Clause
"""ferry status, against a monitor that says what the test wants, and against a real one; and the log. TAP.

usage: test-cli-status.py SOURCE_ROOT FERRY [CASE]"""

import json
import os
import re
import subprocess
import sys

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import check, run           # noqa: E402 (the path comes first)
from fake_monitor import FakeMonitor   # noqa: E402
from ferry import Ferry                # noqa: E402

RAM = {"transferred": 500000, "remaining": 1 << 19, "total": 1 << 20, "duplicate": 100, "normal": 156, "skipped": 0,
       "page-size": 4096, "dirty-pages-rate": 10, "mbps": 800.5, "dirty-sync-count": 2, "precopy-bytes": 500000,
       "downtime-bytes": 0, "postcopy-bytes": 0}
ACTIVE = {"status": "active", "total-time": 1500, "setup-time": 3, "expected-downtime": 30, "ram": RAM,
          "transport": "tcp", "dirty-source": "wp-async", "wire-bytes": 512345, "cpu-throttle-percentage": 20,
          "fallback-reason": 'no "device" here\nC:\\dev',
          "cpu": {"source": {"user": 1.5, "system": 0.25}}}
PAUSED = {**ACTIVE, "status": "postcopy-paused", "error-desc": "the link died", "downtime": 12,
          "postcopy": {"mode": "pull", "discarded-pages": 9, "missing-pages": 7, "requests": 3, "urgent-pages": 1,
                       "background-pages": 2, "pauses": 1,
                       "latency-us": {"count": 3, "p50": 100, "p90": 200, "p99": 300, "max": 400}}}
RDMA = {"device": "rxe0", "queue-pairs": 2, "registered-bytes": 4096, "registered-total-bytes": 8192, "registrations": 2,
        "releases": 1, "registration-us": 2500}
STATES = {"none", "setup", "active", "pre-switchover", "device", "handover", "handover-lost", "postcopy-active",
          "postcopy-paused", "postcopy-recover", "completed", "failed", "cancelling", "cancelled"}
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"^({NAME})(?:\{{(.*)\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def status(info, *options, **answers):
    with Ferry(FERRY) as ferry:
        monitor = FakeMonitor(ferry.path("qmp"), {"query-migrate": info, **answers})
        result = ferry.command("status", "--qmp", "unix:" + ferry.path("qmp"), *options)
        monitor.close()
    return result


def parse_labels(text):
    labels, end = {}, 0
    for match in LABEL.finditer(text):
        check(match.start() == end and match[1] not in labels, f"labels {text}")
        labels[match[1]] = match[2].replace("\\\\", "\0").replace("\\n", "\n").replace('\\"', '"').replace("\0", "\\")
        end = match.end()
    check(end == len(text), f"labels {text}")
    return tuple(sorted(labels.items()))


def parse(text):
    """A strict reader of the text format: HELP, TYPE, then all samples of one metric, no metric twice. Gives
    {name: (type, {labels: value})}."""
    metrics, current = {}, None
    check(text.endswith("\n"), "no newline at the end")
    lines = iter(text[:-1].split("\n"))
    for line in lines:
        if line.startswith("#"):
            head = re.fullmatch(rf"# HELP ({NAME}) ([^\\]+)", line)
            check(head, f"expected HELP: {line}")
            current = head[1]
            kind = re.fullmatch(rf"# TYPE {current} (counter|gauge)", next(lines))
            check(kind, f"no TYPE behind {line}")
            check(current not in metrics, f"{current} comes twice")
            check((kind[1] == "counter") == current.endswith("_total"), f"{current} is a {kind[1]}")
            metrics[current] = (kind[1], {})
            continue
        sample = SAMPLE.match(line)
        check(sample and sample[1] == current, f"{line!r} behind {current}")
        labels = parse_labels(sample[2] or "")
        check(labels not in metrics[current][1], f"{line} comes twice")
        metrics[current][1][labels] = float(sample[3])
    for name, (_, samples) in metrics.items():
        check(samples, f"{name} has no sample")
    return metrics


def value(metrics, name, **labels):
    return metrics["ferry_migration_" + name][1][tuple(sorted(labels.items()))]


def prometheus__active__base_units_and_labels():
    result = status(ACTIVE, "--prometheus", **{"query-rdma": RDMA})
    check(result.returncode == 0 and not result.stderr, result)
    metrics = parse(result.stdout)
    states = metrics["ferry_migration_state"][1]
    check({labels[0][1] for labels in states} == STATES, states)
    check([labels for labels, on in states.items() if on] == [(("state", "active"),)], states)
    for name, labels, want in (
            ("duration_seconds", {}, 1.5), ("setup_seconds", {}, 0.003), ("expected_downtime_seconds", {}, 0.03),
            ("throttle_ratio", {}, 0.2), ("remaining_bytes", {}, 1 << 19), ("throughput_bytes_per_second", {}, 100062500),
            ("dirty_bytes_per_second", {}, 40960), ("wire_bytes_total", {"transport": "tcp"}, 512345),
            ("pages_total", {"kind": "zero"}, 100), ("cpu_seconds_total", {"side": "source", "mode": "user"}, 1.5),
            ("info", {"transport": "tcp", "dirty_source": "wp-async"}, 1), ("rdma_queue_pairs", {}, 2),
            ("rdma_registration_seconds_total", {}, 0.0025),
            ("fallback", {"reason": 'no "device" here\nC:\\dev'}, 1)):
        check(abs(value(metrics, name, **labels) - want) < 1e-9 * max(1, want), f"{name}: {metrics}")
    check("ferry_migration_downtime_seconds" not in metrics, "a downtime before the end")
    check(metrics["ferry_guest_running"][1] == {(): 1}, metrics)


def prometheus__paused__3_and_what_is_missing():
    result = status(PAUSED, "--prometheus")
    check(result.returncode == 3, result)
    metrics = parse(result.stdout)
    check(value(metrics, "postcopy_missing_pages") == 7, metrics)
    check(value(metrics, "postcopy_fault_seconds", statistic="p99") == 0.0003, metrics)
    check(value(metrics, "error", reason="the link died") == 1, metrics)


def prometheus__nothing_yet__state_none():
    metrics = parse(status({}, "--prometheus").stdout)
    check(value(metrics, "state", state="none") == 1, metrics)
    check(set(metrics) == {"ferry_guest_running", "ferry_guest_info", "ferry_migration_state"}, metrics)


def prometheus__every_metric__is_in_the_document():
    with open(os.path.join(SOURCE, "docs", "observability.md"), encoding="utf-8") as text:
        told = set(re.findall(r"`(ferry_[a-z_]+)`", text.read()))
    completed = {**ACTIVE, **PAUSED, "verified": True, "bandwidth-group": {"members": 2, "rate": 1 << 20}}
    completed["cpu"] = {side: {"user": 1, "system": 2} for side in ("source", "destination")}
    built = set(parse(status(completed, "--prometheus", **{"query-rdma": RDMA}).stdout))
    check(built == told, f"only on one side: {built ^ told}")


def page__active__tells_what_matters():
    result = status(ACTIVE)
    check(result.returncode == 0, result)
    for words in ("guest        running", "migration    active, 1.50 s", "transport    tcp", "512 KiB of 1 MiB to send",
                  "throttled    20 %", "30 ms, if it were stopped now"):
        check(words in result.stdout, f"no '{words}' in {result.stdout}")
    check(status({"status": "handover-lost"}).returncode == 3, "handover-lost")
    check("migration    none" in status({}).stdout, "none")
    check("blocked by   the disk" in status({"blocked-reasons": ["the disk"]}).stdout, "blocked")


def json__one_object_of_the_answers():
    result = status(ACTIVE, "--json", **{"query-rdma": RDMA})
    want = {"guest": {"status": "running", "running": True}, "migration": ACTIVE, "rdma": RDMA}
    check(result.returncode == 0 and json.loads(result.stdout) == want, result)
    check("rdma" not in json.loads(status(ACTIVE, "--json").stdout), "rdma")


def monitor__not_there_or_nonsense__1():
    with Ferry(FERRY) as ferry:
        result = ferry.command("status", "--qmp", "unix:/nowhere/qmp")
        check(result.returncode == 1 and "/nowhere/qmp" in result.stderr, result)
    result = status([])
    check(result.returncode == 1 and "no object" in result.stderr and not result.stdout, result)
    check(status(None).returncode == 1, "hung up")


def fail_and_move(*options, environment=None):
    """stderr of a guest whose migration fails, and then completes."""
    with Ferry(FERRY) as ferry, open(ferry.path("log"), "w+", encoding="utf-8") as log:
        begun = subprocess.Popen([FERRY, "run", "--ram", "16M", "--process", "--qmp", "unix:" + ferry.path("a"), *options],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                                 env={**os.environ, **(environment or {})})
        try:
            for line in begun.stdout:
                if line.startswith("QMP on"):
                    break
            address = "unix:" + ferry.path("a")
            failed = ferry.command("migrate", "--qmp", address, "unix:" + ferry.path("nobody"))
            moved = ferry.command("migrate", "--qmp", address, "file:" + ferry.path("stream"))
            check((failed.returncode, moved.returncode) == (1, 0), f"{failed} {moved}")
            real = ferry.command("status", "--qmp", address, "--prometheus")
            check(value(parse(real.stdout), "state", state="completed") == 1, real)
            ferry.command("ctl", "--qmp", address, "quit")
            begun.wait(60)
        finally:
            begun.kill()
            begun.communicate()
        log.seek(0)
        return log.read()


def log__a_failed_migration__says_the_reason_once():
    lines = fail_and_move("--log", "message").splitlines()
    check(len(lines) == 2, lines)
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ferry message: source: "
    check(re.fullmatch(shape + r"failed, was setup: .*nobody.*", lines[0]), lines)
    check(re.fullmatch(shape + "completed, was device", lines[1]), lines)


def log__levels__each_has_what_is_above_it():
    info = fail_and_move("--log", "info")
    check("info: source: active, was setup" in info and "info: source: connected to file:" in info, info)
    check("round" not in info and "message: source: failed" in info, info)
    debug = fail_and_move("--log", "debug")
    check(re.search(r"debug: source: round 1 begins with \d+ pages\n", debug), debug)
    check(debug.count("nobody") == 1, debug)
    check(fail_and_move(environment={"G_MESSAGES_DEBUG": "ferry"}).count("round 1 ends") == 1, "G_MESSAGES_DEBUG")


def log__off__prints_nothing():
    for options in ((), ("--log", "off"), ("--log", "warning")):
        check(fail_and_move(*options, environment={"G_MESSAGES_DEBUG": ""}) == "", options)


CASES = [(case.__name__, case) for case in (
    prometheus__active__base_units_and_labels,
    prometheus__paused__3_and_what_is_missing,
    prometheus__nothing_yet__state_none,
    prometheus__every_metric__is_in_the_document,
    page__active__tells_what_matters,
    json__one_object_of_the_answers,
    monitor__not_there_or_nonsense__1,
    log__a_failed_migration__says_the_reason_once,
    log__levels__each_has_what_is_above_it,
    log__off__prints_nothing,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
