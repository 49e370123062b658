# SPDX-License-Identifier: BSD-2-Clause
"""A sweep of migrations of busy guests: how long, how long the guest stood still, and where they no longer converge."""

import sys

from common import GIB, MIB, list_of, parse_size, show_size
from migration import Setting, migrate
from record import Record, figure
from turns import FAILURES, Turns

# Hot set in MiB, MiB/s that are dirtied, downtime-limit in ms, and what else is set.
STANDARD = [
    (16, 50, 50, {}), (16, 200, 100, {}), (16, 800, 300, {}), (32, 400, 50, {}),
    (64, 50, 300, {}), (64, 200, 50, {}), (64, 800, 100, {}),
    (128, 100, 50, {}), (128, 400, 100, {}), (128, 800, 200, {}),
    (256, 50, 100, {}), (256, 200, 300, {}), (256, 400, 200, {}), (256, 800, 500, {}),
    (512, 100, 200, {}), (512, 400, 300, {}), (512, 800, 500, {}),
    (64, 200, 300, {"max-bandwidth": 400 * MIB}), (128, 100, 300, {"verify-ram": True}),
    (256, 400, 500, {"verify-ram": True}),
]
PREDICTION = 1.5    # predicted downtime / measured, either way
GAP_MS, GAP = 20, 0.2  # the guest's heartbeat against the engine's figure
BEAT_US = 1000  # of the guests' heartbeat
BISECTIONS = 5
WAYS = {"tcp": {}, "multifd": {"channels": 2}, "rdma": {"scheme": "rdma"}}
HELP = """Migrates busy guests, each for every value that is given, and says for each how long it took, how long the guest
stood still by its own heartbeat and by the engine, how far that was foretold, what went over the wire, what it cost both
sides, and how fast the guest was meanwhile. Then it looks for the convergence frontier: the dirty rate above which precopy
does not end. Without values it runs the standard sweep: twenty guests of 1 GiB with hot sets of 16 to 512 MiB, written at
50 to 800 MiB/s, and limits of 50 to 500 ms.

Without --peer both ends are on this host, over loopback. Between two hosts: ferry bench guest --listen HOST:PORT there,
ferry bench guest --peer HOST:PORT here. Nothing is encrypted, and the listener starts guests for whoever connects: use a
private network."""

EXAMPLES = """Examples:
  ferry bench guest --report guests.html
  ferry bench guest --ram 4G --hot-set 256M,1G --rate 200,400,800 --transport tcp,multifd --repeat 3
  ferry bench guest --listen 192.0.2.7:4457                                             on the host that takes guests in
  ferry bench guest --peer 192.0.2.7:4457 --transport rdma --report guests.html         on the other"""


def add_options(parser):
    parser.add_argument("--ram", type=list_of(parse_size), default=[GIB], metavar="SIZE,...", help="default 1G")
    parser.add_argument("--hot-set", type=list_of(parse_size), metavar="SIZE,...", help="what the guest writes in")
    parser.add_argument("--rate", type=list_of(int), metavar="MIB,...", help="how much of it a second, MiB/s")
    parser.add_argument("--downtime-limit", type=list_of(int), metavar="MS,...", help="default 300")
    parser.add_argument("--transport", type=list_of(str), default=["tcp"], metavar="tcp,multifd,rdma", help="default tcp")
    parser.add_argument("--bandwidth", type=list_of(parse_size), metavar="SIZE,...", help="max-bandwidth, a second")
    parser.add_argument("--kvm", action="store_true", help="guests on KVM, not processes")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="turns, default 1")
    parser.add_argument("--timeout", type=int, default=60, metavar="S", help="after which it does not converge, default 60")
    parser.add_argument("--fresh", action="store_true", help="destinations do not preallocate their memory")
    parser.add_argument("--no-frontier", action="store_true", help="do not look for the convergence frontier")


def settle(options, wrong):
    """What the options leave open; wrong() is told what cannot be."""
    unknown = set(options.transport) - set(WAYS)
    if unknown:
        wrong(f"no such transport: {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    options.standard = not (options.hot_set or options.rate or options.downtime_limit or options.bandwidth)


def setting_of(options, ram, way, hot, rate, limit, more, timeline=None):
    """@hot: bytes. @more: parameters, and True for capabilities."""
    settings = {name: value for name, value in more.items() if value is not True}
    return Setting("ferry", ram, beat_us=BEAT_US, workload=f"hotset:{hot // MIB}M:{rate}", fill="pages", limit=limit,
                   bandwidth=settings.pop("max-bandwidth", None), settings=settings,
                   capabilities=[name for name, value in more.items() if value is True],
                   guest="kvm" if options.kvm else "process", prealloc=not options.fresh, timeout=options.timeout,
                   timeline=timeline, **WAYS[way])


def name_of(ram, way, hot, rate, limit, more):
    words = [f"{name}={'on' if value is True else show_size(value)}" for name, value in more.items()]
    return " ".join([f"{show_size(ram)} {way}, {show_size(hot)} at {rate}, limit {limit}", *words])


def cases(options):
    """As (ram, way, hot, rate, limit, more)."""
    for ram in options.ram:
        for way in options.transport:
            if options.standard:
                yield from ((ram, way, hot * MIB, rate, limit, more) for hot, rate, limit, more in STANDARD
                            if hot * MIB <= ram // 2)
                continue
            for hot in options.hot_set or [64 * MIB]:
                for rate in options.rate or [200]:
                    for limit in options.downtime_limit or [300]:
                        for bandwidth in options.bandwidth or [None]:
                            yield ram, way, hot, rate, limit, {"max-bandwidth": bandwidth} if bandwidth else {}


def within(ours, theirs, factor):
    """Both in ms, of which less than half a one is none."""
    return 1 / factor <= max(ours, 0.5) / max(theirs, 0.5) <= factor


def gap_is_right(sample):
    wrong = abs(sample["heartbeat-ms"] - sample["downtime-ms"])
    return wrong <= max(GAP_MS, GAP * sample["downtime-ms"])


def sweep_table(turns):
    keys = ("total-ms", "heartbeat-ms", "downtime-ms", "predicted-ms", "rounds", "mib", "cpu-source", "cpu-destination",
            "speed")
    titles = ("total ms", "down ms: guest", "engine", "foretold", "rounds", "MiB sent", "CPU s/GiB: source", "destination",
              "guest's speed %")
    digits = (0, 1, 0, 1, 0, 0, 2, 2, 0)
    rows = []
    for name in turns.samples:
        cells = {key: figure([sample.get(key) for sample in turns.samples[name] if sample]) for key in keys}
        if not cells["total-ms"] and any(turns.samples[name]):
            cells["total-ms"] = "does not converge"
        rows.append({"name": name, "cells": cells})
    return {"title": "Migrations of busy guests", "note": "Hot set, MiB/s that are written in it, downtime-limit in ms. The "
            "guest's downtime is the gap in its heartbeat; its speed is while it migrates, of what it was before.",
            "columns": [{"key": key, "title": title, "digits": n, "spread": len(next(iter(turns.samples.values()), [])) > 1}
                        for key, title, n in zip(keys, titles, digits)], "rows": rows}


def judge(turns):
    """The bars, over every migration that ended."""
    samples = [sample for runs in turns.samples.values() for sample in runs if sample]
    ended = [sample for sample in samples if sample["converged"]]
    beaten = [sample for sample in ended if sample.get("heartbeat-ms") is not None]
    foretold = [sample for sample in ended if sample.get("predicted-ms") is not None]
    verdicts = {
        f"engine's downtime within {GAP_MS} ms or {GAP:.0%} of the heartbeat's": (
            sum(map(gap_is_right, beaten)), len(beaten)),
        f"foretold downtime within a factor of {PREDICTION}": (
            sum(within(sample["predicted-ms"], sample["downtime-ms"], PREDICTION) for sample in foretold), len(samples)),
        "converged": (len(ended), len(samples)),
    }
    return {"title": "Bars", "columns": [{"key": "within", "title": "migrations", "digits": 0, "spread": False},
                                         {"key": "of", "title": "of", "digits": 0, "spread": False}],
            "rows": [{"name": what, "cells": {"within": n, "of": total}} for what, (n, total) in verdicts.items()]}


def downtime_chart(options, turns):
    """Downtime against dirty rate, a line for each hot set and limit."""
    series = {}
    for case in cases(options):
        ram, way, hot, rate, limit, more = case
        cell = figure([sample.get("heartbeat-ms") for sample in turns.samples.get(name_of(*case), []) if sample])
        if cell and not more:
            line = f"{show_size(ram)} {way}, hot set {show_size(hot)}"
            series.setdefault(line, []).append([rate, cell["median"], cell["min"], cell["max"]])
    return {"title": "Downtime against dirty rate", "kind": "lines" if not options.standard else "points",
            "x": {"label": "dirty rate, MiB/s", "log": True}, "y": {"label": "downtime by the heartbeat, ms", "log": True},
            "series": [{"name": name, "points": sorted(points)} for name, points in series.items()]}


class Frontier:
    """The dirty rate above which precopy does not end, by halving between one that did and one that did not."""

    def __init__(self, options, source, destination, out):
        self.options, self.source, self.destination, self.out = options, source, destination, out
        self.tries, self.failures = [], []

    def converges(self, ram, way, hot, rate, limit):
        setting = setting_of(self.options, ram, way, hot, rate, limit, {})
        setting.timeout = min(self.options.timeout, 20)
        result = migrate(setting, self.source, self.destination)
        self.tries.append({"case": name_of(ram, way, hot, rate, limit, {}), "rate": rate, **result})
        self.out(f"frontier  {name_of(ram, way, hot, rate, limit, {}):40} "
                 f"{'converges' if result['converged'] else 'does not'}")
        return result["converged"]

    def search(self, ram, way, hot, limit):
        """(a rate that converged, one that did not); None: none was found."""
        low, high, rate = None, None, 100
        while high is None and rate <= 12800:
            if self.converges(ram, way, hot, rate, limit):
                low, rate = rate, rate * 4
            else:
                high = rate
        for _ in range(BISECTIONS if low and high else 0):
            middle = round((low * high) ** 0.5)
            if self.converges(ram, way, hot, middle, limit):
                low = middle
            else:
                high = middle
        return low, high

    def row(self, ram, way, hot, limit):
        name = f"{show_size(ram)} {way}, hot set {show_size(hot)}, limit {limit}"
        try:
            low, high = self.search(ram, way, hot, limit)
        except FAILURES as failure:
            self.failures.append({"what": f"frontier, {name}", "why": str(failure)})
            return None
        return {"name": name, "cells": {"low": low, "high": high}}

    def table(self):
        options, rows = self.options, []
        for ram in options.ram:
            for way in options.transport:
                for hot in [256 * MIB] if options.standard else options.hot_set or [64 * MIB]:
                    for limit in [300] if options.standard else options.downtime_limit or [300]:
                        rows.append(self.row(ram, way, hot, limit))
        return {"title": "Convergence frontier", "note": "MiB/s that are written at random in the hot set. Above it precopy "
                f"does not end within {min(options.timeout, 20)} s: postcopy, or a throttle, would.",
                "columns": [{"key": "low", "title": "converges at", "digits": 0, "spread": False},
                            {"key": "high", "title": "does not at", "digits": 0, "spread": False}],
                "rows": [row for row in rows if row]}


def show(result):
    if not result["converged"]:
        return "does not converge"
    return (f"{result['total-ms']:6} ms, down {result['heartbeat-ms']:6.1f} (engine {result['downtime-ms']}, "
            f"foretold {result['predicted-ms']:.1f})")


def measure(options, source, destination):
    record = Record("guest", "Migrations of busy guests", options.command,
                    {"standard": options.standard, "repeat": options.repeat, "timeout": options.timeout,
                     "preallocated": not options.fresh, "guest": "kvm" if options.kvm else "process"})
    plan = {}
    for case in cases(options):
        setting = setting_of(options, *case, timeline=name_of(*case))
        plan[name_of(*case)] = lambda setting=setting: migrate(setting, source, destination)
    turns = Turns(plan, warm_up=0).run(options.repeat, show)
    for runs in turns.samples.values():
        for index, sample in enumerate(runs):
            if sample:
                sample["mib"] = sample["bytes"] / MIB if sample["converged"] else None
                sample["speed"] = sample["guest-speed"] * 100 if sample.get("guest-speed") else None
                timeline = sample.pop("timeline", None)
                if timeline and index == 0:
                    record.add("timelines", timeline)
    record.add_run(source, destination, turns)
    if destination.is_peer:
        record.add("notes", "The hosts' clocks were compared over the connection; a heartbeat's gap can be wrong by "
                   f"{destination.clock_offset()[1] / 1e6:.2f} ms for that.")
    record.add("tables", judge(turns), sweep_table(turns))
    record.add("charts", downtime_chart(options, turns))
    tries = []
    if not options.no_frontier:
        frontier = Frontier(options, source, destination, print_progress)
        record.add("tables", frontier.table())
        record.add("failures", *frontier.failures)
        tries = frontier.tries
    return record.finish({"sweep": turns.samples, "frontier": tries})


def print_progress(line):
    print(line, file=sys.stderr, flush=True)
