# SPDX-License-Identifier: BSD-2-Clause
"""The record of a bench as plain text for a terminal."""

import textwrap
import unicodedata

from figures import begun, cell, duration, number, read, size, versions

WIDTH = 120
GAP = "  "
HEAD_MAX = 14  # columns of a heading before it is broken into lines
MARKS = {"ferry": "*", "ceiling": "^"}


def breadth(text):
    """Columns on a terminal."""
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
               for character in text)


def pad(text, width, left=False):
    space = " " * (width - breadth(text))
    return text + space if left else space + text


def wrapped(text, first="", rest=None):
    return textwrap.fill(text, WIDTH - 20, initial_indent=first, subsequent_indent=first if rest is None else rest,
                         break_on_hyphens=False, break_long_words=False)


def cell_lines(value, column, stacked):
    """One line, or two with the extremes below."""
    of = cell(value)
    if of is None:
        return ["-"]
    if of.median is None:
        return [of.text]
    digits = column["digits"]
    middle = number(of.median, digits)
    if of.low is None or of.n < 2 or column["spread"] is False:
        return [middle]
    extremes = f"{number(of.low, digits)}..{number(of.high, digits)}"
    return [middle, extremes] if stacked else [f"{middle} ({extremes})"]


def lay_out(columns, rows, stacked):
    """For each column (its lines of heading, its cells' lines, its width)."""
    laid = []
    for column in columns:
        cells = [cell_lines(row["cells"].get(column["key"]), column, stacked) for row in rows]
        inside = max((breadth(line) for lines in cells for line in lines), default=1)
        head = textwrap.wrap(column["title"] or column["key"], max(HEAD_MAX, inside), break_long_words=False) or [""]
        laid.append((head, cells, max(inside, *map(breadth, head))))
    return laid


def blocks(laid, room):
    """The columns in as many groups as do not fit beside each other."""
    group, used = [], 0
    for column in laid:
        if group and used + column[2] + len(GAP) > room:
            yield group
            group, used = [], 0
        group.append(column)
        used += column[2] + len(GAP)
    yield group


def block_lines(group, names, name_width):
    height = max((len(head) for head, _, _ in group), default=1)
    for place in range(height):
        yield " " * name_width + "".join(GAP + pad(([""] * (height - len(head)) + head)[place], width)
                                         for head, _, width in group)
    for row, name in enumerate(names):
        for place in range(max((len(cells[row]) for _, cells, _ in group), default=1)):
            yield pad(name if place == 0 else "", name_width, left=True) + "".join(
                GAP + pad(cells[row][place] if place < len(cells[row]) else "", width) for _, cells, width in group)


def table_text(table):
    told_apart = len({row["mark"] for row in table["rows"]}) > 1
    names = [f"{MARKS.get(row['mark'], ' ')} {row['name']}" if told_apart else row["name"] for row in table["rows"]]
    name_width = max(map(breadth, names), default=0)
    room = WIDTH - name_width
    laid = lay_out(table["columns"], table["rows"], stacked=False)
    if sum(width + len(GAP) for _, _, width in laid) > room:
        laid = lay_out(table["columns"], table["rows"], stacked=True)
    lines = [table["title"], "-" * max(breadth(table["title"]), 1)]
    if table["note"]:
        lines.append(wrapped(table["note"]))
    if not names:
        return "\n".join([*lines, "nothing was measured"])
    parts = ["\n".join(line.rstrip() for line in block_lines(group, names, name_width))
             for group in blocks(laid, room)]
    return "\n".join([*lines, "\n\n".join(parts)])


def listed(title, entries):
    return "\n".join([title, *(wrapped(entry, "  - ", "    ") for entry in entries)])


def host_text(host):
    facts = [host["hostname"], host["processor"], f"{number(host['cpus'])} CPUs" if host["cpus"] is not None else "",
             size(host["memory"]) if host["memory"] else "", f"Linux {host['kernel']}" if host["kernel"] else "",
             f"virtual: {host['virtual']}" if host["virtual"] else "", *host["devices"],
             *(f"{name} {version}" for name, version in versions(host))]
    return f"{host['role'] or 'host'}: " + ", ".join(fact for fact in facts if fact)


def head_text(record):
    when = begun(record) + (f", took {duration(record['seconds'])}" if record["seconds"] is not None else "")
    lines = [record["title"] or "A bench of Ferry", "=" * max(breadth(record["title"]), 16), when,
             " ".join(record["command"]), *(wrapped(host_text(host), "", "  ") for host in record["hosts"])]
    return "\n".join(line for line in lines if line)


def legend(tables):
    """A line, or none."""
    said = ["median (smallest..largest)"] if any("spread" in column and column["spread"] is not False for table in tables
                                                 for column in table["columns"]) else []
    marks = [{row["mark"] for row in table["rows"]} for table in tables]
    said += [f"{sign} {mark}" for mark, sign in MARKS.items() if any(mark in of and len(of) > 1 for of in marks)]
    return [", ".join(said)] if said else []


def text(record):
    """Ends with a newline. Raises figures.RecordError."""
    record = read(record)
    parts = [head_text(record)]
    if record["warnings"]:
        parts.append(listed("WARNINGS", record["warnings"]))
    parts += map(table_text, record["tables"])
    parts += legend(record["tables"])
    for title, part in (("Not measured", "skipped"), ("FAILURES", "failures")):
        if record[part]:
            parts.append(listed(title, [f"{entry['what']}: {entry['why']}" for entry in record[part]]))
    if record["notes"]:
        parts.append(listed("What to know", record["notes"]))
    drawings = [f"{len(record[part])} {part if len(record[part]) > 1 else part[:-1]}"
                for part in ("charts", "timelines") if record[part]]
    if drawings:
        parts.append(f"The page (--report) also has {' and '.join(drawings)}.")
    return "\n\n".join(parts) + "\n"
