# SPDX-License-Identifier: BSD-2-Clause
"""The README's monitor, compiled against an installed libferry, migrates to itself. TAP.

usage: test-embed.py SOURCE_ROOT BUILD_ROOT"""

import glob
import os
import re
import subprocess
import sys
import tempfile

SOURCE, BUILD = sys.argv[1:]
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from tap import Report  # noqa: E402 (the path comes first)


def run(argv, environment=None):
    """The lines of a failure, or none."""
    result = subprocess.run(argv, text=True, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env=environment, timeout=120)
    return [] if result.returncode == 0 else [" ".join(argv), *result.stdout.splitlines()[-20:]]


def install(folder):
    """Installs into folder; returns the environment in which pkg-config finds it. pkg-config's own ways to
    relocate would move glib too, so the prefix of ferry.pc is rewritten."""
    problems = run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", folder])
    found = glob.glob(os.path.join(folder, "**", "ferry.pc"), recursive=True)
    if problems or len(found) != 1:
        return problems or [f"{len(found)} ferry.pc installed, 1 expected"], None
    with open(found[0], encoding="utf-8") as text:
        pc = text.read()
    with open(found[0], "w", encoding="utf-8") as out:
        out.write(re.sub(r"^prefix=(.*)$", lambda match: f"prefix={folder}{match[1]}", pc, flags=re.MULTILINE))
    libraries = os.path.dirname(os.path.dirname(found[0]))
    return [], {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(found[0]), "LD_LIBRARY_PATH": libraries}


def compile_readme(folder, environment):
    """Compiles the one C block of README.md, with warnings as errors."""
    with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as text:
        blocks = re.findall(r"^```c\n(.*?)^```$", text.read(), re.DOTALL | re.MULTILINE)
    if len(blocks) != 1:
        return [f"{len(blocks)} C blocks in README.md, 1 expected"]
    source = os.path.join(folder, "monitor.c")
    with open(source, "w", encoding="utf-8") as out:
        out.write(blocks[0])
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "ferry"], text=True, check=False, capture_output=True,
                           env=environment)
    if flags.returncode:
        return flags.stderr.splitlines()
    return run(["cc", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-o",
                os.path.join(folder, "monitor"), source, *flags.stdout.split()], environment)


def migrate(folder, environment):
    """Source and destination meet at a Unix socket; the device's state must arrive."""
    monitor, path = os.path.join(folder, "monitor"), os.path.join(folder, "socket")
    takes = subprocess.Popen([monitor, "from", "unix:" + path], env=environment, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not os.path.exists(path):
            if takes.poll() is not None:
                return ["the destination ended:", *"".join(takes.communicate()).splitlines()]
        problems = run([monitor, "to", "unix:" + path], environment)
        said, logged = takes.communicate(timeout=30)
    finally:
        takes.kill()
    if takes.returncode or said.strip() != "completed, ticks 42":
        problems.append(f"the destination: status {takes.returncode}, {said.strip()}, {logged.strip()}")
    # GLib's default writer has the library's log, of which a move is one message.
    if logged.count("completed") != 1 or len(logged.strip().splitlines()) != 1:
        problems.append(f"the destination's log: {logged.strip()}")
    return problems


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        problems, environment = install(folder)
        report.case("install__into_an_empty_folder__has_ferry_pc", problems)
        for name, step in (("readme_example__with_pkg_config__compiles", compile_readme),
                           ("readme_example__two_processes__migrate", migrate)):
            if problems:
                report.case(name, ["the step before it failed"])
            else:
                problems = step(folder, environment)
                report.case(name, problems)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
