#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Stock QEMU against ferry inspect, receive and send. Usage: test-qemu.py FERRY [SUBSTRING-OF-CASES]"""

import json
import os
import socket
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"),
                os.path.dirname(os.path.abspath(__file__))]

import cases
from at_rest import Place, Receiver, ferry, last_step, receive_from, replay, wait_steps
from qemu import PROGRAM
from cases import check, wait_for


def inspect_capture(source, place):
    """A capture by exec: parses to its last byte."""
    path = place.file("capture")
    check(source.migrate(f"exec:cat>{path}") == "completed", "the capture failed")
    status, out, err = ferry("inspect", "--json", path)
    check(status == 0, f"inspect failed: {err}")
    found = json.loads(out)
    check(found["complete"] and found["bytes"] == os.path.getsize(path), "not every byte is accounted for")
    check(sum(item["length"] for item in found["items"]) == found["bytes"], "the items have gaps")
    check(found["delimited-by"] == "description" and found["footers-agree"], "the devices' cut is unsure")
    check(found["devices"] >= 10 and found["pages"] > 64, "devices or pages are missing")
    status, out, err = ferry("inspect", path)
    check(status == 0 and out.endswith("bytes, all accounted for\n"), f"inspect ended with {out[-80:]}{err}")
    return path


def inspect_old(source, place):
    path = place.file("capture")
    check(source.migrate(f"exec:cat>{path}") == "completed", "the capture failed")
    status, out, err = ferry("inspect", path)
    check(status == 0 and "not delimited" in out and "all accounted for" in out, f"inspect: {out}{err}")


def check_truncated_captures(path, place):
    with open(path, "rb") as file:
        whole = file.read()
    short = place.file("short")
    for length in (0, 3, 8, 20, len(whole) // 2, len(whole) - 20000, len(whole) - 1):
        with open(short, "wb") as file:
            file.write(whole[:length])
        status, out, err = ferry("inspect", short)
        check(status == 1 and "offset" in err, f"{length} bytes: status {status}, {err}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def round_trip(machine, receive_uri, return_path, send_uri):
    with Place() as place, place.qemu("source", machine) as source:
        wait_steps(source)
        path = inspect_capture(source, place)
        check_truncated_captures(path, place)
        source.qmp("cont")
        source.capability("return-path", return_path)
        directory = receive_from(source, place, receive_uri.format(place.path), "guest")
        replay(place, directory, machine, last_step(source), send_uri.format(place.path))


def pc__captured_received_and_sent__guest_goes_on():
    round_trip("pc", "tcp:127.0.0.1:0", True, f"tcp:127.0.0.1:{free_port()}")


def q35__captured_received_and_sent__guest_goes_on():
    round_trip("q35", "unix:{}/receive", True, "unix:{}/send")


def microvm__captured_received_and_sent__guest_goes_on():
    round_trip("microvm", "tcp:127.0.0.1:0", False, "unix:{}/send")


def receive__tcp_and_unix_with_and_without_return_path__ram_is_identical():
    with Place(busy=True) as place, place.qemu("source", "pc") as source:
        for number, uri in enumerate(("tcp:127.0.0.1:0", f"unix:{place.file('receive')}")):
            for return_path in (True, False):
                wait_steps(source, 20)
                source.capability("return-path", return_path)
                receive_from(source, place, uri, f"guest-{number}-{return_path}", rounds=4)
                source.qmp("cont")
        wait_steps(source, 10)


def receive__postcopy_announced_but_not_started__succeeds():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        source.capability("postcopy-ram", True)
        receive_from(source, place, "tcp:127.0.0.1:0", "guest")


def machine_without_footers_and_description__received_and_sent__guest_goes_on():
    with Place() as place, place.qemu("source", "pc-i440fx-2.2") as source:
        wait_steps(source)
        inspect_old(source, place)
        source.qmp("cont")
        directory = receive_from(source, place, "tcp:127.0.0.1:0", "guest")
        check(not os.path.exists(os.path.join(directory, "vmdesc.json")), "a description from nowhere")
        replay(place, directory, "pc-i440fx-2.2", last_step(source), f"unix:{place.file('send')}")


def paused_guest_with_uuid__received_and_sent__is_paused():
    uuid = ("-uuid", "12345678-1234-1234-1234-123456789abc")
    with Place() as place, place.qemu("source", "pc", *uuid) as source:
        wait_steps(source)
        source.qmp("stop")
        source.capability("validate-uuid", True)
        directory = receive_from(source, place, "tcp:127.0.0.1:0", "guest")
        with open(os.path.join(directory, "map.json")) as file:
            check(json.load(file)["configuration"]["uuid"] == uuid[1], "the uuid got lost")
        replay(place, directory, "pc", last_step(source), f"unix:{place.file('send')}", *uuid,
               expected="paused")


def receive__killed_midway__source_runs_on():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source, 10)
        source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 20})
        source.capability("return-path", True)
        with Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver:
            source.qmp("migrate", uri=receiver.uri)
            wait_for(lambda: source.qmp("query-migrate").get("ram", {}).get("transferred", 0) > 200000,
                     "the first pages")
            receiver.command.stop()
            check(source.migration_end() == "failed", "the migration outlived its destination")
        check(not os.path.exists(os.path.join(receiver.directory, "map.json")), "called done half-done")
        wait_for(lambda: source.status() == "running", "a source that runs")
        wait_steps(source, 10)
        status, out, err = ferry("send", receiver.directory, "tcp:127.0.0.1:1")
        check(status == 1 and "map.json" in err, f"send of an unfinished capture: {status} {err}")


def receive__shared_ram_left_out__is_refused_by_name_and_source_runs_on():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        source.capability("return-path", True)
        source.capability("x-ignore-shared", True)
        with Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver:
            check(source.migrate(receiver.uri) == "failed", "a guest without its RAM was taken")
            status, text = receiver.finish()
            check(status == 1 and "x-ignore-shared" in text, f"receive said {text}")
        wait_for(lambda: source.status() == "running", "a source that runs")


def damaged_capture__send__is_refused():
    with Place() as place, place.qemu("source", "microvm") as source:
        wait_steps(source, 5)
        directory = receive_from(source, place, "tcp:127.0.0.1:0", "guest")
        status, _, err = ferry("receive", "tcp:127.0.0.1:0", directory)
        check(status == 1 and "not empty" in err, f"receive into a capture: {status} {err}")
        for name, offset in (("devices.bin", -1), ("vmdesc.json", -1), ("ram-0.img", -4096),
                             ("map.json", -20)):
            path = os.path.join(directory, name)
            with open(path, "rb+") as file:
                whole = file.read() if name != "ram-0.img" else None
                size = os.path.getsize(path)
                file.truncate(size + offset)
            status, _, err = ferry("send", directory, f"unix:{place.file('nobody')}")
            check(status == 1 and name in err, f"send with {name} cut short: {status} {err}")
            with open(path, "rb+") as file:
                file.truncate(size)
                if whole:
                    file.write(whole)
        path = os.path.join(directory, "devices.bin")
        with open(path, "rb+") as file:
            file.seek(100)
            byte = file.read(1)
            file.seek(100)
            file.write(bytes([byte[0] ^ 1]))
        status, _, err = ferry("send", directory, f"unix:{place.file('nobody')}")
        check(status == 1 and "SHA-256" in err, f"send with a flipped bit: {status} {err}")


def send__into_another_memory_size__reports_the_failure():
    with Place() as place, place.qemu("source", "microvm") as source:
        wait_steps(source, 5)
        directory = receive_from(source, place, "tcp:127.0.0.1:0", "guest")
        uri = f"unix:{place.file('send')}"
        with place.qemu("destination", "microvm", "-incoming", uri, ram="65528K"):
            status, out, err = ferry("send", directory, uri)
            check(status == 1 and "command line of the source" in err, f"send said {status} {out}{err}")


def send__into_a_file__is_a_stream_that_inspect_reads():
    with Place() as place, place.qemu("source", "q35") as source:
        wait_steps(source, 5)
        directory = receive_from(source, place, "tcp:127.0.0.1:0", "guest")
        path = place.file("stream")
        status, out, err = ferry("send", directory, f"file:{path}")
        if status == 2:
            raise cases.Skip("this build has no file: transport")
        check(status == 0 and "nobody there can confirm" in out, f"send said {status} {out}{err}")
        status, out, err = ferry("inspect", path)
        check(status == 0, f"inspect of it failed: {err}")


CASES = [(f.__name__, f) for f in (
    pc__captured_received_and_sent__guest_goes_on,
    q35__captured_received_and_sent__guest_goes_on,
    microvm__captured_received_and_sent__guest_goes_on,
    receive__tcp_and_unix_with_and_without_return_path__ram_is_identical,
    receive__postcopy_announced_but_not_started__succeeds,
    machine_without_footers_and_description__received_and_sent__guest_goes_on,
    paused_guest_with_uuid__received_and_sent__is_paused,
    receive__killed_midway__source_runs_on,
    receive__shared_ram_left_out__is_refused_by_name_and_source_runs_on,
    damaged_capture__send__is_refused,
    send__into_another_memory_size__reports_the_failure,
    send__into_a_file__is_a_stream_that_inspect_reads,
)]

if __name__ == "__main__":
    if not PROGRAM:
        print("1..0 # SKIP qemu-system-x86_64 is not installed")
        sys.exit(0)
    sys.exit(cases.run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
