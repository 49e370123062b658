# SPDX-License-Identifier: BSD-2-Clause
"""A small QMP client, for QEMU and Ferry alike."""

import json
import socket
import time


class QmpError(Exception):
    pass


class Qmp:
    """One connection. Events that arrive beside answers are kept in self.events."""

    def __init__(self, path, alive, timeout=20):
        """alive: raises when the server's process has died, with its last words."""
        self.events = []
        self.buffer = b""
        self.alive = alive
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError as failure:
                self.socket.close()
                alive()
                if time.monotonic() > deadline:
                    raise QmpError(f"nobody answers at {path} within {timeout} s") from failure
                time.sleep(0.02)
        self.receive(timeout)
        self.command("qmp_capabilities")

    def receive(self, timeout):
        self.socket.settimeout(timeout)
        while b"\n" not in self.buffer:
            try:
                data = self.socket.recv(65536)
            except socket.timeout as failure:
                raise QmpError(f"no QMP message within {timeout} s") from failure
            if not data:
                self.alive()
                raise QmpError("the QMP server closed the connection")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self.receive(30)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(f"{name}: {answer['error'].get('desc', answer['error'])}")
            else:
                return answer.get("return")

    def wait_migration(self, wanted, timeout):
        """Blocks, without polling, until the event MIGRATION says wanted; any other end is an error."""
        self.wait_event("MIGRATION", "status", wanted, timeout)

    def wait_pass(self, wanted, timeout):
        """The same until the event MIGRATION_PASS says that round wanted begins."""
        self.wait_event("MIGRATION_PASS", "pass", wanted, timeout)

    def wait_event(self, name, key, wanted, timeout):
        deadline = time.monotonic() + timeout
        while True:
            while self.events:
                event = self.events.pop(0)
                data = event.get("data", {})
                if event["event"] == name and data.get(key) == wanted:
                    return
                status = data.get("status") if event["event"] == "MIGRATION" else None
                if status in ("failed", "cancelled", "handover-lost"):
                    reason = self.command("query-migrate").get("error-desc", "no reason given")
                    raise QmpError(f"migration {status}: {reason}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise QmpError(f"no event {name} with {key} {wanted} within {timeout} s")
            message = self.receive(left)
            if "event" in message:
                self.events.append(message)

    def close(self):
        self.socket.close()
