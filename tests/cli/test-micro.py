#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""bench/micro runs, and says what it should; how fast is no matter here. TAP.

usage: test-micro.py SOURCE_ROOT MICRO [CASE]"""

import json
import os
import subprocess
import sys

SOURCE, MICRO = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import check, run  # noqa: E402 (the path comes first)

FIGURES = ("bytes-per-second", "ns-per-page")


def micro(*arguments):
    return subprocess.run([MICRO, *arguments], capture_output=True, text=True, timeout=120, check=False)


def micro__quick__every_case_has_its_figures():
    done = micro("--quick", "--json")
    check(done.returncode == 0, f"status {done.returncode}: {done.stderr}")
    found = json.loads(done.stdout)
    paths = {case["name"].split("/")[0] for case in found["cases"]}
    for path in ("scan", "zero-test", "read", "xbzrle-encode", "xbzrle-decode", "frame"):
        check(path in paths, f"{path} was not measured")
    for case in found["cases"]:
        for name in FIGURES:
            check(case[name]["runs"] == 1 and case[name]["median"] > 0, f"no {name}: {case}")
        counted = case.get("instructions-per-page", {}).get("median", 0) > 0
        check(counted != bool(found.get("instructions-skipped")), f"neither instructions nor why not: {case}")


def micro__quick_table__says_as_much():
    done = micro("--quick", "--only", "zero-test")
    lines = done.stdout.splitlines()
    check(done.returncode == 0 and sum(line.startswith("zero-test/") for line in lines) == 5, done.stdout)
    check(not any(line.startswith("scan/") for line in lines), "--only was ignored")


def micro__wrong_usage__status_2():
    for arguments in (("--only", "no-such-path"), ("--runs", "0"), ("--memory", "-1"), ("operand",), ("--what",)):
        done = micro(*arguments)
        check(done.returncode == 2 and done.stderr, f"{arguments}: status {done.returncode}")


CASES = [(f.__name__, f) for f in (
    micro__quick__every_case_has_its_figures,
    micro__quick_table__says_as_much,
    micro__wrong_usage__status_2,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, sys.argv[3] if len(sys.argv) > 3 else ""))
