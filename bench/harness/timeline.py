# SPDX-License-Identifier: BSD-2-Clause
"""What a migration does, every 10 ms: query-migrate and query-guest of both sides, asked beside it."""

import threading
import time

INTERVAL = 0.010
COLUMNS = ["ms", "sent", "remaining", "dirty-rate", "guest"]
UNITS = {"sent": "bytes", "remaining": "bytes", "dirty-rate": "pages/s", "guest": "pages written"}


class Timeline:
    """@source, @destination: functions that answer a QMP command, over connections that nobody else uses. What one does
    not know is None."""

    def __init__(self, title, source, destination):
        self.title = title
        self.ask_source, self.ask_destination = source, destination
        self.samples, self.events = [], []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.round = 0
        self.begin = time.monotonic()

    def now_ms(self):
        return (time.monotonic() - self.begin) * 1e3

    def written(self):
        """By the guest, wherever it is."""
        for ask in (self.ask_destination, self.ask_source):
            guest = ask("query-guest") if ask else None
            if guest and guest.get("running"):
                return guest["written"]
        return None

    def sample(self):
        at = round(self.now_ms(), 2)
        status = self.ask_source("query-migrate")
        ram = status.get("ram", {})
        self.samples.append([at, ram.get("transferred"), ram.get("remaining"), ram.get("dirty-pages-rate"),
                             self.written()])
        if ram.get("dirty-sync-count", 0) > self.round:
            self.round = ram["dirty-sync-count"]
            self.events.append({"ms": at, "what": f"round {self.round}"})

    def watch(self):
        due = time.monotonic()
        while not self.done.wait(max(due - time.monotonic(), 0)):
            try:
                self.sample()
            except Exception:  # a side that has ended: what was seen stays
                return
            due = max(due + INTERVAL, time.monotonic() - 5 * INTERVAL)

    def mark(self, what, begin_ms, until_ms=None):
        event = {"ms": round(begin_ms, 2), "what": what}
        if until_ms is not None:
            event["until"] = round(until_ms, 2)
        self.events.append(event)

    def __enter__(self):
        self.begin = time.monotonic()
        self.begin_ns = time.time_ns()
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.done.set()
        self.thread.join()

    def ms_of(self, ns):
        """Of a CLOCK_REALTIME of this host."""
        return (ns - self.begin_ns) / 1e6

    def data(self):
        return {"title": self.title, "interval-ms": int(INTERVAL * 1e3), "columns": COLUMNS, "units": UNITS,
                "samples": self.samples, "events": sorted(self.events, key=lambda event: event["ms"])}
