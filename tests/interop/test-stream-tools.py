#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ferry inspect, receive and send against peers made by hand. Usage: test-stream-tools.py FERRY [SUBSTRING]"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import stream
import cases
from stream import PAGE
from cases import check

FERRY = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("FERRY", "ferry")
BLOCKS = {"m": 4 * PAGE, "rom": PAGE}
A, B = b"a" * PAGE, b"b" * PAGE


class Place:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="ferry-tools-")
        return self

    def __exit__(self, *exception):
        shutil.rmtree(self.path)

    def file(self, name, content=None):
        path = os.path.join(self.path, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        return path

    def read(self, *name):
        with open(os.path.join(self.path, *name), "rb") as file:
            return file.read()

    def exists(self, *name):
        return os.path.exists(os.path.join(self.path, *name))


class Receiver:
    """ferry receive into DIR "guest", and a connection to it."""

    def __init__(self, place):
        self.process = subprocess.Popen([FERRY, "receive", "tcp:127.0.0.1:0", place.file("guest")],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split(":")[-1])
        self.socket = None
        self.connect()

    def connect(self):
        if self.socket:
            self.socket.close()
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.settimeout(30)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()
        self.process.kill()
        self.process.communicate()

    def send(self, *parts):
        try:
            self.socket.sendall(b"".join(parts))
        except OSError:
            pass  # it refused what came before

    def message(self):
        """The next message of the return path, or None at its end."""
        try:
            header = self.socket.recv(4, socket.MSG_WAITALL)
            if len(header) < 4:
                return None
            kind, length = struct.unpack(">HH", header)
            return kind, self.socket.recv(length, socket.MSG_WAITALL)
        except ConnectionError:
            return None

    def finish(self):
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err


def ferry(*arguments, data=None):
    done = subprocess.run([FERRY, *arguments], capture_output=True, input=data, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def ferry_stream():
    """What one Ferry sends another: pages travel in records between the sections."""
    return b"".join((
        stream.begin(), stream.command(1), stream.command(2, b"FERR"), stream.record(1, b"hello"),
        stream.ram_start(BLOCKS), stream.record(0x10, struct.pack(">I", 1)),
        stream.record(0x100, struct.pack(">IQQ", 0, 1, 2)), A, B,
        stream.record(0x100, struct.pack(">IQQ", 1, 0, 1)), B,
        stream.record(0x101, struct.pack(">IQQ", 0, 3, 1)), stream.record(0x11, struct.pack(">I", 1)),
        stream.ram_part(last=True), stream.record(0x20), stream.tail(), stream.record(0x21)))


def inspect__stream_between_ferries__records_by_name_and_every_byte():
    data = ferry_stream()
    status, out, err = ferry("inspect", "--json", "-", data=data)
    check(status == 0, err)
    found = json.loads(out)
    check(found["bytes"] == len(data) == sum(item["length"] for item in found["items"]), "bytes are missing")
    names = [item.get("name") for item in found["items"]]
    for name in ("OPEN_RETURN_PATH", "PING", "HELLO", "ROUND_BEGIN", "HANDOVER_COMMIT", "test"):
        check(name in names, f"{name} is not in {names}")
    pages = [item for item in found["items"] if item["type"] == "pages"]
    check(len(pages) == 1 and pages[0]["records"] == 2 and pages[0]["pages"] == 3, f"{pages}")
    check(found["pages"] == 3 and found["zero-pages"] == 1, "pages are miscounted")
    check(found["ram-blocks"][0] == {"name": "m", "size": 4 * PAGE, "pages": 2, "zero-pages": 1}, "block m")


def inspect__cut_at_every_element_and_byte__fails_and_says_where():
    data = ferry_stream()
    # Inside of pages one cut is like another.
    lengths = [n for n in range(len(data)) if data[n:n + 1] not in (b"a", b"b")]
    for length in lengths[::7] + lengths[-120:]:
    
        status, out, err = ferry("inspect", "-", data=data[:length])
        if length == len(data) - 13:  # all but the last record
            check(status == 0, err)
        else:
            check(status == 1 and "offset" in err and "AddressSanitizer" not in err,
                  f"{length} of {len(data)} bytes: status {status}: {err}")


def inspect__page_record_outside_of_its_block__is_refused():
    for block, first, pages in ((2, 0, 1), (0, 4, 1), (0, 3, 2), (0, 1, 2**64 - 1)):
        data = (stream.begin() + stream.ram_start(BLOCKS) +
                stream.record(0x100, struct.pack(">IQQ", block, first, pages)) + A)
        status, _, err = ferry("inspect", "-", data=data)
        check(status == 1 and "block" in err and "offset" in err, f"{block} {first} {pages}: {err}")


def inspect__control_characters_in_names__are_not_printed():
    data = (stream.begin("\x1b[31mred") + stream.ram_start({"\x1b]0;m": PAGE}) + stream.ram_part(last=True) +
            stream.tail())
    status, out, err = ferry("inspect", "-", data=data)
    check(status == 0 and "\x1b" not in out + err and "\\033" in out, out)


def receive__page_then_zero_page__is_zero_and_untouched_pages_are_holes():
    with Place() as place, Receiver(place) as receiver:
        receiver.send(stream.begin(), stream.ram_start(BLOCKS),
                      stream.ram_part(stream.page("m", 0, A), stream.page("m", PAGE, A),
                                      stream.page("m", 2 * PAGE)),
                      stream.ram_part(stream.page("m", 0), stream.page("m", PAGE, B), last=True),
                      stream.tail())
        receiver.socket.shutdown(socket.SHUT_WR)
        status, text = receiver.finish()
        check(status == 0, text)
        check(place.read("guest", "ram-0.img") == bytes(PAGE) + B + bytes(2 * PAGE), "RAM is wrong")
        check(place.read("guest", "devices.bin") == stream.device("test", b"state"), "devices are wrong")
        blocks = os.stat(place.file("guest/ram-0.img")).st_blocks
        check(blocks * 512 <= 2 * PAGE, f"{blocks} blocks are allocated for two pages")


def receive__return_path__pongs_and_then_shut_0_when_all_is_on_the_disk():
    with Place() as place, Receiver(place) as receiver:
        receiver.send(stream.begin(), stream.command(1))
        for value in (b"\0\0\0\1", b"FERR", b"\xff\0\0\x42"):
            receiver.send(stream.command(2, value))
            check(receiver.message() == (2, value), "a PING without its PONG")
        receiver.send(stream.ram_start(BLOCKS), stream.ram_part(stream.page("m", 0, A), last=True))
        whole = stream.tail()
        for at in range(0, len(whole), 50):  # the end comes in pieces
            receiver.send(whole[at:at + 50])
        check(receiver.message() == (1, b"\0\0\0\0"), "no SHUT 0")
        check(place.exists("guest", "map.json"), "SHUT came before the map")
        status, text = receiver.finish()
        check(status == 0, text)


def refused(*parts, why, shut=True):
    with Place() as place, Receiver(place) as receiver:
        receiver.send(stream.begin(), stream.command(1), *parts)
        receiver.socket.shutdown(socket.SHUT_WR)
        message = receiver.message()
        status, text = receiver.finish()
        check(status == 1 and why in text, f"expected \"{why}\": status {status}: {text}")
        check(not place.exists("guest", "map.json"), "an incomplete guest has a map")
        check(not shut or message in ((1, b"\0\0\0\1"), None), f"the source heard {message}")


def receive__hostile_streams__are_refused_with_the_reason():
    start = stream.ram_start(BLOCKS)
    full = stream.ram_part(stream.page("m", 0, A), last=True)
    refused(start, stream.ram_part(stream.page("m", 4 * PAGE, A)), why="which has 0x4000 bytes")
    refused(start, stream.ram_part(stream.page("x", 0, A)), why="not in the list")
    refused(start, start, why="second list")
    refused(stream.ram_start({"m": 1 << 62}), why="ram-0.img")
    refused(stream.ram_part(stream.page("m", 0, A)), why="did not start")
    refused(start, full, stream.tail()[:-1], why="closed it inside of the device state")
    refused(start, full, stream.device("test", b"state"), b"\0", why="closed it inside")
    refused(start, full, stream.command(7, b"\0\0\0\1"), b"x", why="PACKAGED without POSTCOPY_ADVISE")
    refused(stream.advise(), stream.advise(), why="POSTCOPY_ADVISE a second time")
    refused(start, stream.advise(), why="POSTCOPY_ADVISE after")
    refused(stream.advise(0x201000), why="huge pages")
    refused(stream.advise(), stream.discard("m", (0, PAGE)), why="before the RAM's begin")
    refused(stream.advise(), start, stream.command(4), why="POSTCOPY_LISTEN outside of a package")
    refused(stream.advise(), start, stream.command(5), why="POSTCOPY_RUN outside of a package")
    refused(stream.advise(), start, stream.command(9), why="resumes what was not paused")
    refused(stream.advise(), start, stream.command(8), why="command 8")
    refused(stream.device("test", b"state"), why="before RAM")
    refused(start, b"\0", why="before any device")


# Up to the package, with three pages of "m" and the one of "rom" missing.
BEFORE = (stream.begin() + stream.command(1) + stream.advise() + stream.ram_start(BLOCKS) +
          stream.ram_part(stream.page("m", 0, A), stream.page("m", PAGE, A), stream.page("rom", 0, A)) +
          stream.discard("m", (PAGE, PAGE), (2 * PAGE, 2 * PAGE)) + stream.discard("rom", (0, PAGE)))
DEVICES = stream.command(4) + stream.device("test", b"state")
SWITCHED = BEFORE + stream.package(DEVICES + stream.command(2, b"\0\0\0\3") + stream.command(5))
LATE = {"m": bytes(A + B + PAGE * b"\0" + A), "rom": B}


def end_of_postcopy():
    return stream.ram_part(last=True) + b"\0"


def is_late_guest(receiver, place):
    """The one of BEFORE with the pages of LATE."""
    status, text = receiver.finish()
    check(status == 0, text)
    check(place.read("guest", "ram-0.img") == LATE["m"] and place.read("guest", "ram-1.img") == LATE["rom"], "RAM")
    check(place.read("guest", "devices.bin") == stream.device("test", b"state"), "devices are wrong")
    found = json.loads(place.read("guest", "vmdesc.json"))
    check([(d["name"], d["size"], d["fields"][0]["size"]) for d in found["devices"]] == [("test", 5, 5)], f"{found}")
    return text


def receive__postcopy__every_ping_is_answered_and_pages_land():
    with Place() as place, Receiver(place) as receiver:
        receiver.send(SWITCHED, stream.command(2, b"\0\0\0\4"))
        for value in (3, 4):
            check(receiver.message() == (2, struct.pack(">I", value)), f"no PONG {value}")
        receiver.send(stream.ram_part(stream.page("m", PAGE, B), stream.page("m", 2 * PAGE)),
                      stream.ram_part(stream.page("m", 3 * PAGE, A), stream.page("rom", 0, B)), end_of_postcopy())
        check(receiver.message() == (1, b"\0\0\0\0"), "no SHUT 0")
        check(place.exists("guest", "map.json"), "SHUT came before the map")
        check("4 pages have still to come" in is_late_guest(receiver, place), "it does not say what is missing")


def bitmap(receiver, block):
    """The answer to RECV_BITMAP."""
    receiver.send(stream.command(10, stream.name(block)))
    check(receiver.message() == (5, stream.name(block)), f"no RECV_BITMAP of {block}")
    size, = struct.unpack(">Q", receiver.socket.recv(8, socket.MSG_WAITALL))
    bits = receiver.socket.recv(size, socket.MSG_WAITALL)
    end = receiver.socket.recv(8, socket.MSG_WAITALL)
    check(end == bytes.fromhex("0123456789abcdef"), f"{end} behind the bitmap")
    return bits


def receive__postcopy_cut_inside_a_page__resumes_with_what_is_missing():
    with Place() as place, Receiver(place) as receiver:
        page = stream.page("m", 3 * PAGE, A)
        receiver.send(SWITCHED, stream.ram_part(stream.page("m", PAGE, B)), stream.ram_part(page)[:len(page) - 100])
        check(receiver.message() == (2, b"\0\0\0\3"), "no PONG")
        for stranger in (b"QEVM\0\0\0\3", b"GET / HTTP/1.0\r\n\r\n", b""):
            receiver.connect()
            receiver.send(stranger)
        receiver.connect()
        check(bitmap(receiver, "m") == b"\3" + bytes(7), "the wrong pages of m are missing")
        check(bitmap(receiver, "rom") == bytes(8), "the wrong pages of rom are missing")
        receiver.send(stream.command(9))
        check(receiver.message() == (6, b"\0\0\0\1"), "no RESUME_ACK 1")
        receiver.send(stream.ram_part(page, stream.page("m", 2 * PAGE), stream.page("rom", 0, B)), end_of_postcopy())
        check(receiver.message() == (1, b"\0\0\0\0"), "no SHUT 0")
        text = is_late_guest(receiver, place)
        check("paused with 3 pages missing" in text and "needs a receiver of its own" in text, text)


def receive__postcopy_ends_with_pages_missing__asks_for_them():
    with Place() as place, Receiver(place) as receiver:
        receiver.send(SWITCHED, stream.ram_part(stream.page("m", 2 * PAGE)), end_of_postcopy())
        wanted = ((2, b"\0\0\0\3"), (3, struct.pack(">QI", PAGE, PAGE) + stream.name("m")),
                  (4, struct.pack(">QI", 3 * PAGE, PAGE)), (3, struct.pack(">QI", 0, PAGE) + stream.name("rom")))
        for message in wanted:
            got = receiver.message()
            check(got == message, f"{message} was due: {got}")
        receiver.send(stream.ram_part(stream.page("m", 3 * PAGE, A), stream.page("m", PAGE, B),
                                      stream.page("rom", 0, B)), end_of_postcopy())
        check(receiver.message() == (1, b"\0\0\0\0"), "no SHUT 0")
        is_late_guest(receiver, place)


def gives_back(*parts, why):
    """Refused after the switch began: the source comes again, hears that all is here, and then SHUT 1."""
    with Place() as place, Receiver(place) as receiver:
        receiver.send(*parts)
        while receiver.message():
            pass
        receiver.connect()
        for block in BLOCKS:
            check(bitmap(receiver, block) == b"\xff" * 8, f"{block} is said to be missing")
        receiver.send(stream.command(9), end_of_postcopy())
        check(receiver.message() == (6, b"\0\0\0\1"), "no RESUME_ACK 1")
        check(receiver.message() == (1, b"\0\0\0\1"), "no SHUT 1")
        status, text = receiver.finish()
        check(status == 1 and why in text and "migrate -r tcp:" in text, f"expected \"{why}\": status {status}: {text}")
        check(not place.exists("guest", "map.json"), "an incomplete guest has a map")


def receive__hostile_postcopy__is_refused_by_name_and_given_back():
    run = stream.command(5)
    late = stream.page("m", PAGE, B)
    gives_back(SWITCHED, stream.ram_part(late, late), why="the page at 0x1000 of RAM block \"m\" comes twice")
    gives_back(SWITCHED, stream.ram_part(stream.page("m", 0)), why="the page at 0x0 of RAM block \"m\" comes twice")
    gives_back(SWITCHED, stream.ram_part(stream.page("m", 4 * PAGE)), why="which has 0x4000 bytes")
    gives_back(SWITCHED, stream.device("late", b"state", section=9), why="element type 0x04 after the package")
    gives_back(SWITCHED, stream.discard("m", (PAGE, PAGE)), why="after the package")
    gives_back(SWITCHED, stream.package(DEVICES + run), why="PACKAGED after the package")
    gives_back(SWITCHED, stream.command(9), why="resumes what was not paused")
    gives_back(BEFORE, stream.discard("m", (3 * PAGE, 2 * PAGE)), why="0x2000 bytes from 0x3000 of RAM block \"m\"")
    gives_back(BEFORE, stream.discard("x", (0, PAGE)), why="RAM block \"x\" is not in the list")
    gives_back(BEFORE, stream.discard("m", (1, PAGE)), why="no whole pages")
    gives_back(BEFORE, stream.command(7, struct.pack(">I", (512 << 20) + 1)), why="a package of 536870913 bytes")
    gives_back(BEFORE, stream.command(7, bytes(4)), why="a package of 0 bytes")
    gives_back(BEFORE, stream.package(run), why="POSTCOPY_RUN without POSTCOPY_LISTEN")
    gives_back(BEFORE, stream.package(stream.device("test", b"state") + run), why="without POSTCOPY_LISTEN at its begin")
    gives_back(BEFORE, stream.package(DEVICES), why="does not end in POSTCOPY_RUN")
    gives_back(BEFORE, stream.package(stream.command(4) + run), why="command 5")
    gives_back(BEFORE, stream.package(DEVICES[:-1] + run), why="do not add up")
    gives_back(BEFORE, stream.package(stream.package(DEVICES) + run), why="command 7")
    gives_back(BEFORE, stream.device("test", b"state"), why="not in a package")
    gives_back(BEFORE, b"\0", why="it was cut short")


def receive__resumed_wrongly__is_given_back():
    for parts, why in (((stream.ram_part(),), "RAM before POSTCOPY_RESUME"), ((b"\0",), "ends before POSTCOPY_RESUME"),
                       ((stream.command(10, stream.name("x")),), "RAM block \"x\" is not in the list"),
                       ((stream.command(10, b"\1mm"),), "RECV_BITMAP with 3 bytes"),
                       ((stream.command(9), stream.command(9)), "resumes what was not paused")):
        with Place() as place, Receiver(place) as receiver:
            receiver.send(SWITCHED)
            check(receiver.message() == (2, b"\0\0\0\3"), "no PONG")
            receiver.connect()
            receiver.send(stream.command(2, bytes(4)))  # a source that comes again says something first
            check(receiver.message() == (2, bytes(4)), "no PONG")
            receiver.send(*parts)
            while receiver.message():
                pass
            receiver.connect()
            receiver.send(stream.command(9), end_of_postcopy())
            check(receiver.message() == (6, b"\0\0\0\1") and receiver.message() == (1, b"\0\0\0\1"), "no SHUT 1")
            status, text = receiver.finish()
            check(status == 1 and why in text, f"expected \"{why}\": {text}")


def receive__pages_that_never_come__are_counted_and_it_ends():
    gives_back(SWITCHED, end_of_postcopy(), why="ended with 4 pages missing")


def receive__stranger_that_stays_silent__does_not_keep_the_source_out():
    with Place() as place, Receiver(place) as receiver:
        receiver.send(SWITCHED, b"\x05")
        while receiver.message():
            pass
        with socket.create_connection(("127.0.0.1", receiver.port)):
            receiver.connect()
            receiver.send(stream.command(9), end_of_postcopy())
            check(receiver.message() == (6, b"\0\0\0\1") and receiver.message() == (1, b"\0\0\0\1"), "no SHUT 1")
        status, text = receiver.finish()
        check(status == 1 and "nothing came" in text, text)


def receive__postcopy_through_a_descriptor_is_cut__says_what_is_left():
    with Place() as place:
        near, far = socket.socketpair()
        with near, subprocess.Popen([FERRY, "receive", f"fd:{far.fileno()}", place.file("guest")], text=True,
                                    pass_fds=[far.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            far.close()
            near.sendall(SWITCHED)
            check(near.recv(8, socket.MSG_WAITALL) == b"\0\2\0\4\0\0\0\3", "no PONG")
            near.close()
            _, text = process.communicate(timeout=30)
        check(process.returncode == 1 and "its RAM is still at the source" in text, text)


def send__to_a_peer_that_says_shut__reports_success_or_failure():
    with Place() as place:
        with Receiver(place) as receiver:
            receiver.send(stream.begin(), stream.ram_start(BLOCKS),
                          stream.ram_part(stream.page("m", PAGE, A), last=True), stream.tail())
            receiver.socket.shutdown(socket.SHUT_WR)
            check(receiver.finish()[0] == 0, "receive failed")
        for answer, status, words in ((b"\0\1\0\4\0\0\0\0", 0, "has loaded"), (b"\0\1\0\4\0\0\0\1", 1, "SHUT 1"),
                                      (b"", 1, "closed without"), (b"\0\2\xff\xff", 1, "65535 bytes")):
            received = []
            with socket.create_server(("127.0.0.1", 0)) as server:
                thread = threading.Thread(target=play_destination, args=(server, answer, received))
                thread.start()
                got = ferry("send", place.file("guest"), f"tcp:127.0.0.1:{server.getsockname()[1]}")
                thread.join()
            check(got[0] == status and words in got[1] + got[2], f"{answer}: {got}")
            check(received[0].startswith(stream.begin() + stream.command(1)), "the stream's begin is wrong")
            check(received[0].endswith(stream.tail()), "the stream's end is wrong")
            check(ferry("inspect", "-", data=received[0])[0] == 0, "inspect refuses it")


def play_destination(server, answer, received):
    connection = server.accept()[0]
    connection.settimeout(5)
    data = b""
    try:
        while not data.endswith(stream.tail()):
            part = connection.recv(65536)
            if not part:
                break
            data += part
    except TimeoutError:
        pass  # its end did not come, as the caller will see
    received.append(data)
    connection.sendall(answer)
    connection.close()


def wrong_usage__every_subcommand__is_2_and_points_to_help():
    for arguments in (("inspect",), ("inspect", "a", "b"), ("inspect", "--no-such"), ("receive", "tcp:x:1"),
                      ("receive", "nonsense:1", "/nonexistent/dir"), ("send", "only-one")):
        status, _, err = ferry(*arguments)
        check(status == 2 and err, f"{arguments}: status {status}: {err}")
    for name in ("inspect", "receive", "send"):
        status, out, err = ferry(name, "--help")
        check(status == 0 and "Example" in out and f"ferry {name}" in out, f"{name} --help: {out}")
    check(ferry("inspect", "/nonexistent")[0] == 1, "a file that is not there")


CASES = [(f.__name__, f) for f in (
    inspect__stream_between_ferries__records_by_name_and_every_byte,
    inspect__cut_at_every_element_and_byte__fails_and_says_where,
    inspect__page_record_outside_of_its_block__is_refused,
    inspect__control_characters_in_names__are_not_printed,
    receive__page_then_zero_page__is_zero_and_untouched_pages_are_holes,
    receive__return_path__pongs_and_then_shut_0_when_all_is_on_the_disk,
    receive__hostile_streams__are_refused_with_the_reason,
    receive__postcopy__every_ping_is_answered_and_pages_land,
    receive__postcopy_cut_inside_a_page__resumes_with_what_is_missing,
    receive__postcopy_ends_with_pages_missing__asks_for_them,
    receive__hostile_postcopy__is_refused_by_name_and_given_back,
    receive__resumed_wrongly__is_given_back,
    receive__pages_that_never_come__are_counted_and_it_ends,
    receive__stranger_that_stays_silent__does_not_keep_the_source_out,
    receive__postcopy_through_a_descriptor_is_cut__says_what_is_left,
    send__to_a_peer_that_says_shut__reports_success_or_failure,
    wrong_usage__every_subcommand__is_2_and_points_to_help,
)]

if __name__ == "__main__":
    sys.exit(cases.run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
