# SPDX-License-Identifier: BSD-2-Clause
"""How long the threads that move pages waited for a CPU: a window in which they did says nothing of a rate."""

import os

STARVED_S = 0.01  # half of what the engine's token bucket saves up


def can_tell():
    return os.path.exists("/proc/self/schedstat")


def find_thread(monitor, name):
    tasks = f"/proc/{monitor.pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/comm", encoding="ascii") as comm:
            if comm.read().strip() == name:
                return f"{tasks}/{task}/schedstat"
    raise AssertionError(f"{monitor.name} has no thread {name}")


def waited(path):
    """Seconds for which the thread was ready to run and had no CPU; it may have ended."""
    try:
        with open(path, encoding="ascii") as stat:
            return int(stat.read().split()[1]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return float("inf")


def starved(sample, following):
    """For how long nothing was seen, or a thread waited at once, between two (time, bytes, [seconds waited])."""
    return max(following[0] - sample[0], *(after - before for before, after in zip(sample[2], following[2])))
