# SPDX-License-Identifier: BSD-2-Clause
"""A host that programs run on: this one, or the one where `ferry bench ... --listen` waits. Both are used alike."""

import contextlib
import itertools
import json
import os
import shutil
import socket
import tempfile
import threading
import time

import programs
import record
from common import free_port, wait_listening
from process import Measured, PeakMemory
from qmp import Qmp

TIMEOUT = 300
MEMORY = "/dev/shm"
# What the other side may ask for.
CALLS = ("environment", "now", "start", "listen", "qmp", "cpu", "peak_memory", "alive", "stop", "stop_all")
LINE_MAX = 16 << 20


class Running:
    """A program, its folder, its monitor."""

    def __init__(self, argv, folder, monitored):
        self.folder = folder
        self.process = Measured(argv)
        self.qmp = None
        try:
            if monitored:
                self.qmp = Qmp(os.path.join(folder, "qmp"), self.process.alive, TIMEOUT)
        except BaseException:
            self.process.stop()
            raise
        self.memory = PeakMemory({"self": self.process})
        self.memory.__enter__()

    def stop(self):
        self.memory.__exit__()
        if self.qmp:
            self.qmp.close()
        self.process.stop()


class Host:
    """This one. @address: where its programs listen."""

    is_peer = False

    def __init__(self, ferry, address="127.0.0.1"):
        self.ferry, self.address = ferry, address
        self.numbers = itertools.count(1)
        self.running = {}
        self.lock = threading.Lock()

    def environment(self, role):
        return record.environment(role, self.ferry)

    def now(self):
        return time.time_ns()

    def start(self, kind, **parameters):
        """Returns the number by which the other calls know the program, and its port if it has one."""
        folder = tempfile.mkdtemp(prefix="ferry-bench-", dir=MEMORY)
        try:
            port = None
            if kind not in programs.MONITORED:
                port = parameters["port"] = free_port(self.address)
            argv = programs.KINDS[kind](self, folder, **parameters)
            program = Running(argv, folder, kind in programs.MONITORED)
            if port:
                wait_listening(port, program.process.alive)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        number = next(self.numbers)
        self.running[number] = program
        return {"number": number, "port": port}

    def listen(self, number, scheme):
        """A monitor begins to wait for a guest; returns the URI."""
        port = free_port(self.address)
        where = f"[{self.address}]" if ":" in self.address else self.address
        uri = f"{scheme}:{where}:{port}"
        self.qmp(number, "migrate-incoming", {"uri": uri})
        return uri

    def monitor(self, number):
        """The connection itself; of this host's programs alone. Not beside qmp()."""
        return self.running[number].qmp

    def another_monitor(self, number):
        """One more connection, for a thread of its own; of this host's programs alone, and of Ferry's."""
        return Qmp(os.path.join(self.running[number].folder, "qmp"), self.running[number].process.alive)

    def qmp(self, number, command, arguments=None):
        """Any thread."""
        with self.lock:
            return self.running[number].qmp.command(command, **(arguments or {}))

    def cpu(self, number):
        """CPU seconds so far."""
        return self.running[number].process.cpu()

    def peak_memory(self, number):
        """KiB beyond the guest's RAM."""
        return self.running[number].memory.peaks["self"]

    def alive(self, number):
        self.running[number].process.alive()

    def stop(self, number):
        program = self.running.pop(number)
        program.stop()
        shutil.rmtree(program.folder, ignore_errors=True)

    def stop_all(self):
        for number in list(self.running):
            self.stop(number)

    def clock_offset(self):
        """(ns that its clock is ahead of this host's, how wrong that may be)"""
        return 0, 0

    def close(self):
        self.stop_all()


class Peer:
    """The host at the other end of a connection to serve()."""

    is_peer = True

    def __init__(self, address, port):
        try:
            self.socket = socket.create_connection((address, port), timeout=10)
        except OSError as failure:
            raise RuntimeError(f"nobody answers at {address}:{port}: {failure}. On the other host, first run: "
                               f"ferry bench guest --listen {address}:{port}") from failure
        self.socket.settimeout(TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("r", encoding="utf-8")
        self.address = address
        self.lock = threading.Lock()

    def __getattr__(self, name):
        if name not in CALLS:
            raise AttributeError(name)
        return lambda *values, **named: self.call(name, values, named)

    def call(self, name, values, named):
        """Any thread."""
        with self.lock:
            self.socket.sendall(json.dumps({"call": name, "values": values, "named": named}).encode() + b"\n")
            line = self.file.readline(LINE_MAX)
        if not line:
            raise RuntimeError(f"the bench on {self.address} ended")
        answer = json.loads(line)
        if "missing" in answer:
            raise programs.Missing(f"on {self.address}: {answer['missing']}")
        if "error" in answer:
            raise RuntimeError(f"on {self.address}: {answer['error']}")
        return answer["return"]

    def clock_offset(self):
        """From the quickest of some round trips."""
        trips = []
        for _ in range(20):
            begin = time.time_ns()
            theirs = self.now()
            end = time.time_ns()
            trips.append((end - begin, theirs - (begin + end) // 2))
        took, offset = min(trips)
        return offset, took // 2

    def close(self):
        with contextlib.suppress(OSError, RuntimeError):
            self.stop_all()
        self.socket.close()


def answer_call(host, line):
    try:
        request = json.loads(line)
        if request["call"] not in CALLS:
            raise ValueError(f"no such call: {request['call']}")
        return {"return": getattr(host, request["call"])(*request["values"], **request["named"])}
    except programs.Missing as missing:
        return {"missing": str(missing)}
    except Exception as failure:  # whatever it is, the other side has to know
        return {"error": f"{failure}" or repr(failure)}


def serve(ferry, address, port):
    """One peer after the other, until the process is ended."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        print(f"listening on {address}:{listener.getsockname()[1]}", flush=True)
        while True:
            connection, peer = listener.accept()
            print(f"{peer[0]} measures", flush=True)
            with contextlib.closing(Host(ferry, address)) as host, connection, connection.makefile("rw") as lines:
                with contextlib.suppress(OSError):
                    while line := lines.readline(LINE_MAX):
                        lines.write(json.dumps(answer_call(host, line)) + "\n")
                        lines.flush()
            print(f"{peer[0]} has gone", flush=True)
