#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Kills either `ferry run`, or the link, in every state of a migration: exactly one side runs the guest, or it is held
until somebody decides. Usage: test-kill.py FERRY [SUBSTRING-OF-CASES]"""

import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Migrate, Place, ctl, migrate
from relay import BACK, FORTH, Relay, opening

KIND = "--process"
WORKLOAD = ("--workload", "random:20")
# As in test-processes.py: one of three tries has to be so quick.
CANCEL_S = 0.1
CANCEL_TRIES = 3


class Point:
    """A moment of a migration at which both sides stand still: the state of each, and what holds them there."""

    def __init__(self, source, destination, way=None, record=None):
        self.source = source
        self.destination = destination
        self.way = way
        self.record = record


POINTS = {
    "setup": Point("setup", "setup", FORTH, "HELLO"),
    "active": Point("active", "active", FORTH, "ROUND_BEGIN"),
    "pre_switchover": Point("pre-switchover", "active"),
    "device": Point("device", "active", FORTH, "PREPARE"),
    "ready_unheard": Point("device", "handover", BACK, "READY"),
    "handover": Point("handover", "handover", FORTH, "COMMIT"),
    "running_unheard": Point("handover", "completed", BACK, "RUNNING"),
}
# Before the source committed itself, the guest stays with it whatever breaks.
EARLY = ("setup", "active", "pre_switchover", "device", "ready_unheard")
COMMITTED = ("handover", "running_unheard")


class Scene:
    """A source, a destination, the relay between them, and a migration that stands at a point."""

    def __init__(self, point, in_front=False):
        """@in_front: by `ferry migrate`, self.command, instead of over QMP."""
        self.point = POINTS[point]
        self.in_front = in_front
        self.command = None

    def __enter__(self):
        self.place = Place().__enter__()
        try:
            self._reach()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        if self.command and self.command.process.poll() is None:
            self.command.process.kill()
            self.command.process.communicate()
        if hasattr(self, "relay"):
            self.relay.cut()
        self.place.__exit__(*exception)

    def new_destination(self, name):
        return self.place.monitor(name, KIND, "--incoming", "tcp:127.0.0.1:0")

    def _reach(self):
        self.destination = self.new_destination("destination")
        self.source = self.place.monitor("source", KIND, *WORKLOAD)
        self.relay = Relay(self.destination.uri())
        if self.point.record:
            self.relay.hold_before(self.point.way, self.point.record)
        else:
            self.source.capability("pause-before-switchover", True)
        if self.in_front:
            self.command = Migrate(self.source, self.relay.uri)
        else:
            self.source.call("migrate", uri=self.relay.uri)
        if self.point.record:
            self.relay.wait_held()
        for monitor, state in (self.source, self.point.source), (self.destination, self.point.destination):
            wait_for(lambda: monitor.state() == state, lambda: f"{monitor.name} to be {state}: {monitor.migration()}")

    # ---- what may be asked of either side ----

    def restarts(self):
        """The source's guest can be moved to a fresh destination, and arrives whole."""
        self.source.capability("pause-before-switchover", False)
        target = self.new_destination("target")
        code, result, err = migrate(self.source, target.uri())
        check(code == 0 and result["verified"], f"the next migration failed: {err}")
        wait_for(target.running, "the guest to run at the next destination")
        check(not self.source.running(), "the guest runs on at the source too")
        target.guest_check()

    def takes_another(self):
        """The destination can take a guest in after migrate-incoming, if it has to be told again."""
        if self.destination.state() != "setup":
            self.destination.call("migrate-incoming", uri=f"unix:{self.place.file('again')}")
            uri = f"unix:{self.place.file('again')}"
        else:
            uri = self.destination.uri()
        other = self.place.monitor("other", KIND, "--workload", "idle")
        code, _, err = migrate(other, uri)
        check(code == 0, f"the destination takes no other guest: {err}")
        wait_for(self.destination.running, "the other guest to run")
        self.destination.guest_check()

    def kill_source(self):
        """Kill -9; what is in the relay is lost with the source's host."""
        self.source.kill()
        self.relay.cut()

    def resolve(self, monitor, action):
        code, _, err = ctl(monitor, "ferry-resolve", f"action={action}")
        check(code == 0, f"ferry-resolve {action} at {monitor.name}: {err}")


def check_runs(monitor):
    """It runs the guest, which goes on."""
    wait_for(monitor.running, f"the guest to run at {monitor.name}")
    before = monitor.guest_check()["heartbeat"]
    wait_for(lambda: monitor.guest_check()["heartbeat"] > before, f"the guest at {monitor.name} to go on")


def check_held(monitor):
    """In doubt, and stopped; nothing but a resolve starts the guest."""
    wait_for(lambda: monitor.state() == "handover-lost", lambda: f"{monitor.name} to be in doubt: {monitor.migration()}")
    check(not monitor.running(), f"{monitor.name} runs a guest whose owner is in doubt")
    check(monitor.migration().get("error-desc"), f"{monitor.name} does not say why")
    code, _, _ = ctl(monitor, "cont")
    check(not monitor.running(), f"cont (exit status {code}) runs a guest whose owner is in doubt")
    for command in ("migrate", "migrate-incoming"):
        code, _, _ = ctl(monitor, command, "uri=tcp:127.0.0.1:0")
        check(code == 1, f"{monitor.name} takes {command} while in doubt")
    check(monitor.state() == "handover-lost", f"{monitor.name} went to {monitor.state()} by itself")


def check_kept(scene, wanted):
    """The migration ended as @wanted, and the source runs the guest on."""
    _, state = scene.source.wait_state("failed", "cancelled", "completed")
    check(state == wanted, f"the migration is {state}, not {wanted}: {scene.source.migration()}")
    check_runs(scene.source)


def check_empty(monitor):
    """A destination that has nothing that could run."""
    wait_for(lambda: monitor.state() in ("setup", "failed"), lambda: f"{monitor.name} to give up: {monitor.migration()}")
    check(not monitor.running(), f"{monitor.name} runs half a guest")
    ctl(monitor, "cont")
    check(not monitor.running(), f"{monitor.name} runs half a guest after cont")
    code, _, _ = ctl(monitor, "ferry-resolve", "action=run-here")
    check(code == 1 and not monitor.running(), f"{monitor.name} can be talked into running half a guest")


# ---- kill -9 of the source ----

def source_killed_early(point):
    def case():
        with Scene(point) as scene:
            scene.kill_source()
            check_empty(scene.destination)
            scene.takes_another()
    return case


def source_killed_held(point):
    def case():
        with Scene(point) as scene:
            scene.kill_source()
            check_held(scene.destination)
            scene.resolve(scene.destination, "run-here")
            check_runs(scene.destination)
            check(scene.destination.state() == "completed", f"state {scene.destination.state()}")
    return case


def source_killed_in_running_unheard():
    with Scene("running_unheard") as scene:
        scene.kill_source()
        check_runs(scene.destination)


def source_killed_in_handover_lost():
    with Scene("handover") as scene:
        scene.relay.cut()
        check_held(scene.source)
        check_held(scene.destination)
        scene.kill_source()
        check_held(scene.destination)
        scene.resolve(scene.destination, "discard")
        check_empty(scene.destination)
        scene.takes_another()


# ---- kill -9 of the destination ----

def destination_killed_early(point):
    def case():
        with Scene(point) as scene:
            scene.destination.kill()
            check_kept(scene, "failed")
            scene.restarts()
    return case


def destination_killed_committed(point, action):
    def case():
        with Scene(point) as scene:
            scene.destination.kill()
            check_held(scene.source)
            scene.resolve(scene.source, action)
            if action == "run-here":
                check_kept(scene, "failed")
                scene.restarts()
            else:
                scene.source.wait_state("completed")
                check(scene.source.run_state() == "postmigrate", f"it is {scene.source.run_state()}")
    return case


def destination_killed_in_handover_lost():
    with Scene("handover") as scene:
        scene.relay.cut()
        check_held(scene.source)
        scene.destination.kill()
        check_held(scene.source)
        scene.resolve(scene.source, "run-here")
        check_kept(scene, "failed")


def destination_restarted_in_handover_lost():
    """Whoever answers at the address knows nothing of the guest: that decides nothing."""
    with Scene("handover") as scene:
        scene.destination.kill()
        check_held(scene.source)
        scene.relay.cut()
        fresh = scene.new_destination("fresh")
        scene.relay.heal(fresh.uri())
        wait_for(lambda: "knows nothing" in scene.source.migration().get("error-desc", ""), "the source to ask")
        check_held(scene.source)
        check(fresh.state() == "setup" and not fresh.running(), f"a question changed {fresh.migration()}")
        scene.resolve(scene.source, "run-here")
        check_kept(scene, "failed")


# ---- the link ----

def link_cut_early(point):
    def case():
        with Scene(point) as scene:
            scene.relay.cut()
            check_kept(scene, "failed")
            if point == "ready_unheard":
                check_held(scene.destination)
                check_runs(scene.source)
                scene.resolve(scene.destination, "discard")
            check_empty(scene.destination)
            scene.relay.heal()
            scene.restarts()
    return case


def link_cut_and_healed(point):
    def case():
        with Scene(point, in_front=True) as scene:
            scene.relay.cut()
            check_held(scene.source)
            if point == "handover":
                check_held(scene.destination)
            else:
                check_runs(scene.destination)
            scene.relay.heal()
            code, result, err = scene.command.finish()
            check(code == 0 and result["status"] == "completed" and result["verified"], f"{code}: {err}{result}")
            check(scene.source.run_state() == "postmigrate", f"the source is {scene.source.run_state()}")
            check_runs(scene.destination)
    return case


def link_cut__destination_resolved(action):
    """The operator decides at the destination; the source hears of it when the link is back."""
    def case():
        with Scene("handover") as scene:
            scene.relay.cut()
            check_held(scene.source)
            check_held(scene.destination)
            scene.resolve(scene.destination, action)
            check_held(scene.source)
            scene.relay.heal()
            if action == "run-here":
                scene.source.wait_state("completed")
                check(scene.source.run_state() == "postmigrate", f"it is {scene.source.run_state()}")
                check_runs(scene.destination)
            else:
                check_kept(scene, "failed")
                check_empty(scene.destination)
    return case


def link_cut__source_asked_to_retry():
    with Scene("handover") as scene:
        scene.relay.cut()
        check_held(scene.source)
        scene.relay.heal()
        scene.resolve(scene.source, "retry")
        scene.source.wait_state("completed")
        check_runs(scene.destination)


# ---- cancel ----

def cancel_in(point):
    """At any point before the commit the guest stays, and within 100 ms."""
    def case():
        took = []
        while not took or (took[-1] >= CANCEL_S and len(took) < CANCEL_TRIES):
            with Scene(point) as scene:
                since, begin = scene.source.mark(), time.monotonic()
                scene.source.call("migrate_cancel")
                end, _ = scene.source.wait_state("cancelled", "failed", since=since)
                took.append(end - begin)
                check_kept(scene, "cancelled")
                scene.relay.release()  # what was sent before may arrive late
                wait_for(lambda: scene.destination.state() != "handover", "the destination to hear or miss it")
                check(not scene.destination.running(), "the guest runs at both sides")
                scene.restarts()
        check(took[-1] < CANCEL_S, f"cancelling took {took} seconds")
    return case


def cancel_in_handover__has_no_effect():
    with Scene("handover") as scene:
        scene.source.call("migrate_cancel")
        check(scene.source.state() == "handover" and not scene.source.running(), f"it is {scene.source.migration()}")
        scene.relay.release()
        scene.source.wait_state("completed")
        check_runs(scene.destination)


def destination_stopped__cancel_is_quick_and_guest_runs_on():
    took = []
    while not took or (took[-1] >= CANCEL_S and len(took) < CANCEL_TRIES):
        with Place() as place:
            destination = place.monitor("destination", KIND, "--incoming", "tcp:127.0.0.1:0")
            source = place.monitor("source", KIND, *WORKLOAD)
            source.set(max_bandwidth=16 << 20)
            source.call("migrate", uri=destination.uri())
            source.wait_state("active")
            wait_for(lambda: source.migration()["ram"]["transferred"] > 1 << 20, "a first MiB")
            destination.signal(signal.SIGSTOP)
            source.set(max_bandwidth=0)

            def stuck():
                before = source.migration()["ram"]["transferred"]
                time.sleep(0.1)
                return source.migration()["ram"]["transferred"] == before
            wait_for(stuck, "the stopped destination to take no more")
            since, begin = source.mark(), time.monotonic()
            source.call("migrate_cancel")
            end, _ = source.wait_state("cancelled", since=since)
            took.append(end - begin)
            check_runs(source)
            destination.signal(signal.SIGCONT)
            check_empty(destination)
            destination.call("migrate-incoming", uri=f"unix:{place.file('again')}")
            code, _, err = migrate(source, f"unix:{place.file('again')}")
            check(code == 0, f"the next migration failed: {err}")
            check_runs(destination)
    check(took[-1] < CANCEL_S, f"cancelling took {took} seconds")


# ---- what ferry migrate says ----

def command_exits_0_when_the_guest_moved():
    with Scene("handover", in_front=True) as scene:
        scene.relay.release()
        code, result, _ = scene.command.finish()
        check(code == 0 and result["status"] == "completed", f"{code}: {result}")


def command_exits_1_when_the_guest_stays():
    with Scene("device", in_front=True) as scene:
        scene.relay.cut()
        code, result, err = scene.command.finish()
        check(code == 1 and result["status"] == "failed" and "runs on at the source" in err, f"{code}: {result} {err}")
    with Scene("active", in_front=True) as scene:
        scene.command.process.send_signal(signal.SIGINT)
        code, result, err = scene.command.finish()
        check(code == 1 and result["status"] == "cancelled" and "runs on at the source" in err,
              f"{code}: {result} {err}")


def command_exits_2_when_it_is_used_wrongly():
    with Place() as place:
        source = place.monitor("source", KIND, "--workload", "idle")
        for arguments in ([], ["--set", "max-bandwidth=soon", "tcp:127.0.0.1:1"],
                          ["--set", "no-such=1", "tcp:127.0.0.1:1"], ["--no-such-option", "tcp:127.0.0.1:1"]):
            code, out, err = processes.ferry("migrate", "--qmp", f"unix:{source.qmp_path}", *arguments)
            check(code == 2 and not out and err, f"{arguments}: {code} {out} {err}")
            check(source.state() == "none", f"{arguments} changed the migration to {source.state()}")
        check_runs(source)


def command_exits_3_when_the_hand_over_is_in_doubt():
    with Scene("handover", in_front=True) as scene:
        scene.destination.kill()
        code, result, err = scene.command.finish()
        check(code == 3 and result["status"] == "handover-lost", f"{code}: {result}")
        check("ferry-resolve" in err, f"it does not say what to do: {err}")
        check_held(scene.source)
    with Scene("active", in_front=True) as scene:
        scene.kill_source()
        code, result, err = scene.command.finish()
        check(code == 3, f"the monitor is gone, and it exits with {code}: {result} {err}")


def relay_passes_a_record_that_ends_as_another_begins():
    """One nonce in 256 ends so."""
    with socket.create_server(("127.0.0.1", 0)) as server, \
            Relay(f"tcp:127.0.0.1:{server.getsockname()[1]}") as relay:
        relay.hold_before(FORTH, "COMMIT")
        host, port = relay.uri.removeprefix("tcp:").split(":")
        with socket.create_connection((host, int(port))) as near:
            near.sendall(b"nonce" + opening(FORTH, "COMMIT")[:1])
            far, _ = server.accept()
            far.settimeout(10)
            with far, far.makefile("rb") as stream:
                check(stream.read(6) == b"nonce\x08", "the end of the record stays in the relay")
                near.sendall(b"next" + opening(FORTH, "COMMIT"))
                relay.wait_held()
                check(stream.read(4) == b"next", "what comes before the record stays in the relay")


CASES = (
    relay_passes_a_record_that_ends_as_another_begins,
    source_killed_in_running_unheard, source_killed_in_handover_lost,
    destination_killed_in_handover_lost, destination_restarted_in_handover_lost,
    link_cut__source_asked_to_retry,
    cancel_in_handover__has_no_effect, destination_stopped__cancel_is_quick_and_guest_runs_on,
    command_exits_0_when_the_guest_moved, command_exits_1_when_the_guest_stays,
    command_exits_2_when_it_is_used_wrongly, command_exits_3_when_the_hand_over_is_in_doubt,
)


def table():
    for point in EARLY:
        if POINTS[point].destination == "handover":
            yield f"source__killed_in_{point}__destination_holds_the_guest", source_killed_held(point)
        else:
            yield f"source__killed_in_{point}__destination_has_no_guest", source_killed_early(point)
        yield f"destination__killed_in_{point}__source_runs_on", destination_killed_early(point)
        yield f"link__cut_in_{point}__source_runs_on", link_cut_early(point)
        yield f"migration__cancelled_in_{point}__source_runs_on", cancel_in(point)
    yield "source__killed_in_handover__destination_holds_the_guest", source_killed_held("handover")
    for point in COMMITTED:
        for action in ("run-here", "discard"):
            yield (f"destination__killed_in_{point}__source_holds_the_guest_until_{action}",
                   destination_killed_committed(point, action))
        yield f"link__cut_in_{point}_and_healed__source_completes", link_cut_and_healed(point)
    for action in ("run-here", "discard"):
        yield f"link__cut_in_handover__destination_told_{action}__source_hears_of_it", link_cut__destination_resolved(action)
    for case in CASES:
        yield case.__name__, case


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(list(table()), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
