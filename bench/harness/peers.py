# SPDX-License-Identifier: BSD-2-Clause
"""What moves bytes over the same way and is no migration: the ceilings. Each run returns MiB/s as "rate"."""

import json
import os
import re
import subprocess

from common import GIB, MIB, Missing
from programs import need, write_bw


def of_build(ferry, name):
    """A program of bench/ in the build that the ferry is of."""
    program = os.path.join(os.path.dirname(ferry), "..", "bench", name)
    if not os.access(program, os.X_OK):
        raise Missing(f"bench/{name} is in Ferry's build folder, and is not installed")
    return program


def loopback_copy(ferry, ram, connections):
    """bench/loopback-copy of the build that the ferry is of: a bare copy through sockets, both ends in one process."""
    program = of_build(ferry, "loopback-copy")
    said = subprocess.run([program, str(ram // MIB), str(connections)], check=True, capture_output=True, text=True,
                          timeout=300)
    speed, cpu = (float(number) for number in said.stdout.split())
    return {"rate": speed / MIB, "cpu": cpu / (ram / GIB)}


def cpu_a_gib(end):
    """iperf3 says percent of a processor for each side."""
    use = end.get("cpu_utilization_percent", {})
    sent = end["sum_received"]
    seconds = (use.get("host_total", 0) + use.get("remote_total", 0)) / 100 * sent["seconds"]
    return seconds / (sent["bytes"] / GIB) if use and sent["bytes"] else None


def iperf3(destination, source_address, connections, seconds):
    program = need("iperf3", "iperf3")
    server = destination.start("iperf3")
    try:
        client = subprocess.run([program, "-c", destination.address, "-B", source_address, "-p", str(server["port"]),
                                 "-P", str(connections), "-t", str(seconds), "-J"], text=True, capture_output=True,
                                timeout=60 + 5 * seconds, check=False)
    finally:
        destination.stop(server["number"])
    said = json.loads(client.stdout)
    if client.returncode or "error" in said:
        raise RuntimeError(f"iperf3: {said.get('error') or client.stderr.strip()}")
    return {"rate": said["end"]["sum_received"]["bits_per_second"] / 8 / MIB, "cpu": cpu_a_gib(said["end"])}


class WriteBw:
    """perftest's ib_write_bw. The number of writes follows from the rate of the run before."""

    def __init__(self, destination, source_address, queue_pairs, size, seconds):
        self.destination, self.source_address = destination, source_address
        self.queue_pairs, self.size, self.seconds = queue_pairs, size, seconds
        self.rate = 32.0  # MiB/s

    def run(self):
        """It was seen to poll for ever, under soft-RoCE: then it has a second try."""
        try:
            return self.run_once()
        except subprocess.TimeoutExpired:
            return self.run_once()

    def run_once(self):
        count = max(20, int(self.rate * MIB * self.seconds / self.size / self.queue_pairs))
        server = self.destination.start("ib_write_bw", queue_pairs=self.queue_pairs, size=self.size, count=count)
        try:
            argv = write_bw(self.source_address, server["port"], self.queue_pairs, self.size, count)
            client = subprocess.run(argv + [self.destination.address], text=True, capture_output=True, check=False,
                                    timeout=30 + 10 * self.seconds)
        finally:
            self.destination.stop(server["number"])
        rows = re.findall(r"^\s*\d+\s+\d+\s+[\d.]+\s+([\d.]+)\s+[\d.]+\s*$", client.stdout, re.MULTILINE)
        if client.returncode or not rows:
            raise RuntimeError(f"ib_write_bw: {(client.stderr or client.stdout).strip()}")
        self.rate = float(rows[-1])
        return {"rate": self.rate}
