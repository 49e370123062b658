# SPDX-License-Identifier: BSD-2-Clause
"""A timeline as panels over one time axis, and beside them the instants about the switchover. Drawn by gnuplot."""

import math
import re
import typing

import gnuplot
from figures import drawable, number
from plot import step_of, thin

SMOOTH_MS, SMOOTH_PARTS = 50, 40  # rates are means over so long, or over so small a part of a short timeline
ZOOM_MS = 150
GAP_INTERVALS = 10  # a rate over more than these is not drawn: nothing is known of that while
BUCKETS = 600  # of the whole; min and max of each are drawn
EVENTS_MAX = 300
LABEL_LEVELS, LABEL_CHARACTERS = 3, 28
FEW_ROUNDS = 20  # more have fainter lines and one row of names
# In pixels of a figure WIDTH wide.
WIDTH, LEFT, RIGHT, ZOOM_WIDTH, ZOOM_GAP = 1080, 62, 14, 330, 76
PANEL, PANEL_TITLE, LABEL_ROW, BOTTOM, CHARACTER = 92, 24, 16, 46, 6.4
TITLES = {"sent": "throughput", "remaining": "remaining", "dirty-rate": "dirty rate", "guest": "written by the guest"}
COUNTERS = ("sent", "guest")  # what is drawn of them is their growth


class Curve(typing.NamedTuple):
    """A panel. whole, near: [ms, value], None where a curve is broken."""
    title: str
    whole: list
    near: list
    factor: float

    @property
    def top(self):
        return max([value for points in (self.whole, self.near) for value in values_of(points)] or [0])


class Span(typing.NamedTuple):
    """Part of the figure: pixels from the left, and the ms that they show."""
    left: float
    right: float
    begin: float
    end: float

    def pixel(self, ms):
        return self.left + (ms - self.begin) / (self.end - self.begin) * (self.right - self.left)


def values_of(points):
    return [point[1] for point in points if point]


def column(timeline, name):
    """[ms, value] of a column; value None where it is not known."""
    at, of = timeline["columns"].index("ms"), timeline["columns"].index(name)
    points = [(row[at], row[of]) for row in timeline["samples"] if len(row) > max(at, of) and drawable(row[at])]
    return sorted(([float(ms), float(value) if drawable(value) else None] for ms, value in points),
                  key=lambda point: point[0])


def levels(points):
    """A column as it is, with None for every stretch that is not known."""
    curve = []
    for ms, value in points:
        if value is not None:
            curve.append([ms, value])
        elif curve and curve[-1]:
            curve.append(None)
    return curve


def growth(points, window_ms, gap_ms):
    """Of a counter, a second: over at least @window_ms, at the middle of that. A counter that goes back, or was not
    known for @gap_ms, begins anew."""
    curve, run = [], []
    for ms, value in points:
        if value is None:
            continue
        if run and (value < run[-1][1] or ms - run[-1][0] > gap_ms):
            run = []
            curve.append(None)
        while len(run) > 1 and ms - run[1][0] >= window_ms:
            run.pop(0)
        if run and ms - run[0][0] >= max(window_ms, 1e-3):
            then, before = run[0]
            curve.append([(then + ms) / 2, (value - before) / (ms - then) * 1000])
        run.append((ms, value))
    return curve


def thin_parts(curve):
    """The curve between breaks, each part thinned."""
    parts, part = [], []
    for point in [*curve, None]:
        if point:
            part.append(point)
        elif part:
            parts.append(part)
            part = []
    total = sum(map(len, parts)) or 1
    drawn = []
    for part in parts:
        drawn += thin(part, max(1, BUCKETS * len(part) // total)) + [None]
    return drawn


def unit_of(unit, top, rate):
    """(factor, name) that keep figures short."""
    after = "/s" if rate else ""
    if unit.startswith("bytes"):
        after = after or unit[len("bytes"):]
        names = ["bytes", "KiB", "MiB", "GiB", "TiB"]
        power = min(max(int(math.log(max(top, 1), 1024) + 0.15), 0), 4)
        return 1024.0 ** power, names[power] + after
    if unit.startswith("pages"):
        after = after or unit[len("pages"):]
        for factor, name in ((1e6, "million pages"), (1e3, "thousand pages")):
            if top >= 2 * factor:
                return factor, name + after
        return 1.0, "pages" + after
    return 1.0, unit + after


def smoothing(timeline):
    """ms."""
    interval = timeline["interval-ms"] or 10
    times = [row[0] for row in timeline["samples"] if row and drawable(row[0])]
    reach = max(times) - min(times) if times else 0
    return max(2 * interval, min(SMOOTH_MS, round(reach / SMOOTH_PARTS / interval) * interval))


def make_curves(timeline, zoom, smooth):
    interval = timeline["interval-ms"] or 10
    curves = []
    for name in timeline["columns"]:
        if name == "ms" or timeline["columns"].count(name) > 1:
            continue
        points = column(timeline, name)
        unit = timeline["units"].get(name)
        counter = name in COUNTERS
        if counter:
            gap = GAP_INTERVALS * interval
            whole, near = growth(points, smooth, gap), growth(points, 0, gap)
        else:
            whole = near = levels(points)
        near = [point for point in near if not point or zoom[0] <= point[0] <= zoom[1]] if zoom else []
        top = max(values_of(whole) + values_of(near), default=None)
        if top is None:
            continue
        factor, shown = unit_of(unit if isinstance(unit, str) else "", top, counter)
        title = TITLES.get(name, name) + (f", {shown}" if shown else "")
        curves.append(Curve(title, thin_parts(whole), near, factor))
    return curves


def stop_of(timeline):
    """The event that is the switchover, by its name; else the last one that lasted; or None."""
    for event in timeline["events"]:
        if re.search(r"\bstop|\bstands still\b|^switch|^downtime", event["what"], re.IGNORECASE):
            return event
    return next((event for event in reversed(timeline["events"]) if event["until"] is not None), None)


def zoom_of(timeline):
    """From when to when to look closer, or None where too little was seen."""
    stop = stop_of(timeline)
    if not stop:
        return None
    until = stop["until"] if stop["until"] is not None and stop["until"] > stop["ms"] else stop["ms"]
    begin, end = stop["ms"] - ZOOM_MS, until + ZOOM_MS
    inside = [row for row in timeline["samples"] if row and drawable(row[0]) and begin <= row[0] <= end]
    return (begin, end) if len(inside) >= 5 and "ms" in timeline["columns"][:1] else None


def is_round(event):
    return re.match(r"round\b", event["what"]) is not None


class Labels:
    """Names of events over a panel, in up to LABEL_LEVELS rows. A name begins at its event's line, which goes down to
    the panel; neither crosses another name. At the right edge a name that is not of a round may have no line."""

    def __init__(self, events, span, limit):
        """@limit: the pixel where names end at the latest."""
        self.placed = []  # (level, left, right, x or None without a line, text)
        self.left_out = 0
        major = [event for event in events if not is_round(event)]
        rounds = [event for event in events if is_round(event)]
        for event in [*reversed(major), *reversed(rounds)]:
            x = span.pixel(event["ms"])
            text = event["what"]
            text = text if len(text) <= LABEL_CHARACTERS else text[:LABEL_CHARACTERS - 1] + "\u2026"
            right = min(x + CHARACTER * len(text) + 6, limit)
            levels_max = 1 if is_round(event) and len(rounds) > FEW_ROUNDS else LABEL_LEVELS
            left = right - CHARACTER * len(text) - 6
            if not (self.put(left, right, x, text, levels_max)
                    or (not is_round(event) and self.put(left, right, None, text, levels_max))):
                self.left_out += 1

    def fits(self, level, left, right, x):
        for other, other_left, other_right, other_x, _ in self.placed:
            if other == level and left < other_right and other_left < right:
                return False
            if other > level and other_x is not None and left < other_x < right:
                return False
            if other < level and x is not None and other_left < x - 1 and x + 1 < other_right:
                return False
        return True

    def put(self, left, right, x, text, levels_max):
        for level in range(levels_max):
            if self.fits(level, left, right, x):
                self.placed.append((level, left, right, x, text))
                return True
        return False

    @property
    def rows(self):
        return max((level + 1 for level, *_ in self.placed), default=0)


def shade(events, span):
    commands = []
    many = sum(map(is_round, events)) > FEW_ROUNDS
    for event in events:
        until = event["until"]
        if until is not None and until > event["ms"]:
            begin, end = max(event["ms"], span.begin), min(until, span.end)
            commands.append(f"set object rectangle from {begin:.10g}, graph 0 to {end:.10g}, graph 1 behind "
                            f"fillcolor {gnuplot.colour('span')} fillstyle solid 1.0 noborder")
        role = "grid" if many and is_round(event) else "event"
        commands.append(f"set arrow from {event['ms']:.10g}, graph 0 to {event['ms']:.10g}, graph 1 nohead back "
                        f"lw 0.8 lc {gnuplot.colour(role)}")
    return commands


def name_events(labels, base, height):
    """Once, over the first panel, whose top is @base pixels from the figure's."""
    commands = []
    for level, left, _, x, text in labels.placed:
        y = base - LABEL_ROW * level - 9
        commands.append(f"set label {gnuplot.quote(text)} at screen {(left + 4) / WIDTH:.6f}, screen "
                        f"{1 - y / height:.6f} left font \",11\" textcolor {gnuplot.colour('text')} front")
        if x is None:
            continue
        top = y - 6 if left >= x - 1 else y + 8
        commands.append(f"set arrow from screen {x / WIDTH:.6f}, screen {1 - base / height:.6f} to screen "
                        f"{x / WIDTH:.6f}, screen {1 - top / height:.6f} nohead lw 0.8 lc {gnuplot.colour('event')}")
    return commands


def time_tics(span, zero, unit_ms, last):
    """Along the lowest panel alone. @zero: the ms that is called 0."""
    reach = (span.end - span.begin) / unit_ms
    step = step_of(reach / 2) if reach > 0 else 1
    first = math.ceil((span.begin - zero) / unit_ms / step)
    tics = [step * place for place in range(first, math.floor((span.end - zero) / unit_ms / step) + 1)]
    labels = ", ".join(f"{gnuplot.quote(number(tic) if last else '')} {zero + tic * unit_ms:.10g}" for tic in tics)
    return f"set xtics ({labels})"


def panel(curve, points, span, top_px, height, name, first):
    """One curve in one span. @first: with the scale's figures and the title."""
    ceiling = curve.top / curve.factor or 1
    step = step_of(ceiling)
    commands = [f"set lmargin at screen {span.left / WIDTH:.6f}", f"set rmargin at screen {span.right / WIDTH:.6f}",
                f"set tmargin at screen {1 - top_px / height:.6f}",
                f"set bmargin at screen {1 - (top_px + PANEL) / height:.6f}",
                f"set xrange [{span.begin:.10g}:{span.end:.10g}]", f"set yrange [0:{ceiling * 1.06:.10g}]",
                f"set ytics 0, {step:.10g}", 'set format y ""' if not first else 'set format y "%g"']
    if first:
        commands.append(f"set label {gnuplot.quote(curve.title)} at screen {span.left / WIDTH:.6f}, "
                        f"screen {1 - (top_px - 11) / height:.6f} left textcolor {gnuplot.colour('text')}")
    rows = [[ms, value / curve.factor] if point else None for point in points for ms, value in [point or (0, 0)]]
    if not values_of(rows):
        rows = [[span.begin, -1]]
    style = "lines" if first else "linespoints pt 7 ps 0.22"
    return [*commands, gnuplot.block(name, rows), f"plot ${name} with {style} lw 1.4 lc {gnuplot.colour('series-1')} notitle"]


def part(curves, pick, span, events, zero, unit, labels, first, frame):
    """All panels of one span, from the top down. @frame: (pixels over the first panel, the figure's height)."""
    head, height = frame
    unit_ms, axis_title = unit
    commands = []
    for place, curve in enumerate(curves):
        top = head + place * (PANEL + PANEL_TITLE)
        last = place == len(curves) - 1
        commands += ["unset label", "unset arrow", "unset object", *shade(events, span)]
        if place == 0:
            commands += name_events(labels, head - (PANEL_TITLE - 4 if first else 0), height)
        commands.append(time_tics(span, zero, unit_ms, last))
        if last:  # not an xlabel: with a margin given in pixels there is none
            commands.append(f"set label {gnuplot.quote(axis_title)} at screen {(span.left + span.right) / 2 / WIDTH:.6f}, "
                            f"screen {8 / height:.6f} center textcolor {gnuplot.colour('text')}")
        commands += panel(curve, pick(curve), span, top, height, f"{'w' if first else 'z'}{place}", first)
    return commands


def timeline_svg(timeline, ident):
    """The SVG element, or None if nothing was seen; and what a reader must be told. Raises NoGnuplot, PlotError."""
    if "ms" not in timeline["columns"]:
        return None, []
    events = [{**event, "until": event["until"] if drawable(event["until"]) else None}
              for event in timeline["events"] if drawable(event["ms"])]
    timeline = {**timeline, "events": sorted(events, key=lambda event: event["ms"])}
    zoom = zoom_of(timeline)
    smooth = smoothing(timeline)
    curves = make_curves(timeline, zoom, smooth)
    times = [point[0] for curve in curves for point in curve.whole + curve.near if point]
    if not times:
        return None, []
    events = timeline["events"][:EVENTS_MAX]
    ends = [event[key] for event in events for key in ("ms", "until") if event[key] is not None]
    begin, end = min([*times, *ends, 0]), max([*times, *ends])
    end = end if end > begin else begin + 1
    right = WIDTH - RIGHT - (ZOOM_WIDTH + ZOOM_GAP - 30 if zoom else 0)
    whole = Span(LEFT, right, begin, end)
    parts = [(whole, events, Labels(events, whole, right + (40 if zoom else 0)))]
    if zoom:
        near = Span(WIDTH - RIGHT - ZOOM_WIDTH, WIDTH - RIGHT, *zoom)
        inside = [event for event in events if zoom[0] <= event["ms"] <= zoom[1]]
        parts.append((near, inside, Labels(inside, near, WIDTH)))
    head = max(labels.rows for *_, labels in parts) * LABEL_ROW + PANEL_TITLE + 4
    height = head + len(curves) * (PANEL + PANEL_TITLE) - PANEL_TITLE + BOTTOM
    frame = (head, height)
    commands = [*gnuplot.preamble(WIDTH, height), "set multiplot", "unset key"]
    unit = (1000, "time, s") if end - begin >= 2000 else (1, "time, ms")
    commands += part(curves, lambda curve: curve.whole, whole, events, 0, unit, parts[0][2], True, frame)
    if zoom:
        stop = stop_of(timeline)
        commands += part(curves, lambda curve: curve.near, parts[1][0], parts[1][1], stop["ms"],
                         (1, f"ms after «{stop['what'][:LABEL_CHARACTERS]}»"), parts[1][2], False, frame)
    commands.append("unset multiplot")
    said = "; ".join(f"{curve.title}: at most {number(curve.top / curve.factor)}" for curve in curves)
    notes = []
    if parts[0][2].left_out:
        left_out = parts[0][2].left_out
        notes.append(f"{left_out} {'event has' if left_out == 1 else 'events have'} a line but no name for want of room; "
                     "all are in the list of events.")
    if len(timeline["events"]) > EVENTS_MAX:
        notes.append(f"Of {len(timeline['events'])} events the first {EVENTS_MAX} are drawn.")
    if set(COUNTERS) & set(timeline["columns"]):
        notes.append(f"Rates on the left are means over {number(smooth)} ms, on the right each sample's own." if zoom else
                     f"Rates are means over {number(smooth)} ms.")
    return gnuplot.draw(commands, ident, timeline["title"], said), notes
