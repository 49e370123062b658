# SPDX-License-Identifier: BSD-2-Clause
"""Runs gnuplot, and fits its SVG into a page: colours become the page's variables, ids those of one figure alone."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

SERIES = 8
# gnuplot writes fixed colours. These stand for a role; the page says what colour a role has, in the light and the dark.
ROLES = ["text", "axis", "grid", "event", "span", "muted", "peer", "whisker"] + [f"series-{n + 1}" for n in range(SERIES)]
MARKERS = {role: (10, 0, number) for number, role in enumerate(ROLES, 1)}
BY_MARKER = {rgb: role for role, rgb in MARKERS.items()}
TIMEOUT_S = 60
PLAIN = " .,:;()+-/="  # and letters and digits
PRIVATE = 0xE000
BACK = {PRIVATE + code: code for code in range(128)}


class NoGnuplot(RuntimeError):
    """gnuplot is not there; the text says how to get it."""

    def __init__(self):
        super().__init__("no gnuplot here, which draws the charts: apt-get install gnuplot-nox")


class PlotError(RuntimeError):
    """gnuplot did not draw."""


def quote(text):
    """A string for gnuplot, as long as @text. Characters that have a meaning there go as private ones, which
    figures.clean() lets nobody else use; adopt() brings them back."""
    return "'" + "".join(character if character.isalnum() or character in PLAIN or ord(character) > 127 else
                         chr(PRIVATE + ord(character)) for character in text) + "'"


def colour(role):
    return 'rgb "#{:02x}{:02x}{:02x}"'.format(*MARKERS[role])


def block(name, rows):
    """A block of data. A row is numbers or words of our own; None: here the line is broken."""
    lines = [" ".join(f"{value:.10g}" if isinstance(value, (int, float)) else value for value in row) if row else ""
             for row in rows]
    return "\n".join([f"${name} << END_OF_DATA", *lines, "END_OF_DATA"])


def preamble(width, height):
    return [f'set terminal svg size {width},{height} dynamic noenhanced font "sans-serif,13" rounded',
            "set encoding utf8", f"set border 3 lw 1 lc {colour('axis')}",
            f"set tics nomirror scale 0.4 textcolor {colour('text')}",
            f"set grid ytics lt 1 lw 0.6 lc {colour('grid')}", "set style fill solid 1.0 noborder"]


def paint(value):
    """A colour of gnuplot's as one of the page's."""
    found = re.fullmatch(r"rgb\(\s*(\d+),\s*(\d+),\s*(\d+)\)", value)
    role = BY_MARKER.get(tuple(int(part) for part in found.groups())) if found else None
    if role:
        return f"var(--{role})"
    if value in ("none", "currentColor"):
        return value
    return "var(--axis)"


def wanted_shapes(root):
    """Ids that are used, and those that these use."""
    uses = {}
    for element in root.iter("use"):
        uses.setdefault(element.get("id"), set()).add(element.get("href")[1:])
    wanted, found = set(), uses.get(None, set())
    while found:
        wanted |= found
        found = set().union(*(uses.get(name, set()) for name in found)) - wanted
    return wanted


def drop(root, unwanted):
    """Takes elements out for which @unwanted holds, the innermost first."""
    for parent in list(root.iter()):
        for child in list(parent):
            drop(child, unwanted)
            if unwanted(child):
                parent.remove(child)


def adopt(svg, ident, title, description):
    """gnuplot's @svg as an element of a page. Its ids begin with @ident."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    shapes = wanted_shapes(root)
    drop(root, lambda element: element.tag in ("title", "desc", "filter", "script")
         or (element.tag == "rect" and not element.get("id") and element.get("fill") == "none")
         or (element.get("id", "").startswith("gp") and element.get("id") not in shapes)
         or element.get("href") == "#gpDot"  # of an error bar without a point
         or (element.tag in ("g", "defs") and len(element) == 0))
    for element in root.iter():
        for name in ("fill", "stroke", "color"):
            if name in element.attrib:
                element.set(name, paint(element.get(name)))
        if element.tag == "text" and element.text:
            element.text = element.text.strip().translate(BACK)
        if element.get("id", "").startswith("gp"):
            element.set("id", f"{ident}-{element.get('id')}")
        elif "id" in element.attrib:
            del element.attrib["id"]
        if "href" in element.attrib:
            element.set("href", f"#{ident}-{element.get('href')[1:]}")
        for name in ("class", "font-family", "onload"):
            element.attrib.pop(name, None)
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        label = ElementTree.Element(tag, {"id": f"{ident}-{tag}"})
        label.text = text
        root.insert(place, label)
    root.set("role", "img")
    root.set("aria-labelledby", f"{ident}-title {ident}-desc")
    return ElementTree.tostring(root, encoding="unicode")


def find():
    """Raises NoGnuplot."""
    program = shutil.which("gnuplot")
    if not program:
        raise NoGnuplot
    return program


def draw(commands, ident, title, description):
    """Runs gnuplot; returns the SVG element. Raises NoGnuplot, PlotError."""
    program = find()
    try:
        done = subprocess.run([program, "-d", "-"], input="\n".join(commands) + "\n", capture_output=True,
                              encoding="utf-8", errors="replace", timeout=TIMEOUT_S, check=False,
                              env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
    except subprocess.TimeoutExpired as failure:
        raise PlotError(f"gnuplot did not draw within {TIMEOUT_S} s") from failure
    begin = done.stdout.find("<svg")
    if done.returncode or begin < 0 or "</svg>" not in done.stdout:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip(" ^\n")]
        raise PlotError(f"gnuplot: {said[-1] if said else f'status {done.returncode}'}")
    return adopt(done.stdout[begin:], ident, title, description)
