#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A stock QEMU that encodes its pages, or sends them over multifd channels, into ferry receive: the RAM that arrives
is compared with the file of the source's, which stands still by then. Usage: test-qemu-encodings.py FERRY [CASES]"""

import json
import os
import re
import socket
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"),
                os.path.dirname(os.path.abspath(__file__))]

import cases
from at_rest import Place, Receiver, ferry, last_step, let_go, live, receive_from, replay, wait_steps
from qemu import PROGRAM
from cases import check, wait_for
from relay import Relay

TCP = "tcp:127.0.0.1:0"
SLOW = 1 << 20  # bytes a second: the guest's window takes long


def set_up(source, *capabilities, **parameters):
    source.capability("return-path", True)
    for capability in capabilities:
        source.capability(capability, True)
    if parameters:
        source.qmp("migrate-set-parameters", **{name.replace("_", "-"): value for name, value in parameters.items()})


def encoded(capability, machine, uri, used, **parameters):
    """Four rounds received; @used tells from the receiver's words and query-migrate that pages came that way."""
    with Place(busy=True) as place, place.qemu("source", machine) as source:
        wait_steps(source)
        set_up(source, capability, **parameters)
        said = []
        directory = receive_from(source, place, uri.format(place.path), "guest", rounds=6, bandwidth=16 << 20,
                                 said=said, slow=True)
        used(source.qmp("query-migrate"), said[0])
        replay(place, directory, machine, last_step(source), f"unix:{place.file('send')}")


def came(text, what, sent):
    """So many pages, by the receiver's count. QEMU's holds also pages that proved unchanged, or zero."""
    number = int(re.search(r"(\d+) " + what, text)[1])
    check(50 < number <= sent, f"{sent} pages were sent, and {number} came: {text}")


def xbzrle_was_used(migration, text):
    came(text, "of them by xbzrle", migration["xbzrle-cache"]["pages"])


def xbzrle__over_tcp__ram_is_identical():
    encoded("xbzrle", "pc", TCP, xbzrle_was_used)


def xbzrle__little_cache_over_unix__ram_is_identical():
    encoded("xbzrle", "q35", "unix:{}/receive", xbzrle_was_used, xbzrle_cache_size=16 << 20)


def compress__over_tcp__ram_is_identical():
    def compress_was_used(migration, text):
        came(text, "compressed", migration["compression"]["pages"])

    encoded("compress", "pc", TCP, compress_was_used, compress_threads=2)


def xbzrle_and_compress__in_a_file__inspect_counts_them():
    with Place(busy=True) as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        for capability, name in (("xbzrle", "xbzrle-pages"), ("compress", "compressed-pages")):
            path = place.file(capability)
            set_up(source, capability, max_bandwidth=16 << 20, downtime_limit=1)
            source.capability("return-path", False)
            source.qmp("migrate", uri=f"exec:cat>{path}")
            live(source, path, 6, slow=True)
            let_go(source)
            check(source.migration_end() == "completed", "the migration failed")
            migration = source.qmp("query-migrate")
            sent = migration["xbzrle-cache" if capability == "xbzrle" else "compression"]["pages"]
            status, out, err = ferry("inspect", "--json", path)
            found = json.loads(out)
            check(status == 0 and found["complete"], f"inspect failed: {err}")
            for parts in ("ram-blocks", "items"):
                check(sum(part.get(name, 0) for part in found[parts]) == found[name], f"the {parts} do not add up")
            status, out, err = ferry("inspect", path)
            came(out[out.rindex(" in all"):], "by xbzrle" if capability == "xbzrle" else "compressed", sent)
            source.capability(capability, False)
            source.qmp("cont")


def with_multifd(channels, compression="none", uri=TCP, return_path=True):
    """Received over so many channels, sent again, and received once more from the same source."""
    with Place(busy=True) as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        set_up(source, "multifd", multifd_channels=channels, multifd_compression=compression)
        source.capability("return-path", return_path)
        directory = receive_from(source, place, uri.format(place.path), "guest", rounds=4,
                                 options=("--multifd", str(channels)))
        ram = source.qmp("query-migrate")["ram"]
        check(ram["multifd-bytes"] > 0, f"no multifd: {ram}")
        replay(place, directory, "pc", last_step(source), f"unix:{place.file('send')}")
        source.qmp("cont")
        wait_steps(source, 10)
        receive_from(source, place, uri.format(place.path), "again", options=("--multifd", str(channels)))


def multifd__two_channels_over_tcp__ram_is_identical():
    with_multifd(2)


def multifd__sixteen_channels_over_unix__ram_is_identical():
    with_multifd(16, uri="unix:{}/receive")


def multifd__without_return_path__ram_is_identical():
    with_multifd(2, return_path=False)


def multifd__zlib__ram_is_identical():
    with_multifd(2, "zlib")


def multifd__zstd__ram_is_identical():
    with_multifd(3, "zstd")


def start(source, uri):
    """migrate, once the source has tidied up after the last try. A QEMU 7.2 that lost a channel never has."""
    wait_for(lambda: not any(instance["type"] == "migration" for instance in source.qmp("query-yank")),
             "a source that can migrate again")
    source.qmp("migrate", uri=uri)


def refused(source, place, options, *why, uri=TCP, before=lambda uri: None):
    """The receiver ends with that reason, and the guest runs on at the source."""
    with Receiver(place, uri, f"guest-{len(os.listdir(place.path))}", *options) as receiver:
        before(receiver.uri)
        start(source, receiver.uri)
        check(source.migration_end() == "failed", f"it succeeded: {receiver.command.output}")
        status, text = receiver.finish()
        check(status == 1 and all(what in text for what in why), f"receive said {status}: {text}")
    wait_for(lambda: source.status() == "running", "a source that runs")
    wait_steps(source, 5)


def multifd__channels_other_than_said__are_refused_and_source_runs_on():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        set_up(source, "multifd", multifd_channels=3, max_bandwidth=8 << 20)
        for return_path in (True, False):
            source.capability("return-path", return_path)
            refused(source, place, ("--multifd", "2"), "channel 2 came, and there are to be 2", "multifd-channels")
            refused(source, place, (), "say --multifd")
        refused(source, place, ("--multifd", "4"), "of 4 multifd channels 3 came")
        source.capability("return-path", True)
        source.capability("postcopy-ram", True)
        refused(source, place, ("--multifd", "3"), "postcopy-ram")
        source.capability("postcopy-ram", False)
        with Receiver(place, TCP, "guest", "--multifd", "3") as receiver:
            source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 33})
            start(source, receiver.uri)
            check(source.migration_end() == "completed" and receiver.finish()[0] == 0, "it cannot migrate any more")


def multifd__strangers_connect__are_turned_away_and_the_guest_arrives():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        set_up(source, "multifd", multifd_channels=2)
        path = place.file("receive")
        with Receiver(place, f"unix:{path}", "guest", "--multifd", "2") as receiver:
            silent, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
            with silent, other:
                silent.connect(path)
                other.connect(path)
                other.sendall(b"GET / HTTP/1.1\r\n\r\n")
                check(other.recv(1) == b"", "it is still there")
                check(source.migrate(receiver.uri) == "completed", "the migration failed")
            status, text = receiver.finish()
            check(status == 0 and "refused a connection" in text, f"receive said {status}: {text}")


def multifd__a_channel_is_cut__receive_says_which_and_source_runs_on():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        set_up(source, "multifd", multifd_channels=2, max_bandwidth=SLOW)
        with Receiver(place, TCP, "guest", "--multifd", "2") as receiver, Relay(receiver.uri) as relay:
            source.qmp("migrate", uri=relay.uri)
            wait_for(lambda: source.qmp("query-migrate").get("ram", {}).get("multifd-bytes", 0) > 300000, "some pages")
            relay.connections[2].cut()
            status, text = receiver.finish()
            check(status == 1 and "multifd channel" in text, f"receive said {status}: {text}")
            check(source.migration_end() == "failed", "the source goes on")
        wait_for(lambda: source.status() == "running", "a source that runs")
        wait_steps(source, 5)


CASES = [(f.__name__, f) for f in (
    xbzrle__over_tcp__ram_is_identical,
    xbzrle__little_cache_over_unix__ram_is_identical,
    compress__over_tcp__ram_is_identical,
    xbzrle_and_compress__in_a_file__inspect_counts_them,
    multifd__two_channels_over_tcp__ram_is_identical,
    multifd__sixteen_channels_over_unix__ram_is_identical,
    multifd__without_return_path__ram_is_identical,
    multifd__zlib__ram_is_identical,
    multifd__zstd__ram_is_identical,
    multifd__channels_other_than_said__are_refused_and_source_runs_on,
    multifd__strangers_connect__are_turned_away_and_the_guest_arrives,
    multifd__a_channel_is_cut__receive_says_which_and_source_runs_on,
)]

if __name__ == "__main__":
    if not PROGRAM:
        print("1..0 # SKIP qemu-system-x86_64 is not installed")
        sys.exit(0)
    sys.exit(cases.run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
