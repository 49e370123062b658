# SPDX-License-Identifier: BSD-2-Clause
"""What a migration will take: the engine's rounds as arithmetic. docs/model.md has the law in words, what of it is measured
and what is assumed, and how far it can be trusted. Times are in seconds and amounts in bytes but where a name says else."""

import bisect
import math
from dataclasses import dataclass, field, replace

PAGE = 4096
HEADER = 1.0005  # of a page on the wire: runs share their headers
ROUNDS_MAX = 200
# As in engine/rehearsal-model.c: a round that leaves more than this share of the least that was left before leads nowhere.
STANDSTILL = 0.98
# From which round on that is judged: the first two are of a kind of their own.
SETTLED = 5
# As in engine/forecast.c.
WORTH_A_ROUND = 8
COLLECTS = 2


# ---- what a guest writes: different pages in so many seconds ----

class Idle:
    def written(self, seconds):
        return 0.0


class Shuffled:
    """A hot set that is written from end to end in a new order each time, as ferry run's hotset: and random: do. The look
    begins anywhere in a pass: it sees the rest of one, and the beginning of the next."""

    def __init__(self, hot, rate):
        self.pages, self.rate = hot / PAGE, rate / PAGE

    def written(self, seconds):
        passes = self.rate * seconds / self.pages if self.pages else 0
        if passes >= 2:
            return self.pages
        if passes <= 1:
            return self.pages * (passes - passes ** 3 / 6)
        rest = passes - 1
        return self.pages * (rest + passes * (1 - rest) - passes * (1 - rest ** 2) / 2 + (1 - rest ** 3) / 3)


class Drawn:
    """A hot set of which any page is as likely to be the next."""

    def __init__(self, hot, rate):
        self.pages, self.rate = hot / PAGE, rate / PAGE

    def written(self, seconds):
        return self.pages * -math.expm1(-self.rate * seconds / self.pages) if self.pages else 0.0


class Curve:
    """[(seconds, pages)] as a rehearsal measures it (`ferry migrate --dry-run --json`: written). Between two points, and
    beyond the last, in a straight line: that is ferry_rehearsal_model_written()."""

    def __init__(self, points, most):
        self.points, self.most = [(0.0, 0.0), *((float(at), float(pages)) for at, pages in points)], most

    def written(self, seconds):
        if len(self.points) < 2:
            return 0.0
        last = min(max(bisect.bisect_left(self.points, (seconds,)), 1), len(self.points) - 1)
        (begin, before), (end, after) = self.points[last - 1], self.points[last]
        pages = before + (after - before) * (seconds - begin) / (end - begin) if end > begin else after
        return min(max(pages, 0.0), self.most)


# ---- what it runs on ----

@dataclass
class Guest:
    ram: int
    zero: float = 0.0  # share of its pages
    writes: object = field(default_factory=Idle)

    def pages(self):
        return self.ram / PAGE


@dataclass
class Machine:
    """Of both hosts and what is between them."""
    rate: float                  # while the guest runs
    stop_rate: float = 0.0       # of the last pages; 0: the same
    page_ns: float = 0.0         # of the sending thread for a page that lies alone
    zero_ns: float = 0.0         # of the sending thread for a page of zeros
    scan_ns: float = 0.0         # of a collect for each page of RAM
    dirty_ns: float = 0.0        # of a collect for each page that it finds
    round_s: float = 0.0         # of each round: its mark, its fence, the answer
    setup_s: float = 0.0         # until the first page
    handover_s: float = 0.0      # of a stop without pages, but for its collects
    register_s: float = 0.0      # for a byte of RAM, ahead of the pages
    pin_all: bool = False        # before the first page instead

    def collect(self, guest, dirty):
        return (guest.pages() * self.scan_ns + dirty * self.dirty_ns) / 1e9

    def page_s(self, stopped=False):
        """For a page that was written: it lies alone at the worst."""
        return max(PAGE * HEADER / ((self.stop_rate if stopped else 0) or self.rate), self.page_ns / 1e9)

    def first_s(self, guest):
        """The first round: its pages lie together, those of zeros cost a look, and registering goes on beside it."""
        data = guest.ram * (1 - guest.zero) * HEADER / self.rate
        sending = data + guest.pages() * guest.zero * self.zero_ns / 1e9
        return max(sending, 0 if self.pin_all else guest.ram * self.register_s)


@dataclass
class Round:
    pages: float
    seconds: float
    left: float  # to send after it


@dataclass
class Prediction:
    converges: bool
    total: float     # seconds; infinite where it does not converge
    downtime: float  # seconds; what the least of all rounds would come to where it does not converge
    rounds: list     # of Round, without the stop's
    sent: float      # bytes


class Rounds:
    """The rounds so far. Of a hot set all pages are alike, so amounts stand for sets: of two amounts that were written each
    within the same number of pages the common part is their product by that number."""

    def __init__(self, guest, machine, limit):
        self.guest, self.machine, self.limit = guest, machine, limit
        self.most = max(guest.writes.written(1e9), 1.0)
        self.rounds = []
        self.again = 0.0         # pages that went in any round but the first
        self.seen = set()        # kinds of rounds: whether most of its pages had gone in one of these
        self.before = 0.0        # what the last collect but one found
        self.found = 0.0         # what the last one found
        self.least = math.inf

    def kind(self):
        """Of what is pending: whether most of it went in a round but the first."""
        return self.again / self.most > 0.5

    def known(self):
        return self.kind() in self.seen

    def budget(self):
        rest = self.machine.handover_s + COLLECTS * self.machine.collect(self.guest, 0)
        return max(self.limit - rest, self.limit / 4)

    def fits(self, pages):
        """With what is written while the last collect goes on."""
        last = self.rounds[-1]
        more = self.found * min(self.machine.collect(self.guest, self.found) / last.seconds, 1) if last.seconds else 0
        took = (pages + more) * self.machine.page_s(stopped=True)
        return took <= (self.budget() if self.known() else min(self.budget(), self.limit / WORTH_A_ROUND))

    def put_off(self, pages):
        """What was found by the last two collects waits, as far as half of what the limit leaves for pages goes."""
        if not self.known():
            return 0.0
        both = self.before * self.found / self.most
        return min(both, self.budget() / 2 / self.machine.page_s(stopped=True), pages)

    def run(self, pages):
        """One round of @pages, and the collect behind it; returns what is to be sent then."""
        first = not self.rounds
        waiting = self.put_off(pages)
        sending = pages - waiting
        seconds = self.machine.round_s + (self.machine.first_s(self.guest) if first
                                          else sending * self.machine.page_s())
        if not first:
            if sending:
                self.seen.add(self.kind())
            self.again = min(self.again + sending * (1 - self.again / self.most), self.most)
        found = self.guest.writes.written(seconds)
        seconds += self.machine.collect(self.guest, found)
        found = self.guest.writes.written(seconds)
        self.before, self.found = self.found, found
        left = found + waiting * (1 - found / self.most)
        self.rounds.append(Round(self.guest.pages() if first else sending, seconds, left))
        return left

    def stands(self, left):
        leads_nowhere = len(self.rounds) > SETTLED and left >= self.least * STANDSTILL
        self.least = min(self.least, left) if len(self.rounds) > 1 else math.inf
        return leads_nowhere


def stop(guest, machine, left):
    """Seconds that the guest stands still with @left pages to send: they, what is written until it stands, two collects."""
    collect = machine.collect(guest, 0)
    more = guest.writes.written(collect)
    pages = min(left + more, guest.pages())
    return (machine.handover_s + COLLECTS * collect + more * machine.dirty_ns / 1e9 +
            pages * machine.page_s(stopped=True)), pages


def predict(guest, machine, limit):
    """@limit: the downtime limit."""
    rounds = Rounds(guest, machine, limit)
    left = guest.pages()
    converges = False
    for _ in range(ROUNDS_MAX):
        left = rounds.run(left)
        converges = rounds.fits(left)
        if converges or rounds.stands(left):
            break
    least = left if converges else min(each.left for each in rounds.rounds)
    downtime, last = stop(guest, machine, least)
    setup = machine.setup_s + (guest.ram * machine.register_s if machine.pin_all else 0)
    sent = (guest.ram * (1 - guest.zero) + sum(each.pages for each in rounds.rounds[1:]) * PAGE +
            last * PAGE) * HEADER
    total = setup + sum(each.seconds for each in rounds.rounds) + downtime
    return Prediction(converges, total if converges else math.inf, downtime, rounds.rounds, sent)


def frontier(guest, machine, limit, law, hot, most=1e12):
    """The dirty rate, bytes a second, up to which it converges; infinite where it does at @most."""
    def converges(rate):
        return predict(replace(guest, writes=law(hot, rate)), machine, limit).converges
    if converges(most):
        return math.inf
    low, high = 0.0, most
    while high - low > 1e6:
        middle = (low + high) / 2
        low, high = (middle, high) if converges(middle) else (low, middle)
    return low
