#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ferry bench link and fault, as far as they go without RDMA. TAP.

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
            quantiles = turn["quantiles-us"]
            check(len(quantiles) == min(turn["faults"], 200), f"{len(quantiles)} quantiles of {turn['faults']} faults")
            check(quantiles == sorted(quantiles) and quantiles[-1:] == [turn["max-us"]][:len(quantiles)], f"quantiles: {turn}")
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


def link(ferry, *arguments):
    result = ferry.command("bench", "link", *arguments, "--ram", RAM, "--repeat", "2", "--seconds", "0.02",
                           "--connections", "1,3", "--json", ferry.path("record"))
    check(result.returncode == 0, f"status {result.returncode}: {result.stderr}")
    with open(ferry.path("record"), encoding="utf-8") as text:
        return result.stdout, json.load(text)


def check_link(text, record):
    """A record of the shape that all benches write, with two samples in every cell, and the same as text."""
    check(record["ferry-bench"] == 1 and record["bench"] == "link", record["bench"])
    check(record["command"][1:3] == ["bench", "link"] and record["seconds"] > 0, f"{record['command']}, {record['seconds']}")
    host, = record["hosts"]
    check(host["role"] == "both" and host["cpus"] > 0 and host["memory"] > 0 and host["versions"]["ferry"], host)
    check([skipped["what"] for skipped in record["skipped"]] == ["RDMA"], record["skipped"])
    tables = {table["title"]: {row["name"]: row["cells"] for row in table["rows"]} for table in record["tables"]}
    check(set(tables) == {"Raw TCP sockets, the ceiling", "Migrations"}, set(tables))
    check(set(tables["Raw TCP sockets, the ceiling"]) == {"1 connection", "3 connections"}, tables)
    check(set(tables["Migrations"]) == {"tcp, 1 connection", "multifd, 3 connections"}, tables)
    for title, rows in tables.items():
        check(title in text, f"no {title} in {text}")
        for name, cells in rows.items():
            for key, cell in cells.items():
                if isinstance(cell, dict):
                    check(len(cell["samples"]) == cell["n"] == 2, f"{name}, {key}: {cell}")
                    check((cell["min"], cell["max"]) == (min(cell["samples"]), max(cell["samples"])), f"{name}, {key}: {cell}")
            for key in ("rate", "bulk", "whole"):
                check(key not in cells or cells[key]["min"] > 0, f"{name}, {key}: {cells}")
    for warning in record["warnings"]:
        check(f"warning: {warning}\n" in text, f"{warning} is not in {text}")
    series = {one["name"] for one in record["charts"][0]["series"]}
    check(series == {"raw sockets", "migration, bulk"}, series)


def link__alone_without_rdma__measures_sockets_and_migrations():
    if os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"):
        raise Skip("this host has RDMA")
    with Ferry(FERRY) as ferry:
        check_link(*link(ferry))


def link__two_processes_over_tcp__one_listener_serves_many():
    with Ferry(FERRY) as ferry:
        listener = ferry.begin("bench", "link", "--listen", "tcp:127.0.0.1:0", "--ram", RAM)
        uri = listener.wait_line("listening on ")
        for _ in range(2):
            check_link(*link(ferry, "--peer", uri))
        result = ferry.command("bench", "link", "--peer", uri, "--ram", "16M")
        check(result.returncode == 1 and "say --ram to it too" in result.stderr, f"{result.returncode}: {result.stderr}")


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
    link__alone_without_rdma__measures_sockets_and_migrations,
    link__two_processes_over_tcp__one_listener_serves_many,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[3:]))
