# SPDX-License-Identifier: BSD-2-Clause
"""libferry exports what the public headers declare, no more and no less; ferry.map says the same; each
header compiles alone, as C and as C++, and is installed. TAP.

usage: test-abi.py LIBFERRY_SO INCLUDE_DIR...
       test-abi.py --write-map      brings ferry.map in line with the headers"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY, *INCLUDES = sys.argv[1:]
MAP = os.path.join(SOURCE, "ferry.map")
sys.path.insert(0, os.path.join(SOURCE, "tests", "lib"))

from tap import Report  # noqa: E402 (the path comes first)

HEADERS = os.path.join(SOURCE, "include", "ferry")
PACKAGES = ["gio-2.0", "gio-unix-2.0", "json-glib-1.0"]


def top_level_declarations(text):
    """The declarations of a header, each without the bodies in its braces."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", " ", text)
    text = re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"\bG_DEFINE_\w+\([^)]*\)|\bG_(?:BEGIN|END)_DECLS\b", ";", text)
    depth, declaration = 0, ""
    for character in text:
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0 and ")" in declaration:  # the end of an inline function
                yield declaration
                declaration = ""
        elif character == ";" and depth == 0:
            yield declaration
            declaration = ""
        elif depth == 0:
            declaration += character


def declared_symbols():
    """Name -> header, of all functions and objects with external linkage."""
    symbols = {}
    for path in sorted(glob.glob(os.path.join(HEADERS, "*.h"))):
        with open(path, encoding="utf-8") as header:
            for declaration in top_level_declarations(header.read()):
                words = set(re.findall(r"\w+", declaration))
                if words & {"static", "typedef"}:
                    continue
                match = re.search(r"\b(ferry_\w+)\s*\(", declaration) or \
                    re.search(r"\bextern\b.*?\b(ferry_\w+)", declaration, re.DOTALL)
                if match:
                    symbols[match[1]] = os.path.basename(path)
    return symbols


def exported_symbols():
    text = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1].split("@")[0] for line in text.splitlines()}
    return {name for name in names if not re.match(r"FERRY_\d|__(asan|ubsan|tsan|sanitizer|lsan|odr)", name)}


def mapped_symbols():
    with open(MAP, encoding="utf-8") as text:
        return set(re.findall(r"\b(ferry_\w+|\S*\*\S*)(?=;)", text.read())) - {"*"}


def write_map(declared):
    with open(MAP, "w", encoding="utf-8") as out:
        out.write("FERRY_0 {\nglobal:\n")
        last = None
        for header, name in sorted((header, name) for name, header in declared.items()):
            if header != last:
                out.write(f"\t/* ferry/{header} */\n")
            out.write(f"\t{name};\n")
            last = header
        out.write("local:\n\t*;\n};\n")


def only_in(left, right, message):
    return [message.format(name) for name in sorted(set(left) - set(right))]


def compile_alone(compiler, language, standard, header):
    flags = subprocess.run(["pkg-config", "--cflags", *PACKAGES], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "alone")
        with open(source, "w", encoding="utf-8") as out:
            # Twice: it must also stand a second inclusion.
            out.write(f"#include <ferry/{header}>\n#include <ferry/{header}>\nint main(void);\n")
        result = subprocess.run([compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror",
                                 "-Wno-unused-parameter", "-fsyntax-only", *(f"-I{path}" for path in INCLUDES),
                                 *flags.split(), source], capture_output=True, text=True, check=False)
    return result.stderr.splitlines()[:12] or (["the compiler failed"] if result.returncode else [])


def check_headers(report):
    names = sorted(os.path.basename(path) for path in glob.glob(os.path.join(HEADERS, "*.h")))
    names.append("version.h")
    for name in names:
        report.case(f"header__{name}__compiles_alone_as_c", compile_alone("cc", "c", "gnu17", name))
    for name in names:
        if shutil.which("g++"):
            report.case(f"header__{name}__compiles_alone_as_cpp", compile_alone("g++", "c++", "gnu++17", name))
        else:
            report.skip(f"header__{name}__compiles_alone_as_cpp", "no g++ here")
    with open(os.path.join(HEADERS, "ferry.h"), encoding="utf-8") as umbrella:
        included = set(re.findall(r"#include <ferry/(\S+)>", umbrella.read()))
    report.case("umbrella__every_public_header__included",
                only_in(set(names) - {"ferry.h"}, included, "ferry.h does not include {}"))
    with open(os.path.join(HEADERS, "meson.build"), encoding="utf-8") as build:
        installed = set(re.findall(r"'(\w[\w-]*\.h)'", build.read()))
    report.case("install__every_public_header__listed", only_in(names, installed, "meson.build does not install {}"))


def main():
    report = Report()
    declared = declared_symbols()
    if LIBRARY == "--write-map":
        write_map(declared)
        return 0
    exported, mapped = exported_symbols(), mapped_symbols()
    report.case("parser__headers__declare_something",
                [] if len(declared) > 50 else [f"found {len(declared)} declarations only"])
    report.case("library__every_declared_symbol__exported",
                [f"{name} of {declared[name]} is not in the library" for name in sorted(set(declared) - exported)])
    report.case("library__no_undeclared_symbol__exported", only_in(exported, declared, "{} is in no public header"))
    report.case("map__every_declared_symbol__listed", only_in(declared, mapped, "ferry.map lacks {}: test-abi.py --write-map"))
    report.case("map__no_undeclared_symbol__listed", only_in(mapped, declared, "ferry.map has {}, which no header has"))
    check_headers(report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
