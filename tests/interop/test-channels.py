#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ferry receive against multifd channels and encoded pages made by hand. Usage: test-channels.py FERRY [SUBSTRING]"""

import os
import socket
import sys
import zlib

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"),
                os.path.dirname(os.path.abspath(__file__))]

import cases
import stream
from at_rest import Place, Receiver, ferry
from cases import check
from stream import PAGE

BLOCKS = {"m": 4 * PAGE, "rom": PAGE}
A, B, C = b"a" * PAGE, b"b" * PAGE, b"c" * PAGE
SYNC = stream.multifd_packet(sync=True)
START = stream.begin() + stream.ram_start(BLOCKS)


def part(*pages, last=False):
    return stream.ram_part(*pages, last=last)


class Guest(Receiver):
    """ferry receive with so many channels, and connections to it."""

    def __init__(self, place, channels):
        super().__init__(place, "tcp:127.0.0.1:0", f"guest-{len(os.listdir(place.path))}", "--multifd", str(channels))
        self.sockets = []

    def __exit__(self, *exception):
        self.hang_up()
        super().__exit__()

    def connect(self, *parts):
        host, port = self.uri.removeprefix("tcp:").rsplit(":", 1)
        connection = socket.create_connection((host, int(port)))
        connection.settimeout(30)
        self.sockets.append(connection)
        send(connection, *parts)
        return connection

    def channel(self, number, *parts):
        return self.connect(stream.multifd_init(number), *parts)

    def hang_up(self):
        for connection in self.sockets:
            connection.close()
        self.sockets.clear()

    def ram(self):
        with open(os.path.join(self.directory, "ram-0.img"), "rb") as file:
            return file.read()

    def succeeds(self, *pages):
        """Closes, as a source without return path does."""
        self.hang_up()
        status, text = self.finish()
        check(status == 0, text)
        wanted = b"".join(pages)
        check(self.ram() == wanted + bytes(4 * PAGE - len(wanted)), "RAM is wrong")
        return text


def send(connection, *parts):
    try:
        connection.sendall(b"".join(parts))
    except OSError:
        pass  # it refused what came before


def multifd__page_over_another_channel_in_the_next_section__the_later_one_stays():
    with Place() as place, Guest(place, 2) as guest:
        # Channel 1 is through with both sections before channel 0 and the stream begin.
        guest.channel(1, SYNC, SYNC, stream.multifd_packet("m", [(0, B), (PAGE, B)], sync=True))
        late = guest.channel(0, SYNC)
        main = guest.connect(START, part(), part(stream.page("m", 3 * PAGE, C), last=True), stream.tail())
        send(late, stream.multifd_packet("m", [(0, A), (2 * PAGE, A)]), SYNC, SYNC)
        del main
        text = guest.succeeds(B, B, A, C)
        check("received test-1.0" in text and "(5 pages," in text, text)


def multifd__zero_page_in_the_stream_after_a_page_over_a_channel__is_zero():
    with Place() as place, Guest(place, 1) as guest:
        guest.channel(0, SYNC, stream.multifd_packet("m", [(0, A), (PAGE, A)]), SYNC, SYNC)
        guest.connect(START, part(), part(stream.page("m", 0), last=True), stream.tail())
        guest.succeeds(bytes(PAGE), A)


def multifd__channels_before_the_stream_and_strangers__all_find_their_place():
    with Place() as place, Guest(place, 2) as guest:
        silent, other = guest.connect(), guest.connect(b"GET / HTTP/1.1\r\n")
        check(other.recv(1) == b"", "it is still there")
        guest.channel(0, SYNC, SYNC)
        guest.channel(1, SYNC, stream.multifd_packet("rom", [(0, A)], sync=True))
        guest.connect(START, part(last=True), stream.tail())
        text = guest.succeeds()
        del silent
        check("refused a connection: it begins with 0x47455420" in text, text)


def refused(channels, main, why):
    """@channels: what they send behind their init packet; @main: behind the block list."""
    with Place() as place, Guest(place, len(channels)) as guest:
        for number, parts in enumerate(channels):
            guest.channel(number, *parts)
        guest.connect(START, *main)
        for connection in guest.sockets[:-1]:
            connection.shutdown(socket.SHUT_WR)
        status, text = guest.finish()
        check(status == 1 and why in text, f"expected \"{why}\": status {status}: {text}")
        check(not os.path.exists(os.path.join(guest.directory, "map.json")), "it is called whole")


def multifd__hostile_channels__are_refused_with_the_reason():
    packet, pages = stream.multifd_packet, [(0, A)]
    end = (part(last=True), stream.tail())
    refused([[packet("m", pages)]], end, "outside of RAM's sections")
    refused([[SYNC, packet("x", pages)]], end, "\"x\", which is not in the list")
    refused([[SYNC, packet("m", [(4 * PAGE, A)])]], end, "multifd channel 0")
    refused([[SYNC, packet("m", [(1, A)])]], end, "multifd channel 0")
    refused([[SYNC, packet("m", pages, size=PAGE - 1)]], end, "multifd channel 0")
    refused([[SYNC, packet("m", pages)[:-1]]], end, "in the middle of a packet")
    refused([[SYNC, packet("m", pages)[:100]]], end, "in the middle of a packet")
    refused([[SYNC, packet("m", pages, flags=2)]], end, "multifd channel 0")
    refused([[SYNC, packet("m", pages, flags=14)]], end, "multifd channel 0")
    refused([[SYNC, b"x" * 1344]], end, "multifd channel 0")
    refused([[SYNC, SYNC], [SYNC]], end, "multifd channel 1: the source hung up before the end of RAM")
    refused([[]], end, "multifd channel 0: the source hung up")


def multifd__wrong_init_packets__are_refused_with_the_reason():
    for init, why in ((stream.multifd_init(200), "channel 200"), (stream.multifd_init(1), "there are to be 1"),
                      (stream.multifd_init(0, version=2), "version 2"), (stream.multifd_init(0)[:40], "init packet")):
        with Place() as place, Guest(place, 1) as guest:
            guest.connect(init).shutdown(socket.SHUT_WR)
            guest.connect(START)
            status, text = guest.finish()
            check(status == 1 and why in text, f"expected \"{why}\": status {status}: {text}")
    with Place() as place, Guest(place, 2) as guest:
        guest.channel(0, SYNC)
        guest.channel(0, SYNC)
        guest.connect(START)
        status, text = guest.finish()
        check(status == 1 and "channel 0 came twice" in text, f"status {status}: {text}")


def multifd__usage__is_checked():
    with Place() as place:
        for number in ("17", "-1", "two"):
            status, _, err = ferry("receive", "--multifd", number, "tcp:127.0.0.1:0", place.file("guest"))
            check(status == 2 and err, f"--multifd {number}: status {status}: {err}")
        status, _, err = ferry("receive", "--multifd", "2", "exec:cat /dev/null", place.file("guest"))
        check(status == 1 and "use tcp: or unix:" in err, f"status {status}: {err}")


def encoded(*parts, begin=()):
    """One connection without multifd; the exit status, the words, and the RAM."""
    with Place() as place, Receiver(place, "tcp:127.0.0.1:0", "guest") as receiver:
        host, port = receiver.uri.removeprefix("tcp:").rsplit(":", 1)
        with socket.create_connection((host, int(port))) as connection:
            send(connection, stream.begin(), *begin, stream.ram_start(BLOCKS), *parts)
            connection.shutdown(socket.SHUT_WR)
            status, text = receiver.finish()
        path = os.path.join(receiver.directory, "ram-0.img")
        with open(path, "rb") as file:
            return status, text, file.read()


def xbzrle_and_compressed_pages__received__ram_is_what_was_sent():
    changed = b"x" + A[1:4000] + b"yz" + A[4002:]
    status, text, ram = encoded(
        part(stream.page("m", 0, A), stream.compressed("m", PAGE, zlib.compress(B))),
        part(stream.xbzrle("m", 0, b"\0\1x" + b"\x9f\x1f\2yz"), stream.xbzrle("m", 2 * PAGE, b"\0\1q"), last=True),
        stream.tail())
    check(status == 0 and "4 pages, 2 of them by xbzrle and 1 compressed" in text, text)
    check(ram == changed + B + b"q" + bytes(2 * PAGE - 1), "RAM is wrong")


def xbzrle_and_compressed_pages__hostile__are_refused_with_the_reason():
    whole = zlib.compress(A)
    for page, why in ((stream.xbzrle("m", 0, b"\xff\x1f\2ab"), "the page at 0x0 of RAM block \"m\""),
                      (stream.xbzrle("m", 0, b"\0\5ab"), "the page at 0x0"),
                      (stream.xbzrle("m", 0, b""), "offset"),
                      (stream.xbzrle("m", 4 * PAGE, b"\0\1a"), "which has 0x4000 bytes"),
                      (stream.compressed("m", PAGE, whole[:-5]), "the page at 0x1000"),
                      (stream.compressed("m", 0, zlib.compress(A + b"a")), "the page at 0x0"),
                      (stream.compressed("m", 0, zlib.compress(A[1:])), "the page at 0x0"),
                      (stream.compressed("m", 0, bytes(5000)), "5000")):
        status, text, _ = encoded(part(page, last=True), stream.tail())
        check(status == 1 and why in text, f"expected \"{why}\": status {status}: {text}")


CASES = [(f.__name__, f) for f in (
    multifd__page_over_another_channel_in_the_next_section__the_later_one_stays,
    multifd__zero_page_in_the_stream_after_a_page_over_a_channel__is_zero,
    multifd__channels_before_the_stream_and_strangers__all_find_their_place,
    multifd__hostile_channels__are_refused_with_the_reason,
    multifd__wrong_init_packets__are_refused_with_the_reason,
    multifd__usage__is_checked,
    xbzrle_and_compressed_pages__received__ram_is_what_was_sent,
    xbzrle_and_compressed_pages__hostile__are_refused_with_the_reason,
)]

if __name__ == "__main__":
    sys.exit(cases.run(CASES, sys.argv[2] if len(sys.argv) > 2 else ""))
