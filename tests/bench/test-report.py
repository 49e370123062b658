# SPDX-License-Identifier: BSD-2-Clause
"""The report of a bench: a page and a text of a record, whatever is in that. TAP.

usage: test-report.py SOURCE_ROOT [CASE]"""

import copy
import html.parser
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

SOURCE = sys.argv[1]
HARNESS = os.path.join(SOURCE, "bench", "harness")
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(SOURCE, "tests", "lib"), HARNESS]

import figures  # noqa: E402 (the path comes first)
import gnuplot  # noqa: E402
import panels  # noqa: E402
import plot  # noqa: E402
import records  # noqa: E402
import report  # noqa: E402
import text  # noqa: E402
from cases import Skip, check, run  # noqa: E402

VOID = {"meta", "br", "link", "img", "hr"}
# Each would end a string, a tic, a comment, an element or a line of somebody's.
HOSTILE = ["'", "''", '"', "\\", "\\n", "a\nset output 'x'\n", "@x", "{a_b}^{c}", "_", "%s %d %%", "`touch HIT`",
           "$(touch HIT)", "END_OF_DATA", "\nEND_OF_DATA\nsystem 'touch HIT'\n", "';system('touch HIT');'",
           '";system("touch HIT");"', "<b>&amp;", "</script><script>alert(1)</script>", "]]>", "--><!--", "<![CDATA[",
           "\x00\x07\x1b[31m", "\u202eabc", "\ud800", "\ufffe", "é ü 漢", "#", "", " ", "x" * 500, "</svg>", "</title>"]


class Page(html.parser.HTMLParser):
    """What is in a page; raises where elements are not nested."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words, self.scripts, self.styles = [], [], [], [], []
        self.feed(page)
        self.close()
        check(not self.open, f"left open: {self.open}")

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        check(len(dict(attributes)) == len(attributes), f"an attribute twice: {tag} {attributes}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        check(self.open and self.open[-1] == tag, f"</{tag}> in {self.open[-3:]}")
        self.open.pop()

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        {"script": self.scripts, "style": self.styles}.get(inside, self.words).append(data)

    def count(self, tag):
        return sum(element == tag for element, _ in self.elements)

    @property
    def said(self):
        return "".join(self.words)


def need_gnuplot():
    if not shutil.which("gnuplot"):
        raise Skip("no gnuplot here: apt-get install gnuplot-nox")


def svgs(page):
    """Of a page, as XML."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def examine(page, record):
    """What holds of every page."""
    seen = Page(page)
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    check(len(ids) == len(set(ids)), f"ids twice: {sorted(name for name in ids if ids.count(name) > 1)[:4]}")
    for tag, attributes in seen.elements:
        check(tag not in ("iframe", "object", "embed", "link", "img", "base", "form", "foreignobject"), f"<{tag}>")
        for name, value in attributes.items():
            check(not name.startswith("on"), f"{tag} {name}")
            check(name not in ("href", "src") or (value.startswith("#") and value[1:] in ids), f"{tag} {name}={value}")
            check(not re.search(r"https?:|url\(|javascript:|//", value or ""), f"{tag} {name}={value}")
        for name in attributes.get("aria-labelledby", "").split():
            check(name in ids, f"{tag} is named by {name}, which is not there")
    check(not re.search(r"https?:|url\(|@import|//", "".join(seen.styles)), "the style refers outside")
    check(seen.count("script") == 1, f"{seen.count('script')} scripts")
    check(json.loads("".join(seen.scripts)) == report.without_nan(record), "the record within is another")
    check(seen.count("h1") == 1, "not one title")
    for drawing in svgs(page):
        check(drawing.get("viewBox") and not drawing.get("width"), "a drawing of a fixed size")
        check(drawing.get("role") == "img" and drawing.find("title") is not None, "a drawing without a name")
        for element in drawing.iter():
            for name in ("fill", "stroke", "color"):
                value = element.get(name, "none")
                check(value in ("none", "currentColor") or re.fullmatch(r"var\(--[a-z0-9-]+\)", value),
                      f"a colour that is the same in the light and the dark: {name}={value}")
    return seen


def render(record):
    page = report.html(record)
    return page, examine(page, record)


def without_drawings(record):
    return {**record, "charts": [], "timelines": []}


def chart(kind, points, **axes):
    return {"title": "c", "kind": kind, "x": {"label": "x", **axes.get("x", {})},
            "y": {"label": "y", **axes.get("y", {})}, "series": [{"name": "s", "points": points}]}


def draw_one(one):
    page, seen = render(records.frame("compare", "t", charts=[one]))
    return svgs(page), seen.said


def paths(drawing):
    return sum(len(element.get("d", "")) for element in drawing.iter("path"))


def full_records():
    need_gnuplot()
    for make in (records.compare, records.guest, records.fault):
        record = make()
        page, seen = render(record)
        check(len(svgs(page)) == len(record["charts"]) + len(record["timelines"]), "drawings are missing")
        check("could not be drawn" not in seen.said, seen.said)
        check(seen.count("figure") == seen.count("figcaption") == len(svgs(page)), "figures without captions")


def tables():
    record = without_drawings(records.compare())
    _, seen = render(record)
    for words in ("ferry, tcp, 4 connections", "downtime as the guest saw it, ms", "2 warnings", "Cannot allocate memory",
                  "apt-get install perftest", "AMD EPYC", "6.1.0-30-amd64", "384 GiB", "A B A B",
                  "ferry bench compare --repeat 5", "took 5 min 22 s"):
        check(words in seen.said, f"not on the page: {words}")
    scopes = [attributes.get("scope") for tag, attributes in seen.elements if tag == "th"]
    check(scopes and all(scope in ("col", "row") for scope in scopes), f"{scopes}")
    check(len(seen.said) > 0 and seen.said.index("2 warnings") < seen.said.index("In turns"), "warnings come late")


def figure_of_cell():
    column = {"key": "k", "title": "k", "digits": 1.0, "spread": True}
    cases = [({"samples": [3, 1, 2]}, "<td>2.0<small>1.0–3.0</small></td>"), ({"samples": []}, '<td class="quiet">–</td>'),
             ({"samples": [None, "x", math.nan]}, '<td class="quiet">–</td>'), (None, '<td class="quiet">–</td>'),
             (math.inf, '<td class="quiet">–</td>'), (10**400, '<td class="quiet">–</td>'), (1234.56, "<td>1\u202f234.6</td>"), (-1.25, "<td>\u22121.2</td>"),
             ("<b>", '<td class="words">&lt;b&gt;</td>'), (True, '<td class="words">yes</td>'), ([], '<td class="quiet">–</td>'),
             ({"median": 5, "min": math.nan, "samples": [4, 6]}, "<td>5.0<small>4.0–6.0</small></td>"),
             ({"samples": [7], "n": 1}, "<td>7.0</td>")]
    for value, expected in cases:
        got = report.cell_html(value, column)
        check(got == expected, f"{value}: {got}, not {expected}")


def numbers():
    for value, digits, expected in ((0, None, "0"), (1234.5678, None, "1235"), (0.012346, None, "0.01235"), (1e40, None, "1e+40"),
                                    (3.0, None, "3"), (2.346, 2, "2.35"), (5, 99, "5.000000000"), (5, -3, "5"), (1e6, 0, "1000000")):
        check(figures.number(value, digits) == expected, f"{value}, {digits}: {figures.number(value, digits)}")
    check(figures.size(1 << 40) == "1 TiB" and figures.size(1536) == "1.5 KiB", "sizes")


def hostile(where):
    """A record whose texts are @where's."""
    of = records.frame("compare", where, notes=[where], warnings=[where], failures=[{"what": where, "why": where}],
                       skipped=[{"what": where, "why": where}], command=[where], begun=where,
                       hosts=[{"role": where, "hostname": where, "versions": {where: where}, "devices": [where]}])
    of["tables"] = [{"title": where, "note": where, "columns": [{"key": where, "title": where}],
                     "rows": [{"name": where, "mark": where, "cells": {where: where}}]}]
    for kind, x in (("lines", 1), ("bars", where), ("cdf", 2), ("points", 3), (where, 4)):
        two = [{"name": where + tail, "mark": where, "points": [[x, 1, 0.5, 2], [x, 2]]} for tail in ("", "2")]
        of["charts"].append({"title": where, "kind": kind, "note": where, "x": {"label": where}, "y": {"label": where},
                             "series": two})
    of["charts"].append({"title": where, "kind": "bars", "y": {"label": where, "log": True},
                         "series": [{"name": where, "points": [[where, 1], [where + "b", 2]]}]})
    one = records.migration(where, 1, 1e9)
    one["events"] = [{"ms": 100.0, "what": where}, {"ms": 500.0, "what": "stopped" + where, "until": 530.0}]
    one["columns"][3] = where or "dirty"
    one["units"][one["columns"][3]] = where
    of["timelines"] = [one]
    return of


def hostile_texts_page():
    need_gnuplot()
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)
        try:
            for where in HOSTILE:
                page, seen = render(hostile(where))
                check(len(svgs(page)) == 6, f"{where!r}: {len(svgs(page))} drawings: {seen.said[:2000]}")
                shown = figures.clean(where)
                check(seen.said.count(shown) >= 10, f"{where!r} is not shown")
                drawn = [element.text or "" for drawing in svgs(page) for element in drawing.iter("text")]
                short = plot.short(shown).strip()
                check(short in drawn or not short or any(" ".join(short.split()) == " ".join(words.split()) for words in drawn),
                      f"{where!r} is not drawn: {drawn[:12]}")
            check(not os.listdir(folder), f"something ran: {os.listdir(folder)}")
        finally:
            os.chdir(here)


def hostile_texts_terminal():
    for where in HOSTILE:
        shown = text.text(hostile(where))
        wild = re.findall("[^\n -~\u00a0-\u2027\u2030-\ud7ff\ufffd]|\u00ad", shown)
        check(not wild, f"{where!r}: {wild}")


def empty_parts():
    empty = {"ferry-bench": 1}
    nothing = {key: None for key in figures.SHAPE}
    for record in (empty, {**empty, **nothing}, records.frame("link", ""), records.frame(
            "link", "t", hosts=[{}], failures=[{}], skipped=[{}], tables=[{}, {"columns": [{}], "rows": [{}]}])):
        render(record)
        check(text.text(record).endswith("\n"), "no text")


def empty_drawings():
    need_gnuplot()
    none = [{}, {"title": "a", "kind": "lines", "series": []}, chart("lines", []), chart("bars", []), chart("cdf", []),
            chart("points", [[None, 1], [1, None], [math.nan, 1], [1, math.inf], [], [1], ["a", "b"], [1, 1e300], [1, 10**400]]),
            chart("lines", [[0, 1], [-1, 2]], x={"log": True})]
    for one in none:
        drawings, said = draw_one(one)
        check(not drawings and ("No samples" in said or "does not know" in said), f"{one}: {said}")
    samples = [[], [[]], [[0]], [[0, None, None]], [["a", 1, 2]], [[math.nan, 1, 2]]]
    for rows in samples:
        page, seen = render(records.frame("compare", "t", timelines=[
            {"title": "t", "columns": ["ms", "sent", "remaining"], "samples": rows, "events": [{"ms": 3, "what": "stopped"}]}]))
        check(not svgs(page) and "No samples" in seen.said, f"{rows}: {seen.said}")
    page, _ = render(records.frame("compare", "t", timelines=[{}, {"columns": ["sent"], "samples": [[1]]}]))
    check(not svgs(page), "drawn without a time")


def one_sample():
    need_gnuplot()
    for kind in ("lines", "points", "cdf", "bars"):
        for log in (False, True):
            for point in ([3, 1], [3, 1, 0.5, 2], [3, 1, 1, 1], [3, 1, -5, 2], [1e-30, 1e30], [1e99, 1e-99]):
                drawings, said = draw_one(chart(kind, [point], x={"log": log}, y={"log": log}))
                check(len(drawings) == 1, f"{kind}, {log}, {point}: {said}")
    for point in ([0, 0], [-3, -1], [-3, -1, -2, 0]):
        for kind in ("lines", "points", "bars"):
            drawings, said = draw_one(chart(kind, [point], x={"log": False}, y={"min": 0}))
            check(len(drawings) == 1, f"{kind}, {point}: {said}")
    for rows in ([[0, 5, 1]], [[0, 5, 0], [10, 5, 0]], [[5, 5, None], [5, 6, None]], [[0, 1e99, 1], [10, 1.7e308, 1e-99]]):
        page, seen = render(records.frame("compare", "t", timelines=[
            {"title": "t", "columns": ["ms", "remaining", "sent"], "samples": rows, "events": []}]))
        check(len(svgs(page)) == 1, f"{rows}: {seen.said}")


def left_out_points():
    need_gnuplot()
    _, said = draw_one(chart("lines", [[1, 1], [2, 0], [3, None], [4, 4]], y={"log": True}))
    check("2 points have no place" in said, said)


def long_curves():
    need_gnuplot()
    points = [[x, math.sin(x / 500) + (5 if x == 77777 else 0)] for x in range(100000)]
    thinned = plot.thin(points)
    check(len(thinned) <= plot.POINTS_MAX and [77777, points[77777][1]] in thinned, "a peak is lost")
    check(thinned[0] == points[0] and thinned[-1] == points[-1], "an end is lost")
    check(thinned == sorted(thinned), "out of order")
    record = records.frame("compare", "t", timelines=[records.migration("t", 60, 1e9)])
    page, _ = render(record)
    drawing = svgs(page)[0]
    check(20000 < paths(drawing) < 150000, f"{paths(drawing)} characters of curves")
    check(len(record["timelines"][0]["samples"]) == 6000, "the record has changed")


def rates():
    """A counter of 100 a ms, asked at uneven times."""
    points = [[ms, None if 300 < ms < 340 else ms * 100.0] for ms in (0, 9, 21, 30, *range(40, 700, 10))]
    points += [[ms, ms * 100.0] for ms in range(1000, 1200, 10)]  # unknown for 300 ms
    points += [[ms, (ms - 1200) * 100.0] for ms in range(1200, 1400, 10)]  # begins anew
    for window in (0, 50):
        curve = panels.growth(points, window, 100)
        values = [point[1] for point in curve if point]
        check(values and all(abs(value - 100000) < 1e-6 for value in values), f"{window}: {values[:5]}")
        check(sum(point is None for point in curve) == 2, "the breaks are not seen")
        check(not any(690 < point[0] < 1000 for point in curve if point), "a rate of what nobody saw")


def zoom():
    need_gnuplot()
    one = records.migration("t", 3, 1e9)
    at = panels.stop_of(one)["ms"]
    check(panels.zoom_of(figures.fit(one, figures.SHAPE["timelines"][0], "t")) == (at - 150, at + 30.4 + 150), "zoom")
    wide = svgs(render(records.frame("compare", "t", timelines=[one]))[0])[0]
    check(any("after «stopped»" in (element.text or "") for element in wide.iter("text")), "no zoom")
    for what in ("guest stands still", "Switchover", "something that lasts"):
        named = figures.read(records.frame("compare", "t", timelines=[
            {**one, "events": [{"ms": 10.0, "what": "round 1"}, {"ms": 2000.0, "what": what, "until": 2030.0}]}]))
        check(panels.zoom_of(named["timelines"][0]) == (1850, 2180), what)
    for change in ({"events": []}, {"samples": one["samples"][:100]}):
        drawing = svgs(render(records.frame("compare", "t", timelines=[{**one, **change}]))[0])[0]
        check(not any("after" in (element.text or "") for element in drawing.iter("text")), f"a zoom of {list(change)}")


def event_names():
    """None lies over another, nor does a line cross one, whatever the events."""
    for number_of in (1, 3, 12, 40, 300):
        events = [{"ms": 997.0 * place % 4000, "what": f"round {place}", "until": None} for place in range(number_of)]
        events += [{"ms": 3990.0, "what": "stopped", "until": 4020.0}, {"ms": 3999.0, "what": "switchover", "until": None}]
        events.sort(key=lambda event: event["ms"])
        labels = panels.Labels(events, panels.Span(60, 700, 0, 4000), 740)
        names = [text for *_, text in labels.placed]
        check("stopped" in names and "switchover" in names, f"{number_of}: {names}")
        check(labels.left_out + len(labels.placed) == len(events), "events are lost")
        for place, (level, left, right, x, _) in enumerate(labels.placed):
            for other_level, other_left, other_right, other_x, name in labels.placed[place + 1:]:
                check(level != other_level or right <= other_left or other_right <= left, f"{name} over another")
                check(level <= other_level or x is None or not other_left < x - 1 < x + 1 < other_right, f"a line crosses {name}")
                check(other_level <= level or other_x is None or not left < other_x - 1 < other_x + 1 < right,
                      f"the line of {name} crosses another")


def same_style():
    record = figures.read(records.guest())
    styles = plot.Styles(record, figures.marks(record))
    check(styles.role("ferry, rdma") == "series-1", "Ferry is not first")
    check(styles.role("the link's rate") == "muted", "a ceiling in a colour")
    names = [series["name"] for series in record["charts"][0]["series"]]
    check(len({styles.role(name) for name in names}) == len(names), "colours twice")
    looks = {(styles.role(name), styles.dash(name), styles.shape(name)) for name in
             [series["name"] for series in record["charts"][0]["series"]]}
    check(len({dash for _, dash, _ in looks}) == len({shape for *_, shape in looks}) == len(names), "told apart by colour alone")


def dark_and_paper():
    style = open(os.path.join(HARNESS, "report.css"), encoding="utf-8").read()
    blocks = [block for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)]
    check(len(blocks) == 3, f"{len(blocks)} palettes, not light, dark, paper")
    for block in blocks:
        missing = [role for role in gnuplot.ROLES if f"--{role}:" not in block]
        check(not missing, f"colours of {missing} are missing")
    check("prefers-color-scheme: dark" in style and "@media print" in style, "no dark, no paper")


def foreign_files():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "r.json")
        record = records.frame("compare", "t")
        cases = [("", "not JSON"), ("[1,", "not JSON"), ("[]", "ferry-bench"), ("{}", "ferry-bench"), ("3", "ferry-bench"),
                 ('{"ferry-bench": 2}', "version 2"), ('{"ferry-bench": "\\u001b[31m"}', "version"), ("[" * 100000, "not JSON"),
                 (json.dumps({**record, "tables": 5}), "tables is not a list"),
                 (json.dumps({**record, "tables": [5]}), "tables[0] is not an object"),
                 (json.dumps({**record, "notes": [{}]}), "notes[0] is not a text"),
                 (json.dumps({**record, "seconds": "long"}), "seconds is not a number"),
                 (json.dumps({**record, "charts": [{"series": [{"points": [3]}]}]}), "points[0] is not a list"),
                 (json.dumps({**record, "timelines": [{"events": {}}]}), "timelines[0].events is not a list"),
                 (b"\xff\xfe", "not JSON")]
        for content, expected in cases:
            with open(path, "wb") as out:
                out.write(content if isinstance(content, bytes) else content.encode())
            done = command(path)
            said = done.stderr
            check(done.returncode == 1 and not done.stdout, f"{content[:40]}: status {done.returncode}")
            check(said.count("\n") == 1 and expected in said and path in said, f"{content[:40]}: {said}")
        done = command(os.path.join(folder, "none"))
        check(done.returncode == 1 and done.stderr.endswith("none: No such file or directory\n"), done.stderr)


def command(*arguments, environment=None):
    return subprocess.run([sys.executable, "-B", os.path.join(HARNESS, "report.py"), *arguments], capture_output=True,
                          encoding="utf-8", check=False, env=environment or {**os.environ, "PYTHONUTF8": "1"})


def command_line():
    with tempfile.TemporaryDirectory() as folder:
        path, page = os.path.join(folder, "r.json"), os.path.join(folder, "r.html")
        record = without_drawings(records.compare())
        with open(path, "w", encoding="utf-8") as out:
            json.dump(record, out)
        done = command(path, "--html", page)
        check(done.returncode == 0 and not done.stdout and not done.stderr, done.stderr)
        with open(page, encoding="utf-8") as written:
            examine(written.read(), record)
        for arguments in ([path], [path, "--text"]):
            done = command(*arguments)
            check(done.returncode == 0 and done.stdout == text.text(record), done.stderr)
        done = command(path, "--html", os.path.join(folder, "none", "x.html"))
        check(done.returncode == 1 and "No such file" in done.stderr and done.stderr.count("\n") == 1, done.stderr)


def no_gnuplot():
    with tempfile.TemporaryDirectory() as folder:
        path, page = os.path.join(folder, "r.json"), os.path.join(folder, "r.html")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(records.compare(), out)
        done = command(path, "--html", page, environment={"PATH": folder, "PYTHONUTF8": "1"})
        check(done.returncode == 1 and "apt-get install gnuplot-nox" in done.stderr and done.stderr.count("\n") == 1,
              done.stderr)
        check(not os.path.exists(page), "half a page is left")


def terminal_text():
    shown = text.text(records.compare())
    check(max(map(text.breadth, shown.splitlines())) <= text.WIDTH, "lines that are too long")
    for words in ("WARNINGS", "FAILURES", "Not measured", "of the raw", "ferry, rdma", "5 min 22 s", "2 charts and 2 timelines"):
        check(words in shown, f"not in the text: {words}")
    rows = [line for line in shown.splitlines() if line.startswith(("* ferry,", "  qemu,", "^ raw")) and "÷" not in line]
    check(len(rows) == 6 and len({len(row) for row in rows}) == 1, f"not aligned: {rows}")
    wide = records.frame("compare", "t", tables=[{"title": "wide", "columns": [
        {"key": str(place), "title": f"column {place}", "digits": 3} for place in range(20)], "rows": [
            {"name": "n", "cells": {str(place): {"samples": [1000.0 + place, 2000.0]} for place in range(20)}}]}])
    shown = text.text(wide)
    check(max(map(len, shown.splitlines())) <= text.WIDTH, "a wide table is not broken")
    check(all(f"{(3000.0 + place) / 2:.3f}" in shown for place in range(20)), "columns are lost")


def unchanged():
    record = records.guest()
    before = copy.deepcopy(record)
    text.text(record)
    if shutil.which("gnuplot"):
        report.html(record)
    check(record == before, "a report changes its record")


CASES = [
    ("page__of_full_records__is_whole_and_refers_to_nothing_outside", full_records),
    ("page__tables__say_what_was_measured_and_where", tables),
    ("cell__of_any_value__is_shown_or_is_a_dash", figure_of_cell),
    ("number__of_any_size__is_short", numbers),
    ("page__hostile_texts__break_and_run_nothing", hostile_texts_page),
    ("text__hostile_texts__send_the_terminal_nothing", hostile_texts_terminal),
    ("record__empty_parts__are_left_out", empty_parts),
    ("drawing__of_no_samples__says_so", empty_drawings),
    ("drawing__of_one_sample__is_drawn", one_sample),
    ("drawing__points_without_a_place__are_counted", left_out_points),
    ("drawing__long_curves__are_thinned_with_their_peaks", long_curves),
    ("timeline__rate_of_a_counter__has_no_value_where_none_is_known", rates),
    ("timeline__switchover_that_was_seen__is_enlarged", zoom),
    ("timeline__names_of_events__lie_beside_each_other", event_names),
    ("chart__series_of_one_name__look_the_same_everywhere", same_style),
    ("style__light_dark_and_paper__have_every_colour", dark_and_paper),
    ("command__foreign_file__is_one_line_of_error", foreign_files),
    ("command__record__becomes_a_page_and_a_text", command_line),
    ("command__without_gnuplot__says_how_to_get_it", no_gnuplot),
    ("text__of_a_record__is_aligned_within_its_width", terminal_text),
    ("report__of_a_record__leaves_it_as_it_was", unchanged),
]

if __name__ == "__main__":
    sys.exit(run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
