#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What `ferry bench guest`, `compare` and `report` run; and the report of what the others measured."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import sys

import compare
import figures
import gnuplot
import guest
import record as records
import report
import softroce
import text
from common import Missing
from host import Host, Peer, serve
from qmp import QmpError

STATUSES = "\n\nExit status: 0 done, 1 something could not be measured, 2 wrong usage."
BENCHES = {"compare": compare, "guest": guest}


def parse_place(place):
    address, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{place}: expected HOST:PORT")
    return address.strip("[]"), int(port)


class Parser(argparse.ArgumentParser):
    """Wrong usage is told as the rest of the command tells it."""

    def __init__(self, name, **more):
        super().__init__(prog=f"ferry bench {name}", allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter, **more)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\nTry '{self.prog} --help'.\n")


def parser_of(name, bench):
    parser = Parser(name, description=bench.HELP, epilog=bench.EXAMPLES + STATUSES)
    places = parser.add_mutually_exclusive_group()
    places.add_argument("--listen", type=parse_place, metavar="HOST:PORT", help="be the host that takes guests in; port 0: a free one")
    places.add_argument("--peer", type=parse_place, metavar="HOST:PORT", help="measure against the host that listens there")
    bench.add_options(parser)
    parser.add_argument("--softroce", action="store_true", help="in the virtual machine of tests/softroce/run")
    parser.add_argument("--source", metavar="HOST", help="this host's address on the fabric; default 127.0.0.1, or what leads to --peer")
    parser.add_argument("--json", metavar="FILE", help="the record: every figure, every sample; -: to standard output, without the tables")
    parser.add_argument("--report", metavar="FILE.html", help="a page with tables, charts and timelines; needs gnuplot")
    parser.add_argument("--ferry", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--no-text", action="store_true", help=argparse.SUPPRESS)
    return parser


def own_address(peer):
    """The one that leads there."""
    with socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return probe.getsockname()[0]


def source_host(options):
    address = own_address(options.peer[0]) if options.peer else softroce.WIRE[0] if options.softroce else "127.0.0.1"
    return Host(options.ferry, options.source or address)


def destination_host(options):
    if options.peer:
        return Peer(*options.peer)
    return Host(options.ferry, softroce.WIRE[1] if options.softroce else "127.0.0.1")


def save(record, options):
    """Everywhere that the options say; the files first, so that a closed terminal loses nothing."""
    if options.json and options.json != "-":
        records.write(record, options.json)
    if options.report:
        page = report.html(record)
        with open(options.report, "w", encoding="utf-8") as out:
            out.write(page)
    if options.json == "-":
        json.dump(record, sys.stdout)
    elif not options.no_text:
        print(text.text(record), end="")


def check_places(options):
    """Before anything is measured for nothing."""
    for path in (options.json, options.report):
        folder = os.path.dirname(os.path.abspath(path)) if path and path != "-" else None
        if folder and not os.access(folder, os.W_OK):
            raise Missing(f"{path} cannot be written: {folder} is no folder of yours")
    if options.report and not shutil.which("gnuplot"):
        raise gnuplot.NoGnuplot()


def run(name, argv):
    bench = BENCHES[name]
    parser = parser_of(name, bench)
    options = parser.parse_args(argv)
    options.command = ["ferry", "bench", name, *(word for word in argv if word not in ("--ferry", options.ferry))]
    if options.listen:
        return serve(options.ferry, *options.listen)
    if options.repeat < 1:
        parser.error("--repeat is at least 1")
    bench.settle(options, parser.error)
    check_places(options)
    if options.softroce and not softroce.inside():
        record = softroce.run(name, argv) | {"command": options.command}
    else:
        with contextlib.closing(source_host(options)) as source, contextlib.closing(destination_host(options)) as destination:
            record = bench.measure(options, source, destination)
    save(record, options)
    return 1 if record["failures"] else 0


def show_report(argv):
    parser = Parser("report", description="Prints the tables of a record, or makes its page again.",
                    epilog="Example:\n  ferry bench report record.json --report page.html" + STATUSES)
    parser.add_argument("record", metavar="RECORD.json", help="what --json wrote; -: from standard input")
    parser.add_argument("--ferry", help=argparse.SUPPRESS)
    parser.add_argument("--report", metavar="FILE.html", help="a page; without it the tables, as text")
    options = parser.parse_args(argv)
    options.json, options.no_text = None, bool(options.report)
    save(figures.load(options.record), options)
    return 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    name, argv = sys.argv[1], sys.argv[2:]
    try:
        return show_report(argv) if name == "report" else run(name, argv)
    except (Missing, QmpError, figures.RecordError, gnuplot.NoGnuplot, RuntimeError, OSError, ValueError) as failure:
        print(f"ferry bench {name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
