#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""max-bandwidth, measured where the bytes arrive. Usage: test-bandwidth.py FERRY [SUBSTRING-OF-CASES]

The destination's count of bytes is sampled while the limit changes in flight, and every window of half a second in
which the limit was one is compared with it.

- A machine that does other things keeps both sides from running. What a sender that waited for a CPU could not send, it
  makes up for, up to what the engine's token bucket saves up: so the many short waits of a window say nothing against
  it, but one longer than STARVED_S does. The kernel tells how long a thread that was ready to run waited (schedstat),
  once it runs again. A window in which the thread that sends, or the one that receives, waited for so long at once, or
  in which no sample could be taken for so long, is not judged.
- The destination's RAM has its memory before it starts: where a hypervisor gives it page by page on the first touch,
  that alone may be slower than the limit.
- A limit near to what the machine moves without one is not judged.

Where too few windows are left in TRIES tries, the case is skipped, and says so: that is no pass.
"""

import os
import sys
import time

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)

import cases
import processes
from cases import Skip, check
from processes import Place
from waits import STARVED_S, can_tell, find_thread, starved, waited

MIB = 1 << 20
WINDOW_S = 0.5
TOLERANCE = 0.05
RAM_MIB = 1536  # what LIMITS come to
SPEED_MIB = 512  # to find out what goes without a limit
UNSURE_S = 0.004  # a sample was taken at some time within: 0.4 % of a window either way
ACT_S = 0.05  # what a change may take to be seen: one wait of the sender's, and the way
TRIES = 4
ENOUGH = 10  # windows of each limit
HEADROOM = 1.3  # of the speed without a limit over a limit that is judged
LIMITS = ((200, 1.0), (50, 1.2), (1000, 1.2), (50, 0.8))  # MiB/s, s


def take_samples(source, destination):
    """[(limit in bytes/s, [(time, bytes, [seconds waited of each thread])])] while the limit changes in flight."""
    threads = find_thread(source, "ferry-source"), find_thread(destination, "ferry-incoming")
    phases = []
    for limit, seconds in LIMITS:
        source.set(max_bandwidth=limit * MIB)
        samples = []
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            asked = time.monotonic()
            status = destination.migration()
            answered = time.monotonic()
            if status.get("status") != "active":
                break
            if asked >= begin + ACT_S and answered - asked <= UNSURE_S:
                samples.append(((asked + answered) / 2, status["ram"]["transferred"],
                                [waited(path) for path in threads]))
            time.sleep(0.004)
        phases.append((limit * MIB, samples))
    return phases


def judge(samples, limit):
    """The share of the limit in each window that says something."""
    shares = []
    last = 0
    for first, (begin, before, _) in enumerate(samples):
        last = max(last, first)
        while last < len(samples) and samples[last][0] < begin + WINDOW_S:
            last += 1
        if last == len(samples):
            break
        end, after, _ = samples[last]
        if max(starved(samples[i], samples[i + 1]) for i in range(first, last)) <= STARVED_S:
            shares.append((after - before) / (end - begin) / limit)
    return shares


def pair(place, limit, mib):
    ram = f"{mib}M"
    destination = place.monitor("destination", "--process", "--prealloc", "--incoming", "tcp:127.0.0.1:0", ram=ram)
    source = place.monitor("source", "--process", "--set", f"max-bandwidth={limit * MIB}", ram=ram)
    source.call("migrate", uri=destination.uri())
    return source, destination


def speed():
    """Bytes a second without a limit."""
    with Place() as place:
        source, _ = pair(place, 0, SPEED_MIB)
        source.wait_state("completed")
        first = source.migration()["rounds"][0]
        return first["bytes"] / (first["time-us"] / 1e6)


def one_try(judged):
    most = speed() / HEADROOM
    with Place() as place:
        source, destination = pair(place, LIMITS[0][0], RAM_MIB)
        source.wait_state("active")
        for limit, samples in take_samples(source, destination):
            judged.setdefault(limit, []).extend(judge(samples, limit) if limit < most else [])


def limit__changed_in_flight__holds_in_every_window():
    if not can_tell():
        raise Skip("this kernel does not tell how long a thread waits for a CPU")
    if processes.is_sanitized():
        raise Skip("a sanitizer makes it too slow for 1000 MiB/s")
    judged = {}
    for _ in range(TRIES):
        one_try(judged)
        if all(len(shares) >= ENOUGH for shares in judged.values()):
            break
    scarce = []
    for limit, shares in judged.items():
        if shares:
            print(f"# {limit // MIB} MiB/s: {len(shares)} windows, {min(shares):.3f} to {max(shares):.3f} of it")
        check(all(abs(share - 1) <= TOLERANCE for share in shares),
              f"{limit // MIB} MiB/s: windows of {sorted(shares)} of it")
        if len(shares) < ENOUGH:
            scarce.append(f"{len(shares)} at {limit // MIB} MiB/s")
    if scarce:
        raise Skip(f"this machine is too busy: of the windows there were {', '.join(scarce)} to judge")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    processes.use(sys.argv[1])
    sys.exit(cases.run([(limit__changed_in_flight__holds_in_every_window.__name__,
                         limit__changed_in_flight__holds_in_every_window)], *sys.argv[2:]))
