#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The postcopy of a stock QEMU into ferry receive. Usage: test-qemu-postcopy.py FERRY [SUBSTRING-OF-CASES]"""

import json
import os
import signal
import subprocess
import sys

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"),
                os.path.dirname(os.path.abspath(__file__))]

import cases
from at_rest import Place, Receiver, ferry, last_step, main_ram, replay, same_file, wait_steps
from qemu import PROGRAM
from cases import check, wait_for
from relay import COMMANDS, FORTH, Relay

SLOW = 2 << 20  # bytes a second: the guest's window then takes some seconds
FAST = 1 << 33


def state(source, *wanted):
    return wait_for(lambda: source.migration() in wanted and source.migration(), f"a source that is {wanted}")


def rates(source, precopy=FAST, postcopy=FAST):
    source.qmp("migrate-set-parameters", **{"max-bandwidth": precopy, "max-postcopy-bandwidth": postcopy,
                                            "downtime-limit": 1})


def start(source, uri, receiver=None, live=False, postcopy=FAST):
    """Into postcopy, at once or after a whole round; with @receiver until it has the device state."""
    source.capability("postcopy-ram", True)
    rates(source, 16 << 20 if live else SLOW, postcopy)
    source.qmp("migrate", uri=uri)
    if live:
        wait_for(lambda: source.qmp("query-migrate").get("ram", {}).get("dirty-sync-count", 0) > 1, "a round")
        rates(source, SLOW, postcopy)  # that precopy does not end meanwhile
    source.qmp("migrate-start-postcopy")
    state(source, "postcopy-active", "completed")
    if receiver:
        wait_line(receiver, "device state received")


def resume(source, uri):
    rates(source)
    state(source, "postcopy-paused")
    source.qmp("migrate", uri=uri, resume=True)


def finish(source, place, receiver):
    """The guest is whole at the receiver, and the source knows."""
    check(source.migration_end() == "completed", f"the migration failed: {source.log()}")
    status, text = receiver.finish()
    check(status == 0, f"receive failed: {text}")
    compared = same_file(place.ram("source"), main_ram(receiver.directory))
    check(compared.returncode == 0, f"RAM differs: {compared.stdout}{compared.stderr}")
    with open(os.path.join(receiver.directory, "map.json")) as file:
        found = json.load(file)
    check("pages have still to come" in text, "it was no postcopy")
    check(found["devices"]["size"] == os.path.getsize(os.path.join(receiver.directory, "devices.bin")) > 3000,
          "device state is missing")
    return text


def goes_on_at_source(source, receiver, why):
    """The receiver ended with that reason, and the source has its guest back."""
    state(source, "failed")
    status, text = receiver.finish()
    check(status == 1 and why in text and "cont lets it go on" in text, f"receive said {status}: {text}")
    check(not os.path.exists(os.path.join(receiver.directory, "map.json")), "an incomplete guest has a map")
    source.qmp("cont")
    wait_steps(source, 10)


def wait_line(receiver, begin):
    return receiver.command.wait_line(begin)


def interrupt(receiver, number=signal.SIGINT):
    receiver.command.process.send_signal(number)


def says(receiver, what):
    """Waits for an error with these words."""
    line = wait_line(receiver, "ferry receive: ")
    check(what in line, f"receive said {line!r}")


def moved(machine, uri, live, send_uri):
    with Place() as place, place.qemu("source", machine) as source:
        wait_steps(source)
        with Receiver(place, uri.format(place.path), "guest") as receiver:
            start(source, receiver.uri, receiver, live)
            finish(source, place, receiver)
        path = place.file("stream")
        check(ferry("send", receiver.directory, f"file:{path}")[0] == 0, "it cannot be sent to a file")
        status, out, err = ferry("inspect", "--json", path)
        check(status == 0 and json.loads(out)["delimited-by"] == "description",
              f"inspect: {status} {err}")
        replay(place, receiver.directory, machine, last_step(source), send_uri.format(place.path))


def postcopy__at_once_over_tcp__guest_goes_on():
    moved("pc", "tcp:127.0.0.1:0", False, "unix:{}/send")


def postcopy__after_a_round_over_unix__guest_goes_on():
    moved("q35", "unix:{}/receive", True, "unix:{}/send")


def postcopy__paused_by_hand_and_recovered__ram_is_identical():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        for number, uri in enumerate(("tcp:127.0.0.1:0", f"unix:{place.file('receive')}", "tcp:127.0.0.1:0")):
            if number == 2:  # a second connection, whose pages nobody asks for
                source.capability("postcopy-ram", True)
                source.capability("postcopy-preempt", True)
            with Receiver(place, uri, f"guest-{number}") as receiver:
                start(source, receiver.uri, receiver, postcopy=SLOW)
                source.qmp("migrate-pause")
                wait_line(receiver, "paused with ")
                check(wait_line(receiver, "To go on, in QEMU's monitor: migrate -r ") == receiver.uri,
                      "it names another URI")
                resume(source, receiver.uri)
                finish(source, place, receiver)
            source.qmp("cont")


def postcopy__cut_twice_and_recovered__guest_goes_on():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        with Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver, Relay(receiver.uri) as relay:
            start(source, relay.uri, receiver, live=True, postcopy=SLOW)
            missing = []
            for _ in range(2):
                moved_before = source.qmp("query-migrate")["ram"]["transferred"]
                wait_for(lambda: source.qmp("query-migrate")["ram"]["transferred"] > moved_before + 500000,
                         "some pages")
                relay.cut()
                missing.append(int(wait_line(receiver, "paused with ").split()[0]))
                wait_line(receiver, "To go on")
                state(source, "postcopy-paused")
                relay.heal()
                source.qmp("migrate", uri=relay.uri, resume=True)
                state(source, "postcopy-active")
            check(missing[0] > missing[1] > 0, f"missing were {missing}")
            rates(source)
            finish(source, place, receiver)
        replay(place, receiver.directory, "pc", last_step(source), f"unix:{place.file('send')}")


def postcopy__strangers_connect_while_paused__are_refused_and_recovery_succeeds():
    with Place() as place, place.qemu("source", "pc") as source, place.qemu("other", "microvm") as other:
        wait_steps(source)
        with Receiver(place, f"unix:{place.file('receive')}", "guest") as receiver:
            start(source, receiver.uri, receiver, postcopy=SLOW)
            source.qmp("migrate-pause")
            wait_line(receiver, "paused with ")
            other.capability("return-path", True)
            check(other.migrate(receiver.uri) == "failed", "two guests into one receiver")
            check(other.status() == "running", "the other guest stands")
            resume(source, receiver.uri)
            check("needs a receiver of its own" in finish(source, place, receiver), "the refusal was not told")


def postcopy__interrupted__guest_goes_on_at_source():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        for name, paused in (("running", False), ("paused", True)):
            with Receiver(place, "tcp:127.0.0.1:0", name) as receiver:
                start(source, receiver.uri, receiver, postcopy=SLOW)
                if paused:
                    source.qmp("migrate-pause")
                    wait_line(receiver, "paused with ")
                interrupt(receiver)
                says(receiver, "interrupted")
                resume(source, receiver.uri)
                goes_on_at_source(source, receiver, "interrupted")


def postcopy__interrupted_twice__says_what_is_left():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        with Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver:
            start(source, receiver.uri, receiver, postcopy=SLOW)
            interrupt(receiver, signal.SIGTERM)
            says(receiver, "interrupted")
            interrupt(receiver, signal.SIGTERM)
            status, text = receiver.finish()
            check(status == 1 and "its RAM is still at the source" in text, f"receive said {status}: {text}")
        state(source, "postcopy-paused")


def postcopy__cut_before_the_package__guest_goes_on_at_source():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        with Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver, Relay(receiver.uri) as relay:
            relay.hold_before(FORTH, "PACKAGED")
            start(source, relay.uri)
            relay.wait_held()
            relay.cut()
            relay.heal()
            resume(source, relay.uri)
            goes_on_at_source(source, receiver, "cut short")


def postcopy__package_that_is_damaged__is_refused_and_guest_goes_on_at_source():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        with Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver, Relay(receiver.uri) as relay:
            relay.hold_before(FORTH, "POSTCOPY_RUN")
            start(source, relay.uri)
            relay.wait_held()
            held = relay.connections[0].pending[FORTH]  # nobody touches it while it is held
            wrong = COMMANDS["POSTCOPY_RUN"][:-3] + b"\4\0\0"
            relay.connections[0].pending[FORTH] = wrong + held[len(wrong):]
            relay.release()
            says(receiver, "does not end in POSTCOPY_RUN")
            state(source, "postcopy-paused")
            source.qmp("migrate", uri=relay.uri, resume=True)
            goes_on_at_source(source, receiver, "does not end in POSTCOPY_RUN")


def postcopy__disk_full__guest_goes_on_at_source():
    with Place() as place, place.qemu("source", "pc") as source:
        wait_steps(source)
        small = place.file("small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True).returncode:
            raise cases.Skip("no right to mount a small file system")
        try:
            with Receiver(place, f"unix:{place.file('receive')}", "small/guest") as receiver:
                start(source, receiver.uri)
                says(receiver, "No space left")
                resume(source, receiver.uri)
                goes_on_at_source(source, receiver, "No space left")
        finally:
            subprocess.run(["umount", small], check=True)


CASES = [(f.__name__, f) for f in (
    postcopy__at_once_over_tcp__guest_goes_on,
    postcopy__after_a_round_over_unix__guest_goes_on,
    postcopy__paused_by_hand_and_recovered__ram_is_identical,
    postcopy__cut_twice_and_recovered__guest_goes_on,
    postcopy__strangers_connect_while_paused__are_refused_and_recovery_succeeds,
    postcopy__interrupted__guest_goes_on_at_source,
    postcopy__interrupted_twice__says_what_is_left,
    postcopy__cut_before_the_package__guest_goes_on_at_source,
    postcopy__package_that_is_damaged__is_refused_and_guest_goes_on_at_source,
    postcopy__disk_full__guest_goes_on_at_source,
)]

if __name__ == "__main__":
    if not PROGRAM:
        print("1..0 # SKIP qemu-system-x86_64 is not installed")
        sys.exit(0)
    sys.exit(cases.run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
