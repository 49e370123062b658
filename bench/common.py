# SPDX-License-Identifier: BSD-2-Clause
"""What the comparisons with peers share: sizes, RAM files, the ferry command."""

import argparse
import os
import shutil
import socket
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MIB, GIB = 1 << 20, 1 << 30


def parse_size(text):
    units = {"K": 1 << 10, "M": MIB, "G": GIB}
    if text[-1:].upper() not in units or not text[:-1].isdigit():
        raise argparse.ArgumentTypeError(f"{text}: say a size as 512M or 4G")
    return int(text[:-1]) * units[text[-1].upper()]


def find_ferry(given, program):
    root = os.path.dirname(HERE)
    places = [given] if given else [os.path.join(root, "build", name, "cli", "ferry")
                                    for name in ("bench", "quickstart")]
    for place in places:
        if os.access(place, os.X_OK):
            return os.path.abspath(place)
    found = None if given else shutil.which("ferry")
    if not found:
        sys.exit(f"{program}: no ferry command; build an optimised one:\n"
                 "  meson setup build/bench --buildtype=release && ninja -C build/bench")
    return found


def fill_file(path, size, content):
    """Makes a file of random bytes, no page of it zero; or a sparse one."""
    with open(path, "wb") as out:
        if content == "random":
            chunk = os.urandom(min(size, 64 << 20))
            for done in range(0, size, len(chunk)):
                out.write(chunk[:size - done])
        out.truncate(size)


def free_port(address="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def median(numbers):
    """None of nothing."""
    return statistics.median(numbers) if numbers else None
