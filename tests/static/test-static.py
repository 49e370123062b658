# SPDX-License-Identifier: BSD-2-Clause
"""Rules of the tree that no compiler keeps. TAP, one case a rule."""

import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))

from tap import Report  # noqa: E402 (the path comes first)

FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 100
COLUMNS_MAX = 100
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def list_files():
    """Every file that git tracks or would track; without git, all outside of build folders."""
    git = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True,
                         capture_output=True, check=False)
    if git.returncode == 0:
        names = git.stdout.splitlines()
    else:
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, files in os.walk(ROOT) for name in files]
        names = [name for name in names if not re.match(r"build|\.git/|.*__pycache__", name)]
    return sorted({name for name in names if os.path.isfile(os.path.join(ROOT, name))})


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as text:
        return text.read()


def is_script(name, text):
    return name.endswith((".py", ".sh")) or text.startswith("#!")


def folder_of(name):
    return name.split("/")[0] if "/" in name else ""


def parent_includes(sources):
    for name, text in sources.items():
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r'\s*#\s*include\s*"\.\./', line):
                yield f"{name}:{number}: {line.strip()}"


def foreign_includes(sources):
    """A folder includes its own headers, <ferry/...> and the system's; tests, and what measures single functions,
    look anywhere."""
    headers = {name for name in sources if name.endswith(".h")}
    for name, text in sources.items():
        folder = folder_of(name)
        if folder == "tests" or name.startswith("bench/micro"):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            path = match[2]
            if match[1] == '"' and folder == "include":
                yield f"{name}:{number}: a public header includes {path} in quotes; write <ferry/...>"
            elif match[1] == '"' and not {f"{folder}/{path}", f"{os.path.dirname(name)}/{path}"} & headers:
                yield f"{name}:{number}: {path} is not a header of {folder}/"
            elif match[1] == "<" and path in headers:
                yield f"{name}:{number}: <{path}> is a private header of {folder_of(path)}/"


def missing_licence_lines(files):
    for name, text in files.items():
        first = text.splitlines()[:3]
        if name.endswith((".c", ".h", ".h.in")):
            if not first or first[0] != "/* SPDX-License-Identifier: BSD-2-Clause */":
                yield f"{name}: the first line is not the SPDX line"
        elif is_script(name, text) and "# SPDX-License-Identifier: BSD-2-Clause" not in first:
            yield f"{name}: no SPDX line in its first three lines"


def long_files(files):
    for name, text in files.items():
        lines = text.count("\n")
        if lines > FILE_LINES_MAX:
            yield f"{name}: {lines} lines, at most {FILE_LINES_MAX}"


def long_lines(sources):
    """clang-format leaves comments alone, and a string is not broken."""
    for name, text in sources.items():
        for number, line in enumerate(text.splitlines(), 1):
            if len(line.expandtabs(8)) > COLUMNS_MAX and '"' not in line:
                yield f"{name}:{number}: {len(line.expandtabs(8))} columns, at most {COLUMNS_MAX}"


def long_functions(sources):
    """By the form that clang-format keeps: a body begins with { and ends with } in the first column."""
    for name, text in sources.items():
        begin = None
        for number, line in enumerate(text.splitlines(), 1):
            if line == "{":
                begin = number
            elif line == "}" and begin:
                if number - begin - 1 > FUNCTION_LINES_MAX:
                    yield f"{name}:{begin}: a function of {number - begin - 1} lines, at most {FUNCTION_LINES_MAX}"
                begin = None


def unformatted(sources):
    """The first place in each file; clang-format -i mends all."""
    for name in sources:
        result = subprocess.run(["clang-format", "--dry-run", "-Werror", name], cwd=ROOT, text=True, check=False,
                                capture_output=True)
        if result.returncode:
            first = (result.stderr.splitlines() or ["clang-format failed"])[0]
            yield f"{first} (clang-format -i {name})"


def main():
    report = Report()
    texts = {name: read(name) for name in list_files()}
    sources = {name: text for name, text in texts.items() if name.endswith((".c", ".h"))}
    scripts = {name: text for name, text in texts.items()
               if is_script(name, text) or name.endswith("meson.build")}
    report.case("includes__of_a_parent_folder__none", parent_includes(sources))
    report.case("includes__of_another_folders_private_header__none", foreign_includes(sources))
    report.case("licence_line__every_source_file__present",
                missing_licence_lines({name: text for name, text in texts.items()
                                       if not name.endswith("meson.build")}))
    report.case("files__longer_than_700_lines__none", long_files({**sources, **scripts}))
    report.case("lines__longer_than_100_columns__none", long_lines(sources))
    report.case("functions__longer_than_100_lines__none", long_functions(sources))
    if shutil.which("clang-format"):
        report.case("format__clang_format__clean", unformatted(sources))
    else:
        report.skip("format__clang_format__clean", "no clang-format here")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
