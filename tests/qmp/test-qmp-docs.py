# SPDX-License-Identifier: BSD-2-Clause
"""The tables of settings in docs/qmp.md are those of the code. TAP.

usage: test-qmp-docs.py SETTINGS_MARKDOWN DOCS_QMP_MD
       test-qmp-docs.py --renew SETTINGS_MARKDOWN DOCS_QMP_MD   puts the code's tables into the page"""

import difflib
import subprocess
import sys

NAMES = ("capabilities", "parameters", "rules")


def marker(name, end):
    return f"<!-- {name}: {end}; made by tests/qmp/test-qmp-docs.py --renew -->\n"


def made(program):
    """The tables as the code has them, by name."""
    text = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout
    return dict(zip(NAMES, text.split("\n\n"), strict=True))


def place(page, name):
    """Where the table lies in the page: the text before, the table, the text behind."""
    before, begin, rest = page.partition(marker(name, "begin"))
    table, end, behind = rest.partition(marker(name, "end"))
    if not begin or not end:
        raise SystemExit(f"Bail out! the page has no markers of the table of {name}")
    return before + begin, table, end + behind


def renew(program, path):
    with open(path, encoding="utf-8") as file:
        page = file.read()
    for name, table in made(program).items():
        before, _, behind = place(page, name)
        page = before + table.rstrip("\n") + "\n" + behind
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)


def main():
    if sys.argv[1] == "--renew":
        renew(*sys.argv[2:])
        return 0
    program, path = sys.argv[1:]
    failed = 0
    with open(path, encoding="utf-8") as file:
        page = file.read()
    print(f"1..{len(NAMES)}")
    for number, (name, table) in enumerate(made(program).items(), 1):
        changes = list(difflib.unified_diff(place(page, name)[1].splitlines(), table.splitlines(), "docs/qmp.md",
                                            "the code", n=0, lineterm=""))
        for line in changes:
            print(f"# {line}")
        if changes:
            print(f"# renew it: python3 tests/qmp/test-qmp-docs.py --renew {program} docs/qmp.md")
        failed += bool(changes)
        print(f"{'not ok' if changes else 'ok'} {number} - {name}__in_docs_qmp_md__are_the_codes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
