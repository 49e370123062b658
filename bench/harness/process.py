# SPDX-License-Identifier: BSD-2-Clause
"""Processes under measurement: CPU time and memory of each, and their end on every path."""

import subprocess
import tempfile
import threading
import time


class Measured:
    """A child process. Its output is kept for the message that says why it died."""

    def __init__(self, argv):
        self.argv = argv
        self.output = tempfile.TemporaryFile()
        self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.output,
                                      stderr=subprocess.STDOUT)

    @property
    def pid(self):
        return self.child.pid

    def said(self):
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip()

    def alive(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.argv[0]} ended with status {self.child.returncode}: {self.said()}")

    def cpu(self):
        """CPU seconds so far, user and system, also of threads that have ended, to the nanosecond:
        the process's CPU clock, as clock_getcpuclockid(3) encodes it."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def memory(self):
        """RSS in KiB by kind: RssAnon, RssFile, RssShmem, VmHWM."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            rows = (line.split() for line in status)
            return {row[0].rstrip(":"): int(row[1]) for row in rows
                    if row and row[0] in ("RssAnon:", "RssFile:", "RssShmem:", "VmHWM:")}

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.output.close()


class PeakMemory:
    """Samples what processes hold beyond a RAM file: RssAnon + RssFile. The kernel keeps a peak of the
    whole RSS alone (VmHWM), in which a RAM file of /dev/shm (RssShmem) drowns everything else."""

    INTERVAL = 0.02

    def __init__(self, processes):
        self.peaks = {name: 0 for name in processes}
        self.processes = processes
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample)

    def sample(self):
        while True:
            for name, process in self.processes.items():
                try:
                    now = process.memory()
                except OSError:
                    continue
                held = now.get("RssAnon", 0) + now.get("RssFile", 0)
                self.peaks[name] = max(self.peaks[name], held)
            if self.done.wait(self.INTERVAL):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.done.set()
        self.thread.join()
