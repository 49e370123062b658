# SPDX-License-Identifier: BSD-2-Clause
"""Spin looks through every state of the models: each, as it is, must hold, and each mistake that it can be
built with (BROKEN_...) must be found. TAP.

usage: test-model.py [SUBSTRING_OF_CASE_NAMES]"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ("handover", "postcopy")
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))

import cases  # noqa: E402 (the path comes first)
from cases import check  # noqa: E402

DEPTH = "100000"
# Blocked processes are no error in themselves: the model's Judge says which ends are right, hence -E.
VERIFY = ["./pan", "-m" + DEPTH, "-E"]


def run(folder, *argv):
    result = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    check(result.returncode == 0, f"{' '.join(argv)}: status {result.returncode}\n{result.stdout[-4000:]}")
    return result.stdout


def path(model):
    return os.path.join(HERE, model + ".pml")


def verify(model, *defines):
    """What the verifier says of the model, and the steps to the error if it found one."""
    if not shutil.which("spin"):
        raise cases.Skip("spin is not installed")
    with tempfile.TemporaryDirectory() as folder:
        run(folder, "spin", *defines, "-a", path(model))
        run(folder, "cc", "-DSAFETY", "-o", "pan", "pan.c")
        report = run(folder, *VERIFY)
        trail = ""
        if os.path.exists(os.path.join(folder, model + ".pml.trail")):
            trail = run(folder, "spin", *defines, "-k", model + ".pml.trail", "-p", "-g", path(model))
    return report, trail


def errors(report):
    count = re.search(r"errors: (\d+)", report)
    check(count, "the verifier did not say how many errors there are:\n" + report)
    return int(count[1])


def holds(model):
    report, trail = verify(model)
    check(errors(report) == 0, report + trail)
    check("search not completed" not in report.lower() and "max search depth too small" not in report, report)
    # A step that is never taken would be verified in vain.
    unreached = re.findall(r"unreached in proctype (\w+)\n((?:\t.*\n)*)", report)
    check(len(unreached) >= 5, "no list of unreached steps:\n" + report)
    for process, steps in unreached:
        ends = [line for line in steps.splitlines() if not line.endswith('"-end-"')]
        check(len(ends) == 1, f"{process} never takes these steps:\n{steps}")


def is_found(model, mistake):
    report, _ = verify(model, "-D" + mistake)
    check(errors(report) > 0, f"with {mistake} the model still holds: it checks nothing there")
    check("assertion violated" in report, report)


def mistakes(model):
    """The names in the model's #ifdef and #ifndef lines."""
    with open(path(model), encoding="utf-8") as text:
        return sorted(set(re.findall(r"^#ifn?def (BROKEN_\w+)", text.read(), re.MULTILINE)))


CASES = [("handover__every_state__one_owner_and_no_lost_guest", lambda: holds("handover")),
         ("postcopy__every_state__one_owner_and_each_page_once", lambda: holds("postcopy"))]
CASES += [(f"{model}__{name.lower()}__found", lambda model=model, name=name: is_found(model, name))
          for model in MODELS for name in mistakes(model)]

if __name__ == "__main__":
    sys.exit(cases.run(CASES, sys.argv[1] if len(sys.argv) > 1 else ""))
