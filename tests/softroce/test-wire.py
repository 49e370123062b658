#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The machine of tests/softroce/run itself: both devices are there, what goes between them crosses the wire, and the
wire can be cut and healed. Usage: test-wire.py [SUBSTRING-OF-CASES]"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import cases
from cases import check, wait_for
from softroce import ADDRESSES, ENDS, only_there, output_of, sent

PINGS, PING_BYTES = 10, 60000
STREAM_BYTES, STREAM_PART = 1 << 20, 64 << 10  # a part fits the sockets' buffers
STILL_S = 1  # without a ping: the wire is cut


@contextlib.contextmanager
def both_ends_send(least):
    before = {end: sent(end) for end in ENDS}
    yield
    for end, count in before.items():
        check(sent(end) - count >= least, f"{end} sent {sent(end) - count} bytes, not {least}")


@contextlib.contextmanager
def process(*argv):
    """Its lines come at once; it is dead at the end."""
    with subprocess.Popen(["stdbuf", "-oL", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@contextlib.contextmanager
def ping_server(address, count):
    """In each ping it reads PING_BYTES from the client's memory, and writes them back to it."""
    with process("rping", "-s", "-a", address, "-C", str(count), "-S", str(PING_BYTES)) as server:
        wait_for(lambda: re.search(r"LISTEN.*" + re.escape(address), output_of("rdma", "resource", "show", "cm_id")),
                 f"rping to listen on {address}")
        yield server


def devices__both__are_up_with_the_largest_mtu():
    for device in ("rxe0", "rxe1"):
        text = output_of("ibv_devinfo", "-d", device)
        check("PORT_ACTIVE" in text, f"{device} is not up:\n{text}")
        check(re.search(r"active_mtu:\s+4096 ", text), f"{device} has another MTU:\n{text}")


def ping(address):
    """Over rdma_cm."""
    def case():
        with both_ends_send(PINGS * PING_BYTES), ping_server(address, PINGS):
            output_of("rping", "-c", "-a", address, "-C", str(PINGS), "-S", str(PING_BYTES))
    return case


def stream(near, far):
    """Over TCP, there and back."""
    def case():
        family = socket.AF_INET6 if ":" in far else socket.AF_INET
        data = os.urandom(STREAM_BYTES)
        with both_ends_send(STREAM_BYTES), socket.create_server((far, 0), family=family) as server, \
                socket.create_connection((far, server.getsockname()[1]), timeout=60) as client:
            check(client.getsockname()[0] == near, f"it comes from {client.getsockname()}")
            accepted, _ = server.accept()
            with accepted, accepted.makefile("rb") as at_server, client.makefile("rb") as at_client:
                accepted.settimeout(60)
                for one, other in ((client, at_server), (accepted, at_client)):
                    for begin in range(0, STREAM_BYTES, STREAM_PART):
                        part = data[begin:begin + STREAM_PART]
                        one.sendall(part)
                        check(other.read(STREAM_PART) == part, f"other bytes arrived behind {begin}")
    return case


def wire__cut_and_healed__pings_stop_and_go_on():
    with ping_server(ADDRESSES["ipv4"][1], 0), process(
            "rping", "-c", "-v", "-a", ADDRESSES["ipv4"][1], "-S", str(PING_BYTES)) as client:
        os.set_blocking(client.stdout.fileno(), False)

        def grown():
            return b"ping data" in (client.stdout.buffer.read() or b"")

        def still():
            grown()
            time.sleep(STILL_S)
            return not grown()

        wait_for(grown, "a first ping")
        output_of("tc", "qdisc", "add", "dev", "v0", "root", "netem", "loss", "100%")
        try:
            wait_for(still, "the pings to stop")
            check(client.poll() is None, f"rping ended: {client.returncode}")
            check(not re.search(r"dropped 0,", output_of("tc", "-s", "qdisc", "show", "dev", "v0")), "nothing was lost")
        finally:
            output_of("tc", "qdisc", "del", "dev", "v0", "root")
        wait_for(grown, "a ping over the healed wire")


def table():
    for case in (devices__both__are_up_with_the_largest_mtu, wire__cut_and_healed__pings_stop_and_go_on):
        yield case.__name__, case
    for family, (first, second) in ADDRESSES.items():
        for near, far, way in ((first, second, "forth"), (second, first, "back")):
            yield f"ping__{way}_over_{family}__crosses_the_wire_both_ways", ping(far)
            yield f"stream__{way}_over_{family}__crosses_the_wire_both_ways", stream(near, far)


if __name__ == "__main__":
    sys.exit(cases.run(only_there(table()), *sys.argv[1:2]))
