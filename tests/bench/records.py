# SPDX-License-Identifier: BSD-2-Clause
"""Records of benches that never ran, as the benches would write them.

usage: records.py FOLDER   writes each there as JSON"""

import json
import math
import os
import random
import statistics
import sys

MIB, GIB = 1 << 20, 1 << 30
HOST = {"role": "both", "hostname": "rack4-node2", "processor": "AMD EPYC 9354 32-Core Processor", "cpus": 64,
        "memory": 384 * GIB, "kernel": "6.1.0-30-amd64", "virtual": "none", "governor": "performance",
        "devices": ["mlx5_0 on ens1f0np0, 200 Gb/sec (4X HDR)", "rxe0 on eth0, soft-RoCE"],
        "versions": {"ferry": "0.1.0", "qemu-system-x86_64": "7.2.22", "iperf3": "3.12", "gnuplot": "5.4"}}


def frame(bench, title, **parts):
    return {"ferry-bench": 1, "bench": bench, "title": title, "command": ["ferry", "bench", bench, "--repeat", "5"],
            "begun": "2026-11-23T17:05:00Z", "seconds": 321.5, "hosts": [HOST], "plan": {"repeat": 5}, "notes": [],
            "warnings": [], "failures": [], "skipped": [], "tables": [], "charts": [], "timelines": [], **parts}


def figure(dice, middle, wide=0.04, n=5):
    samples = [middle * (1 + dice.uniform(-wide, wide)) for _ in range(n)]
    return {"samples": samples, "median": statistics.median(samples), "min": min(samples), "max": max(samples), "n": n}


def point(x, of):
    return [x, of["median"], of["min"], of["max"]]


def migration(title, seconds, rate, seed=1):
    """@rate: bytes a second on the link. Precopy in rounds, a stop of some 30 ms, the guest elsewhere."""
    dice = random.Random(seed)
    ram, stop = rate * seconds * 0.55, seconds * 850
    samples, events = [], [{"ms": 12.0, "what": "round 1"}]
    sent = guest = 0.0
    left, rounds = ram, 1
    for step in range(int(seconds * 100)):
        ms = step * 10 + dice.uniform(-0.4, 0.4)
        stopped = stop <= ms < stop + 30
        sent += 0 if ms > stop + 40 else rate * 0.01 * dice.uniform(0.82, 1.08)
        guest += 0 if stopped else 900 * (0.8 if ms < stop else 1) * dice.uniform(0.85, 1.1)
        left -= rate * 0.01
        if left <= 0 and ms < stop:
            rounds += 1
            left = ram * max(0.5 ** rounds, 0.03)
            events.append({"ms": ms, "what": f"round {rounds}"})
        dirty = None if ms < 150 else 60000 + 9000 * math.sin(ms / 300)
        unknown = stopped and ms > stop + 12
        samples.append([round(ms, 2), int(sent), max(int(left), 0) if ms < stop + 40 else 0, dirty,
                        None if unknown else int(guest)])
    events += [{"ms": float(stop), "what": "stopped", "until": stop + 30.4}, {"ms": stop + 21.7, "what": "switchover"}]
    return {"title": title, "interval-ms": 10, "columns": ["ms", "sent", "remaining", "dirty-rate", "guest"],
            "units": {"sent": "bytes", "remaining": "bytes", "dirty-rate": "pages/s", "guest": "pages written"},
            "samples": samples, "events": events}


def compare():
    """Six peers in turns."""
    dice = random.Random(2)
    peers = [("ferry, rdma", "ferry", 5200, 21, 0.31), ("ferry, tcp, 4 connections", "ferry", 4100, 29, 0.52),
             ("qemu, rdma", "peer", 3100, 88, 0.61), ("qemu, tcp, multifd 4", "peer", 2950, 64, 0.98),
             ("qemu, tcp", "peer", 1130, 142, 0.92), ("raw RDMA write", "ceiling", 5890, None, 0.2)]
    columns = [{"key": "rate", "title": "MiB/s", "digits": 0, "spread": True},
               {"key": "share", "title": "of the raw ceiling", "digits": 2, "spread": True},
               {"key": "total", "title": "total time, s", "digits": 2, "spread": True},
               {"key": "downtime", "title": "downtime as the guest saw it, ms", "digits": 1, "spread": True},
               {"key": "own", "title": "downtime as the engine says, ms", "digits": 1, "spread": True},
               {"key": "cpu", "title": "CPU s/GiB, source", "digits": 2, "spread": True},
               {"key": "rounds", "title": "rounds", "digits": 0, "spread": False}]
    rows = []
    for name, mark, rate, downtime, cpu in peers:
        cells = {"rate": figure(dice, rate), "share": figure(dice, rate / 5890), "total": figure(dice, 8192 / rate),
                 "downtime": downtime and figure(dice, downtime, 0.3), "own": downtime and figure(dice, downtime * 0.8),
                 "cpu": figure(dice, cpu), "rounds": 4 if downtime else None}
        rows.append({"name": name, "mark": mark, "cells": cells})
    ratios = [{"name": f"ferry, rdma ÷ {name}", "cells": {"rate": figure(dice, 5200 / rate), "cpu": figure(dice, 0.5)}}
              for name, mark, rate, *_ in peers if mark == "peer"]
    return frame(
        "compare", "Ferry beside its peers: a guest of 8 GiB that writes 200 MiB/s",
        notes=["Peers take turns, A B A B, after one turn that does not count.",
               "All run on one host over loopback: no link limits them, and both sides share its memory bandwidth."],
        warnings=["qemu, rdma: downtime 61.9 to 113 ms in 5 turns, which is 58 % of the median: too wide to rely on",
                  "The CPU governor of this host is «ondemand»: clocks change while it measures."],
        failures=[{"what": "qemu, rdma, turn 2", "why": "ended with status 1: RDMA ERROR: Failed to register local "
                   "dest ram block 0: Cannot allocate memory"}],
        skipped=[{"what": "ib_write_bw", "why": "not installed: apt-get install perftest"},
                 {"what": "cloud-hypervisor", "why": "not installed"}],
        tables=[{"title": "In turns", "note": "8 GiB of RAM, downtime limit 300 ms.", "columns": columns, "rows": rows},
                {"title": "Ferry over RDMA against each peer, turn by turn", "columns":
                 [{"key": "rate", "title": "times the rate", "digits": 2, "spread": True},
                  {"key": "cpu", "title": "times the CPU", "digits": 2, "spread": True}], "rows": ratios}],
        charts=[{"title": "Rate", "kind": "bars", "x": {"label": ""}, "y": {"label": "MiB/s", "min": 0},
                 "series": [{"name": "rate", "points": [point(row["name"], row["cells"]["rate"]) for row in rows]}]},
                {"title": "Downtime", "kind": "bars", "note": "As the guest saw it, and as the engine says.",
                 "x": {"label": ""}, "y": {"label": "ms", "min": 0},
                 "series": [{"name": name, "points": [point(row["name"], row["cells"][key]) for row in rows[:5]]}
                            for name, key in (("guest's heartbeat", "downtime"), ("engine", "own"))]}],
        timelines=[migration("ferry, rdma, turn 3", 3, 5.2e9), migration("qemu, tcp, turn 3", 40, 1.1e9, 5)])


def guest():
    """A sweep, with the frontier."""
    dice = random.Random(3)
    rates = [50, 100, 200, 400, 800, 1600]
    names = [("ferry, rdma", "ferry", 1), ("ferry, tcp", "ferry", 1.4), ("qemu, tcp, multifd 4", "peer", 2.1),
             ("qemu, tcp", "peer", 3.7)]
    totals = [{"name": name, "mark": mark, "points": [point(rate, figure(dice, slow * (2 + rate / 150), 0.12))
                                                      for rate in rates[:6 if mark == "ferry" else 5]]}
              for name, mark, slow in names]
    downtimes = [{"name": name, "mark": mark, "points": [point(rate, figure(dice, 12 * slow * (1 + rate / 300), 0.25))
                                                         for rate in rates]} for name, mark, slow in names]
    frontier = [{"name": name, "mark": mark, "points": [[limit, 4200 / slow * (1 - math.exp(-limit / 120))]
                                                        for limit in (10, 30, 100, 300, 1000)]}
                for name, mark, slow in names]
    frontier.append({"name": "the link's rate", "mark": "ceiling", "points": [[10, 5600], [1000, 5600]]})
    cells = [{"name": f"{ram} GiB, {rate} MiB/s", "mark": "ferry", "cells": {
        "total": figure(dice, ram * (1 + rate / 400)), "bytes": figure(dice, ram * 1.3), "slow": figure(dice, 4.5, 0.5),
        "end": "converged" if rate < 800 else "did not converge"}} for ram in (1, 4, 16) for rate in (100, 800)]
    return frame("guest", "How a guest fares: RAM, dirty rate and downtime limit", tables=[
        {"title": "Sweep", "columns": [{"key": "total", "title": "total time, s", "digits": 2, "spread": True},
                                       {"key": "bytes", "title": "GiB sent", "digits": 2, "spread": True},
                                       {"key": "slow", "title": "guest slower by, %", "digits": 1, "spread": True},
                                       {"key": "end", "title": "end"}], "rows": cells}],
        charts=[{"title": "Total time", "kind": "lines", "x": {"label": "dirty rate, MiB/s", "log": True},
                 "y": {"label": "total time, s", "log": False, "min": 0}, "series": totals},
                {"title": "Downtime", "kind": "lines", "x": {"label": "dirty rate, MiB/s", "log": True},
                 "y": {"label": "downtime, ms", "log": True}, "series": downtimes},
                {"title": "Convergence frontier", "kind": "lines", "note": "Below its line, a migration converges.",
                 "x": {"label": "downtime limit, ms", "log": True}, "y": {"label": "dirty rate, MiB/s", "min": 0},
                 "series": frontier}])


def fault():
    dice = random.Random(4)
    series = []
    for name, mark, middle in (("ferry, rdma read", "ferry", 14), ("ferry, tcp", "ferry", 45), ("qemu, tcp", "peer", 160),
                               ("a raw round trip", "ceiling", 6)):
        values = sorted(middle * dice.lognormvariate(0, 0.35) * (8 if dice.random() > 0.985 else 1) for _ in range(6000))
        series.append({"name": name, "mark": mark, "points": [[value, (place + 1) / len(values)]
                                                              for place, value in enumerate(values)]})
    return frame("fault", "How long a guest waits for a page in postcopy", charts=[
        {"title": "Fault latency", "kind": "cdf", "x": {"label": "latency, µs", "log": True},
         "y": {"label": "share of faults, %"}, "series": series}])


def main():
    for make in (compare, guest, fault):
        with open(os.path.join(sys.argv[1], make.__name__ + ".json"), "w", encoding="utf-8") as out:
            json.dump(make(), out)


if __name__ == "__main__":
    main()
