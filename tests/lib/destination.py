# SPDX-License-Identifier: BSD-2-Clause
"""A Ferry destination by hand: it takes a guest in as far as POSTCOPY_RUN, and then says what a test wants."""

import socket
import struct

PAGE = 4096
HELLO, PING_FERRY, PONG_FERRY = 0x0001, 0x46455252, 0xb9baadad
ROUND_BEGIN, ROUND_END, ROUND_DONE = 0x0010, 0x0011, 0x0080
PREPARE, READY, RUNNING = 0x0020, 0x0090, 0x0091
HAVE_ALL, PAGES, ZERO_PAGES = 0x0093, 0x0100, 0x0101
OPEN_RETURN_PATH, PING, RUN, PACKAGED, FERRY = 1, 2, 5, 7, 0x4652
SHUT, PONG, REQ_PAGES_ID, REQ_PAGES, RECV_BITMAP, RESUME_ACK = 1, 2, 3, 4, 5, 6
DIGEST, POSTCOPY = 1, 8


def message(number, data=b""):
    return struct.pack(">HH", number, len(data)) + data


def record(kind, payload=b""):
    return message(FERRY, struct.pack(">HBBI", kind, 1, 0, len(payload)) + payload)


def request(start, length, block=None):
    """For pages: of the named block, or of the last one that was named."""
    data = struct.pack(">QI", start % (1 << 64), length)
    if block is None:
        return message(REQ_PAGES, data)
    return message(REQ_PAGES_ID, data + struct.pack(">B", len(block)) + block.encode())


class Destination:
    """Listens on @uri; one connection. @features: of HELLO, those that it knows."""

    def __init__(self, features=DIGEST | POSTCOPY):
        self.features = features
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        self.socket = self.stream = None
        self.blocks = {}  # name to bytes, in their order
        self.rounds = 0   # that began

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for thing in (self.stream, self.socket, self.listener):
            if thing:
                thing.close()

    def accept(self):
        self.listener.settimeout(30)
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(30)
        self.stream = self.socket.makefile("rb")
        magic, version, kind, length = struct.unpack(">4sIBI", self._read(13))
        assert (magic, version, kind) == (b"QEVM", 3, 7), (magic, version, kind)
        self._read(length)

    def say(self, data):
        self.socket.sendall(data)

    def hang_up(self):
        self.socket.shutdown(socket.SHUT_RDWR)

    def serve_until(self, wanted):
        """Answers what comes, up to and including an element for which wanted(kind, number, payload) is true; kind is
        "command", "record" or "section". Returns it."""
        while True:
            element = self._element()
            if wanted(*element):
                return element

    def serve_until_run(self):
        self.serve_until(lambda kind, number, payload: kind == "command" and number == RUN)

    # ---- what comes ----

    def _read(self, count):
        data = self.stream.read(count)
        if len(data) != count:
            raise EOFError(f"the source closed the connection: {len(data)} of {count} bytes")
        return data

    def _unpack(self, layout):
        return struct.unpack(layout, self._read(struct.calcsize(layout)))

    def _element(self):
        kind, = self._unpack(">B")
        if kind == 8:
            return self._command()
        assert kind == 1, f"section type {kind}"
        return self._ram_start()

    def _ram_start(self):
        section, name_length = self._unpack(">IB")
        self._read(name_length + 8)
        left, = self._unpack(">Q")
        left &= ~(PAGE - 1)
        while left:
            name_length, = self._unpack(">B")
            name = self._read(name_length).decode()
            self.blocks[name], = self._unpack(">Q")
            left -= self.blocks[name]
        self._read(8 + 5)  # the end of the body, and the footer
        self.say(record(ROUND_DONE, struct.pack(">IQ", 0, 0)))
        return "section", section, b""

    def _command(self):
        number, length = self._unpack(">HH")
        data = self._read(length)
        if number == FERRY:
            return self._record(*struct.unpack(">HBBI", data[:8]), data[8:])
        if number == PING:
            value, = struct.unpack(">I", data)
            self.say(message(PONG, struct.pack(">I", PONG_FERRY if value == PING_FERRY else value)))
        elif number == PACKAGED:
            data = self._read(struct.unpack(">I", data)[0])
        elif number == RUN:
            self.say(record(RUNNING, struct.pack(">QQ", 0, 0)))
        return "command", number, data

    def _record(self, kind, version, flags, length, payload):
        assert (version, length) == (1, len(payload)), (kind, version, flags, length)
        if kind == HELLO:
            protocol, features, page, nonce = struct.unpack(">IQI16s", payload)
            self.say(record(HELLO, struct.pack(">IQI16s", protocol, features & self.features, page, nonce)))
        elif kind == ROUND_BEGIN:
            self.rounds += 1
        elif kind == ROUND_END:
            self.say(record(ROUND_DONE, payload))
        elif kind == PREPARE:
            self.say(record(READY, struct.pack(">IQ", 0, 0)))
        elif kind == PAGES:
            _, _, pages = struct.unpack(">IQQ", payload)
            self._read(pages * PAGE)
        return "record", kind, payload
