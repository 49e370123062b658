# SPDX-License-Identifier: BSD-2-Clause
"""TAP: printing it from a Python test, and counting what a test program printed."""

import re

CASE = re.compile(r"^(ok|not ok)\b\s*(\d+)?\s*(?:- )?([^#]*?)\s*(?:#\s*(\w+)\s*(.*))?$")
PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*SKIP\S*\s*(.*))?$", re.IGNORECASE)
LAST_LINES = 12  # of a failed case's diagnostics, in the report


class Report:
    """Prints one line a case; returns from finish() what the program exits with."""

    def __init__(self):
        self.cases = 0
        self.failures = 0

    def case(self, name, problems=()):
        """problems: lines; none is a pass."""
        problems = list(problems)
        self.cases += 1
        self.failures += bool(problems)
        for problem in problems:
            print(f"# {problem}")
        print(f"{'not ok' if problems else 'ok'} {self.cases} - {name}", flush=True)

    def skip(self, name, reason):
        self.cases += 1
        print(f"ok {self.cases} - {name} # SKIP {reason}", flush=True)

    def finish(self):
        print(f"1..{self.cases}", flush=True)
        return 1 if self.failures else 0


class Count:
    """The cases of one or many test programs."""

    def __init__(self):
        self.passed = 0
        self.failed = []   # names; behind each, on lines of their own, what the case said last
        self.skipped = []  # (name, reason)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    @property
    def total(self):
        return self.passed + len(self.failed) + len(self.skipped)


def count_program(name, text, ended_well, how_it_ended):
    """Counts a program's cases. One that crashed, hung, or broke its plan has one more, failed; one that
    printed no TAP at all is one case."""
    count = Count()
    plan = None
    said = []  # by the case that runs
    for line in text.splitlines():
        if line.startswith("# "):
            said.append(line[2:])
            continue
        plan_match = PLAN.match(line)
        if plan_match:
            plan = int(plan_match[1])
            if plan == 0:
                count.skipped.append((name, plan_match[2] or "no reason given"))
            continue
        case = CASE.match(line)
        if not case:
            continue
        label = f"{name}: {case[3]}"
        directive = (case[4] or "").upper()
        if directive.startswith("SKIP"):
            count.skipped.append((label, case[5] or "no reason given"))
        elif case[1] == "ok":
            count.passed += 1
        else:
            count.failed.append("\n      ".join([label, *said[-LAST_LINES:]]))
        said.clear()
    if plan is None and not count.total and ended_well:
        count.passed = 1
    elif plan and plan != count.total:
        count.failed.append(f"{name}: {plan} cases planned, {count.total} run ({how_it_ended})")
    elif not ended_well and not count.failed:
        count.failed.append(f"{name}: {how_it_ended}")
    return count
