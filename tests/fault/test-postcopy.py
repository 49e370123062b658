#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Breaks a postcopy between two `ferry run` in every way, and recovers it: the guest arrives whole, or both sides say
why it waits. Usage: test-postcopy.py FERRY [SUBSTRING-OF-CASES]"""

import os
import random
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Place, QmpError, check_arrived, ctl, ferry
from relay import Relay

KIND = "--process"
RAM = "32M"
WORKLOAD = ("--workload", "random:50")
MIB = 1 << 20
CUTS = 20
# A peer that says nothing for 1.5 s is given up; the rest is this machine's.
SILENCE_S = 1.5
NOTICE_S = 10


class Scene:
    """A guest that was switched over, and whose pages trickle: source, destination, and the relay between them."""

    def __init__(self, rate=8 * MIB, direct=False, scheme="tcp"):
        """@rate: bytes a second after the switch; 0: no limit. @direct: without a relay."""
        self.rate = rate
        self.direct = direct
        self.scheme = scheme

    def __enter__(self):
        self.place = Place().__enter__()
        try:
            self._reach()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        if hasattr(self, "relay"):
            self.relay.cut()
        self.place.__exit__(*exception)

    def monitor(self, name, *options):
        return self.place.monitor(name, KIND, *options, ram=RAM)

    def _reach(self):
        listen = "tcp:127.0.0.1:0" if self.scheme == "tcp" else f"unix:{self.place.file('socket')}"
        self.destination = self.monitor("destination", "--incoming", listen)
        self.source = self.monitor("source", *WORKLOAD)
        self.uri = self.destination.uri()
        if not self.direct and self.scheme == "tcp":
            self.relay = Relay(self.uri)
            self.uri = self.relay.uri
        self.source.capability("postcopy-ram", True)
        self.source.set(max_bandwidth=20 * MIB, max_postcopy_bandwidth=self.rate)
        self.begin = time.monotonic()
        self.source.call("migrate", uri=self.uri)
        self.source.wait_state("active")
        self.source.call("migrate-start-postcopy")
        self.source.wait_state("postcopy-active")
        wait_for(self.is_under_way, "the guest to run at the destination")

    def wait_paused(self, timeout=NOTICE_S):
        """Both sides are paused, and say why; the source does not run the guest whatever it is told."""
        for monitor in self.source, self.destination:
            wait_for(lambda: monitor.state() == "postcopy-paused",
                     lambda: f"{monitor.name} to pause: {monitor.migration()}", timeout)
            check(monitor.migration().get("error-desc"), f"{monitor.name} does not say why it is paused")
        check_stays(self.source)

    def resume(self, uri=None):
        self.since = self.source.mark()
        self.source.call("migrate", uri=uri or self.uri, resume=True)

    def arrives(self):
        """Without a limit, so that it does not take long."""
        self.source.set(max_postcopy_bandwidth=0)
        _, state = self.source.wait_state("completed", "postcopy-paused", since=self.since)
        check(state == "completed", f"paused again: {self.source.migration()}")
        wait_for(lambda: self.destination.state() == "completed", lambda: f"{self.destination.migration()}")
        check_arrived(self.source, self.destination, self.begin)
        for monitor in self.source, self.destination:
            check(not monitor.migration().get("error-desc"), f"an old error is left: {monitor.migration()}")
        there = self.destination.migration()["postcopy"]
        check(there["missing-pages"] == there["repeated-pages"] == 0, f"{there}")
        check(self.source.run_state() == "postmigrate", f"the source is {self.source.run_state()}")

    def is_under_way(self):
        """Whether there is still something to break."""
        return self.source.state() == "postcopy-active" and self.destination.state() == "postcopy-active"


def check_stays(source):
    """The source has given the guest away for good."""
    code, _, _ = ctl(source, "cont")
    check(not source.running(), f"cont (exit status {code}) runs a guest that was given away")
    source.call("migrate_cancel")
    for command in ("migrate", "migrate-incoming"):
        code, _, _ = ctl(source, command, "uri=tcp:127.0.0.1:1")
        check(code == 1, f"the source takes {command} while its guest is elsewhere")
    check(source.state() == "postcopy-paused", f"it went to {source.state()} by itself")


def refuses(monitor, why, command, **arguments):
    try:
        monitor.call(command, **arguments)
    except QmpError as error:
        check(why in error.desc, f"{command} is refused, but with: {error.desc}")
        return
    check(False, f"{monitor.name} takes {command}")


# ---- the link ----

def cut_and_recovered(seed):
    def case():
        chance = random.Random(seed)
        with Scene() as scene:
            time.sleep(chance.uniform(0, 1.2))
            check(scene.is_under_way(), "the guest was whole before the link was cut: its pages go too fast")
            scene.relay.cut()
            scene.wait_paused()
            scene.relay.heal()
            scene.resume()
            scene.arrives()
            for monitor in scene.source, scene.destination:
                check(monitor.migration()["postcopy"]["pauses"] == 1, f"{monitor.migration()}")
    return case


def link__cut_again_and_again__guest_arrives():
    with Scene() as scene:
        for pause in range(1, 6):
            time.sleep(0.1)
            scene.relay.cut()
            scene.wait_paused()
            check(scene.source.migration()["postcopy"]["pauses"] == pause, f"{scene.source.migration()}")
            scene.relay.heal()
            scene.resume()
            wait_for(scene.is_under_way, lambda: f"to go on: {scene.source.migration()}")
        since = scene.source.mark()
        scene.since = since
        scene.arrives()


def link__gone_for_a_while__guest_waits_and_goes_on():
    """A guest that needs a page stands still, and goes on where it was."""
    with Scene(rate=MIB) as scene:
        scene.relay.cut()
        scene.wait_paused()
        before = scene.destination.migration()["postcopy"]["missing-pages"]
        time.sleep(2)
        check(scene.destination.migration()["postcopy"]["missing-pages"] == before, "pages came without a link")
        scene.relay.heal()
        scene.resume()
        scene.arrives()


# ---- a side that stops, or dies ----

def stopped(side, seconds):
    def case():
        with Scene(direct=True) as scene:
            monitor = getattr(scene, side)
            other = scene.source if side == "destination" else scene.destination
            since = other.mark()
            monitor.signal(signal.SIGSTOP)
            begin = time.monotonic()
            other.wait_state("postcopy-paused", since=since, timeout=NOTICE_S)
            took = time.monotonic() - begin
            check(took >= SILENCE_S / 2, f"given up after {took:.2f} s")
            time.sleep(max(0, seconds - took))
            monitor.signal(signal.SIGCONT)
            scene.wait_paused()
            scene.resume()
            scene.arrives()
    return case


def destination__killed__source_is_paused_and_says_why():
    with Scene(direct=True) as scene:
        since = scene.source.mark()
        scene.destination.kill()
        scene.source.wait_state("postcopy-paused", since=since, timeout=NOTICE_S)
        why = scene.source.migration()["error-desc"]
        check("closed" in why or "reset" in why, f"the reason is {why}")
        check_stays(scene.source)
        # Nobody is there; whoever comes there is somebody else.
        scene.resume()
        scene.source.wait_state("postcopy-paused", since=scene.since)
        check("refused" in scene.source.migration()["error-desc"], f"{scene.source.migration()}")
        fresh = scene.monitor("fresh", "--incoming", "tcp:127.0.0.1:0")
        scene.resume(fresh.uri())
        scene.source.wait_state("postcopy-paused", since=scene.since)
        why = scene.source.migration()["error-desc"]
        check("nothing is known here" in why, f"the reason is {why}")
        check(fresh.state() == "setup" and not fresh.running(), f"{fresh.migration()}")
        check_stays(scene.source)


def source__killed__destination_is_paused_and_refuses_others():
    with Scene(direct=True) as scene:
        scene.source.kill()
        wait_for(lambda: scene.destination.state() == "postcopy-paused", lambda: f"{scene.destination.migration()}")
        why = scene.destination.migration()["error-desc"]
        check("closed" in why or "reset" in why, f"the reason is {why}")
        other = scene.monitor("other", "--workload", "idle")
        for postcopy in False, True:
            other.capability("postcopy-ram", postcopy)
            since = other.mark()
            other.call("migrate", uri=scene.destination.uri())
            _, state = other.wait_state("failed", "completed", since=since)
            why = other.migration()["error-desc"]
            check(state == "failed" and "postcopy-paused" in why, f"another guest is {state}: {why}")
            check(other.running(), "the other guest stands still")
        check(scene.destination.state() == "postcopy-paused", f"{scene.destination.migration()}")


def destination__asks_for_what_is_not_there__source_pauses_and_says_what():
    """The guest is given away, and whoever has it may come to its senses."""
    with Scene() as scene:
        name = b"nowhere"
        scene.relay.inject(struct.pack(">HHQIB", 3, 13 + len(name), 0x5000, 4096, len(name)) + name)
        scene.wait_paused()
        why = scene.source.migration()["error-desc"]
        check("block 'nowhere'" in why and "0x5000" in why, f"the reason is {why}")
        scene.resume()
        scene.arrives()


# ---- by hand ----

def paused_by_hand(side):
    def case():
        with Scene() as scene:
            getattr(scene, side).call("migrate-pause")
            scene.wait_paused()
            check("by hand" in getattr(scene, side).migration()["error-desc"], f"{scene.source.migration()}")
            refuses(getattr(scene, side), "postcopy-active", "migrate-pause")
            scene.resume()
            scene.arrives()
    return case


def commands__in_other_states__refused():
    with Scene() as scene:
        refuses(scene.source, "no paused migration", "migrate", uri=scene.uri, resume=True)
        refuses(scene.destination, "paused", "migrate-recover", uri="tcp:127.0.0.1:0")
        refuses(scene.source, "paused", "migrate-recover", uri="tcp:127.0.0.1:0")
        scene.relay.cut()
        scene.wait_paused()
        refuses(scene.source, "no known transport", "migrate", uri="carrier-pigeon:1", resume=True)
        refuses(scene.destination, "no known transport", "migrate-recover", uri="carrier-pigeon:1")
        check(scene.source.state() == "postcopy-paused", f"{scene.source.migration()}")
        scene.relay.heal()
        scene.resume()
        scene.arrives()


# ---- recovery that fails first, or goes elsewhere ----

def recovery__fails__paused_again_with_the_reason():
    with Scene() as scene:
        scene.relay.cut()
        scene.wait_paused()
        for _ in range(3):
            scene.resume()
            scene.source.wait_state("postcopy-paused", since=scene.since)
            check("refused" in scene.source.migration()["error-desc"], f"{scene.source.migration()}")
        scene.wait_paused()
        scene.relay.heal()
        scene.resume()
        scene.arrives()


def recovery__by_unix_after_tcp__guest_arrives():
    """The pages went beside the stream, and go in it afterwards."""
    with Scene() as scene:
        check(scene.source.migration()["postcopy"]["mode"] == "push", f"{scene.source.migration()}")
        scene.relay.cut()
        scene.wait_paused()
        there = f"unix:{scene.place.file('elsewhere')}"
        scene.destination.call("migrate-recover", uri=there)
        scene.resume(there)
        wait_for(scene.is_under_way, lambda: f"to go on: {scene.source.migration()}")
        check(scene.source.migration()["postcopy"]["mode"] == "stream", f"{scene.source.migration()}")
        scene.since = scene.source.mark()
        scene.arrives()


def recovery__by_tcp_after_unix__guest_arrives():
    with Scene(scheme="unix") as scene:
        check(scene.source.migration()["postcopy"]["mode"] == "stream", f"{scene.source.migration()}")
        scene.source.call("migrate-pause")
        scene.wait_paused()
        with socket.create_server(("127.0.0.1", 0)) as server:
            there = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        scene.destination.call("migrate-recover", uri=there)
        scene.resume(there)
        wait_for(scene.is_under_way, lambda: f"to go on: {scene.source.migration()}")
        check(scene.source.migration()["postcopy"]["mode"] == "push", f"{scene.source.migration()}")
        scene.since = scene.source.mark()
        scene.arrives()


def recovery__where_it_listened_before__can_be_told_again():
    with Scene(direct=True) as scene:
        scene.destination.call("migrate-pause")
        scene.wait_paused()
        scene.destination.call("migrate-recover", uri=scene.uri)
        scene.resume()
        scene.arrives()


def command__resume__follows_to_the_end():
    with Scene() as scene:
        scene.relay.cut()
        scene.wait_paused()
        scene.relay.heal()
        scene.source.set(max_postcopy_bandwidth=0)
        code, out, err = ferry("migrate", "--qmp", f"unix:{scene.source.qmp_path}", "--resume", scene.uri)
        check(code == 0, f"exit status {code}: {out}{err}")
        check_arrived(scene.source, scene.destination, scene.begin)


def command__resume_fails__says_that_it_is_paused():
    with Scene() as scene:
        scene.relay.cut()
        scene.wait_paused()
        code, out, err = ferry("migrate", "--qmp", f"unix:{scene.source.qmp_path}", "--resume", scene.uri)
        check(code == 3 and "not all of its memory" in err and "--resume" in err, f"exit status {code}: {out}{err}")


CASES = (
    link__cut_again_and_again__guest_arrives, link__gone_for_a_while__guest_waits_and_goes_on,
    destination__killed__source_is_paused_and_says_why, source__killed__destination_is_paused_and_refuses_others,
    destination__asks_for_what_is_not_there__source_pauses_and_says_what,
    commands__in_other_states__refused,
    recovery__fails__paused_again_with_the_reason, recovery__by_unix_after_tcp__guest_arrives,
    recovery__by_tcp_after_unix__guest_arrives, recovery__where_it_listened_before__can_be_told_again,
    command__resume__follows_to_the_end, command__resume_fails__says_that_it_is_paused,
)


def table():
    for number in range(1, CUTS + 1):
        yield f"link__cut_at_random_point_{number}_and_healed__guest_arrives", cut_and_recovered(number)
    for side in "source", "destination":
        for seconds in 2, 6:
            yield f"{side}__stopped_for_{seconds}_s__recovered", stopped(side, seconds)
        yield f"{side}__pauses_by_hand__recovered", paused_by_hand(side)
    for case in CASES:
        yield case.__name__, case


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(list(table()), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
