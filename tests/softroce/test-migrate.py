#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests that move between `ferry run` processes by RDMA, or by TCP where that cannot be. In the machine of
tests/softroce/run. Usage: test-migrate.py FERRY [SUBSTRING-OF-CASES]"""

import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Place, QmpError, check_arrived, ctl, migrate
from softroce import ADDRESSES, FAR, NEAR, PACKET_BYTES, holdings, only_there, packets, sent

KIND = "--process"
WORKLOAD = ("--workload", "random:5")  # MiB/s; the wire takes ten times as much
MIB = 1 << 20
# Below two of the least chunks, beside what is kept for the queues.
MEMLOCK, LEAST_CHUNK = 1572864, 1048576

# What turns a host with RDMA into one that has none: the files are hidden, or nothing may be pinned.
HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/infiniband && exec "$@"', "sh")
UNPINNED = ("prlimit", f"--memlock={MEMLOCK}", "setpriv", "--bounding-set=-ipc_lock")


def guest(place, *workload, ram="32M", **more):
    return place.monitor("source", KIND, *(workload or WORKLOAD), ram=ram, **more)


def empty(place, *options, listen=f"rdma:{FAR}:0", name="destination", ram="32M", **more):
    return place.monitor(name, KIND, "--incoming", listen, *options, ram=ram, **more)


def move(source, destination, uri=None):
    """The guest arrives whole, and was read back at the destination. Returns query-migrate's answer."""
    begin, since, there = time.monotonic(), source.mark(), destination.mark()
    source.call("migrate", uri=uri or destination.uri())
    _, state = source.wait_state("completed", "failed", since=since)
    answer = source.migration()
    check(state == "completed", f"the migration failed: {answer}")
    check(answer["verified"] is True, f"verified {answer['verified']}")
    destination.wait_state("completed", since=there)
    check_arrived(source, destination, begin)
    return answer


def move_by_rdma(source, destination, uri=None):
    """Returns query-rdma's answers at both sides."""
    answer = move(source, destination, uri)
    check(answer["transport"] == "rdma", f"transport {answer['transport']}: {answer.get('fallback-reason')}")
    check("fallback-reason" not in answer, f"a reason for a fallback that was none: {answer}")
    check(destination.migration()["transport"] == "rdma", f"it came by {destination.migration()['transport']}")
    here, there = source.call("query-rdma"), destination.call("query-rdma")
    pages = answer["ram"]["normal-bytes"]
    check(abs(here["bytes"] - pages) <= pages / 100, f"{here['bytes']} bytes by RDMA, {pages} bytes of pages")
    for what in ("queue-pairs", "chunk-size", "write-size", "pin-all", "pin-limit", "fences"):
        check(here[what] == there[what], f"{what}: {here[what]} at the source, {there[what]} at the destination")
    return here, there


# ---- by RDMA ----

def over(family):
    def case():
        near, far = ADDRESSES[family]
        host = f"[{far}]" if ":" in far else far
        with Place() as place:
            destination = empty(place, listen=f"rdma:{host}:0", ram="64M")
            source = guest(place, ram="64M")
            on_wire, by_rdma = sent("v0"), packets("rxe0")
            here, there = move_by_rdma(source, destination)
            check(sent("v0") - on_wire >= here["bytes"], f"{sent('v0') - on_wire} bytes on the wire of {here['bytes']}")
            least = here["bytes"] // PACKET_BYTES
            check(packets("rxe0") - by_rdma >= least, f"rxe0 sent {packets('rxe0') - by_rdma} packets, not {least}")
            for side, device, address in (here, "rxe0", near), (there, "rxe1", far):
                check(side["device"] == device, f"{side['device']} carries it, not {device}")
                check(side["gid"].removeprefix("::ffff:") == address, f"from {side['gid']}, not {address}")
                check(side["registered-peak-bytes"] == 64 * MIB, f"at most {side['registered-peak-bytes']} registered")
    return case


def pin_all__on__everything_is_registered_before_the_first_page():
    """More than the chunks that are registered ahead without it."""
    with Place() as place:
        destination, source = empty(place, ram="96M"), guest(place, ram="96M")
        source.capability("rdma-pin-all", True)
        here, there = move_by_rdma(source, destination)
        check(here["pin-all"] and there["pin-all"], "it was not agreed on")
        chunks, ready = 96 * MIB // here["chunk-size"], here["regions-registered-at-first-write"]
        check(ready == chunks > 8, f"{ready} of {chunks} chunks")
        check(here["registration-overlap"] == 0 and here["region-stalls"] == 0, f"a page waited for its chunk: {here}")


def pin_limit(limit, *sides):
    def case():
        with Place() as place:
            destination, source = empty(place, ram="96M"), guest(place, "--workload", "hotset:4M:5", ram="96M")
            for monitor in place.monitors:
                if monitor.name in sides:
                    monitor.set(rdma_pin_limit=limit)
            for side in move_by_rdma(source, destination):
                check(side["pin-limit"] == limit, f"a limit of {side['pin-limit']} was agreed on")
                check(0 < side["registered-peak-bytes"] <= limit, f"{side['registered-peak-bytes']} bytes were registered")
                check(side["releases"] > 0 and side["registered-total-bytes"] >= 96 * MIB, f"nothing was released: {side}")
    return case


def queue_pairs__one_many_and_capped__as_agreed():
    """There, back, and there again."""
    with Place() as place:
        here, there = guest(place), empty(place)
        for trip, (ours, theirs, agreed) in enumerate(((1, 0, 1), (16, 0, 16), (16, 3, 3))):
            uri = None
            if trip:
                uri = f"rdma:{(FAR, NEAR)[trip % 2]}:{4440 + trip}"
                there.call("migrate-incoming", uri=uri)
            here.set(rdma_queue_pairs=ours)
            there.set(rdma_queue_pairs=theirs)
            side, _ = move_by_rdma(here, there, uri)
            check(side["queue-pairs"] == agreed, f"{ours} and {theirs} wanted, {side['queue-pairs']} agreed on")
            check(side["fences"] % agreed == 0 and side["fences"] >= agreed, f"{side['fences']} fences")
            here, there = there, here


def footprint(monitor):
    return holdings(monitor), monitor.threads()


def guest__there_and_back_twice__leaves_nothing_behind():
    with Place() as place:
        here, there = guest(place), empty(place, listen="defer")
        for trip in range(4):
            if trip == 2:
                # Each has had the guest: its virtual processor's thread stays, and librdmacm has opened its devices.
                early = {monitor: footprint(monitor) for monitor in place.monitors}
            uri = f"rdma:{(FAR, NEAR)[trip % 2]}:{4450 + trip}"
            there.call("migrate-incoming", uri=uri)
            move_by_rdma(here, there, uri)
            here, there = there, here
        for monitor, first in early.items():
            wait_for(lambda: footprint(monitor) == first,
                     lambda: f"{monitor.name} to hold {first} again: {footprint(monitor)}", timeout=10)


# ---- by TCP instead ----

def without(source_wrapper, destination_wrapper, listen, reasons):
    """Why it cannot be RDMA: the pages go by TCP, and whoever asks is told."""
    def case():
        with Place() as place:
            destination = empty(place, listen=listen, wrapper=destination_wrapper)
            source = guest(place, wrapper=source_wrapper)
            answer = move(source, destination, uri="rdma:" + destination.uri().split(":", 1)[1])
            check(answer["transport"] == "tcp", f"transport {answer['transport']}")
            reason = answer.get("fallback-reason", "")
            for part in reasons:
                check(part in reason, f"the reason does not say {part!r}: {reason!r}")
            events = [event["data"] for _, event in source.qmp.events if event["event"] == "FERRY_FALLBACK"]
            check(events == [{"reason": reason, "transport": "tcp"}], f"the events are {events}")
            try:
                raise AssertionError(f"query-rdma says {source.call('query-rdma')}")
            except QmpError as error:
                check(reason in error.desc, f"query-rdma does not say why: {error.desc}")
    return case


def required(wrapper, listen, part):
    """The same is the migration's end; a destination that has RDMA takes the guest then."""
    def case():
        with Place() as place:
            destination, source = empty(place, listen=listen, wrapper=wrapper), guest(place)
            code, answer, err = migrate(source, "rdma:" + destination.uri().split(":", 1)[1],
                                        "--set", "rdma-require=on")
            check(code == 1 and answer["status"] == "failed", f"exit status {code}: {answer}")
            for words in ("rdma-require", part, "runs on at the source"):
                check(words in err, f"it does not say {words!r}: {err}")
            check(source.running(), "the guest does not run on")
            source.guest_check()
            wait_for(lambda: destination.state() in ("setup", "failed"), lambda: f"an end: {destination.migration()}")
            check(not destination.running(), "the guest runs at the destination")
            _, capabilities, _ = ctl(source, "query-migrate-capabilities")
            check({"capability": "rdma-require", "state": True} in capabilities, "rdma-require is off again")
            move_by_rdma(source, empty(place, name="next"))
    return case


OBSTACLES = {  # the wrapper, and what the reason says
    "without_device_files": (HIDDEN, ("/dev/infiniband",)),
    "that_may_pin_nothing": (UNPINNED, ("RLIMIT_MEMLOCK", str(MEMLOCK), str(LEAST_CHUNK))),
}


def bench__link__measures_rdma_and_tcp_and_registering():
    done = subprocess.run([processes.FERRY, "bench", "link", "--ram", "8M", "--repeat", "1", "--seconds", "0.05", "--sizes", "64K",
                           "--depth", "2,8", "--queue-pairs", "2", "--connections", "1,2", "--json", "-"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    check(done.returncode == 0, f"status {done.returncode}: {done.stderr}")
    record = json.loads(done.stdout)
    tables = {entry["title"]: {row["name"]: row["cells"] for row in entry["rows"]} for entry in record["tables"]}
    raw, pages = tables["Raw RDMA writes, the ceiling"], tables["Registering memory"]
    check(set(raw) == {"2 queue pairs, 64K, 2 deep", "2 queue pairs, 64K, 8 deep"}, f"the rows are {set(raw)}")
    check(set(tables["Raw TCP sockets, the ceiling"]) == {"1 connection", "2 connections"}, tables)
    check(set(tables["Migrations"]) == {"rdma, 2 queue pairs", "tcp, 1 connection", "multifd, 2 connections"}, tables)
    check({"anonymous, untouched", "anonymous, touched", "memfd, touched", "memfd, preallocated"} <= set(pages), set(pages))
    for rows in tables.values():
        for name, cells in rows.items():
            for key in ("rate", "bulk", "whole", "register"):
                check(key not in cells or cells[key]["samples"][0] > 0, f"{name}, {key}: {cells}")
    skipped = {entry["what"]: entry["why"] for entry in record["skipped"]}
    check("RDMA" not in skipped and "on-demand" in skipped["registering, on demand"], skipped)
    for name, cells in pages.items():
        print(f"# {name}: {cells['register']['median']:.1f} and {cells['deregister']['median']:.1f} ms a GiB")


def table():
    for family in ADDRESSES:
        yield f"guest__busy_over_{family}__arrives_whole", over(family)
    yield "pin_limit__of_both_sides__is_kept_at_both_sides", pin_limit(16 * MIB, "source", "destination")
    yield "pin_limit__of_the_destination_alone__is_kept_at_both_sides", pin_limit(32 * MIB, "destination")
    for case in (pin_all__on__everything_is_registered_before_the_first_page, queue_pairs__one_many_and_capped__as_agreed,
                 guest__there_and_back_twice__leaves_nothing_behind):
        yield case.__name__, case
    rdma, tcp = f"rdma:{FAR}:0", f"tcp:{FAR}:0"
    yield "destination__on_tcp__pages_go_by_tcp", without((), (), tcp, ("listens without rdma",))
    for what, (wrapper, reasons) in OBSTACLES.items():
        yield f"source__{what}__pages_go_by_tcp", without(wrapper, (), rdma, reasons)
        yield f"destination__{what}__pages_go_by_tcp", without((), wrapper, rdma, reasons)
    yield "bench_link__by_rdma__measures_tcp_and_registering_too", bench__link__measures_rdma_and_tcp_and_registering
    yield "rdma_require__destination_on_tcp__guest_runs_on", required((), tcp, "listens without rdma")
    yield "rdma_require__destination_that_may_pin_nothing__guest_runs_on", required(UNPINNED, rdma, str(MEMLOCK))


def main():
    if len(sys.argv) > 1:
        processes.use(sys.argv[1])
    return cases.run(only_there(table()), *sys.argv[2:3])


if __name__ == "__main__":
    sys.exit(main())
