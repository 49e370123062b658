# SPDX-License-Identifier: BSD-2-Clause
"""Reads the record of a bench for a report: every part is there and of its type afterwards, every text fit to be shown.
Nothing of a record is trusted: it may come from elsewhere, and holds names and messages of other programs."""

import json
import math
import numbers
import statistics
import typing
import unicodedata

VERSION = 1
NO_VALUE = "\u2013"
# What a part is: text (str), a finite number or None (float), anything (object), a list of ..., an object with ...
AXIS = {"label": str, "log": object, "min": float}
SHAPE = {
    "bench": str, "title": str, "begun": str, "seconds": float, "command": [str], "plan": {}, "notes": [str],
    "warnings": [str], "failures": [{"what": str, "why": str}], "skipped": [{"what": str, "why": str}],
    "hosts": [{"role": str, "hostname": str, "processor": str, "cpus": float, "memory": float, "kernel": str,
               "virtual": str, "governor": str, "devices": [str], "versions": {}}],
    "tables": [{"title": str, "note": str, "columns": [{"key": str, "title": str, "digits": float, "spread": object}],
                "rows": [{"name": str, "mark": str, "cells": {}}]}],
    "charts": [{"title": str, "kind": str, "note": str, "x": AXIS, "y": AXIS,
                "series": [{"name": str, "mark": str, "points": [list]}]}],
    "timelines": [{"title": str, "interval-ms": float, "columns": [str], "units": {}, "samples": [list],
                   "events": [{"ms": float, "what": str, "until": float}]}],
}
KINDS = {str: "a text", float: "a number", list: "a list", dict: "an object"}


class RecordError(ValueError):
    """One line: what is wrong with a record, and where."""


def clean(text):
    """Shows what would move a cursor, reorder or end text as a mark of its own."""
    return "".join(" " if character in "\n\t\r" else
                   "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else character
                   for character in text)


def finite(value):
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def drawable(value):
    """No sum or ratio of such numbers is infinite."""
    return finite(value) and (value == 0 or 1e-100 <= abs(value) <= 1e100)


def fit(value, shape, where):
    """@value as @shape says; what is missing is empty. Raises RecordError where it is something else."""
    kind = list if isinstance(shape, list) else dict if isinstance(shape, dict) else shape
    if shape is object:
        return value
    if shape is float:
        if value is None or isinstance(value, numbers.Real):
            return float(value) if finite(value) else None
    elif value is None:
        value = kind()
    elif shape is str and finite(value):
        value = format(value, "g")
    if not isinstance(value, kind):
        raise RecordError(f"{where} is not {KINDS[kind]}")
    if shape is str:
        return clean(value)
    if isinstance(shape, list):
        return [fit(entry, shape[0], f"{where}[{number}]") for number, entry in enumerate(value)]
    if isinstance(shape, dict):
        parts = {key: fit(value.get(key), inner, f"{where}.{key}" if where else key) for key, inner in shape.items()}
        return {**value, **parts}
    return value


def read(record):
    """@record as SHAPE says. Raises RecordError."""
    if not isinstance(record, dict) or "ferry-bench" not in record:
        raise RecordError("not the record of a bench: it has no member «ferry-bench»")
    if record["ferry-bench"] != VERSION or isinstance(record["ferry-bench"], bool):
        raise RecordError(f"a record of version {clean(str(record['ferry-bench'])[:20])}; this reads version {VERSION}")
    return fit(record, SHAPE, "")


def load(path):
    """The record in a file, or with "-" from standard input, as it is. Raises RecordError, whose text names the file."""
    try:
        with open(0 if path == "-" else path, encoding="utf-8") as text:
            record = json.load(text)
        read(record)
    except OSError as failure:
        raise RecordError(f"{path}: {failure.strerror}") from failure
    except RecordError as failure:
        raise RecordError(f"{path}: {failure}") from failure
    except (ValueError, RecursionError) as failure:
        raise RecordError(f"{path}: not JSON: {failure}") from failure
    return record


class Cell(typing.NamedTuple):
    """Of a table: a text, or a number and, if it comes of several samples, its extremes."""
    text: str = ""
    median: float = None
    low: float = None
    high: float = None
    samples: tuple = ()
    n: int = 1


def cell(value):
    """None where there is nothing to show."""
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no")
    if finite(value):
        return Cell(median=float(value))
    if isinstance(value, str):
        return Cell(text=clean(value)) if value else None
    if not isinstance(value, dict):
        return None
    given = value.get("samples")
    samples = tuple(float(sample) for sample in given if finite(sample)) if isinstance(given, list) else ()
    middle = value.get("median")
    if not finite(middle):
        if not samples:
            return None
        middle = statistics.median(samples)
    low, high = (float(value[key]) if finite(value.get(key)) else choose(samples, default=middle)
                 for key, choose in (("min", min), ("max", max)))
    n = int(value["n"]) if finite(value.get("n")) else max(len(samples), 1)
    return Cell(median=float(middle), low=low, high=high, samples=samples, n=n)


def number(value, digits=None, group=""):
    """@digits: after the point; None: four significant ones. @group: between thousands."""
    if digits is None:
        digits = 0 if value == 0 else max(0, min(9, 3 - math.floor(math.log10(abs(value)))))
        text = f"{value:,.{digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:,.{max(0, min(9, int(digits)))}f}"
    if len(text) > 30:
        text = f"{value:.4g}"
    return text.replace(",", group)


def size(count):
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{number(count)} {unit}"
        count /= 1024
    return f"{number(count)} TiB"


def duration(seconds):
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def begun(record):
    """«2026-11-23T17:05:00Z» for people."""
    text = record["begun"]
    return text.replace("T", " ", 1).removesuffix("Z") + (" UTC" if text.endswith("Z") else "")


def marks(record):
    """name -> mark, of rows and series."""
    return {entry["name"]: entry["mark"]
            for part, inside in (("tables", "rows"), ("charts", "series"))
            for whole in record[part] for entry in whole[inside] if entry["mark"]}


def versions(host):
    return [(clean(str(name)), clean(str(version))) for name, version in host["versions"].items()]
