# SPDX-License-Identifier: BSD-2-Clause
"""A relay between a source and a destination that holds the stream just before a chosen record, and can be cut."""

import select
import socket
import struct
import threading
import time

FORTH, BACK = "forth", "back"

# type and payload length; docs/protocol.md
RECORDS = {
    "HELLO": (0x0001, 32),
    "PREPARE": (0x0020, 12),
    "COMMIT": (0x0021, 16),
    "DONE": (0x0022, 0),
    "ROUND_BEGIN": (0x0010, 12),
    "ROUND_DONE": (0x0080, 12),
    "READY": (0x0090, 12),
    "RUNNING": (0x0091, 16),
}

# Of QEMU's postcopy, each with the PING before it.
COMMANDS = {
    "PACKAGED": b"\x08\0\2\0\4\0\0\0\2\x08\0\7\0\4",
    "POSTCOPY_RUN": b"\x08\0\2\0\4\0\0\0\3\x08\0\5\0\0",
}


def opening(way, record):
    """The bytes with which @record begins on the wire: eleven or more, which no page here has by chance."""
    if record in COMMANDS:
        return COMMANDS[record]
    number, length = RECORDS[record]
    outer = b"\x08\x46\x52" if way == FORTH else b"\x46\x52"
    return outer + struct.pack(">HHBBI", length + 8, number, 1, 0, length)


# A sender writes a record at once: what looks like the beginning of one, and has nothing behind it for so long, is the
# end of another (a nonce may end in any byte).
QUIET_S = 0.2


class Connection:
    """One connection through the relay, served by a thread of its own."""

    def __init__(self, relay, near):
        self.relay = relay
        self.near = near  # to the source
        self.far = socket.create_connection(relay.far_address)
        for end in (self.near, self.far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = {FORTH: b"", BACK: b""}  # read, and not yet passed on
        self.read_at = {FORTH: 0.0, BACK: 0.0}
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def cut(self):
        for end in (self.near, self.far):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _pass_on(self, way, out):
        """Sends what may go; the start of the record that is waited for stays."""
        data = self.pending[way]
        mark = opening(*self.relay.hold) if self.relay.hold and self.relay.hold[0] == way else None
        keep = 0
        if mark:
            at = data.find(mark)
            if at >= 0:
                keep = len(data) - at
            elif time.monotonic() - self.read_at[way] < QUIET_S:
                keep = next((n for n in range(min(len(mark) - 1, len(data)), 0, -1) if data.endswith(mark[:n])), 0)
        self.pending[way] = data[len(data) - keep:]
        if len(data) > keep:
            out.sendall(data[:len(data) - keep])
        if mark and data[len(data) - keep:].startswith(mark):
            self.relay.held.set()  # only now: who waits for it may cut, and what came before has to arrive

    def _round(self, poll, ways):
        """One turn; whether both ends are still there."""
        for way, (read, write) in ways.items():
            if self.pending[way]:
                self._pass_on(way, write)
            # A held direction is not read on; that its end closes still shows.
            held = self.relay.hold and self.relay.hold[0] == way and self.relay.held.is_set()
            poll.modify(read, select.POLLRDHUP | (0 if held else select.POLLIN))
        for descriptor, events in poll.poll(20):
            way = next((way for way, (read, _) in ways.items() if read.fileno() == descriptor), None)
            if way is None:
                continue
            if events & select.POLLIN:
                data = ways[way][0].recv(1 << 20)
                if not data:
                    return False
                self.pending[way] += data
                self.read_at[way] = time.monotonic()
                self._pass_on(way, ways[way][1])
            elif events:
                return False
        return True

    def _serve(self):
        ways = {FORTH: (self.near, self.far), BACK: (self.far, self.near)}
        poll = select.poll()
        for end in (self.near, self.far):
            poll.register(end, select.POLLIN | select.POLLRDHUP)
        try:
            while self._round(poll, ways):
                pass
        except (OSError, ValueError):
            pass
        self.cut()
        self.near.close()
        self.far.close()


class Relay:
    """Give the source @uri; it leads to @destination, a tcp: URI."""

    def __init__(self, destination):
        host, port = destination.removeprefix("tcp:").rsplit(":", 1)
        self.far_address = (host, int(port))
        self.hold = None  # (way, record)
        self.held = threading.Event()
        self.connections = []
        self.lock = threading.Lock()  # guards connections and whole
        self.whole = True
        self.listener = None
        self.port = 0
        self._listen()
        self.uri = f"tcp:127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.cut()

    def _listen(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                try:
                    if not self.whole:
                        raise OSError("cut")
                    self.connections.append(Connection(self, near))
                except OSError:  # the destination is gone, or the relay is cut
                    near.close()

    def inject(self, message):
        """Puts a whole message between those of the destination, on the connection that came first."""
        with self.lock:
            self.connections[0].near.sendall(message)

    def hold_before(self, way, record):
        """From now on nothing goes @way from the first such record on."""
        self.held.clear()
        self.hold = (way, record)

    def wait_held(self, timeout=30):
        if not self.held.wait(timeout):
            raise AssertionError(f"waited {timeout} s in vain for {self.hold[1]}")

    def release(self):
        self.hold = None
        self.held.clear()

    def cut(self):
        """Both directions, at once and for good; what was held is lost. Connecting is refused."""
        with self.lock:
            if not self.whole:
                return
            self.whole = False
            for connection in self.connections:
                connection.cut()
            # Only then: a thread that finds nothing to hold would pass on what was held.
            for connection in self.connections:
                connection.thread.join()
            self.connections.clear()
            self.hold = None
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def heal(self, destination=None):
        """Connections go through again, to @destination if it moved."""
        if destination:
            host, port = destination.removeprefix("tcp:").rsplit(":", 1)
            self.far_address = (host, int(port))
        self.held.clear()
        with self.lock:
            self.whole = True
        self._listen()
