# SPDX-License-Identifier: BSD-2-Clause
"""Ferry beside its peers: whoever is installed, in one run, in turns."""

import peers
from common import MIB, Missing, list_of, parse_size, show_size
from migration import Setting, migrate
from programs import find_device
from record import Record, figure, ratio
from turns import FAILURES, Turns

PROGRAMS = ("ferry", "qemu", "iperf3", "ib_write_bw", "loopback copy")
HELP = """Ferry beside every peer that is installed: QEMU's tcp:, multifd and rdma:, iperf3, ib_write_bw, and a bare copy through
sockets. All move the same amount of incompressible memory that nobody writes, without a limit: what is compared is the
way of the bytes. They take turns, every other turn goes backwards, and one before warms up; a ratio is taken within a turn.

Without --peer both ends are on this host, over loopback; with --softroce in a virtual machine that has two software RDMA
devices, under emulation, where ratios alone mean something. Between two hosts: ferry bench compare --listen HOST:PORT
there, ferry bench compare --peer HOST:PORT --source HOST here. Nothing is encrypted, and the listener starts its programs for
whoever connects: use a private network."""

EXAMPLES = """Examples:
  ferry bench compare --report compare.html
  ferry bench compare --softroce --report softroce.html
  ferry bench compare --only ferry,qemu --ram 4G --content zero
  ferry bench compare --listen 192.0.2.7:4457                                           on the host that takes guests in
  ferry bench compare --peer 192.0.2.7:4457 --ram 8G --report compare.html              on the other"""


def add_options(parser):
    parser.add_argument("--ram", type=parse_size, metavar="SIZE", help="of a migration, default 1G; 64M with --softroce")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="turns that count, default 3")
    parser.add_argument("--fresh", action="store_true", help="destinations do not preallocate their memory")
    parser.add_argument("--only", type=list_of(str), metavar="TEXT,...", help="only what begins with one of these, as ferry or qemu")
    parser.add_argument("--channels", type=list_of(int), metavar="N,...",
                        help="of QEMU's multifd, default 2,4, and none with --softroce; Ferry's has the first")
    parser.add_argument("--content", choices=("random", "zero"), default="random", help="of the memory, default random")
    parser.add_argument("--zero-copy", action="store_true", help="QEMU's and Ferry's multifd with zero-copy-send, too")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="of each iperf3 and ib_write_bw, default 2")


def monitor_sides(kind, options, channels, rdma):
    """Every way that a monitor's migration is tried in: name -> Setting."""
    def side(**more):
        return Setting(kind, options.ram, prealloc=not options.fresh, fill=options.content, **more)
    sides = {f"{kind}, tcp": side()}
    for n in channels:
        sides[f"{kind}, multifd {n}"] = side(channels=n)
        if options.zero_copy:
            sides[f"{kind}, multifd {n}, zero-copy"] = side(channels=n, source_capabilities=["zero-copy-send"])
    if rdma:
        sides |= {f"{kind}, rdma": side(scheme="rdma"),
                  f"{kind}, rdma, pin-all": side(scheme="rdma", capabilities=["rdma-pin-all"])}
    return sides


class Comparison:
    def __init__(self, options, source, destination, rdma):
        self.options, self.source, self.destination, self.rdma = options, source, destination, rdma
        self.ferry = monitor_sides("ferry", options, options.channels[:1], rdma)
        self.qemu = monitor_sides("qemu", options, options.channels, rdma)
        self.ceilings = self.make_ceilings()

    def make_ceilings(self):
        options, ceilings = self.options, {}
        for connections in (1, *options.channels[:1]):
            words = f"{connections} connection{'s' * (connections > 1)}"
            if not self.destination.is_peer and not options.softroce:
                ceilings[f"loopback copy, {words}"] = lambda n=connections: peers.loopback_copy(
                    self.source.ferry, options.ram, n)
            ceilings[f"iperf3, {words}"] = lambda n=connections: peers.iperf3(
                self.destination, self.source.address, n, options.seconds)
        for queue_pairs in (1, 4) if self.rdma else ():
            bench = peers.WriteBw(self.destination, self.source.address, queue_pairs, MIB, options.seconds)
            ceilings[f"ib_write_bw, {queue_pairs} queue pair{'s' * (queue_pairs > 1)}"] = bench.run
        return ceilings

    def measurements(self):
        plan = dict(self.ceilings)
        for name, setting in (self.ferry | self.qemu).items():
            plan[name] = lambda setting=setting: migrate(setting, self.source, self.destination)
        only = self.options.only
        return {name: run for name, run in plan.items() if not only or name.startswith(tuple(only))}

    def pairs(self, turns):
        """(Ferry's, the peer's) of what does the same; of several settings of a peer each."""
        several = self.options.channels[:1]
        kinds = {"rdma": ("qemu, rdma", "ib_write_bw"), "tcp": ("qemu, tcp", "iperf3, 1 ", "loopback copy, 1 "),
                 "multifd": ("qemu, multifd", *(f"{what}, {n} " for n in several for what in ("iperf3", "loopback copy")))}
        for ours in self.ferry:
            for kind, theirs in kinds.items():
                if f", {kind}" in ours and ours in turns.samples:
                    yield from ((ours, name) for name in turns.samples if name.startswith(theirs))


def side_table(comparison, turns):
    columns = (("rate", "MiB/s", 0), ("bulk", "first round MiB/s", 0), ("total-ms", "total ms", 0),
               ("downtime-ms", "down ms", 0), ("cpu", "CPU s/GiB", 2), ("cpu-source", "source", 2),
               ("cpu-destination", "destination", 2), ("cpu-arriving", "dest./source while pages arrive", 3),
               ("first-write-ms", "first write ms", 0), ("memory-source", "MiB beyond RAM: source", 1),
               ("memory-destination", "destination", 1))
    columns = [column for column in columns if any(any(turns.of(name, column[0])) for name in turns.samples)]
    rows = []
    for name in turns.samples:
        mark = "ferry" if name in comparison.ferry else "peer" if name in comparison.qemu else "ceiling"
        rows.append({"name": name, "mark": mark, "cells": {key: figure(turns.of(name, key)) for key, _, _ in columns}})
    return {"title": "Everything that was measured",
            "note": "MiB/s: RAM through total time. Ceilings move bytes and nothing else.",
            "columns": [{"key": key, "title": title, "digits": n, "spread": key in ("rate", "cpu", "total-ms")}
                        for key, title, n in columns], "rows": rows}


def pair_table(comparison, turns):
    rows = []
    for ours, theirs in comparison.pairs(turns):
        rows.append({"name": f"{ours} / {theirs}", "mark": "ferry", "cells": {
            "rate": ratio(turns.of(ours, "rate"), turns.of(theirs, "rate")),
            "bulk": ratio(turns.of(ours, "bulk"), turns.of(theirs, "rate")),
            "cpu": ratio(turns.of(ours, "cpu"), turns.of(theirs, "cpu"))}})
    return {"title": "Ferry against each peer, as ratios of the same turn",
            "note": "Speed: above 1 Ferry is faster. CPU: below 1 Ferry takes less.",
            "columns": [{"key": "rate", "title": "speed, whole", "digits": 2, "spread": True},
                        {"key": "bulk", "title": "speed, first round", "digits": 2, "spread": True},
                        {"key": "cpu", "title": "CPU s/GiB", "digits": 2, "spread": True}], "rows": rows}


def rate_chart(comparison, turns):
    groups = {"ceiling": [], "peer": [], "ferry": []}
    for row in side_table(comparison, turns)["rows"]:
        cell = row["cells"]["rate"]
        if cell:
            groups[row["mark"]].append([row["name"], cell["median"], cell["min"], cell["max"]])
    names = {"ceiling": "bytes alone", "peer": "QEMU", "ferry": "Ferry"}
    return {"title": "Throughput against the ceiling", "kind": "bars", "x": {"label": ""},
            "y": {"label": "MiB/s", "min": 0},
            "series": [{"name": names[mark], "mark": mark, "points": points} for mark, points in groups.items() if points]}


def busy_timelines(comparison):
    """What a migration of a busy guest looks like, once over each way; beside the turns, as to look costs."""
    ram = comparison.options.ram
    found, failures = [], []
    for scheme in ["tcp"] + (["rdma"] if comparison.rdma else []):
        rate = 20 if comparison.options.softroce else 200
        setting = Setting("ferry", ram, scheme=scheme, workload=f"hotset:{max(ram // MIB // 16, 1)}M:{rate}", fill="pages",
                          timeline=f"ferry, {scheme}: {show_size(ram)}, a sixteenth of it written at {rate} MiB/s",
                          timeout=120)
        try:
            found.append(migrate(setting, comparison.source, comparison.destination).get("timeline"))
        except FAILURES as failure:
            failures.append({"what": f"timeline, {scheme}", "why": str(failure)})
    return [timeline for timeline in found if timeline], failures


def make_record(comparison, turns, record):
    record.add_run(comparison.source, comparison.destination, turns)
    pairs = pair_table(comparison, turns)
    record.add("tables", pairs, side_table(comparison, turns))
    record.add("charts", rate_chart(comparison, turns))
    for row in pairs["rows"]:
        record.note_wide(row["name"] + ", speed", row["cells"]["rate"])
    if not comparison.rdma:
        record.add("skipped", {"what": "rdma of Ferry and QEMU, ib_write_bw",
                               "why": "no RDMA device has the addresses; --softroce has a virtual machine with two"})
    if comparison.options.softroce:
        record.add("notes", "Soft-RoCE: no network card but code of the kernel, under emulation. TCP over the same wire has "
                   "neither checksums nor segments to make and beats every RDMA here; with cards it is the other way round.")
    timelines, failures = busy_timelines(comparison)
    record.add("timelines", *timelines)
    record.add("failures", *failures)


def has_rdma(*addresses):
    try:
        return all(find_device(address) for address in addresses)
    except Missing:
        return False


def measure(options, source, destination):
    """@options: with ram. Returns the record."""
    rdma = has_rdma(source.address) and (destination.is_peer or has_rdma(destination.address))
    comparison = Comparison(options, source, destination, rdma)
    record = Record("compare", "Ferry beside its peers", options.command,
                    {"ram": options.ram, "content": options.content, "repeat": options.repeat, "preallocated": not options.fresh,
                     "seconds": options.seconds, "from": source.address, "to": destination.address})
    turns = Turns(comparison.measurements()).run(
        options.repeat, lambda result: f"{result['rate']:8.0f} MiB/s" if result.get("rate") else "")
    make_record(comparison, turns, record)
    return record.finish(turns.samples)


def settle(options, wrong):
    """What the options leave open. Emulated, everything takes a hundred times as long."""
    for text in options.only or ():
        if not any(text.startswith(program) or program.startswith(text) for program in PROGRAMS):
            wrong(f"nothing has '{text}' in its name: names begin with {', '.join(PROGRAMS)}")
    if options.ram is None:
        options.ram = 64 * MIB if options.softroce else 1 << 30
    if options.channels is None:
        options.channels = [] if options.softroce else [2, 4]
