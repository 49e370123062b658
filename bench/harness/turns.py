# SPDX-License-Identifier: BSD-2-Clause
"""Measures several things in turns: all once, then all once more the other way round, so that a drift of the machine
meets all of them. Turns that warm up go before and do not count."""

import subprocess
import sys
import time

from common import Missing
from qmp import QmpError

FAILURES = (QmpError, RuntimeError, OSError, subprocess.SubprocessError, KeyError, IndexError, ValueError)
BAR = 24  # columns


class Progress:
    """A line for each measurement; on a terminal, one line with a bar and the time that is left."""

    def __init__(self, total, out=sys.stderr):
        self.total, self.done, self.out = total, 0, out
        self.begin = time.monotonic()
        self.live = out.isatty()

    def left(self):
        if not self.done:
            return ""
        seconds = (time.monotonic() - self.begin) / self.done * (self.total - self.done)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02} left"

    def show(self, text):
        """What is under way."""
        if self.live:
            filled = BAR * self.done // max(self.total, 1)
            print(f"\r\033[K[{'#' * filled}{'.' * (BAR - filled)}] {self.done}/{self.total} {self.left():10} {text}",
                  end="", file=self.out, flush=True)

    def step(self, text):
        """One is done; @text stays."""
        self.done += 1
        print(("\r\033[K" if self.live else "") + text, file=self.out, flush=True)

    def fewer(self, number):
        self.total -= number


class Turns:
    """@measurements: name -> function that returns a dict of figures."""

    def __init__(self, measurements, warm_up=1):
        self.measurements = dict(measurements)
        self.warm_up = warm_up
        self.samples = {name: [] for name in self.measurements}  # a dict for each turn that counts; None: it failed
        self.failures = []  # {"what", "why"}
        self.skipped = []

    def run(self, repeat, show=lambda result: "", out=sys.stderr):
        progress = Progress((repeat + self.warm_up) * len(self.measurements), out)
        for turn in range(-self.warm_up, repeat):
            title = f"turn {turn + 1}/{repeat}" if turn >= 0 else "warm-up"
            order = list(self.measurements.items())
            for name, measure in order[::-1] if turn % 2 else order:
                if name not in self.measurements:
                    continue
                progress.show(f"{title}  {name}")
                result = self.take(name, measure, title, progress, repeat - turn)
                if result is not None:
                    progress.step(f"{title:9} {name:34} {show(result)}")
                if turn >= 0:
                    self.samples.get(name, []).append(result)
        return self

    def take(self, name, measure, title, progress, turns_left):
        try:
            return measure()
        except Missing as missing:
            self.skipped.append({"what": name, "why": str(missing)})
            del self.measurements[name], self.samples[name]
            progress.fewer(turns_left - 1)
            progress.step(f"{title:9} {name:34} skipped: {missing}")
        except FAILURES as failure:
            self.failures.append({"what": f"{name}, {title}", "why": f"{failure}" or repr(failure)})
            progress.step(f"{title:9} {name:34} FAILED: {failure}")
        return None

    def of(self, name, key):
        """The samples of a figure, one for each turn that counts."""
        return [sample.get(key) if sample else None for sample in self.samples.get(name, [])]
