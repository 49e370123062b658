# SPDX-License-Identifier: BSD-2-Clause
"""The record of a bench: where it ran, and figures with every sample that they come from. docs/bench.md has its shape."""

import contextlib
import datetime
import glob
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import time

# (largest - smallest) / median from which on a figure says little.
WIDE = 0.3
VERSIONS = {"ferry": ["--version"], "qemu-system-x86_64": ["--version"], "iperf3": ["--version"],
            "ib_write_bw": ["--version"], "gnuplot": ["--version"]}


def first_line(path, pattern):
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as rows:
        for row in rows:
            found = re.match(pattern, row)
            if found:
                return found[1].strip()
    return None


def version_of(program, arguments):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        found = re.search(r"\d+(\.\d+)+\S*", lines[0]) if lines else None
        return found[0] if found else "unknown"
    return None


def rdma_devices():
    devices = []
    for path in sorted(glob.glob("/sys/class/infiniband/*")):
        netdevs = glob.glob(path + "/ports/1/gid_attrs/ndevs/0")
        beside = first_line(netdevs[0], r"(.+)") if netdevs else None
        rate = first_line(path + "/ports/1/rate", r"(.+)") or "unknown rate"
        devices.append(f"{os.path.basename(path)}{f' on {beside}' if beside else ''}, {rate}")
    return devices


def virtual():
    if shutil.which("systemd-detect-virt"):
        done = subprocess.run(["systemd-detect-virt", "--vm"], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"
    return "a virtual machine" if first_line("/proc/cpuinfo", r"flags\s*:.*\b(hypervisor)\b") else "none seen"


def environment(role, ferry):
    """Of this host."""
    programs = {name: version_of(ferry if name == "ferry" else name, arguments)
                for name, arguments in VERSIONS.items()}
    memory = first_line("/proc/meminfo", r"MemTotal:\s*(\d+)")
    return {"role": role, "hostname": socket.gethostname(),
            "processor": first_line("/proc/cpuinfo", r"model name\s*:(.*)") or platform.machine(),
            "cpus": os.cpu_count(), "memory": int(memory or 0) << 10, "kernel": platform.release(),
            "virtual": virtual(), "devices": rdma_devices(),
            "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", r"(.+)"),
            "versions": {name: version for name, version in programs.items() if version}}


def figure(samples):
    """A cell of a table; None without samples."""
    samples = [sample for sample in samples if sample is not None]
    if not samples:
        return None
    return {"samples": samples, "median": statistics.median(samples), "min": min(samples), "max": max(samples),
            "n": len(samples)}


def spread(cell):
    return (cell["max"] - cell["min"]) / cell["median"] if cell and cell["median"] else 0


def ratio(upper, lower):
    """Of two lists of samples of the same turns, turn by turn: what moves both does not move it."""
    return figure([a / b for a, b in zip(upper, lower) if a is not None and b])


class Record:
    """Filled by a bench; times itself."""

    def __init__(self, bench, title, command, plan):
        self.begin = time.monotonic()
        begun = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        self.data = {"ferry-bench": 1, "bench": bench, "title": title, "command": command,
                     "begun": begun.isoformat().replace("+00:00", "Z"), "hosts": [], "plan": plan, "notes": [],
                     "warnings": [], "failures": [], "skipped": [], "tables": [], "charts": [], "timelines": []}

    def add(self, part, *entries):
        self.data[part] += entries

    def note_wide(self, what, cell, unit=""):
        """Warns where a figure's samples lie so far apart that it says little."""
        if cell and cell["n"] > 1 and spread(cell) > WIDE:
            self.add("warnings", f"{what}: {cell['min']:.3g} to {cell['max']:.3g}{unit} in {cell['n']} turns, which is "
                     f"{spread(cell):.0%} of the median: too wide to rely on")

    def add_run(self, source, destination, turns):
        """Where it ran and what went wrong; @source, @destination: of host.py."""
        self.add("hosts", source.environment("source" if destination.is_peer else "both"))
        if destination.is_peer:
            self.add("hosts", destination.environment("destination"))
        self.add("failures", *turns.failures)
        self.add("skipped", *turns.skipped)

    def finish(self, raw):
        """@raw: every single measurement, as it was taken."""
        self.data["seconds"] = round(time.monotonic() - self.begin, 1)
        self.data["raw"] = raw
        return self.data


def write(record, path):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(record, out, indent=1)
        out.write("\n")
