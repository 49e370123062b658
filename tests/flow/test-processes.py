#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests that move between `ferry run` processes. Usage: test-processes.py FERRY [SUBSTRING-OF-CASES]"""

import functools
import os
import socket
import sys
import tempfile
import time

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)

import cases
import processes
from cases import Skip, check, wait_for
from processes import Place, QmpError, check_arrived, migrate

SPLICE = f"{sys.executable} {os.path.join(LIB, 'splice.py')}"
WORKLOAD = ("--workload", "random:20")
MIB = 1 << 20

# The default downtime-limit is 300 ms. What comes on top of it is for machines that do other things too.
DOWNTIME_MS = 300 + 1700
# A cancel takes less than this. One of three tries has to: a busy machine may hold up one of us.
CANCEL_S = 0.1
CANCEL_TRIES = 3
MEMORY_KIB = 64 * 1024  # beyond the guest's RAM


@functools.cache
def why_not(kind):
    return processes.can_run(kind)


def need(kind):
    if why_not(kind):
        raise Skip(why_not(kind))


# ---- what holds after every move ----

def check_result(code, result, err, transport, verified):
    check(code == 0, f"ferry migrate exited with {code}: {err}")
    check(result["status"] == "completed", f"status {result['status']}")
    check(result["transport"] == transport, f"transport {result['transport']}, not {transport}")
    check(result["verified"] is verified, f"verified {result['verified']}")
    check(0 <= result["downtime"] <= DOWNTIME_MS, f"a downtime of {result['downtime']} ms")
    check(result["wire-bytes"] >= result["ram"]["transferred"] > 0, "no bytes on the wire")


def check_move(source, destination, uri, *options, transport, verified=True, pass_fds=()):
    begin = time.monotonic()
    code, result, err = migrate(source, uri, *options, pass_fds=pass_fds)
    check_result(code, result, err, transport, verified)
    check_arrived(source, destination, begin)


def check_completes(source, place, name="next"):
    """A new migration, to a new destination, works."""
    destination = place.monitor(name, source.kind, "--incoming", "tcp:127.0.0.1:0")
    begin = time.monotonic()
    since = source.mark()
    source.call("migrate", uri=destination.uri())
    _, state = source.wait_state("completed", "failed", since=since)
    check(state == "completed", f"the next migration failed: {source.migration()}")
    check_arrived(source, destination, begin)


def guest(place, kind, *options, name="source", **more):
    monitor = place.monitor(name, kind, *(options or WORKLOAD), **more)
    monitor.kind = kind
    return monitor


# ---- one case for each transport and kind of guest ----

def over_socket(listen):
    def case(kind):
        with Place() as place:
            destination = place.monitor("destination", kind, "--incoming", listen.replace("PLACE", place.path))
            check_move(guest(place, kind), destination, destination.uri(),
                       transport=listen.split(":", 1)[0])
    return case


def over_tcp6(kind):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        raise Skip(f"no IPv6 here: {error}")
    over_socket("tcp:[::1]:0")(kind)


def over_inherited_fd(kind):
    ours, theirs = socket.socketpair()
    with ours, theirs, Place() as place:
        destination = place.monitor("destination", kind, "--incoming", f"fd:{theirs.fileno()}",
                                    pass_fds=[theirs.fileno()])
        theirs.close()
        check_move(guest(place, kind), destination, f"fd:{ours.fileno()}", transport="fd",
                   pass_fds=[ours.fileno()])


def over_getfd(kind):
    ours, theirs = socket.socketpair()
    with ours, theirs, Place() as place:
        destination = place.monitor("destination", kind, "--incoming", "defer")
        source = guest(place, kind)
        destination.qmp.call("getfd", descriptor=theirs.fileno(), fdname="in")
        destination.call("migrate-incoming", uri="fd:in")
        # A descriptor belongs to the client that passed it: the migration starts on this connection too.
        source.qmp.call("getfd", descriptor=ours.fileno(), fdname="out")
        begin = time.monotonic()
        source.call("migrate", uri="fd:out")
        _, state = source.wait_state("completed", "failed")
        check(state == "completed", f"the migration failed: {source.migration()}")
        check_result(0, source.migration(), "", "fd", True)
        check_arrived(source, destination, begin)


def getfd__a_listening_socket__is_refused_and_closed():
    with socket.create_server(("127.0.0.1", 0)) as listener, Place() as place:
        source = guest(place, "--process")
        before = source.descriptors()
        source.qmp.call("getfd", descriptor=listener.fileno(), fdname="out")
        source.call("migrate", uri="fd:out")
        source.wait_state("failed")
        check("listens" in source.migration()["error-desc"], f"{source.migration()}")
        wait_for(lambda: source.descriptors() == before, lambda: f"{source.descriptors()} to be {before} again")


def over_exec(kind):
    with Place() as place:
        path = place.file("joint")
        destination = place.monitor("destination", kind, "--incoming", f"exec:{SPLICE} listen {path}")
        check_move(guest(place, kind), destination, f"exec:{SPLICE} connect {path}", transport="exec")


def save_and_load(kind, save, load, *options, verified, there=()):
    with Place() as place:
        path = place.file("saved")
        source = guest(place, kind)
        begin = time.monotonic()
        code, result, err = migrate(source, save.replace("PATH", path), *options)
        check_result(code, result, err, save.split(":")[0], verified)
        check(source.run_state() == "postmigrate", f"the source is {source.run_state()}")
        destination = place.monitor("destination", kind, "--incoming", load.replace("PATH", path), *there)
        check_arrived(source, destination, begin)


def over_mapped_file(kind):
    uri = "file:PATH,offset=5000"
    save_and_load(kind, uri, uri, "--set", "mapped-ram=on", "--set", "multifd=on", "--set", "multifd-channels=4",
                  verified=True, there=("--set", "mapped-ram=on"))


def without_ram(kind):
    """RAM is a file of both: what the destination did to it before the guest is its own would show at the source."""
    with Place() as place, tempfile.NamedTemporaryFile(dir="/dev/shm") as ram:
        shared = ("--backing", ram.name, "--set", "x-ignore-shared=on")
        source = guest(place, kind, *WORKLOAD, *shared)
        destination = place.monitor("destination", kind, "--incoming", f"unix:{place.file('in')}", *shared)
        check(source.guest_check()["passed"], "a destination that waits spoiled the RAM")
        code, result, err = migrate(source, destination.uri(), "--set", "downtime-limit=0")
        check(code == 0 and result["status"] == "completed", f"{result}: {err}")
        check(result["verified"] and result["wire-bytes"] < 4 * MIB, f"{result['wire-bytes']} bytes on the wire")
        check(result["ram"]["normal"] + result["ram"]["duplicate"] == 0, f"pages went: {result['ram']}")
        wait_for(destination.running, "the guest to run at the destination")
        before = destination.guest_check()
        check(before["passed"], f"the guest arrived damaged: {before}")
        wait_for(lambda: destination.guest_check()["heartbeat"] > before["heartbeat"], "the next heartbeat")


TRANSPORTS = {
    "tcp4": over_socket("tcp:127.0.0.1:0"),
    "tcp_name": over_socket("tcp:localhost:0"),
    "tcp6": over_tcp6,
    "unix": over_socket("unix:PLACE/socket"),
    "fd_inherited": over_inherited_fd,
    "fd_by_getfd": over_getfd,
    "exec_both_ways": over_exec,
    "exec_one_way": lambda kind: save_and_load(kind, "exec:cat>PATH", "exec:cat PATH", "--set", "return-path=off",
                                               verified=None),
    "file": lambda kind: save_and_load(kind, "file:PATH", "file:PATH", verified=True),  # read back
    "file_with_places": over_mapped_file,
    "unix_without_its_ram": without_ram,
}


def transport_case(kind, case):
    def run():
        need(kind)
        case(kind)
    return run


# ---- ways to start and to end ----

def guest__paused__arrives_paused_at_the_same_heartbeat():
    with Place() as place:
        source = guest(place, "--process")
        destination = place.monitor("destination", "--process", "--incoming", "tcp:127.0.0.1:0")
        source.call("stop")
        before = source.guest_check()["heartbeat"]
        code, result, err = migrate(source, destination.uri())
        check_result(code, result, err, "tcp", True)
        check(destination.run_state() == "paused", f"the guest arrived {destination.run_state()}")
        check(destination.guest_check()["heartbeat"] == before, "the heartbeat moved in a paused guest")
        destination.call("cont")
        wait_for(lambda: destination.guest_check()["heartbeat"] > before, "the guest to go on")


def destination__deferred__takes_the_guest_in():
    with Place() as place:
        source = guest(place, "--process")
        destination = place.monitor("destination", "--process", "--incoming", "defer")
        check(destination.run_state() == "inmigrate", f"it is {destination.run_state()}")
        destination.call("migrate-incoming", uri=f"unix:{place.file('in')}")
        check_move(source, destination, f"unix:{place.file('in')}", transport="unix")


def migration__failed__next_one_completes():
    with Place() as place:
        source = guest(place, "--process")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            uri = "tcp:127.0.0.1:%d" % nobody.getsockname()[1]
        code, result, err = migrate(source, uri)
        check(code == 1 and result["status"] == "failed", f"exit status {code}: {result}")
        check(uri in err and "runs on" in err, f"it does not say what and how: {err}")
        check(source.running(), "the guest does not run on")
        source.guest_check()
        check_completes(source, place)


# ---- cancel ----

def check_cancel(reach):
    """@reach(place, source) starts a migration and returns once it is where it is to be cancelled; again and again."""
    with Place() as place:
        source = guest(place, "--process")
        took = []
        while not took or (took[-1] >= CANCEL_S and len(took) < CANCEL_TRIES):
            reach(place, source)
            since = source.mark()
            begin = time.monotonic()
            source.call("migrate_cancel")
            end, _ = source.wait_state("cancelled", since=since)
            took.append(end - begin)
            check(source.state() == "cancelled", f"query-migrate says {source.state()}")
            check(source.running(), "the guest does not run on")
        check(took[-1] < CANCEL_S, f"cancelling took {took} seconds")
        source.guest_check()
        source.set(max_bandwidth=0)
        source.capability("pause-before-switchover", False)
        check_completes(source, place)


def migration__cancelled_in_setup__guest_runs_on_and_next_works():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        def reach(_, source):
            source.call("migrate", uri="tcp:127.0.0.1:%d" % silent.getsockname()[1])
            check(source.state() == "setup", f"state {source.state()}")
            kept.append(silent.accept()[0])
        kept = []
        check_cancel(reach)
        for end in kept:
            end.close()


def start_to(place, source, state, **settings):
    for name, value in settings.items():
        source.set(**{name: value})
    destination = place.monitor(f"destination-{len(place.monitors)}", source.kind, "--incoming", "tcp:127.0.0.1:0",
                                ram=source.ram)
    since = source.mark()
    source.call("migrate", uri=destination.uri())
    source.wait_state(state, since=since)
    return destination


def migration__cancelled_in_active__guest_runs_on_and_next_works():
    check_cancel(lambda place, source: start_to(place, source, "active", max_bandwidth=2 * MIB))


def migration__cancelled_in_pre_switchover__guest_runs_on_and_next_works():
    def reach(place, source):
        source.capability("pause-before-switchover", True)
        start_to(place, source, "pre-switchover")
        check(source.run_state() == "finish-migrate", f"the guest is {source.run_state()}")
    check_cancel(reach)


def migration__paused_before_switchover__continues():
    with Place() as place:
        source = guest(place, "--process")
        source.capability("pause-before-switchover", True)
        begin = time.monotonic()
        destination = start_to(place, source, "pre-switchover")
        source.call("migrate-continue", state="pre-switchover")
        source.wait_state("completed")
        check_arrived(source, destination, begin)


# ---- settings in mid-flight ----

def transferred(source):
    return source.migration().get("ram", {}).get("transferred", 0)


def seconds_for(source, count):
    """How long it takes until so many more bytes went."""
    first, begin = transferred(source), time.monotonic()
    wait_for(lambda: transferred(source) >= first + count, "bytes to go")
    return time.monotonic() - begin


def bandwidth__changed_in_mid_flight__acts_at_once():
    with Place() as place:
        source = guest(place, "--process", "--workload", "idle")
        destination = start_to(place, source, "active", max_bandwidth=4 * MIB)
        took = seconds_for(source, 2 * MIB)
        check(took > 0.25, f"at 4 MiB/s 2 MiB went in {took:.2f} s")
        source.set(max_bandwidth=1 * MIB)
        seconds_for(source, MIB // 2)  # what was granted before
        took = seconds_for(source, MIB)
        check(took > 0.5, f"at 1 MiB/s 1 MiB went in {took:.2f} s")
        begin = time.monotonic()
        source.set(max_bandwidth=0)
        source.wait_state("completed", timeout=20)
        check(time.monotonic() - begin < 10, "the rest went as slowly as before")
        check_arrived(source, destination, begin - 60)


def downtime_limit__changed_in_mid_flight__acts_at_once():
    with Place() as place:
        # Rounds of half a second: long enough for the guest to write something even on a busy machine.
        source = guest(place, "--process", "--workload", "hotset:8M:60", ram="32M")
        destination = start_to(place, source, "active", max_bandwidth=16 * MIB, downtime_limit=0)
        wait_for(lambda: source.migration().get("ram", {}).get("dirty-sync-count", 0) >= 3, "a third round")
        check(source.state() == "active", f"it converged by itself: {source.migration()}")
        begin = time.monotonic()
        source.set(downtime_limit=60000)
        source.wait_state("completed", timeout=20)
        check_arrived(source, destination, begin - 60)


# ---- what it costs ----

def footprint(monitor):
    return {"anonymous KiB": monitor.status_kib("RssAnon"), "descriptors": len(monitor.descriptors()),
            "threads": monitor.threads()}


def guest__fifty_times_there_and_back__costs_no_more_than_five():
    # A sanitizer keeps freed memory for a while.
    slack = {"anonymous KiB": 1 << 20 if processes.is_sanitized() else 1024, "descriptors": 0, "threads": 0}
    # With one arena for all threads: malloc makes the others, each with room for large buffers, whenever two threads
    # meet, so that their number is a matter of chance.
    environment = {"MALLOC_ARENA_MAX": "1"}
    with Place() as place:
        here = guest(place, "--process", environment=environment)
        there = place.monitor("there", "--process", "--incoming", "defer", environment=environment)
        begin = time.monotonic()
        for trip in range(100):
            uri = f"unix:{place.file(there.name + '.in')}"  # of its own: the other may still answer questions on its
            marks = here.mark(), there.mark()
            there.call("migrate-incoming", uri=uri)
            here.call("migrate", uri=uri)
            _, state = here.wait_state("completed", "failed", since=marks[0])
            check(state == "completed", f"trip {trip + 1}: {here.migration()}")
            there.wait_state("completed", since=marks[1])
            here, there = there, here
            if trip == 9:
                early = {monitor: footprint(monitor) for monitor in (here, there)}
        for monitor, before in early.items():
            for what, first in before.items():
                wait_for(lambda: footprint(monitor)[what] <= first + slack[what],
                         lambda: f"{what} of {monitor.name} to be at most {first}: {footprint(monitor)}", timeout=5)
        check_arrived(there, here, begin)


def memory__of_either_side__little_more_than_the_guest():
    if processes.is_sanitized():
        raise Skip("a sanitizer's own memory is more than that")
    with Place() as place:
        source = guest(place, "--process", "--workload", "random:100", ram="1G")
        destination = place.monitor("destination", "--process", "--incoming", "tcp:127.0.0.1:0", ram="1G")
        check_move(source, destination, destination.uri(), transport="tcp")
        for monitor in source, destination:
            more = monitor.status_kib("VmHWM") - (1 << 20)
            check(more <= MEMORY_KIB, f"{monitor.name} took {more} KiB at its peak beyond the guest's 1 GiB")


# ---- QMP at the wrong time ----

def commands__not_now__refused_and_change_nothing():
    queries = ("query-status", "query-migrate", "query-migrate-capabilities", "query-migrate-parameters")
    wrong = {
        "source": [("migrate-incoming", {"uri": "tcp:127.0.0.1:0"}), ("migrate-continue", {"state": "pre-switchover"}),
                   ("ferry-resolve", {"action": "run-here"}), ("migrate", {"uri": "pigeon:home"})],
        "destination": [("migrate", {"uri": "tcp:127.0.0.1:1"}), ("migrate-incoming", {"uri": "tcp:127.0.0.1:0"}),
                        ("ferry-resolve", {"action": "discard"})],
    }
    with Place() as place:
        guest(place, "--process")
        place.monitor("destination", "--process", "--incoming", f"unix:{place.file('in')}")
        for monitor in place.monitors:
            before = {query: monitor.call(query) for query in queries}
            before["query-migrate"].pop("total-time", None)
            for command, arguments in wrong[monitor.name]:
                try:
                    monitor.call(command, **arguments)
                except QmpError as error:
                    check(error.kind == "GenericError" and error.desc, f"{command}: {error}")
                else:
                    raise AssertionError(f"{monitor.name} took {command} {arguments}")
                after = {query: monitor.call(query) for query in queries}
                after["query-migrate"].pop("total-time", None)
                check(after == before, f"{command} changed {before} into {after}")


# ---- a destination that waits ----

class EarlyDestination:
    """A destination on a descriptor, started before all other cases and given its guest after them: a source may come
    as late as it likes."""

    LATE_S = 17  # a connection to a port has 15 s to turn out to be a source

    def __enter__(self):
        self.place = Place().__enter__()
        self.ours, theirs = socket.socketpair()
        with theirs:
            self.monitor = self.place.monitor("destination", "--process", "--incoming", f"fd:{theirs.fileno()}",
                                              pass_fds=[theirs.fileno()])
        self.since = time.monotonic()
        return self

    def __exit__(self, *exception):
        self.ours.close()
        self.place.__exit__(*exception)

    def fd__source_comes_late__guest_arrives(self):
        source = guest(self.place, "--process")
        time.sleep(max(0, self.since + self.LATE_S - time.monotonic()))
        check_move(source, self.monitor, f"fd:{self.ours.fileno()}", transport="fd", pass_fds=[self.ours.fileno()])


CASES = (
    guest__paused__arrives_paused_at_the_same_heartbeat,
    destination__deferred__takes_the_guest_in,
    migration__failed__next_one_completes,
    migration__cancelled_in_setup__guest_runs_on_and_next_works,
    migration__cancelled_in_active__guest_runs_on_and_next_works,
    migration__cancelled_in_pre_switchover__guest_runs_on_and_next_works,
    migration__paused_before_switchover__continues,
    bandwidth__changed_in_mid_flight__acts_at_once,
    downtime_limit__changed_in_mid_flight__acts_at_once,
    guest__fifty_times_there_and_back__costs_no_more_than_five,
    memory__of_either_side__little_more_than_the_guest,
    commands__not_now__refused_and_change_nothing,
    getfd__a_listening_socket__is_refused_and_closed,
)


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    table = [(f"{kind[2:]}_guest__over_{name}__arrives_whole", transport_case(kind, case))
             for name, case in TRANSPORTS.items() for kind in ("--process", "--kvm")]
    table += [(case.__name__, case) for case in CASES]
    with EarlyDestination() as early:
        last = early.fd__source_comes_late__guest_arrives
        return cases.run(table + [(last.__name__, last)], *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
