# SPDX-License-Identifier: BSD-2-Clause
"""A bench in the virtual machine that has two software RDMA devices, with a wire between them."""

import json
import os
import subprocess
import sys
import tempfile

from common import HERE, Missing

MACHINE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "tests", "softroce", "run")
WIRE = ("10.77.0.1", "10.77.0.2")  # of its devices
OUTSIDE = ("--json", "--report")   # what is written here, and not there


def inside():
    return bool(os.environ.get("FERRY_SOFTROCE"))


def without_files(argv):
    kept, words = [], iter(argv)
    for word in words:
        if word in OUTSIDE:
            next(words, None)
        elif not word.startswith(tuple(option + "=" for option in OUTSIDE)):
            kept.append(word)
    return kept


def run(name, argv):
    """The same command there; returns its record."""
    if not os.access(MACHINE, os.X_OK):
        raise Missing("--softroce boots tests/softroce/run, and so needs Ferry's source tree")
    with tempfile.TemporaryDirectory(prefix="ferry-bench-") as folder:
        path = os.path.join(folder, "record.json")
        done = subprocess.run([MACHINE, "--memory", "4G", "--timeout", "7200", "--results", folder, sys.executable,
                               os.path.join(HERE, "main.py"), name, *without_files(argv), "--json", path, "--no-text"],
                              check=False)
        if not os.path.exists(path):
            raise RuntimeError(f"nothing came back from the virtual machine, which ended with status {done.returncode}")
        with open(path, encoding="utf-8") as file:
            return json.load(file)
