# SPDX-License-Identifier: BSD-2-Clause
"""What a migration does, every 10 ms: query-migrate and query-guest of both sides, asked beside it."""

import threading
import time

INTERVAL = 0.010
COLUMNS = ["ms", "sent", "remaining", "dirty-rate", "guest"]
UNITS = {"sent": "bytes", "remaining": "bytes", "dirty-rate": "pages/s", "guest": "pages written"}


class Timeline:
    """@source: a Qmp that nobody else uses; @ask_destination: answers a QMP command. What one does not know is None."""

    def __init__(self, title, source, ask_destination):
        self.title = title
        self.source, self.ask_destination = source, ask_destination
        self.samples, self.marks = [], []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.begin, self.begin_ns = time.monotonic(), time.time_ns()

    def now_ms(self):
        return (time.monotonic() - self.begin) * 1e3

    def written(self):
        """By the guest, wherever it is."""
        for ask in (self.ask_destination, self.source.command):
            guest = ask("query-guest")
            if guest.get("running"):
                return guest["written"]
        return None

    def sample(self):
        at = round(self.now_ms(), 2)
        status = self.source.command("query-migrate")
        ram = status.get("ram", {})
        self.samples.append([at, ram.get("transferred"), ram.get("remaining"), ram.get("dirty-pages-rate"),
                             self.written()])

    def watch(self):
        due = time.monotonic()
        while not self.done.wait(max(due - time.monotonic(), 0)):
            try:
                self.sample()
            except Exception:  # a side that has ended: what was seen stays
                return
            due = max(due + INTERVAL, time.monotonic() - 5 * INTERVAL)

    def mark(self, what, begin_ns, until_ns):
        """A span, by CLOCK_REALTIME of this host."""
        self.marks.append({"ms": self.ms_of(begin_ns), "what": what, "until": self.ms_of(until_ns)})

    def ms_of(self, ns):
        return round((ns - self.begin_ns) / 1e6, 2)

    def rounds(self):
        """When each began, by the source's events."""
        for event in self.source.events:
            if event["event"] == "MIGRATION_PASS":
                at = event["timestamp"]
                yield {"ms": self.ms_of(at["seconds"] * 10**9 + at["microseconds"] * 1000),
                       "what": f"round {event['data']['pass']}"}

    def __enter__(self):
        self.begin, self.begin_ns = time.monotonic(), time.time_ns()
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.done.set()
        self.thread.join()

    def data(self):
        return {"title": self.title, "interval-ms": int(INTERVAL * 1e3), "columns": COLUMNS, "units": UNITS,
                "samples": self.samples, "events": sorted([*self.rounds(), *self.marks], key=lambda event: event["ms"])}
