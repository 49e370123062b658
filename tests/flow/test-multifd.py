#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Guests whose pages go over multifd's channels. Usage: test-multifd.py FERRY [SUBSTRING-OF-CASES]"""

import contextlib
import os
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
import processes
from cases import check, wait_for
from processes import Place, QmpError, check_arrived, migrate

MIB = 1 << 20
MAGIC = 0x11223344
CANCEL_S = 0.1
CANCEL_TRIES = 3


def options(channels=2, compression="none", verify="on", on="on", **more):
    settings = {"multifd": on, "multifd-channels": channels, "multifd-compression": compression,
                "verify-ram": verify, **{name.replace("_", "-"): value for name, value in more.items()}}
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def pair(place, listen="tcp:127.0.0.1:0", workload="random:20", there=None, fill="pages", ram="64M", prealloc=False, **here):
    """A source and a destination; @there: the destination's options where they differ."""
    destination = place.monitor("destination", "--process", "--incoming", listen.replace("PLACE", place.path),
                                *["--prealloc"] * prealloc,
                                *options(**{name: value for name, value in (there or here).items()
                                            if name != "zero_copy_send"}), ram=ram)
    source = place.monitor("source", "--process", "--workload", workload, "--fill", fill, *options(**here), ram=ram)
    return source, destination


def check_moves(listen="tcp:127.0.0.1:0", **settings):
    with Place() as place:
        source, destination = pair(place, listen, **settings)
        begin = time.monotonic()
        code, result, err = migrate(source, destination.uri())
        check(code == 0 and result["status"] == "completed", f"{code}: {err}")
        check(result["transport"] == "multifd", f"transport {result['transport']}")
        check(result["verified"] is True, f"verified {result['verified']}")
        check(result["ram"]["multifd-bytes"] > (MIB if settings.get("compression", "none") != "none"
                                                else result["ram"]["normal-bytes"]),
              f"{result['ram']['multifd-bytes']} bytes over the channels")
        check_arrived(source, destination, begin)
        return result


def moves(**settings):
    def case():
        check_moves(**settings)
    return case


def zero_copy__kernel_copies__falls_back_and_says_so():
    result = check_moves(zero_copy_send="on", fill="random")
    copied = result["ram"]["dirty-sync-missed-zero-copy"]
    check(copied >= 16, f"loopback copies, and {copied} such sends are told")
    check(copied <= 2 * 64, f"{copied} sends were copied before it gave up")


# ---- settings that do not fit ----

def check_refused(uri=None, words=(), **settings):
    """Nothing went, the guest runs on, and every word is in the reason."""
    with Place() as place:
        source, destination = pair(place, **settings)
        code, result, err = migrate(source, uri or destination.uri())
        check(code == 1, f"exit status {code}")
        check(all(word in err for word in words), f"the reason is: {err}")
        check(result.get("ram", {}).get("normal", 0) == 0, "pages went")
        check(source.running(), "the guest does not run on")
        source.guest_check()


def multifd__off_at_the_destination__fails_before_the_first_page():
    check_refused(words=["multifd", "destination", "off"], there={"on": "off"})


def multifd__off_at_the_source__fails_before_the_first_page():
    check_refused(words=["multifd", "off at the source"], on="off", there={"on": "on"})


def channels__differ__error_names_both():
    check_refused(words=["multifd-channels", "2", "5"], channels=2, there={"channels": 5})


def compression__differs__error_names_both():
    check_refused(words=["multifd-compression", "zlib", "zstd"], compression="zlib", there={"compression": "zstd"})


def transport__without_connections__refused_at_migrate():
    with Place() as place:
        source = place.monitor("source", "--process", "--workload", "idle", *options())
        for uri in (f"file:{place.file('out')}", "exec:cat >/dev/null", "rdma:127.0.0.1:1"):
            try:
                source.call("migrate", uri=uri)
                check(False, f"{uri} was taken")
            except QmpError as error:
                check("multifd" in error.desc and "tcp:" in error.desc, f"{uri}: {error.desc}")
        check(not os.path.exists(place.file("out")), "the file was made")


def zero_copy__over_unix__refused_at_migrate():
    with Place() as place:
        source = place.monitor("source", "--process", "--workload", "idle", *options(zero_copy_send="on"))
        try:
            source.call("migrate", uri=f"unix:{place.file('nobody')}")
            check(False, "it was taken")
        except QmpError as error:
            check("zero-copy-send" in error.desc, error.desc)


# ---- what breaks ----

class Relay:
    """Between a source and its destination; tells channels by their first bytes, and can cut one."""

    def __init__(self, uri):
        host, port = uri.split(":")[1:]
        self.there = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.channels = {}
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(self.there)
            for ways in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=ways, daemon=True).start()

    def copy(self, read, write):
        try:
            data = read.recv(1 << 16)
            if len(data) >= 25 and struct.unpack(">I", data[:4])[0] == MAGIC:
                self.channels[data[24]] = (read, write)
            while data:
                write.sendall(data)
                data = read.recv(1 << 16)
            write.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self, channel):
        for end in self.channels[channel]:
            with contextlib.suppress(OSError):  # the first may have ended the second
                end.shutdown(socket.SHUT_RDWR)


def start(place, source, destination, uri=None):
    """Starts a slow migration, and returns when pages go over the channels."""
    source.set(max_bandwidth=4 * MIB)
    since = source.mark()
    source.call("migrate", uri=uri or destination.uri())
    source.wait_state("active", since=since)
    wait_for(lambda: source.migration()["ram"]["multifd-bytes"] > MIB, "pages to go")


def check_goes_on(place, source):
    """The guest runs here as before, and can leave."""
    check(source.running(), "the guest does not run on")
    source.guest_check()
    source.set(max_bandwidth=0)
    destination = place.monitor("next", "--process", "--incoming", "tcp:127.0.0.1:0", *options())
    begin = time.monotonic()
    since = source.mark()
    source.call("migrate", uri=destination.uri())
    _, state = source.wait_state("completed", "failed", since=since)
    check(state == "completed", f"the next migration failed: {source.migration()}")
    check_arrived(source, destination, begin)


def channel__cut_in_mid_migration__both_notice_and_guest_runs_on():
    with Place() as place:
        source, destination = pair(place, fill="random")
        relay = Relay(destination.uri())
        start(place, source, destination, relay.uri)
        since, begin = source.mark(), time.monotonic()
        relay.cut(1)
        source.wait_state("failed", since=since, timeout=10)
        destination.wait_state("failed", timeout=10)
        check(time.monotonic() - begin < 5, "it took too long")
        check("multifd channel 1" in source.migration()["error-desc"], source.migration()["error-desc"])
        check_goes_on(place, source)


def destination__killed__source_notices_and_guest_runs_on():
    with Place() as place:
        source, destination = pair(place, fill="random")
        start(place, source, destination)
        since, begin = source.mark(), time.monotonic()
        destination.kill()
        source.wait_state("failed", since=since, timeout=10)
        check(time.monotonic() - begin < 3, "it took too long")
        check_goes_on(place, source)


def source__killed__destination_notices():
    with Place() as place:
        source, destination = pair(place, fill="random")
        start(place, source, destination)
        source.kill()
        destination.wait_state("failed", timeout=10)
        check(not destination.running(), "half a guest runs")


def migration__cancelled__guest_runs_on_and_next_works():
    with Place() as place:
        took = []
        source, destination = pair(place, fill="random", channels=16, there={"channels": 16})
        while not took or (took[-1] >= CANCEL_S and len(took) < CANCEL_TRIES):
            if took:
                destination = place.monitor(f"destination-{len(took)}", "--process", "--incoming",
                                            "tcp:127.0.0.1:0", *options(channels=16))
            start(place, source, destination)
            since, begin = source.mark(), time.monotonic()
            source.call("migrate_cancel")
            end, _ = source.wait_state("cancelled", since=since)
            took.append(end - begin)
        check(took[-1] < CANCEL_S, f"cancelling took {took} seconds")
        source.set(multifd_channels=2)
        check_goes_on(place, source)


# ---- hostile ----

def init_packet(nonce, channel, magic=MAGIC):
    return struct.pack(">II16sB39x", magic, 1, nonce, channel)


def is_connected(port):
    """Whether a connection to @port waits there, or is served."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return any(int(row[1].split(":")[1], 16) == port and row[3] == "01" for row in rows)


def strangers__at_the_port_while_channels_connect__shown_out():
    """Connections that say nothing, or the wrong thing, stand in front of the channels'. Not in front of the source's
    first: behind a silent one it would wait for longer than it has patience."""
    with Place() as place:
        source, destination = pair(place, channels=4, there={"channels": 4})
        host, port = destination.uri().split(":")[1:]
        strangers = []

        def pester():
            for i in range(60):
                try:
                    strangers.append(socket.create_connection((host, int(port)), timeout=5))
                    if i % 3:
                        strangers[-1].sendall(init_packet(bytes(16), i % 7, MAGIC if i % 2 else 1))
                except OSError:
                    return

        begin = time.monotonic()
        since = source.mark()
        source.call("migrate", uri=destination.uri())
        wait_for(lambda: is_connected(int(port)), "the source's first connection")
        pester()
        _, state = source.wait_state("completed", "failed", since=since)
        check(state == "completed", f"it failed: {source.migration()}")
        check_arrived(source, destination, begin)
        for stranger in strangers:
            stranger.close()


CASES = [
    *[(f"guest__{compression}_over_{channels}_channels__arrives_verified",
       moves(channels=channels, compression=compression, workload="random:1", ram="16M"))
      for channels in (1, 2, 16) for compression in ("none", "zlib", "zstd")],
    ("guest__over_unix__arrives_verified", moves(listen="unix:PLACE/in", channels=3)),
    ("guest__into_preallocated_memory__arrives_verified", moves(prealloc=True)),
    ("guest__busy__arrives_verified", moves(workload="random:200", channels=4)),
    ("guest__of_random_bytes__arrives_verified", moves(fill="random", compression="zstd", workload="random:1")),
    *[(case.__name__, case) for case in (
        zero_copy__kernel_copies__falls_back_and_says_so,
        multifd__off_at_the_destination__fails_before_the_first_page,
        multifd__off_at_the_source__fails_before_the_first_page,
        channels__differ__error_names_both,
        compression__differs__error_names_both,
        transport__without_connections__refused_at_migrate,
        zero_copy__over_unix__refused_at_migrate,
        channel__cut_in_mid_migration__both_notice_and_guest_runs_on,
        destination__killed__source_notices_and_guest_runs_on,
        source__killed__destination_notices,
        migration__cancelled__guest_runs_on_and_next_works,
        strangers__at_the_port_while_channels_connect__shown_out,
    )],
]

if __name__ == "__main__":
    processes.use(sys.argv[1])
    sys.exit(cases.run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
