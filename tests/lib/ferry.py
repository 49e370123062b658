# SPDX-License-Identifier: BSD-2-Clause
"""The ferry command and its monitors, for tests. Nothing here waits for time to pass: only for lines, events and
ends of processes, each with a deadline."""

import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time

DEADLINE = 60


class QmpError(Exception):
    """A command was refused; args: class, desc."""


class Qmp:
    """A client of a monitor's QMP socket."""

    def __init__(self, path, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.events = []
        self.greeting = self.read()
        if negotiate:
            self.command("qmp_capabilities")

    def read(self):
        line = self.lines.readline()
        if not line:
            raise EOFError("the monitor hung up")
        return json.loads(line)

    def send(self, text):
        self.socket.sendall(text.encode())

    def answer(self):
        """The next message that is no event; events are kept."""
        while True:
            message = self.read()
            if "event" not in message:
                return message
            self.events.append(message)

    def command(self, execute, **arguments):
        """Runs a command; a - in an argument's name is written _. Raises QmpError."""
        request = {"execute": execute}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.send(json.dumps(request) + "\n")
        answer = self.answer()
        if "error" in answer:
            raise QmpError(answer["error"]["class"], answer["error"]["desc"])
        return answer["return"]

    def wait_event(self, name, **data):
        """The next event of that name whose data has these members; what comes before it is dropped."""
        while True:
            event = self.events.pop(0) if self.events else self.read()
            if event.get("event") == name and data.items() <= event.get("data", {}).items():
                return event

    def wait_status(self, *statuses):
        """Waits until the migration is in one of the states; query-migrate's answer."""
        while True:
            info = self.command("query-migrate")
            if info.get("status") in statuses:
                return info
            event = self.events.pop(0) if self.events else self.read()
            del event  # something changed: ask again

    def close(self):
        self.lines.close()
        self.socket.close()


class Process:
    """A running command, whose lines on stdout can be waited for."""

    def __init__(self, argv, **options):
        # Not a session of its own: who ends the test's process group ends these too.
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, **options)
        self.output = []
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_line(self, prefix):
        """The rest of the first line that begins so and was not waited for before."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line '{prefix}...' came; there were: {self.output}")
            if line.startswith(prefix):
                return line[len(prefix):]

    def wait(self):
        """The exit status."""
        status = self.process.wait(DEADLINE)
        self.reader.join(DEADLINE)
        return status

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        self.reader.join(DEADLINE)
        self.process.stdout.close()


class Ferry:
    """Runs subcommands in a folder of their own; a context manager that ends all that it began."""

    def __init__(self, program):
        self.program = program
        self.folder = None
        self.running = []

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="ferry-")
        return self

    def __exit__(self, *_):
        for thing in reversed(self.running):
            thing.stop() if isinstance(thing, Process) else thing.close()
        self.running.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def command(self, *arguments, environment=None):
        """Runs to its end: the finished process, with stdout and stderr."""
        return subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=DEADLINE, check=False, env={**os.environ, **(environment or {})})

    def begin(self, *arguments, **options):
        process = Process([self.program, *arguments], **options)
        self.running.append(process)
        return process

    def guest(self, name, *arguments):
        """Begins `ferry run` with a QMP socket; the process and a client of it."""
        process = self.begin("run", "--qmp", "unix:" + self.path(name), *arguments)
        process.wait_line("QMP on ")
        return process, self.client(name)

    def client(self, name):
        client = Qmp(self.path(name))
        self.running.append(client)
        return client
