# SPDX-License-Identifier: BSD-2-Clause
"""The probes that libferry has are those of docs/observability.md, and bpftrace sees them. TAP.

usage: test-probes.py SOURCE_ROOT LIBFERRY_SO FERRY [CASE]"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE, LIBRARY, FERRY = sys.argv[1:4]
LIBRARY = os.path.realpath(LIBRARY)
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from cases import Skip, check, run, wait_for  # noqa: E402 (the path comes first)
from ferry import Ferry                       # noqa: E402

SCRIPT = os.path.join(SOURCE, "docs", "examples", "ferry-rounds.bt")
# What an argument looks like in the note, by its type in the table.
SIZES = {"u32": "4", "s32": "-4", "u64": "8", "s64": "-8", "char *": "8"}


def built_probes():
    """Name -> the argument sizes of each place, as the library's notes have them."""
    text = subprocess.run(["readelf", "-n", LIBRARY], check=True, capture_output=True, text=True).stdout
    probes = {}
    for name, arguments in re.findall(r"Provider: ferry\s+Name: (\w+)\s+.*?Arguments: ([^\n]*)", text, re.DOTALL):
        probes.setdefault(name, []).append(re.findall(r"(?:^|\s)(-?\d+)@", arguments))
    if not probes:
        raise Skip("built without probes")
    return probes


def table():
    """Name -> the types of the arguments, as the document has them."""
    with open(os.path.join(SOURCE, "docs", "observability.md"), encoding="utf-8") as text:
        part = text.read().split("## Probes")[1]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", part, re.MULTILINE)
    return {name: re.findall(r"(?:^|; )`([^`]+)`", arguments) for name, arguments in rows}


def library__probes__are_those_of_the_table():
    built, told = built_probes(), table()
    check(len(told) >= 10, told)
    check(set(built) == set(told), f"only on one side: {set(built) ^ set(told)}")
    for name, places in built.items():
        for sizes in places:
            want = [SIZES[kind] for kind in told[name]]
            check(sizes == want, f"{name}: arguments {sizes} in the library, {want} in the table")


def script__probes_and_arguments__are_in_the_table():
    with open(SCRIPT, encoding="utf-8") as text:
        blocks = re.findall(r"usdt:libferry\.so\.0:ferry:(\w+)\n(.*?)\n}", text.read(), re.DOTALL)
    told = table()
    check({"state", "end", "round_begin", "round_end"} <= {name for name, _ in blocks}, blocks)
    for name, body in blocks:
        used = {int(number) for number in re.findall(r"\barg(\d)\b", body)}
        check(name in told and max(used, default=-1) < len(told[name]), f"{name} uses {used} of {told.get(name)}")


def local_script(ferry):
    """The example, for the library under test."""
    path = ferry.path("rounds.bt")
    with open(SCRIPT, encoding="utf-8") as text, open(path, "w", encoding="utf-8") as out:
        out.write(text.read().replace("libferry.so.0", LIBRARY))
    return path


def bpftrace__example__shows_states_and_rounds_of_a_live_migration():
    built_probes()
    if not shutil.which("bpftrace"):
        raise Skip("bpftrace is not installed")
    with Ferry(FERRY) as ferry, tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        source, _ = ferry.guest("a", "--ram", "32M", "--process")
        tracer = subprocess.Popen(["bpftrace", "-p", str(source.process.pid), local_script(ferry)],
                                  stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            def shown():
                output.seek(0)
                return output.read()
            wait_for(lambda: tracer.poll() is not None or "what" in shown(), shown, timeout=60)
            if tracer.poll() is not None:
                raise Skip(f"bpftrace may not attach here: {' '.join(shown().split())[:200]}")
            result = ferry.command("migrate", "--qmp", "unix:" + ferry.path("a"), "file:" + ferry.path("stream"))
            check(result.returncode == 0, result.stderr)
            wait_for(lambda: "-> completed" in shown(), shown)
        finally:
            tracer.terminate()
            tracer.wait(60)
        text = shown()
        for words in (r"source +none -> setup", r"source +setup -> active", r"round 1: \d+ pages, found in",
                      r"round 1: \d+ pages and \d+ zero, \d+ bytes", r"source +\S+ -> completed"):
            check(re.search(words, text), f"no '{words}' in {text}")


CASES = [(case.__name__, case) for case in (
    library__probes__are_those_of_the_table,
    script__probes_and_arguments__are_in_the_table,
    bpftrace__example__shows_states_and_rounds_of_a_live_migration,
)]

if __name__ == "__main__":
    sys.exit(run(CASES, *sys.argv[4:]))
