# SPDX-License-Identifier: BSD-2-Clause
"""Test cases that print TAP. Each case is a function; it passes unless it raises."""

import sys
import time
import traceback


class Skip(Exception):
    """Raised by a case that cannot run here; its text says why."""


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def wait_for(condition, what, timeout=30):
    """Polls until condition() is true and returns its value. @what: text, or a function that gives it at the end."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what() if callable(what) else what}")
        time.sleep(0.01)


def run(cases, only=""):
    """Runs (name, function) pairs whose name holds the substring; returns the exit status."""
    failed = 0
    chosen = [case for case in cases if only in case[0]]
    print(f"1..{len(chosen)}", flush=True)
    for number, (name, function) in enumerate(chosen, 1):
        begin = time.monotonic()
        try:
            function()
            print(f"ok {number} - {name}")
        except Skip as skip:
            print(f"ok {number} - {name} # SKIP {skip}")
        except Exception:  # whatever it is, it fails this case alone
            failed += 1
            for line in traceback.format_exc().splitlines():
                print(f"# {line}")
            print(f"not ok {number} - {name}")
        print(f"# {time.monotonic() - begin:.1f} s", flush=True)
    return 1 if failed else 0
