# SPDX-License-Identifier: BSD-2-Clause
"""Whole `ferry run` processes for end-to-end tests: started, spoken to over QMP, watched, and killed at the end."""

import array
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from cases import Skip, check, wait_for

FERRY = os.environ.get("FERRY", "ferry")
ENDS = ("completed", "failed", "cancelled")
HEARTBEAT_S = 0.005  # of the guest's running time between two


def use(path):
    """Which `ferry` to run."""
    global FERRY
    FERRY = os.path.abspath(path)


def is_sanitized():
    """Whether `ferry` is built with a sanitizer: slower, and larger."""
    with open(FERRY, "rb") as program:
        text = program.read()
    return b"__asan_init" in text or b"__tsan_init" in text


class QmpError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('class')}: {error.get('desc')}")
        self.kind = error.get("class")
        self.desc = error.get("desc")


class Qmp:
    """One client. Events are kept, each with the time it was read."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.rest = b""
        self.events = []  # (monotonic time, event)
        self._message()
        self.call("qmp_capabilities")

    def close(self):
        self.socket.close()

    def _message(self):
        while b"\n" not in self.rest:
            data = self.socket.recv(65536)
            check(data, "the monitor closed the QMP connection")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def send(self, request, descriptor=None):
        text = json.dumps(request).encode() + b"\n"
        if descriptor is None:
            self.socket.sendall(text)
        else:
            rights = array.array("i", [descriptor])
            self.socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def answer(self):
        """The next answer, whole; the events before it are kept."""
        while True:
            message = self._message()
            if "event" not in message:
                return message
            self.events.append((time.monotonic(), message))

    def call(self, command, descriptor=None, **arguments):
        """What the command returns; QmpError if it is refused."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.send(request, descriptor)
        answer = self.answer()
        if "error" in answer:
            raise QmpError(answer["error"])
        return answer["return"]

    def wait_event(self, matches, what, since=0, timeout=60):
        """The first event from number @since on for which matches(event); returns (time, event)."""
        deadline = time.monotonic() + timeout
        seen = since
        while True:
            for moment, event in self.events[seen:]:
                if matches(event):
                    return moment, event
            seen = len(self.events)
            left = deadline - time.monotonic()
            names = [event.get("data", {}).get("status", event["event"]) for _, event in self.events[since:]]
            check(left > 0, f"waited {timeout} s in vain for {what}; there came {names}")
            self.socket.settimeout(left)
            try:
                message = self._message()
            except socket.timeout:
                continue
            finally:
                self.socket.settimeout(60)
            check("event" in message, f"an answer came unasked: {message}")
            self.events.append((time.monotonic(), message))


class Monitor:
    """A `ferry run`. Its output is the file @name.log in @place. @wrapper: a command that becomes it in the end."""

    def __init__(self, place, name, *options, ram="64M", pass_fds=(), environment=None, wrapper=()):
        self.name = name
        self.ram = ram
        self.log_path = place.file(name + ".log")
        self.qmp_path = place.file(name + ".qmp")
        self.log = open(self.log_path, "w")
        self.process = subprocess.Popen(
            [*wrapper, FERRY, "run", "--ram", ram, "--qmp", f"unix:{self.qmp_path}", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=pass_fds,
            env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        try:
            self.qmp = wait_for(self._connect, f"{name}'s QMP socket")
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end()

    def _connect(self):
        check(self.process.poll() is None, f"{self.name} exited early: {self.output()}")
        if not os.path.exists(self.qmp_path):
            return None
        try:
            return Qmp(self.qmp_path)
        except ConnectionRefusedError:
            return None

    def end(self):
        if hasattr(self, "qmp"):
            self.qmp.close()
        self.kill()
        self.log.close()

    def kill(self):
        """kill -9; it also ends a process that is stopped."""
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def output(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    # ---- what it is asked ----

    def call(self, command, **arguments):
        return self.qmp.call(command, **arguments)

    def run_state(self):
        return self.call("query-status")["status"]

    def running(self):
        return self.call("query-status")["running"]

    def migration(self):
        return self.call("query-migrate")

    def state(self):
        return self.migration().get("status", "none")

    def set(self, **parameters):
        self.call("migrate-set-parameters", **parameters)

    def capability(self, name, on):
        self.call("migrate-set-capabilities", capabilities=[{"capability": name, "state": on}])

    def guest_check(self):
        """The report; raises if anything is wrong with the guest."""
        report = self.call("guest-check")
        check(report["passed"] and not report["bad"] and not report["faults"],
              f"the guest at {self.name} is damaged: {report}")
        return report

    def mark(self):
        """A place in the events, for wait_state(since=)."""
        self.qmp.call("query-status")
        return len(self.qmp.events)

    def wait_state(self, *states, since=0, timeout=60):
        """Until an event says that the migration is in one of @states; returns (time, state)."""
        moment, event = self.qmp.wait_event(
            lambda event: event["event"] == "MIGRATION" and event["data"]["status"] in states,
            f"{self.name} to be {' or '.join(states)}", since, timeout)
        return moment, event["data"]["status"]

    def uri(self, nth=1):
        """Where it listens, as it said for the @nth time."""
        pattern = re.compile(r"^listening on (\S+)$", re.MULTILINE)
        found = wait_for(lambda: pattern.findall(self.output())[nth - 1:], f"{self.name} to listen")
        return found[0]

    # ---- what /proc says of it ----

    def status_kib(self, field):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise AssertionError(f"/proc/{self.pid}/status has no {field}")

    def descriptors(self):
        return sorted(os.listdir(f"/proc/{self.pid}/fd"), key=int)

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


class Place:
    """A directory for one case; the monitors started in it end with it."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="ferry-test-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.monitors = []
        return self

    def __exit__(self, kind, error, trace):
        for monitor in self.monitors:
            if kind and not issubclass(kind, Skip):
                for line in monitor.output().splitlines()[-12:]:
                    print(f"# {monitor.name}: {line}")
            monitor.end()
        shutil.rmtree(self.path)

    def file(self, name):
        return os.path.join(self.path, name)

    def monitor(self, name, *options, **more):
        monitor = Monitor(self, name, *options, **more)
        self.monitors.append(monitor)
        return monitor


class Migrate:
    """A `ferry migrate` at @source, in the background or to its end."""

    def __init__(self, source, uri, *options, pass_fds=()):
        self.process = subprocess.Popen(
            [FERRY, "migrate", "--qmp", f"unix:{source.qmp_path}", "--json", *options, uri],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds)

    def finish(self, timeout=60):
        """(exit status, the JSON object or None, stderr)"""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, json.loads(out) if out.strip() else None, err


def migrate(source, uri, *options, **more):
    return Migrate(source, uri, *options, **more).finish()


def check_arrived(source, destination, since):
    """The guest is whole, and its heartbeat went on where it was: neither back nor further than time did."""
    wait_for(destination.running, "the guest to run at the destination")
    check(not source.running(), "the guest runs at the source too")
    before = source.guest_check()["heartbeat"]
    after = destination.guest_check()["heartbeat"]
    most = before + (time.monotonic() - since) / HEARTBEAT_S + 2
    check(before <= after <= most, f"heartbeat {before} at the source, {after} at the destination")
    wait_for(lambda: destination.guest_check()["heartbeat"] > after, "the next heartbeat")


def ferry(*arguments):
    """(exit status, stdout, stderr)"""
    done = subprocess.run([FERRY, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def ctl(monitor, command, *arguments):
    """(exit status, answer, stderr)"""
    code, out, err = ferry("ctl", "--qmp", f"unix:{monitor.qmp_path}", command, *arguments)
    return code, json.loads(out) if out.strip() else None, err


def can_run(*options):
    """None if `ferry run` works with @options here, else why not."""
    with tempfile.TemporaryDirectory() as path:
        process = subprocess.Popen([FERRY, "run", "--ram", "16M", "--qmp", f"unix:{path}/qmp", *options],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            for line in process.stdout:
                if line.startswith("QMP on"):
                    return None
            process.wait()
            return f"ferry run {' '.join(options)} does not work here"
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
