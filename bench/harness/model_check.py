# SPDX-License-Identifier: BSD-2-Clause
"""Holds the model against migrations of this host: process guests over loopback, in a network namespace whose loopback
device is as slow as a link (a token bucket of the kernel's, tc-tbf). That holds for the stop too, as max-bandwidth does not."""

import math
import os
import shutil
import statistics
import subprocess
import sys

import migration
from common import MIB, Missing
from model import PAGE, Guest, Idle, Machine, Shuffled, predict
from qmp import QmpError

TOTAL_FACTOR, DOWNTIME_FACTOR = 1.25, 1.5
# RAM MiB, link MiB/s, hot set MiB, MiB/s that are dirtied, downtime limit ms. Neighbours differ, so that what else the
# machine does falls on all alike.
CASES = (
    (1024, 400, 0, 0, 300), (512, 100, 64, 25, 200), (2048, 400, 128, 100, 300), (1024, 200, 32, 100, 50),
    (512, 400, 128, 100, 200), (2048, 200, 256, 100, 300), (1024, 400, 64, 200, 100), (512, 200, 256, 50, 200),
    (1024, 200, 128, 150, 100), (2048, 400, 32, 100, 30), (512, 100, 128, 75, 300), (1024, 400, 256, 200, 300),
    (2048, 200, 64, 25, 50), (1024, 200, 16, 100, 100), (512, 200, 32, 100, 200), (1024, 100, 64, 50, 400),
    (2048, 400, 512, 100, 400), (512, 400, 64, 100, 50), (1024, 200, 256, 50, 300), (512, 100, 0, 0, 300),
)
# These do not converge.
HOPELESS = ((512, 100, 128, 200, 50), (512, 200, 256, 400, 50))
HOPELESS_S = 15
CALIBRATING = (768, 300, 96, 75, 200)
TURNS = 3
NAMESPACE = "FERRY_MODEL_NAMESPACE"


# ---- the link ----

def enter_namespace():
    """Begins this program anew in a network namespace of its own; returns in there."""
    if os.environ.get(NAMESPACE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    for program, package in (("tc", "iproute2"), ("ip", "iproute2"), ("unshare", "util-linux")):
        if not shutil.which(program):
            raise Missing(f"--check needs {program}: apt-get install {package}")
    if os.geteuid():
        raise Missing("--check makes a network namespace with a slow link in it: run it as root")
    sys.stdout.flush()
    os.execvpe("unshare", ["unshare", "-n", sys.executable, *sys.argv], {**os.environ, NAMESPACE: "1"})


def shape(mib):
    """Makes loopback a link of so many MiB/s; 0: as fast as it is."""
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=False, stderr=subprocess.DEVNULL)
    if mib:
        subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", f"{mib * 8 * MIB}bit",
                        "burst", "256k", "limit", "4m"], check=True)


# ---- migrations ----

def run(case, host, timeout=120):
    ram, link, hot, rate, limit = case
    shape(link)
    setting = migration.Setting("ferry", ram * MIB, workload=f"hotset:{hot}M:{rate}" if hot else "idle", fill="pages",
                                limit=limit, timeout=timeout)
    return migration.migrate(setting, host, host)


def calibrate(host, say):
    """(a Machine of this host, without a link: on_link() puts that in; the share of a link that pages get), by a size and a
    link that none of CASES has."""
    ram, link = CALIBRATING[:2]
    fast, idle, busy = [], [], []
    for turn in range(TURNS + 1):
        figures = [run(case, host) for case in ((ram, 0, 0, 0, 300), (ram, link, 0, 0, 300), CALIBRATING)]
        if not all(each["converged"] for each in figures):
            raise Missing("a guest that calibrates did not converge: is this machine busy?")
        if turn:  # the first warms up
            for each, all_of_it in zip(figures, (fast, idle, busy)):
                all_of_it.append(each)
        say(f"calibrating, {turn} of {TURNS}")

    def middle(values):
        return statistics.median(list(values))

    def first_rate(turns):
        return middle(each["round-figures"][0]["normal"] * PAGE / each["round-figures"][0]["time-us"] * 1e6
                      for each in turns)
    collect = middle(each["round-figures"][-1]["collect-us"] for each in idle) / 1e6
    found = [(figure["collect-us"] / 1e6 - collect) / figure["dirty-pages"] for each in busy
             for figure in each["round-figures"][1:-1] if figure["dirty-pages"] > 1000]
    machine = Machine(
        rate=first_rate(fast), scan_ns=collect / (ram * MIB / PAGE) * 1e9, dirty_ns=max(middle(found), 0) * 1e9,
        setup_s=middle(each["setup-ms"] for each in idle) / 1e3,
        handover_s=max(middle(each["downtime-ms"] for each in idle) / 1e3 - 2 * collect, 0))
    return machine, first_rate(idle) / (link * MIB)


def on_link(machine, mib, efficiency):
    """Its rate is what the host does without a link."""
    return Machine(**{**machine.__dict__, "rate": min(mib * MIB * efficiency, machine.rate)})


def guest_of(case, pages_rate):
    """@pages_rate: what the guest wrote just before; its rate is given, but a busy machine may not let it."""
    ram, _, hot, _, _ = case
    return Guest(ram * MIB, 0, Shuffled(hot * MIB, pages_rate * PAGE) if hot else Idle())


# ---- against each other ----

def within(ratio, factor):
    return 1 / factor <= ratio <= factor


def compare(case, figures, machine):
    """A row: predicted, measured, ratios; of a case that ended. @machine: with the link."""
    prediction = predict(guest_of(case, figures.get("guest-pages-rate") or 0), machine, case[4] / 1e3)
    total, downtime = figures["total-ms"] / 1e3, max(figures["downtime-ms"], 0.5) / 1e3
    row = {"case": case, "pages-rate": figures.get("guest-pages-rate"), "predicted-total": prediction.total, "total": total,
           "predicted-downtime": prediction.downtime * 1e3, "downtime": downtime * 1e3,
           "predicted-rounds": len(prediction.rounds) + 1, "rounds": figures["rounds"],
           "engine-downtime": figures["predicted-ms"], "heartbeat": figures.get("heartbeat-ms"),
           "round-figures": figures["round-figures"]}
    row["total-ratio"] = row["predicted-total"] / total if math.isfinite(prediction.total) else 0.0
    row["downtime-ratio"] = row["predicted-downtime"] / row["downtime"]
    row["total-within"] = within(row["total-ratio"], TOTAL_FACTOR) if row["total-ratio"] else False
    row["downtime-within"] = within(row["downtime-ratio"], DOWNTIME_FACTOR)
    return row


def hopeless(host, machine, efficiency):
    """[(case, predicted to converge, converged)]"""
    rows = []
    for case in HOPELESS:
        prediction = predict(guest_of(case, case[3] * MIB / PAGE), on_link(machine, case[1], efficiency), case[4] / 1e3)
        rows.append((case, prediction.converges, run(case, host, HOPELESS_S)["converged"]))
    return rows


def check(host, say, repeat=1):
    """(the machine as calibrated, the link's efficiency, rows of compare(), rows of hopeless())"""
    machine, efficiency = calibrate(host, say)
    rows = []
    for turn in range(repeat):
        for number, case in enumerate(CASES if turn % 2 == 0 else CASES[::-1], 1):
            figures = run(case, host)
            say(f"{number} of {len(CASES)}, turn {turn + 1} of {repeat}")
            if figures["converged"]:
                rows.append(compare(case, figures, on_link(machine, case[1], efficiency)))
            else:
                rows.append({"case": case, "total-within": False, "downtime-within": False})
    return machine, efficiency, rows, hopeless(host, machine, efficiency)
