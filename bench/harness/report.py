#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The report of a bench: its record as one page that needs no network and no script."""

import argparse
import json
import math
import os
import sys
from html import escape

import figures
import gnuplot
import panels
import plot
import text as plain

HERE = os.path.dirname(os.path.abspath(__file__))
HALF_WIDTH, FULL_WIDTH = 600, 860
EVENTS_OPEN, TIMELINES_OPEN = 24, 8  # so many are shown without a click
THIN_SPACE = "\u202f"
# The page fetches nothing and runs nothing, whatever a record holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
ROLES = {"both": "Source and destination", "source": "Source", "destination": "Destination"}
MARKS = ("ferry", "peer", "ceiling")


def number(value, digits=None):
    """With a minus sign, which is as wide as a digit."""
    return figures.number(value, digits, THIN_SPACE).replace("-", "\u2212")


def without_nan(value):
    """JSON has no such number: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    return value


def embed(record):
    """Neither ends the element that it is in, nor begins another."""
    rendered = json.dumps(without_nan(record), separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        rendered = rendered.replace(character, f"\\u{ord(character):04x}")
    # A line for each part: long lines are slow to show.
    return rendered


def listing(entries, tag="ul", attributes=""):
    return f"<{tag}{attributes}>" + "".join(f"<li>{entry}</li>" for entry in entries) + f"</{tag}>"


def section(title, *content, anchor=""):
    """Nothing without content."""
    inside = "\n".join(part for part in content if part)
    place = f' id="{anchor}"' if anchor else ""
    return f"<section><h2{place}>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def count(number_of, one, many):
    return f"{number_of} {one if number_of == 1 else many}"


def header(record):
    when = [escape(figures.begun(record))] if record["begun"] else []
    if record["seconds"] is not None:
        when.append(f"took {figures.duration(record['seconds'])}")
    names = list(dict.fromkeys(host["hostname"] for host in record["hosts"] if host["hostname"]))
    if names:
        when.append("on " + escape(" and ".join(names)))
    jumps = [f'<a href="#{part}">{count(len(record[part]), one, many)}</a>'
             for part, one, many in (("failures", "failure", "failures"),
                                     ("skipped", "thing not measured", "things not measured")) if record[part]]
    return "\n".join([
        "<header>", f'<p class="kind">ferry bench {escape(record["bench"])}</p>',
        f"<h1>{escape(record['title'] or 'A bench of Ferry')}</h1>",
        f'<p class="when">{" · ".join(when + jumps)}</p>',
        f'<code class="command">{escape(" ".join(record["command"]))}</code>' if record["command"] else "",
        warnings(record), "</header>"])


def warnings(record):
    if not record["warnings"]:
        return ""
    title = count(len(record["warnings"]), "warning", "warnings")
    return f'<aside class="alert" aria-labelledby="warnings"><h2 id="warnings">{title}</h2>' \
           + listing(map(escape, record["warnings"])) + "</aside>"


def host(of):
    rows = [("host", of["hostname"]), ("processor", of["processor"]),
            ("CPUs", number(of["cpus"]) if of["cpus"] is not None else ""),
            ("memory", figures.size(of["memory"]) if of["memory"] else ""), ("kernel", of["kernel"]),
            ("virtual machine", of["virtual"]), ("CPU governor", of["governor"]), ("RDMA", ", ".join(of["devices"]))]
    pairs = [f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows if value]
    versions = "".join(f'<span class="version">{escape(name)} {escape(version)}</span> '
                       for name, version in figures.versions(of))
    if versions:
        pairs.append(f"<dt>versions</dt><dd>{versions}</dd>")
    title = ROLES.get(of["role"], of["role"])
    return "<div>" + (f"<h3>{escape(title)}</h3>" if title else "") + f'<dl class="pairs">{"".join(pairs)}</dl></div>'


def cell_html(value, column):
    cell = figures.cell(value)
    if cell is None:
        return f'<td class="quiet">{figures.NO_VALUE}</td>'
    if cell.median is None:
        return f'<td class="words">{escape(cell.text)}</td>'
    shown = number(cell.median, column["digits"])
    if cell.low is None or cell.n < 2 or column["spread"] is False:
        return f"<td>{shown}</td>"
    low, high = number(cell.low, column["digits"]), number(cell.high, column["digits"])
    return f"<td>{shown}<small>{low}{figures.NO_VALUE}{high}</small></td>"


def counts_of(table):
    """How many samples the figures of a table are the median of."""
    cells = [figures.cell(value) for row in table["rows"] for value in row["cells"].values()]
    return sorted({cell.n for cell in cells if cell and cell.low is not None})


def heading(column, table):
    cells = [figures.cell(row["cells"].get(column["key"])) for row in table["rows"]]
    attributes = ' class="words"' if any(cell and cell.median is None for cell in cells) else ""
    return f'<th scope="col"{attributes}>{escape(column["title"] or column["key"])}</th>'


def table_html(table):
    columns = table["columns"]
    head = "".join(heading(column, table) for column in columns)
    told_apart = len({row["mark"] for row in table["rows"]}) > 1
    rows = []
    for row in table["rows"]:
        mark = f' class="mark-{row["mark"]}"' if told_apart and row["mark"] in MARKS else ""
        cells = "".join(cell_html(row["cells"].get(column["key"]), column) for column in columns)
        rows.append(f'<tr{mark}><th scope="row">{escape(row["name"])}</th>{cells}</tr>')
    notes = [escape(table["note"])] if table["note"] else []
    counts = counts_of(table)
    if counts and counts[-1] > 1:
        several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(f"Medians of {several} samples; below each, the smallest and the largest.")
    note = f'<span class="quiet">{" ".join(notes)}</span>' if notes else ""
    if not rows:
        rows = [f'<tr><td colspan="{len(columns) + 1}" class="words quiet">nothing was measured</td></tr>']
    return (f'<div class="table"><table><caption>{escape(table["title"])}{note}</caption>\n'
            f'<thead><tr><th scope="col"><span hidden>name</span></th>{head}</tr></thead>\n<tbody>'
            + "\n".join(rows) + "</tbody></table></div>")


def figure(title, drawing, notes, kind="", below=""):
    note = "".join(f"<p>{escape(note)}</p>" for note in notes if note)
    attributes = f' class="{kind}"' if kind else ""
    heading_of = f"<h3>{escape(title)}</h3>" if title else ""
    return f"<figure{attributes}><figcaption>{heading_of}{note}</figcaption>\n{drawing}{below}</figure>"


def drawn(draw):
    """(the drawing or what is shown in its place, what came with it)."""
    try:
        drawing, rest = draw()
    except gnuplot.PlotError as failure:
        return f'<p class="nothing">This could not be drawn: {escape(figures.clean(str(failure)))}</p>', None
    return drawing or '<p class="nothing">No samples.</p>', rest


def charts_html(record):
    styles = plot.Styles(record, figures.marks(record))
    one = len(record["charts"]) == 1
    parts = []
    for place, chart in enumerate(record["charts"], 1):
        drawing, left_out = drawn(lambda: plot.chart_svg(chart, styles, FULL_WIDTH if one else HALF_WIDTH,
                                                         f"chart{place}"))
        notes = [chart["note"]]
        if left_out:
            notes.append(f"{count(left_out, 'point has', 'points have')} no place on these axes.")
        parts.append(figure(chart["title"], drawing, notes))
    return f'<div class="charts{" one" if one else ""}">' + "\n".join(parts) + "</div>" if parts else ""


def event_text(event):
    lasts = ""
    if event["until"] is not None:
        lasts = f", for {number(event['until'] - event['ms'])} ms"
    return f"{number(event['ms'], 1)} ms: {escape(event['what'])}{lasts}"


def timeline_html(timeline, place):
    drawing, notes = drawn(lambda: panels.timeline_svg(timeline, f"timeline{place}"))
    events = sorted((event for event in timeline["events"] if event["ms"] is not None), key=lambda event: event["ms"])
    below = ""
    if events:
        below = listing(map(event_text, events), attributes=' class="events"')
        if len(events) > EVENTS_OPEN:
            below = f"<details><summary>{len(events)} events</summary>{below}</details>"
    if place > TIMELINES_OPEN:
        inside = figure("", drawing, notes or [], "timeline", below)
        return f"<details><summary>{escape(timeline['title'])}</summary>{inside}</details>"
    return figure(timeline["title"], drawing, notes or [], "timeline", below)


def samples_table(table):
    rows = []
    for row in table["rows"]:
        for column in table["columns"]:
            cell = figures.cell(row["cells"].get(column["key"]))
            if cell and cell.samples:
                rows.append(f'<tr><th scope="row">{escape(row["name"])}</th><td class="words">'
                            f'{escape(column["title"] or column["key"])}</td>'
                            f'<td class="words samples">{" ".join(format(sample, ".10g") for sample in cell.samples)}</td></tr>')
    if not rows:
        return ""
    return f'<div class="table"><table><caption>{escape(table["title"])}</caption><thead><tr><th scope="col">of</th>' \
           '<th scope="col">figure</th><th scope="col">samples, in the order they were taken</th></tr></thead>' \
           f'<tbody>{"".join(rows)}</tbody></table></div>'


def raw_html(known, record):
    tables = "".join(samples_table(table) for table in known["tables"])
    samples = f"<details><summary>Samples of every table</summary>{tables}</details>" if tables else ""
    return samples + "<details><summary>The whole record, JSON</summary>\n" \
                     f'<script type="application/json" id="record" class="record">{embed(record)}</script></details>'


def reasons(entries):
    return listing(f"<strong>{escape(entry['what'])}</strong>: {escape(entry['why'])}" for entry in entries)


def html(record):
    """One page. Raises figures.RecordError, and gnuplot.NoGnuplot if there is something to draw."""
    known = figures.read(record)
    with open(os.path.join(HERE, "report.css"), encoding="utf-8") as sheet:
        style = sheet.read()
    machines = f'<div class="hosts">{"".join(map(host, known["hosts"]))}</div>' if known["hosts"] else ""
    sections = [
        section("What to know", listing(map(escape, known["notes"])) if known["notes"] else ""),
        section("Figures", *map(table_html, known["tables"])),
        section("Not measured", reasons(known["skipped"]) if known["skipped"] else "", anchor="skipped"),
        section("Failures", reasons(known["failures"]) if known["failures"] else "", anchor="failures"),
        section("Charts", charts_html(known)),
        section("Timelines", *[timeline_html(timeline, place) for place, timeline in enumerate(known["timelines"], 1)]),
        section("Where this was measured", machines),
        section("Raw figures", raw_html(known, record)),
    ]
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(known['title'] or 'A bench of Ferry')}</title>", f"<style>\n{style}</style>", "</head>", "<body>",
        header(known), "<main>", *filter(None, sections), "</main>",
        "<footer><p>Made by ferry bench. Every figure of this page, and every sample behind it, is in the record "
        "above.</p></footer>", "</body>", "</html>", ""])


def main(argv=None):
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__)
    parser.add_argument("record", metavar="RECORD.json")
    parser.add_argument("--html", metavar="OUT.html", help="write the page here")
    parser.add_argument("--text", action="store_true", help="print tables; the default without --html")
    options = parser.parse_args(argv)
    try:
        record = figures.load(options.record)
        if options.html:
            page = html(record)
            with open(options.html, "w", encoding="utf-8") as out:
                out.write(page)
        if options.text or not options.html:
            print(plain.text(record), end="")
    except (figures.RecordError, gnuplot.NoGnuplot) as failure:
        sys.exit(f"report.py: {failure}")
    except OSError as failure:
        sys.exit(f"report.py: {failure.filename}: {failure.strerror}")


if __name__ == "__main__":
    main()
