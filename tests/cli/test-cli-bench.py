#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ferry bench fault, as far as it goes without RDMA. TAP.

usage: test-cli-bench.py SOURCE_ROOT FERRY [CASE]"""

import json
import os
import socket
import sys

SOURCE, FERRY = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import Skip, check, run  # noqa: E402 (the path comes first)
from ferry import Ferry             # noqa: E402

RAM, PAGES, FAULTS = "8M", 2048, 40
SMALL = ("--ram", RAM, "--faults", str(FAULTS), "--repeat", "2")


def measure(ferry, *arguments):
    result = ferry.command("bench", "fault", *arguments, *SMALL, "--json", "-")
    if "userfaultfd" in result.stderr:
        raise Skip(result.stderr.strip().splitlines()[-1])
    check(result.returncode == 0, f"status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)["rows"]


def check_rows(rows):
    """Those of TCP have every turn; those of RDMA say why they do not."""
    check(len(rows) == 7, f"{len(rows)} rows")
    for row in rows:
        if row["mode"] != "tcp":
            check(row["skipped"] and "turns" not in row, f"no reason: {row}")
            continue
        check(len(row["turns"]) == 2 and row["p50-us"]["runs"] == 2, f"not 2 turns: {row}")
        for turn in row["turns"]:
            check(turn["missing"] == PAGES, f"{turn['missing']} pages were missing at the switch")
            check(turn["urgent-pages"] + turn["background-pages"] == PAGES, f"other pages came: {turn}")
            check(turn["repeated-pages"] == 0, f"pages came twice: {turn}")
            if not row["background"]:
                check(turn["faults"] == FAULTS, f"{turn['faults']} faults")
                check(0 < turn["p50-us"] <= turn["p90-us"] <= turn["p99-us"] <= turn["max-us"], f"no latency: {turn}")


def fault__on_one_host__measures_tcp_and_skips_rdma():
    with Ferry(FERRY) as ferry:
        check_rows(measure(ferry, "tcp:127.0.0.1:0"))


def fault__two_processes__one_listener_serves_many():
    with Ferry(FERRY) as ferry:
        listener = ferry.begin("bench", "fault", "--listen", "tcp:127.0.0.1:0", "--ram", RAM)
        uri = listener.wait_line("listening on ")
        for _ in range(2):
            check_rows(measure(ferry, "--peer", uri))
        result = ferry.command("bench", "fault", "--peer", uri, "--ram", "16M")
        check(result.returncode == 1 and "say --ram to it too" in result.stderr, f"{result.returncode}: {result.stderr}")


def fault__rdma_where_there_is_none__says_why():
    if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
        raise Skip("this host has RDMA")
    with Ferry(FERRY) as ferry:
        rows = measure(ferry, "rdma:127.0.0.1:0")
        check_rows(rows)
        check("RDMA" in rows[0]["skipped"], rows[0]["skipped"])


def fault__nobody_listens__says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Ferry(FERRY) as ferry:
        result = ferry.command("bench", "fault", "--peer", f"tcp:127.0.0.1:{port}")
        check(result.returncode == 1, f"status {result.returncode}")
        check("ferry bench fault --listen" in result.stderr, result.stderr)


CASES = [(case.__name__, case) for case in (
    fault__on_one_host__measures_tcp_and_skips_rdma,
    fault__two_processes__one_listener_serves_many,
    fault__rdma_where_there_is_none__says_why,
    fault__nobody_listens__says_what_to_do,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
