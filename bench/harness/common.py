# SPDX-License-Identifier: BSD-2-Clause
"""What the benches share: sizes, RAM files, ports, rates."""

import argparse
import contextlib
import os
import shutil
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MIB, GIB = 1 << 20, 1 << 30
UNLIMITED = 1 << 40  # bytes a second, for monitors that must have a limit


class Missing(Exception):
    """What would be measured is not here; the text says what mends it."""


def parse_size(text):
    units = {"K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}
    if text[-1:].upper() not in units or not text[:-1].isdigit():
        raise argparse.ArgumentTypeError(f"{text}: say a size as 512M or 4G")
    return int(text[:-1]) * units[text[-1].upper()]


def list_of(parse):
    """For argparse: values with commas between."""
    def parse_list(text):
        return [parse(part) for part in text.split(",")]
    parse_list.__name__ = "list"
    return parse_list


def show_size(size):
    return f"{size // GIB}G" if size % GIB == 0 else f"{size // MIB}M"


def fill_file(path, size, content):
    """Makes a file of random bytes, no page of it zero; or a sparse one."""
    with open(path, "wb") as out:
        if content == "random":
            chunk = os.urandom(min(size, 64 << 20))
            for done in range(0, size, len(chunk)):
                out.write(chunk[:size - done])
        out.truncate(size)


def free_port(address="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def wait_listening(port, alive, timeout=30):
    """Until a process listens on the TCP port, without connecting to it; alive() raises when it has died."""
    deadline = time.monotonic() + timeout
    while True:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(OSError), open(table, encoding="ascii") as rows:
                if any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in list(rows)[1:]):
                    return
        alive()
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody listens on port {port} after {timeout} s")
        time.sleep(0.02)


def find_ferry(given, program):
    root = os.path.dirname(os.path.dirname(HERE))
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
