# SPDX-License-Identifier: BSD-2-Clause
"""The charts of a record, drawn by gnuplot."""

import math

import gnuplot
from figures import clean, drawable, number, size

POINTS_MAX = 2000  # of a curve as drawn
DASHES = ["solid", "(9,4)", "(2,3)", "(9,3,2,3)", "(14,4)", "(5,3)", "(9,3,2,3,2,3)", "(3,5)"]
SHAPES = [7, 5, 9, 13, 11, 6, 4, 8]  # gnuplot's point types
MARKED_MAX, MARKED_SHARES_MAX = 40, 12  # points of a curve that are marked each
NAME_MAX = 48  # characters of a name as drawn
TICS_MAX, OWN_TICS_MAX = 8, 40
ROW_PX, BARS_FRAME_PX, PLOT_FRAME_PX, LEGEND_ROW_PX = 30, 82, 100, 21


class Styles:
    """What a series looks like, by its name: the same in every chart of a record. Ferry has the first colours."""

    def __init__(self, record, marks):
        self.marks = marks
        names = [series["name"] for chart in record["charts"] if chart["kind"] != "bars" or len(chart["series"]) > 1
                 for series in chart["series"]]
        names = sorted(dict.fromkeys(names), key=lambda name: marks.get(name) != "ferry")
        self.place = {name: place for place, name in
                      enumerate(name for name in names if marks.get(name) != "ceiling")}

    def alone(self, name):
        """As these, but for a series that has its chart for itself."""
        styles = Styles({"charts": []}, self.marks)
        styles.place = {name: 0}
        return styles

    def role(self, name):
        if self.marks.get(name) == "ceiling":
            return "muted"
        return f"series-{self.place.get(name, 0) % gnuplot.SERIES + 1}"

    def dash(self, name):
        if self.marks.get(name) == "ceiling":
            return "(3,3)"
        place = self.place.get(name, 0)
        return DASHES[(place + place // gnuplot.SERIES) % len(DASHES)]

    def shape(self, name):
        place = self.place.get(name, 0)
        return SHAPES[(place + place // gnuplot.SERIES) % len(SHAPES)]

    def line(self, name):
        width = 2.4 if self.marks.get(name) == "ferry" else 1.7
        return f"lw {width} dt {self.dash(name)} lc {gnuplot.colour(self.role(name))}"

    def bar_role(self, name):
        """Of a bar whose chart has one series: by what the bar stands for."""
        return {"ferry": "series-1", "ceiling": "muted", "peer": "peer"}.get(self.marks.get(name), "series-1")


def short(name):
    return name if len(name) <= NAME_MAX else name[:NAME_MAX - 1] + "\u2026"


def numeric(points, log_x, log_y):
    """[x, y, low, high] of those points that can be drawn; low and high None where there are none."""
    drawn = []
    for point in points:
        if len(point) < 2 or not drawable(point[0]) or not drawable(point[1]):
            continue
        if (log_x and point[0] <= 0) or (log_y and point[1] <= 0):
            continue
        x, y = float(point[0]), float(point[1])
        low, high = point[2:4] if len(point) >= 4 and drawable(point[2]) and drawable(point[3]) else (None, None)
        drawn.append([x, y, low, high])
    return drawn


def thin(points, buckets=POINTS_MAX // 2):
    """At most two points a bucket of x, the lowest and the highest; the ends stay. Points are in the order of x."""
    if len(points) <= 2 * buckets:
        return points
    kept = []
    for place in range(buckets):
        part = points[place * len(points) // buckets:(place + 1) * len(points) // buckets]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        kept += sorted({id(low): low, id(high): high}.values(), key=lambda point: point[0])
    kept[0], kept[-1] = points[0], points[-1]
    return kept


def log_tics(low, high):
    """Positions on a logarithmic axis: the sparsest of some usual ones that has three."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, (last - first) // TICS_MAX + 1)
    for steps in ((1,), (1, 2, 5), range(1, 10)):
        tics = [step * 10.0 ** decade for decade in range(first, last + 1, stride) for step in steps]
        if sum(low <= tic <= high for tic in tics) >= 3:
            return tics
    step = step_of(high - low)
    return [step * place for place in range(math.floor(low / step), math.floor(high / step) + 2) if place > 0]


def step_of(reach):
    """Between tics: 1, 2 or 5, for about three of them."""
    power = 10.0 ** math.floor(math.log10(reach / 3))
    return next(step * power for step in (1, 2, 5, 10) if step * power * 3.5 >= reach)


def own_tics(values):
    """At what was measured, if that is regular enough: RAM sizes, message sizes. Else nothing."""
    values = sorted(set(values))
    if not 2 <= len(values) <= OWN_TICS_MAX:
        return []
    values = values[::math.ceil(len(values) / TICS_MAX)]
    regular = min(after / before for before, after in zip(values, values[1:])) >= 1.4
    short_ones = all(len(number(value)) <= 4 or value >= 1024 for value in values)
    return values if regular and short_ones else []


def tic_text(value, label):
    if "bytes" in label and "/" not in label and value >= 1024:
        return size(value)
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(factor, 1e4):
            return number(value / factor) + suffix
    return number(value) if value >= 1e-4 else f"{value:.3g}"


def axis(name, axis_of_record, values, own=()):
    """Commands for the x or y axis. @own: where tics of a logarithmic axis are best."""
    label = axis_of_record["label"]
    commands = [f"set {name}label {gnuplot.quote(short(label))} textcolor {gnuplot.colour('text')}"]
    if axis_of_record["log"]:
        low, high = min(values), max(values)
        tics = own_tics(own) or (log_tics(low, high) if low < high else [low])
        labels = ", ".join(f"{gnuplot.quote(tic_text(tic, label))} {tic:.10g}" for tic in tics)
        commands += [f"set logscale {name}", f"set {name}tics ({labels})"]
        if low == high:
            commands.append(f"set {name}range [{low / 2:.10g}:{high * 2:.10g}]")
        elif name == "y":
            commands.append(f"set {name}range [{low / 1.25:.10g}:{high * 1.25:.10g}]")
        else:
            commands.append(f"set {name}range [{low / 1.08:.10g}:{high * 1.08:.10g}]")
        return commands
    if max(abs(value) for value in values) >= 1e6:
        commands.append(f'set format {name} "%.1s %c"')
    least = axis_of_record["min"]
    if least is not None and least <= min(values) and least < max(values):
        commands.append(f"set {name}range [{least:.10g}:*]")
    elif min(values) == max(values):
        reach = abs(values[0]) / 2 or 1
        commands.append(f"set {name}range [{values[0] - reach:.10g}:{values[0] + reach:.10g}]")
    return commands


def legend_columns(names):
    return 2 if max(map(len, names)) <= 34 else 1


def legend_height(names):
    return LEGEND_ROW_PX * math.ceil(len(names) / legend_columns(names)) if len(names) > 1 else 0


def legend(names):
    """Above the plot, in columns as wide as the longest name."""
    if len(names) < 2:
        return ["unset key"]
    columns = legend_columns(names)
    return [f"set key tmargin left Left reverse horizontal samplen 3 spacing 1.15 maxcols {columns} "
            f"textcolor {gnuplot.colour('text')}"]


def curves(chart, styles, width, ident):
    """Lines, points and shares."""
    kind, x, y = chart["kind"], dict(chart["x"]), dict(chart["y"])
    if kind == "cdf":
        x["log"] = True if x["log"] is None else x["log"]
        label = y["label"] or "share"
        y = {"label": label if "%" in label else label + ", %", "log": False, "min": 0}
    drawn, left_out = [], 0
    for series in chart["series"]:
        points = numeric(series["points"], x["log"], y["log"])
        left_out += len(series["points"]) - len(points)
        if kind == "cdf":
            points = [[value, share * 100, None, None] for value, share, _, _ in points]
        if points:
            drawn.append((series["name"], points if kind == "points" else thin(points)))
    if not drawn:
        return None, left_out
    xs = [point[0] for _, points in drawn for point in points]
    ys = [bound for _, points in drawn for point in points for bound in point[1:] if bound is not None
          and (bound > 0 or not y["log"])]
    names = [short(name) for name, _ in drawn]
    styles = styles if len(names) > 1 else styles.alone(drawn[0][0])
    height = round(width * 0.36) + PLOT_FRAME_PX + legend_height(names)
    commands = gnuplot.preamble(width, height) + axis("x", x, xs, xs) + axis("y", y, ys)
    if kind == "cdf":
        commands += ["set yrange [0:100]", "set grid xtics"]
    commands += legend(names)
    plots = []
    for place, (name, points) in enumerate(drawn):
        floor = min(ys) / 1.25 if y["log"] else -math.inf
        commands.append(gnuplot.block(f"s{place}", [point[:2] for point in points]))
        spread = [[px, py, max(low, floor), max(high, floor)] for px, py, low, high in points if low != high]
        colour, title = gnuplot.colour(styles.role(name)), gnuplot.quote(short(name))
        if spread:
            commands.append(gnuplot.block(f"e{place}", spread))
            plots.append(f"$e{place} using 1:2:3:4 with yerrorbars pt 0 ps 0 lw 1.2 lc {colour} notitle")
        if kind == "points" and styles.marks.get(name) != "ceiling":
            plots.append(f"$s{place} with points pt {styles.shape(name)} ps 0.8 lc {colour} title {title}")
        elif styles.marks.get(name) == "ceiling" or len(points) > (MARKED_SHARES_MAX if kind == "cdf" else MARKED_MAX):
            with_what = "steps" if kind == "cdf" else "lines"
            if len(points) == 1:
                with_what = f"linespoints pt {styles.shape(name)} ps 0.8"
            plots.append(f"$s{place} with {with_what} {styles.line(name)} title {title}")
        else:
            plots.append(f"$s{place} with linespoints pt {styles.shape(name)} ps 0.8 {styles.line(name)} title {title}")
    commands.append("plot " + ", \\\n ".join(plots))
    said = "; ".join(f"{name}: {len(points)} points" for name, points in drawn)
    return gnuplot.draw(commands, ident, chart["title"], f"{y['label']} over {x['label']}. {said}"), left_out


def digits_for(values):
    """After the point, for figures beside each other: three significant ones of the smallest. None: they differ too much."""
    sizes = [abs(value) for value in values if value]
    if not sizes or max(sizes) / min(sizes) > 1000:
        return None
    return max(0, min(4, 2 - math.floor(math.log10(min(sizes)))))


def bar_rows(chart):
    """[(category, [(series, point)])], in the order of their first appearance."""
    rows, left_out = {}, 0
    for series in chart["series"]:
        for point in series["points"]:
            if len(point) < 2 or not drawable(point[1]) or (chart["y"]["log"] and point[1] <= 0):
                left_out += 1
                continue
            category = clean(str(point[0]))
            low, high = point[2:4] if len(point) >= 4 and drawable(point[2]) and drawable(point[3]) else (None, None)
            rows.setdefault(category, []).append((series["name"], [float(point[1]), low, high]))
    return list(rows.items()), left_out


def bars(chart, styles, width, ident):
    """Lying, for names are long; each with its figure at its end."""
    rows, left_out = bar_rows(chart)
    if not rows:
        return None, left_out
    names = [short(series["name"]) for series in chart["series"]]
    one = len(names) == 1
    slots = max(len(entries) for _, entries in rows)
    thickness = 0.72 / slots
    values = [bound for _, entries in rows for _, point in entries for bound in point if bound is not None]
    log = chart["y"]["log"]
    values = [value for value in values if value > 0] if log else values
    base = 10.0 ** math.floor(math.log10(min(values) / 1.5)) if log else 0
    digits = digits_for(point[0] for _, entries in rows for _, point in entries)
    boxes, whiskers, figures, tics = {}, [], ([], []), []
    for place, (category, entries) in enumerate(rows, 1):
        tics.append(f"{gnuplot.quote(short(category))} {place}")
        for slot, (name, (value, low, high)) in enumerate(entries):
            at = place + (slot - (len(entries) - 1) / 2) * thickness
            role = styles.bar_role(category) if one else styles.role(name)
            box = [value, at, base, value, at - thickness * 0.46, at + thickness * 0.46]
            boxes.setdefault((role, name), []).append(box)
            if low != high:
                whiskers.append([value, at, max(low, base) if log else low, max(high, base) if log else high])
            ends = [end for end in (value, low, high) if end is not None]
            figures[value < 0].append([min(ends) if value < 0 else max(ends), at, f'"{number(value, digits)}"'])
    height = BARS_FRAME_PX + int(ROW_PX * max(1, slots * 0.7) * len(rows)) + legend_height(names)
    commands = gnuplot.preamble(width, height)
    low, high = min([*values, base]), max([*values, base])
    if log:
        commands += axis("x", chart["y"], [base, high]) + [f"set xrange [{base:.10g}:{high * (high / base) ** 0.16:.10g}]"]
    else:
        commands += axis("x", {**chart["y"], "min": None}, [low, high])
        reach = (high - low) or 1
        commands.append(f"set xrange [{low - (0.12 * reach if low < 0 else 0):.10g}:{high + 0.14 * reach:.10g}]")
    commands += [f"set yrange [{len(rows) + 0.6}:0.4]", f"set ytics ({', '.join(tics)}) scale 0", "unset grid",
                 f"set grid xtics lt 1 lw 0.6 lc {gnuplot.colour('grid')}", "set style fill solid 1.0 noborder"]
    commands += legend(names)
    plots = []
    for place, ((role, name), rectangles) in enumerate(boxes.items()):
        commands.append(gnuplot.block(f"b{place}", rectangles))
        plots.append(f"$b{place} using 1:2:3:4:5:6 with boxxyerror lw 1 lc {gnuplot.colour(role)} "
                     f"title {gnuplot.quote(short(name))}")
    if whiskers:
        commands.append(gnuplot.block("w", whiskers))
        plots.append(f"$w using 1:2:3:4 with xerrorbars pt 0 ps 0 lw 1.4 lc {gnuplot.colour('whisker')} notitle")
    for name, rows_of, where in (("f", figures[0], "left offset 0.8,0"), ("g", figures[1], "right offset -0.8,0")):
        if rows_of:
            commands.append(gnuplot.block(name, rows_of))
            plots.append(f"${name} using 1:2:3 with labels {where} textcolor {gnuplot.colour('text')} notitle")
    commands.append("plot " + ", \\\n ".join(plots))
    said = "; ".join(f"{category}: {', '.join(number(point[0]) for _, point in entries)}" for category, entries in rows)
    return gnuplot.draw(commands, ident, chart["title"], f"{chart['y']['label']}. {said}"), left_out


def chart_svg(chart, styles, width, ident):
    """(the SVG element or None if there is nothing to draw, points that no axis has room for). Raises NoGnuplot,
    PlotError."""
    if chart["kind"] == "bars":
        return bars(chart, styles, width, ident)
    if chart["kind"] not in ("lines", "points", "cdf"):
        raise gnuplot.PlotError(f"a chart of a kind that this report does not know: {chart['kind'][:NAME_MAX]}")
    return curves(chart, styles, width, ident)
